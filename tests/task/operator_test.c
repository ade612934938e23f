/* SPDX-License-Identifier: Apache-2.0 */
/* Operator state of a job's tasks, over restarts with any parallelism. */
#include <stdlib.h>
#include <string.h>

#include "recovery/recovery.h"
#include "tests/task/stream.h"

typedef struct bench {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    stream_options options;
    stream s;
} bench;

static bench *bench_open(bool inline_off) {
    bench *b = calloc(1, sizeof *b);
    b->faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED);
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_storage_memory_open(fault_env_env(b->faults), 0, &b->storage, &err), err);
    b->options = (stream_options){
        .env = fault_env_env(b->faults),
        .faults = b->faults,
        .storage = b->storage,
        .world = &b->world,
        .total = 1000,
        .strict = true,
        .job = { .tolerate_all = true,
                 .max_parallelism = 16,
                 .inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0 },
    };
    return b;
}

static void bench_close(bench *b) {
    stream_world_done(&b->world);
    kwr_storage_close(b->storage);
    fault_env_close(b->faults);
    free(b);
}

static void start(bench *b, uint32_t counts) {
    b->options.counts = counts;
    stream_must_open(&b->s, &b->options);
}

/* A checkpoint of all there is, and the end of the attempt. */
static void stop(bench *b) {
    stream_run(&b->s, 1);
    cr_assert(stream_checkpoint(&b->s) > 0, "checkpoint: %s", b->s.abort_error.text);
    stream_close(&b->s);
}

static kwr_task *count_task(bench *b, uint32_t subtask) {
    return b->s.tasks[b->s.options.sources + subtask];
}

/* ---- lists of numbers ---- */

static kwr_list *list_of(kwr_task *task, const char *name, kwr_operator_mode mode) {
    const kwr_list_descriptor descriptor = { .struct_size = sizeof descriptor,
                                             .name = name,
                                             .type = { .kind = KWR_TYPE_I64 } };
    kwr_list *list = NULL;
    KWR_EXPECT_ERR(KWR_OK, kwr_task_operator_list(task, &descriptor, mode, &list),
                   *kwr_task_error(task));
    return list;
}

static void add(kwr_list *list, int64_t first, int64_t end) {
    for (int64_t i = first; i < end; i++)
        KWR_MUST(kwr_list_add(list, KWR_SLICE_OF(i)));
}

/* "1 2 3" */
static void text_of(kwr_list *list, char *out, size_t capacity) {
    kwr_list_iterator *iterator = NULL;
    size_t used = 0;
    out[0] = '\0';
    KWR_MUST(kwr_list_iterate(list, &iterator));
    for (kwr_slice element; kwr_list_iterator_next(iterator, &element) == KWR_OK;) {
        int64_t number = 0;
        cr_assert(element.size == sizeof number, "an i64");
        memcpy(&number, element.data, sizeof number);
        used += (size_t)snprintf(out + used, capacity - used, "%s%lld", used > 0 ? " " : "",
                                 (long long)number);
        cr_assert(used < capacity, "room");
    }
    kwr_list_iterator_free(iterator);
}

static void expect(bench *b, uint32_t subtask, const char *name, kwr_operator_mode mode,
                   const char *want) {
    char got[4096];
    text_of(list_of(count_task(b, subtask), name, mode), got, sizeof got);
    cr_assert(strcmp(got, want) == 0, "subtask %u, %s: expected \"%s\", got \"%s\"", subtask, name,
              want, got);
}

static void expect_all(bench *b, const char *name, kwr_operator_mode mode,
                       const char *const *wants) {
    for (uint32_t i = 0; i < b->s.options.counts; i++)
        expect(b, i, name, mode, wants[i]);
}

KWR_TEST(operator, split_lists_are_shared_out_as_documented) {
    for (int inline_off = 0; inline_off < 2; inline_off++) {
        bench *b = bench_open(inline_off == 1);
        start(b, 2);
        add(list_of(count_task(b, 0), "a", KWR_OPERATOR_SPLIT), 0, 5);
        add(list_of(count_task(b, 1), "a", KWR_OPERATOR_SPLIT), 10, 12);
        add(list_of(count_task(b, 0), "b", KWR_OPERATOR_SPLIT), 20, 21);
        add(list_of(count_task(b, 1), "b", KWR_OPERATOR_SPLIT), 30, 32);
        stop(b);
        start(b, 2); /* handed back as it is */
        expect_all(b, "a", KWR_OPERATOR_SPLIT, (const char *[]){ "0 1 2 3 4", "10 11" });
        expect_all(b, "b", KWR_OPERATOR_SPLIT, (const char *[]){ "20", "30 31" });
        stream_close(&b->s);
        start(b, 3);
        expect_all(b, "a", KWR_OPERATOR_SPLIT, (const char *[]){ "0 1 2", "3 4", "10 11" });
        stream_close(&b->s);
        start(b, 4);
        expect_all(b, "a", KWR_OPERATOR_SPLIT, (const char *[]){ "0 1", "2 3", "4 10", "11" });
        expect_all(b, "b", KWR_OPERATOR_SPLIT, (const char *[]){ "30", "31", "", "20" });
        stream_close(&b->s);
        start(b, 1);
        expect(b, 0, "a", KWR_OPERATOR_SPLIT, "0 1 2 3 4 10 11");
        expect(b, 0, "b", KWR_OPERATOR_SPLIT, "20 30 31");
        stream_close(&b->s);
        bench_close(b);
    }
    bench *b = bench_open(false);
    start(b, 3);
    add(list_of(count_task(b, 0), "a", KWR_OPERATOR_SPLIT), 0, 2);
    add(list_of(count_task(b, 1), "a", KWR_OPERATOR_SPLIT), 5, 6);
    add(list_of(count_task(b, 2), "a", KWR_OPERATOR_SPLIT), 7, 10);
    stop(b);
    start(b, 2);
    expect_all(b, "a", KWR_OPERATOR_SPLIT, (const char *[]){ "0 1 5", "7 8 9" });
    stream_close(&b->s);
    bench_close(b);
}

KWR_TEST(operator, union_lists_reach_every_subtask_whole_at_every_restart) {
    bench *b = bench_open(false);
    start(b, 2);
    add(list_of(count_task(b, 0), "u", KWR_OPERATOR_UNION), 1, 3);
    add(list_of(count_task(b, 1), "u", KWR_OPERATOR_UNION), 7, 8);
    stop(b);
    for (uint32_t counts = 1; counts <= 4; counts++) {
        start(b, counts);
        for (uint32_t i = 0; i < counts; i++)
            expect(b, i, "u", KWR_OPERATOR_UNION, "1 2 7");
        stream_close(&b->s);
    }
    start(b, 2); /* each keeps its own part again, as engines do */
    for (uint32_t i = 0; i < 2; i++) {
        kwr_list *list = list_of(count_task(b, i), "u", KWR_OPERATOR_UNION);
        const int64_t own = 100 + i;
        const kwr_slice element = KWR_SLICE_OF(own);
        KWR_MUST(kwr_list_update(list, &element, 1));
    }
    stop(b);
    start(b, 2);
    expect_all(b, "u", KWR_OPERATOR_UNION, (const char *[]){ "100 101", "100 101" });
    stream_close(&b->s);
    bench_close(b);
}

static kwr_map *map_of(kwr_task *task, const char *name) {
    const kwr_map_descriptor descriptor = { .struct_size = sizeof descriptor,
                                            .name = name,
                                            .user_key_type = { .kind = KWR_TYPE_STRING },
                                            .type = { .kind = KWR_TYPE_I64 } };
    kwr_map *map = NULL;
    KWR_EXPECT_ERR(KWR_OK, kwr_task_operator_map(task, &descriptor, &map), *kwr_task_error(task));
    return map;
}

KWR_TEST(operator, broadcast_maps_are_copies_of_the_old_ones_in_turn) {
    bench *b = bench_open(false);
    start(b, 2);
    for (uint32_t i = 0; i < 2; i++) {
        /* They should be equal; here they are not, to see whose copy a subtask gets. */
        const int64_t value = 10 * i;
        kwr_map *map = map_of(count_task(b, i), "rules");
        KWR_MUST(kwr_map_put(map, kwr_test_slice("who"), KWR_SLICE_OF(value)));
        KWR_MUST(kwr_map_put(map, kwr_test_slice("also"), KWR_SLICE_OF(value)));
    }
    stop(b);
    for (uint32_t counts = 1; counts <= 5; counts++) {
        start(b, counts);
        for (uint32_t i = 0; i < counts; i++) {
            kwr_map *map = map_of(count_task(b, i), "rules");
            kwr_slice value = { 0 };
            uint64_t entries = 0;
            int64_t number = -1;
            KWR_MUST(kwr_map_count(map, &entries));
            KWR_MUST(kwr_map_get(map, kwr_test_slice("who"), &value));
            memcpy(&number, value.data, sizeof number);
            cr_assert(entries == 2 && number == 10 * (i % 2), "subtask %u of %u: %lld", i, counts,
                      (long long)number);
        }
        stream_close(&b->s);
    }
    bench_close(b);
}

KWR_TEST(operator, every_role_has_it) {
    bench *b = bench_open(false);
    b->options.sinks = 2;
    start(b, 2);
    for (uint32_t i = 0; i < b->s.task_count; i++)
        add(list_of(b->s.tasks[i], "mine", KWR_OPERATOR_SPLIT), 10 * i, 10 * i + 2);
    stop(b);
    b->options.sources = 1;
    b->options.sinks = 1;
    start(b, 1);
    const char *wants[] = { "0 1 10 11", "20 21 30 31", "40 41 50 51" };
    for (uint32_t i = 0; i < 3; i++) {
        char got[64];
        text_of(list_of(b->s.tasks[i], "mine", KWR_OPERATOR_SPLIT), got, sizeof got);
        cr_assert_str_eq(got, wants[i]);
    }
    stream_close(&b->s);
    bench_close(b);
}

/* ---- names, modes, types ---- */

KWR_TEST(operator, a_name_stays_what_it_is_and_both_are_told) {
    bench *b = bench_open(false);
    start(b, 1);
    for (int restored = 0; restored < 2; restored++) {
        kwr_task *task = count_task(b, 0);
        kwr_list *list = list_of(task, "a", KWR_OPERATOR_SPLIT);
        cr_assert(list == list_of(task, "a", KWR_OPERATOR_SPLIT), "opened twice: the same");
        (void)map_of(task, "m");
        kwr_list_descriptor other = { .struct_size = sizeof other,
                                      .name = "a",
                                      .type = { .kind = KWR_TYPE_I64 } };
        kwr_list *none = NULL;
        KWR_EXPECT(KWR_ERR_MISMATCH,
                   kwr_task_operator_list(task, &other, KWR_OPERATOR_UNION, &none));
        const char *text = kwr_task_error(task)->text;
        cr_assert(strstr(text, "'a'") && strstr(text, "split") && strstr(text, "union"), "%s",
                  text);
        other.type.kind = KWR_TYPE_STRING;
        KWR_EXPECT(KWR_ERR_MISMATCH,
                   kwr_task_operator_list(task, &other, KWR_OPERATOR_SPLIT, &none));
        cr_assert(strstr(text, "i64") && strstr(text, "string"), "%s", text);
        other.name = "m";
        KWR_EXPECT(KWR_ERR_MISMATCH,
                   kwr_task_operator_list(task, &other, KWR_OPERATOR_SPLIT, &none));
        cr_assert(strstr(text, "map") && strstr(text, "list"), "%s", text);
        KWR_EXPECT(KWR_ERR_RANGE,
                   kwr_task_operator_list(task, &other, (kwr_operator_mode)0, &none));
        KWR_EXPECT(KWR_ERR_MISUSE, kwr_list_set_namespace(list, kwr_test_slice("n")));
        text = kwr_backend_error(kwr_task_operator_backend(task))->text;
        cr_assert(strstr(text, "no namespaces") != NULL, "%s", text);
        cr_assert(none == NULL, "untouched");
        if (restored == 1) break;
        stop(b); /* both are empty, and remembered */
        start(b, 3);
    }
    stream_close(&b->s);
    bench_close(b);
}

KWR_TEST(operator, without_any_there_is_none) {
    bench *b = bench_open(false);
    start(b, 2);
    for (uint32_t i = 0; i < b->s.task_count; i++)
        cr_assert(kwr_task_operator_backend(b->s.tasks[i]) == NULL, "none");
    stop(b);
    start(b, 3);
    for (uint32_t i = 0; i < b->s.task_count; i++)
        cr_assert(kwr_task_operator_backend(b->s.tasks[i]) == NULL, "none restored");
    stream_close(&b->s);
    bench_close(b);
}

/* ---- over checkpoints ---- */

KWR_TEST(operator, state_never_opened_again_is_kept_and_written_again) {
    bench *b = bench_open(true);
    start(b, 3);
    for (uint32_t i = 0; i < 3; i++)
        add(list_of(count_task(b, i), "a", KWR_OPERATOR_SPLIT), 4 * i, 4 * i + 4);
    const int64_t seven = 7;
    KWR_MUST(kwr_map_put(map_of(count_task(b, 1), "m"), kwr_test_slice("x"), KWR_SLICE_OF(seven)));
    (void)list_of(count_task(b, 2), "empty", KWR_OPERATOR_UNION);
    stop(b);
    const uint32_t numbers[] = { 2, 5, 1, 16, 3 };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        start(b, numbers[i]);
        stop(b);
    }
    start(b, 1);
    expect(b, 0, "a", KWR_OPERATOR_SPLIT, "0 1 2 3 4 5 6 7 8 9 10 11");
    kwr_slice value = { 0 };
    KWR_MUST(kwr_map_get(map_of(count_task(b, 0), "m"), kwr_test_slice("x"), &value));
    kwr_list *none = NULL;
    const kwr_list_descriptor other = { .struct_size = sizeof other,
                                        .name = "empty",
                                        .type = { .kind = KWR_TYPE_I64 } };
    KWR_EXPECT(KWR_ERR_MISMATCH,
               kwr_task_operator_list(count_task(b, 0), &other, KWR_OPERATOR_SPLIT, &none));
    stream_close(&b->s);
    bench_close(b);
}

KWR_TEST(operator, a_checkpoint_holds_what_was_there_at_its_barrier) {
    bench *b = bench_open(false);
    start(b, 1);
    kwr_list *list = list_of(count_task(b, 0), "a", KWR_OPERATOR_SPLIT);
    add(list, 0, 3);
    stream_run(&b->s, 1);
    cr_assert(stream_checkpoint(&b->s) > 0, "checkpoint");
    add(list, 3, 100); /* after it */
    stream_close(&b->s);
    start(b, 1);
    expect(b, 0, "a", KWR_OPERATOR_SPLIT, "0 1 2");
    list = list_of(count_task(b, 0), "a", KWR_OPERATOR_SPLIT);
    KWR_MUST(kwr_list_clear(list));
    stop(b);
    start(b, 2);
    expect_all(b, "a", KWR_OPERATOR_SPLIT, (const char *[]){ "", "" });
    stream_close(&b->s);
    bench_close(b);
}

/* The newest checkpoint read without an engine: findings, and its entries of operator state. */
typedef struct content {
    uint64_t elements;
    size_t findings;
} content;

static void on_finding(void *ctx, const kwr_finding *finding) {
    (void)finding;
    ((content *)ctx)->findings++;
}

static kwr_status on_entry(void *ctx, const kwr_manifest_operator *op,
                           const kwr_manifest_subtask *subtask, const kwr_state_info *state,
                           const kwr_entry *entry) {
    (void)op;
    if (state->redistribution == KWR_REDISTRIBUTE_KEYED) return KWR_OK;
    cr_assert(subtask->of_operator && entry->key.size == 0 && entry->subkey.size > 0, "element");
    ((content *)ctx)->elements++;
    return KWR_OK;
}

static content content_of(bench *b) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    kwr_manifest *manifest = NULL;
    kwr_error err = { 0 };
    kwr_verify_result result = { 0 };
    content c = { 0 };
    KWR_MUST_ERR(kwr_job_dirs_open(b->options.env, b->storage, "stream", false, &dirs, &err), err);
    KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &log, &err), err);
    KWR_MUST_ERR(kwr_checkpoint_open(&dirs, NULL, kwr_log_newest(&log, NULL), &manifest, &err),
                 err);
    KWR_MUST_ERR(kwr_checkpoint_verify(&dirs, NULL, manifest, on_finding, &c, &result, &err), err);
    KWR_MUST_ERR(kwr_checkpoint_walk(&dirs, NULL, manifest, NULL, NULL, on_entry, &c, &err), err);
    kwr_manifest_free(manifest);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    return c;
}

KWR_TEST(operator, its_files_are_verified_kept_while_needed_and_removed_after) {
    for (uint32_t retain = 1; retain <= 2; retain++) {
        bench *b = bench_open(true);
        b->options.job.retain = retain;
        start(b, 2);
        for (uint32_t i = 0; i < 2; i++)
            add(list_of(count_task(b, i), "a", KWR_OPERATOR_SPLIT), 0, 1000);
        add(list_of(b->s.tasks[0], "source", KWR_OPERATOR_SPLIT), 0, 10);
        for (int i = 0; i < 4; i++) {
            stream_run(&b->s, 1);
            cr_assert(stream_checkpoint(&b->s) > 0, "checkpoint");
            stream_settle(&b->s);
        }
        /* At least two of keyed state and three of operator state; of keyed state also those that
         * are referred to. */
        const size_t files = stream_files(b->storage, "stream", "shared", "");
        const size_t used = stream_files_used(b->storage, b->options.env, "stream");
        cr_assert(used >= retain * 3 + 2 && files == used, "%zu files for %zu", files, used);
        const content c = content_of(b);
        cr_assert(c.findings == 0 && c.elements == 2010, "%zu findings, %llu elements", c.findings,
                  (unsigned long long)c.elements);
        stream_close(&b->s);
        bench_close(b);
    }
}

KWR_TEST(operator, large_lists_are_dealt_out_without_a_loss) {
    enum { MANY = 50000 };
    bench *b = bench_open(true);
    start(b, 3);
    for (uint32_t i = 0; i < 3; i++)
        add(list_of(count_task(b, i), "a", KWR_OPERATOR_SPLIT), (int64_t)i * MANY,
            ((int64_t)i + 1) * MANY);
    stop(b);
    start(b, 4);
    int64_t next = 0;
    for (uint32_t i = 0; i < 4; i++) {
        kwr_list_iterator *iterator = NULL;
        uint64_t count = 0;
        kwr_list *list = list_of(count_task(b, i), "a", KWR_OPERATOR_SPLIT);
        KWR_MUST(kwr_list_count(list, &count));
        cr_assert(count == 3 * MANY / 4, "evenly");
        KWR_MUST(kwr_list_iterate(list, &iterator));
        for (kwr_slice element; kwr_list_iterator_next(iterator, &element) == KWR_OK; next++)
            cr_assert(memcmp(element.data, &next, sizeof next) == 0, "element %lld",
                      (long long)next);
        kwr_list_iterator_free(iterator);
    }
    cr_assert(next == 3 * MANY, "all");
    stream_close(&b->s);
    bench_close(b);
}

static kwr_status remember(kwr_task *task, kwr_slice request) {
    const kwr_list_descriptor descriptor = { .struct_size = sizeof descriptor,
                                             .name = "requests",
                                             .type = { .kind = KWR_TYPE_STRING } };
    kwr_list *requests = NULL;
    const kwr_status status =
        kwr_task_operator_list(task, &descriptor, KWR_OPERATOR_SPLIT, &requests);
    return status < KWR_OK ? status : kwr_list_add(requests, request);
}

KWR_TEST(operator, the_example_of_the_page_works) {
    bench *b = bench_open(false);
    start(b, 2);
    for (uint32_t i = 0; i < 2; i++)
        KWR_MUST(remember(count_task(b, i), kwr_test_slice("GET /")));
    stop(b);
    cr_assert(content_of(b).elements == 2, "in the checkpoint");
    bench_close(b);
}

KWR_TEST(operator, raw_pieces_are_whole_and_shared_out) {
    bench *b = bench_open(false);
    start(b, 1);
    kwr_list *raw = NULL;
    KWR_MUST(kwr_task_operator_raw(count_task(b, 0), "mine", &raw));
    const kwr_slice pieces[] = { kwr_test_slice("first"), { "", 0 }, { "\0third", 6 } };
    KWR_MUST(kwr_list_update(raw, pieces, 3));
    stop(b);
    start(b, 2);
    const size_t sizes[] = { 5, 0, 6 };
    size_t seen = 0;
    for (uint32_t i = 0; i < 2; i++) {
        kwr_list_iterator *iterator = NULL;
        KWR_MUST(kwr_task_operator_raw(count_task(b, i), "mine", &raw));
        KWR_MUST(kwr_list_iterate(raw, &iterator));
        for (kwr_slice piece; kwr_list_iterator_next(iterator, &piece) == KWR_OK; seen++)
            cr_assert(
                seen < 3 && piece.size == sizes[seen] &&
                    (piece.size == 0 || memcmp(piece.data, pieces[seen].data, piece.size) == 0),
                "piece %zu", seen);
        kwr_list_iterator_free(iterator);
    }
    cr_assert(seen == 3, "all");
    stream_close(&b->s);
    bench_close(b);
}

/* ---- a model ---- */

enum { MODEL_MAX = 16, MODEL_LIST = 512 };

typedef struct model_list {
    int64_t items[MODEL_MAX][MODEL_LIST];
    size_t counts[MODEL_MAX];
} model_list;

/* The rule once more, element by element. */
static void model_deal(model_list *m, uint32_t from, uint32_t to, uint32_t *start) {
    static model_list dealt;
    memset(&dealt, 0, sizeof dealt);
    size_t total = 0, taken = 0;
    for (uint32_t i = 0; i < from; i++)
        total += m->counts[i];
    uint32_t donor = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < to; i++) {
        const uint32_t who = (*start + i) % to;
        const size_t share = total / to + (i < total % to ? 1 : 0);
        for (size_t k = 0; k < share; k++, taken++) {
            while (at == m->counts[donor]) {
                donor++;
                at = 0;
            }
            dealt.items[who][dealt.counts[who]++] = m->items[donor][at++];
        }
    }
    cr_assert(taken == total, "the model itself");
    *start = (uint32_t)((*start + total % to) % to);
    *m = dealt;
}

KWR_TEST(operator, random_lists_over_random_restarts_are_what_the_model_says) {
    static const char *const names[] = { "one", "two", "three" };
    static model_list models[3];
    for (uint64_t seed = 1; seed <= 4; seed++) {
        memset(models, 0, sizeof models);
        bench *b = bench_open(seed % 2 == 0);
        uint64_t random = seed;
        uint32_t counts = 0;
        int64_t number = 0;
        for (int attempt = 0; attempt < 12; attempt++) {
            random = random * 6364136223846793005U + 1442695040888963407U;
            const uint32_t now = 1 + (uint32_t)((random >> 33) % MODEL_MAX);
            start(b, now);
            if (counts != 0 && now != counts) {
                uint32_t begin = 0;
                for (int k = 0; k < 3; k++)
                    model_deal(&models[k], counts, now, &begin);
            }
            counts = now;
            for (uint32_t i = 0; i < counts; i++)
                for (int k = 0; k < 3; k++) {
                    kwr_list *list = list_of(count_task(b, i), names[k], KWR_OPERATOR_SPLIT);
                    char got[8192], want[8192] = "";
                    size_t used = 0;
                    text_of(list, got, sizeof got);
                    for (size_t e = 0; e < models[k].counts[i]; e++)
                        used +=
                            (size_t)snprintf(want + used, sizeof want - used, "%s%lld",
                                             e > 0 ? " " : "", (long long)models[k].items[i][e]);
                    cr_assert(strcmp(got, want) == 0,
                              "seed %llu, attempt %d, %s of %u: expected \"%s\", got \"%s\"",
                              (unsigned long long)seed, attempt, names[k], i, want, got);
                    random = random * 6364136223846793005U + 1442695040888963407U;
                    for (uint32_t n = (uint32_t)(random >> 33) % 4; n > 0; n--) {
                        add(list, number, number + 1);
                        models[k].items[i][models[k].counts[i]++] = number++;
                    }
                }
            stop(b);
        }
        bench_close(b);
    }
}
