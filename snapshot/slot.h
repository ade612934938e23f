/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a commit-log slot (docs/format.md): one line of JSON, one line with its digest. */
#ifndef KWR_SNAPSHOT_SLOT_H
#define KWR_SNAPSHOT_SLOT_H

#include "snapshot/log.h"

/* Fills slot->digest too. KWR_ERR_MISUSE names a field that no reader would accept. */
kwr_status kwr_slot_encode(const kwr_env *env, kwr_slot *slot, kwr_bytes *out, kwr_error *err);
/*
 * Only bytes that kwr_slot_encode() could have made; `what` names the file in messages.
 * KWR_ERR_CORRUPT with the offset, KWR_ERR_FORMAT for another version, KWR_ERR_NOMEM.
 */
kwr_status kwr_slot_decode(const kwr_env *env, kwr_slice bytes, const char *what, kwr_slot *out,
                           kwr_error *err);

#endif /* KWR_SNAPSHOT_SLOT_H */
