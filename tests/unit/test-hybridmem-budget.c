/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/budget.c.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/budget.h"

#define BLOCK 4096

static void test_no_limit(void)
{
    const HmBudgetLimits none = { .burst = 0.1 };
    const HmBudgetLimits some = { 100 * 2 * BLOCK, 1000, 24 * BLOCK, 1 };
    HmBudget b = { };

    g_assert_true(hm_budget_affordable(&b, &none));
    g_assert_false(hm_budget_worn(&b, &none));
    g_assert_cmpuint(hm_budget_moves(&b, &none, BLOCK, true, 5000), ==, 5000);
    hm_budget_spend(&b, &none, 1ULL << 40, 1ULL << 40);
    hm_budget_wear(&b, &none, 1ULL << 40);
    hm_budget_refill(&b, &none, 3600);
    /* No debt is left of that. */
    hm_budget_refill(&b, &some, 1);
    g_assert_true(hm_budget_affordable(&b, &some));
    g_assert_false(hm_budget_worn(&b, &some));
}

static void test_bandwidth(void)
{
    const HmBudgetLimits l = { .bandwidth = 100 * 2 * BLOCK, .burst = 0.5 };
    HmBudget b = { };

    g_assert_false(hm_budget_affordable(&b, &l));
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, 5000), ==, 1);
    hm_budget_refill(&b, &l, 0.2);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, 5000), ==, 20);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, 7), ==, 7);
    hm_budget_refill(&b, &l, 3600);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, 5000), ==, 50);
    /* Into debt for one batch; then it has to be paid. */
    hm_budget_spend(&b, &l, 150 * 2 * BLOCK, 0);
    hm_budget_refill(&b, &l, 0.9);
    g_assert_false(hm_budget_affordable(&b, &l));
    hm_budget_refill(&b, &l, 0.2);
    g_assert_true(hm_budget_affordable(&b, &l));
}

static void test_stall(void)
{
    const HmBudgetLimits l = { .stall = 20000000, .burst = 0.1 };
    HmBudget b = { };

    g_assert_false(hm_budget_affordable(&b, &l));
    hm_budget_refill(&b, &l, 10);
    g_assert_true(hm_budget_affordable(&b, &l));
    hm_budget_spend(&b, &l, 1ULL << 40, 1999999);
    g_assert_true(hm_budget_affordable(&b, &l));
    hm_budget_spend(&b, &l, 0, 1);
    g_assert_false(hm_budget_affordable(&b, &l));
}

/* An hour's worth at once; what is not a policy's is written all the same. */
static void test_wear(void)
{
    const HmBudgetLimits l = { .nvm_writes = 24 * 100 * 2 * BLOCK };
    HmBudget b = { };

    g_assert_true(hm_budget_worn(&b, &l));
    g_assert_true(hm_budget_affordable(&b, &l));
    hm_budget_refill(&b, &l, 24 * 3600);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, 5000), ==, 100);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, false, 5000), ==, 5000);
    hm_budget_wear(&b, &l, 200 * 2 * BLOCK);
    g_assert_true(hm_budget_worn(&b, &l));
    hm_budget_refill(&b, &l, 3599);
    g_assert_true(hm_budget_worn(&b, &l));
    hm_budget_refill(&b, &l, 3);
    g_assert_false(hm_budget_worn(&b, &l));
}

/* Limits may be as large as their type. */
static void test_huge(void)
{
    const HmBudgetLimits l = { UINT64_MAX, UINT64_MAX, UINT64_MAX, 1 };
    HmBudget b = { };

    hm_budget_refill(&b, &l, 1e9);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, SIZE_MAX), >,
                     1ULL << 45);
    g_assert_cmpuint(hm_budget_moves(&b, &l, BLOCK, true, 10), ==, 10);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/budget/no-limit", test_no_limit);
    g_test_add_func("/hybridmem/budget/bandwidth", test_bandwidth);
    g_test_add_func("/hybridmem/budget/stall", test_stall);
    g_test_add_func("/hybridmem/budget/wear", test_wear);
    g_test_add_func("/hybridmem/budget/huge", test_huge);
    return g_test_run();
}
