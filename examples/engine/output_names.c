/* SPDX-License-Identifier: Apache-2.0 */
/* The names of pending files and parts, and the token that ties the two. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "examples/engine/error.h"
#include "examples/engine/output_dir.h"

static const char part_prefix[] = "part-";
static const char pending_prefix[] = ".pending-";

void eng_part_name(uint64_t checkpoint, uint32_t subtask, char out[ENG_PART_TEXT]) {
    snprintf(out, ENG_PART_TEXT, "%s%" PRIu64 "-%" PRIu32, part_prefix, checkpoint, subtask);
}

void eng_pending_name(const char *job, uint64_t generation, uint64_t checkpoint, uint32_t subtask,
                      char out[ENG_PENDING_TEXT]) {
    snprintf(out, ENG_PENDING_TEXT, "%s%.*s-%" PRIu64 "-%" PRIu64 "-%" PRIu32, pending_prefix,
             (int)ENG_JOB_BYTES_MAX, job, generation, checkpoint, subtask);
}

void eng_rolled_back_name(uint64_t base, uint64_t generation, char out[ENG_ROLLED_BACK_TEXT]) {
    snprintf(out, ENG_ROLLED_BACK_TEXT, "rolled-back-%" PRIu64 "-%" PRIu64, base, generation);
}

/* Decimal, no sign, no leading zeros, at most `max`. */
static bool parse_number(const char *text, size_t size, uint64_t max, uint64_t *out) {
    uint64_t value = 0;
    if (size == 0 || (size > 1 && text[0] == '0')) return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) return false;
    }
    if (value > max) return false;
    *out = value;
    return true;
}

/* Cuts "-<number>" off the end of text[0..*size). */
static bool cut_number(const char *text, size_t *size, uint64_t max, uint64_t *out) {
    size_t at = *size;
    while (at > 0 && text[at - 1] != '-')
        at--;
    if (at == 0 || !parse_number(text + at, *size - at, max, out)) return false;
    *size = at - 1;
    return true;
}

bool eng_part_parse(const char *name, uint64_t *checkpoint, uint32_t *subtask) {
    size_t size = strlen(name);
    uint64_t sub = 0;
    uint64_t id = 0;
    if (!cut_number(name, &size, UINT32_MAX, &sub)) return false;
    if (!cut_number(name, &size, UINT64_MAX, &id)) return false;
    /* What is left is the prefix without its '-'. */
    if (size != sizeof part_prefix - 2 || memcmp(name, part_prefix, size) != 0) return false;
    *checkpoint = id;
    *subtask = (uint32_t)sub;
    return true;
}

bool eng_pending_parse(const char *name, char *job, uint64_t *generation, uint64_t *checkpoint,
                       uint32_t *subtask) {
    const size_t prefix = sizeof pending_prefix - 1;
    size_t size = strlen(name);
    uint64_t sub = 0;
    uint64_t id = 0;
    uint64_t gen = 0;
    if (strncmp(name, pending_prefix, prefix) != 0) return false;
    if (!cut_number(name, &size, UINT32_MAX, &sub)) return false;
    if (!cut_number(name, &size, UINT64_MAX, &id)) return false;
    if (!cut_number(name, &size, UINT64_MAX, &gen)) return false;
    if (size <= prefix || size - prefix > ENG_JOB_BYTES_MAX) return false;
    memcpy(job, name + prefix, size - prefix);
    job[size - prefix] = '\0';
    *generation = gen;
    *checkpoint = id;
    *subtask = (uint32_t)sub;
    return true;
}

size_t eng_token_text(const eng_committable *committable, char out[ENG_TOKEN_TEXT]) {
    const int size =
        snprintf(out, ENG_TOKEN_TEXT,
                 "{\"pending\":\"%s\",\"part\":\"%s\",\"length\":%" PRIu64 ",\"digest\":\"%s\"}",
                 committable->pending, committable->part, committable->length, committable->digest);
    return (size_t)size;
}

typedef struct text_cursor {
    const char *at;
    const char *end;
} text_cursor;

static bool take(text_cursor *cursor, const char *text) {
    const size_t size = strlen(text);
    if ((size_t)(cursor->end - cursor->at) < size || memcmp(cursor->at, text, size) != 0) {
        return false;
    }
    cursor->at += size;
    return true;
}

/* Everything before `stop`, which it takes too. */
static bool take_until(text_cursor *cursor, char stop, char *out, size_t capacity) {
    const char *found = memchr(cursor->at, stop, (size_t)(cursor->end - cursor->at));
    if (found == NULL || (size_t)(found - cursor->at) >= capacity) return false;
    const size_t size = (size_t)(found - cursor->at);
    if (memchr(cursor->at, '\0', size) != NULL) return false;
    memcpy(out, cursor->at, size);
    out[size] = '\0';
    cursor->at = found + 1;
    return true;
}

static bool is_hex(const char *text, size_t size) {
    return strlen(text) == size && strspn(text, "0123456789abcdef") == size;
}

/* Names come from a file: they are used only when they are of our own grammar. */
static bool names_ok(const eng_committable *committable) {
    char job[ENG_JOB_BYTES_MAX + 1];
    uint64_t generation = 0;
    uint64_t pending_id = 0;
    uint64_t part_id = 0;
    uint32_t pending_subtask = 0;
    uint32_t part_subtask = 0;
    return eng_pending_parse(committable->pending, job, &generation, &pending_id,
                             &pending_subtask) &&
           eng_part_parse(committable->part, &part_id, &part_subtask) && pending_id == part_id &&
           pending_subtask == part_subtask && strchr(committable->pending, '/') == NULL;
}

kwr_status eng_token_parse(kwr_slice token, eng_committable *out, kwr_error *err) {
    text_cursor cursor = { .at = token.data, .end = (const char *)token.data + token.size };
    eng_committable parsed;
    char number[24];
    const bool ok = token.size > 0 && take(&cursor, "{\"pending\":\"") &&
                    take_until(&cursor, '"', parsed.pending, sizeof parsed.pending) &&
                    take(&cursor, ",\"part\":\"") &&
                    take_until(&cursor, '"', parsed.part, sizeof parsed.part) &&
                    take(&cursor, ",\"length\":") &&
                    take_until(&cursor, ',', number, sizeof number) &&
                    take(&cursor, "\"digest\":\"") &&
                    take_until(&cursor, '"', parsed.digest, sizeof parsed.digest) &&
                    take(&cursor, "}") && cursor.at == cursor.end &&
                    parse_number(number, strlen(number), UINT64_MAX, &parsed.length) &&
                    is_hex(parsed.digest, 32) && names_ok(&parsed);
    if (!ok) return eng_fail(err, KWR_ERR_CORRUPT, 0, "a stored committable is not readable");
    *out = parsed;
    return KWR_OK;
}
