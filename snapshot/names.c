/* SPDX-License-Identifier: Apache-2.0 */
/* The names of everything a job has in storage, and back: only exact forms are ours. */
#include <stdio.h>
#include <string.h>

#include "base/name.h"
#include "base/planted.h"
#include "snapshot/log.h"

void kwr_checkpoint_dir_name(uint64_t checkpoint, uint64_t generation,
                             char out[KWR_FILE_NAME_MAX]) {
    if (KWR_PLANTED(generation_not_in_name)) generation = 1;
    snprintf(out, KWR_FILE_NAME_MAX, "chk-%llu-%llu", (unsigned long long)checkpoint,
             (unsigned long long)generation);
}

bool kwr_checkpoint_dir_parse(const char *name, uint64_t *checkpoint, uint64_t *generation) {
    if (strncmp(name, "chk-", 4) != 0) return false;
    const char *id = name + 4;
    const char *dash = strchr(id, '-');
    if (dash == NULL) return false;
    uint64_t c = 0, g = 0;
    if (!kwr_parse_u64(id, (size_t)(dash - id), &c) ||
        !kwr_parse_u64(dash + 1, strlen(dash + 1), &g))
        return false;
    *checkpoint = c;
    *generation = g;
    return true;
}

void kwr_slot_name(uint64_t number, char out[KWR_FILE_NAME_MAX]) {
    snprintf(out, KWR_FILE_NAME_MAX, "%016llx", (unsigned long long)number);
}

bool kwr_slot_name_parse(const char *name, uint64_t *number) {
    uint64_t n = 0;
    if (strlen(name) != 16 || !kwr_parse_hex64(name, 16, &n) || n == 0) return false;
    *number = n;
    return true;
}

void kwr_shared_name(uint64_t generation, const char *operator_id, uint32_t subtask, uint64_t seq,
                     char out[KWR_FILE_NAME_MAX]) {
    snprintf(out, KWR_FILE_NAME_MAX, "%llu-%.100s-%u-%llu.kwp", (unsigned long long)generation,
             operator_id, subtask, (unsigned long long)seq);
}

/* The number that ends right before text[*end), after a '-': moves *end to that '-'. */
static bool take_number_back(const char *text, size_t *end, uint64_t *out) {
    size_t at = *end;
    while (at > 0 && text[at - 1] != '-')
        at--;
    if (at == 0 || !kwr_parse_u64(text + at, *end - at, out)) return false;
    *end = at - 1;
    return true;
}

bool kwr_shared_name_parse(const char *name, uint64_t *generation, char *operator_id,
                           uint32_t *subtask, uint64_t *seq) {
    const size_t size = strlen(name);
    if (size < 4 || size >= KWR_FILE_NAME_MAX || strcmp(name + size - 4, ".kwp") != 0) return false;
    size_t end = size - 4;
    uint64_t g = 0, t = 0, s = 0;
    if (!take_number_back(name, &end, &s) || !take_number_back(name, &end, &t)) return false;
    /* The operator id may hold '-' itself; generation, subtask and number cannot. */
    const char *dash = memchr(name, '-', end);
    if (dash == NULL || !kwr_parse_u64(name, (size_t)(dash - name), &g) || t > UINT32_MAX)
        return false;
    const size_t id_size = end - (size_t)(dash + 1 - name);
    char id[KWR_JOB_NAME_MAX + 1];
    if (id_size == 0 || id_size > KWR_JOB_NAME_MAX) return false;
    memcpy(id, dash + 1, id_size);
    id[id_size] = '\0';
    if (!kwr_name_ok(id, KWR_JOB_NAME_MAX, true)) return false;
    *generation = g;
    if (operator_id != NULL) memcpy(operator_id, id, id_size + 1);
    *subtask = (uint32_t)t;
    *seq = s;
    return true;
}
