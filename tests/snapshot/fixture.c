/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/snapshot/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void make_temp_dir(char *out, size_t capacity) {
    const char *base = getenv("TMPDIR");
    snprintf(out, capacity, "%s/keyweir-test-XXXXXX", base == NULL ? "/tmp" : base);
    cr_assert(mkdtemp(out) != NULL);
}

void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        unlink(path);
        return;
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char below[1024];
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        struct stat st;
        if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(below);
        else
            unlink(below);
    }
    closedir(dir);
    rmdir(path);
}

void copy_tree(const char *from, const char *to) {
    DIR *dir = opendir(from);
    cr_assert(dir != NULL, "%s", from);
    cr_assert(mkdir(to, 0700) == 0 || file_exists(to), "%s", to);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char source[1024], target[1024];
        struct stat st;
        size_t size = 0;
        snprintf(source, sizeof source, "%s/%s", from, e->d_name);
        snprintf(target, sizeof target, "%s/%s", to, e->d_name);
        if (lstat(source, &st) != 0) continue;
        if (S_ISDIR(st.st_mode)) copy_tree(source, target);
        if (!S_ISREG(st.st_mode)) continue;
        void *bytes = slurp(source, &size);
        spill(target, bytes, size);
        free(bytes);
    }
    closedir(dir);
}

void fixture_open(fixture *f, int kind) {
    kwr_error err = { 0 };
    *f = (fixture){ 0 };
    KWR_MUST_ERR(kwr_env_posix_open(NULL, &f->env, &err), err);
    if (kind == KIND_MEMORY) {
        KWR_MUST_ERR(kwr_storage_open(f->env, "memory:", true, &f->storage, &err), err);
        return;
    }
    make_temp_dir(f->root, sizeof f->root);
    char uri[300];
    snprintf(uri, sizeof uri, "file:%s", f->root);
    KWR_MUST_ERR(kwr_storage_open(f->env, uri, true, &f->storage, &err), err);
}

void fixture_close(fixture *f) {
    kwr_storage_close(f->storage);
    kwr_env_posix_close(f->env);
    if (f->root[0] != '\0') remove_tree(f->root);
}

void *slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL, "cannot open %s", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    cr_assert(fread(data, 1, *size, file) == *size);
    data[*size] = '\0';
    fclose(file);
    return data;
}

void spill(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL, "cannot write %s", path);
    cr_assert(fwrite(data, 1, size, file) == size);
    cr_assert(fclose(file) == 0);
}

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

static void continue_log(const kwr_log *log, kwr_slot *slot) {
    kwr_log_continue(log, slot);
    slot->time_ms = 1700000000000;
    if (log->count > 0) return;
    memset(slot->job_uid, 7, sizeof slot->job_uid);
    slot->generation = 1;
}

kwr_slot next_fence(const kwr_log *log, const char *job) {
    kwr_slot slot = { .kind = KWR_SLOT_FENCE, .pid = 42 };
    continue_log(log, &slot);
    snprintf(slot.job, sizeof slot.job, "%s", job);
    if (log->count > 0) slot.generation++;
    return slot;
}

kwr_slot next_checkpoint(const kwr_log *log, uint64_t id) {
    kwr_slot slot = { .kind = KWR_SLOT_CHECKPOINT, .manifest_length = 100 };
    continue_log(log, &slot);
    slot.checkpoint = id;
    slot.highest = id;
    memset(slot.manifest_digest.bytes, (int)id, sizeof slot.manifest_digest.bytes);
    return slot;
}

void publish(const kwr_job_dirs *dirs, kwr_log *log, kwr_slot slot) {
    kwr_error err = { 0 };
    KWR_MUST_ERR(kwr_log_publish(dirs, &slot, &err), err);
    KWR_MUST(kwr_log_append(log, &slot));
}
