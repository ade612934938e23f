/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/rocksdb/rocksdb_support.h"

kwr_backend_options rocks_options(kwr_resources *resources, char path[256]) {
    static unsigned number;
    (void)snprintf(path, 256, "%s/%u", kwr_test_dir(), number++);
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = kwr_test_env(),
                                  .resources = resources,
                                  .engine = "rocksdb",
                                  .max_parallelism = 16,
                                  .seed = 5,
                                  .directory = path };
}

kwr_backend *rocks_open(kwr_resources *resources) {
    char path[256];
    const kwr_backend_options options = rocks_options(resources, path);
    kwr_backend *backend = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_backend_open(&options, &backend, &err), err);
    return backend;
}

kwr_resources *rocks_resources(uint64_t memory_bytes_max, uint64_t rocksdb_memory_bytes) {
    const kwr_resources_options options = { .struct_size = sizeof options,
                                            .memory_bytes_max = memory_bytes_max,
                                            .rocksdb_memory_bytes = rocksdb_memory_bytes };
    kwr_resources *resources = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_resources_open(kwr_test_env(), &options, &resources, &err), err);
    return resources;
}

kwr_resources_stats rocks_stats(const kwr_resources *resources) {
    kwr_resources_stats stats = { .struct_size = sizeof stats };
    kwr_resources_get_stats(resources, &stats);
    return stats;
}

kwr_value *rocks_value(kwr_backend *backend, const char *name) {
    const kwr_value_descriptor d = { .struct_size = sizeof d, .name = name };
    kwr_value *value = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_value_open(backend, &d, &value, &err), err);
    return value;
}

kwr_map *rocks_map(kwr_backend *backend, const char *name) {
    const kwr_map_descriptor d = { .struct_size = sizeof d, .name = name };
    kwr_map *map = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_map_open(backend, &d, &map, &err), err);
    return map;
}

kwr_list *rocks_list(kwr_backend *backend, const char *name) {
    const kwr_list_descriptor d = { .struct_size = sizeof d, .name = name };
    kwr_list *list = NULL;
    kwr_error err;
    KWR_MUST_ERR(kwr_list_open(backend, &d, &list, &err), err);
    return list;
}

void rocks_set_key(kwr_backend *backend, uint64_t number) {
    KWR_MUST(kwr_backend_set_key(backend, KWR_SLICE_OF(number)));
}
