/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls, and memcpy(), that survive SIGBUS: a truncated file, a full file
 * system, a poisoned page.  Copies also by libpmem, to persistent memory.
 */
#ifndef HW_HYBRIDMEM_SAFE_COPY_H
#define HW_HYBRIDMEM_SAFE_COPY_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Calls @fn; false if it met an address that cannot be accessed, and was left
 * there.  It must hold, allocate and change nothing that needs undoing.  Any
 * thread that does not block SIGBUS, as for the others.
 */
bool hm_safe_call(void (*fn)(void *opaque), void *opaque);

/*
 * False if an address could not be accessed; @dst is then partly written.
 * Any thread that does not block SIGBUS.
 */
bool hm_safe_copy(void *dst, const void *src, size_t len);

/*
 * The same to @dst in persistent memory, by libpmem: with stores that go past
 * the caches, so that lines of a device that is slow to write are written
 * once, in order and whole, and the guest's own lines stay in the caches.
 * Others see them only after hm_safe_copy_drain() by the same thread.
 * Without libpmem hm_safe_copy() itself.
 */
bool hm_safe_copy_pmem(void *dst, const void *src, size_t len);

/* Once after a batch of hm_safe_copy_pmem(), failed ones included. */
void hm_safe_copy_drain(void);

/* Whether there is a libpmem to copy with. */
bool hm_safe_copy_has_pmem(void);

/*
 * From begin to end this thread takes SIGBUS, and @mask keeps what it blocked
 * before.  QEMU's main loop blocks SIGBUS, to read it from a signalfd; and a
 * fault while it is blocked kills the process, whatever the handler.
 */
void hm_safe_copy_begin(sigset_t *mask);
void hm_safe_copy_end(const sigset_t *mask);

/*
 * Puts our SIGBUS handler before the one that is installed; again when
 * somebody has replaced it since.  Once at least before hm_safe_copy().
 */
void hm_safe_copy_init(void);

#endif
