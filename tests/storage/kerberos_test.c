/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kerberos against a real KDC (MIT's) on loopback: the client negotiates with the ticket of the
 * process, name nodes accept it with their keytab, and from then on a delegation token travels.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <gssapi/gssapi.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/storage.h"
#include "tests/storage/fake_hdfs.h"
#include "tests/support/kwr_test.h"

extern char **environ;

enum { PATH_BYTES = 512 };

typedef struct realm {
    char dir[PATH_BYTES - 64];
    pid_t kdc;
    int port;
    unsigned accepted, refused;
} realm;

/* ---- a realm of its own ---- */

static const char *in_dir(const realm *r, const char *name, char out[PATH_BYTES]) {
    snprintf(out, PATH_BYTES, "%s/%s", r->dir, name);
    return out;
}

static void write_text(const char *path, const char *format, ...) {
    FILE *file = fopen(path, "w");
    va_list list;
    cr_assert(file != NULL, "%s", path);
    va_start(list, format);
    vfprintf(file, format, list);
    va_end(list);
    cr_assert(fclose(file) == 0);
}

/* One that nobody listens on now. */
static int free_port(void) {
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
              getsockname(fd, (struct sockaddr *)&at, &size) == 0);
    close(fd);
    return ntohs(at.sin_port);
}

static int shell(const char *format, ...) {
    char command[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* kinit succeeds as soon as the KDC listens. */
static void kinit(const realm *r) {
    for (unsigned i = 0; i < 100; i++) {
        if (shell("echo password | kinit user >%s/kinit.log 2>&1", r->dir) == 0) return;
        usleep(100000);
    }
    cr_assert_fail("no ticket: see %s/kinit.log", r->dir);
}

static void begin(realm *r) {
    char path[PATH_BYTES], other[PATH_BYTES + 8];
    *r = (realm){ .port = free_port() };
    snprintf(r->dir, sizeof r->dir, "%s", kwr_test_path("realm"));
    cr_assert(shell("rm -rf '%s' && mkdir -p '%s'", r->dir, r->dir) == 0);
    write_text(in_dir(r, "krb5.conf", path),
               "[libdefaults]\n default_realm = TEST.EXAMPLE\n dns_lookup_kdc = false\n"
               " dns_lookup_realm = false\n rdns = false\n dns_canonicalize_hostname = false\n"
               "[realms]\n TEST.EXAMPLE = {\n  kdc = 127.0.0.1:%d\n }\n",
               r->port);
    write_text(in_dir(r, "kdc.conf", path),
               "[kdcdefaults]\n kdc_listen = 127.0.0.1:%d\n kdc_tcp_listen = 127.0.0.1:%d\n"
               "[realms]\n TEST.EXAMPLE = {\n  database_name = %s/principal\n"
               "  key_stash_file = %s/stash\n  max_life = 1h\n }\n"
               "[logging]\n kdc = FILE:%s/kdc.log\n",
               r->port, r->port, r->dir, r->dir, r->dir);
    setenv("KRB5_CONFIG", in_dir(r, "krb5.conf", path), 1);
    setenv("KRB5_KDC_PROFILE", in_dir(r, "kdc.conf", path), 1);
    setenv("KRB5_KTNAME", in_dir(r, "keytab", path), 1);
    snprintf(other, sizeof other, "FILE:%s", in_dir(r, "tickets", path));
    setenv("KRB5CCNAME", other, 1);
    setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
    cr_assert(shell("exec >'%s/make.log' 2>&1; kdb5_util create -s -P master && "
                    "kadmin.local -q 'addprinc -pw password user' && "
                    "kadmin.local -q 'addprinc -randkey HTTP/127.0.0.1' && "
                    "kadmin.local -q 'ktadd -k %s/keytab HTTP/127.0.0.1'",
                    r->dir, r->dir) == 0,
              "see %s/make.log", r->dir);
    char *const kdc[] = { "krb5kdc", "-n", NULL };
    cr_assert(posix_spawnp(&r->kdc, "krb5kdc", NULL, NULL, kdc, environ) == 0);
    kinit(r);
}

static void end(realm *r) {
    kill(r->kdc, SIGTERM);
    (void)waitpid(r->kdc, NULL, 0);
}

/* ---- the name node's side ---- */

static int sextet(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

static size_t decode(const char *text, uint8_t *out, size_t capacity) {
    uint32_t bits = 0;
    unsigned count = 0;
    size_t used = 0;
    for (; sextet(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)sextet(*text);
        count += 6;
        if (count < 8) continue;
        count -= 8;
        cr_assert(used < capacity);
        out[used++] = (uint8_t)(bits >> count);
    }
    return used;
}

/* Lets in who shows a ticket for this service; asks for one else. */
static bool accept_ticket(void *ctx, const loopback_request *request, loopback_reply *reply) {
    realm *r = ctx;
    char header[8192] = "";
    uint8_t token[8192];
    OM_uint32 minor = 0, major = GSS_S_FAILURE;
    if (loopback_header(request, "authorization", header, sizeof header) &&
        strncmp(header, "Negotiate ", 10) == 0) {
        gss_ctx_id_t context = GSS_C_NO_CONTEXT;
        gss_buffer_desc in = { decode(header + 10, token, sizeof token), token }, out = { 0 };
        gss_name_t name = GSS_C_NO_NAME;
        major =
            gss_accept_sec_context(&minor, &context, GSS_C_NO_CREDENTIAL, &in,
                                   GSS_C_NO_CHANNEL_BINDINGS, &name, NULL, &out, NULL, NULL, NULL);
        gss_buffer_desc shown = { 0 };
        if (major == GSS_S_COMPLETE &&
            gss_display_name(&minor, name, &shown, NULL) == GSS_S_COMPLETE)
            cr_assert(shown.length == 17 && memcmp(shown.value, "user@TEST.EXAMPLE", 17) == 0);
        (void)gss_release_buffer(&minor, &shown);
        (void)gss_release_buffer(&minor, &out);
        (void)gss_release_name(&minor, &name);
        (void)gss_delete_sec_context(&minor, &context, GSS_C_NO_BUFFER);
    }
    if (major == GSS_S_COMPLETE) {
        r->accepted++;
        return true;
    }
    r->refused++;
    snprintf(reply->headers, sizeof reply->headers, "WWW-Authenticate: Negotiate\r\n");
    loopback_text(reply, 401, "text/html", "%s", "<html>who are you?</html>");
    return false;
}

static fake_hdfs *guarded(realm *r, char *uri, size_t capacity, const char *more) {
    const fake_options options = { .token = "secret-token",
                                   .negotiate = accept_ticket,
                                   .negotiate_ctx = r };
    fake_hdfs *fake = fake_hdfs_open(&options);
    fake_hdfs_uri(fake, "/user/keyweir", uri, capacity);
    snprintf(uri + strlen(uri), capacity - strlen(uri), "retry_ms=300&auth=kerberos%s", more);
    return fake;
}

/* ---- the tests ---- */

KWR_TEST(kerberos, a_ticket_is_traded_for_a_token, .timeout = 120) {
    realm r;
    char uri[2048];
    kwr_error err = { 0 };
    kwr_storage *storage = NULL;
    begin(&r);
    fake_hdfs *fake = guarded(&r, uri, sizeof uri, "&cleartext_credentials=yes");
    KWR_MUST_ERR(kwr_storage_open(kwr_test_env(), uri, true, &storage, &err), err);
    KWR_MUST_ERR(kwr_storage_write_file(storage, NULL, "file", "content", 7, &err), err);
    cr_assert(fake_hdfs_count(fake, "/user/keyweir/file") == 1);
    cr_assert(r.accepted == 1, "%u tickets were shown", r.accepted);
    kwr_storage_close(storage);
    /* The token is given back, which takes the ticket again; no data node has seen it. */
    cr_assert(fake_hdfs_cancelled(fake) == 1 && r.accepted == 2);
    cr_assert(!fake_hdfs_token_leaked(fake) && fake_hdfs_foreign(fake) == 0);
    fake_hdfs_close(fake);
    end(&r);
}

KWR_TEST(kerberos, without_a_ticket_nothing_is_opened, .timeout = 120) {
    realm r;
    char uri[2048];
    kwr_error err = { 0 };
    kwr_storage *storage = NULL;
    begin(&r);
    cr_assert(shell("kdestroy -q") == 0);
    fake_hdfs *fake = guarded(&r, uri, sizeof uri, "&cleartext_credentials=yes");
    cr_assert(kwr_storage_open(kwr_test_env(), uri, true, &storage, &err) < KWR_OK);
    cr_assert(strstr(err.text, "401") != NULL && strstr(err.text, "klist") != NULL, "%s", err.text);
    cr_assert(r.accepted == 0 && fake_hdfs_count(fake, "/user/keyweir/") == 0);
    fake_hdfs_close(fake);
    /* Over plain HTTP only where somebody said so. */
    fake = guarded(&r, uri, sizeof uri, "");
    KWR_EXPECT_ERR(KWR_ERR_REFUSED, kwr_storage_open(kwr_test_env(), uri, true, &storage, &err),
                   err);
    cr_assert(strstr(err.text, "cleartext_credentials") != NULL, "%s", err.text);
    cr_assert(fake_hdfs_requests(fake) == 0);
    fake_hdfs_close(fake);
    end(&r);
}
