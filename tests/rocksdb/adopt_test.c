/* SPDX-License-Identifier: Apache-2.0 */
/* Rescaling by files: engines out of the directories of other engines, against a model. */
#include <sys/stat.h>

#include "tests/rocksdb/adopt_model.h"

enum { PARTS_MAX = 5 };

static const uint32_t in_order[MODEL_STATES] = { 0, 1, 2, 3, 4, 5 };

static void shuffle(uint32_t order[MODEL_STATES], rng *r) {
    memcpy(order, in_order, sizeof in_order);
    for (uint32_t i = MODEL_STATES - 1; i > 0; i--) {
        const uint32_t j = rng_below(r, i + 1), other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
}

/* ---- a restore, as the rooms above do it ---- */

typedef struct donor_spec {
    char path[256];
    uint32_t states[MODEL_STATES];
} donor_spec;

static kwr_key_group_range common(kwr_key_group_range a, kwr_key_group_range b) {
    const uint32_t first = a.first > b.first ? a.first : b.first;
    const uint32_t a_end = a.first + a.count, b_end = b.first + b.count;
    const uint32_t end = a_end < b_end ? a_end : b_end;
    return (kwr_key_group_range){ first, first < end ? end - first : 0 };
}

/* The states' order in the new engine: those of `first`, then what it lacks. */
static size_t union_of(const instance *donors, size_t count, size_t first,
                       uint32_t order[MODEL_STATES]) {
    size_t states = 0;
    for (size_t i = 0; i < count; i++) {
        const instance *donor = &donors[(first + i) % count];
        for (uint32_t id = 0; id < donor->state_count; id++) {
            uint32_t state = 0;
            while (donor->ids[state] != id)
                state++;
            bool known = false;
            for (size_t j = 0; j < states; j++)
                known |= order[j] == state;
            if (!known) order[states++] = state;
        }
    }
    return states;
}

/* Adopts copies of those of `donors` that hold some of `range` into *out. */
static void rescale(instance *donors, size_t count, uint32_t groups, kwr_key_group_range range,
                    bool largest_first, instance *out) {
    size_t first = 0, used = 0;
    for (size_t i = 0; i < count && largest_first; i++)
        if (common(donors[i].range, range).count > common(donors[first].range, range).count)
            first = i;
    uint32_t order[MODEL_STATES];
    const size_t states = union_of(donors, count, first, order);
    instance_open_to_adopt(out, kwr_test_env(), groups, range, order, states);
    donor_spec specs[PARTS_MAX];
    kwr_engine_donor list[PARTS_MAX];
    for (size_t i = 0; i < count; i++) {
        instance *donor = &donors[i];
        if (common(donor->range, range).count == 0) continue;
        donor_spec *spec = &specs[used];
        instance_copy(donor, spec->path);
        for (uint32_t state = 0; state < MODEL_STATES; state++)
            if (donor->ids[state] != UINT32_MAX) spec->states[donor->ids[state]] = out->ids[state];
        list[used++] = (kwr_engine_donor){ .directory = spec->path,
                                           .key_groups = donor->range,
                                           .states = spec->states,
                                           .state_count = donor->state_count };
    }
    kwr_error err;
    KWR_MUST_ERR(kwr_rocks_adopt(out->engine, list, used, &err), err);
    struct stat gone;
    for (size_t i = 0; i < used; i++)
        cr_assert(stat(specs[i].path, &gone) != 0, "%s is left", specs[i].path);
}

/* ---- every change of parallelism ---- */

static void open_parts(model *m, instance *parts, uint32_t count, bool shuffled, rng *r) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t order[MODEL_STATES];
        memcpy(order, in_order, sizeof order);
        if (shuffled) shuffle(order, r);
        /* Some have not opened all of their states yet. */
        const size_t states = shuffled ? 1 + rng_below(r, MODEL_STATES) : MODEL_STATES;
        instance_open(&parts[i], kwr_test_env(), m->groups, kwr_key_groups_of(i, count, m->groups),
                      order, states);
        model_change(m, &parts[i], r, 4000 / count);
    }
}

static void from_to(const model *m, instance *donors, uint32_t from, uint32_t to, bool largest) {
    for (uint32_t i = 0; i < to; i++) {
        instance now;
        rescale(donors, from, m->groups, kwr_key_groups_of(i, to, m->groups), largest, &now);
        model_check_only(m, &now);
        instance_close(&now);
    }
}

/* From every parallelism in `parts` to every other, as bits. */
static void every_change(uint32_t groups, unsigned parts, bool shuffled, bool largest) {
    rng r = { groups };
    model *m = malloc(sizeof *m);
    cr_assert(m != NULL);
    for (uint32_t from = 1; from <= PARTS_MAX; from++) {
        if ((parts >> from & 1) == 0) continue;
        memset(m, 0, sizeof *m);
        m->groups = groups;
        instance donors[PARTS_MAX];
        open_parts(m, donors, from, shuffled, &r);
        for (uint32_t to = 1; to <= PARTS_MAX; to++)
            if ((parts >> to & 1) != 0) from_to(m, donors, from, to, largest);
        for (uint32_t i = 0; i < from; i++) {
            model_check(m, &donors[i]); /* lending their files has changed nothing */
            instance_close(&donors[i]);
        }
    }
    free(m);
}

enum { ALL = 0x3e, SOME = 1 << 2 | 1 << 3 };

KWR_TEST(adopt, every_change_of_parallelism_among_5_key_groups) {
    every_change(5, ALL, false, true);
}
KWR_TEST(adopt, every_change_of_parallelism_among_16_key_groups) {
    every_change(16, ALL, false, true);
}
KWR_TEST(adopt, every_change_of_parallelism_among_128_key_groups) {
    every_change(128, ALL, false, true);
}
KWR_TEST(adopt, donors_with_other_states_in_other_orders) { every_change(16, SOME, true, true); }
KWR_TEST(adopt, donors_none_of_which_has_our_state_ids) { every_change(16, SOME, true, false); }

/* ---- one after the other ---- */

/* What one rescale left over in a file must not come back at a later one. */
KWR_TEST(adopt, rescaled_again_and_again_with_changes_in_between) {
    static const uint32_t counts[] = { 3, 2, 5, 1, 4, 3, 4, 2, 1, 5, 2, 3 };
    rng r = { 6 };
    model *m = calloc(1, sizeof *m);
    cr_assert(m != NULL);
    m->groups = 16;
    instance parts[PARTS_MAX], next[PARTS_MAX];
    open_parts(m, parts, counts[0], false, &r);
    for (size_t step = 1; step < sizeof counts / sizeof counts[0]; step++) {
        for (uint32_t i = 0; i < counts[step]; i++)
            rescale(parts, counts[step - 1], m->groups,
                    kwr_key_groups_of(i, counts[step], m->groups), true, &next[i]);
        for (uint32_t i = 0; i < counts[step - 1]; i++)
            instance_close(&parts[i]);
        for (uint32_t i = 0; i < counts[step]; i++) {
            parts[i] = next[i];
            model_check(m, &parts[i]);
            model_change(m, &parts[i], &r, 1500);
            model_check(m, &parts[i]);
        }
    }
    for (uint32_t i = 0; i < counts[sizeof counts / sizeof counts[0] - 1]; i++)
        instance_close(&parts[i]);
    free(m);
}

/* ---- what is clipped ---- */

enum { MANY = 60000 };

static void put_many(instance *in, uint32_t groups, uint32_t from, uint32_t to) {
    char key[16], value[64];
    memset(value, 'v', sizeof value);
    for (uint32_t i = from; i < to; i++) {
        const kwr_address at = { .key_group = i % groups,
                                 .key = { key, (size_t)snprintf(key, 16, "%u", i) } };
        memcpy(value, &i, sizeof i);
        if (at.key_group - in->range.first < in->range.count)
            KWR_MUST(kwr_rocksdb_engine.put(in->engine, &at, (kwr_slice){ value, 64 }));
    }
    KWR_MUST(kwr_rocks_gathered_write(in->engine, &in->engine->states[0]));
}

static uint64_t estimated(const instance *in) {
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_rocksdb_engine.stats(in->engine, &stats);
    return stats.entries;
}

static unsigned table_files(const instance *in) {
    const rocksdb_livefiles_t *files = rocksdb_livefiles(in->engine->db->db);
    const unsigned count = (unsigned)rocksdb_livefiles_count(files);
    rocksdb_livefiles_destroy(files);
    return count;
}

KWR_TEST(adopt, statistics_do_not_count_what_others_own) {
    instance whole, part;
    instance_open(&whole, kwr_test_env(), 16, (kwr_key_group_range){ 0, 16 }, in_order, 1);
    put_many(&whole, 16, 0, MANY);
    rescale(&whole, 1, 16, (kwr_key_group_range){ 4, 4 }, true, &part);
    const uint64_t want = MANY / 4, got = estimated(&part);
    cr_assert(got > want * 8 / 10 && got < want * 12 / 10, "%llu entries, expected about %llu",
              (unsigned long long)got, (unsigned long long)want);
    /* Cleared away by a compaction, the estimate stays. */
    rocksdb_compact_range_cf(part.engine->db->db, part.engine->states[0].family, NULL, 0, NULL, 0);
    const uint64_t after = estimated(&part);
    cr_assert(after > want * 8 / 10 && after < want * 12 / 10, "%llu entries, expected about %llu",
              (unsigned long long)after, (unsigned long long)want);
    instance_close(&part);
    instance_close(&whole);
}

KWR_TEST(adopt, files_of_others_alone_are_dropped_as_files) {
    instance whole, part;
    instance_open(&whole, kwr_test_env(), 16, (kwr_key_group_range){ 0, 16 }, in_order, 1);
    for (uint32_t group = 0; group < 16; group += 4) { /* four files */
        whole.range = (kwr_key_group_range){ group, 4 };
        put_many(&whole, 16, 0, MANY / 8);
        rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
        rocksdb_compactoptions_set_change_level(options, 1);
        rocksdb_compactoptions_set_target_level(options, 1);
        const char low[2] = { 0, (char)group }, high[2] = { 0, (char)(group + 4) };
        rocksdb_compact_range_cf_opt(whole.engine->db->db, whole.engine->states[0].family, options,
                                     low, 2, high, 2);
        rocksdb_compactoptions_destroy(options);
    }
    whole.range = (kwr_key_group_range){ 0, 16 };
    cr_assert(table_files(&whole) == 4, "%u files", table_files(&whole));
    rescale(&whole, 1, 16, (kwr_key_group_range){ 4, 4 }, true, &part);
    cr_assert(table_files(&part) == 1, "%u files", table_files(&part));
    cr_assert(!part.engine->states[0].clipped);
    instance_close(&part);
    instance_close(&whole);
}

/* Loaded tables lie at the bottom: nothing has to be merged with them. */
KWR_TEST(adopt, tables_loaded_from_other_donors_need_no_compaction) {
    instance parts[2], whole;
    for (uint32_t i = 0; i < 2; i++) {
        instance_open(&parts[i], kwr_test_env(), 16, kwr_key_groups_of(i, 2, 16), in_order, 1);
        put_many(&parts[i], 16, 0, MANY / 8);
    }
    rescale(parts, 2, 16, (kwr_key_group_range){ 0, 16 }, true, &whole);
    const rocksdb_livefiles_t *files = rocksdb_livefiles(whole.engine->db->db);
    unsigned bottom = 0;
    for (int i = 0; i < rocksdb_livefiles_count(files); i++)
        bottom += rocksdb_livefiles_level(files, i) == 6;
    rocksdb_livefiles_destroy(files);
    cr_assert(bottom == 1, "%u tables at the bottom", bottom);
    cr_assert(estimated(&whole) == MANY / 8);
    instance_close(&whole);
    for (uint32_t i = 0; i < 2; i++)
        instance_close(&parts[i]);
}
