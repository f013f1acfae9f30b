/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the numa mover share: a guest on an ordinary memory
 * backend of HMT_RAM, and where its pages are by the word of the host's
 * kernel, read from outside of QEMU.
 */
#ifndef HYBRIDMEM_NUMA_UTIL_H
#define HYBRIDMEM_NUMA_UTIL_H

#include "hybridmem-util.h"

/* The least machine that has RAM, and a CPU for qtest. */
#define HMN_MACHINE "-machine none -cpu qemu64,apic-id=0"

/* How much of the guest may lie in DRAM, if the test says nothing else. */
#define HMN_FAST (4 * MiB)

/* The host's first two NUMA nodes with memory; the first has the CPUs. */
extern unsigned hmn_fast, hmn_slow;

/* Whether there are two; if not, the case @path is added, which is skipped. */
bool hmn_have_nodes(const char *path);

/*
 * Starts a guest on @backend, the options of a memory backend "r" without
 * its id and size ("memory-backend-ram"), with @engine, the options of an
 * engine "hm0" on it (NULL: no engine), and @extra arguments; HMN_MACHINE
 * if they name no other.
 */
HmTest *hmn_start(const char *backend, const char *engine, const char *extra);
HmTest *hmn_start_in(char *dir, const char *backend, const char *engine,
                     const char *extra);

/* Options of an engine @id on @memdev; to be freed. */
char *hmn_engine(const char *id, const char *memdev, const char *options);

/* By object-add and object-del. */
void hmn_attach(QTestState *qts, const char *memdev, const char *policy);
void hmn_detach(QTestState *qts);

/*
 * Fills all of RAM from outside, so that the dirty log does not know, and the
 * model; compares what the guest sees with it.
 */
void hmn_fill(HmTest *t);
void hmn_assert_equal(HmTest *t);
/* In another guest's memory; from @addr on. */
void hmn_assert_equal_in(HmTest *t, QTestState *qts);
void hmn_assert_equal_above(HmTest *t, uint64_t addr);

/* --- from outside ------------------------------------------------------ */

/* Where guest address @addr lies in QEMU's memory. */
uint64_t hmn_host(QTestState *qts, uint64_t addr);

/* The node of the page at @addr; negative errno, -ENOENT if it has none. */
int hmn_node(QTestState *qts, uint64_t addr);

/*
 * How many of the @n pages from @addr on, each @step after the last, are on
 * @node.
 */
unsigned hmn_count(QTestState *qts, uint64_t addr, unsigned n, uint64_t step,
                   int node);

/*
 * How many of the @n pages from @addr on are of transparent huge pages; false:
 * only root is told.
 */
bool hmn_count_huge(QTestState *qts, uint64_t addr, unsigned n,
                    unsigned *huge);

/* How many of them are not in QEMU's page table. */
unsigned hmn_absent(QTestState *qts, uint64_t addr, unsigned n,
                    uint64_t step);

typedef struct HmnSpread {
    uint64_t fast, slow, other;         /* bytes */
    char policy[64];                    /* of the first page */
} HmnSpread;

/* By /proc/PID/numa_maps. */
HmnSpread hmn_spread(QTestState *qts, uint64_t addr, uint64_t size);
HmnSpread hmn_spread_all(QTestState *qts);

/* The kernel's settings of transparent huge pages: "enabled" ... */
bool hmn_have_thp(const char *file);
/* The word chosen in one; NULL if there is none.  To be freed. */
char *hmn_get_thp(const char *file);
bool hmn_set_thp(const char *file, const char *word);
/* A folder on tmpfs, as hmt_make_dir(); NULL if there is none. */
char *hmn_make_dir(void);
/* Sets both nodes' pools of 2 MiB pages; false if that fails. */
bool hmn_set_pools(unsigned fast, unsigned slow);

/* --- the engine -------------------------------------------------------- */

/* An engine's entry in query-hybridmem. */
QDict *hmn_query(QTestState *qts, const char *id);
/* "resident" of a tier of the only engine. */
uint64_t hmn_resident(QTestState *qts, const char *tier);
/* Of its "residency". */
uint64_t hmn_residency(QTestState *qts, const char *key);

/*
 * Waits until the engine's thread is at rest for a moment: a batch that began
 * before is over.
 */
void hmn_wait_batch(QTestState *qts);

/* Waits until all of guest RAM has been looked at anew. */
void hmn_wait_pass(QTestState *qts);

/*
 * Stops moves, and compares what QEMU and numa_maps say of where all of guest
 * RAM is.  Leaves policy none.
 */
void hmn_assert_agree(QTestState *qts);

/* Pages that lie in one block of 2 MiB, or in blocks of their own. */
#define HMN_HOT 64
#define HMN_HOT_AT (12 * MiB)
#define HMN_HOT_STEP (2 * HMT_PAGE)
/* A new word in each. */
void hmn_write_hot(HmTest *t);
/* Writes them until they are all in DRAM, by the kernel's word. */
void hmn_wait_promoted(HmTest *t);
/* How many of them are there. */
unsigned hmn_hot_in_dram(HmTest *t);
/* Waits until no more than @bytes are there. */
void hmn_wait_fast_at_most(QTestState *qts, uint64_t bytes);

/* Waits; shows what QEMU and the kernel say if that takes too long. */
gint64 hmn_deadline(void);
void hmn_go_on(QTestState *qts, gint64 deadline, const char *what);
#define hmn_wait_for(qts, condition) do {                               \
        gint64 end_ = hmn_deadline();                                   \
        while (!(condition)) {                                          \
            hmn_go_on(qts, end_, #condition);                           \
        }                                                               \
    } while (0)

#endif
