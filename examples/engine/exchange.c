/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/engine/exchange.h"

#include <stdlib.h>

#include "examples/engine/error.h"

kwr_status eng_exchange_init(eng_exchange *exchange, uint32_t outputs, kwr_error *err) {
    *exchange = (eng_exchange){ .count = 0 };
    exchange->outputs = calloc(outputs == 0 ? 1 : outputs, sizeof *exchange->outputs);
    if (exchange->outputs == NULL) return eng_no_memory(err, "a task's outputs");
    exchange->count = outputs;
    return KWR_OK;
}

void eng_exchange_done(eng_exchange *exchange) {
    for (uint32_t i = 0; i < exchange->count; i++)
        eng_buffer_free(exchange->outputs[i].open);
    free(exchange->outputs);
    *exchange = (eng_exchange){ .count = 0 };
}

uint32_t eng_exchange_route(const eng_exchange *exchange, kwr_slice key) {
    const uint32_t group = kwr_key_group(key, exchange->seed, exchange->max_parallelism);
    return kwr_key_group_owner(group, exchange->count, exchange->max_parallelism);
}

static kwr_status send_open(eng_output *output) {
    if (output->open == NULL) return KWR_OK;
    const eng_item item = { .kind = ENG_RECORDS, .buffer = output->open };
    output->open = NULL;
    return eng_gate_put(output->gate, output->channel, &item);
}

kwr_status eng_exchange_emit(eng_exchange *exchange, uint32_t to, size_t size, uint8_t **room) {
    eng_output *output = &exchange->outputs[to];
    if (output->open != NULL && size > output->open->capacity - output->open->size) {
        ENG_TRY(send_open(output));
    }
    if (output->open == NULL) {
        output->open = eng_buffer_new(size > ENG_BUFFER_BYTES ? size : ENG_BUFFER_BYTES);
        if (output->open == NULL) return KWR_ERR_NOMEM;
    }
    *room = output->open->data + output->open->size;
    output->open->size += size;
    return KWR_OK;
}

kwr_status eng_exchange_flush(eng_exchange *exchange) {
    for (uint32_t i = 0; i < exchange->count; i++)
        ENG_TRY(send_open(&exchange->outputs[i]));
    return KWR_OK;
}

static kwr_status send_all(eng_exchange *exchange, const eng_item *item) {
    ENG_TRY(eng_exchange_flush(exchange));
    for (uint32_t i = 0; i < exchange->count; i++) {
        ENG_TRY(eng_gate_put(exchange->outputs[i].gate, exchange->outputs[i].channel, item));
    }
    return KWR_OK;
}

kwr_status eng_exchange_barrier(eng_exchange *exchange, const kwr_barrier *barrier) {
    return send_all(exchange, &(eng_item){ .kind = ENG_BARRIER, .barrier = *barrier });
}

kwr_status eng_exchange_end(eng_exchange *exchange) {
    return send_all(exchange, &(eng_item){ .kind = ENG_END });
}
