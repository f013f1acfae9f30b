/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holds everything that may write guest memory: vCPUs and I/O threads.
 *
 * vCPU threads are parked by a work item each, I/O threads by a bottom half
 * in their event loops.  (Not pause_all_vcpus(): another thread's
 * resume_all_vcpus() would let the guest go under our hands, and there is no
 * time limit.)  What is left has no thread of its own: I/O in flight, which
 * the kernel does by physical address, and which pins.h tells of.
 *
 * Main loop only, BQL held; the BQL is dropped while waiting for vCPUs,
 * because they may need it on their way to us.  Top level of the main loop
 * only, so that nobody up the stack waits for one of these threads.
 */
#ifndef HW_HYBRIDMEM_HOLD_H
#define HW_HYBRIDMEM_HOLD_H

#include "qemu/osdep.h"

typedef struct HmHold HmHold;

/*
 * Returns NULL, with all of them running again, if one could not be parked
 * within @timeout_ms.
 */
HmHold *hm_hold_begin(unsigned timeout_ms);
void hm_hold_end(HmHold *hold);

#endif
