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
/* Of one look, which is one bit of each page. */
#define GAIN_MAX 0.5
/* Longer is not remembered; more than the longest leave that anybody has. */
#define AGE_MAX 448

/* While calm: one block in so many in a window, runs of so many together. */
#define CALM_PARTS (1u << LEVEL_COLD)
#define CALM_RUN 32

/* Rates: 16 bits, RATE_ONE is all pages in every window; 0: never seen. */
#define RATE_ONE 65535
#define RATE_COLD (RATE_ONE / 64)

/* Eighths of a doubling of a 16 bit number; bucket 0 is a rate of 0. */
#define BUCKETS (16 * 8 + 1)

/*
 * What is left of the evidence one window later; while calm, when all have
 * been looked at once: else that of a few hot blocks would be gone before
 * their leave is over.
 */
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
    uint32_t aged;              /* next block to see that its time is known */
    uint32_t run;               /* see scattered() */
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
    a->run = CLAMP(blocks / 64, 1, CALM_RUN);
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
        a->gain[w] = MIN(1 - exp2(-(w / windows)), GAIN_MAX);
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

/*
 * Time is modulo 2^TIME_BITS: a block that the hand does not reach for so long
 * must not look as if it had just been looked at.  All pass here in AGE_MAX
 * windows, so none is older than twice that.
 */
static void keep_ages(HmAccess *a)
{
    for (uint32_t n = a->blocks / AGE_MAX + 1; n; n--) {
        Block *b = &a->block[a->aged];

        if (windows_since(a, b) > AGE_MAX) {
            b->looked = (a->window - AGE_MAX) & TIME_MASK;
        }
        if (++a->aged == a->blocks) {
            a->aged = 0;
        }
    }
}

/*
 * While calm the hand passes runs of blocks that lie CALM_PARTS runs apart, and
 * comes back for the others, so that what it passes in a window is of all RAM.
 * The last blocks, less than so many runs, come last.
 */
static uint32_t scattered(const HmAccess *a, uint32_t hand)
{
    uint32_t part = a->blocks / (a->run * CALM_PARTS) * a->run;
    uint32_t nth = hand % MAX(part, 1);

    if (hand >= part * CALM_PARTS) {
        return hand;
    }
    return (nth / a->run * CALM_PARTS + hand / part) * a->run + nth % a->run;
}

typedef struct Picked {
    uint32_t *block;
    uint8_t *weight;
    size_t n;
    size_t wrap;                /* of these were picked before the hand's end */
} Picked;

/* The hand has gone round once: put what comes before its end in front. */
static void in_order(const Picked *p)
{
    size_t rest = p->n - p->wrap;
    g_autofree uint32_t *b = NULL;
    g_autofree uint8_t *w = NULL;

    if (p->wrap == 0 || rest == 0) {
        return;
    }
    b = g_memdup2(p->block, p->wrap * sizeof(*b));
    w = g_memdup2(p->weight, p->wrap);
    memmove(p->block, p->block + p->wrap, rest * sizeof(*b));
    memmove(p->weight, p->weight + p->wrap, rest);
    memcpy(p->block + rest, b, p->wrap * sizeof(*b));
    memcpy(p->weight + rest, w, p->wrap);
}

static int by_number(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

    return (a > b) - (a < b);
}

static void sort(const Picked *p)
{
    g_autofree uint64_t *item = g_new(uint64_t, p->n);

    for (size_t i = 0; i < p->n; i++) {
        item[i] = (uint64_t)p->block[i] << 8 | p->weight[i];
    }
    qsort(item, p->n, sizeof(*item), by_number);
    for (size_t i = 0; i < p->n; i++) {
        p->block[i] = item[i] >> 8;
        p->weight[i] = item[i] & 0xff;
    }
}

/* @all: the limits left room for all whose leave was over. */
static void set_haste(HmAccess *a, bool all, uint64_t faults,
                      uint64_t max_faults)
{
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
    Picked p = { block, weight };
    uint64_t faults = 0;

    if (a->calm) {
        max = MIN(max, DIV_ROUND_UP(a->blocks, CALM_PARTS));
    }
    a->window++;
    a->saved = 0;
    keep_ages(a);
    for (; scan && p.n < max; scan--) {
        uint32_t next = a->calm ? scattered(a, a->hand) : a->hand;
        const Block *b = &a->block[next];
        uint32_t since = windows_since(a, b);

        if (since << haste >= 1u << b->level && !all_known(a, known, next)) {
            if (faults_of(a, next) > may - faults) {
                a->saved = may - faults;
                break;
            }
            faults += faults_of(a, next);
            block[p.n] = next;
            weight[p.n++] = MIN(since, WEIGHT_MAX);
        }
        if (++a->hand == a->blocks) {
            a->hand = 0;
            p.wrap = p.n;
        }
    }
    if (a->calm) {
        sort(&p);
    } else {
        set_haste(a, scan == 0, faults, max_faults);
        in_order(&p);
    }
    return p.n;
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
    double part = (double)w->n_watched / a->blocks;
    double left = a->calm ? pow(FADE, part) : FADE;

    for (unsigned i = 0; i < ARRAY_SIZE(a->evidence); i++) {
        hm_isotonic_fade(a->evidence[i], BUCKETS, left);
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
