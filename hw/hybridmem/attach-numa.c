/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numa mover takes an ordinary memory backend into use, and leaves it.
 */
#include "qemu/osdep.h"
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/hybridmem/bigmem.h"
#include "hw/hybridmem/seats.h"
#include "hw/mem/nvdimm.h"
#include "hw/xen/xen.h"
#include "system/runstate.h"
#include "system/xen.h"
#include "exec/target_page.h"
#include "numa-internal.h"

#ifdef CONFIG_NUMA
#include <numaif.h>
QEMU_BUILD_BUG_ON(HOST_MEM_POLICY_DEFAULT != MPOL_DEFAULT);
QEMU_BUILD_BUG_ON(HOST_MEM_POLICY_PREFERRED != MPOL_PREFERRED);
#endif

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define MAX_BLOCKS (1ULL << 31)
/* The thread is deaf while it moves one. */
#define BLOCK_SIZE_MAX (1 * GiB)

/* Is the file's chosen "[word]" one of @words? */
static bool setting_is(const char *file, const char *const *words)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(file, &text, NULL, NULL)) {
        return false;
    }
    for (; *words; words++) {
        g_autofree char *chosen = g_strdup_printf("[%s]", *words);

        if (strstr(text, chosen)) {
            return true;
        }
    }
    return false;
}

static bool lies_on(int fd, unsigned magic)
{
    struct statfs st;

    return fstatfs(fd, &st) == 0 && (unsigned)st.f_type == magic;
}

/* Memory of the host's that is not a file's, or that of a file in memory. */
static bool is_ordinary(int fd)
{
    return fd < 0 || lies_on(fd, TMPFS_MAGIC) || lies_on(fd, HUGETLBFS_MAGIC);
}

static size_t thp_size(void)
{
    g_autofree char *text = NULL;
    uint64_t size = 2 * MiB;

    if (g_file_get_contents(THP "hpage_pmd_size", &text, NULL, NULL)) {
        qemu_strtou64(g_strstrip(text), NULL, 10, &size);
    }
    return size;
}

/*
 * The largest folio that @setting ("enabled", "shmem_enabled") allows; since
 * Linux 6.8 there is one for each size, which may follow the old one.
 */
static size_t largest_folio(const char *setting)
{
    static const char *const never[] = { "never", "deny", NULL };
    static const char *const inherit[] = { "inherit", NULL };
    g_autofree char *global = g_strconcat(THP, setting, NULL);
    g_autoptr(GDir) dir = g_dir_open(THP, 0, NULL);
    bool global_on = g_file_test(global, G_FILE_TEST_EXISTS) &&
                     !setting_is(global, never);
    size_t largest = 0;
    bool sizes = false;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_strconcat(THP, name, "/", setting, NULL);
        unsigned kib;

        if (sscanf(name, "hugepages-%ukB", &kib) == 1 &&
            g_file_test(file, G_FILE_TEST_EXISTS)) {
            sizes = true;
            if (setting_is(file, inherit) ? global_on :
                !setting_is(file, never)) {
                largest = MAX(largest, kib * KiB);
            }
        }
    }
    return sizes ? largest : global_on ? thp_size() : 0;
}

/* "huge=" of the mount that @fd lies on; NULL: it is on the kernel's own. */
static char *mount_huge(int fd)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *device = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0 ||
        !g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL)) {
        return NULL;
    }
    device = g_strdup_printf(" %u:%u ", major(st.st_dev), minor(st.st_dev));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        const char *huge = strstr(*line, "huge=");

        if (strstr(*line, device)) {
            return g_strdup(huge ? huge + strlen("huge=") : "never");
        }
    }
    return NULL;
}

/* Of files in tmpfs: memfd and shm follow the setting, mounts their own. */
static size_t largest_folio_of_file(int fd)
{
    static const char *const deny[] = { "deny", NULL };
    static const char *const force[] = { "force", NULL };
    g_autofree char *huge = mount_huge(fd);

    if (!huge) {
        return largest_folio("shmem_enabled");
    }
    if (setting_is(THP "shmem_enabled", deny)) {
        return 0;
    }
    return setting_is(THP "shmem_enabled", force) ||
           !g_str_has_prefix(huge, "never") ? thp_size() : 0;
}

static size_t unit_of(size_t page, int fd)
{
    if (page == qemu_real_host_page_size()) {
        page = MAX(page, fd >= 0 ? largest_folio_of_file(fd) :
                   largest_folio("enabled"));
    }
    return MAX(page, qemu_target_page_size());
}

/* What the kernel allocates, and what it moves at once. */
static void find_units(Hybridmem *hm, size_t *page, size_t *unit)
{
    RAMBlock *rb = hm->backend->mr.ram_block;
    unsigned i;

    *page = qemu_ram_pagesize(rb);
    if (!hm->container) {
        *unit = unit_of(*page, qemu_ram_get_fd(rb));
        return;
    }
    *page = hm_container_child(hm->container, 0)->align;
    *unit = 0;
    for (i = 0; i < hm_container_n_children(hm->container); i++) {
        const HmChild *o = hm_container_child(hm->container, i);

        *unit = MAX(*unit, unit_of(o->align, o->fd));
    }
}

/* --- the children of a container, if they are ordinary memory ------------ */

static HmNodes child_nodes(const HmChild *o)
{
    HmNodes nodes = { };

    QEMU_BUILD_BUG_ON(sizeof(nodes) > sizeof(o->backend->host_nodes));
    memcpy(&nodes, o->backend->host_nodes, sizeof(nodes));
    return nodes;
}

static bool are_ordinary(HmContainer *c)
{
    unsigned i;

    for (i = 0; i < hm_container_n_children(c); i++) {
        if (!is_ordinary(hm_container_child(c, i)->fd)) {
            return false;
        }
    }
    return true;
}

static bool are_mixed(HmContainer *c)
{
    unsigned i;

    for (i = 1; i < hm_container_n_children(c); i++) {
        if (hm_container_child(c, i)->align !=
            hm_container_child(c, 0)->align) {
            return true;
        }
    }
    return false;
}

/* Are there two tiers, bound to different nodes? */
static bool are_bound_apart(HmContainer *c)
{
    HmNodes nodes[HM_TIER__MAX] = { };
    unsigned i;

    for (i = 0; i < hm_container_n_children(c); i++) {
        const HmChild *o = hm_container_child(c, i);
        HmNodes own = child_nodes(o);

        if (bitmap_empty(own.bits, HM_NUMA_NODES)) {
            return false;
        }
        bitmap_or(nodes[o->tier].bits, nodes[o->tier].bits, own.bits,
                  HM_NUMA_NODES);
    }
    return !bitmap_empty(nodes[HM_TIER_DRAM].bits, HM_NUMA_NODES) &&
           !bitmap_empty(nodes[HM_TIER_NVM].bits, HM_NUMA_NODES) &&
           !bitmap_intersects(nodes[HM_TIER_DRAM].bits,
                              nodes[HM_TIER_NVM].bits, HM_NUMA_NODES);
}

bool hm_numa_fits(HmContainer *c)
{
    return are_ordinary(c) && are_bound_apart(c) && !are_mixed(c) &&
           !c->frames;
}

/* What the options leave open, the children say. */
static void options_of_children(Hybridmem *hm)
{
    uint64_t dram = 0;
    bool has[HM_TIER__MAX] = {
        hm->has_nodes[HM_TIER_DRAM], hm->has_nodes[HM_TIER_NVM],
    };
    unsigned i;

    for (i = 0; i < hm_container_n_children(hm->container); i++) {
        const HmChild *o = hm_container_child(hm->container, i);
        HmNodes own = child_nodes(o);

        dram += o->tier == HM_TIER_DRAM ? o->size : 0;
        if (!has[o->tier] && !bitmap_empty(own.bits, HM_NUMA_NODES)) {
            bitmap_or(hm->nodes[o->tier].bits, hm->nodes[o->tier].bits,
                      own.bits, HM_NUMA_NODES);
            hm->has_nodes[o->tier] = true;
        }
    }
    if (!hm->has_fast_size) {
        hm->fast_size = dram;
        hm->has_fast_size = true;
    }
}

/* Blocks that begin in a dram child. */
static unsigned long *dram_children(Hybridmem *hm, uint32_t blocks)
{
    unsigned long *first = bitmap_new(blocks);
    unsigned i;

    for (i = 0; i < hm_container_n_children(hm->container); i++) {
        const HmChild *o = hm_container_child(hm->container, i);

        if (o->tier == HM_TIER_DRAM) {
            bitmap_set(first, DIV_ROUND_UP(o->offset, hm->block_size),
                       o->size / hm->block_size);
        }
    }
    return first;
}

/* --- options ------------------------------------------------------------- */

static bool check_options(Hybridmem *hm, Error **errp)
{
    const char *missing = !hm->has_nodes[HM_TIER_DRAM] ? "fast-nodes" :
                          !hm->has_nodes[HM_TIER_NVM] ? "slow-nodes" :
                          !hm->has_fast_size ? "fast-size" : NULL;

    if (missing) {
        error_setg(errp, "'%s' needs %s=, because memdev=%s is a %s", hm->id,
                   missing, hm->memdev,
                   object_get_typename(OBJECT(hm->backend)));
        error_append_hint(errp, "Give fast-nodes= and slow-nodes=, the host's"
                          " NUMA nodes of DRAM and of slower memory, and"
                          " fast-size=, how much of guest RAM may lie in"
                          " DRAM; or compose guest RAM by a"
                          " memory-backend-container.\n");
        return false;
    }
    if (!hm_numa_system_ops) {
        error_setg(errp, "mover numa of '%s' is not possible: this QEMU was"
                   " built without libnuma", hm->id);
        return false;
    }
    return true;
}

/* A device for which it matters that memory is where it was put. */
static int is_persistent_user(Object *obj, void *opaque)
{
    static const char *const memory[][2] = {
        { TYPE_NVDIMM, "memdev" },
        { "virtio-pmem", "memdev" },
        { "cxl-type3", "persistent-memdev" },
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(memory); i++) {
        if (object_dynamic_cast(obj, memory[i][0])) {
            return object_property_get_link(obj, memory[i][1], NULL) == opaque;
        }
    }
    return 0;
}

static bool check_backend(Hybridmem *hm, Error **errp)
{
    HostMemoryBackend *b = hm->backend;
    const char *why = NULL;

    if (!host_memory_backend_mr_inited(b)) {
        why = "it has no memory yet";
    } else if (!host_memory_backend_is_mapped(b)) {
        /* It might become that of an NVDIMM. */
        why = "no device uses it yet, and it is not the machine's; add the"
              " device first";
    } else if (hm->container && !are_ordinary(hm->container)) {
        why = "its children are not all ordinary memory of the host (memfd,"
              " tmpfs or hugetlbfs); use mover=remap";
    } else if (hm->container && are_mixed(hm->container)) {
        why = "its children have pages of different sizes; use mover=remap, or"
              " hugetlbfs for all or none";
    } else if (hm->container && hm->container->frames) {
        why = "an earlier engine has mapped its blocks anew; use mover=remap";
    } else if (object_dynamic_cast(OBJECT(b), "memory-backend-epc")) {
        why = "it is SGX memory";
    } else if (object_dynamic_cast(OBJECT(b), TYPE_MEMORY_BACKEND_DEVMEM)) {
        why = "it is a part of a memory-backend-container; name that";
    } else if (b->guest_memfd || (current_machine && current_machine->cgs)) {
        why = "the host cannot move the memory of a confidential guest";
    } else if (xen_enabled() || xen_mode != XEN_DISABLED) {
        why = "with Xen the host does not move guest RAM";
    } else if (memory_region_is_rom(&b->mr)) {
        why = "it is read-only";
    } else if (!is_ordinary(qemu_ram_get_fd(b->mr.ram_block))) {
        why = "only memory of the host's NUMA nodes can be moved (anonymous,"
              " memfd, tmpfs, hugetlbfs), not devices and other files; make a"
              " device a node (daxctl reconfigure-device -m system-ram), or"
              " part of a memory-backend-container";
    } else if (object_property_get_bool(OBJECT(b), "pmem", NULL) ||
               object_child_foreach_recursive(object_get_root(),
                                              is_persistent_user, b)) {
        why = "it is persistent memory, which must stay where it is";
    }
    if (why) {
        error_setg(errp, "'%s' cannot manage memdev=%s, a %s: %s", hm->id,
                   hm->memdev, object_get_typename(OBJECT(b)), why);
    }
    return !why;
}

static bool check_block_size(Hybridmem *hm, size_t unit, Error **errp)
{
    uint64_t most = MIN(pow2floor(hm->backend->size),
                        MAX(unit, BLOCK_SIZE_MAX));

    if (!is_power_of_2(hm->block_size) || hm->block_size < unit ||
        hm->block_size > most) {
        error_setg(errp, "block-size=%" PRIu64 " of '%s' must be a power of"
                   " two from %zu (what the kernel moves at once) to %"
                   PRIu64, hm->block_size, hm->id, unit, most);
        if (unit > qemu_real_host_page_size()) {
            error_append_hint(errp, "Huge pages may back it: see " THP "\n");
        }
        return false;
    }
    return true;
}

/*
 * Huge pages of a file lie at multiples of their size in the file, wherever
 * it is mapped; others in QEMU's memory, where it aligns anonymous RAM.
 */
static bool check_alignment(Hybridmem *hm, size_t unit, Error **errp)
{
    Object *b = OBJECT(hm->backend);
    bool file = qemu_ram_get_fd(hm->backend->mr.ram_block) >= 0;
    uint64_t at = (uintptr_t)memory_region_get_ram_ptr(&hm->backend->mr);

    if (file) {
        at = object_property_find(b, "offset") ?
             object_property_get_uint(b, "offset", &error_abort) : 0;
    }
    if (QEMU_IS_ALIGNED(at, unit)) {
        return true;
    }
    error_setg(errp, "'%s' cannot manage memdev=%s: it does not begin at a"
               " multiple of %zu in %s, so that huge pages would straddle"
               " blocks", hm->id, hm->memdev, unit,
               file ? "its file" : "QEMU's memory");
    if (file) {
        error_append_hint(errp, "Change offset=, or switch huge pages off for"
                          " files in memory: " THP "shmem_enabled, huge= of"
                          " the mount\n");
    }
    return false;
}

static bool choose_block_size(Hybridmem *hm, size_t unit, Error **errp)
{
    uint64_t size = hm->backend->size;

    if (!hm->block_size) {
        hm->block_size = MIN(unit, pow2floor(size));
    } else if (!check_block_size(hm, unit, errp)) {
        return false;
    }
    if (!hm->container && !check_alignment(hm, unit, errp)) {
        return false;
    }
    if (size / hm->block_size > MAX_BLOCKS) {
        error_setg(errp, "'%s' is too large for block-size=%" PRIu64,
                   hm->memdev, hm->block_size);
        return false;
    }
    return true;
}

static bool check_fast_size(Hybridmem *hm, Error **errp)
{
    if (hm->fast_size > hm->backend->size ||
        !QEMU_IS_ALIGNED(hm->fast_size, hm->block_size)) {
        error_setg(errp, "fast-size=%" PRIu64 " of '%s' must be a multiple"
                   " of %" PRIu64 " (block-size), and at most %" PRIu64
                   " (the size of '%s')", hm->fast_size, hm->id,
                   hm->block_size, hm->backend->size, hm->memdev);
        return false;
    }
    return true;
}

static void free_place(Hybridmem *hm)
{
    HmNumaPlace *np = hm->numa;
    size_t bits = BITS_TO_LONGS(DIV_ROUND_UP(hm->pages,
                                             hm->block_size /
                                             hm->page_size)) *
                  sizeof(unsigned long);

    hm_numa_destroy(&np->numa);
    hm_residency_free(np->where);
    hm_bigmem_free(np->over, bits);
    hm_bigmem_free(np->away, bits);
    g_free(np->page);
    g_free(np->place);
    g_free(np->result);
    g_free(np);
    hm->numa = NULL;
}

static void make_place(Hybridmem *hm, size_t page, size_t unit)
{
    HmNumaPlace *np = hm->numa = g_new0(HmNumaPlace, 1);
    uint32_t per_block = hm->block_size / hm->page_size;
    uint32_t blocks = DIV_ROUND_UP(hm->pages, per_block);
    size_t bits = BITS_TO_LONGS(blocks) * sizeof(unsigned long);

    np->numa = (HmNuma) {
        .ops = hm_numa_system_ops,
        .host = memory_region_get_ram_ptr(&hm->backend->mr),
        .pages = hm->pages,
        .page_size = hm->page_size,
        .host_page_size = page,
        .huge_size = MAX(page, thp_size()),     /* or large folios */
        .nodes = { hm->nodes[HM_TIER_DRAM], hm->nodes[HM_TIER_NVM] },
    };
    np->where = hm_residency_new(hm->pages, per_block);
    np->over = hm_bigmem_new(bits);
    np->away = hm_bigmem_new(bits);
    np->chunk = MAX(HM_NUMA_CHUNK, per_block);
    np->page = g_new(uint64_t, np->chunk);
    np->place = g_new(HmPlace, np->chunk);
    np->result = g_new(HmNumaResult, np->chunk);
}

/* The NUMA policy that a backend was made with. */
static void restore_part(Hybridmem *hm, HostMemoryBackend *b, uint64_t offset,
                         uint64_t size)
{
    HmNuma part = hm->numa->numa;
    HmNodes nodes = { };
    int ret;

    part.host += offset;
    part.pages = size / hm->page_size;
    memcpy(&nodes, b->host_nodes, sizeof(nodes));
    ret = hm_numa_restore(&part, b->policy, &nodes);
    if (ret < 0) {
        warn_report("hybridmem '%s': cannot give '%s' its NUMA policy back:"
                    " %s", hm->id, hm->memdev, strerror(-ret));
    }
}

static void restore(Hybridmem *hm)
{
    unsigned i;

    if (!hm->container) {
        restore_part(hm, hm->backend, 0, hm->backend->size);
        return;
    }
    for (i = 0; i < hm_container_n_children(hm->container); i++) {
        const HmChild *o = hm_container_child(hm->container, i);

        restore_part(hm, o->backend, o->offset, o->size);
    }
}

static bool numa_attach(Hybridmem *hm, Error **errp)
{
    g_autofree char *wrong = NULL;
    g_autofree unsigned long *first = NULL;
    uint32_t blocks;
    size_t page, unit;
    int ret;

    if (!check_backend(hm, errp)) {
        return false;
    }
    if (hm->container) {
        if (!hm_container_check(hm->container, errp)) {
            return false;
        }
        options_of_children(hm);
    }
    if (!check_options(hm, errp)) {
        return false;
    }
    find_units(hm, &page, &unit);
    if (!choose_block_size(hm, unit, errp) || !check_fast_size(hm, errp)) {
        return false;
    }
    make_place(hm, page, unit);
    wrong = hm_numa_init(&hm->numa->numa);
    if (wrong) {
        error_setg(errp, "'%s': %s", hm->id, wrong);
        free_place(hm);
        return false;
    }
    /* Nothing is known yet, so nothing may be more than the quota. */
    ret = hm_numa_prefer(&hm->numa->numa, 0, hm->pages, HM_TIER_NVM);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "'%s': cannot set the NUMA policy of"
                         " '%s'", hm->id, hm->memdev);
        restore(hm);
        free_place(hm);
        return false;
    }
    blocks = DIV_ROUND_UP(hm->backend->size, hm->block_size);
    first = hm->container ? dram_children(hm, blocks) : NULL;
    hm->frames = hm_seats_new(blocks, hm->fast_size / hm->block_size, first);
    hm->tier_size[HM_TIER_DRAM] = hm->fast_size;
    hm->tier_size[HM_TIER_NVM] = hm->backend->size - hm->fast_size;
    hm->mappings = 1;
    if (hm->container) {
        hm->container->numa_placed = true;
    }
    hm_numa_publish(hm);
    return true;
}

/* Has a migration within this host given it to another QEMU (CPR)? */
static bool is_handed_over(const Hybridmem *hm)
{
    return runstate_check(RUN_STATE_POSTMIGRATE) &&
           qemu_ram_is_shared(hm->backend->mr.ram_block);
}

static void numa_detach(Hybridmem *hm)
{
    /* The NUMA policy of shared memory is that of all who map it. */
    if (!is_handed_over(hm)) {
        restore(hm);
    }
    hm_frames_free(hm->frames);
    hm->frames = NULL;
    free_place(hm);
}

static HmTier numa_tier_of_page(const Hybridmem *hm, uint64_t page)
{
    switch (hm_residency_place(hm->numa->where, page)) {
    case HM_PLACE_DRAM:
        return HM_TIER_DRAM;
    case HM_PLACE_ABSENT:
        return hm_frames_tier_of(hm->frames, page / hm->pages_per_block);
    default:
        return HM_TIER_NVM;
    }
}

/* Reads sizes of nodes only, so that the thread may work meanwhile. */
static bool numa_check_quota(Hybridmem *hm, uint64_t was, uint64_t fast_size,
                             Error **errp)
{
    HmTier tier = fast_size > was ? HM_TIER_DRAM : HM_TIER_NVM;
    uint64_t free = hm_numa_free(&hm->numa->numa, tier), resident, more;
    g_autofree char *nodes = hm_nodes_text(&hm->nodes[tier]);

    qemu_mutex_lock(&hm->lock);
    resident = hm->resident[HM_TIER_DRAM];
    qemu_mutex_unlock(&hm->lock);
    if (tier == HM_TIER_DRAM) {
        more = fast_size - MAX(was, MIN(resident, fast_size));
    } else {
        more = resident - MIN(fast_size, resident);
    }
    if (more > free) {
        error_setg(errp, "fast-size=%" PRIu64 " is not possible: %" PRIu64
                   " bytes would have to go to %s %s, which has %" PRIu64
                   " free", fast_size, more, tier == HM_TIER_DRAM ?
                   "fast-nodes" : "slow-nodes", nodes, free);
    }
    return more <= free;
}

static void numa_show(Hybridmem *hm, HybridmemInfo *info)
{
    HybridmemResidency *r = info->residency = g_new0(HybridmemResidency, 1);
    HybridmemTierInfoList *t;

    qemu_mutex_lock(&hm->lock);
    r->absent = hm->numa->shown[HM_PLACE_ABSENT] * hm->page_size;
    r->elsewhere = hm->numa->shown[HM_PLACE_ELSEWHERE] * hm->page_size;
    r->passes = hm->numa->passes;
    r->foreign_pages = hm->stats.foreign_pages;
    qemu_mutex_unlock(&hm->lock);
    for (t = info->tiers; t; t = t->next) {
        t->value->has_nodes = true;
        t->value->nodes = hm_node_list(
            &hm->nodes[t->value->tier == HYBRIDMEM_TIER_DRAM ?
                       HM_TIER_DRAM : HM_TIER_NVM]);
    }
}

static uint64_t numa_bytes(const Hybridmem *hm)
{
    const HmNumaPlace *np = hm->numa;
    size_t per_page = sizeof(*np->page) + sizeof(*np->place) +
                      sizeof(*np->result);

    return hm_residency_bytes(np->where) + np->chunk * per_page +
           2 * BITS_TO_LONGS(hm_frames_blocks(hm->frames)) *
           sizeof(unsigned long);
}

const HmMoverOps hm_mover_numa_ops = {
    .kind = HYBRIDMEM_MOVER_NUMA,
    .attach = numa_attach,
    .detach = numa_detach,
    .carry_out = hm_numa_relocate,
    .window = hm_numa_window,
    .rest = hm_numa_rest,
    .settle = hm_numa_settle,
    .check_quota = numa_check_quota,
    .set_quota = hm_numa_set_quota,
    .tier_of_page = numa_tier_of_page,
    .bytes = numa_bytes,
    .show = numa_show,
};
