/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests. What is accepted is written in one spelling, which reads back the same. */
#include "tests/fuzz/fuzz.h"

#include "snapshot/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const kwr_limits limits = { .struct_size = sizeof limits };
    kwr_error err;
    kwr_manifest *first = NULL, *second = NULL;
    if (kwr_manifest_parse(fuzz_env(), &limits, (kwr_slice){ data, size }, "fuzz", &first, &err) !=
        KWR_OK)
        return 0;
    kwr_bytes once = { 0 }, twice = { 0 };
    FUZZ_MUST(kwr_manifest_encode(fuzz_env(), first, &once, &err) == KWR_OK);
    FUZZ_MUST(kwr_manifest_parse(fuzz_env(), &limits, (kwr_slice){ once.data, once.size }, "again",
                                 &second, &err) == KWR_OK);
    FUZZ_MUST(kwr_manifest_encode(fuzz_env(), second, &twice, &err) == KWR_OK);
    FUZZ_MUST(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    kwr_bytes_free(&once);
    kwr_bytes_free(&twice);
    kwr_manifest_free(first);
    kwr_manifest_free(second);
    return 0;
}
