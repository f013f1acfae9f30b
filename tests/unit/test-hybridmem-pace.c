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
    g_test_add_func("/hybridmem/pace/limit-below", test_limit_below);
    return g_test_run();
}
