/*
 * Prints how many times the processor's time stamp counter counts in a
 * millisecond; for the host, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"
#include <x86intrin.h>

#define MEASURE_MS 50
#define TRIES 100

typedef struct Moment {
    uint64_t ns, ticks;
} Moment;

/* Both clocks at once: the closest pair of readings of several. */
static Moment now(void)
{
    Moment best = { 0 };
    uint64_t shortest = UINT64_MAX;

    for (int i = 0; i < TRIES; i++) {
        uint64_t before = __rdtsc(), after;
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
        after = __rdtsc();
        if (after - before < shortest) {
            shortest = after - before;
            best.ns = ts.tv_sec * 1000000000ull + ts.tv_nsec;
            best.ticks = before + shortest / 2;
        }
    }
    return best;
}

int main(void)
{
    struct timespec pause = { 0, MEASURE_MS * 1000000l };
    Moment start = now(), end;

    nanosleep(&pause, NULL);
    end = now();
    printf("%.0f\n", (end.ticks - start.ticks) * 1e6 / (end.ns - start.ns));
    return 0;
}
