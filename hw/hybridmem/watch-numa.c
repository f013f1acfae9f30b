/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numa mover: keeps what is known of where pages are true, and what
 * follows from it: who gets a vacant seat, where new pages go, the quota.
 *
 * The kernel is asked for pages that were seen written and are not known, and
 * for a piece of guest RAM after each window.
 */
#include "qemu/osdep.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "hw/hybridmem/seats.h"
#include "numa-internal.h"

/* Pages seen for the first time that are asked for in one window. */
#define NEW_MAX (1u << 18)
/* Longest time of one sweep: requests, and the end, wait for it. */
#define SWEEP_US (250 * 1000)
/* Dram seats looked at in a window, for a vacant one. */
#define VACANT_LOOK 65536
/* Part of the quota that new pages leave to promotions. */
#define HEADROOM 32
/* Pages looked at to find where new ones may be in dram: 64 GiB. */
#define PREFER_LOOK (1u << 24)
/* The most that the sweep may catch up, in seconds. */
#define SWEEP_BURST 2.0
/* At most one HYBRIDMEM_FOREIGN_MOVES in this time. */
#define EVENT_NS (1000 * 1000 * 1000LL)

static HmNumaPlace *place_of(const Hybridmem *hm)
{
    return hm->numa;
}

static bool has_dram_seat(const Hybridmem *hm, uint32_t block)
{
    return hm_frames_tier_of(hm->frames, block) == HM_TIER_DRAM;
}

static uint32_t in_dram(const Hybridmem *hm, uint32_t block)
{
    return hm_residency_block(hm->numa->where, block, HM_PLACE_DRAM);
}

void hm_numa_note(Hybridmem *hm, uint64_t page, HmPlace place, bool by_us)
{
    HmNumaPlace *np = place_of(hm);
    HmPlace old = hm_residency_set(np->where, page, place);
    uint32_t block = page / hm->pages_per_block;

    if (old == place) {
        return;
    }
    if (!by_us && old != HM_PLACE_ABSENT && place != HM_PLACE_ABSENT) {
        np->foreign++;
        np->foreign_ever++;
    }
    if (place == HM_PLACE_DRAM && !has_dram_seat(hm, block)) {
        set_bit(block, np->over);
    }
}

/* Asks for the first @n pages of np->page.  False if there is no answer. */
static bool look(Hybridmem *hm, size_t n)
{
    HmNumaPlace *np = place_of(hm);
    int ret = n ? hm_numa_look(&np->numa, np->page, n, np->place) : 0;

    if (ret < 0) {
        hm_account_error(hm, np->page[0] / hm->pages_per_block,
                         "cannot ask the kernel where pages are", -ret);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        hm_numa_note(hm, np->page[i], np->place[i], false);
    }
    return true;
}

/* Pages that were written: where are they, and is that right? */
static void look_at_written(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);
    uint64_t page = find_first_bit(hm->dirty, hm->pages);
    size_t n = 0, asked = 0;

    for (; page < hm->pages;
         page = find_next_bit(hm->dirty, hm->pages, page + 1)) {
        uint32_t block = page / hm->pages_per_block;

        switch (hm_residency_place(np->where, page)) {
        case HM_PLACE_DRAM:
            break;
        case HM_PLACE_ABSENT:
            if (asked == NEW_MAX) {
                break;
            }
            np->page[n++] = page;
            asked++;
            break;
        default:
            if (has_dram_seat(hm, block)) {
                set_bit(block, np->away);
            }
        }
        if (n == np->chunk) {
            look(hm, n);
            n = 0;
        }
    }
    look(hm, n);
}

/* Of @n pages from @page on that were looked at, do some seem to be absent? */
static bool uncover(Hybridmem *hm, uint64_t page, uint64_t n)
{
    HmNumaPlace *np = place_of(hm);

    for (uint64_t i = 0; i < n; i++) {
        if (np->place[i] == HM_PLACE_ABSENT) {
            return hm_numa_uncover(&np->numa, page, n);
        }
    }
    return false;
}

static bool look_at_range(Hybridmem *hm, uint64_t page, uint64_t n,
                          bool thorough)
{
    HmNumaPlace *np = place_of(hm);

    for (uint64_t i = 0; i < n; i++) {
        np->page[i] = page + i;
    }
    return look(hm, n) &&
           !(thorough && uncover(hm, page, n) && !look(hm, n));
}

static void sweep(Hybridmem *hm, uint64_t n)
{
    HmNumaPlace *np = place_of(hm);
    int64_t end = g_get_monotonic_time() + SWEEP_US;
    uint64_t passes = 0;

    while (n && g_get_monotonic_time() < end) {
        uint64_t k = MIN(MIN(n, np->chunk), hm->pages - np->next);

        if (!look_at_range(hm, np->next, k, !np->passes)) {
            break;
        }
        np->next += k;
        n -= k;
        if (np->next == hm->pages) {
            np->next = 0;
            passes++;
        }
    }
    qemu_mutex_lock(&hm->lock);
    np->passes += passes;
    qemu_mutex_unlock(&hm->lock);
}

/*
 * The first pass goes as fast as may be, so that the quota can be kept; with
 * some 400 ns a page it is over in the first window up to 2 GiB.
 */
static void sweep_some(Hybridmem *hm, uint64_t elapsed_ms)
{
    HmNumaPlace *np = place_of(hm);
    double rate;
    uint64_t n;

    qemu_mutex_lock(&hm->lock);
    rate = hm->params.reconcile_rate / (double)hm->page_size;
    qemu_mutex_unlock(&hm->lock);
    if (np->passes == 0) {
        sweep(hm, hm->pages - np->next);
        return;
    }
    np->sweep_tokens = MIN(np->sweep_tokens + rate * elapsed_ms / 1000,
                           rate * SWEEP_BURST);
    n = MIN(np->sweep_tokens, hm->pages);
    np->sweep_tokens -= n;
    sweep(hm, n);
}

/* A block with a dram seat and nothing in dram; or NONE. */
static uint32_t find_vacant(Hybridmem *hm, uint32_t *looks)
{
    HmNumaPlace *np = place_of(hm);
    uint32_t seats = hm_frames_tier_blocks(hm->frames, HM_TIER_DRAM);

    while (*looks && seats) {
        uint32_t seat = hm_frames_tier_frame(hm->frames, HM_TIER_DRAM,
                                             np->hand % seats);
        uint32_t block = hm_frames_block_in(hm->frames, seat);

        np->hand = (np->hand + 1) % seats;
        (*looks)--;
        if (in_dram(hm, block) == 0) {
            return block;
        }
    }
    return HM_BLOCK_NONE;
}

/* Blocks that are in dram without a seat get those that are vacant. */
static void seat_the_over(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);
    uint32_t blocks = hm_frames_blocks(hm->frames);
    uint32_t seats = hm_frames_tier_blocks(hm->frames, HM_TIER_DRAM);
    uint32_t looks = MIN(seats, VACANT_LOOK);
    uint64_t b = find_first_bit(np->over, blocks);

    for (; b < blocks; b = find_next_bit(np->over, blocks, b + 1)) {
        HmMove move = { .promote = b };

        if (has_dram_seat(hm, b) || !in_dram(hm, b)) {
            clear_bit(b, np->over);
            continue;
        }
        move.demote = find_vacant(hm, &looks);
        if (move.demote == HM_BLOCK_NONE) {
            return;
        }
        hm_seats_swap(hm->frames, move.promote, move.demote);
        clear_bit(b, np->over);
        /* Not planned by the policy, but it may keep lists of dram. */
        hm_policy_moved(hm->policy, &move, HM_MOVE_STALE);
    }
}

/* New pages below @end shall be in dram, all others in nvm. */
static void prefer_dram_below(HmNumaPlace *np, uint64_t end)
{
    int ret = 0;

    if (end > np->fast_end) {
        ret = hm_numa_prefer(&np->numa, np->fast_end, end - np->fast_end,
                             HM_TIER_DRAM);
    } else if (end < np->fast_end) {
        ret = hm_numa_prefer(&np->numa, end, np->fast_end - end, HM_TIER_NVM);
    }
    if (ret == 0) {
        np->fast_end = end;
    }
}

/*
 * Counts absent pages from the start of RAM, in whole blocks, until page
 * @end, or until there would be more than @max.  Returns where it stopped.
 */
static uint64_t count_absent(Hybridmem *hm, uint64_t end, uint64_t max,
                             uint64_t *absent)
{
    uint64_t page = 0;

    *absent = 0;
    while (page < MIN(end, PREFER_LOOK)) {
        uint32_t block = page / hm->pages_per_block;
        uint32_t n = hm_residency_block(hm->numa->where, block,
                                        HM_PLACE_ABSENT);

        if (*absent + n > max) {
            break;
        }
        *absent += n;
        page = MIN(page + hm->pages_per_block, hm->pages);
    }
    return page;
}

/*
 * New pages go to dram while there is room.  So that the quota holds even
 * for those that nobody has seen yet, no more absent pages may become dram's
 * than there is room for; they are taken from the start of RAM.
 */
static void choose_preferred(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);
    uint64_t quota = hm_numa_quota_pages(hm);
    uint64_t used = hm_residency_pages(np->where, HM_PLACE_DRAM);
    uint64_t headroom = MAX(quota / HEADROOM, hm->pages_per_block);
    uint64_t room = quota - MIN(quota, used + headroom), absent;

    if (!np->passes) {
        return;
    }
    room = MIN(room, hm_numa_free(&np->numa, HM_TIER_DRAM) / hm->page_size);
    count_absent(hm, np->fast_end, UINT64_MAX, &absent);
    if (absent > room || room - absent > headroom) {
        prefer_dram_below(np, room ? count_absent(hm, hm->pages, room,
                                                  &absent) : 0);
    }
}

/* Nobody looks after the quota: nothing new may go to dram. */
void hm_numa_rest(Hybridmem *hm)
{
    prefer_dram_below(place_of(hm), 0);
}

void hm_numa_publish(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);

    qemu_mutex_lock(&hm->lock);
    for (int i = 0; i < HM_PLACE__MAX; i++) {
        np->shown[i] = hm_residency_pages(np->where, i);
    }
    hm->stats.foreign_pages = np->foreign_ever;
    hm->resident[HM_TIER_DRAM] = np->shown[HM_PLACE_DRAM] * hm->page_size;
    hm->resident[HM_TIER_NVM] = np->shown[HM_PLACE_NVM] * hm->page_size;
    qemu_mutex_unlock(&hm->lock);
}

static void tell_of_foreign(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);
    int64_t now_ns = g_get_monotonic_time() * 1000;

    if (!np->foreign || (np->foreign_event_ns &&
                         now_ns - np->foreign_event_ns < EVENT_NS)) {
        return;
    }
    qapi_event_send_hybridmem_foreign_moves(hm->id, np->foreign);
    np->foreign = 0;
    np->foreign_event_ns = now_ns;
}

static void end_quota_change(Hybridmem *hm, bool complete)
{
    HmNumaPlace *np = place_of(hm);

    np->quota_pending = false;
    np->recheck_end = complete ? 0 : np->recheck_end;
    qapi_event_send_hybridmem_quota_change(
        hm->id, np->quota_asked,
        hm_residency_pages(np->where, HM_PLACE_DRAM) * hm->page_size,
        complete);
}

/* No more than the quota is in dram, as far as is known. */
static bool quota_holds(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);

    return np->passes && hm_residency_pages(np->where, HM_PLACE_DRAM) <=
                         hm_numa_quota_pages(hm);
}

/* False if there is more to look at. */
static bool recheck_new_pages(Hybridmem *hm)
{
    HmNumaPlace *np = place_of(hm);
    int64_t end = g_get_monotonic_time() + SWEEP_US;

    while (np->recheck < np->recheck_end) {
        uint64_t k = MIN(np->chunk, np->recheck_end - np->recheck);

        if (g_get_monotonic_time() >= end ||
            !look_at_range(hm, np->recheck, k, true)) {
            return false;
        }
        np->recheck += k;
    }
    return true;
}

void hm_numa_window(Hybridmem *hm, uint64_t elapsed_ms)
{
    HmNumaPlace *np = place_of(hm);

    bool known = true;

    look_at_written(hm);
    sweep_some(hm, elapsed_ms);
    if (np->quota_pending && quota_holds(hm)) {
        known = recheck_new_pages(hm);
    }
    seat_the_over(hm);
    choose_preferred(hm);
    hm_numa_publish(hm);
    tell_of_foreign(hm);
    if (np->quota_pending && known && quota_holds(hm)) {
        end_quota_change(hm, true);
    }
}

/* --- quota --------------------------------------------------------------- */

static int hottest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x > y ? -1 : x < y;
}

/* Of the blocks that are in dram now, the hottest @n. */
static unsigned long *choose_owners(Hybridmem *hm, uint32_t n)
{
    uint32_t blocks = hm_frames_blocks(hm->frames);
    unsigned long *owners = bitmap_new(blocks);
    g_autoptr(GArray) ranked = g_array_new(false, false, sizeof(uint64_t));

    for (uint32_t b = 0; b < blocks; b++) {
        uint64_t item = (uint64_t)hm_heat_rank(hm->heat, b) << 32 | b;

        if (in_dram(hm, b)) {
            g_array_append_val(ranked, item);
        }
    }
    g_array_sort(ranked, hottest_first);
    for (uint32_t i = 0; i < MIN(n, ranked->len); i++) {
        set_bit((uint32_t)g_array_index(ranked, uint64_t, i), owners);
    }
    return owners;
}

static void find_the_over(Hybridmem *hm)
{
    uint32_t blocks = hm_frames_blocks(hm->frames);

    for (uint32_t b = 0; b < blocks; b++) {
        if (in_dram(hm, b) && !has_dram_seat(hm, b)) {
            set_bit(b, hm->numa->over);
        }
    }
}

void hm_numa_set_quota(Hybridmem *hm, uint64_t fast_size)
{
    HmNumaPlace *np = place_of(hm);
    uint32_t blocks = hm_frames_blocks(hm->frames);
    uint32_t dram = fast_size / hm->block_size;
    g_autofree unsigned long *owners = choose_owners(hm, dram);

    if (np->quota_pending) {
        end_quota_change(hm, false);
    }
    hm_frames_free(hm->frames);
    hm->frames = hm_seats_new(blocks, dram, owners);
    np->hand = 0;
    find_the_over(hm);
    np->quota_asked = fast_size;
    np->quota_pending = true;
    np->recheck = 0;
    np->recheck_end = MAX(np->recheck_end, np->fast_end);
    choose_preferred(hm);
    qemu_mutex_lock(&hm->lock);
    hm->tier_size[HM_TIER_DRAM] = fast_size;
    hm->tier_size[HM_TIER_NVM] = hm->pages * hm->page_size - fast_size;
    qemu_mutex_unlock(&hm->lock);
}
