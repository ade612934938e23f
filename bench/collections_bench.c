/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps and lists of the page store, one thread, at the seam below the state handles:
 *
 *     collections-bench [--json] [elements]     default 1000000
 *
 * Access to one map of a thousand elements, to a thousand such maps, and to one map with as many
 * elements as all of them together: the last two differ in nothing but the size of a map, the first
 * shows what the processor's caches give. Then iteration, appending, and what dropping a large map
 * costs its owner.
 */
#include <time.h>

#include "backend/key_group.h"
#include "backend/memory/store.h"
#include "base/bytes.h"
#include "base/limits.h"
#include "bench/bench.h"

enum { SMALL = 1000, TIMED = 1000000, SEED = 1 };

typedef struct setup {
    bench b;
    kwr_env *env;
    kwr_resources *resources;
    kwr_limits limits;
    const kwr_engine_ops *ops;
    kwr_engine *e;
    uint64_t elements;
    uint64_t sum;
    uint32_t *order; /* TIMED random numbers: which map, which element */
    double get_small, get_same, get_large;
    double put_small, put_same, put_large;
} setup;

static uint64_t cpu_ns(void) { return bench_clock_ns(CLOCK_THREAD_CPUTIME_ID); }

static void must(kwr_status status, const char *what) { bench_must(status, NULL, what); }

enum { STATE_SMALL, STATE_SAME, STATE_LARGE, STATE_LIST, STATES };

static void open_all(setup *s) {
    kwr_error err;
    bench_must(kwr_env_posix_open(NULL, &s->env, &err), &err, "environment");
    const kwr_resources_options pool = { .struct_size = sizeof pool };
    bench_must(kwr_resources_open(s->env, &pool, &s->resources, &err), &err, "resources");
    bench_must(kwr_limits_complete(NULL, &s->limits, &err), &err, "limits");
    s->ops = kwr_engine_find("memory");
    const kwr_engine_config config = { .env = s->env,
                                       .resources = s->resources,
                                       .max_parallelism = 128,
                                       .key_groups = { 0, 128 },
                                       .limits = &s->limits,
                                       .hash_mask = UINT64_MAX,
                                       .seed = SEED };
    bench_must(s->ops->open(&config, &s->e, &err), &err, "engine");
    for (uint32_t id = 0; id < STATES; id++) {
        const kwr_state_info info = { .id = id,
                                      .kind = id == STATE_LIST ? KWR_STATE_LIST : KWR_STATE_MAP,
                                      .name = "state" };
        must(s->ops->add_state(s->e, &info), "state");
    }
    s->order = malloc(TIMED * sizeof *s->order);
    bench_rng rng = { 7 };
    for (size_t i = 0; i < TIMED; i++)
        s->order[i] = (uint32_t)bench_random(&rng);
}

/* The key of map number `map`. */
static kwr_address address(uint32_t state, uint64_t *map) {
    const kwr_slice key = { map, sizeof *map };
    const uint64_t hash = kwr_key_hash(key, SEED);
    return (kwr_address){ .state = state,
                          .key_group = kwr_key_group_of_hash(hash, 128),
                          .entry_hash =
                              kwr_entry_hash(hash, kwr_namespace_hash((kwr_slice){ NULL, 0 })),
                          .key = key };
}

/* User keys are spread over all 64 bits, in the order of none. */
static kwr_slice subkey(uint64_t i, uint8_t bytes[8]) {
    kwr_put_be64(bytes, bench_mix(i + 1));
    return (kwr_slice){ bytes, 8 };
}

static void fill(setup *s, uint32_t state, uint64_t maps, uint64_t each) {
    const uint64_t start = cpu_ns();
    for (uint64_t i = 0; i < each; i++) {
        for (uint64_t map = 0; map < maps; map++) {
            uint8_t bytes[8];
            const kwr_address at = address(state, &map);
            must(s->ops->sub_put(s->e, &at, subkey(i, bytes), (kwr_slice){ &i, sizeof i }), "put");
        }
    }
    bench_say(&s->b, "  filled in random order   %7.1f ns an element\n",
              (double)(cpu_ns() - start) / (double)(maps * each));
}

static void where(const setup *s, size_t n, uint64_t maps, uint64_t each, uint64_t *map,
                  uint64_t *i) {
    *map = maps == 1 ? 0 : s->order[n] % maps;
    *i = (s->order[n] / maps) % each;
}

static double time_gets(setup *s, uint32_t state, uint64_t maps, uint64_t each) {
    double best = 0;
    for (unsigned round = 0; round < 3; round++) {
        const uint64_t start = cpu_ns();
        for (size_t n = 0; n < TIMED; n++) {
            uint64_t map, i;
            uint8_t bytes[8];
            kwr_slice value;
            where(s, n, maps, each, &map, &i);
            const kwr_address at = address(state, &map);
            must(s->ops->sub_get(s->e, &at, subkey(i, bytes), &value), "get");
            s->sum += *(const uint8_t *)value.data;
        }
        const double took = (double)(cpu_ns() - start) / TIMED;
        if (round == 0 || took < best) best = took;
    }
    return best;
}

/* Removes an element and puts it back. */
static double time_puts(setup *s, uint32_t state, uint64_t maps, uint64_t each) {
    const size_t times = TIMED / 4;
    const uint64_t start = cpu_ns();
    for (size_t n = 0; n < times; n++) {
        uint64_t map, i;
        uint8_t bytes[8];
        where(s, n, maps, each, &map, &i);
        const kwr_address at = address(state, &map);
        const kwr_slice key = subkey(i, bytes);
        must(s->ops->sub_remove(s->e, &at, key), "remove");
        must(s->ops->sub_put(s->e, &at, key, (kwr_slice){ &i, sizeof i }), "put");
    }
    return (double)(cpu_ns() - start) / (double)(2 * times);
}

static void maps(setup *s) {
    const uint64_t many = s->elements / SMALL;
    bench_say(&s->b, "one map of %d elements\n", SMALL);
    fill(s, STATE_SMALL, 1, SMALL);
    s->get_small = time_gets(s, STATE_SMALL, 1, SMALL);
    s->put_small = time_puts(s, STATE_SMALL, 1, SMALL);
    bench_say(&s->b, "  get %7.1f ns   remove or put %7.1f ns\n", s->get_small, s->put_small);
    bench_say(&s->b, "%" PRIu64 " maps of %d elements\n", many, SMALL);
    fill(s, STATE_SAME, many, SMALL);
    s->get_same = time_gets(s, STATE_SAME, many, SMALL);
    s->put_same = time_puts(s, STATE_SAME, many, SMALL);
    bench_say(&s->b, "  get %7.1f ns   remove or put %7.1f ns\n", s->get_same, s->put_same);
    bench_say(&s->b, "one map of %" PRIu64 " elements\n", s->elements);
    kwr_backend_stats before = { 0 }, after = { 0 };
    s->ops->stats(s->e, &before);
    fill(s, STATE_LARGE, 1, s->elements);
    s->ops->stats(s->e, &after);
    s->get_large = time_gets(s, STATE_LARGE, 1, s->elements);
    s->put_large = time_puts(s, STATE_LARGE, 1, s->elements);
    bench_say(&s->b, "  get %7.1f ns   remove or put %7.1f ns\n", s->get_large, s->put_large);
    const double bytes = (double)(after.used_bytes - before.used_bytes) / (double)s->elements;
    bench_say(&s->b, "  %.1f bytes of memory for an element of 16\n", bytes);
    bench_say(&s->b,
              "large against small, as many elements in all: get %.2f, remove or put %.2f\n"
              "large against one small map alone:            get %.2f, remove or put %.2f\n",
              s->get_large / s->get_same, s->put_large / s->put_same, s->get_large / s->get_small,
              s->put_large / s->put_small);
    bench_json(&s->b, "map",
               "\"elements\":%" PRIu64 ",\"get_ns\":[%.1f,%.1f,%.1f],\"put_ns\":[%.1f,%.1f,%.1f],"
               "\"bytes\":%.1f",
               s->elements, s->get_small, s->get_same, s->get_large, s->put_small, s->put_same,
               s->put_large, bytes);
}

static void iteration(setup *s) {
    uint64_t map = 0, count = 0;
    const kwr_address at = address(STATE_LARGE, &map);
    kwr_engine_hint hint = { 0 };
    kwr_slice key = { 0 }, value;
    kwr_seek seek = KWR_SEEK_FIRST;
    const uint64_t start = cpu_ns();
    for (; s->ops->sub_seek(s->e, &at, seek, key, &hint, &key, &value) == KWR_OK; count++) {
        s->sum += *(const uint8_t *)value.data;
        seek = KWR_SEEK_ABOVE;
    }
    const double each = (double)(cpu_ns() - start) / (double)count;
    bench_say(&s->b, "iteration over the large map: %.1f ns an element\n", each);
    bench_json(&s->b, "iterate", "\"elements\":%" PRIu64 ",\"ns\":%.1f", count, each);
}

static double append_some(setup *s, const kwr_address *at, uint64_t from, uint64_t to) {
    const uint64_t start = cpu_ns();
    for (uint64_t i = from; i < to; i++) {
        const kwr_slice value = { &i, sizeof i };
        must(s->ops->sub_append(s->e, at, &value, 1), "append");
    }
    return (double)(cpu_ns() - start) / (double)(to - from);
}

static void lists(setup *s) {
    uint64_t key = 1;
    const kwr_address at = address(STATE_LIST, &key);
    const uint64_t early = 10000, part = s->elements / 10;
    (void)append_some(s, &at, 0, early);
    const double first = append_some(s, &at, early, 2 * early);
    (void)append_some(s, &at, 2 * early, s->elements - part);
    const double last = append_some(s, &at, s->elements - part, s->elements);
    bench_say(&s->b, "append: %.1f ns at %" PRIu64 " elements, %.1f ns at %" PRIu64 ": %.2f\n",
              first, early, last, s->elements, last / first);
    bench_json(&s->b, "append", "\"elements\":%" PRIu64 ",\"ns\":[%.1f,%.1f]", s->elements, first,
               last);
}

static void drop(setup *s) {
    uint64_t map = 0;
    const kwr_address at = address(STATE_LARGE, &map);
    uint64_t start = cpu_ns();
    must(s->ops->remove(s->e, &at), "remove");
    const uint64_t stall = cpu_ns() - start;
    uint64_t calls = 0, longest = 0;
    for (bool more = true; more; calls++) {
        start = cpu_ns();
        more = s->ops->maintain(s->e, 0);
        const uint64_t took = cpu_ns() - start;
        if (took > longest) longest = took;
    }
    bench_say(&s->b,
              "dropping the large map: %.1f us for its owner, then %" PRIu64
              " steps of at most %.1f us\n",
              (double)stall / 1e3, calls, (double)longest / 1e3);
    bench_json(&s->b, "drop",
               "\"elements\":%" PRIu64 ",\"stall_ns\":%" PRIu64 ",\"steps\":%" PRIu64
               ",\"step_most_ns\":%" PRIu64,
               s->elements, stall, calls, longest);
}

int main(int argc, char **argv) {
    setup s = { .elements = 1000000 };
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else
            s.elements = strtoull(argv[i], NULL, 10);
    }
    if (s.elements < 100 * SMALL || s.elements > UINT32_MAX) {
        fprintf(stderr, "collections-bench: from %d elements on\n", 100 * SMALL);
        return 2;
    }
    bench_start(&s.b, "collections", json, SEED);
    open_all(&s);
    maps(&s);
    iteration(&s);
    lists(&s);
    drop(&s);
    s.ops->close(s.e);
    kwr_resources_close(s.resources);
    kwr_env_posix_close(s.env);
    free(s.order);
    return s.sum == 0;
}
