/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding and decoding of slots. There is one spelling for every slot: what is read is encoded
 * again and compared, so that no byte of a slot can change unnoticed.
 */
#include "snapshot/slot.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/name.h"
#include "base/planted.h"
#include "snapshot/json_out.h"

#define SLOT_START "{\"keyweir\":\"slot\",\"version\":"
#define SLOT_VERSION "1"
#define DIGEST_START "xxh3-128 "
enum { DIGEST_LINE = sizeof DIGEST_START - 1 + 32 + 1 };

static void write_base(kwr_buffer *out, const kwr_slot *slot) {
    switch (slot->base) {
    case KWR_BASE_NONE: kwr_json_text(out, "\"keep\""); break;
    case KWR_BASE_EMPTY: kwr_json_text(out, "\"empty\""); break;
    case KWR_BASE_CHECKPOINT:
        kwr_json_text(out, "\"checkpoint\",\"base_checkpoint\":");
        kwr_json_u64(out, slot->base_checkpoint);
        kwr_json_text(out, ",\"base_generation\":");
        kwr_json_u64(out, slot->base_generation);
        break;
    }
}

static void write_line(kwr_buffer *out, const kwr_slot *slot) {
    const bool fence = slot->kind == KWR_SLOT_FENCE;
    kwr_json_text(out, SLOT_START SLOT_VERSION ",\"slot\":");
    kwr_json_u64(out, slot->number);
    kwr_json_text(out, ",\"floor\":");
    kwr_json_u64(out, slot->floor);
    kwr_buffer_printf(out, ",\"kind\":\"%s\",\"job\":\"%s\",\"job_uid\":",
                      fence ? "fence" : "checkpoint", slot->job);
    kwr_json_hex(out, slot->job_uid, sizeof slot->job_uid);
    kwr_json_text(out, ",\"generation\":");
    kwr_json_u64(out, slot->generation);
    kwr_json_text(out, ",\"highest\":");
    kwr_json_u64(out, slot->highest);
    kwr_json_text(out, ",\"time_ms\":");
    kwr_json_i64(out, slot->time_ms);
    kwr_json_text(out, ",\"previous\":");
    if (slot->has_previous)
        kwr_json_digest(out, &slot->previous);
    else
        kwr_json_text(out, "null");
    if (fence) {
        kwr_json_text(out, ",\"base\":");
        write_base(out, slot);
        kwr_json_text(out, ",\"pid\":");
        kwr_json_u64(out, slot->pid);
    } else {
        kwr_json_text(out, ",\"checkpoint\":");
        kwr_json_u64(out, slot->checkpoint);
        kwr_buffer_printf(out,
                          ",\"final\":%s,\"manifest_length\":", slot->final ? "true" : "false");
        kwr_json_u64(out, slot->manifest_length);
        kwr_json_text(out, ",\"manifest_digest\":");
        kwr_json_digest(out, &slot->manifest_digest);
    }
    kwr_json_text(out, "}\n");
}

/* NULL, or what no slot can say. */
static const char *slot_fault(const kwr_slot *slot) {
    if (slot->number == 0) return "slot numbers start at 1";
    if (slot->floor == 0 || slot->floor > slot->number)
        return "the floor of a slot is one from 1 to its own number";
    if (slot->kind != KWR_SLOT_FENCE && slot->kind != KWR_SLOT_CHECKPOINT)
        return "the kind is neither fence nor checkpoint";
    if (!kwr_name_ok(slot->job, KWR_JOB_NAME_MAX, false)) return "the job name is not a name";
    if (slot->generation == 0) return "generations start at 1";
    if (slot->has_previous != (slot->number > 1)) return "exactly slot 1 has no slot before it";
    if (slot->kind == KWR_SLOT_CHECKPOINT) {
        if (slot->number == 1) return "slot 1 is always a fence";
        if (slot->checkpoint == 0) return "checkpoint ids start at 1";
        if (slot->highest != slot->checkpoint)
            return "a published checkpoint has the highest id so far";
        if (slot->manifest_length == 0) return "a manifest is not empty";
        return NULL;
    }
    if (slot->base != KWR_BASE_NONE && slot->base != KWR_BASE_EMPTY &&
        slot->base != KWR_BASE_CHECKPOINT)
        return "unknown kind of base";
    if (slot->base == KWR_BASE_CHECKPOINT &&
        (slot->base_checkpoint == 0 || slot->base_checkpoint > slot->highest))
        return "the base is no checkpoint published before";
    return NULL;
}

kwr_status kwr_slot_encode(const kwr_env *env, kwr_slot *slot, kwr_bytes *out, kwr_error *err) {
    const char *fault = slot_fault(slot);
    if (fault != NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "slot %llu: %s", (unsigned long long)slot->number,
                        fault);
    kwr_buffer text = { .env = env };
    write_line(&text, slot);
    kwr_digest digest = { 0 };
    if (!text.failed) {
        digest = kwr_digest_of(text.data, text.size);
        char hex[KWR_DIGEST_TEXT];
        kwr_digest_text(&digest, hex);
        kwr_buffer_printf(&text, DIGEST_START "%s\n", hex);
    }
    const kwr_status status = kwr_buffer_take(&text, out);
    kwr_buffer_free(&text);
    if (status < KWR_OK) return KWR_FAIL(err, status, 0, "no memory for a slot");
    slot->digest = digest;
    return KWR_OK;
}

/* ---- decoding: a scanner for the one spelling ---- */

typedef struct scan {
    const char *text;
    size_t size;
    size_t at;
    bool failed; /* at the offset `at` */
} scan;

static bool scan_take(scan *s, const char *literal) {
    const size_t n = strlen(literal);
    if (s->failed || n > s->size - s->at || memcmp(s->text + s->at, literal, n) != 0) return false;
    s->at += n;
    return true;
}

static void scan_need(scan *s, const char *literal) {
    if (!scan_take(s, literal)) s->failed = true;
}

/* Up to (not including) `end`; empty and failed when there is none. */
static kwr_slice scan_until(scan *s, char end) {
    if (s->failed) return (kwr_slice){ 0 };
    const char *from = s->text + s->at;
    const char *stop = memchr(from, end, s->size - s->at);
    if (stop == NULL) {
        s->failed = true;
        return (kwr_slice){ 0 };
    }
    s->at += (size_t)(stop - from);
    return (kwr_slice){ from, (size_t)(stop - from) };
}

static kwr_slice scan_string(scan *s) {
    scan_need(s, "\"");
    const kwr_slice text = scan_until(s, '"');
    scan_need(s, "\"");
    return text;
}

static size_t digits_at(const scan *s) {
    size_t n = 0;
    while (s->at + n < s->size && s->text[s->at + n] >= '0' && s->text[s->at + n] <= '9')
        n++;
    return n;
}

static uint64_t scan_u64(scan *s) {
    const bool quoted = scan_take(s, "\"");
    const size_t n = s->failed ? 0 : digits_at(s);
    uint64_t value = 0;
    if (n == 0 || !kwr_parse_u64(s->text + s->at, n, &value)) {
        s->failed = true;
        return 0;
    }
    s->at += n;
    if (quoted) scan_need(s, "\"");
    return value;
}

static int64_t scan_i64(scan *s) {
    const bool quoted = scan_take(s, "\"");
    const bool negative = scan_take(s, "-");
    const size_t n = s->failed ? 0 : digits_at(s);
    uint64_t value = 0;
    if (n == 0 || !kwr_parse_u64(s->text + s->at, n, &value) ||
        value > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        s->failed = true;
        return 0;
    }
    s->at += n;
    if (quoted) scan_need(s, "\"");
    return negative ? (int64_t)(0 - value) : (int64_t)value;
}

static kwr_digest scan_digest(scan *s) {
    kwr_digest digest = { 0 };
    const kwr_slice text = scan_string(s);
    if (!s->failed && !kwr_digest_parse(text.data, text.size, &digest)) s->failed = true;
    return digest;
}

static void scan_base(scan *s, kwr_slot *slot) {
    if (scan_take(s, "\"keep\"")) {
        slot->base = KWR_BASE_NONE;
    } else if (scan_take(s, "\"empty\"")) {
        slot->base = KWR_BASE_EMPTY;
    } else {
        slot->base = KWR_BASE_CHECKPOINT;
        scan_need(s, "\"checkpoint\",\"base_checkpoint\":");
        slot->base_checkpoint = scan_u64(s);
        scan_need(s, ",\"base_generation\":");
        slot->base_generation = scan_u64(s);
    }
}

static void scan_line(scan *s, kwr_slot *slot) {
    scan_need(s, SLOT_START SLOT_VERSION ",\"slot\":");
    slot->number = scan_u64(s);
    scan_need(s, ",\"floor\":");
    slot->floor = scan_u64(s);
    scan_need(s, ",\"kind\":\"");
    slot->kind = scan_take(s, "fence") ? KWR_SLOT_FENCE : KWR_SLOT_CHECKPOINT;
    if (slot->kind == KWR_SLOT_CHECKPOINT) scan_need(s, "checkpoint");
    scan_need(s, "\",\"job\":");
    const kwr_slice job = scan_string(s);
    if (job.size > KWR_JOB_NAME_MAX)
        s->failed = true;
    else if (job.size > 0)
        memcpy(slot->job, job.data, job.size);
    scan_need(s, ",\"job_uid\":");
    const kwr_slice uid = scan_string(s);
    if (!s->failed && !kwr_unhex(uid.data, uid.size, slot->job_uid, sizeof slot->job_uid))
        s->failed = true;
    scan_need(s, ",\"generation\":");
    slot->generation = scan_u64(s);
    scan_need(s, ",\"highest\":");
    slot->highest = scan_u64(s);
    scan_need(s, ",\"time_ms\":");
    slot->time_ms = scan_i64(s);
    scan_need(s, ",\"previous\":");
    slot->has_previous = !scan_take(s, "null");
    if (slot->has_previous) slot->previous = scan_digest(s);
    if (slot->kind == KWR_SLOT_FENCE) {
        scan_need(s, ",\"base\":");
        scan_base(s, slot);
        scan_need(s, ",\"pid\":");
        slot->pid = scan_u64(s);
    } else {
        scan_need(s, ",\"checkpoint\":");
        slot->checkpoint = scan_u64(s);
        scan_need(s, ",\"final\":");
        slot->final = scan_take(s, "true");
        if (!slot->final) scan_need(s, "false");
        scan_need(s, ",\"manifest_length\":");
        slot->manifest_length = scan_u64(s);
        scan_need(s, ",\"manifest_digest\":");
        slot->manifest_digest = scan_digest(s);
    }
    scan_need(s, "}\n");
    if (s->at != s->size) s->failed = true;
}

/* The first byte that is not as encoded again; the size when one is a prefix of the other. */
static size_t first_difference(kwr_slice a, kwr_slice b) {
    const uint8_t *x = a.data, *y = b.data;
    size_t at = 0;
    while (at < a.size && at < b.size && x[at] == y[at])
        at++;
    return at;
}

static kwr_status check_spelling(const kwr_env *env, kwr_slice bytes, const char *what,
                                 kwr_slot *slot, kwr_error *err) {
    kwr_bytes again = { 0 };
    KWR_TRY(kwr_slot_encode(env, slot, &again, err));
    const kwr_slice expected = { again.data, again.size };
    const size_t at = first_difference(bytes, expected);
    const bool same = at == bytes.size && at == expected.size;
    kwr_bytes_free(&again);
    if (same) return KWR_OK;
    return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s' is damaged at offset %zu: not as it is written",
                    what, at);
}

kwr_status kwr_slot_decode(const kwr_env *env, kwr_slice bytes, const char *what, kwr_slot *out,
                           kwr_error *err) {
    const char *text = bytes.data;
    if (bytes.size <= DIGEST_LINE || text[bytes.size - 1] != '\n')
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "'%s' is damaged at offset %zu: it ends too early for a slot", what,
                        bytes.size);
    const size_t line = bytes.size - DIGEST_LINE;
    const size_t start = sizeof DIGEST_START - 1;
    kwr_digest stored = { 0 };
    if (memcmp(text + line, DIGEST_START, start) != 0 ||
        !kwr_digest_parse(text + line + start, 32, &stored))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "'%s' is damaged at offset %zu: its last line is no digest", what, line);
    const kwr_digest digest = kwr_digest_of(text, line);
    if (!kwr_digest_equal(&stored, &digest) && !KWR_PLANTED(slot_unchecked))
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "'%s' is damaged at offset 0: its %zu bytes do not have the digest at "
                        "offset %zu",
                        what, line, line);
    scan s = { .text = text, .size = line };
    if (scan_take(&s, SLOT_START) && !scan_take(&s, SLOT_VERSION ","))
        return KWR_FAIL(err, KWR_ERR_FORMAT, 0,
                        "'%s' was written in another version of the format than " SLOT_VERSION
                        "; use the keyweir that wrote it or a newer one",
                        what);
    s = (scan){ .text = text, .size = line };
    kwr_slot slot = { 0 };
    scan_line(&s, &slot);
    if (s.failed)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0,
                        "'%s' is damaged at offset %zu: not as a slot is written", what, s.at);
    const char *fault = slot_fault(&slot);
    if (fault != NULL)
        return KWR_FAIL(err, KWR_ERR_CORRUPT, 0, "'%s' makes no sense: %s", what, fault);
    if (KWR_PLANTED(slot_unchecked))
        slot.digest = stored;
    else
        KWR_TRY(check_spelling(env, bytes, what, &slot, err));
    *out = slot;
    return KWR_OK;
}
