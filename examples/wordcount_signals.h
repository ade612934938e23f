/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT and SIGTERM: the first asks for a last checkpoint and the end, the second ends at once. */
#ifndef WC_SIGNALS_H
#define WC_SIGNALS_H

#include <pthread.h>
#include <stdatomic.h>

#include "examples/engine/engine.h"

typedef struct wc_signals {
    eng_engine *engine;
    pthread_t thread;
    bool started;
    _Atomic bool done;
} wc_signals;

/* Holds the signals back, for this thread and all it creates. First of all in main. */
void wc_signals_block(void);
/* From now on they reach `engine`, which must live until wc_signals_stop(). */
kwr_status wc_signals_start(wc_signals *signals, eng_engine *engine, kwr_error *err);
void wc_signals_stop(wc_signals *signals);

#endif /* WC_SIGNALS_H */
