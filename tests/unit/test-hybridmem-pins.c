/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pins: mappings come back as they were taken, whatever the device says.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/pins.h"

#define PAGE 4096u
#define PAGES 64u

static unsigned count_pinned(const HmPins *p)
{
    unsigned i, n = 0;

    for (i = 0; i < PAGES; i++) {
        n += hm_pins_any(p, i * PAGE, PAGE);
    }
    return n;
}

static void test_take_and_give(void)
{
    static const struct {
        uint64_t offset, len;
        unsigned pages;
    } row[] = {
        { 0, 1, 1 },
        { PAGE - 1, 1, 1 },
        { PAGE - 1, 2, 2 },
        { 3 * PAGE, 2 * PAGE, 2 },
        { 3 * PAGE + 100, 2 * PAGE, 3 },
        { PAGES * PAGE - 1, 1, 1 },
        { 0, PAGES * PAGE, PAGES },
        /* cut at the end */
        { (PAGES - 1) * PAGE, 100 * PAGE, 1 },
        { (PAGES - 1) * PAGE, UINT64_MAX, 1 },
        /* outside, and nothing */
        { PAGES * PAGE, PAGE, 0 },
        { UINT64_MAX, 1, 0 },
        { 5 * PAGE, 0, 0 },
    };
    HmPins *p = hm_pins_new(PAGES * PAGE, PAGE);
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(row); i++) {
        hm_pins_take(p, row[i].offset, row[i].len);
        g_assert_cmpuint(count_pinned(p), ==, row[i].pages);
        hm_pins_give(p, row[i].offset, row[i].len);
        g_assert_cmpuint(count_pinned(p), ==, 0);
    }
    hm_pins_free(p);
}

/* A device that gives back more, or less, than it took. */
static void test_wrong_length(void)
{
    HmPins *p = hm_pins_new(PAGES * PAGE, PAGE);

    hm_pins_take(p, 10 * PAGE, 4 * PAGE);
    hm_pins_take(p, 14 * PAGE, 4 * PAGE);       /* of another device */
    hm_pins_give(p, 10 * PAGE, UINT64_MAX);
    g_assert_cmpuint(count_pinned(p), ==, 4);
    g_assert_true(hm_pins_any(p, 14 * PAGE, PAGE));
    hm_pins_take(p, 10 * PAGE, 4 * PAGE);
    hm_pins_give(p, 10 * PAGE, 1);
    g_assert_cmpuint(count_pinned(p), ==, 4);
    /* Never taken: as if it had not been said. */
    hm_pins_give(p, 15 * PAGE, PAGE);
    hm_pins_give(p, 0, PAGE);
    g_assert_cmpuint(count_pinned(p), ==, 4);
    hm_pins_free(p);
}

/* Several mappings from one address: the length tells which. */
static void test_same_start(void)
{
    HmPins *p = hm_pins_new(PAGES * PAGE, PAGE);

    hm_pins_take(p, 0, 2 * PAGE);
    hm_pins_take(p, 0, 8 * PAGE);
    hm_pins_take(p, 0, 4 * PAGE);
    hm_pins_give(p, 0, 8 * PAGE);
    g_assert_cmpuint(count_pinned(p), ==, 4);
    hm_pins_give(p, 0, 4 * PAGE);
    g_assert_cmpuint(count_pinned(p), ==, 2);
    hm_pins_give(p, 0, 2 * PAGE);
    g_assert_cmpuint(count_pinned(p), ==, 0);
    hm_pins_free(p);
}

#define THREADS 4
#define ROUNDS 20000

static void *take_and_give(void *opaque)
{
    HmPins *p = opaque;
    unsigned i;

    for (i = 0; i < ROUNDS; i++) {
        hm_pins_take(p, i % PAGES * PAGE, 3 * PAGE);
        g_assert_true(hm_pins_any(p, i % PAGES * PAGE, PAGE));
        hm_pins_give(p, i % PAGES * PAGE, 3 * PAGE);
    }
    return NULL;
}

static void test_threads(void)
{
    HmPins *p = hm_pins_new(PAGES * PAGE, PAGE);
    GThread *thread[THREADS];
    unsigned i;

    for (i = 0; i < THREADS; i++) {
        thread[i] = g_thread_new("pins", take_and_give, p);
    }
    for (i = 0; i < THREADS; i++) {
        g_thread_join(thread[i]);
    }
    g_assert_cmpuint(count_pinned(p), ==, 0);
    hm_pins_free(p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/pins/take-and-give", test_take_and_give);
    g_test_add_func("/hybridmem/pins/wrong-length", test_wrong_length);
    g_test_add_func("/hybridmem/pins/same-start", test_same_start);
    g_test_add_func("/hybridmem/pins/threads", test_threads);
    return g_test_run();
}
