/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM that is composed of ranges of devices and files.
 *
 * A container owns one RAMBlock over one reserved range of host addresses.
 * Its children map themselves into that range.  A child is a memory-backend
 * too, because QEMU asks every one of them for its size, policy and so on,
 * but it has no RAMBlock, and counts as mapped from the start: nothing else
 * can take it for guest RAM.
 *
 * All functions need the BQL.
 */
#ifndef HW_HYBRIDMEM_CONTAINER_H
#define HW_HYBRIDMEM_CONTAINER_H

#include "hw/hybridmem/compat.h"
#include "system/hostmem.h"
#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/pins.h"

#define TYPE_MEMORY_BACKEND_CONTAINER "memory-backend-container"
#define TYPE_MEMORY_BACKEND_DEVMEM "memory-backend-devmem"

OBJECT_DECLARE_SIMPLE_TYPE(HmContainer, MEMORY_BACKEND_CONTAINER)

/* One child, as the container sees it. */
typedef struct HmChild {
    HostMemoryBackend *backend;
    const char *path;       /* mem-path, for messages */
    uint64_t offset;        /* in the container, bytes */
    uint64_t size;          /* bytes */
    int fd;                 /* owned by the child */
    uint64_t fd_offset;     /* bytes */
    uint64_t align;         /* that the file needs, bytes */
    HmTier tier;
    bool mergeable;         /* neighbouring mappings become one VMA */
    int map_flags;          /* see HmTierFile */
    bool pmem;              /* likewise */
} HmChild;

struct HmContainer {
    HostMemoryBackend parent_obj;

    bool rebalance;
    uint8_t *host;          /* the reserved range */
    GArray *children;       /* of HmChild, by offset */
    struct HmFrames *frames;    /* placement that an engine has left */
    uint64_t frames_block_size;
    HmPins *pins;           /* mappings that devices hold */
    bool numa_placed;       /* the kernel has moved pages between the tiers */
    bool broken;            /* see HmRemap */
    Notifier machine_done;
    Error *cpr_blocker;
    NotifierWithReturn postcopy;
    bool discard_required;
};

/*
 * Maps @child's file range into the container.  Fails, with nothing
 * changed, when it is misaligned, out of bounds or overlaps another child.
 */
bool hm_container_add(HmContainer *c, const HmChild *child, Error **errp);

/*
 * Maps the child of @backend anew where it was: what mbind() leaves on a
 * mapping would keep it from ever merging with those that moves make.
 */
bool hm_container_map_again(HmContainer *c, HostMemoryBackend *backend,
                            Error **errp);

/* Takes the child of @backend out again, if it is in. */
void hm_container_remove(HmContainer *c, HostMemoryBackend *backend);

/* True if the children cover the container; else @errp names the hole. */
bool hm_container_check(HmContainer *c, Error **errp);

static inline unsigned hm_container_n_children(const HmContainer *c)
{
    return c->children->len;
}

static inline const HmChild *hm_container_child(const HmContainer *c,
                                                unsigned i)
{
    return &g_array_index(c->children, HmChild, i);
}

static inline uint64_t hm_container_size(const HmContainer *c)
{
    return c->parent_obj.size;
}

static inline MemoryRegion *hm_container_mr(HmContainer *c)
{
    return &c->parent_obj.mr;
}

/* Calls @fn for each container that exists. */
void hm_container_foreach(void (*fn)(HmContainer *c, void *opaque),
                          void *opaque);
unsigned hm_container_count(void);

#endif
