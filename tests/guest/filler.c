/*
 * A guest whose memory is easy to recognise from outside: each line of 64
 * bytes of the buffer begins with the text "hm-secret" and holds its number.
 * It looks again and again whether that is still so, for hm.seconds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"

#define LINE 64u
#define SECRET "hm-secret"

typedef struct Line {
    char text[16];
    uint64_t number;
    uint8_t rest[LINE - 24];
} Line;

static void write_line(Line *line, uint64_t number)
{
    memset(line, 0xa5, sizeof(*line));
    memcpy(line->text, SECRET, sizeof(SECRET));
    line->number = number;
}

static uint64_t wrong_lines(const Line *line, uint64_t count)
{
    uint64_t wrong = 0;
    Line expected;

    for (uint64_t i = 0; i < count; i++) {
        write_line(&expected, i);
        wrong += memcmp(&line[i], &expected, sizeof(expected)) != 0;
    }
    return wrong;
}

int main(void)
{
    uint64_t bytes, count, end, wrong = 0, sweeps = 0;
    Line *line;

    guest_setup();
    guest_say("start");
    bytes = guest_param("buffer_mb", 96) * MiB;
    count = bytes / sizeof(*line);
    line = guest_buffer(bytes);
    for (uint64_t i = 0; i < count; i++) {
        write_line(&line[i], i);
    }
    guest_say("filled pages %" PRIu64, bytes / GUEST_PAGE);
    end = guest_now_us() + guest_param("seconds", 3600) * 1000000;
    do {
        wrong += wrong_lines(line, count);
        guest_say("sweep %" PRIu64 " wrong %" PRIu64, ++sweeps, wrong);
    } while (guest_now_us() < end);
    guest_say("verdict %s sweeps %" PRIu64 " wrong %" PRIu64,
              wrong ? "DIFFERENCE" : "OK", sweeps, wrong);
    guest_end(NULL);
}
