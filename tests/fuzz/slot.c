/* SPDX-License-Identifier: Apache-2.0 */
/* Slots of the commit log: as they are, and with a digest line that is right. */
#include "tests/fuzz/fuzz.h"

#include "base/digest.h"
#include "snapshot/slot.h"

static void decode(const void *data, size_t size) {
    kwr_slot slot;
    kwr_error err;
    if (kwr_slot_decode(fuzz_env(), (kwr_slice){ data, size }, "fuzz", &slot, &err) != KWR_OK)
        return;
    kwr_bytes again = { 0 };
    FUZZ_MUST(kwr_slot_encode(fuzz_env(), &slot, &again, &err) == KWR_OK);
    FUZZ_MUST(again.size == size && memcmp(again.data, data, size) == 0);
    kwr_bytes_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char start[] = "xxh3-128 ";
    decode(data, size);
    char *sealed = malloc(size + sizeof start + KWR_DIGEST_TEXT);
    FUZZ_MUST(sealed != NULL);
    if (size > 0) memcpy(sealed, data, size);
    char text[KWR_DIGEST_TEXT];
    const kwr_digest digest = kwr_digest_of(data, size);
    kwr_digest_text(&digest, text);
    const int tail = snprintf(sealed + size, sizeof start + KWR_DIGEST_TEXT, "%s%s\n", start, text);
    decode(sealed, size + (size_t)tail);
    free(sealed);
    return 0;
}
