/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Token buckets.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/budget.h"

#define DAY (24 * 3600.0)
#define HOUR 3600.0

static void fill(double *tokens, double come, double most)
{
    *tokens = MIN(*tokens + come, most);
}

void hm_budget_refill(HmBudget *b, const HmBudgetLimits *l, double seconds)
{
    fill(&b->bandwidth, seconds * l->bandwidth, l->burst * l->bandwidth);
    fill(&b->stall, seconds * l->stall, l->burst * l->stall);
    fill(&b->nvm_writes, seconds / DAY * l->nvm_writes,
         HOUR / DAY * l->nvm_writes);
}

void hm_budget_spend(HmBudget *b, const HmBudgetLimits *l,
                     uint64_t copied_bytes, uint64_t stall_ns)
{
    if (l->bandwidth) {
        b->bandwidth -= copied_bytes;
    }
    if (l->stall) {
        b->stall -= stall_ns;
    }
}

void hm_budget_wear(HmBudget *b, const HmBudgetLimits *l, uint64_t bytes)
{
    if (l->nvm_writes) {
        b->nvm_writes -= bytes;
    }
}

bool hm_budget_affordable(const HmBudget *b, const HmBudgetLimits *l)
{
    return (!l->bandwidth || b->bandwidth > 0) && (!l->stall || b->stall > 0);
}

bool hm_budget_worn(const HmBudget *b, const HmBudgetLimits *l)
{
    return l->nvm_writes && b->nvm_writes <= 0;
}

static size_t fits(double tokens, uint64_t block_size, size_t n)
{
    double moves = MAX(tokens, 0) / (2.0 * block_size);

    return moves < n ? MAX((size_t)moves, 1) : n;
}

size_t hm_budget_moves(const HmBudget *b, const HmBudgetLimits *l,
                       uint64_t block_size, bool wear, size_t n)
{
    if (l->bandwidth) {
        n = fits(b->bandwidth, block_size, n);
    }
    if (l->nvm_writes && wear) {
        n = fits(b->nvm_writes, block_size, n);
    }
    return n;
}
