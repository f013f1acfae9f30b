/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of live migration in all its forms, snapshots and dumps beside the
 * numa mover.
 */
#include "qemu/osdep.h"
#include "hybridmem-numa-util.h"

#define MEMFD "memory-backend-memfd,share=on"
/* The machine without anything cannot migrate. */
#define Q35 "-machine q35"

typedef struct Pair {
    HmTest *from, *to;
    char *uri;
} Pair;

static void set_capability(QTestState *qts, const char *name)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-capabilities',"
        " 'arguments': { 'capabilities': [ { 'capability': %s,"
        " 'state': true } ] } }", name);
}

static void listen_at(Pair *p)
{
    qtest_qmp_assert_success(p->to->qts, "{ 'execute': 'migrate-incoming',"
                             " 'arguments': { 'uri': %s } }", p->uri);
}

/* Both with an engine at full speed; @capability (or NULL) set on both. */
static Pair start_pair(const char *backend, const char *capability)
{
    Pair p = { .from = hmn_start(backend, FULL_SPEED, Q35) };

    p.uri = g_strdup_printf("unix:%s/migrate", p.from->dir);
    p.to = hmn_start(backend, FULL_SPEED, Q35 " -incoming defer");
    hmn_fill(p.from);
    hmt_wait_counter(p.from->qts, "moves-done", 500);
    hmt_wait_state(p.to->qts, "inhibited:not-running");
    if (capability) {
        set_capability(p.from->qts, capability);
        set_capability(p.to->qts, capability);
    }
    return p;
}

static void stop_pair(Pair *p)
{
    hmt_stop(p->from);
    hmt_stop(p->to);
    g_free(p->uri);
}

/*
 * A minute for all of the guest, of which a host that emulates needs a good
 * part to look, and to write into what was sent already.
 */
#define SLOWLY (256 * KiB)

static void start_slowly(Pair *p)
{
    listen_at(p);
    hmt_migration_speed(p->from->qts, SLOWLY);
    qtest_qmp_assert_success(p->from->qts, "{ 'execute':"
        " 'migrate-set-parameters', 'arguments': { 'downtime-limit': 1 } }");
    hmt_migrate(p->from->qts, p->uri);
    hmt_wait_migration(p->from->qts, "active");
    hmt_wait_state(p->from->qts, "inhibited:migration");
}

static bool is_running(QTestState *qts)
{
    QDict *info = qtest_qmp_assert_success_ref(qts,
        "{ 'execute': 'query-status' }");
    bool running = qdict_get_bool(info, "running");

    qobject_unref(info);
    return running;
}

/*
 * No page changes its node while the guest writes.  It writes no more when
 * the migration has stopped it, if that comes first.
 */
static void write_and_watch(HmTest *t)
{
    uint64_t pages;
    unsigned n;

    hmn_wait_batch(t->qts);
    pages = hmt_counter(t->qts, "moved-pages");
    for (n = 0; n < 50; n++) {
        uint64_t addr = hmt_random_page(t, 0, HMT_RAM);
        g_autofree uint8_t *old = g_memdup2(t->model + addr, HMT_PAGE);

        hmt_write_page(t, addr);
        if (!is_running(t->qts)) {
            memcpy(t->model + addr, old, HMT_PAGE);
            qtest_memwrite(t->qts, addr, old, HMT_PAGE);
            break;
        }
    }
    g_assert_cmpuint(n, >, 10);
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages"), ==, pages);
}

static void check_precopy(const char *backend, const char *capability)
{
    Pair p = start_pair(backend, capability);

    start_slowly(&p);
    write_and_watch(p.from);
    hmt_migration_speed(p.from->qts, 1 * GiB);
    hmt_wait_migration(p.from->qts, "completed");
    qtest_qmp_eventwait(p.to->qts, "RESUME");
    hmn_assert_equal_in(p.from, p.to->qts);
    /* There it goes on. */
    hmt_wait_counter(p.to->qts, "moves-done", 500);
    hmn_assert_equal_in(p.from, p.to->qts);
    hmn_assert_agree(p.to->qts);
    /* Here it is as it was. */
    hmt_wait_state(p.from->qts, "inhibited:not-running");
    hmn_assert_equal(p.from);
    stop_pair(&p);
}

static void test_precopy(void)
{
    check_precopy("memory-backend-ram", NULL);
}

static void test_multifd(void)
{
    check_precopy(MEMFD, "multifd");
}

static void test_cancel(void)
{
    Pair p = start_pair(MEMFD, NULL);

    start_slowly(&p);
    qtest_set_expected_status(p.to->qts, EXIT_FAILURE);
    qtest_qmp_assert_success(p.from->qts, "{ 'execute': 'migrate_cancel' }");
    hmt_wait_migration(p.from->qts, "cancelled");
    hmt_wait_state(p.from->qts, "running");
    hmt_wait_counter(p.from->qts, "moves-done",
                     hmt_counter(p.from->qts, "moves-done") + 500);
    hmn_assert_equal(p.from);
    qtest_wait_qemu(p.to->qts);
    stop_pair(&p);
}

/* --- postcopy ---------------------------------------------------------- */

static bool have_userfaultfd(const char *capability)
{
    HmTest *t = hmn_start(MEMFD, NULL, "-incoming defer");
    QDict *reply = qtest_qmp(t->qts, "{ 'execute':"
        " 'migrate-set-capabilities', 'arguments': { 'capabilities': ["
        " { 'capability': %s, 'state': true } ] } }", capability);
    bool have = qdict_haskey(reply, "return");

    if (!have) {
        g_test_skip(qdict_get_str(qdict_get_qdict(reply, "error"), "desc"));
    }
    qobject_unref(reply);
    hmt_stop(t);
    return have;
}

static void postcopy_speed(QTestState *qts, uint64_t bytes)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
        " 'arguments': { 'max-postcopy-bandwidth': %" PRIu64 " } }", bytes);
}

/*
 * The default policy looks for accesses, for which it wants a userfaultfd: the
 * one that brings the guest's RAM must stay as it is.
 */
static void look_for_accesses(QTestState *qts)
{
    uint64_t windows = hmt_counter(qts, "windows");

    hmt_set_policy(qts, "benefit");
    hmt_wait_counter(qts, "windows", windows + 5);
    hmt_set_policy(qts, "shuffle");
}

static void check_postcopy(const char *backend)
{
    Pair p = start_pair(backend, "postcopy-ram");

    postcopy_speed(p.from->qts, SLOWLY);
    start_slowly(&p);
    qtest_qmp_assert_success(p.from->qts,
                             "{ 'execute': 'migrate-start-postcopy' }");
    hmt_wait_migration(p.from->qts, "postcopy-active");
    qtest_qmp_eventwait(p.to->qts, "RESUME");
    /* The guest runs there, with holes; the engine moves what has come. */
    hmt_wait_state(p.to->qts, "running");
    hmt_wait_counter(p.to->qts, "moved-pages", 100);
    look_for_accesses(p.to->qts);
    hmt_wait_migration(p.from->qts, "postcopy-active");
    memcpy(p.to->model, p.from->model, HMT_RAM);
    for (unsigned i = 0; i < 20; i++) {
        hmt_write_page(p.to, hmt_random_page(p.to, 0, HMT_RAM));
    }
    postcopy_speed(p.from->qts, 0);
    hmt_wait_migration(p.from->qts, "completed");
    hmt_wait_migration(p.to->qts, "completed");
    hmt_wait_counter(p.to->qts, "moves-done",
                     hmt_counter(p.to->qts, "moves-done") + 500);
    hmn_assert_equal(p.to);
    hmn_assert_agree(p.to->qts);
    stop_pair(&p);
}

static void test_postcopy(void)
{
    if (have_userfaultfd("postcopy-ram")) {
        check_postcopy(MEMFD);
    }
}

/* It was prepared, but not needed: accesses are seen as ever afterwards. */
static void test_postcopy_unused(void)
{
    g_autoptr(QDict) info = NULL;
    QDict *accesses;
    Pair p;

    if (!have_userfaultfd("postcopy-ram")) {
        return;
    }
    p = start_pair(MEMFD, "postcopy-ram");
    start_slowly(&p);
    hmt_migration_speed(p.from->qts, 1 * GiB);
    hmt_wait_migration(p.from->qts, "completed");
    qtest_qmp_eventwait(p.to->qts, "RESUME");
    hmt_wait_state(p.to->qts, "running");
    look_for_accesses(p.to->qts);
    info = hmt_query(p.to->qts);
    accesses = qdict_get_qdict(info, "accesses");
    g_assert_cmpint(qdict_get_int(accesses, "windows"), >, 0);
    g_assert_cmpint(qdict_get_int(accesses, "granule"), ==, 4096);
    hmn_assert_equal_in(p.from, p.to->qts);
    stop_pair(&p);
}

static void test_postcopy_huge(void)
{
    if (have_userfaultfd("postcopy-ram")) {
        check_postcopy("memory-backend-ram");
    }
}

/* --- files ------------------------------------------------------------- */

/* Another guest with what is in @uri; the engine works there as well. */
static void check_loaded(HmTest *from, const char *uri)
{
    g_autofree char *incoming = g_strdup_printf(Q35 " -incoming %s",
                                                uri);
    HmTest *to = hmn_start("memory-backend-ram", FULL_SPEED, incoming);

    qtest_qmp_eventwait(to->qts, "RESUME");
    hmt_wait_counter(to->qts, "moves-done", 100);
    hmn_assert_equal_in(from, to->qts);
    hmt_stop(to);
}

/* The guest runs on and writes; the file has what was there when it began. */
static void test_background_snapshot(void)
{
    HmTest *t;
    g_autofree uint8_t *saved = NULL;
    g_autofree char *uri = NULL, *slowly = NULL;
    uint64_t pages;

    if (!have_userfaultfd("background-snapshot")) {
        return;
    }
    t = hmn_start("memory-backend-ram", FULL_SPEED, Q35);
    uri = g_strdup_printf("file:%s/snapshot", t->dir);
    hmn_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 100);
    set_capability(t->qts, "background-snapshot");
    saved = g_memdup2(t->model, HMT_RAM);
    /* It knows no limit of speed. */
    slowly = g_strdup_printf("exec:sleep 3; cat >%s/snapshot", t->dir);
    hmt_migrate(t->qts, slowly);
    hmt_wait_migration(t->qts, "active");
    hmt_wait_state(t->qts, "inhibited:migration");
    hmn_wait_batch(t->qts);
    pages = hmt_counter(t->qts, "moved-pages");
    g_usleep(300 * 1000);
    g_assert_cmpuint(hmt_counter(t->qts, "moved-pages"), ==, pages);
    hmt_wait_state(t->qts, "inhibited:migration");
    /* A write waits until its page is saved. */
    for (unsigned i = 0; i < 20; i++) {
        hmt_write_page(t, hmt_random_page(t, 0, HMT_RAM));
    }
    hmt_wait_migration(t->qts, "completed");
    hmt_wait_state(t->qts, "running");
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 100);
    hmn_assert_equal(t);
    memcpy(t->model, saved, HMT_RAM);
    check_loaded(t, uri);
    hmt_stop(t);
}

static void test_snapshot(void)
{
    char *dir = hmt_make_dir();
    g_autofree char *disk = g_build_filename(dir, "disk.qcow2", NULL);
    g_autofree char *extra = g_strdup_printf(
        Q35 " -drive if=none,id=d,file=%s,format=qcow2", disk);
    g_autofree char *word = NULL;
    g_autofree uint8_t *saved = NULL;
    HmTest *t;

    if (!have_qemu_img() || !mkimg(disk, "qcow2", 64)) {
        g_test_skip("no qemu-img (QTEST_QEMU_IMG)");
        hmt_remove_dir(dir);
        return;
    }
    t = hmn_start_in(dir, MEMFD, FULL_SPEED, extra);
    hmn_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 500);
    word = qtest_hmp(t->qts, "savevm s1");
    g_assert_cmpstr(word, ==, "");
    hmt_wait_state(t->qts, "running");
    saved = g_memdup2(t->model, HMT_RAM);
    hmn_fill(t);
    hmn_assert_equal(t);
    g_free(word);
    word = qtest_hmp(t->qts, "loadvm s1");
    g_assert_cmpstr(word, ==, "");
    memcpy(t->model, saved, HMT_RAM);
    hmn_assert_equal(t);
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 500);
    hmn_assert_equal(t);
    hmn_assert_agree(t->qts);
    hmt_stop(t);
}

static void test_dump(void)
{
    HmTest *t = hmn_start(MEMFD, FULL_SPEED, Q35);
    g_autofree char *path = g_build_filename(t->dir, "core", NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", path);

    hmn_fill(t);
    hmt_wait_counter(t->qts, "moves-done", 500);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'dump-guest-memory',"
        " 'arguments': { 'paging': false, 'protocol': %s } }", uri);
    hmt_check_dump(t, path);
    hmt_wait_counter(t->qts, "moves-done",
                     hmt_counter(t->qts, "moves-done") + 500);
    hmn_assert_equal(t);
    hmt_stop(t);
}

/* --- CPR --------------------------------------------------------------- */

static void set_mode(QTestState *qts, const char *mode)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'mode': %s } }", mode);
}

/* Memory stays in its file; QEMU is replaced by a new one. */
static void test_cpr_reboot(void)
{
    char *dir = hmn_make_dir();
    g_autofree char *backend = NULL, *uri = NULL;
    HmTest *from, *to;

    if (!dir) {
        g_test_skip("/dev/shm is not a tmpfs");
        return;
    }
    backend = g_strdup_printf("memory-backend-file,share=on,mem-path=%s/ram",
                              dir);
    uri = g_strdup_printf("file:%s/state", dir);
    from = hmn_start_in(dir, backend, FULL_SPEED, Q35);
    hmn_fill(from);
    hmt_wait_counter(from->qts, "moves-done", 500);
    set_capability(from->qts, "x-ignore-shared");
    set_mode(from->qts, "cpr-reboot");
    hmt_migrate(from->qts, uri);
    hmt_wait_migration(from->qts, "completed");
    hmt_wait_state(from->qts, "inhibited:not-running");
    qtest_quit(from->qts);

    to = hmn_start(backend, FULL_SPEED, Q35 " -incoming defer");
    set_capability(to->qts, "x-ignore-shared");
    set_mode(to->qts, "cpr-reboot");
    qtest_qmp_assert_success(to->qts, "{ 'execute': 'migrate-incoming',"
                             " 'arguments': { 'uri': %s } }", uri);
    qtest_qmp_eventwait(to->qts, "RESUME");
    hmn_assert_equal_in(from, to->qts);
    hmt_wait_counter(to->qts, "moves-done", 500);
    hmn_assert_equal_in(from, to->qts);
    hmn_assert_agree(to->qts);
    hmt_stop(to);

    hmt_remove_dir(from->dir);
    g_rand_free(from->random);
    g_free(from->model);
    g_free(from);
}

static void wait_for_file(const char *path)
{
    gint64 end = hmn_deadline();

    while (access(path, F_OK)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(10000);
    }
}

/* The memfd goes over to the new QEMU; both have an engine on it meanwhile. */
static void test_cpr_transfer(void)
{
    HmTest *from = hmn_start(MEMFD, FULL_SPEED,
                             Q35 ",aux-ram-share=on");
    g_autofree char *cpr = g_build_filename(from->dir, "cpr", NULL);
    g_autofree char *main_path = g_build_filename(from->dir, "main", NULL);
    g_autofree char *engine = hmn_engine("hm0", "r", FULL_SPEED);
    g_autofree char *args = g_strdup_printf(
        "-nodefaults " Q35 ",memory-backend=r,aux-ram-share=on "
        "-object " MEMFD ",id=r,size=16M %s"
        "-incoming cpr,addr.transport=socket,addr.type=unix,addr.path=%s "
        "-incoming unix:%s", engine, cpr, main_path);
    QTestState *to;
    HmnSpread s;

    hmn_fill(from);
    hmt_wait_counter(from->qts, "moves-done", 500);
    to = qtest_init_with_env_and_capabilities(NULL, args, NULL, false);
    wait_for_file(cpr);
    set_mode(from->qts, "cpr-transfer");
    qtest_qmp_assert_success(from->qts, "{ 'execute': 'migrate',"
        " 'arguments': { 'channels': ["
        " { 'channel-type': 'main', 'addr': { 'transport': 'socket',"
        "   'type': 'unix', 'path': %s } },"
        " { 'channel-type': 'cpr', 'addr': { 'transport': 'socket',"
        "   'type': 'unix', 'path': %s } } ] } }", main_path, cpr);
    qtest_connect(to);
    qtest_qmp_handshake(to, NULL);
    hmt_wait_migration(from->qts, "completed");
    qtest_qmp_eventwait(to, "RESUME");
    hmn_assert_equal_in(from, to);
    hmt_wait_counter(to, "moves-done", 500);
    qtest_quit(from->qts);

    /* The one that is left keeps its hand on where new pages go. */
    s = hmn_spread_all(to);
    hmt_assert_in(s.policy, "prefer");
    hmt_wait_counter(to, "moves-done", hmt_counter(to, "moves-done") + 500);
    hmn_assert_equal_in(from, to);
    hmn_assert_agree(to);
    qtest_quit(to);

    hmt_remove_dir(from->dir);
    g_rand_free(from->random);
    g_free(from->model);
    g_free(from);
}

/* --- COLO -------------------------------------------------------------- */

static void test_colo(void)
{
    Pair p = start_pair("memory-backend-ram", "x-colo");

    listen_at(&p);
    hmt_migrate(p.from->qts, p.uri);
    hmt_wait_migration(p.from->qts, "colo");
    hmt_wait_state(p.from->qts, "inhibited:migration");
    write_and_watch(p.from);
    /* The other one dies; this one goes on alone. */
    qtest_kill_qemu(p.to->qts);
    qtest_qmp_assert_success(p.from->qts,
                             "{ 'execute': 'x-colo-lost-heartbeat' }");
    hmt_wait_state(p.from->qts, "running");
    hmt_wait_counter(p.from->qts, "moves-done",
                     hmt_counter(p.from->qts, "moves-done") + 500);
    hmn_assert_equal(p.from);
    stop_pair(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!hmn_have_nodes("hybridmem/numa/migration")) {
        return g_test_run();
    }
    qtest_add_func("hybridmem/numa/migration/precopy", test_precopy);
    qtest_add_func("hybridmem/numa/migration/multifd", test_multifd);
    qtest_add_func("hybridmem/numa/migration/cancel", test_cancel);
    qtest_add_func("hybridmem/numa/migration/postcopy", test_postcopy);
    qtest_add_func("hybridmem/numa/migration/postcopy-huge",
                   test_postcopy_huge);
    qtest_add_func("hybridmem/numa/migration/postcopy-unused",
                   test_postcopy_unused);
    qtest_add_func("hybridmem/numa/migration/background-snapshot",
                   test_background_snapshot);
    qtest_add_func("hybridmem/numa/migration/cpr-reboot", test_cpr_reboot);
    qtest_add_func("hybridmem/numa/migration/cpr-transfer",
                   test_cpr_transfer);
    qtest_add_func("hybridmem/numa/migration/colo", test_colo);
    qtest_add_func("hybridmem/numa/snapshot", test_snapshot);
    qtest_add_func("hybridmem/numa/dump", test_dump);
    return g_test_run();
}
