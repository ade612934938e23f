/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two attempts of one job at the same time: the lock keeps the second out, and where there is no
 * lock the first one that was overtaken publishes nothing, deletes nothing and tells nobody.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "task/message.h"
#include "tests/task/stream.h"

typedef struct arena {
    fault_env *faults;
    kwr_env env; /* of the zombie: may look away at some moment */
    kwr_fs fs;
    kwr_storage *storage; /* the zombie's */
    kwr_storage *other;   /* its successor's */
    stream_world world;
    stream_options options;
} arena;

static void arena_open(arena *a) {
    memset(a, 0, sizeof *a);
    kwr_error err = { 0 };
    a->faults = fault_env_open(kwr_test_env(), FAULT_INLINE | FAULT_MANUAL_CLOCK | FAULT_SEEDED);
    a->env = *fault_env_env(a->faults);
    a->fs = *a->env.fs;
    a->env.fs = &a->fs;
    KWR_MUST_ERR(kwr_storage_open(&a->env, kwr_test_path("root"), true, &a->storage, &err), err);
    KWR_MUST_ERR(
        kwr_storage_open(fault_env_env(a->faults), kwr_test_path("root"), true, &a->other, &err),
        err);
    a->options = (stream_options){ .env = &a->env,
                                   .faults = a->faults,
                                   .storage = a->storage,
                                   .world = &a->world,
                                   .total = 30,
                                   .job = { .tolerate_all = true,
                                            .lock_off = true,
                                            .inline_bytes = KWR_JOB_OPTIONS_INLINE_OFF } };
}

static stream_options successor(const arena *a) {
    stream_options o = a->options;
    o.env = fault_env_env(a->faults);
    o.storage = a->other;
    return o;
}

static void arena_close(arena *a) {
    stream_world_done(&a->world);
    kwr_storage_close(a->storage);
    kwr_storage_close(a->other);
    fault_env_close(a->faults);
}

static size_t all_files(const arena *a) {
    return stream_files(a->other, "stream", "log", "0") +
           stream_files(a->other, "stream", "shared", "") +
           stream_files(a->other, "stream", "", "chk-");
}

KWR_TEST(zombie, is_kept_out_by_the_lock_which_names_its_holder) {
    arena a;
    stream s;
    arena_open(&a);
    a.options.job.lock_off = false;
    stream_must_open(&s, &a.options);
    const stream_options second = successor(&a);
    const size_t slots = stream_files(a.other, "stream", "log", "0");
    stream other;
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_LOCKED, stream_open(&other, &second, &err));
    char pid[32];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    cr_assert(strstr(err.text, pid) != NULL && strstr(err.text, "'stream'") != NULL, "%s",
              err.text);
    cr_assert(stream_files(a.other, "stream", "log", "0") == slots, "no fence was written");
    stream_run(&s, 3);
    cr_assert_eq(stream_checkpoint(&s), 1, "the holder is not disturbed");
    stream_close(&s);
    stream_must_open(&other, &second);
    stream_close(&other);
    arena_close(&a);
}

KWR_TEST(zombie, that_was_overtaken_publishes_deletes_and_tells_nothing) {
    arena a;
    stream zombie, next;
    arena_open(&a);
    stream_must_open(&zombie, &a.options);
    stream_run(&zombie, 5);
    cr_assert_eq(stream_checkpoint(&zombie), 1);
    stream_run(&zombie, 4);

    const stream_options second = successor(&a);
    stream_must_open(&next, &second);
    cr_assert(next.info.restored_checkpoint == 1 && next.info.generation == 2, "takes over");
    stream_settle(&next);
    const size_t files = all_files(&a);
    const size_t lines = a.world.out.count;
    const size_t events = zombie.event_count;

    cr_assert_eq(stream_checkpoint(&zombie), 0);
    cr_assert(zombie.failed && zombie.failure.status == KWR_ERR_FENCED, "%s", zombie.failure.text);
    cr_assert(strstr(zombie.failure.text, "newer attempt") != NULL, "%s", zombie.failure.text);
    cr_assert(stream_find_event(&zombie, events, KWR_JOB_PUBLISHED, 2) == SIZE_MAX &&
                  stream_find_sent(&zombie, events, KWR_MESSAGE_COMPLETE, 2) == SIZE_MAX &&
                  stream_find_sent(&zombie, events, KWR_MESSAGE_ABORT, 2) == SIZE_MAX,
              "nobody hears anything");
    cr_assert(a.world.out.count == lines, "no output");
    cr_assert(all_files(&a) >= files, "nothing is deleted");
    stream_close(&zombie);
    cr_assert(all_files(&a) >= files, "nor at its end");

    stream_finish(&next);
    cr_assert(next.finished_final, "%s", next.failure.text);
    stream_world_expect(&a.world, 30, "at the end");
    stream_close(&next);
    arena_close(&a);
}

/* ---- overtaken between its publish and its look around ---- */

typedef struct ambush {
    const kwr_fs *inner;
    arena *arena;
    stream *next;
    const char *at; /* the slot whose probing springs it */
    bool sprung;
    unsigned removed; /* files, by the zombie, since then */
} ambush;

static ambush *the_ambush; /* a kwr_fs has one ctx, and it is the inner one's */

static kwr_status ambush_open(void *ctx, kwr_dir *dir, const char *name, unsigned flags,
                              kwr_file **out, kwr_file_info *info, kwr_error *err) {
    ambush *m = the_ambush;
    if (m->at != NULL && strcmp(name, m->at) == 0 && !m->sprung) {
        m->sprung = true;
        const stream_options second = successor(m->arena);
        stream_must_open(m->next, &second);
    }
    return m->inner->open(ctx, dir, name, flags, out, info, err);
}

static kwr_status ambush_remove(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    if (the_ambush->sprung) the_ambush->removed++;
    return the_ambush->inner->remove(ctx, dir, name, err);
}

KWR_TEST(zombie, that_is_overtaken_right_after_publishing_tells_nobody_and_its_checkpoint_counts) {
    arena a;
    stream zombie, next;
    arena_open(&a);
    ambush m = { .inner = fault_env_env(a.faults)->fs, .arena = &a, .next = &next };
    the_ambush = &m;
    a.fs.open = ambush_open;
    stream_must_open(&zombie, &a.options); /* slot 1 */
    stream_run(&zombie, 5);
    cr_assert_eq(stream_checkpoint(&zombie), 1); /* slot 2 */
    stream_run(&zombie, 4);
    m.at = "0000000000000004"; /* looked for after slot 3 was published */
    cr_assert_eq(stream_checkpoint(&zombie), 0);
    cr_assert(m.sprung, "the successor came in between");
    cr_assert(zombie.failed && zombie.failure.status == KWR_ERR_FENCED, "%s", zombie.failure.text);
    cr_assert(stream_find_sent(&zombie, 0, KWR_MESSAGE_COMPLETE, 2) == SIZE_MAX, "tells nobody");
    stream_close(&zombie);

    cr_assert(next.info.restored_checkpoint == 2, "its successor goes on from checkpoint 2");
    stream_world_expect(&a.world, 9, "committed by the successor, once");
    stream_finish(&next);
    cr_assert(next.finished_final, "%s", next.failure.text);
    stream_world_expect(&a.world, 30, "at the end");
    stream_close(&next);
    arena_close(&a);
}

/* Another attempt starts while the zombie tells its tasks that checkpoint 2 is completed. */
static bool overtake_at_completion(void *ctx, stream *s, bool to_job, uint32_t task,
                                   kwr_slice message) {
    ambush *m = ctx;
    if (!to_job && task == STREAM_SINK && s->completed == 2 && !m->sprung &&
        stream_message_kind(message) == KWR_MESSAGE_COMPLETE) {
        m->sprung = true;
        stream_options second = successor(m->arena);
        second.carry = NULL;
        stream_must_open(m->next, &second);
    }
    return true;
}

KWR_TEST(zombie, does_not_tidy_up_after_it_was_overtaken) {
    arena a;
    stream zombie, next;
    arena_open(&a);
    ambush m = { .inner = fault_env_env(a.faults)->fs, .arena = &a, .next = &next };
    the_ambush = &m;
    a.fs.remove = ambush_remove;
    a.options.carry = overtake_at_completion;
    a.options.carry_ctx = &m;
    stream_must_open(&zombie, &a.options);
    stream_run(&zombie, 5);
    cr_assert_eq(stream_checkpoint(&zombie), 1);
    stream_run(&zombie, 4);
    cr_assert_eq(stream_checkpoint(&zombie), 0, "completed, but then it found itself overtaken");
    cr_assert(m.sprung && zombie.completed == 2, "in between");
    cr_assert(zombie.failed && zombie.failure.status == KWR_ERR_FENCED, "%s", zombie.failure.text);
    stream_settle(&next);
    stream_close(&zombie);
    cr_assert(m.removed == 0, "it removed %u files", m.removed);
    stream_finish(&next);
    cr_assert(next.finished_final, "%s", next.failure.text);
    stream_world_expect(&a.world, 30, "at the end");
    stream_close(&next);
    arena_close(&a);
}
