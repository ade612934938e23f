/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: what is written is kept with the handle and reaches the disk when it is synced, in one
 * request with all of it; what is read was fetched by the open. Paths are the whole names.
 */
#include "tests/model/replay_env.h"

#include "base/error.h"
#include "tests/model/must.h"

struct kwr_dir {
    uint32_t path;
};

struct kwr_file {
    uint32_t path;
    bool writing;
    uint8_t *data; /* written */
    size_t size, capacity;
    uint32_t content; /* read */
};

/* ---- memory: one row, from the front ---- */

typedef struct block {
    size_t at, size;
    uint32_t visit; /* of the fingerprint being made, 0: not yet */
    bool freed;
} block;

static struct {
    uint8_t *start;
    size_t size, used;
    block *blocks; /* in ascending order */
    uint32_t count, capacity;
} memory;

enum { MEMORY_SIZE = 32 * 1024 * 1024 };

static void *take(void *ctx, size_t size, size_t align) {
    (void)ctx;
    const size_t at = (memory.used + align - 1) / align * align;
    if (size > memory.size - at) {
        fputs("model: a part took too much memory\n", stderr);
        abort();
    }
    if (memory.count == memory.capacity) {
        memory.capacity = memory.capacity == 0 ? 256 : 2 * memory.capacity;
        memory.blocks = model_must(realloc(memory.blocks, memory.capacity * sizeof *memory.blocks));
    }
    memory.blocks[memory.count++] = (block){ .at = at, .size = size };
    memory.used = at + size;
    /* What is never written must not differ from run to run. */
    if (size <= 65536) memset(memory.start + at, 0, size);
    return memory.start + at;
}

static block *find_block(const void *pointer) {
    const uintptr_t at = (uintptr_t)pointer - (uintptr_t)memory.start;
    if ((uintptr_t)pointer < (uintptr_t)memory.start || at >= memory.used) return NULL;
    uint32_t low = 0, high = memory.count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (memory.blocks[middle].at + memory.blocks[middle].size <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == memory.count || memory.blocks[low].at > at) return NULL;
    return memory.blocks[low].freed ? NULL : &memory.blocks[low];
}

static void give(void *ctx, void *given, size_t size) {
    (void)ctx;
    block *b = find_block(given);
    if (b == NULL || b->size != size) abort();
    b->freed = true;
}

/*
 * Everything reachable from `root`, with each pointer replaced by the number of the block it leads
 * to, in the order of first meeting: equal for two runs that hold the same, wherever it lies. A
 * word that only looks like a pointer costs nothing but a missed likeness.
 */
uint64_t replay_env_fingerprint(const void *root) {
    static uint32_t queue[4096];
    uint32_t head = 0, tail = 0;
    uint64_t hash = 0;
    for (uint32_t i = 0; i < memory.count; i++)
        memory.blocks[i].visit = 0;
    block *first = find_block(root);
    if (first == NULL) return 0;
    first->visit = ++tail;
    queue[0] = (uint32_t)(first - memory.blocks);
    while (head < tail) {
        const block b = memory.blocks[queue[head++]];
        const uint8_t *bytes = memory.start + b.at;
        hash = model_mix(hash ^ b.size) + UINT64_C(0x9e3779b97f4a7c15);
        for (size_t i = 0; i < b.size; i += 8) {
            uint64_t word = 0;
            memcpy(&word, bytes + i, b.size - i < 8 ? b.size - i : 8);
            block *to = word == 0 ? NULL : find_block((const void *)(uintptr_t)word);
            if (to != NULL) {
                if (to->visit == 0) {
                    if (tail == sizeof queue / sizeof *queue) abort();
                    to->visit = ++tail;
                    queue[tail - 1] = (uint32_t)(to - memory.blocks);
                }
                word = UINT64_C(0xb10c) << 48 | (uint64_t)to->visit << 24 |
                       (word - (uintptr_t)memory.start - to->at);
            }
            hash = model_mix(hash ^ word) + UINT64_C(0x9e3779b97f4a7c15);
        }
    }
    return hash;
}

static void *map_none(void *ctx, size_t size) {
    (void)ctx;
    (void)size;
    return NULL;
}

static void unmap_none(void *ctx, void *given, size_t size) {
    (void)ctx;
    (void)given;
    (void)size;
}

/* ---- time, randomness, work ---- */

static uint64_t mono(void *ctx) { return ((replay_env *)ctx)->now_ns; }
static int64_t wall(void *ctx) {
    (void)ctx;
    return 1000;
}

static kwr_status random_bytes(void *ctx, void *out, size_t size) {
    replay_env *e = ctx;
    uint8_t *at = out;
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(model_mix(e->random) >> (i % 8 * 8));
    e->random++;
    return KWR_OK;
}

static uint32_t parallelism(void *ctx) {
    (void)ctx;
    return 1;
}

static kwr_status post(void *ctx, kwr_work *work) {
    replay_env *e = ctx;
    if (e->posted != NULL) abort(); /* one piece is all a part ever has */
    e->posted = work;
    return KWR_OK;
}

static kwr_status post_at(void *ctx, kwr_work *work, uint64_t at) {
    (void)at;
    return post(ctx, work);
}

static bool cancel(void *ctx, kwr_work *work) {
    (void)ctx;
    (void)work;
    return false;
}

static void wait_for(void *ctx, kwr_work *work) {
    const replay_env *e = ctx;
    if (e->posted == work) abort(); /* nothing here waits for what has not run */
}

/* ---- files ---- */

static uint32_t join(const kwr_dir *dir, const char *name) {
    char path[512];
    const int size = snprintf(path, sizeof path, "%s/%s", model_pool_text(dir->path), name);
    if (size < 0 || (size_t)size >= sizeof path) abort();
    return model_pool_put(path, (size_t)size + 1);
}

static kwr_status ask(replay_env *e, model_request request, uint32_t *payload, kwr_error *err) {
    const model_result result = e->answer(e->answer_ctx, &request);
    if (result.status < KWR_OK)
        return KWR_FAIL(err, result.status, 0, "call %u on '%s': %s", request.op,
                        model_pool_text(request.path), kwr_status_name(result.status));
    if (payload != NULL) *payload = result.payload;
    return KWR_OK;
}

static kwr_dir *dir_new(uint32_t path) {
    kwr_dir *dir = take(NULL, sizeof *dir, _Alignof(max_align_t));
    dir->path = path;
    return dir;
}

static kwr_status open_root(void *ctx, const char *path, unsigned flags, kwr_dir **out,
                            kwr_error *err) {
    (void)ctx;
    (void)flags;
    (void)err;
    *out = dir_new(model_pool_put(path, strlen(path) + 1)); /* always there */
    return KWR_OK;
}

static kwr_status open_dir(void *ctx, kwr_dir *parent, const char *name, unsigned flags,
                           kwr_dir **out, kwr_error *err) {
    const uint32_t path = join(parent, name);
    const uint32_t op = (flags & KWR_FS_CREATE) != 0 ? OP_MAKE_DIR : OP_OPEN_DIR;
    const kwr_status status = ask(ctx, (model_request){ .op = op, .path = path }, NULL, err);
    if (status < KWR_OK) return status;
    *out = dir_new(path);
    return KWR_OK;
}

static void close_dir(void *ctx, kwr_dir *dir) {
    (void)ctx;
    (void)dir;
}

static const char *dir_path(void *ctx, kwr_dir *dir) {
    (void)ctx;
    return model_pool_text(dir->path);
}

static kwr_status list(void *ctx, kwr_dir *dir, kwr_list_fn fn, void *fn_ctx, kwr_error *err) {
    uint32_t names = 0;
    size_t size = 0;
    kwr_status status = ask(ctx, (model_request){ .op = OP_LIST, .path = dir->path }, &names, err);
    if (status < KWR_OK) return status;
    const char *text = model_pool_get(names, &size);
    for (size_t at = 0; at < size && status >= KWR_OK; at += strlen(text + at) + 1)
        status = fn(fn_ctx, text + at);
    return status < KWR_OK ? status : KWR_OK;
}

static kwr_status sync_dir(void *ctx, kwr_dir *dir, kwr_error *err) {
    return ask(ctx, (model_request){ .op = OP_SYNC_DIR, .path = dir->path }, NULL, err);
}

static kwr_file *file_new(uint32_t path) {
    kwr_file *file = take(NULL, sizeof *file, _Alignof(max_align_t));
    memset(file, 0, sizeof *file);
    file->path = path;
    return file;
}

static kwr_status create(void *ctx, kwr_dir *dir, const char *name, kwr_file **out,
                         kwr_error *err) {
    const uint32_t path = join(dir, name);
    const kwr_status status = ask(ctx, (model_request){ .op = OP_CREATE, .path = path }, NULL, err);
    if (status < KWR_OK) return status;
    *out = file_new(path);
    (*out)->writing = true;
    return KWR_OK;
}

static kwr_status open_file(void *ctx, kwr_dir *dir, const char *name, unsigned flags,
                            kwr_file **out, kwr_file_info *info, kwr_error *err) {
    const uint32_t path = join(dir, name);
    uint32_t content = 0;
    (void)flags;
    const kwr_status status =
        ask(ctx, (model_request){ .op = OP_OPEN, .path = path }, &content, err);
    if (status < KWR_OK) return status;
    *out = file_new(path);
    (*out)->content = content;
    size_t size;
    (void)model_pool_get(content, &size);
    if (info != NULL) *info = (kwr_file_info){ .kind = KWR_FILE_REGULAR, .size = size };
    return KWR_OK;
}

static kwr_status write_some(void *ctx, kwr_file *file, const void *data, size_t size, size_t *done,
                             kwr_error *err) {
    (void)ctx;
    (void)err;
    if (file->size + size > file->capacity) {
        const size_t capacity = 2 * (file->size + size);
        uint8_t *grown = take(NULL, capacity, 1);
        if (file->size > 0) memcpy(grown, file->data, file->size);
        file->data = grown;
        file->capacity = capacity;
    }
    memcpy(file->data + file->size, data, size);
    file->size += size;
    *done = size;
    return KWR_OK;
}

static kwr_status read_some(void *ctx, kwr_file *file, uint64_t offset, void *data, size_t size,
                            size_t *done, kwr_error *err) {
    size_t have;
    const uint8_t *bytes = model_pool_get(file->content, &have);
    (void)ctx;
    (void)err;
    *done = offset >= have ? 0 : size < have - offset ? size : have - (size_t)offset;
    if (*done > 0) memcpy(data, bytes + offset, *done);
    return KWR_OK;
}

static kwr_status sync_file(void *ctx, kwr_file *file, kwr_error *err) {
    const uint32_t data = model_pool_put(file->data, file->size);
    return ask(ctx, (model_request){ .op = OP_SYNC, .path = file->path, .data = data }, NULL, err);
}

static kwr_status close_file(void *ctx, kwr_file *file, kwr_error *err) {
    (void)ctx;
    (void)file;
    (void)err;
    return KWR_OK;
}

static kwr_status make_link(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                            const char *to_name, kwr_error *err) {
    const model_request r = { .op = OP_LINK,
                              .path = join(from, from_name),
                              .to = join(to, to_name) };
    return ask(ctx, r, NULL, err);
}

static kwr_status no_rename(void *ctx, kwr_dir *from, const char *from_name, kwr_dir *to,
                            const char *to_name, kwr_error *err) {
    (void)ctx;
    (void)from;
    (void)from_name;
    (void)to;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "no rename to '%s'", to_name);
}

static kwr_status remove_file(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    return ask(ctx, (model_request){ .op = OP_REMOVE, .path = join(dir, name) }, NULL, err);
}

static kwr_status remove_dir(void *ctx, kwr_dir *dir, const char *name, kwr_error *err) {
    return ask(ctx, (model_request){ .op = OP_REMOVE_DIR, .path = join(dir, name) }, NULL, err);
}

static kwr_status no_info(void *ctx, kwr_dir *dir, const char *name, kwr_file_info *out,
                          kwr_error *err) {
    (void)ctx;
    (void)dir;
    (void)out;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "no information on '%s'", name);
}

static kwr_status no_lock(void *ctx, kwr_dir *dir, const char *name, kwr_lock **out,
                          uint64_t *holder, kwr_error *err) {
    (void)ctx;
    (void)dir;
    (void)out;
    (void)holder;
    return KWR_FAIL(err, KWR_ERR_UNSUPPORTED, 0, "no lock '%s'", name);
}

static void no_unlock(void *ctx, kwr_lock *lock) {
    (void)ctx;
    (void)lock;
}

void replay_env_reset(replay_env *e, uint64_t random) {
    static const kwr_allocator allocator = { .struct_size = sizeof allocator,
                                             .alloc = take,
                                             .free = give,
                                             .map = map_none,
                                             .unmap = unmap_none };
    if (memory.start == NULL) {
        memory.start = model_must(malloc(MEMORY_SIZE));
        memory.size = MEMORY_SIZE;
    }
    memory.used = memory.count = 0;
    e->now_ns = 0;
    e->random = random;
    e->posted = NULL;
    kwr_clock *clock = take(NULL, sizeof *clock, _Alignof(max_align_t));
    *clock = (kwr_clock){ sizeof *clock, e, mono, wall };
    kwr_executor *executor = take(NULL, sizeof *executor, _Alignof(max_align_t));
    *executor =
        (kwr_executor){ sizeof *executor, e, parallelism, post, post_at, post, cancel, wait_for };
    kwr_random *rng = take(NULL, sizeof *rng, _Alignof(max_align_t));
    *rng = (kwr_random){ sizeof *rng, e, random_bytes };
    kwr_fs *fs = take(NULL, sizeof *fs, _Alignof(max_align_t));
    *fs = (kwr_fs){ .struct_size = sizeof *fs,
                    .ctx = e,
                    .open_root = open_root,
                    .open_dir = open_dir,
                    .close_dir = close_dir,
                    .path = dir_path,
                    .list = list,
                    .sync_dir = sync_dir,
                    .create = create,
                    .open = open_file,
                    .write = write_some,
                    .read = read_some,
                    .sync = sync_file,
                    .close = close_file,
                    .link = make_link,
                    .rename = no_rename,
                    .remove = remove_file,
                    .remove_dir = remove_dir,
                    .info = no_info,
                    .lock = no_lock,
                    .unlock = no_unlock };
    e->env = (kwr_env){ .struct_size = sizeof e->env,
                        .allocator = &allocator,
                        .clock = clock,
                        .executor = executor,
                        .fs = fs,
                        .random = rng };
}

void replay_env_free(void) {
    free(memory.start);
    free(memory.blocks);
    memset(&memory, 0, sizeof memory);
}
