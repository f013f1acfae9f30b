/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/mover-remap.c and safe-copy.c: on real files
 * and mappings, with failures put in between.
 */
#include "qemu/osdep.h"
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include "hw/hybridmem/mover.h"
#include "hw/hybridmem/safe-copy.h"

#define D HM_TIER_DRAM
#define N HM_TIER_NVM

/* Small enough for the kernel's list of mappings to be read at each step. */
static const HmExtent extents[] = {
    { 0, 4, D, true },
    { 4, 8, N, true },
    { 12, 2, D, true },
    { 14, 6, N, true },
};

#define BLOCKS 20
/* Which file an extent lies in, and where, in blocks. */
static const unsigned file_of[] = { 0, 1, 0, 1 };
static const unsigned first_in_file[] = { 3, 0, 10, 9 };
/* File 1 plays persistent memory. */
static const bool is_pmem[] = { false, true, false, true };

#define FILES 2
#define FILE_BLOCKS 16

/* What is to go wrong; calls are counted from 1, 0 is never. */
static struct {
    unsigned copies, maps;
    unsigned plain, pmem;       /* of @copies, by kind */
    unsigned drains;
    unsigned mapped, told;      /* what is mapped anew; and what we heard */
    unsigned fail_copy;
    unsigned fail_map;
    int map_errno;
    bool unmaps;                /* takes the old mapping away, then fails */
    bool fails_for_good;        /* all maps from then on */
} inject;

static bool copy_fails(void *dst, const void *src, size_t len)
{
    if (++inject.copies == inject.fail_copy) {
        memcpy(dst, src, len / 2);
        return true;
    }
    return false;
}

static bool copy(void *dst, const void *src, size_t len)
{
    inject.plain++;
    return !copy_fails(dst, src, len) &&
           hm_remap_system_ops.copy(dst, src, len);
}

static bool copy_pmem(void *dst, const void *src, size_t len)
{
    inject.pmem++;
    return !copy_fails(dst, src, len) &&
           hm_remap_system_ops.copy_pmem(dst, src, len);
}

static void drain(void)
{
    inject.drains++;
    hm_remap_system_ops.drain();
}

static int map(void *addr, size_t len, int flags, int fd, uint64_t fd_offset)
{
    g_assert_cmpint(flags, ==, MAP_SHARED);
    inject.maps++;
    if (inject.maps == inject.fail_map ||
        (inject.fails_for_good && inject.fail_map &&
         inject.maps > inject.fail_map)) {
        if (inject.unmaps) {
            munmap(addr, len);
        }
        return inject.map_errno;
    }
    inject.mapped++;
    return hm_remap_system_ops.map(addr, len, flags, fd, fd_offset);
}

/* Each block that is mapped anew is told, and no other. */
static void told(void *opaque, uint64_t offset, uint64_t len)
{
    HmRemap *m = opaque;

    g_assert_cmpuint(len, ==, m->block_size);
    g_assert_cmpuint(offset % len, ==, 0);
    g_assert_cmpuint(offset / len, <, BLOCKS);
    inject.told++;
}

static void advise(void *addr, size_t len, int advice)
{
    hm_remap_system_ops.advise(addr, len, advice);
}

static const HmRemapOps ops = {
    .map = map,
    .advise = advise,
    .copy = copy,
    .copy_pmem = copy_pmem,
    .drain = drain,
};

typedef struct Fixture {
    size_t block;
    uint8_t *reserved, *host;   /* guard block, BLOCKS, guard block */
    int fd[FILES];
    HmFrames *frames;
    HmRemap remap;
    GRand *random;
} Fixture;

static int make_file(const char *name, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    return fd;
}

static uint8_t *block_at(const Fixture *f, uint32_t block)
{
    return f->host + block * f->block;
}

/* The word that stands at @i in @block, whatever frame it is in. */
static uint64_t word(uint32_t block, size_t i)
{
    return (block + 1) * 0x9e3779b97f4a7c15ull + i;
}

static void fill(Fixture *f, uint32_t block)
{
    uint64_t *p = (uint64_t *)block_at(f, block);

    for (size_t i = 0; i < f->block / sizeof(*p); i++) {
        p[i] = word(block, i);
    }
}

static bool intact(const Fixture *f, uint32_t block)
{
    const uint64_t *p = (const uint64_t *)block_at(f, block);

    for (size_t i = 0; i < f->block / sizeof(*p); i++) {
        if (p[i] != word(block, i)) {
            return false;
        }
    }
    return true;
}

static void map_extents(Fixture *f, int advice)
{
    HmRemapFile files[ARRAY_SIZE(extents)] = { };

    for (unsigned e = 0; e < ARRAY_SIZE(extents); e++) {
        uint8_t *at = block_at(f, extents[e].first);
        size_t len = extents[e].blocks * f->block;

        files[e].fd = f->fd[file_of[e]];
        files[e].fd_offset = first_in_file[e] * f->block;
        files[e].map_flags = MAP_SHARED;
        files[e].pmem = is_pmem[e];
        g_assert_true(mmap(at, len, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_FIXED, files[e].fd,
                           files[e].fd_offset) == at);
        if (advice >= 0) {
            g_assert_cmpint(madvise(at, len, advice), ==, 0);
        }
    }
    hm_remap_init(&f->remap, &ops, f->host, f->block, files,
                  ARRAY_SIZE(extents), advice);
    f->remap.mapped = told;
    f->remap.opaque = &f->remap;
}

static void set_up(Fixture *f, gconstpointer advice)
{
    size_t len;

    hm_safe_copy_init();
    memset(&inject, 0, sizeof(inject));
    f->random = g_rand_new_with_seed(7);
    f->block = qemu_real_host_page_size();
    for (unsigned i = 0; i < FILES; i++) {
        if (!f->fd[i]) {
            f->fd[i] = make_file("mover-test", FILE_BLOCKS * f->block);
        }
    }
    len = (BLOCKS + 2) * f->block;
    f->reserved = mmap(NULL, len, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(f->reserved != MAP_FAILED);
    f->host = f->reserved + f->block;
    map_extents(f, GPOINTER_TO_INT(advice));
    f->frames = hm_frames_new(extents, ARRAY_SIZE(extents));
    for (uint32_t b = 0; b < BLOCKS; b++) {
        fill(f, b);
    }
}

static void tear_down(Fixture *f, gconstpointer advice)
{
    hm_remap_destroy(&f->remap);
    hm_frames_free(f->frames);
    munmap(f->reserved, (BLOCKS + 2) * f->block);
    for (unsigned i = 0; i < FILES; i++) {
        close(f->fd[i]);
    }
    g_rand_free(f->random);
}

/* The lines of /proc/self/maps for the range; and how many they are. */
static char *list_mappings(const Fixture *f, unsigned *n)
{
    GString *found = g_string_new(NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents("/proc/self/maps", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    *n = 0;
    for (unsigned i = 0; lines[i]; i++) {
        uintptr_t from, to;

        if (sscanf(lines[i], "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2 &&
            from >= (uintptr_t)f->host &&
            to <= (uintptr_t)block_at(f, BLOCKS)) {
            g_string_append_printf(found, "%s\n", lines[i]);
            ++*n;
        }
    }
    return g_string_free(found, false);
}

static void assert_all_right(const Fixture *f)
{
    const char *why = "";
    g_autofree char *list = NULL;
    unsigned n;

    for (uint32_t b = 0; b < BLOCKS; b++) {
        g_assert_true(intact(f, b));
    }
    if (!hm_frames_verify(f->frames, &why)) {
        g_test_message("%s", why);
        g_assert_not_reached();
    }
    list = list_mappings(f, &n);
    g_assert_cmpuint(n, ==, hm_frames_mappings(f->frames));
    g_assert_cmpuint(inject.told, ==, inject.mapped);
}

/* What the file holds where @block's frame is. */
static void assert_in_its_frame(const Fixture *f, uint32_t block)
{
    uint32_t frame = hm_frames_frame_of(f->frames, block);
    unsigned e = hm_frames_extent_of(f->frames, frame);
    off_t at = (first_in_file[e] + frame - extents[e].first) * f->block;
    uint64_t seen;

    g_assert_cmpint(pread(f->fd[file_of[e]], &seen, sizeof(seen), at), ==,
                    sizeof(seen));
    g_assert_cmphex(seen, ==, word(block, 0));
}

static void go(Fixture *f, const HmCycle *cy)
{
    g_assert_cmpint(hm_remap_cycle(&f->remap, f->frames, cy), ==,
                    HM_MOVE_DONE);
    g_assert_false(f->remap.broken);
    hm_frames_apply(f->frames, cy);
    assert_all_right(f);
    for (unsigned i = 0; i < cy->n; i++) {
        assert_in_its_frame(f, cy->block[i]);
    }
}

static const HmCycle cycles[] = {
    { 2, { 0, 5 } },            /* dram and nvm */
    { 2, { 5, 6 } },            /* neighbours in a file */
    { 2, { 1, 13 } },           /* two dram extents */
    { 2, { 19, 4 } },           /* two nvm extents, last block */
    { 3, { 0, 5, 15 } },
    { 3, { 11, 12, 13 } },      /* neighbours across a border */
    { 3, { 19, 3, 0 } },
};

static void test_cycles(Fixture *f, gconstpointer advice)
{
    assert_all_right(f);
    for (unsigned i = 0; i < ARRAY_SIZE(cycles); i++) {
        go(f, &cycles[i]);
    }
}

/* Against the plainest model: where each block is, by exchanging pairs. */
static void test_random(Fixture *f, gconstpointer advice)
{
    uint32_t where[BLOCKS];

    for (uint32_t b = 0; b < BLOCKS; b++) {
        where[b] = b;
    }
    for (unsigned step = 0; step < 2000; step++) {
        HmCycle cy = { .n = g_rand_int_range(f->random, 2, 4) };
        uint32_t first;

        for (unsigned i = 0; i < cy.n; i++) {
            bool again;

            do {
                cy.block[i] = g_rand_int_range(f->random, 0, BLOCKS);
                again = (i > 0 && cy.block[i] == cy.block[0]) ||
                        (i > 1 && cy.block[i] == cy.block[1]);
            } while (again);
        }
        go(f, &cy);
        first = where[cy.block[0]];
        for (unsigned i = 0; i + 1 < cy.n; i++) {
            where[cy.block[i]] = where[cy.block[i + 1]];
        }
        where[cy.block[cy.n - 1]] = first;
        for (uint32_t b = 0; b < BLOCKS; b++) {
            g_assert_cmpuint(hm_frames_frame_of(f->frames, b), ==, where[b]);
        }
        /* The guest writes on. */
        fill(f, cy.block[0]);
    }
}

/* Every block goes away and home again: as many mappings as before. */
static void test_there_and_back(Fixture *f, gconstpointer advice)
{
    uint64_t before = hm_frames_mappings(f->frames);

    for (uint32_t b = 0; b < 4; b++) {
        go(f, &(HmCycle) { 2, { b, 4 + 2 * b } });
    }
    g_assert_cmpuint(hm_frames_mappings(f->frames), >, before);
    for (uint32_t b = 4; b-- > 0;) {
        go(f, &(HmCycle) { 2, { b, 4 + 2 * b } });
    }
    g_assert_cmpuint(hm_frames_mappings(f->frames), ==, before);
}

/*
 * What goes into persistent memory, and nothing else, goes by its own way:
 * also when it is taken back.  One drain for a batch; none without need.
 */
static void test_pmem(Fixture *f, gconstpointer advice)
{
    hm_remap_drain(&f->remap);
    go(f, &cycles[2]);                  /* two dram extents */
    hm_remap_drain(&f->remap);
    g_assert_cmpuint(inject.plain, ==, 3);
    g_assert_cmpuint(inject.pmem, ==, 0);
    g_assert_cmpuint(inject.drains, ==, 0);

    go(f, &cycles[0]);                  /* dram and nvm */
    g_assert_cmpuint(inject.plain, ==, 5);
    g_assert_cmpuint(inject.pmem, ==, 1);
    go(f, &cycles[3]);                  /* two nvm extents */
    g_assert_cmpuint(inject.plain, ==, 6);
    g_assert_cmpuint(inject.pmem, ==, 3);
    g_assert_cmpuint(f->remap.pmem_copied, ==, 3 * f->block);
    g_assert_cmpuint(inject.drains, ==, 0);
    hm_remap_drain(&f->remap);
    hm_remap_drain(&f->remap);
    g_assert_cmpuint(inject.drains, ==, 1);

    /* Where a block is now counts, not where it was at first. */
    inject.plain = inject.pmem = 0;
    go(f, &(HmCycle) { 2, { 0, 1 } });  /* block 0 is in nvm */
    go(f, &(HmCycle) { 2, { 0, 1 } });
    g_assert_cmpuint(inject.plain, ==, 4);
    g_assert_cmpuint(inject.pmem, ==, 2);

    /* Back home; the second of two mappings fails: both frames get back. */
    go(f, &cycles[0]);
    inject.plain = inject.pmem = 0;
    inject.maps = 0;
    inject.fail_map = 2;
    inject.map_errno = EINVAL;
    g_assert_cmpint(hm_remap_cycle(&f->remap, f->frames, &cycles[0]), ==,
                    HM_MOVE_FAILED);
    g_assert_cmpuint(inject.plain, ==, 3);
    g_assert_cmpuint(inject.pmem, ==, 2);
    assert_all_right(f);
    hm_remap_drain(&f->remap);
    g_assert_cmpuint(inject.drains, ==, 2);
}

/* A copy that failed in the middle has stored something, too. */
static void test_pmem_fails(Fixture *f, gconstpointer advice)
{
    inject.fail_copy = 2;               /* into the frame of block 5 */
    g_assert_cmpint(hm_remap_cycle(&f->remap, f->frames,
                                   &(HmCycle) { 2, { 5, 0 } }), ==,
                    HM_MOVE_FAILED);
    hm_remap_drain(&f->remap);
    g_assert_cmpuint(inject.drains, ==, 1);
    assert_all_right(f);
}

/* --- failures ---------------------------------------------------------- */

static void expect_nothing(Fixture *f, const HmCycle *cy,
                           HmMoveResult expected, int expected_errno)
{
    g_autofree char *before, *after;
    unsigned n;

    before = list_mappings(f, &n);
    inject.copies = inject.maps = 0;
    g_assert_cmpint(hm_remap_cycle(&f->remap, f->frames, cy), ==, expected);
    after = list_mappings(f, &n);
    g_assert_cmpstr(before, ==, after);
    g_assert_nonnull(f->remap.error);
    g_assert_cmpint(f->remap.error_errno, ==, expected_errno);
    g_assert_false(f->remap.broken);
}

static void test_copy_fails(Fixture *f, gconstpointer advice)
{
    for (unsigned i = 0; i < ARRAY_SIZE(cycles); i++) {
        const HmCycle *cy = &cycles[i];
        unsigned at;

        for (at = 1; at <= cy->n + 1; at++) {
            memset(&inject, 0, sizeof(inject));
            inject.fail_copy = at;
            expect_nothing(f, cy, HM_MOVE_FAILED, 0);
            g_assert_cmpuint(inject.copies, >=, at);
            g_assert_cmpuint(inject.maps, ==, 0);
            assert_all_right(f);
        }
        /* All of its copies have been tried: none is left to fail. */
        memset(&inject, 0, sizeof(inject));
        inject.fail_copy = at;
        go(f, cy);
    }
}

static void map_fails(Fixture *f, const HmCycle *cy, int err, bool unmaps)
{
    for (unsigned at = 1; at <= cy->n; at++) {
        memset(&inject, 0, sizeof(inject));
        inject.fail_map = at;
        inject.map_errno = err;
        inject.unmaps = unmaps;
        expect_nothing(f, cy, err == ENOMEM ? HM_MOVE_MAP_LIMIT :
                       HM_MOVE_FAILED, err);
        g_assert_cmpuint(inject.maps, >=, at);
        assert_all_right(f);
    }
}

static void test_map_fails(Fixture *f, gconstpointer advice)
{
    for (unsigned i = 0; i < ARRAY_SIZE(cycles); i++) {
        map_fails(f, &cycles[i], EINVAL, false);
        map_fails(f, &cycles[i], EINVAL, true);
        map_fails(f, &cycles[i], ENOMEM, false);
        map_fails(f, &cycles[i], ENOMEM, true);
        memset(&inject, 0, sizeof(inject));
        go(f, &cycles[i]);
    }
}

static void test_map_back_fails(Fixture *f, gconstpointer advice)
{
    inject.fail_map = 2;
    inject.map_errno = ENOMEM;
    inject.fails_for_good = true;
    g_assert_cmpint(hm_remap_cycle(&f->remap, f->frames, &cycles[0]), !=,
                    HM_MOVE_DONE);
    g_assert_true(f->remap.broken);
    g_assert_cmpint(f->remap.error_errno, ==, ENOMEM);
    /* The other blocks are as they were. */
    for (uint32_t b = 0; b < BLOCKS; b++) {
        g_assert_true(b == 0 || b == 5 || intact(f, b));
    }
}

/* An error of one move is not told of the next. */
static void test_error_is_forgotten(Fixture *f, gconstpointer advice)
{
    inject.fail_map = 1;
    inject.map_errno = EINVAL;
    expect_nothing(f, &cycles[0], HM_MOVE_FAILED, EINVAL);
    memset(&inject, 0, sizeof(inject));
    inject.fail_copy = 2;
    expect_nothing(f, &cycles[0], HM_MOVE_FAILED, 0);
    memset(&inject, 0, sizeof(inject));
    go(f, &cycles[0]);
    g_assert_null(f->remap.error);
}

/* --- memory that the host has lost ------------------------------------- */

static bool can_be_read(Fixture *f, uint32_t block)
{
    return hm_safe_copy(f->remap.buffer, block_at(f, block), f->block);
}

static void test_truncated(Fixture *f, gconstpointer advice)
{
    /* Extent 3 lies at the end of file 1: its last two blocks go. */
    static const HmCycle into_the_loss[] = {
        { 2, { 0, 18 } }, { 2, { 19, 0 } }, { 2, { 18, 19 } },
        { 3, { 1, 18, 5 } }, { 3, { 1, 5, 18 } }, { 3, { 18, 5, 1 } },
    };

    g_assert_cmpint(ftruncate(f->fd[1], (9 + 4) * f->block), ==, 0);
    g_assert_false(can_be_read(f, 18));
    g_assert_false(can_be_read(f, 19));
    for (unsigned i = 0; i < ARRAY_SIZE(into_the_loss); i++) {
        expect_nothing(f, &into_the_loss[i], HM_MOVE_FAILED, 0);
        for (uint32_t b = 0; b < 18; b++) {
            g_assert_true(intact(f, b));
        }
    }
    /* Others move as before. */
    g_assert_cmpint(hm_remap_cycle(&f->remap, f->frames, &cycles[0]), ==,
                    HM_MOVE_DONE);
    for (uint32_t b = 0; b < 18; b++) {
        g_assert_true(intact(f, b));
    }
}

/*
 * The frames of file 1 have no memory yet, and the file system that it lies
 * in is full.  In a mount namespace of its own, so that nobody sees it.
 */
static void full_tmpfs_in_child(const char *dir)
{
    Fixture f = { };
    g_autofree char *path = g_build_filename(dir, "frames", NULL);
    g_autofree char *rest = g_build_filename(dir, "rest", NULL);
    g_autofree char *page = NULL;
    int fd;

    f.fd[1] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(f.fd[1], >=, 0);
    g_assert_cmpint(ftruncate(f.fd[1], FILE_BLOCKS *
                              qemu_real_host_page_size()), ==, 0);
    set_up(&f, GINT_TO_POINTER(-1));
    g_assert_cmpint(fallocate(f.fd[1], FALLOC_FL_PUNCH_HOLE |
                              FALLOC_FL_KEEP_SIZE, first_in_file[3] * f.block,
                              6 * f.block), ==, 0);
    page = g_malloc0(f.block);
    fd = open(rest, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, page, f.block) > 0) {
        /* until it is full */
    }
    g_assert_cmpint(errno, ==, ENOSPC);
    expect_nothing(&f, &(HmCycle) { 2, { 0, 15 } }, HM_MOVE_FAILED, 0);
    expect_nothing(&f, &(HmCycle) { 3, { 0, 5, 15 } }, HM_MOVE_FAILED, 0);
    for (uint32_t b = 0; b < 14; b++) {
        g_assert_true(intact(&f, b));
    }
    /* With room again it works, and what nobody wrote reads as zeroes. */
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    g_assert_cmpint(hm_remap_cycle(&f.remap, f.frames, &(HmCycle)
                                   { 2, { 0, 15 } }), ==, HM_MOVE_DONE);
    g_assert_true(intact(&f, 0));
    g_assert_cmpmem(block_at(&f, 15), f.block, page, f.block);
    close(fd);
    tear_down(&f, NULL);
}

static void test_full_tmpfs(void)
{
    g_autofree char *dir = g_dir_make_tmp("hybridmem-XXXXXX", NULL);
    g_autofree char *options = g_strdup_printf(
        "size=%zu", (FILE_BLOCKS + 8) * qemu_real_host_page_size());
    int status;
    pid_t pid;

    g_assert_nonnull(dir);
    pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
            mount("none", dir, "tmpfs", 0, options)) {
            _exit(77);
        }
        full_tmpfs_in_child(dir);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    rmdir(dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        g_test_skip("a tmpfs cannot be mounted here (needs CAP_SYS_ADMIN)");
        return;
    }
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

/* --- safe-copy --------------------------------------------------------- */

static int signals_with_info, signals_plain;

static void handler_with_info(int sig, siginfo_t *info, void *context)
{
    g_assert_nonnull(info);
    signals_with_info++;
}

static void handler_plain(int sig)
{
    signals_plain++;
}

/* Maps one page of a file that has none. */
static void *lost_page(void)
{
    int fd = make_file("lost", 0);
    void *p = mmap(NULL, qemu_real_host_page_size(), PROT_READ | PROT_WRITE,
                   MAP_SHARED, fd, 0);

    g_assert_true(p != MAP_FAILED);
    close(fd);
    return p;
}

static void copy_both_ways(bool (*copy_)(void *, const void *, size_t))
{
    size_t page = qemu_real_host_page_size();
    g_autofree char *a = g_malloc(page), *b = g_malloc0(page);
    void *lost = lost_page();

    hm_safe_copy_init();
    memset(a, 'x', page);
    for (int i = 0; i < 100; i++) {
        g_assert_false(copy_(a, lost, page));
        g_assert_false(copy_(lost, a, page));
        memset(b, 0, page);
        g_assert_true(copy_(b, a, page));
        hm_safe_copy_drain();
        g_assert_cmpmem(a, page, b, page);
    }
    munmap(lost, page);
}

static void test_copy_both_ways(void)
{
    copy_both_ways(hm_safe_copy);
}

/* Its own loops are left by the signal's jump as well. */
static void test_pmem_both_ways(void)
{
    copy_both_ways(hm_safe_copy_pmem);
    if (!hm_safe_copy_has_pmem()) {
        g_test_skip("this QEMU was built without libpmem");
    }
}

static void *copy_in_thread(void *lost)
{
    size_t page = qemu_real_host_page_size();
    g_autofree char *a = g_malloc0(page), *b = g_malloc0(page);
    unsigned bad = 0;

    for (int i = 0; i < 2000; i++) {
        bad += hm_safe_copy(a, lost, page) || !hm_safe_copy(b, a, page);
    }
    return GUINT_TO_POINTER(bad);
}

static void test_copy_in_threads(void)
{
    void *lost = lost_page();
    GThread *t[4];

    hm_safe_copy_init();
    for (int i = 0; i < ARRAY_SIZE(t); i++) {
        t[i] = g_thread_new("copy", copy_in_thread, lost);
    }
    for (int i = 0; i < ARRAY_SIZE(t); i++) {
        g_assert_cmpuint(GPOINTER_TO_UINT(g_thread_join(t[i])), ==, 0);
    }
    munmap(lost, qemu_real_host_page_size());
}

static void install(const struct sigaction *act)
{
    g_assert_cmpint(sigaction(SIGBUS, act, NULL), ==, 0);
    hm_safe_copy_init();
    hm_safe_copy_init();        /* does not chain to itself */
}

/* What is not ours goes to who was there before; copies never do. */
static void test_chain(void)
{
    struct sigaction with_info = {
        .sa_sigaction = handler_with_info,
        .sa_flags = SA_SIGINFO,
    };
    struct sigaction plain = { .sa_handler = handler_plain };
    void *lost = lost_page();
    char byte;

    install(&with_info);
    raise(SIGBUS);
    g_assert_cmpint(signals_with_info, ==, 1);
    g_assert_false(hm_safe_copy(&byte, lost, 1));
    raise(SIGBUS);
    g_assert_cmpint(signals_with_info, ==, 2);

    install(&plain);
    raise(SIGBUS);
    g_assert_cmpint(signals_plain, ==, 1);
    g_assert_false(hm_safe_copy(&byte, lost, 1));
    g_assert_cmpint(signals_plain, ==, 1);
    g_assert_cmpint(signals_with_info, ==, 2);
    munmap(lost, qemu_real_host_page_size());
}

static void test_chain_default(void)
{
    struct sigaction none = { .sa_handler = SIG_DFL };
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        install(&none);
        raise(SIGBUS);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGBUS);
}

static void add(const char *name, int advice,
                void (*test)(Fixture *f, gconstpointer advice))
{
    g_autofree char *path = g_strdup_printf("/hybridmem/mover/%s", name);

    g_test_add(path, Fixture, GINT_TO_POINTER(advice), set_up, test,
               tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("cycles", -1, test_cycles);
    add("cycles-dontdump", MADV_DONTDUMP, test_cycles);
    add("random", -1, test_random);
    add("random-dontdump", MADV_DONTDUMP, test_random);
    add("there-and-back", -1, test_there_and_back);
    add("pmem", -1, test_pmem);
    add("pmem-fails", -1, test_pmem_fails);
    add("copy-fails", -1, test_copy_fails);
    add("map-fails", -1, test_map_fails);
    add("map-back-fails", -1, test_map_back_fails);
    add("error-is-forgotten", -1, test_error_is_forgotten);
    add("truncated", -1, test_truncated);
    g_test_add_func("/hybridmem/mover/full-tmpfs", test_full_tmpfs);
    g_test_add_func("/hybridmem/safe-copy/both-ways", test_copy_both_ways);
    g_test_add_func("/hybridmem/safe-copy/pmem", test_pmem_both_ways);
    g_test_add_func("/hybridmem/safe-copy/threads", test_copy_in_threads);
    g_test_add_func("/hybridmem/safe-copy/chain", test_chain);
    g_test_add_func("/hybridmem/safe-copy/chain-default", test_chain_default);
    return g_test_run();
}
