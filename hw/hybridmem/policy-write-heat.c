/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promotes the blocks that are written most, where that repays the copies.
 *
 * Theory.  The temperature T of a block is what it is written in about 1.44
 * half-lives.  To exchange nvm block P with dram block D saves T(P) - T(D)
 * page writes to nvm if both go on as they did, and costs pages_per_block
 * for each block that is copied into nvm (D, and the third block of a
 * homing cycle).  A move is wanted if
 *
 *     T(P) - T(D) >= max(margin * max(min_gain * cost, 1.5),
 *                        T(P) * what two windows weigh)
 *
 * that is: it pays, one write alone proves nothing, and a block that was
 * not sampled in a window or two (one that has moved) is not colder for it.
 * While temperatures are young, a window weighs more than that; so a block
 * is also not demoted in the first four to eight windows after its promotion.
 *
 * The margin is there because the extremes of a crowd are chosen: among a
 * million equal blocks, the hottest in nvm and the coldest in dram differ
 * much, by chance, and will not go on as they did.  How large it has to be
 * depends on the guest, so it is found by trial: a sample of the moves made
 * is watched for some windows.  If the promoted blocks did not exceed the
 * blocks that they displaced by what the moves cost, the margin is doubled,
 * or raised to what these moves had promised if that is more, up to what a
 * block that is always dirty can pass; if they did beyond doubt, it is
 * halved, down to 1; and it shrinks slowly by itself, so that a
 * guest that has changed gets another trial.
 *
 * Work.  Candidates are found among the blocks written in the window.
 * Victims are found by a clock hand over the dram frames, which looks at
 * some times as many frames as there are candidates and takes the coldest.
 * Neither depends on the size of the guest.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "policy-internal.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/dirty.h"

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

/* Page writes that a move must save at least; see above. */
#define PROOF 1.5

/*
 * Moves watched at a time.  A trial ends after TRIAL_WINDOWS, or after
 * TRIAL_ENOUGH observations of a pair: then chance is small beside PROOF.
 */
#define WATCHED 256
#define TRIAL_WINDOWS 8
#define TRIAL_ENOUGH 512

/* The margin halves by itself in 138 windows. */
#define MARGIN_DECAY 0.995
/* Part of the temperature of a block that is always and fully dirty. */
#define MARGIN_CAP 0.9

/* Blocks that could not be moved rest for so many windows. */
#define REST_WINDOWS 8
#define RESTING 1024            /* remembered; power of two */

/* Promoted blocks stay for at least so many windows, at most twice that. */
#define SHIELD_WINDOWS 4

/*
 * Blocks with what they are ranked by, as one number: the order's key in the
 * high half, the block in the low one.  The least number is the best.
 */
typedef struct RankedList {
    uint64_t *item;
    size_t n;
    size_t size;
} RankedList;

typedef struct Watch {
    uint32_t promoted;
    uint32_t demoted;
    float promised;             /* T(promoted) - T(demoted) when moved */
    bool fresh;                 /* moved since the last window: no sample */
} Watch;

typedef struct Trial {
    Watch watch[WATCHED];
    unsigned n;
    uint64_t offered;           /* moves from which the sample was drawn */
    unsigned windows;
    uint64_t seen;              /* pairs times windows */
    double promised;            /* sum over these */
    double gain;                /* page writes saved by them */
    double variance;            /* of the gain, were it chance: upper bound */
} Trial;

typedef struct Rest {
    uint32_t block;
    uint32_t until;             /* window */
} Rest;

typedef struct HmWriteHeat {
    HmPolicy parent;
    RankedList cand;            /* hottest first */
    size_t next;                /* first one not yet planned */
    RankedList victim;          /* of the current plan, coldest first */
    uint32_t hand;              /* index of a dram frame */
    uint32_t window;            /* number of the current one */
    double fade;                /* what a window takes from T: 1 - 2^(-t/h) */
    double margin;
    Trial trial;
    uint64_t random;
    Rest rest[RESTING];
    uint32_t rest_end;          /* window in which none rests any more */
    /*
     * A bit for each dram frame: filled by a promotion in this, or the last
     * span of SHIELD_WINDOWS.
     */
    unsigned long *shield[2];
    bool shield_used[2];
} HmWriteHeat;

static HmWriteHeat *write_heat_of(HmPolicy *p)
{
    return container_of(p, HmWriteHeat, parent);
}

/* -- What a move must save, in page writes -- */

static double copy_cost(const HmWriteHeat *w, unsigned copies)
{
    double pages = hm_heat_pages_per_block(w->parent.heat);

    return MAX(w->parent.params.min_gain * pages * copies, PROOF);
}

static double gain_needed(const HmWriteHeat *w, double t, unsigned copies)
{
    /* With a half-life of few windows, a window weighs too much for this. */
    double unsampled = MIN(2 * w->fade, 0.5) * t;

    return MAX(copy_cost(w, copies) * w->margin, unsampled);
}

static double margin_cap(const HmWriteHeat *w)
{
    double hottest = hm_heat_pages_per_block(w->parent.heat) / w->fade;

    return MAX(MARGIN_CAP * hottest / copy_cost(w, 1), 1);
}

/* -- Blocks that rest -- */

static Rest *rest_of(HmWriteHeat *w, uint32_t block)
{
    return &w->rest[(block * 0x9e3779b1u) / (UINT32_MAX / RESTING + 1)];
}

static bool resting(HmWriteHeat *w, uint32_t block)
{
    Rest *r;

    if ((int32_t)(w->rest_end - w->window) <= 0) {
        return false;
    }
    r = rest_of(w, block);
    return r->block == block && (int32_t)(r->until - w->window) > 0;
}

static void let_rest(HmWriteHeat *w, uint32_t block)
{
    w->rest_end = w->window + REST_WINDOWS;
    *rest_of(w, block) = (Rest) { block, w->rest_end };
}

/* -- Blocks that were just promoted -- */

static size_t shield_bytes(const HmFrames *fr)
{
    uint32_t dram = hm_frames_tier_blocks(fr, HM_TIER_DRAM);

    return BITS_TO_LONGS((size_t)dram) * sizeof(unsigned long);
}

static unsigned shield_now(const HmWriteHeat *w)
{
    return w->window / SHIELD_WINDOWS % 2;
}

static void shield_new_window(HmWriteHeat *w)
{
    unsigned i = shield_now(w);

    if (w->window % SHIELD_WINDOWS == 0 && w->shield_used[i]) {
        memset(w->shield[i], 0, shield_bytes(w->parent.frames));
        w->shield_used[i] = false;
    }
}

static void shield_set(HmWriteHeat *w, uint32_t block)
{
    const HmFrames *fr = w->parent.frames;
    uint32_t frame = hm_frames_frame_of(fr, block);
    unsigned i = shield_now(w);

    if (hm_frames_tier_of_frame(fr, frame) == HM_TIER_DRAM) {
        set_bit(hm_frames_tier_index(fr, frame), w->shield[i]);
        w->shield_used[i] = true;
    }
}

/* @i: index of a dram frame. */
static bool shielded(const HmWriteHeat *w, uint32_t i)
{
    return test_bit(i, w->shield[0]) || test_bit(i, w->shield[1]);
}

/* -- Trial of the margin -- */

static void trial_add(HmWriteHeat *w, const HmMove *move)
{
    Trial *t = &w->trial;
    uint64_t i = t->offered++;

    if (i >= WATCHED) {
        i = hm_random(&w->random) % t->offered;
    }
    if (i < WATCHED) {
        t->watch[i] = (Watch) {
            .promoted = move->promote,
            .demoted = move->demote,
            .promised = hm_heat_temperature(w->parent.heat, move->promote) -
                        hm_heat_temperature(w->parent.heat, move->demote),
            .fresh = true,
        };
        t->n = MAX(t->n, i + 1);
    }
}

static void trial_watch(Trial *t, const HmDirtyIter *it)
{
    for (unsigned i = 0; i < t->n; i++) {
        Watch *watch = &t->watch[i];
        double up, down;

        if (watch->fresh) {
            watch->fresh = false;
            continue;
        }
        up = hm_dirty_count(it, watch->promoted);
        down = hm_dirty_count(it, watch->demoted);
        t->promised += watch->promised;
        t->gain += up - down;
        t->variance += up * up + down * down;
        t->seen++;
    }
    t->windows += t->n > 0;
}

static void trial_judge(HmWriteHeat *w)
{
    Trial *t = &w->trial;

    if (t->windows < TRIAL_WINDOWS && t->seen < TRIAL_ENOUGH) {
        return;
    }
    if (t->gain < copy_cost(w, 1) * w->fade * t->seen) {
        w->margin = MAX(w->margin * 2,
                        t->promised / t->seen / copy_cost(w, 1));
    } else if (t->gain > 2 * sqrt(t->variance)) {
        w->margin /= 2;
    }
    memset(t, 0, sizeof(*t));
}

static void adapt_margin(HmWriteHeat *w, const HmDirtyIter *it)
{
    trial_watch(&w->trial, it);
    trial_judge(w);
    w->margin *= MARGIN_DECAY;
    w->margin = CLAMP(w->margin, 1, margin_cap(w));
}

/* -- Lists -- */

static uint64_t coldest_first(uint32_t rank, uint32_t block)
{
    return (uint64_t)rank << 32 | block;
}

static uint64_t hottest_first(uint32_t rank, uint32_t block)
{
    return (uint64_t)~rank << 32 | block;
}

static uint32_t block_of(uint64_t item)
{
    return item;
}

static uint32_t cold_rank(uint64_t item)
{
    return item >> 32;
}

static uint32_t hot_rank(uint64_t item)
{
    return ~(uint32_t)(item >> 32);
}

static void list_add(RankedList *l, uint64_t item)
{
    if (l->n == l->size) {
        l->size = MAX(2 * l->size, 1024);
        l->item = g_renew(uint64_t, l->item, l->size);
    }
    l->item[l->n++] = item;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/*
 * Brings the @want least of @n distinct numbers to the front, in no order:
 * in linear time on average (Hoare's selection).
 */
static void select_least(uint64_t *v, size_t n, size_t want)
{
    while (want > 0 && want < n) {
        uint64_t pivot = v[n / 2];
        size_t i = 0, j = n - 1;

        for (;;) {
            uint64_t moved;

            while (v[i] < pivot) {
                i++;
            }
            while (v[j] > pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            moved = v[i];
            v[i++] = v[j];
            v[j--] = moved;
        }
        /* Now no number in v[0..i) is above one in v[i..n). */
        if (want <= i) {
            n = i;
        } else {
            v += i;
            n -= i;
            want -= i;
        }
    }
}

/* Puts the best @want from item @from on into order. */
static void list_order(RankedList *l, size_t from, size_t want)
{
    size_t n = l->n - from;

    select_least(l->item + from, n, want);
    qsort(l->item + from, MIN(want, n), sizeof(uint64_t), by_value);
}

/* -- Candidates -- */

static uint32_t least_wanted_rank(const HmWriteHeat *w)
{
    const HmHeat *heat = w->parent.heat;
    uint32_t dram = hm_frames_tier_blocks(w->parent.frames, HM_TIER_DRAM);
    uint32_t hot = hm_heat_threshold(heat, dram);
    uint32_t pays = hm_heat_temperature_to_rank(heat, copy_cost(w, 1) *
                                                      w->margin);

    /* Equally hot blocks may be more than dram holds: take some of them. */
    hot = hot > HM_HEAT_BUCKET_STEPS ? hot - HM_HEAT_BUCKET_STEPS : 1;
    return MAX(hot, pays);
}

static size_t most_candidates(const HmWriteHeat *w)
{
    uint32_t dram = hm_frames_tier_blocks(w->parent.frames, HM_TIER_DRAM);

    return CLAMP(dram, CANDIDATES_MIN, CANDIDATES_MAX);
}

/* Keeps the hotter half.  Returns the least rank that is still of use. */
static uint32_t drop_colder_half(RankedList *l)
{
    uint32_t least = UINT32_MAX;

    select_least(l->item, l->n, l->n / 2);
    l->n /= 2;
    for (size_t i = 0; i < l->n; i++) {
        least = MIN(least, hot_rank(l->item[i]));
    }
    return least + 1;
}

static void find_candidates(HmWriteHeat *w, HmDirtyIter *it)
{
    uint32_t least = least_wanted_rank(w);
    size_t most = most_candidates(w);
    uint32_t rank[HM_DIRTY_BATCH];
    size_t n;

    w->cand.n = 0;
    w->next = 0;
    while ((n = hm_dirty_next(it))) {
        hm_heat_ranks(w->parent.heat, it->block, rank, n);
        for (size_t i = 0; i < n; i++) {
            uint32_t block = it->block[i];

            if (rank[i] < least || resting(w, block) ||
                hm_frames_tier_of(w->parent.frames, block) != HM_TIER_NVM) {
                continue;
            }
            list_add(&w->cand, hottest_first(rank[i], block));
            if (w->cand.n == most) {
                least = drop_colder_half(&w->cand);
            }
        }
    }
}

/* -- Victims -- */

/* Passes @n frames; fills @block with what may be demoted from there. */
static size_t pass_frames(HmWriteHeat *w, uint32_t *block, size_t n)
{
    const HmFrames *fr = w->parent.frames;
    uint32_t dram = hm_frames_tier_blocks(fr, HM_TIER_DRAM);
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        if (!shielded(w, w->hand)) {
            uint32_t frame = hm_frames_tier_frame(fr, HM_TIER_DRAM, w->hand);

            block[found++] = hm_frames_block_in(fr, frame);
        }
        w->hand = (w->hand + 1) % dram;
    }
    return found;
}

/* Collects about as many victims as @want, colder than @limit. */
static void find_victims(HmWriteHeat *w, size_t want, uint32_t limit)
{
    uint32_t dram = hm_frames_tier_blocks(w->parent.frames, HM_TIER_DRAM);
    uint64_t look = MIN(want * LOOK_PER_VICTIM + LOOK_MIN, dram);
    uint32_t block[HM_DIRTY_BATCH], rank[HM_DIRTY_BATCH];
    size_t cold = 0;

    w->victim.n = 0;
    while (look && cold < want) {
        size_t passed = MIN(look, HM_DIRTY_BATCH);
        size_t n = pass_frames(w, block, passed);

        hm_heat_ranks(w->parent.heat, block, rank, n);
        for (size_t i = 0; i < n; i++) {
            if (rank[i] < limit && !resting(w, block[i])) {
                list_add(&w->victim, coldest_first(rank[i], block[i]));
                cold += rank[i] == 0;
            }
        }
        look -= passed;
    }
    list_order(&w->victim, 0, want);
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
        uint32_t block = block_of(w->cand.item[w->next]);

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
    size_t n = 0;

    if (want == 0 || hm_frames_tier_blocks(p->frames, HM_TIER_DRAM) == 0) {
        return 0;
    }
    list_order(&w->cand, w->next, want);
    find_victims(w, want, hot_rank(w->cand.item[w->next]));
    for (size_t v = 0; v < MIN(want, w->victim.n); v++) {
        uint64_t down = w->victim.item[v], up;
        HmMove move = { .demote = block_of(down) };
        double t, gain;
        unsigned copies;

        if (!have_candidate(w) || w->next >= last) {
            break;
        }
        up = w->cand.item[w->next];
        move.promote = block_of(up);
        t = hm_heat_rank_to_temperature(p->heat, hot_rank(up));
        gain = t - hm_heat_rank_to_temperature(p->heat, cold_rank(down));
        if (gain < gain_needed(w, t, 1)) {
            break;
        }
        copies = copies_into_nvm(w, &move);
        if (copies && gain >= gain_needed(w, t, copies)) {
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
        shield_set(w, move->promote);
        break;
    case HM_MOVE_PINNED:
    case HM_MOVE_MAP_LIMIT:
    case HM_MOVE_FAILED:
        let_rest(w, move->promote);
        let_rest(w, move->demote);
        break;
    default:
        /* Not the fault of these blocks. */
        break;
    }
}

static void write_heat_observe(HmPolicy *p, const unsigned long *dirty,
                               uint64_t elapsed_ms)
{
    HmWriteHeat *w = write_heat_of(p);
    HmDirtyIter it;

    w->window++;
    shield_new_window(w);
    w->fade = -expm1(-M_LN2 * MAX(elapsed_ms, 1) /
                     hm_heat_half_life(p->heat));
    hm_dirty_init(&it, dirty, hm_heat_pages(p->heat),
                  hm_heat_pages_per_block(p->heat));
    adapt_margin(w, &it);
    find_candidates(w, &it);
}

static HmPolicy *write_heat_create(const HmFrames *frames, const HmHeat *heat)
{
    HmWriteHeat *w = g_new0(HmWriteHeat, 1);

    w->margin = 1;
    w->fade = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(w->shield); i++) {
        w->shield[i] = g_malloc0(shield_bytes(frames));
    }
    return &w->parent;
}

static void write_heat_destroy(HmPolicy *p)
{
    HmWriteHeat *w = write_heat_of(p);

    for (unsigned i = 0; i < ARRAY_SIZE(w->shield); i++) {
        g_free(w->shield[i]);
    }
    g_free(w->cand.item);
    g_free(w->victim.item);
    g_free(w);
}

static size_t write_heat_bytes(const HmPolicy *p)
{
    const HmWriteHeat *w = container_of(p, HmWriteHeat, parent);

    return sizeof(*w) + (w->cand.size + w->victim.size) * sizeof(uint64_t) +
           ARRAY_SIZE(w->shield) * shield_bytes(p->frames);
}

const HmPolicyOps hm_policy_write_heat = {
    .name = "write-heat",
    .create = write_heat_create,
    .destroy = write_heat_destroy,
    .observe = write_heat_observe,
    .plan = write_heat_plan,
    .moved = write_heat_moved,
    .bytes = write_heat_bytes,
};
