/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device models: what an amount of traffic would have cost on a kind of
 * memory that is not there.  The values are in device-models.toml, from which
 * tools/hybridmem_models.py makes the table; that file has the same formulas
 * in Python, and the unit test holds the two against each other.
 *
 *   energy   E = Er * read + Ew * written + P_idle * capacity * t, which is
 *            RAMinate's E_dram and E_mram (SoCC 2016)
 *   latency  fills * L_read + writebacks * L_write: every access is waited
 *            for, one after the other, which no machine exceeds.  Write-backs
 *            count only where a source gives L_write: processors do not wait
 *            for them.
 *   transfer read / B_read + written / B_write: all accesses overlap, and
 *            only the device's bandwidth counts
 *   wear     written * a / (endurance * capacity), as a share of 1, if the
 *            device levels wear perfectly.  a is 1 if the medium writes no
 *            more than it is told to; and high takes granularity / 64, as if
 *            each line that is written back were alone in its granule.
 *
 * Each result is low, typical and high: low takes the value of the model that
 * makes the result small.  Results that need a value that the model does not
 * have are not known.  Plain C; knows nothing of QEMU.
 */
#ifndef HW_HYBRIDMEM_MODEL_H
#define HW_HYBRIDMEM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the cache line in which traffic is counted. */
#define HM_MODEL_LINE 64

typedef struct HmRange {
    bool known;                 /* else the rest is 0 */
    double low, typical, high;
} HmRange;

typedef struct HmModel {
    const char *name, *title;
    bool reference;             /* what others are compared with */
    HmRange read_latency_ns;
    HmRange write_latency_ns;
    HmRange read_bandwidth_gb_s;        /* 10^9 bytes per second */
    HmRange write_bandwidth_gb_s;
    HmRange read_energy_nj_b;           /* nJ per byte */
    HmRange write_energy_nj_b;
    HmRange idle_power_w_gb;            /* W per 10^9 bytes */
    HmRange endurance_writes;           /* bytes written per byte there is */
    HmRange write_granularity_b;
} HmModel;

/* Traffic of one range of memory. */
typedef struct HmTraffic {
    double fills;               /* lines read */
    double writebacks;          /* lines written */
    double capacity;            /* bytes of the range */
    double seconds;             /* that all of it took */
} HmTraffic;

typedef struct HmAccount {
    HmRange latency_s, transfer_s;
    HmRange energy_j;
    HmRange wear;               /* share of the endurance; 1: worn out */
} HmAccount;

/* By name; NULL if there is none, or only a reference of that name. */
const HmModel *hm_model_find(const char *name);
/* The reference. */
const HmModel *hm_model_dram(void);
/* All that hm_model_find() finds, "a, b, c"; to be freed. */
char *hm_model_names(void);

void hm_model_account(const HmModel *m, const HmTraffic *t, HmAccount *a);

/* Energy of writing @bytes, in J. */
HmRange hm_model_write_energy(const HmModel *m, double bytes);
/*
 * Share of the endurance that @bytes use; @whole: they were written in whole
 * granules.
 */
HmRange hm_model_wear(const HmModel *m, double bytes, double capacity,
                      bool whole);
/*
 * Years of 365.25 days until the endurance is used up, if @wear is what
 * @seconds took and it goes on so.  Not known if there was no wear.
 */
HmRange hm_model_years(const HmRange *wear, double seconds);

/* What a policy is to save. */
typedef enum HmObjective {
    HM_OBJECTIVE_TIME,
    HM_OBJECTIVE_ENERGY,
    HM_OBJECTIVE_WEAR,
} HmObjective;

/*
 * What a line costs here more than in dram, typically: in ns, nJ, or writes.
 * For time it is the latency of a read, which is waited for, and the transfer
 * of a write, which is not; what is not known of it is 0.  False if @m does
 * not know the energy.
 */
bool hm_model_costs(const HmModel *m, HmObjective objective, double *read,
                    double *write);

/* The table that is made from device-models.toml; ends with a NULL name. */
extern const HmModel hm_model_table[];

#endif
