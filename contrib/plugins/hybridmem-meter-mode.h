/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory mode: DRAM as a direct-mapped, write-back, write-allocate cache of
 * lines before NVM.  The CPU's caches are on its other side: what they fill
 * is read from it, what they write back is written to it.
 *
 * It keeps copies, so NVM has all of its memory still; and it takes nothing
 * out of the CPU's caches when it evicts a line.
 */
#ifndef HYBRIDMEM_METER_MODE_H
#define HYBRIDMEM_METER_MODE_H

#include <inttypes.h>
#include <stdbool.h>

/* What happens to a line of a range; the first four in this order. */
enum {
    HM_MODE_FILL_HITS, HM_MODE_FILL_MISSES,
    HM_MODE_WRITEBACK_HITS, HM_MODE_WRITEBACK_MISSES,
    HM_MODE_NVM_WRITES,             /* dirty lines that it evicted */
    HM_MODE_EVENTS
};

/* Entries as those of HmCache; 0: empty. */
typedef struct HmMode {
    uint64_t *entry;
    uint64_t lines;
} HmMode;

/* @bytes: a multiple of the line, not 0. */
void hm_mode_init(HmMode *c, uint64_t bytes);

/*
 * A line passes, and is in the cache then.  True if it was there before; else
 * @evicted is the dirty entry that had to go, or 0.
 */
bool hm_mode_access(HmMode *c, uint64_t key, bool writeback,
                    uint64_t *evicted);

/* Adds to dirty[tag] the lines that are dirty. */
void hm_mode_count_dirty(const HmMode *c, uint64_t *dirty);

#endif
