/* SPDX-License-Identifier: Apache-2.0 */
/* List state: for each key and namespace elements in the order they were added. */
#include "backend/collection.h"
#include "backend/merge.h"
#include "base/limits.h"
#include "base/memory.h"
#include "keyweir/list.h"

struct kwr_list {
    kwr_collection collection;
};

struct kwr_list_iterator {
    kwr_iterator iterator;
};

/* ---- opening ---- */

static kwr_status open_list(kwr_backend *backend, const kwr_list_descriptor *descriptor,
                            kwr_redistribution redistribution, kwr_list **out) {
    kwr_list_descriptor wanted;
    KWR_TRY(kwr_options_copy(descriptor, &wanted, sizeof wanted, "kwr_list_descriptor",
                             &backend->error));
    const kwr_state_info info = {
        .kind = KWR_STATE_LIST,
        .name = wanted.name,
        .type = wanted.type,
        .namespace_type = wanted.namespace_type,
        .redistribution = redistribution,
    };
    kwr_state *state;
    bool fresh;
    KWR_TRY(kwr_state_open(backend, &info, sizeof(kwr_list), &state, &fresh, NULL));
    state->done = kwr_collection_done;
    *out = (kwr_list *)state;
    return KWR_OK;
}

kwr_status kwr_list_open_as(kwr_backend *backend, const kwr_list_descriptor *descriptor,
                            kwr_redistribution redistribution, kwr_list **out, kwr_error *err) {
    const kwr_status status = open_list(backend, descriptor, redistribution, out);
    if (status < KWR_OK && err != NULL) *err = backend->error;
    return status;
}

kwr_status kwr_list_open(kwr_backend *backend, const kwr_list_descriptor *descriptor,
                         kwr_list **out, kwr_error *err) {
    return kwr_list_open_as(backend, descriptor, KWR_REDISTRIBUTE_KEYED, out, err);
}

/* ---- elements ---- */

static kwr_status check_sizes(kwr_state *state, const kwr_slice *elements, size_t count) {
    for (size_t i = 0; i < count; i++)
        KWR_TRY(kwr_state_size_check(state, elements[i].size));
    return KWR_OK;
}

kwr_status kwr_list_add_all(kwr_list *list, const kwr_slice *elements, size_t count) {
    kwr_state *state = &list->collection.state;
    KWR_TRY(check_sizes(state, elements, count));
    KWR_TRY(kwr_state_at(state));
    if (count == 0) return KWR_OK;
    const kwr_status status = state->ops->sub_append(state->engine, &state->at, elements, count);
    if (status < KWR_OK) return kwr_state_failed(state, status, "append");
    kwr_collection_changed(&list->collection, &state->at, NULL);
    return KWR_OK;
}

kwr_status kwr_list_add(kwr_list *list, kwr_slice element) {
    return kwr_list_add_all(list, &element, 1);
}

kwr_status kwr_list_update(kwr_list *list, const kwr_slice *elements, size_t count) {
    kwr_state *state = &list->collection.state;
    if (count == 0) return kwr_list_clear(list);
    KWR_TRY(check_sizes(state, elements, count));
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->sub_assign(state->engine, &state->at, elements, count);
    if (status < KWR_OK) return kwr_state_failed(state, status, "write");
    kwr_collection_changed(&list->collection, &state->at, NULL);
    return KWR_OK;
}

kwr_status kwr_list_set_namespace(kwr_list *list, kwr_slice name) {
    return kwr_state_set_namespace(&list->collection.state, name);
}

kwr_status kwr_list_clear(kwr_list *list) { return kwr_collection_clear(&list->collection); }

kwr_status kwr_list_count(kwr_list *list, uint64_t *count) {
    return kwr_collection_count(&list->collection, count);
}

kwr_state *kwr_list_state(kwr_list *list) { return &list->collection.state; }

/* ---- iterators ---- */

kwr_status kwr_list_iterate(kwr_list *list, kwr_list_iterator **out) {
    kwr_iterator *iterator;
    KWR_TRY(kwr_iterator_new(&list->collection, &iterator));
    *out = (kwr_list_iterator *)iterator;
    return KWR_OK;
}

kwr_status kwr_list_iterator_next(kwr_list_iterator *iterator, kwr_slice *element) {
    kwr_iterator *it = &iterator->iterator;
    const kwr_state *state = &it->of->state;
    if (it->place == KWR_PLACE_ON && !it->outdated && state->ops->list_next != NULL) {
        kwr_slice lent = { 0 };
        const kwr_status status = state->ops->list_next(state->engine, state->at.state, &it->hint,
                                                        it->subkey.data, &lent);
        if (status >= KWR_OK) {
            kwr_iterator_move(it, status == KWR_OK ? KWR_PLACE_ON : KWR_PLACE_LAST);
            it->lent = status == KWR_OK;
            if (element != NULL) kwr_slice_pass(element, &lent);
            return status;
        }
    }
    return kwr_iterator_step(&iterator->iterator, true, NULL, element);
}

kwr_state *kwr_list_iterator_state(kwr_list_iterator *iterator) {
    return &iterator->iterator.of->state;
}

void kwr_list_iterator_free(kwr_list_iterator *iterator) {
    kwr_iterator_free((kwr_iterator *)iterator);
}

/* ---- merging namespaces: the elements of all sources are copied, then appended at once ---- */

typedef struct gathered {
    kwr_buffer bytes;
    kwr_slice *elements; /* until all are there `data` holds offsets */
    size_t count;
    size_t capacity;
} gathered;

static kwr_status take(kwr_state *state, gathered *g, kwr_slice element) {
    const kwr_env *env = state->backend->env;
    void *elements = g->elements;
    const bool grown =
        kwr_grow_array(env, &elements, &g->capacity, g->count + 1, sizeof *g->elements);
    g->elements = (kwr_slice *)elements;
    if (grown) {
        g->elements[g->count++].size = element.size;
        if (element.size > 0) kwr_buffer_append(&g->bytes, element.data, element.size);
    }
    if (!grown || g->bytes.failed) return kwr_state_failed(state, KWR_ERR_NOMEM, "merge");
    return KWR_OK;
}

/* The elements of one source, and a write to it, so that it can be removed without memory. */
static kwr_status gather_one(kwr_state *state, const kwr_address *at, gathered *g) {
    kwr_engine_hint hint = { 0 };
    kwr_slice subkey = { 0 }, element = { 0 };
    kwr_status status =
        state->ops->sub_seek(state->engine, at, KWR_SEEK_FIRST, subkey, &hint, &subkey, &element);
    if (status == KWR_NOT_FOUND) return KWR_NOT_FOUND;
    while (status == KWR_OK) {
        KWR_TRY(take(state, g, element));
        status = state->ops->sub_seek(state->engine, at, KWR_SEEK_ABOVE, subkey, &hint, &subkey,
                                      &element);
    }
    return status < KWR_OK ? kwr_state_failed(state, status, "merge") : KWR_OK;
}

static kwr_status touch(kwr_state *state, const kwr_address *at) {
    kwr_slice first = { 0 };
    kwr_status status =
        state->ops->sub_seek(state->engine, at, KWR_SEEK_FIRST, first, NULL, &first, NULL);
    /* The subkey is lent by the state that is about to be written: it needs a place of its own. */
    uint8_t sequence[KWR_SEQUENCE_BYTES];
    if (status == KWR_OK && first.size != sizeof sequence) status = KWR_ERR_CORRUPT;
    if (status == KWR_OK) {
        memcpy(sequence, first.data, sizeof sequence);
        void *bytes;
        size_t size;
        status = state->ops->sub_modify(state->engine, at, (kwr_slice){ sequence, sizeof sequence },
                                        KWR_KEEP_SIZE, &bytes, &size);
    }
    return status < KWR_OK ? kwr_state_failed(state, status, "merge") : KWR_OK;
}

static kwr_status merge_lists(kwr_merge *merge, gathered *g) {
    kwr_state *state = merge->state;
    size_t kept = 0;
    for (size_t i = 0; i < merge->count; i++) {
        const kwr_status found = gather_one(state, &merge->sources[i], g);
        KWR_TRY(found);
        if (found == KWR_OK) merge->sources[kept++] = merge->sources[i];
    }
    merge->count = kept;
    if (kept == 0) return KWR_OK;
    const uint8_t *bytes = g->bytes.data;
    for (size_t i = 0; i < g->count; i++) {
        g->elements[i].data = bytes;
        if (bytes != NULL) bytes += g->elements[i].size;
    }
    for (size_t i = 0; i < kept; i++)
        KWR_TRY(touch(state, &merge->sources[i]));
    const kwr_status status =
        state->ops->sub_append(state->engine, &merge->target, g->elements, g->count);
    if (status < KWR_OK) return kwr_state_failed(state, status, "merge");
    kwr_collection *collection = (kwr_collection *)state;
    kwr_collection_changed(collection, &merge->target, NULL);
    for (size_t i = 0; i < kept; i++)
        kwr_collection_changed(collection, &merge->sources[i], NULL);
    return kwr_merge_remove_sources(merge);
}

kwr_status kwr_list_merge_namespaces(kwr_list *list, kwr_slice target, const kwr_slice *sources,
                                     size_t count) {
    kwr_state *state = &list->collection.state;
    const kwr_env *env = state->backend->env;
    gathered g = { .bytes = { .env = env } };
    kwr_merge merge;
    kwr_status status = kwr_merge_begin(state, target, sources, count, &merge);
    if (status >= KWR_OK) status = merge_lists(&merge, &g);
    kwr_free(env, g.elements, g.capacity * sizeof *g.elements);
    kwr_buffer_free(&g.bytes);
    kwr_merge_done(&merge);
    return status;
}
