/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memcpy() that survives SIGBUS.
 *
 * The handler jumps out if the thread is in a copy of ours, and passes the
 * signal on otherwise: QEMU's own handler deals with memory errors of the
 * guest.
 */
#include "qemu/osdep.h"
#include <setjmp.h>
#include <sys/syscall.h>
#ifdef CONFIG_LIBPMEM
#include <libpmem.h>
#endif
#include "hw/hybridmem/safe-copy.h"

static __thread sigjmp_buf copy_env;
static __thread volatile sig_atomic_t copying;
static __thread bool in_batch;                  /* between begin and end */
static __thread volatile sig_atomic_t has_deferred;
static __thread siginfo_t deferred;
static struct sigaction next_handler;

static void sigbus_handler(int sig, siginfo_t *info, void *context)
{
    /*
     * An announcement of bad memory somewhere: QEMU would wait for vCPUs
     * that stand still until the batch is done.  The kernel sends another
     * for each page that is met later, so one is enough to keep.
     */
    if (in_batch && info->si_code == BUS_MCEERR_AO) {
        deferred = *info;
        has_deferred = true;
        return;
    }
    if (copying) {
        copying = false;
        siglongjmp(copy_env, 1);
    }
    if (next_handler.sa_flags & SA_SIGINFO) {
        next_handler.sa_sigaction(sig, info, context);
    } else if (next_handler.sa_handler != SIG_DFL &&
               next_handler.sa_handler != SIG_IGN) {
        next_handler.sa_handler(sig);
    } else {
        signal(SIGBUS, SIG_DFL);
        raise(SIGBUS);
    }
}

bool hm_safe_call(void (*fn)(void *opaque), void *opaque)
{
    /* No signal mask is saved: SA_NODEFER keeps SIGBUS open. */
    if (sigsetjmp(copy_env, 0)) {
        return false;
    }
    copying = true;
    __asm__ volatile("" : : : "memory");
    fn(opaque);
    /* It may fault up to its end. */
    __asm__ volatile("" : : : "memory");
    copying = false;
    return true;
}

typedef struct Copy {
    void *dst;
    const void *src;
    size_t len;
} Copy;

static void copy_plain(void *opaque)
{
    const Copy *c = opaque;

    memcpy(c->dst, c->src, c->len);
}

bool hm_safe_copy(void *dst, const void *src, size_t len)
{
    Copy c = { dst, src, len };

    return hm_safe_call(copy_plain, &c);
}

#ifdef CONFIG_LIBPMEM
/*
 * NONTEMPORAL: always past the caches, whatever the length.  NODRAIN: one
 * fence at the end of a batch is enough, since nobody looks before.  Not
 * NOFLUSH: it would make libpmem use ordinary stores.
 *
 * Leaving it by a jump is sound: it holds no lock, keeps no state and has
 * allocated nothing, only moved data in registers that a caller expects to
 * be spoilt; what it has stored so far the next drain orders, as it does all
 * else.
 */
static void copy_pmem(void *opaque)
{
    const Copy *c = opaque;

    pmem_memcpy(c->dst, c->src, c->len,
                PMEM_F_MEM_NONTEMPORAL | PMEM_F_MEM_NODRAIN);
}

bool hm_safe_copy_pmem(void *dst, const void *src, size_t len)
{
    Copy c = { dst, src, len };

    return hm_safe_call(copy_pmem, &c);
}

void hm_safe_copy_drain(void)
{
    pmem_drain();
}

bool hm_safe_copy_has_pmem(void)
{
    return true;
}
#else
bool hm_safe_copy_pmem(void *dst, const void *src, size_t len)
{
    return hm_safe_copy(dst, src, len);
}

void hm_safe_copy_drain(void)
{
}

bool hm_safe_copy_has_pmem(void)
{
    return false;
}
#endif

void hm_safe_copy_begin(sigset_t *mask)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    in_batch = true;
    pthread_sigmask(SIG_UNBLOCK, &set, mask);
}

void hm_safe_copy_end(const sigset_t *mask)
{
    pthread_sigmask(SIG_SETMASK, mask, NULL);
    in_batch = false;
    if (has_deferred) {
        has_deferred = false;
        syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS,
                &deferred);
    }
}

void hm_safe_copy_init(void)
{
    struct sigaction act = {
        .sa_sigaction = sigbus_handler,
        .sa_flags = SA_SIGINFO | SA_NODEFER,
    };
    struct sigaction old;

    sigemptyset(&act.sa_mask);
    if (sigaction(SIGBUS, NULL, &old) == 0 &&
        !((old.sa_flags & SA_SIGINFO) &&
          old.sa_sigaction == sigbus_handler)) {
        next_handler = old;
        sigaction(SIGBUS, &act, NULL);
    }
}
