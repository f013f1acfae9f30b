/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gives a recorded trace to policies, and says what each would have left of
 * the traffic to nvm.  The policies are the objects that QEMU is linked
 * with.  See docs/replay.md.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hybridmem-replay.h"

/* The optimum takes seconds up to here, and memory in bytes. */
#define OPTIMUM_BYTES_MAX (1e9)

typedef struct Options {
    char **policies;
    char *dram, *block_size, *max_bandwidth;
    char *trace_in, *trace_out;
    char *meter, *ranges, *phase;
    gint64 half_life_ms, interval_ms, access_faults;
    gboolean json, no_optimum;
} Options;

/* A policy to run. */
typedef struct Asked {
    const char *label;
    const HmPolicyOps *ops;
    HmPolicyParams params;
} Asked;

static void G_GNUC_PRINTF(1, 2) G_NORETURN die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("hybridmem-replay: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* --- values of options ------------------------------------------------- */

static uint64_t number(const char *what, const char *text, uint64_t min,
                       uint64_t max)
{
    uint64_t n;

    if (!g_ascii_string_to_unsigned(text, 10, min, max, &n, NULL)) {
        die("%s=%s is not a number from %" PRIu64 " to %" PRIu64, what, text,
            min, max);
    }
    return n;
}

/* Bytes: a number, and K, M, G or T for powers of 1024. */
static uint64_t size_of(const char *what, const char *text)
{
    static const char units[] = "KMGT";
    size_t digits = strspn(text, "0123456789");
    g_autofree char *n = g_strndup(text, digits);
    const char *unit = text[digits] ? strchr(units, text[digits]) : NULL;
    unsigned shift = unit ? 10 * (unit - units + 1) : 0;

    if (text[digits] && (!unit || text[digits + 1])) {
        die("%s=%s is not a size, such as 64M", what, text);
    }
    return number(what, n, 1, UINT64_MAX >> 1 >> shift) << shift;
}

typedef struct Param {
    const char *name;
    uint64_t min, max;
} Param;

enum {
    MIN_GAIN, READ_COST, WRITE_COST, MAP_LIMIT, CMQ_LIFETIME, CMQ_CORK,
    CMQ_MAX_PAIRS, SEED,
};

/* As in QMP, where they are; see usage.md. */
static const Param param_table[] = {
    [MIN_GAIN] = { "min-gain", 0, 100000000 },
    [READ_COST] = { "read-cost", 0, 1000000000 },
    [WRITE_COST] = { "write-cost", 0, 1000000000 },
    [MAP_LIMIT] = { "map-limit", 0, UINT64_MAX },
    [CMQ_LIFETIME] = { "cmq-lifetime", 1, 86400000 },
    [CMQ_CORK] = { "cmq-cork", 1, 86400000 },
    [CMQ_MAX_PAIRS] = { "cmq-max-pairs", 1, 1000000 },
    [SEED] = { "seed", 0, UINT64_MAX },
};

static void store(HmPolicyParams *p, unsigned which, uint64_t value)
{
    switch (which) {
    case MIN_GAIN:
        p->min_gain = value / 100.0;
        break;
    case READ_COST:
        p->read_cost = value;
        break;
    case WRITE_COST:
        p->write_cost = value;
        break;
    case MAP_LIMIT:
        p->map_limit = value;
        break;
    case CMQ_LIFETIME:
        p->cmq_lifetime_ms = value;
        break;
    case CMQ_CORK:
        p->cmq_cork_ms = value;
        break;
    case CMQ_MAX_PAIRS:
        p->cmq_max_pairs = value;
        break;
    case SEED:
        p->seed = value;
        break;
    default:
        g_assert_not_reached();
    }
}

static void set_param(HmPolicyParams *p, const char *text)
{
    const char *value = strchr(text, '=');
    g_autofree char *name = value ? g_strndup(text, value - text) : NULL;

    for (unsigned i = 0; name && i < ARRAY_SIZE(param_table); i++) {
        const Param *d = &param_table[i];

        if (g_str_equal(d->name, name)) {
            store(p, i, number(name, value + 1, d->min, d->max));
            return;
        }
    }
    die("'%s' is none of min-gain=, read-cost=, write-cost=, map-limit=,"
        " cmq-lifetime=, cmq-cork=, cmq-max-pairs=, seed=", text);
}

static char *policy_names(void)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; hm_policy_nth(i); i++) {
        g_string_append_printf(s, "%s%s", i ? ", " : "",
                               hm_policy_nth(i)->name);
    }
    return g_string_free(s, false);
}

static Asked ask(const char *text)
{
    g_auto(GStrv) part = g_strsplit(text, ",", -1);
    Asked a = {
        .label = text,
        .ops = part[0] ? hm_policy_find(part[0]) : NULL,
    };

    if (!a.ops) {
        g_autofree char *names = policy_names();

        die("policy '%s' is not known; one of %s", part[0] ?: "", names);
    }
    hm_policy_params_init(&a.params);
    for (unsigned i = 1; part[i]; i++) {
        set_param(&a.params, part[i]);
    }
    return a;
}

/* Those that were named, or all that plan something by themselves. */
static GArray *asked_policies(const Options *o)
{
    GArray *asked = g_array_new(false, false, sizeof(Asked));

    for (unsigned i = 0; o->policies && o->policies[i]; i++) {
        Asked a = ask(o->policies[i]);

        g_array_append_val(asked, a);
    }
    for (unsigned i = 0; !o->policies && hm_policy_nth(i); i++) {
        const HmPolicyOps *ops = hm_policy_nth(i);

        if (!ops->passive && !ops->continuous) {
            Asked a = ask(ops->name);

            g_array_append_val(asked, a);
        }
    }
    return asked;
}

/* --- the trace --------------------------------------------------------- */

static uint64_t range_pages(const char *text)
{
    uint64_t bytes = size_of("--ranges", text);

    if (bytes % METER_PAGE_SIZE ||
        bytes / METER_PAGE_SIZE > HM_OPTIMUM_PAGES) {
        die("--ranges: %s is not a whole number of pages, or too large",
            text);
    }
    return bytes / METER_PAGE_SIZE;
}

static GByteArray *convert(const Options *o)
{
    g_auto(GStrv) range = g_strsplit(o->ranges ?: "", ",", -1);
    g_autofree char *why = NULL;
    Meter m = {
        .path = o->meter, .phase = o->phase, .interval_ms = o->interval_ms,
    };
    GByteArray *bytes;

    if (g_strv_length(range) != 2 || m.interval_ms < 1) {
        die("--meter needs --ranges=DRAM,NVM, the sizes of its ranges, and"
            " --interval=MS, the time that an epoch stands for");
    }
    m.range_pages[HM_TIER_DRAM] = range_pages(range[0]);
    m.range_pages[HM_TIER_NVM] = range_pages(range[1]);
    bytes = meter_to_trace(&m, &why);
    if (!bytes) {
        die("%s", why);
    }
    return bytes;
}

static GByteArray *load(const Options *o)
{
    g_autoptr(GError) error = NULL;
    gsize size;
    char *data;

    if (o->meter) {
        return convert(o);
    }
    if (!g_file_get_contents(o->trace_in, &data, &size, &error)) {
        die("%s", error->message);
    }
    if (size > UINT32_MAX) {
        die("%s: more than 4 GiB", o->trace_in);
    }
    return g_byte_array_new_take((guint8 *)data, size);
}

/* Only what is whole: so a torn trace is mended. */
static void save(const Options *o, const GByteArray *bytes,
                 HmTraceReader *trace)
{
    g_autoptr(GError) error = NULL;

    if (o->trace_out &&
        !g_file_set_contents(o->trace_out, (const char *)bytes->data,
                             hm_trace_whole(trace), &error)) {
        die("%s", error->message);
    }
}

/* --- the setup --------------------------------------------------------- */

static uint32_t dram_blocks(const Options *o, const Setup *s)
{
    const HmTraceInfo *info = hm_trace_reader_info(s->trace);
    uint64_t block_size = (uint64_t)info->page_size * s->pages_per_block;
    uint32_t all = setup_blocks(s);
    size_t length = strlen(o->dram);
    double blocks;

    if (length && o->dram[length - 1] == '%') {
        char *end;
        double part = g_ascii_strtod(o->dram, &end);

        if (end != o->dram + length - 1 || !(part > 0 && part < 100)) {
            die("--dram=%s: a part is more than 0%% and less than 100%%",
                o->dram);
        }
        blocks = floor(part / 100 * all);
    } else {
        blocks = floor((double)size_of("--dram", o->dram) / block_size);
    }
    if (blocks < 1 || blocks >= all) {
        die("--dram=%s is not possible: there are %" PRIu32 " blocks of %"
            PRIu64 " bytes, and each tier must have one", o->dram, all,
            block_size);
    }
    return blocks;
}

static void set_block_size(const Options *o, Setup *s)
{
    uint32_t page_size = hm_trace_reader_info(s->trace)->page_size;
    uint64_t size = size_of("--block-size", o->block_size);

    if (size & (size - 1) || size < page_size ||
        size / page_size > hm_trace_reader_info(s->trace)->pages) {
        die("--block-size=%s is not a power of two from %" PRIu32 " up to"
            " guest RAM", o->block_size, page_size);
    }
    s->pages_per_block = size / page_size;
    if (DIV_ROUND_UP(hm_trace_reader_info(s->trace)->pages,
                     s->pages_per_block) >= HM_BLOCK_NONE) {
        die("--block-size=%s makes too many blocks of a guest of this size:"
            " use a larger one", o->block_size);
    }
    if (!o->dram) {
        die("--block-size needs --dram");
    }
}

static Setup make_setup(const Options *o, HmTraceReader *trace)
{
    const HmTraceInfo *info = hm_trace_reader_info(trace);
    Setup s = {
        .trace = trace,
        .pages_per_block = info->pages_per_block,
        .half_life_ms = o->half_life_ms ?: info->half_life_ms,
    };

    if (o->half_life_ms < 0) {
        die("--half-life must be 1 or more");
    }
    if (o->access_faults < 0) {
        die("--access-faults must be 0 or more");
    }
    s.access_faults = o->access_faults;
    if (o->max_bandwidth) {
        s.max_bandwidth = size_of("--max-bandwidth", o->max_bandwidth);
    }
    if (o->block_size) {
        set_block_size(o, &s);
    }
    if (o->dram) {
        s.dram = dram_blocks(o, &s);
    }
    return s;
}

/* --- replay ------------------------------------------------------------ */

/* NULL: @why says why not. */
static HmOptimum *find_optimum(const Setup *setup, const Survey *s,
                               GArray *rows, uint32_t dram, const char **why)
{
    uint64_t cost = page_cost(setup, s) * setup->pages_per_block;
    HmOptimum *o;

    if (s->rows_cut || setup_blocks(setup) > HM_OPTIMUM_PAGES ||
        s->windows > HM_OPTIMUM_EPOCHS ||
        hm_optimum_bytes(MIN(setup_blocks(setup), dram + rows->len),
                         s->windows, rows->len) > OPTIMUM_BYTES_MAX) {
        *why = "the trace is too long for it";
        return NULL;
    }
    o = g_new(HmOptimum, 1);
    *why = hm_optimum((HmOptimumRow *)rows->data, rows->len, dram, cost, o);
    g_assert(!*why);
    return o;
}

static void replay(const Options *o, const Setup *setup, const GArray *asked)
{
    GArray *rows = o->no_optimum ? NULL :
                   g_array_new(false, false, sizeof(HmOptimumRow));
    GArray *results = g_array_new(false, true, sizeof(Result));
    g_autofree HmOptimum *optimum = NULL;
    g_autofree char *why = NULL;
    Result unmanaged = { };
    Asked none = ask("none");
    Survey s;
    Report report = {
        .setup = setup, .survey = &s, .unmanaged = &unmanaged,
        .results = results, .no_optimum = "not asked for",
    };

    if (!survey(setup, &s, rows, OPTIMUM_BYTES_MAX / hm_optimum_bytes(0, 0, 1),
                &report.dram, &why)) {
        die("%s", why);
    }
    run_policy(setup, &s, none.ops, &none.params, &unmanaged);
    g_array_set_size(results, asked->len);
    for (guint i = 0; i < asked->len; i++) {
        const Asked *a = &g_array_index(asked, Asked, i);
        Result *res = &g_array_index(results, Result, i);

        res->label = g_strdup(a->label);
        run_policy(setup, &s, a->ops, &a->params, res);
    }
    if (rows) {
        optimum = find_optimum(setup, &s, rows, report.dram,
                               &report.no_optimum);
        report.optimum = optimum;
        g_array_free(rows, true);
    }
    (o->json ? print_json : print_table)(&report);
    for (guint i = 0; i < results->len; i++) {
        g_free(g_array_index(results, Result, i).label);
    }
    g_array_free(results, true);
}

static void parse_options(Options *o, int argc, char **argv)
{
    const GOptionEntry entries[] = {
        { "trace-in", 0, 0, G_OPTION_ARG_FILENAME, &o->trace_in,
          "a trace, as recorded with trace=FILE", "FILE" },
        { "meter", 0, 0, G_OPTION_ARG_FILENAME, &o->meter,
          "a table of the meter's (pages=), in place of a trace", "FILE" },
        { "ranges", 0, 0, G_OPTION_ARG_STRING, &o->ranges,
          "meter: sizes of the ranges dram and nvm", "SIZE,SIZE" },
        { "interval", 0, 0, G_OPTION_ARG_INT64, &o->interval_ms,
          "meter: milliseconds that an epoch stands for", "MS" },
        { "phase", 0, 0, G_OPTION_ARG_STRING, &o->phase,
          "meter: which phase, if there are several", "N" },
        { "trace-out", 0, 0, G_OPTION_ARG_FILENAME, &o->trace_out,
          "write what was read as a trace", "FILE" },
        { "policy", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o->policies,
          "a policy and its parameters; repeat it; else all",
          "NAME[,PARAM=N...]" },
        { "dram", 0, 0, G_OPTION_ARG_STRING, &o->dram,
          "the first so many bytes lie in dram; else as recorded",
          "SIZE|PART%" },
        { "block-size", 0, 0, G_OPTION_ARG_STRING, &o->block_size,
          "what moves at once; with --dram", "SIZE" },
        { "half-life", 0, 0, G_OPTION_ARG_INT64, &o->half_life_ms,
          "of temperatures; else as recorded", "MS" },
        { "max-bandwidth", 0, 0, G_OPTION_ARG_STRING, &o->max_bandwidth,
          "most bytes a second that moves may copy; else no limit", "SIZE" },
        { "access-faults", 0, 0, G_OPTION_ARG_INT64, &o->access_faults,
          "most page faults a second that watching may cost; else no limit",
          "N" },
        { "no-optimum", 0, 0, G_OPTION_ARG_NONE, &o->no_optimum,
          "do not look for the optimum", NULL },
        { "json", 0, 0, G_OPTION_ARG_NONE, &o->json, "print JSON", NULL },
        { NULL }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(context, "Gives a recorded trace to"
                                 " policies.  See docs/replay.md.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        die("%s", error->message);
    }
    if (argc > 1) {
        die("'%s' is no option", argv[1]);
    }
    if (!o->trace_in == !o->meter) {
        die("give either --trace-in=FILE or --meter=FILE");
    }
}

static void free_options(Options *o)
{
    g_strfreev(o->policies);
    g_free(o->dram);
    g_free(o->block_size);
    g_free(o->max_bandwidth);
    g_free(o->trace_in);
    g_free(o->trace_out);
    g_free(o->meter);
    g_free(o->ranges);
    g_free(o->phase);
}

int main(int argc, char **argv)
{
    g_autofree char *why = NULL;
    Options options = { };
    HmTraceReader *trace;
    GByteArray *bytes;
    GArray *asked;
    Setup setup;

    parse_options(&options, argc, argv);
    asked = asked_policies(&options);
    bytes = load(&options);
    trace = hm_trace_reader_new(bytes->data, bytes->len, &why);
    if (!trace) {
        die("%s: %s", options.trace_in ?: options.meter, why);
    }
    setup = make_setup(&options, trace);
    replay(&options, &setup, asked);
    save(&options, bytes, trace);
    hm_trace_reader_free(trace);
    g_byte_array_free(bytes, true);
    g_array_free(asked, true);
    free_options(&options);
    return 0;
}
