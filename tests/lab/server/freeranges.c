/*
 * Ranges of physical memory that programs have for data, or can get:
 *
 *     freeranges KPAGEFLAGS START SIZE GAP
 *
 * Prints "START END" for each range between START and START + SIZE whose pages
 * are anonymous or free by the file KPAGEFLAGS (/proc/kpageflags); up to GAP
 * pages of others between them belong to it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <linux/kernel-page-flags.h>

#define PAGE 4096u
#define BATCH 4096

static bool is_data(uint64_t flags)
{
    bool huge = flags & (1ull << KPF_HUGE);

    return !huge && flags & (1ull << KPF_ANON | 1ull << KPF_BUDDY);
}

/* The range that is open: pages from @first up to @end. */
typedef struct Range {
    uint64_t first, end;
} Range;

static void tell(const Range *r)
{
    if (r->end > r->first) {
        printf("%" PRIu64 " %" PRIu64 "\n", r->first * PAGE, r->end * PAGE);
    }
}

static void add(Range *r, uint64_t page, uint64_t gap)
{
    if (r->end == r->first || page - r->end > gap) {
        tell(r);
        r->first = page;
    }
    r->end = page + 1;
}

int main(int argc, char **argv)
{
    static uint64_t flags[BATCH];
    Range range = { 0, 0 };
    uint64_t page, end, gap;
    int fd;

    if (argc != 5) {
        fputs("usage: freeranges KPAGEFLAGS START SIZE GAP\n", stderr);
        return 64;
    }
    fd = open(argv[1], O_RDONLY);
    if (fd < 0) {
        err(1, "%s", argv[1]);
    }
    page = strtoull(argv[2], NULL, 0) / PAGE;
    end = page + strtoull(argv[3], NULL, 0) / PAGE;
    gap = strtoull(argv[4], NULL, 0);
    while (page < end) {
        uint64_t want = end - page < BATCH ? end - page : BATCH;
        ssize_t got = pread(fd, flags, want * sizeof(*flags),
                            page * sizeof(*flags));

        if (got <= 0) {
            break;                      /* there is no such memory */
        }
        for (uint64_t i = 0; i < got / sizeof(*flags); i++) {
            if (is_data(flags[i])) {
                add(&range, page + i, gap);
            }
        }
        page += got / sizeof(*flags);
    }
    tell(&range);
    return 0;
}
