/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What moves add up to, and what failed ones say.  For all movers.
 */
#include "qemu/osdep.h"
#include "qapi/qapi-events-hybridmem.h"
#include "hw/hybridmem/engine.h"
#include "trace.h"

/* At most one HYBRIDMEM_RELOCATION_ERROR per engine in this time. */
#define ERROR_EVENT_NS (1000 * 1000 * 1000LL)

/* A block promoted this many windows after its demotion has moved back. */
#define MOVED_BACK_WINDOWS 8
/* Demotions remembered for that; beyond it moved-back counts too few. */
#define MOVED_BACK_MAX 65536

static const char *const reasons[HM_MOVE__MAX] = {
    [HM_MOVE_DONE] = "done",
    [HM_MOVE_PINNED] = "pinned",
    [HM_MOVE_BUSY] = "busy",
    [HM_MOVE_BUDGET] = "budget",
    [HM_MOVE_MAP_LIMIT] = "map-limit",
    [HM_MOVE_STALE] = "stale",
    [HM_MOVE_NO_MEMORY] = "no-memory",
    [HM_MOVE_FAILED] = "failed",
};

static void remember_demotion(Hybridmem *hm, uint32_t block)
{
    if (g_hash_table_size(hm->demoted) < MOVED_BACK_MAX) {
        g_hash_table_insert(hm->demoted, GUINT_TO_POINTER(block),
                            GSIZE_TO_POINTER(hm->stats.windows));
    }
}

static bool has_moved_back(Hybridmem *hm, uint32_t block)
{
    gpointer window;

    return g_hash_table_lookup_extended(hm->demoted, GUINT_TO_POINTER(block),
                                        NULL, &window) &&
           hm->stats.windows - GPOINTER_TO_SIZE(window) <= MOVED_BACK_WINDOWS;
}

void hm_account_block(Hybridmem *hm, uint32_t block, HmTier from, HmTier to,
                      uint64_t pages, bool whole)
{
    HmStats *s = &hm->stats;
    uint64_t bytes = pages * hm->page_size;
    const HmTraceMove move = { block, from, to, whole, pages };

    s->blocks_moved += whole;
    s->moved_pages += pages;
    s->nvm_written_bytes += to == HM_TIER_NVM ? bytes : 0;
    if (from == HM_TIER_NVM && to == HM_TIER_DRAM) {
        s->promoted_bytes += bytes;
        s->moved_back += whole && has_moved_back(hm, block);
    } else if (from == HM_TIER_DRAM && to == HM_TIER_NVM) {
        s->demoted_bytes += bytes;
        if (whole) {
            remember_demotion(hm, block);
        }
    }
    g_array_append_val(hm->just_moved, block);
    hm_recorder_moved(hm->recorder, &move);
}

void hm_account_error(Hybridmem *hm, uint32_t block, const char *what,
                      int error_errno)
{
    uint64_t offset = block * hm->block_size;
    int64_t now_ns = g_get_monotonic_time() * 1000;
    bool send;
    g_autofree char *text = error_errno ?
        g_strdup_printf("%s: %s", what, strerror(error_errno)) :
        g_strdup(what);

    qemu_mutex_lock(&hm->lock);
    g_free(hm->last_error);
    hm->last_error = g_strdup_printf("offset 0x%" PRIx64 ": %s", offset,
                                     text);
    send = !hm->error_event_ns ||
           now_ns - hm->error_event_ns >= ERROR_EVENT_NS;
    if (send) {
        hm->error_event_ns = now_ns;
    }
    qemu_mutex_unlock(&hm->lock);
    trace_hybridmem_error(hm->id, offset, text);
    if (send) {
        qapi_event_send_hybridmem_relocation_error(hm->id, offset,
                                                   hm->block_size, text);
    }
}

void hm_account_skip(Hybridmem *hm, const HmMove *mv, HmMoveResult why)
{
    trace_hybridmem_skip(hm->id, mv->promote, mv->demote, reasons[why]);
}
