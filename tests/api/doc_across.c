/* SPDX-License-Identifier: Apache-2.0 */
/* The program docs/across-keys.md quotes. It ends with 0 when all it says is true. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <keyweir/keyweir.h>

static kwr_slice text(const char *string) { return (kwr_slice){ string, strlen(string) }; }

/* ---- which keys are there ---- */

static kwr_status print_key(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    (void)key_group, (void)name;
    printf("known: %.*s\n", (int)key.size, (const char *)key.data);
    (*(int *)ctx)++;
    return KWR_OK;
}

/* ---- something for every key ---- */

/* Halves what the current key has, and forgets what has come down to nothing. */
static kwr_status halve(void *ctx, kwr_slice key, uint32_t key_group, kwr_slice name) {
    kwr_value *points = (kwr_value *)ctx;
    void *bytes;
    int64_t have;
    (void)key, (void)key_group, (void)name;
    kwr_status status = kwr_value_modify(points, KWR_KEEP_SIZE, &bytes, NULL);
    if (status < KWR_OK) return status;
    memcpy(&have, bytes, sizeof have);
    have /= 2;
    memcpy(bytes, &have, sizeof have);
    return have == 0 ? kwr_value_clear(points) : KWR_OK;
}

/* ---- a frozen view on another thread ---- */

typedef struct report {
    kwr_view *view;
    int64_t sum;
    kwr_status status;
} report;

static kwr_status add_up(void *ctx, const kwr_view_entry *entry) {
    int64_t points;
    memcpy(&points, entry->value.data, sizeof points);
    ((report *)ctx)->sum += points;
    return KWR_OK;
}

static void *write_report(void *ctx) {
    report *r = (report *)ctx;
    size_t state;
    r->status = kwr_view_find_state(r->view, "points", &state);
    const kwr_key_group_range groups = kwr_view_key_groups(r->view);
    for (uint32_t i = 0; i < groups.count && r->status == KWR_OK; i++)
        r->status = kwr_view_entries(r->view, state, groups.first + i, add_up, r, NULL);
    kwr_view_release(r->view);
    return NULL;
}

/* ---- all of it ---- */

static kwr_status give(kwr_backend *backend, kwr_value *points, const char *user, int64_t count) {
    kwr_status status = kwr_backend_set_key(backend, text(user));
    if (status >= KWR_OK) status = kwr_value_put(points, (kwr_slice){ &count, sizeof count });
    return status;
}

static kwr_status run(kwr_backend *backend, kwr_error *err) {
    const kwr_value_descriptor descriptor = { .struct_size = sizeof descriptor,
                                              .name = "points",
                                              .type = { .kind = KWR_TYPE_I64 } };
    kwr_value *points;
    kwr_status status = kwr_value_open(backend, &descriptor, &points, err);
    if (status >= KWR_OK) status = give(backend, points, "ada", 20);
    if (status >= KWR_OK) status = give(backend, points, "ben", 1);
    if (status >= KWR_OK) status = give(backend, points, "eve", 5);
    if (status < KWR_OK) return status;

    report r = { 0 };
    pthread_t thread;
    status = kwr_backend_freeze(backend, &r.view);
    if (status < KWR_OK) return status;
    if (pthread_create(&thread, NULL, write_report, &r) != 0) return KWR_ERR_NOMEM;

    /* Meanwhile the owner goes on. */
    int known = 0;
    kwr_state_size size = { .struct_size = sizeof size };
    status = kwr_state_apply(kwr_value_state(points), halve, points);
    if (status >= KWR_OK) status = kwr_state_keys(kwr_value_state(points), print_key, &known);
    if (status >= KWR_OK) status = kwr_state_get_size(kwr_value_state(points), &size);
    pthread_join(thread, NULL);
    if (status < KWR_OK) return status;
    printf("%lld points before, %llu entries now\n", (long long)r.sum,
           (unsigned long long)size.entries);
    return r.status == KWR_OK && r.sum == 26 && known == 2 && size.entries == 2 ? KWR_OK
                                                                                : KWR_ERR_CORRUPT;
}

int main(void) {
    kwr_error err = { 0 };
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
    return status >= KWR_OK ? 0 : 1;
}
