/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results of a replay, for people and for programs.
 */
#include "qemu/osdep.h"
#include "hybridmem-replay.h"

static const char *const reasons[HM_MOVE__MAX] = {
    [HM_MOVE_BUDGET] = "budget",
    [HM_MOVE_MAP_LIMIT] = "map-limit",
    [HM_MOVE_STALE] = "stale",
};

static const HmTraceInfo *info_of(const Report *r)
{
    return hm_trace_reader_info(r->setup->trace);
}

static uint64_t total(const Result *res)
{
    return res->guest.written + res->own.written;
}

/*
 * Of what the optimum saves, the share that a policy does not: 0 is as good,
 * 1 is of no use.  False: there was nothing to save.
 */
static bool distance(const Report *r, uint64_t written, double *d)
{
    double bound;

    if (!r->optimum || r->optimum->unmanaged <= r->optimum->bound) {
        return false;
    }
    bound = r->optimum->bound;
    *d = (written - bound) / (r->optimum->unmanaged - bound);
    return true;
}

static const char *end_of(const Survey *s)
{
    return s->end == HM_TRACE_TORN ? "torn" :
           s->end == HM_TRACE_CORRUPT ? "corrupt" : "whole";
}

/* --- for people -------------------------------------------------------- */

static char *percent(uint64_t part, uint64_t whole)
{
    return whole ? g_strdup_printf("%.2f %%", 100.0 * part / whole) :
                   g_strdup("-");
}

static void print_trace(const Report *r)
{
    const HmTraceInfo *i = info_of(r);
    const Survey *s = r->survey;
    double mib = r->setup->pages_per_block * (double)i->page_size / (1 << 20);

    printf("%" PRIu64 " windows, %.1f s; %" PRIu32 " blocks of %" PRIu64
           " KiB, %.0f MiB; dram: %" PRIu32 " blocks, %.0f MiB\n", s->windows,
           s->ms / 1e3, setup_blocks(r->setup),
           (uint64_t)r->setup->pages_per_block * i->page_size / 1024,
           (double)i->pages * i->page_size / (1 << 20), r->dram,
           r->dram * mib);
    printf("half-life %" PRIu64 " ms; traffic of nvm, in %s\n",
           r->setup->half_life_ms, s->counts ? "lines of 64 bytes" :
           "pages seen in a window");
    if (s->end != HM_TRACE_END) {
        printf("The trace is %s after %zu bytes; the rest is left out.\n",
               end_of(s), hm_trace_whole(r->setup->trace));
    }
    if (s->moved) {
        printf("Blocks moved while it was recorded (policy %s); of a window"
               " after a move\nits blocks are missing.\n", i->policy);
    }
    printf("\n");
}

/* Of the column of policies. */
static int label_width(const Report *r)
{
    size_t width = strlen("optimum: a schedule");

    for (guint i = 0; i < r->results->len; i++) {
        width = MAX(width, strlen(g_array_index(r->results, Result,
                                                i).label));
    }
    return MIN(width, 60);
}

/* @res: NULL if no more is known than @guest and @own. */
static void print_row(const Report *r, const char *label, uint64_t guest,
                      uint64_t own, const Result *res)
{
    uint64_t all = r->unmanaged->guest.written;
    g_autofree char *left = percent(guest + own, all);
    g_autofree char *own_part = res || own ? percent(own, all) :
                                g_strdup("-");
    g_autofree char *read = res ?
        percent(res->guest.read + res->own.read, r->unmanaged->guest.read) :
        g_strdup("-");
    g_autofree char *moves = res ?
        g_strdup_printf("%" PRIu64, res->moves) : g_strdup("-");
    g_autofree char *back = res ?
        g_strdup_printf("%" PRIu64, res->moved_back) : g_strdup("-");
    g_autofree char *far = NULL;
    double d;

    if (distance(r, guest + own, &d)) {
        far = g_strdup_printf("%.3f", d);
    }
    printf("%-*s %12" PRIu64 " %9s %8s %8s %7s %9s %9s\n", label_width(r),
           label, guest + own, left, own_part, moves, back, far ?: "-", read);
}

static void print_refused(const Result *res)
{
    for (unsigned i = 0; i < HM_MOVE__MAX; i++) {
        if (res->refused[i]) {
            printf("%s: %" PRIu64 " moves not made: %s\n", res->label,
                   res->refused[i], reasons[i]);
        }
    }
}

static void print_optimum(const Report *r)
{
    const HmOptimum *o = r->optimum;

    if (!o) {
        printf("\nNo optimum: %s.\n", r->no_optimum);
        return;
    }
    print_row(r, "optimum: a schedule", o->feasible, 0, NULL);
    print_row(r, "optimum: a bound", o->bound, 0, NULL);
    printf("\nThe schedule is possible (%" PRIu64 " moves, theirs included),"
           " and knows the future;\nno policy that moves between windows gets"
           " below the bound.\n", o->feasible_moves);
}

void print_table(const Report *r)
{
    print_trace(r);
    printf("%-*s %12s %9s %8s %8s %7s %9s %9s\n", label_width(r), "policy",
           "written", "left", "own", "moves", "back", "distance", "read");
    print_row(r, "unmanaged", r->unmanaged->guest.written, 0, r->unmanaged);
    if (r->survey->moved && !r->survey->counts) {
        print_row(r, "as recorded", r->survey->written, r->survey->own, NULL);
    }
    for (guint i = 0; i < r->results->len; i++) {
        const Result *res = &g_array_index(r->results, Result, i);

        print_row(r, res->label, res->guest.written, res->own.written, res);
    }
    print_optimum(r);
    for (guint i = 0; i < r->results->len; i++) {
        print_refused(&g_array_index(r->results, Result, i));
    }
}

/* --- for programs ------------------------------------------------------ */

static void json_result(const Report *r, const Result *res, const char *label)
{
    double d;

    printf("{\"policy\": \"%s\", \"written\": %" PRIu64 ", \"own-written\": %"
           PRIu64 ", \"read\": %" PRIu64 ", \"own-read\": %" PRIu64 ",\n"
           "   \"moves\": %" PRIu64 ", \"moved-back\": %" PRIu64
           ", \"bytes-copied\": %" PRIu64 ", \"budget\": %" PRIu64
           ", \"map-limit\": %" PRIu64, label, total(res), res->own.written,
           res->guest.read + res->own.read, res->own.read, res->moves,
           res->moved_back, res->bytes_copied, res->refused[HM_MOVE_BUDGET],
           res->refused[HM_MOVE_MAP_LIMIT]);
    if (r->unmanaged->guest.written) {
        printf(", \"left\": %.6f",
               (double)total(res) / r->unmanaged->guest.written);
    }
    if (distance(r, total(res), &d)) {
        printf(", \"distance\": %.6f", d);
    }
    printf("}");
}

static void json_trace(const Report *r)
{
    const HmTraceInfo *i = info_of(r);
    const Survey *s = r->survey;

    printf("{\"trace\": {\"end\": \"%s\", \"whole-bytes\": %zu, "
           "\"windows\": %" PRIu64 ", \"access-windows\": %" PRIu64
           ", \"ms\": %" PRIu64 ",\n", end_of(s),
           hm_trace_whole(r->setup->trace), s->windows, s->access_windows,
           s->ms);
    printf("  \"pages\": %" PRIu64 ", \"page-size\": %" PRIu32
           ", \"blocks\": %" PRIu32 ", \"pages-per-block\": %" PRIu32
           ", \"dram-blocks\": %" PRIu32 ",\n", i->pages, i->page_size,
           setup_blocks(r->setup), r->setup->pages_per_block, r->dram);
    printf("  \"half-life\": %" PRIu64 ", \"unit\": \"%s\"",
           r->setup->half_life_ms, s->counts ? "lines" : "pages");
    if (s->moved) {
        printf(", \"recorded-written\": %" PRIu64 ", \"recorded-own\": %"
               PRIu64, s->written, s->own);
    }
    printf("},\n");
}

static void json_optimum(const HmOptimum *o)
{
    printf(",\n \"optimum\": {\"bound\": %" PRIu64 ", \"feasible\": %" PRIu64
           ", \"feasible-moves\": %" PRIu64 ", \"fixed\": %" PRIu64 "}",
           o->bound, o->feasible, o->feasible_moves, o->fixed);
}

void print_json(const Report *r)
{
    json_trace(r);
    printf(" \"unmanaged\": ");
    json_result(r, r->unmanaged, "none");
    printf(",\n \"policies\": [");
    for (guint i = 0; i < r->results->len; i++) {
        const Result *res = &g_array_index(r->results, Result, i);
        g_autofree char *label = g_strescape(res->label, NULL);

        printf("%s\n  ", i ? "," : "");
        json_result(r, res, label);
    }
    printf("]");
    if (r->optimum) {
        json_optimum(r->optimum);
    }
    printf("}\n");
}
