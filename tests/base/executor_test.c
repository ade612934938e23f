/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default executor: everything posted runs once, in order where order is promised, and waiting
 * never deadlocks, down to one thread of each kind.
 *
 * Nothing here depends on speed: tests wait for events, never for time to pass, except that a timer
 * must not run early, which is checked against the clock.
 */
#include "tests/support/kwr_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/posix.h"
#include "base/thread.h"

static kwr_env *open_env(uint32_t compute, uint32_t blocking) {
    const kwr_posix_options options = { .struct_size = sizeof options,
                                        .compute_threads = compute,
                                        .blocking_threads = blocking };
    kwr_env *env = NULL;
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_env_posix_open(&options, &env, &err), err);
    return env;
}

static kwr_status post(const kwr_env *env, kwr_work *work) {
    return env->executor->post(env->executor->ctx, work);
}
static kwr_status post_at(const kwr_env *env, kwr_work *work, uint64_t at) {
    return env->executor->post_at(env->executor->ctx, work, at);
}
static kwr_status blocking(const kwr_env *env, kwr_work *work) {
    return env->executor->blocking(env->executor->ctx, work);
}
static bool cancel(const kwr_env *env, kwr_work *work) {
    return env->executor->cancel(env->executor->ctx, work);
}
static void wait_for(const kwr_env *env, kwr_work *work) {
    env->executor->wait(env->executor->ctx, work);
}
static uint64_t now(const kwr_env *env) { return env->clock->mono_ns(env->clock->ctx); }

static void count(void *ctx) { atomic_fetch_add((atomic_int *)ctx, 1); }

/* A gate that work can be held at, so that a thread is known to be busy. */
typedef struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int waiting;
    bool open;
} gate;

#define GATE_INIT \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false }

static void pass_gate(void *ctx) {
    gate *g = ctx;
    pthread_mutex_lock(&g->mutex);
    g->waiting++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}
static void await_waiting(gate *g, int count) {
    pthread_mutex_lock(&g->mutex);
    while (g->waiting < count)
        pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}
static void open_gate(gate *g) {
    pthread_mutex_lock(&g->mutex);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mutex);
}

KWR_TEST(executor, runs_everything_posted_exactly_once, .timeout = 60) {
    enum { N = 2000 };
    kwr_env *env = open_env(3, 2);
    static kwr_work work[N];
    static atomic_int ran[N];
    for (int i = 0; i < N; i++) {
        work[i] = (kwr_work){ .run = count, .ctx = &ran[i] };
        if (i % 3 == 0)
            KWR_MUST(post(env, &work[i]));
        else if (i % 3 == 1)
            KWR_MUST(blocking(env, &work[i]));
        else
            KWR_MUST(post_at(env, &work[i], now(env) + (uint64_t)(N - i) * 1000));
    }
    for (int i = 0; i < N; i++)
        wait_for(env, &work[i]);
    for (int i = 0; i < N; i++)
        cr_assert_eq(atomic_load(&ran[i]), 1, "work %d", i);
    kwr_env_posix_close(env);
}

KWR_TEST(executor, runs_as_many_at_a_time_as_it_says, .timeout = 60) {
    kwr_env *env = open_env(3, 2);
    cr_assert_eq(env->executor->parallelism(env->executor->ctx), 3);
    gate compute = GATE_INIT, block = GATE_INIT;
    kwr_work work[5];
    for (int i = 0; i < 5; i++) {
        work[i] = (kwr_work){ .run = pass_gate, .ctx = i < 3 ? &compute : &block };
        KWR_MUST(i < 3 ? post(env, &work[i]) : blocking(env, &work[i]));
    }
    await_waiting(&compute, 3); /* all three at once, beside two that block */
    await_waiting(&block, 2);
    open_gate(&block);
    open_gate(&compute);
    for (int i = 0; i < 5; i++)
        wait_for(env, &work[i]);
    kwr_env_posix_close(env);
}

KWR_TEST(executor, work_that_blocks_does_not_hold_up_work_that_computes, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    kwr_work held = { .run = pass_gate, .ctx = &g }, work = { .run = count, .ctx = &ran };
    KWR_MUST(blocking(env, &held));
    await_waiting(&g, 1);
    KWR_MUST(post(env, &work));
    while (atomic_load(&ran) == 0)
        sched_yield(); /* by the pool: nobody waits for it here */
    open_gate(&g);
    wait_for(env, &held);
    wait_for(env, &work);
    kwr_env_posix_close(env);
}

/* ---- order and timers ---- */

typedef struct trace {
    pthread_mutex_t mutex;
    int order[64];
    int size;
} trace;

typedef struct traced {
    kwr_work work;
    trace *trace;
    int id;
} traced;

static void note(void *ctx) {
    traced *t = ctx;
    pthread_mutex_lock(&t->trace->mutex);
    t->trace->order[t->trace->size++] = t->id;
    pthread_mutex_unlock(&t->trace->mutex);
}

KWR_TEST(executor, one_thread_runs_work_in_the_order_of_posting, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    gate g = GATE_INIT;
    trace t = { .mutex = PTHREAD_MUTEX_INITIALIZER };
    kwr_work held = { .run = pass_gate, .ctx = &g };
    KWR_MUST(post(env, &held));
    await_waiting(&g, 1);
    traced items[20];
    for (int i = 0; i < 20; i++) {
        items[i] = (traced){ { .run = note, .ctx = &items[i] }, &t, i };
        KWR_MUST(post(env, &items[i].work));
    }
    open_gate(&g);
    kwr_env_posix_close(env); /* runs what is queued */
    cr_assert_eq(t.size, 20);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(t.order[i], i);
}

KWR_TEST(executor, timers_run_by_time_then_by_order_of_posting, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    trace t = { .mutex = PTHREAD_MUTEX_INITIALIZER };
    gate g = GATE_INIT;
    kwr_work held = { .run = pass_gate, .ctx = &g };
    KWR_MUST(post(env, &held)); /* so that all are posted before any is looked at */
    await_waiting(&g, 1);
    static const int ms[] = { 9, 3, 7, 3, 1, 9, 5, 1 };
    static const int expected[] = { 4, 7, 1, 3, 6, 2, 0, 5 };
    const uint64_t start = now(env);
    traced items[8];
    for (int i = 0; i < 8; i++) {
        items[i] = (traced){ { .run = note, .ctx = &items[i] }, &t, i };
        KWR_MUST(post_at(env, &items[i].work, start + (uint64_t)ms[i] * 1000000));
    }
    open_gate(&g);
    while (true) {
        pthread_mutex_lock(&t.mutex);
        const int size = t.size;
        pthread_mutex_unlock(&t.mutex);
        if (size == 8) break;
        usleep(1000);
    }
    cr_assert(now(env) >= start + 9000000, "not before its time");
    for (int i = 0; i < 8; i++)
        cr_assert_eq(t.order[i], expected[i], "place %d", i);
    kwr_env_posix_close(env);
}

KWR_TEST(executor, an_earlier_timer_wakes_a_thread_that_sleeps_for_a_later_one, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    atomic_int late = 0, soon = 0;
    kwr_work far = { .run = count, .ctx = &late }, near = { .run = count, .ctx = &soon };
    KWR_MUST(post_at(env, &far, UINT64_MAX - 1));
    usleep(2000); /* most likely asleep by now; right either way */
    KWR_MUST(post_at(env, &near, now(env) + 1000000));
    while (atomic_load(&soon) == 0)
        usleep(500);
    cr_assert_eq(atomic_load(&late), 0);
    cr_assert(cancel(env, &far));
    wait_for(env, &far);
    kwr_env_posix_close(env);
}

KWR_TEST(executor, waiting_for_a_timer_lasts_until_it_ran, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    kwr_work held = { .run = pass_gate, .ctx = &g }, timer = { .run = count, .ctx = &ran };
    KWR_MUST(post(env, &held)); /* the only thread is busy: the waiter runs it */
    await_waiting(&g, 1);
    const uint64_t due = now(env) + 5000000;
    KWR_MUST(post_at(env, &timer, due));
    wait_for(env, &timer);
    cr_assert_eq(atomic_load(&ran), 1);
    cr_assert(now(env) >= due);
    open_gate(&g);
    wait_for(env, &held);
    kwr_env_posix_close(env);
}

/* ---- cancel ---- */

KWR_TEST(executor, what_was_cancelled_does_not_run_and_can_be_posted_again, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    kwr_work held = { .run = pass_gate, .ctx = &g };
    kwr_work work[5];
    KWR_MUST(post(env, &held));
    await_waiting(&g, 1);
    for (int i = 0; i < 5; i++) {
        work[i] = (kwr_work){ .run = count, .ctx = &ran };
        KWR_MUST(post(env, &work[i]));
    }
    cr_assert(cancel(env, &work[2]), "in the middle");
    cr_assert(cancel(env, &work[0]), "at the front");
    cr_assert(cancel(env, &work[4]), "at the back");
    cr_assert(!cancel(env, &work[2]), "twice");
    cr_assert(!cancel(env, &held), "it runs");
    wait_for(env, &work[0]); /* at once */
    KWR_MUST(post(env, &work[0]));
    open_gate(&g);
    for (int i = 0; i < 5; i++)
        wait_for(env, &work[i]);
    wait_for(env, &held);
    cr_assert_eq(atomic_load(&ran), 3);
    cr_assert(!cancel(env, &work[1]), "it ran");
    kwr_env_posix_close(env);
}

KWR_TEST(executor, posting_what_is_queued_is_a_mistake_and_changes_nothing, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    kwr_work held = { .run = pass_gate, .ctx = &g }, work = { .run = count, .ctx = &ran };
    KWR_MUST(post(env, &held));
    await_waiting(&g, 1);
    KWR_MUST(post(env, &work));
    KWR_EXPECT(KWR_ERR_MISUSE, post(env, &work));
    KWR_EXPECT(KWR_ERR_MISUSE, blocking(env, &work));
    KWR_EXPECT(KWR_ERR_MISUSE, post_at(env, &work, 0));
    open_gate(&g);
    wait_for(env, &work);
    wait_for(env, &held);
    cr_assert_eq(atomic_load(&ran), 1);
    kwr_env_posix_close(env);
}

/* ---- wait ---- */

KWR_TEST(executor, waiting_for_what_was_never_posted_returns, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    kwr_work work = { .run = count };
    wait_for(env, &work);
    cr_assert(!cancel(env, &work));
    kwr_env_posix_close(env);
}

typedef struct tree {
    kwr_work work;
    const kwr_env *env;
    atomic_int *leaves;
    int depth;
} tree;

/* Posts two of itself and waits for both: with one thread only a waiter can run them. */
static void grow(void *ctx) {
    tree *t = ctx;
    if (t->depth == 0) {
        atomic_fetch_add(t->leaves, 1);
        return;
    }
    tree child[2];
    for (int i = 0; i < 2; i++) {
        child[i] = (tree){ { .run = grow, .ctx = &child[i] }, t->env, t->leaves, t->depth - 1 };
        KWR_MUST(post(t->env, &child[i].work));
    }
    for (int i = 0; i < 2; i++)
        wait_for(t->env, &child[i].work);
}

KWR_TEST(executor, work_may_wait_for_work_with_any_number_of_threads, .timeout = 120) {
    for (uint32_t threads = 1; threads <= 4; threads++) {
        kwr_env *env = open_env(threads, 1);
        atomic_int leaves = 0;
        tree root = { { .run = grow, .ctx = &root }, env, &leaves, 6 };
        KWR_MUST(threads % 2 == 0 ? blocking(env, &root.work) : post(env, &root.work));
        wait_for(env, &root.work);
        cr_assert_eq(atomic_load(&leaves), 64);
        kwr_env_posix_close(env);
    }
}

KWR_TEST(executor, blocking_work_may_wait_for_all_kinds_with_one_thread, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    atomic_int leaves = 0;
    tree outer[4];
    for (int i = 0; i < 4; i++) {
        outer[i] = (tree){ { .run = grow, .ctx = &outer[i] }, env, &leaves, 3 };
        KWR_MUST(blocking(env, &outer[i].work));
    }
    for (int i = 3; i >= 0; i--)
        wait_for(env, &outer[i].work);
    cr_assert_eq(atomic_load(&leaves), 32);
    kwr_env_posix_close(env);
}

/* ---- memory of work ---- */

typedef struct repeat {
    kwr_work work;
    const kwr_env *env;
    atomic_int left;
} repeat;

static void again(void *ctx) {
    repeat *r = ctx;
    if (atomic_fetch_sub(&r->left, 1) > 1) KWR_MUST(post(r->env, &r->work));
}

KWR_TEST(executor, work_may_post_itself_again_and_wait_covers_that, .timeout = 60) {
    kwr_env *env = open_env(2, 1);
    repeat r = { .env = env, .left = 100 };
    r.work = (kwr_work){ .run = again, .ctx = &r };
    KWR_MUST(post(env, &r.work));
    wait_for(env, &r.work);
    cr_assert_eq(atomic_load(&r.left), 0);
    kwr_env_posix_close(env);
}

typedef struct own {
    kwr_work work;
    atomic_int *ran;
} own;

static void free_itself(void *ctx) {
    own *o = ctx;
    atomic_int *ran = o->ran;
    free(o);
    atomic_fetch_add(ran, 1);
}

KWR_TEST(executor, work_that_runs_may_free_its_memory, .timeout = 60) {
    kwr_env *env = open_env(2, 1);
    atomic_int ran = 0;
    for (int i = 0; i < 500; i++) {
        own *o = calloc(1, sizeof *o);
        *o = (own){ { .run = free_itself, .ctx = o }, &ran };
        KWR_MUST(post(env, &o->work));
    }
    kwr_env_posix_close(env);
    cr_assert_eq(atomic_load(&ran), 500);
}

KWR_TEST(executor, closing_runs_what_is_queued_and_drops_timers, .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    atomic_int ran = 0, timers = 0;
    kwr_work work[50], timer = { .run = count, .ctx = &timers };
    for (int i = 0; i < 50; i++) {
        work[i] = (kwr_work){ .run = count, .ctx = &ran };
        KWR_MUST(i % 2 == 0 ? post(env, &work[i]) : blocking(env, &work[i]));
    }
    KWR_MUST(post_at(env, &timer, now(env) + 3600000000000));
    kwr_env_posix_close(env);
    cr_assert_eq(atomic_load(&ran), 50);
    cr_assert_eq(atomic_load(&timers), 0);
}

/* ---- the threads themselves ---- */

typedef struct look {
    int nice;
    sigset_t blocked;
    char name[16];
    bool elsewhere;
    pthread_t creator;
} look;

static void look_around(void *ctx) {
    look *l = ctx;
    l->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
    pthread_sigmask(SIG_BLOCK, NULL, &l->blocked);
    pthread_getname_np(pthread_self(), l->name, sizeof l->name);
    l->elsewhere = !pthread_equal(pthread_self(), l->creator);
}

KWR_TEST(executor, its_threads_are_named_yield_to_their_creator_and_take_no_signals,
         .timeout = 60) {
    kwr_env *env = open_env(1, 1);
    const int mine = getpriority(PRIO_PROCESS, 0);
    for (int kind = 0; kind < 2; kind++) {
        look l = { .creator = pthread_self() };
        do { /* until a thread of the pool was faster than our waiting */
            kwr_work work = { .run = look_around, .ctx = &l };
            KWR_MUST(kind == 0 ? post(env, &work) : blocking(env, &work));
            usleep(1000);
            wait_for(env, &work);
        } while (!l.elsewhere);
        cr_assert_str_eq(l.name, kind == 0 ? "kwr-cpu-0" : "kwr-io-0");
        cr_assert_eq(l.nice, mine + 5 > 19 ? 19 : mine + 5);
        cr_assert(sigismember(&l.blocked, SIGTERM) == 1 && sigismember(&l.blocked, SIGINT) == 1);
        cr_assert(sigismember(&l.blocked, SIGSEGV) == 0);
    }
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    cr_assert(sigismember(&blocked, SIGTERM) == 0, "the creator's own mask is as it was");
    kwr_env_posix_close(env);
}

/* ---- from many threads at once ---- */

typedef struct user {
    const kwr_env *env;
    atomic_int ran;
    int cancelled;
} user;

static void *use(void *ctx) {
    user *u = ctx;
    kwr_work work[40];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 40; i++) {
            work[i] = (kwr_work){ .run = count, .ctx = &u->ran };
            kwr_status status = i % 3 == 0   ? post(u->env, &work[i])
                                : i % 3 == 1 ? blocking(u->env, &work[i])
                                             : post_at(u->env, &work[i], now(u->env) + 10000);
            KWR_MUST(status);
        }
        for (int i = 0; i < 40; i += 5)
            u->cancelled += cancel(u->env, &work[i]);
        for (int i = 39; i >= 0; i--)
            wait_for(u->env, &work[i]);
    }
    return NULL;
}

KWR_TEST(executor, may_be_used_from_any_number_of_threads, .timeout = 120) {
    kwr_env *env = open_env(2, 2);
    user users[4] = { 0 };
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        users[i].env = env;
        cr_assert_eq(pthread_create(&threads[i], NULL, use, &users[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(atomic_load(&users[i].ran) + users[i].cancelled, 20 * 40);
    kwr_env_posix_close(env);
}

/* ---- mutex ---- */

typedef struct shared {
    kwr_mutex mutex;
    long value;
} shared;

static void *add_many(void *ctx) {
    shared *s = ctx;
    for (int i = 0; i < 10000; i++) {
        kwr_mutex_lock(&s->mutex);
        s->value++;
        kwr_mutex_unlock(&s->mutex);
    }
    return NULL;
}

KWR_TEST(mutex, keeps_threads_apart, .timeout = 60) {
    shared s = { 0 };
    kwr_mutex_init(&s.mutex);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, add_many, &s);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    kwr_mutex_done(&s.mutex);
    cr_assert_eq(s.value, 30000);
}
