/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>

#include "hybridmem-meter-cache.h"
#include "hybridmem-meter-mode.h"

void hm_mode_init(HmMode *c, uint64_t bytes)
{
    c->lines = bytes >> HM_LINE_BITS;
    c->entry = g_new0(uint64_t, c->lines);
}

bool hm_mode_access(HmMode *c, uint64_t key, bool writeback, uint64_t *evicted)
{
    uint64_t *at = &c->entry[hm_cache_line(key) % c->lines];
    uint64_t old = *at;

    *evicted = 0;
    if ((old & ~(uint64_t)HM_CACHE_DIRTY) == key) {
        *at = old | writeback;
        return true;
    }
    if (old & HM_CACHE_DIRTY) {
        *evicted = old;
    }
    *at = key | writeback;
    return false;
}

void hm_mode_count_dirty(const HmMode *c, uint64_t *dirty)
{
    for (uint64_t i = 0; i < c->lines; i++) {
        dirty[hm_cache_tag(c->entry[i])] += c->entry[i] & HM_CACHE_DIRTY;
    }
}
