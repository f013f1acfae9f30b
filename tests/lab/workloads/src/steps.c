/*
 * Steps of one kind of work that a script outside begins and measures one by
 * one:
 *
 *   steps FILE HOT SPREAD LINES SEED
 *
 * A line "PHASE OPS COLD" on the console begins a step: OPS operations between
 * marks PHASE and 0 (none if PHASE is 0).  "hm: step N ops=OPS us=TIME" tells
 * when it has ended, and how many microseconds it took.  "all" is a step that
 * writes once to each page of the buffer.  Another line ends the program.
 *
 * One operation writes LINES cache lines of one page: in COLD of 100 cases of
 * any page, else of one of HOT pages, which lie all over the buffer, or, if
 * SPREAD is 0, side by side at its beginning.  HOT=0: always of any page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "lines.h"
#include "hw/hybridmem/meter-mark.h"

typedef struct Work {
    Buffer b;
    uint32_t *page;
    uint32_t nr_hot;
    uint64_t lines;
    uint64_t op;
} Work;

static uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static void operate(Work *w, uint64_t cold)
{
    uint64_t at, line;

    at = w->nr_hot && random_below(100) >= cold ?
         w->page[random_below(w->nr_hot)] : random_below(w->b.nr_pages);
    line = random_below(LINES_PER_PAGE);
    w->op++;
    for (uint64_t i = 0; i < w->lines; i++) {
        write_line(&w->b, at * LINES_PER_PAGE + (line + i) % LINES_PER_PAGE,
                   w->op);
    }
}

static void write_all(Work *w)
{
    w->op++;
    for (uint64_t page = 0; page < w->b.nr_pages; page++) {
        write_line(&w->b, page * LINES_PER_PAGE, w->op);
    }
}

static void step(Work *w, FILE *out, int number, const char *line)
{
    uint64_t phase = 0, ops = 0, cold = 0, began;

    sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64, &phase, &ops, &cold);
    began = now_us();
    if (!strncmp(line, "all", 3)) {
        write_all(w);
    } else {
        hm_meter_mark(phase);
        for (uint64_t i = 0; i < ops; i++) {
            operate(w, cold);
        }
        hm_meter_mark(0);
    }
    fprintf(out, "hm: step %d ops=%" PRIu64 " us=%" PRIu64 "\n", number, ops,
            now_us() - began);
}

static void open_work(Work *w, char **argv)
{
    w->b = open_buffer(argv[1], 0);
    w->nr_hot = atoi(argv[2]);
    w->lines = atoi(argv[4]);
    w->op = 0;
    random_state = strtoull(argv[5], NULL, 0) << 32;
    if (w->nr_hot > w->b.nr_pages || w->lines > LINES_PER_PAGE) {
        errx(1, "usage: see steps.c");
    }
    w->page = malloc(w->b.nr_pages * sizeof(*w->page));
    for (uint32_t i = 0; i < w->b.nr_pages; i++) {
        w->page[i] = i;
    }
    if (atoi(argv[3])) {
        choose_hot(w->page, w->b.nr_pages, w->nr_hot);
    }
}

int main(int argc, char **argv)
{
    FILE *in = fopen("/dev/console", "r"), *out = fopen("/dev/console", "w");
    char line[80];
    Work w;

    if (argc != 6 || !in || !out) {
        errx(1, "usage: see steps.c");
    }
    open_work(&w, argv);
    setlinebuf(out);
    for (int n = 1; fgets(line, sizeof(line), in) &&
         (!strncmp(line, "all", 3) || (*line >= '0' && *line <= '9')); n++) {
        step(&w, out, n, line);
    }
    printf("ops=%" PRIu64 "\n", w.op);
    return 0;
}
