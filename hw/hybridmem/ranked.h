/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks with what they are ranked by, as one number: the order's key in the
 * high half, the block in the low one.  The least number is the best.
 */
#ifndef HYBRIDMEM_RANKED_H
#define HYBRIDMEM_RANKED_H

#include "hw/hybridmem/types.h"

typedef struct HmRanked {
    uint64_t *item;             /* g_free() */
    size_t n;
    size_t size;
} HmRanked;

static inline uint64_t hm_ranked_item(uint32_t key, uint32_t block)
{
    return (uint64_t)key << 32 | block;
}

static inline uint32_t hm_ranked_key(uint64_t item)
{
    return item >> 32;
}

static inline uint32_t hm_ranked_block(uint64_t item)
{
    return item;
}

void hm_ranked_add(HmRanked *l, uint64_t item);

/* Brings the @want least of @n distinct numbers to the front, in no order. */
void hm_ranked_select(uint64_t *v, size_t n, size_t want);

/* Puts the best @want from item @from on into order. */
void hm_ranked_order(HmRanked *l, size_t from, size_t want);

#endif
