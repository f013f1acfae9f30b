/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A policy makes a plan from heat, placement and elapsed time: a list of
 * moves, most worthwhile first.  Pure: no clock, no lock, no I/O, no QEMU.
 *
 * To add one: a new file policy-NAME.c that defines a const HmPolicyOps, a
 * line in policy.c's table, and a name in qapi/hybridmem.json.
 */
#ifndef HW_HYBRIDMEM_POLICY_H
#define HW_HYBRIDMEM_POLICY_H

#include "hw/hybridmem/types.h"
#include "hw/hybridmem/access.h"
#include "hw/hybridmem/balance.h"
#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/heat.h"
#include "hw/hybridmem/window.h"

/* Every parameter of every policy; each policy reads what it needs. */
typedef struct HmPolicyParams {
    /*
     * write-heat: page writes that a move must save, in 1.44 half-lives, per
     * page that it copies into nvm; benefit: the worth of such pages, in as
     * many windows as moves have been found to last; >= 0
     */
    double min_gain;
    /*
     * benefit: what it costs, over dram, to read the lines of a page in nvm,
     * and to write them back there; >= 0, in any one unit
     */
    double read_cost, write_cost;
    /* benefit: what the next plan may change */
    HmBalanceLimit limit;
    /* write-heat: that of the mover, to know what a move copies; 0: none */
    uint64_t map_limit;
    uint64_t cmq_lifetime_ms;   /* cmq: idle time before a level is lost */
    uint64_t cmq_cork_ms;       /* cmq: time between two plans */
    uint32_t cmq_max_pairs;     /* cmq: most pairs in one plan */
    uint64_t seed;              /* shuffle: of its random numbers */
} HmPolicyParams;

/* The defaults, also those of the QAPI schema. */
void hm_policy_params_init(HmPolicyParams *p);

typedef struct HmPolicy HmPolicy;
typedef struct HmPolicyOps HmPolicyOps;

/* First member of every policy's own struct. */
struct HmPolicy {
    const HmPolicyOps *ops;
    const HmFrames *frames;     /* read only; owned by the engine */
    const HmHeat *heat;         /* by writes; read only, the engine's */
    const HmAccess *access;     /* likewise; NULL: accesses are not seen */
    HmPolicyParams params;
};

struct HmPolicyOps {
    const char *name;

    /* Plans again at once when a plan is carried out, without a window. */
    bool continuous;

    /*
     * No plan means that nothing would be gained, and will not be soon: then
     * windows may be fewer (pace.h).
     */
    bool settles;

    /*
     * Has it a use for accesses, with these parameters?  If not, it gets no
     * windows of them.  NULL: never.
     */
    bool (*accesses)(const HmPolicy *p);

    /*
     * Of accesses it wants to know of pages only that were not written in the
     * window before: HmWindow.known.  Its windows of writes also have pages of
     * which the log cannot tell whether they were written or read, for it was
     * their first use since somebody had looked at them.
     */
    bool knows_writes;

    /* Keeps to HmPolicyParams.limit. */
    bool balances;

    /* Never plans; sampling goes on. */
    bool passive;

    /* Allocates; the caller has filled nothing, hm_policy_new() does. */
    HmPolicy *(*create)(const HmFrames *frames, const HmHeat *heat,
                        const HmAccess *access);

    void (*destroy)(HmPolicy *p);

    /*
     * One window has ended, and @p->heat, or @p->access, knows it already.
     * One of accesses comes after one of writes.  May be NULL.
     */
    void (*observe)(HmPolicy *p, const HmWindow *w);

    /*
     * Writes at most @max moves to @plan, most worthwhile first; no block
     * appears twice.  Returns their number.  May be NULL.  Must take no
     * longer than is needed to look at the candidates: no walk over all
     * blocks.
     */
    size_t (*plan)(HmPolicy *p, HmMove *plan, size_t max);

    /*
     * A planned move was carried out, or not; every planned move is told,
     * and those made by others (manual ones) may be.  Frames are up to date.
     * May be NULL.
     */
    void (*moved)(HmPolicy *p, const HmMove *move, HmMoveResult result);

    /* Parameters in @p->params have changed.  May be NULL. */
    void (*params_changed)(HmPolicy *p);

    /* Bytes of its own metadata. */
    size_t (*bytes)(const HmPolicy *p);
};

/* NULL if there is none of that name. */
const HmPolicyOps *hm_policy_find(const char *name);
/* The i-th, or NULL past the last: for help texts and tests. */
const HmPolicyOps *hm_policy_nth(unsigned i);

HmPolicy *hm_policy_new(const HmPolicyOps *ops, const HmFrames *frames,
                        const HmHeat *heat, const HmAccess *access,
                        const HmPolicyParams *params);
void hm_policy_free(HmPolicy *p);
void hm_policy_set_params(HmPolicy *p, const HmPolicyParams *params);
bool hm_policy_accesses(const HmPolicy *p);
/* HmWindow.known of the next window of accesses; @written: before it. */
const unsigned long *hm_policy_known(const HmPolicy *p,
                                     const unsigned long *written);
void hm_policy_observe(HmPolicy *p, const HmWindow *w);
size_t hm_policy_plan(HmPolicy *p, HmMove *plan, size_t max);
void hm_policy_moved(HmPolicy *p, const HmMove *move, HmMoveResult result);
size_t hm_policy_bytes(const HmPolicy *p);

#endif
