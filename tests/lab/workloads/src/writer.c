/*
 * A buffer that is written in one of two ways: lines of a hot set of pages
 * that lie all over it and that changes now and then, or lines anywhere.
 *
 *   writer fill FILE MB
 *   writer run FILE OPS HOT MOVES COLD LINES SEED
 *   writer verify FILE
 *
 * One operation writes LINES cache lines of one page: in COLD of 100 cases of
 * any page, else of one of HOT pages, which are chosen anew MOVES times, at
 * equal distances.  HOT=0: always of any page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "lines.h"

static void run(Buffer *b, uint64_t ops, uint32_t nr_hot, uint64_t moves,
                uint64_t cold, uint64_t lines)
{
    uint32_t *page = malloc(b->nr_pages * sizeof(*page));
    uint64_t epoch = ops / (moves + 1) + 1;

    for (uint32_t i = 0; i < b->nr_pages; i++) {
        page[i] = i;
    }
    for (uint64_t op = 1; op <= ops; op++) {
        uint64_t at, line;

        if (nr_hot && op % epoch == 1) {
            choose_hot(page, b->nr_pages, nr_hot);
        }
        at = nr_hot && random_below(100) >= cold ? page[random_below(nr_hot)]
                                                 : random_below(b->nr_pages);
        line = random_below(LINES_PER_PAGE);
        for (uint64_t i = 0; i < lines; i++) {
            write_line(b, at * LINES_PER_PAGE + (line + i) % LINES_PER_PAGE,
                       op);
        }
    }
    printf("ops=%" PRIu64 "\n", ops);
}

static void verify(const Buffer *b)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < b->nr_lines; i++) {
        if (!line_is_right(b, i)) {
            errx(1, "line %" PRIu64 " is wrong", i);
        }
        sum += guest_mix(b->line[i].word[1]);
    }
    printf("checksum=%016" PRIx64 "\n", sum);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";
    uint64_t number[7] = { 0 };
    Buffer b;

    for (int i = 3; i < argc && i < 10; i++) {
        number[i - 3] = strtoull(argv[i], NULL, 0);
    }
    b = open_buffer(argv[2], strcmp(verb, "fill") ? 0 : number[0] * MiB);
    if (!strcmp(verb, "fill")) {
        for (uint64_t i = 0; i < b.nr_lines; i++) {
            write_line(&b, i, 0);
        }
    } else if (!strcmp(verb, "run") && number[1] <= b.nr_pages &&
               number[4] <= LINES_PER_PAGE) {
        random_state = number[5] << 32;
        run(&b, number[0], number[1], number[2], number[3], number[4]);
    } else if (!strcmp(verb, "verify")) {
        verify(&b);
    } else {
        errx(1, "usage: see writer.c");
    }
    return 0;
}
