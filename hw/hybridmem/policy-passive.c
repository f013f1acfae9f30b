/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Policies that never plan: `none' leaves the placement alone, `manual'
 * leaves it to whoever sends hybridmem-swap.
 */
#include "qemu/osdep.h"
#include "policy-internal.h"

static HmPolicy *passive_create(const HmFrames *frames, const HmHeat *heat,
                                const HmAccess *access)
{
    return g_new0(HmPolicy, 1);
}

static void passive_destroy(HmPolicy *p)
{
    g_free(p);
}

static size_t passive_bytes(const HmPolicy *p)
{
    return sizeof(*p);
}

const HmPolicyOps hm_policy_manual = {
    .name = "manual",
    .passive = true,
    .create = passive_create,
    .destroy = passive_destroy,
    .bytes = passive_bytes,
};

const HmPolicyOps hm_policy_none = {
    .name = "none",
    .passive = true,
    .create = passive_create,
    .destroy = passive_destroy,
    .bytes = passive_bytes,
};
