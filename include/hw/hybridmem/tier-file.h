/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A range of a device or file that stands for a piece of memory: opening,
 * checking, locking and clearing it.  Knows nothing of guests.
 */
#ifndef HW_HYBRIDMEM_TIER_FILE_H
#define HW_HYBRIDMEM_TIER_FILE_H

#include "qemu/osdep.h"

typedef struct HmTierFile {
    int fd;
    uint64_t offset;        /* of the range in the file, bytes */
    uint64_t size;          /* of the range, bytes */
    uint64_t align;         /* of mappings, bytes */
    bool is_new;            /* reads as zeroes: nobody wrote to it */
    bool mergeable;         /* see HmExtent */
    bool can_punch;         /* a hole can be punched to clear it */
    bool dax;               /* mappings reach the memory itself */
    bool pmem;              /* copies into it go by libpmem */
    int map_flags;          /* for mmap(), besides MAP_FIXED */
} HmTierFile;

/*
 * Opens @path ("memfd": anonymous memory; a folder: a file without a name
 * in it; an absent file is made, a short one grown) for the range of @size
 * bytes at @offset, checks alignment and bounds, and locks the range against
 * other processes until it is closed.  Fails with @file->fd = -1.
 */
bool hm_tier_file_open(HmTierFile *file, const char *path, uint64_t offset,
                       uint64_t size, Error **errp);

/*
 * Makes the range, mapped at @host, read as zeroes; with several threads
 * and a line of progress where that takes long.
 */
bool hm_tier_file_clear(HmTierFile *file, const char *path, void *host,
                        Error **errp);

void hm_tier_file_close(HmTierFile *file);

#endif
