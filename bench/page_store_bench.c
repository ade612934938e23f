/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page store against an index with a record arena (eight-byte tagged slots, records appended:
 * the fastest layout for records of any size we know, with no removal, no freeze, no key groups).
 * Same keys, same hash, same loops, one thread.
 *
 *     page-store-bench [entries [key bytes [value bytes]]]     default 1000000 16 100
 *
 * Prints nanoseconds per operation, resident bytes per byte of keys and values, and what a freeze
 * costs the owner: its own time, and the longest operations in the rewrite that follows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/key_group.h"
#include "backend/memory/store.h"
#include "base/limits.h"

enum { BATCH = 32, TIMED = 1000000 };

static uint64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static uint64_t next(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static void die(const char *what) {
    fprintf(stderr, "page-store-bench: %s\n", what);
    exit(1);
}

/* ---- the reference ---- */

typedef struct reference {
    uint64_t *slots; /* tag << 48 | offset; 0: empty */
    size_t mask;
    uint8_t *records; /* u32 key size, u32 value size, key, value */
    size_t used;
} reference;

static uint8_t *reference_find(const reference *t, kwr_slice key, uint64_t hash, size_t **free_at) {
    const uint64_t tag = hash >> 48 | 1;
    size_t at = (hash * 0x9e3779b97f4a7c15ULL >> 20) & t->mask;
    for (; t->slots[at] != 0; at = (at + 1) & t->mask) {
        if (t->slots[at] >> 48 != tag) continue;
        uint8_t *r = t->records + (t->slots[at] & 0xffffffffffffULL);
        if (kwr_get_le32(r) == key.size && kwr_bytes_equal(r + 8, key.data, key.size))
            return r + 8 + key.size;
    }
    if (free_at != NULL) *free_at = (size_t *)&t->slots[at];
    return NULL;
}

static void reference_put(reference *t, kwr_slice key, uint64_t hash, kwr_slice value) {
    size_t *free_at;
    uint8_t *v = reference_find(t, key, hash, &free_at);
    if (v == NULL) {
        uint8_t *r = t->records + t->used;
        kwr_put_le32(r, (uint32_t)key.size);
        kwr_put_le32(r + 4, (uint32_t)value.size);
        memcpy(r + 8, key.data, key.size);
        v = r + 8 + key.size;
        *free_at = (hash >> 48 | 1) << 48 | t->used;
        t->used += 8 + key.size + value.size;
    }
    memcpy(v, value.data, value.size);
}

/* ---- the store ---- */

typedef struct bench {
    kwr_env *env;
    kwr_resources *resources;
    kwr_limits limits;
    const kwr_engine_ops *ops;
    kwr_engine *e;
    reference ref;
    size_t entries, key_size, value_size;
    uint8_t *keys; /* TIMED keys in the order of use */
    uint8_t *value;
    uint64_t sum;
} bench;

static void make_key(const bench *b, uint64_t i, uint8_t *out) {
    uint64_t x = i * 0x9e3779b97f4a7c15ULL + 1;
    for (size_t k = 0; k < b->key_size; k += 8) {
        const uint64_t word = k == 0 ? i : next(&x);
        memcpy(out + k, &word, b->key_size - k < 8 ? b->key_size - k : 8);
    }
}

static inline kwr_address address(kwr_slice key) {
    static uint64_t empty;
    if (empty == 0) empty = kwr_namespace_hash((kwr_slice){ NULL, 0 });
    const uint64_t hash = kwr_key_hash(key, 1);
    return (kwr_address){ .key_group = kwr_key_group_of_hash(hash, 128),
                          .entry_hash = kwr_entry_hash(hash, empty),
                          .key = key };
}

static inline kwr_slice timed_key(const bench *b, size_t i) {
    return (kwr_slice){ b->keys + i * b->key_size, b->key_size };
}

static void open_all(bench *b) {
    kwr_error err;
    if (kwr_env_posix_open(NULL, &b->env, &err) != KWR_OK) die(err.text);
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    if (kwr_resources_open(b->env, &pool, &b->resources, &err) != KWR_OK) die(err.text);
    if (kwr_limits_complete(NULL, &b->limits, &err) != KWR_OK) die(err.text);
    b->ops = kwr_engine_find("memory");
    const kwr_engine_config config = { .env = b->env,
                                       .resources = b->resources,
                                       .max_parallelism = 128,
                                       .key_groups = { 0, 128 },
                                       .limits = &b->limits,
                                       .hash_mask = UINT64_MAX,
                                       .seed = 1 };
    if (b->ops->open(&config, &b->e, &err) != KWR_OK) die(err.text);
    const kwr_state_info info = { .kind = KWR_STATE_VALUE, .name = "state" };
    if (b->ops->add_state(b->e, &info) != KWR_OK) die("no memory");
    size_t slots = 16;
    while (slots * 7 / 10 < b->entries)
        slots *= 2;
    b->ref.mask = slots - 1;
    b->ref.slots = b->env->allocator->map(b->env->allocator->ctx,
                                          (slots * 8 + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1));
    const size_t bytes = b->entries * (8 + b->key_size + b->value_size) + (2 << 20);
    b->ref.records =
        b->env->allocator->map(b->env->allocator->ctx, bytes & ~(size_t)((2 << 20) - 1));
    if (b->ref.slots == NULL || b->ref.records == NULL) die("no memory");
    b->keys = malloc(TIMED * b->key_size);
    b->value = calloc(1, b->value_size + 8);
}

/* Insertion order is random; so are the keys of the timed loops. */
static void fill(bench *b) {
    uint8_t key[256];
    const kwr_slice k = { key, b->key_size }, v = { b->value, b->value_size };
    uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < b->entries; i++) {
        make_key(b, i, key);
        reference_put(&b->ref, k, kwr_key_hash(k, 1), v);
    }
    const uint64_t ref = now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    start = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < b->entries; i++) {
        make_key(b, i, key);
        const kwr_address at = address(k);
        if (b->ops->put(b->e, &at, v) != KWR_OK) die("put failed");
    }
    const uint64_t took = now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    printf("insert          %7.1f ns   reference (no growth) %7.1f\n",
           (double)took / (double)b->entries, (double)ref / (double)b->entries);
    uint64_t x = 99;
    for (size_t i = 0; i < TIMED; i++)
        make_key(b, next(&x) % b->entries, b->keys + i * b->key_size);
    kwr_backend_stats s = { 0 };
    b->ops->stats(b->e, &s);
    printf("memory          %7.3f mapped / key+value bytes, %.3f used; %llu blocks\n",
           (double)s.mapped_bytes / (double)s.entry_bytes,
           (double)s.used_bytes / (double)s.entry_bytes, (unsigned long long)s.pages);
}

typedef void (*loop_fn)(bench *b, size_t n);

static void store_get(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kwr_address at = address(timed_key(b, i));
        kwr_slice v;
        if (b->ops->get(b->e, &at, &v) != KWR_OK) die("lost");
        memcpy(b->value, v.data, v.size);
        b->sum += b->value[0];
    }
}
static void ref_get(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kwr_slice k = timed_key(b, i);
        memcpy(b->value, reference_find(&b->ref, k, kwr_key_hash(k, 1), NULL), b->value_size);
        b->sum += b->value[0];
    }
}
static void store_put(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kwr_address at = address(timed_key(b, i));
        if (b->ops->put(b->e, &at, (kwr_slice){ b->value, b->value_size }) != KWR_OK) die("put");
    }
}
static void ref_put(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kwr_slice k = timed_key(b, i);
        reference_put(&b->ref, k, kwr_key_hash(k, 1), (kwr_slice){ b->value, b->value_size });
    }
}
static void bump(void *at) { kwr_put_le64(at, kwr_get_le64(at) + 1); }
static void store_modify(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kwr_address at = address(timed_key(b, i));
        void *v;
        size_t old;
        if (b->ops->modify(b->e, &at, b->value_size, &v, &old) != KWR_OK) die("modify");
        bump(v);
    }
}
static void ref_modify(bench *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const kwr_slice k = timed_key(b, i);
        bump(reference_find(&b->ref, k, kwr_key_hash(k, 1), NULL));
    }
}
/* Each key depends on the value read before. */
static void store_chase(bench *b, size_t n) {
    size_t i = 0;
    for (size_t k = 0; k < n; k++) {
        const kwr_address at = address(timed_key(b, i));
        kwr_slice v;
        if (b->ops->get(b->e, &at, &v) != KWR_OK) die("lost");
        i = (k * 7919 + (((const uint8_t *)v.data)[7])) % TIMED;
        b->sum += i;
    }
}
static void ref_chase(bench *b, size_t n) {
    size_t i = 0;
    for (size_t k = 0; k < n; k++) {
        const kwr_slice key = timed_key(b, i);
        const uint8_t *v = reference_find(&b->ref, key, kwr_key_hash(key, 1), NULL);
        i = (k * 7919 + v[7]) % TIMED;
        b->sum += i;
    }
}
static void batch(bench *b, size_t n, bool write) {
    kwr_address at[BATCH];
    kwr_engine_hint hints[BATCH];
    for (size_t i = 0; i + BATCH <= n; i += BATCH) {
        for (size_t k = 0; k < BATCH; k++) {
            at[k] = address(timed_key(b, i + k));
            at[k].hint = &hints[k];
        }
        b->ops->prefetch(b->e, at, BATCH);
        for (size_t k = 0; k < BATCH; k++) {
            if (write) {
                void *v;
                size_t old;
                if (b->ops->modify(b->e, &at[k], b->value_size, &v, &old) != KWR_OK) die("modify");
                bump(v);
            } else {
                kwr_slice v;
                if (b->ops->get(b->e, &at[k], &v) != KWR_OK) die("lost");
                memcpy(b->value, v.data, v.size);
                b->sum += b->value[0];
            }
        }
    }
}
static void batch_get(bench *b, size_t n) { batch(b, n, false); }
static void batch_modify(bench *b, size_t n) { batch(b, n, true); }

/* The best of five in thread time, sides taking turns. */
static void compare(bench *b, const char *name, loop_fn ours, loop_fn theirs) {
    double best[2] = { 1e18, 1e18 };
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned side = 0; side < 2; side++) {
            const uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
            (side == 0 ? ours : theirs)(b, TIMED);
            const double ns = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - start) / TIMED;
            if (ns < best[side]) best[side] = ns;
        }
    }
    printf("%-14s  %7.1f ns   reference %7.1f   ratio %.2f\n", name, best[0], best[1],
           best[0] / best[1]);
}

static int by_size(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* What the owner notices of a freeze: with the view held, every page is copied once. */
static void freeze(bench *b) {
    uint64_t *times = malloc(TIMED * sizeof *times);
    for (unsigned round = 0; round < 3; round++) {
        kwr_engine_view *view;
        uint64_t start = now_ns(CLOCK_MONOTONIC);
        if (b->ops->freeze(b->e, &view) != KWR_OK) die("freeze");
        const uint64_t took = now_ns(CLOCK_MONOTONIC) - start;
        const uint64_t all = now_ns(CLOCK_MONOTONIC);
        for (size_t i = 0; i < TIMED; i++) {
            const kwr_address at = address(timed_key(b, i));
            start = now_ns(CLOCK_THREAD_CPUTIME_ID);
            if (b->ops->put(b->e, &at, (kwr_slice){ b->value, b->value_size }) != KWR_OK)
                die("put");
            times[i] = now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        }
        const double mean = (double)(now_ns(CLOCK_MONOTONIC) - all) / TIMED;
        qsort(times, TIMED, sizeof *times, by_size);
        kwr_backend_stats s = { 0 };
        b->ops->stats(b->e, &s);
        printf("freeze %u        %7.2f us; then per put (with clock calls): mean %.0f ns, p99 %.1f "
               "us, p99.9 %.1f us, longest %.0f us; mapped %.3f\n",
               round, (double)took / 1e3, mean, (double)times[TIMED / 100 * 99] / 1e3,
               (double)times[TIMED / 1000 * 999] / 1e3, (double)times[TIMED - 1] / 1e3,
               (double)s.mapped_bytes / (double)s.entry_bytes);
        b->ops->view_release(view);
        start = now_ns(CLOCK_THREAD_CPUTIME_ID);
        store_put(b, TIMED);
        printf("  after release %7.1f ns a put\n",
               (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - start) / TIMED);
    }
    free(times);
}

int main(int argc, char **argv) {
    bench b = { .entries = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000,
                .key_size = argc > 2 ? strtoull(argv[2], NULL, 0) : 16,
                .value_size = argc > 3 ? strtoull(argv[3], NULL, 0) : 100 };
    if (b.entries == 0 || b.key_size < 8 || b.key_size > 256 || b.value_size < 8) die("usage");
    open_all(&b);
    printf("%zu entries, keys of %zu, values of %zu bytes\n", b.entries, b.key_size, b.value_size);
    fill(&b);
    compare(&b, "get", store_get, ref_get);
    compare(&b, "put", store_put, ref_put);
    compare(&b, "modify", store_modify, ref_modify);
    compare(&b, "get dependent", store_chase, ref_chase);
    compare(&b, "get batch", batch_get, ref_get);
    compare(&b, "modify batch", batch_modify, ref_modify);
    freeze(&b);
    printf("(%llu)\n", (unsigned long long)b.sum % 10);
    return 0;
}
