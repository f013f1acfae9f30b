/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often to sample: as asked, or less often while nothing needs to move; and
 * for how long: as asked, or shorter where that says more.
 *
 * Theory.  What a window costs does not depend on what it finds: the guest
 * faults once for each page that it writes or reads in it.  Once blocks lie
 * where they belong, windows only confirm that.  So after HM_PACE_CALM calm
 * windows in a row the interval doubles, up to a limit; one that is not calm,
 * and it is back where it was.  A window is calm if the policy made (almost) no
 * plan after it, and if it did not see clearly more pages in nvm than were to
 * be expected: where the guest's hot set has moved policies make no plan at
 * first, for they have to learn.  Of writes, all of which are seen, what
 * windows have seen lately is expected; of reads what the blocks that were
 * looked at have shown before, for in each window these are others.  A change
 * is thus seen late by the limit at most, and learned from at full pace.
 *
 * What a window tells of a page is one bit.  If twice as many pages are written
 * in it as dram holds, it cannot tell which of them are the hottest: a cold
 * page, too, is written once.  So the next one is half as long, or less, by so
 * much as there were too many; at most HM_PACE_HALVINGS times.  If there are
 * fewer than half as many as dram holds, it is twice as long again.
 *
 * Not thread-safe.  No clock.
 */
#ifndef HW_HYBRIDMEM_PACE_H
#define HW_HYBRIDMEM_PACE_H

/* Calm windows, for each doubling. */
#define HM_PACE_CALM 4

/* Of the blocks of dram, one in so many may be in a plan of a calm window. */
#define HM_PACE_FEW 1024

/* Windows that make what is usual. */
#define HM_PACE_USUAL 8

#define HM_PACE_HALVINGS 5
/* Windows are made no shorter than this: starting and ending take time. */
#define HM_PACE_SHORTEST_MS 5

/* All zero: as often as asked. */
typedef struct HmPace {
    unsigned calm;              /* such windows since the last doubling */
    unsigned doubled;           /* times */
    bool changed;               /* this window saw more than expected */
    unsigned halved;            /* times: windows of writes */
    double usual;               /* pages written in nvm, in a window */
} HmPace;

/* A window of writes has seen so many pages in nvm. */
void hm_pace_writes(HmPace *p, uint64_t nvm_pages);

/* One of accesses has, that were not written; so many were @expected. */
void hm_pace_reads(HmPace *p, uint64_t nvm_pages, double expected);

/*
 * So many pages were written in this window, of which dram holds @dram; @window
 * is what was asked for.
 */
void hm_pace_written(HmPace *p, uint32_t window, uint64_t pages,
                     uint64_t dram);

/* Milliseconds of the next window of writes, of @window that was asked for. */
uint32_t hm_pace_length(const HmPace *p, uint32_t window);

/*
 * All senses have had their windows; @wanted moves were planned, for @dram
 * blocks of dram.
 */
void hm_pace_window(HmPace *p, uint64_t wanted, uint64_t dram);

/* From now on as often as asked, until windows are calm again. */
void hm_pace_reset(HmPace *p);

/*
 * Milliseconds from one window to the next: from @interval to @most, or
 * @interval if @most is less.
 */
uint32_t hm_pace_interval(const HmPace *p, uint32_t interval, uint32_t most);

#endif
