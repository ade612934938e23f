/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine under simulation, shared by engine.c (stepping, and the run), opening.c (an attempt
 * begins and ends) and node.c (what a task does): tasks with bounded channels in memory, messages
 * through the harness. Actors are the job (0) and the tasks (1 ..).
 */
#ifndef KWR_TEST_SIM_ENGINE_H
#define KWR_TEST_SIM_ENGINE_H

#include "keyweir/list.h"
#include "keyweir/map.h"
#include "keyweir/state.h"
#include "keyweir/task.h"
#include "tests/sim/job.h"
#include "tests/sim/kinds.h"
#include "tests/sim/promises.h"
#include "tests/sim/sink.h"

enum {
    SIM_NODES_MAX = SIM_SPLITS_MAX + 3 * SIM_COUNTS_MAX,
    SIM_CHANNELS_MAX = (SIM_SPLITS_MAX + SIM_COUNTS_MAX + 1) * SIM_COUNTS_MAX,
    SIM_INPUTS_MAX = SIM_SPLITS_MAX > SIM_COUNTS_MAX ? SIM_SPLITS_MAX : SIM_COUNTS_MAX,
    SIM_CHANNEL_DEPTH = 6,
    SIM_PROCESSES_MAX = 4,
    SIM_STREAM_SHAPE = KWR_SIM_STREAM_SUBJECT,
    SIM_STREAM_SCRIPT,
    SIM_STREAM_PARALLELISM,
};

/* Of the input that the splits belong to: long, so that damage to a manifest meets it often. */
#define SIM_IDENTITY                                                     \
    "script of the records that the sources of this run read, one line " \
    "for each record, in the order in "                                  \
    "which they stand there; whoever comes back with other words than "  \
    "these has not read that script"

typedef enum sim_node_kind {
    SIM_NODE_SOURCE,
    SIM_NODE_COUNT,
    SIM_NODE_TALLY,
    SIM_NODE_SINK
} sim_node_kind;
typedef struct sim_engine sim_engine;

/* A record: the key, and behind counts the count. */
typedef struct sim_item {
    struct sim_item *next;
    bool is_barrier;
    kwr_barrier barrier;
    unsigned key;
    uint64_t count;
} sim_item;

typedef struct sim_channel {
    sim_item *first, **last;
    size_t depth; /* records only: barriers always fit */
    unsigned to, input;
    bool blocked;
    uint64_t delivered; /* checkpoint of its last barrier */
} sim_channel;

typedef struct sim_node {
    sim_engine *engine;
    sim_node_kind kind;
    unsigned index;
    kwr_sim_process *process;
    kwr_task *task;
    uint32_t number; /* in the job */
    sim_channel *inputs[SIM_INPUTS_MAX];
    sim_channel *outputs[SIM_COUNTS_MAX];
    unsigned input_count, output_count;
    bool owned[SIM_SPLITS_MAX]; /* sources: splits, and how far they were read */
    uint64_t positions[SIM_SPLITS_MAX];
    bool end_told;
    kwr_reducing *count; /* by key */
    sim_kinds kinds;     /* by key: what follows from its count */
    kwr_value *total;    /* by family: its records */
    kwr_map *latest;     /* by family: the count of each key */
    kwr_list *recent;    /* by family, the key as namespace: its counts since the last multiple */
    kwr_list *journal;   /* by family: key and count of every record */
    sim_sink *sink;
    bool final_committed;
    kwr_barrier last_barrier; /* sent */
    uint64_t aborted, taken;  /* the newest it was told to give up, and took */
} sim_node;

struct sim_engine {
    sim_job *run;
    kwr_sim_attempt *attempt;
    kwr_storage *storages[SIM_PROCESSES_MAX];
    kwr_job *job;
    kwr_job_info info;
    unsigned sources, counts;
    sim_node nodes[SIM_NODES_MAX];
    unsigned node_count;
    sim_channel channels[SIM_CHANNELS_MAX];
    unsigned channel_count;
    bool poll, job_finished, failed; /* poll: the job was woken */
    sim_promises promises;
};

/* opening.c */
void *sim_must(void *memory);
/* The attempt ends with this; the first failure counts. `err` may be NULL. */
void sim_fail(sim_engine *e, kwr_status status, const kwr_error *err);
void *sim_engine_start(void *run, kwr_sim_attempt *attempt);
void sim_engine_stop(void *state);

/* node.c: all of a task's happens inside its process */
sim_channel *sim_connect(sim_engine *e, sim_node *from, sim_node *to);
bool sim_pop(sim_channel *c, sim_item *out);
void sim_send(sim_engine *e, unsigned actor, kwr_slice bytes);
bool sim_full(const sim_node *n);
bool sim_ready_input(const sim_node *n, const sim_channel *c);
/* Has the split, which is the source's, records left? */
bool sim_left(const sim_node *n, unsigned split);
/* The nth of the splits that have records left. */
void sim_emit_record(sim_node *n, size_t nth);
void sim_handle_item(sim_node *n, sim_channel *c, const sim_item *what);
void sim_receive(sim_node *n, kwr_slice bytes);
/* The task that owns the key. */
uint32_t sim_owner(const sim_node *n, kwr_slice key);
kwr_slice sim_key_text(unsigned key, char out[16]);
kwr_slice sim_family_text(unsigned key, char out[16]);

#endif /* KWR_TEST_SIM_ENGINE_H */
