/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/frames.c
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/frames.h"

#define D HM_TIER_DRAM
#define N HM_TIER_NVM

/* Small enough to draw. */
static const HmExtent tiny[] = {
    { 0, 2, D, true },
    { 2, 6, N, true },
};

static const HmExtent tiny_pfn[] = {
    { 0, 2, D, false },
    { 2, 6, N, false },
};

static void assert_valid(const HmFrames *fr)
{
    const char *why = "";
    bool ok = hm_frames_verify(fr, &why);

    if (!ok) {
        g_test_message("%s", why);
    }
    g_assert_true(ok);
}

static void assert_frames(const HmFrames *fr, const uint32_t *want)
{
    for (uint32_t b = 0; b < hm_frames_blocks(fr); b++) {
        g_assert_cmpuint(hm_frames_frame_of(fr, b), ==, want[b]);
        g_assert_cmpuint(hm_frames_block_in(fr, want[b]), ==, b);
    }
    assert_valid(fr);
}

static HmMoveResult exchange(HmFrames *fr, uint32_t a, uint32_t b,
                             uint64_t limit, unsigned *n)
{
    HmCycle c = { 0 };
    HmMoveResult r = hm_frames_plan_cycle(fr, a, b, limit, &c);

    if (r == HM_MOVE_DONE) {
        hm_frames_apply(fr, &c);
        *n = c.n;
    }
    return r;
}

static void test_identity(void)
{
    static const HmExtent ext[] = {
        { 0, 3, D, true }, { 3, 4, N, true }, { 7, 1, D, false },
        { 8, 2, N, true },
    };
    static const uint8_t extent[] = { 0, 0, 0, 1, 1, 1, 1, 2, 3, 3 };
    static const uint8_t dram[] = { 0, 1, 2, 7 };
    static const uint8_t nvm[] = { 3, 4, 5, 6, 8, 9 };
    HmFrames *fr = hm_frames_new(ext, 4);

    g_assert_cmpuint(hm_frames_blocks(fr), ==, 10);
    g_assert_cmpuint(hm_frames_tier_blocks(fr, D), ==, 4);
    g_assert_cmpuint(hm_frames_tier_blocks(fr, N), ==, 6);
    g_assert_cmpuint(hm_frames_n_extents(fr), ==, 4);
    g_assert_cmpuint(hm_frames_extent(fr, 2)->first, ==, 7);
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 4);
    for (uint32_t b = 0; b < 10; b++) {
        g_assert_cmpuint(hm_frames_frame_of(fr, b), ==, b);
        g_assert_cmpuint(hm_frames_extent_of(fr, b), ==, extent[b]);
        g_assert_cmpint(hm_frames_tier_of(fr, b), ==, ext[extent[b]].tier);
    }
    for (uint32_t i = 0; i < 4; i++) {
        g_assert_cmpuint(hm_frames_tier_frame(fr, D, i), ==, dram[i]);
        g_assert_cmpuint(hm_frames_tier_index(fr, dram[i]), ==, i);
    }
    for (uint32_t i = 0; i < 6; i++) {
        g_assert_cmpuint(hm_frames_tier_frame(fr, N, i), ==, nvm[i]);
        g_assert_cmpuint(hm_frames_tier_index(fr, nvm[i]), ==, i);
    }
    assert_valid(fr);
    hm_frames_free(fr);
}

/*
 *  block     0 1 | 2 3 4 5 6 7     mappings
 *  at first  0 1 | 2 3 4 5 6 7     2
 *  4 <-> 0   4 1 | 2 3 0 5 6 7     5:  4, 1, 2-3, 0, 5-7
 *  5 <-> 1   4 5 | 2 3 0 1 6 7     4:  4-5, 2-3, 0-1, 6-7
 *  0 <-> 1   5 4 | 2 3 0 1 6 7     5
 *  and back.
 */
static void test_cycles_of_two(void)
{
    static const struct {
        uint32_t a, b, frame_of[8];
        uint64_t mappings;
    } step[] = {
        { 4, 0, { 4, 1, 2, 3, 0, 5, 6, 7 }, 5 },
        { 5, 1, { 4, 5, 2, 3, 0, 1, 6, 7 }, 4 },
        { 0, 1, { 5, 4, 2, 3, 0, 1, 6, 7 }, 5 },
        { 1, 0, { 4, 5, 2, 3, 0, 1, 6, 7 }, 4 },
        { 0, 4, { 0, 5, 2, 3, 4, 1, 6, 7 }, 5 },
        { 1, 5, { 0, 1, 2, 3, 4, 5, 6, 7 }, 2 },
    };
    HmFrames *fr = hm_frames_new(tiny, 2);
    unsigned n = 0;

    g_assert_cmpuint(hm_frames_mappings(fr), ==, 2);
    for (size_t i = 0; i < G_N_ELEMENTS(step); i++) {
        g_assert_cmpint(exchange(fr, step[i].a, step[i].b, 0, &n), ==,
                        HM_MOVE_DONE);
        g_assert_cmpuint(n, ==, 2);
        assert_frames(fr, step[i].frame_of);
        g_assert_cmpuint(hm_frames_mappings(fr), ==, step[i].mappings);
    }
    hm_frames_free(fr);
}

/*
 *  block          0 1 | 2 3 4 5 6 7    mappings
 *  3 <-> 0        3 1 | 2 0 4 5 6 7    5
 *  6 <-> 3: two   3 1 | 2 6 4 5 0 7    7: a foreign nvm frame
 *          three  6 1 | 2 3 4 5 0 7    5: 3 is home, 0 where 6 was
 */
static void test_cycle_of_three(void)
{
    static const uint32_t after[] = { 6, 1, 2, 3, 4, 5, 0, 7 };
    HmFrames *fr = hm_frames_new(tiny, 2);
    HmCycle c;
    unsigned n = 0;

    g_assert_cmpint(exchange(fr, 3, 0, 0, &n), ==, HM_MOVE_DONE);
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 5);

    /* Either order of the two gives the same. */
    for (int swapped = 0; swapped < 2; swapped++) {
        g_assert_cmpint(hm_frames_plan_cycle(fr, swapped ? 3 : 6,
                                             swapped ? 6 : 3, 10, &c),
                        ==, HM_MOVE_DONE);
        g_assert_cmpuint(c.n, ==, 3);
        g_assert_cmpuint(c.block[0], ==, 6);
        g_assert_cmpuint(c.block[1], ==, 3);
        g_assert_cmpuint(c.block[2], ==, 0);
    }
    /* One stray: 3 for each of 2 dram blocks, 2 for it, 2 extents, 1. */
    g_assert_cmpint(hm_frames_plan_cycle(fr, 6, 3, 11, &c), ==, HM_MOVE_DONE);
    g_assert_cmpuint(c.n, ==, 2);

    /* Not more than there are now, whatever the limit says. */
    g_assert_cmpint(exchange(fr, 6, 3, 1, &n), ==, HM_MOVE_DONE);
    g_assert_cmpuint(n, ==, 3);
    assert_frames(fr, after);
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 5);
    hm_frames_free(fr);
}

static void test_refusals(void)
{
    HmFrames *fr = hm_frames_new(tiny, 2);
    HmCycle c;
    unsigned n = 0;

    g_assert_cmpint(hm_frames_plan_cycle(fr, 3, 3, 0, &c), ==, HM_MOVE_STALE);
    g_assert_cmpint(hm_frames_plan_cycle(fr, 8, 3, 0, &c), ==, HM_MOVE_STALE);
    g_assert_cmpint(hm_frames_plan_cycle(fr, 3, 8, 0, &c), ==, HM_MOVE_STALE);
    g_assert_cmpint(hm_frames_plan_cycle(fr, HM_BLOCK_NONE, 0, 0, &c), ==,
                    HM_MOVE_STALE);
    /* Victim at home in dram: the cycle of two is all there is. */
    g_assert_cmpint(hm_frames_plan_cycle(fr, 3, 0, 4, &c), ==,
                    HM_MOVE_MAP_LIMIT);
    g_assert_cmpint(hm_frames_plan_cycle(fr, 3, 0, 5, &c), ==, HM_MOVE_DONE);
    /* Both in nvm. */
    g_assert_cmpint(hm_frames_plan_cycle(fr, 3, 5, 4, &c), ==,
                    HM_MOVE_MAP_LIMIT);
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 2);

    /* The third would be the first: 0 sits where 3 belongs. */
    g_assert_cmpint(exchange(fr, 3, 0, 0, &n), ==, HM_MOVE_DONE);
    g_assert_cmpint(hm_frames_plan_cycle(fr, 0, 3, 1, &c), ==, HM_MOVE_DONE);
    g_assert_cmpuint(c.n, ==, 2);
    hm_frames_free(fr);
}

/*
 * 2 sits at 0 and 0 at 3, 3 at 2: sending 2 home by an exchange with 3, who
 * is there, is a cycle of two.  It adds nothing, so the limit cannot matter.
 */
static void test_third_is_first(void)
{
    static const uint32_t after[] = { 3, 1, 2, 0, 4, 5, 6, 7 };
    HmFrames *fr = hm_frames_new(tiny, 2);
    HmCycle make = { .n = 3, .block = { 2, 0, 3 } };
    unsigned n = 0;

    hm_frames_apply(fr, &make);
    g_assert_cmpuint(hm_frames_frame_of(fr, 2), ==, 0);
    g_assert_cmpuint(hm_frames_frame_of(fr, 0), ==, 3);
    g_assert_cmpuint(hm_frames_frame_of(fr, 3), ==, 2);
    assert_valid(fr);
    g_assert_cmpint(exchange(fr, 3, 2, 1, &n), ==, HM_MOVE_DONE);
    g_assert_cmpuint(n, ==, 2);
    assert_frames(fr, after);
    hm_frames_free(fr);
}

/*
 *  block    0 1 | 2 3 4 5 6 7    mappings
 *  is       5 1 | 4 0 2 3 6 7    6: 5, 1, 4, 0, 2-3, 6-7
 *  5 <-> 3  5 1 | 4 3 2 0 6 7    7: 3 is home, yet 4 and 5 part
 */
static void test_homing_of_two_refused(void)
{
    static const uint32_t is[] = { 5, 1, 4, 0, 2, 3, 6, 7 };
    static const HmCycle make[] = {
        { .n = 3, .block = { 0, 5, 3 } }, { .n = 2, .block = { 2, 4 } },
    };
    HmFrames *fr = hm_frames_new(tiny, 2);
    HmCycle c;

    hm_frames_apply(fr, &make[0]);
    hm_frames_apply(fr, &make[1]);
    assert_frames(fr, is);
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 6);
    g_assert_cmpint(hm_frames_plan_cycle(fr, 5, 3, 6, &c), ==,
                    HM_MOVE_MAP_LIMIT);
    g_assert_cmpint(hm_frames_plan_cycle(fr, 5, 3, 7, &c), ==, HM_MOVE_DONE);
    g_assert_cmpuint(c.n, ==, 2);
    hm_frames_free(fr);
}

/* There and back again: all cuts stay where mappings do not merge. */
static void test_not_mergeable(void)
{
    HmFrames *fr = hm_frames_new(tiny_pfn, 2);
    HmFrames *merges = hm_frames_new(tiny, 2);
    unsigned n = 0;

    exchange(fr, 4, 0, 0, &n);
    exchange(fr, 4, 0, 0, &n);
    g_assert_cmpuint(hm_frames_frame_of(fr, 4), ==, 4);
    /* 0 | 1 | 2-3 | 4 | 5-7 */
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 5);
    exchange(merges, 4, 0, 0, &n);
    exchange(merges, 4, 0, 0, &n);
    g_assert_cmpuint(hm_frames_mappings(merges), ==, 2);

    /* Cut already: costs nothing more. */
    g_assert_cmpint(exchange(fr, 4, 0, 5, &n), ==, HM_MOVE_DONE);
    g_assert_cmpint(exchange(fr, 5, 4, 5, &n), ==, HM_MOVE_MAP_LIMIT);
    assert_valid(fr);
    g_assert_cmpuint(hm_frames_bytes(fr), >, hm_frames_bytes(merges));
    hm_frames_free(fr);
    hm_frames_free(merges);
}

static void test_verify_finds(void)
{
    HmFrames *fr = hm_frames_new(tiny, 2);
    HmCycle wrong = { .n = 3, .block = { 2, 0, 2 } };
    const char *why = NULL;

    hm_frames_apply(fr, &wrong);
    g_assert_false(hm_frames_verify(fr, &why));
    g_assert_nonnull(why);
    g_assert_false(hm_frames_verify(fr, NULL));
    hm_frames_free(fr);
}

/* -- Against a simple model -- */

#define BLOCKS 96

static const HmExtent mixed[] = {
    { 0, 12, D, true }, { 12, 40, N, true }, { 52, 8, D, false },
    { 60, 20, N, false }, { 80, 16, N, true },
};

typedef struct Model {
    uint32_t frame_of[BLOCKS];
    bool split[BLOCKS];
} Model;

static unsigned model_extent(uint32_t frame)
{
    unsigned e = 0;

    while (frame >= mixed[e].first + mixed[e].blocks) {
        e++;
    }
    return e;
}

static uint32_t model_strays(const Model *m)
{
    uint32_t n = 0;

    for (uint32_t b = 0; b < BLOCKS; b++) {
        n += m->frame_of[b] != b && mixed[model_extent(b)].tier == N &&
             mixed[model_extent(m->frame_of[b])].tier == N;
    }
    return n;
}

static uint64_t model_mappings(const Model *m)
{
    uint64_t n = 1;

    for (uint32_t b = 0; b + 1 < BLOCKS; b++) {
        uint32_t f = m->frame_of[b], g = m->frame_of[b + 1];
        unsigned e = model_extent(f);

        n += g != f + 1 || e != model_extent(g) ||
             (!mixed[e].mergeable && m->split[b]);
    }
    return n;
}

static void model_apply(Model *m, const HmCycle *c)
{
    uint32_t frame[HM_CYCLE_MAX];

    for (unsigned i = 0; i < c->n; i++) {
        frame[i] = m->frame_of[c->block[(i + 1) % c->n]];
    }
    for (unsigned i = 0; i < c->n; i++) {
        m->frame_of[c->block[i]] = frame[i];
        m->split[c->block[i]] = true;
        if (c->block[i]) {
            m->split[c->block[i] - 1] = true;
        }
    }
}

static void check_cycle(const HmFrames *fr, const HmCycle *c, uint32_t a,
                        uint32_t b)
{
    uint32_t up, down;

    g_assert_cmpuint(c->n, >=, 2);
    g_assert_cmpuint(c->n, <=, 3);
    g_assert_true((c->block[0] == a && c->block[1] == b) ||
                  (c->block[0] == b && c->block[1] == a));
    if (c->n == 2) {
        return;
    }
    up = c->block[0];
    down = c->block[1];
    g_assert_cmpint(hm_frames_tier_of(fr, up), ==, N);
    g_assert_cmpint(hm_frames_tier_of(fr, down), ==, D);
    g_assert_cmpuint(c->block[2], ==, hm_frames_block_in(fr, down));
    g_assert_cmpuint(c->block[2], !=, up);
    g_assert_cmpuint(c->block[2], !=, down);
}

static void random_walk(uint64_t limit, unsigned steps, unsigned *kinds)
{
    HmFrames *fr = hm_frames_new(mixed, G_N_ELEMENTS(mixed));
    Model m = { 0 };

    for (uint32_t b = 0; b < BLOCKS; b++) {
        m.frame_of[b] = b;
    }
    for (unsigned i = 0; i < steps; i++) {
        uint32_t a = g_test_rand_int_range(0, BLOCKS);
        uint32_t b = g_test_rand_int_range(0, BLOCKS);
        uint64_t before = hm_frames_mappings(fr);
        HmCycle c;
        HmMoveResult r = hm_frames_plan_cycle(fr, a, b, limit, &c);

        kinds[r]++;
        g_assert_cmpint(r == HM_MOVE_STALE, ==, a == b);
        if (r != HM_MOVE_DONE) {
            continue;
        }
        kinds[HM_MOVE__MAX] += c.n == 3;
        check_cycle(fr, &c, a, b);
        hm_frames_apply(fr, &c);
        model_apply(&m, &c);
        g_assert_cmpuint(hm_frames_mappings(fr), ==, model_mappings(&m));
        g_assert_cmpuint(hm_frames_strays(fr), ==, model_strays(&m));
        if (limit) {
            g_assert_cmpuint(hm_frames_mappings(fr), <=, MAX(limit, before));
        }
        assert_frames(fr, m.frame_of);
    }
    hm_frames_free(fr);
}

static void test_random(void)
{
    static const uint64_t limit[] = { 0, 5, 12, 20, 40, 60, 80, 96 };

    for (size_t i = 0; i < G_N_ELEMENTS(limit); i++) {
        unsigned kinds[HM_MOVE__MAX + 1] = { 0 };

        random_walk(limit[i], 4000, kinds);
        if (!limit[i]) {
            g_assert_cmpuint(kinds[HM_MOVE_MAP_LIMIT], ==, 0);
            g_assert_cmpuint(kinds[HM_MOVE__MAX], ==, 0);
        }
        if (limit[i] >= 20 && limit[i] <= 60) {
            g_assert_cmpuint(kinds[HM_MOVE_MAP_LIMIT], >, 0);
            g_assert_cmpuint(kinds[HM_MOVE__MAX], >, 0);
        }
    }
}

/* -- The bound -- */

#define DRAM 64
#define NVM 1000

/* The homing cycle, whatever the limit: see frames.h. */
static HmCycle homing(const HmFrames *fr, uint32_t up, uint32_t down)
{
    HmCycle c = { .n = 2, .block = { up, down } };
    uint32_t guest = hm_frames_block_in(fr, down);

    if (hm_frames_tier_of_frame(fr, down) == N && guest != up) {
        c.n = 3;
        c.block[2] = guest;
    }
    return c;
}

static void test_worst_bound(void)
{
    static const HmExtent ext[] = {
        { 0, DRAM / 2, D, true }, { DRAM / 2, NVM / 2, N, true },
        { (DRAM + NVM) / 2, DRAM / 2, D, true },
        { DRAM + NVM / 2, NVM / 2, N, true },
    };
    HmFrames *fr = hm_frames_new(ext, 4);
    uint64_t worst = hm_frames_worst_mappings(DRAM), most = 0;

    g_assert_cmpuint(worst, ==, 3 * DRAM + 65);
    for (int i = 0; i < 50000; i++) {
        uint32_t nf = hm_frames_tier_frame(fr, N,
                                           g_test_rand_int_range(0, NVM));
        uint32_t df = hm_frames_tier_frame(fr, D,
                                           g_test_rand_int_range(0, DRAM));
        HmCycle c = homing(fr, hm_frames_block_in(fr, nf),
                           hm_frames_block_in(fr, df));

        hm_frames_apply(fr, &c);
        most = MAX(most, hm_frames_mappings(fr));
        g_assert_cmpuint(hm_frames_mappings(fr), <=, worst);
    }
    assert_valid(fr);
    /* Random is near to the worst, and the bound is not idle. */
    g_assert_cmpuint(most, >, 5 * DRAM / 2);
    hm_frames_free(fr);
}

/* Each dram block apart in nvm, each hole with both of its edges. */
static void test_worst_is_reached(void)
{
    static const HmExtent ext[] = {
        { 0, DRAM, D, true }, { DRAM, NVM, N, true },
    };
    HmFrames *fr = hm_frames_new(ext, 2);
    uint64_t n;

    for (uint32_t i = 0; i < DRAM; i++) {
        HmCycle c = { .n = 2, .block = { DRAM + 4 * i + 2, i } };

        hm_frames_apply(fr, &c);
    }
    n = hm_frames_mappings(fr);
    g_assert_cmpuint(n, ==, 3 * DRAM + 1);
    g_assert_cmpuint(n, <=, hm_frames_worst_mappings(DRAM));
    hm_frames_free(fr);
}

/* With the bound as limit or more, a wandering hot set is always followed. */
static void test_limit_does_not_jam(void)
{
    static const HmExtent ext[] = {
        { 0, DRAM, D, true }, { DRAM, NVM, N, true },
    };
    uint64_t worst = hm_frames_worst_mappings(DRAM);

    for (uint64_t limit = worst; limit < 2 * worst; limit += DRAM / 2) {
        HmFrames *fr = hm_frames_new(ext, 2);
        unsigned cheap = 0;

        for (int i = 0; i < 5000; i++) {
            uint32_t nf = DRAM + g_test_rand_int_range(0, NVM);
            uint32_t df = g_test_rand_int_range(0, DRAM);
            unsigned n = 0;

            g_assert_cmpint(exchange(fr, hm_frames_block_in(fr, nf),
                                     hm_frames_block_in(fr, df), limit, &n),
                            ==, HM_MOVE_DONE);
            g_assert_cmpuint(hm_frames_mappings(fr), <=, limit);
            cheap += n == 2;
        }
        assert_valid(fr);
        g_assert_cmpuint(cheap, >, 0);
        g_test_message("limit %" PRIu64 ": %u of 5000 cycles of two, %"
                       PRIu64 " mappings, %u strays", limit, cheap,
                       hm_frames_mappings(fr), hm_frames_strays(fr));
        hm_frames_free(fr);
    }
}

/* 1 TiB of 4 KiB pages: the identity costs nothing. */
static void test_large(void)
{
    uint32_t blocks = 1u << 28;
    HmExtent ext[] = {
        { 0, blocks / 8, D, true },
        { blocks / 8, blocks / 8 * 7, N, true },
    };
    HmFrames *fr = hm_frames_new(ext, 2);
    unsigned n = 0;

    g_assert_cmpuint(hm_frames_bytes(fr), <=, 8ull * blocks + 4096);
    g_assert_cmpint(exchange(fr, blocks - 1, 0, 0, &n), ==, HM_MOVE_DONE);
    g_assert_cmpuint(hm_frames_frame_of(fr, blocks - 1), ==, 0);
    g_assert_cmpuint(hm_frames_block_in(fr, 0), ==, blocks - 1);
    g_assert_cmpuint(hm_frames_mappings(fr), ==, 4);
    hm_frames_free(fr);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/frames/identity", test_identity);
    g_test_add_func("/hybridmem/frames/cycles-of-two", test_cycles_of_two);
    g_test_add_func("/hybridmem/frames/cycle-of-three", test_cycle_of_three);
    g_test_add_func("/hybridmem/frames/third-is-first", test_third_is_first);
    g_test_add_func("/hybridmem/frames/homing-of-two-refused",
                    test_homing_of_two_refused);
    g_test_add_func("/hybridmem/frames/refusals", test_refusals);
    g_test_add_func("/hybridmem/frames/not-mergeable", test_not_mergeable);
    g_test_add_func("/hybridmem/frames/verify-finds", test_verify_finds);
    g_test_add_func("/hybridmem/frames/random", test_random);
    g_test_add_func("/hybridmem/frames/worst-bound", test_worst_bound);
    g_test_add_func("/hybridmem/frames/worst-reached", test_worst_is_reached);
    g_test_add_func("/hybridmem/frames/limit-does-not-jam",
                    test_limit_does_not_jam);
    g_test_add_func("/hybridmem/frames/large", test_large);
    return g_test_run();
}
