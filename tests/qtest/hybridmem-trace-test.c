/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest of the trace that an engine writes: what is in it, that it can be
 * replayed, and that an error ends the recording and nothing else.
 */
#include "qemu/osdep.h"
#include <sys/resource.h>
#include "qemu/bitops.h"
#include "hybridmem-util.h"
#include "hw/hybridmem/trace-file.h"

/* What a whole trace says, added up. */
typedef struct Sums {
    HmTraceKind end;
    uint64_t windows, ms, seen, seen_in_nvm;
    uint64_t moves, copied_to_nvm;
    unsigned long seen_ever[BITS_TO_LONGS(HMT_BLOCKS)];
    HmTraceInfo info;
    uint32_t dram;
} Sums;

static HmTest *start(const char *engine, char **path)
{
    char *dir = hmt_make_dir();
    g_autofree char *options = NULL;

    *path = g_build_filename(dir, "trace", NULL);
    options = g_strdup_printf("trace=%s,%s", *path, engine);
    return hmt_start_in(dir, options, NULL);
}

static void add_window(Sums *s, const HmTraceWindow *w)
{
    g_assert_cmpint(w->w.sense, ==, HM_SENSE_WRITES);
    s->windows++;
    s->ms += w->w.elapsed_ms;
    s->seen_in_nvm += w->seen_in_nvm;
    for (uint64_t p = 0; p < HMT_BLOCKS; p++) {
        if (test_bit(p, w->w.seen)) {
            set_bit(p, s->seen_ever);
            s->seen++;
        }
    }
}

static void add_moves(Sums *s, const HmTraceReader *r)
{
    size_t n;
    const HmTraceMove *m = hm_trace_moves(r, &n);

    for (size_t i = 0; i < n; i++) {
        g_assert_true(m[i].whole);
        s->moves++;
        s->copied_to_nvm += m[i].to == HM_TIER_NVM ? m[i].pages : 0;
    }
}

static Sums *add_up(const char *path)
{
    Sums *s = g_new0(Sums, 1);
    g_autofree char *data = NULL;
    g_autofree char *why = NULL;
    HmTraceReader *r;
    HmFrames *fr;
    gsize size;

    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    r = hm_trace_reader_new((uint8_t *)data, size, &why);
    g_assert_cmpstr(why, ==, NULL);
    s->info = *hm_trace_reader_info(r);
    g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_FRAMES);
    fr = hm_trace_take_frames(r);
    s->dram = hm_frames_tier_blocks(fr, HM_TIER_DRAM);
    hm_frames_free(fr);
    while ((s->end = hm_trace_next(r)) < HM_TRACE_END) {
        g_assert_cmpint(s->end, !=, HM_TRACE_FRAMES);
        if (s->end == HM_TRACE_WINDOW) {
            add_window(s, hm_trace_window(r));
        } else {
            add_moves(s, r);
        }
    }
    hm_trace_reader_free(r);
    return s;
}

static uint64_t recording(QTestState *qts, const char *what)
{
    QDict *info = hmt_query(qts);
    QDict *trace = qdict_get_qdict(info, "trace");
    uint64_t n;

    g_assert_nonnull(trace);
    n = g_str_equal(what, "recording") ? qdict_get_bool(trace, what) :
        qdict_get_int(trace, what);
    qobject_unref(info);
    return n;
}

static void wait_windows(HmTest *t, unsigned n)
{
    hmt_wait_counter(t->qts, "windows",
                     hmt_counter(t->qts, "windows") + n);
}

/* Pages written once each, a few in each window; then nobody writes. */
static void test_windows(void)
{
    g_autofree char *path = NULL;
    g_autofree Sums *s = NULL;
    HmTest *t = start("policy=none," ALWAYS, &path);
    uint64_t windows;

    wait_windows(t, 1);
    for (unsigned i = 0; i < 60; i++) {
        hmt_write_page(t, 1 * MiB + i * 2 * HMT_PAGE);
        hmt_write_page(t, NVM + i * 3 * HMT_PAGE);
        if (i % 20 == 0) {
            wait_windows(t, 1);
        }
    }
    wait_windows(t, 2);
    windows = recording(t->qts, "windows");
    g_assert_cmpuint(windows, >, 5);
    g_assert_cmpuint(recording(t->qts, "windows-lost"), ==, 0);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'stop' }");
    hmt_wait_state(t->qts, "inhibited:not-running");
    s = add_up(path);
    g_assert_cmpint(s->end, ==, HM_TRACE_END);
    g_assert_cmpuint(s->windows, >=, windows);
    g_assert_cmpuint(s->ms, >=, (s->windows - 1) * 90);
    g_assert_cmpuint(s->seen, ==, 120);
    g_assert_cmpuint(s->seen_in_nvm, ==, 60);
    g_assert_cmpuint(s->moves, ==, 0);
    for (unsigned i = 0; i < 60; i++) {
        g_assert_true(test_bit(MiB / HMT_PAGE + 2 * i, s->seen_ever));
        g_assert_true(test_bit(NVM / HMT_PAGE + 3 * i, s->seen_ever));
    }
    g_assert_cmpuint(s->info.pages, ==, HMT_BLOCKS);
    g_assert_cmpuint(s->info.page_size, ==, HMT_PAGE);
    g_assert_cmpuint(s->info.pages_per_block, ==, 1);
    g_assert_cmpuint(s->info.half_life_ms, ==, 5000);
    g_assert_cmpstr(s->info.policy, ==, "none");
    g_assert_cmpuint(s->dram, ==, HMT_DRAM / HMT_PAGE);
    hmt_stop(t);
}

/* The sums of the trace are those of the counters. */
static void test_moves(void)
{
    g_autofree char *path = NULL;
    g_autofree Sums *s = NULL;
    HmTest *t = start(FULL_SPEED, &path);
    uint64_t blocks, bytes, dirty, nvm_dirty;

    hmt_wait_counter(t->qts, "moves-done", 2000);
    for (unsigned i = 0; i < 200; i++) {
        hmt_write_page(t, hmt_random_page(t, 0, HMT_RAM));
    }
    wait_windows(t, 2);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'stop' }");
    hmt_wait_state(t->qts, "inhibited:not-running");
    /* The engine may have been on its way; what it wrote is what it did. */
    do {
        blocks = hmt_counter(t->qts, "blocks-moved");
        g_usleep(200000);
    } while (blocks != hmt_counter(t->qts, "blocks-moved"));
    bytes = hmt_counter(t->qts, "nvm-written-bytes");
    dirty = hmt_counter(t->qts, "dirty-pages");
    nvm_dirty = hmt_counter(t->qts, "nvm-dirty-pages");
    s = add_up(path);
    g_assert_cmpint(s->end, ==, HM_TRACE_END);
    g_assert_cmpuint(s->moves, ==, blocks);
    g_assert_cmpuint(s->copied_to_nvm * HMT_PAGE, ==, bytes);
    g_assert_cmpuint(s->seen, ==, dirty);
    g_assert_cmpuint(s->seen_in_nvm, ==, nvm_dirty);
    hmt_stop(t);
}

/* The file may not grow: the recording ends, and all else goes on. */
static void test_full_disk(void)
{
    g_autofree char *path = NULL;
    g_autofree Sums *s = NULL;
    HmTest *t = start("policy=none," ALWAYS, &path);
    struct rlimit limit;
    struct stat st;

    hmt_fill(t);
    wait_windows(t, 3);
    g_assert_cmpuint(recording(t->qts, "recording"), ==, true);
    g_assert_cmpint(stat(path, &st), ==, 0);
    /* Within a record, most likely. */
    limit = (struct rlimit) { st.st_size + 7, st.st_size + 7 };
    g_assert_cmpint(prlimit(qtest_pid(t->qts), RLIMIT_FSIZE, &limit, NULL),
                    ==, 0);
    wait_windows(t, 3);
    g_assert_cmpuint(recording(t->qts, "recording"), ==, false);
    g_assert_cmpuint(recording(t->qts, "windows-lost"), >=, 1);
    hmt_assert_equal(t);
    s = add_up(path);
    g_assert_cmpint(s->end, ==, HM_TRACE_END);
    g_assert_cmpuint(s->windows, ==, recording(t->qts, "windows"));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_size, ==, recording(t->qts, "bytes"));
    hmt_stop(t);
}

static void test_info(void)
{
    g_autofree char *path = NULL;
    HmTest *t = start("policy=none," ALWAYS, &path);
    char *text;

    wait_windows(t, 1);
    text = qtest_hmp(t->qts, "info hybridmem");
    hmt_assert_in(text, " trace: ");
    hmt_assert_in(text, path);
    g_free(text);
    hmt_assert_error(t->qts, "trace", "{ 'execute': 'qom-set', 'arguments':"
                     " { 'path': '/objects/hm0', 'property': 'trace',"
                     " 'value': '/nobody/here' } }");
    hmt_stop(t);
    t = hmt_start(STILL, NULL);
    {
        QDict *info = hmt_query(t->qts);

        g_assert_false(qdict_haskey(info, "trace"));
        qobject_unref(info);
    }
    hmt_stop(t);
}

/* The replayer finds the same traffic. */
static void test_replay(void)
{
    g_autofree char *obj = g_path_get_dirname(getenv("QTEST_QEMU_BINARY"));
    g_autofree char *program = g_build_filename(obj, "hw", "hybridmem",
                                                "hybridmem-replay", NULL);
    g_autofree char *path = NULL;
    g_autofree char *out = NULL;
    g_autofree char *unmanaged = NULL;
    const char *argv[] = { program, "--json", "--trace-in", NULL, NULL };
    HmTest *t;
    int status;

    if (access(program, X_OK)) {
        g_test_skip("hybridmem-replay is not built");
        return;
    }
    t = start("policy=none," ALWAYS, &path);
    argv[3] = path;
    for (unsigned i = 0; i < 50; i++) {
        hmt_write_page(t, NVM + i * HMT_PAGE);
    }
    wait_windows(t, 3);
    unmanaged = g_strdup_printf("\"written\": %" PRIu64 ",",
                                hmt_counter(t->qts, "nvm-dirty-pages"));
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, &out,
                               NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    hmt_assert_in(out, "\"end\": \"whole\"");
    hmt_assert_in(out, "\"unit\": \"pages\"");
    hmt_assert_in(out, unmanaged);
    hmt_assert_in(out, "\"policy\": \"write-heat\"");
    hmt_stop(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("hybridmem/trace/windows", test_windows);
    qtest_add_func("hybridmem/trace/moves", test_moves);
    qtest_add_func("hybridmem/trace/full-disk", test_full_disk);
    qtest_add_func("hybridmem/trace/info", test_info);
    qtest_add_func("hybridmem/trace/replay", test_replay);
    return g_test_run();
}
