/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way back: hot blocks leave a dram that is too busy (balance.h), and cold
 * ones take their places.
 *
 * What dram is worth is reckoned from a sample of its blocks.  Those of the
 * sample that are worth most go first, for that takes the fewest copies, as
 * long as they are clearly worth more than who comes for them.
 */
#ifndef HYBRIDMEM_RETREAT_H
#define HYBRIDMEM_RETREAT_H

#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/isotonic.h"
#include "leave.h"

typedef struct HmRetreat HmRetreat;

/* What it is worth, in a window, to have @block in dram. */
typedef HmExpected HmWorth(void *opaque, uint32_t block);

/* @frames and @leave must outlive it. */
HmRetreat *hm_retreat_new(const HmFrames *frames, HmLeave *leave);
void hm_retreat_free(HmRetreat *r);
size_t hm_retreat_bytes(const HmRetreat *r);

/* All that is in dram, about. */
double hm_retreat_worth(HmRetreat *r, HmWorth *worth, void *opaque);

/*
 * Writes to @plan at most @max moves, that take at most @part of it out of
 * dram: less what comes for it.
 */
size_t hm_retreat_plan(HmRetreat *r, double part, uint64_t map_limit,
                       HmWorth *worth, void *opaque, HmMove *plan,
                       size_t max);

#endif
