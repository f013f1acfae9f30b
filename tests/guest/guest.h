/*
 * What every guest program needs: it runs as the only process (init) of a
 * small Linux guest, or is started by busybox's init script.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_GUEST_GUEST_H
#define TESTS_GUEST_GUEST_H

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define GUEST_PAGE 4096u
#define MiB (1ull << 20)

/* One line for the host: "hm: ..." on the serial console. */
__attribute__((format(printf, 1, 2)))
static inline void guest_say(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    dprintf(1, "hm: %.*s\n", len, line);
}

/* Ends the guest.  A message, if any, tells the host what went wrong. */
static inline void __attribute__((noreturn)) guest_end(const char *failure)
{
    if (failure) {
        guest_say("failed %s: %m", failure);
    }
    guest_say("end");
    sync();
    fsync(1);
    reboot(RB_POWER_OFF);
    for (;;) {
        pause();
    }
}

/* Loads /modules/NN-name.ko in the order of their names. */
static inline void guest_load_modules(void)
{
    struct dirent **entry;
    int n = scandir("/modules", &entry, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char path[300];
        int fd;

        snprintf(path, sizeof(path), "/modules/%s", entry[i]->d_name);
        if (!strstr(path, ".ko") || (fd = open(path, O_RDONLY)) < 0) {
            continue;
        }
        if (syscall(SYS_finit_module, fd, "", 0)) {
            guest_say("note: %s: %m", path);
        }
        close(fd);
    }
}

static inline void guest_setup(void)
{
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    guest_load_modules();
}

/* The number behind hm.NAME= on the kernel's command line. */
static inline uint64_t guest_param(const char *name, uint64_t otherwise)
{
    char line[4096], key[64];
    int fd = open("/proc/cmdline", O_RDONLY);
    ssize_t len = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
    const char *at;

    if (fd >= 0) {
        close(fd);
    }
    line[len < 0 ? 0 : len] = 0;
    snprintf(key, sizeof(key), "hm.%s=", name);
    at = strstr(line, key);
    return at ? strtoull(at + strlen(key), NULL, 0) : otherwise;
}

static inline uint64_t guest_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* splitmix64: a bijection that scatters; the base of all patterns. */
static inline uint64_t guest_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline void *guest_buffer(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        guest_end("mmap");
    }
    return p;
}

#endif
