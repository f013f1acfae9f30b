/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often to sample: as asked, or less often while nothing needs to move.
 *
 * Theory.  What a window costs does not depend on what it finds: the guest
 * faults once for each page that it writes or reads in it.  Once blocks lie
 * where they belong, windows only confirm that.  So after HM_PACE_CALM windows
 * in a row of which the policy made (almost) no plan, the interval doubles, up
 * to a limit; one plan of more, and it is back where it was.  A change of the
 * guest's is thus seen late by the limit at most.
 *
 * Not thread-safe.  No clock.
 */
#ifndef HW_HYBRIDMEM_PACE_H
#define HW_HYBRIDMEM_PACE_H

/* Windows without a plan to speak of, for each doubling. */
#define HM_PACE_CALM 4

/* Of the blocks of dram, one in so many may be in a plan of a calm window. */
#define HM_PACE_FEW 1024

/* All zero: as often as asked. */
typedef struct HmPace {
    unsigned calm;              /* such windows since the last doubling */
    unsigned doubled;           /* times */
} HmPace;

/* A window has ended; @wanted moves were planned, for @dram blocks of dram. */
void hm_pace_window(HmPace *p, uint64_t wanted, uint64_t dram);

/*
 * Milliseconds from one window to the next: from @interval to @most, or
 * @interval if @most is less.
 */
uint32_t hm_pace_interval(const HmPace *p, uint32_t interval, uint32_t most);

#endif
