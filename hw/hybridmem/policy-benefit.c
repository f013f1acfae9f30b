/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moves where what it saves, by reads and by writes, repays the move.
 *
 * Theory.  What a block costs in nvm, over dram, in a window is
 *
 *     worth = read_cost * accesses + write_cost * writes
 *
 * per page, where the costs of a page that is read, or written back, come
 * from a model of the memory and from the objective: time, energy or wear.
 * But a page that is only read counts half, and the rest of read_cost goes to
 * writes: where a page is written in a window more of its lines are read as
 * well.  The workloads of bench-peers say twice as many (the median; between
 * 0.7 and 12 times: docs/benchmarks.md), and no engine can see lines.
 * What part of a block's pages to expect is learned, of writes by forecast.h,
 * of reads of pages that are not written by access.h, so that chance is not
 * taken for heat: accesses = writes + (1 - writes) * reads.  So the guest is
 * not made to fault for what the log has told, and where it only writes this is
 * as quick to learn as if it went by writes alone.  A window
 * tells whether a page was used, not how often; of uses that come at random
 * (Poisson) there are -ln(1 - part) for each page.  So where nearly all pages
 * are seen, those that are always seen are still worth more than those that
 * are missing in one window of ten.  To exchange nvm block P with dram block D
 * promises worth(P) - worth(D) in each window, less the errors of both; how
 * many windows' worth of its promise a move brings is learned from earlier
 * moves (lifetime.h), by parts, which are what a window can confirm.  A move
 * is wanted if
 *
 *     promise * pages_per_block * lifetime
 *         >= max(min_gain * pages_per_block * copies, 1)
 *            * (read_cost + write_cost) * times
 *
 * for it reads P's pages in nvm, and writes those of D there, and of a third
 * block if it is a homing cycle.  If D is in use, it is likely to come back,
 * and that is another move: times is 2 then, else 1.
 *
 * Of blocks with the same expected worth, and isotonic regression makes large
 * groups of them, the hotter one goes first, and the colder one is the victim:
 * the order is worth nothing in the next window, but among thousands that
 * were seen in every window those that are hot have been for longer.
 * Cf. HeMem and MEMTIS, which rank by accesses with thresholds, and Colloid
 * (SOSP 2024), which weighs by latency.
 *
 * Where dram is so busy that it is no faster than nvm, what may be promoted is
 * limited, or hot blocks leave (balance.h, retreat.h).
 *
 * Work.  As for write-heat: candidates are among the blocks seen in the
 * window, victims among those that a clock hand over dram passes.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "leave.h"
#include "policy-internal.h"
#include "ranked.h"
#include "retreat.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/dirty.h"
#include "hw/hybridmem/forecast.h"
#include "hw/hybridmem/lifetime.h"

/* As in policy-write-heat.c, which says why. */
#define CANDIDATES_MIN 1024
#define CANDIDATES_MAX 65536
#define LOOK_PER_VICTIM 4
#define LOOK_MIN 4096
#define CHANCE 3

/* Pages worth that a move must save at least: one read, and one written. */
#define PROOF 1.0

/* Lines read of a page that is only read, of those where it is written, too. */
#define READ_ONLY 0.5

/* A part that is larger says no more: four times. */
#define PART_MAX 0.98
/* Steps from 0 to there of a table; between them it is taken as straight. */
#define TIMES_STEPS 256

/* A victim that is worth more than this part of what is promised is in use. */
#define IN_USE 0.1
#define TIMES_IN_USE 2

/* Steps of the greatest worth, and of heat, in the keys of lists. */
#define KEY_WORTH INT16_MAX
#define KEY_HEAT UINT16_MAX

/* Cost in a window, for each page. */
typedef struct Worth {
    double times;               /* of all its uses */
    double least, most;         /* one standard error off */
    double part;                /* as if each page had one at most */
    double below, above;        /* standard errors of that */
} Worth;

/* Of a move. */
typedef struct Promise {
    double gain;                /* in a window, less the error; 0: chance */
    double part;                /* the same, by parts */
    bool in_use;                /* so is what it demotes */
} Promise;

typedef struct HmBenefit {
    HmPolicy parent;
    /* Of a use, and of one that is a write besides; the two make 1. */
    double read_cost, write_cost;
    double times[TIMES_STEPS + 1];      /* see times_of() */
    HmRanked cand;              /* most worthwhile first */
    size_t next;                /* first one not yet planned */
    HmRanked victim;            /* of the current plan, worst first */
    HmForecast *forecast;
    HmLifetime *lifetime;
    HmLeave *leave;
    HmRetreat *retreat;
} HmBenefit;

static HmBenefit *benefit_of(HmPolicy *p)
{
    return container_of(p, HmBenefit, parent);
}

/* -- What a move must save -- */

/* Uses of a page, on average, if this part of such pages is seen. */
static double times_of(const HmBenefit *b, double part)
{
    double step = CLAMP(part / PART_MAX, 0, 1) * TIMES_STEPS;
    unsigned i = MIN((unsigned)step, TIMES_STEPS - 1);

    return b->times[i] + (step - i) * (b->times[i + 1] - b->times[i]);
}

static void fill_times(HmBenefit *b)
{
    for (unsigned i = 0; i <= TIMES_STEPS; i++) {
        b->times[i] = -log1p(-PART_MAX * i / TIMES_STEPS);
    }
}

/* Adds @cost for each use to @worth. */
static void add_uses(const HmBenefit *b, Worth *worth, double cost,
                     HmExpected seen)
{
    if (cost == 0 || (seen.part == 0 && seen.above == 0)) {
        return;
    }
    worth->times += cost * times_of(b, seen.part);
    worth->least += cost * times_of(b, seen.part - seen.below);
    worth->most += cost * times_of(b, seen.part + seen.above);
    worth->part += cost * seen.part;
    worth->below += cost * seen.below;
    worth->above += cost * seen.above;
}

static HmExpected accesses_of(const HmPolicy *p, uint32_t block,
                              HmExpected written)
{
    HmExpected read;
    float rest = 1 - written.part;

    if (!p->access) {
        return written;
    }
    read = hm_access_expected(p->access, block);
    return (HmExpected) {
        .part = written.part + rest * read.part,
        .below = (1 - read.part) * written.below + rest * read.below,
        .above = (1 - read.part) * written.above + rest * read.above,
    };
}

static Worth worth_of(const HmBenefit *b, uint32_t block)
{
    const HmPolicy *p = &b->parent;
    HmExpected written = hm_forecast(b->forecast, block,
                                     hm_heat_rank(p->heat, block));
    Worth worth = { };

    add_uses(b, &worth, b->read_cost, accesses_of(p, block, written));
    add_uses(b, &worth, b->write_cost, written);
    return worth;
}

/* Of a block, over all the time that a move pays for. */
static double needed(const HmBenefit *b, unsigned copies)
{
    double pages = hm_heat_pages_per_block(b->parent.heat);

    return MAX(b->parent.params.min_gain * pages * copies, PROOF) / pages;
}

static Promise promise(const HmBenefit *b, const HmMove *move)
{
    Worth up = worth_of(b, move->promote), down = worth_of(b, move->demote);
    double part = up.part - down.part, error = up.below + down.above;
    double gain = up.least - down.most;
    bool chance = part < CHANCE * error || gain <= 0;

    return (Promise) {
        .gain = chance ? 0 : gain,
        .part = chance ? 0 : part - error,
        .in_use = chance || down.times > IN_USE * gain,
    };
}

static bool pays(const HmBenefit *b, Promise p, unsigned copies)
{
    return p.gain * hm_lifetime(b->lifetime, p.part, p.in_use) >=
           needed(b, copies) * (p.in_use ? TIMES_IN_USE : 1);
}

/* -- Candidates -- */

/* How hot a block is, 0 to 1: to choose between equals. */
static double heat_of(const HmBenefit *b, uint32_t block)
{
    const HmPolicy *p = &b->parent;
    uint32_t rank = MIN(hm_heat_rank(p->heat, block), KEY_HEAT);
    double written = (double)rank / KEY_HEAT, accessed = written;

    if (p->access) {
        accessed += (1 - written) * hm_access_rate(p->access, block);
    }
    return b->write_cost * written + b->read_cost * accessed;
}

/* Grows with the worth; of equal ones, with heat. */
static uint32_t key_of(const HmBenefit *b, double worth, uint32_t block)
{
    double most = b->times[TIMES_STEPS];
    uint32_t key = lrint(CLAMP(worth / most, 0, 1) * KEY_WORTH);

    return key << 16 | lrint(heat_of(b, block) * KEY_HEAT);
}

static size_t most_candidates(const HmBenefit *b)
{
    uint32_t dram = hm_frames_tier_blocks(b->parent.frames, HM_TIER_DRAM);

    return CLAMP(dram, CANDIDATES_MIN, CANDIDATES_MAX);
}

static void add_candidate(HmBenefit *b, uint32_t block)
{
    Worth w;

    if (hm_frames_tier_of(b->parent.frames, block) != HM_TIER_NVM ||
        hm_leave_rests(b->leave, block)) {
        return;
    }
    w = worth_of(b, block);
    if (w.part < CHANCE * w.below ||
        !pays(b, (Promise) { w.least, w.part - w.below }, 1)) {
        return;
    }
    hm_ranked_add(&b->cand, hm_ranked_item(~key_of(b, w.times, block), block));
    if (b->cand.n >= 2 * most_candidates(b)) {
        hm_ranked_select(b->cand.item, b->cand.n, b->cand.n / 2);
        b->cand.n /= 2;
    }
}

static void see_writes(HmBenefit *b, HmDirtyIter *it)
{
    size_t n;

    b->cand.n = b->next = 0;
    while ((n = hm_dirty_next(it))) {
        hm_forecast_written(b->forecast, it->block, n);
        for (size_t i = 0; i < n; i++) {
            add_candidate(b, it->block[i]);
        }
    }
}

/* Those that were also written are candidates already. */
static void see_accesses(HmBenefit *b, HmDirtyIter *it)
{
    size_t n;

    while ((n = hm_dirty_next(it))) {
        for (size_t i = 0; i < n; i++) {
            if (!hm_forecast_was_written(b->forecast, it->block[i])) {
                add_candidate(b, it->block[i]);
            }
        }
    }
}

/* -- Victims -- */

/* About as many victims as @want that are worth less than @limit. */
static void find_victims(HmBenefit *b, size_t want, double limit)
{
    uint32_t dram = hm_frames_tier_blocks(b->parent.frames, HM_TIER_DRAM);
    uint64_t look = MIN(want * LOOK_PER_VICTIM + LOOK_MIN, dram);
    uint32_t block[HM_DIRTY_BATCH];
    size_t worthless = 0;

    b->victim.n = 0;
    while (look && worthless < want) {
        size_t passed = MIN(look, HM_DIRTY_BATCH);
        size_t n = hm_leave_victims(b->leave, block, passed);

        for (size_t i = 0; i < n; i++) {
            Worth w = worth_of(b, block[i]);

            if (w.times < limit && !hm_leave_rests(b->leave, block[i])) {
                uint32_t key = key_of(b, w.times, block[i]);

                hm_ranked_add(&b->victim, hm_ranked_item(key, block[i]));
                worthless += w.times == 0;
            }
        }
        look -= passed;
    }
    hm_ranked_order(&b->victim, 0, want);
}

/* -- Plan -- */

/* Blocks that the move would copy into nvm; 0: it cannot be made. */
static unsigned copies_into_nvm(const HmBenefit *b, const HmMove *move)
{
    HmCycle cycle;
    HmMoveResult r = hm_frames_plan_cycle(b->parent.frames, move->promote,
                                          move->demote,
                                          b->parent.params.map_limit, &cycle);

    return r == HM_MOVE_DONE ? cycle.n - 1 : 0;
}

/* Passes candidates that are in dram by now.  NONE: none is left. */
static uint32_t next_candidate(HmBenefit *b, size_t last)
{
    for (; b->next < last; b->next++) {
        uint32_t block = hm_ranked_block(b->cand.item[b->next]);

        if (hm_frames_tier_of(b->parent.frames, block) == HM_TIER_NVM) {
            return block;
        }
    }
    return HM_BLOCK_NONE;
}

static HmExpected expected_worth(void *opaque, uint32_t block)
{
    Worth w = worth_of(opaque, block);

    return (HmExpected) { w.times, w.times - w.least, w.most - w.times };
}

/* What all promotions of a plan may gain. */
static double allowance(HmBenefit *b)
{
    HmBalanceLimit limit = b->parent.params.limit;

    return !limit.limited ? INFINITY : limit.advance == 0 ? 0 :
           limit.advance * hm_retreat_worth(b->retreat, expected_worth, b);
}

static size_t plan_retreat(HmBenefit *b, HmMove *plan, size_t max)
{
    const HmPolicyParams *p = &b->parent.params;

    return hm_retreat_plan(b->retreat, p->limit.retreat, p->map_limit,
                           expected_worth, b, plan, max);
}

static size_t benefit_plan(HmPolicy *p, HmMove *plan, size_t max)
{
    HmBenefit *b = benefit_of(p);
    double left = allowance(b);
    size_t want = MIN(max, b->cand.n - b->next), last = b->next + want, n = 0;
    HmMove move;

    if (p->params.limit.retreat > 0) {
        return plan_retreat(b, plan, max);
    }
    if (want == 0 || left <= 0 ||
        hm_frames_tier_blocks(p->frames, HM_TIER_DRAM) == 0) {
        return 0;
    }
    hm_ranked_order(&b->cand, b->next, want);
    find_victims(b, want,
                 worth_of(b, hm_ranked_block(b->cand.item[b->next])).times);
    for (size_t v = 0; v < MIN(want, b->victim.n); v++) {
        Promise promised;
        unsigned copies;

        move.demote = hm_ranked_block(b->victim.item[v]);
        move.promote = next_candidate(b, last);
        if (move.promote == HM_BLOCK_NONE) {
            break;
        }
        promised = promise(b, &move);
        if (!pays(b, promised, 1) || left <= 0) {
            break;
        }
        copies = copies_into_nvm(b, &move);
        if (copies && pays(b, promised, copies)) {
            plan[n++] = move;
            b->next++;
            left -= promised.gain;
        }
    }
    return n;
}

static void benefit_moved(HmPolicy *p, const HmMove *move,
                          HmMoveResult result)
{
    HmBenefit *b = benefit_of(p);
    Promise promised;

    switch (result) {
    case HM_MOVE_DONE:
        promised = promise(b, move);
        hm_lifetime_add(b->lifetime, move, promised.part, promised.in_use);
        hm_leave_promoted(b->leave, move->promote);
        if (p->params.limit.retreat > 0) {
            hm_lifetime_forget(b->lifetime, move->demote);
        }
        break;
    case HM_MOVE_PINNED:
    case HM_MOVE_MAP_LIMIT:
    case HM_MOVE_FAILED:
        hm_leave_failed(b->leave, move->promote);
        hm_leave_failed(b->leave, move->demote);
        break;
    default:
        /* Not the fault of these blocks. */
        break;
    }
}

/* -- Windows -- */

typedef struct Measure {
    const HmBenefit *b;
    const HmDirtyIter *it;
} Measure;

static double measured_worth(void *opaque, uint32_t block)
{
    const Measure *m = opaque;
    const HmBenefit *b = m->b;
    double written = hm_dirty_count(m->it, block) /
                     (double)hm_heat_pages_per_block(b->parent.heat);
    double accessed = written;

    if (b->parent.access) {
        accessed += (1 - written) * hm_access_found(b->parent.access, block);
    }

    return b->read_cost * accessed + b->write_cost * written;
}

static void benefit_observe(HmPolicy *p, const HmWindow *w)
{
    HmBenefit *b = benefit_of(p);
    double horizon = hm_heat_half_life(p->heat) / M_LN2 /
                     MAX(w->elapsed_ms, 1);
    HmDirtyIter it;

    hm_dirty_init(&it, w->seen, hm_heat_pages(p->heat),
                  hm_heat_pages_per_block(p->heat));
    if (w->sense == HM_SENSE_ACCESSES) {
        see_accesses(b, &it);
        return;
    }
    hm_leave_window(b->leave);
    hm_forecast_begin(b->forecast, w->seen);
    hm_lifetime_window(b->lifetime, horizon, measured_worth,
                       &(Measure) { b, &it });
    see_writes(b, &it);
    hm_forecast_end(b->forecast);
}

static bool benefit_accesses(const HmPolicy *p)
{
    return container_of(p, HmBenefit, parent)->read_cost > 0;
}

static void benefit_params_changed(HmPolicy *p)
{
    HmBenefit *b = benefit_of(p);
    double sum = p->params.read_cost + p->params.write_cost;

    b->read_cost = READ_ONLY * (sum > 0 ? p->params.read_cost / sum : 0.5);
    b->write_cost = 1 - b->read_cost;
}

static HmPolicy *benefit_create(const HmFrames *frames, const HmHeat *heat,
                                const HmAccess *access)
{
    HmBenefit *b = g_new0(HmBenefit, 1);

    fill_times(b);
    b->forecast = hm_forecast_new(frames, heat);
    b->lifetime = hm_lifetime_new(frames);
    b->leave = hm_leave_new(frames);
    b->retreat = hm_retreat_new(frames, b->leave);
    return &b->parent;
}

static void benefit_destroy(HmPolicy *p)
{
    HmBenefit *b = benefit_of(p);

    hm_retreat_free(b->retreat);
    hm_leave_free(b->leave);
    hm_lifetime_free(b->lifetime);
    hm_forecast_free(b->forecast);
    g_free(b->cand.item);
    g_free(b->victim.item);
    g_free(b);
}

static size_t benefit_bytes(const HmPolicy *p)
{
    const HmBenefit *b = container_of(p, HmBenefit, parent);

    return sizeof(*b) + hm_forecast_bytes(b->forecast) +
           hm_lifetime_bytes(b->lifetime) + hm_leave_bytes(b->leave) +
           hm_retreat_bytes(b->retreat) +
           (b->cand.size + b->victim.size) * sizeof(uint64_t);
}

const HmPolicyOps hm_policy_benefit = {
    .name = "benefit",
    .settles = true,
    .accesses = benefit_accesses,
    .knows_writes = true,
    .balances = true,
    .create = benefit_create,
    .destroy = benefit_destroy,
    .observe = benefit_observe,
    .plan = benefit_plan,
    .moved = benefit_moved,
    .params_changed = benefit_params_changed,
    .bytes = benefit_bytes,
};
