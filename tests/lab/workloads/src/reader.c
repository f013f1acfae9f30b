/*
 * Reads lines of a buffer that writer has filled:
 *
 *   reader FILE OPS LINES SEED
 *
 * One operation reads and checks LINES cache lines of one page, any of them
 * equally often.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "lines.h"

static void read_lines(const Buffer *b, uint64_t lines)
{
    uint64_t page = random_below(b->nr_pages) * LINES_PER_PAGE;
    uint64_t line = random_below(LINES_PER_PAGE);

    for (uint64_t i = 0; i < lines; i++) {
        uint64_t index = page + (line + i) % LINES_PER_PAGE;

        if (!line_is_right(b, index)) {
            errx(1, "line %" PRIu64 " is wrong", index);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t number[3] = { 0 };
    Buffer b;

    for (int i = 2; i < argc && i < 5; i++) {
        number[i - 2] = strtoull(argv[i], NULL, 0);
    }
    if (argc != 5 || number[1] > LINES_PER_PAGE) {
        errx(1, "usage: see reader.c");
    }
    b = open_buffer(argv[1], 0);
    random_state = number[2] << 32;
    for (uint64_t op = 0; op < number[0]; op++) {
        read_lines(&b, number[1]);
    }
    printf("ops=%" PRIu64 "\n", number[0]);
    return 0;
}
