/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often to sample.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/pace.h"

/* The longest interval there is, of the shortest, is less than 2^19. */
#define DOUBLED_MAX 20

void hm_pace_window(HmPace *p, uint64_t wanted, uint64_t dram)
{
    if (wanted > dram / HM_PACE_FEW) {
        *p = (HmPace) { };
    } else if (++p->calm == HM_PACE_CALM) {
        p->calm = 0;
        p->doubled = MIN(p->doubled + 1, DOUBLED_MAX);
    }
}

uint32_t hm_pace_interval(const HmPace *p, uint32_t interval, uint32_t most)
{
    uint64_t paced = (uint64_t)interval << p->doubled;

    return MAX(interval, MIN(paced, most));
}
