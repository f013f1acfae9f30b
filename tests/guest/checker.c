/*
 * A guest that checks its memory and its disk while the host moves pages.
 *
 * Memory: every page of the buffer holds a pattern made from its number and
 * its generation; word 0 is a counter.  Each thread owns a slice: it sweeps
 * it, checking each page and counting word 0 up, and in between rewrites
 * random pages with their next generation.
 *
 * Disk: each thread owns a slice of /dev/vda, written and read with O_DIRECT
 * from and into changing buffers, each block with a pattern of its own.
 *
 * A difference is told at once and counted; the page or block is then made
 * right, so that it counts once.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define WORDS_PER_PAGE (GUEST_PAGE / sizeof(uint64_t))
#define BLOCK (64u << 10)
#define WORDS_PER_BLOCK (BLOCK / sizeof(uint64_t))
#define BUFFERS_PER_THREAD 64
#define MAX_THREADS 16
#define MAX_TOLD 20         /* differences that are told one by one */

static struct {
    atomic_bool stop;
    atomic_uint differences;
    atomic_ullong memory_bytes, disk_bytes;
} all;

typedef struct Slice {
    pthread_t thread;
    uint64_t first, count;  /* pages of the buffer, or blocks of the disk */
    uint64_t *words;        /* memory: the whole buffer */
    int fd;                 /* disk */
    uint32_t *generation;
    uint64_t *visits;
    uint64_t state;         /* of the random numbers */
} Slice;

static uint64_t draw(Slice *s)
{
    return guest_mix(s->state++);
}

static void differ(const char *what, uint64_t unit, size_t word,
                   uint64_t found, uint64_t expected)
{
    if (atomic_fetch_add(&all.differences, 1) < MAX_TOLD) {
        guest_say("DIFFERENCE %s %" PRIu64 " word %zu found %016" PRIx64
                  " expected %016" PRIx64, what, unit, word, found, expected);
    }
}

static uint64_t base(uint64_t kind, uint64_t unit, uint32_t generation)
{
    return guest_mix(kind ^ unit << 32 ^ generation);
}

static void fill(uint64_t *p, size_t from, size_t words, uint64_t start)
{
    for (size_t i = from; i < words; i++) {
        p[i] = start + i * 0x9e3779b97f4a7c15ull;
    }
}

/* The first word that is not as fill() left it, or `words`. */
static size_t check(const uint64_t *p, size_t from, size_t words,
                    uint64_t start)
{
    size_t i = from;

    while (i < words && p[i] == start + i * 0x9e3779b97f4a7c15ull) {
        i++;
    }
    return i;
}

/* Memory */

static void rewrite_page(Slice *s, uint64_t n)
{
    uint64_t *p = s->words + (s->first + n) * WORDS_PER_PAGE;

    s->visits[n] = ++s->generation[n];
    p[0] = s->visits[n];
    fill(p, 1, WORDS_PER_PAGE, base('m', s->first + n, s->generation[n]));
}

static void check_page(Slice *s, uint64_t n)
{
    uint64_t page = s->first + n;
    uint64_t *p = s->words + page * WORDS_PER_PAGE;
    uint64_t start = base('m', page, s->generation[n]);
    size_t at = check(p, 1, WORDS_PER_PAGE, start);

    if (at < WORDS_PER_PAGE) {
        differ("page", page, at, p[at], start + at * 0x9e3779b97f4a7c15ull);
        rewrite_page(s, n);
    } else if (p[0] != s->visits[n]) {
        differ("page", page, 0, p[0], s->visits[n]);
        rewrite_page(s, n);
    }
    all.memory_bytes += GUEST_PAGE;
}

static void *memory_main(void *opaque)
{
    Slice *s = opaque;

    while (!all.stop) {
        for (uint64_t n = 0; n < s->count && !all.stop; n++) {
            uint64_t other = draw(s) % s->count;

            check_page(s, n);
            s->words[(s->first + n) * WORDS_PER_PAGE] = ++s->visits[n];
            check_page(s, other);
            rewrite_page(s, other);
        }
    }
    for (uint64_t n = 0; n < s->count; n++) {
        check_page(s, n);
    }
    return NULL;
}

/* Disk */

static void transfer(Slice *s, bool write, uint64_t *buffer, uint64_t n)
{
    off_t at = (s->first + n) * BLOCK;
    ssize_t done = write ? pwrite(s->fd, buffer, BLOCK, at)
                         : pread(s->fd, buffer, BLOCK, at);

    if (done != BLOCK) {
        guest_say("DIFFERENCE disk %s at %lld: %zd of %u, errno %d",
                  write ? "write" : "read", (long long)at, done, BLOCK, errno);
        all.differences++;
    }
}

static void write_block(Slice *s, uint64_t *buffer, uint64_t n)
{
    uint64_t start = base('d', s->first + n, ++s->generation[n]);

    fill(buffer, 0, WORDS_PER_BLOCK, start);
    transfer(s, true, buffer, n);
}

static void check_block(Slice *s, uint64_t *buffer, uint64_t n)
{
    uint64_t start = base('d', s->first + n, s->generation[n]);
    size_t at;

    memset(buffer, 0x5a, BLOCK);
    transfer(s, false, buffer, n);
    at = check(buffer, 0, WORDS_PER_BLOCK, start);
    if (at < WORDS_PER_BLOCK) {
        differ("block", s->first + n, at, buffer[at],
               start + at * 0x9e3779b97f4a7c15ull);
        write_block(s, buffer, n);
    }
    all.disk_bytes += BLOCK;
}

static void *disk_main(void *opaque)
{
    Slice *s = opaque;
    uint64_t *pool = guest_buffer(BUFFERS_PER_THREAD * BLOCK);

    for (uint64_t n = 0; n < s->count; n++) {
        write_block(s, pool + n % BUFFERS_PER_THREAD * WORDS_PER_BLOCK, n);
    }
    while (!all.stop) {
        uint64_t r = draw(s);
        uint64_t n = (r >> 16) % s->count;
        uint64_t *buffer = pool + r % BUFFERS_PER_THREAD * WORDS_PER_BLOCK;

        if (r & 1ull << 15) {
            write_block(s, buffer, n);
        } else {
            check_block(s, buffer, n);
        }
    }
    for (uint64_t n = 0; n < s->count; n++) {
        check_block(s, pool + n % BUFFERS_PER_THREAD * WORDS_PER_BLOCK, n);
    }
    return NULL;
}

/* Both */

static void start_slices(Slice *slice, unsigned threads, uint64_t units,
                         Slice common, void *(*entry)(void *))
{
    for (unsigned i = 0; i < threads; i++) {
        Slice *s = &slice[i];

        *s = common;
        s->count = units / threads;
        s->first = i * s->count;
        s->state = guest_mix(i + 1);
        s->generation = calloc(s->count, sizeof(*s->generation));
        s->visits = calloc(s->count, sizeof(*s->visits));
        if (!s->generation || !s->visits) {
            guest_end("calloc");
        }
        for (uint64_t n = 0; common.words && n < s->count; n++) {
            rewrite_page(s, n);
        }
        if (pthread_create(&s->thread, NULL, entry, s)) {
            guest_end("pthread_create");
        }
    }
}

static void say_sums(const char *word)
{
    guest_say("%s memory %llu disk %llu differences %u", word,
              (unsigned long long)all.memory_bytes,
              (unsigned long long)all.disk_bytes, (unsigned)all.differences);
}

static unsigned threads_param(const char *name, unsigned otherwise)
{
    uint64_t n = guest_param(name, otherwise);

    return n < MAX_THREADS ? n : MAX_THREADS;
}

int main(void)
{
    static Slice memory[MAX_THREADS], disk[MAX_THREADS];
    unsigned memory_threads, disk_threads, i;
    uint64_t pages, blocks, end;
    Slice common = { 0 };

    guest_setup();
    memory_threads = threads_param("threads", 2);
    disk_threads = threads_param("disk_threads", 4);
    pages = guest_param("buffer_mb", 256) * MiB / GUEST_PAGE;
    blocks = guest_param("disk_mb", 64) * MiB / BLOCK;
    guest_say("start");

    if (disk_threads) {
        common.fd = open("/dev/vda", O_RDWR | O_DIRECT);
        if (common.fd < 0) {
            guest_end("open /dev/vda");
        }
        start_slices(disk, disk_threads, blocks, common, disk_main);
    }
    common.words = guest_buffer(pages * GUEST_PAGE);
    start_slices(memory, memory_threads, pages, common, memory_main);
    guest_say("filled pages %" PRIu64, pages);

    end = guest_now_us() + guest_param("seconds", 60) * 1000000;
    while (guest_now_us() < end) {
        sleep(1);
        say_sums("progress");
    }
    all.stop = true;
    for (i = 0; i < memory_threads; i++) {
        pthread_join(memory[i].thread, NULL);
    }
    for (i = 0; i < disk_threads; i++) {
        pthread_join(disk[i].thread, NULL);
    }
    say_sums(all.differences ? "verdict DIFFERENCE" : "verdict OK");
    guest_end(NULL);
}
