/* SPDX-License-Identifier: Apache-2.0 */
/* The reference engine's file sink, driven without its threads. */
#include "tests/sim/sink.h"

#include "base/memory.h"
#include "base/planted.h"
#include "examples/engine/sink_file.h"

struct sim_sink {
    const kwr_env *env;
    kwr_task *task;
    eng_output_dir output;
    eng_sink *sink;
    uint64_t generation;
};

void sim_sink_close(sim_sink *s) {
    if (s == NULL) return;
    eng_sink_free(s->sink);
    eng_output_close(&s->output);
    kwr_free(s->env, s, sizeof *s);
}

kwr_status sim_sink_open(const kwr_env *env, kwr_task *task, unsigned subtask, sim_sink **out,
                         kwr_error *err) {
    sim_sink *s = kwr_calloc(env, sizeof *s);
    if (s == NULL) return KWR_ERR_NOMEM;
    s->env = env;
    s->task = task;
    s->generation = kwr_task_generation(task);
    kwr_status status = eng_output_open(env, "/out", &s->output, err);
    const eng_sink_options options = { .output = &s->output,
                                       .job = "sim",
                                       .subtask = subtask,
                                       .generation = s->generation,
                                       .next_checkpoint = kwr_task_restored(task) + 1 };
    if (status >= KWR_OK) status = eng_sink_new(&options, &s->sink, err);
    if (status >= KWR_OK) status = eng_sink_commit(s->sink, task, UINT64_MAX, err);
    if (status < KWR_OK) {
        sim_sink_close(s);
        return status;
    }
    *out = s;
    return KWR_OK;
}

kwr_status sim_sink_sweep(sim_sink *s, kwr_error *err) {
    uint64_t count;
    return eng_output_sweep(&s->output, "sim", s->generation, &count, err);
}

kwr_status sim_sink_write(sim_sink *s, const char *data, size_t size, kwr_error *err) {
    return eng_sink_write(s->sink, data, size, err);
}

kwr_status sim_sink_pre_commit(sim_sink *s, uint64_t checkpoint, kwr_error *err) {
    eng_committable committable;
    char token[ENG_TOKEN_TEXT];
    kwr_status status = eng_sink_precommit(s->sink, checkpoint, &committable, err);
    if (status != KWR_OK) return status < KWR_OK ? status : KWR_OK; /* nothing was written */
    const size_t size = eng_token_text(&committable, token);
    status = kwr_task_add_committable(s->task, checkpoint, (kwr_slice){ token, size });
    if (status < KWR_OK) {
        if (err != NULL) *err = *kwr_task_error(s->task);
        return status;
    }
    eng_sink_sealed(s->sink);
    return KWR_OK;
}

kwr_status sim_sink_commit(sim_sink *s, uint64_t checkpoint, kwr_error *err) {
    if (KWR_PLANTED(all_output_committed)) checkpoint = UINT64_MAX;
    return eng_sink_commit(s->sink, s->task, checkpoint, err);
}
