/*
 * Random updates of 8-byte words, as the RandomAccess benchmark (GUPS) makes
 * them, most of them in a hot set of pages that lie all over the table:
 *
 *   gups fill FILE MB
 *   gups run FILE OPS HOT PARTS COLD SEED
 *   gups verify FILE
 *
 * One operation adds a random number to a word: in COLD of 100 cases to any of
 * the table, else to one of HOT pages, which are chosen anew for each of PARTS
 * equal parts of OPS.
 *
 * The file's last page has the sum of all words, each times a weight that
 * tells its place, as the operations say that it must be.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "lines.h"

#define WORDS_PER_PAGE (LINES_PER_PAGE * WORDS_PER_LINE)
#define WORD_BITS 9             /* log2 of WORDS_PER_PAGE */
#define CHANCE_BITS 23          /* so that 32 remain for the page */

typedef struct Table {
    uint64_t *word;
    uint64_t *sum;
    uint32_t nr_pages;
    uint32_t *hot;
    uint32_t nr_hot;
} Table;

static Table open_table(const char *path, uint64_t bytes)
{
    Buffer b = open_buffer(path, bytes ? bytes + GUEST_PAGE : 0);
    Table t = { .word = b.line->word, .nr_pages = b.nr_pages - 1 };

    t.sum = t.word + (uint64_t)t.nr_pages * WORDS_PER_PAGE;
    t.hot = malloc(t.nr_pages * sizeof(*t.hot));
    for (uint32_t i = 0; i < t.nr_pages; i++) {
        t.hot[i] = i;
    }
    return t;
}

static uint64_t weight(uint64_t index)
{
    return 2 * index + 1;
}

static uint64_t weighed_sum(const Table *t)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < (uint64_t)t->nr_pages * WORDS_PER_PAGE; i++) {
        sum += weight(i) * t->word[i];
    }
    return sum;
}

static void fill(Table *t)
{
    for (uint64_t i = 0; i < (uint64_t)t->nr_pages * WORDS_PER_PAGE; i++) {
        t->word[i] = guest_mix(i);
    }
    *t->sum = weighed_sum(t);
}

/* Where a random number leads: its bits say page, chance and word. */
static uint64_t place(const Table *t, uint64_t draw, uint32_t cold)
{
    uint64_t word = draw % WORDS_PER_PAGE;
    uint64_t chance = (draw >> WORD_BITS) % (1 << CHANCE_BITS);
    uint64_t high = draw >> (WORD_BITS + CHANCE_BITS);
    uint64_t page = chance * 100 >> CHANCE_BITS >= cold
        ? t->hot[high * t->nr_hot >> 32] : high * t->nr_pages >> 32;

    return page * WORDS_PER_PAGE + word;
}

static void update(Table *t, uint64_t ops, uint32_t cold)
{
    uint64_t sum = *t->sum;

    for (uint64_t op = 0; op < ops; op++) {
        uint64_t draw = guest_mix(random_state++);
        uint64_t at = place(t, draw, cold);

        t->word[at] += draw;
        sum += weight(at) * draw;
    }
    *t->sum = sum;
}

static void run(Table *t, uint64_t ops, uint64_t parts, uint32_t cold)
{
    for (uint64_t part = 0; part < parts; part++) {
        choose_hot(t->hot, t->nr_pages, t->nr_hot);
        update(t, ops * (part + 1) / parts - ops * part / parts, cold);
    }
    printf("ops=%" PRIu64 "\n", ops);
}

static void verify(const Table *t)
{
    uint64_t sum = 0;

    if (weighed_sum(t) != *t->sum) {
        errx(1, "an update was lost");
    }
    for (uint64_t i = 0; i < (uint64_t)t->nr_pages * WORDS_PER_PAGE; i++) {
        sum = guest_mix(sum ^ t->word[i]);
    }
    printf("checksum=%016" PRIx64 "\n", sum);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";
    uint64_t number[5] = { 0 };
    Table t;

    for (int i = 3; i < argc && i < 8; i++) {
        number[i - 3] = strtoull(argv[i], NULL, 0);
    }
    t = open_table(argv[2], strcmp(verb, "fill") ? 0 : number[0] * MiB);
    t.nr_hot = number[1];
    if (!strcmp(verb, "fill")) {
        fill(&t);
    } else if (!strcmp(verb, "run") && t.nr_hot && t.nr_hot <= t.nr_pages) {
        random_state = number[4] << 32;
        run(&t, number[0], number[2] ?: 1, number[3]);
    } else if (!strcmp(verb, "verify")) {
        verify(&t);
    } else {
        errx(1, "usage: see gups.c");
    }
    return 0;
}
