/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holds vCPUs and I/O threads.
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "block/aio.h"
#include "hw/core/cpu.h"
#include "hw/hybridmem/hold.h"
#include "hw/hybridmem/iothreads.h"
#include "trace.h"

/*
 * A thread that comes too late, after hm_hold_end(), finds @released set and
 * goes on at once: so the structure lives as long as one of them may come.
 */
struct HmHold {
    QemuMutex lock;
    QemuCond arrival;
    QemuCond release;
    /* Guarded by @lock. */
    unsigned refs;
    unsigned expected;
    unsigned parked;
    bool released;
};

static void hold_unref(HmHold *h)
{
    unsigned refs;

    qemu_mutex_lock(&h->lock);
    refs = --h->refs;
    qemu_mutex_unlock(&h->lock);
    if (!refs) {
        qemu_cond_destroy(&h->release);
        qemu_cond_destroy(&h->arrival);
        qemu_mutex_destroy(&h->lock);
        g_free(h);
    }
}

static void park(HmHold *h)
{
    qemu_mutex_lock(&h->lock);
    h->parked++;
    qemu_cond_signal(&h->arrival);
    while (!h->released) {
        qemu_cond_wait(&h->release, &h->lock);
    }
    qemu_mutex_unlock(&h->lock);
    hold_unref(h);
}

static void park_vcpu(CPUState *cpu, run_on_cpu_data data)
{
    bql_unlock();
    park(data.host_ptr);
    bql_lock();
}

static void park_iothread(void *opaque)
{
    park(opaque);
}

static void expect_one(HmHold *h)
{
    qemu_mutex_lock(&h->lock);
    h->refs++;
    h->expected++;
    qemu_mutex_unlock(&h->lock);
}

/* With single-threaded TCG all vCPUs share one thread. */
static bool thread_seen(CPUState *cpu)
{
    CPUState *other;

    CPU_FOREACH(other) {
        if (other == cpu) {
            return false;
        }
        if (other->thread == cpu->thread) {
            return true;
        }
    }
    return false;
}

static void call_vcpus(HmHold *h)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (!thread_seen(cpu)) {
            expect_one(h);
            async_run_on_cpu(cpu, park_vcpu, RUN_ON_CPU_HOST_PTR(h));
        }
    }
}

static void call_iothread(IOThread *io, void *opaque)
{
    HmHold *h = opaque;
    AioContext *ctx = iothread_get_aio_context(io);

    if (ctx) {
        expect_one(h);
        aio_bh_schedule_oneshot(ctx, park_iothread, h);
    }
}

static bool wait_for_arrivals(HmHold *h, int64_t deadline_ms)
{
    bool all;

    qemu_mutex_lock(&h->lock);
    while (h->parked < h->expected) {
        int64_t left = deadline_ms - g_get_monotonic_time() / 1000;

        if (left <= 0 || !qemu_cond_timedwait(&h->arrival, &h->lock, left)) {
            break;
        }
    }
    all = h->parked == h->expected;
    qemu_mutex_unlock(&h->lock);
    return all;
}

HmHold *hm_hold_begin(unsigned timeout_ms)
{
    HmHold *h = g_new0(HmHold, 1);
    int64_t deadline_ms = g_get_monotonic_time() / 1000 + timeout_ms;
    bool all;

    qemu_mutex_init(&h->lock);
    qemu_cond_init(&h->arrival);
    qemu_cond_init(&h->release);
    h->refs = 1;
    /*
     * vCPUs first: a vCPU in a device's code may be waiting for an I/O
     * thread, the other way round does not happen.  vCPUs need the BQL to
     * come.  I/O threads must come without: nobody may take the BQL while
     * they are parked, and then wait for one of them.
     */
    call_vcpus(h);
    bql_unlock();
    all = wait_for_arrivals(h, deadline_ms);
    bql_lock();
    if (all) {
        hm_iothread_foreach(call_iothread, h);
        if (wait_for_arrivals(h, deadline_ms)) {
            return h;
        }
    }
    trace_hybridmem_hold_timeout(h->parked, h->expected);
    hm_hold_end(h);
    return NULL;
}

void hm_hold_end(HmHold *h)
{
    qemu_mutex_lock(&h->lock);
    h->released = true;
    qemu_cond_broadcast(&h->release);
    qemu_mutex_unlock(&h->lock);
    hold_unref(h);
}
