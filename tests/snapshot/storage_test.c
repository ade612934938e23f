/* SPDX-License-Identifier: Apache-2.0 */
/* What every storage promises, over each of them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/fixture.h"

#define EACH_KIND(f)                                                \
    for (int kind_ = 0; kind_ < KINDS; kind_++)                     \
        for (bool open_ = (fixture_open(&(f), kind_), true); open_; \
             fixture_close(&(f)), open_ = false)

static kwr_status publish_text(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                               const char *text, kwr_error *err) {
    return s->ops->publish(s, dir, name, text, strlen(text), err);
}

static void expect_content(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                           const char *text) {
    kwr_storage_reader *reader = NULL;
    uint64_t size = 0;
    char got[256] = { 0 };
    KWR_MUST(s->ops->open(s, dir, name, &reader, &size, NULL));
    cr_assert(size == strlen(text), "%s has %llu bytes", name, (unsigned long long)size);
    KWR_MUST(s->ops->read(s, reader, 0, got, (size_t)size, NULL));
    cr_assert(memcmp(got, text, (size_t)size) == 0);
    s->ops->close_reader(s, reader);
}

static kwr_status count_name(void *ctx, const char *name) {
    (void)name;
    ++*(int *)ctx;
    return KWR_OK;
}

static int count_names(kwr_storage *s, kwr_storage_dir *dir, const char *prefix) {
    int count = 0;
    KWR_MUST(s->ops->list(s, dir, prefix, count_name, &count, NULL));
    return count;
}

KWR_TEST(storage, a_published_file_is_whole_and_never_replaced) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_error err = { 0 };
        kwr_storage_dir *dir = NULL;
        KWR_MUST_ERR(s->ops->dir_open(s, NULL, "d", true, &dir, &err), err);
        KWR_MUST_ERR(publish_text(s, dir, "slot", "first", &err), err);
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, dir, "slot", "second", &err), err);
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, dir, "slot", "first", &err), err);
        expect_content(s, dir, "slot", "first");
        cr_assert(count_names(s, dir, "") == 1, "no temporary file is left");
        s->ops->dir_close(s, dir);
    }
}

KWR_TEST(storage, a_created_file_reads_back_in_ranges) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_error err = { 0 };
        kwr_storage_writer *w = NULL;
        enum { PARTS = 70, PART = 65537 };
        uint8_t *part = malloc(PART);
        KWR_MUST_ERR(s->ops->create(s, NULL, "big", &w, &err), err);
        for (int i = 0; i < PARTS; i++) {
            memset(part, i, PART);
            /* Small and large pieces, so that both ways through a buffer are taken. */
            KWR_MUST_ERR(s->ops->write(s, w, part, 7, &err), err);
            KWR_MUST_ERR(s->ops->write(s, w, part + 7, PART - 7, &err), err);
        }
        KWR_MUST_ERR(s->ops->finish(s, w, &err), err);
        kwr_storage_reader *r = NULL;
        uint64_t size = 0;
        KWR_MUST_ERR(s->ops->open(s, NULL, "big", &r, &size, &err), err);
        cr_assert(size == (uint64_t)PARTS * PART);
        for (int i = 0; i < PARTS; i++) {
            uint8_t two[2] = { 0 };
            KWR_MUST_ERR(
                s->ops->read(s, r, (uint64_t)(i + 1) * PART - 1, two, i + 1 < PARTS ? 2 : 1, &err),
                err);
            cr_assert(two[0] == i && (i + 1 == PARTS || two[1] == i + 1));
        }
        KWR_MUST_ERR(s->ops->read(s, r, PART / 2, part, PART, &err), err);
        cr_assert(part[0] == 0 && part[PART - 1] == 1);
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, s->ops->read(s, r, size - 1, part, 2, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, s->ops->read(s, r, size + 9, part, 1, &err), err);
        cr_assert(strstr(err.text, "big") != NULL, "%s", err.text);
        s->ops->close_reader(s, r);
        free(part);
    }
}

KWR_TEST(storage, creating_is_exclusive_and_abandoning_leaves_nothing) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_error err = { 0 };
        kwr_storage_writer *w = NULL, *other = NULL;
        KWR_MUST_ERR(s->ops->create(s, NULL, "x", &w, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, s->ops->create(s, NULL, "x", &other, &err), err);
        KWR_MUST(s->ops->write(s, w, "abc", 3, NULL));
        s->ops->abandon(s, w);
        cr_assert(count_names(s, NULL, "") == 0);
        KWR_MUST_ERR(s->ops->create(s, NULL, "x", &w, &err), err);
        KWR_MUST_ERR(s->ops->finish(s, w, &err), err);
        expect_content(s, NULL, "x", "");
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, NULL, "x", "p", &err), err);
    }
}

KWR_TEST(storage, missing_and_mistaken_names_have_their_statuses) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_error err = { 0 };
        kwr_storage_dir *dir = NULL;
        kwr_storage_reader *r = NULL;
        kwr_storage_writer *w = NULL;
        KWR_EXPECT_ERR(KWR_ERR_MISSING, s->ops->dir_open(s, NULL, "d", false, &dir, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISSING, s->ops->open(s, NULL, "f", &r, NULL, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISSING, s->ops->remove(s, NULL, "f", &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISSING, s->ops->dir_remove(s, NULL, "d", &err), err);
        KWR_MUST_ERR(publish_text(s, NULL, "f", "x", &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISMATCH, s->ops->dir_open(s, NULL, "f", false, &dir, &err), err);
        const char *const bad[] = { "", ".", "..", "a/b", "a b", "/etc", "\xc3\xa9", "a\n" };
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            KWR_EXPECT_ERR(KWR_ERR_RANGE, s->ops->dir_open(s, NULL, bad[i], true, &dir, &err), err);
            KWR_EXPECT_ERR(KWR_ERR_RANGE, s->ops->create(s, NULL, bad[i], &w, &err), err);
            KWR_EXPECT_ERR(KWR_ERR_RANGE, s->ops->open(s, NULL, bad[i], &r, NULL, &err), err);
            KWR_EXPECT_ERR(KWR_ERR_RANGE, publish_text(s, NULL, bad[i], "x", &err), err);
            KWR_EXPECT_ERR(KWR_ERR_RANGE, s->ops->remove(s, NULL, bad[i], &err), err);
        }
        char longest[202];
        memset(longest, 'n', sizeof longest);
        longest[201] = '\0';
        KWR_EXPECT_ERR(KWR_ERR_RANGE, publish_text(s, NULL, longest, "x", &err), err);
        longest[200] = '\0';
        KWR_MUST_ERR(publish_text(s, NULL, longest, "x", &err), err);
    }
}

KWR_TEST(storage, lists_by_prefix_and_removes_only_empty_directories) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_error err = { 0 };
        kwr_storage_dir *dir = NULL;
        KWR_MUST_ERR(s->ops->dir_open(s, NULL, "d", true, &dir, &err), err);
        KWR_MUST_ERR(publish_text(s, dir, "chk-1", "x", &err), err);
        KWR_MUST_ERR(publish_text(s, dir, "chk-2", "x", &err), err);
        KWR_MUST_ERR(publish_text(s, dir, "other", "x", &err), err);
        cr_assert(count_names(s, dir, "chk-") == 2);
        cr_assert(count_names(s, dir, "") == 3);
        cr_assert(count_names(s, dir, "no") == 0);
        cr_assert(s->ops->dir_remove(s, NULL, "d", &err) < KWR_OK, "it is not empty");
        KWR_MUST_ERR(s->ops->remove(s, dir, "chk-1", &err), err);
        KWR_MUST_ERR(s->ops->remove(s, dir, "chk-2", &err), err);
        KWR_MUST_ERR(s->ops->remove(s, dir, "other", &err), err);
        KWR_MUST_ERR(s->ops->dir_sync(s, dir, &err), err);
        s->ops->dir_close(s, dir);
        KWR_MUST_ERR(s->ops->dir_remove(s, NULL, "d", &err), err);
        cr_assert(count_names(s, NULL, "") == 0);
        KWR_MUST_ERR(s->ops->dir_sync(s, NULL, &err), err);
    }
}

KWR_TEST(storage, a_lock_keeps_others_out_until_it_is_released) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_error err = { 0 };
        kwr_storage_lock *lock = NULL, *second = NULL;
        KWR_MUST_ERR(s->ops->lock(s, NULL, "lock", &lock, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_LOCKED, s->ops->lock(s, NULL, "lock", &second, &err), err);
        s->ops->unlock(s, lock);
        KWR_MUST_ERR(s->ops->lock(s, NULL, "lock", &second, &err), err);
        s->ops->unlock(s, second);
        cr_assert((s->ops->capabilities(s) & KWR_STORAGE_LOCKS) != 0);
    }
}

enum { RACERS = 8, ROUNDS = 20 };
typedef struct racer {
    pthread_t thread;
    kwr_storage *storage;
    int number;
    int wins[ROUNDS];
} racer;

static void *race(void *arg) {
    racer *r = arg;
    for (int i = 0; i < ROUNDS; i++) {
        char name[32], text[64];
        snprintf(name, sizeof name, "slot-%d", i);
        snprintf(text, sizeof text, "written by racer %d", r->number);
        r->wins[i] = publish_text(r->storage, NULL, name, text, NULL) == KWR_OK;
    }
    return NULL;
}

KWR_TEST(storage, of_concurrent_publishers_exactly_one_wins) {
    fixture f;
    EACH_KIND(f) {
        racer racers[RACERS] = { 0 };
        for (int i = 0; i < RACERS; i++) {
            racers[i].storage = f.storage;
            racers[i].number = i;
            pthread_create(&racers[i].thread, NULL, race, &racers[i]);
        }
        for (int i = 0; i < RACERS; i++)
            pthread_join(racers[i].thread, NULL);
        for (int round = 0; round < ROUNDS; round++) {
            int winner = -1, wins = 0;
            for (int i = 0; i < RACERS; i++)
                if (racers[i].wins[round]) {
                    winner = i;
                    wins++;
                }
            cr_assert(wins == 1, "round %d was won %d times", round, wins);
            char name[32], text[64];
            snprintf(name, sizeof name, "slot-%d", round);
            snprintf(text, sizeof text, "written by racer %d", winner);
            expect_content(f.storage, NULL, name, text);
        }
        cr_assert(count_names(f.storage, NULL, "") == ROUNDS, "no temporary file is left");
    }
}

KWR_TEST(storage, memory_refuses_bytes_beyond_its_limit_and_gives_them_back) {
    kwr_env *env = NULL;
    kwr_storage *s = NULL;
    kwr_error err = { 0 };
    KWR_MUST(kwr_env_posix_open(NULL, &env, NULL));
    KWR_MUST(kwr_storage_memory_open(env, 100, &s, NULL));
    char data[101] = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_NOSPACE, s->ops->publish(s, NULL, "a", data, 101, &err), err);
    cr_assert(strstr(err.text, "100") != NULL, "%s", err.text);
    KWR_MUST_ERR(s->ops->publish(s, NULL, "a", data, 60, &err), err);
    kwr_storage_writer *w = NULL;
    KWR_MUST_ERR(s->ops->create(s, NULL, "b", &w, &err), err);
    KWR_MUST_ERR(s->ops->write(s, w, data, 40, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_NOSPACE, s->ops->write(s, w, data, 1, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_NOSPACE, s->ops->finish(s, w, &err), err);
    cr_assert(count_names(s, NULL, "") == 1, "the failed file is gone");
    KWR_MUST_ERR(s->ops->remove(s, NULL, "a", &err), err);
    KWR_MUST_ERR(s->ops->publish(s, NULL, "c", data, 100, &err), err);
    kwr_storage_close(s);
    kwr_env_posix_close(env);
}

KWR_TEST(storage, an_open_reader_survives_removal_in_both_kinds) {
    fixture f;
    EACH_KIND(f) {
        kwr_storage *s = f.storage;
        kwr_storage_reader *r = NULL;
        char got[5] = { 0 };
        KWR_MUST(publish_text(s, NULL, "f", "bytes", NULL));
        KWR_MUST(s->ops->open(s, NULL, "f", &r, NULL, NULL));
        KWR_MUST(s->ops->remove(s, NULL, "f", NULL));
        KWR_MUST(s->ops->read(s, r, 0, got, 5, NULL));
        cr_assert(memcmp(got, "bytes", 5) == 0);
        s->ops->close_reader(s, r);
    }
}

KWR_TEST(storage, uris_name_what_they_should_and_others_are_refused) {
    kwr_env *env = NULL;
    kwr_storage *s = NULL;
    kwr_error err = { 0 };
    KWR_MUST(kwr_env_posix_open(NULL, &env, NULL));
    char root[256], uri[320];
    make_temp_dir(root, sizeof root);
    const char *const forms[] = { "file:%s/a", "file://%s/a", "%s/a", "%s/a/" };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(uri, sizeof uri, forms[i], root);
#pragma GCC diagnostic pop
        KWR_MUST_ERR(kwr_storage_open(env, uri, true, &s, &err), err);
        char name[16];
        snprintf(name, sizeof name, "n%zu", i);
        KWR_MUST_ERR(publish_text(s, NULL, name, "x", &err), err);
        cr_assert(count_names(s, NULL, "") == (int)i + 1, "all forms name the same directory");
        kwr_storage_close(s);
    }
    snprintf(uri, sizeof uri, "file:%s/none", root);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, kwr_storage_open(env, uri, false, &s, &err), err);
    const char *const refused[] = {
        "hdfs://h/x", "gs:b", "file://host/x", "file:", "", "memory:x"
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_storage_open(env, refused[i], true, &s, &err), err);
        cr_assert(strstr(err.text, "file:") != NULL || strstr(err.text, "memory:") != NULL, "%s",
                  err.text);
    }
    kwr_env_posix_close(env);
    remove_tree(root);
}
