/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promotes the blocks that will be written most, where that repays the copies.
 *
 * Theory.  What part F of a block will be written in the next window is
 * learned from what became of blocks like it (forecast.h).  To exchange nvm
 * block P with dram block D saves F(P) - F(D) of a block's page writes to nvm
 * in each window that this goes on: as temperatures do, 1.44 half-lives.  It
 * costs min_gain page writes for each page that is copied into nvm (of D, and
 * of the third block of a homing cycle).  A move is wanted if
 *
 *     (F(P) - F(D)) * pages_per_block * windows * kept
 *         >= max(min_gain * pages_per_block * copies, 1.3)
 *
 * where the errors of both are taken off the difference.  `kept' is what
 * became of promises: a sample of the moves made is watched for some windows,
 * and what they saved compared with what they had promised.  A guest whose
 * hot set runs away keeps little; `kept' then recovers slowly by itself, so
 * that a guest that has changed gets another trial.
 *
 * Blocks just promoted are left alone for some windows (leave.h).
 *
 * Work.  Candidates are found among the blocks written in the window.
 * Victims are found by a clock hand over the dram frames, which looks at
 * some times as many frames as there are candidates and takes the worst.
 * Neither depends on the size of the guest.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "leave.h"
#include "policy-internal.h"
#include "ranked.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/dirty.h"
#include "hw/hybridmem/forecast.h"

/*
 * Candidates kept in a window, the hottest: as many as dram has blocks, but
 * at most 512 KiB of them, half a second of moving at 128 Ki a second.
 */
#define CANDIDATES_MIN 1024
#define CANDIDATES_MAX 65536

/*
 * Frames that the hand passes in a plan: LOOK_PER_VICTIM for each victim
 * that is wanted, so that the coldest quarter is taken, and LOOK_MIN more.
 */
#define LOOK_PER_VICTIM 4
#define LOOK_MIN 4096

/* Page writes that a move must save at least. */
#define PROOF 1.3

/* So many errors may be chance: the extremes of many buckets are taken. */
#define CHANCE 3

/* Moves watched at a time, for so many windows; fewer prove nothing. */
#define WATCHED 256
#define WATCHED_MIN 16
#define TRIAL_WINDOWS 8
/* What `kept' recovers of its lack in a window; where it ends. */
#define RECOVERY 0.005
#define KEPT_MIN 0.05

typedef struct Watch {
    uint32_t promoted;
    uint32_t demoted;
    float promised;             /* of a block, in each window */
    bool fresh;                 /* moved since the last window: no sample */
} Watch;

typedef struct Trial {
    Watch watch[WATCHED];
    unsigned n;
    uint64_t offered;           /* moves from which the sample was drawn */
    unsigned windows;
    double promised;            /* sums of parts of blocks, over windows */
    double saved;
} Trial;

typedef struct HmWriteHeat {
    HmPolicy parent;
    HmRanked cand;              /* hottest first */
    size_t next;                /* first one not yet planned */
    HmRanked victim;            /* of the current plan, worst first */
    double horizon;             /* windows that a move pays for */
    double kept;                /* part of what moves promise: 0 to 1 */
    Trial trial;
    HmForecast *forecast;
    uint64_t random;
    HmLeave *leave;
} HmWriteHeat;

static HmWriteHeat *write_heat_of(HmPolicy *p)
{
    return container_of(p, HmWriteHeat, parent);
}

/* -- What a move must save -- */

/* Part of a block, in each window, if it copies so many blocks into nvm. */
static double part_needed(const HmWriteHeat *w, unsigned copies)
{
    double pages = hm_heat_pages_per_block(w->parent.heat);
    double cost = MAX(w->parent.params.min_gain * pages * copies, PROOF);

    return cost / pages / (w->horizon * w->kept);
}

static HmExpected expected(const HmWriteHeat *w, uint32_t block)
{
    return hm_forecast(w->forecast, block,
                       hm_heat_rank(w->parent.heat, block));
}

/*
 * What a move promises: part of a block, in each window, less the error;
 * nothing if that may be chance.
 */
static double promise(const HmWriteHeat *w, const HmMove *move)
{
    HmExpected up = expected(w, move->promote);
    HmExpected down = expected(w, move->demote);
    double gain = up.part - down.part, error = up.below + down.above;

    return gain < CHANCE * error ? 0 : gain - error;
}

/* -- Whether promises are kept -- */

static void trial_add(HmWriteHeat *w, const HmMove *move)
{
    Trial *t = &w->trial;
    uint64_t i = t->offered++;

    if (i >= WATCHED) {
        i = hm_random(&w->random) % t->offered;
    }
    if (i < WATCHED) {
        t->watch[i] = (Watch) {
            move->promote, move->demote, promise(w, move), true,
        };
        t->n = MAX(t->n, i + 1);
    }
}

static void trial_watch(HmWriteHeat *w, const HmDirtyIter *it)
{
    double pages = hm_heat_pages_per_block(w->parent.heat);
    Trial *t = &w->trial;

    for (unsigned i = 0; i < t->n; i++) {
        Watch *watch = &t->watch[i];

        if (watch->fresh) {
            watch->fresh = false;
            continue;
        }
        t->promised += watch->promised;
        t->saved += hm_dirty_count(it, watch->promoted) / pages;
        t->saved -= hm_dirty_count(it, watch->demoted) / pages;
    }
    t->windows += t->n > 0;
}

static void trial_judge(HmWriteHeat *w, const HmDirtyIter *it)
{
    Trial *t = &w->trial;

    trial_watch(w, it);
    w->kept += (1 - w->kept) * RECOVERY;
    if (t->windows < TRIAL_WINDOWS) {
        return;
    }
    if (t->n >= WATCHED_MIN && t->promised > 0) {
        w->kept = (w->kept + CLAMP(t->saved / t->promised, 0, 1)) / 2;
        w->kept = MAX(w->kept, KEPT_MIN);
    }
    memset(t, 0, sizeof(*t));
}

/* -- Lists -- */

static uint64_t hottest_first(uint32_t rank, uint32_t block)
{
    return hm_ranked_item(~rank, block);
}

/* By what is expected of it; of equal ones the coldest. */
static uint64_t worst_first(double part, uint32_t rank, uint32_t block)
{
    uint32_t key = lrint(part * (1 << 15));

    return hm_ranked_item(key << 16 | MIN(rank, UINT16_MAX), block);
}

static uint32_t hot_rank(uint64_t item)
{
    return ~hm_ranked_key(item);
}

/* -- Candidates -- */

static size_t most_candidates(const HmWriteHeat *w)
{
    uint32_t dram = hm_frames_tier_blocks(w->parent.frames, HM_TIER_DRAM);

    return CLAMP(dram, CANDIDATES_MIN, CANDIDATES_MAX);
}

/* Keeps the hotter half.  Returns the least rank that is still of use. */
static uint32_t drop_colder_half(HmRanked *l)
{
    uint32_t least = UINT32_MAX;

    hm_ranked_select(l->item, l->n, l->n / 2);
    l->n /= 2;
    for (size_t i = 0; i < l->n; i++) {
        least = MIN(least, hot_rank(l->item[i]));
    }
    return least + 1;
}

static void find_candidates(HmWriteHeat *w, HmDirtyIter *it)
{
    uint32_t least = MAX(hm_forecast_rank(w->forecast, part_needed(w, 1)), 1);
    size_t most = most_candidates(w);
    uint32_t rank[HM_DIRTY_BATCH];
    size_t n;

    w->cand.n = 0;
    w->next = 0;
    while ((n = hm_dirty_next(it))) {
        hm_forecast_written(w->forecast, it->block, n);
        hm_heat_ranks(w->parent.heat, it->block, rank, n);
        for (size_t i = 0; i < n; i++) {
            uint32_t block = it->block[i];

            if (rank[i] < least || hm_leave_rests(w->leave, block) ||
                hm_frames_tier_of(w->parent.frames, block) != HM_TIER_NVM) {
                continue;
            }
            hm_ranked_add(&w->cand, hottest_first(rank[i], block));
            if (w->cand.n == most) {
                least = drop_colder_half(&w->cand);
            }
        }
    }
}

/* -- Victims -- */

/* About as many victims as @want, of which less than @limit is expected. */
static void find_victims(HmWriteHeat *w, size_t want, double limit)
{
    uint32_t dram = hm_frames_tier_blocks(w->parent.frames, HM_TIER_DRAM);
    uint64_t look = MIN(want * LOOK_PER_VICTIM + LOOK_MIN, dram);
    uint32_t block[HM_DIRTY_BATCH], rank[HM_DIRTY_BATCH];
    size_t cold = 0;

    w->victim.n = 0;
    while (look && cold < want) {
        size_t passed = MIN(look, HM_DIRTY_BATCH);
        size_t n = hm_leave_victims(w->leave, block, passed);

        hm_heat_ranks(w->parent.heat, block, rank, n);
        for (size_t i = 0; i < n; i++) {
            HmExpected e = hm_forecast(w->forecast, block[i], rank[i]);

            if (e.part < limit && !hm_leave_rests(w->leave, block[i])) {
                hm_ranked_add(&w->victim,
                              worst_first(e.part, rank[i], block[i]));
                cold += rank[i] == 0;
            }
        }
        look -= passed;
    }
    hm_ranked_order(&w->victim, 0, want);
}

/* -- Plan -- */

/* Blocks that the move would copy into nvm; 0: it cannot be made. */
static unsigned copies_into_nvm(const HmWriteHeat *w, const HmMove *move)
{
    HmCycle cycle;
    HmMoveResult r = hm_frames_plan_cycle(w->parent.frames, move->promote,
                                          move->demote,
                                          w->parent.params.map_limit, &cycle);

    return r == HM_MOVE_DONE ? cycle.n - 1 : 0;
}

/* Passes candidates that are in dram by now.  False: none is left. */
static bool have_candidate(HmWriteHeat *w)
{
    while (w->next < w->cand.n) {
        uint32_t block = hm_ranked_block(w->cand.item[w->next]);

        if (hm_frames_tier_of(w->parent.frames, block) == HM_TIER_NVM) {
            return true;
        }
        w->next++;
    }
    return false;
}

static size_t write_heat_plan(HmPolicy *p, HmMove *plan, size_t max)
{
    HmWriteHeat *w = write_heat_of(p);
    size_t want = MIN(max, w->cand.n - w->next);
    size_t last = w->next + want;
    uint32_t best;
    size_t n = 0;

    if (want == 0 || hm_frames_tier_blocks(p->frames, HM_TIER_DRAM) == 0) {
        return 0;
    }
    hm_ranked_order(&w->cand, w->next, want);
    best = hm_ranked_block(w->cand.item[w->next]);
    find_victims(w, want, expected(w, best).part - part_needed(w, 1));
    for (size_t v = 0; v < MIN(want, w->victim.n); v++) {
        HmMove move = { .demote = hm_ranked_block(w->victim.item[v]) };
        double gain;
        unsigned copies;

        if (!have_candidate(w) || w->next >= last) {
            break;
        }
        move.promote = hm_ranked_block(w->cand.item[w->next]);
        gain = promise(w, &move);
        if (gain < part_needed(w, 1)) {
            break;
        }
        copies = copies_into_nvm(w, &move);
        if (copies && gain >= part_needed(w, copies)) {
            plan[n++] = move;
            w->next++;
        }
    }
    return n;
}

static void write_heat_moved(HmPolicy *p, const HmMove *move,
                             HmMoveResult result)
{
    HmWriteHeat *w = write_heat_of(p);

    switch (result) {
    case HM_MOVE_DONE:
        trial_add(w, move);
        hm_leave_promoted(w->leave, move->promote);
        break;
    case HM_MOVE_PINNED:
    case HM_MOVE_MAP_LIMIT:
    case HM_MOVE_FAILED:
        hm_leave_failed(w->leave, move->promote);
        hm_leave_failed(w->leave, move->demote);
        break;
    default:
        /* Not the fault of these blocks. */
        break;
    }
}

static void write_heat_observe(HmPolicy *p, const HmWindow *window)
{
    HmWriteHeat *w = write_heat_of(p);
    const unsigned long *dirty = window->seen;
    HmDirtyIter it;

    hm_leave_window(w->leave);
    w->horizon = hm_heat_half_life(p->heat) / M_LN2 /
                 MAX(window->elapsed_ms, 1);
    hm_forecast_begin(w->forecast, dirty);
    hm_dirty_init(&it, dirty, hm_heat_pages(p->heat),
                  hm_heat_pages_per_block(p->heat));
    trial_judge(w, &it);
    find_candidates(w, &it);
    hm_forecast_end(w->forecast);
}

static HmPolicy *write_heat_create(const HmFrames *frames, const HmHeat *heat,
                                   const HmAccess *access)
{
    HmWriteHeat *w = g_new0(HmWriteHeat, 1);

    w->horizon = 1;
    w->kept = 1;
    w->forecast = hm_forecast_new(frames, heat);
    w->leave = hm_leave_new(frames);
    return &w->parent;
}

static void write_heat_destroy(HmPolicy *p)
{
    HmWriteHeat *w = write_heat_of(p);

    hm_leave_free(w->leave);
    hm_forecast_free(w->forecast);
    g_free(w->cand.item);
    g_free(w->victim.item);
    g_free(w);
}

static size_t write_heat_bytes(const HmPolicy *p)
{
    const HmWriteHeat *w = container_of(p, HmWriteHeat, parent);

    return sizeof(*w) + hm_forecast_bytes(w->forecast) +
           (w->cand.size + w->victim.size) * sizeof(uint64_t) +
           hm_leave_bytes(w->leave);
}

const HmPolicyOps hm_policy_write_heat = {
    .name = "write-heat",
    .settles = true,
    .create = write_heat_create,
    .destroy = write_heat_destroy,
    .observe = write_heat_observe,
    .plan = write_heat_plan,
    .moved = write_heat_moved,
    .bytes = write_heat_bytes,
};
