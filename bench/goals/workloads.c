/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/goals/goals.h"
void goals_workloads(goals *g) { goals_not_yet(g, "P13", "workloads"); }
