/* SPDX-License-Identifier: Apache-2.0 */
/* Barriers as they arrive in a channel: as they are, and with a checksum that is right. */
#include "tests/fuzz/fuzz.h"

#include "base/bytes.h"
#include "base/digest.h"

static void decode(const uint8_t *data, size_t size) {
    kwr_barrier barrier;
    kwr_error err;
    if (kwr_barrier_decode((kwr_slice){ data, size }, &barrier, &err) != KWR_OK) return;
    FUZZ_MUST(barrier.checkpoint > 0);
    uint8_t again[KWR_BARRIER_BYTES];
    kwr_barrier_encode(&barrier, again);
    FUZZ_MUST(size == sizeof again && memcmp(data, again, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decode(data, size);
    if (size == KWR_BARRIER_BYTES) {
        /* Sealed as docs/format.md says: the low half of XXH3-64 with the field as 0. */
        uint8_t sealed[KWR_BARRIER_BYTES];
        memcpy(sealed, data, sizeof sealed);
        kwr_put_le32(sealed + 4, 0);
        kwr_put_le32(sealed + 4, (uint32_t)kwr_hash64(sealed, sizeof sealed, 0));
        decode(sealed, sizeof sealed);
    }
    return 0;
}
