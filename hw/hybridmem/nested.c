/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests in the guest, under KVM on Intel processors.
 */
#include "qemu/osdep.h"
#include <sys/utsname.h>
#include "hw/core/cpu.h"
#include "hw/hybridmem/nested.h"
#include "qom/object.h"
#include "system/kvm.h"

/*
 * Of struct kvm_run, which is ABI; the kernel's header cannot be included by
 * code that is the same for all targets.  Set since Linux 6.10.
 */
#define KVM_RUN_FLAGS_OFFSET 14
#define KVM_RUN_X86_GUEST_MODE (1 << 2)

#define KERNEL_THAT_TELLS (6 * 1000 + 10)

static bool kernel_tells(void)
{
    struct utsname u;
    unsigned major, minor;

    return uname(&u) == 0 &&
           sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
           major * 1000 + minor >= KERNEL_THAT_TELLS;
}

static bool has_vmx(CPUState *cpu)
{
    return object_property_find(OBJECT(cpu), "vmx") &&
           object_property_get_bool(OBJECT(cpu), "vmx", NULL);
}

bool hm_guest_may_nest_unseen(void)
{
    return kvm_enabled() && first_cpu && has_vmx(first_cpu) &&
           !kernel_tells();
}

bool hm_guest_is_nested(void)
{
    CPUState *cpu;

    if (!kvm_enabled()) {
        return false;
    }
    CPU_FOREACH(cpu) {
        uint16_t flags;

        if (!cpu->kvm_run) {
            continue;
        }
        memcpy(&flags, (const char *)cpu->kvm_run + KVM_RUN_FLAGS_OFFSET,
               sizeof(flags));
        if ((flags & KVM_RUN_X86_GUEST_MODE) && has_vmx(cpu)) {
            return true;
        }
    }
    return false;
}
