/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters.  The schema says what each of them means.
 */
#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "hw/hybridmem/engine.h"

uint64_t hm_engine_core_bytes(const Hybridmem *hm)
{
    return hm_frames_bytes(hm->frames) + hm_heat_bytes(hm->heat) +
           hm_accesses_bytes(hm->accesses) +
           hm_policy_bytes(hm->policy) +
           (hm->mover->bytes ? hm->mover->bytes(hm) : 0);
}

HmTier hm_engine_tier_of_page(const Hybridmem *hm, uint64_t page)
{
    if (hm->mover->tier_of_page) {
        return hm->mover->tier_of_page(hm, page);
    }
    return hm_frames_tier_of(hm->frames, page / hm->pages_per_block);
}

/* Pages of the last window, by the tier in which they lay. */
static void count_window(const Hybridmem *hm, uint64_t dirty[HM_TIER__MAX])
{
    uint64_t words = BITS_TO_LONGS(hm->pages), i;

    memset(dirty, 0, sizeof(*dirty) * HM_TIER__MAX);
    for (i = 0; i < words; i++) {
        unsigned long word = hm->dirty[i];

        while (word) {
            uint64_t page = i * BITS_PER_LONG + ctzl(word);

            dirty[hm_engine_tier_of_page(hm, page)]++;
            word &= word - 1;
        }
    }
}

/*
 * Bytes that the guest wrote to nvm, if what a window saw in @logged_us went
 * on for @elapsed_ms.  In double, because the product may exceed 64 bits.
 */
static uint64_t guest_nvm_bytes(const Hybridmem *hm, uint64_t pages,
                                uint64_t elapsed_ms, uint64_t logged_us)
{
    double times = 1000.0 * MAX(elapsed_ms, 1) / MAX(logged_us, 1);

    return pages * hm->page_size * MAX(times, 1.0);
}

void hm_stats_window(Hybridmem *hm, uint64_t elapsed_ms, uint64_t logged_us)
{
    uint64_t dirty[HM_TIER__MAX];

    count_window(hm, dirty);
    qemu_mutex_lock(&hm->lock);
    hm->stats.windows++;
    memcpy(hm->stats.window_dirty, dirty, sizeof(dirty));
    hm->stats.dirty_pages += dirty[HM_TIER_DRAM] + dirty[HM_TIER_NVM];
    hm->stats.nvm_dirty_pages += dirty[HM_TIER_NVM];
    hm->stats.observed_ms += elapsed_ms;
    hm->stats.guest_nvm_bytes += guest_nvm_bytes(hm, dirty[HM_TIER_NVM],
                                                 elapsed_ms, logged_us);
    qemu_mutex_unlock(&hm->lock);
}

static unsigned stall_bucket(uint64_t ns)
{
    uint64_t us = ns / 1000;

    return us ? MIN(63 - clz64(us), HM_STALL_BUCKETS - 1) : 0;
}

void hm_stats_batch(Hybridmem *hm, const HmBatch *b)
{
    HmStats *s = &hm->stats;
    unsigned i;

    qemu_mutex_lock(&hm->lock);
    for (i = HM_MOVE_DONE + 1; i < HM_MOVE__MAX; i++) {
        s->skipped[i] += b->results[i];
    }
    s->done += b->cause == HM_CAUSE_SETTLE ? 0 : b->results[HM_MOVE_DONE];
    s->pmem_copied += b->pmem_copied;
    if (b->stall_ns) {
        s->batches++;
        s->stall_ns += b->stall_ns;
        s->stall_ns_max = MAX(s->stall_ns_max, b->stall_ns);
        s->stall_histogram[stall_bucket(b->stall_ns)]++;
    }
    if (hm->mover->holds_guest) {
        hm->mappings = hm_frames_mappings(hm->frames);
    }
    qemu_mutex_unlock(&hm->lock);
}

void hm_stats_bql(Hybridmem *hm, uint64_t ns, bool sampling)
{
    qemu_mutex_lock(&hm->lock);
    hm->stats.bql_ns += ns;
    hm->stats.bql_ns_max = MAX(hm->stats.bql_ns_max, ns);
    if (sampling) {
        hm->stats.sample_ns += ns;
    }
    qemu_mutex_unlock(&hm->lock);
}

HybridmemSkipped *hm_stats_skipped(const uint64_t results[HM_MOVE__MAX])
{
    HybridmemSkipped *s = g_new0(HybridmemSkipped, 1);

    s->pinned = results[HM_MOVE_PINNED];
    s->busy = results[HM_MOVE_BUSY];
    s->budget = results[HM_MOVE_BUDGET];
    s->map_limit = results[HM_MOVE_MAP_LIMIT];
    s->stale = results[HM_MOVE_STALE];
    s->no_memory = results[HM_MOVE_NO_MEMORY];
    s->failed = results[HM_MOVE_FAILED];
    return s;
}

static HybridmemCounters *counters(const Hybridmem *hm, const HmStats *s)
{
    HybridmemCounters *c = g_new0(HybridmemCounters, 1);
    int i;

    c->windows = s->windows;
    c->windows_lost = s->windows_lost;
    c->dirty_pages = s->dirty_pages;
    c->nvm_dirty_pages = s->nvm_dirty_pages;
    c->window_dirty_pages = s->window_dirty[HM_TIER_DRAM] +
                            s->window_dirty[HM_TIER_NVM];
    c->window_nvm_dirty_pages = s->window_dirty[HM_TIER_NVM];
    c->moves_planned = s->planned;
    c->moves_done = s->done;
    c->blocks_moved = s->blocks_moved;
    c->moved_pages = s->moved_pages;
    c->promoted_bytes = s->promoted_bytes;
    c->demoted_bytes = s->demoted_bytes;
    c->moved_back = s->moved_back;
    c->nvm_written_bytes = s->nvm_written_bytes;
    c->fills = s->fills;
    c->drains = s->drains;
    c->pmem_copied_bytes = s->pmem_copied;
    c->skipped = hm_stats_skipped(s->skipped);
    c->batches = s->batches;
    c->stall_ns_total = s->stall_ns;
    c->stall_ns_max = s->stall_ns_max;
    for (i = HM_STALL_BUCKETS - 1; i >= 0; i--) {
        QAPI_LIST_PREPEND(c->stall_histogram, s->stall_histogram[i]);
    }
    c->sample_ns = s->sample_ns;
    c->plan_ns = s->plan_ns;
    c->bql_ns_total = s->bql_ns;
    c->bql_ns_max = s->bql_ns_max;
    return c;
}

static HybridmemTierInfoList *tiers(const Hybridmem *hm, const HmStats *s,
                                    const uint64_t size[HM_TIER__MAX],
                                    const uint64_t resident[HM_TIER__MAX],
                                    const uint64_t latency[HM_TIER__MAX])
{
    HybridmemTierInfoList *list = NULL, **tail = &list;
    int t;

    for (t = 0; t < HM_TIER__MAX; t++) {
        HybridmemTierInfo *info = g_new0(HybridmemTierInfo, 1);

        info->tier = t == HM_TIER_DRAM ? HYBRIDMEM_TIER_DRAM :
                     HYBRIDMEM_TIER_NVM;
        info->size = size[t];
        info->resident = resident[t];
        info->window_dirty_pages = s->window_dirty[t];
        info->pmem = hm->tier_pmem[t];
        info->has_latency = latency[t] > 0;
        info->latency = latency[t];
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static HybridmemRecording *recording(const Hybridmem *hm,
                                     const HmRecording *now)
{
    HybridmemRecording *r;

    if (!hm->recorder) {
        return NULL;
    }
    r = g_new0(HybridmemRecording, 1);
    r->path = g_strdup(hm->trace);
    r->recording = now->going_on;
    r->windows = now->windows;
    r->windows_lost = now->windows_lost;
    r->bytes = now->bytes;
    return r;
}

HybridmemInfo *hm_stats_info(Hybridmem *hm)
{
    HybridmemInfo *info = g_new0(HybridmemInfo, 1);
    uint32_t inhibitors = hm_engine_inhibitors(hm);
    uint64_t size[HM_TIER__MAX], resident[HM_TIER__MAX];
    uint64_t latency[HM_TIER__MAX];
    HmRecording now;
    HmStats s;

    info->parameters = g_new(HybridmemParameters, 1);
    qemu_mutex_lock(&hm->lock);
    s = hm->stats;
    now = hm->recording;
    *info->parameters = hm->params;
    info->parameters->model = g_strdup(hm->params.model);
    info->mappings = hm->mappings;
    memcpy(size, hm->tier_size, sizeof(size));
    memcpy(resident, hm->resident, sizeof(resident));
    info->interval = hm->interval_now;
    info->window = hm->window_now;
    info->metadata_bytes = hm->core_bytes;
    info->last_error = g_strdup(hm->last_error);
    qemu_mutex_unlock(&hm->lock);

    info->id = g_strdup(hm->id);
    info->memdev = g_strdup(hm->memdev);
    info->state = !info->parameters->enabled ? HYBRIDMEM_STATE_DISABLED :
                  inhibitors ? HYBRIDMEM_STATE_INHIBITED :
                  HYBRIDMEM_STATE_RUNNING;
    if (info->state == HYBRIDMEM_STATE_INHIBITED) {
        info->inhibitors = hm_engine_inhibitor_list(inhibitors);
    }
    info->policy = info->parameters->policy;
    info->block_size = hm->block_size;
    info->map_limit = hm->map_limit;
    info->mover = hm->mover->kind;
    info->balance = hm_latencies_info(hm, latency);
    info->tiers = tiers(hm, &s, size, resident, latency);
    info->accesses = hm_accesses_info(hm);
    info->counters = counters(hm, &s);
    info->trace = recording(hm, &now);
    info->estimates = hm_estimates(info->parameters->model, &s,
                                   info->counters->nvm_written_bytes,
                                   size[HM_TIER_NVM]);
    if (hm->mover->show) {
        hm->mover->show(hm, info);
    }
    return info;
}
