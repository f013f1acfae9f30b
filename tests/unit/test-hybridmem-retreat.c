/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/retreat.c: blocks whose worth is given.
 */
#include "qemu/osdep.h"
#include "../../hw/hybridmem/retreat.h"

#define BLOCKS 64u
#define MANY 20000u

typedef struct Dram {
    HmFrames *frames;
    HmLeave *leave;
    HmRetreat *r;
    uint32_t blocks, dram;
    float *part, *error;        /* of each block */
    HmMove *plan;
} Dram;

static HmExpected worth(void *opaque, uint32_t block)
{
    Dram *d = opaque;

    g_assert_cmpuint(block, <, d->blocks);
    return (HmExpected) {
        d->part[block], d->error[block], d->error[block],
    };
}

static void dram_init(Dram *d, uint32_t dram, uint32_t blocks)
{
    HmExtent ext[] = {
        { 0, dram, HM_TIER_DRAM, true },
        { dram, blocks - dram, HM_TIER_NVM, true },
    };

    d->blocks = blocks;
    d->dram = dram;
    d->frames = dram == blocks ? hm_frames_new(ext, 1) :
                dram ? hm_frames_new(ext, 2) : hm_frames_new(ext + 1, 1);
    d->leave = hm_leave_new(d->frames);
    d->r = hm_retreat_new(d->frames, d->leave);
    d->part = g_new0(float, blocks);
    d->error = g_new0(float, blocks);
    d->plan = g_new0(HmMove, blocks);
}

static void dram_end(Dram *d)
{
    hm_retreat_free(d->r);
    hm_leave_free(d->leave);
    hm_frames_free(d->frames);
    g_free(d->part);
    g_free(d->error);
    g_free(d->plan);
}

/* Checks the plan, and that dram loses no more than it may. */
static size_t plan(Dram *d, double part, size_t max)
{
    g_autofree uint8_t *named = g_new0(uint8_t, d->blocks);
    double all = hm_retreat_worth(d->r, worth, d), loss = 0;
    size_t n = hm_retreat_plan(d->r, part, 0, worth, d, d->plan, max);

    g_assert_cmpuint(n, <=, max);
    for (size_t i = 0; i < n; i++) {
        HmMove m = d->plan[i];

        g_assert_cmpint(hm_frames_tier_of(d->frames, m.promote), ==,
                        HM_TIER_NVM);
        g_assert_cmpint(hm_frames_tier_of(d->frames, m.demote), ==,
                        HM_TIER_DRAM);
        g_assert_false(named[m.promote]++ || named[m.demote]++);
        g_assert_cmpfloat(d->part[m.demote], >, d->part[m.promote]);
        loss += d->part[m.demote] - d->part[m.promote];
    }
    if (d->dram <= 4096) {
        g_assert_cmpfloat(loss, <=, part * all + 0.000001);
    }
    return n;
}

/* The hottest that fit: of 1, 2, 3 .. 8, in all 36. */
static void test_hottest(void)
{
    static const struct {
        double part;
        size_t max;
        uint32_t n, demote[8];
    } row[] = {
        { 0, 9, 0 },
        { 0.02, 9, 0 },
        { 1 / 36.0 + 0.000001, 9, 1, { 0 } },
        { 0.25, 9, 2, { 7, 0 } },           /* 9: 8, and 1 */
        { 0.5, 9, 3, { 7, 6, 2 } },         /* 18: 8, 7, and 3 */
        { 0.5, 2, 2, { 7, 6 } },
        { 0.5, 0, 0 },
        { 1 + 0.000001, 9, 8, { 7, 6, 5, 4, 3, 2, 1, 0 } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        Dram d;

        dram_init(&d, 8, BLOCKS);
        for (uint32_t b = 0; b < 8; b++) {
            d.part[b] = b + 1;
        }
        g_assert_cmpfloat(hm_retreat_worth(d.r, worth, &d), ==, 36);
        g_assert_cmpuint(plan(&d, row[i].part, row[i].max), ==, row[i].n);
        for (uint32_t k = 0; k < row[i].n; k++) {
            g_assert_cmpuint(d.plan[k].demote, ==, row[i].demote[k]);
        }
        dram_end(&d);
    }
}

/* Who comes is colder, and that is no chance. */
static void test_cold(void)
{
    Dram d;

    dram_init(&d, 4, BLOCKS);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        d.part[b] = 0.5;
    }
    g_assert_cmpuint(plan(&d, 1, BLOCKS), ==, 0);
    d.part[2] = 0.8;
    g_assert_cmpuint(plan(&d, 1, BLOCKS), ==, 1);
    g_assert_cmpuint(d.plan[0].demote, ==, 2);
    d.error[2] = 0.2;
    g_assert_cmpuint(plan(&d, 1, BLOCKS), ==, 0);
    d.part[40] = 0.1;
    g_assert_cmpuint(plan(&d, 1, BLOCKS), ==, 1);
    g_assert_cmpuint(d.plan[0].promote, ==, 40);
    dram_end(&d);
}

/* Blocks that have just come, and those that could not be moved, stay. */
static void test_left_alone(void)
{
    Dram d;

    dram_init(&d, 2, 4);
    d.part[0] = d.part[1] = 1;
    hm_leave_window(d.leave);
    hm_leave_failed(d.leave, 0);
    hm_leave_failed(d.leave, 2);
    g_assert_cmpuint(plan(&d, 1, 4), ==, 1);
    g_assert_cmpuint(d.plan[0].demote, ==, 1);
    g_assert_cmpuint(d.plan[0].promote, ==, 3);
    hm_leave_promoted(d.leave, 1);
    g_assert_cmpuint(plan(&d, 1, 4), ==, 0);
    dram_end(&d);
}

static void test_one_tier(void)
{
    for (uint32_t dram = 0; dram <= BLOCKS; dram += BLOCKS) {
        Dram d;

        dram_init(&d, dram, BLOCKS);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            d.part[b] = b;
        }
        g_assert_cmpuint(plan(&d, 1, BLOCKS), ==, 0);
        dram_end(&d);
    }
}

/* Of many blocks a sample tells; each plan has another. */
static void test_sample(void)
{
    g_autofree uint8_t *left = g_new0(uint8_t, MANY);
    uint32_t n = 0;
    Dram d;

    dram_init(&d, MANY, 2 * MANY);
    for (uint32_t b = 0; b < MANY; b++) {
        d.part[b] = b % 10 ? 0.001 : 0.5;
    }
    for (int i = 0; i < 5; i++) {
        double all = hm_retreat_worth(d.r, worth, &d);
        size_t moves = plan(&d, 1, MANY);

        g_assert_cmpfloat(all, >, 0.9 * MANY * 0.0509);
        g_assert_cmpfloat(all, <, 1.1 * MANY * 0.0509);
        g_assert_cmpuint(moves, <=, 4096);
        for (size_t k = 0; k < moves; k++) {
            n += !left[d.plan[k].demote]++;
        }
    }
    g_assert_cmpuint(n, >, MANY / 2);
    dram_end(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/retreat/hottest", test_hottest);
    g_test_add_func("/hybridmem/retreat/cold", test_cold);
    g_test_add_func("/hybridmem/retreat/left-alone", test_left_alone);
    g_test_add_func("/hybridmem/retreat/one-tier", test_one_tier);
    g_test_add_func("/hybridmem/retreat/sample", test_sample);
    return g_test_run();
}
