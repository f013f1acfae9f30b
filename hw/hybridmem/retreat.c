/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot blocks leave dram.
 */
#include "qemu/osdep.h"
#include "ranked.h"
#include "retreat.h"

/* Blocks looked at for a plan, of each tier: as much time as one for others. */
#define LOOK 4096
#define BATCH 256

/* Standard errors that blocks must differ by. */
#define CHANCE 3

struct HmRetreat {
    const HmFrames *frames;
    HmLeave *leave;
    HmRanked hot;               /* of the sample, worth most first */
    uint32_t hand;              /* index of a nvm frame */
    uint32_t looks;             /* that are left to it */
};

HmRetreat *hm_retreat_new(const HmFrames *frames, HmLeave *leave)
{
    HmRetreat *r = g_new0(HmRetreat, 1);

    r->frames = frames;
    r->leave = leave;
    return r;
}

void hm_retreat_free(HmRetreat *r)
{
    g_free(r->hot.item);
    g_free(r);
}

size_t hm_retreat_bytes(const HmRetreat *r)
{
    return sizeof(*r) + r->hot.size * sizeof(uint64_t);
}

/* The bits of a float that is not negative are in its order. */
static uint32_t key_of(float part)
{
    uint32_t bits;

    memcpy(&bits, &part, sizeof(bits));
    return UINT32_MAX - bits;
}

double hm_retreat_worth(HmRetreat *r, HmWorth *worth, void *opaque)
{
    uint32_t dram = hm_frames_tier_blocks(r->frames, HM_TIER_DRAM);
    uint32_t block[BATCH], seen = 0;
    double sum = 0;

    r->hot.n = 0;
    for (uint32_t left = MIN(dram, LOOK); left; left -= MIN(left, BATCH)) {
        size_t n = hm_leave_victims(r->leave, block, MIN(left, BATCH));

        for (size_t i = 0; i < n; i++) {
            double part = worth(opaque, block[i]).part;

            sum += part;
            if (part > 0 && !hm_leave_rests(r->leave, block[i])) {
                hm_ranked_add(&r->hot, hm_ranked_item(key_of(part), block[i]));
            }
        }
        seen += n;
    }
    return seen ? sum / seen * dram : 0;
}

/* The next block of nvm, or NONE: enough were looked at. */
static uint32_t next_in_nvm(HmRetreat *r)
{
    uint32_t nvm = hm_frames_tier_blocks(r->frames, HM_TIER_NVM);

    while (r->looks) {
        uint32_t frame = hm_frames_tier_frame(r->frames, HM_TIER_NVM,
                                              r->hand % nvm);
        uint32_t block = hm_frames_block_in(r->frames, frame);

        r->looks--;
        r->hand = (r->hand + 1) % nvm;
        if (!hm_leave_rests(r->leave, block)) {
            return block;
        }
    }
    return HM_BLOCK_NONE;
}

/* What dram loses, if that is no chance; else 0. */
static double clear_loss(HmExpected hot, HmExpected cold)
{
    double loss = hot.part - cold.part;

    return loss > CHANCE * (hot.below + cold.above) ? loss : 0;
}

/* Finds who comes for move->demote.  What dram loses by it; 0: nobody. */
static double find_cold(HmRetreat *r, uint64_t map_limit, HmWorth *worth,
                        void *opaque, HmMove *move)
{
    HmExpected hot = worth(opaque, move->demote);
    HmCycle cycle;

    while ((move->promote = next_in_nvm(r)) != HM_BLOCK_NONE) {
        double loss = clear_loss(hot, worth(opaque, move->promote));

        if (loss > 0 &&
            hm_frames_plan_cycle(r->frames, move->promote, move->demote,
                                 map_limit, &cycle) == HM_MOVE_DONE) {
            return loss;
        }
    }
    return 0;
}

size_t hm_retreat_plan(HmRetreat *r, double part, uint64_t map_limit,
                       HmWorth *worth, void *opaque, HmMove *plan, size_t max)
{
    double left = part * hm_retreat_worth(r, worth, opaque);
    size_t n = 0;

    r->looks = MIN(hm_frames_tier_blocks(r->frames, HM_TIER_NVM), LOOK);
    hm_ranked_order(&r->hot, 0, r->hot.n);
    for (size_t i = 0; i < r->hot.n && n < max && left > 0; i++) {
        HmMove move = { .demote = hm_ranked_block(r->hot.item[i]) };
        double loss;

        if (worth(opaque, move.demote).part > left) {
            continue;
        }
        loss = find_cold(r, map_limit, worth, opaque, &move);
        if (loss == 0) {
            break;              /* nor for those that are worth less */
        }
        plan[n++] = move;
        left -= loss;
    }
    return n;
}
