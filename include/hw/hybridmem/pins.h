/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages whose host address a device has taken.
 *
 * Each mapping is remembered by where it begins, and given back as it was
 * taken: devices do not always say the same length again (ramfb does not),
 * and what the guest can provoke must not unpin another device's pages.  A
 * mapping that is given back under another address stays: its pages never
 * move again, which is safe.
 *
 * Any thread, except new and free.
 */
#ifndef HW_HYBRIDMEM_PINS_H
#define HW_HYBRIDMEM_PINS_H

#include "qemu/osdep.h"

typedef struct HmPins HmPins;

/* For @size bytes in pages of @page_size (a power of two). */
HmPins *hm_pins_new(uint64_t size, uint64_t page_size);
void hm_pins_free(HmPins *p);

/* Ranges that leave the container are cut at its end. */
void hm_pins_take(HmPins *p, uint64_t offset, uint64_t len);
/* @len picks one of several mappings that begin at @offset. */
void hm_pins_give(HmPins *p, uint64_t offset, uint64_t len);

/*
 * True if a page of the range is taken.  The answer lasts only while nobody
 * can take one: under the BQL, with vCPUs and I/O threads held.
 */
bool hm_pins_any(const HmPins *p, uint64_t offset, uint64_t len);

#endif
