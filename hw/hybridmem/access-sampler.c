/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drop and look; or unmap and log.
 */
#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "hw/hybridmem/access-sampler.h"
#include "hw/hybridmem/access-uffd.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define CANNOT_DROP "the kernel does not drop its pages: do without" \
                    " mem-lock=on; huge pages need Linux 5.18"

/* The page of an entry of pagemap is there, a file's, of this entry alone. */
#define PRESENT (1ULL << 63)
#define OF_FILE (1ULL << 61)
#define EXCLUSIVE (1ULL << 56)
#define LOOK 512                /* entries read at once */
/* At once: vCPUs that touch it meanwhile wait, some 0.3 ms. */
#define SLICE (8 * MiB)

static const char is_private[] =
    "the memory is private, where KVM on x86 alone shows accesses: use"
    " share=on";
static const char no_userfaultfd[] =
    "accesses are seen here with a userfaultfd, and there is none, or a"
    " migration has it: Linux 5.19 is needed, or, if not that, share=on";

struct HmAccessSampler {
    bool by_log;                /* nothing is dropped */
    bool shared;
    uint8_t *host;
    uint64_t size, page_size, pages;
    uint64_t host_page;         /* bytes */
    uint32_t pages_per_block;
    int pagemap;
    bool vouched;               /* what is mapped later is shared, too */
    unsigned long *doubtful;    /* a read may set its bit in the log */
    bool restore;               /* in this window: map again what was */
    unsigned long *mapped;      /* before the drop; or, if @by_log, its own */
    HmAccessUffd *uffd;
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
            why = is_private;
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
 * this window or before somebody vouched for the rest, that all is shared.
 */
static bool drop(HmAccessSampler *s, uint64_t page, uint64_t n)
{
    uint64_t slice = MAX(SLICE / s->page_size, s->pages_per_block);

    for (; n; page += MIN(n, slice), n -= MIN(n, slice)) {
        if (madvise(s->host + page * s->page_size,
                    MIN(n, slice) * s->page_size, MADV_DONTNEED)) {
            return false;
        }
    }
    return true;
}

/* --- watched blocks ------------------------------------------------------ */

/* A run of blocks, in pages. */
typedef struct Run {
    uint64_t first, n;
} Run;

/* From block[*i] on; moves *i behind it. */
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

/* --- page by page -------------------------------------------------------- */

static bool knows_neighbours(const HmAccessSampler *s)
{
    return s->host_page < HM_FAULT_AROUND;
}

static void begin_window(HmAccessSampler *s)
{
    if (s->by_log || knows_neighbours(s)) {
        hm_access_uffd_begin(s->uffd);
    }
}

static bool was_fine(const HmAccessSampler *s)
{
    return !knows_neighbours(s) || hm_access_uffd_held(s->uffd);
}

void hm_access_sampler_mapped(HmAccessSampler *s, uint64_t offset,
                              uint64_t len)
{
    hm_access_uffd_mapped(s->uffd, offset, len);
}

void hm_access_sampler_release(HmAccessSampler *s)
{
    hm_access_uffd_release(s->uffd);
}

void hm_access_sampler_yield(HmAccessSampler *s)
{
    hm_access_uffd_yield(s->uffd);
}

void hm_access_sampler_fine(HmAccessSampler *s, bool fine)
{
    hm_access_uffd_allow(s->uffd, fine);
}

uint64_t hm_access_sampler_granule(const HmAccessSampler *s)
{
    return s->by_log ? s->page_size :
           was_fine(s) ? s->host_page : MAX(s->host_page, HM_FAULT_AROUND);
}

/* --- windows ------------------------------------------------------------- */

/* Sets the bits of the pages of @run of whose @flags just @set are set. */
static void look_for(const HmAccessSampler *s, Run run, uint64_t flags,
                     uint64_t set, unsigned long *which)
{
    uint64_t at = (uintptr_t)s->host / s->page_size + run.first;
    uint64_t entry[LOOK];

    for (uint64_t done = 0; done < run.n; done += LOOK) {
        size_t want = MIN(LOOK, run.n - done) * sizeof(*entry);
        ssize_t got = pread(s->pagemap, entry, want,
                            (at + done) * sizeof(*entry));

        for (size_t i = 0; got > 0 && i < got / sizeof(*entry); i++) {
            if ((entry[i] & flags) == set) {
                set_bit(run.first + done + i, which);
            }
        }
    }
}

/* Those that are in QEMU's page table. */
static void look(const HmAccessSampler *s, Run run, unsigned long *present)
{
    look_for(s, run, PRESENT, PRESENT, present);
}

/* As many blocks, from *i on, as one read of LOOK aligned entries knows. */
static Run next_group(const HmAccessSampler *s, const uint32_t *block,
                      size_t n, size_t *i)
{
    uint64_t base = (uintptr_t)s->host / s->page_size;
    uint64_t first = (uint64_t)block[*i] * s->pages_per_block;
    uint64_t limit = QEMU_ALIGN_UP(base + first + 1, LOOK) - base, end;

    do {
        end = ((uint64_t)block[(*i)++] + 1) * s->pages_per_block;
    } while (*i < n &&
             ((uint64_t)block[*i] + 1) * s->pages_per_block <= limit);
    return (Run) { first, MIN(end, s->pages) - first };
}

/*
 * Of blocks that are scattered, many at once: before Linux 6.7 a read of one
 * entry goes through all that follow in the same 2 MiB.
 */
static void look_at(const HmAccessSampler *s, const uint32_t *block, size_t n,
                    unsigned long *present)
{
    g_autofree unsigned long *there = bitmap_new(s->pages);

    for (size_t i = 0; i < n;) {
        look(s, next_group(s, block, n, &i), there);
    }
    for (size_t i = 0; i < n;) {
        Run run = next_run(s, block, n, &i);

        for (uint64_t p = run.first; p < run.first + run.n; p++) {
            if (test_bit(p, there)) {
                set_bit(p, present);
            }
        }
    }
}

/* Where one page cannot be had, the others behind it can. */
static void populate(HmAccessSampler *s, uint64_t page, uint64_t n, int how)
{
    uint8_t *at = s->host + page * s->page_size;

    if (madvise(at, n * s->page_size, how) == 0) {
        return;
    }
    for (uint64_t i = 0; n > 1 && i < n; i++) {
        (void)madvise(at + i * s->page_size, s->page_size, how);
    }
}

/* What of @run is in @mapped. */
static void populate_mapped(HmAccessSampler *s, Run run, int how)
{
    uint64_t end = run.first + run.n, to;

    for (uint64_t at = find_next_bit(s->mapped, end, run.first); at < end;
         at = find_next_bit(s->mapped, end, to)) {
        to = find_next_zero_bit(s->mapped, end, at);
        populate(s, at, to - at, how);
    }
}

/* What was mapped and has been given back since, is a hole of the file. */
static void forget_holes(HmAccessSampler *s, Run run)
{
    unsigned char there[LOOK];

    for (uint64_t done = 0; done < run.n; done += LOOK) {
        uint64_t first = run.first + done, n = MIN(LOOK, run.n - done);

        if (mincore(s->host + first * s->page_size, n * s->page_size,
                    there)) {
            bitmap_clear(s->mapped, first, n);
            continue;
        }
        for (uint64_t i = 0; i < n; i++) {
            if (!(there[i] & 1)) {
                clear_bit(first + i, s->mapped);
            }
        }
    }
}

/*
 * No other pages: a hole of the file would be filled.  Of hugetlb mincore()
 * knows page tables only, so there that happens to what a device gives back in
 * a window.
 */
static void map_again(HmAccessSampler *s, Run run)
{
    if (s->host_page == s->page_size) {
        forget_holes(s, run);
    }
    populate_mapped(s, run, MADV_POPULATE_READ);
}

/* From those that are in QEMU's page table. */
static void lift_doubt(HmAccessSampler *s, Run run)
{
    g_autofree unsigned long *present = bitmap_new(s->pages);

    look(s, run, present);
    for (uint64_t p = run.first; p < run.first + run.n; p++) {
        if (test_bit(p, present)) {
            clear_bit(p, s->doubtful);
        }
    }
}

static bool drop_run(HmAccessSampler *s, Run run)
{
    bitmap_set(s->doubtful, run.first, run.n);
    if (drop(s, run.first, run.n)) {
        return true;
    }
    /* Of several mappings the first may be dropped. */
    lift_doubt(s, run);
    return false;
}

/* --- unmap and log ------------------------------------------------------- */

/* Before Linux 6.5 it must be one mapping; they end where blocks do. */
static bool unmap(HmAccessSampler *s, uint64_t page, uint64_t n)
{
    uint64_t half = QEMU_ALIGN_UP(n / 2, s->pages_per_block);

    return hm_access_uffd_unmap(s->uffd, page * s->page_size,
                                n * s->page_size) ||
           (n > half && unmap(s, page, half) &&
            unmap(s, page + half, n - half));
}

/*
 * Private pages are read-only in QEMU's page table now, before Linux 6.3, and
 * shared ones later.  KVM would take that over from there, and log no read.
 * Private pages that are not the memory's own would be copied.
 */
static void make_writable(HmAccessSampler *s, Run run)
{
    bitmap_clear(s->mapped, run.first, run.n);
    if (s->shared) {
        look(s, run, s->mapped);
    } else {
        look_for(s, run, PRESENT | OF_FILE | EXCLUSIVE, PRESENT | EXCLUSIVE,
                 s->mapped);
    }
    populate_mapped(s, run, MADV_POPULATE_WRITE);
}

static bool unmap_run(HmAccessSampler *s, Run run)
{
    uint64_t slice = MAX(SLICE / s->page_size, s->pages_per_block);
    uint64_t end = run.first + run.n;

    bitmap_set(s->doubtful, run.first, run.n);
    for (uint64_t at = run.first; at < end; at += slice) {
        Run part = { at, MIN(slice, end - at) };

        if (!unmap(s, part.first, part.n)) {
            return false;
        }
        make_writable(s, part);
    }
    return true;
}

/* Of the log, which knows writes elsewhere, too. */
static void take_watched(HmAccessSampler *s, const uint32_t *block, size_t n,
                         unsigned long *seen)
{
    uint64_t end = 0;

    for (size_t i = 0; i < n;) {
        Run run = next_run(s, block, n, &i);

        bitmap_clear(seen, end, run.first - end);
        end = run.first + run.n;
        for (uint64_t p = find_next_bit(seen, end, run.first); p < end;
             p = find_next_bit(seen, end, p + 1)) {
            clear_bit(p, s->doubtful);
        }
    }
    bitmap_clear(seen, end, s->pages - end);
}

static bool start_log(HmAccessSampler *s, const uint32_t *block, size_t n,
                      const char **why)
{
    bool ok = true;

    begin_window(s);
    for (size_t i = 0; ok && i < n;) {
        ok = unmap_run(s, next_run(s, block, n, &i));
    }
    *why = ok ? NULL : no_userfaultfd;
    return ok;
}

/* --- windows of either kind ---------------------------------------------- */

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

    if (s->by_log) {
        return start_log(s, block, n, why);
    }
    *why = s->vouched ? NULL : why_not(s->host, s->size);
    if (*why) {
        return false;
    }
    begin_window(s);
    s->restore = restore;
    if (restore) {
        bitmap_zero(s->mapped, s->pages);
        look_at(s, block, n, s->mapped);
    }
    while (i < n) {
        if (!drop_run(s, next_run(s, block, n, &i))) {
            hm_access_uffd_end(s->uffd);
            restore_blocks(s, block, i);
            *why = CANNOT_DROP;
            return false;
        }
    }
    return true;
}

void hm_access_sampler_read(HmAccessSampler *s, const uint32_t *block,
                            size_t n, bool logged, unsigned long *seen)
{
    bool sure;

    if (s->by_log) {
        take_watched(s, block, n, seen);
        return;
    }
    look_at(s, block, n, seen);
    hm_access_uffd_end(s->uffd);
    /* Else a page may be back because of its neighbour, for QEMU alone. */
    sure = !logged && was_fine(s);
    for (size_t i = 0; i < n;) {
        Run run = next_run(s, block, n, &i);

        for (uint64_t p = run.first; sure && p < run.first + run.n; p++) {
            if (test_bit(p, seen)) {
                clear_bit(p, s->doubtful);
            }
        }
    }
    restore_blocks(s, block, n);
}

void hm_access_sampler_doubt(HmAccessSampler *s, unsigned long *dirty)
{
    if (hm_access_uffd_lost(s->uffd)) {
        bitmap_set(s->doubtful, 0, s->pages);
    }
    for (uint64_t i = 0; i < BITS_TO_LONGS(s->pages); i++) {
        unsigned long both = dirty[i] & s->doubtful[i];

        if (both) {
            dirty[i] &= ~both;
            s->doubtful[i] &= ~both;
        }
    }
}

bool hm_access_sampler_by_log(const HmAccessSampler *s)
{
    return s->by_log;
}

void hm_access_sampler_vouch(HmAccessSampler *s)
{
    s->vouched = true;
}

/* --- life ---------------------------------------------------------------- */

/* Once, so that the reason is known before a policy counts on it. */
static bool try_it(HmAccessSampler *s, const char **why)
{
    g_autofree unsigned long *seen = bitmap_new(s->pages);
    const uint32_t first = 0;

    if (!hm_access_sampler_start(s, &first, 1, true, why)) {
        return false;
    }
    hm_access_sampler_read(s, &first, 1, true, seen);
    hm_access_sampler_release(s);
    (void)hm_access_uffd_lost(s->uffd);
    if (s->by_log) {
        bitmap_set(s->doubtful, 0, s->pages);   /* nothing is logged yet */
    }
    return true;
}

/* Shared memory can do without the log. */
static bool choose_method(HmAccessSampler *s, const char **why)
{
    if (try_it(s, why)) {
        return true;
    }
    if (!s->by_log || !s->shared) {
        return false;
    }
    s->by_log = false;
    return try_it(s, why);
}

HmAccessSampler *hm_access_sampler_new(void *host, uint64_t size,
                                       uint64_t page_size,
                                       uint64_t host_page,
                                       uint32_t pages_per_block,
                                       HmAccessLog log, const char **why)
{
    HmAccessSampler *s;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool shared;

    *why = why_not(host, size);
    shared = !*why;
    if (*why == is_private && log != HM_ACCESS_LOG_NOTHING) {
        *why = NULL;
    }
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
    s->shared = shared;
    s->by_log = !shared || log == HM_ACCESS_LOG_ALL;
    s->host = host;
    s->size = size;
    s->page_size = page_size;
    s->host_page = host_page;
    s->pages = size / page_size;
    s->pages_per_block = pages_per_block;
    s->pagemap = pagemap;
    s->doubtful = bitmap_new(s->pages);
    s->mapped = bitmap_new(s->pages);
    s->uffd = hm_access_uffd_new(host, size);
    if (!choose_method(s, why)) {
        hm_access_sampler_free(s);
        return NULL;
    }
    return s;
}

void hm_access_sampler_free(HmAccessSampler *s)
{
    if (!s) {
        return;
    }
    hm_access_uffd_free(s->uffd);
    close(s->pagemap);
    g_free(s->doubtful);
    g_free(s->mapped);
    g_free(s);
}
