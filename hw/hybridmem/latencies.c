/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Latencies of the tiers, and what follows from them: once in a window, while
 * the guest runs and nothing moves.
 *
 * In the engine's thread, but for _new(), _free() and _info().
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/latency-probe.h"
#include "numa-internal.h"
#include "trace.h"

struct HmLatencies {
    HmLatencyProbe *probe;      /* NULL: @why */
    const char *why;            /* a static string */
    HmBalance balance;
    uint64_t random;
    /* Guarded by hm->lock. */
    bool on;
    HmBalance shown;
    uint64_t probe_ns;
};

typedef struct Tier {
    Hybridmem *hm;
    HmTier tier;
} Tier;

HmLatencies *hm_latencies_new(Hybridmem *hm)
{
    HmLatencies *l = g_new0(HmLatencies, 1);

    l->probe = hm_latency_probe_new(
        memory_region_get_ram_ptr(&hm->backend->mr), hm->page_size, &l->why);
    l->random = 0x9e3779b97f4a7c15ull;
    hm_balance_init(&l->balance);
    return l;
}

void hm_latencies_free(HmLatencies *l)
{
    hm_latency_probe_free(l->probe);
    g_free(l);
}

HmBalanceLimit hm_latencies_limit(const HmLatencies *l)
{
    return hm_balance_limit(&l->balance);
}

static uint64_t random_below(HmLatencies *l, uint64_t limit)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random % limit;
}

/* By the kernel's word, where it is the kernel that places pages. */
static bool lies_in(const Hybridmem *hm, uint64_t page, HmTier tier)
{
    static const HmPlace place[] = {
        [HM_TIER_DRAM] = HM_PLACE_DRAM,
        [HM_TIER_NVM] = HM_PLACE_NVM,
    };

    return !hm->numa ||
           hm_residency_place(hm->numa->where, page) == place[tier];
}

/* That of /dev/mem is complete from the start, and unknown to pagemap. */
static bool surely_mapped(const Hybridmem *hm, uint32_t frame)
{
    unsigned extent = hm_frames_extent_of(hm->frames, frame);

    return !hm->numa && !hm_frames_extent(hm->frames, extent)->mergeable;
}

/*
 * A page of a block that should lie in the tier.  With mover numa few blocks
 * may be where they should; then it takes more tries.
 */
static bool pick(void *opaque, HmProbePage *page)
{
    const Tier *t = opaque;
    const HmFrames *frames = t->hm->frames;
    HmLatencies *l = t->hm->latencies;
    uint32_t n = hm_frames_tier_blocks(frames, t->tier), frame;
    uint64_t first;

    if (!n) {
        return false;
    }
    frame = hm_frames_tier_frame(frames, t->tier, random_below(l, n));
    first = (uint64_t)hm_frames_block_in(frames, frame) *
            t->hm->pages_per_block;
    page->page = first + random_below(l, MIN(t->hm->pages_per_block,
                                             t->hm->pages - first));
    page->mapped = surely_mapped(t->hm, frame);
    return lies_in(t->hm, page->page, t->tier);
}

static void publish(Hybridmem *hm, bool on, uint64_t ns)
{
    HmLatencies *l = hm->latencies;

    qemu_mutex_lock(&hm->lock);
    l->on = on;
    l->shown = l->balance;
    l->probe_ns += ns;
    qemu_mutex_unlock(&hm->lock);
}

static void switch_off(Hybridmem *hm)
{
    HmLatencies *l = hm->latencies;

    if (l->on) {
        hm_balance_init(&l->balance);
        publish(hm, false, 0);
    }
}

static void measure(Hybridmem *hm)
{
    HmLatencies *l = hm->latencies;
    int64_t start = g_get_monotonic_time();
    double ns[HM_TIER__MAX] = { };

    for (int t = 0; l->probe && t < HM_TIER__MAX; t++) {
        ns[t] = hm_latency_probe(l->probe, pick, &(Tier) { hm, t });
    }
    hm_balance_window(&l->balance, ns);
    trace_hybridmem_latencies(hm->id, ns[HM_TIER_DRAM], ns[HM_TIER_NVM],
                              l->balance.state);
    publish(hm, true, (g_get_monotonic_time() - start) * 1000);
}

bool hm_latencies_window(Hybridmem *hm, const HybridmemParameters *p)
{
    HmBalanceLimit was = hm_latencies_limit(hm->latencies), now;

    if (p->balance && hm->policy->ops->balances) {
        measure(hm);
    } else {
        switch_off(hm);
    }
    now = hm_latencies_limit(hm->latencies);
    return was.limited != now.limited || was.advance != now.advance ||
           was.retreat != now.retreat;
}

HybridmemBalance *hm_latencies_info(Hybridmem *hm,
                                    uint64_t ns[HM_TIER__MAX])
{
    static const HybridmemBalanceState state[] = {
        [HM_BALANCE_UNKNOWN] = HYBRIDMEM_BALANCE_STATE_UNKNOWN,
        [HM_BALANCE_FREE] = HYBRIDMEM_BALANCE_STATE_FREE,
        [HM_BALANCE_HELD] = HYBRIDMEM_BALANCE_STATE_HELD,
        [HM_BALANCE_ADVANCE] = HYBRIDMEM_BALANCE_STATE_ADVANCE,
        [HM_BALANCE_RETREAT] = HYBRIDMEM_BALANCE_STATE_RETREAT,
    };
    const HmLatencies *l = hm->latencies;
    HybridmemBalance *info;
    uint64_t probe_ns;
    HmBalance b;
    bool on;

    qemu_mutex_lock(&hm->lock);
    b = l->shown;
    on = l->on;
    probe_ns = l->probe_ns;
    qemu_mutex_unlock(&hm->lock);
    for (int t = 0; t < HM_TIER__MAX; t++) {
        ns[t] = on ? b.latency[t] + 0.5 : 0;
    }
    if (!on) {
        return NULL;
    }
    info = g_new0(HybridmemBalance, 1);
    info->state = state[b.state];
    info->unmeasured = g_strdup(l->why);
    info->windows = b.windows;
    info->retreats = b.retreats;
    info->probe_ns = probe_ns;
    return info;
}
