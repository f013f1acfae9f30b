# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest in the place of the firmware: writes pages by a pattern, and checks
# before each write that the page still holds what was written last.  It
# begins at the reset vector, so it needs neither BIOS nor disk, and what it
# writes is known to the page: the pattern, and one page of stack.
#
#   serial   '<' when it starts, then one letter a round: a, b, ... z, a ...
#            "!ADDRESS EXPECTED FOUND\n" in hex on a difference; then it halts
#
# A word at address A holds A * FACTOR + rounds, in a range that is written
# each round, and A * FACTOR in one that is written only at the start.
# The test patches the parameters behind the code (payload.py).

        .set    FACTOR, 0x9e3779b1
        .set    COM1, 0x3f8
        .set    STACK, 0x7000
        .set    PAGE, 4096

        .section .text
        .globl  start
        .code16
start:  cli
        inb     $0x92, %al              # the A20 line, without a reset
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92
        lgdtl   %cs:gdtr - start
        movl    %cr0, %eax
        andl    $0x9fffffff, %eax       # caches on
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $flat

        .code32
flat:   movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $STACK, %esp
        cld
        movw    $COM1 + 3, %dx          # 8 bits, no parity
        movb    $3, %al
        outb    %al, %dx
        movb    $'<', %al
        call    put

# First the whole pattern, unchecked.
        movl    $ranges, %esi
fill:   movl    8(%esi), %ecx
        jecxz   run
        movl    (%esi), %ebx
1:      xorl    %edi, %edi
2:      leal    (%ebx, %edi), %eax
        imull   $FACTOR, %eax, %eax
        movl    %eax, (%ebx, %edi)
        addl    step, %edi
        cmpl    $PAGE, %edi
        jb      2b
        addl    4(%esi), %ebx
        loop    1b
        addl    $16, %esi
        jmp     fill

run:    xorl    %ebp, %ebp              # rounds done
round:  rdtsc
        pushl   %eax
        movl    $ranges, %esi
range:  movl    8(%esi), %ecx
        jecxz   done
        movl    (%esi), %ebx
1:      xorl    %edi, %edi
2:      leal    (%ebx, %edi), %eax
        imull   $FACTOR, %eax, %eax
        cmpl    $0, 12(%esi)
        jne     3f
        cmpl    (%ebx, %edi), %eax      # written once
        jne     differs
        jmp     4f
3:      addl    %ebp, %eax              # written each round
        cmpl    (%ebx, %edi), %eax
        jne     differs
        incl    %eax
        movl    %eax, (%ebx, %edi)
4:      addl    step, %edi
        cmpl    $PAGE, %edi
        jb      2b
        addl    4(%esi), %ebx
        loop    1b
        addl    $16, %esi
        jmp     range

done:   popl    %ecx
1:      rdtsc
        subl    %ecx, %eax
        cmpl    pace, %eax
        jb      1b
        movl    %ebp, %eax
        xorl    %edx, %edx
        movl    $26, %ecx
        divl    %ecx
        leal    'a'(%edx), %eax
        call    put
        incl    %ebp
        jmp     round

differs:
        pushl   (%ebx, %edi)
        pushl   %eax
        leal    (%ebx, %edi), %eax
        pushl   %eax
        movb    $'!', %al
        call    put
        movl    $3, %edi
1:      popl    %ebx
        call    hex
        movb    $' ', %al
        call    put
        decl    %edi
        jnz     1b
        movb    $'\n', %al
        call    put
2:      hlt
        jmp     2b

hex:    movl    $8, %ecx                # prints %ebx
1:      roll    $4, %ebx
        movl    %ebx, %eax
        andb    $15, %al
        addb    $'0', %al
        cmpb    $'9', %al
        jbe     2f
        addb    $'a' - '9' - 1, %al
2:      call    put
        loop    1b
        ret

put:    pushl   %eax                    # prints %al; spoils %edx
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        popl    %eax
        movw    $COM1, %dx
        outb    %al, %dx
        ret

        .p2align 3
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      # flat code; marked accessed,
        .quad   0x00cf93000000ffff      # flat data; as it lies in ROM
gdtr:   .word   . - gdt - 1
        .long   gdt

# Parameters: bytes between two words of a page; cycles of the TSC that a round
# takes at least; then ranges of base, stride, count, and whether they are
# written each round.  Count 0 ends the list.
        .org    0x200
step:   .long   PAGE
pace:   .long   0
ranges: .fill   24, 4, 0

        .org    0xfff0                  # the reset vector
        .code16
        ljmp    $0xf000, $0             # start, in the copy below 1 MiB
        .org    0x10000
