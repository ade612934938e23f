/* SPDX-License-Identifier: Apache-2.0 */
/* The transport of a build without libcurl: it cannot be opened, so nothing else is reached. */
#include "base/error.h"
#include "snapshot/http.h"

static kwr_status no_http(kwr_error *err) {
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0,
                    "this build has no HTTP: build with libcurl (meson option http=enabled)");
}

kwr_status kwr_http_open(const kwr_env *env, const kwr_http_options *options, kwr_http **out,
                         kwr_error *err) {
    (void)env, (void)options, (void)out;
    return no_http(err);
}
void kwr_http_close(kwr_http *http) { (void)http; }
kwr_status kwr_http_perform(kwr_http *http, const kwr_http_request *request,
                            kwr_http_answer *answer, kwr_error *err) {
    (void)http, (void)request, (void)answer;
    return no_http(err);
}
kwr_status kwr_http_upload_open(kwr_http *http, const kwr_http_request *request,
                                kwr_http_upload **out, kwr_error *err) {
    (void)http, (void)request, (void)out;
    return no_http(err);
}
kwr_status kwr_http_upload_write(kwr_http_upload *upload, const void *data, size_t size,
                                 kwr_error *err) {
    (void)upload, (void)data, (void)size;
    return no_http(err);
}
kwr_status kwr_http_upload_end(kwr_http_upload *upload, kwr_http_answer *answer, kwr_error *err) {
    (void)upload, (void)answer;
    return no_http(err);
}
void kwr_http_upload_abort(kwr_http_upload *upload) { (void)upload; }
const char *kwr_http_header(const kwr_http_answer *answer, const char *name) {
    (void)answer, (void)name;
    return NULL;
}
void kwr_http_answer_free(kwr_http_answer *answer) {
    kwr_buffer_free(&answer->head);
    kwr_buffer_free(&answer->body);
    *answer = (kwr_http_answer){ 0 };
}
