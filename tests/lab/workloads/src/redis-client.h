/*
 * A client of redis, and a Zipfian choice of records (exponent 0.99) that is
 * scattered over all keys.
 *
 * As in YCSB a record has ten fields of 100 bytes.  It is one string, so that
 * an update (SETRANGE) stays in its place.  A field begins with the number of
 * the operation that wrote it, from which all that follows is made, so that
 * every field of every reply can be checked by itself.  DEPTH requests are
 * on their way at once: what is measured is redis, not the system calls.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LAB_WORKLOADS_REDIS_CLIENT_H
#define LAB_WORKLOADS_REDIS_CLIENT_H

#include "guest.h"
#include <err.h>
#include <math.h>
#include <sys/socket.h>
#include <sys/un.h>

#define FIELDS 10
#define FIELD_WORDS 25
#define RECORD_WORDS (FIELDS * FIELD_WORDS)
#define RECORD_BYTES (RECORD_WORDS * 4)
#define DEPTH 32

typedef struct Request {
    uint32_t key;
    bool is_read;
} Request;

typedef struct Client {
    int fd;
    char out[DEPTH * (RECORD_BYTES + 100)];
    char in[DEPTH * (RECORD_BYTES + 100)];
    size_t nr_out, in_begin, in_end;
    Request request[DEPTH];
    int nr_requests;
    uint64_t sum;
} Client;

static void make_field(uint32_t *word, uint32_t key, int field, uint32_t op)
{
    uint32_t value = guest_mix(((uint64_t)key << 32 | op) + field * 7919ull);

    word[0] = op;
    for (int i = 1; i < FIELD_WORDS; i++) {
        word[i] = value + i;
    }
}

static void check_record(Client *c, const char *bytes, uint32_t key)
{
    for (int field = 0; field < FIELDS; field++) {
        uint32_t got[FIELD_WORDS], right[FIELD_WORDS];

        memcpy(got, bytes + field * sizeof(got), sizeof(got));
        make_field(right, key, field, got[0]);
        if (memcmp(got, right, sizeof(got))) {
            errx(1, "record %u, field %d is wrong", key, field);
        }
        c->sum = c->sum * 31 + got[0];
    }
}

/* Replies */

static void receive(Client *c)
{
    ssize_t len;

    memmove(c->in, c->in + c->in_begin, c->in_end - c->in_begin);
    c->in_end -= c->in_begin;
    c->in_begin = 0;
    len = read(c->fd, c->in + c->in_end, sizeof(c->in) - c->in_end);
    if (len <= 0) {
        err(1, "redis closed the connection");
    }
    c->in_end += len;
}

static char *bytes_of_reply(Client *c, size_t len)
{
    while (c->in_end - c->in_begin < len) {
        receive(c);
    }
    c->in_begin += len;
    return c->in + c->in_begin - len;
}

/* A reply's first line, without its end. */
static char *line_of_reply(Client *c)
{
    char *end;

    while (!(end = memchr(c->in + c->in_begin, '\n',
                          c->in_end - c->in_begin))) {
        receive(c);
    }
    end[-1] = 0;
    return bytes_of_reply(c, end + 1 - c->in - c->in_begin);
}

static void check_reply(Client *c, const Request *r)
{
    const char *line = line_of_reply(c);

    if (!r->is_read) {
        if (*line != '+' && *line != ':') {
            errx(1, "an update was answered with %s", line);
        }
    } else if (*line != '$' || atoi(line + 1) != RECORD_BYTES) {
        errx(1, "a read was answered with %s", line);
    } else {
        check_record(c, bytes_of_reply(c, RECORD_BYTES + 2), r->key);
    }
}

/* Requests */

static void flush(Client *c)
{
    for (size_t done = 0; done < c->nr_out; ) {
        ssize_t len = write(c->fd, c->out + done, c->nr_out - done);

        if (len <= 0) {
            err(1, "write");
        }
        done += len;
    }
    for (int i = 0; i < c->nr_requests; i++) {
        check_reply(c, &c->request[i]);
    }
    c->nr_out = c->nr_requests = 0;
}

static void add_bytes(Client *c, const void *bytes, size_t len)
{
    memcpy(c->out + c->nr_out, bytes, len);
    c->nr_out += len;
    memcpy(c->out + c->nr_out, "\r\n", 2);
    c->nr_out += 2;
}

static void end_request(Client *c, uint32_t key, bool is_read)
{
    c->request[c->nr_requests++] = (Request) { key, is_read };
    if (c->nr_requests == DEPTH) {
        flush(c);
    }
}

static void add_head(Client *c, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    c->nr_out += vsprintf(c->out + c->nr_out, format, ap);
    va_end(ap);
}

static void read_record(Client *c, uint32_t key)
{
    add_head(c, "*2\r\n$3\r\nGET\r\n$12\r\nuser%08u\r\n", key);
    end_request(c, key, true);
}

static inline void insert_record(Client *c, uint32_t key)
{
    uint32_t word[RECORD_WORDS];

    for (int field = 0; field < FIELDS; field++) {
        make_field(word + field * FIELD_WORDS, key, field, 0);
    }
    add_head(c, "*3\r\n$3\r\nSET\r\n$12\r\nuser%08u\r\n$%d\r\n", key,
             RECORD_BYTES);
    add_bytes(c, word, RECORD_BYTES);
    end_request(c, key, false);
}

static void update_record(Client *c, uint32_t key, uint32_t op)
{
    uint32_t word[RECORD_WORDS];

    for (int field = 0; field < FIELDS; field++) {
        make_field(word + field * FIELD_WORDS, key, field, op);
    }
    add_head(c, "*4\r\n$8\r\nSETRANGE\r\n$12\r\nuser%08u\r\n$1\r\n0\r\n"
             "$%d\r\n", key, RECORD_BYTES);
    add_bytes(c, word, RECORD_BYTES);
    end_request(c, key, false);
}

/* The distribution */

/* sum[i]: how many of 2^32 draws have rank i or less */
static uint32_t *zipf_table(uint32_t records)
{
    uint32_t *sum = malloc(records * sizeof(*sum));
    double all = 0, part = 0;

    for (uint32_t i = 0; i < records; i++) {
        all += pow(i + 1, -0.99);
    }
    for (uint32_t i = 0; i < records; i++) {
        part += pow(i + 1, -0.99);
        sum[i] = part / all * UINT32_MAX;
    }
    return sum;
}

static uint32_t zipf_rank(const uint32_t *sum, uint32_t records, uint32_t at)
{
    uint32_t low = 0, high = records - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (sum[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A fixed shuffle: which record has which rank. */
static uint32_t *scattered(uint32_t records)
{
    uint32_t *key = malloc(records * sizeof(*key));

    for (uint32_t i = 0; i < records; i++) {
        uint32_t other = guest_mix(i) % (i + 1);

        key[i] = key[other];
        key[other] = i;
    }
    return key;
}

/* The connection */

static void open_client(Client *c, const char *path)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };

    strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    for (int i = 0; connect(c->fd, (void *)&to, sizeof(to)); i++) {
        if (i == 100) {
            err(1, "%s", path);
        }
        usleep(100000);
    }
}

#endif
