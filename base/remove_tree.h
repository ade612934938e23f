/* SPDX-License-Identifier: Apache-2.0 */
/* A directory with all it holds, removed. */
#ifndef KWR_BASE_REMOVE_TREE_H
#define KWR_BASE_REMOVE_TREE_H

#include "keyweir/env.h"

enum { KWR_TREE_DEPTH_MAX = 8 };

/*
 * Removes everything below `dir`, which stays. Names that vanish meanwhile are fine. Directories
 * deeper than KWR_TREE_DEPTH_MAX are KWR_ERR_RANGE; other failures are those of the file system,
 * and leave the rest.
 */
kwr_status kwr_remove_tree(const kwr_env *env, kwr_dir *dir, kwr_error *err);

#endif /* KWR_BASE_REMOVE_TREE_H */
