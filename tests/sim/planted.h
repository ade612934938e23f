/* SPDX-License-Identifier: Apache-2.0 */
/* Which planted mistake is on (base/planted.h). */
#ifndef KWR_TEST_SIM_PLANTED_H
#define KWR_TEST_SIM_PLANTED_H

#include <stdbool.h>

#ifdef SIM_PLANTED
/* While oracles look at the disk, no mistake is on. */
void sim_mistakes_pause(bool on);
#else
static inline void sim_mistakes_pause(bool on) { (void)on; }
#endif

#endif /* KWR_TEST_SIM_PLANTED_H */
