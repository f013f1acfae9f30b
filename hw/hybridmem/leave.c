/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that are left alone for some windows.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "leave.h"

/* Blocks that could not be moved rest for so many windows. */
#define REST_WINDOWS 8
#define RESTING 1024            /* remembered; power of two */

/* Promoted blocks stay for at least so many windows, at most twice that. */
#define SHIELD_WINDOWS 4

typedef struct Rest {
    uint32_t block;
    uint32_t until;             /* window */
} Rest;

struct HmLeave {
    const HmFrames *frames;
    uint32_t window;            /* number of the current one */
    uint32_t hand;              /* index of a dram frame */
    Rest rest[RESTING];
    uint32_t rest_end;          /* window in which none rests any more */
    /*
     * A bit for each dram frame: filled by a promotion in this, or the last
     * span of SHIELD_WINDOWS.
     */
    unsigned long *shield[2];
    bool shield_used[2];
};

static size_t shield_bytes(const HmFrames *fr)
{
    uint32_t dram = hm_frames_tier_blocks(fr, HM_TIER_DRAM);

    return BITS_TO_LONGS((size_t)dram) * sizeof(unsigned long);
}

HmLeave *hm_leave_new(const HmFrames *frames)
{
    HmLeave *l = g_new0(HmLeave, 1);

    l->frames = frames;
    for (unsigned i = 0; i < ARRAY_SIZE(l->shield); i++) {
        l->shield[i] = g_malloc0(shield_bytes(frames));
    }
    return l;
}

void hm_leave_free(HmLeave *l)
{
    for (unsigned i = 0; i < ARRAY_SIZE(l->shield); i++) {
        g_free(l->shield[i]);
    }
    g_free(l);
}

size_t hm_leave_bytes(const HmLeave *l)
{
    return sizeof(*l) + ARRAY_SIZE(l->shield) * shield_bytes(l->frames);
}

static unsigned shield_now(const HmLeave *l)
{
    return l->window / SHIELD_WINDOWS % 2;
}

void hm_leave_window(HmLeave *l)
{
    unsigned i;

    l->window++;
    i = shield_now(l);
    if (l->window % SHIELD_WINDOWS == 0 && l->shield_used[i]) {
        memset(l->shield[i], 0, shield_bytes(l->frames));
        l->shield_used[i] = false;
    }
}

void hm_leave_promoted(HmLeave *l, uint32_t block)
{
    uint32_t frame = hm_frames_frame_of(l->frames, block);
    unsigned i = shield_now(l);

    if (hm_frames_tier_of_frame(l->frames, frame) == HM_TIER_DRAM) {
        set_bit(hm_frames_tier_index(l->frames, frame), l->shield[i]);
        l->shield_used[i] = true;
    }
}

static uint32_t rest_index(uint32_t block)
{
    return (block * 0x9e3779b1u) / (UINT32_MAX / RESTING + 1);
}

void hm_leave_failed(HmLeave *l, uint32_t block)
{
    l->rest_end = l->window + REST_WINDOWS;
    l->rest[rest_index(block)] = (Rest) { block, l->rest_end };
}

bool hm_leave_rests(const HmLeave *l, uint32_t block)
{
    const Rest *r;

    if ((int32_t)(l->rest_end - l->window) <= 0) {
        return false;
    }
    r = &l->rest[rest_index(block)];
    return r->block == block && (int32_t)(r->until - l->window) > 0;
}

/* @i: index of a dram frame. */
static bool shielded(const HmLeave *l, uint32_t i)
{
    return test_bit(i, l->shield[0]) || test_bit(i, l->shield[1]);
}

size_t hm_leave_victims(HmLeave *l, uint32_t *block, size_t n)
{
    uint32_t dram = hm_frames_tier_blocks(l->frames, HM_TIER_DRAM);
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        if (!shielded(l, l->hand)) {
            uint32_t frame = hm_frames_tier_frame(l->frames, HM_TIER_DRAM,
                                                  l->hand);

            block[found++] = hm_frames_block_in(l->frames, frame);
        }
        l->hand = (l->hand + 1) % dram;
    }
    return found;
}
