/* SPDX-License-Identifier: Apache-2.0 */
/* In a build without libcurl or expat. */
#include "base/error.h"
#include "snapshot/storage.h"

kwr_status kwr_storage_s3_open(const kwr_env *env, const char *uri, bool create, kwr_storage **out,
                               kwr_error *err) {
    (void)env;
    (void)uri;
    (void)create;
    (void)out;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                    "this build has no object stores: it was made without libcurl or expat");
}
