/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traces as bytes: encoding and decoding.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "hw/hybridmem/bigmem.h"
#include "hw/hybridmem/trace-file.h"

static const char magic[8] = "hmtrace\n";

/* Before the payload: its length in four bytes, and the type. */
#define HEAD 5
#define CHECKSUM 4
#define START (sizeof(magic) + 4)       /* magic and version */

/* No record of a whole guest is longer: 64 bits a page, and lists. */
#define PAYLOAD_MAX (1u << 30)

enum {
    TYPE_INFO = 1,
    TYPE_FRAMES,
    TYPE_WINDOW,
    TYPE_MOVES,
};

/* Flags of a window. */
#define WINDOW_ACCESSES 1
#define WINDOW_SAMPLED 2
#define WINDOW_COUNTS 4
#define WINDOW_FLAGS 7

/* --- the alphabet ------------------------------------------------------ */

/* CRC-32 as in zlib, by half bytes. */
static uint32_t checksum(const uint8_t *data, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
        0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = ~0u;

    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static void set32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        at[i] = value >> 8 * i;
    }
}

static uint32_t get32(const uint8_t *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put32(GByteArray *out, uint32_t value)
{
    uint8_t bytes[4];

    set32(bytes, value);
    g_byte_array_append(out, bytes, sizeof(bytes));
}

/* Seven bits a byte, the low ones first; the top bit says that more come. */
static void put(GByteArray *out, uint64_t value)
{
    uint8_t bytes[10];
    unsigned n = 0;

    for (; value > 127; value >>= 7) {
        bytes[n++] = value | 128;
    }
    bytes[n++] = value;
    g_byte_array_append(out, bytes, n);
}

/* Small numbers of either sign: 0, -1, 1, -2, ... */
static void put_signed(GByteArray *out, int64_t value)
{
    put(out, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

/* What is left of a payload.  Reading past its end spoils it. */
typedef struct Cursor {
    const uint8_t *at, *end;
    bool spoilt;
} Cursor;

static uint64_t take(Cursor *c)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;

        value |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) {
            return value;
        }
    }
    c->spoilt = true;
    return 0;
}

/* A number up to @max. */
static uint64_t take_up_to(Cursor *c, uint64_t max)
{
    uint64_t value = take(c);

    if (value > max) {
        c->spoilt = true;
        return 0;
    }
    return value;
}

static int64_t take_signed(Cursor *c)
{
    uint64_t value = take(c);

    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* A number of elements, each of which takes a byte at least. */
static size_t take_count(Cursor *c)
{
    return take_up_to(c, c->end - c->at);
}

/*
 * The next of ascending numbers below @limit, as the distance from @next,
 * the least that it can be.
 */
static uint64_t take_ascending(Cursor *c, uint64_t next, uint64_t limit)
{
    if (next >= limit) {
        c->spoilt = true;
        return 0;
    }
    return next + take_up_to(c, limit - 1 - next);
}

/* --- encoding ---------------------------------------------------------- */

static guint begin(GByteArray *out, uint8_t type)
{
    guint start = out->len;

    put32(out, 0);
    g_byte_array_append(out, &type, 1);
    return start;
}

static void finish(GByteArray *out, guint start)
{
    set32(out->data + start, out->len - start - HEAD);
    put32(out, checksum(out->data + start, out->len - start));
}

void hm_trace_put_start(GByteArray *out, const HmTraceInfo *info)
{
    size_t name = strlen(info->policy);
    guint start;

    g_byte_array_append(out, (const uint8_t *)magic, sizeof(magic));
    put32(out, HM_TRACE_VERSION);
    start = begin(out, TYPE_INFO);
    put(out, info->page_size);
    put(out, info->pages);
    put(out, info->pages_per_block);
    put(out, info->half_life_ms);
    put(out, name);
    g_byte_array_append(out, (const uint8_t *)info->policy, name);
    finish(out, start);
}

static uint32_t count_away(const HmFrames *fr)
{
    uint32_t n = 0;

    for (uint32_t b = 0; b < hm_frames_blocks(fr); b++) {
        n += hm_frames_frame_of(fr, b) != b;
    }
    return n;
}

void hm_trace_put_frames(GByteArray *out, const HmFrames *fr)
{
    guint start = begin(out, TYPE_FRAMES);
    unsigned extents = hm_frames_n_extents(fr);
    uint32_t next = 0;

    put(out, extents);
    for (unsigned i = 0; i < extents; i++) {
        const HmExtent *e = hm_frames_extent(fr, i);

        put(out, e->blocks);
        put(out, (e->tier == HM_TIER_NVM) | e->mergeable << 1);
    }
    put(out, count_away(fr));
    for (uint32_t b = 0; b < hm_frames_blocks(fr); b++) {
        uint32_t frame = hm_frames_frame_of(fr, b);

        if (frame != b) {
            put(out, b - next);
            put_signed(out, (int64_t)frame - b);
            next = b + 1;
        }
    }
    finish(out, start);
}

/* The word, without bits past the last page. */
static unsigned long word_of(const unsigned long *map, uint64_t pages,
                             size_t i)
{
    uint64_t left = pages - (uint64_t)i * BITS_PER_LONG;

    return left < BITS_PER_LONG ? map[i] & ((1UL << left) - 1) : map[i];
}

static uint64_t count_runs(const unsigned long *map, uint64_t pages)
{
    uint64_t runs = 0;
    unsigned long carry = 0;

    for (size_t i = 0; i < BITS_TO_LONGS(pages); i++) {
        unsigned long w = word_of(map, pages, i);

        runs += __builtin_popcountl(w & ~(w << 1 | carry));
        carry = w >> (BITS_PER_LONG - 1);
    }
    return runs;
}

/* The first page from @page on that is in the set, or is not; or @pages. */
static uint64_t find(const unsigned long *map, uint64_t pages, uint64_t page,
                     bool in)
{
    for (size_t i = page / BITS_PER_LONG; i < BITS_TO_LONGS(pages); i++) {
        unsigned long w = word_of(map, pages, i);

        w = in ? w : ~w;
        if (i == page / BITS_PER_LONG) {
            w &= ~0UL << page % BITS_PER_LONG;
        }
        if (w) {
            uint64_t found = (uint64_t)i * BITS_PER_LONG + __builtin_ctzl(w);

            return MIN(found, pages);
        }
    }
    return pages;
}

/*
 * A run is the distance from the least page where it could begin, doubled;
 * odd if it has more than one page, and then how many more than two follows.
 */
static void put_set(GByteArray *out, const unsigned long *map, uint64_t pages)
{
    uint64_t runs = count_runs(map, pages), next = 0;

    put(out, runs);
    while (runs--) {
        uint64_t first = find(map, pages, next, true);
        uint64_t end = find(map, pages, first, false);

        put(out, (first - next) << 1 | (end - first > 1));
        if (end - first > 1) {
            put(out, end - first - 2);
        }
        next = end + 1;         /* a page at least lies between two runs */
    }
}

static void put_watched(GByteArray *out, const HmWindow *w)
{
    uint32_t next = 0;

    put(out, w->n_watched);
    for (size_t i = 0; i < w->n_watched; i++) {
        put(out, w->watched[i] - next);
        put(out, w->weight[i]);
        next = w->watched[i] + 1;
    }
}

static void put_counts(GByteArray *out, const HmTraceWindow *w)
{
    uint64_t next = 0;

    put(out, w->n_counts);
    for (size_t i = 0; i < w->n_counts; i++) {
        const HmTraceCount *c = &w->counts[i];

        put(out, c->page - next);
        put(out, c->filled);
        put(out, c->written);
        next = c->page + 1;
    }
}

void hm_trace_put_window(GByteArray *out, const HmTraceInfo *info,
                         const HmTraceWindow *w)
{
    guint start = begin(out, TYPE_WINDOW);

    put(out, (w->w.sense == HM_SENSE_ACCESSES ? WINDOW_ACCESSES : 0) |
        (w->w.watched ? WINDOW_SAMPLED : 0) |
        (w->counts ? WINDOW_COUNTS : 0));
    put(out, w->w.elapsed_ms);
    if (w->w.watched) {
        put_watched(out, &w->w);
    }
    put_set(out, w->w.seen, info->pages);
    put(out, w->seen_in_nvm);
    if (w->counts) {
        put_counts(out, w);
    }
    finish(out, start);
}

void hm_trace_put_moves(GByteArray *out, const HmTraceMove *moves, size_t n)
{
    guint start = begin(out, TYPE_MOVES);
    int64_t last = 0;

    put(out, n);
    for (size_t i = 0; i < n; i++) {
        const HmTraceMove *m = &moves[i];

        put_signed(out, m->block - last);
        put(out, (m->from == HM_TIER_NVM) | (m->to == HM_TIER_NVM) << 1 |
            m->whole << 2);
        put(out, m->pages);
        last = m->block;
    }
    finish(out, start);
}

/* --- decoding ---------------------------------------------------------- */

struct HmTraceReader {
    const uint8_t *data;
    size_t size;
    size_t at, first;           /* the next record, the first one */
    HmTraceInfo info;
    uint32_t blocks;
    HmTraceWindow window;
    unsigned long *seen;
    size_t seen_bytes;
    GArray *watched, *weights;  /* uint32_t, uint8_t */
    GArray *counts;             /* HmTraceCount */
    GArray *moves;              /* HmTraceMove */
    HmFrames *frames;           /* of the last record, or NULL */
};

/* Whole records only.  @payload and @type are of the record at r->at. */
static HmTraceKind find_record(const HmTraceReader *r, uint8_t *type,
                               Cursor *payload)
{
    const uint8_t *record = r->data + r->at;
    size_t left = r->size - r->at;
    uint32_t length;

    if (left == 0) {
        return HM_TRACE_END;
    }
    if (left < HEAD) {
        return HM_TRACE_TORN;
    }
    length = get32(record);
    if (length > PAYLOAD_MAX) {
        return HM_TRACE_CORRUPT;
    }
    if (left - HEAD < (size_t)length + CHECKSUM) {
        return HM_TRACE_TORN;
    }
    if (get32(record + HEAD + length) != checksum(record, HEAD + length)) {
        return HM_TRACE_CORRUPT;
    }
    *type = record[4];
    *payload = (Cursor) { record + HEAD, record + HEAD + length };
    return HM_TRACE_WINDOW;     /* any kind that is a record */
}

static bool take_info(HmTraceInfo *info, Cursor *c)
{
    size_t name;

    info->page_size = take_up_to(c, 1u << 30);
    info->pages = take_up_to(c, HM_TRACE_PAGES_MAX);
    info->pages_per_block = take_up_to(c, 1u << 30);
    info->half_life_ms = take(c);
    name = take_up_to(c, HM_TRACE_POLICY_MAX);
    if (c->spoilt || (size_t)(c->end - c->at) != name) {
        return false;
    }
    memcpy(info->policy, c->at, name);
    return is_power_of_2(info->page_size) && info->pages &&
           is_power_of_2(info->pages_per_block) && info->half_life_ms &&
           DIV_ROUND_UP(info->pages, info->pages_per_block) < HM_BLOCK_NONE;
}

static bool is_trace(const uint8_t *data, size_t size, char **why)
{
    if (size < START || memcmp(data, magic, sizeof(magic))) {
        *why = g_strdup("it is not a trace of hybridmem");
        return false;
    }
    if (get32(data + sizeof(magic)) != HM_TRACE_VERSION) {
        *why = g_strdup_printf("it is a trace of version %" PRIu32 ", and not"
                               " of version %d", get32(data + sizeof(magic)),
                               HM_TRACE_VERSION);
        return false;
    }
    return true;
}

HmTraceReader *hm_trace_reader_new(const uint8_t *data, size_t size,
                                   char **why)
{
    HmTraceReader *r;
    uint8_t type = 0;
    Cursor payload;

    if (!is_trace(data, size, why)) {
        return NULL;
    }
    r = g_new0(HmTraceReader, 1);
    r->data = data;
    r->size = size;
    r->at = START;
    r->counts = g_array_new(false, false, sizeof(HmTraceCount));
    r->moves = g_array_new(false, false, sizeof(HmTraceMove));
    r->watched = g_array_new(false, false, sizeof(uint32_t));
    r->weights = g_array_new(false, false, sizeof(uint8_t));
    if (find_record(r, &type, &payload) != HM_TRACE_WINDOW ||
        type != TYPE_INFO || !take_info(&r->info, &payload)) {
        *why = g_strdup("its first record is cut off, or damaged");
        hm_trace_reader_free(r);
        return NULL;
    }
    r->at = r->first = payload.end + CHECKSUM - data;
    r->blocks = (r->info.pages + r->info.pages_per_block - 1) /
                r->info.pages_per_block;
    r->seen_bytes = BITS_TO_LONGS(r->info.pages) * sizeof(long);
    r->seen = hm_bigmem_new(r->seen_bytes);
    return r;
}

void hm_trace_reader_free(HmTraceReader *r)
{
    if (!r) {
        return;
    }
    hm_bigmem_free(r->seen, r->seen_bytes);
    hm_frames_free(r->frames);
    g_array_free(r->counts, true);
    g_array_free(r->moves, true);
    g_array_free(r->watched, true);
    g_array_free(r->weights, true);
    g_free(r);
}

const HmTraceInfo *hm_trace_reader_info(const HmTraceReader *r)
{
    return &r->info;
}

void hm_trace_rewind(HmTraceReader *r)
{
    r->at = r->first;
}

size_t hm_trace_whole(const HmTraceReader *r)
{
    return r->at;
}

const HmTraceWindow *hm_trace_window(const HmTraceReader *r)
{
    return &r->window;
}

const HmTraceMove *hm_trace_moves(const HmTraceReader *r, size_t *n)
{
    *n = r->moves->len;
    return (const HmTraceMove *)r->moves->data;
}

HmFrames *hm_trace_take_frames(HmTraceReader *r)
{
    return g_steal_pointer(&r->frames);
}

/* Bits from @first to before @end. */
static void set_run(unsigned long *map, uint64_t first, uint64_t end)
{
    while (first < end) {
        unsigned bit = first % BITS_PER_LONG;
        uint64_t n = MIN(end - first, BITS_PER_LONG - bit);
        unsigned long mask = n < BITS_PER_LONG ? (1UL << n) - 1 : ~0UL;

        map[first / BITS_PER_LONG] |= mask << bit;
        first += n;
    }
}

static void take_set(HmTraceReader *r, Cursor *c)
{
    size_t runs = take_count(c);
    uint64_t next = 0;

    memset(r->seen, 0, r->seen_bytes);
    while (runs-- && !c->spoilt) {
        uint64_t run = take(c), end;

        if (next >= r->info.pages || run >> 1 >= r->info.pages - next) {
            c->spoilt = true;
            return;
        }
        next += run >> 1;
        end = next + 1;
        if (run & 1) {
            end = take_ascending(c, next + 1, r->info.pages) + 1;
        }
        set_run(r->seen, next, end);
        next = end + 1;
    }
}

static void take_watched(HmTraceReader *r, Cursor *c)
{
    size_t n = take_count(c);
    uint64_t next = 0;

    while (n-- && !c->spoilt) {
        uint32_t block = take_ascending(c, next, r->blocks);
        uint8_t weight = take_up_to(c, UINT8_MAX);

        c->spoilt |= weight == 0;
        g_array_append_val(r->watched, block);
        g_array_append_val(r->weights, weight);
        next = (uint64_t)block + 1;
    }
}

static void take_counts(HmTraceReader *r, Cursor *c)
{
    size_t n = take_count(c);
    uint64_t next = 0;

    while (n-- && !c->spoilt) {
        HmTraceCount count = {
            .page = take_ascending(c, next, r->info.pages),
        };

        count.filled = take_up_to(c, UINT32_MAX);
        count.written = take_up_to(c, UINT32_MAX);
        g_array_append_val(r->counts, count);
        next = count.page + 1;
    }
}

static bool all_read(const Cursor *c)
{
    return !c->spoilt && c->at == c->end;
}

/* An array's data, not NULL even if it has none. */
static const void *data_of(const GArray *a)
{
    return a->data ?: "";
}

static bool take_window(HmTraceReader *r, Cursor *c)
{
    uint64_t flags = take_up_to(c, WINDOW_FLAGS);
    HmTraceWindow w = {
        .w.sense = flags & WINDOW_ACCESSES ? HM_SENSE_ACCESSES :
                   HM_SENSE_WRITES,
        .w.seen = r->seen,
        .w.elapsed_ms = take(c),
    };

    g_array_set_size(r->watched, 0);
    g_array_set_size(r->weights, 0);
    g_array_set_size(r->counts, 0);
    if (flags & WINDOW_SAMPLED) {
        take_watched(r, c);
        w.w.watched = data_of(r->watched);
        w.w.weight = data_of(r->weights);
        w.w.n_watched = r->watched->len;
    }
    take_set(r, c);
    w.seen_in_nvm = take_up_to(c, r->info.pages);
    if (flags & WINDOW_COUNTS) {
        take_counts(r, c);
        w.counts = data_of(r->counts);
        w.n_counts = r->counts->len;
    }
    r->window = w;
    return all_read(c);
}

static bool take_moves(HmTraceReader *r, Cursor *c)
{
    size_t n = take_count(c);
    int64_t last = 0;

    g_array_set_size(r->moves, 0);
    while (n-- && !c->spoilt) {
        int64_t step = take_signed(c);
        uint64_t how = take_up_to(c, 7);
        HmTraceMove m = {
            .from = how & 1 ? HM_TIER_NVM : HM_TIER_DRAM,
            .to = how & 2 ? HM_TIER_NVM : HM_TIER_DRAM,
            .whole = how & 4,
            .pages = take_up_to(c, r->info.pages_per_block),
        };

        if (step < -last || step >= r->blocks - last) {
            return false;
        }
        last += step;
        m.block = last;
        g_array_append_val(r->moves, m);
    }
    return all_read(c);
}

/* Puts @block into @frame; what was there takes its place. */
static void put_into(HmFrames *fr, uint32_t block, uint32_t frame)
{
    HmCycle swap = {
        .n = 2,
        .block = { block, hm_frames_block_in(fr, frame) },
    };

    if (swap.block[0] != swap.block[1]) {
        hm_frames_apply(fr, &swap);
    }
}

/*
 * Blocks come in ascending order, each into a frame that no earlier one has:
 * a frame that is named twice would move the first out again.
 */
static bool take_places(HmFrames *fr, Cursor *c)
{
    uint32_t blocks = hm_frames_blocks(fr), n = take_count(c);
    uint64_t next = 0;
    Cursor again = *c;

    for (uint32_t i = 0; i < n && !c->spoilt; i++) {
        uint32_t block = take_ascending(c, next, blocks);
        int64_t step = take_signed(c);

        if (step < -(int64_t)block || step >= (int64_t)blocks - block) {
            return false;
        }
        put_into(fr, block, block + step);
        next = (uint64_t)block + 1;
    }
    next = 0;
    for (uint32_t i = 0; i < n && !c->spoilt; i++) {
        uint32_t block = take_ascending(&again, next, blocks);

        if (hm_frames_frame_of(fr, block) != block + take_signed(&again)) {
            return false;
        }
        next = (uint64_t)block + 1;
    }
    return true;
}

static bool take_extents(HmTraceReader *r, Cursor *c, HmExtent *ext,
                         unsigned *n)
{
    uint32_t first = 0;

    *n = take_up_to(c, HM_EXTENTS_MAX);
    for (unsigned i = 0; i < *n; i++) {
        uint64_t blocks = take_up_to(c, r->blocks - first);
        uint64_t how = take_up_to(c, 3);

        ext[i] = (HmExtent) {
            first, blocks, how & 1 ? HM_TIER_NVM : HM_TIER_DRAM, how & 2,
        };
        first += blocks;
        c->spoilt |= blocks == 0;
    }
    return !c->spoilt && first == r->blocks;
}

static bool take_frames(HmTraceReader *r, Cursor *c)
{
    HmExtent ext[HM_EXTENTS_MAX];
    unsigned n;

    hm_frames_free(r->frames);
    r->frames = NULL;
    if (!take_extents(r, c, ext, &n)) {
        return false;
    }
    r->frames = hm_frames_new(ext, n);
    return take_places(r->frames, c) && all_read(c);
}

HmTraceKind hm_trace_next(HmTraceReader *r)
{
    HmTraceKind kind;
    Cursor payload;
    uint8_t type;
    bool good = true;

    do {
        kind = find_record(r, &type, &payload);
        if (kind != HM_TRACE_WINDOW) {
            return kind;
        }
        switch (type) {
        case TYPE_FRAMES:
            kind = HM_TRACE_FRAMES;
            good = take_frames(r, &payload);
            break;
        case TYPE_WINDOW:
            good = take_window(r, &payload);
            break;
        case TYPE_MOVES:
            kind = HM_TRACE_MOVES;
            good = take_moves(r, &payload);
            break;
        default:
            kind = HM_TRACE_END;        /* none that we know: the next */
            payload.at = payload.end;
            break;
        }
        if (!good) {
            return HM_TRACE_CORRUPT;
        }
        r->at = payload.end + CHECKSUM - r->data;
    } while (kind == HM_TRACE_END);
    return kind;
}
