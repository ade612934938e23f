/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/timers.md quotes. It ends with 0 when all it says is true. */
#include <stdio.h>
#include <string.h>

#include <keyweir/keyweir.h>

static kwr_slice text(const char *string) { return (kwr_slice){ string, strlen(string) }; }

/* Counts clicks of users in windows of ten seconds, and gives them out when a window has ended. */
typedef struct clicks {
    kwr_backend *backend;
    kwr_reducing *count; /* namespace: the window's start */
    kwr_timers *ends;    /* the same namespace */
    int lines;
    int64_t sum;
} clicks;

static kwr_status open_clicks(kwr_backend *backend, clicks *out, kwr_error *err) {
    const kwr_reducing_descriptor count = { .struct_size = sizeof count,
                                            .name = "clicks",
                                            .type = { .kind = KWR_TYPE_I64 },
                                            .namespace_type = { .kind = KWR_TYPE_I64 },
                                            .reduce = KWR_REDUCE_SUM };
    const kwr_timers_descriptor ends = {
        .struct_size = sizeof ends,
        .name = "window-ends",
        .namespace_type = { .kind = KWR_TYPE_I64 },
    };
    *out = (clicks){ .backend = backend };
    kwr_status status = kwr_reducing_open(backend, &count, &out->count, err);
    if (status >= KWR_OK) status = kwr_timers_open(backend, &ends, &out->ends, err);
    return status;
}

/* A record: counted in its window, which is to end at start + 10 s - 1 ms. */
static kwr_status clicked(clicks *c, const char *user, int64_t time_ms) {
    const int64_t one = 1;
    const int64_t start = time_ms - time_ms % 10000;
    uint8_t window[8];
    kwr_key_from_i64(start, window);
    const kwr_slice name = { window, sizeof window };
    kwr_status status = kwr_backend_set_key(c->backend, text(user));
    if (status >= KWR_OK) status = kwr_reducing_set_namespace(c->count, name);
    if (status >= KWR_OK)
        status = kwr_reducing_add(c->count, (kwr_slice){ &one, sizeof one }, NULL);
    if (status >= KWR_OK) status = kwr_timers_set_namespace(c->ends, name);
    if (status >= KWR_OK) status = kwr_timers_register(c->ends, KWR_EVENT_TIME, start + 9999);
    return status;
}

/* The window of a timer has ended; its key is current. */
static kwr_status ended(clicks *c, const kwr_timer *timer) {
    kwr_slice stored;
    int64_t count;
    kwr_status status = kwr_reducing_set_namespace(c->count, timer->name);
    if (status >= KWR_OK) status = kwr_reducing_get(c->count, &stored);
    if (status != KWR_OK) return status;
    memcpy(&count, stored.data, sizeof count);
    printf("%.*s: %lld clicks until %lld\n", (int)timer->key.size, (const char *)timer->key.data,
           (long long)count, (long long)timer->time_ms);
    c->lines++;
    c->sum += count;
    return kwr_reducing_clear(c->count);
}

/* The task's watermark has advanced. */
static kwr_status advanced(clicks *c, int64_t watermark_ms) {
    kwr_timer timer;
    kwr_status status;
    while ((status = kwr_timers_pop_due(c->ends, KWR_EVENT_TIME, watermark_ms, &timer)) == KWR_OK) {
        status = ended(c, &timer);
        if (status < KWR_OK) break;
    }
    return status < KWR_OK ? status : KWR_OK;
}

static kwr_status run(clicks *c) {
    uint64_t left = 99;
    kwr_status status = clicked(c, "ada", 1000);
    if (status >= KWR_OK) status = clicked(c, "ben", 2500);
    if (status >= KWR_OK) status = clicked(c, "ada", 7000);
    if (status >= KWR_OK) status = clicked(c, "ada", 12000);
    if (status >= KWR_OK) status = advanced(c, 9998);
    if (status < KWR_OK || c->lines != 0) return KWR_ERR_CORRUPT;
    status = advanced(c, 11000);
    if (status >= KWR_OK) status = kwr_timers_count(c->ends, KWR_EVENT_TIME, &left);
    if (status < KWR_OK || c->lines != 2 || c->sum != 3 || left != 1) return KWR_ERR_CORRUPT;
    return advanced(c, KWR_TIME_END);
}

int main(void) {
    kwr_error err;
    kwr_env *env = NULL;
    kwr_backend *backend = NULL;
    clicks c = { 0 };
    kwr_status status = kwr_env_posix_open(NULL, &env, &err);
    if (status >= KWR_OK) {
        const kwr_backend_options options = { .struct_size = sizeof options, .env = env };
        status = kwr_backend_open(&options, &backend, &err);
    }
    if (status >= KWR_OK) status = open_clicks(backend, &c, &err);
    if (status >= KWR_OK) {
        status = run(&c);
        if (status < KWR_OK) err = *kwr_backend_error(backend);
    }
    if (status < KWR_OK) fprintf(stderr, "%s: %s\n", kwr_status_name(status), err.text);
    kwr_backend_close(backend);
    kwr_env_posix_close(env);
    return status >= KWR_OK && c.lines == 3 && c.sum == 4 ? 0 : 1;
}
