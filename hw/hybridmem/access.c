/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often blocks are accessed; the theory is in the header.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "hw/hybridmem/access.h"
#include "hw/hybridmem/bigmem.h"

/* Highest levels of blocks that were found accessed, and not. */
#define LEVEL_HOT 6
#define LEVEL_COLD 3

/* Blocks considered for a window, so that a huge guest takes no longer. */
#define SCAN_MAX (8 * 1024 * 1024)

/* The longest leave that is told apart. */
#define WEIGHT_MAX 255

/* Rates: 16 bits, RATE_ONE is all pages in every window; 0: never seen. */
#define RATE_ONE 65535
#define RATE_COLD (RATE_ONE / 64)

/* Eighths of a doubling of a 16 bit number; bucket 0 is a rate of 0. */
#define BUCKETS (16 * 8 + 1)

/* What is left of the evidence one window later. */
#define FADE 0.95
#define TIME_BITS 10
#define TIME_MASK ((1u << TIME_BITS) - 1)
#define FOUND_BITS 3
#define FOUND_ONE ((1u << FOUND_BITS) - 1)

typedef struct Block {
    uint16_t rate;
    uint16_t looked:TIME_BITS;  /* window of the last look, modulo 2^10 */
    uint16_t level:3;
    uint16_t found:FOUND_BITS;  /* by then: of its pages; 0: none at all */
} Block;

struct HmAccess {
    uint64_t pages;
    uint32_t blocks;
    uint32_t pages_per_block;
    uint32_t window;
    uint32_t hand;
    bool cold_costs;
    bool calm;
    uint32_t fault_pages;
    unsigned haste;             /* leave is 2^haste times shorter */
    uint64_t saved;             /* faults; less than the next block needs */
    float gain[WEIGHT_MAX + 1]; /* weight of a look after so many windows */
    uint32_t hist[BUCKETS];     /* blocks */
    /* [1]: of blocks that the look before found accessed */
    HmEvidence evidence[2][BUCKETS];
    HmExpected expected[2][BUCKETS];
    Block *block;
};

/* 2^15 times the eighth roots of two, up. */
static const uint16_t eighth[] = {
    35734, 38968, 42495, 46341, 50536, 55109, 60097,
};

/* 1 + (unsigned)(8 * log2(rate)), with integers only. */
static unsigned bucket_of(uint16_t rate)
{
    unsigned zeros = clz32(rate) - 16, part = 0;
    uint16_t mantissa = rate << zeros;

    if (rate == 0) {
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(eighth); i++) {
        part += mantissa >= eighth[i];
    }
    return 1 + (15 - zeros) * 8 + part;
}

static double bucket_start(unsigned bucket)
{
    return bucket ? exp2((bucket - 1) / 8.0) / RATE_ONE : 0;
}

static size_t block_bytes(const HmAccess *a)
{
    return (size_t)a->blocks * sizeof(*a->block);
}

HmAccess *hm_access_new(uint64_t pages, uint32_t pages_per_block)
{
    HmAccess *a = g_new0(HmAccess, 1);
    uint64_t blocks = DIV_ROUND_UP(pages, pages_per_block);

    g_assert(is_power_of_2(pages_per_block));
    g_assert(blocks > 0 && blocks < HM_BLOCK_NONE);
    a->pages = pages;
    a->blocks = blocks;
    a->pages_per_block = pages_per_block;
    a->fault_pages = 1;
    a->hist[0] = blocks;
    a->block = hm_bigmem_new(block_bytes(a));
    hm_access_set_half_life(a, HM_ACCESS_HALF_LIFE);
    return a;
}

void hm_access_free(HmAccess *a)
{
    if (a) {
        hm_bigmem_free(a->block, block_bytes(a));
        g_free(a);
    }
}

void hm_access_set_half_life(HmAccess *a, double windows)
{
    g_assert(windows > 0);
    for (unsigned w = 0; w <= WEIGHT_MAX; w++) {
        a->gain[w] = 1 - exp2(-(w / windows));
    }
}

void hm_access_set_cold_costs(HmAccess *a, bool costs)
{
    a->cold_costs = costs;
}

void hm_access_set_fault_pages(HmAccess *a, uint32_t pages)
{
    g_assert(pages > 0);
    a->fault_pages = pages;
}

void hm_access_set_calm(HmAccess *a, bool calm)
{
    a->calm = calm;
}

/* -- Whom to look at -- */

static uint32_t windows_since(const HmAccess *a, const Block *b)
{
    return (a->window - b->looked) & TIME_MASK;
}

static uint32_t pages_of(const HmAccess *a, uint32_t block)
{
    uint64_t first = (uint64_t)block * a->pages_per_block;

    return MIN(a->pages_per_block, a->pages - first);
}

/*
 * Also for a page that is accessed after the window, so a block is free only if
 * it has not been for long.
 */
static uint64_t faults_of(const HmAccess *a, uint32_t block)
{
    const Block *b = &a->block[block];

    if (!a->cold_costs && !b->found && b->rate < RATE_COLD) {
        return 0;
    }
    return DIV_ROUND_UP(pages_of(a, block), a->fault_pages);
}

/* The hand has gone round once at @end: put what comes before it in front. */
static void in_order(uint32_t *block, uint8_t *weight, size_t wrap, size_t n)
{
    g_autofree uint32_t *b = NULL;
    g_autofree uint8_t *w = NULL;

    if (wrap == 0 || wrap == n) {
        return;
    }
    b = g_memdup2(block, wrap * sizeof(*block));
    w = g_memdup2(weight, wrap);
    memmove(block, block + wrap, (n - wrap) * sizeof(*block));
    memmove(weight, weight + wrap, n - wrap);
    memcpy(block + n - wrap, b, wrap * sizeof(*block));
    memcpy(weight + n - wrap, w, wrap);
}

/* @all: the limits left room for all whose leave was over. */
static void set_haste(HmAccess *a, bool all, uint64_t faults,
                      uint64_t max_faults)
{
    if (a->calm) {
        return;
    }
    if (!all) {
        a->haste -= a->haste > 0;
    } else if (faults <= max_faults / 2 && a->haste < LEVEL_HOT) {
        a->haste++;
    }
}

/* Of the block's pages: those set in @bits, but not in @but; NULL: none. */
static uint32_t count_pages(const HmAccess *a, uint32_t block,
                            const unsigned long *bits,
                            const unsigned long *but)
{
    uint64_t first = (uint64_t)block * a->pages_per_block;
    uint32_t count = 0;

    for (uint64_t p = first; bits && p < first + pages_of(a, block); p++) {
        count += test_bit(p, bits) && !(but && test_bit(p, but));
    }
    return count;
}

static bool all_known(const HmAccess *a, const unsigned long *known,
                      uint32_t block)
{
    return known && test_bit((uint64_t)block * a->pages_per_block, known) &&
           count_pages(a, block, known, NULL) == pages_of(a, block);
}

size_t hm_access_pick(HmAccess *a, const unsigned long *known,
                      uint32_t *block, uint8_t *weight, size_t max,
                      uint64_t max_faults)
{
    uint64_t may = max_faults + MIN(a->saved, UINT64_MAX - max_faults);
    uint32_t scan = MIN(a->blocks, SCAN_MAX);
    unsigned haste = a->calm ? 0 : a->haste;
    uint64_t faults = 0;
    size_t n = 0, wrap = 0;

    if (a->calm) {
        max = MIN(max, DIV_ROUND_UP(a->blocks, 1u << LEVEL_COLD));
    }
    a->window++;
    a->saved = 0;
    for (; scan && n < max; scan--) {
        const Block *b = &a->block[a->hand];
        uint32_t since = windows_since(a, b);

        if (since << haste >= 1u << b->level &&
            !all_known(a, known, a->hand)) {
            if (faults_of(a, a->hand) > may - faults) {
                a->saved = may - faults;
                break;
            }
            faults += faults_of(a, a->hand);
            block[n] = a->hand;
            weight[n++] = MIN(since, WEIGHT_MAX);
        }
        if (++a->hand == a->blocks) {
            a->hand = 0;
            wrap = n;
        }
    }
    set_haste(a, scan == 0, faults, max_faults);
    in_order(block, weight, wrap, n);
    return n;
}

/* -- What was found -- */

/* Rounded towards @part, or a rate would stop before it gets there. */
static void set_rate(HmAccess *a, Block *b, double part, double gain)
{
    double old = b->rate, new = old + gain * (part * RATE_ONE - old);

    a->hist[bucket_of(b->rate)]--;
    b->rate = CLAMP(new > old ? ceil(new) : floor(new), 0, RATE_ONE);
    a->hist[bucket_of(b->rate)]++;
}

static void set_level(Block *b, bool accessed)
{
    bool before = b->found > 0;
    unsigned highest = accessed ? LEVEL_HOT : LEVEL_COLD;

    if (before == accessed) {
        b->level = MIN(b->level + 1, highest);
    } else {
        b->level = MIN(b->level ? b->level - 1 : 0, highest);
    }
}

/* One look that finds nothing gives it a level, any other a rate. */
static bool never_looked_at(const Block *b)
{
    return b->rate == 0 && b->level == 0;
}

static void found(HmAccess *a, uint32_t block, double part, unsigned weight)
{
    Block *b = &a->block[block];

    if (!never_looked_at(b)) {
        hm_evidence_add(&a->evidence[b->found > 0][bucket_of(b->rate)], part);
    }
    set_rate(a, b, part, a->gain[weight]);
    set_level(b, part > 0);
    b->found = part > 0 ? MAX(lrint(part * FOUND_ONE), 1) : 0;
    b->looked = a->window & TIME_MASK;
}

static void look(HmAccess *a, const HmWindow *w, size_t i)
{
    uint32_t block = w->watched[i];
    uint32_t unknown = pages_of(a, block) -
                       count_pages(a, block, w->known, NULL);

    if (unknown) {
        found(a, block,
              (double)count_pages(a, block, w->seen, w->known) / unknown,
              w->weight[i]);
    }
}

void hm_access_window(HmAccess *a, const HmWindow *w)
{
    for (unsigned i = 0; i < ARRAY_SIZE(a->evidence); i++) {
        hm_isotonic_fade(a->evidence[i], BUCKETS, FADE);
    }
    for (size_t i = 0; i < w->n_watched; i++) {
        look(a, w, i);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(a->evidence); i++) {
        hm_isotonic_fit(a->evidence[i], BUCKETS, a->expected[i]);
    }
}

/* -- Asking -- */

double hm_access_rate(const HmAccess *a, uint32_t block)
{
    return (double)a->block[block].rate / RATE_ONE;
}

double hm_access_found(const HmAccess *a, uint32_t block)
{
    return (double)a->block[block].found / FOUND_ONE;
}

HmExpected hm_access_expected(const HmAccess *a, uint32_t block)
{
    const Block *b = &a->block[block];

    return a->expected[b->found > 0][bucket_of(b->rate)];
}

double hm_access_threshold(const HmAccess *a, uint32_t n)
{
    uint64_t hotter = 0;

    for (unsigned i = BUCKETS - 1; i > 0; i--) {
        hotter += a->hist[i];
        if (hotter > n) {
            return bucket_start(i + 1);
        }
    }
    return 0;
}

uint32_t hm_access_blocks(const HmAccess *a)
{
    return a->blocks;
}

size_t hm_access_bytes(const HmAccess *a)
{
    return sizeof(*a) + block_bytes(a);
}
