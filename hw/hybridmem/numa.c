/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host kernel's NUMA placement of one range of this process.
 *
 * What move_pages(2) with nodes does, as read in Linux 5.4 to 6.18:
 *
 * - It collects pages, and moves what it has collected when it meets a page
 *   that it cannot take (absent, on that node already, mapped by others, off
 *   the LRU lists) or at the end.  If some of a collection stay where they
 *   are, it stops there: the rest is not tried.
 * - It tells a node for each page of a collection that moved as a whole,
 *   and an error for pages that it could not take.  Else it tells nothing:
 *   not which page failed, not which was not tried.
 * - A folio (THP, hugetlb page) moves as a whole by any of its pages; its
 *   others are then off the lists (EBUSY) and end the collection.
 * - Whatever the number of pages, each call waits for all processors.
 *
 * Hence: ask where pages are, name only those that can be taken, and ask
 * again for those that the kernel did not tell of.  Where folios were met the
 * last time, name one page of each piece that may be one, before the rest.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "hw/hybridmem/numa.h"

/* As in linux/mempolicy.h; libnuma of older systems lacks the last. */
enum {
    POLICY_DEFAULT = 0,
    POLICY_PREFERRED = 1,
    POLICY_LOCAL = 4,
    POLICY_PREFERRED_MANY = 5,  /* since Linux 5.15 */
    /* With a policy: a change of the cpuset does not renumber its nodes. */
    POLICY_STATIC_NODES = 1 << 15,
};

enum {
    FLAG_MOVE = 1 << 1,         /* MPOL_MF_MOVE */
    FLAG_MOVE_ALL = 1 << 2,     /* MPOL_MF_MOVE_ALL */
};

/*
 * Host pages in one call.  Bounds the scratch memory (about 200 KiB), and
 * how long the kernel copies before it returns (16 MiB: some milliseconds).
 */
#define CHUNK 4096

/*
 * What is left free on a node, bytes.  More than the kernel's high watermark,
 * where it begins to reclaim: for transparent huge pages that is raised to
 * some 25 MiB a zone; else it is below 1 % of the node.  At most an eighth,
 * for tiny nodes.
 */
#define RESERVE_MIN (64 * MiB)
#define RESERVE_SHARE 64
#define RESERVE_MAX_SHARE 8

/*
 * Calls for one chunk.  Three are enough unless the kernel stops in the
 * middle, where something is pinned; each such stop settles two units at
 * least, mostly a whole piece.
 */
#define ROUNDS_MAX 16

/* A status that the kernel has not written. */
#define NO_STATUS INT_MIN

static const char *const option_name[HM_TIER__MAX] = {
    [HM_TIER_DRAM] = "fast-nodes",
    [HM_TIER_NVM] = "slow-nodes",
};

/* What the kernel allocates at once, some pages of which were named. */
typedef struct HmUnit {
    uint64_t number;            /* host page of the range */
    size_t end;                 /* index in the caller's list after its last */
    int at;                     /* node, or a negative errno */
    int status;                 /* what the last move said */
    bool tried;                 /* by the last move */
    bool told;                  /* ... which said where it is */
    bool open;                  /* is still to move */
    HmNumaResult result;
} HmUnit;

typedef enum HmStep {
    STEP_FIRST,                 /* try its first page: a folio moves whole */
    STEP_LAST,                  /* the first failed; is it one folio? */
    STEP_REST,                  /* what did not come along */
} HmStep;

/* Neighbouring units that may be one folio. */
typedef struct HmPiece {
    unsigned first, end;        /* units */
    int node;                   /* where it is to go */
    HmStep step;
    unsigned stride;            /* for STEP_REST: a folio's units, power of 2 */
    bool jammed;                /* the kernel stopped within it */
} HmPiece;

typedef struct HmScratch {
    int64_t reserve[HM_NUMA_NODES];
    int64_t room[HM_NUMA_NODES];
    HmUnit unit[CHUNK];
    HmPiece piece[CHUNK];
    unsigned n_units, n_pieces;
    bool saw_folio;
    /* for the system call */
    void *addr[CHUNK];
    int node[CHUNK];
    int status[CHUNK];
    unsigned index[CHUNK];      /* of the unit */
} HmScratch;

static bool has_node(const HmNodes *nodes, int node)
{
    return node >= 0 && node < HM_NUMA_NODES && test_bit(node, nodes->bits);
}

static int next_node(const HmNodes *nodes, int node)
{
    return find_next_bit(nodes->bits, HM_NUMA_NODES, node);
}

#define FOR_EACH_NODE(node, nodes)                                      \
    for ((node) = next_node((nodes), 0); (node) < HM_NUMA_NODES;        \
         (node) = next_node((nodes), (node) + 1))

static bool no_nodes(const HmNodes *nodes)
{
    return next_node(nodes, 0) >= HM_NUMA_NODES;
}

char *hm_nodes_text(const HmNodes *nodes)
{
    GString *text = g_string_new(NULL);
    int first, last;

    FOR_EACH_NODE(first, nodes) {
        last = find_next_zero_bit(nodes->bits, HM_NUMA_NODES, first) - 1;
        g_string_append_printf(text, "%s%d", text->len ? "," : "", first);
        if (last > first) {
            g_string_append_printf(text, "-%d", last);
        }
        first = last;
    }
    return g_string_free(text, false);
}

/* A pool of huge pages is there to be used up. */
static bool from_pool(const HmNuma *n)
{
    return n->host_page_size > qemu_real_host_page_size();
}

static int64_t reserve_of(const HmNuma *n, int node)
{
    int64_t size = n->ops->node_size(node);

    if (from_pool(n) || size <= 0) {
        return 0;
    }
    return MIN(MAX(RESERVE_MIN, size / RESERVE_SHARE),
               size / RESERVE_MAX_SHARE);
}

static int64_t room_on(const HmNuma *n, int node)
{
    const HmScratch *s = n->scratch;
    int64_t free = n->ops->node_free(node, n->host_page_size);

    if (free < 0) {
        /* It could be read once; without it, let the kernel say. */
        return INT64_MAX / HM_NUMA_NODES;
    }
    return MAX(free - s->reserve[node], 0);
}

uint64_t hm_numa_free(HmNuma *n, HmTier tier)
{
    uint64_t sum = 0;
    int node;

    FOR_EACH_NODE(node, &n->nodes[tier]) {
        if (n->ops->node_free(node, n->host_page_size) < 0) {
            return UINT64_MAX;
        }
        sum += room_on(n, node);
    }
    return sum;
}

static HmPlace place_of(const HmNuma *n, int at)
{
    if (at < 0) {
        return HM_PLACE_ABSENT;
    }
    if (has_node(&n->nodes[HM_TIER_DRAM], at)) {
        return HM_PLACE_DRAM;
    }
    return has_node(&n->nodes[HM_TIER_NVM], at) ? HM_PLACE_NVM
                                                : HM_PLACE_ELSEWHERE;
}

/*
 * Makes units of pages, from the @from-th on, as many as there is room for.
 * Neighbours of one host page become one unit.
 */
static void make_units(HmNuma *n, const uint64_t *page, size_t n_pages,
                       size_t from)
{
    HmScratch *s = n->scratch;
    uint64_t per_unit = n->host_page_size / n->page_size;

    s->n_units = 0;
    for (size_t i = from; i < n_pages; i++) {
        uint64_t number = page[i] / per_unit;

        g_assert(page[i] < n->pages);
        if (!s->n_units || s->unit[s->n_units - 1].number != number) {
            if (s->n_units == CHUNK) {
                break;
            }
            s->unit[s->n_units++] = (HmUnit) { .number = number };
        }
        s->unit[s->n_units - 1].end = i + 1;
    }
}

static void *unit_addr(const HmNuma *n, const HmUnit *unit)
{
    return n->host + unit->number * n->host_page_size;
}

/* Asks where all units are, or only those that are still to move, it seems. */
static int look(HmNuma *n, bool only_open)
{
    HmScratch *s = n->scratch;
    unsigned count = 0;
    long ret;

    for (unsigned i = 0; i < s->n_units; i++) {
        if (!only_open || (s->unit[i].open && !s->unit[i].told)) {
            s->addr[count] = unit_addr(n, &s->unit[i]);
            s->status[count] = -ENOENT;
            s->index[count++] = i;
        }
    }
    ret = count ? n->ops->move_pages(count, s->addr, NULL, s->status, 0) : 0;
    if (ret < 0) {
        return ret;
    }
    for (unsigned i = 0; i < count; i++) {
        s->unit[s->index[i]].at = s->status[i];
    }
    return 0;
}

int hm_numa_look(HmNuma *n, const uint64_t *page, size_t n_pages,
                 HmPlace *place)
{
    HmScratch *s = n->scratch;
    size_t done = 0;

    while (done < n_pages) {
        int ret;

        make_units(n, page, n_pages, done);
        ret = look(n, false);
        if (ret < 0) {
            return ret;
        }
        for (unsigned i = 0; i < s->n_units; i++) {
            while (done < s->unit[i].end) {
                place[done++] = place_of(n, s->unit[i].at);
            }
        }
    }
    return 0;
}

bool hm_numa_uncover(HmNuma *n, uint64_t page, uint64_t n_pages)
{
    return n->ops->touch && n->ops->touch(n->host + page * n->page_size,
                                          n_pages * n->page_size);
}

static void settle(HmUnit *unit, HmNumaResult result)
{
    unit->open = false;
    unit->result = result;
}

/* Closes what has arrived, or is not there. */
static void settle_by_place(HmUnit *unit, const HmNodes *nodes)
{
    if (unit->at < 0) {
        settle(unit, HM_NUMA_ABSENT);
    } else if (has_node(nodes, unit->at)) {
        settle(unit, HM_NUMA_MOVED);
    }
}

/* All that has. */
static void settle_arrived(HmNuma *n, const HmNodes *nodes)
{
    HmScratch *s = n->scratch;

    for (unsigned i = 0; i < s->n_units; i++) {
        if (s->unit[i].open) {
            settle_by_place(&s->unit[i], nodes);
        }
    }
}

static void settle_piece(HmNuma *n, const HmPiece *piece, HmNumaResult result)
{
    HmScratch *s = n->scratch;

    for (unsigned i = piece->first; i < piece->end; i++) {
        if (s->unit[i].open) {
            settle(&s->unit[i], result);
        }
    }
}

static void fail(HmNuma *n, const char *what, int error)
{
    n->error = what;
    n->error_errno = error;
}

/* The range begins where a huge page might. */
static uint64_t piece_number(const HmNuma *n, const HmUnit *unit)
{
    return unit->number / (n->huge_size / n->host_page_size);
}

/* Groups what is still to move.  Ends before units of another piece. */
static void make_pieces(HmNuma *n)
{
    HmScratch *s = n->scratch;
    HmPiece *piece = NULL;

    s->n_pieces = 0;
    for (unsigned i = 0; i < s->n_units; i++) {
        if (!s->unit[i].open) {
            continue;
        }
        if (!piece || piece_number(n, &s->unit[piece->first]) !=
                      piece_number(n, &s->unit[i])) {
            piece = &s->piece[s->n_pieces++];
            *piece = (HmPiece) {
                .first = i,
                .step = n->folios && n->huge_size > n->host_page_size ?
                        STEP_FIRST : STEP_REST,
                .stride = 1,
            };
        }
        piece->end = i + 1;
    }
}

static unsigned open_units(const HmScratch *s, const HmPiece *piece)
{
    unsigned count = 0;

    for (unsigned i = piece->first; i < piece->end; i++) {
        count += s->unit[i].open;
    }
    return count;
}

/*
 * Gives a piece the node with most room, and takes the room.  A piece that
 * does not fit stays whole where it is.
 */
static void assign(HmNuma *n, HmPiece *piece, HmTier tier)
{
    HmScratch *s = n->scratch;
    int64_t need = open_units(s, piece) * n->host_page_size;
    int best = -1, node;

    FOR_EACH_NODE(node, &n->nodes[tier]) {
        if (best < 0 || s->room[node] > s->room[best]) {
            best = node;
        }
    }
    if (best < 0 || s->room[best] < need) {
        settle_piece(n, piece, HM_NUMA_NO_MEMORY);
        return;
    }
    s->room[best] -= need;
    piece->node = best;
}

/* What may be one folio, if folios have @piece's stride. */
static uint64_t group_of(const HmNuma *n, const HmPiece *piece,
                         const HmUnit *unit)
{
    return (uintptr_t)unit_addr(n, unit) / (n->host_page_size * piece->stride);
}

static bool name_now(const HmNuma *n, const HmPiece *piece, unsigned i,
                     bool is_first, bool is_last, uint64_t *group)
{
    const HmScratch *s = n->scratch;
    uint64_t number = group_of(n, piece, &s->unit[i]);     /* not 0 */

    switch (piece->step) {
    case STEP_FIRST:
        return is_first;
    case STEP_LAST:
        return is_last;
    default:
        if (number == *group) {
            return false;
        }
        *group = number;
        return true;
    }
}

/* Adds those units of @piece that are to be named now. */
static unsigned name_units(HmNuma *n, const HmPiece *piece, unsigned count)
{
    HmScratch *s = n->scratch;
    unsigned left = open_units(s, piece);
    bool is_first = true;
    uint64_t group = 0;

    for (unsigned i = piece->first; i < piece->end; i++) {
        if (!s->unit[i].open) {
            continue;
        }
        left--;
        if (name_now(n, piece, i, is_first, !left, &group)) {
            s->addr[count] = unit_addr(n, &s->unit[i]);
            s->node[count] = piece->node;
            s->status[count] = NO_STATUS;
            s->index[count++] = i;
        }
        is_first = false;
    }
    return count;
}

static long call_kernel(HmNuma *n, unsigned count)
{
    HmScratch *s = n->scratch;
    long ret;

    n->calls++;
    ret = n->ops->move_pages(count, s->addr, s->node, s->status,
                             n->all ? FLAG_MOVE_ALL : FLAG_MOVE);
    if (ret == -EPERM && n->all) {
        /* The privilege was dropped since (-run-with user=). */
        n->all = false;
        n->calls++;
        ret = n->ops->move_pages(count, s->addr, s->node, s->status,
                                 FLAG_MOVE);
    }
    return ret;
}

/*
 * Two units of one piece, the latter off the lists although the former was
 * collected and stayed: they seem to be one folio.
 */
static void note_jam(HmScratch *s, unsigned stayed, unsigned off_list)
{
    for (unsigned i = 0; i < s->n_pieces; i++) {
        if (s->piece[i].first <= stayed && off_list < s->piece[i].end) {
            s->piece[i].jammed = true;
        }
    }
}

/*
 * How many of the first units in a call the kernel has tried.  If it stopped,
 * it was at a unit with an error, behind some without a word, of which at
 * least one stayed.
 */
static unsigned units_tried(HmScratch *s, unsigned count)
{
    unsigned i = count;

    while (i > 0 && s->status[i - 1] == NO_STATUS) {
        i--;
    }
    if (i < 2 || s->status[i - 2] != NO_STATUS) {
        return count;
    }
    if (s->status[i - 1] == -EBUSY) {
        note_jam(s, s->index[i - 2], s->index[i - 1]);
    }
    return i;
}

/* One call for all that is to go to @node now. */
static long move_to(HmNuma *n, int node)
{
    HmScratch *s = n->scratch;
    unsigned count = 0, tried;
    long ret;

    for (unsigned i = 0; i < s->n_pieces; i++) {
        if (s->piece[i].node == node) {
            count = name_units(n, &s->piece[i], count);
        }
    }
    if (!count) {
        return 0;
    }
    ret = call_kernel(n, count);
    tried = units_tried(s, count);
    for (unsigned i = 0; i < tried; i++) {
        HmUnit *unit = &s->unit[s->index[i]];

        unit->status = s->status[i];
        unit->told = unit->status >= 0;
        if (unit->told) {
            unit->at = unit->status;
        }
        /* After an error, a busy one may only have been collected before. */
        unit->tried = ret >= 0 || (unit->status != NO_STATUS &&
                                   unit->status != -EBUSY);
    }
    return ret;
}

/*
 * How many units from @piece's first on have arrived just now, together.  A
 * power of 2, for the list may begin within a folio.
 */
static unsigned came_along(const HmNuma *n, const HmPiece *piece,
                           const HmNodes *nodes)
{
    const HmScratch *s = n->scratch;
    const HmUnit *first = &s->unit[piece->first];
    unsigned i = 0;

    while (i < piece->end - piece->first && first[i].open &&
           first[i].number == first->number + i &&
           has_node(nodes, first[i].at)) {
        i++;
    }
    return pow2ceil(MAX(i, 1));
}

/*
 * Closes the unit that was tried and stayed, and what seems to be one folio
 * with it: its group, or the piece, if the other end stayed as well.
 */
static void settle_stuck(HmNuma *n, const HmPiece *piece, unsigned i)
{
    HmScratch *s = n->scratch;
    uint64_t group = group_of(n, piece, &s->unit[i]);

    if (piece->step == STEP_LAST || piece->jammed) {
        settle_piece(n, piece, HM_NUMA_PINNED);
        return;
    }
    for (; i < piece->end && group_of(n, piece, &s->unit[i]) == group; i++) {
        if (s->unit[i].open) {
            settle(&s->unit[i], HM_NUMA_PINNED);
        }
    }
}

/* Has @unit been off the lists because it came along with another one? */
static bool was_part(const HmUnit *unit)
{
    return unit->tried && !unit->open && unit->status == -EBUSY;
}

/* Looks at what became of the units that were tried; chooses the next step. */
static void judge(HmNuma *n, HmPiece *piece, const HmNodes *nodes)
{
    HmScratch *s = n->scratch;
    HmStep next = piece->step;
    unsigned stride = piece->step == STEP_FIRST ? came_along(n, piece, nodes)
                                                : 1;

    for (unsigned i = piece->first; i < piece->end; i++) {
        if (s->unit[i].open) {
            settle_by_place(&s->unit[i], nodes);
        }
    }
    s->saw_folio |= stride > 1 || piece->jammed;
    for (unsigned i = piece->first; i < piece->end; i++) {
        HmUnit *unit = &s->unit[i];

        s->saw_folio |= was_part(unit);
        if (!unit->tried) {
            continue;
        }
        next = STEP_REST;
        if (unit->open && unit->status != NO_STATUS) {
            settle(unit, HM_NUMA_PINNED);
        } else if (unit->open) {
            settle_stuck(n, piece, i);
            next = piece->step == STEP_FIRST ? STEP_LAST : STEP_REST;
        }
    }
    for (unsigned i = piece->first; i < piece->end; i++) {
        s->unit[i].tried = false;
    }
    piece->stride = stride;
    piece->step = next;
    piece->jammed = false;
}

/* The kernel refused all or part of a call for @node. */
static void refused(HmNuma *n, int node, HmTier tier, int error)
{
    HmScratch *s = n->scratch;

    s->room[node] = 0;
    for (unsigned i = 0; i < s->n_pieces; i++) {
        HmPiece *piece = &s->piece[i];

        if (piece->node != node || !open_units(s, piece)) {
            continue;
        }
        if (error == ENOMEM) {
            assign(n, piece, tier);
        } else {
            settle_piece(n, piece, HM_NUMA_FAILED);
        }
    }
    if (error != ENOMEM) {
        fail(n, "the kernel refused to move pages", error);
    }
}

/* One call for each node; then the truth. */
static void round_of_calls(HmNuma *n, HmTier tier)
{
    const HmNodes *nodes = &n->nodes[tier];
    HmScratch *s = n->scratch;
    int error[HM_NUMA_NODES] = { 0 };
    int node, ret;

    FOR_EACH_NODE(node, nodes) {
        error[node] = MAX(-move_to(n, node), 0);
    }
    ret = look(n, true);
    if (ret < 0) {
        fail(n, "the kernel does not tell where pages are", -ret);
        settle_arrived(n, nodes);       /* of which it told at once */
        for (unsigned i = 0; i < s->n_pieces; i++) {
            settle_piece(n, &s->piece[i], HM_NUMA_FAILED);
        }
        return;
    }
    for (unsigned i = 0; i < s->n_pieces; i++) {
        judge(n, &s->piece[i], nodes);
    }
    FOR_EACH_NODE(node, nodes) {
        if (error[node]) {
            refused(n, node, tier, error[node]);
        }
    }
}

static bool any_open(const HmScratch *s)
{
    for (unsigned i = 0; i < s->n_units; i++) {
        if (s->unit[i].open) {
            return true;
        }
    }
    return false;
}

static void move_units(HmNuma *n, HmTier tier)
{
    HmScratch *s = n->scratch;
    int node;

    for (unsigned i = 0; i < s->n_units; i++) {
        s->unit[i].open = true;
        settle_by_place(&s->unit[i], &n->nodes[tier]);
    }
    if (!any_open(s)) {
        return;
    }
    FOR_EACH_NODE(node, &n->nodes[tier]) {
        s->room[node] = room_on(n, node);
    }
    make_pieces(n);
    for (unsigned i = 0; i < s->n_pieces; i++) {
        assign(n, &s->piece[i], tier);
    }
    s->saw_folio = false;
    for (unsigned i = 0; i < ROUNDS_MAX && any_open(s); i++) {
        round_of_calls(n, tier);
    }
    n->folios = s->saw_folio;
}

void hm_numa_move(HmNuma *n, const uint64_t *page, size_t n_pages,
                  HmTier tier, HmPlace *place, HmNumaResult *result)
{
    HmScratch *s = n->scratch;
    size_t done = 0;

    while (done < n_pages) {
        int ret;

        make_units(n, page, n_pages, done);
        ret = look(n, false);
        if (ret < 0) {
            fail(n, "the kernel does not tell where pages are", -ret);
        } else {
            move_units(n, tier);
        }
        for (unsigned i = 0; i < s->n_units; i++) {
            HmUnit *unit = &s->unit[i];

            if (unit->open) {
                settle(unit, HM_NUMA_PINNED);
            }
            for (; done < unit->end; done++) {
                result[done] = ret < 0 ? HM_NUMA_FAILED : unit->result;
                if (ret >= 0) {
                    place[done] = place_of(n, unit->at);
                }
            }
        }
    }
}

int hm_numa_prefer(HmNuma *n, uint64_t page, uint64_t n_pages, HmTier first)
{
    const HmNodes *nodes = &n->nodes[first];
    void *addr = n->host + page * n->page_size;
    size_t len = n_pages * n->page_size;
    HmNodes one = { { 0 } };
    int best = -1, node, ret;

    ret = n->ops->mbind(addr, len, POLICY_PREFERRED_MANY | POLICY_STATIC_NODES,
                        nodes, 0);
    if (ret != -EINVAL) {
        return ret;
    }
    FOR_EACH_NODE(node, nodes) {
        if (best < 0 || room_on(n, node) > room_on(n, best)) {
            best = node;
        }
    }
    set_bit(best, one.bits);
    return n->ops->mbind(addr, len, POLICY_PREFERRED | POLICY_STATIC_NODES,
                         &one, 0);
}

int hm_numa_restore(HmNuma *n, int mode, const HmNodes *nodes)
{
    size_t len = n->pages * n->page_size;

    if (mode == POLICY_DEFAULT || mode == POLICY_LOCAL) {
        nodes = NULL;
    }
    if (mode == POLICY_PREFERRED) {
        /* As memory backends do: all nodes, where the kernel knows how. */
        int ret = n->ops->mbind(n->host, len, POLICY_PREFERRED_MANY, nodes, 0);

        if (ret != -EINVAL) {
            return ret;
        }
    }
    return n->ops->mbind(n->host, len, mode, nodes, 0);
}

static char *nodes_with_memory(const HmNuma *n)
{
    HmNodes nodes = { { 0 } };

    for (int node = 0; node < HM_NUMA_NODES; node++) {
        if (n->ops->node_size(node) > 0) {
            set_bit(node, nodes.bits);
        }
    }
    return hm_nodes_text(&nodes);
}

static char *check_memory(const HmNuma *n, const char *option, int node)
{
    int64_t size = n->ops->node_size(node);
    int64_t free = n->ops->node_free(node, n->host_page_size);
    g_autofree char *others = NULL;

    if (size > 0 && free >= 0) {
        return NULL;
    }
    if (size > 0 && from_pool(n)) {
        return g_strdup_printf("%s %d: cannot tell how many huge pages of %zu"
                               " KiB are free there: %s", option, node,
                               n->host_page_size / 1024, strerror(-free));
    }
    others = nodes_with_memory(n);
    if (size == -ENOENT) {
        return g_strdup_printf("%s %d: the host has no such NUMA node; nodes"
                               " with memory: %s", option, node, others);
    }
    if (size == 0 || size == -ENODEV) {
        return g_strdup_printf("%s %d: this NUMA node has no memory online;"
                               " nodes with memory: %s", option, node, others);
    }
    return g_strdup_printf("%s %d: cannot tell the size of this NUMA node: %s",
                           option, node,
                           strerror(size < 0 ? -size : -free));
}

static char *check_nodes(const HmNuma *n, HmTier tier)
{
    const char *option = option_name[tier];
    HmNodes allowed = { { 0 } };
    int node;

    if (no_nodes(&n->nodes[tier])) {
        return g_strdup_printf("%s: names no NUMA node", option);
    }
    n->ops->allowed(&allowed);
    FOR_EACH_NODE(node, &n->nodes[tier]) {
        char *why = check_memory(n, option, node);

        if (why) {
            return why;
        }
        if (!has_node(&allowed, node)) {
            g_autofree char *text = hm_nodes_text(&allowed);

            return g_strdup_printf("%s %d: not allowed to this process"
                                   " (cpuset); allowed: %s", option, node,
                                   text);
        }
    }
    return NULL;
}

static char *check_overlap(const HmNuma *n)
{
    HmNodes both;

    for (size_t i = 0; i < ARRAY_SIZE(both.bits); i++) {
        both.bits[i] = n->nodes[HM_TIER_DRAM].bits[i] &
                       n->nodes[HM_TIER_NVM].bits[i];
    }
    if (!no_nodes(&both)) {
        g_autofree char *text = hm_nodes_text(&both);

        return g_strdup_printf("slow-nodes %s: in fast-nodes, too; a node"
                               " belongs to one of them", text);
    }
    return NULL;
}

/* Without touching a page. */
static char *probe_kernel(HmNuma *n)
{
    void *addr = n->host;
    int status;
    long ret = n->ops->move_pages(1, &addr, NULL, &status, 0);

    if (ret == -ENOSYS) {
        return g_strdup("fast-nodes, slow-nodes: this kernel has no"
                        " move_pages(2) (CONFIG_NUMA and CONFIG_MIGRATION)");
    }
    if (ret == -EPERM) {
        return g_strdup("fast-nodes, slow-nodes: move_pages(2) is forbidden"
                        " to this process (a container's or sandbox's seccomp"
                        " filter)");
    }
    if (ret < 0) {
        return g_strdup_printf("fast-nodes, slow-nodes: move_pages(2) fails:"
                               " %s", strerror(-ret));
    }
    /* The flag is checked first, for no pages as well. */
    n->all = n->ops->move_pages(0, NULL, NULL, NULL, FLAG_MOVE_ALL) == 0;
    return NULL;
}

char *hm_numa_init(HmNuma *n)
{
    HmScratch *s;
    char *why;

    if (!n->ops) {
        return g_strdup("fast-nodes, slow-nodes: this QEMU was built without"
                        " libnuma");
    }
    if (n->host_page_size < n->page_size) {
        return g_strdup_printf("a page of the guest has %zu bytes, one of the"
                               " host %zu: parts of it would move, not all",
                               n->page_size, n->host_page_size);
    }
    g_assert(n->pages && n->page_size &&
             n->host_page_size % n->page_size == 0 &&
             n->huge_size % n->host_page_size == 0 && n->huge_size);
    why = check_nodes(n, HM_TIER_DRAM) ?: check_nodes(n, HM_TIER_NVM) ?:
          check_overlap(n) ?: probe_kernel(n);
    if (why) {
        return why;
    }
    n->scratch = s = g_new0(HmScratch, 1);
    for (int node = 0; node < HM_NUMA_NODES; node++) {
        s->reserve[node] = reserve_of(n, node);
    }
    return NULL;
}

void hm_numa_destroy(HmNuma *n)
{
    g_free(n->scratch);
    n->scratch = NULL;
}
