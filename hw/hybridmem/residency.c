/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the pages of guest RAM were when the kernel was last asked.
 *
 * A page's HmPlace has two bits, which lie in two neighbouring words: one
 * with the low bits of 64 pages, one with their high bits.  So the pages of
 * a word can be counted at once, and what was never written is absent.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/residency.h"
#include "hw/hybridmem/bigmem.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"

#define WORD_PAGES 64

typedef struct HmPlaces {
    uint64_t low, high;
} HmPlaces;

struct HmResidency {
    uint64_t pages;
    uint32_t pages_per_block;
    uint64_t count[HM_PLACE__MAX];
    HmPlaces *places;           /* of WORD_PAGES pages each */
};

static size_t places_bytes(const HmResidency *r)
{
    return DIV_ROUND_UP(r->pages, WORD_PAGES) * sizeof(HmPlaces);
}

HmResidency *hm_residency_new(uint64_t pages, uint32_t pages_per_block)
{
    HmResidency *r = g_new0(HmResidency, 1);

    g_assert(pages > 0 && is_power_of_2(pages_per_block));
    r->pages = pages;
    r->pages_per_block = pages_per_block;
    r->count[HM_PLACE_ABSENT] = pages;
    r->places = hm_bigmem_new(places_bytes(r));
    return r;
}

void hm_residency_free(HmResidency *r)
{
    if (r) {
        hm_bigmem_free(r->places, places_bytes(r));
        g_free(r);
    }
}

static HmPlace place_at(const HmPlaces *at, unsigned bit)
{
    return (at->low >> bit & 1) | (at->high >> bit & 1) << 1;
}

HmPlace hm_residency_place(const HmResidency *r, uint64_t page)
{
    return place_at(&r->places[page / WORD_PAGES], page % WORD_PAGES);
}

HmPlace hm_residency_set(HmResidency *r, uint64_t page, HmPlace place)
{
    HmPlaces *at = &r->places[page / WORD_PAGES];
    unsigned bit = page % WORD_PAGES;
    HmPlace old;

    g_assert(page < r->pages && place < HM_PLACE__MAX);
    old = place_at(at, bit);
    if (old != place) {     /* do not touch memory that is as it should be */
        at->low ^= (uint64_t)((old ^ place) & 1) << bit;
        at->high ^= (uint64_t)((old ^ place) >> 1) << bit;
        r->count[old]--;
        r->count[place]++;
    }
    return old;
}

uint64_t hm_residency_pages(const HmResidency *r, HmPlace place)
{
    return r->count[place];
}

/* Bits of @at, of those in @mask, that are @place. */
static unsigned count_word(const HmPlaces *at, uint64_t mask, HmPlace place)
{
    uint64_t low = place & 1 ? at->low : ~at->low;
    uint64_t high = place & 2 ? at->high : ~at->high;

    return ctpop64(low & high & mask);
}

uint32_t hm_residency_block(const HmResidency *r, uint32_t block,
                            HmPlace place)
{
    uint64_t page = (uint64_t)block * r->pages_per_block;
    uint64_t end = MIN(page + r->pages_per_block, r->pages);
    uint32_t n = 0;

    while (page < end) {
        unsigned bit = page % WORD_PAGES;
        unsigned len = MIN(end - page, WORD_PAGES - bit);

        n += count_word(&r->places[page / WORD_PAGES],
                        MAKE_64BIT_MASK(bit, len), place);
        page += len;
    }
    return n;
}

size_t hm_residency_bytes(const HmResidency *r)
{
    return sizeof(*r) + places_bytes(r);
}
