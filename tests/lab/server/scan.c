/*
 * What pages of 4096 bytes on standard input hold:
 *
 *     scan TEXT       prints "pages N nonzero N matches N"
 *
 * nonzero: pages with a byte that is not zero; matches: those in which TEXT
 * occurs as a whole.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PAGE 4096u

int main(int argc, char **argv)
{
    static char page[PAGE];
    unsigned long pages = 0, nonzero = 0, matches = 0;
    size_t len;

    if (argc != 2) {
        fputs("usage: scan TEXT\n", stderr);
        return 64;
    }
    while ((len = fread(page, 1, PAGE, stdin)) > 0) {
        bool zero = !page[0] && !memcmp(page, page + 1, len - 1);

        pages++;
        nonzero += !zero;
        matches += !zero && memmem(page, len, argv[1], strlen(argv[1]));
    }
    printf("pages %lu nonzero %lu matches %lu\n", pages, nonzero, matches);
    return ferror(stdin) ? 1 : 0;
}
