/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's command for the job of this folder. */
#include "tests/sim/job.h"

#if defined(__SANITIZE_ADDRESS__)
/* A killed process gives nothing back: what it had from the environment is the simulator's to free,
 * what it had from libc, such as the sink's buffers, is lost. Leaks are an oracle's business here.
 */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }
#endif

int main(int argc, char **argv) { return kwr_sim_command(argc, argv, &sim_subject); }
