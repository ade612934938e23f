/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of the page store that refer to the images of earlier ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/line.h"

/* All keys of one key group: too much for deltas. */
static void put_page(line *l, uint32_t state, uint32_t number, uint32_t count, uint32_t round) {
    for (uint32_t i = 0; i < count; i++)
        if (mini_group(i) == mini_group(number)) line_put(l, state, i, round);
}

KWR_TEST(increment, writes_only_what_changed) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_FILE);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, LINE_KEYS, 1);
    line_complete(&l);
    const uint64_t whole = l.result.bytes_written;
    cr_assert(whole > 500000 && l.result.files == 1 && l.result.bytes_used == whole);
    for (uint32_t i = 0; i < 20; i++)
        line_put(&l, 0, i * 997, 2);
    line_complete(&l);
    cr_assert(l.result.bytes_written < whole / 3 && l.result.files == 1 && l.result.files_used == 2,
              "%llu of %llu bytes", (unsigned long long)l.result.bytes_written,
              (unsigned long long)whole);
    line_expect_restores(&l, 1, LINE_ALL);
    line_expect_restores(&l, 1, (kwr_key_group_range){ 3, 5 });
    /* Nothing changed, nothing is written. */
    line_complete(&l);
    cr_assert(l.result.bytes_written == 0 && l.result.files == 0 && l.result.files_used == 2);
    line_expect_restores(&l, 1, LINE_ALL);
    line_close(&l);
    fixture_close(&f);
}

KWR_TEST(increment, goes_on_after_a_restart) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_MEMORY);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, LINE_KEYS, 1);
    line_complete(&l);
    line_put(&l, 1, 7, 2);
    line_complete(&l);
    line_restart(&l, &l, 1);
    line_complete(&l);
    cr_assert(l.result.bytes_written == 0 && l.result.files_used == 2);
    const uint64_t whole = l.result.bytes_used;
    line_put(&l, 0, 5, 3);
    line_take(&l, 1, 7);
    line_complete(&l);
    cr_assert(l.result.bytes_written > 0 && l.result.bytes_written < whole / 10);
    line_expect_restores(&l, 1, LINE_ALL);
    line_restart(&l, &l, 1);
    line_expect_content(l.backend, LINE_ALL, &l, 1);
    line_close(&l);
    fixture_close(&f);
}

KWR_TEST(increment, a_failed_checkpoint_leaves_what_the_next_refers_to_as_it_was) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_MEMORY);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, 5000, 1);
    line_complete(&l);
    for (uint32_t round = 2; round < 6; round++) {
        kwr_cancel cancel = { 0 };
        kwr_error err = { 0 };
        line_put(&l, 0, round * 10, round);
        /* Cut short; then written whole and given up. */
        checkpoint++;
        kwr_cancel_request(&cancel);
        KWR_EXPECT_ERR(KWR_ERR_CANCELLED, line_write_with(&l, &cancel, &err), err);
        line_put(&l, 0, round * 10 + 1, round);
        line_write(&l);
        kwr_lineage_abort(l.lineage, checkpoint);
        kwr_subtask_part *part = line_part(&l);
        kwr_job_dirs dirs = { 0 };
        KWR_MUST_ERR(kwr_job_dirs_open(f.env, f.storage, "job", false, &dirs, &err), err);
        cr_assert(part->subtask.file_count >= 2 && l.result.files == 1);
        const char *made = part->subtask.files[part->subtask.file_count - 1].name;
        KWR_MUST_ERR(f.storage->ops->remove(f.storage, dirs.shared, made, &err), err);
        kwr_job_dirs_close(&dirs);
        kwr_subtask_part_free(part);
        line_complete(&l);
        cr_assert(l.result.bytes_written > 0 && l.result.bytes_written < l.result.bytes_used);
        line_expect_restores(&l, 1, LINE_ALL);
    }
    line_close(&l);
    fixture_close(&f);
}

KWR_TEST(increment, what_travelled_inline_is_written_again) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_MEMORY);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, 5000, 1);
    line_complete(&l);
    cr_assert(l.result.files == 1);
    l.inline_bytes = 100000;
    uint64_t before = 0;
    for (uint32_t round = 2; l.result.files_used < 3; round++) {
        cr_assert(round < 1000);
        line_put(&l, 1, round * 13, round);
        line_complete(&l);
        /* It gathers inline until it is enough for a file. */
        if (l.result.files == 0)
            cr_assert(l.result.bytes_written > before && l.result.files_used == 2);
        else
            break;
        before = l.result.bytes_written;
        if (round % 10 == 0) line_expect_restores(&l, 1, LINE_ALL);
        if (round == 20) break;
    }
    l.inline_bytes = 0;
    line_complete(&l);
    cr_assert(l.result.files == 1 && l.result.files_used == 2);
    line_complete(&l);
    cr_assert(l.result.bytes_written == 0);
    line_expect_restores(&l, 1, LINE_ALL);
    line_close(&l);
    fixture_close(&f);
}

KWR_TEST(increment, holds_at_most_two_and_a_half_times_what_is_used, .timeout = 120) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_MEMORY);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, LINE_KEYS, 1);
    uint64_t written = 0;
    uint32_t x = 5;
    for (uint32_t round = 2; round < 52; round++) {
        /* One key in a thousand, and a part of the key groups entirely. */
        for (uint32_t i = 0; i < LINE_KEYS / 1000; i++)
            line_put(&l, 0, (x = x * 1664525U + 1013904223U) >> 8 & 16383, round);
        for (uint32_t i = 0; i < LINE_KEYS; i++)
            if (mini_group(i) == round % MINI_GROUPS) line_put(&l, 0, i, round);
        line_complete(&l);
        written += l.result.bytes_written;
        kwr_subtask_part *part = line_part(&l);
        uint64_t used = 0;
        for (size_t i = 0; i < part->subtask.file_count; i++)
            used += part->subtask.files[i].live_bytes;
        cr_assert(2 * l.result.bytes_used < 5 * used, "round %u: %llu bytes for %llu in %zu files",
                  round, (unsigned long long)l.result.bytes_used, (unsigned long long)used,
                  part->subtask.file_count);
        cr_assert(part->subtask.file_count < 40);
        kwr_subtask_part_free(part);
        if (round % 10 == 0) line_expect_restores(&l, 1, LINE_ALL);
    }
    cr_assert(written < 50 * l.result.bytes_used / 2, "%llu", (unsigned long long)written);
    line_expect_restores(&l, 1, LINE_ALL);
    line_close(&l);
    fixture_close(&f);
}

/* Two subtasks that number their states differently become one and then two again; each goes on
 * without writing what is there. */
KWR_TEST(increment, goes_on_after_a_rescale) {
    fixture f;
    uint64_t checkpoint = 0;
    const kwr_key_group_range low = { 0, 8 }, high = { 8, 8 };
    line two[2], one;
    kwr_error err = { 0 };
    fixture_open(&f, KIND_MEMORY);
    line_open(&two[0], &f, &checkpoint, 0, low, false);
    line_open(&two[1], &f, &checkpoint, 1, high, true);
    for (uint32_t i = 0; i < LINE_KEYS; i++) {
        line_put(&two[i % 2], i % 3 == 0, i, 1);
        line_put(&two[(i + 1) % 2], i % 3 == 0, i, 1);
    }
    checkpoint++;
    for (int i = 0; i < 2; i++)
        KWR_MUST_ERR(line_write_with(&two[i], NULL, &err), err);
    for (int i = 0; i < 2; i++)
        kwr_lineage_confirm(two[i].lineage, checkpoint);
    const uint64_t whole = two[0].result.bytes_used + two[1].result.bytes_used;

    line_open(&one, &f, &checkpoint, 0, LINE_ALL, false);
    line_restart(&one, two, 2);
    line_expect_content(one.backend, LINE_ALL, two, 2);
    line_complete(&one);
    cr_assert(one.result.bytes_written == 0 && one.result.bytes_used == whole);
    line_expect_restores(&one, 1, LINE_ALL);
    line_put(&one, 1, 4242, 2);
    line_complete(&one);
    cr_assert(one.result.bytes_written > 0 && one.result.bytes_written < whole / 10);
    line_expect_restores(&one, 1, LINE_ALL);
    line_expect_restores(&one, 1, low);

    /* Both halves refer to files of which the other half uses the rest. */
    for (int i = 0; i < 2; i++) {
        line_restart(&two[i], &one, 1);
        line_complete(&two[i]);
        cr_assert(two[i].result.bytes_written == 0, "%llu",
                  (unsigned long long)two[i].result.bytes_written);
    }
    line_expect_restores(two, 2, LINE_ALL);
    line_expect_restores(two, 2, (kwr_key_group_range){ 5, 6 });
    line_close(&one);
    line_close(&two[0]);
    line_close(&two[1]);
    fixture_close(&f);
}

/* ---- damage ---- */

static void copy_path(const fixture *f, const char *name, char out[600]) {
    snprintf(out, 600, "%s/job/shared/%s", f->root, name);
}

/* Every byte that an increment uses is guarded, in its own files and in those of others. */
KWR_TEST(increment, no_changed_byte_of_any_of_its_files_goes_unnoticed, .timeout = 300) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_FILE);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, 60, 1);
    line_complete(&l);
    line_put(&l, 0, 3, 2);
    line_put(&l, 1, 30, 2);
    line_complete(&l);
    line_put(&l, 0, 4, 3);
    line_take(&l, 0, 5);
    line_complete(&l);
    line_expect_restores(&l, 1, LINE_ALL);
    kwr_subtask_part *part = line_part(&l);
    /* Images of two checkpoints, deltas of two. */
    cr_assert(part->subtask.file_count == 4);
    unsigned taken = 0, refused = 0;
    uint64_t unused = 0;
    for (size_t i = 0; i < part->subtask.file_count; i++) {
        char path[600];
        size_t size = 0;
        copy_path(&f, part->subtask.files[i].name, path);
        uint8_t *bytes = slurp(path, &size);
        const kwr_manifest_file *file = &part->subtask.files[i];
        unused += size - 128 - 80 - 64 * file->images - file->live_bytes;
        for (size_t at = 0; at <= size; at++) {
            kwr_backend *backend = NULL;
            kwr_error err = { 0 };
            if (at < size) bytes[at] ^= 0x40;
            /* In the end one that is too short. */
            spill(path, bytes, at < size ? size : size - 1);
            const kwr_status status = line_restore(&l, 1, LINE_ALL, NULL, &backend, &err);
            if (status >= KWR_OK) {
                taken++;
                line_expect_content(backend, LINE_ALL, &l, 1);
                kwr_backend_close(backend);
            } else {
                refused++;
                cr_assert(status == KWR_ERR_CORRUPT && strstr(err.text, file->name) != NULL, "%s",
                          err.text);
            }
            if (at < size) bytes[at] ^= 0x40;
        }
        spill(path, bytes, size);
        free(bytes);
    }
    /* What is not used may be damaged: then nothing is missing. */
    cr_assert(taken == unused && refused > 1000, "%u taken, %llu bytes unused", taken,
              (unsigned long long)unused);
    /* A file of an earlier checkpoint that is gone. */
    char path[600];
    copy_path(&f, part->subtask.files[0].name, path);
    cr_assert(remove(path) == 0);
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    KWR_EXPECT_ERR(KWR_ERR_MISSING, line_restore(&l, 1, LINE_ALL, NULL, &backend, &err), err);
    cr_assert(strstr(err.text, part->subtask.files[0].name) != NULL, "%s", err.text);
    kwr_subtask_part_free(part);
    line_close(&l);
    fixture_close(&f);
}

/* A checkpoint that is kept: what it holds can be had at any later time. */
typedef struct kept {
    kwr_bytes handle;
    uint32_t (*rounds)[LINE_KEYS];
} kept;

static void keep(kept *k, const line *l) {
    k->handle.size = l->result.handle.size;
    k->handle.data = malloc(k->handle.size);
    k->rounds = calloc(LINE_STATES, sizeof *k->rounds);
    memcpy(k->handle.data, l->result.handle.data, k->handle.size);
    memcpy(k->rounds, l->rounds, LINE_STATES * sizeof *k->rounds);
}

static void expect_kept(const kept *k, const line *l) {
    line as = *l;
    as.result.handle = k->handle;
    as.rounds = k->rounds;
    line_expect_restores(&as, 1, l->range);
    line_expect_restores(&as, 1, (kwr_key_group_range){ 5, 4 });
}

/* Few changes a step of every kind, among them steps that fail or are given up, and restarts. */
static void chain_of_deltas(uint32_t keys, uint32_t changes, size_t inline_bytes) {
    enum { STEPS = 50 };
    fixture f;
    uint64_t checkpoint = 0;
    uint32_t x = keys;
    line l;
    kept all[STEPS];
    size_t most = 0;
    fixture_open(&f, KIND_MEMORY);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    l.inline_bytes = inline_bytes;
    line_fill(&l, keys, 1);
    for (uint32_t step = 0; step < STEPS; step++) {
        for (uint32_t i = 0; i < changes; i++) {
            x = x * 1664525U + 1013904223U;
            const uint32_t number = (x >> 8) % (keys + keys / 8), what = x >> 28;
            if (what < 2)
                line_take(&l, 0, number);
            else
                line_put(&l, what == 15, number, step + 2);
        }
        kwr_error err = { 0 };
        kwr_cancel cancel = { 0 };
        if (step % 5 == 1) {
            checkpoint++;
            kwr_cancel_request(&cancel);
            KWR_EXPECT_ERR(KWR_ERR_CANCELLED, line_write_with(&l, &cancel, &err), err);
        }
        if (step % 7 == 3) {
            line_write(&l);
            kwr_lineage_abort(l.lineage, checkpoint);
            line_put(&l, 0, step, step + 2);
        }
        line_complete(&l);
        if (l.result.files_used > most) most = l.result.files_used;
        keep(&all[step], &l);
        if (step % 11 == 9) line_restart(&l, &l, 1);
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        expect_kept(&all[step], &l);
        free(all[step].handle.data);
        free(all[step].rounds);
    }
    cr_assert(most < 60, "%zu files in use", most);
    line_close(&l);
    fixture_close(&f);
}

KWR_TEST(increment, any_of_a_chain_of_fifty_restores, .timeout = 120) {
    chain_of_deltas(8000, 80, 0);
}

KWR_TEST(increment, any_of_a_chain_of_much_change_restores, .timeout = 120) {
    chain_of_deltas(3000, 1500, 0);
}

KWR_TEST(increment, any_of_a_chain_that_may_go_inline_restores, .timeout = 120) {
    chain_of_deltas(6000, 60, 20000);
}

/* A handle whose map says other images are used than are. */
KWR_TEST(increment, another_map_of_images_is_refused) {
    fixture f;
    uint64_t checkpoint = 0;
    line l;
    fixture_open(&f, KIND_MEMORY);
    line_open(&l, &f, &checkpoint, 0, LINE_ALL, false);
    line_fill(&l, 2000, 1);
    line_complete(&l);
    put_page(&l, 0, 3, 2000, 2);
    line_complete(&l);
    kwr_subtask_part *part = line_part(&l);
    kwr_manifest_file *first = &part->subtask.files[0];
    cr_assert(first->used != NULL && first->used_images < first->images);
    uint8_t *map = (uint8_t *)first->used;
    const size_t size = kwr_manifest_file_map_bytes(first);
    const kwr_bytes good = l.result.handle;
    for (size_t at = 0; at < first->images; at++) {
        kwr_backend *backend = NULL;
        kwr_error err = { 0 };
        map[at / 8] ^= (uint8_t)(1U << at % 8);
        first->used_images += (map[at / 8] >> at % 8 & 1) != 0 ? 1 : -1;
        l.result.handle = (kwr_bytes){ 0 };
        KWR_MUST_ERR(kwr_subtask_part_encode(f.env, part, &l.result.handle, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, line_restore(&l, 1, LINE_ALL, NULL, &backend, &err), err);
        kwr_bytes_free(&l.result.handle);
        first->used_images -= (map[at / 8] >> at % 8 & 1) != 0 ? 1 : -1;
        map[at / 8] ^= (uint8_t)(1U << at % 8);
    }
    /* A bit behind the last image, and a map that does not count right. */
    for (int i = 0; i < 2; i++) {
        kwr_error err = { 0 };
        kwr_backend *backend = NULL;
        if (first->images % 8 == 0 && i == 0) continue;
        if (i == 0) map[size - 1] |= 0x80;
        first->used_images++;
        l.result.handle = (kwr_bytes){ 0 };
        KWR_MUST_ERR(kwr_subtask_part_encode(f.env, part, &l.result.handle, &err), err);
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, line_restore(&l, 1, LINE_ALL, NULL, &backend, &err), err);
        kwr_bytes_free(&l.result.handle);
        first->used_images--;
        if (i == 0) map[size - 1] &= 0x7f;
    }
    l.result.handle = good;
    line_expect_restores(&l, 1, LINE_ALL);
    kwr_subtask_part_free(part);
    line_close(&l);
    fixture_close(&f);
}
