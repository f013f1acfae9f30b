/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Marks for the meter (contrib/plugins/hybridmem-meter.c, docs/meter.md): a
 * program at any level of a machine says which phase of a measurement begins.
 *
 * A mark is one x86 instruction that does nothing, nopl DISP(%rax), in 32-bit
 * or 64-bit code, of seven bytes:
 *
 *     0f 1f 80 PP PP 4d 48       PPPP: the phase, low byte first
 *
 * Phase 0 closes the phase that is open; another number closes it, too, and
 * opens that phase.  This header needs nothing of QEMU's.
 */
#ifndef HW_HYBRIDMEM_METER_MARK_H
#define HW_HYBRIDMEM_METER_MARK_H

#define HM_METER_MAGIC      0x484d0000
#define HM_METER_PHASE_MAX  0xffff

#ifdef __ASSEMBLER__

.macro hm_meter_mark phase
    .byte 0x0f, 0x1f, 0x80
    .long HM_METER_MAGIC + (\phase)
.endm

#else

/* @phase: a constant from 0 to HM_METER_PHASE_MAX */
#define HM_METER_MARK(phase)                                            \
    __asm__ __volatile__(".byte 0x0f, 0x1f, 0x80\n\t"                   \
                         ".long %c0"                                    \
                         : : "i" (HM_METER_MAGIC + (phase)) : "memory")

/* What hm_meter_mark() knows: one mark for each of these, in 16 bytes. */
#define HM_METER_VARIABLE   64

#ifdef __x86_64__
/* Marks a phase below HM_METER_VARIABLE that is known only at run time. */
static __attribute__((noinline, unused)) void hm_meter_mark(unsigned phase)
{
    unsigned long to = phase;

    if (phase >= HM_METER_VARIABLE) {
        return;
    }
    __asm__ __volatile__("shl $4, %0\n\t"
                         "lea 1f(%%rip), %%rax\n\t"
                         "add %%rax, %0\n\t"
                         "jmp *%0\n\t"
                         ".p2align 4\n"
                         "1:\n\t"
                         ".set hm_meter_n, 0\n\t"
                         ".rept %c1\n\t"
                         ".byte 0x0f, 0x1f, 0x80\n\t"
                         ".long %c2 + hm_meter_n\n\t"
                         "jmp 2f\n\t"
                         ".p2align 4\n\t"
                         ".set hm_meter_n, hm_meter_n + 1\n\t"
                         ".endr\n"
                         "2:"
                         : "+r" (to)
                         : "i" (HM_METER_VARIABLE), "i" (HM_METER_MAGIC)
                         : "rax", "cc", "memory");
}
#endif /* __x86_64__ */

#endif /* __ASSEMBLER__ */
#endif
