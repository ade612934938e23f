/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3 compiled in: keys are short, a call through a shared library would cost as much as the hash.
 */
#include "base/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"
#include "base/name.h"

static kwr_digest canonical(XXH128_hash_t hash) {
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, hash);
    kwr_digest digest;
    _Static_assert(sizeof bytes.digest == sizeof digest.bytes, "128 bits");
    memcpy(digest.bytes, bytes.digest, sizeof digest.bytes);
    return digest;
}

kwr_digest kwr_digest_of(const void *data, size_t size) {
    return canonical(XXH3_128bits(data, size));
}

bool kwr_digest_equal(const kwr_digest *a, const kwr_digest *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void kwr_digest_text(const kwr_digest *digest, char out[KWR_DIGEST_TEXT]) {
    kwr_hex(digest->bytes, sizeof digest->bytes, out);
}

bool kwr_digest_parse(const char *text, size_t size, kwr_digest *out) {
    kwr_digest parsed;
    if (!kwr_unhex(text, size, parsed.bytes, sizeof parsed.bytes)) return false;
    *out = parsed;
    return true;
}

struct kwr_digest_stream {
    XXH3_state_t state; /* first: it wants an alignment of 64 */
    const kwr_env *env;
};

kwr_digest_stream *kwr_digest_stream_new(const kwr_env *env) {
    kwr_digest_stream *stream = kwr_alloc_aligned(env, sizeof *stream, _Alignof(XXH3_state_t));
    if (stream == NULL) return NULL;
    stream->env = env;
    XXH3_INITSTATE(&stream->state);
    XXH3_128bits_reset(&stream->state);
    return stream;
}

void kwr_digest_stream_free(kwr_digest_stream *stream) {
    if (stream != NULL) kwr_free(stream->env, stream, sizeof *stream);
}

void kwr_digest_stream_add(kwr_digest_stream *stream, const void *data, size_t size) {
    if (size > 0) XXH3_128bits_update(&stream->state, data, size);
}

kwr_digest kwr_digest_stream_end(const kwr_digest_stream *stream) {
    return canonical(XXH3_128bits_digest(&stream->state));
}

uint64_t kwr_hash64(const void *data, size_t size, uint64_t seed) {
    return XXH3_64bits_withSeed(data, size, seed);
}
