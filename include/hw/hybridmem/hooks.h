/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the hook lines in QEMU's own files call.  All of it is cheap when
 * there is no container: one load and a compare.
 */
#ifndef HW_HYBRIDMEM_HOOKS_H
#define HW_HYBRIDMEM_HOOKS_H

#include "hw/hybridmem/compat.h"

struct vhost_dev;

/*
 * A device takes, or gives back, the host address of guest RAM: until then
 * the kernel may hold physical references to it (O_DIRECT, io_uring, aio),
 * so its blocks must keep their frames.  From any thread.  @mr may be NULL.
 */
void hybridmem_dma_map(MemoryRegion *mr, hwaddr offset, hwaddr len);
void hybridmem_dma_unmap(MemoryRegion *mr, hwaddr offset, hwaddr len);

/*
 * A vhost device begins (and ends).  It would go on using frames behind our
 * back: refused while there is a container, and a container is refused while
 * there is a vhost device.  Returns 0 or a negative errno with @errp set.
 * hybridmem_vhost_end() may be called for a device that never began.
 */
int hybridmem_vhost_begin(struct vhost_dev *dev, Error **errp);
void hybridmem_vhost_end(struct vhost_dev *dev);
bool hybridmem_vhost_in_use(void);

/*
 * Migration is going to try a userfaultfd of its own on all of guest RAM;
 * engines have none for now.  Main loop.  Always true.
 */
bool hybridmem_release_userfaultfd(void);

/* Dirty clients (bits 1 << DIRTY_MEMORY_*) of @mr that vhost may ignore. */
uint8_t hybridmem_vhost_dirty_mask(MemoryRegion *mr);

#endif
