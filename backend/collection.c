/* SPDX-License-Identifier: Apache-2.0 */
/* Iterators of lists and maps, see collection.h. */
#include "backend/collection.h"

#include "base/memory.h"

/* ---- the entry as a whole ---- */

kwr_status kwr_collection_clear(kwr_collection *collection) {
    kwr_state *state = &collection->state;
    KWR_TRY(kwr_state_at(state));
    const kwr_status status = state->ops->remove(state->engine, &state->at);
    if (status < KWR_OK) return kwr_state_failed(state, status, "remove");
    if (status == KWR_OK) kwr_collection_changed(collection, &state->at, NULL);
    return KWR_OK;
}

kwr_status kwr_collection_count(kwr_collection *collection, uint64_t *count) {
    kwr_state *state = &collection->state;
    KWR_TRY(kwr_state_at(state));
    uint64_t elements = 0;
    const kwr_status status = state->ops->sub_count(state->engine, &state->at, &elements);
    if (status < KWR_OK) return kwr_state_failed(state, status, "count");
    *count = elements;
    return KWR_OK;
}

static bool same_bytes(kwr_slice a, kwr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

void kwr_collection_mark(kwr_collection *collection, const kwr_address *at,
                         const kwr_iterator *by) {
    for (kwr_iterator *it = collection->iterators; it != NULL; it = it->next) {
        if (it == by || it->at.entry_hash != at->entry_hash || it->at.key_group != at->key_group ||
            !same_bytes(it->at.key, at->key) || !same_bytes(it->at.name, at->name))
            continue;
        it->outdated = true;
    }
}

/* ---- coming and going ---- */

static void iterator_release(const kwr_env *env, kwr_iterator *it) {
    if (it == NULL) return;
    kwr_kept_free(env, &it->key);
    kwr_kept_free(env, &it->name);
    kwr_kept_free(env, &it->subkey);
    kwr_free(env, it, sizeof *it);
}

void kwr_collection_done(kwr_state *state) {
    kwr_collection *collection = (kwr_collection *)state;
    while (collection->iterators != NULL)
        kwr_iterator_free(collection->iterators);
    iterator_release(state->backend->env, collection->spare);
    collection->spare = NULL;
}

/* The spare one or a new one, in neither case in use yet. */
static kwr_iterator *iterator_take(kwr_collection *collection) {
    kwr_iterator *it = collection->spare;
    collection->spare = NULL;
    if (it == NULL) return (kwr_iterator *)kwr_calloc(collection->state.backend->env, sizeof *it);
    *it = (kwr_iterator){ .key = it->key, .name = it->name, .subkey = it->subkey };
    return it;
}

kwr_status kwr_iterator_new(kwr_collection *collection, kwr_iterator **out) {
    kwr_state *state = &collection->state;
    KWR_TRY(kwr_state_at(state));
    const kwr_env *env = state->backend->env;
    kwr_iterator *it = iterator_take(collection);
    if (it == NULL || !kwr_kept_set(env, &it->key, state->at.key) ||
        !kwr_kept_set(env, &it->name, state->at.name)) {
        iterator_release(env, it);
        return kwr_state_failed(state, KWR_ERR_NOMEM, "iterate");
    }
    it->of = collection;
    it->at = state->at;
    it->at.key.data = it->key.data;
    it->at.name.data = it->name.data;
    it->at.hint = NULL;
    it->next = collection->iterators;
    if (it->next != NULL) it->next->previous = it;
    collection->iterators = it;
    *out = it;
    return KWR_OK;
}

void kwr_iterator_free(kwr_iterator *it) {
    if (it == NULL) return;
    kwr_collection *collection = it->of;
    if (it->next != NULL) it->next->previous = it->previous;
    if (it->previous != NULL)
        it->previous->next = it->next;
    else
        collection->iterators = it->next;
    if (collection->spare == NULL)
        collection->spare = it;
    else
        iterator_release(collection->state.backend->env, it);
}

/* ---- moving ---- */

kwr_status kwr_iterator_check(kwr_iterator *it) {
    if (!it->outdated) return KWR_OK;
    const kwr_state *state = &it->of->state;
    return KWR_FAIL(&state->backend->error, KWR_ERR_MISUSE, 0,
                    "state '%s': the %s was changed while this iterator was over it, and not "
                    "through it; free it and iterate again",
                    state->label, kwr_state_kind_name(state->kind));
}

/* What to ask the engine for; false: nothing lies in that direction. */
static bool seek_of(const kwr_iterator *it, bool forward, kwr_seek *seek) {
    switch (it->place) {
    case KWR_PLACE_FIRST: *seek = KWR_SEEK_FIRST; return forward;
    case KWR_PLACE_LAST: *seek = KWR_SEEK_LAST; return !forward;
    case KWR_PLACE_ABOVE: *seek = forward ? KWR_SEEK_AT_LEAST : KWR_SEEK_BELOW; return true;
    case KWR_PLACE_ON: *seek = forward ? KWR_SEEK_ABOVE : KWR_SEEK_BELOW; return true;
    }
    return false;
}

void kwr_iterator_move(kwr_iterator *it, kwr_place place) {
    it->place = place;
    it->lent = false;
    it->removed = false;
}

static kwr_status at_end(kwr_iterator *it, bool forward, kwr_slice *subkey, kwr_slice *value) {
    kwr_iterator_move(it, forward ? KWR_PLACE_LAST : KWR_PLACE_FIRST);
    if (subkey != NULL) *subkey = (kwr_slice){ 0 };
    if (value != NULL) *value = (kwr_slice){ 0 };
    return KWR_NOT_FOUND;
}

kwr_status kwr_iterator_step(kwr_iterator *it, bool forward, kwr_slice *subkey, kwr_slice *value) {
    KWR_TRY(kwr_iterator_check(it));
    kwr_state *state = &it->of->state;
    kwr_seek seek;
    if (!seek_of(it, forward, &seek)) return at_end(it, forward, subkey, value);
    const kwr_slice from = { it->subkey.data, it->subkey.size };
    kwr_slice met = { 0 }, lent = { 0 };
    const kwr_status status =
        state->ops->sub_seek(state->engine, &it->at, seek, from, &it->hint, &met, &lent);
    if (status < KWR_OK) return kwr_state_failed(state, status, "iterate");
    if (status == KWR_NOT_FOUND) return at_end(it, forward, subkey, value);
    if (!kwr_kept_set(state->backend->env, &it->subkey, met))
        return kwr_state_failed(state, KWR_ERR_NOMEM, "iterate");
    kwr_iterator_move(it, KWR_PLACE_ON);
    it->lent = true;
    if (subkey != NULL) kwr_slice_pass(subkey, &met);
    if (value != NULL) kwr_slice_pass(value, &lent);
    return KWR_OK;
}

kwr_status kwr_iterator_seek(kwr_iterator *it, kwr_slice subkey) {
    KWR_TRY(kwr_iterator_check(it));
    if (!kwr_kept_set(it->of->state.backend->env, &it->subkey, subkey))
        return kwr_state_failed(&it->of->state, KWR_ERR_NOMEM, "iterate");
    kwr_iterator_move(it, KWR_PLACE_ABOVE);
    return KWR_OK;
}

/* ---- changing ---- */

static kwr_status check_lent(kwr_iterator *it, const char *verb) {
    KWR_TRY(kwr_iterator_check(it));
    if (it->lent && !it->removed) return KWR_OK;
    const kwr_state *state = &it->of->state;
    return KWR_FAIL(&state->backend->error, KWR_ERR_MISUSE, 0, "state '%s': nothing to %s: %s",
                    state->label, verb,
                    it->removed ? "the entry was removed through this iterator already"
                                : "the iterator is on no entry; step to one first");
}

kwr_status kwr_iterator_remove(kwr_iterator *it) {
    KWR_TRY(check_lent(it, "remove"));
    kwr_state *state = &it->of->state;
    const kwr_slice subkey = { it->subkey.data, it->subkey.size };
    const kwr_status status = state->ops->sub_remove(state->engine, &it->at, subkey);
    if (status < KWR_OK) return kwr_state_failed(state, status, "remove");
    it->removed = true;
    kwr_collection_changed(it->of, &it->at, it);
    return KWR_OK;
}

kwr_status kwr_iterator_set(kwr_iterator *it, kwr_slice value) {
    kwr_state *state = &it->of->state;
    KWR_TRY(check_lent(it, "set"));
    KWR_TRY(kwr_state_size_check(state, value.size));
    const kwr_slice subkey = { it->subkey.data, it->subkey.size };
    const kwr_status status = state->ops->sub_put(state->engine, &it->at, subkey, value);
    if (status < KWR_OK) return kwr_state_failed(state, status, "write");
    kwr_collection_changed(it->of, &it->at, it);
    return KWR_OK;
}
