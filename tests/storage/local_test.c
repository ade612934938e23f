/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite over the storages of this machine. */
#include "tests/storage/conformance.h"

static void open_memory(storage_place *place) {
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &place->storage, NULL));
}
static const storage_opener memory = { .open = open_memory };
STORAGE_CONFORMANCE(memory, memory);

static void open_file(storage_place *place) {
    kwr_error err = { 0 };
    snprintf(place->uri, sizeof place->uri, "file:%s", kwr_test_path("storage"));
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}
static const storage_opener file = { .open = open_file };
STORAGE_CONFORMANCE(file, file);
