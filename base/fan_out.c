/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fan_out.h"

size_t kwr_fan_size(const kwr_env *env, uint64_t asked, uint64_t units) {
    uint64_t count = asked;
    if (count == 0) count = env->executor->parallelism(env->executor->ctx);
    if (count == 0) count = 1;
    if (count > units) count = units;
    return (size_t)(count > KWR_FAN_MAX ? KWR_FAN_MAX : count);
}

void kwr_fan_run(const kwr_env *env, kwr_fan *fans, size_t count) {
    const kwr_executor *executor = env->executor;
    if (count == 0) return;
    /* The executor's threads run below their owner's priority: the first is posted too. */
    for (size_t i = 1; i <= count; i++) {
        kwr_fan *fan = &fans[i % count];
        fan->posted = executor->post(executor->ctx, &fan->work) >= KWR_OK;
    }
    if (!fans[0].posted) fans[0].work.run(fans[0].work.ctx);
    for (size_t i = 0; i < count; i++)
        if (fans[i].posted) executor->wait(executor->ctx, &fans[i].work);
}
