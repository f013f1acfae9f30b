/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What writes to nvm would have cost on the device that model= names.  The
 * schema says what is assumed.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/engine.h"
#include "hw/hybridmem/model.h"

static HybridmemEstimate *estimate(HmRange r)
{
    HybridmemEstimate *e;

    if (!r.known) {
        return NULL;
    }
    e = g_new0(HybridmemEstimate, 1);
    e->low = r.low;
    e->typical = r.typical;
    e->high = r.high;
    return e;
}

HybridmemEstimates *hm_estimates(const char *model, const HmStats *s,
                                 uint64_t own_bytes, uint64_t nvm_size)
{
    const HmModel *m = hm_model_find(model);
    double bytes = (double)s->guest_nvm_bytes + own_bytes;
    HybridmemEstimates *e;
    HmRange wear;

    if (!m) {
        return NULL;
    }
    e = g_new0(HybridmemEstimates, 1);
    e->model = g_strdup(m->name);
    e->observed_ms = s->observed_ms;
    e->guest_nvm_bytes = s->guest_nvm_bytes;
    e->own_nvm_bytes = own_bytes;
    e->write_energy = estimate(hm_model_write_energy(m, bytes));
    if (e->write_energy) {
        e->write_energy_dram =
            estimate(hm_model_write_energy(hm_model_dram(), bytes));
    }
    /* Pages and blocks consist of whole granules. */
    wear = hm_model_wear(m, bytes, nvm_size, true);
    e->wear = estimate(wear);
    e->years_until_worn = estimate(hm_model_years(&wear,
                                                  s->observed_ms / 1e3));
    return e;
}
