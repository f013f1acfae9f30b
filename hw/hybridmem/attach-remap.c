/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The remap mover takes a memory-backend-container into use, and leaves it.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "exec/target_page.h"
#include "hw/hybridmem/engine.h"

#define MAX_MAP_COUNT "/proc/sys/vm/max_map_count"
#define MAX_MAP_COUNT_DEFAULT 65530
/* Well below where block numbers of 32 bits would wrap. */
#define MAX_BLOCKS (1ULL << 31)

/* A container's share of the kernel's limit, less an eighth for others. */
static uint64_t find_map_limit(void)
{
    g_autofree char *text = NULL;
    uint64_t max = MAX_MAP_COUNT_DEFAULT;

    if (g_file_get_contents(MAX_MAP_COUNT, &text, NULL, NULL)) {
        qemu_strtou64(g_strstrip(text), NULL, 10, &max);
    }
    return (max - max / 8) / hm_container_count();
}

/* Bytes of dram; and what all offsets and sizes are multiples of. */
static uint64_t survey(HmContainer *c, uint64_t *granule, uint64_t *align,
                       bool *mergeable)
{
    uint64_t dram = 0;
    unsigned i;

    *granule = 1ULL << 63;
    *align = qemu_target_page_size();
    *mergeable = true;
    for (i = 0; i < hm_container_n_children(c); i++) {
        const HmChild *o = hm_container_child(c, i);
        uint64_t both = o->offset | o->size;

        dram += o->tier == HM_TIER_DRAM ? o->size : 0;
        *granule = MIN(*granule, both & -both);
        *align = MAX(*align, o->align);
        *mergeable &= o->mergeable;
    }
    return dram;
}

static uint64_t worst_mappings(HmContainer *c, uint64_t dram, bool mergeable,
                               uint64_t block_size)
{
    return mergeable ? hm_frames_worst_mappings(dram / block_size) :
           hm_container_size(c) / block_size;
}

static bool choose_block_size(Hybridmem *hm, Error **errp)
{
    HmContainer *c = hm->container;
    uint64_t granule, align, dram;
    bool mergeable;

    dram = survey(c, &granule, &align, &mergeable);
    if (hm->block_size) {
        if (!is_power_of_2(hm->block_size) || hm->block_size < align ||
            hm->block_size > granule) {
            error_setg(errp, "block-size=%" PRIu64 " of '%s' must be a power"
                       " of two from %" PRIu64 " (the largest page size of"
                       " the tiers) to %" PRIu64 " (which divides the offset"
                       " and size of every child of '%s')", hm->block_size,
                       hm->id, align, granule, hm->memdev);
            return false;
        }
    } else {
        hm->block_size = align;
        while (worst_mappings(c, dram, mergeable, hm->block_size) >
               hm->map_limit && hm->block_size * 2 <= granule) {
            hm->block_size *= 2;
        }
        if (hm->block_size > granule) {
            error_setg(errp, "offsets and sizes of the children of '%s' must"
                       " be multiples of %" PRIu64 ", the largest page size"
                       " of the tiers", hm->memdev, align);
            return false;
        }
    }
    if (worst_mappings(c, dram, mergeable, hm->block_size) > hm->map_limit) {
        warn_report("hybridmem '%s': with block-size=%" PRIu64 " guest RAM"
                    " may need more than %" PRIu64 " mappings, and moves"
                    " will be skipped then; raise vm.max_map_count or"
                    " block-size", hm->id, hm->block_size, hm->map_limit);
    }
    if (hm_container_size(c) / hm->block_size > MAX_BLOCKS) {
        error_setg(errp, "'%s' is too large for block-size=%" PRIu64,
                   hm->memdev, hm->block_size);
        return false;
    }
    return true;
}

/* An earlier engine has left blocks out of their places. */
static bool inherit_block_size(Hybridmem *hm, Error **errp)
{
    HmContainer *c = hm->container;

    if (!c->frames) {
        return true;
    }
    if (hm->block_size && hm->block_size != c->frames_block_size) {
        error_setg(errp, "block-size=%" PRIu64 " of '%s' is not possible: an"
                   " earlier engine has laid out '%s' in blocks of %" PRIu64,
                   hm->block_size, hm->id, hm->memdev, c->frames_block_size);
        return false;
    }
    hm->block_size = c->frames_block_size;
    return true;
}

static void make_placement(Hybridmem *hm)
{
    unsigned i, n = hm_container_n_children(hm->container);
    g_autofree HmExtent *ext = g_new0(HmExtent, n);
    g_autofree HmRemapFile *files = g_new0(HmRemapFile, n);

    for (i = 0; i < n; i++) {
        const HmChild *o = hm_container_child(hm->container, i);

        ext[i] = (HmExtent) {
            .first = o->offset / hm->block_size,
            .blocks = o->size / hm->block_size,
            .tier = o->tier,
            .mergeable = o->mergeable,
        };
        files[i] = (HmRemapFile) {
            .fd = o->fd,
            .fd_offset = o->fd_offset,
            .map_flags = o->map_flags,
            .pmem = o->pmem,
        };
        hm->tier_pmem[o->tier] |= o->pmem;
    }
    hm->frames = hm->container->frames ?: hm_frames_new(ext, n);
    hm->container->frames = NULL;
    for (i = 0; i < HM_TIER__MAX; i++) {
        hm->tier_size[i] = hm->resident[i] =
            hm_frames_tier_blocks(hm->frames, i) * hm->block_size;
    }
    hm_remap_init(&hm->remap, &hm_remap_system_ops, hm->container->host,
                  hm->block_size, files, n,
                  hm->container->parent_obj.dump ? -1 : QEMU_MADV_DONTDUMP);
}

static bool takes_options(Hybridmem *hm, Error **errp)
{
    const char *option = hm->has_nodes[HM_TIER_DRAM] ? "fast-nodes" :
                         hm->has_nodes[HM_TIER_NVM] ? "slow-nodes" :
                         hm->has_fast_size ? "fast-size" : NULL;

    if (option) {
        error_setg(errp, "%s of '%s' is not possible with mover remap: the"
                   " tiers are the children of '%s'; leave it out, or give"
                   " mover=numa", option, hm->id, hm->memdev);
    }
    return !option;
}

static bool remap_attach(Hybridmem *hm, Error **errp)
{
    HmContainer *c = hm->container;

    if (c->broken) {
        error_setg(errp, "'%s' has lost a mapping: start QEMU anew",
                   hm->memdev);
        return false;
    }
    if (c->numa_placed) {
        error_setg(errp, "'%s' cannot manage '%s' by mover remap: an earlier"
                   " engine, with mover numa, has moved its pages between"
                   " the nodes of its children", hm->id, hm->memdev);
        return false;
    }
    if (!takes_options(hm, errp) || !hm_container_check(c, errp)) {
        return false;
    }
    hm->map_limit = find_map_limit();
    if (!inherit_block_size(hm, errp) || !choose_block_size(hm, errp)) {
        return false;
    }
    make_placement(hm);
    hm->mappings = hm_frames_mappings(hm->frames);
    return true;
}

/* Blocks stay where they are; the container remembers it for the next. */
static void remap_detach(Hybridmem *hm)
{
    hm_remap_destroy(&hm->remap);
    hm->container->frames = hm->frames;
    hm->container->frames_block_size = hm->block_size;
    hm->frames = NULL;
}

const HmMoverOps hm_mover_remap_ops = {
    .kind = HYBRIDMEM_MOVER_REMAP,
    .holds_guest = true,
    .attach = remap_attach,
    .detach = remap_detach,
    .carry_out = hm_remap_relocate,
};
