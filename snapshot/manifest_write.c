/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the manifest: structure on lines of its own, leaves on one line. */
#include <string.h>

#include "base/error.h"
#include "snapshot/manifest_json.h"

static void write_scalar(kwr_buffer *out, const kwr_type *type) {
    if (type->kind == KWR_TYPE_OPAQUE)
        kwr_buffer_printf(out, "{\"kind\": \"opaque\", \"version\": %u}", type->version);
    else
        kwr_buffer_printf(out, "\"%s\"", kwr_type_kind_name(type->kind));
}

/* Rows nest up to KWR_TYPE_DEPTH_MAX: a stack of rows instead of recursion. */
void kwr_write_type(kwr_buffer *out, const kwr_type *type) {
    struct {
        const kwr_type *row;
        size_t next;
    } stack[KWR_TYPE_DEPTH_MAX];
    size_t depth = 0;
    const char *row_start = "{\"kind\": \"row\", \"fields\": [";
    if (type->kind != KWR_TYPE_ROW) {
        write_scalar(out, type);
        return;
    }
    kwr_json_text(out, row_start);
    stack[depth].row = type;
    stack[depth++].next = 0;
    while (depth > 0) {
        const kwr_type *row = stack[depth - 1].row;
        const size_t index = stack[depth - 1].next++;
        if (index == row->field_count) {
            depth--;
            kwr_json_text(out, depth > 0 ? "]}}" : "]}");
            continue;
        }
        const kwr_field *field = &row->fields[index];
        if (index > 0) kwr_json_text(out, ", ");
        kwr_buffer_printf(out, "{\"id\": %u, \"name\": ", field->id);
        kwr_json_string(out, field->name, strlen(field->name));
        kwr_json_text(out, ", \"type\": ");
        if (field->type.kind == KWR_TYPE_ROW && depth < KWR_TYPE_DEPTH_MAX) {
            kwr_json_text(out, row_start);
            stack[depth].row = &field->type;
            stack[depth++].next = 0;
        } else {
            write_scalar(out, &field->type);
            kwr_json_text(out, "}");
        }
    }
}

static void write_state(kwr_buffer *out, const kwr_manifest_state *state) {
    const kwr_state_info *info = &state->info;
    kwr_buffer_printf(out, "{\"id\": %u, \"name\": ", info->id);
    kwr_json_string(out, info->name, strlen(info->name));
    kwr_buffer_printf(out, ", \"kind\": \"%s\", \"type\": ", kwr_state_kind_name(info->kind));
    kwr_write_type(out, &info->type);
    kwr_json_text(out, ", \"namespace_type\": ");
    kwr_write_type(out, &info->namespace_type);
    if (info->kind == KWR_STATE_MAP) {
        kwr_json_text(out, ", \"user_key_type\": ");
        kwr_write_type(out, &info->user_key_type);
    }
    kwr_json_text(out, ", \"entries\": ");
    kwr_json_u64(out, state->entries);
    kwr_json_text(out, ", \"entry_bytes\": ");
    kwr_json_u64(out, state->entry_bytes);
    if (kwr_state_is_collection(info->kind)) {
        kwr_json_text(out, ", \"elements\": ");
        kwr_json_u64(out, state->elements);
    }
    if (state->estimated) kwr_json_text(out, ", \"estimated\": true");
    if (info->redistribution != KWR_REDISTRIBUTE_KEYED)
        kwr_buffer_printf(out, ", \"redistribution\": \"%s\"",
                          kwr_redistribution_name(info->redistribution));
    kwr_json_text(out, "}");
}

static void write_used(kwr_buffer *out, const kwr_manifest_file *file) {
    kwr_json_text(out, ", \"used_images\": ");
    kwr_json_u64(out, file->used_images);
    kwr_json_text(out, ", \"used\": ");
    kwr_json_base64(out, (kwr_slice){ file->used, kwr_manifest_file_map_bytes(file) });
}

static void write_file_states(kwr_buffer *out, const kwr_manifest_file *file) {
    kwr_json_text(out, ", \"states\": [");
    for (size_t i = 0; i < file->state_count; i++) {
        if (file->states[i] == KWR_STATE_NONE)
            kwr_buffer_printf(out, "%snull", i == 0 ? "" : ", ");
        else
            kwr_buffer_printf(out, "%s%u", i == 0 ? "" : ", ", file->states[i]);
    }
    kwr_json_text(out, "]");
}

static void write_file(kwr_buffer *out, const kwr_manifest_file *file) {
    if (file->name != NULL) {
        kwr_buffer_printf(out, "{\"name\": \"%s\"", file->name);
    } else {
        kwr_json_text(out, "{\"inline_offset\": ");
        kwr_json_u64(out, file->offset);
    }
    kwr_json_text(out, ", \"length\": ");
    kwr_json_u64(out, file->length);
    kwr_json_text(out, ", \"header\": ");
    kwr_json_digest(out, &file->header);
    kwr_json_text(out, ", \"index\": ");
    kwr_json_digest(out, &file->index);
    kwr_json_text(out, ", \"footer\": ");
    kwr_json_digest(out, &file->footer);
    kwr_json_text(out, ", \"images\": ");
    kwr_json_u64(out, file->images);
    kwr_json_text(out, ", \"live_bytes\": ");
    kwr_json_u64(out, file->live_bytes);
    if (file->used != NULL) write_used(out, file);
    if (file->states != NULL) write_file_states(out, file);
    kwr_json_text(out, "}");
}

static void write_split(kwr_buffer *out, const kwr_manifest_split *split) {
    kwr_json_text(out, "{\"id\": ");
    kwr_json_user_bytes(out, split->id);
    kwr_json_text(out, ", \"identity\": ");
    kwr_json_user_bytes(out, split->identity);
    kwr_json_text(out, ", \"position\": ");
    kwr_json_user_bytes(out, split->position);
    kwr_json_text(out, "}");
}

static void write_committable(kwr_buffer *out, const kwr_manifest_committable *committable) {
    kwr_json_text(out, "{\"checkpoint\": ");
    kwr_json_u64(out, committable->checkpoint);
    kwr_json_text(out, ", \"token\": ");
    kwr_json_user_bytes(out, committable->token);
    kwr_json_text(out, "}");
}

/* One element of an array on a line of its own. */
static void next_element(kwr_buffer *out, size_t index, unsigned depth) {
    if (index > 0) kwr_json_text(out, ",");
    kwr_json_line(out, depth);
}

static void end_array(kwr_buffer *out, size_t count, unsigned depth) {
    if (count > 0) kwr_json_line(out, depth);
    kwr_json_text(out, "]");
}

/* Keyed state, or operator state. */
static void write_state_of(kwr_buffer *out, const kwr_manifest_subtask *subtask, unsigned depth) {
    kwr_json_text(out, "{");
    kwr_json_line(out, depth + 1);
    if (!subtask->of_operator)
        kwr_buffer_printf(out, "\"first_key_group\": %u, \"key_groups\": %u, ",
                          subtask->key_groups.first, subtask->key_groups.count);
    kwr_buffer_printf(out, "\"format\": \"%s\",", subtask->format);
    kwr_json_line(out, depth + 1);
    kwr_json_text(out, "\"states\": [");
    for (size_t i = 0; i < subtask->state_count; i++) {
        next_element(out, i, depth + 2);
        write_state(out, &subtask->states[i]);
    }
    end_array(out, subtask->state_count, depth + 1);
    kwr_json_text(out, ",");
    kwr_json_line(out, depth + 1);
    kwr_json_text(out, "\"files\": [");
    for (size_t i = 0; i < subtask->file_count; i++) {
        next_element(out, i, depth + 2);
        write_file(out, &subtask->files[i]);
    }
    end_array(out, subtask->file_count, depth + 1);
    kwr_json_line(out, depth);
    kwr_json_text(out, "}");
}

void kwr_write_subtask(kwr_buffer *out, const kwr_manifest_subtask *subtask, unsigned depth) {
    kwr_json_text(out, "{");
    kwr_json_line(out, depth);
    kwr_buffer_printf(out, "\"subtask\": %u,", subtask->index);
    kwr_json_line(out, depth);
    kwr_json_text(out, "\"keyed\": ");
    if (subtask->keyed)
        write_state_of(out, subtask, depth);
    else
        kwr_json_text(out, "null");
    kwr_json_text(out, ",");
    if (subtask->operator_state != NULL) {
        kwr_json_line(out, depth);
        kwr_json_text(out, "\"operator\": ");
        write_state_of(out, subtask->operator_state, depth);
        kwr_json_text(out, ",");
    }
    kwr_json_line(out, depth);
    kwr_json_text(out, "\"splits\": [");
    for (size_t i = 0; i < subtask->split_count; i++) {
        next_element(out, i, depth + 1);
        write_split(out, &subtask->splits[i]);
    }
    end_array(out, subtask->split_count, depth);
    kwr_json_text(out, ",");
    kwr_json_line(out, depth);
    kwr_json_text(out, "\"committables\": [");
    for (size_t i = 0; i < subtask->committable_count; i++) {
        next_element(out, i, depth + 1);
        write_committable(out, &subtask->committables[i]);
    }
    end_array(out, subtask->committable_count, depth);
    kwr_json_line(out, depth - 1);
    kwr_json_text(out, "}");
}

static void write_roles(kwr_buffer *out, unsigned roles) {
    static const char *const names[] = { "source", "keyed", "sink" };
    const char *between = "";
    kwr_json_text(out, "[");
    for (unsigned i = 0; i < 3; i++) {
        if ((roles & 1U << i) == 0) continue;
        kwr_buffer_printf(out, "%s\"%s\"", between, names[i]);
        between = ", ";
    }
    kwr_json_text(out, "]");
}

static void write_operator(kwr_buffer *out, const kwr_manifest_operator *op) {
    kwr_json_text(out, "{");
    kwr_json_line(out, 3);
    kwr_buffer_printf(out, "\"id\": \"%s\",", op->id);
    kwr_json_line(out, 3);
    kwr_buffer_printf(out,
                      "\"parallelism\": %u, \"max_parallelism\": %u, \"roles\": ", op->parallelism,
                      op->max_parallelism);
    write_roles(out, op->roles);
    kwr_json_text(out, ",");
    kwr_json_line(out, 3);
    if ((op->roles & KWR_ROLE_KEYED) != 0) {
        kwr_json_text(out, "\"key_type\": ");
        kwr_write_type(out, &op->key_type);
        kwr_json_text(out, ",");
        kwr_json_line(out, 3);
    }
    kwr_json_text(out, "\"subtasks\": [");
    for (uint32_t i = 0; i < op->parallelism; i++) {
        next_element(out, i, 4);
        kwr_write_subtask(out, &op->subtasks[i], 5);
    }
    end_array(out, op->parallelism, 3);
    kwr_json_line(out, 2);
    kwr_json_text(out, "}");
}

static void write_head(kwr_buffer *out, const kwr_manifest *manifest) {
    kwr_buffer_printf(out, "{\n \"keyweir\": \"manifest\",\n \"version\": %d,",
                      KWR_MANIFEST_VERSION);
    kwr_json_text(out, "\n \"features\": [],\n \"optional\": [],");
    kwr_buffer_printf(out, "\n \"job\": \"%s\",\n \"job_uid\": ", manifest->job);
    kwr_json_hex(out, manifest->job_uid, sizeof manifest->job_uid);
    kwr_json_text(out, ",\n \"checkpoint\": ");
    kwr_json_u64(out, manifest->checkpoint);
    kwr_json_text(out, ",\n \"generation\": ");
    kwr_json_u64(out, manifest->generation);
    kwr_json_text(out, ",\n \"parent\": ");
    if (manifest->parent_checkpoint != 0) {
        kwr_json_text(out, "{\"checkpoint\": ");
        kwr_json_u64(out, manifest->parent_checkpoint);
        kwr_json_text(out, ", \"generation\": ");
        kwr_json_u64(out, manifest->parent_generation);
        kwr_json_text(out, "}");
    } else {
        kwr_json_text(out, "null");
    }
    kwr_buffer_printf(out, ",\n \"final\": %s", manifest->final ? "true" : "false");
    kwr_json_text(out, ",\n \"triggered_ms\": ");
    kwr_json_i64(out, manifest->triggered_ms);
    kwr_json_text(out, ",\n \"completed_ms\": ");
    kwr_json_i64(out, manifest->completed_ms);
    kwr_json_text(out, ",\n \"seed\": ");
    kwr_json_hex64(out, manifest->seed);
    kwr_buffer_printf(out, ",\n \"key_groups\": \"%s\",\n \"max_parallelism\": %u",
                      manifest->engine_key_groups ? "engine" : "xxh3-64",
                      manifest->max_parallelism);
    kwr_json_text(out, ",\n \"inline\": ");
    if (manifest->inline_length > 0) {
        kwr_json_text(out, "{\"length\": ");
        kwr_json_u64(out, manifest->inline_length);
        kwr_json_text(out, ", \"digest\": ");
        kwr_json_digest(out, &manifest->inline_digest);
        kwr_json_text(out, "}");
    } else {
        kwr_json_text(out, "null");
    }
}

kwr_status kwr_manifest_encode(const kwr_env *env, const kwr_manifest *manifest, kwr_bytes *out,
                               kwr_error *err) {
    kwr_buffer text = { .env = env };
    write_head(&text, manifest);
    kwr_json_text(&text, ",\n \"operators\": [");
    for (size_t i = 0; i < manifest->operator_count; i++) {
        next_element(&text, i, 2);
        write_operator(&text, &manifest->operators[i]);
    }
    end_array(&text, manifest->operator_count, 1);
    kwr_json_text(&text, "\n}\n");
    const kwr_status status = kwr_buffer_take(&text, out);
    kwr_buffer_free(&text);
    if (status < KWR_OK) return KWR_FAIL(err, status, 0, "no memory for the manifest");
    return KWR_OK;
}
