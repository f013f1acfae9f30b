/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests in the guest, under KVM on Intel processors: while one is active,
 * the processor writes pages of the guest (virtual APIC, posted interrupts)
 * by physical address, which KVM does not look up anew when a mapping
 * changes.
 */
#ifndef HW_HYBRIDMEM_NESTED_H
#define HW_HYBRIDMEM_NESTED_H

#include <stdbool.h>

/*
 * The guest may have VMX, and the host's kernel is too old to tell when it
 * is in use.  Once the vCPUs exist.
 */
bool hm_guest_may_nest_unseen(void);

/* A vCPU has a guest of the guest active; with all vCPUs held. */
bool hm_guest_is_nested(void);

#endif
