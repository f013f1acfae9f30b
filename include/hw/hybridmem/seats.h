/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames as seats: for memory that the host's kernel places.
 *
 * There a block has no frame of its own; what it has is a seat, in dram or in
 * nvm, that says where it is entitled to be.  There are as many seats as
 * blocks, and as many dram seats as the quota has blocks, so that policies
 * see what they see of real frames: an exchange of two blocks.  A dram seat
 * whose block is not in dram is vacant; a policy finds it as a cold victim.
 *
 * Plain C over GLib.
 */
#ifndef HW_HYBRIDMEM_SEATS_H
#define HW_HYBRIDMEM_SEATS_H

#include "hw/hybridmem/frames.h"

/*
 * @blocks seats, the first @dram of them in dram.  Blocks with their bit set
 * in @first get dram seats, as far as there are any; the lowest ones, if not
 * all can.  NULL: nobody is preferred.
 */
HmFrames *hm_seats_new(uint32_t blocks, uint32_t dram,
                       const unsigned long *first);

/* Exchanges the seats of two blocks. */
void hm_seats_swap(HmFrames *fr, uint32_t a, uint32_t b);

#endif
