/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storage whose bytes may only go so fast. Everything is passed on; writes and reads wait first,
 * whoever does them, until the bytes before them have had their time. What was not used is kept
 * for a tenth of a second, so that pauses of the caller's own do not add to those here.
 */
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"
#include "snapshot/retry.h"
#include "snapshot/storage.h"

#define NS_PER_S UINT64_C(1000000000)
#define KEPT_NS (NS_PER_S / 10)
/* At most so long in one go: a write of a tenth of a second is cut into pieces. */
#define PIECE_NS KEPT_NS

typedef struct lane {
    uint64_t rate;    /* bytes per second, 0: no limit */
    uint64_t free_ns; /* when all that was let through so far has had its time */
} lane;

typedef struct limited {
    kwr_storage base;
    const kwr_env *env;
    kwr_storage *inner;
    kwr_mutex mutex;
    lane writes, reads;
} limited;

static limited *of(kwr_storage *storage) { return (limited *)(void *)storage; }
static kwr_storage *inner_of(kwr_storage *storage) { return of(storage)->inner; }

/* How many of `size` bytes go next. */
static size_t piece_of(const lane *l, size_t size) {
    const uint64_t most = l->rate / (NS_PER_S / PIECE_NS);
    if (l->rate == 0 || size <= most) return size;
    return most == 0 ? 1 : (size_t)most;
}

/* Returns when `size` more bytes may go. */
static void take(limited *s, lane *l, size_t size) {
    if (l->rate == 0) return;
    const uint64_t now = s->env->clock->mono_ns(s->env->clock->ctx);
    const uint64_t cost = (uint64_t)((double)size * (double)NS_PER_S / (double)l->rate);
    kwr_mutex_lock(&s->mutex);
    if (now > KEPT_NS && l->free_ns < now - KEPT_NS) l->free_ns = now - KEPT_NS;
    const uint64_t begin = l->free_ns;
    l->free_ns += cost;
    kwr_mutex_unlock(&s->mutex);
    /* An executor that takes no more work is about to end: nothing is gained by waiting then. */
    if (begin > now) (void)kwr_wait_until(s->env, begin);
}

static void limited_close(kwr_storage *storage) {
    limited *s = of(storage);
    kwr_mutex_done(&s->mutex);
    kwr_free(s->env, s, sizeof *s);
}

static uint32_t limited_capabilities(kwr_storage *storage) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->capabilities(inner);
}

static kwr_status limited_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                   bool create, kwr_storage_dir **out, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->dir_open(inner, parent, name, create, out, err);
}

static void limited_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    kwr_storage *inner = inner_of(storage);
    inner->ops->dir_close(inner, dir);
}

static kwr_status limited_dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->dir_sync(inner, dir, err);
}

static kwr_status limited_list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                               kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->list(inner, dir, prefix, fn, fn_ctx, err);
}

static kwr_status limited_dir_remove(kwr_storage *storage, kwr_storage_dir *parent,
                                     const char *name, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->dir_remove(inner, parent, name, err);
}

static kwr_status limited_create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                 kwr_storage_writer **out, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->create(inner, dir, name, out, err);
}

static kwr_status limited_write(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                                size_t size, kwr_error *err) {
    limited *s = of(storage);
    const uint8_t *bytes = data;
    do {
        const size_t piece = piece_of(&s->writes, size);
        take(s, &s->writes, piece);
        KWR_TRY(s->inner->ops->write(s->inner, writer, bytes, piece, err));
        bytes += piece;
        size -= piece;
    } while (size > 0);
    return KWR_OK;
}

static kwr_status limited_finish(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->finish(inner, writer, err);
}

static void limited_abandon(kwr_storage *storage, kwr_storage_writer *writer) {
    kwr_storage *inner = inner_of(storage);
    inner->ops->abandon(inner, writer);
}

static kwr_status limited_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                               kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->open(inner, dir, name, out, size, err);
}

static kwr_status limited_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                               void *data, size_t size, kwr_error *err) {
    limited *s = of(storage);
    uint8_t *bytes = data;
    do {
        const size_t piece = piece_of(&s->reads, size);
        take(s, &s->reads, piece);
        KWR_TRY(s->inner->ops->read(s->inner, reader, offset, bytes, piece, err));
        bytes += piece;
        offset += piece;
        size -= piece;
    } while (size > 0);
    return KWR_OK;
}

static void limited_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    kwr_storage *inner = inner_of(storage);
    inner->ops->close_reader(inner, reader);
}

/* Commits do not wait behind data. */
static kwr_status limited_publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                  const void *data, size_t size, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->publish(inner, dir, name, data, size, err);
}

static kwr_status limited_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                 kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->remove(inner, dir, name, err);
}

static kwr_status limited_lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                               kwr_storage_lock **out, kwr_error *err) {
    kwr_storage *inner = inner_of(storage);
    return inner->ops->lock(inner, dir, name, out, err);
}

static void limited_unlock(kwr_storage *storage, kwr_storage_lock *lock) {
    kwr_storage *inner = inner_of(storage);
    inner->ops->unlock(inner, lock);
}

static void limited_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                             char *out, size_t capacity) {
    kwr_storage *inner = inner_of(storage);
    inner->ops->describe(inner, dir, name, out, capacity);
}

static kwr_status limited_unfinished(kwr_storage *storage, kwr_storage_dir *dir,
                                     kwr_unfinished_fn fn, void *ctx, kwr_error *err) {
    return kwr_storage_unfinished(inner_of(storage), dir, fn, ctx, err);
}

static kwr_status limited_unfinished_remove(kwr_storage *storage, kwr_storage_dir *dir,
                                            const char *path, const char *token, kwr_error *err) {
    return kwr_storage_unfinished_remove(inner_of(storage), dir, path, token, err);
}

static const kwr_storage_ops limited_ops = {
    .struct_size = sizeof limited_ops,
    .close = limited_close,
    .capabilities = limited_capabilities,
    .dir_open = limited_dir_open,
    .dir_close = limited_dir_close,
    .dir_sync = limited_dir_sync,
    .list = limited_list,
    .dir_remove = limited_dir_remove,
    .create = limited_create,
    .write = limited_write,
    .finish = limited_finish,
    .abandon = limited_abandon,
    .open = limited_open,
    .read = limited_read,
    .close_reader = limited_close_reader,
    .publish = limited_publish,
    .remove = limited_remove,
    .lock = limited_lock,
    .unlock = limited_unlock,
    .describe = limited_describe,
    .unfinished = limited_unfinished,
    .unfinished_remove = limited_unfinished_remove,
};

kwr_status kwr_storage_limited_open(const kwr_env *env, kwr_storage *storage,
                                    const kwr_storage_rates *rates, kwr_storage **out,
                                    kwr_error *err) {
    kwr_storage_rates r;
    if (env == NULL || storage == NULL || out == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_storage_limited_open: an argument is NULL");
    KWR_TRY(kwr_options_copy(rates, &r, sizeof r, "kwr_storage_rates", err));
    limited *s = kwr_calloc(env, sizeof *s);
    if (s == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory for a storage");
    s->base.ops = &limited_ops;
    s->env = env;
    s->inner = storage;
    s->writes.rate = r.write_bytes_per_second;
    s->reads.rate = r.read_bytes_per_second;
    kwr_mutex_init(&s->mutex);
    *out = &s->base;
    return KWR_OK;
}
