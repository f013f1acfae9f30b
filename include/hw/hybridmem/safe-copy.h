/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memcpy() that survives SIGBUS: a truncated file, a full file system, a
 * poisoned page.
 */
#ifndef HW_HYBRIDMEM_SAFE_COPY_H
#define HW_HYBRIDMEM_SAFE_COPY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * False if an address could not be accessed; @dst is then partly written.
 * Any thread that does not block SIGBUS.
 */
bool hm_safe_copy(void *dst, const void *src, size_t len);

/*
 * Puts our SIGBUS handler before the one that is installed; again when
 * somebody has replaced it since.  Once at least before hm_safe_copy().
 */
void hm_safe_copy_init(void);

#endif
