/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical snapshots: what a view holds as images of one kind (KWR_PAGE_ENTRIES) in one order, the
 * same bytes whichever engine holds it. docs/format.md has the layout and the order.
 */
#ifndef KWR_BACKEND_CANONICAL_H
#define KWR_BACKEND_CANONICAL_H

#include "backend/view.h"

/* The format's name in manifests. Every engine's entries can be put from it. */
#define KWR_CANONICAL_FORMAT "entries-1"

/*
 * Every entry of one key group, state after state. An engine whose walk does not meet the entries
 * in the order (kwr_engine_ops.walks_in_order) has one state of the group sorted in memory at a
 * time. [any]
 */
kwr_status kwr_canonical_images(const kwr_view *view, uint32_t key_group, kwr_page_sink *sink);

/*
 * Which of two entries of one state and key group comes first: by size and bytes of the key, then
 * of the namespace, each size compared as the bytes of its varint. Below 0, 0, or above, as
 * memcmp().
 */
int kwr_canonical_compare(kwr_slice key_a, kwr_slice name_a, kwr_slice key_b, kwr_slice name_b);

#endif /* KWR_BACKEND_CANONICAL_H */
