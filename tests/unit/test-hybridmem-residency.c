/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/residency.c
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/residency.h"

static const char letter[HM_PLACE__MAX] = {
    [HM_PLACE_ABSENT] = '.',
    [HM_PLACE_DRAM] = 'D',
    [HM_PLACE_NVM] = 'N',
    [HM_PLACE_ELSEWHERE] = 'E',
};

static HmPlace place_of(char c)
{
    for (int i = 0; i < HM_PLACE__MAX; i++) {
        if (letter[i] == c) {
            return i;
        }
    }
    g_assert_not_reached();
}

static uint64_t hash_of(uint64_t x)
{
    return x * 0x9e3779b97f4a7c15ULL >> 17;
}

/* Blocks of four pages, the last one of two; counts of . D N E in each. */
static void test_table(void)
{
    static const char picture[] = "....DDDDNE.D.NNNEE";
    static const unsigned want[][HM_PLACE__MAX] = {
        { 4, 0, 0, 0 },
        { 0, 4, 0, 0 },
        { 1, 1, 1, 1 },
        { 1, 0, 3, 0 },
        { 0, 0, 0, 2 },
    };
    static const unsigned sum[] = { 6, 5, 4, 3 };
    HmResidency *r = hm_residency_new(strlen(picture), 4);

    for (int i = 0; picture[i]; i++) {
        g_assert_cmpint(hm_residency_set(r, i, place_of(picture[i])), ==,
                        HM_PLACE_ABSENT);
    }
    for (int i = 0; picture[i]; i++) {
        g_assert_cmpint(hm_residency_place(r, i), ==, place_of(picture[i]));
    }
    for (int p = 0; p < HM_PLACE__MAX; p++) {
        g_assert_cmpuint(hm_residency_pages(r, p), ==, sum[p]);
        for (int b = 0; b < G_N_ELEMENTS(want); b++) {
            g_assert_cmpuint(hm_residency_block(r, b, p), ==, want[b][p]);
        }
    }
    hm_residency_free(r);
}

/* 16 bytes for each 64 pages. */
static void test_bytes(void)
{
    HmResidency *a = hm_residency_new(64, 1);
    HmResidency *b = hm_residency_new(65, 1);

    g_assert_cmpuint(hm_residency_bytes(b) - hm_residency_bytes(a), ==, 16);
    hm_residency_free(a);
    hm_residency_free(b);
}

/* Each place to each, and what it returns. */
static void test_changes(void)
{
    HmResidency *r = hm_residency_new(130, 1);

    for (unsigned page = 0; page < 130; page += 43) {
        for (int from = 0; from < HM_PLACE__MAX; from++) {
            for (int to = 0; to < HM_PLACE__MAX; to++) {
                hm_residency_set(r, page, from);
                g_assert_cmpint(hm_residency_set(r, page, to), ==, from);
                g_assert_cmpint(hm_residency_place(r, page), ==, to);
                g_assert_cmpuint(hm_residency_pages(r, HM_PLACE_ABSENT), ==,
                                 129 + (to == HM_PLACE_ABSENT));
            }
        }
        hm_residency_set(r, page, HM_PLACE_ABSENT);
    }
    hm_residency_free(r);
}

static void check_all(const HmResidency *r, const uint8_t *model,
                      unsigned pages, unsigned per_block)
{
    unsigned sum[HM_PLACE__MAX] = { 0 };

    for (unsigned b = 0; b * per_block < pages; b++) {
        unsigned n[HM_PLACE__MAX] = { 0 };

        for (unsigned i = b * per_block;
             i < MIN((b + 1) * per_block, pages); i++) {
            n[model[i]]++;
            sum[model[i]]++;
            g_assert_cmpint(hm_residency_place(r, i), ==, model[i]);
        }
        for (int p = 0; p < HM_PLACE__MAX; p++) {
            g_assert_cmpuint(hm_residency_block(r, b, p), ==, n[p]);
        }
    }
    for (int p = 0; p < HM_PLACE__MAX; p++) {
        g_assert_cmpuint(hm_residency_pages(r, p), ==, sum[p]);
    }
}

/* Against an array, for blocks smaller and larger than a word. */
static void test_property(void)
{
    static const unsigned pages[] = { 1, 63, 64, 65, 1000, 5000 };

    for (unsigned per_block = 1; per_block <= 1024; per_block *= 2) {
        for (int k = 0; k < G_N_ELEMENTS(pages); k++) {
            HmResidency *r = hm_residency_new(pages[k], per_block);
            g_autofree uint8_t *model = g_new0(uint8_t, pages[k]);

            for (unsigned i = 0; i < 3 * pages[k]; i++) {
                unsigned at = g_test_rand_int_range(0, pages[k]);
                HmPlace place = g_test_rand_int_range(0, HM_PLACE__MAX);

                g_assert_cmpint(hm_residency_set(r, at, place), ==, model[at]);
                model[at] = place;
                if (i == pages[k]) {
                    check_all(r, model, pages[k], per_block);
                }
            }
            check_all(r, model, pages[k], per_block);
            hm_residency_free(r);
        }
    }
}

/* KiB of memory that this process has. */
static long resident_kib(void)
{
    g_autofree char *text = NULL;
    unsigned long size, resident;

    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%lu %lu", &size, &resident), ==, 2);
    return resident * (qemu_real_host_page_size() / 1024);
}

/* A guest of 4 TiB, of which few pages are touched. */
static void test_large(void)
{
    const uint64_t pages = 1ULL << 30;
    long before = resident_kib();
    HmResidency *r = hm_residency_new(pages, 512);

    g_assert_cmpuint(hm_residency_bytes(r), >=, pages / 4);
    g_assert_cmpuint(hm_residency_bytes(r), <=, pages / 4 + 4096);
    for (unsigned i = 0; i < 1000; i++) {
        hm_residency_set(r, hash_of(i) % pages, HM_PLACE_ABSENT);
    }
    /* What stays absent is not written. */
    g_assert_cmpint(resident_kib() - before, <, 2 * 1024);
    hm_residency_set(r, pages - 1, HM_PLACE_NVM);
    g_assert_cmpuint(hm_residency_pages(r, HM_PLACE_ABSENT), ==, pages - 1);
    g_assert_cmpuint(hm_residency_block(r, pages / 512 - 1, HM_PLACE_NVM), ==,
                     1);
    g_assert_cmpuint(hm_residency_block(r, pages / 512 - 2, HM_PLACE_NVM), ==,
                     0);
    hm_residency_free(r);
    hm_residency_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/residency/table", test_table);
    g_test_add_func("/hybridmem/residency/bytes", test_bytes);
    g_test_add_func("/hybridmem/residency/changes", test_changes);
    g_test_add_func("/hybridmem/residency/property", test_property);
    g_test_add_func("/hybridmem/residency/large", test_large);
    return g_test_run();
}
