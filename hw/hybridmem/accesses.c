/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows of accesses: whom to watch, for how long, and what is learnt.
 *
 * All in the engine's thread.  Nothing moves in such a window, and no request
 * is served: a page that has been dropped looks absent to the kernel.
 */
#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "system/kvm.h"
#include "migration/misc.h"
#include "hw/hybridmem/engine.h"
#include "trace.h"

/* Bytes watched in a window: some 150 ms to drop and look. */
#define WATCH_MAX (4 * GiB)
/* The smallest huge page. */
#define HUGE (2 * MiB)
/* Of any limit, so that an interval's share is a number. */
#define PER_SECOND_MAX (1ULL << 48)

struct HmAccesses {
    HmAccessSampler *sampler;   /* NULL: @why */
    const char *why;            /* a static string; guarded by hm->lock */
    bool refused;               /* this window was, by the kernel */
    HmAccess *rates;
    uint32_t *block;            /* of the window */
    uint8_t *weight;
    size_t room;                /* of those arrays */
    unsigned long *seen;
    unsigned long *logged;      /* before, with all its doubts */
    unsigned long *used;        /* the same, but what had just moved */
    uint64_t host_page;         /* bytes */
    int64_t window_at_ns;       /* end of the last one */
    NotifierWithReturn migration;
};

/*
 * A migration may want its own userfaultfd on guest RAM at once (background
 * snapshots do), so ours goes before it starts.
 */
static int migration_starts(NotifierWithReturn *n, MigrationEvent *e,
                            Error **errp)
{
    HmAccesses *as = container_of(n, HmAccesses, migration);

    hm_access_sampler_fine(as->sampler, e->type != MIG_EVENT_PRECOPY_SETUP);
    return 0;
}

/*
 * When KVM has lost its entry of a page: on x86 it maps it for writing even to
 * read it, and then logs it.  On Arm it does not.
 */
static bool log_knows_reads(void)
{
#ifdef HOST_X86_64
    return kvm_enabled();
#else
    return false;
#endif
}

/*
 * Where huge pages may be a drop costs a fault for each, and the log one for
 * each small page.  Blocks are at least as large as those.
 */
static HmAccessLog what_to_log(const Hybridmem *hm)
{
    if (!log_knows_reads()) {
        return HM_ACCESS_LOG_NOTHING;
    }
    return hm->mover->holds_guest || hm->block_size >= HUGE ?
           HM_ACCESS_LOG_PRIVATE : HM_ACCESS_LOG_ALL;
}

static void make_rates(HmAccesses *as, Hybridmem *hm)
{
    bool by_log = hm_accesses_by_log(as);

    as->rates = hm_access_new(hm->pages, hm->pages_per_block);
    hm_access_set_cold_costs(as->rates, !by_log && !hm->mover->holds_guest);
    hm_access_set_fault_pages(as->rates, by_log ? 1 :
                              MAX(as->host_page / hm->page_size, 1));
}

static void mapped(void *opaque, uint64_t offset, uint64_t len)
{
    hm_access_sampler_mapped(opaque, offset, len);
}

HmAccesses *hm_accesses_new(Hybridmem *hm)
{
    HmAccesses *as = g_new0(HmAccesses, 1);

    as->host_page = qemu_ram_pagesize(hm->backend->mr.ram_block);
    as->sampler = hm_access_sampler_new(
        memory_region_get_ram_ptr(&hm->backend->mr), hm->backend->size,
        hm->page_size, as->host_page, hm->pages_per_block, what_to_log(hm),
        &as->why);
    if (as->sampler && hm->mover->holds_guest) {
        /* Only our own mover maps anything there: see system_map(). */
        hm_access_sampler_vouch(as->sampler);
        hm->remap.mapped = mapped;
        hm->remap.opaque = as->sampler;
    }
    if (as->sampler) {
        make_rates(as, hm);
        as->seen = bitmap_new(hm->pages);
        as->logged = bitmap_new(hm->pages);
        as->used = bitmap_new(hm->pages);
        hm_access_sampler_fine(as->sampler, !migration_is_running());
        migration_add_notifier(&as->migration, migration_starts);
    }
    return as;
}

void hm_accesses_free(HmAccesses *as)
{
    if (as->sampler) {
        migration_remove_notifier(&as->migration);
        hm_access_sampler_free(as->sampler);
        hm_access_free(as->rates);
    }
    g_free(as->seen);
    g_free(as->logged);
    g_free(as->used);
    g_free(as->block);
    g_free(as->weight);
    g_free(as);
}

const HmAccess *hm_accesses_rates(const HmAccesses *as)
{
    return as->rates;
}

bool hm_accesses_by_log(const HmAccesses *as)
{
    return as->sampler && hm_access_sampler_by_log(as->sampler);
}

bool hm_accesses_wanted(const Hybridmem *hm)
{
    return hm->accesses->sampler && hm_policy_accesses(hm->policy);
}

uint64_t hm_accesses_bytes(const HmAccesses *as)
{
    return as->rates ? hm_access_bytes(as->rates) : 0;
}

void hm_accesses_filter(Hybridmem *hm, unsigned long *dirty)
{
    HmAccesses *as = hm->accesses;

    if (hm_accesses_wanted(hm)) {
        bitmap_copy(as->logged, dirty, hm->pages);
        bitmap_copy(as->used, dirty, hm->pages);
    }
    if (kvm_enabled() && as->sampler) {
        hm_access_sampler_doubt(as->sampler, dirty);
    }
}

unsigned long *hm_accesses_used(const Hybridmem *hm)
{
    return hm_accesses_wanted(hm) && hm->policy->ops->knows_writes ?
           hm->accesses->used : NULL;
}

void hm_accesses_release(HmAccesses *as)
{
    if (as->sampler) {
        hm_access_sampler_release(as->sampler);
    }
}

void hm_accesses_yield(HmAccesses *as)
{
    if (as->sampler) {
        hm_access_sampler_yield(as->sampler);
    }
}

/* What one interval may cost, of what a second may. */
static uint64_t share(uint64_t per_second, const HybridmemParameters *p)
{
    return MAX(muldiv64(MIN(per_second, PER_SECOND_MAX), p->interval, 1000), 1);
}

static size_t pick(Hybridmem *hm, const HybridmemParameters *p,
                   const unsigned long *known)
{
    HmAccesses *as = hm->accesses;
    uint64_t bytes = p->access_rate ? share(p->access_rate, p) : UINT64_MAX;
    uint64_t faults = p->access_faults ? share(p->access_faults, p) :
                      UINT64_MAX;
    size_t most = MIN(MAX(MIN(bytes, WATCH_MAX) / hm->block_size, 1),
                      hm_access_blocks(as->rates));

    if (most > as->room) {
        as->room = most;
        as->block = g_renew(uint32_t, as->block, most);
        as->weight = g_renew(uint8_t, as->weight, most);
    }
    hm_access_set_calm(as->rates, hm->interval_now > p->interval);
    return hm_access_pick(as->rates, known, as->block, as->weight, most,
                          faults);
}

/* Pages in nvm that looks at these blocks would find, by what they found. */
static double expected_in_nvm(const Hybridmem *hm, const HmWindow *w)
{
    double expected = 0;

    for (size_t i = 0; i < w->n_watched; i++) {
        uint64_t first = (uint64_t)w->watched[i] * hm->pages_per_block;
        uint64_t end = MIN(first + hm->pages_per_block, hm->pages);
        double rate = hm_access_rate(hm->accesses->rates, w->watched[i]);

        if (rate == 0 || hm_engine_tier_of_page(hm, first) != HM_TIER_NVM) {
            continue;
        }
        for (uint64_t p = first; p < end; p++) {
            expected += w->known && test_bit(p, w->known) ? 0 : rate;
        }
    }
    return expected;
}

/* Pages that the window has seen, and that were not known; by tier. */
static void count_seen(Hybridmem *hm, const HmWindow *w,
                       uint64_t seen[HM_TIER__MAX],
                       uint64_t read[HM_TIER__MAX])
{
    const unsigned long *logged = hm->accesses->logged;

    for (size_t i = 0; i < w->n_watched; i++) {
        uint64_t first = (uint64_t)w->watched[i] * hm->pages_per_block;
        uint64_t end = MIN(first + hm->pages_per_block, hm->pages);

        for (uint64_t p = first; p < end; p++) {
            if (test_bit(p, w->seen) && !(w->known && test_bit(p, w->known))) {
                HmTier tier = hm_engine_tier_of_page(hm, p);

                seen[tier]++;
                read[tier] += !test_bit(p, logged);
            }
        }
    }
}

/*
 * Adds up what the window has seen, and what needed not to be looked at;
 * returns the pages in nvm.
 */
static uint64_t account(Hybridmem *hm, const HmWindow *w)
{
    uint64_t seen[HM_TIER__MAX] = { }, read[HM_TIER__MAX] = { };

    count_seen(hm, w, seen, read);
    hm_pace_reads(&hm->pace, seen[HM_TIER_NVM], expected_in_nvm(hm, w));
    qemu_mutex_lock(&hm->lock);
    hm->stats.access_windows++;
    hm->stats.watched_bytes += w->n_watched * hm->block_size;
    for (int t = 0; t < HM_TIER__MAX; t++) {
        seen[t] += w->known ? hm->stats.window_dirty[t] : 0;
        hm->stats.accessed_pages[t] += seen[t];
        hm->stats.read_pages[t] += read[t];
    }
    qemu_mutex_unlock(&hm->lock);
    trace_hybridmem_accesses(hm->id, w->n_watched, seen[HM_TIER_DRAM],
                             seen[HM_TIER_NVM]);
    return seen[HM_TIER_NVM];
}

static void cannot(Hybridmem *hm, const char *why)
{
    qemu_mutex_lock(&hm->lock);
    hm->accesses->why = why;
    qemu_mutex_unlock(&hm->lock);
}

void hm_accesses_begin(Hybridmem *hm, const HybridmemParameters *p,
                       HmWindow *w)
{
    HmAccesses *as = hm->accesses;
    const char *why;

    *w = (HmWindow) {
        .sense = HM_SENSE_ACCESSES,
        .seen = as->seen,
        .known = hm_policy_known(hm->policy, as->logged),
    };
    w->n_watched = pick(hm, p, w->known);
    w->watched = as->block;
    w->weight = as->weight;
    /* The guest runs while its RAM comes, by a userfaultfd of that. */
    if (migration_in_incoming_postcopy()) {
        hm_accesses_yield(as);
    }
    as->refused = !hm_access_sampler_start(as->sampler, w->watched,
                                           w->n_watched,
                                           !hm->mover->holds_guest, &why);
    if (as->refused) {
        w->n_watched = 0;
    }
    cannot(hm, why);
}

void hm_accesses_end(Hybridmem *hm, HmWindow *w, int64_t now_ns)
{
    HmAccesses *as = hm->accesses;

    w->elapsed_ms = (now_ns - (as->window_at_ns ?: now_ns)) / 1000000;
    as->window_at_ns = now_ns;
    bitmap_zero(as->seen, hm->pages);
    if (hm_accesses_by_log(as)) {
        hm->sampler->ops->collect(hm->sampler, as->seen);
    }
    hm_access_sampler_read(as->sampler, w->watched, w->n_watched,
                           hm->log_is_on, as->seen);
}

void hm_accesses_digest(Hybridmem *hm, const HmWindow *w)
{
    uint64_t nvm_pages;

    if (hm->accesses->refused) {
        return;
    }
    nvm_pages = account(hm, w);
    hm_recorder_window(hm->recorder, w, nvm_pages);
    hm_access_window(hm->accesses->rates, w);
    hm_policy_observe(hm->policy, w);
}

HybridmemAccesses *hm_accesses_info(Hybridmem *hm)
{
    HybridmemAccesses *info = g_new0(HybridmemAccesses, 1);
    const HmAccesses *as = hm->accesses;
    HmStats s;

    qemu_mutex_lock(&hm->lock);
    s = hm->stats;
    info->unseen = g_strdup(as->why);
    qemu_mutex_unlock(&hm->lock);
    if (as->sampler) {
        bool by_log = hm_accesses_by_log(as);

        info->has_method = info->has_granule = true;
        info->method = by_log ? HYBRIDMEM_ACCESS_METHOD_LOG :
                       HYBRIDMEM_ACCESS_METHOD_DROP;
        info->granule = hm_access_sampler_granule(as->sampler);
    }
    info->windows = s.access_windows;
    info->watched_bytes = s.watched_bytes;
    info->pages = s.accessed_pages[HM_TIER_DRAM] +
                  s.accessed_pages[HM_TIER_NVM];
    info->nvm_pages = s.accessed_pages[HM_TIER_NVM];
    info->read_pages = s.read_pages[HM_TIER_DRAM] + s.read_pages[HM_TIER_NVM];
    info->nvm_read_pages = s.read_pages[HM_TIER_NVM];
    return info;
}
