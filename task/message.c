/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message codec. One description of each body serves measuring, writing and reading: a `codec`
 * walks over the fields and does with each what its mode says, so the three cannot drift apart.
 */
#include "task/message.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "keyweir/task.h"

enum { HEAD_BYTES = 32, CHECKSUM_BYTES = 8, TEXT_MAX = KWR_ERROR_TEXT_MAX };

static const uint8_t MAGIC[4] = { 'K', 'W', 'R', 'M' };

typedef struct codec {
    enum { MEASURE, WRITE, READ } mode;
    uint8_t *out;    /* write */
    size_t at;       /* measure, write */
    kwr_cursor from; /* read */
} codec;

static void put(codec *c, const void *data, size_t size) {
    if (c->mode == WRITE && size > 0) memcpy(c->out + c->at, data, size);
    c->at += size;
}

static void field_u8(codec *c, uint8_t *value) {
    if (c->mode == READ)
        *value = kwr_cursor_u8(&c->from);
    else
        put(c, value, 1);
}

static void field_u32(codec *c, uint32_t *value) {
    if (c->mode == READ)
        *value = kwr_cursor_u32(&c->from);
    else
        put(c, value, 4);
}

static void field_u64(codec *c, uint64_t *value) {
    if (c->mode == READ)
        *value = kwr_cursor_u64(&c->from);
    else
        put(c, value, 8);
}

static void field_bool(codec *c, bool *value) {
    uint8_t byte = *value ? 1 : 0;
    field_u8(c, &byte);
    if (c->mode != READ) return;
    if (byte > 1) c->from.failed = true;
    *value = byte == 1;
}

static void field_status(codec *c, kwr_status *value) {
    uint32_t raw = (uint32_t)(int32_t)*value;
    field_u32(c, &raw);
    if (c->mode != READ) return;
    /* Only failures travel; an unknown one of a later version stays a number. */
    if ((int32_t)raw >= 0) c->from.failed = true;
    *value = (kwr_status)(int32_t)raw;
}

static void field_string(codec *c, kwr_slice *value, size_t max) {
    if (c->mode == READ) {
        const size_t size = kwr_cursor_u16(&c->from);
        if (size > max) c->from.failed = true;
        const uint8_t *data = kwr_cursor_take(&c->from, size);
        *value = (kwr_slice){ data, data == NULL ? 0 : size };
        return;
    }
    const uint16_t size = (uint16_t)(value->size < max ? value->size : max);
    put(c, &size, 2);
    put(c, value->data, size);
}

static void field_bytes(codec *c, kwr_slice *value) {
    if (c->mode == READ) {
        const size_t size = kwr_cursor_u32(&c->from);
        const uint8_t *data = kwr_cursor_take(&c->from, size);
        *value = (kwr_slice){ data, data == NULL ? 0 : size };
        return;
    }
    /* Larger ones are refused by the limit on whole messages before anything is written. */
    const uint32_t size = (uint32_t)value->size;
    put(c, &size, 4);
    put(c, value->data, value->size);
}

static void field_packed(codec *c, kwr_packed *value) {
    field_u32(c, &value->count);
    field_bytes(c, &value->bytes);
    if (c->mode != READ || c->from.failed) return;
    kwr_cursor items = kwr_cursor_of(value->bytes.data, value->bytes.size);
    for (uint32_t i = 0; i < value->count && !items.failed; i++)
        (void)kwr_cursor_take(&items, kwr_cursor_u32(&items));
    if (items.failed || kwr_cursor_left(&items) != 0) c->from.failed = true;
}

static void message_sender(codec *c, kwr_message *m) {
    field_u32(c, &m->task);
    field_string(c, &m->operator_id, KWR_OPERATOR_ID_MAX);
    field_u32(c, &m->subtask);
}

static void message_body(codec *c, kwr_message *m) {
    switch (m->kind) {
    case KWR_MESSAGE_TRIGGER: {
        uint64_t triggered = (uint64_t)m->triggered_ms;
        field_u64(c, &m->checkpoint);
        field_u64(c, &triggered);
        field_bool(c, &m->last);
        m->triggered_ms = (int64_t)triggered;
        return;
    }
    case KWR_MESSAGE_COMPLETE:
        field_u64(c, &m->checkpoint);
        field_bool(c, &m->last);
        return;
    case KWR_MESSAGE_ABORT:
        field_u64(c, &m->checkpoint);
        field_status(c, &m->status);
        return;
    case KWR_MESSAGE_ACK:
        message_sender(c, m);
        field_u64(c, &m->checkpoint);
        field_u64(c, &m->entries);
        field_u64(c, &m->bytes);
        field_bool(c, &m->last);
        field_bytes(c, &m->part);
        return;
    case KWR_MESSAGE_DECLINE:
        message_sender(c, m);
        field_u64(c, &m->checkpoint);
        field_status(c, &m->status);
        field_string(c, &m->text, TEXT_MAX);
        return;
    case KWR_MESSAGE_SOURCE_ENDED: message_sender(c, m); return;
    case KWR_MESSAGE_ASSIGNMENT: break;
    }
    c->from.failed = true;
}

static void assignment_body(codec *c, kwr_assignment *a) {
    uint32_t roles = a->roles;
    field_string(c, &a->job, KWR_JOB_NAME_BYTES_MAX);
    field_u64(c, &a->restored_checkpoint);
    field_u64(c, &a->restored_generation);
    field_u64(c, &a->seed);
    field_u32(c, &a->max_parallelism);
    field_bool(c, &a->engine_key_groups);
    field_u32(c, &a->task);
    field_string(c, &a->operator_id, KWR_OPERATOR_ID_MAX);
    field_u32(c, &a->subtask);
    field_u32(c, &a->parallelism);
    field_u32(c, &roles);
    field_u64(c, &a->inline_bytes);
    field_bytes(c, &a->part);
    field_packed(c, &a->keyed);
    field_packed(c, &a->operators);
    field_packed(c, &a->states);
    field_bool(c, &a->operator_as_it_was);
    a->roles = roles;
}

static void head_put(codec *c, kwr_message_kind kind, const uint8_t uid[16], uint64_t generation) {
    const uint16_t version = KWR_MESSAGE_VERSION, number = (uint16_t)kind;
    put(c, MAGIC, sizeof MAGIC);
    put(c, &version, 2);
    put(c, &number, 2);
    put(c, uid, 16);
    put(c, &generation, 8);
}

static void checksum_put(codec *c) {
    uint64_t checksum = 0;
    if (c->mode == WRITE) checksum = kwr_hash64(c->out, c->at, 0);
    put(c, &checksum, CHECKSUM_BYTES);
}

static size_t message_walk(codec c, const kwr_message *message) {
    kwr_message m = *message; /* fields are only read in these modes */
    head_put(&c, m.kind, m.uid, m.generation);
    message_body(&c, &m);
    checksum_put(&c);
    return c.at;
}

static size_t assignment_walk(codec c, const kwr_assignment *assignment) {
    kwr_assignment a = *assignment;
    head_put(&c, KWR_MESSAGE_ASSIGNMENT, a.uid, a.generation);
    assignment_body(&c, &a);
    checksum_put(&c);
    return c.at;
}

void kwr_packed_add(kwr_packed *packed, kwr_buffer *buffer, kwr_slice item) {
    uint8_t size[4];
    if (item.size > UINT32_MAX) buffer->failed = true;
    kwr_put_le32(size, (uint32_t)item.size);
    kwr_buffer_append(buffer, size, sizeof size);
    kwr_buffer_append(buffer, item.data, item.size);
    packed->count++;
    packed->bytes = (kwr_slice){ buffer->data, buffer->size };
}

kwr_slice kwr_packed_next(const kwr_packed *packed, size_t *at) {
    const uint8_t *from = (const uint8_t *)packed->bytes.data + *at;
    const size_t size = kwr_get_le32(from);
    *at += 4 + size;
    return (kwr_slice){ from + 4, size };
}

enum { PICK_BYTES = 4 + 8 + 8 };

static void append_u32(kwr_buffer *item, uint32_t value) {
    uint8_t bytes[4];
    kwr_put_le32(bytes, value);
    kwr_buffer_append(item, bytes, sizeof bytes);
}

void kwr_state_plan_begin(kwr_buffer *item, const char *name, uint32_t handle, uint32_t picks) {
    const size_t size = strlen(name);
    append_u32(item, (uint32_t)size);
    kwr_buffer_append(item, name, size);
    append_u32(item, handle);
    append_u32(item, picks);
}

void kwr_state_plan_add(kwr_buffer *item, const kwr_state_pick *pick) {
    uint8_t bytes[PICK_BYTES];
    kwr_put_le32(bytes, pick->handle);
    kwr_put_le64(bytes + 4, pick->first);
    kwr_put_le64(bytes + 12, pick->count);
    kwr_buffer_append(item, bytes, sizeof bytes);
}

kwr_state_pick kwr_state_plan_pick(const kwr_state_plan *plan, uint32_t index) {
    const uint8_t *at = (const uint8_t *)plan->picks.data + (size_t)index * PICK_BYTES;
    return (kwr_state_pick){ kwr_get_le32(at), kwr_get_le64(at + 4), kwr_get_le64(at + 12) };
}

kwr_status kwr_state_plan_read(kwr_slice item, uint32_t handles, kwr_state_plan *out,
                               kwr_error *err) {
    kwr_cursor c = kwr_cursor_of(item.data, item.size);
    kwr_state_plan plan = { 0 };
    const uint32_t size = kwr_cursor_u32(&c);
    plan.name = (kwr_slice){ kwr_cursor_take(&c, size), size };
    plan.handle = kwr_cursor_u32(&c);
    plan.pick_count = kwr_cursor_u32(&c);
    const size_t left = kwr_cursor_left(&c);
    bool good = !c.failed && left / PICK_BYTES == plan.pick_count && left % PICK_BYTES == 0 &&
                plan.handle < handles;
    plan.picks = (kwr_slice){ kwr_cursor_take(&c, left), left };
    for (uint32_t i = 0; good && i < plan.pick_count; i++) {
        const kwr_state_pick pick = kwr_state_plan_pick(&plan, i);
        const kwr_state_pick before = i > 0 ? kwr_state_plan_pick(&plan, i - 1) : pick;
        good = pick.handle < handles && pick.handle >= before.handle &&
               pick.count <= UINT64_MAX - pick.first;
    }
    if (!good) return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an assignment's state is malformed");
    *out = plan;
    return KWR_OK;
}

size_t kwr_message_size(const kwr_message *message) {
    return message_walk((codec){ .mode = MEASURE }, message);
}

void kwr_message_write(const kwr_message *message, uint8_t *out) {
    message_walk((codec){ .mode = WRITE, .out = out }, message);
}

static kwr_status size_check(const kwr_limits *limits, size_t size, const char *what,
                             kwr_error *err) {
    if (size <= limits->message_bytes_max && size <= UINT32_MAX) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_RANGE, 0,
                    "%s of %zu bytes: limits.message_bytes_max is %zu; raise it, or lower "
                    "inline_bytes",
                    what, size, limits->message_bytes_max);
}

kwr_status kwr_message_encode(const kwr_env *env, const kwr_limits *limits,
                              const kwr_message *message, kwr_bytes *out, kwr_error *err) {
    const size_t size = kwr_message_size(message);
    KWR_TRY(size_check(limits, size, "a message", err));
    kwr_bytes bytes = { 0 };
    if (kwr_bytes_new(env, size, &bytes) != KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a message of %zu bytes", size);
    kwr_message_write(message, bytes.data);
    *out = bytes;
    return KWR_OK;
}

kwr_status kwr_assignment_encode(const kwr_env *env, const kwr_limits *limits,
                                 const kwr_assignment *assignment, kwr_bytes *out, kwr_error *err) {
    const size_t size = assignment_walk((codec){ .mode = MEASURE }, assignment);
    KWR_TRY(size_check(limits, size, "an assignment", err));
    kwr_bytes bytes = { 0 };
    if (kwr_bytes_new(env, size, &bytes) != KWR_OK)
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for an assignment of %zu bytes", size);
    assignment_walk((codec){ .mode = WRITE, .out = bytes.data }, assignment);
    *out = bytes;
    return KWR_OK;
}

/* Checks frame and checksum; leaves `body` at the bytes between head and checksum. */
static kwr_status head_read(const kwr_limits *limits, kwr_slice bytes, uint16_t *kind,
                            uint8_t uid[16], uint64_t *generation, kwr_cursor *body,
                            kwr_error *err) {
    KWR_TRY(size_check(limits, bytes.size, "a message", err));
    if (bytes.size < HEAD_BYTES + CHECKSUM_BYTES || memcmp(bytes.data, MAGIC, sizeof MAGIC) != 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "%zu bytes are not a keyweir message", bytes.size);
    const size_t end = bytes.size - CHECKSUM_BYTES;
    const uint8_t *data = bytes.data;
    if (kwr_get_le64(data + end) != kwr_hash64(data, end, 0))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a message of %zu bytes fails its checksum",
                        bytes.size);
    kwr_cursor head = kwr_cursor_of(data, end);
    (void)kwr_cursor_take(&head, sizeof MAGIC);
    const uint16_t version = kwr_cursor_u16(&head);
    if (version != KWR_MESSAGE_VERSION)
        return KWR_FAIL(err, KWR_ERR_FORMAT, 0,
                        "a message of version %u; this build speaks version %d: job and tasks must "
                        "run the same version",
                        version, KWR_MESSAGE_VERSION);
    *kind = kwr_cursor_u16(&head);
    memcpy(uid, data + head.at, 16);
    (void)kwr_cursor_take(&head, 16);
    *generation = kwr_cursor_u64(&head);
    *body = head;
    return KWR_OK;
}

kwr_status kwr_message_decode(const kwr_limits *limits, kwr_slice bytes, kwr_message *out,
                              kwr_error *err) {
    kwr_message m = { 0 };
    codec c = { .mode = READ };
    uint16_t kind = 0;
    KWR_TRY(head_read(limits, bytes, &kind, m.uid, &m.generation, &c.from, err));
    if (kind < KWR_MESSAGE_TRIGGER || kind > KWR_MESSAGE_SOURCE_ENDED)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a message of kind %u, which is not expected here",
                        kind);
    m.kind = (kwr_message_kind)kind;
    message_body(&c, &m);
    if (c.from.failed || kwr_cursor_left(&c.from) != 0)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a message of kind %u is malformed", kind);
    *out = m;
    return KWR_OK;
}

/* What a task relies on: numbers that fit together, and names without a NUL. */
static bool assignment_ok(const kwr_assignment *a) {
    const unsigned known = KWR_TASK_SOURCE | KWR_TASK_KEYED | KWR_TASK_SINK;
    const bool keyed = (a->roles & KWR_TASK_KEYED) != 0;
    if (!keyed && a->keyed.count != 0) return false;
    if (a->operator_as_it_was && a->operators.count != 1) return false;
    return a->job.size > 0 && memchr(a->job.data, 0, a->job.size) == NULL &&
           a->operator_id.size > 0 && memchr(a->operator_id.data, 0, a->operator_id.size) == NULL &&
           a->max_parallelism >= 1 && a->max_parallelism <= KWR_MAX_PARALLELISM_LIMIT &&
           a->subtask < a->parallelism && (!keyed || a->parallelism <= a->max_parallelism) &&
           (a->roles & ~known) == 0 && a->generation > 0;
}

kwr_status kwr_assignment_decode(const kwr_limits *limits, kwr_slice bytes, kwr_assignment *out,
                                 kwr_error *err) {
    kwr_assignment a = { 0 };
    codec c = { .mode = READ };
    uint16_t kind = 0;
    KWR_TRY(head_read(limits, bytes, &kind, a.uid, &a.generation, &c.from, err));
    if (kind != KWR_MESSAGE_ASSIGNMENT)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "a message of kind %u is not an assignment", kind);
    assignment_body(&c, &a);
    if (c.from.failed || kwr_cursor_left(&c.from) != 0 || !assignment_ok(&a))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "an assignment is malformed");
    *out = a;
    return KWR_OK;
}
