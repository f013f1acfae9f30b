/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host kernel's NUMA placement of one range of this process: look where
 * pages are, move them between two sets of nodes, say where new ones go.
 *
 * A tier is a set of nodes.  All that has a side effect goes through ops.
 * Not thread-safe.  Knows nothing of QEMU, blocks or policies; pages are
 * numbered from the start of the range, in units of @page_size.
 */
#ifndef HW_HYBRIDMEM_NUMA_H
#define HW_HYBRIDMEM_NUMA_H

#include <sys/types.h>
#include "hw/hybridmem/residency.h"

/* As QEMU's MAX_NODES. */
#define HM_NUMA_NODES 128

typedef struct HmNodes {
    unsigned long bits[HM_NUMA_NODES / (8 * sizeof(unsigned long))];
} HmNodes;

typedef struct HmNumaOps {
    /*
     * As move_pages(2) of this process: @nodes NULL asks only.  Returns its
     * result, or a negative errno.
     */
    long (*move_pages)(unsigned long count, void **pages, const int *nodes,
                       int *status, int flags);
    /* As mbind(2); 0 or a negative errno. */
    int (*mbind)(void *addr, size_t len, int mode, const HmNodes *nodes,
                 unsigned flags);
    /*
     * Bytes that could be allocated on @node as pages of @page_size now (a
     * huge page comes from its pool only); negative errno if it has no
     * memory, or does not exist.
     */
    int64_t (*node_free)(int node, size_t page_size);
    /* All of the memory of @node, bytes; likewise. */
    int64_t (*node_size)(int node);
    /* Nodes on which this process may allocate (cpuset). */
    void (*allowed)(HmNodes *nodes);
    /* Reads what is in the page table; false if nothing is.  May be NULL. */
    bool (*touch)(void *addr, size_t len);
} HmNumaOps;

/* The system's own; NULL if QEMU was built without libnuma. */
extern const HmNumaOps *const hm_numa_system_ops;

/*
 * What became of a page that was to move.
 *
 * MOVED      it is on the tier now (or was)
 * ABSENT     not in the page table: nothing to move
 * PINNED     somebody holds it or its huge page, or another process maps it
 *            and we may not move such pages; worth a try another time
 * NO_MEMORY  no free memory on the tier's nodes
 * FAILED     HmNuma.error says why; no use in going on
 */
typedef enum HmNumaResult {
    HM_NUMA_MOVED,
    HM_NUMA_ABSENT,
    HM_NUMA_PINNED,
    HM_NUMA_NO_MEMORY,
    HM_NUMA_FAILED,
    HM_NUMA__MAX,
} HmNumaResult;

typedef struct HmNuma {
    const HmNumaOps *ops;
    uint8_t *host;              /* where page 0 is mapped */
    uint64_t pages;
    size_t page_size;           /* of a page in this interface, bytes */
    size_t host_page_size;      /* what the kernel allocates, >= page_size */
    size_t huge_size;           /* what may move at once (THP), or the same */
    HmNodes nodes[HM_TIER__MAX];
    bool all;                   /* may move pages that others map, too */
    bool folios;                /* the last time, pages moved with others */
    uint64_t calls;             /* of move_pages with nodes */
    const char *error;          /* what failed last; static */
    int error_errno;            /* or 0 */
    void *scratch;              /* private */
} HmNuma;

/*
 * @n: the caller has set ops, host, pages, page sizes and nodes; the rest is
 * zero.  Returns NULL, or a sentence that says which set of nodes cannot be
 * used and why, such as "fast-nodes 3: not allowed to this process (cpuset);
 * allowed: 0-1".  It is to be freed.
 */
char *hm_numa_init(HmNuma *n);
void hm_numa_destroy(HmNuma *n);

/* "0-2,5"; to be freed. */
char *hm_nodes_text(const HmNodes *nodes);

/*
 * Asks the kernel where the @n_pages @page numbers (any order) are.
 * 0, or a negative errno; then @place is not, or not all, filled in.
 */
int hm_numa_look(HmNuma *n, const uint64_t *page, size_t n_pages,
                 HmPlace *place);

/*
 * On some kernels (seen on Linux 6.1) pages that automatic NUMA balancing has
 * marked seem to be absent until they are accessed, and do not move.  Once
 * the range has a policy of its own no more are marked.  Uncovers those of
 * @n_pages from @page on; true if it is worth to look again.
 */
bool hm_numa_uncover(HmNuma *n, uint64_t page, uint64_t n_pages);

/*
 * Moves pages to @tier: to its nodes with most room, and only while each
 * keeps a reserve free, so that the kernel need not reclaim.  Afterwards
 * @place tells where each page is, as the kernel says, and @result why; if
 * not even that can be learned (HM_NUMA_FAILED), @place may be left as it was.
 * A huge page moves, or stays, as a whole, even if only one of its pages is
 * named; name them all, in ascending order, for the room to be reckoned right.
 * Blocks for as long as the kernel copies; the caller sizes the batch.  Each
 * call of the kernel disturbs all processors, so small ones are dear.
 */
void hm_numa_move(HmNuma *n, const uint64_t *page, size_t n_pages,
                  HmTier tier, HmPlace *place, HmNumaResult *result);

/*
 * Bytes that @tier's nodes have free beyond their reserves; UINT64_MAX if that
 * cannot be read (any more).
 */
uint64_t hm_numa_free(HmNuma *n, HmTier tier);

/*
 * From now on pages [page, page + n_pages) that are touched for the first
 * time are allocated on @first's nodes while there is room, else anywhere
 * (never OOM).  Sets a policy of the range's own, which keeps automatic NUMA
 * balancing away.  Multiples of @host_page_size.  0 or a negative errno.
 */
int hm_numa_prefer(HmNuma *n, uint64_t page, uint64_t n_pages, HmTier first);

/*
 * Gives the range policy @mode (MPOL_*) over @nodes (NULL for those modes that
 * have none), as a memory backend does it.  0 or a negative errno.
 */
int hm_numa_restore(HmNuma *n, int mode, const HmNodes *nodes);

#endif
