/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exhaustive model of the commit protocol. Jobs, tasks, recovery and retention are the
 * library's own code; the world around them is small enough to be a value: a disk of names with a
 * visible and a durable version, a multiset of messages, one channel per attempt.
 *
 * The idea: what a job or a task does depends only on what it was told. So each of them is known by
 * the list of its inputs, results of its file calls included, and is run again from the beginning
 * once for each new list, until it asks for something not yet answered. All else is table look-up,
 * and every order of events can be tried.
 */
#ifndef KWR_MODEL_H
#define KWR_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyweir/status.h"

enum { MODEL_RECORDS_MAX = 4, MODEL_ATTEMPTS_MAX = 3 };

/* What is wrong on purpose, to show that the model sees it. */
typedef enum model_mutation {
    MUTATE_NOTHING = 0,
    MUTATE_DIRECTORY_SYNC,  /* syncing a directory does nothing and says it did */
    MUTATE_FILE_SYNC,       /* the same of files */
    MUTATE_LINK_REPLACES,   /* a slot that is taken is replaced */
    MUTATE_EARLY_COMMIT,    /* the sink commits when it pre-commits */
    MUTATE_COMMIT_TWICE,    /* committing again writes again */
    MUTATE_RESTORE_FORGETS, /* what a restored sink has to commit is dropped */
    MUTATE_EARLY_POSITION,  /* the source stores the position after the next record */
    MUTATE_LATE_BARRIER,    /* the barrier goes behind the next record */
    MUTATE_EARLY_COMPLETE,  /* completion is told when publishing begins */
    MUTATIONS,
} model_mutation;

/* ---- bytes by number ---- */

/* Equal bytes have equal numbers; 0 is no bytes. */
uint32_t model_pool_put(const void *data, size_t size);
const void *model_pool_get(uint32_t id, size_t *size);
const char *model_pool_text(uint32_t id); /* of text that was put with its NUL */

typedef struct model_map model_map; /* (a, b) -> uint32_t, not 0 */
uint32_t model_map_get(const model_map *map, uint64_t a, uint64_t b);
void model_map_put(model_map **map, uint64_t a, uint64_t b, uint32_t value);
void model_pool_free(void);
void model_map_free(model_map *map);

/* ---- the disk: a value of the pool ---- */

typedef enum model_op {
    OP_OPEN_DIR = 1,
    OP_MAKE_DIR, /* opened, made when missing */
    OP_LIST,
    OP_SYNC_DIR,
    OP_CREATE,
    OP_SYNC, /* with all that was written */
    OP_OPEN,
    OP_LINK,
    OP_REMOVE,
    OP_REMOVE_DIR,
} model_op;

typedef struct model_request {
    uint32_t op;
    uint32_t path, to; /* texts of the pool */
    uint32_t data;
} model_request;

typedef struct model_result {
    int32_t status;
    uint32_t payload; /* list: names, each with its NUL; open: the content */
} model_result;

uint32_t model_disk_new(void);
/* What `request` does to `disk`; the new disk. */
uint32_t model_disk_apply(uint32_t disk, const model_request *request, model_mutation mutation,
                          model_result *result);
bool model_disk_has(uint32_t disk, uint32_t path);
/* Changes that a power loss may keep or lose; outcome is a set of those kept. */
unsigned model_disk_unsynced(uint32_t disk);
uint32_t model_disk_power_loss(uint32_t disk, unsigned outcome);
void model_disk_print(uint32_t disk);

/* ---- what jobs and tasks do ---- */

typedef enum model_part { PART_JOB = 0, PART_SOURCE, PART_SINK, MODEL_PARTS } model_part;

typedef enum model_input_kind {
    IN_START = 1, /* job: open, and start as soon as that is done */
    IN_RESULT,    /* of the file call that it waits for */
    IN_WORK,      /* its work in the background is done; payload: background node */
    IN_TRIGGER,
    IN_TIME,    /* time goes on to its deadline */
    IN_RECEIVE, /* payload: message; a task's first is its assignment */
    IN_EMIT,    /* source: a record */
    IN_ITEM,    /* sink: payload: item of the channel */
} model_input_kind;

typedef struct model_input {
    uint32_t kind;
    uint32_t payload;
    int32_t status;
} model_input;

typedef enum model_output_kind {
    OUT_MESSAGE = 1, /* to part `to`, payload */
    OUT_ITEM,        /* into the channel */
    OUT_COMMIT,      /* checkpoint, payload: records */
    OUT_RESTORED,    /* job: opened, checkpoint it continues */
    OUT_TOLD,        /* task: heard that `checkpoint` is completed */
} model_output_kind;

typedef struct model_output {
    uint32_t kind, to, payload;
    uint64_t checkpoint;
} model_output;

/* Items of a channel: records are 1 to MODEL_RECORDS_MAX, barriers this and the checkpoint. */
enum { ITEM_BARRIER = 0x100, ITEM_FINAL = 0x80 };

/* One part after a list of inputs; lists that lead to the same are one. */
typedef struct model_node {
    uint32_t parent;
    uint16_t depth;
    uint8_t part, attempt;
    model_input input;
    uint64_t fingerprint; /* of all it holds */
    uint32_t request;     /* of the owner, 0: none */
    uint32_t position;    /* source */
    bool opened, failed, finished;
    bool pending;    /* a checkpoint is */
    bool publishing; /* all acks are in */
    bool posted;     /* work waits or runs */
    bool timed;      /* time can bring something */
    bool last_done;  /* sink: told of the last checkpoint */
} model_node;

/* What one input does. */
typedef struct model_step {
    uint32_t node;
    uint32_t first_output, output_count;
} model_step;

/* Work in the background after some of its file calls. */
typedef struct model_work {
    uint32_t start; /* node that posted it */
    uint32_t parent;
    model_result result;
    uint32_t request;
    bool done;
} model_work;

void model_machine_setup(unsigned records, model_mutation mutation);
void model_machine_free(void);
model_step model_node_first(model_part part, unsigned attempt, model_input input);
model_step model_node_step(uint32_t node, model_input input);
const model_node *model_node_get(uint32_t node);
const model_output *model_output_get(const model_step *step, uint32_t index);
uint32_t model_work_begin(uint32_t node);
uint32_t model_work_step(uint32_t work, model_result result);
const model_work *model_work_get(uint32_t work);
const char *model_node_error(void); /* why the latest attempt to run failed, for messages */
size_t model_node_count(void);

/* ---- what must hold of a disk ---- */

enum { MODEL_SLOTS_MAX = 16 };

typedef struct model_log {
    bool good;
    char why[256];
    uint64_t newest, highest, generation;
    unsigned count; /* checkpoints in the log */
    struct {
        uint64_t checkpoint, generation;
    } completed[MODEL_SLOTS_MAX];
} model_log;

/* Reads the log and verifies every checkpoint of it, as another process would. */
const model_log *model_check(uint32_t disk);
void model_check_free(void);

#endif /* KWR_MODEL_H */
