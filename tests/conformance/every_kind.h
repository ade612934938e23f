/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend with state of every kind: keys and namespaces of many sizes, collections that fill
 * several images, and some that fill none. The same content can be reached in two ways.
 */
#ifndef CONFORMANCE_EVERY_KIND_H
#define CONFORMANCE_EVERY_KIND_H

#include "keyweir/keyweir.h"

enum { EVERY_KIND_GROUPS = 16, EVERY_KIND_SEED = 77 };

/* Options of a backend it fits; `directory` may be NULL. */
kwr_backend_options every_kind_options(const kwr_env *env, const char *engine,
                                       const char *directory);
/* `winding`: backwards, over what is then replaced, with keys that are then removed. */
kwr_status every_kind_fill(kwr_backend *backend, bool winding, kwr_error *err);

#endif /* CONFORMANCE_EVERY_KIND_H */
