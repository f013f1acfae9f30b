/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest in the place of the firmware that carries out a list of operations
 * on memory, so that its traffic is known: programs.py writes the list, and
 * models what comes of it.  Only loads of the list, of the table of operations
 * and of the mailbox are added to it, all outside of the ranges under test.
 *
 * An operation has eight words: number, base, stride, count, argument; it
 * works with %edi = base, %ebp = stride, %ecx = count, %edx = argument.
 * The other vCPU, once started, waits for lists in the mailbox.
 */
#include "hw/hybridmem/meter-mark.h"

        .set    LOAD, 0xf0000
        .set    LIST, LOAD + 0x400
        .set    MAILBOX, 0x6000
        .set    APIC_ID, 0xfee00020
        .set    APIC_ICR, 0xfee00300
        .set    EXIT_PORT, 0xf4

        .section .text
        .globl  start
        .code16
start:  cli
        lgdtl   %cs:gdtr - start
        movl    %cr0, %eax
        andl    $0x9fffffff, %eax       /* caches on */
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $flat

        .code32
flat:   movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    %cr4, %eax
        orl     $0x210, %eax            /* SSE, pages of 4 MiB */
        movl    %eax, %cr4
        movl    $LOAD + 0x1000, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        cld
        xorl    %ebx, %ebx              /* rounds still to do */
        cmpl    $0, APIC_ID
        jne     wait
        inb     $0x92, %al              /* the A20 line, without a reset */
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92
        movl    $LIST, %esi

next:   movl    (%esi), %eax
        movl    4(%esi), %edi
        movl    8(%esi), %ebp
        movl    12(%esi), %ecx
        movl    16(%esi), %edx
        addl    $32, %esi
        jmp     *table(, %eax, 4)

/* The end of the first vCPU's list is the end of the machine. */
end:    cmpl    $0, APIC_ID
        jne     idle
        movb    $0, %al
        outb    %al, $EXIT_PORT
1:      hlt
        jmp     1b

idle:   movl    $1, MAILBOX + 4
wait:   pause
        movl    MAILBOX, %esi
        testl   %esi, %esi
        jz      wait
        movl    $0, MAILBOX
        jmp     next

start_other:
        movl    $0, MAILBOX
        movl    $0xc4600 + (LOAD >> 12), APIC_ICR
        jmp     next

on_other:
        movl    $0, MAILBOX + 4
        movl    %edi, MAILBOX
1:      pause
        cmpl    $0, MAILBOX + 4
        je      1b
        jmp     next

mark:   shll    $4, %ecx
        addl    $marks, %ecx
        jmp     *%ecx
        .p2align 4
marks:
        .set    n, 0
        .rept   8
        hm_meter_mark n
        jmp     next
        .p2align 4
        .set    n, n + 1
        .endr

store:  movl    %ecx, (%edi)
        addl    %ebp, %edi
        decl    %ecx
        jnz     store
        jmp     next

load:   movl    (%edi), %eax
        addl    %ebp, %edi
        decl    %ecx
        jnz     load
        jmp     next

modify: addl    $1, (%edi)
        addl    %ebp, %edi
        decl    %ecx
        jnz     modify
        jmp     next

vector: movups  %xmm0, (%edi)
        addl    %ebp, %edi
        decl    %ecx
        jnz     vector
        jmp     next

fill:   rep stosl
        jmp     next

/* %ebp is the seed, %edx a mask of offsets; the top bit says what to do. */
random: imull   $1664525, %ebp, %ebp
        addl    $1013904223, %ebp
        movl    %ebp, %eax
        shrl    $8, %eax
        andl    %edx, %eax
        testl   %ebp, %ebp
        js      1f
        movl    (%edi, %eax), %eax
        jmp     2f
1:      movl    %ecx, (%edi, %eax)
2:      decl    %ecx
        jnz     random
        jmp     next

/* Two marks and a store in one block of code. */
between:
        hm_meter_mark 5
        movl    %ecx, (%edi)
        hm_meter_mark 6
        jmp     next

/* Goes back to the operation at %edi, %ecx times. */
again:  testl   %ebx, %ebx
        jnz     1f
        movl    %ecx, %ebx
        incl    %ebx
1:      decl    %ebx
        jz      next
        movl    %edi, %esi
        jmp     next

        .p2align 3
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* flat code; marked accessed, */
        .quad   0x00cf93000000ffff      /* flat data; as it lies in ROM */
gdtr:   .word   . - gdt - 1
        .long   gdt

        .org    0x300
table:  .long   end, mark, store, load, modify, vector, fill, random, again
        .long   start_other, on_other, between

        .org    0x400                   /* the list */

/*
 * The page directory: all as it is, but 128 MiB is seen as 32 MiB, and 132 MiB
 * as 16 MiB.  Accessed and dirty, as it lies in ROM.
 */
        .org    0x1000
        .set    n, 0
        .rept   1024
        .if     n == 32
        .long   (8 << 22) + 0xe3
        .elseif n == 33
        .long   (4 << 22) + 0xe3
        .else
        .long   (n << 22) + 0xe3
        .endif
        .set    n, n + 1
        .endr

        .org    0xfff0                  /* the reset vector */
        .code16
        ljmp    $0xf000, $0             /* start, in the copy below 1 MiB */
        .org    0x10000
