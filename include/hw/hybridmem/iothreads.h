/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All I/O threads that exist.  Under the BQL.
 */
#ifndef HW_HYBRIDMEM_IOTHREADS_H
#define HW_HYBRIDMEM_IOTHREADS_H

#include "system/iothread.h"

/* Hooks: an I/O thread is made, and gone.  It may have no context yet. */
void hybridmem_iothread_begin(IOThread *iothread);
void hybridmem_iothread_end(IOThread *iothread);

void hm_iothread_foreach(void (*fn)(IOThread *iothread, void *opaque),
                         void *opaque);

#endif
