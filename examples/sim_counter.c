/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small engine of its own under the simulator: a counter that applies numbered requests exactly
 * once and keeps its total in a file. A client asks again until it has an answer. With "early" as
 * the first argument the counter answers before its file is durable: the simulator must find that.
 *
 *     sim-counter [early] --seeds 1000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyweir/sim.h"

enum { COUNTER = 0, CLIENT = 1, REQUESTS = 20, RETRY_NS = 5000000 };

/* One run. What the client knows outlives every attempt. */
typedef struct run {
    kwr_sim *sim;
    bool early;        /* the mistake */
    unsigned answered; /* requests 1 .. answered */
} run;

/* One attempt. */
typedef struct counter {
    run *run;
    kwr_sim_attempt *attempt;
    const kwr_env *env;
    kwr_dir *dir;
    unsigned total;
    uint64_t ask_at_ns;
} counter;

static void name_of(unsigned total, char out[32]) { snprintf(out, 32, "total-%u", total); }

static unsigned total_of(const char *name) {
    return strncmp(name, "total-", 6) == 0 ? (unsigned)strtoul(name + 6, NULL, 10) : 0;
}

/* Written aside, synced, renamed; the name is durable when the directory is synced. */
static kwr_status save(counter *c, unsigned total, kwr_error *err) {
    const kwr_fs *fs = c->env->fs;
    char name[32], aside[48], text[16];
    kwr_file *file;
    size_t done = 0, written;
    name_of(total, name);
    snprintf(aside, sizeof aside, ".%u-%s", kwr_sim_attempt_number(c->attempt), name);
    const size_t size = (size_t)snprintf(text, sizeof text, "%u\n", total);
    kwr_status status = fs->create(fs->ctx, c->dir, aside, &file, err);
    if (status < KWR_OK) return status;
    while (status >= KWR_OK && done < size) {
        status = fs->write(fs->ctx, file, text + done, size - done, &written, err);
        if (status >= KWR_OK) done += written;
    }
    if (status >= KWR_OK) status = fs->sync(fs->ctx, file, err);
    const kwr_status closed = fs->close(fs->ctx, file, status < KWR_OK ? NULL : err);
    if (status >= KWR_OK) status = closed;
    if (status >= KWR_OK) status = fs->rename(fs->ctx, c->dir, aside, c->dir, name, err);
    if (status >= KWR_OK && !c->run->early) status = fs->sync_dir(fs->ctx, c->dir, err);
    return status;
}

/* ---- starting: the highest total there is; everything else goes ---- */

typedef struct listing {
    unsigned highest;
    unsigned count;
    char names[64][48];
} listing;

static kwr_status on_name(void *ctx, const char *name) {
    listing *l = ctx;
    if (total_of(name) > l->highest) l->highest = total_of(name);
    if (l->count < 64) snprintf(l->names[l->count++], 48, "%.47s", name);
    return KWR_OK;
}

static kwr_status restore(counter *c, kwr_error *err) {
    const kwr_fs *fs = c->env->fs;
    listing l = { 0 };
    kwr_status status = fs->open_root(fs->ctx, "/counter", KWR_FS_CREATE, &c->dir, err);
    if (status >= KWR_OK) status = fs->list(fs->ctx, c->dir, on_name, &l, err);
    /* What is visible may not be durable yet, and it will be built upon. */
    if (status >= KWR_OK && !c->run->early) status = fs->sync_dir(fs->ctx, c->dir, err);
    for (unsigned i = 0; i < l.count && status >= KWR_OK; i++)
        if (l.highest == 0 || total_of(l.names[i]) != l.highest)
            status = fs->remove(fs->ctx, c->dir, l.names[i], err);
    c->total = l.highest;
    return status;
}

static void enter_restore(void *ctx) {
    counter *c = ctx;
    kwr_error err = { 0 };
    if (restore(c, &err) < KWR_OK) kwr_sim_attempt_fail(c->attempt, &err);
}

static void *start(void *ctx, kwr_sim_attempt *attempt) {
    counter *c = calloc(1, sizeof *c);
    if (c == NULL) abort();
    c->run = ctx;
    c->attempt = attempt;
    c->env = kwr_sim_process_env(kwr_sim_attempt_process(attempt, COUNTER));
    (void)kwr_sim_process_call(kwr_sim_attempt_process(attempt, COUNTER), enter_restore, c);
    if (c->run->answered == REQUESTS) kwr_sim_attempt_finish(attempt);
    return c;
}

static void enter_close(void *ctx) {
    counter *c = ctx;
    if (c->dir != NULL) c->env->fs->close_dir(c->env->fs->ctx, c->dir);
}

static void stop(void *state) {
    counter *c = state;
    (void)kwr_sim_process_call(kwr_sim_attempt_process(c->attempt, COUNTER), enter_close, c);
    free(c);
}

/* ---- running ---- */

static size_t choices(void *state, unsigned actor) {
    const counter *c = state;
    return actor == CLIENT && c->run->answered < REQUESTS &&
           kwr_sim_now_ns(c->run->sim) >= c->ask_at_ns;
}

static uint64_t deadline_ns(void *state) { return ((counter *)state)->ask_at_ns; }

static void step(void *state, unsigned actor, size_t choice) {
    counter *c = state;
    const unsigned request = c->run->answered + 1;
    (void)actor;
    (void)choice;
    kwr_sim_attempt_send(c->attempt, COUNTER, (kwr_slice){ &request, sizeof request });
    c->ask_at_ns = kwr_sim_now_ns(c->run->sim) + RETRY_NS;
}

static void count(counter *c, unsigned request) {
    kwr_error err = { 0 };
    if (request == c->total + 1) {
        const kwr_status status = save(c, request, &err);
        if (status == KWR_ERR_EXISTS) err.status = KWR_ERR_FENCED; /* another attempt did it */
        if (status < KWR_OK) {
            kwr_sim_attempt_fail(c->attempt, &err);
            return;
        }
        c->total = request;
    }
    /* Asked again, it answers again and counts nothing. */
    if (request <= c->total)
        kwr_sim_attempt_send(c->attempt, CLIENT, (kwr_slice){ &request, sizeof request });
}

static void receive(void *state, unsigned actor, kwr_slice message) {
    counter *c = state;
    unsigned request;
    memcpy(&request, message.data, sizeof request);
    if (actor == COUNTER) {
        count(c, request);
        return;
    }
    if (request == c->run->answered + 1) c->run->answered = request;
    c->ask_at_ns = 0;
    if (c->run->answered == REQUESTS) kwr_sim_attempt_finish(c->attempt);
}

/* ---- what must hold ---- */

typedef struct census {
    unsigned highest, wrong, files;
} census;

static void on_file(void *ctx, const char *path, const void *data, size_t size) {
    census *c = ctx;
    char text[16];
    const unsigned total = total_of(strrchr(path, '/') + 1);
    c->files++;
    if (total == 0) return;
    if (total > c->highest) c->highest = total;
    const int expected = snprintf(text, sizeof text, "%u\n", total);
    c->wrong += (size_t)expected != size || memcmp(text, data, size) != 0;
}

static bool check(void *ctx, kwr_sim_disk *disk, const kwr_sim_check *check, char *why,
                  size_t why_size) {
    const run *r = ctx;
    census c = { 0 };
    kwr_sim_disk_visit(disk, false, on_file, &c);
    if (c.wrong > 0)
        snprintf(why, why_size, "%u totals hold something else", c.wrong);
    else if (c.highest < r->answered)
        snprintf(why, why_size, "durability: %u was answered, the disk has %u", r->answered,
                 c.highest);
    else if (check->moment == KWR_SIM_AT_END && c.files != 1)
        snprintf(why, why_size, "garbage: %u files are left", c.files);
    else
        return true;
    return false;
}

/* ---- the subject ---- */

static void *open_run(void *ctx, kwr_sim *sim) {
    run *r = calloc(1, sizeof *r);
    if (r == NULL) abort();
    r->sim = sim;
    r->early = *(const bool *)ctx;
    return r;
}

static unsigned two(void *ctx) {
    (void)ctx;
    return 2;
}

static unsigned same(void *ctx, unsigned actor) {
    (void)ctx;
    return actor; /* counter and client are processes of their own */
}

int main(int argc, char **argv) {
    bool early = argc > 1 && strcmp(argv[1], "early") == 0;
    const kwr_sim_subject subject = {
        .struct_size = sizeof subject,
        .ctx = &early,
        .name = early ? "sim-counter early" : "sim-counter",
        .open = open_run,
        .close = free,
        .processes = two,
        .actors = two,
        .process_of = same,
        .start = start,
        .stop = stop,
        .choices = choices,
        .step = step,
        .receive = receive,
        .deadline_ns = deadline_ns,
        .check = check,
    };
    return kwr_sim_command(argc - early, argv + early, &subject);
}
