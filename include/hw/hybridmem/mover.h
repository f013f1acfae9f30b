/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The remap mover: carries out one cycle (frames.h) on memory that nobody
 * else writes meanwhile.  It neither decides nor holds the guest; hold.h
 * does the latter.
 *
 * A block's bytes are copied into the frame that it gets, through the
 * present mappings, then the frames are mapped at their new addresses.
 * Every step can fail, and every failure is undone: contents and mappings
 * are as before.  If even the undoing fails, HmRemap.broken is set: the
 * address range has no valid mapping, and the guest must not run again.
 *
 * Not thread-safe.  Knows nothing of QEMU; all side effects go through ops.
 */
#ifndef HW_HYBRIDMEM_MOVER_H
#define HW_HYBRIDMEM_MOVER_H

#include <sys/types.h>
#include "hw/hybridmem/frames.h"

typedef struct HmRemapOps {
    /* As mmap(2) with @flags | MAP_FIXED; 0, or an errno. */
    int (*map)(void *addr, size_t len, int flags, int fd, uint64_t fd_offset);
    /* As madvise(2); the result does not matter. */
    void (*advise)(void *addr, size_t len, int advice);
    /* memcpy(); false if an address could not be accessed (SIGBUS). */
    bool (*copy)(void *dst, const void *src, size_t len);
    /* As hm_safe_copy_pmem() and hm_safe_copy_drain(). */
    bool (*copy_pmem)(void *dst, const void *src, size_t len);
    void (*drain)(void);
} HmRemapOps;

/* The system's own. */
extern const HmRemapOps hm_remap_system_ops;

/* Where the frames of an extent lie; same order as the extents. */
typedef struct HmRemapFile {
    int fd;
    uint64_t fd_offset;         /* of the extent's first frame, bytes */
    int map_flags;              /* see HmTierFile */
    bool pmem;                  /* is copied to by copy_pmem */
} HmRemapFile;

typedef struct HmRemap {
    const HmRemapOps *ops;
    uint8_t *host;              /* where block 0 is mapped */
    size_t block_size;
    HmRemapFile *files;
    int advice;                 /* to give each new mapping; or -1 */
    uint8_t *buffer;            /* one block */
    /* Told of what is mapped anew, in bytes from @host; or NULL. */
    void (*mapped)(void *opaque, uint64_t offset, uint64_t len);
    void *opaque;
    bool undrained;             /* copy_pmem was called since the last drain */
    uint64_t pmem_copied;       /* bytes that copy_pmem has copied */
    bool broken;                /* see above */
    const char *error;          /* what failed last; static */
    int error_errno;            /* or 0 */
} HmRemap;

void hm_remap_init(HmRemap *m, const HmRemapOps *ops, void *host,
                   size_t block_size, const HmRemapFile *files,
                   unsigned n_files, int advice);
void hm_remap_destroy(HmRemap *m);

/*
 * Carries out @cycle.  @frames says where the blocks lie; on HM_MOVE_DONE
 * the caller must record it with hm_frames_apply().  HM_MOVE_FAILED: nothing
 * has changed, and m->error says why.  HM_MOVE_MAP_LIMIT: likewise, because
 * the kernel refused another mapping.
 */
HmMoveResult hm_remap_cycle(HmRemap *m, const HmFrames *frames,
                            const HmCycle *cycle);

/* Ends a batch of cycles: before anybody else may read what was copied. */
void hm_remap_drain(HmRemap *m);

#endif
