/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types: checking, comparing, copying and naming them, and the order-preserving key encodings.
 * Rows nest, so every function here walks with a stack of fixed depth, never by recursion.
 */
#include "keyweir/type.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "backend/view.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/name.h"

enum { FIELD_NAME_MAX = 255 };

/* ---- names ---- */

static const char *const type_kind_names[] = {
    [KWR_TYPE_BYTES] = "bytes",   [KWR_TYPE_BOOL] = "bool", [KWR_TYPE_I32] = "i32",
    [KWR_TYPE_I64] = "i64",       [KWR_TYPE_U64] = "u64",   [KWR_TYPE_F64] = "f64",
    [KWR_TYPE_STRING] = "string", [KWR_TYPE_ROW] = "row",   [KWR_TYPE_OPAQUE] = "opaque",
};
static const char *const state_kind_names[] = {
    [KWR_STATE_VALUE] = "value",
    [KWR_STATE_REDUCING] = "reducing",
    [KWR_STATE_LIST] = "list",
    [KWR_STATE_MAP] = "map",
    [KWR_STATE_AGGREGATING] = "aggregating",
    [KWR_STATE_TIMER] = "timer",
    [KWR_STATE_RAW] = "raw",
};
enum {
    TYPE_KINDS = sizeof type_kind_names / sizeof type_kind_names[0],
    STATE_KINDS = sizeof state_kind_names / sizeof state_kind_names[0],
};

static bool type_kind_known(kwr_type_kind kind) { return (unsigned)kind < TYPE_KINDS; }

const char *kwr_type_kind_name(kwr_type_kind kind) {
    return type_kind_known(kind) ? type_kind_names[kind] : "unknown";
}

bool kwr_type_kind_parse(const char *name, kwr_type_kind *out) {
    for (unsigned kind = 0; kind < TYPE_KINDS; kind++) {
        if (strcmp(name, type_kind_names[kind]) != 0) continue;
        *out = (kwr_type_kind)kind;
        return true;
    }
    return false;
}

const char *kwr_state_kind_name(kwr_state_kind kind) {
    const bool known = kind >= KWR_STATE_VALUE && (unsigned)kind < STATE_KINDS;
    return known ? state_kind_names[kind] : "unknown";
}

bool kwr_state_kind_parse(const char *name, kwr_state_kind *out) {
    for (unsigned kind = KWR_STATE_VALUE; kind < STATE_KINDS; kind++) {
        if (strcmp(name, state_kind_names[kind]) != 0) continue;
        *out = (kwr_state_kind)kind;
        return true;
    }
    return false;
}

static const char *const redistribution_names[] = {
    [KWR_REDISTRIBUTE_KEYED] = "keyed",
    [KWR_REDISTRIBUTE_SPLIT] = "split",
    [KWR_REDISTRIBUTE_UNION] = "union",
    [KWR_REDISTRIBUTE_BROADCAST] = "broadcast",
};
enum { REDISTRIBUTIONS = sizeof redistribution_names / sizeof redistribution_names[0] };

const char *kwr_redistribution_name(kwr_redistribution redistribution) {
    return (unsigned)redistribution < REDISTRIBUTIONS ? redistribution_names[redistribution]
                                                      : "unknown";
}

bool kwr_redistribution_parse(const char *name, kwr_redistribution *out) {
    for (unsigned i = 0; i < REDISTRIBUTIONS; i++) {
        if (strcmp(name, redistribution_names[i]) != 0) continue;
        *out = (kwr_redistribution)i;
        return true;
    }
    return false;
}

size_t kwr_type_fixed_size(const kwr_type *type) {
    switch (type->kind) {
    case KWR_TYPE_BOOL: return 1;
    case KWR_TYPE_I32: return 4;
    case KWR_TYPE_I64:
    case KWR_TYPE_U64:
    case KWR_TYPE_F64: return 8;
    case KWR_TYPE_BYTES:
    case KWR_TYPE_STRING:
    case KWR_TYPE_ROW:
    case KWR_TYPE_OPAQUE: return 0;
    }
    return 0;
}

/* ---- walking a row: every field in order, and the end of every row ---- */

typedef struct type_walk {
    struct {
        const kwr_type *row;
        size_t next;
    } level[KWR_TYPE_DEPTH_MAX];
    size_t depth;
} type_walk;

typedef enum walk_event {
    WALK_END,
    WALK_FIELD, /* when it is a row, its fields come next */
    WALK_LEAVE, /* a row ends */
    WALK_TOO_DEEP,
} walk_event;

static type_walk walk_of(const kwr_type *type) {
    type_walk walk = { .depth = 0 };
    if (type->kind == KWR_TYPE_ROW) walk.level[walk.depth++].row = type;
    return walk;
}

static walk_event walk_next(type_walk *walk, const kwr_field **field) {
    if (walk->depth == 0) return WALK_END;
    const kwr_type *row = walk->level[walk->depth - 1].row;
    size_t *next = &walk->level[walk->depth - 1].next;
    if (*next == row->field_count) {
        walk->depth--;
        return WALK_LEAVE;
    }
    const kwr_field *at = &row->fields[(*next)++];
    if (at->type.kind == KWR_TYPE_ROW) {
        if (walk->depth == KWR_TYPE_DEPTH_MAX) return WALK_TOO_DEEP;
        walk->level[walk->depth].row = &at->type;
        walk->level[walk->depth++].next = 0;
    }
    *field = at;
    return WALK_FIELD;
}

/* ---- checks ---- */

static kwr_status check_one(const kwr_type *type, const char *what, kwr_error *err) {
    if (!type_kind_known(type->kind))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: unknown type kind %d", what, (int)type->kind);
    if (type->version != 0 && type->kind != KWR_TYPE_OPAQUE)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: only opaque types have a version, not %s", what,
                        kwr_type_kind_name(type->kind));
    if (type->kind != KWR_TYPE_ROW && (type->fields != NULL || type->field_count != 0))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: only rows have fields, not %s", what,
                        kwr_type_kind_name(type->kind));
    if (type->fields == NULL && type->field_count != 0)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: a row of %zu fields without them", what,
                        type->field_count);
    return KWR_OK;
}

/* `before`: the field to its left in the same row, or NULL. */
static kwr_status check_field(const kwr_field *field, const kwr_field *before, const char *what,
                              kwr_error *err) {
    KWR_TRY(check_one(&field->type, what, err));
    if (before != NULL && before->id >= field->id)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: field ids must ascend: %u comes after %u", what,
                        (unsigned)field->id, (unsigned)before->id);
    const size_t size = field->name == NULL ? 0 : strnlen(field->name, FIELD_NAME_MAX + 1);
    if (size == 0 || size > FIELD_NAME_MAX || !kwr_utf8_ok(field->name, size))
        return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                        "%s: the name of field %u must be 1 to %d bytes of UTF-8", what,
                        (unsigned)field->id, FIELD_NAME_MAX);
    return KWR_OK;
}

kwr_status kwr_type_check(const kwr_type *type, const char *what, kwr_error *err) {
    KWR_TRY(check_one(type, what, err));
    type_walk walk = walk_of(type);
    size_t fields = 0;
    for (;;) {
        const kwr_field *field = NULL;
        const walk_event event = walk_next(&walk, &field);
        if (event == WALK_END) return KWR_OK;
        if (event == WALK_TOO_DEEP)
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: rows nest deeper than %d", what,
                            KWR_TYPE_DEPTH_MAX);
        if (event == WALK_LEAVE) continue;
        /* Counted over all levels: shared sub-rows could otherwise multiply without end. */
        if (++fields > KWR_FIELDS_MAX)
            return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: more than %d fields", what, KWR_FIELDS_MAX);
        const bool entered = field->type.kind == KWR_TYPE_ROW;
        const size_t level = walk.depth - (entered ? 2 : 1);
        KWR_TRY(check_field(field, walk.level[level].next > 1 ? field - 1 : NULL, what, err));
    }
}

kwr_status kwr_type_check_key(const kwr_type *type, const char *what, kwr_error *err) {
    KWR_TRY(kwr_type_check(type, what, err));
    if (type->kind == KWR_TYPE_ROW)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s: rows are for values only", what);
    return KWR_OK;
}

/* ---- comparing ---- */

static bool same_one(const kwr_type *a, const kwr_type *b) {
    return a->kind == b->kind && a->version == b->version && a->field_count == b->field_count;
}

static bool same_walk(const kwr_type *a, const kwr_type *b, bool labels) {
    if (!same_one(a, b)) return false;
    type_walk walk_a = walk_of(a);
    type_walk walk_b = walk_of(b);
    for (;;) {
        const kwr_field *field_a = NULL;
        const kwr_field *field_b = NULL;
        const walk_event event = walk_next(&walk_a, &field_a);
        if (event != walk_next(&walk_b, &field_b) || event == WALK_TOO_DEEP) return false;
        if (event == WALK_END) return true;
        if (event == WALK_LEAVE) continue;
        if (field_a->id != field_b->id || !same_one(&field_a->type, &field_b->type)) return false;
        if (labels && strcmp(field_a->name, field_b->name) != 0) return false;
    }
}

bool kwr_type_same(const kwr_type *a, const kwr_type *b) { return same_walk(a, b, false); }
bool kwr_type_same_labels(const kwr_type *a, const kwr_type *b) { return same_walk(a, b, true); }

/* ---- copying: one block, all fields level by level, then their names ---- */

static void measure(const kwr_type *type, size_t *fields, size_t *name_bytes) {
    *fields = 0;
    *name_bytes = 0;
    type_walk walk = walk_of(type);
    const kwr_field *field = NULL;
    walk_event event;
    while ((event = walk_next(&walk, &field)) != WALK_END && event != WALK_TOO_DEEP) {
        if (event != WALK_FIELD) continue;
        *fields += 1;
        *name_bytes += strlen(field->name) + 1;
    }
}

kwr_status kwr_type_copy(const kwr_env *env, const kwr_type *type, kwr_type *out) {
    size_t total, name_bytes;
    measure(type, &total, &name_bytes);
    kwr_type copy = { .kind = type->kind, .version = type->version };
    if (total == 0) {
        *out = copy;
        return KWR_OK;
    }
    kwr_field *fields = (kwr_field *)kwr_alloc(env, total * sizeof *fields + name_bytes);
    if (fields == NULL) return KWR_ERR_NOMEM;
    char *names = (char *)(fields + total);
    memcpy(fields, type->fields, type->field_count * sizeof *fields);
    copy.fields = fields;
    copy.field_count = type->field_count;
    /* The copied fields are their own queue: rows among them append theirs behind it. */
    size_t queued = type->field_count;
    for (size_t i = 0; i < queued; i++) {
        const size_t size = strlen(fields[i].name) + 1;
        memcpy(names, fields[i].name, size);
        fields[i].name = names;
        names += size;
        const size_t count = fields[i].type.field_count;
        if (count == 0) {
            fields[i].type.fields = NULL;
            continue;
        }
        memcpy(fields + queued, fields[i].type.fields, count * sizeof *fields);
        fields[i].type.fields = fields + queued;
        queued += count;
    }
    *out = copy;
    return KWR_OK;
}

void kwr_type_free(const kwr_env *env, kwr_type *type) {
    size_t total, name_bytes;
    measure(type, &total, &name_bytes);
    if (total > 0) kwr_free(env, (void *)type->fields, total * sizeof(kwr_field) + name_bytes);
    *type = (kwr_type){ .kind = KWR_TYPE_BYTES };
}

/* ---- text ---- */

typedef struct text_out {
    char *out;
    size_t capacity;
    size_t size;
} text_out;

static void __attribute__((format(printf, 2, 3)))
text_add(text_out *text, const char *format, ...) {
    const size_t room = text->capacity - text->size;
    va_list args;
    va_start(args, format);
    const int wrote = vsnprintf(text->out + text->size, room, format, args);
    va_end(args);
    if (wrote < 0) return;
    text->size += (size_t)wrote < room ? (size_t)wrote : room - 1;
}

static bool text_full(const text_out *text) { return text->size + 1 >= text->capacity; }

static void text_kind(text_out *text, const kwr_type *type) {
    if (type->kind == KWR_TYPE_ROW) {
        text_add(text, "row{");
    } else if (type->kind == KWR_TYPE_OPAQUE) {
        text_add(text, "opaque v%u", (unsigned)type->version);
    } else {
        text_add(text, "%s", kwr_type_kind_name(type->kind));
    }
}

void kwr_type_text(const kwr_type *type, char *out, size_t capacity) {
    if (capacity == 0) return;
    out[0] = '\0';
    text_out text = { .out = out, .capacity = capacity };
    text_kind(&text, type);
    type_walk walk = walk_of(type);
    bool first = true;
    while (!text_full(&text)) {
        const kwr_field *field = NULL;
        const walk_event event = walk_next(&walk, &field);
        if (event == WALK_END || event == WALK_TOO_DEEP) return;
        if (event == WALK_LEAVE) {
            text_add(&text, "}");
            first = false;
            continue;
        }
        text_add(&text, "%s%u %s:", first ? "" : ",", (unsigned)field->id,
                 field->name == NULL ? "" : field->name);
        text_kind(&text, &field->type);
        first = field->type.kind == KWR_TYPE_ROW;
    }
}

/* ---- key encodings: the byte order of the encoding is the order of the values ---- */

static const uint32_t sign32 = UINT32_C(1) << 31;
static const uint64_t sign64 = UINT64_C(1) << 63;

size_t kwr_key_from_i32(int32_t value, uint8_t out[4]) {
    kwr_put_be32(out, (uint32_t)value ^ sign32);
    return 4;
}
size_t kwr_key_from_i64(int64_t value, uint8_t out[8]) {
    kwr_put_be64(out, (uint64_t)value ^ sign64);
    return 8;
}
size_t kwr_key_from_u64(uint64_t value, uint8_t out[8]) {
    kwr_put_be64(out, value);
    return 8;
}
size_t kwr_key_from_f64(double value, uint8_t out[8]) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    kwr_put_be64(out, (bits & sign64) != 0 ? ~bits : bits ^ sign64);
    return 8;
}

int32_t kwr_key_to_i32(const uint8_t key[4]) { return (int32_t)(kwr_get_be32(key) ^ sign32); }
int64_t kwr_key_to_i64(const uint8_t key[8]) { return (int64_t)(kwr_get_be64(key) ^ sign64); }
uint64_t kwr_key_to_u64(const uint8_t key[8]) { return kwr_get_be64(key); }
double kwr_key_to_f64(const uint8_t key[8]) {
    uint64_t bits = kwr_get_be64(key);
    bits = (bits & sign64) != 0 ? bits ^ sign64 : ~bits;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
