/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random program: operations on the state of a job of one or more subtasks, each followed by a
 * comparison with the model. Operation i draws its choices from a stream of its own, so that any of
 * them can be left out and the others still do what they did: a failing program is shrunk that way.
 *
 * A program that finds a difference prints it and ends its process.
 */
#ifndef KWR_TESTS_PROGRAMS_PROGRAM_H
#define KWR_TESTS_PROGRAMS_PROGRAM_H

#include "backend/view.h"
#include "keyweir/keyweir.h"
#include "keyweir/raw.h"
#include "keyweir/timers.h"
#include "tests/programs/table.h"

enum {
    DIRECTORY_MAX = 80,
    SUBTASKS_MAX = 16,
    BATCH = 8,
    VIEWS = 3,
    SCRATCH = 1 << 18,
    OPERATIONS = 200,
    CHECKPOINTS = 25 /* of 1000 operations */
};

typedef struct engine_row {
    const char *name;
    const kwr_engine_ops *ops; /* NULL: the registered one of that name */
    const char *registered;
    uint64_t hash_mask; /* fewer bits: entries collide */
    bool snapshots;     /* kwr_snapshot_restore() can name it */
    bool images;        /* has native images */
    bool changes;       /* at a restart the job may go on with another engine */
} engine_row;

extern const engine_row engines[];
extern const size_t engine_count;
const engine_row *engine_find(const char *name);

/* One task of the job: a backend that owns some key groups, and its handles. */
typedef struct subtask {
    uint32_t index;
    kwr_backend *backend;
    kwr_value *value;
    kwr_value *number;
    kwr_reducing *sum;
    kwr_reducing *longest;
    kwr_aggregating *mean;
    kwr_list *list;
    kwr_map *map;
    kwr_timers *timers;
    size_t timer_name; /* current */
    kwr_raw *raw;
    kwr_state *states[STATES];
    kwr_key_batch *batch;
    size_t batch_keys[BATCH];
    kwr_slice batch_slices[BATCH];
    size_t batch_count;
    bool has_key;
    size_t key;          /* current */
    size_t name[STATES]; /* current */
} subtask;

/* All subtasks frozen at one moment, and what they held. */
typedef struct frozen {
    kwr_view *views[SUBTASKS_MAX];
    uint32_t count;
    table *want;
} frozen;

/* operators.c */
typedef struct operators operators;

typedef struct program_options {
    uint64_t seed;
    const engine_row *engine; /* NULL: by the seed */
    unsigned operations;
    const bool *skip; /* operations to leave out; may be NULL */
    bool log;         /* prints each operation */
    /* For snapshots to be taken from: */
    uint32_t max_parallelism; /* 0: by the seed */
    uint32_t parallelism;     /* stays, unless 0 */
    unsigned checkpoints;     /* of 1000 operations */
} program_options;

/* A completed checkpoint. */
typedef struct retained {
    kwr_bytes handles[SUBTASKS_MAX];
    uint32_t count; /* of subtasks; 0: there is none */
    table *want;
} retained;

enum { CHAIN_RETAINED = 3 };

/* Checkpoints of the job. */
typedef struct chain {
    kwr_storage *storage;
    kwr_lineage *lineages[SUBTASKS_MAX];
    retained kept[CHAIN_RETAINED]; /* newest first */
    uint64_t generation;
} chain;

typedef struct program {
    const program_options *options;
    const engine_row *engine;
    kwr_env *env;
    uint64_t draw; /* state of the present operation's stream */
    unsigned operation;
    const char *doing;
    bool lacks_collections; /* the engine has neither lists, maps nor timers */
    bool compare_all;       /* after each operation, not only now and then */
    uint64_t hash_seed;
    uint32_t max_parallelism;
    uint32_t parallelism;
    subtask tasks[SUBTASKS_MAX];
    table *now;
    frozen frozen[VIEWS];
    operators *operators; /* NULL: not yet used */
    chain chain;
    uint64_t next_tag;
    uint64_t checkpoint;
    const char *registered; /* the engine of the next backends */
    unsigned directories;
    uint8_t *scratch; /* SCRATCH bytes */
    char keys[KEYS][80];
    size_t key_sizes[KEYS];
} program;

/* Where the backends of this process are, when they are on disk; it is the caller's to remove. */
void program_directory(long process, char *out, size_t capacity);
/* Runs it to the end, or prints what differs and exits with 1. */
void program_run(kwr_env *env, const program_options *options);

/* The same in steps. */
program *program_begin(kwr_env *env, const program_options *options);
void program_operations(program *p);
void program_end(program *p);

/* matrix.c: fixed snapshots restored at every `step`-th parallelism. */
void matrix_run(kwr_env *env, uint32_t snapshots, uint32_t step);

/* ---- for the parts of a program ---- */

uint64_t draw(program *p);
size_t below(program *p, size_t n);
/* True `n` times in 100. */
bool percent(program *p, unsigned n);
/* A new item of any size: mostly small, sometimes empty, rarely large. */
item some_item(program *p);
/* Its bytes, in p->scratch. */
kwr_slice item_bytes(program *p, item value);
kwr_slice key_bytes(const program *p, size_t key);
kwr_slice name_bytes(size_t name);
uint32_t key_group_of(const program *p, size_t key);
subtask *owner_of(program *p, size_t key);
bool slice_is(kwr_slice a, kwr_slice b);
bool holds_item(kwr_slice got, item want);

/* True when the engine says that it has no collections. */
bool lacks(program *p, kwr_status status);

void differs(const program *p, const char *what, const char *file, int line)
    __attribute__((noreturn));
#define REQUIRE(holds)                                        \
    do {                                                      \
        if (!(holds)) differs(p, #holds, __FILE__, __LINE__); \
    } while (0)
#define MUST(call) must(p, (call), KWR_OK, #call, __FILE__, __LINE__)
#define EXPECT(want, call) must(p, (call), (want), #call, __FILE__, __LINE__)
void must(const program *p, kwr_status got, kwr_status want, const char *call, const char *file,
          int line);

/* ---- job.c: subtasks, and their replacement from a snapshot ---- */

void job_open(program *p, uint32_t parallelism);
void job_close(program *p);
/* The same with backends from elsewhere, which become the job's. */
void job_adopt(program *p, kwr_backend *const *backends, uint32_t parallelism);
/* `directory` must live until the backend is open. */
kwr_backend_options job_options(program *p, uint32_t index, uint32_t parallelism,
                                char directory[DIRECTORY_MAX]);
/* Snapshots of all subtasks become a job of `parallelism` subtasks. */
void job_restart(program *p, uint32_t parallelism);

void freeze_job(program *p, frozen *f);
void end_frozen(program *p, frozen *f, bool look);

/* ---- chain.c: checkpoints that refer to earlier ones ---- */

void chain_checkpoint(program *p);
/* The job's backends are others now. */
void chain_job_changed(program *p);
void chain_end(program *p);

/* ---- across.c ---- */

void do_across(program *p);

/* ---- compare.c ---- */

void compare_cell(program *p, subtask *t, state_id state, size_t key, size_t name);
/* Everything, by reading; current keys and namespaces stay where there are some. */
void compare_job(program *p);
void compare_frozen(program *p, const frozen *f);

#endif /* KWR_TESTS_PROGRAMS_PROGRAM_H */
