/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's thread and the main loop: functions that the one sends the
 * other, requests that come back, and waiting for either.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/main-loop.h"
#include "block/aio-wait.h"
#include "engine-internal.h"
#include "trace.h"

/* --- the main loop ----------------------------------------------------- */

static void announce(Hybridmem *hm, uint32_t inhibitors)
{
    HybridmemInhibitorList *list;
    HybridmemState old, state;

    qemu_mutex_lock(&hm->lock);
    state = !hm->params.enabled ? HYBRIDMEM_STATE_DISABLED :
            inhibitors ? HYBRIDMEM_STATE_INHIBITED : HYBRIDMEM_STATE_RUNNING;
    old = hm->state;
    hm->state = state;
    qemu_mutex_unlock(&hm->lock);
    if (old == state) {
        return;
    }
    list = state == HYBRIDMEM_STATE_INHIBITED ?
           hm_engine_inhibitor_list(inhibitors) : NULL;
    trace_hybridmem_state(hm->id, HybridmemState_str(state), inhibitors);
    qapi_event_send_hybridmem_state_change(hm->id, state, list);
    qapi_free_HybridmemInhibitorList(list);
}

void hm_main_check(Hybridmem *hm)
{
    hm->inhibitors = hm_engine_inhibitors(hm);
    announce(hm, hm->inhibitors);
    if (hm->inhibitors) {
        hm->sampler->ops->stop(hm->sampler);
        hm->log_is_on = false;
    }
}

static void call_bh(void *opaque)
{
    Hybridmem *hm = opaque;
    void (*fn)(Hybridmem *hm);

    qemu_mutex_lock(&hm->lock);
    if (hm->call && !hm->serving) {
        fn = hm->call;
        hm->call_running = true;
        qemu_mutex_unlock(&hm->lock);
        fn(hm);
        qemu_mutex_lock(&hm->lock);
        hm->call_running = false;
        hm->call = NULL;
        qemu_cond_broadcast(&hm->wake);
    }
    qemu_mutex_unlock(&hm->lock);
}

static void finish_bh(void *opaque)
{
    Hybridmem *hm = opaque;
    HmRequest *rq;

    qemu_mutex_lock(&hm->lock);
    while ((rq = QSIMPLEQ_FIRST(&hm->finished))) {
        QSIMPLEQ_REMOVE_HEAD(&hm->finished, next);
        qemu_mutex_unlock(&hm->lock);
        rq->finished(rq);
        qemu_mutex_lock(&hm->lock);
    }
    qemu_mutex_unlock(&hm->lock);
}

void hm_engine_submit(Hybridmem *hm, HmRequest *rq)
{
    qemu_mutex_lock(&hm->lock);
    QSIMPLEQ_INSERT_TAIL(&hm->requests, rq, next);
    qemu_cond_broadcast(&hm->wake);
    qemu_mutex_unlock(&hm->lock);
}

void hm_calls_open(Hybridmem *hm)
{
    /*
     * The handler context is polled at the top level of the main loop only;
     * the main context also from within others' waits, as HMP needs it.
     */
    hm->call_bh = aio_bh_new(iohandler_get_aio_context(), call_bh, hm);
    hm->finish_bh = aio_bh_new(qemu_get_aio_context(), finish_bh, hm);
}

void hm_calls_close(Hybridmem *hm)
{
    HmRequest *rq;

    while ((rq = QSIMPLEQ_FIRST(&hm->requests))) {
        QSIMPLEQ_REMOVE_HEAD(&hm->requests, next);
        rq->cancelled = true;
        QSIMPLEQ_INSERT_TAIL(&hm->finished, rq, next);
    }
    finish_bh(hm);
    qemu_bh_delete(hm->call_bh);
    qemu_bh_delete(hm->finish_bh);
}

/* --- the thread -------------------------------------------------------- */

static HybridmemHeat *heat_summary(Hybridmem *hm, uint32_t max_buckets)
{
    uint32_t blocks = hm_frames_blocks(hm->frames);
    uint64_t per_bucket = DIV_ROUND_UP((uint64_t)blocks, max_buckets);
    HybridmemHeat *heat = g_new0(HybridmemHeat, 1);
    HybridmemHeatBucketList **tail = &heat->buckets;
    uint32_t block = 0;

    heat->id = g_strdup(hm->id);
    heat->bucket_size = per_bucket * hm->block_size;
    while (block < blocks) {
        HybridmemHeatBucket *b = g_new0(HybridmemHeatBucket, 1);
        uint32_t end = block + MIN(per_bucket, blocks - block);

        b->offset = block * hm->block_size;
        for (; block < end; block++) {
            b->temperature += hm_heat_temperature(hm->heat, block);
            b->dram_blocks += HM_TIER_DRAM ==
                hm_engine_tier_of_page(hm, (uint64_t)block *
                                       hm->pages_per_block);
        }
        QAPI_LIST_APPEND(tail, b);
    }
    return heat;
}

/* Lock held; it is dropped meanwhile.  Needs nothing from the main loop. */
static bool serve_heat(Hybridmem *hm)
{
    HmRequest *rq;

    QSIMPLEQ_FOREACH(rq, &hm->requests, next) {
        if (rq->kind == HM_REQUEST_HEAT) {
            break;
        }
    }
    if (!rq || hm->call_running) {
        return false;
    }
    QSIMPLEQ_REMOVE(&hm->requests, rq, HmRequest, next);
    hm->serving = true;
    qemu_mutex_unlock(&hm->lock);
    rq->heat = heat_summary(hm, rq->buckets);
    qemu_mutex_lock(&hm->lock);
    hm->serving = false;
    QSIMPLEQ_INSERT_TAIL(&hm->finished, rq, next);
    qemu_bh_schedule(hm->finish_bh);
    qemu_bh_schedule(hm->call_bh);      /* may have waited for us */
    return true;
}

bool hm_call_main(Hybridmem *hm, void (*fn)(Hybridmem *hm))
{
    bool done;

    qemu_mutex_lock(&hm->lock);
    hm->call = fn;
    qemu_bh_schedule(hm->call_bh);
    aio_wait_kick();            /* monitor_cleanup() waits for commands */
    while (hm->call && !hm->quit) {
        if (!serve_heat(hm)) {
            qemu_cond_wait(&hm->wake, &hm->lock);
        }
    }
    done = !hm->call;
    hm->call = NULL;
    qemu_mutex_unlock(&hm->lock);
    return done;
}

HybridmemParameters hm_parameters(Hybridmem *hm)
{
    HybridmemParameters p;

    qemu_mutex_lock(&hm->lock);
    p = hm->params;
    qemu_mutex_unlock(&hm->lock);
    return p;
}

bool hm_quitting(Hybridmem *hm)
{
    bool quit;

    qemu_mutex_lock(&hm->lock);
    quit = hm->quit;
    qemu_mutex_unlock(&hm->lock);
    return quit;
}

bool hm_params_have_changed(Hybridmem *hm)
{
    bool changed;

    qemu_mutex_lock(&hm->lock);
    changed = hm->params_changed;
    qemu_mutex_unlock(&hm->lock);
    return changed;
}

/*
 * Lock held.  There is one plan at a time: a rebalance waits its turn, and
 * so does what makes a plan void.
 */
static HmRequest *next_request(Hybridmem *hm)
{
    HmRequest *rq;

    QSIMPLEQ_FOREACH(rq, &hm->requests, next) {
        if (rq->kind == HM_REQUEST_SWAP || !hm->planning) {
            break;
        }
    }
    return rq;
}

bool hm_wait_until(Hybridmem *hm, int64_t until_ns)
{
    bool go_on;

    qemu_mutex_lock(&hm->lock);
    while (!hm->quit) {
        HmRequest *rq = next_request(hm);
        int64_t left = until_ns - hm_now_ns();

        if (serve_heat(hm)) {
            continue;
        }
        if (rq) {
            QSIMPLEQ_REMOVE(&hm->requests, rq, HmRequest, next);
            qemu_mutex_unlock(&hm->lock);
            hm_serve(hm, rq);
            qemu_mutex_lock(&hm->lock);
            QSIMPLEQ_INSERT_TAIL(&hm->finished, rq, next);
            qemu_bh_schedule(hm->finish_bh);
            continue;
        }
        if (left <= 0 || (hm->params_changed && !hm->planning)) {
            break;
        }
        qemu_cond_timedwait(&hm->wake, &hm->lock,
                            DIV_ROUND_UP(left, 1000000));
    }
    go_on = !hm->quit;
    qemu_mutex_unlock(&hm->lock);
    return go_on;
}

bool hm_wait_alone(Hybridmem *hm, int64_t until_ns)
{
    bool whole;
    int64_t left;

    qemu_mutex_lock(&hm->lock);
    while ((left = until_ns - hm_now_ns()) > 0) {
        if (serve_heat(hm)) {
            continue;
        }
        if (hm->quit || hm->params_changed || next_request(hm)) {
            break;
        }
        qemu_cond_timedwait(&hm->wake, &hm->lock,
                            DIV_ROUND_UP(left, 1000000));
    }
    whole = left <= 0;
    qemu_mutex_unlock(&hm->lock);
    return whole;
}
