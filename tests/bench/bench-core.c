/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scale benchmark of the hybridmem core: what a window costs in time and
 * memory, beside two things of known cost, in the same run: visiting every
 * set bit of the same bitmap, and memset of the metadata.
 *
 *   bench-core [--quick] [--check] [--json FILE]
 *
 * --quick: 1 and 16 GiB only.  --check: exit 1 if a goal is missed.
 *
 * Guests are of 4 KiB pages, a block each, a tenth in dram; bitmaps are
 * random.  Times are the least of some windows.  A window's plan is carried
 * out (in frames) outside the times.  Where a policy sees accesses, too, each
 * window of writes has one of accesses after it, with the engine's limits.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "hw/hybridmem/access.h"
#include "hw/hybridmem/policy.h"
#include "hw/hybridmem/bigmem.h"
#include "hw/hybridmem/dirty.h"

#define GIB (1024.0 * 1024 * 1024)
#define PAGES_PER_GIB (1ull << 18)

/* The first windows, not counted: they pay for page faults. */
#define WARM_UP 4
/*
 * A bitmap for each window: with a few in turn, the branch predictor comes to
 * know those of a small guest by heart.
 */
#define WINDOWS_MAX 32
/* RAMinate's number of pairs. */
#define PLAN_MAX 1000

#define INTERVAL_MS 1000
/* The defaults of access-rate and access-faults, for such an interval. */
#define WATCH_MAX PAGES_PER_GIB
#define FAULTS_MAX 20000

#define GOAL_RATIO 4.0          /* heat + write-heat to reading, 1 % dirty */
#define GOAL_BYTES 4.0          /* heat + write-heat, a page */
/*
 * Ratio to reading at the largest size over that at the smallest.  Reading
 * is linear, so linear growth is 1; the larger guests' metadata no longer
 * fits into caches, which costs some.
 */
#define GOAL_GROWTH 3.0

static const unsigned sizes_gib[] = { 1, 16, 256, 1024 };
static const double shares[] = { 0.01, 0.3 };
static const char *const policies[] = {
    "write-heat", "benefit", "temperature", "cmq", "shuffle", "none",
};

typedef struct Row {
    unsigned gib;
    double dirty;
    const char *what;
    bool run;
    double needs;               /* bytes, if not run */
    double ns;                  /* a page and window */
    double bytes;               /* a page */
    double frames_bytes;        /* a page */
    double to_read;
    double to_memset;
} Row;

static volatile uint64_t sink;  /* keeps the loops that feed it */
static uint64_t rng = 88172645463325252ull;

static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double available_bytes(void)
{
    g_autofree char *text = NULL;
    const char *p;

    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL)) {
        return HUGE_VAL;
    }
    p = strstr(text, "MemAvailable:");
    if (!p) {
        return HUGE_VAL;
    }
    return strtod(p + strlen("MemAvailable:"), NULL) * 1024;
}

/* Each bit with odds @p, by the distance to the next one. */
static void fill(unsigned long *map, uint64_t pages, double p)
{
    double scale = 1 / log1p(-p);
    uint64_t i = 0;

    memset(map, 0, BITS_TO_LONGS(pages) * sizeof(long));
    for (;;) {
        double u = ((rnd() >> 11) + 1) * ldexp(1, -53);

        i += (uint64_t)(log(u) * scale);
        if (i >= pages) {
            return;
        }
        map[i / BITS_PER_LONG] |= 1ul << (i % BITS_PER_LONG);
        i++;
    }
}

/* As anyone would write it: what "to reading" refers to. */
static void read_plain(const unsigned long *map, uint64_t pages)
{
    uint64_t sum = 0;

    for (size_t w = 0; w < BITS_TO_LONGS(pages); w++) {
        unsigned long rest = map[w];

        for (; rest; rest &= rest - 1) {
            sum += w * BITS_PER_LONG + __builtin_ctzl(rest);
        }
    }
    sink += sum;
}

/* As the core itself walks: shows which part of its time that is. */
static void read_batches(const unsigned long *map, uint64_t pages)
{
    uint64_t sum = 0;
    HmDirtyIter it;
    size_t n;

    hm_dirty_init(&it, map, pages, 1);
    while ((n = hm_dirty_next(&it))) {
        for (size_t i = 0; i < n; i++) {
            sum += it.block[i];
        }
    }
    sink += sum;
}

typedef struct Guest {
    uint64_t pages;
    unsigned windows;
    unsigned long *map[WINDOWS_MAX];
    HmMove plan[PLAN_MAX];
} Guest;

static void carry_out(HmPolicy *p, HmFrames *fr, const HmMove *plan, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        HmCycle c;
        HmMoveResult r = hm_frames_plan_cycle(fr, plan[i].promote,
                                              plan[i].demote, 0, &c);

        if (r == HM_MOVE_DONE) {
            hm_frames_apply(fr, &c);
        }
        hm_policy_moved(p, &plan[i], r);
    }
}

/* Nanoseconds a byte to set as much memory, up to @cap, touched before. */
static double memset_ns(size_t bytes)
{
    size_t part = MIN(bytes, (size_t)512 << 20);
    char *mem = hm_bigmem_new(part);
    double best = HUGE_VAL;

    memset(mem, 1, part);
    for (unsigned i = 0; i < 5; i++) {
        double start = now_ns();

        memset(mem, i, part);
        best = MIN(best, now_ns() - start);
        sink += mem[rnd() % part];
    }
    hm_bigmem_free(mem, part);
    return best / part;
}

typedef struct Times {
    double plain, batches, heat, accesses, policy;
} Times;

/* Which blocks are watched, and what is seen of them. */
typedef struct Watch {
    HmAccess *access;           /* NULL: accesses are not seen */
    uint32_t *block;
    uint8_t *weight;
    unsigned long *seen;
} Watch;

static void watch_init(Watch *w, uint64_t pages)
{
    w->access = hm_access_new(pages, 1);
    w->block = g_new(uint32_t, WATCH_MAX);
    w->weight = g_new(uint8_t, WATCH_MAX);
    w->seen = hm_bigmem_new(BITS_TO_LONGS(pages) * sizeof(long));
}

static void watch_clear(Watch *w, uint64_t pages)
{
    if (w->access) {
        hm_bigmem_free(w->seen, BITS_TO_LONGS(pages) * sizeof(long));
        hm_access_free(w->access);
    }
    g_free(w->block);
    g_free(w->weight);
}

/* A window in which those of @map are accessed.  Returns its own time. */
static double run_accesses(Watch *w, const unsigned long *map, HmPolicy *p,
                           double *observed)
{
    HmWindow window = {
        .sense = HM_SENSE_ACCESSES,
        .seen = w->seen,
        .elapsed_ms = INTERVAL_MS,
        .watched = w->block,
        .weight = w->weight,
    };
    double start = now_ns(), picked, learnt;

    window.n_watched = hm_access_pick(w->access, NULL, w->block, w->weight,
                                      WATCH_MAX, FAULTS_MAX);
    picked = now_ns() - start;
    for (size_t i = 0; i < window.n_watched; i++) {
        if (test_bit(w->block[i], map)) {
            set_bit(w->block[i], w->seen);
        }
    }
    start = now_ns();
    hm_access_window(w->access, &window);
    learnt = now_ns() - start;
    start = now_ns();
    hm_policy_observe(p, &window);
    *observed = now_ns() - start;
    for (size_t i = 0; i < window.n_watched; i++) {
        clear_bit(w->block[i], w->seen);
    }
    return picked + learnt;
}

static void run_windows(Guest *g, HmHeat *heat, HmFrames *frames,
                        HmPolicy *p, Watch *watch, Times *best)
{
    *best = (Times) { HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL };

    for (unsigned w = 0; w < g->windows; w++) {
        const unsigned long *map = g->map[w];
        double t0, t1, t2, t3, t4, t5, accesses = 0, observed = 0;
        size_t n;

        t0 = now_ns();
        read_plain(map, g->pages);
        t1 = now_ns();
        read_batches(map, g->pages);
        t2 = now_ns();
        hm_heat_window(heat, map, INTERVAL_MS);
        t3 = now_ns();
        hm_policy_observe(p, &(HmWindow) {
            .sense = HM_SENSE_WRITES,
            .seen = map,
            .elapsed_ms = INTERVAL_MS,
        });
        t4 = now_ns();
        if (watch->access) {
            accesses = run_accesses(watch, g->map[(w + 1) % g->windows], p,
                                    &observed);
        }
        t5 = now_ns();
        n = hm_policy_plan(p, g->plan, PLAN_MAX);
        observed += t4 - t3 + now_ns() - t5;
        carry_out(p, frames, g->plan, n);
        if (w >= WARM_UP) {
            best->plain = MIN(best->plain, t1 - t0);
            best->batches = MIN(best->batches, t2 - t1);
            best->heat = MIN(best->heat, t3 - t2);
            best->accesses = MIN(best->accesses, accesses);
            best->policy = MIN(best->policy, observed);
        }
    }
}

static bool sees_accesses(const char *policy)
{
    return hm_policy_find(policy)->accesses != NULL;
}

/* What the run will touch, in bytes. */
static double needs(const Guest *g, const char *policy)
{
    double a_page = 2 + 8 + g->windows / 8.0;

    if (g_str_equal(policy, "cmq")) {
        a_page += 16;
    }
    if (sees_accesses(policy)) {
        a_page += 8;
    }
    return g->pages * a_page + 600e6;
}

static void add_row(GArray *rows, const Guest *g, Row row, double ns,
                    double read_ns, double metadata)
{
    row.run = true;
    row.ns = ns / g->pages;
    row.bytes = metadata / g->pages;
    row.to_read = ns / read_ns;
    row.to_memset = metadata < g->pages / 64.0 ? 0 :
                    ns / (memset_ns(metadata) * metadata);
    g_array_append_val(rows, row);
}

static void bench_policy(GArray *rows, Guest *g, Row row, const char *name)
{
    uint32_t dram = g->pages / 10;
    HmExtent ext[] = {
        { 0, dram, HM_TIER_DRAM, true },
        { dram, g->pages - dram, HM_TIER_NVM, true },
    };
    HmFrames *frames = hm_frames_new(ext, 2);
    HmHeat *heat = hm_heat_new(g->pages, 1, 5000);
    HmPolicyParams params;
    Watch watch = { };
    HmPolicy *p;
    Times best;

    if (sees_accesses(name)) {
        watch_init(&watch, g->pages);
    }
    hm_policy_params_init(&params);
    params.cmq_max_pairs = PLAN_MAX;
    p = hm_policy_new(hm_policy_find(name), frames, heat, watch.access,
                      &params);
    run_windows(g, heat, frames, p, &watch, &best);
    row.frames_bytes = (double)hm_frames_bytes(frames) / g->pages;
    if (g_str_equal(name, "write-heat")) {
        row.what = "read bitmap, plainly";
        add_row(rows, g, row, best.plain, best.plain, 0);
        row.what = "read bitmap, in batches";
        add_row(rows, g, row, best.batches, best.plain, 0);
        row.what = "heat";
        add_row(rows, g, row, best.heat, best.plain, hm_heat_bytes(heat));
        row.what = "heat + write-heat";
        add_row(rows, g, row, best.heat + best.policy, best.plain,
                hm_heat_bytes(heat) + hm_policy_bytes(p));
    }
    if (watch.access) {
        row.what = "accesses";
        add_row(rows, g, row, best.accesses, best.plain,
                hm_access_bytes(watch.access));
    }
    if (g_str_equal(name, "benefit")) {
        row.what = "heat + accesses + benefit";
        add_row(rows, g, row, best.heat + best.accesses + best.policy,
                best.plain, hm_heat_bytes(heat) + hm_policy_bytes(p) +
                hm_access_bytes(watch.access));
    }
    row.what = name;
    add_row(rows, g, row, best.policy, best.plain, hm_policy_bytes(p));
    hm_policy_free(p);
    watch_clear(&watch, g->pages);
    hm_heat_free(heat);
    hm_frames_free(frames);
}

static void bench_size(GArray *rows, unsigned gib, double dirty)
{
    g_autofree Guest *g = g_new0(Guest, 1);
    Row row = { .gib = gib, .dirty = dirty };

    g->pages = gib * PAGES_PER_GIB;
    g->windows = gib <= 16 ? WINDOWS_MAX : gib <= 256 ? 14 : 10;
    for (unsigned i = 0; i < g->windows; i++) {
        g->map[i] = hm_bigmem_new(BITS_TO_LONGS(g->pages) * sizeof(long));
        fill(g->map[i], g->pages, dirty);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(policies); i++) {
        fprintf(stderr, "%u GiB, %.0f %% dirty, %s\n", gib, dirty * 100,
                policies[i]);
        if (needs(g, policies[i]) > available_bytes() * 0.8) {
            Row not_run = row;

            not_run.what = policies[i];
            not_run.needs = needs(g, policies[i]);
            g_array_append_val(rows, not_run);
            continue;
        }
        bench_policy(rows, g, row, policies[i]);
    }
    for (unsigned i = 0; i < g->windows; i++) {
        hm_bigmem_free(g->map[i], BITS_TO_LONGS(g->pages) * sizeof(long));
    }
}

static void print_table(const GArray *rows)
{
    printf("| guest | dirty | what | ns/page | to reading | to memset "
           "| bytes/page | frames, bytes/page |\n"
           "|---|---|---|---|---|---|---|---|\n");
    for (guint i = 0; i < rows->len; i++) {
        const Row *r = &g_array_index(rows, Row, i);
        g_autofree char *to_memset = r->to_memset ?
            g_strdup_printf("%.2f", r->to_memset) : g_strdup("-");

        if (!r->run) {
            printf("| %u GiB | %.0f %% | %s | not run: needs %.0f GiB "
                   "| | | | |\n", r->gib, r->dirty * 100, r->what,
                   ceil(r->needs / GIB));
            continue;
        }
        printf("| %u GiB | %.0f %% | %s | %.4f | %.2f | %s | %.3f | %.2f |\n",
               r->gib, r->dirty * 100, r->what, r->ns, r->to_read, to_memset,
               r->bytes, r->frames_bytes);
    }
}

static bool write_json(const GArray *rows, const char *path)
{
    g_autoptr(GString) s = g_string_new("[");
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < rows->len; i++) {
        const Row *r = &g_array_index(rows, Row, i);

        g_string_append_printf(s, "%s\n  {\"gib\": %u, \"dirty\": %.2f, "
                               "\"what\": \"%s\", ", i ? "," : "", r->gib,
                               r->dirty, r->what);
        if (r->run) {
            g_string_append_printf(s, "\"ns_per_page\": %.6f, "
                                   "\"to_reading\": %.4f, "
                                   "\"to_memset\": %.4f, "
                                   "\"bytes_per_page\": %.4f, "
                                   "\"frames_bytes_per_page\": %.4f}",
                                   r->ns, r->to_read, r->to_memset, r->bytes,
                                   r->frames_bytes);
        } else {
            g_string_append_printf(s, "\"needs_bytes\": %.0f}", r->needs);
        }
    }
    g_string_append(s, "\n]\n");
    if (!g_file_set_contents(path, s->str, s->len, &error)) {
        fprintf(stderr, "bench-core: %s\n", error->message);
        return false;
    }
    return true;
}

static bool goal(const char *what, double worst, double limit)
{
    bool met = worst <= limit;

    printf("* %s: %.2f, goal at most %.0f: %s\n", what, worst, limit,
           met ? "met" : "MISSED");
    return met;
}

static bool check_goals(const GArray *rows)
{
    double ratio = 0, bytes = 0, first = 0, last = 0;

    for (guint i = 0; i < rows->len; i++) {
        const Row *r = &g_array_index(rows, Row, i);

        if (!r->run || !g_str_equal(r->what, "heat + write-heat")) {
            continue;
        }
        bytes = MAX(bytes, r->bytes);
        if (r->dirty == shares[0]) {
            ratio = MAX(ratio, r->to_read);
            first = first ? first : r->to_read;
            last = r->to_read;
        }
    }
    printf("\n");
    return goal("heat + write-heat at 1 % dirty, to reading the bitmap",
                ratio, GOAL_RATIO) &
           goal("their metadata, bytes a page", bytes, GOAL_BYTES) &
           goal("growth: that ratio in the largest guest to the smallest",
                last / first, GOAL_GROWTH);
}

int main(int argc, char **argv)
{
    gboolean quick = FALSE, check = FALSE;
    g_autofree char *json = NULL;
    const GOptionEntry options[] = {
        { "quick", 0, 0, G_OPTION_ARG_NONE, &quick, "1 and 16 GiB only",
          NULL },
        { "check", 0, 0, G_OPTION_ARG_NONE, &check,
          "exit 1 if a goal is missed", NULL },
        { "json", 0, 0, G_OPTION_ARG_FILENAME, &json, "write the table there",
          "FILE" },
        { NULL }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(Row));
    g_autoptr(GError) error = NULL;
    bool met;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "bench-core: %s\n",
                error ? error->message : "no arguments are expected");
        return 2;
    }
    for (size_t s = 0; s < G_N_ELEMENTS(sizes_gib) - (quick ? 2 : 0); s++) {
        for (size_t d = 0; d < G_N_ELEMENTS(shares); d++) {
            bench_size(rows, sizes_gib[s], shares[d]);
        }
    }
    print_table(rows);
    met = check_goals(rows);
    if (json && !write_json(rows, json)) {
        return 2;
    }
    return check && !met;
}
