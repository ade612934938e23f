/* SPDX-License-Identifier: Apache-2.0 */
/* A job restarted with other parallelisms: nothing lost, nothing doubled, nothing foreign read. */
#include <stdlib.h>
#include <string.h>

#include "recovery/assignment.h"
#include "task/message.h"
#include "tests/task/stream.h"

typedef struct bench {
    fault_env *faults;
    kwr_storage *storage;
    stream_world world;
    stream_options options;
} bench;

static bench bench_open(void) {
    bench b = { .faults = fault_env_open(kwr_test_env(),
                                         FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED) };
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_storage_memory_open(fault_env_env(b.faults), 0, &b.storage, &err), err);
    b.options = (stream_options){ .env = fault_env_env(b.faults),
                                  .faults = b.faults,
                                  .storage = b.storage,
                                  .total = 60,
                                  .strict = true,
                                  .job = { .tolerate_all = true, .max_parallelism = 16 } };
    return b;
}

static void bench_close(bench *b) {
    stream_world_done(&b->world);
    kwr_storage_close(b->storage);
    fault_env_close(b->faults);
}

static void bench_start(bench *b, stream *s) {
    b->options.world = &b->world;
    stream_must_open(s, &b->options);
}

static uint32_t next_random(uint64_t *state, uint32_t below) {
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)((*state >> 33) % below);
}

/* ---- the whole job ---- */

/* Loses every message of a completion to a sink, so that committables are carried. */
static bool deaf_sinks(void *ctx, stream *s, bool to_job, uint32_t task, kwr_slice message) {
    (void)ctx;
    const bool sink = task >= s->options.sources + s->options.counts;
    return to_job || !sink || stream_message_kind(message) != KWR_MESSAGE_COMPLETE;
}

static void restart_with_any_parallelism(uint64_t seed, bool inline_off) {
    enum { INPUTS = 5 };
    bench b = bench_open();
    stream *s = malloc(sizeof *s);
    uint64_t random = seed;
    b.options.inputs = INPUTS;
    b.options.job.inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 0;
    b.options.value_bytes = 300;
    b.options.operators = 7;
    bool finished = false;
    for (uint32_t attempt = 0; !finished; attempt++) {
        cr_assert(attempt < 60, "it comes to an end");
        b.options.sources = 1 + next_random(&random, 7);
        b.options.counts = 1 + next_random(&random, 16);
        b.options.sinks = 1 + next_random(&random, 4);
        b.options.carry = next_random(&random, 3) == 0 ? deaf_sinks : NULL;
        bench_start(&b, s);
        stream_run(s, 1 + next_random(&random, 4));
        if (next_random(&random, 3) > 0 && s->emit_limit < b.options.total)
            cr_assert(stream_checkpoint(s) > 0, "checkpoint");
        stream_run(s, next_random(&random, 3));
        if (next_random(&random, 3) == 0 && s->emit_limit < b.options.total)
            cr_assert(stream_checkpoint(s) > 0, "checkpoint");
        stream_world_expect_no_double(&b.world, "on the way");
        finished = s->finished && b.options.carry == NULL;
        stream_close(s);
    }
    stream_world_expect_of(&b.world, INPUTS, b.options.total, "at the end");
    free(s);
    bench_close(&b);
}

KWR_TEST(rescale, loses_and_doubles_nothing_whatever_the_parallelism_of_each_attempt) {
    for (uint64_t seed = 1; seed <= 6; seed++)
        restart_with_any_parallelism(seed, seed % 2 == 0);
}

KWR_TEST(rescale, a_source_without_inputs_lets_the_job_run_and_end) {
    bench b = bench_open();
    stream *s = malloc(sizeof *s);
    bench_start(&b, s);
    stream_run(s, 9);
    cr_assert(stream_checkpoint(s) > 0, "checkpoint");
    stream_close(s);
    b.options.sources = 4;
    bench_start(&b, s);
    cr_assert(s->readers[0] == 0 && s->readers[1] == 1, "dealt out from the first subtask on");
    cr_assert(kwr_task_split_count(s->tasks[2]) == 0 && kwr_task_split_count(s->tasks[3]) == 0,
              "nothing left");
    stream_run(s, 9);
    cr_assert(stream_checkpoint(s) > 0, "checkpoint");
    stream_close(s);
    b.options.sources = 1;
    bench_start(&b, s);
    cr_assert(kwr_task_split_count(s->tasks[0]) == 2, "both");
    stream_finish(s);
    stream_close(s);
    stream_world_expect(&b.world, b.options.total, "at the end");
    free(s);
    bench_close(&b);
}

KWR_TEST(rescale, what_no_sink_has_committed_is_committed_by_other_sinks) {
    bench b = bench_open();
    stream *s = malloc(sizeof *s);
    b.options.sinks = 4;
    b.options.carry = deaf_sinks;
    bench_start(&b, s);
    for (int i = 0; i < 3; i++) {
        stream_run(s, 4);
        cr_assert(stream_checkpoint(s) > 0, "checkpoint");
    }
    cr_assert(b.world.out.count == 0, "nobody has committed");
    stream_close(s);
    const uint32_t numbers[] = { 3, 1, 9 };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        b.options.sinks = numbers[i];
        bench_start(&b, s);
        stream_world_expect(&b.world, 12, "committed by the restore");
        stream_close(s);
    }
    free(s);
    bench_close(&b);
}

KWR_TEST(rescale, an_automatic_max_parallelism_takes_the_stored_one) {
    bench b = bench_open();
    stream *s = malloc(sizeof *s);
    bench_start(&b, s);
    stream_run(s, 9);
    cr_assert(stream_checkpoint(s) > 0, "checkpoint");
    stream_close(s);
    b.options.job.max_parallelism = 0;
    b.options.counts = 16;
    bench_start(&b, s);
    cr_assert(s->info.max_parallelism == 16, "adopted, not the default");
    stream_finish(s);
    stream_close(s);
    stream_world_expect(&b.world, b.options.total, "at the end");
    free(s);
    bench_close(&b);
}

/* ---- unclaimed state ---- */

static unsigned given_up;
static char given_up_text[512];

static void log_line(void *ctx, kwr_log_level level, const char *component, const char *text) {
    (void)ctx;
    (void)component;
    if (level != KWR_LOG_WARNING || strstr(text, "given up") == NULL) return;
    given_up++;
    snprintf(given_up_text, sizeof given_up_text, "%s", text);
}

KWR_TEST(rescale, state_that_nobody_claims_is_given_up_only_when_allowed_and_said_so) {
    bench b = bench_open();
    stream *s = malloc(sizeof *s);
    bench_start(&b, s);
    stream_run(s, 9);
    cr_assert(stream_checkpoint(s) > 0, "checkpoint");
    stream_close(s);
    kwr_env env = *b.options.env;
    const kwr_observer observer = { .struct_size = sizeof observer, .log = log_line };
    env.observer = &observer;
    for (int allowed = 0; allowed < 2; allowed++) {
        const kwr_job_options options = { .struct_size = sizeof options,
                                          .env = &env,
                                          .storage = b.storage,
                                          .name = "stream",
                                          .allow_unclaimed = allowed == 1 };
        kwr_job *job = NULL;
        kwr_error err = { 0 };
        uint32_t number = 0;
        kwr_slice assignment = { 0 };
        KWR_MUST_ERR(kwr_job_open(&options, &job, &err), err);
        KWR_MUST_ERR(kwr_job_add_task(job, "source", 0, 1, KWR_TASK_SOURCE, &number, &err), err);
        const kwr_status expected = allowed == 1 ? KWR_OK : KWR_ERR_REFUSED;
        KWR_EXPECT_ERR(expected, kwr_job_assignment(job, 0, &assignment, &err), err);
        KWR_EXPECT_ERR(expected, kwr_job_start(job, &err), err);
        if (allowed == 0)
            cr_assert(strstr(err.text, "'count', 'sink'") && strstr(err.text, "allow_unclaimed"),
                      "%s", err.text);
        kwr_job_close(job);
    }
    cr_assert(given_up == 1 && strstr(given_up_text, "'count', 'sink'") != NULL, "%u: %s", given_up,
              given_up_text);
    free(s);
    bench_close(&b);
}

/* ---- what is read ---- */

static kwr_storage_ops counting_ops;
static const kwr_storage_ops *counted_ops;
static uint64_t bytes_read;

static kwr_status count_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                             void *data, size_t size, kwr_error *err) {
    __atomic_add_fetch(&bytes_read, size, __ATOMIC_RELAXED);
    return counted_ops->read(storage, reader, offset, data, size, err);
}

static void count_reads(kwr_storage *storage) {
    counted_ops = storage->ops;
    counting_ops = *counted_ops;
    counting_ops.read = count_read;
    storage->ops = &counting_ops;
}

enum { BIG_KEYS = 20000, BIG_BYTES = 60 };

static void put_keys(stream *s) {
    for (uint32_t key = STREAM_KEYS; key < BIG_KEYS; key++) {
        const uint32_t group =
            kwr_key_group(KWR_SLICE_OF(key), s->info.seed, s->info.max_parallelism);
        const uint32_t task = s->options.sources + kwr_key_group_owner(group, s->options.counts,
                                                                       s->info.max_parallelism);
        kwr_backend *backend = kwr_task_backend(s->tasks[task]);
        void *bytes = NULL;
        KWR_MUST(kwr_backend_set_key(backend, KWR_SLICE_OF(key)));
        KWR_MUST(kwr_value_modify(s->values[task], BIG_BYTES, &bytes, NULL));
        uint64_t x = key; /* incompressible: pages are as large as they say */
        for (uint32_t i = 0; i < BIG_BYTES; i++)
            ((uint8_t *)bytes)[i] =
                (uint8_t)((x = x * 6364136223846793005U + 1442695040888963407U) >> 56);
    }
}

static uint64_t entries_of(stream *s) {
    uint64_t entries = 0;
    for (uint32_t i = 0; i < s->options.counts; i++) {
        kwr_backend_stats stats = { .struct_size = sizeof stats };
        kwr_backend_get_stats(kwr_task_backend(s->tasks[s->options.sources + i]), &stats);
        entries += stats.entries;
    }
    return entries;
}

/* What the plan says of the newest checkpoint restored with `counts` tasks. */
static kwr_share_bytes planned(bench *b, uint32_t counts) {
    kwr_job_dirs dirs = { 0 };
    kwr_log log = { 0 };
    kwr_manifest *manifest = NULL;
    kwr_error err = { 0 };
    const kwr_share *shares = NULL;
    kwr_share_bytes bytes[STREAM_EACH_MAX], sum = { 0 };
    kwr_arena *arena = kwr_arena_new(b->options.env, 0);
    KWR_MUST_ERR(kwr_job_dirs_open(b->options.env, b->storage, "stream", false, &dirs, &err), err);
    KWR_MUST_ERR(kwr_log_read(&dirs, NULL, &log, &err), err);
    KWR_MUST_ERR(kwr_checkpoint_open(&dirs, NULL, kwr_log_newest(&log, NULL), &manifest, &err),
                 err);
    for (size_t o = 0; o < manifest->operator_count; o++) {
        const kwr_manifest_operator *op = &manifest->operators[o];
        if ((op->roles & KWR_TASK_KEYED) == 0) continue;
        KWR_MUST_ERR(kwr_assign(op, counts, arena, &shares, &err), err);
        KWR_MUST_ERR(kwr_assign_bytes(&dirs, NULL, manifest, op, shares, counts, bytes, &err), err);
        for (uint32_t i = 0; i < counts; i++) {
            sum.entries += bytes[i].entries;
            sum.owned += bytes[i].owned;
            sum.read += bytes[i].read;
        }
    }
    kwr_arena_free(arena);
    kwr_manifest_free(manifest);
    kwr_log_free(&log);
    kwr_job_dirs_close(&dirs);
    return sum;
}

/* Restores the newest checkpoint with `counts` tasks: what is read is what the plan says, and
 * little more than the tasks own. */
static void measure(bench *b, uint32_t counts) {
    stream *s = malloc(sizeof *s);
    const kwr_share_bytes plan = planned(b, counts);
    kwr_error err = { 0 };
    kwr_job *job = NULL;
    const kwr_job_options alone = {
        .struct_size = sizeof alone, .env = b->options.env, .storage = b->storage, .name = "stream"
    };
    uint64_t before = bytes_read;
    KWR_MUST_ERR(kwr_job_open(&alone, &job, &err), err);
    kwr_job_close(job);
    const uint64_t claim = bytes_read - before; /* log and manifest, read once whatever follows */
    b->options.counts = counts;
    before = bytes_read;
    bench_start(b, s);
    const uint64_t read = bytes_read - before;
    cr_assert(entries_of(s) == (uint64_t)BIG_KEYS + STREAM_KEYS && plan.entries == entries_of(s),
              "%llu entries", (unsigned long long)entries_of(s));
    stream_close(s);
    free(s);
    printf("3 -> %u tasks: %llu bytes owned, %llu read, of these %llu of log and manifest\n",
           counts, (unsigned long long)plan.owned, (unsigned long long)read,
           (unsigned long long)(read - plan.read));
    cr_assert(read >= plan.read + claim && read < plan.read + 2 * claim, "as planned: %llu",
              (unsigned long long)plan.read);
    cr_assert((double)read <= 1.1 * (double)plan.owned, "%u tasks: %llu bytes read, %llu owned",
              counts, (unsigned long long)read, (unsigned long long)plan.owned);
}

KWR_TEST(rescale, reads_what_the_new_subtasks_own_and_nothing_foreign) {
    for (uint32_t inline_off = 0; inline_off < 2; inline_off++) {
        bench b = bench_open();
        stream *s = malloc(sizeof *s);
        b.options.job.max_parallelism = 128;
        b.options.job.retain = 1;
        b.options.counts = 3;
        b.options.value_bytes = BIG_BYTES;
        b.options.job.inline_bytes = inline_off ? KWR_JOB_OPTIONS_INLINE_OFF : 16 << 20;
        count_reads(b.storage);
        bench_start(&b, s);
        put_keys(s);
        stream_run(s, 9);
        cr_assert(stream_checkpoint(s) > 0, "checkpoint");
        stream_close(s);
        cr_assert((stream_files(b.storage, "stream", "shared", "") == 0) == !inline_off, "where");

        const uint32_t numbers[] = { 1, 2, 3, 4, 7, 16 };
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
            measure(&b, numbers[i]);
        b.storage->ops = counted_ops;
        free(s);
        bench_close(&b);
    }
}
