/* SPDX-License-Identifier: Apache-2.0 */
/* The entry hash decides where stored pages belong: its values may never change. */
#include "tests/pages/pages_test.h"

static const struct {
    const char *key, *name;
    uint64_t hash; /* with the seed 1 */
} golden[] = {
    { "", "", 0xe55f0044153c2b4fULL },
    { "", "w1", 0x1a1eed60668026a8ULL },
    { "", "user-42", 0xdba8e94a42bb0bd1ULL },
    { "a", "", 0xeac5bc972ec591b1ULL },
    { "a", "w1", 0x86f37fb5c1cf99d3ULL },
    { "a", "user-42", 0x41b2b5769917b583ULL },
    { "user-42", "", 0xd640f65ce0f5562fULL },
    { "user-42", "w1", 0x4f92f9b44a2bce49ULL },
    { "user-42", "user-42", 0x24b25c200a27a650ULL },
};

KWR_TEST(hash, of_entries_never_changes) {
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        const uint64_t key_hash = kwr_key_hash(text(golden[i].key), 1);
        const uint64_t got = kwr_entry_hash(key_hash, kwr_namespace_hash(text(golden[i].name)));
        cr_assert(got == golden[i].hash, "'%s' in '%s': %016llx", golden[i].key, golden[i].name,
                  (unsigned long long)got);
    }
}

KWR_TEST(hash, leaves_no_bit_of_the_key_group_fixed) {
    uint64_t ones = 0, zeros = 0;
    unsigned in_group = 0;
    for (unsigned i = 0; in_group < 200; i++) {
        const uint64_t key_hash = kwr_key_hash((kwr_slice){ &i, sizeof i }, 1);
        if (kwr_key_group_of_hash(key_hash, 128) != 5) continue;
        const uint64_t hash = kwr_entry_hash(key_hash, kwr_namespace_hash(text("")));
        ones |= hash;
        zeros |= ~hash;
        in_group++;
    }
    cr_assert(ones == UINT64_MAX && zeros == UINT64_MAX);
}
