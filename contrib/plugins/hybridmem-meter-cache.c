/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <string.h>

#include "hybridmem-meter-cache.h"

static void cache_init(HmCache *c, const HmCacheSize *size)
{
    uint64_t entries = size->bytes >> HM_LINE_BITS;

    c->entry = g_new0(uint64_t, entries);
    c->ways = size->ways;
    c->set_mask = entries / size->ways - 1;
}

static HmCache *own_caches(const HmCaches *c, unsigned vcpu)
{
    return &c->own[vcpu * c->levels];
}

void hm_caches_init(HmCaches *c, unsigned vcpus,
                    const HmCacheSize size[HM_CACHE_PRIVATE + 1])
{
    c->vcpus = vcpus;
    c->levels = 0;
    c->own = g_new0(HmCache, vcpus * HM_CACHE_PRIVATE);
    c->first = g_new(HmCache *, vcpus);
    cache_init(&c->llc, &size[HM_CACHE_PRIVATE]);
    for (unsigned i = 0; i < HM_CACHE_PRIVATE; i++) {
        c->levels += size[i].ways != 0;
    }
    for (unsigned v = 0; v < vcpus; v++) {
        HmCache *next = own_caches(c, v);

        c->first[v] = c->levels ? next : &c->llc;
        for (unsigned i = 0; i < HM_CACHE_PRIVATE; i++) {
            if (size[i].ways) {
                cache_init(next++, &size[i]);
            }
        }
    }
}

/* The entry of a line, or NULL. */
static uint64_t *lookup(const HmCache *c, uint64_t key)
{
    uint64_t *set = hm_cache_set(c, hm_cache_line(key));

    for (unsigned i = 0; i < c->ways; i++) {
        if ((set[i] & ~(uint64_t)HM_CACHE_DIRTY) == key) {
            return &set[i];
        }
    }
    return NULL;
}

/* Makes @entry, which lies in @at or is new there, the most recent. */
static void to_front(const HmCache *c, uint64_t *at, uint64_t entry)
{
    uint64_t *set = hm_cache_set(c, hm_cache_line(entry));

    memmove(set + 1, set, (char *)at - (char *)set);
    *set = entry;
}

static bool use(const HmCache *c, uint64_t key, uint64_t dirty)
{
    uint64_t *at = lookup(c, key);

    if (!at) {
        return false;
    }
    to_front(c, at, *at | dirty);
    return true;
}

/* The line is not there.  Returns what it takes the place of, or 0. */
static uint64_t insert(const HmCache *c, uint64_t entry)
{
    uint64_t *last = hm_cache_set(c, hm_cache_line(entry)) + c->ways - 1;
    uint64_t victim = *last;

    to_front(c, last, entry);
    return victim;
}

static uint64_t key_of(uint64_t entry)
{
    return entry & ~(uint64_t)HM_CACHE_DIRTY;
}

static void insert_llc(HmCaches *c, uint64_t entry)
{
    uint64_t victim = insert(&c->llc, entry);

    if (victim & HM_CACHE_DIRTY) {
        c->writeback(hm_cache_line(victim), hm_cache_tag(victim));
    }
}

/* A dirty line leaves level @from - 1 of @vcpu. */
static void put_dirty(HmCaches *c, unsigned vcpu, unsigned from,
                      uint64_t entry)
{
    for (unsigned i = from; i < c->levels; i++) {
        HmCache *own = &own_caches(c, vcpu)[i];

        if (use(own, key_of(entry), HM_CACHE_DIRTY)) {
            return;
        }
        entry = insert(own, entry);
        if (!(entry & HM_CACHE_DIRTY)) {
            return;
        }
    }
    if (!use(&c->llc, key_of(entry), HM_CACHE_DIRTY)) {
        insert_llc(c, entry);
    }
}

/* Removes the line from @own, or cleans it; returns its dirty bit. */
static uint64_t snoop(const HmCache *own, uint64_t key, bool remove)
{
    uint64_t *at = lookup(own, key);
    uint64_t *end;
    uint64_t dirty;

    if (!at) {
        return 0;
    }
    dirty = *at & HM_CACHE_DIRTY;
    *at = key;
    if (remove) {
        end = hm_cache_set(own, hm_cache_line(key)) + own->ways;
        memmove(at, at + 1, (char *)(end - 1) - (char *)at);
        end[-1] = 0;
    }
    return dirty;
}

static void snoop_others(HmCaches *c, unsigned vcpu, uint64_t key, bool remove)
{
    for (unsigned v = 0; v < c->vcpus; v++) {
        uint64_t dirty = 0;

        for (unsigned i = 0; i < c->levels && v != vcpu; i++) {
            dirty |= snoop(&own_caches(c, v)[i], key, remove);
        }
        if (dirty) {
            put_dirty(c, v, c->levels, key | HM_CACHE_DIRTY);
        }
    }
}

static void fetch(HmCaches *c, uint64_t key, uint64_t dirty)
{
    if (!use(&c->llc, key, dirty)) {
        c->fill(hm_cache_line(key), hm_cache_tag(key));
        insert_llc(c, key | dirty);
    }
}

void hm_caches_access_slow(HmCaches *c, unsigned vcpu, uint64_t key,
                           bool store)
{
    HmCache *own = own_caches(c, vcpu);
    unsigned hit = 0;

    if (!c->levels) {
        fetch(c, key, store);
        return;
    }
    while (hit < c->levels && !use(&own[hit], key, hit == 0 && store)) {
        hit++;
    }
    if (c->vcpus > 1 && (store || hit == c->levels)) {
        snoop_others(c, vcpu, key, store);
    }
    if (hit == c->levels) {
        fetch(c, key, 0);
    }
    while (hit-- > 0) {
        uint64_t victim = insert(&own[hit], key | (hit == 0 && store));

        if (victim & HM_CACHE_DIRTY) {
            put_dirty(c, vcpu, hit + 1, victim);
        }
    }
}

static bool dirty_in(const HmCache *c, uint64_t entry)
{
    const uint64_t *at = lookup(c, key_of(entry));

    return at && *at & HM_CACHE_DIRTY;
}

/* @below: the @n levels that follow @cache; a line there is counted there. */
static void count_dirty(const HmCache *cache, const HmCache *below, unsigned n,
                        const HmCache *llc, uint64_t *dirty)
{
    uint64_t entries = (cache->set_mask + 1) * cache->ways;

    for (uint64_t i = 0; i < entries; i++) {
        uint64_t entry = cache->entry[i];
        bool counted = !(entry & HM_CACHE_DIRTY) ||
                       (llc && dirty_in(llc, entry));

        for (unsigned j = 0; j < n && !counted; j++) {
            counted = dirty_in(&below[j], entry);
        }
        dirty[hm_cache_tag(entry)] += !counted;
    }
}

void hm_caches_count_dirty(const HmCaches *c, uint64_t *dirty)
{
    count_dirty(&c->llc, NULL, 0, NULL, dirty);
    for (unsigned v = 0; v < c->vcpus; v++) {
        const HmCache *own = own_caches(c, v);

        for (unsigned i = 0; i < c->levels; i++) {
            count_dirty(&own[i], &own[i + 1], c->levels - i - 1, &c->llc,
                        dirty);
        }
    }
}
