/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between job and tasks: acks, declines, triggers, assignments with their shares of
 * operator state. As they are, and with a checksum that is right.
 */
#include "tests/fuzz/fuzz.h"

#include "base/digest.h"
#include "base/bytes.h"
#include "task/message.h"

static const kwr_limits limits = { .struct_size = sizeof limits, .message_bytes_max = 1 << 20 };

static void read_message(kwr_slice bytes) {
    kwr_message message = { 0 };
    kwr_error err = { 0 };
    if (kwr_message_decode(&limits, bytes, &message, &err) < KWR_OK) {
        FUZZ_MUST(err.text[0] != '\0');
        return;
    }
    kwr_bytes again = { 0 };
    FUZZ_MUST(kwr_message_encode(fuzz_env(), &limits, &message, &again, &err) == KWR_OK);
    FUZZ_MUST(again.size == bytes.size && memcmp(again.data, bytes.data, bytes.size) == 0);
    kwr_bytes_free(&again);
}

/* What a task takes from the old subtasks' operator state. */
static void read_states(const kwr_assignment *a) {
    size_t at = 0;
    kwr_error err = { 0 };
    for (uint32_t i = 0; i < a->states.count; i++) {
        const kwr_slice item = kwr_packed_next(&a->states, &at);
        kwr_state_plan plan = { 0 };
        if (kwr_state_plan_read(item, a->operators.count, &plan, &err) < KWR_OK) continue;
        for (uint32_t j = 0; j < plan.pick_count; j++)
            FUZZ_MUST(kwr_state_plan_pick(&plan, j).handle < a->operators.count);
    }
}

static void read_assignment(kwr_slice bytes) {
    kwr_assignment assignment = { 0 };
    kwr_error err = { 0 };
    if (kwr_assignment_decode(&limits, bytes, &assignment, &err) < KWR_OK) {
        FUZZ_MUST(err.text[0] != '\0');
        return;
    }
    kwr_bytes again = { 0 };
    FUZZ_MUST(kwr_assignment_encode(fuzz_env(), &limits, &assignment, &again, &err) == KWR_OK);
    FUZZ_MUST(again.size == bytes.size && memcmp(again.data, bytes.data, bytes.size) == 0);
    kwr_bytes_free(&again);
    read_states(&assignment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_message((kwr_slice){ data, size });
    read_assignment((kwr_slice){ data, size });
    if (size < 8) return 0;
    uint8_t *sealed = malloc(size);
    FUZZ_MUST(sealed != NULL);
    memcpy(sealed, data, size);
    kwr_put_le64(sealed + size - 8, kwr_hash64(sealed, size - 8, 0));
    read_message((kwr_slice){ sealed, size });
    read_assignment((kwr_slice){ sealed, size });
    free(sealed);
    return 0;
}
