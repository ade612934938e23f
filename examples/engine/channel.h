/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels and mailboxes. A gate is everything one thread waits for: its bounded input channels,
 * each carrying buffers of records, barriers and an end marker in order, and its mailbox of
 * messages, which never fills and is read first. A full channel makes its writer wait: that is the
 * backpressure. Closing a gate wakes everybody at both ends.
 */
#ifndef ENG_CHANNEL_H
#define ENG_CHANNEL_H

#include <keyweir/barrier.h>

/* Whole records, encoded by whoever writes the channel. */
typedef struct eng_buffer {
    size_t size;
    size_t capacity;
    uint8_t data[];
} eng_buffer;

eng_buffer *eng_buffer_new(size_t capacity); /* NULL without memory */
void eng_buffer_free(eng_buffer *buffer);

typedef enum eng_item_kind {
    ENG_RECORDS = 1,
    ENG_BARRIER = 2, /* or a cancellation marker */
    ENG_END = 3,     /* nothing follows on this channel */
} eng_item_kind;

typedef struct eng_item {
    eng_item_kind kind;
    eng_buffer *buffer; /* RECORDS; owned by the item */
    kwr_barrier barrier;
} eng_item;

/* A message: its meaning is the sender's and receiver's; the bytes are a copy. */
typedef struct eng_message {
    struct eng_message *next;
    int kind;
    uint32_t from;
    uint64_t number;
    size_t size;
    uint8_t data[];
} eng_message;

typedef struct eng_gate eng_gate;

/* `channels` may be 0: a mailbox alone. `depth`: items a channel holds, at least 1. */
kwr_status eng_gate_new(uint32_t channels, uint32_t depth, eng_gate **out, kwr_error *err);
/* Nobody may use it any more. */
void eng_gate_free(eng_gate *gate);

/* ---- from any thread ---- */

/* Appends to a channel, waiting while it is full. Takes the item over in every case.
 * KWR_ERR_CANCELLED: the gate was closed. */
kwr_status eng_gate_put(eng_gate *gate, uint32_t channel, const eng_item *item);
/* Appends to the mailbox. KWR_ERR_NOMEM; after a close the message is dropped. */
kwr_status eng_gate_post(eng_gate *gate, int kind, uint32_t from, uint64_t number, kwr_slice bytes);
/* Makes the next, or present, wait return. */
void eng_gate_wake(eng_gate *gate);
void eng_gate_close(eng_gate *gate);

/* ---- from the one thread that reads ---- */

/* The oldest message, NULL when there is none; free() it. Also after a close. */
eng_message *eng_gate_message(eng_gate *gate);
/* The next item of the channels that are not blocked, in turn; KWR_NOT_FOUND when there is none,
 * KWR_ERR_CANCELLED when closed. */
kwr_status eng_gate_take(eng_gate *gate, uint32_t *channel, eng_item *out);
/* A blocked channel is not read, and does not end a wait. */
void eng_gate_block(eng_gate *gate, uint32_t channel);
void eng_gate_release(eng_gate *gate); /* all of them */
/* Until there is a message, an item to take, a wake or a close; at most `ns`, UINT64_MAX: for ever.
 * KWR_ERR_CANCELLED when closed. */
kwr_status eng_gate_wait(eng_gate *gate, uint64_t ns);
bool eng_gate_closed(eng_gate *gate);

#endif /* ENG_CHANNEL_H */
