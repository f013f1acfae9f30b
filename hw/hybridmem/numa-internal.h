/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numa mover: what its files share.
 *
 *   attach-numa.c    options, seats, the range's NUMA policy, what is shown
 *   watch-numa.c     asks the kernel where pages are; quota
 *   relocate-numa.c  one batch; single blocks that must move
 *
 * A block is *over* if it has pages in dram but no dram seat, and *away* if
 * it has a dram seat and pages that are not in dram.
 */
#ifndef HYBRIDMEM_NUMA_INTERNAL_H
#define HYBRIDMEM_NUMA_INTERNAL_H

#include "hw/hybridmem/engine.h"

/* Most pages in one chunk of work, if a block is not larger. */
#define HM_NUMA_CHUNK 2048

struct HmNumaPlace {
    /* The engine's thread; before it starts and after its end the main loop. */
    HmNuma numa;
    HmResidency *where;
    uint64_t fast_end;          /* pages below it are new in dram */
    uint64_t next;              /* page that the sweep looks at next */
    double sweep_tokens;        /* pages */
    uint32_t hand;              /* dram seat, in search of vacant ones */
    uint32_t over_hand, away_hand;      /* blocks */
    /* Bit set: the block may be over, or away; cleared when it is not. */
    unsigned long *over, *away;
    uint64_t foreign_ever;      /* pages that others have moved */
    uint64_t foreign;           /* those of them not yet told */
    int64_t foreign_event_ns, pressure_event_ns;
    uint64_t settled;           /* pages, by the last attempt to settle */
    unsigned settle_wait, settle_backoff;       /* windows */
    bool settle_tried;
    bool quota_pending;
    /*
     * With it: pages in between may have been touched in dram since they were
     * looked at.
     */
    uint64_t recheck, recheck_end;
    uint64_t quota_asked;       /* bytes */

    /* Work of one chunk. */
    size_t chunk;               /* pages */
    uint64_t *page;
    HmPlace *place;
    HmNumaResult *result;

    /* Guarded by hm->lock. */
    uint64_t shown[HM_PLACE__MAX];      /* pages */
    uint64_t passes;
};

static inline uint64_t hm_numa_quota_pages(const Hybridmem *hm)
{
    return (uint64_t)hm_frames_tier_blocks(hm->frames, HM_TIER_DRAM) *
           hm->pages_per_block;
}

/* Pages of @block: fewer than pages_per_block in the last one, perhaps. */
static inline uint64_t hm_numa_block_pages(const Hybridmem *hm,
                                           uint32_t block)
{
    uint64_t first = (uint64_t)block * hm->pages_per_block;

    return MIN(hm->pages_per_block, hm->pages - first);
}

/* Records where the kernel says that @page is. */
void hm_numa_note(Hybridmem *hm, uint64_t page, HmPlace place, bool by_us);
/* Copies what is shown, under the lock. */
void hm_numa_publish(Hybridmem *hm);

/* HmMoverOps. */
void hm_numa_window(Hybridmem *hm, uint64_t elapsed_ms);
void hm_numa_rest(Hybridmem *hm);
void hm_numa_set_quota(Hybridmem *hm, uint64_t fast_size);
void hm_numa_relocate(Hybridmem *hm);
size_t hm_numa_settle(Hybridmem *hm, HmMove *moves, size_t max);

#endif
