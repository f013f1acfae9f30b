/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for arrays with an element per block: zeroed, from the host kernel
 * only when touched, in huge pages where they are large (random access to
 * gigabytes would otherwise miss the TLB each time).
 */
#ifndef HW_HYBRIDMEM_BIGMEM_H
#define HW_HYBRIDMEM_BIGMEM_H

#include <sys/mman.h>

#define HM_BIGMEM_HUGE_MIN (4 * 1024 * 1024)    /* bytes */

/* Like g_malloc0(), ends the process if there is no address space left. */
static inline void *hm_bigmem_new(size_t bytes)
{
    void *p = mmap(NULL, MAX(bytes, 1), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        g_error("hybridmem: cannot reserve %zu bytes of metadata", bytes);
    }
    if (bytes >= HM_BIGMEM_HUGE_MIN) {
        /* Advice only: slower without, not wrong. */
        (void)madvise(p, bytes, MADV_HUGEPAGE);
    }
    return p;
}

static inline void hm_bigmem_free(void *p, size_t bytes)
{
    if (p) {
        munmap(p, MAX(bytes, 1));
    }
}

/* All zero again; gives the memory back. */
static inline void hm_bigmem_clear(void *p, size_t bytes)
{
    if (madvise(p, bytes, MADV_DONTNEED)) {
        memset(p, 0, bytes);
    }
}

#endif
