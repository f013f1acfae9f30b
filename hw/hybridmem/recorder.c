/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes a trace while an engine works.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "hw/hybridmem/recorder.h"

struct HmRecorder {
    char *path, *id;
    int fd;                     /* -1: an error has ended it */
    HmTraceInfo info;
    GArray *moves;              /* HmTraceMove, since the last record */
    GByteArray *buffer;         /* whole records, not yet written */
    uint64_t buffered;          /* windows among them */
    HmRecording state;
};

static bool is_regular(int fd, const char *path, const char *id, Error **errp)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        return true;
    }
    error_setg(errp, "trace=%s of '%s' is not a regular file", path, id);
    return false;
}

/* What the file holds goes last, when nothing else can go wrong. */
static bool take(int fd, const char *path, const char *id, Error **errp)
{
    if (!is_regular(fd, path, id, errp)) {
        return false;
    }
    if (qemu_lock_fd(fd, 0, 0, true)) {
        error_setg(errp, "trace=%s of '%s' is in use already, by this or"
                   " another program", path, id);
        return false;
    }
    /* A descriptor that was handed over keeps its place. */
    if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET)) {
        error_setg_errno(errp, errno, "cannot empty trace=%s of '%s'", path,
                         id);
        return false;
    }
    return true;
}

HmRecorder *hm_recorder_open(const char *path, const char *id, Error **errp)
{
    ERRP_GUARD();
    /* Without waiting for the reader of a FIFO. */
    int fd = qemu_create(path, O_WRONLY | O_NONBLOCK, 0600, errp);
    HmRecorder *r;

    if (fd < 0) {
        error_prepend(errp, "cannot make trace=%s of '%s': ", path, id);
        return NULL;
    }
    if (!take(fd, path, id, errp)) {
        qemu_close(fd);
        return NULL;
    }
    r = g_new0(HmRecorder, 1);
    r->path = g_strdup(path);
    r->id = g_strdup(id);
    r->fd = fd;
    r->moves = g_array_new(false, false, sizeof(HmTraceMove));
    r->buffer = g_byte_array_new();
    r->state.going_on = true;
    return r;
}

void hm_recorder_close(HmRecorder *r)
{
    if (!r) {
        return;
    }
    if (r->fd >= 0) {
        qemu_close(r->fd);
    }
    g_byte_array_free(r->buffer, true);
    g_array_free(r->moves, true);
    g_free(r->path);
    g_free(r->id);
    g_free(r);
}

static bool is_over(const HmRecorder *r)
{
    return !r || r->fd < 0;
}

static void put_moves(HmRecorder *r)
{
    if (r->moves->len) {
        hm_trace_put_moves(r->buffer, (HmTraceMove *)r->moves->data,
                           r->moves->len);
        g_array_set_size(r->moves, 0);
    }
}

void hm_recorder_start(HmRecorder *r, const HmTraceInfo *info,
                       const HmFrames *frames)
{
    if (!is_over(r)) {
        r->info = *info;
        hm_trace_put_start(r->buffer, info);
        hm_trace_put_frames(r->buffer, frames);
    }
}

void hm_recorder_frames(HmRecorder *r, const HmFrames *frames)
{
    if (!is_over(r)) {
        put_moves(r);
        hm_trace_put_frames(r->buffer, frames);
    }
}

void hm_recorder_window(HmRecorder *r, const HmWindow *w,
                        uint64_t seen_in_nvm)
{
    const HmTraceWindow window = { .w = *w, .seen_in_nvm = seen_in_nvm };

    if (!is_over(r)) {
        put_moves(r);
        hm_trace_put_window(r->buffer, &r->info, &window);
        r->buffered++;
    } else if (r) {
        r->state.windows_lost++;
    }
}

void hm_recorder_moved(HmRecorder *r, const HmTraceMove *move)
{
    if (!is_over(r)) {
        g_array_append_vals(r->moves, move, 1);
    }
}

/* The file ends with its last whole record then, if the host lets us. */
static void give_up(HmRecorder *r, int error)
{
    warn_report("hybridmem '%s' records no longer: cannot write trace=%s: %s",
                r->id, r->path, strerror(error));
    if (ftruncate(r->fd, r->state.bytes)) {
        /* Then it ends with a torn record, of which a reader makes nothing. */
    }
    qemu_close(r->fd);
    r->fd = -1;
    r->state.going_on = false;
    r->state.windows_lost += r->buffered;
}

void hm_recorder_flush(HmRecorder *r)
{
    ssize_t written;

    if (is_over(r)) {
        return;
    }
    put_moves(r);
    if (r->buffer->len == 0) {
        return;
    }
    written = qemu_write_full(r->fd, r->buffer->data, r->buffer->len);
    if (written == r->buffer->len) {
        r->state.windows += r->buffered;
        r->state.bytes += written;
    } else {
        give_up(r, errno);
    }
    g_byte_array_set_size(r->buffer, 0);
    r->buffered = 0;
}

HmRecording hm_recorder_state(const HmRecorder *r)
{
    return r->state;
}
