/*
 * Compares two files of the same length by pages:
 *
 *     differ FILE FILE
 *
 * Prints for the first pages that differ "page N differs from byte N on:
 * XX XX", then "pages N differ N bytes N": how many differ, in how many bytes.
 * Exit status: 0 they are the same; 1 they differ; 2 they cannot be read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>

#define PAGE 4096
#define MAX_TOLD 8

/* How many bytes differ; the first is at *first. */
static int compare(const unsigned char *a, const unsigned char *b, int *first)
{
    int count = 0;

    for (int i = 0; i < PAGE; i++) {
        if (a[i] != b[i] && !count++) {
            *first = i;
        }
    }
    return count;
}

int main(int argc, char **argv)
{
    static unsigned char a[PAGE], b[PAGE];
    FILE *one = argc == 3 ? fopen(argv[1], "rb") : NULL;
    FILE *other = argc == 3 ? fopen(argv[2], "rb") : NULL;
    unsigned long page = 0, differ = 0, bytes = 0;

    if (!one || !other) {
        fputs("usage: differ FILE FILE\n", stderr);
        return 2;
    }
    for (;; page++) {
        size_t n = fread(a, 1, PAGE, one), m = fread(b, 1, PAGE, other);

        if (n != m || (n && n < PAGE)) {
            fprintf(stderr, "differ: lengths differ at page %lu\n", page);
            return 2;
        }
        if (!n) {
            break;
        }
        if (memcmp(a, b, PAGE)) {
            int at = 0;

            bytes += compare(a, b, &at);
            if (differ++ < MAX_TOLD) {
                printf("page %lu differs from byte %d on: %02x %02x\n", page,
                       at, a[at], b[at]);
            }
        }
    }
    printf("pages %lu differ %lu bytes %lu\n", page, differ, bytes);
    return differ > 0;
}
