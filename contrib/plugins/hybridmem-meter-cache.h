/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A model of caches: which accesses to lines reach memory.
 *
 * Each vCPU has up to two private levels, all share the last.  All are set
 * associative, write-back, write-allocate, and replace the least recently used
 * line.  They are neither inclusive nor exclusive: a line that is fetched is
 * put into every level; a level that evicts a line leaves the others alone; a
 * dirty line that is evicted goes to the next level, where that counts as a
 * use, and takes a place if it has none (without a fill: all of it is there).
 *
 * Coherence: a dirty line is in the private levels of one vCPU only.  A store
 * removes the line from those of all others, a load that misses in its own
 * cleans it there; in both cases dirty data goes to the shared level.
 */
#ifndef HYBRIDMEM_METER_CACHE_H
#define HYBRIDMEM_METER_CACHE_H

#include <inttypes.h>
#include <stdbool.h>

#define HM_LINE_BITS        6
#define HM_CACHE_WAYS_MAX   64
#define HM_CACHE_PRIVATE    2

/*
 * An entry: line number, tag, dirty bit.  The tag is the caller's (1 to 127),
 * and always the same for a line.  0: an empty way.
 */
#define HM_CACHE_DIRTY      1
#define HM_CACHE_TAG_BITS   8

typedef struct HmCache {
    uint64_t *entry;            /* sets x ways, most recently used first */
    uint64_t set_mask;
    unsigned ways;
} HmCache;

typedef struct HmCacheSize {
    uint64_t bytes;
    unsigned ways;              /* 0: no such level */
} HmCacheSize;

typedef struct HmCaches {
    unsigned vcpus;
    unsigned levels;            /* private ones */
    HmCache *own;               /* vcpus x levels, the nearest first */
    HmCache **first;            /* by vCPU: what it looks into first */
    HmCache llc;
    void (*fill)(uint64_t line, unsigned tag);
    void (*writeback)(uint64_t line, unsigned tag);
} HmCaches;

static inline uint64_t hm_cache_key(uint64_t line, unsigned tag)
{
    return line << HM_CACHE_TAG_BITS | (uint64_t)tag << 1;
}

static inline uint64_t hm_cache_line(uint64_t entry)
{
    return entry >> HM_CACHE_TAG_BITS;
}

static inline unsigned hm_cache_tag(uint64_t entry)
{
    return (entry & ((1u << HM_CACHE_TAG_BITS) - 1)) >> 1;
}

static inline uint64_t *hm_cache_set(const HmCache *c, uint64_t line)
{
    return &c->entry[(line & c->set_mask) * c->ways];
}

/* @size: l1, l2, llc; the number of sets must be a power of two. */
void hm_caches_init(HmCaches *c, unsigned vcpus,
                    const HmCacheSize size[HM_CACHE_PRIVATE + 1]);

void hm_caches_access_slow(HmCaches *c, unsigned vcpu, uint64_t key,
                           bool store);

/* Adds to dirty[tag] the lines that are dirty in some level, each once. */
void hm_caches_count_dirty(const HmCaches *c, uint64_t *dirty);

static inline void hm_caches_access(HmCaches *c, unsigned vcpu, uint64_t line,
                                    unsigned tag, bool store)
{
    uint64_t key = hm_cache_key(line, tag);
    uint64_t recent = *hm_cache_set(c->first[vcpu], line);

    if (recent != (key | HM_CACHE_DIRTY) && (store || recent != key)) {
        hm_caches_access_slow(c, vcpu, key, store);
    }
}

#endif
