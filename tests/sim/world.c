/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world: a disk, at most one live attempt and one zombie, and time. Two phases: faults of every
 * kind the seed has switched on; then none, and the job must finish with all of its output.
 */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/attempt.h"
#include "tests/sim/oracle.h"

enum { STREAM_PLAN, STREAM_SCRIPT, STREAM_SCHEDULE, STREAM_FAULTS, STREAM_IDS, STREAM_WORLD };
enum { LIVENESS_STEPS = 200000, LIVENESS_ATTEMPTS = 30 };

/* ---- the plan ---- */

/* A rate up to `most`, and none at all in a third of the seeds. */
static uint32_t rate(sim_rng *rng, uint32_t most) {
    const bool off = sim_below(rng, 3) == 0;
    const uint32_t value = (uint32_t)sim_below(rng, most) + 1;
    return off ? 0 : value;
}

void sim_plan_of(uint64_t seed, sim_plan *out) {
    sim_rng rng = sim_rng_of(seed, STREAM_PLAN);
    static const unsigned parallelisms[] = { 1, 3, 16, 128 };
    sim_plan p = { .seed = seed };
    p.sources = 1 + (unsigned)sim_below(&rng, SIM_SOURCES_MAX);
    p.counts = 1 + (unsigned)sim_below(&rng, SIM_COUNTS_MAX);
    p.keys = 1 + (unsigned)sim_below(&rng, SIM_KEYS_MAX);
    p.records = 10 + (unsigned)sim_below(&rng, 120);
    p.max_parallelism = parallelisms[sim_below(&rng, 4)];
    if (p.counts > p.max_parallelism) p.counts = p.max_parallelism;
    p.retain = 1 + (unsigned)sim_below(&rng, 3);
    p.processes = 1 + (unsigned)sim_below(&rng, 3);
    p.inline_off = sim_below(&rng, 2) == 0;
    p.interval_ms = 1 + sim_below(&rng, 20);
    p.min_pause_ms = sim_below(&rng, 2) == 0 ? 0 : sim_below(&rng, 10);
    p.timeout_ms = 5 + sim_below(&rng, 100);
    p.policy = (unsigned)sim_below(&rng, 3);
    p.steps = 500 + (unsigned)sim_below(&rng, 3000);
    p.rates.calls[SIM_EIO] = rate(&rng, 3000);
    p.rates.calls[SIM_ENOSPC] = rate(&rng, 3000);
    p.rates.calls[SIM_SHORT] = rate(&rng, 100000);
    p.rates.calls[SIM_LOSE_SYNC] = rate(&rng, 10000);
    p.rates.calls[SIM_AMBIGUOUS] = rate(&rng, 10000);
    p.rates.calls[SIM_FLIP] = rate(&rng, 2000);
    p.rates.kill_in_call = rate(&rng, 2000);
    p.rates.kill_after_call = rate(&rng, 2000);
    p.rates.no_memory = rate(&rng, 500);
    p.lose_message = rate(&rng, 20000);
    p.double_message = rate(&rng, 20000);
    p.kill = rate(&rng, 2000);
    p.power = rate(&rng, 2000);
    p.zombie = rate(&rng, 2000);
    p.clock_step = rate(&rng, 2000);
    p.fill = rate(&rng, 1000);
    *out = p;
}

void sim_plan_text(const sim_plan *p, char *out, size_t capacity) {
    snprintf(
        out, capacity,
        "seed %llu: %u sources of %u records, %u counts, %u keys, %u key groups, %u processes, "
        "interval %llu ms, timeout %llu ms, retain %u, inline %s, policy %u, %u steps",
        (unsigned long long)p->seed, p->sources, p->records, p->counts, p->keys, p->max_parallelism,
        p->processes, (unsigned long long)p->interval_ms, (unsigned long long)p->timeout_ms,
        p->retain, p->inline_off ? "off" : "on", p->policy, p->steps);
}

/* ---- the run ---- */

typedef struct world {
    const sim_plan *plan;
    sim_shared shared;
    sim_rng rng;
    sim_disk *disk;
    uint8_t *keys;
    sim_script script;
    sim_attempt *live, *zombie;
    bool zombie_paused;
    unsigned attempts;
    uint64_t notified;   /* highest checkpoint any task was told of */
    uint64_t seen_calls; /* of the last look at the disk */
    uint64_t seen_hash;
    uint64_t priorities[2];
    sim_result *result;
} world;

__attribute__((format(printf, 2, 3))) static void violated(world *w, const char *format, ...) {
    va_list arguments;
    if (w->result->failed) return;
    w->result->failed = true;
    va_start(arguments, format);
    vsnprintf(w->result->why, sizeof w->result->why, format, arguments);
    va_end(arguments);
    sim_trace(&w->shared, "VIOLATED %s", w->result->why);
}

static void make_script(world *w) {
    const sim_plan *p = w->plan;
    sim_rng rng = sim_rng_of(p->seed, STREAM_SCRIPT);
    w->keys = malloc((size_t)p->sources * p->records);
    if (w->keys == NULL) abort();
    for (size_t i = 0; i < (size_t)p->sources * p->records; i++) {
        const uint64_t a = sim_below(&rng, p->keys), b = sim_below(&rng, p->keys);
        w->keys[i] = (uint8_t)(a < b ? a : b); /* some keys are more frequent */
    }
    w->script = (sim_script){ p->sources, p->keys, p->records, w->keys };
}

/*
 * Everything that holds at any moment, on what would be left if the power failed now (so that
 * nothing referred to is only in memory), and on what is visible.
 */
static void check(world *w, bool power) {
    sim_outlook look = { 0 };
    char why[800];
    if (w->result->failed) return;
    w->result->checks++;
    sim_disk *disk = w->disk;
    if (power) {
        disk = sim_disk_copy(w->disk);
        sim_disk_power_loss(disk, (sim_power)sim_below(&w->rng, SIM_POWER_OUTCOMES), &w->rng);
    }
    if (!sim_check_checkpoints(disk, &w->script, &look, why, sizeof why))
        violated(w, "%s%s", power ? "after a power loss: " : "", why);
    else if (look.newest < w->notified)
        violated(w, "%sdurability: checkpoint %llu was notified, the newest is %llu",
                 power ? "after a power loss: " : "", (unsigned long long)w->notified,
                 (unsigned long long)look.newest);
    else if (!sim_check_output(disk, &w->script, look.highest, false, why, sizeof why))
        violated(w, "%s%s", power ? "after a power loss: " : "", why);
    if (power) sim_disk_free(disk);
}

static void drop_attempt(world *w, sim_attempt **attempt) {
    char leak[512];
    if (*attempt == NULL) return;
    const uint64_t notified = sim_attempt_notified(*attempt);
    if (notified > w->notified) w->notified = notified;
    w->result->commits += sim_attempt_commits(*attempt);
    sim_attempt_free(*attempt, leak, sizeof leak);
    *attempt = NULL;
    if (leak[0] != '\0') violated(w, "%s", leak);
}

/*
 * A failed start or run must name a fault that struck, or another attempt that took over. What may
 * never be reported is damage: reads may be wrong once, the disk itself is not damaged here.
 */
static void judge_error(world *w, const sim_attempt *attempt, bool faults_before) {
    const kwr_error *err = sim_attempt_error(attempt);
    if (!faults_before)
        violated(w, "truth of errors: without any fault an attempt ended with %s: %s",
                 kwr_status_name(err->status), err->text);
}

static void start_attempt(world *w, bool lock_off) {
    w->attempts++;
    w->result->attempts++;
    w->live = sim_attempt_new(&w->shared, w->plan, &w->script, w->disk, w->attempts, lock_off);
}

static void step_attempt(world *w, sim_attempt *attempt) {
    const size_t choices = sim_attempt_choices(attempt);
    if (choices == 0) {
        sim_attempt_notice(attempt);
        return;
    }
    size_t choice = sim_below(&w->shared.schedule, choices);
    if (w->plan->policy == 1 && sim_below(&w->shared.schedule, 4) != 0)
        choice = w->priorities[0] % choices; /* sticks to one kind of thing for a while */
    if (w->plan->policy == 2 && choices > 1 && choice == w->priorities[1] % choices &&
        sim_below(&w->shared.schedule, 16) != 0)
        choice = (choice + 1) % choices; /* one of them hardly ever gets its turn */
    if (sim_below(&w->shared.schedule, 64) == 0) w->priorities[0] = sim_next(&w->shared.schedule);
    sim_attempt_step(attempt, choice);
}

/* Time goes on a little with each step, and jumps to the next deadline when nothing else can. */
static void pass_time(world *w) {
    w->shared.now_ns += sim_below(&w->shared.schedule, w->shared.faults_off ? 10000 : 100000);
    uint64_t deadline = UINT64_MAX;
    bool idle = true;
    sim_attempt *attempts[] = { w->live, w->zombie_paused ? NULL : w->zombie };
    for (size_t i = 0; i < 2; i++) {
        if (attempts[i] == NULL) continue;
        const uint64_t next = sim_attempt_deadline(attempts[i]);
        if (next < deadline) deadline = next;
        /* polling the job is always a choice: one alone means that nothing else is there */
        idle = idle && sim_attempt_choices(attempts[i]) <= 1;
    }
    if (idle && deadline != UINT64_MAX && deadline > w->shared.now_ns) w->shared.now_ns = deadline;
}

static void power_loss(world *w) {
    w->result->powers++;
    sim_attempt *attempts[] = { w->live, w->zombie };
    for (size_t i = 0; i < 2; i++)
        if (attempts[i] != NULL) sim_attempt_kill(attempts[i]);
    drop_attempt(w, &w->live);
    drop_attempt(w, &w->zombie);
    const sim_power outcome = (sim_power)sim_below(&w->rng, SIM_POWER_OUTCOMES);
    sim_trace(&w->shared, "power loss, outcome %d", (int)outcome);
    sim_disk_power_loss(w->disk, outcome, &w->rng);
    check(w, false);
}

/* What happens to the world from outside, by chance. */
static void disturb(world *w) {
    const sim_plan *p = w->plan;
    if (sim_chance(&w->rng, p->kill) && w->live != NULL) {
        w->result->kills++;
        if (sim_below(&w->rng, 2) == 0)
            sim_attempt_kill(w->live);
        else
            sim_attempt_kill_one(w->live, &w->rng);
    }
    if (sim_chance(&w->rng, p->power)) power_loss(w);
    if (sim_chance(&w->rng, p->zombie) && w->live != NULL && w->zombie == NULL) {
        /* Paused, replaced, and some time later it goes on as if nothing had happened. */
        w->result->zombies++;
        w->zombie = w->live;
        w->live = NULL;
        w->zombie_paused = true;
        sim_trace(&w->shared, "pause");
    }
    if (w->zombie_paused && sim_below(&w->rng, 200) == 0) w->zombie_paused = false;
    if (sim_chance(&w->rng, p->clock_step)) {
        w->shared.wall_offset_ms += (int64_t)sim_below(&w->rng, 200000000) - 100000000;
        sim_trace(&w->shared, "clock step");
    }
    if (sim_chance(&w->rng, p->fill)) sim_disk_set_capacity(w->disk, sim_disk_used(w->disk) + 500);
    if (sim_below(&w->rng, 100) == 0) sim_disk_set_capacity(w->disk, UINT64_MAX / 2);
}

/* One step of everything. False when the job is finished. */
static bool step(world *w, bool faults) {
    w->result->steps++;
    if (w->live == NULL) {
        start_attempt(w, w->zombie != NULL || (faults && sim_below(&w->rng, 4) == 0));
    } else {
        const sim_attempt_state state = sim_attempt_look(w->live);
        if (state == SIM_ATTEMPT_FINISHED) return false;
        if (state != SIM_ATTEMPT_RUNNING) {
            if (state == SIM_ATTEMPT_FAILED) judge_error(w, w->live, w->shared.calls > 0);
            drop_attempt(w, &w->live);
        }
    }
    if (w->zombie != NULL && !w->zombie_paused) {
        const sim_attempt_state state = sim_attempt_look(w->zombie);
        if (state != SIM_ATTEMPT_RUNNING)
            drop_attempt(w, &w->zombie);
        else if (sim_below(&w->shared.schedule, 2) == 0)
            step_attempt(w, w->zombie);
    }
    if (w->live != NULL) step_attempt(w, w->live);
    pass_time(w);
    if (w->live != NULL && sim_attempt_notified(w->live) > w->notified)
        w->notified = sim_attempt_notified(w->live);
    return true;
}

/* Looks at the disk when it may have changed, more often than not only at samples. */
static void look_now_and_then(world *w) {
    const uint64_t calls = w->shared.calls;
    if (calls == w->seen_calls || sim_below(&w->rng, 12) != 0) return;
    w->seen_calls = calls;
    check(w, sim_below(&w->rng, 4) != 0);
}

static void run_with_faults(world *w) {
    for (unsigned i = 0; i < w->plan->steps && !w->result->failed; i++) {
        disturb(w);
        if (!step(w, true)) return;
        look_now_and_then(w);
    }
}

static void run_to_the_end(world *w) {
    char why[800];
    sim_outlook look = { 0 };
    w->shared.faults_off = true;
    w->shared.rates = (sim_rates){ 0 };
    sim_disk_set_capacity(w->disk, UINT64_MAX / 2);
    sim_trace(&w->shared, "no more faults");
    if (w->zombie != NULL) sim_attempt_kill(w->zombie);
    drop_attempt(w, &w->zombie);
    w->zombie_paused = false;
    const unsigned attempts = w->attempts;
    for (unsigned i = 0; !w->result->failed; i++) {
        if (!step(w, false)) break;
        if (i == LIVENESS_STEPS || w->attempts > attempts + LIVENESS_ATTEMPTS) {
            const kwr_error *err = w->live == NULL ? NULL : sim_attempt_error(w->live);
            violated(w, "liveness: not finished %u steps and %u attempts after the last fault: %s",
                     i, w->attempts - attempts, err == NULL ? "" : err->text);
        }
        if (i % 64 == 0) check(w, false);
    }
    drop_attempt(w, &w->live);
    if (w->result->failed) return;
    /* Started once more, a finished job says so again and tidies up. */
    start_attempt(w, false);
    if (sim_attempt_look(w->live) != SIM_ATTEMPT_FINISHED)
        violated(w, "liveness: a finished job started again ends with: %s",
                 sim_attempt_error(w->live)->text);
    drop_attempt(w, &w->live);
    if (w->result->failed) return;
    if (!sim_check_checkpoints(w->disk, &w->script, &look, why, sizeof why) ||
        !sim_check_output(w->disk, &w->script, look.highest, true, why, sizeof why) ||
        !sim_check_garbage(w->disk, w->plan->retain, why, sizeof why))
        violated(w, "at the end: %s", why);
    else if (!look.final)
        violated(w, "at the end: the newest checkpoint %llu is not the final one",
                 (unsigned long long)look.newest);
    w->result->published = look.highest;
}

void sim_run(const sim_plan *plan, const sim_strike *replay, size_t replay_count,
             void (*log)(void *ctx, const char *line), void *log_ctx, sim_result *out) {
    world w = { .plan = plan, .result = out };
    *out = (sim_result){ 0 };
    w.shared = (sim_shared){ .now_ns = 1000000000,
                             .faults = sim_rng_of(plan->seed, STREAM_FAULTS),
                             .schedule = sim_rng_of(plan->seed, STREAM_SCHEDULE),
                             .ids = sim_rng_of(plan->seed, STREAM_IDS),
                             .rates = plan->rates,
                             .replaying = replay != NULL,
                             .replay = replay,
                             .replay_count = replay_count,
                             .log = log,
                             .log_ctx = log_ctx };
    w.rng = sim_rng_of(plan->seed, STREAM_WORLD);
    w.disk = sim_disk_new(UINT64_MAX / 2);
    make_script(&w);
    run_with_faults(&w);
    if (!out->failed) run_to_the_end(&w);
    drop_attempt(&w, &w.live);
    drop_attempt(&w, &w.zombie);
    out->trace = w.shared.trace;
    out->list = w.shared.strikes;
    out->list_count = w.shared.strike_count;
    out->strikes = w.shared.strike_count;
    sim_disk_free(w.disk);
    free(w.keys);
}
