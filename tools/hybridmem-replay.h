/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of hybridmem-replay: main (options), -meter (a table of the meter
 * as a trace), -survey (what is in a trace), -run (a policy over a trace),
 * -print (results).
 */
#ifndef HYBRIDMEM_REPLAY_H
#define HYBRIDMEM_REPLAY_H

#include "hw/hybridmem/policy.h"
#include "hw/hybridmem/trace-file.h"
#include "hybridmem-optimum.h"

#define LINE_SIZE 64u           /* bytes; the unit in which meters count */

/*
 * Traffic of nvm, in the trace's unit: lines, if it has counts; else pages,
 * once for each window in which they were seen, and for each copy.
 */
typedef struct Traffic {
    uint64_t written;
    uint64_t read;              /* lines filled; or pages accessed */
} Traffic;

/* How to replay, the same for all policies. */
typedef struct Setup {
    HmTraceReader *trace;
    uint32_t pages_per_block;
    /* Blocks of dram, the first ones; 0: as they lie in the trace. */
    uint32_t dram;
    uint64_t half_life_ms;
    uint64_t max_bandwidth;     /* bytes copied in a second; 0: no limit */
    uint64_t access_faults;     /* in a second; 0: no limit */
} Setup;

typedef struct Survey {
    uint64_t windows, access_windows, ms;
    bool sampled;               /* some windows watched some blocks only */
    bool counts;                /* the unit is lines */
    bool rows_cut;              /* see survey() */
    HmTraceKind end;
    /* What the engine did that wrote the trace, in pages: */
    bool moved;
    uint64_t written, own;
} Survey;

typedef struct Result {
    char *label;                /* the policy, as it was asked for */
    Traffic guest, own;
    uint64_t moves, moved_back;
    uint64_t refused[HM_MOVE__MAX];     /* planned, but not done: why */
    uint64_t bytes_copied;
} Result;

/* --- meter ------------------------------------------------------------- */

typedef struct Meter {
    const char *path, *phase;   /* phase may be NULL: there is only one */
    uint64_t range_pages[HM_TIER__MAX];
    uint64_t interval_ms;       /* of an epoch */
} Meter;

#define METER_PAGE_SIZE 4096u

/* NULL: @why says what is wrong, to be freed. */
GByteArray *meter_to_trace(const Meter *m, char **why);

/* --- survey ------------------------------------------------------------ */

/*
 * Goes through the trace once.  Also makes the rows for hm_optimum(), of
 * writes by block, if @rows is not NULL: a GArray of HmOptimumRow.  If there
 * are more than @max_rows it sets rows_cut, and they are of no use.  @dram is
 * set to the blocks of dram.  False: @why says what cannot be replayed.
 */
bool survey(const Setup *setup, Survey *s, GArray *rows, size_t max_rows,
            uint32_t *dram, char **why);

/* --- run --------------------------------------------------------------- */

/* The placement that all begin with; after hm_trace_rewind(). */
HmFrames *first_frames(const Setup *setup);
uint32_t setup_blocks(const Setup *setup);
/* Of a page, and of a block, in the trace's unit. */
uint64_t page_cost(const Setup *setup, const Survey *s);

void run_policy(const Setup *setup, const Survey *s, const HmPolicyOps *ops,
                const HmPolicyParams *params, Result *result);

/* --- print ------------------------------------------------------------- */

typedef struct Report {
    const Setup *setup;
    const Survey *survey;
    uint32_t dram;              /* blocks */
    const Result *unmanaged;
    const GArray *results;      /* Result */
    const HmOptimum *optimum;   /* or NULL */
    const char *no_optimum;     /* why not; or NULL */
} Report;

void print_table(const Report *r);
void print_json(const Report *r);

#endif
