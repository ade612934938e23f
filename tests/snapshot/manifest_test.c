/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest and a subtask's part: what goes in comes out, and nothing else is let in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/manifest.h"
#include "tests/snapshot/fixture.h"

static const kwr_field inner_fields[] = {
    { .id = 3, .name = "x", .type = { .kind = KWR_TYPE_F64 } }
};
static const kwr_field fields[] = {
    { .id = 1, .name = "user \"name\"", .type = { .kind = KWR_TYPE_STRING } },
    { .id = 2,
      .name = "nested",
      .type = { .kind = KWR_TYPE_ROW, .fields = inner_fields, .field_count = 1 } },
    { .id = 9, .name = "n", .type = { .kind = KWR_TYPE_OPAQUE, .version = 4 } },
};

typedef struct sample {
    kwr_manifest manifest;
    kwr_manifest_operator operators[2];
    kwr_manifest_subtask sources[1];
    kwr_manifest_subtask counts[2];
    kwr_manifest_split splits[2];
    kwr_manifest_committable committables[2];
    kwr_manifest_state states[3];
    kwr_manifest_file files[2];
    kwr_manifest_file more_files[1];
} sample;

static kwr_slice text_slice(const char *text) { return (kwr_slice){ text, strlen(text) }; }

static void fill_sample(sample *s) {
    memset(s, 0, sizeof *s);
    s->splits[0] =
        (kwr_manifest_split){ text_slice("a.txt"), text_slice("size 12"), { "\x00\xff\x10", 3 } };
    s->splits[1] =
        (kwr_manifest_split){ text_slice("b \"q\"\n\xc3\xa9"), { "", 0 }, { "a\0b", 3 } };
    s->committables[0] = (kwr_manifest_committable){ 3, text_slice("part-3") };
    s->committables[1] = (kwr_manifest_committable){ UINT64_MAX, text_slice("part-4") };
    s->sources[0] = (kwr_manifest_subtask){ .splits = s->splits,
                                            .split_count = 2,
                                            .committables = s->committables,
                                            .committable_count = 2 };
    s->states[0] = (kwr_manifest_state){
        .info = { .id = 0, .kind = KWR_STATE_REDUCING, .name = "count", .type = { KWR_TYPE_I64 } },
        .entries = 10,
        .entry_bytes = 160,
    };
    s->states[1] = (kwr_manifest_state){
        .info = { .id = 1,
                  .kind = KWR_STATE_VALUE,
                  .name = "last seen",
                  .type = { KWR_TYPE_ROW, 0, fields, 3 },
                  .namespace_type = { KWR_TYPE_I64 } },
        .entries = UINT64_MAX,
        .entry_bytes = (UINT64_C(1) << 53) + 1,
    };
    s->states[2] = (kwr_manifest_state){
        .info = { .id = 2,
                  .kind = KWR_STATE_MAP,
                  .name = "\xc3\xa9t\xc3\xa9",
                  .user_key_type = { KWR_TYPE_STRING } },
    };
    for (int i = 0; i < 2; i++) {
        s->files[i] = (kwr_manifest_file){ .length = 400, .images = 2, .live_bytes = 100 };
        memset(s->files[i].header.bytes, 0xab, 16);
        memset(s->files[i].index.bytes, 0x01 + i, 16);
        memset(s->files[i].footer.bytes, 0xfe, 16);
    }
    s->files[0].name = "1-count-0-0.kwp";
    s->more_files[0] = s->files[1];
    s->more_files[0].offset = 400;
    for (uint32_t i = 0; i < 2; i++)
        s->counts[i] = (kwr_manifest_subtask){
            .index = i,
            .keyed = true,
            .key_groups = { i * 64, 64 },
            .format = "pages-1",
            .states = s->states,
            .state_count = 3,
            .files = i == 0 ? s->files : s->more_files,
            .file_count = i == 0 ? 2 : 1,
        };
    s->operators[0] = (kwr_manifest_operator){ .id = "source",
                                               .parallelism = 1,
                                               .max_parallelism = 128,
                                               .roles = 1 | 4,
                                               .subtasks = s->sources };
    s->operators[1] = (kwr_manifest_operator){ .id = "count",
                                               .parallelism = 2,
                                               .max_parallelism = 128,
                                               .roles = 2,
                                               .key_type = { KWR_TYPE_STRING },
                                               .subtasks = s->counts };
    s->manifest = (kwr_manifest){
        .job = "wordcount",
        .checkpoint = 3,
        .generation = 2,
        .parent_checkpoint = 2,
        .parent_generation = 1,
        .final = true,
        .triggered_ms = -5,
        .completed_ms = INT64_MIN,
        .seed = 0xfedcba9876543210,
        .max_parallelism = 128,
        .inline_length = 800,
        .operators = s->operators,
        .operator_count = 2,
    };
    memset(s->manifest.job_uid, 0x5a, 16);
}

static kwr_status parse(const kwr_env *env, const kwr_limits *limits, const void *data, size_t size,
                        kwr_error *err) {
    kwr_manifest *manifest = NULL;
    const kwr_status status =
        kwr_manifest_parse(env, limits, (kwr_slice){ data, size }, "manifest.json", &manifest, err);
    if (status >= KWR_OK) kwr_manifest_free(manifest);
    return status;
}

KWR_TEST(manifest, comes_back_as_it_was_written) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    sample s;
    fill_sample(&s);
    kwr_error err = { 0 };
    kwr_bytes text = { 0 }, again = { 0 };
    KWR_MUST_ERR(kwr_manifest_encode(f.env, &s.manifest, &text, &err), err);
    kwr_manifest *m = NULL;
    KWR_MUST_ERR(kwr_manifest_parse(f.env, NULL, (kwr_slice){ text.data, text.size },
                                    "manifest.json", &m, &err),
                 err);
    cr_assert_str_eq(m->job, "wordcount");
    cr_assert(m->seed == 0xfedcba9876543210 && m->final && m->triggered_ms == -5);
    cr_assert(m->completed_ms == INT64_MIN && m->parent_generation == 1);
    cr_assert(m->operator_count == 2 && m->operators[0].roles == 5);
    const kwr_manifest_subtask *source = &m->operators[0].subtasks[0];
    cr_assert(source->split_count == 2 && source->splits[0].position.size == 3);
    cr_assert(memcmp(source->splits[0].position.data, "\x00\xff\x10", 3) == 0);
    cr_assert(memcmp(source->splits[1].position.data, "a\0b", 3) == 0);
    cr_assert(source->committables[1].checkpoint == UINT64_MAX);
    const kwr_manifest_subtask *count = &m->operators[1].subtasks[0];
    cr_assert(kwr_type_same(&count->states[1].info.type, &s.states[1].info.type));
    cr_assert_str_eq(count->states[1].info.type.fields[1].type.fields[0].name, "x");
    cr_assert(count->states[1].entries == UINT64_MAX);
    cr_assert(count->states[2].info.user_key_type.kind == KWR_TYPE_STRING);
    cr_assert_str_eq(count->files[0].name, "1-count-0-0.kwp");
    cr_assert(count->files[1].name == NULL);
    cr_assert(m->operators[1].subtasks[1].files[0].offset == 400);
    KWR_MUST_ERR(kwr_manifest_encode(f.env, m, &again, &err), err);
    cr_assert(again.size == text.size && memcmp(again.data, text.data, text.size) == 0);
    kwr_bytes_free(&text);
    kwr_bytes_free(&again);
    kwr_manifest_free(m);
    fixture_close(&f);
}

KWR_TEST(manifest, no_flipped_byte_and_no_truncation_crashes_the_parser, .timeout = 300) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    sample s;
    fill_sample(&s);
    kwr_bytes text = { 0 };
    KWR_MUST(kwr_manifest_encode(f.env, &s.manifest, &text, NULL));
    kwr_error err = { 0 };
    const kwr_digest digest = kwr_digest_of(text.data, text.size);
    uint8_t *bytes = text.data;
    for (size_t i = 0; i < text.size; i++) {
        static const uint8_t masks[] = { 0x01, 0x02, 0x10, 0x20, 0x80, 0xff };
        for (size_t j = 0; j < sizeof masks; j++) {
            bytes[i] ^= masks[j];
            const kwr_digest now = kwr_digest_of(bytes, text.size);
            cr_assert(!kwr_digest_equal(&digest, &now));
            const kwr_status status = parse(f.env, NULL, bytes, text.size, &err);
            cr_assert(status == KWR_OK || status == KWR_ERR_CORRUPT || status == KWR_ERR_FORMAT,
                      "byte %zu: %s", i, kwr_status_name(status));
            bytes[i] ^= masks[j];
        }
    }
    for (size_t cut = 0; cut + 1 < text.size; cut++)
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT, parse(f.env, NULL, bytes, cut, &err), err);
    kwr_bytes_free(&text);
    fixture_close(&f);
}

typedef struct edit {
    const char *from, *to;
    kwr_status expected;
    const char *names; /* what the message must hold */
} edit;

static const edit edits[] = {
    { "\"version\": 1,", "\"version\": 2,", KWR_ERR_FORMAT, "version 2" },
    { "\"features\": []", "\"features\": [\"encrypted\"]", KWR_ERR_FORMAT, "encrypted" },
    { "\"optional\": []", "\"optional\": [\"notes\"], \"notes\": 1", KWR_OK, "" },
    { "\"optional\": []", "\"optional\": [], \"notes\": 1", KWR_ERR_CORRUPT, "notes" },
    { "\"optional\": []", "\"optional\": [7]", KWR_ERR_CORRUPT, "optional" },
    { "\"keyweir\": \"manifest\"", "\"keyweir\": \"subtask\"", KWR_ERR_CORRUPT, "keyweir" },
    { "\"checkpoint\": 3,", "\"checkpoint\": 3, \"checkpoint\": 3,", KWR_ERR_CORRUPT, "JSON" },
    { "\"checkpoint\": 3,", "", KWR_ERR_CORRUPT, "checkpoint is missing" },
    { "\"checkpoint\": 3,", "\"checkpoint\": \"3\",", KWR_ERR_CORRUPT, "checkpoint" },
    { "\"checkpoint\": 3,", "\"checkpoint\": 3.0,", KWR_ERR_CORRUPT, "checkpoint" },
    { "\"checkpoint\": 3,", "\"checkpoint\": 0,", KWR_ERR_CORRUPT, "checkpoint" },
    { "\"checkpoint\": 3,", "\"checkpoint\": -3,", KWR_ERR_CORRUPT, "checkpoint" },
    { "\"checkpoint\": 3,", "\"checkpoint\": 9223372036854775807,", KWR_ERR_CORRUPT, "checkpoint" },
    { "\"checkpoint\": 3,", "\"checkpoint\": 99999999999999999999,", KWR_ERR_CORRUPT, "JSON" },
    { "\"final\": true", "\"final\": 1", KWR_ERR_CORRUPT, "final" },
    { "\"seed\": \"fedc", "\"seed\": \"FEDC", KWR_ERR_CORRUPT, "seed" },
    { "\"xxh3-64\"", "\"murmur\"", KWR_ERR_CORRUPT, "key_groups" },
    { "\"job\": \"wordcount\"", "\"job\": \"../etc\"", KWR_ERR_CORRUPT, "job" },
    { "\"job\": \"wordcount\"", "\"job\": \".hidden\"", KWR_ERR_CORRUPT, "job" },
    { "\"id\": \"count\"", "\"id\": \"source\"", KWR_ERR_CORRUPT, "operators[1].id" },
    { "\"id\": \"count\"", "\"id\": \"a/b\"", KWR_ERR_CORRUPT, "operators[1].id" },
    { "\"name\": \"1-count-0-0.kwp\"", "\"name\": \"1-count-0-0.sst\"", KWR_ERR_CORRUPT, "name" },
    { "\"name\": \"1-count-0-0.kwp\"", "\"name\": \"..\"", KWR_ERR_CORRUPT, "files[0].name" },
    { "\"inline_offset\": 0", "\"inline_offset\": 1", KWR_ERR_CORRUPT, "inline_offset" },
    { "\"inline_offset\": 400", "\"inline_offset\": 0", KWR_ERR_CORRUPT, "inline_offset" },
    { "\"length\": 800", "\"length\": 801", KWR_ERR_CORRUPT, "inline" },
    { "\"first_key_group\": 64", "\"first_key_group\": 63", KWR_ERR_CORRUPT, "key groups" },
    { "\"key_groups\": 64", "\"key_groups\": 129", KWR_ERR_CORRUPT, "key_groups" },
    { "\"parallelism\": 2,", "\"parallelism\": 3,", KWR_ERR_CORRUPT, "subtasks" },
    { "\"parallelism\": 2,", "\"parallelism\": 40000,", KWR_ERR_CORRUPT, "parallelism" },
    { "[\"source\", \"sink\"]", "[\"sink\", \"source\"]", KWR_ERR_CORRUPT, "roles" },
    { "[\"source\", \"sink\"]", "[\"source\", \"source\"]", KWR_ERR_CORRUPT, "roles" },
    { "[\"source\", \"sink\"]", "[\"source\", \"keyed\"]", KWR_ERR_CORRUPT, "key_type" },
    { "[\"keyed\"]", "[]", KWR_ERR_CORRUPT, "key_type" },
    { "\"kind\": \"reducing\"", "\"kind\": \"reduce\"", KWR_ERR_CORRUPT, "kind" },
    { "\"kind\": \"map\"", "\"kind\": \"value\"", KWR_ERR_CORRUPT, "user_key_type" },
    { "\"name\": \"last seen\"", "\"name\": \"count\"", KWR_ERR_CORRUPT, "states" },
    { "{\"id\": 1, \"name\": \"last", "{\"id\": 2, \"name\": \"last", KWR_ERR_CORRUPT,
      "states[1]" },
    { "\"type\": \"i64\"", "\"type\": \"i63\"", KWR_ERR_CORRUPT, "type" },
    { "\"type\": \"i64\"", "\"type\": \"row\"", KWR_ERR_CORRUPT, "type" },
    { "\"type\": \"i64\"", "\"type\": {\"kind\": \"row\"}", KWR_ERR_CORRUPT, "fields" },
    { "{\"id\": 9,", "{\"id\": 2,", KWR_ERR_CORRUPT, "type" },
    { "\"position\": {\"base64\": \"AP8Q\"}", "\"position\": {\"base64\": \"AP8\"}",
      KWR_ERR_CORRUPT, "splits[0].position" },
    { "\"position\": {\"base64\": \"AP8Q\"}", "\"position\": {\"hex\": \"00\"}", KWR_ERR_CORRUPT,
      "splits[0].position" },
    { "\"position\": {\"base64\": \"AP8Q\"}", "\"position\": 7", KWR_ERR_CORRUPT,
      "splits[0].position" },
    { "\"keyed\": null", "\"keyed\": 0", KWR_ERR_CORRUPT, "keyed" },
};

/* The text with the first `from` replaced. */
static char *replaced(const char *text, size_t size, const char *from, const char *to,
                      size_t *new_size) {
    const char *at = strstr(text, from);
    cr_assert(at != NULL, "no '%s'", from);
    *new_size = size - strlen(from) + strlen(to);
    char *made = malloc(*new_size + 1);
    snprintf(made, *new_size + 1, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return made;
}

KWR_TEST(manifest, each_thing_that_is_not_as_specified_is_refused_by_name) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    sample s;
    fill_sample(&s);
    kwr_bytes text = { 0 };
    KWR_MUST(kwr_manifest_encode(f.env, &s.manifest, &text, NULL));
    char *plain = malloc(text.size + 1);
    memcpy(plain, text.data, text.size);
    plain[text.size] = '\0';
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        size_t size = 0;
        char *changed = replaced(plain, text.size, edits[i].from, edits[i].to, &size);
        kwr_error err = { 0 };
        const kwr_status status = parse(f.env, NULL, changed, size, &err);
        cr_assert(status == edits[i].expected, "%s for %s: %s %s", edits[i].to, edits[i].from,
                  kwr_status_name(status), err.text);
        cr_assert(strstr(err.text, edits[i].names) != NULL, "'%s' not in: %s", edits[i].names,
                  err.text);
        if (status < KWR_OK) cr_assert(strstr(err.text, "manifest.json") != NULL, "%s", err.text);
        free(changed);
    }
    free(plain);
    kwr_bytes_free(&text);
    fixture_close(&f);
}

KWR_TEST(manifest, counts_beyond_the_limits_are_refused) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    sample s;
    fill_sample(&s);
    kwr_bytes text = { 0 };
    kwr_error err = { 0 };
    KWR_MUST(kwr_manifest_encode(f.env, &s.manifest, &text, NULL));
    kwr_limits limits[] = { KWR_LIMITS_INIT, KWR_LIMITS_INIT, KWR_LIMITS_INIT, KWR_LIMITS_INIT,
                            KWR_LIMITS_INIT, KWR_LIMITS_INIT, KWR_LIMITS_INIT };
    limits[0].operators_max = 1;
    limits[1].files_max = 2;
    limits[2].states_max = 2;
    limits[3].split_bytes_max = 6;
    limits[4].committable_bytes_max = 5;
    limits[5].name_bytes_max = 8;
    limits[6].manifest_bytes_max = text.size - 1;
    for (size_t i = 0; i < 7; i++) {
        const kwr_status status = parse(f.env, &limits[i], text.data, text.size, &err);
        cr_assert(status == KWR_ERR_CORRUPT, "limit %zu: %s", i, kwr_status_name(status));
    }
    kwr_bytes_free(&text);
    fixture_close(&f);
}

KWR_TEST(manifest, rows_nest_to_the_limit_and_not_beyond) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    sample s;
    fill_sample(&s);
    kwr_bytes text = { 0 };
    KWR_MUST(kwr_manifest_encode(f.env, &s.manifest, &text, NULL));
    char *plain = malloc(text.size + 1);
    memcpy(plain, text.data, text.size);
    plain[text.size] = '\0';
    for (int depth = 1; depth < 200; depth += depth < 12 ? 1 : 60) {
        char *type = calloc(1, 20000);
        size_t at = (size_t)snprintf(type, 20000, "\"type\": ");
        for (int i = 0; i < depth; i++)
            at += (size_t)snprintf(type + at, 20000 - at,
                                   "{\"kind\": \"row\", \"fields\": "
                                   "[{\"id\": 1, \"name\": \"a\", \"type\": ");
        at += (size_t)snprintf(type + at, 20000 - at, "\"i64\"");
        for (int i = 0; i < depth; i++)
            at += (size_t)snprintf(type + at, 20000 - at, "}]}");
        size_t size = 0;
        char *changed = replaced(plain, text.size, "\"type\": \"i64\"", type, &size);
        kwr_error err = { 0 };
        const kwr_status status = parse(f.env, NULL, changed, size, &err);
        cr_assert(status == KWR_OK || status == KWR_ERR_CORRUPT);
        if (depth < KWR_TYPE_DEPTH_MAX - 1) cr_assert(status == KWR_OK, "%d: %s", depth, err.text);
        if (depth > KWR_TYPE_DEPTH_MAX) cr_assert(status == KWR_ERR_CORRUPT, "%d", depth);
        free(changed);
        free(type);
    }
    free(plain);
    kwr_bytes_free(&text);
    fixture_close(&f);
}

KWR_TEST(subtask_part, carries_its_inline_bytes_and_finds_every_damage) {
    fixture f;
    fixture_open(&f, KIND_MEMORY);
    sample s;
    fill_sample(&s);
    char inline_bytes[400];
    memset(inline_bytes, 'i', sizeof inline_bytes);
    const kwr_subtask_part part = {
        .subtask = s.counts[0],
        .key_type = { KWR_TYPE_STRING },
        .seed = 77,
        .engine_key_groups = true,
        .max_parallelism = 128,
        .inline_bytes = { inline_bytes, sizeof inline_bytes },
    };
    kwr_error err = { 0 };
    kwr_bytes bytes = { 0 };
    KWR_MUST_ERR(kwr_subtask_part_encode(f.env, &part, &bytes, &err), err);
    kwr_subtask_part *got = NULL;
    const kwr_slice all = { bytes.data, bytes.size };
    KWR_MUST_ERR(kwr_subtask_part_decode(f.env, NULL, all, "ack", &got, &err), err);
    cr_assert(got->seed == 77 && got->engine_key_groups && got->key_type.kind == KWR_TYPE_STRING);
    cr_assert(got->inline_bytes.size == 400 && got->subtask.file_count == 2);
    cr_assert(memcmp(got->inline_bytes.data, inline_bytes, 400) == 0);
    kwr_subtask_part_free(got);
    uint8_t *data = bytes.data;
    for (size_t i = 0; i < bytes.size; i++) {
        data[i] ^= 0x40;
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT,
                       kwr_subtask_part_decode(f.env, NULL, all, "ack", &got, &err), err);
        data[i] ^= 0x40;
        const kwr_slice cut = { data, i };
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT,
                       kwr_subtask_part_decode(f.env, NULL, cut, "ack", &got, &err), err);
    }
    kwr_bytes_free(&bytes);
    /* The same files where they are in a checkpoint, and not quite. */
    kwr_subtask_part elsewhere = part;
    elsewhere.inline_bytes.size = 0;
    elsewhere.inline_place = (kwr_inline_place){ .checkpoint = UINT64_MAX - 1,
                                                 .generation = 3,
                                                 .length = 1000,
                                                 .operator_id = "count",
                                                 .job_uid = { 1, 2, 3 } };
    KWR_MUST(kwr_subtask_part_encode(f.env, &elsewhere, &bytes, NULL));
    KWR_MUST_ERR(kwr_subtask_part_decode(f.env, NULL, (kwr_slice){ bytes.data, bytes.size }, "ack",
                                         &got, &err),
                 err);
    const kwr_inline_place *place = &got->inline_place;
    cr_assert(place->checkpoint == UINT64_MAX - 1 && place->generation == 3 &&
              place->length == 1000 && strcmp(place->operator_id, "count") == 0 &&
              memcmp(place->job_uid, elsewhere.inline_place.job_uid, 16) == 0);
    kwr_subtask_part_free(got);
    kwr_bytes_free(&bytes);
    for (int i = 0; i < 2; i++) {
        kwr_subtask_part wrong = elsewhere;
        if (i == 0) wrong.inline_place.length = 399;        /* a file leads beyond it */
        if (i == 1) wrong.inline_bytes = part.inline_bytes; /* here and elsewhere */
        KWR_MUST(kwr_subtask_part_encode(f.env, &wrong, &bytes, NULL));
        KWR_EXPECT_ERR(KWR_ERR_CORRUPT,
                       kwr_subtask_part_decode(f.env, NULL, (kwr_slice){ bytes.data, bytes.size },
                                               "ack", &got, &err),
                       err);
        kwr_bytes_free(&bytes);
    }
    /* Fewer inline bytes than its files have. */
    kwr_subtask_part lacking = part;
    lacking.inline_bytes.size = 399;
    KWR_MUST(kwr_subtask_part_encode(f.env, &lacking, &bytes, NULL));
    KWR_EXPECT_ERR(KWR_ERR_CORRUPT,
                   kwr_subtask_part_decode(f.env, NULL, (kwr_slice){ bytes.data, bytes.size },
                                           "ack", &got, &err),
                   err);
    kwr_bytes_free(&bytes);
    fixture_close(&f);
}
