/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is dram still the faster tier, under the load that it has?
 *
 * Theory.  Memory answers later the more of it is asked.  When all that is hot
 * lies in dram, dram may be so busy that it answers later than nvm does; then
 * to bring more there makes the guest slower.  Accesses cost least in sum when
 * both tiers answer equally soon: Colloid (Vuppalapati and Agarwal, SOSP
 * 2024), which reads latencies from counters of a family of processors.  Here
 * they are given by who measures them, with noise, once in a window.
 *
 * What is looked at is x = log(latency of dram / latency of nvm), a mean over
 * the windows since placement was last changed by our order, with the
 * standard error that windows differ by.
 *
 *   x clearly below -BAND      dram is faster: no limit.  So it begins.
 *   otherwise                  it is limited from here on: held, that is,
 *                              nothing goes to dram, and
 *     x clearly above BAND     a step back: hot blocks leave dram
 *     x clearly below -BAND    a step forth: some may come
 *
 * A step is a part of what dram is worth, so Colloid's share of accesses does
 * not have to be measured.  After each one it is measured anew, so that a
 * step is never an answer to what the last one has already mended.  A step in
 * the other direction than the last is half of it, which closes in on the
 * balance as Colloid's bisection does; the third in one direction, and each
 * after it, is twice the last, for then the load has changed.  When
 * steps forth have grown to half of what dram is worth there is no limit any
 * more.
 *
 * Pure: no clock, no lock, no I/O.  Not thread-safe.
 */
#ifndef HW_HYBRIDMEM_BALANCE_H
#define HW_HYBRIDMEM_BALANCE_H

#include "hw/hybridmem/types.h"

typedef enum HmBalanceState {
    HM_BALANCE_UNKNOWN,         /* not measured: no limit */
    HM_BALANCE_FREE,            /* dram is faster: no limit */
    HM_BALANCE_HELD,            /* nothing goes to dram */
    HM_BALANCE_ADVANCE,         /* a step forth */
    HM_BALANCE_RETREAT,         /* a step back */
    HM_BALANCE__MAX,
} HmBalanceState;

/*
 * What one plan may change, as parts of what all blocks in dram are worth in
 * a window, 0 to 1.  Without @limited, as it was before there was a balance.
 */
typedef struct HmBalanceLimit {
    bool limited;
    double advance;             /* gain of promotions, at most */
    double retreat;             /* worth of hot blocks that leave, at most */
} HmBalanceLimit;

typedef struct HmBalance {
    HmBalanceState state;
    double latency[HM_TIER__MAX];       /* ns, smoothed; 0: not known */
    uint64_t windows;           /* in which both tiers were measured */
    uint64_t retreats;          /* steps back */
    /* Private. */
    double ratio;               /* x since the last step */
    double last[2];             /* x of the last windows, newest first */
    double noise;               /* variance of one window's x */
    unsigned n;                 /* windows since the last step */
    unsigned unmeasured;        /* windows in a row */
    double step;
    HmBalanceState direction;   /* of the last step; UNKNOWN: none yet */
    unsigned run;               /* steps in that direction */
} HmBalance;

void hm_balance_init(HmBalance *b);

/*
 * A window has ended, in which the tiers took @ns for an access.  What is not
 * a number above 0 was not measured.  After HM_BALANCE_LOST such windows in a
 * row it begins anew.
 */
#define HM_BALANCE_LOST 16
void hm_balance_window(HmBalance *b, const double ns[HM_TIER__MAX]);

/* For the plan that follows this window. */
HmBalanceLimit hm_balance_limit(const HmBalance *b);

#endif
