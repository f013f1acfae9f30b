/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hottest blocks, up to the quota: HMM-V's and vTMM's policy.
 *
 * Theory.  The temperature of a block is how often it is accessed (access.h,
 * which also has their multi-level queue).  Blocks are sorted into buckets by
 * it, and the hot set is the hottest buckets that fit in dram: no threshold
 * is fixed beforehand (vTMM, EuroSys 2023; HMM-V, arXiv 2209.13111).  Blocks
 * of the hot set that are in nvm are exchanged with those in dram that are
 * not of it, the hottest with the coldest first.
 *
 * Where the papers leave a choice: the bucket that the quota cuts through is
 * not of the hot set; a block is moved only if it is hotter by a bucket at
 * least.  Where accesses cannot be seen the temperature is that of writes.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "leave.h"
#include "policy-internal.h"
#include "ranked.h"
#include "hw/hybridmem/dirty.h"

/* Dram blocks that the hand passes in a plan, for each that is wanted. */
#define LOOK_PER_VICTIM 8
#define LOOK_MIN 4096

/* Steps of a doubling in the order of candidates and victims. */
#define STEPS 256
#define KEY_MAX (64 * STEPS)

typedef struct HmTemperature {
    HmPolicy parent;
    HmRanked cand;              /* hottest first */
    size_t next;
    HmRanked victim;            /* coldest first */
    HmLeave *leave;
} HmTemperature;

static HmTemperature *temperature_of(HmPolicy *p)
{
    return container_of(p, HmTemperature, parent);
}

/* Grows with temperature; 0: cold. */
static uint32_t heat_of(const HmPolicy *p, uint32_t block)
{
    double rate;

    if (!p->access) {
        return hm_heat_rank(p->heat, block);
    }
    rate = hm_access_rate(p->access, block);
    return rate > 0 ? KEY_MAX / 2 + lrint(log2(rate) * STEPS) : 0;
}

/* The least heat of the hot set. */
static uint32_t hot_from(const HmPolicy *p)
{
    uint32_t dram = hm_frames_tier_blocks(p->frames, HM_TIER_DRAM);
    double rate;

    if (!p->access) {
        return hm_heat_threshold(p->heat, dram);
    }
    rate = hm_access_threshold(p->access, dram);
    return rate > 0 ? KEY_MAX / 2 + lrint(log2(rate) * STEPS) : 1;
}

static bool temperature_accesses(const HmPolicy *p)
{
    return true;
}

static void temperature_observe(HmPolicy *p, const HmWindow *w)
{
    HmTemperature *t = temperature_of(p);
    uint32_t hot = MAX(hot_from(p), 1);
    HmDirtyIter it;
    size_t n;

    if (w->sense == HM_SENSE_WRITES) {
        hm_leave_window(t->leave);
        t->cand.n = t->next = 0;
    }
    if ((w->sense == HM_SENSE_ACCESSES) != (p->access != NULL)) {
        return;
    }
    hm_dirty_init(&it, w->seen, hm_heat_pages(p->heat),
                  hm_heat_pages_per_block(p->heat));
    while ((n = hm_dirty_next(&it))) {
        for (size_t i = 0; i < n; i++) {
            uint32_t heat = heat_of(p, it.block[i]);

            if (heat >= hot && !hm_leave_rests(t->leave, it.block[i]) &&
                hm_frames_tier_of(p->frames, it.block[i]) == HM_TIER_NVM) {
                hm_ranked_add(&t->cand,
                              hm_ranked_item(KEY_MAX - MIN(heat, KEY_MAX),
                                             it.block[i]));
            }
        }
    }
}

static void find_victims(HmTemperature *t, size_t want, uint32_t hot)
{
    const HmPolicy *p = &t->parent;
    uint32_t dram = hm_frames_tier_blocks(p->frames, HM_TIER_DRAM);
    uint64_t look = MIN(want * LOOK_PER_VICTIM + LOOK_MIN, dram);
    uint32_t block[HM_DIRTY_BATCH];

    t->victim.n = 0;
    while (look) {
        size_t passed = MIN(look, HM_DIRTY_BATCH);
        size_t n = hm_leave_victims(t->leave, block, passed);

        for (size_t i = 0; i < n; i++) {
            uint32_t heat = heat_of(p, block[i]);

            if (heat < hot && !hm_leave_rests(t->leave, block[i])) {
                hm_ranked_add(&t->victim, hm_ranked_item(heat, block[i]));
            }
        }
        look -= passed;
    }
    hm_ranked_order(&t->victim, 0, want);
}

static bool hotter_by_a_bucket(const HmPolicy *p, const HmMove *move)
{
    return heat_of(p, move->promote) >=
           heat_of(p, move->demote) + HM_HEAT_BUCKET_STEPS;
}

static size_t temperature_plan(HmPolicy *p, HmMove *plan, size_t max)
{
    HmTemperature *t = temperature_of(p);
    size_t want = MIN(max, t->cand.n - t->next), n = 0;

    if (want == 0 || hm_frames_tier_blocks(p->frames, HM_TIER_DRAM) == 0) {
        return 0;
    }
    hm_ranked_order(&t->cand, t->next, want);
    find_victims(t, want, MAX(hot_from(p), 1));
    for (size_t v = 0; v < MIN(want, t->victim.n); v++) {
        HmMove move = {
            .promote = hm_ranked_block(t->cand.item[t->next]),
            .demote = hm_ranked_block(t->victim.item[v]),
        };

        if (!hotter_by_a_bucket(p, &move)) {
            break;
        }
        t->next++;
        if (hm_frames_tier_of(p->frames, move.promote) == HM_TIER_NVM) {
            plan[n++] = move;
        }
    }
    return n;
}

static void temperature_moved(HmPolicy *p, const HmMove *move,
                              HmMoveResult result)
{
    HmTemperature *t = temperature_of(p);

    if (result == HM_MOVE_DONE) {
        hm_leave_promoted(t->leave, move->promote);
    } else if (result == HM_MOVE_PINNED || result == HM_MOVE_MAP_LIMIT ||
               result == HM_MOVE_FAILED) {
        hm_leave_failed(t->leave, move->promote);
        hm_leave_failed(t->leave, move->demote);
    }
}

static HmPolicy *temperature_create(const HmFrames *frames,
                                    const HmHeat *heat,
                                    const HmAccess *access)
{
    HmTemperature *t = g_new0(HmTemperature, 1);

    t->leave = hm_leave_new(frames);
    return &t->parent;
}

static void temperature_destroy(HmPolicy *p)
{
    HmTemperature *t = temperature_of(p);

    hm_leave_free(t->leave);
    g_free(t->cand.item);
    g_free(t->victim.item);
    g_free(t);
}

static size_t temperature_bytes(const HmPolicy *p)
{
    const HmTemperature *t = container_of(p, HmTemperature, parent);

    return sizeof(*t) + hm_leave_bytes(t->leave) +
           (t->cand.size + t->victim.size) * sizeof(uint64_t);
}

const HmPolicyOps hm_policy_temperature = {
    .name = "temperature",
    .accesses = temperature_accesses,
    .create = temperature_create,
    .destroy = temperature_destroy,
    .observe = temperature_observe,
    .plan = temperature_plan,
    .moved = temperature_moved,
    .bytes = temperature_bytes,
};
