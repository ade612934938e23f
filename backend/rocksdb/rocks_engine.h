/* SPDX-License-Identifier: Apache-2.0 */
/* The engine `rocksdb`: state on local disk, beyond memory. docs/rocksdb.md says how. */
#ifndef KWR_BACKEND_ROCKSDB_ROCKS_ENGINE_H
#define KWR_BACKEND_ROCKSDB_ROCKS_ENGINE_H

#include "backend/engine.h"

extern const kwr_engine_ops kwr_rocksdb_engine;

#endif /* KWR_BACKEND_ROCKSDB_ROCKS_ENGINE_H */
