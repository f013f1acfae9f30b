/*
 * A power-law graph, its PageRank and its breadth-first searches:
 *
 *   graph make FILE SCALE DEGREE SEED
 *   graph run FILE KERNEL ITERATIONS SOURCES SEED
 *   graph verify FILE
 *
 * make: an R-MAT graph (Chakrabarti, Zhan and Faloutsos 2004) of 2^SCALE
 * vertices and DEGREE edges for each, with the parameters of the Graph500
 * benchmark.  Edges are undirected, several may join the same two vertices,
 * none joins a vertex with itself.  Vertices are numbered as a bijection
 * scatters them, so that those of high degree lie anywhere.
 *
 * run: KERNEL is "pagerank" (ITERATIONS more of them), "bfs" (a search from
 * each of SOURCES random vertices) or "both", one after the other.  Operations
 * are edges looked at.
 *
 * Ranks are integers: fractions of TOTAL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "lines.h"

#define TOTAL (1ull << 52)      /* so that 85 times it fits in 64 bits */
#define UNREACHED UINT32_MAX

typedef struct Head {
    uint32_t scale, degree;
    uint64_t searched;          /* depths of all searches, folded */
    uint32_t source;            /* of the last search */
} Head;

/*
 * Compressed sparse rows: the neighbours of v are
 * edge[first[v]] to edge[first[v + 1] - 1].
 */
typedef struct Graph {
    Head *head;
    uint32_t nr;                /* of vertices */
    uint64_t *rank, *share;
    uint32_t *first, *depth, *queue, *edge;
} Graph;

/* The file */

static uint64_t bytes_of(uint32_t scale, uint32_t degree)
{
    uint64_t nr = 1ull << scale;

    return GUEST_PAGE + nr * (2 * sizeof(uint64_t) + 3 * sizeof(uint32_t) +
                              2 * degree * sizeof(uint32_t)) + GUEST_PAGE;
}

static Graph lay_out(Head *head)
{
    Graph g = { .head = head, .nr = 1u << head->scale };

    g.rank = (void *)((char *)head + GUEST_PAGE);
    g.share = g.rank + g.nr;
    g.depth = (void *)(g.share + g.nr);
    g.queue = g.depth + g.nr;
    g.first = g.queue + g.nr;
    g.edge = g.first + g.nr + GUEST_PAGE / sizeof(*g.first);
    return g;
}

static uint32_t degree_of(const Graph *g, uint32_t v)
{
    return g->first[v + 1] - g->first[v];
}

/* Making it */

static uint32_t scattered(uint32_t v, uint32_t scale)
{
    uint32_t mask = (1u << scale) - 1;

    for (int round = 0; round < 3; round++) {
        v = (v * 0x9e3779b1u + 0x7f4a7c15u) & mask;
        v ^= v >> (scale / 2 + 1);
    }
    return v;
}

/* One of four quadrants, again and again: 57, 19, 19 and 5 % of 2^16. */
static void draw_edge(uint32_t scale, uint32_t *u, uint32_t *v)
{
    enum { A = 37356, AB = 49807, ABC = 62259 };
    uint64_t bits = 0;

    *u = *v = 0;
    for (uint32_t level = 0; level < scale; level++) {
        uint32_t at;

        bits = level % 4 ? bits >> 16 : guest_mix(random_state++);
        at = bits & 0xffff;
        *u = *u << 1 | (at >= AB);
        *v = *v << 1 | ((at >= A && at < AB) || at >= ABC);
    }
    *u = scattered(*u, scale);
    *v = scattered(*v, scale);
}

/* Twice the same edges: first to count those of each vertex. */
static void for_edges(Graph *g, uint64_t seed,
                      void (*visit)(Graph *, uint32_t, uint32_t))
{
    random_state = seed << 32;
    for (uint64_t i = 0; i < (uint64_t)g->head->degree * g->nr; i++) {
        uint32_t u, v;

        draw_edge(g->head->scale, &u, &v);
        if (u != v) {
            visit(g, u, v);
            visit(g, v, u);
        }
    }
}

static void count_edge(Graph *g, uint32_t u, uint32_t v)
{
    g->first[u + 1]++;
}

/* The queue says where the next neighbour belongs. */
static void add_edge(Graph *g, uint32_t u, uint32_t v)
{
    g->edge[g->queue[u]++] = v;
}

static void make(Graph *g, uint64_t seed)
{
    for_edges(g, seed, count_edge);
    for (uint32_t v = 0; v < g->nr; v++) {
        g->first[v + 1] += g->first[v];
        g->queue[v] = g->first[v];
        g->rank[v] = TOTAL / g->nr;
        g->depth[v] = UNREACHED;
    }
    for_edges(g, seed, add_edge);
}

/* The kernels: both return how many edges they looked at. */

static uint64_t pagerank(Graph *g)
{
    for (uint32_t v = 0; v < g->nr; v++) {
        uint32_t degree = degree_of(g, v);

        g->share[v] = degree ? g->rank[v] / degree : 0;
    }
    for (uint32_t v = 0; v < g->nr; v++) {
        uint64_t sum = 0;

        for (uint32_t i = g->first[v]; i < g->first[v + 1]; i++) {
            sum += g->share[g->edge[i]];
        }
        g->rank[v] = TOTAL / g->nr * 15 / 100 + sum * 85 / 100;
    }
    return g->first[g->nr];
}

static uint64_t search(Graph *g, uint32_t source)
{
    uint32_t begin = 0, end = 0;
    uint64_t looked = 0;

    memset(g->depth, 0xff, g->nr * sizeof(*g->depth));
    g->depth[source] = 0;
    g->queue[end++] = source;
    while (begin < end) {
        uint32_t u = g->queue[begin++];

        for (uint32_t i = g->first[u]; i < g->first[u + 1]; i++) {
            uint32_t v = g->edge[i];

            if (g->depth[v] == UNREACHED) {
                g->depth[v] = g->depth[u] + 1;
                g->queue[end++] = v;
            }
        }
        looked += degree_of(g, u);
    }
    return looked;
}

static uint64_t fold(uint64_t sum, const void *data, uint64_t bytes)
{
    const uint64_t *word = data;

    for (uint64_t i = 0; i < bytes / sizeof(*word); i++) {
        sum = guest_mix(sum ^ word[i]);
    }
    return sum;
}

static uint32_t random_source(const Graph *g)
{
    uint32_t v;

    do {
        v = random_below(g->nr);
    } while (!degree_of(g, v));
    return v;
}

static void run(Graph *g, uint64_t iterations, uint64_t sources, uint64_t seed)
{
    uint64_t ops = 0;

    random_state = seed << 32;
    for (uint64_t i = 0; i < iterations; i++) {
        ops += pagerank(g);
    }
    for (uint64_t i = 0; i < sources; i++) {
        g->head->source = random_source(g);
        ops += search(g, g->head->source);
        g->head->searched = fold(g->head->searched, g->depth,
                                 g->nr * sizeof(*g->depth));
    }
    printf("ops=%" PRIu64 "\n", ops);
}

/* Checks */

/* Whether v's depth is right if those of its neighbours are. */
static bool depth_is_right(const Graph *g, uint32_t v)
{
    uint32_t nearest = UNREACHED;

    for (uint32_t i = g->first[v]; i < g->first[v + 1]; i++) {
        uint32_t depth = g->depth[g->edge[i]];

        nearest = depth < nearest ? depth : nearest;
    }
    return g->depth[v] == (v == g->head->source ? 0 :
                           nearest == UNREACHED ? UNREACHED : nearest + 1);
}

static void verify(const Graph *g)
{
    bool searched = g->head->searched;
    uint64_t ranks = 0, sum;

    for (uint32_t v = 0; v < g->nr; v++) {
        ranks += g->rank[v];
        if (searched && !depth_is_right(g, v)) {
            errx(1, "the depth of vertex %u is wrong", v);
        }
    }
    if (ranks > TOTAL || ranks < TOTAL * 15 / 100 - g->nr) {
        errx(1, "the ranks are wrong");
    }
    sum = fold(g->head->searched, g->rank, g->nr * sizeof(*g->rank));
    sum = fold(sum, g->edge, g->first[g->nr] * sizeof(*g->edge));
    printf("checksum=%016" PRIx64 "\n", sum);
}

static Graph create(const char *path, uint32_t scale, uint32_t degree)
{
    Head *head = (void *)open_buffer(path, bytes_of(scale, degree)).line;

    *head = (Head) { .scale = scale, .degree = degree };
    return lay_out(head);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";
    const char *kernel = argc == 7 ? argv[3] : "";
    uint64_t number[3] = { 0 };
    Graph g;

    for (int i = argc - 1; i > 2 && argc - 1 - i < 3; i--) {
        number[2 - (argc - 1 - i)] = strtoull(argv[i], NULL, 0);
    }
    if (!strcmp(verb, "make") && number[0] >= 10 && number[0] <= 24) {
        g = create(argv[2], number[0], number[1]);
        make(&g, number[2]);
    } else if (!strcmp(verb, "run") && *kernel) {
        g = lay_out((void *)open_buffer(argv[2], 0).line);
        run(&g, strcmp(kernel, "bfs") ? number[0] : 0,
            strcmp(kernel, "pagerank") ? number[1] : 0, number[2]);
    } else if (!strcmp(verb, "verify")) {
        g = lay_out((void *)open_buffer(argv[2], 0).line);
        verify(&g);
    } else {
        errx(1, "usage: see graph.c");
    }
    return 0;
}
