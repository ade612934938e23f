/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite over the storages of this machine. */
#include "tests/storage/conformance.h"

#include <stdlib.h>

static void open_memory(storage_place *place) {
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &place->storage, NULL));
}
static const storage_opener memory = { .open = open_memory };
STORAGE_CONFORMANCE(memory, memory);

/* One that keeps copies is the storage below it. */
typedef struct copied_place {
    kwr_storage *remote, *local;
} copied_place;

static void open_copied(storage_place *place) {
    copied_place *two = calloc(1, sizeof *two);
    cr_assert(two != NULL);
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &two->remote, NULL));
    KWR_MUST(kwr_storage_memory_open(place->env, 0, &two->local, NULL));
    KWR_MUST(
        kwr_storage_local_copy_open(place->env, two->remote, two->local, &place->storage, NULL));
    place->ctx = two;
}
static void close_copied(storage_place *place) {
    copied_place *two = place->ctx;
    kwr_storage_close(two->local);
    kwr_storage_close(two->remote);
    free(two);
}
static const storage_opener copied = { .open = open_copied, .close = close_copied };
STORAGE_CONFORMANCE(copied, copied);

static void open_file(storage_place *place) {
    kwr_error err = { 0 };
    snprintf(place->uri, sizeof place->uri, "file:%s", kwr_test_path("storage"));
    KWR_MUST_ERR(kwr_storage_open(place->env, place->uri, true, &place->storage, &err), err);
}
static const storage_opener file = { .open = open_file };
STORAGE_CONFORMANCE(file, file);
