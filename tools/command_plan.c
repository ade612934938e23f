/* SPDX-License-Identifier: Apache-2.0 */
/* keyweir plan: who would get what of a checkpoint at another parallelism, and what it would read.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "recovery/assignment.h"
#include "tools/tool.h"

/* One operator at its new parallelism. */
typedef struct planned {
    const kwr_manifest_operator *op;
    uint32_t parallelism;
    const kwr_share *shares;
    kwr_share_bytes *bytes;
} planned;

typedef struct plan {
    const tool_options *options;
    tool_checkpoint c;
    kwr_arena *arena;
    planned *operators;
    uint64_t owned, read;
} plan;

static bool is_keyed(const kwr_manifest_operator *op) { return (op->roles & 2) != 0; }

static uint32_t wanted(const tool_options *options, const kwr_manifest_operator *op) {
    for (size_t i = options->of_count; i-- > 0;)
        if (strcmp(options->of[i].operator_id, op->id) == 0) return options->of[i].parallelism;
    return options->parallelism != 0 ? options->parallelism : op->parallelism;
}

static int check_options(const tool_options *options, const kwr_manifest *m) {
    if (options->parallelism == 0 && options->of_count == 0) {
        fputs("keyweir: plan needs --parallelism P or --operator ID=P\n", stderr);
        return TOOL_USAGE;
    }
    for (size_t i = 0; i < options->of_count; i++) {
        bool found = false;
        for (size_t o = 0; o < m->operator_count && !found; o++)
            found = strcmp(m->operators[o].id, options->of[i].operator_id) == 0;
        if (found) continue;
        fprintf(stderr, "keyweir: the checkpoint has no operator '%s'; see keyweir show\n",
                options->of[i].operator_id);
        return TOOL_USAGE;
    }
    return TOOL_GOOD;
}

static int plan_operator(plan *p, planned *out) {
    const kwr_manifest *m = p->c.manifest;
    kwr_error err = { 0 };
    out->parallelism = wanted(p->options, out->op);
    if (kwr_assign(out->op, out->parallelism, p->arena, &out->shares, &err) < KWR_OK)
        return tool_fail(&err);
    out->bytes = kwr_arena_array(p->arena, out->parallelism, sizeof *out->bytes);
    if (out->bytes == NULL) {
        fputs("keyweir: no memory\n", stderr);
        return TOOL_CANNOT_READ;
    }
    if (!is_keyed(out->op)) return TOOL_GOOD;
    if (kwr_assign_bytes(&p->c.dirs, &p->c.place.limits, m, out->op, out->shares, out->parallelism,
                         out->bytes, &err) < KWR_OK)
        return tool_fail(&err);
    for (uint32_t i = 0; i < out->parallelism; i++) {
        p->owned += out->bytes[i].owned;
        p->read += out->bytes[i].read;
    }
    return TOOL_GOOD;
}

static int plan_all(plan *p) {
    const kwr_manifest *m = p->c.manifest;
    int code = check_options(p->options, m);
    if (code != TOOL_GOOD) return code;
    p->arena = kwr_arena_new(p->c.place.env, 0);
    if (p->arena != NULL)
        p->operators = kwr_arena_array(p->arena, m->operator_count, sizeof *p->operators);
    if (p->operators == NULL) {
        fputs("keyweir: no memory\n", stderr);
        return TOOL_CANNOT_READ;
    }
    for (size_t i = 0; i < m->operator_count && code == TOOL_GOOD; i++) {
        p->operators[i].op = &m->operators[i];
        code = plan_operator(p, &p->operators[i]);
    }
    return code;
}

/* ---- JSON ---- */

static json_t *range_json(kwr_key_group_range range) {
    return json_pack("{s:I, s:I}", "first", (json_int_t)range.first, "count",
                     (json_int_t)range.count);
}

static json_t *donors_json(const planned *p, const kwr_share *share) {
    json_t *donors = json_array();
    for (uint32_t i = share->donor_first; i < share->donor_first + share->donor_count; i++)
        json_array_append_new(
            donors, json_pack("{s:I, s:o}", "subtask", (json_int_t)i, "key_groups",
                              range_json(kwr_key_groups_common(share->key_groups,
                                                               p->op->subtasks[i].key_groups))));
    return donors;
}

static json_t *splits_json(const planned *p, const kwr_share *share) {
    json_t *splits = json_array();
    for (size_t i = 0; i < share->splits.count; i++) {
        const kwr_pick *pick = &share->splits.items[i];
        for (uint64_t k = pick->first; k < pick->first + pick->count; k++)
            json_array_append_new(
                splits, json_pack("{s:o, s:I}", "id",
                                  tool_json_bytes(p->op->subtasks[pick->donor].splits[k].id),
                                  "from", (json_int_t)pick->donor));
    }
    return splits;
}

static json_t *committables_json(const planned *p, const kwr_share *share) {
    json_t *committables = json_array();
    for (size_t i = 0; i < share->committables.count; i++) {
        const kwr_pick *pick = &share->committables.items[i];
        for (uint64_t k = pick->first; k < pick->first + pick->count; k++) {
            const kwr_manifest_committable *c = &p->op->subtasks[pick->donor].committables[k];
            json_array_append_new(committables, json_pack("{s:o, s:o, s:I}", "checkpoint",
                                                          tool_json_u64(c->checkpoint), "token",
                                                          tool_json_bytes(c->token), "from",
                                                          (json_int_t)pick->donor));
        }
    }
    return committables;
}

static json_t *states_json(const kwr_share *share) {
    json_t *states = json_array();
    for (size_t i = 0; i < share->state_count; i++) {
        const kwr_share_state *s = &share->states[i];
        const kwr_state_info *info = &s->state->info;
        json_t *picks = json_array();
        for (size_t k = 0; k < s->picks.count; k++) {
            const kwr_pick *pick = &s->picks.items[k];
            json_array_append_new(picks,
                                  json_pack("{s:I, s:o, s:o}", "subtask", (json_int_t)pick->donor,
                                            "first", tool_json_u64(pick->first), "elements",
                                            tool_json_u64(pick->count)));
        }
        json_array_append_new(
            states, json_pack("{s:s, s:s, s:o}", "name", info->name, "redistribution",
                              kwr_redistribution_name(info->redistribution), "from", picks));
    }
    return states;
}

static json_t *share_json(const planned *p, uint32_t subtask) {
    const kwr_share *share = &p->shares[subtask];
    const kwr_share_bytes *bytes = &p->bytes[subtask];
    json_t *json = json_pack("{s:I}", "subtask", (json_int_t)subtask);
    if (is_keyed(p->op)) {
        json_object_set_new(json, "key_groups", range_json(share->key_groups));
        json_object_set_new(json, "from", donors_json(p, share));
        json_object_set_new(json, "entries", tool_json_u64(bytes->entries));
        json_object_set_new(json, "bytes_owned", tool_json_u64(bytes->owned));
        json_object_set_new(json, "bytes_read", tool_json_u64(bytes->read));
    }
    if (share->state_count > 0) json_object_set_new(json, "operator_state", states_json(share));
    json_object_set_new(json, "splits", splits_json(p, share));
    json_object_set_new(json, "committables", committables_json(p, share));
    return json;
}

static json_t *plan_json(const plan *p) {
    const kwr_manifest *m = p->c.manifest;
    json_t *operators = json_array();
    for (size_t i = 0; i < m->operator_count; i++) {
        const planned *op = &p->operators[i];
        json_t *subtasks = json_array();
        for (uint32_t k = 0; k < op->parallelism; k++)
            json_array_append_new(subtasks, share_json(op, k));
        json_array_append_new(
            operators, json_pack("{s:s, s:I, s:I, s:o}", "id", op->op->id, "stored_parallelism",
                                 (json_int_t)op->op->parallelism, "parallelism",
                                 (json_int_t)op->parallelism, "subtasks", subtasks));
    }
    return json_pack("{s:i, s:s, s:o, s:o, s:b, s:I, s:o, s:o, s:o}", "schema", 1, "job", m->job,
                     "checkpoint", tool_json_u64(m->checkpoint), "generation",
                     tool_json_u64(m->generation), "anchored", p->c.anchored, "max_parallelism",
                     (json_int_t)m->max_parallelism, "operators", operators, "bytes_owned",
                     tool_json_u64(p->owned), "bytes_read", tool_json_u64(p->read));
}

/* ---- text ---- */

/* "3", "from 3", "from 3 to 5": old subtasks that follow each other. */
static void print_donors(uint32_t first, uint32_t count) {
    if (count == 1)
        printf(" from subtask %u", first);
    else
        printf(" from subtasks %u to %u", first, first + count - 1);
}

static void print_keyed(const planned *p, const kwr_share *share) {
    char owned[32], read[32];
    const kwr_share_bytes *bytes = &p->bytes[share->subtask];
    tool_bytes_text(bytes->owned, owned);
    tool_bytes_text(bytes->read, read);
    printf("    key groups %u to %u", share->key_groups.first,
           share->key_groups.first + share->key_groups.count - 1);
    print_donors(share->donor_first, share->donor_count);
    printf(": %" PRIu64 " entries, %s owned, %s read\n", bytes->entries, owned, read);
}

static void print_share(const planned *p, uint32_t subtask) {
    const kwr_share *share = &p->shares[subtask];
    printf("  subtask %u%s\n", subtask,
           is_keyed(p->op) || share->state_count > 0 || share->splits.count > 0 ||
                   share->committables.count > 0
               ? ""
               : ": nothing");
    if (is_keyed(p->op)) print_keyed(p, share);
    for (size_t i = 0; i < share->state_count; i++) {
        const kwr_share_state *s = &share->states[i];
        printf("    operator state %s (%s):", s->state->info.name,
               kwr_redistribution_name(s->state->info.redistribution));
        for (size_t k = 0; k < s->picks.count; k++)
            printf("%s %" PRIu64 " elements from subtask %u", k > 0 ? "," : "",
                   s->picks.items[k].count, s->picks.items[k].donor);
        puts(s->picks.count == 0 ? " nothing" : "");
    }
    for (size_t i = 0; i < share->splits.count; i++) {
        const kwr_pick *pick = &share->splits.items[i];
        for (uint64_t k = pick->first; k < pick->first + pick->count; k++) {
            fputs("    split ", stdout);
            tool_print_text_field(tool_json_bytes(p->op->subtasks[pick->donor].splits[k].id), ' ');
            printf("from subtask %u\n", pick->donor);
        }
    }
    for (size_t i = 0; i < share->committables.count; i++) {
        const kwr_pick *pick = &share->committables.items[i];
        printf("    %" PRIu64 " committables from subtask %u\n", pick->count, pick->donor);
    }
}

static void print_plan(const plan *p) {
    const kwr_manifest *m = p->c.manifest;
    char owned[32], read[32];
    printf("checkpoint %" PRIu64 " of job %s, generation %" PRIu64 ": %u key groups%s\n",
           m->checkpoint, m->job, m->generation, m->max_parallelism,
           p->c.anchored ? "" : " (not anchored: no log)");
    for (size_t i = 0; i < m->operator_count; i++) {
        const planned *op = &p->operators[i];
        printf("operator %s: from %u to %u subtasks\n", op->op->id, op->op->parallelism,
               op->parallelism);
        for (uint32_t k = 0; k < op->parallelism; k++)
            print_share(op, k);
    }
    tool_bytes_text(p->owned, owned);
    tool_bytes_text(p->read, read);
    printf("in all %s of keyed state owned, %s read", owned, read);
    if (p->owned > 0) printf(" (%.3f)", (double)p->read / (double)p->owned);
    putchar('\n');
}

int tool_plan(const tool_options *options) {
    plan p = { .options = options };
    int code = tool_checkpoint_open(options, &p.c);
    if (code != TOOL_GOOD) return code;
    code = plan_all(&p);
    if (code == TOOL_GOOD && !options->json)
        print_plan(&p);
    else if (code == TOOL_GOOD && !tool_print_json(plan_json(&p), false))
        code = TOOL_CANNOT_READ;
    if (p.arena != NULL) kwr_arena_free(p.arena);
    tool_checkpoint_close(&p.c);
    return code;
}
