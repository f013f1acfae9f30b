/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Says which pages were written in a window.
 *
 * The functions marked [main] run in the main loop under the BQL and take
 * bounded time: hm_sampler_read() cuts a large guest into slices, and is to
 * be called until it returns true.  hm_sampler_collect() runs anywhere, but
 * not at the same time as the others.
 */
#ifndef HW_HYBRIDMEM_SAMPLER_H
#define HW_HYBRIDMEM_SAMPLER_H

#include "hw/hybridmem/compat.h"

typedef struct HmSampler HmSampler;

typedef struct HmSamplerOps {
    const char *name;
    HmSampler *(*create)(MemoryRegion *mr);
    /* [main] after stop. */
    void (*destroy)(HmSampler *s);
    /* [main] Begins to watch.  What was written before does not count. */
    void (*start)(HmSampler *s);
    /*
     * [main] Reads one slice; true if that was the last.  With @last it need
     * not watch from there on, and stop comes next.
     */
    bool (*read)(HmSampler *s, bool last);
    /* Sets the bits of the pages written since start or the last collect. */
    void (*collect)(HmSampler *s, unsigned long *dirty);
    /* [main] Stops watching; drops what was read and not collected. */
    void (*stop)(HmSampler *s);
} HmSamplerOps;

/* First member of every sampler's own struct. */
struct HmSampler {
    const HmSamplerOps *ops;
    MemoryRegion *mr;
};

/* The dirty log of the region: KVM's bitmap, KVM's ring, or TCG. */
extern const HmSamplerOps hm_sampler_dirty_ops;

#endif
