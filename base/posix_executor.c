/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two fixed pools of threads, one that computes and one that may block, and a list of timers.
 *
 * Work is queued through its own memory. From the moment it starts to run the executor does not
 * touch that memory any more: what is running is kept in records on the stacks of the threads that
 * run it. So work may post itself again, or be freed as soon as its owner knows that it ran.
 *
 * Waiting takes part: whoever waits for queued work runs it. So waiting cannot deadlock, however
 * few threads there are and from wherever it is called, as long as work does not wait in a circle.
 */
#include "base/posix.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

enum { STACK_BYTES = 1024 * 1024, NICE_STEP = 5 };

/* How executor_private is used; all zero: not posted. */
typedef struct work_link {
    kwr_work *next;
    kwr_work *previous;
    struct work_list *list; /* the one it is in */
    uint64_t due;           /* timers: mono_ns */
} work_link;

_Static_assert(sizeof(work_link) <= sizeof(((kwr_work *)0)->executor_private), "links fit");

typedef struct work_list {
    kwr_work *first;
    kwr_work *last;
} work_list;

typedef struct thread_pool {
    kwr_posix_executor *executor;
    const char *name;
    work_list queue;
    pthread_cond_t ready; /* something was queued, or a timer may be due earlier than thought */
    pthread_t *threads;
    uint32_t threads_wanted;
    uint32_t threads_started;
} thread_pool;

/* Somebody is running `work`. */
typedef struct run_record {
    const kwr_work *work;
    struct run_record *next;
    struct run_record *previous;
} run_record;

struct kwr_posix_executor {
    kwr_executor table;
    const kwr_env *env;
    pthread_mutex_t mutex;  /* over everything below */
    pthread_cond_t changed; /* something ended or was cancelled */
    thread_pool compute;
    thread_pool blocking;
    work_list timers;    /* earliest first */
    run_record *running; /* any order */
    bool stopping;
};

/* ---- intrusive lists ---- */

static work_link get_link(const kwr_work *work) {
    work_link l;
    memcpy(&l, work->executor_private, sizeof l);
    return l;
}
static void set_link(kwr_work *work, const work_link *l) {
    memcpy(work->executor_private, l, sizeof *l);
}
static void set_next(kwr_work *work, kwr_work *next) {
    work_link l = get_link(work);
    l.next = next;
    set_link(work, &l);
}
static void set_previous(kwr_work *work, kwr_work *previous) {
    work_link l = get_link(work);
    l.previous = previous;
    set_link(work, &l);
}

/* Puts `work` behind `after`; NULL: first. */
static void list_insert(work_list *list, kwr_work *after, kwr_work *work, uint64_t due) {
    kwr_work *next = after == NULL ? list->first : get_link(after).next;
    const work_link l = { .next = next, .previous = after, .list = list, .due = due };
    set_link(work, &l);
    if (after == NULL)
        list->first = work;
    else
        set_next(after, work);
    if (next == NULL)
        list->last = work;
    else
        set_previous(next, work);
}

static void list_append(work_list *list, kwr_work *work) { list_insert(list, list->last, work, 0); }

static void list_remove(kwr_work *work) {
    const work_link l = get_link(work);
    if (l.previous == NULL)
        l.list->first = l.next;
    else
        set_next(l.previous, l.next);
    if (l.next == NULL)
        l.list->last = l.previous;
    else
        set_previous(l.next, l.previous);
    set_link(work, &(work_link){ 0 });
}

static bool is_posted(const kwr_work *work) { return get_link(work).list != NULL; }

/* ---- running; the mutex is held on entry and exit of each ---- */

static bool is_running(const kwr_posix_executor *x, const kwr_work *work) {
    for (const run_record *r = x->running; r != NULL; r = r->next) {
        if (r->work == work) return true;
    }
    return false;
}

/* Takes `work` out of its list and runs it on this thread. */
static void run(kwr_posix_executor *x, kwr_work *work) {
    void (*const fn)(void *) = work->run;
    void *const ctx = work->ctx;
    run_record me = { .work = work, .next = x->running };
    if (me.next != NULL) me.next->previous = &me;
    x->running = &me;
    list_remove(work);
    pthread_mutex_unlock(&x->mutex);

    fn(ctx); /* `work` may be gone from here on */

    pthread_mutex_lock(&x->mutex);
    if (me.previous == NULL)
        x->running = me.next;
    else
        me.previous->next = me.next;
    if (me.next != NULL) me.next->previous = me.previous;
    pthread_cond_broadcast(&x->changed);
}

/* Moves timers that are due to the compute queue. */
static void promote_timers(kwr_posix_executor *x) {
    if (x->timers.first == NULL) return;
    const uint64_t now = kwr_posix_clock.mono_ns(NULL);
    while (x->timers.first != NULL && get_link(x->timers.first).due <= now) {
        kwr_work *work = x->timers.first;
        list_remove(work);
        list_append(&x->compute.queue, work);
        pthread_cond_signal(&x->compute.ready);
    }
}

/* Waits on `cond`, at most until `due`; UINT64_MAX: without end. */
static void wait_until(kwr_posix_executor *x, pthread_cond_t *cond, uint64_t due) {
    const uint64_t second = 1000000000;
    if (due / second >= INT32_MAX) { /* decades: waiting without end is the same */
        pthread_cond_wait(cond, &x->mutex);
        return;
    }
    const struct timespec at = { .tv_sec = (time_t)(due / second),
                                 .tv_nsec = (long)(due % second) };
    pthread_cond_timedwait(cond, &x->mutex, &at);
}

static void lower_priority(void) {
    const id_t me = (id_t)gettid();
    errno = 0;
    const int present = getpriority(PRIO_PROCESS, me);
    if (errno == 0)
        setpriority(PRIO_PROCESS, me, present + NICE_STEP > 19 ? 19 : present + NICE_STEP);
}

static void *thread_main(void *arg) {
    thread_pool *const pool = arg;
    kwr_posix_executor *const x = pool->executor;
    const bool computes = pool == &x->compute;
    lower_priority();
    pthread_mutex_lock(&x->mutex);
    for (;;) {
        if (computes) promote_timers(x);
        if (pool->queue.first != NULL) {
            run(x, pool->queue.first);
            continue;
        }
        if (x->stopping) break;
        const bool timer = computes && x->timers.first != NULL;
        wait_until(x, &pool->ready, timer ? get_link(x->timers.first).due : UINT64_MAX);
    }
    pthread_mutex_unlock(&x->mutex);
    return NULL;
}

/* ---- the vtable ---- */

static uint32_t parallelism(void *ctx) {
    return ((kwr_posix_executor *)ctx)->compute.threads_wanted;
}

static kwr_status post_to(kwr_posix_executor *x, thread_pool *pool, kwr_work *work) {
    kwr_status status = KWR_OK;
    pthread_mutex_lock(&x->mutex);
    if (is_posted(work)) {
        status = KWR_ERR_MISUSE;
    } else {
        list_append(&pool->queue, work);
        pthread_cond_signal(&pool->ready);
    }
    pthread_mutex_unlock(&x->mutex);
    return status;
}

static kwr_status post(void *ctx, kwr_work *work) {
    kwr_posix_executor *x = ctx;
    return post_to(x, &x->compute, work);
}

static kwr_status post_blocking(void *ctx, kwr_work *work) {
    kwr_posix_executor *x = ctx;
    return post_to(x, &x->blocking, work);
}

static kwr_status post_at(void *ctx, kwr_work *work, uint64_t mono_ns) {
    kwr_posix_executor *x = ctx;
    kwr_status status = KWR_OK;
    pthread_mutex_lock(&x->mutex);
    if (is_posted(work)) {
        status = KWR_ERR_MISUSE;
    } else {
        /* From the back: the same time keeps the order of posting, and most are later ones. */
        kwr_work *after = x->timers.last;
        while (after != NULL && get_link(after).due > mono_ns)
            after = get_link(after).previous;
        list_insert(&x->timers, after, work, mono_ns);
        if (after == NULL) pthread_cond_signal(&x->compute.ready);
    }
    pthread_mutex_unlock(&x->mutex);
    return status;
}

static bool cancel(void *ctx, kwr_work *work) {
    kwr_posix_executor *x = ctx;
    pthread_mutex_lock(&x->mutex);
    const bool posted = is_posted(work);
    if (posted) {
        list_remove(work);
        pthread_cond_broadcast(&x->changed);
    }
    pthread_mutex_unlock(&x->mutex);
    return posted;
}

static void wait_for(void *ctx, kwr_work *work) {
    kwr_posix_executor *x = ctx;
    pthread_mutex_lock(&x->mutex);
    for (;;) {
        /* Running comes first: work that posts itself again is both, and one at a time. */
        if (is_running(x, work)) {
            wait_until(x, &x->changed, UINT64_MAX);
        } else if (!is_posted(work)) {
            break;
        } else if (get_link(work).list == &x->timers) {
            const uint64_t due = get_link(work).due;
            if (due <= kwr_posix_clock.mono_ns(NULL))
                run(x, work);
            else
                wait_until(x, &x->changed, due);
        } else {
            run(x, work);
        }
    }
    pthread_mutex_unlock(&x->mutex);
}

/* ---- opening and closing ---- */

/* Signals are for the host's threads; only those that a fault of this very thread raises stay. */
static void block_signals(sigset_t *old) {
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, old);
}

static int start_thread(thread_pool *pool) {
    pthread_attr_t attr;
    sigset_t old;
    int failed = pthread_attr_init(&attr);
    if (failed != 0) return failed;
    pthread_attr_setstacksize(&attr, STACK_BYTES); /* refused below the system's least: keep that */
    block_signals(&old);
    pthread_t *thread = &pool->threads[pool->threads_started];
    failed = pthread_create(thread, &attr, thread_main, pool);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (failed != 0) return failed;
    char name[16];
    snprintf(name, sizeof name, "%s-%u", pool->name, pool->threads_started);
    pthread_setname_np(*thread, name);
    pool->threads_started++;
    return 0;
}

static kwr_status pool_start(thread_pool *pool, kwr_error *err) {
    pool->threads =
        kwr_alloc_array(pool->executor->env, pool->threads_wanted, sizeof *pool->threads);
    if (pool->threads == NULL)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "start the threads: no memory");
    while (pool->threads_started < pool->threads_wanted) {
        const int failed = start_thread(pool);
        if (failed != 0) {
            return KWR_FAIL(err, KWR_ERR_IO, failed,
                            "start thread %u of %u: raise the limit of threads or ask for fewer",
                            pool->threads_started + 1, pool->threads_wanted);
        }
    }
    return KWR_OK;
}

static void pool_join(thread_pool *pool) {
    for (uint32_t i = 0; i < pool->threads_started; i++)
        pthread_join(pool->threads[i], NULL);
    kwr_free(pool->executor->env, pool->threads, pool->threads_wanted * sizeof *pool->threads);
}

static void init_condition(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

kwr_status kwr_posix_executor_open(const kwr_env *env, uint32_t compute_threads,
                                   uint32_t blocking_threads, kwr_posix_executor **out,
                                   kwr_error *err) {
    kwr_posix_executor *x = kwr_calloc(env, sizeof *x);
    if (x == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "open the executor: no memory");
    x->table = (kwr_executor){
        .struct_size = sizeof x->table,
        .ctx = x,
        .parallelism = parallelism,
        .post = post,
        .post_at = post_at,
        .blocking = post_blocking,
        .cancel = cancel,
        .wait = wait_for,
    };
    x->env = env;
    x->compute =
        (thread_pool){ .executor = x, .name = "kwr-cpu", .threads_wanted = compute_threads };
    x->blocking =
        (thread_pool){ .executor = x, .name = "kwr-io", .threads_wanted = blocking_threads };
    pthread_mutex_init(&x->mutex, NULL);
    init_condition(&x->changed);
    init_condition(&x->compute.ready);
    init_condition(&x->blocking.ready);
    kwr_status status = pool_start(&x->compute, err);
    if (status == KWR_OK) status = pool_start(&x->blocking, err);
    if (status != KWR_OK) {
        kwr_posix_executor_close(x);
        return status;
    }
    *out = x;
    return KWR_OK;
}

void kwr_posix_executor_close(kwr_posix_executor *x) {
    if (x == NULL) return;
    pthread_mutex_lock(&x->mutex);
    x->stopping = true;
    while (x->timers.first != NULL)
        list_remove(x->timers.first);
    pthread_cond_broadcast(&x->compute.ready);
    pthread_cond_broadcast(&x->blocking.ready);
    pthread_mutex_unlock(&x->mutex);
    pool_join(&x->compute);
    pool_join(&x->blocking);
    pthread_cond_destroy(&x->compute.ready);
    pthread_cond_destroy(&x->blocking.ready);
    pthread_cond_destroy(&x->changed);
    pthread_mutex_destroy(&x->mutex);
    kwr_free(x->env, x, sizeof *x);
}

const kwr_executor *kwr_posix_executor_table(const kwr_posix_executor *x) { return &x->table; }
