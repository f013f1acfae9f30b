/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The formats are described in docs/meter.md. */
#include <errno.h>
#include <string.h>
#include <glib/gstdio.h>

#include "hw/hybridmem/meter-mark.h"
#include "hybridmem-meter.h"

#define REPORT_VERSION 1

static void append_string(GString *s, const char *text)
{
    g_string_append_c(s, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            g_string_append_printf(s, "\\%c", *text);
        } else if ((unsigned char)*text < ' ') {
            g_string_append_printf(s, "\\u%04x", *text);
        } else {
            g_string_append_c(s, *text);
        }
    }
    g_string_append_c(s, '"');
}

static void append_traffic(GString *s, const HmTraffic *t)
{
    g_string_append_printf(s, "\"loads\": %" PRIu64 ", \"stores\": %" PRIu64
                           ", \"load-bytes\": %" PRIu64
                           ", \"store-bytes\": %" PRIu64,
                           t->accesses[0], t->accesses[1],
                           t->bytes[0], t->bytes[1]);
}

static HmTraffic sum_traffic(const HmReport *r, const HmCounts *c,
                             unsigned range)
{
    HmTraffic sum = {};

    for (unsigned v = 0; v < r->vcpus; v++) {
        const HmTraffic *t = &c->traffic[v * r->options->ranges + range];

        for (unsigned i = 0; i < 2; i++) {
            sum.accesses[i] += t->accesses[i];
            sum.bytes[i] += t->bytes[i];
        }
    }
    return sum;
}

/* Reads: of the tag and its line, by all that passes.  docs/meter.md. */
static void append_mode(GString *s, const uint64_t n[HM_MODE_EVENTS],
                        uint64_t dirty)
{
    uint64_t misses = n[HM_MODE_FILL_MISSES] + n[HM_MODE_WRITEBACK_MISSES];
    uint64_t hits = n[HM_MODE_FILL_HITS] + n[HM_MODE_WRITEBACK_HITS];
    uint64_t writebacks = n[HM_MODE_WRITEBACK_HITS] +
                          n[HM_MODE_WRITEBACK_MISSES];

    g_string_append_printf(s, ",\n         \"memory-mode\": {\"fill-hits\": %"
                           PRIu64 ", \"fill-misses\": %" PRIu64
                           ", \"writeback-hits\": %" PRIu64
                           ", \"writeback-misses\": %" PRIu64
                           ",\n          \"nvm-reads\": %" PRIu64
                           ", \"nvm-writes\": %" PRIu64
                           ", \"dram-reads\": %" PRIu64
                           ", \"dram-writes\": %" PRIu64
                           ", \"dirty-lines-left\": %" PRIu64 "}",
                           n[HM_MODE_FILL_HITS], n[HM_MODE_FILL_MISSES],
                           n[HM_MODE_WRITEBACK_HITS],
                           n[HM_MODE_WRITEBACK_MISSES], misses,
                           n[HM_MODE_NVM_WRITES], hits + misses,
                           misses + writebacks, dirty);
}

static void append_range(GString *s, const HmReport *r, const HmCounts *c,
                         unsigned range)
{
    HmTraffic sum = sum_traffic(r, c, range);

    g_string_append(s, "        {\"range\": ");
    append_string(s, r->options->range[range].name);
    g_string_append(s, ", ");
    append_traffic(s, &sum);
    g_string_append_printf(s, ",\n         \"fills\": %" PRIu64
                           ", \"writebacks\": %" PRIu64
                           ", \"dirty-lines-left\": %" PRIu64,
                           c->fills[range], c->writebacks[range],
                           c->dirty[range]);
    if (r->options->range[range].mode) {
        append_mode(s, c->mode[range], c->mode_dirty[range]);
    }
    g_string_append(s, ",\n         \"vcpus\": [");
    for (unsigned v = 0; v < r->vcpus; v++) {
        g_string_append_printf(s, "%s{\"vcpu\": %u, ", v ? ", " : "", v);
        append_traffic(s, &c->traffic[v * r->options->ranges + range]);
        g_string_append_c(s, '}');
    }
    g_string_append(s, "]}");
}

/* The named ranges in the order of the options, then the rest. */
static void append_counts(GString *s, const HmReport *r, const HmCounts *c)
{
    g_string_append_printf(s, "\"instructions\": %" PRIu64
                           ", \"epochs\": %" PRIu64
                           ",\n      \"io-loads\": %" PRIu64
                           ", \"io-stores\": %" PRIu64
                           ", \"untranslated\": %" PRIu64
                           ",\n      \"ranges\": [\n",
                           c->instructions, c->epochs, c->io[0], c->io[1],
                           c->untranslated);
    for (unsigned i = HM_OTHER + 1; i < r->options->ranges; i++) {
        append_range(s, r, c, i);
        g_string_append(s, ",\n");
    }
    append_range(s, r, c, HM_OTHER);
    g_string_append(s, "]}");
}

static void append_phases(GString *s, const HmReport *r)
{
    const char *comma = "";

    g_string_append(s, "  \"phases\": [");
    for (unsigned i = 0; i <= HM_METER_PHASE_MAX; i++) {
        if (r->phase[i]) {
            g_string_append_printf(s, "%s\n    {\"phase\": %u, \"opened\": %"
                                   PRIu64 ", ", comma, i, r->phase[i]->opened);
            append_counts(s, r, r->phase[i]);
            comma = ",";
        }
    }
    g_string_append(s, "],\n");
}

static GString *report_text(const HmReport *r)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "{\"version\": %d,\n  \"arguments\": [",
                           REPORT_VERSION);
    for (int i = 0; i < r->argc; i++) {
        g_string_append(s, i ? ", " : "");
        append_string(s, r->argv[i]);
    }
    g_string_append(s, "],\n  \"target\": ");
    append_string(s, r->target);
    g_string_append_printf(s, ", \"plugin-api\": %d, \"vcpus\": %u, "
                           "\"line-size\": %d, \"page-size\": %d,\n",
                           r->api, r->vcpus, 1 << HM_LINE_BITS,
                           1 << HM_PAGE_BITS);
    append_phases(s, r);
    g_string_append(s, "  \"total\": {");
    append_counts(s, r, r->total);
    g_string_append(s, "}\n");
    return s;
}

bool hm_report_write(const HmReport *r, const char *path)
{
    g_autofree char *part = g_strconcat(path, ".part", NULL);
    g_autoptr(GString) text = report_text(r);
    FILE *f = fopen(part, "w");
    bool ok = f && fwrite(text->str, text->len, 1, f) == 1;

    if (f && fclose(f)) {
        ok = false;
    }
    if (!ok || g_rename(part, path)) {
        fprintf(stderr, "hybridmem-meter: out=%s: cannot be written: %s; name"
                " a file in a folder that can be written to\n", path,
                strerror(errno));
        return false;
    }
    return true;
}

FILE *hm_pages_open(const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f) {
        fprintf(stderr, "hybridmem-meter: pages=%s: cannot be written: %s;"
                " name a file in a folder that can be written to\n", path,
                strerror(errno));
        return NULL;
    }
    fputs("# phase\tepoch\trange\tpage\tloads\tstores\tfills\twritebacks\n", f);
    return f;
}

static int compare_pages(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void write_range(FILE *f, HmRange *r, unsigned phase, uint64_t epoch)
{
    g_array_sort(r->touched, compare_pages);
    for (unsigned i = 0; i < r->touched->len; i++) {
        uint32_t index = g_array_index(r->touched, uint32_t, i);
        HmPage *p = &r->page[index];

        fprintf(f, "%u\t%" PRIu64 "\t%s\t%" PRIu32 "\t%" PRIu32 "\t%" PRIu32
                "\t%" PRIu32 "\t%" PRIu32 "\n", phase, epoch, r->name, index,
                p->n[HM_LOADS], p->n[HM_STORES], p->n[HM_FILLS],
                p->n[HM_WRITEBACKS]);
        memset(p, 0, sizeof(*p));
    }
    g_array_set_size(r->touched, 0);
}

void hm_pages_write(FILE *f, HmOptions *o, unsigned phase, uint64_t epoch)
{
    for (unsigned i = HM_OTHER + 1; i < o->ranges; i++) {
        write_range(f, &o->range[i], phase, epoch);
    }
}
