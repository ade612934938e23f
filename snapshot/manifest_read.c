/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the manifest. Its digest stands in the slot, so damage is found before this; the parser
 * is strict all the same, because tools also read manifests without a log.
 */
#include <string.h>

#include "base/error.h"
#include "base/name.h"
#include "keyweir/backend.h"
#include "snapshot/log.h"
#include "snapshot/manifest_json.h"

enum { ARENA_FACTOR = 16, ARENA_BASE = 64 * 1024 };

static void read_parent(kwr_parse *p, const json_t *root, kwr_manifest *out) {
    static const char *const known[] = { "checkpoint", "generation" };
    const kwr_place at = { "parent" };
    const json_t *parent = kwr_parse_field(p, NULL, root, "parent");
    if (parent == NULL || json_is_null(parent)) return;
    kwr_parse_known(p, &at, parent, known, 2);
    out->parent_checkpoint = kwr_parse_u64_in(p, &at, parent, "checkpoint", 1, UINT64_MAX);
    out->parent_generation = kwr_parse_u64_in(p, &at, parent, "generation", 1, UINT64_MAX);
}

static void read_inline(kwr_parse *p, const json_t *root, kwr_manifest *out) {
    static const char *const known[] = { "length", "digest" };
    const kwr_place at = { "inline" };
    const json_t *info = kwr_parse_field(p, NULL, root, "inline");
    if (info == NULL || json_is_null(info)) return;
    kwr_parse_known(p, &at, info, known, 2);
    out->inline_length = kwr_parse_u64_in(p, &at, info, "length", 1, INT64_MAX);
    out->inline_digest = kwr_parse_digest_in(p, &at, info, "digest");
}

static unsigned read_roles(kwr_parse *p, const kwr_place *place, const json_t *from) {
    static const char *const names[] = { "source", "keyed", "sink" };
    size_t count = 0;
    unsigned roles = 0;
    const json_t *list = kwr_parse_array_in(p, place, from, "roles", 3, &count);
    for (size_t i = 0; i < count; i++) {
        const json_t *role = json_array_get(list, i);
        unsigned bit = 0;
        for (unsigned j = 0; j < 3 && json_is_string(role); j++)
            if (strcmp(json_string_value(role), names[j]) == 0) bit = 1U << j;
        /* In this order, each once: one form for each set. */
        if (bit == 0 || bit <= roles) {
            kwr_parse_fail(p, place, "roles", "is not a set of source, keyed, sink in this order");
            return 0;
        }
        roles |= bit;
    }
    return roles;
}

/* Ranges of keyed subtasks follow each other and cover every key group once. */
static void check_key_groups(kwr_parse *p, const kwr_place *place,
                             const kwr_manifest_operator *op) {
    const bool keyed = (op->roles & KWR_ROLE_KEYED) != 0;
    uint32_t next = 0;
    for (uint32_t i = 0; i < op->parallelism; i++) {
        const kwr_manifest_subtask *subtask = &op->subtasks[i];
        if (subtask->keyed != keyed) {
            kwr_parse_fail(p, place, "roles", "does not fit what the subtasks hold");
            return;
        }
        if (!keyed) continue;
        if (subtask->key_groups.first != next) {
            kwr_parse_fail(p, place, "subtasks", "leave a gap or overlap in the key groups");
            return;
        }
        next += subtask->key_groups.count;
    }
    if (keyed && next != op->max_parallelism)
        kwr_parse_fail(p, place, "subtasks", "do not cover all key groups");
}

static void read_operator(kwr_parse *p, const kwr_place *place, const json_t *from,
                          uint32_t max_parallelism, kwr_manifest_operator *out) {
    static const char *const known[] = { "id",    "parallelism", "max_parallelism",
                                         "roles", "subtasks",    "key_type" };
    out->id = kwr_parse_name_in(p, place, from, "id", KWR_JOB_NAME_MAX, true);
    out->max_parallelism =
        (uint32_t)kwr_parse_u64_in(p, place, from, "max_parallelism", 1, KWR_MAX_PARALLELISM_LIMIT);
    out->parallelism =
        (uint32_t)kwr_parse_u64_in(p, place, from, "parallelism", 1, KWR_MAX_PARALLELISM_LIMIT);
    out->roles = read_roles(p, place, from);
    const bool keyed = (out->roles & KWR_ROLE_KEYED) != 0;
    if (keyed) kwr_parse_type_in(p, place, from, "key_type", &out->key_type);
    if (p->status >= KWR_OK && keyed &&
        (out->parallelism > out->max_parallelism || out->max_parallelism != max_parallelism))
        kwr_parse_fail(p, place, "max_parallelism", "does not fit the job or the parallelism");
    kwr_parse_known(p, place, from, known, keyed ? 6 : 5);
    size_t count = 0;
    const json_t *list =
        kwr_parse_array_in(p, place, from, "subtasks", KWR_MAX_PARALLELISM_LIMIT, &count);
    if (p->status >= KWR_OK && count != out->parallelism)
        kwr_parse_fail(p, place, "subtasks", "are not as many as the parallelism");
    if (p->status < KWR_OK) return;
    out->subtasks = kwr_arena_array(p->arena, count, sizeof *out->subtasks);
    if (out->subtasks == NULL) {
        kwr_parse_nomem(p);
        return;
    }
    for (size_t i = 0; i < count && p->status >= KWR_OK; i++) {
        kwr_place at;
        kwr_place_of(&at, place, "subtasks", i);
        kwr_parse_subtask(p, &at, json_array_get(list, i), out->max_parallelism, &out->subtasks[i]);
        if (p->status >= KWR_OK && out->subtasks[i].index != i)
            kwr_parse_fail(p, &at, "subtask", "is out of order");
    }
    if (p->status >= KWR_OK) check_key_groups(p, place, out);
}

static void read_operators(kwr_parse *p, const json_t *root, kwr_manifest *out) {
    size_t count = 0;
    const json_t *list =
        kwr_parse_array_in(p, NULL, root, "operators", p->limits->operators_max, &count);
    if (p->status < KWR_OK) return;
    out->operators = kwr_arena_array(p->arena, count, sizeof *out->operators);
    if (out->operators == NULL) {
        kwr_parse_nomem(p);
        return;
    }
    out->operator_count = count;
    uint64_t inline_at = 0;
    for (size_t i = 0; i < count && p->status >= KWR_OK; i++) {
        kwr_manifest_operator *op = &out->operators[i];
        kwr_place at;
        kwr_place_of(&at, NULL, "operators", i);
        read_operator(p, &at, json_array_get(list, i), out->max_parallelism, op);
        for (size_t j = 0; j < i && p->status >= KWR_OK; j++)
            if (strcmp(out->operators[j].id, op->id) == 0)
                kwr_parse_fail(p, &at, "id", "names an operator twice");
        for (uint32_t j = 0; p->status >= KWR_OK && j < op->parallelism; j++)
            kwr_parse_tiles(p, &at, &op->subtasks[j], &inline_at);
    }
    if (p->status >= KWR_OK && inline_at != out->inline_length)
        kwr_parse_fail(p, NULL, "inline", "has another length than its parts");
}

static void read_root(kwr_parse *p, const json_t *root, kwr_manifest *out) {
    static const char *const known[] = {
        "keyweir",      "version",      "features",   "optional",        "job",      "job_uid",
        "checkpoint",   "generation",   "parent",     "final",           "seed",     "inline",
        "triggered_ms", "completed_ms", "key_groups", "max_parallelism", "operators"
    };
    kwr_parse_preamble(p, root, "manifest");
    kwr_parse_known(p, NULL, root, known, sizeof known / sizeof *known);
    out->job = kwr_parse_name_in(p, NULL, root, "job", KWR_JOB_NAME_MAX, false);
    const kwr_digest uid = kwr_parse_digest_in(p, NULL, root, "job_uid"); /* 16 bytes as well */
    memcpy(out->job_uid, uid.bytes, sizeof out->job_uid);
    out->checkpoint = kwr_parse_u64_in(p, NULL, root, "checkpoint", 1, UINT64_MAX);
    out->generation = kwr_parse_u64_in(p, NULL, root, "generation", 1, UINT64_MAX);
    read_parent(p, root, out);
    out->final = kwr_parse_bool_in(p, NULL, root, "final");
    out->triggered_ms = kwr_parse_i64_in(p, NULL, root, "triggered_ms");
    out->completed_ms = kwr_parse_i64_in(p, NULL, root, "completed_ms");
    out->seed = kwr_parse_hex64_in(p, NULL, root, "seed");
    out->engine_key_groups = kwr_parse_key_groups_in(p, NULL, root);
    out->max_parallelism =
        (uint32_t)kwr_parse_u64_in(p, NULL, root, "max_parallelism", 1, KWR_MAX_PARALLELISM_LIMIT);
    read_inline(p, root, out);
    read_operators(p, root, out);
}

/* What parsed structs may take: bounded by the text, so that a small file cannot cost much. */
static size_t arena_max(size_t text) {
    return text > (SIZE_MAX - ARENA_BASE) / ARENA_FACTOR ? SIZE_MAX
                                                         : text * ARENA_FACTOR + ARENA_BASE;
}

kwr_status kwr_manifest_parse(const kwr_env *env, const kwr_limits *limits, kwr_slice text,
                              const char *what, kwr_manifest **out, kwr_error *err) {
    kwr_limits complete;
    KWR_TRY(kwr_limits_complete(limits, &complete, err));
    if (text.size > complete.manifest_bytes_max)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "'%s' has %zu bytes, more than the limit of %zu (manifest_bytes_max)", what,
                        text.size, complete.manifest_bytes_max);
    kwr_parse p = { .env = env, .limits = &complete, .what = what, .err = err };
    p.arena = kwr_arena_new(env, arena_max(text.size));
    kwr_manifest *manifest = p.arena == NULL ? NULL : kwr_arena_alloc(p.arena, sizeof *manifest);
    if (manifest == NULL) {
        kwr_parse_nomem(&p);
    } else {
        manifest->arena = p.arena;
        json_t *root = kwr_parse_load(&p, text);
        if (root != NULL) read_root(&p, root, manifest);
        json_decref(root);
    }
    if (p.status < KWR_OK) {
        if (p.arena != NULL) kwr_arena_free(p.arena);
        return p.status;
    }
    *out = manifest;
    return KWR_OK;
}

void kwr_manifest_free(kwr_manifest *manifest) {
    if (manifest != NULL) kwr_arena_free(manifest->arena);
}
