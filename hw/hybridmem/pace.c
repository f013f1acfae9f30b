/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often to sample.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/pace.h"

/* The longest interval there is, of the shortest, is less than 2^19. */
#define DOUBLED_MAX 20

/* By this factor, and so many pages, clearly more. */
#define MORE 1.5
#define SLACK 16

static void seen(HmPace *p, uint64_t nvm_pages, double expected)
{
    p->changed |= nvm_pages > MORE * expected + SLACK;
}

void hm_pace_writes(HmPace *p, uint64_t nvm_pages)
{
    seen(p, nvm_pages, p->usual);
    p->usual += (nvm_pages - p->usual) / HM_PACE_USUAL;
}

void hm_pace_reads(HmPace *p, uint64_t nvm_pages, double expected)
{
    seen(p, nvm_pages, expected);
}

static uint32_t shortest(uint32_t window)
{
    return MIN(window, HM_PACE_SHORTEST_MS);
}

uint32_t hm_pace_length(const HmPace *p, uint32_t window)
{
    return MAX(window >> p->halved, shortest(window));
}

void hm_pace_written(HmPace *p, uint32_t window, uint64_t pages,
                     uint64_t dram)
{
    double before = hm_pace_length(p, window);

    if (pages < dram / 2 && p->halved) {
        p->halved--;
    }
    for (; pages > 2 * dram && p->halved < HM_PACE_HALVINGS &&
         hm_pace_length(p, window) > shortest(window); pages /= 2) {
        p->halved++;
    }
    p->usual *= hm_pace_length(p, window) / before;
}

void hm_pace_reset(HmPace *p)
{
    p->calm = p->doubled = 0;
}

void hm_pace_window(HmPace *p, uint64_t wanted, uint64_t dram)
{
    if (p->changed || wanted > dram / HM_PACE_FEW) {
        hm_pace_reset(p);
    } else if (++p->calm == HM_PACE_CALM) {
        p->calm = 0;
        p->doubled = MIN(p->doubled + 1, DOUBLED_MAX);
    }
    p->changed = false;
}

uint32_t hm_pace_interval(const HmPace *p, uint32_t interval, uint32_t most)
{
    uint64_t paced = (uint64_t)interval << p->doubled;

    return MAX(interval, MIN(paced, most));
}
