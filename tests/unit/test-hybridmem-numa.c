/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/numa.c: before a fake kernel that answers as
 * Linux does (the comment in numa.c tells how), and a few before the real one.
 */
#include "qemu/osdep.h"
#include <sys/mman.h>
#include "hw/hybridmem/numa.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#ifdef CONFIG_NUMA
#include <numaif.h>
#endif

/* As in linux/mempolicy.h. */
#define MF_MOVE 2
#define MF_MOVE_ALL 4
#define MODE_DEFAULT 0
#define MODE_PREFERRED 1
#define MODE_BIND 2
#define MODE_PREFERRED_MANY 5
#define STATIC_NODES (1 << 15)

#define D HM_TIER_DRAM
#define N HM_TIER_NVM

#define SMALL 4096
#define MANY 16384              /* pages of the fake kernel */
#define NODES 160               /* more than the engine knows */
#define ABSENT -1
#define ZERO_PAGE -2

/* Nowhere: nothing may look there. */
#define HOST ((uint8_t *)(uintptr_t)(1ULL << 40))

typedef struct FakePage {
    int node;                   /* or ABSENT, ZERO_PAGE */
    bool pinned, shared;
    bool off_list;              /* somebody else has isolated it */
    bool isolated;              /* collected by this call */
    unsigned head;              /* first page of its folio */
} FakePage;

typedef struct FakeNode {
    bool exists, allowed;
    int64_t size, used;         /* pages */
    int64_t least_free;         /* ever seen */
    bool fragmented;            /* no more to be had than grants, */
    int64_t grants;             /* and nothing huge */
    int free_errno, size_errno;
} FakeNode;

static struct {
    FakePage page[MANY];
    unsigned pages;
    size_t page_size;
    FakeNode node[NODES];
    bool may_move_all;
    bool splits;                /* a folio for which there is no room */
    bool there_is_no_cut;       /* Linux 5.4: a page there ends nothing */
    int ask_errno, move_errno;
    unsigned asks_left;         /* before ask_errno */
    /* counts of calls, of the pages in them, and of collections moved */
    unsigned asks, asked, moves, named, collections;
    unsigned flags;             /* of the last move */
    /* the last mbind */
    int mode, many_errno, mbind_errno;
    void *addr;
    size_t len;
    bool has_nodes;
    HmNodes nodes;
} k;

static unsigned page_at(void *addr)
{
    size_t offset = (uint8_t *)addr - HOST;

    /* The first page of what the kernel allocates: 5.4 wants that. */
    g_assert_cmpuint(offset % k.page_size, ==, 0);
    g_assert_cmpuint(offset / k.page_size, <, k.pages);
    return offset / k.page_size;
}

static unsigned folio_end(unsigned head)
{
    unsigned i = head;

    while (i < k.pages && k.page[i].head == head) {
        i++;
    }
    return i;
}

static int64_t free_on(int node)
{
    return k.node[node].size - k.node[node].used;
}

static void set_node(unsigned page, int node)
{
    if (k.page[page].node >= 0) {
        k.node[k.page[page].node].used--;
    }
    k.page[page].node = node;
    if (node >= 0) {
        k.node[node].used++;
    }
}

static bool put_on(unsigned from, unsigned end, int node)
{
    FakeNode *to = &k.node[node];

    if (to->size - to->used < end - from) {
        return false;
    }
    if (to->fragmented && (end > from + 1 || to->grants-- <= 0)) {
        return false;
    }
    for (unsigned i = from; i < end; i++) {
        set_node(i, node);
    }
    to->least_free = MIN(to->least_free, free_on(node));
    return true;
}

static bool split_on(unsigned head, int node)
{
    unsigned end = folio_end(head);
    bool all = true;

    for (unsigned i = head; i < end; i++) {
        k.page[i].head = i;
        all &= put_on(i, i + 1, node);
    }
    return all;
}

/* Moves what was collected.  The number that stay, or an error. */
static long move_collection(GArray *list, int node)
{
    long stay = 0, ret = 0;

    k.collections += list->len > 0;
    for (unsigned i = 0; i < list->len; i++) {
        unsigned head = g_array_index(list, unsigned, i);

        k.page[head].isolated = false;
        if (ret < 0) {
            continue;
        }
        if (k.page[head].pinned) {
            stay++;
        } else if (!put_on(head, folio_end(head), node)) {
            if (!k.splits || folio_end(head) == head + 1) {
                ret = -ENOMEM;
            } else if (!split_on(head, node)) {
                stay++;
            }
        }
    }
    g_array_set_size(list, 0);
    return ret < 0 ? ret : stay;
}

/* 1: collected, 0: is there, or a negative errno. */
static int collect(GArray *list, unsigned page, int node, bool all)
{
    FakePage *p = &k.page[page], *head = &k.page[p->head];

    if (p->node < 0) {
        return p->node == ABSENT ? -ENOENT : -EFAULT;
    }
    if (p->node == node) {
        return 0;
    }
    if (head->shared && !all) {
        return -EACCES;
    }
    if (head->off_list || head->isolated) {
        return -EBUSY;
    }
    head->isolated = true;
    g_array_append_val(list, p->head);
    return 1;
}

static void tell(int *status, unsigned from, unsigned to, int node)
{
    for (; from < to; from++) {
        status[from] = node;
    }
}

static long fake_move(unsigned long count, void **pages, const int *nodes,
                      int *status, bool all)
{
    g_autoptr(GArray) list = g_array_new(false, false, sizeof(unsigned));
    unsigned start = 0;
    long stay;

    k.moves++;
    k.named += count;
    for (unsigned i = 0; i < count; i++) {
        int got = 0;

        g_assert_cmpint(nodes[i], ==, nodes[0]);
        g_assert_true(k.node[nodes[i]].exists);
        if (!k.node[nodes[i]].allowed) {
            return -EACCES;
        }
        if (!list->len) {
            start = i;
        }
        got = collect(list, page_at(pages[i]), nodes[i], all);
        if (got > 0) {
            continue;
        }
        status[i] = got ?: nodes[i];
        if (!got && k.there_is_no_cut) {
            continue;
        }
        if (list->len) {
            stay = move_collection(list, nodes[i]);
            if (stay) {
                return stay < 0 ? stay : stay + count - i - 1;
            }
            tell(status, start, i, nodes[i]);
        }
    }
    if (list->len) {
        stay = move_collection(list, nodes[0]);
        if (stay) {
            return stay;
        }
        tell(status, start, count, nodes[0]);
    }
    return 0;
}

static long fake_move_pages(unsigned long count, void **pages,
                            const int *nodes, int *status, int flags)
{
    if ((flags & MF_MOVE_ALL) && !k.may_move_all) {
        return -EPERM;
    }
    if (nodes) {
        g_assert_cmpuint(count, >, 0);
        g_assert_cmpuint(count, <=, 4096);
        k.flags = flags;
        return k.move_errno ? -k.move_errno
                            : fake_move(count, pages, nodes, status,
                                        flags & MF_MOVE_ALL);
    }
    if (k.ask_errno && k.asks >= k.asks_left) {
        return -k.ask_errno;
    }
    k.asks++;
    k.asked += count;
    for (unsigned i = 0; i < count; i++) {
        int node = k.page[page_at(pages[i])].node;

        status[i] = node >= 0 ? node : node == ABSENT ? -ENOENT : -EFAULT;
    }
    return 0;
}

static int fake_mbind(void *addr, size_t len, int mode, const HmNodes *nodes,
                      unsigned flags)
{
    g_assert_cmpuint(flags, ==, 0);
    if ((mode & ~STATIC_NODES) == MODE_PREFERRED_MANY && k.many_errno) {
        return -k.many_errno;
    }
    k.addr = addr;
    k.len = len;
    k.mode = mode;
    k.has_nodes = nodes;
    k.nodes = nodes ? *nodes : (HmNodes) { { 0 } };
    return -k.mbind_errno;
}

static int64_t fake_node_free(int node, size_t page_size)
{
    g_assert_cmpuint(page_size, ==, k.page_size);
    if (k.node[node].free_errno) {
        return -k.node[node].free_errno;
    }
    return k.node[node].exists ? free_on(node) * page_size : -ENOENT;
}

static int64_t fake_node_size(int node)
{
    if (k.node[node].size_errno) {
        return -k.node[node].size_errno;
    }
    return k.node[node].exists ? k.node[node].size * k.page_size : -ENOENT;
}

static void fake_allowed(HmNodes *nodes)
{
    for (int i = 0; i < HM_NUMA_NODES; i++) {
        if (k.node[i].allowed) {
            set_bit(i, nodes->bits);
        }
    }
}

static const HmNumaOps fake_ops = {
    .move_pages = fake_move_pages,
    .mbind = fake_mbind,
    .node_free = fake_node_free,
    .node_size = fake_node_size,
    .allowed = fake_allowed,
};

static void add_node(int node, int64_t size)
{
    k.node[node] = (FakeNode) {
        .exists = true,
        .allowed = true,
        .size = size,
        .least_free = size,
    };
}

/* Nodes 0 and 1 are tiers, 2 is neither, with plenty of room. */
static void boot(size_t page_size, unsigned pages)
{
    memset(&k, 0, sizeof(k));
    k.page_size = page_size;
    k.pages = pages;
    for (unsigned i = 0; i < pages; i++) {
        k.page[i] = (FakePage) { .node = ABSENT, .head = i };
    }
    for (int i = 0; i < 3; i++) {
        add_node(i, 4 * MANY);
    }
    add_node(NODES - 1, MANY);
}

static HmNodes nodes_of(const char *text)
{
    g_auto(GStrv) number = g_strsplit(text, ",", -1);
    HmNodes nodes = { { 0 } };

    for (int i = 0; number[i]; i++) {
        set_bit(atoi(number[i]), nodes.bits);
    }
    return nodes;
}

/* A range over all of the fake's pages. */
static HmNuma numa_for(const char *fast, const char *slow, size_t page_size,
                       unsigned huge_pages)
{
    return (HmNuma) {
        .ops = &fake_ops,
        .host = HOST,
        .pages = k.pages * (k.page_size / page_size),
        .page_size = page_size,
        .host_page_size = k.page_size,
        .huge_size = k.page_size * huge_pages,
        .nodes = { nodes_of(fast), nodes_of(slow) },
    };
}

static void start(HmNuma *n)
{
    g_autofree char *why = hm_numa_init(n);

    g_assert_cmpstr(why, ==, NULL);
    k.asks = k.asked = k.moves = k.named = k.collections = 0;
}

static uint64_t *pages_from(uint64_t first, size_t count)
{
    uint64_t *page = g_new(uint64_t, count);

    for (size_t i = 0; i < count; i++) {
        page[i] = first + i;
    }
    return page;
}

static void test_nodes_text(void)
{
    static const char *const row[][2] = {
        { "", "" },
        { "0", "0" },
        { "0,1,2", "0-2" },
        { "0,1,2,5", "0-2,5" },
        { "1,3", "1,3" },
        { "63,64", "63-64" },
        { "0,126,127", "0,126-127" },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        HmNodes nodes = nodes_of(row[i][0]);
        g_autofree char *text = hm_nodes_text(&nodes);

        g_assert_cmpstr(text, ==, row[i][1]);
    }
}

/* What init says. */

static void kernel_without(void)
{
    k.ask_errno = ENOSYS;
}

static void forbidden(void)
{
    k.ask_errno = EPERM;
}

static void strange(void)
{
    k.ask_errno = EIO;
}

static void in_cpuset(void)
{
    k.node[1].allowed = false;
}

static void without_memory(void)
{
    k.node[1].size_errno = ENODEV;
    k.node[1].free_errno = ENODEV;
}

static void unreadable(void)
{
    k.node[0].size_errno = EACCES;
    k.node[0].free_errno = EACCES;
}

static void free_unreadable(void)
{
    k.node[0].free_errno = EACCES;
}

static void test_init_errors(void)
{
    static const struct {
        const char *fast, *slow;
        void (*spoil)(void);
        const char *want;
    } row[] = {
        { "0", "1", NULL, NULL },
        { "0,2", "1", NULL, NULL },
        { "", "1", NULL, "fast-nodes: names no NUMA node" },
        { "0", "", NULL, "slow-nodes: names no NUMA node" },
        { "3", "1", NULL,
          "fast-nodes 3: the host has no such NUMA node; nodes with memory:"
          " 0-2" },
        { "0", "1,127", NULL,
          "slow-nodes 127: the host has no such NUMA node; nodes with memory:"
          " 0-2" },
        { "0", "1", without_memory,
          "slow-nodes 1: this NUMA node has no memory online; nodes with"
          " memory: 0,2" },
        { "0", "1,2", in_cpuset,
          "slow-nodes 1: not allowed to this process (cpuset); allowed: 0,2" },
        { "1", "2", in_cpuset,
          "fast-nodes 1: not allowed to this process (cpuset); allowed: 0,2" },
        { "0,1", "1,2", NULL,
          "slow-nodes 1: in fast-nodes, too; a node belongs to one of them" },
        { "0,1,2", "0,2", NULL,
          "slow-nodes 0,2: in fast-nodes, too; a node belongs to one of"
          " them" },
        { "0", "1", unreadable,
          "fast-nodes 0: cannot tell the size of this NUMA node: Permission"
          " denied" },
        { "0", "1", free_unreadable,
          "fast-nodes 0: cannot tell the size of this NUMA node: Permission"
          " denied" },
        { "0", "1", kernel_without,
          "fast-nodes, slow-nodes: this kernel has no move_pages(2)"
          " (CONFIG_NUMA and CONFIG_MIGRATION)" },
        { "0", "1", forbidden,
          "fast-nodes, slow-nodes: move_pages(2) is forbidden to this process"
          " (a container's or sandbox's seccomp filter)" },
        { "0", "1", strange,
          "fast-nodes, slow-nodes: move_pages(2) fails: Input/output error" },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        g_autofree char *why = NULL;
        HmNuma n;

        boot(SMALL, 8);
        n = numa_for(row[i].fast, row[i].slow, SMALL, 1);
        if (row[i].spoil) {
            row[i].spoil();
        }
        why = hm_numa_init(&n);
        g_assert_cmpstr(why, ==, row[i].want);
        g_assert_cmpuint(k.moves, ==, 0);
        hm_numa_destroy(&n);
        hm_numa_destroy(&n);
    }
}

static void test_init_others(void)
{
    g_autofree char *pool = NULL, *none = NULL, *large = NULL;
    HmNuma n = { 0 };

    none = hm_numa_init(&n);
    g_assert_cmpstr(none, ==, "fast-nodes, slow-nodes: this QEMU was built"
                    " without libnuma");
    boot(2 * MiB, 8);
    k.node[1].free_errno = ENOENT;
    n = numa_for("0", "1", SMALL, 1);
    pool = hm_numa_init(&n);
    g_assert_cmpstr(pool, ==, "slow-nodes 1: cannot tell how many huge pages"
                    " of 2048 KiB are free there: No such file or directory");

    boot(SMALL, 8);
    n = numa_for("0", "1", 2 * SMALL, 1);
    large = hm_numa_init(&n);
    g_assert_cmpstr(large, ==, "a page of the guest has 8192 bytes, one of"
                    " the host 4096: parts of it would move, not all");
}

/* Who may move what others map is found out, and forgotten when it is gone. */
static void test_privilege(void)
{
    for (int may = 0; may < 2; may++) {
        g_autofree uint64_t *page = pages_from(0, 1);
        HmNumaResult result;
        HmPlace place;
        HmNuma n;

        boot(SMALL, 2);
        k.may_move_all = may;
        set_node(0, 0);
        k.page[0].shared = true;
        n = numa_for("0", "1", SMALL, 1);
        start(&n);
        g_assert_cmpint(n.all, ==, may);
        hm_numa_move(&n, page, 1, N, &place, &result);
        g_assert_cmpint(k.flags, ==, may ? MF_MOVE_ALL : MF_MOVE);
        g_assert_cmpint(result, ==, may ? HM_NUMA_MOVED : HM_NUMA_PINNED);
        g_assert_cmpint(place, ==, may ? HM_PLACE_NVM : HM_PLACE_DRAM);

        k.may_move_all = false;
        k.page[0].shared = false;
        hm_numa_move(&n, page, 1, may ? D : N, &place, &result);
        g_assert_cmpint(result, ==, HM_NUMA_MOVED);
        g_assert_cmpint(k.flags, ==, MF_MOVE);
        g_assert_false(n.all);
        g_assert_cmpuint(n.calls, ==, may ? 3 : 2);
        hm_numa_destroy(&n);
    }
}

static void test_look(void)
{
    static const int node[] = {
        0, 1, 2, 3, ABSENT, ZERO_PAGE, NODES - 1, 0
    };
    static const HmPlace want[] = {
        HM_PLACE_DRAM, HM_PLACE_NVM, HM_PLACE_ELSEWHERE, HM_PLACE_NVM,
        HM_PLACE_ABSENT, HM_PLACE_ABSENT, HM_PLACE_ELSEWHERE, HM_PLACE_DRAM,
    };
    static const uint64_t page[] = { 7, 3, 4, 0, 1, 2, 6, 5, 3, 3 };
    HmPlace place[G_N_ELEMENTS(page)];
    HmNuma n;

    boot(SMALL, 8);
    add_node(3, 64);
    for (int i = 0; i < 8; i++) {
        set_node(i, node[i]);
    }
    n = numa_for("0", "1,3", SMALL, 8);
    start(&n);
    g_assert_cmpint(hm_numa_look(&n, page, G_N_ELEMENTS(page), place), ==, 0);
    for (int i = 0; i < G_N_ELEMENTS(page); i++) {
        g_assert_cmpint(place[i], ==, want[page[i]]);
    }
    g_assert_cmpint(hm_numa_look(&n, NULL, 0, NULL), ==, 0);
    g_assert_cmpuint(k.asks, ==, 1);
    k.ask_errno = EPERM;
    g_assert_cmpint(hm_numa_look(&n, page, 1, place), ==, -EPERM);
    hm_numa_destroy(&n);
}

/* More than goes into one call. */
static void test_many(void)
{
    const unsigned count = 10000;
    g_autofree uint64_t *page = pages_from(3, count);
    g_autofree HmPlace *place = g_new(HmPlace, count);
    g_autofree HmNumaResult *result = g_new(HmNumaResult, count);
    HmNuma n;

    boot(SMALL, count + 5);
    for (unsigned i = 0; i < k.pages; i++) {
        set_node(i, i % 3 ? 0 : ABSENT);
    }
    n = numa_for("0", "1", SMALL, 1);
    start(&n);
    g_assert_cmpint(hm_numa_look(&n, page, count, place), ==, 0);
    g_assert_cmpuint(k.asks, ==, 3);
    hm_numa_move(&n, page, count, N, place, result);
    g_assert_cmpuint(k.moves, ==, 3);
    g_assert_cmpuint(n.calls, ==, 3);
    g_assert_cmpuint(k.named, ==, k.node[1].used);
    /* By look, and before; of those that moved the kernel told. */
    g_assert_cmpuint(k.asked, ==, 2 * count);
    hm_numa_move(&n, page, count, N, place, result);
    g_assert_cmpuint(k.moves, ==, 3);
    g_assert_cmpuint(k.asked, ==, 3 * count);
    for (unsigned i = 0; i < count; i++) {
        bool absent = page[i] % 3 == 0;

        g_assert_cmpint(place[i], ==, absent ? HM_PLACE_ABSENT : HM_PLACE_NVM);
        g_assert_cmpint(result[i], ==, absent ? HM_NUMA_ABSENT
                                              : HM_NUMA_MOVED);
    }
    /* Not what was not named. */
    g_assert_cmpint(k.page[1].node, ==, 0);
    g_assert_cmpint(k.page[count + 3].node, ==, 0);
    hm_numa_destroy(&n);
}

/*
 * Pictures.  Where: a node, . absent, z the zero page.  Flags: p pinned,
 * s shared, b off the list.  Folios: neighbours with the same letter.
 * Results: M A P n F.
 */
typedef struct Picture {
    const char *where, *flags, *folios;
    const char *results, *after;
    unsigned moves, named, collections;
} Picture;

static void draw(const Picture *p)
{
    boot(SMALL, strlen(p->where));
    for (unsigned i = 0; i < k.pages; i++) {
        FakePage *page = &k.page[i];

        set_node(i, p->where[i] == '.' ? ABSENT :
                    p->where[i] == 'z' ? ZERO_PAGE : p->where[i] - '0');
        if (p->folios && i && p->folios[i] == p->folios[i - 1]) {
            page->head = page[-1].head;
        }
        if (p->flags) {
            page->pinned = p->flags[i] == 'p';
            page->shared = p->flags[i] == 's';
            page->off_list = p->flags[i] == 'b';
        }
    }
}

static HmPlace truth(unsigned page, const HmNuma *n)
{
    int node = k.page[page].node;

    return node < 0 ? HM_PLACE_ABSENT :
           node >= HM_NUMA_NODES ? HM_PLACE_ELSEWHERE :
           test_bit(node, n->nodes[D].bits) ? HM_PLACE_DRAM :
           test_bit(node, n->nodes[N].bits) ? HM_PLACE_NVM :
           HM_PLACE_ELSEWHERE;
}

/* Moves all to node 1. */
static void check_picture(const Picture *p, unsigned huge_pages, bool old,
                          bool folios)
{
    unsigned count = strlen(p->where);
    g_autofree uint64_t *page = pages_from(0, count);
    g_autofree HmPlace *place = g_new(HmPlace, count);
    g_autofree HmNumaResult *result = g_new(HmNumaResult, count);
    g_autofree char *results = g_strnfill(count, 0);
    g_autofree char *after = g_strnfill(count, 0);
    HmNuma n;

    g_test_message("%s, %s, %s", p->where, p->flags, p->folios);
    draw(p);
    k.there_is_no_cut = old;
    n = numa_for("0", "1", SMALL, huge_pages);
    start(&n);
    n.folios = folios;
    hm_numa_move(&n, page, count, N, place, result);
    for (unsigned i = 0; i < count; i++) {
        int node = k.page[i].node;

        results[i] = "MAPnF"[result[i]];
        after[i] = node == ABSENT ? '.' : node == ZERO_PAGE ? 'z' : '0' + node;
        g_assert_cmpint(place[i], ==, truth(i, &n));
        g_assert_false(k.page[i].isolated);
    }
    g_assert_cmpstr(results, ==, p->results);
    g_assert_cmpstr(after, ==, p->after);
    g_assert_cmpuint(k.moves, ==, p->moves);
    g_assert_cmpuint(k.named, ==, p->named);
    g_assert_cmpuint(k.collections, ==, p->collections);
    hm_numa_destroy(&n);
}

static void test_small_pages(void)
{
    static const Picture row[] = {
        { "0000", NULL, NULL, "MMMM", "1111", 1, 4, 1 },
        { "1111", NULL, NULL, "MMMM", "1111", 0, 0, 0 },
        { "....", NULL, NULL, "AAAA", "....", 0, 0, 0 },
        /* Only what can be taken is named. */
        { "01.z2", NULL, NULL, "MMAAM", "11.z1", 1, 2, 1 },
        { "0000", " p  ", NULL, "MPMM", "1011", 1, 4, 1 },
        { "0000", "pppp", NULL, "PPPP", "0000", 1, 4, 1 },
        { "0000", " s  ", NULL, "MPMM", "1011", 1, 4, 2 },
        { "0000", "ssss", NULL, "PPPP", "0000", 1, 4, 0 },
        /* It stops at the b: what comes after was not tried. */
        { "000000", "p  b  ", NULL, "PMMPMM", "011011", 2, 8, 2 },
        { "000000", "  pb  ", NULL, "MMPPMM", "110011", 2, 8, 2 },
        /* It does not stop at the first b, but the last page stays. */
        { "000000", "  b  p", NULL, "MMPMMP", "110110", 1, 6, 2 },
        { "0000", "bp  ", NULL, "PPMM", "0011", 1, 4, 1 },
        { "00000000", "pbpspb  ", NULL, "PPPPPPMM", "00000011", 4, 20, 4 },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        check_picture(&row[i], 1, false, false);
        check_picture(&row[i], 1, true, false);
    }
}

/* What may be huge pages of eight, where some were met the last time. */
static void test_folios(void)
{
    static const Picture row[] = {
        /* It needs to be named but once. */
        { "00000000", NULL, "aaaaaaaa", "MMMMMMMM", "11111111", 1, 1, 1 },
        { "0000000000000000", NULL, "aaaaaaaabbbbbbbb",
          "MMMMMMMMMMMMMMMM", "1111111111111111", 1, 2, 1 },
        /* Small pages: one, and then the rest. */
        { "00000000", NULL, NULL, "MMMMMMMM", "11111111", 2, 8, 2 },
        { "0.001.00", NULL, NULL, "MAMMMAMM", "1.111.11", 2, 5, 2 },
        /* Of both kinds. */
        { "000000000000000000000000", NULL, "aaaaaaaabcdefghijjjjjjjj",
          "MMMMMMMMMMMMMMMMMMMMMMMM", "111111111111111111111111", 2, 10, 2 },
        /* Smaller folios, found by what came along. */
        { "00000000", NULL, "aabbccdd", "MMMMMMMM", "11111111", 2, 4, 2 },
        { "00000000", NULL, "aaaabbbb", "MMMMMMMM", "11111111", 2, 2, 2 },
        { "00000000", NULL, "aaaabbcc", "MMMMMMMM", "11111111", 3, 4, 3 },
        { "00000000", NULL, "abbccddd", "MMMMMMMM", "11111111", 2, 8, 4 },
        /* What was there did not come along. */
        { "01110000", NULL, NULL, "MMMMMMMM", "11111111", 2, 5, 2 },
        { "11000000", NULL, "aabbccdd", "MMMMMMMM", "11111111", 2, 3, 2 },
        /* All pinned: tried at both ends. */
        { "00000000", "pppppppp", "aaaaaaaa", "PPPPPPPP", "00000000",
          2, 2, 2 },
        { "0000000000000000", "pppppppp        ", "aaaaaaaabbbbbbbb",
          "PPPPPPPPMMMMMMMM", "0000000011111111", 2, 3, 2 },
        /* A small page: the others move. */
        { "00000000", "p       ", NULL, "PMMMMMMM", "01111111", 3, 8, 3 },
        { "00000000", "   p    ", NULL, "MMMPMMMM", "11101111", 2, 8, 2 },
        { "00000000", "s       ", NULL, "PMMMMMMM", "01111111", 2, 8, 1 },
        { "00000000", "b  s   p", NULL, "PMMPMMMP", "01101110", 2, 8, 2 },
        /* A smaller folio. */
        { "00000000", "pppp    ", "aaaabbbb", "PPPPMMMM", "00001111",
          3, 5, 3 },
        { "00000000", "  pp    ", "aabbccdd", "MMPPMMMM", "11001111",
          2, 4, 2 },
        /* It ends its piece, and no other one. */
        { "0000000000000000", " pp             ", "abbccdddefghijkl",
          "MPPPPPPPMMMMMMMM", "1000000011111111", 3, 23, 3 },
        /* Shared as a whole. */
        { "00000000", "ssssssss", "aaaaaaaa", "PPPPPPPP", "00000000",
          2, 8, 0 },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        check_picture(&row[i], 8, false, true);
    }
}

/* Likewise, but none was met. */
static void test_folios_unexpected(void)
{
    static const Picture row[] = {
        { "00000000", NULL, NULL, "MMMMMMMM", "11111111", 1, 8, 1 },
        { "0.001.00", NULL, NULL, "MAMMMAMM", "1.111.11", 1, 5, 1 },
        { "00000000", "   p    ", NULL, "MMMPMMMM", "11101111", 1, 8, 1 },
        { "00000000", "b  s   p", NULL, "PMMPMMMP", "01101110", 1, 8, 2 },
        /* They move by the first page; the second is off the lists. */
        { "0000000000000000", NULL, "aaaaaaaabbbbbbbb",
          "MMMMMMMMMMMMMMMM", "1111111111111111", 1, 16, 2 },
        { "00000000", NULL, "aabbccdd", "MMMMMMMM", "11111111", 1, 8, 4 },
        /* Pinned: the second page tells that they are one. */
        { "0000000000000000", "pppppppp        ", "aaaaaaaabbbbbbbb",
          "PPPPPPPPMMMMMMMM", "0000000011111111", 2, 24, 2 },
        { "00000000", "ssssssss", "aaaaaaaa", "PPPPPPPP", "00000000",
          1, 8, 0 },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        check_picture(&row[i], 8, false, false);
    }
}

/* Moves pages [first, end) to node 1; calls of the kernel, pages named. */
static void check_calls(HmNuma *n, unsigned first, unsigned end,
                        unsigned moves, unsigned named)
{
    unsigned count = end - first;
    g_autofree uint64_t *page = pages_from(first, count);
    g_autofree HmPlace *place = g_new(HmPlace, count);
    g_autofree HmNumaResult *result = g_new(HmNumaResult, count);

    k.moves = k.named = 0;
    hm_numa_move(n, page, count, N, place, result);
    g_assert_cmpuint(k.moves, ==, moves);
    g_assert_cmpuint(k.named, ==, named);
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmpint(result[i], ==, HM_NUMA_MOVED);
    }
}

/* What was met the last time is expected. */
static void test_expectation(void)
{
    Picture p = { .where = "00000000000000000000000000000000",
                  .folios = "aaaaaaaabbbbbbbbcdefghijklmnopqr" };
    HmNuma n;

    draw(&p);
    n = numa_for("0", "1", SMALL, 8);
    start(&n);
    check_calls(&n, 0, 8, 1, 8);        /* unexpectedly, a folio */
    check_calls(&n, 8, 16, 1, 1);       /* another one */
    check_calls(&n, 16, 24, 2, 8);      /* none */
    check_calls(&n, 24, 32, 1, 8);
    hm_numa_destroy(&n);
}

/* The list begins, or ends, in the middle of a folio. */
static void test_part_of_folio(void)
{
    static const struct {
        const char *folios;
        unsigned first, count, named, moved;
    } row[] = {
        { "aaaaaaaa", 3, 2, 1, 8 },
        { "aaaabbbb", 1, 7, 2, 8 },
        { "aaaabbbb", 0, 5, 2, 8 },
        { "abcdefgh", 2, 4, 4, 4 },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        g_autofree uint64_t *page = pages_from(row[i].first, row[i].count);
        Picture p = { .where = "00000000", .folios = row[i].folios };
        HmNumaResult result[8];
        HmPlace place[8];
        HmNuma n;

        draw(&p);
        n = numa_for("0", "1", SMALL, 8);
        start(&n);
        n.folios = true;
        hm_numa_move(&n, page, row[i].count, N, place, result);
        for (int j = 0; j < row[i].count; j++) {
            g_assert_cmpint(place[j], ==, HM_PLACE_NVM);
            g_assert_cmpint(result[j], ==, HM_NUMA_MOVED);
        }
        g_assert_cmpuint(k.named, ==, row[i].named);
        g_assert_cmpint(k.node[1].used, ==, row[i].moved);
        hm_numa_destroy(&n);
    }
}

/* Huge pages that the kernel splits, because it has none for them. */
static void test_split(void)
{
    for (int grants = 0; grants <= 20; grants += 5) {
        Picture p = { .where = "0000000000000000",
                      .folios = "aaaaaaaabbbbbbbb" };
        g_autofree uint64_t *page = pages_from(0, 16);
        HmNumaResult result[16];
        HmPlace place[16];
        HmNuma n;

        draw(&p);
        n = numa_for("0", "1", SMALL, 8);
        start(&n);
        n.folios = true;
        k.splits = true;
        k.node[1].fragmented = true;
        k.node[1].grants = grants;
        hm_numa_move(&n, page, 16, N, place, result);
        for (int i = 0; i < 16; i++) {
            g_assert_cmpint(place[i], ==, truth(i, &n));
            g_assert_cmpint(result[i] == HM_NUMA_MOVED, ==,
                            place[i] == HM_PLACE_NVM);
        }
        g_assert_cmpint(k.node[1].used, ==, MIN(grants, 16));
        g_assert_cmpuint(k.moves, <=, 4);
        hm_numa_destroy(&n);
    }
}

/* Literal sizes; the last column is what may be used. */
static void test_reserve(void)
{
    static const struct {
        int64_t size, free, want;
    } row[] = {
        { 128 * MiB, 128 * MiB, 112 * MiB },
        { 128 * MiB, 17 * MiB, 1 * MiB },
        { 128 * MiB, 16 * MiB, 0 },
        { 128 * MiB, 3 * MiB, 0 },
        { 512 * MiB, 512 * MiB, 448 * MiB },
        { 1 * GiB, 1 * GiB, 1 * GiB - 64 * MiB },
        { 4 * GiB, 1 * GiB, 1 * GiB - 64 * MiB },
        { 64 * GiB, 10 * GiB, 9 * GiB },
        { 1 * TiB, 20 * GiB, 4 * GiB },
    };

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        HmNuma n;

        boot(SMALL, 8);
        add_node(1, row[i].size / SMALL);
        k.node[1].used = (row[i].size - row[i].free) / SMALL;
        add_node(2, 512 * MiB / SMALL);
        n = numa_for("0", "1", SMALL, 1);
        start(&n);
        g_assert_cmpuint(hm_numa_free(&n, N), ==, row[i].want);
        n.nodes[N] = nodes_of("1,2");
        g_assert_cmpuint(hm_numa_free(&n, N), ==,
                         row[i].want + (512 - 64) * MiB);
        k.node[1].free_errno = EACCES;
        g_assert_cmpuint(hm_numa_free(&n, N), ==, UINT64_MAX);
        hm_numa_destroy(&n);
    }
}

/* Eighty pages to a node of 64, eight of which are the reserve. */
static void check_brim(unsigned huge_pages, unsigned used, unsigned want)
{
    g_autofree uint64_t *page = pages_from(0, 80);
    HmNumaResult result[80];
    HmPlace place[80];
    HmNuma n;

    boot(SMALL, 80);
    for (int i = 0; i < 80; i++) {
        set_node(i, 0);
    }
    add_node(1, 64);
    k.node[1].used = used;
    n = numa_for("0", "1", SMALL, huge_pages);
    start(&n);
    hm_numa_move(&n, page, 80, N, place, result);
    for (int i = 0; i < 80; i++) {
        g_assert_cmpint(result[i], ==, i < want ? HM_NUMA_MOVED
                                                : HM_NUMA_NO_MEMORY);
        g_assert_cmpint(place[i], ==, i < want ? HM_PLACE_NVM : HM_PLACE_DRAM);
    }
    g_assert_cmpint(free_on(1), ==, 64 - used - want);
    g_assert_cmpint(k.node[1].least_free, >=, MIN(8, 64 - used));

    /* Out of a full node one can always. */
    hm_numa_move(&n, page, 80, D, place, result);
    for (int i = 0; i < 80; i++) {
        g_assert_cmpint(result[i], ==, HM_NUMA_MOVED);
    }
    hm_numa_destroy(&n);
}

static void test_brim(void)
{
    check_brim(1, 0, 56);
    check_brim(1, 55, 1);
    check_brim(1, 56, 0);
    check_brim(1, 60, 0);
    check_brim(1, 64, 0);
    /* No huge page is torn. */
    check_brim(8, 0, 56);
    check_brim(8, 1, 48);
    check_brim(8, 49, 0);
}

/* To whom has most room, and so to all alike. */
static void test_spread(void)
{
    g_autofree uint64_t *page = pages_from(0, 100);
    HmNumaResult result[100];
    HmPlace place[100];
    HmNuma n;

    boot(SMALL, 100);
    for (int i = 0; i < 100; i++) {
        set_node(i, 0);
    }
    add_node(1, 160);   /* 20 reserved: room for 140 */
    add_node(2, 80);    /* 10 reserved: room for 70 */
    add_node(3, 800);   /* 100 reserved: room for 10 */
    k.node[3].used = 690;
    n = numa_for("0", "1,2,3", SMALL, 1);
    start(&n);
    /* Room 140, 70, 10 becomes 70, 70, 10. */
    hm_numa_move(&n, page, 70, N, place, result);
    g_assert_cmpint(k.node[1].used, ==, 70);
    g_assert_cmpint(k.node[2].used, ==, 0);
    g_assert_cmpint(k.node[3].used, ==, 690);
    g_assert_cmpuint(k.moves, ==, 1);
    /* And then 55, 55, 10. */
    hm_numa_move(&n, page, 100, N, place, result);
    g_assert_cmpint(k.node[1].used, ==, 85);
    g_assert_cmpint(k.node[2].used, ==, 15);
    g_assert_cmpint(k.node[3].used, ==, 690);
    for (int i = 0; i < 100; i++) {
        g_assert_cmpint(result[i], ==, HM_NUMA_MOVED);
    }
    /* Nothing goes from one node of a tier to another. */
    hm_numa_move(&n, page, 100, N, place, result);
    g_assert_cmpuint(k.moves, ==, 3);
    hm_numa_destroy(&n);
}

/* The kernel has none, whatever it said: then the other node, or nowhere. */
static void test_no_memory(void)
{
    g_autofree uint64_t *page = pages_from(0, 16);
    HmNumaResult result[16];
    HmPlace place[16];

    for (int both = 0; both < 2; both++) {
        for (int huge = 1; huge <= 4; huge *= 4) {
            HmNuma n;

            boot(SMALL, 16);
            for (int i = 0; i < 16; i++) {
                set_node(i, 0);
            }
            add_node(2, 80);
            k.node[1].fragmented = true;
            k.node[2].fragmented = both;
            n = numa_for("0", "1,2", SMALL, huge);
            start(&n);
            hm_numa_move(&n, page, 16, N, place, result);
            for (int i = 0; i < 16; i++) {
                g_assert_cmpint(result[i], ==, both ? HM_NUMA_NO_MEMORY
                                                    : HM_NUMA_MOVED);
                g_assert_cmpint(k.page[i].node, ==, both ? 0 : 2);
                g_assert_cmpint(place[i], ==, both ? HM_PLACE_DRAM
                                                   : HM_PLACE_NVM);
            }
            g_assert_cmpuint(k.moves, <=, 4);
            hm_numa_destroy(&n);
        }
    }
}

/*
 * The first small page fits on node 1, the folio after it does not: its
 * second page is told to be busy, but goes to node 2 with the first.
 */
static void test_no_memory_in_folio(void)
{
    Picture p = { .where = "00000000", .folios = "abbcdefg" };
    g_autofree uint64_t *page = pages_from(0, 8);
    HmNumaResult result[8];
    HmPlace place[8];
    HmNuma n;

    draw(&p);
    n = numa_for("0", "1,2", SMALL, 8);
    start(&n);
    k.node[1].fragmented = true;
    k.node[1].grants = 1;
    hm_numa_move(&n, page, 8, N, place, result);
    for (int i = 0; i < 8; i++) {
        g_assert_cmpint(result[i], ==, HM_NUMA_MOVED);
        g_assert_cmpint(k.page[i].node, ==, i ? 2 : 1);
    }
    hm_numa_destroy(&n);
}

/* One of two nodes is forbidden: what goes to the other one goes on. */
static void test_one_forbidden(void)
{
    g_autofree uint64_t *page = pages_from(0, 32);
    HmNumaResult result[32];
    HmPlace place[32];
    HmNuma n;

    boot(SMALL, 32);
    for (int i = 0; i < 32; i++) {
        set_node(i, 0);
    }
    n = numa_for("0", "1,2", SMALL, 8);
    start(&n);
    k.node[1].allowed = false;
    hm_numa_move(&n, page, 32, N, place, result);
    for (int i = 0; i < 32; i++) {
        bool to_2 = i / 8 % 2;

        g_assert_cmpint(result[i], ==, to_2 ? HM_NUMA_MOVED : HM_NUMA_FAILED);
        g_assert_cmpint(k.page[i].node, ==, to_2 ? 2 : 0);
        g_assert_cmpint(place[i], ==, truth(i, &n));
    }
    g_assert_cmpint(n.error_errno, ==, EACCES);
    hm_numa_destroy(&n);
}

/* 2 MiB pages of a pool: each asked of and moved once, no reserve. */
static void test_hugetlb(void)
{
    const unsigned each = 2 * MiB / SMALL, count = 6 * each;
    g_autofree uint64_t *page = pages_from(0, count);
    g_autofree HmPlace *place = g_new(HmPlace, count);
    g_autofree HmNumaResult *result = g_new(HmNumaResult, count);
    static const HmNumaResult want[] = {
        HM_NUMA_MOVED, HM_NUMA_MOVED, HM_NUMA_ABSENT, HM_NUMA_PINNED,
        HM_NUMA_NO_MEMORY, HM_NUMA_NO_MEMORY,
    };
    HmNuma n;

    boot(2 * MiB, 6);
    for (int i = 0; i < 6; i++) {
        set_node(i, i == 2 ? ABSENT : 0);
    }
    k.page[3].pinned = true;
    add_node(1, 100);
    k.node[1].used = 97;
    n = numa_for("0", "1", SMALL, 1);
    start(&n);
    g_assert_cmpuint(hm_numa_free(&n, N), ==, 3 * 2 * MiB);
    g_assert_cmpint(hm_numa_look(&n, page + 7, count - 7, place), ==, 0);
    g_assert_cmpuint(k.asked, ==, 6);
    hm_numa_move(&n, page, count, N, place, result);
    g_assert_cmpuint(k.moves, ==, 1);
    g_assert_cmpuint(k.named, ==, 3);
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmpint(result[i], ==, want[i / each]);
        g_assert_cmpint(place[i], ==, truth(i / each, &n));
    }
    /* By one of its pages, which is not the first. */
    hm_numa_move(&n, page + 4 * each + 5, 1, N, place, result);
    g_assert_cmpint(result[0], ==, HM_NUMA_MOVED);
    g_assert_cmpint(k.page[4].node, ==, 1);
    g_assert_cmpuint(hm_numa_free(&n, N), ==, 0);
    hm_numa_destroy(&n);
}

static void test_errors(void)
{
    static const struct {
        int ask;
        unsigned asks_left;
        int move;
        bool forbidden;
        const char *what;
        int want;
        const char *results;
    } row[] = {
        { EPERM, 0, 0, false, "the kernel does not tell where pages are",
          EPERM, "FFFFFF" },
        /* Those that were named have moved, and it told of them. */
        { EPERM, 1, 0, false, "the kernel does not tell where pages are",
          EPERM, "MFMFMM" },
        { 0, 0, ENODEV, false, "the kernel refused to move pages", ENODEV,
          "FFFFFM" },
        { 0, 0, 0, true, "the kernel refused to move pages", EACCES,
          "FFFFFM" },
    };
    g_autofree uint64_t *page = pages_from(0, 6);

    for (int i = 0; i < G_N_ELEMENTS(row); i++) {
        HmNumaResult result[6];
        HmPlace place[6];
        HmNuma n;

        boot(SMALL, 6);
        for (int j = 0; j < 6; j++) {
            set_node(j, j == 5 ? 1 : 0);
            place[j] = HM_PLACE__MAX;
        }
        n = numa_for("0", "1", SMALL, 2);
        start(&n);
        n.folios = true;
        k.ask_errno = row[i].ask;
        k.asks_left = row[i].asks_left;
        k.move_errno = row[i].move;
        k.node[1].allowed = !row[i].forbidden;
        hm_numa_move(&n, page, 6, N, place, result);
        for (int j = 0; j < 6; j++) {
            bool blind = row[i].ask && !row[i].asks_left;
            bool there = row[i].results[j] == 'M';

            g_assert_cmpint(result[j], ==, there ? HM_NUMA_MOVED
                                                 : HM_NUMA_FAILED);
            g_assert_cmpint(place[j], ==,
                            blind ? HM_PLACE__MAX :
                            there ? HM_PLACE_NVM : HM_PLACE_DRAM);
        }
        g_assert_cmpstr(n.error, ==, row[i].what);
        g_assert_cmpint(n.error_errno, ==, row[i].want);
        g_assert_cmpuint(n.calls, <=, 1);
        hm_numa_destroy(&n);
    }
}

static void assert_policy(int mode, const char *nodes)
{
    g_autofree char *text = hm_nodes_text(&k.nodes);

    g_assert_true(k.addr == HOST);
    g_assert_cmpuint(k.len, ==, 8 * SMALL);
    g_assert_cmpint(k.mode, ==, mode);
    g_assert_cmpstr(text, ==, nodes ?: "");
    g_assert_cmpint(k.has_nodes, ==, nodes != NULL);
}

static void test_policy(void)
{
    HmNodes old;
    HmNuma n;

    boot(SMALL, 8);
    add_node(3, 16 * MANY);
    n = numa_for("0", "1,2,3", SMALL, 1);
    start(&n);
    g_assert_cmpint(hm_numa_prefer(&n, 0, n.pages, D), ==, 0);
    assert_policy(MODE_PREFERRED_MANY | STATIC_NODES, "0");
    g_assert_cmpint(hm_numa_prefer(&n, 0, n.pages, N), ==, 0);
    assert_policy(MODE_PREFERRED_MANY | STATIC_NODES, "1-3");

    old = nodes_of("0,2");
    g_assert_cmpint(hm_numa_restore(&n, MODE_BIND, &old), ==, 0);
    assert_policy(MODE_BIND, "0,2");
    g_assert_cmpint(hm_numa_restore(&n, MODE_PREFERRED, &old), ==, 0);
    assert_policy(MODE_PREFERRED_MANY, "0,2");
    g_assert_cmpint(hm_numa_restore(&n, MODE_DEFAULT, &old), ==, 0);
    assert_policy(MODE_DEFAULT, NULL);

    /* Before Linux 5.15: the one with most room. */
    k.many_errno = EINVAL;
    g_assert_cmpint(hm_numa_prefer(&n, 0, n.pages, N), ==, 0);
    assert_policy(MODE_PREFERRED | STATIC_NODES, "3");
    k.node[3].used = 15 * MANY;
    k.node[1].used = MANY;
    g_assert_cmpint(hm_numa_prefer(&n, 0, n.pages, N), ==, 0);
    assert_policy(MODE_PREFERRED | STATIC_NODES, "2");
    g_assert_cmpint(hm_numa_restore(&n, MODE_PREFERRED, &old), ==, 0);
    assert_policy(MODE_PREFERRED, "0,2");

    k.many_errno = EPERM;
    g_assert_cmpint(hm_numa_prefer(&n, 0, n.pages, N), ==, -EPERM);
    g_assert_cmpint(hm_numa_restore(&n, MODE_PREFERRED, &old), ==, -EPERM);
    k.many_errno = 0;
    k.mbind_errno = ENOMEM;
    g_assert_cmpint(hm_numa_prefer(&n, 0, n.pages, D), ==, -ENOMEM);
    g_assert_cmpint(hm_numa_restore(&n, MODE_BIND, &old), ==, -ENOMEM);
    hm_numa_destroy(&n);
}

/*
 * Anything at random: what is said agrees with the kernel, what was not named
 * stays, and what nothing hinders moves.
 */
#define R_PAGES 256
#define R_HUGE 16
#define ROUNDS_MAX 16   /* of numa.c */

static void random_layout(unsigned huge_pages)
{
    static const int64_t size[] = { 400, 64, 160, 300, 400 };

    boot(SMALL, R_PAGES);
    for (int i = 0; i < G_N_ELEMENTS(size); i++) {
        add_node(i, size[i]);
    }
    for (unsigned i = 0; i < R_PAGES;) {
        unsigned order = g_test_rand_int_range(0, 8);
        unsigned len = order > 4 ? 1 : 1 << order;
        int node = g_test_rand_int_range(-3, 5);

        while (i % len) {
            len /= 2;
        }
        if (huge_pages == 1) {
            len = 1;
        }
        if (node >= 0 && free_on(node) < len) {
            node = 0;
        }
        for (unsigned j = 0; j < len; j++, i++) {
            k.page[i].head = i - j;
            set_node(i, node < -2 ? ABSENT : node);
        }
    }
    k.there_is_no_cut = g_test_rand_bit();
    k.may_move_all = g_test_rand_bit();
}

/* Whole folios are pinned, and so on; the kernel looks at their heads. */
static void random_flags(unsigned out_of)
{
    for (unsigned i = 0; i < R_PAGES; i++) {
        unsigned head = k.page[i].head;
        int flag = out_of ? g_test_rand_int_range(0, out_of) : -1;

        if (head == i) {
            k.page[i].pinned = flag == 0;
            k.page[i].shared = flag == 1;
            k.page[i].off_list = flag == 2;
        } else {
            k.page[i].pinned = k.page[head].pinned;
            k.page[i].shared = k.page[head].shared;
            k.page[i].off_list = k.page[head].off_list;
        }
    }
}

static bool hindered(unsigned piece)
{
    for (unsigned i = piece * R_HUGE; i < (piece + 1) * R_HUGE; i++) {
        if (k.page[i].pinned || k.page[i].off_list ||
            (k.page[i].shared && !k.may_move_all)) {
            return true;
        }
    }
    return false;
}

/* The guest, or somebody, does things by itself. */
static void random_events(void)
{
    for (int i = 0; i < 5; i++) {
        unsigned head = k.page[g_test_rand_int_range(0, R_PAGES)].head;
        int node = g_test_rand_int_range(-2, 5);
        unsigned end = folio_end(head);

        if (node >= 0 && free_on(node) < end - head) {
            continue;
        }
        for (unsigned j = head; j < end; j++) {
            set_node(j, node);
        }
    }
}

typedef struct Batch {
    uint64_t page[R_PAGES];
    HmPlace place[R_PAGES];
    HmNumaResult result[R_PAGES];
    unsigned count;
    bool whole;                 /* all pages of each piece */
    bool named[R_PAGES];
} Batch;

static void random_batch(Batch *b)
{
    b->count = 0;
    b->whole = g_test_rand_bit();
    for (unsigned piece = 0; piece < R_PAGES / R_HUGE; piece++) {
        bool any = g_test_rand_bit();

        for (unsigned i = piece * R_HUGE; i < (piece + 1) * R_HUGE; i++) {
            b->named[i] = b->whole ? any : g_test_rand_bit();
            if (b->named[i]) {
                b->page[b->count++] = i;
            }
        }
    }
}

static bool folio_named(const Batch *b, unsigned page)
{
    for (unsigned i = k.page[page].head; k.page[i].head == k.page[page].head;
         i++) {
        if (b->named[i]) {
            return true;
        }
    }
    return false;
}

static void check_result(const HmNuma *n, const Batch *b, unsigned i,
                         HmTier tier, bool roomy)
{
    HmPlace is = truth(b->page[i], n);
    HmPlace goal = tier == D ? HM_PLACE_DRAM : HM_PLACE_NVM;

    g_assert_cmpint(b->place[i], ==, is);
    g_assert_cmpint(b->result[i] == HM_NUMA_MOVED, ==, is == goal);
    g_assert_cmpint(b->result[i] == HM_NUMA_ABSENT, ==,
                    is == HM_PLACE_ABSENT);
    g_assert_cmpint(b->result[i], !=, HM_NUMA_FAILED);
    if (b->result[i] == HM_NUMA_PINNED) {
        g_assert_true(hindered(b->page[i] / R_HUGE) ||
                      k.moves >= ROUNDS_MAX);
    }
    if (b->result[i] == HM_NUMA_NO_MEMORY) {
        g_assert_false(roomy);
    }
}

static void random_move(HmNuma *n)
{
    HmTier tier = g_test_rand_bit() ? D : N;
    int before[R_PAGES];
    bool roomy = false;
    int64_t free[5];
    Batch b;

    random_batch(&b);
    for (int i = 0; i < R_PAGES; i++) {
        before[i] = k.page[i].node;
    }
    for (int i = 0; i < 5; i++) {
        k.node[i].least_free = free[i] = free_on(i);
        if (test_bit(i, n->nodes[tier].bits)) {
            roomy |= free[i] - k.node[i].size / 8 >= R_PAGES;
        }
    }
    k.moves = 0;
    hm_numa_move(n, b.page, b.count, tier, b.place, b.result);
    g_assert_cmpuint(k.moves, <=, 2 * ROUNDS_MAX);
    for (unsigned i = 0; i < b.count; i++) {
        check_result(n, &b, i, tier, roomy);
    }
    for (int i = 0; i < R_PAGES; i++) {
        g_assert_false(k.page[i].isolated);
        if (k.page[i].node != before[i]) {
            g_assert_true(folio_named(&b, i));
            g_assert_true(test_bit(k.page[i].node, n->nodes[tier].bits));
        }
    }
    for (int i = 0; b.whole && i < 5; i++) {
        g_assert_cmpint(k.node[i].least_free, >=,
                        MIN(free[i], k.node[i].size / 8));
    }
}

static void test_property(void)
{
    for (int round = 0; round < 2000; round++) {
        unsigned huge_pages = g_test_rand_bit() ? R_HUGE : 1;
        HmNuma n;

        random_layout(huge_pages);
        n = numa_for("0,4", "1,2", SMALL, huge_pages);
        start(&n);
        for (int i = 0; i < 8; i++) {
            random_flags(g_test_rand_int_range(4, 60));
            random_move(&n);
            random_events();
        }
        /* Once nobody holds anything, it all goes. */
        random_flags(0);
        add_node(3, MANY);
        n.nodes[D] = nodes_of("3");
        {
            g_autofree uint64_t *page = pages_from(0, R_PAGES);
            HmNumaResult result[R_PAGES];
            HmPlace place[R_PAGES];
            unsigned used;

            for (unsigned i = used = 0; i < R_PAGES; i++) {
                used += k.page[i].node == 3;
            }
            k.node[3].used = used;
            hm_numa_move(&n, page, R_PAGES, D, place, result);
            for (unsigned i = 0; i < R_PAGES; i++) {
                g_assert_true(result[i] == HM_NUMA_MOVED ||
                              result[i] == HM_NUMA_ABSENT);
            }
        }
        hm_numa_destroy(&n);
    }
}

#ifdef CONFIG_NUMA

/* The real kernel, which is told that there is a node 1 if there is none. */

static int64_t pretended_size(int node)
{
    return node > 1 ? -ENOENT : hm_numa_system_ops->node_size(0);
}

static int64_t pretended_free(int node, size_t page_size)
{
    return node > 1 ? -ENOENT : hm_numa_system_ops->node_free(0, page_size);
}

static void pretended_allowed(HmNodes *nodes)
{
    *nodes = nodes_of("0,1");
}

#define REAL_PAGES 16

typedef struct Real {
    HmNumaOps ops;
    HmNuma n;
    uint64_t page[REAL_PAGES];
    HmPlace place[REAL_PAGES];
    HmNumaResult result[REAL_PAGES];
} Real;

static bool real_setup(Real *r)
{
    size_t size = qemu_real_host_page_size();
    g_autofree char *why = NULL;

    memset(r, 0, sizeof(*r));
    r->ops = *hm_numa_system_ops;
    r->ops.node_size = pretended_size;
    r->ops.node_free = pretended_free;
    r->ops.allowed = pretended_allowed;
    r->n = (HmNuma) {
        .ops = &r->ops,
        .pages = REAL_PAGES,
        .page_size = size,
        .host_page_size = size,
        .huge_size = size,
        .nodes = { nodes_of("0"), nodes_of("1") },
    };
    if (hm_numa_system_ops->node_size(0) <= 0 ||
        hm_numa_system_ops->node_size(1) > 0) {
        g_test_skip("not a host of one NUMA node");
        return false;
    }
    r->n.host = mmap(NULL, REAL_PAGES * size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(r->n.host != MAP_FAILED);
    madvise(r->n.host, REAL_PAGES * size, MADV_NOHUGEPAGE);
    for (int i = 0; i < REAL_PAGES; i++) {
        r->page[i] = i;
    }
    why = hm_numa_init(&r->n);
    if (why) {
        g_test_skip(why);
        munmap(r->n.host, REAL_PAGES * size);
        return false;
    }
    return true;
}

static void real_done(Real *r)
{
    munmap(r->n.host, REAL_PAGES * r->n.page_size);
    hm_numa_destroy(&r->n);
}

/* Even pages are written, one of the others is read. */
static void test_real_look(void)
{
    volatile uint8_t *host;     /* so that pages are really touched */
    Real r;

    if (!real_setup(&r)) {
        return;
    }
    host = r.n.host;
    g_assert_cmpint(hm_numa_look(&r.n, r.page, REAL_PAGES, r.place), ==, 0);
    for (int i = 0; i < REAL_PAGES; i++) {
        g_assert_cmpint(r.place[i], ==, HM_PLACE_ABSENT);
    }
    for (int i = 0; i < REAL_PAGES; i += 2) {
        host[i * r.n.page_size] = 1;
    }
    g_assert_cmpint(host[5 * r.n.page_size], ==, 0);
    g_assert_cmpint(hm_numa_look(&r.n, r.page, REAL_PAGES, r.place), ==, 0);
    for (int i = 0; i < REAL_PAGES; i++) {
        g_assert_cmpint(r.place[i], ==, i % 2 ? HM_PLACE_ABSENT
                                              : HM_PLACE_DRAM);
    }
    real_done(&r);
}

static void test_real_move(void)
{
    Real r;

    if (!real_setup(&r)) {
        return;
    }
    memset(r.n.host, 1, (REAL_PAGES - 1) * r.n.page_size);
    hm_numa_move(&r.n, r.page, REAL_PAGES, D, r.place, r.result);
    for (int i = 0; i < REAL_PAGES - 1; i++) {
        g_assert_cmpint(r.result[i], ==, HM_NUMA_MOVED);
        g_assert_cmpint(r.place[i], ==, HM_PLACE_DRAM);
    }
    g_assert_cmpint(r.result[REAL_PAGES - 1], ==, HM_NUMA_ABSENT);
    g_assert_cmpuint(r.n.calls, ==, 0);

    /* There is no such node. */
    hm_numa_move(&r.n, r.page, REAL_PAGES, N, r.place, r.result);
    for (int i = 0; i < REAL_PAGES - 1; i++) {
        g_assert_cmpint(r.result[i], ==, HM_NUMA_FAILED);
        g_assert_cmpint(r.place[i], ==, HM_PLACE_DRAM);
    }
    g_assert_cmpint(r.result[REAL_PAGES - 1], ==, HM_NUMA_ABSENT);
    g_assert_cmpuint(r.n.calls, ==, 1);
    g_assert_cmpint(r.n.error_errno, ==, ENODEV);
    real_done(&r);
}

/* As the kernel has it, for this address. */
static int real_policy(const void *addr, char **nodes)
{
    unsigned long all[1024 / BITS_PER_LONG] = { 0 };
    HmNodes some;
    int mode;

    g_assert_cmpint(get_mempolicy(&mode, all, 1025, (void *)addr,
                                  MPOL_F_ADDR), ==, 0);
    memcpy(some.bits, all, sizeof(some.bits));
    g_free(*nodes);
    *nodes = hm_nodes_text(&some);
    return mode;
}

static void test_real_policy(void)
{
    g_autofree char *nodes = NULL;
    HmNodes zero = nodes_of("0");
    Real r;
    int ret;

    if (!real_setup(&r)) {
        return;
    }
    ret = hm_numa_prefer(&r.n, 0, r.n.pages, D);
    if (ret == -EPERM || ret == -ENOSYS) {
        g_test_skip("mbind(2) is forbidden");
    } else {
        g_assert_cmpint(ret, ==, 0);
        ret = real_policy(r.n.host, &nodes);
        g_assert_true(ret == (MODE_PREFERRED_MANY | STATIC_NODES) ||
                      ret == (MODE_PREFERRED | STATIC_NODES));
        g_assert_cmpstr(nodes, ==, "0");
        g_assert_cmpint(hm_numa_restore(&r.n, MODE_BIND, &zero), ==, 0);
        g_assert_cmpint(real_policy(r.n.host, &nodes), ==, MODE_BIND);
        g_assert_cmpstr(nodes, ==, "0");
        g_assert_cmpint(hm_numa_restore(&r.n, MODE_DEFAULT, &zero), ==, 0);
        g_assert_cmpint(real_policy(r.n.host, &nodes), ==, MODE_DEFAULT);
    }
    real_done(&r);
}

static void test_real_nodes(void)
{
    const HmNumaOps *ops = hm_numa_system_ops;
    size_t page = qemu_real_host_page_size();
    HmNodes allowed = { { 0 } };
    int64_t size = ops->node_size(0);

    if (size <= 0) {
        g_test_skip("no NUMA node 0");
        return;
    }
    ops->allowed(&allowed);
    g_assert_cmpint(find_first_bit(allowed.bits, HM_NUMA_NODES), <,
                    HM_NUMA_NODES);
    g_assert_cmpint(size, >, 16 * MiB);
    g_assert_cmpint(size % KiB, ==, 0);
    g_assert_cmpint(ops->node_free(0, page), >, 0);
    g_assert_cmpint(ops->node_free(0, page), <, size);
    g_assert_cmpint(ops->node_size(127), ==, -ENOENT);
    g_assert_cmpint(ops->node_free(127, page), ==, -ENOENT);
    g_assert_cmpint(ops->node_free(0, 3 * page), ==, -ENOENT);
    if (access("/sys/devices/system/node/node0/hugepages/hugepages-2048kB",
               F_OK) == 0) {
        g_assert_cmpint(ops->node_free(0, 2 * MiB), >=, 0);
        g_assert_cmpint(ops->node_free(0, 2 * MiB) % (2 * MiB), ==, 0);
    }
}

#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/numa/nodes-text", test_nodes_text);
    g_test_add_func("/hybridmem/numa/init-errors", test_init_errors);
    g_test_add_func("/hybridmem/numa/init-others", test_init_others);
    g_test_add_func("/hybridmem/numa/privilege", test_privilege);
    g_test_add_func("/hybridmem/numa/look", test_look);
    g_test_add_func("/hybridmem/numa/many", test_many);
    g_test_add_func("/hybridmem/numa/small-pages", test_small_pages);
    g_test_add_func("/hybridmem/numa/folios", test_folios);
    g_test_add_func("/hybridmem/numa/folios-unexpected",
                    test_folios_unexpected);
    g_test_add_func("/hybridmem/numa/expectation", test_expectation);
    g_test_add_func("/hybridmem/numa/part-of-folio", test_part_of_folio);
    g_test_add_func("/hybridmem/numa/split", test_split);
    g_test_add_func("/hybridmem/numa/reserve", test_reserve);
    g_test_add_func("/hybridmem/numa/brim", test_brim);
    g_test_add_func("/hybridmem/numa/spread", test_spread);
    g_test_add_func("/hybridmem/numa/no-memory", test_no_memory);
    g_test_add_func("/hybridmem/numa/no-memory-in-folio",
                    test_no_memory_in_folio);
    g_test_add_func("/hybridmem/numa/one-forbidden", test_one_forbidden);
    g_test_add_func("/hybridmem/numa/hugetlb", test_hugetlb);
    g_test_add_func("/hybridmem/numa/errors", test_errors);
    g_test_add_func("/hybridmem/numa/policy", test_policy);
    g_test_add_func("/hybridmem/numa/property", test_property);
#ifdef CONFIG_NUMA
    g_test_add_func("/hybridmem/numa/real/look", test_real_look);
    g_test_add_func("/hybridmem/numa/real/move", test_real_move);
    g_test_add_func("/hybridmem/numa/real/policy", test_real_policy);
    g_test_add_func("/hybridmem/numa/real/nodes", test_real_nodes);
#endif
    return g_test_run();
}
