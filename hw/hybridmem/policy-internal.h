/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What policy.c and the policies share.
 */
#ifndef HW_HYBRIDMEM_POLICY_INTERNAL_H
#define HW_HYBRIDMEM_POLICY_INTERNAL_H

#include "hw/hybridmem/policy.h"

extern const HmPolicyOps hm_policy_benefit;
extern const HmPolicyOps hm_policy_temperature;
extern const HmPolicyOps hm_policy_write_heat;
extern const HmPolicyOps hm_policy_cmq;
extern const HmPolicyOps hm_policy_shuffle;
extern const HmPolicyOps hm_policy_manual;
extern const HmPolicyOps hm_policy_none;

/* splitmix64: a small generator, good enough for samples and shuffles. */
static inline uint64_t hm_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* From 0 to @n - 1, n > 0; the bias of 2^-32 does no harm here. */
static inline uint32_t hm_random_below(uint64_t *state, uint32_t n)
{
    return ((hm_random(state) >> 32) * n) >> 32;
}

#endif
