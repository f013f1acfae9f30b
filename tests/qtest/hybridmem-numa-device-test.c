/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of the numa mover beside devices that use guest memory by ways of
 * their own, and beside what else has a hand on it: other processes, the
 * host's kernel, the gdb stub.
 */
#include "qemu/osdep.h"
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "hybridmem-numa-util.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_mem.h"
#include "standard-headers/linux/virtio_net.h"

#define MEMFD "memory-backend-memfd,share=on"
#define Q35 "-machine q35"
/* Rings and headers lie below; the model does not know of them. */
#define OWN_END (2 * MiB)
/* Never touched. */
#define HOLE (HMT_HOLE_END - HMT_HOLE)
/* For what a request consists of, beside its data. */
#define REQUEST (OWN_END - HMT_PAGE)

/* --- a virtio device, at 00:04.0 --------------------------------------- */

typedef struct Virtio {
    QTestState *qts;
    QPCIBus *pci;
    QVirtioPCIDevice *dev;
    QGuestAllocator alloc;
    QVirtQueue *vq[2];
} Virtio;

/* @refuse: features that the driver does not know */
static void virtio_start(Virtio *v, QTestState *qts, unsigned queues,
                         uint64_t refuse)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };
    QVirtioDevice *dev;

    *v = (Virtio) { .qts = qts };
    pc_alloc_init(&v->alloc, qts, 0);
    v->pci = qpci_new_pc(qts, &v->alloc);
    v->dev = virtio_pci_new(v->pci, &addr);
    dev = &v->dev->vdev;
    qvirtio_pci_device_enable(v->dev);
    qvirtio_start_device(dev);
    qvirtio_set_features(dev, qvirtio_get_features(dev) &
                         ~(refuse | QVIRTIO_F_BAD_FEATURE |
                           (1ull << VIRTIO_RING_F_INDIRECT_DESC) |
                           (1ull << VIRTIO_RING_F_EVENT_IDX)));
    for (unsigned i = 0; i < queues; i++) {
        v->vq[i] = qvirtqueue_setup(dev, &v->alloc, i);
    }
    qvirtio_set_driver_ok(dev);
}

static void virtio_end(Virtio *v)
{
    for (unsigned i = 0; i < ARRAY_SIZE(v->vq); i++) {
        if (v->vq[i]) {
            qvirtqueue_cleanup(v->dev->vdev.bus, v->vq[i], &v->alloc);
        }
    }
    qvirtio_pci_device_disable(v->dev);
    g_free(v->dev->pdev);
    g_free(v->dev);
    qpci_free_pc(v->pci);
    alloc_destroy(&v->alloc);
}

static void virtio_kick(Virtio *v, unsigned queue, uint32_t head)
{
    qvirtqueue_kick(v->qts, &v->dev->vdev, v->vq[queue], head);
    qvirtio_wait_used_elem(v->qts, &v->dev->vdev, v->vq[queue], head, NULL,
                           HMT_SECONDS * G_USEC_PER_SEC);
}

static void move_on(HmTest *t, uint64_t moves)
{
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + moves);
}

static void stop_moving(HmTest *t)
{
    hmt_set_policy(t->qts, "none");
    hmn_wait_batch(t->qts);
    hmn_wait_batch(t->qts);
}

/* --- virtio-balloon ---------------------------------------------------- */

static void balloon_pages(HmTest *t, Virtio *v, unsigned queue)
{
    for (unsigned i = 0; i < HMN_HOT; i++) {
        uint32_t pfn = cpu_to_le32((HMN_HOT_AT + i * HMN_HOT_STEP) >> 12);

        qtest_memwrite(t->qts, REQUEST + 4 * i, &pfn, sizeof(pfn));
    }
    virtio_kick(v, queue, qvirtqueue_add(t->qts, v->vq[queue], REQUEST,
                                         4 * HMN_HOT, false, false));
}

/* Pages that the balloon takes are gone, and come back where there is room. */
static void test_balloon(void)
{
    HmTest *t = hmn_start(MEMFD, FULL_SPEED,
                          Q35 " -device virtio-balloon-pci,addr=4");
    Virtio v;

    hmn_fill(t);
    virtio_start(&v, t->qts, 2, 0);
    move_on(t, 200);
    balloon_pages(t, &v, 0);
    g_assert_cmpuint(hmn_absent(t->qts, HMN_HOT_AT, HMN_HOT, HMN_HOT_STEP),
                     ==, HMN_HOT);
    hmn_wait_for(t->qts, hmn_residency(t->qts, "absent") ==
                         HOLE + HMN_HOT * HMT_PAGE);
    for (unsigned i = 0; i < HMN_HOT; i++) {
        memset(t->model + HMN_HOT_AT + i * HMN_HOT_STEP, 0, HMT_PAGE);
    }
    move_on(t, 200);
    g_assert_cmpuint(hmn_absent(t->qts, HMN_HOT_AT, HMN_HOT, HMN_HOT_STEP),
                     ==, HMN_HOT);
    balloon_pages(t, &v, 1);
    hmn_write_hot(t);
    move_on(t, 200);
    hmn_wait_for(t->qts, hmn_residency(t->qts, "absent") == HOLE);
    stop_moving(t);
    hmn_assert_equal_above(t, OWN_END);
    hmn_assert_agree(t->qts);
    virtio_end(&v);
    hmt_stop(t);
}

/* --- virtio-mem -------------------------------------------------------- */

#define PLUG_BLOCK (2 * MiB)

static void plug(Virtio *v, uint16_t type, uint64_t addr, uint16_t blocks)
{
    struct virtio_mem_req req = {
        .type = cpu_to_le16(type),
        .u.plug = { cpu_to_le64(addr), cpu_to_le16(blocks) },
    };
    uint64_t answer = REQUEST + 512;
    uint32_t head;

    qtest_memwrite(v->qts, REQUEST, &req, sizeof(req));
    head = qvirtqueue_add(v->qts, v->vq[0], REQUEST, sizeof(req), false, true);
    qvirtqueue_add(v->qts, v->vq[0], answer, sizeof(struct virtio_mem_resp),
                   true, false);
    virtio_kick(v, 0, head);
    g_assert_cmpuint(qtest_readw(v->qts, answer), ==, VIRTIO_MEM_RESP_ACK);
}

/* Words at the start of @n pages; 0 reads as "not there". */
static void write_words(QTestState *qts, uint64_t addr, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        qtest_writeq(qts, addr + i * HMT_PAGE, addr + i + 1);
    }
}

static void assert_words(QTestState *qts, uint64_t addr, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_assert_cmphex(qtest_readq(qts, addr + i * HMT_PAGE), ==,
                        addr + i + 1);
    }
}

/* Writes 64 pages at @addr until all of them are in DRAM. */
static void promote_words(QTestState *qts, uint64_t addr)
{
    gint64 end = hmn_deadline();

    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        write_words(qts, addr, 64);
    } while (hmn_count(qts, addr, 64, HMT_PAGE, hmn_fast) < 64);
}

/* Memory of a virtio-mem device has an engine of its own. */
static void test_virtio_mem(void)
{
    g_autofree char *engine = hmn_engine("hm0", "vm", "policy=write-heat,"
                                         "fast-size=2M," ALWAYS);
    g_autofree char *extra = g_strdup_printf(
        Q35 " -m 16M,maxmem=1G -object " MEMFD ",id=vm,size=16M "
        "-device virtio-mem-pci,memdev=vm,block-size=2M,requested-size=8M,"
        "addr=4 %s", engine);
    HmTest *t = hmn_start(MEMFD, NULL, extra);
    uint64_t base;
    Virtio v;

    virtio_start(&v, t->qts, 1, 0);
    base = qvirtio_config_readq(&v.dev->vdev,
                                offsetof(struct virtio_mem_config, addr));
    hmn_wait_for(t->qts, hmn_residency(t->qts, "passes") > 0);
    g_assert_cmpuint(hmn_residency(t->qts, "absent"), ==, 16 * MiB);
    plug(&v, VIRTIO_MEM_REQ_PLUG, base, 8 * MiB / PLUG_BLOCK);
    qtest_memset(t->qts, base, 0x55, 8 * MiB);
    promote_words(t->qts, base + 6 * MiB);
    hmn_wait_for(t->qts, hmn_spread(t->qts, base, 16 * MiB).fast <= 2 * MiB);
    assert_words(t->qts, base + 6 * MiB, 64);

    /* What is unplugged is gone; the rest stays. */
    plug(&v, VIRTIO_MEM_REQ_UNPLUG, base, 4 * MiB / PLUG_BLOCK);
    g_assert_cmpuint(hmn_absent(t->qts, base, 4 * MiB / HMT_PAGE, HMT_PAGE),
                     ==, 4 * MiB / HMT_PAGE);
    hmn_wait_for(t->qts, hmn_residency(t->qts, "absent") == 12 * MiB);
    promote_words(t->qts, base + 5 * MiB);
    assert_words(t->qts, base + 5 * MiB, 64);
    assert_words(t->qts, base + 6 * MiB, 64);
    hmt_assert_in(hmn_spread(t->qts, base, 16 * MiB).policy, "prefer");
    hmn_detach(t->qts);
    assert_words(t->qts, base + 5 * MiB, 64);
    virtio_end(&v);
    hmt_stop(t);
}

/* --- DIMMs ------------------------------------------------------------- */

/* Of ACPI's memory hotplug, as a guest would use it. */
#define HOTPLUG_SLOT 0xa00
#define HOTPLUG_CONTROL 0xa14
#define HOTPLUG_EJECT 8

#define DIMMS Q35 " -m 16M,slots=2,maxmem=1G"

static void add_backend(QTestState *qts, const char *type, const char *id)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-add', 'arguments': {"
        " 'qom-type': %s, 'id': %s, 'size': 16777216 } }", type, id);
}

/* Its guest address. */
static uint64_t add_dimm(QTestState *qts, const char *memdev)
{
    QDict *reply;
    uint64_t addr;

    qtest_qmp_assert_success(qts, "{ 'execute': 'device_add', 'arguments': {"
        " 'driver': 'pc-dimm', 'id': 'dimm0', 'memdev': %s } }", memdev);
    reply = qtest_qmp(qts, "{ 'execute': 'query-memory-devices' }");
    addr = qdict_get_int(qdict_get_qdict(qobject_to(QDict, qlist_peek(
        qdict_get_qlist(reply, "return"))), "data"), "addr");
    qobject_unref(reply);
    return addr;
}

static void del_dimm(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'device_del', 'arguments': {"
                             " 'id': 'dimm0' } }");
    qtest_outl(qts, HOTPLUG_SLOT, 0);
    qtest_outl(qts, HOTPLUG_CONTROL, HOTPLUG_EJECT);
    qtest_qmp_eventwait(qts, "DEVICE_DELETED");
}

static void del_object(QTestState *qts, const char *id)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-del', 'arguments': {"
                             " 'id': %s } }", id);
}

/* The engine, the DIMM and its backend may go in any order. */
static void remove_dimm(QTestState *qts, unsigned round, uint64_t words)
{
    if (round == 0) {
        del_object(qts, "hm1");
        assert_words(qts, words, 64);
    }
    del_dimm(qts);
    if (round == 1) {
        g_usleep(300 * 1000);
        del_object(qts, "hm1");
    }
    del_object(qts, "d0");
    if (round == 2) {
        g_usleep(300 * 1000);
        del_object(qts, "hm1");
    }
}

/* Plugged, with an engine of its own beside that of the rest, unplugged. */
static void test_dimm(void)
{
    HmTest *t = hmn_start(MEMFD, FULL_SPEED, DIMMS);

    hmn_fill(t);
    for (unsigned round = 0; round < 3; round++) {
        uint64_t addr;

        add_backend(t->qts, "memory-backend-memfd", "d0");
        addr = add_dimm(t->qts, "d0");
        qtest_qmp_assert_success(t->qts, "{ 'execute': 'object-add',"
            " 'arguments': { 'qom-type': 'hybridmem', 'id': 'hm1', 'memdev':"
            " 'd0', 'fast-nodes': [ %u ], 'slow-nodes': [ %u ], 'fast-size':"
            " 2097152, 'interval': 100, 'window': 100 } }", hmn_fast,
            hmn_slow);
        qtest_memset(t->qts, addr, 0x55, 16 * MiB);
        promote_words(t->qts, addr + 8 * MiB);
        hmt_assert_error(t->qts, "in use", "{ 'execute': 'object-del',"
                         " 'arguments': { 'id': 'd0' } }");
        remove_dimm(t->qts, round, addr + 8 * MiB);
    }
    move_on(t, 200);
    hmn_assert_equal(t);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

static void engine_refused(QTestState *qts, const char *memdev,
                           const char *why)
{
    hmt_assert_error(qts, why,
        "{ 'execute': 'object-add', 'arguments': { 'qom-type': 'hybridmem',"
        " 'id': 'hm1', 'memdev': %s, 'fast-nodes': [ %u ], 'slow-nodes':"
        " [ %u ], 'fast-size': 2097152 } }", memdev, hmn_fast, hmn_slow);
}

/* Persistent memory is refused, whichever comes first. */
static void test_persistent(void)
{
    HmTest *t = hmn_start(MEMFD, NULL, DIMMS " -machine nvdimm=on,cxl=on"
        " -object memory-backend-ram,id=pm,size=2M"
        " -device virtio-pmem-pci,memdev=pm"
        " -object memory-backend-ram,id=cxl,size=256M"
        " -object memory-backend-ram,id=lsa,size=1M"
        " -device pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.bus"
        " -device cxl-rp,port=0,bus=cxl.bus,id=cxl.port,chassis=0,slot=2"
        " -device cxl-type3,bus=cxl.port,persistent-memdev=cxl,lsa=lsa");

    engine_refused(t->qts, "pm", "it is persistent memory");
    engine_refused(t->qts, "cxl", "it is persistent memory");
    add_backend(t->qts, "memory-backend-ram", "nv");
    engine_refused(t->qts, "nv", "no device uses it yet");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'device_add', 'arguments':"
        " { 'driver': 'nvdimm', 'id': 'nv0', 'memdev': 'nv' } }");
    engine_refused(t->qts, "nv", "it is persistent memory");
    hmt_stop(t);
}

/* QEMU gives memory that has an engine to no other device. */
static void test_persistent_later(void)
{
    HmTest *t = hmn_start(MEMFD, FULL_SPEED, DIMMS " -machine nvdimm=on");

    hmt_assert_error(t->qts, "can't use already busy memdev: r",
        "{ 'execute': 'device_add', 'arguments': { 'driver': 'nvdimm',"
        " 'id': 'nv0', 'memdev': 'r' } }");
    hmt_stop(t);
}

/* --- vhost-user -------------------------------------------------------- */

#define DISK_SIZE (4 * MiB)
#define SECTOR 512

typedef struct Daemon {
    char *dir, *socket, *disk;
    GPid pid;
} Daemon;

static void die_with_us(gpointer opaque)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

/* QEMU's storage daemon with a disk for a guest; false: it is not here. */
static bool daemon_start(Daemon *d)
{
    const char *binary = getenv("QTEST_QEMU_STORAGE_DAEMON_BINARY");
    g_autofree char *line = NULL;
    g_auto(GStrv) argv = NULL;
    gint64 end = hmn_deadline();
    GError *err = NULL;
    int fd;

    if (!binary) {
        g_test_skip("no qemu-storage-daemon"
                    " (QTEST_QEMU_STORAGE_DAEMON_BINARY)");
        return false;
    }
    d->dir = hmt_make_dir();
    d->socket = g_build_filename(d->dir, "vhost", NULL);
    d->disk = g_build_filename(d->dir, "disk", NULL);
    fd = open(d->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, DISK_SIZE), ==, 0);
    close(fd);
    line = g_strdup_printf("%s --blockdev driver=file,node-name=disk,"
        "filename=%s --export type=vhost-user-blk,id=e,node-name=disk,"
        "writable=on,addr.type=unix,addr.path=%s", binary, d->disk,
        d->socket);
    g_assert_true(g_shell_parse_argv(line, NULL, &argv, &err));
    g_assert_true(g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD |
                                G_SPAWN_SEARCH_PATH, die_with_us, NULL,
                                &d->pid, &err));
    while (access(d->socket, F_OK)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(10000);
    }
    return true;
}

static void daemon_end(Daemon *d)
{
    int status;

    kill(d->pid, SIGTERM);
    g_assert_cmpint(waitpid(d->pid, &status, 0), ==, d->pid);
    g_spawn_close_pid(d->pid);
    hmt_remove_dir(d->dir);
    g_free(d->socket);
    g_free(d->disk);
}

/* One page to or from the disk; @data is guest memory. */
static void disk_page(Virtio *v, uint32_t type, unsigned page, uint64_t data)
{
    struct virtio_blk_outhdr hdr = {
        .type = cpu_to_le32(type),
        .sector = cpu_to_le64(page * (HMT_PAGE / SECTOR)),
    };
    uint64_t status = REQUEST + 512;
    uint32_t head;

    qtest_memwrite(v->qts, REQUEST, &hdr, sizeof(hdr));
    qtest_writeb(v->qts, status, 0xff);
    head = qvirtqueue_add(v->qts, v->vq[0], REQUEST, sizeof(hdr), false, true);
    qvirtqueue_add(v->qts, v->vq[0], data, HMT_PAGE, type == VIRTIO_BLK_T_IN,
                   true);
    qvirtqueue_add(v->qts, v->vq[0], status, 1, true, false);
    virtio_kick(v, 0, head);
    g_assert_cmpuint(qtest_readb(v->qts, status), ==, VIRTIO_BLK_S_OK);
}

/* Copies @n pages of the guest's memory by way of the disk. */
static void copy_pages(HmTest *t, Virtio *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t from = hmt_random_page(t, OWN_END, HMT_RAM);
        uint64_t to = hmt_random_page(t, OWN_END, HMT_RAM);

        hmt_write_page(t, from);
        disk_page(v, VIRTIO_BLK_T_OUT, i, from);
        disk_page(v, VIRTIO_BLK_T_IN, i, to);
        memmove(t->model + to, t->model + from, HMT_PAGE);
        /* Elsewhere the guest must see it, too. */
        g_assert_cmphex(qtest_readq(t->qts, to), ==,
                        ldq_le_p(t->model + from));
    }
}

static uint64_t random_page_on(HmTest *t, int node)
{
    uint64_t page;

    do {
        page = hmt_random_page(t, OWN_END, HMT_RAM);
    } while (hmn_node(t->qts, page) != node);
    return page;
}

/*
 * An exchange of pages that the daemon, too, has in its page table; again if
 * a page was on the wrong tier, so that it did not have to move.
 */
static bool swap_shared(HmTest *t, Virtio *v)
{
    uint64_t fast, slow;
    bool done;

    do {
        fast = random_page_on(t, hmn_fast);
        slow = random_page_on(t, hmn_slow);
        disk_page(v, VIRTIO_BLK_T_IN, 0, fast);
        disk_page(v, VIRTIO_BLK_T_IN, 0, slow);
        qtest_memread(t->qts, fast, t->model + fast, HMT_PAGE);
        memcpy(t->model + slow, t->model + fast, HMT_PAGE);
        done = hmt_swap(t->qts, fast, slow, "pinned");
    } while (done && hmn_node(t->qts, fast) == hmn_fast);
    return done;
}

static HmTest *start_with_disk(Daemon *d, const char *extra)
{
    g_autofree char *args = g_strdup_printf(
        Q35 " -chardev socket,id=vu,path=%s "
        "-device vhost-user-blk-pci,chardev=vu,addr=4,num-queues=1 %s",
        d->socket, extra);

    return hmn_start(MEMFD, FULL_SPEED, args);
}

/*
 * Another process reads and writes guest memory.  It keeps all of it, though
 * writes are logged and not logged in turn.
 */
static void test_vhost_user(void)
{
    Daemon d;
    HmTest *t;
    uint64_t windows;
    Virtio v;

    if (!daemon_start(&d)) {
        return;
    }
    t = start_with_disk(&d, "");
    hmn_fill(t);
    virtio_start(&v, t->qts, 1, 0);
    windows = hmt_counter(t->qts, "windows");
    move_on(t, 200);
    do {
        copy_pages(t, &v, 20);
    } while (hmt_counter(t->qts, "windows") < windows + 10);
    move_on(t, 200);
    stop_moving(t);
    g_assert_true(swap_shared(t, &v));
    hmn_assert_equal_above(t, OWN_END);
    hmn_assert_agree(t->qts);
    g_assert_cmpuint(hmn_residency(t->qts, "foreign-pages"), ==, 0);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    virtio_end(&v);
    hmt_stop(t);
    daemon_end(&d);
}

/*
 * Without CAP_SYS_NICE what another process has mapped, too, does not move,
 * and is counted; the rest does.
 */
static void test_vhost_user_unprivileged(void)
{
    Daemon d;
    HmTest *t;
    Virtio v;

    if (geteuid() != 0) {
        g_test_skip("only root can give up root's rights");
        return;
    }
    if (!daemon_start(&d)) {
        return;
    }
    t = start_with_disk(&d, "-run-with user=65534:65534");
    g_assert_cmpint(chmod(t->dir, 0777), ==, 0);
    hmn_fill(t);
    virtio_start(&v, t->qts, 1, 0);
    move_on(t, 200);
    copy_pages(t, &v, 100);
    move_on(t, 100);
    copy_pages(t, &v, 20);
    stop_moving(t);
    g_assert_false(swap_shared(t, &v));
    hmn_assert_equal_above(t, OWN_END);
    hmn_assert_agree(t->qts);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    virtio_end(&v);
    hmt_stop(t);
    daemon_end(&d);
}

/* --- vhost in the kernel ----------------------------------------------- */

#define ETHERTYPE 0x88b5        /* for local experiments */
#define FRAME 1024

typedef struct Tap {
    int fd, packets;
    char name[IFNAMSIZ];
} Tap;

/* A tap device, and a socket for our frames on it. */
static bool tap_start(Tap *tap)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    struct sockaddr_ll ll = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE),
    };
    g_autofree char *no_ipv6 = NULL;

    tap->fd = open("/dev/net/tun", O_RDWR);
    if (access("/dev/vhost-net", R_OK | W_OK) || tap->fd < 0 ||
        ioctl(tap->fd, TUNSETIFF, &ifr)) {
        g_test_skip("no /dev/vhost-net or no right to make a tap device");
        close(tap->fd);
        return false;
    }
    g_strlcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
    no_ipv6 = g_strdup_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6",
                              tap->name);
    g_file_set_contents(no_ipv6, "1", 1, NULL);
    tap->packets = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC,
                          htons(ETHERTYPE));
    ifr.ifr_flags = IFF_UP | IFF_NOARP;
    g_assert_cmpint(ioctl(tap->packets, SIOCSIFFLAGS, &ifr), ==, 0);
    ll.sll_ifindex = if_nametoindex(tap->name);
    g_assert_cmpint(bind(tap->packets, (struct sockaddr *)&ll, sizeof(ll)),
                    ==, 0);
    return true;
}

static void make_frame(HmTest *t, uint8_t *frame)
{
    for (unsigned i = 0; i < FRAME; i++) {
        frame[i] = g_rand_int(t->random);
    }
    memset(frame, 0xff, ETH_ALEN);
    frame[ETH_ALEN] = 2;                /* not a multicast address */
    stw_be_p(frame + 2 * ETH_ALEN, ETHERTYPE);
}

/* A frame at guest address @data. */
static void net_send(HmTest *t, Virtio *v, Tap *tap, size_t header,
                     uint64_t data)
{
    uint8_t frame[FRAME], seen[FRAME];
    uint32_t head;

    make_frame(t, frame);
    memcpy(t->model + data, frame, FRAME);
    qtest_memwrite(t->qts, data, frame, FRAME);
    qtest_memset(t->qts, REQUEST, 0, header);
    head = qvirtqueue_add(t->qts, v->vq[1], REQUEST, header, false, true);
    qvirtqueue_add(t->qts, v->vq[1], data, FRAME, false, false);
    virtio_kick(v, 1, head);
    g_assert_cmpint(recv(tap->packets, seen, FRAME, 0), ==, FRAME);
    g_assert_cmpmem(seen, FRAME, frame, FRAME);
}

static void net_receive(HmTest *t, Virtio *v, Tap *tap, size_t header,
                        uint64_t data)
{
    uint8_t frame[FRAME];

    make_frame(t, frame);
    g_assert_cmpint(send(tap->packets, frame, FRAME, 0), ==, FRAME);
    do {
        uint32_t head = qvirtqueue_add(t->qts, v->vq[0], REQUEST + 512,
                                       header, true, true);

        qvirtqueue_add(t->qts, v->vq[0], data, HMT_PAGE, true, false);
        virtio_kick(v, 0, head);
        qtest_memread(t->qts, data, t->model + data, HMT_PAGE);
        /* Else it was the kernel's own. */
    } while (lduw_be_p(t->model + data + 2 * ETH_ALEN) != ETHERTYPE);
    g_assert_cmpmem(t->model + data, FRAME, frame, FRAME);
}

static void test_vhost_net(void)
{
    g_autofree char *extra = NULL;
    uint64_t windows;
    size_t header;
    HmTest *t;
    Virtio v;
    Tap tap;

    if (!tap_start(&tap)) {
        return;
    }
    extra = g_strdup_printf(Q35 " -netdev tap,id=n,fd=%d,vhost=on,"
                            "vhostforce=on -device virtio-net-pci,netdev=n,"
                            "addr=4", tap.fd);
    t = hmn_start(MEMFD, FULL_SPEED, extra);
    hmn_fill(t);
    virtio_start(&v, t->qts, 2, 1ull << VIRTIO_NET_F_MRG_RXBUF |
                                1ull << VIRTIO_NET_F_CTRL_VQ);
    header = v.dev->vdev.features & (1ull << VIRTIO_F_VERSION_1) ? 12 : 10;
    move_on(t, 200);
    windows = hmt_counter(t->qts, "windows");
    do {
        for (unsigned i = 0; i < 10; i++) {
            net_send(t, &v, &tap, header,
                     hmt_random_page(t, OWN_END, HMT_RAM));
            net_receive(t, &v, &tap, header,
                        hmt_random_page(t, OWN_END, HMT_RAM));
        }
    } while (hmt_counter(t->qts, "windows") < windows + 10);
    move_on(t, 200);
    stop_moving(t);
    hmn_assert_equal_above(t, OWN_END);
    hmn_assert_agree(t->qts);
    virtio_end(&v);
    hmt_stop(t);
    close(tap.packets);
    close(tap.fd);
}

/* --- the host's kernel ------------------------------------------------- */

/* Locked memory moves as well. */
static void test_mem_lock(void)
{
    HmTest *t = hmn_start(MEMFD, "policy=write-heat," ALWAYS,
                          "-overcommit mem-lock=on");

    hmn_fill(t);
    hmn_wait_promoted(t);
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    hmn_assert_equal(t);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) > 0;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static uint64_t read_number(const char *path)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ?
           g_ascii_strtoull(text, NULL, 0) : 0;
}

#define KSM "/sys/kernel/mm/ksm/"

static bool start_merging(void)
{
    if (!write_file(KSM "run", "1")) {
        g_test_skip("no right to start KSM, or none in this kernel");
        return false;
    }
    write_file(KSM "sleep_millisecs", "10");
    write_file(KSM "pages_to_scan", "4096");
    return true;
}

static void stop_merging(void)
{
    write_file(KSM "run", "2");         /* and take apart */
    write_file(KSM "run", "0");
}

static HmTest *start_merged(const char *extra)
{
    HmTest *t = hmn_start("memory-backend-ram,merge=on", FULL_SPEED, extra);

    g_assert_cmpint(chmod(t->dir, 0777), ==, 0);
    qtest_memset(t->qts, 0, 0x55, HMT_RAM);
    memset(t->model, 0x55, HMT_RAM);
    hmn_wait_for(t->qts, read_number(KSM "pages_sharing") > 1000);
    return t;
}

/* Pages that are equal become one in many places, and move as one. */
static void test_merge(void)
{
    HmTest *t;

    if (!start_merging()) {
        return;
    }
    t = start_merged(NULL);
    move_on(t, 20);
    /* Each page that is written is one of its own again. */
    for (unsigned i = 0; i < 100; i++) {
        hmt_write_page(t, hmt_random_page(t, 0, HMT_RAM));
    }
    move_on(t, 20);
    g_assert_cmpuint(read_number(KSM "pages_sharing"), >, 100);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    stop_moving(t);
    hmn_assert_equal(t);
    hmt_stop(t);
    stop_merging();
}

/* Without CAP_SYS_NICE they stay. */
static void test_merge_unprivileged(void)
{
    HmTest *t;

    if (geteuid() != 0) {
        g_test_skip("only root can give up root's rights");
        return;
    }
    if (!start_merging()) {
        return;
    }
    t = start_merged("-run-with user=65534:65534");
    hmt_wait_counter(t->qts, "skipped.pinned",
                     hmt_counter(t->qts, "skipped.pinned") + 20);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    stop_moving(t);
    hmn_assert_equal(t);
    hmt_stop(t);
    stop_merging();
}

/* The physical address of the page at guest address @addr; 0: not told. */
static uint64_t physical(QTestState *qts, uint64_t addr)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap",
                                            (int)qtest_pid(qts));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;

    g_assert_cmpint(pread(fd, &entry, sizeof(entry),
                          hmn_host(qts, addr) / HMT_PAGE * sizeof(entry)), ==,
                    sizeof(entry));
    close(fd);
    return (entry & MAKE_64BIT_MASK(0, 55)) * HMT_PAGE;
}

/* @how: "soft" spares the contents, "hard" does not. */
static bool retire(const char *how, uint64_t frame)
{
    g_autofree char *path = g_strdup_printf("/sys/devices/system/memory/"
                                            "%s_offline_page", how);
    g_autofree char *text = g_strdup_printf("0x%" PRIx64, frame);

    return write_file(path, text);
}

/* A page with errors that could be corrected: the kernel takes another. */
static void test_retired_page(void)
{
    HmTest *t = hmn_start("memory-backend-ram", FULL_SPEED, NULL);
    const uint64_t bad = 6 * MiB;
    uint64_t frame;

    hmn_fill(t);
    move_on(t, 50);
    stop_moving(t);
    frame = physical(t->qts, bad);
    if (!frame || !retire("soft", frame)) {
        g_test_skip("no right to retire pages, or none in this kernel");
        hmt_stop(t);
        return;
    }
    g_assert_cmphex(physical(t->qts, bad), !=, frame);
    hmt_set_policy(t->qts, "shuffle");
    move_on(t, 200);
    stop_moving(t);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    hmn_assert_equal(t);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

/* --- a guest that runs; gdb, and memory that breaks --------------------- */

#define ROM_SIZE (64 * KiB)
#define COUNTERS 0x20000u       /* 16 words, a page apart */

/* From the reset vector on, in real mode: counts up for ever. */
static const uint8_t counting[] = {
    0xb8, 0x00, 0x20,           /* mov ax, COUNTERS / 16 */
    0x8e, 0xd8,                 /* mov ds, ax */
    0x31, 0xdb,                 /* xor bx, bx */
    0xff, 0x07,                 /* inc word [bx] */
    0x81, 0xc3, 0x00, 0x10,     /* add bx, 4096 */
    0x73, 0xf8,                 /* jnc back to inc */
    0xeb, 0xf4,                 /* jmp back to xor */
};
static const uint8_t at_reset[] = { 0xe9, 0x0d, 0x00 };     /* jmp to it */

static char *make_rom(const char *dir)
{
    g_autofree uint8_t *rom = g_malloc0(ROM_SIZE);
    char *path = g_build_filename(dir, "rom", NULL);

    memcpy(rom, counting, sizeof(counting));
    memcpy(rom + ROM_SIZE - 16, at_reset, sizeof(at_reset));
    g_assert_true(g_file_set_contents(path, (char *)rom, ROM_SIZE, NULL));
    return path;
}

/* What the guest itself writes gets promoted while it runs. */
static HmTest *start_counting(const char *accel, const char *extra)
{
    g_autofree char *backend = g_strdup_printf(
        MEMFD ",host-nodes=%u,policy=bind,prealloc=on", hmn_slow);
    char *dir = hmt_make_dir();
    g_autofree char *rom = make_rom(dir);
    g_autofree char *args = g_strdup_printf(
        Q35 " -accel %s -bios %s %s", accel, rom, extra);
    HmTest *t = hmn_start_in(dir, backend, "policy=write-heat," ALWAYS, args);

    hmn_wait_for(t->qts, hmn_count(t->qts, COUNTERS, 16, HMT_PAGE, hmn_fast)
                         == 16);
    return t;
}

static void wait_for_count(HmTest *t)
{
    uint16_t count = qtest_readw(t->qts, COUNTERS);

    hmn_wait_for(t->qts, qtest_readw(t->qts, COUNTERS) != count);
}

static void check_guest(const char *accel)
{
    HmTest *t = start_counting(accel, "");

    wait_for_count(t);
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), >=,
                     16 * HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "stall-ns-total"), ==, 0);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

static void test_tcg(void)
{
    check_guest("tcg");
}

static bool have_kvm(void)
{
    if (access("/dev/kvm", R_OK | W_OK)) {
        g_test_skip("no /dev/kvm, or no right to use it");
        return false;
    }
    return true;
}

static void test_kvm(void)
{
    if (have_kvm()) {
        check_guest("kvm");
    }
}

/*
 * A page is lost.  QEMU tells the guest, and has a new page after a reset;
 * the engine leaves it alone meanwhile, and goes on with the rest.  (Without
 * KVM, QEMU itself ends at such a signal.)
 */
static void test_memory_error(void)
{
    const uint64_t bad = 6 * MiB;
    HmTest *t;

    if (!have_kvm()) {
        return;
    }
    t = start_counting("kvm", "");
    if (!physical(t->qts, bad) || !retire("hard", physical(t->qts, bad))) {
        g_test_skip("no right to retire pages, or none in this kernel");
        hmt_stop(t);
        return;
    }
    hmn_wait_for(t->qts, hmn_residency(t->qts, "absent") == HMT_PAGE);
    hmt_set_policy(t->qts, "shuffle");
    move_on(t, 100);
    g_assert_cmpuint(hmn_absent(t->qts, bad, 1, 0), ==, 1);
    wait_for_count(t);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'system_reset' }");
    move_on(t, 100);
    wait_for_count(t);
    qtest_writeq(t->qts, bad, bad);
    move_on(t, 100);
    g_assert_cmphex(qtest_readq(t->qts, bad), ==, bad);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==,
                    0);
    return fd;
}

/* The reply to a packet of gdb's, without its frame. */
static char *gdb_ask(int fd, const char *packet)
{
    g_autoptr(GString) reply = g_string_new(NULL);
    unsigned char sum = 0;
    g_autofree char *text = NULL;
    const char *begin, *end;
    char c;

    for (const char *at = packet; *at; at++) {
        sum += *at;
    }
    text = g_strdup_printf("+$%s#%02x", packet, sum);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, strlen(text));
    do {
        g_assert_cmpint(read(fd, &c, 1), ==, 1);
        g_string_append_c(reply, c);
        begin = strchr(reply->str, '$');
        end = begin ? strchr(begin, '#') : NULL;
    } while (!end || end + 3 > reply->str + reply->len);
    return g_strndup(begin + 1, end - begin - 1);
}

/* gdb stops the guest, sees and changes its memory, and lets it go on. */
static void test_gdb(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *path = g_build_filename(dir, "gdb", NULL);
    g_autofree char *extra = g_strdup_printf("-gdb unix:%s,server=on,"
                                             "wait=off", path);
    HmTest *t = start_counting("tcg", extra);
    g_autofree char *seen = NULL, *wanted = NULL, *written = NULL;
    uint64_t pages;
    int fd = connect_unix(path);

    hmt_wait_state(t->qts, "inhibited:not-running");
    hmn_wait_batch(t->qts);
    pages = hmt_counter(t->qts, "moved-pages");
    seen = gdb_ask(fd, "m20000,2");
    wanted = g_strdup_printf("%04x", bswap16(qtest_readw(t->qts, COUNTERS)));
    g_assert_cmpstr(seen, ==, wanted);
    written = gdb_ask(fd, "M300000,2:3412");
    g_assert_cmpstr(written, ==, "OK");
    g_assert_cmphex(qtest_readw(t->qts, 0x300000), ==, 0x1234);
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages"), ==, pages);
    g_free(gdb_ask(fd, "D"));
    close(fd);
    hmt_wait_state(t->qts, "running");
    hmn_wait_for(t->qts, bswap16(qtest_readw(t->qts, COUNTERS)) !=
                         g_ascii_strtoull(wanted, NULL, 16));
    g_assert_cmphex(qtest_readw(t->qts, 0x300000), ==, 0x1234);
    hmt_stop(t);
    hmt_remove_dir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!hmn_have_nodes("hybridmem/numa/device")) {
        return g_test_run();
    }
    qtest_add_func("hybridmem/numa/device/balloon", test_balloon);
    qtest_add_func("hybridmem/numa/device/virtio-mem", test_virtio_mem);
    qtest_add_func("hybridmem/numa/device/dimm", test_dimm);
    qtest_add_func("hybridmem/numa/device/persistent", test_persistent);
    qtest_add_func("hybridmem/numa/device/persistent-later",
                   test_persistent_later);
    qtest_add_func("hybridmem/numa/device/vhost-user", test_vhost_user);
    qtest_add_func("hybridmem/numa/device/vhost-user-unprivileged",
                   test_vhost_user_unprivileged);
    qtest_add_func("hybridmem/numa/device/vhost-net", test_vhost_net);
    qtest_add_func("hybridmem/numa/host/mem-lock", test_mem_lock);
    qtest_add_func("hybridmem/numa/host/merge", test_merge);
    qtest_add_func("hybridmem/numa/host/merge-unprivileged",
                   test_merge_unprivileged);
    qtest_add_func("hybridmem/numa/host/retired-page", test_retired_page);
    qtest_add_func("hybridmem/numa/host/memory-error", test_memory_error);
    qtest_add_func("hybridmem/numa/guest/tcg", test_tcg);
    qtest_add_func("hybridmem/numa/guest/kvm", test_kvm);
    qtest_add_func("hybridmem/numa/guest/gdb", test_gdb);
    return g_test_run();
}
