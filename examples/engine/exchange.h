/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out of a task: records collected into a buffer for each receiver, and barriers that go
 * to all of them behind the records emitted before. Keyed records go to the task that owns their
 * key group, by the library's own functions: exchange and backend cannot disagree.
 */
#ifndef ENG_EXCHANGE_H
#define ENG_EXCHANGE_H

#include <keyweir/backend.h>

#include "examples/engine/channel.h"

enum { ENG_BUFFER_BYTES = 32 * 1024 };

typedef struct eng_output {
    eng_gate *gate;
    uint32_t channel;
    eng_buffer *open; /* being filled, NULL: none */
} eng_output;

typedef struct eng_exchange {
    eng_output *outputs; /* the i-th leads to subtask i of the next operator */
    uint32_t count;
    uint64_t seed;
    uint32_t max_parallelism;
} eng_exchange;

kwr_status eng_exchange_init(eng_exchange *exchange, uint32_t outputs, kwr_error *err);
void eng_exchange_done(eng_exchange *exchange);

/* The output for the owner of `key`. */
uint32_t eng_exchange_route(const eng_exchange *exchange, kwr_slice key);
/*
 * Room for one record of `size` bytes to output `to`, to be filled at once. Sends the open buffer
 * when it is full; waits while the receiver is behind. KWR_ERR_CANCELLED: closed; KWR_ERR_NOMEM.
 */
kwr_status eng_exchange_emit(eng_exchange *exchange, uint32_t to, size_t size, uint8_t **room);
/* Sends what is collected. */
kwr_status eng_exchange_flush(eng_exchange *exchange);
/* Flushes, then sends a barrier, marker or end to every receiver. */
kwr_status eng_exchange_barrier(eng_exchange *exchange, const kwr_barrier *barrier);
kwr_status eng_exchange_end(eng_exchange *exchange);

#endif /* ENG_EXCHANGE_H */
