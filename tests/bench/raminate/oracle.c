/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a policy that knew the future could reach.
 *
 *   oracle PAGES.TSV PHASE DRAM-PAGES LINES-PER-MOVE
 *
 * reads the write-backs per page and epoch of a run in which no frame moved
 * and prints, as JSON, how many write-backs would have gone to nvm
 *
 *   unmanaged    as it was: pages of range "dram" in dram, the others in nvm
 *   fixed        with the most written pages in dram from the start, for free
 *   bound        at least, whatever a policy does that moves pages between
 *                epochs, starts with the pages of range "dram" in dram, and
 *                writes LINES-PER-MOVE lines to nvm for each page it demotes
 *   feasible     by a schedule of that kind, so that the optimum lies between
 *
 * tools/hybridmem-optimum.c says how.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hybridmem-optimum.h"

static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("oracle: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* --- Reading -------------------------------------------------------------- */

struct rows {
    HmOptimumRow *row;
    size_t n, room;
};

/* Fields of "phase epoch range page loads stores fills writebacks". */
enum { PHASE, EPOCH, RANGE, PAGE, WRITEBACKS = 7, FIELDS };

static uint64_t number(const char *field, const char *path, size_t line)
{
    char *end;
    uint64_t n = strtoumax(field, &end, 10);

    if (!isdigit((unsigned char)*field) || *end) {
        die("%s:%zu: '%s' is not a number", path, line, field);
    }
    return n;
}

static void split(char *text, char *field[FIELDS], const char *path,
                  size_t line)
{
    int n = 0;

    if (!strchr(text, '\n')) {
        die("%s:%zu: the line is cut off", path, line);
    }
    text[strcspn(text, "\n")] = 0;
    for (char *at = text; at; n++) {
        char *tab = strchr(at, '\t');

        if (n == FIELDS) {
            die("%s:%zu: more than %d fields", path, line, FIELDS);
        }
        field[n] = at;
        at = tab ? tab + 1 : NULL;
        if (tab) {
            *tab = 0;
        }
    }
    if (n != FIELDS) {
        die("%s:%zu: %d fields in place of %d", path, line, n, FIELDS);
    }
}

static void add_row(struct rows *rows, HmOptimumRow row)
{
    if (rows->n == rows->room) {
        rows->room = rows->room ? 2 * rows->room : 4096;
        rows->row = realloc(rows->row, rows->room * sizeof(*rows->row));
        if (!rows->row) {
            die("no memory for %zu rows", rows->room);
        }
    }
    rows->row[rows->n++] = row;
}

/*
 * The page's number, with those of nvm above those of dram; false: of a range
 * that is no guest RAM.
 */
static bool place(const char *range, uint64_t page, uint32_t dram,
                  uint32_t *number, const char *path, size_t line)
{
    bool in_dram = !strcmp(range, "dram");

    if (!in_dram && strcmp(range, "nvm")) {
        return false;
    }
    if (page >= (in_dram ? dram : HM_OPTIMUM_PAGES)) {
        die("%s:%zu: page %" PRIu64 " is not in %s", path, line, page, range);
    }
    *number = page + (in_dram ? 0 : dram);
    return true;
}

static struct rows read_rows(const char *path, const char *phase,
                             uint32_t dram)
{
    FILE *file = fopen(path, "r");
    struct rows rows = { 0 };
    char text[512], *field[FIELDS];
    size_t line = 0;

    if (!file) {
        die("cannot open %s", path);
    }
    while (fgets(text, sizeof(text), file)) {
        HmOptimumRow row;
        uint64_t epoch;

        line++;
        if (*text == '#') {
            continue;
        }
        split(text, field, path, line);
        epoch = number(field[EPOCH], path, line);
        if (epoch >= HM_OPTIMUM_EPOCHS) {
            die("%s:%zu: epoch %" PRIu64 " is too large", path, line, epoch);
        }
        row.epoch = epoch;
        row.lines = number(field[WRITEBACKS], path, line);
        if (row.lines > UINT32_MAX) {
            die("%s:%zu: %" PRIu64 " write-backs of one page", path, line,
                row.lines);
        }
        if (row.lines && !strcmp(field[PHASE], phase) &&
            place(field[RANGE], number(field[PAGE], path, line), dram,
                  &row.page, path, line)) {
            add_row(&rows, row);
        }
    }
    fclose(file);
    return rows;
}

static void print(const HmOptimum *o, uint32_t dram)
{
    printf("{\"written-pages\": %" PRIu32 ", \"dram-pages\": %" PRIu32 ", "
           "\"epochs\": %" PRIu32 ", \"rows\": %zu,\n",
           o->written, dram, o->epochs, o->rows);
    printf(" \"write-backs\": %" PRIu64 ", \"unmanaged\": %" PRIu64 ", "
           "\"fixed\": %" PRIu64 ",\n", o->lines, o->unmanaged, o->fixed);
    printf(" \"bound\": %" PRIu64 ", \"bound-one-price\": %" PRIu64 ", "
           "\"feasible\": %" PRIu64 ", \"feasible-moves\": %" PRIu64 ", "
           "\"evaluations\": %u}\n", o->bound, o->bound_one_price,
           o->feasible, o->feasible_moves, o->evaluations);
}

int main(int argc, char **argv)
{
    uint64_t dram, cost;
    struct rows rows;
    const char *why;
    HmOptimum o;

    if (argc != 5) {
        fputs("usage: oracle PAGES.TSV PHASE DRAM-PAGES LINES-PER-MOVE\n",
              stderr);
        return 2;
    }
    dram = number(argv[3], "DRAM-PAGES", 0);
    cost = number(argv[4], "LINES-PER-MOVE", 0);
    if (dram >= HM_OPTIMUM_PAGES || cost > UINT32_MAX) {
        die("too many pages of dram, or lines");
    }
    rows = read_rows(argv[1], argv[2], dram);
    why = hm_optimum(rows.row, rows.n, dram, cost, &o);
    if (why) {
        die("%s: %s", argv[1], why);
    }
    print(&o, dram);
    free(rows.row);
    return 0;
}
