/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes by number, and the map that remembers what was computed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/model.h"
#include "tests/model/must.h"

typedef struct blob {
    void *data;
    size_t size;
    uint64_t hash;
} blob;

static struct {
    blob *items;
    uint32_t count, capacity;
    uint32_t *table;
    uint32_t table_size;
} pool;

static uint64_t hash_bytes(const void *data, size_t size) { return model_hash(data, size); }

static void table_insert(uint32_t id) {
    uint32_t at = (uint32_t)pool.items[id].hash & (pool.table_size - 1);
    while (pool.table[at] != 0)
        at = (at + 1) & (pool.table_size - 1);
    pool.table[at] = id;
}

static void table_grow(void) {
    free(pool.table);
    pool.table_size = pool.table_size == 0 ? 1024 : 2 * pool.table_size;
    pool.table = model_must(calloc(pool.table_size, sizeof *pool.table));
    for (uint32_t i = 1; i < pool.count; i++)
        table_insert(i);
}

uint32_t model_pool_put(const void *data, size_t size) {
    if (size == 0) return 0;
    if (pool.count == 0) pool.count = 1;
    if (2 * pool.count >= pool.table_size) table_grow();
    const uint64_t hash = hash_bytes(data, size);
    uint32_t at = (uint32_t)hash & (pool.table_size - 1);
    for (; pool.table[at] != 0; at = (at + 1) & (pool.table_size - 1)) {
        const blob *b = &pool.items[pool.table[at]];
        if (b->hash == hash && b->size == size && memcmp(b->data, data, size) == 0)
            return pool.table[at];
    }
    if (pool.count >= pool.capacity) {
        pool.capacity = pool.capacity == 0 ? 1024 : 2 * pool.capacity;
        pool.items = model_must(realloc(pool.items, pool.capacity * sizeof *pool.items));
        if (pool.count == 1) pool.items[0] = (blob){ 0 };
    }
    void *copy = model_must(malloc(size));
    memcpy(copy, data, size);
    pool.items[pool.count] = (blob){ copy, size, hash };
    pool.table[at] = pool.count;
    return pool.count++;
}

const void *model_pool_get(uint32_t id, size_t *size) {
    if (id == 0) {
        *size = 0;
        return "";
    }
    *size = pool.items[id].size;
    return pool.items[id].data;
}

const char *model_pool_text(uint32_t id) {
    size_t size;
    return model_pool_get(id, &size);
}

void model_pool_free(void) {
    for (uint32_t i = 1; i < pool.count; i++)
        free(pool.items[i].data);
    free(pool.items);
    free(pool.table);
    memset(&pool, 0, sizeof pool);
}

/* ---- map ---- */

typedef struct pair {
    uint64_t a, b;
    uint32_t value;
} pair;

struct model_map {
    uint32_t count, size;
    pair items[];
};

static uint32_t slot_of(const model_map *map, uint64_t a, uint64_t b) {
    const uint64_t key[2] = { a, b };
    uint32_t at = (uint32_t)hash_bytes(key, sizeof key) & (map->size - 1);
    while (map->items[at].value != 0 && (map->items[at].a != a || map->items[at].b != b))
        at = (at + 1) & (map->size - 1);
    return at;
}

uint32_t model_map_get(const model_map *map, uint64_t a, uint64_t b) {
    return map == NULL ? 0 : map->items[slot_of(map, a, b)].value;
}

void model_map_put(model_map **map, uint64_t a, uint64_t b, uint32_t value) {
    if (*map == NULL || 2 * (*map)->count >= (*map)->size) {
        model_map *old = *map;
        const uint32_t size = old == NULL ? 1024 : 2 * old->size;
        model_map *made = model_must(calloc(1, sizeof *made + size * sizeof(pair)));
        made->size = size;
        for (uint32_t i = 0; old != NULL && i < old->size; i++) {
            const pair *p = &old->items[i];
            if (p->value != 0) made->items[slot_of(made, p->a, p->b)] = *p;
        }
        made->count = old == NULL ? 0 : old->count;
        free(old);
        *map = made;
    }
    (*map)->items[slot_of(*map, a, b)] = (pair){ a, b, value };
    (*map)->count++;
}

void model_map_free(model_map *map) { free(map); }
