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
 * The bound.  Let x(p,e) be 1 if page p lies in dram during epoch e.  A policy
 * pays w(p,e) for each 0, LINES for each step from 1 to 0, and has
 * sum_p x(p,e) <= D in each epoch.  For any prices l(e) >= 0 of a frame,
 *     cost(x) >= cost(x) + sum_e l(e) * (sum_p x(p,e) - D)
 *             >= sum_p min_x(p) [cost of p alone + rents l(e)] - D * sum_e l(e)
 * since what is added is not positive, and a minimum over each page alone is
 * not above any x in common.  So each choice of l gives a lower bound.
 *
 * The minimum of a page is a two-state dynamic programme over its epochs with
 * write-backs; between two of them it stays (rent) or goes and comes back
 * (LINES).  The best prices are sought, first one for all epochs, then one
 * for each (subgradient steps after Polyak).  The problem is a flow of D units
 * through time, hence integral: at the best prices the bound is the optimum.
 *
 * The schedule.  Each epoch holds the D pages to which dram is worth most by
 * the same programme, looking ahead from there; what is in counts LINES more.
 * Its cost is counted exactly.  A fixed placement that is moved to before the
 * first epoch, and doing nothing, are tried too.
 *
 * All is deterministic.  An evaluation takes O(rows), a schedule O(pages *
 * epochs); their number depends on nothing but the input's size.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EPOCHS 65536
#define MAX_PAGES (1u << 30)

/* Evaluations for the prices: as many as take some seconds, by the rows. */
#define WORK 300000000.0
#define MIN_EVALUATIONS 24
#define MAX_EVALUATIONS 600
#define ONE_PRICE_EVALUATIONS 24
#define SCHEDULES 4
/* Shorten the steps after so many without a better bound. */
#define PATIENCE 6

struct row {
    uint32_t page, epoch;
    uint64_t lines;
};

struct entry {
    uint32_t epoch;
    uint32_t lines;
};

/* Pages of dram come first, all of them; then those of nvm that have rows. */
struct trace {
    struct entry *entries;      /* by page, then by epoch */
    size_t *first;              /* pages + 1 indices into entries */
    uint32_t pages, dram, epochs;
    uint32_t written;           /* pages that have rows */
    uint64_t lines, unmanaged;
};

struct prices {
    double *rent;               /* per epoch */
    double *sum;                /* epochs + 1 prefix sums of rent */
};

/* How a page goes on from an epoch with write-backs to its next one. */
enum { STAY, RETURN, LEAVE };

static double move_cost;

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

static void *get(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);

    if (!p) {
        die("no memory for %zu times %zu bytes", n, size);
    }
    return p;
}

static double min2(double a, double b)
{
    return a < b ? a : b;
}

/* --- Reading -------------------------------------------------------------- */

struct rows {
    struct row *row;
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

static void add_row(struct rows *rows, struct row row)
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
    if (page >= (in_dram ? dram : MAX_PAGES)) {
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
        struct row row;
        uint64_t epoch;

        line++;
        if (*text == '#') {
            continue;
        }
        split(text, field, path, line);
        epoch = number(field[EPOCH], path, line);
        if (epoch >= MAX_EPOCHS) {
            die("%s:%zu: epoch %" PRIu64 " is too large", path, line, epoch);
        }
        row.epoch = epoch;
        row.lines = number(field[WRITEBACKS], path, line);
        if (row.lines && !strcmp(field[PHASE], phase) &&
            place(field[RANGE], number(field[PAGE], path, line), dram,
                  &row.page, path, line)) {
            add_row(&rows, row);
        }
    }
    fclose(file);
    return rows;
}

/* Epochs in which nothing was written back cost nothing and are left out. */
static uint32_t number_epochs(struct rows *rows)
{
    uint32_t *index = get(MAX_EPOCHS, sizeof(*index)), n = 0;

    for (size_t i = 0; i < rows->n; i++) {
        index[rows->row[i].epoch] = 1;
    }
    for (uint32_t e = 0; e < MAX_EPOCHS; e++) {
        n += index[e];
        index[e] = index[e] ? n - 1 : 0;
    }
    for (size_t i = 0; i < rows->n; i++) {
        rows->row[i].epoch = index[rows->row[i].epoch];
    }
    free(index);
    return n;
}

static uint32_t number_pages(struct rows *rows, uint32_t dram)
{
    uint32_t last = dram, n = dram, *index;

    for (size_t i = 0; i < rows->n; i++) {
        last = rows->row[i].page >= last ? rows->row[i].page + 1 : last;
    }
    index = get(last, sizeof(*index));
    for (size_t i = 0; i < rows->n; i++) {
        index[rows->row[i].page] = 1;
    }
    for (uint32_t p = dram; p < last; p++) {
        n += index[p];
        index[p] = n - 1;
    }
    for (size_t i = 0; i < rows->n; i++) {
        if (rows->row[i].page >= dram) {
            rows->row[i].page = index[rows->row[i].page];
        }
    }
    free(index);
    return n;
}

/* Rows come by epoch, so that a page's are nearly in order. */
static void sort_entries(struct entry *entry, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct entry moved = entry[i];
        size_t j = i;

        for (; j && entry[j - 1].epoch > moved.epoch; j--) {
            entry[j] = entry[j - 1];
        }
        entry[j] = moved;
    }
    for (size_t i = 1; i < n; i++) {
        if (entry[i].epoch == entry[i - 1].epoch) {
            die("a page has two rows in one epoch");
        }
    }
}

static struct trace make_trace(struct rows rows, uint32_t dram)
{
    struct trace t = { .dram = dram };
    size_t *fill;

    t.epochs = number_epochs(&rows);
    t.pages = number_pages(&rows, dram);
    t.first = get(t.pages + 1, sizeof(*t.first));
    t.entries = get(rows.n, sizeof(*t.entries));
    fill = get(t.pages, sizeof(*fill));
    for (size_t i = 0; i < rows.n; i++) {
        t.first[rows.row[i].page + 1]++;
    }
    for (uint32_t p = 0; p < t.pages; p++) {
        t.first[p + 1] += t.first[p];
    }
    for (size_t i = 0; i < rows.n; i++) {
        struct row *row = &rows.row[i];

        if (row->lines > UINT32_MAX) {
            die("%" PRIu64 " write-backs of one page", row->lines);
        }
        t.entries[t.first[row->page] + fill[row->page]++] =
            (struct entry) { row->epoch, row->lines };
        t.lines += row->lines;
        t.unmanaged += row->page >= dram ? row->lines : 0;
    }
    for (uint32_t p = 0; p < t.pages; p++) {
        size_t n = t.first[p + 1] - t.first[p];

        sort_entries(t.entries + t.first[p], n);
        t.written += n > 0;
    }
    free(fill);
    free(rows.row);
    return t;
}

/* --- The bound ------------------------------------------------------------ */

static struct prices new_prices(uint32_t epochs)
{
    return (struct prices) { get(epochs, sizeof(double)),
                             get(epochs + 1, sizeof(double)) };
}

static void add_up(struct prices *l, uint32_t epochs)
{
    for (uint32_t e = 0; e < epochs; e++) {
        l->sum[e + 1] = l->sum[e] + l->rent[e];
    }
}

/* Of the epochs from..to-1. */
static double rents(const struct prices *l, uint32_t from, uint32_t to)
{
    return l->sum[to] - l->sum[from];
}

/* Scratch of evaluate(), one element per epoch. */
struct decisions {
    uint8_t *from_dram;         /* STAY, RETURN or LEAVE */
    uint8_t *from_nvm;          /* whether it is promoted for the next */
};

static void use(int64_t *change, uint32_t from, uint32_t to)
{
    change[from]++;
    change[to]--;
}

/* Notes in which epochs the page is in dram, from its first state on. */
static void follow(const struct entry *entry, size_t n, uint32_t epochs,
                   const struct decisions *d, bool in, int64_t *change)
{
    for (size_t i = 0; i < n; i++) {
        if (!in) {
            in = d->from_nvm[i];
            continue;
        }
        use(change, entry[i].epoch, d->from_dram[i] != STAY ?
            entry[i].epoch + 1 : i + 1 < n ? entry[i + 1].epoch : epochs);
        in = d->from_dram[i] != LEAVE;
    }
}

/* The least cost of one page, rents included. */
static double page_cost(const struct trace *t, uint32_t page,
                        const struct prices *l, const struct decisions *d,
                        int64_t *change)
{
    const struct entry *entry = t->entries + t->first[page];
    size_t n = t->first[page + 1] - t->first[page];
    uint32_t next = t->epochs;
    double in = 0, out = 0;     /* from the next epoch with write-backs on */
    double before, go;
    bool stays, first_in;

    for (size_t i = n; i--; ) {
        double gap = rents(l, entry[i].epoch + 1, next);
        double back = min2(gap, move_cost) + in, leave = move_cost + out;

        /* At the end both are 0: then to leave is as to return. */
        d->from_dram[i] = back > leave ? LEAVE :
            gap <= move_cost ? STAY : RETURN;
        d->from_nvm[i] = in < out;
        out = entry[i].lines + min2(in, out);
        in = l->rent[entry[i].epoch] + min2(back, leave);
        next = entry[i].epoch;
    }
    if (page >= t->dram) {
        follow(entry, n, t->epochs, d, in < out, change);
        return min2(in, out);
    }
    before = rents(l, 0, next);
    stays = before <= move_cost;
    go = move_cost + out;
    first_in = min2(before, move_cost) + in <= go;
    if (first_in && stays) {
        use(change, 0, next);
    }
    follow(entry, n, t->epochs, d, first_in, change);
    return min2(min2(before, move_cost) + in, go);
}

/* The bound at these prices; over[e]: pages in dram beyond the frames. */
static double evaluate(const struct trace *t, struct prices *l,
                       const struct decisions *d, double *over)
{
    int64_t *change = get(t->epochs + 1, sizeof(*change)), used = 0;
    double cost = 0;

    add_up(l, t->epochs);
    for (uint32_t p = 0; p < t->pages; p++) {
        cost += page_cost(t, p, l, d, change);
    }
    for (uint32_t e = 0; e < t->epochs; e++) {
        used += change[e];
        over[e] = (double)used - t->dram;
    }
    free(change);
    return cost - t->dram * l->sum[t->epochs];
}

/* --- A schedule ----------------------------------------------------------- */

/* Order of floats as that of integers. */
static uint32_t sortable(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/*
 * What dram is worth to the page in each epoch: the cost from there on without
 * it, less that with it.
 */
static void worth(const struct trace *t, uint32_t page,
                  const struct prices *l, float *value)
{
    size_t at = t->first[page + 1];
    double in = 0, out = 0;

    for (uint32_t e = t->epochs; e--; ) {
        double lines = 0, stay = min2(in, move_cost + out);

        if (at > t->first[page] && t->entries[at - 1].epoch == e) {
            lines = t->entries[--at].lines;
        }
        out = lines + min2(in, out);
        in = l->rent[e] + stay;
        value[(size_t)e * t->pages + page] = out - in;
    }
}

/* The k-th largest (k from 1); no two are equal.  Changes their order. */
static uint64_t kth_largest(uint64_t *key, size_t n, size_t k)
{
    size_t low = 0, high = n - 1, want = k - 1;

    while (low < high) {
        uint64_t pivot = key[low + (high - low) / 2];
        size_t i = low, j = high;

        for (;;) {
            while (key[i] > pivot) {
                i++;
            }
            while (key[j] < pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            uint64_t other = key[i];
            key[i++] = key[j];
            key[j--] = other;
        }
        if (i == j) {           /* the pivot, at its place */
            if (want == i) {
                break;
            } else if (want < i) {
                high = i - 1;
            } else {
                low = i + 1;
            }
        } else if (want <= j) {
            high = j;
        } else {
            low = i;
        }
    }
    return key[want];
}

struct schedule {
    uint64_t lines, moves;
};

/*
 * The least key of a page that is to be in dram in this epoch.  Of pages that
 * are worth the same, those that are in stay, then the first go first.
 */
static uint64_t threshold(const struct trace *t, const float *value,
                          const uint8_t *in, uint64_t *key, uint64_t *sorted)
{
    for (uint32_t p = 0; p < t->pages; p++) {
        float merit = value[p] + (in[p] ? (float)move_cost : 0);

        key[p] = (uint64_t)sortable(merit) << 32 | (uint64_t)in[p] << 31 |
            (0x7fffffffu - p);
    }
    memcpy(sorted, key, t->pages * sizeof(*key));
    return kth_largest(sorted, t->pages, t->dram);
}

static struct schedule run_schedule(const struct trace *t, const float *value)
{
    uint64_t *key = get(t->pages, 2 * sizeof(*key));
    uint8_t *in = get(t->pages, 1);
    size_t *at = get(t->pages, sizeof(*at));
    struct schedule done = { 0 };

    memset(in, 1, t->dram);
    memcpy(at, t->first, t->pages * sizeof(*at));
    for (uint32_t e = 0; e < t->epochs; e++) {
        uint64_t least = threshold(t, value + (size_t)e * t->pages, in, key,
                                   key + t->pages);

        for (uint32_t p = 0; p < t->pages; p++) {
            bool stays = key[p] >= least;
            bool written = at[p] < t->first[p + 1] &&
                t->entries[at[p]].epoch == e;

            done.moves += in[p] && !stays;
            in[p] = stays;
            done.lines += written && !stays ? t->entries[at[p]].lines : 0;
            at[p] += written;
        }
    }
    free(key);
    free(in);
    free(at);
    done.lines += done.moves * (uint64_t)move_cost;
    return done;
}

static struct schedule make_schedule(const struct trace *t, struct prices *l)
{
    float *value = get((size_t)t->pages * t->epochs, sizeof(*value));
    struct schedule done;

    for (uint32_t p = 0; p < t->pages; p++) {
        worth(t, p, l, value);
    }
    done = run_schedule(t, value);
    free(value);
    return done;
}

/* --- Fixed placements ----------------------------------------------------- */

/*
 * Nvm's write-backs if the pages of the largest sum (plus `bonus`, if they are
 * in dram now) are in dram throughout.
 */
static struct schedule fixed(const struct trace *t, float bonus)
{
    float *sum = get(t->pages, sizeof(*sum));
    uint64_t *key = get(t->pages, 2 * sizeof(*key)), least;
    uint8_t *none = get(t->pages, 1);
    struct schedule done = { t->lines, 0 };

    for (uint32_t p = 0; p < t->pages; p++) {
        sum[p] = p < t->dram ? bonus : 0;
        for (size_t i = t->first[p]; i < t->first[p + 1]; i++) {
            sum[p] += t->entries[i].lines;
        }
    }
    least = threshold(t, sum, none, key, key + t->pages);
    for (uint32_t p = 0; p < t->pages; p++) {
        if (key[p] < least) {
            done.moves += p < t->dram;
            continue;
        }
        for (size_t i = t->first[p]; i < t->first[p + 1]; i++) {
            done.lines -= t->entries[i].lines;
        }
    }
    free(sum);
    free(key);
    free(none);
    return done;
}

/* --- The search for prices ------------------------------------------------ */

struct search {
    const struct trace *t;
    struct decisions d;
    struct prices best;
    double bound, one_price;
    struct schedule schedule;
    double *over;               /* of the last evaluation */
    unsigned evaluations;
};

static double try_prices(struct search *s, struct prices *l)
{
    double bound = evaluate(s->t, l, &s->d, s->over);

    s->evaluations++;
    if (bound > s->bound) {
        s->bound = bound;
        memcpy(s->best.rent, l->rent, s->t->epochs * sizeof(*l->rent));
    }
    return bound;
}

static void offer(struct search *s, struct schedule schedule)
{
    if (schedule.lines < s->schedule.lines) {
        s->schedule = schedule;
    }
}

static void offer_at(struct search *s, struct prices *l)
{
    add_up(l, s->t->epochs);
    offer(s, make_schedule(s->t, l));
}

/* Bisection: the bound is concave in the price, its slope the sum of over. */
static void search_one_price(struct search *s, struct prices *l)
{
    double low = 0, high = 0;

    for (size_t i = 0; i < s->t->first[s->t->pages]; i++) {
        high = s->t->entries[i].lines > high ? s->t->entries[i].lines : high;
    }
    for (unsigned n = 0; n < ONE_PRICE_EVALUATIONS; n++) {
        double middle = (low + high) / 2, slope = 0;

        for (uint32_t e = 0; e < s->t->epochs; e++) {
            l->rent[e] = middle;
        }
        try_prices(s, l);
        for (uint32_t e = 0; e < s->t->epochs; e++) {
            slope += s->over[e];
        }
        *(slope > 0 ? &low : &high) = middle;
    }
    s->one_price = s->bound;
}

/*
 * A step towards where over is 0, as long as the gap suggests.  Returns
 * whether there is one.
 */
static bool step(struct search *s, struct prices *l, double bound,
                 double length)
{
    double norm = 0;

    for (uint32_t e = 0; e < s->t->epochs; e++) {
        bool stuck = l->rent[e] <= 0 && s->over[e] < 0;

        norm += stuck ? 0 : s->over[e] * s->over[e];
    }
    if (norm == 0) {
        return false;
    }
    for (uint32_t e = 0; e < s->t->epochs; e++) {
        double rent = l->rent[e] +
            length * (s->schedule.lines - bound) / norm * s->over[e];

        l->rent[e] = rent > 0 ? rent : 0;
    }
    return true;
}

static unsigned affordable(const struct trace *t)
{
    double n = WORK / (t->first[t->pages] + t->pages + 1.0);

    return n < MIN_EVALUATIONS ? MIN_EVALUATIONS :
        n > MAX_EVALUATIONS ? MAX_EVALUATIONS : n;
}

static void search_prices(struct search *s, struct prices *l)
{
    unsigned total = affordable(s->t), stale = 0;
    double length = 1, before = s->bound;

    memcpy(l->rent, s->best.rent, s->t->epochs * sizeof(*l->rent));
    for (unsigned n = 1; n <= total && s->schedule.lines > s->bound + 0.5;
         n++) {
        double bound = try_prices(s, l);

        stale = s->bound > before ? 0 : stale + 1;
        before = s->bound;
        if (n % (total / SCHEDULES) == 0) {
            offer_at(s, &s->best);
        }
        if (stale == PATIENCE) {        /* again from the best, shorter */
            stale = 0;
            length /= 2;
            memcpy(l->rent, s->best.rent, s->t->epochs * sizeof(*l->rent));
            bound = evaluate(s->t, l, &s->d, s->over);
            s->evaluations++;
        }
        if (!step(s, l, bound, length)) {
            break;
        }
    }
}

static void search(struct search *s)
{
    struct prices l = new_prices(s->t->epochs);
    const uint64_t lines = s->t->unmanaged;

    s->best = new_prices(s->t->epochs);
    s->d.from_dram = get(s->t->epochs, 1);
    s->d.from_nvm = get(s->t->epochs, 1);
    s->over = get(s->t->epochs, sizeof(double));
    s->schedule = (struct schedule) { lines, 0 };
    if (s->t->dram && s->t->epochs) {
        struct schedule still = fixed(s->t, move_cost);

        still.lines += still.moves * (uint64_t)move_cost;
        offer(s, still);
        search_one_price(s, &l);
        offer_at(s, &s->best);
        search_prices(s, &l);
        offer_at(s, &s->best);
    } else {
        s->bound = lines;       /* no dram, or nothing written */
    }
}

static void print(const struct trace *t, const struct search *s)
{
    struct schedule free_fixed = t->dram ? fixed(t, 0) :
        (struct schedule) { t->lines, 0 };
    /* Write-backs are whole lines. */
    double bound = ceil(s->bound - 1e-3);

    printf("{\"written-pages\": %" PRIu32 ", \"dram-pages\": %" PRIu32 ", "
           "\"epochs\": %" PRIu32 ", \"rows\": %zu,\n",
           t->written, t->dram, t->epochs, t->first[t->pages]);
    printf(" \"write-backs\": %" PRIu64 ", \"unmanaged\": %" PRIu64 ", "
           "\"fixed\": %" PRIu64 ",\n", t->lines, t->unmanaged,
           free_fixed.lines);
    printf(" \"bound\": %.0f, \"bound-one-price\": %.0f, "
           "\"feasible\": %" PRIu64 ", \"feasible-moves\": %" PRIu64 ", "
           "\"evaluations\": %u}\n", bound > 0 ? bound : 0,
           s->one_price > 0 ? ceil(s->one_price - 1e-3) : 0,
           s->schedule.lines, s->schedule.moves, s->evaluations);
}

int main(int argc, char **argv)
{
    struct search s = { 0 };
    struct trace t;
    uint64_t dram;

    if (argc != 5) {
        fputs("usage: oracle PAGES.TSV PHASE DRAM-PAGES LINES-PER-MOVE\n",
              stderr);
        return 2;
    }
    dram = number(argv[3], "DRAM-PAGES", 0);
    if (dram >= MAX_PAGES) {
        die("too many pages of dram");
    }
    move_cost = number(argv[4], "LINES-PER-MOVE", 0);
    t = make_trace(read_rows(argv[1], argv[2], dram), dram);
    s.t = &t;
    search(&s);
    print(&t, &s);
    return 0;
}
