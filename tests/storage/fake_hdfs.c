/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/storage/fake_hdfs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/kwr_test.h"

enum { NAME_NODES = 2, DATA_NODES = 2, PATH_MAX_FAKE = 1024, INODES_MAX = 4096 };

typedef struct inode {
    char path[PATH_MAX_FAKE];
    bool directory;
    uint8_t *data;
    size_t size;
    uint64_t id;
} inode;

struct fake_hdfs {
    fake_options options;
    loopback *name_nodes[NAME_NODES], *data_nodes[DATA_NODES], *foreign;
    pthread_mutex_t lock;
    inode *inodes; /* sorted by nothing */
    size_t count;
    uint64_t last_id, requests, bytes;
    int active, pending;
    fake_plan plan;
    unsigned cancelled;
    bool leaked;
};

/* ---- the tree ---- */

static inode *find(fake_hdfs *f, const char *path) {
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->inodes[i].path, path) == 0) return &f->inodes[i];
    return NULL;
}

static inode *add(fake_hdfs *f, const char *path, bool directory) {
    cr_assert(f->count < INODES_MAX && strlen(path) < PATH_MAX_FAKE);
    inode *node = &f->inodes[f->count++];
    memset(node, 0, sizeof *node);
    snprintf(node->path, sizeof node->path, "%s", path);
    node->directory = directory;
    node->id = ++f->last_id;
    return node;
}

static void drop(fake_hdfs *f, inode *node) {
    f->bytes -= node->size;
    free(node->data);
    *node = f->inodes[--f->count];
}

static void parent_of(const char *path, char out[PATH_MAX_FAKE]) {
    snprintf(out, PATH_MAX_FAKE, "%.1023s", path);
    char *slash = strrchr(out, '/');
    if (slash == out) slash++;
    *slash = '\0';
}

/* false: a file is in the way. */
static bool make_dirs(fake_hdfs *f, const char *path) {
    char part[PATH_MAX_FAKE];
    for (const char *at = path; at != NULL;) {
        at = strchr(at + 1, '/');
        snprintf(part, sizeof part, "%.*s", at == NULL ? (int)strlen(path) : (int)(at - path),
                 path);
        const inode *node = find(f, part);
        if (node != NULL && !node->directory) return false;
        if (node == NULL) add(f, part, true);
    }
    return true;
}

static bool is_child(const inode *node, const char *directory) {
    char parent[PATH_MAX_FAKE];
    if (strcmp(node->path, "/") == 0) return false;
    parent_of(node->path, parent);
    return strcmp(parent, directory) == 0;
}

static bool has_children(fake_hdfs *f, const char *path) {
    for (size_t i = 0; i < f->count; i++)
        if (is_child(&f->inodes[i], path)) return true;
    return false;
}

static const char *base_of(const char *path) { return strrchr(path, '/') + 1; }

/* ---- answers ---- */

static void exception(loopback_reply *reply, int status, const char *name, const char *message) {
    loopback_text(reply, status, "application/json",
                  "{\"RemoteException\":{\"exception\":\"%s\",\"javaClassName\":\"org.x.%s\","
                  "\"message\":\"%s\\n\\tat x.y\"}}",
                  name, name, message);
}

static void boolean(loopback_reply *reply, bool value) {
    loopback_text(reply, 200, "application/json", "{\"boolean\":%s}", value ? "true" : "false");
}

static int status_json(const fake_hdfs *f, const inode *node, const char *suffix, char *out,
                       size_t capacity) {
    char id[64] = "";
    if (!f->options.no_file_id)
        snprintf(id, sizeof id, ",\"fileId\":%llu", (unsigned long long)node->id);
    return snprintf(out, capacity,
                    "{\"accessTime\":0,\"blockSize\":134217728%s,\"length\":%zu,\"owner\":\"u\","
                    "\"pathSuffix\":\"%s\",\"permission\":\"%s\",\"type\":\"%s\"}",
                    id, node->size, suffix, node->directory ? "700" : "600",
                    node->directory ? "DIRECTORY" : "FILE");
}

static void answer_status(fake_hdfs *f, const char *path, loopback_reply *reply) {
    char json[PATH_MAX_FAKE + 300];
    const inode *node = find(f, path);
    if (node == NULL) {
        exception(reply, 404, "FileNotFoundException", "File does not exist");
        return;
    }
    status_json(f, node, "", json, sizeof json);
    loopback_text(reply, 200, "application/json", "{\"FileStatus\":%s}", json);
}

static int by_name(const void *a, const void *b) {
    return strcmp(base_of((*(inode *const *)a)->path), base_of((*(inode *const *)b)->path));
}

static void answer_list(fake_hdfs *f, const loopback_request *r, const char *path, bool batched,
                        loopback_reply *reply) {
    const inode *directory = find(f, path);
    if (directory == NULL) {
        exception(reply, 404, "FileNotFoundException", "File does not exist");
        return;
    }
    char after[PATH_MAX_FAKE] = "";
    if (batched) (void)loopback_param(r, "startAfter", after, sizeof after);
    inode **found = malloc((f->count + 1) * sizeof(inode *));
    size_t count = 0;
    for (size_t i = 0; i < f->count; i++)
        if (is_child(&f->inodes[i], path) && strcmp(base_of(f->inodes[i].path), after) > 0)
            found[count++] = &f->inodes[i];
    qsort(found, count, sizeof *found, by_name);
    const size_t limit = f->options.list_batch == 0 ? 3 : f->options.list_batch;
    const size_t shown = batched && count > limit ? limit : count;
    const size_t capacity = (shown + 1) * (PATH_MAX_FAKE + 300);
    char *json = malloc(capacity);
    size_t used = 0;
    json[0] = '\0';
    for (size_t i = 0; i < shown; i++) {
        if (i > 0) json[used++] = ',';
        used +=
            (size_t)status_json(f, found[i], base_of(found[i]->path), json + used, capacity - used);
    }
    if (batched)
        loopback_text(reply, 200, "application/json",
                      "{\"DirectoryListing\":{\"partialListing\":{\"FileStatuses\":{\"FileStatus\":"
                      "[%s]}},\"remainingEntries\":%zu}}",
                      json, count - shown);
    else
        loopback_text(reply, 200, "application/json", "{\"FileStatuses\":{\"FileStatus\":[%s]}}",
                      json);
    free(json);
    free(found);
}

static void answer_delete(fake_hdfs *f, const char *path, loopback_reply *reply) {
    inode *node = find(f, path);
    if (node != NULL && node->directory && has_children(f, path)) {
        exception(reply, 403, "PathIsNotEmptyDirectoryException", "is non empty");
        return;
    }
    if (node != NULL) drop(f, node);
    boolean(reply, node != NULL);
}

/* The old rename: false for nearly every failure, and into a directory that is there. */
static bool rename_to(fake_hdfs *f, const char *from, const char *to) {
    inode *node = find(f, from);
    char target[2 * PATH_MAX_FAKE], parent[PATH_MAX_FAKE];
    snprintf(target, sizeof target, "%s", to);
    const inode *there = find(f, to);
    if (there != NULL && there->directory)
        snprintf(target, sizeof target, "%s/%s", to, base_of(from));
    parent_of(target, parent);
    const inode *home = find(f, parent);
    if (node == NULL || home == NULL || !home->directory || find(f, target) != NULL) return false;
    cr_assert(!node->directory, "only files are renamed here");
    snprintf(node->path, sizeof node->path, "%.1023s", target);
    return true;
}

static void data_address(fake_hdfs *f, const loopback_request *r, loopback_reply *reply) {
    const int port =
        f->options.gateway ? r->port : loopback_port(f->data_nodes[f->requests % DATA_NODES]);
    char path[LOOPBACK_TARGET_MAX];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(r->target, "?"), r->target);
    char op[64] = "", offset[32] = "0", length[32] = "";
    (void)loopback_param(r, "op", op, sizeof op);
    (void)loopback_param(r, "offset", offset, sizeof offset);
    (void)loopback_param(r, "length", length, sizeof length);
    loopback_text(reply, 307, "application/octet-stream", "%s", "");
    const size_t used = strlen(reply->headers);
    snprintf(reply->headers + used, sizeof reply->headers - used,
             "Location: %s://127.0.0.1:%d%.2000s?op=%s&delegation=block&offset=%s&length=%s"
             "&overwrite=false&data=true\r\n",
             f->options.channel != NULL && !f->options.plain_redirects ? "https" : "http", port,
             path, op, offset, length);
}

static void write_data(fake_hdfs *f, const loopback_request *r, const char *path,
                       loopback_reply *reply) {
    char parent[PATH_MAX_FAKE];
    parent_of(path, parent);
    if (find(f, path) != NULL) {
        exception(reply, 403, "FileAlreadyExistsException", "exists");
        return;
    }
    if (!make_dirs(f, parent)) {
        exception(reply, 403, "ParentNotDirectoryException", "a parent is a file");
        return;
    }
    inode *node = add(f, path, false);
    const bool full = f->options.bytes_max > 0 && f->bytes + r->body_size > f->options.bytes_max;
    if (full) { /* the empty file stays, as it does in HDFS */
        exception(reply, 403, "DSQuotaExceededException", "The DiskSpace quota is exceeded");
        return;
    }
    node->data = malloc(r->body_size + 1);
    node->size = r->body_size;
    if (r->body_size > 0) memcpy(node->data, r->body, r->body_size);
    f->bytes += node->size;
    loopback_text(reply, 201, "text/plain", "%s", "");
}

static void read_data(fake_hdfs *f, const loopback_request *r, const char *path,
                      loopback_reply *reply) {
    char text[32] = "";
    (void)loopback_param(r, "offset", text, sizeof text);
    const size_t offset = (size_t)strtoull(text, NULL, 10);
    text[0] = '\0';
    (void)loopback_param(r, "length", text, sizeof text);
    size_t length = text[0] == '\0' ? SIZE_MAX : (size_t)strtoull(text, NULL, 10);
    const inode *node = find(f, path);
    if (node == NULL || node->directory) {
        exception(reply, 404, "FileNotFoundException", "File does not exist");
        return;
    }
    if (offset > node->size) {
        exception(reply, 403, "IOException", "Offset out of the range");
        return;
    }
    if (length > node->size - offset) length = node->size - offset;
    reply->status = 200;
    reply->body = malloc(length + 1);
    reply->body_size = length;
    if (length > 0) memcpy(reply->body, node->data + offset, length);
}

/* ---- requests ---- */

static bool is_data_node(const fake_hdfs *f, int port) {
    for (int i = 0; i < DATA_NODES; i++)
        if (loopback_port(f->data_nodes[i]) == port) return true;
    return false;
}

/* What has to do with tokens; true: that was it. */
static bool token_call(fake_hdfs *f, const char *op, const loopback_request *r,
                       loopback_reply *reply) {
    const bool get = strcmp(op, "GETDELEGATIONTOKEN") == 0;
    const bool cancel = strcmp(op, "CANCELDELEGATIONTOKEN") == 0;
    if (f->options.negotiate == NULL || (!get && !cancel)) return false;
    if (!f->options.negotiate(f->options.negotiate_ctx, r, reply)) return true;
    if (get)
        loopback_text(reply, 200, "application/json", "{\"Token\":{\"urlString\":\"%s\"}}",
                      f->options.token);
    else
        f->cancelled++;
    return true;
}

void fake_hdfs_set_token(fake_hdfs *f, const char *token) {
    pthread_mutex_lock(&f->lock);
    f->options.token = token;
    pthread_mutex_unlock(&f->lock);
}

unsigned fake_hdfs_cancelled(fake_hdfs *f) {
    pthread_mutex_lock(&f->lock);
    const unsigned count = f->cancelled;
    pthread_mutex_unlock(&f->lock);
    return count;
}

static bool logged_in(fake_hdfs *f, const loopback_request *r, loopback_reply *reply) {
    char token[512] = "";
    (void)loopback_param(r, "delegation", token, sizeof token);
    if (f->options.token == NULL || strcmp(token, f->options.token) == 0) return true;
    exception(reply, 403, "InvalidToken", "token not found");
    return false;
}

/* Does what a request asks for, and says so. */
static void apply(fake_hdfs *f, const loopback_request *r, loopback_reply *reply) {
    char path[PATH_MAX_FAKE + 32], op[64] = "", text[PATH_MAX_FAKE] = "";
    loopback_path(r, path, sizeof path);
    (void)loopback_param(r, "op", op, sizeof op);
    cr_assert(strncmp(path, "/webhdfs/v1", 11) == 0, "%s", path);
    memmove(path, path + 11, strlen(path + 11) + 1);
    const bool data = loopback_param(r, "data", text, sizeof text);
    if (is_data_node(f, r->port) || (f->options.gateway && data)) {
        if (strcmp(op, "CREATE") == 0)
            write_data(f, r, path, reply);
        else if (strcmp(op, "OPEN") == 0)
            read_data(f, r, path, reply);
        else
            exception(reply, 400, "IllegalArgumentException", "no such operation");
        return;
    }
    if (r->port != loopback_port(f->name_nodes[f->active])) {
        exception(reply, 403, "StandbyException", "Operation category is not supported");
        return;
    }
    if (token_call(f, op, r, reply) || !logged_in(f, r, reply)) return;
    const bool put = strcmp(r->method, "PUT") == 0, get = strcmp(r->method, "GET") == 0;
    if (put && strcmp(op, "CREATE") == 0)
        data_address(f, r, reply);
    else if (get && strcmp(op, "OPEN") == 0 && f->options.gateway)
        read_data(f, r, path, reply);
    else if (get && strcmp(op, "OPEN") == 0)
        data_address(f, r, reply);
    else if (get && strcmp(op, "GETFILESTATUS") == 0)
        answer_status(f, path, reply);
    else if (get && strcmp(op, "LISTSTATUS") == 0)
        answer_list(f, r, path, false, reply);
    else if (get && strcmp(op, "LISTSTATUS_BATCH") == 0 && !f->options.no_batch)
        answer_list(f, r, path, true, reply);
    else if (put && strcmp(op, "MKDIRS") == 0) {
        if (make_dirs(f, path))
            boolean(reply, true);
        else
            exception(reply, 403, "FileAlreadyExistsException", "Path is not a directory");
    } else if (put && strcmp(op, "RENAME") == 0) {
        cr_assert(loopback_param(r, "destination", text, sizeof text));
        boolean(reply, rename_to(f, path, text));
    } else if (strcmp(r->method, "DELETE") == 0 && strcmp(op, "DELETE") == 0) {
        answer_delete(f, path, reply);
    } else {
        exception(reply, 400, "IllegalArgumentException", "Invalid value for parameter op");
    }
}

typedef struct late {
    fake_hdfs *fake;
    loopback_request request;
} late;

static void *apply_late(void *arg) {
    late *l = arg;
    const struct timespec t = { 0, 3000000 };
    nanosleep(&t, NULL);
    loopback_reply *reply = calloc(1, sizeof *reply);
    pthread_mutex_lock(&l->fake->lock);
    apply(l->fake, &l->request, reply);
    l->fake->pending--;
    pthread_mutex_unlock(&l->fake->lock);
    free(reply->body);
    free(reply);
    free(l->request.body);
    free(l);
    return NULL;
}

static void start_late(fake_hdfs *f, const loopback_request *r) {
    late *l = malloc(sizeof *l);
    l->fake = f;
    l->request = *r;
    l->request.body = malloc(r->body_size + 1);
    if (r->body_size > 0) memcpy(l->request.body, r->body, r->body_size);
    pthread_t thread;
    f->pending++;
    cr_assert(pthread_create(&thread, NULL, apply_late, l) == 0);
    pthread_detach(thread);
}

static void half(fake_hdfs *f, const loopback_request *r, loopback_reply *reply) {
    loopback_request part = *r;
    part.body_size /= 2;
    apply(f, &part, reply);
    reply->reset = true;
}

static void nothing_done(loopback_reply *reply) {
    free(reply->body);
    const bool reset = reply->reset;
    *reply = (loopback_reply){ .status = 200, .reset = reset };
}

static void spoil(fake_hdfs *f, const loopback_request *r, loopback_reply *reply) {
    switch (f->plan.fault) {
    case FAKE_NONE:
    case FAKE_FAULTS: apply(f, r, reply); break;
    case FAKE_RESET_BEFORE: reply->reset = true; break;
    case FAKE_RESET_AFTER:
        apply(f, r, reply);
        reply->reset = true;
        break;
    case FAKE_CUT:
        apply(f, r, reply);
        reply->cut = f->plan.cut + 1;
        break;
    case FAKE_CUT_BEFORE:
        boolean(reply, true);
        reply->cut = f->plan.cut + 1;
        reply->cut_short = true;
        break;
    case FAKE_FOREIGN:
        loopback_text(reply, 307, "text/plain", "%s", "");
        snprintf(reply->headers + strlen(reply->headers), 300,
                 "Location: %s://127.0.0.1:%d/webhdfs/v1/stolen?op=CREATE\r\n",
                 f->options.channel != NULL ? "https" : "http", loopback_port(f->foreign));
        break;
    case FAKE_401: loopback_text(reply, 401, "text/html", "%s", "<html>who?</html>"); break;
    case FAKE_STANDBY: exception(reply, 403, "StandbyException", "not me"); break;
    case FAKE_SAFE_MODE: exception(reply, 403, "SafeModeException", "in safe mode"); break;
    case FAKE_RETRIABLE: exception(reply, 403, "RetriableException", "not now"); break;
    case FAKE_DENIED: exception(reply, 403, "AccessControlException", "Permission denied"); break;
    case FAKE_404: loopback_text(reply, 404, "text/html", "%s", "<html>nothing here</html>"); break;
    case FAKE_500: exception(reply, 500, "RuntimeException", "oops"); break;
    case FAKE_500_AFTER:
        apply(f, r, reply);
        nothing_done(reply);
        exception(reply, 500, "RuntimeException", "oops");
        break;
    case FAKE_503: loopback_text(reply, 503, "text/html", "%s", "<html>busy</html>"); break;
    case FAKE_FALSE: boolean(reply, false); break;
    case FAKE_FALSE_AFTER:
        apply(f, r, reply);
        nothing_done(reply);
        boolean(reply, false);
        break;
    case FAKE_GARBAGE: loopback_text(reply, 200, "text/html", "%s", "<html>hi</html>"); break;
    case FAKE_GARBAGE_AFTER:
        apply(f, r, reply);
        nothing_done(reply);
        loopback_text(reply, 200, "text/html", "%s", "<html>hi</html>");
        break;
    case FAKE_HALF: half(f, r, reply); break;
    case FAKE_SLOW:
        apply(f, r, reply);
        reply->slow_ms = 1;
        break;
    case FAKE_LATE_APPLY:
        start_late(f, r);
        reply->reset = true;
        break;
    }
}

static void handle(void *ctx, const loopback_request *r, loopback_reply *reply) {
    fake_hdfs *f = ctx;
    char guard[64];
    pthread_mutex_lock(&f->lock);
    const bool name_node =
        r->port == loopback_port(f->name_nodes[0]) || r->port == loopback_port(f->name_nodes[1]);
    if (f->options.token != NULL && !name_node &&
        (strstr(r->target, f->options.token) != NULL || strstr(r->head, f->options.token) != NULL))
        f->leaked = true;
    if (r->port == loopback_port(f->foreign)) {
        loopback_text(reply, 201, "text/plain", "%s", "thanks");
    } else if (!loopback_header(r, "x-xsrf-header", guard, sizeof guard)) {
        exception(reply, 400, "BadRequestException", "Missing Required Header for CSRF");
    } else {
        const uint64_t number = ++f->requests;
        const uint64_t count = f->plan.count == 0 ? 1 : f->plan.count;
        const bool spoilt = f->plan.at > 0 && number >= f->plan.at && number - f->plan.at < count;
        if (spoilt)
            spoil(f, r, reply);
        else
            apply(f, r, reply); /* a body cut short too: data nodes keep what they got */
    }
    pthread_mutex_unlock(&f->lock);
}

/* ---- opening ---- */

fake_hdfs *fake_hdfs_open(const fake_options *options) {
    fake_hdfs *f = calloc(1, sizeof *f);
    if (options != NULL) f->options = *options;
    f->inodes = calloc(INODES_MAX, sizeof *f->inodes);
    pthread_mutex_init(&f->lock, NULL);
    add(f, "/", true);
    for (int i = 0; i < NAME_NODES; i++)
        f->name_nodes[i] = loopback_open_over(f->options.channel, handle, f);
    for (int i = 0; i < DATA_NODES; i++)
        f->data_nodes[i] = loopback_open_over(f->options.channel, handle, f);
    f->foreign = loopback_open_over(f->options.channel, handle, f);
    return f;
}

static void settle(fake_hdfs *f) {
    for (;;) {
        pthread_mutex_lock(&f->lock);
        const int pending = f->pending;
        pthread_mutex_unlock(&f->lock);
        if (pending == 0) return;
        usleep(1000);
    }
}

void fake_hdfs_close(fake_hdfs *f) {
    settle(f);
    for (int i = 0; i < NAME_NODES; i++)
        loopback_close(f->name_nodes[i]);
    for (int i = 0; i < DATA_NODES; i++)
        loopback_close(f->data_nodes[i]);
    loopback_close(f->foreign);
    while (f->count > 0)
        drop(f, &f->inodes[0]);
    free(f->inodes);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void fake_hdfs_uri(const fake_hdfs *f, const char *path, char *out, size_t capacity) {
    snprintf(out, capacity, "%s://127.0.0.1:%d,127.0.0.1:%d%s?redirect=127.0.0.1:%d,127.0.0.1:%d&",
             f->options.channel != NULL ? "swebhdfs" : "webhdfs", loopback_port(f->name_nodes[0]),
             loopback_port(f->name_nodes[1]), path, loopback_port(f->data_nodes[0]),
             loopback_port(f->data_nodes[1]));
}

void fake_hdfs_plan(fake_hdfs *f, fake_plan plan) {
    settle(f);
    pthread_mutex_lock(&f->lock);
    f->plan = plan;
    f->requests = 0;
    pthread_mutex_unlock(&f->lock);
}

uint64_t fake_hdfs_requests(fake_hdfs *f) {
    settle(f);
    pthread_mutex_lock(&f->lock);
    const uint64_t requests = f->requests;
    pthread_mutex_unlock(&f->lock);
    return requests;
}

uint64_t fake_hdfs_foreign(fake_hdfs *f) { return loopback_requests(f->foreign); }

bool fake_hdfs_token_leaked(fake_hdfs *f) {
    pthread_mutex_lock(&f->lock);
    const bool leaked = f->leaked;
    pthread_mutex_unlock(&f->lock);
    return leaked;
}

void fake_hdfs_activate(fake_hdfs *f, int node) {
    pthread_mutex_lock(&f->lock);
    f->active = node;
    pthread_mutex_unlock(&f->lock);
}

void fake_hdfs_set_quota(fake_hdfs *f, uint64_t bytes_max) {
    pthread_mutex_lock(&f->lock);
    f->options.bytes_max = bytes_max;
    pthread_mutex_unlock(&f->lock);
}

void fake_hdfs_clear(fake_hdfs *f) {
    settle(f);
    pthread_mutex_lock(&f->lock);
    while (f->count > 1)
        drop(f, &f->inodes[1]);
    pthread_mutex_unlock(&f->lock);
}

void *fake_hdfs_read(fake_hdfs *f, const char *path, size_t *size) {
    settle(f);
    pthread_mutex_lock(&f->lock);
    const inode *node = find(f, path);
    void *copy = NULL;
    if (node != NULL && !node->directory) {
        copy = malloc(node->size + 1);
        if (node->size > 0) memcpy(copy, node->data, node->size);
        *size = node->size;
    }
    pthread_mutex_unlock(&f->lock);
    return copy;
}

void fake_hdfs_write(fake_hdfs *f, const char *path, const void *data, size_t size) {
    pthread_mutex_lock(&f->lock);
    inode *node = add(f, path, false);
    node->data = malloc(size + 1);
    memcpy(node->data, data, size);
    node->size = size;
    f->bytes += size;
    pthread_mutex_unlock(&f->lock);
}

void fake_hdfs_mkdir(fake_hdfs *f, const char *path) {
    pthread_mutex_lock(&f->lock);
    cr_assert(make_dirs(f, path));
    pthread_mutex_unlock(&f->lock);
}

size_t fake_hdfs_count(fake_hdfs *f, const char *prefix) {
    settle(f);
    pthread_mutex_lock(&f->lock);
    size_t count = 0;
    for (size_t i = 0; i < f->count; i++)
        if (!f->inodes[i].directory && strncmp(f->inodes[i].path, prefix, strlen(prefix)) == 0)
            count++;
    pthread_mutex_unlock(&f->lock);
    return count;
}
