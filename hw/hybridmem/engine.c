/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's thread: its windows, and its life.
 *
 *   start of interval    log on ── window ── log read, off
 *   engine's thread                               heat, policy, plan
 *   main loop                                             batch, batch ...
 */
#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "engine-internal.h"
#include "trace.h"

/* Most time for hybridmem-rebalance, if the budget is small. */
#define REBALANCE_NS (1000 * 1000 * 1000LL)
/* How often to look whether an inhibitor has gone. */
#define IDLE_NS (100 * 1000 * 1000LL)
/* ms in which nothing moves. */
#define ACCESS_WINDOW_MAX 1000
/* How long a policy that never rests waits when nothing could be moved. */
#define RETRY_NS (10 * 1000 * 1000LL)
/* Windows between two clean-ups of the table of demotions. */
#define FORGET_WINDOWS 8

/* --- main loop: functions that the thread sends ------------------------ */

static void main_sample_start(Hybridmem *hm)
{
    int64_t start = hm_now_ns();

    hm_main_check(hm);
    if (!hm->inhibitors) {
        hm->sampler->ops->start(hm->sampler);
    }
    hm_stats_bql(hm, hm_now_ns() - start, true);
}

static void sample_read(Hybridmem *hm, bool last)
{
    int64_t start = hm_now_ns();

    hm_main_check(hm);
    hm->sample_done = hm->inhibitors ||
                      hm->sampler->ops->read(hm->sampler, last);
    hm_stats_bql(hm, hm_now_ns() - start, true);
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
    hm_main_check(hm);
    if (!hm->log_is_on) {
        hm->sampler->ops->stop(hm->sampler);
    }
}

/* --- the thread -------------------------------------------------------- */

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

/* True if there are other parameters than the last time. */
static bool apply_params(Hybridmem *hm)
{
    HybridmemParameters p;
    HmPolicyParams pp;
    bool changed;

    qemu_mutex_lock(&hm->lock);
    p = hm->params;
    changed = hm->params_changed;
    hm->params_changed = false;
    qemu_mutex_unlock(&hm->lock);

    if (changed) {
        hm_pace_reset(&hm->pace);
    }
    pp = policy_params(hm, &p);
    hm_heat_set_half_life(hm->heat, p.half_life);
    if (hm->policy->ops != hm_policy_find(HybridmemPolicy_str(p.policy))) {
        hm_policy_free(hm->policy);
        hm->policy = new_policy(hm, &p);
    } else {
        hm_policy_set_params(hm->policy, &pp);
    }
    return changed;
}

/* The plan follows the newest parameters; the interval is still the old one. */
static void rebalance(Hybridmem *hm, uint64_t results[HM_MOVE__MAX])
{
    bool changed = apply_params(hm);

    hm_plan_and_carry_out(hm, hm_now_ns() + REBALANCE_NS, results);
    if (changed) {
        qemu_mutex_lock(&hm->lock);
        hm->params_changed = true;
        qemu_mutex_unlock(&hm->lock);
    }
}

/* Heat stays; what the policy has learnt is lost, for it counts by frame. */
static void change_quota(Hybridmem *hm, uint64_t fast_size)
{
    HybridmemParameters p = hm_parameters(hm);

    hm_pace_reset(&hm->pace);
    hm_policy_free(hm->policy);
    hm->mover->set_quota(hm, fast_size);
    hm_recorder_frames(hm->recorder, hm->frames);
    hm->policy = new_policy(hm, &p);
}

void hm_serve(Hybridmem *hm, HmRequest *rq)
{
    switch (rq->kind) {
    case HM_REQUEST_SWAP:
        hm_carry_out(hm, rq->moves, rq->n_moves, HM_CAUSE_COMMAND, 0,
                     rq->results);
        break;
    case HM_REQUEST_REBALANCE:
        rebalance(hm, rq->results);
        break;
    case HM_REQUEST_QUOTA:
        change_quota(hm, rq->fast_size);
        break;
    default:
        g_assert_not_reached();
    }
}

/* Until then, serves requests, and plans if the policy never rests. */
static void spend_until(Hybridmem *hm, int64_t until_ns)
{
    uint64_t results[HM_MOVE__MAX] = { };

    while (hm->policy->ops->continuous && !hm_params_have_changed(hm) &&
           hm_now_ns() < until_ns && hm_wait_until(hm, 0)) {
        uint64_t done = results[HM_MOVE_DONE];

        hm_plan_and_carry_out(hm, until_ns, results);
        if (results[HM_MOVE_DONE] == done) {
            hm_wait_until(hm, MIN(until_ns, hm_now_ns() + RETRY_NS));
        }
    }
    hm_wait_until(hm, until_ns);
}

/* What moved looks written at its first access: says nothing. */
static void drop_echo(const Hybridmem *hm, unsigned long *seen)
{
    guint i;

    for (i = 0; i < hm->just_moved->len; i++) {
        uint64_t block = g_array_index(hm->just_moved, uint32_t, i);

        uint64_t first = block * hm->pages_per_block;

        /* The last block may be short. */
        bitmap_clear(seen, first,
                     MIN(hm->pages_per_block, hm->pages - first));
    }
}

/* hm->dirty is what was written; returns what the policy is to see. */
static const unsigned long *collect(Hybridmem *hm)
{
    unsigned long *used;

    bitmap_zero(hm->dirty, hm->pages);
    hm->sampler->ops->collect(hm->sampler, hm->dirty);
    hm_accesses_filter(hm, hm->dirty);
    used = hm_accesses_used(hm) ?: hm->dirty;
    drop_echo(hm, hm->dirty);
    drop_echo(hm, used);
    g_array_set_size(hm->just_moved, 0);
    return used;
}

static gboolean is_long_ago(gpointer key, gpointer window, gpointer opaque)
{
    Hybridmem *hm = opaque;

    return hm->stats.windows - GPOINTER_TO_SIZE(window) > FORGET_WINDOWS;
}

static void digest(Hybridmem *hm)
{
    int64_t now = hm_now_ns();
    uint64_t elapsed_ms = (now - hm->observed_at_ns) / 1000000;
    uint64_t logged_us = (now - hm->logged_at_ns) / 1000;
    HmWindow written = {
        .sense = HM_SENSE_WRITES,
        .seen = hm->dirty,
        .elapsed_ms = elapsed_ms,
    }, used = written;

    hm->observed_at_ns += elapsed_ms * 1000000;
    hm->logged_at_ns = hm->observed_at_ns;  /* if it stays on */
    used.seen = collect(hm);
    if (hm->mover->window) {
        hm->mover->window(hm, elapsed_ms);
    }
    hm_stats_window(hm, elapsed_ms, logged_us);
    hm_heat_window(hm->heat, used.seen, elapsed_ms);
    hm_policy_observe(hm->policy, &used);
    hm_pace_writes(&hm->pace, hm->stats.window_dirty[HM_TIER_NVM]);
    hm_recorder_window(hm->recorder, &written,
                       hm->stats.window_dirty[HM_TIER_NVM]);
    if (hm->stats.windows % FORGET_WINDOWS == 0) {
        g_hash_table_foreach_remove(hm->demoted, is_long_ago, hm);
    }
    trace_hybridmem_window(hm->id, hm->stats.windows,
                           hm->stats.window_dirty[HM_TIER_DRAM],
                           hm->stats.window_dirty[HM_TIER_NVM]);
    qemu_mutex_lock(&hm->lock);
    hm->stats.plan_ns += hm_now_ns() - now;
    hm->core_bytes = hm_engine_core_bytes(hm);
    qemu_mutex_unlock(&hm->lock);
}

/* False if the engine is to end. */
static bool fetch_log(Hybridmem *hm, bool last)
{
    do {
        if (!hm_call_main(hm, last ? main_sample_last : main_sample_read)) {
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
    return !last || hm_call_main(hm, main_sample_stop);
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
           (hm_call_main(hm, main_sample_start) && !hm->inhibitors);
}

static bool end_log(Hybridmem *hm)
{
    if (!hm_accesses_by_log(hm->accesses)) {
        return true;
    }
    if (hm->log_is_on) {
        hm->logged_at_ns = hm_now_ns();    /* for the window of writes */
    }
    return fetch_log(hm, !hm->log_is_on);
}

/* False if the engine is to end. */
static bool watch_accesses(Hybridmem *hm, const HybridmemParameters *p)
{
    HmWindow w;
    bool whole;

    if (!hm_accesses_wanted(hm)) {
        hm_accesses_release(hm->accesses);
        return true;
    }
    if (!begin_log(hm)) {
        return !hm_quitting(hm);
    }
    hm_accesses_begin(hm, p, &w);
    whole = hm_wait_alone(hm, hm_now_ns() + access_window_ns(p));
    if (!end_log(hm)) {
        return false;
    }
    hm_accesses_end(hm, &w, hm_now_ns());
    if (!hm_call_main(hm, main_accesses_end)) {
        return false;
    }
    if (whole && !hm->inhibitors) {
        hm_accesses_digest(hm, &w);
    }
    return true;
}

/* For which writes are logged in this interval. */
static uint32_t window_ms(const Hybridmem *hm, const HybridmemParameters *p)
{
    return p->window >= p->interval ? p->interval :
           hm_pace_length(&hm->pace, p->window);
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
    hm->window_now = window_ms(hm, p);
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

/*
 * On a host that is too slow for the interval: what sampling has taken beyond
 * its windows the guest gets as well, undisturbed, before it begins again.
 */
static int64_t rest_until(const Hybridmem *hm, const HybridmemParameters *p,
                          int64_t start_ns)
{
    int64_t now = hm_now_ns();
    int64_t windows = window_ms(hm, p) * 1000000LL;

    if (hm_accesses_wanted(hm)) {
        windows += access_window_ns(p);
    }
    return now + MAX(now - start_ns - windows, 0);
}

/* Of this window, for the next one. */
static void judge_length(Hybridmem *hm, const HybridmemParameters *p)
{
    uint64_t dram = hm_frames_tier_blocks(hm->frames, HM_TIER_DRAM);

    hm_pace_written(&hm->pace, p->window,
                    hm->stats.window_dirty[HM_TIER_DRAM] +
                    hm->stats.window_dirty[HM_TIER_NVM],
                    dram * hm->pages_per_block);
}

static void one_interval(Hybridmem *hm)
{
    HybridmemParameters p = hm_parameters(hm);
    bool whole = p.window >= p.interval;
    int64_t start = hm_now_ns();
    int64_t end = start + pace(hm, &p) * 1000000LL;
    uint64_t results[HM_MOVE__MAX] = { };
    uint64_t wanted;

    if (!(hm->log_is_on && whole)) {
        if (!hm_call_main(hm, main_sample_start) || hm->inhibitors) {
            hm->log_is_on = false;
            return;
        }
        hm->logged_at_ns = hm_now_ns();
    }
    hm->log_is_on = true;
    spend_until(hm, start + window_ms(hm, &p) * 1000000LL);
    balance(hm, &p);
    if (!read_sample(hm, !whole)) {
        hm->log_is_on = false;
        return;
    }
    hm_write_trace(hm);
    hm->log_is_on = whole;
    if (!watch_accesses(hm, &p)) {
        return;
    }
    end = whole ? hm_now_ns() + p.interval * 1000000LL :
          MAX(end, rest_until(hm, &p, start));
    wanted = hm_settle(hm, end);
    wanted += hm_plan_and_carry_out(hm, end, results);
    if (hm->policy->params.limit.limited) {
        hm_pace_reset(&hm->pace);       /* the balance goes by windows */
    }
    hm_pace_window(&hm->pace, wanted,
                   hm_frames_tier_blocks(hm->frames, HM_TIER_DRAM));
    if (!whole) {
        judge_length(hm, &p);
        spend_until(hm, end);
    }
}

static void *engine_thread(void *opaque)
{
    Hybridmem *hm = opaque;

    hm->budget_at_ns = hm->observed_at_ns = hm_now_ns();
    hm_write_trace(hm);
    while (!hm_quitting(hm)) {
        apply_params(hm);
        if (!hm_call_main(hm, hm_main_check)) {
            break;
        }
        if (hm->inhibitors || !hm_parameters(hm).enabled) {
            if (hm->log_is_on) {
                hm_call_main(hm, main_sample_stop);
                hm->log_is_on = false;
            }
            if (!hm_parameters(hm).enabled) {
                hm_accesses_release(hm->accesses);
            }
            if (hm->mover->rest) {
                hm->mover->rest(hm);
            }
            hm_wait_until(hm, hm_now_ns() + IDLE_NS);
            hm->observed_at_ns = hm_now_ns();      /* heat keeps meanwhile */
        } else {
            one_interval(hm);
        }
    }
    return NULL;
}

void hm_engine_start_thread(Hybridmem *hm)
{
    hm_calls_open(hm);
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
    qemu_mutex_lock(&hm->lock);
    hm->quit = true;
    qemu_cond_broadcast(&hm->wake);
    qemu_mutex_unlock(&hm->lock);
    qemu_thread_join(&hm->thread);
    hm_calls_close(hm);
    hm->sampler->ops->stop(hm->sampler);
}
