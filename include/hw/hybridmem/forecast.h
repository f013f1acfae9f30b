/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much of a block will be written in the next window, learned from what
 * became of blocks like it.
 *
 * Theory.  A temperature says how often a block was written; whether it goes
 * on is another question, and the answer is the guest's: pages that a
 * compiler has filled once, pages of a hot set that has just moved away and
 * pages that are written at random may have the same temperature.  So in each
 * window a sample of blocks is remembered: blocks written just now, blocks in
 * dram, and any.  When the next window ends, what part of each was written is
 * added to the mean of its class: its temperature in buckets, and whether it
 * was written in the window before.  Old windows fade, so that the means
 * follow the guest.
 *
 * A hotter block is worth no less than a colder one: the means of a class are
 * made to grow with temperature by isotonic regression (isotonic.h).  That
 * takes out most of the noise, fills buckets of which nothing is known, and is
 * what makes a guest that writes everywhere evenly look even: of the spread of
 * its temperatures, which is chance, nothing is left.
 *
 * Not thread-safe.  No clock.
 */
#ifndef HW_HYBRIDMEM_FORECAST_H
#define HW_HYBRIDMEM_FORECAST_H

#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/heat.h"
#include "hw/hybridmem/isotonic.h"

typedef struct HmForecast HmForecast;

/* Blocks remembered in a window. */
#define HM_FORECAST_SAMPLES 1024

/* Both must outlive it. */
HmForecast *hm_forecast_new(const HmFrames *frames, const HmHeat *heat);
void hm_forecast_free(HmForecast *f);

/*
 * A window has ended and heat knows it.  In this order: _begin learns from
 * the blocks remembered (@dirty as for hm_heat_window()); _written is told
 * all blocks written in the window, in as many calls as the caller likes;
 * _end has others remembered.  A block that has changed its frame is not
 * learned from: what the log says of it is our own doing.
 */
void hm_forecast_begin(HmForecast *f, const unsigned long *dirty);
void hm_forecast_written(HmForecast *f, const uint32_t *block, size_t n);
void hm_forecast_end(HmForecast *f);

/*
 * What part of the block will be written in the next window.  @rank: its
 * rank now.
 */
HmExpected hm_forecast(const HmForecast *f, uint32_t block, uint32_t rank);

/* Was it in the last window? */
bool hm_forecast_was_written(const HmForecast *f, uint32_t block);

/*
 * The lowest rank of a block written in the last window of which @part is
 * expected, less the error; UINT32_MAX if there is none.
 */
uint32_t hm_forecast_rank(const HmForecast *f, double part);

size_t hm_forecast_bytes(const HmForecast *f);

#endif
