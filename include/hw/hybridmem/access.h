/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often each block is accessed, and which blocks to look at next.
 *
 * Theory.  To look at a block costs the guest a page fault for each of its
 * pages that it uses, so not all are looked at in each window.  The rate of a
 * block is the part of its pages that is accessed in a window: a mean over
 * its looks, in which a look that follows w windows of leave weighs
 * 1 - 2^(-w / half-life), but no more than a half: where looks are few one
 * would decide alone, and a page that is used now and then would pass for
 * one that always is.  A rate does not decay while nobody looks, for nothing
 * is learnt then.
 *
 * Who is looked at: the multi-level queue of HMM-V (arXiv 2209.13111).  A
 * block of level n is left alone for 2^n windows.  It rises when it is found
 * as it was found before, accessed or not, and falls when it is not.  What
 * was not accessed rises to LEVEL_COLD only, so that a block that becomes hot
 * is seen soon; it costs the guest nothing to look at it.  While looking costs
 * less than half of what it may, all leave is cut in half, again and again;
 * when it costs too much, it is given back.
 *
 * While calm, nobody has a use for haste: leave is kept in full, and at most
 * one block in 2^LEVEL_COLD is looked at in a window, or those that haste had
 * looked at together would come together again.  These are taken from all of
 * RAM, so that a hot set is seen wherever it is.  Haste is kept for later.
 *
 * A rate is a noisy measure: of blocks that are all accessed equally often
 * some show a higher one.  What is to be expected of a block is therefore
 * learned: at each look, what was found is added to the mean of all blocks
 * that had this rate, and that the look before had found accessed, or not:
 * blocks of a hot set that has moved away still have their rate.  A block's
 * first look counts for nothing, as nothing was known of it.  The means
 * are made to grow with the rate by isotonic regression (isotonic.h), and fade
 * with time.
 *
 * The log tells for nothing who is written.  Who has a use for that tells which
 * pages were written just before: then no block is looked at of which all were,
 * and rates and all else here are of pages that are not written: of those that
 * are read.  Otherwise they are of all accesses.
 *
 * Not thread-safe.  No clock: time comes in as windows.
 */
#ifndef HW_HYBRIDMEM_ACCESS_H
#define HW_HYBRIDMEM_ACCESS_H

#include "hw/hybridmem/isotonic.h"
#include "hw/hybridmem/types.h"
#include "hw/hybridmem/window.h"

typedef struct HmAccess HmAccess;

/*
 * @pages: guest pages covered; the last block may be partly filled.
 * @pages_per_block: power of two.
 */
HmAccess *hm_access_new(uint64_t pages, uint32_t pages_per_block);
void hm_access_free(HmAccess *a);

/* In windows, > 0; the default is HM_ACCESS_HALF_LIFE. */
#define HM_ACCESS_HALF_LIFE 5
void hm_access_set_half_life(HmAccess *a, double windows);

/*
 * Is a block that is not accessed as dear to look at as one that is?  So it
 * is where dropped pages are mapped again by who looks.
 */
void hm_access_set_cold_costs(HmAccess *a, bool costs);

/* Pages that one page fault maps: those of a huge page; 1 by default. */
void hm_access_set_fault_pages(HmAccess *a, uint32_t pages);

/* Have windows become fewer, because (almost) nothing needs to move? */
void hm_access_set_calm(HmAccess *a, bool calm);

/*
 * Begins a window: writes to @block the blocks to look at, ascending, with
 * their weights (see HmWindow), at most @max.  Stops before those would have
 * the guest make more than @max_faults page faults, going by what was found
 * the last time; what is too little for the next block is kept for the next
 * window.  Blocks that had to wait come first then.  @known: see HmWindow.
 */
size_t hm_access_pick(HmAccess *a, const unsigned long *known,
                      uint32_t *block, uint8_t *weight, size_t max,
                      uint64_t max_faults);

/* Ends the window: learns what it has shown of the blocks that were picked. */
void hm_access_window(HmAccess *a, const HmWindow *w);

/* Part of the block's pages accessed in a window, 0 to 1; 0 if never seen. */
double hm_access_rate(const HmAccess *a, uint32_t block);

/*
 * Part of its pages that the last look found accessed, to a seventh; 0 only
 * if none was.  Other than the rate it holds nothing of the looks before: it
 * tells what became of blocks that were chosen for their rate.
 */
double hm_access_found(const HmAccess *a, uint32_t block);

/* Of the block's pages, in a window. */
HmExpected hm_access_expected(const HmAccess *a, uint32_t block);

/*
 * The least rate such that at most @n blocks have it or more, to within a
 * bucket of an eighth of a doubling: "the hottest n blocks".  0 if no more
 * than @n have a rate.
 */
double hm_access_threshold(const HmAccess *a, uint32_t n);

uint32_t hm_access_blocks(const HmAccess *a);
size_t hm_access_bytes(const HmAccess *a);

#endif
