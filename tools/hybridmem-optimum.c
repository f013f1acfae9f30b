/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a policy that knew the future could reach.
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
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hybridmem-optimum.h"

/* Evaluations for the prices: as many as take some seconds, by the rows. */
#define WORK 300000000.0
#define MIN_EVALUATIONS 24
#define MAX_EVALUATIONS 600
#define ONE_PRICE_EVALUATIONS 24
#define SCHEDULES 4
/* Shorten the steps after so many without a better bound. */
#define PATIENCE 6

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
    double move_cost;
};

struct prices {
    double *rent;               /* per epoch */
    double *sum;                /* epochs + 1 prefix sums of rent */
};

/* How a page goes on from an epoch with write-backs to its next one. */
enum { STAY, RETURN, LEAVE };

static void *get(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);

    if (!p) {
        fprintf(stderr, "no memory for %zu times %zu bytes\n", n, size);
        exit(1);
    }
    return p;
}

static double min2(double a, double b)
{
    return a < b ? a : b;
}

/* --- From rows ------------------------------------------------------------ */

/* Epochs in which nothing was written back cost nothing and are left out. */
static uint32_t number_epochs(HmOptimumRow *row, size_t rows)
{
    uint32_t *index = get(HM_OPTIMUM_EPOCHS, sizeof(*index)), n = 0;

    for (size_t i = 0; i < rows; i++) {
        index[row[i].epoch] = 1;
    }
    for (uint32_t e = 0; e < HM_OPTIMUM_EPOCHS; e++) {
        n += index[e];
        index[e] = index[e] ? n - 1 : 0;
    }
    for (size_t i = 0; i < rows; i++) {
        row[i].epoch = index[row[i].epoch];
    }
    free(index);
    return n;
}

static uint32_t number_pages(HmOptimumRow *row, size_t rows, uint32_t dram)
{
    uint32_t last = dram, n = dram, *index;

    for (size_t i = 0; i < rows; i++) {
        last = row[i].page >= last ? row[i].page + 1 : last;
    }
    index = get(last, sizeof(*index));
    for (size_t i = 0; i < rows; i++) {
        index[row[i].page] = 1;
    }
    for (uint32_t p = dram; p < last; p++) {
        n += index[p];
        index[p] = n - 1;
    }
    for (size_t i = 0; i < rows; i++) {
        if (row[i].page >= dram) {
            row[i].page = index[row[i].page];
        }
    }
    free(index);
    return n;
}

/*
 * Rows come by epoch, so that a page's are nearly in order.  False: two are
 * of the same epoch.
 */
static bool sort_entries(struct entry *entry, size_t n)
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
            return false;
        }
    }
    return true;
}

static void fill_entries(struct trace *t, const HmOptimumRow *row, size_t n)
{
    size_t *fill = get(t->pages, sizeof(*fill));

    for (size_t i = 0; i < n; i++) {
        t->first[row[i].page + 1]++;
    }
    for (uint32_t p = 0; p < t->pages; p++) {
        t->first[p + 1] += t->first[p];
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t page = row[i].page;

        t->entries[t->first[page] + fill[page]++] =
            (struct entry) { row[i].epoch, row[i].lines };
        t->lines += row[i].lines;
        t->unmanaged += page >= t->dram ? row[i].lines : 0;
    }
    free(fill);
}

static const char *make_trace(struct trace *t, HmOptimumRow *row, size_t n,
                              uint32_t dram, uint32_t move_cost)
{
    *t = (struct trace) { .dram = dram, .move_cost = move_cost };
    t->epochs = number_epochs(row, n);
    t->pages = number_pages(row, n, dram);
    t->first = get((size_t)t->pages + 1, sizeof(*t->first));
    t->entries = get(n, sizeof(*t->entries));
    fill_entries(t, row, n);
    for (uint32_t p = 0; p < t->pages; p++) {
        size_t rows = t->first[p + 1] - t->first[p];

        if (!sort_entries(t->entries + t->first[p], rows)) {
            return "a page has two rows in one epoch";
        }
        t->written += rows > 0;
    }
    return NULL;
}

/* --- The bound ------------------------------------------------------------ */

static struct prices new_prices(uint32_t epochs)
{
    return (struct prices) { get(epochs, sizeof(double)),
                             get(epochs + 1, sizeof(double)) };
}

static void free_prices(struct prices *l)
{
    free(l->rent);
    free(l->sum);
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
        double back = min2(gap, t->move_cost) + in, leave = t->move_cost + out;

        /* At the end both are 0: then to leave is as to return. */
        d->from_dram[i] = back > leave ? LEAVE :
            gap <= t->move_cost ? STAY : RETURN;
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
    stays = before <= t->move_cost;
    go = t->move_cost + out;
    first_in = min2(before, t->move_cost) + in <= go;
    if (first_in && stays) {
        use(change, 0, next);
    }
    follow(entry, n, t->epochs, d, first_in, change);
    return min2(min2(before, t->move_cost) + in, go);
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
        double lines = 0, stay = min2(in, t->move_cost + out);

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
        float merit = value[p] + (in[p] ? (float)t->move_cost : 0);

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
    done.lines += done.moves * (uint64_t)t->move_cost;
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
        struct schedule still = fixed(s->t, s->t->move_cost);

        still.lines += still.moves * (uint64_t)s->t->move_cost;
        offer(s, still);
        search_one_price(s, &l);
        offer_at(s, &s->best);
        search_prices(s, &l);
        offer_at(s, &s->best);
    } else {
        s->bound = lines;       /* no dram, or nothing written */
    }
    free_prices(&l);
}

static void tell(const struct trace *t, const struct search *s,
                 HmOptimum *result)
{
    /* Lines are whole. */
    double bound = ceil(s->bound - 0.001);
    double one_price = ceil(s->one_price - 0.001);

    *result = (HmOptimum) {
        .written = t->written,
        .epochs = t->epochs,
        .rows = t->first[t->pages],
        .lines = t->lines,
        .unmanaged = t->unmanaged,
        .fixed = t->dram ? fixed(t, 0).lines : t->lines,
        .bound = bound > 0 ? bound : 0,
        .bound_one_price = one_price > 0 ? one_price : 0,
        .feasible = s->schedule.lines,
        .feasible_moves = s->schedule.moves,
        .evaluations = s->evaluations,
    };
}

const char *hm_optimum(HmOptimumRow *row, size_t n, uint32_t dram,
                       uint32_t move_cost, HmOptimum *result)
{
    struct search s = { 0 };
    struct trace t;
    const char *why = make_trace(&t, row, n, dram, move_cost);

    if (!why) {
        s.t = &t;
        search(&s);
        tell(&t, &s, result);
        free_prices(&s.best);
        free(s.d.from_dram);
        free(s.d.from_nvm);
        free(s.over);
    }
    free(t.entries);
    free(t.first);
    return why;
}

double hm_optimum_bytes(uint64_t pages, uint64_t epochs, size_t rows)
{
    return (double)pages * (epochs * sizeof(float) + 64) +
        (double)rows * 2 * sizeof(HmOptimumRow);
}
