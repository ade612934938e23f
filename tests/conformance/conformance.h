/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One suite for every engine: a test is written once, over the public API, and run for each row of
 * the table in conformance.c. Only opening goes through backend/view.h, for engines and hash masks
 * that options cannot name.
 */
#ifndef KWR_TESTS_CONFORMANCE_H
#define KWR_TESTS_CONFORMANCE_H

#include <stdio.h>
#include <stdlib.h>

#include "backend/view.h"
#include "keyweir/storage.h"
#include "tests/support/kwr_test.h"

typedef struct conf_engine {
    const char *name;
    const kwr_engine_ops *ops; /* NULL: the one the registry has as `registered` */
    const char *registered;
    uint64_t hash_mask; /* fewer bits: entries collide */
    bool restores;      /* has native snapshots, and kwr_snapshot_restore() can name it */
    bool on_disk;       /* every backend needs a directory of its own */
    bool lazy;          /* what is restored is loaded by the accesses that need it */
    bool background;    /* lazy: and in the background */
} conf_engine;

extern const conf_engine conf_engines[];
extern const size_t conf_engine_count;

enum {
    CONF_PATHS = 64,     /* options alive at a time */
    CONF_STORAGES = 512, /* restores of one test */
};

/* What one run of a test works with. */
typedef struct conf {
    const conf_engine *engine;
    kwr_env *env;
    kwr_allocator allocator; /* counts, and can run dry: conf_fail_alloc() */
    const kwr_allocator *real_allocator;
    kwr_env counted_env;
    _Atomic int64_t allocs_left; /* < 0: no end */
    kwr_backend *backend;        /* the test's, closed at the end when not NULL */
    /* on_disk: a directory, and paths in it for the options made */
    char directory[160];
    char paths[CONF_PATHS][192];
    unsigned path;
    kwr_storage *storages[CONF_STORAGES]; /* what was restored may still be read from them */
    unsigned storage_count;
} conf;

/* Options with env and struct_size set; of engines on disk each with a directory of its own. */
kwr_backend_options conf_options(conf *c);
/* True when a number of the stats is as wanted, or the engine only estimates it. */
bool conf_counts(const conf *c, uint64_t got, uint64_t want);
kwr_status conf_open_with(conf *c, const kwr_backend_options *options, kwr_backend **out,
                          kwr_error *err);
/* Opens c->backend with conf_options(). */
kwr_backend *conf_open(conf *c);
/* Allocations fail after `allowed` more; < 0: never again. */
void conf_fail_alloc(conf *c, int64_t allowed);

/*
 * Writes a view to storage in memory and gives the backend restored from it; `restored` options
 * NULL: those of conf_options(). For engines that restore.
 */
kwr_status conf_restore(conf *c, kwr_view *view, const kwr_backend_options *restored,
                        kwr_backend **out, kwr_error *err);

kwr_value *conf_value(conf *c, const char *name, kwr_type_kind kind);
kwr_reducing *conf_reducing(conf *c, const char *name, kwr_type_kind kind, kwr_reduce_kind reduce);
kwr_list *conf_list(conf *c, const char *name, kwr_type_kind kind);
kwr_map *conf_map(conf *c, const char *name, kwr_type_kind user_key, kwr_type_kind kind);

static inline kwr_slice conf_slice(const char *text) { return (kwr_slice){ text, strlen(text) }; }
static inline bool conf_is(kwr_slice got, const char *text) {
    return got.size == strlen(text) && (got.size == 0 || memcmp(got.data, text, got.size) == 0);
}
void conf_set_key(conf *c, const char *key);
void conf_put(conf *c, kwr_value *value, const char *data);
/* True when the value is exactly this text; NULL: when there is none. */
bool conf_holds(kwr_value *value, const char *text);
void conf_add_i64(conf *c, kwr_reducing *reducing, int64_t number);
/* The number, or `absent`. */
int64_t conf_i64(conf *c, kwr_reducing *reducing, int64_t absent);

/* Replaces c->backend by the one restored from a snapshot of it. */
void conf_restart(conf *c);

/* One entry of a view by its state's name; NULL: absent. Looks at every entry, and fails the test
 * when one is met twice, is in the wrong group or out of the owned range. */
bool conf_view_holds(conf *c, kwr_view *view, const char *state, const char *key, const char *name,
                     const char *text);
/* The same of one element of a collection. */
bool conf_view_holds_at(conf *c, kwr_view *view, const char *state, const char *key,
                        const char *name, kwr_slice subkey, const char *text);
/* All entries of all states; checks the view's counters against them. */
size_t conf_view_entries(conf *c, kwr_view *view);
/* The same of a view made for it. */
size_t conf_entries(conf *c);

/* The failing line with the engine's name. */
void conf_check(const conf *c, bool holds, const char *what, const char *file, int line);
void conf_expect(const conf *c, kwr_status want, kwr_status got, const char *what, const char *file,
                 int line);
#define CHECK(holds) conf_check(c, (holds), #holds, __FILE__, __LINE__)
#define EXPECT(want, expr) conf_expect(c, (want), (expr), #expr, __FILE__, __LINE__)
#define MUST(expr) EXPECT(KWR_OK, expr)
/* The detail of the backend's last failure has these words. */
#define CHECK_TEXT(words) \
    conf_check(c, conf_text_has(c, words), "error text has " words, __FILE__, __LINE__)
bool conf_text_has(const conf *c, const char *words);

enum { CONF_RESTORES = 1, CONF_COLLECTIONS = 2 }; /* what a test needs of an engine */
void conf_run(void (*body)(conf *c), unsigned needs);
/* Like CONF_TEST and CONF_RESTORE_TEST; an engine under test without collections fails them. */
#define CONF_COLLECTION_TEST(suite, name, ...)                                                \
    static void suite##_##name##_on(conf *c);                                                 \
    KWR_TEST(suite, name, ##__VA_ARGS__) { conf_run(suite##_##name##_on, CONF_COLLECTIONS); } \
    static void suite##_##name##_on(conf *c)
#define CONF_COLLECTION_RESTORE_TEST(suite, name, ...)                   \
    static void suite##_##name##_on(conf *c);                            \
    KWR_TEST(suite, name, ##__VA_ARGS__) {                               \
        conf_run(suite##_##name##_on, CONF_COLLECTIONS | CONF_RESTORES); \
    }                                                                    \
    static void suite##_##name##_on(conf *c)
/* Like CONF_TEST, for engines that restore. */
#define CONF_RESTORE_TEST(suite, name, ...)                                                \
    static void suite##_##name##_on(conf *c);                                              \
    KWR_TEST(suite, name, ##__VA_ARGS__) { conf_run(suite##_##name##_on, CONF_RESTORES); } \
    static void suite##_##name##_on(conf *c)
#define CONF_TEST(suite, name, ...)                                            \
    static void suite##_##name##_on(conf *c);                                  \
    KWR_TEST(suite, name, ##__VA_ARGS__) { conf_run(suite##_##name##_on, 0); } \
    static void suite##_##name##_on(conf *c)

#endif /* KWR_TESTS_CONFORMANCE_H */
