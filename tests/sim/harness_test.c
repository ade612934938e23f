/* SPDX-License-Identifier: Apache-2.0 */
/* The harness itself: what its disk keeps, how its processes die, and that what it says replays. */
#include "keyweir/sim.h"
#include "tests/support/kwr_test.h"

typedef struct world {
    kwr_sim *sim;
    kwr_sim_disk *disk;
    kwr_sim_process *process;
    const kwr_fs *fs;
    kwr_dir *dir;
    kwr_sim_strike strike; /* at the call with this number */
    unsigned reached;
} world;

static kwr_sim_strike decide(void *ctx, const kwr_sim_at *at) {
    const world *w = ctx;
    return at->nth == w->strike.nth ? w->strike : (kwr_sim_strike){ 0 };
}

static void open_world(world *w) {
    const kwr_sim_options options = {
        .struct_size = sizeof options, .seed = 1, .decide = decide, .decide_ctx = w
    };
    w->sim = kwr_sim_open(&options);
    w->disk = kwr_sim_disk_new();
    w->process = kwr_sim_process_open(w->sim, w->disk, 1);
    w->fs = kwr_sim_process_env(w->process)->fs;
}

static void close_world(world *w) {
    kwr_sim_process_close(w->process);
    kwr_sim_disk_free(w->disk);
    kwr_sim_close(w->sim);
}

/* Calls 1 to 6; `reached` counts those that returned. */
static void write_file(void *ctx) {
    world *w = ctx;
    kwr_file *file = NULL;
    size_t done;
    if (w->fs->open_root(w->fs->ctx, "/d", KWR_FS_CREATE, &w->dir, NULL) >= KWR_OK) w->reached++;
    if (w->fs->create(w->fs->ctx, w->dir, "f", &file, NULL) >= KWR_OK) w->reached++;
    if (file == NULL) return;
    if (w->fs->write(w->fs->ctx, file, "hello", 5, &done, NULL) >= KWR_OK) w->reached++;
    if (w->fs->sync(w->fs->ctx, file, NULL) >= KWR_OK) w->reached++;
    if (w->fs->close(w->fs->ctx, file, NULL) >= KWR_OK) w->reached++;
    if (w->fs->sync_dir(w->fs->ctx, w->dir, NULL) >= KWR_OK) w->reached++;
}

static bool has(const world *w, bool durable, const char *text) {
    size_t size;
    const void *data = kwr_sim_disk_file(w->disk, durable, "/d/f", &size);
    return data != NULL && size == strlen(text) && memcmp(data, text, size) == 0;
}

KWR_TEST(sim_disk, what_was_synced_survives_every_power_loss) {
    for (unsigned outcome = 0; outcome < KWR_SIM_POWER_OUTCOMES; outcome++) {
        world w = { 0 };
        kwr_sim_rng rng = kwr_sim_rng_of(outcome, 0);
        open_world(&w);
        cr_assert(kwr_sim_process_call(w.process, write_file, &w));
        cr_assert(w.reached == 6);
        kwr_sim_disk_power_loss(w.disk, (kwr_sim_power)outcome, &rng);
        cr_assert(has(&w, false, "hello") && has(&w, true, "hello"), "outcome %u", outcome);
        close_world(&w);
    }
}

KWR_TEST(sim_disk, a_name_whose_directory_was_not_synced_may_go_or_stay) {
    bool gone = false, stayed = false;
    for (unsigned outcome = 0; outcome < KWR_SIM_POWER_OUTCOMES; outcome++) {
        world w = { .strike = { KWR_SIM_KILL_BEFORE, 0, 6 } };
        kwr_sim_rng rng = kwr_sim_rng_of(outcome, 0);
        open_world(&w);
        cr_assert(!kwr_sim_process_call(w.process, write_file, &w));
        cr_assert(has(&w, false, "hello") && !has(&w, true, "hello"));
        kwr_sim_disk_power_loss(w.disk, (kwr_sim_power)outcome, &rng);
        if (has(&w, false, "hello"))
            stayed = true;
        else
            gone = true;
        cr_assert(outcome != KWR_SIM_POWER_NOTHING || gone);
        cr_assert(outcome != KWR_SIM_POWER_ALL || stayed);
        close_world(&w);
    }
}

KWR_TEST(sim_disk, a_sync_that_failed_with_loss_keeps_nothing_ever_after) {
    world w = { .strike = { KWR_SIM_LOSE_SYNC, 0, 4 } };
    kwr_sim_rng rng = kwr_sim_rng_of(1, 0);
    open_world(&w);
    cr_assert(kwr_sim_process_call(w.process, write_file, &w));
    cr_assert(w.reached == 5 && has(&w, false, "hello") && has(&w, true, ""));
    kwr_sim_disk_power_loss(w.disk, KWR_SIM_POWER_ALL, &rng);
    cr_assert(has(&w, false, ""));
    close_world(&w);
}

KWR_TEST(sim_disk, unsynced_tails_come_back_as_zeros_or_garbage_of_full_length) {
    for (kwr_sim_power outcome = KWR_SIM_POWER_ZEROS; outcome < KWR_SIM_POWER_OUTCOMES; outcome++) {
        world w = { .strike = { KWR_SIM_KILL_BEFORE, 0, 4 } };
        kwr_sim_rng rng = kwr_sim_rng_of(3, 0);
        size_t size = 0;
        open_world(&w);
        cr_assert(!kwr_sim_process_call(w.process, write_file, &w));
        kwr_sim_disk_power_loss(w.disk, outcome, &rng);
        const void *data = kwr_sim_disk_file(w.disk, false, "/d/f", &size);
        cr_assert(data != NULL && size == 5 && memcmp(data, "hello", 5) != 0);
        cr_assert(outcome != KWR_SIM_POWER_ZEROS || memcmp(data, "\0\0\0\0\0", 5) == 0);
        close_world(&w);
    }
}

KWR_TEST(sim_disk, a_full_disk_refuses_and_a_copy_is_independent) {
    world w = { 0 };
    open_world(&w);
    kwr_sim_disk_set_capacity(w.disk, 4);
    cr_assert(kwr_sim_process_call(w.process, write_file, &w));
    cr_assert(w.reached == 5 && has(&w, true, "") && kwr_sim_disk_used(w.disk) == 0);
    kwr_sim_disk *copy = kwr_sim_disk_copy(w.disk);
    cr_assert(kwr_sim_disk_hash(copy, "") == kwr_sim_disk_hash(w.disk, ""));
    kwr_sim_disk_put(copy, "/d/f", "other", 5);
    cr_assert(kwr_sim_disk_hash(copy, "") != kwr_sim_disk_hash(w.disk, ""));
    cr_assert(kwr_sim_disk_hash(copy, "/e") == kwr_sim_disk_hash(w.disk, "/e"));
    cr_assert(has(&w, true, ""));
    kwr_sim_disk_free(copy);
    close_world(&w);
}

KWR_TEST(sim_disk, damage_shows_in_both_images_and_is_undone_by_repair) {
    world w = { 0 };
    open_world(&w);
    kwr_sim_disk_put(w.disk, "/d/f", "hello", 5);
    cr_assert(!kwr_sim_disk_damage(w.disk, "/d/f", 3, "xyz", 3), "beyond the end");
    cr_assert(!kwr_sim_disk_damage(w.disk, "/d/g", 0, "x", 1), "no such file");
    cr_assert(kwr_sim_disk_damage(w.disk, "/d/f", 1, "xy", 2));
    cr_assert(!kwr_sim_disk_damage(w.disk, "/d/f", 0, "z", 1), "one at a time");
    cr_assert(has(&w, false, "hxylo") && has(&w, true, "hxylo"));
    kwr_sim_disk_repair(w.disk);
    cr_assert(has(&w, false, "hello") && has(&w, true, "hello"));
    close_world(&w);
}

KWR_TEST(sim_process, it_dies_before_or_after_any_call_and_never_returns) {
    for (uint64_t call = 1; call <= 6; call++) {
        for (unsigned after = 0; after < 2; after++) {
            world w = { .strike = { after ? KWR_SIM_KILL_AFTER : KWR_SIM_KILL_BEFORE, 0, call } };
            open_world(&w);
            cr_assert(!kwr_sim_process_call(w.process, write_file, &w));
            cr_assert(kwr_sim_process_dead(w.process) && w.reached == call - 1);
            cr_assert(has(&w, false, "hello") == (call + after > 3));
            cr_assert(has(&w, true, "hello") == (call + after > 6));
            cr_assert(!kwr_sim_process_call(w.process, write_file, &w), "dead is dead");
            close_world(&w);
        }
    }
}

KWR_TEST(sim_process, each_errno_arrives_with_its_status_and_applies_nothing) {
    static const struct {
        int code;
        kwr_status status;
    } cases[] = { { 5, KWR_ERR_IO }, { 28, KWR_ERR_NOSPACE }, { 12, KWR_ERR_NOMEM } };
    for (size_t i = 0; i < 3; i++) {
        world w = { .strike = { KWR_SIM_ERROR, (uint32_t)cases[i].code, 2 } };
        kwr_error err = { 0 };
        kwr_file *file = NULL;
        open_world(&w);
        KWR_MUST(w.fs->open_root(w.fs->ctx, "/d", KWR_FS_CREATE, &w.dir, &err));
        KWR_EXPECT(cases[i].status, w.fs->create(w.fs->ctx, w.dir, "f", &file, &err));
        cr_assert(err.sys_errno == cases[i].code && file == NULL && !has(&w, false, ""));
        close_world(&w);
    }
}

/* Work that writes a file, with a call of it that stalls. */
typedef struct slow {
    world w;
    kwr_work work;
    bool done;
} slow;

static void run_slow(void *ctx) {
    slow *s = ctx;
    write_file(&s->w);
    s->done = true;
}

static void post_slow(void *ctx) {
    slow *s = ctx;
    const kwr_executor *executor = kwr_sim_process_env(s->w.process)->executor;
    s->work = (kwr_work){ .run = run_slow, .ctx = s };
    KWR_MUST(executor->post(executor->ctx, &s->work));
}

static void wait_slow(void *ctx) {
    slow *s = ctx;
    const kwr_executor *executor = kwr_sim_process_env(s->w.process)->executor;
    executor->wait(executor->ctx, &s->work);
}

static void open_slow(slow *s, uint64_t call) {
    s->w.strike = (kwr_sim_strike){ KWR_SIM_STALL, 7, call };
    open_world(&s->w);
    cr_assert(kwr_sim_process_call(s->w.process, post_slow, s));
}

KWR_TEST(sim_process, work_that_stalls_stands_still_while_others_go_on) {
    for (uint64_t call = 1; call <= 6; call++) {
        slow s = { 0 };
        open_slow(&s, call);
        const uint64_t begin = kwr_sim_now_ns(s.w.sim), end = begin + 7000000;
        cr_assert(kwr_sim_process_work(s.w.process, 0) && !s.done && s.w.reached == call - 1);
        cr_assert(kwr_sim_now_ns(s.w.sim) == begin && kwr_sim_process_runnable(s.w.process) == 0);
        cr_assert(kwr_sim_process_due_ns(s.w.process) == end &&
                  !kwr_sim_process_work(s.w.process, 0));
        kwr_sim_set_now_ns(s.w.sim, end);
        cr_assert(kwr_sim_process_runnable(s.w.process) == 1);
        cr_assert(kwr_sim_process_work(s.w.process, 0) && s.done && has(&s.w, true, "hello"));
        close_world(&s.w);
    }
}

KWR_TEST(sim_process, waiting_for_stalled_work_takes_the_time_of_the_stall) {
    slow s = { 0 };
    open_slow(&s, 3);
    const uint64_t end = kwr_sim_now_ns(s.w.sim) + 7000000;
    cr_assert(kwr_sim_process_work(s.w.process, 0) && !s.done);
    cr_assert(kwr_sim_process_call(s.w.process, wait_slow, &s));
    cr_assert(s.done && kwr_sim_now_ns(s.w.sim) == end);
    close_world(&s.w);
    slow own = { .w.strike = { KWR_SIM_STALL, 7, 3 } }; /* on the process's own thread */
    open_world(&own.w);
    const uint64_t begin = kwr_sim_now_ns(own.w.sim);
    cr_assert(kwr_sim_process_call(own.w.process, write_file, &own.w));
    cr_assert(kwr_sim_now_ns(own.w.sim) == begin + 7000000 && has(&own.w, true, "hello"));
    close_world(&own.w);
}

KWR_TEST(sim_process, killed_while_its_work_stalls_it_does_no_more) {
    slow s = { 0 };
    open_slow(&s, 3);
    cr_assert(kwr_sim_process_work(s.w.process, 0));
    kwr_sim_process_kill(s.w.process);
    kwr_sim_set_now_ns(s.w.sim, kwr_sim_process_due_ns(s.w.process));
    cr_assert(!kwr_sim_process_work(s.w.process, 0) && !s.done && !has(&s.w, false, "hello"));
    close_world(&s.w);
}

static void hold_things(void *ctx) {
    world *w = ctx;
    const kwr_env *env = kwr_sim_process_env(w->process);
    uint8_t *bytes = env->allocator->alloc(env->allocator->ctx, 100, 16);
    uint8_t *map = env->allocator->map(env->allocator->ctx, 2 << 20);
    cr_assert(bytes != NULL && map != NULL && (uintptr_t)map % (2 << 20) == 0);
    cr_assert(map[0] == 0 && map[(2 << 20) - 1] == 0);
    map[0] = bytes[99] = 1;
    KWR_MUST(w->fs->open_root(w->fs->ctx, "/d", KWR_FS_CREATE, &w->dir, NULL));
}

KWR_TEST(sim_process, what_it_holds_is_counted_and_its_end_gives_it_back) {
    world w = { 0 };
    uint64_t bytes;
    kwr_lock *lock = NULL, *second = NULL;
    open_world(&w);
    cr_assert(kwr_sim_process_call(w.process, hold_things, &w));
    cr_assert(kwr_sim_process_blocks(w.process, &bytes) == 2 && bytes == 100 + (2 << 20));
    cr_assert(kwr_sim_process_handles(w.process) == 1);
    KWR_MUST(w.fs->lock(w.fs->ctx, w.dir, "l", &lock, NULL, NULL));
    kwr_sim_process *other = kwr_sim_process_open(w.sim, w.disk, 2);
    const kwr_fs *fs = kwr_sim_process_env(other)->fs;
    kwr_dir *dir = NULL;
    KWR_MUST(fs->open_root(fs->ctx, "/d", 0, &dir, NULL));
    KWR_EXPECT(KWR_ERR_LOCKED, fs->lock(fs->ctx, dir, "l", &second, NULL, NULL));
    kwr_sim_process_close(w.process);
    KWR_MUST(fs->lock(fs->ctx, dir, "l", &second, NULL, NULL));
    w.process = other;
    close_world(&w);
}

KWR_TEST(sim_faults, a_list_as_text_reads_back_as_it_was) {
    const kwr_sim_strike list[] = { { KWR_SIM_ERROR, 28, 812 },
                                    { KWR_SIM_POWER, 3, 1200 },
                                    { KWR_SIM_NO_MEMORY, 0, UINT64_MAX } };
    size_t count = 0;
    char *text = kwr_sim_strikes_text(list, 3);
    cr_assert(strcmp(text, "error@812/28,power@1200/3,no-memory@18446744073709551615/0") == 0);
    kwr_sim_strike *again = kwr_sim_strikes_parse(text, &count);
    cr_assert(again != NULL && count == 3);
    for (size_t i = 0; i < 3; i++)
        cr_assert(again[i].fault == list[i].fault && again[i].detail == list[i].detail &&
                  again[i].nth == list[i].nth);
    free(again);
    free(text);
    cr_assert(kwr_sim_strikes_parse("power", &count) == NULL);
    cr_assert(kwr_sim_strikes_parse("thunder@1", &count) == NULL);
    cr_assert(kwr_sim_strikes_parse("power@", &count) == NULL);
    cr_assert(kwr_sim_strikes_parse("power@1;", &count) == NULL);
}

KWR_TEST(sim_faults, each_kind_is_off_in_about_a_third_of_the_seeds) {
    for (unsigned f = 1; f < KWR_SIM_FAULTS; f++) {
        unsigned off = 0;
        for (uint64_t seed = 0; seed < 3000; seed++) {
            kwr_sim_plan plan;
            kwr_sim_plan_of(seed, &plan);
            off += plan.rates.of[f] == 0;
        }
        /* But for rot, which is on in two thirds of an eighth. */
        const unsigned expected = f == KWR_SIM_ROT ? 2750 : 1000;
        cr_assert(off > expected - 150 && off < expected + 150, "kind %u is off in %u of 3000", f,
                  off);
    }
}
