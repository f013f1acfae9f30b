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
#include "qapi/qapi-events-hybridmem.h"
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

/* At most one HYBRIDMEM_RELOCATION_ERROR per engine in this time. */
#define ERROR_EVENT_NS (1000 * 1000 * 1000LL)

/* A block promoted this many windows after its demotion has moved back. */
#define MOVED_BACK_WINDOWS 8
/* Demotions remembered for that; beyond it moved-back counts too few. */
#define MOVED_BACK_MAX 65536

static const char *const reasons[HM_MOVE__MAX] = {
    [HM_MOVE_DONE] = "done",
    [HM_MOVE_PINNED] = "pinned",
    [HM_MOVE_BUSY] = "busy",
    [HM_MOVE_BUDGET] = "budget",
    [HM_MOVE_MAP_LIMIT] = "map-limit",
    [HM_MOVE_STALE] = "stale",
    [HM_MOVE_FAILED] = "failed",
};

static int64_t now_ns(void)
{
    return g_get_monotonic_time() * 1000;
}

static void report_error(Hybridmem *hm, uint32_t block)
{
    HmRemap *m = &hm->remap;
    uint64_t offset = block * hm->block_size;
    bool send;
    g_autofree char *text = m->error_errno ?
        g_strdup_printf("%s: %s", m->error, strerror(m->error_errno)) :
        g_strdup(m->error);

    qemu_mutex_lock(&hm->lock);
    g_free(hm->last_error);
    hm->last_error = g_strdup_printf("offset 0x%" PRIx64 ": %s", offset,
                                     text);
    send = !hm->error_event_ns ||
           now_ns() - hm->error_event_ns >= ERROR_EVENT_NS;
    if (send) {
        hm->error_event_ns = now_ns();
    }
    qemu_mutex_unlock(&hm->lock);
    trace_hybridmem_error(hm->id, offset, text);
    if (send) {
        qapi_event_send_hybridmem_relocation_error(hm->id, offset,
                                                   hm->block_size, text);
    }
}

static void remember_demotion(Hybridmem *hm, uint32_t block)
{
    if (g_hash_table_size(hm->demoted) < MOVED_BACK_MAX) {
        g_hash_table_insert(hm->demoted, GUINT_TO_POINTER(block),
                            GSIZE_TO_POINTER(hm->stats.windows));
    }
}

static bool has_moved_back(Hybridmem *hm, uint32_t block)
{
    gpointer window;

    return g_hash_table_lookup_extended(hm->demoted, GUINT_TO_POINTER(block),
                                        NULL, &window) &&
           hm->stats.windows - GPOINTER_TO_SIZE(window) <= MOVED_BACK_WINDOWS;
}

/* Before the cycle is applied: @frames still tell the old places. */
static void account(Hybridmem *hm, const HmCycle *cy)
{
    HmStats *s = &hm->stats;
    unsigned i;

    qemu_mutex_lock(&hm->lock);
    for (i = 0; i < cy->n; i++) {
        uint32_t block = cy->block[i];
        HmTier from = hm_frames_tier_of(hm->frames, block);
        HmTier to = hm_frames_tier_of(hm->frames,
                                      cy->block[(i + 1) % cy->n]);

        s->blocks_moved++;
        s->nvm_written_blocks += to == HM_TIER_NVM;
        if (from == HM_TIER_NVM && to == HM_TIER_DRAM) {
            s->promoted_blocks++;
            s->moved_back += has_moved_back(hm, block);
        } else if (from == HM_TIER_DRAM && to == HM_TIER_NVM) {
            s->demoted_blocks++;
            remember_demotion(hm, block);
        }
        g_array_append_val(hm->just_moved, block);
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
        report_error(hm, mv->promote);
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
        HmMoveResult r = relocate_one(hm, mv, b->any_tier, &b->copied_bytes);

        if (r != HM_MOVE_DONE) {
            trace_hybridmem_skip(hm->id, mv->promote, mv->demote, reasons[r]);
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

void hm_relocate(Hybridmem *hm)
{
    HmBatch *b = hm->batch;
    int64_t start_ns = now_ns();
    HmHold *hold;

    if (hm->container->broken || hm_engine_inhibitors(hm)) {
        b->inhibited = true;
        return;
    }
    hm_safe_copy_init();
    hold = hm_hold_begin(b->any_tier ? HOLD_TIMEOUT_COMMAND_MS :
                         HOLD_TIMEOUT_MS);
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
