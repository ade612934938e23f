/* SPDX-License-Identifier: Apache-2.0 */
/* Times, sizes and stored bytes as people and programs read them. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/bytes.h"
#include "base/name.h"
#include "tools/tool.h"

void tool_time_text(int64_t unix_ms, char out[40]) {
    const int64_t ms = ((unix_ms % 1000) + 1000) % 1000;
    const time_t seconds = (time_t)((unix_ms - ms) / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL) {
        snprintf(out, 40, "%lld ms", (long long)unix_ms);
        return;
    }
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, 40, "%s.%03dZ", day, (int)ms);
}

void tool_bytes_text(uint64_t bytes, char out[32]) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    size_t unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

json_t *tool_json_bytes(kwr_slice bytes) {
    if (kwr_utf8_ok(bytes.data, bytes.size))
        return json_stringn(bytes.size == 0 ? "" : bytes.data, bytes.size);
    char *text = malloc(kwr_base64_size(bytes.size) + 1);
    if (text == NULL) return NULL;
    kwr_base64(bytes.data, bytes.size, text);
    json_t *json = json_pack("{s:s}", "base64", text);
    free(text);
    return json;
}

enum { EXACT_BITS = 53 };

json_t *tool_json_i64(int64_t value) {
    const int64_t exact = INT64_C(1) << EXACT_BITS;
    if (value >= -exact && value <= exact) return json_integer(value);
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return json_string(text);
}

json_t *tool_json_u64(uint64_t value) {
    if (value <= UINT64_C(1) << EXACT_BITS) return json_integer((json_int_t)value);
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return json_string(text);
}

static json_t *json_f64(double value) {
    if (isfinite(value)) return json_real(value);
    return json_string(isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

json_t *tool_json_key(const kwr_type *type, kwr_slice bytes) {
    const size_t fixed = kwr_type_fixed_size(type);
    if (fixed != 0 && bytes.size != fixed) return tool_json_bytes(bytes);
    switch (type->kind) {
    case KWR_TYPE_BOOL: return json_boolean(*(const uint8_t *)bytes.data);
    case KWR_TYPE_I32: return json_integer(kwr_key_to_i32(bytes.data));
    case KWR_TYPE_I64: return tool_json_i64(kwr_key_to_i64(bytes.data));
    case KWR_TYPE_U64: return tool_json_u64(kwr_key_to_u64(bytes.data));
    case KWR_TYPE_F64: return json_f64(kwr_key_to_f64(bytes.data));
    case KWR_TYPE_BYTES:
    case KWR_TYPE_STRING:
    case KWR_TYPE_ROW:
    case KWR_TYPE_OPAQUE: break;
    }
    return tool_json_bytes(bytes);
}

static json_t *value_of(const kwr_type *type, kwr_slice bytes, int depth);

/* Fields by name; a field the type does not know by its number, as bytes. */
static json_t *row_of(const kwr_type *type, kwr_slice bytes, int depth) {
    static const kwr_type unknown = { .kind = KWR_TYPE_BYTES };
    kwr_cursor c = kwr_cursor_of(bytes.data, bytes.size);
    json_t *row = json_object();
    const unsigned count = kwr_cursor_u16(&c);
    for (unsigned i = 0; i < count && !c.failed; i++) {
        const unsigned id = kwr_cursor_u16(&c);
        const uint32_t size = kwr_cursor_u32(&c);
        const uint8_t *data = kwr_cursor_take(&c, size);
        if (data == NULL) break;
        char number[16];
        snprintf(number, sizeof number, "%u", id);
        const char *name = number;
        const kwr_type *field = &unknown;
        for (size_t f = 0; f < type->field_count; f++) {
            if (type->fields[f].id != id) continue;
            field = &type->fields[f].type;
            if (type->fields[f].name != NULL) name = type->fields[f].name;
        }
        json_object_set_new(row, name, value_of(field, (kwr_slice){ data, size }, depth + 1));
    }
    if (!c.failed && kwr_cursor_left(&c) == 0) return row;
    json_decref(row); /* not what the type says: the bytes themselves */
    return tool_json_bytes(bytes);
}

static json_t *value_of(const kwr_type *type, kwr_slice bytes, int depth) {
    const size_t fixed = kwr_type_fixed_size(type);
    if (fixed != 0 && bytes.size != fixed) return tool_json_bytes(bytes);
    switch (type->kind) {
    case KWR_TYPE_BOOL: return json_boolean(*(const uint8_t *)bytes.data);
    case KWR_TYPE_I32: return json_integer((int32_t)kwr_get_le32(bytes.data));
    case KWR_TYPE_I64: return tool_json_i64((int64_t)kwr_get_le64(bytes.data));
    case KWR_TYPE_U64: return tool_json_u64(kwr_get_le64(bytes.data));
    case KWR_TYPE_F64: {
        double value;
        memcpy(&value, bytes.data, sizeof value);
        return json_f64(value);
    }
    case KWR_TYPE_ROW:
        return depth < KWR_TYPE_DEPTH_MAX ? row_of(type, bytes, depth) : tool_json_bytes(bytes);
    case KWR_TYPE_BYTES:
    case KWR_TYPE_STRING:
    case KWR_TYPE_OPAQUE: break;
    }
    return tool_json_bytes(bytes);
}

json_t *tool_json_value(const kwr_type *type, kwr_slice bytes) { return value_of(type, bytes, 0); }

bool tool_print_json(json_t *json, bool compact) {
    const size_t flags = compact ? JSON_COMPACT : JSON_INDENT(2);
    const bool ok =
        json != NULL && json_dumpf(json, stdout, flags) == 0 && fputc('\n', stdout) != EOF;
    json_decref(json);
    return ok;
}

/* Bytes as they are, but for what would break a line or a field, and the escape itself. */
static bool print_escaped(const char *text, size_t size) {
    bool ok = true;
    for (size_t i = 0; ok && i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '\\')
            ok = fputs("\\\\", stdout) != EOF;
        else if (c < 0x20 || c == 0x7f)
            ok = printf("\\x%02x", c) > 0;
        else
            ok = fputc(c, stdout) != EOF;
    }
    return ok;
}

bool tool_print_text_field(json_t *json, char end) {
    bool ok = json != NULL;
    if (ok && json_is_string(json)) {
        ok = print_escaped(json_string_value(json), json_string_length(json));
    } else if (ok) {
        char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT);
        ok = text != NULL && fputs(text, stdout) != EOF;
        free(text);
    }
    json_decref(json);
    return ok && fputc(end, stdout) != EOF;
}
