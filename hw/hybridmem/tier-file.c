/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening, checking, locking and clearing a range of a device or file.
 */
#include "qemu/osdep.h"
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/memfd.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "hw/hybridmem/safe-copy.h"
#include "hw/hybridmem/tier-file.h"
#include "trace.h"

#ifdef CONFIG_LIBPMEM
#include <libpmem.h>
#endif

#define DEV_MEM "/dev/mem"

/* A number from a file in sysfs about the character device @st. */
static bool sysfs_number(const struct stat *st, const char *name,
                         uint64_t *value)
{
    g_autofree char *path = g_strdup_printf("/sys/dev/char/%u:%u/%s",
                                            major(st->st_rdev),
                                            minor(st->st_rdev), name);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) &&
           !qemu_strtou64(g_strstrip(text), NULL, 0, value);
}

static bool is_devdax(const struct stat *st)
{
    g_autofree char *path = g_strdup_printf("/sys/dev/char/%u:%u/subsystem",
                                            major(st->st_rdev),
                                            minor(st->st_rdev));
    g_autofree char *target = g_file_read_link(path, NULL);

    return target && g_str_has_suffix(target, "/dax");
}

static bool is_dev_mem(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && major(st->st_rdev) == 1 &&
           minor(st->st_rdev) == 1;
}

/*
 * The host would not survive a guest in its own memory.  That stands at any
 * depth of /proc/iomem: what dax_kmem has onlined lies below its device, as
 * "System RAM (kmem)".  Who may not see the addresses reads zeroes.
 */
static bool iomem_allows(uint64_t start, uint64_t size, Error **errp)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int i;

    if (!g_file_get_contents("/proc/iomem", &text, NULL, NULL)) {
        error_setg(errp, "cannot read /proc/iomem to see whether the range"
                   " of " DEV_MEM " is free");
        return false;
    }
    lines = g_strsplit(text, "\n", -1);
    for (i = 0; lines[i]; i++) {
        uint64_t from, to;

        if (!strstr(lines[i], " : System RAM") ||
            sscanf(lines[i], "%" SCNx64 "-%" SCNx64, &from, &to) != 2) {
            continue;
        }
        if (!to) {
            error_setg(errp, "/proc/iomem hides its addresses, so that a range"
                       " of " DEV_MEM " cannot be checked: QEMU needs"
                       " CAP_SYS_ADMIN for it");
            return false;
        }
        if (from < start + size && start <= to) {
            error_setg(errp, "phy-offset=0x%" PRIx64 ",size=0x%" PRIx64
                       " of " DEV_MEM " is RAM that the host uses"
                       " (0x%" PRIx64 "-0x%" PRIx64 " in /proc/iomem)",
                       start, size, from, to);
            error_append_hint(errp, "Reserve it with memmap=%" PRIu64
                              "K$0x%" PRIx64 " on the kernel's command"
                              " line, or give mem-path=\n", size / KiB, start);
            return false;
        }
    }
    return true;
}

static int open_unnamed(const char *dir, Error **errp)
{
    g_autofree char *name = g_build_filename(dir, "hybridmem.XXXXXX", NULL);
    int fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot make a file in mem-path=%s",
                         dir);
        return -1;
    }
    unlink(name);
    return fd;
}

/* Not a file in the place of a device that is missing. */
static bool may_make(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    struct stat st, dev;

    return stat(dir, &st) == 0 &&
           (stat("/dev", &dev) || st.st_dev != dev.st_dev);
}

static int open_path(const char *path, uint64_t end, bool *is_new,
                     Error **errp)
{
    int fd;

    if (g_str_equal(path, "memfd")) {
        *is_new = true;
        return qemu_memfd_create("hybridmem", end, false, 0, 0, errp);
    }
    if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
        *is_new = true;
        return open_unnamed(path, errp);
    }
    fd = qemu_open_old(path, O_RDWR);
    if (fd < 0 && errno == ENOENT && may_make(path)) {
        fd = qemu_open_old(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        *is_new = fd >= 0;
    }
    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot open mem-path=%s for reading"
                         " and writing", path);
        if (errno == EACCES || errno == EPERM) {
            error_append_hint(errp, "Give the user of QEMU access to it;"
                              " " DEV_MEM " needs root (CAP_SYS_RAWIO)\n");
        }
        if (g_str_equal(path, DEV_MEM)) {
            error_append_hint(errp, DEV_MEM " is what is mapped without"
                              " mem-path=\n");
        }
    }
    return fd;
}

static bool check_alignment(const HmTierFile *f, const char *path,
                            Error **errp)
{
    if (QEMU_IS_ALIGNED(f->offset, f->align) &&
        QEMU_IS_ALIGNED(f->size, f->align)) {
        return true;
    }
    error_setg(errp, "phy-offset=0x%" PRIx64 " and size=0x%" PRIx64 " must be"
               " multiples of 0x%" PRIx64 ", the page size of mem-path=%s",
               f->offset, f->size, f->align, path);
    return false;
}

static bool size_regular(HmTierFile *f, const struct stat *st,
                         const char *path, uint64_t end, Error **errp)
{
    struct statfs fs;

    f->mergeable = true;
    f->can_punch = true;
    if (fstatfs(f->fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC) {
        f->align = fs.f_bsize;
    }
    if (!check_alignment(f, path, errp)) {
        return false;
    }
    if (st->st_size < end && ftruncate(f->fd, end)) {
        error_setg_errno(errp, errno, "cannot make mem-path=%s %" PRIu64
                         " bytes long", path, end);
        return false;
    }
    return true;
}

static bool size_device(HmTierFile *f, const struct stat *st,
                        const char *path, uint64_t end, Error **errp)
{
    uint64_t size;

    if (is_dev_mem(st)) {
        f->mergeable = false;
        return iomem_allows(f->offset, f->size, errp);
    }
    if (!is_devdax(st)) {
        error_setg(errp, "mem-path=%s is a character device, but neither "
                   DEV_MEM " nor a devdax device", path);
        return false;
    }
    f->mergeable = true;
    if (!sysfs_number(st, "align", &f->align)) {
        sysfs_number(st, "device/align", &f->align);    /* before 5.1 */
    }
    if (sysfs_number(st, "size", &size) && end > size) {
        error_setg(errp, "phy-offset=0x%" PRIx64 ",size=0x%" PRIx64 " ends"
                   " beyond mem-path=%s of size 0x%" PRIx64, f->offset,
                   f->size, path, size);
        return false;
    }
    return true;
}

static bool check_range(HmTierFile *f, const char *path, Error **errp)
{
    uint64_t end = f->offset + f->size;
    struct stat st;

    if (fstat(f->fd, &st)) {
        error_setg_errno(errp, errno, "cannot stat mem-path=%s", path);
        return false;
    }
    if (S_ISREG(st.st_mode)) {
        if (!size_regular(f, &st, path, end, errp)) {
            return false;
        }
    } else if (S_ISCHR(st.st_mode)) {
        if (!size_device(f, &st, path, end, errp)) {
            return false;
        }
    } else {
        error_setg(errp, "mem-path=%s is neither a file nor a folder nor a"
                   " character device", path);
        return false;
    }
    return check_alignment(f, path, errp);
}

/* Two VMs in one range would read and write each other's memory. */
static bool lock_range(HmTierFile *f, const char *path, Error **errp)
{
    struct flock fl = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = f->offset,
        .l_len = f->size,
    };

    if (fcntl(f->fd, F_OFD_SETLK, &fl) == 0) {
        return true;
    }
    if (errno == EAGAIN || errno == EACCES) {
        error_setg(errp, "phy-offset=0x%" PRIx64 ",size=0x%" PRIx64 " of"
                   " mem-path=%s is in use already, by this or another QEMU",
                   f->offset, f->size, path);
        return false;
    }
    warn_report("cannot lock mem-path=%s: %s", path, strerror(errno));
    return true;
}

/*
 * Who sets PMEM_IS_PMEM_FORCE=1 wants libpmem on any file: on what is surely
 * no persistent memory, libpmem says yes only then.
 */
static bool pmem_is_forced(HmTierFile *f)
{
#ifdef CONFIG_LIBPMEM
    return pmem_is_pmem(f, sizeof(*f));
#else
    return false;
#endif
}

/*
 * Only a DAX file can be mapped with MAP_SYNC, which the kernel guarantees for
 * MAP_SHARED_VALIDATE; kernels before 4.15 know neither, and refuse.  With
 * it, stores that libpmem has drained last, the file's own blocks included.
 * Any other failure is met again by who maps the range, and told of there.
 */
static void find_dax(HmTierFile *f, const char *path)
{
    int flags = MAP_SHARED_VALIDATE | MAP_SYNC;
    void *host = mmap(NULL, f->align, PROT_READ | PROT_WRITE, flags, f->fd,
                      f->offset);

    f->dax = host != MAP_FAILED;
    if (f->dax) {
        munmap(host, f->align);
        f->map_flags = flags;
    }
    f->pmem = hm_safe_copy_has_pmem() && (f->dax || pmem_is_forced(f));
    trace_hybridmem_tier_file(path, f->dax, f->pmem);
}

bool hm_tier_file_open(HmTierFile *f, const char *path, uint64_t offset,
                       uint64_t size, Error **errp)
{
    *f = (HmTierFile) {
        .fd = -1,
        .offset = offset,
        .size = size,
        .align = qemu_real_host_page_size(),
        .map_flags = MAP_SHARED,
    };
    if (offset > INT64_MAX || size > INT64_MAX - offset) {
        error_setg(errp, "phy-offset=0x%" PRIx64 ",size=0x%" PRIx64
                   " ends beyond what a file can hold", offset, size);
        return false;
    }
    f->fd = open_path(path, offset + size, &f->is_new, errp);
    if (f->fd < 0) {
        f->fd = -1;
        return false;
    }
    if (!check_range(f, path, errp) || !lock_range(f, path, errp)) {
        hm_tier_file_close(f);
        return false;
    }
    find_dax(f, path);
    return true;
}

void hm_tier_file_close(HmTierFile *f)
{
    if (f->fd >= 0) {
        close(f->fd);
        f->fd = -1;
    }
}

/* Clearing by hand: threads take chunks until none is left. */

#define CLEAR_CHUNK (64 * MiB)
#define CLEAR_THREADS 8             /* more do not help one memory bus */
#define PROGRESS_MS 2000

typedef struct Clearing {
    uint8_t *host;
    uint64_t size;
    uint64_t next;                  /* atomic */
    uint64_t done;                  /* atomic */
} Clearing;

static void *clear_thread(void *opaque)
{
    Clearing *c = opaque;

    for (;;) {
        uint64_t at = qatomic_fetch_add(&c->next, CLEAR_CHUNK);
        uint64_t len;

        if (at >= c->size) {
            return NULL;
        }
        len = MIN(CLEAR_CHUNK, c->size - at);
        memset(c->host + at, 0, len);
        qatomic_fetch_add(&c->done, len);
    }
}

static void show_progress(Clearing *c, const char *path)
{
    int64_t shown = g_get_monotonic_time();

    while (qatomic_read(&c->done) < c->size) {
        g_usleep(10 * 1000);
        if (g_get_monotonic_time() - shown >= PROGRESS_MS * 1000) {
            shown = g_get_monotonic_time();
            info_report("clearing %s: %" PRIu64 " of %" PRIu64 " MiB", path,
                        qatomic_read(&c->done) / (uint64_t)MiB,
                        c->size / (uint64_t)MiB);
        }
    }
}

static void clear_by_hand(void *host, uint64_t size, const char *path)
{
    Clearing c = { .host = host, .size = size };
    unsigned n = MIN(CLEAR_THREADS, MIN(g_get_num_processors(),
                                        DIV_ROUND_UP(size, CLEAR_CHUNK)));
    QemuThread threads[CLEAR_THREADS];
    unsigned i;

    for (i = 0; i < n; i++) {
        qemu_thread_create(&threads[i], "hm-clear", clear_thread, &c,
                           QEMU_THREAD_JOINABLE);
    }
    show_progress(&c, path);
    for (i = 0; i < n; i++) {
        qemu_thread_join(&threads[i]);
    }
}

bool hm_tier_file_clear(HmTierFile *f, const char *path, void *host,
                        Error **errp)
{
    if (f->is_new) {
        return true;
    }
    if (f->can_punch &&
        fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  f->offset, f->size) == 0) {
        return true;
    }
    clear_by_hand(host, f->size, path);
    return true;
}
