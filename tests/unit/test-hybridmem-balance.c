/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/balance.c: literal windows, then a guest whose
 * accesses load the tiers that they go to.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/balance.h"

static HmBalanceState window(HmBalance *b, double dram, double nvm)
{
    const double ns[HM_TIER__MAX] = { dram, nvm };

    hm_balance_window(b, ns);
    return b->state;
}

static HmBalanceState windows(HmBalance *b, double dram, double nvm, int n)
{
    HmBalanceState s = b->state;

    while (n--) {
        s = window(b, dram, nvm);
    }
    return s;
}

static void assert_pace(const HmBalance *b, bool limited, double advance,
                        double retreat)
{
    HmBalanceLimit p = hm_balance_limit(b);

    g_assert_cmpint(p.limited, ==, limited);
    g_assert_cmpfloat(p.advance, ==, advance);
    g_assert_cmpfloat(p.retreat, ==, retreat);
}

/* -- Literal windows ------------------------------------------------------ */

static void test_begin(void)
{
    HmBalance b;

    hm_balance_init(&b);
    g_assert_cmpint(b.state, ==, HM_BALANCE_UNKNOWN);
    assert_pace(&b, false, 0, 0);
    for (int i = 0; i < 1000; i++) {
        g_assert_cmpint(window(&b, 100, 180), ==, HM_BALANCE_FREE);
        assert_pace(&b, false, 0, 0);
    }
    g_assert_cmpfloat(fabs(b.latency[HM_TIER_DRAM] - 100), <, 0.001);
    g_assert_cmpfloat(fabs(b.latency[HM_TIER_NVM] - 180), <, 0.001);
    g_assert_cmpuint(b.windows, ==, 1000);
    g_assert_cmpuint(b.retreats, ==, 0);
}

/* Two that are alike, as when both are the same memory. */
static void test_equal(void)
{
    HmBalance b;

    hm_balance_init(&b);
    windows(&b, 100, 100, 20);
    for (int i = 0; i < 1000; i++) {
        g_assert_cmpint(window(&b, 100, 100), ==, HM_BALANCE_HELD);
        assert_pace(&b, true, 0, 0);
    }
}

/* Steps back at every second window, that grow from the third on. */
static void test_steps(void)
{
    static const double step[] = {
        1 / 16.0, 1 / 16.0, 1 / 8.0, 1 / 4.0, 1 / 2.0, 1 / 2.0,
    };
    HmBalance b;

    hm_balance_init(&b);
    g_assert_cmpint(window(&b, 300, 150), ==, HM_BALANCE_FREE);
    for (size_t i = 0; i < G_N_ELEMENTS(step); i++) {
        g_assert_cmpint(window(&b, 300, 150), ==, HM_BALANCE_RETREAT);
        assert_pace(&b, true, 0, step[i]);
        g_assert_cmpint(window(&b, 300, 150), ==, HM_BALANCE_HELD);
        assert_pace(&b, true, 0, 0);
        g_assert_cmpuint(b.retreats, ==, i + 1);
    }
}

/* Each turn halves the step; a run in one direction ends the limit. */
static void test_turns(void)
{
    HmBalance b;
    double step = 1.0 / 16;

    hm_balance_init(&b);
    windows(&b, 300, 150, 2);
    assert_pace(&b, true, 0, step);
    for (int i = 0; i < 5; i++) {
        windows(&b, 150, 300, 2);
        step = MAX(step / 2, 1.0 / 256);
        assert_pace(&b, true, step, 0);
        windows(&b, 300, 150, 2);
        step = MAX(step / 2, 1.0 / 256);
        assert_pace(&b, true, 0, step);
    }
    g_assert_cmpfloat(step, ==, 1.0 / 256);
    for (int i = 0; i < 9; i++) {
        g_assert_cmpint(windows(&b, 150, 300, 2), ==, HM_BALANCE_ADVANCE);
    }
    g_assert_cmpint(windows(&b, 150, 300, 2), ==, HM_BALANCE_FREE);
    assert_pace(&b, false, 0, 0);
    /* The next time it begins with the usual step. */
    for (int i = 0; i < 40 && b.state != HM_BALANCE_RETREAT; i++) {
        window(&b, 300, 150);
    }
    assert_pace(&b, true, 0, 1.0 / 16);
}

/* A step forth waits until it is known that dram is faster again. */
static void test_held(void)
{
    HmBalance b;

    hm_balance_init(&b);
    windows(&b, 100, 100, 20);
    g_assert_cmpint(windows(&b, 100, 102, 20), ==, HM_BALANCE_HELD);
    g_assert_cmpint(windows(&b, 102, 100, 20), ==, HM_BALANCE_HELD);
    g_assert_cmpuint(b.retreats, ==, 0);
    for (int i = 0; i < 20 && b.state == HM_BALANCE_HELD; i++) {
        window(&b, 100, 130);
    }
    g_assert_cmpint(b.state, ==, HM_BALANCE_ADVANCE);
}

static void test_lost(void)
{
    static const double bad[][HM_TIER__MAX] = {
        { 0, 100 }, { 100, 0 }, { 0, 0 }, { -1, 100 }, { NAN, 100 },
        { 100, INFINITY },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        HmBalance b;

        hm_balance_init(&b);
        hm_balance_window(&b, bad[i]);
        g_assert_cmpint(b.state, ==, HM_BALANCE_UNKNOWN);
        windows(&b, 300, 150, 2);
        g_assert_cmpint(b.state, ==, HM_BALANCE_RETREAT);
        for (int n = 1; n < HM_BALANCE_LOST; n++) {
            hm_balance_window(&b, bad[i]);
            g_assert_cmpint(b.state, ==, HM_BALANCE_HELD);
            assert_pace(&b, true, 0, 0);
        }
        hm_balance_window(&b, bad[i]);
        g_assert_cmpint(b.state, ==, HM_BALANCE_UNKNOWN);
        assert_pace(&b, false, 0, 0);
        g_assert_cmpfloat(b.latency[HM_TIER_DRAM], ==, 0);
        g_assert_cmpuint(b.windows, ==, 2);
        g_assert_cmpuint(b.retreats, ==, 1);

        /* One measure between them and it goes on. */
        windows(&b, 300, 150, 2);
        for (int n = 0; n < 3 * HM_BALANCE_LOST; n++) {
            if (n % (HM_BALANCE_LOST - 1) == 0) {
                window(&b, 100, 100);
            }
            hm_balance_window(&b, bad[i]);
            g_assert_cmpint(b.state, ==, HM_BALANCE_HELD);
        }
    }
}

/* -- A guest that loads its tiers ----------------------------------------- */

/*
 * Each tier is a queue (M/M/1): idle / (1 - load / capacity), at most LATEST
 * times that.  A share of the load goes to dram; at most @packed of it can,
 * for no more fits.  A policy without a limit brings a third of what is left
 * in each window.
 */
#define LATEST 20

typedef struct Guest {
    double load;                /* accesses in a unit of time */
    double packed;
    double idle[HM_TIER__MAX];  /* ns */
    double capacity[HM_TIER__MAX];
    double noise;               /* standard deviation of a measure's log */
    /* State. */
    double share;
    GRand *random;
    HmBalance b;
} Guest;

static const Guest cxl = {
    .packed = 0.95,
    .idle = { 90, 180 },
    .capacity = { 1, 0.6 },
};

static void guest_begin(Guest *g, double load, double noise, uint32_t seed)
{
    *g = cxl;
    g->load = load;
    g->noise = noise;
    g->random = g_rand_new_with_seed(seed);
    g->share = 0.1;
    hm_balance_init(&g->b);
}

static void guest_end(Guest *g)
{
    g_rand_free(g->random);
}

static double latency(const Guest *g, HmTier t)
{
    double load = g->load * (t == HM_TIER_DRAM ? g->share : 1 - g->share);
    double queue = 1 - load / g->capacity[t];

    return g->idle[t] / MAX(queue, 1.0 / LATEST);
}

/* Mean time of an access. */
static double cost(const Guest *g)
{
    return g->share * latency(g, HM_TIER_DRAM) +
           (1 - g->share) * latency(g, HM_TIER_NVM);
}

static double normal(Guest *g)
{
    double sum = 0;

    for (int i = 0; i < 12; i++) {
        sum += g_rand_double(g->random);
    }
    return sum - 6;
}

static double measured(Guest *g, HmTier t)
{
    return latency(g, t) * exp(g->noise * normal(g));
}

static void guest_window(Guest *g)
{
    HmBalanceLimit p;

    window(&g->b, measured(g, HM_TIER_DRAM), measured(g, HM_TIER_NVM));
    p = hm_balance_limit(&g->b);
    if (!p.limited) {
        g->share += MAX((g->packed - g->share) / 3, 0);
    } else {
        g->share += MIN(p.advance * g->share, g->packed - g->share);
        g->share -= p.retreat * g->share;
    }
}

static void guest_run(Guest *g, int n)
{
    while (n--) {
        guest_window(g);
    }
}

/* By bisection: what share makes the latencies equal. */
static double balanced_share(const Guest *g)
{
    Guest at = *g;
    double low = 0, high = g->packed;

    for (int i = 0; i < 50; i++) {
        at.share = (low + high) / 2;
        if (latency(&at, HM_TIER_DRAM) < latency(&at, HM_TIER_NVM)) {
            low = at.share;
        } else {
            high = at.share;
        }
    }
    return high;
}

typedef struct Watch {
    double share, cost;         /* means */
    uint64_t retreats;
} Watch;

static Watch guest_watch(Guest *g, int n)
{
    uint64_t retreats = g->b.retreats;
    Watch w = { };

    for (int i = 0; i < n; i++) {
        guest_window(g);
        w.share += g->share / n;
        w.cost += cost(g) / n;
    }
    w.retreats = g->b.retreats - retreats;
    return w;
}

static double cost_at(const Guest *g, double share)
{
    Guest at = *g;

    at.share = share;
    return cost(&at);
}

/* Dram has room for all of the load: as if there were no balance. */
static void test_unsaturated(void)
{
    static const double noise[] = { 0, 0.05, 0.2 };

    for (size_t i = 0; i < G_N_ELEMENTS(noise); i++) {
        for (uint32_t seed = 1; seed <= 50; seed++) {
            Guest g;

            guest_begin(&g, 0.3, noise[i], seed);
            for (int n = 0; n < 300; n++) {
                guest_window(&g);
                g_assert_false(hm_balance_limit(&g.b).limited);
            }
            g_assert_cmpfloat(g.share, >, 0.94);
            guest_end(&g);
        }
    }
}

/* Comes to the balance, and stays there. */
static void test_saturated(void)
{
    static const struct {
        double load, noise;
        double off;             /* from the balance, on average, at most */
        double cost;            /* times that of the balance, at most */
        uint64_t retreats;      /* in 300 windows, at most */
    } row[] = {
        { 0.8, 0, 0.02, 1.03, 1 }, { 1, 0, 0.02, 1.03, 1 },
        { 1.3, 0, 0.02, 1.03, 1 },
        { 0.8, 0.05, 0.02, 1.05, 3 }, { 1, 0.05, 0.02, 1.05, 3 },
        { 1.3, 0.05, 0.02, 1.05, 3 },
        { 0.8, 0.2, 0.05, 1.1, 12 }, { 1, 0.2, 0.05, 1.1, 12 },
        { 1.3, 0.2, 0.05, 1.1, 12 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        for (uint32_t seed = 1; seed <= 50; seed++) {
            double best, packed;
            Guest g;
            Watch w;

            guest_begin(&g, row[i].load, row[i].noise, seed);
            best = balanced_share(&g);
            packed = cost_at(&g, g.packed);
            guest_run(&g, 60);
            w = guest_watch(&g, 300);
            if (seed == 1) {
                g_test_message("load %.1f, noise %.2f: share %.3f, balanced "
                               "%.3f; cost %.0f, packed %.0f; %" PRIu64
                               " retreats", row[i].load, row[i].noise,
                               w.share, best, w.cost, packed, w.retreats);
            }
            g_assert_cmpfloat(fabs(w.share - best), <, row[i].off);
            g_assert_cmpfloat(w.cost, <, row[i].cost * cost_at(&g, best));
            g_assert_cmpuint(w.retreats, <=, row[i].retreats);
            g_assert_cmpfloat(w.cost, <, 0.8 * packed);
            guest_end(&g);
        }
    }
}

/* However long nothing has wavered, noise is known when it comes. */
static void test_calm(void)
{
    Guest g;

    guest_begin(&g, 0, 0.2, 1);
    windows(&g.b, 100, 100, 2000);
    for (int i = 0; i < 100; i++) {
        window(&g.b, 100 * exp(g.noise * normal(&g)), 100);
    }
    g_test_message("%" PRIu64 " retreats", g.b.retreats);
    g_assert_cmpuint(g.b.retreats, <=, 3);
    guest_end(&g);
}

/* Follows a load that comes and goes, within a minute of windows. */
static void test_changing_load(void)
{
    static const double load[] = { 0.3, 1.3, 0.9, 1.3, 0.3, 1, 0.2 };
    static const double noise[] = { 0, 0.05 };

    for (size_t k = 0; k < G_N_ELEMENTS(noise); k++) {
        for (uint32_t seed = 1; seed <= 50; seed++) {
            Guest g;

            guest_begin(&g, load[0], noise[k], seed);
            for (size_t i = 0; i < G_N_ELEMENTS(load); i++) {
                double best, mean;

                g.load = load[i];
                best = cost_at(&g, balanced_share(&g));
                guest_run(&g, 60);
                mean = guest_watch(&g, 20).cost;
                g_assert_cmpfloat(mean, <, 1.2 * best);
                if (load[i] < 0.5) {
                    g_assert_cmpint(g.b.state, ==, HM_BALANCE_FREE);
                }
            }
            guest_end(&g);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/balance/begin", test_begin);
    g_test_add_func("/hybridmem/balance/equal", test_equal);
    g_test_add_func("/hybridmem/balance/steps", test_steps);
    g_test_add_func("/hybridmem/balance/turns", test_turns);
    g_test_add_func("/hybridmem/balance/held", test_held);
    g_test_add_func("/hybridmem/balance/lost", test_lost);
    g_test_add_func("/hybridmem/balance/unsaturated", test_unsaturated);
    g_test_add_func("/hybridmem/balance/saturated", test_saturated);
    g_test_add_func("/hybridmem/balance/calm", test_calm);
    g_test_add_func("/hybridmem/balance/changing-load", test_changing_load);
    return g_test_run();
}
