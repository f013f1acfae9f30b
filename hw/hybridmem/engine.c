/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's thread: windows, plans, batches, budgets.
 *
 *   start of interval    log on ── window ── log read, off
 *   engine's thread                               heat, policy, plan
 *   main loop                                             batch, batch ...
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/bitmap.h"
#include "qemu/main-loop.h"
#include "block/aio-wait.h"
#include "hw/hybridmem/engine.h"
#include "trace.h"

/* Most time for hybridmem-rebalance, if the budget is small. */
#define REBALANCE_NS (1000 * 1000 * 1000LL)
/* How often to look whether an inhibitor has gone. */
#define IDLE_NS (100 * 1000 * 1000LL)
/* Most moves in one hold of the guest. */
#define BATCH_MAX 16384
/* Budgets allow bursts of this part of a second's worth, or an interval's. */
#define BURST 0.1
/* ms in which nothing moves. */
#define ACCESS_WINDOW_MAX 1000
/* How long to wait for the budget at once. */
#define REFILL_NS (10 * 1000 * 1000LL)
/* How long a policy that never rests waits when nothing could be moved. */
#define RETRY_NS (10 * 1000 * 1000LL)
/* Windows between two clean-ups of the table of demotions. */
#define FORGET_WINDOWS 8

static int64_t now_ns(void)
{
    return g_get_monotonic_time() * 1000;
}

/* --- main loop: functions that the thread sends ------------------------ */

static void announce(Hybridmem *hm, uint32_t inhibitors)
{
    HybridmemInhibitorList *list;
    HybridmemState old, state;

    qemu_mutex_lock(&hm->lock);
    state = !hm->params.enabled ? HYBRIDMEM_STATE_DISABLED :
            inhibitors ? HYBRIDMEM_STATE_INHIBITED : HYBRIDMEM_STATE_RUNNING;
    old = hm->state;
    hm->state = state;
    qemu_mutex_unlock(&hm->lock);
    if (old == state) {
        return;
    }
    list = state == HYBRIDMEM_STATE_INHIBITED ?
           hm_engine_inhibitor_list(inhibitors) : NULL;
    trace_hybridmem_state(hm->id, HybridmemState_str(state), inhibitors);
    qapi_event_send_hybridmem_state_change(hm->id, state, list);
    qapi_free_HybridmemInhibitorList(list);
}

static void main_check(Hybridmem *hm)
{
    hm->inhibitors = hm_engine_inhibitors(hm);
    announce(hm, hm->inhibitors);
    if (hm->inhibitors) {
        hm->sampler->ops->stop(hm->sampler);
        hm->log_is_on = false;
    }
}

static void main_sample_start(Hybridmem *hm)
{
    int64_t start = now_ns();

    main_check(hm);
    if (!hm->inhibitors) {
        hm->sampler->ops->start(hm->sampler);
    }
    hm_stats_bql(hm, now_ns() - start, true);
}

static void sample_read(Hybridmem *hm, bool last)
{
    int64_t start = now_ns();

    main_check(hm);
    hm->sample_done = hm->inhibitors ||
                      hm->sampler->ops->read(hm->sampler, last);
    hm_stats_bql(hm, now_ns() - start, true);
}

static void main_sample_read(Hybridmem *hm)
{
    sample_read(hm, false);
}

static void main_sample_last(Hybridmem *hm)
{
    sample_read(hm, true);
}

static void main_sample_stop(Hybridmem *hm)
{
    hm->sampler->ops->stop(hm->sampler);
}

/* The log may have been on for a window of accesses only. */
static void main_accesses_end(Hybridmem *hm)
{
    main_check(hm);
    if (!hm->log_is_on) {
        hm->sampler->ops->stop(hm->sampler);
    }
}

static void call_bh(void *opaque)
{
    Hybridmem *hm = opaque;
    void (*fn)(Hybridmem *hm);

    qemu_mutex_lock(&hm->lock);
    if (hm->call && !hm->serving) {
        fn = hm->call;
        hm->call_running = true;
        qemu_mutex_unlock(&hm->lock);
        fn(hm);
        qemu_mutex_lock(&hm->lock);
        hm->call_running = false;
        hm->call = NULL;
        qemu_cond_broadcast(&hm->wake);
    }
    qemu_mutex_unlock(&hm->lock);
}

static void finish_bh(void *opaque)
{
    Hybridmem *hm = opaque;
    HmRequest *rq;

    qemu_mutex_lock(&hm->lock);
    while ((rq = QSIMPLEQ_FIRST(&hm->finished))) {
        QSIMPLEQ_REMOVE_HEAD(&hm->finished, next);
        qemu_mutex_unlock(&hm->lock);
        rq->finished(rq);
        qemu_mutex_lock(&hm->lock);
    }
    qemu_mutex_unlock(&hm->lock);
}

void hm_engine_submit(Hybridmem *hm, HmRequest *rq)
{
    qemu_mutex_lock(&hm->lock);
    QSIMPLEQ_INSERT_TAIL(&hm->requests, rq, next);
    qemu_cond_broadcast(&hm->wake);
    qemu_mutex_unlock(&hm->lock);
}

/* --- the thread -------------------------------------------------------- */

static HybridmemHeat *heat_summary(Hybridmem *hm, uint32_t max_buckets)
{
    uint32_t blocks = hm_frames_blocks(hm->frames);
    uint64_t per_bucket = DIV_ROUND_UP((uint64_t)blocks, max_buckets);
    HybridmemHeat *heat = g_new0(HybridmemHeat, 1);
    HybridmemHeatBucketList **tail = &heat->buckets;
    uint32_t block = 0;

    heat->id = g_strdup(hm->id);
    heat->bucket_size = per_bucket * hm->block_size;
    while (block < blocks) {
        HybridmemHeatBucket *b = g_new0(HybridmemHeatBucket, 1);
        uint32_t end = block + MIN(per_bucket, blocks - block);

        b->offset = block * hm->block_size;
        for (; block < end; block++) {
            b->temperature += hm_heat_temperature(hm->heat, block);
            b->dram_blocks += HM_TIER_DRAM ==
                hm_engine_tier_of_page(hm, (uint64_t)block *
                                       hm->pages_per_block);
        }
        QAPI_LIST_APPEND(tail, b);
    }
    return heat;
}

/* Lock held; it is dropped meanwhile.  Needs nothing from the main loop. */
static bool serve_heat(Hybridmem *hm)
{
    HmRequest *rq;

    QSIMPLEQ_FOREACH(rq, &hm->requests, next) {
        if (rq->kind == HM_REQUEST_HEAT) {
            break;
        }
    }
    if (!rq || hm->call_running) {
        return false;
    }
    QSIMPLEQ_REMOVE(&hm->requests, rq, HmRequest, next);
    hm->serving = true;
    qemu_mutex_unlock(&hm->lock);
    rq->heat = heat_summary(hm, rq->buckets);
    qemu_mutex_lock(&hm->lock);
    hm->serving = false;
    QSIMPLEQ_INSERT_TAIL(&hm->finished, rq, next);
    qemu_bh_schedule(hm->finish_bh);
    qemu_bh_schedule(hm->call_bh);      /* may have waited for us */
    return true;
}

/*
 * Runs @fn in the main loop, at its top level (never nested in a handler
 * that waits for something), and waits for it.  False if the engine is to
 * end: @fn has not run, and will not.
 */
static bool call_main(Hybridmem *hm, void (*fn)(Hybridmem *hm))
{
    bool done;

    qemu_mutex_lock(&hm->lock);
    hm->call = fn;
    qemu_bh_schedule(hm->call_bh);
    aio_wait_kick();            /* monitor_cleanup() waits for commands */
    while (hm->call && !hm->quit) {
        if (!serve_heat(hm)) {
            qemu_cond_wait(&hm->wake, &hm->lock);
        }
    }
    done = !hm->call;
    hm->call = NULL;
    qemu_mutex_unlock(&hm->lock);
    return done;
}

static HybridmemParameters parameters(Hybridmem *hm)
{
    HybridmemParameters p;

    qemu_mutex_lock(&hm->lock);
    p = hm->params;
    qemu_mutex_unlock(&hm->lock);
    return p;
}

static bool quitting(Hybridmem *hm)
{
    bool quit;

    qemu_mutex_lock(&hm->lock);
    quit = hm->quit;
    qemu_mutex_unlock(&hm->lock);
    return quit;
}

static void tell_policy(Hybridmem *hm, const HmMove *mv, HmMoveResult r)
{
    hm_policy_moved(hm->policy, mv, r);
}

static void skip_rest(Hybridmem *hm, const HmMove *moves, size_t n,
                      HmCause cause, HmMoveResult why,
                      uint64_t results[HM_MOVE__MAX])
{
    size_t i;

    for (i = 0; cause == HM_CAUSE_POLICY && i < n; i++) {
        tell_policy(hm, &moves[i], why);
    }
    results[why] += n;
    qemu_mutex_lock(&hm->lock);
    hm->stats.skipped[why] += n;
    qemu_mutex_unlock(&hm->lock);
}

/* Bursts of an interval's worth, so that what a plan needs comes at once. */
static HmBudgetLimits limits(const HybridmemParameters *p)
{
    return (HmBudgetLimits) {
        .bandwidth = p->max_bandwidth,
        .stall = p->max_stall * 1000ULL,
        .nvm_writes = p->max_nvm_writes,
        .burst = MAX(BURST, MIN(p->interval / 1e3, 1)),
    };
}

/*
 * Commands have no budget, and what brings RAM to where it must be has none of
 * wear, but what they write is taken from it.
 */
static void spend_wear(Hybridmem *hm, const HmBudgetLimits *l)
{
    uint64_t written;

    qemu_mutex_lock(&hm->lock);
    written = hm->stats.nvm_written_bytes;
    qemu_mutex_unlock(&hm->lock);
    hm_budget_wear(&hm->budget, l, written - hm->wear_spent);
    hm->wear_spent = written;
}

static void refill(Hybridmem *hm, const HmBudgetLimits *l)
{
    int64_t now = now_ns();

    spend_wear(hm, l);
    hm_budget_refill(&hm->budget, l, (now - hm->budget_at_ns) / 1e9);
    hm->budget_at_ns = now;
}

static bool params_have_changed(Hybridmem *hm)
{
    bool changed;

    qemu_mutex_lock(&hm->lock);
    changed = hm->params_changed;
    qemu_mutex_unlock(&hm->lock);
    return changed;
}

static bool wait_until(Hybridmem *hm, int64_t until_ns);

/* False if the engine is to end. */
static bool run_batch(Hybridmem *hm, HmBatch *b)
{
    hm->batch = b;
    if (hm->mover->holds_guest) {
        return call_main(hm, hm->mover->carry_out);
    }
    if (!call_main(hm, main_check)) {
        return false;
    }
    if (hm->inhibitors) {
        b->inhibited = true;
    } else {
        hm->mover->carry_out(hm);
    }
    return true;
}

/* Waits for the budget, if it is used up.  False if it does not come. */
static bool afford(Hybridmem *hm, const HmBudgetLimits *l, HmCause cause,
                   int64_t until_ns)
{
    refill(hm, l);
    if (cause == HM_CAUSE_POLICY && hm_budget_worn(&hm->budget, l)) {
        return false;           /* it comes by the day */
    }
    while (!hm_budget_affordable(&hm->budget, l)) {
        if (now_ns() >= until_ns ||
            !wait_until(hm, MIN(until_ns, now_ns() + REFILL_NS)) ||
            params_have_changed(hm)) {
            return false;
        }
        refill(hm, l);
    }
    return true;
}

static void write_trace(Hybridmem *hm)
{
    HmRecording state;

    if (!hm->recorder) {
        return;
    }
    hm_recorder_flush(hm->recorder);
    state = hm_recorder_state(hm->recorder);
    qemu_mutex_lock(&hm->lock);
    hm->recording = state;
    qemu_mutex_unlock(&hm->lock);
}

/*
 * Carries out @moves, as far as the budget allows before @until_ns; a
 * command has none.  Adds up what became of them in @results.  A command
 * without moves holds the guest once, so that it can be measured.
 */
static void carry_out(Hybridmem *hm, const HmMove *moves, size_t n,
                      HmCause cause, int64_t until_ns,
                      uint64_t results[HM_MOVE__MAX])
{
    size_t i = 0, k;
    bool budget = cause != HM_CAUSE_COMMAND;
    bool hold_once = !budget && !n;

    qemu_mutex_lock(&hm->lock);
    hm->stats.planned += cause == HM_CAUSE_SETTLE ? 0 : n;
    qemu_mutex_unlock(&hm->lock);
    while (i < n || hold_once) {
        HybridmemParameters p = parameters(hm);
        HmBudgetLimits l = limits(&p);
        g_autofree HmMoveResult *each = NULL;
        HmBatch b = { .moves = moves + i, .cause = cause };

        if (budget && params_have_changed(hm)) {
            skip_rest(hm, moves + i, n - i, cause, HM_MOVE_STALE, results);
            return;
        }
        /* What must move has its turn, however late it is. */
        if ((cause == HM_CAUSE_SETTLE && i && now_ns() >= until_ns) ||
            (budget && !afford(hm, &l, cause, until_ns))) {
            skip_rest(hm, moves + i, n - i, cause, HM_MOVE_BUDGET, results);
            return;
        }
        b.n = MIN(n - i, BATCH_MAX);
        if (budget) {
            b.n = hm_budget_moves(&hm->budget, &l, hm->block_size,
                                  cause == HM_CAUSE_POLICY, b.n);
        }
        b.limit_ns = p.max_stop * 1000ULL;
        b.each = each = g_new(HmMoveResult, b.n);
        hold_once = false;
        if (!run_batch(hm, &b) || b.inhibited) {
            skip_rest(hm, moves + i, n - i, cause, HM_MOVE_STALE, results);
            return;
        }
        if (budget) {
            hm_budget_spend(&hm->budget, &l, b.copied_bytes, b.stall_ns);
        }
        for (k = 0; k < b.taken; k++) {
            if (cause == HM_CAUSE_POLICY) {
                tell_policy(hm, &moves[i + k], b.each[k]);
            }
            results[b.each[k]]++;
        }
        write_trace(hm);
        i += b.taken;
    }
}

static size_t make_plan(Hybridmem *hm)
{
    int64_t start = now_ns();
    size_t n = hm_policy_plan(hm->policy, hm->plan, HM_ENGINE_PLAN_MAX);

    trace_hybridmem_plan(hm->id, hm->policy->ops->name, n);
    qemu_mutex_lock(&hm->lock);
    hm->stats.plan_ns += now_ns() - start;
    qemu_mutex_unlock(&hm->lock);
    return n;
}

/* Returns the moves that were wanted. */
static size_t plan_and_carry_out(Hybridmem *hm, int64_t until_ns,
                                 uint64_t results[HM_MOVE__MAX])
{
    size_t n = make_plan(hm);

    hm->planning = true;
    carry_out(hm, hm->plan, n, HM_CAUSE_POLICY, until_ns, results);
    hm->planning = false;
    return n;
}

/* Returns the moves that were wanted. */
static size_t settle(Hybridmem *hm, int64_t until_ns)
{
    uint64_t results[HM_MOVE__MAX] = { };
    size_t n;

    if (!hm->mover->settle) {
        return 0;
    }
    hm->planning = true;
    n = hm->mover->settle(hm, hm->plan, HM_ENGINE_PLAN_MAX);
    carry_out(hm, hm->plan, n, HM_CAUSE_SETTLE, until_ns, results);
    hm->planning = false;
    return n;
}

static HmPolicyParams policy_params(Hybridmem *hm,
                                    const HybridmemParameters *p)
{
    HmPolicyParams pp = hm_params_for_policy(p, hm->map_limit);

    pp.limit = hm_latencies_limit(hm->latencies);
    return pp;
}

static HmPolicy *new_policy(Hybridmem *hm, const HybridmemParameters *p)
{
    HmPolicyParams pp = policy_params(hm, p);

    return hm_policy_new(hm_policy_find(HybridmemPolicy_str(p->policy)),
                         hm->frames, hm->heat,
                         hm_accesses_rates(hm->accesses), &pp);
}

/* Heat stays; what the policy has learnt is lost, for it counts by frame. */
static void change_quota(Hybridmem *hm, uint64_t fast_size)
{
    HybridmemParameters p = parameters(hm);

    hm_pace_reset(&hm->pace);
    hm_policy_free(hm->policy);
    hm->mover->set_quota(hm, fast_size);
    hm_recorder_frames(hm->recorder, hm->frames);
    hm->policy = new_policy(hm, &p);
}

/* A request that needs the main loop; heat is served on the way. */
static void serve(Hybridmem *hm, HmRequest *rq)
{
    switch (rq->kind) {
    case HM_REQUEST_SWAP:
        carry_out(hm, rq->moves, rq->n_moves, HM_CAUSE_COMMAND, 0,
                  rq->results);
        break;
    case HM_REQUEST_REBALANCE:
        plan_and_carry_out(hm, now_ns() + REBALANCE_NS, rq->results);
        break;
    case HM_REQUEST_QUOTA:
        change_quota(hm, rq->fast_size);
        break;
    default:
        g_assert_not_reached();
    }
}

/*
 * Lock held.  There is one plan at a time: a rebalance waits its turn, and
 * so does what makes a plan void.
 */
static HmRequest *next_request(Hybridmem *hm)
{
    HmRequest *rq;

    QSIMPLEQ_FOREACH(rq, &hm->requests, next) {
        if (rq->kind == HM_REQUEST_SWAP || !hm->planning) {
            break;
        }
    }
    return rq;
}

/*
 * Waits and serves requests.  Returns early when parameters have changed,
 * but not from within a plan.  False if the engine is to end.
 */
static bool wait_until(Hybridmem *hm, int64_t until_ns)
{
    bool go_on;

    qemu_mutex_lock(&hm->lock);
    while (!hm->quit) {
        HmRequest *rq = next_request(hm);
        int64_t left = until_ns - now_ns();

        if (serve_heat(hm)) {
            continue;
        }
        if (rq) {
            QSIMPLEQ_REMOVE(&hm->requests, rq, HmRequest, next);
            qemu_mutex_unlock(&hm->lock);
            serve(hm, rq);
            qemu_mutex_lock(&hm->lock);
            QSIMPLEQ_INSERT_TAIL(&hm->finished, rq, next);
            qemu_bh_schedule(hm->finish_bh);
            continue;
        }
        if (left <= 0 || (hm->params_changed && !hm->planning)) {
            break;
        }
        qemu_cond_timedwait(&hm->wake, &hm->lock,
                            DIV_ROUND_UP(left, 1000000));
    }
    go_on = !hm->quit;
    qemu_mutex_unlock(&hm->lock);
    return go_on;
}

/* Until then, serves requests, and plans if the policy never rests. */
static void spend_until(Hybridmem *hm, int64_t until_ns)
{
    uint64_t results[HM_MOVE__MAX] = { };

    while (hm->policy->ops->continuous && !params_have_changed(hm) &&
           now_ns() < until_ns && wait_until(hm, 0)) {
        uint64_t done = results[HM_MOVE_DONE];

        plan_and_carry_out(hm, until_ns, results);
        if (results[HM_MOVE_DONE] == done) {
            wait_until(hm, MIN(until_ns, now_ns() + RETRY_NS));
        }
    }
    wait_until(hm, until_ns);
}

/* What moved looks written at its first access: says nothing. */
static void drop_echo(Hybridmem *hm)
{
    guint i;

    for (i = 0; i < hm->just_moved->len; i++) {
        uint64_t block = g_array_index(hm->just_moved, uint32_t, i);

        uint64_t first = block * hm->pages_per_block;

        /* The last block may be short. */
        bitmap_clear(hm->dirty, first,
                     MIN(hm->pages_per_block, hm->pages - first));
    }
    g_array_set_size(hm->just_moved, 0);
}

static gboolean is_long_ago(gpointer key, gpointer window, gpointer opaque)
{
    Hybridmem *hm = opaque;

    return hm->stats.windows - GPOINTER_TO_SIZE(window) > FORGET_WINDOWS;
}

static void digest(Hybridmem *hm)
{
    int64_t now = now_ns();
    uint64_t elapsed_ms = (now - hm->observed_at_ns) / 1000000;
    uint64_t logged_ms = (now - hm->logged_at_ns) / 1000000;
    HmWindow window = {
        .sense = HM_SENSE_WRITES,
        .seen = hm->dirty,
        .elapsed_ms = elapsed_ms,
    };

    hm->observed_at_ns += elapsed_ms * 1000000;
    hm->logged_at_ns = hm->observed_at_ns;  /* if it stays on */
    bitmap_zero(hm->dirty, hm->pages);
    hm->sampler->ops->collect(hm->sampler, hm->dirty);
    hm_accesses_filter(hm, hm->dirty);
    drop_echo(hm);
    if (hm->mover->window) {
        hm->mover->window(hm, elapsed_ms);
    }
    hm_stats_window(hm, elapsed_ms, logged_ms);
    hm_heat_window(hm->heat, hm->dirty, elapsed_ms);
    hm_policy_observe(hm->policy, &window);
    hm_pace_seen(&hm->pace, HM_SENSE_WRITES,
                 hm->stats.window_dirty[HM_TIER_NVM]);
    hm_recorder_window(hm->recorder, &window,
                       hm->stats.window_dirty[HM_TIER_NVM]);
    if (hm->stats.windows % FORGET_WINDOWS == 0) {
        g_hash_table_foreach_remove(hm->demoted, is_long_ago, hm);
    }
    trace_hybridmem_window(hm->id, hm->stats.windows,
                           hm->stats.window_dirty[HM_TIER_DRAM],
                           hm->stats.window_dirty[HM_TIER_NVM]);
    qemu_mutex_lock(&hm->lock);
    hm->stats.plan_ns += now_ns() - now;
    hm->core_bytes = hm_engine_core_bytes(hm);
    qemu_mutex_unlock(&hm->lock);
}

/* False if the engine is to end. */
static bool fetch_log(Hybridmem *hm, bool last)
{
    do {
        if (!call_main(hm, last ? main_sample_last : main_sample_read)) {
            return false;
        }
    } while (!hm->sample_done);
    return true;
}

/* False if nothing was learnt, because the guest stood still or moved. */
static bool read_sample(Hybridmem *hm, bool last)
{
    if (!fetch_log(hm, last)) {
        return false;
    }
    if (hm->inhibitors) {
        qemu_mutex_lock(&hm->lock);
        hm->stats.windows_lost++;
        qemu_mutex_unlock(&hm->lock);
        return false;
    }
    digest(hm);
    return !last || call_main(hm, main_sample_stop);
}

/* Serves nobody who needs placement.  False if somebody does. */
static bool wait_alone(Hybridmem *hm, int64_t until_ns)
{
    bool whole;
    int64_t left;

    qemu_mutex_lock(&hm->lock);
    while ((left = until_ns - now_ns()) > 0) {
        if (serve_heat(hm)) {
            continue;
        }
        if (hm->quit || hm->params_changed || next_request(hm)) {
            break;
        }
        qemu_cond_timedwait(&hm->wake, &hm->lock,
                            DIV_ROUND_UP(left, 1000000));
    }
    whole = left <= 0;
    qemu_mutex_unlock(&hm->lock);
    return whole;
}

/* Most of what the other window leaves is for moves. */
static int64_t access_window_ns(const HybridmemParameters *p)
{
    uint32_t ms = MIN(p->access_window, ACCESS_WINDOW_MAX);

    if (p->window < p->interval) {
        ms = MIN(ms, MAX((p->interval - p->window) / 4, 1));
    }
    return ms * 1000000LL;
}

/* For a window of accesses, if it needs the log.  False: no window now. */
static bool begin_log(Hybridmem *hm)
{
    return !hm_accesses_by_log(hm->accesses) || hm->log_is_on ||
           (call_main(hm, main_sample_start) && !hm->inhibitors);
}

static bool end_log(Hybridmem *hm)
{
    if (!hm_accesses_by_log(hm->accesses)) {
        return true;
    }
    if (hm->log_is_on) {
        hm->logged_at_ns = now_ns();    /* for the window of writes */
    }
    return fetch_log(hm, !hm->log_is_on);
}

/* False if the engine is to end. */
static bool watch_accesses(Hybridmem *hm, const HybridmemParameters *p)
{
    HmWindow w;
    bool whole;

    if (!hm_accesses_wanted(hm)) {
        return true;
    }
    if (!begin_log(hm)) {
        return !quitting(hm);
    }
    hm_accesses_begin(hm, p, &w);
    whole = wait_alone(hm, now_ns() + access_window_ns(p));
    if (!end_log(hm)) {
        return false;
    }
    hm_accesses_end(hm, &w, now_ns());
    if (!call_main(hm, main_accesses_end)) {
        return false;
    }
    if (whole && !hm->inhibitors) {
        hm_accesses_digest(hm, &w);
    }
    return true;
}

/* ms from this window to the next. */
static uint32_t pace(Hybridmem *hm, const HybridmemParameters *p)
{
    uint32_t ms = p->interval;

    if (hm->policy->ops->settles && p->window < p->interval) {
        ms = hm_pace_interval(&hm->pace, p->interval,
                              p->settled_interval ?: 4 * p->interval);
    }
    qemu_mutex_lock(&hm->lock);
    hm->interval_now = ms;
    qemu_mutex_unlock(&hm->lock);
    return ms;
}

/* While the guest runs, undisturbed but for the log. */
static void balance(Hybridmem *hm, const HybridmemParameters *p)
{
    if (hm_latencies_window(hm, p)) {
        HmPolicyParams pp = policy_params(hm, p);

        hm_policy_set_params(hm->policy, &pp);
    }
}

static void one_interval(Hybridmem *hm)
{
    HybridmemParameters p = parameters(hm);
    bool whole = p.window >= p.interval;
    int64_t start = now_ns();
    int64_t end = start + pace(hm, &p) * 1000000LL;
    uint64_t results[HM_MOVE__MAX] = { };
    uint64_t wanted;

    if (!(hm->log_is_on && whole)) {
        if (!call_main(hm, main_sample_start) || hm->inhibitors) {
            hm->log_is_on = false;
            return;
        }
        hm->logged_at_ns = now_ns();
    }
    hm->log_is_on = true;
    spend_until(hm, start + MIN(p.window, p.interval) * 1000000LL);
    balance(hm, &p);
    if (!read_sample(hm, !whole)) {
        hm->log_is_on = false;
        return;
    }
    write_trace(hm);
    hm->log_is_on = whole;
    if (!watch_accesses(hm, &p)) {
        return;
    }
    if (whole) {
        end = now_ns() + p.interval * 1000000LL;
    }
    wanted = settle(hm, end);
    wanted += plan_and_carry_out(hm, end, results);
    if (hm->policy->params.limit.limited) {
        hm_pace_reset(&hm->pace);       /* the balance goes by windows */
    }
    hm_pace_window(&hm->pace, wanted,
                   hm_frames_tier_blocks(hm->frames, HM_TIER_DRAM));
    if (!whole) {
        spend_until(hm, end);
    }
}

static void apply_params(Hybridmem *hm)
{
    HybridmemParameters p;
    HmPolicyParams pp;

    qemu_mutex_lock(&hm->lock);
    p = hm->params;
    if (hm->params_changed) {
        hm_pace_reset(&hm->pace);
    }
    hm->params_changed = false;
    qemu_mutex_unlock(&hm->lock);

    pp = policy_params(hm, &p);
    hm_heat_set_half_life(hm->heat, p.half_life);
    if (hm->policy->ops != hm_policy_find(HybridmemPolicy_str(p.policy))) {
        hm_policy_free(hm->policy);
        hm->policy = new_policy(hm, &p);
    } else {
        hm_policy_set_params(hm->policy, &pp);
    }
}

static void *engine_thread(void *opaque)
{
    Hybridmem *hm = opaque;

    hm->budget_at_ns = hm->observed_at_ns = now_ns();
    write_trace(hm);
    while (!quitting(hm)) {
        apply_params(hm);
        if (!call_main(hm, main_check)) {
            break;
        }
        if (hm->inhibitors || !parameters(hm).enabled) {
            if (hm->log_is_on) {
                call_main(hm, main_sample_stop);
                hm->log_is_on = false;
            }
            if (hm->mover->rest) {
                hm->mover->rest(hm);
            }
            wait_until(hm, now_ns() + IDLE_NS);
            hm->observed_at_ns = now_ns();      /* heat keeps meanwhile */
        } else {
            one_interval(hm);
        }
    }
    return NULL;
}

void hm_engine_start_thread(Hybridmem *hm)
{
    /*
     * The handler context is polled at the top level of the main loop only;
     * the main context also from within others' waits, as HMP needs it.
     */
    hm->call_bh = aio_bh_new(iohandler_get_aio_context(), call_bh, hm);
    hm->finish_bh = aio_bh_new(qemu_get_aio_context(), finish_bh, hm);
    if (hm->thread_context) {
        thread_context_create_thread(hm->thread_context, &hm->thread,
                                     "hybridmem", engine_thread, hm,
                                     QEMU_THREAD_JOINABLE);
    } else {
        qemu_thread_create(&hm->thread, "hybridmem", engine_thread, hm,
                           QEMU_THREAD_JOINABLE);
    }
}

void hm_engine_stop_thread(Hybridmem *hm)
{
    HmRequest *rq;

    qemu_mutex_lock(&hm->lock);
    hm->quit = true;
    qemu_cond_broadcast(&hm->wake);
    qemu_mutex_unlock(&hm->lock);
    qemu_thread_join(&hm->thread);
    while ((rq = QSIMPLEQ_FIRST(&hm->requests))) {
        QSIMPLEQ_REMOVE_HEAD(&hm->requests, next);
        rq->cancelled = true;
        QSIMPLEQ_INSERT_TAIL(&hm->finished, rq, next);
    }
    finish_bh(hm);
    qemu_bh_delete(hm->call_bh);
    qemu_bh_delete(hm->finish_bh);
    hm->sampler->ops->stop(hm->sampler);
}
