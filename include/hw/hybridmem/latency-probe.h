/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a tier takes to answer, under the load that it has now.
 *
 * A chain of loads, each from an address that depends on what the last one has
 * read, takes the sum of their latencies.  Each is of a line of another page,
 * at random; before, the page is touched elsewhere, so that the processor
 * knows where it is, and the line is taken out of the caches, where the
 * processor lets us.  Of many chains the median counts: those in which the
 * thread lost the processor are among the longest.
 *
 * What is read is the guest's; its bytes are looked at by nobody, nothing is
 * written, and no page fault is made: only pages in QEMU's page table are
 * read, so that a hole of a file stays one, and an access sampler does not
 * take us for the guest.  (A page that is given up in the very moment between
 * the look and the load reads as zeroes to us, as it would to the guest.)
 * Memory that cannot be read (SIGBUS) is survived.
 *
 * Not thread-safe, but for _new() and _free(), any thread may use it.  Knows
 * nothing of QEMU, tiers or blocks.
 */
#ifndef HW_HYBRIDMEM_LATENCY_PROBE_H
#define HW_HYBRIDMEM_LATENCY_PROBE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct HmLatencyProbe HmLatencyProbe;

/* Loads in a chain, and the most and least chains for a result. */
#define HM_LATENCY_CHAIN 16
#define HM_LATENCY_CHAINS 16
#define HM_LATENCY_CHAINS_MIN 4
/* Pages looked at in search of such that can be read. */
#define HM_LATENCY_TRIES 2048
/* No chain begins later after the first look; ns. */
#define HM_LATENCY_LIMIT (5 * 1000 * 1000)

typedef struct HmProbePage {
    uint64_t page;              /* number, from the start of the range */
    bool mapped;                /* surely, though pagemap cannot tell */
} HmProbePage;

/*
 * @host: the start of the range.  NULL if nothing can be measured; *@why then
 * says so, in a static string.  Main loop: takes care of SIGBUS.
 */
HmLatencyProbe *hm_latency_probe_new(void *host, uint64_t page_size,
                                     const char **why);
void hm_latency_probe_free(HmLatencyProbe *p);

/*
 * Nanoseconds of a load, of pages that @pick chooses at random; it returns
 * false if it has none this time.  0: too few pages could be read.
 */
double hm_latency_probe(HmLatencyProbe *p,
                        bool (*pick)(void *opaque, HmProbePage *page),
                        void *opaque);

#endif
