/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program compiled earlier relies on: sizes and places of the fields of public structs, the
 * numbers of public values, the version. Structs grow only at their end, values are only appended:
 * a line here changes only by adding one, or with a new major version.
 */
#include <stdio.h>

#include "tests/support/kwr_test.h"

typedef struct layout_row {
    const char *what;
    size_t have, want;
} layout_row;

#define SIZE(type, want) \
    { "sizeof " #type, sizeof(type), want }
#define PLACE(type, field, want) \
    { #type "." #field, offsetof(type, field), want }
#define VALUE(name, want) \
    { #name, (size_t)(ptrdiff_t)(name), (size_t)(ptrdiff_t)(want) }

static void check_rows(const layout_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        cr_expect(rows[i].have == rows[i].want, "%s is %zd, programs expect %zd", rows[i].what,
                  (ssize_t)rows[i].have, (ssize_t)rows[i].want);
}

/* From meson.build. */
extern const char build_version[];

KWR_TEST(abi, structs_keep_their_layout) {
    static const layout_row rows[] = {
        SIZE(kwr_error, 1032),
        PLACE(kwr_error, status, 0),
        PLACE(kwr_error, sys_errno, 4),
        PLACE(kwr_error, text, 8),
        SIZE(kwr_slice, 16),
        PLACE(kwr_slice, data, 0),
        PLACE(kwr_slice, size, 8),
        SIZE(kwr_bytes, 24),
        PLACE(kwr_bytes, data, 0),
        PLACE(kwr_bytes, size, 8),
        PLACE(kwr_bytes, owner, 16),
        SIZE(kwr_type, 24),
        PLACE(kwr_type, kind, 0),
        PLACE(kwr_type, version, 4),
        PLACE(kwr_type, fields, 8),
        PLACE(kwr_type, field_count, 16),
        SIZE(kwr_field, 40),
        PLACE(kwr_field, id, 0),
        PLACE(kwr_field, name, 8),
        PLACE(kwr_field, type, 16),
        SIZE(kwr_limits, 128),
        PLACE(kwr_limits, struct_size, 0),
        PLACE(kwr_limits, key_bytes_max, 8),
        PLACE(kwr_limits, namespace_bytes_max, 16),
        PLACE(kwr_limits, value_bytes_max, 24),
        PLACE(kwr_limits, name_bytes_max, 32),
        PLACE(kwr_limits, states_max, 40),
        PLACE(kwr_limits, views_max, 44),
        PLACE(kwr_limits, batch_keys_max, 48),
        PLACE(kwr_limits, manifest_bytes_max, 56),
        PLACE(kwr_limits, slot_bytes_max, 64),
        PLACE(kwr_limits, message_bytes_max, 72),
        PLACE(kwr_limits, image_bytes_max, 80),
        PLACE(kwr_limits, index_bytes_max, 88),
        PLACE(kwr_limits, files_max, 96),
        PLACE(kwr_limits, operators_max, 100),
        PLACE(kwr_limits, committable_bytes_max, 104),
        PLACE(kwr_limits, split_bytes_max, 112),
        PLACE(kwr_limits, claim_attempts_max, 120),
        PLACE(kwr_limits, slots_max, 124),
        SIZE(kwr_resources_options, 40),
        PLACE(kwr_resources_options, struct_size, 0),
        PLACE(kwr_resources_options, memory_bytes_max, 8),
        PLACE(kwr_resources_options, recycle_bytes, 16),
        PLACE(kwr_resources_options, huge_pages_off, 24),
        PLACE(kwr_resources_options, rocksdb_memory_bytes, 32),
        SIZE(kwr_resources_stats, 88),
        PLACE(kwr_resources_stats, struct_size, 0),
        PLACE(kwr_resources_stats, mapped_bytes, 8),
        PLACE(kwr_resources_stats, mapped_bytes_peak, 16),
        PLACE(kwr_resources_stats, rocksdb_budget_bytes, 24),
        PLACE(kwr_resources_stats, rocksdb_used_bytes, 32),
        PLACE(kwr_resources_stats, rocksdb_used_bytes_peak, 40),
        PLACE(kwr_resources_stats, rocksdb_cache_bytes, 48),
        PLACE(kwr_resources_stats, rocksdb_pinned_bytes, 56),
        PLACE(kwr_resources_stats, rocksdb_memtable_bytes, 64),
        PLACE(kwr_resources_stats, rocksdb_table_reader_bytes, 72),
        PLACE(kwr_resources_stats, rocksdb_backends, 80),
        PLACE(kwr_resources_stats, rocksdb_backends_max, 84),
        SIZE(kwr_key_group_range, 8),
        PLACE(kwr_key_group_range, first, 0),
        PLACE(kwr_key_group_range, count, 4),
        SIZE(kwr_backend_options, 248),
        PLACE(kwr_backend_options, struct_size, 0),
        PLACE(kwr_backend_options, env, 8),
        PLACE(kwr_backend_options, resources, 16),
        PLACE(kwr_backend_options, engine, 24),
        PLACE(kwr_backend_options, max_parallelism, 32),
        PLACE(kwr_backend_options, key_groups, 36),
        PLACE(kwr_backend_options, seed, 48),
        PLACE(kwr_backend_options, engine_key_groups, 56),
        PLACE(kwr_backend_options, key_type, 64),
        PLACE(kwr_backend_options, limits, 88),
        SIZE(kwr_backend_stats, 136),
        PLACE(kwr_backend_stats, struct_size, 0),
        PLACE(kwr_backend_stats, entries, 8),
        PLACE(kwr_backend_stats, entry_bytes, 16),
        PLACE(kwr_backend_stats, used_bytes, 24),
        PLACE(kwr_backend_stats, frozen_bytes, 32),
        PLACE(kwr_backend_stats, mapped_bytes, 40),
        PLACE(kwr_backend_stats, pages, 48),
        PLACE(kwr_backend_stats, copies, 56),
        PLACE(kwr_backend_stats, splits, 64),
        PLACE(kwr_backend_stats, views, 72),
        PLACE(kwr_backend_stats, memtable_bytes, 80),
        PLACE(kwr_backend_stats, table_reader_bytes, 88),
        SIZE(kwr_value_descriptor, 80),
        PLACE(kwr_value_descriptor, struct_size, 0),
        PLACE(kwr_value_descriptor, name, 8),
        PLACE(kwr_value_descriptor, type, 16),
        PLACE(kwr_value_descriptor, namespace_type, 40),
        PLACE(kwr_value_descriptor, default_value, 64),
        SIZE(kwr_reducing_descriptor, 96),
        PLACE(kwr_reducing_descriptor, struct_size, 0),
        PLACE(kwr_reducing_descriptor, name, 8),
        PLACE(kwr_reducing_descriptor, type, 16),
        PLACE(kwr_reducing_descriptor, namespace_type, 40),
        PLACE(kwr_reducing_descriptor, reduce, 64),
        PLACE(kwr_reducing_descriptor, fn, 72),
        PLACE(kwr_reducing_descriptor, fn_ctx, 80),
        PLACE(kwr_reducing_descriptor, write_mostly, 88),
        SIZE(kwr_timers_descriptor, 40),
        PLACE(kwr_timers_descriptor, struct_size, 0),
        PLACE(kwr_timers_descriptor, name, 8),
        PLACE(kwr_timers_descriptor, namespace_type, 16),
        SIZE(kwr_timer, 48),
        PLACE(kwr_timer, time_ms, 0),
        PLACE(kwr_timer, key_group, 8),
        PLACE(kwr_timer, key, 16),
        PLACE(kwr_timer, name, 32),
        SIZE(kwr_raw_descriptor, 16),
        PLACE(kwr_raw_descriptor, struct_size, 0),
        PLACE(kwr_raw_descriptor, name, 8),
        SIZE(kwr_state_size, 32),
        PLACE(kwr_state_size, struct_size, 0),
        PLACE(kwr_state_size, entries, 8),
        PLACE(kwr_state_size, elements, 16),
        PLACE(kwr_state_size, bytes, 24),
        SIZE(kwr_view_state, 96),
        PLACE(kwr_view_state, struct_size, 0),
        PLACE(kwr_view_state, name, 8),
        PLACE(kwr_view_state, kind, 16),
        PLACE(kwr_view_state, type, 24),
        PLACE(kwr_view_state, namespace_type, 48),
        PLACE(kwr_view_state, user_key_type, 72),
        SIZE(kwr_view_entry, 72),
        PLACE(kwr_view_entry, key_group, 0),
        PLACE(kwr_view_entry, key, 8),
        PLACE(kwr_view_entry, name, 24),
        PLACE(kwr_view_entry, subkey, 40),
        PLACE(kwr_view_entry, value, 56),
        SIZE(kwr_aggregating_descriptor, 152),
        PLACE(kwr_aggregating_descriptor, struct_size, 0),
        PLACE(kwr_aggregating_descriptor, name, 8),
        PLACE(kwr_aggregating_descriptor, type, 16),
        PLACE(kwr_aggregating_descriptor, namespace_type, 40),
        PLACE(kwr_aggregating_descriptor, input_type, 64),
        PLACE(kwr_aggregating_descriptor, result_type, 88),
        PLACE(kwr_aggregating_descriptor, create, 112),
        PLACE(kwr_aggregating_descriptor, add, 120),
        PLACE(kwr_aggregating_descriptor, merge, 128),
        PLACE(kwr_aggregating_descriptor, result, 136),
        PLACE(kwr_aggregating_descriptor, fn_ctx, 144),
        SIZE(kwr_list_descriptor, 64),
        PLACE(kwr_list_descriptor, struct_size, 0),
        PLACE(kwr_list_descriptor, name, 8),
        PLACE(kwr_list_descriptor, type, 16),
        PLACE(kwr_list_descriptor, namespace_type, 40),
        SIZE(kwr_map_descriptor, 88),
        PLACE(kwr_map_descriptor, struct_size, 0),
        PLACE(kwr_map_descriptor, name, 8),
        PLACE(kwr_map_descriptor, user_key_type, 16),
        PLACE(kwr_map_descriptor, type, 40),
        PLACE(kwr_map_descriptor, namespace_type, 64),
        SIZE(kwr_row, 1072),
        PLACE(kwr_row, type, 0),
        PLACE(kwr_row, data, 8),
        PLACE(kwr_row, capacity, 16),
        PLACE(kwr_row, size, 24),
        PLACE(kwr_row, last, 32),
        PLACE(kwr_row, count, 36),
        PLACE(kwr_row, error, 40),
        SIZE(kwr_watermark_generator, 16),
        PLACE(kwr_watermark_generator, largest_ms, 0),
        PLACE(kwr_watermark_generator, delay_ms, 8),
        SIZE(kwr_watermark, 16),
        PLACE(kwr_watermark, time_ms, 0),
        PLACE(kwr_watermark, idle, 8),
        SIZE(kwr_watermark_step, 24),
        PLACE(kwr_watermark_step, broadcast, 0),
        PLACE(kwr_watermark_step, advanced, 1),
        PLACE(kwr_watermark_step, watermark, 8),
    };
    check_rows(rows, sizeof rows / sizeof rows[0]);
}

KWR_TEST(abi, values_keep_their_numbers) {
    static const layout_row rows[] = {
        VALUE(KWR_NOT_FOUND, 1),         VALUE(KWR_OK, 0),
        VALUE(KWR_ERR_BUSY, -1),         VALUE(KWR_ERR_IO, -2),
        VALUE(KWR_ERR_NOSPACE, -3),      VALUE(KWR_ERR_NOMEM, -4),
        VALUE(KWR_ERR_TIMEOUT, -5),      VALUE(KWR_ERR_NOT_RESIDENT, -6),
        VALUE(KWR_ERR_CANCELLED, -20),   VALUE(KWR_ERR_DECLINED, -21),
        VALUE(KWR_ERR_CORRUPT, -40),     VALUE(KWR_ERR_FORMAT, -41),
        VALUE(KWR_ERR_MISSING, -42),     VALUE(KWR_ERR_FENCED, -43),
        VALUE(KWR_ERR_UNKNOWN, -44),     VALUE(KWR_ERR_POISONED, -45),
        VALUE(KWR_ERR_LOCKED, -46),      VALUE(KWR_ERR_REFUSED, -47),
        VALUE(KWR_ERR_MISUSE, -60),      VALUE(KWR_ERR_RANGE, -61),
        VALUE(KWR_ERR_UNSUPPORTED, -62), VALUE(KWR_ERR_MISMATCH, -63),
        VALUE(KWR_ERR_EXISTS, -64),      VALUE(KWR_TYPE_BYTES, 0),
        VALUE(KWR_TYPE_BOOL, 1),         VALUE(KWR_TYPE_I32, 2),
        VALUE(KWR_TYPE_I64, 3),          VALUE(KWR_TYPE_U64, 4),
        VALUE(KWR_TYPE_F64, 5),          VALUE(KWR_TYPE_STRING, 6),
        VALUE(KWR_TYPE_ROW, 7),          VALUE(KWR_TYPE_OPAQUE, 8),
        VALUE(KWR_REDUCE_CUSTOM, 0),     VALUE(KWR_REDUCE_SUM, 1),
        VALUE(KWR_REDUCE_MIN, 2),        VALUE(KWR_REDUCE_MAX, 3),
    };
    check_rows(rows, sizeof rows / sizeof rows[0]);
}

KWR_TEST(abi, the_library_that_runs_tells_the_version_of_its_headers) {
    char text[32];
    (void)snprintf(text, sizeof text, "%d.%d.%d", KWR_VERSION_MAJOR, KWR_VERSION_MINOR,
                   KWR_VERSION_PATCH);
    cr_assert_str_eq(kwr_version(), text);
    cr_assert_str_eq(kwr_version(), build_version, "meson.build has another version");
}
