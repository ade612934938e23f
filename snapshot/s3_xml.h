/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads an XML answer of an object store: no document type (so no entities but XML's own five), a
 * bounded depth, bounded texts. Pure but for memory, which the XML library takes for itself: not
 * more than a few times the answer, and that is bounded by the transport.
 */
#ifndef KWR_SNAPSHOT_S3_XML_H
#define KWR_SNAPSHOT_S3_XML_H

#include "base/memory.h"

enum { KWR_S3_XML_DEPTH_MAX = 8, KWR_S3_XML_TEXT_MAX = 4096, KWR_S3_XML_NAME_MAX = 63 };

/*
 * Called at the end of each element with the name of the one around it ("" for the root). `text`
 * is NULL when it held other elements. Names are without their namespace prefix. A failure ends
 * the reading with it.
 */
typedef kwr_status (*kwr_s3_element_fn)(void *ctx, const char *parent, const char *name,
                                        const char *text);

/* KWR_ERR_CORRUPT: no well-formed XML, cut off, or beyond the bounds; KWR_ERR_NOMEM. */
kwr_status kwr_s3_xml_read(const void *data, size_t size, kwr_s3_element_fn fn, void *ctx,
                           kwr_error *err);

#endif /* KWR_SNAPSHOT_S3_XML_H */
