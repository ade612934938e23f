/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes that read nothing, gathered: appends, adds and puts of a state wait in a batch until the
 * next call that looks into the state's family, a freeze, or until there are enough of them. One
 * write of many costs RocksDB less than many writes.
 *
 * A write that RocksDB refuses stays in the batch, in its order, and the call that wanted it
 * written fails without having done anything: nothing is lost, and later calls try again. RocksDB
 * refuses before it has taken anything, or refuses all that follows.
 */
#include "backend/rocksdb/rocks.h"

enum {
    GATHER_MOST = 64,
    GATHER_BYTES = 16 << 10,
    GATHER_ONE_BYTES = 2 << 10, /* what is longer is not copied once more */
};

kwr_status kwr_rocks_gathered_write(kwr_engine *e, rocks_state *s) {
    rocks_gathered *g = &s->gathered;
    if (g->count == 0) return KWR_OK;
    char *words = NULL;
    rocksdb_write(e->db->db, e->db->write, g->batch, &words);
    if (words != NULL) return kwr_rocks_failed(e, words);
    rocksdb_writebatch_clear(g->batch);
    g->count = 0;
    g->bytes = 0;
    return KWR_OK;
}

kwr_status kwr_rocks_write(kwr_engine *e, rocks_state *s, rocks_write_kind kind, kwr_slice key,
                           kwr_slice value) {
    char *words = NULL;
    e->written += key.size + value.size;
    if (kind == ROCKS_WRITE_PUT)
        rocksdb_put_cf(e->db->db, e->db->write, s->family, key.data, key.size, value.data,
                       value.size, &words);
    else
        rocksdb_merge_cf(e->db->db, e->db->write, s->family, key.data, key.size, value.data,
                         value.size, &words);
    return words == NULL ? KWR_OK : kwr_rocks_failed(e, words);
}

kwr_status kwr_rocks_gather(kwr_engine *e, rocks_state *s, rocks_write_kind kind, kwr_slice key,
                            kwr_slice value) {
    rocks_gathered *g = &s->gathered;
    const size_t size = key.size + value.size;
    if (g->count >= GATHER_MOST || size > GATHER_ONE_BYTES || g->bytes + size > GATHER_BYTES)
        KWR_TRY(kwr_rocks_gathered_write(e, s));
    if (size > GATHER_ONE_BYTES) return kwr_rocks_write(e, s, kind, key, value);
    if (g->batch == NULL) g->batch = rocksdb_writebatch_create();
    if (g->batch == NULL) return KWR_ERR_NOMEM;
    if (kind == ROCKS_WRITE_PUT)
        rocksdb_writebatch_put_cf(g->batch, s->family, key.data, key.size, value.data, value.size);
    else
        rocksdb_writebatch_merge_cf(g->batch, s->family, key.data, key.size, value.data,
                                    value.size);
    g->count++;
    g->bytes += size;
    e->written += size;
    return KWR_OK;
}

void kwr_rocks_gathered_free(rocks_state *s) {
    if (s->gathered.batch != NULL) rocksdb_writebatch_destroy(s->gathered.batch);
    s->gathered = (rocks_gathered){ 0 };
}
