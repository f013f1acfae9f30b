/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of the numa mover: ordinary memory backends, moved by the host's
 * kernel between its NUMA nodes.  Where pages are is asked from outside of
 * QEMU.
 */
#include "qemu/osdep.h"
#include <sys/mount.h>
#include "qemu/bswap.h"
#include "hybridmem-numa-util.h"

/* All of it on slow nodes at first, whatever the engine does later. */
static char *on_slow(const char *type)
{
    return g_strdup_printf("%s,host-nodes=%u,policy=bind", type, hmn_slow);
}

/* --- backends ---------------------------------------------------------- */

static void assert_block_size(QTestState *qts, uint64_t size)
{
    QDict *info = hmt_query(qts);

    g_assert_cmpstr(qdict_get_str(info, "mover"), ==, "numa");
    g_assert_cmpuint(qdict_get_int(info, "block-size"), ==, size);
    g_assert_cmpuint(qdict_get_int(info, "mappings"), ==, 1);
    g_assert_cmpuint(qdict_get_int(info, "map-limit"), ==, 0);
    qobject_unref(info);
}

/* The guest was never held by us. */
static void assert_no_stop(QTestState *qts)
{
    g_assert_cmpuint(hmt_counter(qts, "batches"), ==, 0);
    g_assert_cmpuint(hmt_counter(qts, "stall-ns-total"), ==, 0);
    g_assert_cmpuint(hmt_counter(qts, "skipped.failed"), ==, 0);
}

static void assert_engine_policy(QTestState *qts)
{
    HmnSpread s = hmn_spread_all(qts);

    if (!g_str_has_prefix(s.policy, "prefer=static:") &&
        !g_str_has_prefix(s.policy, "prefer (many)=static:")) {
        g_assert_cmpstr(s.policy, ==, "prefer (many)=static:N");
    }
}

/*
 * A backend gets an engine and loses it again, twice.  @block is what the
 * kernel moves at once.
 */
static void check_backend(char *dir, const char *backend, uint64_t block)
{
    HmTest *t = hmn_start_in(dir, backend, NULL, NULL);
    HmnSpread before = hmn_spread_all(t->qts), left, s;

    hmn_fill(t);
    for (unsigned round = 0; round < 2; round++) {
        hmn_attach(t->qts, "r", "write-heat");
        assert_block_size(t->qts, block);
        assert_engine_policy(t->qts);
        hmn_wait_promoted(t);
        hmn_wait_fast_at_most(t->qts, HMN_FAST);
        hmn_assert_agree(t->qts);
        hmn_assert_equal(t);
        assert_no_stop(t->qts);
        left = hmn_spread_all(t->qts);
        hmn_detach(t->qts);

        s = hmn_spread_all(t->qts);
        g_assert_cmpstr(s.policy, ==, before.policy);
        g_assert_cmpuint(s.fast, ==, left.fast);
        g_assert_cmpuint(s.slow, ==, left.slow);
    }
    hmn_assert_equal(t);
    hmt_stop(t);
}

static uint64_t thp_or_page(const char *file)
{
    return hmn_have_thp(file) ? 2 * MiB : HMT_PAGE;
}

static void test_ram(void)
{
    check_backend(hmt_make_dir(), "memory-backend-ram",
                  thp_or_page("enabled"));
}

/* A backend with a policy of its own gets that back. */
static void test_bound(void)
{
    g_autofree char *backend = on_slow("memory-backend-ram,prealloc=on");

    check_backend(hmt_make_dir(), backend, thp_or_page("enabled"));
}

static void test_preferred(void)
{
    g_autofree char *backend = g_strdup_printf(
        "memory-backend-ram,host-nodes=%u,policy=preferred", hmn_slow);

    check_backend(hmt_make_dir(), backend, thp_or_page("enabled"));
}

static void test_interleaved(void)
{
    g_autofree char *backend = g_strdup_printf(
        "memory-backend-memfd,host-nodes=%u,host-nodes=%u,"
        "policy=interleave", hmn_fast, hmn_slow);

    check_backend(hmt_make_dir(), backend, thp_or_page("shmem_enabled"));
}

static void test_memfd(void)
{
    check_backend(hmt_make_dir(), "memory-backend-memfd",
                  thp_or_page("shmem_enabled"));
}

/* The same on shmem that the kernel backs with huge pages. */
static void test_memfd_thp(void)
{
    g_autofree char *was = hmn_get_thp("shmem_enabled");

    if (!was || !hmn_set_thp("shmem_enabled", "always")) {
        g_test_skip("no right to set transparent huge pages (shmem_enabled)");
        return;
    }
    check_backend(hmt_make_dir(), "memory-backend-memfd", 2 * MiB);
    hmn_set_thp("shmem_enabled", was);
}

static void test_shm(void)
{
    check_backend(hmt_make_dir(), "memory-backend-shm",
                  thp_or_page("shmem_enabled"));
}

static void check_file(const char *options, const char *thp)
{
    char *dir = hmn_make_dir();
    g_autofree char *backend = NULL;

    if (!dir) {
        g_test_skip("/dev/shm is not a tmpfs");
        return;
    }
    backend = g_strdup_printf("memory-backend-file,mem-path=%s/ram%s", dir,
                              options);
    check_backend(dir, backend, thp_or_page(thp));
}

static void test_file(void)
{
    check_file(",share=on", "shmem_enabled");
}

static void test_private_file(void)
{
    check_file(",share=off", "shmem_enabled");
}

/* @method: NULL if accesses cannot be seen, for the memory is private. */
static void check_accesses(const char *backend, const char *method)
{
    HmTest *t = hmn_start(backend, "policy=none", NULL);
    QDict *info = hmn_query(t->qts, "hm0");
    const QDict *a = qdict_get_qdict(info, "accesses");

    if (method) {
        g_assert_cmpstr(qdict_get_str(a, "method"), ==, method);
        g_assert_false(qdict_haskey(a, "unseen"));
    } else {
        g_assert_false(qdict_haskey(a, "method") ||
                       qdict_haskey(a, "granule"));
        g_assert_nonnull(strstr(qdict_get_str(a, "unseen"), "share=on"));
    }
    qobject_unref(info);
    hmt_stop(t);
}

/* Without KVM. */
static void test_accesses(void)
{
    check_accesses("memory-backend-ram", NULL);
    check_accesses("memory-backend-ram,share=on", "drop");
    check_accesses("memory-backend-memfd,share=off", NULL);
    check_accesses("memory-backend-memfd", "drop");
}

static void test_hugetlb(void)
{
    if (hmn_set_pools(8, 8)) {
        check_backend(hmt_make_dir(), "memory-backend-memfd,hugetlb=on,"
                      "hugetlbsize=2M", 2 * MiB);
    } else {
        g_test_skip("no pools of huge pages here (nr_hugepages)");
    }
    hmn_set_pools(0, 0);
}

/* --- life -------------------------------------------------------------- */

/*
 * Pages that the host's automatic NUMA balancing has marked before there was
 * an engine; some kernels hide them then.
 */
static void test_balanced_before(void)
{
    HmTest *t = hmn_start("memory-backend-ram", NULL, NULL);
    gint64 end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;

    hmn_fill(t);
    while (hmn_count(t->qts, 0, HMT_BLOCKS, HMT_PAGE, -ENOENT) +
           hmn_count(t->qts, 0, HMT_BLOCKS, HMT_PAGE, -EFAULT) == 0) {
        if (g_get_monotonic_time() > end) {
            g_test_skip("this host hides no pages");
            hmt_stop(t);
            return;
        }
        /* So that it is a process that runs. */
        hmt_write_page(t, HMN_HOT_AT);
    }
    hmn_attach(t->qts, "r", "write-heat");
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* Writes pages of which not all are on the fast node, until they are. */
static void promote_others(HmTest *t)
{
    const uint64_t len = HMN_HOT * HMN_HOT_STEP;
    gint64 end = hmn_deadline();
    uint64_t at = HMT_HOLE_END;

    while (hmn_count(t->qts, at, HMN_HOT, HMN_HOT_STEP, hmn_fast) == HMN_HOT) {
        at += len;
        g_assert_cmpuint(at + len, <=, HMT_RAM);
    }
    while (hmn_count(t->qts, at, HMN_HOT, HMN_HOT_STEP, hmn_fast) < HMN_HOT) {
        for (uint64_t addr = at; addr < at + len; addr += HMN_HOT_STEP) {
            hmt_write_page(t, addr);
        }
        hmn_go_on(t->qts, end, "promotion of others");
    }
}

static void test_from_the_start(void)
{
    HmTest *t = hmn_start("memory-backend-memfd", "policy=write-heat," ALWAYS,
                          NULL);

    hmn_fill(t);
    hmn_wait_promoted(t);
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    /* By chance, if they were put there when first touched. */
    promote_others(t);
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    /* Blocks may have changed seats before their pages were there. */
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages") +
                     hmt_counter(t->qts, "moves-done") +
                     hmt_counter(t->qts, "fills"), >, 0);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    assert_no_stop(t->qts);
    hmt_stop(t);
}

/* prealloc=on puts more on the fast node than it may have. */
static void test_prealloc(void)
{
    HmTest *t = hmn_start("memory-backend-ram,prealloc=on",
                          "policy=write-heat," ALWAYS, NULL);

    hmn_fill(t);
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    hmn_assert_agree(t->qts);
    g_assert_cmpuint(hmn_residency(t->qts, "absent"), ==, 0);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* The RAM that QEMU makes by itself. */
static void test_default_ram(void)
{
    g_autofree char *engine = hmn_engine("hm0", "pc.ram", ALWAYS);
    HmTest *t = g_new0(HmTest, 1);

    t->dir = hmt_make_dir();
    t->random = g_rand_new_with_seed(1);
    t->model = g_malloc0(HMT_RAM);
    t->qts = qtest_initf("-nodefaults -machine q35 -m 16M %s", engine);
    hmn_fill(t);
    hmn_wait_promoted(t);
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* The last block is smaller than the others. */
static void test_odd_size(void)
{
    g_autofree char *engine = hmn_engine("hm0", "o", "policy=write-heat,"
                                         "block-size=2M," ALWAYS);
    QTestState *qts = qtest_initf("-nodefaults -machine none -cpu qemu64,"
        "apic-id=0 -machine memory-backend=o -object memory-backend-memfd,"
        "id=o,size=13M,host-nodes=%u,policy=bind,prealloc=on %s", hmn_slow,
        engine);
    gint64 end = hmn_deadline();

    while (hmn_count(qts, 12 * MiB, 256, HMT_PAGE, hmn_fast) < 256) {
        hmn_go_on(qts, end, "promotion of the last block");
        for (unsigned i = 0; i < 256; i++) {
            qtest_writeq(qts, 12 * MiB + i * HMT_PAGE, i);
        }
    }
    for (unsigned i = 0; i < 256; i++) {
        g_assert_cmpuint(qtest_readq(qts, 12 * MiB + i * HMT_PAGE), ==, i);
    }
    qtest_quit(qts);
}

static HmTest *start_on_slow(const char *engine)
{
    g_autofree char *backend = on_slow("memory-backend-memfd,prealloc=on");
    HmTest *t = hmn_start(backend, engine, NULL);

    hmn_fill(t);
    hmn_wait_pass(t->qts);
    return t;
}

/* Policy none counts, and moves nothing: no seat makes a difference. */
static void test_none(void)
{
    HmTest *t = start_on_slow("policy=none," ALWAYS);
    uint64_t windows = hmt_counter(t->qts, "windows");

    while (hmt_counter(t->qts, "windows") < windows + 10) {
        hmn_write_hot(t);
    }
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-dirty-pages"), >=, HMN_HOT);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-planned"), ==, 0);
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages"), ==, 0);
    g_assert_cmpuint(hmt_counter(t->qts, "fills"), ==, 0);
    g_assert_cmpuint(hmt_counter(t->qts, "drains"), ==, 0);
    g_assert_cmpuint(hmn_spread_all(t->qts).slow, ==, HMT_RAM);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* Pages go both ways all the time, and nothing is lost. */
static void test_shuffle(void)
{
    HmTest *t = start_on_slow(FULL_SPEED);
    uint64_t done = 0;

    for (unsigned round = 0; round < 3; round++) {
        done = hmt_wait_counter(t->qts, "moves-done", done + 2000);
        for (unsigned i = 0; i < 100; i++) {
            hmt_write_page(t, hmt_random_page(t, 0, HMT_RAM));
        }
        hmn_assert_equal(t);
    }
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), >, 4 * MiB);
    g_assert_cmpuint(hmn_spread_all(t->qts).fast, <=, HMN_FAST);
    assert_no_stop(t->qts);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

/* While the guest stands still nothing moves; then it goes on. */
static void test_stop(void)
{
    HmTest *t = start_on_slow(FULL_SPEED);
    uint64_t done;
    HmnSpread s;

    hmt_wait_counter(t->qts, "moves-done", 500);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'stop' }");
    hmt_wait_state(t->qts, "inhibited:not-running");
    hmt_assert_error(t->qts, "inhibited by not-running",
                     "{ 'execute': 'hybridmem-rebalance' }");
    hmn_wait_batch(t->qts);
    done = hmt_counter(t->qts, "moves-done");
    s = hmn_spread_all(t->qts);
    g_usleep(300 * 1000);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, done);
    g_assert_cmpuint(hmn_spread_all(t->qts).fast, ==, s.fast);
    hmn_assert_equal(t);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'cont' }");
    hmt_wait_counter(t->qts, "moves-done", done + 500);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* A reset of the machine: memory and placement stay. */
static void test_reset(void)
{
    HmTest *t = start_on_slow("policy=write-heat," ALWAYS);

    hmn_wait_promoted(t);
    hmt_set_policy(t->qts, "manual");
    qtest_system_reset(t->qts);
    hmt_wait_state(t->qts, "running");
    hmn_wait_pass(t->qts);
    g_assert_cmpuint(hmn_hot_in_dram(t), ==, HMN_HOT);
    hmn_assert_agree(t->qts);
    hmt_set_policy(t->qts, "shuffle");
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 500);
    hmn_assert_equal(t);
    hmt_stop(t);
}

static void test_quit_while_it_works(void)
{
    HmTest *t = start_on_slow(FULL_SPEED);

    hmt_wait_counter(t->qts, "moves-done", 500);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'quit' }");
    hmt_stop(t);
}

/* Engines come and go while they work. */
static void test_come_and_go(void)
{
    HmTest *t = start_on_slow(FULL_SPEED);

    for (unsigned i = 0; i < 8; i++) {
        hmt_wait_counter(t->qts, "moves-done", 100);
        hmt_assert_error(t->qts, "has an engine already: 'hm0'",
            "{ 'execute': 'object-add', 'arguments': { 'qom-type':"
            " 'hybridmem', 'id': 'hm1', 'memdev': 'r', 'fast-nodes': [ %u ],"
            " 'slow-nodes': [ %u ], 'fast-size': 4194304 } }", hmn_fast,
            hmn_slow);
        hmn_detach(t->qts);
        hmn_attach(t->qts, "r", "shuffle");
    }
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* The engine's thread; 0 if there is none. */
static unsigned engine_thread(QTestState *qts)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task",
                                             (int)qtest_pid(qts));
    GDir *dir = g_dir_open(tasks, 0, NULL);
    unsigned found = 0;
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(tasks, name, "comm", NULL);
        g_autofree char *comm = NULL;

        if (g_file_get_contents(path, &comm, NULL, NULL) &&
            g_str_equal(g_strstrip(comm), "hybridmem")) {
            found = atoi(name);
        }
    }
    g_dir_close(dir);
    return found;
}

/* A thread-context owns it: it has its CPU affinity from the start. */
static void test_thread_context(void)
{
    g_autofree char *path = NULL, *text = NULL;
    unsigned thread;
    HmTest *t;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        g_test_skip("the host has one CPU only");
        return;
    }
    t = hmn_start("memory-backend-memfd", "thread-context=tc0," FULL_SPEED,
                  "-name t,debug-threads=on "
                  "-object thread-context,id=tc0,cpu-affinity=1");
    hmn_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 100);
    thread = engine_thread(t->qts);
    g_assert_cmpuint(thread, !=, 0);
    path = g_strdup_printf("/proc/%u/status", thread);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    hmt_assert_in(text, "Cpus_allowed_list:\t1\n");
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* --- hybridmem-swap ---------------------------------------------------- */

static void test_swap(void)
{
    HmTest *t = start_on_slow("policy=manual," ALWAYS);
    /* The first have the seats in DRAM. */
    const uint64_t d = 0x3000, n = 12 * MiB, m = 13 * MiB;

    /* What is cold in NVM gives up its seat. */
    g_assert_true(hmt_swap(t->qts, d + 5, n + 4095, "failed"));
    g_assert_cmpint(hmn_node(t->qts, d), ==, hmn_slow);
    g_assert_cmpint(hmn_node(t->qts, n), ==, hmn_fast);
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==, HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "demoted-bytes"), ==, 0);

    /* An exchange; whichever comes first in the pair. */
    g_assert_true(hmt_swap(t->qts, n, m, "failed"));
    g_assert_cmpint(hmn_node(t->qts, n), ==, hmn_slow);
    g_assert_cmpint(hmn_node(t->qts, m), ==, hmn_fast);
    g_assert_true(hmt_swap(t->qts, n, m, "failed"));
    g_assert_cmpint(hmn_node(t->qts, n), ==, hmn_fast);
    g_assert_cmpint(hmn_node(t->qts, m), ==, hmn_slow);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-done"), ==, 3);
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==,
                     3 * HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "demoted-bytes"), ==, 2 * HMT_PAGE);
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-written-bytes"), ==,
                     2 * HMT_PAGE);
    g_assert_cmpuint(hmn_spread_all(t->qts).fast, ==, HMT_PAGE);

    hmt_assert_error(t->qts, "lie in one block",
        "{ 'execute': 'hybridmem-swap', 'arguments': { 'pairs': ["
        " { 'a': 4096, 'b': 4100 } ] } }");
    hmt_assert_error(t->qts, "is not RAM that hybridmem 'hm0' manages",
        "{ 'execute': 'hybridmem-swap', 'arguments': { 'pairs': ["
        " { 'a': 0, 'b': 1073741824 } ] } }");
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    assert_no_stop(t->qts);
    hmt_stop(t);
}

/* --- huge pages -------------------------------------------------------- */

static void assert_huge(HmTest *t)
{
    unsigned huge;

    /* What is not in QEMU's page table cannot be looked up; this reads all. */
    hmn_assert_equal(t);
    if (hmn_count_huge(t->qts, 0, HMT_RAM / HMT_PAGE, &huge)) {
        g_assert_cmpuint(huge, ==, HMT_RAM / HMT_PAGE);
    } else {
        g_assert_cmpuint(geteuid(), !=, 0);
        g_test_skip("only root is told which pages are huge");
    }
}

/* Blocks of 2 MiB move as a whole and stay huge pages. */
static void check_huge(const char *type)
{
    g_autofree char *backend = on_slow(type);
    HmTest *t = hmn_start(backend, "policy=manual," ALWAYS, NULL);

    assert_block_size(t->qts, 2 * MiB);
    hmn_fill(t);
    hmn_wait_pass(t->qts);
    assert_huge(t);
    g_assert_true(hmt_swap(t->qts, 0, 12 * MiB, "failed"));
    g_assert_cmpuint(hmn_count(t->qts, 12 * MiB, 512, HMT_PAGE, hmn_fast), ==,
                     512);
    g_assert_true(hmt_swap(t->qts, 12 * MiB, 14 * MiB, "failed"));
    g_assert_cmpuint(hmn_count(t->qts, 12 * MiB, 512, HMT_PAGE, hmn_slow), ==,
                     512);
    g_assert_cmpuint(hmn_count(t->qts, 14 * MiB, 512, HMT_PAGE, hmn_fast), ==,
                     512);
    assert_huge(t);
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages"), ==, 3 * 512);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
}

static void test_huge_anonymous(void)
{
    if (hmn_have_thp("enabled")) {
        check_huge("memory-backend-ram");
    } else {
        g_test_skip("the host has no transparent huge pages");
    }
}

static void test_huge_shmem(void)
{
    g_autofree char *was = hmn_get_thp("shmem_enabled");

    if (was && hmn_set_thp("shmem_enabled", "always")) {
        check_huge("memory-backend-memfd");
        hmn_set_thp("shmem_enabled", was);
    } else {
        g_test_skip("no right to set transparent huge pages (shmem_enabled)");
    }
}

/* --- the quota --------------------------------------------------------- */

static void set_quota(QTestState *qts, uint64_t size)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'hybridmem-set-quota',"
                             " 'arguments': { 'fast-size': %" PRIu64 " } }",
                             size);
}

static void expect_quota_event(QTestState *qts, uint64_t size, bool complete)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "HYBRIDMEM_QUOTA_CHANGE");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "hm0");
    g_assert_cmpuint(qdict_get_int(data, "fast-size"), ==, size);
    g_assert_cmpint(qdict_get_bool(data, "complete"), ==, complete);
    if (complete) {
        g_assert_cmpuint(qdict_get_int(data, "resident"), <=, size);
    }
    qobject_unref(event);
}

static void assert_quota(QTestState *qts, uint64_t size)
{
    QDict *info = hmt_query(qts);
    QDict *dram = qobject_to(QDict, qlist_peek(qdict_get_qlist(info,
                                                               "tiers")));

    g_assert_cmpuint(qdict_get_int(dram, "size"), ==, size);
    qobject_unref(info);
}

/* Writes all of RAM once, by the dirty log. */
static void touch_all(HmTest *t)
{
    for (uint64_t addr = 0; addr < HMT_RAM; addr += HMT_PAGE) {
        qtest_writeq(t->qts, addr, ldq_le_p(t->model + addr));
    }
}

static void test_quota(void)
{
    HmTest *t = start_on_slow("policy=write-heat,fast-size=1M," ALWAYS);
    static const uint64_t shrink[] = { 2 * MiB, 64 * KiB, 0 };

    touch_all(t);
    hmn_wait_for(t->qts, hmn_spread_all(t->qts).fast > 512 * KiB);
    g_assert_cmpuint(hmn_spread_all(t->qts).fast, <=, 1 * MiB);

    set_quota(t->qts, 8 * MiB);
    expect_quota_event(t->qts, 8 * MiB, true);
    assert_quota(t->qts, 8 * MiB);
    hmn_wait_for(t->qts, (touch_all(t),
                          hmn_spread_all(t->qts).fast > 4 * MiB));
    for (unsigned i = 0; i < ARRAY_SIZE(shrink); i++) {
        set_quota(t->qts, shrink[i]);
        expect_quota_event(t->qts, shrink[i], true);
        assert_quota(t->qts, shrink[i]);
        g_assert_cmpuint(hmn_spread_all(t->qts).fast, <=, shrink[i]);
    }
    set_quota(t->qts, HMT_RAM);
    expect_quota_event(t->qts, HMT_RAM, true);
    hmn_wait_promoted(t);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    assert_no_stop(t->qts);
    hmt_stop(t);
}

/* Even policy none carries out a quota that is set by command. */
static void test_quota_passive(void)
{
    HmTest *t = hmn_start("memory-backend-memfd,prealloc=on",
                          "policy=none," ALWAYS, NULL);

    hmn_fill(t);
    hmn_wait_pass(t->qts);
    set_quota(t->qts, 2 * MiB);
    expect_quota_event(t->qts, 2 * MiB, true);
    g_assert_cmpuint(hmn_spread_all(t->qts).fast, <=, 2 * MiB);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* The next command ends the one that was not done. */
static void test_quota_overtaken(void)
{
    HmTest *t = hmn_start("memory-backend-memfd,prealloc=on",
                          "policy=none,fast-size=16M," ALWAYS, NULL);

    hmn_fill(t);
    hmn_wait_pass(t->qts);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'max-bandwidth': 65536 } }");
    set_quota(t->qts, 1 * MiB);
    set_quota(t->qts, 2 * MiB);
    expect_quota_event(t->qts, 1 * MiB, false);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'max-bandwidth': 0 } }");
    expect_quota_event(t->qts, 2 * MiB, true);
    hmn_assert_equal(t);
    hmt_stop(t);
}

static void test_quota_errors(void)
{
    HmTest *t = start_on_slow("policy=write-heat," ALWAYS);

    hmt_assert_error(t->qts, "fast-size=5000 must be a multiple of 4096",
        "{ 'execute': 'hybridmem-set-quota', 'arguments': { 'fast-size': 5000"
        " } }");
    hmt_assert_error(t->qts, "at most 16777216 (the size of 'r')",
        "{ 'execute': 'hybridmem-set-quota', 'arguments': { 'fast-size':"
        " 33554432 } }");
    hmt_assert_error(t->qts, "there is no hybridmem object with id 'hm1'",
        "{ 'execute': 'hybridmem-set-quota', 'arguments': { 'fast-size': 0,"
        " 'id': 'hm1' } }");
    hmt_assert_error(t->qts, "fast-size of hybridmem 'hm0' is in use",
        "{ 'execute': 'qom-set', 'arguments': { 'path': '/objects/hm0',"
        " 'property': 'fast-size', 'value': 0 } }");
    assert_quota(t->qts, HMN_FAST);
    hmt_stop(t);
}

/* The other node's pool is too small for what would have to go there. */
static void test_quota_no_memory(void)
{
    g_autofree char *backend = on_slow("memory-backend-memfd,hugetlb=on,"
                                       "hugetlbsize=2M");
    HmTest *t;

    if (!hmn_set_pools(3, 8)) {
        hmn_set_pools(0, 0);
        g_test_skip("no pools of huge pages here (nr_hugepages)");
        return;
    }
    t = hmn_start(backend, "policy=write-heat," ALWAYS, NULL);
    hmn_fill(t);
    hmn_wait_promoted(t);
    hmt_assert_error(t->qts, "bytes would have to go to fast-nodes",
        "{ 'execute': 'hybridmem-set-quota', 'arguments': { 'fast-size':"
        " 16777216 } }");
    assert_quota(t->qts, HMN_FAST);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmt_stop(t);
    hmn_set_pools(0, 0);
}

/* --- containers: which mover mover=auto takes -------------------------- */

#define CHILD "-object memory-backend-devmem,parent=r,policy=bind,"

/* 4 MiB of dram below 12 MiB of nvm, each bound to a node; and @engine. */
static HmTest *start_container(const char *dram, const char *engine)
{
    g_autofree char *extra = g_strdup_printf(
        CHILD "id=d,size=4M,host-nodes=%u,%s "
        CHILD "id=n,size=12M,offset=4M,host-nodes=%u,mem-path=memfd "
        "-object hybridmem,id=hm0,memdev=r," ALWAYS "%s", hmn_fast, dram,
        hmn_slow, engine);

    return hmn_start("memory-backend-container", NULL, extra);
}

static void assert_mover(QTestState *qts, const char *mover)
{
    QDict *info = hmt_query(qts);

    g_assert_cmpstr(qdict_get_str(info, "mover"), ==, mover);
    qobject_unref(info);
}

static void add_auto(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-add', 'arguments': {"
        " 'qom-type': 'hybridmem', 'id': 'hm0', 'memdev': 'r' } }");
}

/* The kernel moves it; afterwards each child has its node again. */
static void test_container(void)
{
    HmTest *t = start_container("mem-path=memfd", "");

    assert_mover(t->qts, "numa");
    hmn_fill(t);
    hmn_wait_promoted(t);
    hmn_wait_fast_at_most(t->qts, HMN_FAST);
    hmn_assert_agree(t->qts);
    hmn_assert_equal(t);
    hmn_detach(t->qts);
    hmt_assert_in(hmn_spread(t->qts, 0, 4 * MiB).policy, "bind:");
    hmt_assert_in(hmn_spread(t->qts, 4 * MiB, 12 * MiB).policy, "bind:");
    hmt_assert_error(t->qts, "an earlier engine, with mover numa",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type': 'hybridmem',"
        " 'id': 'hm0', 'memdev': 'r', 'mover': 'remap' } }");
    hmt_assert_error(t->qts, "mover=auto of 'hm0' takes numa (mover=remap is",
        "{ 'execute': 'object-add', 'arguments': { 'qom-type': 'hybridmem',"
        " 'id': 'hm0', 'memdev': 'r', 'fast-size': 4095 } }");
    add_auto(t->qts);
    assert_mover(t->qts, "numa");
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* What mover numa would refuse goes to remap. */
static void test_container_of_one_tier(void)
{
    HmTest *t = start_container("mem-path=memfd,tier=nvm", "");

    assert_mover(t->qts, "remap");
    hmt_stop(t);
}

static void test_container_mapped_anew(void)
{
    HmTest *t = start_container("mem-path=memfd", ",mover=remap");

    assert_mover(t->qts, "remap");
    hmn_detach(t->qts);
    add_auto(t->qts);
    assert_mover(t->qts, "remap");
    hmt_stop(t);
}

static void test_container_mixed(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *dram = g_strdup_printf("mem-path=%s", dir);
    HmTest *t;

    if (!hmn_set_pools(2, 0) ||
        mount("none", dir, "hugetlbfs", 0, "pagesize=2M")) {
        g_test_skip("no right to have huge pages of 2 MiB");
    } else {
        t = start_container(dram, "");
        assert_mover(t->qts, "remap");
        hmt_stop(t);
        umount(dir);
    }
    hmn_set_pools(0, 0);
    hmt_remove_dir(dir);
}

/* --- several engines --------------------------------------------------- */

static uint64_t dram_resident(QTestState *qts, const char *id)
{
    QDict *info = hmn_query(qts, id);
    QDict *dram = qobject_to(QDict, qlist_peek(qdict_get_qlist(info,
                                                               "tiers")));
    uint64_t bytes = qdict_get_int(dram, "resident");

    qobject_unref(info);
    return bytes;
}

static void test_two_guest_nodes(void)
{
    g_autofree char *e0 = hmn_engine("hm0", "a", "fast-size=2M," ALWAYS);
    g_autofree char *e1 = hmn_engine("hm1", "b", "fast-size=4M," ALWAYS);
    QTestState *qts = qtest_initf("-nodefaults -machine q35 -m 32M -smp 2 "
        "-object memory-backend-memfd,id=a,size=16M,host-nodes=%u,policy=bind "
        "-object memory-backend-memfd,id=b,size=16M,host-nodes=%u,policy=bind "
        "-numa node,memdev=a,cpus=0 -numa node,memdev=b,cpus=1 %s%s",
        hmn_slow, hmn_slow, e0, e1);
    static const uint64_t hot[] = { 8 * MiB, 24 * MiB };
    gint64 end = hmn_deadline();

    while (hmn_count(qts, hot[0], 64, HMT_PAGE, hmn_fast) +
           hmn_count(qts, hot[1], 64, HMT_PAGE, hmn_fast) < 128) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        for (unsigned i = 0; i < 128; i++) {
            uint64_t addr = hot[i / 64] + i % 64 * HMT_PAGE;

            qtest_writeq(qts, addr, addr);
        }
    }
    while (dram_resident(qts, "hm0") != hmn_spread(qts, 0, 16 * MiB).fast ||
           dram_resident(qts, "hm1") !=
           hmn_spread(qts, 16 * MiB, 16 * MiB).fast) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(10000);
    }
    hmt_assert_error(qts, "there are 2 hybridmem objects",
                     "{ 'execute': 'hybridmem-rebalance' }");
    hmn_detach(qts);
    g_assert_cmpstr(hmn_spread(qts, 0, 16 * MiB).policy, !=,
                    hmn_spread(qts, 16 * MiB, 16 * MiB).policy);
    g_assert_cmpuint(hmt_counter(qts, "windows"), >, 0);
    for (unsigned i = 0; i < 128; i++) {
        uint64_t addr = hot[i / 64] + i % 64 * HMT_PAGE;

        g_assert_cmpuint(qtest_readq(qts, addr), ==, addr);
    }
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!hmn_have_nodes("hybridmem/numa")) {
        return g_test_run();
    }
    qtest_add_func("hybridmem/numa/backend/ram", test_ram);
    qtest_add_func("hybridmem/numa/backend/bound", test_bound);
    qtest_add_func("hybridmem/numa/backend/preferred", test_preferred);
    qtest_add_func("hybridmem/numa/backend/interleaved", test_interleaved);
    qtest_add_func("hybridmem/numa/backend/memfd", test_memfd);
    qtest_add_func("hybridmem/numa/backend/memfd-thp", test_memfd_thp);
    qtest_add_func("hybridmem/numa/backend/shm", test_shm);
    qtest_add_func("hybridmem/numa/backend/file", test_file);
    qtest_add_func("hybridmem/numa/backend/private-file", test_private_file);
    qtest_add_func("hybridmem/numa/backend/accesses", test_accesses);
    qtest_add_func("hybridmem/numa/backend/hugetlb", test_hugetlb);
    qtest_add_func("hybridmem/numa/life/balanced-before",
                   test_balanced_before);
    qtest_add_func("hybridmem/numa/life/from-the-start", test_from_the_start);
    qtest_add_func("hybridmem/numa/life/prealloc", test_prealloc);
    qtest_add_func("hybridmem/numa/life/default-ram", test_default_ram);
    qtest_add_func("hybridmem/numa/life/odd-size", test_odd_size);
    qtest_add_func("hybridmem/numa/life/none", test_none);
    qtest_add_func("hybridmem/numa/life/shuffle", test_shuffle);
    qtest_add_func("hybridmem/numa/life/stop", test_stop);
    qtest_add_func("hybridmem/numa/life/reset", test_reset);
    qtest_add_func("hybridmem/numa/life/quit", test_quit_while_it_works);
    qtest_add_func("hybridmem/numa/life/come-and-go", test_come_and_go);
    qtest_add_func("hybridmem/numa/life/thread-context", test_thread_context);
    qtest_add_func("hybridmem/numa/swap", test_swap);
    qtest_add_func("hybridmem/numa/huge/anonymous", test_huge_anonymous);
    qtest_add_func("hybridmem/numa/huge/shmem", test_huge_shmem);
    qtest_add_func("hybridmem/numa/quota/change", test_quota);
    qtest_add_func("hybridmem/numa/quota/passive", test_quota_passive);
    qtest_add_func("hybridmem/numa/quota/overtaken", test_quota_overtaken);
    qtest_add_func("hybridmem/numa/quota/errors", test_quota_errors);
    qtest_add_func("hybridmem/numa/quota/no-memory", test_quota_no_memory);
    qtest_add_func("hybridmem/numa/container/bound", test_container);
    qtest_add_func("hybridmem/numa/container/one-tier",
                   test_container_of_one_tier);
    qtest_add_func("hybridmem/numa/container/mapped-anew",
                   test_container_mapped_anew);
    qtest_add_func("hybridmem/numa/container/mixed", test_container_mixed);
    qtest_add_func("hybridmem/numa/two-guest-nodes", test_two_guest_nodes);
    return g_test_run();
}
