/* SPDX-License-Identifier: Apache-2.0 */
/* What is done for each record, and what it must have led to. */
#include "tests/sim/kinds.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    LIST_MAX = 8,       /* the list begins anew after so many */
    REMOVE_EVERY = 7,   /* records between two removals from the map */
    TIMERS_PENDING = 3, /* event-time timers kept */
    FIRE_EVERY = 4,     /* records between two timers that fire at once */
    WIDE_BYTES = 32,
};

/* ---- a mean: the accumulator is sum and number ---- */

static kwr_status mean_create(void *ctx, void *out, size_t capacity, size_t *size) {
    (void)ctx;
    *size = 16;
    if (capacity >= 16) memset(out, 0, 16);
    return KWR_OK;
}

static kwr_status mean_add(void *ctx, kwr_slice accumulator, kwr_slice input, void *out,
                           size_t capacity, size_t *size) {
    int64_t both[2], number;
    (void)ctx;
    *size = sizeof both;
    if (capacity < sizeof both) return KWR_OK;
    memcpy(both, accumulator.data, sizeof both);
    memcpy(&number, input.data, sizeof number);
    both[0] += number;
    both[1]++;
    memcpy(out, both, sizeof both);
    return KWR_OK;
}

static kwr_status mean_result(void *ctx, kwr_slice accumulator, void *out, size_t capacity,
                              size_t *size) {
    (void)ctx;
    *size = accumulator.size;
    if (*size <= capacity) memcpy(out, accumulator.data, *size);
    return KWR_OK;
}

/* ---- the job's part ---- */

kwr_status sim_kinds_open(sim_kinds *kinds, kwr_backend *backend, bool wide, kwr_error *err) {
    const kwr_type i64 = { .kind = KWR_TYPE_I64 };
    const kwr_list_descriptor list = { .struct_size = sizeof list, .name = "list", .type = i64 };
    const kwr_map_descriptor map = {
        .struct_size = sizeof map, .name = "map", .user_key_type = i64, .type = i64
    };
    const kwr_aggregating_descriptor mean = { .struct_size = sizeof mean,
                                              .name = "mean",
                                              .input_type = i64,
                                              .create = mean_create,
                                              .add = mean_add,
                                              .result = mean_result };
    const kwr_value_descriptor fired = { .struct_size = sizeof fired,
                                         .name = "fired",
                                         .type = i64 };
    const kwr_timers_descriptor timers = { .struct_size = sizeof timers, .name = "t" };
    const kwr_value_descriptor many = { .struct_size = sizeof many, .name = "wide" };
    KWR_TRY(kwr_list_open(backend, &list, &kinds->list, err));
    KWR_TRY(kwr_map_open(backend, &map, &kinds->map, err));
    KWR_TRY(kwr_aggregating_open(backend, &mean, &kinds->mean, err));
    KWR_TRY(kwr_value_open(backend, &fired, &kinds->fired, err));
    if (wide) KWR_TRY(kwr_value_open(backend, &many, &kinds->wide, err));
    return kwr_timers_open(backend, &timers, &kinds->timers, err);
}

static kwr_status step_list(sim_kinds *kinds, int64_t count) {
    if (count % LIST_MAX == 0) return kwr_list_clear(kinds->list);
    return kwr_list_add(kinds->list, (kwr_slice){ &count, sizeof count });
}

static kwr_status step_map(sim_kinds *kinds, int64_t count) {
    uint8_t user_key[8];
    const size_t size = kwr_key_from_i64(count % SIM_MAP_KEYS, user_key);
    KWR_TRY(kwr_map_put(kinds->map, (kwr_slice){ user_key, size },
                        (kwr_slice){ &count, sizeof count }));
    if (count % REMOVE_EVERY != 0) return KWR_OK;
    (void)kwr_key_from_i64((count + 2) % SIM_MAP_KEYS, user_key);
    return kwr_map_remove(kinds->map, (kwr_slice){ user_key, size });
}

/* A number, and bytes that do not compress. */
static void wide_value(int64_t number, uint8_t place, uint8_t out[WIDE_BYTES]) {
    uint64_t x = ((uint64_t)number * SIM_WIDE + place + 1) * 0x9e3779b97f4a7c15ULL;
    kwr_put_le64(out, (uint64_t)number);
    for (size_t i = 8; i < WIDE_BYTES; i++)
        out[i] = (uint8_t)((x = x * 6364136223846793005ULL + 1442695040888963407ULL) >> 56);
}

static kwr_status put_wide(sim_kinds *kinds, int64_t number, uint8_t place) {
    uint8_t value[WIDE_BYTES];
    wide_value(number, place, value);
    KWR_TRY(kwr_value_set_namespace(kinds->wide, (kwr_slice){ &place, 1 }));
    return kwr_value_put(kinds->wide, (kwr_slice){ value, sizeof value });
}

/* The first record makes them all. */
static kwr_status step_wide(sim_kinds *kinds, int64_t count) {
    for (uint8_t i = 0; i < SIM_WIDE && count == 1; i++)
        KWR_TRY(put_wide(kinds, 0, i));
    return put_wide(kinds, count, (uint8_t)(count % SIM_WIDE));
}

/* A timer of the past fires now and is the only one due: it must be this one. */
static kwr_status fire(sim_kinds *kinds, kwr_slice key, int64_t count, kwr_error *err) {
    kwr_timer timer;
    void *bytes;
    int64_t times;
    KWR_TRY(kwr_timers_register(kinds->timers, KWR_PROCESSING_TIME, -count));
    const kwr_status popped = kwr_timers_pop_due(kinds->timers, KWR_PROCESSING_TIME, -1, &timer);
    if (popped < KWR_OK) return popped;
    if (popped != KWR_OK || timer.time_ms != -count || timer.key.size != key.size ||
        memcmp(timer.key.data, key.data, key.size) != 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "another timer fired than was registered");
    KWR_TRY(kwr_value_modify(kinds->fired, KWR_KEEP_SIZE, &bytes, NULL));
    memcpy(&times, bytes, sizeof times);
    times++;
    memcpy(bytes, &times, sizeof times);
    return KWR_OK;
}

static kwr_status step_timers(sim_kinds *kinds, kwr_slice key, int64_t count, kwr_error *err) {
    KWR_TRY(kwr_timers_register(kinds->timers, KWR_EVENT_TIME, count));
    if (count > TIMERS_PENDING)
        KWR_TRY(kwr_timers_delete(kinds->timers, KWR_EVENT_TIME, count - TIMERS_PENDING));
    return count % FIRE_EVERY == 0 ? fire(kinds, key, count, err) : KWR_OK;
}

kwr_status sim_kinds_step(sim_kinds *kinds, kwr_backend *backend, kwr_slice key, int64_t count,
                          kwr_error *err) {
    kwr_status status = step_list(kinds, count);
    if (status >= KWR_OK) status = step_map(kinds, count);
    if (status >= KWR_OK)
        status = kwr_aggregating_add(kinds->mean, (kwr_slice){ &count, sizeof count });
    if (status >= KWR_OK) status = step_timers(kinds, key, count, err);
    if (status >= KWR_OK && kinds->wide != NULL) status = step_wide(kinds, count);
    if (status < KWR_OK && err->status == KWR_OK) *err = *kwr_backend_error(backend);
    return status;
}

/* ---- the oracle's part ---- */

kwr_slice sim_kinds_key(const kwr_state_info *state, const kwr_entry *entry) {
    const uint8_t *bytes = (const uint8_t *)entry->subkey.data;
    if (state->kind != KWR_STATE_TIMER) return entry->key;
    /* Time, then the length of the key in one byte: keys are short. */
    if (entry->subkey.size < 9 || entry->subkey.size - 9 != bytes[8]) return (kwr_slice){ 0 };
    return (kwr_slice){ bytes + 9, bytes[8] };
}

static int64_t number_of(sim_kinds_seen *seen, kwr_slice value) {
    int64_t number = 0;
    if (value.size == sizeof number)
        memcpy(&number, value.data, sizeof number);
    else
        seen->odd = true;
    return number;
}

static void see_wide(sim_kinds_seen *seen, const kwr_entry *entry) {
    const uint8_t place = entry->name.size == 1 ? *(const uint8_t *)entry->name.data : SIM_WIDE;
    uint8_t expected[WIDE_BYTES];
    if (place >= SIM_WIDE || entry->value.size != WIDE_BYTES) {
        seen->odd = true;
        return;
    }
    const int64_t number = (int64_t)kwr_get_le64(entry->value.data);
    wide_value(number, place, expected);
    seen->odd = seen->odd || memcmp(entry->value.data, expected, WIDE_BYTES) != 0;
    seen->wide_of[place] = number;
    seen->wide++;
}

void sim_kinds_see(sim_kinds_seen *seen, const kwr_state_info *state, const kwr_entry *entry) {
    if (strcmp(state->name, "list") == 0) {
        const int64_t number = number_of(seen, entry->value);
        /* A list begins with sequence number 0 after it was cleared. */
        if (entry->subkey.size != 8 ||
            kwr_get_be64(entry->subkey.data) != (uint64_t)(number % LIST_MAX - 1))
            seen->odd = true;
        seen->list++;
        seen->list_sum += (uint64_t)number;
    } else if (strcmp(state->name, "map") == 0 && entry->subkey.size == 8) {
        const int64_t user_key = kwr_key_to_i64((const uint8_t *)entry->subkey.data);
        if (user_key < 0 || user_key >= SIM_MAP_KEYS || seen->map[user_key] != 0)
            seen->odd = true;
        else
            seen->map[user_key] = number_of(seen, entry->value);
    } else if (strcmp(state->name, "mean") == 0 && entry->value.size == 16) {
        memcpy(&seen->mean_sum, entry->value.data, 8);
        memcpy(&seen->mean_count, (const uint8_t *)entry->value.data + 8, 8);
    } else if (strcmp(state->name, "fired") == 0) {
        seen->fired = number_of(seen, entry->value);
    } else if (strcmp(state->name, "wide") == 0) {
        see_wide(seen, entry);
    } else if (strcmp(state->name, "timers/event/t") == 0) {
        seen->timers++;
        seen->timers_sum += kwr_key_to_i64((const uint8_t *)entry->subkey.data);
    } else {
        seen->odd = true;
    }
}

/* The last number up to `count` that leaves `rest`, 0: none. */
static int64_t last_with(int64_t count, int64_t divisor, int64_t rest) {
    const int64_t number = count - (count - rest) % divisor;
    return count < rest ? 0 : number;
}

/* The record that put what the map has under `user_key`, 0: it has nothing. */
static int64_t map_value(int64_t count, int64_t user_key) {
    const int64_t put = last_with(count, SIM_MAP_KEYS, user_key);
    for (int64_t i = last_with(count, REMOVE_EVERY, 0); i > put; i -= REMOVE_EVERY)
        if ((i + 2) % SIM_MAP_KEYS == user_key) return 0;
    return put;
}

const char *sim_kinds_wrong(const sim_kinds_seen *seen, bool wide, int64_t count) {
    const int64_t in_list = count % LIST_MAX,
                  pending = count < TIMERS_PENDING ? count : TIMERS_PENDING;
    if (seen->odd) return "one that nobody wrote";
    if (seen->list != (uint64_t)in_list ||
        seen->list_sum != (uint64_t)(in_list * count - in_list * (in_list - 1) / 2))
        return "list";
    for (int64_t i = 0; i < SIM_MAP_KEYS; i++)
        if (seen->map[i] != map_value(count, i)) return "map";
    if (seen->mean_count != count || seen->mean_sum != count * (count + 1) / 2) return "mean";
    if (seen->fired != count / FIRE_EVERY) return "fired";
    if (seen->timers != (uint64_t)pending ||
        seen->timers_sum != pending * count - pending * (pending - 1) / 2)
        return "timers";
    if (seen->wide != (wide && count > 0 ? SIM_WIDE : 0)) return "wide";
    for (int64_t i = 0; i < SIM_WIDE && wide; i++)
        if (seen->wide_of[i] != last_with(count, SIM_WIDE, i)) return "wide";
    return NULL;
}

/* A state that cannot be read is none of this oracle's business. */
static bool holds(kwr_status status, kwr_slice value, const int64_t *expected, size_t count) {
    static const int64_t nothing[2];
    if (status < KWR_OK) return true;
    if (status == KWR_NOT_FOUND) return expected[0] == 0;
    const bool sized = value.size == count * sizeof *expected;
    return sized && memcmp(value.data, expected[0] == 0 ? nothing : expected, value.size) == 0;
}

const char *sim_kinds_restored_wrong(sim_kinds *kinds, int64_t count) {
    const int64_t mean[2] = { count * (count + 1) / 2, count }, fired = count / FIRE_EVERY;
    kwr_slice value = { 0 };
    kwr_status status = kwr_aggregating_get(kinds->mean, &value);
    if (!holds(status, value, mean, 2)) return "mean";
    status = kwr_value_get(kinds->fired, &value);
    if (!holds(status, value, &fired, 1)) return "fired";
    for (int64_t i = 0; i < SIM_MAP_KEYS; i++) {
        uint8_t user_key[8];
        const size_t size = kwr_key_from_i64(i, user_key);
        const int64_t expected = map_value(count, i);
        status = kwr_map_get(kinds->map, (kwr_slice){ user_key, size }, &value);
        if (!holds(status, value, &expected, 1)) return "map";
    }
    for (uint8_t i = 0; i < SIM_WIDE && kinds->wide != NULL; i++) {
        uint8_t expected[WIDE_BYTES];
        wide_value(last_with(count, SIM_WIDE, i), i, expected);
        status = kwr_value_set_namespace(kinds->wide, (kwr_slice){ &i, 1 });
        if (status >= KWR_OK) status = kwr_value_get(kinds->wide, &value);
        if (status < KWR_OK) continue;
        if ((status == KWR_OK) != (count > 0)) return "wide";
        if (status == KWR_OK &&
            (value.size != WIDE_BYTES || memcmp(value.data, expected, WIDE_BYTES) != 0))
            return "wide";
    }
    return NULL;
}
