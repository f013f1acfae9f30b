/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drop and look.
 */
#include "qemu/osdep.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "hw/hybridmem/access-sampler.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

#define PRESENT (1ULL << 63)    /* in an entry of pagemap */
#define LOOK 1024               /* entries read at once */
#define FAULT_AROUND (64 * KiB) /* fault_around_bytes */

struct HmAccessSampler {
    uint8_t *host;
    uint64_t size, page_size, pages;
    uint32_t pages_per_block;
    int pagemap;
    unsigned long *doubtful;    /* dropped; a read may set its bit in the log */
    bool restore;               /* in this window: map again what was */
    unsigned long *mapped;      /* before the drop, if @restore */
    QemuMutex lock;
    int uffd;                   /* guarded by @lock; -1: none */
    bool fine;                  /* guarded by @lock: have one */
};

/* --- what the mapping is ---------------------------------------------- */

typedef struct Mapping {
    uint64_t start, end;
    bool shared;
    const char *path;           /* within the line; "" without a name */
} Mapping;

static bool parse_mapping(char *line, Mapping *m)
{
    char flags[8] = "";
    int path = 0;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %n", &m->start,
               &m->end, flags, &path) < 3) {
        return false;
    }
    m->shared = flags[3] == 's';
    m->path = path ? g_strstrip(line + path) : "";
    return true;
}

/*
 * NULL if all of [host, host + size) is mapped and shared with files whose
 * pages have entries of their own, else the reason.
 */
static const char *why_not(const uint8_t *host, uint64_t size)
{
    uint64_t at = (uintptr_t)host, end = at + size;
    g_autofree char *line = NULL;
    size_t room = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    const char *why = maps ? NULL : "/proc/self/maps cannot be read";

    while (!why && at < end && getline(&line, &room, maps) > 0) {
        Mapping m;

        if (!parse_mapping(line, &m) || m.end <= at) {
            continue;
        }
        if (m.start > at) {
            break;
        }
        if (!m.shared) {
            why = "the memory is private: use share=on";
        } else if (g_str_equal(m.path, "/dev/mem")) {
            why = "/dev/mem has no pages of its own";
        }
        at = m.end;
    }
    if (maps) {
        fclose(maps);
    }
    return why ?: at < end ? "the memory is not mapped" : NULL;
}

/*
 * The only place that drops anything.  The caller has had why_not() say, in
 * this window, that the range is shared.
 */
static bool drop(HmAccessSampler *s, uint64_t page, uint64_t n)
{
    return !madvise(s->host + page * s->page_size, n * s->page_size,
                    MADV_DONTNEED);
}

/* --- page by page -------------------------------------------------------- */

static int open_userfaultfd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

    if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) ||
                    !(api.features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Mappings made since the last time are not in yet: so again each time. */
static bool take_range(HmAccessSampler *s, int fd)
{
    struct uffdio_register reg = {
        .range = { (uintptr_t)s->host, s->size },
        .mode = UFFDIO_REGISTER_MODE_WP,
    };

    return !ioctl(fd, UFFDIO_REGISTER, &reg);
}

/* Closing it lets go of all ranges. */
static void let_go(HmAccessSampler *s)
{
    if (s->uffd >= 0) {
        close(s->uffd);
        s->uffd = -1;
    }
}

static void stop_fault_around(HmAccessSampler *s)
{
    if (!s->fine) {
        return;
    }
    if (s->uffd < 0) {
        s->uffd = open_userfaultfd();
    }
    if (s->uffd >= 0 && !take_range(s, s->uffd)) {
        let_go(s);
    }
}

void hm_access_sampler_fine(HmAccessSampler *s, bool fine)
{
    qemu_mutex_lock(&s->lock);
    s->fine = fine;
    if (!fine) {
        let_go(s);
    }
    qemu_mutex_unlock(&s->lock);
}

uint64_t hm_access_sampler_granule(const HmAccessSampler *s)
{
    HmAccessSampler *sampler = (HmAccessSampler *)s;
    bool fine;

    qemu_mutex_lock(&sampler->lock);
    fine = sampler->uffd >= 0;
    qemu_mutex_unlock(&sampler->lock);
    return fine ? s->page_size : MAX(s->page_size, FAULT_AROUND);
}

/* --- windows ------------------------------------------------------------- */

/* A run of watched blocks, in pages. */
typedef struct Run {
    uint64_t first, n;
} Run;

static Run next_run(const HmAccessSampler *s, const uint32_t *block, size_t n,
                    size_t *i)
{
    uint64_t first = (uint64_t)block[*i] * s->pages_per_block;
    size_t end = *i + 1;

    while (end < n && block[end] == block[end - 1] + 1) {
        end++;
    }
    *i = end;
    return (Run) {
        first,
        MIN(((uint64_t)block[end - 1] + 1) * s->pages_per_block, s->pages) -
        first,
    };
}

/* Sets the bits of the pages of @run that are in QEMU's page table. */
static void look(const HmAccessSampler *s, Run run, unsigned long *present)
{
    uint64_t at = (uintptr_t)s->host / s->page_size + run.first;
    uint64_t entry[LOOK];

    for (uint64_t done = 0; done < run.n; done += LOOK) {
        size_t want = MIN(LOOK, run.n - done) * sizeof(*entry);
        ssize_t got = pread(s->pagemap, entry, want,
                            (at + done) * sizeof(*entry));

        for (size_t i = 0; got > 0 && i < got / sizeof(*entry); i++) {
            if (entry[i] & PRESENT) {
                set_bit(run.first + done + i, present);
            }
        }
    }
}

/* No other pages: a hole of the file would be filled. */
static void map_again(HmAccessSampler *s, Run run)
{
    uint64_t end = run.first + run.n, to;

    for (uint64_t at = find_next_bit(s->mapped, end, run.first); at < end;
         at = find_next_bit(s->mapped, end, to)) {
        to = find_next_zero_bit(s->mapped, end, at);
        /* What does not come is absent until it is used. */
        (void)madvise(s->host + at * s->page_size, (to - at) * s->page_size,
                      MADV_POPULATE_READ);
    }
}

static bool drop_run(HmAccessSampler *s, Run run)
{
    if (s->restore) {
        bitmap_clear(s->mapped, run.first, run.n);
        look(s, run, s->mapped);
    }
    /* Also where it fails: of several mappings the first may be dropped. */
    bitmap_set(s->doubtful, run.first, run.n);
    return drop(s, run.first, run.n);
}

/* After all is seen: it may map neighbours, too. */
static void restore_blocks(HmAccessSampler *s, const uint32_t *block, size_t n)
{
    for (size_t i = 0; s->restore && i < n;) {
        map_again(s, next_run(s, block, n, &i));
    }
}

bool hm_access_sampler_start(HmAccessSampler *s, const uint32_t *block,
                             size_t n, bool restore, const char **why)
{
    size_t i = 0;

    *why = why_not(s->host, s->size);
    if (*why) {
        return false;
    }
    qemu_mutex_lock(&s->lock);
    stop_fault_around(s);
    qemu_mutex_unlock(&s->lock);
    s->restore = restore;
    while (i < n) {
        if (!drop_run(s, next_run(s, block, n, &i))) {
            restore_blocks(s, block, i);
            *why = "the kernel does not drop its pages (mem-lock=on, or huge"
                   " pages before Linux 5.18)";
            return false;
        }
    }
    return true;
}

void hm_access_sampler_read(HmAccessSampler *s, const uint32_t *block,
                            size_t n, bool logged, unsigned long *seen)
{
    for (size_t i = 0; i < n;) {
        Run run = next_run(s, block, n, &i);

        look(s, run, seen);
        for (uint64_t p = run.first; !logged && p < run.first + run.n; p++) {
            if (test_bit(p, seen)) {
                clear_bit(p, s->doubtful);
            }
        }
    }
    restore_blocks(s, block, n);
}

void hm_access_sampler_doubt(HmAccessSampler *s, unsigned long *dirty)
{
    for (uint64_t i = 0; i < BITS_TO_LONGS(s->pages); i++) {
        unsigned long both = dirty[i] & s->doubtful[i];

        dirty[i] &= ~both;
        s->doubtful[i] &= ~both;
    }
}

/* --- life ---------------------------------------------------------------- */

HmAccessSampler *hm_access_sampler_new(void *host, uint64_t size,
                                       uint64_t page_size,
                                       uint32_t pages_per_block,
                                       const char **why)
{
    HmAccessSampler *s;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    *why = why_not(host, size);
    if (!*why && pagemap < 0) {
        *why = "/proc/self/pagemap cannot be read";
    }
    if (!*why && page_size != qemu_real_host_page_size()) {
        *why = "the guest's pages are not of the host's size";
    }
    if (*why) {
        if (pagemap >= 0) {
            close(pagemap);
        }
        return NULL;
    }
    s = g_new0(HmAccessSampler, 1);
    s->host = host;
    s->size = size;
    s->page_size = page_size;
    s->pages = size / page_size;
    s->pages_per_block = pages_per_block;
    s->pagemap = pagemap;
    s->doubtful = bitmap_new(s->pages);
    s->mapped = bitmap_new(s->pages);
    s->uffd = -1;
    s->fine = true;
    qemu_mutex_init(&s->lock);
    return s;
}

void hm_access_sampler_free(HmAccessSampler *s)
{
    if (!s) {
        return;
    }
    let_go(s);
    close(s->pagemap);
    qemu_mutex_destroy(&s->lock);
    g_free(s->doubtful);
    g_free(s->mapped);
    g_free(s);
}
