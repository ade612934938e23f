/* SPDX-License-Identifier: Apache-2.0 */
/* Collections of the model engine: elements in one sorted array for each entry. */
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "tests/conformance/model_store.h"

/* ---- elements ---- */

static void element_free(const kwr_env *env, model_element *element) {
    if (element == NULL) return;
    model_bytes_free(env, &element->subkey);
    model_bytes_free(env, &element->value);
    kwr_free(env, element, sizeof *element);
}

static model_element *element_new(const kwr_env *env, kwr_slice subkey, kwr_slice value) {
    model_element *element = (model_element *)kwr_calloc(env, sizeof *element);
    if (element == NULL) return NULL;
    if (model_bytes_copy(env, subkey, &element->subkey) &&
        model_bytes_copy(env, value, &element->value))
        return element;
    element_free(env, element);
    return NULL;
}

/* The first element that is not below `subkey`. */
static size_t lower_bound(const model_entry *entry, kwr_slice subkey) {
    size_t low = 0;
    size_t high = entry->element_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (model_compare(model_slice(&entry->elements[middle]->subkey), subkey) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const model_entry *entry, size_t index, kwr_slice subkey) {
    return index < entry->element_count &&
           model_compare(model_slice(&entry->elements[index]->subkey), subkey) == 0;
}

static model_entry *entry_of(kwr_engine *engine, const kwr_address *at) {
    size_t place;
    return model_find(&engine->entries, at, &place) ? engine->entries.at[place] : NULL;
}

static bool reserve(const kwr_env *env, model_entry *entry, size_t count) {
    void *elements = entry->elements;
    const bool grown =
        kwr_grow_array(env, &elements, &entry->element_capacity, count, sizeof(model_element *));
    entry->elements = (model_element **)elements;
    return grown;
}

/* The entry, made when there is none; *made then. An entry without elements must not stay. */
static model_entry *entry_made(kwr_engine *engine, const kwr_address *at, bool *made) {
    size_t place;
    *made = false;
    if (model_find(&engine->entries, at, &place)) return engine->entries.at[place];
    model_entry *entry = model_entry_new(engine->config.env, at, (kwr_slice){ 0 });
    if (entry == NULL) return NULL;
    if (!model_entries_insert(&engine->entries, place, entry)) {
        model_entry_free(engine->config.env, entry);
        return NULL;
    }
    *made = true;
    return entry;
}

static void entry_unmade(kwr_engine *engine, const kwr_address *at) {
    size_t place;
    if (model_find(&engine->entries, at, &place)) model_entries_remove(&engine->entries, place);
}

static kwr_status insert(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                         kwr_slice value) {
    bool made;
    model_entry *entry = entry_made(engine, at, &made);
    if (entry == NULL) return KWR_ERR_NOMEM;
    model_element *element = element_new(engine->config.env, subkey, value);
    if (element == NULL || !reserve(engine->config.env, entry, entry->element_count + 1)) {
        element_free(engine->config.env, element);
        if (made) entry_unmade(engine, at);
        return KWR_ERR_NOMEM;
    }
    const size_t index = lower_bound(entry, subkey);
    memmove(&entry->elements[index + 1], &entry->elements[index],
            (entry->element_count - index) * sizeof(model_element *));
    entry->elements[index] = element;
    entry->element_count++;
    return KWR_OK;
}

/* ---- the operations ---- */

kwr_status model_sub_get(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                         kwr_slice *value) {
    model_begin(engine, at, true);
    const model_entry *entry = entry_of(engine, at);
    if (entry == NULL) return KWR_NOT_FOUND;
    const size_t index = lower_bound(entry, subkey);
    if (!is_at(entry, index, subkey)) return KWR_NOT_FOUND;
    engine->lent[at->state] = (model_lent){ .value = &entry->elements[index]->value };
    *value = model_slice(&entry->elements[index]->value);
    return KWR_OK;
}

kwr_status model_sub_put(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                         kwr_slice value) {
    model_begin(engine, at, true);
    const model_entry *entry = entry_of(engine, at);
    const size_t index = entry == NULL ? 0 : lower_bound(entry, subkey);
    if (entry == NULL || !is_at(entry, index, subkey)) return insert(engine, at, subkey, value);
    model_bytes copy;
    if (!model_bytes_copy(engine->config.env, value, &copy)) return KWR_ERR_NOMEM;
    model_bytes_free(engine->config.env, &entry->elements[index]->value);
    entry->elements[index]->value = copy;
    return KWR_OK;
}

kwr_status model_sub_modify(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                            size_t size, void **out, size_t *old_size) {
    model_begin(engine, at, true);
    const kwr_env *env = engine->config.env;
    const model_entry *entry = entry_of(engine, at);
    size_t index = entry == NULL ? 0 : lower_bound(entry, subkey);
    const bool found = entry != NULL && is_at(entry, index, subkey);
    const size_t before = found ? entry->elements[index]->value.size : 0;
    const size_t want = size == SIZE_MAX ? before : size;
    model_bytes value = { (uint8_t *)kwr_calloc(env, want), want };
    if (value.data == NULL) return KWR_ERR_NOMEM;
    if (!found) {
        const kwr_status status = insert(engine, at, subkey, (kwr_slice){ 0 });
        if (status < KWR_OK) {
            model_bytes_free(env, &value);
            return status;
        }
        entry = entry_of(engine, at);
        index = lower_bound(entry, subkey);
    }
    model_element *element = entry->elements[index];
    const size_t keep = before < want ? before : want;
    if (keep > 0) memcpy(value.data, element->value.data, keep);
    model_bytes_free(env, &element->value);
    element->value = value;
    engine->lent[at->state] = (model_lent){ .value = &element->value };
    *out = value.data;
    *old_size = found ? before : SIZE_MAX;
    return KWR_OK;
}

kwr_status model_sub_remove(kwr_engine *engine, const kwr_address *at, kwr_slice subkey) {
    model_begin(engine, at, true);
    model_entry *entry = entry_of(engine, at);
    if (entry == NULL) return KWR_NOT_FOUND;
    const size_t index = lower_bound(entry, subkey);
    if (!is_at(entry, index, subkey)) return KWR_NOT_FOUND;
    element_free(engine->config.env, entry->elements[index]);
    entry->element_count--;
    memmove(&entry->elements[index], &entry->elements[index + 1],
            (entry->element_count - index) * sizeof(model_element *));
    if (entry->element_count == 0) entry_unmade(engine, at);
    return KWR_OK;
}

/* A new entry with these elements; NULL without memory. */
static model_entry *list_of(const kwr_env *env, const kwr_address *at, uint64_t first,
                            const kwr_slice *values, size_t count) {
    model_entry *entry = model_entry_new(env, at, (kwr_slice){ 0 });
    if (entry == NULL || !reserve(env, entry, count)) {
        model_entry_free(env, entry);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t sequence[KWR_SEQUENCE_BYTES];
        kwr_put_be64(sequence, first + i);
        model_element *element =
            element_new(env, (kwr_slice){ sequence, sizeof sequence }, values[i]);
        if (element == NULL) {
            model_entry_free(env, entry);
            return NULL;
        }
        entry->elements[entry->element_count++] = element;
    }
    return entry;
}

static uint64_t next_sequence(const model_entry *entry) {
    if (entry == NULL) return 0;
    const model_bytes *last = &entry->elements[entry->element_count - 1]->subkey;
    model_require(last->size == KWR_SEQUENCE_BYTES, "a list whose subkeys are no numbers");
    return kwr_get_be64(last->data) + 1;
}

static void check_list(const kwr_engine *engine, const kwr_address *at) {
    model_require(engine->kinds[at->state] == KWR_STATE_LIST, "an append to what is no list");
}

kwr_status model_sub_append(kwr_engine *engine, const kwr_address *at, const kwr_slice *values,
                            size_t count) {
    model_begin(engine, at, true);
    check_list(engine, at);
    if (count == 0) return KWR_OK;
    const kwr_env *env = engine->config.env;
    model_entry *entry = entry_of(engine, at);
    model_entry *more = list_of(env, at, next_sequence(entry), values, count);
    if (more == NULL) return KWR_ERR_NOMEM;
    bool done;
    if (entry == NULL) {
        size_t place;
        (void)model_find(&engine->entries, at, &place);
        done = model_entries_insert(&engine->entries, place, more);
        if (done) return KWR_OK;
    } else {
        done = reserve(env, entry, entry->element_count + count);
    }
    if (done) {
        memcpy(entry->elements + entry->element_count, more->elements,
               count * sizeof(model_element *));
        entry->element_count += count;
        more->element_count = 0;
    }
    model_entry_free(env, more);
    return done ? KWR_OK : KWR_ERR_NOMEM;
}

kwr_status model_sub_assign(kwr_engine *engine, const kwr_address *at, const kwr_slice *values,
                            size_t count) {
    model_begin(engine, at, true);
    check_list(engine, at);
    model_require(count > 0, "a list of no elements");
    const kwr_env *env = engine->config.env;
    model_entry *entry = list_of(env, at, 0, values, count);
    if (entry == NULL) return KWR_ERR_NOMEM;
    size_t place;
    if (model_find(&engine->entries, at, &place)) {
        model_entry_free(env, engine->entries.at[place]);
        engine->entries.at[place] = entry;
        return KWR_OK;
    }
    if (model_entries_insert(&engine->entries, place, entry)) return KWR_OK;
    model_entry_free(env, entry);
    return KWR_ERR_NOMEM;
}

/* The element a seek is for; element_count or above: none. */
static size_t sought(const model_entry *entry, kwr_seek seek, kwr_slice from) {
    switch (seek) {
    case KWR_SEEK_FIRST: return 0;
    case KWR_SEEK_LAST: return entry->element_count - 1;
    case KWR_SEEK_AT_LEAST: return lower_bound(entry, from);
    case KWR_SEEK_ABOVE: {
        const size_t index = lower_bound(entry, from);
        return is_at(entry, index, from) ? index + 1 : index;
    }
    case KWR_SEEK_BELOW: return lower_bound(entry, from) - 1; /* from 0: beyond all */
    }
    model_require(false, "an unknown seek");
    return 0;
}

kwr_status model_sub_seek(kwr_engine *engine, const kwr_address *at, kwr_seek seek, kwr_slice from,
                          kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value) {
    model_check_address(engine, at);
    model_require(hint == NULL || hint->stamp == 0 || hint->extra == at->entry_hash,
                  "a hint of another entry");
    const model_entry *entry = entry_of(engine, at);
    /* Before the borrow ends: `from` may be lent. */
    const size_t index = entry == NULL ? 0 : sought(entry, seek, from);
    model_begin(engine, at, true);
    if (entry == NULL || index >= entry->element_count) return KWR_NOT_FOUND;
    model_element *element = entry->elements[index];
    engine->lent[at->state] = (model_lent){ .value = &element->value, .subkey = &element->subkey };
    if (hint != NULL) *hint = (kwr_engine_hint){ .stamp = engine->stamp, .extra = at->entry_hash };
    if (subkey != NULL) *subkey = model_slice(&element->subkey);
    if (value != NULL) *value = model_slice(&element->value);
    return KWR_OK;
}

kwr_status model_sub_count(kwr_engine *engine, const kwr_address *at, uint64_t *count) {
    model_begin(engine, at, true);
    const model_entry *entry = entry_of(engine, at);
    *count = entry == NULL ? 0 : entry->element_count;
    return KWR_OK;
}
