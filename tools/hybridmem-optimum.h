/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a policy that knew the future could reach, from the traffic of a run
 * in which no frame moved: a bound below which no policy gets, and a schedule
 * that is possible.  What a line is, is the caller's: a line written back, or
 * a page seen written; and a page may be a block.
 *
 * The C library only, so that it is also built without QEMU (oracle.c).
 */
#ifndef HYBRIDMEM_OPTIMUM_H
#define HYBRIDMEM_OPTIMUM_H

#include <stddef.h>
#include <stdint.h>

#define HM_OPTIMUM_EPOCHS 65536
#define HM_OPTIMUM_PAGES (1u << 30)

/* @lines written to @page in @epoch: what it costs if that lies in nvm. */
typedef struct HmOptimumRow {
    uint32_t page;              /* those of dram come first; see above */
    uint32_t epoch;             /* below HM_OPTIMUM_EPOCHS */
    uint64_t lines;             /* 1 to UINT32_MAX */
} HmOptimumRow;

typedef struct HmOptimum {
    uint32_t written;           /* pages that have rows */
    uint32_t epochs;            /* epochs that have rows */
    size_t rows;
    /* Lines written to nvm: */
    uint64_t lines;             /* if there were no dram */
    uint64_t unmanaged;         /* if nothing moved */
    uint64_t fixed;             /* if the best had been in dram, for free */
    uint64_t bound;             /* at least, whatever a policy does */
    uint64_t bound_one_price;   /* likewise, found in a simpler way */
    uint64_t feasible;          /* by a schedule that is possible */
    uint64_t feasible_moves;    /* exchanges of that */
    unsigned evaluations;       /* work done */
} HmOptimum;

/*
 * @row: @n rows in any order, none twice; it changes them.  Pages 0 to
 * @dram - 1 lie in dram at first.  A policy moves pages between epochs and
 * writes @move_cost lines to nvm for each page that it demotes.  Ends the
 * process if there is no memory.  Returns what is wrong with the rows, or
 * NULL.
 */
const char *hm_optimum(HmOptimumRow *row, size_t n, uint32_t dram,
                       uint32_t move_cost, HmOptimum *result);

/*
 * Bytes that it will take at most for @pages with rows or in dram, and
 * @epochs.
 */
double hm_optimum_bytes(uint64_t pages, uint64_t epochs, size_t rows);

#endif
