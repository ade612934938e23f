/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest engine on keyweir: one source emits the numbers below a million, two keyed tasks
 * count them by their last digit. Kill it at any time and start it again: no number is lost or
 * counted twice. docs/embedding.md walks through it.
 *
 *   embedding DIR [--die-after N]    checkpoints go to DIR; N: end by SIGKILL, to try it out
 */
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <keyweir/keyweir.h>

enum { SOURCE, COUNTER_0, COUNTER_1, TASKS, COUNTERS = 2, NUMBERS = 1000000, BATCH = 1000 };

typedef struct engine {
    kwr_job *job;
    kwr_job_info info;
    kwr_task *tasks[TASKS];
    kwr_reducing *counts[TASKS];
    uint64_t next; /* number to emit: all the source has to remember */
    uint64_t completed;
    bool finished;
    sem_t awake;
} engine;

static void must(kwr_status status, const kwr_error *err) {
    if (status >= KWR_OK) return;
    fprintf(stderr, "embedding: %s: %s\n", kwr_status_name(status), err->text);
    exit(1);
}

/* The exchange: which counter owns a key. */
static int counter_of(const engine *e, uint8_t digit) {
    const uint32_t groups = e->info.max_parallelism;
    const uint32_t group = kwr_key_group((kwr_slice){ &digit, 1 }, e->info.seed, groups);
    return COUNTER_0 + (int)kwr_key_group_owner(group, COUNTERS, groups);
}

static void emit(engine *e, uint64_t number) {
    const uint8_t digit = (uint8_t)(number % 10);
    const int at = counter_of(e, digit);
    const int64_t one = 1; /* values are little-endian, as this machine is */
    kwr_backend *backend = kwr_task_backend(e->tasks[at]);
    must(kwr_backend_set_key(backend, (kwr_slice){ &digit, 1 }), kwr_backend_error(backend));
    must(kwr_reducing_add(e->counts[at], (kwr_slice){ &one, sizeof one }, NULL),
         kwr_backend_error(backend));
}

/* A failed part is no failure of the engine: the job hears of it and tries again later. */
static void part(kwr_task *task, const kwr_barrier *barrier) {
    if (kwr_task_checkpoint(task, barrier) < KWR_OK)
        fprintf(stderr, "embedding: %s\n", kwr_task_error(task)->text);
}

/* The source emits a barrier: behind it, on every channel, come the numbers from `next` on. */
static void emit_barrier(engine *e, const kwr_barrier *barrier) {
    const kwr_split split = { .id = { "numbers", 7 }, .position = { &e->next, sizeof e->next } };
    must(kwr_task_set_split(e->tasks[SOURCE], &split), kwr_task_error(e->tasks[SOURCE]));
    part(e->tasks[SOURCE], barrier);
    for (int i = COUNTER_0; i < TASKS; i++) {
        kwr_alignment now = { 0 };
        must(kwr_task_barrier(e->tasks[i], 0, barrier, &now), kwr_task_error(e->tasks[i]));
        if (now.snapshot) part(e->tasks[i], &now.barrier); /* with one channel: always */
    }
}

static void deliver(engine *e, int to, kwr_slice message) {
    kwr_task_event event = { 0 };
    must(kwr_task_receive(e->tasks[to], message, &event), kwr_task_error(e->tasks[to]));
    if (event.kind == KWR_TASK_TRIGGER) emit_barrier(e, &event.barrier);
    /* KWR_TASK_COMPLETE is where a sink would commit its output. */
}

static void on_event(engine *e, const kwr_job_event *event) {
    switch (event->kind) {
    case KWR_JOB_SEND:
        for (int i = 0; i < TASKS; i++)
            if (event->task == KWR_ALL_TASKS || event->task == (uint32_t)i)
                deliver(e, i, event->message);
        break;
    case KWR_JOB_PUBLISHED: e->completed = event->checkpoint; break;
    case KWR_JOB_ABORTED: fprintf(stderr, "embedding: %s\n", event->error.text); break;
    case KWR_JOB_FINISHED: e->finished = true; break;
    case KWR_JOB_FAILED: must(event->error.status, &event->error); break;
    case KWR_JOB_TRIGGERED:
    case KWR_JOB_PUBLISHING: break;
    }
}

/* Carries messages between the job and its tasks until there are none. */
static void carry_messages(engine *e) {
    kwr_job_event event;
    kwr_slice message;
    for (bool some = true; some;) {
        some = false;
        for (; kwr_job_poll(e->job, &event) == KWR_OK; some = true)
            on_event(e, &event);
        for (int i = 0; i < TASKS; i++)
            for (; kwr_task_poll(e->tasks[i], &message) == KWR_OK; some = true)
                must(kwr_job_receive(e->job, message), &(kwr_error){ .text = "a bad message" });
    }
}

static void wake(void *ctx) { sem_post(&((engine *)ctx)->awake); }

/* Background work wakes us; the job may also have something to do by itself, such as a retry. */
static void wait_a_moment(engine *e) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 10000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    while (sem_timedwait(&e->awake, &until) != 0 && errno == EINTR) {
    }
}

static void open_tasks(engine *e, const kwr_env *env, kwr_storage *storage) {
    kwr_error err = { 0 };
    uint32_t number;
    must(kwr_job_add_task(e->job, "source", 0, 1, KWR_TASK_SOURCE, &number, &err), &err);
    for (uint32_t i = 0; i < COUNTERS; i++) /* numbered in this order: SOURCE, COUNTER_0, ... */
        must(kwr_job_add_task(e->job, "count", i, COUNTERS, KWR_TASK_KEYED, &number, &err), &err);
    for (int i = 0; i < TASKS; i++) {
        kwr_task_options options = { .struct_size = sizeof options,
                                     .env = env,
                                     .storage = storage,
                                     .channels = i == SOURCE ? 0 : 1,
                                     .wake = wake,
                                     .wake_ctx = e };
        must(kwr_job_assignment(e->job, (uint32_t)i, &options.assignment, &err), &err);
        must(kwr_task_open(&options, &e->tasks[i], &err), &err);
        if (i == SOURCE) continue;
        const kwr_reducing_descriptor count = { .struct_size = sizeof count,
                                                .name = "count",
                                                .type = { .kind = KWR_TYPE_I64 },
                                                .reduce = KWR_REDUCE_SUM };
        must(kwr_reducing_open(kwr_task_backend(e->tasks[i]), &count, &e->counts[i], &err), &err);
    }
    kwr_split split; /* there is one when a checkpoint was restored */
    if (kwr_task_split_count(e->tasks[SOURCE]) == 0) return;
    must(kwr_task_split(e->tasks[SOURCE], 0, &split), kwr_task_error(e->tasks[SOURCE]));
    memcpy(&e->next, split.position.data, sizeof e->next);
}

static void run(engine *e, uint64_t die_after) {
    for (bool ended = false; !e->finished; carry_messages(e)) {
        const uint64_t end = e->next + BATCH < NUMBERS ? e->next + BATCH : NUMBERS;
        if (e->next >= die_after && e->completed > 0) raise(SIGKILL);
        if (e->next < end && e->next < die_after) {
            while (e->next < end)
                emit(e, e->next++);
        } else if (e->next == NUMBERS && !ended) {
            must(kwr_task_source_ended(e->tasks[SOURCE]), kwr_task_error(e->tasks[SOURCE]));
            ended = true;
        } else {
            wait_a_moment(e);
        }
    }
}

static void print_counts(engine *e) {
    for (uint8_t digit = 0; digit < 10; digit++) {
        const int at = counter_of(e, digit);
        kwr_backend *backend = kwr_task_backend(e->tasks[at]);
        kwr_slice stored = { 0 };
        int64_t count = 0;
        must(kwr_backend_set_key(backend, (kwr_slice){ &digit, 1 }), kwr_backend_error(backend));
        must(kwr_reducing_get(e->counts[at], &stored), kwr_backend_error(backend));
        memcpy(&count, stored.data, stored.size);
        printf("%u\t%" PRId64 "\n", digit, count);
    }
}

int main(int argc, char **argv) {
    const bool dies = argc == 4 && strcmp(argv[2], "--die-after") == 0;
    if (argc != 2 && !dies) return fprintf(stderr, "embedding DIR [--die-after N]\n"), 2;
    engine e = { .info = { .struct_size = sizeof e.info } };
    kwr_error err = { 0 };
    kwr_env *env = NULL;
    kwr_storage *storage = NULL;
    sem_init(&e.awake, 0, 0);
    must(kwr_env_posix_open(NULL, &env, &err), &err);
    must(kwr_storage_open(env, argv[1], true, &storage, &err), &err);
    const kwr_job_options options = { .struct_size = sizeof options,
                                      .env = env,
                                      .storage = storage,
                                      .name = "digits",
                                      .interval_ms = 20,
                                      .tolerate_all = true,
                                      .wake = wake,
                                      .wake_ctx = &e };
    must(kwr_job_open(&options, &e.job, &err), &err);
    kwr_job_get_info(e.job, &e.info);
    open_tasks(&e, env, storage);
    must(kwr_job_start(e.job, &err), &err);
    fprintf(stderr, "from checkpoint %" PRIu64 ", number %" PRIu64 "\n", e.info.restored_checkpoint,
            e.next);
    run(&e, dies ? strtoull(argv[3], NULL, 10) : UINT64_MAX);
    print_counts(&e);
    for (int i = 0; i < TASKS; i++)
        kwr_task_close(e.tasks[i]);
    kwr_job_close(e.job);
    kwr_storage_close(storage);
    kwr_env_posix_close(env);
    sem_destroy(&e.awake);
    return 0;
}
