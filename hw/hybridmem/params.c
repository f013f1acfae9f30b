/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parameters of an engine: defaults, ranges, QOM properties.
 *
 * The struct in force has every member present.  Its @model is never freed:
 * a name in the table of models, or MODEL_NONE.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/visitor.h"
#include "qemu/units.h"
#include "hw/hybridmem/engine.h"
#include "hw/hybridmem/model.h"

#define MODEL_NONE "none"

typedef enum ParamType {
    PARAM_BOOL,
    PARAM_UINT32,
    PARAM_UINT64,
    PARAM_SIZE,
} ParamType;

typedef struct Param {
    const char *name;
    ParamType type;
    size_t has, value;              /* offsets in HybridmemParameters */
    uint32_t min, max;              /* of PARAM_UINT32 */
    const char *description;
} Param;

#define PARAM(name_, type_, field, min_, max_, text) {          \
    .name = name_,                                              \
    .type = type_,                                              \
    .has = offsetof(HybridmemParameters, has_##field),          \
    .value = offsetof(HybridmemParameters, field),              \
    .min = min_,                                                \
    .max = max_,                                                \
    .description = text,                                        \
}

static const Param params[] = {
    PARAM("enabled", PARAM_BOOL, enabled, 0, 0,
          "Sample and move"),
    PARAM("interval", PARAM_UINT32, interval, 10, 3600000,
          "Milliseconds from one sampling window to the next"),
    PARAM("settled-interval", PARAM_UINT32, settled_interval, 0, 3600000,
          "Milliseconds that interval may grow to while nothing moves;"
          " 0: four times interval"),
    PARAM("window", PARAM_UINT32, window, 1, 3600000,
          "Milliseconds of each interval during which writes are logged"),
    PARAM("access-window", PARAM_UINT32, access_window, 1, 3600000,
          "Milliseconds of each interval during which accesses are watched"),
    PARAM("access-rate", PARAM_SIZE, access_rate, 0, 0,
          "Bytes per second to watch for accesses; 0: no limit"),
    PARAM("access-faults", PARAM_UINT32, access_faults, 0, 1000000000,
          "Page faults per second that watching may cost the guest;"
          " 0: no limit"),
    PARAM("half-life", PARAM_UINT32, half_life, 10, 86400000,
          "Milliseconds in which a temperature halves"),
    PARAM("min-gain", PARAM_UINT32, min_gain, 0, 100000000,
          "Percent of its own page writes that a move must save"),
    PARAM("max-bandwidth", PARAM_SIZE, max_bandwidth, 0, 0,
          "Bytes per second that moves may copy; 0: no limit"),
    PARAM("max-nvm-writes", PARAM_SIZE, max_nvm_writes, 0, 0,
          "Bytes per day that moves may write to NVM; 0: no limit"),
    PARAM("max-stall", PARAM_UINT32, max_stall, 0, 1000000,
          "Microseconds per second that moves may hold the guest;"
          " 0: no limit"),
    PARAM("max-stop", PARAM_UINT32, max_stop, 0, 1000000,
          "Microseconds to hold the guest at once; 0: no limit"),
    PARAM("cmq-lifetime", PARAM_UINT32, cmq_lifetime, 1, 86400000,
          "Policy cmq: milliseconds without a write before a block sinks"),
    PARAM("cmq-cork", PARAM_UINT32, cmq_cork, 1, 86400000,
          "Policy cmq: milliseconds between two plans"),
    PARAM("cmq-max-pairs", PARAM_UINT32, cmq_max_pairs, 1, 1000000,
          "Policy cmq: most exchanges in one plan"),
    PARAM("seed", PARAM_UINT64, seed, 0, 0,
          "Policy shuffle: start of the random numbers"),
    PARAM("reconcile-rate", PARAM_SIZE, reconcile_rate, 0, 0,
          "Mover numa: bytes per second to ask the kernel about; 0: none"),
};

void hm_params_init(HybridmemParameters *p)
{
    HmPolicyParams pp;
    unsigned i;

    hm_policy_params_init(&pp);
    *p = (HybridmemParameters) {
        .enabled = true,
        .has_policy = true,
        .policy = HYBRIDMEM_POLICY_WRITE_HEAT,
        .interval = 1000,
        .window = 250,
        .access_window = 100,
        .access_rate = 1 * GiB,
        .access_faults = 20000,
        .half_life = 5000,
        .min_gain = pp.min_gain * 100,
        .max_bandwidth = 256 * MiB,
        .max_stall = 20000,
        .max_stop = 1000,
        .cmq_lifetime = pp.cmq_lifetime_ms,
        .cmq_cork = pp.cmq_cork_ms,
        .cmq_max_pairs = pp.cmq_max_pairs,
        .seed = pp.seed,
        .reconcile_rate = 16 * MiB,
        .model = (char *)MODEL_NONE,
        .has_objective = true,
        .objective = HYBRIDMEM_OBJECTIVE_TIME,
    };
    for (i = 0; i < ARRAY_SIZE(params); i++) {
        *(bool *)((char *)p + params[i].has) = true;
    }
}

/* Without a model, a read and a write cost the same. */
static bool costs(const HybridmemParameters *p, double *read, double *write)
{
    static const HmObjective objective[] = {
        [HYBRIDMEM_OBJECTIVE_TIME] = HM_OBJECTIVE_TIME,
        [HYBRIDMEM_OBJECTIVE_ENERGY] = HM_OBJECTIVE_ENERGY,
        [HYBRIDMEM_OBJECTIVE_WEAR] = HM_OBJECTIVE_WEAR,
    };
    const HmModel *m = hm_model_find(p->model);

    if (m) {
        return hm_model_costs(m, objective[p->objective], read, write);
    }
    *read = p->objective != HYBRIDMEM_OBJECTIVE_WEAR;
    *write = 1;
    return p->objective != HYBRIDMEM_OBJECTIVE_ENERGY;
}

HmPolicyParams hm_params_for_policy(const HybridmemParameters *p,
                                    uint64_t map_limit)
{
    double read_cost = 1, write_cost = 1;

    costs(p, &read_cost, &write_cost);
    return (HmPolicyParams) {
        .read_cost = read_cost,
        .write_cost = write_cost,
        .map_limit = map_limit,
        .min_gain = p->min_gain / 100.0,
        .cmq_lifetime_ms = p->cmq_lifetime,
        .cmq_cork_ms = p->cmq_cork,
        .cmq_max_pairs = p->cmq_max_pairs,
        .seed = p->seed,
    };
}

static size_t param_size(const Param *d)
{
    switch (d->type) {
    case PARAM_BOOL:
        return sizeof(bool);
    case PARAM_UINT32:
        return sizeof(uint32_t);
    case PARAM_UINT64:
    case PARAM_SIZE:
        return sizeof(uint64_t);
    }
    g_assert_not_reached();
}

static bool param_present(const HybridmemParameters *p, const Param *d)
{
    return *(const bool *)((const char *)p + d->has);
}

void hm_params_merge(HybridmemParameters *p, const HybridmemParameters *from)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(params); i++) {
        const Param *d = &params[i];

        if (param_present(from, d)) {
            memcpy((char *)p + d->value, (const char *)from + d->value,
                   param_size(d));
        }
    }
    if (from->has_policy) {
        p->policy = from->policy;
    }
    if (from->has_objective) {
        p->objective = from->objective;
    }
    if (from->model) {
        const HmModel *m = hm_model_find(from->model);

        p->model = (char *)(m ? m->name : MODEL_NONE);
    }
}

static bool param_check(const HybridmemParameters *p, const Param *d,
                        Error **errp)
{
    const uint32_t *value = (const void *)((const char *)p + d->value);

    if (d->type != PARAM_UINT32 || (*value >= d->min && *value <= d->max)) {
        return true;
    }
    error_setg(errp, "%s=%" PRIu32 " is out of range: it must be %" PRIu32
               " to %" PRIu32, d->name, *value, d->min, d->max);
    return false;
}

static bool model_check(const char *model, Error **errp)
{
    g_autofree char *names = NULL;

    if (!model || g_str_equal(model, MODEL_NONE) || hm_model_find(model)) {
        return true;
    }
    names = hm_model_names();
    error_setg(errp, "model '%s' is not known; one of " MODEL_NONE ", %s",
               model, names);
    return false;
}

bool hm_params_check(const HybridmemParameters *p, Error **errp)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(params); i++) {
        if (param_present(p, &params[i]) &&
            !param_check(p, &params[i], errp)) {
            return false;
        }
    }
    return model_check(p->model, errp);
}

bool hm_params_check_whole(const HybridmemParameters *p, Error **errp)
{
    ERRP_GUARD();
    double read_cost, write_cost;

    if (p->policy != HYBRIDMEM_POLICY_BENEFIT ||
        costs(p, &read_cost, &write_cost)) {
        return true;
    }
    error_setg(errp, "objective=%s needs a model of which the energy is known,"
               " and model=%s is not one",
               HybridmemObjective_str(p->objective), p->model);
    error_append_hint(errp, "Use model=stt-mram, or another objective\n");
    return false;
}

/* Else it only shows: no window need end early for it. */
static bool concerns_thread(const HybridmemParameters *p,
                            HybridmemPolicy policy)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(params); i++) {
        if (param_present(p, &params[i])) {
            return true;
        }
    }
    return p->has_policy || (policy == HYBRIDMEM_POLICY_BENEFIT &&
                             (p->has_objective || p->model));
}

bool hm_params_set(Hybridmem *hm, const HybridmemParameters *from,
                   Error **errp)
{
    HybridmemParameters whole;

    if (!hm_params_check(from, errp)) {
        return false;
    }
    qemu_mutex_lock(&hm->lock);
    whole = hm->params;
    hm_params_merge(&whole, from);
    if (hm->started && !hm_params_check_whole(&whole, errp)) {
        qemu_mutex_unlock(&hm->lock);
        return false;
    }
    hm->params = whole;
    if (concerns_thread(from, whole.policy)) {
        hm->params_changed = true;
        qemu_cond_broadcast(&hm->wake);
    }
    qemu_mutex_unlock(&hm->lock);
    return true;
}

static bool param_visit(Visitor *v, const char *name, const Param *d,
                        HybridmemParameters *p, Error **errp)
{
    void *field = (char *)p + d->value;

    switch (d->type) {
    case PARAM_BOOL:
        return visit_type_bool(v, name, field, errp);
    case PARAM_UINT32:
        return visit_type_uint32(v, name, field, errp);
    case PARAM_UINT64:
        return visit_type_uint64(v, name, field, errp);
    case PARAM_SIZE:
        return visit_type_size(v, name, field, errp);
    }
    g_assert_not_reached();
}

static void param_get(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    HybridmemParameters p;

    qemu_mutex_lock(&hm->lock);
    p = hm->params;
    qemu_mutex_unlock(&hm->lock);
    param_visit(v, name, opaque, &p, errp);
}

static void param_set(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    HybridmemParameters p = { };
    const Param *d = opaque;

    if (param_visit(v, name, d, &p, errp)) {
        *(bool *)((char *)&p + d->has) = true;
        hm_params_set(HYBRIDMEM(obj), &p, errp);
    }
}

static int policy_get(Object *obj, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    int policy;

    qemu_mutex_lock(&hm->lock);
    policy = hm->params.policy;
    qemu_mutex_unlock(&hm->lock);
    return policy;
}

static void policy_set(Object *obj, int value, Error **errp)
{
    HybridmemParameters p = { .has_policy = true, .policy = value };

    hm_params_set(HYBRIDMEM(obj), &p, errp);
}

static int objective_get(Object *obj, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    int objective;

    qemu_mutex_lock(&hm->lock);
    objective = hm->params.objective;
    qemu_mutex_unlock(&hm->lock);
    return objective;
}

static void objective_set(Object *obj, int value, Error **errp)
{
    HybridmemParameters p = { .has_objective = true, .objective = value };

    hm_params_set(HYBRIDMEM(obj), &p, errp);
}

static char *model_get(Object *obj, Error **errp)
{
    Hybridmem *hm = HYBRIDMEM(obj);
    const char *model;

    qemu_mutex_lock(&hm->lock);
    model = hm->params.model;
    qemu_mutex_unlock(&hm->lock);
    return g_strdup(model);
}

static void model_set(Object *obj, const char *value, Error **errp)
{
    HybridmemParameters p = { .model = (char *)value };

    hm_params_set(HYBRIDMEM(obj), &p, errp);
}

void hm_params_class_init(ObjectClass *oc)
{
    g_autofree char *names = hm_model_names();
    g_autofree char *models = g_strdup_printf(
        "What NVM stands for, to estimate energy and wear: " MODEL_NONE ", %s",
        names);
    static const char *const types[] = {
        [PARAM_BOOL] = "bool",
        [PARAM_UINT32] = "uint32",
        [PARAM_UINT64] = "uint64",
        [PARAM_SIZE] = "size",
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(params); i++) {
        object_class_property_add(oc, params[i].name, types[params[i].type],
                                  param_get, param_set, NULL,
                                  (void *)&params[i]);
        object_class_property_set_description(oc, params[i].name,
                                              params[i].description);
    }
    object_class_property_add_enum(oc, "objective", "HybridmemObjective",
                                   &HybridmemObjective_lookup,
                                   objective_get, objective_set);
    object_class_property_set_description(oc, "objective",
        "Policy benefit: what to save, time, energy or wear");
    object_class_property_add_enum(oc, "policy", "HybridmemPolicy",
                                   &HybridmemPolicy_lookup, policy_get,
                                   policy_set);
    object_class_property_set_description(oc, "policy",
        "benefit, write-heat, temperature, cmq, manual, none, or shuffle (for"
        " tests)");
    object_class_property_add_str(oc, "model", model_get, model_set);
    object_class_property_set_description(oc, "model", models);
}
