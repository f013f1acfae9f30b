/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traces: what windows have shown, to be given to policies again without a
 * guest.  Written by the engine (trace=PATH) or made from a table of the
 * meter, read by hybridmem-replay.  docs/replay.md has the format byte by
 * byte; this is its only implementation in C.
 *
 *   trace   = magic version record*
 *   record  = length type payload checksum
 *
 * Numbers in a payload are varints, sets of pages are runs, blocks are
 * differences from the one before.  Each record says how long it is and has
 * a checksum, so that what is whole can be told from a torn tail.  Records
 * of an unknown type are passed over.
 *
 * Encoding appends to an array of bytes, decoding reads from memory; neither
 * does I/O.  Plain C over GLib.
 */
#ifndef HW_HYBRIDMEM_TRACE_FILE_H
#define HW_HYBRIDMEM_TRACE_FILE_H

#include <glib.h>
#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/window.h"

#define HM_TRACE_VERSION 1
#define HM_TRACE_POLICY_MAX 31          /* bytes of a policy's name */
#define HM_TRACE_PAGES_MAX (1ull << 34) /* 64 TiB of pages of 4 KiB */

typedef struct HmTraceInfo {
    uint64_t pages;             /* at most HM_TRACE_PAGES_MAX */
    uint32_t page_size;         /* bytes; a power of two */
    uint32_t pages_per_block;   /* a power of two */
    uint64_t half_life_ms;      /* when recording began; >= 1 */
    char policy[HM_TRACE_POLICY_MAX + 1];       /* likewise; or "" */
} HmTraceInfo;

/* Traffic of a page in a window, in cache lines that reached memory. */
typedef struct HmTraceCount {
    uint64_t page;
    uint32_t filled;            /* read from it */
    uint32_t written;           /* written back to it */
} HmTraceCount;

typedef struct HmTraceWindow {
    HmWindow w;                 /* with bits of whole pages only */
    uint64_t seen_in_nvm;       /* of w.seen, where they lay at that time */
    /*
     * Traffic that was counted, by ascending page; NULL if nobody did.  Not
     * only of pages in w.seen: a line may be written back late.
     */
    const HmTraceCount *counts;
    size_t n_counts;
} HmTraceWindow;

/* Pages of a block that were copied, see hm_account_block(). */
typedef struct HmTraceMove {
    uint32_t block;
    HmTier from, to;
    bool whole;                 /* the block has changed its place */
    uint32_t pages;
} HmTraceMove;

/* --- encoding: each appends a record ----------------------------------- */

/* Also what a file begins with; comes once, first. */
void hm_trace_put_start(GByteArray *out, const HmTraceInfo *info);
/* How blocks lie from now on.  One follows the start. */
void hm_trace_put_frames(GByteArray *out, const HmFrames *frames);
void hm_trace_put_window(GByteArray *out, const HmTraceInfo *info,
                         const HmTraceWindow *w);
/* Since the last window, in their order. */
void hm_trace_put_moves(GByteArray *out, const HmTraceMove *moves, size_t n);

/* --- decoding ---------------------------------------------------------- */

typedef enum HmTraceKind {
    HM_TRACE_FRAMES,
    HM_TRACE_WINDOW,
    HM_TRACE_MOVES,
    HM_TRACE_END,               /* the file is whole */
    HM_TRACE_TORN,              /* it ends within a record */
    HM_TRACE_CORRUPT,           /* what comes is not a record */
} HmTraceKind;

typedef struct HmTraceReader HmTraceReader;

/*
 * @data must outlive it.  NULL if it is not a trace that can be read from
 * its start; @why then says so, to be freed.
 */
HmTraceReader *hm_trace_reader_new(const uint8_t *data, size_t size,
                                   char **why);
void hm_trace_reader_free(HmTraceReader *r);
const HmTraceInfo *hm_trace_reader_info(const HmTraceReader *r);
/*
 * The next record; from the last three kinds it does not go on.  The getters
 * tell what the last record of their kind said, until the next of it.
 */
HmTraceKind hm_trace_next(HmTraceReader *r);
/* Back to the first record after the start. */
void hm_trace_rewind(HmTraceReader *r);
/* Bytes from the start that are whole records. */
size_t hm_trace_whole(const HmTraceReader *r);

const HmTraceWindow *hm_trace_window(const HmTraceReader *r);
const HmTraceMove *hm_trace_moves(const HmTraceReader *r, size_t *n);
/* To be freed by the caller, once; NULL if that was done, or none came. */
HmFrames *hm_trace_take_frames(HmTraceReader *r);

#endif
