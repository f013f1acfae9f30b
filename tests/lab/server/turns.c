/*
 * Processes take turns, and the meter counts each by itself:
 *
 *     turns MS SECONDS TEXT PHASE:PID:FILE...
 *
 * Stops all.  Then each runs for MS milliseconds as phase PHASE of the meter
 * while the others stand still, in the order given, until its FILE has TEXT;
 * from then on it has no more turns.  When all are through, all go on.
 * TEXT that stands in a file at the beginning does not count.
 *
 * A process that wants to be counted to the instruction ends the phase by
 * itself (mark 0) before it says TEXT.
 *
 * Exit status: 0; 1 not in SECONDS, or a FILE cannot be read; 2 a process has
 * ended; 64 usage.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <err.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "hw/hybridmem/meter-mark.h"

typedef struct Player {
    unsigned phase;
    int pid;
    FILE *file;
    bool through;
} Player;

static void usage(void)
{
    fputs("usage: turns MS SECONDS TEXT PHASE:PID:FILE...\n", stderr);
    exit(64);
}

static Player player_of(const char *word)
{
    int at = 0;
    Player p = { 0 };

    if (sscanf(word, "%u:%d:%n", &p.phase, &p.pid, &at) != 2 || !at ||
        !p.phase || p.phase >= HM_METER_VARIABLE || p.pid <= 0) {
        usage();
    }
    p.file = fopen(word + at, "r");
    if (!p.file || fseek(p.file, 0, SEEK_END)) {
        err(1, "%s", word + at);
    }
    return p;
}

/* Whether a whole line that was not there before has @text. */
static bool says(FILE *file, const char *text)
{
    static char *line;
    static size_t size;

    for (;;) {
        long at = ftell(file);
        ssize_t len = getline(&line, &size, file);

        if (len < 0 || line[len - 1] != '\n') {
            fseek(file, at, SEEK_SET);      /* the rest is still to come */
            clearerr(file);
            return false;
        }
        if (strstr(line, text)) {
            return true;
        }
    }
}

static void tell(const Player *p, int signal)
{
    if (kill(p->pid, signal)) {
        hm_meter_mark(0);
        errx(2, "process %d has ended", p->pid);
    }
}

static void turn(Player *p, unsigned ms, const char *text)
{
    struct timespec pause = { ms / 1000, ms % 1000 * 1000000L };

    hm_meter_mark(p->phase);
    tell(p, SIGCONT);
    nanosleep(&pause, NULL);
    tell(p, SIGSTOP);
    p->through = says(p->file, text);
}

/* Whether all are through in time. */
static bool play(Player *players, int n, unsigned ms, long seconds,
                 const char *text)
{
    struct timespec start, now;
    int left = n;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (int i = 0; i < n; i++) {
            if (!players[i].through) {
                turn(&players[i], ms, text);
                left -= players[i].through;
            }
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (left && now.tv_sec - start.tv_sec < seconds);
    return !left;
}

int main(int argc, char **argv)
{
    struct sched_param first = { .sched_priority = 1 };
    int n = argc - 4;
    bool done;

    if (n < 1 || atoi(argv[1]) <= 0 || atol(argv[2]) <= 0 || !*argv[3]) {
        usage();
    }
    Player players[n];
    for (int i = 0; i < n; i++) {
        players[i] = player_of(argv[i + 4]);
    }
    /* A turn must end in time, whoever wants the CPU. */
    if (sched_setscheduler(0, SCHED_FIFO, &first)) {
        warn("sched_setscheduler");
    }
    for (int i = 0; i < n; i++) {
        tell(&players[i], SIGSTOP);
    }
    done = play(players, n, atoi(argv[1]), atol(argv[2]), argv[3]);
    hm_meter_mark(0);
    for (int i = 0; i < n; i++) {
        tell(&players[i], SIGCONT);
    }
    return !done;
}
