/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only file that knows versions of QEMU: 10.0 and 10.2.
 */
#ifndef HW_HYBRIDMEM_COMPAT_H
#define HW_HYBRIDMEM_COMPAT_H

#include "qemu/osdep.h"

#if __has_include("system/memory.h")
#include "system/memory.h"
#include "system/address-spaces.h"
#include "system/ramblock.h"
#else
#include "exec/memory.h"
#include "exec/address-spaces.h"
#include "exec/ramblock.h"
#endif

#if __has_include("hw/core/boards.h")
#include "hw/core/boards.h"
#else
#include "hw/boards.h"
#endif

#include "migration/blocker.h"
#include "migration/misc.h"

/* class_init's second argument became const in 10.1. */
#if QEMU_VERSION_MAJOR > 10 || \
    (QEMU_VERSION_MAJOR == 10 && QEMU_VERSION_MINOR >= 1)
typedef const void HmClassData;
typedef const InterfaceInfo HmInterfaceInfo;
#else
typedef void HmClassData;
typedef InterfaceInfo HmInterfaceInfo;
#endif

/* Modes became a bit set in 10.2. */
static inline int hm_block_cpr_reboot(Error **reason, Error **errp)
{
#if QEMU_VERSION_MAJOR > 10 || \
    (QEMU_VERSION_MAJOR == 10 && QEMU_VERSION_MINOR >= 2)
    return migrate_add_blocker_modes(reason, BIT(MIG_MODE_CPR_REBOOT), errp);
#else
    return migrate_add_blocker_modes(reason, errp, MIG_MODE_CPR_REBOOT, -1);
#endif
}

#endif
