/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/access-sampler.c, on memory of this process.
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

#define PAGE 4096
#define AROUND (64 * KiB / PAGE)    /* pages that a read fault may map */

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

typedef struct Ram {
    int fd;
    uint8_t *host;
    uint64_t pages;
    uint32_t ppb, blocks;
    HmAccessSampler *s;
    unsigned long *used, *seen;
    uint32_t *block;            /* watched */
    size_t n;
} Ram;

static const char skipped[] = "reads are seen by 64 KiB here: no userfaultfd"
                              " for write protection of shared memory";

static uint64_t word_of(uint64_t page)
{
    return page * 0x9e3779b97f4a7c15ull + 1;
}

static uint64_t *at(const Ram *r, uint64_t page)
{
    return (uint64_t *)(r->host + page * PAGE);
}

static void check_content(const Ram *r)
{
    for (uint64_t p = 0; p < r->pages; p++) {
        g_assert_cmphex(at(r, p)[0], ==, word_of(p));
        g_assert_cmphex(at(r, p)[PAGE / 8 - 1], ==, ~word_of(p));
    }
}

static void fill(const Ram *r)
{
    for (uint64_t p = 0; p < r->pages; p++) {
        at(r, p)[0] = word_of(p);
        at(r, p)[PAGE / 8 - 1] = ~word_of(p);
    }
}

static int file_of(uint64_t pages)
{
    int fd = memfd_create("ram", MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, pages * PAGE), ==, 0);
    return fd;
}

static void sample(Ram *r, HmAccessLog log)
{
    const char *why = "";

    r->s = hm_access_sampler_new(r->host, r->pages * PAGE, PAGE, PAGE, r->ppb,
                                 log, &why);
    g_assert_cmpstr(why, ==, NULL);
    g_assert_nonnull(r->s);
}

static void ram_map(Ram *r, uint64_t pages, uint32_t ppb, int flags)
{
    *r = (Ram) {
        .fd = file_of(pages),
        .pages = pages,
        .ppb = ppb,
        .blocks = DIV_ROUND_UP(pages, ppb),
    };
    r->host = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags,
                   flags & MAP_ANONYMOUS ? -1 : r->fd, 0);
    g_assert_true(r->host != MAP_FAILED);
    r->used = bitmap_new(pages);
    r->seen = bitmap_new(pages);
    r->block = g_new(uint32_t, r->blocks);
}

static void ram_init_empty(Ram *r, uint64_t pages, uint32_t ppb)
{
    ram_map(r, pages, ppb, MAP_SHARED);
    sample(r, HM_ACCESS_LOG_PRIVATE);
    g_assert_false(hm_access_sampler_by_log(r->s));
}

static void ram_init(Ram *r, uint64_t pages, uint32_t ppb)
{
    ram_init_empty(r, pages, ppb);
    fill(r);
}

static void ram_end(Ram *r)
{
    hm_access_sampler_free(r->s);
    munmap(r->host, r->pages * PAGE);
    close(r->fd);
    g_free(r->used);
    g_free(r->seen);
    g_free(r->block);
}

static void watch_all(Ram *r)
{
    for (r->n = 0; r->n < r->blocks; r->n++) {
        r->block[r->n] = r->n;
    }
}

static void watch_some(Ram *r)
{
    unsigned odds = g_test_rand_int_range(1, 5);

    r->n = 0;
    for (uint32_t b = 0; b < r->blocks; b++) {
        if (g_test_rand_int_range(0, odds) == 0) {
            r->block[r->n++] = b;
        }
    }
}

static void start(Ram *r, bool restore)
{
    const char *why = "";
    bool ok = hm_access_sampler_start(r->s, r->block, r->n, restore, &why);

    g_assert_cmpstr(why, ==, NULL);
    g_assert_true(ok);
    bitmap_zero(r->used, r->pages);
}

static void refused(Ram *r, bool restore, const char *reason)
{
    const char *why = NULL;

    g_assert_false(hm_access_sampler_start(r->s, r->block, r->n, restore,
                                           &why));
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, reason));
}

static void finish(Ram *r, bool logged)
{
    bitmap_zero(r->seen, r->pages);
    hm_access_sampler_read(r->s, r->block, r->n, logged, r->seen);
}

static void load(Ram *r, uint64_t page)
{
    (void)qatomic_read(&at(r, page)[1]);
    set_bit(page, r->used);
}

static void store(Ram *r, uint64_t page)
{
    qatomic_set(&at(r, page)[1], page);
    set_bit(page, r->used);
}

static void use_some(Ram *r, bool write)
{
    unsigned odds = 1 << g_test_rand_int_range(0, 8);

    for (uint64_t p = 0; p < r->pages; p++) {
        if (g_test_rand_int_range(0, odds) == 0) {
            if (write) {
                store(r, p);
            } else {
                load(r, p);
            }
        }
    }
}

static bool watched(const Ram *r, uint64_t page)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->block[i] == page / r->ppb) {
            return true;
        }
    }
    return false;
}

/*
 * Of many pages some may be gone again: the host's kernel takes them out of
 * page tables when it tries to reclaim memory, where DAMON sees to it all the
 * time.
 */
static void check_exact(const Ram *r)
{
    uint64_t used = 0, missed = 0;

    for (uint64_t p = 0; p < r->pages; p++) {
        bool should = test_bit(p, r->used) && watched(r, p);

        g_assert_true(should || !test_bit(p, r->seen));
        used += should;
        missed += should && !test_bit(p, r->seen);
    }
    g_assert_cmpuint(missed, <=, used < 16 ? 0 : 4 + used / 256);
}

/* Nothing is missed, and what is added is near by. */
static void check_around(const Ram *r)
{
    for (uint64_t p = 0; p < r->pages; p++) {
        uint64_t from = p > AROUND ? p - AROUND : 0;
        uint64_t end = MIN(p + AROUND + 1, r->pages);

        if (watched(r, p) && test_bit(p, r->used)) {
            g_assert_true(test_bit(p, r->seen));
        }
        if (test_bit(p, r->seen)) {
            g_assert_true(watched(r, p));
            g_assert_cmpuint(find_next_bit(r->used, end, from), <, end);
        }
    }
}

static bool is_fine(const Ram *r)
{
    return hm_access_sampler_granule(r->s) == PAGE;
}

static uint64_t entry_of(const Ram *r, uint64_t page)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry;

    g_assert_cmpint(pread(fd, &entry, 8, ((uintptr_t)r->host / PAGE + page) *
                          8), ==, 8);
    close(fd);
    return entry;
}

static bool present(const Ram *r, uint64_t page)
{
    return entry_of(r, page) >> 63;
}

static int other_userfaultfd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool takes(int fd, const Ram *r, uint64_t mode)
{
    struct uffdio_register reg = {
        .range = { (uintptr_t)r->host, r->pages * PAGE },
        .mode = mode,
    };

    return !ioctl(fd, UFFDIO_REGISTER, &reg);
}

/* Else reads are seen by 64 KiB. */
static bool can_be_fine(void)
{
    int fd = other_userfaultfd();
    bool can;
    Ram r = {
        .pages = 1,
        .host = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1,
                     0),
    };

    can = fd >= 0 && takes(fd, &r, UFFDIO_REGISTER_MODE_WP);
    munmap(r.host, PAGE);
    close(fd);
    return can;
}

/* -- What is seen -------------------------------------------------------- */

/*
 * 1025 and more pages are looked at in several pieces; a short last block; more
 * ranges than are registered one by one.
 */
static const struct {
    uint64_t pages;
    uint32_t ppb;
} shape[] = { { 1, 1 }, { 700, 1 }, { 1025, 4 }, { 2500, 16 }, { 3001, 512 },
    { 6001, 1 } };

static void see(bool write)
{
    for (size_t i = 0; i < G_N_ELEMENTS(shape); i++) {
        Ram r;

        ram_init(&r, shape[i].pages, shape[i].ppb);
        for (unsigned w = 0; w < 30; w++) {
            watch_some(&r);
            start(&r, w % 2);
            g_assert_true(write || is_fine(&r));
            use_some(&r, write);
            finish(&r, false);
            check_exact(&r);
        }
        check_content(&r);
        ram_end(&r);
    }
}

static void test_reads(void)
{
    if (!can_be_fine()) {
        g_test_skip(skipped);
        return;
    }
    see(false);
}

static void test_writes(void)
{
    see(true);
}

static void test_around(void)
{
    Ram r;

    ram_init(&r, 3001, 8);
    hm_access_sampler_fine(r.s, false);
    for (unsigned w = 0; w < 30; w++) {
        watch_some(&r);
        start(&r, w % 2);
        g_assert_cmpuint(hm_access_sampler_granule(r.s), ==, 64 * KiB);
        use_some(&r, false);
        finish(&r, false);
        check_around(&r);
    }
    check_content(&r);
    ram_end(&r);
}

/* Each page a mapping, some of them made anew between windows. */
static void test_many_mappings(void)
{
    enum { PAGES = 6000 };
    Ram r;

    ram_init_empty(&r, PAGES, 2);
    for (unsigned w = 0; w < 10; w++) {
        for (uint64_t p = 0; p < PAGES; p++) {
            if (w == 0 || p % 7 == w % 7) {
                void *to = r.host + p * PAGE;

                g_assert_true(mmap(to, PAGE, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_FIXED, r.fd,
                                   (PAGES - 1 - p) * PAGE) == to);
            }
        }
        if (w == 0) {
            fill(&r);
        }
        watch_some(&r);
        start(&r, w % 2);
        use_some(&r, true);
        finish(&r, false);
        check_exact(&r);
    }
    check_content(&r);
    ram_end(&r);
}

static void test_nothing_watched(void)
{
    Ram r;

    ram_init(&r, 64, 4);
    r.n = 0;
    start(&r, true);
    store(&r, 3);
    finish(&r, false);
    check_exact(&r);
    for (uint64_t p = 0; p < r.pages; p++) {
        g_assert_true(present(&r, p));
    }
    ram_end(&r);
}

/* -- What must never happen ---------------------------------------------- */

typedef struct Guest {
    Ram *r;
    bool quit;
    uint64_t rounds;
} Guest;

/* Counts in the second word of pages, and knows what must stand there. */
static void *guest_thread(void *opaque)
{
    Guest *g = opaque;
    g_autofree uint64_t *count = g_new0(uint64_t, g->r->pages);
    uint64_t random = 1;

    while (!qatomic_read(&g->quit)) {
        uint64_t page, *word;

        random = random * 6364136223846793005ull + 1442695040888963407ull;
        page = (random >> 33) % g->r->pages;
        word = &at(g->r, page)[2];
        g_assert_cmphex(qatomic_read(word), ==, count[page]);
        if (random >> 60) {
            qatomic_set(word, ++count[page]);
        }
        qatomic_set(&g->rounds, g->rounds + 1);
    }
    for (uint64_t p = 0; p < g->r->pages; p++) {
        g_assert_cmphex(at(g->r, p)[2], ==, count[p]);
    }
    return NULL;
}

static void *fine_thread(void *opaque)
{
    Guest *g = opaque;

    for (bool fine = false; !qatomic_read(&g->quit); fine = !fine) {
        hm_access_sampler_fine(g->r->s, fine);
        g_usleep(200);
    }
    return NULL;
}

static void test_content(void)
{
    int64_t end;
    QemuThread guest, fine;
    unsigned windows = 0;
    Guest g = { };
    Ram r;

    ram_init(&r, 2048, 4);
    g.r = &r;
    qemu_thread_create(&guest, "guest", guest_thread, &g,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_create(&fine, "fine", fine_thread, &g, QEMU_THREAD_JOINABLE);
    end = g_get_monotonic_time() + 700000;
    while (g_get_monotonic_time() < end || windows < 20 ||
           qatomic_read(&g.rounds) < 10000) {
        watch_some(&r);
        start(&r, windows++ % 2);
        g_usleep(g_test_rand_int_range(0, 500));
        finish(&r, windows % 3);
    }
    qatomic_set(&g.quit, true);
    qemu_thread_join(&guest);
    qemu_thread_join(&fine);
    g_test_message("%u windows, %" PRIu64 " accesses", windows, g.rounds);
    check_content(&r);
    ram_end(&r);
}

static void cannot_sample(void *host, uint64_t size, uint64_t page_size,
                          const char *reason)
{
    const char *why = NULL;

    g_assert_null(hm_access_sampler_new(host, size, page_size, PAGE, 4,
                                        HM_ACCESS_LOG_NOTHING, &why));
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, reason));
}

static uint8_t *map(uint64_t pages, int flags, int fd)
{
    uint8_t *host = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags,
                         fd, 0);

    g_assert_true(host != MAP_FAILED);
    memset(host, 0x5a, pages * PAGE);
    return host;
}

static void test_not_at_all(void)
{
    enum { PAGES = 16 };
    int fd = file_of(PAGES), zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
    uint8_t *host[] = {
        map(PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1),
        map(PAGES, MAP_PRIVATE, fd),
        map(PAGES, MAP_PRIVATE, zero),
    };
    uint8_t *shared = map(PAGES, MAP_SHARED | MAP_ANONYMOUS, -1);

    for (size_t i = 0; i < G_N_ELEMENTS(host); i++) {
        cannot_sample(host[i], PAGES * PAGE, PAGE, "share=on");
        for (size_t k = 0; k < PAGES * PAGE; k++) {
            g_assert_cmphex(host[i][k], ==, 0x5a);
        }
        munmap(host[i], PAGES * PAGE);
    }
    cannot_sample(shared, PAGES * PAGE, 2 * PAGE, "size");
    cannot_sample(shared, PAGES * PAGE, PAGE / 2, "size");
    munmap(shared, PAGES * PAGE);
    cannot_sample(shared, PAGES * PAGE, PAGE, "not mapped");
    close(fd);
    close(zero);
}

/*
 * Something else has come into the range since: at its start, in the middle
 * and at its end.  All is watched, and nothing may be dropped.
 */
static void changed(bool hole, int flags, const char *reason)
{
    static const uint64_t where[] = { 0, 31, 63 };

    for (size_t i = 0; i < G_N_ELEMENTS(where); i++) {
        uint8_t *page, *same = NULL;
        Ram r;

        ram_init(&r, 64, 4);
        page = r.host + where[i] * PAGE;
        if (hole) {
            g_assert_cmpint(munmap(page, PAGE), ==, 0);
        } else {
            same = mmap(page, PAGE, PROT_READ | PROT_WRITE,
                        flags | MAP_FIXED, flags & MAP_ANONYMOUS ? -1 : r.fd,
                        where[i] * PAGE);
            g_assert_true(same == page);
            memset(page, 0x5a, PAGE);
        }
        watch_all(&r);
        refused(&r, false, reason);
        refused(&r, true, reason);
        for (uint64_t p = 0; p < r.pages; p++) {
            g_assert_true(p == where[i] ? hole || *page == 0x5a :
                          present(&r, p) && at(&r, p)[0] == word_of(p));
        }
        /* A new one says so at once. */
        cannot_sample(r.host, r.pages * PAGE, PAGE, reason);
        ram_end(&r);
    }
}

static void test_private(void)
{
    changed(false, MAP_PRIVATE, "share=on");
    changed(false, MAP_PRIVATE | MAP_ANONYMOUS, "share=on");
}

static void test_hole(void)
{
    changed(true, 0, "not mapped");
}

/* The kernel refuses to drop what is locked; what is before it comes back. */
static void test_locked(void)
{
    Ram r;

    ram_init(&r, 64, 4);
    /* Sanitizers make nothing of mlock(). */
    if (syscall(SYS_mlock, r.host + 32 * PAGE, 8 * PAGE)) {
        g_test_skip("no memory may be locked here");
        ram_end(&r);
        return;
    }
    watch_all(&r);
    refused(&r, true, "mem-lock");
    for (uint64_t p = 0; p < r.pages; p++) {
        g_assert_true(present(&r, p));
    }
    refused(&r, false, "mem-lock");
    check_content(&r);
    g_assert_cmpint(syscall(SYS_munlock, r.host + 32 * PAGE,
                             8 * PAGE), ==, 0);
    start(&r, false);
    store(&r, 33);
    finish(&r, false);
    check_exact(&r);
    check_content(&r);
    ram_end(&r);
}

/* It is known at once, even if nothing is there that could be dropped. */
static void test_locked_empty(void)
{
    enum { PAGES = 16 };
    int fd = file_of(PAGES);
    uint8_t *host = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                         MAP_SHARED, fd, 0);

    g_assert_true(host != MAP_FAILED);
    if (syscall(SYS_mlock2, host, PAGES * PAGE, MLOCK_ONFAULT)) {
        g_test_skip("no memory may be locked here");
    } else {
        cannot_sample(host, PAGES * PAGE, PAGE, "mem-lock");
    }
    munmap(host, PAGES * PAGE);
    close(fd);
}

static uint64_t blocks_of_file(const Ram *r)
{
    struct stat st;

    g_assert_cmpint(fstat(r->fd, &st), ==, 0);
    return st.st_blocks;
}

/* What was mapped is again; what the guest never used takes no memory. */
static void test_restore(void)
{
    uint64_t before;
    Ram r;

    ram_init_empty(&r, 3000, 8);
    for (uint64_t p = 0; p < r.pages; p++) {
        if (p % 1000 < 500) {
            store(&r, p);
        }
    }
    before = blocks_of_file(&r);
    watch_all(&r);
    start(&r, true);
    for (uint64_t p = 0; p < r.pages; p++) {
        g_assert_false(present(&r, p));
    }
    store(&r, 7);
    store(&r, 1003);
    finish(&r, false);
    check_exact(&r);
    for (uint64_t p = 0; p < r.pages; p++) {
        g_assert_true(present(&r, p) || p % 1000 >= 500);
    }
    g_assert_cmpuint(blocks_of_file(&r), ==, before);

    start(&r, false);
    finish(&r, false);
    g_assert_false(present(&r, 7));
    g_assert_cmpuint(blocks_of_file(&r), ==, before);

    /* What is given back meanwhile stays away. */
    start(&r, true);
    g_assert_cmpint(fallocate(r.fd, FALLOC_FL_PUNCH_HOLE |
                              FALLOC_FL_KEEP_SIZE, 0, 200 * PAGE), ==, 0);
    finish(&r, false);
    g_assert_cmpuint(blocks_of_file(&r), ==, before - 200 * PAGE / 512);

    /* And what was given back before. */
    g_assert_cmpint(fallocate(r.fd, FALLOC_FL_PUNCH_HOLE |
                              FALLOC_FL_KEEP_SIZE, 0, r.pages * PAGE), ==, 0);
    start(&r, true);
    finish(&r, false);
    g_assert_cmpuint(blocks_of_file(&r), ==, 0);
    ram_end(&r);
}

/* -- Doubt ------------------------------------------------------------- */

/*
 * Blocks of 4: 1 and 3 are watched, pages 4 to 7 and 12 to 15.  Pages 5 and
 * 13 are used in the window.
 */
static void doubt(bool logged, bool fine, uint64_t doubtful)
{
    unsigned long dirty = 0xffff;
    Ram r;

    ram_init(&r, 16, 4);
    hm_access_sampler_fine(r.s, fine);
    /* It has been tried on block 0. */
    hm_access_sampler_doubt(r.s, &dirty);
    r.block[0] = 1;
    r.block[1] = 3;
    r.n = 2;
    start(&r, false);
    store(&r, 5);
    store(&r, 13);
    finish(&r, logged);

    /* Only 4 and 5 are dirty in the first window. */
    dirty = 0x0033;
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0x0033 & ~doubtful);
    /* Doubt has an end. */
    dirty = 0xffff;
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0xffff & ~(doubtful & ~0x0033));
    dirty = 0xffff;
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0xffff);
    ram_end(&r);
}

static void test_doubt(void)
{
    if (can_be_fine()) {
        doubt(false, true, 0xd0d0);
    }
    doubt(true, true, 0xf0f0);
    /* A page may be back because of its neighbour. */
    doubt(false, false, 0xf0f0);
}

/* So are pages that were not there when they were dropped. */
static void test_doubt_absent(void)
{
    unsigned long dirty;
    Ram r;

    ram_init(&r, 16, 1);
    watch_all(&r);
    for (int w = 0; w < 3; w++) {
        start(&r, false);
        dirty = 0xffff;
        hm_access_sampler_doubt(r.s, &dirty);
        g_assert_cmphex(dirty, ==, 0);
        finish(&r, false);
        for (uint64_t p = 0; p < r.pages; p++) {
            g_assert_false(present(&r, p));
        }
    }
    check_content(&r);
    ram_end(&r);
}

/* -- By the log ---------------------------------------------------------- */

#define IS_OF_FILE(entry) ((entry) >> 61 & 1)

/* False, and the test is skipped, if it cannot be seen here. */
static bool ram_init_log(Ram *r, uint64_t pages, uint32_t ppb, int flags)
{
    if (!can_be_fine()) {
        g_test_skip("no userfaultfd for write protection here");
        return false;
    }
    ram_map(r, pages, ppb, flags);
    sample(r, flags & MAP_SHARED ? HM_ACCESS_LOG_ALL : HM_ACCESS_LOG_PRIVATE);
    g_assert_true(hm_access_sampler_by_log(r->s));
    g_assert_cmpuint(hm_access_sampler_granule(r->s), ==, PAGE);
    return true;
}

/* What the log has: @used, and two pages that may not be watched. */
static void finish_log(Ram *r)
{
    bitmap_copy(r->seen, r->used, r->pages);
    set_bit(0, r->used);
    set_bit(r->pages - 1, r->used);
    set_bit(0, r->seen);
    set_bit(r->pages - 1, r->seen);
    hm_access_sampler_read(r->s, r->block, r->n, false, r->seen);
}

static void see_by_log(int flags)
{
    for (size_t i = 0; i < G_N_ELEMENTS(shape); i++) {
        Ram r;

        if (!ram_init_log(&r, shape[i].pages, shape[i].ppb, flags)) {
            return;
        }
        fill(&r);
        for (unsigned w = 0; w < 30; w++) {
            watch_some(&r);
            start(&r, w % 2);
            for (uint64_t p = 0; p < r.pages; p++) {
                g_assert_true(present(&r, p));
            }
            use_some(&r, w % 3);
            finish_log(&r);
            check_exact(&r);
        }
        check_content(&r);
        ram_end(&r);
    }
}

static void test_log(void)
{
    see_by_log(MAP_PRIVATE | MAP_ANONYMOUS);
}

static void test_log_shared(void)
{
    see_by_log(MAP_SHARED);
}

/* Then it is dropped. */
static void test_log_not_possible(void)
{
    const char *why = "";
    int fd = other_userfaultfd();
    Ram r;

    ram_map(&r, 64, 4, MAP_SHARED);
    if (!takes(fd, &r, UFFDIO_REGISTER_MODE_MISSING)) {
        g_test_skip("no userfaultfd here");
        ram_end(&r);
        return;
    }
    sample(&r, HM_ACCESS_LOG_ALL);
    g_assert_false(hm_access_sampler_by_log(r.s));
    close(fd);
    ram_end(&r);

    fd = other_userfaultfd();
    ram_map(&r, 64, 4, MAP_PRIVATE);
    g_assert_true(takes(fd, &r, UFFDIO_REGISTER_MODE_MISSING));
    r.s = hm_access_sampler_new(r.host, r.pages * PAGE, PAGE, PAGE, r.ppb,
                                HM_ACCESS_LOG_ALL, &why);
    g_assert_null(r.s);
    g_assert_nonnull(strstr(why, "userfaultfd"));
    close(fd);
    ram_end(&r);
}

/* Mappings that end at blocks; huge pages, where there are any. */
static void test_log_mappings(void)
{
    Ram r;

    if (!ram_init_log(&r, 4096, 16, MAP_PRIVATE | MAP_ANONYMOUS)) {
        return;
    }
    madvise(r.host, 2048 * PAGE, MADV_HUGEPAGE);
    fill(&r);
    for (uint64_t p = 0; p < r.pages; p += 48) {
        g_assert_cmpint(madvise(at(&r, p), 16 * PAGE, MADV_DONTDUMP), ==, 0);
    }
    watch_all(&r);
    for (unsigned w = 0; w < 10; w++) {
        start(&r, w % 2);
        use_some(&r, true);
        finish_log(&r);
        check_exact(&r);
    }
    check_content(&r);
    ram_end(&r);
}

/* What the guest never used takes no memory; a file's page is not copied. */
static void test_log_takes_nothing(void)
{
    uint64_t before;
    Ram r;

    if (!ram_init_log(&r, 64, 4, MAP_PRIVATE | MAP_ANONYMOUS)) {
        return;
    }
    store(&r, 5);
    watch_all(&r);
    start(&r, true);
    for (uint64_t p = 0; p < r.pages; p++) {
        g_assert_cmpint(present(&r, p), ==, p == 5);
    }
    finish_log(&r);
    ram_end(&r);

    g_assert_true(ram_init_log(&r, 64, 4, MAP_PRIVATE));
    load(&r, 3);
    store(&r, 5);
    watch_all(&r);
    start(&r, false);
    g_assert_true(IS_OF_FILE(entry_of(&r, 3)));
    g_assert_false(IS_OF_FILE(entry_of(&r, 5)));
    finish_log(&r);
    ram_end(&r);

    g_assert_true(ram_init_log(&r, 64, 4, MAP_SHARED));
    store(&r, 5);
    before = blocks_of_file(&r);
    watch_all(&r);
    start(&r, false);
    g_assert_cmpuint(blocks_of_file(&r), ==, before);
    finish_log(&r);
    ram_end(&r);
}

static void test_log_content(void)
{
    int64_t end = g_get_monotonic_time() + 500000;
    unsigned windows = 0;
    QemuThread guest, fine;
    Guest g = { };
    Ram r;

    if (!ram_init_log(&r, 2048, 4, MAP_PRIVATE | MAP_ANONYMOUS)) {
        return;
    }
    fill(&r);
    g.r = &r;
    qemu_thread_create(&guest, "guest", guest_thread, &g,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_create(&fine, "fine", fine_thread, &g, QEMU_THREAD_JOINABLE);
    while (g_get_monotonic_time() < end || windows < 20 ||
           qatomic_read(&g.rounds) < 10000) {
        const char *why;

        watch_some(&r);
        windows += hm_access_sampler_start(r.s, r.block, r.n, windows % 2,
                                           &why);
        g_usleep(g_test_rand_int_range(0, 500));
        finish_log(&r);
    }
    qatomic_set(&g.quit, true);
    qemu_thread_join(&guest);
    qemu_thread_join(&fine);
    check_content(&r);
    ram_end(&r);
}

/* Of blocks of 4: 1 and 3 are watched, and of those 5 and 13 are seen. */
static void test_log_doubt(void)
{
    unsigned long dirty = 0xffff;
    Ram r;

    if (!ram_init_log(&r, 16, 4, MAP_PRIVATE | MAP_ANONYMOUS)) {
        return;
    }
    /* It has been tried, and all entries are lost then. */
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0);
    r.block[0] = 1;
    r.block[1] = 3;
    r.n = 2;
    start(&r, false);
    r.seen[0] = 0x3021;
    hm_access_sampler_read(r.s, r.block, r.n, false, r.seen);
    g_assert_cmphex(r.seen[0], ==, 0x3020);
    dirty = 0x20f3;
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0x2023);
    /* Doubt has an end. */
    dirty = 0x00f3;
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0x00f3);
    hm_access_sampler_release(r.s);
    hm_access_sampler_doubt(r.s, &dirty);
    g_assert_cmphex(dirty, ==, 0);
    ram_end(&r);
}

/* Without the userfaultfd there are no windows, and nothing changes. */
static void test_log_lets_go(void)
{
    const uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;
    int fd;
    Ram r;

    if (!ram_init_log(&r, 64, 4, MAP_PRIVATE | MAP_ANONYMOUS)) {
        return;
    }
    fd = other_userfaultfd();
    fill(&r);
    watch_all(&r);
    start(&r, false);
    finish_log(&r);
    /* It is kept, or else KVM would lose all entries after each window. */
    g_assert_false(takes(fd, &r, mode));
    hm_access_sampler_fine(r.s, false);
    refused(&r, false, "a migration has it");
    g_assert_true(takes(fd, &r, mode));
    hm_access_sampler_fine(r.s, true);
    refused(&r, false, "a migration has it");
    close(fd);
    start(&r, false);
    hm_access_sampler_release(r.s);
    finish_log(&r);
    check_exact(&r);
    check_content(&r);
    ram_end(&r);
}

/* -- The userfaultfd ----------------------------------------------------- */

/* Another one can have the range at once; then reads are seen by 64 KiB. */
static void test_lets_go(void)
{
    const uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;
    int fd, third;
    Ram r;

    if (!can_be_fine()) {
        g_test_skip(skipped);
        return;
    }
    fd = other_userfaultfd();
    third = other_userfaultfd();
    ram_init(&r, 256, 4);
    watch_all(&r);
    start(&r, false);
    g_assert_true(is_fine(&r));
    g_assert_false(takes(fd, &r, mode));
    hm_access_sampler_fine(r.s, false);
    g_assert_cmpuint(hm_access_sampler_granule(r.s), ==, 64 * KiB);
    g_assert_true(takes(fd, &r, mode));
    finish(&r, false);

    /* It does not get in the way of who has the range, nor take it away. */
    hm_access_sampler_fine(r.s, true);
    start(&r, true);
    g_assert_false(takes(third, &r, mode));
    close(third);
    g_assert_cmpuint(hm_access_sampler_granule(r.s), ==, 64 * KiB);
    load(&r, 77);
    finish(&r, false);
    check_around(&r);

    close(fd);
    start(&r, true);
    g_assert_true(is_fine(&r));
    load(&r, 77);
    finish(&r, false);
    check_exact(&r);
    check_content(&r);

    /* Who only tries has the range even if a window begins meanwhile. */
    hm_access_sampler_yield(r.s);
    start(&r, true);
    g_assert_cmpuint(hm_access_sampler_granule(r.s), ==, 64 * KiB);
    fd = other_userfaultfd();
    g_assert_true(takes(fd, &r, mode));
    close(fd);
    finish(&r, false);
    start(&r, true);
    g_assert_true(is_fine(&r));
    finish(&r, false);

    /* And at its end. */
    hm_access_sampler_free(r.s);
    r.s = NULL;
    fd = other_userfaultfd();
    g_assert_true(takes(fd, &r, mode));
    close(fd);
    ram_end(&r);
}

static unsigned mappings(const Ram *r)
{
    g_autofree char *maps = NULL;
    uintptr_t first = (uintptr_t)r->host, end = first + r->pages * PAGE;
    unsigned n = 0;

    g_assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
    for (const char *line = maps; *line; line = strchr(line, '\n') + 1) {
        uintptr_t from = g_ascii_strtoull(line, NULL, 16);

        n += from >= first && from < end;
    }
    return n;
}

/* Maps @n pages anew, those that lie at @offset in the file. */
static void map_anew(Ram *r, uint64_t page, uint64_t n, uint64_t offset)
{
    void *to = r->host + page * PAGE;

    g_assert_true(mmap(to, n * PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, r->fd, offset * PAGE) == to);
    hm_access_sampler_mapped(r->s, page * PAGE, n * PAGE);
}

/*
 * It is kept after the window; what is mapped anew has it as well, and merges
 * as it did before.
 */
static void test_mapped_anew(void)
{
    unsigned before;
    Ram r;

    if (!can_be_fine()) {
        g_test_skip(skipped);
        return;
    }
    ram_init(&r, 256, 16);
    before = mappings(&r);
    map_anew(&r, 64, 16, 128);          /* nobody has asked for it yet */
    map_anew(&r, 64, 16, 64);
    g_assert_cmpuint(mappings(&r), ==, before);
    watch_all(&r);
    for (unsigned w = 0; w < 3; w++) {
        start(&r, false);
        g_assert_true(is_fine(&r));
        load(&r, 70);
        load(&r, 200);
        finish(&r, false);
        g_assert_true(is_fine(&r));
        check_exact(&r);
        g_assert_cmpuint(mappings(&r), ==, before + 2 * (w == 1));
        /* Block 4, there and back again. */
        map_anew(&r, 64, 16, w == 0 ? 128 : 64);
    }
    check_content(&r);
    hm_access_sampler_release(r.s);
    g_assert_cmpuint(mappings(&r), ==, before);
    ram_end(&r);
}

/* What cannot be registered ends it for all, until the next window. */
static void test_mapped_badly(void)
{
    const uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;
    Ram r, part;
    int fd;

    if (!can_be_fine()) {
        g_test_skip(skipped);
        return;
    }
    fd = other_userfaultfd();
    ram_init(&r, 256, 16);
    watch_all(&r);
    start(&r, false);
    finish(&r, false);
    g_assert_true(is_fine(&r));
    part = (Ram) { .host = r.host + 64 * PAGE, .pages = 16 };
    g_assert_true(mmap(part.host, 16 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, r.fd, 64 * PAGE) == part.host);
    g_assert_true(takes(fd, &part, mode));
    hm_access_sampler_mapped(r.s, 64 * PAGE, 16 * PAGE);
    g_assert_true(takes(fd, &r, mode));
    close(fd);
    start(&r, false);
    g_assert_true(is_fine(&r));
    load(&r, 70);
    finish(&r, false);
    check_exact(&r);
    check_content(&r);
    ram_end(&r);
}

/*
 * Memory that cannot be registered, as DAX: nothing is lost by that, and only
 * what was dropped is doubtful.
 */
static void test_unfit(void)
{
    char name[] = "access-sampler-XXXXXX";
    int fd = other_userfaultfd();
    unsigned long dirty = 0xffff;
    Ram r;

    ram_map(&r, 16, 4, MAP_SHARED);
    close(r.fd);
    r.fd = mkstemp(name);
    g_assert_cmpint(r.fd, >=, 0);
    unlink(name);
    g_assert_cmpint(ftruncate(r.fd, 16 * PAGE), ==, 0);
    g_assert_true(mmap(r.host, 16 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, r.fd, 0) == r.host);
    if (fd < 0 || takes(fd, &r, UFFDIO_REGISTER_MODE_WP)) {
        g_test_skip("no userfaultfd, or no file that it does not take");
    } else {
        sample(&r, HM_ACCESS_LOG_PRIVATE);
        fill(&r);
        hm_access_sampler_doubt(r.s, &dirty);
        r.block[0] = 1;
        r.n = 1;
        for (unsigned w = 0; w < 3; w++) {
            start(&r, false);
            store(&r, 5);
            finish(&r, true);
            dirty = 0xffff;
            hm_access_sampler_doubt(r.s, &dirty);
            g_assert_cmphex(dirty, ==, 0xff0f);
        }
        check_content(&r);
    }
    close(fd);
    ram_end(&r);
}

static void test_free_nothing(void)
{
    hm_access_sampler_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (qemu_real_host_page_size() != PAGE) {
        g_test_message("pages are not of 4 KiB here");
        return 0;
    }
    g_test_add_func("/hybridmem/access-sampler/reads", test_reads);
    g_test_add_func("/hybridmem/access-sampler/writes", test_writes);
    g_test_add_func("/hybridmem/access-sampler/around", test_around);
    g_test_add_func("/hybridmem/access-sampler/many-mappings",
                    test_many_mappings);
    g_test_add_func("/hybridmem/access-sampler/nothing-watched",
                    test_nothing_watched);
    g_test_add_func("/hybridmem/access-sampler/content", test_content);
    g_test_add_func("/hybridmem/access-sampler/not-at-all", test_not_at_all);
    g_test_add_func("/hybridmem/access-sampler/private", test_private);
    g_test_add_func("/hybridmem/access-sampler/hole", test_hole);
    g_test_add_func("/hybridmem/access-sampler/locked", test_locked);
    g_test_add_func("/hybridmem/access-sampler/locked-empty",
                    test_locked_empty);
    g_test_add_func("/hybridmem/access-sampler/restore", test_restore);
    g_test_add_func("/hybridmem/access-sampler/doubt", test_doubt);
    g_test_add_func("/hybridmem/access-sampler/doubt-absent",
                    test_doubt_absent);
    g_test_add_func("/hybridmem/access-sampler/log", test_log);
    g_test_add_func("/hybridmem/access-sampler/log-shared", test_log_shared);
    g_test_add_func("/hybridmem/access-sampler/log-not-possible",
                    test_log_not_possible);
    g_test_add_func("/hybridmem/access-sampler/log-mappings",
                    test_log_mappings);
    g_test_add_func("/hybridmem/access-sampler/log-takes-nothing",
                    test_log_takes_nothing);
    g_test_add_func("/hybridmem/access-sampler/log-content",
                    test_log_content);
    g_test_add_func("/hybridmem/access-sampler/log-doubt", test_log_doubt);
    g_test_add_func("/hybridmem/access-sampler/log-lets-go",
                    test_log_lets_go);
    g_test_add_func("/hybridmem/access-sampler/lets-go", test_lets_go);
    g_test_add_func("/hybridmem/access-sampler/mapped-anew", test_mapped_anew);
    g_test_add_func("/hybridmem/access-sampler/mapped-badly",
                    test_mapped_badly);
    g_test_add_func("/hybridmem/access-sampler/unfit", test_unfit);
    g_test_add_func("/hybridmem/access-sampler/free-nothing",
                    test_free_nothing);
    return g_test_run();
}
