/*
 * mark N: tells the meter that phase N begins; 0 ends the count.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include "hw/hybridmem/meter-mark.h"

int main(int argc, char **argv)
{
    hm_meter_mark(argc > 1 ? atoi(argv[1]) : 0);
    return 0;
}
