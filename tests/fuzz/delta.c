/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash page and a batch of deltas, put together: u16 size of the page, the page, the batch. What
 * comes out is an image like any other, good or refused.
 */
#include "tests/fuzz/fuzz.h"

#include "backend/engine.h"
#include "backend/page_delta.h"

enum { DELTAS_MAX = 64 };

static kwr_status look(void *ctx, const kwr_entry *entry) {
    uint64_t *sum = ctx;
    *sum += entry->key.size + entry->name.size + entry->value.size;
    return KWR_OK;
}

/* All deltas of the batch, as if they were of this page. */
static size_t read_batch(const uint8_t *bytes, size_t size, kwr_delta *deltas) {
    kwr_delta_batch batch;
    kwr_error err = { 0 };
    size_t count = 0;
    if (kwr_delta_batch_open(bytes, size, &batch, &err) < KWR_OK) return 0;
    while (count < DELTAS_MAX && kwr_delta_batch_next(&batch, &deltas[count], &err) == KWR_OK)
        count++;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t page = kwr_get_le16(data);
    if (page > size - 2) page = size - 2;
    /* Copies, so that reading past either end is seen. */
    uint8_t *bytes = malloc(page), *batch = malloc(size - 2 - page);
    FUZZ_MUST(bytes != NULL && batch != NULL);
    memcpy(bytes, data + 2, page);
    memcpy(batch, data + 2 + page, size - 2 - page);
    kwr_error err = { 0 };
    const kwr_status checked = kwr_delta_batch_check(batch, size - 2 - page, &err);
    FUZZ_MUST(checked == KWR_OK || (checked == KWR_ERR_CORRUPT && err.text[0] != '\0'));
    kwr_delta deltas[DELTAS_MAX];
    const size_t count = read_batch(batch, size - 2 - page, deltas);
    kwr_buffer room = { .env = fuzz_env() };
    const kwr_page_image image = { .kind = KWR_PAGE_HASH, .bytes = bytes, .size = page };
    kwr_page_image out;
    err = (kwr_error){ 0 };
    const kwr_status status = kwr_page_put_together(&image, deltas, count, &room, &out, &err);
    FUZZ_MUST(status == KWR_OK || (status == KWR_ERR_CORRUPT && err.text[0] != '\0'));
    if (status == KWR_OK) {
        uint64_t sum = 0;
        const kwr_status walked = kwr_page_image_walk(&out, look, &sum, &err);
        FUZZ_MUST(walked == KWR_OK || walked == KWR_ERR_CORRUPT);
    }
    kwr_buffer_free(&room);
    free(bytes);
    free(batch);
    return 0;
}
