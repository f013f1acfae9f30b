/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of live migration, snapshots and dumps of a guest whose memory is
 * being relocated.
 */
#include "qemu/osdep.h"
#include "hybridmem-util.h"

typedef struct Pair {
    HmTest *from, *to;
    char *uri;
} Pair;

static Pair start_pair(void)
{
    Pair p = { .from = hmt_start(FULL_SPEED, NULL) };
    g_autofree char *incoming = NULL;

    p.uri = g_strdup_printf("unix:%s/migrate", p.from->dir);
    incoming = g_strdup_printf("-incoming %s", p.uri);
    p.to = hmt_start(FULL_SPEED, incoming);
    hmt_fill(p.from);
    hmt_wait_counter(p.from->qts, "moves-done", 1000);
    return p;
}

static void stop_pair(Pair *p)
{
    hmt_stop(p->from);
    hmt_stop(p->to);
    g_free(p->uri);
}

/* Slow enough to look at, and to write into what was sent already. */
static void start_slowly(Pair *p)
{
    hmt_migration_speed(p->from->qts, 4 * MiB);
    hmt_migrate(p->from->qts, p->uri);
    hmt_wait_migration(p->from->qts, "active");
    hmt_wait_state(p->from->qts, "inhibited:migration");
}

static void test_precopy(void)
{
    Pair p = start_pair();
    uint64_t done;

    hmt_wait_state(p.to->qts, "inhibited:not-running");
    start_slowly(&p);
    done = hmt_counter(p.from->qts, "moves-done");
    for (unsigned i = 0; i < 100; i++) {
        hmt_write_page(p.from, hmt_random_page(p.from, 0, HMT_RAM));
        g_usleep(2000);
    }
    g_assert_cmpuint(hmt_counter(p.from->qts, "moves-done"), ==, done);
    hmt_migration_speed(p.from->qts, 1 * GiB);
    hmt_wait_migration(p.from->qts, "completed");
    qtest_qmp_eventwait(p.to->qts, "RESUME");
    hmt_assert_equal_in(p.from, p.to->qts);
    /* There it goes on. */
    hmt_wait_counter(p.to->qts, "moves-done", 1000);
    hmt_assert_equal_in(p.from, p.to->qts);
    /* Here it is as it was. */
    hmt_assert_equal(p.from);
    stop_pair(&p);
}

static void test_cancel(void)
{
    Pair p = start_pair();

    start_slowly(&p);
    qtest_set_expected_status(p.to->qts, EXIT_FAILURE);
    qtest_qmp_assert_success(p.from->qts, "{ 'execute': 'migrate_cancel' }");
    hmt_wait_migration(p.from->qts, "cancelled");
    hmt_wait_state(p.from->qts, "running");
    hmt_wait_counter(p.from->qts, "moves-done",
                     hmt_counter(p.from->qts, "moves-done") + 1000);
    hmt_assert_equal(p.from);
    qtest_wait_qemu(p.to->qts);
    stop_pair(&p);
}

/* Swapping in the middle of a migration would be no error, but is refused. */
static void test_swap_refused(void)
{
    Pair p = start_pair();

    start_slowly(&p);
    hmt_assert_error(p.from->qts, "inhibited by migration",
        "{ 'execute': 'hybridmem-swap', 'arguments': { 'pairs': ["
        " { 'a': 0, 'b': 8388608 } ] } }");
    hmt_migration_speed(p.from->qts, 1 * GiB);
    hmt_wait_migration(p.from->qts, "completed");
    qtest_qmp_eventwait(p.to->qts, "RESUME");
    stop_pair(&p);
}

static void test_postcopy_refused(void)
{
    HmTest *t = hmt_start(FULL_SPEED, "-incoming defer");
    g_autofree char *error = hmt_error(t->qts,
        "{ 'execute': 'migrate-set-capabilities', 'arguments': {"
        " 'capabilities': [ { 'capability': 'postcopy-ram', 'state': true } ]"
        " } }");

    if (strstr(error, "serfault")) {
        g_test_skip("no userfaultfd here: refused for that");
    } else {
        hmt_assert_in(error, "postcopy is not possible with"
                      " memory-backend-container 'dmcon0'; use precopy");
    }
    hmt_stop(t);
}

static void test_snapshot(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *disk = g_build_filename(dir, "disk.qcow2", NULL);
    g_autofree char *extra = g_strdup_printf("-drive if=none,id=d,file=%s,"
                                             "format=qcow2", disk);
    g_autofree char *word = NULL;
    g_autofree uint8_t *saved = g_malloc(HMT_RAM);
    HmTest *t;

    if (!have_qemu_img() || !mkimg(disk, "qcow2", 64)) {
        g_test_skip("no qemu-img (QTEST_QEMU_IMG)");
        hmt_remove_dir(dir);
        return;
    }
    t = hmt_start_in(dir, FULL_SPEED, extra);
    hmt_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 1000);
    word = qtest_hmp(t->qts, "savevm s1");
    g_assert_cmpstr(word, ==, "");
    hmt_wait_state(t->qts, "running");
    memcpy(saved, t->model, HMT_RAM);
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 1000);
    hmt_fill(t);
    hmt_assert_equal(t);
    g_free(word);
    word = qtest_hmp(t->qts, "loadvm s1");
    g_assert_cmpstr(word, ==, "");
    memcpy(t->model, saved, HMT_RAM);
    hmt_assert_equal(t);
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 1000);
    hmt_assert_equal(t);
    hmt_stop(t);
}

static void test_dump(void)
{
    HmTest *t = hmt_start(FULL_SPEED, NULL);
    g_autofree char *path = g_build_filename(t->dir, "core", NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", path);

    hmt_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 1000);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'dump-guest-memory',"
        " 'arguments': { 'paging': false, 'protocol': %s } }", uri);
    hmt_check_dump(t, path);
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 500);
    hmt_assert_equal(t);
    hmt_stop(t);
}

static QDict *set_background_snapshot(QTestState *qts, bool on)
{
    return qtest_qmp(qts, "{ 'execute': 'migrate-set-capabilities',"
                     " 'arguments': { 'capabilities': [ { 'capability':"
                     " 'background-snapshot', 'state': %i } ] } }", on);
}

/* QEMU tries a userfaultfd on all RAM; so does the engine, now and then. */
static void test_background_snapshot(void)
{
    QTestState *qts = qtest_init("-display none -nodefaults -m 16M"
        " -machine q35,memory-backend=r"
        " -object memory-backend-container,id=r,size=16M"
        " -object memory-backend-devmem,id=d,size=4M,mem-path=memfd,offset=0,"
        "parent=r,tier=dram"
        " -object memory-backend-devmem,id=n,size=12M,mem-path=memfd,"
        "offset=4M,parent=r,tier=nvm"
        " -object hybridmem,id=hm0,memdev=r,policy=benefit,interval=10,"
        "window=10,access-window=40");
    QDict *reply = set_background_snapshot(qts, true);

    if (qdict_haskey(reply, "error")) {
        g_test_skip("this kernel, or user, has no such userfaultfd");
        qobject_unref(reply);
        qtest_quit(qts);
        return;
    }
    qobject_unref(reply);
    for (unsigned i = 0; i < 100; i++) {
        reply = set_background_snapshot(qts, i % 2);
        g_assert_true(qdict_haskey(reply, "return"));
        qobject_unref(reply);
        g_usleep(7000);
    }
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("hybridmem/migration/precopy", test_precopy);
    qtest_add_func("hybridmem/migration/cancel", test_cancel);
    qtest_add_func("hybridmem/migration/swap-refused", test_swap_refused);
    qtest_add_func("hybridmem/migration/postcopy-refused",
                   test_postcopy_refused);
    qtest_add_func("hybridmem/background-snapshot", test_background_snapshot);
    qtest_add_func("hybridmem/snapshot", test_snapshot);
    qtest_add_func("hybridmem/dump", test_dump);
    return g_test_run();
}
