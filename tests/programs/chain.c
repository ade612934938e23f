/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of the job one after the other, each referring to what earlier ones wrote. Some
 * complete, some are given up, some break off, of some nobody hears what became of them. Files that
 * no retained checkpoint uses are removed. Every retained one holds what the job held then, at any
 * parallelism, and the job may go on from the newest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/log.h"
#include "snapshot/manifest.h"
#include "tests/programs/states.h"

static const uint8_t UID[16] = "a random program";

static void new_lineage(program *p, uint32_t index) {
    kwr_lineage_free(p->chain.lineages[index]);
    p->chain.lineages[index] = NULL;
    MUST(kwr_lineage_new(p->env, UID, "op", &p->chain.lineages[index], NULL));
}

void chain_job_changed(program *p) {
    for (uint32_t i = 0; i < SUBTASKS_MAX; i++) {
        kwr_lineage_free(p->chain.lineages[i]);
        p->chain.lineages[i] = NULL;
    }
}

static void forget(retained *r) {
    for (uint32_t i = 0; i < r->count; i++)
        kwr_bytes_free(&r->handles[i]);
    if (r->want != NULL) table_free(r->want);
    *r = (retained){ 0 };
}

void chain_end(program *p) {
    chain_job_changed(p);
    for (size_t i = 0; i < CHAIN_RETAINED; i++)
        forget(&p->chain.kept[i]);
    if (p->chain.storage != NULL) kwr_storage_close(p->chain.storage);
    p->chain = (chain){ 0 };
}

/* ---- retention ---- */

typedef struct sweep {
    program *p;
    kwr_job_dirs dirs;
    char doomed[1024][KWR_FILE_NAME_MAX];
    size_t count;
} sweep;

static bool handle_uses(program *p, const kwr_bytes *handle, const char *name) {
    kwr_subtask_part *part = NULL;
    bool uses = false;
    const kwr_slice bytes = { handle->data, handle->size };
    MUST(kwr_subtask_part_decode(p->env, NULL, bytes, "handle", &part, NULL));
    for (size_t i = 0; i < part->subtask.file_count; i++)
        uses = uses || (part->subtask.files[i].name != NULL &&
                        strcmp(part->subtask.files[i].name, name) == 0);
    kwr_subtask_part_free(part);
    return uses;
}

static kwr_status look_at(void *ctx, const char *name) {
    sweep *s = (sweep *)ctx;
    program *p = s->p;
    for (size_t i = 0; i < CHAIN_RETAINED; i++)
        for (uint32_t t = 0; t < p->chain.kept[i].count; t++)
            if (handle_uses(p, &p->chain.kept[i].handles[t], name)) return KWR_OK;
    REQUIRE(s->count < sizeof s->doomed / sizeof s->doomed[0]);
    snprintf(s->doomed[s->count++], KWR_FILE_NAME_MAX, "%s", name);
    return KWR_OK;
}

static void remove_unused(program *p) {
    kwr_storage *storage = p->chain.storage;
    sweep *s = (sweep *)need(calloc(1, sizeof *s));
    s->p = p;
    MUST(kwr_job_dirs_open(p->env, storage, "model", true, &s->dirs, NULL));
    MUST(storage->ops->list(storage, s->dirs.shared, "", look_at, s, NULL));
    for (size_t i = 0; i < s->count; i++)
        MUST(storage->ops->remove(storage, s->dirs.shared, s->doomed[i], NULL));
    kwr_job_dirs_close(&s->dirs);
    free(s);
}

/* ---- writing ---- */

static bool write_part(program *p, kwr_view *view, uint32_t index, bool break_off,
                       kwr_bytes *handle) {
    chain *c = &p->chain;
    if (c->lineages[index] == NULL) new_lineage(p, index);
    kwr_snapshot_target target = {
        .struct_size = sizeof target,
        .env = p->env,
        .storage = c->storage,
        .job = "model",
        .operator_id = "op",
        .subtask = index,
        .generation = 1 + c->generation,
        .checkpoint = p->checkpoint,
        .sequence = p->checkpoint * 100,
        .inline_bytes = percent(p, 30) ? 2000 : 0,
        .threads = 1 + (uint32_t)below(p, 3),
        .lineage = c->lineages[index],
        .last_use = p->checkpoint % 2 == 0,
    };
    memcpy(target.job_uid, UID, sizeof UID);
    kwr_cancel cancel = { 0 };
    kwr_snapshot_result result = { 0 };
    kwr_error err = { 0 };
    if (break_off) kwr_cancel_request(&cancel);
    const kwr_status status = kwr_snapshot_write(view, &target, &cancel, &result, &err);
    if (break_off && status == KWR_ERR_CANCELLED) return false;
    if (status != KWR_OK) differs(p, err.text, __FILE__, __LINE__);
    *handle = result.handle;
    return true;
}

/* Of all subtasks; false when one broke off. */
static bool write_checkpoint(program *p, retained *out) {
    kwr_view *views[SUBTASKS_MAX];
    const uint32_t breaks = percent(p, 10) ? (uint32_t)below(p, p->parallelism) : UINT32_MAX;
    bool whole = true;
    p->checkpoint++;
    *out = (retained){ .count = p->parallelism };
    out->want = table_copy(p->now);
    for (uint32_t i = 0; i < p->parallelism; i++)
        MUST(kwr_backend_freeze(p->tasks[i].backend, &views[i]));
    for (uint32_t i = 0; i < p->parallelism; i++) {
        whole = write_part(p, views[i], i, i == breaks, &out->handles[i]) && whole;
        kwr_view_release(views[i]);
    }
    return whole;
}

static void tell(program *p, void (*fate)(kwr_lineage *, uint64_t)) {
    for (uint32_t i = 0; i < p->parallelism; i++)
        if (p->chain.lineages[i] != NULL) fate(p->chain.lineages[i], p->checkpoint);
}

static void keep(program *p, retained *made) {
    forget(&p->chain.kept[CHAIN_RETAINED - 1]);
    memmove(p->chain.kept + 1, p->chain.kept, (CHAIN_RETAINED - 1) * sizeof *made);
    p->chain.kept[0] = *made;
}

/* ---- reading ---- */

/* Half of all restores are lazy, some with loading in the background. Not drawn: the same seeds
 * stay the same programs. */
static void choose_loading(const program *p, uint32_t index, kwr_backend_options *options) {
    static const uint32_t shares[] = { KWR_LOAD_SHARE_NONE, 100, KWR_LOAD_SHARE_NONE, 30 };
    const uint64_t x = (p->checkpoint + 1) * 0x9e3779b97f4a7c15ULL + index;
    options->loading = (x >> 40 & 1) != 0 ? KWR_LOADING_LAZY : KWR_LOADING_EAGER;
    options->load_share = shares[x >> 45 & 3];
}

static void restore_part(program *p, const retained *r, uint32_t index, uint32_t parallelism,
                         kwr_lineage *lineage, kwr_backend **out) {
    char directory[DIRECTORY_MAX];
    kwr_backend_options options = job_options(p, index, parallelism, directory);
    choose_loading(p, index, &options);
    kwr_slice handles[SUBTASKS_MAX];
    for (uint32_t i = 0; i < r->count; i++)
        handles[i] = (kwr_slice){ r->handles[i].data, r->handles[i].size };
    kwr_error err = { 0 };
    const kwr_status status = kwr_snapshot_resume(&options, p->chain.storage, "model", handles,
                                                  r->count, lineage, out, &err);
    if (status != KWR_OK) differs(p, err.text, __FILE__, __LINE__);
}

static uint32_t some_parallelism(program *p) {
    uint32_t most = p->max_parallelism < SUBTASKS_MAX ? p->max_parallelism : SUBTASKS_MAX;
    if (percent(p, 50) && most > 4) most = 4;
    return percent(p, 40) ? p->parallelism : 1 + (uint32_t)below(p, most);
}

/* What a retained checkpoint holds is what the job held. */
static void look_into(program *p, const retained *r) {
    if (r->count == 0) return;
    kwr_backend *backends[SUBTASKS_MAX];
    frozen f = { .count = some_parallelism(p), .want = r->want };
    for (uint32_t i = 0; i < f.count; i++) {
        restore_part(p, r, i, f.count, NULL, &backends[i]);
        MUST(kwr_backend_freeze(backends[i], &f.views[i]));
    }
    compare_frozen(p, &f);
    for (uint32_t i = 0; i < f.count; i++) {
        kwr_view_release(f.views[i]);
        kwr_backend_close(backends[i]);
    }
}

static void go_on_from(program *p, const retained *r) {
    kwr_backend *backends[SUBTASKS_MAX];
    const uint32_t parallelism = p->options->parallelism > 0 ? p->parallelism : some_parallelism(p);
    chain_job_changed(p);
    p->chain.generation++;
    for (uint32_t i = 0; i < parallelism; i++) {
        new_lineage(p, i);
        restore_part(p, r, i, parallelism, p->chain.lineages[i], &backends[i]);
    }
    job_close(p);
    table_free(p->now);
    p->now = table_copy(r->want);
    job_adopt(p, backends, parallelism);
}

void chain_checkpoint(program *p) {
    retained made;
    if (!p->engine->snapshots || p->engine->changes) return;
    if (p->chain.storage == NULL) MUST(kwr_storage_memory_open(p->env, 0, &p->chain.storage, NULL));
    p->doing = "checkpoint";
    const size_t fate = below(p, 100);
    const bool whole = write_checkpoint(p, &made);
    if (whole && fate < 75) {
        keep(p, &made);
        if (fate < 65) tell(p, kwr_lineage_confirm); /* else it completed unheard */
    } else {
        forget(&made);
        if (fate < 90) tell(p, kwr_lineage_abort);
    }
    remove_unused(p);
    if (percent(p, 30)) look_into(p, &p->chain.kept[below(p, CHAIN_RETAINED)]);
    if (percent(p, 15) && p->chain.kept[0].count > 0) {
        p->doing = "restart from a checkpoint";
        go_on_from(p, &p->chain.kept[0]);
        compare_job(p);
    }
}
