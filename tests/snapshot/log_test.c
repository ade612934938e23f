/* SPDX-License-Identifier: Apache-2.0 */
/* The commit log: one spelling for a slot, a chain without holes, and the history it tells. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/slot.h"
#include "snapshot/retention.h"
#include "tests/snapshot/fixture.h"

static void slot_path(const fixture *f, uint64_t number, char out[512]) {
    snprintf(out, 512, "%s/job/log/%016llx", f->root, (unsigned long long)number);
}

/* fence, c1, c2, fence, c3 */
static void write_log(const kwr_job_dirs *dirs, kwr_log *log) {
    publish(dirs, log, next_fence(log, "job"));
    publish(dirs, log, next_checkpoint(log, 1));
    publish(dirs, log, next_checkpoint(log, 2));
    publish(dirs, log, next_fence(log, "job"));
    publish(dirs, log, next_checkpoint(log, 3));
}

static kwr_status read_again(const kwr_job_dirs *dirs, kwr_error *err) {
    kwr_log log = { 0 };
    const kwr_status status = kwr_log_read(dirs, NULL, &log, err);
    kwr_log_free(&log);
    return status;
}

KWR_TEST(commit_log, reads_back_what_was_published) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        fixture_open(&f, kind);
        kwr_error err = { 0 };
        kwr_job_dirs dirs = { 0 };
        KWR_EXPECT_ERR(KWR_ERR_MISSING,
                       kwr_job_dirs_open(f.env, f.storage, "job", false, &dirs, &err), err);
        KWR_MUST_ERR(kwr_job_dirs_open(f.env, f.storage, "job", true, &dirs, &err), err);
        kwr_log log = { .env = f.env }, again = { 0 };
        KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &again, &err), err);
        cr_assert(again.count == 0 && kwr_log_highest(&again) == 0);
        cr_assert(kwr_log_newest(&again, NULL) == NULL);
        kwr_log_free(&again);
        write_log(&dirs, &log);
        KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &again, &err), err);
        cr_assert(again.count == 5);
        for (size_t i = 0; i < 5; i++) {
            cr_assert(again.slots[i].number == i + 1);
            cr_assert(kwr_digest_equal(&again.slots[i].digest, &log.slots[i].digest));
        }
        cr_assert(again.slots[4].checkpoint == 3 && again.slots[4].generation == 2);
        cr_assert(kwr_log_highest(&again) == 3);
        KWR_MUST(kwr_log_probe(&dirs, 5, NULL));
        KWR_EXPECT(KWR_NOT_FOUND, kwr_log_probe(&dirs, 6, NULL));
        kwr_slot taken = next_checkpoint(&log, 4);
        taken.number = 5;
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, kwr_log_publish(&dirs, &taken, &err), err);
        kwr_log_free(&again);
        kwr_log_free(&log);
        kwr_job_dirs_close(&dirs);
        fixture_close(&f);
    }
}

/* A storage that takes a slot and says that the name was taken before, as when a call is reported
 * as failed, takes effect, and is read back wrongly. */
typedef struct liar {
    kwr_storage storage; /* first: it stands in for the real one */
    kwr_storage_ops ops;
    const kwr_storage_ops *real;
    kwr_storage *file;
    bool unreadable;
} liar;

static kwr_status lying_publish(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                                const void *data, size_t size, kwr_error *err) {
    const liar *l = (const liar *)s;
    const kwr_status status = l->real->publish(l->file, dir, name, data, size, err);
    return status >= KWR_OK ? KWR_ERR_EXISTS : status;
}
static kwr_status lying_open(kwr_storage *s, kwr_storage_dir *dir, const char *name,
                             kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    const liar *l = (const liar *)s;
    return l->real->open(l->file, dir, name, out, size, err);
}
static kwr_status lying_read(kwr_storage *s, kwr_storage_reader *reader, uint64_t offset,
                             void *data, size_t size, kwr_error *err) {
    const liar *l = (const liar *)s;
    const kwr_status status = l->real->read(l->file, reader, offset, data, size, err);
    if (l->unreadable && size > 0) ((uint8_t *)data)[0] ^= 1;
    return status;
}
static void lying_close_reader(kwr_storage *s, kwr_storage_reader *reader) {
    const liar *l = (const liar *)s;
    l->real->close_reader(l->file, reader);
}
static kwr_status lying_dir_sync(kwr_storage *s, kwr_storage_dir *dir, kwr_error *err) {
    const liar *l = (const liar *)s;
    return l->real->dir_sync(l->file, dir, err);
}
static void lying_describe(kwr_storage *s, kwr_storage_dir *dir, const char *name, char *out,
                           size_t capacity) {
    const liar *l = (const liar *)s;
    l->real->describe(l->file, dir, name, out, capacity);
}

KWR_TEST(commit_log, a_slot_said_to_be_taken_is_asked_by_whom) {
    for (int unreadable = 0; unreadable < 2; unreadable++) {
        fixture f;
        fixture_open(&f, KIND_FILE);
        kwr_error err = { 0 };
        kwr_job_dirs dirs = { 0 };
        KWR_MUST(kwr_job_dirs_open(f.env, f.storage, "job", true, &dirs, NULL));
        kwr_log log = { .env = f.env };
        publish(&dirs, &log, next_fence(&log, "job"));
        kwr_slot ours = next_checkpoint(&log, 1), other = next_checkpoint(&log, 2);
        liar l = { .ops = *f.storage->ops,
                   .real = f.storage->ops,
                   .file = f.storage,
                   .unreadable = unreadable != 0 };
        l.ops.publish = lying_publish;
        l.ops.open = lying_open;
        l.ops.read = lying_read;
        l.ops.close_reader = lying_close_reader;
        l.ops.dir_sync = lying_dir_sync;
        l.ops.describe = lying_describe;
        l.storage.ops = &l.ops;
        kwr_job_dirs lying = dirs;
        lying.storage = &l.storage;
        if (unreadable == 0)
            KWR_MUST_ERR(kwr_log_publish(&lying, &ours, &err), err);
        else
            KWR_EXPECT_ERR(KWR_ERR_UNKNOWN, kwr_log_publish(&lying, &ours, &err), err);
        /* In truth it is there, and another's slot of that number is not. */
        KWR_EXPECT_ERR(KWR_ERR_EXISTS, kwr_log_publish(&dirs, &other, &err), err);
        KWR_MUST_ERR(kwr_log_publish(&dirs, &ours, &err), err);
        kwr_log_free(&log);
        kwr_job_dirs_close(&dirs);
        fixture_close(&f);
    }
}

KWR_TEST(commit_log, every_flipped_byte_and_truncation_of_every_slot_is_found) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    kwr_job_dirs dirs = { 0 };
    KWR_MUST(kwr_job_dirs_open(f.env, f.storage, "job", true, &dirs, NULL));
    kwr_log log = { .env = f.env };
    write_log(&dirs, &log);
    for (uint64_t number = 1; number <= 5; number++) {
        char path[512];
        size_t size = 0;
        slot_path(&f, number, path);
        char *bytes = slurp(path, &size);
        for (size_t i = 0; i < size; i++)
            for (int bit = 0; bit < 8; bit++) {
                bytes[i] = (char)(bytes[i] ^ 1 << bit);
                kwr_slot slot = { 0 };
                const kwr_status status =
                    kwr_slot_decode(f.env, (kwr_slice){ bytes, size }, "slot", &slot, &err);
                cr_assert(status == KWR_ERR_CORRUPT, "byte %zu bit %d: %s", i, bit,
                          kwr_status_name(status));
                bytes[i] = (char)(bytes[i] ^ 1 << bit);
            }
        for (size_t cut = 0; cut < size; cut++) {
            spill(path, bytes, cut);
            KWR_EXPECT_ERR(KWR_ERR_CORRUPT, read_again(&dirs, &err), err);
            cr_assert(strstr(err.text, path + strlen(f.root)) != NULL, "%s", err.text);
        }
        bytes[size] = 'x';
        spill(path, bytes, size + 1);
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, read_again(&dirs, &err), err);
        spill(path, bytes, size);
        KWR_MUST_ERR(read_again(&dirs, &err), err);
        free(bytes);
    }
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    fixture_close(&f);
}

/* Writes a slot whose digest line fits what was changed in it. */
static void write_raw_slot(const fixture *f, const char *path, const char *line) {
    (void)f;
    char text[4096], hex[KWR_DIGEST_TEXT];
    const kwr_digest digest = kwr_digest_of(line, strlen(line));
    kwr_digest_text(&digest, hex);
    const int size = snprintf(text, sizeof text, "%sxxh3-128 %s\n", line, hex);
    spill(path, text, (size_t)size);
}

/* Replaces `from` by `to` in the line of slot `number`, digest made to fit; expects the status. */
static void expect_edit(const fixture *f, const kwr_job_dirs *dirs, uint64_t number,
                        const char *from, const char *to, kwr_status expected) {
    char path[512], line[4096];
    size_t size = 0;
    slot_path(f, number, path);
    char *bytes = slurp(path, &size);
    char *end = strchr(bytes, '\n');
    char *at = strstr(bytes, from);
    cr_assert(at != NULL && at < end, "no '%s' in %s", from, bytes);
    snprintf(line, sizeof line, "%.*s%s%.*s\n", (int)(at - bytes), bytes, to,
             (int)(end - at - (long)strlen(from)), at + strlen(from));
    write_raw_slot(f, path, line);
    kwr_error err = { 0 };
    const kwr_status status = read_again(dirs, &err);
    cr_assert(status == expected, "'%s' for '%s': %s %s", to, from, kwr_status_name(status),
              err.text);
    spill(path, bytes, size);
    free(bytes);
}

KWR_TEST(commit_log, a_slot_that_fits_its_digest_but_not_the_log_is_refused) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_job_dirs dirs = { 0 };
    KWR_MUST(kwr_job_dirs_open(f.env, f.storage, "job", true, &dirs, NULL));
    kwr_log log = { .env = f.env };
    write_log(&dirs, &log);
    const kwr_status bad = KWR_ERR_CORRUPT;
    expect_edit(&f, &dirs, 5, "\"version\":1", "\"version\":2", KWR_ERR_FORMAT);
    expect_edit(&f, &dirs, 5, "\"version\":1", "\"version\":01", KWR_ERR_FORMAT);
    expect_edit(&f, &dirs, 5, "\"slot\":5", "\"slot\":6", bad);
    expect_edit(&f, &dirs, 5, "\"job\":\"job\"", "\"job\":\"other\"", bad);
    expect_edit(&f, &dirs, 5, "\"job\":\"job\"", "\"job\":\"a/b\"", bad);
    expect_edit(&f, &dirs, 5, "\"job\":\"job\"", "\"job\": \"job\"", bad);
    expect_edit(&f, &dirs, 5, "0707", "0706", bad);
    expect_edit(&f, &dirs, 5, "\"generation\":2", "\"generation\":1", bad);
    expect_edit(&f, &dirs, 5, "\"generation\":2", "\"generation\":3", bad);
    expect_edit(&f, &dirs, 5, "\"generation\":2", "\"generation\":\"2\"", bad);
    expect_edit(&f, &dirs, 5, "\"highest\":3", "\"highest\":4", bad);
    expect_edit(&f, &dirs, 5, "\"final\":false", "\"final\":0", bad);
    expect_edit(&f, &dirs, 5, "\"final\":false", "\"final\":true", KWR_OK);
    expect_edit(&f, &dirs, 5, "\"manifest_length\":100", "\"manifest_length\":0", bad);
    expect_edit(&f, &dirs, 5, "\"kind\":\"checkpoint\"", "\"kind\":\"fence\"", bad);
    expect_edit(&f, &dirs, 3, "\"time_ms\":1700000000000", "\"time_ms\":1700000000001", bad);
    expect_edit(&f, &dirs, 4, "\"pid\":42", "\"pid\":18446744073709551616", bad);
    expect_edit(&f, &dirs, 4, "\"highest\":2", "\"highest\":1", bad);
    expect_edit(&f, &dirs, 1, "\"previous\":null",
                "\"previous\":\"00000000000000000000000000000000\"", bad);
    kwr_error err = { 0 };
    KWR_MUST_ERR(read_again(&dirs, &err), err);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    fixture_close(&f);
}

KWR_TEST(commit_log, holes_swaps_and_foreign_names) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    kwr_job_dirs dirs = { 0 };
    KWR_MUST(kwr_job_dirs_open(f.env, f.storage, "job", true, &dirs, NULL));
    kwr_log log = { .env = f.env };
    write_log(&dirs, &log);
    char path[512], other[512];
    size_t size = 0;
    slot_path(&f, 3, path);
    char *bytes = slurp(path, &size);
    remove(path);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, read_again(&dirs, &err), err);
    cr_assert(strstr(err.text, "0000000000000003") != NULL, "%s", err.text);
    slot_path(&f, 2, other);
    size_t other_size = 0;
    char *other_bytes = slurp(other, &other_size);
    spill(path, other_bytes, other_size); /* slot 2 under the name of slot 3 */
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, read_again(&dirs, &err), err);
    spill(path, bytes, size);
    /* The front may not be gone: no slot says so. Names of others do not count. */
    slot_path(&f, 1, other);
    char *first = slurp(other, &other_size);
    remove(other);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, read_again(&dirs, &err), err);
    spill(other, first, other_size);
    free(first);
    snprintf(other, sizeof other, "%s/job/log/README", f.root);
    spill(other, "x", 1);
    snprintf(other, sizeof other, "%s/job/log/.tmp-0000000000000006-0123456789abcdef", f.root);
    spill(other, "x", 1);
    KWR_MUST_ERR(read_again(&dirs, &err), err);
    slot_path(&f, UINT64_MAX, other);
    spill(other, bytes, size);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, read_again(&dirs, &err), err);
    free(bytes);
    free(other_bytes);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    fixture_close(&f);
}

/*
 * A fenced attempt wakes up when its successor has removed the first slots, so that the name it is
 * going to take is free again: it takes it, finds out, and nobody else ever sees it.
 */
KWR_TEST(commit_log, what_lies_below_the_floor_is_not_part_of_it) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    kwr_error err = { 0 };
    kwr_job_dirs dirs = { 0 };
    KWR_MUST(kwr_job_dirs_open(f.env, f.storage, "job", true, &dirs, NULL));
    kwr_log log = { .env = f.env }, seen = { 0 };
    publish(&dirs, &log, next_fence(&log, "job"));
    kwr_slot zombie = next_checkpoint(&log, 1);
    publish(&dirs, &log, next_fence(&log, "job"));
    kwr_slot slot = next_checkpoint(&log, 1);
    slot.floor = kwr_retention_floor(1, &log);
    cr_assert(slot.floor == 3);
    publish(&dirs, &log, slot);
    KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &seen, &err), err);
    cr_assert(seen.count == 1 && seen.slots[0].number == 3, "%zu slots", seen.count);
    kwr_log_free(&seen);

    char name[KWR_FILE_NAME_MAX];
    kwr_slot_name(2, name);
    KWR_MUST(f.storage->ops->remove(f.storage, dirs.log, name, NULL));
    KWR_MUST_ERR(kwr_log_publish(&dirs, &zombie, &err), err);
    KWR_EXPECT(KWR_OK, kwr_log_probe(&dirs, 3, &err));
    KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &seen, &err), err);
    cr_assert(seen.count == 1 && seen.slots[0].number == 3, "%zu slots", seen.count);
    cr_assert(kwr_log_newest(&seen, NULL)->generation == 2);
    kwr_log_free(&seen);

    /* A floor never falls again. */
    kwr_slot low = next_fence(&log, "job");
    low.floor = 2;
    publish(&dirs, &log, low);
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT, kwr_log_read(&dirs, NULL, &seen, &err), err);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    fixture_close(&f);
}

/* One letter a slot: f fence, e fence that starts empty, bN fence with base N, N checkpoint. */
typedef struct history {
    const char *log;
    uint64_t newest; /* 0: none */
    bool base_missing;
    const char *order; /* checkpoints of the history, newest first */
} history;

static const history histories[] = {
    { "", 0, false, "" },
    { "f", 0, false, "" },
    { "f1", 1, false, "1" },
    { "f12f", 2, false, "21" },
    { "f12f3f4", 4, false, "4321" },
    { "f12e", 0, false, "" },
    { "f12ef", 0, false, "" },
    { "f12e3", 3, false, "3" },
    { "f12e3f4", 4, false, "43" },
    { "f123b1", 1, false, "1" },
    { "f123b2f", 2, false, "21" },
    { "f123b1f4", 4, false, "41" },
    { "f123b1f4f5", 5, false, "541" },
    { "f123b2b1", 1, false, "1" },
    { "f123b1b3", 3, false, "321" },
    { "f12e34b1", 1, false, "1" },
    { "f12e34b3", 3, false, "3" },
    { "f12b1e", 0, false, "" },
    { "f123b9", 0, true, "" }, /* the base's slot is gone */
    { "f123b94", 4, false, "4" },
};

static void build_history(const fixture *f, const char *text, kwr_log *log) {
    *log = (kwr_log){ .env = f->env };
    uint64_t number = 0, generation = 0, highest = 0;
    for (const char *at = text; *at != '\0'; at++) {
        kwr_slot slot = { .number = ++number };
        if (*at >= '1' && *at <= '9') {
            slot.kind = KWR_SLOT_CHECKPOINT;
            slot.checkpoint = highest = (uint64_t)(*at - '0');
        } else {
            slot.kind = KWR_SLOT_FENCE;
            generation++;
            if (*at == 'e') slot.base = KWR_BASE_EMPTY;
            if (*at == 'b') {
                slot.base = KWR_BASE_CHECKPOINT;
                slot.base_checkpoint = (uint64_t)(*++at - '0');
            }
        }
        slot.generation = generation;
        slot.highest = highest;
        KWR_MUST(kwr_log_append(log, &slot));
    }
}

KWR_TEST(commit_log, fences_and_bases_choose_the_history) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
        const history *h = &histories[i];
        kwr_log log;
        build_history(&f, h->log, &log);
        bool base_missing = true;
        const kwr_slot *newest = kwr_log_newest(&log, &base_missing);
        cr_assert((newest == NULL ? 0 : newest->checkpoint) == h->newest, "log %s", h->log);
        cr_assert(base_missing == h->base_missing, "log %s", h->log);
        char order[16] = { 0 };
        size_t n = 0;
        for (const kwr_slot *s = newest; s != NULL; s = kwr_log_older(&log, s))
            order[n++] = (char)('0' + s->checkpoint);
        cr_assert_str_eq(order, h->order, "log %s: history %s", h->log, order);
        kwr_log_free(&log);
    }
    fixture_close(&f);
}

KWR_TEST(names, round_trip_and_nothing_else_is_ours) {
    char name[KWR_FILE_NAME_MAX], id[KWR_JOB_NAME_MAX + 1];
    uint64_t a = 0, b = 0;
    uint32_t t = 0;
    kwr_checkpoint_dir_name(42, 3, name);
    cr_assert_str_eq(name, "chk-42-3");
    cr_assert(kwr_checkpoint_dir_parse(name, &a, &b) && a == 42 && b == 3);
    kwr_slot_name(255, name);
    cr_assert_str_eq(name, "00000000000000ff");
    cr_assert(kwr_slot_name_parse(name, &a) && a == 255);
    const char *const ids[] = { "count", "a-b-1", "1-2-3", "-", "x.kwp", "9" };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        kwr_shared_name(UINT64_MAX, ids[i], 7, UINT64_MAX, name);
        cr_assert(kwr_shared_name_parse(name, &a, id, &t, &b), "%s", name);
        cr_assert(a == UINT64_MAX && t == 7 && b == UINT64_MAX);
        cr_assert_str_eq(id, ids[i]);
    }
    const char *const foreign[] = { "chk-",   "chk-1",    "chk-01-2", "chk-1-2-3", "chk-1-",
                                    "chk--1", "chk-1-2x", "Chk-1-2",  "chk-1 -2",  "chk-+1-2" };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        cr_assert(!kwr_checkpoint_dir_parse(foreign[i], &a, &b), "%s", foreign[i]);
    const char *const files[] = {
        "1-a-0.kwp",    "1-a-0-0",    "1--0-0.kwp",    "x-a-0-0.kwp", "1-a-0-0.KWP",
        "1-a-00-0.kwp", "1-a-0-.kwp", "1-a b-0-0.kwp", ".kwp",        "1-a-4294967296-0.kwp",
        "1-..-0-0.kwp"
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        cr_assert(!kwr_shared_name_parse(files[i], &a, id, &t, &b), "%s", files[i]);
    const char *const slots[] = { "0000000000000000", "00000000000000FF", "ff", "00000000000000fg",
                                  "000000000000000ff" };
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        cr_assert(!kwr_slot_name_parse(slots[i], &a), "%s", slots[i]);
}
