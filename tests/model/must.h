/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers of the model: memory that is there, a hash that is good enough. */
#ifndef KWR_MODEL_MUST_H
#define KWR_MODEL_MUST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void *model_must(void *memory) {
    if (memory == NULL) {
        fputs("model: out of memory\n", stderr);
        abort();
    }
    return memory;
}

static inline uint64_t model_mix(uint64_t x) {
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t model_hash(const void *data, size_t size) {
    const uint8_t *bytes = data;
    uint64_t hash = size + UINT64_C(0x9e3779b97f4a7c15);
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        hash = model_mix(hash ^ word) + UINT64_C(0x9e3779b97f4a7c15);
    }
    uint64_t rest = 0;
    if (size > 0) memcpy(&rest, bytes, size);
    return model_mix(hash ^ rest);
}

#endif /* KWR_MODEL_MUST_H */
