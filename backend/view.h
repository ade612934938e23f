/* SPDX-License-Identifier: Apache-2.0 */
/* What the rooms above see of a backend: its frozen views, and how one is filled at a restore. */
#ifndef KWR_BACKEND_VIEW_H
#define KWR_BACKEND_VIEW_H

#include <stdatomic.h>

#include "backend/engine.h"
#include "keyweir/list.h"
#include "keyweir/map.h"

/* The states of a backend at one moment; immutable and shared by reference. [any] */
typedef struct kwr_state_table {
    size_t count;
    const kwr_state_info *states; /* index = id */
} kwr_state_table;

struct kwr_view {
    const kwr_env *env;
    const kwr_engine_ops *ops;
    kwr_engine_view *engine_view;
    const kwr_state_table *table; /* lives as long as the view */
    uint32_t max_parallelism;
    kwr_key_group_range key_groups;
    uint64_t seed;
    bool engine_key_groups;
    kwr_type key_type; /* lives as long as the view */
    kwr_limits limits; /* complete */
    /* only for backend/view.c */
    _Atomic uint32_t users; /* its holder, and the calls that are using it */
    atomic_bool spent;      /* only its release is left */
    kwr_state_table states; /* what `table` points to */
    struct kwr_state_store *store;
    struct kwr_backend_shared *shared;
};

/*
 * Around each call that uses a view for longer than a moment: the view outlives the call, whoever
 * releases it meanwhile. Whoever is last to leave frees it. [any]
 */
void kwr_view_enter(const kwr_view *view);
void kwr_view_leave(const kwr_view *view);
/* The call that begins is its last, or reading it goes on as ever. KWR_ERR_MISUSE: the last was
 * before. */
kwr_status kwr_view_use(const kwr_view *view, bool last, kwr_error *err);

/* An engine that need not be in the registry, and what only tests change of it. */
typedef struct kwr_engine_choice {
    const kwr_engine_ops *ops;
    uint64_t hash_mask; /* and-ed onto entry hashes; all ones: none lost */
    bool adopts;        /* the engine's adopt() is the next call */
} kwr_engine_choice;

/*
 * What kwr_backend_open() and kwr_backend_open_with() are made of. options->engine is ignored.
 */
kwr_status kwr_backend_open_engine(const kwr_backend_options *options,
                                   const kwr_engine_choice *engine, const kwr_state_info *states,
                                   size_t state_count, kwr_backend **out, kwr_error *err);

/*
 * Opens a backend that has these states already, with these ids, and is ready for the engine's
 * restore_begin(). A later open of a state by name finds the restored one and checks kind and
 * types. `adopts`: for the engine's adopt() instead.
 */
kwr_status kwr_backend_open_with(const kwr_backend_options *options, const kwr_state_info *states,
                                 size_t state_count, bool adopts, kwr_backend **out,
                                 kwr_error *err);
kwr_engine *kwr_backend_engine(kwr_backend *backend, const kwr_engine_ops **ops);
/*
 * Puts every entry of an image that the engine itself cannot install, after restore_end(). By the
 * owner. KWR_ERR_CORRUPT says what is wrong with the image; what was put stays: the backend is only
 * closed then.
 */
kwr_status kwr_backend_load_image(kwr_backend *backend, const kwr_page_image *image,
                                  kwr_error *err);

/* A type with all its fields, in one allocation. NULL fields for scalars. */
kwr_status kwr_type_copy(const kwr_env *env, const kwr_type *type, kwr_type *out);
void kwr_type_free(const kwr_env *env, kwr_type *type);
/* KWR_ERR_RANGE names what is wrong: unknown kind, rows too deep, ids not ascending, ... Everything
 * else here but kwr_type_text() takes only types that passed it. */
kwr_status kwr_type_check(const kwr_type *type, const char *what, kwr_error *err);
/* The same for keys and namespaces, which cannot be rows. */
kwr_status kwr_type_check_key(const kwr_type *type, const char *what, kwr_error *err);
/* Same meaning of stored bytes: labels of row fields do not count. */
bool kwr_type_same(const kwr_type *a, const kwr_type *b);
/* The labels are the same too, of types that are. */
bool kwr_type_same_labels(const kwr_type *a, const kwr_type *b);
/* "bytes", "i64", ...; and back (false: unknown). Static. */
const char *kwr_type_kind_name(kwr_type_kind kind);
bool kwr_type_kind_parse(const char *name, kwr_type_kind *out);
const char *kwr_state_kind_name(kwr_state_kind kind); /* "value", "reducing", ... */
bool kwr_state_kind_parse(const char *name, kwr_state_kind *out);
const char *kwr_redistribution_name(kwr_redistribution redistribution); /* "keyed", "split", ... */
bool kwr_redistribution_parse(const char *name, kwr_redistribution *out);

/* kwr_list_open() and kwr_map_open() are these with KWR_REDISTRIBUTE_KEYED. */
kwr_status kwr_list_open_as(kwr_backend *backend, const kwr_list_descriptor *descriptor,
                            kwr_redistribution redistribution, kwr_list **out, kwr_error *err);
kwr_status kwr_map_open_as(kwr_backend *backend, const kwr_map_descriptor *descriptor,
                           kwr_redistribution redistribution, kwr_map **out, kwr_error *err);

#endif /* KWR_BACKEND_VIEW_H */
