/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-hybridmem.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/coroutine.h"
#include "block/aio.h"
#include "hw/hybridmem/engine.h"

#define HEAT_BUCKETS_DEFAULT 64
#define HEAT_BUCKETS_MAX 4096
#define SWAP_PAIRS_MAX 65536

static void collect_info(Hybridmem *hm, void *opaque)
{
    HybridmemInfoList ***tail = opaque;

    QAPI_LIST_APPEND(*tail, hm_stats_info(hm));
}

HybridmemInfoList *qmp_query_hybridmem(Error **errp)
{
    HybridmemInfoList *list = NULL, **tail = &list;

    hm_engine_foreach(collect_info, &tail);
    return list;
}

void qmp_hybridmem_set(HybridmemSetArguments *args, Error **errp)
{
    Hybridmem *hm = hm_engine_find(args->id, errp);

    if (hm) {
        hm_params_set(hm, qapi_HybridmemSetArguments_base(args), errp);
    }
}

/* Requests are the coroutine's own; @opaque is the coroutine. */
static void wake_coroutine(HmRequest *rq)
{
    aio_co_wake(rq->opaque);
}

static void coroutine_fn wait_for_engine(Hybridmem *hm, HmRequest *rq)
{
    rq->finished = wake_coroutine;
    rq->opaque = qemu_coroutine_self();
    hm_engine_submit(hm, rq);
    qemu_coroutine_yield();
}

static void collect_engine(Hybridmem *hm, void *opaque)
{
    g_ptr_array_add(opaque, object_ref(OBJECT(hm)));
}

HybridmemHeatList *coroutine_fn
qmp_query_hybridmem_heat(bool has_buckets, uint32_t buckets, Error **errp)
{
    g_autoptr(GPtrArray) engines =
        g_ptr_array_new_with_free_func((GDestroyNotify)object_unref);
    HybridmemHeatList *list = NULL, **tail = &list;
    unsigned i;

    if (!has_buckets) {
        buckets = HEAT_BUCKETS_DEFAULT;
    }
    if (!buckets || buckets > HEAT_BUCKETS_MAX) {
        error_setg(errp, "buckets=%u is out of range: it must be 1 to %u",
                   buckets, HEAT_BUCKETS_MAX);
        return NULL;
    }
    hm_engine_foreach(collect_engine, engines);
    for (i = 0; i < engines->len; i++) {
        Hybridmem *hm = g_ptr_array_index(engines, i);
        HmRequest rq = { .kind = HM_REQUEST_HEAT, .buckets = buckets };

        if (!hm->started) {
            continue;           /* deleted while we waited for another */
        }
        wait_for_engine(hm, &rq);
        if (rq.heat) {
            QAPI_LIST_APPEND(tail, rq.heat);
        }
    }
    return list;
}

static bool can_move(Hybridmem *hm, Error **errp)
{
    HybridmemInhibitorList *list;
    bool enabled;

    qemu_mutex_lock(&hm->lock);
    enabled = hm->params.enabled;
    qemu_mutex_unlock(&hm->lock);
    if (!enabled) {
        error_setg(errp, "hybridmem '%s' is disabled; use hybridmem-set"
                   " with enabled=true", hm->id);
        return false;
    }
    list = hm_engine_inhibitor_list(hm_engine_inhibitors(hm));
    if (list) {
        error_setg(errp, "hybridmem '%s' is inhibited by %s", hm->id,
                   HybridmemInhibitor_str(list->value));
        qapi_free_HybridmemInhibitorList(list);
        return false;
    }
    return true;
}

typedef struct Rebalance {
    HmRequest rq;
    char *id;
} Rebalance;

static void rebalance_finished(HmRequest *rq)
{
    Rebalance *rb = rq->opaque;
    uint64_t planned = 0;
    unsigned i;

    for (i = 0; i < HM_MOVE__MAX; i++) {
        planned += rq->results[i];
    }
    qapi_event_send_hybridmem_rebalance_completed(rb->id, planned,
                                                  rq->results[HM_MOVE_DONE]);
    g_free(rb->id);
    g_free(rb);
}

void qmp_hybridmem_rebalance(const char *id, Error **errp)
{
    Hybridmem *hm = hm_engine_find(id, errp);
    Rebalance *rb;

    if (!hm || !can_move(hm, errp)) {
        return;
    }
    rb = g_new0(Rebalance, 1);
    rb->id = g_strdup(hm->id);
    rb->rq.kind = HM_REQUEST_REBALANCE;
    rb->rq.finished = rebalance_finished;
    rb->rq.opaque = rb;
    hm_engine_submit(hm, &rb->rq);
}

/* The block that guest physical address @gpa lies in. */
static bool find_block(Hybridmem *hm, uint64_t gpa, uint32_t *block,
                       Error **errp)
{
    MemoryRegionSection s = memory_region_find(get_system_memory(), gpa, 1);
    bool found = s.mr && s.mr == &hm->backend->mr;

    if (found) {
        *block = s.offset_within_region / hm->block_size;
    } else {
        error_setg(errp, "guest address 0x%" PRIx64 " is not RAM that"
                   " hybridmem '%s' manages", gpa, hm->id);
    }
    if (s.mr) {
        memory_region_unref(s.mr);
    }
    return found;
}

static bool find_pairs(Hybridmem *hm, HybridmemPairList *pairs, GArray *moves,
                       Error **errp)
{
    for (; pairs; pairs = pairs->next) {
        HmMove mv;

        if (moves->len == SWAP_PAIRS_MAX) {
            error_setg(errp, "more than %u pairs", SWAP_PAIRS_MAX);
            return false;
        }
        if (!find_block(hm, pairs->value->a, &mv.promote, errp) ||
            !find_block(hm, pairs->value->b, &mv.demote, errp)) {
            return false;
        }
        if (mv.promote == mv.demote) {
            error_setg(errp, "guest addresses 0x%" PRIx64 " and 0x%" PRIx64
                       " lie in one block of %" PRIu64 " bytes",
                       pairs->value->a, pairs->value->b, hm->block_size);
            return false;
        }
        g_array_append_val(moves, mv);
    }
    return true;
}

HybridmemSwapResult *coroutine_fn
qmp_hybridmem_swap(const char *id, HybridmemPairList *pairs, Error **errp)
{
    Hybridmem *hm = hm_engine_find(id, errp);
    g_autoptr(GArray) moves = g_array_new(false, false, sizeof(HmMove));
    HmRequest rq = { .kind = HM_REQUEST_SWAP };
    HybridmemSwapResult *result;

    if (!hm || !can_move(hm, errp) || !find_pairs(hm, pairs, moves, errp)) {
        return NULL;
    }
    rq.moves = (HmMove *)moves->data;
    rq.n_moves = moves->len;
    object_ref(OBJECT(hm));
    wait_for_engine(hm, &rq);
    object_unref(OBJECT(hm));
    if (rq.cancelled) {
        error_setg(errp, "the hybridmem object has been deleted");
        return NULL;
    }
    result = g_new0(HybridmemSwapResult, 1);
    result->done = rq.results[HM_MOVE_DONE];
    result->skipped = hm_stats_skipped(rq.results);
    return result;
}

static bool check_quota(Hybridmem *hm, uint64_t fast_size, Error **errp)
{
    uint64_t was, size = hm->backend->size;

    if (!hm->mover->set_quota) {
        error_setg(errp, "the size of tier dram of hybridmem '%s' cannot"
                   " change: its mover is %s; the tiers are the children of"
                   " '%s'", hm->id, HybridmemMover_str(hm->mover->kind),
                   hm->memdev);
        return false;
    }
    if (fast_size > size || !QEMU_IS_ALIGNED(fast_size, hm->block_size)) {
        error_setg(errp, "fast-size=%" PRIu64 " must be a multiple of %"
                   PRIu64 " (block-size), and at most %" PRIu64 " (the size"
                   " of '%s')", fast_size, hm->block_size, size, hm->memdev);
        return false;
    }
    qemu_mutex_lock(&hm->lock);
    was = hm->tier_size[HM_TIER_DRAM];
    qemu_mutex_unlock(&hm->lock);
    return hm->mover->check_quota(hm, was, fast_size, errp);
}

static void quota_accepted(HmRequest *rq)
{
    g_free(rq);
}

void qmp_hybridmem_set_quota(const char *id, uint64_t fast_size, Error **errp)
{
    Hybridmem *hm = hm_engine_find(id, errp);
    HmRequest *rq;

    if (!hm || !check_quota(hm, fast_size, errp)) {
        return;
    }
    rq = g_new0(HmRequest, 1);
    rq->kind = HM_REQUEST_QUOTA;
    rq->fast_size = fast_size;
    rq->finished = quota_accepted;
    hm_engine_submit(hm, rq);
}
