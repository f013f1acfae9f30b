/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The balance of the tiers' latencies; the theory is in the header.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "hw/hybridmem/balance.h"

/* Equally soon, in the logarithm of latencies: Colloid's 5 percent. */
#define BAND 0.05
/* Standard errors that x must be away from it. */
#define CHANCE 2.0
/* Variance of one window, until it is known, and at least: 10, 1 percent. */
#define NOISE 0.01
#define NOISE_MIN 0.0001
#define NOISE_WINDOWS 8
/* A single window counts no more than three standard deviations. */
#define NOISE_CLIP 9
/* Windows that count, at least and at most; without a limit load changes. */
#define WINDOWS_MIN 2
#define WINDOWS_MAX 8
#define WINDOWS_FREE 4
/* Those shown. */
#define SMOOTH 4

/* Parts of what dram is worth. */
#define STEP (1.0 / 16)
#define STEP_MIN (1.0 / 256)
#define STEP_MAX (1.0 / 2)
/* Steps in one direction before they grow. */
#define RUN 3

void hm_balance_init(HmBalance *b)
{
    *b = (HmBalance) {
        .state = HM_BALANCE_UNKNOWN,
        .noise = NOISE,
        .step = STEP,
    };
}

static bool is_limited(const HmBalance *b)
{
    return b->state > HM_BALANCE_FREE;
}

static bool is_measured(double ns)
{
    return isfinite(ns) && ns > 0;
}

static void lose(HmBalance *b)
{
    uint64_t windows = b->windows, retreats = b->retreats;

    if (is_limited(b)) {
        b->state = HM_BALANCE_HELD;
    }
    if (++b->unmeasured >= HM_BALANCE_LOST) {
        hm_balance_init(b);
        b->windows = windows;
        b->retreats = retreats;
    }
}

static void smooth(HmBalance *b, const double ns[HM_TIER__MAX])
{
    for (int t = 0; t < HM_TIER__MAX; t++) {
        double *l = &b->latency[t];

        *l = *l ? *l + (ns[t] - *l) / SMOOTH : ns[t];
    }
}

/*
 * By how much windows differ from the line through the two before them, which
 * has a variance of 6, so that a load that grows or falls is not noise.
 */
static void learn_noise(HmBalance *b, double x)
{
    double d = x - 2 * b->last[0] + b->last[1];
    double seen = MIN(d * d / 6, NOISE_CLIP * b->noise);

    b->noise += (seen - b->noise) / NOISE_WINDOWS;
    b->noise = MAX(b->noise, NOISE_MIN);
}

static unsigned counted(const HmBalance *b)
{
    return MIN(b->n, is_limited(b) ? WINDOWS_MAX : WINDOWS_FREE);
}

static void learn(HmBalance *b, double x)
{
    if (b->n >= 2) {
        learn_noise(b, x);
    }
    b->last[1] = b->last[0];
    b->last[0] = x;
    b->n++;
    b->ratio += (x - b->ratio) / counted(b);
}

static void set_free(HmBalance *b)
{
    b->state = HM_BALANCE_FREE;
    b->direction = HM_BALANCE_UNKNOWN;
    b->step = STEP;
}

static void make_step(HmBalance *b, HmBalanceState to)
{
    if (to == b->direction) {
        b->run++;
        if (b->run >= RUN) {
            b->step *= 2;
        }
    } else {
        if (b->direction != HM_BALANCE_UNKNOWN) {
            b->step = MAX(b->step / 2, STEP_MIN);
        }
        b->direction = to;
        b->run = 1;
    }
    b->n = 0;
    if (to == HM_BALANCE_ADVANCE && b->step > STEP_MAX) {
        set_free(b);
        return;
    }
    b->step = MIN(b->step, STEP_MAX);
    b->state = to;
    b->retreats += to == HM_BALANCE_RETREAT;
}

static void decide(HmBalance *b)
{
    double error = CHANCE * sqrt(b->noise / counted(b));

    if (b->n < WINDOWS_MIN) {
        b->state = is_limited(b) ? HM_BALANCE_HELD : HM_BALANCE_FREE;
    } else if (b->ratio - error > BAND) {
        make_step(b, HM_BALANCE_RETREAT);
    } else if (!is_limited(b)) {
        b->state = b->ratio - error > -BAND ? HM_BALANCE_HELD :
                   HM_BALANCE_FREE;
    } else if (b->ratio + error < -BAND) {
        make_step(b, HM_BALANCE_ADVANCE);
    } else {
        b->state = HM_BALANCE_HELD;
    }
}

void hm_balance_window(HmBalance *b, const double ns[HM_TIER__MAX])
{
    if (!is_measured(ns[HM_TIER_DRAM]) || !is_measured(ns[HM_TIER_NVM])) {
        lose(b);
        return;
    }
    b->unmeasured = 0;
    b->windows++;
    smooth(b, ns);
    learn(b, log(ns[HM_TIER_DRAM] / ns[HM_TIER_NVM]));
    decide(b);
}

HmBalanceLimit hm_balance_limit(const HmBalance *b)
{
    return (HmBalanceLimit) {
        .limited = is_limited(b),
        .advance = b->state == HM_BALANCE_ADVANCE ? b->step : 0,
        .retreat = b->state == HM_BALANCE_RETREAT ? b->step : 0,
    };
}
