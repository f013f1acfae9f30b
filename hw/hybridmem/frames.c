/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which frame backs which block.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/bigmem.h"
#include "qemu/bitops.h"

struct HmFrames {
    uint32_t blocks;
    uint32_t tier_blocks[HM_TIER__MAX];
    unsigned n_ext;
    HmExtent ext[HM_EXTENTS_MAX];
    uint64_t cuts;              /* boundaries that count: mappings - 1 */
    uint32_t strays;            /* nvm-home blocks in foreign nvm frames */

    /* Both XORed with their index, so that the identity is all zeroes. */
    uint32_t *frame_of;
    uint32_t *block_in;

    /*
     * Bit b set: blocks b and b + 1 were mapped by different calls at some
     * time.  NULL if all extents are mergeable.
     */
    unsigned long *split;
};

/* Frames as they would be after @cycle, which may be NULL. */
typedef struct HmView {
    const HmFrames *fr;
    const HmCycle *cycle;
} HmView;

static size_t perm_bytes(const HmFrames *fr)
{
    return (size_t)fr->blocks * sizeof(uint32_t);
}

static size_t split_bytes(const HmFrames *fr)
{
    return DIV_ROUND_UP((size_t)fr->blocks, BITS_PER_LONG) *
           sizeof(unsigned long);
}

HmFrames *hm_frames_new(const HmExtent *ext, unsigned n_ext)
{
    HmFrames *fr = g_new0(HmFrames, 1);
    bool mergeable = true;

    g_assert(n_ext > 0 && n_ext <= HM_EXTENTS_MAX);
    for (unsigned i = 0; i < n_ext; i++) {
        g_assert(ext[i].first == fr->blocks && ext[i].blocks > 0);
        g_assert(ext[i].blocks < HM_BLOCK_NONE - fr->blocks);
        g_assert(ext[i].tier < HM_TIER__MAX);
        fr->ext[i] = ext[i];
        fr->blocks += ext[i].blocks;
        fr->tier_blocks[ext[i].tier] += ext[i].blocks;
        mergeable &= ext[i].mergeable;
    }
    fr->n_ext = n_ext;
    fr->cuts = n_ext - 1;
    fr->frame_of = hm_bigmem_new(perm_bytes(fr));
    fr->block_in = hm_bigmem_new(perm_bytes(fr));
    if (!mergeable) {
        fr->split = hm_bigmem_new(split_bytes(fr));
    }
    return fr;
}

void hm_frames_free(HmFrames *fr)
{
    if (!fr) {
        return;
    }
    hm_bigmem_free(fr->frame_of, perm_bytes(fr));
    hm_bigmem_free(fr->block_in, perm_bytes(fr));
    hm_bigmem_free(fr->split, split_bytes(fr));
    g_free(fr);
}

uint32_t hm_frames_blocks(const HmFrames *fr)
{
    return fr->blocks;
}

uint32_t hm_frames_tier_blocks(const HmFrames *fr, HmTier tier)
{
    return fr->tier_blocks[tier];
}

uint32_t hm_frames_frame_of(const HmFrames *fr, uint32_t block)
{
    return fr->frame_of[block] ^ block;
}

uint32_t hm_frames_block_in(const HmFrames *fr, uint32_t frame)
{
    return fr->block_in[frame] ^ frame;
}

unsigned hm_frames_extent_of(const HmFrames *fr, uint32_t frame)
{
    unsigned lo = 0, hi = fr->n_ext;

    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;

        if (fr->ext[mid].first <= frame) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

HmTier hm_frames_tier_of_frame(const HmFrames *fr, uint32_t frame)
{
    return fr->ext[hm_frames_extent_of(fr, frame)].tier;
}

HmTier hm_frames_tier_of(const HmFrames *fr, uint32_t block)
{
    return hm_frames_tier_of_frame(fr, hm_frames_frame_of(fr, block));
}

uint32_t hm_frames_tier_frame(const HmFrames *fr, HmTier tier, uint32_t i)
{
    for (unsigned e = 0; e < fr->n_ext; e++) {
        const HmExtent *x = &fr->ext[e];

        if (x->tier != tier) {
            continue;
        }
        if (i < x->blocks) {
            return x->first + i;
        }
        i -= x->blocks;
    }
    g_assert_not_reached();
}

uint32_t hm_frames_tier_index(const HmFrames *fr, uint32_t frame)
{
    unsigned own = hm_frames_extent_of(fr, frame);
    uint32_t i = frame - fr->ext[own].first;

    for (unsigned e = 0; e < own; e++) {
        i += fr->ext[e].tier == fr->ext[own].tier ? fr->ext[e].blocks : 0;
    }
    return i;
}

unsigned hm_frames_n_extents(const HmFrames *fr)
{
    return fr->n_ext;
}

const HmExtent *hm_frames_extent(const HmFrames *fr, unsigned i)
{
    return &fr->ext[i];
}

uint64_t hm_frames_mappings(const HmFrames *fr)
{
    return fr->cuts + 1;
}

uint32_t hm_frames_strays(const HmFrames *fr)
{
    return fr->strays;
}

uint64_t hm_frames_worst_mappings(uint32_t dram_blocks)
{
    return 3 * (uint64_t)dram_blocks + HM_EXTENTS_MAX + 1;
}

static uint32_t view_frame(const HmView *v, uint32_t block)
{
    const HmCycle *c = v->cycle;

    for (unsigned i = 0; c && i < c->n; i++) {
        if (c->block[i] == block) {
            block = c->block[(i + 1) % c->n];
            break;
        }
    }
    return hm_frames_frame_of(v->fr, block);
}

static bool view_splits(const HmView *v, uint32_t b)
{
    for (unsigned i = 0; v->cycle && i < v->cycle->n; i++) {
        if (v->cycle->block[i] == b || v->cycle->block[i] == b + 1) {
            return true;
        }
    }
    return v->fr->split && test_bit(b, v->fr->split);
}

/* Do blocks @b and @b + 1 need different mappings? */
static bool view_cut(const HmView *v, uint32_t b)
{
    uint32_t frame = view_frame(v, b);
    const HmExtent *x;

    if (view_frame(v, b + 1) != frame + 1) {
        return true;
    }
    x = &v->fr->ext[hm_frames_extent_of(v->fr, frame)];
    if (frame + 1 == x->first + x->blocks) {
        return true;
    }
    return !x->mergeable && view_splits(v, b);
}

/* Boundaries that @cycle can change; each once.  Returns their number. */
static unsigned touched_boundaries(const HmFrames *fr, const HmCycle *cycle,
                                   uint32_t touched[2 * HM_CYCLE_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < 2 * cycle->n; i++) {
        uint32_t block = cycle->block[i / 2];
        uint32_t b = i % 2 ? block : block - 1;
        bool known = false;

        if ((block == 0 && i % 2 == 0) || b == fr->blocks - 1) {
            continue;
        }
        for (unsigned j = 0; j < n; j++) {
            known |= touched[j] == b;
        }
        if (!known) {
            touched[n++] = b;
        }
    }
    return n;
}

/* By how much @cycle would change the number of mappings. */
static int cycle_delta(const HmFrames *fr, const HmCycle *cycle)
{
    HmView before = { fr, NULL }, after = { fr, cycle };
    uint32_t touched[2 * HM_CYCLE_MAX];
    unsigned n = touched_boundaries(fr, cycle, touched);
    int delta = 0;

    for (unsigned i = 0; i < n; i++) {
        delta += view_cut(&after, touched[i]) - view_cut(&before, touched[i]);
    }
    return delta;
}

static bool view_stray(const HmView *v, uint32_t block)
{
    uint32_t frame = view_frame(v, block);

    return frame != block &&
           hm_frames_tier_of_frame(v->fr, block) == HM_TIER_NVM &&
           hm_frames_tier_of_frame(v->fr, frame) == HM_TIER_NVM;
}

/* By how much @cycle would change the number of strays. */
static int cycle_strays(const HmFrames *fr, const HmCycle *cycle)
{
    HmView before = { fr, NULL }, after = { fr, cycle };
    int delta = 0;

    for (unsigned i = 0; i < cycle->n; i++) {
        delta += view_stray(&after, cycle->block[i]) -
                 view_stray(&before, cycle->block[i]);
    }
    return delta;
}

/* Would homing cycles stay within the limit, whatever comes? */
static bool strays_fit(const HmFrames *fr, int delta, uint64_t map_limit)
{
    uint64_t worst = 3 * (uint64_t)fr->tier_blocks[HM_TIER_DRAM] +
                     2 * ((uint64_t)fr->strays + delta) + fr->n_ext + 1;

    return delta <= 0 || worst <= map_limit;
}

static bool cycle_fits(const HmFrames *fr, const HmCycle *cycle,
                       uint64_t map_limit)
{
    int delta;

    if (!map_limit) {
        return true;
    }
    delta = cycle_delta(fr, cycle);
    return (delta <= 0 || hm_frames_mappings(fr) + delta <= map_limit) &&
           strays_fit(fr, cycle_strays(fr, cycle), map_limit);
}

HmMoveResult hm_frames_plan_cycle(const HmFrames *fr, uint32_t a, uint32_t b,
                                  uint64_t map_limit, HmCycle *cycle)
{
    uint32_t up, down, guest;

    if (a == b || a >= fr->blocks || b >= fr->blocks) {
        return HM_MOVE_STALE;
    }

    *cycle = (HmCycle) { .n = 2, .block = { a, b } };
    if (cycle_fits(fr, cycle, map_limit)) {
        return HM_MOVE_DONE;
    }

    if (hm_frames_tier_of(fr, a) == hm_frames_tier_of(fr, b)) {
        return HM_MOVE_MAP_LIMIT;
    }
    up = hm_frames_tier_of(fr, a) == HM_TIER_NVM ? a : b;
    down = up == a ? b : a;
    guest = hm_frames_block_in(fr, down);
    if (hm_frames_tier_of_frame(fr, down) == HM_TIER_DRAM || guest == up) {
        /* The cycle of two was the homing one. */
        return HM_MOVE_MAP_LIMIT;
    }
    *cycle = (HmCycle) { .n = 3, .block = { up, down, guest } };
    return cycle_fits(fr, cycle, map_limit) ? HM_MOVE_DONE
                                            : HM_MOVE_MAP_LIMIT;
}

void hm_frames_apply(HmFrames *fr, const HmCycle *cycle)
{
    uint32_t touched[2 * HM_CYCLE_MAX];
    unsigned n = touched_boundaries(fr, cycle, touched);
    uint32_t first = hm_frames_frame_of(fr, cycle->block[0]);

    fr->cuts += cycle_delta(fr, cycle);
    fr->strays += cycle_strays(fr, cycle);
    for (unsigned i = 0; i < n && fr->split; i++) {
        set_bit(touched[i], fr->split);
    }
    for (unsigned i = 0; i < cycle->n; i++) {
        uint32_t block = cycle->block[i];
        uint32_t frame = i + 1 < cycle->n ?
                         hm_frames_frame_of(fr, cycle->block[i + 1]) : first;

        fr->frame_of[block] = frame ^ block;
        fr->block_in[frame] = block ^ frame;
    }
}

bool hm_frames_verify(const HmFrames *fr, const char **why)
{
    HmView now = { fr, NULL };
    const char *wrong = NULL;
    uint64_t cuts = 0;
    uint32_t strays = 0;

    for (uint32_t b = 0; b < fr->blocks && !wrong; b++) {
        uint32_t frame = hm_frames_frame_of(fr, b);

        if (frame >= fr->blocks) {
            wrong = "a block has a frame that does not exist";
        } else if (hm_frames_block_in(fr, frame) != b) {
            wrong = "a block's frame is said to hold another block";
        } else {
            cuts += b + 1 < fr->blocks && view_cut(&now, b);
            strays += view_stray(&now, b);
        }
    }
    if (!wrong && cuts != fr->cuts) {
        wrong = "the number of mappings is wrong";
    } else if (!wrong && strays != fr->strays) {
        wrong = "the number of strays is wrong";
    }
    if (why) {
        *why = wrong;
    }
    return !wrong;
}

size_t hm_frames_bytes(const HmFrames *fr)
{
    return sizeof(*fr) + 2 * perm_bytes(fr) +
           (fr->split ? split_bytes(fr) : 0);
}
