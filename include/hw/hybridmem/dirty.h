/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks the dirty blocks of a bitmap of pages, in batches.
 *
 * Batches, because what follows is a random access per block: a caller that
 * knows the next few blocks can fetch their memory ahead.
 */
#ifndef HW_HYBRIDMEM_DIRTY_H
#define HW_HYBRIDMEM_DIRTY_H

#include "qemu/bitops.h"
#include "hw/hybridmem/types.h"

#define HM_DIRTY_BATCH 512      /* blocks; over 4 * BITS_PER_LONG */
/*
 * Blocks to prefetch ahead: half the time of 16 at 256 GiB, 64 gains nothing
 * more.
 */
#define HM_DIRTY_AHEAD 32

typedef struct HmDirtyIter {
    const unsigned long *map;
    size_t word;                /* next one to look at */
    size_t words;
    unsigned long last_mask;    /* valid bits of the last word */
    unsigned shift;             /* log2 of pages per block */
    uint32_t count[HM_DIRTY_BATCH];     /* dirty pages of block[i], >= 1 */
    uint32_t block[HM_DIRTY_BATCH];     /* ascending */
} HmDirtyIter;

static inline void hm_dirty_init(HmDirtyIter *it, const unsigned long *map,
                                 uint64_t pages, uint32_t pages_per_block)
{
    unsigned tail = pages % BITS_PER_LONG;

    it->map = map;
    it->word = 0;
    it->words = (pages + BITS_PER_LONG - 1) / BITS_PER_LONG;
    it->last_mask = tail ? (1UL << tail) - 1 : ~0UL;
    it->shift = __builtin_ctz(pages_per_block);
}

static inline unsigned long hm_dirty_word(const HmDirtyIter *it, size_t i)
{
    unsigned long w = it->map[i];

    return i + 1 == it->words ? w & it->last_mask : w;
}

/*
 * Appends the bits of word @i to the @n blocks that there are.  With few
 * pages dirty it is a coin toss whether a word has a bit, so the first two
 * are taken without a branch.
 */
static inline size_t hm_dirty_take_word(HmDirtyIter *it, size_t i, size_t n)
{
    const unsigned long top = 1UL << (BITS_PER_LONG - 1);
    unsigned long w = hm_dirty_word(it, i);
    uint32_t base = i * BITS_PER_LONG;

    for (unsigned k = 0; k < 2; k++) {
        it->block[n] = base + __builtin_ctzl(w | top);
        n += w != 0;
        w &= w - 1;
    }
    for (; w; w &= w - 1) {
        it->block[n++] = base + __builtin_ctzl(w);
    }
    return n;
}

static inline bool hm_dirty_none(const unsigned long *m)
{
    return !(m[0] | m[1] | m[2] | m[3]);
}

/* A page is a block.  Four words at a time, to pass what is clean quickly. */
static inline size_t hm_dirty_next_pages(HmDirtyIter *it)
{
    size_t n = 0;

    while (it->word < it->words && n <= HM_DIRTY_BATCH - 4 * BITS_PER_LONG) {
        size_t end = MIN(it->word + 4, it->words);

        if (end == it->word + 4 && hm_dirty_none(&it->map[it->word])) {
            it->word = end;
            continue;
        }
        for (; it->word < end; it->word++) {
            n = hm_dirty_take_word(it, it->word, n);
        }
    }
    return n;
}

/* Several blocks in a word. */
static inline size_t hm_dirty_next_small(HmDirtyIter *it)
{
    unsigned ppb = 1u << it->shift;
    unsigned long mask = (1UL << ppb) - 1;
    size_t n = 0;

    while (it->word < it->words && n <= HM_DIRTY_BATCH - BITS_PER_LONG) {
        unsigned long w = hm_dirty_word(it, it->word);
        uint64_t base = (uint64_t)it->word++ * BITS_PER_LONG;

        while (w) {
            unsigned first = __builtin_ctzl(w) & ~(ppb - 1);

            it->block[n] = (base + first) >> it->shift;
            it->count[n++] = __builtin_popcountl(w & (mask << first));
            w &= ~(mask << first);
        }
    }
    return n;
}

/* Whole words in a block. */
static inline size_t hm_dirty_next_large(HmDirtyIter *it)
{
    size_t words_per_block = (1ULL << it->shift) / BITS_PER_LONG;
    size_t n = 0;

    while (it->word < it->words && n < HM_DIRTY_BATCH) {
        size_t block, end;
        uint32_t count = 0;

        if (!hm_dirty_word(it, it->word)) {
            it->word++;
            continue;
        }
        block = it->word / words_per_block;
        end = MIN(it->words, (block + 1) * words_per_block);
        for (; it->word < end; it->word++) {
            count += __builtin_popcountl(hm_dirty_word(it, it->word));
        }
        it->block[n] = block;
        it->count[n++] = count;
    }
    return n;
}

/*
 * Fills @it->block, and @it->count except where a block is one page.
 * Returns how many; 0 at the end.
 */
static inline size_t hm_dirty_next(HmDirtyIter *it)
{
    size_t n;

    do {
        if (it->shift == 0) {
            n = hm_dirty_next_pages(it);
        } else if ((1ULL << it->shift) < BITS_PER_LONG) {
            n = hm_dirty_next_small(it);
        } else {
            n = hm_dirty_next_large(it);
        }
    } while (n == 0 && it->word < it->words);
    return n;
}

/* Dirty pages of one block. */
static inline uint32_t hm_dirty_count(const HmDirtyIter *it, uint32_t block)
{
    uint64_t first = (uint64_t)block << it->shift;
    size_t word = first / BITS_PER_LONG;
    unsigned ppb = 1u << it->shift;
    uint32_t count = 0;

    if (ppb < BITS_PER_LONG) {
        unsigned long w = hm_dirty_word(it, word) >> (first % BITS_PER_LONG);

        return __builtin_popcountl(w & ((1UL << ppb) - 1));
    }
    for (size_t end = MIN(it->words, word + ppb / BITS_PER_LONG);
         word < end; word++) {
        count += __builtin_popcountl(hm_dirty_word(it, word));
    }
    return count;
}

#endif
