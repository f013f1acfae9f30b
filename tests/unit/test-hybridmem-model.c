/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/model.c: by hand, and against the results of
 * tools/hybridmem_models.py on the same traffic.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/model.h"

typedef struct Vector {
    const char *model;
    HmTraffic traffic;
    HmAccount account;
    HmRange years;
} Vector;

#include "hw/hybridmem/hybridmem-model-vectors.h"

/* Both sides compute in double, perhaps in another order. */
#define TOLERANCE (1 / 1e12)

static const HmModel *model(const char *name)
{
    const HmModel *m = hm_model_find(name);

    return m ? m : hm_model_dram();
}

static void assert_near(double a, double b)
{
    g_assert_cmpfloat(fabs(a - b), <=, TOLERANCE * MAX(fabs(a), fabs(b)));
}

static void assert_same(const HmRange *a, const HmRange *b)
{
    g_assert_cmpint(a->known, ==, b->known);
    assert_near(a->low, b->low);
    assert_near(a->typical, b->typical);
    assert_near(a->high, b->high);
}

static void assert_is(HmRange r, double low, double typical, double high)
{
    assert_same(&r, &(HmRange) { true, low, typical, high });
}

static void assert_unknown(HmRange r)
{
    assert_same(&r, &(HmRange) { });
}

static void test_names(void)
{
    g_autofree char *names = hm_model_names();
    g_auto(GStrv) each = g_strsplit(names, ", ", -1);
    static const char *const expected[] = { "cxl", "optane", "stt-mram" };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(expected); i++) {
        g_assert_true(g_strv_contains((const char *const *)each,
                                      expected[i]));
    }
    for (i = 0; each[i]; i++) {
        g_assert_cmpstr(hm_model_find(each[i])->name, ==, each[i]);
    }
    g_assert_null(hm_model_find("Optane"));
    g_assert_null(hm_model_find("none"));
    g_assert_null(hm_model_find(""));
    g_assert_null(hm_model_find("dram"));
    g_assert_cmpstr(hm_model_dram()->name, ==, "dram");
}

static const HmModel round_numbers = {
    .name = "round",
    .read_latency_ns = { true, 100, 200, 400 },
    .write_latency_ns = { true, 10, 20, 40 },
    .read_bandwidth_gb_s = { true, 1, 2, 4 },
    .write_bandwidth_gb_s = { true, 0.5, 1, 2 },
    .read_energy_nj_b = { true, 1, 2, 3 },
    .write_energy_nj_b = { true, 10, 20, 30 },
    .idle_power_w_gb = { true, 0.5, 1, 2 },
    .endurance_writes = { true, 1e3, 1e4, 1e6 },
    .write_granularity_b = { true, 256, 256, 256 },
};

/* 10^9 lines in, half of that out, of 16 GB, in 100 s. */
static const HmTraffic round_traffic = { 1e9, 0.5e9, 16e9, 100 };

static void test_by_hand(void)
{
    HmAccount a;

    hm_model_account(&round_numbers, &round_traffic, &a);
    assert_is(a.latency_s, 105, 210, 420);
    assert_is(a.transfer_s, 16 + 16, 32 + 32, 64 + 64);
    assert_is(a.energy_j, 64 + 320 + 800, 128 + 640 + 1600,
              192 + 960 + 3200);
    /* Two of each byte; four times as much if each line is alone. */
    assert_is(a.wear, 2 / 1e6, 2 / 1e4, 8 / 1e3);
    assert_is(hm_model_wear(&round_numbers, 32e9, 16e9, true), 2 / 1e6, 2 / 1e4,
              2 / 1e3);
    assert_is(hm_model_write_energy(&round_numbers, 1e9), 10, 20, 30);
    assert_is(hm_model_years(&(HmRange) { true, 0.25, 0.5, 1 },
                             365.25 * 24 * 3600), 1, 2, 4);
}

/* One value after the other taken away: only what needs it goes. */
static void test_unknown(void)
{
    HmModel m = round_numbers;
    HmAccount a;

    m.write_latency_ns = (HmRange) { };
    hm_model_account(&m, &round_traffic, &a);
    assert_is(a.latency_s, 100, 200, 400);
    m.read_latency_ns = (HmRange) { };
    hm_model_account(&m, &round_traffic, &a);
    assert_unknown(a.latency_s);
    g_assert_true(a.transfer_s.known);
    m.write_bandwidth_gb_s = (HmRange) { };
    hm_model_account(&m, &round_traffic, &a);
    assert_unknown(a.transfer_s);
    g_assert_true(a.energy_j.known);
    m.idle_power_w_gb = (HmRange) { };
    hm_model_account(&m, &round_traffic, &a);
    assert_unknown(a.energy_j);
    g_assert_true(hm_model_write_energy(&m, 1).known);
    m.write_energy_nj_b = (HmRange) { };
    assert_unknown(hm_model_write_energy(&m, 1));
    g_assert_true(a.wear.known);
    m.write_granularity_b = (HmRange) { };
    hm_model_account(&m, &round_traffic, &a);
    assert_is(a.wear, 2 / 1e6, 2 / 1e4, 2 / 1e3);
    m.endurance_writes = (HmRange) { };
    hm_model_account(&m, &round_traffic, &a);
    assert_unknown(a.wear);
    assert_unknown(hm_model_years(&a.wear, 1));
}

/* Nothing yet: zero, or not known, but a number in any case. */
static void test_nothing(void)
{
    HmTraffic none = { .capacity = 16e9 };
    HmAccount a;

    hm_model_account(&round_numbers, &none, &a);
    assert_is(a.latency_s, 0, 0, 0);
    assert_is(a.transfer_s, 0, 0, 0);
    assert_is(a.energy_j, 0, 0, 0);
    assert_is(a.wear, 0, 0, 0);
    assert_unknown(hm_model_years(&a.wear, 100));
    assert_unknown(hm_model_years(&(HmRange) { true, 1, 1, 1 }, 0));
    assert_unknown(hm_model_wear(&round_numbers, 1, 0, false));
}

static void test_python(void)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(vectors); i++) {
        const Vector *v = &vectors[i];
        HmRange years;
        HmAccount a;

        g_assert_cmpstr(model(v->model)->name, ==, v->model);
        hm_model_account(model(v->model), &v->traffic, &a);
        assert_same(&a.latency_s, &v->account.latency_s);
        assert_same(&a.transfer_s, &v->account.transfer_s);
        assert_same(&a.energy_j, &v->account.energy_j);
        assert_same(&a.wear, &v->account.wear);
        years = hm_model_years(&a.wear, v->traffic.seconds);
        assert_same(&years, &v->years);
    }
    g_assert_cmpuint(ARRAY_SIZE(vectors), >=, 4 * 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/model/names", test_names);
    g_test_add_func("/hybridmem/model/by-hand", test_by_hand);
    g_test_add_func("/hybridmem/model/unknown", test_unknown);
    g_test_add_func("/hybridmem/model/nothing", test_nothing);
    g_test_add_func("/hybridmem/model/python", test_python);
    return g_test_run();
}
