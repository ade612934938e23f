/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that a crash left in a bucket: what kwr_gc() does about them. */
#include <stdlib.h>

#include "keyweir/fsck.h"
#include "tests/snapshot/mini_job.h"
#include "tests/storage/fake_s3.h"

enum { MIB = 1 << 20, BEGUN_MAX = 8 };

typedef struct bucket {
    fake_s3 *fake;
    kwr_storage *storage;
    kwr_storage_writer *begun[BEGUN_MAX]; /* by processes that are no more */
    size_t count;
    char told[4096];
} bucket;

static void bucket_open(bucket *b, const fake_s3_options *options) {
    char uri[512], whole[600];
    kwr_error err = { 0 };
    memset(b, 0, sizeof *b);
    setenv("AWS_ACCESS_KEY_ID", "key_id", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "very/secret", 1);
    b->fake = fake_s3_open(options);
    fake_s3_uri(b->fake, 2000, uri, sizeof uri);
    snprintf(whole, sizeof whole, "%s&part_size=5242880&parallel=1", uri);
    KWR_MUST_ERR(kwr_storage_open(kwr_test_env(), whole, true, &b->storage, &err), err);
}

static void bucket_close(bucket *b) {
    for (size_t i = 0; i < b->count; i++)
        b->storage->ops->abandon(b->storage, b->begun[i]);
    kwr_storage_close(b->storage);
    fake_s3_close(b->fake);
}

/* Enough of a file for an upload in parts, and no end. */
static void begin(bucket *b, const char *job, const char *dir, const char *name) {
    const kwr_storage_ops *ops = b->storage->ops;
    kwr_storage_dir *of_job = NULL, *inner = NULL;
    kwr_error err = { 0 };
    uint8_t *data = calloc(6, MIB);
    KWR_MUST_ERR(ops->dir_open(b->storage, NULL, job, true, &of_job, &err), err);
    KWR_MUST_ERR(ops->dir_open(b->storage, of_job, dir, true, &inner, &err), err);
    KWR_MUST_ERR(ops->create(b->storage, inner, name, &b->begun[b->count], &err), err);
    KWR_MUST_ERR(ops->write(b->storage, b->begun[b->count++], data, 6 * MIB, &err), err);
    ops->dir_close(b->storage, inner);
    ops->dir_close(b->storage, of_job);
    free(data);
}

static void note(void *ctx, const kwr_fsck_finding *finding) {
    bucket *b = ctx;
    const size_t size = strlen(b->told);
    snprintf(b->told + size, sizeof b->told - size, "%s\n", finding->text);
}

static kwr_gc_result collect(bucket *b, bool remove, bool ended) {
    const kwr_gc_options options = { .struct_size = sizeof options,
                                     .env = kwr_test_env(),
                                     .storage = b->storage,
                                     .job = "job",
                                     .remove = remove,
                                     .attempt_ended = ended,
                                     .ctx = b,
                                     .found = note };
    kwr_gc_result result = { .struct_size = sizeof result };
    kwr_error err = { 0 };
    b->told[0] = '\0';
    KWR_MUST_ERR(kwr_gc(&options, &result, &err), err);
    return result;
}

KWR_TEST(s3_gc, gives_up_uploads_of_older_attempts_and_nothing_else) {
    bucket b;
    kwr_error err = { 0 };
    mini_job job = { 0 };
    bucket_open(&b, NULL);
    KWR_MUST_ERR(mini_start(&job, kwr_test_env(), b.storage, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, 50, 1, &err), err);
    mini_stop(&job);
    KWR_MUST_ERR(mini_start(&job, kwr_test_env(), b.storage, &err), err);
    begin(&b, "job", "shared", "1-count-0-98.kwp");
    begin(&b, "job", "shared", "1-count-0-98.kwp"); /* tried again: the same key */
    begin(&b, "job", "chk-9-1", "manifest.json");
    begin(&b, "job", "shared", "2-count-0-99.kwp");
    begin(&b, "job", "shared", "foreign.bin");
    begin(&b, "job", "elsewhere", "1-count-0-98.kwp");
    begin(&b, "job2", "shared", "1-count-0-98.kwp");
    const size_t all = b.count;
    kwr_gc_result result = collect(&b, false, false);
    cr_assert(result.leftovers == 3 && result.in_progress == 1 && result.foreign == 2);
    cr_assert(strstr(b.told, "'job': shared/1-count-0-98.kwp, which was begun and never ended: "
                             "would be removed") != NULL,
              "%s", b.told);
    cr_assert_eq(fake_s3_uploads(b.fake), all);
    result = collect(&b, true, false);
    cr_assert(result.removed == 3 && result.failed == 0 && result.in_progress == 1);
    cr_assert_eq(fake_s3_uploads(b.fake), all - 3);
    /* The attempt goes on; a fence would end it. */
    KWR_MUST_ERR(mini_checkpoint(&job, 50, 2, &err), err);
    result = collect(&b, false, true);
    cr_assert(result.leftovers == 1 && result.in_progress == 0);
    result = collect(&b, true, true);
    cr_assert(result.removed == 1 && result.foreign == 2);
    cr_assert_eq(fake_s3_uploads(b.fake), all - 4);
    cr_assert(mini_checkpoint(&job, 50, 3, &err) == KWR_ERR_EXISTS);
    mini_stop(&job);
    mini_expect_restores(kwr_test_env(), b.storage, 50, 2);
    bucket_close(&b);
}

static void two_attempts(bucket *b) {
    kwr_error err = { 0 };
    mini_job job = { 0 };
    for (uint32_t i = 1; i < 3; i++) {
        KWR_MUST_ERR(mini_start(&job, kwr_test_env(), b->storage, &err), err);
        KWR_MUST_ERR(mini_checkpoint(&job, 50, i, &err), err);
        mini_stop(&job);
    }
}

KWR_TEST(s3_gc, tells_an_upload_that_cannot_be_given_up) {
    bucket b;
    bucket_open(&b, NULL);
    two_attempts(&b);
    begin(&b, "job", "shared", "1-count-0-98.kwp");
    kwr_gc_result result = collect(&b, false, false);
    cr_assert_eq(result.leftovers, 1);
    fake_s3_plan_set(b.fake, (fake_s3_plan){ 0 });
    const uint64_t before = fake_s3_requests(b.fake);
    result = collect(&b, true, false);
    const uint64_t last = fake_s3_requests(b.fake) - before;
    cr_assert_eq(result.removed, 1);
    begin(&b, "job", "shared", "1-count-0-97.kwp");
    fake_s3_plan_set(b.fake, (fake_s3_plan){ .fault = FAKE_S3_DENIED, .at = last });
    result = collect(&b, true, false);
    cr_assert(result.removed == 0 && result.failed == 1, "%s", b.told);
    cr_assert(strstr(b.told, "could not be removed") != NULL, "%s", b.told);
    cr_assert_eq(fake_s3_uploads(b.fake), 1);
    bucket_close(&b);
}

/* A server that says there is more, but not where, is not asked for ever; one may also forbid the
 * list. Files are collected all the same. */
KWR_TEST(s3_gc, uploads_that_cannot_be_listed_stay_and_that_is_told) {
    const fake_s3_options options = { .no_markers = true };
    bucket b;
    bucket_open(&b, &options);
    two_attempts(&b);
    fake_s3_put(b.fake, "some/prefix/job/shared/1-count-0-90.kwp", "leftover", 8);
    for (int i = 0; i < 4; i++)
        begin(&b, "job", "shared", "1-count-0-98.kwp");
    const kwr_gc_result result = collect(&b, true, false);
    cr_assert(result.removed == 1 && result.failed == 1, "%s", b.told);
    cr_assert(strstr(b.told, "is not known and stays: ") != NULL &&
                  strstr(b.told, "more pages, but not where they are") != NULL,
              "%s", b.told);
    cr_assert_eq(fake_s3_uploads(b.fake), 4);
    cr_assert_eq(fake_s3_count(b.fake, "some/prefix/job/shared/1-count-0-90.kwp"), 0);
    bucket_close(&b);
}
