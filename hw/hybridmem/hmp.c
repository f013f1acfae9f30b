/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * info hybridmem, info hybridmem-heat.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-hybridmem.h"
#include "qemu/cutils.h"
#include "qemu/module.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "hw/hybridmem/engine.h"

static void print_inhibitors(Monitor *mon, const HybridmemInfo *info)
{
    const HybridmemInhibitorList *i;

    for (i = info->inhibitors; i; i = i->next) {
        monitor_printf(mon, "%s%s", i == info->inhibitors ? " by " : ", ",
                       HybridmemInhibitor_str(i->value));
    }
}

static void print_nodes(Monitor *mon, const uint16List *nodes)
{
    const uint16List *n;

    for (n = nodes; n; n = n->next) {
        monitor_printf(mon, "%s%u", n == nodes ? ", nodes " : ",", n->value);
    }
}

static void print_tiers(Monitor *mon, const HybridmemInfo *info)
{
    const HybridmemTierInfoList *t;

    for (t = info->tiers; t; t = t->next) {
        g_autofree char *size = size_to_str(t->value->size);
        g_autofree char *resident = size_to_str(t->value->resident);

        monitor_printf(mon, "  %s: %s", HybridmemTier_str(t->value->tier),
                       size);
        if (info->residency) {
            monitor_printf(mon, ", resident %s", resident);
        }
        print_nodes(mon, t->value->nodes);
        monitor_printf(mon, "\n");
    }
}

static void print_balance(Monitor *mon, const HybridmemInfo *info)
{
    const HybridmemBalance *b = info->balance;
    const HybridmemTierInfoList *t;

    monitor_printf(mon, "  balance: %s", HybridmemBalanceState_str(b->state));
    for (t = info->tiers; t; t = t->next) {
        if (t->value->has_latency) {
            monitor_printf(mon, ", %s %" PRIu64 " ns",
                           HybridmemTier_str(t->value->tier),
                           t->value->latency);
        }
    }
    monitor_printf(mon, "; retreats: %" PRIu64 "%s%s\n", b->retreats,
                   b->unmeasured ? "; not measured: " : "",
                   b->unmeasured ?: "");
}

static void print_residency(Monitor *mon, const HybridmemResidency *r)
{
    g_autofree char *absent = size_to_str(r->absent);
    g_autofree char *elsewhere = size_to_str(r->elsewhere);

    monitor_printf(mon, "  absent: %s, on other nodes: %s, passes: %" PRIu64
                   ", pages moved by others: %" PRIu64 "\n", absent,
                   elsewhere, r->passes, r->foreign_pages);
}

static void print_accesses(Monitor *mon, const HybridmemAccesses *a)
{
    if (a->unseen) {
        monitor_printf(mon, "  accesses: not seen, %s\n", a->unseen);
    } else if (a->windows) {
        monitor_printf(mon, "  accesses: %" PRIu64 " windows, pages: %" PRIu64
                       ", of them in nvm: %" PRIu64 "; only read: %" PRIu64
                       ", of them in nvm: %" PRIu64 "\n", a->windows,
                       a->pages, a->nvm_pages, a->read_pages,
                       a->nvm_read_pages);
    }
}

static void print_counters(Monitor *mon, const HybridmemInfo *info)
{
    const HybridmemCounters *c = info->counters;
    const HybridmemSkipped *s = c->skipped;

    monitor_printf(mon, "  last window: %" PRIu64 " pages dirty, %" PRIu64
                   " of them in nvm (%" PRIu64 " %%)\n",
                   c->window_dirty_pages, c->window_nvm_dirty_pages,
                   c->window_dirty_pages ? c->window_nvm_dirty_pages * 100 /
                   c->window_dirty_pages : 0);
    monitor_printf(mon, "  windows: %" PRIu64 " (%" PRIu64 " lost), dirty"
                   " pages: %" PRIu64 ", of them in nvm: %" PRIu64 "\n",
                   c->windows, c->windows_lost, c->dirty_pages,
                   c->nvm_dirty_pages);
    monitor_printf(mon, "  moves: %" PRIu64 " planned, %" PRIu64 " done,"
                   " %" PRIu64 " pages, %" PRIu64 " moved back\n",
                   c->moves_planned, c->moves_done, c->moved_pages,
                   c->moved_back);
    monitor_printf(mon, "  skipped: pinned %" PRIu64 ", busy %" PRIu64
                   ", budget %" PRIu64 ", map-limit %" PRIu64 ", stale %"
                   PRIu64 ", no-memory %" PRIu64 ", failed %" PRIu64 "\n",
                   s->pinned, s->busy, s->budget, s->map_limit, s->stale,
                   s->no_memory, s->failed);
    monitor_printf(mon, "  stall: %" PRIu64 " batches, total %" PRIu64
                   " us, longest %" PRIu64 " us\n", c->batches,
                   c->stall_ns_total / 1000, c->stall_ns_max / 1000);
    monitor_printf(mon, "  main loop: total %" PRIu64 " us, longest %" PRIu64
                   " us\n", c->bql_ns_total / 1000, c->bql_ns_max / 1000);
}

static void print_estimate(Monitor *mon, const char *what,
                           const HybridmemEstimate *e, const char *unit)
{
    if (!e) {
        return;
    }
    monitor_printf(mon, "    %s: about %.3g%s", what, e->typical, unit);
    if (e->low < e->high) {
        monitor_printf(mon, " (%.3g to %.3g)", e->low, e->high);
    }
    monitor_printf(mon, "\n");
}

static void print_estimates(Monitor *mon, const HybridmemEstimates *e)
{
    g_autofree char *guest = size_to_str(e->guest_nvm_bytes);
    g_autofree char *own = size_to_str(e->own_nvm_bytes);

    monitor_printf(mon, "  estimates for %s, from dirty pages in %" PRIu64
                   " s:\n    written to nvm: by the guest about %s, by moves"
                   " %s\n", e->model, e->observed_ms / 1000, guest, own);
    print_estimate(mon, "energy of these writes", e->write_energy, " J");
    print_estimate(mon, "the same in dram", e->write_energy_dram, " J");
    print_estimate(mon, "share of the endurance", e->wear, "");
    print_estimate(mon, "worn out in", e->years_until_worn, " years");
}

static void print_recording(Monitor *mon, const HybridmemRecording *r)
{
    g_autofree char *bytes = size_to_str(r->bytes);

    monitor_printf(mon, "  trace: %s in %s, windows: %" PRIu64, bytes,
                   r->path, r->windows);
    if (!r->recording) {
        monitor_printf(mon, "; ended by an error, windows lost: %" PRIu64,
                       r->windows_lost);
    }
    monitor_printf(mon, "\n");
}

static void hmp_info_hybridmem(Monitor *mon, const QDict *qdict)
{
    HybridmemInfoList *list = qmp_query_hybridmem(&error_abort), *i;

    for (i = list; i; i = i->next) {
        const HybridmemInfo *info = i->value;
        g_autofree char *block = size_to_str(info->block_size);

        monitor_printf(mon, "%s: %s", info->id,
                       HybridmemState_str(info->state));
        print_inhibitors(mon, info);
        monitor_printf(mon, "\n  memdev %s, mover %s, policy %s, blocks of"
                       " %s, window %" PRIu32 " ms each %" PRIu32 " ms\n",
                       info->memdev, HybridmemMover_str(info->mover),
                       HybridmemPolicy_str(info->policy), block,
                       info->window, info->interval);
        print_tiers(mon, info);
        if (info->residency) {
            print_residency(mon, info->residency);
        }
        if (info->balance) {
            print_balance(mon, info);
        }
        print_counters(mon, info);
        print_accesses(mon, info->accesses);
        if (info->map_limit) {
            monitor_printf(mon, "  mappings: %" PRIu64 " of %" PRIu64 "\n",
                           info->mappings, info->map_limit);
        }
        if (info->estimates) {
            print_estimates(mon, info->estimates);
        }
        if (info->trace) {
            print_recording(mon, info->trace);
        }
        if (info->last_error) {
            monitor_printf(mon, "  last error: %s\n", info->last_error);
        }
    }
    qapi_free_HybridmemInfoList(list);
}

/* '.' for cold; '0' to '9' in doublings up to the hottest bucket. */
static char digit(double temperature, double hottest)
{
    int below;

    if (temperature <= 0) {
        return '.';
    }
    for (below = 0; below < 9 && temperature * 2 <= hottest; below++) {
        temperature *= 2;
    }
    return '9' - below;
}

static void print_heat(Monitor *mon, const HybridmemHeat *heat)
{
    g_autofree char *size = size_to_str(heat->bucket_size);
    const HybridmemHeatBucketList *b;
    double hottest = 0;

    for (b = heat->buckets; b; b = b->next) {
        hottest = MAX(hottest, b->value->temperature);
    }
    monitor_printf(mon, "%s: ", heat->id);
    for (b = heat->buckets; b; b = b->next) {
        monitor_printf(mon, "%c", digit(b->value->temperature, hottest));
    }
    monitor_printf(mon, "\n  one digit for %s by guest address; 9 is the"
                   " hottest, each step below half of it, . is cold\n", size);
}

static void coroutine_fn hmp_info_hybridmem_heat(Monitor *mon,
                                                 const QDict *qdict)
{
    HybridmemHeatList *list, *i;

    list = qmp_query_hybridmem_heat(false, 0, &error_abort);
    for (i = list; i; i = i->next) {
        print_heat(mon, i->value);
    }
    qapi_free_HybridmemHeatList(list);
}

static void register_commands(void)
{
    monitor_register_hmp("hybridmem", true, hmp_info_hybridmem);
    monitor_register_hmp("hybridmem-heat", true, hmp_info_hybridmem_heat);
}

type_init(register_commands);
