/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir show: what one checkpoint consists of, from its manifest. */
#include <inttypes.h>

#include "base/name.h"
#include "tools/tool.h"

static json_t *digest_json(const kwr_digest *digest) {
    char text[KWR_DIGEST_TEXT];
    kwr_digest_text(digest, text);
    return json_string(text);
}

static json_t *type_json(const kwr_type *type) {
    char text[512];
    kwr_type_text(type, text, sizeof text);
    return json_string(text);
}

static json_t *file_json(const kwr_manifest_file *f) {
    const uint64_t used = f->used == NULL ? f->images : f->used_images;
    return json_pack("{s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", f->name, "offset",
                     tool_json_u64(f->offset), "bytes", tool_json_u64(f->length), "images",
                     tool_json_u64(f->images), "used_images", tool_json_u64(used), "live_bytes",
                     tool_json_u64(f->live_bytes), "header", digest_json(&f->header), "index",
                     digest_json(&f->index), "footer", digest_json(&f->footer));
}

static json_t *state_json(const kwr_manifest_state *s) {
    json_t *json = json_pack(
        "{s:I, s:s, s:s, s:o, s:o, s:o, s:o}", "id", (json_int_t)s->info.id, "name", s->info.name,
        "kind", kwr_state_kind_name(s->info.kind), "type", type_json(&s->info.type),
        "namespace_type", type_json(&s->info.namespace_type), "entries", tool_json_u64(s->entries),
        "entry_bytes", tool_json_u64(s->entry_bytes));
    if (s->info.kind == KWR_STATE_MAP)
        json_object_set_new(json, "user_key_type", type_json(&s->info.user_key_type));
    if (kwr_state_is_collection(s->info.kind))
        json_object_set_new(json, "elements", tool_json_u64(s->elements));
    if (s->estimated) json_object_set_new(json, "estimated", json_true());
    if (s->info.redistribution != KWR_REDISTRIBUTE_KEYED)
        json_object_set_new(json, "redistribution",
                            json_string(kwr_redistribution_name(s->info.redistribution)));
    return json;
}

/* States and files of a snapshot into `json`. */
static void snapshot_json(json_t *json, const kwr_manifest_subtask *t) {
    json_t *states = json_array(), *files = json_array();
    for (size_t i = 0; i < t->state_count; i++)
        json_array_append_new(states, state_json(&t->states[i]));
    for (size_t i = 0; i < t->file_count; i++)
        json_array_append_new(files, file_json(&t->files[i]));
    json_object_set_new(json, "format", json_string(t->format));
    json_object_set_new(json, "states", states);
    json_object_set_new(json, "files", files);
}

static json_t *subtask_json(const kwr_manifest_subtask *t) {
    json_t *json = json_pack("{s:I}", "index", (json_int_t)t->index);
    if (t->keyed) {
        json_object_set_new(json, "key_groups",
                            json_pack("{s:I, s:I}", "first", (json_int_t)t->key_groups.first,
                                      "count", (json_int_t)t->key_groups.count));
        snapshot_json(json, t);
    }
    if (t->operator_state != NULL) {
        json_t *inner = json_object();
        snapshot_json(inner, t->operator_state);
        json_object_set_new(json, "operator_state", inner);
    }
    json_t *splits = json_array(), *committables = json_array();
    for (size_t i = 0; i < t->split_count; i++)
        json_array_append_new(splits,
                              json_pack("{s:o, s:o, s:o}", "id", tool_json_bytes(t->splits[i].id),
                                        "identity", tool_json_bytes(t->splits[i].identity),
                                        "position", tool_json_bytes(t->splits[i].position)));
    for (size_t i = 0; i < t->committable_count; i++)
        json_array_append_new(committables,
                              json_pack("{s:o, s:o}", "checkpoint",
                                        tool_json_u64(t->committables[i].checkpoint), "token",
                                        tool_json_bytes(t->committables[i].token)));
    if (t->split_count > 0) json_object_set(json, "splits", splits);
    if (t->committable_count > 0) json_object_set(json, "committables", committables);
    json_decref(splits);
    json_decref(committables);
    return json;
}

static json_t *operator_json(const kwr_manifest_operator *op) {
    json_t *subtasks = json_array();
    for (uint32_t i = 0; i < op->parallelism; i++)
        json_array_append_new(subtasks, subtask_json(&op->subtasks[i]));
    json_t *json =
        json_pack("{s:s, s:I, s:I}", "id", op->id, "parallelism", (json_int_t)op->parallelism,
                  "max_parallelism", (json_int_t)op->max_parallelism);
    if ((op->roles & 2) != 0) json_object_set_new(json, "key_type", type_json(&op->key_type));
    json_object_set_new(json, "subtasks", subtasks);
    return json;
}

static json_t *checkpoint_json(const tool_checkpoint *c) {
    const kwr_manifest *m = c->manifest;
    char uid[33], seed[17];
    kwr_hex(m->job_uid, sizeof m->job_uid, uid);
    snprintf(seed, sizeof seed, "%016" PRIx64, m->seed);
    json_t *operators = json_array();
    for (size_t i = 0; i < m->operator_count; i++)
        json_array_append_new(operators, operator_json(&m->operators[i]));
    json_t *json = json_pack(
        "{s:i, s:s, s:s, s:o, s:o, s:b, s:b, s:I, s:I, s:s, s:I}", "schema", 1, "job", m->job,
        "job_uid", uid, "checkpoint", tool_json_u64(m->checkpoint), "generation",
        tool_json_u64(m->generation), "final", m->final, "anchored", c->anchored, "triggered_ms",
        (json_int_t)m->triggered_ms, "completed_ms", (json_int_t)m->completed_ms, "seed", seed,
        "max_parallelism", (json_int_t)m->max_parallelism);
    if (m->parent_checkpoint != 0)
        json_object_set_new(json, "parent",
                            json_pack("{s:o, s:o}", "checkpoint",
                                      tool_json_u64(m->parent_checkpoint), "generation",
                                      tool_json_u64(m->parent_generation)));
    if (c->anchored) {
        json_object_set_new(json, "slot", tool_json_u64(c->slot->number));
        json_object_set_new(json, "manifest_bytes", tool_json_u64(c->slot->manifest_length));
        json_object_set_new(json, "manifest_digest", digest_json(&c->slot->manifest_digest));
    }
    json_object_set_new(json, "operators", operators);
    return json;
}

static void print_labelled(const char *label, json_t *json) {
    fputs(label, stdout);
    tool_print_text_field(json, '\n');
}

static void print_state(const kwr_manifest_state *s) {
    char type[512], key[512] = "", size[32];
    const kwr_redistribution how = s->info.redistribution;
    kwr_type_text(&s->info.type, type, sizeof type);
    if (s->info.kind == KWR_STATE_MAP) kwr_type_text(&s->info.user_key_type, key, sizeof key);
    tool_bytes_text(s->entry_bytes, size);
    printf("    %sstate %s: %s of %s%s%s, ", how == KWR_REDISTRIBUTE_KEYED ? "" : "operator ",
           s->info.name, kwr_state_kind_name(s->info.kind), key, key[0] == '\0' ? "" : " to ",
           type);
    if (how != KWR_REDISTRIBUTE_KEYED)
        printf("%s, ", kwr_redistribution_name(how));
    else
        printf("%s%" PRIu64 " entries, ", s->estimated ? "about " : "", s->entries);
    if (kwr_state_is_collection(s->info.kind)) printf("%" PRIu64 " elements, ", s->elements);
    puts(size);
}

static void print_snapshot(const kwr_manifest_subtask *t) {
    char size[32];
    for (size_t i = 0; i < t->state_count; i++)
        print_state(&t->states[i]);
    for (size_t i = 0; i < t->file_count; i++) {
        const kwr_manifest_file *f = &t->files[i];
        tool_bytes_text(f->length, size);
        if (f->name != NULL)
            printf("    file shared/%s: %s, %" PRIu64 " page images", f->name, size, f->images);
        else
            printf("    inline at %" PRIu64 ": %s, %" PRIu64 " page images", f->offset, size,
                   f->images);
        if (f->used == NULL) {
            putchar('\n');
            continue;
        }
        tool_bytes_text(f->live_bytes, size);
        printf(", of which %" PRIu64 " are in use (%s)\n", f->used_images, size);
    }
}

static void print_subtask(const kwr_manifest_subtask *t) {
    printf("  subtask %u", t->index);
    if (t->keyed && t->key_groups.count > 0)
        printf(": key groups %u to %u", t->key_groups.first,
               t->key_groups.first + t->key_groups.count - 1);
    putchar('\n');
    for (const kwr_manifest_subtask *s = t; s != NULL; s = s->operator_state)
        print_snapshot(s);
    for (size_t i = 0; i < t->split_count; i++) {
        print_labelled("    split ", tool_json_bytes(t->splits[i].id));
        print_labelled("      identity ", tool_json_bytes(t->splits[i].identity));
        print_labelled("      position ", tool_json_bytes(t->splits[i].position));
    }
    for (size_t i = 0; i < t->committable_count; i++) {
        printf("    committable of checkpoint %" PRIu64, t->committables[i].checkpoint);
        print_labelled(": ", tool_json_bytes(t->committables[i].token));
    }
}

static void print_checkpoint(const tool_checkpoint *c) {
    const kwr_manifest *m = c->manifest;
    char uid[33], time[40];
    kwr_hex(m->job_uid, sizeof m->job_uid, uid);
    tool_time_text(m->completed_ms, time);
    printf("checkpoint %" PRIu64 " of job %s%s\n", m->checkpoint, m->job,
           m->final ? " (final)" : "");
    printf("  generation %" PRIu64 ", job uid %s\n", m->generation, uid);
    printf("  completed %s, %" PRId64 " ms after its trigger\n", time,
           m->completed_ms - m->triggered_ms);
    if (m->parent_checkpoint != 0)
        printf("  parent: checkpoint %" PRIu64 ", generation %" PRIu64 "\n", m->parent_checkpoint,
               m->parent_generation);
    if (c->anchored)
        printf("  commit-log slot %" PRIu64 "\n", c->slot->number);
    else
        puts("  not anchored: no log");
    printf("  key groups: %u, seed %016" PRIx64 "\n", m->max_parallelism, m->seed);
    for (size_t i = 0; i < m->operator_count; i++) {
        const kwr_manifest_operator *op = &m->operators[i];
        printf("operator %s: parallelism %u", op->id, op->parallelism);
        if ((op->roles & 2) != 0) {
            char type[128];
            kwr_type_text(&op->key_type, type, sizeof type);
            printf(", keys %s", type);
        }
        putchar('\n');
        for (uint32_t t = 0; t < op->parallelism; t++)
            print_subtask(&op->subtasks[t]);
    }
}

int tool_show(const tool_options *options) {
    tool_checkpoint c;
    int code = tool_checkpoint_open(options, &c);
    if (code != TOOL_GOOD) return code;
    if (!options->json)
        print_checkpoint(&c);
    else if (!tool_print_json(checkpoint_json(&c), false))
        code = TOOL_CANNOT_READ;
    tool_checkpoint_close(&c);
    return code;
}
