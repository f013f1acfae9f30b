/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of policies, and the calls through it.
 */
#include "qemu/osdep.h"
#include "policy-internal.h"

static const HmPolicyOps *const policies[] = {
    &hm_policy_benefit,
    &hm_policy_write_heat,
    &hm_policy_temperature,
    &hm_policy_cmq,
    &hm_policy_manual,
    &hm_policy_none,
    &hm_policy_shuffle,
};

void hm_policy_params_init(HmPolicyParams *p)
{
    *p = (HmPolicyParams) {
        /*
         * With a half-life of 5 s a move must pay for itself within two
         * minutes (1.44 * 5 s / 0.0625).
         */
        .min_gain = 0.0625,
        .map_limit = 0,
        .read_cost = 1,
        .write_cost = 1,
        /* RAMinate's values. */
        .cmq_lifetime_ms = 5000,
        .cmq_cork_ms = 5000,
        .cmq_max_pairs = 1000,
        .seed = 1,
    };
}

const HmPolicyOps *hm_policy_nth(unsigned i)
{
    return i < ARRAY_SIZE(policies) ? policies[i] : NULL;
}

const HmPolicyOps *hm_policy_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
        if (g_str_equal(policies[i]->name, name)) {
            return policies[i];
        }
    }
    return NULL;
}

HmPolicy *hm_policy_new(const HmPolicyOps *ops, const HmFrames *frames,
                        const HmHeat *heat, const HmAccess *access,
                        const HmPolicyParams *params)
{
    HmPolicy *p;

    g_assert(hm_frames_blocks(frames) == hm_heat_blocks(heat));
    p = ops->create(frames, heat, access);
    p->ops = ops;
    p->frames = frames;
    p->heat = heat;
    p->access = access;
    hm_policy_set_params(p, params);
    return p;
}

void hm_policy_free(HmPolicy *p)
{
    if (p) {
        p->ops->destroy(p);
    }
}

void hm_policy_set_params(HmPolicy *p, const HmPolicyParams *params)
{
    p->params = *params;
    if (p->ops->params_changed) {
        p->ops->params_changed(p);
    }
}

bool hm_policy_accesses(const HmPolicy *p)
{
    return p->ops->accesses && p->ops->accesses(p);
}

const unsigned long *hm_policy_known(const HmPolicy *p,
                                     const unsigned long *written)
{
    return p->ops->knows_writes ? written : NULL;
}

void hm_policy_observe(HmPolicy *p, const HmWindow *w)
{
    if (p->ops->observe &&
        (w->sense == HM_SENSE_WRITES || hm_policy_accesses(p))) {
        p->ops->observe(p, w);
    }
}

size_t hm_policy_plan(HmPolicy *p, HmMove *plan, size_t max)
{
    return p->ops->plan ? p->ops->plan(p, plan, max) : 0;
}

void hm_policy_moved(HmPolicy *p, const HmMove *move, HmMoveResult result)
{
    if (p->ops->moved) {
        p->ops->moved(p, move, result);
    }
}

size_t hm_policy_bytes(const HmPolicy *p)
{
    return p->ops->bytes(p);
}
