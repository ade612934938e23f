/* SPDX-License-Identifier: Apache-2.0 */
/* See model_store.h. Memory comes from the environment, so that tests can make it run out. */
#include "tests/conformance/model_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void model_require(bool holds, const char *what) {
    if (holds) return;
    (void)fprintf(stderr, "model engine: %s\n", what);
    abort();
}

/* ---- bytes ---- */

int model_compare(kwr_slice a, kwr_slice b) {
    const size_t common = a.size < b.size ? a.size : b.size;
    const int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

bool model_bytes_copy(const kwr_env *env, kwr_slice from, model_bytes *out) {
    uint8_t *data = (uint8_t *)kwr_alloc(env, from.size);
    if (data == NULL) return false;
    if (from.size > 0) memcpy(data, from.data, from.size);
    *out = (model_bytes){ data, from.size };
    return true;
}

void model_bytes_free(const kwr_env *env, model_bytes *bytes) {
    kwr_free(env, bytes->data, bytes->size);
    *bytes = (model_bytes){ 0 };
}

/* ---- entries ---- */

static int compare(const model_entry *entry, const kwr_address *at) {
    if (entry->state != at->state) return entry->state < at->state ? -1 : 1;
    if (entry->key_group != at->key_group) return entry->key_group < at->key_group ? -1 : 1;
    const int by_key = model_compare(model_slice(&entry->key), at->key);
    return by_key != 0 ? by_key : model_compare(model_slice(&entry->name), at->name);
}

bool model_find(const model_entries *entries, const kwr_address *at, size_t *place) {
    size_t low = 0;
    size_t high = entries->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare(entries->at[middle], at);
        if (order == 0) {
            *place = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *place = low;
    return false;
}

void model_entry_free(const kwr_env *env, model_entry *entry) {
    if (entry == NULL) return;
    for (size_t i = 0; i < entry->element_count; i++) {
        model_bytes_free(env, &entry->elements[i]->subkey);
        model_bytes_free(env, &entry->elements[i]->value);
        kwr_free(env, entry->elements[i], sizeof *entry->elements[i]);
    }
    kwr_free(env, entry->elements, entry->element_capacity * sizeof(model_element *));
    model_bytes_free(env, &entry->key);
    model_bytes_free(env, &entry->name);
    model_bytes_free(env, &entry->value);
    kwr_free(env, entry, sizeof *entry);
}

model_entry *model_entry_new(const kwr_env *env, const kwr_address *at, kwr_slice value) {
    model_entry *entry = (model_entry *)kwr_calloc(env, sizeof *entry);
    if (entry == NULL) return NULL;
    entry->state = at->state;
    entry->key_group = at->key_group;
    if (model_bytes_copy(env, at->key, &entry->key) &&
        model_bytes_copy(env, at->name, &entry->name) &&
        model_bytes_copy(env, value, &entry->value))
        return entry;
    model_entry_free(env, entry);
    return NULL;
}

static bool copy_elements(const kwr_env *env, const model_entry *from, model_entry *to) {
    const size_t count = from->element_count;
    if (count == 0) return true;
    to->elements = (model_element **)kwr_alloc_array(env, count, sizeof *to->elements);
    if (to->elements == NULL) return false;
    to->element_capacity = count;
    for (size_t i = 0; i < count; i++) {
        model_element *copy = (model_element *)kwr_calloc(env, sizeof *copy);
        if (copy == NULL) return false;
        to->elements[to->element_count++] = copy;
        if (!model_bytes_copy(env, model_slice(&from->elements[i]->subkey), &copy->subkey) ||
            !model_bytes_copy(env, model_slice(&from->elements[i]->value), &copy->value))
            return false;
    }
    return true;
}

model_entry *model_entry_copy(const kwr_env *env, const model_entry *from) {
    const kwr_address at = { .state = from->state,
                             .key_group = from->key_group,
                             .key = model_slice(&from->key),
                             .name = model_slice(&from->name) };
    model_entry *copy = model_entry_new(env, &at, model_slice(&from->value));
    if (copy == NULL || copy_elements(env, from, copy)) return copy;
    model_entry_free(env, copy);
    return NULL;
}

void model_entries_free(model_entries *entries) {
    for (size_t i = 0; i < entries->count; i++)
        model_entry_free(entries->env, entries->at[i]);
    kwr_free(entries->env, entries->at, entries->capacity * sizeof(model_entry *));
    *entries = (model_entries){ .env = entries->env };
}

bool model_entries_reserve(model_entries *entries, size_t count) {
    void *at = entries->at;
    const bool grown =
        kwr_grow_array(entries->env, &at, &entries->capacity, count, sizeof(model_entry *));
    entries->at = (model_entry **)at;
    return grown;
}

bool model_entries_insert(model_entries *entries, size_t place, model_entry *entry) {
    if (!model_entries_reserve(entries, entries->count + 1)) return false;
    memmove(&entries->at[place + 1], &entries->at[place],
            (entries->count - place) * sizeof(model_entry *));
    entries->at[place] = entry;
    entries->count++;
    return true;
}

void model_entries_remove(model_entries *entries, size_t place) {
    model_entry_free(entries->env, entries->at[place]);
    entries->count--;
    memmove(&entries->at[place], &entries->at[place + 1],
            (entries->count - place) * sizeof(model_entry *));
}

uint64_t model_entry_bytes(const model_entry *entry) {
    uint64_t bytes = entry->key.size + entry->name.size + entry->value.size;
    for (size_t i = 0; i < entry->element_count; i++)
        bytes += entry->elements[i]->subkey.size + entry->elements[i]->value.size;
    return bytes;
}

/* ---- what the seam promises ---- */

static void move(const kwr_env *env, model_bytes *lent) {
    model_bytes moved;
    /* Without memory the borrow ends unseen: a removal must not fail for it. */
    if (lent == NULL || !model_bytes_copy(env, model_slice(lent), &moved)) return;
    model_bytes_free(env, lent);
    *lent = moved;
}

void model_end_borrow(kwr_engine *engine, uint32_t state) {
    const model_lent lent = engine->lent[state];
    engine->lent[state] = (model_lent){ 0 };
    move(engine->config.env, lent.value);
    move(engine->config.env, lent.subkey);
}

void model_check_address(const kwr_engine *engine, const kwr_address *at) {
    const kwr_key_group_range owned = engine->config.key_groups;
    model_require(at->state < engine->states, "an address of a state there is no room for");
    model_require(at->key_group - owned.first < owned.count, "an address of a foreign key group");
    const uint64_t key_hash = kwr_key_hash(at->key, engine->config.seed);
    model_require(at->entry_hash == kwr_entry_hash(key_hash, kwr_namespace_hash(at->name)),
                  "an address whose hash is not of its key and namespace");
    const kwr_engine_hint *hint = (const kwr_engine_hint *)at->hint;
    model_require(hint == NULL || hint->stamp == 0 || hint->extra == at->entry_hash,
                  "a hint of another address");
}

void model_begin(kwr_engine *engine, const kwr_address *at, bool collection) {
    model_check_address(engine, at);
    model_require(kwr_state_is_collection(engine->kinds[at->state]) == collection,
                  "an operation for entries of another kind");
    model_end_borrow(engine, at->state);
}
