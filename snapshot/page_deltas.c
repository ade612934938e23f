/* SPDX-License-Identifier: Apache-2.0 */
/* A table of deltas by key group and page id; the bytes stay where the batches were decoded. */
#include "snapshot/page_deltas.h"

#include "base/cleanup.h"
#include "base/error.h"

enum {
    TABLE_FIRST = 64,
    DELTAS_MAX = 64, /* of one page, of files in use: more than any tiers leave */
};

/* One delta of one page. */
typedef struct link {
    uint64_t page_id;
    uint64_t version; /* of the file it lies in */
    const uint8_t *bytes;
    uint32_t size;
    uint32_t key_group;
    uint32_t next; /* of the same page, lower versions: index + 1 */
    uint8_t mark;
} link;

typedef struct batch_bytes {
    uint8_t *bytes;
    size_t size;
} batch_bytes;

struct kwr_page_deltas {
    const kwr_env *env;
    link *links;
    size_t link_count, link_capacity;
    uint32_t *table; /* index + 1 of the highest version of a page */
    size_t table_size, pages;
    batch_bytes *batches;
    size_t batch_count, batch_capacity;
    const uint64_t *marked; /* all versions, ascending; the caller's */
    size_t marked_count;
};

kwr_page_deltas *kwr_page_deltas_new(const kwr_env *env) {
    kwr_page_deltas *d = kwr_calloc(env, sizeof *d);
    if (d != NULL) d->env = env;
    return d;
}

void kwr_page_deltas_free(kwr_page_deltas *d) {
    if (d == NULL) return;
    const kwr_env *env = d->env;
    for (size_t i = 0; i < d->batch_count; i++)
        kwr_free(env, d->batches[i].bytes, d->batches[i].size);
    kwr_free(env, d->batches, d->batch_capacity * sizeof *d->batches);
    kwr_free(env, d->links, d->link_capacity * sizeof *d->links);
    kwr_free(env, d->table, d->table_size * sizeof *d->table);
    kwr_free(env, d, sizeof *d);
}

/* ---- the table ---- */

static uint32_t *place_of(const kwr_page_deltas *d, uint32_t *table, size_t size,
                          uint32_t key_group, uint64_t id) {
    size_t at =
        (size_t)((id ^ (uint64_t)key_group << 40) * 0x9e3779b97f4a7c15ULL >> 20) & (size - 1);
    for (; table[at] != 0; at = (at + 1) & (size - 1)) {
        const link *l = &d->links[table[at] - 1];
        if (l->page_id == id && l->key_group == key_group) break;
    }
    return &table[at];
}

static kwr_status grow_table(kwr_page_deltas *d) {
    if (d->pages * 2 < d->table_size) return KWR_OK;
    const size_t size = d->table_size == 0 ? TABLE_FIRST : d->table_size * 2;
    uint32_t *table = kwr_calloc(d->env, size * sizeof *table);
    if (table == NULL) return KWR_ERR_NOMEM;
    for (size_t i = 0; i < d->table_size; i++) {
        if (d->table[i] == 0) continue;
        const link *l = &d->links[d->table[i] - 1];
        *place_of(d, table, size, l->key_group, l->page_id) = d->table[i];
    }
    kwr_free(d->env, d->table, d->table_size * sizeof *d->table);
    d->table = table;
    d->table_size = size;
    return KWR_OK;
}

/* KWR_ERR_CORRUPT: the page has a delta of that version already. */
static kwr_status add(kwr_page_deltas *d, const link *made) {
    if (d->link_count >= UINT32_MAX - 1 ||
        !kwr_grow_array(d->env, (void **)&d->links, &d->link_capacity, d->link_count + 1,
                        sizeof *d->links))
        return KWR_ERR_NOMEM;
    KWR_TRY(grow_table(d));
    uint32_t *at = place_of(d, d->table, d->table_size, made->key_group, made->page_id);
    if (*at == 0) d->pages++;
    while (*at != 0 && d->links[*at - 1].version > made->version)
        at = &d->links[*at - 1].next;
    if (*at != 0 && d->links[*at - 1].version == made->version) return KWR_ERR_CORRUPT;
    d->links[d->link_count] = *made;
    d->links[d->link_count].next = *at;
    *at = (uint32_t)++d->link_count;
    return KWR_OK;
}

/* ---- reading ---- */

bool kwr_page_deltas_in(const kwr_data_file *file) {
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        if (kwr_data_file_entry(file, i, &entry) && entry.kind == KWR_PAGE_DELTA) return true;
    }
    return false;
}

static kwr_status no_memory(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for the deltas of a checkpoint");
}

kwr_status kwr_page_deltas_open(const kwr_env *env, const kwr_data_file *file,
                                const kwr_data_entry *entry, uint8_t **bytes, kwr_delta_batch *out,
                                kwr_error *err) {
    const size_t size = KWR_DATA_PREFIX_SIZE + (size_t)entry->stored;
    uint8_t *stored = kwr_alloc(env, size), *plain = *bytes = kwr_alloc(env, entry->raw);
    kwr_page_image image;
    kwr_status status = stored == NULL || plain == NULL ? no_memory(err) : KWR_OK;
    if (status >= KWR_OK) status = kwr_data_file_read(file, entry->offset, stored, size, err);
    if (status >= KWR_OK) status = kwr_data_image(file, entry, stored, plain, &image, err);
    if (status >= KWR_OK && image.bytes != plain) memcpy(plain, image.bytes, image.size);
    kwr_free(env, stored, size);
    KWR_TRY(status);
    kwr_error why = { 0 };
    status = kwr_delta_batch_open(plain, image.size, out, &why);
    if (status >= KWR_OK && out->from >= file->header.checkpoint)
        status = KWR_FAIL(&why, KWR_ERR_CORRUPT, 0, "deltas go on top of a later checkpoint");
    return status < KWR_OK ? kwr_data_image_fault(file, entry, status, why.text, err) : KWR_OK;
}

static kwr_status take_batch(kwr_page_deltas *d, const kwr_data_file *file, uint32_t key_group,
                             kwr_delta_batch *batch, kwr_error *err) {
    for (;;) {
        kwr_delta delta;
        const kwr_status status = kwr_delta_batch_next(batch, &delta, err);
        if (status != KWR_OK) return status == KWR_NOT_FOUND ? KWR_OK : status;
        const kwr_status added = add(d, &(link){ .page_id = delta.page_id,
                                                 .version = file->header.checkpoint,
                                                 .bytes = delta.bytes,
                                                 .size = delta.size,
                                                 .key_group = key_group });
        if (added == KWR_ERR_CORRUPT)
            return KWR_FAIL(err, added, 0, "page %llu has two deltas of one checkpoint",
                            (unsigned long long)delta.page_id);
        if (added < KWR_OK) return no_memory(err);
    }
}

/* One batch; its bytes stay. */
static kwr_status read_batch(kwr_page_deltas *d, const kwr_data_file *file,
                             const kwr_data_entry *entry, uint8_t *level, kwr_error *err) {
    if (!kwr_grow_array(d->env, (void **)&d->batches, &d->batch_capacity, d->batch_count + 1,
                        sizeof *d->batches))
        return no_memory(err);
    uint8_t *bytes;
    kwr_delta_batch batch;
    kwr_status status = kwr_page_deltas_open(d->env, file, entry, &bytes, &batch, err);
    if (bytes != NULL) d->batches[d->batch_count++] = (batch_bytes){ bytes, entry->raw };
    KWR_TRY(status);
    if (level != NULL) *level = batch.level;
    kwr_error why = { 0 };
    status = take_batch(d, file, entry->key_group, &batch, &why);
    if (status == KWR_ERR_CORRUPT) return kwr_data_image_fault(file, entry, status, why.text, err);
    if (status < KWR_OK && err != NULL) *err = why;
    return status;
}

kwr_status kwr_page_deltas_read(kwr_page_deltas *d, const kwr_data_file *file,
                                kwr_key_group_range key_groups, uint8_t *level, kwr_error *err) {
    for (uint64_t i = 0; i < file->file->images; i++) {
        kwr_data_entry entry;
        if (!kwr_data_file_entry(file, i, &entry) || entry.kind != KWR_PAGE_DELTA) continue;
        if (entry.key_group - key_groups.first >= key_groups.count) continue;
        KWR_TRY(read_batch(d, file, &entry, level, err));
    }
    return KWR_OK;
}

/* ---- using ---- */

static uint64_t epoch_of(const kwr_page_deltas *d, uint64_t version) {
    size_t low = 0, high = d->marked_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (d->marked[middle] < version)
            low = middle + 1;
        else
            high = middle;
    }
    return 1 + low;
}

void kwr_page_deltas_mark(kwr_page_deltas *d, const uint64_t *versions, size_t count) {
    d->marked = versions;
    d->marked_count = count;
    for (size_t i = 0; i < d->link_count; i++) {
        const uint64_t epoch = epoch_of(d, d->links[i].version);
        d->links[i].mark = (uint8_t)(1 + epoch % KWR_EPOCH_MARKS);
    }
}

uint64_t kwr_page_deltas_epoch(const kwr_page_deltas *d, uint32_t key_group, uint64_t id) {
    if (d == NULL || d->pages == 0) return 0;
    const uint32_t at = *place_of(d, d->table, d->table_size, key_group, id);
    return at == 0 ? 0 : epoch_of(d, d->links[at - 1].version);
}

size_t kwr_page_deltas_count(const kwr_page_deltas *d) { return d->pages; }

kwr_status kwr_page_deltas_apply(const kwr_page_deltas *d, uint64_t version,
                                 const kwr_page_image *image, kwr_buffer *room, kwr_page_image *out,
                                 kwr_error *err) {
    *out = *image;
    if (d == NULL || d->pages == 0 || image->kind != KWR_PAGE_HASH) return KWR_OK;
    uint32_t at = *place_of(d, d->table, d->table_size, image->key_group, image->page_id);
    kwr_delta deltas[DELTAS_MAX];
    size_t first = DELTAS_MAX;
    const uint64_t highest = at == 0 ? 0 : d->links[at - 1].version;
    for (; at != 0 && d->links[at - 1].version > version; at = d->links[at - 1].next) {
        const link *l = &d->links[at - 1];
        if (first == 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "page %llu has too many deltas",
                            (unsigned long long)image->page_id);
        deltas[--first] = (kwr_delta){
            .page_id = l->page_id, .bytes = l->bytes, .size = l->size, .mark = l->mark
        };
    }
    if (first == DELTAS_MAX) return KWR_OK;
    KWR_TRY(kwr_page_put_together(image, deltas + first, DELTAS_MAX - first, room, out, err));
    if (d->marked != NULL) out->epoch = epoch_of(d, highest);
    return KWR_OK;
}
