/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which frame backs which block: a permutation that can be verified.
 *
 * Not thread-safe; the owner serialises.  Costs 8 bytes a block (both
 * directions of the permutation).  They are kept as differences from the
 * identity, so the host kernel provides memory only where blocks have moved.
 *
 * Mappings.  Blocks b and b+1 lie in one mapping (VMA) of the host process
 * if their frames are neighbours in the same extent.  hm_frames_mappings()
 * is the exact number of mappings that the container's range needs.  An
 * extent that is not @mergeable (VM_SPECIAL, such as /dev/mem) never merges
 * again once split, so there a boundary counts for ever after its first cut.
 * A block that is mapped anew cuts the boundaries on both of its sides.
 *
 * Homing.  An exchange of a nvm block B with a dram block V is a cycle of
 * two: V takes the frame of B.  If V is at home in nvm, that makes V a stray,
 * an nvm-home block in a foreign nvm frame, and mappings would grow without
 * bound as the hot set wanders.  The cycle of three sends V home, and who
 * sits there (X) to the frame of B; it makes no stray.  Without strays, every
 * nvm frame holds its own block or a dram-home block: at most three mappings
 * per dram block.  Each stray may add two.
 *
 * hm_frames_plan_cycle() takes the cheap cycle of two while that bound,
 * counted with the strays that there are, stays within the limit; else the
 * cycle of three; else it refuses.  It is the bound that must fit, not only
 * the present count: else strays use up the limit, and then cycles of three
 * are refused as well.  With a limit of hm_frames_worst_mappings() or more,
 * an exchange between the tiers is never refused.
 */
#ifndef HW_HYBRIDMEM_FRAMES_H
#define HW_HYBRIDMEM_FRAMES_H

#include "hw/hybridmem/types.h"

typedef struct HmFrames HmFrames;

/* Frames [first, first + blocks) of one tier, contiguous in one file. */
typedef struct HmExtent {
    uint32_t first;
    uint32_t blocks;
    HmTier tier;
    bool mergeable;
} HmExtent;

#define HM_CYCLE_MAX 3

/* More than any machine has; a bound for hm_frames_worst_mappings(). */
#define HM_EXTENTS_MAX 64

/* block[i] takes the frame that block[(i + 1) % n] has now. */
typedef struct HmCycle {
    unsigned n;
    uint32_t block[HM_CYCLE_MAX];
} HmCycle;

/*
 * @ext: @n_ext extents (1 to HM_EXTENTS_MAX), ascending, not empty, without
 * gap or overlap, the first from frame 0.  They are copied.  Starts as the
 * identity.
 */
HmFrames *hm_frames_new(const HmExtent *ext, unsigned n_ext);
void hm_frames_free(HmFrames *fr);

uint32_t hm_frames_blocks(const HmFrames *fr);
uint32_t hm_frames_tier_blocks(const HmFrames *fr, HmTier tier);
uint32_t hm_frames_frame_of(const HmFrames *fr, uint32_t block);
uint32_t hm_frames_block_in(const HmFrames *fr, uint32_t frame);
/* Tier in which @block lies now / to which @frame belongs. */
HmTier hm_frames_tier_of(const HmFrames *fr, uint32_t block);
HmTier hm_frames_tier_of_frame(const HmFrames *fr, uint32_t frame);
/* The @i-th frame of a tier, counted from 0 through all of its extents. */
uint32_t hm_frames_tier_frame(const HmFrames *fr, HmTier tier, uint32_t i);
/* The inverse: which frame of its tier @frame is. */
uint32_t hm_frames_tier_index(const HmFrames *fr, uint32_t frame);
/* Number of the extent to which @frame belongs. */
unsigned hm_frames_extent_of(const HmFrames *fr, uint32_t frame);
unsigned hm_frames_n_extents(const HmFrames *fr);
const HmExtent *hm_frames_extent(const HmFrames *fr, unsigned i);

/* Mappings that the range needs now, see above.  O(1). */
uint64_t hm_frames_mappings(const HmFrames *fr);

/* Blocks at home in nvm that lie in a foreign nvm frame.  O(1). */
uint32_t hm_frames_strays(const HmFrames *fr);

/*
 * The largest possible number of mappings without strays, if all extents are
 * mergeable: 3 * dram_blocks + HM_EXTENTS_MAX + 1.
 *
 * Only nvm-home blocks that are in dram now (at most dram_blocks), and
 * dram-home blocks (dram_blocks), can be away from home.  Each of the former
 * cuts at most two boundaries.  The latter lie side by side; n of them in a
 * run have n + 1 boundaries.  What remains are the borders of extents.
 */
uint64_t hm_frames_worst_mappings(uint32_t dram_blocks);

/*
 * Fills @cycle with the cheapest cycle that brings @a to the frame of @b, or
 * the other way round, and keeps the range within @map_limit mappings (0: no
 * limit), now and later, see above, or at least adds nothing to what it has.
 * The cycle of three may be used only when one of them lies in nvm and the
 * other in dram; its third block is always one that is in nvm and stays
 * there, so it copies two blocks into nvm.
 * Returns HM_MOVE_DONE, or HM_MOVE_MAP_LIMIT, or HM_MOVE_STALE when @a and
 * @b are the same block or out of range.  Changes nothing but @cycle.
 */
HmMoveResult hm_frames_plan_cycle(const HmFrames *fr, uint32_t a, uint32_t b,
                                  uint64_t map_limit, HmCycle *cycle);

/* Records a cycle that the mover has carried out. */
void hm_frames_apply(HmFrames *fr, const HmCycle *cycle);

/*
 * Checks the whole structure: a permutation, both directions agree, the
 * mapping count is right.  O(blocks); for tests and debugging.  On failure
 * returns false and, if @why is not NULL, a static sentence.
 */
bool hm_frames_verify(const HmFrames *fr, const char **why);

/* Bytes of metadata. */
size_t hm_frames_bytes(const HmFrames *fr);

#endif
