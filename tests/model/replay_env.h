/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment a part of the model runs in: memory that is dropped as a whole, time that stands
 * still, one piece of background work, and files whose every call is answered from a list.
 */
#ifndef KWR_MODEL_REPLAY_ENV_H
#define KWR_MODEL_REPLAY_ENV_H

#include "keyweir/env.h"
#include "tests/model/model.h"

typedef struct replay_env {
    kwr_env env;
    /* Answers a call, or does not return when there is no answer yet. */
    model_result (*answer)(void *ctx, const model_request *request);
    void *answer_ctx;
    uint64_t now_ns;
    uint64_t random; /* next bytes */
    kwr_work *posted;
} replay_env;

/* Starts anew: all memory of the last run is gone. */
void replay_env_reset(replay_env *e, uint64_t random);
void replay_env_free(void);
/* Of all that `root` leads to; see there. */
uint64_t replay_env_fingerprint(const void *root);

#endif /* KWR_MODEL_REPLAY_ENV_H */
