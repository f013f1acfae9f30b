/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Says which pages were accessed in a window, by "drop and look" or by "unmap
 * and log".  Private memory can only be watched by the latter.
 *
 * Drop and look: at the start of a window the entries of the watched pages are
 * dropped from QEMU's page table; the content stays in the file that they map,
 * and an MMU notifier drops KVM's entries too.  At its end /proc/self/pagemap
 * tells which are back: those that the guest, or QEMU, has used.
 *
 * Only mappings that are shared with their file are ever dropped: in private
 * memory it would destroy the guest's data.  One function does it, after a
 * look into /proc/self/maps; see hm_access_sampler_vouch().
 *
 * A read fault maps the neighbours of a page, too; what is done against that
 * is in access-uffd.h.  Where it cannot be, reads are seen by 64 KiB.  Pages of
 * hugetlb have no neighbours that are mapped with them.
 *
 * A trap, for who reads the dirty log of KVM: on x86 the first access to a
 * page after a drop marks it dirty even if it is a read, as KVM maps it for
 * writing at once.  hm_access_sampler_doubt() knows those pages.
 *
 * Unmap and log makes use of that.  Writes are logged, and then KVM is made to
 * lose its entries of the watched pages; QEMU's stay, and so does the content.
 * What the log says of them in the window is which were accessed.
 *
 * It sees the memory's own pages, one by one even within huge pages.  Not those
 * that it shares: pages of a file of which it has no copy yet, zero pages, KSM.
 */
#ifndef HW_HYBRIDMEM_ACCESS_SAMPLER_H
#define HW_HYBRIDMEM_ACCESS_SAMPLER_H

#include "hw/hybridmem/types.h"

typedef struct HmAccessSampler HmAccessSampler;

/* What is to be watched by the log, if it knows of first accesses at all. */
typedef enum HmAccessLog {
    HM_ACCESS_LOG_NOTHING,
    HM_ACCESS_LOG_PRIVATE,      /* private memory only */
    HM_ACCESS_LOG_ALL,          /* if it can be; mappings do not change */
} HmAccessLog;

/*
 * @host: page-aligned start of guest RAM, @size bytes, in pages of the host of
 * @host_page bytes (those of hugetlb, if it is that).  Returns NULL if its
 * accesses cannot be seen; *@why then says so, in a static string.
 */
HmAccessSampler *hm_access_sampler_new(void *host, uint64_t size,
                                       uint64_t page_size,
                                       uint64_t host_page,
                                       uint32_t pages_per_block,
                                       HmAccessLog log, const char **why);
void hm_access_sampler_free(HmAccessSampler *s);

/*
 * Is it the log that tells?  Then writes must be logged, with what was logged
 * before read, from before _start() until _read().
 */
bool hm_access_sampler_by_log(const HmAccessSampler *s);

/*
 * All that will be mapped in the range is shared with a file: there is no need
 * to read /proc/self/maps, which is long where blocks were mapped anew, for
 * each window.
 */
void hm_access_sampler_vouch(HmAccessSampler *s);

/*
 * Begins a window: watches these blocks, ascending.  @restore: at its end,
 * maps again what was mapped, for who asks the kernel where it is.  *@why is
 * NULL; or the kernel refuses, then it says so, and nothing is lost but the
 * window.
 */
bool hm_access_sampler_start(HmAccessSampler *s, const uint32_t *block,
                             size_t n, bool restore, const char **why);
/*
 * Ends it: sets the bits of those of their pages that were accessed.
 * @logged: writes were logged meanwhile, so the log may know them by a read.
 * By log: of @seen, which is what was logged, it leaves those pages.
 */
void hm_access_sampler_read(HmAccessSampler *s, const uint32_t *block,
                            size_t n, bool logged, unsigned long *seen);

/* Takes from @dirty what may be a read: see above. */
void hm_access_sampler_doubt(HmAccessSampler *s, unsigned long *dirty);

/* Any thread.  This part, in bytes, has been mapped anew. */
void hm_access_sampler_mapped(HmAccessSampler *s, uint64_t offset,
                              uint64_t len);
/* Any thread.  Another userfaultfd may have the range now. */
void hm_access_sampler_release(HmAccessSampler *s);
/* Also throughout the next window, should that begin at once. */
void hm_access_sampler_yield(HmAccessSampler *s);
/*
 * Any thread.  Reads are seen by 64 KiB from here on, until _fine(true); by
 * log, there are no windows.
 */
void hm_access_sampler_fine(HmAccessSampler *s, bool fine);
/* The least of bytes that a read is seen by. */
uint64_t hm_access_sampler_granule(const HmAccessSampler *s);

#endif
