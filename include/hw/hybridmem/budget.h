/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What moves may cost: token buckets, each with a limit of its own, and each
 * filled by time.
 *
 * A bucket holds no more than a burst.  It may go into debt for one batch of
 * moves, whose cost is known afterwards only; nothing is affordable until that
 * is paid.  Without a limit nothing is taken, so that a limit set later finds
 * no debt.
 *
 * Not thread-safe.  No clock: time comes in as seconds.
 */
#ifndef HW_HYBRIDMEM_BUDGET_H
#define HW_HYBRIDMEM_BUDGET_H

/* 0: no limit. */
typedef struct HmBudgetLimits {
    uint64_t bandwidth;         /* bytes copied in a second */
    uint64_t stall;             /* ns in a second that the guest is held */
    uint64_t nvm_writes;        /* bytes written to nvm in a day */
    double burst;               /* seconds' worth of the first two at once */
} HmBudgetLimits;

/* All zero: it begins empty. */
typedef struct HmBudget {
    double bandwidth;           /* bytes */
    double stall;               /* ns */
    double nvm_writes;          /* bytes; an hour's worth at once */
} HmBudget;

void hm_budget_refill(HmBudget *b, const HmBudgetLimits *l, double seconds);

/* A batch copied so many bytes and held the guest for so long. */
void hm_budget_spend(HmBudget *b, const HmBudgetLimits *l,
                     uint64_t copied_bytes, uint64_t stall_ns);

/* Moves, whoever wanted them, wrote so many bytes to nvm. */
void hm_budget_wear(HmBudget *b, const HmBudgetLimits *l, uint64_t bytes);

/* Is there any bandwidth and time? */
bool hm_budget_affordable(const HmBudget *b, const HmBudgetLimits *l);

/* May nothing more be written to nvm for now? */
bool hm_budget_worn(const HmBudget *b, const HmBudgetLimits *l);

/*
 * Of @n moves, each of two blocks of @block_size bytes, those that one batch
 * may have: at least 1.  With @wear those that nvm may bear, too.
 */
size_t hm_budget_moves(const HmBudget *b, const HmBudgetLimits *l,
                       uint64_t block_size, bool wear, size_t n);

#endif
