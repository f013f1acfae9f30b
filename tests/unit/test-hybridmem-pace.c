/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/pace.c.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/pace.h"

#define DRAM (10 * HM_PACE_FEW)

static void windows(HmPace *p, unsigned n, uint64_t wanted)
{
    while (n--) {
        hm_pace_window(p, wanted, DRAM);
    }
}

static void test_settles(void)
{
    HmPace p = { };

    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 100);
    windows(&p, HM_PACE_CALM - 1, 0);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 100);
    windows(&p, 1, 0);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 200);
    windows(&p, 2 * HM_PACE_CALM, 0);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 800);
    windows(&p, 100 * HM_PACE_CALM, 0);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 1000);
    g_assert_cmpuint(hm_pace_interval(&p, 3600000, UINT32_MAX), ==,
                     UINT32_MAX);
}

static void test_wakes(void)
{
    HmPace p = { };

    windows(&p, 8 * HM_PACE_CALM, 0);
    windows(&p, 1, DRAM / HM_PACE_FEW + 1);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 100);
    windows(&p, HM_PACE_CALM - 1, 0);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 100);
}

/* A few moves of very many are chance, not work; of few they are not. */
static void test_few(void)
{
    HmPace p = { };

    windows(&p, HM_PACE_CALM, DRAM / HM_PACE_FEW);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 200);
    hm_pace_window(&p, 1, HM_PACE_FEW - 1);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 100);
}

/* Hot pages in nvm, of which the policy has still to learn. */
static void test_changed(void)
{
    unsigned slow = 0;
    HmPace p = { };

    for (int i = 0; i < 100; i++) {
        hm_pace_writes(&p, i < 50 ? 200 + i % 2 * 50 : 500);
        hm_pace_window(&p, 0, DRAM);
        if (i == 49) {
            g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 1000);
        } else if (i >= 50) {
            slow += hm_pace_interval(&p, 100, 1000) > 100;
        }
    }
    g_assert_cmpuint(slow, >, 30);
    g_assert_cmpuint(slow, <=, 50 - HM_PACE_CALM - 3);
}

/* By what was expected of the blocks that were looked at, not by how many. */
static void test_reads(void)
{
    HmPace p = { };

    for (int i = 0; i < 100; i++) {
        hm_pace_reads(&p, i % 10 ? 0 : 3000, i % 10 ? 5 : 2500);
        hm_pace_window(&p, 0, DRAM);
    }
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 1000);
    hm_pace_reads(&p, 16, 0);
    hm_pace_window(&p, 0, DRAM);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 1000);
    hm_pace_reads(&p, 200, 100);
    hm_pace_window(&p, 0, DRAM);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 100);
}

/* More pages than tell which are the hottest. */
static void test_length(void)
{
    HmPace p = { };

    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 250);
    hm_pace_written(&p, 250, 2000, 1000);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 250);
    hm_pace_written(&p, 250, 2001, 1000);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 125);
    hm_pace_written(&p, 250, 8004, 1000);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 15);
    /* Enough to be told apart, not too few. */
    hm_pace_written(&p, 250, 500, 1000);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 15);
    hm_pace_written(&p, 250, 499, 1000);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 31);
    for (unsigned i = 0; i < 10; i++) {
        hm_pace_written(&p, 250, 0, 1000);
    }
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 250);

    hm_pace_written(&p, 250, UINT64_MAX, 1000);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 250 >> HM_PACE_HALVINGS);
    g_assert_cmpuint(hm_pace_length(&p, 100), ==, HM_PACE_SHORTEST_MS);
    g_assert_cmpuint(hm_pace_length(&p, 3), ==, 3);
    /* Without dram nothing is to be told. */
    hm_pace_written(&p, 250, 0, 0);
    g_assert_cmpuint(hm_pace_length(&p, 250), ==, 250 >> HM_PACE_HALVINGS);
}

/* A window of another length is no change of the guest's. */
static void test_length_is_no_change(void)
{
    static const uint32_t window[] = { 250, 25, 4 };

    for (size_t i = 0; i < G_N_ELEMENTS(window); i++) {
        HmPace p = { };

        for (unsigned w = 0; w < 100; w++) {
            uint64_t pages = 8000 * hm_pace_length(&p, window[i]) / window[i];

            hm_pace_writes(&p, pages);
            hm_pace_window(&p, 0, DRAM);
            hm_pace_written(&p, window[i], pages, w < 50 ? 1000 : 100000);
        }
        g_assert_cmpuint(p.halved, ==, 0);
        g_assert_cmpfloat_with_epsilon(p.usual, 8000, 1);
        g_assert_cmpuint(hm_pace_interval(&p, 100, 1000), ==, 1000);
        g_assert_cmpuint(p.doubled, >=, 100 / HM_PACE_CALM - 6);
    }
}

static void test_limit_below(void)
{
    HmPace p = { };

    windows(&p, 8 * HM_PACE_CALM, 0);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 0), ==, 100);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 99), ==, 100);
    g_assert_cmpuint(hm_pace_interval(&p, 100, 150), ==, 150);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/pace/settles", test_settles);
    g_test_add_func("/hybridmem/pace/wakes", test_wakes);
    g_test_add_func("/hybridmem/pace/few", test_few);
    g_test_add_func("/hybridmem/pace/changed", test_changed);
    g_test_add_func("/hybridmem/pace/reads", test_reads);
    g_test_add_func("/hybridmem/pace/length", test_length);
    g_test_add_func("/hybridmem/pace/length-is-no-change",
                    test_length_is_no_change);
    g_test_add_func("/hybridmem/pace/limit-below", test_limit_below);
    return g_test_run();
}
