/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job on the engine rocksdb that is restored at another parallelism again and again, from the
 * engine's own files, through the public calls alone: state of every kind, states that not every
 * subtask has, changes and increments in between.
 */
#include "tests/snapshot/fixture.h"

enum { GROUPS = 16, KEYS = 240, PARTS_MAX = 5 };

static const uint8_t uid[16] = { 3 };

/* What the job should hold: how often each key was changed, from which all else follows. */
typedef struct job {
    fixture f;
    char parent[256];
    unsigned directories;
    uint64_t checkpoint;
    unsigned changed[KEYS];
    unsigned raw_changed[GROUPS];
    size_t count;
    kwr_backend *parts[PARTS_MAX];
    kwr_key_group_range ranges[PARTS_MAX];
    kwr_lineage *lineages[PARTS_MAX];
    kwr_bytes handles[PARTS_MAX];
} job;

typedef struct states {
    kwr_value *value;
    kwr_reducing *sum;
    kwr_list *list;
    kwr_map *map;
    kwr_raw *raw;
} states;

enum { VALUE = 1, SUM = 2, LIST = 4, MAP = 8, RAW = 16, ALL = 31 };

static kwr_backend_options options_of(job *j, kwr_key_group_range range, char path[300]) {
    snprintf(path, 300, "%s/db-%u", j->parent, j->directories++);
    return (kwr_backend_options){ .struct_size = sizeof(kwr_backend_options),
                                  .env = j->f.env,
                                  .engine = "rocksdb",
                                  .max_parallelism = GROUPS,
                                  .seed = 11,
                                  .key_groups = range,
                                  .directory = path };
}

/* Opens those in `which`, in an order that `turn` chooses; all of a restored one exist already. */
static states open_states(kwr_backend *b, unsigned which, unsigned turn) {
    states s = { 0 };
    kwr_error err = { 0 };
    for (unsigned i = 0; i < 5; i++) {
        const unsigned state = 1u << ((i + turn) % 5);
        if ((which & state) == 0) continue;
        if (state == VALUE) {
            const kwr_value_descriptor d = { .struct_size = sizeof d, .name = "value" };
            KWR_MUST_ERR(kwr_value_open(b, &d, &s.value, &err), err);
        } else if (state == SUM) {
            const kwr_reducing_descriptor d = { .struct_size = sizeof d,
                                                .name = "sum",
                                                .type = { .kind = KWR_TYPE_I64 },
                                                .reduce = KWR_REDUCE_SUM };
            KWR_MUST_ERR(kwr_reducing_open(b, &d, &s.sum, &err), err);
        } else if (state == LIST) {
            const kwr_list_descriptor d = { .struct_size = sizeof d, .name = "list" };
            KWR_MUST_ERR(kwr_list_open(b, &d, &s.list, &err), err);
        } else if (state == MAP) {
            const kwr_map_descriptor d = { .struct_size = sizeof d, .name = "map" };
            KWR_MUST_ERR(kwr_map_open(b, &d, &s.map, &err), err);
        } else {
            const kwr_raw_descriptor d = { .struct_size = sizeof d, .name = "raw" };
            KWR_MUST_ERR(kwr_raw_open(b, &d, &s.raw, &err), err);
        }
    }
    return s;
}

static kwr_slice text(char out[40], const char *what, unsigned a, unsigned b) {
    return (kwr_slice){ out, (size_t)snprintf(out, 40, "%s-%u-%u", what, a, b) };
}

static bool owns(const job *j, size_t part, uint32_t group) {
    return group - j->ranges[part].first < j->ranges[part].count;
}

static uint32_t group_of(unsigned key) {
    char bytes[40];
    return kwr_key_group(text(bytes, "key", key, 0), 11, GROUPS);
}

/* ---- changes ---- */

/* The n-th change of a key: a new value, one more in the sum and the list, one user key put and an
 * older one removed. */
static void change_key(const states *s, unsigned key, unsigned n) {
    char a[40], b[40];
    const int64_t one = 1;
    KWR_MUST(kwr_value_put(s->value, text(a, "value", key, n)));
    KWR_MUST(kwr_reducing_add(s->sum, KWR_SLICE_OF(one), NULL));
    KWR_MUST(kwr_list_set_namespace(s->list, text(a, "window", key % 3, 0)));
    KWR_MUST(kwr_list_add(s->list, text(b, "element", key, n)));
    KWR_MUST(kwr_map_put(s->map, text(a, "user", n, 0), text(b, "mapped", key, n)));
    if (n >= 3) KWR_MUST(kwr_map_remove(s->map, text(a, "user", n - 3, 0)));
}

static void change(job *j, size_t part, unsigned turn) {
    const states s = open_states(j->parts[part], ALL, turn);
    char bytes[40];
    for (unsigned key = 0; key < KEYS; key++) {
        if (!owns(j, part, group_of(key)) || (key * 7 + turn) % 3 == 0) continue;
        KWR_MUST(kwr_backend_set_key(j->parts[part], text(bytes, "key", key, 0)));
        change_key(&s, key, j->changed[key]++);
    }
    for (uint32_t group = 0; group < GROUPS; group++)
        if (owns(j, part, group) && (group + turn) % 2 == 0)
            KWR_MUST(kwr_raw_put(s.raw, group, text(bytes, "raw", group, ++j->raw_changed[group])));
}

/* ---- checks ---- */

static void expect(kwr_slice got, kwr_slice want) {
    cr_assert(got.size == want.size && memcmp(got.data, want.data, want.size) == 0,
              "'%.*s' instead of '%.*s'", (int)got.size, (const char *)got.data, (int)want.size,
              (const char *)want.data);
}

static void check_list(kwr_list *list, unsigned key, unsigned n) {
    char bytes[40];
    kwr_list_iterator *it;
    kwr_slice got;
    KWR_MUST(kwr_list_set_namespace(list, text(bytes, "window", key % 3, 0)));
    KWR_MUST(kwr_list_iterate(list, &it));
    for (unsigned i = 0; i < n; i++) {
        KWR_MUST(kwr_list_iterator_next(it, &got));
        expect(got, text(bytes, "element", key, i));
    }
    KWR_EXPECT(KWR_NOT_FOUND, kwr_list_iterator_next(it, &got));
    kwr_list_iterator_free(it);
}

static void check_key(const states *s, unsigned key, unsigned n) {
    char a[40], b[40];
    kwr_slice got;
    KWR_EXPECT(n == 0 ? KWR_NOT_FOUND : KWR_OK, kwr_value_get(s->value, &got));
    if (n > 0) expect(got, text(a, "value", key, n - 1));
    KWR_EXPECT(n == 0 ? KWR_NOT_FOUND : KWR_OK, kwr_reducing_get(s->sum, &got));
    const int64_t sum = n;
    if (n > 0) expect(got, KWR_SLICE_OF(sum));
    check_list(s->list, key, n);
    uint64_t count;
    KWR_MUST(kwr_map_count(s->map, &count));
    cr_assert(count == (n < 3 ? n : 3), "%llu user keys", (unsigned long long)count);
    for (unsigned i = n < 3 ? 0 : n - 3; i < n; i++) {
        KWR_MUST(kwr_map_get(s->map, text(a, "user", i, 0), &got));
        expect(got, text(b, "mapped", key, i));
    }
}

static unsigned check(job *j, size_t part, unsigned turn) {
    const states s = open_states(j->parts[part], ALL, turn);
    char bytes[40];
    unsigned held = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        if (!owns(j, part, group_of(key))) continue;
        KWR_MUST(kwr_backend_set_key(j->parts[part], text(bytes, "key", key, 0)));
        check_key(&s, key, j->changed[key]);
        held++;
    }
    for (uint32_t group = 0; group < GROUPS; group++) {
        kwr_slice got;
        const unsigned n = j->raw_changed[group];
        if (!owns(j, part, group)) continue;
        KWR_EXPECT(n == 0 ? KWR_NOT_FOUND : KWR_OK, kwr_raw_get(s.raw, group, &got));
        if (n > 0) expect(got, text(bytes, "raw", group, n));
    }
    return held;
}

/* No keys but those: a look at every entry of the state. */
static void check_size(job *j, size_t part, unsigned turn) {
    const states s = open_states(j->parts[part], ALL, turn);
    unsigned want = 0;
    for (unsigned key = 0; key < KEYS; key++)
        want += owns(j, part, group_of(key)) && j->changed[key] > 0;
    kwr_state_size size = { .struct_size = sizeof size };
    KWR_MUST(kwr_state_get_size(kwr_value_state(s.value), &size));
    cr_assert(size.entries == want, "%llu entries instead of %u", (unsigned long long)size.entries,
              want);
    KWR_MUST(kwr_state_get_size(kwr_map_state(s.map), &size));
    cr_assert(size.entries == want);
}

/* ---- checkpoints and restores ---- */

static void take_checkpoint(job *j, uint64_t *written, uint64_t *used) {
    kwr_error err = { 0 };
    j->checkpoint++;
    *written = *used = 0;
    for (size_t i = 0; i < j->count; i++) {
        kwr_view *view;
        kwr_snapshot_result result;
        kwr_snapshot_target target = { .struct_size = sizeof target,
                                       .env = j->f.env,
                                       .storage = j->f.storage,
                                       .job = "job",
                                       .operator_id = "op",
                                       .subtask = (uint32_t)i,
                                       .generation = j->checkpoint,
                                       .checkpoint = j->checkpoint,
                                       .lineage = j->lineages[i] };
        memcpy(target.job_uid, uid, sizeof uid);
        KWR_MUST(kwr_backend_freeze_files(j->parts[i], &view));
        KWR_MUST_ERR(kwr_snapshot_write(view, &target, NULL, &result, &err), err);
        kwr_view_release(view);
        kwr_lineage_confirm(j->lineages[i], j->checkpoint);
        kwr_bytes_free(&j->handles[i]);
        j->handles[i] = result.handle;
        *written += result.bytes_written;
        *used += result.bytes_used;
    }
}

static void close_parts(job *j) {
    for (size_t i = 0; i < j->count; i++) {
        kwr_backend_close(j->parts[i]);
        kwr_lineage_free(j->lineages[i]);
        j->lineages[i] = NULL;
    }
}

/* What a subtask of the new job needs, and no more; in the order of `turn`. */
static void restore_parts(job *j, size_t count, unsigned turn) {
    kwr_slice handles[PARTS_MAX];
    const size_t old = j->count;
    for (size_t i = 0; i < old; i++)
        handles[(i + turn) % old] = (kwr_slice){ j->handles[i].data, j->handles[i].size };
    close_parts(j);
    j->count = count;
    for (size_t i = 0; i < count; i++) {
        char path[300];
        kwr_error err = { 0 };
        j->ranges[i] = kwr_key_groups_of((uint32_t)i, (uint32_t)count, GROUPS);
        KWR_MUST_ERR(kwr_lineage_new(j->f.env, uid, "op", &j->lineages[i], &err), err);
        const kwr_backend_options options = options_of(j, j->ranges[i], path);
        KWR_MUST_ERR(kwr_snapshot_resume(&options, j->f.storage, "job", handles, old,
                                         j->lineages[i], &j->parts[i], &err),
                     err);
    }
}

static void check_all(job *j, unsigned turn) {
    unsigned held = 0;
    for (size_t i = 0; i < j->count; i++) {
        check_size(j, i, turn + (unsigned)i);
        held += check(j, i, turn + (unsigned)i);
    }
    cr_assert(held == KEYS);
}

static void start(job *j, size_t count) {
    *j = (job){ .count = count };
    fixture_open(&j->f, KIND_FILE);
    make_temp_dir(j->parent, sizeof j->parent);
    for (size_t i = 0; i < count; i++) {
        char path[300];
        kwr_error err = { 0 };
        j->ranges[i] = kwr_key_groups_of((uint32_t)i, (uint32_t)count, GROUPS);
        const kwr_backend_options options = options_of(j, j->ranges[i], path);
        KWR_MUST_ERR(kwr_backend_open(&options, &j->parts[i], &err), err);
        KWR_MUST_ERR(kwr_lineage_new(j->f.env, uid, "op", &j->lineages[i], &err), err);
    }
}

static void finish(job *j) {
    close_parts(j);
    for (size_t i = 0; i < PARTS_MAX; i++)
        kwr_bytes_free(&j->handles[i]);
    kwr_test_remove_tree(j->parent);
    fixture_close(&j->f);
}

/* ---- tests ---- */

KWR_TEST(rescale, a_job_goes_on_at_any_parallelism_from_files) {
    static const size_t counts[] = { 2, 3, 2, 5, 1, 4, 4, 3 };
    job j;
    uint64_t written, used;
    start(&j, counts[0]);
    for (unsigned turn = 0; turn < sizeof counts / sizeof counts[0]; turn++) {
        if (turn > 0) restore_parts(&j, counts[turn], turn);
        check_all(&j, turn);
        for (size_t i = 0; i < j.count; i++)
            change(&j, i, turn + (unsigned)i); /* states are first opened in different orders */
        take_checkpoint(&j, &written, &used);
        check_all(&j, turn);
    }
    finish(&j);
}

KWR_TEST(rescale, what_a_rescaled_subtask_took_over_is_not_written_again) {
    job j;
    uint64_t written, used;
    start(&j, 2);
    for (size_t i = 0; i < 2; i++)
        for (unsigned turn = 0; turn < 12; turn++)
            change(&j, i, turn);
    take_checkpoint(&j, &written, &used);
    restore_parts(&j, 3, 0);
    const uint64_t whole = used;
    take_checkpoint(&j, &written, &used);
    /* Subtasks 0 and 2 hold one donor each, as files; 1 holds one, and loaded the other's part. */
    cr_assert(used >= whole / 2, "%llu of %llu", (unsigned long long)used,
              (unsigned long long)whole);
    cr_assert(written < used, "%llu of %llu", (unsigned long long)written,
              (unsigned long long)used);
    restore_parts(&j, 2, 0);
    check_all(&j, 0);
    finish(&j);
}

/* A state that only one subtask ever opened is there for all whose key groups it held. */
KWR_TEST(rescale, states_that_some_subtasks_lack) {
    char bytes[40];
    job j;
    uint64_t written, used;
    start(&j, 2);
    const states first = open_states(j.parts[0], VALUE | MAP, 0);
    const states second = open_states(j.parts[1], LIST | VALUE, 2);
    for (unsigned key = 0; key < KEYS; key++) {
        const size_t part = owns(&j, 0, group_of(key)) ? 0 : 1;
        const kwr_slice name = text(bytes, "key", key, 0);
        KWR_MUST(kwr_backend_set_key(j.parts[part], name));
        KWR_MUST(kwr_value_put(part == 0 ? first.value : second.value, name));
        if (part == 0)
            KWR_MUST(kwr_map_put(first.map, name, name));
        else
            KWR_MUST(kwr_list_add(second.list, name));
    }
    take_checkpoint(&j, &written, &used);
    restore_parts(&j, 1, 1);
    const states all = open_states(j.parts[0], ALL, 3);
    for (unsigned key = 0; key < KEYS; key++) {
        const bool low = group_of(key) < GROUPS / 2;
        const kwr_slice name = text(bytes, "key", key, 0);
        kwr_slice got;
        uint64_t count;
        KWR_MUST(kwr_backend_set_key(j.parts[0], name));
        KWR_MUST(kwr_value_get(all.value, &got));
        expect(got, name);
        KWR_EXPECT(low ? KWR_OK : KWR_NOT_FOUND, kwr_map_get(all.map, name, &got));
        KWR_MUST(kwr_list_count(all.list, &count));
        cr_assert(count == !low);
        KWR_EXPECT(KWR_NOT_FOUND, kwr_reducing_get(all.sum, &got));
    }
    finish(&j);
}
