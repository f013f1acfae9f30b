/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our commands where there is no guest RAM: qemu-storage-daemon has them in
 * its schema, because it includes qom.json and that includes hybridmem.json.
 * It can have no hybridmem object, so queries answer with an empty list.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-hybridmem.h"

static void no_guest_ram(Error **errp)
{
    error_setg(errp, "This program has no guest RAM");
}

HybridmemInfoList *qmp_query_hybridmem(Error **errp)
{
    return NULL;
}

HybridmemHeatList *qmp_query_hybridmem_heat(bool has_buckets, uint32_t buckets,
                                            Error **errp)
{
    return NULL;
}

void qmp_hybridmem_set(HybridmemSetArguments *args, Error **errp)
{
    no_guest_ram(errp);
}

void qmp_hybridmem_rebalance(const char *id, Error **errp)
{
    no_guest_ram(errp);
}

HybridmemSwapResult *qmp_hybridmem_swap(const char *id,
                                        HybridmemPairList *pairs, Error **errp)
{
    no_guest_ram(errp);
    return NULL;
}

void qmp_hybridmem_set_quota(const char *id, uint64_t fast_size, Error **errp)
{
    no_guest_ram(errp);
}
