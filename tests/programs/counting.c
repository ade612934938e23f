/* SPDX-License-Identifier: Apache-2.0 */
/* Every call passed on; the bytes of reads counted. */
#include "tests/programs/counting.h"

static kwr_storage *inner_of(kwr_storage *storage) { return ((counting *)storage)->inner; }

static void no_close(kwr_storage *storage) { (void)storage; }

static uint32_t capabilities(kwr_storage *storage) {
    kwr_storage *s = inner_of(storage);
    return s->ops->capabilities(s);
}
static kwr_status dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                           bool create, kwr_storage_dir **out, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->dir_open(s, parent, name, create, out, err);
}
static void dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    kwr_storage *s = inner_of(storage);
    s->ops->dir_close(s, dir);
}
static kwr_status dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->dir_sync(s, dir, err);
}
static kwr_status list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                       kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->list(s, dir, prefix, fn, fn_ctx, err);
}
static kwr_status dir_remove(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                             kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->dir_remove(s, parent, name, err);
}
static kwr_status create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                         kwr_storage_writer **out, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->create(s, dir, name, out, err);
}
static kwr_status write_bytes(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                              size_t size, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->write(s, writer, data, size, err);
}
static kwr_status finish(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->finish(s, writer, err);
}
static void abandon(kwr_storage *storage, kwr_storage_writer *writer) {
    kwr_storage *s = inner_of(storage);
    s->ops->abandon(s, writer);
}
static kwr_status open_file(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                            kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    atomic_fetch_add(&((counting *)storage)->files_opened, 1);
    return s->ops->open(s, dir, name, out, size, err);
}
static kwr_status read_bytes(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                             void *data, size_t size, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    atomic_fetch_add(&((counting *)storage)->bytes_read, size);
    return s->ops->read(s, reader, offset, data, size, err);
}
static void close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    kwr_storage *s = inner_of(storage);
    s->ops->close_reader(s, reader);
}
static kwr_status publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                          const void *data, size_t size, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->publish(s, dir, name, data, size, err);
}
static kwr_status remove_file(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->remove(s, dir, name, err);
}
static kwr_status lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                       kwr_storage_lock **out, kwr_error *err) {
    kwr_storage *s = inner_of(storage);
    return s->ops->lock(s, dir, name, out, err);
}
static void unlock(kwr_storage *storage, kwr_storage_lock *held) {
    kwr_storage *s = inner_of(storage);
    s->ops->unlock(s, held);
}
static void describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                     size_t capacity) {
    kwr_storage *s = inner_of(storage);
    s->ops->describe(s, dir, name, out, capacity);
}

static const kwr_storage_ops counting_ops = {
    .struct_size = sizeof counting_ops,
    .close = no_close,
    .capabilities = capabilities,
    .dir_open = dir_open,
    .dir_close = dir_close,
    .dir_sync = dir_sync,
    .list = list,
    .dir_remove = dir_remove,
    .create = create,
    .write = write_bytes,
    .finish = finish,
    .abandon = abandon,
    .open = open_file,
    .read = read_bytes,
    .close_reader = close_reader,
    .publish = publish,
    .remove = remove_file,
    .lock = lock,
    .unlock = unlock,
    .describe = describe,
};

void counting_init(counting *c, kwr_storage *inner) {
    c->base.ops = &counting_ops;
    c->inner = inner;
    atomic_init(&c->bytes_read, 0);
    atomic_init(&c->files_opened, 0);
}
