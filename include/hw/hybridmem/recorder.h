/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes a trace (trace-file.h) while an engine works.
 *
 * What is to be told is encoded where it happens, and written by
 * hm_recorder_flush(), which the engine's thread calls with no lock held and
 * nobody waiting for it.  An error ends the recording, and nothing else: the
 * file keeps its whole records.
 *
 * All but open, and state once the thread runs, belongs to who has the core
 * (engine.h).  A NULL recorder records nothing.
 */
#ifndef HW_HYBRIDMEM_RECORDER_H
#define HW_HYBRIDMEM_RECORDER_H

#include "hw/hybridmem/trace-file.h"

typedef struct HmRecorder HmRecorder;

typedef struct HmRecording {
    bool going_on;
    uint64_t windows, windows_lost;
    uint64_t bytes;
} HmRecording;

/* A regular file; what it held is gone.  @id: the engine, for messages. */
HmRecorder *hm_recorder_open(const char *path, const char *id, Error **errp);
/* Writes nothing: see hm_recorder_flush(). */
void hm_recorder_close(HmRecorder *r);

/* Comes first, once. */
void hm_recorder_start(HmRecorder *r, const HmTraceInfo *info,
                       const HmFrames *frames);
/* Placement is another, without moves. */
void hm_recorder_frames(HmRecorder *r, const HmFrames *frames);
void hm_recorder_window(HmRecorder *r, const HmWindow *w,
                        uint64_t seen_in_nvm);
void hm_recorder_moved(HmRecorder *r, const HmTraceMove *move);
/*
 * May take as long as the host's disk does.  From a thread that blocks
 * signals: a limit on the size of files would send one.
 */
void hm_recorder_flush(HmRecorder *r);

HmRecording hm_recorder_state(const HmRecorder *r);

#endif
