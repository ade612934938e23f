/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows by field. A row is a u16 count and then, ascending, u16 id, u32 size and the field's value
 * encoding. A writer counts on when its buffer is full, so that it can say how large it must be.
 */
#include "keyweir/row.h"

#include <string.h>

#include "backend/view.h"
#include "base/bytes.h"
#include "base/error.h"

enum { COUNT_BYTES = 2, HEAD_BYTES = 6, TYPE_TEXT = 100 };

/* ---- fields of the type ---- */

static const kwr_field *field_of(const kwr_type *type, uint16_t id) {
    if (type->kind != KWR_TYPE_ROW) return NULL;
    for (size_t i = 0; i < type->field_count; i++)
        if (type->fields[i].id == id) return &type->fields[i];
    return NULL;
}

static kwr_status no_field(const kwr_type *type, uint16_t id, kwr_error *err) {
    char text[TYPE_TEXT];
    kwr_type_text(type, text, sizeof text);
    return KWR_FAIL(err, KWR_ERR_RANGE, 0, "%s has no field %u", text, (unsigned)id);
}

static kwr_status other_kind(const kwr_field *field, const char *verb, kwr_type_kind kind,
                             kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "field %u '%s' is of %s, %s as %s",
                    (unsigned)field->id, field->name, kwr_type_kind_name(field->type.kind), verb,
                    kwr_type_kind_name(kind));
}

/* ---- writing ---- */

void kwr_row_begin(kwr_row *row, const kwr_type *type, void *data, size_t capacity) {
    row->type = type;
    row->data = (uint8_t *)data;
    row->capacity = capacity;
    row->size = COUNT_BYTES;
    row->last = 0;
    row->count = 0;
    row->error.status = KWR_OK;
    row->error.sys_errno = 0;
    row->error.text[0] = '\0';
}

/* `size` bytes more, counted even where there is no room for them. */
static void append(kwr_row *row, const void *data, size_t size) {
    const size_t at = row->size;
    if (size > SIZE_MAX - at) {
        (void)KWR_FAIL(&row->error, KWR_ERR_RANGE, 0, "a row larger than memory");
        return;
    }
    row->size = at + size;
    if (row->size <= row->capacity && size > 0) memcpy(row->data + at, data, size);
}

static kwr_status check_order(kwr_row *row, const kwr_field *field) {
    if (field->id >= row->last) return KWR_OK;
    return KWR_FAIL(&row->error, KWR_ERR_RANGE, 0,
                    "fields of a row are written in ascending order: %u comes after %u",
                    (unsigned)field->id, (unsigned)row->last - 1);
}

/* The field, when it may be written now; else NULL with the failure kept. */
static const kwr_field *next_field(kwr_row *row, uint16_t id) {
    if (row->error.status < KWR_OK) return NULL;
    const kwr_field *field = field_of(row->type, id);
    if (field == NULL) {
        (void)no_field(row->type, id, &row->error);
        return NULL;
    }
    return check_order(row, field) < KWR_OK ? NULL : field;
}

static void put_bytes(kwr_row *row, const kwr_field *field, const void *data, size_t size) {
    const size_t fixed = kwr_type_fixed_size(&field->type);
    if (size > UINT32_MAX || (fixed != 0 && size != fixed)) {
        (void)KWR_FAIL(&row->error, KWR_ERR_RANGE, 0, "field %u '%s': %zu bytes are no %s",
                       (unsigned)field->id, field->name, size,
                       kwr_type_kind_name(field->type.kind));
        return;
    }
    uint8_t head[HEAD_BYTES];
    kwr_put_le16(head, field->id);
    kwr_put_le32(head + 2, (uint32_t)size);
    append(row, head, sizeof head);
    append(row, data, size);
    row->last = (uint32_t)field->id + 1;
    row->count++;
}

static void put_as(kwr_row *row, uint16_t id, kwr_type_kind kind, const void *data, size_t size) {
    const kwr_field *field = next_field(row, id);
    if (field == NULL) return;
    if (field->type.kind != kind)
        (void)other_kind(field, "written", kind, &row->error);
    else
        put_bytes(row, field, data, size);
}

void kwr_row_put_bool(kwr_row *row, uint16_t id, bool value) {
    const uint8_t byte = value ? 1 : 0;
    put_as(row, id, KWR_TYPE_BOOL, &byte, sizeof byte);
}
void kwr_row_put_i32(kwr_row *row, uint16_t id, int32_t value) {
    put_as(row, id, KWR_TYPE_I32, &value, sizeof value);
}
void kwr_row_put_i64(kwr_row *row, uint16_t id, int64_t value) {
    put_as(row, id, KWR_TYPE_I64, &value, sizeof value);
}
void kwr_row_put_u64(kwr_row *row, uint16_t id, uint64_t value) {
    put_as(row, id, KWR_TYPE_U64, &value, sizeof value);
}
void kwr_row_put_f64(kwr_row *row, uint16_t id, double value) {
    put_as(row, id, KWR_TYPE_F64, &value, sizeof value);
}
void kwr_row_put_string(kwr_row *row, uint16_t id, const char *text) {
    put_as(row, id, KWR_TYPE_STRING, text, strlen(text));
}
void kwr_row_put(kwr_row *row, uint16_t id, kwr_slice value) {
    const kwr_field *field = next_field(row, id);
    if (field != NULL) put_bytes(row, field, value.data, value.size);
}

kwr_status kwr_row_end(kwr_row *row, kwr_slice *out, kwr_error *err) {
    if (row->error.status < KWR_OK) {
        if (err != NULL) *err = row->error;
        return row->error.status;
    }
    if (row->type->kind != KWR_TYPE_ROW)
        return KWR_FAIL(err, KWR_ERR_MISMATCH, 0, "a row was written as %s",
                        kwr_type_kind_name(row->type->kind));
    if (row->size > row->capacity)
        return KWR_FAIL(err, KWR_ERR_RANGE, 0, "the row has %zu bytes, its buffer %zu", row->size,
                        row->capacity);
    kwr_put_le16(row->data, (uint16_t)row->count);
    *out = (kwr_slice){ row->data, row->size };
    return KWR_OK;
}

/* ---- reading ---- */

static kwr_status corrupt(uint16_t id, kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                    "looking for field %u: these bytes are no row of this type", (unsigned)id);
}

/* The field's bytes, with NULL data when it is absent. */
static kwr_status find(kwr_slice row, const kwr_field *field, kwr_slice *out, kwr_error *err) {
    kwr_cursor c = kwr_cursor_of(row.data, row.size);
    const uint16_t count = kwr_cursor_u16(&c);
    const size_t fixed = kwr_type_fixed_size(&field->type);
    uint32_t above = 0;
    for (uint16_t i = 0; i < count && !c.failed; i++) {
        const uint16_t id = kwr_cursor_u16(&c);
        const uint32_t size = kwr_cursor_u32(&c);
        const uint8_t *bytes = kwr_cursor_take(&c, size);
        if (c.failed || id < above) return corrupt(field->id, err);
        above = (uint32_t)id + 1;
        if (id > field->id) return KWR_NOT_FOUND;
        if (id < field->id) continue;
        if (fixed != 0 && size != fixed) return corrupt(field->id, err);
        *out = (kwr_slice){ bytes, size };
        return KWR_OK;
    }
    if (c.failed || kwr_cursor_left(&c) != 0) return corrupt(field->id, err);
    return KWR_NOT_FOUND;
}

/* Of one kind; `kind` may be any when `any` is true. */
static kwr_status get(const kwr_type *type, kwr_slice row, uint16_t id, bool any,
                      kwr_type_kind kind, kwr_slice *out, kwr_error *err) {
    const kwr_field *field = field_of(type, id);
    if (field == NULL) return no_field(type, id, err);
    if (!any && field->type.kind != kind) return other_kind(field, "read", kind, err);
    *out = (kwr_slice){ 0 };
    return find(row, field, out, err);
}

kwr_status kwr_row_get(const kwr_type *type, kwr_slice row, uint16_t id, kwr_slice *out,
                       kwr_error *err) {
    kwr_slice got = { 0 };
    const kwr_status status = get(type, row, id, true, KWR_TYPE_BYTES, &got, err);
    if (status >= KWR_OK) *out = got;
    return status;
}

kwr_status kwr_row_get_string(const kwr_type *type, kwr_slice row, uint16_t id, kwr_slice *out,
                              kwr_error *err) {
    kwr_slice got = { 0 };
    const kwr_status status = get(type, row, id, false, KWR_TYPE_STRING, &got, err);
    if (status >= KWR_OK) *out = got;
    return status;
}

kwr_status kwr_row_get_bool(const kwr_type *type, kwr_slice row, uint16_t id, bool *out,
                            kwr_error *err) {
    kwr_slice got = { 0 };
    const kwr_status status = get(type, row, id, false, KWR_TYPE_BOOL, &got, err);
    if (status >= KWR_OK) *out = status == KWR_OK && *(const uint8_t *)got.data != 0;
    return status;
}

/* A number of `size` bytes; zeros when it is absent. */
static kwr_status get_number(const kwr_type *type, kwr_slice row, uint16_t id, kwr_type_kind kind,
                             void *out, size_t size, kwr_error *err) {
    kwr_slice got = { 0 };
    const kwr_status status = get(type, row, id, false, kind, &got, err);
    if (status == KWR_OK) memcpy(out, got.data, size);
    if (status == KWR_NOT_FOUND) memset(out, 0, size);
    return status;
}

kwr_status kwr_row_get_i32(const kwr_type *type, kwr_slice row, uint16_t id, int32_t *out,
                           kwr_error *err) {
    return get_number(type, row, id, KWR_TYPE_I32, out, sizeof *out, err);
}
kwr_status kwr_row_get_i64(const kwr_type *type, kwr_slice row, uint16_t id, int64_t *out,
                           kwr_error *err) {
    return get_number(type, row, id, KWR_TYPE_I64, out, sizeof *out, err);
}
kwr_status kwr_row_get_u64(const kwr_type *type, kwr_slice row, uint16_t id, uint64_t *out,
                           kwr_error *err) {
    return get_number(type, row, id, KWR_TYPE_U64, out, sizeof *out, err);
}
kwr_status kwr_row_get_f64(const kwr_type *type, kwr_slice row, uint16_t id, double *out,
                           kwr_error *err) {
    return get_number(type, row, id, KWR_TYPE_F64, out, sizeof *out, err);
}
