/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyed state: handles opened from a backend, each holding one entry for every (key, namespace).
 * Here: value, reducing and aggregating state, whose entries are one value each; list.h and map.h
 * have those whose entries hold many.
 *
 * Every access goes to the backend's current key and the handle's current namespace. Borrowed bytes
 * are valid until the next call on the same handle, a change of the current key, a freeze, or the
 * close; two states can be read side by side.
 *
 * Opening a name twice gives the same handle; as another kind or type it fails with
 * KWR_ERR_MISMATCH and both in the detail. Handles are closed with their backend.
 *
 * Merging namespaces, for reducing, aggregating and list state: the entries of the current key in
 * the namespaces `sources`, in that order, are folded into the one in `target`, behind what is
 * there, and are gone afterwards. A source without an entry is skipped, one named twice counts
 * once, and `target` among them is not merged with itself; when nothing is found nothing changes.
 * The handle's own namespace stays. All or nothing: a failure leaves every entry as it was, but for
 * KWR_ERR_POISONED, which says that an engine failed between two writes and that the backend is to
 * be closed and restored. The page store never gives it.
 */
#ifndef KEYWEIR_STATE_H
#define KEYWEIR_STATE_H

#include "keyweir/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_value kwr_value;
typedef struct kwr_reducing kwr_reducing;
typedef struct kwr_aggregating kwr_aggregating;

/* Value: one value, replaced as a whole. */
typedef struct kwr_value_descriptor {
    size_t struct_size;
    const char *name; /* 1..255 bytes of UTF-8 */
    kwr_type type;
    kwr_type namespace_type;
    /* What is read where nothing is stored; copied. NULL data: no default. Not recorded: it is what
     * the program says it is, also for a restored state. */
    kwr_slice default_value;
} kwr_value_descriptor;

KWR_API KWR_CHECK kwr_status kwr_value_open(kwr_backend *backend,
                                            const kwr_value_descriptor *descriptor, kwr_value **out,
                                            kwr_error *err);
/*
 * Copies `name`; the empty namespace is current after open. With a namespace type of fixed size
 * `name` is empty or has that size. Fails with KWR_ERR_RANGE, _NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_value_set_namespace(kwr_value *value, kwr_slice name);
/* The value, else the default with KWR_OK, else KWR_NOT_FOUND (*out is then empty). An empty value
 * is a value. */
KWR_API KWR_CHECK kwr_status kwr_value_get(kwr_value *value, kwr_slice *out);
/* `data` may be borrowed from another handle, not from this one. */
KWR_API KWR_CHECK kwr_status kwr_value_put(kwr_value *value, kwr_slice data);
/*
 * Read and write in one lookup: makes the value `size` bytes long, keeps its first bytes, zeroes
 * new ones, and lends it for writing until the borrow ends as above. With KWR_KEEP_SIZE it stays as
 * long as it is (created when absent: empty, or zeros of the type's size if that is fixed). Where
 * nothing was stored it starts from the default, if there is one, of which the same is true.
 * `*old_size`, which may be NULL, is its size before, KWR_ABSENT when there was none, default or
 * not. The bytes are not aligned: use memcpy.
 */
#define KWR_KEEP_SIZE SIZE_MAX
#define KWR_ABSENT SIZE_MAX
KWR_API KWR_CHECK kwr_status kwr_value_modify(kwr_value *value, size_t size, void **out,
                                              size_t *old_size);
/* Removes the value; removing nothing is KWR_OK. */
KWR_API KWR_CHECK kwr_status kwr_value_clear(kwr_value *value);
KWR_API kwr_state *kwr_value_state(kwr_value *value);

/* Reducing: values of one type folded into one by a commutative, associative function. */
typedef enum kwr_reduce_kind {
    KWR_REDUCE_CUSTOM = 0,
    KWR_REDUCE_SUM = 1, /* i32, i64, u64: KWR_ERR_RANGE on overflow, state unchanged; f64 */
    KWR_REDUCE_MIN = 2, /* the numeric kinds; a number wins against NaN, -0 is below +0 */
    KWR_REDUCE_MAX = 3,
} kwr_reduce_kind;

/*
 * Folds `value` into `current`: writes the result to `out` and its size to `*size`. When it does
 * not fit into `capacity` (at least the sum of both sizes), only sets *size and is called again. A
 * failure is returned by the add, with the state unchanged. Must not use the backend.
 */
typedef kwr_status (*kwr_reduce_fn)(void *ctx, kwr_slice current, kwr_slice value, void *out,
                                    size_t capacity, size_t *size);

typedef struct kwr_reducing_descriptor {
    size_t struct_size;
    const char *name;
    kwr_type type;
    kwr_type namespace_type;
    kwr_reduce_kind reduce;
    kwr_reduce_fn fn; /* for KWR_REDUCE_CUSTOM */
    void *fn_ctx;
    /*
     * Read far less often than added to. An engine on disk then adds without reading: about half
     * the time of an add, while a read has what was added since to fold. Only for the built-in
     * functions, and only where the add wants no result. A sum that leaves its type cannot fail the
     * add: what reads it next fails with KWR_ERR_RANGE until sums bring it back, or it is cleared;
     * until then views and canonical snapshots hold the type's smallest or largest number. Not
     * recorded, and nothing to the page store, whose adds stay as they are.
     */
    bool write_mostly;
} kwr_reducing_descriptor;

KWR_API KWR_CHECK kwr_status kwr_reducing_open(kwr_backend *backend,
                                               const kwr_reducing_descriptor *descriptor,
                                               kwr_reducing **out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_reducing_set_namespace(kwr_reducing *reducing, kwr_slice name);
/* Adds `value`; `result`, when not NULL, borrows what is stored now. `value` may be borrowed from
 * this handle only with the built-in functions. */
KWR_API KWR_CHECK kwr_status kwr_reducing_add(kwr_reducing *reducing, kwr_slice value,
                                              kwr_slice *result);
KWR_API KWR_CHECK kwr_status kwr_reducing_get(kwr_reducing *reducing, kwr_slice *out);
KWR_API KWR_CHECK kwr_status kwr_reducing_clear(kwr_reducing *reducing);
/* See the top of this file. Fails with what the function fails with, or when a sum overflows. */
KWR_API KWR_CHECK kwr_status kwr_reducing_merge_namespaces(kwr_reducing *reducing, kwr_slice target,
                                                           const kwr_slice *sources, size_t count);
KWR_API kwr_state *kwr_reducing_state(kwr_reducing *reducing);

/*
 * Aggregating: inputs folded into an accumulator, from which a result is computed when it is asked
 * for. The three may be of different types; the accumulator is what is stored and recorded.
 *
 * Each function writes to `out` and the size of what it wrote to `*size`. When that does not fit
 * into `capacity` (at least 64, and for add and merge the sum of both sizes), it only sets *size
 * and is called again. A failure is returned by the call that needed it, with the state unchanged.
 * `out` never overlaps what the function is given. Must not use the backend.
 */
typedef kwr_status (*kwr_create_fn)(void *ctx, void *out, size_t capacity, size_t *size);
typedef kwr_status (*kwr_result_fn)(void *ctx, kwr_slice accumulator, void *out, size_t capacity,
                                    size_t *size);

typedef struct kwr_aggregating_descriptor {
    size_t struct_size;
    const char *name;
    kwr_type type; /* of the accumulator */
    kwr_type namespace_type;
    kwr_type input_type; /* sizes of inputs and results are checked by these; not recorded */
    kwr_type result_type;
    kwr_create_fn create; /* an accumulator that has seen nothing */
    kwr_reduce_fn add;    /* an accumulator and an input give an accumulator */
    kwr_reduce_fn merge;  /* two accumulators give one; only for merging namespaces, else NULL */
    kwr_result_fn result;
    void *fn_ctx; /* given to each function */
} kwr_aggregating_descriptor;

KWR_API KWR_CHECK kwr_status kwr_aggregating_open(kwr_backend *backend,
                                                  const kwr_aggregating_descriptor *descriptor,
                                                  kwr_aggregating **out, kwr_error *err);
KWR_API KWR_CHECK kwr_status kwr_aggregating_set_namespace(kwr_aggregating *aggregating,
                                                           kwr_slice name);
/* `input` may be borrowed from another handle, not from this one. */
KWR_API KWR_CHECK kwr_status kwr_aggregating_add(kwr_aggregating *aggregating, kwr_slice input);
/* The result of what was added; KWR_NOT_FOUND (*out is then empty) when nothing was. */
KWR_API KWR_CHECK kwr_status kwr_aggregating_get(kwr_aggregating *aggregating, kwr_slice *out);
/* The accumulator as it is stored. */
KWR_API KWR_CHECK kwr_status kwr_aggregating_accumulator(kwr_aggregating *aggregating,
                                                         kwr_slice *out);
KWR_API KWR_CHECK kwr_status kwr_aggregating_clear(kwr_aggregating *aggregating);
/* See the top of this file. KWR_ERR_MISUSE without a merge function. */
KWR_API KWR_CHECK kwr_status kwr_aggregating_merge_namespaces(kwr_aggregating *aggregating,
                                                              kwr_slice target,
                                                              const kwr_slice *sources,
                                                              size_t count);
KWR_API kwr_state *kwr_aggregating_state(kwr_aggregating *aggregating);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_STATE_H */
