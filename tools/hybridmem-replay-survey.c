/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is in a trace, whatever a policy makes of it.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/dirty.h"
#include "hybridmem-replay.h"

/* Rows of one epoch: pages come in order, so those of a block together. */
typedef struct Rows {
    GArray *rows;               /* HmOptimumRow; or NULL */
    size_t max;
    bool cut;                   /* there are more than @max */
    const HmFrames *frames;
    uint32_t dram, epoch;
    uint32_t block;             /* of the last row; HM_BLOCK_NONE: none yet */
} Rows;

static uint32_t optimum_page(const Rows *r, uint32_t block)
{
    uint32_t frame = hm_frames_frame_of(r->frames, block);
    uint32_t index = hm_frames_tier_index(r->frames, frame);

    return hm_frames_tier_of_frame(r->frames, frame) == HM_TIER_DRAM ?
           index : r->dram + index;
}

static void add(Rows *r, uint32_t block, uint64_t written)
{
    if (!written) {
        return;
    }
    if (block == r->block) {
        HmOptimumRow *last = &g_array_index(r->rows, HmOptimumRow,
                                            r->rows->len - 1);

        last->lines = MIN(last->lines + written, UINT32_MAX);
    } else if (r->rows->len == r->max) {
        r->cut = true;
    } else {
        HmOptimumRow row = { optimum_page(r, block), r->epoch, written };

        g_array_append_val(r->rows, row);
        r->block = block;
    }
}

static void add_counts(Rows *r, const Setup *setup, const HmTraceWindow *w)
{
    for (size_t i = 0; i < w->n_counts; i++) {
        add(r, w->counts[i].page / setup->pages_per_block,
            w->counts[i].written);
    }
}

static void add_seen(Rows *r, const Setup *setup, const HmTraceWindow *w)
{
    HmDirtyIter it;
    size_t n;

    hm_dirty_init(&it, w->w.seen, hm_trace_reader_info(setup->trace)->pages,
                  setup->pages_per_block);
    while ((n = hm_dirty_next(&it))) {
        for (size_t i = 0; i < n; i++) {
            add(r, it.block[i],
                setup->pages_per_block == 1 ? 1 : it.count[i]);
        }
    }
}

static void look_at_window(const Setup *setup, Survey *s, Rows *r)
{
    const HmTraceWindow *w = hm_trace_window(setup->trace);

    s->sampled |= w->w.watched != NULL;
    if (w->w.sense == HM_SENSE_ACCESSES) {
        s->access_windows++;
        return;
    }
    s->ms += w->w.elapsed_ms;
    s->written += w->seen_in_nvm;
    s->counts |= w->counts != NULL;
    if (r->rows && !r->cut && s->windows < HM_OPTIMUM_EPOCHS) {
        r->epoch = s->windows;
        r->block = HM_BLOCK_NONE;
        if (w->counts) {
            add_counts(r, setup, w);
        } else {
            add_seen(r, setup, w);
        }
    }
    s->windows++;
}

static void look_at_moves(const Setup *setup, Survey *s)
{
    size_t n;
    const HmTraceMove *m = hm_trace_moves(setup->trace, &n);

    for (size_t i = 0; i < n; i++) {
        s->moved = true;
        s->own += m[i].to == HM_TIER_NVM ? m[i].pages : 0;
    }
}

static bool look_at_all(const Setup *setup, Survey *s, Rows *r, char **why)
{
    HmTraceKind kind;

    while ((kind = hm_trace_next(setup->trace)) < HM_TRACE_END) {
        switch (kind) {
        case HM_TRACE_FRAMES:
            if (!setup->dram) {
                *why = g_strdup_printf("the size of dram changes after window"
                                       " %" PRIu64 ": say by --dram what it"
                                       " is to be", s->windows);
                return false;
            }
            break;
        case HM_TRACE_WINDOW:
            look_at_window(setup, s, r);
            break;
        default:
            look_at_moves(setup, s);
            break;
        }
    }
    s->end = kind;
    return true;
}

bool survey(const Setup *setup, Survey *s, GArray *rows, size_t max_rows,
            uint32_t *dram, char **why)
{
    HmFrames *frames;
    Rows r = { .rows = rows, .max = max_rows };
    bool good;

    memset(s, 0, sizeof(*s));
    hm_trace_rewind(setup->trace);
    frames = first_frames(setup);
    if (!frames) {
        *why = g_strdup("it ends before it says where blocks lie");
        return false;
    }
    *dram = r.dram = hm_frames_tier_blocks(frames, HM_TIER_DRAM);
    r.frames = frames;
    good = look_at_all(setup, s, &r, why);
    s->rows_cut = r.cut;
    if (good && s->sampled && setup->pages_per_block !=
        hm_trace_reader_info(setup->trace)->pages_per_block) {
        *why = g_strdup("its windows watched some blocks only, so that it"
                        " cannot be replayed with another --block-size");
        good = false;
    }
    hm_frames_free(frames);
    return good;
}
