/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a swap of two pages must cost at least: 2 x 4 KiB copied, and two
 * mmap() calls that give each address the other's page of a memfd.
 *
 *   swap-cost MEGABYTES SWAPS     prints the median and the mean time of a
 *                                 swap, in nanoseconds
 *
 * As in QEMU, one eighth of the memory is one file, the rest another, and
 * each swap takes a random page of each.  All pages are present and mapped
 * before, so that neither copies nor mappings fault.  The median knows
 * nothing of a loaded host; the mean, over as many swaps as a batch has, is
 * interrupted as a batch is.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul

struct side {
    int fd;
    uint8_t *host;
    size_t pages;
    uint32_t *order;            /* page n of the shuffled order */
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void map_page(void *at, int fd, size_t page)
{
    if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             page * PAGE) == MAP_FAILED) {
        die("mmap");
    }
}

static void shuffle(uint32_t *order, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        size_t j = random() % (i + 1);

        order[i] = order[j];
        order[j] = i;
    }
}

static void open_side(struct side *s, uint8_t *host, size_t pages)
{
    s->host = host;
    s->pages = pages;
    s->fd = memfd_create("swap-cost", MFD_CLOEXEC);
    s->order = malloc(pages * sizeof(*s->order));
    if (s->fd < 0 || ftruncate(s->fd, pages * PAGE) || !s->order ||
        mmap(host, pages * PAGE, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, s->fd, 0) == MAP_FAILED) {
        die("memory");
    }
    memset(host, 1, pages * PAGE);
    shuffle(s->order, pages);
}

/* To save the first page is a third copy, which is not asked for. */
static uint64_t swap(struct side *a, struct side *b, size_t n)
{
    size_t pa = a->order[n], pb = b->order[n];
    uint8_t *ha = a->host + pa * PAGE, *hb = b->host + pb * PAGE;

    uint64_t start = now_ns();

    memcpy(ha, hb, PAGE);
    memcpy(hb, b->host + b->order[n + 1] * PAGE, PAGE);
    map_page(ha, b->fd, pb);
    map_page(hb, a->fd, pa);
    return now_ns() - start;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    size_t pages, swaps, i;
    struct side a, b;
    uint64_t *took, total = 0;
    uint8_t *host;

    if (argc != 3) {
        fprintf(stderr, "usage: swap-cost MEGABYTES SWAPS\n");
        return 2;
    }
    pages = atol(argv[1]) * 256;
    swaps = atol(argv[2]);
    if (pages < 16 || !swaps || swaps > pages / 8) {
        fprintf(stderr, "swap-cost: at most one swap per page of the small"
                " side\n");
        return 2;
    }
    took = malloc(swaps * sizeof(*took));
    host = mmap(NULL, pages * PAGE, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!took || host == MAP_FAILED) {
        die("memory");
    }
    open_side(&a, host, pages / 8);
    open_side(&b, host + pages / 8 * PAGE, pages - pages / 8);
    for (i = 0; i < swaps; i++) {
        took[i] = swap(&a, &b, i);
        total += took[i];
    }
    qsort(took, swaps, sizeof(*took), compare);
    printf("%llu %llu\n", (unsigned long long)took[swaps / 2],
           (unsigned long long)(total / swaps));
    return 0;
}
