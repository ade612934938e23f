/* SPDX-License-Identifier: Apache-2.0 */
/* What kwr_fsck() finds, where, and whom it hits: over all checkpoints, on every kind of storage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/data_file.h"
#include "snapshot/storage.h"
#include "tests/snapshot/mini_job.h"
#include "tests/snapshot/stored.h"
#include "tests/support/fault_env.h"

enum { ROUNDS = 4, KEYS = 200, HELD = 16 };

typedef struct held {
    kwr_fsck_finding told;
    char file[300], text[1024], operator_id[64], state[64];
    kwr_fsck_checkpoint checkpoints[8];
} held;

typedef struct findings {
    held list[HELD];
    size_t count;
    kwr_fsck_result result;
} findings;

static void copy(char *out, size_t capacity, const char *text) {
    snprintf(out, capacity, "%s", text == NULL ? "" : text);
}

static void note(void *ctx, const kwr_fsck_finding *finding) {
    findings *all = ctx;
    if (all->count++ >= HELD) return;
    held *h = &all->list[all->count - 1];
    h->told = *finding;
    copy(h->file, sizeof h->file, finding->file);
    copy(h->text, sizeof h->text, finding->text);
    copy(h->operator_id, sizeof h->operator_id, finding->operator_id);
    copy(h->state, sizeof h->state, finding->state);
    for (size_t i = 0; i < finding->checkpoint_count && i < 8; i++)
        h->checkpoints[i] = finding->checkpoints[i];
}

static findings check_with(const fixture *f, const kwr_env *env, kwr_fsck_options options) {
    findings all = { .result = { .struct_size = sizeof all.result } };
    kwr_error err = { 0 };
    options.struct_size = sizeof options;
    options.env = env;
    options.storage = f->storage;
    options.ctx = &all;
    options.found = note;
    KWR_MUST_ERR(kwr_fsck(&options, &all.result, &err), err);
    return all;
}

static findings check(const fixture *f) {
    const uint64_t before = stored_sum(f);
    const findings all = check_with(f, f->env, (kwr_fsck_options){ .job = "job" });
    cr_assert(stored_sum(f) == before, "fsck has changed something");
    return all;
}

/* A job with checkpoints 1 to ROUNDS, which share files. */
static void make(fixture *f, int kind, mini_job *job, bool increments) {
    kwr_error err = { 0 };
    fixture_open(f, kind);
    *job = (mini_job){ .increments = increments };
    KWR_MUST_ERR(mini_start(job, f->env, f->storage, &err), err);
    for (uint32_t round = 1; round <= ROUNDS; round++)
        KWR_MUST_ERR(mini_checkpoint(job, KEYS, round, &err), err);
}

static void done(fixture *f, mini_job *job) {
    mini_stop(job);
    fixture_close(f);
}

/* The file that the first checkpoint wrote, and where its first image is. */
static void first_file(const fixture *f, char path[300], kwr_data_entry *entry, size_t *size) {
    char name[256];
    cr_assert(stored_there(f, "job/shared/1-count-0-0.kwp"));
    snprintf(path, 300, "job/shared/1-count-0-0.kwp");
    (void)name;
    uint8_t *bytes = stored_get(f, path, size);
    kwr_data_footer footer;
    cr_assert(kwr_data_footer_decode(bytes + *size - KWR_DATA_FOOTER_SIZE, &footer));
    cr_assert(kwr_data_entry_decode(bytes + footer.index_offset, entry));
    free(bytes);
}

KWR_TEST(fsck, finds_nothing_wrong_with_what_is_right_and_reads_shared_files_once) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        make(&f, kind, &job, true);
        const findings all = check(&f);
        const size_t files = stored_count(&f, "job/shared", "", NULL);
        cr_assert(all.count == 0, "%s", all.list[0].text);
        cr_assert(all.result.jobs == 1 && all.result.checkpoints == ROUNDS);
        cr_assert(all.result.files == files + ROUNDS, "%llu files of %zu",
                  (unsigned long long)all.result.files, files);
        cr_assert(all.result.faults == 0 && all.result.leftovers == 0);
        /* Not once for each of the checkpoints. */
        uint64_t bytes = 0;
        for (int i = 0; i < 8; i++) {
            char path[300];
            size_t size = 0;
            snprintf(path, sizeof path, "job/shared/1-count-0-%d.kwp", i);
            uint8_t *content = stored_get(&f, path, &size);
            if (content != NULL) bytes += size;
            free(content);
        }
        cr_assert(all.result.bytes <= bytes, "%llu bytes read, files have %llu",
                  (unsigned long long)all.result.bytes, (unsigned long long)bytes);
        done(&f, &job);
    }
}

KWR_TEST(fsck, says_which_checkpoints_operator_state_and_key_group_a_damaged_image_hits) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        char path[300];
        kwr_data_entry entry;
        size_t size = 0;
        make(&f, kind, &job, true);
        first_file(&f, path, &entry, &size);
        /* The images of the first checkpoint are in use by the last one too: of the keys that later
         * rounds wrote there are deltas. */
        uint32_t shared = 0;
        uint8_t *bytes = stored_get(&f, path, &size);
        kwr_data_footer footer;
        cr_assert(kwr_data_footer_decode(bytes + size - KWR_DATA_FOOTER_SIZE, &footer));
        for (uint64_t i = 0; i < footer.images; i++) {
            (void)kwr_data_entry_decode(bytes + footer.index_offset + i * KWR_DATA_ENTRY_SIZE,
                                        &entry);
            stored_flip(&f, path, entry.offset + KWR_DATA_PREFIX_SIZE + entry.stored / 2);
            const findings all = check(&f);
            cr_assert(all.count == 1, "%zu findings: %s", all.count, all.list[0].text);
            const held *h = &all.list[0];
            cr_assert(h->told.kind == KWR_FSCK_DAMAGED && h->told.status == KWR_ERR_CORRUPT);
            cr_assert_str_eq(h->file, path + strlen("job/"));
            cr_assert(h->told.offset == entry.offset);
            cr_assert(h->told.length == KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored);
            cr_assert_str_eq(h->operator_id, "count");
            cr_assert_str_eq(h->state, entry.state == 0 ? "text" : "number");
            cr_assert(h->told.key_groups == 1 && h->told.first_key_group == entry.key_group);
            const size_t hit = h->told.checkpoint_count;
            cr_assert(hit >= 1 && hit <= ROUNDS);
            cr_assert(h->checkpoints[hit - 1].checkpoint == 1, "the one that wrote it");
            for (size_t j = 1; j < hit; j++)
                cr_assert(h->checkpoints[j].checkpoint + 1 == h->checkpoints[j - 1].checkpoint);
            shared += hit == ROUNDS;
            stored_put(&f, path, bytes, size);
        }
        free(bytes);
        cr_assert(shared > 0, "%u images of all", shared);
        cr_assert(check(&f).count == 0);
        done(&f, &job);
    }
}

KWR_TEST(fsck, tells_every_damaged_image_of_a_file_not_only_the_first) {
    fixture f;
    mini_job job;
    char path[300];
    kwr_data_entry entry;
    size_t size = 0;
    make(&f, KIND_MEMORY, &job, false);
    first_file(&f, path, &entry, &size);
    uint8_t *bytes = stored_get(&f, path, &size);
    kwr_data_footer footer;
    cr_assert(kwr_data_footer_decode(bytes + size - KWR_DATA_FOOTER_SIZE, &footer));
    for (uint64_t i = 0; i < footer.images; i += 3) {
        (void)kwr_data_entry_decode(bytes + footer.index_offset + i * KWR_DATA_ENTRY_SIZE, &entry);
        bytes[entry.offset + KWR_DATA_PREFIX_SIZE] ^= 1;
    }
    stored_put(&f, path, bytes, size);
    free(bytes);
    const findings all = check(&f);
    cr_assert(all.count == (footer.images + 2) / 3, "%zu of %llu", all.count,
              (unsigned long long)footer.images);
    for (size_t i = 1; i < all.count && i < HELD; i++)
        cr_assert(all.list[i - 1].told.offset < all.list[i].told.offset);
    done(&f, &job);
}

/* One finding, of this kind and file, hitting this many checkpoints. */
static void expect_one(const fixture *f, kwr_fsck_kind kind, const char *file, size_t hit) {
    const findings all = check(f);
    cr_assert(all.count == 1, "%zu findings: %s", all.count, all.list[0].text);
    const held *h = &all.list[0];
    cr_assert(h->told.kind == kind, "%d: %s", (int)h->told.kind, h->text);
    cr_assert_str_eq(h->file, file);
    cr_assert(h->told.checkpoint_count == hit, "%zu: %s", h->told.checkpoint_count, h->text);
    cr_assert(h->text[0] != '\0');
    cr_assert(all.result.faults == (kwr_fsck_is_fault(kind) ? 1 : 0));
}

KWR_TEST(fsck, tells_missing_cut_and_lengthened_files_with_all_that_need_them) {
    static const char file[] = "job/shared/1-count-0-0.kwp";
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        size_t size = 0;
        make(&f, kind, &job, true);
        uint8_t *bytes = stored_get(&f, file, &size);
        stored_remove(&f, file);
        expect_one(&f, KWR_FSCK_MISSING, file + 4, ROUNDS);
        stored_put(&f, file, bytes, size - 1);
        expect_one(&f, KWR_FSCK_DAMAGED, file + 4, ROUNDS);
        cr_assert(check(&f).list[0].told.offset == size - 1);
        stored_put(&f, file, bytes, 0);
        expect_one(&f, KWR_FSCK_DAMAGED, file + 4, ROUNDS);
        uint8_t *longer = calloc(1, size + 1);
        memcpy(longer, bytes, size);
        stored_put(&f, file, longer, size + 1);
        expect_one(&f, KWR_FSCK_DAMAGED, file + 4, ROUNDS);
        stored_put(&f, file, bytes, size);
        stored_flip(&f, file, 5);
        expect_one(&f, KWR_FSCK_DAMAGED, file + 4, ROUNDS);
        stored_put(&f, file, bytes, size);
        stored_flip(&f, file, size - 10);
        expect_one(&f, KWR_FSCK_DAMAGED, file + 4, ROUNDS);
        stored_put(&f, file, bytes, size);
        cr_assert(check(&f).count == 0);
        free(longer);
        free(bytes);
        done(&f, &job);
    }
}

KWR_TEST(fsck, tells_damage_of_manifests_and_inline_files_by_checkpoint) {
    fixture f;
    mini_job job = { .inline_bytes = 1 << 20 };
    kwr_error err = { 0 };
    fixture_open(&f, KIND_FILE);
    KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
    for (uint32_t round = 1; round <= 2; round++)
        KWR_MUST_ERR(mini_checkpoint(&job, KEYS, round, &err), err);
    cr_assert(check(&f).count == 0);
    stored_flip(&f, "job/chk-1-1/manifest.json", 100);
    expect_one(&f, KWR_FSCK_DAMAGED, "chk-1-1/manifest.json", 1);
    stored_flip(&f, "job/chk-1-1/manifest.json", 100);
    size_t size = 0;
    uint8_t *bytes = stored_get(&f, "job/chk-2-1/inline", &size);
    stored_cut(&f, "job/chk-2-1/inline", size / 2);
    expect_one(&f, KWR_FSCK_DAMAGED, "chk-2-1/inline", 1);
    stored_remove(&f, "job/chk-2-1/inline");
    expect_one(&f, KWR_FSCK_MISSING, "chk-2-1/inline", 1);
    stored_put(&f, "job/chk-2-1/inline", bytes, size);
    free(bytes);
    stored_flip(&f, "job/chk-2-1/inline", size / 2);
    const findings all = check(&f);
    cr_assert(all.count == 2, "the whole and the image: %zu", all.count);
    cr_assert(all.list[1].told.key_groups == 1 && all.list[1].told.checkpoint_count == 1);
    done(&f, &job);
}

KWR_TEST(fsck, names_the_damaged_slot_and_checks_the_checkpoints_all_the_same) {
    for (int kind = 0; kind < KINDS; kind++) {
        fixture f;
        mini_job job;
        make(&f, kind, &job, false);
        stored_flip(&f, "job/log/0000000000000003", 20);
        expect_one(&f, KWR_FSCK_DAMAGED, "log/0000000000000003", 0);
        stored_flip(&f, "job/shared/1-count-0-0.kwp", 300);
        const findings all = check(&f);
        cr_assert(all.count == 2 && all.result.checkpoints == ROUNDS);
        stored_flip(&f, "job/shared/1-count-0-0.kwp", 300);
        stored_flip(&f, "job/log/0000000000000003", 20);
        size_t size = 0;
        uint8_t *slot = stored_get(&f, "job/log/0000000000000003", &size);
        stored_remove(&f, "job/log/0000000000000003");
        expect_one(&f, KWR_FSCK_DAMAGED, "log/", 0);
        stored_put(&f, "job/log/0000000000000003", slot, size);
        cr_assert(check(&f).count == 0);
        free(slot);
        done(&f, &job);
    }
}

KWR_TEST(fsck, tells_a_log_that_was_lost_whole_or_at_its_end) {
    fixture f;
    mini_job job;
    kwr_error err = { 0 };
    make(&f, KIND_MEMORY, &job, false);
    mini_stop(&job);
    KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, KEYS, ROUNDS + 1, &err), err);
    cr_assert(check(&f).count == 0);
    /* Slots 6 and 7 are of the second attempt. */
    stored_remove(&f, "job/log/0000000000000007");
    findings all = check(&f);
    cr_assert(all.count == 2, "%zu: %s", all.count, all.list[0].text);
    cr_assert(all.list[0].told.kind == KWR_FSCK_IN_PROGRESS, "completed or not, nobody can tell");
    stored_remove(&f, "job/log/0000000000000006");
    all = check(&f);
    cr_assert(all.count == 2 && all.result.faults == 2);
    cr_assert(all.list[0].told.kind == KWR_FSCK_MISSING);
    cr_assert(strstr(all.list[0].text, "put them back") != NULL, "%s", all.list[0].text);
    for (int slot = 1; slot <= 5; slot++) {
        char name[64];
        snprintf(name, sizeof name, "job/log/%016x", slot);
        stored_remove(&f, name);
    }
    all = check(&f);
    cr_assert(all.count == 1 && all.result.checkpoints == ROUNDS + 1);
    cr_assert_str_eq(all.list[0].file, "log/");
    cr_assert(strstr(all.list[0].text, "the log was lost") != NULL, "%s", all.list[0].text);
    done(&f, &job);
}

KWR_TEST(fsck, tells_leftovers_from_files_in_progress_and_from_foreign_names) {
    static const struct {
        const char *path;
        kwr_fsck_kind kind;
    } cases[] = {
        { "job/shared/1-count-0-99.kwp", KWR_FSCK_LEFTOVER },
        { "job/shared/.tmp-1-count-0-99.kwp-0123456789abcdef", KWR_FSCK_LEFTOVER },
        { "job/shared/2-count-0-99.kwp", KWR_FSCK_IN_PROGRESS },
        { "job/shared/3-count-0-99.kwp", KWR_FSCK_MISSING },
        { "job/shared/01-count-0-99.kwp", KWR_FSCK_FOREIGN },
        { "job/shared/1-count-0-99.kwp.bak", KWR_FSCK_FOREIGN },
        { "job/shared/manifest.json", KWR_FSCK_FOREIGN },
        { "job/chk-9-1/manifest.json", KWR_FSCK_LEFTOVER },
        { "job/chk-9-2/inline", KWR_FSCK_IN_PROGRESS },
        { "job/chk-9-3/inline", KWR_FSCK_MISSING },
        { "job/chk-1-1/inline", KWR_FSCK_LEFTOVER },
        { "job/chk-1-1/.tmp-manifest.json-0123456789abcdef", KWR_FSCK_LEFTOVER },
        { "job/chk-1-1/notes.txt", KWR_FSCK_FOREIGN },
        { "job/chk-1-1-1/x", KWR_FSCK_FOREIGN },
        { "job/README", KWR_FSCK_FOREIGN },
        { "job/log/.tmp-0000000000000002-0123456789abcdef", KWR_FSCK_LEFTOVER },
        { "job/log/.tmp-00000000000000ff-0123456789abcdef", KWR_FSCK_IN_PROGRESS },
        { "job/log/0000000000000001.old", KWR_FSCK_FOREIGN },
        { "job/log/1", KWR_FSCK_FOREIGN },
    };
    fixture f;
    mini_job job;
    kwr_error err = { 0 };
    make(&f, KIND_MEMORY, &job, false);
    mini_stop(&job);
    KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err); /* generation 2 */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stored_put(&f, cases[i].path, "0123456789", 10);
        const findings all = check(&f);
        cr_assert(all.count == 1, "%s: %zu findings", cases[i].path, all.count);
        cr_assert(all.list[0].told.kind == cases[i].kind, "%s is told as %d", cases[i].path,
                  (int)all.list[0].told.kind);
        const bool ours = cases[i].kind != KWR_FSCK_FOREIGN;
        cr_assert(!ours || all.list[0].told.size == 10, "%s: %llu bytes", cases[i].path,
                  (unsigned long long)all.list[0].told.size);
        stored_remove(&f, cases[i].path);
        if (strstr(cases[i].path, "chk-9") == NULL && strstr(cases[i].path, "chk-1-1-1") == NULL)
            continue;
        char dir[64];
        snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(cases[i].path, '/') - cases[i].path - 4),
                 cases[i].path + 4);
        KWR_MUST_ERR(f.storage->ops->dir_remove(f.storage, job.dirs.root, dir, &err), err);
    }
    cr_assert(check(&f).count == 0);
    done(&f, &job);
}

KWR_TEST(fsck, looks_at_every_job_below_the_root_and_at_one_by_name) {
    fixture f;
    mini_job job;
    kwr_error err = { 0 };
    make(&f, KIND_MEMORY, &job, false);
    stored_put(&f, "README", "x", 1);
    stored_put(&f, "other/log/0000000000000001", "no slot", 7);
    findings all = check_with(&f, f.env, (kwr_fsck_options){ 0 });
    cr_assert(all.result.jobs == 2 && all.result.foreign == 1 && all.result.faults == 1);
    cr_assert(all.list[0].told.kind == KWR_FSCK_FOREIGN && all.list[0].told.job == NULL);
    all = check_with(&f, f.env, (kwr_fsck_options){ .job = "job" });
    cr_assert(all.count == 0 && all.result.jobs == 1);
    const kwr_fsck_options missing = {
        .struct_size = sizeof missing, .env = f.env, .storage = f.storage, .job = "nobody"
    };
    kwr_fsck_result result = { .struct_size = sizeof result };
    cr_assert(kwr_fsck(&missing, &result, &err) == KWR_ERR_MISSING);
    done(&f, &job);
}

KWR_TEST(fsck, finds_a_key_that_is_in_the_wrong_key_group_though_all_digests_fit) {
    fixture f;
    mini_job job = { 0 };
    kwr_error err = { 0 };
    fixture_open(&f, KIND_MEMORY);
    KWR_MUST_ERR(mini_start(&job, f.env, f.storage, &err), err);
    /* One key of one group, written as if all of its groups were another: a mistake of a writer,
     * not of a disk. The seed in manifest and header is the one that is wrong. */
    KWR_MUST_ERR(mini_checkpoint(&job, 1, 1, &err), err);
    kwr_manifest *manifest = NULL;
    KWR_MUST_ERR(kwr_checkpoint_open(&job.dirs, NULL, &job.log.slots[1], &manifest, &err), err);
    const kwr_manifest_file *file = &manifest->operators[0].subtasks[0].files[0];
    char path[300];
    size_t size = 0;
    snprintf(path, sizeof path, "job/shared/%s", file->name);
    uint8_t *bytes = stored_get(&f, path, &size);
    kwr_data_header header;
    const char *fault = NULL;
    KWR_MUST(kwr_data_header_decode(bytes, &header, &fault));
    uint64_t seed = MINI_SEED;
    do
        seed++;
    while (kwr_key_group((kwr_slice){ "key-0", 5 }, seed, MINI_GROUPS) == mini_group(0));
    header.seed = seed;
    kwr_data_header_encode(&header, bytes);
    stored_put(&f, path, bytes, size);
    manifest->seed = seed;
    ((kwr_manifest_file *)(uintptr_t)file)->header = kwr_digest_of(bytes, KWR_DATA_HEADER_SIZE);
    free(bytes);
    manifest->checkpoint = 2;
    kwr_slot slot = next_checkpoint(&job.log, 2);
    KWR_MUST_ERR(kwr_checkpoint_write(&job.dirs, manifest, (kwr_slice){ 0 }, &slot, NULL, &err),
                 err);
    publish(&job.dirs, &job.log, slot);
    kwr_manifest_free(manifest);
    const findings all = check(&f);
    bool told = false;
    for (size_t i = 0; i < all.count && i < HELD; i++)
        told = told || strstr(all.list[i].text, "another key group") != NULL;
    cr_assert(told, "%zu findings: %s", all.count, all.list[0].text);
    done(&f, &job);
}

typedef struct watcher {
    uint64_t calls, done, total, files;
    kwr_cancel *cancel;
} watcher;

static void on_progress(void *ctx, const kwr_fsck_progress *progress) {
    watcher *w = ctx;
    w->calls++;
    cr_assert(progress->bytes_done >= w->done && progress->bytes_done <= progress->bytes_total);
    cr_assert(progress->files_done <= progress->files_total);
    cr_assert_str_eq(progress->job, "job");
    w->done = progress->bytes_done;
    w->total = progress->bytes_total;
    w->files = progress->files_done;
    if (w->cancel != NULL) kwr_cancel_request(w->cancel);
}

/* Every look at the clock is a second later: the progress is told each time. */
static uint64_t hurrying(void *ctx) {
    uint64_t *now = ctx;
    return __atomic_add_fetch(now, 1000000000, __ATOMIC_RELAXED);
}

KWR_TEST(fsck, tells_its_progress_and_can_be_cancelled) {
    for (uint32_t threads = 1; threads <= 8; threads *= 2) {
        fixture f;
        mini_job job;
        kwr_error err = { 0 };
        make(&f, KIND_MEMORY, &job, false);
        uint64_t now = 1;
        kwr_clock clock = *f.env->clock;
        clock.mono_ns = hurrying;
        clock.ctx = &now;
        kwr_env env = *f.env;
        env.clock = &clock;
        watcher w = { 0 };
        kwr_fsck_options o = { .struct_size = sizeof o,
                               .env = &env,
                               .storage = f.storage,
                               .job = "job",
                               .threads = threads,
                               .ctx = &w,
                               .progress = on_progress };
        kwr_fsck_result result = { .struct_size = sizeof result };
        KWR_MUST_ERR(kwr_fsck(&o, &result, &err), err);
        cr_assert(w.calls > 0 && w.total > 0 && result.faults == 0);
        cr_assert(threads > 1 || (w.done == w.total && w.files == ROUNDS));
        kwr_cancel cancel = { 0 };
        w = (watcher){ .cancel = &cancel };
        o.cancel = &cancel;
        cr_assert(kwr_fsck(&o, &result, &err) == KWR_ERR_CANCELLED || w.files >= ROUNDS - threads);
        cr_assert(kwr_fsck(&o, &result, &err) == KWR_ERR_CANCELLED, "at once");
        done(&f, &job);
    }
}

KWR_TEST(fsck, looks_at_indexes_only_when_asked) {
    fixture f;
    mini_job job;
    char path[300];
    kwr_data_entry entry;
    size_t size = 0;
    make(&f, KIND_MEMORY, &job, false);
    first_file(&f, path, &entry, &size);
    stored_flip(&f, path, entry.offset + 20);
    const kwr_fsck_options quick = { .job = "job", .indexes_only = true };
    cr_assert(check_with(&f, f.env, quick).count == 0);
    stored_flip(&f, path, size - KWR_DATA_FOOTER_SIZE - 10);
    cr_assert(check_with(&f, f.env, quick).count == 1);
    done(&f, &job);
}

KWR_TEST(fsck, survives_every_failing_allocation) {
    fixture f;
    mini_job job;
    make(&f, KIND_MEMORY, &job, true);
    for (uint64_t n = 0;; n++) {
        fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
        kwr_fsck_result result = { .struct_size = sizeof result };
        kwr_error err = { 0 };
        const kwr_fsck_options o = { .struct_size = sizeof o,
                                     .env = fault_env_env(faults),
                                     .storage = f.storage,
                                     .job = "job",
                                     .threads = 1 };
        fault_env_fail_alloc(faults, n, FAULT_ONCE);
        const kwr_status status = kwr_fsck(&o, &result, &err);
        const bool fired = fault_env_fired(faults) > 0;
        cr_assert(status == KWR_OK || status == KWR_ERR_NOMEM, "%s %s", kwr_status_name(status),
                  err.text);
        cr_assert(status != KWR_OK || result.faults == 0, "allocation %llu", (unsigned long long)n);
        fault_env_close(faults);
        if (!fired) break;
    }
    done(&f, &job);
}

KWR_TEST(fsck, tells_what_cannot_be_read_as_unreadable_and_goes_on) {
    fixture f;
    mini_job job;
    kwr_error err = { 0 };
    make(&f, KIND_FILE, &job, false);
    uint64_t unreadable = 0;
    for (uint64_t n = 0;; n++) {
        fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
        kwr_storage *storage = NULL;
        fixture g = f;
        KWR_MUST_ERR(kwr_storage_open(fault_env_env(faults), g.root, false, &storage, &err), err);
        findings all = { .result = { .struct_size = sizeof all.result } };
        const kwr_fsck_options o = { .struct_size = sizeof o,
                                     .env = fault_env_env(faults),
                                     .storage = storage,
                                     .job = "job",
                                     .threads = 1,
                                     .ctx = &all,
                                     .found = note };
        fault_env_fail_fs(faults, FAULT_EIO, n, FAULT_ONCE);
        const kwr_status status = kwr_fsck(&o, &all.result, &err);
        const bool fired = fault_env_fired(faults) > 0;
        cr_assert(status == KWR_OK || status == KWR_ERR_IO, "%s", err.text);
        for (size_t i = 0; i < all.count; i++)
            cr_assert(all.list[i].told.kind == KWR_FSCK_UNREADABLE, "%s", all.list[i].text);
        unreadable += all.result.unreadable;
        fault_env_clear(faults);
        kwr_storage_close(storage);
        fault_env_close(faults);
        if (!fired) break;
    }
    cr_assert(unreadable > 10);
    done(&f, &job);
}
