/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The meter: counts the loads and stores of a machine by ranges of physical
 * memory, and what of them passes its caches.  See docs/meter.md.
 *
 * A callback for each load and each store does all the work; it is the hot
 * path.  A mark (hw/hybridmem/meter-mark.h) is found when a block of code is
 * translated, and acts when it executes: it ends a phase and begins the next.
 * Counts go to m.now, which is added to its phase and to the total at marks.
 */
#include <string.h>

#include <qemu-plugin.h>

#include "hw/hybridmem/meter-mark.h"
#include "hybridmem-meter.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

#define MARK_BYTES  7

/* By vCPU; added to in generated code. */
typedef struct Instructions {
    uint64_t all;
    uint64_t epoch;
} Instructions;

/* A piece of the physical address space: a range, or what lies between. */
typedef struct Segment {
    uint64_t start;
    uint64_t size;
    unsigned range;
} Segment;

typedef struct Vcpu {
    const Segment *recent;
    HmTraffic *traffic;             /* of m.now, by range */
} Vcpu;

/*
 * Guarded by lock, unless all vCPUs share one thread: `locked` begins as true
 * where there may be several, and becomes false when all have been seen in
 * the same one.  Then all count as vCPU 0: QEMU (10.0, 10.2) gives callbacks
 * the number of the vCPU for which the code was translated, not of the one
 * that executes it.
 */
static struct {
    GMutex lock;
    bool locked;
    bool merged;                    /* several vCPUs in one thread */
    GThread *thread;                /* of the vCPUs seen so far, or NULL */
    unsigned threads_seen;

    qemu_plugin_id_t id;
    HmOptions options;
    HmReport report;
    Vcpu *vcpu;
    Segment segment[2 * HM_RANGES_MAX];
    HmCaches caches;
    bool model;                     /* there are caches */
    HmMode mode[HM_RANGES_MAX];     /* as m.options.mode */

    bool counting;
    bool by_page;                   /* a phase is open, and pages= is given */
    bool instrument;                /* code that is translated from now on */
    unsigned open;                  /* the phase; 0: none */
    uint64_t settled;               /* instructions that are in the counts */
    HmCounts *now;
    HmCounts *phase[HM_METER_PHASE_MAX + 1];
    HmCounts *total;
    FILE *pages;

    struct qemu_plugin_scoreboard *score;
    qemu_plugin_u64 instructions;
    qemu_plugin_u64 epoch;
} m;

static bool lock(void)
{
    bool locked = m.locked;

    if (locked) {
        g_mutex_lock(&m.lock);
    }
    return locked;
}

static void unlock(bool locked)
{
    if (locked) {
        g_mutex_unlock(&m.lock);
    }
}

/* --- The hot path --- */

static void count_page(unsigned range, uint64_t address, unsigned event)
{
    HmRange *r = &m.options.range[range];
    uint32_t index = (address - r->start) >> HM_PAGE_BITS;
    HmPage *p;

    if (range == HM_OTHER) {
        return;
    }
    p = &r->page[index];
    if (!(p->n[0] | p->n[1] | p->n[2] | p->n[3])) {
        g_array_append_val(r->touched, index);
    }
    p->n[event]++;
}

/* A fill or write-back goes through the DRAM cache that the range has. */
static void pass_mode(uint64_t line, unsigned tag, bool writeback)
{
    unsigned mode = m.options.range[tag - 1].mode;
    uint64_t evicted;
    bool hit;

    if (!mode) {
        return;
    }
    hit = hm_mode_access(&m.mode[mode - 1], hm_cache_key(line, tag), writeback,
                         &evicted);
    m.now->mode[tag - 1][(writeback ? HM_MODE_WRITEBACK_HITS :
                          HM_MODE_FILL_HITS) + !hit]++;
    if (evicted) {
        m.now->mode[hm_cache_tag(evicted) - 1][HM_MODE_NVM_WRITES]++;
    }
}

/* The caches' tag of a line is its range plus one. */
static void count_fill(uint64_t line, unsigned tag)
{
    m.now->fills[tag - 1]++;
    pass_mode(line, tag, false);
    if (m.by_page) {
        count_page(tag - 1, line << HM_LINE_BITS, HM_FILLS);
    }
}

static void count_writeback(uint64_t line, unsigned tag)
{
    m.now->writebacks[tag - 1]++;
    pass_mode(line, tag, true);
    if (m.by_page) {
        count_page(tag - 1, line << HM_LINE_BITS, HM_WRITEBACKS);
    }
}

static const Segment *find_segment(uint64_t address)
{
    const Segment *s = m.segment;

    while (address - s->start >= s->size) {
        s++;
    }
    return s;
}

static inline unsigned range_of(Vcpu *v, uint64_t address)
{
    if (address - v->recent->start >= v->recent->size) {
        v->recent = find_segment(address);
    }
    return v->recent->range;
}

/* Bytes within one line, of a range that the vCPU has just looked up. */
static inline void count_bytes(unsigned vcpu, unsigned range, uint64_t address,
                               unsigned bytes, bool store)
{
    m.vcpu[vcpu].traffic[range].bytes[store] += bytes;
    if (m.model) {
        hm_caches_access(&m.caches, vcpu, address >> HM_LINE_BITS, range + 1,
                         store);
    }
}

/* False: MMIO, or nothing that is known; counted here. */
static inline bool translate(qemu_plugin_meminfo_t info, uint64_t vaddr,
                             bool store, uint64_t *address)
{
    struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(info, vaddr);

    if (G_UNLIKELY(!hw)) {
        m.now->untranslated++;
        return false;
    }
    if (G_UNLIKELY(qemu_plugin_hwaddr_is_io(hw))) {
        m.now->io[store]++;
        return false;
    }
    *address = qemu_plugin_hwaddr_phys_addr(hw);
    return true;
}

/* The first @here of @bytes lie in the line of @address. */
static __attribute__((noinline))
void cross_line(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
                uint64_t address, unsigned here, unsigned bytes, bool store)
{
    Vcpu *v = &m.vcpu[vcpu];
    uint64_t next = address + here;
    bool new_page = !(next & ((1 << HM_PAGE_BITS) - 1));

    count_bytes(vcpu, range_of(v, address), address, here, store);
    if (new_page && !translate(info, vaddr + here, store, &next)) {
        return;
    }
    if (new_page && m.by_page) {
        count_page(range_of(v, next), next, store);
    }
    count_bytes(vcpu, range_of(v, next), next, bytes - here, store);
}

static inline void access_memory(unsigned vcpu, qemu_plugin_meminfo_t info,
                                 uint64_t vaddr, bool store)
{
    unsigned bytes = 1 << qemu_plugin_mem_size_shift(info);
    uint64_t address;
    unsigned range, here;

    if (m.merged) {
        vcpu = 0;
    }
    if (!m.counting || !translate(info, vaddr, store, &address)) {
        return;
    }
    range = range_of(&m.vcpu[vcpu], address);
    m.vcpu[vcpu].traffic[range].accesses[store]++;
    if (m.by_page) {
        count_page(range, address, store);
    }
    here = (1 << HM_LINE_BITS) - (address & ((1 << HM_LINE_BITS) - 1));
    if (G_LIKELY(bytes <= here)) {
        count_bytes(vcpu, range, address, bytes, store);
    } else {
        cross_line(vcpu, info, vaddr, address, here, bytes, store);
    }
}

static void on_load(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
                    void *unused)
{
    access_memory(vcpu, info, vaddr, false);
}

static void on_store(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
                     void *unused)
{
    access_memory(vcpu, info, vaddr, true);
}

static void on_load_locked(unsigned vcpu, qemu_plugin_meminfo_t info,
                           uint64_t vaddr, void *unused)
{
    bool locked = lock();

    access_memory(vcpu, info, vaddr, false);
    unlock(locked);
}

static void on_store_locked(unsigned vcpu, qemu_plugin_meminfo_t info,
                            uint64_t vaddr, void *unused)
{
    bool locked = lock();

    access_memory(vcpu, info, vaddr, true);
    unlock(locked);
}

/* --- Phases and epochs --- */

static HmCounts *counts_new(void)
{
    HmCounts *c = g_new0(HmCounts, 1);

    c->traffic = g_new0(HmTraffic, m.report.vcpus * m.options.ranges);
    return c;
}

static void add_traffic(HmTraffic *to, const HmTraffic *from)
{
    for (unsigned i = 0; i < 2; i++) {
        to->accesses[i] += from->accesses[i];
        to->bytes[i] += from->bytes[i];
    }
}

static void add_counts(HmCounts *to, const HmCounts *from)
{
    to->instructions += from->instructions;
    to->epochs += from->epochs;
    to->untranslated += from->untranslated;
    for (unsigned i = 0; i < 2; i++) {
        to->io[i] += from->io[i];
    }
    for (unsigned i = 0; i < m.report.vcpus * m.options.ranges; i++) {
        add_traffic(&to->traffic[i], &from->traffic[i]);
    }
    for (unsigned i = 0; i < m.options.ranges; i++) {
        to->fills[i] += from->fills[i];
        to->writebacks[i] += from->writebacks[i];
        for (unsigned j = 0; j < HM_MODE_EVENTS; j++) {
            to->mode[i][j] += from->mode[i][j];
        }
    }
}

static void clear_counts(HmCounts *c)
{
    HmTraffic *traffic = c->traffic;

    memset(traffic, 0, sizeof(*traffic) * m.report.vcpus * m.options.ranges);
    memset(c, 0, sizeof(*c));
    c->traffic = traffic;
}

/* Adds what was counted until @instructions to the open phase and the total. */
static void settle(uint64_t instructions)
{
    if (m.counting) {
        m.now->instructions = instructions - m.settled;
    }
    m.settled = instructions;
    if (m.open) {
        add_counts(m.phase[m.open], m.now);
    }
    add_counts(m.total, m.now);
    clear_counts(m.now);
}

static void count_dirty(HmCounts *c)
{
    uint64_t dirty[HM_RANGES_MAX + 1] = {};
    uint64_t mode_dirty[HM_RANGES_MAX + 1] = {};

    if (m.model) {
        hm_caches_count_dirty(&m.caches, dirty);
    }
    for (unsigned i = 0; i < m.options.modes; i++) {
        hm_mode_count_dirty(&m.mode[i], mode_dirty);
    }
    memcpy(c->dirty, dirty + 1, sizeof(c->dirty));
    memcpy(c->mode_dirty, mode_dirty + 1, sizeof(c->mode_dirty));
}

static void end_epoch(void)
{
    if (m.by_page) {
        hm_pages_write(m.pages, &m.options, m.open,
                       m.phase[m.open]->epochs + m.now->epochs);
        m.now->epochs++;
    }
}

static void write_results(void)
{
    count_dirty(m.total);
    hm_report_write(&m.report, m.options.out);
    if (m.pages && fflush(m.pages)) {
        fprintf(stderr, "hybridmem-meter: pages=%s: not all was written; is"
                " the disk full?\n", m.options.pages);
    }
}

static void close_phase(uint64_t instructions)
{
    bool was_open = m.open;

    end_epoch();
    settle(instructions);
    if (was_open) {
        count_dirty(m.phase[m.open]);
        m.open = 0;
        m.by_page = false;
        m.counting = !m.options.marked;
        write_results();
    }
}

static void set_epoch(unsigned vcpu, uint64_t executed)
{
    for (int i = 0; i < qemu_plugin_num_vcpus(); i++) {
        qemu_plugin_u64_set(m.epoch, i, i == vcpu ? executed : 0);
    }
}

/* @ahead: instructions of this block that come later, but are counted. */
static void open_phase(unsigned vcpu, unsigned phase, unsigned ahead)
{
    m.open = phase;
    m.counting = phase || !m.options.marked;
    m.by_page = phase && m.pages;
    if (!phase) {
        return;
    }
    if (!m.phase[phase]) {
        m.phase[phase] = counts_new();
    }
    m.phase[phase]->opened++;
    set_epoch(vcpu, ahead);
}

static void start(qemu_plugin_id_t id);

/* @packed: the phase, and over it the number of instructions that follow. */
static void on_mark(unsigned vcpu, void *packed)
{
    unsigned phase = GPOINTER_TO_UINT(packed) & HM_METER_PHASE_MAX;
    unsigned ahead = GPOINTER_TO_UINT(packed) / (HM_METER_PHASE_MAX + 1);
    bool locked = lock();
    uint64_t executed = qemu_plugin_u64_sum(m.instructions) - ahead;
    bool reset;

    vcpu = m.merged ? 0 : vcpu;
    close_phase(executed - 1);
    settle(executed);
    open_phase(vcpu, phase, ahead);
    reset = m.counting != m.instrument;
    unlock(locked);
    if (reset) {
        qemu_plugin_reset(m.id, start);
    }
}

/* Executed when a vCPU has had its instructions. */
static void on_epoch(unsigned vcpu, void *unused)
{
    bool locked = lock();

    end_epoch();
    set_epoch(vcpu, 0);
    unlock(locked);
}

/*
 * Executed before each block where vCPUs are merged.  Not inline: for another
 * vCPU than 0, QEMU's code for that overwrites a constant of the block with
 * an offset, and the guest computes nonsense.
 */
static void on_block(unsigned vcpu, void *instructions)
{
    unsigned n = GPOINTER_TO_UINT(instructions);

    if (m.options.epoch &&
        qemu_plugin_u64_get(m.epoch, 0) >= m.options.epoch) {
        on_epoch(0, NULL);
    }
    qemu_plugin_u64_add(m.epoch, 0, n);
    qemu_plugin_u64_add(m.instructions, 0, n);
}

/* --- Translation --- */

/* The phase that @insn marks, or -1. */
static int mark_of(const struct qemu_plugin_insn *insn)
{
    static const uint8_t code[] = { 0x0f, 0x1f, 0x80 };
    uint8_t b[MARK_BYTES];
    uint32_t value;

    if (qemu_plugin_insn_size(insn) != MARK_BYTES ||
        qemu_plugin_insn_data(insn, b, MARK_BYTES) != MARK_BYTES ||
        memcmp(b, code, sizeof(code))) {
        return -1;
    }
    value = b[3] | b[4] << 8 | b[5] << 16 | (uint32_t)b[6] << 24;
    if ((value & ~(uint32_t)HM_METER_PHASE_MAX) != HM_METER_MAGIC) {
        return -1;
    }
    return value & HM_METER_PHASE_MAX;
}

static void instrument_memory(struct qemu_plugin_insn *insn)
{
    qemu_plugin_register_vcpu_mem_cb(insn, m.locked ? on_load_locked : on_load,
                                     QEMU_PLUGIN_CB_NO_REGS,
                                     QEMU_PLUGIN_MEM_R, NULL);
    qemu_plugin_register_vcpu_mem_cb(insn,
                                     m.locked ? on_store_locked : on_store,
                                     QEMU_PLUGIN_CB_NO_REGS,
                                     QEMU_PLUGIN_MEM_W, NULL);
}

/* The epoch first: it ends with the block before this one. */
static void instrument_block(struct qemu_plugin_tb *tb, unsigned n)
{
    if (m.merged) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block,
            QEMU_PLUGIN_CB_NO_REGS, GUINT_TO_POINTER(n));
        return;
    }
    if (m.options.epoch) {
        qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_epoch,
            QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_COND_GE, m.epoch,
            m.options.epoch, NULL);
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb,
            QEMU_PLUGIN_INLINE_ADD_U64, m.epoch, n);
    }
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb,
        QEMU_PLUGIN_INLINE_ADD_U64, m.instructions, n);
}

/*
 * A block with a mark is instrumented from the mark on, even where others are
 * not: qemu_plugin_reset() takes effect only at its end.
 */
static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    bool live = m.instrument;

    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        int phase = mark_of(insn);

        if (phase >= 0) {
            unsigned packed = phase + (n - i - 1) * (HM_METER_PHASE_MAX + 1);

            live = true;
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark,
                QEMU_PLUGIN_CB_NO_REGS, GUINT_TO_POINTER(packed));
        } else if (live) {
            instrument_memory(insn);
        }
    }
    if (live) {
        instrument_block(tb, n);
    }
}

/* --- Life --- */

static void on_vcpu(qemu_plugin_id_t id, unsigned vcpu)
{
    bool locked = lock();

    if (!m.thread) {
        m.thread = g_thread_self();
    }
    if (m.thread == g_thread_self() &&
        ++m.threads_seen == m.report.vcpus) {
        m.locked = false;
        m.merged = m.report.vcpus > 1;
    }
    unlock(locked);
}

static void at_exit(qemu_plugin_id_t id, void *unused)
{
    bool locked = lock();

    close_phase(qemu_plugin_u64_sum(m.instructions));
    write_results();
    unlock(locked);
}

/* Registers what is there all the time; again after each reset. */
static void start(qemu_plugin_id_t id)
{
    m.instrument = m.counting;
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
}

static int compare_segments(const void *a, const void *b)
{
    const Segment *x = a, *y = b;

    return (x->start > y->start) - (x->start < y->start);
}

/* All addresses are in some segment. */
static void make_segments(void)
{
    unsigned n = 0;
    uint64_t end = 0;
    Segment named[HM_RANGES_MAX];

    for (unsigned i = HM_OTHER + 1; i < m.options.ranges; i++) {
        const HmRange *r = &m.options.range[i];

        named[n++] = (Segment) { r->start, r->size, i };
    }
    qsort(named, n, sizeof(*named), compare_segments);
    for (unsigned i = 0, to = 0; i <= n; i++) {
        uint64_t start = i < n ? named[i].start : UINT64_MAX;

        m.segment[to++] = (Segment) { end, start - end, HM_OTHER };
        if (i < n) {
            m.segment[to++] = named[i];
            end = named[i].start + named[i].size;
        }
    }
}

static void make_counters(void)
{
    m.now = counts_new();
    m.total = counts_new();
    m.vcpu = g_new0(Vcpu, m.report.vcpus);
    for (unsigned i = 0; i < m.report.vcpus; i++) {
        m.vcpu[i].recent = m.segment;
        m.vcpu[i].traffic = &m.now->traffic[i * m.options.ranges];
    }
    m.model = m.options.cache[HM_CACHE_PRIVATE].ways;
    if (m.model) {
        hm_caches_init(&m.caches, m.report.vcpus, m.options.cache);
        m.caches.fill = count_fill;
        m.caches.writeback = count_writeback;
    }
    for (unsigned i = 0; i < m.options.modes; i++) {
        hm_mode_init(&m.mode[i], m.options.mode[i].bytes);
    }
    m.score = qemu_plugin_scoreboard_new(sizeof(Instructions));
    m.instructions = qemu_plugin_scoreboard_u64_in_struct(m.score,
                                                          Instructions, all);
    m.epoch = qemu_plugin_scoreboard_u64_in_struct(m.score, Instructions,
                                                   epoch);
}

static void make_pages(void)
{
    for (unsigned i = HM_OTHER + 1; i < m.options.ranges; i++) {
        HmRange *r = &m.options.range[i];

        r->page = g_new0(HmPage, r->size >> HM_PAGE_BITS);
        r->touched = g_array_new(false, false, sizeof(uint32_t));
    }
}

static bool open_files(void)
{
    if (m.options.pages) {
        m.pages = hm_pages_open(m.options.pages);
        if (!m.pages) {
            return false;
        }
        make_pages();
    }
    return hm_report_write(&m.report, m.options.out);
}

static void make_report(const qemu_info_t *info, int argc, char **argv)
{
    m.report = (HmReport) {
        .options = &m.options, .argc = argc, .argv = argv,
        .target = g_strdup(info->target_name), .api = info->version.cur,
        .vcpus = info->system.max_vcpus, .phase = m.phase,
    };
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                           const qemu_info_t *info,
                                           int argc, char **argv)
{
    if (!info->system_emulation || !g_str_has_suffix(info->target_name,
                                                     "x86_64")) {
        fprintf(stderr, "hybridmem-meter: counts physical memory and x86 marks;"
                " load it into qemu-system-x86_64\n");
        return -1;
    }
    m.id = id;
    if (!hm_options_parse(&m.options, argc, argv)) {
        return -1;
    }
    make_report(info, argc, argv);
    make_segments();
    make_counters();
    m.report.total = m.total;
    if (!open_files()) {
        return -1;
    }
    m.locked = m.report.vcpus > 1;
    m.counting = !m.options.marked;
    start(id);
    return 0;
}
