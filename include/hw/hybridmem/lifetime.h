/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For how long moves keep what they promise, learned from earlier ones.
 *
 * Theory.  A move promises a gain for each window.  How long that lasts is
 * the guest's doing: its heat may go on for the whole run, or be over in the
 * next window.  So moves are watched for up to HM_LIFETIME_WINDOWS windows,
 * and at each age what they saved in that window is divided by what they had
 * promised.  With few moves of that age, the quotient leans towards that of
 * the age before, less what a half-life takes.  The sum over all ages is the
 * lifetime: how many windows' worth of its promise a move brings.  A block
 * that has been demoted again saves nothing more.
 *
 * Strong heat and faint heat live differently long, so moves are grouped by
 * their promise, in doublings; neighbouring groups count a little.  And a
 * move in place of a block that is of no use is another thing than one in
 * place of a block that is in use, too, where two guesses are compared and
 * the better looking one is taken: it disappoints more often.  A guest makes
 * mostly moves of the first kind, then of the second; what is known of the
 * one says nothing about the other, so they are kept apart.  Old windows fade.
 *
 * Of many moves in a window some are watched, each with equal odds: plans
 * begin with the best.
 *
 * Not thread-safe.  No clock.
 */
#ifndef HW_HYBRIDMEM_LIFETIME_H
#define HW_HYBRIDMEM_LIFETIME_H

#include "hw/hybridmem/frames.h"

typedef struct HmLifetime HmLifetime;

#define HM_LIFETIME_WINDOWS 64

/* @frames must outlive it. */
HmLifetime *hm_lifetime_new(const HmFrames *frames);
void hm_lifetime_free(HmLifetime *l);
size_t hm_lifetime_bytes(const HmLifetime *l);

/*
 * @move was made, for @promise > 0 in each window; 1 is the usual most.
 * @in_use: what it demotes is in use, too.
 */
void hm_lifetime_add(HmLifetime *l, const HmMove *move, double promise,
                     bool in_use);

/* @block leaves dram, and not because it had cooled: that tells nothing. */
void hm_lifetime_forget(HmLifetime *l, uint32_t block);

/*
 * A window has ended: @worth says what having @block in dram was worth in it,
 * in the unit of promises.  @horizon: windows to expect of a move of which
 * nothing is known, > 0.
 */
void hm_lifetime_window(HmLifetime *l, double horizon,
                        double (*worth)(void *opaque, uint32_t block),
                        void *opaque);

/* Windows' worth of @promise that a move will bring. */
double hm_lifetime(const HmLifetime *l, double promise, bool in_use);

#endif
