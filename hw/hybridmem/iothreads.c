/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All I/O threads that exist.  /objects does not tell: an I/O thread that
 * was deleted there lives on while a device uses it.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/iothreads.h"

static GPtrArray *iothreads;            /* of IOThread; under the BQL */

void hybridmem_iothread_begin(IOThread *iothread)
{
    if (!iothreads) {
        iothreads = g_ptr_array_new();
    }
    g_ptr_array_add(iothreads, iothread);
}

void hybridmem_iothread_end(IOThread *iothread)
{
    g_ptr_array_remove(iothreads, iothread);
}

void hm_iothread_foreach(void (*fn)(IOThread *iothread, void *opaque),
                         void *opaque)
{
    guint i;

    for (i = 0; iothreads && i < iothreads->len; i++) {
        fn(g_ptr_array_index(iothreads, i), opaque);
    }
}
