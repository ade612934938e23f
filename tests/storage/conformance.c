/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/storage/conformance.h"

#include <pthread.h>

#include "tests/support/fault_env.h"

void storage_place_open(storage_place *place, const storage_opener *opener) {
    memset(place, 0, sizeof *place);
    place->env = kwr_test_env();
    opener->open(place);
    cr_assert(place->storage != NULL);
}

void storage_place_close(storage_place *place, const storage_opener *opener) {
    kwr_storage_close(place->storage);
    if (opener->close != NULL) opener->close(place);
}

#define WITH_PLACE(opener)                     \
    storage_place place_;                      \
    storage_place_open(&place_, opener);       \
    kwr_storage *const s = place_.storage;     \
    const kwr_storage_ops *const ops = s->ops; \
    kwr_error err = { 0 };                     \
    (void)ops, (void)err
/* Directories that are only prefixes of names leave some questions without an answer. */
#define HAS_DIRECTORIES ((ops->capabilities(s) & KWR_STORAGE_PREFIXES) == 0)
#define PLACE_DONE(opener) storage_place_close(&place_, opener)

static kwr_status publish_text(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                               const char *text, kwr_error *err) {
    return s->ops->publish(s, dir, name, text, strlen(text), err);
}

static void expect_content(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                           const char *text) {
    kwr_storage_reader *reader = NULL;
    uint64_t size = 0;
    char got[256] = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(s->ops->open(s, dir, name, &reader, &size, &err), err);
    cr_assert(size == strlen(text), "%s has %llu bytes", name, (unsigned long long)size);
    KWR_MUST_ERR(s->ops->read(s, reader, 0, got, (size_t)size, &err), err);
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
    kwr_error err = { 0 };
    KWR_MUST_ERR(s->ops->list(s, dir, prefix, count_name, &count, &err), err);
    return count;
}

void storage_publishes_whole_and_never_replaces(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_dir *dir = NULL;
    KWR_MUST_ERR(ops->dir_open(s, NULL, "d", true, &dir, &err), err);
    KWR_MUST_ERR(publish_text(s, dir, "slot", "first", &err), err);
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, dir, "slot", "second", &err), err);
    cr_assert(strstr(err.text, "slot") != NULL, "%s", err.text);
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, dir, "slot", "first", &err), err);
    expect_content(s, dir, "slot", "first");
    KWR_MUST_ERR(ops->publish(s, dir, "empty", NULL, 0, &err), err);
    expect_content(s, dir, "empty", "");
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, dir, "empty", "", &err), err);
    /* A directory holds the name as well as a file does. */
    if (HAS_DIRECTORIES) {
        kwr_storage_dir *inner = NULL;
        KWR_MUST_ERR(ops->dir_open(s, dir, "inner", true, &inner, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, dir, "inner", "x", &err), err);
        cr_assert(count_names(s, inner, "") == 0, "nor is it put into it");
        ops->dir_close(s, inner);
    }
    cr_assert(count_names(s, dir, "") == 2 + HAS_DIRECTORIES, "no temporary file is left");
    ops->dir_close(s, dir);
    PLACE_DONE(opener);
}

void storage_reads_back_in_ranges(const storage_opener *opener) {
    WITH_PLACE(opener);
    enum { PARTS = 70, PART = 65537 };
    kwr_storage_writer *w = NULL;
    uint8_t *part = malloc(PART);
    KWR_MUST_ERR(ops->create(s, NULL, "big", &w, &err), err);
    for (int i = 0; i < PARTS; i++) {
        memset(part, i, PART);
        /* Small and large pieces, so that both ways through a buffer are taken. */
        KWR_MUST_ERR(ops->write(s, w, part, 7, &err), err);
        KWR_MUST_ERR(ops->write(s, w, part, 0, &err), err);
        KWR_MUST_ERR(ops->write(s, w, part + 7, PART - 7, &err), err);
    }
    KWR_MUST_ERR(ops->finish(s, w, &err), err);
    kwr_storage_reader *r = NULL;
    uint64_t size = 0;
    KWR_MUST_ERR(ops->open(s, NULL, "big", &r, &size, &err), err);
    cr_assert(size == (uint64_t)PARTS * PART);
    for (int i = 0; i < PARTS; i++) {
        uint8_t two[2] = { 0 };
        KWR_MUST_ERR(
            ops->read(s, r, (uint64_t)(i + 1) * PART - 1, two, i + 1 < PARTS ? 2 : 1, &err), err);
        cr_assert(two[0] == i && (i + 1 == PARTS || two[1] == i + 1));
    }
    /* In order, in odd pieces, which is what reading ahead is for. */
    uint64_t at = 0;
    for (size_t piece = 1; at < size; piece = piece * 7 % 60013 + 1) {
        if (piece > size - at) piece = (size_t)(size - at);
        KWR_MUST_ERR(ops->read(s, r, at, part, piece, &err), err);
        cr_assert(part[0] == at / PART && part[piece - 1] == (at + piece - 1) / PART);
        at += piece;
    }
    KWR_MUST_ERR(ops->read(s, r, PART / 2, part, PART, &err), err);
    cr_assert(part[0] == 0 && part[PART - 1] == 1);
    KWR_MUST_ERR(ops->read(s, r, size, part, 0, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, ops->read(s, r, size - 1, part, 2, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, ops->read(s, r, size + 9, part, 1, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, ops->read(s, r, UINT64_MAX, part, 1, &err), err);
    cr_assert(strstr(err.text, "big") != NULL, "%s", err.text);
    ops->close_reader(s, r);
    free(part);
    PLACE_DONE(opener);
}

void storage_creates_exclusively(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_writer *w = NULL, *other = NULL;
    KWR_MUST_ERR(ops->create(s, NULL, "x", &w, &err), err);
    KWR_MUST(ops->write(s, w, "abc", 3, NULL));
    ops->abandon(s, w);
    cr_assert(count_names(s, NULL, "") == 0);
    KWR_MUST_ERR(ops->create(s, NULL, "x", &w, &err), err);
    KWR_MUST_ERR(ops->finish(s, w, &err), err);
    expect_content(s, NULL, "x", "");
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, ops->create(s, NULL, "x", &other, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(s, NULL, "x", "p", &err), err);
    /* Two that have it open: some storages notice at the second create, others at its finish. */
    KWR_MUST_ERR(ops->create(s, NULL, "y", &w, &err), err);
    KWR_MUST_ERR(ops->write(s, w, "one", 3, &err), err);
    kwr_status second = ops->create(s, NULL, "y", &other, &err);
    KWR_MUST_ERR(ops->finish(s, w, &err), err);
    if (second == KWR_OK) {
        KWR_MUST_ERR(ops->write(s, other, "two", 3, &err), err);
        second = ops->finish(s, other, &err);
    }
    KWR_EXPECT_ERR(KWR_ERR_EXISTS, second, err);
    expect_content(s, NULL, "y", "one");
    cr_assert(count_names(s, NULL, "") == 2, "no temporary file is left");
    PLACE_DONE(opener);
}

void storage_answers_missing_and_mistaken_names(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_dir *dir = NULL;
    kwr_storage_reader *r = NULL;
    kwr_storage_writer *w = NULL;
    KWR_EXPECT_ERR(KWR_ERR_MISSING, ops->dir_open(s, NULL, "d", false, &dir, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, ops->open(s, NULL, "f", &r, NULL, &err), err);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, ops->remove(s, NULL, "f", &err), err);
    KWR_EXPECT_ERR(HAS_DIRECTORIES ? KWR_ERR_MISSING : KWR_OK, ops->dir_remove(s, NULL, "d", &err),
                   err);
    KWR_MUST_ERR(publish_text(s, NULL, "f", "x", &err), err);
    if (HAS_DIRECTORIES) {
        KWR_EXPECT_ERR(KWR_ERR_MISMATCH, ops->dir_open(s, NULL, "f", false, &dir, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_MISMATCH, ops->dir_open(s, NULL, "f", true, &dir, &err), err);
        cr_assert(ops->dir_remove(s, NULL, "f", &err) < KWR_OK, "it is a file");
    } else {
        KWR_EXPECT_ERR(KWR_ERR_MISSING, ops->dir_open(s, NULL, "f", false, &dir, &err), err);
    }
    expect_content(s, NULL, "f", "x");
    KWR_MUST_ERR(ops->dir_open(s, NULL, "d", true, &dir, &err), err);
    if (!HAS_DIRECTORIES) KWR_MUST_ERR(publish_text(s, dir, "inside", "x", &err), err);
    ops->dir_close(s, dir);
    cr_assert(ops->remove(s, NULL, "d", &err) < KWR_OK, "it is a directory");
    cr_assert(ops->open(s, NULL, "d", &r, NULL, &err) < KWR_OK, "it is a directory");
    KWR_MUST_ERR(ops->dir_open(s, NULL, "d", false, &dir, &err), err);
    ops->dir_close(s, dir);
    static const char *const bad[] = { "",         ".",   "..",     "a/b", "a b", "/etc",
                                       "\xc3\xa9", "a\n", "%2e%2e", "a?b", "a#b" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        KWR_EXPECT_ERR(KWR_ERR_RANGE, ops->dir_open(s, NULL, bad[i], true, &dir, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_RANGE, ops->create(s, NULL, bad[i], &w, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_RANGE, ops->open(s, NULL, bad[i], &r, NULL, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_RANGE, publish_text(s, NULL, bad[i], "x", &err), err);
        KWR_EXPECT_ERR(KWR_ERR_RANGE, ops->remove(s, NULL, bad[i], &err), err);
        KWR_EXPECT_ERR(KWR_ERR_RANGE, ops->dir_remove(s, NULL, bad[i], &err), err);
    }
    PLACE_DONE(opener);
}

void storage_takes_every_name_of_the_grammar(const storage_opener *opener) {
    WITH_PLACE(opener);
    char longest[202];
    memset(longest, 'n', sizeof longest);
    longest[201] = '\0';
    KWR_EXPECT_ERR(KWR_ERR_RANGE, publish_text(s, NULL, longest, "x", &err), err);
    longest[200] = '\0';
    const char *const good[] = { longest, "a",      "-",   "_",    "..a",      ".a", "a.",
                                 "0",     "A.b_C-", "-rf", "a..b", ".tmp-a-0", "..." };
    const int count = sizeof good / sizeof *good;
    for (int i = 0; i < count; i++) {
        KWR_MUST_ERR(publish_text(s, NULL, good[i], good[i], &err), err);
        expect_content(s, NULL, good[i], good[i]);
    }
    cr_assert(count_names(s, NULL, "") == count);
    cr_assert(count_names(s, NULL, ".") == 4);
    for (int i = 0; i < count; i++)
        KWR_MUST_ERR(ops->remove(s, NULL, good[i], &err), err);
    kwr_storage_dir *dir = NULL, *below = NULL;
    KWR_MUST_ERR(ops->dir_open(s, NULL, longest, true, &dir, &err), err);
    KWR_MUST_ERR(ops->dir_open(s, dir, longest, true, &below, &err), err);
    KWR_MUST_ERR(publish_text(s, below, longest, "deep", &err), err);
    expect_content(s, below, longest, "deep");
    ops->dir_close(s, below);
    ops->dir_close(s, dir);
    PLACE_DONE(opener);
}

void storage_lists_and_removes(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_dir *dir = NULL;
    KWR_MUST_ERR(ops->dir_open(s, NULL, "d", true, &dir, &err), err);
    KWR_MUST_ERR(publish_text(s, dir, "chk-1", "x", &err), err);
    KWR_MUST_ERR(publish_text(s, dir, "chk-2", "x", &err), err);
    KWR_MUST_ERR(publish_text(s, dir, "other", "x", &err), err);
    cr_assert(count_names(s, dir, "chk-") == 2);
    cr_assert(count_names(s, dir, "") == 3);
    cr_assert(count_names(s, dir, "no") == 0);
    cr_assert(count_names(s, NULL, "") == 1);
    cr_assert(ops->dir_remove(s, NULL, "d", &err) < KWR_OK, "it is not empty");
    KWR_MUST_ERR(ops->remove(s, dir, "chk-1", &err), err);
    KWR_EXPECT_ERR(KWR_ERR_MISSING, ops->remove(s, dir, "chk-1", &err), err);
    KWR_MUST_ERR(ops->remove(s, dir, "chk-2", &err), err);
    KWR_MUST_ERR(ops->remove(s, dir, "other", &err), err);
    KWR_MUST_ERR(ops->dir_sync(s, dir, &err), err);
    ops->dir_close(s, dir);
    KWR_MUST_ERR(ops->dir_remove(s, NULL, "d", &err), err);
    KWR_MUST_ERR(ops->dir_sync(s, NULL, &err), err);
    if (HAS_DIRECTORIES) { /* else some servers keep an empty one for a while */
        cr_assert(count_names(s, NULL, "") == 0);
        KWR_EXPECT_ERR(KWR_ERR_MISSING, ops->dir_open(s, NULL, "d", false, &dir, &err), err);
    }
    PLACE_DONE(opener);
}

enum { MANY = 40 };

typedef struct tally {
    int seen[MANY];
    int stop_after;
} tally;

static kwr_status tally_name(void *ctx, const char *name) {
    tally *t = ctx;
    int number = -1;
    cr_assert(sscanf(name, "n-%d", &number) == 1 && number >= 0 && number < MANY, "%s", name);
    t->seen[number]++;
    return t->stop_after > 0 && --t->stop_after == 0 ? KWR_ERR_CANCELLED : KWR_OK;
}

void storage_lists_many_names(const storage_opener *opener) {
    WITH_PLACE(opener);
    tally all = { 0 };
    for (int i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "n-%d", i);
        KWR_MUST_ERR(publish_text(s, NULL, name, "x", &err), err);
    }
    KWR_MUST_ERR(ops->list(s, NULL, "", tally_name, &all, &err), err);
    for (int i = 0; i < MANY; i++)
        cr_assert(all.seen[i] == 1, "n-%d was listed %d times", i, all.seen[i]);
    tally some = { .stop_after = 7 };
    KWR_EXPECT_ERR(KWR_ERR_CANCELLED, ops->list(s, NULL, "", tally_name, &some, &err), err);
    int seen = 0;
    for (int i = 0; i < MANY; i++)
        seen += some.seen[i];
    cr_assert(seen == 7, "a failing callback ends the listing: %d", seen);
    PLACE_DONE(opener);
}

/* ---- at the same time ---- */

enum { RACERS = 6, ROUNDS = 8 };

typedef struct racer {
    pthread_t thread;
    kwr_storage *storage;
    int number;
    bool writer;
    kwr_status results[ROUNDS];
} racer;

static kwr_status write_text(kwr_storage *s, const char *name, const char *text) {
    kwr_storage_writer *w = NULL;
    kwr_status status = s->ops->create(s, NULL, name, &w, NULL);
    if (status < KWR_OK) return status;
    status = s->ops->write(s, w, text, strlen(text), NULL);
    if (status >= KWR_OK) return s->ops->finish(s, w, NULL);
    s->ops->abandon(s, w);
    return status;
}

static void *race(void *arg) {
    racer *r = arg;
    for (int i = 0; i < ROUNDS; i++) {
        char name[32], text[64];
        snprintf(name, sizeof name, "slot-%d", i);
        snprintf(text, sizeof text, "written by racer %d", r->number);
        r->results[i] = r->writer ? write_text(r->storage, name, text)
                                  : publish_text(r->storage, NULL, name, text, NULL);
    }
    return NULL;
}

static void hold_race(const storage_opener *opener, bool writers) {
    WITH_PLACE(opener);
    racer racers[RACERS] = { 0 };
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (racer){ .storage = s, .number = i, .writer = writers };
        pthread_create(&racers[i].thread, NULL, race, &racers[i]);
    }
    for (int i = 0; i < RACERS; i++)
        pthread_join(racers[i].thread, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        int winner = -1, wins = 0;
        for (int i = 0; i < RACERS; i++) {
            if (racers[i].results[round] == KWR_OK) {
                winner = i;
                wins++;
            } else {
                KWR_EXPECT(KWR_ERR_EXISTS, racers[i].results[round]);
            }
        }
        cr_assert(wins == 1, "round %d was won %d times", round, wins);
        char name[32], text[64];
        snprintf(name, sizeof name, "slot-%d", round);
        snprintf(text, sizeof text, "written by racer %d", winner);
        expect_content(s, NULL, name, text);
    }
    cr_assert(count_names(s, NULL, "") == ROUNDS, "no temporary file is left");
    PLACE_DONE(opener);
}

void storage_lets_one_of_many_publishers_win(const storage_opener *opener) {
    hold_race(opener, false);
}
void storage_lets_one_of_many_writers_win(const storage_opener *opener) { hold_race(opener, true); }

typedef struct worker {
    pthread_t thread;
    kwr_storage *storage;
    int number;
} worker;

enum { WORKERS = 4, FILES = 4, FILE_SIZE = 300001 };

static void *work(void *arg) {
    const worker *w = arg;
    kwr_storage *s = w->storage;
    kwr_error err = { 0 };
    uint8_t *data = malloc(FILE_SIZE), *back = malloc(FILE_SIZE);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "w-%d-%d", w->number, i);
        memset(data, 16 * w->number + i, FILE_SIZE);
        kwr_storage_writer *writer = NULL;
        KWR_MUST_ERR(s->ops->create(s, NULL, name, &writer, &err), err);
        KWR_MUST_ERR(s->ops->write(s, writer, data, FILE_SIZE, &err), err);
        KWR_MUST_ERR(s->ops->finish(s, writer, &err), err);
        kwr_storage_reader *reader = NULL;
        KWR_MUST_ERR(s->ops->open(s, NULL, name, &reader, NULL, &err), err);
        for (size_t at = 0; at < FILE_SIZE; at += 30001) {
            const size_t part = FILE_SIZE - at < 30001 ? FILE_SIZE - at : 30001;
            KWR_MUST_ERR(s->ops->read(s, reader, at, back + at, part, &err), err);
        }
        s->ops->close_reader(s, reader);
        cr_assert(memcmp(data, back, FILE_SIZE) == 0, "%s", name);
    }
    free(data);
    free(back);
    return NULL;
}

void storage_serves_writers_and_readers_at_once(const storage_opener *opener) {
    WITH_PLACE(opener);
    worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (worker){ .storage = s, .number = i };
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    cr_assert(count_names(s, NULL, "w-") == WORKERS * FILES);
    PLACE_DONE(opener);
}

/* ---- large files ---- */

void storage_streams_large_files(const storage_opener *opener) {
    WITH_PLACE(opener);
    enum { PIECE = 1 << 20, LARGE = 24 << 20, MEMORY = 8 << 20 };
    const size_t large = opener->large != 0 ? opener->large : LARGE;
    const size_t memory_max = opener->memory != 0 ? opener->memory : MEMORY;
    fault_env *counted = NULL;
    kwr_storage *own = s;
    /* Opened once more, through an allocator that counts. */
    if (place_.uri[0] != '\0') {
        counted = fault_env_open(place_.env, 0);
        KWR_MUST_ERR(kwr_storage_open(fault_env_env(counted), place_.uri, true, &own, &err), err);
    }
    uint8_t *piece = malloc(PIECE);
    kwr_storage_writer *w = NULL;
    uint64_t most = 0;
    KWR_MUST_ERR(own->ops->create(own, NULL, "large", &w, &err), err);
    for (size_t at = 0; at < large; at += PIECE) {
        memset(piece, (int)(at / PIECE), PIECE);
        KWR_MUST_ERR(own->ops->write(own, w, piece, PIECE, &err), err);
        const uint64_t used = counted == NULL ? 0 : fault_env_outstanding(counted);
        if (used > most) most = used;
    }
    KWR_MUST_ERR(own->ops->finish(own, w, &err), err);
    kwr_storage_reader *r = NULL;
    uint64_t size = 0;
    KWR_MUST_ERR(own->ops->open(own, NULL, "large", &r, &size, &err), err);
    cr_assert(size == large);
    for (size_t at = 0; at < large; at += PIECE / 4) {
        KWR_MUST_ERR(own->ops->read(own, r, at, piece, PIECE / 4, &err), err);
        cr_assert(piece[0] == (uint8_t)(at / PIECE) && piece[PIECE / 4 - 1] == piece[0]);
        const uint64_t used = counted == NULL ? 0 : fault_env_outstanding(counted);
        if (used > most) most = used;
    }
    own->ops->close_reader(own, r);
    cr_assert(most <= memory_max, "%llu bytes were in memory at a time", (unsigned long long)most);
    free(piece);
    if (counted != NULL) {
        kwr_storage_close(own);
        fault_env_close(counted);
    }
    PLACE_DONE(opener);
}

/* ---- the rest ---- */

void storage_shows_what_another_opener_wrote(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_dir *dir = NULL;
    KWR_MUST_ERR(ops->dir_open(s, NULL, "d", true, &dir, &err), err);
    KWR_MUST_ERR(publish_text(s, dir, "f", "kept", &err), err);
    ops->dir_close(s, dir);
    if (place_.uri[0] != '\0') {
        kwr_storage *again = NULL;
        KWR_MUST_ERR(kwr_storage_open(place_.env, place_.uri, false, &again, &err), err);
        KWR_MUST_ERR(again->ops->dir_open(again, NULL, "d", false, &dir, &err), err);
        expect_content(again, dir, "f", "kept");
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, publish_text(again, dir, "f", "kept", &err), err);
        KWR_MUST_ERR(again->ops->remove(again, dir, "f", &err), err);
        again->ops->dir_close(again, dir);
        kwr_storage_close(again);
        KWR_MUST_ERR(ops->dir_open(s, NULL, "d", !HAS_DIRECTORIES, &dir, &err), err);
        cr_assert(count_names(s, dir, "") == 0);
        ops->dir_close(s, dir);
    }
    PLACE_DONE(opener);
}

void storage_keeps_locks_or_says_so(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_lock *lock = NULL, *second = NULL;
    if ((ops->capabilities(s) & KWR_STORAGE_LOCKS) == 0) {
        KWR_EXPECT_ERR(KWR_ERR_UNSUPPORTED, ops->lock(s, NULL, "lock", &lock, &err), err);
        cr_assert(strstr(err.text, "lock") != NULL);
    } else {
        KWR_MUST_ERR(ops->lock(s, NULL, "lock", &lock, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_LOCKED, ops->lock(s, NULL, "lock", &second, &err), err);
        ops->unlock(s, lock);
        KWR_MUST_ERR(ops->lock(s, NULL, "lock", &second, &err), err);
        ops->unlock(s, second);
    }
    ops->unlock(s, NULL);
    PLACE_DONE(opener);
}

void storage_describes_its_paths(const storage_opener *opener) {
    WITH_PLACE(opener);
    kwr_storage_dir *dir = NULL;
    char path[512];
    KWR_MUST_ERR(ops->dir_open(s, NULL, "some-dir", true, &dir, &err), err);
    ops->describe(s, dir, "some-file", path, sizeof path);
    const char *inside = strstr(path, "some-dir/some-file");
    cr_assert(inside != NULL && inside[strlen("some-dir/some-file")] == '\0', "%s", path);
    ops->describe(s, dir, NULL, path, sizeof path);
    cr_assert(strstr(path, "some-dir") != NULL, "%s", path);
    ops->describe(s, NULL, "top", path, sizeof path);
    cr_assert(strstr(path, "top") != NULL && strchr(path, '?') == NULL, "%s", path);
    ops->dir_close(s, dir);
    PLACE_DONE(opener);
}

/* One of each call; stops at the first failure, with nothing left open. */
static kwr_status use_all(const kwr_env *env, const char *uri, kwr_error *err) {
    kwr_storage *s = NULL;
    kwr_storage_dir *dir = NULL;
    kwr_storage_writer *w = NULL;
    kwr_storage_reader *r = NULL;
    char got[4];
    int count = 0;
    kwr_status status = kwr_storage_open(env, uri, true, &s, err);
    if (status >= KWR_OK) status = s->ops->dir_open(s, NULL, "d", true, &dir, err);
    if (status >= KWR_OK) status = s->ops->publish(s, dir, "p", "data", 4, err);
    if (status >= KWR_OK) status = s->ops->create(s, dir, "c", &w, err);
    if (status >= KWR_OK) {
        status = s->ops->write(s, w, "data", 4, err);
        if (status >= KWR_OK)
            status = s->ops->finish(s, w, err);
        else
            s->ops->abandon(s, w);
    }
    if (status >= KWR_OK) status = s->ops->open(s, dir, "p", &r, NULL, err);
    if (status >= KWR_OK) status = s->ops->read(s, r, 0, got, 4, err);
    if (status >= KWR_OK) status = s->ops->list(s, dir, "", count_name, &count, err);
    if (status >= KWR_OK) cr_assert(count == 2);
    if (r != NULL) s->ops->close_reader(s, r);
    if (dir != NULL) s->ops->dir_close(s, dir);
    kwr_storage_close(s);
    return status;
}

static void empty_dir(kwr_storage *s) {
    kwr_storage_dir *dir = NULL;
    if (s->ops->dir_open(s, NULL, "d", false, &dir, NULL) < KWR_OK) return;
    (void)(s->ops->remove(s, dir, "p", NULL) < KWR_OK);
    (void)(s->ops->remove(s, dir, "c", NULL) < KWR_OK);
    s->ops->dir_close(s, dir);
}

void storage_survives_want_of_memory(const storage_opener *opener) {
    WITH_PLACE(opener);
    bool fired = place_.uri[0] != '\0';
    for (uint64_t n = 0; fired; n += opener->slow ? 9 : 1) {
        fault_env *faults = fault_env_open(place_.env, 0);
        fault_env_fail_alloc(faults, n, FAULT_ONCE);
        const kwr_status status = use_all(fault_env_env(faults), place_.uri, &err);
        fired = fault_env_fired(faults) > 0;
        cr_assert(status == KWR_OK || fired, "%s", err.text);
        fault_env_clear(faults);
        fault_env_close(faults);
        empty_dir(s);
        cr_assert(n < 2000);
    }
    PLACE_DONE(opener);
}
