/* SPDX-License-Identifier: Apache-2.0 */
/* The two-phase file sink under test, as the world drives it. */
#ifndef KWR_SIM_SINK_H
#define KWR_SIM_SINK_H

#include "keyweir/task.h"

typedef struct sim_sink sim_sink;

/* Commits what `task` carries, then opens the sink; output goes to /out. */
kwr_status sim_sink_open(const kwr_env *env, kwr_task *task, unsigned subtask, sim_sink **out,
                         kwr_error *err);
kwr_status sim_sink_sweep(sim_sink *sink, kwr_error *err);
kwr_status sim_sink_write(sim_sink *sink, const char *data, size_t size, kwr_error *err);
/* Pre-commits what was written since the last commit and adds the committable to the task. */
kwr_status sim_sink_pre_commit(sim_sink *sink, uint64_t checkpoint, kwr_error *err);
kwr_status sim_sink_commit(sim_sink *sink, uint64_t checkpoint, kwr_error *err);
void sim_sink_close(sim_sink *sink);

#endif /* KWR_SIM_SINK_H */
