/*
 * Takes the free memory of a NUMA node:
 *
 *     fillnode NODE [LEAVE]
 *
 * all that may be had without reclaim, or all but LEAVE bytes.  Prints
 * "filled BYTES" and waits to be killed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/mempolicy.h>

#define PAGE 4096u
#define STEP (64u * PAGE)

/* A line "Node N NAME: KiB kB" of the node's meminfo, in bytes. */
static uint64_t meminfo(int node, const char *name)
{
    char path[64], format[64], line[128];
    uint64_t kib;
    FILE *f;

    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo",
             node);
    snprintf(format, sizeof(format), " Node %%*d %s: %%lu", name);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, format, &kib) == 1) {
            fclose(f);
            return kib * 1024;
        }
    }
    err(1, "%s: %s", path, name);
}

static int node_of(void *page)
{
    int status = -1;

    if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &status, 0)) {
        err(1, "move_pages");
    }
    return status;
}

/* Touches pages of `at` while they come from `node`; how many bytes did. */
static uint64_t take(char *at, uint64_t size, int node)
{
    uint64_t done;

    for (done = 0; done < size; done += PAGE) {
        at[done] = 1;
        if (node_of(at + done) != node) {
            madvise(at + done, PAGE, MADV_DONTNEED);
            break;
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    int node = argc > 1 ? atoi(argv[1]) : -1;
    uint64_t leave = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
    unsigned long mask = 1ul << node;
    uint64_t size, filled = 0, n;
    char *memory;

    if (argc < 2 || argc > 3 || node < 0) {
        errx(64, "usage: fillnode NODE [LEAVE]");
    }
    size = meminfo(node, "MemTotal");
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    /*
     * Preferred, not bound: behind the last page the kernel goes elsewhere,
     * where it would else call the OOM killer.
     */
    if (memory == MAP_FAILED || madvise(memory, size, MADV_NOHUGEPAGE) ||
        syscall(SYS_mbind, memory, size, MPOL_PREFERRED, &mask,
                8 * sizeof(mask), 0)) {
        err(1, "mmap");
    }
    do {
        n = meminfo(node, "MemFree") > leave + STEP ?
            take(memory + filled, STEP, node) : 0;
        filled += n;
    } while (n == STEP && filled + STEP <= size);
    printf("filled %lu\n", (unsigned long)filled);
    fflush(stdout);
    for (;;) {
        pause();
    }
}
