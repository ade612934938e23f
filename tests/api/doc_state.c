/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/state.md quotes. It ends with 0 when all it says is true. */
#include <stdio.h>
#include <string.h>

#include <keyweir/keyweir.h>

static kwr_slice text(const char *string) { return (kwr_slice){ string, strlen(string) }; }

/* How often each user was seen in each window, and the page seen last. */
typedef struct app_states {
    kwr_reducing *visits;
    kwr_value *last_page;
} app_states;

static kwr_status open_states(kwr_backend *backend, app_states *out, kwr_error *err) {
    const kwr_reducing_descriptor visits = {
        .struct_size = sizeof visits,
        .name = "visits",
        .type = { .kind = KWR_TYPE_I64 },
        .namespace_type = { .kind = KWR_TYPE_I64 }, /* the window's start */
        .reduce = KWR_REDUCE_SUM,
    };
    const kwr_value_descriptor last_page = {
        .struct_size = sizeof last_page,
        .name = "last-page",
        .type = { .kind = KWR_TYPE_STRING },
    };
    kwr_status status = kwr_reducing_open(backend, &visits, &out->visits, err);
    if (status >= KWR_OK) status = kwr_value_open(backend, &last_page, &out->last_page, err);
    return status;
}

static kwr_status record(kwr_backend *backend, app_states *app, const char *user, const char *page,
                         int64_t window) {
    uint8_t name[8];
    const int64_t one = 1;
    kwr_key_from_i64(window, name);
    kwr_status status = kwr_backend_set_key(backend, text(user));
    if (status >= KWR_OK)
        status = kwr_reducing_set_namespace(app->visits, (kwr_slice){ name, sizeof name });
    if (status >= KWR_OK)
        status = kwr_reducing_add(app->visits, (kwr_slice){ &one, sizeof one }, NULL);
    if (status >= KWR_OK) status = kwr_value_put(app->last_page, text(page));
    return status;
}

/* The sum of what many users have in the present namespace, their entries fetched together. */
static kwr_status sum_of(kwr_key_batch *batch, app_states *app, const kwr_slice *users,
                         size_t count, int64_t *sum) {
    kwr_state *const states[] = { kwr_reducing_state(app->visits) };
    kwr_status status = kwr_key_batch_load(batch, users, NULL, count);
    if (status < KWR_OK) return status;
    kwr_key_batch_prefetch(batch, states, 1);
    *sum = 0;
    for (size_t i = 0; i < count; i++) {
        kwr_slice stored;
        int64_t visits;
        status = kwr_key_batch_select(batch, i);
        if (status >= KWR_OK) status = kwr_reducing_get(app->visits, &stored);
        if (status < KWR_OK) return status;
        if (status == KWR_NOT_FOUND) continue;
        memcpy(&visits, stored.data, sizeof visits);
        *sum += visits;
    }
    return KWR_OK;
}

static kwr_status run(kwr_backend *backend, kwr_error *err) {
    app_states app;
    kwr_status status = open_states(backend, &app, err);
    if (status < KWR_OK) return status;
    status = record(backend, &app, "ada", "/home", 1000);
    if (status >= KWR_OK) status = record(backend, &app, "ada", "/docs", 1000);
    if (status >= KWR_OK) status = record(backend, &app, "ben", "/home", 1000);
    if (status >= KWR_OK) status = record(backend, &app, "ada", "/home", 2000);
    if (status < KWR_OK) return status;

    /* The handle's namespace is still window 2000; ben has nothing there, nobody knows eve. */
    const kwr_slice users[] = { text("ada"), text("ben"), text("eve") };
    int64_t in_2000 = -1;
    int64_t in_1000 = -1;
    uint8_t name[8];
    kwr_key_batch *batch;
    status = kwr_key_batch_new(backend, 3, &batch);
    if (status >= KWR_OK) status = sum_of(batch, &app, users, 3, &in_2000);
    kwr_key_from_i64(1000, name);
    if (status >= KWR_OK)
        status = kwr_reducing_set_namespace(app.visits, (kwr_slice){ name, sizeof name });
    if (status >= KWR_OK) status = sum_of(batch, &app, users, 3, &in_1000);
    if (status < KWR_OK) return status;
    printf("window 1000: %lld visits, window 2000: %lld\n", (long long)in_1000, (long long)in_2000);

    kwr_slice page;
    status = kwr_backend_set_key(backend, text("ada"));
    if (status >= KWR_OK) status = kwr_value_get(app.last_page, &page);
    if (status < KWR_OK) return status;
    printf("ada was last on %.*s\n", (int)page.size, (const char *)page.data);
    return in_1000 == 3 && in_2000 == 1 && page.size == 5 ? KWR_OK : KWR_ERR_CORRUPT;
}

int main(void) {
    kwr_error err;
    kwr_env *env = NULL;
    kwr_backend *backend = NULL;
    kwr_status status = kwr_env_posix_open(NULL, &env, &err);
    if (status >= KWR_OK) {
        const kwr_backend_options options = { .struct_size = sizeof options, .env = env };
        status = kwr_backend_open(&options, &backend, &err);
    }
    if (status >= KWR_OK) {
        status = run(backend, &err);
        if (status < KWR_OK) err = *kwr_backend_error(backend);
    }
    if (status < KWR_OK) fprintf(stderr, "%s: %s\n", kwr_status_name(status), err.text);
    kwr_backend_close(backend);
    kwr_env_posix_close(env);
    return status < KWR_OK ? 1 : 0;
}
