/*
 * The guest of `make demo`: a scattered hot set that moves half way.  Some of
 * it is written, some (hm.reads=N pages) is only read, and verified.
 *
 * The work is fixed (rounds x hot pages x words) and paced, so that it takes
 * the same wall time on fast and slow machines.  "busy" is the time spent on
 * writing, without the pauses.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"

#define WORDS_PER_PAGE (GUEST_PAGE / sizeof(uint64_t))
#define WORDS_PER_VISIT 8
#define STRIDE (WORDS_PER_PAGE / WORDS_PER_VISIT)

typedef struct Work {
    uint64_t *words;
    uint32_t *last;         /* by page: the round that wrote it last */
    uint32_t *hot;          /* the pages of the hot set: written, then read */
    uint32_t nr_pages, nr_hot, nr_reads;
    uint32_t bad;           /* reads that found something else */
    uint64_t seed;
} Work;

typedef struct Tally {
    uint64_t ops, busy_us;
} Tally;

static uint64_t pattern(const Work *w, uint32_t page, uint32_t round, int i)
{
    return guest_mix(w->seed ^ ((uint64_t)page << 32) ^ (round * 8u + i));
}

static void visit(Work *w, uint32_t page, uint32_t round)
{
    uint64_t *p = w->words + (size_t)page * WORDS_PER_PAGE;

    for (int i = 0; i < WORDS_PER_VISIT; i++) {
        p[i * STRIDE] = pattern(w, page, round, i);
    }
    w->last[page] = round;
}

static bool page_is_right(const Work *w, uint32_t page)
{
    const uint64_t *p = w->words + (size_t)page * WORDS_PER_PAGE;

    for (int i = 0; i < WORDS_PER_VISIT; i++) {
        if (p[i * STRIDE] != pattern(w, page, w->last[page], i)) {
            return false;
        }
    }
    return true;
}

/* A hot set of distinct pages all over the buffer, another for each half. */
static void choose_hot(Work *w, int half)
{
    uint8_t *taken = calloc(w->nr_pages, 1);
    uint64_t state = w->seed + half * 0x1000003;
    uint32_t n = 0;

    while (n < w->nr_hot + w->nr_reads) {
        uint32_t page = guest_mix(state++) % w->nr_pages;

        if (!taken[page]) {
            taken[page] = 1;
            w->hot[n++] = page;
        }
    }
    free(taken);
}

static void sleep_until_us(uint64_t us)
{
    struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* hm.tell=1: where the hot set lies, as numbers of the guest's page frames. */
static void tell_hot(const Work *w)
{
    int fd = open("/proc/self/pagemap", O_RDONLY);
    char line[480];
    int len = 0;

    for (uint32_t i = 0; i < w->nr_hot + w->nr_reads; i++) {
        uint64_t page = (uintptr_t)w->words / GUEST_PAGE + w->hot[i];
        uint64_t entry;

        if (pread(fd, &entry, sizeof(entry), page * sizeof(entry)) !=
            sizeof(entry)) {
            guest_end("pagemap");
        }
        entry &= (1ull << 55) - 1;
        len += sprintf(line + len, " %" PRIu64, entry);
        if (len > (int)sizeof(line) - 24 || i == w->nr_hot - 1 ||
            i == w->nr_hot + w->nr_reads - 1) {
            guest_say("%s%s", i < w->nr_hot ? "hot" : "read", line);
            len = 0;
        }
    }
    close(fd);
}

static void run_round(Work *w, uint32_t round, Tally *sum)
{
    uint64_t start = guest_now_us();

    for (uint32_t i = 0; i < w->nr_hot; i++) {
        visit(w, w->hot[i], round);
    }
    for (uint32_t i = w->nr_hot; i < w->nr_hot + w->nr_reads; i++) {
        w->bad += !page_is_right(w, w->hot[i]);
    }
    sum->busy_us += guest_now_us() - start;
    sum->ops += w->nr_hot + w->nr_reads;
}

static Tally run_half(Work *w, int half, uint32_t rounds, uint64_t period_us)
{
    uint64_t begin = guest_now_us(), second = 0;
    Tally sum = { 0 }, said = { 0 };

    choose_hot(w, half);
    if (half == 2 && guest_param("tell", 0)) {
        tell_hot(w);
    }
    guest_say("half %d rounds %u", half, rounds);
    for (uint32_t r = 1; r <= rounds; r++) {
        run_round(w, (half - 1) * rounds + r, &sum);
        sleep_until_us(begin + r * period_us);
        if (r * period_us / 1000000 > second) {
            second = r * period_us / 1000000;
            guest_say("ops %" PRIu64 " busy_us %" PRIu64,
                      sum.ops - said.ops, sum.busy_us - said.busy_us);
            said = sum;
        }
    }
    return sum;
}

static void say_result(int half, Tally sum)
{
    guest_say("result half %d ops %" PRIu64 " busy_us %" PRIu64
              " ops_per_s %" PRIu64, half, sum.ops, sum.busy_us,
              sum.ops * 1000000 / (sum.busy_us ?: 1));
}

static void verify(const Work *w)
{
    uint32_t bad = w->bad, first = 0;

    for (uint32_t page = 0; page < w->nr_pages; page++) {
        if (!page_is_right(w, page) && !bad++) {
            first = page;
        }
    }
    if (bad) {
        guest_say("checksum BAD pages %u first %u", bad, first);
    } else {
        guest_say("checksum OK pages %u", w->nr_pages);
    }
}

int main(void)
{
    Work w = { 0 };
    uint32_t rounds;
    uint64_t period_us;
    Tally first, second;

    guest_setup();
    guest_say("start");
    rounds = guest_param("rounds", 640);
    period_us = guest_param("period_ms", 50) * 1000;
    w.seed = guest_param("seed", 1);
    w.nr_hot = guest_param("hot", 2500);
    w.nr_pages = guest_param("buffer_mb", 256) * MiB / GUEST_PAGE;
    w.words = guest_buffer((size_t)w.nr_pages * GUEST_PAGE);
    w.last = calloc(w.nr_pages, sizeof(*w.last));
    w.nr_reads = guest_param("reads", 0);
    w.hot = calloc(w.nr_hot + w.nr_reads, sizeof(*w.hot));
    if (!w.last || !w.hot || w.nr_hot + w.nr_reads > w.nr_pages / 2) {
        guest_end("set-up");
    }
    for (uint32_t page = 0; page < w.nr_pages; page++) {
        visit(&w, page, 0);
    }
    guest_say("filled pages %u", w.nr_pages);

    first = run_half(&w, 1, rounds / 2, period_us);
    second = run_half(&w, 2, rounds - rounds / 2, period_us);
    guest_say("settled");
    say_result(1, first);
    say_result(2, second);
    verify(&w);
    guest_end(NULL);
}
