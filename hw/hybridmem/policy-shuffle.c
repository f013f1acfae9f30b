/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exchanges nvm and dram blocks at random, as fast as it may: for tests.
 *
 * A plan must not name a block twice.  Each tier's frames are therefore
 * taken in the order of a random permutation, computed rather than stored: a
 * Feistel network over the next even power of two, stepped again while it
 * leaves the range.
 */
#include "qemu/osdep.h"
#include "policy-internal.h"

#define ROUNDS 4

typedef struct Permutation {
    uint32_t n;
    unsigned half_bits;
    uint64_t key[ROUNDS];
} Permutation;

typedef struct HmShuffle {
    HmPolicy parent;
    uint64_t seed;              /* that @random began with */
    uint64_t random;
} HmShuffle;

static void permutation_init(Permutation *p, uint32_t n, uint64_t *random)
{
    p->n = n;
    p->half_bits = 1;
    while (p->half_bits < 16 && (1ull << (2 * p->half_bits)) < n) {
        p->half_bits++;
    }
    for (unsigned r = 0; r < ROUNDS; r++) {
        p->key[r] = hm_random(random);
    }
}

static uint32_t permutation_at(const Permutation *p, uint32_t i)
{
    uint32_t mask = (1u << p->half_bits) - 1;

    do {
        uint32_t left = i >> p->half_bits, right = i & mask;

        for (unsigned r = 0; r < ROUNDS; r++) {
            uint64_t state = p->key[r] + right;
            uint32_t next = left ^ (hm_random(&state) & mask);

            left = right;
            right = next;
        }
        i = left << p->half_bits | right;
    } while (i >= p->n);
    return i;
}

static HmPolicy *shuffle_create(const HmFrames *frames, const HmHeat *heat,
                                const HmAccess *access)
{
    HmShuffle *s = g_new0(HmShuffle, 1);

    return &s->parent;
}

static void shuffle_destroy(HmPolicy *p)
{
    g_free(p);
}

static void shuffle_params_changed(HmPolicy *p)
{
    HmShuffle *s = container_of(p, HmShuffle, parent);

    if (s->seed != p->params.seed) {
        s->random = s->seed = p->params.seed;
    }
}

static size_t shuffle_plan(HmPolicy *p, HmMove *plan, size_t max)
{
    HmShuffle *s = container_of(p, HmShuffle, parent);
    uint32_t dram = hm_frames_tier_blocks(p->frames, HM_TIER_DRAM);
    uint32_t nvm = hm_frames_tier_blocks(p->frames, HM_TIER_NVM);
    size_t n = MIN(max, MIN(dram, nvm));
    Permutation up, down;

    permutation_init(&up, nvm, &s->random);
    permutation_init(&down, dram, &s->random);
    for (size_t i = 0; i < n; i++) {
        uint32_t from = hm_frames_tier_frame(p->frames, HM_TIER_NVM,
                                             permutation_at(&up, i));
        uint32_t to = hm_frames_tier_frame(p->frames, HM_TIER_DRAM,
                                           permutation_at(&down, i));

        plan[i].promote = hm_frames_block_in(p->frames, from);
        plan[i].demote = hm_frames_block_in(p->frames, to);
    }
    return n;
}

static size_t shuffle_bytes(const HmPolicy *p)
{
    return sizeof(HmShuffle);
}

const HmPolicyOps hm_policy_shuffle = {
    .name = "shuffle",
    .continuous = true,
    .create = shuffle_create,
    .destroy = shuffle_destroy,
    .plan = shuffle_plan,
    .params_changed = shuffle_params_changed,
    .bytes = shuffle_bytes,
};
