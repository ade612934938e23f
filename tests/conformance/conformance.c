/* SPDX-License-Identifier: Apache-2.0 */
/* The engines under test, and what their tests share. */
#include "tests/conformance/conformance.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/conformance/model_engine.h"

const conf_engine conf_engines[] = {
    { .name = "model", .ops = &model_engine_ops, .hash_mask = UINT64_MAX },
    { .name = "memory", .registered = "memory", .hash_mask = UINT64_MAX, .restores = true },
    { .name = "memory, lazy",
      .registered = "memory",
      .hash_mask = UINT64_MAX,
      .restores = true,
      .lazy = true },
    { .name = "memory, lazy and in the background",
      .registered = "memory",
      .hash_mask = UINT64_MAX,
      .restores = true,
      .lazy = true,
      .background = true },
    /* Many entries of one hash, all below one bit of the directory. */
    { .name = "memory, 3 hash bits", .registered = "memory", .hash_mask = 7 },
    { .name = "memory, one hash", .registered = "memory", .hash_mask = 0 },
#ifdef KWR_ROCKSDB
    { .name = "rocksdb",
      .registered = "rocksdb",
      .hash_mask = UINT64_MAX,
      .restores = true,
      .on_disk = true },
#endif
};
const size_t conf_engine_count = sizeof conf_engines / sizeof conf_engines[0];

/* ---- memory that can run dry ---- */

static bool allocation_allowed(conf *c) {
    int64_t left = atomic_load(&c->allocs_left);
    while (left > 0 && !atomic_compare_exchange_weak(&c->allocs_left, &left, left - 1))
        continue;
    return left != 0;
}
static void *conf_alloc(void *ctx, size_t size, size_t align) {
    conf *c = (conf *)ctx;
    if (!allocation_allowed(c)) return NULL;
    return c->real_allocator->alloc(c->real_allocator->ctx, size, align);
}
static void conf_free(void *ctx, void *memory, size_t size) {
    conf *c = (conf *)ctx;
    c->real_allocator->free(c->real_allocator->ctx, memory, size);
}
static void *map_pages(void *ctx, size_t size) {
    conf *c = (conf *)ctx;
    if (!allocation_allowed(c)) return NULL;
    return c->real_allocator->map(c->real_allocator->ctx, size);
}
static void conf_unmap(void *ctx, void *memory, size_t size) {
    conf *c = (conf *)ctx;
    c->real_allocator->unmap(c->real_allocator->ctx, memory, size);
}

void conf_fail_alloc(conf *c, int64_t allowed) { atomic_store(&c->allocs_left, allowed); }

/* ---- running ---- */

static const kwr_engine_ops *ops_of(const conf_engine *engine) {
    return engine->ops != NULL ? engine->ops : kwr_engine_find(engine->registered);
}

static void make_room_on_disk(conf *c) {
    if (!c->engine->on_disk) return;
    (void)snprintf(c->directory, sizeof c->directory, "%s", kwr_test_path("on-disk"));
    cr_assert(mkdir(c->directory, 0700) == 0);
}
static void leave_disk(conf *c) {
    if (!c->engine->on_disk) return;
    /* Every database is gone with its backend and its views. */
    cr_assert(rmdir(c->directory) == 0, "engine %s left files in %s", c->engine->name,
              c->directory);
}

void conf_run(void (*body)(conf *c), unsigned needs) {
    for (size_t i = 0; i < conf_engine_count; i++) {
        if ((needs & CONF_RESTORES) != 0 && !conf_engines[i].restores) continue;
        if ((needs & CONF_RESTORES) == 0 && conf_engines[i].lazy) continue;
        cr_assert((needs & CONF_COLLECTIONS) == 0 || ops_of(&conf_engines[i])->sub_get != NULL,
                  "engine %s has no collections", conf_engines[i].name);
        conf c = { .engine = &conf_engines[i] };
        atomic_init(&c.allocs_left, -1);
        kwr_error err;
        KWR_MUST_ERR(kwr_env_posix_open(NULL, &c.env, &err), err);
        c.real_allocator = c.env->allocator;
        c.allocator = (kwr_allocator){ .struct_size = sizeof c.allocator,
                                       .ctx = &c,
                                       .alloc = conf_alloc,
                                       .free = conf_free,
                                       .map = map_pages,
                                       .unmap = conf_unmap };
        c.counted_env = *c.env;
        c.counted_env.allocator = &c.allocator;
        make_room_on_disk(&c);
        body(&c);
        conf_fail_alloc(&c, -1);
        kwr_backend_close(c.backend);
        while (c.storage_count > 0)
            kwr_storage_close(c.storages[--c.storage_count]);
        leave_disk(&c);
        kwr_env_posix_close(c.env);
    }
}

void conf_check(const conf *c, bool holds, const char *what, const char *file, int line) {
    const char *detail = c->backend == NULL ? "" : kwr_backend_error(c->backend)->text;
    cr_assert(holds, "%s:%d: engine %s: not so: %s (last failure: %s)", file, line, c->engine->name,
              what, detail);
}

void conf_expect(const conf *c, kwr_status want, kwr_status got, const char *what, const char *file,
                 int line) {
    const char *detail = c->backend == NULL ? "" : kwr_backend_error(c->backend)->text;
    cr_assert(got == want, "%s:%d: engine %s: %s: expected %s, got %s (last failure: %s)", file,
              line, c->engine->name, what, kwr_status_name(want), kwr_status_name(got), detail);
}

bool conf_text_has(const conf *c, const char *words) {
    return strstr(kwr_backend_error(c->backend)->text, words) != NULL;
}

/* ---- opening ---- */

kwr_backend_options conf_options(conf *c) {
    kwr_backend_options options = { .struct_size = sizeof options,
                                    .env = &c->counted_env,
                                    .engine = c->engine->registered,
                                    .seed = 42 };
    if (c->engine->lazy) {
        options.loading = KWR_LOADING_LAZY;
        options.load_share = c->engine->background ? 100 : KWR_LOAD_SHARE_NONE;
    }
    if (c->engine->on_disk) {
        options.directory = c->paths[c->path++ % CONF_PATHS];
        (void)snprintf((char *)(uintptr_t)options.directory, sizeof c->paths[0], "%s/%u",
                       c->directory, c->path);
    }
    return options;
}

bool conf_counts(const conf *c, uint64_t got, uint64_t want) {
    return ops_of(c->engine)->approximate_stats || got == want;
}

kwr_status conf_open_with(conf *c, const kwr_backend_options *options, kwr_backend **out,
                          kwr_error *err) {
    const kwr_engine_choice choice = {
        .ops = ops_of(c->engine),
        .hash_mask = c->engine->hash_mask,
    };
    cr_assert(choice.ops != NULL, "no engine %s", c->engine->name);
    return kwr_backend_open_engine(options, &choice, NULL, 0, out, err);
}

kwr_backend *conf_open(conf *c) {
    const kwr_backend_options options = conf_options(c);
    kwr_error err;
    KWR_MUST_ERR(conf_open_with(c, &options, &c->backend, &err), err);
    return c->backend;
}

kwr_value *conf_value(conf *c, const char *name, kwr_type_kind kind) {
    const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor,
                                              .name = name,
                                              .type = { .kind = kind } };
    kwr_value *value = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_value_open(c->backend, &descriptor, &value, &err), err);
    return value;
}

kwr_reducing *conf_reducing(conf *c, const char *name, kwr_type_kind kind, kwr_reduce_kind reduce) {
    const kwr_reducing_descriptor descriptor = {
        .struct_size = sizeof descriptor, .name = name, .type = { .kind = kind }, .reduce = reduce
    };
    kwr_reducing *reducing = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_reducing_open(c->backend, &descriptor, &reducing, &err), err);
    return reducing;
}

kwr_list *conf_list(conf *c, const char *name, kwr_type_kind kind) {
    const kwr_list_descriptor descriptor = { .struct_size = sizeof descriptor,
                                             .name = name,
                                             .type = { .kind = kind } };
    kwr_list *list = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_list_open(c->backend, &descriptor, &list, &err), err);
    return list;
}

kwr_map *conf_map(conf *c, const char *name, kwr_type_kind user_key, kwr_type_kind kind) {
    const kwr_map_descriptor descriptor = { .struct_size = sizeof descriptor,
                                            .name = name,
                                            .user_key_type = { .kind = user_key },
                                            .type = { .kind = kind } };
    kwr_map *map = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_map_open(c->backend, &descriptor, &map, &err), err);
    return map;
}

kwr_status conf_restore(conf *c, kwr_view *view, const kwr_backend_options *restored,
                        kwr_backend **out, kwr_error *err) {
    const kwr_backend_options same = conf_options(c);
    kwr_storage *storage;
    KWR_MUST_ERR(kwr_storage_memory_open(c->env, 0, &storage, err), *err);
    const kwr_snapshot_target target = { .struct_size = sizeof target,
                                         .env = c->env,
                                         .storage = storage,
                                         .job = "conformance",
                                         .operator_id = "op",
                                         .generation = 1,
                                         .checkpoint = 1 };
    kwr_snapshot_result result;
    KWR_MUST_ERR(kwr_snapshot_write(view, &target, NULL, &result, err), *err);
    const kwr_slice handle = { result.handle.data, result.handle.size };
    const kwr_status status = kwr_snapshot_restore(restored == NULL ? &same : restored, storage,
                                                   "conformance", &handle, 1, out, err);
    kwr_bytes_free(&result.handle);
    cr_assert(c->storage_count < CONF_STORAGES);
    c->storages[c->storage_count++] = storage;
    return status;
}

void conf_restart(conf *c) {
    kwr_view *view;
    kwr_error err;
    MUST(kwr_backend_freeze(c->backend, &view));
    kwr_backend *restored = NULL;
    KWR_MUST_ERR(conf_restore(c, view, NULL, &restored, &err), err);
    kwr_view_release(view);
    kwr_backend_close(c->backend);
    c->backend = restored;
}

/* ---- short forms ---- */

void conf_set_key(conf *c, const char *key) {
    MUST(kwr_backend_set_key(c->backend, conf_slice(key)));
}

void conf_put(conf *c, kwr_value *value, const char *data) {
    MUST(kwr_value_put(value, conf_slice(data)));
}

bool conf_holds(kwr_value *value, const char *text) {
    kwr_slice got = { "x", 1 };
    const kwr_status status = kwr_value_get(value, &got);
    if (text == NULL) return status == KWR_NOT_FOUND && got.size == 0;
    return status == KWR_OK && conf_is(got, text);
}

void conf_add_i64(conf *c, kwr_reducing *reducing, int64_t number) {
    MUST(kwr_reducing_add(reducing, (kwr_slice){ &number, sizeof number }, NULL));
}

int64_t conf_i64(conf *c, kwr_reducing *reducing, int64_t absent) {
    kwr_slice got;
    const kwr_status status = kwr_reducing_get(reducing, &got);
    if (status == KWR_NOT_FOUND) return absent;
    MUST(status);
    int64_t number;
    CHECK(got.size == sizeof number);
    memcpy(&number, got.data, sizeof number);
    return number;
}

/* ---- looking into a view ---- */

typedef struct view_look {
    conf *c;
    const kwr_view *view;
    kwr_slice key;
    kwr_slice name;
    size_t met;      /* entries */
    size_t elements; /* of collections */
    uint64_t bytes;
    kwr_bytes last_key; /* malloc-ed copies: of the entry met last */
    kwr_bytes last_name;
    uint32_t last_group;
    kwr_slice subkey; /* looked for, of a collection */
    size_t found;
    kwr_bytes value; /* malloc-ed copy */
} view_look;

static bool slice_is(kwr_slice a, kwr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void keep(kwr_bytes *kept, kwr_slice bytes) {
    free(kept->data);
    kept->data = malloc(bytes.size + 1);
    if (bytes.size > 0) memcpy(kept->data, bytes.data, bytes.size);
    kept->size = bytes.size;
}

/* An entry that was not met yet: the elements of a collection come one after the other. */
static bool is_next_entry(view_look *l, const kwr_entry *entry) {
    const bool same = l->elements > 0 && l->last_group == entry->key_group &&
                      slice_is(entry->key, (kwr_slice){ l->last_key.data, l->last_key.size }) &&
                      slice_is(entry->name, (kwr_slice){ l->last_name.data, l->last_name.size });
    l->last_group = entry->key_group;
    keep(&l->last_key, entry->key);
    keep(&l->last_name, entry->name);
    return !same;
}

static kwr_status look(void *ctx, const kwr_entry *entry) {
    view_look *l = (view_look *)ctx;
    const conf *c = l->c;
    const kwr_state_kind kind = l->view->table->states[entry->state].kind;
    if (!l->view->engine_key_groups && !kwr_state_is_per_group(kind))
        CHECK(entry->key_group ==
              kwr_key_group(entry->key, l->view->seed, l->view->max_parallelism));
    const bool collection = kwr_state_is_collection(kind);
    CHECK(collection || entry->subkey.size == 0);
    if (!collection || is_next_entry(l, entry)) {
        l->met++;
        l->bytes += entry->key.size + entry->name.size;
    }
    l->bytes += entry->subkey.size + entry->value.size;
    l->elements += collection;
    if (l->key.data == NULL) return KWR_OK;
    if (!slice_is(entry->key, l->key) || !slice_is(entry->name, l->name) ||
        !slice_is(entry->subkey, l->subkey))
        return KWR_OK;
    CHECK(l->found++ == 0);
    l->value.data = malloc(entry->value.size + 1);
    if (entry->value.size > 0) memcpy(l->value.data, entry->value.data, entry->value.size);
    l->value.size = entry->value.size;
    return KWR_OK;
}

static void walk_state(view_look *l, uint32_t state) {
    const conf *c = l->c;
    for (uint32_t group = 0; group < l->view->max_parallelism; group++) {
        const size_t before = l->met;
        MUST(l->view->ops->view_walk(l->view->engine_view, state, group, look, l));
        const kwr_key_group_range owned = l->view->key_groups;
        if (group - owned.first >= owned.count) CHECK(l->met == before);
    }
}

bool conf_view_holds(conf *c, kwr_view *view, const char *state, const char *key, const char *name,
                     const char *text) {
    return conf_view_holds_at(c, view, state, key, name, (kwr_slice){ 0 }, text);
}

bool conf_view_holds_at(conf *c, kwr_view *view, const char *state, const char *key,
                        const char *name, kwr_slice subkey, const char *text) {
    view_look l = {
        .c = c, .view = view, .key = conf_slice(key), .name = conf_slice(name), .subkey = subkey
    };
    bool known = false;
    for (size_t id = 0; id < view->table->count; id++) {
        CHECK(view->table->states[id].id == id);
        if (strcmp(view->table->states[id].name, state) != 0) continue;
        known = true;
        walk_state(&l, (uint32_t)id);
    }
    const bool holds = text == NULL ? l.found == 0
                                    : known && l.found == 1 && l.value.size == strlen(text) &&
                                          memcmp(l.value.data, text, l.value.size) == 0;
    free(l.value.data);
    free(l.last_key.data);
    free(l.last_name.data);
    return holds;
}

size_t conf_view_entries(conf *c, kwr_view *view) {
    size_t entries = 0;
    for (size_t id = 0; id < view->table->count; id++) {
        view_look l = { .c = c, .view = view };
        walk_state(&l, (uint32_t)id);
        kwr_state_count count;
        KWR_MUST(view->ops->view_count(view->engine_view, (uint32_t)id, &count));
        CHECK(count.entries == l.met);
        CHECK(count.elements == l.elements);
        CHECK(count.entry_bytes == l.bytes);
        free(l.last_key.data);
        free(l.last_name.data);
        entries += l.met;
    }
    return entries;
}

size_t conf_entries(conf *c) {
    kwr_view *view;
    MUST(kwr_backend_freeze(c->backend, &view));
    const size_t entries = conf_view_entries(c, view);
    kwr_view_release(view);
    return entries;
}
