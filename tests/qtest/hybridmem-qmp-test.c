/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of what hybrid memory's engine sees, decides and says: samples,
 * policies, QMP commands and events, counters.
 */
#include "qemu/osdep.h"
#include <math.h>
#include <sys/resource.h>
#include "hybridmem-util.h"

/* --- sampling ---------------------------------------------------------- */

/* Each page is written once, so it is in just one window, whichever. */
static void test_sample(void)
{
    HmTest *t = hmt_start("policy=none," ALWAYS, NULL);
    uint64_t dram = 0, nvm = 0, seen = 0, nvm_seen = 0, last, addr;
    uint64_t windows, shown;

    last = hmt_wait_counter(t->qts, "windows", 3);
    g_assert_cmpuint(hmt_counter(t->qts, "dirty-pages"), ==, 0);
    for (unsigned i = 0; i < 300; i++) {
        bool in_nvm = g_rand_int_range(t->random, 0, 3) > 0;

        /* Every page at most once. */
        addr = in_nvm ? NVM + nvm++ * 2 * HMT_PAGE :
                        1 * MiB + dram++ * 3 * HMT_PAGE;
        hmt_write_page(t, addr);
    }
    hmt_wait_counter(t->qts, "windows", hmt_counter(t->qts, "windows") + 2);
    g_assert_cmpuint(hmt_counter(t->qts, "dirty-pages"), ==, dram + nvm);
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-dirty-pages"), ==, nvm);

    /*
     * The last window's own figures, added up, are the sums, or less where a
     * window went by unseen.
     */
    last = shown = hmt_counter(t->qts, "windows");
    addr = 0;
    while (windows = hmt_counter(t->qts, "windows"), windows < last + 20) {
        QDict *info, *c;

        if (addr < 1000) {
            hmt_write_page(t, NVM + addr++ * HMT_PAGE);
        }
        info = hmt_query(t->qts);
        c = qdict_get_qdict(info, "counters");
        if (shown != qdict_get_int(c, "windows")) {
            shown = qdict_get_int(c, "windows");
            seen += qdict_get_int(c, "window-dirty-pages");
            nvm_seen += qdict_get_int(c, "window-nvm-dirty-pages");
        }
        qobject_unref(info);
    }
    hmt_wait_counter(t->qts, "dirty-pages", dram + nvm + addr);
    g_assert_cmpuint(hmt_counter(t->qts, "dirty-pages"), ==,
                     dram + nvm + addr);
    g_assert_cmpuint(nvm_seen, ==, seen);
    g_assert_cmpuint(seen, <=, addr);
    g_assert_cmpuint(hmt_counter(t->qts, "windows-lost"), ==, 0);
    hmt_stop(t);
}

/* A move's own echo is no write; where a page lies now is what counts. */
static void test_sample_after_moves(void)
{
    HmTest *t = hmt_start("policy=manual," ALWAYS, NULL);

    hmt_wait_counter(t->qts, "windows", 2);
    for (uint64_t i = 0; i < 64; i++) {
        g_assert_true(hmt_swap(t->qts, 1 * MiB + i * HMT_PAGE,
                               NVM + i * HMT_PAGE, "failed"));
    }
    hmt_wait_counter(t->qts, "windows", hmt_counter(t->qts, "windows") + 3);
    g_assert_cmpuint(hmt_counter(t->qts, "dirty-pages"), ==, 0);
    for (uint64_t i = 0; i < 64; i++) {
        hmt_write_page(t, NVM + i * HMT_PAGE);
    }
    for (uint64_t i = 0; i < 10; i++) {
        hmt_write_page(t, 1 * MiB + i * HMT_PAGE);
    }
    hmt_wait_counter(t->qts, "dirty-pages", 74);
    hmt_wait_counter(t->qts, "windows", hmt_counter(t->qts, "windows") + 2);
    g_assert_cmpuint(hmt_counter(t->qts, "dirty-pages"), ==, 74);
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-dirty-pages"), ==, 10);
    hmt_stop(t);
}

/* Nor is a write counted of a block that moved in the same window. */
static void test_sample_of_moved(void)
{
    HmTest *t = hmt_start("policy=manual,interval=500,window=500", NULL);
    uint64_t before, dirty;

    do {
        before = hmt_wait_counter(t->qts, "windows",
                                  hmt_counter(t->qts, "windows") + 1);
        dirty = hmt_counter(t->qts, "dirty-pages");
        hmt_write_page(t, NVM);
        hmt_write_page(t, NVM + 64 * HMT_PAGE);
        g_assert_true(hmt_swap(t->qts, 1 * MiB, NVM, "failed"));
        /* Else they were not in one window: again. */
    } while (hmt_counter(t->qts, "windows") != before);
    hmt_wait_counter(t->qts, "windows", before + 2);
    g_assert_cmpuint(hmt_counter(t->qts, "dirty-pages"), ==, dirty + 1);
    hmt_stop(t);
}

static void write_hot_pages_at(HmTest *t, uint64_t from, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        hmt_write_page(t, from + i * 7 * HMT_PAGE);
    }
}

static void write_hot_pages(HmTest *t, unsigned n)
{
    write_hot_pages_at(t, NVM, n);
}

static double hottest_bucket(HmTest *t, uint64_t *offset)
{
    QDict *reply = qtest_qmp(t->qts, "{ 'execute': 'query-hybridmem-heat' }");
    QDict *heat = qobject_to(QDict,
                             qlist_peek(qdict_get_qlist(reply, "return")));
    double hottest = 0;
    const QListEntry *e;

    g_assert_cmpuint(qlist_size(qdict_get_qlist(heat, "buckets")), ==, 64);
    g_assert_cmpuint(qdict_get_int(heat, "bucket-size"), ==, HMT_RAM / 64);
    QLIST_FOREACH_ENTRY(qdict_get_qlist(heat, "buckets"), e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));
        double temperature = qnum_get_double(
            qobject_to(QNum, qdict_get(d, "temperature")));

        if (temperature > hottest) {
            hottest = temperature;
            *offset = qdict_get_int(d, "offset");
        }
    }
    qobject_unref(reply);
    return hottest;
}

/* How many writes in nvm five windows see. */
static uint64_t hot_writes_in_nvm(HmTest *t)
{
    uint64_t windows = hmt_counter(t->qts, "windows");
    uint64_t nvm_dirty = hmt_counter(t->qts, "nvm-dirty-pages");

    while (hmt_counter(t->qts, "windows") < windows + 5) {
        write_hot_pages(t, 20);
    }
    return hmt_counter(t->qts, "nvm-dirty-pages") - nvm_dirty;
}

static void check_promotes(const char *engine, const char *extra)
{
    HmTest *t = hmt_start(engine, extra);
    gint64 end = g_get_monotonic_time() + HMT_SECONDS * G_USEC_PER_SEC;
    uint64_t offset = 0;

    hmt_fill(t);
    while (hmt_counter(t->qts, "promoted-bytes") < 20 * HMT_PAGE) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        write_hot_pages(t, 20);
        g_usleep(10000);
    }
    /* All of RAM was written at first; how often, depends on the host. */
    while (hottest_bucket(t, &offset) <= 1 || offset != NVM) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        write_hot_pages(t, 20);
        g_usleep(10000);
    }

    /* What else moved, because all was written, makes room again. */
    while (hot_writes_in_nvm(t)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    /* They stay in dram. */
    g_assert_cmpuint(hot_writes_in_nvm(t), ==, 0);
    g_assert_cmpuint(hmt_counter(t->qts, "promoted-bytes"), ==,
                     hmt_counter(t->qts, "demoted-bytes"));
    hmt_assert_equal(t);
    hmt_stop(t);
}

static void test_write_heat(void)
{
    check_promotes("policy=write-heat," ALWAYS, NULL);
}

static void test_cmq(void)
{
    check_promotes("policy=cmq,cmq-cork=100," ALWAYS, NULL);
}

/* The default, which sees reads as well. */
static void test_default(void)
{
    check_promotes(ALWAYS, NULL);
}

static QDict *accesses(HmTest *t)
{
    QDict *info = hmt_query(t->qts), *a = qdict_get_qdict(info, "accesses");

    qobject_ref(a);
    qobject_unref(info);
    return a;
}

static uint64_t access_counter(HmTest *t, const char *name)
{
    QDict *a = accesses(t);
    uint64_t value = qdict_get_int(a, name);

    qobject_unref(a);
    return value;
}

/* QEMU may not drop what it must keep: by writes alone, then. */
static void test_unseen(void)
{
    g_autofree char *text = NULL;
    struct rlimit limit;
    HmTest *t;
    QDict *a;

    g_assert_cmpint(getrlimit(RLIMIT_MEMLOCK, &limit), ==, 0);
    if (limit.rlim_cur != RLIM_INFINITY && geteuid() != 0) {
        g_test_skip("this user may not lock memory");
        return;
    }
    t = hmt_start(ALWAYS, "-overcommit mem-lock=on");
    hmt_wait_counter(t->qts, "windows", 3);
    a = accesses(t);
    g_assert_cmpstr(qdict_get_str(a, "unseen"), !=, "");
    g_assert_cmpuint(qdict_get_int(a, "windows"), ==, 0);
    text = qtest_hmp(t->qts, "info hybridmem");
    hmt_assert_in(text, "policy benefit");
    hmt_assert_in(text, "accesses: not seen, ");
    qobject_unref(a);
    hmt_stop(t);
    check_promotes(ALWAYS, "-overcommit mem-lock=on");
}

/* A page in each 28 KiB, so that none has neighbours mapped by chance. */
static void read_pages(HmTest *t, uint64_t from, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        qtest_readq(t->qts, from + i * 7 * HMT_PAGE);
    }
}

static void read_for(HmTest *t, uint64_t windows)
{
    uint64_t end = access_counter(t, "windows") + windows;

    while (access_counter(t, "windows") < end) {
        read_pages(t, NVM, 20);
    }
}

/* Filled, on tmpfs, where reads are seen by page.  NULL: skipped. */
static HmTest *start_seen_by_page(const char *engine)
{
    char *dir = g_strdup("/dev/shm/hybridmem-XXXXXX");
    HmTest *t;

    if (!g_mkdtemp(dir)) {
        g_test_skip("/dev/shm cannot be written");
        g_free(dir);
        return NULL;
    }
    t = hmt_start_in(dir, engine, NULL);
    if (access_counter(t, "granule") != HMT_PAGE) {
        g_test_skip("this kernel, or user, has no such userfaultfd");
        hmt_stop(t);
        return NULL;
    }
    hmt_fill(t);
    return t;
}

/* Nothing is written, and yet it comes to dram. */
static void test_reads(void)
{
    HmTest *t = start_seen_by_page(ALWAYS);
    g_autofree char *text = NULL;
    gint64 end = g_get_monotonic_time() + HMT_SECONDS * G_USEC_PER_SEC;
    uint64_t before;

    if (!t) {
        return;
    }
    while (hmt_counter(t->qts, "promoted-bytes") < 20 * HMT_PAGE) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        read_pages(t, NVM, 20);
        g_usleep(10000);
    }
    g_assert_cmpuint(access_counter(t, "nvm-read-pages"), >=, 20);
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        before = access_counter(t, "nvm-read-pages");
        read_for(t, 5);
    } while (access_counter(t, "nvm-read-pages") > before);
    read_for(t, 5);
    g_assert_cmpuint(access_counter(t, "nvm-read-pages"), ==, before);
    text = qtest_hmp(t->qts, "info hybridmem");
    hmt_assert_in(text, "; only read: ");
    hmt_assert_equal(t);
    hmt_stop(t);
}

/*
 * Of pages, so many are read and others written, each again and again: only
 * the former count as read, but for a window now and then in which this
 * program was late.
 */
static void check_read_pages(HmTest *t, unsigned read, unsigned written)
{
    uint64_t windows = access_counter(t, "windows") + 2, pages, reads, nvm;

    while (access_counter(t, "windows") < windows) {
        read_pages(t, NVM, read);
        write_hot_pages_at(t, NVM + HMT_PAGE, written);
    }
    pages = access_counter(t, "pages");
    reads = access_counter(t, "read-pages");
    nvm = access_counter(t, "nvm-read-pages");
    while (access_counter(t, "windows") < windows + 8) {
        read_pages(t, NVM, read);
        write_hot_pages_at(t, NVM + HMT_PAGE, written);
    }
    pages = access_counter(t, "pages") - pages;
    reads = access_counter(t, "read-pages") - reads;
    nvm = access_counter(t, "nvm-read-pages") - nvm;
    g_test_message("%u read, %u written: %" PRIu64 " pages, %" PRIu64
                   " read, in nvm %" PRIu64, read, written, pages, reads, nvm);
    g_assert_cmpuint(reads, <=, pages);
    g_assert_cmpuint(nvm, <=, reads);
    if (read) {
        g_assert_cmpuint(reads, >, pages / 4);
    } else {
        g_assert_cmpuint(reads, <, pages / 2);
        g_assert_cmpuint(pages, >, 0);
    }
}

static void test_read_pages(void)
{
    HmTest *t = start_seen_by_page("min-gain=100000000,interval=200,"
                                   "window=200");

    if (!t) {
        return;
    }
    check_read_pages(t, 20, 20);
    check_read_pages(t, 0, 20);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-planned"), ==, 0);
    hmt_stop(t);
}

/* With policy none, the same writes move nothing. */
static void test_none(void)
{
    HmTest *t = hmt_start("policy=none," ALWAYS, NULL);

    for (unsigned i = 0; i < 20; i++) {
        write_hot_pages(t, 20);
        g_usleep(50000);
    }
    g_assert_cmpuint(hmt_counter(t->qts, "nvm-dirty-pages"), >, 100);
    g_assert_cmpuint(hmt_counter(t->qts, "moves-planned"), ==, 0);
    hmt_stop(t);
}

/* --- QMP --------------------------------------------------------------- */

static void test_set(void)
{
    static const char *const bad[][2] = {
        { "'interval': 9", "interval=9 is out of range: it must be 10 to" },
        { "'interval': 3600001", "interval=3600001 is out of range" },
        { "'window': 0", "window=0 is out of range: it must be 1 to" },
        { "'half-life': 1", "half-life=1 is out of range" },
        { "'min-gain': 100000001", "min-gain=100000001 is out of range" },
        { "'max-stall': 1000001", "max-stall=1000001 is out of range" },
        { "'max-stop': 1000001", "max-stop=1000001 is out of range" },
        { "'cmq-lifetime': 0", "cmq-lifetime=0 is out of range" },
        { "'cmq-cork': 0", "cmq-cork=0 is out of range" },
        { "'cmq-max-pairs': 0", "cmq-max-pairs=0 is out of range" },
        { "'policy': 'magic'", "does not accept value 'magic'" },
        { "'model': 'paper'", "model 'paper' is not known; one of none, " },
        { "'model': ''", "model '' is not known" },
        { "'id': 'hm7'", "there is no hybridmem object with id 'hm7'" },
        { "'speed': 1", "Parameter 'speed' is unexpected" },
    };
    HmTest *t = hmt_start(STILL, NULL);
    QDict *info, *params;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        g_autofree char *command = g_strdup_printf(
            "{ 'execute': 'hybridmem-set', 'arguments': { %s,"
            " 'max-bandwidth': 12345, 'enabled': false } }", bad[i][0]);
        QDict *reply, *error;

        g_strdelimit(command, "'", '"');
        qtest_qmp_send_raw(t->qts, "%s\n", command);
        reply = qtest_qmp_receive(t->qts);
        error = qdict_get_qdict(reply, "error");
        g_assert_nonnull(error);
        hmt_assert_in(qdict_get_str(error, "desc"), bad[i][1]);
        qobject_unref(reply);
    }
    /* None of what stood beside them was taken. */
    info = hmt_query(t->qts);
    params = qdict_get_qdict(info, "parameters");
    g_assert_cmpuint(qdict_get_int(params, "max-bandwidth"), ==, 256 * MiB);
    g_assert_true(qdict_get_bool(params, "enabled"));
    g_assert_cmpstr(qdict_get_str(params, "policy"), ==, "manual");
    g_assert_cmpstr(qdict_get_str(params, "model"), ==, "none");
    qobject_unref(info);

    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
        " 'arguments': { 'id': 'hm0', 'max-bandwidth': 12345, 'seed': 5,"
        " 'policy': 'cmq' } }");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'qom-set', 'arguments':"
        " { 'path': '/objects/hm0', 'property': 'window', 'value': 77 } }");
    info = hmt_query(t->qts);
    params = qdict_get_qdict(info, "parameters");
    g_assert_cmpuint(qdict_get_int(params, "max-bandwidth"), ==, 12345);
    g_assert_cmpuint(qdict_get_int(params, "seed"), ==, 5);
    g_assert_cmpuint(qdict_get_int(params, "window"), ==, 77);
    g_assert_cmpstr(qdict_get_str(info, "policy"), ==, "cmq");
    qobject_unref(info);
    hmt_assert_error(t->qts, "buckets=0 is out of range", "{ 'execute':"
        " 'query-hybridmem-heat', 'arguments': { 'buckets': 0 } }");
    hmt_assert_error(t->qts, "it must be 1 to 4096", "{ 'execute':"
        " 'query-hybridmem-heat', 'arguments': { 'buckets': 4097 } }");
    hmt_stop(t);
}

static void swap_error(HmTest *t, uint64_t a, uint64_t b, const char *text)
{
    hmt_assert_error(t->qts, text, "{ 'execute': 'hybridmem-swap',"
        " 'arguments': { 'pairs': [ { 'a': 1048576, 'b': 8388608 },"
        " { 'a': %" PRIu64 ", 'b': %" PRIu64 " } ] } }", a, b);
}

static void test_swap_errors(void)
{
    HmTest *t = hmt_start(STILL, NULL);

    swap_error(t, 0, HMT_RAM, "guest address 0x1000000 is not RAM");
    swap_error(t, 0xc0000000, 0, "guest address 0xc0000000 is not RAM");
    swap_error(t, 0xffffffff, 0, "guest address 0xffffffff is not RAM");
    swap_error(t, 0x1000, 0x1fff, "lie in one block of 4096 bytes");
    hmt_assert_error(t->qts, "no hybridmem object with id 'dmcon0'",
        "{ 'execute': 'hybridmem-swap', 'arguments': { 'id': 'dmcon0',"
        " 'pairs': [] } }");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'enabled': false } }");
    hmt_wait_state(t->qts, "disabled");
    swap_error(t, 0, NVM, "hybridmem 'hm0' is disabled");
    hmt_assert_error(t->qts, "is disabled",
                     "{ 'execute': 'hybridmem-rebalance' }");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'enabled': true } }");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'stop' }");
    swap_error(t, 0, NVM, "hybridmem 'hm0' is inhibited by not-running");
    hmt_assert_error(t->qts, "inhibited by not-running",
                     "{ 'execute': 'hybridmem-rebalance' }");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'cont' }");
    /* All or nothing: the good pair beside the bad one was not exchanged. */
    g_assert_cmpuint(hmt_counter(t->qts, "moves-planned"), ==, 0);
    g_assert_true(hmt_swap(t->qts, 0, NVM, "failed"));
    hmt_stop(t);
}

static void expect_state_event(HmTest *t, const char *state,
                               const char *inhibitor)
{
    QDict *event = qtest_qmp_eventwait_ref(t->qts, "HYBRIDMEM_STATE_CHANGE");
    QDict *data = qdict_get_qdict(event, "data");
    QList *list = qdict_get_qlist(data, "inhibitors");

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "hm0");
    g_assert_cmpstr(qdict_get_str(data, "state"), ==, state);
    g_assert_cmpuint(qlist_size(list), ==, inhibitor ? 1 : 0);
    if (inhibitor) {
        g_assert_cmpstr(qstring_get_str(qobject_to(QString,
                        qlist_peek(list))), ==, inhibitor);
    }
    qobject_unref(event);
}

/* The first event may come before the monitor listens. */
static void drop_state_events(HmTest *t)
{
    QDict *event;

    while ((event = qtest_qmp_event_ref(t->qts, "HYBRIDMEM_STATE_CHANGE"))) {
        qobject_unref(event);
    }
}

static void test_state(void)
{
    HmTest *t = hmt_start("policy=none," ALWAYS, NULL);
    uint64_t lost, windows;

    hmt_wait_counter(t->qts, "windows", 2);
    drop_state_events(t);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'stop' }");
    expect_state_event(t, "inhibited", "not-running");
    hmt_wait_state(t->qts, "inhibited:not-running");
    lost = hmt_counter(t->qts, "windows-lost");
    windows = hmt_counter(t->qts, "windows");
    g_assert_cmpuint(lost, ==, 1);
    g_usleep(400000);
    g_assert_cmpuint(hmt_counter(t->qts, "windows"), ==, windows);
    g_assert_cmpuint(hmt_counter(t->qts, "windows-lost"), ==, lost);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'cont' }");
    expect_state_event(t, "running", NULL);
    hmt_wait_counter(t->qts, "windows", windows + 2);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'enabled': false } }");
    expect_state_event(t, "disabled", NULL);
    hmt_stop(t);
}

static void test_rebalance(void)
{
    HmTest *t = hmt_start("policy=none,interval=100,window=100", NULL);
    QDict *event, *data;

    hmt_wait_counter(t->qts, "windows", 2);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t windows = hmt_counter(t->qts, "windows");

        write_hot_pages(t, 20);
        hmt_wait_counter(t->qts, "windows", windows + 1);
    }
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-rebalance' }");
    event = qtest_qmp_eventwait_ref(t->qts, "HYBRIDMEM_REBALANCE_COMPLETED");
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "hm0");
    g_assert_cmpuint(qdict_get_int(data, "planned"), ==, 0);
    g_assert_cmpuint(qdict_get_int(data, "done"), ==, 0);
    qobject_unref(event);

    hmt_set_policy(t->qts, "shuffle");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-rebalance' }");
    event = qtest_qmp_eventwait_ref(t->qts, "HYBRIDMEM_REBALANCE_COMPLETED");
    data = qdict_get_qdict(event, "data");
    g_assert_cmpuint(qdict_get_int(data, "planned"), >, 0);
    g_assert_cmpuint(qdict_get_int(data, "done"), <=,
                     qdict_get_int(data, "planned"));
    qobject_unref(event);
    hmt_stop(t);
}

/* What was asked for is done, or skipped for a reason: nothing else. */
static void test_sums(void)
{
    static const char *const reasons[] = {
        "pinned", "busy", "budget", "map-limit", "stale", "failed"
    };
    HmTest *t = hmt_start("policy=shuffle,interval=50,window=20,"
                          "max-bandwidth=20M", NULL);
    QDict *info, *c;
    uint64_t sum, batches = 0;
    const QListEntry *e;

    hmt_wait_counter(t->qts, "moves-done", 2000);
    hmt_set_policy(t->qts, "none");
    g_usleep(300000);
    info = hmt_query(t->qts);
    c = qdict_get_qdict(info, "counters");
    sum = qdict_get_int(c, "moves-done");
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        sum += qdict_get_int(qdict_get_qdict(c, "skipped"), reasons[i]);
    }
    g_assert_cmpuint(qdict_get_int(c, "moves-planned"), ==, sum);
    g_assert_cmpuint(qdict_get_int(c, "moved-pages"), ==,
                     qdict_get_int(c, "blocks-moved"));
    g_assert_cmpuint(qdict_get_int(c, "stall-ns-max"), <=,
                     qdict_get_int(c, "stall-ns-total"));
    g_assert_cmpuint(qdict_get_int(c, "stall-ns-total"), <=,
                     qdict_get_int(c, "bql-ns-total"));
    QLIST_FOREACH_ENTRY(qdict_get_qlist(c, "stall-histogram"), e) {
        batches += qnum_get_uint(qobject_to(QNum, qlist_entry_obj(e)));
    }
    g_assert_cmpuint(qdict_get_int(c, "batches"), ==, batches);
    qobject_unref(info);
    hmt_stop(t);
}

/* Blocks of a tier that is bound to a node merge again when they are home. */
static void test_bound_to_node(void)
{
    HmTest t = { .dir = hmt_make_dir() };
    unsigned i;

    if (!g_file_test("/sys/devices/system/node/node0", G_FILE_TEST_IS_DIR)) {
        g_test_skip("the host has no NUMA nodes");
        hmt_remove_dir(t.dir);
        return;
    }
    t.qts = qtest_initf(
        "-nodefaults -machine q35,memory-backend=c -m 64M "
        "-object memory-backend-container,id=c,size=64M "
        "-object memory-backend-devmem,id=d,size=8M,mem-path=%s/d,parent=c,"
        "host-nodes=0,policy=bind "
        "-object memory-backend-devmem,id=n,size=56M,offset=8M,mem-path=%s/n,"
        "parent=c,host-nodes=0,policy=bind "
        "-object hybridmem,id=hm0,memdev=c,policy=manual", t.dir, t.dir);
    hmt_wait_state(t.qts, "running");
    for (i = 0; i < 100; i++) {
        uint64_t at = 2 * i * HMT_PAGE;

        g_assert_true(hmt_swap(t.qts, 1 * MiB + at, 16 * MiB + at, "failed"));
    }
    g_assert_cmpuint(hmt_count_mappings(&t), ==, 402);
    for (i = 0; i < 100; i++) {
        uint64_t at = 2 * i * HMT_PAGE;

        g_assert_true(hmt_swap(t.qts, 1 * MiB + at, 16 * MiB + at, "failed"));
    }
    g_assert_cmpuint(hmt_count_mappings(&t), ==, 2);
    qtest_quit(t.qts);
    hmt_remove_dir(t.dir);
}

/* --- estimates --------------------------------------------------------- */

static void set_model(QTestState *qts, const char *model)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'model': %s } }", model);
}

/* "typical" of an estimate, or "low" or "high"; negative if it is absent. */
static double estimate(QDict *estimates, const char *name, const char *which)
{
    QDict *e = qdict_get_qdict(estimates, name);

    return e ? qdict_get_double(e, which) : -1;
}

static void assert_estimate(QDict *estimates, const char *name, double low,
                            double typical, double high)
{
    const double expected[] = { low, typical, high };
    static const char *const which[] = { "low", "typical", "high" };

    for (unsigned i = 0; i < ARRAY_SIZE(which); i++) {
        double seen = estimate(estimates, name, which[i]);

        g_test_message("%s, %s: %g, expected %g", name, which[i], seen,
                       expected[i]);
        g_assert_cmpfloat(fabs(seen - expected[i]), <=,
                          fabs(expected[i]) / 1e9);
    }
}

/* No window has ended: zeroes, and nothing that is divided by them. */
static void test_estimates_of_nothing(void)
{
    HmTest *t = hmt_start(STILL, NULL);
    QDict *info = hmt_query(t->qts), *e;

    g_assert_false(qdict_haskey(info, "estimates"));
    qobject_unref(info);

    set_model(t->qts, "stt-mram");
    info = hmt_query(t->qts);
    e = qdict_get_qdict(info, "estimates");
    g_assert_cmpstr(qdict_get_str(e, "model"), ==, "stt-mram");
    g_assert_cmpuint(qdict_get_int(e, "observed-ms"), ==, 0);
    g_assert_cmpuint(qdict_get_int(e, "guest-nvm-bytes"), ==, 0);
    assert_estimate(e, "write-energy", 0, 0, 0);
    assert_estimate(e, "write-energy-dram", 0, 0, 0);
    assert_estimate(e, "wear", 0, 0, 0);
    g_assert_false(qdict_haskey(e, "years-until-worn"));
    qobject_unref(info);

    /* What a model does not know is not shown: CXL is DRAM, and lasts. */
    set_model(t->qts, "cxl");
    info = hmt_query(t->qts);
    e = qdict_get_qdict(info, "estimates");
    g_assert_false(qdict_haskey(e, "write-energy"));
    g_assert_false(qdict_haskey(e, "write-energy-dram"));
    g_assert_false(qdict_haskey(e, "wear"));
    qobject_unref(info);

    qtest_qmp_assert_success(t->qts, "{ 'execute': 'qom-set', 'arguments':"
        " { 'path': '/objects/hm0', 'property': 'model', 'value': 'none' } }");
    info = hmt_query(t->qts);
    g_assert_false(qdict_haskey(info, "estimates"));
    qobject_unref(info);
    hmt_stop(t);
}

/* All writes are seen, so that a page counts as what it is. */
static void test_estimates(void)
{
    HmTest *t = hmt_start("policy=none,model=stt-mram," ALWAYS, NULL);
    const double nvm_size = HMT_RAM - HMT_DRAM;
    uint64_t pages = 200, own;
    double bytes, seconds;
    QDict *info, *e;
    char *text;

    hmt_wait_counter(t->qts, "windows", 2);
    for (unsigned i = 0; i < pages; i++) {
        hmt_write_page(t, NVM + i * HMT_PAGE);
        hmt_write_page(t, 1 * MiB + i * HMT_PAGE);
    }
    hmt_wait_counter(t->qts, "nvm-dirty-pages", pages);
    g_assert_true(hmt_swap(t->qts, 1 * MiB, NVM + 8 * MiB, "failed"));
    info = hmt_query(t->qts);
    e = qdict_get_qdict(info, "estimates");
    own = qdict_get_int(e, "own-nvm-bytes");
    g_assert_cmpuint(own, ==, HMT_PAGE);
    g_assert_cmpuint(own, ==, qdict_get_int(qdict_get_qdict(info, "counters"),
                                            "nvm-written-bytes"));
    g_assert_cmpuint(qdict_get_int(e, "guest-nvm-bytes"), ==,
                     pages * HMT_PAGE);
    g_assert_cmpuint(qdict_get_int(e, "observed-ms"), >=, 200);
    bytes = pages * HMT_PAGE + own;
    seconds = qdict_get_int(e, "observed-ms") / 1e3;
    assert_estimate(e, "write-energy", bytes * 2.5 / 1e9, bytes * 25 / 1e9,
                    bytes * 250 / 1e9);
    assert_estimate(e, "write-energy-dram", bytes * 0.25 / 1e9,
                    bytes * 0.25 / 1e9, bytes * 0.25 / 1e9);
    assert_estimate(e, "wear", bytes / nvm_size / 1e16,
                    bytes / nvm_size / 1e15, bytes / nvm_size / 1e8);
    seconds /= 365.25 * 24 * 3600;
    assert_estimate(e, "years-until-worn", seconds * nvm_size / bytes * 1e8,
                    seconds * nvm_size / bytes * 1e15,
                    seconds * nvm_size / bytes * 1e16);
    qobject_unref(info);

    set_model(t->qts, "optane");
    text = qtest_hmp(t->qts, "info hybridmem");
    hmt_assert_in(text, "estimates for optane, from dirty pages in ");
    hmt_assert_in(text, "by the guest about 800 KiB, by moves 4 KiB");
    hmt_assert_in(text, "share of the endurance: about ");
    hmt_assert_in(text, "worn out in: about ");
    g_free(text);
    hmt_stop(t);
}

/* A window of a quarter of the time stands for the other three as well. */
static void test_estimates_duty_cycle(void)
{
    HmTest *t = hmt_start("policy=none,interval=400,window=100,model=optane",
                          NULL);
    uint64_t seen = 0, said = 0;
    QDict *info;

    while (hmt_counter(t->qts, "windows") < 6 || !said) {
        for (unsigned i = 0; i < 20; i++) {
            hmt_write_page(t, NVM + i * HMT_PAGE);
        }
        info = hmt_query(t->qts);
        seen = qdict_get_int(qdict_get_qdict(info, "counters"),
                             "nvm-dirty-pages") * HMT_PAGE;
        said = qdict_get_int(qdict_get_qdict(info, "estimates"),
                             "guest-nvm-bytes");
        qobject_unref(info);
    }
    g_test_message("%" PRIu64 " bytes seen, %" PRIu64 " said", seen, said);
    /* Four times, if the machine keeps to time. */
    g_assert_cmpuint(said, >, 2 * seen);
    g_assert_cmpuint(said, <, 8 * seen);
    hmt_stop(t);
}

/* --- latencies --------------------------------------------------------- */

/* Looks at next to nothing, so that QEMU's page table stays filled. */
#define BALANCE "policy=benefit,interval=50,window=20,access-window=1," \
                "access-rate=4096"

/* The balance's member @name; -1: there is no balance. */
static int64_t balance_member(QTestState *qts, const char *name)
{
    QDict *info = hmt_query(qts);
    QDict *b = qdict_get_qdict(info, "balance");
    int64_t value = b ? qdict_get_int(b, name) : -1;

    qobject_unref(info);
    return value;
}

/* True if both tiers show one, false if none does. */
static bool latencies_shown(QTestState *qts)
{
    QDict *info = hmt_query(qts);
    const QListEntry *e;
    unsigned n = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "tiers"), e) {
        QDict *tier = qobject_to(QDict, qlist_entry_obj(e));

        if (qdict_haskey(tier, "latency")) {
            g_assert_cmpint(qdict_get_int(tier, "latency"), >, 0);
            n++;
        }
    }
    qobject_unref(info);
    g_assert_true(n == 0 || n == 2);
    return n;
}

static void wait_windows(QTestState *qts, unsigned n)
{
    hmt_wait_counter(qts, "windows", hmt_counter(qts, "windows") + n);
}

static void assert_balance(HmTest *t, bool shown)
{
    g_autofree char *text = qtest_hmp(t->qts, "info hybridmem");

    g_assert_cmpint(latencies_shown(t->qts), ==, shown);
    g_assert_cmpint(balance_member(t->qts, "probe-ns") > 0, ==, shown);
    g_assert_cmpint(strstr(text, "balance: ") != NULL, ==, shown);
    g_assert_cmpint(strstr(text, " ns; retreats: ") != NULL, ==, shown);
}

static void test_balance(void)
{
    HmTest *t = hmt_start(BALANCE, NULL);
    int64_t windows = 0;

    hmt_fill(t);
    wait_windows(t->qts, 2);
    assert_balance(t, false);

    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'balance': true } }");
    for (int i = 0; i < 600 && windows < 5; i++) {
        wait_windows(t->qts, 1);
        windows = balance_member(t->qts, "windows");
    }
    g_assert_cmpint(windows, >=, 5);
    assert_balance(t, true);
    hmt_assert_error(t->qts, "balance=on is for objective=time, and not for "
                     "objective=wear", "{ 'execute': 'hybridmem-set',"
                     " 'arguments': { 'objective': 'wear' } }");
    assert_balance(t, true);

    /* Others have no use for it, so it may stay on. */
    hmt_set_policy(t->qts, "write-heat");
    wait_windows(t->qts, 2);
    assert_balance(t, false);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'objective': 'wear' } }");
    hmt_assert_error(t->qts, "balance=on is for objective=time",
                     "{ 'execute': 'hybridmem-set', 'arguments':"
                     " { 'policy': 'benefit' } }");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'policy': 'benefit',"
                             " 'balance': false } }");
    wait_windows(t->qts, 2);
    assert_balance(t, false);
    hmt_assert_equal(t);
    hmt_stop(t);
}

/* Bytes that the tiers' files take. */
static uint64_t bytes_of_files(HmTest *t)
{
    g_autoptr(GDir) dir = g_dir_open(t->dir, 0, NULL);
    uint64_t bytes = 0;
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(t->dir, name, NULL);
        struct stat st;

        g_assert_cmpint(stat(path, &st), ==, 0);
        bytes += st.st_blocks * 512ull;
    }
    return bytes;
}

/* Memory that the guest has not used is not used by measuring, either. */
static void test_balance_holes(void)
{
    HmTest *t = hmt_start(BALANCE ",balance=on", NULL);
    uint64_t before;

    wait_windows(t->qts, 2);
    before = bytes_of_files(t);
    wait_windows(t->qts, 10);
    g_assert_cmpuint(bytes_of_files(t), ==, before);
    g_assert_cmpint(balance_member(t->qts, "windows"), ==, 0);
    g_assert_cmpint(balance_member(t->qts, "probe-ns"), >, 0);
    g_assert_false(latencies_shown(t->qts));
    hmt_stop(t);
}

/* --- copies to persistent memory --------------------------------------- */

static void assert_tiers_pmem(QTestState *qts, bool expected)
{
    QDict *info = hmt_query(qts);
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "tiers"), e) {
        QDict *tier = qobject_to(QDict, qlist_entry_obj(e));

        g_assert_cmpint(qdict_get_bool(tier, "pmem"), ==, expected);
    }
    qobject_unref(info);
}

/* Ordinary files: libpmem has nothing to do. */
static void test_no_pmem(void)
{
    HmTest *t = hmt_start(STILL, NULL);

    assert_tiers_pmem(t->qts, false);
    g_assert_true(hmt_swap(t->qts, 1 * MiB, NVM, "failed"));
    g_assert_cmpuint(hmt_counter(t->qts, "pmem-copied-bytes"), ==, 0);
    hmt_stop(t);
}

/* libpmem can be told to take any file for persistent memory. */
static void test_pmem(void)
{
#ifdef CONFIG_LIBPMEM
    HmTest *t;
    QDict *info, *c;

    g_setenv("PMEM_IS_PMEM_FORCE", "1", true);
    t = hmt_start(STILL, NULL);
    g_unsetenv("PMEM_IS_PMEM_FORCE");
    assert_tiers_pmem(t->qts, true);
    hmt_fill(t);
    g_assert_true(hmt_swap(t->qts, 1 * MiB, NVM, "failed"));
    g_assert_cmpuint(hmt_counter(t->qts, "pmem-copied-bytes"), ==,
                     2 * HMT_PAGE);
    hmt_assert_equal(t);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hybridmem-set',"
        " 'arguments': { 'policy': 'shuffle', 'interval': 50, 'window': 20,"
        " 'max-bandwidth': 0, 'max-stall': 0 } }");
    hmt_wait_counter(t->qts, "moves-done", 5000);
    hmt_set_policy(t->qts, "none");
    g_usleep(300000);
    info = hmt_query(t->qts);
    c = qdict_get_qdict(info, "counters");
    /* Every copy into a frame, since none failed. */
    g_assert_cmpuint(qdict_get_int(qdict_get_qdict(c, "skipped"), "failed"),
                     ==, 0);
    g_assert_cmpuint(qdict_get_int(c, "pmem-copied-bytes"), ==,
                     qdict_get_int(c, "blocks-moved") * HMT_PAGE);
    qobject_unref(info);
    hmt_assert_equal(t);
    hmt_stop(t);
#else
    g_test_skip("this QEMU was built without libpmem");
#endif
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("hybridmem/sample/pages", test_sample);
    qtest_add_func("hybridmem/sample/moves", test_sample_after_moves);
    qtest_add_func("hybridmem/sample/moved", test_sample_of_moved);
    qtest_add_func("hybridmem/sample/write-heat", test_write_heat);
    qtest_add_func("hybridmem/sample/cmq", test_cmq);
    qtest_add_func("hybridmem/sample/default", test_default);
    qtest_add_func("hybridmem/sample/none", test_none);
    qtest_add_func("hybridmem/sample/unseen", test_unseen);
    qtest_add_func("hybridmem/sample/reads", test_reads);
    qtest_add_func("hybridmem/sample/read-pages", test_read_pages);
    qtest_add_func("hybridmem/qmp/set", test_set);
    qtest_add_func("hybridmem/qmp/swap-errors", test_swap_errors);
    qtest_add_func("hybridmem/qmp/state", test_state);
    qtest_add_func("hybridmem/qmp/rebalance", test_rebalance);
    qtest_add_func("hybridmem/qmp/sums", test_sums);
    qtest_add_func("hybridmem/qmp/bound-to-node", test_bound_to_node);
    qtest_add_func("hybridmem/estimates/nothing", test_estimates_of_nothing);
    qtest_add_func("hybridmem/estimates/sums", test_estimates);
    qtest_add_func("hybridmem/estimates/duty-cycle",
                   test_estimates_duty_cycle);
    qtest_add_func("hybridmem/balance/set", test_balance);
    qtest_add_func("hybridmem/balance/holes", test_balance_holes);
    qtest_add_func("hybridmem/pmem/none", test_no_pmem);
    qtest_add_func("hybridmem/pmem/forced", test_pmem);
    return g_test_run();
}
