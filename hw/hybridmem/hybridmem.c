/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -object hybridmem: options, and the life of an engine.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/visitor.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qom/object_interfaces.h"
#include "exec/target_page.h"
#include "hw/hybridmem/engine.h"
#include "hw/hybridmem/nested.h"
#include "hw/qdev-core.h"
#include "system/replay.h"
#include "system/runstate.h"
#include "system/system.h"

#define MAX_MAP_COUNT "/proc/sys/vm/max_map_count"
#define MAX_MAP_COUNT_DEFAULT 65530
/* Well below where block numbers of 32 bits would wrap. */
#define MAX_BLOCKS (1ULL << 31)

/* A container's share of the kernel's limit, less an eighth for others. */
static uint64_t find_map_limit(void)
{
    g_autofree char *text = NULL;
    uint64_t max = MAX_MAP_COUNT_DEFAULT;

    if (g_file_get_contents(MAX_MAP_COUNT, &text, NULL, NULL)) {
        qemu_strtou64(g_strstrip(text), NULL, 10, &max);
    }
    return (max - max / 8) / hm_container_count();
}

/* Bytes of dram; and what all offsets and sizes are multiples of. */
static uint64_t survey(HmContainer *c, uint64_t *granule, uint64_t *align,
                       bool *mergeable)
{
    uint64_t dram = 0;
    unsigned i;

    *granule = 1ULL << 63;
    *align = qemu_target_page_size();
    *mergeable = true;
    for (i = 0; i < hm_container_n_children(c); i++) {
        const HmChild *o = hm_container_child(c, i);
        uint64_t both = o->offset | o->size;

        dram += o->tier == HM_TIER_DRAM ? o->size : 0;
        *granule = MIN(*granule, both & -both);
        *align = MAX(*align, o->align);
        *mergeable &= o->mergeable;
    }
    return dram;
}

static uint64_t worst_mappings(HmContainer *c, uint64_t dram, bool mergeable,
                               uint64_t block_size)
{
    return mergeable ? hm_frames_worst_mappings(dram / block_size) :
           hm_container_size(c) / block_size;
}

static bool choose_block_size(Hybridmem *hm, Error **errp)
{
    HmContainer *c = hm->container;
    uint64_t granule, align, dram;
    bool mergeable;

    dram = survey(c, &granule, &align, &mergeable);
    if (hm->block_size) {
        if (!is_power_of_2(hm->block_size) || hm->block_size < align ||
            hm->block_size > granule) {
            error_setg(errp, "block-size=%" PRIu64 " of '%s' must be a power"
                       " of two from %" PRIu64 " (the largest page size of"
                       " the tiers) to %" PRIu64 " (which divides the offset"
                       " and size of every child of '%s')", hm->block_size,
                       hm->id, align, granule, hm->memdev);
            return false;
        }
    } else {
        hm->block_size = align;
        while (worst_mappings(c, dram, mergeable, hm->block_size) >
               hm->map_limit && hm->block_size * 2 <= granule) {
            hm->block_size *= 2;
        }
        if (hm->block_size > granule) {
            error_setg(errp, "offsets and sizes of the children of '%s' must"
                       " be multiples of %" PRIu64 ", the largest page size"
                       " of the tiers", hm->memdev, align);
            return false;
        }
    }
    if (worst_mappings(c, dram, mergeable, hm->block_size) > hm->map_limit) {
        warn_report("hybridmem '%s': with block-size=%" PRIu64 " guest RAM"
                    " may need more than %" PRIu64 " mappings, and moves"
                    " will be skipped then; raise vm.max_map_count or"
                    " block-size", hm->id, hm->block_size, hm->map_limit);
    }
    if (hm_container_size(c) / hm->block_size > MAX_BLOCKS) {
        error_setg(errp, "'%s' is too large for block-size=%" PRIu64,
                   hm->memdev, hm->block_size);
        return false;
    }
    return true;
}

/* An earlier engine has left blocks out of their places. */
static bool inherit_block_size(Hybridmem *hm, Error **errp)
{
    HmContainer *c = hm->container;

    if (!c->frames) {
        return true;
    }
    if (hm->block_size && hm->block_size != c->frames_block_size) {
        error_setg(errp, "block-size=%" PRIu64 " of '%s' is not possible: an"
                   " earlier engine has laid out '%s' in blocks of %" PRIu64,
                   hm->block_size, hm->id, hm->memdev, c->frames_block_size);
        return false;
    }
    hm->block_size = c->frames_block_size;
    return true;
}

static void make_placement(Hybridmem *hm)
{
    unsigned i, n = hm_container_n_children(hm->container);
    g_autofree HmExtent *ext = g_new0(HmExtent, n);
    g_autofree HmRemapFile *files = g_new0(HmRemapFile, n);

    for (i = 0; i < n; i++) {
        const HmChild *o = hm_container_child(hm->container, i);

        ext[i] = (HmExtent) {
            .first = o->offset / hm->block_size,
            .blocks = o->size / hm->block_size,
            .tier = o->tier,
            .mergeable = o->mergeable,
        };
        files[i] = (HmRemapFile) {
            .fd = o->fd,
            .fd_offset = o->fd_offset,
            .map_flags = o->map_flags,
            .pmem = o->pmem,
        };
        hm->tier_pmem[o->tier] |= o->pmem;
    }
    hm->frames = hm->container->frames ?: hm_frames_new(ext, n);
    hm->container->frames = NULL;
    hm_remap_init(&hm->remap, &hm_remap_system_ops, hm->container->host,
                  hm->block_size, files, n,
                  hm->container->parent_obj.dump ? -1 : QEMU_MADV_DONTDUMP);
}

static void make_core(Hybridmem *hm)
{
    HmPolicyParams pp = hm_params_for_policy(&hm->params, hm->map_limit);
    uint64_t size = hm_container_size(hm->container);

    hm->page_size = qemu_target_page_size();
    hm->pages = size / hm->page_size;
    hm->pages_per_block = hm->block_size / hm->page_size;
    make_placement(hm);
    hm->heat = hm_heat_new(hm->pages, hm->pages_per_block,
                           hm->params.half_life);
    hm->policy = hm_policy_new(
        hm_policy_find(HybridmemPolicy_str(hm->params.policy)),
        hm->frames, hm->heat, &pp);
    hm->sampler = hm_sampler_dirty_ops.create(hm_container_mr(hm->container));
    hm->dirty = bitmap_new(hm->pages);
    hm->just_moved = g_array_new(false, false, sizeof(uint32_t));
    hm->demoted = g_hash_table_new(NULL, NULL);
    hm->plan = g_new(HmMove, HM_ENGINE_PLAN_MAX);
    hm->mappings = hm_frames_mappings(hm->frames);
    hm->core_bytes = hm_frames_bytes(hm->frames) + hm_heat_bytes(hm->heat) +
                     hm_policy_bytes(hm->policy);
}

static void free_core(Hybridmem *hm)
{
    g_free(hm->plan);
    g_hash_table_destroy(hm->demoted);
    g_array_free(hm->just_moved, true);
    g_free(hm->dirty);
    hm->sampler->ops->destroy(hm->sampler);
    hm_policy_free(hm->policy);
    hm_heat_free(hm->heat);
    hm_remap_destroy(&hm->remap);
}

/* Blocks stay where they are; the container remembers it for the next. */
static void leave_placement(Hybridmem *hm)
{
    hm->container->frames = hm->frames;
    hm->container->frames_block_size = hm->block_size;
    hm->frames = NULL;
}

static bool engine_start(Hybridmem *hm, Error **errp)
{
    if (!hm_container_check(hm->container, errp)) {
        return false;
    }
    hm->map_limit = find_map_limit();
    if (!inherit_block_size(hm, errp)) {
        return false;
    }
    if (!choose_block_size(hm, errp)) {
        return false;
    }
    make_core(hm);
    hm->may_nest = hm_guest_may_nest_unseen();
    hm->started = true;
    hm_engine_start_thread(hm);
    return true;
}

static HmContainer *find_container(Hybridmem *hm, Error **errp)
{
    bool ambiguous = false;
    Object *o;

    o = object_resolve_path_type(hm->memdev, TYPE_MEMORY_BACKEND, &ambiguous);
    if (!o) {
        error_setg(errp, "memdev=%s of '%s' is %s", hm->memdev, hm->id,
                   ambiguous ? "ambiguous" : "not the id of a memory"
                   " backend");
        return NULL;
    }
    if (!object_dynamic_cast(o, TYPE_MEMORY_BACKEND_CONTAINER)) {
        error_setg(errp, "memdev=%s of '%s' is a %s; only the RAM of a"
                   " memory-backend-container can be relocated", hm->memdev,
                   hm->id, object_get_typename(o));
        return NULL;
    }
    return MEMORY_BACKEND_CONTAINER(o);
}

static bool engine_attach(Hybridmem *hm, Error **errp)
{
    HmContainer *c = find_container(hm, errp);

    if (!c) {
        return false;
    }
    if (c->broken) {
        error_setg(errp, "'%s' has lost a mapping: start QEMU anew",
                   hm->memdev);
        return false;
    }
    if (c->engine) {
        error_setg(errp, "memdev=%s of '%s' has an engine already: '%s'",
                   hm->memdev, hm->id,
                   object_get_canonical_path_component(c->engine));
        return false;
    }
    hm->container = c;
    object_ref(OBJECT(c));
    if (!engine_start(hm, errp)) {
        return false;
    }
    c->engine = OBJECT(hm);
    hm->attached = true;
    return true;
}

static void machine_done(Notifier *n, void *unused)
{
    Hybridmem *hm = container_of(n, Hybridmem, machine_done);
    Error *err = NULL;

    if (!engine_attach(hm, &err)) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
}

/*
 * On the command line QEMU makes memory backends later than this object, so
 * the container is looked up when the machine is complete.
 */
static void hybridmem_complete(UserCreatable *uc, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(uc);

    hm->id = g_strdup(object_get_canonical_path_component(OBJECT(hm)));
    if (!hm->memdev) {
        error_setg(errp, "'%s' needs memdev=, the id of a"
                   " memory-backend-container", hm->id);
        return;
    }
    if (replay_mode != REPLAY_MODE_NONE) {
        error_setg(errp, "hybridmem '%s' is not possible with record/replay"
                   " (-icount rr=)", hm->id);
        error_append_hint(errp, "Use rebalance=off on the container to run"
                          " without an engine\n");
        return;
    }
    if (phase_check(PHASE_MACHINE_READY)) {
        engine_attach(hm, errp);
    } else {
        hm->machine_done.notify = machine_done;
        qemu_add_machine_init_done_notifier(&hm->machine_done);
    }
}

static int names_container(Object *obj, void *opaque)
{
    Hybridmem *hm = (Hybridmem *)object_dynamic_cast(obj, TYPE_HYBRIDMEM);

    return hm && hm->memdev &&
           object_resolve_path_type(hm->memdev, TYPE_MEMORY_BACKEND,
                                    NULL) == opaque;
}

bool hm_engine_attach_default(HmContainer *c, Error **errp)
{
    Object *root = object_get_objects_root();
    const char *id = object_get_canonical_path_component(OBJECT(c));
    g_autofree char *engine_id = g_strdup_printf("%s-hybridmem", id);

    if (!c->rebalance || object_child_foreach(root, names_container, c)) {
        return true;
    }
    return object_new_with_props(TYPE_HYBRIDMEM, root, engine_id, errp,
                                 "memdev", id, NULL) != NULL;
}

uint32_t hm_engine_inhibitors(Hybridmem *hm)
{
    uint32_t bits = 0;

    if (!runstate_is_running()) {
        bits |= BIT(HYBRIDMEM_INHIBITOR_NOT_RUNNING);
    }
    /*
     * Asked only in states that exit does not leave: there the migration
     * object goes before the last calls to us come.
     */
    if ((runstate_is_running() || runstate_check(RUN_STATE_FINISH_MIGRATE)) &&
        migration_is_running()) {
        bits |= BIT(HYBRIDMEM_INHIBITOR_MIGRATION);
    }
    if (global_dirty_tracking & (GLOBAL_DIRTY_DIRTY_RATE |
                                 GLOBAL_DIRTY_LIMIT)) {
        bits |= BIT(HYBRIDMEM_INHIBITOR_DIRTY_RATE);
    }
    if (hm->may_nest) {
        bits |= BIT(HYBRIDMEM_INHIBITOR_NESTED);
    }
    return bits;
}

HybridmemInhibitorList *hm_engine_inhibitor_list(uint32_t bits)
{
    HybridmemInhibitorList *list = NULL, **tail = &list;
    int i;

    for (i = 0; i < HYBRIDMEM_INHIBITOR__MAX; i++) {
        if (bits & BIT(i)) {
            QAPI_LIST_APPEND(tail, i);
        }
    }
    return list;
}

typedef struct Visit {
    void (*fn)(Hybridmem *hm, void *opaque);
    void *opaque;
} Visit;

static int visit_engine(Object *obj, void *opaque)
{
    Hybridmem *hm = (Hybridmem *)object_dynamic_cast(obj, TYPE_HYBRIDMEM);
    Visit *visit = opaque;

    if (hm && hm->started) {
        visit->fn(hm, visit->opaque);
    }
    return 0;
}

void hm_engine_foreach(void (*fn)(Hybridmem *hm, void *opaque), void *opaque)
{
    Visit visit = { fn, opaque };

    object_child_foreach(object_get_objects_root(), visit_engine, &visit);
}

typedef struct Search {
    const char *id;
    Hybridmem *found;
    unsigned matches;
} Search;

static void search_engine(Hybridmem *hm, void *opaque)
{
    Search *search = opaque;

    if (!search->id || g_str_equal(search->id, hm->id)) {
        search->found = hm;
        search->matches++;
    }
}

Hybridmem *hm_engine_find(const char *id, Error **errp)
{
    Search search = { .id = id };

    hm_engine_foreach(search_engine, &search);
    if (search.matches == 1) {
        return search.found;
    }
    if (id) {
        error_setg(errp, "there is no hybridmem object with id '%s'", id);
    } else if (search.matches) {
        error_setg(errp, "there are %u hybridmem objects: say which by 'id'",
                   search.matches);
    } else {
        error_setg(errp, "there is no hybridmem object");
    }
    return NULL;
}

/* One predicate for "too late to change". */
static bool is_complete(Object *obj, const char *name, Error **errp)
{
    if (!HYBRIDMEM(obj)->id) {
        return false;
    }
    error_setg(errp, "cannot change property '%s' of hybridmem '%s': it is"
               " in use", name, HYBRIDMEM(obj)->id);
    return true;
}

static char *get_memdev(Object *obj, Error **errp)
{
    return g_strdup(HYBRIDMEM(obj)->memdev);
}

static void set_memdev(Object *obj, const char *value, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    if (!is_complete(obj, "memdev", errp)) {
        g_free(hm->memdev);
        hm->memdev = g_strdup(value);
    }
}

static void get_block_size(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    visit_type_size(v, name, &HYBRIDMEM(obj)->block_size, errp);
}

static void set_block_size(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    uint64_t value;

    if (!visit_type_size(v, name, &value, errp) ||
        is_complete(obj, name, errp)) {
        return;
    }
    if (!value) {
        error_setg(errp, "block-size=0: leave it out for the default");
        return;
    }
    HYBRIDMEM(obj)->block_size = value;
}

static void hybridmem_init(Object *obj)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    hm_params_init(&hm->params);
    qemu_mutex_init(&hm->lock);
    qemu_cond_init(&hm->wake);
    QSIMPLEQ_INIT(&hm->requests);
    QSIMPLEQ_INIT(&hm->finished);
    hm->state = HYBRIDMEM_STATE__MAX;           /* nothing announced yet */
}

/* The thread must end while the object is still whole. */
static void hybridmem_unparent(Object *obj)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    if (hm->started) {
        hm_engine_stop_thread(hm);
        hm->started = false;
        free_core(hm);
        leave_placement(hm);
    }
    if (hm->machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&hm->machine_done);
        hm->machine_done.notify = NULL;
    }
    if (hm->attached) {
        hm->container->engine = NULL;
        hm->attached = false;
    }
}

static void hybridmem_finalize(Object *obj)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    if (hm->container) {
        object_unref(OBJECT(hm->container));
    }
    qemu_cond_destroy(&hm->wake);
    qemu_mutex_destroy(&hm->lock);
    g_free(hm->last_error);
    g_free(hm->memdev);
    g_free(hm->id);
}

static void hybridmem_class_init(ObjectClass *oc, HmClassData *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = hybridmem_complete;
    oc->unparent = hybridmem_unparent;

    object_class_property_add_str(oc, "memdev", get_memdev, set_memdev);
    object_class_property_set_description(oc, "memdev",
        "Id of the memory-backend-container to manage");
    object_class_property_add(oc, "block-size", "size", get_block_size,
                              set_block_size, NULL, NULL);
    object_class_property_set_description(oc, "block-size",
        "Bytes that move at once");
    hm_params_class_init(oc);
}

static const TypeInfo hybridmem_info = {
    .name = TYPE_HYBRIDMEM,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(Hybridmem),
    .instance_init = hybridmem_init,
    .instance_finalize = hybridmem_finalize,
    .class_init = hybridmem_class_init,
    .interfaces = (HmInterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    },
};

static void register_types(void)
{
    type_register_static(&hybridmem_info);
}

type_init(register_types);
