/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -object hybridmem: options, and the life of an engine.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
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

static void make_core(Hybridmem *hm)
{
    HmPolicyParams pp = hm_params_for_policy(&hm->params, hm->map_limit);

    hm->heat = hm_heat_new(hm->pages, hm->pages_per_block,
                           hm->params.half_life);
    hm->accesses = hm_accesses_new(hm);
    hm->latencies = hm_latencies_new(hm);
    hm->policy = hm_policy_new(
        hm_policy_find(HybridmemPolicy_str(hm->params.policy)),
        hm->frames, hm->heat, hm_accesses_rates(hm->accesses), &pp);
    hm->sampler = hm_sampler_dirty_ops.create(&hm->backend->mr);
    hm->dirty = bitmap_new(hm->pages);
    hm->plan = g_new(HmMove, HM_ENGINE_PLAN_MAX);
    hm->core_bytes = hm_engine_core_bytes(hm);
}

static void free_core(Hybridmem *hm)
{
    g_free(hm->plan);
    g_free(hm->dirty);
    hm->sampler->ops->destroy(hm->sampler);
    hm_policy_free(hm->policy);
    hm_latencies_free(hm->latencies);
    hm_accesses_free(hm->accesses);
    hm_heat_free(hm->heat);
}

static bool open_trace(Hybridmem *hm, Error **errp)
{
    if (!hm->trace) {
        return true;
    }
    hm->recorder = hm_recorder_open(hm->trace, hm->id, errp);
    return hm->recorder != NULL;
}

static void begin_trace(Hybridmem *hm)
{
    HmTraceInfo info = {
        .pages = hm->pages,
        .page_size = hm->page_size,
        .pages_per_block = hm->pages_per_block,
        .half_life_ms = hm->params.half_life,
    };

    if (hm->recorder) {
        g_strlcpy(info.policy, HybridmemPolicy_str(hm->params.policy),
                  sizeof(info.policy));
        hm_recorder_start(hm->recorder, &info, hm->frames);
        hm->recording = hm_recorder_state(hm->recorder);
    }
}

static void close_trace(Hybridmem *hm)
{
    hm_recorder_close(hm->recorder);
    hm->recorder = NULL;
}

static bool place_memory(Hybridmem *hm, Error **errp)
{
    ERRP_GUARD();
    bool has_choice = hm->mover_option == HYBRIDMEM_MOVER_AUTO &&
                      hm->container && hm->mover == &hm_mover_numa_ops;

    if (hm->mover->attach(hm, errp)) {
        return true;
    }
    if (has_choice) {
        error_prepend(errp, "the children of '%s' are bound to NUMA nodes, so"
                      " that mover=auto of '%s' takes numa (mover=remap is"
                      " the other): ", hm->memdev, hm->id);
    }
    return false;
}

static bool engine_start(Hybridmem *hm, Error **errp)
{
    hm->page_size = qemu_target_page_size();
    hm->pages = hm->backend->size / hm->page_size;
    if (!open_trace(hm, errp)) {
        return false;
    }
    if (!place_memory(hm, errp)) {
        close_trace(hm);
        return false;
    }
    hm->pages_per_block = hm->block_size / hm->page_size;
    make_core(hm);
    begin_trace(hm);
    hm->may_nest = hm->mover->holds_guest && hm_guest_may_nest_unseen();
    hm->started = true;
    hm_engine_start_thread(hm);
    return true;
}

static HostMemoryBackend *find_backend(Hybridmem *hm, Error **errp)
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
    return MEMORY_BACKEND(o);
}

static bool choose_mover(Hybridmem *hm, Error **errp)
{
    if (hm->mover_option == HYBRIDMEM_MOVER_REMAP && !hm->container) {
        error_setg(errp, "mover=remap of '%s' is not possible: memdev=%s is a"
                   " %s, and only the RAM of a memory-backend-container can"
                   " be mapped anew; use mover=numa", hm->id, hm->memdev,
                   object_get_typename(OBJECT(hm->backend)));
        return false;
    }
    if (hm->mover_option == HYBRIDMEM_MOVER_AUTO) {
        hm->mover = hm->container && !hm_numa_fits(hm->container) ?
                    &hm_mover_remap_ops : &hm_mover_numa_ops;
    } else {
        hm->mover = hm->mover_option == HYBRIDMEM_MOVER_REMAP ?
                    &hm_mover_remap_ops : &hm_mover_numa_ops;
    }
    return true;
}

typedef struct Rival {
    Hybridmem *hm, *found;
} Rival;

static void find_rival(Hybridmem *other, void *opaque)
{
    Rival *r = opaque;

    if (other != r->hm && other->backend == r->hm->backend) {
        r->found = other;
    }
}

static bool engine_attach(Hybridmem *hm, Error **errp)
{
    Rival rival = { .hm = hm };

    hm->backend = find_backend(hm, errp);
    if (!hm->backend) {
        return false;
    }
    object_ref(OBJECT(hm->backend));
    hm->container = (HmContainer *)object_dynamic_cast(
        OBJECT(hm->backend), TYPE_MEMORY_BACKEND_CONTAINER);
    hm_engine_foreach(find_rival, &rival);
    if (rival.found) {
        error_setg(errp, "memdev=%s of '%s' has an engine already: '%s'",
                   hm->memdev, hm->id, rival.found->id);
        return false;
    }
    return hm_params_check_whole(&hm->params, errp) &&
           choose_mover(hm, errp) && engine_start(hm, errp);
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
        error_setg(errp, "'%s' needs memdev=, the id of a memory backend",
                   hm->id);
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

static char *get_trace(Object *obj, Error **errp)
{
    return g_strdup(HYBRIDMEM(obj)->trace);
}

static void set_trace(Object *obj, const char *value, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    if (!is_complete(obj, "trace", errp)) {
        g_free(hm->trace);
        hm->trace = g_strdup(value);
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

static int get_mover(Object *obj, Error **errp)
{
    return HYBRIDMEM(obj)->mover_option;
}

static void set_mover(Object *obj, int value, Error **errp)
{
    if (!is_complete(obj, "mover", errp)) {
        HYBRIDMEM(obj)->mover_option = value;
    }
}

static void get_fast_size(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    uint64_t value;

    qemu_mutex_lock(&hm->lock);
    value = hm->started ? hm->tier_size[HM_TIER_DRAM] : hm->fast_size;
    qemu_mutex_unlock(&hm->lock);
    visit_type_size(v, name, &value, errp);
}

static void set_fast_size(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    uint64_t value;

    if (!visit_type_size(v, name, &value, errp)) {
        return;
    }
    if (hm->id) {
        error_setg(errp, "fast-size of hybridmem '%s' is in use: change it"
                   " by hybridmem-set-quota", hm->id);
        return;
    }
    hm->fast_size = value;
    hm->has_fast_size = true;
}

uint16List *hm_node_list(const HmNodes *nodes)
{
    uint16List *list = NULL, **tail = &list;
    unsigned i;

    for (i = 0; i < HM_NUMA_NODES; i++) {
        if (test_bit(i, nodes->bits)) {
            QAPI_LIST_APPEND(tail, i);
        }
    }
    return list;
}

/* @opaque: the tier */
static void get_nodes(Object *obj, Visitor *v, const char *name,
                      void *opaque, Error **errp)
{
    uint16List *list = hm_node_list(
        &HYBRIDMEM(obj)->nodes[GPOINTER_TO_UINT(opaque)]);

    visit_type_uint16List(v, name, &list, errp);
    qapi_free_uint16List(list);
}

static void set_nodes(Object *obj, Visitor *v, const char *name,
                      void *opaque, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    HmTier tier = GPOINTER_TO_UINT(opaque);
    uint16List *list = NULL, *l;
    HmNodes nodes = { };

    if (is_complete(obj, name, errp) ||
        !visit_type_uint16List(v, name, &list, errp)) {
        return;
    }
    for (l = list; l; l = l->next) {
        if (l->value >= HM_NUMA_NODES) {
            error_setg(errp, "%s=%u: there are no more than %u nodes", name,
                       l->value, HM_NUMA_NODES);
            break;
        }
        set_bit(l->value, nodes.bits);
    }
    if (!l) {
        hm->nodes[tier] = nodes;
        hm->has_nodes[tier] = list != NULL;
    }
    qapi_free_uint16List(list);
}

static void check_context(const Object *obj, const char *name, Object *val,
                          Error **errp)
{
    is_complete((Object *)obj, name, errp);
}

static void hybridmem_init(Object *obj)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    hm_params_init(&hm->params);
    qemu_mutex_init(&hm->lock);
    qemu_cond_init(&hm->wake);
    QSIMPLEQ_INIT(&hm->requests);
    QSIMPLEQ_INIT(&hm->finished);
    hm->just_moved = g_array_new(false, false, sizeof(uint32_t));
    hm->demoted = g_hash_table_new(NULL, NULL);
    hm->state = HYBRIDMEM_STATE__MAX;           /* nothing announced yet */
}

/* The thread must end while the object is still whole. */
static void hybridmem_unparent(Object *obj)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    if (hm->started) {
        hm_engine_stop_thread(hm);
        hm->started = false;
        close_trace(hm);
        free_core(hm);
        hm->mover->detach(hm);
    }
    if (hm->machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&hm->machine_done);
        hm->machine_done.notify = NULL;
    }
}

static void hybridmem_finalize(Object *obj)
{
    Hybridmem *hm = HYBRIDMEM(obj);

    if (hm->backend) {
        object_unref(OBJECT(hm->backend));
    }
    g_hash_table_destroy(hm->demoted);
    g_array_free(hm->just_moved, true);
    qemu_cond_destroy(&hm->wake);
    qemu_mutex_destroy(&hm->lock);
    g_free(hm->last_error);
    g_free(hm->memdev);
    g_free(hm->trace);
    g_free(hm->id);
}

static void hybridmem_class_init(ObjectClass *oc, HmClassData *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = hybridmem_complete;
    oc->unparent = hybridmem_unparent;

    object_class_property_add_str(oc, "memdev", get_memdev, set_memdev);
    object_class_property_set_description(oc, "memdev",
        "Id of the memory backend to manage");
    object_class_property_add_enum(oc, "mover", "HybridmemMover",
                                   &HybridmemMover_lookup, get_mover,
                                   set_mover);
    object_class_property_set_description(oc, "mover",
        "auto, numa, or remap (for a memory-backend-container)");
    object_class_property_add(oc, "fast-nodes", "list", get_nodes, set_nodes,
                              NULL, GUINT_TO_POINTER(HM_TIER_DRAM));
    object_class_property_set_description(oc, "fast-nodes",
        "Mover numa: the host's NUMA nodes of DRAM");
    object_class_property_add(oc, "slow-nodes", "list", get_nodes, set_nodes,
                              NULL, GUINT_TO_POINTER(HM_TIER_NVM));
    object_class_property_set_description(oc, "slow-nodes",
        "Mover numa: the host's NUMA nodes of slower memory");
    object_class_property_add(oc, "fast-size", "size", get_fast_size,
                              set_fast_size, NULL, NULL);
    object_class_property_set_description(oc, "fast-size",
        "Mover numa: most bytes of guest RAM on fast-nodes");
    object_class_property_add_link(oc, "thread-context", TYPE_THREAD_CONTEXT,
                                   offsetof(Hybridmem, thread_context),
                                   check_context, OBJ_PROP_LINK_STRONG);
    object_class_property_set_description(oc, "thread-context",
        "Id of the thread-context that makes the engine's thread");
    object_class_property_add(oc, "block-size", "size", get_block_size,
                              set_block_size, NULL, NULL);
    object_class_property_set_description(oc, "block-size",
        "Bytes that move at once");
    object_class_property_add_str(oc, "trace", get_trace, set_trace);
    object_class_property_set_description(oc, "trace",
        "File to write a trace to, for hybridmem-replay");
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
