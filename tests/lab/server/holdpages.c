/*
 * Holds pages of a file on tmpfs so that they cannot move: makes them fixed
 * buffers of an io_uring, and maps them no longer:
 *
 *     holdpages FILE START SIZE
 *
 * Prints "held BYTES" when it is so, and then waits to be killed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/io_uring.h>

int main(int argc, char **argv)
{
    struct io_uring_params params = { 0 };
    struct iovec buffer;
    int file, ring;

    if (argc != 4) {
        errx(64, "usage: holdpages FILE START SIZE");
    }
    file = open(argv[1], O_RDWR);
    if (file < 0) {
        err(1, "%s", argv[1]);
    }
    buffer.iov_len = strtoull(argv[3], NULL, 0);
    buffer.iov_base = mmap(NULL, buffer.iov_len, PROT_READ | PROT_WRITE,
                           MAP_SHARED, file, strtoull(argv[2], NULL, 0));
    if (buffer.iov_base == MAP_FAILED) {
        err(1, "mmap");
    }
    ring = syscall(SYS_io_uring_setup, 1, &params);
    if (ring < 0) {
        err(1, "io_uring_setup");
    }
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer,
                1)) {
        err(1, "IORING_REGISTER_BUFFERS");
    }
    munmap(buffer.iov_base, buffer.iov_len);
    printf("held %zu\n", buffer.iov_len);
    fflush(stdout);
    for (;;) {
        pause();
    }
}
