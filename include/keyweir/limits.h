/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of every bound the library keeps. A field of 0 means its default. Tests set them tiny;
 * a host lowers them to bound what damaged or hostile files may cost.
 */
#ifndef KEYWEIR_LIMITS_H
#define KEYWEIR_LIMITS_H

#include "keyweir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_limits {
    size_t struct_size;
    /* live state */
    size_t key_bytes_max;       /* default 1 MiB, at most 1 GiB */
    size_t namespace_bytes_max; /* default 64 KiB, at most 1 GiB */
    size_t value_bytes_max;     /* default 64 MiB, at most 1 GiB */
    size_t name_bytes_max;      /* state names, UTF-8; default 255, at most 255 */
    uint32_t states_max;        /* per backend; default 4096, at most 65535 */
    uint32_t views_max;         /* frozen views alive per backend; default 64 */
    size_t batch_keys_max;      /* per key batch; default 4096 */
    /* stored bytes */
    size_t manifest_bytes_max;    /* default 64 MiB */
    size_t slot_bytes_max;        /* one commit-log slot; default 16 KiB */
    size_t message_bytes_max;     /* acks, assignments, other messages; default 64 MiB */
    size_t image_bytes_max;       /* one page image, uncompressed; default 1 GiB + 1 MiB */
    size_t index_bytes_max;       /* index of one data file; default 1 GiB */
    uint32_t files_max;           /* files of one checkpoint; default 1,000,000 */
    uint32_t operators_max;       /* per job; default 4096 */
    size_t committable_bytes_max; /* one sink committable; default 4 KiB */
    size_t split_bytes_max;       /* id, identity or position of a source split; default 64 KiB */
    /* effort */
    uint32_t claim_attempts_max; /* tries to claim the next slot when others race; default 16 */
    uint32_t slots_max;          /* slots in one log; default 1,000,000 */
} kwr_limits;

/* clang-format off */
#define KWR_LIMITS_INIT { sizeof(kwr_limits), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
/* clang-format on */

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_LIMITS_H */
