/* SPDX-License-Identifier: Apache-2.0 */
/* Reading types: scalars by name, opaque ones with a version, rows with their fields. */
#include <string.h>

#include "base/error.h"
#include "snapshot/manifest_json.h"

/* A row whose fields are being read. */
typedef struct open_row {
    const json_t *fields;
    kwr_field *out;
    size_t next;
    size_t count;
    kwr_place place;
} open_row;

static void read_scalar_name(kwr_parse *p, const kwr_place *place, const char *field,
                             const json_t *value, kwr_type *out) {
    kwr_type_kind kind = KWR_TYPE_BYTES;
    if (memchr(json_string_value(value), 0, json_string_length(value)) != NULL ||
        !kwr_type_kind_parse(json_string_value(value), &kind) || kind == KWR_TYPE_ROW ||
        kind == KWR_TYPE_OPAQUE) {
        kwr_parse_fail(p, place, field, "is not a type");
        return;
    }
    out->kind = kind;
}

/* Opens the row's field list; false when it is none. */
static bool open_fields(kwr_parse *p, const kwr_place *place, const json_t *value, kwr_type *out,
                        open_row *row) {
    static const char *const known[] = { "kind", "fields" };
    kwr_parse_known(p, place, value, known, 2);
    *row = (open_row){ 0 };
    row->fields = kwr_parse_array_in(p, place, value, "fields", KWR_FIELDS_MAX, &row->count);
    row->out = kwr_arena_array(p->arena, row->count, sizeof *row->out);
    if (row->out == NULL) kwr_parse_nomem(p);
    if (p->status < KWR_OK) return false;
    if (place != NULL) row->place = *place;
    out->kind = KWR_TYPE_ROW;
    out->fields = row->out;
    out->field_count = row->count;
    return true;
}

/* Any type; true when it is a row that has been opened. */
static bool read_one(kwr_parse *p, const kwr_place *place, const char *field, const json_t *value,
                     kwr_type *out, open_row *row) {
    *out = (kwr_type){ 0 };
    if (p->status < KWR_OK || value == NULL) return false;
    if (json_is_string(value)) {
        read_scalar_name(p, place, field, value, out);
        return false;
    }
    const json_t *kind = json_is_object(value) ? json_object_get(value, "kind") : NULL;
    const char *name = kind != NULL && json_is_string(kind) ? json_string_value(kind) : "";
    if (strcmp(name, "opaque") == 0) {
        static const char *const known[] = { "kind", "version" };
        kwr_parse_known(p, place, value, known, 2);
        out->kind = KWR_TYPE_OPAQUE;
        out->version = (uint32_t)kwr_parse_u64_in(p, place, value, "version", 0, UINT32_MAX);
        return false;
    }
    if (strcmp(name, "row") == 0) return open_fields(p, place, value, out, row);
    kwr_parse_fail(p, place, field, "is not a type");
    return false;
}

void kwr_parse_type_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                       const char *field, kwr_type *out) {
    static const char *const known[] = { "id", "name", "type" };
    open_row stack[KWR_TYPE_DEPTH_MAX];
    size_t depth = 0;
    const json_t *value = kwr_parse_field(p, place, object, field);
    if (read_one(p, place, field, value, out, &stack[0])) depth = 1;
    while (depth > 0 && p->status >= KWR_OK) {
        open_row *row = &stack[depth - 1];
        if (row->next == row->count) {
            depth--;
            continue;
        }
        const json_t *from = json_array_get(row->fields, row->next);
        kwr_field *to = &row->out[row->next];
        kwr_place at;
        kwr_place_of(&at, &row->place, "fields", row->next);
        row->next++;
        kwr_parse_known(p, &at, from, known, 3);
        to->id = (uint16_t)kwr_parse_u64_in(p, &at, from, "id", 0, UINT16_MAX);
        to->name = kwr_parse_text_in(p, &at, from, "name", p->limits->name_bytes_max);
        open_row inner = { 0 };
        if (!read_one(p, &at, "type", kwr_parse_field(p, &at, from, "type"), &to->type, &inner))
            continue;
        if (depth == KWR_TYPE_DEPTH_MAX) {
            kwr_parse_fail(p, &at, "type", "is nested too deeply");
            return;
        }
        stack[depth++] = inner;
    }
    if (p->status >= KWR_OK && kwr_type_check(out, field, NULL) < KWR_OK)
        kwr_parse_fail(p, place, field, "is not a valid type");
}
