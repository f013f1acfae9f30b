/*
 * On which NUMA nodes a range of a process's memory lies, as seen from
 * outside of it:
 *
 *     numapages maps PID START SIZE        by /proc/PID/numa_maps
 *     numapages pages PID START SIZE       page by page, by /proc/PID/pagemap
 *                                          and the nodes' physical addresses
 *     numapages move PID START SIZE NODE   moves it there, as another tool
 *                                          might
 *
 * maps and pages print for the shell "n0=BYTES n1=BYTES ... absent=BYTES";
 * maps also "policy=NAME", with a '+' between those of several mappings, and
 * wants mappings that lie in the range as a whole.  move prints "moved=BYTES
 * refused=BYTES absent=BYTES".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kernel-page-flags.h>
#include <linux/mempolicy.h>

#define PAGE 4096u
#define NODES 8
#define BATCH 512               /* pages asked for by one system call */

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_PFN ((1ull << 55) - 1)

typedef struct Range {
    int pid;
    uint64_t start, size;
} Range;

static uint64_t bytes_on[NODES];

static FILE *open_of(int pid, const char *name)
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    f = fopen(path, "r");
    if (!f) {
        err(1, "%s", path);
    }
    return f;
}

static void say_nodes(uint64_t size)
{
    for (int i = 0; i < NODES; i++) {
        printf("n%d=%" PRIu64 " ", i, bytes_on[i]);
        size -= bytes_on[i];
    }
    printf("absent=%" PRIu64, size);
}

/* By numa_maps */

/* Where the mapping ends that begins at `start`; maps is in the same order. */
static uint64_t end_of(FILE *maps, uint64_t start)
{
    char line[512];
    uint64_t from, to;

    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2 &&
            from == start) {
            return to;
        }
    }
    errx(2, "%#" PRIx64 " is in numa_maps, but not in maps", start);
}

/* Adds what a line of numa_maps says to bytes_on[]. */
static void add_line(char *words)
{
    uint64_t pages[NODES] = { 0 }, kib = PAGE / 1024;

    for (char *w = strtok(words, " \n"); w; w = strtok(NULL, " \n")) {
        unsigned node;
        uint64_t n;

        if (sscanf(w, "N%u=%" SCNu64, &node, &n) == 2 && node < NODES) {
            pages[node] = n;
        }
        sscanf(w, "kernelpagesize_kB=%" SCNu64, &kib);
    }
    for (int i = 0; i < NODES; i++) {
        bytes_on[i] += pages[i] * kib * 1024;
    }
}

/* `policies` has a '+' before and after each. */
static void add_policy(char *policies, size_t size, const char *name)
{
    char between[80];

    snprintf(between, sizeof(between), "+%s+", name);
    if (!strstr(policies, between) &&
        strlen(policies) + strlen(between) < size) {
        strcat(policies, between + 1);
    }
}

static void by_maps(const Range *r)
{
    FILE *numa = open_of(r->pid, "numa_maps"), *maps = open_of(r->pid, "maps");
    char policies[256] = "+";
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, numa) > 0) {
        uint64_t start, end;
        char policy[64];
        int words;

        if (sscanf(line, "%" SCNx64 " %63s%n", &start, policy, &words) != 2) {
            errx(2, "numa_maps: %s", line);
        }
        /* One policy's name is two words: "prefer (many):0-1". */
        if (!strncmp(line + words, " (many)", 7)) {
            sscanf(line + words, " %55s", policy + strlen(policy));
            words += 1 + strcspn(line + words + 1, " \n");
        }
        end = end_of(maps, start);
        if (end <= r->start || start >= r->start + r->size) {
            continue;
        }
        if (start < r->start || end > r->start + r->size) {
            errx(2, "the mapping %" PRIx64 "-%" PRIx64 " is not as a whole in "
                 "the range", start, end);
        }
        add_policy(policies, sizeof(policies), policy);
        add_line(line + words);
    }
    if (!policies[1]) {
        errx(2, "nothing is mapped there");
    }
    say_nodes(r->size);
    printf(" policy='%.*s'\n", (int)strlen(policies) - 2, policies + 1);
}

/* By physical address */

static uint64_t block_bytes;
static int8_t *node_of_block;
static uint64_t nr_blocks;

static void add_block(uint64_t block, int node)
{
    if (block >= nr_blocks) {
        node_of_block = realloc(node_of_block, block + 1);
        memset(node_of_block + nr_blocks, -1, block + 1 - nr_blocks);
        nr_blocks = block + 1;
    }
    if (node_of_block[block] >= 0) {
        errx(2, "memory%" PRIu64 " is of two nodes", block);
    }
    node_of_block[block] = node;
}

static void read_nodes(void)
{
    FILE *f = fopen("/sys/devices/system/memory/block_size_bytes", "r");

    if (!f || fscanf(f, "%" SCNx64, &block_bytes) != 1) {
        err(1, "block_size_bytes");
    }
    fclose(f);
    for (int node = 0; node < NODES; node++) {
        struct dirent *entry;
        char path[64];
        uint64_t block;
        DIR *dir;

        snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
        dir = opendir(path);
        while (dir && (entry = readdir(dir))) {
            if (sscanf(entry->d_name, "memory%" SCNu64, &block) == 1) {
                add_block(block, node);
            }
        }
        if (dir) {
            closedir(dir);
        }
    }
}

static bool is_zero_page(int flags_fd, uint64_t pfn)
{
    uint64_t flags;

    if (pread(flags_fd, &flags, sizeof(flags), pfn * sizeof(flags)) !=
        sizeof(flags)) {
        err(1, "kpageflags");
    }
    return flags & (1ull << KPF_ZERO_PAGE);
}

static void by_pages(const Range *r)
{
    FILE *map = open_of(r->pid, "pagemap");
    int flags_fd = open("/proc/kpageflags", O_RDONLY);

    read_nodes();
    if (flags_fd < 0 || fseek(map, r->start / PAGE * sizeof(uint64_t),
                              SEEK_SET)) {
        err(1, "pagemap");
    }
    for (uint64_t i = 0; i < r->size / PAGE; i++) {
        uint64_t entry, block;

        if (fread(&entry, sizeof(entry), 1, map) != 1) {
            err(1, "pagemap");
        }
        if (!(entry & PAGEMAP_PRESENT) ||
            is_zero_page(flags_fd, entry & PAGEMAP_PFN)) {
            continue;
        }
        block = (entry & PAGEMAP_PFN) * PAGE / block_bytes;
        if (block >= nr_blocks || node_of_block[block] < 0) {
            errx(2, "page frame %#llx is of no node", entry & PAGEMAP_PFN);
        }
        bytes_on[node_of_block[block]] += PAGE;
    }
    say_nodes(r->size);
    printf("\n");
}

/* Moves */

static void move_to(const Range *r, int node)
{
    uint64_t moved = 0, refused = 0, absent = 0;

    for (uint64_t at = 0; at < r->size; at += BATCH * PAGE) {
        uint64_t n = (r->size - at) / PAGE;
        int nodes[BATCH], status[BATCH];
        void *pages[BATCH];

        n = n < BATCH ? n : BATCH;
        for (uint64_t i = 0; i < n; i++) {
            pages[i] = (void *)(uintptr_t)(r->start + at + i * PAGE);
            nodes[i] = node;
        }
        if (syscall(SYS_move_pages, r->pid, n, pages, nodes, status,
                    MPOL_MF_MOVE_ALL) < 0 ||
            /* Of what was refused the first call may say anything. */
            syscall(SYS_move_pages, r->pid, n, pages, NULL, status, 0)) {
            err(1, "move_pages");
        }
        for (uint64_t i = 0; i < n; i++) {
            *(status[i] == node ? &moved : status[i] < 0 ? &absent :
              &refused) += PAGE;
        }
    }
    printf("moved=%" PRIu64 " refused=%" PRIu64 " absent=%" PRIu64 "\n",
           moved, refused, absent);
}

int main(int argc, char **argv)
{
    bool move = argc == 6 && !strcmp(argv[1], "move");
    bool maps = argc == 5 && !strcmp(argv[1], "maps");
    bool pages = argc == 5 && !strcmp(argv[1], "pages");
    Range r;

    if (!move && !maps && !pages) {
        errx(64, "usage: numapages maps|pages PID START SIZE | "
             "numapages move PID START SIZE NODE");
    }
    r.pid = atoi(argv[2]);
    r.start = strtoull(argv[3], NULL, 0);
    r.size = strtoull(argv[4], NULL, 0);
    if (r.start % PAGE || r.size % PAGE || !r.size) {
        errx(64, "START and SIZE must be whole pages");
    }
    if (move) {
        move_to(&r, atoi(argv[5]));
    } else if (maps) {
        by_maps(&r);
    } else {
        by_pages(&r);
    }
    return 0;
}
