/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hw/hybridmem/access-sampler.c sees of each kind of mapping, by accesses
 * of this process (as those of a TCG guest are) and of a guest of real KVM.
 *
 *   HM_ACCESS_RAM=memfd|FILE|private|private-thp|private-hugetlb   (memfd)
 *   HM_ACCESS_KVM=1
 *   HM_ACCESS_LOG=1        by the log of KVM, if it can be
 *   HM_ACCESS_SKEW=1       at an address that no huge page can be mapped at
 *
 * Messages "figure NAME BYTES" tell how much is seen of a single access, and
 * how much KVM has lost elsewhere.
 */
#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "hw/hybridmem/access-sampler.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

#define PAGE 4096
#define UNIT (2 * MiB / PAGE)       /* nothing is seen farther away */
#define PAGES (64 * MiB / PAGE)
#define ACCESSES 16
#define CODE_AT 0x10000000          /* guest-physical, of the program */

typedef struct Kvm {
    int vm, vcpu;
    struct kvm_run *run;
} Kvm;

typedef struct Case {
    bool by_kvm, store, fine;
} Case;

static uint8_t *ram;
static Kvm kvm = { -1, -1 };

static uint64_t *word(uint64_t page)
{
    return (uint64_t *)(ram + page * PAGE);
}

static uint64_t content(uint64_t page)
{
    return page * 0x9e3779b97f4a7c15ull + 1;
}

/* -- Memory ---------------------------------------------------------------- */

static int open_ram(const char *kind, int *flags)
{
    int fd = -1;

    if (g_str_has_prefix(kind, "private")) {
        *flags = MAP_PRIVATE | MAP_ANONYMOUS;
        if (g_str_equal(kind, "private-hugetlb")) {
            *flags |= MAP_HUGETLB | MAP_HUGE_2MB;
        }
        return -1;
    }
    *flags = MAP_SHARED;
    if (g_str_equal(kind, "memfd")) {
        fd = memfd_create("ram", MFD_CLOEXEC);
    } else {
        fd = open(kind, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    g_assert_cmpint(fd, >=, 0);
    /* A device has its size. */
    g_assert_true(ftruncate(fd, PAGES * PAGE) == 0 || errno == EINVAL);
    return fd;
}

static void map_ram(const char *kind)
{
    size_t size = PAGES * PAGE;
    int flags, fd = open_ram(kind, &flags);
    uint8_t *room = mmap(NULL, size + 2 * MiB, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert_true(room != MAP_FAILED);
    ram = QEMU_ALIGN_PTR_UP(room, 2 * MiB);
    ram += getenv("HM_ACCESS_SKEW") ? PAGE : 0;
    g_assert_true(mmap(ram, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
                       fd, 0) == ram);
    if (g_str_equal(kind, "private-thp")) {
        g_assert_cmpint(madvise(ram, size, MADV_HUGEPAGE), ==, 0);
    }
    for (uint64_t p = 0; p < PAGES; p++) {
        *word(p) = content(p);
    }
}

/* -- A guest that knows one load and one store ----------------------------- */

/* test esi,esi; jnz 1f; mov eax,[ebx]; hlt; 1: mov [ebx],edi; hlt */
static const uint8_t program[] = {
    0x85, 0xf6, 0x75, 0x03, 0x8b, 0x03, 0xf4, 0x89, 0x3b, 0xf4,
};

static void slot(unsigned id, uint64_t at, void *host, uint64_t size,
                 unsigned flags)
{
    struct kvm_userspace_memory_region r = {
        id, flags, at, size, (uintptr_t)host,
    };

    g_assert_cmpint(ioctl(kvm.vm, KVM_SET_USER_MEMORY_REGION, &r), ==, 0);
}

static void log_writes(bool on)
{
    slot(0, 0, ram, PAGES * PAGE, on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

static void take_log(unsigned long *dirty)
{
    struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = dirty };

    g_assert_cmpint(ioctl(kvm.vm, KVM_GET_DIRTY_LOG, &log), ==, 0);
}

/* Protected mode without paging: all segments are all of memory. */
static void set_up_segments(void)
{
    struct kvm_segment all = {
        .limit = UINT32_MAX, .selector = 16, .present = 1, .type = 3,
        .db = 1, .s = 1, .g = 1,
    };
    struct kvm_sregs s;

    g_assert_cmpint(ioctl(kvm.vcpu, KVM_GET_SREGS, &s), ==, 0);
    s.cr0 |= 1;
    s.ds = s.es = s.fs = s.gs = s.ss = s.cs = all;
    s.cs.type = 11;
    s.cs.selector = 8;
    g_assert_cmpint(ioctl(kvm.vcpu, KVM_SET_SREGS, &s), ==, 0);
}

static void start_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    void *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_cmpint(fd, >=, 0);
    memcpy(code, program, sizeof(program));
    kvm.vm = ioctl(fd, KVM_CREATE_VM, 0);
    g_assert_cmpint(kvm.vm, >=, 0);
    log_writes(false);
    slot(1, CODE_AT, code, PAGE, 0);
    kvm.vcpu = ioctl(kvm.vm, KVM_CREATE_VCPU, 0);
    g_assert_cmpint(kvm.vcpu, >=, 0);
    kvm.run = mmap(NULL, ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0),
                   PROT_READ | PROT_WRITE, MAP_SHARED, kvm.vcpu, 0);
    g_assert_true(kvm.run != MAP_FAILED);
    set_up_segments();
}

/* A load returns what it has found. */
static uint32_t guest_access(uint32_t address, bool store, uint32_t value)
{
    struct kvm_regs r = {
        .rip = CODE_AT, .rflags = 2, .rbx = address, .rsi = store,
        .rdi = value,
    };

    g_assert_cmpint(ioctl(kvm.vcpu, KVM_SET_REGS, &r), ==, 0);
    g_assert_cmpint(ioctl(kvm.vcpu, KVM_RUN, 0), ==, 0);
    g_assert_cmpint(kvm.run->exit_reason, ==, KVM_EXIT_HLT);
    g_assert_cmpint(ioctl(kvm.vcpu, KVM_GET_REGS, &r), ==, 0);
    return r.rax;
}

/* -- Windows --------------------------------------------------------------- */

/* Far enough from each other that no two are seen as one. */
static uint64_t accessed(unsigned i)
{
    return i * (PAGES / ACCESSES) + 100 + i;
}

static void touch(const Case *c, uint64_t page)
{
    if (c->by_kvm) {
        uint32_t found = guest_access(page * PAGE + (c->store ? 8 : 0),
                                      c->store, page);

        g_assert_true(c->store || found == (uint32_t)content(page));
    } else if (c->store) {
        qatomic_set(&word(page)[1], page);
    } else {
        g_assert_cmphex(qatomic_read(&word(page)[0]), ==, content(page));
    }
}

/* So that there is something to lose. */
static void touch_all(const Case *c)
{
    for (uint64_t p = 0; p < PAGES; p++) {
        touch(&(Case) { c->by_kvm, true, false }, p);
    }
}

static uint64_t window(const Case *c, HmAccessSampler *s)
{
    g_autofree unsigned long *seen = bitmap_new(PAGES);
    bool by_log = hm_access_sampler_by_log(s);
    uint32_t block[PAGES / UNIT];
    const char *why;
    uint64_t n;

    for (uint32_t b = 0; b < G_N_ELEMENTS(block); b++) {
        block[b] = b;
    }
    if (by_log) {
        log_writes(true);
        take_log(seen);
    }
    g_assert_true(hm_access_sampler_start(s, block, G_N_ELEMENTS(block), true,
                                          &why));
    for (unsigned i = 0; i < ACCESSES; i++) {
        touch(c, accessed(i));
    }
    bitmap_zero(seen, PAGES);
    if (by_log) {
        take_log(seen);
        log_writes(false);
    }
    hm_access_sampler_read(s, block, G_N_ELEMENTS(block), false, seen);
    n = bitmap_count_one(seen, PAGES);
    for (unsigned i = 0; i < ACCESSES; i++) {
        uint64_t at = accessed(i);

        g_assert_true(test_bit(at, seen));
        bitmap_clear(seen, at / UNIT * UNIT, UNIT);
    }
    g_assert_cmpuint(find_first_bit(seen, PAGES), ==, PAGES);
    return n * PAGE / ACCESSES;
}

/* How much of what was not watched KVM has no entries of, after a window. */
static uint64_t lost(const Case *c, HmAccessSampler *s)
{
    g_autofree unsigned long *log = bitmap_new(PAGES);
    const uint32_t watched = 0;
    const char *why;

    log_writes(true);
    touch_all(c);
    take_log(log);
    g_assert_true(hm_access_sampler_start(s, &watched, 1, true, &why));
    hm_access_sampler_read(s, &watched, 1, true, log);
    take_log(log);
    bitmap_zero(log, PAGES);
    for (uint64_t p = UNIT; p < PAGES; p++) {
        touch(&(Case) { c->by_kvm, false, false }, p);
    }
    take_log(log);
    log_writes(false);
    return bitmap_count_one(log, PAGES) * PAGE;
}

static uint64_t host_page(void)
{
    const char *kind = getenv("HM_ACCESS_RAM") ?: "memfd";
    struct statfs fs;

    return g_str_equal(kind, "private-hugetlb") ? 2 * MiB :
           statfs(kind, &fs) == 0 && fs.f_type == 0x958458f6 ? fs.f_bsize :
           PAGE;
}

static HmAccessLog what_to_log(const Case *c)
{
    return !c->by_kvm ? HM_ACCESS_LOG_NOTHING :
           getenv("HM_ACCESS_LOG") ? HM_ACCESS_LOG_ALL :
           HM_ACCESS_LOG_PRIVATE;
}

static void test_window(const void *opaque)
{
    const Case *c = opaque;
    const char *why;
    HmAccessSampler *s = hm_access_sampler_new(ram, PAGES * PAGE, PAGE,
                                               host_page(), UNIT,
                                               what_to_log(c), &why);

    if (!s) {
        g_assert_nonnull(strstr(why, "private"));
        g_assert_false(c->by_kvm);
        g_test_skip(why);
        return;
    }
    if (hm_access_sampler_by_log(s) && !c->fine) {
        g_test_skip("there is nothing without the userfaultfd");
    } else {
        hm_access_sampler_fine(s, c->fine);
        touch_all(c);
        g_test_message("figure %s_%s%s %" PRIu64, c->by_kvm ? "kvm" : "self",
                       c->store ? "store" : "load", c->fine ? "" : "_around",
                       window(c, s));
        if (c->by_kvm && c->fine && !c->store) {
            g_test_message("figure kvm_lost %" PRIu64, lost(c, s));
        }
    }
    for (uint64_t p = 0; p < PAGES; p++) {
        g_assert_cmphex(*word(p), ==, content(p));
    }
    hm_access_sampler_free(s);
}

static void add_cases(bool by_kvm)
{
    for (unsigned i = 0; i < 4; i++) {
        Case *c = g_new(Case, 1);
        g_autofree char *name = NULL;

        *c = (Case) { by_kvm, i & 1, i & 2 };
        name = g_strdup_printf("/hybridmem/access-kinds/%s/%s/%s",
                               by_kvm ? "kvm" : "self",
                               c->store ? "store" : "load",
                               c->fine ? "fine" : "around");
        g_test_add_data_func_full(name, c, test_window, g_free);
    }
}

int main(int argc, char **argv)
{
    const char *kind = getenv("HM_ACCESS_RAM") ?: "memfd";

    g_test_init(&argc, &argv, NULL);
    if (qemu_real_host_page_size() != PAGE) {
        g_test_message("pages are not of 4 KiB here");
        return 0;
    }
    map_ram(kind);
    add_cases(false);
    if (getenv("HM_ACCESS_KVM")) {
        start_kvm();
        add_cases(true);
    }
    return g_test_run();
}
