/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An attempt: processes, messages between actors, and the choice of what happens next. Messages
 * are a heap nobody keeps in order: any of them may be delivered next.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

/* Steps until those that are left notice that a process is gone. */
enum { LOST_STEPS = 20 };

unsigned kwr_sim_attempt_number(const kwr_sim_attempt *a) { return a->number; }
bool kwr_sim_attempt_beside(const kwr_sim_attempt *a) { return a->beside; }
size_t kwr_sim_attempt_messages(const kwr_sim_attempt *a) { return a->message_count; }

kwr_sim_process *kwr_sim_attempt_process(const kwr_sim_attempt *a, unsigned index) {
    return a->processes[index];
}

void kwr_sim_attempt_finish(kwr_sim_attempt *a) { a->finished = true; }

void kwr_sim_attempt_report(kwr_sim_attempt *a, const kwr_error *err) {
    kwr_sim_trace(a->sim, "a%u error %d: %s", a->number, (int)err->status, err->text);
    if (err->status == KWR_ERR_TIMEOUT) a->timed_out = true;
    kwr_sim_judge(a, err);
}

void kwr_sim_attempt_fail(kwr_sim_attempt *a, const kwr_error *err) {
    if (a->failed) return;
    a->failed = true;
    a->error = *err;
    kwr_sim_attempt_report(a, err);
}

/* ---- messages ---- */

void kwr_sim_attempt_send(kwr_sim_attempt *a, unsigned actor, kwr_slice bytes) {
    const kwr_sim_strike strike = kwr_sim_at_place(
        a->sim, KWR_SIM_AT_MESSAGE, 1u << KWR_SIM_LOSE_MESSAGE | 1u << KWR_SIM_DOUBLE_MESSAGE);
    unsigned copies = 1;
    if (strike.fault == KWR_SIM_LOSE_MESSAGE) {
        copies = 0;
        a->lost_message = true;
    }
    if (strike.fault == KWR_SIM_DOUBLE_MESSAGE) copies = 2;
    kwr_sim_trace(a->sim, "a%u message to %u, %zu bytes", a->number, actor, bytes.size);
    for (; copies > 0; copies--) {
        kwr_sim_message *m = kwr_sim_must(malloc(sizeof *m + bytes.size));
        *m = (kwr_sim_message){ .next = a->messages, .actor = actor, .size = bytes.size };
        if (bytes.size > 0) memcpy(m->data, bytes.data, bytes.size);
        a->messages = m;
        a->message_count++;
    }
}

static kwr_sim_message *take_message(kwr_sim_attempt *a, size_t index) {
    kwr_sim_message **link = &a->messages;
    while (index-- > 0)
        link = &(*link)->next;
    kwr_sim_message *m = *link;
    *link = m->next;
    a->message_count--;
    return m;
}

/* ---- opening and closing ---- */

kwr_sim_attempt *kwr_sim_attempt_open(kwr_sim *sim, const kwr_sim_subject *subject, void *run,
                                      kwr_sim_weather *weather, kwr_sim_disk *disk, bool beside) {
    kwr_sim_attempt *a = kwr_sim_must(calloc(1, sizeof *a));
    a->sim = sim;
    a->subject = subject;
    a->weather = weather;
    a->number = ++weather->newest;
    a->beside = beside;
    a->met_full = weather->full;
    a->process_count = subject->processes(run);
    a->actor_count = subject->actors(run);
    if (a->process_count > KWR_SIM_PROCESSES_MAX || a->actor_count > KWR_SIM_ACTORS_MAX) {
        fputs("sim: more processes or actors than there can be\n", stderr);
        abort();
    }
    weather->living++;
    kwr_sim_trace(sim, "a%u starts%s", a->number, beside ? " beside another" : "");
    for (unsigned p = 0; p < a->process_count; p++)
        a->processes[p] = kwr_sim_process_open(sim, disk, a->number * 10 + p);
    for (unsigned i = 0; i < a->actor_count; i++)
        a->process_of[i] = subject->process_of(run, i);
    a->state = subject->start(run, a);
    a->started = true;
    return a;
}

static void check_left(const kwr_sim_attempt *a) {
    for (unsigned p = 0; p < a->process_count; p++)
        if (kwr_sim_process_dead(a->processes[p])) return; /* it may hold what others gave it */
    for (unsigned p = 0; p < a->process_count; p++) {
        uint64_t bytes;
        const size_t blocks = kwr_sim_process_blocks(a->processes[p], &bytes);
        const size_t handles = kwr_sim_process_handles(a->processes[p]);
        if (blocks > 0 || handles > 0)
            kwr_sim_violated(a->sim,
                             "resources: after a clean close attempt %u holds %zu blocks (%llu "
                             "bytes), %zu handles",
                             a->number, blocks, (unsigned long long)bytes, handles);
    }
}

void kwr_sim_attempt_close(kwr_sim_attempt *a) {
    if (a == NULL) return;
    if (a->state != NULL) a->subject->stop(a->state);
    check_left(a);
    for (unsigned p = 0; p < a->process_count; p++)
        kwr_sim_process_close(a->processes[p]);
    while (a->messages != NULL)
        free(take_message(a, 0));
    a->weather->living--;
    free(a);
}

kwr_sim_attempt_state kwr_sim_attempt_look(const kwr_sim_attempt *a) {
    bool alive = false;
    for (unsigned p = 0; p < a->process_count; p++)
        alive = alive || !kwr_sim_process_dead(a->processes[p]);
    if (!alive) return KWR_SIM_DEAD;
    if (a->failed) return KWR_SIM_FAILED;
    return a->finished ? KWR_SIM_FINISHED : KWR_SIM_RUNNING;
}

void kwr_sim_attempt_kill(kwr_sim_attempt *a, unsigned process) {
    kwr_sim_process_kill(a->processes[process % a->process_count]);
}

void kwr_sim_attempt_kill_all(kwr_sim_attempt *a) {
    for (unsigned p = 0; p < a->process_count; p++)
        kwr_sim_process_kill(a->processes[p]);
}

uint64_t kwr_sim_attempt_deadline(const kwr_sim_attempt *a) {
    uint64_t next = UINT64_MAX;
    if (a->state != NULL && a->subject->deadline_ns != NULL)
        next = a->subject->deadline_ns(a->state);
    for (unsigned p = 0; p < a->process_count; p++) {
        const uint64_t due = kwr_sim_process_due_ns(a->processes[p]);
        if (!kwr_sim_process_dead(a->processes[p]) && due < next) next = due;
    }
    return next;
}

/* ---- stepping ---- */

typedef struct entering {
    kwr_sim_attempt *a;
    unsigned actor;
    size_t choice;
    const kwr_sim_message *message;
} entering;

static void enter_step(void *ctx) {
    const entering *e = ctx;
    e->a->subject->step(e->a->state, e->actor, e->choice);
}

static void enter_receive(void *ctx) {
    const entering *e = ctx;
    e->a->subject->receive(e->a->state, e->actor,
                           (kwr_slice){ e->message->data, e->message->size });
}

static void enter_settle(void *ctx) {
    const entering *e = ctx;
    for (unsigned i = 0; i < e->a->actor_count; i++)
        if (e->a->process_of[i] == e->actor) e->a->subject->settle(e->a->state, i);
}

/* `actor` stands for the process here. */
static void settle(kwr_sim_attempt *a, unsigned process) {
    entering e = { a, process, 0, NULL };
    if (a->subject->settle != NULL && !a->failed)
        (void)kwr_sim_process_call(a->processes[process], enter_settle, &e);
}

static void step_message(kwr_sim_attempt *a, size_t index) {
    kwr_sim_message *m = take_message(a, index);
    const unsigned process = a->process_of[m->actor];
    entering e = { a, m->actor, 0, m };
    (void)kwr_sim_process_call(a->processes[process], enter_receive, &e);
    free(m);
    settle(a, process);
}

static void step_work(kwr_sim_attempt *a, unsigned process, size_t index) {
    (void)kwr_sim_process_work(a->processes[process], index);
    settle(a, process);
}

static void step_actor(kwr_sim_attempt *a, unsigned actor, size_t choice) {
    entering e = { a, actor, choice, NULL };
    (void)kwr_sim_process_call(a->processes[a->process_of[actor]], enter_step, &e);
    settle(a, a->process_of[actor]);
}

static size_t count_choices(const kwr_sim_attempt *a, size_t counts[KWR_SIM_GROUPS_MAX]) {
    size_t total = counts[0] = a->message_count;
    for (unsigned p = 0; p < a->process_count; p++) {
        counts[1 + p] =
            kwr_sim_process_dead(a->processes[p]) ? 0 : kwr_sim_process_runnable(a->processes[p]);
        total += counts[1 + p];
    }
    for (unsigned i = 0; i < a->actor_count; i++) {
        size_t *count = &counts[1 + a->process_count + i];
        *count = kwr_sim_process_dead(a->processes[a->process_of[i]])
                     ? 0
                     : a->subject->choices(a->state, i);
        total += *count;
    }
    return total;
}

/* Which group comes next: by the weight of its choices, by priorities that change now and then, or
 * by weight with one group that hardly ever gets its turn. */
static unsigned pick_group(const kwr_sim_attempt *a, kwr_sim_scheduler *s, const size_t *counts,
                           size_t total) {
    kwr_sim_rng *rng = &a->sim->schedule;
    const unsigned groups = 1 + a->process_count + a->actor_count;
    unsigned group = 0;
    if (s->policy != 0 && kwr_sim_below(rng, 64) == 0) {
        s->priorities = kwr_sim_next(rng);
        s->starved = (unsigned)(s->priorities % groups);
    }
    if (s->policy == 1 && kwr_sim_below(rng, 8) != 0) {
        uint64_t highest = 0;
        for (unsigned g = 0; g < groups; g++) {
            const uint64_t priority = kwr_sim_mix(s->priorities + g) | 1;
            if (counts[g] == 0 || priority < highest) continue;
            highest = priority;
            group = g;
        }
        return group;
    }
    const bool starving = s->policy == 2 && counts[s->starved] > 0 && counts[s->starved] < total &&
                          kwr_sim_below(rng, 32) != 0;
    uint64_t at = kwr_sim_below(rng, total - (starving ? counts[s->starved] : 0));
    for (;; group++) {
        if (starving && group == s->starved) continue;
        if (at < counts[group]) return group;
        at -= counts[group];
    }
}

/* An engine finds out that it lost a process; what is left of it runs on for a while. */
static void notice(kwr_sim_attempt *a) {
    static const kwr_error lost = { .status = KWR_ERR_CANCELLED, .text = "a process is gone" };
    for (unsigned p = 0; p < a->process_count && !a->lost_process; p++)
        a->lost_process = kwr_sim_process_dead(a->processes[p]);
    if (a->lost_process && a->steps_lost++ >= LOST_STEPS) kwr_sim_attempt_fail(a, &lost);
}

void kwr_sim_attempt_step(kwr_sim_attempt *a, kwr_sim_scheduler *scheduler) {
    size_t counts[KWR_SIM_GROUPS_MAX] = { 0 };
    if (kwr_sim_attempt_look(a) != KWR_SIM_RUNNING || a->state == NULL) return;
    const size_t total = count_choices(a, counts);
    a->idle = total == 0;
    if (!a->idle) {
        const unsigned group = pick_group(a, scheduler, counts, total);
        const size_t choice = kwr_sim_below(&a->sim->schedule, counts[group]);
        kwr_sim_trace_words(a->sim, group, choice);
        if (group == 0)
            step_message(a, choice);
        else if (group <= a->process_count)
            step_work(a, group - 1, choice);
        else
            step_actor(a, group - 1 - a->process_count, choice);
    }
    notice(a);
}
