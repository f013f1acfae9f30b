/*
 * One QMP command over a unix socket, for shell scripts:
 *
 *     qmp SOCKET COMMAND [PATH]      the reply, or the value at PATH in it
 *     qmp --record SOCKET FILE       appends events to FILE until QEMU ends
 *     qmp --get PATH                 the value at PATH of standard input
 *
 * COMMAND is JSON, or the name of a command without arguments.  PATH is names
 * and indices with dots between: return.0.counters.moves-done.
 *
 * Exit status: 0; 1 QEMU refused the command (its error is on standard
 * error); 2 there is no such value; 3 no connection; 64 usage.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EXIT_REFUSED 1
#define EXIT_NO_VALUE 2
#define EXIT_NO_QEMU 3
#define EXIT_USAGE 64

#define CONNECT_TRIES 200       /* a QEMU that starts needs a while, ... */
#define CONNECT_PAUSE_MS 50     /* ... in the emulated server: up to 10 s */

/* JSON: every function returns the position behind what it read. */

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static const char *skip_string(const char *p)
{
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        }
    }
    return *p ? p + 1 : p;
}

static const char *skip_value(const char *p)
{
    int depth = 0;

    p = skip_space(p);
    do {
        if (*p == '"') {
            p = skip_string(p);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (depth) {
            p++;
        } else {
            p += strcspn(p, ",]} \t\r\n");
        }
    } while (depth > 0 && *p);
    return p;
}

/* The value of a member or of an element; NULL if there is none. */
static const char *child(const char *p, const char *key, size_t len)
{
    bool object = *p == '{';
    unsigned long index = strtoul(key, NULL, 10);

    if (!object && (*p != '[' || strspn(key, "0123456789") != len)) {
        return NULL;
    }
    p = skip_space(p + 1);
    while (*p && *p != '}' && *p != ']') {
        bool found = !object && index-- == 0;

        if (object) {
            const char *name = p + 1;

            p = skip_string(p);
            found = (size_t)(p - 1 - name) == len && !memcmp(name, key, len);
            p = skip_space(p);
            if (*p++ != ':') {
                return NULL;
            }
            p = skip_space(p);
        }
        if (found) {
            return *p ? p : NULL;
        }
        p = skip_space(skip_value(p));
        if (*p == ',') {
            p = skip_space(p + 1);
        }
    }
    return NULL;
}

static const char *find(const char *json, const char *path)
{
    json = skip_space(json);
    while (json && *path) {
        size_t len = strcspn(path, ".");

        json = child(json, path, len);
        path += len;
        path += *path == '.';
    }
    return json;
}

/* Strings without their quotes. */
static int print_value(const char *json, const char *path)
{
    const char *value = find(json, path);
    const char *end;

    if (!value) {
        fprintf(stderr, "qmp: no value at %s in %s\n", path, json);
        return EXIT_NO_VALUE;
    }
    end = skip_value(value);
    if (*value == '"') {
        value++;
        end--;
    }
    printf("%.*s\n", (int)(end - value), value);
    return 0;
}

/* The connection */

static FILE *monitor;

static bool connect_to(const char *path)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    struct timespec pause = { 0, CONNECT_PAUSE_MS * 1000000L };

    snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
    for (int i = 0; i < CONNECT_TRIES; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to))) {
            monitor = fdopen(fd, "r+");
            return monitor;
        }
        close(fd);
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "qmp: %s: %m\n", path);
    return false;
}

static bool send_line(const char *text)
{
    int fd = fileno(monitor);

    return dprintf(fd, "%s\n", text) > 0;
}

/* The next message; NULL when QEMU has gone. */
static char *receive(void)
{
    char *line = NULL;
    size_t size = 0;

    if (getline(&line, &size, monitor) < 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static char *receive_reply(void)
{
    char *line;

    while ((line = receive()) && find(line, "event")) {
        free(line);
    }
    return line;
}

static bool greet(const char *path)
{
    if (!connect_to(path)) {
        return false;
    }
    free(receive());
    if (send_line("{\"execute\": \"qmp_capabilities\"}")) {
        char *reply = receive_reply();

        free(reply);
        if (reply) {
            return true;
        }
    }
    fprintf(stderr, "qmp: %s: no answer\n", path);
    return false;
}

static int do_command(const char *path, const char *command,
                      const char *value_path)
{
    char *text = NULL, *reply;

    if (*command != '{') {
        if (asprintf(&text, "{\"execute\": \"%s\"}", command) < 0) {
            return EXIT_NO_QEMU;
        }
        command = text;
    }
    if (!greet(path) || !send_line(command) || !(reply = receive_reply())) {
        return EXIT_NO_QEMU;
    }
    if (find(reply, "error")) {
        fprintf(stderr, "qmp: %s: %s\n", command, reply);
        return EXIT_REFUSED;
    }
    if (value_path) {
        return print_value(reply, value_path);
    }
    puts(reply);
    return 0;
}

static int do_record(const char *path, const char *file)
{
    int out = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
    char *line;

    if (out < 0 || !greet(path)) {
        return EXIT_NO_QEMU;
    }
    while ((line = receive())) {
        dprintf(out, "%s\n", line);
        free(line);
    }
    return 0;
}

static int do_get(const char *path)
{
    char *text = NULL;
    size_t size = 0;

    if (getdelim(&text, &size, 0, stdin) < 0) {
        return EXIT_NO_VALUE;
    }
    return print_value(text, path);
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--record")) {
        return do_record(argv[2], argv[3]);
    }
    if (argc == 3 && !strcmp(argv[1], "--get")) {
        return do_get(argv[2]);
    }
    if ((argc == 3 || argc == 4) && *argv[1] != '-') {
        return do_command(argv[1], argv[2], argv[3]);
    }
    fputs("usage: qmp SOCKET COMMAND [PATH] | qmp --record SOCKET FILE | "
          "qmp --get PATH\n", stderr);
    return EXIT_USAGE;
}
