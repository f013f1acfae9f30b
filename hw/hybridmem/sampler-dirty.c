/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Samples by the dirty log of one memory region.
 *
 * The client is DIRTY_MEMORY_VGA: the only one that can be switched on for
 * a single region, so that live migration's bits are left alone.  The log
 * says that everything is dirty when it is switched on; that is read and
 * thrown away.
 */
#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "exec/target_page.h"
#include "hw/hybridmem/sampler.h"

/*
 * Each read syncs the log of the whole region, whatever its range, so few
 * large slices are cheaper than many; 128 GiB are 4 MiB of bitmap to copy.
 */
#define SLICE (128 * GiB)

/* Pages asked for at once, at first; a power of 8. */
#define GRANULE 64

typedef struct DirtySampler {
    HmSampler base;
    GPtrArray *slices;          /* of DirtyBitmapSnapshot, in order */
    bool logging;
} DirtySampler;

static HmSampler *dirty_create(MemoryRegion *mr)
{
    DirtySampler *s = g_new0(DirtySampler, 1);

    s->base.ops = &hm_sampler_dirty_ops;
    s->base.mr = mr;
    s->slices = g_ptr_array_new_with_free_func(g_free);
    return &s->base;
}

static void dirty_destroy(HmSampler *base)
{
    DirtySampler *s = container_of(base, DirtySampler, base);

    g_ptr_array_free(s->slices, true);
    g_free(s);
}

static void set_logging(DirtySampler *s, bool on)
{
    if (s->logging != on) {
        memory_region_set_log(s->base.mr, on, DIRTY_MEMORY_VGA);
        s->logging = on;
    }
}

/*
 * Clearing the log makes KVM write-protect what was dirty, and the guest pays
 * a fault for each of these pages when it writes there again.  What is not
 * logged any more is not cleared in KVM: so fetch all, then switch off, then
 * take the snapshot.
 */
static void dirty_end(DirtySampler *s)
{
    if (s->logging) {
        memory_global_dirty_log_sync(false);
        set_logging(s, false);
    }
}

static bool dirty_read(HmSampler *base, bool last)
{
    DirtySampler *s = container_of(base, DirtySampler, base);
    uint64_t size = memory_region_size(base->mr);
    uint64_t start = s->slices->len * SLICE;
    uint64_t len = MIN(SLICE, size - start);

    if (last) {
        dirty_end(s);
    }
    g_ptr_array_add(s->slices,
                    memory_region_snapshot_and_clear_dirty(base->mr, start,
                                                           len,
                                                           DIRTY_MEMORY_VGA));
    return start + len == size;
}

static void dirty_start(HmSampler *base)
{
    DirtySampler *s = container_of(base, DirtySampler, base);

    set_logging(s, true);
    /* At once: KVM is asked about all of it for each part. */
    g_free(memory_region_snapshot_and_clear_dirty(base->mr, 0,
                                                  memory_region_size(base->mr),
                                                  DIRTY_MEMORY_VGA));
}

static void dirty_stop(HmSampler *base)
{
    DirtySampler *s = container_of(base, DirtySampler, base);

    set_logging(s, false);
    g_ptr_array_set_size(s->slices, 0);
}

/*
 * Pages are asked for @granule at once; where one of them is dirty, by pieces
 * an eighth as large.
 */
static void collect(MemoryRegion *mr, DirtyBitmapSnapshot *snap,
                    uint64_t page, uint64_t end, unsigned granule,
                    unsigned long *dirty)
{
    uint64_t size = qemu_target_page_size();
    uint64_t next;

    for (; page < end; page = next) {
        next = MIN(page + granule, end);
        if (!memory_region_snapshot_get_dirty(mr, snap, page * size,
                                              (next - page) * size)) {
            continue;
        }
        if (granule == 1) {
            set_bit(page, dirty);
        } else {
            collect(mr, snap, page, next, granule / 8, dirty);
        }
    }
}

static void dirty_collect(HmSampler *base, unsigned long *dirty)
{
    DirtySampler *s = container_of(base, DirtySampler, base);
    uint64_t page = qemu_target_page_size();
    uint64_t size = memory_region_size(base->mr);
    unsigned i;

    for (i = 0; i < s->slices->len; i++) {
        uint64_t start = i * SLICE;

        collect(base->mr, g_ptr_array_index(s->slices, i), start / page,
                MIN(start + SLICE, size) / page, GRANULE, dirty);
    }
    g_ptr_array_set_size(s->slices, 0);
}

const HmSamplerOps hm_sampler_dirty_ops = {
    .name = "dirty-log",
    .create = dirty_create,
    .destroy = dirty_destroy,
    .start = dirty_start,
    .read = dirty_read,
    .collect = dirty_collect,
    .stop = dirty_stop,
};
