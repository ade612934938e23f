/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What strikes where. Every place a fault can strike at is counted, separately for calls of the
 * file system, allocations, messages and steps: a fault is its kind and the number of its place,
 * so that a list of them replays without any draw.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/internal.h"

static const char *const fault_names[KWR_SIM_FAULTS] = {
    [KWR_SIM_NO_FAULT] = "none",
    [KWR_SIM_ERROR] = "error",
    [KWR_SIM_SHORT] = "short",
    [KWR_SIM_LOSE_SYNC] = "lose-sync",
    [KWR_SIM_AMBIGUOUS] = "ambiguous",
    [KWR_SIM_FLIP] = "flip",
    [KWR_SIM_MISREAD] = "misread",
    [KWR_SIM_KILL_BEFORE] = "kill-before",
    [KWR_SIM_KILL_AFTER] = "kill-after",
    [KWR_SIM_NO_MEMORY] = "no-memory",
    [KWR_SIM_LOSE_MESSAGE] = "lose-message",
    [KWR_SIM_DOUBLE_MESSAGE] = "double-message",
    [KWR_SIM_KILL_ONE] = "kill-one",
    [KWR_SIM_KILL_ALL] = "kill-all",
    [KWR_SIM_POWER] = "power",
    [KWR_SIM_PAUSE] = "pause",
    [KWR_SIM_CLOCK_STEP] = "clock-step",
    [KWR_SIM_FILL] = "fill",
    [KWR_SIM_DAMAGE] = "damage",
    [KWR_SIM_STALL] = "stall",
    [KWR_SIM_ROT] = "rot",
};
static const char *const call_names[KWR_SIM_CALLS] = {
    "root", "dir",   "list", "syncdir", "create", "open",  "write", "read",
    "sync", "close", "link", "rename",  "remove", "rmdir", "info",  "lock",
};

const char *kwr_sim_fault_name(kwr_sim_fault fault) {
    return fault < KWR_SIM_FAULTS ? fault_names[fault] : "unknown";
}
const char *kwr_sim_call_name(kwr_sim_call call) { return call_names[call]; }

static kwr_sim_place place_of(kwr_sim_fault fault) {
    if (fault <= KWR_SIM_KILL_AFTER || fault == KWR_SIM_STALL) return KWR_SIM_AT_CALL;
    if (fault == KWR_SIM_NO_MEMORY) return KWR_SIM_AT_ALLOCATION;
    return fault <= KWR_SIM_DOUBLE_MESSAGE ? KWR_SIM_AT_MESSAGE : KWR_SIM_AT_STEP;
}

uint32_t kwr_sim_fitting(kwr_sim_call call) {
    const uint32_t always = 1u << KWR_SIM_ERROR | 1u << KWR_SIM_KILL_BEFORE |
                            1u << KWR_SIM_KILL_AFTER | 1u << KWR_SIM_STALL;
    switch (call) {
    case KWR_SIM_WRITE: return always | 1u << KWR_SIM_SHORT;
    case KWR_SIM_READ:
        return always | 1u << KWR_SIM_SHORT | 1u << KWR_SIM_FLIP | 1u << KWR_SIM_MISREAD;
    case KWR_SIM_SYNC: return always | 1u << KWR_SIM_LOSE_SYNC;
    case KWR_SIM_LINK:
    case KWR_SIM_RENAME:
    case KWR_SIM_REMOVE:
    case KWR_SIM_CREATE:
    case KWR_SIM_SYNC_DIR: return always | 1u << KWR_SIM_AMBIGUOUS;
    case KWR_SIM_OPEN_ROOT:
    case KWR_SIM_OPEN_DIR:
    case KWR_SIM_LIST:
    case KWR_SIM_OPEN:
    case KWR_SIM_CLOSE:
    case KWR_SIM_REMOVE_DIR:
    case KWR_SIM_INFO:
    case KWR_SIM_LOCK:
    case KWR_SIM_CALLS: break;
    }
    return always;
}

void kwr_sim_struck(kwr_sim *sim, kwr_sim_place place, kwr_sim_strike strike) {
    if (sim->strike_count == sim->strike_capacity) {
        sim->strike_capacity = sim->strike_capacity == 0 ? 64 : 2 * sim->strike_capacity;
        sim->strikes =
            kwr_sim_must(realloc(sim->strikes, sim->strike_capacity * sizeof *sim->strikes));
    }
    strike.nth = sim->nth[place];
    sim->strikes[sim->strike_count++] = strike;
    sim->struck[strike.fault]++;
    kwr_sim_trace(sim, "fault %s@%llu/%u", kwr_sim_fault_name(strike.fault),
                  (unsigned long long)strike.nth, strike.detail);
}

kwr_sim_rng kwr_sim_detail_rng(const kwr_sim *sim, kwr_sim_place place) {
    return kwr_sim_rng_of(sim->seed ^ kwr_sim_mix(sim->nth[place]),
                          KWR_SIM_STREAM_DETAIL + (uint64_t)place);
}

/* What the list to replay says of the present place. */
static kwr_sim_strike replayed(kwr_sim *sim, kwr_sim_place place) {
    const kwr_sim_strike *list = sim->options.replay;
    size_t *at = &sim->replay_at[place];
    while (*at < sim->options.replay_count &&
           (place_of(list[*at].fault) != place || list[*at].nth < sim->nth[place]))
        ++*at;
    if (*at < sim->options.replay_count && list[*at].nth == sim->nth[place]) return list[(*at)++];
    return (kwr_sim_strike){ 0 };
}

static uint32_t draw_detail(kwr_sim *sim, kwr_sim_place place, kwr_sim_fault fault) {
    static const int errnos[] = { EIO,   EIO,    EIO,    ENOSPC,    ENOSPC, EDQUOT, EMFILE,
                                  EROFS, EACCES, ENOMEM, ETIMEDOUT, ESTALE, EIO,    EIO };
    kwr_sim_rng rng = kwr_sim_detail_rng(sim, place);
    switch (fault) {
    case KWR_SIM_ERROR:
        return (uint32_t)errnos[kwr_sim_below(&rng, sizeof errnos / sizeof errnos[0])];
    case KWR_SIM_FLIP:
    case KWR_SIM_CLOCK_STEP:
    case KWR_SIM_KILL_ONE: return (uint32_t)kwr_sim_next(&rng);
    case KWR_SIM_POWER: return (uint32_t)kwr_sim_below(&rng, KWR_SIM_POWER_OUTCOMES);
    case KWR_SIM_STALL: /* as often around a millisecond as around a second */
        return (uint32_t)kwr_sim_below(&rng, UINT64_C(1) << (1 + kwr_sim_below(&rng, 11)));
    case KWR_SIM_NO_FAULT:
    case KWR_SIM_SHORT:
    case KWR_SIM_LOSE_SYNC:
    case KWR_SIM_AMBIGUOUS:
    case KWR_SIM_MISREAD:
    case KWR_SIM_KILL_BEFORE:
    case KWR_SIM_KILL_AFTER:
    case KWR_SIM_NO_MEMORY:
    case KWR_SIM_LOSE_MESSAGE:
    case KWR_SIM_DOUBLE_MESSAGE:
    case KWR_SIM_KILL_ALL:
    case KWR_SIM_PAUSE:
    case KWR_SIM_FILL:
    case KWR_SIM_DAMAGE:
    case KWR_SIM_ROT:
    case KWR_SIM_FAULTS: break;
    }
    return 0;
}

kwr_sim_strike kwr_sim_at_place(kwr_sim *sim, kwr_sim_place place, uint32_t fitting) {
    kwr_sim_strike strike = { 0 };
    sim->nth[place]++;
    if (sim->faults_off) return strike;
    if (sim->options.replay != NULL) {
        strike = replayed(sim, place);
        if ((fitting >> strike.fault & 1) == 0) strike.fault = KWR_SIM_NO_FAULT;
    } else {
        for (uint32_t left = fitting; left != 0; left &= left - 1) {
            const kwr_sim_fault fault = (kwr_sim_fault)__builtin_ctz(left);
            /* Where names change the order of things is decided. */
            const uint32_t often = (fitting >> KWR_SIM_AMBIGUOUS & 1) != 0 ? 4 : 1;
            if (!kwr_sim_chance(&sim->faults[place], sim->rates.of[fault] * often)) continue;
            strike = (kwr_sim_strike){ fault, draw_detail(sim, place, fault), 0 };
            break;
        }
    }
    if (strike.fault != KWR_SIM_NO_FAULT) kwr_sim_struck(sim, place, strike);
    return strike;
}

/* ---- the trace ---- */

void kwr_sim_trace_words(kwr_sim *sim, uint64_t a, uint64_t b) {
    if (!sim->quiet) sim->trace = kwr_sim_mix(kwr_sim_mix(sim->trace ^ a) + b);
}

/*
 * Hashes what would be printed without printing it: the format and the values it names. Only what
 * the header allows is understood; anything else ends the program, because a guess at the size of
 * an argument would make all behind it wrong.
 */
static uint64_t hash_format(uint64_t hash, const char *format, va_list arguments) {
    for (const char *p = format; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
        if (*p != '%') continue;
        unsigned longs = 0;
        const bool size = p[1] == 'z';
        for (p++; *p == 'l' || *p == 'z'; p++)
            longs++;
        if (*p == 's') {
            for (const char *s = va_arg(arguments, const char *); *s != '\0'; s++)
                hash = (hash ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
        } else if (*p == 'd' || *p == 'u' || *p == 'x') {
            const uint64_t value = size         ? va_arg(arguments, size_t)
                                   : longs == 2 ? va_arg(arguments, unsigned long long)
                                   : longs == 1 ? va_arg(arguments, unsigned long)
                                                : va_arg(arguments, unsigned);
            hash = kwr_sim_mix(hash ^ value);
        } else {
            fprintf(stderr, "sim: a trace cannot hold '%s'\n", format);
            abort();
        }
    }
    return hash;
}

void kwr_sim_trace(kwr_sim *sim, const char *format, ...) {
    va_list arguments;
    if (sim->quiet) return;
    va_start(arguments, format);
    sim->trace = kwr_sim_mix(hash_format(sim->trace, format, arguments));
    va_end(arguments);
    if (sim->options.log == NULL) return;
    char line[1024];
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sim->options.log(sim->options.log_ctx, line);
}

/* ---- lists as text ---- */

char *kwr_sim_strikes_text(const kwr_sim_strike *strikes, size_t count) {
    const size_t each = 64;
    char *text = kwr_sim_must(malloc(count * each + 1));
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, each, "%s%s@%llu/%u", i == 0 ? "" : ",",
                               kwr_sim_fault_name(strikes[i].fault),
                               (unsigned long long)strikes[i].nth, strikes[i].detail);
    return text;
}

static kwr_sim_fault fault_of(const char *name, size_t size) {
    for (unsigned f = 1; f < KWR_SIM_FAULTS; f++)
        if (strlen(fault_names[f]) == size && memcmp(fault_names[f], name, size) == 0)
            return (kwr_sim_fault)f;
    return KWR_SIM_NO_FAULT;
}

kwr_sim_strike *kwr_sim_strikes_parse(const char *text, size_t *count) {
    kwr_sim_strike *list = kwr_sim_must(malloc((strlen(text) / 4 + 1) * sizeof *list));
    *count = 0;
    while (*text != '\0') {
        const size_t name = strcspn(text, "@");
        kwr_sim_strike strike = { .fault = fault_of(text, name) };
        char *end;
        if (text[name] != '@' || strike.fault == KWR_SIM_NO_FAULT || text[name + 1] < '0' ||
            text[name + 1] > '9')
            goto bad;
        strike.nth = strtoull(text + name + 1, &end, 10);
        if (*end == '/') strike.detail = (uint32_t)strtoul(end + 1, &end, 10);
        if (*end != ',' && *end != '\0') goto bad;
        list[(*count)++] = strike;
        text = *end == ',' ? end + 1 : end;
    }
    return list;
bad:
    free(list);
    return NULL;
}

/* ---- errors the simulated system reports ---- */

kwr_status kwr_sim_status_of(int sys_errno) {
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT: return KWR_ERR_NOSPACE;
    case ENOMEM: return KWR_ERR_NOMEM;
    case ENOENT: return KWR_ERR_MISSING;
    case EEXIST: return KWR_ERR_EXISTS;
    case ENOTDIR:
    case EISDIR:
    case ELOOP: return KWR_ERR_MISMATCH;
    case ENAMETOOLONG: return KWR_ERR_RANGE;
    case ENOSYS:
    case EOPNOTSUPP: return KWR_ERR_UNSUPPORTED;
    default: return KWR_ERR_IO;
    }
}

kwr_status kwr_sim_error(kwr_error *err, kwr_status status, int sys_errno, const char *format,
                         ...) {
    va_list arguments;
    if (err == NULL) return status;
    err->status = status;
    err->sys_errno = sys_errno;
    va_start(arguments, format);
    vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    return status;
}
