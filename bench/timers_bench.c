/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a timer costs: registered, fired in order, deleted in bulk when all windows end at one
 * instant; and the same again after ten times as many were registered and deleted.
 *
 * The yardstick, in the same run, is what a heap-based timer queue does: an indexed binary heap by
 * time, and a hash set over (time, key, namespace) for sameness and deletion. It has no order
 * within one instant and cannot be frozen. Both sides have keys of 16 bytes and namespaces of 8,
 * taken in order from arrays made before; making a key current is part of our time. Times are the
 * thread's processor time.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bench/bench.h"

enum { KEY = 16, WINDOWS = 1000, CHURN = 10 };

typedef struct timer {
    int64_t time_ms;
    uint8_t key[KEY];
    uint8_t name[8];
} timer;
_Static_assert(sizeof(timer) == 32, "hashed and compared as bytes");

static void die(const char *what) {
    fprintf(stderr, "timers: %s\n", what);
    exit(1);
}

/* ---- the yardstick ---- */

enum { NONE = UINT32_MAX };

typedef struct heap_item {
    timer timer;
    uint32_t place; /* in the heap; of a free item: the next free one */
    uint32_t hash;
} heap_item;

typedef struct heap_place {
    int64_t time_ms;
    uint32_t item;
} heap_place;

typedef struct heap {
    heap_item *items;
    heap_place *places; /* the heap */
    uint32_t *set;      /* item numbers, open addressing */
    uint32_t set_mask;
    uint32_t count;
    uint32_t made;
    uint32_t free;
} heap;

static void heap_open(heap *h, uint64_t capacity) {
    uint64_t set_size = 16;
    while (set_size < 2 * capacity)
        set_size *= 2;
    *h = (heap){ .items = malloc(capacity * sizeof *h->items),
                 .places = malloc(capacity * sizeof *h->places),
                 .set = malloc(set_size * sizeof *h->set),
                 .set_mask = (uint32_t)(set_size - 1),
                 .free = NONE };
    if (h->items == NULL || h->places == NULL || h->set == NULL) die("no memory");
    memset(h->set, 0xff, set_size * sizeof *h->set);
}

static void heap_close(heap *h) {
    free(h->items);
    free(h->places);
    free(h->set);
}

static void heap_place_at(heap *h, uint32_t place, heap_place what) {
    h->places[place] = what;
    h->items[what.item].place = place;
}

static void heap_up(heap *h, uint32_t place, heap_place what) {
    while (place > 0 && h->places[(place - 1) / 2].time_ms > what.time_ms) {
        heap_place_at(h, place, h->places[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_place_at(h, place, what);
}

static void heap_down(heap *h, uint32_t place, heap_place what) {
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && h->places[child + 1].time_ms < h->places[child].time_ms)
            child++;
        if (h->places[child].time_ms >= what.time_ms) break;
        heap_place_at(h, place, h->places[child]);
        place = child;
    }
    heap_place_at(h, place, what);
}

/* The slot of the timer, or the free one where it belongs. */
static uint32_t set_find(const heap *h, const timer *t, uint32_t hash) {
    uint32_t slot = hash & h->set_mask;
    for (; h->set[slot] != NONE; slot = (slot + 1) & h->set_mask) {
        const heap_item *item = &h->items[h->set[slot]];
        if (item->hash == hash && memcmp(&item->timer, t, sizeof *t) == 0) break;
    }
    return slot;
}

/* Frees a slot and closes the gap in its run. */
static void set_free(heap *h, uint32_t slot) {
    uint32_t next = slot;
    for (;;) {
        next = (next + 1) & h->set_mask;
        if (h->set[next] == NONE) break;
        const uint32_t home = h->items[h->set[next]].hash & h->set_mask;
        if (((next - home) & h->set_mask) < ((next - slot) & h->set_mask)) continue;
        h->set[slot] = h->set[next];
        slot = next;
    }
    h->set[slot] = NONE;
}

static uint32_t timer_hash(const timer *t) { return (uint32_t)XXH3_64bits(t, sizeof *t); }

static void heap_register(heap *h, const timer *t) {
    const uint32_t hash = timer_hash(t);
    const uint32_t slot = set_find(h, t, hash);
    if (h->set[slot] != NONE) return;
    uint32_t number = h->free;
    if (number == NONE)
        number = h->made++;
    else
        h->free = h->items[number].place;
    h->items[number].timer = *t;
    h->items[number].hash = hash;
    h->set[slot] = number;
    heap_up(h, h->count++, (heap_place){ t->time_ms, number });
}

static void heap_take(heap *h, uint32_t number, uint32_t slot) {
    const uint32_t place = h->items[number].place;
    set_free(h, slot);
    const heap_place last = h->places[--h->count];
    if (place < h->count) {
        if (place > 0 && h->places[(place - 1) / 2].time_ms > last.time_ms)
            heap_up(h, place, last);
        else
            heap_down(h, place, last);
    }
    h->items[number].place = h->free;
    h->free = number;
}

static void heap_delete(heap *h, const timer *t) {
    const uint32_t slot = set_find(h, t, timer_hash(t));
    if (h->set[slot] != NONE) heap_take(h, h->set[slot], slot);
}

static bool heap_pop(heap *h, int64_t up_to_ms, int64_t *time_ms) {
    if (h->count == 0 || h->places[0].time_ms > up_to_ms) return false;
    const uint32_t number = h->places[0].item;
    const heap_item *item = &h->items[number];
    *time_ms = h->places[0].time_ms;
    heap_take(h, number, set_find(h, &item->timer, item->hash));
    return true;
}

/* ---- ours ---- */

typedef struct ours {
    kwr_env *env;
    kwr_backend *backend;
    kwr_timers *timers;
} ours;

static void ours_open(ours *o, uint64_t seed) {
    kwr_error err;
    *o = (ours){ 0 };
    bench_must(kwr_env_posix_open(NULL, &o->env, &err), &err, "environment");
    const kwr_backend_options options = { .struct_size = sizeof options,
                                          .env = o->env,
                                          .seed = seed,
                                          .key_type = { .kind = KWR_TYPE_BYTES } };
    bench_must(kwr_backend_open(&options, &o->backend, &err), &err, "backend");
    const kwr_timers_descriptor timers = { .struct_size = sizeof timers,
                                           .name = "timers",
                                           .namespace_type = { .kind = KWR_TYPE_I64 } };
    bench_must(kwr_timers_open(o->backend, &timers, &o->timers, &err), &err, "timers");
}

static void ours_close(ours *o) {
    kwr_backend_close(o->backend);
    kwr_env_posix_close(o->env);
}

static void ours_must(const ours *o, kwr_status status, const char *what) {
    if (status < KWR_OK) bench_must(status, kwr_backend_error(o->backend), what);
}

static void ours_aim(ours *o, const timer *t) {
    ours_must(o, kwr_backend_set_key(o->backend, (kwr_slice){ t->key, KEY }), "key");
    ours_must(o, kwr_timers_set_namespace(o->timers, (kwr_slice){ t->name, sizeof t->name }),
              "namespace");
}

/* ---- one workload on one side ---- */

typedef struct side {
    bool is_ours;
    ours ours;
    heap heap;
} side;

static void side_register(side *s, const timer *all, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (!s->is_ours) {
            heap_register(&s->heap, &all[i]);
            continue;
        }
        ours_aim(&s->ours, &all[i]);
        ours_must(&s->ours, kwr_timers_register(s->ours.timers, KWR_EVENT_TIME, all[i].time_ms),
                  "register");
    }
}

static void side_delete(side *s, const timer *all, const uint32_t *order, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        const timer *t = &all[order[i]];
        if (!s->is_ours) {
            heap_delete(&s->heap, t);
            continue;
        }
        ours_aim(&s->ours, t);
        ours_must(&s->ours, kwr_timers_delete(s->ours.timers, KWR_EVENT_TIME, t->time_ms),
                  "delete");
    }
}

/* In WINDOWS steps of the watermark, as they would come. */
static uint64_t side_fire(side *s) {
    uint64_t fired = 0;
    int64_t last = INT64_MIN;
    for (int64_t watermark = 0; watermark <= WINDOWS; watermark++) {
        for (;; fired++) {
            kwr_timer t = { 0 };
            if (s->is_ours) {
                const kwr_status status =
                    kwr_timers_pop_due(s->ours.timers, KWR_EVENT_TIME, watermark, &t);
                ours_must(&s->ours, status, "pop");
                if (status == KWR_NOT_FOUND) break;
            } else if (!heap_pop(&s->heap, watermark, &t.time_ms)) {
                break;
            }
            if (t.time_ms < last) die("not in order");
            last = t.time_ms;
        }
    }
    return fired;
}

static uint64_t side_count(side *s) {
    uint64_t count = s->heap.count;
    if (s->is_ours)
        ours_must(&s->ours, kwr_timers_count(s->ours.timers, KWR_EVENT_TIME, &count), "count");
    return count;
}

typedef struct figures {
    double add, fire;           /* ns a timer: spread over the windows */
    double add_instant, remove; /* all at one instant */
    double fire_instant;
} figures;

typedef struct work {
    timer *spread, *instant;
    uint32_t *order; /* of deletion */
    uint64_t count;
} work;

/* Of this thread: nothing here waits, and others may be busy. */
static uint64_t now_ns(void) { return bench_clock_ns(CLOCK_THREAD_CPUTIME_ID); }

static double per(uint64_t since_ns, uint64_t count) {
    return (double)(now_ns() - since_ns) / (double)count;
}

static void measure(side *s, const work *w, figures *f) {
    uint64_t start = now_ns();
    side_register(s, w->spread, w->count);
    f->add = per(start, w->count);
    start = now_ns();
    if (side_fire(s) != w->count) die("not as many fired as registered");
    f->fire = per(start, w->count);
    start = now_ns();
    side_register(s, w->instant, w->count);
    f->add_instant = per(start, w->count);
    if (side_count(s) != w->count) die("not as many there as registered");
    start = now_ns();
    side_delete(s, w->instant, w->order, w->count);
    f->remove = per(start, w->count);
    if (side_count(s) != 0) die("some were not deleted");
    side_register(s, w->instant, w->count);
    start = now_ns();
    if (side_fire(s) != w->count) die("not as many fired as registered");
    f->fire_instant = per(start, w->count);
}

static void churn(side *s, const work *w) {
    for (int round = 0; round < CHURN; round++) {
        const timer *all = round % 2 == 0 ? w->spread : w->instant;
        side_register(s, all, w->count);
        side_delete(s, all, w->order, w->count);
    }
}

/* ---- all of it ---- */

static void make_work(work *w, uint64_t count, uint64_t seed) {
    bench_rng rng = { seed };
    *w = (work){ .spread = malloc(count * sizeof *w->spread),
                 .instant = malloc(count * sizeof *w->instant),
                 .order = malloc(count * sizeof *w->order),
                 .count = count };
    if (w->spread == NULL || w->instant == NULL || w->order == NULL) die("no memory");
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t halves[2] = { bench_mix(i ^ bench_mix(seed)), i };
        timer *t = &w->spread[i];
        t->time_ms = (int64_t)bench_below(&rng, WINDOWS);
        memcpy(t->key, halves, KEY);
        kwr_key_from_i64(t->time_ms, t->name);
        w->instant[i] = *t;
        w->instant[i].time_ms = WINDOWS;
        kwr_key_from_i64(WINDOWS, w->instant[i].name);
        w->order[i] = (uint32_t)i;
    }
    for (uint64_t i = count; i > 1; i--) {
        const uint64_t j = bench_below(&rng, i);
        const uint32_t swap = w->order[i - 1];
        w->order[i - 1] = w->order[j];
        w->order[j] = swap;
    }
}

static void say(const bench *b, const char *what, const char *key, double have, double later,
                double yardstick) {
    bench_say(b,
              "  %-28s %6.0f ns   heap %6.0f ns   ratio %5.2f   after %dx deleted %6.0f ns, "
              "ratio %5.2f\n",
              what, have, yardstick, have / yardstick, CHURN, later, later / have);
    bench_json(b, key,
               "\"ns\":%.1f,\"heap_ns\":%.1f,\"ratio\":%.3f,\"after_ns\":%.1f,"
               "\"after_ratio\":%.3f",
               have, yardstick, have / yardstick, later, later / have);
}

static void usage(void) {
    fprintf(stderr, "timers [--json] [--seed N] [--timers N]\n"
                    "  --timers   of each kind (default 1000000, at most 100000000)\n");
    exit(2);
}

int main(int argc, char **argv) {
    bool json = false;
    uint64_t seed = 1, count = 1000000;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--timers") == 0 && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 10);
        else
            usage();
    }
    if (count == 0 || count > 100000000) usage();
    bench b;
    bench_start(&b, "timers", json, seed);
    bench_say(&b, "%" PRIu64 " timers, keys of %d bytes, namespaces of 8, 128 key groups\n", count,
              KEY);
    work w;
    make_work(&w, count, seed);
    side sides[2] = { { .is_ours = true }, { .is_ours = false } };
    figures first[2], after[2];
    ours_open(&sides[0].ours, seed);
    heap_open(&sides[1].heap, count);
    for (int i = 0; i < 2; i++) {
        measure(&sides[i], &w, &first[i]); /* warm-up: first touch of memory */
        measure(&sides[i], &w, &first[i]);
    }
    churn(&sides[0], &w);
    measure(&sides[0], &w, &after[0]);
    const figures *f = &first[0], *a = &after[0], *h = &first[1];
    say(&b, "registered, 1000 windows", "register", f->add, a->add, h->add);
    say(&b, "fired in order", "fire", f->fire, a->fire, h->fire);
    say(&b, "registered at one instant", "register_instant", f->add_instant, a->add_instant,
        h->add_instant);
    say(&b, "deleted in bulk", "delete", f->remove, a->remove, h->remove);
    say(&b, "fired at one instant", "fire_instant", f->fire_instant, a->fire_instant,
        h->fire_instant);
    side_register(&sides[0], w.spread, count);
    kwr_backend_stats stats = { .struct_size = sizeof stats };
    kwr_backend_get_stats(sides[0].ours.backend, &stats);
    bench_say(&b, "  memory in use: %.1f bytes a timer of %d\n",
              (double)stats.used_bytes / (double)count, 8 + 1 + KEY + 8);
    bench_json(&b, "memory", "\"bytes_per_timer\":%.1f", (double)stats.used_bytes / (double)count);
    ours_close(&sides[0].ours);
    heap_close(&sides[1].heap);
    free(w.spread);
    free(w.instant);
    free(w.order);
    return 0;
}
