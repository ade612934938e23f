/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's side: wiring, and the loop that carries messages between job and tasks. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "examples/engine/engine_internal.h"
#include "examples/engine/error.h"

enum { CHANNEL_DEPTH_DEFAULT = 8 };

kwr_status eng_engine_new(const eng_options *options, eng_engine **out, kwr_error *err) {
    eng_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) return eng_no_memory(err, "the engine");
    engine->options = *options;
    if (engine->options.channel_depth == 0) engine->options.channel_depth = CHANNEL_DEPTH_DEFAULT;
    pthread_mutex_init(&engine->mutex, NULL);
    const kwr_status status = eng_gate_new(0, 1, &engine->gate, err);
    if (status < KWR_OK) {
        eng_engine_free(engine);
        return status;
    }
    *out = engine;
    return KWR_OK;
}

static void task_free(eng_task *task) {
    kwr_task_close(task->task);
    eng_exchange_done(&task->exchange);
    eng_gate_free(task->gate);
    free(task->operator_id);
    free(task);
}

void eng_engine_close(eng_engine *engine) {
    if (engine == NULL) return;
    for (uint32_t i = 0; i < engine->task_count; i++)
        task_free(engine->tasks[i]);
    free(engine->tasks);
    engine->tasks = NULL;
    engine->task_count = 0;
}

void eng_engine_free(eng_engine *engine) {
    if (engine == NULL) return;
    eng_engine_close(engine);
    eng_gate_free(engine->gate);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}

void eng_engine_wake(void *engine) { eng_gate_wake(((eng_engine *)engine)->gate); }

void eng_engine_set_job(eng_engine *engine, kwr_job *job) { engine->job = job; }

static kwr_status task_init(eng_engine *engine, const eng_task_options *options, eng_task *task,
                            kwr_error *err) {
    task->engine = engine;
    task->subtask = options->subtask;
    task->inputs = options->inputs;
    task->roles = options->roles;
    task->key_type = options->key_type;
    task->ops = options->ops;
    task->operator_id = strdup(options->operator_id);
    if (task->operator_id == NULL) return eng_no_memory(err, "a task");
    ENG_TRY(eng_exchange_init(&task->exchange, options->outputs, err));
    kwr_job_info info = { .struct_size = sizeof info };
    kwr_job_get_info(engine->job, &info);
    task->exchange.seed = info.seed;
    task->exchange.max_parallelism = info.max_parallelism;
    ENG_TRY(eng_gate_new(options->inputs, engine->options.channel_depth, &task->gate, err));
    return kwr_job_add_task(engine->job, options->operator_id, options->subtask,
                            options->parallelism, options->roles, &task->number, err);
}

kwr_status eng_engine_add(eng_engine *engine, const eng_task_options *options, eng_task **out,
                          kwr_error *err) {
    eng_task **grown =
        realloc(engine->tasks, (engine->task_count + (size_t)1) * sizeof(eng_task *));
    if (grown == NULL) return eng_no_memory(err, "a task");
    engine->tasks = grown;
    eng_task *task = calloc(1, sizeof *task);
    if (task == NULL) return eng_no_memory(err, "a task");
    const kwr_status status = task_init(engine, options, task, err);
    if (status < KWR_OK) {
        task_free(task);
        return status;
    }
    engine->tasks[engine->task_count++] = task;
    *out = task;
    return KWR_OK;
}

void eng_engine_connect(eng_task *from, uint32_t output, eng_task *to, uint32_t channel) {
    from->exchange.outputs[output] = (eng_output){ .gate = to->gate, .channel = channel };
}

static void wake_task(void *ctx) { eng_gate_wake(((eng_task *)ctx)->gate); }

static kwr_status task_open(eng_task *task, kwr_error *err) {
    const eng_options *engine = &task->engine->options;
    kwr_task_options options = {
        .struct_size = sizeof options,
        .env = engine->env,
        .resources = engine->resources,
        .storage = engine->storage,
        .channels = task->inputs,
        .engine = engine->backend,
        .state_directory = engine->state_directory,
        .loading = engine->loading,
        .key_type = task->key_type,
        .wake = wake_task,
        .wake_ctx = task,
    };
    ENG_TRY(kwr_job_assignment(task->engine->job, task->number, &options.assignment, err));
    return kwr_task_open(&options, &task->task, err);
}

kwr_status eng_engine_open(eng_engine *engine, kwr_error *err) {
    for (uint32_t i = 0; i < engine->task_count; i++)
        ENG_TRY(task_open(engine->tasks[i], err));
    for (uint32_t i = 0; i < engine->task_count; i++) {
        eng_task *task = engine->tasks[i];
        if (task->ops.open == NULL) continue;
        ENG_TRY(task->ops.open(task->ops.ctx, task, err));
    }
    return KWR_OK;
}

kwr_task *eng_task_keyweir(eng_task *task) { return task->task; }
eng_exchange *eng_task_exchange(eng_task *task) { return &task->exchange; }

uint64_t eng_now(const eng_engine *engine) {
    const kwr_clock *clock = engine->options.env->clock;
    return clock->mono_ns(clock->ctx);
}

void eng_engine_fail(eng_engine *engine, const kwr_error *why) {
    pthread_mutex_lock(&engine->mutex);
    if (!engine->failed) engine->error = *why;
    engine->failed = true;
    pthread_mutex_unlock(&engine->mutex);
    eng_gate_wake(engine->gate);
}

void eng_engine_stop(eng_engine *engine) {
    /* Without memory for a message there is none for a checkpoint either. */
    if (eng_gate_post(engine->gate, ENG_MAIL_STOP, 0, 0, (kwr_slice){ NULL, 0 }) < KWR_OK) {
        kwr_error error;
        eng_no_memory(&error, "stopping");
        eng_engine_fail(engine, &error);
    }
}

static bool has_failed(eng_engine *engine, kwr_error *err) {
    pthread_mutex_lock(&engine->mutex);
    const bool failed = engine->failed;
    if (failed && err != NULL) *err = engine->error;
    pthread_mutex_unlock(&engine->mutex);
    return failed;
}

static kwr_status deliver(eng_engine *engine, const kwr_job_event *event, kwr_error *err) {
    for (uint32_t i = 0; i < engine->task_count; i++) {
        eng_task *task = engine->tasks[i];
        if (event->task != KWR_ALL_TASKS && event->task != task->number) continue;
        if (eng_gate_post(task->gate, ENG_MAIL_JOB, 0, 0, event->message) < KWR_OK) {
            return eng_no_memory(err, "a message");
        }
    }
    return KWR_OK;
}

/* The job is done: the sources end their channels, and the ends travel down behind everything. */
static kwr_status drain(eng_engine *engine, kwr_error *err) {
    for (uint32_t i = 0; i < engine->task_count; i++) {
        eng_task *task = engine->tasks[i];
        if (task->inputs > 0) continue;
        if (eng_gate_post(task->gate, ENG_MAIL_DRAIN, 0, 0, (kwr_slice){ NULL, 0 }) < KWR_OK) {
            return eng_no_memory(err, "a message");
        }
    }
    return KWR_OK;
}

static kwr_status poll_job(eng_engine *engine, kwr_error *err) {
    for (;;) {
        kwr_job_event event;
        const kwr_status status = kwr_job_poll(engine->job, &event);
        if (status == KWR_NOT_FOUND) return KWR_OK;
        if (status < KWR_OK) return eng_fail(err, status, 0, "polling the job failed");
        if (event.kind == KWR_JOB_SEND) {
            ENG_TRY(deliver(engine, &event, err));
            continue;
        }
        if (engine->options.event != NULL) engine->options.event(engine->options.ctx, &event);
        if (event.kind == KWR_JOB_FAILED) {
            *err = event.error;
            return event.error.status < KWR_OK ? event.error.status : KWR_ERR_POISONED;
        }
        if (event.kind == KWR_JOB_FINISHED) ENG_TRY(drain(engine, err));
    }
}

static kwr_status read_mail(eng_engine *engine, bool *got, kwr_error *err) {
    eng_message *message = eng_gate_message(engine->gate);
    *got = message != NULL;
    if (message == NULL) return KWR_OK;
    kwr_status status = KWR_OK;
    switch (message->kind) {
    case ENG_MAIL_TASK:
        status = kwr_job_receive(engine->job, (kwr_slice){ message->data, message->size });
        if (status < KWR_OK) eng_fail(err, status, 0, "a message to the job was not taken");
        break;
    case ENG_MAIL_STOP:
        status = kwr_job_stop(engine->job);
        if (status < KWR_OK) eng_fail(err, status, 0, "the job cannot be stopped");
        break;
    case ENG_MAIL_EXITED: engine->exited++; break;
    default: break;
    }
    free(message);
    return status;
}

static uint64_t wait_ns(eng_engine *engine) {
    const uint64_t now = eng_now(engine);
    uint64_t until = kwr_job_deadline(engine->job);
    if (engine->options.tick != NULL && engine->options.tick_ns != 0) {
        if (now >= engine->next_tick_ns) {
            engine->options.tick(engine->options.ctx);
            engine->next_tick_ns = now + engine->options.tick_ns;
        }
        if (engine->next_tick_ns < until) until = engine->next_tick_ns;
    }
    if (until == UINT64_MAX) return UINT64_MAX;
    return until > now ? until - now : 0;
}

static kwr_status coordinate(eng_engine *engine, kwr_error *err) {
    ENG_TRY(kwr_job_start(engine->job, err));
    while (engine->exited < engine->task_count) {
        if (has_failed(engine, err)) return err->status;
        ENG_TRY(poll_job(engine, err));
        bool got = false;
        ENG_TRY(read_mail(engine, &got, err));
        if (!got) ENG_TRY(eng_gate_wait(engine->gate, wait_ns(engine)));
    }
    return has_failed(engine, err) ? err->status : KWR_OK;
}

/* Task threads leave signals to whoever runs the engine. */
static kwr_status start_threads(eng_engine *engine, kwr_error *err) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (uint32_t i = 0; i < engine->task_count && rc == 0; i++) {
        eng_task *task = engine->tasks[i];
        rc = pthread_create(&task->thread, NULL, eng_task_main, task);
        task->started = rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) return eng_fail(err, KWR_ERR_IO, rc, "starting a thread for a task");
    return KWR_OK;
}

static void join_threads(eng_engine *engine, bool close) {
    for (uint32_t i = 0; close && i < engine->task_count; i++) {
        eng_gate_close(engine->tasks[i]->gate);
    }
    for (uint32_t i = 0; i < engine->task_count; i++) {
        if (engine->tasks[i]->started) pthread_join(engine->tasks[i]->thread, NULL);
        engine->tasks[i]->started = false;
    }
}

kwr_status eng_engine_run(eng_engine *engine, kwr_error *err) {
    kwr_error local;
    if (err == NULL) err = &local;
    kwr_status status = start_threads(engine, err);
    if (status == KWR_OK) status = coordinate(engine, err);
    /* A failure that ends the run may be a task's, seen only while another one was reported. */
    if (status < KWR_OK) kwr_job_fail(engine->job, err);
    join_threads(engine, status < KWR_OK);
    return status;
}
