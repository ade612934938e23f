/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts of a subject, and the world they live in. */
#ifndef KWR_SIM_WORLD_H
#define KWR_SIM_WORLD_H

#include "sim/internal.h"

enum { KWR_SIM_PROCESSES_MAX = 8, KWR_SIM_ACTORS_MAX = 64 };
/* What the scheduler chooses between: the messages under way, the work of each process, actors. */
enum { KWR_SIM_GROUPS_MAX = 1 + KWR_SIM_PROCESSES_MAX + KWR_SIM_ACTORS_MAX };

/* What the world does to all attempts, and how it explains their errors. */
typedef struct kwr_sim_weather {
    unsigned newest;     /* number of the newest attempt */
    unsigned living;     /* attempts that are not closed */
    bool full;           /* the disk is */
    const char *damaged; /* path of the file, NULL: none */
} kwr_sim_weather;

typedef struct kwr_sim_message {
    struct kwr_sim_message *next;
    unsigned actor;
    size_t size;
    uint8_t data[];
} kwr_sim_message;

struct kwr_sim_attempt {
    kwr_sim *sim;
    const kwr_sim_subject *subject;
    kwr_sim_weather *weather;
    void *state;
    unsigned number;
    bool beside, started, finished, failed, idle;
    kwr_error error;
    kwr_sim_process *processes[KWR_SIM_PROCESSES_MAX];
    unsigned process_count, actor_count;
    unsigned process_of[KWR_SIM_ACTORS_MAX];
    kwr_sim_message *messages;
    size_t message_count;
    bool lost_process, lost_message, met_full;
    bool timed_out; /* it said so, of something */
    unsigned steps_lost;
};

typedef enum kwr_sim_attempt_state {
    KWR_SIM_RUNNING,
    KWR_SIM_FINISHED,
    KWR_SIM_FAILED,
    KWR_SIM_DEAD,
} kwr_sim_attempt_state;

typedef struct kwr_sim_scheduler {
    unsigned policy;
    uint64_t priorities;
    unsigned starved;
} kwr_sim_scheduler;

kwr_sim_attempt *kwr_sim_attempt_open(kwr_sim *sim, const kwr_sim_subject *subject, void *run,
                                      kwr_sim_weather *weather, kwr_sim_disk *disk, bool beside);
/* Closes what lives and forgets what is dead; after a clean close nothing may be left. */
void kwr_sim_attempt_close(kwr_sim_attempt *attempt);
kwr_sim_attempt_state kwr_sim_attempt_look(const kwr_sim_attempt *attempt);
void kwr_sim_attempt_step(kwr_sim_attempt *attempt, kwr_sim_scheduler *scheduler);
uint64_t kwr_sim_attempt_deadline(const kwr_sim_attempt *attempt);
void kwr_sim_attempt_kill(kwr_sim_attempt *attempt, unsigned process);
void kwr_sim_attempt_kill_all(kwr_sim_attempt *attempt);

/* Whether something that happened explains `err`; if not, the run is violated. */
void kwr_sim_judge(const kwr_sim_attempt *attempt, const kwr_error *err);

#endif /* KWR_SIM_WORLD_H */
