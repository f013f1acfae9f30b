/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carries out one batch of moves, in the main loop, with the guest held.
 *
 * Both blocks of a move are copied while nobody can write them, so that no
 * write can be lost, whoever makes it.  Copying before the stop, and only
 * what was written since again in it, would need a sync of the dirty log in
 * the stop, which costs more than copying a batch of small blocks.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/core/cpu.h"
#include "hw/hybridmem/engine.h"
#include "hw/hybridmem/hold.h"
#include "hw/hybridmem/nested.h"
#include "hw/hybridmem/safe-copy.h"
#include "system/runstate.h"
#include "trace.h"

/*
 * A thread that does not come within this time is in a slow device, or has
 * no CPU; the guest waits meanwhile, so better try again later.  Who asks by
 * a command cannot try again later.
 */
#define HOLD_TIMEOUT_MS 10
#define HOLD_TIMEOUT_COMMAND_MS 200

static int64_t now_ns(void)
{
    return g_get_monotonic_time() * 1000;
}

/* Before the cycle is applied: @frames still tell the old places. */
static void account(Hybridmem *hm, const HmCycle *cy)
{
    unsigned i;

    qemu_mutex_lock(&hm->lock);
    for (i = 0; i < cy->n; i++) {
        uint32_t block = cy->block[i];
        uint32_t next = cy->block[(i + 1) % cy->n];

        hm_account_block(hm, block, hm_frames_tier_of(hm->frames, block),
                         hm_frames_tier_of(hm->frames, next),
                         hm->pages_per_block, true);
    }
    qemu_mutex_unlock(&hm->lock);
}

static bool is_pinned(Hybridmem *hm, const HmCycle *cy)
{
    unsigned i;

    for (i = 0; i < cy->n; i++) {
        if (hm_pins_any(hm->container->pins, cy->block[i] * hm->block_size,
                        hm->block_size)) {
            return true;
        }
    }
    return false;
}

static HmMoveResult relocate_one(Hybridmem *hm, const HmMove *mv,
                                 bool any_tier, uint64_t *copied)
{
    HmMoveResult r;
    HmCycle cy;

    if (!any_tier &&
        (hm_frames_tier_of(hm->frames, mv->promote) != HM_TIER_NVM ||
         hm_frames_tier_of(hm->frames, mv->demote) != HM_TIER_DRAM)) {
        return HM_MOVE_STALE;
    }
    r = hm_frames_plan_cycle(hm->frames, mv->promote, mv->demote,
                             hm->map_limit, &cy);
    if (r != HM_MOVE_DONE) {
        return r;
    }
    if (is_pinned(hm, &cy)) {
        return HM_MOVE_PINNED;
    }
    r = hm_remap_cycle(&hm->remap, hm->frames, &cy);
    if (r != HM_MOVE_DONE) {
        hm_account_error(hm, mv->promote, hm->remap.error,
                         hm->remap.error_errno);
        return r;
    }
    account(hm, &cy);
    hm_frames_apply(hm->frames, &cy);
    *copied += cy.n * hm->block_size;
    return r;
}

static void relocate_held(Hybridmem *hm, HmBatch *b, int64_t start_ns)
{
    uint64_t before = hm->remap.pmem_copied;
    sigset_t mask;

    hm_safe_copy_begin(&mask);
    while (b->taken < b->n && !hm->remap.broken) {
        const HmMove *mv = &b->moves[b->taken];
        HmMoveResult r = relocate_one(hm, mv, b->cause == HM_CAUSE_COMMAND,
                                      &b->copied_bytes);

        if (r != HM_MOVE_DONE) {
            hm_account_skip(hm, mv, r);
        }
        b->results[r]++;
        b->each[b->taken++] = r;
        if (b->limit_ns && now_ns() - start_ns >= b->limit_ns) {
            break;
        }
    }
    hm_remap_drain(&hm->remap);
    hm_safe_copy_end(&mask);
    b->pmem_copied = hm->remap.pmem_copied - before;
    if (b->pmem_copied) {
        trace_hybridmem_pmem(hm->id, b->pmem_copied);
    }
}

static void all_busy(HmBatch *b)
{
    for (b->taken = 0; b->taken < b->n; b->taken++) {
        b->each[b->taken] = HM_MOVE_BUSY;
    }
    b->results[HM_MOVE_BUSY] += b->n;
}

/*
 * The kernel took a mapping away and would not give another: the guest must
 * not run on.  vCPUs are told before they are let go.
 */
static void stop_for_good(Hybridmem *hm, HmHold *hold)
{
    CPUState *cpu;

    hm->container->broken = true;
    CPU_FOREACH(cpu) {
        cpu_pause(cpu);
    }
    hm_hold_end(hold);
    error_report("hybridmem '%s': the host cannot map guest RAM any more"
                 " (%s); the guest is stopped", hm->id,
                 strerror(hm->remap.error_errno));
    vm_stop(RUN_STATE_INTERNAL_ERROR);
}

void hm_remap_relocate(Hybridmem *hm)
{
    HmBatch *b = hm->batch;
    int64_t start_ns = now_ns();
    HmHold *hold;

    if (hm->container->broken || hm_engine_inhibitors(hm)) {
        b->inhibited = true;
        return;
    }
    hm_safe_copy_init();
    hold = hm_hold_begin(b->cause == HM_CAUSE_COMMAND ?
                         HOLD_TIMEOUT_COMMAND_MS : HOLD_TIMEOUT_MS);
    if (!hold) {
        all_busy(b);
    } else if (hm_engine_inhibitors(hm) || hm_guest_is_nested()) {
        hm_hold_end(hold);              /* the BQL was dropped meanwhile */
        all_busy(b);
    } else {
        relocate_held(hm, b, start_ns);
        if (hm->remap.broken) {
            stop_for_good(hm, hold);
        } else {
            hm_hold_end(hold);
        }
    }
    b->stall_ns = MAX(now_ns() - start_ns, 1);
    trace_hybridmem_batch(hm->id, b->taken, b->results[HM_MOVE_DONE],
                          b->stall_ns / 1000);
    hm_stats_batch(hm, b);
    hm_stats_bql(hm, b->stall_ns, false);
}
