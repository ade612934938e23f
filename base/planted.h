/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planted mistakes: proof that the simulator finds what it is there to find. KWR_PLANTED(name) is
 * the constant false in every build but the one configured with -Dplanted=true, which is for
 * tests/sim alone: there the program that links the library says which mistake is on, if any.
 * The switch is a function of that program, so that the library has no state of its own; without
 * one no mistake is on. scripts/check-objects.py shows that other builds have no trace of it.
 */
#ifndef KWR_BASE_PLANTED_H
#define KWR_BASE_PLANTED_H

#ifdef KWR_PLANTED_BUILD

#include <stdbool.h>
#include <stddef.h>

#include "base/planted_table.h"

typedef enum kwr_planted_mistake {
    KWR_PLANTED_NONE,
#define KWR_PLANTED_ID(name, breaks, what) KWR_PLANTED_##name,
    KWR_PLANTED_TABLE(KWR_PLANTED_ID)
#undef KWR_PLANTED_ID
} kwr_planted_mistake;

/* The program's; not in the library. */
__attribute__((weak)) bool kwr_planted_is_on(kwr_planted_mistake mistake);

#define KWR_PLANTED(name) (kwr_planted_is_on != NULL && kwr_planted_is_on(KWR_PLANTED_##name))

#else
#define KWR_PLANTED(name) false
#endif

#endif /* KWR_BASE_PLANTED_H */
