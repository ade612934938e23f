/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, redirects and the retry policy: pure functions. */
#include "snapshot/retry.h"
#include "snapshot/url.h"
#include "tests/support/kwr_test.h"

KWR_TEST(url, addresses_are_taken_apart) {
    kwr_url url = { 0 };
    kwr_error err = { 0 };
    char text[KWR_AUTHORITY_MAX + 1];
    KWR_MUST_ERR(kwr_url_parse("http://Node-1.example:9870/webhdfs/v1/x?op=OPEN", &url, &err), err);
    cr_assert(!url.tls && url.port == 9870 && strcmp(url.host, "node-1.example") == 0);
    cr_assert(strcmp(url.path, "/webhdfs/v1/x?op=OPEN") == 0);
    KWR_MUST_ERR(kwr_url_parse("https://h/", &url, &err), err);
    cr_assert(url.tls && url.port == 443);
    KWR_MUST_ERR(kwr_url_parse("http://[::1]:80/", &url, &err), err);
    cr_assert(url.literal6 && strcmp(url.host, "::1") == 0);
    kwr_url_authority(&url, text);
    cr_assert(strcmp(text, "[::1]:80") == 0, "%s", text);
}

KWR_TEST(url, anything_doubtful_in_an_address_is_refused_without_repeating_it) {
    static const char *const refused[] = {
        "",
        "ftp://h/",
        "HTTP://h/",
        "http:/h/",
        "http://",
        "http:///x",
        "http://h",
        "http://h?secret",
        "http://user:secret@h/",
        "http://h:0/",
        "http://h:65536/",
        "http://h:8x/",
        "http://h:/",
        "http://h:08/",
        "http://.h/",
        "http://-h/",
        "http://h h/",
        "http://h/secret secret",
        "http://h/secret\r\nX: y",
        "http://h/\tsecret",
        "http://h/\xc3\xa9secret",
        "http://h/#secret",
        "http://h\\@g/secret",
        "http://[::1/",
        "http://[::1]x/",
        "http://[]/",
        "http://[fe80::1%25eth0]/",
        "file:///etc/passwd",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        kwr_url url = { 0 };
        kwr_error err = { 0 };
        KWR_EXPECT_ERR(KWR_ERR_RANGE, kwr_url_parse(refused[i], &url, &err), err);
        if (strstr(refused[i], "user:") == NULL)
            cr_assert(strstr(err.text, "secret") == NULL, "%s", err.text);
        cr_assert(url.host[0] == '\0', "the out-parameter stays as it was");
    }
    char *longest = malloc(KWR_URL_MAX + 20);
    memset(longest, 'a', KWR_URL_MAX + 19);
    longest[KWR_URL_MAX + 19] = '\0';
    memcpy(longest, "http://h/", 9);
    kwr_url url = { 0 };
    KWR_EXPECT(KWR_ERR_RANGE, kwr_url_parse(longest, &url, NULL));
    memcpy(longest, "http://", 7);
    memset(longest + 7, 'h', 300);
    longest[307] = '/';
    longest[308] = '\0';
    KWR_EXPECT(KWR_ERR_RANGE, kwr_url_parse(longest, &url, NULL));
    free(longest);
}

KWR_TEST(url, percent_encoding_goes_both_ways_and_bad_escapes_are_refused) {
    kwr_buffer out = { .env = kwr_test_env() };
    char every[256];
    for (int i = 0; i < 256; i++)
        every[i] = (char)i;
    kwr_url_encode(&out, every + 1, 255, false);
    for (size_t i = 0; i < out.size; i++)
        cr_assert(out.data[i] > ' ' && out.data[i] < 127 && strchr("/?&=+#", out.data[i]) == NULL);
    size_t size = out.size;
    cr_assert(kwr_url_decode((char *)out.data, &size));
    cr_assert(size == 255 && memcmp(out.data, every + 1, 255) == 0);
    kwr_buffer_free(&out);
    kwr_url_encode(&out, "a/b c%", 6, true);
    cr_assert(out.size == 10 && memcmp(out.data, "a/b%20c%25", 10) == 0);
    kwr_buffer_free(&out);
    static const char *const bad[] = { "%", "%4", "%zz", "a%0", "%00" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[8];
        snprintf(text, sizeof text, "%s", bad[i]);
        size = strlen(text);
        cr_assert(!kwr_url_decode(text, &size), "%s", bad[i]);
    }
}

static kwr_status redirect(const char *from, const char *to, const char *allowed, kwr_error *err) {
    kwr_url a = { 0 }, b = { 0 };
    KWR_MUST(kwr_url_parse(from, &a, NULL));
    KWR_MUST(kwr_url_parse(to, &b, NULL));
    return kwr_url_check_redirect(&a, &b, "/webhdfs/v1/", allowed, "redirect", err);
}

KWR_TEST(url, redirects_stay_with_the_cluster) {
    static const struct {
        const char *from, *to, *allowed;
        bool followed;
    } rows[] = {
        { "http://nn.c.example:9870/", "http://nn.c.example:9864/webhdfs/v1/x", NULL, true },
        { "http://nn.c.example/", "http://dn7.c.example:9864/webhdfs/v1/x", NULL, true },
        { "http://localhost:1/", "http://127.0.0.1:2/webhdfs/v1/x", NULL, true },
        { "http://127.0.0.1:1/", "http://[::1]:2/webhdfs/v1/x", NULL, true },
        { "http://namenode:1/", "http://datanode3:2/webhdfs/v1/x", NULL, true },
        { "https://nn.c.example/", "https://dn.c.example/webhdfs/v1/x", NULL, true },
        /* elsewhere */
        { "http://nn.c.example/", "http://evil.example/webhdfs/v1/x", NULL, false },
        { "http://nn.example/", "http://dn.example/webhdfs/v1/x", NULL, false },
        { "http://nn.c.example/", "http://127.0.0.1/webhdfs/v1/x", NULL, false },
        { "http://localhost/", "http://nn/webhdfs/v1/x", NULL, false },
        { "http://nn/", "http://evil.example/webhdfs/v1/x", NULL, false },
        { "http://10.0.0.1/", "http://10.0.0.2/webhdfs/v1/x", NULL, false },
        { "http://nn.c.example/", "http://xc.example/webhdfs/v1/x", NULL, false },
        /* another scheme or path */
        { "https://nn.c.example/", "http://nn.c.example/webhdfs/v1/x", NULL, false },
        { "http://nn.c.example/", "https://nn.c.example/webhdfs/v1/x", NULL, false },
        { "http://nn.c.example/", "http://nn.c.example/other", "*", false },
        { "http://nn.c.example/", "http://nn.c.example/webhdfs/v2/x", "*", false },
        /* allowed by name */
        { "http://10.0.0.1/", "http://10.0.0.2:9864/webhdfs/v1/x", "10.0.0.3,10.0.0.2", true },
        { "http://10.0.0.1/", "http://10.0.0.2:9864/webhdfs/v1/x", "10.0.0.2:9864", true },
        { "http://10.0.0.1/", "http://10.0.0.2:9864/webhdfs/v1/x", "10.0.0.2:9865", false },
        { "http://10.0.0.1/", "http://10.0.0.20/webhdfs/v1/x", "10.0.0.2", false },
        { "http://nn/", "http://dn.a.example/webhdfs/v1/x", "*.a.example", true },
        { "http://nn/", "http://a.example/webhdfs/v1/x", "*.a.example", false },
        { "http://nn/", "http://xa.example/webhdfs/v1/x", "*.a.example", false },
        { "http://nn/", "http://any.where/webhdfs/v1/x", "*", true },
        { "http://nn/", "http://nn/webhdfs/v1/x", "other", false },
        { "http://nn/", "http://nn/webhdfs/v1/x", "", false },
        /* never */
        { "http://nn/", "http://169.254.169.254/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[fe80::1]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[::ffff:169.254.169.254]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[::ffff:a9fe:a9fe]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[0:0:0:0:0:FFFF:a9fe:a9fe]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[64:ff9b::a9fe:a9fe]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[2002:a9fe:a9fe::]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[::a9fe:a9fe]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[fd00:0ec2::254]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[febf:1::1]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[::]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[1:2:3]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[1::2::3]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[1:2:3:4:5:6:7:8:9]/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://[2001:db8::1]/webhdfs/v1/x", "*", true },
        { "http://nn/", "http://[fec0::1]/webhdfs/v1/x", "*", true },
        { "http://nn/", "http://nn/webhdfs/v1/../x", "*", false },
        { "http://nn/", "http://nn/webhdfs/v1/a/..", "*", false },
        { "http://nn/", "http://nn/webhdfs/v1/%2e%2E/x?op=OPEN", "*", false },
        { "http://nn/", "http://nn/webhdfs/v1/./x", "*", false },
        { "http://nn/", "http://nn/webhdfs/v1/..a/b..c/...", "*", true },
        { "http://nn/", "http://nn/webhdfs/v1/x?offset=/../", "*", true },
        { "http://nn/", "http://0.0.0.0/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://2852039166/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://0xa9fea9fe/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://169.254.43518/webhdfs/v1/x", "*", false },
        { "http://nn/", "http://169.254.169.254./webhdfs/v1/x", "*", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kwr_error err = { 0 };
        const kwr_status status = redirect(rows[i].from, rows[i].to, rows[i].allowed, &err);
        cr_assert(status == (rows[i].followed ? KWR_OK : KWR_ERR_REFUSED), "%s -> %s (%s)",
                  rows[i].from, rows[i].to, rows[i].allowed);
    }
    kwr_error err = { 0 };
    KWR_EXPECT(KWR_ERR_REFUSED,
               redirect("http://nn.c.example/",
                        "http://evil.example/webhdfs/v1/x?delegation=secret", NULL, &err));
    cr_assert(strstr(err.text, "redirect=evil.example") != NULL, "%s", err.text);
    cr_assert(strstr(err.text, "secret") == NULL, "%s", err.text);
}

KWR_TEST(retry, waits_double_with_jitter_up_to_a_bound_and_end) {
    const kwr_retry_policy policy = { 6, 100, 500, 100000 };
    static const uint64_t most[] = { 100, 200, 400, 500, 500 };
    for (int high = 0; high < 2; high++) {
        kwr_retry retry = kwr_retry_begin(&policy, 7);
        uint64_t wait = 0;
        for (size_t i = 0; i < 5; i++) {
            cr_assert(kwr_retry_next(&retry, 7, high ? most[i] / 2 : 0, 0, &wait));
            cr_assert(wait == (high ? most[i] : most[i] / 2), "try %zu waits %llu", i,
                      (unsigned long long)wait);
        }
        cr_assert(!kwr_retry_next(&retry, 7, 0, 0, &wait), "six tries are all");
    }
}

KWR_TEST(retry, no_try_begins_beyond_the_budget_of_time) {
    const kwr_retry_policy policy = { 100, 100, 500, 1000 };
    kwr_retry retry = kwr_retry_begin(&policy, 0);
    uint64_t wait = 0;
    cr_assert(kwr_retry_next(&retry, 850 * 1000000ull, 0, 0, &wait) && wait == 50);
    cr_assert(!kwr_retry_next(&retry, 950 * 1000000ull, 0, 0, &wait));
    cr_assert(!kwr_retry_next(&retry, 5000 * 1000000ull, 0, 0, &wait));
    retry = kwr_retry_begin(&policy, 0);
    cr_assert(kwr_retry_next(&retry, 0, 0, 900, &wait) && wait == 900, "what the server asks for");
    cr_assert(!kwr_retry_next(&retry, 200 * 1000000ull, 0, 900, &wait), "if there is that much");
    cr_assert(!kwr_retry_next(&retry, 0, 0, UINT64_MAX, &wait));
}

KWR_TEST(retry, waiting_takes_that_long_by_the_clock) {
    const kwr_env *env = kwr_test_env();
    const kwr_retry_policy policy = { 3, 20, 20, 60000 };
    kwr_retry retry = kwr_retry_begin(&policy, env->clock->mono_ns(env->clock->ctx));
    cr_assert(kwr_retry_wait(&retry, env, 0));
    cr_assert(kwr_retry_wait(&retry, env, 0));
    const uint64_t took = env->clock->mono_ns(env->clock->ctx) - retry.began_ns;
    cr_assert(took >= 20 * 1000000ull, "two waits of at least 10 ms: %llu",
              (unsigned long long)took);
    cr_assert(!kwr_retry_wait(&retry, env, 0), "that were all tries");
}
