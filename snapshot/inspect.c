/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An inspection: the references of all its checkpoints are sorted by file, each file becomes one
 * unit of work, and workers take units until none is left. Findings are held and told in order when
 * all is done, so that they do not depend on who was faster.
 */
#include "snapshot/inspect.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/sort.h"
#include "snapshot/inspect_internal.h"

enum {
    FINDINGS_MAX = 100000, /* held and told; beyond that they are counted */
    PROGRESS_NS = 200 * 1000 * 1000,
};

kwr_fsck_kind kwr_inspect_kind(kwr_status status) {
    switch ((int)status) {
    case KWR_ERR_CORRUPT:
    case KWR_ERR_MISMATCH: return KWR_FSCK_DAMAGED;
    case KWR_ERR_MISSING: return KWR_FSCK_MISSING;
    case KWR_ERR_FORMAT: return KWR_FSCK_NEWER;
    case KWR_ERR_NOMEM:
    case KWR_ERR_CANCELLED:
    case KWR_ERR_MISUSE: return 0;
    default: return KWR_FSCK_UNREADABLE;
    }
}

/* ---- life ---- */

kwr_status kwr_inspection_new(const kwr_inspect_options *options, kwr_inspection **out,
                              kwr_error *err) {
    const kwr_env *env = options->dirs->env;
    kwr_limits limits;
    KWR_TRY(kwr_limits_complete(options->limits, &limits, err));
    kwr_inspection *made = kwr_calloc(env, sizeof *made);
    if (made == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check files");
    made->options = *options;
    made->env = env;
    made->limits = limits;
    kwr_mutex_init(&made->mutex);
    made->arena = kwr_arena_new(env, 0);
    made->found_arena = kwr_arena_new(env, 0);
    if (made->arena == NULL || made->found_arena == NULL) {
        kwr_inspection_free(made);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check files");
    }
    *out = made;
    return KWR_OK;
}

void kwr_inspection_free(kwr_inspection *inspection) {
    if (inspection == NULL) return;
    const kwr_env *env = inspection->env;
    kwr_free(env, inspection->refs, inspection->ref_capacity * sizeof *inspection->refs);
    kwr_free(env, inspection->units, inspection->unit_capacity * sizeof *inspection->units);
    kwr_free(env, inspection->found, inspection->found_capacity * sizeof *inspection->found);
    if (inspection->arena != NULL) kwr_arena_free(inspection->arena);
    if (inspection->found_arena != NULL) kwr_arena_free(inspection->found_arena);
    kwr_mutex_done(&inspection->mutex);
    kwr_free(env, inspection, sizeof *inspection);
}

kwr_inspect_result kwr_inspection_result(const kwr_inspection *inspection) {
    return inspection->result;
}

/* ---- adding ---- */

static kwr_status add_ref(kwr_inspection *in, kwr_inspect_tally *tally,
                          const kwr_manifest_file *file) {
    void *items = in->refs;
    if (!kwr_grow_array(in->env, &items, &in->ref_capacity, in->ref_count + 1, sizeof *in->refs))
        return KWR_ERR_NOMEM;
    in->refs = items;
    kwr_inspect_ref *ref = kwr_arena_alloc(in->arena, sizeof *ref);
    if (ref == NULL) return KWR_ERR_NOMEM;
    *ref = (kwr_inspect_ref){ .file = file, .tally = tally, .order = in->ref_count };
    in->refs[in->ref_count++] = ref;
    return KWR_OK;
}

static kwr_status add_subtask(kwr_inspection *in, const kwr_manifest *manifest,
                              const kwr_manifest_operator *op,
                              const kwr_manifest_subtask *subtask) {
    kwr_inspect_tally *tally = kwr_arena_alloc(in->arena, sizeof *tally);
    if (tally == NULL) return KWR_ERR_NOMEM;
    *tally = (kwr_inspect_tally){
        .manifest = manifest,
        .op = op,
        .subtask = subtask,
        .owner = { .limits = &in->limits,
                   .operator_id = op->id,
                   .job_uid = manifest->job_uid,
                   .subtask = subtask,
                   .max_parallelism = kwr_manifest_key_groups(manifest, subtask),
                   .seed = manifest->seed },
        .sums = kwr_arena_array(in->arena, subtask->state_count, sizeof(uint64_t)),
    };
    if (tally->sums == NULL && subtask->state_count > 0) return KWR_ERR_NOMEM;
    if (in->last_tally == NULL)
        in->tallies = tally;
    else
        in->last_tally->next = tally;
    in->last_tally = tally;
    for (size_t i = 0; i < subtask->file_count; i++)
        KWR_TRY(add_ref(in, tally, &subtask->files[i]));
    return KWR_OK;
}

static kwr_status add_unit(kwr_inspection *in, kwr_inspect_unit unit) {
    void *items = in->units;
    if (!kwr_grow_array(in->env, &items, &in->unit_capacity, in->unit_count + 1, sizeof *in->units))
        return KWR_ERR_NOMEM;
    in->units = items;
    in->units[in->unit_count++] = unit;
    in->progress.files_total++;
    in->progress.bytes_total += unit.bytes;
    return KWR_OK;
}

static kwr_status add_manifest(kwr_inspection *in, const kwr_manifest *manifest) {
    for (size_t i = 0; i < manifest->operator_count; i++) {
        const kwr_manifest_operator *op = &manifest->operators[i];
        for (uint32_t j = 0; j < op->parallelism; j++)
            for (const kwr_manifest_subtask *s = &op->subtasks[j]; s != NULL; s = s->operator_state)
                KWR_TRY(add_subtask(in, manifest, op, s));
    }
    return KWR_OK;
}

kwr_status kwr_inspection_add(kwr_inspection *inspection, const kwr_manifest *manifest,
                              kwr_error *err) {
    const kwr_status status = add_manifest(inspection, manifest);
    return status >= KWR_OK ? KWR_OK
                            : KWR_FAIL(err, status, 0, "no memory for the files of checkpoint %llu",
                                       (unsigned long long)manifest->checkpoint);
}

/* ---- units ---- */

/* Inline files last, by checkpoint; others by name. */
static int compare_refs(const void *a, const void *b) {
    const kwr_inspect_ref *x = a, *y = b;
    const bool inline_x = x->file->name == NULL, inline_y = y->file->name == NULL;
    if (inline_x != inline_y) return inline_x ? 1 : -1;
    if (!inline_x) {
        const int order = strcmp(x->file->name, y->file->name);
        if (order != 0) return order;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

static bool same_unit(const kwr_inspect_ref *a, const kwr_inspect_ref *b) {
    if (a->file->name == NULL || b->file->name == NULL)
        return a->file->name == b->file->name && a->tally->manifest == b->tally->manifest;
    return strcmp(a->file->name, b->file->name) == 0;
}

static kwr_status make_units(kwr_inspection *in) {
    if (in->ref_count > 0) kwr_sort((void **)in->refs, in->ref_count, compare_refs);
    for (size_t first = 0, end; first < in->ref_count; first = end) {
        kwr_inspect_ref *ref = in->refs[first];
        for (end = first + 1; end < in->ref_count && same_unit(ref, in->refs[end]);)
            end++;
        const bool of_inline = ref->file->name == NULL;
        KWR_TRY(add_unit(
            in, (kwr_inspect_unit){ .refs = in->refs + first,
                                    .ref_count = end - first,
                                    .of_inline = of_inline ? ref->tally->manifest : NULL,
                                    .bytes = of_inline ? ref->tally->manifest->inline_length
                                                       : ref->file->length }));
    }
    return KWR_OK;
}

/* ---- findings ---- */

static const char *keep(kwr_inspection *in, const char *text, bool *failed) {
    if (text == NULL) return NULL;
    const char *copy = kwr_arena_string(in->found_arena, text, strlen(text));
    if (copy == NULL) *failed = true;
    return copy;
}

/* Each checkpoint once, newest first: the references are in that order. */
static void keep_checkpoints(kwr_inspection *in, kwr_fsck_finding *out,
                             kwr_inspect_ref *const *refs, const bool *hit, size_t ref_count,
                             bool *failed) {
    kwr_fsck_checkpoint *list = kwr_arena_array(in->found_arena, ref_count, sizeof *list);
    size_t count = 0;
    if (list == NULL) {
        *failed = true;
        return;
    }
    for (size_t i = 0; i < ref_count; i++) {
        const kwr_manifest *m = refs[i]->tally->manifest;
        if (hit != NULL && !hit[i]) continue;
        if (count > 0 && list[count - 1].checkpoint == m->checkpoint &&
            list[count - 1].generation == m->generation)
            continue;
        list[count++] = (kwr_fsck_checkpoint){ m->checkpoint, m->generation };
    }
    out->checkpoints = list;
    out->checkpoint_count = count;
}

static kwr_status hold(kwr_inspection *in, const kwr_fsck_finding *finding,
                       kwr_inspect_ref *const *refs, const bool *hit, size_t ref_count) {
    if (kwr_fsck_is_fault(finding->kind)) {
        in->result.faults++;
        in->progress.findings++;
        if (in->found_count >= FINDINGS_MAX) return KWR_OK;
    }
    void *items = in->found;
    if (!kwr_grow_array(in->env, &items, &in->found_capacity, in->found_count + 1,
                        sizeof *in->found))
        return KWR_ERR_NOMEM;
    in->found = items;
    kwr_inspect_finding *held = kwr_arena_alloc(in->found_arena, sizeof *held);
    if (held == NULL) return KWR_ERR_NOMEM;
    bool failed = false;
    held->order = in->found_count;
    held->told = *finding;
    held->told.struct_size = sizeof held->told;
    held->told.job = in->options.dirs->job;
    held->told.file = keep(in, finding->file, &failed);
    held->told.operator_id = keep(in, finding->operator_id, &failed);
    held->told.state = keep(in, finding->state, &failed);
    held->told.text = keep(in, finding->text, &failed);
    if (refs != NULL) {
        keep_checkpoints(in, &held->told, refs, hit, ref_count, &failed);
    } else if (finding->checkpoint_count > 0) {
        kwr_fsck_checkpoint *copy =
            kwr_arena_array(in->found_arena, finding->checkpoint_count, sizeof *copy);
        if (copy == NULL) return KWR_ERR_NOMEM;
        memcpy(copy, finding->checkpoints, finding->checkpoint_count * sizeof *copy);
        held->told.checkpoints = copy;
    }
    if (failed) return KWR_ERR_NOMEM;
    in->found[in->found_count++] = held;
    return KWR_OK;
}

kwr_status kwr_inspect_hold(kwr_inspection *inspection, const kwr_fsck_finding *finding,
                            kwr_inspect_ref *const *refs, const bool *hit, size_t ref_count) {
    kwr_mutex_lock(&inspection->mutex);
    const kwr_status status = hold(inspection, finding, refs, hit, ref_count);
    kwr_mutex_unlock(&inspection->mutex);
    return status;
}

kwr_status kwr_inspection_note(kwr_inspection *inspection, const kwr_fsck_finding *finding) {
    return kwr_inspect_hold(inspection, finding, NULL, NULL, 0);
}

static int compare_findings(const void *a, const void *b) {
    const kwr_inspect_finding *x = a, *y = b;
    const int file = strcmp(x->told.file, y->told.file);
    if (file != 0) return file;
    if (x->told.offset != y->told.offset) return x->told.offset < y->told.offset ? -1 : 1;
    const int text = strcmp(x->told.text, y->told.text);
    if (text != 0) return text;
    return x->order < y->order ? -1 : x->order > y->order;
}

void kwr_inspection_tell(kwr_inspection *inspection,
                         void (*found)(void *ctx, const kwr_fsck_finding *finding), void *ctx) {
    if (inspection->found_count > 0)
        kwr_sort((void **)inspection->found, inspection->found_count, compare_findings);
    for (size_t i = 0; i < inspection->found_count; i++)
        found(ctx, &inspection->found[i]->told);
}

/* ---- running ---- */

void kwr_inspect_advance(kwr_inspection *inspection, const kwr_inspect_result *more,
                         uint64_t bytes_done, uint64_t files_done) {
    kwr_inspection *in = inspection;
    const uint64_t now = in->env->clock->mono_ns(in->env->clock->ctx);
    kwr_mutex_lock(&in->mutex);
    in->result.files += more->files;
    in->result.bytes += more->bytes;
    in->result.images += more->images;
    in->result.entries += more->entries;
    in->progress.bytes_done += bytes_done;
    in->progress.files_done += files_done;
    in->progress.elapsed_ns = now > in->began_ns ? now - in->began_ns : 0;
    const kwr_fsck_progress progress = in->progress;
    const bool tell = in->options.progress != NULL && !in->telling && now >= in->next_progress_ns;
    if (tell) {
        in->telling = true;
        in->next_progress_ns = now + PROGRESS_NS;
    }
    kwr_mutex_unlock(&in->mutex);
    if (!tell) return;
    in->options.progress(in->options.ctx, &progress);
    kwr_mutex_lock(&in->mutex);
    in->telling = false;
    kwr_mutex_unlock(&in->mutex);
}

static bool cancelled(const kwr_inspection *in) {
    return in->options.cancel != NULL &&
           __atomic_load_n(&in->options.cancel->flag, __ATOMIC_RELAXED) != 0;
}

static void give_up(kwr_inspection *in, kwr_status status, const kwr_error *why) {
    kwr_mutex_lock(&in->mutex);
    if (in->failed >= KWR_OK) {
        in->failed = status;
        if (in->err != NULL) *in->err = *why;
    }
    kwr_mutex_unlock(&in->mutex);
    __atomic_store_n(&in->stop, 1, __ATOMIC_RELAXED);
}

static void work(void *ctx) {
    kwr_inspect_worker *worker = ctx;
    kwr_inspection *in = worker->inspection;
    while (__atomic_load_n(&in->stop, __ATOMIC_RELAXED) == 0) {
        const uint64_t i = __atomic_fetch_add(&in->next, 1, __ATOMIC_RELAXED);
        if (i >= in->unit_count) return;
        kwr_error why = { 0 };
        kwr_status status = KWR_OK;
        if (cancelled(in))
            status = KWR_FAIL(&why, KWR_ERR_CANCELLED, 0, "checking was cancelled");
        else
            status = kwr_inspect_unit_check(worker, &in->units[i], &why);
        if (status < KWR_OK) give_up(in, status, &why);
    }
}

/* What the indexes say all entries of a state to be, against the manifest. */
static kwr_status compare_sums(kwr_inspection *in, const kwr_inspect_tally *tally) {
    const kwr_manifest_subtask *subtask = tally->subtask;
    char dir[KWR_FILE_NAME_MAX], file[KWR_FILE_NAME_MAX + 16], text[512];
    if (tally->incomplete != 0) return KWR_OK;
    kwr_checkpoint_dir_name(tally->manifest->checkpoint, tally->manifest->generation, dir);
    snprintf(file, sizeof file, "%s/manifest.json", dir);
    const kwr_fsck_checkpoint of = { tally->manifest->checkpoint, tally->manifest->generation };
    for (size_t i = 0; i < subtask->state_count; i++) {
        if (subtask->states[i].estimated || tally->sums[i] == subtask->states[i].entries) continue;
        snprintf(text, sizeof text,
                 "operator %s, subtask %u, state '%.100s' should have %llu entries, its files have "
                 "%llu",
                 tally->op->id, subtask->index, subtask->states[i].info.name,
                 (unsigned long long)subtask->states[i].entries,
                 (unsigned long long)tally->sums[i]);
        const kwr_fsck_finding finding = { .kind = KWR_FSCK_DAMAGED,
                                           .status = KWR_ERR_CORRUPT,
                                           .file = file,
                                           .operator_id = tally->op->id,
                                           .subtask = subtask->index,
                                           .state = subtask->states[i].info.name,
                                           .first_key_group = subtask->key_groups.first,
                                           .key_groups = subtask->key_groups.count,
                                           .checkpoints = &of,
                                           .checkpoint_count = 1,
                                           .text = text };
        KWR_TRY(kwr_inspection_note(in, &finding));
    }
    return KWR_OK;
}

static void run_workers(kwr_inspection *in, kwr_inspect_worker *workers, size_t count) {
    kwr_fan fans[KWR_FAN_MAX];
    for (size_t i = 0; i < count; i++) {
        workers[i] = (kwr_inspect_worker){ .inspection = in,
                                           .stored = { .env = in->env },
                                           .plain = { .env = in->env } };
        fans[i] = (kwr_fan){ .work = { .run = work, .ctx = &workers[i] } };
    }
    kwr_fan_run(in->env, fans, count);
    for (size_t i = 0; i < count; i++) {
        kwr_buffer_free(&workers[i].stored);
        kwr_buffer_free(&workers[i].plain);
    }
}

kwr_status kwr_inspection_run(kwr_inspection *inspection, kwr_error *err) {
    kwr_inspection *in = inspection;
    if (make_units(in) < KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check %zu files", in->ref_count);
    in->err = err;
    in->progress.struct_size = sizeof in->progress;
    in->progress.job = in->options.dirs->job;
    in->began_ns = in->env->clock->mono_ns(in->env->clock->ctx);
    in->next_progress_ns = in->began_ns + PROGRESS_NS;
    const size_t count = kwr_fan_size(in->env, in->options.threads, in->unit_count);
    if (count > 0) {
        kwr_inspect_worker *workers = kwr_alloc_array(in->env, count, sizeof *workers);
        if (workers == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to check files");
        run_workers(in, workers, count);
        kwr_free(in->env, workers, count * sizeof *workers);
    }
    KWR_TRY(in->failed);
    for (const kwr_inspect_tally *t = in->tallies; t != NULL; t = t->next)
        if (compare_sums(in, t) < KWR_OK)
            return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to tell what was found");
    return KWR_OK;
}
