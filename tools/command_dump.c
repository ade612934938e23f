/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir dump: the entries of keyed and operator state, all of them or the largest; of collections
 * each element. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tools/tool.h"

/* Copies of the N largest entries, kept as a heap with the least wanted on top. */
typedef struct ranked {
    uint64_t ordered; /* the value as an unsigned number of the same order */
    size_t operator_index;
    uint32_t subtask;
    kwr_state_info state;
    kwr_entry entry; /* key, name, subkey, value point into `bytes` */
    uint8_t *bytes;
} ranked;

typedef struct dump {
    const tool_options *options;
    const kwr_manifest *manifest;
    ranked *heap;
    size_t count;
    bool output_failed;
} dump;

static bool numeric(const kwr_type *type) {
    switch (type->kind) {
    case KWR_TYPE_I32:
    case KWR_TYPE_I64:
    case KWR_TYPE_U64:
    case KWR_TYPE_F64: return true;
    case KWR_TYPE_BYTES:
    case KWR_TYPE_BOOL:
    case KWR_TYPE_STRING:
    case KWR_TYPE_ROW:
    case KWR_TYPE_OPAQUE: break;
    }
    return false;
}

/* An unsigned number in the order of the values: the key encoding read as big-endian. */
static uint64_t order_of(const kwr_type *type, kwr_slice value) {
    uint8_t key[8] = { 0 };
    if (value.size != kwr_type_fixed_size(type)) return 0;
    if (type->kind == KWR_TYPE_I32)
        kwr_key_from_i64((int32_t)kwr_get_le32(value.data), key);
    else if (type->kind == KWR_TYPE_I64)
        kwr_key_from_i64((int64_t)kwr_get_le64(value.data), key);
    else if (type->kind == KWR_TYPE_U64)
        kwr_key_from_u64(kwr_get_le64(value.data), key);
    else {
        double number;
        memcpy(&number, value.data, sizeof number);
        kwr_key_from_f64(number, key);
    }
    return kwr_get_be64(key);
}

static int compare_slices(kwr_slice a, kwr_slice b) {
    const size_t n = a.size < b.size ? a.size : b.size;
    const int order = n == 0 ? 0 : memcmp(a.data, b.data, n);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* < 0: `a` comes before `b` in the output: larger value first, then by key and namespace. */
static int compare(const void *left, const void *right) {
    const ranked *a = left, *b = right;
    if (a->ordered != b->ordered) return a->ordered > b->ordered ? -1 : 1;
    const int keys = compare_slices(a->entry.key, b->entry.key);
    if (keys != 0) return keys;
    const int names = compare_slices(a->entry.name, b->entry.name);
    return names != 0 ? names : compare_slices(a->entry.subkey, b->entry.subkey);
}

static void sift_down(ranked *heap, size_t count, size_t at) {
    for (;;) {
        size_t last = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
            if (compare(&heap[child], &heap[last]) > 0) last = child;
        if (last == at) return;
        const ranked moved = heap[at];
        heap[at] = heap[last];
        heap[last] = moved;
        at = last;
    }
}

static void sift_up(ranked *heap, size_t at) {
    while (at > 0 && compare(&heap[at], &heap[(at - 1) / 2]) > 0) {
        const ranked moved = heap[at];
        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = moved;
        at = (at - 1) / 2;
    }
}

static bool copy_entry(ranked *r) {
    const kwr_entry e = r->entry;
    r->bytes = malloc(e.key.size + e.name.size + e.subkey.size + e.value.size + 1);
    if (r->bytes == NULL) return false;
    uint8_t *at = r->bytes;
    if (e.key.size > 0) memcpy(at, e.key.data, e.key.size);
    r->entry.key.data = at;
    at += e.key.size;
    if (e.name.size > 0) memcpy(at, e.name.data, e.name.size);
    r->entry.name.data = at;
    at += e.name.size;
    if (e.subkey.size > 0) memcpy(at, e.subkey.data, e.subkey.size);
    r->entry.subkey.data = at;
    at += e.subkey.size;
    if (e.value.size > 0) memcpy(at, e.value.data, e.value.size);
    r->entry.value.data = at;
    return true;
}

static kwr_status rank(dump *d, size_t operator_index, uint32_t subtask,
                       const kwr_state_info *state, const kwr_entry *entry) {
    ranked r = { .ordered = order_of(&state->type, entry->value),
                 .operator_index = operator_index,
                 .subtask = subtask,
                 .state = *state,
                 .entry = *entry };
    const bool full = d->count == d->options->top;
    if (full && compare(&r, &d->heap[0]) > 0) return KWR_OK;
    if (!full && (d->count & (d->count - 1)) == 0) { /* 0, 1, 2, 4, ... */
        ranked *heap = realloc(d->heap, (d->count == 0 ? 1 : 2 * d->count) * sizeof *heap);
        if (heap == NULL) return KWR_ERR_NOMEM;
        d->heap = heap;
    }
    if (!copy_entry(&r)) return KWR_ERR_NOMEM;
    if (full) {
        free(d->heap[0].bytes);
        d->heap[0] = r;
        sift_down(d->heap, d->count, 0);
    } else {
        d->heap[d->count] = r;
        sift_up(d->heap, d->count++);
    }
    return KWR_OK;
}

/* A timer is its subkey: time, key, namespace. */
typedef struct timer {
    int64_t time;
    kwr_slice key, name;
} timer;

static bool timer_read(kwr_slice subkey, timer *out) {
    kwr_cursor c = kwr_cursor_of(subkey.data, subkey.size);
    const uint8_t *time = kwr_cursor_take(&c, 8);
    const uint32_t size = kwr_cursor_varint32(&c);
    const uint8_t *key = kwr_cursor_take(&c, size);
    const size_t left = kwr_cursor_left(&c);
    const uint8_t *name = kwr_cursor_take(&c, left);
    if (c.failed || time == NULL) return false;
    *out = (timer){ kwr_key_to_i64(time), { key, size }, { name, left } };
    return true;
}

/* What tells the element of a collection from its others; NULL name: nothing. */
static json_t *element_json(const kwr_state_info *state, const kwr_entry *e, const char **name) {
    *name = NULL;
    if (state->kind == KWR_STATE_LIST && e->subkey.size == KWR_SEQUENCE_BYTES) {
        *name = "index";
        return tool_json_u64(kwr_get_be64(e->subkey.data));
    }
    if (state->kind == KWR_STATE_MAP) {
        *name = "user_key";
        return tool_json_key(&state->user_key_type, e->subkey);
    }
    return NULL;
}

static json_t *timer_json(const kwr_manifest_operator *op, const kwr_state_info *state,
                          const kwr_entry *e) {
    timer t = { 0 };
    if (!timer_read(e->subkey, &t)) return json_pack("{s:o}", "timer", tool_json_bytes(e->subkey));
    return json_pack("{s:o, s:o, s:o}", "time", tool_json_i64(t.time), "key",
                     tool_json_key(&op->key_type, t.key), "namespace",
                     tool_json_key(&state->namespace_type, t.name));
}

static json_t *entry_json(const kwr_manifest_operator *op, uint32_t subtask,
                          const kwr_state_info *state, const kwr_entry *e) {
    const char *name = NULL;
    json_t *json = json_pack("{s:s, s:s}", "operator", op->id, "state", state->name);
    if (state->redistribution != KWR_REDISTRIBUTE_KEYED) {
        json_object_set_new(json, "subtask", json_integer(subtask));
        json_object_set_new(json, "redistribution",
                            json_string(kwr_redistribution_name(state->redistribution)));
    } else {
        json_object_set_new(json, "key_group", json_integer(e->key_group));
    }
    if (state->kind == KWR_STATE_TIMER) {
        json_t *parts = timer_json(op, state, e);
        json_object_update(json, parts);
        json_decref(parts);
        return json;
    }
    if (state->redistribution == KWR_REDISTRIBUTE_KEYED && state->kind != KWR_STATE_RAW) {
        json_object_set_new(json, "key", tool_json_key(&op->key_type, e->key));
        json_object_set_new(json, "namespace", tool_json_key(&state->namespace_type, e->name));
    }
    json_t *element = element_json(state, e, &name);
    if (name != NULL) json_object_set_new(json, name, element);
    json_object_set_new(json, "value", tool_json_value(&state->type, e->value));
    return json;
}

/* Operator, state, key group (or subtask), key, namespace, what tells an element, value. */
static bool print_entry(const dump *d, const kwr_manifest_operator *op, uint32_t subtask,
                        const kwr_state_info *state, const kwr_entry *e) {
    if (d->options->json) return tool_print_json(entry_json(op, subtask, state, e), true);
    const char *name = NULL;
    timer t = { 0 };
    const bool keyed = state->redistribution == KWR_REDISTRIBUTE_KEYED;
    printf("%s\t%s\t%s%u\t", op->id, state->name, keyed ? "" : "subtask ",
           keyed ? e->key_group : subtask);
    if (state->kind == KWR_STATE_TIMER && timer_read(e->subkey, &t))
        return tool_print_text_field(tool_json_key(&op->key_type, t.key), '\t') &&
               tool_print_text_field(tool_json_key(&state->namespace_type, t.name), '\t') &&
               tool_print_text_field(tool_json_i64(t.time), '\n');
    const bool has_key = keyed && state->kind != KWR_STATE_RAW;
    json_t *key = has_key ? tool_json_key(&op->key_type, e->key) : json_string("");
    if (!tool_print_text_field(key, '\t') ||
        !tool_print_text_field(tool_json_key(&state->namespace_type, e->name), '\t'))
        return false;
    json_t *element = element_json(state, e, &name);
    if (name != NULL && !tool_print_text_field(element, '\t')) return false;
    return tool_print_text_field(tool_json_value(&state->type, e->value), '\n');
}

static kwr_status on_entry(void *ctx, const kwr_manifest_operator *op,
                           const kwr_manifest_subtask *subtask, const kwr_state_info *state,
                           const kwr_entry *entry) {
    dump *d = ctx;
    if (d->options->state != NULL && strcmp(d->options->state, state->name) != 0) return KWR_OK;
    if (d->options->top > 0)
        return rank(d, (size_t)(op - d->manifest->operators), subtask->index, state, entry);
    if (print_entry(d, op, subtask->index, state, entry)) return KWR_OK;
    d->output_failed = true;
    return KWR_ERR_IO;
}

/* From a subtask to its operator state, then to the next subtask; `*i` counts those. */
static const kwr_manifest_subtask *next_snapshot(const kwr_manifest_operator *op,
                                                 const kwr_manifest_subtask *t, uint32_t *i) {
    if (t->operator_state != NULL) return t->operator_state;
    return ++*i < op->parallelism ? &op->subtasks[*i] : t;
}

/* What the options select must be there, and for --top be one numeric state. */
static int check_choice(const tool_options *options, const kwr_manifest *m) {
    const kwr_state_info *first = NULL;
    const kwr_manifest_operator *first_op = NULL;
    bool operator_found = options->operator_id == NULL;
    bool several = false;
    for (size_t o = 0; o < m->operator_count; o++) {
        const kwr_manifest_operator *op = &m->operators[o];
        if (options->operator_id != NULL && strcmp(op->id, options->operator_id) != 0) continue;
        operator_found = true;
        const kwr_manifest_subtask *t = op->subtasks;
        for (uint32_t i = 0; i < op->parallelism; t = next_snapshot(op, t, &i)) {
            for (size_t s = 0; s < t->state_count; s++) {
                const kwr_state_info *state = &t->states[s].info;
                if (options->state != NULL && strcmp(state->name, options->state) != 0) continue;
                if (first != NULL && (first_op != op || strcmp(first->name, state->name) != 0))
                    several = true;
                if (first == NULL) {
                    first = state;
                    first_op = op;
                }
            }
        }
    }
    if (!operator_found) {
        fprintf(stderr, "keyweir: the checkpoint has no operator '%s'; see keyweir show\n",
                options->operator_id);
        return TOOL_USAGE;
    }
    if (first == NULL && options->state != NULL) {
        fprintf(stderr, "keyweir: the checkpoint has no state '%s'; see keyweir show\n",
                options->state);
        return TOOL_USAGE;
    }
    if (options->top > 0 && several) {
        fputs("keyweir: --top needs one state: choose it with --state (and --operator)\n", stderr);
        return TOOL_USAGE;
    }
    if (options->top > 0 && first != NULL && !numeric(&first->type)) {
        char type[128];
        kwr_type_text(&first->type, type, sizeof type);
        fprintf(stderr, "keyweir: --top needs a numeric state; '%s' is %s\n", first->name, type);
        return TOOL_USAGE;
    }
    return TOOL_GOOD;
}

static bool needs_directory(const kwr_manifest *manifest) {
    for (size_t i = 0; i < manifest->operator_count; i++) {
        const kwr_manifest_operator *op = &manifest->operators[i];
        for (uint32_t j = 0; j < op->parallelism; j++)
            if (op->subtasks[j].format != NULL &&
                kwr_engine_of_files(op->subtasks[j].format) != NULL)
                return true;
    }
    return false;
}

/* Files of RocksDB become a database for as long as they are read. `parent` is a new directory. */
static bool make_directory(char *parent, size_t capacity, char *directory, size_t size) {
    const char *base = getenv("TMPDIR");
    snprintf(parent, capacity, "%s/keyweir-dump-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(parent) == NULL) {
        fprintf(stderr,
                "keyweir: cannot make a directory for the files of RocksDB as %s: set "
                "TMPDIR to a local directory with room for one subtask's state\n",
                parent);
        return false;
    }
    snprintf(directory, size, "%s/db", parent);
    return true;
}

int tool_dump(const tool_options *options) {
    tool_checkpoint c;
    int code = tool_checkpoint_open(options, &c);
    if (code != TOOL_GOOD) return code;
    if (!c.anchored) fputs("keyweir: note: not anchored: no log names this checkpoint\n", stderr);
    dump d = { .options = options, .manifest = c.manifest };
    code = check_choice(options, c.manifest);
    if (code == TOOL_GOOD) {
        kwr_error err = { 0 };
        char parent[256], directory[300];
        const bool local = needs_directory(c.manifest);
        if (local && !make_directory(parent, sizeof parent, directory, sizeof directory)) {
            tool_checkpoint_close(&c);
            return TOOL_CANNOT_READ;
        }
        const kwr_status status =
            kwr_checkpoint_walk(&c.dirs, &c.place.limits, c.manifest, options->operator_id,
                                local ? directory : NULL, on_entry, &d, &err);
        if (local) {
            (void)rmdir(directory); /* empty, or gone */
            (void)rmdir(parent);
        }
        if (d.output_failed)
            code = TOOL_CANNOT_READ; /* main says so */
        else if (status < KWR_OK) {
            if (err.status == KWR_OK) err.status = status;
            code = tool_fail(&err);
        }
    }
    if (d.count > 0) qsort(d.heap, d.count, sizeof *d.heap, compare);
    for (size_t i = 0; i < d.count; i++) {
        const ranked *r = &d.heap[i];
        if (code == TOOL_GOOD && !print_entry(&d, &c.manifest->operators[r->operator_index],
                                              r->subtask, &r->state, &r->entry))
            code = TOOL_CANNOT_READ;
        free(r->bytes);
    }
    free(d.heap);
    tool_checkpoint_close(&c);
    return code;
}
