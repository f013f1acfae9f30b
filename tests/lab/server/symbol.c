/*
 * Where in a shared library's file a function begins, as an uprobe of the
 * kernel wants it (see uprobe_start in lib.sh):
 *
 *     symbol FILE NAME
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The place in the file of what is loaded at `address`. */
static Elf64_Off file_offset(const Elf64_Ehdr *elf, Elf64_Addr address)
{
    const Elf64_Phdr *part = (const void *)((const char *)elf + elf->e_phoff);

    for (int i = 0; i < elf->e_phnum; i++) {
        if (part[i].p_type == PT_LOAD && address >= part[i].p_vaddr &&
            address - part[i].p_vaddr < part[i].p_filesz) {
            return address - part[i].p_vaddr + part[i].p_offset;
        }
    }
    errx(1, "address %#lx is not in the file", (unsigned long)address);
}

static const Elf64_Sym *find(const Elf64_Ehdr *elf, const char *name)
{
    const char *base = (const char *)elf;
    const Elf64_Shdr *section = (const void *)(base + elf->e_shoff);

    for (int i = 0; i < elf->e_shnum; i++) {
        const Elf64_Shdr *table = &section[i];
        const Elf64_Sym *symbol = (const void *)(base + table->sh_offset);

        if (table->sh_type != SHT_DYNSYM) {
            continue;
        }
        for (size_t n = 0; n < table->sh_size / sizeof(*symbol); n++) {
            const char *text = base + section[table->sh_link].sh_offset +
                               symbol[n].st_name;

            if (symbol[n].st_shndx != SHN_UNDEF && !strcmp(text, name)) {
                return &symbol[n];
            }
        }
    }
    errx(1, "no function %s", name);
}

int main(int argc, char **argv)
{
    const Elf64_Ehdr *elf;
    struct stat st;
    int fd;

    if (argc != 3) {
        errx(64, "usage: symbol FILE NAME");
    }
    fd = open(argv[1], O_RDONLY);
    if (fd < 0 || fstat(fd, &st)) {
        err(1, "%s", argv[1]);
    }
    elf = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (elf == MAP_FAILED || memcmp(elf, ELFMAG, SELFMAG)) {
        errx(1, "%s is no ELF file", argv[1]);
    }
    printf("%#lx\n",
           (unsigned long)file_offset(elf, find(elf, argv[2])->st_value));
    return 0;
}
