/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/latencies.c: whose pages are measured, when, and
 * what is made of it.  The probe is made up here.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/latency-probe.h"
#include "../../hw/hybridmem/numa-internal.h"

#define PPB 4
#define DRAM 8u
#define BLOCKS 40u
#define PAGES (BLOCKS * PPB - 2)        /* the last block is short */
#define PICKS 4000

/* --- what it sees of QEMU, and of the probe ------------------------------ */

static double answer[HM_TIER__MAX];
static unsigned probes;
static uint64_t picked[PAGES];          /* times */
static uint64_t claimed[PAGES];         /* to be mapped */
static const char *no_probe;

void *memory_region_get_ram_ptr(MemoryRegion *mr)
{
    return NULL;
}

HmLatencyProbe *hm_latency_probe_new(void *host, uint64_t page_size,
                                     const char **why)
{
    *why = no_probe;
    return no_probe ? NULL : (HmLatencyProbe *)&probes;
}

void hm_latency_probe_free(HmLatencyProbe *p)
{
}

double hm_latency_probe(HmLatencyProbe *p,
                        bool (*pick)(void *opaque, HmProbePage *page),
                        void *opaque)
{
    for (unsigned i = 0; i < PICKS; i++) {
        HmProbePage page = { };

        if (pick(opaque, &page)) {
            g_assert_cmpuint(page.page, <, PAGES);
            picked[page.page]++;
            claimed[page.page] += page.mapped;
        }
    }
    /* Dram comes first. */
    return answer[probes++ % HM_TIER__MAX];
}

/* --- an engine ----------------------------------------------------------- */

static const HmPolicyOps balancing = { .name = "balancing", .balances = true };
static const HmPolicyOps other = { .name = "other" };

typedef struct Engine {
    Hybridmem hm;
    HostMemoryBackend backend;
    HmPolicy policy;
    HmNumaPlace numa;
    HybridmemParameters params;
} Engine;

static void engine_init(Engine *e, uint32_t dram, bool mergeable, bool numa)
{
    HmExtent ext[] = {
        { 0, dram, HM_TIER_DRAM, true },
        { dram, BLOCKS - dram, HM_TIER_NVM, mergeable },
    };

    memset(e, 0, sizeof(*e));
    memset(picked, 0, sizeof(picked));
    memset(claimed, 0, sizeof(claimed));
    probes = 0;
    e->hm.id = (char *)"hm0";
    e->hm.backend = &e->backend;
    e->hm.page_size = 4096;
    e->hm.pages = PAGES;
    e->hm.pages_per_block = PPB;
    e->hm.frames = dram ? hm_frames_new(ext, 2) : hm_frames_new(ext + 1, 1);
    e->hm.policy = &e->policy;
    e->policy.ops = &balancing;
    e->params.balance = true;
    qemu_mutex_init(&e->hm.lock);
    if (numa) {
        e->numa.where = hm_residency_new(PAGES, PPB);
        e->hm.numa = &e->numa;
    }
    e->hm.latencies = hm_latencies_new(&e->hm);
}

static void engine_end(Engine *e)
{
    hm_latencies_free(e->hm.latencies);
    hm_residency_free(e->numa.where);
    hm_frames_free(e->hm.frames);
    qemu_mutex_destroy(&e->hm.lock);
}

static bool window(Engine *e, double dram, double nvm)
{
    answer[HM_TIER_DRAM] = dram;
    answer[HM_TIER_NVM] = nvm;
    return hm_latencies_window(&e->hm, &e->params);
}

static void swap(Engine *e, uint32_t a, uint32_t b)
{
    HmCycle c;

    g_assert_cmpint(hm_frames_plan_cycle(e->hm.frames, a, b, 0, &c), ==,
                    HM_MOVE_DONE);
    hm_frames_apply(e->hm.frames, &c);
}

/* --- whose pages ---------------------------------------------------------- */

/* Each page of a tier about as often. */
static void test_frames(void)
{
    Engine e;

    engine_init(&e, DRAM, true, false);
    swap(&e, 2, 20);
    swap(&e, 7, BLOCKS - 1);
    window(&e, 100, 200);
    for (uint64_t p = 0; p < PAGES; p++) {
        bool in_dram = hm_frames_tier_of(e.hm.frames, p / PPB) == HM_TIER_DRAM;
        uint32_t of = in_dram ? DRAM : BLOCKS - DRAM;

        g_assert_cmpuint(picked[p], >, PICKS / of / PPB / 3);
        g_assert_cmpuint(picked[p], <, PICKS / of / PPB * 3);
        g_assert_cmpuint(claimed[p], ==, 0);
    }
    engine_end(&e);
}

/* The mapping of /dev/mem is complete, whatever pagemap says. */
static void test_dev_mem(void)
{
    Engine e;

    engine_init(&e, DRAM, false, false);
    swap(&e, 2, 20);
    window(&e, 100, 200);
    for (uint64_t p = 0; p < PAGES; p++) {
        bool in_nvm = hm_frames_tier_of(e.hm.frames, p / PPB) == HM_TIER_NVM;

        g_assert_cmpuint(claimed[p], ==, in_nvm ? picked[p] : 0);
    }
    engine_end(&e);
}

/* A page that is not where it should be says nothing of the tier. */
static void test_numa(void)
{
    static const HmPlace place[] = {
        HM_PLACE_ABSENT, HM_PLACE_DRAM, HM_PLACE_NVM, HM_PLACE_ELSEWHERE,
    };
    Engine e;

    engine_init(&e, DRAM, true, true);
    for (uint64_t p = 0; p < PAGES; p++) {
        hm_residency_set(e.numa.where, p, place[p % 4]);
    }
    window(&e, 100, 200);
    for (uint64_t p = 0; p < PAGES; p++) {
        bool in_dram = p / PPB < DRAM;

        g_assert_cmpint(picked[p] > 0, ==,
                        place[p % 4] == (in_dram ? HM_PLACE_DRAM :
                                         HM_PLACE_NVM));
        g_assert_cmpuint(claimed[p], ==, 0);
    }
    engine_end(&e);
}

static void test_one_tier(void)
{
    Engine e;

    engine_init(&e, 0, true, false);
    window(&e, 0, 200);
    for (uint64_t p = 0; p < PAGES; p++) {
        g_assert_cmpuint(picked[p], >, 0);
        g_assert_cmpuint(picked[p], <, 2 * PICKS / BLOCKS / PPB * 3);
    }
    engine_end(&e);
}

/* --- when, and what of it ------------------------------------------------- */

static void assert_limited(const Engine *e, bool limited, bool retreats)
{
    HmBalanceLimit p = hm_latencies_limit(e->hm.latencies);

    g_assert_cmpint(p.limited, ==, limited);
    g_assert_cmpint(p.retreat > 0, ==, retreats);
}

static void test_balance(void)
{
    uint64_t ns[HM_TIER__MAX] = { 1, 1 };
    HybridmemBalance *info;
    Engine e;

    engine_init(&e, DRAM, true, false);
    g_assert_null(hm_latencies_info(&e.hm, ns));
    g_assert_cmpuint(ns[HM_TIER_DRAM] + ns[HM_TIER_NVM], ==, 0);
    assert_limited(&e, false, false);

    g_assert_false(window(&e, 300.4, 150));
    g_assert_true(window(&e, 300.4, 150));
    assert_limited(&e, true, true);
    info = hm_latencies_info(&e.hm, ns);
    g_assert_cmpuint(ns[HM_TIER_DRAM], ==, 300);
    g_assert_cmpuint(ns[HM_TIER_NVM], ==, 150);
    g_assert_cmpint(info->state, ==, HYBRIDMEM_BALANCE_STATE_RETREAT);
    g_assert_cmpuint(info->windows, ==, 2);
    g_assert_cmpuint(info->retreats, ==, 1);
    g_assert_null(info->unmeasured);
    qapi_free_HybridmemBalance(info);

    /* Another policy, or the parameter: all is forgotten. */
    for (int i = 0; i < 2; i++) {
        unsigned before = probes;

        e.policy.ops = i ? &balancing : &other;
        e.params.balance = !i;
        g_assert_true(window(&e, 300, 150));
        g_assert_false(window(&e, 300, 150));
        g_assert_cmpuint(probes, ==, before);
        assert_limited(&e, false, false);
        g_assert_null(hm_latencies_info(&e.hm, ns));
        e.policy.ops = &balancing;
        e.params.balance = true;
        window(&e, 300, 150);
        window(&e, 300, 150);
        assert_limited(&e, true, true);
    }
    engine_end(&e);
}

static void test_unmeasured(void)
{
    uint64_t ns[HM_TIER__MAX];
    HybridmemBalance *info;
    Engine e;

    no_probe = "for a test";
    engine_init(&e, DRAM, true, false);
    no_probe = NULL;
    window(&e, 300, 150);
    window(&e, 300, 150);
    g_assert_cmpuint(probes, ==, 0);
    assert_limited(&e, false, false);
    info = hm_latencies_info(&e.hm, ns);
    g_assert_cmpstr(info->unmeasured, ==, "for a test");
    g_assert_cmpint(info->state, ==, HYBRIDMEM_BALANCE_STATE_UNKNOWN);
    g_assert_cmpuint(info->windows, ==, 0);
    g_assert_cmpuint(ns[HM_TIER_DRAM] + ns[HM_TIER_NVM], ==, 0);
    qapi_free_HybridmemBalance(info);
    engine_end(&e);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/latencies/frames", test_frames);
    g_test_add_func("/hybridmem/latencies/dev-mem", test_dev_mem);
    g_test_add_func("/hybridmem/latencies/numa", test_numa);
    g_test_add_func("/hybridmem/latencies/one-tier", test_one_tier);
    g_test_add_func("/hybridmem/latencies/balance", test_balance);
    g_test_add_func("/hybridmem/latencies/unmeasured", test_unmeasured);
    return g_test_run();
}
