/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image is a byte of flags, then entries: lengths of key and namespace as varints, the two, then
 * length and bytes of the value. In collections a byte comes first, 1 for a further element of the
 * entry before (no key, no namespace), and the subkey goes with the value.
 */
#include "backend/entries_image.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/error.h"

enum {
    IMAGE_BYTES = 48 << 10, /* about: an image ends with the entry that fills it */
    SAME_ENTRY = 1,         /* flags of an element: of the entry before it */
    NEW_ENTRY = 0,
    FLAG_COLLECTION = 1,
    FLAG_CONTINUED = 2, /* the first element belongs to an entry that began in an earlier image */
    FLAGS = FLAG_COLLECTION | FLAG_CONTINUED,
};

void kwr_entries_begin(kwr_entries_writer *w, const kwr_env *env, kwr_page_sink *sink,
                       uint64_t *next_id, uint32_t state, uint32_t key_group, bool collection) {
    *w = (kwr_entries_writer){
        .bytes = { .env = env },
        .last = { .env = env },
        .sink = sink,
        .next_id = next_id,
        .image = { .kind = KWR_PAGE_ENTRIES, .state = state, .key_group = key_group },
        .collection = collection,
    };
}

void kwr_entries_free(kwr_entries_writer *w) {
    kwr_buffer_free(&w->bytes);
    kwr_buffer_free(&w->last);
}

static kwr_status flush(kwr_entries_writer *w) {
    if (w->bytes.failed || w->last.failed) return KWR_ERR_NOMEM;
    if (w->bytes.size == 0) return KWR_OK;
    w->image.page_id = (*w->next_id)++;
    w->image.bytes = w->bytes.data;
    w->image.size = w->bytes.size;
    const kwr_status status = w->sink->image(w->sink->ctx, &w->image);
    w->bytes.size = 0;
    w->image.entries = 0;
    return status;
}

static bool same_entry(const kwr_entries_writer *w, const kwr_entry *entry) {
    return w->begun && entry->key.size == w->last_key_size &&
           entry->key.size + entry->name.size == w->last.size &&
           (entry->key.size == 0 || memcmp(w->last.data, entry->key.data, entry->key.size) == 0) &&
           (entry->name.size == 0 ||
            memcmp(w->last.data + entry->key.size, entry->name.data, entry->name.size) == 0);
}

static void put_varint(kwr_buffer *out, size_t value) {
    uint8_t bytes[KWR_VARINT32_MAX];
    kwr_buffer_append(out, bytes, kwr_put_varint32(bytes, (uint32_t)value));
}

static void put_u8(kwr_buffer *out, uint8_t value) { kwr_buffer_append(out, &value, 1); }

static void put_slice(kwr_buffer *out, kwr_slice slice) {
    if (slice.size > 0) kwr_buffer_append(out, slice.data, slice.size);
}

kwr_status kwr_entries_add(kwr_entries_writer *w, const kwr_entry *entry) {
    const bool same = w->collection && same_entry(w, entry);
    if (w->bytes.size >= IMAGE_BYTES) {
        const kwr_status status = flush(w);
        if (status < KWR_OK) return status;
    }
    const bool first = w->bytes.size == 0;
    if (first)
        put_u8(&w->bytes,
               (uint8_t)((w->collection ? FLAG_COLLECTION : 0) | (same ? FLAG_CONTINUED : 0)));
    /* The first of an image always names its entry: an image is read by itself. */
    const bool named = !same || first;
    if (w->collection) put_u8(&w->bytes, named ? NEW_ENTRY : SAME_ENTRY);
    if (named) {
        put_varint(&w->bytes, entry->key.size);
        put_varint(&w->bytes, entry->name.size);
        put_slice(&w->bytes, entry->key);
        put_slice(&w->bytes, entry->name);
    }
    if (w->collection) put_varint(&w->bytes, entry->subkey.size);
    put_varint(&w->bytes, entry->value.size);
    if (w->collection) put_slice(&w->bytes, entry->subkey);
    put_slice(&w->bytes, entry->value);
    if (!same) {
        w->image.entries++;
        w->last.size = 0;
        put_slice(&w->last, entry->key);
        put_slice(&w->last, entry->name);
        w->last_key_size = entry->key.size;
        w->begun = true;
    }
    return w->bytes.failed || w->last.failed ? KWR_ERR_NOMEM : KWR_OK;
}

kwr_status kwr_entries_end(kwr_entries_writer *w) { return flush(w); }

/* ---- reading ---- */

static kwr_slice take_slice(kwr_cursor *c, uint32_t size) {
    return (kwr_slice){ kwr_cursor_take(c, size), size };
}

static kwr_status read_entry(kwr_cursor *c, bool collection, bool first, uint32_t *entries,
                             kwr_entry *entry, kwr_error *err) {
    const uint8_t how = collection ? kwr_cursor_u8(c) : NEW_ENTRY;
    if (how > SAME_ENTRY || (how == SAME_ENTRY && first))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an element belongs to no entry");
    if (how == NEW_ENTRY) {
        const uint32_t key_size = kwr_cursor_varint32(c), name_size = kwr_cursor_varint32(c);
        entry->key = take_slice(c, key_size);
        entry->name = take_slice(c, name_size);
        ++*entries;
    }
    const uint32_t subkey_size = collection ? kwr_cursor_varint32(c) : 0;
    const uint32_t value_size = kwr_cursor_varint32(c);
    entry->subkey = take_slice(c, subkey_size);
    entry->value = take_slice(c, value_size);
    if (!c->failed) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an entry runs out of its image");
}

kwr_status kwr_entries_walk(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                            kwr_error *err) {
    kwr_cursor c = kwr_cursor_of(image->bytes, image->size);
    const uint8_t flags = kwr_cursor_u8(&c);
    const bool collection = (flags & FLAG_COLLECTION) != 0;
    const bool continued = (flags & FLAG_CONTINUED) != 0;
    if (c.failed || (flags & ~FLAGS) != 0 || (continued && !collection) || kwr_cursor_left(&c) == 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its flags are not possible");
    kwr_entry entry = { .state = image->state, .key_group = image->key_group };
    uint32_t entries = 0;
    for (bool first = true; kwr_cursor_left(&c) > 0; first = false) {
        KWR_TRY(read_entry(&c, collection, first, &entries, &entry, err));
        const kwr_status status = fn(fn_ctx, &entry);
        if (status != KWR_OK) return status;
    }
    if (entries - (continued ? 1 : 0) != image->entries)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its entries are not as many as stated");
    return KWR_OK;
}
