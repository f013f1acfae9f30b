/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of memory composed of tiers, and of the engine that relocates it:
 * objects, contents, the life of engines, errors of the host, devices.
 */
#include "qemu/osdep.h"
#include <sched.h>
#include <sys/mount.h>
#include "qemu/bswap.h"
#include "hybridmem-util.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_blk.h"

/* --- objects ----------------------------------------------------------- */

static void check_tiers(QTestState *qts, uint64_t dram, uint64_t nvm)
{
    QDict *info = hmt_query(qts);
    const QListEntry *e = qlist_first(qdict_get_qlist(info, "tiers"));
    QDict *tier = qobject_to(QDict, qlist_entry_obj(e));

    g_assert_cmpstr(qdict_get_str(tier, "tier"), ==, "dram");
    g_assert_cmpuint(qdict_get_int(tier, "size"), ==, dram);
    tier = qobject_to(QDict, qlist_entry_obj(qlist_next(e)));
    g_assert_cmpstr(qdict_get_str(tier, "tier"), ==, "nvm");
    g_assert_cmpuint(qdict_get_int(tier, "size"), ==, nvm);
    g_assert_null(qlist_next(qlist_next(e)));
    qobject_unref(info);
}

/* RAMinate's command line; files stand for the addresses. */
static void check_raminate(const char *use)
{
    char *dir = hmt_make_dir();
    QTestState *qts = qtest_initf(
        "-nodefaults -machine q35 -m 64M "
        "-object memory-backend-container,id=dmcon0,size=64M "
        "-object memory-backend-devmem,id=dram0,size=8M,phy-offset=0x100000,"
        "offset=0,parent=dmcon0,mem-path=%s/mem "
        "-object memory-backend-devmem,id=mram0,size=56M,phy-offset="
        "0x3080000,offset=0x800000,parent=dmcon0,mem-path=%s/mem "
        "%s", dir, dir, use);
    QDict *info = hmt_query(qts);

    g_assert_cmpstr(qdict_get_str(info, "id"), ==, "dmcon0-hybridmem");
    g_assert_cmpstr(qdict_get_str(info, "memdev"), ==, "dmcon0");
    g_assert_cmpstr(qdict_get_str(info, "policy"), ==, "benefit");
    g_assert_cmpuint(qdict_get_int(info, "block-size"), ==, HMT_PAGE);
    g_assert_cmpuint(qdict_get_int(info, "mappings"), ==, 2);
    g_assert_false(qdict_haskey(info, "last-error"));
    check_tiers(qts, 8 * MiB, 56 * MiB);
    hmt_wait_state(qts, "running");
    qtest_writeq(qts, 60 * MiB, 0x123456789abcdef0);
    g_assert_true(hmt_swap(qts, 60 * MiB, 2 * MiB, "failed"));
    g_assert_cmphex(qtest_readq(qts, 60 * MiB), ==, 0x123456789abcdef0);
    qobject_unref(info);
    qtest_quit(qts);
    hmt_remove_dir(dir);
}

static void test_raminate_machine(void)
{
    check_raminate("-machine memory-backend=dmcon0");
}

static void test_raminate_numa(void)
{
    check_raminate("-numa node,nodeid=0,memdev=dmcon0");
}

static void test_json(void)
{
    char *dir = hmt_make_dir();
    QTestState *qts = qtest_initf(
        "-nodefaults -machine q35,memory-backend=con -m 16M "
        "-object '{\"qom-type\":\"memory-backend-container\",\"id\":\"con\","
        "\"size\":16777216}' "
        "-object '{\"qom-type\":\"memory-backend-devmem\",\"id\":\"a\","
        "\"parent\":\"con\",\"mem-path\":\"memfd\",\"size\":12582912,"
        "\"offset\":0,\"tier\":\"nvm\"}' "
        "-object '{\"qom-type\":\"memory-backend-devmem\",\"id\":\"b\","
        "\"parent\":\"con\",\"mem-path\":\"%s\",\"size\":4194304,"
        "\"offset\":12582912,\"tier\":\"dram\"}' "
        "-object '{\"qom-type\":\"hybridmem\",\"id\":\"hm0\","
        "\"memdev\":\"con\",\"policy\":\"none\",\"min-gain\":150,"
        "\"block-size\":65536,\"interval\":500,\"enabled\":true}'", dir);
    QDict *info = hmt_query(qts);
    QDict *params = qdict_get_qdict(info, "parameters");

    check_tiers(qts, 4 * MiB, 12 * MiB);
    g_assert_cmpstr(qdict_get_str(info, "policy"), ==, "none");
    g_assert_cmpuint(qdict_get_int(info, "block-size"), ==, 65536);
    g_assert_cmpuint(qdict_get_int(params, "interval"), ==, 500);
    g_assert_cmpuint(qdict_get_int(params, "window"), ==, 250);
    g_assert_cmpuint(qdict_get_int(params, "min-gain"), ==, 150);
    qobject_unref(info);
    qtest_quit(qts);
    hmt_remove_dir(dir);
}

static QDict *find_memdev(QList *list, const char *id)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(list, e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_try_str(d, "id") ?: "", id)) {
            return d;
        }
    }
    g_assert_not_reached();
}

static void test_info(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    g_autofree char *memdev = qtest_hmp(t->qts, "info memdev");
    g_autofree char *ramblock = qtest_hmp(t->qts, "info ramblock");
    g_autofree char *mtree = qtest_hmp(t->qts, "info mtree");
    g_autofree char *flat = qtest_hmp(t->qts, "info mtree -f");
    g_autofree char *info = qtest_hmp(t->qts, "info hybridmem");
    g_autofree char *heat = qtest_hmp(t->qts, "info hybridmem-heat");
    QDict *reply = qtest_qmp(t->qts, "{ 'execute': 'query-memdev' }");
    QList *list = qdict_get_qlist(reply, "return");

    g_assert_cmpuint(qlist_size(list), ==, 3);
    g_assert_cmpuint(qdict_get_int(find_memdev(list, "dmcon0"), "size"), ==,
                     HMT_RAM);
    g_assert_cmpuint(qdict_get_int(find_memdev(list, "dram0"), "size"), ==,
                     HMT_DRAM);
    g_assert_cmpuint(qdict_get_int(find_memdev(list, "mram0"), "size"), ==,
                     HMT_RAM - HMT_DRAM);
    g_assert_true(qdict_get_bool(find_memdev(list, "mram0"), "share"));
    g_assert_false(qdict_get_bool(find_memdev(list, "dmcon0"), "merge"));
    hmt_assert_in(memdev, "memory backend: dmcon0");
    hmt_assert_in(memdev, "memory backend: mram0");
    hmt_assert_in(ramblock, "dmcon0");
    g_assert_null(strstr(ramblock, "mram0"));
    hmt_assert_in(mtree, "ram): dmcon0");
    hmt_assert_in(flat, "ram): dmcon0");
    hmt_assert_in(info, "hm0: running");
    hmt_assert_in(info, "memdev dmcon0, mover remap, policy manual,"
                  " blocks of 4 KiB");
    hmt_assert_in(heat, "hm0: ......");
    qobject_unref(reply);
    hmt_stop(t);
}

static void assert_no_engine(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-hybridmem' }");

    g_assert_true(qlist_empty(qdict_get_qlist(reply, "return")));
    qobject_unref(reply);
    hmt_assert_error(qts, "there is no hybridmem object",
                     "{ 'execute': 'hybridmem-rebalance' }");
}

static void test_rebalance_off(void)
{
    QTestState *qts = qtest_init(
        "-nodefaults -machine q35,memory-backend=con -m 16M "
        "-object memory-backend-container,id=con,size=16M,rebalance=off "
        "-object memory-backend-devmem,id=a,size=16M,parent=con,"
        "mem-path=memfd");

    assert_no_engine(qts);
    qtest_quit(qts);
    qts = qtest_init("-machine none");
    assert_no_engine(qts);
    qtest_quit(qts);
}

static void test_fixed_properties(void)
{
    static const char *const fixed[][3] = {
        { "hm0", "memdev", "'x'" }, { "hm0", "block-size", "8192" },
        { "dmcon0", "size", "4096" }, { "dmcon0", "rebalance", "false" },
        { "dram0", "size", "4096" }, { "dram0", "parent", "'x'" },
        { "dram0", "mem-path", "'x'" }, { "dram0", "offset", "4096" },
        { "dram0", "phy-offset", "4096" }, { "dram0", "tier", "'nvm'" },
        { "dram0", "clear", "false" },
    };
    HmTest *t = hmt_start(STILL, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++) {
        g_autofree char *command = g_strdup_printf(
            "{ 'execute': 'qom-set', 'arguments': { 'path': '/objects/%s',"
            " 'property': '%s', 'value': %s } }", fixed[i][0], fixed[i][1],
            fixed[i][2]);
        QDict *error;

        g_strdelimit(command, "'", '"');
        qtest_qmp_send_raw(t->qts, "%s\n", command);
        error = qdict_get_qdict(qtest_qmp_receive(t->qts), "error");
        g_assert_nonnull(error);
        hmt_assert_in(qdict_get_str(error, "desc"), "cannot change property");
        hmt_assert_in(qdict_get_str(error, "desc"), fixed[i][1]);
    }
    hmt_stop(t);
}

static void test_objects_at_runtime(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    static const char *const in_use[] = { "dram0", "mram0", "dmcon0" };

    for (unsigned i = 0; i < ARRAY_SIZE(in_use); i++) {
        hmt_assert_error(t->qts, "in use", "{ 'execute': 'object-del',"
                         " 'arguments': { 'id': %s } }", in_use[i]);
    }
    hmt_assert_error(t->qts, "cannot be added once the machine exists",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type':"
        " 'memory-backend-container', 'id': 'c', 'size': 4096 } }");
    hmt_assert_error(t->qts, "comes too late",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type':"
        " 'memory-backend-devmem', 'id': 'c', 'size': 4096, 'offset': 0,"
        " 'parent': 'dmcon0', 'mem-path': 'memfd' } }");
    hmt_assert_error(t->qts, "has an engine already: 'hm0'",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type': 'hybridmem',"
        " 'id': 'hm1', 'memdev': 'dmcon0' } }");
    hmt_assert_error(t->qts, "not the id of a memory backend",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type': 'hybridmem',"
        " 'id': 'hm1', 'memdev': 'nobody' } }");
    /* Refused objects leave nothing behind. */
    g_assert_true(hmt_swap(t->qts, 0, NVM, "stale"));
    hmt_stop(t);
}

/* --- contents ---------------------------------------------------------- */

static void test_swap(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    const uint64_t d = 0x3000, e = 2 * MiB, n = 5 * MiB, m = HMT_RAM - 4096;

    hmt_fill(t);
    g_assert_cmphex(hmt_in_file(t, d), ==, hmt_signature(t, d));

    /* dram and nvm; any address in a block names it */
    g_assert_true(hmt_swap(t->qts, d + 5, n + 4095, "failed"));
    g_assert_cmphex(hmt_in_file(t, d), ==, hmt_signature(t, n));
    g_assert_cmphex(hmt_in_file(t, n), ==, hmt_signature(t, d));
    g_assert_cmpuint(hmt_counter(t->qts, "moves-planned"), ==,
                     1 + hmt_counter(t->qts, "skipped.busy"));
    g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, 1);
    g_assert_cmpuint(hmt_counter(t->qts, "blocks-moved"), ==, 2);
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages"), ==, 2);
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==, HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "demoted-bytes"), ==, HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-written-bytes"), ==, HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "batches"), ==,
                     1 + hmt_counter(t->qts, "skipped.busy"));

    /* nvm and nvm */
    g_assert_true(hmt_swap(t->qts, n + MiB, m, "failed"));
    g_assert_cmphex(hmt_in_file(t, m), ==, hmt_signature(t, n + MiB));
    g_assert_cmphex(hmt_in_file(t, n + MiB), ==, hmt_signature(t, m));
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==, HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-written-bytes"), ==,
                     3 * HMT_PAGE);

    /* dram and dram */
    g_assert_true(hmt_swap(t->qts, 0, e, "failed"));
    g_assert_cmphex(hmt_in_file(t, 0), ==, hmt_signature(t, e));
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==, HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-written-bytes"), ==,
                     3 * HMT_PAGE);

    /* and home again: promoted soon after its demotion */
    g_assert_true(hmt_swap(t->qts, d, n, "failed"));
    g_assert_cmphex(hmt_in_file(t, d), ==, hmt_signature(t, d));
    g_assert_cmpuint(hmt_counter(t->qts, "moved-back"), ==, 1);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, 4);
    hmt_assert_equal(t);
    hmt_stop(t);
}

/* Whose bytes are in each frame, by the files; 0 where a test cannot read. */
static void read_frames(HmTest *t, uint64_t frames[HMT_BLOCKS])
{
    for (uint64_t b = 0; b < HMT_BLOCKS; b++) {
        frames[b] = hmt_in_file(t, b * HMT_PAGE);
    }
}

typedef struct Journey {
    uint64_t promoted, demoted, moved, into_nvm;
} Journey;

/* What one exchange did, by the files before and after. */
static void add_journey(const uint64_t *before, const uint64_t *after,
                        Journey *j)
{
    const uint64_t border = NVM / HMT_PAGE;

    for (uint64_t to = 0; to < HMT_BLOCKS; to++) {
        uint64_t from;

        if (after[to] == before[to]) {
            continue;
        }
        for (from = 0; before[from] != after[to]; from++) {
            g_assert_cmpuint(from, <, HMT_BLOCKS - 1);
        }
        j->moved++;
        j->into_nvm += to >= border;
        j->promoted += from >= border && to < border;
        j->demoted += from < border && to >= border;
    }
}

static void check_heat_knows(HmTest *t, const uint64_t *frames)
{
    QDict *reply = qtest_qmp(t->qts, "{ 'execute': 'query-hybridmem-heat',"
                             " 'arguments': { 'buckets': 4096 } }");
    QDict *heat = qobject_to(QDict,
                             qlist_peek(qdict_get_qlist(reply, "return")));
    QList *buckets = qdict_get_qlist(heat, "buckets");
    g_autofree bool *in_dram = g_new0(bool, HMT_BLOCKS);
    const QListEntry *e;
    uint64_t b = 0;

    g_assert_cmpuint(qdict_get_int(heat, "bucket-size"), ==, HMT_PAGE);
    for (uint64_t f = 0; f < NVM / HMT_PAGE; f++) {
        if ((uint32_t)frames[f]) {
            in_dram[(uint32_t)frames[f] - 1] = true;
        }
    }
    QLIST_FOREACH_ENTRY(buckets, e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        g_assert_cmpuint(qdict_get_int(d, "offset"), ==, b * HMT_PAGE);
        if (b * HMT_PAGE < HMT_HOLE || b * HMT_PAGE >= HMT_HOLE_END) {
            g_assert_cmpuint(qdict_get_int(d, "dram-blocks"), ==, in_dram[b]);
        }
        b++;
    }
    g_assert_cmpuint(b, ==, HMT_BLOCKS);
    qobject_unref(reply);
}

static void test_counters_against_files(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    g_autofree uint64_t *before = g_new(uint64_t, HMT_BLOCKS);
    g_autofree uint64_t *after = g_new(uint64_t, HMT_BLOCKS);
    Journey j = { };

    hmt_fill(t);
    read_frames(t, before);
    check_heat_knows(t, before);
    for (unsigned i = 0; i < 40; i++) {
        /* Few blocks, so that they meet away from home. */
        uint64_t a = hmt_random_page(t, 0, 8 * HMT_PAGE);
        uint64_t b = hmt_random_page(t, i % 4 ? NVM : 0,
                                     (i % 4 ? NVM : 0) + 8 * HMT_PAGE);

        if (a == b) {
            continue;
        }
        g_assert_true(hmt_swap(t->qts, a, b, "failed"));
        read_frames(t, after);
        add_journey(before, after, &j);
        memcpy(before, after, HMT_BLOCKS * sizeof(*before));
        g_assert_cmpuint(hmt_counter(t->qts, "blocks-moved"), ==, j.moved);
        g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==,
                         j.promoted * HMT_PAGE);
        g_assert_cmpuint(hmt_counter(t->qts, "demoted-bytes"), ==,
                         j.demoted * HMT_PAGE);
        g_assert_cmpuint(hmt_counter(t->qts, "nvm-written-bytes"), ==,
                         j.into_nvm * HMT_PAGE);
    }
    check_heat_knows(t, after);
    hmt_assert_equal(t);
    hmt_stop(t);
}

/* Pairs may be any at all, in one command; and meanwhile the guest writes. */
static void test_random_swaps(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    uint64_t done = 0;

    hmt_fill(t);
    for (unsigned round = 0; round < 10; round++) {
        GString *pairs = g_string_new(NULL);
        g_autofree char *text = NULL;
        QDict *reply, *result, *info;

        for (unsigned i = 0; i < 1000; i++) {
            uint64_t a = hmt_random_page(t, 0, HMT_RAM), b;

            do {
                b = hmt_random_page(t, 0, HMT_RAM);
            } while (b == a);
            g_string_append_printf(pairs, "%s{ \"a\": %" PRIu64 ", \"b\": %"
                                   PRIu64 " }", i ? "," : "", a, b);
        }
        text = g_string_free(pairs, false);
        qtest_qmp_send_raw(t->qts, "{ \"execute\": \"hybridmem-swap\","
                           " \"arguments\": { \"pairs\": [ %s ] } }\n", text);
        reply = qtest_qmp_receive(t->qts);
        result = qdict_get_qdict(reply, "return");
        g_assert_nonnull(result);
        done += qdict_get_int(result, "done");
        g_assert_cmpuint(qdict_get_int(result, "done") + qdict_get_int(
                         qdict_get_qdict(result, "skipped"), "busy"), ==,
                         1000);
        qobject_unref(reply);
        g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, done);

        info = hmt_query(t->qts);
        g_assert_cmpuint(qdict_get_int(info, "mappings"), ==,
                         hmt_count_mappings(t));
        qobject_unref(info);
        hmt_write_page(t, hmt_random_page(t, 0, HMT_RAM));
        hmt_assert_equal(t);
    }
    g_assert_cmpuint(done, >=, 1000);
    hmt_stop(t);
}

static void test_shuffle(void)
{
    HmTest *t = hmt_start(FULL_SPEED, NULL);
    uint64_t done = 0;

    hmt_fill(t);
    for (unsigned round = 0; round < 5; round++) {
        done = hmt_wait_counter(t->qts, "moves-done", done + 2000);
        for (unsigned i = 0; i < 100; i++) {
            hmt_write_page(t, hmt_random_page(t, 0, HMT_RAM));
        }
        hmt_assert_equal(t);
    }
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 0);
    hmt_stop(t);
}

static void check_clear(const char *option, uint64_t expected)
{
    char *dir = hmt_make_dir();
    g_autofree char *path = g_build_filename(dir, "old", NULL);
    g_autofree uint64_t *old = g_new(uint64_t, 4 * MiB / 8);
    QTestState *qts;

    for (size_t i = 0; i < 4 * MiB / 8; i++) {
        old[i] = 0x6f6c642064617461;
    }
    g_assert_true(g_file_set_contents(path, (char *)old, 4 * MiB, NULL));
    qts = qtest_initf("-nodefaults -machine q35,memory-backend=con -m 2M "
        "-object memory-backend-container,id=con,size=2M "
        "-object memory-backend-devmem,id=a,size=2M,phy-offset=1M,"
        "parent=con,mem-path=%s%s", path, option);
    for (uint64_t addr = 1 * MiB; addr < 2 * MiB; addr += 64 * KiB) {
        g_assert_cmphex(qtest_readq(qts, addr + 8), ==, expected);
    }
    qtest_quit(qts);
    /* What lies beside our range is not ours. */
    g_assert_true(g_file_get_contents(path, (char **)&old, NULL, NULL));
    g_assert_cmphex(old[0], ==, 0x6f6c642064617461);
    g_assert_cmphex(old[1 * MiB / 8 - 1], ==, 0x6f6c642064617461);
    g_assert_cmphex(old[3 * MiB / 8], ==, 0x6f6c642064617461);
    hmt_remove_dir(dir);
}

static void test_clear(void)
{
    check_clear("", 0);
    check_clear(",clear=on", 0);
    check_clear(",clear=off", 0x6f6c642064617461);
}

/* --- engines come and go ----------------------------------------------- */

static void add_engine(HmTest *t, const char *id, const char *policy)
{
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'object-add',"
        " 'arguments': { 'qom-type': 'hybridmem', 'id': %s, 'memdev':"
        " 'dmcon0', 'policy': %s, 'interval': 50, 'window': 20,"
        " 'max-stall': 0, 'max-bandwidth': 0 } }", id, policy);
}

static void del_engine(HmTest *t, const char *id)
{
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'object-del',"
                             " 'arguments': { 'id': %s } }", id);
}

static void test_engine_comes_and_goes(void)
{
    HmTest *t = hmt_start(FULL_SPEED, NULL);
    unsigned mappings;

    hmt_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 1000);
    del_engine(t, "hm0");
    assert_no_engine(t->qts);
    mappings = hmt_count_mappings(t);
    g_assert_cmpuint(mappings, >, 100);
    hmt_assert_equal(t);

    /* The next one knows where the blocks lie. */
    hmt_assert_error(t->qts, "an earlier engine has laid out",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type': 'hybridmem',"
        " 'id': 'x', 'memdev': 'dmcon0', 'block-size': 8192 } }");
    for (unsigned i = 0; i < 10; i++) {
        QDict *info;

        add_engine(t, "hm1", "manual");
        info = hmt_query(t->qts);
        g_assert_cmpuint(qdict_get_int(info, "mappings"), ==, mappings);
        g_assert_cmpstr(qdict_get_str(info, "id"), ==, "hm1");
        qobject_unref(info);
        g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, 0);
        hmt_set_policy(t->qts, "shuffle");
        hmt_wait_counter(t->qts, "moves-done", 300);
        /* While it works. */
        del_engine(t, "hm1");
        mappings = hmt_count_mappings(t);
        hmt_assert_equal(t);
    }
    hmt_stop(t);
}

static void test_quit_while_it_works(void)
{
    HmTest *t = hmt_start(FULL_SPEED, NULL);

    hmt_wait_counter(t->qts, "moves-done", 500);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'quit' }");
    hmt_stop(t);
}

static void test_reset(void)
{
    HmTest *t = hmt_start(FULL_SPEED, NULL);
    uint64_t done;

    hmt_fill(t);
    done = hmt_wait_counter(t->qts, "moves-done", 500);
    qtest_system_reset(t->qts);
    hmt_wait_counter(t->qts, "moves-done", done + 500);
    hmt_assert_equal(t);
    hmt_stop(t);
}

/* --- errors of the host ------------------------------------------------ */

static void expect_error_event(HmTest *t, uint64_t offset)
{
    QDict *event = qtest_qmp_eventwait_ref(t->qts,
                                           "HYBRIDMEM_RELOCATION_ERROR");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "hm0");
    g_assert_cmphex(qdict_get_int(data, "offset"), ==, offset);
    g_assert_cmpuint(qdict_get_int(data, "size"), ==, HMT_PAGE);
    g_assert_cmpstr(qdict_get_str(data, "message"), !=, "");
    qobject_unref(event);
}

static void test_truncated(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    g_autofree char *path = g_build_filename(t->dir, "nvm", NULL);
    const uint64_t lost = HMT_RAM - 8 * HMT_PAGE;
    QDict *info;

    hmt_fill(t);
    g_assert_cmpint(truncate(path, HMT_NVM_PHY + lost - NVM), ==, 0);
    g_assert_false(hmt_swap(t->qts, 1 * MiB, lost, "failed"));
    expect_error_event(t, 1 * MiB);
    g_assert_false(hmt_swap(t->qts, lost, 2 * MiB, "failed"));
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 2);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, 0);
    info = hmt_query(t->qts);
    hmt_assert_in(qdict_get_try_str(info, "last-error"), "offset 0xff8000: "
                  "cannot");
    qobject_unref(info);

    /* Others go on. */
    g_assert_true(hmt_swap(t->qts, 1 * MiB, NVM, "failed"));
    /* The file comes back, empty where it was cut. */
    g_assert_cmpint(truncate(path, HMT_NVM_PHY + HMT_RAM - NVM), ==, 0);
    memset(t->model + lost, 0, HMT_RAM - lost);
    g_assert_true(hmt_swap(t->qts, 2 * MiB, lost, "failed"));
    hmt_assert_equal(t);
    hmt_stop(t);
}

/* In a mount namespace of its own from here on. */
static bool mount_small(const char *dir, size_t size)
{
    g_autofree char *options = g_strdup_printf("size=%zu", size);

    return unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", dir, "tmpfs", 0, options) == 0;
}

static void test_full_tmpfs(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *rest = g_build_filename(dir, "rest", NULL);
    g_autofree char *page = g_malloc0(HMT_PAGE);
    HmTest *t;
    int fd;

    if (!mount_small(dir, 2 * MiB)) {
        g_test_skip("a tmpfs cannot be mounted here (needs CAP_SYS_ADMIN)");
        hmt_remove_dir(dir);
        return;
    }
    t = hmt_start_in(dir, STILL, NULL);
    for (unsigned i = 0; i < 16; i++) {
        hmt_write_page(t, 1 * MiB + i * HMT_PAGE);
    }
    fd = open(rest, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, page, HMT_PAGE) > 0) {
        /* until it is full */
    }
    for (unsigned i = 0; i < 16; i++) {
        g_assert_false(hmt_swap(t->qts, 1 * MiB + i * HMT_PAGE,
                                NVM + i * HMT_PAGE, "failed"));
    }
    expect_error_event(t, 1 * MiB);
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.failed"), ==, 16);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    close(fd);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t addr = 1 * MiB + i * HMT_PAGE;

        g_assert_true(hmt_swap(t->qts, addr, NVM + i * HMT_PAGE, "failed"));
        qtest_memread(t->qts, addr, page, HMT_PAGE);
        g_assert_cmpmem(page, HMT_PAGE, t->model + addr, HMT_PAGE);
    }
    qtest_quit(t->qts);
    unlink(rest);
    umount2(dir, MNT_DETACH);
    hmt_remove_dir(dir);
    g_rand_free(t->random);
    g_free(t->model);
    g_free(t);
}

/* --- devices ----------------------------------------------------------- */

typedef struct Disk {
    QPCIBus *pci;
    QVirtioPCIDevice *dev;
    QVirtQueue *vq;
    QGuestAllocator alloc;
} Disk;

#define DISK "-drive if=none,id=d,driver=null-co,size=1M,read-zeroes=on " \
             "-device virtio-blk-pci,drive=d,addr=4"

/* With @iops=1 a page takes an hour: each of its bytes is an operation. */
static void disk_limit(HmTest *t, int iops)
{
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'block_set_io_throttle',"
        " 'arguments': { 'device': 'd', 'bps': 0, 'bps_rd': 0, 'bps_wr': 0,"
        " 'iops': %d, 'iops_rd': 0, 'iops_wr': 0, 'iops_size': %d } }", iops,
        iops);
}

static void disk_init(Disk *disk, HmTest *t)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };
    QVirtioDevice *v;

    pc_alloc_init(&disk->alloc, t->qts, 0);
    disk->pci = qpci_new_pc(t->qts, &disk->alloc);
    disk->dev = virtio_pci_new(disk->pci, &addr);
    v = &disk->dev->vdev;
    qvirtio_pci_device_enable(disk->dev);
    qvirtio_start_device(v);
    qvirtio_set_features(v, qvirtio_get_features(v) &
                         ~(QVIRTIO_F_BAD_FEATURE |
                           (1u << VIRTIO_RING_F_INDIRECT_DESC) |
                           (1u << VIRTIO_RING_F_EVENT_IDX)));
    disk->vq = qvirtqueue_setup(v, &disk->alloc, 0);
    qvirtio_set_driver_ok(v);
}

static void disk_destroy(Disk *disk)
{
    qvirtqueue_cleanup(disk->dev->vdev.bus, disk->vq, &disk->alloc);
    qvirtio_pci_device_disable(disk->dev);
    g_free(disk->dev->pdev);
    g_free(disk->dev);
    qpci_free_pc(disk->pci);
    alloc_destroy(&disk->alloc);
}

/* Reads one page of the disk to @data; its header lies at @header. */
static uint32_t disk_read(Disk *disk, HmTest *t, uint64_t header,
                          uint64_t data)
{
    struct virtio_blk_outhdr hdr = { .type = cpu_to_le32(VIRTIO_BLK_T_IN) };
    uint32_t head;

    qtest_memwrite(t->qts, header, &hdr, sizeof(hdr));
    head = qvirtqueue_add(t->qts, disk->vq, header, sizeof(hdr), false, true);
    qvirtqueue_add(t->qts, disk->vq, data, HMT_PAGE, true, true);
    qvirtqueue_add(t->qts, disk->vq, header + 512, 1, true, false);
    qvirtqueue_kick(t->qts, &disk->dev->vdev, disk->vq, head);
    return head;
}

static void disk_wait(Disk *disk, HmTest *t, uint32_t head)
{
    qvirtio_wait_used_elem(t->qts, &disk->dev->vdev, disk->vq, head, NULL,
                           HMT_SECONDS * G_USEC_PER_SEC);
}

static void assert_zero(HmTest *t, uint64_t addr)
{
    g_autofree char *zero = g_malloc0(HMT_PAGE), *seen = g_malloc(HMT_PAGE);

    qtest_memread(t->qts, addr, seen, HMT_PAGE);
    g_assert_cmpmem(seen, HMT_PAGE, zero, HMT_PAGE);
}

static void test_pinned(void)
{
    HmTest *t = hmt_start(STILL, DISK);
    const uint64_t header = 12 * MiB, data = 13 * MiB, later = 14 * MiB;
    uint32_t head;
    Disk disk;

    disk_init(&disk, t);
    hmt_write_page(t, data);
    hmt_write_page(t, later);
    disk_limit(t, 1);
    /* The first request goes through at once, and its block is free. */
    disk_wait(&disk, t, disk_read(&disk, t, header, data));
    assert_zero(t, data);
    g_assert_true(hmt_swap(t->qts, data, 2 * MiB, "pinned"));

    /* The next one waits. */
    head = disk_read(&disk, t, header, later);
    g_assert_false(hmt_swap(t->qts, later, 2 * MiB, "pinned"));
    g_assert_false(hmt_swap(t->qts, 2 * MiB, later, "pinned"));
    g_assert_cmpuint(hmt_counter(t->qts, "skipped.pinned"), ==, 2);
    g_assert_true(hmt_swap(t->qts, later + HMT_PAGE, 3 * MiB, "pinned"));
    /* Nor does a policy move it: its bytes stay in its frame. */
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
        " 'arguments': { 'max-stall': 0, 'max-bandwidth': 0, 'interval': 50,"
        " 'window': 20, 'policy': 'shuffle' } }");
    hmt_wait_counter(t->qts, "skipped.pinned", 5);
    g_assert_cmphex(hmt_in_file(t, later), ==, hmt_signature(t, later));
    hmt_set_policy(t->qts, "manual");

    disk_limit(t, 0);
    disk_wait(&disk, t, head);
    assert_zero(t, later);
    g_assert_true(hmt_swap(t->qts, later, 2 * MiB, "pinned"));
    assert_zero(t, later);
    disk_destroy(&disk);
    hmt_stop(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("hybridmem/raminate/machine", test_raminate_machine);
    qtest_add_func("hybridmem/raminate/numa", test_raminate_numa);
    qtest_add_func("hybridmem/objects/json", test_json);
    qtest_add_func("hybridmem/objects/info", test_info);
    qtest_add_func("hybridmem/objects/rebalance-off", test_rebalance_off);
    qtest_add_func("hybridmem/objects/fixed", test_fixed_properties);
    qtest_add_func("hybridmem/objects/at-runtime", test_objects_at_runtime);
    qtest_add_func("hybridmem/contents/swap", test_swap);
    qtest_add_func("hybridmem/contents/counters",
                   test_counters_against_files);
    qtest_add_func("hybridmem/contents/random", test_random_swaps);
    qtest_add_func("hybridmem/contents/shuffle", test_shuffle);
    qtest_add_func("hybridmem/contents/clear", test_clear);
    qtest_add_func("hybridmem/life/engines", test_engine_comes_and_goes);
    qtest_add_func("hybridmem/life/quit", test_quit_while_it_works);
    qtest_add_func("hybridmem/life/reset", test_reset);
    qtest_add_func("hybridmem/host/truncated", test_truncated);
    qtest_add_func("hybridmem/host/full-tmpfs", test_full_tmpfs);
    qtest_add_func("hybridmem/devices/pinned", test_pinned);
    return g_test_run();
}
