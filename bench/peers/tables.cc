// SPDX-License-Identifier: Apache-2.0
#define XXH_INLINE_ALL
#include "bench/peers/tables.h"

#include <absl/container/flat_hash_set.h>
#include <htslib/khash.h>
#include <sys/mman.h>
#include <tsl/robin_set.h>
#include <xxhash.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

[[noreturn]] void die(const char *what) {
    std::fprintf(stderr, "hash table peers: %s\n", what);
    std::exit(1);
}

// ---- what lies in a slot ----

struct lookup {
    const uint8_t *key;
    uint32_t size;
    uint64_t hash;
};

// Key and value in a record: u32 value size, key, value.
struct record {
    const uint8_t *key;
    uint32_t size;
    uint32_t hash;

    bool is(const lookup &k) const {
        return hash == static_cast<uint32_t>(k.hash) && size == k.size &&
               std::memcmp(key, k.key, size) == 0;
    }
    uint8_t *value() const { return const_cast<uint8_t *>(key) + size; }
};

// Key and value here; at most K and V bytes.
template <size_t K, size_t V> struct inlined {
    uint32_t size;
    uint32_t value_size;
    uint8_t key[K];
    uint8_t bytes[V];

    bool is(const lookup &k) const {
        return size == k.size && std::memcmp(key, k.key, k.size) == 0;
    }
    uint8_t *value() const { return const_cast<uint8_t *>(bytes); }
};

uint64_t hash_of(const lookup &k) { return k.hash; }
uint64_t hash_of(const record &r) { return XXH3_64bits(r.key, r.size); }
template <size_t K, size_t V> uint64_t hash_of(const inlined<K, V> &e) {
    return XXH3_64bits(e.key, e.size);
}

// ---- where records lie ----

struct arena {
    uint8_t *at = nullptr;
    uint8_t *base = nullptr;
    size_t bytes = 0;

    void open(size_t size) {
        bytes = (size + (2 << 20)) & ~static_cast<size_t>((2 << 20) - 1);
        void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) die("no memory");
        (void)madvise(p, bytes, MADV_HUGEPAGE);
        at = base = static_cast<uint8_t *>(p);
    }
    ~arena() {
        if (base != nullptr) munmap(base, bytes);
    }
};

template <class Entry> struct maker;
template <> struct maker<record> {
    arena records;
    static bool fits(size_t, size_t) { return true; }
    maker(size_t entries, size_t key, size_t value) { records.open(entries * (4 + key + value)); }
    record operator()(const lookup &k, size_t value_size) {
        uint8_t *r = records.at;
        if (r + 4 + k.size + value_size > records.base + records.bytes) die("too many records");
        const uint32_t size = static_cast<uint32_t>(value_size);
        std::memcpy(r, &size, 4);
        std::memcpy(r + 4, k.key, k.size);
        records.at += 4 + k.size + value_size;
        return { r + 4, k.size, static_cast<uint32_t>(k.hash) };
    }
};
template <size_t K, size_t V> struct maker<inlined<K, V>> {
    static bool fits(size_t key, size_t value) { return key <= K && value <= V; }
    maker(size_t, size_t, size_t) {}
    inlined<K, V> operator()(const lookup &k, size_t value_size) {
        inlined<K, V> e;
        e.size = k.size;
        e.value_size = static_cast<uint32_t>(value_size);
        std::memcpy(e.key, k.key, k.size);
        return e;
    }
};

// ---- the tables: find() gives the value or nullptr, insert() the place of a new one ----

template <class Entry> struct hasher {
    using is_transparent = void;
    template <class T> size_t operator()(const T &t) const { return hash_of(t); }
};
template <class Entry> struct equal {
    using is_transparent = void;
    bool operator()(const Entry &e, const lookup &k) const { return e.is(k); }
    bool operator()(const lookup &k, const Entry &e) const { return e.is(k); }
    bool operator()(const Entry &a, const Entry &b) const {
        return a.size == b.size && std::memcmp(a.key, b.key, a.size) == 0;
    }
};

template <class Entry> struct absl_table {
    absl::flat_hash_set<Entry, hasher<Entry>, equal<Entry>> set;
    uint8_t *find(const lookup &k) {
        auto found = set.find(k);
        return found == set.end() ? nullptr : found->value();
    }
    uint8_t *insert(const lookup &, const Entry &e) { return set.insert(e).first->value(); }
};

template <class Entry> struct robin_table {
    tsl::robin_set<Entry, hasher<Entry>, equal<Entry>, std::allocator<Entry>, true> set;
    uint8_t *find(const lookup &k) {
        auto found = set.find(k, k.hash);
        return found == set.end() ? nullptr : found->value();
    }
    uint8_t *insert(const lookup &, const Entry &e) { return set.insert(e).first->value(); }
};

// khash looks up with a key of its own type: for an inline entry the key is copied.
inline khint_t khash_of(const record &r) { return r.hash; }
inline int khash_same(const record &a, const record &b) {
    return a.hash == b.hash && a.size == b.size && std::memcmp(a.key, b.key, a.size) == 0;
}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
KHASH_INIT(records, record, char, 0, khash_of, khash_same)
template <size_t K> struct short_key {
    uint32_t size;
    uint8_t key[K];
};
template <size_t K> inline khint_t khash_of(const short_key<K> &k) {
    return static_cast<khint_t>(XXH3_64bits(k.key, k.size));
}
template <size_t K> inline int khash_same(const short_key<K> &a, const short_key<K> &b) {
    return a.size == b.size && std::memcmp(a.key, b.key, a.size) == 0;
}
struct bytes8 {
    uint32_t size;
    uint8_t bytes[8];
};
KHASH_INIT(small, short_key<8>, bytes8, 1, khash_of, khash_same)
#pragma GCC diagnostic pop

struct khash_records {
    khash_t(records) *table = kh_init(records);
    ~khash_records() { kh_destroy(records, table); }
    uint8_t *find(const lookup &k) {
        const khint_t at =
            kh_get(records, table, (record{ k.key, k.size, static_cast<uint32_t>(k.hash) }));
        return at == kh_end(table) ? nullptr : kh_key(table, at).value();
    }
    uint8_t *insert(const lookup &, const record &e) {
        int ret;
        const khint_t at = kh_put(records, table, e, &ret); // before the keys: it moves them
        return kh_key(table, at).value();
    }
};
struct khash_small {
    khash_t(small) *table = kh_init(small);
    ~khash_small() { kh_destroy(small, table); }
    static short_key<8> key(const lookup &k) {
        short_key<8> key;
        key.size = k.size;
        std::memcpy(key.key, k.key, k.size);
        return key;
    }
    uint8_t *find(const lookup &k) {
        const khint_t at = kh_get(small, table, key(k));
        return at == kh_end(table) ? nullptr : kh_val(table, at).bytes;
    }
    uint8_t *insert(const lookup &k, const inlined<8, 8> &e) {
        int ret;
        const khint_t at = kh_put(small, table, key(k), &ret);
        kh_val(table, at).size = e.value_size;
        return kh_val(table, at).bytes;
    }
};

} // namespace

// ---- the loops ----

struct peer_table {
    size_t key_size = 0, value_size = 0;
    virtual ~peer_table() = default;
    virtual uint64_t run(peer_loop loop, const uint8_t *keys, size_t count, uint8_t *value) = 0;
};

namespace {

void bump(uint8_t *at) {
    uint64_t number;
    std::memcpy(&number, at, sizeof number);
    number++;
    std::memcpy(at, &number, sizeof number);
}

template <class Table, class Entry> struct table_of final : peer_table {
    Table table;
    maker<Entry> make;
    table_of(size_t entries, size_t key, size_t value) : make(entries, key, value) {
        key_size = key;
        value_size = value;
    }
    lookup at(const uint8_t *keys, size_t i) const {
        const uint8_t *key = keys + i * key_size;
        return { key, static_cast<uint32_t>(key_size), XXH3_64bits(key, key_size) };
    }
    uint8_t *must(const lookup &k) {
        uint8_t *found = table.find(k);
        if (found == nullptr) die("a key is lost");
        return found;
    }
    uint64_t run(peer_loop loop, const uint8_t *keys, size_t count, uint8_t *value) override {
        uint64_t sum = 0;
        size_t next = 0;
        switch (loop) {
        case PEER_GET:
            for (size_t i = 0; i < count; i++) {
                std::memcpy(value, must(at(keys, i)), value_size);
                sum += value[0];
            }
            break;
        case PEER_PUT:
            for (size_t i = 0; i < count; i++) {
                const lookup k = at(keys, i);
                uint8_t *found = table.find(k);
                if (found == nullptr) found = table.insert(k, make(k, value_size));
                std::memcpy(found, value, value_size);
            }
            break;
        case PEER_MODIFY:
            for (size_t i = 0; i < count; i++)
                bump(must(at(keys, i)));
            break;
        case PEER_GET_DEPENDENT:
            for (size_t i = 0; i < count; i++) {
                next = peer_next(i, must(at(keys, next))[7], count);
                sum += next;
            }
            break;
        case PEER_MODIFY_DEPENDENT:
            for (size_t i = 0; i < count; i++) {
                uint8_t *found = must(at(keys, next));
                bump(found);
                next = peer_next(i, found[7], count);
                sum += next;
            }
            break;
        case PEER_LOOPS: break;
        }
        return sum;
    }
};

template <class Table, class Entry>
peer_table *open(size_t entries, size_t key_size, size_t value_size) {
    if (!maker<Entry>::fits(key_size, value_size)) return nullptr;
    return new table_of<Table, Entry>(entries, key_size, value_size);
}
// An inline slot larger than the entry would only waste the cache.
template <class Table, size_t K, size_t V>
peer_table *open_inline(size_t entries, size_t key_size, size_t value_size) {
    if (key_size * 2 <= K) return nullptr;
    return open<Table, inlined<K, V>>(entries, key_size, value_size);
}

const struct {
    const char *name;
    peer_table *(*open)(size_t entries, size_t key_size, size_t value_size);
} kinds[] = {
    { "khash, records", open<khash_records, record> },
    { "absl::flat_hash_set, records", open<absl_table<record>, record> },
    { "tsl::robin_set, records", open<robin_table<record>, record> },
    { "khash, inline", open_inline<khash_small, 8, 8> },
    { "absl::flat_hash_set, inline", open_inline<absl_table<inlined<8, 8>>, 8, 8> },
    { "tsl::robin_set, inline", open_inline<robin_table<inlined<8, 8>>, 8, 8> },
    { "absl::flat_hash_set, inline", open_inline<absl_table<inlined<16, 100>>, 16, 100> },
    { "tsl::robin_set, inline", open_inline<robin_table<inlined<16, 100>>, 16, 100> },
};

} // namespace

size_t peer_table_kinds(void) { return sizeof kinds / sizeof kinds[0]; }
const char *peer_table_name(size_t kind) { return kinds[kind].name; }
peer_table *peer_table_open(size_t kind, size_t entries, size_t key_size, size_t value_size) {
    return kinds[kind].open(entries, key_size, value_size);
}
void peer_table_close(peer_table *table) { delete table; }
uint64_t peer_table_run(peer_table *table, peer_loop loop, const uint8_t *keys, size_t count,
                        uint8_t *value) {
    return table->run(loop, keys, count, value);
}
