/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numa mover against a kernel that is made up here: real mover, seats,
 * residency and statistics; at the end with the engine's thread, too.  Built
 * a second time with -fsanitize=thread.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-hybridmem.h"
#include "qemu/bitmap.h"
#include "qemu/main-loop.h"
#include "hw/hybridmem/seats.h"
#include "../../hw/hybridmem/numa-internal.h"

#define PAGE 4096u
#define FAST 0
#define SLOW 1
#define THIRD 2
#define NODES 3
#define ABSENT (-1)

/* --- nobody asks for accesses here ------------------------------------- */

const HmAccess *hm_accesses_rates(const HmAccesses *as)
{
    return NULL;
}

uint64_t hm_accesses_bytes(const HmAccesses *as)
{
    return 0;
}

bool hm_accesses_wanted(const Hybridmem *hm)
{
    return false;
}

void hm_accesses_release(HmAccesses *as)
{
}

bool hm_accesses_by_log(const HmAccesses *as)
{
    return false;
}

void hm_accesses_begin(Hybridmem *hm, const HybridmemParameters *p,
                       HmWindow *w)
{
    g_assert_not_reached();
}

void hm_accesses_end(Hybridmem *hm, HmWindow *w, int64_t now_ns)
{
    g_assert_not_reached();
}

void hm_accesses_digest(Hybridmem *hm, const HmWindow *w)
{
    g_assert_not_reached();
}

void hm_accesses_filter(Hybridmem *hm, unsigned long *dirty)
{
}

unsigned long *hm_accesses_used(const Hybridmem *hm)
{
    return NULL;
}

HmBalanceLimit hm_latencies_limit(const HmLatencies *l)
{
    return (HmBalanceLimit) { };
}

bool hm_latencies_window(Hybridmem *hm, const HybridmemParameters *p)
{
    return false;
}

HybridmemBalance *hm_latencies_info(Hybridmem *hm, uint64_t ns[HM_TIER__MAX])
{
    memset(ns, 0, sizeof(*ns) * HM_TIER__MAX);
    return NULL;
}

HybridmemAccesses *hm_accesses_info(Hybridmem *hm)
{
    return g_new0(HybridmemAccesses, 1);
}

/* --- a kernel ------------------------------------------------------------ */

typedef struct Kernel {
    uint64_t pages;
    int8_t *node;               /* of each page */
    bool *pinned;
    uint64_t room[NODES];       /* pages that it may hold */
    uint64_t used[NODES];
    uint64_t most_fast;         /* pages that were on FAST at once */
    unsigned moves;             /* calls that move */
    int8_t *want;               /* node of each page, when it is new */
} Kernel;

static Kernel kernel;
static QemuMutex kernel_lock;

static void put(uint64_t page, int node)
{
    if (kernel.node[page] != ABSENT) {
        kernel.used[kernel.node[page]]--;
    }
    kernel.node[page] = node;
    if (node != ABSENT) {
        kernel.used[node]++;
    }
    kernel.most_fast = MAX(kernel.most_fast, kernel.used[FAST]);
}

static void put_range(uint64_t page, uint64_t n, int node)
{
    while (n--) {
        put(page++, node);
    }
}

static long fake_move_pages(unsigned long count, void **pages,
                            const int *nodes, int *status, int flags)
{
    long left = 0;

    qemu_mutex_lock(&kernel_lock);
    kernel.moves += nodes != NULL;
    for (unsigned long i = 0; i < count; i++) {
        uint64_t page = (uintptr_t)pages[i] / PAGE - 1;

        g_assert_cmpuint(page, <, kernel.pages);
        if (kernel.node[page] == ABSENT) {
            status[i] = -ENOENT;
            continue;
        }
        if (nodes && nodes[i] != kernel.node[page]) {
            if (kernel.pinned[page] ||
                kernel.used[nodes[i]] >= kernel.room[nodes[i]]) {
                left++;
            } else {
                put(page, nodes[i]);
            }
        }
        status[i] = kernel.node[page];
    }
    qemu_mutex_unlock(&kernel_lock);
    return left;
}

static int fake_mbind(void *addr, size_t len, int mode, const HmNodes *nodes,
                      unsigned flags)
{
    uint64_t page = (uintptr_t)addr / PAGE - 1;

    g_assert_cmpuint(page + len / PAGE, <=, kernel.pages);
    memset(kernel.want + page, find_first_bit(nodes->bits, NODES),
           len / PAGE);
    return 0;
}

static int64_t fake_free(int node, size_t page_size)
{
    int64_t pages;

    if (node >= NODES) {
        return -ENOENT;
    }
    qemu_mutex_lock(&kernel_lock);
    pages = kernel.room[node] - kernel.used[node];
    qemu_mutex_unlock(&kernel_lock);
    return pages * PAGE;
}

static int64_t fake_size(int node)
{
    return node < NODES ? (int64_t)kernel.room[node] * PAGE : -ENOENT;
}

static void fake_allowed(HmNodes *nodes)
{
    bitmap_set(nodes->bits, 0, NODES);
}

static const HmNumaOps fake_ops = {
    .move_pages = fake_move_pages,
    .mbind = fake_mbind,
    .node_free = fake_free,
    .node_size = fake_size,
    .allowed = fake_allowed,
};

/* --- what the mover sees of QEMU ----------------------------------------- */

static struct {
    unsigned quota, pressure, foreign, error;
    uint64_t quota_size, foreign_pages;
    bool quota_complete;
    HybridmemTier tier;
} events;

void qapi_event_send_hybridmem_quota_change(const char *id,
                                            uint64_t fast_size,
                                            uint64_t resident, bool complete)
{
    events.quota++;
    events.quota_size = fast_size;
    events.quota_complete = complete;
}

void qapi_event_send_hybridmem_pressure(const char *id, HybridmemTier tier,
                                        uint64_t wanted, uint64_t free)
{
    events.pressure++;
    events.tier = tier;
}

void qapi_event_send_hybridmem_foreign_moves(const char *id, uint64_t pages)
{
    events.foreign++;
    events.foreign_pages += pages;
}

void qapi_event_send_hybridmem_relocation_error(const char *id,
                                                uint64_t offset,
                                                uint64_t size,
                                                const char *message)
{
    events.error++;
}

uint32_t hm_engine_inhibitors(Hybridmem *hm)
{
    return 0;
}

HybridmemInhibitorList *hm_engine_inhibitor_list(uint32_t bits)
{
    return NULL;
}

void qapi_event_send_hybridmem_state_change(const char *id,
                                            HybridmemState state,
                                            HybridmemInhibitorList *list)
{
}

HmPolicyParams hm_params_for_policy(const HybridmemParameters *p,
                                    uint64_t map_limit)
{
    HmPolicyParams pp;

    hm_policy_params_init(&pp);
    return pp;
}

static HmTier tier_of_page(const Hybridmem *hm, uint64_t page)
{
    return hm_residency_place(hm->numa->where, page) == HM_PLACE_DRAM ?
           HM_TIER_DRAM : HM_TIER_NVM;
}

static const HmMoverOps mover_ops = {
    .kind = HYBRIDMEM_MOVER_NUMA,
    .carry_out = hm_numa_relocate,
    .window = hm_numa_window,
    .rest = hm_numa_rest,
    .settle = hm_numa_settle,
    .set_quota = hm_numa_set_quota,
    .tier_of_page = tier_of_page,
};

/* --- set up -------------------------------------------------------------- */

typedef struct Fixture {
    Hybridmem hm;
    HmNumaPlace np;
    HmMoveResult each[65536];
} Fixture;

static Fixture *set_up(uint64_t pages, uint32_t per_block, uint32_t quota)
{
    Fixture *f = g_new0(Fixture, 1);
    Hybridmem *hm = &f->hm;
    HmNumaPlace *np = &f->np;
    uint32_t blocks = DIV_ROUND_UP(pages, per_block);
    HmPolicyParams pp;

    memset(&events, 0, sizeof(events));
    kernel = (Kernel) {
        .pages = pages,
        .node = g_new(int8_t, pages),
        .pinned = g_new0(bool, pages),
        /* Far more than any reserve. */
        .room = { 1 << 20, 1 << 20, 1 << 20 },
        .want = g_new(int8_t, pages),
    };
    memset(kernel.node, ABSENT, pages);
    memset(kernel.want, SLOW, pages);
    hm->id = (char *)"hm0";
    hm->mover = &mover_ops;
    hm->numa = np;
    hm->page_size = PAGE;
    hm->pages = pages;
    hm->pages_per_block = per_block;
    hm->block_size = (uint64_t)per_block * PAGE;
    hm->params.reconcile_rate = pages * PAGE;   /* all, each second */
    hm->frames = hm_seats_new(blocks, quota, NULL);
    hm->heat = hm_heat_new(pages, per_block, 5000);
    hm_policy_params_init(&pp);
    hm->policy = hm_policy_new(hm_policy_find("write-heat"), hm->frames,
                               hm->heat, NULL, &pp);
    hm->dirty = bitmap_new(pages);
    hm->just_moved = g_array_new(false, false, sizeof(uint32_t));
    hm->demoted = g_hash_table_new(NULL, NULL);
    qemu_mutex_init(&hm->lock);
    np->numa = (HmNuma) {
        .ops = &fake_ops,
        .host = (uint8_t *)(uintptr_t)PAGE,     /* never accessed */
        .pages = pages,
        .page_size = PAGE,
        .host_page_size = PAGE,
        .huge_size = PAGE,
    };
    set_bit(FAST, np->numa.nodes[HM_TIER_DRAM].bits);
    set_bit(SLOW, np->numa.nodes[HM_TIER_NVM].bits);
    g_assert_null(hm_numa_init(&np->numa));
    np->where = hm_residency_new(pages, per_block);
    np->over = bitmap_new(blocks);
    np->away = bitmap_new(blocks);
    np->chunk = MAX(HM_NUMA_CHUNK, per_block);
    np->page = g_new(uint64_t, np->chunk);
    np->place = g_new(HmPlace, np->chunk);
    np->result = g_new(HmNumaResult, np->chunk);
    return f;
}

static void check_truth(Fixture *f)
{
    const char *why = NULL;

    g_assert_true(hm_frames_verify(f->hm.frames, &why));
    for (uint64_t p = 0; p < kernel.pages; p++) {
        static const HmPlace place[NODES] = {
            [FAST] = HM_PLACE_DRAM,
            [SLOW] = HM_PLACE_NVM,
            [THIRD] = HM_PLACE_ELSEWHERE,
        };
        HmPlace want = kernel.node[p] == ABSENT ? HM_PLACE_ABSENT :
                       place[kernel.node[p]];

        g_assert_cmpint(hm_residency_place(f->np.where, p), ==, want);
    }
}

static void tear_down(Fixture *f)
{
    Hybridmem *hm = &f->hm;
    HmNumaPlace *np = &f->np;

    hm_numa_destroy(&np->numa);
    hm_residency_free(np->where);
    g_free(np->over);
    g_free(np->away);
    g_free(np->page);
    g_free(np->place);
    g_free(np->result);
    hm_policy_free(hm->policy);
    hm_heat_free(hm->heat);
    hm_frames_free(hm->frames);
    g_free(hm->dirty);
    g_array_free(hm->just_moved, true);
    g_hash_table_destroy(hm->demoted);
    g_free(hm->last_error);
    qemu_mutex_destroy(&hm->lock);
    g_free(kernel.node);
    g_free(kernel.pinned);
    g_free(kernel.want);
    g_free(f);
}

/* A window in which the pages [page, page + n) are written. */
static void window(Fixture *f, uint64_t page, uint64_t n)
{
    bitmap_zero(f->hm.dirty, f->hm.pages);
    bitmap_set(f->hm.dirty, page, n);
    hm_numa_window(&f->hm, 1000);
    hm_heat_window(f->hm.heat, f->hm.dirty, 1000);
}

static void carry_out(Fixture *f, const HmMove *moves, size_t n,
                      HmCause cause)
{
    while (n) {
        HmBatch b = { .moves = moves, .n = n, .cause = cause,
                      .each = f->each };

        f->hm.batch = &b;
        hm_numa_relocate(&f->hm);
        g_assert_cmpuint(b.taken, >, 0);
        moves += b.taken;
        n -= b.taken;
    }
}

static HmMoveResult exchange(Fixture *f, uint32_t promote, uint32_t demote,
                             HmCause cause)
{
    HmMove move = { promote, demote };

    carry_out(f, &move, 1, cause);
    return f->each[0];
}

static size_t settle(Fixture *f)
{
    static HmMove moves[65536];
    size_t n = hm_numa_settle(&f->hm, moves, G_N_ELEMENTS(moves));

    carry_out(f, moves, n, HM_CAUSE_SETTLE);
    return n;
}

static HmTier seat(Fixture *f, uint32_t block)
{
    return hm_frames_tier_of(f->hm.frames, block);
}

/* --- tests --------------------------------------------------------------- */

static void test_seats(void)
{
    static const struct {
        uint32_t blocks, dram;
        uint64_t first;         /* bit set */
        uint64_t in_dram;       /* expected */
    } table[] = {
        { 8, 3, 0x00, 0x07 },
        { 8, 3, 0x07, 0x07 },
        { 8, 3, 0xe0, 0xe0 },
        { 8, 3, 0xc1, 0xc1 },
        { 8, 3, 0x40, 0x46 },   /* takes the first seat */
        { 8, 3, 0xff, 0x07 },   /* not all can */
        { 8, 0, 0xff, 0x00 },
        { 8, 8, 0x11, 0xff },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        unsigned long first[1] = { table[i].first };
        HmFrames *fr = hm_seats_new(table[i].blocks, table[i].dram, first);
        uint64_t in_dram = 0;
        const char *why = NULL;

        for (uint32_t b = 0; b < table[i].blocks; b++) {
            in_dram |= (uint64_t)(hm_frames_tier_of(fr, b) ==
                                  HM_TIER_DRAM) << b;
        }
        g_assert_cmphex(in_dram, ==, table[i].in_dram);
        g_assert_true(hm_frames_verify(fr, &why));
        hm_frames_free(fr);
    }
}

static void test_exchange(void)
{
    Fixture *f = set_up(64, 4, 4);

    put_range(0, 16, FAST);
    put_range(16, 48, SLOW);
    window(f, 0, 0);
    g_assert_cmpint(exchange(f, 10, 2, HM_CAUSE_POLICY), ==, HM_MOVE_DONE);
    g_assert_cmpint(seat(f, 10), ==, HM_TIER_DRAM);
    g_assert_cmpint(seat(f, 2), ==, HM_TIER_NVM);
    g_assert_cmpint(kernel.node[40], ==, FAST);
    g_assert_cmpint(kernel.node[11], ==, SLOW);
    g_assert_cmpuint(kernel.most_fast, ==, 16);
    g_assert_cmpuint(f->hm.stats.done, ==, 1);
    g_assert_cmpuint(f->hm.stats.promoted_bytes, ==, 4 * PAGE);
    g_assert_cmpuint(f->hm.stats.demoted_bytes, ==, 4 * PAGE);
    g_assert_cmpuint(f->hm.stats.nvm_written_bytes, ==, 4 * PAGE);
    g_assert_cmpuint(f->hm.stats.batches, ==, 0);
    /* It has moved since the plan was made. */
    g_assert_cmpint(exchange(f, 10, 2, HM_CAUSE_POLICY), ==, HM_MOVE_STALE);
    /* A person may say it either way round, and within a tier. */
    g_assert_cmpint(exchange(f, 10, 2, HM_CAUSE_COMMAND), ==, HM_MOVE_DONE);
    g_assert_cmpint(kernel.node[40], ==, SLOW);
    g_assert_cmpint(exchange(f, 10, 11, HM_CAUSE_COMMAND), ==, HM_MOVE_DONE);
    g_assert_cmpint(exchange(f, 7, 7, HM_CAUSE_COMMAND), ==, HM_MOVE_STALE);
    check_truth(f);
    tear_down(f);
}

static void test_pinned(void)
{
    Fixture *f = set_up(64, 1, 16);

    put_range(0, 16, FAST);
    put_range(16, 48, SLOW);
    window(f, 0, 0);
    kernel.pinned[3] = kernel.pinned[20] = true;
    /* Who cannot go makes no room. */
    g_assert_cmpint(exchange(f, 30, 3, HM_CAUSE_POLICY), ==, HM_MOVE_PINNED);
    g_assert_cmpint(kernel.node[30], ==, SLOW);
    /* Who cannot come leaves a seat empty. */
    g_assert_cmpint(exchange(f, 20, 4, HM_CAUSE_POLICY), ==, HM_MOVE_PINNED);
    g_assert_cmpint(seat(f, 4), ==, HM_TIER_DRAM);
    g_assert_cmpint(kernel.node[4], ==, SLOW);
    g_assert_cmpuint(f->hm.stats.skipped[HM_MOVE_PINNED], ==, 2);
    g_assert_cmpuint(settle(f), ==, 0);
    /* It comes back when it is written. */
    window(f, 4, 1);
    g_assert_cmpuint(settle(f), ==, 1);
    g_assert_cmpint(kernel.node[4], ==, FAST);
    g_assert_cmpuint(f->hm.stats.fills, ==, 1);
    check_truth(f);
    tear_down(f);
}

static void test_most_of_a_block(void)
{
    Fixture *f = set_up(128, 32, 1);

    put_range(0, 32, FAST);
    put_range(32, 96, SLOW);
    window(f, 0, 0);
    memset(kernel.pinned + 32, true, 16);
    g_assert_cmpint(exchange(f, 1, 0, HM_CAUSE_POLICY), ==, HM_MOVE_DONE);
    g_assert_cmpint(seat(f, 1), ==, HM_TIER_DRAM);
    g_assert_cmpuint(f->hm.stats.promoted_bytes, ==, 16 * PAGE);
    memset(kernel.pinned + 64, true, 17);
    g_assert_cmpint(exchange(f, 2, 1, HM_CAUSE_POLICY), ==, HM_MOVE_PINNED);
    g_assert_cmpint(seat(f, 2), ==, HM_TIER_NVM);
    check_truth(f);
    tear_down(f);
}

/* What was held in dram goes when it can. */
static void test_left_behind(void)
{
    Fixture *f = set_up(128, 32, 1);

    put_range(0, 32, FAST);
    put_range(32, 96, SLOW);
    window(f, 0, 0);
    memset(kernel.pinned, true, 16);
    g_assert_cmpint(exchange(f, 1, 0, HM_CAUSE_POLICY), ==, HM_MOVE_DONE);
    g_assert_cmpuint(kernel.used[FAST], ==, 48);
    memset(kernel.pinned, false, 16);
    window(f, 0, 0);
    g_assert_cmpuint(settle(f), ==, 1);
    g_assert_cmpuint(kernel.used[FAST], ==, 32);
    check_truth(f);
    tear_down(f);
}

/* A person may name a block twice, and means it as it is by then. */
static void test_command_in_order(void)
{
    static const HmMove chain[] = { { 10, 0 }, { 0, 20 }, { 10, 1 } };
    Fixture *f = set_up(64, 1, 2);

    put_range(0, 2, FAST);
    put_range(2, 62, SLOW);
    window(f, 0, 0);
    carry_out(f, chain, G_N_ELEMENTS(chain), HM_CAUSE_COMMAND);
    /* 10 for 0; 0 and 20 stay in nvm; 10 and 1 stay in dram. */
    g_assert_cmpuint(f->hm.stats.done, ==, 3);
    g_assert_cmpint(kernel.node[10], ==, FAST);
    g_assert_cmpint(kernel.node[1], ==, FAST);
    g_assert_cmpuint(kernel.used[FAST], ==, 2);
    check_truth(f);
    tear_down(f);
}

/* Nothing can move: it is tried ever more seldom, and then again. */
static void test_backoff(void)
{
    Fixture *f = set_up(64, 1, 16);
    unsigned tries = 0;

    put_range(0, 64, FAST);
    memset(kernel.pinned, true, 64);
    for (unsigned i = 0; i < 300; i++) {
        window(f, 0, 0);
        tries += settle(f) > 0;
    }
    g_assert_cmpuint(tries, >=, 8);
    g_assert_cmpuint(tries, <=, 12);
    memset(kernel.pinned, false, 64);
    for (unsigned i = 0; i < 65; i++) {
        window(f, 0, 0);
        settle(f);
    }
    g_assert_cmpuint(kernel.used[FAST], ==, 16);
    tear_down(f);
}

static void test_last_block_is_short(void)
{
    Fixture *f = set_up(100, 32, 1);

    put_range(0, 32, FAST);
    put_range(32, 68, SLOW);
    window(f, 0, 0);
    g_assert_cmpint(exchange(f, 3, 0, HM_CAUSE_POLICY), ==, HM_MOVE_DONE);
    g_assert_cmpuint(f->hm.stats.promoted_bytes, ==, 4 * PAGE);
    check_truth(f);
    tear_down(f);
}

static void test_no_memory(void)
{
    Fixture *f = set_up(64, 1, 16);

    put_range(0, 4, FAST);
    put_range(16, 48, SLOW);
    window(f, 0, 0);
    kernel.room[FAST] = 4;
    g_assert_cmpint(exchange(f, 20, 8, HM_CAUSE_POLICY), ==,
                    HM_MOVE_NO_MEMORY);
    g_assert_cmpint(exchange(f, 21, 9, HM_CAUSE_POLICY), ==,
                    HM_MOVE_NO_MEMORY);
    g_assert_cmpuint(events.pressure, ==, 1);
    g_assert_cmpint(events.tier, ==, HYBRIDMEM_TIER_DRAM);
    g_assert_cmpuint(f->hm.stats.skipped[HM_MOVE_NO_MEMORY], ==, 2);
    check_truth(f);
    tear_down(f);
}

/* More is in dram than the quota: the coldest go. */
static void test_drain(void)
{
    Fixture *f = set_up(256, 1, 32);

    put_range(0, 256, FAST);
    window(f, 40, 10);
    g_assert_cmpuint(f->hm.resident[HM_TIER_DRAM], ==, 256 * PAGE);
    g_assert_cmpuint(settle(f), ==, 224);
    g_assert_cmpuint(kernel.used[FAST], ==, 32);
    g_assert_cmpuint(f->hm.resident[HM_TIER_DRAM], ==, 32 * PAGE);
    g_assert_cmpuint(f->hm.stats.drains, ==, 224);
    g_assert_cmpuint(f->hm.stats.done, ==, 0);
    g_assert_cmpuint(settle(f), ==, 0);
    check_truth(f);

    /* The seats of those that are not there are free for who is. */
    put_range(100, 20, FAST);
    put_range(0, 20, ABSENT);
    window(f, 100, 20);
    window(f, 100, 20);
    g_assert_cmpuint(settle(f), ==, 0);
    for (uint32_t b = 100; b < 120; b++) {
        g_assert_cmpint(seat(f, b), ==, HM_TIER_DRAM);
    }
    check_truth(f);
    tear_down(f);
}

static void test_drain_coldest(void)
{
    Fixture *f = set_up(64, 1, 16);
    HmMove moves[8];

    put_range(16, 16, FAST);
    window(f, 0, 0);
    put_range(0, 16, FAST);     /* there is no seat left for them */
    window(f, 4, 8);
    g_assert_cmpuint(hm_numa_settle(&f->hm, moves, 8), ==, 8);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_cmpuint(moves[i].promote, ==, HM_BLOCK_NONE);
        g_assert_true(moves[i].demote < 4 ||
                      (moves[i].demote >= 12 && moves[i].demote < 16));
    }
    tear_down(f);
}

static void test_fill_only_what_fits(void)
{
    Fixture *f = set_up(64, 4, 1);

    put(0, FAST);
    put_range(1, 3, SLOW);
    put_range(20, 3, FAST);
    window(f, 0, 4);
    window(f, 0, 4);
    g_assert_cmpuint(settle(f), ==, 0);
    put_range(20, 3, SLOW);
    window(f, 0, 4);
    g_assert_cmpuint(settle(f), ==, 1);
    g_assert_cmpuint(kernel.used[FAST], ==, 4);
    check_truth(f);
    tear_down(f);
}

static void test_passive(void)
{
    Fixture *f = set_up(64, 1, 16);
    HmPolicyParams pp;

    hm_policy_params_init(&pp);
    hm_policy_free(f->hm.policy);
    f->hm.policy = hm_policy_new(hm_policy_find("none"), f->hm.frames,
                                 f->hm.heat, NULL, &pp);
    put_range(0, 8, SLOW);
    put_range(16, 8, FAST);
    window(f, 0, 64);
    window(f, 0, 64);
    g_assert_cmpuint(settle(f), ==, 0);
    g_assert_cmpuint(kernel.moves, ==, 0);
    /* But the quota is a limit. */
    put_range(24, 40, FAST);
    window(f, 0, 64);
    g_assert_cmpuint(settle(f), >, 0);
    g_assert_cmpuint(kernel.used[FAST], ==, 16);
    tear_down(f);
}

static void test_foreign(void)
{
    Fixture *f = set_up(64, 1, 16);

    put_range(0, 16, FAST);
    put_range(16, 48, SLOW);
    window(f, 0, 0);
    g_assert_cmpint(exchange(f, 20, 2, HM_CAUSE_POLICY), ==, HM_MOVE_DONE);
    window(f, 0, 0);
    g_assert_cmpuint(events.foreign, ==, 0);
    put_range(30, 3, FAST);
    put(40, THIRD);
    put(5, ABSENT);             /* swapped out, say */
    window(f, 0, 0);
    g_assert_cmpuint(events.foreign, ==, 1);
    g_assert_cmpuint(events.foreign_pages, ==, 4);
    g_assert_cmpuint(f->hm.stats.foreign_pages, ==, 4);
    g_assert_cmpuint(f->np.shown[HM_PLACE_ELSEWHERE], ==, 1);
    check_truth(f);
    tear_down(f);
}

/* What the guest touches for the first time, wherever the kernel puts it. */
static void touch(uint64_t page, uint64_t n)
{
    for (; n--; page++) {
        if (kernel.node[page] == ABSENT) {
            put(page, kernel.want[page]);
        }
    }
}

static uint64_t new_on_fast(void)
{
    uint64_t n = 0;

    for (uint64_t p = 0; p < kernel.pages; p++) {
        n += kernel.want[p] == FAST;
    }
    return n;
}

static void test_new_pages(void)
{
    Fixture *f = set_up(1024, 4, 64);

    window(f, 0, 0);
    g_assert_cmpuint(new_on_fast(), ==, 248);   /* 8 are for promotions */
    f->hm.params.reconcile_rate = 0;
    touch(100, 50);
    window(f, 100, 50);         /* asked for because they were written */
    g_assert_cmpuint(f->hm.resident[HM_TIER_DRAM], ==, 50 * PAGE);
    g_assert_cmpuint(new_on_fast(), ==, 248);
    /* Of these nobody knows. */
    touch(0, 1024);
    window(f, 0, 0);
    g_assert_cmpuint(kernel.used[FAST], ==, 248);
    f->hm.params.reconcile_rate = 1024 * PAGE;
    window(f, 0, 0);
    g_assert_cmpuint(f->hm.resident[HM_TIER_DRAM], ==, 248 * PAGE);
    /* A balloon gives some back. */
    put_range(0, 100, ABSENT);
    window(f, 0, 0);
    g_assert_cmpint(kernel.want[99], ==, FAST);
    touch(0, 100);
    g_assert_cmpuint(kernel.used[FAST], ==, 248);
    put_range(0, 100, ABSENT);
    window(f, 0, 0);
    /* Nobody watches. */
    hm_numa_rest(&f->hm);
    g_assert_cmpuint(new_on_fast(), ==, 0);
    window(f, 0, 0);
    g_assert_cmpint(kernel.want[99], ==, FAST);
    check_truth(f);
    tear_down(f);
}

/* Not more than the node has room for, or it would go anywhere. */
static void test_new_pages_by_room(void)
{
    Fixture *f = set_up(1024, 1, 512);

    kernel.room[FAST] = 64 * 256 + 100;         /* 64 MiB are the reserve */
    window(f, 0, 0);
    g_assert_cmpuint(new_on_fast(), ==, 100);
    touch(0, 1024);
    g_assert_cmpuint(kernel.used[FAST], ==, 100);
    tear_down(f);
}

static void test_quota(void)
{
    Fixture *f = set_up(256, 1, 64);

    put_range(0, 64, FAST);
    put_range(64, 192, SLOW);
    window(f, 10, 8);
    window(f, 10, 8);
    hm_numa_set_quota(&f->hm, 16 * PAGE);
    g_assert_cmpuint(f->hm.tier_size[HM_TIER_DRAM], ==, 16 * PAGE);
    for (uint32_t b = 10; b < 18; b++) {
        g_assert_cmpint(seat(f, b), ==, HM_TIER_DRAM);
    }
    window(f, 0, 0);
    g_assert_cmpuint(events.quota, ==, 0);
    hm_numa_set_quota(&f->hm, 32 * PAGE);
    g_assert_cmpuint(events.quota, ==, 1);
    g_assert_false(events.quota_complete);
    g_assert_cmpuint(settle(f), ==, 32);
    window(f, 0, 0);
    g_assert_cmpuint(events.quota, ==, 2);
    g_assert_true(events.quota_complete);
    g_assert_cmpuint(events.quota_size, ==, 32 * PAGE);
    g_assert_cmpuint(kernel.used[FAST], ==, 32);

    hm_numa_set_quota(&f->hm, 0);
    g_assert_cmpuint(settle(f), ==, 32);
    g_assert_cmpuint(kernel.used[FAST], ==, 0);
    window(f, 0, 256);
    g_assert_cmpuint(events.quota, ==, 3);
    g_assert_cmpuint(settle(f), ==, 0);

    hm_numa_set_quota(&f->hm, 256 * PAGE);
    window(f, 0, 256);
    g_assert_cmpuint(events.quota, ==, 4);
    g_assert_cmpuint(settle(f), ==, 256);
    g_assert_cmpuint(kernel.used[FAST], ==, 256);
    check_truth(f);
    tear_down(f);
}

/* It is not kept before pages are counted that nobody had seen. */
static void test_quota_unseen(void)
{
    Fixture *f = set_up(4096, 1, 2048);

    window(f, 0, 0);
    f->hm.params.reconcile_rate = 0;
    f->hm.numa->sweep_tokens = 0;
    touch(0, 512);
    g_assert_cmpuint(kernel.used[FAST], >, 64);
    hm_numa_set_quota(&f->hm, 64 * PAGE);
    window(f, 0, 0);
    g_assert_cmpuint(events.quota, ==, 0);
    g_assert_cmpuint(settle(f), >, 0);
    window(f, 0, 0);
    g_assert_cmpuint(events.quota, ==, 1);
    g_assert_true(events.quota_complete);
    g_assert_cmpuint(kernel.used[FAST], <=, 64);
    check_truth(f);
    tear_down(f);
}

/* Whatever happens: never more in dram by us, and the truth is known. */
static void test_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);

    for (unsigned run = 0; run < 20; run++) {
        uint32_t per_block = 1 << g_rand_int_range(rand, 0, 5);
        uint32_t blocks = g_rand_int_range(rand, 4, 200);
        uint64_t pages = blocks * per_block;
        uint32_t quota = g_rand_int_range(rand, 0, blocks + 1);
        Fixture *f = set_up(pages, per_block, quota);

        for (unsigned step = 0; step < 60; step++) {
            uint64_t page = g_rand_int_range(rand, 0, pages);
            uint32_t a = g_rand_int_range(rand, 0, blocks);
            uint32_t b = g_rand_int_range(rand, 0, blocks);

            switch (g_rand_int_range(rand, 0, 6)) {
            case 0:
                put_range(page, MIN(20, pages - page),
                          g_rand_int_range(rand, ABSENT, NODES));
                break;
            case 1:
                kernel.pinned[page] ^= true;
                break;
            case 2:
                exchange(f, a, b, HM_CAUSE_POLICY);
                break;
            case 3:
                exchange(f, a, b, HM_CAUSE_COMMAND);
                break;
            case 4:
                settle(f);
                break;
            default:
                window(f, page, MIN(20, pages - page));
                check_truth(f);
            }
        }
        memset(kernel.pinned, false, pages);
        for (unsigned i = 0; i < 10; i++) {
            window(f, 0, 0);
            settle(f);
        }
        g_assert_cmpuint(kernel.used[FAST], <=, (uint64_t)quota * per_block);
        check_truth(f);
        tear_down(f);
    }
}

/* --- with the engine's thread -------------------------------------------- */

#define THREAD_PAGES 1028
#define PATIENCE_US (20 * 1000 * 1000LL)

static struct {
    HmSampler base;
    uint64_t page;              /* 100 pages from here are written */
} guest;

static void guest_start(HmSampler *s)
{
}

static bool guest_read(HmSampler *s, bool last)
{
    return true;
}

static void guest_collect(HmSampler *s, unsigned long *dirty)
{
    bitmap_set(dirty, qatomic_read(&guest.page), 100);
}

static const HmSamplerOps guest_ops = {
    .name = "fake",
    .start = guest_start,
    .read = guest_read,
    .collect = guest_collect,
    .stop = guest_start,
};

static uint64_t on_fast(uint64_t page, uint64_t n)
{
    uint64_t found = 0;

    qemu_mutex_lock(&kernel_lock);
    while (n--) {
        found += kernel.node[page++] == FAST;
    }
    qemu_mutex_unlock(&kernel_lock);
    return found;
}

static void free_request(HmRequest *rq)
{
    g_free(rq);
}

static void ask_for_quota(Hybridmem *hm, uint64_t pages)
{
    HmRequest *rq = g_new0(HmRequest, 1);

    rq->kind = HM_REQUEST_QUOTA;
    rq->fast_size = pages * PAGE;
    rq->finished = free_request;
    hm_engine_submit(hm, rq);
}

/* What QMP does meanwhile. */
static void look_on(Hybridmem *hm)
{
    HybridmemInfo *info;

    main_loop_wait(true);
    info = hm_stats_info(hm);
    g_assert_cmpuint(info->tiers->value->size, <=, THREAD_PAGES * PAGE);
    qapi_free_HybridmemInfo(info);
    g_usleep(200);
}

#define RUN_UNTIL(condition) do {                                       \
    int64_t end_ = g_get_monotonic_time() + PATIENCE_US;                \
    while (!(condition) && g_get_monotonic_time() < end_) {             \
        look_on(hm);                                                    \
    }                                                                   \
    g_assert_true(condition);                                           \
} while (0)

static void test_thread(gconstpointer pages_per_block)
{
    uint32_t per_block = GPOINTER_TO_UINT(pages_per_block);
    Fixture *f = set_up(THREAD_PAGES, per_block,
                        DIV_ROUND_UP(256, per_block));
    Hybridmem *hm = &f->hm;

    put_range(0, 128, FAST);
    put_range(128, THREAD_PAGES - 128, SLOW);
    guest.base.ops = &guest_ops;
    guest.page = 400;
    hm->params = (HybridmemParameters) {
        .enabled = true, .interval = 20, .window = 5, .half_life = 100,
        .policy = HYBRIDMEM_POLICY_WRITE_HEAT, .model = (char *)"none",
        .reconcile_rate = 1 << 30,
    };
    hm->sampler = &guest.base;
    hm->plan = g_new(HmMove, HM_ENGINE_PLAN_MAX);
    hm->state = HYBRIDMEM_STATE__MAX;
    qemu_cond_init(&hm->wake);
    QSIMPLEQ_INIT(&hm->requests);
    QSIMPLEQ_INIT(&hm->finished);
    hm_engine_start_thread(hm);

    RUN_UNTIL(on_fast(400, 100) == 100);
    qatomic_set(&guest.page, THREAD_PAGES - 100);       /* the last block */
    RUN_UNTIL(on_fast(THREAD_PAGES - 100, 100) == 100);
    ask_for_quota(hm, 32);
    RUN_UNTIL(on_fast(0, THREAD_PAGES) <= 32);
    ask_for_quota(hm, 512);
    RUN_UNTIL(on_fast(THREAD_PAGES - 100, 100) == 100);

    hm_engine_stop_thread(hm);
    g_assert_cmpuint(hm->stats.batches, ==, 0);
    g_assert_cmpuint(hm->stats.stall_ns, ==, 0);
    check_truth(f);
    g_free(hm->plan);
    qemu_cond_destroy(&hm->wake);
    tear_down(f);
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    qemu_mutex_init(&kernel_lock);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/seats", test_seats);
    g_test_add_func("/hybridmem/numa-mover/exchange", test_exchange);
    g_test_add_func("/hybridmem/numa-mover/pinned", test_pinned);
    g_test_add_func("/hybridmem/numa-mover/most-of-a-block",
                    test_most_of_a_block);
    g_test_add_func("/hybridmem/numa-mover/left-behind", test_left_behind);
    g_test_add_func("/hybridmem/numa-mover/command-in-order",
                    test_command_in_order);
    g_test_add_func("/hybridmem/numa-mover/backoff", test_backoff);
    g_test_add_func("/hybridmem/numa-mover/last-block-is-short",
                    test_last_block_is_short);
    g_test_add_func("/hybridmem/numa-mover/no-memory", test_no_memory);
    g_test_add_func("/hybridmem/numa-mover/drain", test_drain);
    g_test_add_func("/hybridmem/numa-mover/drain-coldest",
                    test_drain_coldest);
    g_test_add_func("/hybridmem/numa-mover/fill-only-what-fits",
                    test_fill_only_what_fits);
    g_test_add_func("/hybridmem/numa-mover/passive", test_passive);
    g_test_add_func("/hybridmem/numa-mover/foreign", test_foreign);
    g_test_add_func("/hybridmem/numa-mover/new-pages", test_new_pages);
    g_test_add_func("/hybridmem/numa-mover/new-pages-by-room",
                    test_new_pages_by_room);
    g_test_add_func("/hybridmem/numa-mover/quota", test_quota);
    g_test_add_func("/hybridmem/numa-mover/quota-unseen", test_quota_unseen);
    g_test_add_func("/hybridmem/numa-mover/random", test_random);
    g_test_add_data_func("/hybridmem/numa-mover/thread", GUINT_TO_POINTER(1),
                         test_thread);
    g_test_add_data_func("/hybridmem/numa-mover/thread/short-block",
                         GUINT_TO_POINTER(32), test_thread);
    return g_test_run();
}
