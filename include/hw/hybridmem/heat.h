/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A temperature per block, from windows of dirty pages.
 *
 * Theory.  The temperature of a block is the number of its dirty pages seen
 * per window, summed over all windows, each weighted by 2^(-age/half_life).
 * All temperatures decay by the same factor, so their order never changes by
 * ageing.  We therefore store not T but s = now + log2(T), with `now'
 * counted in half-lives: a block that is not touched needs no work, a block
 * that is touched gets s' = now + log2(2^(s - now) + n).  (Exponential decay
 * in the log domain; cf. forward decay, Cormode et al., ICDE 2009.)
 * s is kept as 16 bits of fixed point, in steps of 1/256 of a doubling (a
 * step is 0.27 % of T); it is re-based when it nears the end of its range,
 * in O(blocks), about once in 200 half-lives.
 *
 * What a window adds to a hot block may be less than a step.  It is rounded
 * up or down at random (from a generator with a fixed seed), with odds that
 * make the mean exact: nothing is lost, and T wanders by a percent or so.
 *
 * A block is `cold' (rank 0) if it was never seen dirty or has cooled to a
 * temperature of 2^-16 or below; temperatures end at 2^32.
 *
 * Buckets.  A histogram counts blocks by s, in eighths of a doubling, kept
 * up to date in O(1) per touched block, so that a policy finds how hot the
 * hottest N blocks are without looking at blocks.
 *
 * Not thread-safe.  No clock: time comes in.
 */
#ifndef HW_HYBRIDMEM_HEAT_H
#define HW_HYBRIDMEM_HEAT_H

#include "hw/hybridmem/types.h"

typedef struct HmHeat HmHeat;

/*
 * @pages: guest pages covered; the last block may be partly filled.
 * @pages_per_block: power of two.  @half_life_ms: > 0.
 */
HmHeat *hm_heat_new(uint64_t pages, uint32_t pages_per_block,
                    uint64_t half_life_ms);
void hm_heat_free(HmHeat *h);

/* Takes effect from the next window on; temperatures are kept. */
void hm_heat_set_half_life(HmHeat *h, uint64_t half_life_ms);
uint64_t hm_heat_half_life(const HmHeat *h);

/*
 * One window.  @dirty: bit n set = page n was written (may not be NULL; an
 * array of unsigned long, bit 0 of word 0 first).  @elapsed_ms: since the
 * last window ended.
 */
void hm_heat_window(HmHeat *h, const unsigned long *dirty,
                    uint64_t elapsed_ms);

/* Ages only (a window about which nothing is known). */
void hm_heat_age(HmHeat *h, uint64_t elapsed_ms);

uint64_t hm_heat_pages(const HmHeat *h);
uint32_t hm_heat_blocks(const HmHeat *h);
uint32_t hm_heat_pages_per_block(const HmHeat *h);

/* Decayed count of dirty pages, as of the last window. 0 if cold. */
double hm_heat_temperature(const HmHeat *h, uint32_t block);

/*
 * Temperature in steps of 1/HM_HEAT_STEPS of a doubling, comparable between
 * blocks at one time: 0 = cold, higher = hotter.
 */
#define HM_HEAT_STEPS 256
uint32_t hm_heat_rank(const HmHeat *h, uint32_t block);
/* The same for @n blocks at once; faster, as memory is fetched ahead. */
void hm_heat_ranks(const HmHeat *h, const uint32_t *block, uint32_t *rank,
                   size_t n);
/* The temperature that a rank stands for, and back (rounded down). */
double hm_heat_rank_to_temperature(const HmHeat *h, uint32_t rank);
uint32_t hm_heat_temperature_to_rank(const HmHeat *h, double t);

/*
 * The least rank (rounded to a bucket's lower edge) such that at most @n
 * blocks have it or more: what "the hottest n blocks" means.  At least 1.
 * O(buckets).  The bucket that holds the n-th hottest block, if blocks
 * are so equal that it also holds others, begins HM_HEAT_BUCKET_STEPS lower.
 */
#define HM_HEAT_BUCKET_STEPS (HM_HEAT_STEPS / 8)
uint32_t hm_heat_threshold(const HmHeat *h, uint32_t n);

size_t hm_heat_bytes(const HmHeat *h);

#endif
