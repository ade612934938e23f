/* SPDX-License-Identifier: Apache-2.0 */
/* The hashes of keys and namespaces. Their values are for ever: they decide where stored pages
 * belong. docs/page-store.md has test vectors. */
#include "backend/engine.h"
#include "base/digest.h"

/* Keys and namespaces of equal bytes must not cancel out in kwr_entry_hash(). */
static const uint64_t namespace_seed = 0x6b77722d6e616d65ULL; /* "kwr-name" */

uint64_t kwr_key_hash(kwr_slice key, uint64_t seed) { return kwr_hash64(key.data, key.size, seed); }

uint64_t kwr_namespace_hash(kwr_slice name) {
    return kwr_hash64(name.data, name.size, namespace_seed);
}
