/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Isotonic regression.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/isotonic.h"

/* Blocks of which nothing is concluded. */
#define TOO_FEW 0.5

/* Neighbouring buckets that share a mean. */
typedef struct Pool {
    double mean;
    double square;              /* mean of squares */
    double weight;              /* blocks */
    unsigned end;               /* one past its last bucket */
} Pool;

void hm_isotonic_fade(HmEvidence *e, unsigned n, double left)
{
    for (unsigned i = 0; i < n; i++) {
        e[i].parts *= left;
        e[i].squares *= left;
        e[i].blocks *= left;
    }
}

static Pool pool_of(const HmEvidence *e, unsigned end)
{
    return (Pool) {
        e->parts / e->blocks, e->squares / e->blocks, e->blocks, end,
    };
}

static Pool both(const Pool *a, const Pool *b)
{
    double weight = a->weight + b->weight;

    return (Pool) {
        (a->mean * a->weight + b->mean * b->weight) / weight,
        (a->square * a->weight + b->square * b->weight) / weight,
        weight, b->end,
    };
}

/* Returns the number of pools. */
static unsigned pool(const HmEvidence *e, unsigned n, Pool *p)
{
    unsigned pools = 0;

    for (unsigned i = 0; i < n; i++) {
        if (e[i].blocks < TOO_FEW) {
            continue;
        }
        p[pools++] = pool_of(&e[i], i + 1);
        for (; pools > 1 && p[pools - 2].mean > p[pools - 1].mean; pools--) {
            p[pools - 2] = both(&p[pools - 2], &p[pools - 1]);
        }
    }
    return pools;
}

/* If one block of @part had been found as well. */
static double error_of(const Pool *p, double part)
{
    double weight = p->weight + 1;
    double mean = (p->mean * p->weight + part) / weight;
    double square = (p->square * p->weight + part * part) / weight;

    return sqrt(MAX(square - mean * mean, 0) / weight);
}

static HmExpected expected_of(const Pool *p)
{
    return (HmExpected) {
        MIN(p->mean, 1), error_of(p, 0), error_of(p, 1),
    };
}

void hm_isotonic_fit(const HmEvidence *e, unsigned n, HmExpected *expected)
{
    g_autofree Pool *p = g_new(Pool, n);
    unsigned pools = pool(e, n, p), k = 0;
    HmExpected last = { };

    for (unsigned i = 0; i < n; i++) {
        if (k < pools && e[i].blocks >= TOO_FEW) {
            last = expected_of(&p[k]);
        }
        expected[i] = last;
        k += k < pools && i + 1 == p[k].end;
    }
}
