/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has the userfaultfd of guest RAM.
 */
#include "qemu/osdep.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include "qemu/thread.h"
#include "hw/hybridmem/access-uffd.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

struct HmAccessUffd {
    uint64_t host, size;
    QemuMutex lock;
    /* Guarded by @lock. */
    int fd;                     /* -1: none; else it has all of the range */
    bool allowed;
    bool unfit;                 /* memory that cannot be registered */
    bool yields;                /* in the next window */
    bool held;                  /* the last window had, or this one has */
    bool lost;                  /* KVM's entries */
};

HmAccessUffd *hm_access_uffd_new(void *host, uint64_t size)
{
    HmAccessUffd *u = g_new0(HmAccessUffd, 1);

    u->host = (uintptr_t)host;
    u->size = size;
    u->fd = -1;
    u->allowed = true;
    qemu_mutex_init(&u->lock);
    return u;
}

/* -- To have it ---------------------------------------------------------- */

static int open_userfaultfd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

    if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) ||
                    !(api.features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool take(const HmAccessUffd *u, int fd, uint64_t offset, uint64_t len)
{
    struct uffdio_register reg = {
        .range = { u->host + offset, len },
        .mode = UFFDIO_REGISTER_MODE_WP,
    };

    return !ioctl(fd, UFFDIO_REGISTER, &reg);
}

static void take_all(HmAccessUffd *u)
{
    int fd = open_userfaultfd();

    if (fd >= 0 && !take(u, fd, 0, u->size)) {
        u->unfit = errno == EINVAL;
        u->lost |= errno == ENOMEM;     /* some was taken */
        close(fd);
        fd = -1;
    }
    u->fd = fd;
}

void hm_access_uffd_begin(HmAccessUffd *u)
{
    qemu_mutex_lock(&u->lock);
    if (u->allowed && !u->unfit && !u->yields && u->fd < 0) {
        take_all(u);
    }
    u->yields = false;
    u->held = u->fd >= 0;
    qemu_mutex_unlock(&u->lock);
}

/* Somebody may have wanted it meanwhile. */
void hm_access_uffd_end(HmAccessUffd *u)
{
    qemu_mutex_lock(&u->lock);
    u->held = u->fd >= 0;
    qemu_mutex_unlock(&u->lock);
}

bool hm_access_uffd_held(HmAccessUffd *u)
{
    bool held;

    qemu_mutex_lock(&u->lock);
    held = u->held;
    qemu_mutex_unlock(&u->lock);
    return held;
}

bool hm_access_uffd_unmap(HmAccessUffd *u, uint64_t offset, uint64_t len)
{
    struct uffdio_writeprotect none = {
        .range = { u->host + offset, len },
    };
    bool done;

    qemu_mutex_lock(&u->lock);
    done = u->fd >= 0 && !ioctl(u->fd, UFFDIO_WRITEPROTECT, &none);
    qemu_mutex_unlock(&u->lock);
    return done;
}

/* -- To let go ----------------------------------------------------------- */

static void unregister(const HmAccessUffd *u, uint64_t offset, uint64_t len)
{
    struct uffdio_range range = { u->host + offset, len };

    if (len) {
        (void)ioctl(u->fd, UFFDIO_UNREGISTER, &range);
    }
}

/*
 * Of all but a range that it does not have.  Closing it would do, but a child
 * that is being forked may have a copy.  Either takes away KVM's entries.
 */
static void let_go_but(HmAccessUffd *u, uint64_t offset, uint64_t len)
{
    if (u->fd >= 0) {
        unregister(u, 0, offset);
        unregister(u, offset + len, u->size - offset - len);
        close(u->fd);
        u->fd = -1;
        u->lost = true;
    }
}

static void let_go(HmAccessUffd *u)
{
    let_go_but(u, 0, 0);
}

bool hm_access_uffd_lost(HmAccessUffd *u)
{
    bool lost;

    qemu_mutex_lock(&u->lock);
    lost = u->lost;
    u->lost = false;
    qemu_mutex_unlock(&u->lock);
    return lost;
}

void hm_access_uffd_mapped(HmAccessUffd *u, uint64_t offset, uint64_t len)
{
    qemu_mutex_lock(&u->lock);
    if (u->fd >= 0 && !take(u, u->fd, offset, len)) {
        let_go_but(u, offset, len);
    }
    qemu_mutex_unlock(&u->lock);
}

void hm_access_uffd_release(HmAccessUffd *u)
{
    qemu_mutex_lock(&u->lock);
    let_go(u);
    qemu_mutex_unlock(&u->lock);
}

void hm_access_uffd_yield(HmAccessUffd *u)
{
    qemu_mutex_lock(&u->lock);
    let_go(u);
    u->yields = true;
    qemu_mutex_unlock(&u->lock);
}

void hm_access_uffd_allow(HmAccessUffd *u, bool allowed)
{
    qemu_mutex_lock(&u->lock);
    u->allowed = allowed;
    if (!allowed) {
        u->held = false;
        let_go(u);
    }
    qemu_mutex_unlock(&u->lock);
}

void hm_access_uffd_free(HmAccessUffd *u)
{
    if (u) {
        let_go(u);
        qemu_mutex_destroy(&u->lock);
        g_free(u);
    }
}
