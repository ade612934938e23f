/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request of every operation spoilt in every way, once and for good: nothing is lost, doubled
 * or half there, what is reported is true, and no credential goes where it should not.
 */
#include <pthread.h>
#include <unistd.h>

#include "keyweir/storage.h"
#include "tests/storage/fake_hdfs.h"
#include "tests/support/kwr_test.h"

#define TOKEN "TheSecretToken0123456789"

typedef struct trial {
    fake_hdfs *fake;
    kwr_env env; /* the test's, with an observer */
    kwr_observer observer;
    kwr_storage *storage;
    kwr_storage_dir *dir;
    uint64_t cases;
    char uri[1024];
} trial;

static void no_secret(const char *text) {
    cr_assert(strstr(text, TOKEN) == NULL && strstr(text, "delegation=") == NULL, "%s", text);
}

static void on_log(void *ctx, kwr_log_level level, const char *component, const char *line) {
    (void)ctx, (void)level, (void)component;
    no_secret(line);
}

static void trial_open_with(trial *t, fake_options options) {
    kwr_error err = { 0 };
    memset(t, 0, sizeof *t);
    options.token = TOKEN;
    t->fake = fake_hdfs_open(&options);
    t->env = *kwr_test_env();
    t->observer = (kwr_observer){ .struct_size = sizeof t->observer, .log = on_log };
    t->env.observer = &t->observer;
    kwr_test_write_file(kwr_test_path("token"), TOKEN "\n", strlen(TOKEN) + 1);
    fake_hdfs_uri(t->fake, "/root", t->uri, sizeof t->uri);
    snprintf(
        t->uri + strlen(t->uri), sizeof t->uri - strlen(t->uri),
        "delegation_file=%s&cleartext_credentials=yes&retry_wait_ms=1&retry_ms=25&stall_ms=300",
        kwr_test_path("token"));
    KWR_MUST_ERR(kwr_storage_open(&t->env, t->uri, true, &t->storage, &err), err);
    KWR_MUST_ERR(t->storage->ops->dir_open(t->storage, NULL, "d", true, &t->dir, &err), err);
}

static void trial_open(trial *t) { trial_open_with(t, (fake_options){ 0 }); }

static void trial_close(trial *t) {
    fake_hdfs_plan(t->fake, (fake_plan){ 0 });
    t->storage->ops->dir_close(t->storage, t->dir);
    kwr_storage_close(t->storage);
    cr_assert(fake_hdfs_foreign(t->fake) == 0, "the foreign server was talked to");
    cr_assert(!fake_hdfs_token_leaked(t->fake), "the token left the name nodes");
    fake_hdfs_close(t->fake);
}

/* ---- plans: each fault at each request, once and for good; cuts at each byte ---- */

typedef void (*case_fn)(trial *t, const char *what);

static const char *const fault_names[FAKE_FAULTS] = {
    "none",          "reset-before", "reset-after", "cut",        "cut-before",  "foreign",
    "401",           "standby",      "safe-mode",   "retriable",  "denied",      "404",
    "500",           "500-after",    "503",         "false",      "false-after", "garbage",
    "garbage-after", "half",         "slow",        "late-apply",
};

/* Races do not depend on which byte is cut: there some of the cases do. */
#ifdef __SANITIZE_THREAD__
enum { EVERY = 9 };
#else
enum { EVERY = 1 };
#endif

static void run_case(trial *t, case_fn fn, fake_plan plan) {
    char what[96];
    if (t->cases++ % EVERY != 0) return;
    snprintf(what, sizeof what, "%s at %llu, %llu times, cut %zu", fault_names[plan.fault],
             (unsigned long long)plan.at, (unsigned long long)plan.count, plan.cut);
    fake_hdfs_plan(t->fake, (fake_plan){ 0 });
    fake_hdfs_clear(t->fake);
    fake_hdfs_mkdir(t->fake, "/root/d");
    fake_hdfs_plan(t->fake, plan);
    fn(t, what);
}

static void each_fault(trial *t, case_fn fn) {
    run_case(t, fn, (fake_plan){ 0 });
    for (int fault = FAKE_NONE + 1; fault < FAKE_FAULTS; fault++) {
        if (fault == FAKE_CUT || fault == FAKE_CUT_BEFORE) continue;
        for (uint64_t at = 1; at <= 10; at++)
            for (int more = 0; more < (fault == FAKE_SLOW ? 1 : 3); more++) {
                static const uint64_t counts[] = { 1, 2, 1000000 };
                if (fault == FAKE_SLOW && at > 7) continue;
                run_case(t, fn, (fake_plan){ .fault = fault, .at = at, .count = counts[more] });
            }
    }
}

static void each_cut(trial *t, case_fn fn, uint64_t requests, size_t step) {
    for (uint64_t at = 1; at <= requests; at++)
        for (size_t cut = 0; cut < 420; cut += step) {
            run_case(t, fn, (fake_plan){ .fault = FAKE_CUT, .at = at, .cut = cut });
            if (cut % 4 == 0)
                run_case(t, fn, (fake_plan){ .fault = FAKE_CUT_BEFORE, .at = at, .cut = cut });
        }
}

static bool content_is(trial *t, const char *path, const void *data, size_t size) {
    size_t got = 0;
    void *found = fake_hdfs_read(t->fake, path, &got);
    const bool same = found != NULL && got == size && (size == 0 || memcmp(found, data, size) == 0);
    free(found);
    return same;
}

static bool absent(trial *t, const char *path) {
    size_t size = 0;
    void *found = fake_hdfs_read(t->fake, path, &size);
    free(found);
    return found == NULL;
}

static kwr_status publish(trial *t, const char *name, const char *text, kwr_error *err) {
    return t->storage->ops->publish(t->storage, t->dir, name, text, strlen(text), err);
}

/* Files but temporary ones, which may stay when even removing them fails. */
static size_t named(trial *t) {
    return fake_hdfs_count(t->fake, "/root/d/") - fake_hdfs_count(t->fake, "/root/d/.tmp-");
}

/* What a publish may say, and what must then be there. */
static void publish_case(trial *t, const char *what) {
    kwr_error err = { 0 };
    const kwr_status status = publish(t, "slot", "ours", &err);
    no_secret(err.text);
    fake_hdfs_plan(t->fake, (fake_plan){ 0 });
    const bool there = content_is(t, "/root/d/slot", "ours", 4);
    cr_assert(there || absent(t, "/root/d/slot"), "%s: half a file is there", what);
    if (status == KWR_OK)
        cr_assert(there && named(t) == 1, "%s: said to be there", what);
    else if (status != KWR_ERR_UNKNOWN)
        cr_assert(!there, "%s: %s, and it is there: %s", what, kwr_status_name(status), err.text);
    cr_assert(status != KWR_ERR_EXISTS && status != KWR_ERR_MISSING, "%s: nobody else was there",
              what);
    /* Whoever comes next gets the truth. */
    const kwr_status next = publish(t, "slot", "next", &err);
    cr_assert(next == (there ? KWR_ERR_EXISTS : KWR_OK), "%s: then %s (%s)", what,
              kwr_status_name(next), err.text);
    cr_assert(content_is(t, "/root/d/slot", there ? "ours" : "next", 4), "%s", what);
}

KWR_TEST(webhdfs_faults, a_publish_says_what_is_true, .timeout = 300) {
    trial t;
    trial_open(&t);
    each_fault(&t, publish_case);
    each_cut(&t, publish_case, 6, 2);
    cr_assert(t.cases > 1500, "%llu", (unsigned long long)t.cases);
    trial_close(&t);
}

KWR_TEST(webhdfs_faults, a_publish_through_a_gateway_says_what_is_true, .timeout = 300) {
    trial t;
    trial_open_with(&t, (fake_options){ .no_file_id = true, .no_batch = true });
    each_fault(&t, publish_case);
    trial_close(&t);
}

static void taken_case(trial *t, const char *what) {
    kwr_error err = { 0 };
    /* The same bytes, but somebody else's file. */
    fake_hdfs_write(t->fake, "/root/d/slot", "ours", 4);
    const kwr_status status = publish(t, "slot", "ours", &err);
    no_secret(err.text);
    fake_hdfs_plan(t->fake, (fake_plan){ 0 });
    cr_assert(status < KWR_OK, "%s: it was not ours", what);
    cr_assert(content_is(t, "/root/d/slot", "ours", 4), "%s: another's file is gone", what);
}

KWR_TEST(webhdfs_faults, a_taken_name_is_never_won_or_harmed, .timeout = 300) {
    trial t;
    trial_open(&t);
    each_fault(&t, taken_case);
    each_cut(&t, taken_case, 6, 7);
    trial_close(&t);
}

/* ---- files ---- */

enum { LARGE = (1 << 20) + 70000 };
static uint8_t large[LARGE];

static void write_case(trial *t, const char *what, size_t size) {
    const kwr_storage_ops *ops = t->storage->ops;
    kwr_error err = { 0 };
    kwr_storage_writer *w = NULL;
    kwr_status status = ops->create(t->storage, t->dir, "f", &w, &err);
    if (status >= KWR_OK) {
        for (size_t at = 0; at < size && status >= KWR_OK; at += 65536)
            status =
                ops->write(t->storage, w, large + at, size - at < 65536 ? size - at : 65536, &err);
        if (status >= KWR_OK)
            status = ops->finish(t->storage, w, &err);
        else
            ops->abandon(t->storage, w);
    }
    no_secret(err.text);
    fake_hdfs_plan(t->fake, (fake_plan){ 0 });
    const bool there = content_is(t, "/root/d/f", large, size);
    cr_assert(there || absent(t, "/root/d/f"), "%s: half a file is there", what);
    if (status == KWR_OK) cr_assert(there, "%s: said to be there", what);
    cr_assert(status != KWR_ERR_EXISTS && status != KWR_ERR_MISSING && status != KWR_ERR_UNKNOWN,
              "%s: %s", what, kwr_status_name(status));
}

static void small_case(trial *t, const char *what) { write_case(t, what, 1000); }
static void large_case(trial *t, const char *what) { write_case(t, what, LARGE); }

KWR_TEST(webhdfs_faults, a_file_is_whole_or_not_there, .timeout = 300) {
    trial t;
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 7 + i / 1000);
    trial_open(&t);
    each_fault(&t, small_case);
    each_cut(&t, small_case, 6, 9);
    trial_close(&t);
}

KWR_TEST(webhdfs_faults, a_streamed_file_is_whole_or_not_there, .timeout = 300) {
    trial t;
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 7 + i / 1000);
    trial_open(&t);
    each_fault(&t, large_case);
    trial_close(&t);
}

static void read_case(trial *t, const char *what) {
    const kwr_storage_ops *ops = t->storage->ops;
    kwr_error err = { 0 };
    kwr_storage_reader *r = NULL;
    uint64_t size = 0;
    char got[64];
    static const char text[] = "what a checkpoint is made of";
    fake_hdfs_write(t->fake, "/root/d/f", text, sizeof text);
    kwr_status status = ops->open(t->storage, t->dir, "f", &r, &size, &err);
    if (status >= KWR_OK) {
        cr_assert(size == sizeof text, "%s", what);
        status = ops->read(t->storage, r, 5, got, sizeof text - 5, &err);
        if (status >= KWR_OK) cr_assert(memcmp(got, text + 5, sizeof text - 5) == 0, "%s", what);
        ops->close_reader(t->storage, r);
    }
    no_secret(err.text);
    cr_assert(status != KWR_ERR_MISSING && status != KWR_ERR_CORRUPT,
              "%s: a fault of the network is no fault of the file: %s", what, err.text);
}

KWR_TEST(webhdfs_faults, a_read_gives_every_byte_or_fails, .timeout = 300) {
    trial t;
    trial_open(&t);
    each_fault(&t, read_case);
    each_cut(&t, read_case, 3, 1);
    trial_close(&t);
}

static kwr_status count_name(void *ctx, const char *name) {
    cr_assert(name[0] == 'n' && name[1] >= '0' && name[1] <= '7');
    ((int *)ctx)[name[1] - '0']++;
    return KWR_OK;
}

static void list_case(trial *t, const char *what) {
    kwr_error err = { 0 };
    int seen[8] = { 0 };
    for (int i = 0; i < 8; i++) {
        char path[32];
        snprintf(path, sizeof path, "/root/d/n%d", i);
        fake_hdfs_write(t->fake, path, "x", 1);
    }
    const kwr_status status = t->storage->ops->list(t->storage, t->dir, "", count_name, seen, &err);
    no_secret(err.text);
    for (int i = 0; i < 8; i++)
        cr_assert(seen[i] == 1 || (status < KWR_OK && seen[i] == 0), "%s: n%d %d times", what, i,
                  seen[i]);
}

KWR_TEST(webhdfs_faults, a_listing_is_complete_or_fails, .timeout = 300) {
    trial t;
    trial_open(&t);
    each_fault(&t, list_case);
    each_cut(&t, list_case, 3, 5);
    trial_close(&t);
}

static void remove_case(trial *t, const char *what) {
    kwr_error err = { 0 };
    fake_hdfs_write(t->fake, "/root/d/f", "x", 1);
    fake_hdfs_write(t->fake, "/root/d/g", "x", 1);
    const kwr_status status = t->storage->ops->remove(t->storage, t->dir, "f", &err);
    no_secret(err.text);
    fake_hdfs_plan(t->fake, (fake_plan){ 0 });
    if (status == KWR_OK) cr_assert(absent(t, "/root/d/f"), "%s", what);
    if (status == KWR_ERR_MISSING)
        cr_assert(absent(t, "/root/d/f") || strstr(what, "false") != NULL, "%s: it is there", what);
    cr_assert(content_is(t, "/root/d/g", "x", 1), "%s", what);
}

KWR_TEST(webhdfs_faults, what_is_said_to_be_removed_is_gone, .timeout = 300) {
    trial t;
    trial_open(&t);
    each_fault(&t, remove_case);
    each_cut(&t, remove_case, 2, 3);
    trial_close(&t);
}

/* ---- name nodes, logins, quotas ---- */

KWR_TEST(webhdfs_faults, the_active_name_node_is_found_and_found_again) {
    trial t;
    trial_open(&t);
    kwr_error err = { 0 };
    for (int i = 0; i < 6; i++) {
        char name[16];
        fake_hdfs_activate(t.fake, i % 2);
        snprintf(name, sizeof name, "slot-%d", i);
        KWR_MUST_ERR(publish(&t, name, "x", &err), err);
    }
    fake_hdfs_plan(t.fake, (fake_plan){ 0 });
    KWR_MUST_ERR(publish(&t, "again", "x", &err), err);
    cr_assert(fake_hdfs_requests(t.fake) <= 5, "no detour once it is known: %llu",
              (unsigned long long)fake_hdfs_requests(t.fake));
    trial_close(&t);
}

KWR_TEST(webhdfs_faults, a_full_quota_is_want_of_space_and_leaves_nothing) {
    trial t;
    trial_open(&t);
    kwr_error err = { 0 };
    fake_hdfs_set_quota(t.fake, 10);
    KWR_EXPECT_ERR(KWR_ERR_NOSPACE, publish(&t, "slot", "more than there is room", &err), err);
    cr_assert(strstr(err.text, "quota") != NULL, "%s", err.text);
    cr_assert(fake_hdfs_count(t.fake, "/") == 0);
    KWR_MUST_ERR(publish(&t, "slot", "fits", &err), err);
    trial_close(&t);
}

KWR_TEST(webhdfs_faults, a_wrong_token_is_refused_and_a_renewed_one_is_taken_up) {
    trial t;
    trial_open(&t);
    kwr_error err = { 0 };
    kwr_storage *s = NULL;
    kwr_test_write_file(kwr_test_path("token"), "WrongToken", 10);
    KWR_EXPECT_ERR(KWR_ERR_IO, kwr_storage_open(&t.env, t.uri, true, &s, &err), err);
    cr_assert(strstr(err.text, "InvalidToken") != NULL && strstr(err.text, "WrongToken") == NULL,
              "%s", err.text);
    /* The one in use ran out, and the file does not have its successor yet; then it does. */
    fake_hdfs_set_token(t.fake, "next-" TOKEN);
    kwr_test_write_file(kwr_test_path("token"), TOKEN, strlen(TOKEN));
    KWR_EXPECT_ERR(KWR_ERR_IO, publish(&t, "slot", "x", &err), err);
    cr_assert(strstr(err.text, "InvalidToken") != NULL, "%s", err.text);
    no_secret(err.text);
    kwr_test_write_file(kwr_test_path("token"), "next-" TOKEN, strlen("next-" TOKEN));
    KWR_MUST_ERR(publish(&t, "slot", "x", &err), err);
    trial_close(&t);
}

static void count_warnings(void *ctx, kwr_log_level level, const char *component,
                           const char *line) {
    (void)component;
    *(unsigned *)ctx += level == KWR_LOG_WARNING && strstr(line, "simple authentication") != NULL;
}

KWR_TEST(webhdfs_faults, who_is_not_asked_who_he_is_is_told_once) {
    unsigned warnings = 0;
    kwr_error err = { 0 };
    kwr_env env = *kwr_test_env();
    const kwr_observer observer = { .struct_size = sizeof observer,
                                    .ctx = &warnings,
                                    .log = count_warnings };
    env.observer = &observer;
    fake_hdfs *fake = fake_hdfs_open(NULL);
    char uri[1024];
    kwr_storage *storage = NULL;
    fake_hdfs_uri(fake, "/root", uri, sizeof uri);
    snprintf(uri + strlen(uri), 32, "user.name=me");
    KWR_MUST_ERR(kwr_storage_open(&env, uri, true, &storage, &err), err);
    KWR_MUST_ERR(storage->ops->publish(storage, NULL, "slot", "x", 1, &err), err);
    cr_assert(warnings == 1, "%u warnings", warnings);
    kwr_storage_close(storage);
    fake_hdfs_close(fake);
}

KWR_TEST(webhdfs_faults, doubtful_descriptions_of_a_storage_are_refused) {
    trial t;
    trial_open(&t);
    kwr_test_write_file(kwr_test_path("bad"), "a b", 3);
    kwr_test_write_file(kwr_test_path("none"), "", 0);
    static const struct {
        const char *uri;
        kwr_status status;
        const char *says;
    } rows[] = {
        { "webhdfs:/x", KWR_ERR_RANGE, "://" },
        { "webhdfs:///x", KWR_ERR_RANGE, "host" },
        { "webhdfs://h:0/x", KWR_ERR_RANGE, "host" },
        { "webhdfs://h,,i/x", KWR_ERR_RANGE, "host" },
        { "webhdfs://a,b,c,d,e,f,g,h,i/x", KWR_ERR_RANGE, "name nodes" },
        { "webhdfs://u:secret@h/x", KWR_ERR_RANGE, "password" },
        { "webhdfs://h/x/../y", KWR_ERR_RANGE, ".." },
        { "webhdfs://h/x//y", KWR_ERR_RANGE, "empty" },
        { "webhdfs://h/%2e%2e/y", KWR_ERR_RANGE, ".." },
        { "webhdfs://h/%zz", KWR_ERR_RANGE, "%" },
        { "webhdfs://h/a%00b", KWR_ERR_RANGE, "00" },
        { "webhdfs://h/a%0ab", KWR_ERR_RANGE, "control" },
        { "webhdfs://h/x#y", KWR_ERR_RANGE, "#" },
        { "webhdfs://h/x?no=such", KWR_ERR_RANGE, "no parameter" },
        { "webhdfs://h/x?retry_ms=1&retry_ms=2", KWR_ERR_RANGE, "twice" },
        { "webhdfs://h/x?retry_ms", KWR_ERR_RANGE, "name=value" },
        { "webhdfs://h/x?retry_ms=-1", KWR_ERR_RANGE, "number" },
        { "webhdfs://h/x?user.name=a%0d%0ab", KWR_ERR_RANGE, "line break" },
        { "webhdfs://a@h/x?user.name=b", KWR_ERR_RANGE, "twice" },
        { "webhdfs://h/x?auth=basic", KWR_ERR_RANGE, "auth" },
        { "webhdfs://h/x?auth=kerberos", KWR_ERR_REFUSED, "cleartext_credentials" },
        { "webhdfs://h/x?delegation_file=/f", KWR_ERR_REFUSED, "cleartext_credentials" },
        { "webhdfs://h/x?require_auth=yes", KWR_ERR_REFUSED, "simple authentication" },
        { "webhdfs://h/x?require_auth=perhaps", KWR_ERR_RANGE, "require_auth" },
        { "hdfs://h:8020/x", KWR_ERR_RANGE, "webhdfs://h" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kwr_storage *s = NULL;
        kwr_error err = { 0 };
        const kwr_status status = kwr_storage_open(&t.env, rows[i].uri, true, &s, &err);
        cr_assert(status == rows[i].status && strstr(err.text, rows[i].says) != NULL, "%s: %s (%s)",
                  rows[i].uri, kwr_status_name(status), err.text);
        cr_assert(strstr(err.text, "secret") == NULL, "%s", err.text);
    }
    static const char *const files[] = { "bad", "none", "missing" };
    for (size_t i = 0; i < 3; i++) {
        kwr_storage *s = NULL;
        char uri[400];
        snprintf(uri, sizeof uri,
                 "webhdfs://127.0.0.1:1/x?cleartext_credentials=yes&"
                 "delegation_file=%s",
                 kwr_test_path(files[i]));
        const kwr_status status = kwr_storage_open(&t.env, uri, true, &s, NULL);
        cr_assert(status == KWR_ERR_RANGE || status == KWR_ERR_MISSING, "%s: %s", files[i],
                  kwr_status_name(status));
    }
    trial_close(&t);
}
