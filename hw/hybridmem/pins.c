/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages whose host address a device has taken.
 */
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/thread.h"
#include "hw/hybridmem/pins.h"

/* So many that queues of several devices seldom meet. */
#define SHARDS 64

typedef struct Mapping Mapping;
struct Mapping {
    uint64_t len;
    Mapping *next;              /* begins at the same offset */
};

typedef struct Shard {
    QemuMutex lock;
    GHashTable *mappings;       /* offset -> Mapping; guarded by @lock */
} Shard;

struct HmPins {
    uint64_t size;
    uint64_t page_size;
    uint32_t *count;            /* per page; atomic */
    Shard shard[SHARDS];
};

HmPins *hm_pins_new(uint64_t size, uint64_t page_size)
{
    HmPins *p = g_new0(HmPins, 1);
    unsigned i;

    p->size = size;
    p->page_size = page_size;
    p->count = g_malloc0_n(DIV_ROUND_UP(size, page_size), sizeof(*p->count));
    for (i = 0; i < SHARDS; i++) {
        qemu_mutex_init(&p->shard[i].lock);
        p->shard[i].mappings = g_hash_table_new_full(g_int64_hash,
                                                     g_int64_equal, g_free,
                                                     NULL);
    }
    return p;
}

static void free_list(gpointer key, gpointer value, gpointer unused)
{
    Mapping *m = value;

    while (m) {
        Mapping *next = m->next;

        g_free(m);
        m = next;
    }
}

void hm_pins_free(HmPins *p)
{
    unsigned i;

    if (!p) {
        return;
    }
    for (i = 0; i < SHARDS; i++) {
        g_hash_table_foreach(p->shard[i].mappings, free_list, NULL);
        g_hash_table_destroy(p->shard[i].mappings);
        qemu_mutex_destroy(&p->shard[i].lock);
    }
    g_free(p->count);
    g_free(p);
}

static Shard *shard_of(HmPins *p, uint64_t offset)
{
    return &p->shard[offset / p->page_size % SHARDS];
}

static uint64_t cut(const HmPins *p, uint64_t offset, uint64_t len)
{
    return offset >= p->size ? 0 : MIN(len, p->size - offset);
}

static void count_pages(HmPins *p, uint64_t offset, uint64_t len, int n)
{
    uint64_t page = offset / p->page_size;
    uint64_t end = DIV_ROUND_UP(offset + len, p->page_size);

    for (; page < end; page++) {
        qatomic_add(&p->count[page], n);
    }
}

void hm_pins_take(HmPins *p, uint64_t offset, uint64_t len)
{
    Shard *s = shard_of(p, offset);
    Mapping *m;

    len = cut(p, offset, len);
    if (!len) {
        return;
    }
    count_pages(p, offset, len, 1);
    m = g_new(Mapping, 1);
    m->len = len;
    qemu_mutex_lock(&s->lock);
    m->next = g_hash_table_lookup(s->mappings, &offset);
    g_hash_table_replace(s->mappings, g_memdup2(&offset, sizeof(offset)), m);
    qemu_mutex_unlock(&s->lock);
}

/* The mapping of that length, else the last one made. */
static Mapping **pick(Mapping **list, uint64_t len)
{
    Mapping **m;

    for (m = list; *m; m = &(*m)->next) {
        if ((*m)->len == len) {
            return m;
        }
    }
    return list;
}

void hm_pins_give(HmPins *p, uint64_t offset, uint64_t len)
{
    Shard *s = shard_of(p, offset);
    Mapping *first, **which, *m;

    qemu_mutex_lock(&s->lock);
    first = g_hash_table_lookup(s->mappings, &offset);
    if (!first) {
        qemu_mutex_unlock(&s->lock);
        return;
    }
    which = pick(&first, len);
    m = *which;
    *which = m->next;
    if (first) {
        g_hash_table_replace(s->mappings,
                             g_memdup2(&offset, sizeof(offset)), first);
    } else {
        g_hash_table_remove(s->mappings, &offset);
    }
    qemu_mutex_unlock(&s->lock);
    count_pages(p, offset, m->len, -1);
    g_free(m);
}

bool hm_pins_any(const HmPins *p, uint64_t offset, uint64_t len)
{
    uint64_t page = offset / p->page_size;
    uint64_t end = DIV_ROUND_UP(offset + cut(p, offset, len), p->page_size);

    for (; page < end; page++) {
        if (qatomic_read(&p->count[page])) {
            return true;
        }
    }
    return false;
}
