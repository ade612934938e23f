/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status values, error detail and borrowed bytes: the vocabulary of every other header.
 *
 * Rules that hold in the whole library and are not repeated at each function:
 *
 * Threads. An object belongs to one thread at a time, its "owner"; it may move between threads
 * when no call is running. [owner] marks calls of that thread, [any] calls that any thread may
 * make at any time. Unmarked functions are [owner]. Distinct objects share nothing but the
 * kwr_env and kwr_resources given to them, which are safe to share.
 *
 * Ownership. `T **out` hands the caller a new object, released by the matching _close or _free;
 * both accept NULL. A kwr_slice passed in is read during the call and never kept. A kwr_slice
 * handed out is borrowed; each function says until when.
 *
 * Errors. A failed call leaves its out-parameters untouched and, unless its description says
 * otherwise, changed nothing. `kwr_error *err` may be NULL.
 *
 * Units. Sizes are bytes, names end in _ms or _ns for durations and times. Times of events and
 * timers are signed milliseconds; KWR_TIME_NONE, the smallest, is none.
 */
#ifndef KEYWEIR_STATUS_H
#define KEYWEIR_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KWR_TIME_NONE INT64_MIN

#define KWR_VERSION_MAJOR 0
#define KWR_VERSION_MINOR 1
#define KWR_VERSION_PATCH 0

#define KWR_API __attribute__((visibility("default")))
#define KWR_CHECK __attribute__((warn_unused_result))

/* "major.minor.patch" of the library that runs, static storage. [any] */
KWR_API const char *kwr_version(void);

/*
 * Result of every call that can fail. 0 is success, > 0 success with news, < 0 failure. Failures
 * are grouped by what the caller does next, see kwr_status_action(). Values are part of the ABI:
 * appended to, never renumbered.
 */
typedef enum kwr_status {
    KWR_NOT_FOUND = 1, /* nothing is stored there, or nothing is left */
    KWR_OK = 0,

    /* retry: nothing changed, the same call may succeed later */
    KWR_ERR_BUSY = -1,         /* something else is in progress */
    KWR_ERR_IO = -2,           /* read, write, sync or rename failed */
    KWR_ERR_NOSPACE = -3,      /* storage or a quota is full */
    KWR_ERR_NOMEM = -4,        /* the allocator or the memory limit refused */
    KWR_ERR_TIMEOUT = -5,      /* a deadline passed */
    KWR_ERR_NOT_RESIDENT = -6, /* no-wait access: the load has been started */

    /* abandon: this checkpoint cannot complete, the running state is intact */
    KWR_ERR_CANCELLED = -20, /* cancelled or aborted by request */
    KWR_ERR_DECLINED = -21,  /* a task declined */

    /* stop: close, look at the cause, start again from a checkpoint */
    KWR_ERR_CORRUPT = -40,  /* stored bytes are damaged; the detail names file and offset */
    KWR_ERR_FORMAT = -41,   /* written by a version or feature this build cannot read */
    KWR_ERR_MISSING = -42,  /* a file that must be there is not */
    KWR_ERR_FENCED = -43,   /* a newer attempt of this job has taken over */
    KWR_ERR_UNKNOWN = -44,  /* the outcome of a publish is not known; the next attempt will see */
    KWR_ERR_POISONED = -45, /* an earlier failure left this object unusable */
    KWR_ERR_LOCKED = -46,   /* another live process holds the job */
    KWR_ERR_REFUSED = -47,  /* continuing could lose or double something; needs a human choice */

    /* fix the caller: nothing changed */
    KWR_ERR_MISUSE = -60,      /* wrong order, no current key, use after close */
    KWR_ERR_RANGE = -61,       /* a size, option or name outside its documented range */
    KWR_ERR_UNSUPPORTED = -62, /* this engine, storage or build cannot do that */
    KWR_ERR_MISMATCH = -63,    /* kind, type, parallelism or identity differs from what is stored */
    KWR_ERR_EXISTS = -64,      /* the name is taken */
} kwr_status;

typedef enum kwr_action {
    KWR_GO_ON = 0,      /* success */
    KWR_RETRY = 1,      /* nothing changed; try again later */
    KWR_ABANDON = 2,    /* give up this checkpoint, keep running */
    KWR_STOP = 3,       /* end this attempt; restore or ask a human */
    KWR_FIX_CALLER = 4, /* a mistake in the call or its options */
} kwr_action;

/* Name such as "KWR_ERR_IO"; static storage, never NULL. [any] */
KWR_API const char *kwr_status_name(kwr_status status);
/* What a caller that knows nothing else should do. [any] */
KWR_API kwr_action kwr_status_action(kwr_status status);

enum { KWR_ERROR_TEXT_MAX = 1024 };

/* Detail of one failure. Fixed size, so that reporting a failure never allocates. */
typedef struct kwr_error {
    kwr_status status;
    int sys_errno;                 /* errno of the failing system call, else 0 */
    char text[KWR_ERROR_TEXT_MAX]; /* NUL-terminated; names the file, state or option involved
                                      and says what to do; never holds user keys or values */
} kwr_error;

/* Borrowed bytes. */
typedef struct kwr_slice {
    const void *data; /* may be NULL only when size is 0 */
    size_t size;
} kwr_slice;

/* Bytes handed over to the caller; release with kwr_bytes_free(). */
typedef struct kwr_bytes {
    void *data;
    size_t size;
    const void *owner; /* the library's own */
} kwr_bytes;

/* Frees `bytes` and empties it. Empty is a no-op. [any] */
KWR_API void kwr_bytes_free(kwr_bytes *bytes);

#ifdef __cplusplus
}
#endif
#endif /* KEYWEIR_STATUS_H */
