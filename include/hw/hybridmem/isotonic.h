/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Means that grow with a bucket's index: isotonic regression by pooling
 * adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman, 1955), with the
 * least sum of squared changes.
 *
 * The error of a mean comes from how its blocks differ: blocks of many pages,
 * each written by a tenth, tell more than pages do, a tenth of which is
 * written.  A few that agree are no certainty, so one is added that does not:
 * with no page for the error below, with all for the error above.
 */
#ifndef HW_HYBRIDMEM_ISOTONIC_H
#define HW_HYBRIDMEM_ISOTONIC_H

/*
 * What was found of the blocks in a bucket.  Double: float counts no further
 * than 2^24.
 */
typedef struct HmEvidence {
    double parts;               /* sum, each from 0 to 1 */
    double squares;             /* sum of theirs */
    double blocks;
} HmEvidence;

static inline void hm_evidence_add(HmEvidence *e, double part)
{
    e->parts += part;
    e->squares += part * part;
    e->blocks++;
}

typedef struct HmExpected {
    float part;                 /* of a block's pages, 0 to 1 */
    float below, above;         /* standard errors: it is less, or more */
} HmExpected;

/* What is left of @n buckets' evidence, 0 to 1. */
void hm_isotonic_fade(HmEvidence *e, unsigned n, double left);

/*
 * Fills @expected, which never falls with the index.  A bucket of which next
 * to nothing is known has what the next lower one has, the first ones 0.
 */
void hm_isotonic_fit(const HmEvidence *e, unsigned n, HmExpected *expected);

#endif
