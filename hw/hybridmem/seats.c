/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames as seats.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/seats.h"
#include "qemu/bitops.h"

void hm_seats_swap(HmFrames *fr, uint32_t a, uint32_t b)
{
    HmCycle swap = { .n = 2, .block = { a, b } };

    hm_frames_apply(fr, &swap);
}

HmFrames *hm_seats_new(uint32_t blocks, uint32_t dram,
                       const unsigned long *first)
{
    HmExtent ext[HM_TIER__MAX] = {
        { 0, dram, HM_TIER_DRAM, true },
        { dram, blocks - dram, HM_TIER_NVM, true },
    };
    unsigned from = dram == 0, n = 1 + (dram > 0 && dram < blocks);
    HmFrames *fr = hm_frames_new(ext + from, n);
    uint64_t guest = 0, owner = dram;

    if (!first) {
        return fr;
    }
    /* Each owner beyond the dram seats takes that of the next guest there. */
    while ((owner = find_next_bit(first, blocks, owner)) < blocks &&
           (guest = find_next_zero_bit(first, dram, guest)) < dram) {
        hm_seats_swap(fr, owner++, guest++);
    }
    return fr;
}
