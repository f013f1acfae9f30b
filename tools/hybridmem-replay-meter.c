/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The meter's table of pages as a trace.
 *
 * An epoch becomes two windows: of writes (pages stored to), with the lines
 * filled and written back beside, and of accesses (pages loaded from or
 * stored to).  Pages of range "dram" come first, those of "nvm" behind them.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hybridmem-replay.h"

/* Fields of "phase epoch range page loads stores fills writebacks". */
enum { PHASE, EPOCH, RANGE, PAGE, LOADS, STORES, FILLS, WRITEBACKS, FIELDS };

typedef struct Row {
    uint64_t page;
    uint32_t epoch, filled, written;
    bool loaded, stored;
} Row;

typedef struct Table {
    const Meter *meter;
    uint64_t pages;
    char *phase;                /* of all rows; NULL as long as none is */
    size_t line;                /* of the file, from 1 */
    GArray *rows;               /* Row */
    char *why;
} Table;

static bool G_GNUC_PRINTF(2, 3) wrong(Table *t, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    t->why = g_strdup_printf("%s:%zu: %s", t->meter->path, t->line, text);
    return false;
}

static bool number(Table *t, const char *field, uint64_t max, uint64_t *n)
{
    if (!g_ascii_string_to_unsigned(field, 10, 0, max, n, NULL)) {
        return wrong(t, "'%s' is not a number up to %" PRIu64, field, max);
    }
    return true;
}

/* Whether the row is of the phase; sets t->why if that is not clear. */
static bool of_phase(Table *t, const char *phase)
{
    if (t->meter->phase) {
        return g_str_equal(phase, t->meter->phase);
    }
    if (!t->phase) {
        t->phase = g_strdup(phase);
    }
    return g_str_equal(phase, t->phase) ||
           wrong(t, "phase %s as well as %s: say which by --phase", phase,
                 t->phase);
}

/* Other ranges are no guest RAM. */
static bool tier_of(const char *range, HmTier *tier)
{
    *tier = g_str_equal(range, "nvm") ? HM_TIER_NVM : HM_TIER_DRAM;
    return *tier == HM_TIER_NVM || g_str_equal(range, "dram");
}

static bool parse_row(Table *t, char **field)
{
    uint64_t epoch, page, loads, stores, fills, writebacks;
    HmTier tier;
    Row row;

    if (!of_phase(t, field[PHASE]) || !tier_of(field[RANGE], &tier)) {
        return !t->why;
    }
    if (!number(t, field[EPOCH], HM_OPTIMUM_EPOCHS - 1, &epoch) ||
        !number(t, field[PAGE], HM_TRACE_PAGES_MAX, &page) ||
        !number(t, field[LOADS], UINT64_MAX, &loads) ||
        !number(t, field[STORES], UINT64_MAX, &stores) ||
        !number(t, field[FILLS], UINT32_MAX, &fills) ||
        !number(t, field[WRITEBACKS], UINT32_MAX, &writebacks)) {
        return false;
    }
    if (page >= t->meter->range_pages[tier]) {
        return wrong(t, "page %" PRIu64 " of %s, which has %" PRIu64
                     " by --ranges", page, field[RANGE],
                     t->meter->range_pages[tier]);
    }
    if (tier == HM_TIER_NVM) {
        page += t->meter->range_pages[HM_TIER_DRAM];
    }
    row = (Row) { page, epoch, fills, writebacks, loads > 0, stores > 0 };
    g_array_append_val(t->rows, row);
    return true;
}

static bool parse_line(Table *t, char *line)
{
    g_auto(GStrv) field = NULL;

    t->line++;
    if (*line == '#') {
        return true;
    }
    field = g_strsplit(line, "\t", FIELDS + 1);
    if (g_strv_length(field) != FIELDS) {
        return wrong(t, "%u fields in place of %d", g_strv_length(field),
                     FIELDS);
    }
    return parse_row(t, field);
}

static bool parse(Table *t)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    char *line, *end;

    if (!g_file_get_contents(t->meter->path, &text, NULL, &error)) {
        t->why = g_strdup(error->message);
        return false;
    }
    for (line = text; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end) {
            t->line++;
            return wrong(t, "the line is cut off");
        }
        *end = 0;
        if (!parse_line(t, line)) {
            return false;
        }
    }
    return true;
}

static gint by_epoch_and_page(gconstpointer a, gconstpointer b)
{
    const Row *x = a, *y = b;

    if (x->epoch != y->epoch) {
        return x->epoch < y->epoch ? -1 : 1;
    }
    return x->page < y->page ? -1 : x->page > y->page;
}

/* Rows in order; of what a phase that was opened twice has said twice. */
static void add_up(GArray *rows)
{
    guint n = 0;

    g_array_sort(rows, by_epoch_and_page);
    for (guint i = 0; i < rows->len; i++) {
        Row *row = &g_array_index(rows, Row, i);
        Row *last = n ? &g_array_index(rows, Row, n - 1) : NULL;

        if (!last || by_epoch_and_page(last, row)) {
            g_array_index(rows, Row, n++) = *row;
            continue;
        }
        last->filled += row->filled;
        last->written += row->written;
        last->loaded |= row->loaded;
        last->stored |= row->stored;
    }
    g_array_set_size(rows, n);
}

static uint64_t count_nvm(const Table *t, const unsigned long *seen)
{
    uint64_t n = 0;

    for (uint64_t p = t->meter->range_pages[HM_TIER_DRAM]; p < t->pages;
         p++) {
        n += test_bit(p, seen);
    }
    return n;
}

static void put_epoch(const Table *t, const HmTraceInfo *info,
                      const Row *row, size_t n, GByteArray *out)
{
    g_autofree unsigned long *stored = g_new0(unsigned long,
                                              BITS_TO_LONGS(t->pages));
    g_autofree unsigned long *seen = g_new0(unsigned long,
                                            BITS_TO_LONGS(t->pages));
    g_autofree HmTraceCount *counts = g_new(HmTraceCount, n + 1);
    HmTraceWindow w = {
        .w = { .seen = stored, .elapsed_ms = t->meter->interval_ms },
        .counts = counts,
        .n_counts = n,
    };

    for (size_t i = 0; i < n; i++) {
        counts[i] = (HmTraceCount) {
            row[i].page, row[i].filled, row[i].written,
        };
        if (row[i].stored) {
            set_bit(row[i].page, stored);
        }
        if (row[i].stored || row[i].loaded) {
            set_bit(row[i].page, seen);
        }
    }
    w.seen_in_nvm = count_nvm(t, stored);
    hm_trace_put_window(out, info, &w);
    w.w.sense = HM_SENSE_ACCESSES;
    w.w.seen = seen;
    w.counts = NULL;
    w.n_counts = 0;
    w.seen_in_nvm = count_nvm(t, seen);
    hm_trace_put_window(out, info, &w);
}

static GByteArray *put_all(const Table *t)
{
    const uint64_t *pages = t->meter->range_pages;
    const HmExtent ext[] = {
        { 0, pages[HM_TIER_DRAM], HM_TIER_DRAM, true },
        { pages[HM_TIER_DRAM], pages[HM_TIER_NVM], HM_TIER_NVM, true },
    };
    const HmTraceInfo info = {
        .pages = t->pages,
        .page_size = METER_PAGE_SIZE,
        .pages_per_block = 1,
        .half_life_ms = 5 * t->meter->interval_ms,
    };
    const Row *row = (const Row *)t->rows->data;
    HmFrames *fr = hm_frames_new(ext, G_N_ELEMENTS(ext));
    GByteArray *out = g_byte_array_new();
    size_t n, i = 0;

    hm_trace_put_start(out, &info);
    hm_trace_put_frames(out, fr);
    hm_frames_free(fr);
    for (uint32_t epoch = 0; i < t->rows->len; epoch++, i += n) {
        for (n = 0; i + n < t->rows->len && row[i + n].epoch == epoch; n++) {
            ;
        }
        put_epoch(t, &info, row + i, n, out);
    }
    return out;
}

GByteArray *meter_to_trace(const Meter *m, char **why)
{
    Table t = {
        .meter = m,
        .pages = m->range_pages[HM_TIER_DRAM] + m->range_pages[HM_TIER_NVM],
        .rows = g_array_new(false, false, sizeof(Row)),
    };
    GByteArray *out = NULL;

    if (parse(&t)) {
        add_up(t.rows);
        out = put_all(&t);
    }
    *why = t.why;
    g_array_free(t.rows, true);
    g_free(t.phase);
    return out;
}
