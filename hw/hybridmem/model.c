/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device models: the arithmetic.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/model.h"

#define SECONDS_PER_YEAR (365.25 * 24 * 3600)

const HmModel *hm_model_find(const char *name)
{
    const HmModel *m;

    for (m = hm_model_table; m->name; m++) {
        if (!m->reference && g_str_equal(m->name, name)) {
            return m;
        }
    }
    return NULL;
}

const HmModel *hm_model_dram(void)
{
    const HmModel *m = hm_model_table;

    while (!m->reference) {
        m++;
    }
    return m;
}

char *hm_model_names(void)
{
    GString *names = g_string_new(NULL);
    const HmModel *m;

    for (m = hm_model_table; m->name; m++) {
        if (!m->reference) {
            g_string_append_printf(names, "%s%s", names->len ? ", " : "",
                                   m->name);
        }
    }
    return g_string_free(names, false);
}

/* @factor of each; not known if @r is not. */
static HmRange scale(const HmRange *r, double factor)
{
    if (!r->known) {
        return (HmRange) { };
    }
    return (HmRange) { true, r->low * factor, r->typical * factor,
                       r->high * factor };
}

/* @amount divided by each: the highest value makes the lowest result. */
static HmRange divide(double amount, const HmRange *r)
{
    if (!r->known) {
        return (HmRange) { };
    }
    return (HmRange) { true, amount / r->high, amount / r->typical,
                       amount / r->low };
}

static HmRange add(HmRange a, HmRange b)
{
    if (!a.known || !b.known) {
        return (HmRange) { };
    }
    return (HmRange) { true, a.low + b.low, a.typical + b.typical,
                       a.high + b.high };
}

HmRange hm_model_write_energy(const HmModel *m, double bytes)
{
    return scale(&m->write_energy_nj_b, bytes / 1e9);
}

HmRange hm_model_wear(const HmModel *m, double bytes, double capacity,
                      bool whole)
{
    HmRange wear = { };

    if (capacity > 0) {
        wear = divide(bytes / capacity, &m->endurance_writes);
    }
    if (!whole && m->write_granularity_b.known) {
        wear.high *= m->write_granularity_b.high / HM_MODEL_LINE;
    }
    return wear;
}

HmRange hm_model_years(const HmRange *wear, double seconds)
{
    if (!wear->known || wear->low <= 0 || seconds <= 0) {
        return (HmRange) { };
    }
    return divide(seconds / SECONDS_PER_YEAR, wear);
}

static HmRange latency(const HmModel *m, const HmTraffic *t)
{
    HmRange reads = scale(&m->read_latency_ns, t->fills / 1e9);

    return m->write_latency_ns.known ?
           add(reads, scale(&m->write_latency_ns, t->writebacks / 1e9)) :
           reads;
}

static HmRange energy(const HmModel *m, const HmTraffic *t)
{
    HmRange moved = add(scale(&m->read_energy_nj_b,
                              t->fills * HM_MODEL_LINE / 1e9),
                        scale(&m->write_energy_nj_b,
                              t->writebacks * HM_MODEL_LINE / 1e9));

    return add(moved, scale(&m->idle_power_w_gb,
                            t->capacity / 1e9 * t->seconds));
}

void hm_model_account(const HmModel *m, const HmTraffic *t, HmAccount *a)
{
    double read = t->fills * HM_MODEL_LINE;
    double written = t->writebacks * HM_MODEL_LINE;

    a->latency_s = latency(m, t);
    a->transfer_s = add(divide(read / 1e9, &m->read_bandwidth_gb_s),
                        divide(written / 1e9, &m->write_bandwidth_gb_s));
    a->energy_j = energy(m, t);
    a->wear = hm_model_wear(m, written, t->capacity, false);
}

/* ns to move a line; 0 if it is not known. */
static double line_time(const HmRange *bandwidth_gb_s)
{
    return bandwidth_gb_s->known ? HM_MODEL_LINE / bandwidth_gb_s->typical : 0;
}

static double more(double value, double of_dram)
{
    return MAX(value - of_dram, 0);
}

bool hm_model_costs(const HmModel *m, HmObjective objective, double *read,
                    double *write)
{
    const HmModel *dram = hm_model_dram();

    switch (objective) {
    case HM_OBJECTIVE_TIME:
        *read = more(m->read_latency_ns.typical,
                     dram->read_latency_ns.typical);
        *write = more(line_time(&m->write_bandwidth_gb_s),
                      line_time(&dram->write_bandwidth_gb_s));
        return true;
    case HM_OBJECTIVE_ENERGY:
        *read = more(m->read_energy_nj_b.typical,
                     dram->read_energy_nj_b.typical) * HM_MODEL_LINE;
        *write = more(m->write_energy_nj_b.typical,
                      dram->write_energy_nj_b.typical) * HM_MODEL_LINE;
        return m->read_energy_nj_b.known && m->write_energy_nj_b.known;
    case HM_OBJECTIVE_WEAR:
        *read = 0;
        *write = 1;
        return true;
    }
    g_assert_not_reached();
}
