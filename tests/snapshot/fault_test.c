/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every file-system call and every allocation of a checkpoint fails once: the older checkpoint
 * stays restorable, the next one succeeds, and the only outcome that may be either is the one that
 * says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/snapshot/mini_job.h"
#include "tests/support/fault_env.h"

enum { ENTRIES = 8 };

/* One checkpoint with the n-th call failing; true when there was such a call. */
static bool fail_call(uint64_t n, fault_kind kind, fault_times times, size_t inline_bytes) {
    fixture f;
    fixture_open(&f, KIND_FILE);
    kwr_error err = { 0 };
    fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
    kwr_storage *storage = NULL;
    KWR_MUST_ERR(kwr_storage_open(fault_env_env(faults), f.root, false, &storage, &err), err);
    mini_job job = { .inline_bytes = inline_bytes };
    KWR_MUST_ERR(mini_start(&job, fault_env_env(faults), storage, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, ENTRIES, 1, &err), err);

    fault_env_fail_fs(faults, kind, n, times);
    const kwr_status status = mini_checkpoint(&job, ENTRIES, 2, &err);
    const bool fired = fault_env_fired(faults) > 0;
    char what[512];
    snprintf(what, sizeof what, "kind %d call %llu (%s): %s", (int)kind, (unsigned long long)n,
             fault_env_fired_text(faults), kwr_status_name(status));
    if (!fired) cr_assert(status == KWR_OK, "%s", what);
    fault_env_clear(faults);

    /* What a successor finds. */
    kwr_backend *backend = NULL;
    uint64_t round = 0;
    const kwr_status restored = mini_restore(f.env, f.storage, &backend, &round, &err);
    cr_assert(restored == KWR_OK, "%s: %s %s", what, kwr_status_name(restored), err.text);
    mini_expect(backend, (kwr_key_group_range){ 0, 0 }, ENTRIES, (uint32_t)round);
    kwr_backend_close(backend);
    const bool killed = kind == FAULT_KILL || kind == FAULT_KILL_AFTER;
    if (status == KWR_OK)
        cr_assert(round == 2, "%s", what);
    else if (status != KWR_ERR_UNKNOWN && !killed)
        cr_assert(round == 1, "%s", what);
    cr_assert(round == 1 || round == 2, "%s", what);

    if (status == KWR_ERR_UNKNOWN || killed) {
        /* This attempt ends; the next one reads what is there. */
        mini_stop(&job);
        KWR_MUST_ERR(mini_start(&job, fault_env_env(faults), storage, &err), err);
    }
    const uint32_t next = (uint32_t)kwr_log_highest(&job.log) + 1;
    const kwr_status again = mini_checkpoint(&job, ENTRIES, next, &err);
    cr_assert(again == KWR_OK, "after %s: %s %s", what, kwr_status_name(again), err.text);
    mini_stop(&job);
    kwr_storage_close(storage);
    fault_env_close(faults);
    mini_expect_restores(f.env, f.storage, ENTRIES, next);
    fixture_close(&f);
    return fired;
}

static void fail_each(fault_kind kind, size_t inline_bytes) {
    uint64_t n = 0;
    while (fail_call(n, kind, FAULT_ONCE, inline_bytes))
        n++;
    cr_assert(n >= 3, "only %llu calls", (unsigned long long)n);
}

#define FAULTS(name, kind)                   \
    KWR_TEST(faults, name, .timeout = 300) { \
        fail_each(kind, 0);                  \
        fail_each(kind, 1 << 20);            \
    }
FAULTS(an_input_or_output_error_at_every_call, FAULT_EIO)
FAULTS(no_space_at_every_call, FAULT_ENOSPC)
FAULTS(a_short_write_at_every_write, FAULT_SHORT_WRITE)
FAULTS(a_lost_sync_at_every_sync, FAULT_LOST_SYNC)
FAULTS(an_error_after_the_effect_at_every_call, FAULT_APPLIED)
FAULTS(a_kill_before_every_call, FAULT_KILL)
FAULTS(a_kill_after_every_call, FAULT_KILL_AFTER)

KWR_TEST(faults, of_a_disk_that_stays_full_pass_when_there_is_room_again, .timeout = 300) {
    for (uint64_t n = 0; n < 60; n += 3)
        fail_call(n, FAULT_ENOSPC, FAULT_ALWAYS, 0);
}

/* Every allocation of writing and of restoring fails once. */
KWR_TEST(faults, every_failed_allocation_is_reported_and_nothing_is_lost, .timeout = 500) {
    for (int in_file = 0; in_file < 2; in_file++) {
        bool fired = true;
        for (uint64_t n = 0; fired; n++) {
            fixture f;
            fixture_open(&f, KIND_MEMORY);
            kwr_error err = { 0 };
            fault_env *faults = fault_env_open(f.env, FAULT_INLINE);
            kwr_storage *storage = NULL;
            mini_job job = { .inline_bytes = in_file ? 0 : 1 << 20 };
            KWR_MUST(kwr_storage_memory_open(fault_env_env(faults), 0, &storage, NULL));
            KWR_MUST_ERR(mini_start(&job, fault_env_env(faults), storage, &err), err);
            KWR_MUST_ERR(mini_checkpoint(&job, ENTRIES, 1, &err), err);
            fault_env_fail_alloc(faults, n, FAULT_ONCE);
            kwr_backend *backend = NULL;
            uint64_t round = 0;
            kwr_status status = mini_checkpoint(&job, ENTRIES, 2, &err);
            if (status == KWR_OK)
                status = mini_restore(fault_env_env(faults), storage, &backend, &round, &err);
            fired = fault_env_fired(faults) > 0;
            cr_assert(status == KWR_OK || (fired && status == KWR_ERR_NOMEM), "%s: %s %s",
                      fault_env_fired_text(faults), kwr_status_name(status), err.text);
            kwr_backend_close(backend);
            fault_env_clear(faults);
            backend = NULL;
            KWR_MUST_ERR(mini_restore(fault_env_env(faults), storage, &backend, &round, &err), err);
            cr_assert(round == 1 || round == 2);
            mini_expect(backend, (kwr_key_group_range){ 0, 0 }, ENTRIES, (uint32_t)round);
            kwr_backend_close(backend);
            mini_stop(&job);
            kwr_storage_close(storage);
            fault_env_close(faults);
            fixture_close(&f);
        }
    }
}
