/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "base/name.h"
#include "snapshot/checkpoint.h"
#include "tests/sim/kinds.h"
#include "tests/sim/planted.h"

__attribute__((format(printf, 3, 4))) static bool broken(char *why, size_t size, const char *format,
                                                         ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, size, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- checkpoints ---- */

typedef struct looking {
    sim_job *run;
    const kwr_sim_disk *disk;
    const char *damaged; /* name of the file that may be found so, NULL: none */
    sim_outlook out;
    char *why;
    size_t why_size;
    bool good;
    /* Of the checkpoint being read: what its sources have read of each key, and each state. */
    uint64_t expected[SIM_KEYS_MAX];
    uint64_t counts[SIM_KEYS_MAX], totals[SIM_KEYS_MAX], latest[SIM_KEYS_MAX];
    uint64_t recent[SIM_KEYS_MAX], journal[SIM_KEYS_MAX]; /* elements so far */
    sim_kinds_seen kinds[SIM_KEYS_MAX];
    const char *finding;
    char finding_text[512];
} looking;

static void on_finding(void *ctx, const kwr_finding *finding) {
    looking *l = ctx;
    if (l->finding != NULL) return;
    snprintf(l->finding_text, sizeof l->finding_text, "%s offset %llu: %s", finding->file,
             (unsigned long long)finding->offset, finding->text);
    l->finding = l->finding_text;
}

/* The damage that was done, and no other, may be reported. */
static bool excused(const looking *l, const char *text) {
    return l->damaged != NULL && strstr(text, l->damaged) != NULL;
}

/* Keys are "k<number>", families "f<number>". */
static bool parse_name(char letter, kwr_slice key, unsigned keys, unsigned *out) {
    uint64_t number;
    const char *text = key.data;
    if (key.size < 2 || text[0] != letter || !kwr_parse_u64(text + 1, key.size - 1, &number) ||
        number >= keys)
        return false;
    *out = (unsigned)number;
    return true;
}

/* A state of one value for each key or family: kept to be compared. */
static bool keep(uint64_t *place, const kwr_entry *entry) {
    if (entry->value.size != 8 || *place != 0) return false;
    *place = kwr_get_le64(entry->value.data);
    return true;
}

/* Elements since the last multiple, in order. */
static bool on_recent(looking *l, const kwr_entry *entry, unsigned key) {
    const uint64_t before = l->expected[key] - l->expected[key] % SIM_RECENT;
    return entry->value.size == 8 && kwr_get_le64(entry->value.data) == before + ++l->recent[key];
}

/* Every record of the family; those of one key in order. */
static bool on_journal(looking *l, const kwr_entry *entry, unsigned family) {
    const uint8_t *bytes = entry->value.data;
    if (entry->value.size != SIM_JOURNAL_BYTES) return false;
    const uint64_t key = kwr_get_le64(bytes), count = kwr_get_le64(bytes + 8);
    if (key >= l->run->shape.keys || key / SIM_FAMILY != family) return false;
    return count == ++l->journal[key] && bytes[SIM_JOURNAL_BYTES - 1] == (uint8_t)count;
}

static bool on_tally(looking *l, const char *state, const kwr_entry *entry) {
    const unsigned keys = l->run->shape.keys;
    unsigned key, family;
    if (!parse_name('f', entry->key, keys, &family)) return false;
    if (strcmp(state, "total") == 0) return keep(&l->totals[family], entry);
    if (strcmp(state, "journal") == 0) return on_journal(l, entry, family);
    const bool map = strcmp(state, "latest") == 0;
    if (!parse_name('k', map ? entry->subkey : entry->name, keys, &key) ||
        key / SIM_FAMILY != family)
        return false;
    return map ? keep(&l->latest[key], entry) : on_recent(l, entry, key);
}

static bool on_count(looking *l, const kwr_state_info *state, const kwr_entry *entry) {
    unsigned key;
    if (!parse_name('k', sim_kinds_key(state, entry), l->run->shape.keys, &key)) return false;
    if (strcmp(state->name, "count") == 0) return keep(&l->counts[key], entry);
    sim_kinds_see(&l->kinds[key], state, entry);
    return true;
}

static kwr_status on_entry(void *ctx, const kwr_manifest_operator *op,
                           const kwr_manifest_subtask *subtask, const kwr_state_info *state,
                           const kwr_entry *entry) {
    looking *l = ctx;
    (void)subtask;
    if (strcmp(op->id, "tally") == 0 ? on_tally(l, state->name, entry) : on_count(l, state, entry))
        return KWR_OK;
    l->good = broken(l->why, l->why_size,
                     "not a consistent cut: an entry of %s is not one its sources have led to, or "
                     "there twice",
                     state->name);
    return KWR_ERR_CORRUPT;
}

/* Records of `key` before the source positions of the manifest. */
static bool expected_counts(looking *l, const kwr_manifest *m) {
    uint64_t *expected = l->expected;
    for (size_t o = 0; o < m->operator_count; o++) {
        if ((m->operators[o].roles & 1) == 0) continue;
        for (uint32_t s = 0; s < m->operators[o].parallelism; s++) {
            const kwr_manifest_subtask *t = &m->operators[o].subtasks[s];
            for (size_t i = 0; i < t->split_count; i++) {
                uint64_t position;
                unsigned split;
                if (!parse_name('s', t->splits[i].id, l->run->shape.splits, &split) ||
                    !kwr_parse_u64(t->splits[i].position.data, t->splits[i].position.size,
                                   &position) ||
                    position > l->run->shape.records)
                    return broken(l->why, l->why_size, "a split or its position is not one we set");
                for (uint64_t r = 0; r < position; r++)
                    expected[l->run->key_of[split * l->run->shape.records + r]]++;
            }
        }
    }
    return true;
}

/* What is wrong with the states of the key; NULL: nothing. */
static const char *wrong(const looking *l, unsigned k) {
    const uint64_t expected = l->expected[k];
    if (l->counts[k] != expected) return "count";
    if (l->latest[k] != expected) return "latest";
    if (l->recent[k] != expected % SIM_RECENT) return "recent";
    if (l->journal[k] != (l->run->shape.journal ? expected : 0)) return "journal";
    return sim_kinds_wrong(&l->kinds[k], l->run->shape.wide, (int64_t)expected);
}

static void compare_counts(looking *l, const kwr_slot *slot) {
    uint64_t totals[SIM_KEYS_MAX] = { 0 };
    for (unsigned k = 0; k < l->run->shape.keys; k++) {
        const char *state = wrong(l, k);
        totals[k / SIM_FAMILY] += l->expected[k];
        if (state == NULL) continue;
        l->good = broken(l->why, l->why_size,
                         "not a consistent cut: checkpoint %llu has %llu for k%u, its sources have "
                         "read %llu; the state is %s",
                         (unsigned long long)slot->checkpoint, (unsigned long long)l->counts[k], k,
                         (unsigned long long)l->expected[k], state);
        return;
    }
    if (memcmp(totals, l->totals, sizeof totals) != 0)
        l->good = broken(l->why, l->why_size,
                         "not a consistent cut: checkpoint %llu has other totals than its sources",
                         (unsigned long long)slot->checkpoint);
}

static void look_at_checkpoint(looking *l, const kwr_job_dirs *dirs, const kwr_limits *limits,
                               const kwr_slot *slot) {
    kwr_manifest *m = NULL;
    kwr_error err = { 0 };
    kwr_verify_result result = { 0 };
    l->finding = NULL;
    if (kwr_checkpoint_open(dirs, limits, slot, &m, &err) < KWR_OK ||
        kwr_checkpoint_verify(dirs, limits, m, on_finding, l, &result, &err) < KWR_OK) {
        if (excused(l, err.text)) goto done;
        l->good = broken(l->why, l->why_size, "checkpoint %llu of the log cannot be read: %s",
                         (unsigned long long)slot->checkpoint, err.text);
    } else if (result.findings > 0) {
        if (excused(l, l->finding)) goto done;
        l->good = broken(l->why, l->why_size, "checkpoint %llu of the log is damaged: %s",
                         (unsigned long long)slot->checkpoint, l->finding);
    } else {
        memset(l->expected, 0, sizeof l->expected);
        memset(l->counts, 0, sizeof l->counts);
        memset(l->totals, 0, sizeof l->totals);
        memset(l->latest, 0, sizeof l->latest);
        memset(l->recent, 0, sizeof l->recent);
        memset(l->journal, 0, sizeof l->journal);
        memset(l->kinds, 0, sizeof l->kinds);
        l->good = expected_counts(l, m);
        if (l->good &&
            kwr_checkpoint_walk(dirs, limits, m, NULL, NULL, on_entry, l, &err) < KWR_OK && l->good)
            l->good = broken(l->why, l->why_size, "checkpoint %llu: %s",
                             (unsigned long long)slot->checkpoint, err.text);
        if (l->good) compare_counts(l, slot);
    }
done:
    kwr_manifest_free(m);
}

/* A checkpoint whose every byte was looked at before is as good as it was. */
static void look_at_checkpoint_once(looking *l, const kwr_job_dirs *dirs, const kwr_limits *limits,
                                    const kwr_slot *slot) {
    char path[64];
    sim_job *run = l->run;
    snprintf(path, sizeof path, "/ckpt/sim/chk-%llu-%llu/", (unsigned long long)slot->checkpoint,
             (unsigned long long)slot->generation);
    const uint64_t hash =
        (kwr_sim_disk_hash(l->disk, path) ^ 3 * kwr_sim_disk_hash(l->disk, "/ckpt/sim/shared/") ^
         kwr_get_le64(slot->digest.bytes)) |
        1;
    for (unsigned i = 0; i < SIM_KNOWN && l->damaged == NULL; i++)
        if (run->good[i] == hash) return;
    look_at_checkpoint(l, dirs, limits, slot);
    if (!l->good || l->damaged != NULL) return;
    run->good[run->good_at] = hash;
    run->good_at = (run->good_at + 1) % SIM_KNOWN;
}

static void look_at_log(looking *l, const kwr_job_dirs *dirs, const kwr_limits *limits) {
    kwr_log log = { 0 };
    kwr_error err = { 0 };
    bool base_missing = false;
    uint64_t generation = 0;
    if (kwr_log_read(dirs, limits, &log, &err) < KWR_OK) {
        l->out.unknown = excused(l, err.text);
        if (l->out.unknown) return;
        l->good = broken(l->why, l->why_size, "the log cannot be read: %s", err.text);
        return;
    }
    for (size_t i = 0; l->good && i < log.count; i++) {
        const kwr_slot *slot = &log.slots[i];
        if (slot->generation < generation ||
            (slot->kind == KWR_SLOT_CHECKPOINT && i > 0 && slot->generation != generation)) {
            l->good = broken(l->why, l->why_size,
                             "fencing: slot %llu is of generation %llu, above a fence of %llu",
                             (unsigned long long)slot->number, (unsigned long long)slot->generation,
                             (unsigned long long)generation);
        }
        generation = slot->generation;
        if (l->good && slot->kind == KWR_SLOT_CHECKPOINT)
            look_at_checkpoint_once(l, dirs, limits, slot);
    }
    const kwr_slot *newest = kwr_log_newest(&log, &base_missing);
    l->out = (sim_outlook){ .newest = newest == NULL ? 0 : newest->checkpoint,
                            .generation = generation,
                            .highest = kwr_log_highest(&log),
                            .final = newest != NULL && newest->final };
    kwr_log_free(&log);
}

static void look(void *ctx, const kwr_env *env) {
    looking *l = ctx;
    kwr_storage *storage = NULL;
    kwr_job_dirs dirs = { 0 };
    kwr_limits limits;
    kwr_error err = { 0 };
    const kwr_status opened = kwr_storage_open(env, "file:/ckpt", false, &storage, &err);
    if (opened == KWR_ERR_MISSING) return; /* before the first start got that far */
    if (opened < KWR_OK || kwr_limits_complete(NULL, &limits, &err) < KWR_OK) {
        l->good = broken(l->why, l->why_size, "the storage cannot be opened: %s", err.text);
        return;
    }
    const kwr_status found = kwr_job_dirs_open(env, storage, "sim", false, &dirs, &err);
    if (found == KWR_OK)
        look_at_log(l, &dirs, &limits);
    else if (found != KWR_ERR_MISSING)
        l->good = broken(l->why, l->why_size, "the job cannot be opened: %s", err.text);
    if (found == KWR_OK) kwr_job_dirs_close(&dirs);
    kwr_storage_close(storage);
}

static bool check_checkpoints(sim_job *run, kwr_sim_disk *disk, const char *damaged,
                              sim_outlook *out, char *why, size_t why_size) {
    looking l = {
        .run = run, .disk = disk, .damaged = damaged, .why = why, .why_size = why_size, .good = true
    };
    const uint64_t hash = kwr_sim_disk_hash(disk, "/ckpt/") | 1;
    for (unsigned i = 0; i < SIM_KNOWN && damaged == NULL; i++) {
        if (run->known[i].hash != hash) continue;
        *out = run->known[i].look;
        return true;
    }
    /* Oracles read with the library as it should be. */
    sim_mistakes_pause(true);
    kwr_sim_look(run->sim, disk, look, &l);
    sim_mistakes_pause(false);
    *out = l.out;
    if (!l.good || damaged != NULL) return l.good;
    run->known[run->known_at].hash = hash;
    run->known[run->known_at].look = l.out;
    run->known_at = (run->known_at + 1) % SIM_KNOWN;
    return true;
}

/* ---- output ---- */

typedef struct part {
    uint64_t checkpoint;
    char *data;
    size_t size;
} part;

typedef struct parts {
    part *items;
    size_t count, capacity;
    bool foreign;
    char name[256];
} parts;

static void on_part(void *ctx, const char *path, const void *data, size_t size) {
    parts *list = ctx;
    if (strncmp(path, "/out/part-", 10) != 0) return;
    char *end;
    const uint64_t checkpoint = strtoull(path + 10, &end, 10);
    if (*end != '-') {
        list->foreign = true;
        snprintf(list->name, sizeof list->name, "%s", path);
        return;
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 32 : 2 * list->capacity;
        list->items = realloc(list->items, list->capacity * sizeof *list->items);
        if (list->items == NULL) abort();
    }
    char *copy = malloc(size + 1);
    if (copy == NULL) abort();
    memcpy(copy, data, size);
    copy[size] = '\0';
    list->items[list->count++] = (part){ checkpoint, copy, size };
}

static int by_checkpoint(const void *a, const void *b) {
    const part *x = a, *y = b;
    return (x->checkpoint > y->checkpoint) - (x->checkpoint < y->checkpoint);
}

/* Reads "k<key> TAB <count> LF" lines and counts on from `seen`. */
static bool read_part(const part *p, const sim_job *run, uint64_t *seen, char *why,
                      size_t why_size) {
    size_t at = 0;
    while (at < p->size) {
        const char *line = p->data + at, *end = memchr(line, '\n', p->size - at);
        const char *tab = end == NULL ? NULL : memchr(line, '\t', (size_t)(end - line));
        unsigned key;
        uint64_t count;
        if (tab == NULL ||
            !parse_name('k', (kwr_slice){ line, (size_t)(tab - line) }, run->shape.keys, &key) ||
            !kwr_parse_u64(tab + 1, (size_t)(end - tab - 1), &count))
            return broken(why, why_size, "a torn line in a part of checkpoint %llu",
                          (unsigned long long)p->checkpoint);
        if (count != seen[key] + 1)
            return broken(why, why_size,
                          "exactly once: k%u goes from %llu to %llu in a part of checkpoint %llu",
                          key, (unsigned long long)seen[key], (unsigned long long)count,
                          (unsigned long long)p->checkpoint);
        seen[key] = count;
        at = (size_t)(end - p->data) + 1;
    }
    return true;
}

static bool check_output(const sim_job *run, const kwr_sim_disk *disk, uint64_t highest,
                         bool complete, char *why, size_t why_size) {
    parts list = { 0 };
    uint64_t seen[SIM_KEYS_MAX] = { 0 }, total[SIM_KEYS_MAX] = { 0 };
    bool good = true;
    kwr_sim_disk_visit(disk, false, on_part, &list);
    if (list.foreign) good = broken(why, why_size, "%s is not a name of a part", list.name);
    if (list.count > 1) qsort(list.items, list.count, sizeof *list.items, by_checkpoint);
    for (size_t i = 0; i < list.count; i++) {
        if (good && list.items[i].checkpoint > highest)
            good =
                broken(why, why_size, "output of checkpoint %llu is visible; completed is %llu",
                       (unsigned long long)list.items[i].checkpoint, (unsigned long long)highest);
        if (good) good = read_part(&list.items[i], run, seen, why, why_size);
        free(list.items[i].data);
    }
    free(list.items);
    for (size_t r = 0; r < (size_t)run->shape.splits * run->shape.records; r++)
        total[run->key_of[r]]++;
    for (unsigned k = 0; good && k < run->shape.keys; k++)
        if (complete ? seen[k] != total[k] : seen[k] > total[k])
            good = broken(why, why_size, "exactly once: k%u was counted to %llu of %llu", k,
                          (unsigned long long)seen[k], (unsigned long long)total[k]);
    return good;
}

/* ---- garbage ---- */

typedef struct census {
    unsigned checkpoints, slots, shared, pending, other;
    char example[256];
} census;

static void on_file(void *ctx, const char *path, const void *data, size_t size) {
    census *c = ctx;
    (void)data;
    (void)size;
    if (strncmp(path, "/ckpt/sim/log/", 14) == 0 && path[14] != '.')
        c->slots++;
    else if (strncmp(path, "/ckpt/sim/shared/", 17) == 0 && path[17] != '.')
        c->shared++;
    else if (strncmp(path, "/ckpt/sim/chk-", 14) == 0 && strstr(path, "/.") == NULL)
        c->checkpoints += strstr(path, "manifest.json") != NULL;
    else if (strncmp(path, "/out/.pending-", 14) == 0)
        c->pending++;
    else if (strstr(path, "/.") != NULL && strstr(path, ".keyweir.lock") == NULL) {
        c->other++;
        snprintf(c->example, sizeof c->example, "%s", path);
    }
}

static bool check_garbage(const kwr_sim_disk *disk, unsigned retain, char *why, size_t why_size) {
    census c = { 0 };
    kwr_sim_disk_visit(disk, false, on_file, &c);
    /* A final attempt that ended cleanly may leave what its last retention could not yet remove:
     * one checkpoint. Explicit choices are not made here. */
    if (c.checkpoints > retain + 1)
        return broken(why, why_size, "garbage: %u checkpoints are left, %u are to be retained",
                      c.checkpoints, retain);
    if (c.pending > 0) return broken(why, why_size, "garbage: %u pending outputs", c.pending);
    if (c.other > 0)
        return broken(why, why_size, "garbage: %u temporary files, such as %s", c.other, c.example);
    return true;
}

/* ---- all of it ---- */

bool sim_damageable(void *run, const char *path) {
    (void)run;
    return strncmp(path, "/ckpt/sim/", 10) == 0 && strstr(path, "/.") == NULL;
}

bool sim_check(void *ctx, kwr_sim_disk *disk, const kwr_sim_check *check, char *why,
               size_t why_size) {
    sim_job *run = ctx;
    const char *damaged = check->damaged == NULL ? NULL : strrchr(check->damaged, '/') + 1;
    const bool end = check->moment == KWR_SIM_AT_END;
    sim_outlook look = { 0 };
    if (!check_checkpoints(run, disk, damaged, &look, why, why_size)) return false;
    if (look.unknown) return true;
    if (look.newest < run->notified)
        return broken(why, why_size, "durability: checkpoint %llu was notified, the newest is %llu",
                      (unsigned long long)run->notified, (unsigned long long)look.newest);
    if (!check_output(run, disk, look.highest, end, why, why_size)) return false;
    if (!end) return true;
    if (!check_garbage(disk, run->shape.retain, why, why_size)) return false;
    return look.final || broken(why, why_size, "the newest checkpoint %llu is not the final one",
                                (unsigned long long)look.newest);
}
