/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The remap mover: copy, then map.
 *
 * In a cycle, block[i] takes the frame of block[i + 1].  The copy goes
 * against the arrows, so that one buffer is enough:
 *
 *      before   A in f, B in g, C in h        cycle A -> g -> h -> f
 *      buffer = A;  f = C;  h = B;  g = buffer
 *      then map A at g, B at h, C at f
 */
#include "qemu/osdep.h"
#include <sys/mman.h>
#include "hw/hybridmem/mover.h"
#include "hw/hybridmem/safe-copy.h"

static int system_map(void *addr, size_t len, int flags, int fd,
                      uint64_t fd_offset)
{
    /* The access sampler relies on it. */
    g_assert((flags & MAP_TYPE) != MAP_PRIVATE);
    return mmap(addr, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd,
                fd_offset) == MAP_FAILED ? errno : 0;
}

static void system_advise(void *addr, size_t len, int advice)
{
    madvise(addr, len, advice);
}

const HmRemapOps hm_remap_system_ops = {
    .map = system_map,
    .advise = system_advise,
    .copy = hm_safe_copy,
    .copy_pmem = hm_safe_copy_pmem,
    .drain = hm_safe_copy_drain,
};

void hm_remap_init(HmRemap *m, const HmRemapOps *ops, void *host,
                   size_t block_size, const HmRemapFile *files,
                   unsigned n_files, int advice)
{
    *m = (HmRemap) {
        .ops = ops,
        .host = host,
        .block_size = block_size,
        .files = g_memdup2(files, n_files * sizeof(*files)),
        .advice = advice,
        .buffer = g_malloc(block_size),
    };
}

void hm_remap_destroy(HmRemap *m)
{
    g_free(m->files);
    g_free(m->buffer);
    *m = (HmRemap) { };
}

static uint8_t *address(const HmRemap *m, uint32_t block)
{
    return m->host + (uint64_t)block * m->block_size;
}

static int map_block(HmRemap *m, const HmFrames *fr, uint32_t block,
                     uint32_t frame)
{
    unsigned e = hm_frames_extent_of(fr, frame);
    const HmRemapFile *file = &m->files[e];
    uint64_t in_extent = frame - hm_frames_extent(fr, e)->first;
    int err = m->ops->map(address(m, block), m->block_size, file->map_flags,
                          file->fd,
                          file->fd_offset + in_extent * m->block_size);

    if (!err && m->advice >= 0) {
        m->ops->advise(address(m, block), m->block_size, m->advice);
    }
    if (!err && m->mapped) {
        m->mapped(m->opaque, (uint64_t)block * m->block_size, m->block_size);
    }
    return err;
}

/* Into the frame where @block is now, in the way that its memory wants. */
static bool copy_to_frame(HmRemap *m, const HmFrames *fr, uint32_t block,
                          const uint8_t *src)
{
    unsigned e = hm_frames_extent_of(fr, hm_frames_frame_of(fr, block));

    if (!m->files[e].pmem) {
        return m->ops->copy(address(m, block), src, m->block_size);
    }
    m->undrained = true;
    if (!m->ops->copy_pmem(address(m, block), src, m->block_size)) {
        return false;
    }
    m->pmem_copied += m->block_size;
    return true;
}

/*
 * Takes back the first @copied copies of copy_cycle(), the last one first:
 * each source gets back what it had.  A frame that cannot be accessed any
 * more is left: the host has lost what was in it, not we.
 */
static void uncopy_cycle(HmRemap *m, const HmFrames *fr, const HmCycle *cy,
                         unsigned copied)
{
    unsigned i;

    /* The source of copy n - 1 was the buffer. */
    for (i = MIN(copied, cy->n - 1); i-- > 0;) {
        unsigned dst = (cy->n - i) % cy->n;
        unsigned src = (dst + cy->n - 1) % cy->n;

        copy_to_frame(m, fr, cy->block[src], address(m, cy->block[dst]));
    }
    copy_to_frame(m, fr, cy->block[0], m->buffer);
}

/* Gives each frame of the cycle the bytes of its next block. */
static bool copy_cycle(HmRemap *m, const HmFrames *fr, const HmCycle *cy)
{
    unsigned i;

    if (!m->ops->copy(m->buffer, address(m, cy->block[0]), m->block_size)) {
        m->error = "cannot read the block";
        return false;
    }
    for (i = 0; i < cy->n; i++) {
        unsigned dst = (cy->n - i) % cy->n;
        unsigned src = (dst + cy->n - 1) % cy->n;
        const uint8_t *from = i == cy->n - 1 ?
                              m->buffer : address(m, cy->block[src]);

        if (!copy_to_frame(m, fr, cy->block[dst], from)) {
            m->error = "cannot copy the block into its new frame";
            /* What this copy spoilt is saved where the last one put it. */
            uncopy_cycle(m, fr, cy, i);
            return false;
        }
    }
    return true;
}

/* Maps the first @mapped blocks of the cycle back to where they were. */
static void unmap_cycle(HmRemap *m, const HmFrames *fr, const HmCycle *cy,
                        unsigned mapped)
{
    unsigned i;

    for (i = 0; i < mapped; i++) {
        if (map_block(m, fr, cy->block[i],
                      hm_frames_frame_of(fr, cy->block[i]))) {
            m->broken = true;
        }
    }
}

static bool map_cycle(HmRemap *m, const HmFrames *fr, const HmCycle *cy)
{
    unsigned i;

    for (i = 0; i < cy->n; i++) {
        uint32_t to = hm_frames_frame_of(fr, cy->block[(i + 1) % cy->n]);
        int err = map_block(m, fr, cy->block[i], to);

        if (err) {
            m->error = "cannot map the block to its new frame";
            m->error_errno = err;
            /*
             * A failed mmap() with MAP_FIXED may have taken the old mapping
             * away: map this one again, too.
             */
            unmap_cycle(m, fr, cy, i + 1);
            return false;
        }
    }
    return true;
}

HmMoveResult hm_remap_cycle(HmRemap *m, const HmFrames *fr, const HmCycle *cy)
{
    m->error = NULL;
    m->error_errno = 0;
    if (!copy_cycle(m, fr, cy)) {
        return HM_MOVE_FAILED;
    }
    if (map_cycle(m, fr, cy)) {
        return HM_MOVE_DONE;
    }
    if (!m->broken) {
        uncopy_cycle(m, fr, cy, cy->n);
    }
    return m->error_errno == ENOMEM ? HM_MOVE_MAP_LIMIT : HM_MOVE_FAILED;
}

void hm_remap_drain(HmRemap *m)
{
    if (m->undrained) {
        m->ops->drain();
        m->undrained = false;
    }
}
