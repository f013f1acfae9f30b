/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "hybridmem-meter.h"

static bool refuse(const char *arg, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static bool refuse(const char *arg, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "hybridmem-meter: %s: ", arg);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return false;
}

/* 0x..., or decimal, and K, M or G for powers of 1024. */
static bool parse_number(const char *s, uint64_t *result)
{
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    unsigned shift = 0;
    const char *suffix;
    char *end;
    uint64_t n;

    if (!g_ascii_isxdigit(s[hex ? 2 : 0])) {
        return false;
    }
    n = g_ascii_strtoull(s, &end, hex ? 16 : 10);
    suffix = *end ? strchr("KMGkmg", *end) : NULL;
    if (suffix) {
        shift = 10 * ((suffix - "KMGkmg") % 3 + 1);
        end++;
    }
    *result = n << shift;
    return *end == 0 && n != UINT64_MAX && *result >> shift == n;
}

static bool good_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.");

    return n && name[n] == 0 && strcmp(name, "other");
}

static bool check_range(const HmOptions *o, const char *arg, const HmRange *r)
{
    const uint64_t rest = (1 << HM_PAGE_BITS) - 1;

    if ((r->start | r->size) & rest || !r->size) {
        return refuse(arg, "START and SIZE must be multiples of 4096, and SIZE"
                      " not 0; round them to whole pages");
    }
    if (r->start + r->size - 1 < r->start ||
        (r->start + r->size - 1) >> 52) {
        return refuse(arg, "the range goes beyond 52 bits of physical address;"
                      " make START or SIZE smaller");
    }
    for (unsigned i = HM_OTHER + 1; i < o->ranges; i++) {
        const HmRange *p = &o->range[i];

        if (strcmp(p->name, r->name) == 0) {
            return refuse(arg, "there is a range '%s' already; choose another"
                          " NAME", r->name);
        }
        if (r->start < p->start + p->size && p->start < r->start + r->size) {
            return refuse(arg, "overlaps range=%s:0x%" PRIx64 ":0x%" PRIx64
                          "; make one of them smaller", p->name, p->start,
                          p->size);
        }
    }
    return true;
}

static bool parse_range(HmOptions *o, const char *arg, const char *value)
{
    g_auto(GStrv) part = g_strsplit(value, ":", -1);
    HmRange *r = &o->range[o->ranges];

    if (g_strv_length(part) != 3 || !parse_number(part[1], &r->start) ||
        !parse_number(part[2], &r->size)) {
        return refuse(arg, "NAME:START:SIZE is meant, in numbers as 0x40000000,"
                      " 4096 or 1G; for example range=nvm:0x60000000:256M");
    }
    if (!good_name(part[0])) {
        return refuse(arg, "NAME is of a-z, 0-9, '-', '_', '.', and not"
                      " 'other', which is the rest of RAM");
    }
    if (o->ranges == HM_RANGES_MAX) {
        return refuse(arg, "there are %d ranges already; leave some out",
                      HM_RANGES_MAX - 1);
    }
    r->name = part[0];
    if (!check_range(o, arg, r)) {
        return false;
    }
    r->name = g_strdup(part[0]);
    o->ranges++;
    return true;
}

static bool parse_cache(HmCacheSize *c, const char *arg, const char *value)
{
    g_auto(GStrv) part = g_strsplit(value, ":", -1);
    uint64_t ways, lines, sets;

    if (c->ways) {
        return refuse(arg, "given twice; leave one out");
    }
    if (g_strv_length(part) != 2 || !parse_number(part[0], &c->bytes) ||
        !parse_number(part[1], &ways)) {
        return refuse(arg, "SIZE:WAYS is meant; for example llc=8M:16");
    }
    if (ways < 1 || ways > HM_CACHE_WAYS_MAX) {
        return refuse(arg, "WAYS is a number from 1 to %d", HM_CACHE_WAYS_MAX);
    }
    lines = c->bytes >> HM_LINE_BITS;
    sets = lines / ways;
    if (c->bytes > 1ull << 36 || c->bytes != (sets * ways) << HM_LINE_BITS ||
        !sets || sets & (sets - 1)) {
        return refuse(arg, "SIZE must be WAYS x 64 bytes x a power of two, at"
                      " most 64G; the next smaller one is %" PRIu64 ":%"
                      PRIu64, (ways << HM_LINE_BITS) <<
                      (g_bit_storage(MIN(MAX(sets, 1), 1 << 24)) - 1), ways);
    }
    c->ways = ways;
    return true;
}

/* Which ranges there are is known later: resolve_mode(). */
static bool parse_mode(HmOptions *o, const char *arg, const char *value)
{
    HmModeOption *mode = &o->mode[o->modes];
    const char *size = strchr(value, ':');

    if (o->modes == HM_RANGES_MAX) {
        return refuse(arg, "there are %d already; leave some out",
                      HM_RANGES_MAX);
    }
    if (!size || size == value || !parse_number(size + 1, &mode->bytes)) {
        return refuse(arg, "RANGE:SIZE is meant, or RANGE+RANGE:SIZE; for"
                      " example memory-mode=nvm:64M");
    }
    if (!mode->bytes || mode->bytes & ((1 << HM_LINE_BITS) - 1) ||
        mode->bytes > HM_MODE_BYTES_MAX) {
        return refuse(arg, "SIZE is that of DRAM: a multiple of %d bytes, at"
                      " most 64G; round it", 1 << HM_LINE_BITS);
    }
    mode->arg = arg;
    mode->ranges = g_strndup(value, size - value);
    o->modes++;
    return true;
}

static bool parse_when(HmOptions *o, const char *arg, const char *value)
{
    o->marked = strcmp(value, "marked") == 0;
    if (!o->marked && strcmp(value, "always")) {
        return refuse(arg, "'always' or 'marked' is meant");
    }
    return true;
}

static bool parse_epoch(HmOptions *o, const char *arg, const char *value)
{
    if (!parse_number(value, &o->epoch) || !o->epoch ||
        o->epoch > HM_EPOCH_MAX) {
        return refuse(arg, "a number of instructions from 1 to %d is meant",
                      HM_EPOCH_MAX);
    }
    return true;
}

static bool parse_path(char **path, const char *arg, const char *value)
{
    if (!*value) {
        return refuse(arg, "the name of a file is missing");
    }
    g_free(*path);
    *path = g_strdup(value);
    return true;
}

static bool parse_one(HmOptions *o, const char *arg)
{
    static const char *const level[] = { "l1", "l2", "llc" };
    const char *equals = strchr(arg, '=');
    const char *value = equals ? equals + 1 : "";
    g_autofree char *name = g_strndup(arg, strcspn(arg, "="));

    for (unsigned i = 0; i < G_N_ELEMENTS(level); i++) {
        if (strcmp(name, level[i]) == 0) {
            return parse_cache(&o->cache[i], arg, value);
        }
    }
    if (strcmp(name, "range") == 0) {
        return parse_range(o, arg, value);
    } else if (strcmp(name, "memory-mode") == 0) {
        return parse_mode(o, arg, value);
    } else if (strcmp(name, "when") == 0) {
        return parse_when(o, arg, value);
    } else if (strcmp(name, "epoch") == 0) {
        return parse_epoch(o, arg, value);
    } else if (strcmp(name, "out") == 0) {
        return parse_path(&o->out, arg, value);
    } else if (strcmp(name, "pages") == 0) {
        return parse_path(&o->pages, arg, value);
    }
    return refuse(arg, "there is no such option; there are range, l1, l2, llc,"
                  " memory-mode, when, pages, epoch, out");
}

static HmRange *find_range(HmOptions *o, const char *name)
{
    for (unsigned i = 0; i < o->ranges; i++) {
        if (strcmp(o->range[i].name, name) == 0) {
            return &o->range[i];
        }
    }
    return NULL;
}

static char *names_of_ranges(const HmOptions *o)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = HM_OTHER + 1; i < o->ranges; i++) {
        g_string_append_printf(s, "%s, ", o->range[i].name);
    }
    g_string_append(s, o->range[HM_OTHER].name);
    return g_string_free(s, false);
}

/* Puts the range behind DRAM cache number @n. */
static bool resolve_range(HmOptions *o, unsigned n, const char *name)
{
    const char *arg = o->mode[n].arg;
    HmRange *r = find_range(o, name);
    g_autofree char *names = names_of_ranges(o);

    if (!r) {
        return refuse(arg, "there is no range '%s'; there are %s", name,
                      names);
    }
    if (r->mode) {
        return refuse(arg, "range '%s' is behind %s already; leave one out",
                      name, o->mode[r->mode - 1].arg);
    }
    r->mode = n + 1;
    return true;
}

/* Behind DRAM cache number @n; `other` is of no known size, so without end. */
static uint64_t bytes_behind(const HmOptions *o, unsigned n)
{
    uint64_t bytes = 0;

    for (unsigned i = HM_OTHER + 1; i < o->ranges; i++) {
        bytes += o->range[i].mode == n + 1 ? o->range[i].size : 0;
    }
    return o->range[HM_OTHER].mode == n + 1 ? UINT64_MAX : bytes;
}

static bool resolve_mode(HmOptions *o, unsigned n)
{
    g_auto(GStrv) name = g_strsplit(o->mode[n].ranges, "+", -1);

    for (unsigned i = 0; name[i]; i++) {
        if (!resolve_range(o, n, name[i])) {
            return false;
        }
    }
    if (o->mode[n].bytes > bytes_behind(o, n)) {
        return refuse(o->mode[n].arg, "DRAM is larger than what it caches; make"
                      " SIZE %" PRIu64 " or less", bytes_behind(o, n));
    }
    if (!o->cache[HM_CACHE_PRIVATE].ways) {
        return refuse(o->mode[n].arg, "DRAM caches what passes the CPU's own"
                      " caches; add, for example, llc=8M:16");
    }
    return true;
}

static bool resolve_modes(HmOptions *o)
{
    for (unsigned n = 0; n < o->modes; n++) {
        if (!resolve_mode(o, n)) {
            return false;
        }
    }
    return true;
}

static bool check_together(const HmOptions *o)
{
    if (!o->cache[2].ways && (o->cache[0].ways || o->cache[1].ways)) {
        return refuse(o->cache[0].ways ? "l1" : "l2", "a private cache needs"
                      " the shared one; add, for example, llc=8M:16");
    }
    if (!o->out) {
        return refuse("out", "missing; add out=FILE for the counts");
    }
    if (o->epoch && !o->pages) {
        return refuse("epoch", "epochs are for counts by page; add pages=FILE"
                      " or leave epoch out");
    }
    if (o->pages && o->ranges == HM_OTHER + 1) {
        return refuse("pages", "only pages of ranges are counted; add"
                      " range=NAME:START:SIZE");
    }
    return true;
}

bool hm_options_parse(HmOptions *o, int argc, char **argv)
{
    o->range[HM_OTHER].name = g_strdup("other");
    o->ranges = HM_OTHER + 1;
    for (int i = 0; i < argc; i++) {
        if (!parse_one(o, argv[i])) {
            return false;
        }
    }
    return check_together(o) && resolve_modes(o);
}
