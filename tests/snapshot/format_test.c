/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of docs/format.md: what it shows as examples is written here and compared, so that the
 * page and the code cannot drift apart. These bytes are for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/view.h"
#include "keyweir/state.h"
#include "snapshot/data_writer.h"
#include "snapshot/slot.h"
#include "tests/snapshot/fixture.h"

/* Reads the fenced block behind `<!-- example: name -->` in docs/format.md. */
static char *example(const char *name) {
    size_t size = 0;
    char mark[128];
    char *page = slurp(KWR_SOURCE_ROOT "/docs/format.md", &size);
    snprintf(mark, sizeof mark, "<!-- example: %s -->", name);
    char *at = strstr(page, mark);
    cr_assert(at != NULL, "no example %s in docs/format.md", name);
    at = strstr(at, "\n```");
    cr_assert(at != NULL);
    at = strchr(at + 1, '\n') + 1;
    char *end = strstr(at, "```\n");
    cr_assert(end != NULL);
    char *text = malloc((size_t)(end - at) + 1);
    memcpy(text, at, (size_t)(end - at));
    text[end - at] = '\0';
    free(page);
    return text;
}

static void expect_example(const char *name, const char *got) {
    char *want = example(name);
    if (strcmp(want, got) != 0) fprintf(stderr, "%s is now:\n%s### end\n", name, got);
    cr_assert_str_eq(want, got, "docs/format.md, example %s", name);
    free(want);
}

/* As `xxd -g1` prints it, without the characters. */
static char *hex_dump(const uint8_t *bytes, size_t size) {
    const size_t room = size * 4 + size / 16 * 12 + 64;
    char *text = malloc(room);
    size_t at = 0;
    for (size_t i = 0; i < size; i++) {
        if (i % 16 == 0)
            at += (size_t)snprintf(text + at, room - at, "%s%04zx:", i == 0 ? "" : "\n", i);
        at += (size_t)snprintf(text + at, room - at, " %02x", bytes[i]);
    }
    snprintf(text + at, room - at, "\n");
    return text;
}

static void uid(uint8_t out[16]) {
    for (int i = 0; i < 16; i++)
        out[i] = (uint8_t)(0x10 + i);
}

KWR_TEST(format, slots_are_as_documented) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    kwr_slot fence = { .number = 1,
                       .floor = 1,
                       .kind = KWR_SLOT_FENCE,
                       .job = "wordcount",
                       .generation = 1,
                       .time_ms = 1700000000000,
                       .pid = 4242 };
    uid(fence.job_uid);
    kwr_bytes bytes = { 0 };
    KWR_MUST(kwr_slot_encode(f.env, &fence, &bytes, NULL));
    char *text = calloc(1, bytes.size + 1);
    memcpy(text, bytes.data, bytes.size);
    expect_example("fence", text);
    free(text);
    kwr_bytes_free(&bytes);
    kwr_slot checkpoint = { .number = 2,
                            .floor = 2,
                            .kind = KWR_SLOT_CHECKPOINT,
                            .job = "wordcount",
                            .generation = 1,
                            .highest = 1,
                            .time_ms = 1700000001000,
                            .has_previous = true,
                            .previous = fence.digest,
                            .checkpoint = 1,
                            .manifest_length = 1234,
                            .manifest_digest = kwr_digest_of("", 0) };
    uid(checkpoint.job_uid);
    KWR_MUST(kwr_slot_encode(f.env, &checkpoint, &bytes, NULL));
    text = calloc(1, bytes.size + 1);
    memcpy(text, bytes.data, bytes.size);
    expect_example("checkpoint slot", text);
    free(text);
    kwr_bytes_free(&bytes);
    fixture_close(&f);
}

static kwr_status write_image(void *ctx, const kwr_page_image *image) {
    kwr_limits limits = KWR_LIMITS_INIT;
    limits.image_bytes_max = 1 << 20;
    uint64_t stored = 0;
    return kwr_data_writer_image(ctx, image, &limits, &stored, NULL);
}

/* One entry: key "hello", no namespace, i64 42, in the state 0 of a backend of 4 key groups. */
static void write_example_file(const fixture *f, kwr_data_writer *writer, kwr_manifest_file *file) {
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = f->env,
                                          .max_parallelism = 4,
                                          .seed = 7,
                                          .key_type = { .kind = KWR_TYPE_STRING } };
    const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor,
                                              .name = "count",
                                              .type = { .kind = KWR_TYPE_I64 } };
    kwr_backend *backend = NULL;
    kwr_value *value = NULL;
    kwr_view *view = NULL;
    const int64_t number = 42;
    KWR_MUST(kwr_backend_open(&options, &backend, NULL));
    KWR_MUST(kwr_value_open(backend, &descriptor, &value, NULL));
    KWR_MUST(kwr_backend_set_key(backend, (kwr_slice){ "hello", 5 }));
    KWR_MUST(kwr_value_put(value, (kwr_slice){ &number, sizeof number }));
    KWR_MUST(kwr_backend_freeze(backend, &view));
    kwr_data_header header = { .generation = 1,
                               .checkpoint = 1,
                               .max_parallelism = 4,
                               .operator_digest = kwr_digest_of("count", 5),
                               .seed = 7 };
    uid(header.job_uid);
    for (int i = 0; i < 16; i++)
        header.identity[i] = (uint8_t)(0xf0 + i);
    KWR_MUST(kwr_data_writer_begin(writer, f->env, f->storage, &header, false));
    kwr_page_sink sink = { .ctx = writer, .image = write_image };
    for (uint32_t group = 0; group < 4; group++)
        KWR_MUST(view->ops->view_images(view->engine_view, group, &sink));
    KWR_MUST(kwr_data_writer_finish(writer, file, NULL));
    kwr_view_release(view);
    kwr_backend_close(backend);
}

KWR_TEST(format, a_data_file_is_as_documented) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    kwr_data_writer writer;
    kwr_manifest_file file = { 0 };
    write_example_file(&f, &writer, &file);
    char *text = hex_dump(writer.bytes.data, writer.bytes.size);
    expect_example("data file", text);
    free(text);
    kwr_data_writer_done(&writer);
    fixture_close(&f);
}

KWR_TEST(format, a_manifest_is_as_documented) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    kwr_data_writer writer;
    kwr_manifest_file file = { 0 };
    write_example_file(&f, &writer, &file);
    file.name = NULL;
    kwr_manifest_state state = {
        .info = { .kind = KWR_STATE_VALUE, .name = "count", .type = { .kind = KWR_TYPE_I64 } },
        .entries = 1,
        .entry_bytes = 13,
    };
    kwr_manifest_split split = { { "words.txt", 9 }, { "size 5", 6 }, { "\x05\0\0\0\0\0\0\0", 8 } };
    kwr_manifest_committable committable = { 1, { "part-1-0", 8 } };
    kwr_manifest_subtask source = { .splits = &split, .split_count = 1 };
    kwr_manifest_subtask keyed = { .keyed = true,
                                   .key_groups = { 0, 4 },
                                   .format = "pages-1",
                                   .states = &state,
                                   .state_count = 1,
                                   .files = &file,
                                   .file_count = 1,
                                   .committables = &committable,
                                   .committable_count = 1 };
    kwr_manifest_operator operators[] = {
        { .id = "source", .parallelism = 1, .max_parallelism = 4, .roles = 1, .subtasks = &source },
        { .id = "count",
          .parallelism = 1,
          .max_parallelism = 4,
          .roles = 2 | 4,
          .key_type = { .kind = KWR_TYPE_STRING },
          .subtasks = &keyed },
    };
    kwr_manifest manifest = { .job = "wordcount",
                              .checkpoint = 1,
                              .generation = 1,
                              .triggered_ms = 1700000000900,
                              .completed_ms = 1700000001000,
                              .seed = 7,
                              .max_parallelism = 4,
                              .inline_length = writer.bytes.size,
                              .inline_digest = kwr_digest_of(writer.bytes.data, writer.bytes.size),
                              .operators = operators,
                              .operator_count = 2 };
    uid(manifest.job_uid);
    kwr_bytes bytes = { 0 };
    KWR_MUST(kwr_manifest_encode(f.env, &manifest, &bytes, NULL));
    char *text = calloc(1, bytes.size + 1);
    memcpy(text, bytes.data, bytes.size);
    expect_example("manifest", text);
    kwr_manifest *again = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(
        kwr_manifest_parse(f.env, NULL, (kwr_slice){ text, bytes.size }, "example", &again, &err),
        err);
    kwr_manifest_free(again);
    free(text);
    kwr_bytes_free(&bytes);
    kwr_data_writer_done(&writer);
    fixture_close(&f);
}

KWR_TEST(format, digests_and_key_groups_have_golden_values) {
    char text[KWR_DIGEST_TEXT];
    const kwr_digest empty = kwr_digest_of("", 0), abc = kwr_digest_of("abc", 3);
    kwr_digest_text(&empty, text);
    cr_assert_str_eq(text, "99aa06d3014798d86001c324468d497f");
    kwr_digest_text(&abc, text);
    cr_assert_str_eq(text, "06b05ab6733a618578af5f94892f3950");
    cr_assert(kwr_hash64("abc", 3, 0) == 0x78af5f94892f3950, "%016llx",
              (unsigned long long)kwr_hash64("abc", 3, 0));
}
