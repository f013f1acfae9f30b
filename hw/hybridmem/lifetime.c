/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For how long moves keep what they promise; the theory is in the header.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/lifetime.h"
#include "policy-internal.h"

#define AGES HM_LIFETIME_WINDOWS

/* Promises above 1/2, above 1/4, ... and all below; for victims of a kind. */
#define STRENGTHS 6
#define GROUPS (2 * STRENGTHS)

/* Moves watched at a time; taken up in a window. */
#define WATCHED 2048
#define WATCHED_WINDOW 32

/* What is left of a window's evidence one window later. */
#define FADE 0.98
/* Weight of what a neighbouring group has seen. */
#define NEIGHBOUR 0.1
/* Moves that the age before stands for. */
#define PRIOR 2.0
/* Less is not believed: a group must go on having moves to learn from. */
#define LEAST 0.3

typedef struct Watch {
    uint32_t promoted, demoted;
    float promised;
    uint8_t age, group;
    bool fresh;                 /* moved since the last window: no sample */
} Watch;

typedef struct Evidence {
    double promised, saved;
} Evidence;

struct HmLifetime {
    const HmFrames *frames;
    Watch watch[WATCHED];
    unsigned n, taken;
    uint64_t offered;           /* moves of this window, taken or not */
    uint64_t random;
    Evidence evidence[GROUPS][AGES];
    double lifetime[GROUPS];
};

/* By the halvings of 1 that it takes, rounded down. */
static unsigned group_of(double promise, bool in_use)
{
    int exponent;
    bool half = frexp(promise, &exponent) == 0.5;
    unsigned strength = CLAMP(half - exponent, 0, STRENGTHS - 1);

    return in_use ? STRENGTHS + strength : strength;
}

HmLifetime *hm_lifetime_new(const HmFrames *frames)
{
    HmLifetime *l = g_new0(HmLifetime, 1);

    l->frames = frames;
    for (unsigned g = 0; g < GROUPS; g++) {
        l->lifetime[g] = 1;
    }
    return l;
}

void hm_lifetime_free(HmLifetime *l)
{
    g_free(l);
}

size_t hm_lifetime_bytes(const HmLifetime *l)
{
    return sizeof(*l);
}

/* Where to put a move; WATCHED: nowhere.  Each of a window has equal odds. */
static unsigned place(HmLifetime *l)
{
    uint64_t i;

    l->offered++;
    if (l->taken < WATCHED_WINDOW && l->n < WATCHED) {
        l->taken++;
        return l->n++;
    }
    i = hm_random(&l->random) % l->offered;
    return i < l->taken ? l->n - l->taken + i : WATCHED;
}

void hm_lifetime_add(HmLifetime *l, const HmMove *move, double promise,
                     bool in_use)
{
    unsigned i = promise > 0 ? place(l) : WATCHED;

    if (i < WATCHED) {
        l->watch[i] = (Watch) {
            .promoted = move->promote,
            .demoted = move->demote,
            .promised = promise,
            .group = group_of(promise, in_use),
            .fresh = true,
        };
    }
}

void hm_lifetime_forget(HmLifetime *l, uint32_t block)
{
    unsigned n = 0, first_taken = l->n - l->taken;

    for (unsigned i = 0; i < l->n; i++) {
        if (l->watch[i].promoted != block) {
            l->watch[n++] = l->watch[i];
        } else if (i >= first_taken) {
            l->taken--;
        }
    }
    l->n = n;
}

static bool in(const HmLifetime *l, uint32_t block, HmTier tier)
{
    return hm_frames_tier_of(l->frames, block) == tier;
}

/* The move is undone block by block: each half counts while it lasts. */
static double saved_by(const HmLifetime *l, const Watch *w,
                       double (*worth)(void *opaque, uint32_t block),
                       void *opaque)
{
    double saved = 0;

    if (in(l, w->promoted, HM_TIER_DRAM)) {
        saved += worth(opaque, w->promoted);
        if (in(l, w->demoted, HM_TIER_NVM)) {
            saved -= worth(opaque, w->demoted);
        }
    }
    return saved;
}

static void fade(HmLifetime *l)
{
    for (unsigned g = 0; g < GROUPS; g++) {
        for (unsigned a = 0; a < AGES; a++) {
            l->evidence[g][a].promised *= FADE;
            l->evidence[g][a].saved *= FADE;
        }
    }
}

static Evidence evidence_of(const HmLifetime *l, unsigned g, unsigned age)
{
    Evidence e = l->evidence[g][age];

    for (int d = -1; d <= 1; d += 2) {
        int strength = (int)(g % STRENGTHS) + d;

        if (strength >= 0 && strength < STRENGTHS) {
            e.promised += NEIGHBOUR * l->evidence[g + d][age].promised;
            e.saved += NEIGHBOUR * l->evidence[g + d][age].saved;
        }
    }
    return e;
}

static double conclude(const HmLifetime *l, unsigned g, double horizon)
{
    double weight = PRIOR * exp2(-(double)(g % STRENGTHS));
    double left = exp(-1 / horizon);
    double prior = 1, sum = 0;

    for (unsigned a = 0; a < AGES; a++) {
        Evidence e = evidence_of(l, g, a);
        double kept = (prior * weight + e.saved) / (weight + e.promised);

        prior = MIN(kept * left, 1);
        sum += MAX(kept, 0);
    }
    return MAX(sum, LEAST);
}

void hm_lifetime_window(HmLifetime *l, double horizon,
                        double (*worth)(void *opaque, uint32_t block),
                        void *opaque)
{
    unsigned n = 0;

    fade(l);
    for (unsigned i = 0; i < l->n; i++) {
        Watch w = l->watch[i];

        if (w.fresh) {
            w.fresh = false;
        } else {
            Evidence *e = &l->evidence[w.group][w.age++];

            e->promised += w.promised;
            e->saved += saved_by(l, &w, worth, opaque);
        }
        if (w.age < AGES) {
            l->watch[n++] = w;
        }
    }
    l->n = n;
    l->taken = 0;
    l->offered = 0;
    for (unsigned g = 0; g < GROUPS; g++) {
        l->lifetime[g] = conclude(l, g, horizon);
    }
}

double hm_lifetime(const HmLifetime *l, double promise, bool in_use)
{
    return promise > 0 ? l->lifetime[group_of(promise, in_use)] : 0;
}
