/*
 * Waits until a text stands in a file that another process writes:
 *
 *     waitline FILE TEXT SECONDS [PID]
 *
 * Exit status: 0 it does (the line is printed); 1 not in time; 2 the process
 * PID has ended without it; 64 usage.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_MS 50

static bool look(FILE **file, const char *path, const char *text)
{
    static char *line;
    static size_t size;
    ssize_t len;

    if (!*file) {
        *file = fopen(path, "r");
    }
    while (*file) {
        long at = ftell(*file);

        len = getline(&line, &size, *file);
        if (len < 0 || line[len - 1] != '\n') {
            fseek(*file, at, SEEK_SET);     /* the rest is still to come */
            clearerr(*file);
            return false;
        }
        if (strstr(line, text)) {
            line[strcspn(line, "\r\n")] = 0;
            puts(line);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    struct timespec pause = { 0, POLL_MS * 1000000L }, now, start;
    FILE *file = NULL;

    if (argc < 4) {
        fputs("usage: waitline FILE TEXT SECONDS [PID]\n", stderr);
        return 64;
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        bool gone = argc > 4 && kill(atoi(argv[4]), 0);

        if (look(&file, argv[1], argv[2])) {
            return 0;
        }
        if (gone) {
            return 2;
        }
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < atol(argv[3]));
    return 1;
}
