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
    double weight;
    unsigned end;               /* one past its last bucket */
} Pool;

void hm_isotonic_fade(HmEvidence *e, unsigned n, double left)
{
    for (unsigned i = 0; i < n; i++) {
        e[i].parts *= left;
        e[i].blocks *= left;
    }
}

/* Returns the number of pools. */
static unsigned pool(const HmEvidence *e, unsigned n, Pool *p)
{
    unsigned pools = 0;

    for (unsigned i = 0; i < n; i++) {
        if (e[i].blocks < TOO_FEW) {
            continue;
        }
        p[pools++] = (Pool) { e[i].parts / e[i].blocks, e[i].blocks, i + 1 };
        for (; pools > 1 && p[pools - 2].mean > p[pools - 1].mean; pools--) {
            Pool *a = &p[pools - 2], *b = &p[pools - 1];
            double weight = a->weight + b->weight;

            a->mean = (a->mean * a->weight + b->mean * b->weight) / weight;
            a->weight = weight;
            a->end = b->end;
        }
    }
    return pools;
}

/* Of a mean of parts between 0 and 1, one of each kind added. */
static HmExpected expected_of(const Pool *p)
{
    double mean = (p->mean * p->weight + 1) / (p->weight + 2);

    return (HmExpected) {
        MIN(p->mean, 1), sqrt(mean * (1 - MIN(mean, 1)) / (p->weight + 2)),
    };
}

void hm_isotonic_fit(const HmEvidence *e, unsigned n, HmExpected *expected)
{
    g_autofree Pool *p = g_new(Pool, n);
    unsigned pools = pool(e, n, p), k = 0;
    HmExpected last = { 0, 0 };

    for (unsigned i = 0; i < n; i++) {
        if (k < pools && e[i].blocks >= TOO_FEW) {
            last = expected_of(&p[k]);
        }
        expected[i] = last;
        k += k < pools && i + 1 == p[k].end;
    }
}
