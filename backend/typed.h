/* SPDX-License-Identifier: Apache-2.0 */
/* What the typed calls share: checking the type, and numbers in and out of their bytes. */
#ifndef KWR_BACKEND_TYPED_H
#define KWR_BACKEND_TYPED_H

#include <string.h>

#include "backend/core.h"
#include "base/bytes.h"

kwr_status kwr_typed_refused(kwr_state *state, const char *what, kwr_type_kind have,
                             kwr_type_kind used);

static inline const kwr_state_info *kwr_typed_info(const kwr_state *state) {
    return &state->backend->registry.table.states[state->at.state];
}

/* KWR_ERR_MISMATCH unless values of the state are of this kind. */
static inline kwr_status kwr_typed_check(kwr_state *state, kwr_type_kind kind) {
    const kwr_type_kind have = kwr_typed_info(state)->type.kind;
    return have == kind ? KWR_OK : kwr_typed_refused(state, "values", have, kind);
}

/* What a read of `got` with this status gives: the number, or zeros. */
kwr_status kwr_typed_number(kwr_state *state, kwr_status status, kwr_slice got, void *out,
                            size_t size);

/* Adds to the 8 bytes at `into`; KWR_ERR_RANGE, and unchanged, when the sum overflows. */
kwr_status kwr_typed_sum_i64(kwr_state *state, void *into, int64_t by, int64_t *sum);

static inline kwr_slice kwr_typed_text(const char *text) {
    return (kwr_slice){ text, strlen(text) };
}

#endif /* KWR_BACKEND_TYPED_H */
