/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A barrier as bytes: 32 of them, fixed for ever, sealed by a checksum so that no damaged barrier
 * can cut a stream.
 *
 *    0  "KB"        magic
 *    2  u8          version, 1
 *    3  u8          flags: 1 final, 2 cancelled; any other bit is refused
 *    4  u32         low half of XXH3-64 over all 32 bytes with this field as 0
 *    8  u64         checkpoint, > 0
 *   16  u64         generation
 *   24  i64         triggered_ms
 */
#include "keyweir/barrier.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"

enum { BARRIER_VERSION = 1, FLAG_FINAL = 1, FLAG_CANCELLED = 2, FLAGS_KNOWN = 3 };

static uint32_t checksum(const uint8_t bytes[KWR_BARRIER_BYTES]) {
    uint8_t copy[KWR_BARRIER_BYTES];
    memcpy(copy, bytes, sizeof copy);
    kwr_put_le32(copy + 4, 0);
    return (uint32_t)kwr_hash64(copy, sizeof copy, 0);
}

void kwr_barrier_encode(const kwr_barrier *barrier, uint8_t out[KWR_BARRIER_BYTES]) {
    out[0] = 'K';
    out[1] = 'B';
    out[2] = BARRIER_VERSION;
    out[3] =
        (uint8_t)((barrier->final ? FLAG_FINAL : 0) | (barrier->cancelled ? FLAG_CANCELLED : 0));
    kwr_put_le64(out + 8, barrier->checkpoint);
    kwr_put_le64(out + 16, barrier->generation);
    kwr_put_le64(out + 24, (uint64_t)barrier->triggered_ms);
    kwr_put_le32(out + 4, checksum(out));
}

kwr_status kwr_barrier_decode(kwr_slice bytes, kwr_barrier *out, kwr_error *err) {
    if (bytes.size != KWR_BARRIER_BYTES) {
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "a barrier has %d bytes, not %zu: the channel carried something else",
                        KWR_BARRIER_BYTES, bytes.size);
    }
    const uint8_t *p = bytes.data;
    if (p[0] != 'K' || p[1] != 'B') {
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "not a barrier: it starts with %02x %02x instead of 4b 42", p[0], p[1]);
    }
    if (kwr_get_le32(p + 4) != checksum(p)) {
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "barrier damaged on the way: checksum %08x, computed %08x",
                        kwr_get_le32(p + 4), checksum(p));
    }
    if (p[2] != BARRIER_VERSION || (p[3] & ~FLAGS_KNOWN) != 0) {
        return KWR_FAIL(err, KWR_ERR_FORMAT, 0,
                        "barrier of version %u with flags %02x: this build reads version %d with "
                        "flags %02x; run all tasks with the same version",
                        p[2], p[3], BARRIER_VERSION, FLAGS_KNOWN);
    }
    const kwr_barrier barrier = {
        .checkpoint = kwr_get_le64(p + 8),
        .generation = kwr_get_le64(p + 16),
        .triggered_ms = (int64_t)kwr_get_le64(p + 24),
        .final = (p[3] & FLAG_FINAL) != 0,
        .cancelled = (p[3] & FLAG_CANCELLED) != 0,
    };
    if (barrier.checkpoint == 0) {
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "barrier of checkpoint 0: ids start at 1");
    }
    *out = barrier;
    return KWR_OK;
}
