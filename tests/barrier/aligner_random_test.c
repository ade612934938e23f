/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random streams through the aligner, read the way an engine reads them: any channel that is not
 * blocked, one item at a time. Two independent judges. The cut: at a snapshot, the task must have
 * read from every channel exactly the records before that channel's barrier (all of them where the
 * channel ended without one). The model: what was delivered is kept as plain sets, and every answer
 * is derived from them anew.
 */
#include <string.h>

#include "tests/barrier/support.h"

enum { CHANNELS_MAX = 6, IDS_MAX = 24, ITEMS_MAX = 400, GENERATION = 3 };

typedef enum item_kind { RECORD = 1, BARRIER = 2, MARKER = 3, FOREIGN = 4 } item_kind;

typedef struct item {
    item_kind kind;
    uint64_t id;
} item;

typedef struct stream {
    item items[ITEMS_MAX];
    size_t count;
    size_t at;
    uint64_t read; /* records */
    bool paused;   /* as told by block and release */
    bool ended;
    bool has_barrier[IDS_MAX + 1];
    uint64_t before[IDS_MAX + 1]; /* records before the first barrier of that id */
    uint64_t records;
} stream;

/* The model: sets by checkpoint id. */
typedef struct model {
    uint32_t channels;
    uint64_t newest;
    bool delivered[CHANNELS_MAX][IDS_MAX + 1];
    bool ended[CHANNELS_MAX];
    bool begun[IDS_MAX + 1];
    bool taken[IDS_MAX + 1];
    bool voided[IDS_MAX + 1];
    bool told_aborted[IDS_MAX + 1];
} model;

typedef struct world {
    uint64_t first_seed; /* of the run, for messages */
    uint64_t seed;
    uint32_t channels;
    stream streams[CHANNELS_MAX];
    model model;
    uint64_t snapshots, aborts;
} world;

static void put(stream *s, item_kind kind, uint64_t id) {
    cr_assert(s->count < ITEMS_MAX);
    if (kind == RECORD) s->records++;
    if (kind == BARRIER && !s->has_barrier[id]) {
        s->has_barrier[id] = true;
        s->before[id] = s->records;
    }
    s->items[s->count++] = (item){ kind, id };
}

/* Ids grow in a channel, some are missing, doubled, cancelled or of another attempt. */
static void fill(world *w, stream *s) {
    const uint64_t ids = dice_below(&w->seed, IDS_MAX + 1); /* then the channel ends */
    for (uint64_t id = 1; id <= ids; id++) {
        for (uint64_t n = dice_below(&w->seed, 6); n > 0; n--)
            put(s, RECORD, 0);
        const uint64_t fate = dice_below(&w->seed, 20);
        if (fate == 0) continue;
        if (fate == 1) {
            put(s, MARKER, id);
            continue;
        }
        put(s, BARRIER, id);
        if (fate == 2) put(s, BARRIER, id);
        if (fate == 3) put(s, FOREIGN, id + 1 <= IDS_MAX ? id + 1 : id);
        if (fate == 4 && id > 1) put(s, BARRIER, 1 + dice_below(&w->seed, id - 1));
        if (fate == 5) put(s, MARKER, id);
    }
    for (uint64_t n = dice_below(&w->seed, 6); n > 0; n--)
        put(s, RECORD, 0);
}

/* ---- the model ---- */

static uint64_t model_pending(const model *m) {
    const uint64_t id = m->newest;
    return id > 0 && m->begun[id] && !m->taken[id] && !m->voided[id] ? id : 0;
}

static bool model_blocked(const model *m, uint32_t channel) {
    const uint64_t id = model_pending(m);
    return id > 0 && !m->ended[channel] && m->delivered[channel][id];
}

static uint32_t model_blocked_count(const model *m) {
    uint32_t n = 0;
    for (uint32_t c = 0; c < m->channels; c++)
        n += model_blocked(m, c);
    return n;
}

static bool model_all_delivered(const model *m, uint64_t id) {
    for (uint32_t c = 0; c < m->channels; c++) {
        if (!m->ended[c] && !m->delivered[c][id]) return false;
    }
    return true;
}

typedef struct verdict {
    uint64_t aborted;
    kwr_status reason;
    uint64_t taken;
} verdict;

static void model_void(model *m, uint64_t id, kwr_status reason, verdict *v) {
    m->voided[id] = true;
    v->aborted = id;
    v->reason = reason;
}

static verdict model_barrier(model *m, uint32_t channel, uint64_t id, bool marker) {
    verdict v = { 0 };
    const uint64_t old = model_pending(m);
    if (id < m->newest || (id == m->newest && old == 0)) return v;
    if (marker || (id > m->newest && m->told_aborted[id])) {
        m->newest = id;
        model_void(m, id, KWR_ERR_CANCELLED, &v);
        return v;
    }
    if (id > m->newest && old > 0) model_void(m, old, KWR_ERR_DECLINED, &v);
    m->newest = id;
    m->begun[id] = true;
    m->delivered[channel][id] = true;
    if (model_all_delivered(m, id)) {
        m->taken[id] = true;
        v.taken = id;
    }
    return v;
}

static verdict model_end(model *m, uint32_t channel) {
    verdict v = { 0 };
    m->ended[channel] = true;
    const uint64_t id = model_pending(m);
    if (id > 0 && model_all_delivered(m, id)) {
        m->taken[id] = true;
        v.taken = id;
    }
    return v;
}

static verdict model_abort(model *m, uint64_t id) {
    verdict v = { 0 };
    if (id > m->newest) {
        m->told_aborted[id] = true;
    } else if (id == model_pending(m)) {
        model_void(m, id, KWR_ERR_CANCELLED, &v);
    }
    return v;
}

/* ---- the judges ---- */

static void judge_cut(world *w, uint64_t id) {
    for (uint32_t c = 0; c < w->channels; c++) {
        const stream *s = &w->streams[c];
        cr_assert(s->has_barrier[id] || s->ended, "taken before channel %u delivered it", c);
        const uint64_t expected = s->has_barrier[id] ? s->before[id] : s->records;
        cr_assert(s->read == expected,
                  "seed %llu: checkpoint %llu cut channel %u after %llu records, not %llu",
                  (unsigned long long)w->first_seed, (unsigned long long)id, c,
                  (unsigned long long)s->read, (unsigned long long)expected);
    }
}

static void judge(world *w, kwr_aligner *aligner, uint32_t channel, uint32_t blocked_before,
                  const kwr_alignment *did, const verdict *v) {
    const model *m = &w->model;
    cr_assert(did->abort == (v->aborted > 0) && did->aborted == v->aborted &&
              (!did->abort || did->abort_reason == v->reason));
    cr_assert(did->snapshot == (v->taken > 0));
    cr_assert(!did->snapshot || did->barrier.checkpoint == v->taken);
    if (did->release) {
        cr_assert(blocked_before > 0, "released although nothing was blocked");
        for (uint32_t c = 0; c < w->channels; c++)
            w->streams[c].paused = false;
    }
    if (did->block) {
        cr_assert(!w->streams[channel].paused, "blocked a channel twice");
        w->streams[channel].paused = true;
    }
    for (uint32_t c = 0; c < w->channels; c++) {
        if (w->streams[c].ended) w->streams[c].paused = false;
        cr_assert(model_blocked(m, c) == kwr_aligner_blocked(aligner, c));
        cr_assert(w->streams[c].paused == model_blocked(m, c),
                  "the actions and the state disagree on channel %u", c);
    }
    cr_assert(kwr_aligner_pending(aligner) == model_pending(m));
    if (did->snapshot) judge_cut(w, did->barrier.checkpoint);
    w->snapshots += did->snapshot;
    w->aborts += did->abort;
}

/* ---- one run ---- */

static void read_item(world *w, kwr_aligner *aligner, uint32_t channel) {
    stream *s = &w->streams[channel];
    const uint32_t blocked = model_blocked_count(&w->model);
    kwr_alignment did;
    verdict v = { 0 };
    if (s->at == s->count) {
        s->ended = true;
        v = model_end(&w->model, channel);
        KWR_MUST(kwr_aligner_end(aligner, channel, 0, &did));
        judge(w, aligner, channel, blocked, &did, &v);
        return;
    }
    const item it = s->items[s->at++];
    if (it.kind == RECORD) {
        s->read++;
        return;
    }
    const kwr_barrier barrier = {
        .checkpoint = it.id,
        .generation = it.kind == FOREIGN ? GENERATION + 1 : GENERATION,
        .cancelled = it.kind == MARKER,
    };
    if (it.kind != FOREIGN) {
        v = model_barrier(&w->model, channel, it.id, it.kind == MARKER);
    }
    KWR_MUST(kwr_aligner_barrier(aligner, channel, &barrier, 0, &did));
    judge(w, aligner, channel, blocked, &did, &v);
}

static void abort_some(world *w, kwr_aligner *aligner) {
    const uint64_t id = 1 + dice_below(&w->seed, IDS_MAX);
    const uint32_t blocked = model_blocked_count(&w->model);
    const verdict v = model_abort(&w->model, id);
    kwr_alignment did;
    KWR_MUST(kwr_aligner_abort(aligner, id, &did));
    judge(w, aligner, 0, blocked, &did, &v);
}

/* The next channel to read: not ended, not blocked; false when there is none. */
static bool choose(world *w, uint32_t *channel) {
    uint32_t able[CHANNELS_MAX], n = 0;
    for (uint32_t c = 0; c < w->channels; c++) {
        if (!w->streams[c].ended && !w->streams[c].paused) able[n++] = c;
    }
    if (n == 0) return false;
    *channel = able[dice_below(&w->seed, n)];
    return true;
}

static void run(uint64_t seed, uint64_t *snapshots, uint64_t *aborts) {
    static world w;
    memset(&w, 0, sizeof w);
    w.first_seed = w.seed = seed;
    w.channels = w.model.channels = 1 + (uint32_t)dice_below(&w.seed, CHANNELS_MAX);
    for (uint32_t c = 0; c < w.channels; c++)
        fill(&w, &w.streams[c]);
    const uint64_t abort_rate = one_in(&w.seed, 2) ? 40 : 1000000;

    memory_env memory;
    kwr_aligner *aligner = NULL;
    KWR_MUST(kwr_aligner_new(memory_env_init(&memory), w.channels, GENERATION, &aligner, NULL));
    uint32_t channel;
    while (choose(&w, &channel)) {
        if (one_in(&w.seed, abort_rate)) {
            abort_some(&w, aligner);
        } else {
            read_item(&w, aligner, channel);
        }
    }
    for (uint32_t c = 0; c < w.channels; c++) {
        cr_assert(w.streams[c].ended, "seed %llu: channel %u stays blocked for ever",
                  (unsigned long long)seed, c);
    }
    cr_assert(kwr_aligner_pending(aligner) == 0);
    kwr_aligner_free(aligner);
    *snapshots += w.snapshots;
    *aborts += w.aborts;
}

KWR_TEST(aligner_random, cuts_every_stream_at_its_barrier_and_never_blocks_for_ever,
         .timeout = 300) {
    uint64_t snapshots = 0, aborts = 0;
    for (uint64_t seed = 1; seed <= 5000; seed++)
        run(seed, &snapshots, &aborts);
    cr_assert(snapshots > 5000 && aborts > 5000, "too little happened: %llu snapshots, %llu aborts",
              (unsigned long long)snapshots, (unsigned long long)aborts);
}
