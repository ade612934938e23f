/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fastest hash tables the distribution has, behind one small face: khash, absl::flat_hash_set,
 * tsl::robin_set. Byte keys with run-time lengths, XXH3_64 and memcmp, as on our side; no
 * namespaces, no key groups, no freeze.
 *
 * Each in two layouts. Inline: key and value in the slot, for small entries known when the program
 * is compiled. Record: the slot holds a pointer, the key's size and 32 bits of its hash; the record
 * lies in an arena. Loops are compiled into each table, so that no call stands between them and it.
 */
#ifndef KWR_BENCH_TABLES_H
#define KWR_BENCH_TABLES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peer_table peer_table;

typedef enum peer_loop {
    PEER_GET,              /* copies the value out */
    PEER_PUT,              /* copies the value in; inserts what is new */
    PEER_MODIFY,           /* adds one to the first eight bytes */
    PEER_GET_DEPENDENT,    /* the next key depends on the value read */
    PEER_MODIFY_DEPENDENT, /* likewise */
    PEER_LOOPS,
} peer_loop;

/* The next key of a dependent loop, the same on all sides. */
static inline size_t peer_next(size_t round, uint8_t byte, size_t count) {
    return (round * 7919 + byte) % count;
}

size_t peer_table_kinds(void);
const char *peer_table_name(size_t kind);
/* NULL when entries of this size have no place in this kind. */
peer_table *peer_table_open(size_t kind, size_t entries, size_t key_size, size_t value_size);
void peer_table_close(peer_table *table);
/* `count` operations on the keys in that order; a sum that keeps them from being left out. A key
 * that is not there ends the program, but for PEER_PUT. */
uint64_t peer_table_run(peer_table *table, peer_loop loop, const uint8_t *keys, size_t count,
                        uint8_t *value);

#ifdef __cplusplus
}
#endif
#endif /* KWR_BENCH_TABLES_H */
