/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the pages of guest RAM were when the kernel was last asked.
 *
 * With the numa mover it is the kernel that places pages: a block's frame
 * (frames.h) is only a seat that the block is entitled to.  This room keeps
 * what is true.  Two bits a page; counts are kept, so that totals are O(1)
 * and those of a block cost one look at its words.
 *
 * Not thread-safe; the owner serialises.  Plain C over GLib.
 */
#ifndef HW_HYBRIDMEM_RESIDENCY_H
#define HW_HYBRIDMEM_RESIDENCY_H

#include "hw/hybridmem/types.h"

typedef enum HmPlace {
    HM_PLACE_ABSENT,            /* never touched, discarded or swapped out */
    HM_PLACE_DRAM,              /* on one of the fast nodes */
    HM_PLACE_NVM,               /* on one of the slow nodes */
    HM_PLACE_ELSEWHERE,         /* on a node that is neither */
    HM_PLACE__MAX,
} HmPlace;

typedef struct HmResidency HmResidency;

/*
 * All pages start absent.  @pages_per_block: a power of two; the last block
 * may be a part of one.
 */
HmResidency *hm_residency_new(uint64_t pages, uint32_t pages_per_block);
void hm_residency_free(HmResidency *r);

HmPlace hm_residency_place(const HmResidency *r, uint64_t page);
/* Records where @page is.  Returns where it was. */
HmPlace hm_residency_set(HmResidency *r, uint64_t page, HmPlace place);

/* Pages that are in @place, of all / of one block. */
uint64_t hm_residency_pages(const HmResidency *r, HmPlace place);
uint32_t hm_residency_block(const HmResidency *r, uint32_t block,
                            HmPlace place);

/* Bytes of metadata. */
size_t hm_residency_bytes(const HmResidency *r);

#endif
