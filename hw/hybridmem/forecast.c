/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What will be written next; the theory is in the header.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/dirty.h"
#include "hw/hybridmem/forecast.h"
#include "policy-internal.h"

/* What is left of a window's evidence one window later. */
#define FADE 0.9

#define BUCKETS (48 * HM_HEAT_STEPS / HM_HEAT_BUCKET_STEPS)

/* Blocks with the same odds: those written in the last window, or others. */
typedef struct Class {
    HmEvidence evidence[BUCKETS];       /* of parts written */
    HmExpected expected[BUCKETS];       /* grows with the index */
} Class;

typedef struct Sample {
    uint32_t block;
    uint32_t frame;             /* when it was remembered */
    uint16_t bucket;
    bool was_written;
} Sample;

struct HmForecast {
    const HmFrames *frames;
    const HmHeat *heat;
    Class class[2];             /* [1]: written in the last window */
    Sample sample[HM_FORECAST_SAMPLES];
    unsigned n;
    unsigned long *last;        /* a bit per block: written in that window */
    bool keep_last;             /* `last' is filled block by block */
    uint64_t written;           /* blocks, in that window so far */
    uint64_t last_written;      /* in the one before */
    uint64_t next;              /* which of them to remember */
    uint64_t random;
};

static unsigned bucket_of(uint32_t rank)
{
    return MIN(rank / HM_HEAT_BUCKET_STEPS, BUCKETS - 1);
}

static size_t last_longs(const HmForecast *f)
{
    return BITS_TO_LONGS((size_t)hm_heat_blocks(f->heat));
}

/* -- Learning -- */

static void learn(HmForecast *f, const HmDirtyIter *dirty)
{
    double pages = hm_heat_pages_per_block(f->heat);

    for (unsigned i = 0; i < f->n; i++) {
        const Sample *s = &f->sample[i];
        Class *c = &f->class[s->was_written];

        if (hm_frames_frame_of(f->frames, s->block) == s->frame) {
            hm_evidence_add(&c->evidence[s->bucket],
                            hm_dirty_count(dirty, s->block) / pages);
        }
    }
    f->n = 0;
}

/* -- Sampling -- */

static void remember(HmForecast *f, uint32_t block)
{
    if (f->n < HM_FORECAST_SAMPLES) {
        f->sample[f->n++] = (Sample) {
            .block = block,
            .frame = hm_frames_frame_of(f->frames, block),
            .bucket = bucket_of(hm_heat_rank(f->heat, block)),
            .was_written = test_bit(block, f->last),
        };
    }
}

/*
 * Half of the samples, at random distances; how many blocks the window has is
 * guessed from the one before.
 */
static uint64_t distance(HmForecast *f)
{
    uint64_t pace = MAX(f->last_written / (HM_FORECAST_SAMPLES / 2), 1);

    return 1 + hm_random(&f->random) % (2 * pace - 1);
}

void hm_forecast_written(HmForecast *f, const uint32_t *block, size_t n)
{
    for (size_t i = 0; f->keep_last && i < n; i++) {
        set_bit(block[i], f->last);
    }
    while (f->next < f->written + n) {
        if (f->n < HM_FORECAST_SAMPLES / 2) {
            remember(f, block[f->next - f->written]);
        }
        f->next += distance(f);
    }
    f->written += n;
}

static void remember_others(HmForecast *f)
{
    uint32_t dram = hm_frames_tier_blocks(f->frames, HM_TIER_DRAM);
    uint32_t blocks = hm_heat_blocks(f->heat);

    while (f->n < HM_FORECAST_SAMPLES) {
        uint32_t block = hm_random_below(&f->random, blocks);

        if (f->n % 2 && dram) {
            uint32_t i = hm_random_below(&f->random, dram);

            block = hm_frames_block_in(f->frames,
                hm_frames_tier_frame(f->frames, HM_TIER_DRAM, i));
        }
        remember(f, block);
    }
}

static void keep_last(HmForecast *f, const unsigned long *dirty)
{
    size_t size = last_longs(f) * sizeof(*f->last);

    f->keep_last = hm_heat_pages_per_block(f->heat) > 1;
    if (f->keep_last) {
        memset(f->last, 0, size);
    } else {
        memcpy(f->last, dirty, size);
    }
}

void hm_forecast_begin(HmForecast *f, const unsigned long *dirty)
{
    HmDirtyIter it;

    hm_dirty_init(&it, dirty, hm_heat_pages(f->heat),
                  hm_heat_pages_per_block(f->heat));
    for (unsigned i = 0; i < ARRAY_SIZE(f->class); i++) {
        hm_isotonic_fade(f->class[i].evidence, BUCKETS, FADE);
    }
    learn(f, &it);
    for (unsigned i = 0; i < ARRAY_SIZE(f->class); i++) {
        hm_isotonic_fit(f->class[i].evidence, BUCKETS,
                        f->class[i].expected);
    }
    keep_last(f, dirty);
    f->last_written = f->written;
    f->written = 0;
    f->next = distance(f) - 1;
}

void hm_forecast_end(HmForecast *f)
{
    remember_others(f);
}

/* -- Asking -- */

HmExpected hm_forecast(const HmForecast *f, uint32_t block, uint32_t rank)
{
    return f->class[test_bit(block, f->last)].expected[bucket_of(rank)];
}

bool hm_forecast_was_written(const HmForecast *f, uint32_t block)
{
    return test_bit(block, f->last);
}

uint32_t hm_forecast_rank(const HmForecast *f, double part)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        const HmExpected *e = &f->class[1].expected[i];

        if (e->part - e->below >= part) {
            return i * HM_HEAT_BUCKET_STEPS;
        }
    }
    return UINT32_MAX;
}

HmForecast *hm_forecast_new(const HmFrames *frames, const HmHeat *heat)
{
    HmForecast *f = g_new0(HmForecast, 1);

    f->frames = frames;
    f->heat = heat;
    f->last = g_new0(unsigned long, last_longs(f));
    return f;
}

void hm_forecast_free(HmForecast *f)
{
    g_free(f->last);
    g_free(f);
}

size_t hm_forecast_bytes(const HmForecast *f)
{
    return sizeof(*f) + last_longs(f) * sizeof(*f->last);
}
