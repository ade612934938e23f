/* SPDX-License-Identifier: Apache-2.0 */
/* Release beside acquire: scope-bound variables, and taking them over. */
#ifndef KWR_BASE_CLEANUP_H
#define KWR_BASE_CLEANUP_H

#include <stddef.h>

#define KWR_CLEANUP(fn) __attribute__((cleanup(fn)))

/* Defines fn##_p for KWR_CLEANUP on a variable of type T*. NULL is a no-op. */
#define KWR_DEFINE_CLEANUP(T, fn)                              \
    __attribute__((unused)) static inline void fn##_p(T **p) { \
        if (*p != NULL) {                                      \
            fn(*p);                                            \
            *p = NULL;                                         \
        }                                                      \
    }

/* Hands a scope-bound pointer to its new owner: the cleanup then sees NULL. */
#define KWR_TAKE(ptr)                   \
    __extension__({                     \
        __typeof__(ptr) taken_ = (ptr); \
        (ptr) = NULL;                   \
        taken_;                         \
    })

#endif /* KWR_BASE_CLEANUP_H */
