/*
 * A buffer of lines, each of which can be checked by itself: it holds its
 * operation's number and what follows from that and from its place.  The
 * buffer is a file in tmpfs, so that it outlives the process.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LAB_WORKLOADS_LINES_H
#define LAB_WORKLOADS_LINES_H

#include "guest.h"
#include <err.h>

#define WORDS_PER_LINE 8
#define LINES_PER_PAGE 64

typedef struct Line {
    uint64_t word[WORDS_PER_LINE];
} Line;

typedef struct Buffer {
    Line *line;
    uint64_t nr_lines, nr_pages;
} Buffer;

static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
    return ((guest_mix(random_state++) >> 32) * limit) >> 32;
}

static Buffer open_buffer(const char *path, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    struct stat st;
    Buffer b;

    if (fd < 0 || (bytes && ftruncate(fd, bytes)) || fstat(fd, &st)) {
        err(1, "%s", path);
    }
    b.line = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_POPULATE, fd, 0);
    if (b.line == MAP_FAILED) {
        err(1, "mmap %s", path);
    }
    b.nr_lines = st.st_size / sizeof(Line);
    b.nr_pages = b.nr_lines / LINES_PER_PAGE;
    return b;
}

__attribute__((unused))
static void write_line(Buffer *b, uint64_t index, uint64_t op)
{
    uint64_t value = guest_mix(op ^ (index << 40));
    Line *line = &b->line[index];

    line->word[0] = op;
    for (int i = 1; i < WORDS_PER_LINE; i++) {
        line->word[i] = value + i;
    }
}

__attribute__((unused))
static bool line_is_right(const Buffer *b, uint64_t index)
{
    const Line *line = &b->line[index];
    uint64_t value = guest_mix(line->word[0] ^ (index << 40));

    for (int i = 1; i < WORDS_PER_LINE; i++) {
        if (line->word[i] != value + i) {
            return false;
        }
    }
    return true;
}

/* Distinct pages: the first nr_hot of a shuffle of all. */
__attribute__((unused))
static void choose_hot(uint32_t *page, uint32_t nr_pages, uint32_t nr_hot)
{
    for (uint32_t i = 0; i < nr_hot; i++) {
        uint32_t other = i + random_below(nr_pages - i);
        uint32_t old = page[i];

        page[i] = page[other];
        page[other] = old;
    }
}

#endif
