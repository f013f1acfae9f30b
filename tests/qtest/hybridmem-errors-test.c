/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of what hybrid memory refuses: each configuration that cannot work
 * ends QEMU before the guest starts, with a text that has the option, the
 * value and the way out.
 */
#include "qemu/osdep.h"
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/mount.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include "hybridmem-util.h"

/* A QEMU that has not refused by then runs. */
#define PATIENCE_MS (60 * 1000)

#define BASE "-nodefaults -machine q35 -m 16M "
#define USED "-machine memory-backend=con "
#define CONTAINER "-object memory-backend-container,id=con,size=16M"
#define CHILD "-object memory-backend-devmem,parent=con,id="
#define MEMFD ",mem-path=memfd "
#define RAM "-object memory-backend-ram,id=r,size=16M " \
    "-machine memory-backend=r "
#define NUMA "-object hybridmem,id=hm0,memdev=r,fast-nodes=0,slow-nodes=127"
/* A whole one. */
#define WHOLE CONTAINER " " CHILD "a,size=4M" MEMFD \
              CHILD "b,size=12M,offset=4M" MEMFD

/* Root, too, must obey permissions then. */
static void obey_permissions(gpointer opaque)
{
    prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
    prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0);
}

/* Its last words; NULL if it ended well, or not in time. */
static char *last_words(const char *args, bool obeying)
{
    g_autofree char *line = g_strdup_printf(
        "%s -display none -audio none -accel qtest -S -monitor none "
        "-serial none %s", getenv("QTEST_QEMU_BINARY"), args);
    g_auto(GStrv) argv = NULL;
    GString *text = g_string_new(NULL);
    GError *err = NULL;
    int status, fd;
    GPid pid;

    g_assert_true(g_shell_parse_argv(line, NULL, &argv, &err));
    g_assert_true(g_spawn_async_with_pipes(
        NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH,
        obeying ? obey_permissions : NULL, NULL, &pid, NULL, NULL, &fd, &err));
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char buf[4096];
        ssize_t n;

        if (poll(&p, 1, PATIENCE_MS) <= 0) {
            g_test_message("still running: %s", line);
            kill(pid, SIGKILL);
            break;
        }
        n = read(fd, buf, sizeof(buf));
        if (n <= 0) {
            break;
        }
        g_string_append_len(text, buf, n);
    }
    close(fd);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 0) {
        g_printerr("accepted, or killed (status 0x%x): %s\n%s\n", status,
                   line, text->str);
        g_string_free(text, true);
        return NULL;
    }
    return g_string_free(text, false);
}

/* @parts: what the text must have, separated by '|'. */
static void refused_as(const char *args, const char *parts, bool obeying)
{
    g_autofree char *text = last_words(args, obeying);
    g_auto(GStrv) part = g_strsplit(parts, "|", -1);

    g_assert_nonnull(text);
    g_test_message("%s", text);
    for (unsigned i = 0; part[i]; i++) {
        hmt_assert_in(text, part[i]);
    }
}

static void refused(const char *args, const char *parts)
{
    refused_as(args, parts, false);
}

/* Cases that are only arguments and the text that must come. */
typedef struct Case {
    const char *name, *args, *parts;
} Case;

static const Case cases[] = {
    /* geometry */
    { "overlap", CONTAINER " " CHILD "a,size=8M" MEMFD
      CHILD "b,size=12M,offset=4M" MEMFD USED,
      "'b' with offset=0x400000,size=0xc00000 overlaps 'a' with offset=0x0,"
      "size=0x800000 in 'con'" },
    { "hole", CONTAINER " " CHILD "a,size=4M" MEMFD
      CHILD "b,size=8M,offset=8M" MEMFD USED,
      "'con' leave a hole|0x400000 to 0x800000|Add -object "
      "memory-backend-devmem,parent=con,offset=0x400000,size=0x400000" },
    { "hole-at-end", CONTAINER " " CHILD "a,size=4M" MEMFD USED,
      "'con' leave a hole|0x400000 to 0x1000000|Add -object" },
    { "no-children", CONTAINER " " USED, "'con' leave a hole|Add -object" },
    { "beyond-the-end", CONTAINER " " CHILD "a,size=16M,offset=4M" MEMFD USED,
      "'a' with offset=0x400000,size=0x1000000 ends beyond its parent 'con'"
      " of size 0x1000000" },
    { "far-beyond", CONTAINER " " CHILD
      "a,size=4M,offset=0xfffffffffff00000" MEMFD USED,
      "ends beyond its parent 'con'" },
    { "odd-offset", CONTAINER " " CHILD "a,size=4M,offset=100" MEMFD USED,
      "size=0x400000 and offset=0x64 of 'a' must be multiples of 0x1000" },
    { "odd-size", CONTAINER " " CHILD "a,size=5000" MEMFD USED,
      "size=0x1388 and offset=0x0 of 'a' must be multiples of 0x1000" },
    { "no-size", CONTAINER " " CHILD "a" MEMFD USED,
      "id=a|Parameter 'size' is missing" },
    { "odd-phy-offset", CONTAINER " " CHILD "a,size=16M,phy-offset=100" MEMFD
      USED, "phy-offset=0x64 and size=0x1000000 must be multiples of 0x1000" },
    { "phy-offset-wraps", CONTAINER " " CHILD
      "a,size=16M,phy-offset=0xffffffffffff0000" MEMFD USED,
      "phy-offset=0xffffffffffff0000,size=0x1000000 ends beyond" },
    { "odd-container", "-object memory-backend-container,id=con,size=5000 "
      USED, "size=5000 of 'con' must be a multiple of 4096" },
    { "memory-size", "-m 32M " WHOLE USED, "match" },

    /* parents */
    { "parent-missing", WHOLE "-object memory-backend-devmem,id=c,size=4M"
      MEMFD USED, "id=c|Parameter 'parent' is missing" },
    { "parent-unknown", WHOLE "-object memory-backend-devmem,id=c,size=4M,"
      "parent=nobody" MEMFD USED,
      "parent=nobody of 'c' is not the id of a memory-backend-container|"
      "must stand before" },
    { "parent-after-child", "-object memory-backend-devmem,id=c,size=16M,"
      "parent=con" MEMFD CONTAINER " " USED,
      "parent=con of 'c'|must stand before its children" },
    { "parent-of-wrong-type", "-object memory-backend-ram,id=r,size=16M "
      "-object memory-backend-devmem,id=c,size=16M,parent=r" MEMFD,
      "parent=r of 'c' is not the id of a memory-backend-container" },
    { "two-parents-json", CONTAINER " -object memory-backend-container,"
      "id=con2,size=16M -object '{\"qom-type\":\"memory-backend-devmem\","
      "\"id\":\"a\",\"size\":16777216,\"parent\":[\"con\",\"con2\"]}' "
      USED, "Invalid parameter type for 'parent', expected: string" },

    /* options of memory backends that make no sense here */
    { "merge", CONTAINER ",merge=on " USED, "merge=on|'con'|leave it off" },
    { "share", CONTAINER ",share=off " USED, "share=off|'con'|leave it on" },
    { "prealloc", CONTAINER ",prealloc=on " USED,
      "prealloc|'con'|memory-backend-devmem children" },
    { "policy", CONTAINER ",policy=bind,host-nodes=0 " USED,
      "host-nodes|'con'|memory-backend-devmem children" },
    { "child-merge", CONTAINER " " CHILD "a,size=16M,merge=on" MEMFD USED,
      "merge=on|'a'|leave it off" },
    { "child-share", CONTAINER " " CHILD "a,size=16M,share=off" MEMFD USED,
      "share=off|'a'|leave it on" },
    { "tier", CONTAINER " " CHILD "a,size=16M,tier=tape" MEMFD USED,
      "does not accept value 'tape'" },

    /* engines */
    { "memdev-missing", WHOLE USED "-object hybridmem,id=hm0",
      "memdev" },
    { "memdev-unknown", WHOLE USED "-object hybridmem,id=hm0,memdev=x",
      "memdev=x of 'hm0' is not the id of a memory backend" },
    { "memdev-is-child", WHOLE USED "-object hybridmem,id=hm0,memdev=a",
      "memdev=a, a memory-backend-devmem: it is a part of a"
      " memory-backend-container" },
    { "mover-numa-of-container", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,mover=numa",
      "'hm0' needs fast-nodes=" },
    { "nodes-of-container", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,fast-nodes=0",
      "fast-nodes of 'hm0' is not possible with mover remap|leave it out|"
      "mover=numa" },

    /* engines of ordinary backends */
    { "numa/no-nodes", RAM "-object hybridmem,id=hm0,memdev=r",
      "'hm0' needs fast-nodes=|memory-backend-ram|slow-nodes=|"
      "memory-backend-container" },
    { "numa/no-user", RAM "-object memory-backend-ram,id=spare,size=16M "
      "-object hybridmem,id=hm0,memdev=spare,fast-nodes=0,slow-nodes=127,"
      "fast-size=4M", "'hm0' cannot manage memdev=spare|no device uses it yet|"
      "add the device first" },
    { "numa/no-slow-nodes", RAM
      "-object hybridmem,id=hm0,memdev=r,fast-nodes=0", "needs slow-nodes=" },
    { "numa/no-fast-size", RAM "-object hybridmem,id=hm0,memdev=r,"
      "fast-nodes=0,slow-nodes=1", "needs fast-size=" },
    { "numa/mover-remap", RAM NUMA ",fast-size=4M,mover=remap",
      "mover=remap of 'hm0'|memdev=r is a memory-backend-ram|use mover=numa" },
    { "numa/node-unknown", RAM NUMA ",fast-size=4M",
      "slow-nodes 127: the host has no such NUMA node" },
    { "numa/node-too-large", RAM "-object hybridmem,id=hm0,memdev=r,"
      "fast-nodes=0,slow-nodes=128,fast-size=4M",
      "slow-nodes=128: there are no more than 128 nodes" },
    { "numa/same-node", RAM "-object hybridmem,id=hm0,memdev=r,"
      "fast-nodes=0,slow-nodes=0,fast-size=4M",
      "fast-nodes|slow-nodes|0" },
    { "numa/fast-size-odd", RAM NUMA ",fast-size=4095",
      "fast-size=4095 of 'hm0' must be a multiple of|16777216" },
    { "numa/fast-size-large", RAM NUMA ",fast-size=32M",
      "fast-size=33554432 of 'hm0'|at most 16777216" },
    { "numa/block-size-small", RAM NUMA ",fast-size=4M,block-size=2K",
      "block-size=2048 of 'hm0' must be a power of two from" },
    { "numa/block-size-large", RAM NUMA ",fast-size=4M,block-size=32M",
      "block-size=33554432 of 'hm0'|16777216" },
    { "two-engines", WHOLE USED "-object hybridmem,id=hm0,memdev=con "
      "-object hybridmem,id=hm1,memdev=con",
      "memdev=con of 'hm|has an engine already: 'hm" },
    { "block-size-odd", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,block-size=12288",
      "block-size=12288 of 'hm0' must be a power of two from 4096|to 4194304"
      "|'con'" },
    { "block-size-small", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,block-size=2048",
      "block-size=2048 of 'hm0' must be a power of two from 4096" },
    { "block-size-large", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,block-size=8M",
      "block-size=8388608|to 4194304 (which divides the offset and size" },
    { "block-size-zero", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,block-size=0", "block-size=0" },
    { "range", WHOLE USED "-object hybridmem,id=hm0,memdev=con,interval=1",
      "interval=1 is out of range: it must be 10 to 3600000" },
    { "engine-policy", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,policy=luck",
      "does not accept value 'luck'" },
    { "engine-model", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,model=paper",
      "model 'paper' is not known; one of none, |optane|stt-mram" },
    { "engine-model-reference", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,model=dram",
      "model 'dram' is not known; one of none, |optane|stt-mram" },
    { "engine-objective", WHOLE USED "-object hybridmem,id=hm0,memdev=con,"
      "policy=benefit,objective=energy,model=cxl",
      "objective=energy needs a model|model=cxl is not one|model=stt-mram" },
    { "engine-balance", WHOLE USED "-object hybridmem,id=hm0,memdev=con,"
      "policy=benefit,objective=wear,balance=on",
      "balance=on is for objective=time, and not for objective=wear|"
      "balance=off, or objective=time" },
    { "engine-balance-value", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,balance=much",
      "balance|'on' or 'off'" },
    { "trace-path", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,trace=/nobody/here/t",
      "cannot make trace=/nobody/here/t of 'hm0'|No such file" },
    { "trace-directory", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,trace=/",
      "cannot make trace=/ of 'hm0'|directory" },
    { "trace-device", WHOLE USED
      "-object hybridmem,id=hm0,memdev=con,trace=/dev/null",
      "trace=/dev/null of 'hm0' is not a regular file" },
    { "record-replay", WHOLE USED "-object hybridmem,id=hm0,memdev=con "
      "-accel tcg -icount shift=0,rr=record,rrfile=/dev/null",
      "'hm0' is not possible with record/replay" },

    /* uses of a container */
    { "unused", WHOLE, "'con' is not used|-machine memory-backend=con|"
      "-numa node,memdev=con" },
    { "pc-dimm", WHOLE "-m 16M,slots=1,maxmem=64M "
      "-device pc-dimm,memdev=con", "'con' backs a memory device|"
      "-machine memory-backend=con" },
    { "nvdimm", WHOLE "-m 16M,slots=1,maxmem=64M -machine nvdimm=on "
      "-device nvdimm,memdev=con", "'con' backs a memory device|"
      "-machine memory-backend=con" },
    { "virtio-mem", WHOLE "-m 16M,maxmem=64M "
      "-device virtio-mem-pci,memdev=con,requested-size=0", "con" },
    { "virtio-pmem", WHOLE "-m 16M,maxmem=64M "
      "-device virtio-pmem-pci,memdev=con", "'con' backs a memory device|"
      "-machine memory-backend=con" },
    { "child-as-ram", WHOLE "-machine memory-backend=a -m 4M",
      "backend a can't be used" },
    { "used-twice", WHOLE "-m 32M -smp 2 -numa node,memdev=con "
      "-numa node,memdev=con", "con" },
};

static void test_case(const void *opaque)
{
    const Case *c = opaque;
    g_autofree char *args = g_strconcat(BASE, c->args, NULL);

    refused(args, c->parts);
}

/* --- cases that need a file, a device or somebody else ----------------- */

static void test_two_children_one_range(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *args = g_strdup_printf(
        BASE CONTAINER " " CHILD "a,size=8M,mem-path=%s/f "
        CHILD "b,size=8M,offset=8M,phy-offset=4M,mem-path=%s/f " USED, dir,
        dir);
    g_autofree char *text = g_strdup_printf(
        "phy-offset=0x400000,size=0x800000 of mem-path=%s/f is in use"
        " already, by this or another QEMU", dir);

    refused(args, text);
    hmt_remove_dir(dir);
}

static void test_two_guests_one_range(void)
{
    HmTest *t = hmt_start(NULL, NULL);
    g_autofree char *args = hmt_memory_args(t->dir);

    hmt_fill(t);
    refused(args, "mem-path=|/dram is in use already, by this or another");
    /* And it has cleared nothing before it found out. */
    hmt_assert_equal(t);
    hmt_stop(t);
}

static void test_permission(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *path = g_build_filename(dir, "f", NULL);
    g_autofree char *args = g_strdup_printf(
        BASE CONTAINER " " CHILD "a,size=16M,mem-path=%s " USED, path);

    g_assert_true(g_file_set_contents(path, "x", 1, NULL));
    g_assert_cmpint(chmod(path, 0), ==, 0);
    refused_as(args, "cannot open mem-path=|/f for reading and writing|"
               "Permission denied|Give the user of QEMU access", true);
    hmt_remove_dir(dir);
}

static void test_paths(void)
{
    refused(BASE CONTAINER " " CHILD "a,size=16M,mem-path=/dev/null " USED,
            "mem-path=/dev/null is a character device, but neither /dev/mem"
            " nor a devdax device");
    refused(BASE CONTAINER " " CHILD "a,size=16M,mem-path=/nobody/here/f "
            USED, "cannot open mem-path=/nobody/here/f|No such file");
    refused(BASE CONTAINER " " CHILD "a,size=16M,mem-path=/dev/dax99.9 "
            USED, "cannot open mem-path=/dev/dax99.9|No such file");
    /* A device that is absent must not be made into a file. */
    g_assert_cmpint(access("/dev/dax99.9", F_OK), !=, 0);
}

static void test_file_too_large(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *args = g_strdup_printf(
        BASE CONTAINER " " CHILD "a,size=16M,phy-offset=0x7fffff0000000000,"
        "mem-path=%s/f " USED, dir);

    refused(args, "cannot make mem-path=|/f 9223370937359925248 bytes long|"
            "File too large");
    hmt_remove_dir(dir);
}

/* The first range of host RAM; root sees it. */
static bool find_system_ram(uint64_t *start)
{
    g_autofree char *text = NULL;
    char *line;

    if (!g_file_get_contents("/proc/iomem", &text, NULL, NULL)) {
        return false;
    }
    for (line = text; line; line = strchr(line, '\n')) {
        uint64_t from, to;

        line += *line == '\n';
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " : System RAM", &from, &to)
            == 2 && g_str_has_prefix(strchrnul(line, ':'), ": System RAM") &&
            to > from + 32 * MiB) {
            *start = from;
            return true;
        }
    }
    return false;
}

static bool can_open_dev_mem(const char *path)
{
    int fd;

    if (mknod(path, S_IFCHR | 0600, makedev(1, 1))) {
        return false;
    }
    fd = open(path, O_RDWR);
    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

static void test_dev_mem(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *path = g_build_filename(dir, "mem", NULL);
    g_autofree char *args = NULL;
    uint64_t start;

    if (!find_system_ram(&start)) {
        g_test_skip("/proc/iomem does not say where the host's RAM is");
    } else if (!can_open_dev_mem(path)) {
        g_test_skip("/dev/mem cannot be opened here");
    } else {
        args = g_strdup_printf(BASE CONTAINER " " CHILD "a,size=16M,"
            "phy-offset=0x%" PRIx64 ",mem-path=%s " USED,
            ROUND_UP(start + MiB, MiB), path);
        refused(args, "phy-offset=0x|is RAM that the host uses|in /proc/iomem|"
                "memmap=16384K$0x|mem-path=");
    }
    hmt_remove_dir(dir);
}

/* Two writers would spoil it; and what it holds stays. */
static void test_trace_in_use(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *path = g_build_filename(dir, "trace", NULL);
    g_autofree char *args = g_strdup_printf(
        BASE WHOLE USED "-object hybridmem,id=hm0,memdev=con,trace=%s", path);
    g_autofree char *kept = NULL;
    int fd;

    g_assert_true(g_file_set_contents(path, "kept", -1, NULL));
    fd = open(path, O_RDWR);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(qemu_lock_fd(fd, 0, 0, true), ==, 0);
    refused(args, "trace=|of 'hm0' is in use already, by this or another");
    g_assert_true(g_file_get_contents(path, &kept, NULL, NULL));
    g_assert_cmpstr(kept, ==, "kept");
    close(fd);
    hmt_remove_dir(dir);
}

#define TMPFS_MAGIC 0x01021994

/* Its pages are the file system's to place. */
static void test_numa_disk_file(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *args = g_strdup_printf(
        BASE "-object memory-backend-file,id=r,size=16M,mem-path=%s/f "
        "-machine memory-backend=r " NUMA ",fast-size=4M", dir);
    struct statfs st;

    if (statfs(dir, &st) || st.f_type == TMPFS_MAGIC) {
        g_test_skip("temporary files are in memory here");
    } else {
        refused(args, "'hm0' cannot manage memdev=r|only memory of the host's"
                " NUMA nodes|daxctl reconfigure-device");
    }
    hmt_remove_dir(dir);
}

/* What is wrong is seen before a huge page is needed: there may be none. */
static void test_hugetlb(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *size = NULL;
    g_autofree char *offset = NULL;

    if (mount("none", dir, "hugetlbfs", 0, "pagesize=2M")) {
        g_test_skip("hugetlbfs cannot be mounted here");
        hmt_remove_dir(dir);
        return;
    }
    size = g_strdup_printf(BASE CONTAINER " " CHILD "a,size=4100K,mem-path=%s "
        CHILD "b,size=12284K,offset=4100K" MEMFD USED, dir);
    refused(size, "must be multiples of 0x200000, the page size of"
            " mem-path=/");
    offset = g_strdup_printf(BASE CONTAINER " " CHILD "a,size=1M" MEMFD " "
        CHILD "b,size=14M,offset=1M,mem-path=%s " CHILD
        "c,size=1M,offset=15M" MEMFD USED, dir);
    refused(offset, "offset=0x100000 of 'b' must be a multiple of 0x200000");
    umount(dir);
    hmt_remove_dir(dir);
}

/* A vhost-user backend that accepts, and says nothing. */
static int listen_at(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 8), ==, 0);
    return fd;
}

static void test_vhost_user(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *path = g_build_filename(dir, "vhost", NULL);
    g_autofree char *args = g_strdup_printf(BASE WHOLE USED
        "-chardev socket,id=c,path=%s "
        "-device vhost-user-blk-pci,chardev=c", path);
    int fd = listen_at(path);

    refused(args, "vhost is not possible with memory-backend-container|"
            "a device without vhost");
    close(fd);
    hmt_remove_dir(dir);
}

static void test_vhost_net(void)
{
    if (access("/dev/vhost-net", R_OK | W_OK) || access("/dev/net/tun", R_OK)) {
        g_test_skip("no /dev/vhost-net here");
        return;
    }
    refused(BASE WHOLE USED "-netdev tap,id=n,ifname=hmtest0,script=no,"
            "downscript=no,vhost=on,vhostforce=on "
            "-device virtio-net-pci,netdev=n",
            "vhost is not possible with memory-backend-container|vhost=off");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = g_strdup_printf("hybridmem/errors/%s",
                                                cases[i].name);

        qtest_add_data_func(path, &cases[i], test_case);
    }
    qtest_add_func("hybridmem/errors/two-children-one-range",
                   test_two_children_one_range);
    qtest_add_func("hybridmem/errors/two-guests-one-range",
                   test_two_guests_one_range);
    qtest_add_func("hybridmem/errors/permission", test_permission);
    qtest_add_func("hybridmem/errors/paths", test_paths);
    qtest_add_func("hybridmem/errors/file-too-large", test_file_too_large);
    qtest_add_func("hybridmem/errors/dev-mem", test_dev_mem);
    qtest_add_func("hybridmem/errors/hugetlb", test_hugetlb);
    qtest_add_func("hybridmem/errors/trace-in-use", test_trace_in_use);
    qtest_add_func("hybridmem/errors/numa/disk-file", test_numa_disk_file);
    qtest_add_func("hybridmem/errors/vhost-user", test_vhost_user);
    qtest_add_func("hybridmem/errors/vhost-net", test_vhost_net);
    return g_test_run();
}
