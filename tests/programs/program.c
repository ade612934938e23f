/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a program, and what they draw. */
#include "tests/programs/operators.h"
#include "tests/programs/states.h"
#include "tests/programs/timers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- choices ---- */

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
uint64_t draw(program *p) { return mix(p->draw += 0x9e3779b97f4a7c15); }
size_t below(program *p, size_t n) { return (size_t)(draw(p) % n); }
bool percent(program *p, unsigned n) { return below(p, 100) < n; }
/* The stream of one operation; that of the program itself is number -1. */
static void begin_stream(program *p, uint64_t number) {
    p->draw = mix(p->options->seed * 0x9e3779b97f4a7c15 + mix(number + 2));
}

static uint32_t some_size(program *p) {
    const size_t dice = below(p, 400);
    if (dice < 40) return 0;
    if (dice < 60) return (uint32_t)below(p, 5000);
    if (dice < 64) return (uint32_t)below(p, 30000);
    if (dice < 65) return (uint32_t)below(p, SCRATCH);
    return (uint32_t)below(p, dice < 150 ? 300 : 40);
}
item some_item(program *p) { return (item){ .tag = p->next_tag++, .size = some_size(p) }; }

kwr_slice item_bytes(program *p, item value) {
    item_fill(p->scratch, value.tag, 0, value.size);
    return (kwr_slice){ p->scratch, value.size };
}
bool holds_item(kwr_slice got, item want) {
    return got.size == want.size && item_filled(got.data, want.tag, 0, want.size);
}
bool slice_is(kwr_slice a, kwr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

size_t some_bulk(program *p, item *items, kwr_slice *slices) {
    const size_t count = below(p, percent(p, 70) ? 6 : BULK);
    const size_t most = percent(p, 90) ? 60 : SCRATCH / BULK;
    uint8_t *at = p->scratch;
    for (size_t i = 0; i < count; i++) {
        items[i] = (item){ p->next_tag++, (uint32_t)below(p, most) };
        item_fill(at, items[i].tag, 0, items[i].size);
        slices[i] = (kwr_slice){ at, items[i].size };
        at += items[i].size;
    }
    return count;
}

/* ---- keys and names ---- */

const state_row *const states[STATES] = {
    [STATE_VALUE] = &state_value,     [STATE_NUMBER] = &state_number, [STATE_SUM] = &state_sum,
    [STATE_LONGEST] = &state_longest, [STATE_MEAN] = &state_mean,     [STATE_LIST] = &state_list,
    [STATE_MAP] = &state_map,
};

kwr_slice key_bytes(const program *p, size_t key) {
    return (kwr_slice){ p->keys[key], p->key_sizes[key] };
}
kwr_slice name_bytes(size_t name) {
    static const char *const names[NAMES] = { "", "w", "window-17",
                                              "a namespace that is longer than most of them are" };
    return (kwr_slice){ names[name], strlen(names[name]) };
}
uint32_t key_group_of(const program *p, size_t key) {
    return kwr_key_group(key_bytes(p, key), p->hash_seed, p->max_parallelism);
}
subtask *owner_of(program *p, size_t key) {
    return (subtask *)&p
        ->tasks[kwr_key_group_owner(key_group_of(p, key), p->parallelism, p->max_parallelism)];
}
static void make_keys(program *p) {
    for (size_t i = 0; i < KEYS; i++) {
        const int size = snprintf(p->keys[i], sizeof p->keys[i], "%zu", i);
        p->key_sizes[i] = (size_t)size + (i % 7 == 3 ? i * 2 : 0); /* some with zeros behind */
    }
    p->key_sizes[1] = 0; /* the empty key */
}
/* Half of the time one of a few that are hot. */
static size_t some_key(program *p) { return percent(p, 50) ? below(p, 3) : below(p, KEYS); }

/* ---- failures ---- */

void differs(const program *p, const char *what, const char *file, int line) {
    const char *slash = strrchr(file, '/');
    printf("seed %llu, engine %s, operation %u (%s): %s:%d: not so: %s\n",
           (unsigned long long)p->options->seed, p->engine->name, p->operation, p->doing,
           slash == NULL ? file : slash + 1, line, what);
    for (uint32_t i = 0; i < p->parallelism; i++)
        if (p->tasks[i].backend != NULL && kwr_backend_error(p->tasks[i].backend)->text[0] != '\0')
            printf("    last failure of subtask %u: %s\n", i,
                   kwr_backend_error(p->tasks[i].backend)->text);
    fflush(stdout);
    _Exit(1);
}

void must(const program *p, kwr_status got, kwr_status want, const char *call, const char *file,
          int line) {
    if (got == want) return;
    char text[400];
    snprintf(text, sizeof text, "%s gives %s, got %s", call, kwr_status_name(want),
             kwr_status_name(got));
    differs(p, text, file, line);
}

bool lacks(program *p, kwr_status status) {
    if (status == KWR_ERR_UNSUPPORTED) p->lacks_collections = true;
    EXPECT(p->lacks_collections ? KWR_ERR_UNSUPPORTED : KWR_OK, status);
    return p->lacks_collections;
}

/* ---- operations ---- */

/* Makes some key current: by setting it, by a batch, or by leaving the last one. */
static subtask *some_current(program *p) {
    const size_t dice = below(p, 10);
    const size_t key = some_key(p);
    subtask *t = owner_of(p, key);
    if (dice < 5 && t->has_key) return t;
    if (dice < 8 && t->batch_count > 0) {
        const size_t i = below(p, t->batch_count);
        MUST(kwr_key_batch_select(t->batch, i));
        t->key = t->batch_keys[i];
    } else {
        MUST(kwr_backend_set_key(t->backend, key_bytes(p, key)));
        t->key = key;
    }
    t->has_key = true;
    return t;
}

static void do_state(program *p) {
    subtask *t = some_current(p);
    const state_id state = (state_id)below(p, STATES);
    if (t->states[state] == NULL) return;
    if (percent(p, 30)) {
        t->name[state] = below(p, NAMES);
        MUST(states[state]->set_namespace(t, name_bytes(t->name[state])));
    }
    cell *want = &p->now->at[state][t->key][t->name[state]];
    p->doing = states[state]->name;
    states[state]->act(p, t, want);
    states[state]->compare(p, t, want);
}

/* Moves what a key has in some namespaces into another one. */
static void do_merge(program *p) {
    p->doing = "merge";
    subtask *t = some_current(p);
    const state_id state = (state_id)below(p, STATES);
    if (t->states[state] == NULL || states[state]->merge == NULL) return;
    const size_t target = below(p, NAMES), count = below(p, NAMES + 1);
    kwr_slice sources[NAMES];
    cell *want = p->now->at[state][t->key];
    for (size_t i = 0; i < count; i++) {
        const size_t source = below(p, NAMES);
        sources[i] = name_bytes(source);
        if (source == target || !want[source].present) continue;
        states[state]->join(&want[target], &want[source]);
        cell_clear(&want[source]);
    }
    MUST(states[state]->merge(t, name_bytes(target), sources, count));
    /* The handle's own namespace has stayed. */
    states[state]->compare(p, t, &want[t->name[state]]);
    for (size_t name = 0; name < NAMES; name++)
        compare_cell(p, t, state, t->key, name);
    MUST(states[state]->set_namespace(t, name_bytes(t->name[state])));
}

static void do_load(program *p) {
    p->doing = "load";
    subtask *t = owner_of(p, some_key(p));
    const size_t wanted = below(p, BATCH + 1);
    t->batch_count = 0;
    for (size_t tries = 0; tries < 4 * BATCH && t->batch_count < wanted; tries++) {
        const size_t key = some_key(p);
        if (owner_of(p, key) != t) continue;
        t->batch_keys[t->batch_count] = key;
        t->batch_slices[t->batch_count++] = key_bytes(p, key);
    }
    MUST(kwr_key_batch_load(t->batch, t->batch_slices, NULL, t->batch_count));
    kwr_slice key;
    t->has_key = kwr_backend_key(t->backend, &key, NULL) == KWR_OK;
    if (t->has_key) REQUIRE(slice_is(key, key_bytes(p, t->key)));
    if (percent(p, 70)) {
        const size_t most = p->lacks_collections ? STATE_LIST : STATES;
        const size_t first = below(p, most);
        kwr_key_batch_prefetch(t->batch, t->states + first, 1 + below(p, most - first));
    }
}

/* A key of another subtask is refused, and the current one stays. */
static void do_foreign_key(program *p) {
    p->doing = "foreign key";
    const size_t key = some_key(p);
    subtask *t = &p->tasks[below(p, p->parallelism)];
    if (owner_of(p, key) == t) return;
    EXPECT(KWR_ERR_MISUSE, kwr_backend_set_key(t->backend, key_bytes(p, key)));
    kwr_slice now;
    EXPECT(t->has_key ? KWR_OK : KWR_NOT_FOUND, kwr_backend_key(t->backend, &now, NULL));
    if (t->has_key) REQUIRE(slice_is(now, key_bytes(p, t->key)));
}

void freeze_job(program *p, frozen *f) {
    f->count = p->parallelism;
    f->want = table_copy(p->now);
    for (uint32_t i = 0; i < p->parallelism; i++)
        MUST(kwr_backend_freeze(p->tasks[i].backend, &f->views[i]));
}

void end_frozen(program *p, frozen *f, bool look) {
    if (f->count > 0 && look) compare_frozen(p, f);
    for (uint32_t i = 0; i < f->count; i++)
        kwr_view_release(f->views[i]);
    table_free(f->want);
    *f = (frozen){ 0 };
}

static void do_freeze(program *p) {
    p->doing = "release";
    frozen *f = &p->frozen[below(p, VIEWS)];
    end_frozen(p, f, percent(p, 60));
    p->doing = "freeze";
    freeze_job(p, f);
}

static void do_restart(program *p) {
    p->doing = "restart";
    if (!p->engine->images || p->options->parallelism > 0) return;
    uint32_t most = p->max_parallelism < SUBTASKS_MAX ? p->max_parallelism : SUBTASKS_MAX;
    if (percent(p, 50) && most > 4) most = 4;
    const uint32_t parallelism = percent(p, 30) ? p->parallelism : 1 + (uint32_t)below(p, most);
    job_restart(p, parallelism);
    compare_job(p);
    p->doing = "restart of operator state";
    operators_restart(p, parallelism);
}

static void do_maintain(program *p) {
    p->doing = "maintain";
    subtask *t = &p->tasks[below(p, p->parallelism)];
    (void)kwr_backend_maintain(t->backend, below(p, 100000));
}

static void operate(program *p) {
    if (below(p, 1000) < p->options->checkpoints) {
        chain_checkpoint(p);
        return;
    }
    const size_t dice = below(p, 1000);
    if (dice < 670)
        do_state(p);
    else if (dice < 710)
        do_merge(p);
    else if (dice < 810)
        timers_act(p, some_current(p));
    else if (dice < 830)
        raw_act(p);
    else if (dice < 850)
        do_across(p);
    else if (dice < 900)
        operators_act(p);
    else if (dice < 930)
        do_load(p);
    else if (dice < 940)
        do_foreign_key(p);
    else if (dice < 965)
        do_freeze(p);
    else if (dice < 980)
        do_maintain(p);
    else
        do_restart(p);
}

/* ---- programs ---- */

static void set_up(program *p) {
    begin_stream(p, UINT64_MAX);
    const uint32_t maxima[] = { 1, 2, 5, 16, 40, 128, 300 };
    p->max_parallelism = maxima[below(p, sizeof maxima / sizeof maxima[0])];
    if (p->options->max_parallelism > 0) p->max_parallelism = p->options->max_parallelism;
    p->hash_seed = draw(p);
    p->compare_all = percent(p, 50);
    const size_t dice = below(p, 100);
    if (p->options->engine != NULL)
        p->engine = p->options->engine;
    else
        p->engine = &engines[dice < 65 ? 0 : dice < 80 ? 1 : dice < 92 ? 2 : 3];
    const uint32_t most = p->max_parallelism < SUBTASKS_MAX ? p->max_parallelism : SUBTASKS_MAX;
    uint32_t parallelism = percent(p, 50) ? 1 : 1 + (uint32_t)below(p, most);
    if (p->options->parallelism > 0) parallelism = p->options->parallelism;
    p->registered = p->engine->registered;
    make_keys(p);
    p->doing = "open";
    job_open(p, parallelism);
}

void program_operations(program *p) {
    for (p->operation = 0; p->operation < p->options->operations; p->operation++) {
        if (p->options->skip != NULL && p->options->skip[p->operation]) continue;
        begin_stream(p, p->operation);
        p->next_tag = (uint64_t)p->operation << 20;
        p->doing = "";
        operate(p);
        if (p->options->log) printf("%4u %s\n", p->operation, p->doing);
        if (p->compare_all || p->operation % 32 == 31) {
            compare_job(p);
            operators_compare(p, false);
        }
    }
}

program *program_begin(kwr_env *env, const program_options *options) {
    program *p = (program *)need(calloc(1, sizeof *p));
    p->options = options;
    p->env = env;
    p->now = table_new();
    p->scratch = (uint8_t *)need(malloc(SCRATCH));
    set_up(p);
    return p;
}

void program_end(program *p) {
    p->doing = "end";
    compare_job(p);
    operators_compare(p, true);
    operators_end(p);
    /* Some views are read when their backends are gone. */
    end_frozen(p, &p->frozen[0], true);
    job_close(p);
    for (size_t i = 1; i < VIEWS; i++)
        end_frozen(p, &p->frozen[i], true);
    /* Views of what was restored lazily may read there. */
    chain_end(p);
    table_free(p->now);
    free(p->scratch);
    free(p);
}

void program_run(kwr_env *env, const program_options *options) {
    program *p = program_begin(env, options);
    program_operations(p);
    program_end(p);
}
