/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a key batch fetched: values of many keys by one call, kept in a ring of places until they
 * are asked for. A hint names a place; the place says whether it is still the one that was meant,
 * and a table of stamps by entry hash whether something was written to it since. Writes never have
 * to find the place they make old.
 */
#include "backend/rocksdb/rocks.h"

enum {
    PLACES = 256, /* four calls; a larger batch reads its oldest keys one by one */
    BUCKETS = 1024,
    FETCH_MOST = 64,
};

typedef struct place {
    uint64_t stamp;                 /* of the fetch that filled it; 0: none */
    rocksdb_pinnableslice_t *value; /* NULL: there was nothing */
    rocks_bytes key;
} place;

struct rocks_fetched {
    uint64_t clock;
    size_t next;
    size_t lent;
    place places[PLACES];
    uint64_t written[BUCKETS]; /* when an entry of this bucket was last written */
};

static size_t bucket_of(uint64_t entry_hash) { return (entry_hash >> 24) % BUCKETS; }

void kwr_rocks_fetched_old(rocks_state *s, uint64_t entry_hash) {
    struct rocks_fetched *f = s->fetched;
    if (f != NULL) f->written[bucket_of(entry_hash)] = ++f->clock;
}

void kwr_rocks_fetched_free(const kwr_env *env, rocks_state *s) {
    if (s->fetched == NULL) return;
    for (size_t i = 0; i < PLACES; i++) {
        if (s->fetched->places[i].value != NULL)
            rocksdb_pinnableslice_destroy(s->fetched->places[i].value);
        kwr_rocks_bytes_free(env, &s->fetched->places[i].key);
    }
    kwr_free(env, s->fetched, sizeof *s->fetched);
    s->fetched = NULL;
}

bool kwr_rocks_fetched_find(rocks_state *s, const kwr_address *at, kwr_slice key, kwr_slice *out,
                            kwr_status *found) {
    const kwr_engine_hint *hint = at->hint;
    struct rocks_fetched *f = s->fetched;
    if (hint == NULL || f == NULL || hint->stamp == 0 || hint->extra >= PLACES) return false;
    const place *p = &f->places[hint->extra];
    if (p->stamp != hint->stamp || p->stamp < f->written[bucket_of(at->entry_hash)] ||
        p->key.size != key.size || memcmp(p->key.data, key.data, key.size) != 0)
        return false;
    *found = p->value == NULL ? KWR_NOT_FOUND : KWR_OK;
    if (p->value == NULL) return true;
    const char *bytes = rocksdb_pinnableslice_value(p->value, &out->size);
    out->data = bytes;
    f->lent = hint->extra;
    return true;
}

/* Makes a place empty. What it lends stays until the state's next call. */
static void place_empty(rocks_state *s, size_t index) {
    place *p = &s->fetched->places[index];
    if (p->value != NULL && s->fetched->lent == index && s->lent == NULL)
        s->lent = p->value;
    else if (p->value != NULL)
        rocksdb_pinnableslice_destroy(p->value);
    p->value = NULL;
    p->stamp = 0;
}

/* Takes a place for each address and puts the keys there; how many had memory for it. */
static size_t take_places(kwr_engine *e, rocks_state *s, const kwr_address *at, size_t count,
                          size_t places[FETCH_MOST]) {
    struct rocks_fetched *f = s->fetched;
    for (size_t i = 0; i < count; i++) {
        size_t size;
        places[i] = f->next;
        place_empty(s, f->next);
        if (kwr_rocks_key(e->env, &f->places[f->next].key, &at[i], 0, &size) == NULL) return i;
        f->next = (f->next + 1) % PLACES;
    }
    return count;
}

static void fetch(kwr_engine *e, rocks_state *s, kwr_address *at, size_t count) {
    struct rocks_fetched *f = s->fetched;
    size_t places[FETCH_MOST], sizes[FETCH_MOST];
    const char *keys[FETCH_MOST];
    rocksdb_pinnableslice_t *values[FETCH_MOST] = { 0 };
    char *words[FETCH_MOST] = { 0 };
    count = take_places(e, s, at, count, places);
    for (size_t i = 0; i < count; i++) {
        keys[i] = (const char *)f->places[places[i]].key.data;
        sizes[i] = f->places[places[i]].key.size;
    }
    rocksdb_batched_multi_get_cf(e->db->db, e->read, s->family, count, keys, sizes, values, words,
                                 false);
    const uint64_t stamp = ++f->clock;
    for (size_t i = 0; i < count; i++) {
        place *p = &f->places[places[i]];
        p->value = values[i];
        kwr_engine_hint *hint = at[i].hint;
        if (words[i] != NULL) { /* the get will meet it too, and say so */
            rocksdb_free(words[i]);
            continue;
        }
        p->stamp = stamp;
        if (hint != NULL) *hint = (kwr_engine_hint){ .stamp = stamp, .extra = places[i] };
    }
}

void kwr_rocks_prefetch(kwr_engine *e, kwr_address *at, size_t count) {
    while (count > 0) {
        rocks_state *s = &e->states[at[0].state];
        size_t some = 1;
        while (some < count && some < FETCH_MOST && at[some].state == at[0].state)
            some++;
        if (e->bad || kwr_state_is_collection(s->kind)) return;
        if (kwr_rocks_gathered_write(e, s) < KWR_OK) return; /* the gets will say so */
        if (s->fetched == NULL) {
            s->fetched = kwr_calloc(e->env, sizeof *s->fetched);
            if (s->fetched == NULL) return; /* the gets do without */
            s->fetched->lent = PLACES;
        }
        fetch(e, s, at, some);
        at += some;
        count -= some;
    }
}
