/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/access.c: guests whose accesses are known.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "hw/hybridmem/access.h"

typedef struct Sim Sim;

/* How many pages of @block the guest uses in this window. */
typedef uint32_t Guest(Sim *s, uint32_t block);

/* Beside HmAccess, what it should know by itself. */
typedef struct Block {
    uint32_t looked;            /* window; 0: never */
    uint32_t looks;
    uint32_t longest;           /* windows between two looks */
    uint32_t found;             /* pages, by the last look */
} Block;

struct Sim {
    HmAccess *a;
    uint64_t pages;
    uint32_t blocks, ppb;
    uint32_t window;
    Block *b;
    uint32_t *block;            /* of the window */
    uint8_t *weight;
    size_t n;
    unsigned long *seen;
    uint64_t random;
    double spent, allowed;      /* faults */
};

static void sim_init(Sim *s, uint64_t pages, uint32_t ppb)
{
    memset(s, 0, sizeof(*s));
    s->a = hm_access_new(pages, ppb);
    s->pages = pages;
    s->ppb = ppb;
    s->blocks = hm_access_blocks(s->a);
    g_assert_cmpuint(s->blocks, ==, DIV_ROUND_UP(pages, ppb));
    s->b = g_new0(Block, s->blocks);
    s->block = g_new0(uint32_t, s->blocks);
    s->weight = g_new0(uint8_t, s->blocks);
    s->seen = g_new0(unsigned long, BITS_TO_LONGS(pages));
    s->random = 88172645463325252ull;
}

static void sim_end(Sim *s)
{
    hm_access_free(s->a);
    g_free(s->b);
    g_free(s->block);
    g_free(s->weight);
    g_free(s->seen);
}

static double rnd01(Sim *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random >> 11) * ldexp(1, -53);
}

static uint32_t pages_of(const Sim *s, uint32_t block)
{
    return MIN(s->ppb, s->pages - (uint64_t)block * s->ppb);
}

static uint32_t weight_of(const Sim *s, uint32_t block)
{
    return MIN(s->window - s->b[block].looked, 255);
}

/* What holds for every list. */
static void check_picked(Sim *s, size_t max, uint64_t max_faults)
{
    uint64_t faults = 0;

    g_assert_cmpuint(s->n, <=, max);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t block = s->block[i];

        g_assert_cmpuint(block, <, s->blocks);
        g_assert_true(i == 0 || block > s->block[i - 1]);
        g_assert_cmpuint(s->weight[i], >=, 1);
        g_assert_cmpuint(s->weight[i], ==, weight_of(s, block));
        faults += s->b[block].found ? pages_of(s, block) : 0;
    }
    s->spent += faults;
    s->allowed += max_faults;
    /* Less than a block is kept from earlier windows. */
    g_assert_true(faults <= max_faults || faults - max_faults < s->ppb);
    g_assert_cmpfloat(s->spent, <=, s->allowed);
}

static void look(Sim *s, uint32_t block, uint32_t used)
{
    Block *b = &s->b[block];

    for (uint32_t i = 0; i < used; i++) {
        set_bit((uint64_t)block * s->ppb + i, s->seen);
    }
    b->longest = MAX(b->longest, s->window - b->looked);
    b->looked = s->window;
    b->looks++;
    b->found = used;
}

/* What a look has found is known to a seventh; anything is not nothing. */
static void check_found(const Sim *s)
{
    for (size_t i = 0; i < s->n; i++) {
        uint32_t found = s->b[s->block[i]].found;
        double part = (double)found / pages_of(s, s->block[i]);
        double told = hm_access_found(s->a, s->block[i]);

        g_assert_cmpfloat(fabs(told - part), <, 1 / 7.0);
        g_assert_true((told > 0) == (found > 0));
    }
}

static void window(Sim *s, size_t max, uint64_t max_faults, Guest *guest)
{
    s->window++;
    s->n = hm_access_pick(s->a, NULL, s->block, s->weight, max, max_faults);
    check_picked(s, max, max_faults);
    memset(s->seen, 0, BITS_TO_LONGS(s->pages) * sizeof(long));
    for (size_t i = 0; i < s->n; i++) {
        look(s, s->block[i], guest(s, s->block[i]));
    }
    hm_access_window(s->a, &(HmWindow) {
        .sense = HM_SENSE_ACCESSES,
        .seen = s->seen,
        .watched = s->block,
        .weight = s->weight,
        .n_watched = s->n,
    });
    check_found(s);
}

static void run(Sim *s, unsigned windows, Guest *guest)
{
    for (unsigned w = 0; w < windows; w++) {
        window(s, s->blocks, UINT64_MAX / 2 / windows, guest);
    }
}

static uint32_t all_of_it(Sim *s, uint32_t block)
{
    return pages_of(s, block);
}

static uint32_t none_of_it(Sim *s, uint32_t block)
{
    return 0;
}

/* Odd blocks wholly, even ones not at all. */
static uint32_t odd(Sim *s, uint32_t block)
{
    return block % 2 ? pages_of(s, block) : 0;
}

/* Otherwise than last time, so it is never left alone. */
static uint32_t fickle(Sim *s, uint32_t block)
{
    return s->b[block].found ? 0 : pages_of(s, block);
}

/* -- Rates ------------------------------------------------------------- */

static void test_empty(void)
{
    Sim s;

    sim_init(&s, 100, 4);
    g_assert_cmpfloat(hm_access_rate(s.a, 24), ==, 0);
    g_assert_cmpfloat(hm_access_expected(s.a, 0).part, ==, 0);
    g_assert_cmpfloat(hm_access_threshold(s.a, 0), ==, 0);
    g_assert_cmpuint(hm_access_pick(s.a, NULL, s.block, s.weight, 0, 0), ==, 0);
    hm_access_window(s.a, &(HmWindow) { .seen = s.seen });
    g_assert_cmpfloat(hm_access_expected(s.a, 0).part, ==, 0);
    g_assert_cmpuint(hm_access_bytes(s.a), >=, 25 * 4);
    sim_end(&s);
    hm_access_free(NULL);
}

static void test_always_and_never(void)
{
    static const double half_life[] = { 1, HM_ACCESS_HALF_LIFE, 200 };

    for (size_t h = 0; h < G_N_ELEMENTS(half_life); h++) {
        Sim s;

        sim_init(&s, 64, 8);
        hm_access_set_half_life(s.a, half_life[h]);
        run(&s, 30 * half_life[h], odd);
        for (uint32_t b = 0; b < s.blocks; b++) {
            g_assert_cmpfloat(hm_access_rate(s.a, b), ==, b % 2);
        }
        /* What was hot becomes quite cold, too. */
        run(&s, 30 * half_life[h], none_of_it);
        for (uint32_t b = 0; b < s.blocks; b++) {
            g_assert_cmpfloat(hm_access_rate(s.a, b), ==, 0);
        }
        sim_end(&s);
    }
}

static uint32_t three_pages(Sim *s, uint32_t block)
{
    return 3;
}

static void test_parts(void)
{
    Sim s;

    sim_init(&s, 64 * 10, 64);
    run(&s, 100, three_pages);
    for (uint32_t b = 0; b < s.blocks; b++) {
        g_assert_cmpfloat(fabs(hm_access_rate(s.a, b) - 3 / 64.0), <, 0.0001);
        g_assert_cmpfloat(fabs(hm_access_expected(s.a, b).part - 3 / 64.0),
                          <, 0.001);
    }
    sim_end(&s);
}

/* A look after w windows weighs 1 - 2^(-w / half-life), at most a half. */
static void test_weight(void)
{
    static const unsigned leave[] = { 1, 2, 5, 17, 49, 51, 255, 300, 4095 };

    for (size_t i = 0; i < G_N_ELEMENTS(leave); i++) {
        double want = MIN(1 - exp2(-(double)leave[i] / 50), 0.5);
        Sim s;

        sim_init(&s, 8, 1);
        hm_access_set_half_life(s.a, 50);
        for (unsigned w = 1; w < leave[i]; w++) {
            window(&s, 0, 0, all_of_it);
        }
        g_assert_cmpfloat(hm_access_rate(s.a, 3), ==, 0);
        run(&s, 1, all_of_it);
        g_assert_cmpfloat(fabs(hm_access_rate(s.a, 3) - want), <, 0.00002);
        sim_end(&s);
    }
}

/* Nothing is learnt, and nothing forgotten, while nobody looks. */
static void test_keeps(void)
{
    double before[50];
    Sim s;

    sim_init(&s, 50, 1);
    run(&s, 9, odd);
    run(&s, 1, fickle);
    for (uint32_t b = 0; b < s.blocks; b++) {
        before[b] = hm_access_rate(s.a, b);
    }
    for (unsigned w = 0; w < 200; w++) {
        window(&s, 0, 0, all_of_it);
    }
    for (uint32_t b = 0; b < s.blocks; b++) {
        g_assert_cmpfloat(hm_access_rate(s.a, b), ==, before[b]);
    }
    sim_end(&s);
}

/* -- Whom to look at ----------------------------------------------------- */

/* Those that had to wait come first: all have their turn. */
static void test_turns(void)
{
    enum { BLOCKS = 100, MAX = 7 };
    Sim s;

    sim_init(&s, BLOCKS, 1);
    for (unsigned w = 0; w < 3 * BLOCKS; w++) {
        window(&s, MAX, UINT32_MAX, fickle);
        g_assert_cmpuint(s.n, ==, MAX);
        for (unsigned i = 0; i < MAX; i++) {
            uint32_t b = (w * MAX + i) % BLOCKS;

            g_assert_cmpuint(s.b[b].looks, ==, 1 + (w * MAX + i) / BLOCKS);
        }
    }
    sim_end(&s);
}

/* A block that costs more than a window may is looked at now and then. */
static void test_dear_blocks(void)
{
    enum { BLOCKS = 8, FAULTS = 100, WINDOWS = 200 };
    Sim s;

    sim_init(&s, BLOCKS * 512, 512);
    for (unsigned w = 0; w < WINDOWS; w++) {
        window(&s, BLOCKS, FAULTS, all_of_it);
    }
    g_assert_cmpfloat(s.spent, >, FAULTS * WINDOWS / 2);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        g_assert_cmpuint(s.b[b].looks, >=, 3);
        g_assert_cmpuint(s.b[b].longest, <=, 100);
    }

    sim_end(&s);
}

/* What a window has left serves the next one, and no other. */
static void test_what_is_left(void)
{
    static const struct {
        size_t max;
        uint64_t faults;
        size_t n;
    } row[] = {
        { 1, 0, 1 },            /* nothing is known of it */
        { 1, 511, 0 }, { 0, 100, 0 }, { 1, 1, 0 },
        { 1, 510, 0 }, { 1, 2, 1 },
        { 0, 0, 0 }, { 1, 511, 0 }, { 1, UINT64_MAX, 1 },
    };
    Sim s;

    sim_init(&s, 512, 512);
    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        window(&s, row[i].max, row[i].faults, all_of_it);
        g_assert_cmpuint(s.n, ==, row[i].n);
    }
    sim_end(&s);
}

static uint32_t any(Sim *s, uint32_t block)
{
    double kind = block % 4 / 3.0;

    return rnd01(s) < kind ? 1 + rnd01(s) * (pages_of(s, block) - 1) : 0;
}

/* Any limits, any blocks, past the wrap of time: check_picked() looks on. */
static void test_limits(void)
{
    static const struct {
        uint64_t pages;
        uint32_t ppb;
    } shape[] = { { 1, 1 }, { 300, 1 }, { 301, 4 }, { 5000, 512 }, { 7, 8 } };

    for (size_t i = 0; i < G_N_ELEMENTS(shape); i++) {
        Sim s;

        sim_init(&s, shape[i].pages, shape[i].ppb);
        for (unsigned w = 0; w < 9000; w++) {
            bool tight = w / 100 % 3;
            size_t max = tight ? rnd01(&s) * (s.blocks + 1) : s.blocks;
            uint64_t faults = tight ? rnd01(&s) * 2 * s.ppb : 4 * s.pages;

            window(&s, max, faults, any);
        }
        for (uint32_t b = 0; b < s.blocks; b++) {
            g_assert_cmpuint(s.b[b].looks, >, 100);
            g_assert_cmpuint(s.b[b].longest, <, 600);
        }
        sim_end(&s);
    }
}

/* Without limits all are looked at in each window. */
static void test_haste(void)
{
    Sim s;

    sim_init(&s, 400, 4);
    run(&s, 100, odd);
    for (unsigned w = 0; w < 100; w++) {
        window(&s, s.blocks, UINT32_MAX, odd);
        g_assert_cmpuint(s.n, ==, s.blocks);
    }
    sim_end(&s);
}

/*
 * Calm: cold blocks are looked at every eighth window, but not all in the same
 * one, though they were looked at together before.  Then all at once again.
 */
static void test_calm(void)
{
    Sim s;

    sim_init(&s, 400, 4);
    run(&s, 100, none_of_it);
    hm_access_set_calm(s.a, true);
    run(&s, 16, none_of_it);
    for (uint32_t b = 0; b < s.blocks; b++) {
        s.b[b].looks = 0;
    }
    for (unsigned w = 0; w < 80; w++) {
        window(&s, s.blocks, UINT32_MAX, none_of_it);
        g_assert_cmpuint(s.n, <=, s.blocks / 8 + 1);
    }
    for (uint32_t b = 0; b < s.blocks; b++) {
        g_assert_cmpuint(s.b[b].looks, ==, 10);
    }
    hm_access_set_calm(s.a, false);
    window(&s, s.blocks, UINT32_MAX, none_of_it);
    g_assert_cmpuint(s.n, ==, s.blocks);
    sim_end(&s);
}

/* What is always used: each 64th window. */
static void test_calm_hot(void)
{
    Sim s;

    sim_init(&s, 400, 4);
    run(&s, 100, all_of_it);
    hm_access_set_calm(s.a, true);
    run(&s, 128, all_of_it);
    for (uint32_t b = 0; b < s.blocks; b++) {
        s.b[b].looks = 0;
    }
    run(&s, 128, all_of_it);
    for (uint32_t b = 0; b < s.blocks; b++) {
        g_assert_cmpuint(s.b[b].looks, ==, 2);
    }
    sim_end(&s);
}

/* Wherever a hot set is, each window sees its part. */
static void test_calm_scattered(void)
{
    static const uint32_t blocks[] = { 4096, 4096 + 100, 300, 5 };

    for (size_t c = 0; c < G_N_ELEMENTS(blocks); c++) {
        Sim s;

        sim_init(&s, blocks[c], 1);
        run(&s, 50, none_of_it);
        hm_access_set_calm(s.a, true);
        run(&s, 16, none_of_it);
        for (unsigned w = 0; w < 32; w++) {
            unsigned in[17] = { };

            window(&s, s.blocks, UINT32_MAX, none_of_it);
            for (size_t i = 0; i < s.n; i++) {
                in[s.block[i] / 256]++;
            }
            for (unsigned i = 0; c == 0 && i < 16; i++) {
                g_assert_cmpuint(in[i], ==, 32);
            }
        }
        for (uint32_t b = 0; b < s.blocks; b++) {
            g_assert_cmpuint(s.b[b].longest, <=, 15);
            g_assert_cmpuint(s.window - s.b[b].looked, <, 8);
        }
        sim_end(&s);
    }
}

/* Few of them, of which nothing is seen for 63 windows: that is remembered. */
static uint32_t first_four(Sim *s, uint32_t block)
{
    return block < 4 ? pages_of(s, block) : 0;
}

static void test_calm_remembers(void)
{
    Sim s;

    sim_init(&s, 4000, 4);
    run(&s, 200, first_four);
    hm_access_set_calm(s.a, true);
    for (unsigned w = 0; w < 2000; w++) {
        window(&s, s.blocks, UINT32_MAX, first_four);
        g_assert_cmpfloat(hm_access_expected(s.a, 0).part, >, 0.9);
        g_assert_cmpfloat(hm_access_expected(s.a, 0).below, <, 0.3);
    }
    sim_end(&s);
}

/*
 * What is not reached for longer than time goes is not taken for what has just
 * been looked at.
 */
static void test_never_reached(void)
{
    static const struct {
        uint32_t blocks, max;
    } c[] = { { 2940, 2 }, { 5000, 4 }, { 1030, 1 }, { 2048, 1 } };

    for (size_t i = 0; i < G_N_ELEMENTS(c); i++) {
        Sim s;

        sim_init(&s, c[i].blocks, 1);
        for (unsigned w = 0; w < 10 * c[i].blocks; w++) {
            window(&s, c[i].max, UINT32_MAX, all_of_it);
        }
        for (uint32_t b = 0; b < s.blocks; b++) {
            g_assert_cmpuint(s.b[b].looks, >, 1);
        }
        sim_end(&s);
    }
}

/* 200 fickle ones, 40 that are always used, 40 that never are. */
static uint32_t mixed(Sim *s, uint32_t block)
{
    if (block < 200) {
        return s->b[block].looks ? fickle(s, block) : block % 2;
    }
    return block < 240;
}

static uint32_t mixed_and_used(Sim *s, uint32_t block)
{
    return block < 200 ? mixed(s, block) : 1;
}

/* Those that never were now are: looks are close at first. */
static void check_change(Sim *s, size_t max_faults)
{
    static const unsigned leave[] = { 4, 8, 16, 32, 64, 64 };
    uint32_t looked[G_N_ELEMENTS(leave) + 2];
    unsigned n = 0;

    for (unsigned w = 0; n < G_N_ELEMENTS(looked); w++) {
        uint32_t looks = s->b[250].looks;

        window(s, s->blocks, max_faults, mixed_and_used);
        if (s->b[250].looks > looks) {
            looked[n++] = w;
        }
    }
    g_assert_cmpuint(looked[0], <, 8);
    for (unsigned i = 0; i < G_N_ELEMENTS(leave); i++) {
        g_assert_cmpuint(looked[i + 1] - looked[i], ==, leave[i]);
    }
}

/*
 * About 200 faults a window of at most 300: too much for haste.  Leave is then
 * 64 windows for what is always used, and 8 for what is not.
 */
static void test_leave(void)
{
    enum { WINDOWS = 640, FAULTS = 300 };
    uint32_t before[280];
    Sim s;

    sim_init(&s, 280, 1);
    for (unsigned w = 0; w < 300; w++) {
        window(&s, w < 200 ? 280 : 0, FAULTS, mixed);
    }
    for (unsigned w = 0; w < 200; w++) {
        window(&s, 280, 205, mixed);
    }
    for (unsigned w = 0; w < 100; w++) {
        window(&s, 280, FAULTS, mixed);
    }
    for (uint32_t b = 0; b < 280; b++) {
        before[b] = s.b[b].looks;
        s.b[b].longest = 0;
    }
    for (unsigned w = 0; w < WINDOWS; w++) {
        window(&s, 280, FAULTS, mixed);
    }
    for (uint32_t b = 0; b < 280; b++) {
        uint32_t leave = b < 200 ? 1 : b < 240 ? 64 : 8;

        g_assert_cmpuint(s.b[b].longest, ==, leave);
        g_assert_cmpuint(s.b[b].looks - before[b], ==, WINDOWS / leave);
    }
    check_change(&s, FAULTS);
    sim_end(&s);
}

/* Half of the blocks always accessed, half at random. */
static uint32_t half_stable(Sim *s, uint32_t block)
{
    return block % 2 || rnd01(s) < 0.5;
}

static void test_stable_ones_wait(void)
{
    uint64_t looks[2] = { };
    Sim s;

    sim_init(&s, 2000, 1);
    for (unsigned w = 0; w < 2000; w++) {
        window(&s, s.blocks, 100, half_stable);
    }
    for (uint32_t b = 0; b < s.blocks; b++) {
        looks[b % 2] += s.b[b].looks;
    }
    g_test_message("looks: %" PRIu64 " stable, %" PRIu64 " not", looks[1],
                   looks[0]);
    g_assert_cmpuint(looks[1], <, looks[0] / 2);
    sim_end(&s);
}

/* -- What to expect ------------------------------------------------------ */

static double odds[2];          /* of even blocks, and odd ones */

static uint32_t by_odds(Sim *s, uint32_t block)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < pages_of(s, block); i++) {
        n += rnd01(s) < odds[block % 2];
    }
    return n;
}

typedef struct Spread {
    double sum, squares;
    unsigned n;
} Spread;

static void count(Spread *s, double x)
{
    s->sum += x;
    s->squares += x * x;
    s->n++;
}

/* Standard deviation. */
static double spread(const Spread *s)
{
    double mean = s->sum / s->n;

    return sqrt(MAX(s->squares / s->n - mean * mean, 0));
}

/* All alike: rates differ by chance, but the same is expected of all. */
static void test_even(void)
{
    static const double row[] = { 0.02, 0.1, 0.5, 0.9 };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        Spread rate = { }, part = { };
        double low = 1, high = 0;
        Sim s;

        odds[0] = odds[1] = row[i];
        sim_init(&s, 10000, 1);
        run(&s, 60, by_odds);
        for (uint32_t b = 0; b < s.blocks; b++) {
            HmExpected e = hm_access_expected(s.a, b);

            low = MIN(low, e.part + 4 * e.above);
            high = MAX(high, e.part - 4 * e.below);
            count(&rate, hm_access_rate(s.a, b));
            count(&part, e.part);
        }
        g_test_message("odds %.2f: rates within %.3f, expected %.3f", row[i],
                       spread(&rate), spread(&part));
        g_assert_cmpfloat(low, >=, row[i]);
        g_assert_cmpfloat(high, <=, row[i]);
        g_assert_cmpfloat(spread(&part), <, 0.2 * spread(&rate));
        g_assert_cmpfloat(fabs(part.sum / part.n - row[i]), <, 0.01);
        sim_end(&s);
    }
}

static void test_two_kinds(void)
{
    static const struct {
        double odds[2];
        uint32_t ppb;
    } row[] = { { { 0.05, 0.9 }, 1 }, { { 0, 0.5 }, 1 },
                { { 0.1, 0.3 }, 16 } };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        double sum[2] = { };
        Sim s;

        memcpy(odds, row[i].odds, sizeof(odds));
        sim_init(&s, 4000 * row[i].ppb, row[i].ppb);
        run(&s, 60, by_odds);
        for (uint32_t b = 0; b < s.blocks; b++) {
            sum[b % 2] += hm_access_expected(s.a, b).part;
        }
        g_test_message("expected: %.3f and %.3f", sum[0] / 2000,
                       sum[1] / 2000);
        for (unsigned k = 0; k < 2; k++) {
            g_assert_cmpfloat(fabs(sum[k] / 2000 - odds[k]), <, 0.07);
        }
        sim_end(&s);
    }
}

static int by_rate(gconstpointer a, gconstpointer b, gpointer opaque)
{
    double x = hm_access_rate(opaque, *(const uint32_t *)a);
    double y = hm_access_rate(opaque, *(const uint32_t *)b);

    return x < y ? -1 : x > y;
}

static uint32_t by_number(Sim *s, uint32_t block)
{
    return rnd01(s) < (double)block / s->blocks;
}

/*
 * Of what is more often accessed, no less is expected, where the last look
 * has found the same.
 */
static void test_order(void)
{
    HmExpected before[2] = { };
    g_autofree uint32_t *order = NULL;
    Sim s;

    sim_init(&s, 5000, 1);
    run(&s, 60, by_number);
    order = g_new(uint32_t, s.blocks);
    for (uint32_t b = 0; b < s.blocks; b++) {
        order[b] = b;
    }
    g_qsort_with_data(order, s.blocks, sizeof(*order), by_rate, s.a);
    for (uint32_t i = 0; i < s.blocks; i++) {
        HmExpected *x = &before[s.b[order[i]].found > 0];
        HmExpected y = hm_access_expected(s.a, order[i]);

        g_assert_cmpfloat(x->part, <=, y.part);
        g_assert_cmpfloat(y.part, <=, 1);
        *x = y;
    }
    g_assert_cmpfloat(before[0].above, >, 0);
    g_assert_cmpfloat(before[1].above, >, 0);
    sim_end(&s);
}

/*
 * What was found of blocks by their rate before, in eighths of a doubling,
 * where the look before found the same: accessed or not.
 */
typedef struct Evidence {
    double parts[130], looks[130];
} Evidence;

static unsigned bucket_of(const Sim *s, uint32_t block)
{
    double rate = hm_access_rate(s->a, block) * 65535;

    return rate < 0.5 ? 0 : 1 + floor(log2(rate) * 8 + 0.000000001);
}

static void gather(Evidence e[2], Sim *s, Guest *guest)
{
    struct {
        unsigned bucket;
        bool looked, found;
    } before[500];

    for (uint32_t b = 0; b < s->blocks; b++) {
        before[b].bucket = bucket_of(s, b);
        before[b].looked = s->b[b].looks > 0;
        before[b].found = s->b[b].found > 0;
    }
    window(s, s->blocks, UINT32_MAX, guest);
    for (unsigned i = 0; i < G_N_ELEMENTS(e->looks); i++) {
        for (int found = 0; found < 2; found++) {
            e[found].parts[i] *= 0.95;
            e[found].looks[i] *= 0.95;
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        uint32_t b = s->block[i];

        if (before[b].looked) {
            Evidence *of = &e[before[b].found];

            of->parts[before[b].bucket] += (double)s->b[b].found /
                                           pages_of(s, b);
            of->looks[before[b].bucket]++;
        }
    }
}

/* Isotonic regression as it is defined: the highest of the lowest means. */
static double isotonic(const Evidence *e, unsigned at)
{
    double highest = 0;

    for (unsigned from = 0; from <= at; from++) {
        double parts = 0, looks = 0, lowest = 1;

        if (e->looks[from] < 0.5) {
            continue;
        }
        for (unsigned to = from; to < G_N_ELEMENTS(e->looks); to++) {
            if (e->looks[to] >= 0.5) {
                parts += e->parts[to];
                looks += e->looks[to];
                lowest = to >= at ? MIN(lowest, parts / looks) : lowest;
            }
        }
        highest = MAX(highest, lowest);
    }
    return highest;
}

static void test_isotonic(void)
{
    Evidence e[2] = { };
    Sim s;

    sim_init(&s, 500 * 4 - 1, 4);
    odds[0] = 0.1;
    odds[1] = 0.7;
    for (unsigned w = 0; w < 40; w++) {
        gather(e, &s, by_odds);
        for (uint32_t b = 0; b < s.blocks; b++) {
            const Evidence *of = &e[s.b[b].found > 0];
            unsigned at = bucket_of(&s, b);

            /* Of which nothing is known: as the next colder one. */
            while (at && of->looks[at] < 0.5) {
                at--;
            }
            g_assert_cmpfloat(fabs(hm_access_expected(s.a, b).part -
                                   isotonic(of, at)), <, 0.00001);
        }
    }
    sim_end(&s);
}

/* Old evidence fades. */
static void test_new_guest(void)
{
    Spread part = { };
    Sim s;

    odds[0] = odds[1] = 0.9;
    sim_init(&s, 2000, 1);
    run(&s, 100, by_odds);
    odds[0] = odds[1] = 0.3;
    run(&s, 100, by_odds);
    for (uint32_t b = 0; b < s.blocks; b++) {
        count(&part, hm_access_expected(s.a, b).part);
    }
    g_assert_cmpfloat(fabs(part.sum / part.n - 0.3), <, 0.02);
    g_assert_cmpfloat(spread(&part), <, 0.04);
    sim_end(&s);
}

static uint32_t hotter(const Sim *s, double rate)
{
    uint32_t n = 0;

    for (uint32_t b = 0; b < s->blocks; b++) {
        n += hm_access_rate(s->a, b) >= rate;
    }
    return n;
}

static void test_threshold(void)
{
    const double bucket = exp2(1 / 8.0) * 1.0001;
    uint32_t accessed;
    Sim s;

    sim_init(&s, 1000, 1);
    run(&s, 40, by_number);
    accessed = hotter(&s, 0.000000001);
    for (uint32_t n = 0; n < 1100; n++) {
        double from = hm_access_threshold(s.a, n);

        g_assert_cmpint(from == 0, ==, n >= accessed);
        if (from) {
            g_assert_cmpuint(hotter(&s, from), <=, n);
            g_assert_cmpuint(hotter(&s, from / bucket), >, n);
        }
    }
    /* All in the highest bucket. */
    run(&s, 100, all_of_it);
    g_assert_cmpfloat(hm_access_threshold(s.a, 999), >, 1);
    g_assert_cmpfloat(hm_access_threshold(s.a, 1000), ==, 0);
    sim_end(&s);
}

/* -- Edges --------------------------------------------------------------- */

/* The last block has 5 pages of 64; what lies behind them is not its. */
static void test_short_block(void)
{
    Sim s;

    sim_init(&s, 64 * 3 + 5, 64);
    run(&s, 100, all_of_it);
    g_assert_cmpfloat(hm_access_rate(s.a, 3), ==, 1);
    for (unsigned w = 0; w < 100; w++) {
        uint32_t last = 3;
        uint8_t weight = 1;

        memset(s.seen, 0, BITS_TO_LONGS(s.pages) * sizeof(long));
        s.seen[3] = ~31ul;
        hm_access_pick(s.a, NULL, s.block, s.weight, 4, UINT64_MAX);
        hm_access_window(s.a, &(HmWindow) {
            .seen = s.seen,
            .watched = &last,
            .weight = &weight,
            .n_watched = 1,
        });
    }
    g_assert_cmpfloat(hm_access_rate(s.a, 3), ==, 0);
    g_assert_cmpfloat(hm_access_rate(s.a, 2), ==, 1);
    sim_end(&s);
}

/* After any time, 2^10 windows and a bit more included, all are looked at. */
static uint32_t idle(Sim *s, uint32_t block)
{
    return 0;
}

/* A guest at rest is watched whole, unless that costs, too. */
static void test_cold_costs(void)
{
    for (int costs = 0; costs < 2; costs++) {
        Sim s;

        sim_init(&s, 4000, 4);
        hm_access_set_cold_costs(s.a, costs);
        for (unsigned w = 0; w < 50; w++) {
            window(&s, s.blocks, 400, idle);
            g_assert_cmpuint(s.n, <=, costs ? 100 : 1000);
        }
        if (!costs) {
            g_assert_cmpuint(s.n, ==, 1000);
        }
        sim_end(&s);
    }
}

static void test_wrap(void)
{
    static const unsigned away[] = { 514, 1022, 1023, 1024, 1025, 4096 };

    for (size_t i = 0; i < G_N_ELEMENTS(away); i++) {
        Sim s;

        sim_init(&s, 100, 1);
        run(&s, 50, odd);
        for (unsigned w = 0; w < away[i]; w++) {
            window(&s, 0, 0, odd);
        }
        for (uint32_t b = 0; b < s.blocks; b++) {
            s.b[b].looks = 0;
        }
        for (unsigned w = 0; w < 65; w++) {
            window(&s, s.blocks, UINT32_MAX, odd);
        }
        for (uint32_t b = 0; b < s.blocks; b++) {
            g_assert_cmpuint(s.b[b].looks, >, 0);
            g_assert_cmpfloat(fabs(hm_access_rate(s.a, b) - b % 2), <, 0.01);
        }
        sim_end(&s);
    }
}

/* Pages of which it is known before that they are written tell nothing. */
static void test_known(void)
{
    const unsigned long known = 0x00f3, seen = 0x0f05, all = 0xffff;
    HmAccess *a = hm_access_new(16, 4), *plain = hm_access_new(16, 4);
    uint32_t block[4];
    uint8_t weight[4];
    HmWindow w = {
        .sense = HM_SENSE_ACCESSES, .seen = &seen, .watched = block,
        .weight = weight, .known = &known,
    };
    double rate;

    /* All of block 1 is; of block 0 page 2 of 2 and 3 was accessed. */
    w.n_watched = hm_access_pick(a, &known, block, weight, 4, UINT64_MAX);
    g_assert_cmpuint(w.n_watched, ==, 3);
    g_assert_cmpuint(block[0], ==, 0);
    g_assert_cmpuint(block[1], ==, 2);
    g_assert_cmpuint(block[2], ==, 3);
    hm_access_window(a, &w);
    rate = hm_access_rate(a, 0);
    g_assert_cmpfloat(hm_access_rate(a, 1), ==, 0);

    w.known = NULL;
    w.n_watched = hm_access_pick(plain, NULL, block, weight, 4, UINT64_MAX);
    g_assert_cmpuint(w.n_watched, ==, 4);
    hm_access_window(plain, &w);
    g_assert_cmpfloat(rate, ==, hm_access_rate(plain, 0));
    g_assert_cmpfloat(hm_access_rate(a, 2), ==, hm_access_rate(plain, 2));

    /* It is looked at as soon as it is not known any more. */
    w.n_watched = hm_access_pick(a, NULL, block, weight, 4, UINT64_MAX);
    g_assert_cmpuint(block[1], ==, 1);
    w.known = &all;
    hm_access_window(a, &w);
    g_assert_cmpfloat(hm_access_rate(a, 0), ==, rate);
    hm_access_free(a);
    hm_access_free(plain);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/access/known", test_known);
    g_test_add_func("/hybridmem/access/empty", test_empty);
    g_test_add_func("/hybridmem/access/always-and-never",
                    test_always_and_never);
    g_test_add_func("/hybridmem/access/parts", test_parts);
    g_test_add_func("/hybridmem/access/weight", test_weight);
    g_test_add_func("/hybridmem/access/keeps", test_keeps);
    g_test_add_func("/hybridmem/access/cold-costs", test_cold_costs);
    g_test_add_func("/hybridmem/access/turns", test_turns);
    g_test_add_func("/hybridmem/access/dear-blocks", test_dear_blocks);
    g_test_add_func("/hybridmem/access/what-is-left", test_what_is_left);
    g_test_add_func("/hybridmem/access/limits", test_limits);
    g_test_add_func("/hybridmem/access/haste", test_haste);
    g_test_add_func("/hybridmem/access/calm", test_calm);
    g_test_add_func("/hybridmem/access/calm-hot", test_calm_hot);
    g_test_add_func("/hybridmem/access/calm-scattered", test_calm_scattered);
    g_test_add_func("/hybridmem/access/calm-remembers", test_calm_remembers);
    g_test_add_func("/hybridmem/access/never-reached", test_never_reached);
    g_test_add_func("/hybridmem/access/leave", test_leave);
    g_test_add_func("/hybridmem/access/stable-ones-wait",
                    test_stable_ones_wait);
    g_test_add_func("/hybridmem/access/even", test_even);
    g_test_add_func("/hybridmem/access/two-kinds", test_two_kinds);
    g_test_add_func("/hybridmem/access/order", test_order);
    g_test_add_func("/hybridmem/access/isotonic", test_isotonic);
    g_test_add_func("/hybridmem/access/new-guest", test_new_guest);
    g_test_add_func("/hybridmem/access/threshold", test_threshold);
    g_test_add_func("/hybridmem/access/short-block", test_short_block);
    g_test_add_func("/hybridmem/access/wrap", test_wrap);
    return g_test_run();
}
