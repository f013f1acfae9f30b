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
 * A block that has moved is not sampled in the next window or two, and looks
 * as if it were not written; so it is not demoted in the first four to eight.
 *
 * Work.  Candidates are found among the blocks written in the window.
 * Victims are found by a clock hand over the dram frames, which looks at
 * some times as many frames as there are candidates and takes the worst.
 * Neither depends on the size of the guest.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "policy-internal.h"
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

typedef struct Rest {
    uint32_t block;
    uint32_t until;             /* window */
} Rest;

typedef struct HmWriteHeat {
    HmPolicy parent;
    RankedList cand;            /* hottest first */
    size_t next;                /* first one not yet planned */
    RankedList victim;          /* of the current plan, worst first */
    uint32_t hand;              /* index of a dram frame */
    uint32_t window;            /* number of the current one */
    double horizon;             /* windows that a move pays for */
    double kept;                /* part of what moves promise: 0 to 1 */
    Trial trial;
    HmForecast *forecast;
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
    double gain = up.part - down.part, error = up.error + down.error;

    return gain < CHANCE * error ? 0 : gain - error;
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
    return (uint64_t)~rank << 32 | block;
}

/* By what is expected of it; of equal ones the coldest. */
static uint64_t worst_first(double part, uint32_t rank, uint32_t block)
{
    uint32_t key = lrint(part * (1 << 15));

    return (uint64_t)(key << 16 | MIN(rank, UINT16_MAX)) << 32 | block;
}

static uint32_t block_of(uint64_t item)
{
    return item;
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

    if (n == 0) {
        return;
    }
    select_least(l->item + from, n, want);
    qsort(l->item + from, MIN(want, n), sizeof(uint64_t), by_value);
}

/* -- Candidates -- */

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
        size_t n = pass_frames(w, block, passed);

        hm_heat_ranks(w->parent.heat, block, rank, n);
        for (size_t i = 0; i < n; i++) {
            HmExpected e = hm_forecast(w->forecast, block[i], rank[i]);

            if (e.part < limit && !resting(w, block[i])) {
                list_add(&w->victim, worst_first(e.part, rank[i], block[i]));
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
    uint32_t best;
    size_t n = 0;

    if (want == 0 || hm_frames_tier_blocks(p->frames, HM_TIER_DRAM) == 0) {
        return 0;
    }
    list_order(&w->cand, w->next, want);
    best = block_of(w->cand.item[w->next]);
    find_victims(w, want, expected(w, best).part - part_needed(w, 1));
    for (size_t v = 0; v < MIN(want, w->victim.n); v++) {
        HmMove move = { .demote = block_of(w->victim.item[v]) };
        double gain;
        unsigned copies;

        if (!have_candidate(w) || w->next >= last) {
            break;
        }
        move.promote = block_of(w->cand.item[w->next]);
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

static void write_heat_observe(HmPolicy *p, const HmWindow *window)
{
    HmWriteHeat *w = write_heat_of(p);
    const unsigned long *dirty = window->seen;
    HmDirtyIter it;

    w->window++;
    shield_new_window(w);
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
                                   const HmHeat *access_heat)
{
    HmWriteHeat *w = g_new0(HmWriteHeat, 1);

    w->horizon = 1;
    w->kept = 1;
    w->forecast = hm_forecast_new(frames, heat);
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
