/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rooms of the meter share: options (hybridmem-meter-options.c), the
 * counting (hybridmem-meter.c), its results (hybridmem-meter-report.c).
 */
#ifndef HYBRIDMEM_METER_H
#define HYBRIDMEM_METER_H

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "hybridmem-meter-cache.h"
#include "hybridmem-meter-mode.h"

#define HM_PAGE_BITS    12
#define HM_RANGES_MAX   32          /* with "other" */
#define HM_OTHER        0           /* the range that is all the rest */
#define HM_EPOCH_MAX    1000000000  /* counters by page have 32 bits */
#define HM_MODE_BYTES_MAX (1ull << 36)  /* 8 bytes of ours for a line */

enum { HM_LOADS, HM_STORES, HM_FILLS, HM_WRITEBACKS, HM_PAGE_EVENTS };

/* Counts of one page in this epoch. */
typedef struct HmPage {
    uint32_t n[HM_PAGE_EVENTS];
} HmPage;

typedef struct HmRange {
    char *name;
    uint64_t start;
    uint64_t size;
    HmPage *page;                   /* NULL: not counted by page */
    GArray *touched;                /* uint32_t: pages with counts */
    unsigned mode;                  /* 1 + number of its DRAM cache; 0: none */
} HmRange;

/* A DRAM cache and the ranges behind it; see hybridmem-meter-mode.h. */
typedef struct HmModeOption {
    const char *arg;                /* memory-mode=... */
    char *ranges;                   /* NAME+NAME... */
    uint64_t bytes;
} HmModeOption;

typedef struct HmOptions {
    HmRange range[HM_RANGES_MAX];
    unsigned ranges;
    HmCacheSize cache[HM_CACHE_PRIVATE + 1];    /* l1, l2, llc */
    HmModeOption mode[HM_RANGES_MAX];
    unsigned modes;
    bool marked;                    /* count in phases only */
    uint64_t epoch;                 /* instructions; 0: a phase is one */
    char *out;
    char *pages;
} HmOptions;

/* [0]: loads, [1]: stores */
typedef struct HmTraffic {
    uint64_t accesses[2];
    uint64_t bytes[2];
} HmTraffic;

typedef struct HmCounts {
    uint64_t opened;
    uint64_t instructions;
    uint64_t epochs;
    uint64_t io[2];
    uint64_t untranslated;
    HmTraffic *traffic;             /* vCPUs x ranges */
    uint64_t fills[HM_RANGES_MAX];
    uint64_t writebacks[HM_RANGES_MAX];
    uint64_t dirty[HM_RANGES_MAX];  /* when the phase ended */
    uint64_t mode[HM_RANGES_MAX][HM_MODE_EVENTS];
    uint64_t mode_dirty[HM_RANGES_MAX];
} HmCounts;

typedef struct HmReport {
    const HmOptions *options;
    char **argv;
    int argc;
    char *target;
    int api;
    unsigned vcpus;
    HmCounts **phase;               /* by number; NULL: never opened */
    HmCounts *total;
} HmReport;

/* Says what is wrong on standard error and returns false. */
__attribute__((visibility("hidden")))
bool hm_options_parse(HmOptions *o, int argc, char **argv);

/* Writes @path whole or not at all. */
__attribute__((visibility("hidden")))
bool hm_report_write(const HmReport *r, const char *path);

__attribute__((visibility("hidden")))
FILE *hm_pages_open(const char *path);

/* Writes the pages that were stored to or written back; forgets all counts. */
__attribute__((visibility("hidden")))
void hm_pages_write(FILE *f, HmOptions *o, unsigned phase, uint64_t epoch);

#endif
