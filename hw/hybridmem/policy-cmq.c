/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RAMinate's corked multi-queue.
 *
 * Theory.  A block's level is log2 of the number n of windows in which it
 * was written.  Blocks of one level form a queue in the order of their last
 * write.  At each window the head of each queue loses a level while it was
 * not written for a life time; from the lowest level a dram block becomes a
 * victim, an nvm block is forgotten, both with n = 0.  Each time the cork
 * opens, nvm blocks, from the highest level and latest write down, are
 * paired with victims, the longest idle first.
 *
 * Where the paper leaves a choice: queues are aged from the lowest up, so a
 * block falls one level a window; a fall changes neither n nor the time of
 * the last write; with blocks of many pages, a block is written if one of
 * its pages is.
 *
 * Two departures: a plan looks at a limited number of queued blocks
 * (LOOK_*), as the queues also hold the hot blocks of dram; and a victim
 * that could not be moved goes to the end of the victims' queue.
 */
#include "qemu/osdep.h"
#include "policy-internal.h"
#include "hw/hybridmem/bigmem.h"
#include "hw/hybridmem/dirty.h"

#define LEVELS 8

/*
 * Bounds the time of a plan to some milliseconds, yet finds what RAMinate's
 * 1000 pairs need if one in 64 queued blocks is in nvm.
 */
#define LOOK_PER_PAIR 64
#define LOOK_MIN 65536

/* No queue must be 0: most nodes are never touched and stay zero. */
enum {
    QUEUE_NONE,
    QUEUE_VICTIM,
    QUEUE_0,
    QUEUE__MAX = QUEUE_0 + LEVELS,
};

#define WRITES_MAX ((1u << 28) - 1)

/* 16 bytes a block.  Links are block + 1, 0 ends. */
typedef struct Node {
    uint32_t prev;
    uint32_t next;
    uint32_t last;              /* ms of the policy's time, modulo 2^32 */
    uint32_t queue:4;
    uint32_t writes:28;         /* windows in which it was written */
} Node;

typedef struct Queue {
    uint32_t head;
    uint32_t tail;
} Queue;

typedef struct HmCmq {
    HmPolicy parent;
    uint32_t blocks;
    Node *node;
    Queue queue[QUEUE__MAX];
    uint32_t now;               /* ms, modulo 2^32 */
    uint64_t corked_ms;         /* since the cork was last open */
} HmCmq;

static HmCmq *cmq_of(HmPolicy *p)
{
    return container_of(p, HmCmq, parent);
}

static Node *node_at(HmCmq *c, uint32_t link)
{
    return link ? &c->node[link - 1] : NULL;
}

static void queue_remove(HmCmq *c, uint32_t block)
{
    Node *n = &c->node[block];
    Queue *q = &c->queue[n->queue];

    if (n->queue == QUEUE_NONE) {
        return;
    }
    *(n->prev ? &node_at(c, n->prev)->next : &q->head) = n->next;
    *(n->next ? &node_at(c, n->next)->prev : &q->tail) = n->prev;
    n->prev = n->next = 0;
    n->queue = QUEUE_NONE;
}

/* Moves @block to the tail of @queue. */
static void queue_append(HmCmq *c, uint32_t block, unsigned queue)
{
    Node *n = &c->node[block];
    Queue *q = &c->queue[queue];

    queue_remove(c, block);
    n->prev = q->tail;
    *(q->tail ? &node_at(c, q->tail)->next : &q->head) = block + 1;
    q->tail = block + 1;
    n->queue = queue;
}

static bool in_dram(const HmCmq *c, uint32_t block)
{
    return hm_frames_tier_of(c->parent.frames, block) == HM_TIER_DRAM;
}

static void written(HmCmq *c, uint32_t block)
{
    Node *n = &c->node[block];
    unsigned level;

    n->writes = MIN(n->writes + 1, WRITES_MAX);
    n->last = c->now;
    level = 31 - clz32(n->writes);
    queue_append(c, block, QUEUE_0 + MIN(level, LEVELS - 1));
}

static void fall(HmCmq *c, uint32_t block)
{
    Node *n = &c->node[block];

    if (n->queue > QUEUE_0) {
        queue_append(c, block, n->queue - 1);
        return;
    }
    n->writes = 0;
    if (in_dram(c, block)) {
        queue_append(c, block, QUEUE_VICTIM);
    } else {
        queue_remove(c, block);
    }
}

static void age_queues(HmCmq *c)
{
    for (unsigned q = QUEUE_0; q < QUEUE__MAX; q++) {
        uint32_t head;

        while ((head = c->queue[q].head) &&
               (uint32_t)(c->now - node_at(c, head)->last) >
               c->parent.params.cmq_lifetime_ms) {
            fall(c, head - 1);
        }
    }
}

static HmPolicy *cmq_create(const HmFrames *frames, const HmHeat *heat,
                            const HmAccess *access)
{
    HmCmq *c = g_new0(HmCmq, 1);
    uint32_t dram = hm_frames_tier_blocks(frames, HM_TIER_DRAM);

    c->blocks = hm_frames_blocks(frames);
    c->node = hm_bigmem_new((size_t)c->blocks * sizeof(Node));
    for (uint32_t i = 0; i < dram; i++) {
        uint32_t frame = hm_frames_tier_frame(frames, HM_TIER_DRAM, i);

        queue_append(c, hm_frames_block_in(frames, frame), QUEUE_0);
    }
    return &c->parent;
}

static void cmq_destroy(HmPolicy *p)
{
    HmCmq *c = cmq_of(p);

    hm_bigmem_free(c->node, (size_t)c->blocks * sizeof(Node));
    g_free(c);
}

static void cmq_observe(HmPolicy *p, const HmWindow *w)
{
    HmCmq *c = cmq_of(p);
    HmDirtyIter it;
    size_t n;

    c->now += w->elapsed_ms;
    c->corked_ms += w->elapsed_ms;
    hm_dirty_init(&it, w->seen, hm_heat_pages(p->heat),
                  hm_heat_pages_per_block(p->heat));
    while ((n = hm_dirty_next(&it))) {
        for (size_t i = 0; i < n; i++) {
            if (i + HM_DIRTY_AHEAD < n) {
                __builtin_prefetch(&c->node[it.block[i + HM_DIRTY_AHEAD]], 1);
            }
            written(c, it.block[i]);
        }
    }
    age_queues(c);
}

/* The longest idle block that is in dram; leaves its queue.  Or NONE. */
static uint32_t take_victim(HmCmq *c)
{
    uint32_t head;

    while ((head = c->queue[QUEUE_VICTIM].head)) {
        queue_remove(c, head - 1);
        if (in_dram(c, head - 1)) {
            return head - 1;
        }
    }
    return HM_BLOCK_NONE;
}

static size_t cmq_plan(HmPolicy *p, HmMove *plan, size_t max)
{
    HmCmq *c = cmq_of(p);
    uint64_t look;
    size_t n = 0;

    if (c->corked_ms < p->params.cmq_cork_ms || max == 0) {
        return 0;
    }
    c->corked_ms = 0;
    max = MIN(max, p->params.cmq_max_pairs);
    look = MAX((uint64_t)max * LOOK_PER_PAIR, LOOK_MIN);
    for (unsigned q = QUEUE__MAX - 1; q >= QUEUE_0; q--) {
        uint32_t link = c->queue[q].tail;

        for (; link; link = node_at(c, link)->prev) {
            uint32_t victim;

            if (n == max || look-- == 0) {
                return n;
            }
            if (in_dram(c, link - 1)) {
                continue;
            }
            victim = take_victim(c);
            if (victim == HM_BLOCK_NONE) {
                return n;
            }
            plan[n++] = (HmMove) { .promote = link - 1, .demote = victim };
        }
    }
    return n;
}

/* Every dram block must be in some queue, or it would never be a victim. */
static void adopt(HmCmq *c, uint32_t block, unsigned queue)
{
    if (in_dram(c, block) && c->node[block].queue == QUEUE_NONE) {
        c->node[block].last = c->now;
        queue_append(c, block, queue);
    }
}

static void cmq_moved(HmPolicy *p, const HmMove *move, HmMoveResult result)
{
    HmCmq *c = cmq_of(p);

    adopt(c, move->promote, QUEUE_0);
    adopt(c, move->demote, QUEUE_VICTIM);
}

static size_t cmq_bytes(const HmPolicy *p)
{
    const HmCmq *c = container_of(p, HmCmq, parent);

    return sizeof(*c) + (size_t)c->blocks * sizeof(Node);
}

const HmPolicyOps hm_policy_cmq = {
    .name = "cmq",
    .create = cmq_create,
    .destroy = cmq_destroy,
    .observe = cmq_observe,
    .plan = cmq_plan,
    .moved = cmq_moved,
    .bytes = cmq_bytes,
};
