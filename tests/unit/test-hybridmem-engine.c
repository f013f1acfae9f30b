/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's thread against a main loop: real engine.c, stats.c and core;
 * a sampler, a mover and a guest that are made up here.  Built a second time
 * with -fsanitize=thread.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/bitmap.h"
#include "qemu/main-loop.h"
#include "hw/hybridmem/engine.h"

#define BLOCKS 1024u
#define DRAM 128u
#define HOT_FIRST 512u
#define HOT 64u
#define USED 900u       /* if more_used: nobody knows whether it is written */
#define WINDOW_MS 5

/* Longer than any wait in the engine; a broken engine fails, not hangs. */
#define PATIENCE_MS 20000

/* --- what the engine sees of QEMU -------------------------------------- */

static uint32_t inhibitors;
static unsigned events;
static HybridmemState last_state;

uint32_t hm_engine_inhibitors(Hybridmem *hm)
{
    return qatomic_read(&inhibitors);
}

HybridmemInhibitorList *hm_engine_inhibitor_list(uint32_t bits)
{
    return NULL;
}

void qapi_event_send_hybridmem_state_change(const char *id,
                                            HybridmemState state,
                                            HybridmemInhibitorList *list)
{
    events++;
    last_state = state;
}

HmPolicyParams hm_params_for_policy(const HybridmemParameters *p,
                                    uint64_t map_limit)
{
    HmPolicyParams pp;

    hm_policy_params_init(&pp);
    pp.map_limit = map_limit;
    return pp;
}

/* --- a guest that writes HOT blocks in every window -------------------- */

/* The guest stands still from an access window to the log's next stop. */
static enum { PAUSE_NONE, PAUSE_WANTED, PAUSED, PAUSE_OVER } pause_in_window;

typedef struct FakeSampler {
    HmSampler base;
    bool on;
    bool read, last;
} FakeSampler;

/* If the log is slow to read: when windows began and ended. */
#define SLOW_US 30000
static bool slow;
static unsigned slow_windows;
static int64_t began_us, ended_us;
static int64_t least_rest_us;           /* beyond what is asked for */

static void fake_start(HmSampler *s)
{
    int64_t now = g_get_monotonic_time();

    container_of(s, FakeSampler, base)->on = true;
    if (qatomic_read(&slow) && ended_us) {
        int64_t took = ended_us - began_us - WINDOW_MS * 1000;

        least_rest_us = MIN(least_rest_us, now - ended_us - took);
        qatomic_inc(&slow_windows);
    }
    began_us = now;
}

static void run_while_reading(void);

static bool fake_read(HmSampler *s, bool last)
{
    FakeSampler *f = container_of(s, FakeSampler, base);

    g_assert_true(f->on);
    run_while_reading();
    if (qatomic_read(&slow)) {
        g_usleep(SLOW_US);
    }
    f->read = true;
    f->last = last;
    return true;
}

static void fake_collect(HmSampler *s, unsigned long *dirty)
{
    FakeSampler *f = container_of(s, FakeSampler, base);

    g_assert_true(f->read);
    f->read = false;
    bitmap_set(dirty, HOT_FIRST, HOT);
}

static void fake_stop(HmSampler *s)
{
    FakeSampler *f = container_of(s, FakeSampler, base);

    f->on = f->read = false;
    ended_us = qatomic_read(&slow) ? g_get_monotonic_time() : 0;
    if (qatomic_read(&pause_in_window) == PAUSED) {
        qatomic_set(&inhibitors, 0);
        qatomic_set(&pause_in_window, PAUSE_OVER);
    }
}

/* If set, runs in the main loop when the log is read, once. */
static void (*while_reading)(Hybridmem *hm);
static Hybridmem *the_engine;

static void run_while_reading(void)
{
    void (*fn)(Hybridmem *hm) = while_reading;

    while_reading = NULL;
    if (fn) {
        fn(the_engine);
    }
}

static const HmSamplerOps fake_sampler_ops = {
    .name = "fake",
    .start = fake_start,
    .read = fake_read,
    .collect = fake_collect,
    .stop = fake_stop,
};

/* See below. */
static bool accesses_wanted, accesses_by_log, watching, disabling;
static unsigned access_windows, releases;
static FakeSampler *the_sampler;

/* A mover that only keeps books. */
static void fake_carry_out(Hybridmem *hm)
{
    HmBatch *b = hm->batch;

    g_assert_false(watching);
    if (qatomic_read(&inhibitors)) {
        b->inhibited = true;
        return;
    }
    for (b->taken = 0; b->taken < b->n; b->taken++) {
        const HmMove *mv = &b->moves[b->taken];
        HmCycle cy;
        HmMoveResult r = hm_frames_plan_cycle(hm->frames, mv->promote,
                                              mv->demote, 0, &cy);

        if (r == HM_MOVE_DONE) {
            hm_frames_apply(hm->frames, &cy);
            b->copied_bytes += cy.n * hm->block_size;
            hm->stats.nvm_written_bytes += (cy.n - 1) * hm->block_size;
        }
        b->each[b->taken] = r;
        b->results[r]++;
    }
    b->stall_ns = 1000;
    hm_stats_batch(hm, b);
}

static const HmMoverOps fake_mover_ops = {
    .kind = HYBRIDMEM_MOVER_REMAP,
    .holds_guest = true,
    .carry_out = fake_carry_out,
};

/* --- accesses: who is awake when ----------------------------------------- */

const HmAccess *hm_accesses_rates(const HmAccesses *as)
{
    return NULL;
}

uint64_t hm_accesses_bytes(const HmAccesses *as)
{
    return 0;
}

HybridmemAccesses *hm_accesses_info(Hybridmem *hm)
{
    return g_new0(HybridmemAccesses, 1);
}

bool hm_accesses_wanted(const Hybridmem *hm)
{
    return accesses_wanted;
}

void hm_accesses_release(HmAccesses *as)
{
    g_assert_true(!accesses_wanted || qatomic_read(&disabling));
    qatomic_inc(&releases);
}

bool hm_accesses_by_log(const HmAccesses *as)
{
    return accesses_by_log;
}

void hm_accesses_begin(Hybridmem *hm, const HybridmemParameters *p,
                       HmWindow *w)
{
    g_assert_false(watching);
    if (accesses_by_log) {
        g_assert_true(the_sampler->on);
        g_assert_false(the_sampler->read);
    } else {
        g_assert_false(the_sampler->on && p->window < p->interval);
    }
    if (qatomic_read(&pause_in_window) == PAUSE_WANTED) {
        qatomic_set(&pause_in_window, PAUSED);
        qatomic_set(&inhibitors, 1);
    }
    watching = true;
}

void hm_accesses_end(Hybridmem *hm, HmWindow *w, int64_t now_ns)
{
    g_assert_true(watching);
    if (accesses_by_log && !hm->inhibitors) {
        /* Writes are watched for no longer than the window needs. */
        g_assert_cmpint(the_sampler->last, ==, !hm->log_is_on);
        hm->sampler->ops->collect(hm->sampler, hm->dirty);
    }
    watching = false;
}

void hm_accesses_digest(Hybridmem *hm, const HmWindow *w)
{
    g_assert_false(watching || qatomic_read(&inhibitors));
    qatomic_inc(&access_windows);
}

void hm_accesses_filter(Hybridmem *hm, unsigned long *dirty)
{
    g_assert_false(watching);
}

static bool more_used;

unsigned long *hm_accesses_used(const Hybridmem *hm)
{
    static DECLARE_BITMAP(used, BLOCKS);

    if (!qatomic_read(&more_used)) {
        return NULL;
    }
    bitmap_copy(used, hm->dirty, BLOCKS);
    set_bit(USED, used);
    return used;
}

/* --- latencies: a dram that is too busy, until it is not ---------------- */

static bool held;

HmBalanceLimit hm_latencies_limit(const HmLatencies *l)
{
    return (HmBalanceLimit) { .limited = qatomic_read(&held) };
}

bool hm_latencies_window(Hybridmem *hm, const HybridmemParameters *p)
{
    g_assert_true(the_sampler->on);
    g_assert_false(watching || hm->planning);
    return hm->policy->params.limit.limited != qatomic_read(&held);
}

HybridmemBalance *hm_latencies_info(Hybridmem *hm, uint64_t ns[HM_TIER__MAX])
{
    memset(ns, 0, sizeof(*ns) * HM_TIER__MAX);
    return NULL;
}

/* --- set up ------------------------------------------------------------ */

typedef struct Fixture {
    Hybridmem hm;
    FakeSampler sampler;
    char *trace;
} Fixture;

static void start_trace(Fixture *f)
{
    Hybridmem *hm = &f->hm;
    const HmTraceInfo info = {
        .pages = BLOCKS,
        .page_size = 4096,
        .pages_per_block = 1,
        .half_life_ms = 100,
    };
    int fd = g_file_open_tmp("hybridmem-XXXXXX", &f->trace, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    hm->trace = f->trace;
    hm->recorder = hm_recorder_open(f->trace, hm->id, &error_abort);
    hm_recorder_start(hm->recorder, &info, hm->frames);
    hm->recording = hm_recorder_state(hm->recorder);
}

/* It has every window, and is whole. */
static void end_trace(Fixture *f)
{
    Hybridmem *hm = &f->hm;
    g_autofree char *data = NULL;
    g_autofree char *why = NULL;
    uint64_t windows = 0;
    HmTraceReader *r;
    HmTraceKind kind;
    gsize size;

    hm_recorder_close(hm->recorder);
    g_assert_true(g_file_get_contents(f->trace, &data, &size, NULL));
    r = hm_trace_reader_new((uint8_t *)data, size, &why);
    g_assert_cmpstr(why, ==, NULL);
    while ((kind = hm_trace_next(r)) < HM_TRACE_END) {
        if (kind == HM_TRACE_WINDOW) {
            g_assert_cmpint(test_bit(HOT_FIRST, hm_trace_window(r)->w.seen),
                            ==, true);
            windows++;
        }
    }
    g_assert_cmpint(kind, ==, HM_TRACE_END);
    g_assert_cmpuint(windows, ==, hm->recording.windows);
    g_assert_cmpuint(size, ==, hm->recording.bytes);
    hm_trace_reader_free(r);
    unlink(f->trace);
    g_free(f->trace);
}

/* @policy: to start with, or NULL. */
static void set_up(Fixture *f, gconstpointer policy)
{
    static const HmExtent ext[] = {
        { 0, DRAM, HM_TIER_DRAM, true },
        { DRAM, BLOCKS - DRAM, HM_TIER_NVM, true },
    };
    Hybridmem *hm = &f->hm;
    HmPolicyParams pp;

    qatomic_set(&inhibitors, 0);
    events = 0;
    accesses_wanted = accesses_by_log = watching = disabling = false;
    access_windows = 0;
    the_sampler = &f->sampler;
    the_engine = hm;
    hm_policy_params_init(&pp);
    f->sampler.base.ops = &fake_sampler_ops;
    hm->id = g_strdup("hm0");
    hm->params = (HybridmemParameters) {
        .enabled = true,
        .policy = policy ? *(const HybridmemPolicy *)policy :
                  HYBRIDMEM_POLICY_WRITE_HEAT,
        .interval = 20,
        .window = WINDOW_MS,
        .half_life = 100,
    };
    hm->block_size = hm->page_size = 4096;
    hm->pages_per_block = 1;
    hm->pages = BLOCKS;
    hm->frames = hm_frames_new(ext, G_N_ELEMENTS(ext));
    hm->heat = hm_heat_new(hm->pages, 1, hm->params.half_life);
    hm->policy = hm_policy_new(hm_policy_find("none"), hm->frames, hm->heat,
                               NULL, &pp);
    hm->mover = &fake_mover_ops;
    hm->sampler = &f->sampler.base;
    hm->dirty = bitmap_new(hm->pages);
    hm->just_moved = g_array_new(false, false, sizeof(uint32_t));
    hm->demoted = g_hash_table_new(NULL, NULL);
    hm->plan = g_new(HmMove, HM_ENGINE_PLAN_MAX);
    hm->state = HYBRIDMEM_STATE__MAX;
    qemu_mutex_init(&hm->lock);
    qemu_cond_init(&hm->wake);
    QSIMPLEQ_INIT(&hm->requests);
    QSIMPLEQ_INIT(&hm->finished);
    start_trace(f);
    hm_engine_start_thread(hm);
}

static void set_up_held(Fixture *f, gconstpointer policy)
{
    held = true;
    set_up(f, policy);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
    Hybridmem *hm = &f->hm;
    const char *why = NULL;

    hm_engine_stop_thread(hm);
    g_assert_false(f->sampler.on);
    end_trace(f);
    g_assert_true(hm_frames_verify(hm->frames, &why));
    g_free(hm->plan);
    g_hash_table_destroy(hm->demoted);
    g_array_free(hm->just_moved, true);
    g_free(hm->dirty);
    hm_policy_free(hm->policy);
    hm_heat_free(hm->heat);
    hm_frames_free(hm->frames);
    qemu_cond_destroy(&hm->wake);
    qemu_mutex_destroy(&hm->lock);
    g_free(hm->id);
}

static HmStats stats(Hybridmem *hm)
{
    HmStats s;

    qemu_mutex_lock(&hm->lock);
    s = hm->stats;
    qemu_mutex_unlock(&hm->lock);
    return s;
}

static void set_params(Hybridmem *hm, void (*change)(HybridmemParameters *p))
{
    qemu_mutex_lock(&hm->lock);
    change(&hm->params);
    hm->params_changed = true;
    qemu_cond_broadcast(&hm->wake);
    qemu_mutex_unlock(&hm->lock);
}

#define RUN_UNTIL(condition) do {                                       \
    int64_t end_ = g_get_monotonic_time() + PATIENCE_MS * 1000LL;       \
    while (!(condition) && g_get_monotonic_time() < end_) {             \
        main_loop_wait(true);                                           \
        g_usleep(200);                                                  \
    }                                                                   \
    g_assert_true(condition);                                           \
} while (0)

static void count_finished(HmRequest *rq)
{
    (*(unsigned *)rq->opaque)++;
}

/* --- tests ------------------------------------------------------------- */

static void test_promotes(Fixture *f, gconstpointer unused)
{
    RUN_UNTIL(stats(&f->hm).done >= HOT);
    RUN_UNTIL(stats(&f->hm).window_dirty[HM_TIER_DRAM] == HOT);
    g_assert_cmpuint(stats(&f->hm).window_dirty[HM_TIER_NVM], ==, 0);
    g_assert_cmpuint(stats(&f->hm).done, ==, HOT);
    g_assert_cmpuint(events, ==, 1);
    g_assert_cmpint(last_state, ==, HYBRIDMEM_STATE_RUNNING);
}

static void test_inhibited(Fixture *f, gconstpointer unused)
{
    uint64_t windows;

    RUN_UNTIL(stats(&f->hm).windows >= 2);
    qatomic_set(&inhibitors, 1);
    RUN_UNTIL(last_state == HYBRIDMEM_STATE_INHIBITED);
    g_assert_false(f->sampler.on);
    windows = stats(&f->hm).windows;
    RUN_UNTIL(f->hm.state == HYBRIDMEM_STATE_INHIBITED);
    qatomic_set(&inhibitors, 0);
    RUN_UNTIL(stats(&f->hm).windows > windows);
    g_assert_cmpint(last_state, ==, HYBRIDMEM_STATE_RUNNING);
}

/* A policy that keeps to the pace is told of it, at first and later. */
static void test_held(Fixture *f, gconstpointer unused)
{
    RUN_UNTIL(stats(&f->hm).windows >= 15);
    g_assert_cmpuint(stats(&f->hm).planned, ==, 0);
    qatomic_set(&held, false);
    RUN_UNTIL(stats(&f->hm).done >= HOT);
}

static void disable(HybridmemParameters *p)
{
    p->enabled = false;
}

static void test_disabled(Fixture *f, gconstpointer unused)
{
    accesses_wanted = true;
    RUN_UNTIL(stats(&f->hm).windows >= 2);
    releases = 0;
    qatomic_set(&disabling, true);
    set_params(&f->hm, disable);
    RUN_UNTIL(last_state == HYBRIDMEM_STATE_DISABLED);
    RUN_UNTIL(!f->sampler.on && qatomic_read(&releases));
}

/* What sampling takes beyond its windows the guest gets back, undisturbed. */
static void test_slow(Fixture *f, gconstpointer unused)
{
    slow_windows = 0;
    least_rest_us = INT64_MAX;
    qatomic_set(&slow, true);
    RUN_UNTIL(qatomic_read(&slow_windows) >= 10);
    qatomic_set(&slow, false);
    g_assert_cmpint(least_rest_us, >=, 0);
}

static void be_poor(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_SHUFFLE;
    p->max_bandwidth = 100 * 4096;
}

static void test_budget(Fixture *f, gconstpointer unused)
{
    int64_t start = g_get_monotonic_time();
    double seconds;

    set_params(&f->hm, be_poor);
    RUN_UNTIL(stats(&f->hm).skipped[HM_MOVE_BUDGET] > 1000);
    seconds = (g_get_monotonic_time() - start) / 1e6;
    /* Two blocks a move; a burst, and one batch of debt. */
    g_assert_cmpfloat(stats(&f->hm).done, <=, 50 * (seconds + 0.1) + 2 + HOT);
}

static void look_everywhere(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_SHUFFLE;
    p->access_window = 100;
}

static void test_accesses(Fixture *f, gconstpointer unused)
{
    unsigned done = 0;
    HmMove move = { 200, 1 };
    HmRequest swap = {
        .kind = HM_REQUEST_SWAP,
        .moves = &move,
        .n_moves = 1,
        .finished = count_finished,
        .opaque = &done,
    };

    accesses_wanted = true;
    set_params(&f->hm, look_everywhere);
    RUN_UNTIL(qatomic_read(&access_windows) > 5 && stats(&f->hm).done > 100);
    hm_engine_submit(&f->hm, &swap);
    RUN_UNTIL(done == 1 && qatomic_read(&access_windows) > 10);
}

static void log_always(HybridmemParameters *p)
{
    p->window = p->interval;
}

static void look(Fixture *f, void (*change)(HybridmemParameters *p))
{
    unsigned before = qatomic_read(&access_windows);
    uint64_t windows = stats(&f->hm).windows;

    set_params(&f->hm, change);
    RUN_UNTIL(qatomic_read(&access_windows) > before + 5 &&
              stats(&f->hm).windows > windows + 5);
}

/* Windows of accesses that need the log, whether or not it is on anyway. */
static void test_accesses_by_log(Fixture *f, gconstpointer unused)
{
    accesses_wanted = accesses_by_log = true;
    look(f, look_everywhere);
    look(f, log_always);
    for (unsigned i = 0; i < 5; i++) {
        unsigned before = qatomic_read(&access_windows);

        qatomic_set(&inhibitors, 1);
        RUN_UNTIL(f->hm.state == HYBRIDMEM_STATE_INHIBITED);
        g_assert_false(f->sampler.on);
        qatomic_set(&inhibitors, 0);
        RUN_UNTIL(qatomic_read(&access_windows) > before);
    }
}

/* fake_read() fails if the log stays off afterwards. */
static void test_short_pause(Fixture *f, gconstpointer unused)
{
    unsigned before;

    accesses_wanted = true;
    look(f, look_everywhere);
    look(f, log_always);
    qatomic_set(&pause_in_window, PAUSE_WANTED);
    RUN_UNTIL(qatomic_read(&pause_in_window) == PAUSE_OVER);
    before = qatomic_read(&access_windows);
    RUN_UNTIL(qatomic_read(&access_windows) > before + 10);
    qatomic_set(&pause_in_window, PAUSE_NONE);
}

static uint32_t interval_now(Hybridmem *hm)
{
    uint32_t ms;

    qemu_mutex_lock(&hm->lock);
    ms = hm->interval_now;
    qemu_mutex_unlock(&hm->lock);
    return ms;
}

static void settle_a_little(HybridmemParameters *p)
{
    p->settled_interval = 30;
}

static void settle_not(HybridmemParameters *p)
{
    p->settled_interval = 1;
}

static void be_cmq(HybridmemParameters *p)
{
    p->settled_interval = 0;
    p->policy = HYBRIDMEM_POLICY_CMQ;
    p->cmq_lifetime = p->cmq_cork = 100;
}

static void many_windows(Fixture *f)
{
    uint64_t windows = stats(&f->hm).windows;

    RUN_UNTIL(stats(&f->hm).windows > windows + 10 * HM_PACE_CALM);
}

/* The hot set is in dram, and stays hot: there is nothing to do. */
static void test_pace(Fixture *f, gconstpointer unused)
{
    RUN_UNTIL(interval_now(&f->hm) == 80);
    g_assert_cmpuint(stats(&f->hm).done, >=, HOT);
    many_windows(f);
    g_assert_cmpuint(interval_now(&f->hm), ==, 80);
    set_params(&f->hm, settle_a_little);
    RUN_UNTIL(interval_now(&f->hm) == 30);
    set_params(&f->hm, settle_not);
    many_windows(f);
    g_assert_cmpuint(interval_now(&f->hm), ==, 20);
    set_params(&f->hm, be_cmq);
    many_windows(f);
    g_assert_cmpuint(interval_now(&f->hm), ==, 20);
}

/* What may only have been read: the policy sees it, but it is not counted. */
static void test_used(Fixture *f, gconstpointer unused)
{
    HmStats s;

    RUN_UNTIL(stats(&f->hm).done >= HOT);
    qatomic_set(&more_used, true);
    RUN_UNTIL(stats(&f->hm).done > HOT);
    many_windows(f);
    s = stats(&f->hm);
    g_assert_cmpuint(s.window_dirty[HM_TIER_DRAM], ==, HOT);
    g_assert_cmpuint(s.window_dirty[HM_TIER_NVM], ==, 0);
    g_assert_cmpuint(s.done, ==, HOT + 1);
    qatomic_set(&more_used, false);
}

static void spare_nvm(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_SHUFFLE;
    p->max_nvm_writes = 24 * 3600 * 50 * 4096ULL;
}

static void test_wear(Fixture *f, gconstpointer unused)
{
    uint64_t before = stats(&f->hm).nvm_written_bytes;
    int64_t start = g_get_monotonic_time();
    double seconds;

    set_params(&f->hm, spare_nvm);
    RUN_UNTIL(stats(&f->hm).skipped[HM_MOVE_BUDGET] > 1000);
    seconds = (g_get_monotonic_time() - start) / 1e6;
    /* 50 a second, and one batch of debt. */
    g_assert_cmpfloat(stats(&f->hm).nvm_written_bytes - before, <=,
                      4096 * (50 * seconds + 3 + 2 * HOT));
}

/* By command. */
static void swap_two(Hybridmem *hm, uint32_t promote, uint32_t demote)
{
    HmMove mv = { promote, demote };
    unsigned done = 0;
    HmRequest swap = {
        .kind = HM_REQUEST_SWAP,
        .moves = &mv,
        .n_moves = 1,
        .finished = count_finished,
        .opaque = &done,
    };

    hm_engine_submit(hm, &swap);
    RUN_UNTIL(done == 1);
}

static void spare_all_nvm(HybridmemParameters *p)
{
    p->max_nvm_writes = 1;
}

/* The hot set goes to nvm, and must stay: nobody is kept awake by that. */
static void test_wear_rests(Fixture *f, gconstpointer unused)
{
    uint64_t refused;

    RUN_UNTIL(stats(&f->hm).done >= HOT);
    set_params(&f->hm, spare_all_nvm);
    for (unsigned i = 0; i < HOT; i++) {
        swap_two(&f->hm, BLOCKS - HOT + i, HOT_FIRST + i);
    }
    RUN_UNTIL(interval_now(&f->hm) == 80);
    refused = stats(&f->hm).skipped[HM_MOVE_BUDGET];
    many_windows(f);
    g_assert_cmpuint(stats(&f->hm).skipped[HM_MOVE_BUDGET], >, refused);
    g_assert_cmpuint(interval_now(&f->hm), ==, 80);
}

static void shuffle(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_SHUFFLE;
    p->max_bandwidth = 0;
}

static void manual(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_MANUAL;
}

static void test_requests(Fixture *f, gconstpointer unused)
{
    HmMove moves[] = { { 200, 1 }, { 201, 2 }, { 7, 7 }, { 3, 4 } };
    unsigned done = 0, i;

    set_params(&f->hm, shuffle);
    for (i = 0; i < 50; i++) {
        HmRequest swap = {
            .kind = HM_REQUEST_SWAP,
            .moves = moves,
            .n_moves = G_N_ELEMENTS(moves),
            .finished = count_finished,
            .opaque = &done,
        };
        HmRequest heat = {
            .kind = HM_REQUEST_HEAT,
            .buckets = 10,
            .finished = count_finished,
            .opaque = &done,
        };
        HmRequest rebalance = {
            .kind = HM_REQUEST_REBALANCE,
            .finished = count_finished,
            .opaque = &done,
        };
        HybridmemHeatBucketList *b;
        uint64_t dram = 0;

        hm_engine_submit(&f->hm, &swap);
        hm_engine_submit(&f->hm, &heat);
        hm_engine_submit(&f->hm, &rebalance);
        RUN_UNTIL(done == 3 * (i + 1));
        g_assert_cmpuint(swap.results[HM_MOVE_DONE], ==, 3);
        g_assert_cmpuint(swap.results[HM_MOVE_STALE], ==, 1);
        g_assert_nonnull(heat.heat);
        for (b = heat.heat->buckets; b; b = b->next) {
            dram += b->value->dram_blocks;
        }
        g_assert_cmpuint(dram, ==, DRAM);
        qapi_free_HybridmemHeat(heat.heat);
        set_params(&f->hm, i % 2 ? shuffle : manual);
    }
}

static HmRequest late_rebalance;
static unsigned late_finished;

static void change_and_rebalance(Hybridmem *hm)
{
    late_rebalance = (HmRequest) {
        .kind = HM_REQUEST_REBALANCE,
        .finished = count_finished,
        .opaque = &late_finished,
    };
    set_params(hm, shuffle);
    hm_engine_submit(hm, &late_rebalance);
}

static void rest_long(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_MANUAL;
    p->interval = 2 * PATIENCE_MS;
    p->window = 100;
}

/* Parameters that came within the interval are those of the plan. */
static void test_rebalance_anew(Fixture *f, gconstpointer unused)
{
    uint64_t windows;

    late_finished = 0;
    while_reading = NULL;
    RUN_UNTIL(stats(&f->hm).windows >= 2);
    while_reading = change_and_rebalance;
    RUN_UNTIL(late_finished == 1);
    g_assert_cmpuint(late_rebalance.results[HM_MOVE_DONE], >, 0);
    g_assert_cmpuint(late_rebalance.results[HM_MOVE_STALE], ==, 0);

    /* And they end the interval. */
    set_params(&f->hm, rest_long);
    RUN_UNTIL(interval_now(&f->hm) == 2 * PATIENCE_MS);
    while_reading = change_and_rebalance;
    RUN_UNTIL(late_finished == 2);
    windows = stats(&f->hm).windows;
    RUN_UNTIL(stats(&f->hm).windows > windows);
}

static void limit_wear(HybridmemParameters *p)
{
    p->policy = HYBRIDMEM_POLICY_SHUFFLE;
    p->max_nvm_writes = 1000 * 4096;
}

/* What was written before there was a limit is no debt. */
static void test_wear_later(Fixture *f, gconstpointer unused)
{
    uint64_t windows, moves;

    set_params(&f->hm, manual);
    for (unsigned i = 0; i < 2000; i++) {
        swap_two(&f->hm, i % 2 ? 1 : 200, i % 2 ? 200 : 1);
    }
    windows = stats(&f->hm).windows;
    moves = stats(&f->hm).done;
    set_params(&f->hm, limit_wear);
    /* A debt would be paid after half a day. */
    RUN_UNTIL(stats(&f->hm).windows > windows + 5);
    g_assert_cmpuint(stats(&f->hm).done, >, moves);
}

/* The engine ends while requests wait: each is answered. */
static void test_cancel(Fixture *f, gconstpointer unused)
{
    static HmRequest rq[64];
    static unsigned done;
    HmMove mv = { 200, 1 };
    unsigned i;

    done = 0;
    set_params(&f->hm, shuffle);
    RUN_UNTIL(stats(&f->hm).done > 1000);
    for (i = 0; i < G_N_ELEMENTS(rq); i++) {
        rq[i] = (HmRequest) {
            .kind = i % 3 ? HM_REQUEST_SWAP : HM_REQUEST_REBALANCE,
            .moves = &mv,
            .n_moves = 1,
            .finished = count_finished,
            .opaque = &done,
        };
        hm_engine_submit(&f->hm, &rq[i]);
    }
    hm_engine_stop_thread(&f->hm);
    g_assert_cmpuint(done, ==, G_N_ELEMENTS(rq));
    f->hm.quit = false;
    hm_engine_start_thread(&f->hm);
    RUN_UNTIL(stats(&f->hm).done > 2000);
}

int main(int argc, char **argv)
{
    static const HybridmemPolicy benefit = HYBRIDMEM_POLICY_BENEFIT;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    g_test_add("/hybridmem/engine/promotes", Fixture, NULL, set_up,
               test_promotes, tear_down);
    g_test_add("/hybridmem/engine/inhibited", Fixture, NULL, set_up,
               test_inhibited, tear_down);
    g_test_add("/hybridmem/engine/held", Fixture, &benefit, set_up_held,
               test_held, tear_down);
    g_test_add("/hybridmem/engine/disabled", Fixture, NULL, set_up,
               test_disabled, tear_down);
    g_test_add("/hybridmem/engine/slow", Fixture, NULL, set_up, test_slow,
               tear_down);
    g_test_add("/hybridmem/engine/accesses", Fixture, NULL, set_up,
               test_accesses, tear_down);
    g_test_add("/hybridmem/engine/accesses-by-log", Fixture, NULL, set_up,
               test_accesses_by_log, tear_down);
    g_test_add("/hybridmem/engine/short-pause", Fixture, NULL, set_up,
               test_short_pause, tear_down);
    g_test_add("/hybridmem/engine/pace", Fixture, NULL, set_up,
               test_pace, tear_down);
    g_test_add("/hybridmem/engine/used", Fixture, NULL, set_up,
               test_used, tear_down);
    g_test_add("/hybridmem/engine/budget", Fixture, NULL, set_up,
               test_budget, tear_down);
    g_test_add("/hybridmem/engine/wear", Fixture, NULL, set_up,
               test_wear, tear_down);
    g_test_add("/hybridmem/engine/wear-rests", Fixture, NULL, set_up,
               test_wear_rests, tear_down);
    g_test_add("/hybridmem/engine/requests", Fixture, NULL, set_up,
               test_requests, tear_down);
    g_test_add("/hybridmem/engine/rebalance-anew", Fixture, NULL, set_up,
               test_rebalance_anew, tear_down);
    g_test_add("/hybridmem/engine/wear-later", Fixture, NULL, set_up,
               test_wear_later, tear_down);
    g_test_add("/hybridmem/engine/cancel", Fixture, NULL, set_up,
               test_cancel, tear_down);
    return g_test_run();
}
