/* SPDX-License-Identifier: Apache-2.0 */
/* Reading one subtask: states, files, splits, committables. */
#include <string.h>

#include "base/error.h"
#include "base/name.h"
#include "keyweir/backend.h"
#include "snapshot/log.h"
#include "snapshot/manifest_json.h"

enum {
    SPLITS_MAX = 1000000,
    COMMITTABLES_MAX = 1000000,
    FORMAT_NAME_MAX = 100,
};

/* NULL after a failure, which is noted. */
static void *new_array(kwr_parse *p, size_t count, size_t size) {
    void *made = p->status < KWR_OK ? NULL : kwr_arena_array(p->arena, count, size);
    if (made == NULL) kwr_parse_nomem(p);
    return made;
}

/* How operator state is shared out: each kind has its ways. */
static void read_redistribution(kwr_parse *p, const kwr_place *place, const json_t *from,
                                kwr_state_info *out) {
    const char *name = kwr_parse_text_in(p, place, from, "redistribution", FORMAT_NAME_MAX);
    if (name == NULL) return;
    const bool known = kwr_redistribution_parse(name, &out->redistribution);
    const bool list =
        out->kind == KWR_STATE_LIST && (out->redistribution == KWR_REDISTRIBUTE_SPLIT ||
                                        out->redistribution == KWR_REDISTRIBUTE_UNION);
    const bool map =
        out->kind == KWR_STATE_MAP && out->redistribution == KWR_REDISTRIBUTE_BROADCAST;
    if (!known || (!list && !map))
        kwr_parse_fail(p, place, "redistribution", "is not one for operator state of this kind");
}

static void read_state(kwr_parse *p, const kwr_place *place, const json_t *from, size_t index,
                       bool of_operator, kwr_manifest_state *out) {
    static const char *const always[] = { "id",      "name",       "kind", "type", "namespace_type",
                                          "entries", "entry_bytes" };
    const char *known[11];
    size_t count = sizeof always / sizeof *always;
    memcpy(known, always, sizeof always);
    out->info.id = (uint32_t)kwr_parse_u64_in(p, place, from, "id", index, index);
    out->info.name = kwr_parse_text_in(p, place, from, "name", p->limits->name_bytes_max);
    const char *kind = kwr_parse_text_in(p, place, from, "kind", FORMAT_NAME_MAX);
    if (kind != NULL && !kwr_state_kind_parse(kind, &out->info.kind))
        kwr_parse_fail(p, place, "kind", "is not a kind of state");
    kwr_parse_type_in(p, place, from, "type", &out->info.type);
    kwr_parse_type_in(p, place, from, "namespace_type", &out->info.namespace_type);
    out->entries = kwr_parse_u64_in(p, place, from, "entries", 0, UINT64_MAX);
    out->entry_bytes = kwr_parse_u64_in(p, place, from, "entry_bytes", 0, UINT64_MAX);
    if (out->info.kind == KWR_STATE_MAP) {
        known[count++] = "user_key_type";
        kwr_parse_type_in(p, place, from, "user_key_type", &out->info.user_key_type);
    }
    if (kwr_state_is_collection(out->info.kind)) {
        known[count++] = "elements";
        out->elements = kwr_parse_u64_in(p, place, from, "elements", 0, UINT64_MAX);
    }
    const json_t *estimated = json_object_get(from, "estimated");
    if (estimated != NULL) {
        known[count++] = "estimated";
        if (!json_is_true(estimated)) kwr_parse_fail(p, place, "estimated", "is not true");
        out->estimated = true;
    }
    if (of_operator || (p->handle && json_object_get(from, "redistribution") != NULL)) {
        known[count++] = "redistribution";
        read_redistribution(p, place, from, &out->info);
    }
    kwr_parse_known(p, place, from, known, count);
}

/* State names are few and short: comparing each with all before is bounded by states_max. */
static void check_state_names(kwr_parse *p, const kwr_place *place,
                              const kwr_manifest_subtask *subtask) {
    for (size_t i = 0; i < subtask->state_count && p->status >= KWR_OK; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(subtask->states[i].info.name, subtask->states[j].info.name) == 0) {
                kwr_parse_fail(p, place, "states", "names a state twice");
                return;
            }
}

/* The map of images in use: some but not all, bits behind the last zero. */
static void read_used(kwr_parse *p, const kwr_place *place, const json_t *from,
                      kwr_manifest_file *out) {
    out->used_images = kwr_parse_u64_in(p, place, from, "used_images", 1, UINT32_MAX);
    const size_t size = kwr_manifest_file_map_bytes(out);
    const kwr_slice map = kwr_parse_bytes_in(p, place, from, "used", size);
    if (p->status < KWR_OK) return;
    const uint8_t *bits = map.data;
    uint64_t count = 0;
    for (size_t i = 0; i < map.size; i++)
        count += (unsigned)__builtin_popcount(bits[i]);
    if (map.size != size || count != out->used_images || count >= out->images ||
        (out->images % 8 != 0 && bits[size - 1] >> out->images % 8 != 0))
        kwr_parse_fail(p, place, "used", "is no map of some of its images");
    else
        out->used = bits;
}

/* Which of the subtask's states those of the file are: each at most once. */
static void read_file_states(kwr_parse *p, const kwr_place *place, const json_t *from,
                             size_t states, kwr_manifest_file *out) {
    size_t count = 0;
    const json_t *list =
        kwr_parse_array_in(p, place, from, "states", p->limits->states_max, &count);
    uint32_t *ids = new_array(p, count, sizeof *ids);
    for (size_t i = 0; ids != NULL && i < count; i++) {
        const json_t *id = json_array_get(list, i);
        bool good = json_is_null(id);
        ids[i] = KWR_STATE_NONE;
        if (json_is_integer(id) && json_integer_value(id) >= 0 &&
            (uint64_t)json_integer_value(id) < states) {
            ids[i] = (uint32_t)json_integer_value(id);
            good = true;
        }
        for (size_t j = 0; j < i && good; j++)
            good = ids[i] == KWR_STATE_NONE || ids[i] != ids[j];
        if (good) continue;
        kwr_parse_fail(p, place, "states", "does not lead to states of the subtask");
        return;
    }
    out->states = ids;
    out->state_count = count;
}

static void read_file(kwr_parse *p, const kwr_place *place, const json_t *from, size_t states,
                      kwr_manifest_file *out) {
    static const char *const known[] = { "length", "header",     "index", "footer",
                                         "images", "live_bytes", NULL };
    const char *fields[10];
    size_t count = sizeof known / sizeof *known;
    memcpy(fields, known, sizeof known);
    if (json_object_get(from, "inline_offset") != NULL) {
        fields[6] = "inline_offset";
        out->offset = kwr_parse_u64_in(p, place, from, "inline_offset", 0, INT64_MAX);
    } else {
        uint64_t generation = 0, seq = 0;
        uint32_t subtask = 0;
        fields[6] = "name";
        out->name = kwr_parse_name_in(p, place, from, "name", KWR_FILE_NAME_MAX - 1, false);
        if (out->name != NULL &&
            !kwr_shared_name_parse(out->name, &generation, NULL, &subtask, &seq))
            kwr_parse_fail(p, place, "name", "is not the name of a data file");
    }
    out->length = kwr_parse_u64_in(p, place, from, "length", 1, INT64_MAX);
    out->header = kwr_parse_digest_in(p, place, from, "header");
    out->index = kwr_parse_digest_in(p, place, from, "index");
    out->footer = kwr_parse_digest_in(p, place, from, "footer");
    out->images = kwr_parse_u64_in(p, place, from, "images", 0, UINT32_MAX);
    out->live_bytes = kwr_parse_u64_in(p, place, from, "live_bytes", 0, out->length);
    if (json_object_get(from, "used") != NULL) {
        fields[count++] = "used";
        fields[count++] = "used_images";
        read_used(p, place, from, out);
    }
    if (json_object_get(from, "states") != NULL) {
        fields[count++] = "states";
        read_file_states(p, place, from, states, out);
    }
    kwr_parse_known(p, place, from, fields, count);
}

static void read_states_and_files(kwr_parse *p, const kwr_place *place, const json_t *from,
                                  kwr_manifest_subtask *out) {
    out->format = kwr_parse_name_in(p, place, from, "format", FORMAT_NAME_MAX, false);
    size_t count = 0;
    const json_t *list =
        kwr_parse_array_in(p, place, from, "states", p->limits->states_max, &count);
    out->states = new_array(p, count, sizeof *out->states);
    out->state_count = out->states == NULL ? 0 : count;
    for (size_t i = 0; i < out->state_count && p->status >= KWR_OK; i++) {
        kwr_place at;
        kwr_place_of(&at, place, "states", i);
        read_state(p, &at, json_array_get(list, i), i, out->of_operator, &out->states[i]);
    }
    check_state_names(p, place, out);
    list = kwr_parse_array_in(p, place, from, "files", p->limits->files_max - p->files, &count);
    p->files += count;
    out->files = new_array(p, count, sizeof *out->files);
    out->file_count = out->files == NULL ? 0 : count;
    for (size_t i = 0; i < out->file_count && p->status >= KWR_OK; i++) {
        kwr_place at;
        kwr_place_of(&at, place, "files", i);
        read_file(p, &at, json_array_get(list, i), out->state_count, &out->files[i]);
    }
}

static void read_keyed(kwr_parse *p, const kwr_place *place, const json_t *from,
                       uint32_t max_parallelism, kwr_manifest_subtask *out) {
    static const char *const known[] = { "first_key_group", "key_groups", "format", "states",
                                         "files" };
    kwr_parse_known(p, place, from, known, 5);
    out->keyed = true;
    out->key_groups.first =
        (uint32_t)kwr_parse_u64_in(p, place, from, "first_key_group", 0, max_parallelism);
    out->key_groups.count = (uint32_t)kwr_parse_u64_in(p, place, from, "key_groups", 0,
                                                       max_parallelism - out->key_groups.first);
    read_states_and_files(p, place, from, out);
}

static void read_operator_state(kwr_parse *p, const kwr_place *place, const json_t *object,
                                kwr_manifest_subtask *out) {
    static const char *const known[] = { "format", "states", "files" };
    const json_t *from = json_object_get(object, "operator");
    if (from == NULL || p->status < KWR_OK) return;
    kwr_manifest_subtask *inner = new_array(p, 1, sizeof *inner);
    if (inner == NULL) return;
    kwr_parse_known(p, place, from, known, 3);
    *inner = (kwr_manifest_subtask){ .index = out->index,
                                     .keyed = true,
                                     .of_operator = true,
                                     .key_groups = { .first = 0, .count = 1 } };
    read_states_and_files(p, place, from, inner);
    out->operator_state = inner;
}

static void read_splits(kwr_parse *p, const kwr_place *place, const json_t *from,
                        kwr_manifest_subtask *out) {
    static const char *const known[] = { "id", "identity", "position" };
    const size_t max = p->limits->split_bytes_max;
    size_t count = 0;
    const json_t *list = kwr_parse_array_in(p, place, from, "splits", SPLITS_MAX, &count);
    out->splits = new_array(p, count, sizeof *out->splits);
    out->split_count = out->splits == NULL ? 0 : count;
    for (size_t i = 0; i < out->split_count && p->status >= KWR_OK; i++) {
        const json_t *split = json_array_get(list, i);
        kwr_place at;
        kwr_place_of(&at, place, "splits", i);
        kwr_parse_known(p, &at, split, known, 3);
        out->splits[i].id = kwr_parse_bytes_in(p, &at, split, "id", max);
        out->splits[i].identity = kwr_parse_bytes_in(p, &at, split, "identity", max);
        out->splits[i].position = kwr_parse_bytes_in(p, &at, split, "position", max);
    }
}

static void read_committables(kwr_parse *p, const kwr_place *place, const json_t *from,
                              kwr_manifest_subtask *out) {
    static const char *const known[] = { "checkpoint", "token" };
    size_t count = 0;
    const json_t *list =
        kwr_parse_array_in(p, place, from, "committables", COMMITTABLES_MAX, &count);
    out->committables = new_array(p, count, sizeof *out->committables);
    out->committable_count = out->committables == NULL ? 0 : count;
    for (size_t i = 0; i < out->committable_count && p->status >= KWR_OK; i++) {
        const json_t *committable = json_array_get(list, i);
        kwr_place at;
        kwr_place_of(&at, place, "committables", i);
        kwr_parse_known(p, &at, committable, known, 2);
        out->committables[i].checkpoint =
            kwr_parse_u64_in(p, &at, committable, "checkpoint", 0, UINT64_MAX);
        out->committables[i].token =
            kwr_parse_bytes_in(p, &at, committable, "token", p->limits->committable_bytes_max);
    }
}

void kwr_parse_subtask(kwr_parse *p, const kwr_place *place, const json_t *object,
                       uint32_t max_parallelism, kwr_manifest_subtask *out) {
    static const char *const known[] = { "subtask", "keyed", "operator", "splits", "committables" };
    kwr_parse_known(p, place, object, known, 5);
    out->index =
        (uint32_t)kwr_parse_u64_in(p, place, object, "subtask", 0, KWR_MAX_PARALLELISM_LIMIT - 1);
    const json_t *keyed = kwr_parse_field(p, place, object, "keyed");
    if (keyed != NULL && json_is_object(keyed))
        read_keyed(p, place, keyed, max_parallelism, out);
    else if (keyed != NULL && !json_is_null(keyed))
        kwr_parse_fail(p, place, "keyed", "is neither an object nor null");
    read_operator_state(p, place, object, out);
    read_splits(p, place, object, out);
    read_committables(p, place, object, out);
}

void kwr_parse_tiles(kwr_parse *p, const kwr_place *place, const kwr_manifest_subtask *subtask,
                     uint64_t *at) {
    for (const kwr_manifest_subtask *s = subtask; s != NULL; s = s->operator_state)
        for (size_t i = 0; i < s->file_count && p->status >= KWR_OK; i++) {
            const kwr_manifest_file *file = &s->files[i];
            if (file->name != NULL) continue;
            if (file->offset != *at)
                kwr_parse_fail(p, place, "inline_offset",
                               "leaves a gap or overlaps in the inline bytes");
            else if (file->length > (uint64_t)INT64_MAX - *at)
                kwr_parse_fail(p, place, "length", "is too large");
            else
                *at += file->length;
        }
}
