/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for the hybridmem policies: tables, contracts, simulations.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "hybridmem-sim.h"

/* -- The table ------------------------------------------------------- */

static void test_table(void)
{
    static const struct {
        const char *name;
        bool continuous, passive, accesses;
    } want[] = {
        { "benefit", false, false, true },
        { "write-heat", false, false, false },
        { "temperature", false, false, true },
        { "cmq", false, false, false },
        { "manual", false, true, false },
        { "none", false, true, false },
        { "shuffle", true, false, false },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(want); i++) {
        const HmPolicyOps *ops = hm_policy_nth(i);

        g_assert_nonnull(ops);
        g_assert_cmpstr(ops->name, ==, want[i].name);
        g_assert_true(hm_policy_find(want[i].name) == ops);
        g_assert_cmpint(ops->continuous, ==, want[i].continuous);
        g_assert_cmpint(ops->passive, ==, want[i].passive);
        g_assert_cmpint(ops->accesses != NULL, ==, want[i].accesses);
    }
    g_assert_null(hm_policy_nth(G_N_ELEMENTS(want)));
    g_assert_null(hm_policy_find("Write-Heat"));
    g_assert_null(hm_policy_find(""));
}

static void test_defaults(void)
{
    HmPolicyParams p;

    memset(&p, 0xff, sizeof(p));
    hm_policy_params_init(&p);
    g_assert_cmpfloat(p.min_gain, ==, 0.0625);
    g_assert_cmpfloat(p.read_cost, ==, 1);
    g_assert_cmpfloat(p.write_cost, ==, 1);
    g_assert_cmpuint(p.map_limit, ==, 0);
    g_assert_cmpuint(p.cmq_lifetime_ms, ==, 5000);
    g_assert_cmpuint(p.cmq_cork_ms, ==, 5000);
    g_assert_cmpuint(p.cmq_max_pairs, ==, 1000);
}

/* -- What holds for all ---------------------------------------------- */

/* Random guests, budgets, failures: every plan is a valid one. */
static void contract(const HmPolicyOps *ops, bool access)
{
    static const uint32_t ppb[] = { 1, 2, 64, 128 };
    bool planned = false;

    for (unsigned round = 0; round < 12; round++) {
        uint32_t dram = g_test_rand_int_range(1, 50);
        uint32_t nvm = g_test_rand_int_range(1, 200);
        Sim s;

        (access ? sim_init_access : sim_init)(&s, ops->name, dram, nvm,
                                              ppb[round % 4], 5000);
        s.params.map_limit = round % 3 ? 0 : dram + 2;
        s.params.cmq_cork_ms = round % 2 ? 5000 : 0;
        s.params.seed = round;
        set_params(&s);
        for (unsigned w = 0; w < 60; w++) {
            size_t max = s.max;

            for (uint32_t b = 0; b < s.blocks; b++) {
                if (rnd01(&s) < (b % 5 ? 0.1 : 0.8)) {
                    write_page(&s, (uint64_t)b * s.ppb);
                }
                if (rnd01(&s) < (b % 3 ? 0.1 : 0.9)) {
                    read_block(&s, b);
                }
            }
            s.max_watched = w % 5 ? rnd(&s) % (s.blocks + 1) : s.blocks;
            s.max_faults = w % 3 ? UINT64_MAX : rnd(&s) % (4 * s.ppb);
            s.result = w % 4 ? HM_MOVE_DONE : w / 4 % HM_MOVE__MAX;
            s.max = w % 7 ? rnd(&s) % (max + 1) : 0;
            sim_window(&s, rnd(&s) % 3000);
            planned |= s.planned > 0;
            s.max = max;
        }
        g_assert_cmpuint(hm_policy_bytes(s.policy), >, 0);
        sim_end(&s);
    }
    g_assert_cmpint(planned, ==, !ops->passive);
}

static void test_contract(void)
{
    const HmPolicyOps *ops;

    for (unsigned i = 0; (ops = hm_policy_nth(i)); i++) {
        contract(ops, false);
        contract(ops, true);
    }
}

/* A window of each sense in which all blocks are used. */
static void used_window(HmPolicy *p, HmHeat *heat, HmAccess *access)
{
    unsigned long all = 0xff;
    uint32_t block[8];
    uint8_t weight[8];
    HmWindow w = { .seen = &all, .elapsed_ms = 1000 };

    hm_heat_window(heat, &all, 1000);
    hm_policy_observe(p, &w);
    if (access) {
        w.sense = HM_SENSE_ACCESSES;
        w.watched = block;
        w.weight = weight;
        w.n_watched = hm_access_pick(access, NULL, block, weight, 8,
                                     UINT64_MAX);
        hm_access_window(access, &w);
        hm_policy_observe(p, &w);
    }
}

static void one_tier(const HmPolicyOps *ops, HmTier tier, HmAccess *access)
{
    HmExtent ext = { 0, 8, tier, true };
    HmFrames *frames = hm_frames_new(&ext, 1);
    HmHeat *heat = hm_heat_new(8, 1, 1000);
    HmPolicyParams params;
    HmPolicy *p;
    HmMove plan[8];

    hm_policy_params_init(&params);
    p = hm_policy_new(ops, frames, heat, access, &params);
    g_assert_cmpuint(hm_policy_plan(p, plan, 8), ==, 0);
    for (int w = 0; w < 20; w++) {
        used_window(p, heat, access);
        g_assert_cmpuint(hm_policy_plan(p, plan, 8), ==, 0);
    }
    hm_policy_free(p);
    hm_heat_free(heat);
    hm_frames_free(frames);
    hm_access_free(access);
}

/* A tier may be empty. */
static void test_one_tier(void)
{
    const HmPolicyOps *ops;

    for (unsigned i = 0; (ops = hm_policy_nth(i)); i++) {
        for (int t = 0; t < HM_TIER__MAX; t++) {
            one_tier(ops, t, NULL);
            one_tier(ops, t, hm_access_new(8, 1));
        }
    }
    hm_policy_free(NULL);
}

/* -- shuffle --------------------------------------------------------- */

static void test_shuffle(void)
{
    enum { DRAM = 10, NVM = 30, PLANS = 6000 };
    unsigned count[DRAM + NVM] = { 0 };
    HmMove first[4];
    Sim s;

    sim_init(&s, "shuffle", DRAM, NVM, 1, 1000);
    s.max = 4;
    for (unsigned i = 0; i < PLANS; i++) {
        size_t n = hm_policy_plan(s.policy, s.plan, 4);

        g_assert_cmpuint(n, ==, 4);
        check_plan(&s, n);
        for (size_t k = 0; k < n; k++) {
            count[s.plan[k].promote]++;
            count[s.plan[k].demote]++;
        }
        if (i == 0) {
            memcpy(first, s.plan, sizeof(first));
        }
    }
    /* Five standard deviations of a fair draw. */
    for (uint32_t b = 0; b < DRAM + NVM; b++) {
        double want = 4.0 * PLANS / (b < DRAM ? DRAM : NVM);

        g_assert_cmpfloat(fabs(count[b] - want), <, 5 * sqrt(want));
    }

    /* The seed alone decides; the same again does not begin anew. */
    set_params(&s);
    hm_policy_plan(s.policy, s.plan, 4);
    g_assert_cmpint(memcmp(first, s.plan, sizeof(first)), !=, 0);
    s.params.seed = 2;
    set_params(&s);
    hm_policy_plan(s.policy, s.plan, 4);
    g_assert_cmpint(memcmp(first, s.plan, sizeof(first)), !=, 0);
    s.params.seed = 1;
    set_params(&s);
    hm_policy_plan(s.policy, s.plan, 4);
    g_assert_cmpmem(first, sizeof(first), s.plan, sizeof(first));

    /* As many as there are. */
    s.max = s.blocks;
    g_assert_cmpuint(hm_policy_plan(s.policy, s.plan, s.max), ==, DRAM);
    check_plan(&s, DRAM);
    sim_end(&s);
}

/* -- cmq ------------------------------------------------------------- */

#define B(n) (1ul << (n))

static void cmq_window(Sim *s, unsigned long mask)
{
    s->dirty[0] = mask;
    sim_window(s, 1000);
}

static void assert_plan(const Sim *s, const HmMove *want, size_t n)
{
    g_assert_cmpuint(s->planned, ==, n);
    for (size_t i = 0; i < n; i++) {
        g_assert_cmpuint(s->plan[i].promote, ==, want[i].promote);
        g_assert_cmpuint(s->plan[i].demote, ==, want[i].demote);
    }
}

/*
 * dram 0-2, nvm 3-8, windows of 1 s.
 *
 *   3 in windows 1-10, 4 in 4-8: levels 3 and 2 when the cork opens
 *   0 in window 7: a victim since window 6, one no more
 *             but the only one again in 15
 *   5 and 6 in 11-25: both in level 2 in window 15, 6 behind 5
 *   7 in 18, 19: level 1
 *   8 in 1, 19: forgotten in between, so in level 0
 *   4 and 3 fall from window 14 and 16 on, and are victims in 16 and 19
 *
 * What is planned in 20 cannot be moved, so it is planned again in 25; by
 * then only one pair is allowed.
 */
static void test_cmq(void)
{
    static const HmMove at_10[] = { { 3, 1 }, { 4, 2 } };
    static const HmMove at_15[] = { { 6, 0 } };
    static const HmMove at_20[] = { { 5, 4 }, { 7, 3 } };
    static const HmMove at_25[] = { { 5, 4 } };
    Sim s;

    sim_init(&s, "cmq", 3, 6, 1, 1000);
    for (unsigned w = 1; w <= 25; w++) {
        unsigned long mask = 0;

        mask |= w <= 10 ? B(3) : 0;
        mask |= w >= 4 && w <= 8 ? B(4) : 0;
        mask |= w == 7 ? B(0) : 0;
        mask |= w >= 11 ? B(5) | B(6) : 0;
        mask |= w == 18 || w == 19 ? B(7) : 0;
        mask |= w == 1 || w == 19 ? B(8) : 0;
        s.result = w == 20 ? HM_MOVE_BUSY : HM_MOVE_DONE;
        s.params.cmq_max_pairs = w > 20 ? 1 : 1000;
        set_params(&s);
        /* Not here: what just moved is sampled as well. */
        memset(s.moved, 0, s.blocks);
        cmq_window(&s, mask);
        if (w == 10) {
            assert_plan(&s, at_10, 2);
        } else if (w == 15) {
            assert_plan(&s, at_15, 1);
        } else if (w == 20) {
            assert_plan(&s, at_20, 2);
        } else if (w == 25) {
            assert_plan(&s, at_25, 1);
        } else {
            g_assert_cmpuint(s.planned, ==, 0);
        }
    }
    sim_end(&s);
}

static void test_cmq_params(void)
{
    static const HmMove want[] = { { 3, 0 } };
    Sim s;

    sim_init(&s, "cmq", 2, 2, 4, 1000);
    s.params.cmq_lifetime_ms = 100;
    s.params.cmq_cork_ms = 300;
    set_params(&s);
    s.max = 1;
    for (unsigned ms = 50; ms <= 300; ms += 50) {
        /* One page is enough. */
        write_page(&s, 3 * 4 + 2);
        sim_window(&s, 50);
        if (ms < 300) {
            g_assert_cmpuint(s.planned, ==, 0);
        }
    }
    assert_plan(&s, want, 1);
    sim_end(&s);
}

/* Somebody else moves blocks too, and tells. */
static void test_cmq_manual(void)
{
    static const HmMove other = { 3, 0 };
    static const HmMove want[] = { { 2, 1 }, { 0, 3 } };
    HmCycle c;
    Sim s;

    sim_init(&s, "cmq", 2, 2, 1, 1000);
    hm_frames_plan_cycle(s.frames, 3, 0, 0, &c);
    hm_frames_apply(s.frames, &c);
    hm_policy_moved(s.policy, &other, HM_MOVE_DONE);
    for (unsigned w = 1; w <= 10; w++) {
        cmq_window(&s, w > 5 ? B(2) | (w > 7 ? B(0) : 0) : 0);
    }
    assert_plan(&s, want, 2);
    sim_end(&s);
}

/* A scattered hot set is promoted at the second opening of the cork. */
static void test_cmq_hot_set(void)
{
    Sim s;

    sim_init(&s, "cmq", 500, 4500, 1, 1000);
    for (unsigned w = 0; w < 30; w++) {
        for (uint32_t b = 0; b < 5000; b += 20) {
            write_block(&s, b);
        }
        sim_window(&s, 1000);
        g_assert_cmpuint(s.planned, <=, 1000);
    }
    g_assert_cmpfloat(hits(&s), ==, 1);
    sim_end(&s);
}

/* -- write-heat: small tables ---------------------------------------- */

/* The window in which block 5 is promoted if its first page is written. */
static unsigned promoted_in(Sim *s, const HmMove *want, unsigned limit)
{
    for (unsigned w = 1; w <= limit; w++) {
        write_page(s, 5 * (uint64_t)s->ppb);
        sim_window(s, 1000);
        if (s->planned) {
            assert_plan(s, want, 1);
            return w;
        }
    }
    return 0;
}

/*
 * The half-life is 10 windows, so a move pays in 14.4.  One page of a block is
 * written in each: that is 14.4 page writes, less what chance may add.
 */
static void test_min_gain(void)
{
    static const HmMove want = { 5, 0 };
    static const struct {
        uint32_t ppb;
        double min_gain;
        bool pays;
    } row[] = {
        { 1, 0, true },
        { 1, 2, true },
        { 1, 10, true },
        { 1, 15, false },
        { 16, 0, true },
        { 16, 0.125, true },
        { 16, 0.5, true },
        { 16, 1, false },       /* 16 page writes */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        unsigned window;
        Sim s;

        sim_init(&s, "write-heat", 2, 6, row[i].ppb, 10000);
        s.params.min_gain = row[i].min_gain;
        set_params(&s);
        window = promoted_in(&s, &want, 100);
        g_test_message("%u pages, min-gain %.3f: in window %u", row[i].ppb,
                       row[i].min_gain, window);
        g_assert_cmpint(window > 0, ==, row[i].pays);
        /* One write proves nothing. */
        g_assert_cmpuint(window, !=, 1);
        sim_end(&s);
    }
}

/*
 * dram 0; 3 is there.  Without a mapping to spare it must go home, and two
 * blocks are copied into nvm: that has to pay, too.
 */
static void test_cost_of_homing(void)
{
    static const HmMove want = { 5, 3 };
    static const struct {
        bool limited;
        double min_gain;
        bool pays;
        uint32_t frame;         /* of 3 */
    } row[] = {
        { false, 0.5, true, 5 },
        { true, 0.5, false, 0 },
        { true, 0.125, true, 3 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        HmCycle c;
        Sim s;

        sim_init(&s, "write-heat", 1, 7, 16, 10000);
        hm_frames_plan_cycle(s.frames, 3, 0, 0, &c);
        hm_frames_apply(s.frames, &c);
        s.params.min_gain = row[i].min_gain;
        s.params.map_limit = row[i].limited ? 6 : 0;
        set_params(&s);
        g_assert_cmpint(promoted_in(&s, &want, 100) > 0, ==, row[i].pays);
        g_assert_cmpuint(hm_frames_frame_of(s.frames, 3), ==, row[i].frame);
        sim_end(&s);
    }
}

/* Hottest first, for the coldest; the others stay. */
static void test_pairs(void)
{
    static const HmMove want[] = { { 9, 1 }, { 7, 3 }, { 8, 0 } };
    Sim s;

    /* Pages written per window: 0: 2, 1: 0, 2: 8, 3: 1 | 7: 6, 8: 4, 9: 8 */
    static const uint8_t pages[] = { 2, 0, 8, 1, 0, 0, 0, 6, 4, 8, 0, 0 };

    sim_init(&s, "write-heat", 4, 8, 8, 10000);
    s.params.min_gain = 0.2;
    set_params(&s);
    s.max = 0;
    for (unsigned w = 0; w < 20; w++) {
        for (unsigned b = 0; b < G_N_ELEMENTS(pages); b++) {
            for (unsigned i = 0; i < pages[b]; i++) {
                write_page(&s, b * 8 + i);
            }
        }
        s.max = w == 19 ? 12 : 0;
        sim_window(&s, 1000);
    }
    assert_plan(&s, want, 3);

    /* Asked again in the same window, there is nothing more to do. */
    g_assert_cmpuint(hm_policy_plan(s.policy, s.plan, 12), ==, 0);
    sim_end(&s);
}

/* A plan that was cut short goes on when asked again. */
static void test_plan_in_parts(void)
{
    Sim s;

    sim_init(&s, "write-heat", 100, 300, 1, 10000);
    for (unsigned w = 0; w < 3; w++) {
        for (uint32_t b = 200; b < 250; b++) {
            write_block(&s, b);
        }
        s.max = w == 2 ? 20 : 0;
        sim_window(&s, 1000);
    }
    for (unsigned part = 0; part < 4; part++) {
        static const size_t want[] = { 20, 20, 10, 0 };

        g_assert_cmpuint(s.planned, ==, want[part]);
        s.planned = hm_policy_plan(s.policy, s.plan, 20);
        check_plan(&s, s.planned);
        carry_out(&s, s.planned);
    }
    sim_end(&s);
}

/*
 * Plans in 12 windows, if all fail.  One block of each tier is in demand,
 * the other tier has others: so both blocks of a move must rest.
 */
static unsigned plans_when(HmMoveResult result, bool one_victim)
{
    unsigned n = 0;
    Sim s;

    sim_init(&s, "write-heat", one_victim ? 1 : 4, 20, 1, 10000);
    s.result = result;
    s.max = 1;
    for (unsigned w = 0; w < 13; w++) {
        for (uint32_t b = 10; b < (one_victim ? 20 : 11); b++) {
            write_block(&s, b);
        }
        sim_window(&s, 1000);
        n += s.planned;
    }
    sim_end(&s);
    return n;
}

static void test_failures(void)
{
    static const struct {
        HmMoveResult result;
        unsigned plans;
    } row[] = {
        { HM_MOVE_BUDGET, 12 },
        { HM_MOVE_BUSY, 12 },
        { HM_MOVE_STALE, 12 },
        /* In windows 2 and 10. */
        { HM_MOVE_PINNED, 2 },
        { HM_MOVE_MAP_LIMIT, 2 },
        { HM_MOVE_FAILED, 2 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        g_assert_cmpuint(plans_when(row[i].result, false), ==, row[i].plans);
        g_assert_cmpuint(plans_when(row[i].result, true), ==, row[i].plans);
    }
    g_assert_cmpuint(plans_when(HM_MOVE_DONE, false), ==, 1);
}

/* Of many candidates and victims, the very hottest and coldest are taken. */
static void test_choice(void)
{
    enum { DRAM = 1500, NVM = 6000, MAX_MOVES = 300 };
    uint32_t least_up = UINT32_MAX, most_left = 0;
    uint32_t most_down = 0, least_left = UINT32_MAX;
    uint8_t *moved;
    Sim s;

    sim_init(&s, "write-heat", DRAM, NVM, 64, 10000);
    moved = g_new0(uint8_t, s.blocks);
    for (unsigned w = 0; w < 5; w++) {
        for (uint32_t b = 0; b < s.blocks; b++) {
            unsigned n = b * 2654435761u >> (b < DRAM ? 29 : 26);

            for (unsigned i = 0; i < n; i++) {
                write_page(&s, b * 64ull + i);
            }
        }
        s.max = w == 4 ? MAX_MOVES : 0;
        sim_window(&s, 1000);
    }
    g_assert_cmpuint(s.planned, ==, MAX_MOVES);
    for (size_t i = 0; i < MAX_MOVES; i++) {
        least_up = MIN(least_up, hm_heat_rank(s.heat, s.plan[i].promote));
        most_down = MAX(most_down, hm_heat_rank(s.heat, s.plan[i].demote));
        moved[s.plan[i].promote] = moved[s.plan[i].demote] = 1;
    }
    for (uint32_t b = 0; b < s.blocks; b++) {
        uint32_t rank = hm_heat_rank(s.heat, b);

        if (!moved[b] && b < DRAM) {
            least_left = MIN(least_left, rank);
        } else if (!moved[b]) {
            most_left = MAX(most_left, rank);
        }
    }
    g_assert_cmpuint(least_up, >=, most_left);
    g_assert_cmpuint(most_down, <=, least_left);
    g_free(moved);
    sim_end(&s);
}

/* -- write-heat: simulations ----------------------------------------- */

/*
 * What the guest writes in a window: @hot blocks at random places, each
 * with @p_hot, all others with @p_cold.
 */
typedef struct Guest {
    uint32_t dram, nvm, ppb;
    uint64_t half_life_ms;
    uint32_t hot;
    double p_hot, p_cold;
    bool one_page;              /* of each hot block, else all */
    uint64_t map_limit;
    uint32_t *order;
} Guest;

static void guest_begin(Sim *s, Guest *g)
{
    sim_init(s, "write-heat", g->dram, g->nvm, g->ppb, g->half_life_ms);
    s->params.map_limit = g->map_limit;
    set_params(s);
    g->order = g_new(uint32_t, s->blocks);
    for (uint32_t i = 0; i < s->blocks; i++) {
        g->order[i] = i;
    }
}

static void guest_end(Sim *s, Guest *g)
{
    sim_end(s);
    g_free(g->order);
}

/* Another hot set. */
static void guest_shift(Sim *s, Guest *g)
{
    for (uint32_t i = 0; i < s->blocks - 1; i++) {
        uint32_t j = i + rnd(s) % (s->blocks - i);
        uint32_t b = g->order[i];

        g->order[i] = g->order[j];
        g->order[j] = b;
    }
}

/* Runs @windows; returns how many moves were made. */
static uint64_t guest_run(Sim *s, Guest *g, unsigned windows)
{
    uint64_t moves = 0;

    for (unsigned w = 0; w < windows; w++) {
        for (uint32_t i = 0; i < s->blocks; i++) {
            if (rnd01(s) >= (i < g->hot ? g->p_hot : g->p_cold)) {
                continue;
            }
            if (g->one_page) {
                write_page(s, (uint64_t)g->order[i] * s->ppb);
            } else {
                write_block(s, g->order[i]);
            }
        }
        sim_window(s, 1000);
        moves += s->moves;
    }
    return moves;
}

/* Windows until @share of the writes hit dram; @limit + 1: not in time. */
static unsigned guest_settle(Sim *s, Guest *g, double share, unsigned limit)
{
    for (unsigned w = 1; w <= limit; w++) {
        guest_run(s, g, 1);
        if (hits(s) >= share) {
            return w;
        }
    }
    return limit + 1;
}

/* Equal blocks do not change places. */
static void test_uniform(void)
{
    static const double p[] = { 0.01, 0.1, 0.3, 0.5, 0.9 };
    static const uint64_t half_life[] = { 5000, 10000, 20000 };

    for (size_t h = 0; h < G_N_ELEMENTS(half_life); h++) {
        for (size_t i = 0; i < G_N_ELEMENTS(p); i++) {
            Guest g = {
                .dram = 2048, .nvm = 14336, .ppb = 1, .p_cold = p[i],
                .half_life_ms = half_life[h],
            };
            uint64_t before, after;
            Sim s;

            guest_begin(&s, &g);
            before = guest_run(&s, &g, 150);
            after = guest_run(&s, &g, 50);
            g_test_message("half-life %" PRIu64 " ms, p %.2f: %" PRIu64
                           " moves, then %" PRIu64, half_life[h], p[i],
                           before, after);
            g_assert_cmpfloat(after / 50.0, <, 0.001 * g.dram);
            g_assert_cmpuint(before, <, 3 * g.dram);
            guest_end(&s, &g);
        }
    }
}

/* The same with little dram beside much nvm, and with large blocks. */
static void test_uniform_shapes(void)
{
    Guest shape[] = {
        { .dram = 300, .nvm = 29700, .ppb = 1, .p_cold = 0.5,
          .half_life_ms = 10000 },
        { .dram = 1000, .nvm = 9000, .ppb = 32, .p_cold = 0.5,
          .half_life_ms = 10000 },
        { .dram = 1000, .nvm = 9000, .ppb = 32, .p_cold = 0.1,
          .half_life_ms = 5000 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(shape); i++) {
        Guest *g = &shape[i];
        uint64_t before, after;
        Sim s;

        guest_begin(&s, g);
        before = guest_run(&s, g, 150);
        after = guest_run(&s, g, 100);
        g_test_message("shape %zu: %" PRIu64 " moves, then %" PRIu64, i,
                       before, after);
        g_assert_cmpfloat(after / 100.0, <, 0.001 * g->dram);
        guest_end(&s, g);
    }
}

static void test_still_hot_set(void)
{
    static const uint64_t half_life[] = { 3000, 5000, 10000, 20000 };

    for (size_t h = 0; h < G_N_ELEMENTS(half_life); h++) {
        for (int part = 1; part <= 3; part++) {
            Guest g = {
                .dram = 2048, .nvm = 14336, .ppb = 1, .p_hot = 1,
                .hot = 600 * part, .half_life_ms = half_life[h],
            };
            uint64_t moves;
            Sim s;

            guest_begin(&s, &g);
            guest_shift(&s, &g);
            g_assert_cmpuint(guest_settle(&s, &g, 0.95, 5), <=, 4);
            moves = guest_run(&s, &g, 6);
            g_assert_cmpuint(moves, <, g.hot / 20);
            g_assert_cmpuint(guest_run(&s, &g, 60), ==, 0);
            g_assert_cmpfloat(hits(&s), >, 0.99);
            guest_end(&s, &g);
        }
    }
}

/* Behind noise: the hot set has to be told from it. */
static void test_hot_set_in_noise(void)
{
    Guest g = {
        .dram = 2048, .nvm = 14336, .ppb = 1, .hot = 1000, .p_hot = 0.9,
        .p_cold = 0.02, .half_life_ms = 5000,
    };
    double best = 0.9 * 1000 / (0.9 * 1000 + 0.02 * 15384);
    Sim s;

    guest_begin(&s, &g);
    guest_shift(&s, &g);
    g_assert_cmpuint(guest_settle(&s, &g, 0.95 * best, 8), <=, 5);
    guest_run(&s, &g, 50);
    g_assert_cmpfloat(guest_run(&s, &g, 50) / 50.0, <, 0.001 * g.dram);
    g_assert_cmpfloat(hits(&s), >, 0.95 * best);

    /* It moves. */
    guest_shift(&s, &g);
    g_assert_cmpuint(guest_settle(&s, &g, 0.9 * best, 20), <=, 12);
    guest_end(&s, &g);
}

/* What one guest taught does not keep the next from dram. */
static void test_after_even(void)
{
    static const struct {
        double p_hot;
        unsigned windows;
    } row[] = { { 1, 20 }, { 0.5, 40 } };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        Guest g = {
            .dram = 2048, .nvm = 14336, .ppb = 1, .p_cold = 0.5,
            .half_life_ms = 5000,
        };
        unsigned settled;
        Sim s;

        guest_begin(&s, &g);
        guest_run(&s, &g, 100);
        guest_shift(&s, &g);
        g.hot = 1000;
        g.p_hot = row[i].p_hot;
        g.p_cold = 0;
        settled = guest_settle(&s, &g, 0.95, 300);
        g_test_message("p %.1f: settled in %u windows", g.p_hot, settled);
        g_assert_cmpuint(settled, <=, row[i].windows);
        guest_end(&s, &g);
    }
}

static void test_moving_hot_set(void)
{
    Guest g = {
        .dram = 2048, .nvm = 14336, .ppb = 1, .p_hot = 1,
        .half_life_ms = 5000,
    };
    Sim s;

    /* With room in dram, it is followed as soon as it is seen twice. */
    g.hot = 1000;
    guest_begin(&s, &g);
    for (int i = 0; i < 5; i++) {
        guest_shift(&s, &g);
        g_assert_cmpuint(guest_settle(&s, &g, 0.95, 10), <=, 5);
        guest_run(&s, &g, 20);
        g_assert_cmpfloat(hits(&s), >, 0.99);
    }
    guest_end(&s, &g);

    /* Without, the old one must first have cooled: about a half-life. */
    g.hot = 1900;
    guest_begin(&s, &g);
    for (int i = 0; i < 5; i++) {
        guest_shift(&s, &g);
        g_assert_cmpuint(guest_settle(&s, &g, 0.95, 20), <=, 9);
        guest_run(&s, &g, 20);
    }
    guest_end(&s, &g);
}

/* Too fast to be worth much: run after it with a tenth of what it asks. */
static void test_restless_hot_set(void)
{
    Guest g = {
        .dram = 2048, .nvm = 14336, .ppb = 1, .hot = 1000, .p_hot = 1,
        .half_life_ms = 5000,
    };
    uint64_t moves = 0;
    Sim s;

    guest_begin(&s, &g);
    for (int i = 0; i < 60; i++) {
        guest_shift(&s, &g);
        moves = (i == 40 ? 0 : moves) + guest_run(&s, &g, 3);
    }
    g_assert_cmpfloat(moves / 60.0, <, 0.05 * g.dram);
    guest_end(&s, &g);
}

static void test_hot_set_over_dram(void)
{
    Guest shape[] = {
        { .dram = 2048, .nvm = 14336, .ppb = 1, .hot = 4096, .p_hot = 1,
          .half_life_ms = 5000 },
        { .dram = 2048, .nvm = 14336, .ppb = 1, .hot = 2100, .p_hot = 1,
          .half_life_ms = 5000 },
        { .dram = 256, .nvm = 1792, .ppb = 32, .hot = 512, .p_hot = 1,
          .half_life_ms = 5000 },
        { .dram = 2048, .nvm = 14336, .ppb = 1, .hot = 16384, .p_hot = 1,
          .half_life_ms = 5000 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(shape); i++) {
        Guest *g = &shape[i];
        uint64_t moves;
        Sim s;

        guest_begin(&s, g);
        guest_shift(&s, g);
        moves = guest_run(&s, g, 20);
        g_assert_cmpuint(moves, <=, g->dram * 5 / 4);
        g_assert_cmpfloat(hits(&s), >, 0.98 * g->dram / g->hot);
        g_assert_cmpuint(guest_run(&s, g, 100), ==, 0);
        guest_end(&s, g);
    }
}

/* One hot page in each block of 32; also with few mappings to spend. */
static void test_scattered_pages(void)
{
    for (int limited = 0; limited < 2; limited++) {
        Guest g = {
            .dram = 256, .nvm = 1792, .ppb = 32, .hot = 128, .p_hot = 1,
            .half_life_ms = 5000, .one_page = true,
            .map_limit = limited ? hm_frames_worst_mappings(256) : 0,
        };
        Sim s;

        guest_begin(&s, &g);
        for (int i = 0; i < 8; i++) {
            guest_shift(&s, &g);
            g_assert_cmpuint(guest_settle(&s, &g, 0.95, 20), <=, 14);
            guest_run(&s, &g, 20);
            g_assert_cmpfloat(hits(&s), >, 0.99);
            if (limited) {
                g_assert_cmpuint(hm_frames_mappings(s.frames), <=,
                                 g.map_limit);
            }
        }
        guest_end(&s, &g);
    }
}

static void test_zipf(void)
{
    enum { DRAM = 2048, NVM = 14336, BLOCKS = DRAM + NVM };
    static const struct {
        double theta, rate;
        uint64_t half_life_ms;
        double part;            /* of what the best placement gets */
    } row[] = {
        { 0.99, 10000, 5000, 0.95 }, { 0.99, 10000, 10000, 0.95 },
        { 0.6, 10000, 10000, 0.9 }, { 0.99, 1500, 10000, 0.85 },
    };

    for (size_t r = 0; r < G_N_ELEMENTS(row); r++) {
        g_autofree double *p = g_new(double, BLOCKS);
        double sum = 0, all = 0, top = 0, got = 0;
        Guest g = {
            .dram = DRAM, .nvm = NVM, .ppb = 1,
            .half_life_ms = row[r].half_life_ms,
        };
        uint64_t moves = 0;
        Sim s;

        for (uint32_t i = 0; i < BLOCKS; i++) {
            p[i] = pow(i + 1, -row[r].theta);
            sum += p[i];
        }
        for (uint32_t i = 0; i < BLOCKS; i++) {
            p[i] = 1 - exp(-row[r].rate * p[i] / sum);
            all += p[i];
            top += i < DRAM ? p[i] : 0;
        }
        guest_begin(&s, &g);
        guest_shift(&s, &g);
        for (unsigned w = 0; w < 150; w++) {
            for (uint32_t i = 0; i < BLOCKS; i++) {
                if (rnd01(&s) < p[i]) {
                    write_block(&s, g.order[i]);
                }
            }
            sim_window(&s, 1000);
            if (w >= 100) {
                moves += s.moves;
                got += hits(&s) / 50;
            }
        }
        g_test_message("theta %.2f: %.3f of writes in dram, %.3f at best; "
                       "%" PRIu64 " moves in 50 windows", row[r].theta, got,
                       top / all, moves);
        g_assert_cmpfloat(got, >, row[r].part * top / all);
        g_assert_cmpfloat(moves / 50.0, <, 0.003 * DRAM);
        guest_end(&s, &g);
    }
}

/* Own metadata does not grow with the guest. */
static void test_write_heat_bytes(void)
{
    Guest g = {
        .dram = 20000, .nvm = 180000, .ppb = 1, .hot = 200000, .p_hot = 0.3,
        .half_life_ms = 5000,
    };
    Sim s;

    guest_begin(&s, &g);
    guest_run(&s, &g, 12);
    g_assert_cmpuint(hm_policy_bytes(s.policy), <, 2 * 1024 * 1024);
    guest_end(&s, &g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/policy/table", test_table);
    g_test_add_func("/hybridmem/policy/defaults", test_defaults);
    g_test_add_func("/hybridmem/policy/contract", test_contract);
    g_test_add_func("/hybridmem/policy/one-tier", test_one_tier);
    g_test_add_func("/hybridmem/policy/shuffle", test_shuffle);
    g_test_add_func("/hybridmem/policy/cmq/table", test_cmq);
    g_test_add_func("/hybridmem/policy/cmq/params", test_cmq_params);
    g_test_add_func("/hybridmem/policy/cmq/manual", test_cmq_manual);
    g_test_add_func("/hybridmem/policy/cmq/hot-set", test_cmq_hot_set);
    g_test_add_func("/hybridmem/policy/write-heat/min-gain", test_min_gain);
    g_test_add_func("/hybridmem/policy/write-heat/cost-of-homing",
                    test_cost_of_homing);
    g_test_add_func("/hybridmem/policy/write-heat/pairs", test_pairs);
    g_test_add_func("/hybridmem/policy/write-heat/in-parts",
                    test_plan_in_parts);
    g_test_add_func("/hybridmem/policy/write-heat/failures", test_failures);
    g_test_add_func("/hybridmem/policy/write-heat/choice", test_choice);
    g_test_add_func("/hybridmem/policy/write-heat/uniform", test_uniform);
    g_test_add_func("/hybridmem/policy/write-heat/uniform-shapes",
                    test_uniform_shapes);
    g_test_add_func("/hybridmem/policy/write-heat/still-hot-set",
                    test_still_hot_set);
    g_test_add_func("/hybridmem/policy/write-heat/hot-set-in-noise",
                    test_hot_set_in_noise);
    g_test_add_func("/hybridmem/policy/write-heat/after-even",
                    test_after_even);
    g_test_add_func("/hybridmem/policy/write-heat/moving-hot-set",
                    test_moving_hot_set);
    g_test_add_func("/hybridmem/policy/write-heat/restless-hot-set",
                    test_restless_hot_set);
    g_test_add_func("/hybridmem/policy/write-heat/hot-set-over-dram",
                    test_hot_set_over_dram);
    g_test_add_func("/hybridmem/policy/write-heat/scattered-pages",
                    test_scattered_pages);
    g_test_add_func("/hybridmem/policy/write-heat/zipf", test_zipf);
    g_test_add_func("/hybridmem/policy/write-heat/bytes",
                    test_write_heat_bytes);
    return g_test_run();
}
