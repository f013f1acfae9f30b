/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A userfaultfd that has all of guest RAM, so that accesses are seen page by
 * page; and when it is let go.
 *
 * A read fault maps the neighbours of a page, too (fault-around; 64 KiB by
 * default).  Ranges that are registered with a userfaultfd for write protection
 * are exempt from that.  So all is registered, and nothing is protected: nobody
 * ever has to handle a fault.
 *
 * Only one userfaultfd can have a range, and migration wants its own.  So it is
 * let go of on request, and had again by the next window that may have it.  It
 * is kept between windows, for when it goes KVM loses all entries, mapping by
 * mapping; so what is mapped anew is registered, too, and merges with its
 * neighbours as it would without.  What it does not have for sure is never
 * unregistered: before Linux 6.17 that takes it from whoever does.
 *
 * Any thread may call, but windows are one thread's.
 */
#ifndef HW_HYBRIDMEM_ACCESS_UFFD_H
#define HW_HYBRIDMEM_ACCESS_UFFD_H

/* Bytes whose pages a read fault maps where no userfaultfd has them. */
#define HM_FAULT_AROUND (64 * 1024)

typedef struct HmAccessUffd HmAccessUffd;

/* Of @size bytes from @host on, page-aligned.  Has nothing yet. */
HmAccessUffd *hm_access_uffd_new(void *host, uint64_t size);
/* Lets go. */
void hm_access_uffd_free(HmAccessUffd *u);

/*
 * A window begins: has all from now on, unless it may not, or cannot.  Where
 * only some can be had, somebody may have the rest, so it has none.
 */
void hm_access_uffd_begin(HmAccessUffd *u);
/* A window ends. */
void hm_access_uffd_end(HmAccessUffd *u);
/* Did it have all until the last window ended; or has, since one began? */
bool hm_access_uffd_held(HmAccessUffd *u);

/*
 * KVM loses its entries of this part; QEMU's page table keeps them.  So it is
 * where write protection is taken back, also where there was none.  False if it
 * has not all, or, before Linux 6.5, if that is more than one mapping.
 */
bool hm_access_uffd_unmap(HmAccessUffd *u, uint64_t offset, uint64_t len);

/* Since the last call, KVM has lost all entries, or some that nobody knows. */
bool hm_access_uffd_lost(HmAccessUffd *u);

/* This part has been mapped anew. */
void hm_access_uffd_mapped(HmAccessUffd *u, uint64_t offset, uint64_t len);
/* Another one may have the range now. */
void hm_access_uffd_release(HmAccessUffd *u);
/* Also throughout the next window, should that begin at once. */
void hm_access_uffd_yield(HmAccessUffd *u);
/* Windows may have it, or, from now on, not. */
void hm_access_uffd_allow(HmAccessUffd *u, bool allowed);

#endif
