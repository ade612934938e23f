/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop with a seed: a key, a time that goes on by one tick on average, some events late,
 * a watermark every unit (1000 ticks), three units behind. The state of the operators here is only
 * what is needed to know which accesses they make.
 */
#include "bench/workload.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "bench/bench.h"

enum { LATENESS = 3 * WORKLOAD_UNIT, SLIDES = 5, WINDOWS_MAX = 16, SESSIONS_MAX = 8 };

static const char magic[8] = "kwrtrac1";

typedef struct trace_head {
    char magic[8];
    uint64_t count, digest;
} trace_head;

static void die(const char *what) {
    fprintf(stderr, "workload: %s\n", what);
    exit(1);
}

const char *workload_name(workload_operator which) {
    static const char *const names[] = { "tumbling sum",  "tumbling list", "sliding sum",
                                         "sliding list",  "session sum",   "session list",
                                         "tumbling join", "interval join" };
    return names[which];
}

/* ---- a growing array of numbers ---- */

typedef struct numbers {
    uint64_t *at;
    size_t count, capacity;
} numbers;

static void push(numbers *n, uint64_t number) {
    if (n->count == n->capacity) {
        n->capacity = n->capacity == 0 ? 64 : 2 * n->capacity;
        n->at = realloc(n->at, n->capacity * sizeof *n->at);
        if (n->at == NULL) die("no memory");
    }
    n->at[n->count++] = number;
}

/* ---- the generator ---- */

typedef struct window {
    uint64_t start;
    bool open;
    uint8_t *seen[2]; /* a bit for each key, for each side */
    numbers keys[2];  /* in the order of their first event */
} window;

typedef struct session {
    uint64_t start, end, id;
} session;

typedef struct key_sessions {
    uint32_t count;
    session at[SESSIONS_MAX];
} key_sessions;

typedef struct maker {
    const workload_options *o;
    FILE *file;
    XXH3_state_t *digest;
    uint64_t count;
    bench_rng rng;
    double zeta, alpha, eta; /* of Zipf's law */
    uint64_t length, slide, gap;
    window windows[WINDOWS_MAX];
    key_sessions *sessions; /* by key */
    numbers *due;           /* by unit modulo due_count: key, session id */
    size_t due_count;
    uint64_t next_due, next_id;
    numbers rows; /* key, time and number, side of each row that is alive */
    size_t rows_gone;
} maker;

static void emit(maker *m, workload_kind kind, unsigned side, uint64_t key, uint64_t name,
                 uint64_t time) {
    const workload_op op = { .kind = (uint8_t)kind,
                             .side = (uint8_t)side,
                             .key = (uint32_t)key,
                             .window = name,
                             .time = time };
    XXH3_64bits_update(m->digest, &op, sizeof op);
    if (fwrite(&op, sizeof op, 1, m->file) != 1) die("the trace cannot be written");
    m->count++;
}

static void zipf_open(maker *m) {
    const double theta = 0.99, n = m->o->keys;
    for (uint32_t i = 1; i <= m->o->keys; i++)
        m->zeta += pow(i, -theta);
    m->alpha = 1 / (1 - theta);
    m->eta = (1 - pow(2 / n, 1 - theta)) / (1 - (1 + pow(0.5, theta)) / m->zeta);
}
static uint32_t draw_key(maker *m) {
    if (!m->o->zipfian) return (uint32_t)bench_below(&m->rng, m->o->keys);
    const double u = (double)(bench_random(&m->rng) >> 11) / (double)(1ULL << 53);
    if (u * m->zeta < 1) return 0;
    const double rank = m->o->keys * pow(m->eta * u - m->eta + 1, m->alpha);
    return rank >= m->o->keys ? m->o->keys - 1 : (uint32_t)rank;
}

/* ---- aligned windows: all keys of one end at the same time ---- */

static window *find_window(maker *m, uint64_t start) {
    window *free_one = NULL;
    for (size_t i = 0; i < WINDOWS_MAX; i++) {
        window *w = &m->windows[i];
        if (w->open && w->start == start) return w;
        if (!w->open && free_one == NULL) free_one = w;
    }
    if (free_one == NULL) die("too many windows are open");
    free_one->open = true;
    free_one->start = start;
    for (unsigned side = 0; side < 2; side++) {
        if (free_one->seen[side] == NULL) free_one->seen[side] = malloc(m->o->keys / 8 + 1);
        if (free_one->seen[side] == NULL) die("no memory");
        memset(free_one->seen[side], 0, m->o->keys / 8 + 1);
        free_one->keys[side].count = 0;
    }
    return free_one;
}

static bool is_sum(workload_operator which) {
    return which == WORKLOAD_TUMBLING_SUM || which == WORKLOAD_SLIDING_SUM ||
           which == WORKLOAD_SESSION_SUM;
}

static void use_window(maker *m, uint64_t start, uint32_t key, unsigned side) {
    window *w = find_window(m, start);
    if ((w->seen[side][key / 8] >> key % 8 & 1) == 0) {
        w->seen[side][key / 8] |= (uint8_t)(1 << key % 8);
        push(&w->keys[side], key);
    }
    if (is_sum(m->o->which)) {
        emit(m, WORKLOAD_GET, 0, key, start, 0);
        emit(m, WORKLOAD_PUT, 0, key, start, 0);
    } else {
        emit(m, WORKLOAD_APPEND, side, key, start, 0);
    }
}
static void aligned_event(maker *m, uint32_t key, uint64_t time) {
    const unsigned side =
        m->o->which == WORKLOAD_JOIN_TUMBLING ? (unsigned)(bench_random(&m->rng) >> 63) : 0;
    for (uint64_t start = time / m->slide * m->slide; start + m->length > time; start -= m->slide) {
        use_window(m, start, key, side);
        if (start < m->slide) break;
    }
}
static void fire_window(maker *m, window *w) {
    for (unsigned side = 0; side < 2; side++) {
        for (size_t i = 0; i < w->keys[side].count; i++) {
            const uint64_t key = w->keys[side].at[i];
            const bool sum = is_sum(m->o->which);
            emit(m, sum ? WORKLOAD_GET : WORKLOAD_READ, side, key, w->start, 0);
            emit(m, sum ? WORKLOAD_DELETE : WORKLOAD_CLEAR, side, key, w->start, 0);
        }
    }
    w->open = false;
}
static void aligned_watermark(maker *m, uint64_t watermark) {
    for (size_t i = 0; i < WINDOWS_MAX; i++) {
        window *w = &m->windows[i];
        if (w->open && w->start + m->length <= watermark) fire_window(m, w);
    }
}

/* ---- sessions ---- */

static void queue_session(maker *m, uint32_t key, const session *s) {
    numbers *due = &m->due[s->end / WORKLOAD_UNIT % m->due_count];
    push(due, key);
    push(due, s->id);
}

static void session_event(maker *m, uint32_t key, uint64_t time) {
    key_sessions *all = &m->sessions[key];
    const bool sum = m->o->which == WORKLOAD_SESSION_SUM;
    emit(m, WORKLOAD_META_GET, 0, key, 0, 0);
    session grown = { time, time + m->gap, 0 };
    bool found = false, changed = false;
    for (uint32_t i = 0; i < all->count;) {
        const session *s = &all->at[i];
        if (s->start > grown.end || s->end < grown.start) {
            i++;
            continue;
        }
        changed = changed || s->end < grown.end;
        if (s->start < grown.start) grown.start = s->start;
        if (s->end > grown.end) grown.end = s->end;
        if (!found) {
            found = true;
            grown.id = s->id;
        } else if (sum) { /* two sessions become one */
            emit(m, WORKLOAD_GET, 0, key, s->id, 0);
            emit(m, WORKLOAD_DELETE, 0, key, s->id, 0);
        } else {
            emit(m, WORKLOAD_MERGE, 0, key, grown.id, s->id);
        }
        all->at[i] = all->at[--all->count];
    }
    if (!found) grown.id = ++m->next_id;
    if (all->count == SESSIONS_MAX) die("too many sessions of a key");
    all->at[all->count++] = grown;
    if (!found || changed) {
        queue_session(m, key, &grown);
        emit(m, WORKLOAD_META_PUT, 0, key, 0, 0);
    }
    if (sum) {
        emit(m, WORKLOAD_GET, 0, key, grown.id, 0);
        emit(m, WORKLOAD_PUT, 0, key, grown.id, 0);
    } else {
        emit(m, WORKLOAD_APPEND, 0, key, grown.id, 0);
    }
}

/* A session that grew since is queued again elsewhere. */
static void fire_session(maker *m, uint32_t key, uint64_t id, uint64_t watermark) {
    key_sessions *all = &m->sessions[key];
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->at[i].id != id) continue;
        if (all->at[i].end > watermark) return;
        const bool sum = m->o->which == WORKLOAD_SESSION_SUM;
        emit(m, sum ? WORKLOAD_GET : WORKLOAD_READ, 0, key, id, 0);
        emit(m, sum ? WORKLOAD_DELETE : WORKLOAD_CLEAR, 0, key, id, 0);
        all->at[i] = all->at[--all->count];
        emit(m, all->count == 0 ? WORKLOAD_META_DELETE : WORKLOAD_META_PUT, 0, key, 0, 0);
        return;
    }
}
static void session_watermark(maker *m, uint64_t watermark) {
    for (size_t step = 0; (m->next_due + 1) * WORKLOAD_UNIT <= watermark && step < m->due_count;
         m->next_due++, step++) {
        numbers *due = &m->due[m->next_due % m->due_count];
        for (size_t i = 0; i < due->count; i += 2)
            fire_session(m, (uint32_t)due->at[i], due->at[i + 1], watermark);
        due->count = 0;
    }
}

/* ---- the interval join: rows within two units of each other ---- */

static void interval_event(maker *m, uint32_t key, uint64_t time) {
    const unsigned side = (unsigned)(bench_random(&m->rng) >> 63);
    const uint64_t row =
        time << WORKLOAD_ROW_SHIFT | (m->next_id++ & ((1 << WORKLOAD_ROW_SHIFT) - 1));
    const uint64_t low = time < 2 * WORKLOAD_UNIT ? 0 : time - 2 * WORKLOAD_UNIT;
    emit(m, WORKLOAD_ROW_PUT, side, key, 0, row);
    emit(m, WORKLOAD_SCAN, 1 - side, key, low << WORKLOAD_ROW_SHIFT,
         ((time + 2 * WORKLOAD_UNIT + 1) << WORKLOAD_ROW_SHIFT) - 1);
    push(&m->rows, key);
    push(&m->rows, row);
    push(&m->rows, side);
}
static void interval_watermark(maker *m, uint64_t watermark) {
    while (m->rows_gone < m->rows.count) {
        const uint64_t *row = m->rows.at + m->rows_gone;
        if ((row[1] >> WORKLOAD_ROW_SHIFT) + 2 * WORKLOAD_UNIT >= watermark) return;
        emit(m, WORKLOAD_ROW_DELETE, (unsigned)row[2], row[0], 0, row[1]);
        m->rows_gone += 3;
    }
}

/* ---- the event loop ---- */

typedef struct machine {
    void (*event)(maker *m, uint32_t key, uint64_t time);
    void (*watermark)(maker *m, uint64_t watermark);
} machine;

static machine machine_of(workload_operator which) {
    if (which == WORKLOAD_SESSION_SUM || which == WORKLOAD_SESSION_LIST)
        return (machine){ session_event, session_watermark };
    if (which == WORKLOAD_JOIN_INTERVAL) return (machine){ interval_event, interval_watermark };
    return (machine){ aligned_event, aligned_watermark };
}

static void open_maker(maker *m) {
    const uint64_t keys = m->o->keys;
    const workload_operator which = m->o->which;
    const bool sliding = which == WORKLOAD_SLIDING_SUM || which == WORKLOAD_SLIDING_LIST;
    /* One event a tick: so many ticks give each key so many events. */
    m->length = keys * m->o->per_window;
    if (m->length < 2 * LATENESS) m->length = 2 * LATENESS;
    m->length -= m->length % SLIDES;
    m->slide = sliding ? m->length / SLIDES : m->length;
    m->gap = keys * 357 / 1000 + 1; /* about 30 percent of events extend a session */
    m->due_count = m->gap / WORKLOAD_UNIT + 16;
    m->due = calloc(m->due_count, sizeof *m->due);
    m->sessions = calloc(keys, sizeof *m->sessions);
    m->digest = XXH3_createState();
    if (m->due == NULL || m->sessions == NULL || m->digest == NULL) die("no memory");
    XXH3_64bits_reset(m->digest);
    if (m->o->zipfian) zipf_open(m);
}
static void close_maker(maker *m) {
    for (size_t i = 0; i < WINDOWS_MAX; i++) {
        for (unsigned side = 0; side < 2; side++) {
            free(m->windows[i].seen[side]);
            free(m->windows[i].keys[side].at);
        }
    }
    for (size_t i = 0; i < m->due_count; i++)
        free(m->due[i].at);
    free(m->due);
    free(m->sessions);
    free(m->rows.at);
    XXH3_freeState(m->digest);
}

static void run(maker *m) {
    const machine steps = machine_of(m->o->which);
    double now = LATENESS;
    uint64_t next_watermark = WORKLOAD_UNIT, last = 0;
    for (uint64_t i = 0; i < m->o->events; i++) {
        const double u = ((double)(bench_random(&m->rng) >> 11) + 1) / (double)(1ULL << 53);
        now += -log(u);
        uint64_t time = (uint64_t)now;
        last = time;
        if (bench_below(&m->rng, 100) < m->o->late_percent)
            time -= WORKLOAD_UNIT + bench_below(&m->rng, LATENESS - WORKLOAD_UNIT);
        steps.event(m, draw_key(m), time);
        for (; last >= next_watermark; next_watermark += WORKLOAD_UNIT)
            if (next_watermark > LATENESS) steps.watermark(m, next_watermark - LATENESS);
    }
    /* The stream ends, and with it every window. */
    const uint64_t end = last + m->length + m->gap + 4 * (uint64_t)LATENESS;
    for (; next_watermark < end; next_watermark += WORKLOAD_UNIT)
        steps.watermark(m, next_watermark);
}

uint64_t workload_record(const workload_options *options, const char *path) {
    maker m = { .o = options, .rng = { options->seed } };
    m.file = fopen(path, "wb");
    if (m.file == NULL) die(path);
    trace_head head = { .count = 0 };
    if (fwrite(&head, sizeof head, 1, m.file) != 1) die(path);
    open_maker(&m);
    run(&m);
    memcpy(head.magic, magic, sizeof magic);
    head.count = m.count;
    head.digest = XXH3_64bits_digest(m.digest);
    if (fseek(m.file, 0, SEEK_SET) != 0 || fwrite(&head, sizeof head, 1, m.file) != 1 ||
        fclose(m.file) != 0)
        die("the trace cannot be written");
    close_maker(&m);
    return head.count;
}

void workload_open(workload_trace *trace, const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size < (off_t)sizeof(trace_head)) die(path);
    trace->mapped = (size_t)info.st_size;
    const uint8_t *bytes = mmap(NULL, trace->mapped, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) die(path);
    close(fd);
    trace_head head;
    memcpy(&head, bytes, sizeof head);
    trace->ops = (const workload_op *)(const void *)(bytes + sizeof head);
    trace->count = head.count;
    if (memcmp(head.magic, magic, sizeof magic) != 0 ||
        trace->mapped != sizeof head + head.count * sizeof(workload_op) ||
        XXH3_64bits(trace->ops, head.count * sizeof(workload_op)) != head.digest)
        die("the trace is not as it was recorded");
}

void workload_close(workload_trace *trace) {
    munmap((void *)(uintptr_t)((const uint8_t *)trace->ops - sizeof(trace_head)), trace->mapped);
}
