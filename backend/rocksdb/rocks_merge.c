/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merge operator: what RocksDB calls, on threads of its own, to make one value of those that
 * were written without a look at what was there. One operator serves every family, because an
 * operand says what it is; so a database can be opened without knowing what its families hold.
 *
 * Nothing here belongs to an engine: no environment of the host, no handle, no memory but what is
 * given back at once. It fails only on bytes that are not an operand, and then RocksDB calls them
 * damaged.
 */
#include "backend/rocksdb/rocks_fold.h"

#include "base/bytes.h"
#include "base/memory.h"
#include "base/posix.h"

void *kwr_rocks_merge_room(size_t size) {
    const kwr_allocator *a = &kwr_posix_allocator;
    return a->alloc(a->ctx, size == 0 ? 1 : size, 16);
}

/* ---- lists ---- */

void kwr_rocks_head_put(uint8_t *out, const rocks_list_head *head) {
    kwr_put_le64(out, head->count);
    kwr_put_le64(out + 8, head->first);
    kwr_put_le32(out + 16, head->tail);
}

bool kwr_rocks_head_get(const void *data, size_t size, rocks_list_head *out) {
    if (size < ROCKS_LIST_HEAD_SIZE) return false;
    const uint8_t *bytes = data;
    *out = (rocks_list_head){ .count = kwr_get_le64(bytes),
                              .first = kwr_get_le64(bytes + 8),
                              .tail = kwr_get_le32(bytes + 16),
                              .elements = { bytes + ROCKS_LIST_HEAD_SIZE,
                                            size - ROCKS_LIST_HEAD_SIZE } };
    return out->tail <= out->count && out->first <= ROCKS_SEQUENCE_MAX;
}

/* Number of elements in an operand, and the elements. */
static bool append_parse(const char *data, size_t size, uint32_t *count, kwr_slice *elements) {
    if (size < ROCKS_APPEND_SIZE || (uint8_t)data[0] != ROCKS_APPEND) return false;
    *count = kwr_get_le32(data + 1);
    *elements = (kwr_slice){ data + ROCKS_APPEND_SIZE, size - ROCKS_APPEND_SIZE };
    return true;
}

/* What all operands append: numbers and bytes. */
static bool append_measure(const rocks_operands *o, uint64_t *elements, size_t *bytes) {
    for (size_t i = 0; i < o->count; i++) {
        uint32_t count;
        kwr_slice more;
        if (!append_parse(o->data[i], o->sizes[i], &count, &more)) return false;
        *elements += count;
        *bytes += more.size;
    }
    return *elements <= UINT32_MAX;
}

static uint8_t *append_copy(uint8_t *p, const rocks_operands *o) {
    for (size_t i = 0; i < o->count; i++) {
        const size_t size = o->sizes[i] - ROCKS_APPEND_SIZE;
        if (size > 0) memcpy(p, o->data[i] + ROCKS_APPEND_SIZE, size);
        p += size;
    }
    return p;
}

static char *list_full(kwr_slice base, const rocks_operands *o, size_t *size) {
    rocks_list_head head = { 0 };
    if (base.data != NULL && !kwr_rocks_head_get(base.data, base.size, &head)) return NULL;
    uint64_t elements = head.tail;
    size_t bytes = ROCKS_LIST_HEAD_SIZE + head.elements.size;
    if (!append_measure(o, &elements, &bytes)) return NULL;
    uint8_t *out = kwr_rocks_merge_room(bytes);
    if (out == NULL) return NULL;
    head.count += elements - head.tail;
    head.tail = (uint32_t)elements;
    kwr_rocks_head_put(out, &head);
    uint8_t *p = out + ROCKS_LIST_HEAD_SIZE;
    if (head.elements.size > 0) memcpy(p, head.elements.data, head.elements.size);
    (void)append_copy(p + head.elements.size, o);
    *size = bytes;
    return (char *)out;
}

static char *list_partial(const rocks_operands *o, size_t *size) {
    uint64_t elements = 0;
    size_t bytes = ROCKS_APPEND_SIZE;
    if (!append_measure(o, &elements, &bytes)) return NULL;
    uint8_t *out = kwr_rocks_merge_room(bytes);
    if (out == NULL) return NULL;
    out[0] = ROCKS_APPEND;
    kwr_put_le32(out + 1, (uint32_t)elements);
    (void)append_copy(out + ROCKS_APPEND_SIZE, o);
    *size = bytes;
    return (char *)out;
}

/* ---- what RocksDB calls ---- */

static bool is_fold(const rocks_operands *o) {
    return o->sizes[0] > 0 && (uint8_t)o->data[0][0] == ROCKS_FOLD;
}

static char *full_merge(void *state, const char *key, size_t key_size, const char *base,
                        size_t base_size, const char *const *list, const size_t *sizes, int count,
                        unsigned char *success, size_t *size) {
    (void)state, (void)key, (void)key_size;
    const rocks_operands o = { list, sizes, (size_t)count };
    *size = 0;
    const kwr_slice stored = { base, base_size };
    char *out = is_fold(&o) ? kwr_rocks_fold_full(stored, &o, size) : list_full(stored, &o, size);
    *success = out != NULL;
    return out;
}

/* RocksDB keeps the operands as they are where this has no answer. */
static char *partial_merge(void *state, const char *key, size_t key_size, const char *const *list,
                           const size_t *sizes, int count, unsigned char *success, size_t *size) {
    (void)state, (void)key, (void)key_size;
    const rocks_operands o = { list, sizes, (size_t)count };
    *size = 0;
    char *out = is_fold(&o) ? kwr_rocks_fold_partial(&o, size) : list_partial(&o, size);
    *success = out != NULL;
    return out;
}

static void give_back(void *state, const char *value, size_t size) {
    (void)state;
    const kwr_allocator *a = &kwr_posix_allocator;
    if (value != NULL) a->free(a->ctx, (void *)(uintptr_t)value, size == 0 ? 1 : size);
}

static void done(void *state) { (void)state; }

static const char *name(void *state) {
    (void)state;
    return "keyweir-1"; /* RocksDB notes it with the database and asks for the same one again */
}

rocksdb_mergeoperator_t *kwr_rocks_merge_operator(void) {
    return rocksdb_mergeoperator_create(NULL, done, full_merge, partial_merge, give_back, name);
}
