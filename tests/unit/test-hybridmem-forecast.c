/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/forecast.c: guests whose odds are known.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "hw/hybridmem/dirty.h"
#include "hw/hybridmem/forecast.h"

#define DRAM 1000
#define BLOCKS 10000
#define HALF_LIFE 5000

typedef struct Sim {
    uint32_t ppb;
    HmFrames *frames;
    HmHeat *heat;
    HmForecast *f;
    unsigned long *dirty;
    uint64_t random;
} Sim;

static void sim_init(Sim *s, uint32_t ppb)
{
    HmExtent ext[] = {
        { 0, DRAM, HM_TIER_DRAM, true },
        { DRAM, BLOCKS - DRAM, HM_TIER_NVM, true },
    };

    s->ppb = ppb;
    s->frames = hm_frames_new(ext, 2);
    s->heat = hm_heat_new((uint64_t)BLOCKS * ppb, ppb, HALF_LIFE);
    s->f = hm_forecast_new(s->frames, s->heat);
    s->dirty = g_new0(unsigned long, BITS_TO_LONGS(BLOCKS * ppb));
    s->random = 88172645463325252ull;
}

static void sim_end(Sim *s)
{
    hm_forecast_free(s->f);
    hm_heat_free(s->heat);
    hm_frames_free(s->frames);
    g_free(s->dirty);
}

static double rnd01(Sim *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random >> 11) * ldexp(1, -53);
}

static void write_pages(Sim *s, uint32_t block, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++) {
        set_bit((uint64_t)block * s->ppb + i, s->dirty);
    }
}

static void window(Sim *s)
{
    HmDirtyIter it;
    size_t n;

    hm_heat_window(s->heat, s->dirty, 1000);
    hm_forecast_begin(s->f, s->dirty);
    hm_dirty_init(&it, s->dirty, (uint64_t)BLOCKS * s->ppb, s->ppb);
    while ((n = hm_dirty_next(&it))) {
        hm_forecast_written(s->f, it.block, n);
    }
    hm_forecast_end(s->f);
    memset(s->dirty, 0,
           BITS_TO_LONGS((size_t)BLOCKS * s->ppb) * sizeof(long));
}

/* The first @hot blocks with odds @p_hot, the others with @p_cold. */
static void run(Sim *s, unsigned windows, uint32_t hot, double p_hot,
                double p_cold)
{
    for (unsigned w = 0; w < windows; w++) {
        for (uint32_t b = 0; b < BLOCKS; b++) {
            if (rnd01(s) < (b < hot ? p_hot : p_cold)) {
                write_pages(s, b, s->ppb);
            }
        }
        window(s);
    }
}

static HmExpected ask(const Sim *s, uint32_t block)
{
    return hm_forecast(s->f, block, hm_heat_rank(s->heat, block));
}

/* Nothing was seen: nothing is expected, and no block is promised. */
static void test_empty(void)
{
    Sim s;

    sim_init(&s, 1);
    g_assert_cmpfloat(ask(&s, 5).part, ==, 0);
    g_assert_cmpuint(hm_forecast_rank(s.f, 0.01), ==, UINT32_MAX);
    window(&s);
    g_assert_cmpfloat(ask(&s, 5).part, ==, 0);
    sim_end(&s);
}

/* All blocks alike: whatever their temperatures, the same is expected. */
static void test_even(void)
{
    static const double odds[] = { 0.05, 0.3, 0.5, 0.9 };

    for (size_t i = 0; i < G_N_ELEMENTS(odds); i++) {
        double least = 1, most = 0;
        Sim s;

        sim_init(&s, 1);
        run(&s, 40, 0, 0, odds[i]);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            HmExpected e = ask(&s, b);

            least = MIN(least, e.part + 3 * e.above);
            most = MAX(most, e.part - 3 * e.below);
        }
        g_test_message("odds %.2f: %.3f to %.3f", odds[i], most, least);
        g_assert_cmpfloat(least, >, odds[i]);
        g_assert_cmpfloat(most, <, odds[i]);
        sim_end(&s);
    }
}

/* Two kinds of blocks are told apart, each with its odds. */
static void test_hot_and_cold(void)
{
    Sim s;
    double hot = 0, cold = 0;

    sim_init(&s, 1);
    run(&s, 40, 500, 0.9, 0.05);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        *(b < 500 ? &hot : &cold) += ask(&s, b).part;
    }
    g_assert_cmpfloat(fabs(hot / 500 - 0.9), <, 0.1);
    g_assert_cmpfloat(fabs(cold / (BLOCKS - 500) - 0.05), <, 0.03);
    sim_end(&s);
}

/* A hot set that has gone is known by not being written, though still hot. */
static void test_gone(void)
{
    Sim s;

    sim_init(&s, 1);
    run(&s, 20, 500, 1, 0);
    g_assert_cmpfloat(ask(&s, 7).part, >, 0.95);
    run(&s, 2, 0, 0, 0.01);
    g_assert_cmpfloat(hm_heat_temperature(s.heat, 7), >, 4);
    g_assert_cmpfloat(ask(&s, 7).part, <, 0.1);
    sim_end(&s);
}

/* A block of which one page in 16 is written is worth a sixteenth. */
static void test_parts(void)
{
    Sim s;

    sim_init(&s, 16);
    for (unsigned w = 0; w < 30; w++) {
        for (uint32_t b = 0; b < BLOCKS; b += 10) {
            write_pages(&s, b, b % 20 ? 16 : 1);
        }
        window(&s);
    }
    g_assert_cmpfloat(fabs(ask(&s, 20).part - 1 / 16.0), <, 0.01);
    g_assert_cmpfloat(fabs(ask(&s, 30).part - 1), <, 0.01);
    g_assert_cmpfloat(ask(&s, 31).part, <, 0.01);
    sim_end(&s);
}

/* Hotter is never worth less; the rank asked for is the least that will do. */
static void test_order(void)
{
    uint32_t least;
    Sim s;

    sim_init(&s, 1);
    for (unsigned w = 0; w < 30; w++) {
        for (uint32_t b = 0; b < BLOCKS; b++) {
            if (rnd01(&s) < (double)b / BLOCKS) {
                write_pages(&s, b, 1);
            }
        }
        window(&s);
    }
    for (uint32_t b = 0; b < 64; b++) {
        for (uint32_t rank = 1; rank < 8000; rank++) {
            g_assert_cmpfloat(hm_forecast(s.f, b, rank).part, <=,
                              hm_forecast(s.f, b, rank + 1).part);
        }
    }
    least = hm_forecast_rank(s.f, 0.5);
    g_assert_cmpuint(least, <, hm_heat_temperature_to_rank(s.heat, 7));
    g_assert_cmpuint(least, >, hm_heat_temperature_to_rank(s.heat, 1));
    g_assert_cmpuint(hm_forecast_rank(s.f, 1.01), ==, UINT32_MAX);
    sim_end(&s);
}

static void move(Sim *s, uint32_t block, uint32_t dram_index)
{
    uint32_t frame = hm_frames_tier_frame(s->frames, HM_TIER_DRAM,
                                          dram_index);
    HmCycle c;

    g_assert_cmpint(hm_frames_plan_cycle(s->frames, block,
                                         hm_frames_block_in(s->frames, frame),
                                         0, &c), ==, HM_MOVE_DONE);
    hm_frames_apply(s->frames, &c);
}

/*
 * What the log says of a block that has moved is not the guest's doing: of
 * the blocks written for the first time half go on being written, and half
 * have moved and are left out.
 */
static void test_moved(void)
{
    enum { EACH = 200 };
    uint32_t fresh = DRAM;
    Sim s;

    sim_init(&s, 1);
    for (unsigned w = 0; w < 10; w++, fresh += 2 * EACH) {
        for (uint32_t i = 0; i < 2 * EACH; i++) {
            write_pages(&s, fresh + i, 1);
        }
        for (uint32_t i = DRAM; i < fresh; i++) {
            if ((i - DRAM) % (2 * EACH) >= EACH) {
                write_pages(&s, i, 1);
            }
        }
        window(&s);
        for (uint32_t i = 0; i < EACH; i++) {
            move(&s, fresh + i, w % 5 * EACH + i);
        }
    }
    g_assert_cmpfloat(ask(&s, fresh - 1).part, >, 0.95);
    sim_end(&s);
}

static void test_bytes(void)
{
    Sim s;

    sim_init(&s, 1);
    g_assert_cmpuint(hm_forecast_bytes(s.f), >, BLOCKS / 8);
    g_assert_cmpuint(hm_forecast_bytes(s.f), <, BLOCKS / 8 + 65536);
    sim_end(&s);
}

/*
 * A few large blocks, each written by some eighth of its pages, which differ:
 * what is expected of them stands clear of chance.
 */
static void test_large_blocks(void)
{
    const uint32_t hot = 16, ppb = 512;
    Sim s;

    sim_init(&s, ppb);
    for (unsigned w = 0; w < 30; w++) {
        for (uint32_t b = 0; b < hot; b++) {
            write_pages(&s, DRAM + b, 48 + 29 * b % 32);
        }
        window(&s);
    }
    for (uint32_t b = 0; b < hot; b++) {
        HmExpected e = ask(&s, DRAM + b);

        g_assert_cmpfloat(e.part, >, 0.08);
        g_assert_cmpfloat(e.part, <, 0.16);
        g_assert_cmpfloat(e.below, >, 0);
        g_assert_cmpfloat(6 * e.below, <, e.part);
    }
    sim_end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/forecast/empty", test_empty);
    g_test_add_func("/hybridmem/forecast/even", test_even);
    g_test_add_func("/hybridmem/forecast/hot-and-cold", test_hot_and_cold);
    g_test_add_func("/hybridmem/forecast/gone", test_gone);
    g_test_add_func("/hybridmem/forecast/parts", test_parts);
    g_test_add_func("/hybridmem/forecast/order", test_order);
    g_test_add_func("/hybridmem/forecast/moved", test_moved);
    g_test_add_func("/hybridmem/forecast/bytes", test_bytes);
    g_test_add_func("/hybridmem/forecast/large-blocks", test_large_blocks);
    return g_test_run();
}
