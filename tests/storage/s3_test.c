/* SPDX-License-Identifier: Apache-2.0 */
/* An object store that answers well, badly, or not at all: nothing lost, doubled or half there. */
#include "keyweir/storage.h"

#include "snapshot/s3.h"
#include "snapshot/s3_reply.h"
#include "snapshot/s3_xml.h"
#include "tests/storage/fake_s3.h"
#include "tests/support/kwr_test.h"

enum { MIB = 1024 * 1024 };

typedef struct place {
    fake_s3 *fake;
    kwr_storage *storage;
    char uri[512];
} place;

static void credentials_are(const char *key, const char *secret, const char *token) {
    setenv("AWS_ACCESS_KEY_ID", key, 1);
    setenv("AWS_SECRET_ACCESS_KEY", secret, 1);
    if (token == NULL)
        unsetenv("AWS_SESSION_TOKEN");
    else
        setenv("AWS_SESSION_TOKEN", token, 1);
}

static void place_open(place *p, const fake_s3_options *options, uint32_t retry_ms) {
    kwr_error err = { 0 };
    memset(p, 0, sizeof *p);
    credentials_are("key_id", "very/secret", NULL);
    p->fake = fake_s3_open(options);
    char base[sizeof p->uri - 100];
    fake_s3_uri(p->fake, retry_ms, base, sizeof base);
    snprintf(p->uri, sizeof p->uri, "%s&part_size=5242880&parallel=2", base);
    KWR_MUST_ERR(kwr_storage_open(kwr_test_env(), p->uri, true, &p->storage, &err), err);
}

static void place_close(place *p) {
    kwr_storage_close(p->storage);
    cr_assert(fake_s3_unsigned(p->fake) == 0);
    fake_s3_close(p->fake);
}

static kwr_status write_file(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                             const uint8_t *data, size_t size, kwr_error *err) {
    kwr_storage_writer *w = NULL;
    kwr_status status = s->ops->create(s, dir, name, &w, err);
    if (status < KWR_OK) return status;
    for (size_t at = 0; at < size && status >= KWR_OK;) {
        const size_t some = size - at < 700001 ? size - at : 700001;
        status = s->ops->write(s, w, data + at, some, err);
        at += some;
    }
    if (status >= KWR_OK) return s->ops->finish(s, w, err);
    s->ops->abandon(s, w);
    return status;
}

static uint8_t *pattern(size_t size) {
    uint8_t *data = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)((i * 2654435761u) >> 11);
    return data;
}

static bool holds(fake_s3 *fake, const char *key, const void *data, size_t size) {
    size_t got = 0;
    void *bytes = fake_s3_get(fake, key, &got);
    const bool same = bytes != NULL && got == size && memcmp(bytes, data, size) == 0;
    free(bytes);
    return same;
}

/* ---- the proof at open ---- */

KWR_TEST(s3, a_server_that_replaces_objects_is_not_published_to) {
    const fake_s3_options options = { .replaces = true };
    fake_s3 *fake = fake_s3_open(&options);
    char uri[512];
    kwr_storage *s = NULL;
    kwr_error err = { 0 };
    credentials_are("key_id", "very/secret", NULL);
    fake_s3_uri(fake, 1000, uri, sizeof uri);
    KWR_EXPECT_ERR(KWR_ERR_UNSUPPORTED, kwr_storage_open(kwr_test_env(), uri, true, &s, &err), err);
    cr_assert(strstr(err.text, "If-None-Match") != NULL, "%s", err.text);
    cr_assert(fake_s3_count(fake, "") == 0, "the probe is gone");
    /* Reading is possible; publishing is refused then. */
    fake_s3_put(fake, "some/prefix/x", "x", 1);
    KWR_MUST_ERR(kwr_storage_open(kwr_test_env(), uri, false, &s, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_UNSUPPORTED, s->ops->publish(s, NULL, "slot", "1", 1, &err), err);
    const uint64_t requests = fake_s3_requests(fake);
    KWR_EXPECT_ERR(KWR_ERR_UNSUPPORTED, s->ops->publish(s, NULL, "slot", "1", 1, &err), err);
    cr_assert(fake_s3_requests(fake) == requests, "it is asked once");
    cr_assert(fake_s3_count(fake, "some/prefix/slot") == 0);
    kwr_storage_close(s);
    fake_s3_close(fake);
}

KWR_TEST(s3, a_server_that_forgets_who_made_an_object_is_not_published_to) {
    const fake_s3_options options = { .forgets_meta = true };
    fake_s3 *fake = fake_s3_open(&options);
    char uri[512];
    kwr_storage *s = NULL;
    kwr_error err = { 0 };
    credentials_are("key_id", "very/secret", NULL);
    fake_s3_uri(fake, 1000, uri, sizeof uri);
    KWR_EXPECT_ERR(KWR_ERR_UNSUPPORTED, kwr_storage_open(kwr_test_env(), uri, true, &s, &err), err);
    cr_assert(strstr(err.text, "metadata") != NULL, "%s", err.text);
    fake_s3_close(fake);
}

KWR_TEST(s3, opening_to_read_makes_nothing_and_wants_something_there) {
    fake_s3 *fake = fake_s3_open(NULL);
    char uri[512];
    kwr_storage *s = NULL;
    kwr_error err = { 0 };
    credentials_are("key_id", "very/secret", NULL);
    fake_s3_uri(fake, 1000, uri, sizeof uri);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, kwr_storage_open(kwr_test_env(), uri, false, &s, &err), err);
    cr_assert(fake_s3_requests(fake) == 1);
    fake_s3_close(fake);
}

/* ---- streaming ---- */

static void check_large(const fake_s3_options *options, size_t size) {
    place p;
    kwr_error err = { 0 };
    place_open(&p, options, 2000);
    kwr_storage *s = p.storage;
    uint8_t *data = pattern(size), *back = malloc(size + 1);
    KWR_MUST_ERR(write_file(s, NULL, "large", data, size, &err), err);
    cr_assert(holds(p.fake, "some/prefix/large", data, size));
    cr_assert(fake_s3_uploads(p.fake) == 0);
    kwr_storage_reader *r = NULL;
    uint64_t got = 0;
    KWR_MUST_ERR(s->ops->open(s, NULL, "large", &r, &got, &err), err);
    cr_assert(got == size);
    KWR_MUST_ERR(s->ops->read(s, r, 0, back, size, &err), err);
    cr_assert(memcmp(back, data, size) == 0);
    s->ops->close_reader(s, r);
    free(data);
    free(back);
    place_close(&p);
}

KWR_TEST(s3, files_of_any_size_go_in_parts_that_fit) {
    const size_t part = 5 * MIB;
    const size_t sizes[] = { 0, 1, part - 1, part, part + 1, 2 * part, 5 * part + 12345 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_large(NULL, sizes[i]);
}

KWR_TEST(s3, parts_are_put_together_where_conditions_are_not_known_or_errors_come_late) {
    const fake_s3_options unconditional = { .no_exclusive_parts = true };
    const fake_s3_options late = { .error_in_200 = true };
    check_large(&unconditional, 6 * MIB);
    check_large(&late, 6 * MIB);
}

KWR_TEST(s3, an_abandoned_file_leaves_no_parts) {
    place p;
    kwr_error err = { 0 };
    place_open(&p, NULL, 2000);
    kwr_storage *s = p.storage;
    kwr_storage_writer *w = NULL;
    uint8_t *data = pattern(11 * MIB);
    KWR_MUST_ERR(s->ops->create(s, NULL, "large", &w, &err), err);
    KWR_MUST_ERR(s->ops->write(s, w, data, 11 * MIB, &err), err);
    s->ops->abandon(s, w);
    cr_assert(fake_s3_uploads(p.fake) == 0 && fake_s3_count(p.fake, "some/prefix/large") == 0);
    free(data);
    place_close(&p);
}

/* An element that says only half of itself must not be made whole by its neighbour. */
KWR_TEST(s3, an_unfinished_upload_has_its_own_key_and_its_own_id) {
    static const char BODY[] =
        "<ListMultipartUploadsResult><Upload><Key>a</Key><UploadId>1</UploadId></Upload>"
        "<Upload><Key>only-a-key</Key></Upload><Upload><UploadId>only-an-id</UploadId></Upload>"
        "<Upload><Key></Key><UploadId>2</UploadId></Upload><Upload/>"
        "<Upload><UploadId>3</UploadId><Initiator><Key>of-another</Key></Initiator></Upload>"
        "<Upload><UploadId>4 +</UploadId><Key>b</Key></Upload></ListMultipartUploadsResult>";
    static const char WANTED[] = "a\0"
                                 "1\0"
                                 "b\0"
                                 "4%20%2B";
    kwr_error err = { 0 };
    kwr_buffer out = { .env = kwr_test_env() };
    kwr_s3_marker next = { .key = { .env = kwr_test_env() }, .upload = { .env = kwr_test_env() } };
    KWR_MUST_ERR(kwr_s3_read_uploads((kwr_slice){ BODY, sizeof BODY - 1 }, 10, &out, &next, &err),
                 err);
    cr_assert(!next.more && next.key.size == 0);
    cr_assert(out.size == sizeof WANTED && memcmp(out.data, WANTED, sizeof WANTED) == 0);
    out.size = 0;
    KWR_MUST_ERR(kwr_s3_read_uploads((kwr_slice){ BODY, sizeof BODY - 1 }, 1, &out, &next, &err),
                 err);
    cr_assert(out.size == 4 && memcmp(out.data, WANTED, 4) == 0, "the first, and no more");
    kwr_buffer_free(&out);
}

KWR_TEST(s3, uploads_that_a_crash_left_are_found_and_given_up) {
    place p;
    kwr_error err = { 0 };
    place_open(&p, NULL, 2000);
    kwr_storage *s = p.storage;
    kwr_storage_writer *w = NULL;
    uint8_t *data = pattern(6 * MIB);
    KWR_MUST_ERR(s->ops->create(s, NULL, "large", &w, &err), err);
    KWR_MUST_ERR(s->ops->write(s, w, data, 6 * MIB, &err), err);
    kwr_s3 *other = NULL;
    kwr_buffer left = { .env = kwr_test_env() };
    KWR_MUST_ERR(kwr_s3_open(kwr_test_env(), p.uri, &other, &err), err);
    KWR_MUST_ERR(kwr_s3_uploads(other, "some/prefix/", 10, &left, &err), err);
    const char *key = (const char *)left.data;
    cr_assert(left.size > 0 && strcmp(key, "some/prefix/large") == 0);
    KWR_MUST_ERR(kwr_s3_upload_abort(other, key, key + strlen(key) + 1, &err), err);
    kwr_buffer_free(&left);
    kwr_s3_close(other);
    cr_assert(fake_s3_uploads(p.fake) == 0);
    cr_assert(s->ops->finish(s, w, &err) < KWR_OK, "its parts are gone");
    cr_assert(fake_s3_count(p.fake, "some/prefix/large") == 0);
    free(data);
    place_close(&p);
}

/* ---- faults ---- */

static kwr_status count_name(void *ctx, const char *name) {
    (void)name;
    ++*(size_t *)ctx;
    return KWR_OK;
}

/* What a checkpoint does, in small; whatever happens, each answer is true. */
static void go_through(place *p, const fake_s3_plan *plan) {
    kwr_storage *s = p->storage;
    kwr_error err = { 0 };
    kwr_storage_dir *dir = NULL;
    fake_s3_plan_set(p->fake, *plan);
    KWR_MUST_ERR(s->ops->dir_open(s, NULL, "d", true, &dir, &err), err);
    const kwr_status published = s->ops->publish(s, dir, "slot", "content", 7, &err);
    cr_assert(published != KWR_ERR_EXISTS, "nobody else is there: %s", err.text);
    const kwr_status written = write_file(s, dir, "file", (const uint8_t *)"some bytes", 10, &err);
    cr_assert(written != KWR_ERR_UNKNOWN);
    size_t count = 0;
    const kwr_status listed = s->ops->list(s, dir, "", count_name, &count, &err);
    uint8_t back[10] = { 0 };
    kwr_storage_reader *r = NULL;
    uint64_t size = 0;
    const kwr_status opened = s->ops->open(s, dir, "file", &r, &size, &err);
    const kwr_status read = opened < KWR_OK ? opened : s->ops->read(s, r, 0, back, 10, &err);
    if (opened >= KWR_OK) s->ops->close_reader(s, r);
    const kwr_status taken = s->ops->publish(s, dir, "other", "content", 7, &err);
    fake_s3_plan_set(p->fake, (fake_s3_plan){ 0 });

    const bool slot = fake_s3_count(p->fake, "some/prefix/d/slot") > 0;
    const bool file = fake_s3_count(p->fake, "some/prefix/d/file") > 0;
    cr_assert(!slot || holds(p->fake, "some/prefix/d/slot", "content", 7), "never half there");
    cr_assert(!file || holds(p->fake, "some/prefix/d/file", "some bytes", 10));
    if (published == KWR_OK)
        cr_assert(slot);
    else if (published != KWR_ERR_UNKNOWN)
        cr_assert(!slot, "%s", kwr_status_name(published));
    if (written == KWR_OK) cr_assert(file);
    if (listed == KWR_OK) cr_assert(count == (size_t)slot + file + 1, "%zu names", count);
    if (read == KWR_OK) cr_assert(memcmp(back, "some bytes", 10) == 0);
    cr_assert(taken < KWR_OK && holds(p->fake, "some/prefix/d/other", "theirs", 6));
    cr_assert(strstr(err.text, "s3://bucket/") != NULL || strstr(err.text, "127.0.0.1") != NULL,
              "%s", err.text);
    cr_assert(strstr(err.text, "secret") == NULL, "%s", err.text);
    s->ops->dir_close(s, dir);
}

static void faulty(place *p, fake_s3_plan plan) {
    fake_s3_clear(p->fake);
    fake_s3_put(p->fake, "some/prefix/d/other", "theirs", 6);
    go_through(p, &plan);
}

KWR_TEST(s3, a_single_fault_at_any_request_is_survived_or_told, .timeout = 300) {
    place p;
    place_open(&p, NULL, 2000);
    for (int fault = 1; fault < FAKE_S3_FAULTS; fault++)
        for (uint64_t at = 1; at <= 8; at++)
            faulty(&p, (fake_s3_plan){ .fault = (fake_s3_fault)fault, .at = at, .cut = 20 });
    place_close(&p);
}

KWR_TEST(s3, a_server_that_stays_away_is_told_and_nothing_is_half_there, .timeout = 300) {
    place p;
    place_open(&p, NULL, 60);
    for (int fault = 1; fault < FAKE_S3_FAULTS; fault++)
        for (uint64_t at = 1; at <= 8; at++) {
            const fake_s3_fault f = (fake_s3_fault)fault;
            faulty(&p, (fake_s3_plan){ .fault = f, .at = at, .count = 2, .cut = 9 });
            faulty(&p, (fake_s3_plan){ .fault = f, .at = at, .count = 100000, .cut = 40 });
        }
    place_close(&p);
}

KWR_TEST(s3, an_answer_cut_at_any_byte_changes_nothing, .timeout = 300) {
    place p;
    place_open(&p, NULL, 2000);
    for (uint64_t at = 1; at <= 7; at++)
        for (size_t cut = 0; cut < 260; cut++)
            faulty(&p, (fake_s3_plan){ .fault = FAKE_S3_CUT, .at = at, .cut = cut });
    place_close(&p);
}

KWR_TEST(s3, a_lost_put_of_ours_is_known_and_of_others_too) {
    place p;
    kwr_error err = { 0 };
    place_open(&p, NULL, 2000);
    kwr_storage *s = p.storage;
    fake_s3_plan_set(p.fake, (fake_s3_plan){ .fault = FAKE_S3_RESET_AFTER, .at = 1 });
    KWR_MUST_ERR(s->ops->publish(s, NULL, "ours", "same", 4, &err), err);
    cr_assert(fake_s3_requests(p.fake) == 2, "the put, and a look at the object");
    fake_s3_put(p.fake, "some/prefix/theirs", "same", 4);
    fake_s3_plan_set(p.fake, (fake_s3_plan){ .fault = FAKE_S3_RESET_AFTER, .at = 1 });
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, s->ops->publish(s, NULL, "theirs", "same", 4, &err), err);
    place_close(&p);
}

KWR_TEST(s3, parts_survive_each_fault_or_leave_nothing, .timeout = 300) {
    place p;
    kwr_error err = { 0 };
    const size_t size = 11 * MIB;
    uint8_t *data = pattern(size);
    place_open(&p, NULL, 2000);
    for (int fault = 1; fault < FAKE_S3_FAULTS; fault++)
        for (uint64_t at = 1; at <= 6; at++) {
            fake_s3_clear(p.fake);
            const fake_s3_plan plan = { .fault = (fake_s3_fault)fault, .at = at, .cut = 20 };
            fake_s3_plan_set(p.fake, plan);
            const kwr_status status = write_file(p.storage, NULL, "large", data, size, &err);
            const bool there = fake_s3_count(p.fake, "some/prefix/large") > 0;
            cr_assert(!there || holds(p.fake, "some/prefix/large", data, size));
            cr_assert(there == (status == KWR_OK), "fault %d at %d: %s", fault, (int)at,
                      kwr_status_name(status));
            const bool begun_twice = at == 2 && status == KWR_OK; /* the first answer was lost */
            cr_assert(fake_s3_uploads(p.fake) <= (begun_twice || at == 2 ? 1 : 0));
        }
    free(data);
    place_close(&p);
}

/* ---- credentials ---- */

KWR_TEST(s3, credentials_come_from_a_file_or_the_surroundings_and_are_never_told) {
    fake_s3 *fake = fake_s3_open(NULL);
    char uri[512], more[900], token[64];
    kwr_storage *s = NULL;
    kwr_error err = { 0 };
    fake_s3_uri(fake, 1000, uri, sizeof uri);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    KWR_EXPECT_ERR(KWR_ERR_MISSING, kwr_storage_open(kwr_test_env(), uri, true, &s, &err), err);
    cr_assert(strstr(err.text, "AWS_ACCESS_KEY_ID") != NULL, "%s", err.text);
    const char *path = kwr_test_path("credentials");
    const char *text = "[default]\naws_access_key_id=other\n# x\naws_secret_access_key=no\n"
                       "[ jobs ]\r\naws_access_key_id = key_id\r\n aws_secret_access_key = very/"
                       "secret\r\nregion = x\naws_session_token= a+token/== \n\n[other]\n"
                       "aws_session_token = wrong";
    kwr_test_write_file(path, text, strlen(text));
    snprintf(more, sizeof more, "%s&credentials=%s&profile=jobs", uri, path);
    KWR_MUST_ERR(kwr_storage_open(kwr_test_env(), more, true, &s, &err), err);
    fake_s3_last_token(fake, token, sizeof token);
    cr_assert(strcmp(token, "a+token/==") == 0, "%s", token);
    cr_assert(fake_s3_unsigned(fake) == 0);
    kwr_storage_close(s);
    snprintf(more, sizeof more, "%s&credentials=%s&profile=nobody", uri, path);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, kwr_storage_open(kwr_test_env(), more, true, &s, &err), err);
    cr_assert(strstr(err.text, "nobody") != NULL && strstr(err.text, "secret=") == NULL);
    credentials_are("key_id", "a\nb", NULL);
    KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_storage_open(kwr_test_env(), uri, true, &s, &err), err);
    fake_s3_close(fake);
}

KWR_TEST(s3, expired_credentials_are_read_again_once) {
    place p;
    kwr_error err = { 0 };
    char token[64];
    place_open(&p, NULL, 2000);
    credentials_are("key_id", "very/secret", "newer");
    fake_s3_plan_set(p.fake, (fake_s3_plan){ .fault = FAKE_S3_EXPIRED, .at = 1 });
    KWR_MUST_ERR(p.storage->ops->publish(p.storage, NULL, "x", "1", 1, &err), err);
    fake_s3_last_token(p.fake, token, sizeof token);
    cr_assert(strcmp(token, "newer") == 0);
    fake_s3_plan_set(p.fake, (fake_s3_plan){ .fault = FAKE_S3_EXPIRED, .at = 1 });
    cr_assert(p.storage->ops->publish(p.storage, NULL, "y", "1", 1, &err) < KWR_OK);
    cr_assert(strstr(err.text, "ExpiredToken") != NULL, "%s", err.text);
    cr_assert(fake_s3_requests(p.fake) == 1, "they were the same");
    place_close(&p);
}

KWR_TEST(s3, a_server_without_ranges_is_refused_not_misread) {
    const fake_s3_options options = { .no_ranges = true };
    place p;
    kwr_error err = { 0 };
    kwr_storage_reader *r = NULL;
    uint64_t size = 0;
    char two[2], all[6];
    place_open(&p, &options, 100);
    kwr_storage *s = p.storage;
    KWR_MUST_ERR(s->ops->publish(s, NULL, "x", "abcdef", 6, &err), err);
    KWR_MUST_ERR(s->ops->open(s, NULL, "x", &r, &size, &err), err);
    KWR_MUST_ERR(s->ops->read(s, r, 0, all, 6, &err), err);
    cr_assert(s->ops->read(s, r, 2, two, 2, &err) < KWR_OK);
    s->ops->close_reader(s, r);
    place_close(&p);
}

KWR_TEST(s3, a_replaced_object_is_noticed_by_who_reads_it) {
    place p;
    kwr_error err = { 0 };
    kwr_storage_reader *r = NULL;
    uint64_t size = 0;
    char two[2];
    place_open(&p, NULL, 100);
    kwr_storage *s = p.storage;
    KWR_MUST_ERR(s->ops->publish(s, NULL, "x", "abcdef", 6, &err), err);
    KWR_MUST_ERR(s->ops->open(s, NULL, "x", &r, &size, &err), err);
    fake_s3_put(p.fake, "some/prefix/x", "ABCDEF", 6);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, s->ops->read(s, r, 2, two, 2, &err), err);
    s->ops->close_reader(s, r);
    place_close(&p);
}

KWR_TEST(s3, keys_that_are_no_names_are_not_listed) {
    place p;
    size_t count = 0;
    place_open(&p, NULL, 100);
    fake_s3_put(p.fake, "some/prefix/", "", 0);
    fake_s3_put(p.fake, "some/prefix/a b", "", 0);
    fake_s3_put(p.fake, "some/prefix/a%62", "", 0);
    fake_s3_put(p.fake, "some/prefix/../x", "", 0);
    fake_s3_put(p.fake, "some/prefix/good", "", 0);
    fake_s3_put(p.fake, "some/prefix/dir/x", "", 0);
    fake_s3_put(p.fake, "some/prefixes", "", 0);
    KWR_MUST(p.storage->ops->list(p.storage, NULL, "", count_name, &count, NULL));
    cr_assert(count == 2, "%zu", count);
    place_close(&p);
}

/* ---- what is refused before anything is asked ---- */

KWR_TEST(s3, uris_that_say_nothing_sensible_are_refused_with_the_reason) {
    static const struct {
        const char *uri, *says;
        kwr_status status;
    } rows[] = {
        { "s3:bucket", "://", KWR_ERR_RANGE },
        { "s3:///x", "bucket", KWR_ERR_RANGE },
        { "s3://Bucket/x", "bucket", KWR_ERR_RANGE },
        { "s3://b_/x", "bucket", KWR_ERR_RANGE },
        { "s3://me@bucket/x", "user", KWR_ERR_RANGE },
        { "s3://me:pw@bucket/x", "password", KWR_ERR_RANGE },
        { "s3://bucket/a/../b", "..", KWR_ERR_RANGE },
        { "s3://bucket/x?secret=s", "no parameter", KWR_ERR_RANGE },
        { "s3://bucket/x?endpoint=ftp://h", "endpoint", KWR_ERR_RANGE },
        { "s3://bucket/x?endpoint=http://h/path", "without a path", KWR_ERR_RANGE },
        { "s3://bucket/x?endpoint=", "endpoint", KWR_ERR_RANGE },
        { "s3://bucket/x?endpoint=http://example.test", "unencrypted", KWR_ERR_REFUSED },
        { "s3://bucket/x?region=EU%20x", "region", KWR_ERR_RANGE },
        { "s3://bucket/x?region=a:b", "region", KWR_ERR_RANGE },
        { "s3://bucket/x?part_size=1000", "part_size", KWR_ERR_RANGE },
        { "s3://bucket/x?parallel=0", "parallel", KWR_ERR_RANGE },
        { "s3://bucket/x?path_style=maybe", "path_style", KWR_ERR_RANGE },
        { "s3://bucket/x?credentials=/nowhere/at/all", "nowhere", KWR_ERR_MISSING },
    };
    credentials_are("key_id", "very/secret", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kwr_error err = { 0 };
        kwr_storage *s = NULL;
        const kwr_status status = kwr_storage_open(kwr_test_env(), rows[i].uri, true, &s, &err);
        cr_assert(status == rows[i].status, "%s: %s (%s)", rows[i].uri, kwr_status_name(status),
                  err.text);
        cr_assert(strstr(err.text, rows[i].says) != NULL, "%s: %s", rows[i].uri, err.text);
        cr_assert(strstr(err.text, "pw") == NULL && s == NULL);
    }
}

/* ---- XML ---- */

static kwr_status note(void *ctx, const char *parent, const char *name, const char *text) {
    char *out = ctx;
    const size_t size = strlen(out);
    snprintf(out + size, 500 - size, "%s/%s=%s;", parent, name, text == NULL ? "-" : text);
    return KWR_OK;
}

static kwr_status read_xml(const char *text, char out[500]) {
    kwr_error err = { 0 };
    out[0] = '\0';
    const kwr_status status = kwr_s3_xml_read(text, strlen(text), note, out, &err);
    cr_assert(status >= KWR_OK || err.text[0] != '\0');
    return status;
}

static kwr_status stop_at_once(void *ctx, const char *parent, const char *name, const char *text) {
    (void)parent;
    (void)name;
    (void)text;
    ++*(size_t *)ctx;
    return KWR_ERR_CANCELLED;
}

KWR_TEST(s3_xml, elements_come_with_their_parent_and_texts_decoded) {
    char out[500];
    KWR_MUST(
        read_xml("<?xml version='1.0'?><a xmlns='u'>\n <b>1&lt;&#50;</b><x:c y='1'/></a>", out));
    cr_assert(strcmp(out, "a/b=1<2;a/c=;/a=-;") == 0, "%s", out);
}

KWR_TEST(s3_xml, what_is_cut_or_malformed_or_hostile_is_refused) {
    char out[500];
    const char *const whole = "<?xml version='1.0'?><a><b>1&lt;2</b></a>";
    for (size_t cut = 0; cut < strlen(whole); cut++) {
        char part[64];
        snprintf(part, sizeof part, "%.*s", (int)cut, whole);
        KWR_EXPECT(KWR_ERR_CORRUPT, read_xml(part, out));
    }
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<a>&unknown;</a>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<a><b></a></b>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<a/><b/>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<a>\x01</a>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<a>\xff\xfe</a>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml("<1><2><3><4>", out));
    KWR_EXPECT(KWR_ERR_CORRUPT,
               read_xml("<a><b><c><d><e><f><g><h><i>x</i></h></g></f></e></d></c></b></a>", out));
    static char longer[KWR_S3_XML_TEXT_MAX + 100];
    memset(longer, 'x', sizeof longer - 1);
    memcpy(longer, "<a>", 3);
    memcpy(longer + sizeof longer - 5, "</a>", 4);
    KWR_EXPECT(KWR_ERR_CORRUPT, read_xml(longer, out));
}

KWR_TEST(s3_xml, a_failure_of_the_caller_ends_the_reading) {
    kwr_error err = { 0 };
    size_t calls = 0;
    const char *text = "<a><b/><b/></a>";
    KWR_EXPECT_ERR(KWR_ERR_CANCELLED,
                   kwr_s3_xml_read(text, strlen(text), stop_at_once, &calls, &err), err);
    cr_assert(calls == 1);
}
