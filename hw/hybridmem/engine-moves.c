/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From plans to moves: batches, the budget that they are taken from, and who
 * is told what became of them.
 */
#include "qemu/osdep.h"
#include "engine-internal.h"
#include "trace.h"

/* Most moves in one hold of the guest. */
#define BATCH_MAX 16384
/* Budgets allow bursts of this part of a second's worth, or an interval's. */
#define BURST 0.1
/* How long to wait for the budget at once. */
#define REFILL_NS (10 * 1000 * 1000LL)

/*
 * A policy has not planned what a command moves, but it may keep lists of
 * dram; and so for it nothing was done.
 */
static void tell_result(Hybridmem *hm, const HmMove *mv, HmCause cause,
                        HmMoveResult r)
{
    if (cause == HM_CAUSE_POLICY) {
        hm_policy_moved(hm->policy, mv, r);
    } else if (cause == HM_CAUSE_COMMAND && r == HM_MOVE_DONE) {
        hm_policy_moved(hm->policy, mv, HM_MOVE_STALE);
    }
}

static void skip_rest(Hybridmem *hm, const HmMove *moves, size_t n,
                      HmCause cause, HmMoveResult why,
                      uint64_t results[HM_MOVE__MAX])
{
    size_t i;

    for (i = 0; i < n; i++) {
        tell_result(hm, &moves[i], cause, why);
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
    int64_t now = hm_now_ns();

    spend_wear(hm, l);
    hm_budget_refill(&hm->budget, l, (now - hm->budget_at_ns) / 1e9);
    hm->budget_at_ns = now;
}

/* False if the engine is to end. */
static bool run_batch(Hybridmem *hm, HmBatch *b)
{
    hm->batch = b;
    if (hm->mover->holds_guest) {
        return hm_call_main(hm, hm->mover->carry_out);
    }
    if (!hm_call_main(hm, hm_main_check)) {
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
        if (hm_now_ns() >= until_ns ||
            !hm_wait_until(hm, MIN(until_ns, hm_now_ns() + REFILL_NS)) ||
            hm_params_have_changed(hm)) {
            return false;
        }
        refill(hm, l);
    }
    return true;
}

void hm_write_trace(Hybridmem *hm)
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

void hm_carry_out(Hybridmem *hm, const HmMove *moves, size_t n,
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
        HybridmemParameters p = hm_parameters(hm);
        HmBudgetLimits l = limits(&p);
        g_autofree HmMoveResult *each = NULL;
        HmBatch b = { .moves = moves + i, .cause = cause };

        if (budget && hm_params_have_changed(hm)) {
            skip_rest(hm, moves + i, n - i, cause, HM_MOVE_STALE, results);
            return;
        }
        /* What must move has its turn, however late it is. */
        if ((cause == HM_CAUSE_SETTLE && i && hm_now_ns() >= until_ns) ||
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
        spend_wear(hm, &l);     /* by the limit that was in force */
        for (k = 0; k < b.taken; k++) {
            tell_result(hm, &moves[i + k], cause, b.each[k]);
            results[b.each[k]]++;
        }
        hm_write_trace(hm);
        i += b.taken;
    }
}

static size_t make_plan(Hybridmem *hm)
{
    int64_t start = hm_now_ns();
    size_t n = hm_policy_plan(hm->policy, hm->plan, HM_ENGINE_PLAN_MAX);

    trace_hybridmem_plan(hm->id, hm->policy->ops->name, n);
    qemu_mutex_lock(&hm->lock);
    hm->stats.plan_ns += hm_now_ns() - start;
    qemu_mutex_unlock(&hm->lock);
    return n;
}

static bool is_worn(Hybridmem *hm)
{
    HybridmemParameters p = hm_parameters(hm);
    HmBudgetLimits l = limits(&p);

    return hm_budget_worn(&hm->budget, &l);
}

size_t hm_plan_and_carry_out(Hybridmem *hm, int64_t until_ns,
                             uint64_t results[HM_MOVE__MAX])
{
    size_t n = make_plan(hm);
    uint64_t refused = results[HM_MOVE_BUDGET];

    hm->planning = true;
    hm_carry_out(hm, hm->plan, n, HM_CAUSE_POLICY, until_ns, results);
    hm->planning = false;
    return is_worn(hm) ? n - (results[HM_MOVE_BUDGET] - refused) : n;
}

size_t hm_settle(Hybridmem *hm, int64_t until_ns)
{
    uint64_t results[HM_MOVE__MAX] = { };
    size_t n;

    if (!hm->mover->settle) {
        return 0;
    }
    hm->planning = true;
    n = hm->mover->settle(hm, hm->plan, HM_ENGINE_PLAN_MAX);
    hm_carry_out(hm, hm->plan, n, HM_CAUSE_SETTLE, until_ns, results);
    hm->planning = false;
    return n;
}
