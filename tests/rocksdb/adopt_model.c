/* SPDX-License-Identifier: Apache-2.0 */
/* See adopt_model.h. */
#include "tests/rocksdb/adopt_model.h"

#include <sys/stat.h>

#include "base/limits.h"

const kwr_state_kind model_kinds[MODEL_STATES] = {
    KWR_STATE_VALUE, KWR_STATE_LIST, KWR_STATE_MAP,
    KWR_STATE_TIMER, KWR_STATE_RAW,  KWR_STATE_REDUCING,
};
static const kwr_engine_ops *const ops = &kwr_rocksdb_engine;

uint64_t rng_next(rng *r) {
    uint64_t z = (r->x += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* ---- engines ---- */

static unsigned next_number;

static void open_instance(instance *in, const kwr_env *env, uint32_t groups,
                          kwr_key_group_range range, const uint32_t *order, size_t count,
                          bool adopts) {
    *in = (instance){ .env = env, .range = range, .state_count = count };
    (void)snprintf(in->directory, sizeof in->directory, "%s/engine-%u", kwr_test_dir(),
                   next_number++);
    kwr_error err;
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    KWR_MUST_ERR(kwr_resources_open(env, &pool, &in->resources, &err), err);
    KWR_MUST_ERR(kwr_limits_complete(NULL, &in->limits, &err), err);
    const kwr_engine_config config = { .env = env,
                                       .resources = in->resources,
                                       .max_parallelism = groups,
                                       .key_groups = range,
                                       .limits = &in->limits,
                                       .hash_mask = UINT64_MAX,
                                       .seed = 5,
                                       .directory = in->directory,
                                       .adopts = adopts };
    KWR_MUST_ERR(ops->open(&config, &in->engine, &err), err);
    for (size_t i = 0; i < MODEL_STATES; i++)
        in->ids[i] = UINT32_MAX;
    for (uint32_t id = 0; id < count; id++) {
        const kwr_state_info info = { .id = id, .kind = model_kinds[order[id]], .name = "state" };
        KWR_MUST(ops->add_state(in->engine, &info));
        in->ids[order[id]] = id;
    }
}

void instance_open(instance *in, const kwr_env *env, uint32_t groups, kwr_key_group_range range,
                   const uint32_t *order, size_t count) {
    open_instance(in, env, groups, range, order, count, false);
}

void instance_open_to_adopt(instance *in, const kwr_env *env, uint32_t groups,
                            kwr_key_group_range range, const uint32_t *order, size_t count) {
    open_instance(in, env, groups, range, order, count, true);
}

void instance_close(instance *in) {
    ops->close(in->engine);
    kwr_resources_close(in->resources);
    struct stat gone;
    cr_assert(stat(in->directory, &gone) != 0, "%s is left", in->directory);
}

void instance_copy(instance *in, char path[256]) {
    (void)snprintf(path, 256, "%s/copy-%u", kwr_test_dir(), next_number++);
    kwr_engine_view *view; /* stores what is lent */
    KWR_MUST(ops->freeze(in->engine, &view));
    char *words = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(in->engine->db->db, &words);
    cr_assert(words == NULL, "%s", words);
    rocksdb_checkpoint_create(checkpoint, path, 0, &words);
    cr_assert(words == NULL, "%s", words);
    rocksdb_checkpoint_object_destroy(checkpoint);
    ops->view_release(view);
}

/* ---- addresses and values ---- */

typedef struct place {
    uint32_t state, key, name;
    char key_text[16], name_text[16];
    kwr_address at;
} place;

static bool per_group(uint32_t state) { return kwr_state_is_per_group(model_kinds[state]); }

/* States of key groups have no keys: there the key's number is the group's. */
static void place_of(const model *m, const instance *in, uint32_t state, uint32_t key,
                     uint32_t name, place *out) {
    *out = (place){ .state = state, .key = key, .name = name };
    out->at = (kwr_address){ .state = in->ids[state], .key_group = key % m->groups };
    if (per_group(state)) return;
    out->at.key.size = (size_t)snprintf(out->key_text, 16, "key%u", key);
    out->at.key.data = out->key_text;
    out->at.name.size = name == 0 ? 0 : (size_t)snprintf(out->name_text, 16, "window%u", name);
    out->at.name.data = out->name_text;
}

static bool exists_in_model(const model *m, uint32_t state, uint32_t key, uint32_t name) {
    return !per_group(state) || (key < m->groups && name == 0);
}

static bool owned(const instance *in, uint32_t group) {
    return group - in->range.first < in->range.count;
}

enum { VALUE_MAX = 6000 };

/* Mostly short; one in 64 beyond a block. */
static kwr_slice value_of(uint64_t seed, uint8_t bytes[VALUE_MAX]) {
    rng r = { seed };
    const uint64_t first = rng_next(&r);
    const size_t size = first % 64 == 0 ? VALUE_MAX - first / 64 % 100 : first / 64 % 90;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(seed + i * 7 + (i >> 4));
    return (kwr_slice){ bytes, size };
}

static kwr_slice subkey_of(kwr_state_kind kind, uint64_t number, uint8_t bytes[8]) {
    if (kind == KWR_STATE_MAP) {
        return (kwr_slice){ bytes, (size_t)snprintf((char *)bytes, 8, "s%04u",
                                                    (unsigned)(number % 10000)) };
    }
    kwr_put_be64(bytes, number);
    return (kwr_slice){ bytes, 8 };
}

/* ---- changes ---- */

static void change_plain(instance *in, model_entry *entry, const place *p, rng *r) {
    uint8_t bytes[VALUE_MAX];
    const uint32_t what = rng_below(r, 10);
    if (what == 0) {
        KWR_EXPECT(entry->count > 0 ? KWR_OK : KWR_NOT_FOUND, ops->remove(in->engine, &p->at));
        entry->count = 0;
        return;
    }
    const kwr_slice value = value_of(entry->values[0] = rng_next(r), bytes);
    entry->count = 1;
    if (what < 7) {
        KWR_MUST(ops->put(in->engine, &p->at, value));
        return;
    }
    void *lent;
    size_t old;
    KWR_MUST(ops->modify(in->engine, &p->at, value.size, &lent, &old));
    if (value.size > 0) memcpy(lent, value.data, value.size);
}

static void change_list(instance *in, model_entry *entry, const place *p, rng *r) {
    uint8_t bytes[VALUE_MAX];
    if (rng_below(r, 20) == 0 || entry->count == MODEL_LIST_MAX) {
        KWR_EXPECT(entry->count > 0 ? KWR_OK : KWR_NOT_FOUND, ops->remove(in->engine, &p->at));
        *entry = (model_entry){ 0 };
        return;
    }
    const kwr_slice value = value_of(entry->values[entry->count] = rng_next(r), bytes);
    entry->subkeys[entry->count++] = (uint32_t)entry->next++;
    KWR_MUST(ops->sub_append(in->engine, &p->at, &value, 1));
}

/* Maps and timers: subkeys in order. */
static void change_map(instance *in, model_entry *entry, const place *p, rng *r) {
    const uint32_t number = rng_below(r, MODEL_SUBKEYS);
    uint8_t name[8], bytes[VALUE_MAX];
    const kwr_slice subkey = subkey_of(model_kinds[p->state], number, name);
    uint32_t i = 0;
    while (i < entry->count && entry->subkeys[i] < number)
        i++;
    const bool there = i < entry->count && entry->subkeys[i] == number;
    const uint32_t behind = entry->count - i - there;
    if (rng_below(r, 4) == 0) {
        KWR_EXPECT(there ? KWR_OK : KWR_NOT_FOUND, ops->sub_remove(in->engine, &p->at, subkey));
        if (!there) return;
        memmove(&entry->subkeys[i], &entry->subkeys[i + 1], behind * sizeof *entry->subkeys);
        memmove(&entry->values[i], &entry->values[i + 1], behind * sizeof *entry->values);
        entry->count--;
        return;
    }
    if (!there) {
        memmove(&entry->subkeys[i + 1], &entry->subkeys[i], behind * sizeof *entry->subkeys);
        memmove(&entry->values[i + 1], &entry->values[i], behind * sizeof *entry->values);
        entry->subkeys[i] = number;
        entry->count++;
    }
    KWR_MUST(
        ops->sub_put(in->engine, &p->at, subkey, value_of(entry->values[i] = rng_next(r), bytes)));
}

static void flush(instance *in, uint32_t state) {
    char *words = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush_cf(in->engine->db->db, options, in->engine->states[in->ids[state]].family,
                     &words);
    rocksdb_flushoptions_destroy(options);
    cr_assert(words == NULL, "%s", words);
}

void model_change(model *m, instance *in, rng *r, unsigned changes) {
    if (in->range.count == 0) return;
    for (unsigned i = 0; i < changes; i++) {
        const uint32_t state = rng_below(r, MODEL_STATES), key = rng_below(r, MODEL_KEYS),
                       name = rng_below(r, MODEL_NAMES);
        if (in->ids[state] == UINT32_MAX || !exists_in_model(m, state, key, name) ||
            !owned(in, key % m->groups))
            continue;
        place p;
        place_of(m, in, state, key, name, &p);
        model_entry *entry = &m->entries[state][key][name];
        if (model_kinds[state] == KWR_STATE_LIST)
            change_list(in, entry, &p, r);
        else if (kwr_state_is_collection(model_kinds[state]))
            change_map(in, entry, &p, r);
        else
            change_plain(in, entry, &p, r);
        if (rng_below(r, 500) == 0) flush(in, state);
    }
}

/* ---- checks ---- */

static void check_value(kwr_slice got, uint64_t seed, const char *what) {
    uint8_t bytes[VALUE_MAX];
    const kwr_slice want = value_of(seed, bytes);
    cr_assert(got.size == want.size && (got.size == 0 || memcmp(got.data, bytes, got.size) == 0),
              "%s", what);
}

static void check_plain(instance *in, const model_entry *entry, const place *p) {
    kwr_slice got;
    KWR_EXPECT(entry->count > 0 ? KWR_OK : KWR_NOT_FOUND, ops->get(in->engine, &p->at, &got));
    if (entry->count > 0) check_value(got, entry->values[0], "value");
}

static void check_collection(instance *in, const model_entry *entry, const place *p) {
    uint64_t count;
    KWR_MUST(ops->sub_count(in->engine, &p->at, &count));
    cr_assert(count == entry->count, "state %u key %u: %llu elements, expected %u", p->state,
              p->key, (unsigned long long)count, entry->count);
    kwr_engine_hint hint = { 0 };
    kwr_slice subkey = { 0 }, value;
    for (uint32_t i = 0; i < entry->count; i++) {
        uint8_t bytes[8];
        const kwr_slice want = subkey_of(model_kinds[p->state], entry->subkeys[i], bytes);
        KWR_MUST(ops->sub_seek(in->engine, &p->at, i == 0 ? KWR_SEEK_FIRST : KWR_SEEK_ABOVE, subkey,
                               &hint, &subkey, &value));
        cr_assert(subkey.size == want.size && memcmp(subkey.data, want.data, want.size) == 0);
        check_value(value, entry->values[i], "element");
    }
    KWR_EXPECT(KWR_NOT_FOUND, ops->sub_seek(in->engine, &p->at,
                                            entry->count == 0 ? KWR_SEEK_FIRST : KWR_SEEK_ABOVE,
                                            subkey, &hint, &subkey, &value));
}

/* A new element comes behind all others. */
static void check_append(instance *in, model_entry *entry, const place *p, rng *r) {
    if (entry->count == MODEL_LIST_MAX) return;
    uint8_t bytes[VALUE_MAX];
    const kwr_slice value = value_of(entry->values[entry->count] = rng_next(r), bytes);
    entry->subkeys[entry->count++] = (uint32_t)entry->next++;
    KWR_MUST(ops->sub_append(in->engine, &p->at, &value, 1));
    check_collection(in, entry, p);
}

typedef struct walked {
    const instance *in;
    kwr_state_count sum;
} walked;

static kwr_status count_one(void *ctx, const kwr_entry *entry) {
    walked *w = ctx;
    cr_assert(owned(w->in, entry->key_group), "key group %u is seen", entry->key_group);
    w->sum.elements++;
    return KWR_OK;
}

/* By views: all key groups, others' too. */
static void check_counts(const model *m, instance *in, const kwr_state_count *want) {
    kwr_engine_view *view;
    KWR_MUST(ops->freeze(in->engine, &view));
    for (uint32_t state = 0; state < MODEL_STATES; state++) {
        if (in->ids[state] == UINT32_MAX) continue;
        walked w = { .in = in };
        for (uint32_t group = 0; group < m->groups; group++)
            KWR_MUST(ops->view_walk(view, in->ids[state], group, count_one, &w));
        cr_assert(w.sum.elements == want[state].elements, "state %u: %llu walked, expected %llu",
                  state, (unsigned long long)w.sum.elements,
                  (unsigned long long)want[state].elements);
        kwr_state_count got;
        KWR_MUST(ops->view_count(view, in->ids[state], &got));
        cr_assert(got.entries == want[state].entries, "state %u: %llu counted, expected %llu",
                  state, (unsigned long long)got.entries, (unsigned long long)want[state].entries);
    }
    ops->view_release(view);
}

/* An iterator over the whole family, as RocksDB's own threads see it. */
static void check_stored(const instance *in) {
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    for (size_t i = 0; i < in->state_count; i++) {
        rocksdb_iterator_t *it =
            rocksdb_create_iterator_cf(in->engine->db->db, options, in->engine->states[i].family);
        for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
            size_t size;
            const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &size);
            cr_assert(size >= 2 && owned(in, (uint32_t)key[0] << 8 | key[1]));
        }
        rocksdb_iter_destroy(it);
    }
    rocksdb_readoptions_destroy(options);
}

void model_check(model *m, instance *in) {
    kwr_state_count want[MODEL_STATES] = { 0 };
    rng r = { 77 };
    check_stored(in);
    for (uint32_t state = 0; state < MODEL_STATES; state++) {
        if (in->ids[state] == UINT32_MAX) continue;
        const kwr_state_kind kind = model_kinds[state];
        for (uint32_t key = 0; key < MODEL_KEYS; key++) {
            for (uint32_t name = 0; name < MODEL_NAMES; name++) {
                if (!owned(in, key % m->groups) || !exists_in_model(m, state, key, name)) continue;
                place p;
                place_of(m, in, state, key, name, &p);
                model_entry *entry = &m->entries[state][key][name];
                if (!kwr_state_is_collection(kind))
                    check_plain(in, entry, &p);
                else
                    check_collection(in, entry, &p);
                if (kind == KWR_STATE_LIST && key % 5 == 0) check_append(in, entry, &p, &r);
                want[state].entries += entry->count > 0;
                want[state].elements += entry->count;
            }
        }
    }
    check_counts(m, in, want);
}

void model_check_only(const model *m, instance *in) {
    model *copy = malloc(sizeof *copy);
    cr_assert(copy != NULL);
    memcpy(copy, m, sizeof *copy);
    model_check(copy, in);
    free(copy);
}
