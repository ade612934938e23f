/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals are taken by one thread with sigwait: no code runs in a handler. SIGUSR2 is used between
 * stop() and the thread only.
 */
#include "examples/wordcount_signals.h"

#include <signal.h>
#include <unistd.h>

#include "examples/engine/error.h"

static sigset_t signal_set(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR2);
    return set;
}

void wc_signals_block(void) {
    const sigset_t set = signal_set();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    /* A reader of events or output that went away is an error of a write, not an end. */
    signal(SIGPIPE, SIG_IGN);
}

static void *wait_for_signals(void *arg) {
    wc_signals *signals = arg;
    const sigset_t set = signal_set();
    bool asked = false;
    for (;;) {
        int signal_number = 0;
        if (sigwait(&set, &signal_number) != 0) continue;
        if (atomic_load(&signals->done)) return NULL;
        if (signal_number == SIGUSR2) continue;
        if (asked) _exit(128 + signal_number);
        asked = true;
        eng_engine_stop(signals->engine);
    }
}

kwr_status wc_signals_start(wc_signals *signals, eng_engine *engine, kwr_error *err) {
    signals->engine = engine;
    const int rc = pthread_create(&signals->thread, NULL, wait_for_signals, signals);
    if (rc != 0) return eng_fail(err, KWR_ERR_IO, rc, "starting a thread for signals");
    signals->started = true;
    return KWR_OK;
}

void wc_signals_stop(wc_signals *signals) {
    if (!signals->started) return;
    atomic_store(&signals->done, true);
    pthread_kill(signals->thread, SIGUSR2);
    pthread_join(signals->thread, NULL);
    signals->started = false;
}
