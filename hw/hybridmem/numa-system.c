/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of numa.h by the host's kernel: system calls and sysfs.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/hybridmem/numa.h"
#ifdef CONFIG_NUMA
#include <numaif.h>
#endif

#ifdef CONFIG_NUMA

static long system_move_pages(unsigned long count, void **pages,
                              const int *nodes, int *status, int flags)
{
    long ret = move_pages(0, count, pages, nodes, status, flags);

    return ret < 0 ? -errno : ret;
}

static int system_mbind(void *addr, size_t len, int mode, const HmNodes *nodes,
                        unsigned flags)
{
    /* The kernel takes one off the number of bits. */
    return mbind(addr, len, mode, nodes ? nodes->bits : NULL,
                 nodes ? HM_NUMA_NODES + 1 : 0, flags) ? -errno : 0;
}

/* A small file of @node's in sysfs; what matters stands in front. */
static int node_text(int node, const char *name, char *text, size_t size)
{
    g_autofree char *path = g_strdup_printf("/sys/devices/system/node/node%d/"
                                            "%s", node, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    if (fd < 0) {
        return -errno;
    }
    len = read(fd, text, size - 1);
    if (len < 0) {
        len = -errno;
        close(fd);
        return len;
    }
    close(fd);
    text[len] = 0;
    return 0;
}

/* What stands behind @key. */
static int64_t number_behind(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    uint64_t value;

    if (!at || qemu_strtou64(at + strlen(key), &at, 10, &value) ||
        value > INT64_MAX / KiB) {
        return -EIO;
    }
    return value;
}

static int64_t system_node_size(int node)
{
    char text[8192];
    int64_t kib = node_text(node, "meminfo", text, sizeof(text));

    kib = kib < 0 ? kib : number_behind(text, "MemTotal:");
    return kib > 0 ? kib * KiB : kib ?: -ENODEV;
}

/*
 * Free, and half of the files' pages that have not been used lately and are
 * clean: Linux fills what is free with them, and for a move it drops some.
 */
static int64_t free_for_moves(const char *text)
{
    int64_t kib = number_behind(text, "MemFree:");
    int64_t cache = number_behind(text, "Inactive(file):");
    int64_t dirty = number_behind(text, "Dirty:");
    int64_t under_way = number_behind(text, "Writeback:");

    if (kib < 0) {
        return kib;
    }
    if (cache > 0 && dirty >= 0 && under_way >= 0) {
        kib += MAX(cache - dirty - under_way, 0) / 2;
    }
    return kib * KiB;
}

static int64_t system_node_free(int node, size_t page_size)
{
    g_autofree char *name = NULL;
    char text[8192];
    int64_t number;
    int ret;

    if (page_size <= qemu_real_host_page_size()) {
        ret = node_text(node, "meminfo", text, sizeof(text));
        return ret < 0 ? ret : free_for_moves(text);
    }
    name = g_strdup_printf("hugepages/hugepages-%zukB/free_hugepages",
                           page_size / 1024);
    ret = node_text(node, name, text, sizeof(text));
    number = ret < 0 ? ret : number_behind(text, "");
    return number < 0 ? number : number * page_size;
}

static void system_allowed(HmNodes *nodes)
{
    /* As many as any kernel is built for: it wants room for all. */
    unsigned long all[1024 / BITS_PER_LONG] = { 0 };

    if (get_mempolicy(NULL, all, 1024 + 1, NULL, MPOL_F_MEMS_ALLOWED)) {
        /* Forbidden to ask: let the move tell. */
        memset(nodes, 0xff, sizeof(*nodes));
        return;
    }
    memcpy(nodes->bits, all, sizeof(nodes->bits));
}

/* Present and not a hole, in an entry of pagemap. */
#define PAGEMAP_PRESENT (1ULL << 63)
/* As in asm-generic/mman-common.h, since Linux 5.14. */
#define ADVICE_POPULATE_READ 22

static bool system_touch(void *addr, size_t len)
{
    size_t page = qemu_real_host_page_size(), n = len / page, end;
    g_autofree uint64_t *entry = g_new0(uint64_t, n);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool any = false;

    if (fd < 0) {
        warn_report_once("hybridmem: /proc/self/pagemap cannot be read: %s;"
                         " pages that NUMA balancing has marked are taken for"
                         " absent, and more than fast-size may lie on fast"
                         " nodes (AppArmor: see docs/libvirt)",
                         strerror(errno));
        return false;
    }
    if (pread(fd, entry, n * sizeof(*entry), (uintptr_t)addr / page *
              sizeof(*entry)) < 0) {
        n = 0;
    }
    close(fd);
    for (size_t i = 0; i < n; i = end) {
        bool present = entry[i] & PAGEMAP_PRESENT;

        for (end = i + 1; end < n &&
             present == !!(entry[end] & PAGEMAP_PRESENT); end++) {
            /* all that are alike */
        }
        any |= present && madvise((uint8_t *)addr + i * page, (end - i) * page,
                                  ADVICE_POPULATE_READ) == 0;
    }
    return any;
}

static const HmNumaOps system_ops = {
    .move_pages = system_move_pages,
    .mbind = system_mbind,
    .node_free = system_node_free,
    .node_size = system_node_size,
    .allowed = system_allowed,
    .touch = system_touch,
};

const HmNumaOps *const hm_numa_system_ops = &system_ops;

#else

const HmNumaOps *const hm_numa_system_ops;

#endif
