/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of one run: a disk, at most one live attempt and one that was paused and replaced, and
 * time. Two phases: faults of every kind the plan has switched on; then none, and the subject must
 * finish.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/disk.h"
#include "sim/world.h"

enum { LIVENESS_STEPS = 200000, LIVENESS_ATTEMPTS = 30, AGAIN_STEPS = 20000 };

typedef struct world {
    kwr_sim *sim;
    const kwr_sim_plan *plan;
    const kwr_sim_subject *subject;
    void *run;
    kwr_sim_disk *disk;
    kwr_sim_attempt *live, *zombie;
    kwr_sim_scheduler scheduler;
    kwr_sim_weather weather;
    uint64_t zombie_wakes, full_until, damaged_until, start_at; /* steps */
    uint64_t steps, checks, checked_calls;
    char damaged[512];
} world;

/* ---- oracles ---- */

static void check_disk(world *w, kwr_sim_disk *disk, kwr_sim_moment moment) {
    static const char *const when[] = { "", "after a power loss: ", "at the end: " };
    const kwr_sim_check check = { sizeof check, moment, w->weather.damaged };
    char why[800] = "";
    w->checks++;
    if (!w->subject->check(w->run, disk, &check, why, sizeof why))
        kwr_sim_violated(w->sim, "%s%s", when[moment], why);
}

/* What would be left if the power failed now: nothing referred to may be only in memory. */
static void check_power(world *w, unsigned outcome) {
    kwr_sim_disk *disk = kwr_sim_disk_copy(w->disk);
    kwr_sim_disk_power_loss(disk, (kwr_sim_power)outcome, &w->sim->world);
    check_disk(w, disk, KWR_SIM_AFTER_POWER);
    kwr_sim_disk_free(disk);
}

/* When the disk may have changed; one step in twelve, mostly on what a power loss would leave. */
static void look_now_and_then(world *w) {
    const uint64_t draw = kwr_sim_below(&w->sim->world, 48);
    if (w->sim->violated || kwr_sim_calls(w->sim) == w->checked_calls || draw >= 4) return;
    w->checked_calls = kwr_sim_calls(w->sim);
    if (draw == 0)
        check_disk(w, w->disk, KWR_SIM_NOW);
    else
        check_power(w, (unsigned)kwr_sim_below(&w->sim->world, KWR_SIM_POWER_OUTCOMES));
}

/* Where an attempt broke off is where the power must not have failed, not even in part. */
static void look_at_remains(world *w) {
    if (w->sim->faults_off || w->disk->update_count == 0) return;
    for (unsigned i = 0; i < 3 && !w->sim->violated; i++)
        check_power(w, i == 0 ? (unsigned)kwr_sim_below(&w->sim->world, KWR_SIM_POWER_OUTCOMES)
                              : KWR_SIM_POWER_SUBSET);
}

/* ---- attempts ---- */

static void drop(kwr_sim_attempt **attempt) {
    kwr_sim_attempt_close(*attempt);
    *attempt = NULL;
}

/* Time goes on a little with each step, and jumps to the next deadline when nothing else can. */
static void pass_time(world *w) {
    kwr_sim *sim = w->sim;
    uint64_t deadline = UINT64_MAX;
    bool idle = true;
    sim->now_ns += kwr_sim_below(&sim->schedule, sim->faults_off ? 10000 : 100000);
    kwr_sim_attempt *attempts[] = { w->live, w->zombie_wakes <= w->steps ? w->zombie : NULL };
    for (size_t i = 0; i < 2; i++)
        if (attempts[i] != NULL) idle = idle && attempts[i]->idle;
    if (!idle) return;
    for (size_t i = 0; i < 2; i++) {
        const uint64_t next =
            attempts[i] == NULL ? UINT64_MAX : kwr_sim_attempt_deadline(attempts[i]);
        if (next < deadline) deadline = next;
    }
    if (deadline != UINT64_MAX && deadline > sim->now_ns) sim->now_ns = deadline;
}

/*
 * A start is one step, but not for others: the attempt that was paused wakes up in the middle of
 * it, and may get far before the start goes on.
 */
static void wake_zombie(void *ctx) {
    world *w = ctx;
    kwr_sim *sim = w->sim;
    if (kwr_sim_below(&sim->schedule, 100) != 0) return;
    const uint64_t steps = kwr_sim_below(&sim->schedule, 1000);
    sim->interrupt = NULL;
    w->zombie_wakes = w->steps;
    kwr_sim_trace(sim, "the attempt before wakes up");
    for (uint64_t i = 0; i < steps && kwr_sim_attempt_look(w->zombie) == KWR_SIM_RUNNING; i++) {
        kwr_sim_attempt_step(w->zombie, &w->scheduler);
        pass_time(w);
    }
}

static void start(world *w, bool beside) {
    if (w->zombie != NULL && !w->sim->faults_off) {
        w->sim->interrupt = wake_zombie;
        w->sim->interrupt_ctx = w;
    }
    w->live = kwr_sim_attempt_open(w->sim, w->subject, w->run, &w->weather, w->disk, beside);
    w->sim->interrupt = NULL;
}

/* ---- what happens from outside ---- */

static void fill(world *w, kwr_sim_rng *rng) {
    w->full_until = w->steps + 1 + kwr_sim_below(rng, 200);
    w->weather.full = true;
    if (w->live != NULL) w->live->met_full = true;
    if (w->zombie != NULL) w->zombie->met_full = true;
    kwr_sim_disk_set_capacity(w->disk, kwr_sim_disk_used(w->disk) + kwr_sim_below(rng, 2000));
}

static void end_fill(world *w) {
    w->weather.full = false;
    kwr_sim_disk_set_capacity(w->disk, UINT64_MAX);
}

static void power_loss(world *w, kwr_sim_power outcome, kwr_sim_rng *rng) {
    if (w->live != NULL) kwr_sim_attempt_kill_all(w->live);
    if (w->zombie != NULL) kwr_sim_attempt_kill_all(w->zombie);
    drop(&w->live);
    drop(&w->zombie);
    kwr_sim_disk_power_loss(w->disk, outcome, rng);
    check_disk(w, w->disk, KWR_SIM_AFTER_POWER);
}

typedef struct picking {
    world *w;
    kwr_sim_rng *rng;
    size_t seen, size;
} picking;

/* Each file with the same chance. */
static void on_damageable(void *ctx, const char *path, const void *data, size_t size) {
    picking *p = ctx;
    (void)data;
    if (size == 0 || strlen(path) >= sizeof p->w->damaged ||
        !p->w->subject->damageable(p->w->run, path))
        return;
    if (kwr_sim_below(p->rng, ++p->seen) != 0) return;
    snprintf(p->w->damaged, sizeof p->w->damaged, "%s", path);
    p->size = size;
}

/* Where damage strikes: its size, 0: nowhere. */
static size_t pick_damaged(world *w, kwr_sim_rng *rng) {
    picking p = { .w = w, .rng = rng };
    if (w->subject->damageable == NULL || w->weather.damaged != NULL) return 0;
    kwr_sim_disk_visit(w->disk, true, on_damageable, &p);
    return p.seen == 0 ? 0 : p.size;
}

static bool damage_at(world *w, size_t offset, const void *bytes, size_t size, unsigned kind) {
    if (!kwr_sim_disk_damage(w->disk, w->damaged, offset, bytes, size)) return false;
    kwr_sim_trace(w->sim, "damaged %s at %zu, kind %u", w->damaged, offset, kind);
    w->weather.damaged = w->damaged;
    return true;
}

/* One bit, a block of zeros, or bytes that belong elsewhere: a write that went astray. */
static void damage(world *w, kwr_sim_rng *rng) {
    uint8_t bytes[512];
    const size_t picked = pick_damaged(w, rng);
    if (picked == 0) return;
    size_t whole;
    const uint8_t *data = kwr_sim_disk_file(w->disk, true, w->damaged, &whole);
    const size_t offset = kwr_sim_below(rng, picked);
    const size_t room = picked - offset < sizeof bytes ? picked - offset : sizeof bytes;
    const size_t size = 1 + kwr_sim_below(rng, room);
    const unsigned kind = (unsigned)kwr_sim_below(rng, 4); /* 3: a bit, as 0 */
    memcpy(bytes, data + offset, size);
    if (kind % 3 == 0) bytes[0] ^= (uint8_t)(1u << kwr_sim_below(rng, 8));
    if (kind == 1) memset(bytes, 0, size);
    if (kind == 2) memmove(bytes, data, size < offset ? size : offset);
    if (memcmp(bytes, data + offset, size) == 0) return; /* it was like that */
    if (!damage_at(w, offset, bytes, kind % 3 == 0 ? 1 : size, kind)) return;
    w->damaged_until = w->steps + 1 + kwr_sim_below(rng, 300);
    /* Often found at once, by a start. */
    if (w->live != NULL && kwr_sim_below(rng, 4) != 0) kwr_sim_attempt_kill_all(w->live);
}

/* Long enough for a start that reads it; then soon the next. */
static void rot(world *w, kwr_sim_rng *rng) {
    const size_t picked = pick_damaged(w, rng);
    if (picked == 0) return;
    size_t whole;
    const size_t offset = kwr_sim_below(rng, picked);
    const uint8_t bit = (uint8_t)(1u << kwr_sim_below(rng, 8));
    const uint8_t *data = kwr_sim_disk_file(w->disk, true, w->damaged, &whole);
    const uint8_t byte = data[offset] ^ bit;
    if (!damage_at(w, offset, &byte, 1, 0)) return;
    w->damaged_until = w->steps + 30 + kwr_sim_below(rng, 60);
    w->start_at = w->steps;
    if (w->live != NULL) kwr_sim_attempt_kill_all(w->live);
}

/* Puts the bytes back: from then on nothing may be missing or wrong. An attempt that used the
 * damaged file may still say so. */
static void repair(world *w) {
    if (w->weather.damaged == NULL) return;
    kwr_sim_disk_repair(w->disk);
    kwr_sim_trace(w->sim, "repaired");
    w->weather.damaged = NULL;
    if (w->live != NULL) kwr_sim_attempt_kill_all(w->live);
    if (w->zombie != NULL) kwr_sim_attempt_kill_all(w->zombie);
    drop(&w->live);
    drop(&w->zombie);
    check_disk(w, w->disk, KWR_SIM_NOW);
}

static void strike(world *w, kwr_sim_strike s) {
    kwr_sim_rng rng = kwr_sim_detail_rng(w->sim, KWR_SIM_AT_STEP);
    (void)kwr_sim_next(&rng);
    switch (s.fault) {
    case KWR_SIM_KILL_ONE:
        if (w->live != NULL) kwr_sim_attempt_kill(w->live, s.detail);
        break;
    case KWR_SIM_KILL_ALL:
        if (w->live != NULL) kwr_sim_attempt_kill_all(w->live);
        break;
    case KWR_SIM_POWER:
        power_loss(w, (kwr_sim_power)(s.detail % KWR_SIM_POWER_OUTCOMES), &rng);
        break;
    case KWR_SIM_PAUSE:
        /* Replaced, and some time later it goes on as if nothing had happened. */
        if (w->live == NULL || w->zombie != NULL) break;
        w->zombie = w->live;
        w->live = NULL;
        w->zombie_wakes = w->steps + 1 + kwr_sim_below(&rng, 400);
        break;
    case KWR_SIM_CLOCK_STEP:
        w->sim->wall_offset_ms += (int64_t)s.detail - INT64_C(0x80000000);
        break;
    case KWR_SIM_FILL: fill(w, &rng); break;
    case KWR_SIM_DAMAGE: damage(w, &rng); break;
    case KWR_SIM_ROT: rot(w, &rng); break;
    case KWR_SIM_NO_FAULT:
    case KWR_SIM_ERROR:
    case KWR_SIM_SHORT:
    case KWR_SIM_LOSE_SYNC:
    case KWR_SIM_AMBIGUOUS:
    case KWR_SIM_FLIP:
    case KWR_SIM_MISREAD:
    case KWR_SIM_KILL_BEFORE:
    case KWR_SIM_KILL_AFTER:
    case KWR_SIM_NO_MEMORY:
    case KWR_SIM_LOSE_MESSAGE:
    case KWR_SIM_DOUBLE_MESSAGE:
    case KWR_SIM_STALL:
    case KWR_SIM_FAULTS: break;
    }
}

static void disturb(world *w) {
    const uint32_t fitting =
        ((1u << (KWR_SIM_DAMAGE + 1)) - (1u << KWR_SIM_KILL_ONE)) | 1u << KWR_SIM_ROT;
    const kwr_sim_strike s = kwr_sim_at_place(w->sim, KWR_SIM_AT_STEP, fitting);
    if (s.fault != KWR_SIM_NO_FAULT) strike(w, s);
    if (w->full_until == w->steps) end_fill(w);
    if (w->damaged_until == w->steps) repair(w);
}

/* ---- steps ---- */

/* One step of everything. False when the subject has finished. */
static bool step(world *w) {
    w->steps++;
    if (w->live == NULL && w->steps >= w->start_at) {
        kwr_sim_rng rng = kwr_sim_detail_rng(w->sim, KWR_SIM_AT_STEP);
        start(w, w->zombie != NULL || (!w->sim->faults_off && kwr_sim_below(&rng, 4) == 0));
    } else if (w->live != NULL) {
        const kwr_sim_attempt_state state = kwr_sim_attempt_look(w->live);
        if (state == KWR_SIM_FINISHED) return false;
        /* What could not start will hardly do so at once. */
        if (state == KWR_SIM_FAILED && !w->sim->faults_off)
            w->start_at = w->steps + kwr_sim_below(&w->sim->schedule, 40);
        if (state != KWR_SIM_RUNNING) {
            drop(&w->live);
            look_at_remains(w);
        }
    }
    if (w->zombie != NULL && w->zombie_wakes <= w->steps) {
        if (kwr_sim_attempt_look(w->zombie) != KWR_SIM_RUNNING)
            drop(&w->zombie);
        else if (kwr_sim_below(&w->sim->schedule, 2) == 0)
            kwr_sim_attempt_step(w->zombie, &w->scheduler);
    }
    if (w->live != NULL) kwr_sim_attempt_step(w->live, &w->scheduler);
    pass_time(w);
    return true;
}

static void run_with_faults(world *w) {
    for (unsigned i = 0; i < w->plan->steps && !w->sim->violated; i++) {
        disturb(w);
        if (!step(w)) return;
        look_now_and_then(w);
    }
}

static void calm_down(world *w) {
    kwr_sim_faults_end(w->sim);
    w->start_at = 0;
    kwr_sim_trace(w->sim, "no more faults");
    end_fill(w);
    repair(w);
    if (w->zombie != NULL) kwr_sim_attempt_kill_all(w->zombie);
    drop(&w->zombie);
}

static const char *last_error(const world *w) {
    return w->live != NULL && w->live->failed ? w->live->error.text : "no error";
}

static void run_to_the_end(world *w) {
    calm_down(w);
    const unsigned attempts = w->weather.newest;
    for (unsigned i = 0; !w->sim->violated && step(w); i++) {
        if (i == LIVENESS_STEPS || w->weather.newest > attempts + LIVENESS_ATTEMPTS)
            kwr_sim_violated(
                w->sim, "liveness: not finished %u steps and %u attempts after the last fault: %s",
                i, w->weather.newest - attempts, last_error(w));
        if (i % 64 == 0 && !w->sim->violated) check_disk(w, w->disk, KWR_SIM_NOW);
    }
    drop(&w->live);
}

/* Started once more, a finished job says so again and tidies up. */
static void run_again(world *w) {
    start(w, false);
    for (unsigned i = 0; i < AGAIN_STEPS && kwr_sim_attempt_look(w->live) == KWR_SIM_RUNNING; i++) {
        kwr_sim_attempt_step(w->live, &w->scheduler);
        pass_time(w);
    }
    if (kwr_sim_attempt_look(w->live) != KWR_SIM_FINISHED)
        kwr_sim_violated(w->sim, "liveness: finished, and started again, it ends with: %s",
                         last_error(w));
    drop(&w->live);
    if (!w->sim->violated) check_disk(w, w->disk, KWR_SIM_AT_END);
}

static void report(world *w, kwr_sim_result *out) {
    kwr_sim *sim = w->sim;
    char about[400] = "";
    if (w->subject->describe != NULL) w->subject->describe(w->run, about, sizeof about);
    *out = (kwr_sim_result){ .failed = sim->violated,
                             .trace = sim->trace,
                             .steps = w->steps,
                             .attempts = w->weather.newest,
                             .checks = w->checks,
                             .strikes = sim->strikes,
                             .strike_count = sim->strike_count };
    memcpy(out->why, sim->why, sizeof out->why);
    memcpy(out->struck, sim->struck, sizeof out->struck);
    snprintf(out->about, sizeof out->about, "seed %llu: %s; policy %u, %u steps",
             (unsigned long long)w->plan->seed, about, w->plan->policy, w->plan->steps);
    sim->strikes = NULL; /* the caller's now */
}

void kwr_sim_run(const kwr_sim_plan *plan, const kwr_sim_subject *subject,
                 const kwr_sim_run_options *options, kwr_sim_result *out) {
    static const kwr_sim_run_options none = { .struct_size = sizeof none };
    if (options == NULL) options = &none;
    const kwr_sim_options run = { .struct_size = sizeof run,
                                  .seed = plan->seed,
                                  .rates = plan->rates,
                                  .pool = options->pool,
                                  .replay = options->replay,
                                  .replay_count = options->replay_count,
                                  .log = options->log,
                                  .log_ctx = options->log_ctx };
    world w = { .sim = kwr_sim_open(&run), .plan = plan, .subject = subject };
    w.disk = kwr_sim_disk_new();
    w.scheduler.policy = plan->policy;
    w.run = subject->open(subject->ctx, w.sim);
    run_with_faults(&w);
    if (!w.sim->violated) run_to_the_end(&w);
    if (!w.sim->violated) run_again(&w);
    drop(&w.live);
    drop(&w.zombie);
    report(&w, out);
    subject->close(w.run);
    kwr_sim_disk_free(w.disk);
    kwr_sim_close(w.sim);
}

void kwr_sim_result_clear(kwr_sim_result *result) {
    free(result->strikes);
    result->strikes = NULL;
    result->strike_count = 0;
}
