/*
 * Tells the meter that a phase begins: mark NUMBER.  Without a meter, and on
 * a real processor, it does nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#if __has_include("hw/hybridmem/meter-mark.h")
#include "hw/hybridmem/meter-mark.h"
#else
#define hm_meter_mark(number) ((void)(number))
#endif

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: mark NUMBER\n", stderr);
        return 64;
    }
    hm_meter_mark(atoi(argv[1]));
    return 0;
}
