/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of hybrid memory share.
 */
#include "qemu/osdep.h"
#include <elf.h>
#include "qemu/bswap.h"
#include "hybridmem-util.h"

#define CHUNK (1 * MiB)

char *hmt_make_dir(void)
{
    GError *err = NULL;
    char *dir = g_dir_make_tmp("hybridmem-XXXXXX", &err);

    g_assert_no_error(err);
    return dir;
}

void hmt_remove_dir(char *dir)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        unlink(path);
    }
    if (d) {
        g_dir_close(d);
    }
    rmdir(dir);
    g_free(dir);
}

char *hmt_memory_args(const char *dir)
{
    return g_strdup_printf(
        "-nodefaults -m %" PRIu64 "M -machine q35,memory-backend=dmcon0 "
        "-object memory-backend-container,id=dmcon0,size=%" PRIu64 " "
        "-object memory-backend-devmem,id=dram0,size=%" PRIu64
        ",phy-offset=%" PRIu64 ",offset=0,parent=dmcon0,mem-path=%s/dram "
        "-object memory-backend-devmem,id=mram0,size=%" PRIu64
        ",phy-offset=%" PRIu64 ",offset=%" PRIu64 ",parent=dmcon0"
        ",mem-path=%s/nvm ", HMT_RAM / MiB, HMT_RAM, HMT_DRAM, HMT_DRAM_PHY,
        dir, HMT_RAM - HMT_DRAM, HMT_NVM_PHY, HMT_DRAM, dir);
}

HmTest *hmt_start_in(char *dir, const char *engine, const char *extra)
{
    g_autofree char *memory = hmt_memory_args(dir);
    g_autofree char *object = engine ? g_strdup_printf(
        "-object hybridmem,id=hm0,memdev=dmcon0%s%s ", *engine ? "," : "",
        engine) : g_strdup("");
    HmTest *t = g_new0(HmTest, 1);

    t->dir = dir;
    t->random = g_rand_new_with_seed(1);
    t->model = g_malloc0(HMT_RAM);
    t->qts = qtest_initf("%s%s%s", memory, object, extra ?: "");
    return t;
}

HmTest *hmt_start(const char *engine, const char *extra)
{
    return hmt_start_in(hmt_make_dir(), engine, extra);
}

void hmt_stop(HmTest *t)
{
    qtest_quit(t->qts);
    hmt_remove_dir(t->dir);
    g_rand_free(t->random);
    g_free(t->model);
    g_free(t);
}

/* --- memory ------------------------------------------------------------ */

static bool in_hole(uint64_t addr)
{
    return addr >= HMT_HOLE && addr < HMT_HOLE_END;
}

/* Calls @fn for each piece of RAM, at most CHUNK of it at once. */
static void each_piece(HmTest *t, QTestState *qts,
                       void (*fn)(HmTest *t, QTestState *qts, uint64_t addr,
                                  uint64_t len))
{
    fn(t, qts, 0, HMT_HOLE);
    for (uint64_t addr = HMT_HOLE_END; addr < HMT_RAM; addr += CHUNK) {
        fn(t, qts, addr, CHUNK);
    }
}

static void write_piece(HmTest *t, QTestState *qts, uint64_t addr,
                        uint64_t len)
{
    qtest_bufwrite(qts, addr, t->model + addr, len);
}

static void compare_piece(HmTest *t, QTestState *qts, uint64_t addr,
                          uint64_t len)
{
    g_autofree uint8_t *seen = g_malloc(len);

    qtest_bufread(qts, addr, seen, len);
    for (uint64_t page = 0; page < len; page += HMT_PAGE) {
        if (memcmp(seen + page, t->model + addr + page, HMT_PAGE)) {
            g_test_message("page at 0x%" PRIx64 " differs", addr + page);
            g_assert_not_reached();
        }
    }
}

static void random_words(HmTest *t, uint64_t addr, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += sizeof(uint32_t)) {
        uint32_t word = g_rand_int(t->random);

        memcpy(t->model + addr + i, &word, sizeof(word));
    }
    /* Tells all pages apart. */
    for (uint64_t i = 0; i < len; i += HMT_PAGE) {
        uint32_t number = (addr + i) / HMT_PAGE + 1;

        memcpy(t->model + addr + i, &number, sizeof(number));
    }
}

void hmt_fill(HmTest *t)
{
    random_words(t, 0, HMT_HOLE);
    random_words(t, HMT_HOLE_END, HMT_RAM - HMT_HOLE_END);
    each_piece(t, t->qts, write_piece);
}

void hmt_assert_equal(HmTest *t)
{
    each_piece(t, t->qts, compare_piece);
}

void hmt_assert_equal_in(HmTest *t, QTestState *qts)
{
    each_piece(t, qts, compare_piece);
}

void hmt_write_page(HmTest *t, uint64_t addr)
{
    random_words(t, addr, HMT_PAGE);
    qtest_memwrite(t->qts, addr, t->model + addr, HMT_PAGE);
}

uint64_t hmt_random_page(HmTest *t, uint64_t from, uint64_t to)
{
    uint64_t addr;

    do {
        addr = g_rand_int_range(t->random, from / HMT_PAGE, to / HMT_PAGE) *
               HMT_PAGE;
    } while (in_hole(addr));
    return addr;
}

uint64_t hmt_signature(HmTest *t, uint64_t addr)
{
    return ldq_le_p(t->model + addr);
}

uint64_t hmt_in_file(HmTest *t, uint64_t home)
{
    bool dram = home < HMT_DRAM;
    g_autofree char *path = g_build_filename(t->dir, dram ? "dram" : "nvm",
                                             NULL);
    int fd = open(path, O_RDONLY);
    uint64_t word;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &word, sizeof(word), dram ? home + HMT_DRAM_PHY :
                          home - HMT_DRAM + HMT_NVM_PHY), ==, sizeof(word));
    close(fd);
    return word;
}

unsigned hmt_count_mappings(HmTest *t)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps",
                                            (int)qtest_pid(t->qts));
    g_autofree char *dir = g_strdup_printf(" %s/", t->dir);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    unsigned n = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        n += strstr(lines[i], dir) != NULL;
    }
    return n;
}

/* --- the engine -------------------------------------------------------- */

void hmt_assert_in(const char *text, const char *part)
{
    if (!text || !strstr(text, part)) {
        g_test_message("'%s' is not in '%s'", part, text);
        g_printerr("'%s' is not in '%s'\n", part, text);
        g_assert_not_reached();
    }
}

QDict *hmt_query(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-hybridmem' }");
    QList *list = qdict_get_qlist(reply, "return");
    QDict *info;

    g_assert_nonnull(list);
    g_assert_cmpuint(qlist_size(list), ==, 1);
    info = qobject_to(QDict, qlist_peek(list));
    qobject_ref(info);
    qobject_unref(reply);
    return info;
}

uint64_t hmt_counter(QTestState *qts, const char *path)
{
    QDict *info = hmt_query(qts), *d = qdict_get_qdict(info, "counters");
    g_auto(GStrv) names = g_strsplit(path, ".", 2);
    uint64_t value;

    if (names[1]) {
        d = qdict_get_qdict(d, names[0]);
    }
    value = qdict_get_int(d, names[1] ?: names[0]);
    qobject_unref(info);
    return value;
}

uint64_t hmt_wait_counter(QTestState *qts, const char *path, uint64_t min)
{
    uint64_t value, before = 0;
    gint64 end = 0;

    while ((value = hmt_counter(qts, path)) < min) {
        if (value > before || !end) {
            end = g_get_monotonic_time() + HMT_SECONDS * G_USEC_PER_SEC;
            before = value;
        }
        if (g_get_monotonic_time() > end) {
            g_printerr("%s is %" PRIu64 " and does not reach %" PRIu64 "\n",
                       path, value, min);
            g_assert_not_reached();
        }
        g_usleep(5000);
    }
    return value;
}

static char *get_state(QTestState *qts)
{
    QDict *info = hmt_query(qts);
    QList *list = qdict_get_qlist(info, "inhibitors");
    GString *s = g_string_new(qdict_get_str(info, "state"));
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(list, e) {
        g_string_append_printf(s, ":%s", qstring_get_str(
            qobject_to(QString, qlist_entry_obj(e))));
    }
    qobject_unref(info);
    return g_string_free(s, false);
}

void hmt_wait_state(QTestState *qts, const char *state)
{
    gint64 end = g_get_monotonic_time() + HMT_SECONDS * G_USEC_PER_SEC;

    for (;;) {
        g_autofree char *now = get_state(qts);

        if (g_str_equal(now, state)) {
            return;
        }
        if (g_get_monotonic_time() > end) {
            g_assert_cmpstr(now, ==, state);
        }
        g_usleep(5000);
    }
}

static QDict *try_swap(QTestState *qts, uint64_t a, uint64_t b)
{
    return qtest_qmp_assert_success_ref(qts,
        "{ 'execute': 'hybridmem-swap', 'arguments': { 'pairs': ["
        " { 'a': %" PRIu64 ", 'b': %" PRIu64 " } ] } }", a, b);
}

bool hmt_swap(QTestState *qts, uint64_t a, uint64_t b, const char *why)
{
    QDict *reply = try_swap(qts, a, b);
    uint64_t done;

    while (qdict_get_int(qdict_get_qdict(reply, "skipped"), "busy")) {
        qobject_unref(reply);
        reply = try_swap(qts, a, b);
    }
    done = qdict_get_int(reply, "done");
    g_assert_cmpuint(qdict_get_int(qdict_get_qdict(reply, "skipped"), why),
                     ==, !done);
    qobject_unref(reply);
    return done;
}

char *hmt_error(QTestState *qts, const char *fmt, ...)
{
    va_list ap;
    QDict *error;
    char *text;

    va_start(ap, fmt);
    error = qtest_vqmp_assert_failure_ref(qts, fmt, ap);
    va_end(ap);
    text = g_strdup(qdict_get_str(error, "desc"));
    qobject_unref(error);
    return text;
}

void hmt_set_policy(QTestState *qts, const char *policy)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'hybridmem-set',"
                             " 'arguments': { 'policy': %s } }", policy);
}

void hmt_wait_migration(QTestState *qts, const char *states)
{
    gint64 end = g_get_monotonic_time() + HMT_SECONDS * G_USEC_PER_SEC;
    g_auto(GStrv) wanted = g_strsplit(states, "|", -1);

    for (;;) {
        QDict *info = qtest_qmp_assert_success_ref(qts,
            "{ 'execute': 'query-migrate' }");
        g_autofree char *status = g_strdup(qdict_get_try_str(info, "status"));

        qobject_unref(info);
        if (status && g_strv_contains((const char *const *)wanted, status)) {
            return;
        }
        if (g_get_monotonic_time() > end || g_str_equal(status ?: "",
                                                        "failed")) {
            g_assert_cmpstr(status, ==, states);
        }
        g_usleep(5000);
    }
}

void hmt_migration_speed(QTestState *qts, uint64_t bytes)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
        " 'arguments': { 'max-bandwidth': %" PRIu64 " } }", bytes);
}

void hmt_migrate(QTestState *qts, const char *uri)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate', 'arguments':"
                             " { 'uri': %s } }", uri);
}

void hmt_check_dump(HmTest *t, const char *path)
{
    g_autofree char *text = NULL;
    const Elf64_Ehdr *eh;
    uint64_t compared = 0;
    gsize len;

    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    eh = (const Elf64_Ehdr *)text;
    for (unsigned i = 0; i < eh->e_phnum; i++) {
        const Elf64_Phdr *ph = (const Elf64_Phdr *)(text + eh->e_phoff) + i;

        if (ph->p_type != PT_LOAD) {
            continue;
        }
        for (uint64_t at = 0; at < ph->p_filesz; at += HMT_PAGE) {
            uint64_t addr = ph->p_paddr + at;

            if (addr < HMT_HOLE || (addr >= HMT_HOLE_END && addr < HMT_RAM)) {
                g_assert_cmpmem(text + ph->p_offset + at, HMT_PAGE,
                                t->model + addr, HMT_PAGE);
                compared += HMT_PAGE;
            }
        }
    }
    g_assert_cmpuint(compared, ==, HMT_RAM - (HMT_HOLE_END - HMT_HOLE));
}
