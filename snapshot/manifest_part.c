/* SPDX-License-Identifier: Apache-2.0 */
/* A subtask's part in acks and assignments: lengths, JSON, inline bytes, a checksum over all. */
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "keyweir/backend.h"
#include "snapshot/log.h"
#include "snapshot/manifest_json.h"

static const char part_magic[8] = { 'K', 'W', 'R', 'P', 'A', 'R', 'T', '\n' };
enum { PART_VERSION = 1, PART_HEAD = 24, PART_TAIL = 8, ARENA_FACTOR = 16, ARENA_BASE = 64 * 1024 };

static void write_inline_place(kwr_buffer *out, const kwr_inline_place *place) {
    kwr_json_text(out, ",\n \"inline\": {\"checkpoint\": ");
    kwr_json_u64(out, place->checkpoint);
    kwr_json_text(out, ", \"generation\": ");
    kwr_json_u64(out, place->generation);
    kwr_json_text(out, ", \"length\": ");
    kwr_json_u64(out, place->length);
    kwr_buffer_printf(out, ", \"operator\": \"%s\", \"job_uid\": ", place->operator_id);
    kwr_json_hex(out, place->job_uid, sizeof place->job_uid);
    kwr_json_text(out, "}");
}

static void write_json(kwr_buffer *out, const kwr_subtask_part *part) {
    kwr_buffer_printf(out, "{\n \"keyweir\": \"subtask\",\n \"version\": %d,",
                      KWR_MANIFEST_VERSION);
    kwr_json_text(out, "\n \"features\": [],\n \"optional\": [],\n \"seed\": ");
    kwr_json_hex64(out, part->seed);
    kwr_buffer_printf(out,
                      ",\n \"key_groups\": \"%s\",\n \"max_parallelism\": %u,\n \"key_type\": ",
                      part->engine_key_groups ? "engine" : "xxh3-64", part->max_parallelism);
    kwr_write_type(out, &part->key_type);
    if (part->inline_place.checkpoint != 0) write_inline_place(out, &part->inline_place);
    kwr_json_text(out, ",\n \"part\": ");
    kwr_write_subtask(out, &part->subtask, 2);
    kwr_json_text(out, "\n}\n");
}

kwr_status kwr_subtask_part_encode(const kwr_env *env, const kwr_subtask_part *part, kwr_bytes *out,
                                   kwr_error *err) {
    kwr_buffer b = { .env = env };
    uint8_t head[PART_HEAD] = { 0 };
    kwr_buffer_append(&b, head, sizeof head);
    write_json(&b, part);
    if (!b.failed) {
        memcpy(head, part_magic, sizeof part_magic);
        kwr_put_le32(head + 8, PART_VERSION);
        kwr_put_le32(head + 12, (uint32_t)(b.size - PART_HEAD));
        kwr_put_le64(head + 16, part->inline_bytes.size);
        if (b.size - PART_HEAD > UINT32_MAX)
            b.failed = true;
        else
            memcpy(b.data, head, sizeof head);
    }
    if (part->inline_bytes.size > 0)
        kwr_buffer_append(&b, part->inline_bytes.data, part->inline_bytes.size);
    if (!b.failed) {
        uint8_t sum[PART_TAIL];
        kwr_put_le64(sum, kwr_hash64(b.data, b.size, 0));
        kwr_buffer_append(&b, sum, sizeof sum);
    }
    const kwr_status status = kwr_buffer_take(&b, out);
    kwr_buffer_free(&b);
    if (status < KWR_OK) return KWR_FAIL(err, status, 0, "no memory for a subtask's part");
    return KWR_OK;
}

static void read_inline_place(kwr_parse *p, const json_t *root, kwr_inline_place *out) {
    static const char *const known[] = { "checkpoint", "generation", "length", "operator",
                                         "job_uid" };
    const kwr_place at = { "inline" };
    const json_t *place = json_object_get(root, "inline");
    if (place == NULL) return;
    kwr_parse_known(p, &at, place, known, sizeof known / sizeof *known);
    out->checkpoint = kwr_parse_u64_in(p, &at, place, "checkpoint", 1, UINT64_MAX);
    out->generation = kwr_parse_u64_in(p, &at, place, "generation", 1, UINT64_MAX);
    out->length = kwr_parse_u64_in(p, &at, place, "length", 0, INT64_MAX);
    out->operator_id = kwr_parse_name_in(p, &at, place, "operator", KWR_JOB_NAME_MAX, true);
    const kwr_digest uid = kwr_parse_digest_in(p, &at, place, "job_uid"); /* 16 bytes as well */
    memcpy(out->job_uid, uid.bytes, sizeof out->job_uid);
}

/* Inline files fill what travels along, or lie inside the file they are in. */
static void check_inline(kwr_parse *p, const kwr_place *place, const kwr_subtask_part *part) {
    const kwr_manifest_subtask *subtask = &part->subtask;
    uint64_t at = 0;
    if (part->inline_place.checkpoint == 0) {
        kwr_parse_tiles(p, place, subtask, &at);
        if (p->status >= KWR_OK && at != part->inline_bytes.size)
            kwr_parse_fail(p, place, "files", "do not fill the inline bytes");
        return;
    }
    if (part->inline_bytes.size != 0)
        kwr_parse_fail(p, place, "files", "are said to be elsewhere, but bytes travel along");
    for (size_t i = 0; i < subtask->file_count && p->status >= KWR_OK; i++) {
        const kwr_manifest_file *file = &subtask->files[i];
        const uint64_t end = part->inline_place.length;
        if (file->name == NULL && (file->offset > end || file->length > end - file->offset))
            kwr_parse_fail(p, place, "inline_offset", "or length leads beyond the file inline");
    }
}

static void read_root(kwr_parse *p, const json_t *root, kwr_subtask_part *out) {
    static const char *const known[] = { "keyweir",  "version", "features",   "optional",
                                         "seed",     "inline",  "key_groups", "max_parallelism",
                                         "key_type", "part" };
    kwr_parse_preamble(p, root, "subtask");
    kwr_parse_known(p, NULL, root, known, sizeof known / sizeof *known);
    out->seed = kwr_parse_hex64_in(p, NULL, root, "seed");
    out->engine_key_groups = kwr_parse_key_groups_in(p, NULL, root);
    out->max_parallelism =
        (uint32_t)kwr_parse_u64_in(p, NULL, root, "max_parallelism", 1, KWR_MAX_PARALLELISM_LIMIT);
    kwr_parse_type_in(p, NULL, root, "key_type", &out->key_type);
    const kwr_place at = { "part" };
    const json_t *subtask = kwr_parse_field(p, NULL, root, "part");
    if (subtask != NULL) kwr_parse_subtask(p, &at, subtask, out->max_parallelism, &out->subtask);
    read_inline_place(p, root, &out->inline_place);
    if (p->status >= KWR_OK) check_inline(p, &at, out);
}

/* Splits the bytes into JSON and inline bytes, checksum verified. */
static kwr_status open_envelope(const kwr_limits *limits, kwr_slice bytes, const char *what,
                                kwr_slice *json, kwr_slice *inline_bytes, kwr_error *err) {
    const uint8_t *data = bytes.data;
    if (bytes.size > limits->message_bytes_max)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "%s: %zu bytes are more than the limit of %zu (message_bytes_max)", what,
                        bytes.size, limits->message_bytes_max);
    if (bytes.size < PART_HEAD + PART_TAIL || memcmp(data, part_magic, sizeof part_magic) != 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%s: not a subtask's part", what);
    const size_t body = bytes.size - PART_TAIL;
    if (kwr_get_le64(data + body) != kwr_hash64(data, body, 0))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%s: damaged, its checksum is wrong", what);
    if (kwr_get_le32(data + 8) != PART_VERSION)
        return KWR_FAIL(err, KWR_ERR_FORMAT, 0,
                        "%s: version %u of the format, this build reads %d; use a newer keyweir",
                        what, kwr_get_le32(data + 8), PART_VERSION);
    const uint64_t text = kwr_get_le32(data + 12), rest = kwr_get_le64(data + 16);
    const size_t room = body - PART_HEAD;
    if (text > room || rest != room - text)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%s: its lengths do not add up", what);
    *json = (kwr_slice){ data + PART_HEAD, (size_t)text };
    *inline_bytes = (kwr_slice){ data + PART_HEAD + text, (size_t)rest };
    return KWR_OK;
}

kwr_status kwr_subtask_part_decode(const kwr_env *env, const kwr_limits *limits, kwr_slice bytes,
                                   const char *what, kwr_subtask_part **out, kwr_error *err) {
    kwr_limits complete;
    KWR_TRY(kwr_limits_complete(limits, &complete, err));
    kwr_slice json = { 0 }, inline_bytes = { 0 };
    KWR_TRY(open_envelope(&complete, bytes, what, &json, &inline_bytes, err));
    kwr_parse p = { .env = env, .limits = &complete, .what = what, .err = err, .handle = true };
    p.arena = kwr_arena_new(env, json.size * ARENA_FACTOR + ARENA_BASE);
    kwr_subtask_part *part = p.arena == NULL ? NULL : kwr_arena_alloc(p.arena, sizeof *part);
    if (part == NULL) {
        kwr_parse_nomem(&p);
    } else {
        part->arena = p.arena;
        part->inline_bytes = inline_bytes;
        json_t *root = kwr_parse_load(&p, json);
        if (root != NULL) read_root(&p, root, part);
        json_decref(root);
    }
    if (p.status < KWR_OK) {
        if (p.arena != NULL) kwr_arena_free(p.arena);
        return p.status;
    }
    *out = part;
    return KWR_OK;
}

void kwr_subtask_part_free(kwr_subtask_part *part) {
    if (part != NULL) kwr_arena_free(part->arena);
}
