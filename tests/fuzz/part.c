/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subtask's part as it travels in acks and assignments: as it is, and with lengths and checksum
 * that are right. In the second form the first byte says how many inline bytes there are.
 */
#include "tests/fuzz/fuzz.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "snapshot/manifest.h"

enum { HEAD = 24, TAIL = 8 };

static void decode(const void *data, size_t size) {
    static const kwr_limits limits = { .struct_size = sizeof limits };
    kwr_error err;
    kwr_subtask_part *first = NULL, *second = NULL;
    if (kwr_subtask_part_decode(fuzz_env(), &limits, (kwr_slice){ data, size }, "fuzz", &first,
                                &err) != KWR_OK)
        return;
    kwr_bytes once = { 0 }, twice = { 0 };
    FUZZ_MUST(kwr_subtask_part_encode(fuzz_env(), first, &once, &err) == KWR_OK);
    FUZZ_MUST(kwr_subtask_part_decode(fuzz_env(), &limits, (kwr_slice){ once.data, once.size },
                                      "again", &second, &err) == KWR_OK);
    FUZZ_MUST(kwr_subtask_part_encode(fuzz_env(), second, &twice, &err) == KWR_OK);
    FUZZ_MUST(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    kwr_subtask_part_free(first);
    kwr_subtask_part_free(second);
    kwr_bytes_free(&once);
    kwr_bytes_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decode(data, size);
    if (size == 0) return 0;
    const size_t body = size - 1;
    const size_t inline_bytes = data[0] < body ? data[0] : body;
    uint8_t *sealed = malloc(HEAD + body + TAIL);
    FUZZ_MUST(sealed != NULL);
    memcpy(sealed, "KWRPART\n", 8);
    kwr_put_le32(sealed + 8, 1);
    kwr_put_le32(sealed + 12, (uint32_t)(body - inline_bytes));
    kwr_put_le64(sealed + 16, inline_bytes);
    memcpy(sealed + HEAD, data + 1, body);
    kwr_put_le64(sealed + HEAD + body, kwr_hash64(sealed, HEAD + body, 0));
    decode(sealed, HEAD + body + TAIL);
    free(sealed);
    return 0;
}
