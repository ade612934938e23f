/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of JSON that the manifest and a subtask's part share. */
#ifndef KWR_SNAPSHOT_MANIFEST_JSON_H
#define KWR_SNAPSHOT_MANIFEST_JSON_H

#include <jansson.h>

#include "base/limits.h"
#include "snapshot/json_out.h"
#include "snapshot/manifest.h"

enum { KWR_ROLE_SOURCE = 1, KWR_ROLE_KEYED = 2, KWR_ROLE_SINK = 4, KWR_ROLES_ALL = 7 };

#define KWR_MANIFEST_VERSION 1

/* ---- writing ---- */

void kwr_write_type(kwr_buffer *out, const kwr_type *type);
/* The object of a subtask, its fields at `depth` spaces. */
void kwr_write_subtask(kwr_buffer *out, const kwr_manifest_subtask *subtask, unsigned depth);

/* ---- reading ---- */

/* One parse: everything read goes into the arena; the first failure stays. */
typedef struct kwr_parse {
    const kwr_env *env;
    kwr_arena *arena;
    const kwr_limits *limits; /* complete */
    const char *what;         /* the file */
    kwr_error *err;
    kwr_status status;
    bool unknown_fields; /* optional features are in use: unknown fields are skipped */
    bool handle;         /* a part: operator state may stand where keyed state does */
    uint64_t files;      /* so far */
} kwr_parse;

/* Where in the document, for messages: "operators[2].subtasks[0]". */
typedef struct kwr_place {
    char text[160];
} kwr_place;

void kwr_place_of(kwr_place *out, const kwr_place *parent, const char *field, size_t index);

/* Sets the first failure: KWR_ERR_CORRUPT naming file and field. */
void kwr_parse_fail(kwr_parse *p, const kwr_place *place, const char *field, const char *text);
void kwr_parse_nomem(kwr_parse *p);
/* Loads the text, which must be one JSON object. NULL after a failure. */
json_t *kwr_parse_load(kwr_parse *p, kwr_slice text);
/* Counts known fields: call with the object and how many fields were asked for. */
void kwr_parse_known(kwr_parse *p, const kwr_place *place, const json_t *object,
                     const char *const *fields, size_t count);
/* "keyweir", "version", "features", "optional". KWR_ERR_FORMAT when this reader is too old. */
void kwr_parse_preamble(kwr_parse *p, const json_t *root, const char *kind);

/* Field of an object; NULL and failed when missing. */
const json_t *kwr_parse_field(kwr_parse *p, const kwr_place *place, const json_t *object,
                              const char *field);
uint64_t kwr_parse_u64_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                          const char *field, uint64_t low, uint64_t high);
int64_t kwr_parse_i64_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                         const char *field);
bool kwr_parse_bool_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                       const char *field);
uint64_t kwr_parse_hex64_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                            const char *field);
kwr_digest kwr_parse_digest_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                               const char *field);
/* UTF-8 without NUL of 1..max bytes, copied; NULL after a failure. */
const char *kwr_parse_text_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                              const char *field, size_t max);
const char *kwr_parse_name_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                              const char *field, size_t max, bool dot_allowed);
kwr_slice kwr_parse_bytes_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                             const char *field, size_t max);
/* An array of at most `max`; *count is 0 after a failure. */
const json_t *kwr_parse_array_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                                 const char *field, size_t max, size_t *count);
void kwr_parse_type_in(kwr_parse *p, const kwr_place *place, const json_t *object,
                       const char *field, kwr_type *out);
/* "xxh3-64" or "engine". */
bool kwr_parse_key_groups_in(kwr_parse *p, const kwr_place *place, const json_t *object);

void kwr_parse_subtask(kwr_parse *p, const kwr_place *place, const json_t *object,
                       uint32_t max_parallelism, kwr_manifest_subtask *out);
/* Inline files tile [0, length) exactly, in the order they are met. */
void kwr_parse_tiles(kwr_parse *p, const kwr_place *place, const kwr_manifest_subtask *subtask,
                     uint64_t *at);

#endif /* KWR_SNAPSHOT_MANIFEST_JSON_H */
