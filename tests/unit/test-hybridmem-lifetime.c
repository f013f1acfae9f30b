/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/lifetime.c: moves whose end is known.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/lifetime.h"

#define DRAM 20000
#define BLOCKS 60000
#define HORIZON 7.0

typedef struct Sim {
    HmFrames *frames;
    HmLifetime *l;
    uint32_t window;
    uint32_t next;              /* block to promote */
    uint32_t *promoted_in;      /* window + 1; 0: never */
    double *promise;
    bool *asked;                /* for its worth */
    uint32_t lasts[2];          /* windows, of promises from @split, below */
    double split;
    double dram_worth;          /* of what was demoted */
    double horizon;
    bool in_use;                /* what is demoted from now on */
} Sim;

static void sim_init(Sim *s)
{
    HmExtent ext[] = {
        { 0, DRAM, HM_TIER_DRAM, true },
        { DRAM, BLOCKS - DRAM, HM_TIER_NVM, true },
    };

    memset(s, 0, sizeof(*s));
    s->frames = hm_frames_new(ext, 2);
    s->l = hm_lifetime_new(s->frames);
    s->next = DRAM;
    s->promoted_in = g_new0(uint32_t, BLOCKS);
    s->promise = g_new0(double, BLOCKS);
    s->asked = g_new0(bool, BLOCKS);
    s->horizon = HORIZON;
}

static void sim_end(Sim *s)
{
    hm_lifetime_free(s->l);
    hm_frames_free(s->frames);
    g_free(s->promoted_in);
    g_free(s->promise);
    g_free(s->asked);
}

static void swap(Sim *s, uint32_t a, uint32_t b)
{
    HmCycle c;

    g_assert_cmpint(hm_frames_plan_cycle(s->frames, a, b, 0, &c), ==,
                    HM_MOVE_DONE);
    hm_frames_apply(s->frames, &c);
}

static HmMove add(Sim *s, double promise)
{
    uint32_t frame = hm_frames_tier_frame(s->frames, HM_TIER_DRAM,
                                          s->next % DRAM);
    HmMove move = { s->next++, hm_frames_block_in(s->frames, frame) };

    swap(s, move.promote, move.demote);
    s->promoted_in[move.promote] = s->window + 1;
    s->promise[move.promote] = promise;
    hm_lifetime_add(s->l, &move, promise, s->in_use);
    return move;
}

/* The first window after a move is not sampled: it is not one of @lasts. */
static double worth(void *opaque, uint32_t block)
{
    const Sim *s = opaque;
    uint32_t age = s->window - (s->promoted_in[block] - 1);

    s->asked[block] = true;
    if (!s->promoted_in[block]) {
        return s->dram_worth;
    }
    return age <= s->lasts[s->promise[block] < s->split] ?
           s->promise[block] : 0;
}

static void window(Sim *s)
{
    hm_lifetime_window(s->l, s->horizon, worth, s);
    s->window++;
}

/* Where the victim is of no use. */
static double lifetime(const Sim *s, double promise)
{
    return hm_lifetime(s->l, promise, false);
}

/* Moves @each of either promise in each window. */
static void run(Sim *s, unsigned windows, unsigned each, double high,
                double low)
{
    for (unsigned w = 0; w < windows; w++) {
        for (unsigned i = 0; i < each; i++) {
            if (high) {
                add(s, high);
            }
            if (low) {
                add(s, low);
            }
        }
        window(s);
    }
}

static const double promises[] = {
    2, 1, 0.7, 0.5, 0.3, 0.1, 0.01, 0.0000001,
};

/* Nothing is known: about the horizon, but for what is beyond 64 windows. */
static void test_unknown(void)
{
    static const double horizon[] = { 0.0001, 0.5, 3, 7, 20, 1e6 };

    for (size_t h = 0; h < G_N_ELEMENTS(horizon); h++) {
        double left = exp(-1 / horizon[h]);
        double want = (1 - pow(left, HM_LIFETIME_WINDOWS)) / (1 - left);
        Sim s;

        sim_init(&s);
        s.horizon = horizon[h];
        window(&s);
        for (size_t i = 0; i < G_N_ELEMENTS(promises); i++) {
            g_assert_cmpfloat(fabs(lifetime(&s, promises[i]) - want), <,
                              0.0001 * want);
        }
        g_assert_cmpfloat(lifetime(&s, 0), ==, 0);
        g_assert_cmpfloat(lifetime(&s, -1), ==, 0);
        sim_end(&s);
    }
}

static void test_for_ever(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(promises) - 1; i++) {
        Sim s;

        sim_init(&s);
        s.lasts[0] = UINT32_MAX;
        run(&s, 150, 5, promises[i], 0);
        g_assert_cmpfloat(lifetime(&s, promises[i]), >, 60);
        g_assert_cmpfloat(lifetime(&s, promises[i]), <, 66);
        sim_end(&s);
    }
}

/* For so many windows. */
static void test_for_a_while(void)
{
    static const unsigned lasts[] = { 1, 2, 5, 10, 30, 63 };

    for (size_t i = 0; i < G_N_ELEMENTS(lasts); i++) {
        double got;
        Sim s;

        sim_init(&s);
        s.lasts[0] = lasts[i];
        run(&s, 200, 10, 0.8, 0);
        got = lifetime(&s, 0.8);
        g_test_message("%u windows: %.2f", lasts[i], got);
        g_assert_cmpfloat(fabs(got - lasts[i]), <, 0.05 * lasts[i] + 0.5);
        sim_end(&s);
    }
}

/* Broken at once; nor can what comes instead make it less than the least. */
static void test_broken(void)
{
    static const double instead[] = { 0, 0.5 };

    for (size_t i = 0; i < G_N_ELEMENTS(instead); i++) {
        Sim s;

        sim_init(&s);
        s.dram_worth = instead[i];
        run(&s, 100, 10, 0.8, 0);
        g_assert_cmpfloat(lifetime(&s, 0.8), >, 0.25);
        g_assert_cmpfloat(lifetime(&s, 0.8), <, 0.6);
        sim_end(&s);
    }
}

/* What was demoted counts against it while it is used. */
static void test_demoted(void)
{
    Sim s;

    sim_init(&s);
    s.lasts[0] = UINT32_MAX;
    s.dram_worth = 0.2;
    run(&s, 200, 10, 0.8, 0);
    g_assert_cmpfloat(fabs(lifetime(&s, 0.8) - 64 * 0.6 / 0.8), <, 3);
    sim_end(&s);
}

/* Strong and faint promises are kept for different times. */
static void test_groups(void)
{
    Sim s;

    sim_init(&s);
    s.split = 0.3;
    s.lasts[0] = 40;
    s.lasts[1] = 4;
    run(&s, 200, 10, 0.8, 0.05);
    g_assert_cmpfloat(fabs(lifetime(&s, 0.8) - 40), <, 3);
    g_assert_cmpfloat(fabs(lifetime(&s, 0.05) - 4), <, 1.5);
    /* The same group, another group, and one that knows by hearsay. */
    g_assert_cmpfloat(lifetime(&s, 1), ==, lifetime(&s, 0.51));
    g_assert_cmpfloat(lifetime(&s, 0.5), !=, lifetime(&s, 0.51));
    g_assert_cmpfloat(lifetime(&s, 0.4), >, 30);
    g_assert_cmpfloat(lifetime(&s, 0.001), ==, lifetime(&s, 0.03));
    sim_end(&s);
}

/* Victims of no use and such in use are kept apart, promises being equal. */
static void test_in_use(void)
{
    Sim s;

    sim_init(&s);
    s.lasts[0] = UINT32_MAX;
    run(&s, 150, 10, 0.8, 0);
    g_assert_cmpfloat(lifetime(&s, 0.8), >, 60);
    g_assert_cmpfloat(fabs(hm_lifetime(s.l, 0.8, true) - HORIZON), <, 1);
    s.in_use = true;
    s.dram_worth = 0.7;
    run(&s, 10, 10, 0.8, 0);
    g_assert_cmpfloat(hm_lifetime(s.l, 0.8, true), <, 2);
    sim_end(&s);
}

/* Of many moves in a window the first are no better watched than the last. */
static void test_equal_odds(void)
{
    Sim s;

    sim_init(&s);
    s.lasts[0] = 20;
    for (unsigned w = 0; w < 200; w++) {
        for (unsigned i = 0; i < 150; i++) {
            HmMove move = add(&s, 0.9);

            /* The last two in three are of no use at all. */
            s.promise[move.promote] = i < 50 ? 0.9 : 0;
        }
        window(&s);
    }
    g_test_message("%.2f", lifetime(&s, 0.9));
    g_assert_cmpfloat(fabs(lifetime(&s, 0.9) - 20 / 3.0), <, 1.5);
    sim_end(&s);
}

/* Neighbours, of which each knows much: hearsay counts little. */
static void test_neighbours(void)
{
    Sim s;

    sim_init(&s);
    s.split = 0.5;
    s.lasts[0] = 40;
    s.lasts[1] = 4;
    run(&s, 200, 10, 0.8, 0.4);
    g_assert_cmpfloat(lifetime(&s, 0.8), >, 35);
    g_assert_cmpfloat(lifetime(&s, 0.4), <, 15);
    sim_end(&s);
}

/* What a later window costs is no reason to forgo what the first ones save. */
static void test_turns_bad(void)
{
    Sim s;

    sim_init(&s);
    s.lasts[0] = 5;
    s.dram_worth = 0.4;
    run(&s, 200, 10, 0.8, 0);
    g_assert_cmpfloat(fabs(lifetime(&s, 0.8) - 5 * 0.4 / 0.8), <, 0.3);
    sim_end(&s);
}

/* A block that has been demoted again saves nothing more. */
static void test_demoted_again(void)
{
    enum { WINDOWS = 200, AFTER = 6 };
    g_autofree HmMove *move = g_new(HmMove, WINDOWS);
    Sim s;

    sim_init(&s);
    s.lasts[0] = UINT32_MAX;
    for (unsigned w = 0; w < WINDOWS; w++) {
        move[w] = add(&s, 0.8);
        if (w >= AFTER) {
            swap(&s, move[w - AFTER].demote, move[w - AFTER].promote);
        }
        window(&s);
    }
    /* AFTER windows, less the first. */
    g_assert_cmpfloat(fabs(lifetime(&s, 0.8) - (AFTER - 1)), <, 0.7);
    sim_end(&s);
}

/* Nor does it tell how long heat lives, if it was not for want of that. */
static void test_forget(void)
{
    enum { WINDOWS = 200, AFTER = 6 };
    g_autofree HmMove *move = g_new(HmMove, WINDOWS);
    Sim s;

    sim_init(&s);
    s.lasts[0] = UINT32_MAX;
    for (unsigned w = 0; w < WINDOWS; w++) {
        move[w] = add(&s, 0.8);
        add(&s, 0.8);
        if (w >= AFTER) {
            swap(&s, move[w - AFTER].demote, move[w - AFTER].promote);
            hm_lifetime_forget(s.l, move[w - AFTER].promote);
        }
        window(&s);
    }
    g_assert_cmpfloat(hm_lifetime(s.l, 0.8, false), >, 60);
    sim_end(&s);
}

/* The place of one that is forgotten is no other's, of windows before. */
static void test_forget_new(void)
{
    enum { OLD = 32, NEW = 200 };
    HmMove new[NEW];
    uint32_t first;
    Sim s;

    sim_init(&s);
    s.lasts[0] = UINT32_MAX;
    first = s.next;
    for (unsigned i = 0; i < OLD; i++) {
        add(&s, 0.8);
    }
    window(&s);
    for (unsigned i = 0; i < NEW; i++) {
        new[i] = add(&s, 0.8);
        if (i >= OLD / 2) {
            hm_lifetime_forget(s.l, new[i - OLD / 2].promote);
        }
    }
    memset(s.asked, 0, BLOCKS);
    window(&s);
    for (uint32_t b = first; b < first + OLD; b++) {
        g_assert_true(s.asked[b]);
    }
    sim_end(&s);
}

/* What is no longer true is forgotten. */
static void test_fades(void)
{
    Sim s;

    sim_init(&s);
    s.lasts[0] = 40;
    run(&s, 150, 10, 0.8, 0);
    s.lasts[0] = 3;
    run(&s, 250, 10, 0.8, 0);
    g_assert_cmpfloat(lifetime(&s, 0.8), <, 4.5);
    sim_end(&s);
}

/* More moves than are watched, and promises of nothing, do no harm. */
static void test_many(void)
{
    HmMove first;
    size_t bytes;
    Sim s;

    sim_init(&s);
    bytes = hm_lifetime_bytes(s.l);
    s.lasts[0] = 20;
    first = add(&s, 0.9);
    for (unsigned w = 0; w < 200; w++) {
        hm_lifetime_add(s.l, &first, 0, false);
        hm_lifetime_add(s.l, &first, -1, false);
        for (unsigned i = 0; i < 150; i++) {
            add(&s, 0.9);
        }
        window(&s);
    }
    g_assert_cmpfloat(fabs(lifetime(&s, 0.9) - 20), <, 1.5);
    g_assert_cmpfloat(fabs(lifetime(&s, 0.01) - HORIZON), <, 1);
    g_assert_cmpuint(hm_lifetime_bytes(s.l), ==, bytes);
    sim_end(&s);
}

/* Few moves are watched in a window, so the first of a new kind are too. */
static void test_room(void)
{
    Sim s;

    sim_init(&s);
    s.split = 0.3;
    s.lasts[0] = 40;
    s.lasts[1] = 4;
    run(&s, 100, 100, 0.8, 0);
    run(&s, 12, 10, 0, 0.05);
    g_test_message("after 12 windows: %.2f", lifetime(&s, 0.05));
    g_assert_cmpfloat(fabs(lifetime(&s, 0.05) - 4), <, 1.5);
    sim_end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/lifetime/unknown", test_unknown);
    g_test_add_func("/hybridmem/lifetime/for-ever", test_for_ever);
    g_test_add_func("/hybridmem/lifetime/for-a-while", test_for_a_while);
    g_test_add_func("/hybridmem/lifetime/broken", test_broken);
    g_test_add_func("/hybridmem/lifetime/demoted", test_demoted);
    g_test_add_func("/hybridmem/lifetime/groups", test_groups);
    g_test_add_func("/hybridmem/lifetime/in-use", test_in_use);
    g_test_add_func("/hybridmem/lifetime/equal-odds", test_equal_odds);
    g_test_add_func("/hybridmem/lifetime/neighbours", test_neighbours);
    g_test_add_func("/hybridmem/lifetime/turns-bad", test_turns_bad);
    g_test_add_func("/hybridmem/lifetime/demoted-again", test_demoted_again);
    g_test_add_func("/hybridmem/lifetime/forget", test_forget);
    g_test_add_func("/hybridmem/lifetime/forget-new", test_forget_new);
    g_test_add_func("/hybridmem/lifetime/fades", test_fades);
    g_test_add_func("/hybridmem/lifetime/many", test_many);
    g_test_add_func("/hybridmem/lifetime/room", test_room);
    return g_test_run();
}
