/* SPDX-License-Identifier: Apache-2.0 */
/* The sink as an operator: committables into checkpoints, commits when they are completed. */
#include <inttypes.h>
#include <stdio.h>

#include "examples/engine/error.h"
#include "examples/engine/sink_internal.h"

enum { COMMIT_TRIES = 3 };

/* Commits those of `*of`, sets `*of` to the next checkpoint that has some, 0 for none. */
static kwr_status commit_of(eng_sink *sink, kwr_task *task, uint64_t *of, kwr_error *err) {
    const size_t count = kwr_task_committable_count(task);
    uint64_t next = 0;
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t checkpoint = 0;
        kwr_slice token;
        eng_committable committable;
        const kwr_status status = kwr_task_committable(task, i, &checkpoint, &token);
        if (status < KWR_OK) {
            return eng_pass(err, status, kwr_task_error(task), "reading a committable");
        }
        if (checkpoint > *of && (next == 0 || checkpoint < next)) next = checkpoint;
        if (checkpoint != *of) continue;
        ENG_TRY(eng_token_parse(token, &committable, err));
        ENG_TRY(eng_output_commit(sink->options.output, &committable, err));
        done++;
    }
    *of = next;
    return done > 0 ? eng_output_sync(sink->options.output, err) : KWR_OK;
}

/* One checkpoint durable before the next is touched: after a power loss no output may stand there
 * without what came before it. */
static kwr_status commit_all(eng_sink *sink, kwr_task *task, uint64_t checkpoint, kwr_error *err) {
    uint64_t of = 0;
    do {
        ENG_TRY(commit_of(sink, task, &of, err));
    } while (of != 0 && of <= checkpoint);
    return KWR_OK;
}

kwr_status eng_sink_commit(eng_sink *sink, kwr_task *task, uint64_t checkpoint, kwr_error *err) {
    ENG_TRY(commit_all(sink, task, checkpoint, err));
    const kwr_status status = kwr_task_committed(task, checkpoint);
    if (status < KWR_OK) {
        return eng_pass(err, status, kwr_task_error(task), "noting a commit");
    }
    return KWR_OK;
}

/* ---- the operator ---- */

static kwr_status sink_open(void *ctx, eng_task *task, kwr_error *err) {
    eng_sink *sink = ctx;
    kwr_task *keyweir = eng_task_keyweir(task);
    if (kwr_task_restored(keyweir) == 0) return KWR_OK;
    return eng_sink_commit(sink, keyweir, kwr_task_restored(keyweir), err);
}

static kwr_status sink_snapshot(void *ctx, eng_task *task, const kwr_barrier *barrier,
                                kwr_error *err) {
    eng_sink *sink = ctx;
    eng_committable committable;
    kwr_status status = eng_sink_precommit(sink, barrier->checkpoint, &committable, err);
    if (status < KWR_OK || status == KWR_NOT_FOUND) return status;
    char token[ENG_TOKEN_TEXT];
    const kwr_slice slice = { token, eng_token_text(&committable, token) };
    kwr_task *keyweir = eng_task_keyweir(task);
    status = kwr_task_add_committable(keyweir, barrier->checkpoint, slice);
    if (status < KWR_OK) {
        return eng_pass(err, status, kwr_task_error(keyweir), "adding a committable");
    }
    eng_sink_sealed(sink);
    return KWR_OK;
}

static bool may_retry(kwr_status status) { return kwr_status_action(status) == KWR_RETRY; }

/*
 * What cannot be committed now is carried by the next checkpoint and tried again with it. After
 * the last one there is no next: it is tried again at once.
 */
static kwr_status sink_complete(void *ctx, eng_task *task, uint64_t checkpoint, bool final,
                                kwr_error *err) {
    eng_sink *sink = ctx;
    kwr_error why = ENG_ERROR_NONE;
    kwr_status status = KWR_ERR_IO;
    if (sink->options.committing != NULL) sink->options.committing(sink->options.ctx, checkpoint);
    for (uint32_t i = 0; i < (final ? COMMIT_TRIES : 1) && may_retry(status); i++) {
        status = eng_sink_commit(sink, eng_task_keyweir(task), checkpoint, &why);
    }
    if (status >= KWR_OK) {
        sink->commits_failed = 0;
        if (sink->options.committed != NULL) sink->options.committed(sink->options.ctx, checkpoint);
        return KWR_OK;
    }
    sink->commits_failed++;
    if (final || !may_retry(status) || sink->commits_failed >= COMMIT_TRIES) {
        return eng_pass(err, status, &why, "committing checkpoint %" PRIu64, checkpoint);
    }
    if (sink->options.note != NULL) sink->options.note(sink->options.ctx, why.text);
    return KWR_OK;
}

eng_operator eng_sink_operator(eng_sink *sink,
                               kwr_status (*records)(void *ctx, eng_task *task,
                                                     const eng_buffer *buffer, kwr_error *err)) {
    return (eng_operator){
        .ctx = sink,
        .open = sink_open,
        .records = records,
        .snapshot = sink_snapshot,
        .complete = sink_complete,
    };
}
