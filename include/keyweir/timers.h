/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers: a time, a key and a namespace, kept until it is due. They are state like any other: part
 * of every checkpoint, and with their key group when the parallelism changes.
 *
 * Nothing calls back. The task pops what is due, when its watermark has advanced or its clock has,
 * and does for each timer what it does for a record: the key is current already.
 */
#ifndef KEYWEIR_TIMERS_H
#define KEYWEIR_TIMERS_H

#include "keyweir/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kwr_timers kwr_timers;

typedef enum kwr_time_domain {
    KWR_EVENT_TIME = 0,      /* against the watermark, see keyweir/watermark.h */
    KWR_PROCESSING_TIME = 1, /* against a clock of the engine's, for instance the wall clock */
} kwr_time_domain;

typedef struct kwr_timers_descriptor {
    size_t struct_size;
    const char *name; /* 1..255 bytes of UTF-8 with the prefix below */
    kwr_type namespace_type;
} kwr_timers_descriptor;

/*
 * Timers of both domains under one name. They are kept as two states, "timers/event/<name>" and
 * "timers/processing/<name>", which count for limits.states_max. Opening a name twice gives the
 * same handle; KWR_ERR_MISMATCH with another namespace type, or when a state of another kind has
 * such a name; KWR_ERR_UNSUPPORTED: the engine has no ordered state. When only the second of the
 * two fails, the first may stay, without timers.
 */
KWR_API KWR_CHECK kwr_status kwr_timers_open(kwr_backend *backend,
                                             const kwr_timers_descriptor *descriptor,
                                             kwr_timers **out, kwr_error *err);
/* As kwr_value_set_namespace(): for what is registered and deleted. */
KWR_API KWR_CHECK kwr_status kwr_timers_set_namespace(kwr_timers *timers, kwr_slice name);

/*
 * Registers a timer for the current key and the handle's namespace. The same time, key and
 * namespace twice is one timer. Any time will do, but for KWR_TIME_NONE (KWR_ERR_RANGE): one of the
 * past is due at once. Fails with KWR_ERR_MISUSE (no current key), KWR_ERR_NOMEM.
 */
KWR_API KWR_CHECK kwr_status kwr_timers_register(kwr_timers *timers, kwr_time_domain domain,
                                                 int64_t time_ms);
/* Deletes that one timer; deleting what is not there is KWR_OK. Fails as register does. */
KWR_API KWR_CHECK kwr_status kwr_timers_delete(kwr_timers *timers, kwr_time_domain domain,
                                               int64_t time_ms);

typedef struct kwr_timer {
    int64_t time_ms;
    uint32_t key_group;
    kwr_slice key;
    kwr_slice name; /* the namespace */
} kwr_timer;

/*
 * Removes the first timer that is due, that is of a time <= `up_to_ms`, and makes its key current;
 * the namespaces of handles stay as they are. Key and namespace are borrowed until the next pop of
 * this domain. KWR_NOT_FOUND: none is due, the current key stays.
 *
 * Call it until then: what is registered meanwhile and due comes in the same loop, in its place.
 * Order: by time, at one time by the bytes of key length, key and namespace, whatever the key
 * groups owned. KWR_ERR_CORRUPT: a timer does not belong where it is stored.
 */
KWR_API KWR_CHECK kwr_status kwr_timers_pop_due(kwr_timers *timers, kwr_time_domain domain,
                                                int64_t up_to_ms, kwr_timer *out);
/* The first timer, which stays; borrowed until the next call on the handle. The current key does
 * not change. KWR_NOT_FOUND: there is none. */
KWR_API KWR_CHECK kwr_status kwr_timers_next(kwr_timers *timers, kwr_time_domain domain,
                                             kwr_timer *out);
/* Its time, KWR_TIME_NONE when there is none: what to set an alarm to. After a restore this may be
 * a time long past. */
KWR_API KWR_CHECK kwr_status kwr_timers_next_time(kwr_timers *timers, kwr_time_domain domain,
                                                  int64_t *out);
/* How many there are, by a look at every owned key group. */
KWR_API KWR_CHECK kwr_status kwr_timers_count(kwr_timers *timers, kwr_time_domain domain,
                                              uint64_t *out);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_TIMERS_H */
