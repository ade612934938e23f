/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collections in images: leaves written and read one by one, each saying whose it is, its elements
 * packed in order. Inner pages are not written: what they say follows from the leaves. As in
 * image.c every byte is checked before it is believed.
 */
#include "backend/memory/tree.h"

static bool all_zero(const uint8_t *bytes, size_t size) {
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++)
        any |= bytes[i];
    return any == 0;
}

/* ---- reading ---- */

typedef struct element_sums {
    uint64_t count;
    uint64_t bytes;      /* subkeys and values */
    size_t stored_bytes; /* as encoded */
} element_sums;

/* `count` elements in ascending order at the front of `bytes`. */
static kwr_status check_elements(const uint8_t *bytes, size_t size, uint64_t count,
                                 const kwr_image_rules *rules, element_sums *out, kwr_error *err) {
    kwr_cursor c = kwr_cursor_of(bytes, size);
    kwr_slice before = { NULL, 0 };
    *out = (element_sums){ .count = count };
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t key_size = kwr_cursor_varint32(&c);
        const uint32_t value_size = kwr_cursor_varint32(&c);
        const kwr_slice key = { kwr_cursor_take(&c, key_size), key_size };
        (void)kwr_cursor_take(&c, value_size);
        if (c.failed) return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an element runs out of its page");
        if (rules != NULL &&
            (key_size > rules->key_bytes_max + rules->namespace_bytes_max + KWR_SUBKEY_EXTRA ||
             value_size > rules->value_bytes_max))
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an element is larger than the limits allow");
        if (i > 0 && kwr_subkey_compare(before, key) >= 0)
            return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "elements are not in ascending order");
        before = key;
        out->bytes += (uint64_t)key_size + value_size;
    }
    out->stored_bytes = c.at;
    return KWR_OK;
}

static kwr_status check_head(const uint8_t *value, kwr_collection_sum *out, kwr_error *err) {
    const kwr_tree_head head = kwr_tree_head_at(value);
    if (head.height != 0 || head.zero != 0 || head.root != 0 || head.leaves == 0 ||
        head.count < head.leaves)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "the head of a collection is not possible");
    *out = (kwr_collection_sum){ head.count, head.bytes };
    return KWR_OK;
}

kwr_status kwr_collection_check(const uint8_t *value, size_t size, const kwr_image_rules *rules,
                                kwr_collection_sum *out, kwr_error *err) {
    if (size == sizeof(kwr_tree_head) && kwr_collection_is_tree(value))
        return check_head(value, out, err);
    if (size < KWR_INLINE_HEAD || size > KWR_COLLECTION_BYTES_MAX ||
        value[0] != KWR_COLLECTION_INLINE || kwr_inline_count(value) == 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a record holds no collection");
    element_sums sums;
    KWR_TRY(check_elements(value + KWR_INLINE_HEAD, size - KWR_INLINE_HEAD, kwr_inline_count(value),
                           rules, &sums, err));
    if (sums.stored_bytes != size - KWR_INLINE_HEAD)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the elements of a collection");
    *out = (kwr_collection_sum){ sums.count, sums.bytes };
    return KWR_OK;
}

kwr_status kwr_tree_image_check(const void *bytes, size_t size, kwr_tree_image *header,
                                kwr_error *err) {
    if (size < sizeof *header)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no tree page has this length");
    memcpy(header, bytes, sizeof *header);
    const bool leaf = header->form == KWR_TREE_IMAGE_LEAF;
    const char *wrong = NULL;
    if (!all_zero(header->zero, sizeof header->zero) || header->zero_too != 0 ||
        !all_zero(header->spare, sizeof header->spare))
        wrong = "a field that must be zero is not";
    else if (header->kind != KWR_PAGE_TREE)
        wrong = "it says it is of another kind";
    else if (!leaf && header->form != KWR_TREE_IMAGE_RECORD)
        wrong = "its form is not possible";
    else if (header->size != size)
        wrong = "its length is not what its header says";
    else if (leaf ? header->count == 0
                  : (header->count | header->key_size | header->name_size) != 0)
        wrong = "its counts are not possible";
    return wrong == NULL ? KWR_OK : KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%s", wrong);
}

kwr_status kwr_leaf_image_check(const void *bytes, size_t size, const kwr_image_rules *rules,
                                kwr_leaf_image *out, kwr_error *err) {
    kwr_tree_image header;
    KWR_TRY(kwr_tree_image_check(bytes, size, &header, err));
    if (header.form != KWR_TREE_IMAGE_LEAF)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "it is no leaf");
    const uint8_t *elements = (const uint8_t *)bytes + sizeof header;
    const size_t left = size - sizeof header;
    element_sums sums;
    KWR_TRY(check_elements(elements, left, header.count, rules, &sums, err));
    if ((uint64_t)header.key_size + header.name_size != left - sums.stored_bytes)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "it does not end with its key and namespace");
    if (rules != NULL &&
        (header.key_size > rules->key_bytes_max || header.name_size > rules->namespace_bytes_max))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "its key is larger than the limits allow");
    const uint64_t page_bytes = sizeof(kwr_tree_page) + (uint64_t)header.count * KWR_TREE_SLOT;
    if (header.count > 1 && page_bytes + sums.stored_bytes > KWR_TREE_BYTES_MAX)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "no leaf of several elements is as large");
    const uint8_t *owner = elements + sums.stored_bytes;
    *out = (kwr_leaf_image){
        .id = header.id,
        .count = header.count,
        .elements = elements,
        .element_bytes = sums.stored_bytes,
        .entry_bytes = sums.bytes,
        .key = { owner, header.key_size },
        .name = { owner + header.key_size, header.name_size },
    };
    return KWR_OK;
}

static kwr_status walk_record(const kwr_page_image *image, kwr_entry *entry, kwr_entry_fn fn,
                              void *fn_ctx, kwr_error *err) {
    const uint8_t *bytes = (const uint8_t *)image->bytes + sizeof(kwr_tree_image);
    const size_t size = image->size - sizeof(kwr_tree_image);
    kwr_record r;
    kwr_collection_sum sum;
    KWR_TRY(kwr_record_check(bytes, size, NULL, &r, err));
    if (r.value + r.value_size != bytes + size)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "bytes follow the record");
    KWR_TRY(kwr_collection_check(r.value, r.value_size, NULL, &sum, err));
    if (kwr_collection_is_tree(r.value)) return KWR_OK;
    entry->key = (kwr_slice){ r.key, r.key_size };
    entry->name = (kwr_slice){ r.name, r.name_size };
    return kwr_collection_walk(r.value, entry, fn, fn_ctx);
}

kwr_status kwr_tree_image_walk(const kwr_page_image *image, kwr_entry_fn fn, void *fn_ctx,
                               kwr_error *err) {
    kwr_tree_image header;
    kwr_entry entry = { .state = image->state, .key_group = image->key_group };
    KWR_TRY(kwr_tree_image_check(image->bytes, image->size, &header, err));
    if (header.form == KWR_TREE_IMAGE_RECORD) return walk_record(image, &entry, fn, fn_ctx, err);
    kwr_leaf_image leaf;
    KWR_TRY(kwr_leaf_image_check(image->bytes, image->size, NULL, &leaf, err));
    entry.key = leaf.key;
    entry.name = leaf.name;
    return kwr_elements_walk(leaf.elements, leaf.count, &entry, fn, fn_ctx);
}

/* ---- writing ---- */

/* Returns the bytes of subkeys and values. */
static uint64_t pack_leaf(uint8_t *to, size_t size, const kwr_tree_page *page,
                          const kwr_record *r) {
    uint64_t sum = 0;
    const kwr_tree_image header = {
        .kind = KWR_PAGE_TREE,
        .id = page->id,
        .size = (uint32_t)size,
        .count = page->count,
        .key_size = r->key_size,
        .name_size = r->name_size,
        .form = KWR_TREE_IMAGE_LEAF,
    };
    memcpy(to, &header, sizeof header);
    to += sizeof header;
    for (uint32_t i = 0; i < page->count; i++) {
        const uint8_t *from = kwr_tree_record(page, i);
        const kwr_element x = kwr_element_at(from);
        const size_t bytes = (size_t)(kwr_element_end(&x) - from);
        memcpy(to, from, bytes);
        to += bytes;
        sum += (uint64_t)x.key_size + x.value_size;
    }
    if (r->key_size > 0) memcpy(to, r->key, r->key_size);
    if (r->name_size > 0) memcpy(to + r->key_size, r->name, r->name_size);
    return sum;
}

static kwr_status write_leaf(const kwr_tree_page *page, const kwr_record *r,
                             const kwr_page_image *like, kwr_buffer *room, kwr_page_sink *sink) {
    bool wanted;
    kwr_page_image image = {
        .kind = KWR_PAGE_TREE,
        .state = like->state,
        .key_group = like->key_group,
        .page_id = page->id,
        .prefix = like->prefix,
        .depth = KWR_PAGE_OWNED,
        .elements = page->count,
        .epoch = page->block.birth,
    };
    KWR_TRY(kwr_page_sink_ask(sink, &image, &wanted));
    if (!wanted) return KWR_OK;
    const size_t size =
        sizeof(kwr_tree_image) + page->heap - page->dead + (size_t)r->key_size + r->name_size;
    room->size = 0;
    uint8_t *bytes = size > UINT32_MAX ? NULL : kwr_buffer_extend(room, size);
    if (bytes == NULL) return KWR_ERR_NOMEM;
    image.entry_bytes = (uint32_t)pack_leaf(bytes, size, page, r);
    image.bytes = bytes;
    image.size = size;
    return sink->image(sink->ctx, &image);
}

kwr_status kwr_tree_images(const kwr_record *record, const kwr_page_image *like, kwr_buffer *room,
                           kwr_page_sink *sink) {
    if (!kwr_collection_is_tree(record->value)) return KWR_OK;
    const kwr_tree_head head = kwr_tree_head_at(record->value);
    kwr_tree_path path;
    kwr_tree_first(&head, &path);
    while (kwr_tree_settle_forward(&path)) {
        kwr_tree_step *leaf = kwr_tree_leaf(&path);
        const kwr_status status = write_leaf(leaf->page, record, like, room, sink);
        if (status != KWR_OK) return status;
        leaf->index = leaf->page->count;
    }
    return KWR_OK;
}
