/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for the policies that know of reads: benefit and temperature.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hybridmem-sim.h"

static const char *const both[] = { "benefit", "temperature" };

/*
 * In each window every block is read and written with the odds of its kind.
 * Kinds take their @blocks from a random order; what is left is of kind 0.
 */
typedef struct Kind {
    uint32_t blocks;
    double p_read, p_write;
} Kind;

enum { OTHERS, HOT, WARM, KINDS };

typedef struct Guest {
    const char *policy;
    bool access;
    uint32_t dram, nvm, ppb;
    double read_cost, write_cost;       /* both 0: 1 */
    Kind kind[KINDS];
    uint32_t *order;
} Guest;

static void guest_shift(Sim *s, Guest *g)
{
    for (uint32_t i = 0; i < s->blocks - 1; i++) {
        uint32_t j = i + rnd(s) % (s->blocks - i);
        uint32_t b = g->order[i];

        g->order[i] = g->order[j];
        g->order[j] = b;
    }
}

static void guest_begin(Sim *s, Guest *g)
{
    (g->access ? sim_init_access : sim_init)(s, g->policy, g->dram, g->nvm,
                                             g->ppb, 5000);
    if (g->read_cost || g->write_cost) {
        s->params.read_cost = g->read_cost;
        s->params.write_cost = g->write_cost;
        set_params(s);
    }
    g->order = g_new(uint32_t, s->blocks);
    for (uint32_t i = 0; i < s->blocks; i++) {
        g->order[i] = i;
    }
    guest_shift(s, g);
}

static void guest_end(Sim *s, Guest *g)
{
    sim_end(s);
    g_free(g->order);
}

static const Kind *kind_of(const Guest *g, uint32_t i)
{
    if (i < g->kind[HOT].blocks) {
        return &g->kind[HOT];
    }
    i -= g->kind[HOT].blocks;
    return &g->kind[i < g->kind[WARM].blocks ? WARM : OTHERS];
}

/* Runs @windows; returns how many moves were made. */
static uint64_t guest_run(Sim *s, Guest *g, unsigned windows)
{
    uint64_t moves = 0;

    for (unsigned w = 0; w < windows; w++) {
        for (uint32_t i = 0; i < s->blocks; i++) {
            const Kind *k = kind_of(g, i);

            if (rnd01(s) < k->p_read) {
                read_block(s, g->order[i]);
            }
            if (rnd01(s) < k->p_write) {
                write_block(s, g->order[i]);
            }
        }
        sim_window(s, 1000);
        moves += s->moves;
    }
    return moves;
}

/* Part of the blocks of a kind that are in dram. */
static double in_dram(const Sim *s, const Guest *g, unsigned kind)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->blocks; i++) {
        n += kind_of(g, i) == &g->kind[kind] &&
             hm_frames_tier_of(s->frames, g->order[i]) == HM_TIER_DRAM;
    }
    return (double)n / g->kind[kind].blocks;
}

/* Windows until @part of the hot ones is in dram; @limit + 1: not in time. */
static unsigned guest_settle(Sim *s, Guest *g, double part, unsigned limit)
{
    for (unsigned w = 1; w <= limit; w++) {
        guest_run(s, g, 1);
        if (in_dram(s, g, HOT) >= part) {
            return w;
        }
    }
    return limit + 1;
}

/* -- No harm ------------------------------------------------------------- */

static void even(double p_read, double p_write, bool access, uint32_t ppb)
{
    Guest g = {
        .policy = "benefit", .access = access, .dram = 1024, .nvm = 7168,
        .ppb = ppb, .kind = { { 0, p_read, p_write } },
    };
    uint64_t before, after;
    Sim s;

    guest_begin(&s, &g);
    before = guest_run(&s, &g, 150);
    after = guest_run(&s, &g, 50);
    g_test_message("read %.2f, written %.2f%s, %u pages: %" PRIu64 " moves, "
                   "then %" PRIu64, p_read, p_write, access ? "" : " (alone)",
                   ppb, before, after);
    g_assert_cmpfloat(after / 50.0, <, 0.001 * g.dram);
    g_assert_cmpuint(before, <, 3 * g.dram);
    guest_end(&s, &g);
}

/* Equal blocks do not change places. */
static void test_even_reads(void)
{
    static const double p[] = { 0.01, 0.1, 0.5, 0.9, 1 };

    for (size_t i = 0; i < G_N_ELEMENTS(p); i++) {
        even(p[i], 0, true, 1);
    }
    even(0.3, 0, true, 16);
}

static void test_even_writes(void)
{
    static const double p[] = { 0.01, 0.1, 0.5, 0.9, 1 };

    for (size_t i = 0; i < G_N_ELEMENTS(p); i++) {
        even(0, p[i], true, 1);
        even(0, p[i], false, 1);
    }
    even(0.5, 0.5, true, 1);
    even(0.9, 0.1, true, 16);
}

/* The same where not all can be looked at. */
static void test_even_limited(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .kind = { { 0, 0.5, 0 } },
    };
    Sim s;

    guest_begin(&s, &g);
    s.max_watched = 2000;
    s.max_faults = 400;
    guest_run(&s, &g, 250);
    g_assert_cmpfloat(guest_run(&s, &g, 100) / 100.0, <, 0.001 * g.dram);
    guest_end(&s, &g);
}

/* -- Reads --------------------------------------------------------------- */

/* A hot set that is only read comes to dram, stays, and is followed. */
static void test_hot_reads(void)
{
    static const uint32_t hot[] = { 200, 700 };

    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        for (size_t i = 0; i < G_N_ELEMENTS(hot); i++) {
            Guest g = {
                .policy = both[p], .access = true, .dram = 1024, .nvm = 7168,
                .ppb = 1, .kind = { [HOT] = { hot[i], 1, 0 } },
            };
            unsigned first, longest = 0;
            Sim s;

            guest_begin(&s, &g);
            first = guest_settle(&s, &g, 0.95, 30);
            for (int n = 0; n < 4; n++) {
                unsigned windows;

                guest_run(&s, &g, 25);
                g_assert_cmpuint(guest_run(&s, &g, 10), ==, 0);
                g_assert_cmpfloat(read_hits(&s), >, 0.99);
                guest_shift(&s, &g);
                windows = guest_settle(&s, &g, 0.95, 30);
                longest = MAX(longest, windows);
            }
            g_test_message("%s, %u blocks: in %u windows, then %u",
                           g.policy, hot[i], first, longest);
            g_assert_cmpuint(first, <=, 6);
            g_assert_cmpuint(longest, <=, 6);
            guest_end(&s, &g);
        }
    }
}

/*
 * A hot set that is read and written, where it is reads that count and next to
 * nothing may be looked at: the log tells where it is.
 */
static void test_writes_tell(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .read_cost = 1,
        .kind = { [OTHERS] = { 0, 0.02, 0.02 }, [HOT] = { 700, 1, 1 } },
    };
    unsigned first, longest = 0;
    Sim s;

    guest_begin(&s, &g);
    s.max_faults = 20;
    first = guest_settle(&s, &g, 0.95, 60);
    for (int n = 0; n < 4; n++) {
        unsigned windows;

        guest_run(&s, &g, 25);
        guest_shift(&s, &g);
        windows = guest_settle(&s, &g, 0.95, 60);
        longest = MAX(longest, windows);
    }
    g_test_message("in %u windows, then %u", first, longest);
    g_assert_cmpuint(first, <=, 8);
    g_assert_cmpuint(longest, <=, 8);
    guest_end(&s, &g);
}

/* Used for two windows: it is learnt that moves do not pay. */
static void test_restless(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .kind = { [HOT] = { 500, 1, 0 } },
    };
    uint64_t first = 0, last = 0;
    Sim s;

    guest_begin(&s, &g);
    for (int i = 0; i < 60; i++) {
        uint64_t moves;

        guest_shift(&s, &g);
        moves = guest_run(&s, &g, 2);
        first += i < 10 ? moves : 0;
        last += i >= 50 ? moves : 0;
    }
    g_test_message("%" PRIu64 " moves, then %" PRIu64, first, last);
    g_assert_cmpfloat(first / 30.0, <, 0.05 * g.dram);
    g_assert_cmpfloat(last / 30.0, <, 0.05 * g.dram);
    guest_end(&s, &g);
}

/* Behind noise of reads and of writes, and with limits. */
static void test_hot_reads_in_noise(void)
{
    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        for (int limited = 0; limited < 2; limited++) {
            Guest g = {
                .policy = both[p], .access = true, .dram = 1024,
                .nvm = 7168, .ppb = 1,
                .kind = { [OTHERS] = { 0, 0.02, 0.02 },
                          [HOT] = { 500, 0.9, 0 } },
            };
            unsigned windows;
            Sim s;

            guest_begin(&s, &g);
            if (limited) {
                s.max_watched = 3000;
                s.max_faults = 500;
            }
            windows = guest_settle(&s, &g, 0.9, 100);
            g_test_message("%s: in %u windows", g.policy, windows);
            g_assert_cmpuint(windows, <=, limited ? 25 : 10);
            guest_run(&s, &g, 50);
            g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.95);
            guest_end(&s, &g);
        }
    }
}

/*
 * In a large guest each block gets a look now and then.  What is read in each
 * window must be told from what is read in one of ten, and then be left alone.
 */
static void test_seldom_seen(void)
{
    for (int model = 0; model < 2; model++) {
        Guest g = {
            .policy = "benefit", .access = true, .dram = 2048, .nvm = 18432,
            .ppb = 1, .read_cost = model,
            .kind = { [OTHERS] = { 0, 0.1, 0 }, [HOT] = { 1000, 1, 0 } },
        };
        uint64_t moves;
        Sim s;

        guest_begin(&s, &g);
        s.max_faults = 160;
        moves = guest_run(&s, &g, 150);
        g_test_message("%.2f in dram, %" PRIu64 " moves",
                       in_dram(&s, &g, HOT), moves);
        g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.95);
        g_assert_cmpuint(moves, <, 2 * g.dram);
        g_assert_cmpuint(guest_run(&s, &g, 100), <, g.dram / 4);
        g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.95);
        guest_end(&s, &g);
    }
}

/*
 * Nearly all is written in each window: what is always written is many times as
 * hot as what is missing in one of six.
 */
static void test_nearly_all(void)
{
    for (int access = 0; access < 2; access++) {
        Guest g = {
            .policy = "benefit", .access = access, .dram = 1024, .nvm = 4096,
            .ppb = 1,
            .kind = { [OTHERS] = { 0, 0.84, 0.84 }, [HOT] = { 900, 1, 1 } },
        };
        Sim s;

        guest_begin(&s, &g);
        guest_run(&s, &g, 60);
        g_test_message("in dram after 60 windows: %.2f", in_dram(&s, &g, HOT));
        g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.6);
        guest_end(&s, &g);
    }
}

/* -- What reads and writes cost ------------------------------------------ */

/* Wear: reads are free, so what is only read does not come, nor stays. */
static void test_wear(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .read_cost = 0, .write_cost = 3,
        .kind = { [HOT] = { 900, 1, 0 } },
    };
    Sim s;

    guest_begin(&s, &g);
    g_assert_cmpuint(guest_run(&s, &g, 60), ==, 0);
    guest_end(&s, &g);

    /* With writes beside them, these have dram. */
    g.kind[WARM] = g.kind[HOT];
    g.kind[HOT] = (Kind) { 900, 0, 0.8 };
    guest_begin(&s, &g);
    guest_run(&s, &g, 60);
    g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.95);
    guest_end(&s, &g);
}

/* Writes are free: what is read has dram, not what is written seldom. */
static void test_reads_only(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .read_cost = 1, .write_cost = 0,
        .kind = { [HOT] = { 900, 0.8, 0 }, [WARM] = { 900, 0, 0.2 } },
    };
    Sim s;

    guest_begin(&s, &g);
    guest_run(&s, &g, 80);
    g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.95);
    g_assert_cmpfloat(in_dram(&s, &g, WARM), <, 0.2);
    guest_end(&s, &g);
}

/*
 * Of a page that is written more is read than of one that is only read: it has
 * dram even if it is used less often, and only reads cost anything.
 */
static void test_only_read(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 512, .nvm = 3584,
        .ppb = 1, .read_cost = 1, .write_cost = 0,
        .kind = { [HOT] = { 480, 0.9, 0 }, [WARM] = { 480, 0, 0.8 } },
    };
    Sim s;

    guest_begin(&s, &g);
    guest_run(&s, &g, 120);
    g_assert_cmpfloat(in_dram(&s, &g, WARM), >, 0.8);
    guest_end(&s, &g);
}

/*
 * Two sets that do not both fit, one read often and one written seldom.  The
 * dearer one has dram, whatever the unit.
 */
static void test_costs(void)
{
    static const struct {
        double read_cost, write_cost;
        bool reads_win;
    } row[] = {
        { 1, 4, false }, { 0.001, 0.004, false }, { 200, 10, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        Guest g = {
            .policy = "benefit", .access = true, .dram = 512, .nvm = 3584,
            .ppb = 1, .read_cost = row[i].read_cost,
            .write_cost = row[i].write_cost,
            .kind = { [HOT] = { 480, 0.9, 0 }, [WARM] = { 480, 0.25, 0.25 } },
        };
        Sim s;

        guest_begin(&s, &g);
        guest_run(&s, &g, 120);
        g_test_message("%.3f and %.3f: %.2f of reads, %.2f of writes",
                       g.read_cost, g.write_cost, in_dram(&s, &g, HOT),
                       in_dram(&s, &g, WARM));
        g_assert_cmpint(in_dram(&s, &g, HOT) > in_dram(&s, &g, WARM), ==,
                        row[i].reads_win);
        g_assert_cmpfloat(in_dram(&s, &g, row[i].reads_win ? HOT : WARM), >,
                          0.8);
        guest_end(&s, &g);
    }

    /* No costs at all are as good as equal ones. */
    {
        Guest g = {
            .policy = "benefit", .access = true, .dram = 512, .nvm = 3584,
            .ppb = 1, .kind = { [HOT] = { 400, 1, 0 } },
        };
        Sim s;

        guest_begin(&s, &g);
        s.params.read_cost = s.params.write_cost = 0;
        set_params(&s);
        guest_run(&s, &g, 30);
        g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.95);
        guest_end(&s, &g);
    }
}

/* -- Where dram is too busy ------------------------------------------------ */

/* Part of what is read that is read in dram, after @windows at this limit. */
static double share_at(Sim *s, Guest *g, HmBalanceLimit limit, unsigned windows,
                       uint64_t *moves)
{
    s->params.limit = limit;
    set_params(s);
    *moves = guest_run(s, g, windows);
    return read_hits(s);
}

/* Held, nothing moves; a step goes no further than it says. */
static void test_limit(void)
{
    static const HmBalanceLimit held = { .limited = true }, none = { };
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .kind = { [HOT] = { 800, 1, 0 } },
    };
    uint64_t moves;
    double was;
    Sim s;

    guest_begin(&s, &g);
    was = share_at(&s, &g, held, 30, &moves);
    g_assert_cmpfloat(was, <, 0.2);
    g_assert_cmpuint(moves, ==, 0);

    /* Forth: an eighth of what is there, each time. */
    for (int i = 0; i < 5; i++) {
        double now;

        share_at(&s, &g, (HmBalanceLimit) { true, 0.125, 0 }, 1, &moves);
        now = share_at(&s, &g, held, 12, &moves);
        g_test_message("forth: %.3f to %.3f", was, now);
        g_assert_cmpuint(moves, ==, 0);
        g_assert_cmpfloat(now, >, 1.08 * was);
        g_assert_cmpfloat(now, <, 1.18 * was);
        was = now;
    }
    g_assert_cmpfloat(share_at(&s, &g, none, 20, &moves), >, 0.99);
    guest_run(&s, &g, 12);

    /* And back. */
    was = 1;
    for (int i = 0; i < 5; i++) {
        double now;

        share_at(&s, &g, (HmBalanceLimit) { true, 0, 0.25 }, 1, &moves);
        now = share_at(&s, &g, held, 12, &moves);
        g_test_message("back: %.3f to %.3f", was, now);
        g_assert_cmpuint(moves, ==, 0);
        g_assert_cmpfloat(now, <, 0.82 * was);
        g_assert_cmpfloat(now, >, 0.7 * was);
        was = now;
    }

    /* It was not the guest's doing: what has left comes again at once. */
    g_assert_cmpfloat(share_at(&s, &g, none, 10, &moves), >, 0.95);
    guest_end(&s, &g);
}

/* Where all blocks are alike no exchange can help. */
static void test_retreat_even(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .kind = { { 0, 0.5, 0 } },
    };
    uint64_t moves;
    Sim s;

    guest_begin(&s, &g);
    guest_run(&s, &g, 150);
    share_at(&s, &g, (HmBalanceLimit) { true, 0, 0.25 }, 20, &moves);
    g_assert_cmpuint(moves, <, g.dram / 100);
    guest_end(&s, &g);
}

/* As in test-hybridmem-balance.c: idle times, and capacities. */
static double busy(double idle, double load, double capacity)
{
    return idle / MAX(1 - load / capacity, 0.05);
}

/* With the balance at the helm: reads of a load that dram alone cannot bear. */
static void test_balanced(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
        .ppb = 1, .kind = { [OTHERS] = { 0, 0.005, 0 }, [HOT] = { 800, 1, 0 } },
    };
    uint64_t moves = 0, settled = 0;
    double load = 1.1, share = 0, settled_share = 0;
    HmBalance b;
    Sim s;

    hm_balance_init(&b);
    guest_begin(&s, &g);
    for (int w = 0; w < 400; w++) {
        double ns[HM_TIER__MAX];

        moves = guest_run(&s, &g, 1);
        share = read_hits(&s);
        load = w < 200 ? 1.1 : 0.3;
        ns[HM_TIER_DRAM] = busy(90, load * share, 1);
        ns[HM_TIER_NVM] = busy(180, load * (1 - share), 0.6);
        hm_balance_window(&b, ns);
        s.params.limit = hm_balance_limit(&b);
        set_params(&s);
        if (w >= 100 && w < 200) {
            settled += moves;
            settled_share += share / 100;
        }
    }
    g_test_message("share %.3f, %" PRIu64 " moves in 100 windows; then %.3f",
                   settled_share, settled, share);
    g_assert_cmpfloat(fabs(settled_share - 0.70), <, 0.03);
    g_assert_cmpuint(settled, <, 60);
    /* The load has gone: all that is hot is in dram. */
    g_assert_cmpint(b.state, ==, HM_BALANCE_FREE);
    g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.99);
    guest_end(&s, &g);
}

/* -- Where accesses are not seen ------------------------------------------- */

static void test_writes_alone(void)
{
    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        Guest g = {
            .policy = both[p], .dram = 1024, .nvm = 7168, .ppb = 1,
            .kind = { [HOT] = { 600, 0, 1 } },
        };
        unsigned longest = 0;
        Sim s;

        guest_begin(&s, &g);
        for (int n = 0; n < 4; n++) {
            unsigned windows = guest_settle(&s, &g, 0.95, 30);

            longest = MAX(longest, windows);
            guest_run(&s, &g, 25);
            g_assert_cmpfloat(hits(&s), >, 0.99);
            g_assert_cmpuint(guest_run(&s, &g, 10), ==, 0);
            guest_shift(&s, &g);
        }
        g_test_message("%s: within %u windows", g.policy, longest);
        g_assert_cmpuint(longest, <=, 10);
        guest_end(&s, &g);
    }
}

/* -- Plans ----------------------------------------------------------------- */

/*
 * Of 64 pages of each of 8 blocks so many are read: the promise of a move is
 * a half of the difference, and brings 7.5 windows' worth.
 */
static void test_min_gain(void)
{
    static const struct {
        uint32_t up, down;      /* pages read of block 5, and all in dram */
        double min_gain;
        bool pays;
    } row[] = {
        { 32, 0, 0.5, true },
        { 32, 0, 3, false },
        { 32, 28, 0.5, false },
        { 64, 0, 2, true },
        { 8, 8, 0, false },
        { 1, 0, 0, false },     /* so little of one block may be chance */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        bool planned = false;
        Sim s;

        sim_init_access(&s, "benefit", 2, 6, 64, 5000);
        s.params.min_gain = row[i].min_gain;
        set_params(&s);
        for (unsigned w = 0; w < 150; w++) {
            for (unsigned k = 0; k < row[i].up; k++) {
                read_page(&s, 5 * 64 + k);
            }
            for (unsigned k = 0; k < row[i].down; k++) {
                read_page(&s, k);
                read_page(&s, 64 + k);
            }
            sim_window(&s, 1000);
            planned |= s.planned > 0;
            if (s.planned) {
                g_assert_cmpuint(s.plan[0].promote, ==, 5);
            }
        }
        g_test_message("%u and %u pages, min-gain %.1f: %s", row[i].up,
                       row[i].down, row[i].min_gain, planned ? "yes" : "no");
        g_assert_cmpint(planned, ==, row[i].pays);
        sim_end(&s);
    }
}

/* Plans in @windows, when all fail. */
static unsigned plans_when(const char *policy, bool access,
                           HmMoveResult result, bool one_victim)
{
    unsigned n = 0;
    Sim s;

    (access ? sim_init_access : sim_init)(&s, policy, one_victim ? 1 : 4, 20,
                                          1, 10000);
    s.max = 1;
    for (unsigned w = 0; w < 40; w++) {
        s.result = result;
        for (uint32_t b = 10; b < (one_victim ? 20 : 11); b++) {
            write_block(&s, b);
        }
        /* Hot, cold and learnt. */
        s.max = w >= 16;
        sim_window(&s, 1000);
        n += s.planned;
    }
    sim_end(&s);
    return n;
}

/* A block that could not be moved rests for 8 windows, of either tier. */
static void test_failures(void)
{
    static const struct {
        HmMoveResult result;
        unsigned plans;
    } row[] = {
        { HM_MOVE_BUDGET, 24 }, { HM_MOVE_BUSY, 24 }, { HM_MOVE_STALE, 24 },
        { HM_MOVE_PINNED, 3 }, { HM_MOVE_MAP_LIMIT, 3 },
        { HM_MOVE_FAILED, 3 },
    };

    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
            for (int access = 0; access < 2; access++) {
                g_assert_cmpuint(plans_when(both[p], access, row[i].result,
                                            false), ==, row[i].plans);
            }
        }
    }
    /* Temperature has no hot set of ten equal ones for one place. */
    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        g_assert_cmpuint(plans_when("benefit", false, row[i].result, true),
                         ==, row[i].plans);
        g_assert_cmpuint(plans_when("benefit", true, row[i].result, true),
                         ==, row[i].plans);
    }
    g_assert_cmpuint(plans_when("benefit", true, HM_MOVE_DONE, false), ==, 1);
}

/* Each window has another hottest block; the only victim rests. */
static void test_victim_rests(void)
{
    unsigned n = 0;
    Sim s;

    sim_init(&s, "temperature", 1, 40, 1, 1000);
    s.result = HM_MOVE_PINNED;
    for (unsigned w = 0; w < 24; w++) {
        write_block(&s, 1 + w);
        sim_window(&s, 1000);
        n += s.planned;
    }
    g_assert_cmpuint(n, ==, 3);
    sim_end(&s);
}

/*
 * Two blocks as hot as each other, and one place.  The one that has come looks
 * colder at first, for it was not sampled; but it stays.
 */
static void test_stays(void)
{
    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        unsigned moves = 0;
        Sim s;

        sim_init(&s, both[p], 1, 9, 16, 5000);
        for (unsigned w = 0; w < 40; w++) {
            write_block(&s, 5);
            if (moves) {
                write_block(&s, 7);
            }
            sim_window(&s, 1000);
            moves += s.moves;
        }
        g_assert_cmpuint(moves, ==, 1);
        sim_end(&s);
    }
}

/* A plan that was cut short goes on when asked again. */
static void test_in_parts(void)
{
    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        static const size_t want[] = { 20, 20, 10, 0 };
        Sim s;

        sim_init_access(&s, both[p], 100, 300, 1, 10000);
        for (unsigned w = 0; w < 20; w++) {
            for (uint32_t b = 200; b < 250; b++) {
                (b % 2 ? write_block : read_block)(&s, b);
            }
            s.max = w == 19 ? 20 : 0;
            sim_window(&s, 1000);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(want); i++) {
            g_assert_cmpuint(s.planned, ==, want[i]);
            s.planned = hm_policy_plan(s.policy, s.plan, 20);
            check_plan(&s, s.planned);
            carry_out(&s, s.planned);
        }
        sim_end(&s);
    }
}

/* Of many, those that are read most come, and those read least go. */
static void test_choice(void)
{
    enum { DRAM = 500, NVM = 2000, MOVES = 50 };

    for (size_t p = 0; p < G_N_ELEMENTS(both); p++) {
        double least = 1, most = 0;
        Sim s;

        sim_init_access(&s, both[p], DRAM, NVM, 64, 5000);
        for (unsigned w = 0; w < 60; w++) {
            for (uint32_t b = 0; b < s.blocks; b++) {
                unsigned n = b < DRAM ? b % 20 : b % 64;

                for (unsigned k = 0; k < n; k++) {
                    read_page(&s, b * 64ull + k);
                }
            }
            s.max = w == 59 ? MOVES : 0;
            sim_window(&s, 1000);
        }
        g_assert_cmpuint(s.planned, ==, MOVES);
        for (size_t i = 0; i < s.planned; i++) {
            least = MIN(least, hm_access_rate(s.access, s.plan[i].promote));
            most = MAX(most, hm_access_rate(s.access, s.plan[i].demote));
        }
        g_test_message("%s: from %.3f up, to %.3f down", both[p], least,
                       most);
        g_assert_cmpfloat(least, >, 0.91);
        g_assert_cmpfloat(most, <, 1.5 / 64);
        sim_end(&s);
    }
}

/*
 * Of blocks that have all been used in every window of late, those go first
 * that have been for longer; and those stay.
 */
static void test_equals(void)
{
    enum { DRAM = 500, NVM = 2000, MOVES = 250 };

    for (int reads = 0; reads < 2; reads++) {
        unsigned older = 0, younger = 0;
        Sim s;

        sim_init_access(&s, "benefit", DRAM, NVM, 1, 5000);
        for (unsigned w = 0; w < 40; w++) {
            for (uint32_t b = 0; b < s.blocks; b++) {
                bool old = b % 8 == 0, of_dram = b < DRAM;

                /* What is in dram has been used, and is no more. */
                if (of_dram ? w < (old ? 35 : 30) : old || w > 30) {
                    (reads ? read_block : write_block)(&s, b);
                }
            }
            s.max = w == 39 ? MOVES : 0;
            sim_window(&s, 1000);
        }
        g_assert_cmpuint(s.planned, ==, MOVES);
        for (size_t i = 0; i < s.planned; i++) {
            older += s.plan[i].promote % 8 == 0;
            younger += s.plan[i].demote % 8 != 0;
        }
        g_test_message("%u of %u up are old, %u down were not", older, MOVES,
                       younger);
        g_assert_cmpuint(older, ==, MOVES);
        g_assert_cmpuint(younger, ==, MOVES);
        sim_end(&s);
    }
}

/* In place of a block that is in use, too, a move must save twice as much. */
static void test_in_use(void)
{
    static const struct {
        unsigned up, down;      /* pages of 64 written in each window */
        bool moves;
    } row[] = {
        { 6, 0, true }, { 3, 0, false },
        { 25, 20, false }, { 32, 20, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        Sim s;

        sim_init(&s, "benefit", 500, 1500, 64, 5000);
        s.params.min_gain = 0.5;
        set_params(&s);
        for (unsigned w = 0; w < 60; w++) {
            for (uint32_t b = 0; b < s.blocks; b++) {
                unsigned n = b < 500 ? row[i].down : row[i].up;

                for (unsigned k = 0; k < n; k++) {
                    write_page(&s, b * 64ull + k);
                }
            }
            s.max = w == 59 ? 10 : 0;
            sim_window(&s, 1000);
        }
        g_test_message("%u for %u pages: %zu moves", row[i].up, row[i].down,
                       s.planned);
        g_assert_cmpuint(s.planned, ==, row[i].moves ? 10 : 0);
        sim_end(&s);
    }
}

/*
 * Dram is filled with a part of what is seldom used, all alike; beyond that,
 * nothing is to be had from exchanging one for another.
 */
static void test_more_than_fits(void)
{
    for (int reads = 0; reads < 2; reads++) {
        Guest g = {
            .policy = "benefit", .access = true, .dram = 1024, .nvm = 7168,
            .ppb = 1, .kind = { [HOT] = { 1500, 0.4 * reads, 0.4 } },
        };
        uint64_t moves;
        Sim s;

        guest_begin(&s, &g);
        moves = guest_run(&s, &g, 200);
        g_test_message("%" PRIu64 " moves; %.2f in dram", moves,
                       in_dram(&s, &g, HOT));
        g_assert_cmpfloat(in_dram(&s, &g, HOT), >, 0.55);
        g_assert_cmpuint(moves, <, 1.25 * g.dram);
        guest_end(&s, &g);
    }
}

/* Its metadata does not grow with what is hot. */
static void test_bytes(void)
{
    Guest g = {
        .policy = "benefit", .access = true, .dram = 20000, .nvm = 180000,
        .ppb = 1, .kind = { [HOT] = { 100000, 1, 1 } },
    };
    Sim s;

    guest_begin(&s, &g);
    s.result = HM_MOVE_BUSY;
    guest_run(&s, &g, 4);
    g_assert_cmpuint(s.planned, >, 10000);
    g_test_message("%zu bytes", hm_policy_bytes(s.policy));
    g_assert_cmpuint(hm_policy_bytes(s.policy), <, 1200 * 1000);
    guest_end(&s, &g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/benefit/even-reads", test_even_reads);
    g_test_add_func("/hybridmem/benefit/even-writes", test_even_writes);
    g_test_add_func("/hybridmem/benefit/even-limited", test_even_limited);
    g_test_add_func("/hybridmem/benefit/hot-reads", test_hot_reads);
    g_test_add_func("/hybridmem/benefit/restless", test_restless);
    g_test_add_func("/hybridmem/benefit/hot-reads-in-noise",
                    test_hot_reads_in_noise);
    g_test_add_func("/hybridmem/benefit/seldom-seen", test_seldom_seen);
    g_test_add_func("/hybridmem/benefit/writes-tell", test_writes_tell);
    g_test_add_func("/hybridmem/benefit/nearly-all", test_nearly_all);
    g_test_add_func("/hybridmem/benefit/wear", test_wear);
    g_test_add_func("/hybridmem/benefit/reads-only", test_reads_only);
    g_test_add_func("/hybridmem/benefit/only-read", test_only_read);
    g_test_add_func("/hybridmem/benefit/costs", test_costs);
    g_test_add_func("/hybridmem/benefit/limit", test_limit);
    g_test_add_func("/hybridmem/benefit/balanced", test_balanced);
    g_test_add_func("/hybridmem/benefit/retreat-even", test_retreat_even);
    g_test_add_func("/hybridmem/benefit/writes-alone", test_writes_alone);
    g_test_add_func("/hybridmem/benefit/min-gain", test_min_gain);
    g_test_add_func("/hybridmem/benefit/failures", test_failures);
    g_test_add_func("/hybridmem/benefit/victim-rests", test_victim_rests);
    g_test_add_func("/hybridmem/benefit/stays", test_stays);
    g_test_add_func("/hybridmem/benefit/in-parts", test_in_parts);
    g_test_add_func("/hybridmem/benefit/choice", test_choice);
    g_test_add_func("/hybridmem/benefit/equals", test_equals);
    g_test_add_func("/hybridmem/benefit/in-use", test_in_use);
    g_test_add_func("/hybridmem/benefit/more-than-fits", test_more_than_fits);
    g_test_add_func("/hybridmem/benefit/bytes", test_bytes);
    return g_test_run();
}
