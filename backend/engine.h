/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between state handles and engines. Handles (state_*.c) know kinds, types, current key
 * and namespace; an engine knows addresses and bytes. Everything here is called by the owner
 * thread, but for what is marked [any].
 *
 * An engine keeps every entry under (state, key group, entry hash) and tells entries of one hash
 * apart by key and namespace bytes. Borrowed bytes are valid until the next call on the same state,
 * a change of the current key, or a freeze: two states can be read side by side.
 *
 * A collection is an entry that holds an ordered map from subkeys to values: lists (subkeys are
 * sequence numbers), maps (user keys) and timers (times). An engine without them leaves that group
 * of functions NULL, and the handle's open fails with KWR_ERR_UNSUPPORTED.
 */
#ifndef KWR_BACKEND_ENGINE_H
#define KWR_BACKEND_ENGINE_H

#include "backend/fold.h"
#include "backend/page_source.h"
#include "keyweir/backend.h"

typedef struct kwr_engine kwr_engine;
typedef struct kwr_engine_view kwr_engine_view;

typedef enum kwr_state_kind {
    KWR_STATE_VALUE = 1,
    KWR_STATE_REDUCING = 2,
    KWR_STATE_LIST = 3,
    KWR_STATE_MAP = 4,
    KWR_STATE_AGGREGATING = 5,
    KWR_STATE_TIMER = 6,
    KWR_STATE_RAW = 7,
} kwr_state_kind;

/* Entries of this kind are collections. */
static inline bool kwr_state_is_collection(kwr_state_kind kind) {
    return kind == KWR_STATE_LIST || kind == KWR_STATE_MAP || kind == KWR_STATE_TIMER;
}
/* One entry for each key group, under the empty key and the empty namespace: its key says nothing
 * about its key group. */
static inline bool kwr_state_is_per_group(kwr_state_kind kind) {
    return kind == KWR_STATE_TIMER || kind == KWR_STATE_RAW;
}

/* How operator state is shared out when the parallelism changes. */
typedef enum kwr_redistribution {
    KWR_REDISTRIBUTE_KEYED = 0, /* by key groups */
    KWR_REDISTRIBUTE_SPLIT = 1, /* elements in turn */
    KWR_REDISTRIBUTE_UNION = 2, /* every element to everyone */
    KWR_REDISTRIBUTE_BROADCAST = 3,
} kwr_redistribution;

/* What is recorded of a state. Owned by the registry (backend/registry.h). */
typedef struct kwr_state_info {
    uint32_t id; /* dense from 0, in order of first opening; stable in all its snapshots */
    kwr_state_kind kind;
    const char *name;
    kwr_type type;
    kwr_type namespace_type;
    kwr_type user_key_type; /* maps */
    kwr_redistribution redistribution;
} kwr_state_info;

typedef struct kwr_engine_config {
    const kwr_env *env;
    kwr_resources *resources; /* never NULL */
    uint32_t max_parallelism;
    kwr_key_group_range key_groups;
    const kwr_limits *limits; /* complete: no zeros; lives as long as the engine */
    uint64_t hash_mask;       /* tests: and-ed onto entry hashes; else all ones (0 is a mask too) */
    uint64_t seed;            /* of the job: pages are split by hashing their keys again */
    bool engine_key_groups;   /* the host chooses key groups: they cannot be checked */
    const char *directory;    /* local, for engines that keep state on disk; or NULL */
    bool adopts;              /* states will be added, then adopt() called, before all else */
} kwr_engine_config;

/* Where an entry lives. entry_hash is kwr_entry_hash() of the key's hash under the config's seed
 * and of the namespace's; the engine applies hash_mask itself. */
typedef struct kwr_address {
    uint32_t state;
    uint32_t key_group;
    uint64_t entry_hash;
    kwr_slice key;
    kwr_slice name; /* the namespace */
    void *hint;     /* from prefetch, or NULL: a kwr_engine_hint of the engine's own use */
} kwr_address;

/* What prefetch found, for a later access of the same address; the engine checks that it still
 * holds. Zeroed before the first use. */
typedef struct kwr_engine_hint {
    uint64_t stamp;
    const void *page;
    uint64_t extra;
} kwr_engine_hint;

/*
 * A full 64-bit mix of the key's and the namespace's hash (backend/hash.c): no bit of it is one of
 * those that chose the key group.
 */
uint64_t kwr_key_hash(kwr_slice key, uint64_t seed);
uint64_t kwr_namespace_hash(kwr_slice name);
static inline uint64_t kwr_entry_hash(uint64_t key_hash, uint64_t namespace_hash) {
    uint64_t h = key_hash ^ namespace_hash;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 33);
}

/* One entry met by a walk; of a collection each element, in the order of their subkeys. */
typedef struct kwr_entry {
    uint32_t state;
    uint32_t key_group;
    kwr_slice key;
    kwr_slice name;
    kwr_slice subkey; /* collections */
    kwr_slice value;
} kwr_entry;

typedef kwr_status (*kwr_entry_fn)(void *ctx, const kwr_entry *entry);

/*
 * Every entry of a native page image, checked to be well formed first (KWR_ERR_CORRUPT says what is
 * wrong), without any engine: a record kept in a blob is met in the blob's image. `fn` may end the
 * walk with a failure, which is returned. Sums of image->entries count each entry once. [any]
 */
kwr_status kwr_page_image_walk(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                               kwr_error *err);

/* Counters of one frozen state in one range of key groups. */
typedef struct kwr_state_count {
    uint64_t entries;
    uint64_t entry_bytes; /* keys, namespaces, values; of collections their subkeys and values */
    uint64_t elements;    /* of collections */
    bool estimated;       /* pages whose deltas were not read yet count as their images do */
} kwr_state_count;

/*
 * A local directory with what another engine of this name kept in files, complete and verified:
 * what is adopted at a restore. It is on the file system of the adopting engine's directory, which
 * it may lie in, and is used up: gone afterwards, whatever the outcome.
 */
typedef struct kwr_engine_donor {
    const char *directory;
    kwr_key_group_range key_groups; /* what else is in it is left over and not taken */
    const uint32_t *states;         /* the adopting engine's state, by the donor's state id */
    size_t state_count;
} kwr_engine_donor;

/* A file of an engine that keeps state in files, as a view has it. */
typedef struct kwr_engine_file {
    const char *name; /* in kwr_engine_ops.view_directory() */
    /* No other file ever has it, whatever its name: its bytes are known by it. NULL: the file
     * belongs to this view alone. */
    const char *identity;
    uint64_t length;
    uint32_t state; /* whose entries are in it; 0 when of none in particular */
    uint64_t entries;
    uint64_t entry_bytes;
} kwr_engine_file;

typedef kwr_status (*kwr_engine_file_fn)(void *ctx, const kwr_engine_file *file);

/* Subkeys are ordered as memcmp() orders them, a prefix first. */
typedef enum kwr_seek {
    KWR_SEEK_FIRST = 0, /* `subkey` is not looked at */
    KWR_SEEK_LAST = 1,
    KWR_SEEK_AT_LEAST = 2,
    KWR_SEEK_ABOVE = 3,
    KWR_SEEK_BELOW = 4,
} kwr_seek;

enum { KWR_SEQUENCE_BYTES = 8 }; /* subkeys of lists: 64 bits, big-endian */

typedef struct kwr_engine_ops {
    const char *name;       /* what kwr_backend_options.engine says */
    const char *native;     /* format of its native snapshots, such as "pages-1" */
    const char *reads;      /* what else install() takes, separated by spaces; or NULL */
    const char *files;      /* format of its snapshots in files, such as "rocksdb-1"; or NULL */
    bool approximate_stats; /* entries and bytes in stats are estimates */
    bool local_files;       /* its state is in files in kwr_engine_config.directory */
    bool walks_in_order;    /* view_walk() meets entries in canonical order (backend/canonical.h) */

    kwr_status (*open)(const kwr_engine_config *config, kwr_engine **out, kwr_error *err);
    /* Views may be alive: what they need stays until the last is released. */
    void (*close)(kwr_engine *engine);

    /* Makes room for state info->id, the next one, or says anew what a state without entries is.
     * All or nothing; `info` is only read. */
    kwr_status (*add_state)(kwr_engine *engine, const kwr_state_info *info);

    /* KWR_NOT_FOUND, or the value borrowed. */
    kwr_status (*get)(kwr_engine *engine, const kwr_address *at, kwr_slice *out);
    kwr_status (*put)(kwr_engine *engine, const kwr_address *at, kwr_slice value);
    /* As kwr_value_modify(). On a failure nothing has changed. */
    kwr_status (*modify)(kwr_engine *engine, const kwr_address *at, size_t size, void **out,
                         size_t *old_size);
    /* Folds `value` into what is there, of the type's size, without reading it. A sum that leaves
     * its type is found by the next read: KWR_ERR_RANGE, until it is back or the entry is written;
     * views show the type's end in its place. NULL: modify is as good. */
    kwr_status (*fold)(kwr_engine *engine, const kwr_address *at, kwr_fold how, kwr_slice value);
    /* KWR_NOT_FOUND when there was nothing. A collection goes with all it holds, in bounded time:
     * what it held is freed bit by bit. Needs no memory for an entry that was written since the
     * last freeze: what was done in several steps can then be undone. */
    kwr_status (*remove)(kwr_engine *engine, const kwr_address *at);
    /* Fetches in stages what later calls on these addresses will touch; fills their hints. */
    void (*prefetch)(kwr_engine *engine, kwr_address *at, size_t count);

    /*
     * Collections, for states of those kinds (get, put and modify are for the others). The first
     * element makes the entry, removing the last removes it. Borrows end as above: with the next
     * call on the same state. Arguments may be borrowed from another state, not from this one. All
     * or nothing.
     */
    kwr_status (*sub_get)(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                          kwr_slice *value);
    kwr_status (*sub_put)(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                          kwr_slice value);
    /* As modify, of one element. */
    kwr_status (*sub_modify)(kwr_engine *engine, const kwr_address *at, kwr_slice subkey,
                             size_t size, void **out, size_t *old_size);
    /* KWR_NOT_FOUND when there was nothing. */
    kwr_status (*sub_remove)(kwr_engine *engine, const kwr_address *at, kwr_slice subkey);
    /* Lists: `count` elements behind the last, under the next sequence numbers (from 0; one above
     * the last element's). Costs what is appended, not what is there. */
    kwr_status (*sub_append)(kwr_engine *engine, const kwr_address *at, const kwr_slice *values,
                             size_t count);
    /* Lists: the elements become these `count` (at least 1), as if the entry had been removed and
     * they had been appended. */
    kwr_status (*sub_assign)(kwr_engine *engine, const kwr_address *at, const kwr_slice *values,
                             size_t count);
    /* KWR_NOT_FOUND: no such element. `hint`, zeroed before the first use and kept by a caller that
     * steps through, makes the next step cheap; any of the outs may be NULL. `from` may be the
     * subkey lent by the seek before. */
    kwr_status (*sub_seek)(kwr_engine *engine, const kwr_address *at, kwr_seek seek, kwr_slice from,
                           kwr_engine_hint *hint, kwr_slice *subkey, kwr_slice *value);
    /* Lists: one step of a walk, where the next element is at hand. `sequence`: the subkey of the
     * element the walk stands on, KWR_SEQUENCE_BYTES, which become those of the next; `hint` is
     * that of the seek that began it. KWR_NOT_FOUND: it stood on the last. KWR_ERR_UNSUPPORTED: not
     * at hand, ask sub_seek. NULL: never is. */
    kwr_status (*list_next)(kwr_engine *engine, uint32_t state, const kwr_engine_hint *hint,
                            uint8_t *sequence, kwr_slice *value);
    /* Elements, 0 when there is no entry. Constant time. */
    kwr_status (*sub_count)(kwr_engine *engine, const kwr_address *at, uint64_t *count);

    /* Constant time. */
    kwr_status (*freeze)(kwr_engine *engine, kwr_engine_view **out);
    void (*view_release)(kwr_engine_view *view); /* [any] */
    /* May read all there is. A failure leaves `out` as it was. [any] */
    kwr_status (*view_count)(kwr_engine_view *view, uint32_t state, kwr_state_count *out);
    /* Every entry of one state and key group, in an order that is the same for equal content and
     * history. Concurrent with the owner and with other walks. [any] */
    kwr_status (*view_walk)(kwr_engine_view *view, uint32_t state, uint32_t key_group,
                            kwr_entry_fn fn, void *fn_ctx);
    /*
     * For engines that keep state in files (`files` is not NULL), else NULL. As freeze, but what is
     * in memory is made files first, and the view has a local directory with all files that hold
     * what it sees, complete by themselves; it goes with the view.
     */
    kwr_status (*freeze_files)(kwr_engine *engine, kwr_engine_view **out);
    /* NULL: made by freeze(), without files. [any] */
    const char *(*view_directory)(const kwr_engine_view *view);
    /* Each file once, borrowed for the call. KWR_ERR_IO and _CORRUPT leave what is wrong in `err`.
     * [any] */
    kwr_status (*view_files)(kwr_engine_view *view, kwr_engine_file_fn fn, void *fn_ctx,
                             kwr_error *err);
    /* Native snapshot: every page image of one key group, all states. As view_walk. [any] */
    kwr_status (*view_images)(kwr_engine_view *view, uint32_t key_group, kwr_page_sink *sink);
    /* Engines whose images have ids and epochs, for increments; NULL: those of others. Epochs of
     * images in later views are greater if they changed after this view. At least
     * KWR_EPOCH_RESTORED. [any] */
    uint64_t (*view_epoch)(const kwr_engine_view *view);
    /* Nothing of this key group is read through the view any more: whatever it kept of it for the
     * view's sake, the owner need not. NULL: that would spare nothing. [any] */
    void (*view_pass)(kwr_engine_view *view, uint32_t key_group);

    /*
     * Native restore into an engine without entries: install() may be called by several threads at
     * once, for images of owned key groups and existing states in any order, then restore_end() by
     * the owner. Images are verified against their digest by the caller; install checks their
     * structure and returns KWR_ERR_CORRUPT with what is wrong (the caller names file and offset).
     * After any failure the engine is only closed. `seed` lets it check that keys belong where
     * they are.
     */
    kwr_status (*restore_begin)(kwr_engine *engine, uint64_t seed);
    kwr_status (*install)(kwr_engine *engine, const kwr_page_image *image, kwr_error *err);
    kwr_status (*restore_end)(kwr_engine *engine, kwr_error *err);
    /*
     * Lazy restore, instead of the three above: entries are there at once, by what the source says
     * of its images, and loaded when they are needed or as `loading` says. Takes the source over
     * when it succeeds. An access may then fail with what a load fails with, or with
     * KWR_ERR_NOT_RESIDENT, and changes nothing then. NULL: the engine cannot.
     */
    kwr_status (*restore_lazy)(kwr_engine *engine, uint64_t seed, const kwr_page_source *source,
                               const kwr_page_loading *loading, kwr_error *err);
    /* All that is not there yet is loaded now. With restore_lazy. */
    kwr_status (*load)(kwr_engine *engine, kwr_error *err);
    /* Accesses to what is not there start its load and return KWR_ERR_NOT_RESIDENT. */
    void (*set_no_wait)(kwr_engine *engine, bool on);
    /*
     * For engines that keep state in files, else NULL. Makes an engine that has its states and no
     * entry hold what the donors hold of its key groups; their key groups are disjoint. A donor
     * whose state ids are the engine's own is cheapest. After a failure the engine is only closed.
     */
    kwr_status (*adopt)(kwr_engine *engine, const kwr_engine_donor *donors, size_t count,
                        kwr_error *err);

    bool (*maintain)(kwr_engine *engine, uint64_t max_ns); /* true: some is left */
    void (*stats)(const kwr_engine *engine, kwr_backend_stats *out);
    /* What the latest failure was, in the engine's own words, or "". NULL: it has none. */
    const char *(*detail)(const kwr_engine *engine);
} kwr_engine_ops;

/* True when install() takes images of snapshots in this format. Of other formats the entries can
 * be put: kwr_backend_load_image(). */
bool kwr_engine_reads(const kwr_engine_ops *ops, const char *format);

/* True when some engine of this build writes this format, or it is the canonical one: its images
 * can be walked. */
bool kwr_engine_format_known(const char *format);
/* Name of the engine whose files the format is, also of one that this build lacks; NULL: none. */
const char *kwr_engine_of_files(const char *format);

/* NULL when there is none of that name (backend/engine_registry.c, one row per engine). */
const kwr_engine_ops *kwr_engine_find(const char *name);

#endif /* KWR_BACKEND_ENGINE_H */
