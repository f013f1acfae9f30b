/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the hook lines in QEMU's own files call.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/atomic.h"
#include "hw/hybridmem/container.h"
#include "hw/hybridmem/hooks.h"
#include "hw/hybridmem/engine.h"

/*
 * Containers come and go under the BQL, before the machine exists and at
 * exit; devices look at the array from any thread.  More containers than
 * NUMA nodes make no sense.
 */
static HmContainer *containers[MAX_NODES];      /* atomic; with gaps */
static unsigned n_slots;                        /* atomic; never falls */

/* Set of vhost devices that began; under the BQL. */
static GHashTable *vhost_devices;

bool hm_hooks_add_container(HmContainer *c, Error **errp)
{
    unsigned i;

    for (i = 0; i < MAX_NODES; i++) {
        if (!containers[i]) {
            qatomic_set(&containers[i], c);
            if (i == n_slots) {
                qatomic_store_release(&n_slots, i + 1);
            }
            return true;
        }
    }
    error_setg(errp, "there are %u memory-backend-container objects already,"
               " which is the most", MAX_NODES);
    return false;
}

void hm_hooks_del_container(HmContainer *c)
{
    unsigned i;

    for (i = 0; i < n_slots; i++) {
        if (containers[i] == c) {
            qatomic_set(&containers[i], NULL);
        }
    }
}

void hm_container_foreach(void (*fn)(HmContainer *c, void *opaque),
                          void *opaque)
{
    unsigned i;

    for (i = 0; i < n_slots; i++) {
        if (containers[i]) {
            fn(containers[i], opaque);
        }
    }
}

static HmContainer *container_of_mr(MemoryRegion *mr)
{
    unsigned i, n = qatomic_load_acquire(&n_slots);

    for (i = 0; i < n; i++) {
        HmContainer *c = qatomic_read(&containers[i]);

        if (c && hm_container_mr(c) == mr) {
            return c;
        }
    }
    return NULL;
}

void hybridmem_dma_map(MemoryRegion *mr, hwaddr offset, hwaddr len)
{
    HmContainer *c = mr ? container_of_mr(mr) : NULL;

    if (c) {
        hm_pins_take(c->pins, offset, len);
    }
}

void hybridmem_dma_unmap(MemoryRegion *mr, hwaddr offset, hwaddr len)
{
    HmContainer *c = mr ? container_of_mr(mr) : NULL;

    if (c) {
        hm_pins_give(c->pins, offset, len);
    }
}

static void count_container(HmContainer *c, void *opaque)
{
    (*(unsigned *)opaque)++;
}

unsigned hm_container_count(void)
{
    unsigned n = 0;

    hm_container_foreach(count_container, &n);
    return n;
}

int hybridmem_vhost_begin(struct vhost_dev *dev, Error **errp)
{
    if (!vhost_devices) {
        vhost_devices = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_add(vhost_devices, dev);
    if (hm_container_count()) {
        error_setg(errp, "vhost is not possible with"
                   " memory-backend-container: it would go on using memory"
                   " that the engine has moved");
        error_append_hint(errp, "Use vhost=off, or a device without"
                          " vhost\n");
        return -ENOTSUP;
    }
    return 0;
}

void hybridmem_vhost_end(struct vhost_dev *dev)
{
    if (vhost_devices) {
        g_hash_table_remove(vhost_devices, dev);
    }
}

bool hybridmem_vhost_in_use(void)
{
    return vhost_devices && g_hash_table_size(vhost_devices) > 0;
}

static void is_backend_of(Hybridmem *hm, void *opaque)
{
    MemoryRegion **mr = opaque;

    if (hm->backend && &hm->backend->mr == *mr) {
        *mr = NULL;
    }
}

/*
 * vhost takes no RAM that logs for a client it does not know, for fear of
 * writes that are not logged.  For us they are writes that do not count.
 */
uint8_t hybridmem_vhost_dirty_mask(MemoryRegion *mr)
{
    hm_engine_foreach(is_backend_of, &mr);
    return mr ? 0 : 1 << DIRTY_MEMORY_VGA;
}

static void release_userfaultfd(Hybridmem *hm, void *unused)
{
    hm_accesses_yield(hm->accesses);
}

bool hybridmem_release_userfaultfd(void)
{
    hm_engine_foreach(release_userfaultfd, NULL);
    return true;
}
