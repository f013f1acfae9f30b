/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's thread: what its files share.
 *
 *   engine-calls.c   what the thread asks of the main loop, and is asked for
 *   engine-moves.c   plans become batches, as far as the budget allows
 *   engine.c         windows, parameters, the thread's life
 *
 * All of it is the engine's thread's, without the lock, unless it says so.
 */
#ifndef HYBRIDMEM_ENGINE_INTERNAL_H
#define HYBRIDMEM_ENGINE_INTERNAL_H

#include "hw/hybridmem/engine.h"

static inline int64_t hm_now_ns(void)
{
    return g_get_monotonic_time() * 1000;
}

/* --- engine-calls.c ------------------------------------------------------ */

/* Main loop: before the thread starts, and after it has ended. */
void hm_calls_open(Hybridmem *hm);
void hm_calls_close(Hybridmem *hm);

/*
 * Runs @fn in the main loop, at its top level (never nested in a handler
 * that waits for something), and waits for it.  False if the engine is to
 * end: @fn has not run, and will not.
 */
bool hm_call_main(Hybridmem *hm, void (*fn)(Hybridmem *hm));
/* Main loop: may the engine work?  If not, ends its log. */
void hm_main_check(Hybridmem *hm);

/*
 * Waits and serves requests.  Returns early when parameters have changed,
 * but not from within a plan.  False if the engine is to end.
 */
bool hm_wait_until(Hybridmem *hm, int64_t until_ns);
/* Serves nobody who needs placement.  False if somebody does. */
bool hm_wait_alone(Hybridmem *hm, int64_t until_ns);

HybridmemParameters hm_parameters(Hybridmem *hm);
bool hm_params_have_changed(Hybridmem *hm);
bool hm_quitting(Hybridmem *hm);

/* --- engine-moves.c ------------------------------------------------------ */

/*
 * Carries out @moves, as far as the budget allows before @until_ns; a
 * command has none.  Adds up what became of them in @results.  A command
 * without moves holds the guest once, so that it can be measured.
 */
void hm_carry_out(Hybridmem *hm, const HmMove *moves, size_t n, HmCause cause,
                  int64_t until_ns, uint64_t results[HM_MOVE__MAX]);
/*
 * What the policy wants.  Returns how many moves these were, without those that
 * a budget of the day refuses: there is no point in waiting for that.
 */
size_t hm_plan_and_carry_out(Hybridmem *hm, int64_t until_ns,
                             uint64_t results[HM_MOVE__MAX]);
/* What the mover needs.  Returns how many moves these were. */
size_t hm_settle(Hybridmem *hm, int64_t until_ns);
void hm_write_trace(Hybridmem *hm);

/* --- engine.c ------------------------------------------------------------ */

/* A request that needs the main loop; heat is served on the way. */
void hm_serve(Hybridmem *hm, HmRequest *rq);

#endif
