/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/channel.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "examples/engine/error.h"

typedef struct eng_channel {
    eng_item *items; /* ring of gate->depth */
    uint32_t first;
    uint32_t count;
    bool blocked;
    pthread_cond_t room; /* one writer at most waits here */
} eng_channel;

struct eng_gate {
    pthread_mutex_t mutex;
    pthread_cond_t news; /* the reader waits here */
    eng_channel *channels;
    uint32_t channel_count;
    uint32_t depth;
    uint32_t next; /* channel to look at first */
    eng_message *mail_first;
    eng_message **mail_last;
    bool woken;
    bool closed;
};

eng_buffer *eng_buffer_new(size_t capacity) {
    if (capacity > SIZE_MAX - sizeof(eng_buffer)) return NULL;
    eng_buffer *buffer = malloc(sizeof *buffer + capacity);
    if (buffer == NULL) return NULL;
    buffer->size = 0;
    buffer->capacity = capacity;
    return buffer;
}

void eng_buffer_free(eng_buffer *buffer) { free(buffer); }

/* Timed waits count on the monotonic clock: setting the wall clock must not stall a job. */
static void cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

kwr_status eng_gate_new(uint32_t channels, uint32_t depth, eng_gate **out, kwr_error *err) {
    if (depth == 0) return eng_fail(err, KWR_ERR_RANGE, 0, "a channel needs room for an item");
    eng_gate *gate = calloc(1, sizeof *gate);
    if (gate == NULL) return eng_no_memory(err, "a task's inputs");
    pthread_mutex_init(&gate->mutex, NULL);
    cond_init(&gate->news);
    gate->depth = depth;
    gate->mail_last = &gate->mail_first;
    gate->channels = calloc(channels == 0 ? 1 : channels, sizeof *gate->channels);
    if (gate->channels == NULL) {
        eng_gate_free(gate);
        return eng_no_memory(err, "a task's inputs");
    }
    for (uint32_t i = 0; i < channels; i++) {
        eng_channel *channel = &gate->channels[i];
        cond_init(&channel->room);
        gate->channel_count = i + 1;
        channel->items = calloc(depth, sizeof *channel->items);
        if (channel->items == NULL) {
            eng_gate_free(gate);
            return eng_no_memory(err, "a task's inputs");
        }
    }
    *out = gate;
    return KWR_OK;
}

void eng_gate_free(eng_gate *gate) {
    if (gate == NULL) return;
    for (uint32_t i = 0; gate->channels != NULL && i < gate->channel_count; i++) {
        eng_channel *channel = &gate->channels[i];
        for (uint32_t k = 0; channel->items != NULL && k < channel->count; k++) {
            eng_buffer_free(channel->items[(channel->first + k) % gate->depth].buffer);
        }
        free(channel->items);
        pthread_cond_destroy(&channel->room);
    }
    free(gate->channels);
    while (gate->mail_first != NULL) {
        eng_message *message = gate->mail_first;
        gate->mail_first = message->next;
        free(message);
    }
    pthread_cond_destroy(&gate->news);
    pthread_mutex_destroy(&gate->mutex);
    free(gate);
}

kwr_status eng_gate_put(eng_gate *gate, uint32_t number, const eng_item *item) {
    pthread_mutex_lock(&gate->mutex);
    eng_channel *channel = &gate->channels[number];
    while (!gate->closed && channel->count == gate->depth) {
        pthread_cond_wait(&channel->room, &gate->mutex);
    }
    const bool closed = gate->closed;
    if (!closed) {
        channel->items[(channel->first + channel->count) % gate->depth] = *item;
        channel->count++;
        pthread_cond_signal(&gate->news);
    }
    pthread_mutex_unlock(&gate->mutex);
    if (closed) eng_buffer_free(item->buffer);
    return closed ? KWR_ERR_CANCELLED : KWR_OK;
}

kwr_status eng_gate_post(eng_gate *gate, int kind, uint32_t from, uint64_t number,
                         kwr_slice bytes) {
    if (bytes.size > SIZE_MAX - sizeof(eng_message)) return KWR_ERR_NOMEM;
    eng_message *message = malloc(sizeof *message + bytes.size);
    if (message == NULL) return KWR_ERR_NOMEM;
    *message = (eng_message){ .kind = kind, .from = from, .number = number, .size = bytes.size };
    if (bytes.size > 0) memcpy(message->data, bytes.data, bytes.size);
    pthread_mutex_lock(&gate->mutex);
    const bool closed = gate->closed;
    if (!closed) {
        *gate->mail_last = message;
        gate->mail_last = &message->next;
        pthread_cond_signal(&gate->news);
    }
    pthread_mutex_unlock(&gate->mutex);
    if (closed) free(message);
    return KWR_OK;
}

void eng_gate_wake(eng_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    gate->woken = true;
    pthread_cond_signal(&gate->news);
    pthread_mutex_unlock(&gate->mutex);
}

void eng_gate_close(eng_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    gate->closed = true;
    pthread_cond_broadcast(&gate->news);
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        pthread_cond_broadcast(&gate->channels[i].room);
    }
    pthread_mutex_unlock(&gate->mutex);
}

bool eng_gate_closed(eng_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    const bool closed = gate->closed;
    pthread_mutex_unlock(&gate->mutex);
    return closed;
}

eng_message *eng_gate_message(eng_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    eng_message *message = gate->mail_first;
    if (message != NULL) {
        gate->mail_first = message->next;
        if (gate->mail_first == NULL) gate->mail_last = &gate->mail_first;
    }
    pthread_mutex_unlock(&gate->mutex);
    return message;
}

static bool readable(const eng_channel *channel) { return channel->count > 0 && !channel->blocked; }

kwr_status eng_gate_take(eng_gate *gate, uint32_t *number, eng_item *out) {
    kwr_status status = KWR_NOT_FOUND;
    pthread_mutex_lock(&gate->mutex);
    for (uint32_t i = 0; i < gate->channel_count && !gate->closed; i++) {
        const uint32_t at = (gate->next + i) % gate->channel_count;
        eng_channel *channel = &gate->channels[at];
        if (!readable(channel)) continue;
        *out = channel->items[channel->first];
        *number = at;
        channel->first = (channel->first + 1) % gate->depth;
        channel->count--;
        gate->next = (at + 1) % gate->channel_count;
        pthread_cond_signal(&channel->room);
        status = KWR_OK;
        break;
    }
    if (gate->closed) status = KWR_ERR_CANCELLED;
    pthread_mutex_unlock(&gate->mutex);
    return status;
}

void eng_gate_block(eng_gate *gate, uint32_t number) {
    pthread_mutex_lock(&gate->mutex);
    gate->channels[number].blocked = true;
    pthread_mutex_unlock(&gate->mutex);
}

void eng_gate_release(eng_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    for (uint32_t i = 0; i < gate->channel_count; i++)
        gate->channels[i].blocked = false;
    pthread_mutex_unlock(&gate->mutex);
}

static bool has_news(const eng_gate *gate) {
    if (gate->closed || gate->woken || gate->mail_first != NULL) return true;
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        if (readable(&gate->channels[i])) return true;
    }
    return false;
}

static struct timespec time_after(uint64_t ns) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t year = UINT64_C(31536000000000000);
    const uint64_t at = (uint64_t)now.tv_nsec + (ns < year ? ns : year);
    now.tv_sec += (time_t)(at / 1000000000);
    now.tv_nsec = (long)(at % 1000000000);
    return now;
}

kwr_status eng_gate_wait(eng_gate *gate, uint64_t ns) {
    const struct timespec until = time_after(ns);
    pthread_mutex_lock(&gate->mutex);
    int rc = 0;
    while (!has_news(gate) && rc == 0) {
        rc = ns == UINT64_MAX ? pthread_cond_wait(&gate->news, &gate->mutex)
                              : pthread_cond_timedwait(&gate->news, &gate->mutex, &until);
    }
    gate->woken = false;
    const bool closed = gate->closed;
    pthread_mutex_unlock(&gate->mutex);
    return closed ? KWR_ERR_CANCELLED : KWR_OK;
}
