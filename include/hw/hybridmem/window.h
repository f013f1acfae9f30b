/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a sampling window has shown.
 *
 * The two senses are never awake at the same time: the dirty log tells
 * writes, and dropped page-table entries tell any access.  After a drop the
 * first access to a page looks like a write (see access-sampler.h), so their
 * windows alternate.
 */
#ifndef HW_HYBRIDMEM_WINDOW_H
#define HW_HYBRIDMEM_WINDOW_H

#include "hw/hybridmem/types.h"

typedef enum HmSense {
    HM_SENSE_WRITES,
    HM_SENSE_ACCESSES,          /* reads and writes */
    HM_SENSE__MAX,
} HmSense;

typedef struct HmWindow {
    HmSense sense;
    /* Bit n set = page n was written, or touched; bit 0 of word 0 first. */
    const unsigned long *seen;
    /*
     * The blocks that were watched, ascending: @seen has no bits of others.
     * NULL: all were.
     */
    const uint32_t *watched;
    /*
     * Of watched[i]: how many windows this one stands for, as the block was
     * left alone in those before; >= 1.
     */
    const uint8_t *weight;
    size_t n_watched;
    /*
     * Of accesses: the pages that were written before, so that nothing is to
     * be learnt of them; or that look so, because they had just been moved.
     * NULL: none.
     */
    const unsigned long *known;
    uint64_t elapsed_ms;        /* since the last window of this sense */
} HmWindow;

#endif
