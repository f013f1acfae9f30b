/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the hook lines in QEMU's own files call.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/atomic.h"
#include "exec/target_page.h"
#include "hw/hybridmem/container.h"
#include "hw/hybridmem/hooks.h"
#include "hw/hybridmem/engine.h"

/*
 * Containers come and go under the BQL, before the machine exists and at
 * exit; devices look at the array from any thread.  More containers than
 * NUMA nodes make no sense.
 */
static HmContainer *containers[MAX_NODES];
static unsigned n_containers;           /* atomic; slots used, never falls */

/* Set of vhost devices that began; under the BQL. */
static GHashTable *vhost_devices;

void hm_hooks_add_container(HmContainer *c)
{
    assert(n_containers < MAX_NODES);
    qatomic_set(&containers[n_containers], c);
    qatomic_store_release(&n_containers, n_containers + 1);
}

void hm_hooks_del_container(HmContainer *c)
{
    unsigned i;

    for (i = 0; i < n_containers; i++) {
        if (containers[i] == c) {
            qatomic_set(&containers[i], NULL);
        }
    }
}

void hm_container_foreach(void (*fn)(HmContainer *c, void *opaque),
                          void *opaque)
{
    unsigned i;

    for (i = 0; i < n_containers; i++) {
        if (containers[i]) {
            fn(containers[i], opaque);
        }
    }
}

static HmContainer *container_of_mr(MemoryRegion *mr)
{
    unsigned i, n = qatomic_load_acquire(&n_containers);

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
    uint64_t page, end;

    if (!c || !len) {
        return;
    }
    end = DIV_ROUND_UP(offset + len, qemu_target_page_size());
    for (page = offset / qemu_target_page_size(); page < end; page++) {
        qatomic_inc(&c->pins[page]);
    }
}

void hybridmem_dma_unmap(MemoryRegion *mr, hwaddr offset, hwaddr len)
{
    HmContainer *c = mr ? container_of_mr(mr) : NULL;
    uint64_t page, end;

    if (!c || !len) {
        return;
    }
    end = DIV_ROUND_UP(offset + len, qemu_target_page_size());
    for (page = offset / qemu_target_page_size(); page < end; page++) {
        qatomic_dec(&c->pins[page]);
    }
}

int hybridmem_vhost_begin(struct vhost_dev *dev, Error **errp)
{
    if (!vhost_devices) {
        vhost_devices = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_add(vhost_devices, dev);
    if (qatomic_read(&n_containers)) {
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
