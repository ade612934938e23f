/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage in memory, private to one object: for tests, and for jobs that need no durability. One
 * mutex guards the tree of names and the byte count; what a file holds is written by its only
 * writer and read after it is finished, so copying bytes needs no lock.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/thread.h"
#include "snapshot/storage.h"

enum { CHUNK_MIN = 4096, CHUNK_MAX = 1024 * 1024 };

typedef struct chunk {
    uint64_t start; /* offset of its first byte in the file */
    uint8_t *data;
    size_t used;
    size_t capacity;
} chunk;

/* A file or a directory; lives while a name or a handle refers to it. */
typedef struct node {
    uint64_t references;
    bool directory;
    bool finished; /* files: may be opened */
    bool locked;
    bool removed;        /* no name leads here any more */
    struct node *parent; /* for paths in messages; a reference while set */
    char name[KWR_STORAGE_NAME_MAX + 1];
    /* directories: sorted by name */
    struct node **children;
    size_t child_count;
    size_t child_capacity;
    /* files */
    chunk *chunks;
    size_t chunk_count;
    size_t chunk_capacity;
    uint64_t size;
} node;

typedef struct memory_storage {
    kwr_storage base;
    const kwr_env *env;
    uint64_t bytes_max;
    uint64_t bytes; /* held by files, unfinished and unlinked ones included */
    kwr_mutex mutex;
    node *root;
} memory_storage;

struct kwr_storage_dir {
    node *node;
};

struct kwr_storage_writer {
    node *node;
    kwr_status failed;
};

struct kwr_storage_reader {
    node *node;
};

struct kwr_storage_lock {
    node *node;
};

static memory_storage *self_of(kwr_storage *storage) { return (memory_storage *)storage; }
static node *node_of(memory_storage *self, kwr_storage_dir *dir) {
    return dir == NULL ? self->root : dir->node;
}

/* ---- nodes; all under the mutex ---- */

static node *node_new(memory_storage *self, node *parent, const char *name, bool directory) {
    node *made = kwr_calloc(self->env, sizeof *made);
    if (made == NULL) return NULL;
    made->references = 1;
    made->directory = directory;
    made->parent = parent;
    if (parent != NULL) parent->references++;
    snprintf(made->name, sizeof made->name, "%s", name);
    return made;
}

static void node_release(memory_storage *self, node *gone) {
    while (gone != NULL && --gone->references == 0) {
        for (size_t i = 0; i < gone->chunk_count; i++)
            kwr_free(self->env, gone->chunks[i].data, gone->chunks[i].capacity);
        kwr_free(self->env, gone->chunks, gone->chunk_capacity * sizeof *gone->chunks);
        kwr_free(self->env, gone->children, gone->child_capacity * sizeof(node *));
        self->bytes -= gone->size;
        node *parent = gone->parent;
        kwr_free(self->env, gone, sizeof *gone);
        gone = parent;
    }
}

/* Position of `name` among the children, or where it belongs. */
static bool child_find(const node *dir, const char *name, size_t *at) {
    size_t low = 0, high = dir->child_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(dir->children[middle]->name, name);
        if (order == 0) {
            *at = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    return false;
}

/* Takes over the caller's reference to `child`. */
static bool child_insert(memory_storage *self, node *dir, size_t at, node *child) {
    void *items = dir->children;
    if (!kwr_grow_array(self->env, &items, &dir->child_capacity, dir->child_count + 1,
                        sizeof(node *)))
        return false;
    dir->children = items;
    memmove(dir->children + at + 1, dir->children + at, (dir->child_count - at) * sizeof(node *));
    dir->children[at] = child;
    dir->child_count++;
    return true;
}

static void child_erase(memory_storage *self, node *dir, size_t at) {
    node *gone = dir->children[at];
    dir->child_count--;
    memmove(dir->children + at, dir->children + at + 1, (dir->child_count - at) * sizeof(node *));
    gone->removed = true;
    node_release(self, gone);
}

static void node_path(const node *of, const char *name, char *out, size_t capacity) {
    const node *up[8];
    size_t count = 0;
    for (; of != NULL && of->parent != NULL && count < 8; of = of->parent)
        up[count++] = of;
    size_t at = (size_t)snprintf(out, capacity, "memory:");
    while (count > 0 && at < capacity)
        at += (size_t)snprintf(out + at, capacity - at, "/%s", up[--count]->name);
    if (name != NULL && at < capacity) snprintf(out + at, capacity - at, "/%s", name);
}

static kwr_status fail_at(const node *dir, const char *name, kwr_status status, const char *what,
                          kwr_error *err) {
    char path[KWR_STORAGE_PATH_MAX];
    node_path(dir, name, path, sizeof path);
    return KWR_FAIL(err, status, 0, "'%s': %s", path, what);
}

/* ---- directories ---- */

static void free_tree(memory_storage *self) {
    /* Without recursion: empties the deepest directory first. */
    node *at = self->root;
    while (at != NULL) {
        if (at->child_count > 0 && at->children[at->child_count - 1]->directory &&
            at->children[at->child_count - 1]->child_count > 0) {
            at = at->children[at->child_count - 1];
        } else if (at->child_count > 0) {
            child_erase(self, at, at->child_count - 1);
        } else {
            at = at->parent;
        }
    }
    node_release(self, self->root);
}

static void memory_close(kwr_storage *storage) {
    memory_storage *self = self_of(storage);
    const kwr_env *env = self->env;
    free_tree(self);
    kwr_mutex_done(&self->mutex);
    kwr_free(env, self, sizeof *self);
}

static uint32_t memory_capabilities(kwr_storage *storage) {
    (void)storage;
    /* No other process sees it, so none can get in. */
    return KWR_STORAGE_LOCKS | KWR_STORAGE_RANDOM;
}

static kwr_status dir_open_locked(memory_storage *self, node *parent, const char *name, bool create,
                                  node **out, kwr_error *err) {
    size_t at = 0;
    if (child_find(parent, name, &at)) {
        if (!parent->children[at]->directory)
            return fail_at(parent, name, KWR_ERR_MISMATCH, "is a file, not a directory", err);
        *out = parent->children[at];
        (*out)->references++;
        return KWR_OK;
    }
    if (!create || parent->removed)
        return fail_at(parent, name, KWR_ERR_MISSING, "no such directory", err);
    node *made = node_new(self, parent, name, true);
    if (made == NULL || !child_insert(self, parent, at, made)) {
        node_release(self, made);
        return fail_at(parent, name, KWR_ERR_NOMEM, "no memory to make it", err);
    }
    made->references++;
    *out = made;
    return KWR_OK;
}

static kwr_status memory_dir_open(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                  bool create, kwr_storage_dir **out, kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_dir *dir = kwr_calloc(self->env, sizeof *dir);
    if (dir == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open '%s'", name);
    kwr_mutex_lock(&self->mutex);
    const kwr_status status =
        dir_open_locked(self, node_of(self, parent), name, create, &dir->node, err);
    kwr_mutex_unlock(&self->mutex);
    if (status < KWR_OK) {
        kwr_free(self->env, dir, sizeof *dir);
        return status;
    }
    *out = dir;
    return KWR_OK;
}

static void release(memory_storage *self, node *of) {
    kwr_mutex_lock(&self->mutex);
    node_release(self, of);
    kwr_mutex_unlock(&self->mutex);
}

static void memory_dir_close(kwr_storage *storage, kwr_storage_dir *dir) {
    memory_storage *self = self_of(storage);
    if (dir == NULL) return;
    release(self, dir->node);
    kwr_free(self->env, dir, sizeof *dir);
}

static kwr_status memory_dir_sync(kwr_storage *storage, kwr_storage_dir *dir, kwr_error *err) {
    (void)storage;
    (void)dir;
    (void)err;
    return KWR_OK;
}

/* Copies the names first, so that the callback may use the storage. */
static kwr_status memory_list(kwr_storage *storage, kwr_storage_dir *dir, const char *prefix,
                              kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    memory_storage *self = self_of(storage);
    kwr_buffer names = { .env = self->env };
    kwr_mutex_lock(&self->mutex);
    const node *of = node_of(self, dir);
    for (size_t i = 0; i < of->child_count; i++) {
        const char *name = of->children[i]->name;
        if (strncmp(name, prefix, strlen(prefix)) == 0)
            kwr_buffer_append(&names, name, strlen(name) + 1);
    }
    kwr_mutex_unlock(&self->mutex);
    kwr_status status = KWR_OK;
    if (names.failed) status = KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to list a directory");
    for (size_t at = 0; at < names.size && status >= KWR_OK;) {
        const char *name = (const char *)names.data + at;
        status = fn(fn_ctx, name);
        at += strlen(name) + 1;
    }
    kwr_buffer_free(&names);
    return status < KWR_OK ? status : KWR_OK;
}

static kwr_status memory_dir_remove(kwr_storage *storage, kwr_storage_dir *parent, const char *name,
                                    kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_mutex_lock(&self->mutex);
    node *of = node_of(self, parent);
    size_t at = 0;
    kwr_status status = KWR_OK;
    if (!child_find(of, name, &at))
        status = fail_at(of, name, KWR_ERR_MISSING, "no such directory", err);
    else if (!of->children[at]->directory)
        status = fail_at(of, name, KWR_ERR_MISMATCH, "is a file, not a directory", err);
    else if (of->children[at]->child_count > 0)
        status = fail_at(of, name, KWR_ERR_IO, "the directory is not empty", err);
    else
        child_erase(self, of, at);
    kwr_mutex_unlock(&self->mutex);
    return status;
}

/* ---- files ---- */

/* A new, unfinished file: referenced by its name and by the caller. */
static kwr_status file_new(memory_storage *self, node *dir, const char *name, node **out,
                           kwr_error *err) {
    size_t at = 0;
    if (child_find(dir, name, &at))
        return fail_at(dir, name, KWR_ERR_EXISTS, "the name is taken", err);
    if (dir->removed) return fail_at(dir, name, KWR_ERR_MISSING, "its directory was removed", err);
    node *made = node_new(self, dir, name, false);
    if (made == NULL || !child_insert(self, dir, at, made)) {
        node_release(self, made);
        return fail_at(dir, name, KWR_ERR_NOMEM, "no memory to create it", err);
    }
    made->references++;
    *out = made;
    return KWR_OK;
}

/* Counts `size` more bytes, or refuses. */
static bool reserve(memory_storage *self, node *file, size_t size) {
    kwr_mutex_lock(&self->mutex);
    const bool fits = self->bytes_max == 0 || size <= self->bytes_max - self->bytes;
    if (fits) {
        self->bytes += size;
        file->size += size;
    }
    kwr_mutex_unlock(&self->mutex);
    return fits;
}

static void unreserve(memory_storage *self, node *file, size_t size) {
    kwr_mutex_lock(&self->mutex);
    self->bytes -= size;
    file->size -= size;
    kwr_mutex_unlock(&self->mutex);
}

/* Room for at least one more byte at the end. */
static chunk *chunk_with_room(memory_storage *self, node *file) {
    chunk *last = file->chunk_count == 0 ? NULL : &file->chunks[file->chunk_count - 1];
    if (last != NULL && last->used < last->capacity) return last;
    void *items = file->chunks;
    if (!kwr_grow_array(self->env, &items, &file->chunk_capacity, file->chunk_count + 1,
                        sizeof(chunk)) ||
        items == NULL)
        return NULL;
    file->chunks = items;
    last = file->chunk_count == 0 ? NULL : &file->chunks[file->chunk_count - 1];
    const uint64_t start = last == NULL ? 0 : last->start + last->used;
    size_t capacity = last == NULL ? CHUNK_MIN : last->capacity * 2;
    if (capacity > CHUNK_MAX) capacity = CHUNK_MAX;
    uint8_t *data = kwr_alloc(self->env, capacity);
    if (data == NULL) return NULL;
    chunk *made = &file->chunks[file->chunk_count++];
    *made = (chunk){ .start = start, .data = data, .capacity = capacity };
    return made;
}

static kwr_status append(memory_storage *self, node *file, const void *data, size_t size,
                         kwr_error *err) {
    if (!reserve(self, file, size)) {
        char what[96];
        snprintf(what, sizeof what, "the storage's limit of %llu bytes is reached",
                 (unsigned long long)self->bytes_max);
        return fail_at(file->parent, file->name, KWR_ERR_NOSPACE, what, err);
    }
    const uint8_t *from = data;
    while (size > 0) {
        chunk *to = chunk_with_room(self, file);
        if (to == NULL) {
            unreserve(self, file, size);
            return fail_at(file->parent, file->name, KWR_ERR_NOMEM, "no memory for its bytes", err);
        }
        const size_t room = to->capacity - to->used;
        const size_t part = size < room ? size : room;
        memcpy(to->data + to->used, from, part);
        to->used += part;
        from += part;
        size -= part;
    }
    return KWR_OK;
}

static kwr_status memory_create(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                kwr_storage_writer **out, kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_writer *writer = kwr_calloc(self->env, sizeof *writer);
    if (writer == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to write '%s'", name);
    kwr_mutex_lock(&self->mutex);
    const kwr_status status = file_new(self, node_of(self, dir), name, &writer->node, err);
    kwr_mutex_unlock(&self->mutex);
    if (status < KWR_OK) {
        kwr_free(self->env, writer, sizeof *writer);
        return status;
    }
    *out = writer;
    return KWR_OK;
}

static kwr_status memory_write(kwr_storage *storage, kwr_storage_writer *writer, const void *data,
                               size_t size, kwr_error *err) {
    if (writer->failed < KWR_OK)
        return fail_at(writer->node->parent, writer->node->name, writer->failed,
                       "an earlier write failed", err);
    writer->failed = append(self_of(storage), writer->node, data, size, err);
    return writer->failed;
}

/* Removes the name, if it still leads to this file. */
static void unlink_node(memory_storage *self, node *file) {
    size_t at = 0;
    if (file->removed || !child_find(file->parent, file->name, &at)) return;
    child_erase(self, file->parent, at);
}

static kwr_status memory_finish(kwr_storage *storage, kwr_storage_writer *writer, kwr_error *err) {
    memory_storage *self = self_of(storage);
    kwr_status status = writer->failed;
    if (status < KWR_OK)
        fail_at(writer->node->parent, writer->node->name, status, "an earlier write failed", err);
    kwr_mutex_lock(&self->mutex);
    if (status < KWR_OK)
        unlink_node(self, writer->node);
    else
        writer->node->finished = true;
    node_release(self, writer->node);
    kwr_mutex_unlock(&self->mutex);
    kwr_free(self->env, writer, sizeof *writer);
    return status;
}

static void memory_abandon(kwr_storage *storage, kwr_storage_writer *writer) {
    memory_storage *self = self_of(storage);
    if (writer == NULL) return;
    kwr_mutex_lock(&self->mutex);
    unlink_node(self, writer->node);
    node_release(self, writer->node);
    kwr_mutex_unlock(&self->mutex);
    kwr_free(self->env, writer, sizeof *writer);
}

static kwr_status memory_open(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_storage_reader **out, uint64_t *size, kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_reader *reader = kwr_calloc(self->env, sizeof *reader);
    if (reader == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to read '%s'", name);
    kwr_mutex_lock(&self->mutex);
    node *of = node_of(self, dir);
    size_t at = 0;
    kwr_status status = KWR_OK;
    if (!child_find(of, name, &at)) {
        status = fail_at(of, name, KWR_ERR_MISSING, "no such file", err);
    } else if (of->children[at]->directory) {
        status = fail_at(of, name, KWR_ERR_MISMATCH, "is a directory, not a file", err);
    } else if (!of->children[at]->finished) {
        status = fail_at(of, name, KWR_ERR_MISSING, "is still being written", err);
    } else {
        reader->node = of->children[at];
        reader->node->references++;
        if (size != NULL) *size = reader->node->size;
    }
    kwr_mutex_unlock(&self->mutex);
    if (status < KWR_OK) {
        kwr_free(self->env, reader, sizeof *reader);
        return status;
    }
    *out = reader;
    return KWR_OK;
}

/* The chunk that holds `offset`, which lies inside the file. */
static size_t chunk_at(const node *file, uint64_t offset) {
    size_t low = 0, high = file->chunk_count;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (file->chunks[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static kwr_status memory_read(kwr_storage *storage, kwr_storage_reader *reader, uint64_t offset,
                              void *data, size_t size, kwr_error *err) {
    (void)storage;
    const node *file = reader->node;
    if (offset > file->size || size > file->size - offset) {
        char what[128];
        snprintf(what, sizeof what, "ends at byte %llu, %zu bytes at %llu were expected",
                 (unsigned long long)file->size, size, (unsigned long long)offset);
        return fail_at(file->parent, file->name, KWR_ERR_CORRUPT, what, err);
    }
    uint8_t *to = data;
    for (size_t i = size == 0 ? 0 : chunk_at(file, offset); size > 0; i++) {
        const chunk *from = &file->chunks[i];
        const size_t skip = (size_t)(offset - from->start);
        const size_t part = size < from->used - skip ? size : from->used - skip;
        memcpy(to, from->data + skip, part);
        to += part;
        offset += part;
        size -= part;
    }
    return KWR_OK;
}

static void memory_close_reader(kwr_storage *storage, kwr_storage_reader *reader) {
    memory_storage *self = self_of(storage);
    if (reader == NULL) return;
    release(self, reader->node);
    kwr_free(self->env, reader, sizeof *reader);
}

/* The bytes are there before the name is: nobody sees a part. */
static kwr_status memory_publish(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                 const void *data, size_t size, kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    node *of = node_of(self, dir);
    kwr_mutex_lock(&self->mutex);
    node *made = node_new(self, of, name, false);
    kwr_mutex_unlock(&self->mutex);
    if (made == NULL) return fail_at(of, name, KWR_ERR_NOMEM, "no memory to publish it", err);
    kwr_status status = append(self, made, data, size, err);
    made->finished = true;
    kwr_mutex_lock(&self->mutex);
    size_t at = 0;
    if (status >= KWR_OK) {
        if (child_find(of, name, &at))
            status = fail_at(of, name, KWR_ERR_EXISTS, "the name is taken", err);
        else if (of->removed)
            status = fail_at(of, name, KWR_ERR_MISSING, "its directory was removed", err);
        else if (!child_insert(self, of, at, made))
            status = fail_at(of, name, KWR_ERR_NOMEM, "no memory to publish it", err);
    }
    if (status < KWR_OK) node_release(self, made);
    kwr_mutex_unlock(&self->mutex);
    return status;
}

static kwr_status memory_remove(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                                kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_mutex_lock(&self->mutex);
    node *of = node_of(self, dir);
    size_t at = 0;
    kwr_status status = KWR_OK;
    if (!child_find(of, name, &at))
        status = fail_at(of, name, KWR_ERR_MISSING, "no such file", err);
    else if (of->children[at]->directory)
        status = fail_at(of, name, KWR_ERR_MISMATCH, "is a directory, not a file", err);
    else
        child_erase(self, of, at);
    kwr_mutex_unlock(&self->mutex);
    return status;
}

/* ---- locks, paths, opening ---- */

static kwr_status lock_node(memory_storage *self, node *dir, const char *name, node **out,
                            kwr_error *err) {
    size_t at = 0;
    node *file = NULL;
    if (child_find(dir, name, &at)) {
        file = dir->children[at];
        if (file->directory)
            return fail_at(dir, name, KWR_ERR_MISMATCH, "is a directory, not a file", err);
        if (file->locked)
            return fail_at(dir, name, KWR_ERR_LOCKED, "is held by another user of this storage",
                           err);
        file->references++;
    } else {
        KWR_TRY(file_new(self, dir, name, &file, err));
        file->finished = true;
    }
    file->locked = true;
    *out = file;
    return KWR_OK;
}

static kwr_status memory_lock(kwr_storage *storage, kwr_storage_dir *dir, const char *name,
                              kwr_storage_lock **out, kwr_error *err) {
    memory_storage *self = self_of(storage);
    KWR_TRY(kwr_storage_check_name(name, err));
    kwr_storage_lock *lock = kwr_calloc(self->env, sizeof *lock);
    if (lock == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to lock '%s'", name);
    kwr_mutex_lock(&self->mutex);
    const kwr_status status = lock_node(self, node_of(self, dir), name, &lock->node, err);
    kwr_mutex_unlock(&self->mutex);
    if (status < KWR_OK) {
        kwr_free(self->env, lock, sizeof *lock);
        return status;
    }
    *out = lock;
    return KWR_OK;
}

static void memory_unlock(kwr_storage *storage, kwr_storage_lock *lock) {
    memory_storage *self = self_of(storage);
    if (lock == NULL) return;
    kwr_mutex_lock(&self->mutex);
    lock->node->locked = false;
    node_release(self, lock->node);
    kwr_mutex_unlock(&self->mutex);
    kwr_free(self->env, lock, sizeof *lock);
}

static void memory_describe(kwr_storage *storage, kwr_storage_dir *dir, const char *name, char *out,
                            size_t capacity) {
    node_path(node_of(self_of(storage), dir), name, out, capacity);
}

static const kwr_storage_ops memory_ops = {
    .struct_size = sizeof(kwr_storage_ops),
    .close = memory_close,
    .capabilities = memory_capabilities,
    .dir_open = memory_dir_open,
    .dir_close = memory_dir_close,
    .dir_sync = memory_dir_sync,
    .list = memory_list,
    .dir_remove = memory_dir_remove,
    .create = memory_create,
    .write = memory_write,
    .finish = memory_finish,
    .abandon = memory_abandon,
    .open = memory_open,
    .read = memory_read,
    .close_reader = memory_close_reader,
    .publish = memory_publish,
    .remove = memory_remove,
    .lock = memory_lock,
    .unlock = memory_unlock,
    .describe = memory_describe,
};

kwr_status kwr_storage_memory_open(const kwr_env *env, uint64_t bytes_max, kwr_storage **out,
                                   kwr_error *err) {
    if (env == NULL || out == NULL)
        return KWR_FAIL(err, KWR_ERR_MISUSE, 0, "kwr_storage_memory_open: an argument is NULL");
    memory_storage *self = kwr_calloc(env, sizeof *self);
    if (self == NULL) return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    self->base.ops = &memory_ops;
    self->env = env;
    self->bytes_max = bytes_max;
    self->root = node_new(self, NULL, "", true);
    if (self->root == NULL) {
        kwr_free(env, self, sizeof *self);
        return KWR_FAIL(err, KWR_ERR_NOMEM, 0, "no memory to open a storage");
    }
    kwr_mutex_init(&self->mutex);
    *out = &self->base;
    return KWR_OK;
}
