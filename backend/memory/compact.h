/* SPDX-License-Identifier: Apache-2.0 */
/* Memory given back by an idle owner: compact.c. */
#ifndef KWR_BACKEND_MEMORY_COMPACT_H
#define KWR_BACKEND_MEMORY_COMPACT_H

#include "backend/memory/store.h"

/* Goes on until `max_ns` after `begun_ns`; true: something is left to do. */
bool kwr_store_compact(kwr_engine *e, uint64_t begun_ns, uint64_t max_ns);

#endif /* KWR_BACKEND_MEMORY_COMPACT_H */
