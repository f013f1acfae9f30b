/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words shared by all rooms of the engine.
 *
 * page   a guest page, 4 KiB on x86 (the granule of the dirty log)
 * block  what moves at once: 2^k pages, numbered from 0 by guest offset
 * frame  a block-sized piece of a tier.  Frame number n is the piece that
 *        backed block n when the container was made ("home" of block n)
 * window one sampling period
 *
 * Plain C over GLib: nothing in here, nor in heat.h, frames.h and policy.h,
 * needs QEMU.
 */
#ifndef HW_HYBRIDMEM_TYPES_H
#define HW_HYBRIDMEM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum HmTier {
    HM_TIER_DRAM,
    HM_TIER_NVM,
    HM_TIER__MAX,
} HmTier;

/* Two blocks that are to exchange their places. */
typedef struct HmMove {
    uint32_t promote;       /* block, in nvm; goes to the frame of @demote */
    uint32_t demote;        /* block, in dram */
} HmMove;                   /* one may be HM_BLOCK_NONE: see HmMoverOps */

/* What became of a move.  HM_MOVE_DONE is the only one that moved data. */
typedef enum HmMoveResult {
    HM_MOVE_DONE,
    HM_MOVE_PINNED,         /* a device holds a mapping of one of the blocks */
    HM_MOVE_BUSY,           /* the guest could not be held in time */
    HM_MOVE_BUDGET,         /* no budget left in this window */
    HM_MOVE_MAP_LIMIT,      /* would need more mappings than allowed */
    HM_MOVE_STALE,          /* placement changed since the plan was made */
    HM_MOVE_NO_MEMORY,      /* the host has none left on the nodes */
    HM_MOVE_FAILED,         /* copy or mapping failed; old mapping intact */
    HM_MOVE__MAX,
} HmMoveResult;

#define HM_BLOCK_NONE UINT32_MAX

#endif
