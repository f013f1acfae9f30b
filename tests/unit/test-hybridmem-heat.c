/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/heat.c and hw/hybridmem/dirty.h
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "hw/hybridmem/heat.h"
#include "hw/hybridmem/dirty.h"

/* A step of a rank is 0.27 % of T; literal tables come within it. */
#define STEP 0.003

static void assert_near(double is, double want, double part)
{
    if (fabs(is - want) > part * want) {
        g_test_message("%g, wanted %g", is, want);
    }
    g_assert_cmpfloat(fabs(is - want), <=, part * want);
}

/* -- Dirty walk -- */

static void check_walk(uint64_t pages, uint32_t ppb, double p)
{
    /* What lies beyond the last page must not count. */
    g_autofree unsigned long *map = g_new(unsigned long,
                                          BITS_TO_LONGS(pages));
    uint32_t blocks = DIV_ROUND_UP(pages, ppb), next = 0;
    g_autofree uint32_t *want = g_new0(uint32_t, blocks);
    HmDirtyIter it;
    size_t n;

    memset(map, 0xff, BITS_TO_LONGS(pages) * sizeof(long));
    for (uint64_t i = 0; i < pages; i++) {
        if (g_test_rand_double() < p) {
            want[i / ppb]++;
        } else {
            clear_bit(i, map);
        }
    }
    hm_dirty_init(&it, map, pages, ppb);
    while ((n = hm_dirty_next(&it))) {
        g_assert_cmpuint(n, <=, HM_DIRTY_BATCH);
        for (size_t i = 0; i < n; i++, next++) {
            while (!want[next]) {
                next++;
            }
            g_assert_cmpuint(it.block[i], ==, next);
            if (ppb > 1) {
                g_assert_cmpuint(it.count[i], ==, want[next]);
            }
        }
    }
    for (; next < blocks; next++) {
        g_assert_cmpuint(want[next], ==, 0);
    }
    for (uint32_t b = 0; b < blocks; b++) {
        g_assert_cmpuint(hm_dirty_count(&it, b), ==, want[b]);
    }
}

static void test_walk(void)
{
    static const uint64_t pages[] = { 1, 63, 64, 65, 255, 256, 1000, 40001 };
    static const double p[] = { 0, 0.0005, 0.01, 0.3, 1 };

    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        for (uint32_t ppb = 1; ppb <= 4096; ppb *= 2) {
            for (size_t k = 0; k < G_N_ELEMENTS(p); k++) {
                check_walk(pages[i], ppb, p[k]);
            }
        }
    }
}

/* -- Tables -- */

/* 4 blocks of 4 pages, half-life 1 s, windows of 1 s. */
static void test_table(void)
{
    static const struct {
        unsigned long dirty;
        double t[4];
    } window[] = {
        { 0x0000, { 0, 0, 0, 0 } },
        { 0xf731, { 1, 2, 3, 4 } },
        { 0x0000, { 0.5, 1, 1.5, 2 } },
        { 0x000f, { 4.25, 0.5, 0.75, 1 } },
        { 0x8001, { 3.125, 0.25, 0.375, 1.5 } },
    };
    HmHeat *h = hm_heat_new(16, 4, 1000);

    g_assert_cmpuint(hm_heat_blocks(h), ==, 4);
    g_assert_cmpuint(hm_heat_pages(h), ==, 16);
    g_assert_cmpuint(hm_heat_pages_per_block(h), ==, 4);
    g_assert_cmpuint(hm_heat_half_life(h), ==, 1000);
    for (size_t w = 0; w < G_N_ELEMENTS(window); w++) {
        hm_heat_window(h, &window[w].dirty, 1000);
        for (uint32_t b = 0; b < 4; b++) {
            double t = hm_heat_temperature(h, b);

            assert_near(t, window[w].t[b], 2 * STEP);
            g_assert_cmpint(hm_heat_rank(h, b) == 0, ==,
                            window[w].t[b] == 0);
        }
    }
    hm_heat_free(h);
}

static void test_ageing(void)
{
    static const struct {
        uint64_t ms;
        double t;
    } age[] = {
        { 0, 8 }, { 1000, 4 }, { 500, 2.8284 }, { 1500, 1 }, { 3000, 0.125 },
        { 10000, 0.000122 }, { 6000, 0 }, { 1000, 0 },
    };
    unsigned long dirty = 0xff;
    HmHeat *h = hm_heat_new(8, 8, 1000);

    hm_heat_window(h, &dirty, 123);
    for (size_t i = 0; i < G_N_ELEMENTS(age); i++) {
        hm_heat_age(h, age[i].ms);
        assert_near(hm_heat_temperature(h, 0), age[i].t, 2 * STEP);
    }
    hm_heat_free(h);
}

/* Many small windows are as long as one: no time is lost to rounding. */
static void test_carry(void)
{
    unsigned long dirty = 1;
    HmHeat *h = hm_heat_new(1, 1, 100003);

    hm_heat_window(h, &dirty, 0);
    for (int i = 0; i < 100003; i++) {
        hm_heat_age(h, 1);
    }
    assert_near(hm_heat_temperature(h, 0), 0.5, 1 / 1e9);
    hm_heat_free(h);
}

static void test_half_life(void)
{
    unsigned long dirty = 1;
    HmHeat *h = hm_heat_new(1, 1, 1000);

    hm_heat_window(h, &dirty, 0);
    hm_heat_age(h, 1000);
    assert_near(hm_heat_temperature(h, 0), 0.5, STEP);
    hm_heat_set_half_life(h, 10000);
    g_assert_cmpuint(hm_heat_half_life(h), ==, 10000);
    assert_near(hm_heat_temperature(h, 0), 0.5, STEP);
    hm_heat_age(h, 10000);
    assert_near(hm_heat_temperature(h, 0), 0.25, STEP);
    hm_heat_set_half_life(h, 1);
    hm_heat_age(h, 1);
    assert_near(hm_heat_temperature(h, 0), 0.125, STEP);
    hm_heat_free(h);
}

/* Steps that are less than one are kept, also where nothing changes. */
static void test_same_half_life(void)
{
    unsigned long dirty = 1;
    HmHeat *h = hm_heat_new(1, 1, 100003);

    hm_heat_window(h, &dirty, 0);
    for (int i = 0; i < 100003; i++) {
        hm_heat_set_half_life(h, 100003);
        hm_heat_age(h, 1);
    }
    assert_near(hm_heat_temperature(h, 0), 0.5, 1 / 1e9);
    hm_heat_free(h);
}

static void test_ranks(void)
{
    HmHeat *h = hm_heat_new(100, 1, 1000);
    unsigned long dirty[2] = { 0x123456789abcdefUL, 0x5 };
    uint32_t block[100], rank[100];

    g_assert_cmpuint(hm_heat_temperature_to_rank(h, 0), ==, 0);
    g_assert_cmpuint(hm_heat_temperature_to_rank(h, -1), ==, 0);
    g_assert_cmpuint(hm_heat_temperature_to_rank(h, 1 / 1e9), ==, 0);
    g_assert_cmpuint(hm_heat_temperature_to_rank(h, 1e30), ==,
                     hm_heat_temperature_to_rank(h, 1e20));
    g_assert_cmpfloat(hm_heat_rank_to_temperature(h, 0), ==, 0);
    g_assert_cmpuint(hm_heat_temperature_to_rank(h, 2) -
                     hm_heat_temperature_to_rank(h, 1), ==, HM_HEAT_STEPS);
    for (uint32_t r = 1; r < 48 * HM_HEAT_STEPS; r++) {
        double t = hm_heat_rank_to_temperature(h, r);

        g_assert_cmpuint(hm_heat_temperature_to_rank(h, t), ==, r);
        g_assert_cmpuint(hm_heat_temperature_to_rank(h, t * 1.001), ==, r);
        g_assert_cmpfloat(t, >, hm_heat_rank_to_temperature(h, r - 1));
    }

    hm_heat_window(h, dirty, 100);
    for (uint32_t i = 0; i < 100; i++) {
        block[i] = 99 - i;
    }
    for (size_t n = 0; n <= 100; n += 10) {
        memset(rank, 0xff, sizeof(rank));
        hm_heat_ranks(h, block, rank, n);
        for (uint32_t i = 0; i < n; i++) {
            g_assert_cmpuint(rank[i], ==, hm_heat_rank(h, 99 - i));
        }
        g_assert_true(n == 100 || rank[n] == UINT32_MAX);
    }
    hm_heat_free(h);
}

/* -- Against a floating point model -- */

typedef struct Model {
    uint32_t blocks;
    uint32_t ppb;
    uint64_t pages;
    double half_life;
    double *t;
} Model;

static void model_window(Model *m, const unsigned long *dirty, double ms)
{
    for (uint32_t b = 0; b < m->blocks; b++) {
        m->t[b] *= exp2(-ms / m->half_life);
    }
    for (uint64_t p = 0; p < m->pages; p++) {
        m->t[p / m->ppb] += test_bit(p, dirty);
    }
}

typedef struct Errors {
    double worst;
    double sum;
    unsigned n;
} Errors;

static void compare(const HmHeat *h, const Model *m, Errors *e)
{
    for (uint32_t b = 0; b < m->blocks; b++) {
        double t = hm_heat_temperature(h, b);
        double error;

        if (m->t[b] < ldexp(1, -15)) {
            g_assert_cmpfloat(t, <, ldexp(1, -14));
            continue;
        }
        error = t / m->t[b] - 1;
        e->worst = MAX(e->worst, fabs(error));
        e->sum += error;
        e->n++;
    }
}

/* Each page has its own odds of being written, from never to always. */
static void fill(unsigned long *dirty, const Model *m, const double *odds)
{
    memset(dirty, 0, BITS_TO_LONGS(m->pages) * sizeof(long));
    for (uint64_t p = 0; p < m->pages; p++) {
        if (g_test_rand_double() < odds[p]) {
            set_bit(p, dirty);
        }
    }
}

static void run_model(uint64_t pages, uint32_t ppb, uint64_t half_life,
                      unsigned windows, uint64_t ms_max, double worst,
                      double bias)
{
    HmHeat *h = hm_heat_new(pages, ppb, half_life);
    Model m = {
        .blocks = hm_heat_blocks(h), .ppb = ppb, .pages = pages,
        .half_life = half_life,
    };
    unsigned long *dirty = g_new0(unsigned long, BITS_TO_LONGS(pages));
    double *odds = g_new(double, pages);
    Errors e = { 0 };

    m.t = g_new0(double, m.blocks);
    for (uint64_t p = 0; p < pages; p++) {
        odds[p] = p / ppb % 8 == 0 ? 1 : pow(g_test_rand_double(), 4);
    }
    for (unsigned w = 0; w < windows; w++) {
        uint64_t ms = ms_max / 2 + g_test_rand_int_range(0, ms_max / 2 + 1);

        fill(dirty, &m, odds);
        hm_heat_window(h, dirty, ms);
        model_window(&m, dirty, ms);
        if (w % 16 == 0 || w + 1 == windows) {
            compare(h, &m, &e);
        }
    }
    g_test_message("ppb %u half-life %.0f windows: error %.2f %% at worst, "
                   "%.3f %% on average", ppb, (double)half_life / ms_max,
                   100 * e.worst, 100 * e.sum / e.n);
    g_assert_cmpfloat(e.worst, <, worst);
    g_assert_cmpfloat(fabs(e.sum / e.n), <, bias);
    g_free(odds);
    g_free(dirty);
    g_free(m.t);
    hm_heat_free(h);
}

static void test_model(void)
{
    run_model(1000, 1, 3000, 200, 1000, 0.02, 0.002);
    run_model(1000, 1, 10000, 400, 1000, 0.03, 0.002);
    run_model(4001, 4, 10000, 400, 1000, 0.03, 0.002);
    run_model(8000, 64, 10000, 400, 1000, 0.03, 0.002);
    run_model(40000, 512, 10000, 300, 1000, 0.03, 0.002);
    /* What a window adds is far less than a step. */
    run_model(1000, 1, 100000, 1500, 1000, 0.06, 0.002);
    run_model(70000, 8192, 10000, 100, 1000, 0.03, 0.003);
}

/* One more on 20 must show, and the sum must neither drift nor stick. */
static void test_small_additions(void)
{
    enum { BLOCKS = 4096 };
    static unsigned long all[BITS_TO_LONGS(BLOCKS)];
    HmHeat *h = hm_heat_new(BLOCKS, 1, 1000);
    double want = 0;

    memset(all, 0xff, sizeof(all));
    for (int w = 0; w < 400; w++) {
        double mean = 0;

        hm_heat_window(h, all, 0);
        want += 1;
        for (uint32_t b = 0; b < BLOCKS; b++) {
            mean += hm_heat_temperature(h, b) / BLOCKS;
        }
        assert_near(mean, want, 0.003);
        if (w == 20) {
            for (uint32_t b = 0; b < BLOCKS; b++) {
                assert_near(hm_heat_temperature(h, b), want, 0.02);
            }
        }
    }
    hm_heat_free(h);
}

/* Thousands of half-lives: re-based many times, also while blocks are hot. */
static void test_rebase(void)
{
    run_model(500, 1, 1000, 3000, 1000, 0.02, 0.002);
    run_model(500, 4, 1000, 600, 9000, 0.02, 0.002);
    run_model(500, 1, 1000, 300, 50000, 0.02, 0.002);
}

static void test_huge_elapsed(void)
{
    static const uint64_t ms[] = {
        18000, 60000, 190000, 209000, 255000, 256000, 300000, 65536000,
        UINT64_MAX / 256, UINT64_MAX / 2, UINT64_MAX,
    };
    unsigned long dirty = 3;

    for (size_t i = 0; i < G_N_ELEMENTS(ms); i++) {
        HmHeat *h = hm_heat_new(3, 1, 1000);

        /* From different places in the range. */
        for (unsigned k = 0; k < 300; k++) {
            hm_heat_window(h, &dirty, 777);
            g_assert_cmpuint(hm_heat_threshold(h, 1), >, 1);
            if (k % 7 == 0) {
                hm_heat_age(h, ms[i]);
                g_assert_cmpuint(hm_heat_rank(h, 0), ==, 0);
                g_assert_cmpuint(hm_heat_rank(h, 2), ==, 0);
                g_assert_cmpfloat(hm_heat_temperature(h, 1), ==, 0);
                g_assert_cmpuint(hm_heat_threshold(h, 1), ==, 1);
                hm_heat_window(h, &dirty, 0);
                assert_near(hm_heat_temperature(h, 0), 1, STEP);
            }
        }
        hm_heat_free(h);
    }
}

/* The scale ends at 2^32, wherever in the range of stamps. */
static void test_hottest(void)
{
    enum { PAGES = 1 << 18 };
    unsigned long *dirty = g_new(unsigned long, BITS_TO_LONGS(PAGES));
    HmHeat *h = hm_heat_new(PAGES, PAGES, 1000);
    uint32_t rank;

    memset(dirty, 0xff, BITS_TO_LONGS(PAGES) * sizeof(long));
    hm_heat_age(h, 207000);
    for (unsigned i = 0; i < 17000; i++) {
        hm_heat_window(h, dirty, 0);
    }
    rank = hm_heat_rank(h, 0);
    g_assert_cmpuint(rank, ==, hm_heat_temperature_to_rank(h, 1e30));
    assert_near(hm_heat_temperature(h, 0), 0x1p32, STEP);
    hm_heat_window(h, dirty, 0);
    g_assert_cmpuint(hm_heat_rank(h, 0), ==, rank);
    g_assert_cmpuint(hm_heat_threshold(h, 0), >, rank);
    g_free(dirty);
    hm_heat_free(h);
}

/* -- Threshold -- */

static uint32_t count_from(const HmHeat *h, uint32_t rank)
{
    uint32_t n = 0;

    for (uint32_t b = 0; b < hm_heat_blocks(h); b++) {
        n += hm_heat_rank(h, b) >= rank;
    }
    return n;
}

static void check_threshold(const HmHeat *h, uint32_t n)
{
    uint32_t rank = hm_heat_threshold(h, n);

    g_assert_cmpuint(rank, >=, 1);
    g_assert_cmpuint(count_from(h, rank), <=, n);
    /* The next lower edge would be too many. */
    if (rank > HM_HEAT_BUCKET_STEPS) {
        g_assert_cmpuint(count_from(h, rank - HM_HEAT_BUCKET_STEPS), >, n);
    }
}

static void test_threshold(void)
{
    enum { PAGES = 2000 };
    unsigned long dirty[BITS_TO_LONGS(PAGES)];
    double odds[PAGES];
    Model m = { .pages = PAGES };
    HmHeat *h = hm_heat_new(PAGES, 2, 3000);

    g_assert_cmpuint(hm_heat_threshold(h, 0), ==, 1);
    g_assert_cmpuint(hm_heat_threshold(h, 1000), ==, 1);
    for (unsigned i = 0; i < PAGES; i++) {
        odds[i] = pow(g_test_rand_double(), 6);
    }
    for (unsigned w = 0; w < 1500; w++) {
        fill(dirty, &m, odds);
        hm_heat_window(h, dirty, 900);
        if (w % 10 == 0) {
            check_threshold(h, 0);
            check_threshold(h, 1);
            check_threshold(h, g_test_rand_int_range(0, PAGES / 2));
            check_threshold(h, PAGES / 2);
        }
    }
    hm_heat_free(h);
}

/* -- Size -- */

static void test_bytes(void)
{
    unsigned long dirty = 1;
    HmHeat *h = hm_heat_new(1ull << 28, 1, 1000);

    g_assert_cmpuint(hm_heat_bytes(h), <=, 2 * (1ull << 28) + 65536);
    g_assert_cmpfloat(hm_heat_temperature(h, (1u << 28) - 1), ==, 0);
    hm_heat_free(h);

    /* The last block is partly filled; blocks larger than the guest. */
    h = hm_heat_new(3, 1 << 18, 1000);
    g_assert_cmpuint(hm_heat_blocks(h), ==, 1);
    dirty = 0xff;
    hm_heat_window(h, &dirty, 0);
    assert_near(hm_heat_temperature(h, 0), 3, STEP);
    hm_heat_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/heat/walk", test_walk);
    g_test_add_func("/hybridmem/heat/table", test_table);
    g_test_add_func("/hybridmem/heat/ageing", test_ageing);
    g_test_add_func("/hybridmem/heat/carry", test_carry);
    g_test_add_func("/hybridmem/heat/half-life", test_half_life);
    g_test_add_func("/hybridmem/heat/same-half-life", test_same_half_life);
    g_test_add_func("/hybridmem/heat/ranks", test_ranks);
    g_test_add_func("/hybridmem/heat/model", test_model);
    g_test_add_func("/hybridmem/heat/small-additions", test_small_additions);
    g_test_add_func("/hybridmem/heat/rebase", test_rebase);
    g_test_add_func("/hybridmem/heat/huge-elapsed", test_huge_elapsed);
    g_test_add_func("/hybridmem/heat/hottest", test_hottest);
    g_test_add_func("/hybridmem/heat/threshold", test_threshold);
    g_test_add_func("/hybridmem/heat/bytes", test_bytes);
    return g_test_run();
}
