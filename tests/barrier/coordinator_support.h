/* SPDX-License-Identifier: Apache-2.0 */
/* A coordinator driven by short calls whose answers are words: "abort 4 TIMEOUT, trigger 5". */
#ifndef COORDINATOR_SUPPORT_H
#define COORDINATOR_SUPPORT_H

#include <stdio.h>
#include <string.h>

#include "tests/barrier/support.h"

enum { GENERATION = 3, FIRST = 5, TASKS = 3 };

typedef struct driver {
    memory_env memory;
    kwr_coordinator *c;
    uint64_t now;
    kwr_status status; /* of the latest step */
    char said[256];
} driver;

static inline const char *action_name(kwr_coordinator_action_kind kind) {
    switch (kind) {
    case KWR_DO_TRIGGER: return "trigger";
    case KWR_DO_PUBLISH: return "publish";
    case KWR_DO_ABORT: return "abort";
    case KWR_DO_COMPLETE: return "complete";
    case KWR_DO_IGNORE_ACK: return "ignore";
    case KWR_DO_FINISH: return "finish";
    case KWR_DO_FAIL: return "fail";
    }
    return "?";
}

/* Steps and gives what was said, or the status name when the step failed. */
static inline const char *step(driver *d, kwr_coordinator_event event) {
    kwr_coordinator_action actions[KWR_COORDINATOR_ACTIONS_MAX];
    size_t count = 99;
    event.now_ns = d->now;
    d->status = kwr_coordinator_step(d->c, &event, actions, &count);
    if (d->status != KWR_OK) {
        cr_assert(count == 99, "a failed step wrote to its out-parameter");
        snprintf(d->said, sizeof d->said, "%s", kwr_status_name(d->status));
        return d->said;
    }
    cr_assert(count <= KWR_COORDINATOR_ACTIONS_MAX);
    size_t n = 0;
    d->said[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const kwr_coordinator_action *a = &actions[i];
        n += (size_t)snprintf(d->said + n, sizeof d->said - n, "%s%s %llu%s%s%s", i > 0 ? ", " : "",
                              action_name(a->kind), (unsigned long long)a->checkpoint,
                              a->final ? " final" : "", a->status != KWR_OK ? " " : "",
                              a->status != KWR_OK ? kwr_status_name(a->status) + strlen("KWR_ERR_")
                                                  : "");
    }
    return d->said;
}

static inline void driver_open(driver *d, const kwr_coordinator_options *options) {
    *d = (driver){ 0 };
    kwr_coordinator_options o = *options;
    o.struct_size = sizeof o;
    o.env = memory_env_init(&d->memory);
    if (o.generation == 0) o.generation = GENERATION;
    if (o.first_checkpoint == 0) o.first_checkpoint = FIRST;
    if (o.tasks == 0) o.tasks = TASKS;
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_coordinator_new(&o, &d->c, &err), err);
}
static inline void driver_close(driver *d) { kwr_coordinator_free(d->c); }

static inline const char *tick(driver *d, uint64_t now) {
    d->now = now;
    return step(d, (kwr_coordinator_event){ .kind = KWR_ON_TICK });
}
static inline const char *plain(driver *d, kwr_coordinator_event_kind kind) {
    return step(d, (kwr_coordinator_event){ .kind = kind });
}
static inline const char *of_task(driver *d, kwr_coordinator_event_kind kind, uint32_t task) {
    return step(d, (kwr_coordinator_event){ .kind = kind, .task = task });
}
static inline const char *ack(driver *d, uint64_t checkpoint, uint32_t task) {
    return step(d, (kwr_coordinator_event){ .kind = KWR_ON_ACK,
                                            .checkpoint = checkpoint,
                                            .generation = GENERATION,
                                            .task = task });
}
static inline const char *decline(driver *d, uint64_t checkpoint, uint32_t task,
                                  kwr_status status) {
    return step(d, (kwr_coordinator_event){ .kind = KWR_ON_DECLINE,
                                            .checkpoint = checkpoint,
                                            .generation = GENERATION,
                                            .task = task,
                                            .status = status });
}
static inline const char *outcome(driver *d, kwr_coordinator_event_kind kind, uint64_t checkpoint,
                                  kwr_status status) {
    return step(
        d, (kwr_coordinator_event){ .kind = kind, .checkpoint = checkpoint, .status = status });
}
static inline const char *published(driver *d, uint64_t checkpoint) {
    return outcome(d, KWR_ON_PUBLISHED, checkpoint, KWR_OK);
}

/* The answer must be these words. */
#define SAYS(words, call)                                                                      \
    do {                                                                                       \
        const char *said_ = (call);                                                            \
        cr_assert(strcmp(said_, (words)) == 0, "%s: \"%s\", not \"%s\"", #call, said_, words); \
    } while (0)
#define DEADLINE(ns, d)                                                  \
    cr_assert(kwr_coordinator_deadline((d)->c) == (ns), "deadline %llu", \
              (unsigned long long)kwr_coordinator_deadline((d)->c))
#define NEVER UINT64_MAX

/* Acks of all tasks, the last of which publishes. */
static inline void all_ack(driver *d, uint64_t checkpoint, uint32_t tasks) {
    for (uint32_t t = 0; t + 1 < tasks; t++)
        SAYS("", ack(d, checkpoint, t));
    const char *said = ack(d, checkpoint, tasks - 1);
    cr_assert(strncmp(said, "publish ", 8) == 0, "all acks gave \"%s\"", said);
}

#endif /* COORDINATOR_SUPPORT_H */
