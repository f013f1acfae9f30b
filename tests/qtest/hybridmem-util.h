/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of hybrid memory share: a VM on a folder of tier files, its
 * memory next to a model of it, and questions to its engine.
 */
#ifndef HYBRIDMEM_UTIL_H
#define HYBRIDMEM_UTIL_H

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "qemu/units.h"

/* The usual guest: q35, 4 MiB of dram below 12 MiB of nvm. */
#define HMT_DRAM (4 * MiB)
#define HMT_RAM (16 * MiB)
#define HMT_PAGE 4096ul
#define HMT_BLOCKS (HMT_RAM / HMT_PAGE)

/* Where the tiers begin in their files: not where they begin in the guest. */
#define HMT_DRAM_PHY (1 * MiB)
#define HMT_NVM_PHY (2 * MiB)

/* The first guest address at home in nvm. */
#define NVM HMT_DRAM

/* Engines: no window ends by itself, nothing moves but by command. */
#define STILL "policy=manual,interval=3600000,window=3600000"
/* All writes are logged, in windows of 100 ms. */
#define ALWAYS "interval=100,window=100"
#define FULL_SPEED "policy=shuffle,interval=50,window=20,max-bandwidth=0," \
                   "max-stall=0"

/* No RAM that the test could read lies between these. */
#define HMT_HOLE 0xa0000ul
#define HMT_HOLE_END 0x100000ul

/* Time for what happens at once on an idle machine. */
#define HMT_SECONDS 60

typedef struct HmTest {
    QTestState *qts;
    char *dir;
    uint8_t *model;             /* HMT_RAM, what the guest must see */
    GRand *random;
} HmTest;

/* A new folder; hmt_remove_dir() takes it away with what is in it. */
char *hmt_make_dir(void);
void hmt_remove_dir(char *dir);

/* Options for the usual guest with its tier files in @dir. */
char *hmt_memory_args(const char *dir);

/*
 * Starts the usual guest with @engine, the options of an engine "hm0" (NULL:
 * the default one), and @extra arguments.
 */
HmTest *hmt_start(const char *engine, const char *extra);
HmTest *hmt_start_in(char *dir, const char *engine, const char *extra);
void hmt_stop(HmTest *t);

/* Fills all of RAM with words that occur nowhere else, and the model. */
void hmt_fill(HmTest *t);
void hmt_assert_equal(HmTest *t);
/* As hmt_assert_equal(), with the memory of another guest. */
void hmt_assert_equal_in(HmTest *t, QTestState *qts);
/* Writes a page, in the guest and the model. */
void hmt_write_page(HmTest *t, uint64_t addr);
/* A random page that can be read, within [@from, @to). */
uint64_t hmt_random_page(HmTest *t, uint64_t from, uint64_t to);

/* The word at which hmt_fill() starts a page. */
uint64_t hmt_signature(HmTest *t, uint64_t addr);
/* The word that the files hold at @home, a guest address. */
uint64_t hmt_in_file(HmTest *t, uint64_t home);

/* The engine's entry in query-hybridmem; the only one. */
QDict *hmt_query(QTestState *qts);
/* A counter by its path, such as "skipped.pinned". */
uint64_t hmt_counter(QTestState *qts, const char *path);
/* For as long as it grows; fails when it has stood still for HMT_SECONDS. */
uint64_t hmt_wait_counter(QTestState *qts, const char *path, uint64_t min);
/* Waits until the state is @state; "inhibited:migration" checks by whom. */
void hmt_wait_state(QTestState *qts, const char *state);

/*
 * One pair, again while the host is too busy to hold the guest in time.
 * True if it was done; else @why must be the reason.
 */
bool hmt_swap(QTestState *qts, uint64_t a, uint64_t b, const char *why);

void hmt_set_policy(QTestState *qts, const char *policy);

/* A live migration: waits for one of @states ("a|b"), limits it, starts it. */
void hmt_wait_migration(QTestState *qts, const char *states);
void hmt_migration_speed(QTestState *qts, uint64_t bytes);
void hmt_migrate(QTestState *qts, const char *uri);

/* What dump-guest-memory wrote to @path is the model. */
void hmt_check_dump(HmTest *t, const char *path);

/* The text of the error that a command ends with; it must fail. */
char *hmt_error(QTestState *qts, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
#define hmt_assert_error(qts, text, ...) do {                           \
        g_autofree char *error_ = hmt_error(qts, __VA_ARGS__);          \
        hmt_assert_in(error_, text);                                    \
    } while (0)

/* @text contains @part; shows both if not. */
void hmt_assert_in(const char *text, const char *part);

/* Lines of /proc/PID/maps for files in @dir. */
unsigned hmt_count_mappings(HmTest *t);

#endif
