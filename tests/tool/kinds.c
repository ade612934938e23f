/* SPDX-License-Identifier: Apache-2.0 */
/* kinds ROOT: a job of one task that keeps state of every kind, and one checkpoint of it. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/keyweir.h"

#define MUST(expr)                                                                \
    do {                                                                          \
        const kwr_status must_ = (expr);                                          \
        if (must_ >= KWR_OK) break;                                               \
        fprintf(stderr, "%s: %s: %s\n", #expr, kwr_status_name(must_), err.text); \
        exit(1);                                                                  \
    } while (0)

static kwr_error err;

static kwr_slice text(const char *s) { return (kwr_slice){ s, strlen(s) }; }
static kwr_slice number(const int64_t *n) { return (kwr_slice){ n, sizeof *n }; }

static const int64_t one = 1, two = 2, three = 3;

static void fill_keyed(kwr_backend *backend) {
    const kwr_type i64 = { .kind = KWR_TYPE_I64 };
    kwr_value *value = NULL;
    kwr_list *list = NULL;
    kwr_map *map = NULL;
    kwr_raw *raw = NULL;
    MUST(kwr_value_open(backend,
                        &(kwr_value_descriptor){ .struct_size = sizeof(kwr_value_descriptor),
                                                 .name = "value",
                                                 .type = i64 },
                        &value, &err));
    MUST(kwr_list_open(backend,
                       &(kwr_list_descriptor){ .struct_size = sizeof(kwr_list_descriptor),
                                               .name = "list",
                                               .type = i64 },
                       &list, &err));
    MUST(kwr_map_open(backend,
                      &(kwr_map_descriptor){ .struct_size = sizeof(kwr_map_descriptor),
                                             .name = "map",
                                             .user_key_type = i64,
                                             .type = { .kind = KWR_TYPE_STRING } },
                      &map, &err));
    MUST(kwr_raw_open(
        backend, &(kwr_raw_descriptor){ .struct_size = sizeof(kwr_raw_descriptor), .name = "raw" },
        &raw, &err));
    MUST(kwr_backend_set_key(backend, text("k")));
    MUST(kwr_value_put(value, number(&two)));
    const kwr_slice elements[] = { number(&three), number(&one) };
    MUST(kwr_list_add_all(list, elements, 2));
    uint8_t user_key[8];
    kwr_key_from_i64(-5, user_key);
    MUST(kwr_map_put(map, (kwr_slice){ user_key, sizeof user_key }, text("minus five")));
    MUST(kwr_raw_put(raw, 3, text("bytes")));
    kwr_timers *timers = NULL;
    MUST(kwr_timers_open(
        backend,
        &(kwr_timers_descriptor){ .struct_size = sizeof(kwr_timers_descriptor), .name = "timers" },
        &timers, &err));
    MUST(kwr_timers_register(timers, KWR_EVENT_TIME, 1700000000000));
}

static void fill_operator(kwr_task *task) {
    const kwr_type i64 = { .kind = KWR_TYPE_I64 };
    kwr_list *list = NULL;
    kwr_map *map = NULL;
    MUST(kwr_task_operator_list(task,
                                &(kwr_list_descriptor){ .struct_size = sizeof(kwr_list_descriptor),
                                                        .name = "requests",
                                                        .type = i64 },
                                KWR_OPERATOR_SPLIT, &list));
    const kwr_slice elements[] = { number(&two), number(&three) };
    MUST(kwr_list_add_all(list, elements, 2));
    MUST(kwr_task_operator_map(task,
                               &(kwr_map_descriptor){ .struct_size = sizeof(kwr_map_descriptor),
                                                      .name = "rules",
                                                      .user_key_type = { .kind = KWR_TYPE_STRING },
                                                      .type = i64 },
                               &map));
    MUST(kwr_map_put(map, text("limit"), number(&one)));
}

/* Carries messages until the checkpoint is published. */
static void checkpoint(kwr_job *job, kwr_task *task) {
    MUST(kwr_job_trigger(job));
    for (;;) {
        kwr_job_event event;
        kwr_task_event told = { 0 };
        kwr_slice message = { 0 };
        const kwr_status status = kwr_job_poll(job, &event);
        MUST(status);
        if (status == KWR_OK && event.kind == KWR_JOB_PUBLISHED) return;
        if (status == KWR_OK && (event.kind == KWR_JOB_FAILED || event.kind == KWR_JOB_ABORTED)) {
            fprintf(stderr, "%s\n", event.error.text);
            exit(1);
        }
        if (status == KWR_OK && event.kind == KWR_JOB_SEND) {
            MUST(kwr_task_receive(task, event.message, &told));
            if (told.kind == KWR_TASK_TRIGGER) MUST(kwr_task_checkpoint(task, &told.barrier));
        }
        if (kwr_task_poll(task, &message) == KWR_OK) MUST(kwr_job_receive(job, message));
        sched_yield();
    }
}

int main(int argc, char **argv) {
    kwr_env *env = NULL;
    kwr_storage *storage = NULL;
    kwr_job *job = NULL;
    kwr_task *task = NULL;
    uint32_t number_of = 0;
    if (argc != 2) return 2;
    MUST(kwr_env_posix_open(NULL, &env, &err));
    MUST(kwr_storage_open(env, argv[1], true, &storage, &err));
    const kwr_job_options options = { .struct_size = sizeof options,
                                      .env = env,
                                      .storage = storage,
                                      .name = "kinds",
                                      .max_parallelism = 8 };
    MUST(kwr_job_open(&options, &job, &err));
    MUST(kwr_job_add_task(job, "all", 0, 1, KWR_TASK_SOURCE | KWR_TASK_KEYED, &number_of, &err));
    kwr_task_options task_options = { .struct_size = sizeof task_options,
                                      .env = env,
                                      .storage = storage,
                                      .key_type = { .kind = KWR_TYPE_STRING } };
    MUST(kwr_job_assignment(job, number_of, &task_options.assignment, &err));
    MUST(kwr_task_open(&task_options, &task, &err));
    fill_keyed(kwr_task_backend(task));
    fill_operator(task);
    MUST(kwr_job_start(job, &err));
    checkpoint(job, task);
    kwr_task_close(task);
    kwr_job_close(job);
    kwr_storage_close(storage);
    kwr_env_posix_close(env);
    return 0;
}
