/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small engine without QEMU.
 */
#include "qemu/osdep.h"
#include <math.h>
#include "qemu/bitops.h"
#include "hybridmem-sim.h"

uint64_t rnd(Sim *s)
{
    s->rng ^= s->rng << 13;
    s->rng ^= s->rng >> 7;
    s->rng ^= s->rng << 17;
    return s->rng;
}

double rnd01(Sim *s)
{
    return (rnd(s) >> 11) * ldexp(1, -53);
}

static void init(Sim *s, const char *policy, uint32_t dram, uint32_t nvm,
                 uint32_t ppb, uint64_t half_life_ms, bool access)
{
    HmExtent ext[] = {
        { 0, dram, HM_TIER_DRAM, true },
        { dram, nvm, HM_TIER_NVM, true },
    };
    uint32_t blocks = dram + nvm;
    uint64_t pages = (uint64_t)blocks * ppb;
    size_t words = BITS_TO_LONGS(pages);

    *s = (Sim) {
        .dram = dram,
        .blocks = blocks,
        .ppb = ppb,
        .frames = hm_frames_new(ext, 2),
        .heat = hm_heat_new(pages, ppb, half_life_ms),
        .access = access ? hm_access_new(pages, ppb) : NULL,
        .words = words,
        .dirty = g_new0(unsigned long, words),
        .read = g_new0(unsigned long, words),
        .seen = g_new0(unsigned long, words),
        .written = g_new0(unsigned long, words),
        .moved = g_new0(uint8_t, blocks),
        .watched = g_new0(uint32_t, blocks),
        .weight = g_new0(uint8_t, blocks),
        .max_watched = blocks,
        .max_faults = UINT64_MAX,
        .plan = g_new0(HmMove, blocks),
        .max = blocks,
        .rng = 88172645463325252ull,
    };
    hm_policy_params_init(&s->params);
    s->policy = hm_policy_new(hm_policy_find(policy), s->frames, s->heat,
                              s->access, &s->params);
}

void sim_init(Sim *s, const char *policy, uint32_t dram, uint32_t nvm,
              uint32_t ppb, uint64_t half_life_ms)
{
    init(s, policy, dram, nvm, ppb, half_life_ms, false);
}

void sim_init_access(Sim *s, const char *policy, uint32_t dram, uint32_t nvm,
                     uint32_t ppb, uint64_t half_life_ms)
{
    init(s, policy, dram, nvm, ppb, half_life_ms, true);
}

void sim_end(Sim *s)
{
    const char *why;

    g_assert_true(hm_frames_verify(s->frames, &why));
    hm_policy_free(s->policy);
    hm_access_free(s->access);
    hm_heat_free(s->heat);
    hm_frames_free(s->frames);
    g_free(s->dirty);
    g_free(s->read);
    g_free(s->seen);
    g_free(s->written);
    g_free(s->moved);
    g_free(s->watched);
    g_free(s->weight);
    g_free(s->plan);
}

void write_page(Sim *s, uint64_t page)
{
    set_bit(page, s->dirty);
}

void write_block(Sim *s, uint32_t block)
{
    for (uint32_t i = 0; i < s->ppb; i++) {
        write_page(s, (uint64_t)block * s->ppb + i);
    }
}

void read_page(Sim *s, uint64_t page)
{
    set_bit(page, s->read);
}

void read_block(Sim *s, uint32_t block)
{
    for (uint32_t i = 0; i < s->ppb; i++) {
        read_page(s, (uint64_t)block * s->ppb + i);
    }
}

void set_params(Sim *s)
{
    hm_policy_set_params(s->policy, &s->params);
}

void check_plan(Sim *s, size_t n)
{
    g_autofree uint8_t *named = g_new0(uint8_t, s->blocks);

    g_assert_cmpuint(n, <=, s->max);
    for (size_t i = 0; i < n; i++) {
        const HmMove *m = &s->plan[i];

        g_assert_cmpuint(m->promote, <, s->blocks);
        g_assert_cmpuint(m->demote, <, s->blocks);
        g_assert_cmpint(hm_frames_tier_of(s->frames, m->promote), ==,
                        HM_TIER_NVM);
        g_assert_cmpint(hm_frames_tier_of(s->frames, m->demote), ==,
                        HM_TIER_DRAM);
        g_assert_false(named[m->promote] || named[m->demote]);
        named[m->promote] = named[m->demote] = 1;
    }
}

void carry_out(Sim *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const HmMove *m = &s->plan[i];
        HmMoveResult r = s->result;
        HmCycle c;

        if (r == HM_MOVE_DONE) {
            r = hm_frames_plan_cycle(s->frames, m->promote, m->demote,
                                     s->params.map_limit, &c);
        }
        if (r == HM_MOVE_DONE) {
            hm_frames_apply(s->frames, &c);
            for (unsigned j = 0; j < c.n; j++) {
                s->moved[c.block[j]] = 1;
            }
            s->moves++;
        }
        hm_policy_moved(s->policy, m, r);
    }
}

/* Adds up the guest's window by tiers. */
static void count(Sim *s)
{
    s->writes = s->reads = s->dram_writes = s->dram_reads = 0;
    for (uint32_t b = 0; b < s->blocks; b++) {
        bool in_dram = hm_frames_tier_of(s->frames, b) == HM_TIER_DRAM;

        for (uint32_t i = 0; i < s->ppb; i++) {
            uint64_t page = (uint64_t)b * s->ppb + i;

            s->writes += test_bit(page, s->dirty);
            s->reads += test_bit(page, s->read);
            s->dram_writes += in_dram && test_bit(page, s->dirty);
            s->dram_reads += in_dram && test_bit(page, s->read);
        }
    }
}

/* What has just moved is not sampled. */
static void window_of_writes(Sim *s, uint64_t elapsed_ms)
{
    memcpy(s->seen, s->dirty, s->words * sizeof(long));
    memcpy(s->written, s->dirty, s->words * sizeof(long));
    for (uint32_t b = 0; b < s->blocks; b++) {
        for (uint32_t i = 0; s->moved[b] && i < s->ppb; i++) {
            clear_bit((uint64_t)b * s->ppb + i, s->seen);
        }
    }
    memset(s->moved, 0, s->blocks);
    hm_heat_window(s->heat, s->seen, elapsed_ms);
    hm_policy_observe(s->policy, &(HmWindow) {
        .sense = HM_SENSE_WRITES,
        .seen = s->seen,
        .elapsed_ms = elapsed_ms,
    });
}

static void window_of_accesses(Sim *s, uint64_t elapsed_ms)
{
    HmWindow w = {
        .sense = HM_SENSE_ACCESSES,
        .seen = s->seen,
        .watched = s->watched,
        .weight = s->weight,
        .known = hm_policy_known(s->policy, s->written),
        .elapsed_ms = elapsed_ms,
    };

    w.n_watched = hm_access_pick(s->access, w.known, s->watched, s->weight,
                                 s->max_watched, s->max_faults);
    memset(s->seen, 0, s->words * sizeof(long));
    for (size_t i = 0; i < w.n_watched; i++) {
        uint64_t first = (uint64_t)s->watched[i] * s->ppb;

        for (uint64_t p = first; p < first + s->ppb; p++) {
            if (test_bit(p, s->dirty) || test_bit(p, s->read)) {
                set_bit(p, s->seen);
            }
        }
    }
    hm_access_window(s->access, &w);
    hm_policy_observe(s->policy, &w);
}

void sim_window(Sim *s, uint64_t elapsed_ms)
{
    count(s);
    window_of_writes(s, elapsed_ms);
    if (s->access) {
        window_of_accesses(s, elapsed_ms);
    }
    s->planned = hm_policy_plan(s->policy, s->plan, s->max);
    check_plan(s, s->planned);
    s->moves = 0;
    carry_out(s, s->planned);
    memset(s->dirty, 0, s->words * sizeof(long));
    memset(s->read, 0, s->words * sizeof(long));
}

double hits(const Sim *s)
{
    return s->writes ? (double)s->dram_writes / s->writes : 1;
}

double read_hits(const Sim *s)
{
    return s->reads ? (double)s->dram_reads / s->reads : 1;
}
