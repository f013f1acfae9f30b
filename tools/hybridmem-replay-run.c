/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One policy over a trace: what engine.c does in each window, without a
 * guest.  Moves are carried out at once and in full, but for the budget.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/bigmem.h"
#include "hw/hybridmem/dirty.h"
#include "hybridmem-replay.h"

/* The same as in the engine; see there. */
#define PLAN_MAX 65536
#define BURST_MS 100
#define MOVED_BACK_WINDOWS 8

typedef struct Run {
    const Setup *setup;
    const Survey *survey;
    const HmTraceInfo *info;
    HmFrames *frames;
    HmHeat *heat;
    HmAccess *access;           /* NULL: the policy does not look at it */
    uint32_t *watched;          /* of a window, with @access */
    uint8_t *weight;
    HmPolicy *policy;
    uint64_t map_limit;
    HmMove *plan;
    unsigned long *seen;        /* of the window, without echoes */
    unsigned long *written;     /* with them, in the last window of writes */
    size_t seen_bytes;
    GArray *echo;               /* uint32_t blocks */
    GHashTable *demoted;        /* block -> window */
    uint64_t window;            /* of writes, from 1 */
    double tokens;              /* bytes that may be copied */
    Result *result;
} Run;

uint32_t setup_blocks(const Setup *setup)
{
    return DIV_ROUND_UP(hm_trace_reader_info(setup->trace)->pages,
                        setup->pages_per_block);
}

HmFrames *first_frames(const Setup *setup)
{
    uint32_t blocks = setup_blocks(setup);
    const HmExtent ext[] = {
        { 0, setup->dram, HM_TIER_DRAM, true },
        { setup->dram, blocks - setup->dram, HM_TIER_NVM, true },
    };

    if (setup->dram) {
        return hm_frames_new(ext, G_N_ELEMENTS(ext));
    }
    if (hm_trace_next(setup->trace) != HM_TRACE_FRAMES) {
        return NULL;
    }
    return hm_trace_take_frames(setup->trace);
}

uint64_t page_cost(const Setup *setup, const Survey *s)
{
    return s->counts ?
           hm_trace_reader_info(setup->trace)->page_size / LINE_SIZE : 1;
}

/* --- traffic ----------------------------------------------------------- */

static bool page_in_nvm(const Run *r, uint64_t page)
{
    return hm_frames_tier_of(r->frames, page / r->setup->pages_per_block) ==
           HM_TIER_NVM;
}

static void add_counts(Run *r, const HmTraceWindow *w)
{
    for (size_t i = 0; i < w->n_counts; i++) {
        if (page_in_nvm(r, w->counts[i].page)) {
            r->result->guest.written += w->counts[i].written;
            r->result->guest.read += w->counts[i].filled;
        }
    }
}

/* Pages of @w in nvm; those of a block left alone for a while count more. */
static uint64_t count_seen(const Run *r, const HmWindow *w)
{
    unsigned ppb = r->setup->pages_per_block;
    uint64_t sum = 0;
    size_t n, at = 0;
    HmDirtyIter it;

    hm_dirty_init(&it, w->seen, r->info->pages, ppb);
    while ((n = hm_dirty_next(&it))) {
        for (size_t i = 0; i < n; i++) {
            unsigned weight = 1;

            for (; at < w->n_watched && w->watched[at] <= it.block[i]; at++) {
                weight = w->watched[at] == it.block[i] ? w->weight[at] : 1;
            }
            if (hm_frames_tier_of(r->frames, it.block[i]) == HM_TIER_NVM) {
                sum += weight * (ppb == 1 ? 1 : it.count[i]);
            }
        }
    }
    return sum;
}

static void add_traffic(Run *r, const HmTraceWindow *w)
{
    if (w->counts) {
        add_counts(r, w);
    }
    if (r->survey->counts) {
        return;
    }
    if (w->w.sense == HM_SENSE_WRITES) {
        r->result->guest.written += count_seen(r, &w->w);
    } else {
        r->result->guest.read += count_seen(r, &w->w);
    }
}

/* --- moves ------------------------------------------------------------- */

static void account_block(Run *r, uint32_t block, HmTier from, HmTier to)
{
    uint64_t cost = page_cost(r->setup, r->survey) *
                    r->setup->pages_per_block;
    gpointer window;

    r->result->own.written += to == HM_TIER_NVM ? cost : 0;
    r->result->own.read += from == HM_TIER_NVM ? cost : 0;
    if (from == HM_TIER_DRAM && to == HM_TIER_NVM) {
        g_hash_table_insert(r->demoted, GUINT_TO_POINTER(block),
                            GSIZE_TO_POINTER(r->window));
    } else if (from == HM_TIER_NVM && to == HM_TIER_DRAM &&
               g_hash_table_lookup_extended(r->demoted,
                                            GUINT_TO_POINTER(block), NULL,
                                            &window)) {
        r->result->moved_back +=
            r->window - GPOINTER_TO_SIZE(window) <= MOVED_BACK_WINDOWS;
    }
    g_array_append_val(r->echo, block);
}

static uint64_t cycle_bytes(const Run *r, const HmCycle *cy)
{
    return (uint64_t)cy->n * r->setup->pages_per_block * r->info->page_size;
}

static HmMoveResult carry_out(Run *r, const HmMove *mv)
{
    HmMoveResult done;
    HmCycle cy;

    if (r->setup->max_bandwidth && r->tokens <= 0) {
        return HM_MOVE_BUDGET;
    }
    if (hm_frames_tier_of(r->frames, mv->promote) != HM_TIER_NVM ||
        hm_frames_tier_of(r->frames, mv->demote) != HM_TIER_DRAM) {
        return HM_MOVE_STALE;
    }
    done = hm_frames_plan_cycle(r->frames, mv->promote, mv->demote,
                                r->map_limit, &cy);
    if (done != HM_MOVE_DONE) {
        return done;
    }
    for (unsigned i = 0; i < cy.n; i++) {
        account_block(r, cy.block[i],
                      hm_frames_tier_of(r->frames, cy.block[i]),
                      hm_frames_tier_of(r->frames, cy.block[(i + 1) % cy.n]));
    }
    hm_frames_apply(r->frames, &cy);
    r->tokens -= cycle_bytes(r, &cy);
    r->result->bytes_copied += cycle_bytes(r, &cy);
    r->result->moves++;
    return HM_MOVE_DONE;
}

static void plan(Run *r)
{
    size_t n = hm_policy_plan(r->policy, r->plan, PLAN_MAX);

    for (size_t i = 0; i < n; i++) {
        HmMoveResult done = carry_out(r, &r->plan[i]);

        r->result->refused[done] += done != HM_MOVE_DONE;
        hm_policy_moved(r->policy, &r->plan[i], done);
    }
}

/* What the budget of an interval allows, and a burst after a rest. */
static void refill(Run *r, uint64_t ms)
{
    double rate = r->setup->max_bandwidth / 1e3;

    r->tokens = MIN(r->tokens + ms * rate, MAX(ms, BURST_MS) * rate);
}

/* --- windows ----------------------------------------------------------- */

/* See drop_echo() of the engine: what has moved looks written. */
static void drop_echo(Run *r)
{
    GArray *echo = r->echo;
    uint64_t ppb = r->setup->pages_per_block;

    for (guint i = 0; i < echo->len; i++) {
        uint64_t first = g_array_index(echo, uint32_t, i) * ppb;

        for (uint64_t p = first; p < MIN(first + ppb, r->info->pages); p++) {
            clear_bit(p, r->seen);
        }
    }
    g_array_set_size(echo, 0);
}

static void keep_watched(Run *r, const HmWindow *w)
{
    uint64_t ppb = r->setup->pages_per_block;

    memset(r->seen, 0, r->seen_bytes);
    for (size_t i = 0; i < w->n_watched; i++) {
        uint64_t first = w->watched[i] * ppb;

        for (uint64_t p = first; p < MIN(first + ppb, r->info->pages); p++) {
            if (test_bit(p, w->seen)) {
                set_bit(p, r->seen);
            }
        }
    }
}

/*
 * Where the trace knows of all accesses, those are seen that the engine would
 * have watched.  Else what it did watch, as long as blocks are the same.
 */
static void watch(Run *r, HmWindow *w)
{
    uint64_t faults = r->setup->access_faults * w->elapsed_ms / 1000;
    bool all = !w->watched;
    size_t n = hm_access_pick(r->access, w->known, r->watched, r->weight,
                              all ? hm_access_blocks(r->access) : 0,
                              r->setup->access_faults ? MAX(faults, 1) :
                              UINT64_MAX);

    if (all) {
        w->watched = r->watched;
        w->weight = r->weight;
        w->n_watched = n;
    }
    keep_watched(r, w);
}

static void digest(Run *r, const HmTraceWindow *w)
{
    HmWindow mine = w->w;
    bool writes = mine.sense == HM_SENSE_WRITES;

    add_traffic(r, w);
    if (!writes && !r->access) {
        return;
    }
    if (writes) {
        memcpy(r->seen, mine.seen, r->seen_bytes);
        memcpy(r->written, mine.seen, r->seen_bytes);
        drop_echo(r);
    } else {
        mine.known = hm_policy_known(r->policy, r->written);
        watch(r, &mine);
    }
    mine.seen = r->seen;
    if (writes) {
        hm_heat_window(r->heat, mine.seen, mine.elapsed_ms);
    } else {
        hm_access_window(r->access, &mine);
    }
    hm_policy_observe(r->policy, &mine);
}

/*
 * A plan is made when all is known of an epoch: its window of writes, and
 * that of accesses if one follows.
 */
static void go_through(Run *r)
{
    HmTraceKind kind;
    bool observed = false;

    while ((kind = hm_trace_next(r->setup->trace)) < HM_TRACE_END) {
        const HmTraceWindow *w = hm_trace_window(r->setup->trace);

        if (kind != HM_TRACE_WINDOW) {
            continue;
        }
        if (w->w.sense == HM_SENSE_WRITES) {
            if (observed) {
                plan(r);
            }
            r->window++;
            refill(r, w->w.elapsed_ms);
            observed = true;
        }
        digest(r, w);
    }
    if (observed) {
        plan(r);
    }
}

void run_policy(const Setup *setup, const Survey *s, const HmPolicyOps *ops,
                const HmPolicyParams *params, Result *result)
{
    const HmTraceInfo *info = hm_trace_reader_info(setup->trace);
    Run r = {
        .setup = setup, .survey = s, .info = info, .result = result,
        .map_limit = params->map_limit,
        .seen_bytes = BITS_TO_LONGS(info->pages) * sizeof(long),
    };

    hm_trace_rewind(setup->trace);
    r.frames = first_frames(setup);
    r.heat = hm_heat_new(info->pages, setup->pages_per_block,
                         setup->half_life_ms);
    /* Whether it looks at them depends on its parameters. */
    if (ops->accesses && s->access_windows) {
        r.access = hm_access_new(info->pages, setup->pages_per_block);
        r.watched = g_new(uint32_t, hm_access_blocks(r.access));
        r.weight = g_new(uint8_t, hm_access_blocks(r.access));
    }
    r.policy = hm_policy_new(ops, r.frames, r.heat, r.access, params);
    r.plan = g_new(HmMove, PLAN_MAX);
    r.seen = hm_bigmem_new(r.seen_bytes);
    r.written = hm_bigmem_new(r.seen_bytes);
    r.demoted = g_hash_table_new(NULL, NULL);
    r.echo = g_array_new(false, false, sizeof(uint32_t));
    go_through(&r);
    g_array_free(r.echo, true);
    g_hash_table_destroy(r.demoted);
    hm_bigmem_free(r.seen, r.seen_bytes);
    hm_bigmem_free(r.written, r.seen_bytes);
    g_free(r.plan);
    hm_policy_free(r.policy);
    hm_access_free(r.access);
    g_free(r.watched);
    g_free(r.weight);
    hm_heat_free(r.heat);
    hm_frames_free(r.frames);
}
