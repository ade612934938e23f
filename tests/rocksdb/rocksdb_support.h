/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the engine rocksdb share: backends in directories of their own, and keys. */
#ifndef KWR_TESTS_ROCKSDB_SUPPORT_H
#define KWR_TESTS_ROCKSDB_SUPPORT_H

#include "tests/support/kwr_test.h"

/* Options of a backend in a directory that no other of this test has. */
kwr_backend_options rocks_options(kwr_resources *resources, char path[256]);
/* Opened with them, or the test fails. */
kwr_backend *rocks_open(kwr_resources *resources);
kwr_resources *rocks_resources(uint64_t memory_bytes_max, uint64_t rocksdb_memory_bytes);
kwr_resources_stats rocks_stats(const kwr_resources *resources);

kwr_value *rocks_value(kwr_backend *backend, const char *name);
kwr_map *rocks_map(kwr_backend *backend, const char *name);
kwr_list *rocks_list(kwr_backend *backend, const char *name);
void rocks_set_key(kwr_backend *backend, uint64_t number);

#endif /* KWR_TESTS_ROCKSDB_SUPPORT_H */
