/* SPDX-License-Identifier: Apache-2.0 */
/* The engine `memory`: the page store. docs/page-store.md is its design. */
#ifndef KWR_BACKEND_MEMORY_MEMORY_ENGINE_H
#define KWR_BACKEND_MEMORY_MEMORY_ENGINE_H

#include "backend/engine.h"

extern const kwr_engine_ops kwr_memory_engine;

#endif /* KWR_BACKEND_MEMORY_MEMORY_ENGINE_H */
