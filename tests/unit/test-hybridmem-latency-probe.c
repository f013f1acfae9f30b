/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests for hw/hybridmem/latency-probe.c, on memory of this process.  How
 * long loads take is shown, and not judged.
 */
#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/units.h"
#include "hw/hybridmem/latency-probe.h"

#define PAGE 4096
#define PAGES (64 * MiB / PAGE)

typedef struct Ram {
    int fd;
    uint8_t *host;
    uint64_t pages;
    HmLatencyProbe *p;
    uint64_t picks;
    uint64_t every;             /* pages that are picked: 0, every, ... */
    bool none;                  /* is picked at all */
    bool mapped;                /* is claimed */
} Ram;

static bool pick(void *opaque, HmProbePage *page)
{
    Ram *r = opaque;

    r->picks++;
    page->page = g_random_int_range(0, r->pages / r->every) * r->every;
    page->mapped = r->mapped;
    return !r->none;
}

static void ram_init(Ram *r, uint64_t pages)
{
    const char *why = "";

    *r = (Ram) { .pages = pages, .every = 1 };
    r->fd = memfd_create("ram", MFD_CLOEXEC);
    g_assert_cmpint(r->fd, >=, 0);
    g_assert_cmpint(ftruncate(r->fd, pages * PAGE), ==, 0);
    r->host = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                   r->fd, 0);
    g_assert_true(r->host != MAP_FAILED);
    r->p = hm_latency_probe_new(r->host, PAGE, &why);
    g_assert_cmpstr(why, ==, NULL);
    g_assert_nonnull(r->p);
}

static void ram_end(Ram *r)
{
    hm_latency_probe_free(r->p);
    munmap(r->host, r->pages * PAGE);
    close(r->fd);
}

static void fill(Ram *r, uint64_t every)
{
    for (uint64_t p = 0; p < r->pages; p += every) {
        memset(r->host + p * PAGE, p | 1, PAGE);
    }
}

/* Bytes that the file takes. */
static uint64_t filled(const Ram *r)
{
    struct stat st;

    g_assert_cmpint(fstat(r->fd, &st), ==, 0);
    return st.st_blocks * 512ull;
}

static void test_measure(void)
{
    Ram r;

    ram_init(&r, PAGES);
    fill(&r, 1);
    for (int i = 0; i < 3; i++) {
        double ns = hm_latency_probe(r.p, pick, &r);

        g_test_message("%.1f ns", ns);
        g_assert_cmpfloat(ns, >, 0);
        g_assert_cmpuint(r.picks, ==, HM_LATENCY_CHAIN * HM_LATENCY_CHAINS);
        r.picks = 0;
    }
    for (uint64_t p = 0; p < r.pages; p++) {
        for (unsigned i = 0; i < PAGE; i++) {
            g_assert_cmphex(r.host[p * PAGE + i], ==, (uint8_t)(p | 1));
        }
    }
    ram_end(&r);
}

/* What is not in the page table is not read, nor does it come there. */
static void test_absent(void)
{
    uint64_t before;
    Ram r;

    ram_init(&r, 8192);
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), ==, 0);
    g_assert_cmpuint(r.picks, ==, HM_LATENCY_TRIES);
    g_assert_cmpuint(filled(&r), ==, 0);

    /* One in sixteen, far apart: for faults that bring their neighbours. */
    fill(&r, 16);
    before = filled(&r);
    r.picks = 0;
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), >, 0);
    g_assert_cmpuint(r.picks, <=, HM_LATENCY_TRIES);
    g_assert_cmpuint(filled(&r), ==, before);

    /* Dropped, they stay so, as an access sampler wants it. */
    g_assert_cmpint(madvise(r.host, r.pages * PAGE, MADV_DONTNEED), ==, 0);
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), ==, 0);
    r.host[0] = 1;
    r.every = 16;
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), ==, 0);
    ram_end(&r);
}

/* The least that is enough: chains of the same pages again do. */
static void test_few(void)
{
    Ram r;

    ram_init(&r, 64);
    r.host[0] = 1;
    r.every = 64;
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), >, 0);
    r.none = true;
    r.picks = 0;
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), ==, 0);
    g_assert_cmpuint(r.picks, ==, HM_LATENCY_TRIES);
    ram_end(&r);
}

static void *probe_truncated(void *opaque)
{
    sigset_t set, now;
    Ram *r = opaque;

    /* As QEMU's threads have it. */
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    r->mapped = true;
    for (int i = 0; i < 100; i++) {
        g_assert_cmpfloat(hm_latency_probe(r->p, pick, r), ==, 0);
        pthread_sigmask(SIG_BLOCK, NULL, &now);
        g_assert_cmpint(sigismember(&now, SIGBUS), ==, 1);
    }
    r->mapped = false;
    g_assert_cmpfloat(hm_latency_probe(r->p, pick, r), ==, 0);
    return NULL;
}

/* A file that ends before the mapping does. */
static void test_truncated(void)
{
    GThread *thread;
    Ram r;

    ram_init(&r, 64);
    fill(&r, 1);
    g_assert_cmpint(ftruncate(r.fd, 0), ==, 0);
    thread = g_thread_new("probe", probe_truncated, &r);
    g_thread_join(thread);
    /* It can be read again. */
    g_assert_cmpint(ftruncate(r.fd, r.pages * PAGE), ==, 0);
    fill(&r, 1);
    g_assert_cmpfloat(hm_latency_probe(r.p, pick, &r), >, 0);
    ram_end(&r);
}

static void test_refused(void)
{
    const char *why = NULL;

    g_assert_null(hm_latency_probe_new(NULL, 2 * PAGE, &why));
    g_assert_cmpstr(why, ==, "the guest's pages are not of the host's size");
    hm_latency_probe_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hybridmem/latency-probe/measure", test_measure);
    g_test_add_func("/hybridmem/latency-probe/absent", test_absent);
    g_test_add_func("/hybridmem/latency-probe/few", test_few);
    g_test_add_func("/hybridmem/latency-probe/truncated", test_truncated);
    g_test_add_func("/hybridmem/latency-probe/refused", test_refused);
    return g_test_run();
}
