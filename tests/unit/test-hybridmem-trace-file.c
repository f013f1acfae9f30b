/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traces: a literal one, round trips, torn and damaged ones.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/trace-file.h"

#define PAGES 1003u             /* the last block is short */
#define PPB 4u
#define BLOCKS 251u
#define DRAM 50u

static const HmTraceInfo info = {
    .page_size = 4096,
    .pages = PAGES,
    .pages_per_block = PPB,
    .half_life_ms = 5000,
    .policy = "write-heat",
};

static const HmExtent extents[] = {
    { 0, DRAM, HM_TIER_DRAM, true },
    { DRAM, BLOCKS - DRAM - 1, HM_TIER_NVM, false },
    { BLOCKS - 1, 1, HM_TIER_NVM, true },
};

static HmTraceReader *reader(const GByteArray *bytes)
{
    g_autofree char *why = NULL;
    HmTraceReader *r = hm_trace_reader_new(bytes->data, bytes->len, &why);

    g_assert_cmpstr(why, ==, NULL);
    g_assert_nonnull(r);
    return r;
}

/* --- a literal one ----------------------------------------------------- */

/* 8 pages, blocks of 2, the first of 4 in dram. */
static const uint8_t literal[] = {
    'h', 'm', 't', 'r', 'a', 'c', 'e', '\n', 1, 0, 0, 0,
    /* start: pages of 4096, 8, 2 a block, half-life 300 ms, "x" */
    8, 0, 0, 0, 1, 0x80, 0x20, 8, 2, 0xac, 0x02, 1, 'x',
    0x7b, 0x56, 0xe5, 0x0b,
    /* 2 extents: 1 in dram, 3 in nvm; 0 and 3 have changed places */
    10, 0, 0, 0, 2, 2, 1, 2, 3, 3, 2, 0, 6, 2, 5,
    0xdf, 0xd5, 0x76, 0x32,
    /* writes after 7 ms: pages 1, 4, 5, 6; 3 of them in nvm */
    7, 0, 0, 0, 3, 0, 7, 2, 2, 3, 1, 3,
    0xf2, 0x5d, 0x5a, 0xce,
};

static void test_literal(void)
{
    static const HmExtent ext[] = {
        { 0, 1, HM_TIER_DRAM, true }, { 1, 3, HM_TIER_NVM, true },
    };
    const HmCycle swap = { 2, { 0, 3 } };
    const HmTraceInfo i = {
        .page_size = 4096, .pages = 8, .pages_per_block = 2,
        .half_life_ms = 300, .policy = "x",
    };
    const unsigned long seen = 0x72;
    const HmTraceWindow w = {
        .w = { .seen = &seen, .elapsed_ms = 7 }, .seen_in_nvm = 3,
    };
    GByteArray *bytes = g_byte_array_new();
    HmFrames *fr = hm_frames_new(ext, G_N_ELEMENTS(ext));

    hm_frames_apply(fr, &swap);
    hm_trace_put_start(bytes, &i);
    hm_trace_put_frames(bytes, fr);
    hm_trace_put_window(bytes, &i, &w);
    g_assert_cmpmem(bytes->data, bytes->len, literal, sizeof(literal));
    hm_frames_free(fr);
    g_byte_array_free(bytes, true);
}

/* --- random ones ------------------------------------------------------- */

typedef struct Made {
    unsigned long seen[BITS_TO_LONGS(PAGES)];
    HmTraceWindow window;
    GArray *watched, *weight, *counts, *moves;
    HmFrames *frames;
} Made;

static HmFrames *random_frames(GRand *random)
{
    HmFrames *fr = hm_frames_new(extents, G_N_ELEMENTS(extents));
    unsigned n = g_rand_int_range(random, 0, 200);

    for (unsigned i = 0; i < n; i++) {
        HmCycle c;
        uint32_t a = g_rand_int_range(random, 0, BLOCKS);
        uint32_t b = g_rand_int_range(random, 0, BLOCKS);

        if (hm_frames_plan_cycle(fr, a, b, 0, &c) == HM_MOVE_DONE) {
            hm_frames_apply(fr, &c);
        }
    }
    return fr;
}

static void random_set(GRand *random, unsigned long *map)
{
    int odds = g_rand_int_range(random, 0, 5);
    bool in = false;

    memset(map, 0, BITS_TO_LONGS(PAGES) * sizeof(long));
    for (unsigned p = 0; p < PAGES; p++) {
        bool changes = g_rand_int_range(random, 0, 1 << 2 * odds) == 0;

        in = odds && (changes ? !in : in);
        if (in) {
            set_bit(p, map);
        }
    }
}

static void random_lists(GRand *random, Made *m)
{
    for (uint32_t b = 0; b < BLOCKS; b++) {
        uint8_t weight = g_rand_int_range(random, 1, 256);

        if (g_rand_boolean(random)) {
            g_array_append_val(m->watched, b);
            g_array_append_val(m->weight, weight);
        }
    }
    for (uint64_t p = 0; p < PAGES; p++) {
        HmTraceCount c = {
            .page = p,
            .filled = g_rand_int(random),
            .written = g_rand_int_range(random, 0, 65),
        };

        if (g_rand_int_range(random, 0, 9) == 0) {
            g_array_append_val(m->counts, c);
        }
    }
    for (int i = g_rand_int_range(random, 0, 90); i >= 0; i--) {
        HmTraceMove move = {
            .block = g_rand_int_range(random, 0, BLOCKS),
            .from = g_rand_int_range(random, 0, HM_TIER__MAX),
            .to = g_rand_int_range(random, 0, HM_TIER__MAX),
            .whole = g_rand_boolean(random),
            .pages = g_rand_int_range(random, 0, PPB + 1),
        };

        g_array_append_val(m->moves, move);
    }
}

static Made *make(GRand *random)
{
    Made *m = g_new0(Made, 1);

    m->watched = g_array_new(false, false, sizeof(uint32_t));
    m->weight = g_array_new(false, false, sizeof(uint8_t));
    m->counts = g_array_new(false, false, sizeof(HmTraceCount));
    m->moves = g_array_new(false, false, sizeof(HmTraceMove));
    m->frames = random_frames(random);
    random_set(random, m->seen);
    random_lists(random, m);
    m->window = (HmTraceWindow) {
        .w.sense = g_rand_int_range(random, 0, HM_SENSE__MAX),
        .w.seen = m->seen,
        .w.elapsed_ms = g_rand_int(random),
        .seen_in_nvm = g_rand_int_range(random, 0, PAGES + 1),
    };
    if (m->watched->len && g_rand_boolean(random)) {
        m->window.w.watched = (uint32_t *)m->watched->data;
        m->window.w.weight = (uint8_t *)m->weight->data;
        m->window.w.n_watched = m->watched->len;
    }
    if (m->counts->len && g_rand_boolean(random)) {
        m->window.counts = (HmTraceCount *)m->counts->data;
        m->window.n_counts = m->counts->len;
    }
    return m;
}

static void made_free(gpointer opaque)
{
    Made *m = opaque;

    g_array_free(m->watched, true);
    g_array_free(m->weight, true);
    g_array_free(m->counts, true);
    g_array_free(m->moves, true);
    hm_frames_free(m->frames);
    g_free(m);
}

static void write_made(GByteArray *bytes, const Made *m)
{
    hm_trace_put_frames(bytes, m->frames);
    hm_trace_put_moves(bytes, (HmTraceMove *)m->moves->data, m->moves->len);
    hm_trace_put_window(bytes, &info, &m->window);
}

static void assert_frames(HmTraceReader *r, const Made *m)
{
    HmFrames *fr = hm_trace_take_frames(r);
    const char *why = NULL;

    g_assert_nonnull(fr);
    g_assert_null(hm_trace_take_frames(r));
    g_assert_cmpuint(hm_frames_n_extents(fr), ==, G_N_ELEMENTS(extents));
    for (unsigned i = 0; i < G_N_ELEMENTS(extents); i++) {
        const HmExtent *e = hm_frames_extent(fr, i);

        g_assert_cmpuint(e->first, ==, extents[i].first);
        g_assert_cmpuint(e->blocks, ==, extents[i].blocks);
        g_assert_cmpuint(e->tier, ==, extents[i].tier);
        g_assert_cmpuint(e->mergeable, ==, extents[i].mergeable);
    }
    for (uint32_t b = 0; b < BLOCKS; b++) {
        g_assert_cmpuint(hm_frames_frame_of(fr, b), ==,
                         hm_frames_frame_of(m->frames, b));
    }
    if (!hm_frames_verify(fr, &why)) {
        g_error("%s", why);
    }
    hm_frames_free(fr);
}

static void assert_moves(const HmTraceReader *r, const Made *m)
{
    size_t n;
    const HmTraceMove *moves = hm_trace_moves(r, &n);

    g_assert_cmpuint(n, ==, m->moves->len);
    for (size_t i = 0; i < n; i++) {
        const HmTraceMove *was = &g_array_index(m->moves, HmTraceMove, i);

        g_assert_cmpuint(moves[i].block, ==, was->block);
        g_assert_cmpuint(moves[i].from, ==, was->from);
        g_assert_cmpuint(moves[i].to, ==, was->to);
        g_assert_cmpuint(moves[i].whole, ==, was->whole);
        g_assert_cmpuint(moves[i].pages, ==, was->pages);
    }
}

static void assert_window(const HmTraceReader *r, const Made *m)
{
    const HmTraceWindow *w = hm_trace_window(r), *was = &m->window;

    g_assert_cmpuint(w->w.sense, ==, was->w.sense);
    g_assert_cmpuint(w->w.elapsed_ms, ==, was->w.elapsed_ms);
    g_assert_cmpuint(w->seen_in_nvm, ==, was->seen_in_nvm);
    g_assert_cmpmem(w->w.seen, sizeof(m->seen), m->seen, sizeof(m->seen));
    g_assert_cmpint(!w->w.watched, ==, !was->w.watched);
    g_assert_cmpmem(w->w.watched, w->w.n_watched * sizeof(uint32_t),
                    was->w.watched, was->w.n_watched * sizeof(uint32_t));
    g_assert_cmpmem(w->w.weight, w->w.n_watched, was->w.weight,
                    was->w.n_watched);
    g_assert_cmpint(!w->counts, ==, !was->counts);
    g_assert_cmpuint(w->n_counts, ==, was->n_counts);
    for (size_t i = 0; i < w->n_counts; i++) {
        g_assert_cmpuint(w->counts[i].page, ==, was->counts[i].page);
        g_assert_cmpuint(w->counts[i].filled, ==, was->counts[i].filled);
        g_assert_cmpuint(w->counts[i].written, ==, was->counts[i].written);
    }
}

static void assert_info(const HmTraceReader *r)
{
    const HmTraceInfo *i = hm_trace_reader_info(r);

    g_assert_cmpuint(i->page_size, ==, info.page_size);
    g_assert_cmpuint(i->pages, ==, info.pages);
    g_assert_cmpuint(i->pages_per_block, ==, info.pages_per_block);
    g_assert_cmpuint(i->half_life_ms, ==, info.half_life_ms);
    g_assert_cmpstr(i->policy, ==, info.policy);
}

static void assert_all(HmTraceReader *r, const GPtrArray *made)
{
    assert_info(r);
    for (guint i = 0; i < made->len; i++) {
        const Made *m = g_ptr_array_index(made, i);

        g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_FRAMES);
        assert_frames(r, m);
        g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_MOVES);
        assert_moves(r, m);
        g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_WINDOW);
        assert_window(r, m);
    }
    g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_END);
    g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_END);
}

static void test_round_trip(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    GByteArray *bytes = g_byte_array_new();
    GPtrArray *made = g_ptr_array_new_with_free_func(made_free);
    HmTraceReader *r;

    hm_trace_put_start(bytes, &info);
    for (unsigned i = 0; i < 300; i++) {
        g_ptr_array_add(made, make(random));
        write_made(bytes, g_ptr_array_index(made, i));
    }
    r = reader(bytes);
    assert_all(r, made);
    g_assert_cmpuint(hm_trace_whole(r), ==, bytes->len);
    hm_trace_rewind(r);
    assert_all(r, made);
    hm_trace_reader_free(r);
    g_ptr_array_free(made, true);
    g_byte_array_free(bytes, true);
}

/* Bits past the last page are nobody's; those at its end are kept. */
static void test_edges(void)
{
    unsigned long seen[BITS_TO_LONGS(PAGES)];
    HmTraceWindow w = { .w = { .seen = seen } };
    GByteArray *bytes = g_byte_array_new();
    HmTraceReader *r;

    hm_trace_put_start(bytes, &info);
    memset(seen, 0xff, sizeof(seen));
    hm_trace_put_window(bytes, &info, &w);
    memset(seen, 0, sizeof(seen));
    hm_trace_put_window(bytes, &info, &w);
    set_bit(PAGES - 1, seen);
    hm_trace_put_window(bytes, &info, &w);
    r = reader(bytes);
    g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_WINDOW);
    for (unsigned p = 0; p < BITS_TO_LONGS(PAGES) * BITS_PER_LONG; p++) {
        g_assert_cmpint(test_bit(p, hm_trace_window(r)->w.seen), ==,
                        p < PAGES);
    }
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_WINDOW);
        for (unsigned p = 0; p < PAGES; p++) {
            g_assert_cmpint(test_bit(p, hm_trace_window(r)->w.seen), ==,
                            i && p == PAGES - 1);
        }
    }
    hm_trace_reader_free(r);
    g_byte_array_free(bytes, true);
}

/* --- what is not whole ------------------------------------------------- */

static void refused(const uint8_t *data, size_t size, const char *text)
{
    g_autofree char *why = NULL;

    g_assert_null(hm_trace_reader_new(data, size, &why));
    g_assert_nonnull(strstr(why, text));
}

static void test_not_a_trace(void)
{
    uint8_t bytes[sizeof(literal)];

    refused((const uint8_t *)"", 0, "not a trace");
    refused(literal, 11, "not a trace");
    memcpy(bytes, literal, sizeof(literal));
    bytes[0]++;
    refused(bytes, sizeof(bytes), "not a trace");
    bytes[0]--;
    bytes[8]++;
    refused(bytes, sizeof(bytes), "version 2, and not of version 1");
    refused(literal, 12, "cut off");
    refused(literal, 12 + 16, "cut off");
}

/* Each length: what is whole is read, the rest is called torn. */
static void test_torn(void)
{
    static const size_t ends[] = { 29, 48, sizeof(literal) };

    for (size_t size = ends[0]; size <= sizeof(literal); size++) {
        /* So that the sanitizer sees each byte too many. */
        g_autofree uint8_t *data = g_memdup2(literal, size);
        g_autofree char *why = NULL;
        HmTraceReader *r = hm_trace_reader_new(data, size, &why);
        unsigned whole = 0;
        HmTraceKind kind;

        g_assert_nonnull(r);
        while ((kind = hm_trace_next(r)) < HM_TRACE_END) {
            whole++;
        }
        g_assert_cmpuint(whole, ==, (size >= ends[1]) + (size >= ends[2]));
        g_assert_cmpint(kind, ==, size == ends[whole] ? HM_TRACE_END :
                        HM_TRACE_TORN);
        g_assert_cmpuint(hm_trace_whole(r), ==, ends[whole]);
        hm_trace_reader_free(r);
    }
}

/* A flipped bit is seen, wherever it is. */
static void test_damaged(void)
{
    for (size_t bit = 0; bit < 8 * sizeof(literal); bit++) {
        g_autofree uint8_t *data = g_memdup2(literal, sizeof(literal));
        g_autofree char *why = NULL;
        HmTraceKind kind;
        HmTraceReader *r;

        data[bit / 8] ^= 1 << bit % 8;
        r = hm_trace_reader_new(data, sizeof(literal), &why);
        g_assert_cmpint(!r, ==, bit < 29 * 8);
        if (!r) {
            continue;
        }
        while ((kind = hm_trace_next(r)) < HM_TRACE_END) {
            ;
        }
        g_assert_cmpint(kind, !=, HM_TRACE_END);
        hm_trace_reader_free(r);
    }
}

static uint32_t crc32_of(const uint8_t *data, size_t n)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < n * 8; i++) {
        uint32_t bit = (crc ^ data[i / 8] >> i % 8) & 1;

        crc = crc >> 1 ^ (bit ? 0xedb88320 : 0);
    }
    return ~crc;
}

/*
 * Records whose checksums are right, and whose payloads are anything: they
 * end as damaged, or as something that keeps the rules.
 */
static void test_nonsense(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(2);

    for (unsigned i = 0; i < 20000; i++) {
        uint8_t length = g_rand_int_range(random, 0, 40), payload[40];
        uint8_t head[5] = { length, 0, 0, 0, g_rand_int_range(random, 2, 6) };
        GByteArray *bytes = g_byte_array_new();
        const char *why = NULL;
        HmFrames *fr;
        uint32_t crc;
        HmTraceReader *r;
        guint start;

        hm_trace_put_start(bytes, &info);
        start = bytes->len;
        for (unsigned k = 0; k < length; k++) {
            payload[k] = g_rand_int(random) >>
                         g_rand_int_range(random, 24, 31);
        }
        g_byte_array_append(bytes, head, sizeof(head));
        g_byte_array_append(bytes, payload, length);
        crc = GUINT32_TO_LE(crc32_of(bytes->data + start,
                                     bytes->len - start));
        g_byte_array_append(bytes, (uint8_t *)&crc, sizeof(crc));
        r = reader(bytes);
        g_assert_cmpint(hm_trace_next(r), !=, HM_TRACE_TORN);
        fr = hm_trace_take_frames(r);
        if (fr) {
            g_assert_true(hm_frames_verify(fr, &why));
        }
        hm_frames_free(fr);
        hm_trace_reader_free(r);
        g_byte_array_free(bytes, true);
    }
}

/* Of a later version that only adds: types that we do not know. */
static void test_unknown_type(void)
{
    uint8_t bytes[sizeof(literal)];
    g_autofree char *why = NULL;
    HmTraceReader *r;
    uint32_t crc;

    memcpy(bytes, literal, sizeof(literal));
    bytes[29 + 4] = 77;
    crc = GUINT32_TO_LE(crc32_of(bytes + 29, 15));
    memcpy(bytes + 29 + 15, &crc, sizeof(crc));
    r = hm_trace_reader_new(bytes, sizeof(bytes), &why);
    g_assert_nonnull(r);
    g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_WINDOW);
    g_assert_cmpint(hm_trace_next(r), ==, HM_TRACE_END);
    hm_trace_reader_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/trace-file/literal", test_literal);
    g_test_add_func("/hybridmem/trace-file/round-trip", test_round_trip);
    g_test_add_func("/hybridmem/trace-file/edges", test_edges);
    g_test_add_func("/hybridmem/trace-file/not-a-trace", test_not_a_trace);
    g_test_add_func("/hybridmem/trace-file/torn", test_torn);
    g_test_add_func("/hybridmem/trace-file/damaged", test_damaged);
    g_test_add_func("/hybridmem/trace-file/nonsense", test_nonsense);
    g_test_add_func("/hybridmem/trace-file/unknown-type", test_unknown_type);
    return g_test_run();
}
