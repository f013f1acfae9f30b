/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timed chains of loads.
 */
#include "qemu/osdep.h"
#include "hw/hybridmem/latency-probe.h"
#include "hw/hybridmem/safe-copy.h"

#define LINE 64
#define PRESENT (1ULL << 63)    /* in an entry of pagemap */
#define CLOCK_TRIES 64

struct HmLatencyProbe {
    uint8_t *host;
    uint64_t page_size;
    int pagemap;
    double clock_ns;            /* that looking at the clock takes */
    uint64_t random;
};

typedef struct Chain {
    const uint8_t *line[HM_LATENCY_CHAIN];
    uint64_t ns;
} Chain;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t load(const uint8_t *at)
{
    return *(const volatile uint64_t *)at;      /* for the sake of reading */
}

/* Nobody loses anything by it but time. */
static void take_from_caches(Chain *c)
{
#ifdef HOST_X86_64
    for (unsigned i = 0; i < HM_LATENCY_CHAIN; i++) {
        __builtin_ia32_clflush(c->line[i]);
    }
    __builtin_ia32_mfence();
#endif
}

/* Half a page away, far from what a prefetcher would take for a stream. */
static void touch_pages(const Chain *c, uint64_t half)
{
    for (unsigned i = 0; i < HM_LATENCY_CHAIN; i++) {
        load((const uint8_t *)((uintptr_t)c->line[i] ^ half));
    }
}

static void follow(const Chain *c)
{
    static const volatile uint64_t none;        /* 0, but who knows */
    uint64_t mask = none, next = 0;

    for (unsigned i = 0; i < HM_LATENCY_CHAIN; i++) {
        next = load(c->line[i] + next) & mask;
    }
}

typedef struct Run {
    const HmLatencyProbe *p;
    Chain chain;
} Run;

static void run_chain(void *opaque)
{
    Run *r = opaque;
    uint64_t start;

    touch_pages(&r->chain, r->p->page_size / 2);
    take_from_caches(&r->chain);
    start = now_ns();
    follow(&r->chain);
    r->chain.ns = now_ns() - start;
}

static uint64_t next_random(HmLatencyProbe *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random;
}

static bool is_present(const HmLatencyProbe *p, uint64_t page)
{
    uint64_t at = (uintptr_t)p->host / p->page_size + page, entry;

    return pread(p->pagemap, &entry, sizeof(entry), at * sizeof(entry)) ==
           sizeof(entry) && (entry & PRESENT);
}

/* False if no page is found before @tries is used up. */
static bool fill(HmLatencyProbe *p, Chain *c, unsigned *tries,
                 bool (*pick)(void *opaque, HmProbePage *page), void *opaque)
{
    unsigned n = 0;

    while (n < HM_LATENCY_CHAIN) {
        HmProbePage page = { };

        if (!*tries) {
            return false;
        }
        --*tries;
        if (pick(opaque, &page) && (page.mapped || is_present(p, page.page))) {
            uint64_t line = next_random(p) % (p->page_size / LINE);

            c->line[n++] = p->host + page.page * p->page_size + line * LINE;
        }
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(uint64_t *v, unsigned n)
{
    qsort(v, n, sizeof(*v), by_value);
    return (v[(n - 1) / 2] + v[n / 2]) / 2.0;
}

double hm_latency_probe(HmLatencyProbe *p,
                        bool (*pick)(void *opaque, HmProbePage *page),
                        void *opaque)
{
    uint64_t ns[HM_LATENCY_CHAINS], end = now_ns() + HM_LATENCY_LIMIT;
    unsigned tries = HM_LATENCY_TRIES, n = 0;
    Run run = { .p = p };
    sigset_t mask;

    hm_safe_copy_begin(&mask);
    while (n < HM_LATENCY_CHAINS && now_ns() < end &&
           fill(p, &run.chain, &tries, pick, opaque) &&
           hm_safe_call(run_chain, &run)) {
        ns[n++] = run.chain.ns;
    }
    hm_safe_copy_end(&mask);
    if (n < HM_LATENCY_CHAINS_MIN) {
        return 0;
    }
    return MAX(median(ns, n) - p->clock_ns, 1) / HM_LATENCY_CHAIN;
}

static uint64_t clock_takes(void)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < CLOCK_TRIES; i++) {
        uint64_t start = now_ns();

        least = MIN(least, now_ns() - start);
    }
    return least;
}

HmLatencyProbe *hm_latency_probe_new(void *host, uint64_t page_size,
                                     const char **why)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    HmLatencyProbe *p;

    *why = page_size != qemu_real_host_page_size() ?
           "the guest's pages are not of the host's size" :
           pagemap < 0 ? "/proc/self/pagemap cannot be read" : NULL;
    if (*why) {
        if (pagemap >= 0) {
            close(pagemap);
        }
        return NULL;
    }
    hm_safe_copy_init();
    p = g_new0(HmLatencyProbe, 1);
    p->host = host;
    p->page_size = page_size;
    p->pagemap = pagemap;
    p->clock_ns = clock_takes();
    p->random = 0x9e3779b97f4a7c15ull;
    return p;
}

void hm_latency_probe_free(HmLatencyProbe *p)
{
    if (p) {
        close(p->pagemap);
        g_free(p);
    }
}
