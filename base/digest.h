/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that names the checksum: XXH3, against accidents, not attackers. */
#ifndef KWR_BASE_DIGEST_H
#define KWR_BASE_DIGEST_H

#include "keyweir/env.h"

/* XXH3-128 in canonical (big-endian) byte order: what `xxhsum -H2` prints. */
typedef struct kwr_digest {
    uint8_t bytes[16];
} kwr_digest;

enum { KWR_DIGEST_TEXT = 33 }; /* 32 lower-case hex digits and the NUL */

kwr_digest kwr_digest_of(const void *data, size_t size);
bool kwr_digest_equal(const kwr_digest *a, const kwr_digest *b);
void kwr_digest_text(const kwr_digest *digest, char out[KWR_DIGEST_TEXT]);
/* Exactly 32 lower-case hex digits. */
bool kwr_digest_parse(const char *text, size_t size, kwr_digest *out);

/* Streaming. */
typedef struct kwr_digest_stream kwr_digest_stream;
kwr_digest_stream *kwr_digest_stream_new(const kwr_env *env); /* NULL without memory */
void kwr_digest_stream_free(kwr_digest_stream *stream);
void kwr_digest_stream_add(kwr_digest_stream *stream, const void *data, size_t size);
kwr_digest kwr_digest_stream_end(const kwr_digest_stream *stream);

/* XXH3-64 with a seed; stored little-endian. */
uint64_t kwr_hash64(const void *data, size_t size, uint64_t seed);

#endif /* KWR_BASE_DIGEST_H */
