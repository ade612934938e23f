/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading single values of a JSON document strictly: each of the one expected type, inside its
 * bounds, with the file and the field named otherwise. After the first failure nothing is read.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/name.h"
#include "snapshot/manifest_json.h"

enum { FEATURES_MAX = 64, FEATURE_BYTES_MAX = 100 };

void kwr_place_of(kwr_place *out, const kwr_place *parent, const char *field, size_t index) {
    const char *dot = parent == NULL || parent->text[0] == '\0' ? "" : ".";
    const char *before = parent == NULL ? "" : parent->text;
    kwr_place made;
    snprintf(made.text, sizeof made.text, "%.100s%s%.30s[%zu]", before, dot, field, index);
    *out = made;
}

void kwr_parse_fail(kwr_parse *p, const kwr_place *place, const char *field, const char *text) {
    if (p->status < KWR_OK) return;
    p->status = KWR_ERR_CORRUPT;
    const bool nested = place != NULL && place->text[0] != '\0';
    kwr_error_set(p->err, KWR_ERR_CORRUPT, 0, "'%s' is damaged: field %s%s%s %s", p->what,
                  nested ? place->text : "", nested ? "." : "", field, text);
}

void kwr_parse_nomem(kwr_parse *p) {
    if (p->status < KWR_OK) return;
    p->status = KWR_ERR_NOMEM;
    kwr_error_set(p->err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", p->what);
}

json_t *kwr_parse_load(kwr_parse *p, kwr_slice text) {
    json_error_t at;
    json_t *root =
        json_loadb(text.data == NULL ? "" : text.data, text.size, JSON_REJECT_DUPLICATES, &at);
    if (root != NULL && json_is_object(root)) return root;
    if (root != NULL) {
        json_decref(root);
        p->status = KWR_FAIL(p->err, KWR_ERR_CORRUPT, 0,
                             "'%s' is damaged: it is not one JSON object", p->what);
    } else if (json_error_code(&at) == json_error_out_of_memory) {
        kwr_parse_nomem(p);
    } else {
        p->status = KWR_FAIL(p->err, KWR_ERR_CORRUPT, 0,
                             "'%s' is damaged at offset %d (line %d): not JSON as specified",
                             p->what, at.position, at.line);
    }
    return NULL;
}

void kwr_parse_known(kwr_parse *p, const kwr_place *place, const json_t *object,
                     const char *const *fields, size_t count) {
    if (p->status < KWR_OK || p->unknown_fields) return;
    const char *key = NULL;
    json_t *value = NULL;
    /* jansson's iteration wants a non-const object and does not change it. */
    json_object_foreach((json_t *)object, key, value) {
        bool known = false;
        for (size_t i = 0; i < count && !known; i++)
            known = strcmp(key, fields[i]) == 0;
        if (known) continue;
        char shown[64];
        kwr_printable(key, strlen(key), shown, sizeof shown);
        kwr_parse_fail(p, place, shown, "is not known in this version");
        return;
    }
}

static bool is_word(const json_t *value, const char *word) {
    return value != NULL && json_is_string(value) && json_string_length(value) == strlen(word) &&
           memcmp(json_string_value(value), word, strlen(word)) == 0;
}

void kwr_parse_preamble(kwr_parse *p, const json_t *root, const char *kind) {
    const json_t *magic = kwr_parse_field(p, NULL, root, "keyweir");
    if (p->status >= KWR_OK && !is_word(magic, kind))
        kwr_parse_fail(p, NULL, "keyweir", "is not what this file should be");
    const uint64_t version = kwr_parse_u64_in(p, NULL, root, "version", 1, UINT32_MAX);
    if (p->status < KWR_OK) return;
    if (version != KWR_MANIFEST_VERSION) {
        p->status = KWR_FAIL(p->err, KWR_ERR_FORMAT, 0,
                             "'%s' was written in version %llu of the format, this build reads "
                             "version %d; use a newer keyweir",
                             p->what, (unsigned long long)version, KWR_MANIFEST_VERSION);
        return;
    }
    size_t features = 0, optional = 0;
    const json_t *list = kwr_parse_array_in(p, NULL, root, "features", FEATURES_MAX, &features);
    if (features > 0) {
        char shown[FEATURE_BYTES_MAX];
        const json_t *first = json_array_get(list, 0);
        kwr_printable(json_is_string(first) ? json_string_value(first) : "?",
                      json_is_string(first) ? json_string_length(first) : 1, shown, sizeof shown);
        p->status = KWR_FAIL(p->err, KWR_ERR_FORMAT, 0,
                             "'%s' uses feature '%s', which this build does not know; use a newer "
                             "keyweir",
                             p->what, shown);
        return;
    }
    const json_t *known = kwr_parse_array_in(p, NULL, root, "optional", FEATURES_MAX, &optional);
    for (size_t i = 0; i < optional; i++)
        if (!json_is_string(json_array_get(known, i)))
            kwr_parse_fail(p, NULL, "optional", "is not a list of strings");
    p->unknown_fields = optional > 0;
}

const json_t *kwr_parse_field(kwr_parse *p, const kwr_place *place, const json_t *object,
                              const char *field) {
    if (p->status < KWR_OK) return NULL;
    const json_t *value = json_object_get(object, field);
    if (value == NULL) kwr_parse_fail(p, place, field, "is missing");
    return value;
}

/* A number up to 2^53, beyond that a string of digits: one form for each value. */
static bool read_u64(const json_t *value, uint64_t *out) {
    if (json_is_integer(value)) {
        const json_int_t number = json_integer_value(value);
        if (number < 0 || (uint64_t)number > KWR_JSON_EXACT_MAX) return false;
        *out = (uint64_t)number;
        return true;
    }
    return json_is_string(value) &&
           kwr_parse_u64(json_string_value(value), json_string_length(value), out) &&
           *out > KWR_JSON_EXACT_MAX;
}

uint64_t kwr_parse_u64_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                          const char *field, uint64_t low, uint64_t high) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    if (value == NULL) return 0;
    uint64_t number = 0;
    if (!read_u64(value, &number)) {
        kwr_parse_fail(p, place, field, "is not a whole number as specified");
        return 0;
    }
    if (number < low || number > high) {
        char text[96];
        snprintf(text, sizeof text, "is %llu, outside %llu to %llu", (unsigned long long)number,
                 (unsigned long long)low, (unsigned long long)high);
        kwr_parse_fail(p, place, field, text);
        return 0;
    }
    return number;
}

int64_t kwr_parse_i64_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                         const char *field) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    if (value == NULL) return 0;
    if (json_is_integer(value)) {
        const json_int_t number = json_integer_value(value);
        if (number >= -(json_int_t)KWR_JSON_EXACT_MAX && number <= (json_int_t)KWR_JSON_EXACT_MAX)
            return number;
    } else if (json_is_string(value) && json_string_length(value) > 0) {
        const char *text = json_string_value(value);
        const bool negative = text[0] == '-';
        uint64_t number = 0;
        if (kwr_parse_u64(text + negative, json_string_length(value) - negative, &number) &&
            number > KWR_JSON_EXACT_MAX && number <= (uint64_t)INT64_MAX + negative)
            return negative ? (int64_t)(0 - number) : (int64_t)number;
    }
    kwr_parse_fail(p, place, field, "is not a whole number as specified");
    return 0;
}

bool kwr_parse_bool_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                       const char *field) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    if (value != NULL && !json_is_boolean(value))
        kwr_parse_fail(p, place, field, "is neither true nor false");
    return value != NULL && json_is_true(value);
}

uint64_t kwr_parse_hex64_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                            const char *field) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    uint64_t number = 0;
    if (value == NULL) return 0;
    if (!json_is_string(value) || json_string_length(value) != 16 ||
        !kwr_parse_hex64(json_string_value(value), 16, &number))
        kwr_parse_fail(p, place, field, "is not 16 lower-case hex digits");
    return number;
}

kwr_digest kwr_parse_digest_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                               const char *field) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    kwr_digest digest = { 0 };
    if (value == NULL) return digest;
    if (!json_is_string(value) ||
        !kwr_digest_parse(json_string_value(value), json_string_length(value), &digest))
        kwr_parse_fail(p, place, field, "is not 32 lower-case hex digits");
    return digest;
}

const char *kwr_parse_text_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                              const char *field, size_t max) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    if (value == NULL) return NULL;
    const size_t size = json_is_string(value) ? json_string_length(value) : 0;
    if (size == 0 || size > max || memchr(json_string_value(value), 0, size) != NULL) {
        char text[80];
        snprintf(text, sizeof text, "is not a text of 1 to %zu bytes", max);
        kwr_parse_fail(p, place, field, text);
        return NULL;
    }
    const char *copy = kwr_arena_string(p->arena, json_string_value(value), size);
    if (copy == NULL) kwr_parse_nomem(p);
    return copy;
}

const char *kwr_parse_name_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                              const char *field, size_t max, bool dot_allowed) {
    const char *name = kwr_parse_text_in(p, place, object, field, max);
    if (name == NULL || kwr_name_ok(name, max, dot_allowed)) return name;
    kwr_parse_fail(p, place, field, "is not a name of A-Z a-z 0-9 . _ -");
    return NULL;
}

static kwr_slice decode_base64(kwr_parse *p, const kwr_place *place, const json_t *value,
                               const char *field, size_t max) {
    const json_t *text = json_object_get(value, "base64");
    if (text == NULL || !json_is_string(text) || json_object_size(value) != 1 ||
        json_string_length(text) / 4 * 3 > max + 2) {
        kwr_parse_fail(p, place, field, "is not bytes as specified, or too long");
        return (kwr_slice){ 0 };
    }
    size_t size = json_string_length(text) / 4 * 3;
    uint8_t *data = kwr_arena_alloc(p->arena, size);
    if (data == NULL) {
        kwr_parse_nomem(p);
        return (kwr_slice){ 0 };
    }
    if (!kwr_unbase64(json_string_value(text), json_string_length(text), data, &size) ||
        size > max) {
        kwr_parse_fail(p, place, field, "is not base64, or too long");
        return (kwr_slice){ 0 };
    }
    return (kwr_slice){ data, size };
}

kwr_slice kwr_parse_bytes_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                             const char *field, size_t max) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    if (value == NULL) return (kwr_slice){ 0 };
    if (json_is_object(value)) return decode_base64(p, place, value, field, max);
    if (!json_is_string(value) || json_string_length(value) > max) {
        kwr_parse_fail(p, place, field, "is not bytes as specified, or too long");
        return (kwr_slice){ 0 };
    }
    const size_t size = json_string_length(value);
    const char *copy = kwr_arena_string(p->arena, json_string_value(value), size);
    if (copy == NULL) {
        kwr_parse_nomem(p);
        return (kwr_slice){ 0 };
    }
    return (kwr_slice){ copy, size };
}

const json_t *kwr_parse_array_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                                 const char *field, size_t max, size_t *count) {
    const json_t *value = kwr_parse_field(p, place, object, field);
    *count = 0;
    if (value == NULL) return NULL;
    if (!json_is_array(value) || json_array_size(value) > max) {
        char text[80];
        snprintf(text, sizeof text, "is not a list of at most %zu elements", max);
        kwr_parse_fail(p, place, field, text);
        return NULL;
    }
    *count = json_array_size(value);
    return value;
}

bool kwr_parse_key_groups_in(kwr_parse *p, const kwr_place *place, const json_t *object) {
    const json_t *value = kwr_parse_field(p, place, object, "key_groups");
    if (value == NULL) return false;
    if (is_word(value, "engine")) return true;
    if (!is_word(value, "xxh3-64"))
        kwr_parse_fail(p, place, "key_groups", "is neither xxh3-64 nor engine");
    return false;
}
