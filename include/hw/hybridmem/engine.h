/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine: the -object hybridmem, its thread, and what they share.
 *
 * Two threads touch an engine.  The main loop (under the BQL) does what
 * QEMU allows only there: reading the dirty log, holding the guest, QMP.
 * The engine's own thread does the rest, and never takes the BQL: when it
 * needs the main loop it sends it a function and waits (hm_call_main()).
 * While the function runs, the engine's thread stands still, so the core
 * (frames, heat, policy) belongs to whichever of the two is running it.
 */
#ifndef HW_HYBRIDMEM_ENGINE_H
#define HW_HYBRIDMEM_ENGINE_H

#include "qemu/thread.h"
#include "qemu/queue.h"
#include "qapi/qapi-types-hybridmem.h"
#include "hw/hybridmem/access.h"
#include "hw/hybridmem/access-sampler.h"
#include "hw/hybridmem/budget.h"
#include "hw/hybridmem/container.h"
#include "hw/hybridmem/frames.h"
#include "hw/hybridmem/heat.h"
#include "hw/hybridmem/mover.h"
#include "hw/hybridmem/numa.h"
#include "hw/hybridmem/pace.h"
#include "hw/hybridmem/policy.h"
#include "hw/hybridmem/recorder.h"
#include "hw/hybridmem/sampler.h"

#define TYPE_HYBRIDMEM "hybridmem"
OBJECT_DECLARE_SIMPLE_TYPE(Hybridmem, HYBRIDMEM)

typedef struct HmNumaPlace HmNumaPlace;
typedef struct HmAccesses HmAccesses;
typedef struct HmLatencies HmLatencies;

#define HM_STALL_BUCKETS 20

/* Most moves in one plan. */
#define HM_ENGINE_PLAN_MAX 65536

/* The counters of HybridmemCounters; see the schema for what they mean. */
typedef struct HmStats {
    uint64_t windows, windows_lost;
    uint64_t dirty_pages, nvm_dirty_pages;
    uint64_t window_dirty[HM_TIER__MAX];
    uint64_t planned, done, blocks_moved, moved_pages;
    uint64_t promoted_bytes, demoted_bytes, nvm_written_bytes, moved_back;
    uint64_t fills, drains, foreign_pages;      /* mover numa */
    uint64_t pmem_copied;       /* bytes */
    uint64_t observed_ms, guest_nvm_bytes;      /* HybridmemEstimates */
    uint64_t skipped[HM_MOVE__MAX];
    uint64_t batches, stall_ns, stall_ns_max;
    uint64_t stall_histogram[HM_STALL_BUCKETS];
    uint64_t sample_ns, plan_ns, bql_ns, bql_ns_max;
    uint64_t access_windows, watched_bytes, accessed_pages[HM_TIER__MAX],
             read_pages[HM_TIER__MAX];
} HmStats;

typedef enum HmRequestKind {
    HM_REQUEST_SWAP,
    HM_REQUEST_REBALANCE,
    HM_REQUEST_HEAT,
    HM_REQUEST_QUOTA,
} HmRequestKind;

/*
 * What QMP asks of the engine's thread.  Owned by who sends it; @finished
 * is called in the main loop, with @cancelled set if the engine ended first.
 */
typedef struct HmRequest HmRequest;
struct HmRequest {
    HmRequestKind kind;
    /* swap */
    HmMove *moves;
    size_t n_moves;
    uint64_t results[HM_MOVE__MAX];
    /* heat */
    uint32_t buckets;
    HybridmemHeat *heat;
    /* quota */
    uint64_t fast_size;

    bool cancelled;
    void (*finished)(HmRequest *rq);
    void *opaque;
    QSIMPLEQ_ENTRY(HmRequest) next;
};

/* Who wants a move. */
typedef enum HmCause {
    HM_CAUSE_POLICY,            /* it is told what became of each */
    HM_CAUSE_COMMAND,           /* without a budget, between any tiers */
    HM_CAUSE_SETTLE,            /* the mover: HmMoverOps.settle */
} HmCause;

/* Moves to carry out; the engine's thread makes it, the mover works. */
typedef struct HmBatch {
    const HmMove *moves;
    size_t n;
    HmCause cause;
    bool inhibited;             /* out: nothing was done */
    size_t taken;               /* out: moves looked at, from the first */
    uint64_t results[HM_MOVE__MAX];     /* out: of those */
    HmMoveResult *each;         /* out: of each of those */
    uint64_t stall_ns;          /* out */
    uint64_t copied_bytes;      /* out */
    uint64_t pmem_copied;       /* out: bytes, failed copies as well */
    uint64_t limit_ns;          /* stop after this time; 0: no limit */
} HmBatch;

/*
 * How blocks move.  The engine's thread calls what is not marked [main],
 * which runs in the main loop.
 */
typedef struct HmMoverOps {
    HybridmemMover kind;
    /* Holds the guest, so that carry_out() runs in the main loop. */
    bool holds_guest;
    /*
     * [main] Takes guest RAM into use: checks the options, chooses
     * block_size, makes frames.  On failure nothing has changed.
     */
    bool (*attach)(Hybridmem *hm, Error **errp);
    /* [main] After the thread has ended.  Memory stays where it is. */
    void (*detach)(Hybridmem *hm);
    /* Carries out hm->batch and accounts for it. */
    void (*carry_out)(Hybridmem *hm);
    /*
     * hm->dirty is that of a new window that stands for @elapsed_ms; nobody
     * else has seen it.  May be NULL.
     */
    void (*window)(Hybridmem *hm, uint64_t elapsed_ms);
    /* There will be no windows for a while.  Called often.  May be NULL. */
    void (*rest)(Hybridmem *hm);
    /*
     * Up to @max moves of single blocks that placement needs, whatever the
     * policy says; one of promote and demote is HM_BLOCK_NONE.  May be NULL.
     */
    size_t (*settle)(Hybridmem *hm, HmMove *moves, size_t max);
    /* [main] Is there memory for a change from @was?  With set_quota. */
    bool (*check_quota)(Hybridmem *hm, uint64_t was, uint64_t fast_size,
                        Error **errp);
    /* The dram tier is to have @fast_size bytes.  May be NULL. */
    void (*set_quota)(Hybridmem *hm, uint64_t fast_size);
    /* Where @page lies; NULL: where its block's frame is. */
    HmTier (*tier_of_page)(const Hybridmem *hm, uint64_t page);
    /* Its metadata, besides frames.  May be NULL. */
    uint64_t (*bytes)(const Hybridmem *hm);
    /* [main] Adds what it knows to @info.  Any time.  May be NULL. */
    void (*show)(Hybridmem *hm, HybridmemInfo *info);
} HmMoverOps;

struct Hybridmem {
    Object parent_obj;

    /* Options; fixed once the engine has started. */
    char *memdev;
    uint64_t block_size;
    HybridmemMover mover_option;
    HmNodes nodes[HM_TIER__MAX];        /* fast-nodes, slow-nodes */
    bool has_nodes[HM_TIER__MAX];
    uint64_t fast_size;
    bool has_fast_size;
    ThreadContext *thread_context;      /* referenced; or NULL */
    char *trace;                /* a path, or NULL */

    char *id;
    HostMemoryBackend *backend; /* referenced from attach to the end */
    HmContainer *container;     /* the same, if it is one; or NULL */
    const HmMoverOps *mover;
    Notifier machine_done;
    bool started;

    /* The core: the engine's thread, or the main loop in a call from it. */
    HmFrames *frames;
    HmHeat *heat;
    HmPolicy *policy;
    HmRemap remap;
    HmNumaPlace *numa;          /* mover numa; else NULL */
    bool tier_pmem[HM_TIER__MAX];       /* see HybridmemTierInfo */
    HmSampler *sampler;
    HmAccesses *accesses;
    HmLatencies *latencies;
    HmRecorder *recorder;       /* or NULL */
    uint64_t map_limit;         /* 0: mappings do not change */
    uint64_t pages, page_size;
    uint32_t pages_per_block;
    unsigned long *dirty;       /* of the last window, by page */
    GArray *just_moved;         /* uint32_t blocks, since the last window */
    GHashTable *demoted;        /* block -> number of the window */
    HmMove *plan;
    int64_t budget_at_ns;       /* when the tokens were last filled up */
    HmBudget budget;
    HmPace pace;
    uint64_t wear_spent;        /* of stats.nvm_written_bytes */
    int64_t observed_at_ns;
    int64_t logged_at_ns;       /* since when writes are logged */
    HmBatch *batch;             /* of the call that is going on */
    bool sample_done;
    uint32_t inhibitors;        /* bit set of HybridmemInhibitor */
    bool may_nest;              /* see nested.h */
    bool log_is_on;
    bool planning;              /* @plan is in use */

    QemuThread thread;
    QEMUBH *call_bh, *finish_bh;

    QemuMutex lock;
    QemuCond wake;
    /* Guarded by @lock. */
    bool quit;
    void (*call)(Hybridmem *hm);
    bool call_running;          /* in the main loop, with the core */
    bool serving;               /* the thread uses the core meanwhile */
    HybridmemParameters params; /* all present */
    bool params_changed;
    QSIMPLEQ_HEAD(, HmRequest) requests, finished;
    HmStats stats;
    HmRecording recording;      /* with @recorder */
    HybridmemState state;       /* as last announced */
    uint32_t interval_now;      /* ms; see pace.h */
    uint32_t window_now;        /* the same */
    uint64_t mappings, core_bytes;
    uint64_t tier_size[HM_TIER__MAX];   /* bytes */
    uint64_t resident[HM_TIER__MAX];    /* bytes */
    char *last_error;
    int64_t error_event_ns;
};


/* --- params.c: parameters, as QAPI, QOM and C see them ----------------- */

void hm_params_init(HybridmemParameters *p);
/* Takes from @from what is present there. */
void hm_params_merge(HybridmemParameters *p, const HybridmemParameters *from);
bool hm_params_check(const HybridmemParameters *p, Error **errp);
/* Do they go together?  @p has every member. */
bool hm_params_check_whole(const HybridmemParameters *p, Error **errp);
/* Check, then all or nothing; any thread. */
bool hm_params_set(Hybridmem *hm, const HybridmemParameters *from,
                   Error **errp);
void hm_params_class_init(ObjectClass *oc);
HmPolicyParams hm_params_for_policy(const HybridmemParameters *p,
                                    uint64_t map_limit);

/* --- engine.c: the thread ---------------------------------------------- */

/* Main loop.  Starts and stops the thread; stop also ends all requests. */
void hm_engine_start_thread(Hybridmem *hm);
void hm_engine_stop_thread(Hybridmem *hm);
/* Main loop. */
void hm_engine_submit(Hybridmem *hm, HmRequest *rq);

/* --- accesses.c: windows of accesses ------------------------------------ */

/* Main loop.  Never NULL; if accesses cannot be seen it knows why. */
HmAccesses *hm_accesses_new(Hybridmem *hm);
void hm_accesses_free(HmAccesses *as);
/* NULL if accesses cannot be seen. */
const HmAccess *hm_accesses_rates(const HmAccesses *as);
uint64_t hm_accesses_bytes(const HmAccesses *as);
/* Can they be seen, and has the policy a use for them? */
bool hm_accesses_wanted(const Hybridmem *hm);
/* Writes must be logged in their windows: see access-sampler.h. */
bool hm_accesses_by_log(const HmAccesses *as);
/*
 * A window is begin, some time in which nothing moves, end, and digest, which
 * is left out if the guest was stopped meanwhile.
 */
void hm_accesses_begin(Hybridmem *hm, const HybridmemParameters *p,
                       HmWindow *w);
void hm_accesses_end(Hybridmem *hm, HmWindow *w, int64_t now_ns);
void hm_accesses_digest(Hybridmem *hm, const HmWindow *w);
/* Another userfaultfd may have guest RAM now.  Any thread. */
void hm_accesses_release(HmAccesses *as);
/* And in the next window, too. */
void hm_accesses_yield(HmAccesses *as);
/* Takes from @dirty pages that may only have been read. */
void hm_accesses_filter(Hybridmem *hm, unsigned long *dirty);
/*
 * What @dirty had before: pages that were used, written or not.  For policies
 * to which that is much the same; NULL: this one wants what was written.
 */
unsigned long *hm_accesses_used(const Hybridmem *hm);
/* Main loop. */
HybridmemAccesses *hm_accesses_info(Hybridmem *hm);

/* --- latencies.c: how busy the tiers are --------------------------------- */

/* Main loop.  Never NULL; if nothing can be measured it knows why. */
HmLatencies *hm_latencies_new(Hybridmem *hm);
void hm_latencies_free(HmLatencies *l);
/*
 * A window has ended, in which the guest ran and nothing was moved: measures
 * if that is wanted.  True if the pace is another now.
 */
bool hm_latencies_window(Hybridmem *hm, const HybridmemParameters *p);
/* What the next plan may change. */
HmBalanceLimit hm_latencies_limit(const HmLatencies *l);
/* Main loop.  NULL if it is not wanted.  @ns: of each tier; 0: not known. */
HybridmemBalance *hm_latencies_info(Hybridmem *hm, uint64_t ns[HM_TIER__MAX]);

/* --- movers: attach-*.c, relocate-*.c ---------------------------------- */

extern const HmMoverOps hm_mover_remap_ops;
extern const HmMoverOps hm_mover_numa_ops;

/*
 * Is @c for the kernel to move: ordinary memory, of one page size, two tiers
 * bound to different NUMA nodes, and not mapped anew by an earlier engine?
 */
bool hm_numa_fits(HmContainer *c);

/* Carries out hm->batch with the guest held. */
void hm_remap_relocate(Hybridmem *hm);

/* --- account.c: what moves add up to ----------------------------------- */

/*
 * @pages of @block have gone from one tier to another, or to another frame
 * of the same; hm->lock held.  @whole: the block has changed its tier.
 */
void hm_account_block(Hybridmem *hm, uint32_t block, HmTier from, HmTier to,
                      uint64_t pages, bool whole);
/* A move has failed for good: for query-hybridmem, and an event. */
void hm_account_error(Hybridmem *hm, uint32_t block, const char *what,
                      int error_errno);
void hm_account_skip(Hybridmem *hm, const HmMove *mv, HmMoveResult why);

/* --- hybridmem.c: the object ------------------------------------------- */

/* For a container that no hybridmem names.  True if there is nothing to do. */
bool hm_engine_attach_default(HmContainer *c, Error **errp);
/* By id, or the only one if @id is NULL. */
Hybridmem *hm_engine_find(const char *id, Error **errp);
void hm_engine_foreach(void (*fn)(Hybridmem *hm, void *opaque), void *opaque);
/* Main loop, BQL: what keeps it from working now. */
uint32_t hm_engine_inhibitors(Hybridmem *hm);
HybridmemInhibitorList *hm_engine_inhibitor_list(uint32_t bits);
uint16List *hm_node_list(const HmNodes *nodes);

/* --- stats.c: counters ------------------------------------------------- */

/* All take hm->lock themselves. */
/* A window that stands for @elapsed_ms and logged for @logged_us. */
void hm_stats_window(Hybridmem *hm, uint64_t elapsed_ms, uint64_t logged_us);
void hm_stats_batch(Hybridmem *hm, const HmBatch *b);
void hm_stats_bql(Hybridmem *hm, uint64_t ns, bool sampling);
HybridmemInfo *hm_stats_info(Hybridmem *hm);
/* Metadata of heat, placement and policy. */
uint64_t hm_engine_core_bytes(const Hybridmem *hm);
/* Where @page lies, as far as is known. */
HmTier hm_engine_tier_of_page(const Hybridmem *hm, uint64_t page);
HybridmemSkipped *hm_stats_skipped(const uint64_t results[HM_MOVE__MAX]);

/* --- estimates.c: what it would cost on a device ----------------------- */

/* NULL if @model is none.  @own_bytes: that moves wrote to nvm. */
HybridmemEstimates *hm_estimates(const char *model, const HmStats *s,
                                 uint64_t own_bytes, uint64_t nvm_size);

/* --- hooks.c ----------------------------------------------------------- */

bool hm_hooks_add_container(HmContainer *c, Error **errp);
void hm_hooks_del_container(HmContainer *c);

#endif
