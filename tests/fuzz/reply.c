/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of WebHDFS servers and the URLs they redirect to; the first byte says which. */
#include "tests/fuzz/fuzz.h"

#include "snapshot/url.h"
#include "snapshot/webhdfs_reply.h"

static kwr_status on_name(void *ctx, const char *name) {
    (void)ctx;
    FUZZ_MUST(name[0] != '\0' && strchr(name, '/') == NULL);
    return KWR_OK;
}

/* The same address as a redirect from an honest one, under every kind of rule. */
static void check_redirects(const char *text) {
    static const char *const rules[] = { NULL, "*", "*.example", "dn1.example:9864,dn2" };
    static const char *const origins[] = { "http://nn.a.example:9870/webhdfs/v1/",
                                           "http://127.0.0.1:9870/", "https://namenode:1/" };
    kwr_url from, to;
    kwr_error err = { 0 };
    if (kwr_url_parse(text, &to, &err) < KWR_OK) return;
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
        FUZZ_MUST(kwr_url_parse(origins[i], &from, &err) == KWR_OK);
        for (size_t j = 0; j < sizeof rules / sizeof *rules; j++) {
            const kwr_status status =
                kwr_url_check_redirect(&from, &to, "/webhdfs/v1/", rules[j], "option", &err);
            FUZZ_MUST(status == KWR_OK || status == KWR_ERR_REFUSED);
            FUZZ_MUST(status == KWR_ERR_REFUSED ||
                      (to.tls == from.tls && strncmp(to.path, "/webhdfs/v1/", 12) == 0));
        }
    }
    kwr_buffer encoded = { .env = fuzz_env() };
    kwr_url_encode(&encoded, text, strlen(text), true);
    kwr_buffer_free(&encoded);
}

static void read_url(const uint8_t *data, size_t size) {
    char text[2048];
    kwr_url url = { 0 };
    kwr_error err = { 0 };
    if (size >= sizeof text) return;
    memcpy(text, data, size);
    text[size] = '\0';
    if (kwr_url_parse(text, &url, &err) == KWR_OK) {
        char authority[KWR_AUTHORITY_MAX + 1];
        kwr_url_authority(&url, authority);
        FUZZ_MUST(strpbrk(authority, "/\r\n @") == NULL);
    } else {
        FUZZ_MUST(err.text[0] != '\0');
    }
    check_redirects(text);
    size_t length = size;
    (void)kwr_url_decode(text, &length);
    FUZZ_MUST(length <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    const kwr_slice body = { data + 1, size - 1 };
    kwr_webhdfs_error error;
    kwr_webhdfs_status status;
    char token[512], last[KWR_WEBHDFS_NAME_MAX + 1];
    bool yes;
    uint64_t left;
    switch (data[0] % 6) {
    case 0:
        for (int code = 300; code < 600; code += 50)
            kwr_webhdfs_read_error(code + 3, body, &error);
        FUZZ_MUST(memchr(error.exception, 0, sizeof error.exception) != NULL);
        FUZZ_MUST(memchr(error.message, 0, sizeof error.message) != NULL);
        break;
    case 1: (void)kwr_webhdfs_read_boolean(body, &yes); break;
    case 2: (void)kwr_webhdfs_read_status(body, &status); break;
    case 3: (void)kwr_webhdfs_read_token(body, token, sizeof token); break;
    case 4: (void)kwr_webhdfs_read_listing(body, on_name, NULL, last, &left); break;
    default: read_url(data + 1, size - 1); break;
    }
    return 0;
}
