/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that a policy leaves alone for some windows, and a clock hand over
 * the others in dram.
 *
 * A block that has moved is not sampled in the next window or two, and looks
 * as if it were not used; so it is not demoted in the first four to eight.  A
 * block that could not be moved rests for eight.
 */
#ifndef HYBRIDMEM_LEAVE_H
#define HYBRIDMEM_LEAVE_H

#include "hw/hybridmem/frames.h"

typedef struct HmLeave HmLeave;

/* @frames must outlive it. */
HmLeave *hm_leave_new(const HmFrames *frames);
void hm_leave_free(HmLeave *l);
size_t hm_leave_bytes(const HmLeave *l);

/* A window has ended. */
void hm_leave_window(HmLeave *l);
void hm_leave_promoted(HmLeave *l, uint32_t block);
void hm_leave_failed(HmLeave *l, uint32_t block);

bool hm_leave_rests(const HmLeave *l, uint32_t block);

/*
 * Passes the next @n dram frames, of which there must be some; writes to
 * @block those blocks there that were not promoted just now.
 */
size_t hm_leave_victims(HmLeave *l, uint32_t *block, size_t n);

#endif
