/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small engine without QEMU, for the tests of policies: the caller says
 * what the guest writes and reads, plans are checked and carried out.
 */
#ifndef TESTS_UNIT_HYBRIDMEM_SIM_H
#define TESTS_UNIT_HYBRIDMEM_SIM_H

#include "hw/hybridmem/policy.h"

typedef struct Sim {
    HmFrames *frames;
    HmHeat *heat;
    HmAccess *access;           /* NULL: accesses are not seen */
    HmPolicy *policy;
    HmPolicyParams params;
    uint32_t blocks;
    uint32_t dram;
    uint32_t ppb;
    size_t words;
    unsigned long *dirty;       /* what the guest wrote in the window */
    unsigned long *read;        /* what it only read */
    unsigned long *seen;        /* of either, what the policy is shown */
    unsigned long *written;     /* with what had moved */
    uint8_t *moved;             /* block moved after the last window */
    uint32_t *watched;
    uint8_t *weight;
    size_t max_watched;         /* of a window; all by default */
    uint64_t max_faults;
    HmMove *plan;
    size_t max;
    uint64_t rng;
    HmMoveResult result;        /* DONE, or how every move fails */
    /* of the last window */
    uint64_t writes, reads;
    uint64_t dram_writes, dram_reads;
    size_t moves;
    size_t planned;
} Sim;

/* Dram first, as RAMinate has it.  Windows are told with sim_window(). */
void sim_init(Sim *s, const char *policy, uint32_t dram, uint32_t nvm,
              uint32_t ppb, uint64_t half_life_ms);
/* The same where accesses are seen. */
void sim_init_access(Sim *s, const char *policy, uint32_t dram, uint32_t nvm,
                     uint32_t ppb, uint64_t half_life_ms);
void sim_end(Sim *s);

uint64_t rnd(Sim *s);
double rnd01(Sim *s);           /* from 0 to less than 1 */

void write_page(Sim *s, uint64_t page);
void write_block(Sim *s, uint32_t block);
void read_page(Sim *s, uint64_t page);
void read_block(Sim *s, uint32_t block);

/* @s->params have changed. */
void set_params(Sim *s);

/* Ends the window: of writes, then of accesses; plans, and moves. */
void sim_window(Sim *s, uint64_t elapsed_ms);

/* The parts of @sim_window(). */
void check_plan(Sim *s, size_t n);
void carry_out(Sim *s, size_t n);

/* Parts of what was written, or read, in the last window in dram. */
double hits(const Sim *s);
double read_hits(const Sim *s);

#endif
