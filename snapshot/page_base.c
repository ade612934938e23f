/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of images by key group and page id, and the account of what is used of which file. */
#include "snapshot/page_base.h"

#include <string.h>

#include "backend/page_delta.h"
#include "base/error.h"

enum {
    SLOTS_FIRST = 16,
    KWR_PAGE_TIER = 4, /* steps of one level become one */
    /* Files may hold so many quarters of what is used of them before some are rewritten. */
    HELD_QUARTERS = 7,
};
/* Below this it is not worth the trouble: a file alone has some hundred bytes. */
#define HELD_MIN (UINT64_C(1) << 10)

kwr_page_base *kwr_page_base_new(const kwr_env *env, kwr_key_group_range key_groups) {
    kwr_page_base *base = kwr_calloc(env, sizeof *base);
    if (base == NULL) return NULL;
    base->env = env;
    base->key_groups = key_groups;
    base->groups = kwr_calloc(env, (key_groups.count + (size_t)1) * sizeof *base->groups);
    if (base->groups == NULL) {
        kwr_free(env, base, sizeof *base);
        return NULL;
    }
    return base;
}

static void file_done(kwr_page_base *base, kwr_page_file *file) {
    kwr_manifest_file *listed = &file->listed;
    kwr_free_string(base->env, (char *)listed->name);
    if (listed->used != NULL)
        kwr_free(base->env, (void *)listed->used, kwr_manifest_file_map_bytes(listed));
    if (listed->states != NULL)
        kwr_free(base->env, (void *)listed->states, listed->state_count * sizeof(uint32_t));
}

void kwr_page_base_free(kwr_page_base *base) {
    if (base == NULL) return;
    const kwr_env *env = base->env;
    for (uint32_t i = 0; i < base->key_groups.count; i++) {
        const kwr_page_group *group = &base->groups[i];
        kwr_free(env, group->slots, group->capacity * sizeof *group->slots);
        kwr_free(env, group->batches, group->batch_capacity * sizeof *group->batches);
    }
    for (size_t i = 0; i < base->file_count; i++)
        file_done(base, &base->files[i]);
    kwr_free(env, base->files, base->file_capacity * sizeof *base->files);
    kwr_free(env, base->groups, (base->key_groups.count + (size_t)1) * sizeof *base->groups);
    kwr_free(env, base, sizeof *base);
}

kwr_status kwr_page_base_file(kwr_page_base *base, const kwr_manifest_file *file,
                              uint64_t owned_bytes, uint32_t *index) {
    void *items = base->files;
    if (base->file_count == UINT32_MAX ||
        !kwr_grow_array(base->env, &items, &base->file_capacity, base->file_count + 1,
                        sizeof *base->files))
        return KWR_ERR_NOMEM;
    base->files = items;
    kwr_page_file made = { .listed = *file, .owned_bytes = owned_bytes };
    made.listed.name = NULL;
    made.listed.used = NULL;
    made.listed.states = NULL;
    made.listed.live_bytes = 0;
    bool good = true;
    if (file->name != NULL)
        good = (made.listed.name = kwr_copy_string(base->env, file->name)) != NULL;
    if (good && file->states != NULL) {
        const size_t size = file->state_count * sizeof(uint32_t);
        uint32_t *states = kwr_alloc(base->env, size);
        if ((good = states != NULL)) memcpy(states, file->states, size);
        made.listed.states = states;
    }
    if (!good) {
        file_done(base, &made);
        return KWR_ERR_NOMEM;
    }
    *index = (uint32_t)base->file_count;
    base->files[base->file_count++] = made;
    return KWR_OK;
}

kwr_status kwr_page_base_refer(kwr_page_base *base, const kwr_page_file *file, uint32_t *index) {
    KWR_TRY(kwr_page_base_file(base, &file->listed, file->owned_bytes, index));
    kwr_page_file *made = &base->files[*index];
    made->checkpoint = file->checkpoint;
    made->epoch = file->epoch;
    made->deltas = file->deltas;
    made->level = file->level;
    made->partial = file->partial;
    return KWR_OK;
}

/* ---- places ---- */

static size_t slot_of(const kwr_page_group *group, uint64_t id) {
    return (size_t)(id * 0x9e3779b97f4a7c15ULL >> 20) & (group->capacity - 1);
}

static kwr_page_place *place_of(const kwr_page_group *group, uint64_t id) {
    size_t at = slot_of(group, id);
    while (group->slots[at].id != 0 && group->slots[at].id != id)
        at = (at + 1) & (group->capacity - 1);
    return &group->slots[at];
}

static bool grow(kwr_page_base *base, kwr_page_group *group) {
    kwr_page_group larger = *group;
    larger.capacity = group->capacity == 0 ? SLOTS_FIRST : group->capacity * 2;
    larger.slots = kwr_calloc(base->env, larger.capacity * sizeof *larger.slots);
    if (larger.slots == NULL) return false;
    for (size_t i = 0; i < group->capacity; i++)
        if (group->slots[i].id != 0) *place_of(&larger, group->slots[i].id) = group->slots[i];
    kwr_free(base->env, group->slots, group->capacity * sizeof *group->slots);
    *group = larger;
    return true;
}

kwr_status kwr_page_base_add(kwr_page_base *base, uint32_t key_group, const kwr_page_place *place) {
    kwr_page_group *group = &base->groups[key_group - base->key_groups.first];
    if (group->count >= group->capacity - group->capacity / 4 && !grow(base, group))
        return KWR_ERR_NOMEM;
    kwr_page_place *to = place_of(group, place->id);
    if (to->id == 0) group->count++;
    *to = *place;
    return KWR_OK;
}

const kwr_page_place *kwr_page_base_find(const kwr_page_base *base, uint32_t key_group,
                                         uint64_t id) {
    const uint32_t index = key_group - base->key_groups.first;
    if (index >= base->key_groups.count || base->groups[index].count == 0) return NULL;
    const kwr_page_place *place = place_of(&base->groups[index], id);
    if (place->id == 0 || base->files[place->file].listed.name == NULL) return NULL;
    return place;
}

/* ---- from a restored checkpoint ---- */

/* State ids of the backend by those in the file; NULL in *out when they are the same. */
static kwr_status file_states(const kwr_env *env, const kwr_manifest_file *file,
                              const uint32_t *state_ids, size_t state_count,
                              kwr_manifest_file *out) {
    const size_t count = file->states == NULL ? state_count : file->state_count;
    uint32_t *ids = kwr_alloc_array(env, count, sizeof *ids);
    bool same = true;
    if (ids == NULL) return KWR_ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        const uint32_t id = kwr_manifest_file_state(file, (uint32_t)i);
        ids[i] = id == KWR_STATE_NONE ? KWR_STATE_NONE : state_ids[id];
        same = same && ids[i] == i;
    }
    *out = *file;
    out->states = ids;
    out->state_count = count;
    if (!same) return KWR_OK;
    kwr_free(env, ids, count * sizeof *ids);
    out->states = NULL;
    return KWR_OK;
}

static bool same_states(const kwr_manifest_file *a, const kwr_manifest_file *b) {
    if (a->states == NULL || b->states == NULL) return a->states == b->states;
    return a->state_count == b->state_count &&
           memcmp(a->states, b->states, a->state_count * sizeof *a->states) == 0;
}

/* A file may be in use by several subtasks, each with other key groups; what came inline is one's
 * own. */
static kwr_status note_file(kwr_page_base *base, const kwr_manifest_file *listed,
                            uint64_t owned_bytes, uint32_t *index) {
    for (size_t i = 0; i < base->file_count && listed->name != NULL; i++) {
        kwr_page_file *have = &base->files[i];
        if (have->listed.name == NULL || strcmp(have->listed.name, listed->name) != 0 ||
            !same_states(&have->listed, listed))
            continue;
        have->owned_bytes += owned_bytes;
        *index = (uint32_t)i;
        return KWR_OK;
    }
    return kwr_page_base_file(base, listed, owned_bytes, index);
}

static bool within(kwr_key_group_range range, uint32_t key_group) {
    return key_group - range.first < range.count;
}

kwr_status kwr_page_base_note(kwr_page_base *base, const kwr_data_file *file,
                              kwr_key_group_range theirs, const uint32_t *state_ids,
                              size_t state_count, uint64_t epoch, uint8_t level) {
    uint64_t owned_bytes = 0;
    uint32_t index = 0;
    kwr_data_entry entry;
    kwr_manifest_file listed;
    for (uint64_t i = 0; i < file->file->images; i++) {
        (void)kwr_data_file_entry(file, i, &entry);
        if (within(base->key_groups, entry.key_group) && within(theirs, entry.key_group))
            owned_bytes += KWR_DATA_PREFIX_SIZE + (uint64_t)entry.stored;
    }
    KWR_TRY(file_states(base->env, file->file, state_ids, state_count, &listed));
    const kwr_status status = note_file(base, &listed, owned_bytes, &index);
    kwr_free(base->env, (void *)listed.states, listed.state_count * sizeof(uint32_t));
    KWR_TRY(status);
    base->files[index].checkpoint = file->header.checkpoint;
    base->files[index].epoch = epoch;
    base->files[index].level = level;
    for (uint64_t i = 0; i < file->file->images; i++) {
        if (!kwr_data_file_entry(file, i, &entry) || !within(base->key_groups, entry.key_group))
            continue;
        if (entry.kind == KWR_PAGE_DELTA) {
            const kwr_page_batch batch = { .file = index,
                                           .image = (uint32_t)i,
                                           .bytes = KWR_DATA_PREFIX_SIZE + entry.stored };
            base->files[index].deltas = true;
            KWR_TRY(kwr_page_base_batch(base, entry.key_group, &batch));
            continue;
        }
        const kwr_page_place place = {
            .id = entry.page_id,
            .file = index,
            .image = (uint32_t)i,
            .bytes = KWR_DATA_PREFIX_SIZE + entry.stored,
            .entries = entry.entries,
        };
        KWR_TRY(kwr_page_base_add(base, entry.key_group, &place));
    }
    return KWR_OK;
}

kwr_status kwr_page_base_batch(kwr_page_base *base, uint32_t key_group,
                               const kwr_page_batch *batch) {
    kwr_page_group *group = &base->groups[key_group - base->key_groups.first];
    if (!kwr_grow_array(base->env, (void **)&group->batches, &group->batch_capacity,
                        group->batch_count + 1, sizeof *group->batches))
        return KWR_ERR_NOMEM;
    group->batches[group->batch_count++] = *batch;
    return KWR_OK;
}

/* ---- tiers ---- */

typedef struct delta_step {
    uint64_t checkpoint;
    uint64_t epoch;
    uint8_t level;
    bool refer;
    bool partial;
} delta_step;

/* All steps, ascending. */
static size_t list_steps(const kwr_page_base *base, const bool *refer, delta_step *steps) {
    size_t count = 0;
    for (size_t i = 0; i < base->file_count; i++) {
        const kwr_page_file *file = &base->files[i];
        if (!file->deltas) continue;
        size_t at = count;
        while (at > 0 && steps[at - 1].checkpoint > file->checkpoint)
            at--;
        if (at > 0 && steps[at - 1].checkpoint == file->checkpoint) {
            steps[at - 1].refer = steps[at - 1].refer && refer[i];
            if (steps[at - 1].level < file->level) steps[at - 1].level = file->level;
            continue;
        }
        memmove(&steps[at + 1], &steps[at], (count - at) * sizeof *steps);
        steps[at] =
            (delta_step){ file->checkpoint, file->epoch, file->level, refer[i], file->partial };
        count++;
    }
    return count;
}

/* A part of a step is no ground for others. */
static size_t drop_partial(delta_step *steps, size_t count) {
    size_t whole = 0;
    for (size_t i = 0; i < count; i++)
        if (!steps[i].partial) steps[whole++] = steps[i];
    return whole;
}

/* Takes the last steps of at most this level into the new one. */
static size_t below_level(const delta_step *steps, size_t count, uint8_t level) {
    while (count > 0 && steps[count - 1].level <= level)
        count--;
    return count;
}

bool kwr_page_base_cover(const kwr_page_base *base, const bool *refer, bool held,
                         kwr_page_cover *out) {
    delta_step *steps = kwr_alloc_array(base->env, base->file_count + 1, sizeof *steps);
    if (steps == NULL) return false;
    const size_t all = list_steps(base, refer, steps);
    const size_t whole = drop_partial(steps, all);
    size_t count = 0;
    while (count < whole && steps[count].refer)
        count++;
    uint8_t level = 0;
    while (!held) {
        const size_t rest = below_level(steps, count, level);
        const bool full = count - rest >= KWR_PAGE_TIER - 1;
        if (!full && count < KWR_PAGE_STEPS_MAX) break;
        count = rest;
        if (level + 1 < KWR_DELTA_LEVELS)
            level++;
        else
            break;
    }
    *out = (kwr_page_cover){ .level = level, .full = held && all >= KWR_PAGE_STEPS_HELD };
    if (count > 0) {
        out->checkpoint = steps[count - 1].checkpoint;
        out->epoch = steps[count - 1].epoch;
    }
    kwr_free(base->env, steps, (base->file_count + 1) * sizeof *steps);
    return true;
}

/* ---- what is worth keeping ---- */

/* Of two files, is the first one's share in use the smaller one? */
static bool emptier(const kwr_page_file *a, const kwr_page_file *b) {
    return (double)a->used_bytes * (double)b->owned_bytes <
           (double)b->used_bytes * (double)a->owned_bytes;
}

void kwr_page_base_plan(const kwr_page_base *base, bool *refer) {
    uint64_t used = 0, held = 0;
    for (size_t i = 0; i < base->file_count; i++) {
        const kwr_page_file *file = &base->files[i];
        if (file->listed.name == NULL) refer[i] = false;
        used += file->used_bytes;
        if (refer[i]) held += file->owned_bytes;
    }
    while (held > HELD_MIN && held / HELD_QUARTERS > used / 4) {
        size_t least = SIZE_MAX;
        for (size_t i = 0; i < base->file_count; i++) {
            if (!refer[i]) continue;
            if (least == SIZE_MAX || emptier(&base->files[i], &base->files[least])) least = i;
        }
        if (least == SIZE_MAX) return;
        refer[least] = false;
        held -= base->files[least].owned_bytes - base->files[least].used_bytes;
    }
}

/* ---- the account ---- */

static kwr_status list_used(kwr_page_base *base) {
    for (size_t i = 0; i < base->file_count; i++) {
        kwr_page_file *file = &base->files[i];
        if (file->used == 0 || file->used == file->listed.images) continue;
        uint8_t *map = kwr_calloc(base->env, kwr_manifest_file_map_bytes(&file->listed));
        if (map == NULL) return KWR_ERR_NOMEM;
        file->listed.used = map;
        file->listed.used_images = file->used;
    }
    for (uint32_t g = 0; g < base->key_groups.count; g++) {
        const kwr_page_group *group = &base->groups[g];
        for (size_t i = 0; i < group->capacity; i++) {
            const kwr_page_place *place = &group->slots[i];
            if (place->id == 0) continue;
            uint8_t *map = (uint8_t *)base->files[place->file].listed.used;
            if (map != NULL) map[place->image / 8] |= (uint8_t)(1U << place->image % 8);
        }
        for (size_t i = 0; i < group->batch_count; i++) {
            const kwr_page_batch *batch = &group->batches[i];
            uint8_t *map = (uint8_t *)base->files[batch->file].listed.used;
            if (map != NULL) map[batch->image / 8] |= (uint8_t)(1U << batch->image % 8);
        }
    }
    return KWR_OK;
}

static void forget_files(kwr_page_base *base, uint32_t *moved) {
    size_t kept = 0;
    for (size_t i = 0; i < base->file_count; i++) {
        kwr_page_file *file = &base->files[i];
        moved[i] = (uint32_t)kept;
        if (file->used == 0)
            file_done(base, file);
        else
            base->files[kept++] = *file;
    }
    base->file_count = kept;
    for (uint32_t g = 0; g < base->key_groups.count; g++) {
        kwr_page_group *group = &base->groups[g];
        for (size_t i = 0; i < group->capacity; i++)
            if (group->slots[i].id != 0) group->slots[i].file = moved[group->slots[i].file];
        for (size_t i = 0; i < group->batch_count; i++)
            group->batches[i].file = moved[group->batches[i].file];
    }
}

kwr_status kwr_page_base_seal(kwr_page_base *base) {
    for (uint32_t g = 0; g < base->key_groups.count; g++) {
        const kwr_page_group *group = &base->groups[g];
        for (size_t i = 0; i < group->capacity; i++) {
            const kwr_page_place *place = &group->slots[i];
            if (place->id == 0) continue;
            base->files[place->file].used++;
            base->files[place->file].used_bytes += place->bytes;
        }
        for (size_t i = 0; i < group->batch_count; i++) {
            base->files[group->batches[i].file].used++;
            base->files[group->batches[i].file].used_bytes += group->batches[i].bytes;
        }
    }
    for (size_t i = 0; i < base->file_count; i++)
        base->files[i].listed.live_bytes = base->files[i].used_bytes;
    KWR_TRY(list_used(base));
    const size_t size = (base->file_count + 1) * sizeof(uint32_t);
    uint32_t *moved = kwr_alloc(base->env, size);
    if (moved == NULL) return KWR_ERR_NOMEM;
    forget_files(base, moved);
    kwr_free(base->env, moved, size);
    return KWR_OK;
}
