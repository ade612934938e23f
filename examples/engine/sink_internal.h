/* SPDX-License-Identifier: Apache-2.0 */
/* What writing (sink_file.c) and committing (sink_commit.c) share. */
#ifndef ENG_SINK_INTERNAL_H
#define ENG_SINK_INTERNAL_H

#include <xxhash.h>

#include "examples/engine/sink_file.h"

struct eng_sink {
    eng_sink_options options;
    kwr_file *file; /* the pending file, NULL: none */
    char pending[ENG_PENDING_TEXT];
    uint64_t named;  /* the checkpoint in its name */
    uint64_t maybe;  /* 0, or the checkpoint in its name after a rename of unknown outcome */
    bool dead;       /* a sync failed: its content may never reach the disk */
    uint64_t length; /* written to it, and the digest of that */
    XXH3_state_t *digest;
    uint64_t unhinted;
    uint8_t *buffer; /* lines not yet written */
    size_t filled;
    size_t capacity;
    size_t flush_at;
    uint64_t next_checkpoint;
    uint32_t commits_failed; /* in a row */
};

#endif /* ENG_SINK_INTERNAL_H */
