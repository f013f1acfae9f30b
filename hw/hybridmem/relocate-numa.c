/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numa mover: carries out moves, in the engine's thread, while the guest
 * runs.  The kernel copies, and keeps everybody's page tables right.
 *
 * In an exchange the demotion comes first, so that dram is never more than
 * the quota.  If the promotion fails then, seats stay as they were: the
 * demoted block is away, and comes back when it is written.
 */
#include "qemu/osdep.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/seats.h"
#include "numa-internal.h"
#include "trace.h"

/* A batch ends after this time: the thread is deaf meanwhile. */
#define BATCH_US (100 * 1000)
/* At most one HYBRIDMEM_PRESSURE in this time. */
#define EVENT_NS (1000 * 1000 * 1000LL)
/* Blocks looked at in a window to find those that must be demoted. */
#define DRAIN_LOOK 65536
/* Most windows between two attempts to settle, while none moves anything. */
#define BACKOFF_MAX 64

/* Blocks that go to one tier, and what became of them. */
typedef struct Flock {
    uint32_t block[HM_NUMA_CHUNK];
    HmMoveResult result[HM_NUMA_CHUNK];
    size_t n;
    uint64_t copied;            /* pages */
    uint64_t refused;           /* pages, for want of memory */
} Flock;

static const HmMoveResult reason_of[HM_NUMA__MAX] = {
    [HM_NUMA_MOVED] = HM_MOVE_DONE,
    [HM_NUMA_ABSENT] = HM_MOVE_DONE,
    [HM_NUMA_PINNED] = HM_MOVE_PINNED,
    [HM_NUMA_NO_MEMORY] = HM_MOVE_NO_MEMORY,
    [HM_NUMA_FAILED] = HM_MOVE_FAILED,
};

static HmPlace place_in(HmTier tier)
{
    return tier == HM_TIER_DRAM ? HM_PLACE_DRAM : HM_PLACE_NVM;
}

static HmTier other(HmTier tier)
{
    return tier == HM_TIER_DRAM ? HM_TIER_NVM : HM_TIER_DRAM;
}

/* Those of @block's pages that have to move to be in @to; where they are. */
static size_t pages_to_move(Hybridmem *hm, uint32_t block, HmTier to,
                            uint64_t *page, HmPlace *place)
{
    uint64_t first = (uint64_t)block * hm->pages_per_block;
    uint64_t end = first + hm_numa_block_pages(hm, block);
    size_t n = 0;

    for (uint64_t p = first; p < end; p++) {
        HmPlace now = hm_residency_place(hm->numa->where, p);

        if ((now == HM_PLACE_DRAM) == (to == HM_TIER_NVM)) {
            page[n] = p;
            place[n++] = now;       /* if the kernel does not answer */
        }
    }
    return n;
}

/* Learns from pages [from, from + n) of the chunk what became of @block. */
static HmMoveResult digest_block(Hybridmem *hm, Flock *f, uint32_t block,
                                 HmTier to, size_t from, size_t n)
{
    HmNumaPlace *np = hm->numa;
    uint64_t count[HM_MOVE__MAX] = { }, moved = 0, left;
    HmMoveResult worst = HM_MOVE_FAILED;

    for (size_t i = from; i < from + n; i++) {
        HmPlace old = hm_residency_place(np->where, np->page[i]);

        count[reason_of[np->result[i]]]++;
        moved += np->place[i] == place_in(to) && old != place_in(to) &&
                 old != HM_PLACE_ABSENT;
        hm_numa_note(hm, np->page[i], np->place[i], true);
    }
    left = n - count[HM_MOVE_DONE];
    for (HmMoveResult r = HM_MOVE_DONE + 1; r < HM_MOVE__MAX; r++) {
        worst = count[r] > count[worst] ? r : worst;
    }
    f->copied += moved;
    f->refused += count[HM_MOVE_NO_MEMORY];
    if (moved) {
        qemu_mutex_lock(&hm->lock);
        hm_account_block(hm, block, other(to), to, moved, 2 * left <= n);
        qemu_mutex_unlock(&hm->lock);
    }
    return 2 * left > n ? worst : HM_MOVE_DONE;
}

static void move_flock(Hybridmem *hm, Flock *f, HmTier to)
{
    HmNumaPlace *np = hm->numa;
    size_t begin = 0;

    while (begin < f->n) {
        size_t end = begin, n = 0, from = 0;
        g_autofree size_t *count = g_new(size_t, f->n - begin);

        while (end < f->n && n + hm->pages_per_block <= np->chunk) {
            count[end - begin] = pages_to_move(hm, f->block[end], to,
                                               np->page + n, np->place + n);
            n += count[end - begin];
            end++;
        }
        if (n) {
            hm_numa_move(&np->numa, np->page, n, to, np->place, np->result);
        }
        for (size_t i = begin; i < end; i++) {
            f->result[i] = digest_block(hm, f, f->block[i], to, from,
                                        count[i - begin]);
            from += count[i - begin];
        }
        begin = end;
    }
}

static void tell_of_pressure(Hybridmem *hm, HmTier tier, const Flock *f)
{
    HmNumaPlace *np = hm->numa;
    int64_t now_ns = g_get_monotonic_time() * 1000;

    if (!f->refused || (np->pressure_event_ns &&
                        now_ns - np->pressure_event_ns < EVENT_NS)) {
        return;
    }
    np->pressure_event_ns = now_ns;
    qapi_event_send_hybridmem_pressure(
        hm->id, tier == HM_TIER_DRAM ? HYBRIDMEM_TIER_DRAM :
        HYBRIDMEM_TIER_NVM, f->refused * hm->page_size,
        hm_numa_free(&np->numa, tier));
}

static bool seat_is(const Hybridmem *hm, uint32_t block, HmTier tier)
{
    return block == HM_BLOCK_NONE ||
           hm_frames_tier_of(hm->frames, block) == tier;
}

/* What @move means by now; false: it makes no sense any more. */
static bool still_wanted(const Hybridmem *hm, HmCause cause, HmMove *move)
{
    switch (cause) {
    case HM_CAUSE_POLICY:
        return seat_is(hm, move->promote, HM_TIER_NVM) &&
               seat_is(hm, move->demote, HM_TIER_DRAM);
    case HM_CAUSE_SETTLE:
        return seat_is(hm, move->promote, HM_TIER_DRAM) &&
               seat_is(hm, move->demote, HM_TIER_NVM);
    default:
        if (move->promote == move->demote) {
            return false;
        }
        if (seat_is(hm, move->promote, HM_TIER_DRAM)) {
            *move = (HmMove) { move->demote, move->promote };
        }
        return true;
    }
}

static void gather(Flock *f, uint32_t block, uint32_t *index)
{
    *index = HM_BLOCK_NONE;
    if (block != HM_BLOCK_NONE) {
        *index = f->n;
        f->block[f->n++] = block;
    }
}

static HmMoveResult result_of(const Flock *f, uint32_t index)
{
    return index == HM_BLOCK_NONE ? HM_MOVE_DONE : f->result[index];
}

static void count_lone(Hybridmem *hm, const HmMove *move)
{
    qemu_mutex_lock(&hm->lock);
    hm->stats.fills += move->promote != HM_BLOCK_NONE;
    hm->stats.drains += move->demote != HM_BLOCK_NONE;
    qemu_mutex_unlock(&hm->lock);
}

typedef struct Piece {
    HmMove move[HM_NUMA_CHUNK];
    bool wanted[HM_NUMA_CHUNK];
    bool same_tier[HM_NUMA_CHUNK];
    uint32_t up[HM_NUMA_CHUNK], down[HM_NUMA_CHUNK];
    Flock demoted, promoted;
} Piece;

/* Demotes what the moves [first, first + n) of the batch want demoted. */
static void demote_piece(Hybridmem *hm, HmBatch *b, Piece *pc, size_t first,
                         size_t n)
{
    for (size_t i = 0; i < n; i++) {
        HmMove *mv = &pc->move[i];

        *mv = b->moves[first + i];
        pc->wanted[i] = still_wanted(hm, b->cause, mv);
        pc->same_tier[i] = b->cause == HM_CAUSE_COMMAND &&
            hm_frames_tier_of(hm->frames, mv->promote) ==
            hm_frames_tier_of(hm->frames, mv->demote);
        gather(&pc->demoted, pc->wanted[i] && !pc->same_tier[i] ?
               mv->demote : HM_BLOCK_NONE, &pc->down[i]);
    }
    move_flock(hm, &pc->demoted, HM_TIER_NVM);
    tell_of_pressure(hm, HM_TIER_NVM, &pc->demoted);
}

/* Promotes where the demotion has made room. */
static void promote_piece(Hybridmem *hm, Piece *pc, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool room = pc->wanted[i] && !pc->same_tier[i] &&
                    result_of(&pc->demoted, pc->down[i]) == HM_MOVE_DONE;

        gather(&pc->promoted, room ? pc->move[i].promote : HM_BLOCK_NONE,
               &pc->up[i]);
    }
    move_flock(hm, &pc->promoted, HM_TIER_DRAM);
    tell_of_pressure(hm, HM_TIER_DRAM, &pc->promoted);
}

static HmMoveResult end_move(Hybridmem *hm, HmCause cause, const Piece *pc,
                             size_t i)
{
    const HmMove *mv = &pc->move[i];
    HmMoveResult r = result_of(&pc->demoted, pc->down[i]);

    if (!pc->wanted[i]) {
        r = HM_MOVE_STALE;
    } else if (r == HM_MOVE_DONE) {
        r = result_of(&pc->promoted, pc->up[i]);
    }
    if (r == HM_MOVE_FAILED) {
        hm_account_error(hm, mv->promote != HM_BLOCK_NONE ? mv->promote :
                         mv->demote, hm->numa->numa.error,
                         hm->numa->numa.error_errno);
    }
    if (r != HM_MOVE_DONE) {
        hm_account_skip(hm, mv, r);
    } else if (cause == HM_CAUSE_SETTLE) {
        count_lone(hm, mv);
    } else {
        hm_seats_swap(hm->frames, mv->promote, mv->demote);
        if (hm_residency_block(hm->numa->where, mv->demote, HM_PLACE_DRAM)) {
            set_bit(mv->demote, hm->numa->over);        /* what was held */
        }
    }
    return r;
}

static void carry_out_piece(Hybridmem *hm, HmBatch *b, Piece *pc, size_t n)
{
    size_t first = b->taken;

    demote_piece(hm, b, pc, first, n);
    promote_piece(hm, pc, n);
    for (size_t i = 0; i < n; i++) {
        HmMoveResult r = end_move(hm, b->cause, pc, i);

        b->results[r]++;
        b->each[first + i] = r;
    }
    b->copied_bytes += (pc->demoted.copied + pc->promoted.copied) *
                       hm->page_size;
    b->taken += n;
    if (b->cause == HM_CAUSE_SETTLE) {
        hm->numa->settled += pc->demoted.copied + pc->promoted.copied;
    }
}

/*
 * Of the next @n moves those that name each block only once: a person may
 * name one again, and means it as it is then.
 */
static size_t independent_moves(const HmBatch *b, size_t n)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    size_t i;

    for (i = 0; i < n; i++) {
        const HmMove *mv = &b->moves[b->taken + i];

        if (i && (g_hash_table_contains(seen, GUINT_TO_POINTER(mv->promote)) ||
                  g_hash_table_contains(seen, GUINT_TO_POINTER(mv->demote)))) {
            break;
        }
        g_hash_table_add(seen, GUINT_TO_POINTER(mv->promote));
        g_hash_table_add(seen, GUINT_TO_POINTER(mv->demote));
    }
    return i;
}

void hm_numa_relocate(Hybridmem *hm)
{
    HmBatch *b = hm->batch;
    size_t piece = MAX(HM_NUMA_CHUNK / hm->pages_per_block, 1);
    int64_t end = g_get_monotonic_time() + BATCH_US;

    while (b->taken < b->n && (!b->taken || g_get_monotonic_time() < end)) {
        g_autofree Piece *pc = g_new0(Piece, 1);

        size_t n = MIN(piece, b->n - b->taken);

        if (b->cause == HM_CAUSE_COMMAND) {
            n = independent_moves(b, n);
        }
        carry_out_piece(hm, b, pc, n);
    }
    trace_hybridmem_batch(hm->id, b->taken, b->results[HM_MOVE_DONE], 0);
    hm_stats_batch(hm, b);
    hm_numa_publish(hm);
}

/* --- blocks that are not where their seat is ----------------------------- */

static int coldest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Visits each block with its bit set once, from *@hand all around. */
typedef struct Scan {
    const unsigned long *bits;
    uint32_t blocks;
    uint32_t *hand;
    uint32_t start;
    bool wrapped;
} Scan;

static Scan scan_from(const unsigned long *bits, uint32_t blocks,
                      uint32_t *hand)
{
    return (Scan) { bits, blocks, hand, *hand, false };
}

/* NONE at the end. */
static uint32_t scan_next(Scan *s)
{
    uint64_t b = find_next_bit(s->bits, s->wrapped ? s->start : s->blocks,
                               *s->hand);

    if (!s->wrapped && b >= s->blocks) {
        s->wrapped = true;
        b = find_next_bit(s->bits, s->start, 0);
    }
    if (s->wrapped && b >= s->start) {
        *s->hand = s->start;
        return HM_BLOCK_NONE;
    }
    *s->hand = b + 1;
    return b;
}

/* Demotions until no more than the quota is in dram; the coldest first. */
static size_t drain(Hybridmem *hm, HmMove *moves, size_t max)
{
    HmNumaPlace *np = hm->numa;
    uint64_t quota = hm_numa_quota_pages(hm);
    uint64_t used = hm_residency_pages(np->where, HM_PLACE_DRAM);
    uint64_t room = hm_numa_free(&np->numa, HM_TIER_NVM) / hm->page_size;
    g_autoptr(GArray) cold = g_array_new(false, false, sizeof(uint64_t));
    Scan scan = scan_from(np->over, hm_frames_blocks(hm->frames),
                          &np->over_hand);
    uint32_t block;
    size_t n = 0;

    if (used <= quota) {
        return 0;
    }
    while (cold->len < DRAIN_LOOK &&
           (block = scan_next(&scan)) != HM_BLOCK_NONE) {
        uint64_t item = (uint64_t)hm_heat_rank(hm->heat, block) << 32 | block;

        if (seat_is(hm, block, HM_TIER_DRAM) ||
            !hm_residency_block(np->where, block, HM_PLACE_DRAM)) {
            clear_bit(block, np->over);
        } else {
            g_array_append_val(cold, item);
        }
    }
    g_array_sort(cold, coldest_first);
    for (guint i = 0; i < cold->len && n < max && used > quota; i++) {
        uint32_t pages;

        block = (uint32_t)g_array_index(cold, uint64_t, i);
        pages = hm_residency_block(np->where, block, HM_PLACE_DRAM);
        used -= MIN(used, pages);
        moves[n++] = (HmMove) { HM_BLOCK_NONE, block };
        if (pages > room) {
            break;              /* this one tells of the pressure */
        }
        room -= pages;
    }
    return n;
}

/*
 * Promotions of blocks that were written, have a seat and are not there,
 * while there is room.
 */
static size_t fill(Hybridmem *hm, HmMove *moves, size_t max)
{
    HmNumaPlace *np = hm->numa;
    uint64_t quota = hm_numa_quota_pages(hm);
    uint64_t used = hm_residency_pages(np->where, HM_PLACE_DRAM);
    uint64_t room = hm_numa_free(&np->numa, HM_TIER_DRAM) / hm->page_size;
    Scan scan = scan_from(np->away, hm_frames_blocks(hm->frames),
                          &np->away_hand);
    uint32_t block;
    size_t n = 0;

    while (n < max && used < quota &&
           (block = scan_next(&scan)) != HM_BLOCK_NONE) {
        uint64_t pages = hm_numa_block_pages(hm, block) -
            hm_residency_block(np->where, block, HM_PLACE_DRAM);

        /* It is set again when it is written and still not there. */
        clear_bit(block, np->away);
        if (pages && seat_is(hm, block, HM_TIER_DRAM)) {
            used += pages;
            moves[n++] = (HmMove) { block, HM_BLOCK_NONE };
            if (pages > room) {
                break;          /* this one tells of the pressure */
            }
            room -= pages;
        }
    }
    return n;
}

/* Attempts that move nothing come ever more seldom. */
static bool wait_for_better_times(HmNumaPlace *np)
{
    if (np->settle_tried) {
        np->settle_backoff = np->settled ? 0 :
            MIN(MAX(2 * np->settle_backoff, 1), BACKOFF_MAX);
        np->settle_wait = np->settle_backoff;
        np->settle_tried = false;
        np->settled = 0;
    }
    if (np->settle_wait) {
        np->settle_wait--;
        return true;
    }
    return false;
}

size_t hm_numa_settle(Hybridmem *hm, HmMove *moves, size_t max)
{
    HmNumaPlace *np = hm->numa;
    size_t n;

    if (!np->passes || wait_for_better_times(np)) {
        return 0;
    }
    /* The quota is a limit, whatever the policy. */
    n = drain(hm, moves, max);
    if (n == 0 && !hm->policy->ops->passive) {
        n = fill(hm, moves, max);
    }
    np->settle_tried = n > 0;
    return n;
}
