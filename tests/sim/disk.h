/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated disk with two images: what running processes see, and what a power loss would leave.
 * It outlives processes; each process reaches it through a kwr_fs of its own, so that handles and
 * locks die with it. Every call is a point where a fault may strike or the process may die.
 */
#ifndef KWR_SIM_DISK_H
#define KWR_SIM_DISK_H

#include "keyweir/env.h"
#include "tests/sim/rng.h"

typedef struct sim_disk sim_disk;
typedef struct sim_mount sim_mount;

/* What may be left of everything not synced. */
typedef enum sim_power {
    SIM_POWER_NOTHING = 0, /* only what was synced */
    SIM_POWER_ALL = 1,     /* everything */
    SIM_POWER_PREFIX = 2,  /* updates in order up to some point, the last file torn */
    SIM_POWER_SUBSET = 3,  /* any subset of directory updates, any length of each tail */
    SIM_POWER_ZEROS = 4,   /* lengths survive, their data are zeros */
    SIM_POWER_GARBAGE = 5, /* lengths survive, their data are garbage */
    SIM_POWER_OUTCOMES = 6,
} sim_power;

/* Kinds of calls, for fault rates, fault lists and traces. */
typedef enum sim_call {
    SIM_OPEN_ROOT,
    SIM_OPEN_DIR,
    SIM_LIST,
    SIM_SYNC_DIR,
    SIM_CREATE,
    SIM_OPEN,
    SIM_WRITE,
    SIM_READ,
    SIM_SYNC,
    SIM_CLOSE,
    SIM_LINK,
    SIM_RENAME,
    SIM_REMOVE,
    SIM_REMOVE_DIR,
    SIM_INFO,
    SIM_LOCK,
    SIM_CALLS,
} sim_call;

typedef enum sim_fault {
    SIM_NO_FAULT = 0,
    SIM_EIO,       /* nothing applied */
    SIM_ENOSPC,    /* nothing applied */
    SIM_SHORT,     /* write and read: less than asked */
    SIM_LOSE_SYNC, /* sync: fails, and what was unsynced will never reach the disk */
    SIM_AMBIGUOUS, /* link, rename, remove, create, sync_dir: applied, but reported as failed */
    SIM_FLIP,      /* read: one bit of the answer is wrong, once */
    SIM_FAULTS,
} sim_fault;

/* Asked before every call. A kill happens inside the hook (it does not return). */
typedef sim_fault (*sim_fault_hook)(void *ctx, sim_call call, const char *name);

sim_disk *sim_disk_new(uint64_t capacity);
void sim_disk_free(sim_disk *disk);
/* A deep copy of what is visible and what is durable; mounts are not copied. */
sim_disk *sim_disk_copy(const sim_disk *disk);
/* Ends every mount and leaves one of the possible images as the only one. */
void sim_disk_power_loss(sim_disk *disk, sim_power outcome, sim_rng *rng);
uint64_t sim_disk_used(const sim_disk *disk);
void sim_disk_set_capacity(sim_disk *disk, uint64_t capacity);
/* A hash over the visible tree: names, sizes, bytes. */
uint64_t sim_disk_hash(const sim_disk *disk);

/* The files of one process: closing it drops its handles and locks. */
sim_mount *sim_mount_new(sim_disk *disk, sim_fault_hook hook, void *hook_ctx);
const kwr_fs *sim_mount_fs(sim_mount *mount);
void sim_mount_free(sim_mount *mount);
/* Open files and directories of the mount: 0 when nothing leaked. */
size_t sim_mount_handles(const sim_mount *mount);

/* Looking at the disk from outside, without faults: "/a/b/c". */
typedef void (*sim_visit)(void *ctx, const char *path, const void *data, size_t size);
void sim_disk_visit(const sim_disk *disk, bool durable, sim_visit visit, void *ctx);
/* NULL when there is none. Borrowed until the next change. */
const void *sim_disk_file(const sim_disk *disk, bool durable, const char *path, size_t *size);
/* Puts a file there, durably, as the workload's input or a planted damage does. */
void sim_disk_put(sim_disk *disk, const char *path, const void *data, size_t size);

#endif /* KWR_SIM_DISK_H */
