/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the numa mover share.
 */
#include "qemu/osdep.h"
#include <linux/kernel-page-flags.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "hybridmem-numa-util.h"

#define NODES "/sys/devices/system/node/"
#define THP "/sys/kernel/mm/transparent_hugepage/"
#define TMPFS_MAGIC 0x01021994

unsigned hmn_fast, hmn_slow;

static char *read_text(const char *path)
{
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static void test_skip(void)
{
    g_test_skip("the host has not two NUMA nodes with memory");
}

bool hmn_have_nodes(const char *path)
{
    g_autofree char *text = read_text(NODES "has_memory");
    g_auto(GStrv) ranges = g_strsplit(text ?: "", ",", -1);
    unsigned node[2], n = 0;

    for (unsigned i = 0; ranges[i]; i++) {
        unsigned first, last;
        int found = sscanf(ranges[i], "%u-%u", &first, &last);

        for (last = found == 2 ? last : first;
             found > 0 && first <= last && n < 2; first++) {
            node[n++] = first;
        }
    }
    if (n < 2) {
        qtest_add_func(path, test_skip);
        return false;
    }
    hmn_fast = node[0];
    hmn_slow = node[1];
    return true;
}

char *hmn_engine(const char *id, const char *memdev, const char *options)
{
    bool sized = strstr(options, "fast-size=");

    return g_strdup_printf("-object hybridmem,id=%s,memdev=%s,fast-nodes=%u,"
                           "slow-nodes=%u%s%s%s ", id, memdev, hmn_fast,
                           hmn_slow, sized ? "" : ",fast-size=4M",
                           *options ? "," : "", options);
}

HmTest *hmn_start_in(char *dir, const char *backend, const char *engine,
                     const char *extra)
{
    g_autofree char *object = engine ? hmn_engine("hm0", "r", engine) : NULL;
    bool machine = extra && strstr(extra, "-machine q35");
    HmTest *t = g_new0(HmTest, 1);

    t->dir = dir;
    t->random = g_rand_new_with_seed(1);
    t->model = g_malloc0(HMT_RAM);
    t->qts = qtest_initf("-nodefaults %s -machine memory-backend=r "
                         "-object %s,id=r,size=16M %s %s",
                         machine ? "" : HMN_MACHINE, backend, object ?: "",
                         extra ?: "");
    return t;
}

HmTest *hmn_start(const char *backend, const char *engine, const char *extra)
{
    return hmn_start_in(hmt_make_dir(), backend, engine, extra);
}

void hmn_attach(QTestState *qts, const char *memdev, const char *policy)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-add',"
        " 'arguments': { 'qom-type': 'hybridmem', 'id': 'hm0',"
        " 'memdev': %s, 'policy': %s, 'fast-nodes': [ %u ],"
        " 'slow-nodes': [ %u ], 'fast-size': %" PRIu64 ", 'interval': 100,"
        " 'window': 100 } }", memdev, policy, hmn_fast, hmn_slow,
        (uint64_t)HMN_FAST);
}

void hmn_detach(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-del',"
                             " 'arguments': { 'id': 'hm0' } }");
}

static void random_words(HmTest *t)
{
    uint64_t word = g_rand_int(t->random) | 1;

    for (uint64_t i = 0; i < HMT_RAM; i += sizeof(word)) {
        word = word * 6364136223846793005ULL + 1442695040888963407ULL;
        stq_le_p(t->model + i, word);
    }
    /* Tells all pages apart. */
    for (uint64_t i = 0; i < HMT_RAM; i += HMT_PAGE) {
        stl_le_p(t->model + i, i / HMT_PAGE + 1);
    }
}

void hmn_fill(HmTest *t)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/mem",
                                            (int)qtest_pid(t->qts));
    uint64_t host = hmn_host(t->qts, 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    random_words(t);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, t->model, HMT_HOLE, host), ==, HMT_HOLE);
    g_assert_cmpint(pwrite(fd, t->model + HMT_HOLE_END,
                           HMT_RAM - HMT_HOLE_END, host + HMT_HOLE_END), ==,
                    HMT_RAM - HMT_HOLE_END);
    close(fd);
}

static void compare(HmTest *t, QTestState *qts, uint64_t from)
{
    g_autofree char *path = g_build_filename(t->dir, "memory", NULL);
    g_autofree char *seen = NULL;
    unsigned different = 0;
    gsize len;

    qtest_qmp_assert_success(qts, "{ 'execute': 'pmemsave', 'arguments': {"
                             " 'val': 0, 'size': %" PRIu64 ","
                             " 'filename': %s } }", (uint64_t)HMT_RAM, path);
    g_assert_true(g_file_get_contents(path, &seen, &len, NULL));
    unlink(path);
    g_assert_cmpuint(len, ==, HMT_RAM);
    for (uint64_t i = from; i < HMT_RAM; i += HMT_PAGE) {
        if ((i < HMT_HOLE || i >= HMT_HOLE_END) &&
            memcmp(seen + i, t->model + i, HMT_PAGE)) {
            /* hmn_fill() and hmt_write_page() number pages from 1 on. */
            g_printerr("page at 0x%" PRIx64 " differs: it begins with 0x%"
                       PRIx64 ", not 0x%" PRIx64 "\n", i, ldq_le_p(seen + i),
                       ldq_le_p(t->model + i));
            different++;
        }
    }
    g_assert_cmpuint(different, ==, 0);
}

void hmn_assert_equal(HmTest *t)
{
    compare(t, t->qts, 0);
}

void hmn_assert_equal_in(HmTest *t, QTestState *qts)
{
    compare(t, qts, 0);
}

void hmn_assert_equal_above(HmTest *t, uint64_t addr)
{
    compare(t, t->qts, addr);
}

/* --- from outside ------------------------------------------------------ */

uint64_t hmn_host(QTestState *qts, uint64_t addr)
{
    g_autofree char *text = qtest_hmp(qts, "gpa2hva 0x%" PRIx64, addr);
    const char *at = strstr(text, " is 0x");

    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(" is "), NULL, 16);
}

static void ask_kernel(QTestState *qts, uint64_t addr, unsigned n,
                       uint64_t step, int *status)
{
    uint64_t host = hmn_host(qts, addr);
    g_autofree void **page = g_new(void *, n);

    for (unsigned i = 0; i < n; i++) {
        page[i] = (void *)(uintptr_t)(host + i * step);
    }
    g_assert_cmpint(syscall(__NR_move_pages, qtest_pid(qts), (long)n, page,
                            NULL, status, 0), ==, 0);
}

int hmn_node(QTestState *qts, uint64_t addr)
{
    int status;

    ask_kernel(qts, addr, 1, 0, &status);
    return status;
}

unsigned hmn_count(QTestState *qts, uint64_t addr, unsigned n, uint64_t step,
                   int node)
{
    g_autofree int *status = g_new(int, n);
    unsigned found = 0;

    ask_kernel(qts, addr, n, step, status);
    for (unsigned i = 0; i < n; i++) {
        found += status[i] == node;
    }
    return found;
}

/* Entries of 8 bytes, the first of them number @first. */
static bool read_entries(const char *path, uint64_t first, uint64_t *entry,
                         unsigned n)
{
    int fd = open(path, O_RDONLY);
    bool ok = fd >= 0 && pread(fd, entry, n * 8, first * 8) == n * 8;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

bool hmn_count_huge(QTestState *qts, uint64_t addr, unsigned n,
                    unsigned *huge)
{
    g_autofree char *pagemap = g_strdup_printf("/proc/%d/pagemap",
                                               (int)qtest_pid(qts));
    g_autofree uint64_t *page = g_new(uint64_t, n);
    uint64_t flags;

    *huge = 0;
    if (!read_entries(pagemap, hmn_host(qts, addr) / HMT_PAGE, page, n)) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t frame = extract64(page[i], 0, 55);

        if (!frame || !read_entries("/proc/kpageflags", frame, &flags, 1)) {
            return false;
        }
        *huge += extract64(flags, KPF_THP, 1);
    }
    return true;
}

unsigned hmn_absent(QTestState *qts, uint64_t addr, unsigned n,
                    uint64_t step)
{
    g_autofree int *status = g_new(int, n);
    unsigned found = 0;

    ask_kernel(qts, addr, n, step, status);
    for (unsigned i = 0; i < n; i++) {
        found += status[i] < 0;
    }
    return found;
}

/* Pages of a mapping, as "N0=12 N1=3 ... kernelpagesize_kB=4" has it. */
static void add_mapping(HmnSpread *s, char **words)
{
    uint64_t pages[3] = { }, kib = 0;

    for (; *words; words++) {
        unsigned node;
        uint64_t n;

        if (sscanf(*words, "N%u=%" SCNu64, &node, &n) == 2) {
            pages[node == hmn_fast ? 0 : node == hmn_slow ? 1 : 2] += n;
        }
        sscanf(*words, "kernelpagesize_kB=%" SCNu64, &kib);
    }
    s->fast += pages[0] * kib * KiB;
    s->slow += pages[1] * kib * KiB;
    s->other += pages[2] * kib * KiB;
}

HmnSpread hmn_spread(QTestState *qts, uint64_t addr, uint64_t size)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/numa_maps",
                                            (int)qtest_pid(qts));
    g_autofree char *text = read_text(path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    uint64_t host = hmn_host(qts, addr);
    HmnSpread s = { };

    for (unsigned i = 0; lines[i]; i++) {
        uint64_t at = g_ascii_strtoull(lines[i], NULL, 16);
        /* A policy may have a blank in it: "prefer (many):1". */
        char *policy = strchr(lines[i], ' ');
        g_auto(GStrv) words = NULL;

        if (!policy || at < host || at >= host + size) {
            continue;
        }
        words = g_strsplit(policy + 1, " ", -1);
        if (at == host) {
            bool two = words[1] && g_str_has_prefix(words[1], "(");

            snprintf(s.policy, sizeof(s.policy), "%s%s%s", words[0],
                     two ? " " : "", two ? words[1] : "");
        }
        add_mapping(&s, words);
    }
    g_assert_cmpstr(s.policy, !=, "");
    return s;
}

HmnSpread hmn_spread_all(QTestState *qts)
{
    return hmn_spread(qts, 0, HMT_RAM);
}

char *hmn_get_thp(const char *file)
{
    g_autofree char *path = g_strconcat(THP, file, NULL);
    g_autofree char *text = read_text(path);
    g_auto(GStrv) words = g_strsplit_set(text ?: "", "[]", 3);

    return g_strv_length(words) == 3 ? g_strdup(words[1]) : NULL;
}

bool hmn_have_thp(const char *file)
{
    g_autofree char *word = hmn_get_thp(file);

    return word && !g_str_equal(word, "never") && !g_str_equal(word, "deny");
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) > 0;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

bool hmn_set_thp(const char *file, const char *word)
{
    g_autofree char *path = g_strconcat(THP, file, NULL);

    return write_text(path, word);
}

char *hmn_make_dir(void)
{
    char *dir = g_strdup("/dev/shm/hybridmem-XXXXXX");
    struct statfs st;

    if (statfs("/dev/shm", &st) || st.f_type != TMPFS_MAGIC ||
        !g_mkdtemp(dir)) {
        g_free(dir);
        return NULL;
    }
    return dir;
}

static bool set_pool(unsigned node, unsigned pages)
{
    g_autofree char *path = g_strdup_printf(NODES "node%u/hugepages/"
                                            "hugepages-2048kB/nr_hugepages",
                                            node);
    g_autofree char *wanted = g_strdup_printf("%u\n", pages), *text = NULL;

    if (!write_text(path, wanted)) {
        return false;
    }
    text = read_text(path);
    return text && atoi(text) >= (int)pages;
}

bool hmn_set_pools(unsigned fast, unsigned slow)
{
    return set_pool(hmn_fast, fast) && set_pool(hmn_slow, slow);
}

/* --- the engine -------------------------------------------------------- */

gint64 hmn_deadline(void)
{
    return g_get_monotonic_time() + HMT_SECONDS * G_USEC_PER_SEC;
}

void hmn_go_on(QTestState *qts, gint64 deadline, const char *what)
{
    g_autofree char *info = NULL;
    HmnSpread s;

    if (g_get_monotonic_time() < deadline) {
        g_usleep(10000);
        return;
    }
    info = qtest_hmp(qts, "info hybridmem");
    s = hmn_spread_all(qts);
    g_printerr("in vain: %s\n%skernel: fast %" PRIu64 ", slow %" PRIu64
               ", other %" PRIu64 ", %s\n", what, info, s.fast, s.slow,
               s.other, s.policy);
    g_assert_not_reached();
}

QDict *hmn_query(QTestState *qts, const char *id)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-hybridmem' }");
    QDict *found = NULL;
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(d, "id"), id)) {
            found = d;
        }
    }
    g_assert_nonnull(found);
    qobject_ref(found);
    qobject_unref(reply);
    return found;
}

uint64_t hmn_resident(QTestState *qts, const char *tier)
{
    QDict *info = hmt_query(qts);
    const QListEntry *e;
    uint64_t bytes = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "tiers"), e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(d, "tier"), tier)) {
            bytes = qdict_get_int(d, "resident");
        }
    }
    qobject_unref(info);
    return bytes;
}

uint64_t hmn_residency(QTestState *qts, const char *key)
{
    QDict *info = hmt_query(qts);
    uint64_t value = qdict_get_int(qdict_get_qdict(info, "residency"), key);

    qobject_unref(info);
    return value;
}

void hmn_wait_batch(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-hybridmem-heat' }");

    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
}

void hmn_wait_pass(QTestState *qts)
{
    /* The one that is under way began before. */
    uint64_t wanted = hmn_residency(qts, "passes") + 2;

    hmn_wait_for(qts, hmn_residency(qts, "passes") >= wanted);
}

void hmn_assert_agree(QTestState *qts)
{
    HmnSpread s;

    hmt_set_policy(qts, "none");
    hmn_wait_pass(qts);
    s = hmn_spread_all(qts);
    g_assert_cmpuint(hmn_resident(qts, "dram"), ==, s.fast);
    g_assert_cmpuint(hmn_resident(qts, "nvm"), ==, s.slow);
    g_assert_cmpuint(hmn_residency(qts, "elsewhere"), ==, s.other);
    g_assert_cmpuint(hmn_residency(qts, "absent"), ==,
                     HMT_RAM - s.fast - s.slow - s.other);
}

void hmn_write_hot(HmTest *t)
{
    for (unsigned i = 0; i < HMN_HOT; i++) {
        uint64_t addr = HMN_HOT_AT + i * HMN_HOT_STEP;
        uint64_t word = ldq_le_p(t->model + addr) + (1ULL << 32);

        stq_le_p(t->model + addr, word);
        qtest_writeq(t->qts, addr, word);
    }
}

unsigned hmn_hot_in_dram(HmTest *t)
{
    return hmn_count(t->qts, HMN_HOT_AT, HMN_HOT, HMN_HOT_STEP, hmn_fast);
}

void hmn_wait_promoted(HmTest *t)
{
    gint64 end = hmn_deadline();

    while (hmn_hot_in_dram(t) < HMN_HOT) {
        hmn_write_hot(t);
        hmn_go_on(t->qts, end, "promotion");
    }
}

void hmn_wait_fast_at_most(QTestState *qts, uint64_t bytes)
{
    hmn_wait_for(qts, hmn_spread_all(qts).fast <= bytes);
}
