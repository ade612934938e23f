/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page images on their own, walked without an engine and installed into one. The first byte says
 * what the rest is: the bytes of an image of some kind, or changes (u16 place, u8 value) to an
 * image of a real store that holds values, small and large collections, and long keys. What is
 * taken must be sound, and walking it must give what was installed.
 */
#include "tests/fuzz/fuzz.h"

#include "backend/key_group.h"
#include "backend/memory/store.h"
#include "base/bytes.h"
#include "base/limits.h"

enum { IMAGES_MAX = 64, SEED = 3, STATES = 2 };

static kwr_resources *resources;
static kwr_limits limits;
static kwr_page_image base[IMAGES_MAX];
static size_t base_count;

static kwr_engine *engine_new(const kwr_engine_ops **ops) {
    kwr_error err;
    if (resources == NULL) {
        const kwr_resources_options pool = { .struct_size = sizeof pool };
        FUZZ_MUST(kwr_resources_open(fuzz_env(), &pool, &resources, &err) == KWR_OK);
        FUZZ_MUST(kwr_limits_complete(NULL, &limits, &err) == KWR_OK);
    }
    *ops = kwr_engine_find("memory");
    const kwr_engine_config config = { .env = fuzz_env(),
                                       .resources = resources,
                                       .max_parallelism = 1,
                                       .key_groups = { 0, 1 },
                                       .limits = &limits,
                                       .hash_mask = UINT64_MAX,
                                       .seed = SEED };
    kwr_engine *e = NULL;
    FUZZ_MUST((*ops)->open(&config, &e, &err) == KWR_OK);
    for (uint32_t id = 0; id < STATES; id++) {
        const kwr_state_info info = { .id = id,
                                      .kind = id == 0 ? KWR_STATE_VALUE : KWR_STATE_MAP,
                                      .name = "state" };
        FUZZ_MUST((*ops)->add_state(e, &info) == KWR_OK);
    }
    return e;
}

static kwr_address address(uint32_t state, kwr_slice key) {
    const uint64_t hash = kwr_key_hash(key, SEED);
    const kwr_slice name = { "w", 1 };
    return (kwr_address){ .state = state,
                          .key_group = kwr_key_group_of_hash(hash, 1),
                          .entry_hash = kwr_entry_hash(hash, kwr_namespace_hash(name)),
                          .key = key,
                          .name = name };
}

static kwr_status keep(void *ctx, const kwr_page_image *image) {
    (void)ctx;
    FUZZ_MUST(base_count < IMAGES_MAX);
    void *bytes = malloc(image->size);
    FUZZ_MUST(bytes != NULL);
    memcpy(bytes, image->bytes, image->size);
    base[base_count] = *image;
    base[base_count++].bytes = bytes;
    return KWR_OK;
}

static void make_base(void) {
    static char key[5000], value[6000];
    const kwr_engine_ops *ops;
    kwr_engine *e = engine_new(&ops);
    memset(key, 'k', sizeof key);
    for (uint32_t i = 0; i < 6; i++) {
        key[0] = (char)('a' + i);
        const kwr_slice k = { key, i == 5 ? sizeof key : 3 };
        const kwr_address plain = address(0, k), map = address(1, k);
        FUZZ_MUST(ops->put(e, &plain, (kwr_slice){ value, i == 4 ? 5000 : i * 9 }) == KWR_OK);
        for (uint32_t n = 0; n < i * i * 8 + 1; n++) {
            uint8_t subkey[8];
            kwr_put_be64(subkey, n * 3);
            const kwr_slice v = { value, i == 3 && n == 7 ? sizeof value : n % 50 };
            FUZZ_MUST(ops->sub_put(e, &map, (kwr_slice){ subkey, 8 }, v) == KWR_OK);
        }
    }
    kwr_engine_view *view;
    kwr_page_sink sink = { .image = keep };
    FUZZ_MUST(ops->freeze(e, &view) == KWR_OK);
    FUZZ_MUST(ops->view_images(view, 0, &sink) == KWR_OK);
    ops->view_release(view);
    ops->close(e);
}

static kwr_status add_up(void *ctx, const kwr_entry *entry) {
    uint64_t *sum = ctx;
    *sum += 1 + entry->subkey.size + entry->value.size;
    return KWR_OK;
}

/* All images of the base, one of them changed. */
static void install(const kwr_page_image *changed, size_t which) {
    const kwr_engine_ops *ops;
    kwr_engine *e = engine_new(&ops);
    kwr_error err = { 0 };
    uint64_t from_images = 0, from_view = 0;
    bool walks = true;
    FUZZ_MUST(ops->restore_begin(e, SEED) == KWR_OK);
    kwr_status status = KWR_OK;
    for (size_t i = 0; i < base_count && status == KWR_OK; i++) {
        const kwr_page_image *image = i == which ? changed : &base[i];
        walks = walks && kwr_page_image_walk(image, add_up, &from_images, &err) == KWR_OK;
        status = ops->install(e, image, &err);
    }
    if (status == KWR_OK) status = ops->restore_end(e, &err);
    if (status == KWR_OK) {
        FUZZ_MUST(walks);
        FUZZ_MUST(kwr_store_check(e, &err) == KWR_OK);
        kwr_engine_view *view;
        FUZZ_MUST(ops->freeze(e, &view) == KWR_OK);
        for (uint32_t state = 0; state < STATES; state++)
            FUZZ_MUST(ops->view_walk(view, state, 0, add_up, &from_view) == KWR_OK);
        ops->view_release(view);
        FUZZ_MUST(from_images == from_view);
    } else {
        FUZZ_MUST(status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT);
        FUZZ_MUST(err.text[0] != '\0');
    }
    ops->close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (base_count == 0) make_base();
    if (size == 0) return 0;
    kwr_error err = { 0 };
    uint64_t sum = 0;
    if (data[0] < 16) { /* an image of its own */
        const kwr_page_image image = { .kind = (kwr_page_kind)data[0],
                                       .entries = data[0] == KWR_PAGE_BLOB,
                                       .bytes = data + 1,
                                       .size = size - 1 };
        const kwr_status status = kwr_page_image_walk(&image, add_up, &sum, &err);
        FUZZ_MUST(status == KWR_OK || status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT);
        return 0;
    }
    const size_t which = data[0] % base_count;
    kwr_page_image changed = base[which];
    uint8_t *bytes = malloc(changed.size);
    FUZZ_MUST(bytes != NULL);
    memcpy(bytes, changed.bytes, changed.size);
    for (size_t i = 1; i + 3 <= size && i < 100; i += 3)
        bytes[kwr_get_le16(data + i) % changed.size] = data[i + 2];
    changed.bytes = bytes;
    install(&changed, which);
    free(bytes);
    return 0;
}
