/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A temperature per block.  The theory stands in heat.h.
 *
 * Arithmetic is in ranks: rank = log2(T) * HM_HEAT_STEPS + RANK_ONE, and
 * stamp = rank + now.  `now' advances in whole steps; what is left of the
 * elapsed time is carried to the next window.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/heat.h"
#include "hw/hybridmem/bigmem.h"
#include "hw/hybridmem/dirty.h"

#define RANK_ONE (16 * HM_HEAT_STEPS)           /* of T = 1 */
#define RANK_MAX (48 * HM_HEAT_STEPS - 1)       /* of T just below 2^32 */
#define NOW_MAX (UINT16_MAX - RANK_MAX)

#define BUCKETS ((UINT16_MAX + 1) / HM_HEAT_BUCKET_STEPS + 1)

/* Ranks with a fraction, for sums. */
#define FRAC_BITS 16
#define FRAC_ONE (1 << FRAC_BITS)

/* Beyond 2^20 to 1, the lesser adds under 2^-16 of a step. */
#define SUM_LEN (20 * HM_HEAT_STEPS)

/* Counts up to here have an exact logarithm; of others the low bits go. */
#define COUNT_LOG_MAX 4096

struct HmHeat {
    uint64_t pages;
    uint32_t blocks;
    uint32_t pages_per_block;
    uint64_t half_life_ms;
    uint64_t carry;             /* elapsed ms * HM_HEAT_STEPS, below a step */
    uint64_t windows;           /* seeds the rounding */
    uint32_t now;               /* steps */
    uint32_t hist[BUCKETS];     /* blocks by bucket_of(stamp), cold ones too */
    uint32_t sum[SUM_LEN];      /* log2(1 + 2^-d) for d steps, with fraction */
    uint32_t *count_rank;       /* rank of a count, with fraction */
    uint32_t count_max;
    uint16_t *stamp;            /* 0: cold */
};

/* Bucket 0 is stamp 0, bucket k ends with stamp k * HM_HEAT_BUCKET_STEPS. */
static unsigned bucket_of(uint32_t stamp)
{
    return (stamp + HM_HEAT_BUCKET_STEPS - 1) / HM_HEAT_BUCKET_STEPS;
}

static size_t stamp_bytes(const HmHeat *h)
{
    return (size_t)h->blocks * sizeof(*h->stamp);
}

static void fill_tables(HmHeat *h)
{
    const double unit = (double)HM_HEAT_STEPS * FRAC_ONE;

    for (unsigned d = 0; d < SUM_LEN; d++) {
        h->sum[d] = lrint(log2(1 + exp2(-(double)d / HM_HEAT_STEPS)) * unit);
    }
    h->count_max = MIN(h->pages_per_block, COUNT_LOG_MAX);
    h->count_rank = g_new0(uint32_t, h->count_max + 1);
    for (unsigned n = 1; n <= h->count_max; n++) {
        h->count_rank[n] = lrint(log2(n) * unit) + RANK_ONE * FRAC_ONE;
    }
}

HmHeat *hm_heat_new(uint64_t pages, uint32_t pages_per_block,
                    uint64_t half_life_ms)
{
    HmHeat *h = g_new0(HmHeat, 1);
    uint64_t blocks = DIV_ROUND_UP(pages, pages_per_block);

    g_assert(is_power_of_2(pages_per_block));
    g_assert(blocks > 0 && blocks < HM_BLOCK_NONE);
    g_assert(half_life_ms > 0);
    h->pages = pages;
    h->blocks = blocks;
    h->pages_per_block = pages_per_block;
    h->half_life_ms = half_life_ms;
    h->hist[0] = h->blocks;
    h->stamp = hm_bigmem_new(stamp_bytes(h));
    fill_tables(h);
    return h;
}

void hm_heat_free(HmHeat *h)
{
    if (!h) {
        return;
    }
    hm_bigmem_free(h->stamp, stamp_bytes(h));
    g_free(h->count_rank);
    g_free(h);
}

void hm_heat_set_half_life(HmHeat *h, uint64_t half_life_ms)
{
    g_assert(half_life_ms > 0);
    if (half_life_ms != h->half_life_ms) {
        h->half_life_ms = half_life_ms;
        h->carry = 0;
    }
}

uint64_t hm_heat_half_life(const HmHeat *h)
{
    return h->half_life_ms;
}

static void forget_all(HmHeat *h)
{
    hm_bigmem_clear(h->stamp, stamp_bytes(h));
    memset(h->hist, 0, sizeof(h->hist));
    h->hist[0] = h->blocks;
    h->now = 0;
}

/* Subtracts @delta, a multiple of a bucket, from now and all stamps. */
static void rebase(HmHeat *h, uint32_t delta)
{
    unsigned shift = delta / HM_HEAT_BUCKET_STEPS;

    for (uint32_t b = 0; b < h->blocks; b++) {
        uint16_t s = h->stamp[b];

        h->stamp[b] = s > delta ? s - delta : 0;
    }
    for (unsigned k = 1; k <= shift; k++) {
        h->hist[0] += h->hist[k];
    }
    memmove(&h->hist[1], &h->hist[shift + 1],
            (BUCKETS - shift - 1) * sizeof(h->hist[0]));
    memset(&h->hist[BUCKETS - shift], 0, shift * sizeof(h->hist[0]));
    h->now -= delta;
}

void hm_heat_age(HmHeat *h, uint64_t elapsed_ms)
{
    uint64_t steps;

    if (elapsed_ms / HM_HEAT_STEPS >= h->half_life_ms) {
        /* More than 256 half-lives: nothing is left of any temperature. */
        forget_all(h);
        return;
    }
    h->carry += elapsed_ms * HM_HEAT_STEPS;
    steps = h->carry / h->half_life_ms;
    h->carry %= h->half_life_ms;
    h->now += steps;
    if (h->now > UINT16_MAX) {
        forget_all(h);
    } else if (h->now > NOW_MAX) {
        rebase(h, ROUND_DOWN(h->now, HM_HEAT_BUCKET_STEPS));
    }
}

static uint32_t rank_of_stamp(const HmHeat *h, uint32_t stamp)
{
    return stamp > h->now ? stamp - h->now : 0;
}

static uint32_t rank_of_count(const HmHeat *h, uint32_t n)
{
    uint32_t doublings = 0;

    while (n > h->count_max) {
        n >>= 1;
        doublings++;
    }
    return h->count_rank[n] + doublings * HM_HEAT_STEPS * FRAC_ONE;
}

/* The rank, with fraction, of the sum of the temperatures of two ranks. */
static uint32_t rank_sum(const HmHeat *h, uint32_t a, uint32_t b)
{
    uint32_t more = MAX(a, b);
    uint32_t d = (more - MIN(a, b) + FRAC_ONE / 2) >> FRAC_BITS;

    return more + (d < SUM_LEN ? h->sum[d] : 0);
}

static void add_count(HmHeat *h, uint32_t block, uint32_t add, uint32_t salt)
{
    uint32_t old = h->stamp[block];
    uint32_t rank = rank_of_stamp(h, old);
    /*
     * The high half of a multiplicative hash: even over blocks, and over
     * windows by the salt.
     */
    uint32_t dither = (block * 0x9e3779b1u + salt) >> (32 - FRAC_BITS);
    uint32_t stamp;

    if (rank) {
        add = rank_sum(h, rank << FRAC_BITS, add);
    }
    rank = (add + dither) >> FRAC_BITS;
    stamp = h->now + MIN(rank, RANK_MAX);
    h->hist[bucket_of(old)]--;
    h->hist[bucket_of(stamp)]++;
    h->stamp[block] = stamp;
}

/* A well mixed word for each window (the finalizer of splitmix64). */
static uint32_t window_salt(uint64_t window)
{
    uint64_t z = window * 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) >> 32;
}

void hm_heat_window(HmHeat *h, const unsigned long *dirty,
                    uint64_t elapsed_ms)
{
    uint32_t salt = window_salt(++h->windows);
    bool single = h->pages_per_block == 1;
    HmDirtyIter it;
    size_t n;

    hm_heat_age(h, elapsed_ms);
    hm_dirty_init(&it, dirty, h->pages, h->pages_per_block);
    while ((n = hm_dirty_next(&it))) {
        for (size_t i = 0; i < MIN(n, HM_DIRTY_AHEAD); i++) {
            __builtin_prefetch(&h->stamp[it.block[i]], 1);
        }
        for (size_t i = 0; i < n; i++) {
            if (i + HM_DIRTY_AHEAD < n) {
                __builtin_prefetch(&h->stamp[it.block[i + HM_DIRTY_AHEAD]], 1);
            }
            add_count(h, it.block[i],
                      single ? RANK_ONE * FRAC_ONE
                             : rank_of_count(h, it.count[i]), salt);
        }
    }
}

uint64_t hm_heat_pages(const HmHeat *h)
{
    return h->pages;
}

uint32_t hm_heat_blocks(const HmHeat *h)
{
    return h->blocks;
}

uint32_t hm_heat_pages_per_block(const HmHeat *h)
{
    return h->pages_per_block;
}

uint32_t hm_heat_rank(const HmHeat *h, uint32_t block)
{
    return rank_of_stamp(h, h->stamp[block]);
}

void hm_heat_ranks(const HmHeat *h, const uint32_t *block, uint32_t *rank,
                   size_t n)
{
    for (size_t i = 0; i < MIN(n, HM_DIRTY_AHEAD); i++) {
        __builtin_prefetch(&h->stamp[block[i]]);
    }
    for (size_t i = 0; i < n; i++) {
        if (i + HM_DIRTY_AHEAD < n) {
            __builtin_prefetch(&h->stamp[block[i + HM_DIRTY_AHEAD]]);
        }
        rank[i] = rank_of_stamp(h, h->stamp[block[i]]);
    }
}

double hm_heat_rank_to_temperature(const HmHeat *h, uint32_t rank)
{
    return rank ? exp2(((double)rank - RANK_ONE) / HM_HEAT_STEPS) : 0;
}

uint32_t hm_heat_temperature_to_rank(const HmHeat *h, double t)
{
    /* A rank's own temperature must not fall below it by a rounding error. */
    const double slack = 1 / 1e9;
    double rank;

    if (!(t > 0)) {
        return 0;
    }
    rank = floor(log2(t) * HM_HEAT_STEPS + RANK_ONE + slack);
    return CLAMP(rank, 0, RANK_MAX);
}

double hm_heat_temperature(const HmHeat *h, uint32_t block)
{
    return hm_heat_rank_to_temperature(h, hm_heat_rank(h, block));
}

uint32_t hm_heat_threshold(const HmHeat *h, uint32_t n)
{
    uint64_t hotter = 0;
    unsigned k;

    for (k = bucket_of(h->now + RANK_MAX); k >= bucket_of(h->now + 1); k--) {
        hotter += h->hist[k];
        if (hotter > n) {
            return k * HM_HEAT_BUCKET_STEPS + 1 - h->now;
        }
    }
    return 1;
}

size_t hm_heat_bytes(const HmHeat *h)
{
    return sizeof(*h) + stamp_bytes(h) +
           (h->count_max + 1) * sizeof(*h->count_rank);
}
