/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw keyed state: bytes of the engine's own format, one piece for each key group. They are part of
 * every checkpoint and go with their key group when the parallelism changes; what they mean is
 * nobody else's business.
 */
#ifndef KEYWEIR_RAW_H
#define KEYWEIR_RAW_H

#include "keyweir/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_raw kwr_raw;

typedef struct kwr_raw_descriptor {
    size_t struct_size;
    const char *name; /* among the names of all states of the backend, 1..255 bytes of UTF-8 */
} kwr_raw_descriptor;

/* As the opening of other states (keyweir/state.h). The current key plays no part in what follows.
 */
KWR_API KWR_CHECK kwr_status kwr_raw_open(kwr_backend *backend,
                                          const kwr_raw_descriptor *descriptor, kwr_raw **out,
                                          kwr_error *err);
/* Replaces the bytes of `key_group`; empty ones count. Fails with KWR_ERR_MISUSE (the group is not
 * owned here), KWR_ERR_RANGE (limits.value_bytes_max), KWR_ERR_NOMEM. */
KWR_API KWR_CHECK kwr_status kwr_raw_put(kwr_raw *raw, uint32_t key_group, kwr_slice data);
/* KWR_NOT_FOUND when the group has none (*out is then empty). Borrowed until the next call on this
 * handle or a freeze. KWR_ERR_MISUSE. */
KWR_API KWR_CHECK kwr_status kwr_raw_get(kwr_raw *raw, uint32_t key_group, kwr_slice *out);
/* Removes them; removing nothing is KWR_OK. KWR_ERR_MISUSE. */
KWR_API KWR_CHECK kwr_status kwr_raw_clear(kwr_raw *raw, uint32_t key_group);
/* The first owned group from `from` on that has bytes, and those, as by kwr_raw_get();
 * KWR_NOT_FOUND: there is none. */
KWR_API KWR_CHECK kwr_status kwr_raw_next(kwr_raw *raw, uint32_t from, uint32_t *key_group,
                                          kwr_slice *out);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_RAW_H */
