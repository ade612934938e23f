/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile storage: a small sound job, one thing changed as an attacker or a bad disk would, digests
 * made right again where an attacker would do that. Whatever it is, checking and restoring must
 * refuse it with a text that says what is wrong, and nothing outside the root may be touched. Rows
 * are those of rows.tsv; the last test counts their cases.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "snapshot/data_file.h"
#include "snapshot/slot.h"
#include "snapshot/storage.h"
#include "tests/snapshot/mini_job.h"
#include "tests/snapshot/stored.h"

#define DATA "job/shared/1-count-0-0.kwp"
#define OTHER "job/shared/1-count-0-1.kwp"
#define MANIFEST "job/chk-2-1/manifest.json"
#define SLOT "job/log/0000000000000003"

typedef struct hostile {
    fixture f;
    char base[200]; /* holds root/ and outside/ */
} hostile;

/* A case changes the job; `text` must be in what fsck or the restore says. */
typedef struct hostile_case {
    const char *row, *name;
    void (*change)(hostile *h, const char *a, const char *b);
    const char *a, *b;
    const char *text;
} hostile_case;

/* ---- changes ---- */

static size_t size_of(hostile *h, const char *path) {
    size_t size = 0;
    free(stored_get(&h->f, path, &size));
    return size;
}

/* b: where, in parts of 1000. */
static void flip(hostile *h, const char *path, const char *where) {
    stored_flip(&h->f, path, size_of(h, path) * strtoul(where, NULL, 10) / 1000);
}

static void cut(hostile *h, const char *path, const char *where) {
    stored_cut(&h->f, path, size_of(h, path) * strtoul(where, NULL, 10) / 1000);
}

static void lengthen(hostile *h, const char *path, const char *unused) {
    size_t size = 0;
    uint8_t *bytes = stored_get(&h->f, path, &size);
    bytes = realloc(bytes, size + 64);
    memset(bytes + size, unused == NULL ? 0 : unused[0], 64);
    stored_put(&h->f, path, bytes, size + 64);
    free(bytes);
}

static void copy_over(hostile *h, const char *from, const char *to) {
    size_t size = 0;
    uint8_t *bytes = stored_get(&h->f, from, &size);
    stored_put(&h->f, to, bytes, size);
    free(bytes);
}

static void swap(hostile *h, const char *one, const char *two) {
    size_t a = 0, b = 0;
    uint8_t *x = stored_get(&h->f, one, &a), *y = stored_get(&h->f, two, &b);
    stored_put(&h->f, one, y, b);
    stored_put(&h->f, two, x, a);
    free(x);
    free(y);
}

static void drop(hostile *h, const char *path, const char *unused) {
    (void)unused;
    stored_remove(&h->f, path);
}

static void empty(hostile *h, const char *path, const char *unused) {
    (void)unused;
    stored_put(&h->f, path, "", 0);
}

/* Makes the last slot fit the manifest as it lies there now. */
static void seal_slot(hostile *h) {
    size_t size = 0;
    kwr_slot slot;
    kwr_error err = { 0 };
    kwr_bytes again = { 0 };
    uint8_t *bytes = stored_get(&h->f, SLOT, &size);
    KWR_MUST_ERR(kwr_slot_decode(h->f.env, (kwr_slice){ bytes, size }, "slot", &slot, &err), err);
    free(bytes);
    bytes = stored_get(&h->f, MANIFEST, &size);
    slot.manifest_length = size;
    slot.manifest_digest = kwr_digest_of(bytes, size);
    free(bytes);
    KWR_MUST_ERR(kwr_slot_encode(h->f.env, &slot, &again, &err), err);
    stored_put(&h->f, SLOT, again.data, again.size);
    kwr_bytes_free(&again);
}

/* The first `from` in a text file becomes `to`. */
static void replace(hostile *h, const char *path, const char *from, const char *to) {
    size_t size = 0;
    char *text = (char *)stored_get(&h->f, path, &size);
    char *at = memmem(text, size, from, strlen(from));
    cr_assert(at != NULL, "'%s' is not in %s: %.*s", from, path, (int)size, text);
    char *out = malloc(size + strlen(to) + 1);
    const size_t head = (size_t)(at - text);
    memcpy(out, text, head);
    memcpy(out + head, to, strlen(to));
    memcpy(out + head + strlen(to), at + strlen(from), size - head - strlen(from));
    stored_put(&h->f, path, out, size - strlen(from) + strlen(to));
    free(out);
    free(text);
}

/* In the manifest, and its slot knows. */
static void say(hostile *h, const char *from, const char *to) {
    replace(h, MANIFEST, from, to);
    seal_slot(h);
}

/* The number behind "field": becomes `to`. */
static void set(hostile *h, const char *field, const char *to) {
    size_t size = 0;
    char *text = (char *)stored_get(&h->f, MANIFEST, &size), from[300], with[1000];
    char *at = memmem(text, size, field, strlen(field));
    cr_assert(at != NULL, "%s: %.*s", field, (int)size, text);
    const size_t length = strlen(field) + strcspn(at + strlen(field), ",}\n");
    snprintf(from, sizeof from, "%.*s", (int)length, at);
    snprintf(with, sizeof with, "%s%s", field, to);
    free(text);
    say(h, from, with);
}

/* Many of something in place of the first list of operators. */
static void many(hostile *h, const char *open, const char *close) {
    enum { COUNT = 200000 };
    const size_t a = strlen(open), b = strlen(close);
    char *text = malloc(COUNT * (a + b) + 16);
    size_t n = 0;
    for (int i = 0; i < COUNT; i++, n += a)
        memcpy(text + n, open, a);
    for (int i = 0; i < COUNT && b > 0; i++, n += b)
        memcpy(text + n, close, b);
    stored_put(&h->f, MANIFEST, text, n);
    free(text);
    seal_slot(h);
}

/* 100,000 fields of one object, with equal or different names. */
static void many_fields(hostile *h, const char *format, const char *unused) {
    enum { COUNT = 100000 };
    (void)unused;
    char *text = malloc(COUNT * 40 + 2);
    size_t n = 0;
    text[n++] = '{';
    for (int i = 0; i < COUNT; i++) {
        n += (size_t)snprintf(text + n, 40, format, i);
        text[n++] = i + 1 < COUNT ? ',' : '}';
    }
    stored_put(&h->f, MANIFEST, text, n);
    free(text);
    seal_slot(h);
}

/* ---- data files, with all digests right again ---- */

static void hex(const kwr_digest *digest, char out[40]) {
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", digest->bytes[i]);
}

static void change_digest(hostile *h, const kwr_digest *from, const kwr_digest *to) {
    char a[40], b[40];
    hex(from, a);
    hex(to, b);
    if (strcmp(a, b) != 0) replace(h, MANIFEST, a, b);
}

/* a: "header", "index" or "image"; b: offset in it and the value, "offset=value[/bytes]". Of the
 * first file, whose digests in the manifest of checkpoint 2 are its own. */
static void patch(hostile *h, const char *part, const char *what) {
    size_t size = 0;
    uint8_t *bytes = stored_get(&h->f, OTHER, &size);
    uint8_t *foot = bytes + size - KWR_DATA_FOOTER_SIZE;
    kwr_data_footer footer;
    cr_assert(kwr_data_footer_decode(foot, &footer));
    const kwr_digest header = kwr_digest_of(bytes, KWR_DATA_HEADER_SIZE), index = footer.index,
                     tail = kwr_digest_of(foot, KWR_DATA_FOOTER_SIZE);
    char *end = NULL;
    const size_t at = strtoul(what, &end, 0);
    const uint64_t value = strtoull(end + 1, &end, 0);
    const size_t width = *end == '/' ? strtoul(end + 1, NULL, 0) : 4;
    uint8_t *table = bytes + footer.index_offset;
    kwr_data_entry first;
    (void)kwr_data_entry_decode(table, &first);
    uint8_t *target = part[0] == 'h'   ? bytes
                      : part[1] == 'n' ? table
                                       : bytes + first.offset + KWR_DATA_PREFIX_SIZE;
    for (size_t i = 0; i < width; i++)
        target[at + i] = (uint8_t)(value >> 8 * i);
    kwr_put_le64(bytes + KWR_DATA_HEADER_SIZE - 8, kwr_hash64(bytes, KWR_DATA_HEADER_SIZE - 8, 0));
    for (uint64_t i = 0; i < footer.images; i++) {
        kwr_data_entry entry;
        uint8_t *slot = table + i * KWR_DATA_ENTRY_SIZE;
        if (!kwr_data_entry_decode(slot, &entry) || entry.offset > footer.index_offset ||
            entry.stored > footer.index_offset - entry.offset - KWR_DATA_PREFIX_SIZE)
            continue;
        kwr_data_prefix_encode(&entry, bytes + entry.offset);
        kwr_put_le64(slot + 24,
                     kwr_hash64(bytes + entry.offset, KWR_DATA_PREFIX_SIZE + entry.stored, 0));
    }
    footer.index = kwr_digest_of(table, (size_t)footer.index_length);
    kwr_data_footer_encode(&footer, foot);
    stored_put(&h->f, OTHER, bytes, size);
    const kwr_digest new_header = kwr_digest_of(bytes, KWR_DATA_HEADER_SIZE),
                     new_tail = kwr_digest_of(foot, KWR_DATA_FOOTER_SIZE);
    change_digest(h, &header, &new_header);
    change_digest(h, &index, &footer.index);
    change_digest(h, &tail, &new_tail);
    seal_slot(h);
    free(bytes);
}

/* A slot's line, with a digest line that fits. */
static void slot_says(hostile *h, const char *from, const char *to) {
    replace(h, SLOT, from, to);
    size_t size = 0;
    char *text = (char *)stored_get(&h->f, SLOT, &size), digest[40];
    char *line = memchr(text, '\n', size);
    const kwr_digest d = kwr_digest_of(text, (size_t)(line + 1 - text));
    hex(&d, digest);
    char *out = malloc(size + 100);
    const int n =
        snprintf(out, size + 100, "%.*sxxh3-128 %s\n", (int)(line + 1 - text), text, digest);
    stored_put(&h->f, SLOT, out, (size_t)n);
    free(out);
    free(text);
}

/* ---- the file system ---- */

static void path_of(const hostile *h, const char *below, char out[600]) {
    snprintf(out, 600, "%s/%s", h->f.root, below);
}

/* In place of `path` a link to the same thing, moved out of the root. */
static void move_out(hostile *h, const char *path, const char *unused) {
    char from[600], to[600];
    (void)unused;
    path_of(h, path, from);
    snprintf(to, sizeof to, "%s/outside/moved", h->base);
    cr_assert(rename(from, to) == 0 && symlink(to, from) == 0);
}

static void make_fifo(hostile *h, const char *path, const char *unused) {
    char at[600];
    (void)unused;
    path_of(h, path, at);
    cr_assert(unlink(at) == 0 && mkfifo(at, 0600) == 0);
}

static void make_directory(hostile *h, const char *path, const char *unused) {
    char at[600];
    (void)unused;
    path_of(h, path, at);
    cr_assert(unlink(at) == 0 && mkdir(at, 0700) == 0);
}

/* ---- the table ---- */

static const hostile_case cases[] = {
    { "K1", "header", flip, DATA, "1", "header of operator" },
    { "K1", "image", flip, OTHER, "300", "page image" },
    { "K1", "index", flip, OTHER, "970", "index of operator" },
    { "K1", "footer", flip, OTHER, "999", "footer" },
    { "K1", "manifest", flip, MANIFEST, "500", "digest" },
    { "K1", "slot", flip, SLOT, "500", "0000000000000003" },
    { "K2", "data file cut", cut, OTHER, "900", "were written" },
    { "K2", "data file empty", empty, OTHER, NULL, "were written" },
    { "K2", "data file longer", lengthen, OTHER, NULL, "were written" },
    { "K2", "manifest cut", cut, MANIFEST, "999", "were written" },
    { "K2", "manifest longer", lengthen, MANIFEST, " ", "were written" },
    { "K2", "slot cut", cut, SLOT, "999", "0000000000000003" },
    { "K3", "older data file", copy_over, DATA, OTHER, "were written" },
    { "K3", "older manifest", copy_over, "job/chk-1-1/manifest.json", MANIFEST,
      "do not have the digest" },
    { "K3", "older slot", copy_over, "job/log/0000000000000002", SLOT, "it holds slot 2" },
    { "K3", "manifest as data", copy_over, MANIFEST, OTHER, "were written" },
    { "K4", "data file", drop, OTHER, NULL, "1-count-0-1.kwp" },
    { "K4", "manifest", drop, MANIFEST, NULL, "manifest.json" },
    { "K4", "slot in the middle", drop, "job/log/0000000000000002", NULL, "is missing" },
    { "K5", "emptied", empty, SLOT, NULL, "0000000000000003" },
    { "K5", "doubled", copy_over, SLOT, "job/log/0000000000000004", "it holds slot 3" },
    { "K5", "swapped", swap, "job/log/0000000000000002", SLOT, "it holds slot" },
    { "K5", "another job's", slot_says, "\"job\":\"job\"", "\"job\":\"jot\"", "another name" },
    { "K5", "broken chain", slot_says, "\"generation\":1", "\"generation\":2", "generation" },
    { "K6", "parent directory", say, "1-count-0-1.kwp", "../../outside/secret", "name" },
    { "K6", "absolute", say, "\"1-count-0-1.kwp", "\"/etc/passwd", "name" },
    { "K6", "inner slash", say, "1-count-0-1.kwp", "1-count-0-1/x.kwp", "name" },
    { "K6", "scheme", say, "1-count-0-1.kwp", "file:secret.kwp", "name" },
    { "K6", "hidden", say, "1-count-0-1.kwp", ".1-count-0-1.kwp", "name" },
    { "K6", "NUL", say, "1-count-0-1.kwp", "1-count-0-1.kwp\\u0000/../x", "line 33" },
    { "K6", "ends in dots", say, "1-count-0-1.kwp", "..", "name" },
    { "K7", "huge length", set, "\"length\": ", "\"18446744073709551615\"", "outside 1 to" },
    { "K7", "negative length", set, "\"length\": ", "-1", "whole number" },
    { "K7", "huge count of images", set, "\"images\": ", "9007199254740992", "outside 0 to" },
    { "K7", "overflowing images", set, "\"images\": ", "\"18446744073709551615\"", "outside 0 to" },
    { "K7", "huge live bytes", set, "\"live_bytes\": ", "9007199254740992", "live_bytes is" },
    { "K7", "huge parallelism", set, "\"parallelism\": ", "4294967296", "outside 1 to 32768" },
    { "K7", "stored bytes of an image", patch, "index", "32=0xffffffff", "index" },
    { "K8", "raw size", patch, "index", "36=0xffffffff", "limit" },
    { "K8", "raw size of nothing", patch, "index", "36=0", "decoded size" },
    { "K8", "ratio", patch, "index", "36=0x3fffffff", "do not fit" },
    { "K9", "manifest version", say, "\"version\": 1", "\"version\": 2", "version" },
    { "K9", "feature", say, "\"features\": []", "\"features\": [\"warp\"]", "warp" },
    { "K9", "slot version", slot_says, "\"version\":1", "\"version\":2", "version" },
    { "K9", "header version", patch, "header", "8=2/2", "newer keyweir" },
    { "K9", "header feature", patch, "header", "16=1/8", "newer keyweir" },
    { "K9", "codec", patch, "index", "51=9/1", "codec" },
    { "K10", "key group of nobody", patch, "index", "48=0xffff/2", "key group" },
    { "K10", "state of nobody", patch, "index", "40=77", "no state" },
    { "K10", "count of entries", set, "\"entries\": ", "1", "entries" },
    { "K10", "another seed", patch, "header", "104=99/8", "seed" },
    { "K10", "offset", patch, "index", "0=0/8", "gap, overlaps" },
    { "P1", "only dots", say, "1-count-0-1.kwp", "...", "name" },
    { "P1", "space", say, "1-count-0-1.kwp", "1-count-0-1 .kwp", "name" },
    { "P1", "not ASCII", say, "1-count-0-1.kwp", "1-c\xc3\xb6unt-0-1.kwp", "name" },
    { "P1", "backslash", say, "1-count-0-1.kwp", "1-c\\\\..\\\\x-0-1.kwp", "name" },
    { "P2", "data file", move_out, OTHER, NULL, "symbolic link" },
    { "P2", "shared", move_out, "job/shared", NULL, "symbolic link" },
    { "P2", "checkpoint", move_out, "job/chk-2-1", NULL, "symbolic link" },
    { "P2", "log", move_out, "job/log", NULL, "symbolic link" },
    { "P2", "slot", move_out, SLOT, NULL, "symbolic link" },
    { "P2", "job", move_out, "job", NULL, "symbolic link" },
    { "P3", "pipe as data", make_fifo, OTHER, NULL, "not a regular file" },
    { "P3", "pipe as manifest", make_fifo, MANIFEST, NULL, "not a regular file" },
    { "P3", "pipe as slot", make_fifo, SLOT, NULL, "not a regular file" },
    { "P3", "directory as data", make_directory, OTHER, NULL, "not a regular file" },
    { "R1", "record offset", patch, "image", "80=0x3fff/2", "page image" },
    { "R1", "page length", patch, "image", "40=0xffff/2", "page image" },
    { "R1", "slot groups", patch, "image", "48=0xff/1", "page image" },
    { "R1", "slots in use", patch, "image", "44=0xffff/2", "page image" },
    { "R3", "nested lists", many, "[", "]", "not JSON as specified" },
    { "R3", "nested objects", many, "{\"a\":", "1", "not JSON as specified" },
    { "R3", "plus sign", set, "\"length\": ", "\"+5\"", "not a whole number" },
    { "R3", "fraction", set, "\"length\": ", "5.0", "not a whole number" },
    { "R3", "exponent", set, "\"length\": ", "5e1", "not a whole number" },
    { "R4", "not LZ4", patch, "image", "0=0xffffffff", "decompressed" },
    { "R4", "larger than it is", patch, "index", "36=70000", "sizes do not fit" },
    { "R4", "smaller than it is", patch, "index", "36=1", "sizes do not fit" },
    { "R5", "short", set, "\"header\": ", "\"00\"", "lower-case hex" },
    { "R5", "upper case", set, "\"index\": ", "\"ABCDEF00ABCDEF00ABCDEF00ABCDEF00\"",
      "lower-case hex" },
    { "R5", "none", set, "\"footer\": ", "null", "lower-case hex" },
    { "R6", "escape in the job", say, "\"job\": \"job\"", "\"job\": \"\\u001b[31mred\"",
      "field job is not a name" },
    { "R6", "line feed in an operator", say, "\"id\": \"count\"", "\"id\": \"a\\n\\rb\"",
      "operators[0].id is not a name" },
    { "R6", "raw bytes", say, "\"job\": \"job\"", "\"job\": \"\x01\x02\x1b\"", "line 6" },
    { "R7", "different fields", many_fields, "\"f%d\":1", NULL, "keyweir is missing" },
    { "R7", "equal fields", many_fields, "\"keyweir\":%d", NULL, "not JSON as specified" },
    { "R7", "empty names", many_fields, "\"\":%d", NULL, "not JSON as specified" },
    { "R8", "comparator", say,
      "\"seed\":", "\"comparator\": \"evil.so\", \"seed\":", "comparator" },
    { "R8", "kind of state", say, "\"kind\": \"value\"", "\"kind\": \"plugin\"", "kind" },
    { "R8", "type", say, "\"key_type\": \"string\"", "\"key_type\": \"./evil.so\"",
      "key_type is not a type" },
    { "R8", "format", say, "\"format\": \"pages-1\"", "\"format\": \"../evil-1\"",
      "format is not a name" },
};
#define CASES (sizeof cases / sizeof *cases)

/* ---- running them ---- */

static uint64_t sum_of_outside(const hostile *h) {
    char path[600];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/outside/secret", h->base);
    char *bytes = slurp(path, &size);
    const uint64_t sum = kwr_hash64(bytes, size, 0);
    free(bytes);
    return sum;
}

/* The job once for all: checkpoint 2 is the one that is changed, and the newest. */
static void make(hostile *h, const char *pattern, bool raw) {
    kwr_error err = { 0 };
    char outside[300], secret[320];
    *h = (hostile){ 0 };
    make_temp_dir(h->base, sizeof h->base);
    snprintf(h->f.root, sizeof h->f.root, "%s/root", h->base);
    snprintf(outside, sizeof outside, "%s/outside", h->base);
    snprintf(secret, sizeof secret, "%s/secret", outside);
    cr_assert(mkdir(outside, 0700) == 0);
    spill(secret, "nobody's business", 17);
    KWR_MUST_ERR(kwr_env_posix_open(NULL, &h->f.env, &err), err);
    if (pattern != NULL) copy_tree(pattern, h->f.root);
    KWR_MUST_ERR(kwr_storage_open(h->f.env, h->f.root, true, &h->f.storage, &err), err);
    if (pattern != NULL) return;
    mini_job job = { .compression_off = raw };
    KWR_MUST_ERR(mini_start(&job, h->f.env, h->f.storage, &err), err);
    for (uint32_t round = 1; round <= 2; round++)
        KWR_MUST_ERR(mini_checkpoint(&job, 40, round, &err), err);
    mini_stop(&job);
}

static void done(hostile *h) {
    kwr_storage_close(h->f.storage);
    kwr_env_posix_close(h->f.env);
    remove_tree(h->base);
}

typedef struct heard {
    const char *text;
    bool told;
    char first[1024];
} heard;

static bool printable(const char *text) {
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    return true;
}

static void hear(void *ctx, const kwr_fsck_finding *finding) {
    heard *h = ctx;
    cr_assert(printable(finding->text), "%s", finding->text);
    if (!kwr_fsck_is_fault(finding->kind)) return;
    if (h->first[0] == '\0') snprintf(h->first, sizeof h->first, "%s", finding->text);
    if (strstr(finding->text, h->text) != NULL) h->told = true;
}

static bool is_refusal(kwr_status status) {
    return status == KWR_ERR_CORRUPT || status == KWR_ERR_MISSING || status == KWR_ERR_FORMAT ||
           status == KWR_ERR_MISMATCH || status == KWR_ERR_RANGE || status == KWR_ERR_IO;
}

static void run(hostile *h, const hostile_case *c) {
    heard all = { .text = c->text };
    kwr_error err = { 0 };
    const uint64_t before = sum_of_outside(h);
    c->change(h, c->a, c->b);
    const kwr_fsck_options o = { .struct_size = sizeof o,
                                 .env = h->f.env,
                                 .storage = h->f.storage,
                                 .job = "job",
                                 .ctx = &all,
                                 .found = hear };
    kwr_fsck_result result = { .struct_size = sizeof result };
    const kwr_status checked = kwr_fsck(&o, &result, &err);
    const bool by_fsck = checked < KWR_OK || result.faults > 0;
    if (checked < KWR_OK) {
        cr_assert(is_refusal(checked), "%s %s: %s", c->row, c->name, err.text);
        all.told = strstr(err.text, c->text) != NULL;
        snprintf(all.first, sizeof all.first, "%s", err.text);
    }
    kwr_backend *backend = NULL;
    uint64_t round = 0;
    err = (kwr_error){ 0 };
    const kwr_status restored = mini_restore(h->f.env, h->f.storage, &backend, &round, &err);
    kwr_backend_close(backend);
    cr_assert(restored == KWR_OK || restored == KWR_NOT_FOUND || is_refusal(restored),
              "%s %s: %s: %s", c->row, c->name, kwr_status_name(restored), err.text);
    cr_assert(printable(err.text), "%s", err.text);
    if (restored < KWR_OK && strstr(err.text, c->text) != NULL) all.told = true;
    cr_assert(by_fsck, "%s %s is not found", c->row, c->name);
    /* What an older checkpoint alone needs does not keep the newest from being restored. */
    cr_assert(restored < KWR_OK || round == 2, "%s %s", c->row, c->name);
    cr_assert(all.told, "%s %s: '%s' is in neither '%s' nor '%s'", c->row, c->name, c->text,
              all.first, err.text);
    kwr_gc_result swept = { .struct_size = sizeof swept };
    const kwr_gc_options g = { .struct_size = sizeof g,
                               .env = h->f.env,
                               .storage = h->f.storage,
                               .job = "job",
                               .remove = true,
                               .attempt_ended = true };
    const kwr_status collected = kwr_gc(&g, &swept, &err);
    cr_assert(collected == KWR_OK || is_refusal(collected), "%s", err.text);
    cr_assert(swept.removed == 0, "%s %s: gc removed something", c->row, c->name);
    cr_assert(sum_of_outside(h) == before);
}

KWR_TEST(hostile, storage_is_refused_with_what_is_wrong_and_nothing_outside_is_touched,
         .timeout = 300) {
    hostile pattern, raw;
    make(&pattern, NULL, false);
    make(&raw, NULL, true);
    for (size_t i = 0; i < CASES; i++) {
        hostile h;
        const bool pages = strcmp(cases[i].row, "R1") == 0;
        make(&h, pages ? raw.f.root : pattern.f.root, false);
        run(&h, &cases[i]);
        done(&h);
    }
    done(&pattern);
    done(&raw);
}

/* ---- cases that are no change of stored bytes ---- */

typedef struct check {
    const char *row, *name;
    void (*run)(hostile *h);
} check;

static void name_refused(hostile *h, const char *name) {
    kwr_storage_dir *dir = NULL;
    kwr_storage_reader *reader = NULL;
    kwr_error err = { 0 };
    const kwr_storage_ops *ops = h->f.storage->ops;
    cr_assert(ops->dir_open(h->f.storage, NULL, name, true, &dir, &err) == KWR_ERR_RANGE);
    cr_assert(ops->open(h->f.storage, NULL, name, &reader, NULL, &err) == KWR_ERR_RANGE);
    cr_assert(ops->publish(h->f.storage, NULL, name, "x", 1, &err) == KWR_ERR_RANGE);
    cr_assert(ops->remove(h->f.storage, NULL, name, &err) == KWR_ERR_RANGE);
    cr_assert(strstr(err.text, "refused") != NULL && printable(err.text));
}
static void name_up(hostile *h) { name_refused(h, ".."); }
static void name_slash(hostile *h) { name_refused(h, "../outside/secret"); }
static void name_control(hostile *h) { name_refused(h, "a\x1b[0m"); }

static mode_t mode_of(hostile *h, const char *below) {
    char path[600];
    struct stat st;
    path_of(h, below, path);
    cr_assert(lstat(path, &st) == 0, "%s", path);
    return st.st_mode & 07777;
}
static void made_under(hostile *h, mode_t mask) {
    kwr_storage_dir *dir = NULL;
    kwr_error err = { 0 };
    const mode_t before = umask(mask);
    const kwr_status made =
        h->f.storage->ops->dir_open(h->f.storage, NULL, "new", true, &dir, &err);
    kwr_status published = made;
    if (made >= KWR_OK)
        published = h->f.storage->ops->publish(h->f.storage, dir, "file", "x", 1, &err);
    umask(before);
    KWR_MUST_ERR(published, err);
    h->f.storage->ops->dir_close(h->f.storage, dir);
    cr_assert(mode_of(h, "new") == 0700 && mode_of(h, "new/file") == 0600);
}
static void umask_none(hostile *h) { made_under(h, 0); }
static void umask_usual(hostile *h) { made_under(h, 022); }
static void umask_strict(hostile *h) { made_under(h, 0277); }

static void root_mode(hostile *h, mode_t mode, bool refused) {
    kwr_storage *storage = NULL;
    kwr_error err = { 0 };
    cr_assert(chmod(h->f.root, mode) == 0);
    const kwr_status status = kwr_storage_open(h->f.env, h->f.root, false, &storage, &err);
    cr_assert(status == (refused ? KWR_ERR_REFUSED : KWR_OK), "%o: %s %s", (unsigned)mode,
              kwr_status_name(status), err.text);
    if (refused) cr_assert(strstr(err.text, h->f.root) != NULL, "%s", err.text);
    kwr_storage_close(storage);
}
static void root_for_all(hostile *h) { root_mode(h, 0777, true); }
static void root_others_write(hostile *h) { root_mode(h, 0702, true); }
static void root_sticky(hostile *h) { root_mode(h, 01777, false); }
static void root_unchecked(hostile *h) {
    const kwr_posix_options options = { .struct_size = sizeof options, .roots_unchecked = true };
    kwr_env *env = NULL;
    kwr_storage *storage = NULL;
    kwr_error err = { 0 };
    cr_assert(chmod(h->f.root, 0777) == 0);
    KWR_MUST_ERR(kwr_env_posix_open(&options, &env, &err), err);
    KWR_MUST_ERR(kwr_storage_open(env, h->f.root, false, &storage, &err), err);
    kwr_storage_close(storage);
    kwr_env_posix_close(env);
}

/* The name is taken by something that points out; it must stay and nothing be written there. */
static void publish_at(hostile *h, const char *name) {
    kwr_error err = { 0 };
    const uint64_t before = sum_of_outside(h);
    cr_assert(h->f.storage->ops->publish(h->f.storage, NULL, name, "new", 3, &err) ==
              KWR_ERR_EXISTS);
    kwr_storage_writer *writer = NULL;
    cr_assert(h->f.storage->ops->create(h->f.storage, NULL, name, &writer, &err) == KWR_ERR_EXISTS);
    cr_assert(sum_of_outside(h) == before);
}
static void outside_of(const hostile *h, const char *name, char out[600]) {
    snprintf(out, 600, "%s/outside/%s", h->base, name);
}
static void publish_on_link(hostile *h) {
    char target[600], path[600];
    outside_of(h, "secret", target);
    path_of(h, "name", path);
    cr_assert(symlink(target, path) == 0);
    publish_at(h, "name");
}
static void publish_on_dangling_link(hostile *h) {
    char target[600], path[600];
    outside_of(h, "new", target);
    path_of(h, "name", path);
    cr_assert(symlink(target, path) == 0);
    publish_at(h, "name");
    cr_assert(!file_exists(target));
}
static void publish_on_hard_link(hostile *h) {
    char target[600], path[600];
    outside_of(h, "secret", target);
    path_of(h, "name", path);
    cr_assert(link(target, path) == 0);
    publish_at(h, "name");
}

static void collect(hostile *h, kwr_gc_result *out) {
    kwr_error err = { 0 };
    *out = (kwr_gc_result){ .struct_size = sizeof *out };
    const kwr_gc_options g = { .struct_size = sizeof g,
                               .env = h->f.env,
                               .storage = h->f.storage,
                               .job = "job",
                               .remove = true,
                               .attempt_ended = true };
    KWR_MUST_ERR(kwr_gc(&g, out, &err), err);
}
static void remove_link(hostile *h) {
    char target[600], path[600];
    kwr_gc_result result;
    outside_of(h, "secret", target);
    path_of(h, "job/shared/1-count-0-77.kwp", path);
    cr_assert(symlink(target, path) == 0);
    collect(h, &result);
    cr_assert(sum_of_outside(h) != 0 && file_exists(target));
}
static void remove_linked_directory(hostile *h) {
    char target[600], manifest[640], path[600];
    kwr_gc_result result;
    outside_of(h, "dir", target);
    snprintf(manifest, sizeof manifest, "%s/manifest.json", target);
    cr_assert(mkdir(target, 0700) == 0);
    spill(manifest, "x", 1);
    path_of(h, "job/chk-7-1", path);
    cr_assert(symlink(target, path) == 0);
    collect(h, &result);
    cr_assert(file_exists(manifest));
}
static void remove_nested(hostile *h) {
    kwr_gc_result result;
    char path[600];
    path_of(h, "job/chk-7-1", path);
    cr_assert(mkdir(path, 0700) == 0);
    path_of(h, "job/chk-7-1/manifest.json", path);
    cr_assert(mkdir(path, 0700) == 0);
    path_of(h, "job/chk-7-1/manifest.json/deep", path);
    spill(path, "x", 1);
    collect(h, &result);
    cr_assert(result.failed == 1 && file_exists(path));
}

static void temporary_is_not_read(hostile *h, const char *path) {
    kwr_backend *backend = NULL;
    kwr_error err = { 0 };
    uint64_t round = 0;
    stored_put(&h->f, path, "garbage", 7);
    KWR_MUST_ERR(mini_restore(h->f.env, h->f.storage, &backend, &round, &err), err);
    cr_assert(round == 2);
    kwr_backend_close(backend);
}
static void temporary_slot(hostile *h) {
    temporary_is_not_read(h, "job/log/.tmp-0000000000000004-0123456789abcdef");
}
static void temporary_manifest(hostile *h) {
    temporary_is_not_read(h, "job/chk-2-1/.tmp-manifest.json-0123456789abcdef");
}
static void temporary_gone(hostile *h) {
    kwr_error err = { 0 };
    char first[256] = "";
    KWR_MUST_ERR(h->f.storage->ops->publish(h->f.storage, NULL, "name", "x", 1, &err), err);
    cr_assert(stored_count(&h->f, "job/log", ".tmp", first) == 0, "%s", first);
    char path[600];
    path_of(h, ".tmp-name", path);
    cr_assert(!file_exists(path));
}

static void work(hostile *h) {
    mini_job job = { 0 };
    kwr_error err = { 0 };
    KWR_MUST_ERR(mini_start(&job, h->f.env, h->f.storage, &err), err);
    KWR_MUST_ERR(mini_checkpoint(&job, 20, 5, &err), err);
    mini_stop(&job);
}
static void keeps_umask_and_place(hostile *h) {
    char before[600], after[600];
    const mode_t mask = umask(0123);
    cr_assert(getcwd(before, sizeof before) != NULL);
    work(h);
    cr_assert(umask(mask) == 0123);
    cr_assert(getcwd(after, sizeof after) != NULL && strcmp(before, after) == 0);
}
static void keeps_signals(hostile *h) {
    struct sigaction before[32], after;
    for (int i = 1; i < 32; i++)
        (void)sigaction(i, NULL, &before[i]);
    work(h);
    for (int i = 1; i < 32; i++) {
        if (i == SIGKILL || i == SIGSTOP || sigaction(i, NULL, &after) != 0) continue;
        cr_assert(after.sa_handler == before[i].sa_handler, "signal %d", i);
    }
}
/* While a storage is open: nothing a program started by the host would inherit. */
static void leaks_no_descriptor(hostile *h) {
    kwr_job_dirs dirs = { 0 };
    kwr_error err = { 0 };
    bool inherited[1024];
    for (int fd = 0; fd < 1024; fd++)
        inherited[fd] = fcntl(fd, F_GETFD) >= 0;
    KWR_MUST_ERR(kwr_job_dirs_open(h->f.env, h->f.storage, "job", true, &dirs, &err), err);
    for (int fd = 0; fd < 1024; fd++) {
        const int flags = fcntl(fd, F_GETFD);
        cr_assert(flags < 0 || inherited[fd] || (flags & FD_CLOEXEC) != 0, "descriptor %d", fd);
    }
    kwr_job_dirs_close(&dirs);
    for (int fd = 0; fd < 1024; fd++)
        cr_assert(inherited[fd] == (fcntl(fd, F_GETFD) >= 0), "descriptor %d", fd);
}

static void limited(hostile *h, kwr_limits limits, const char *text) {
    heard all = { .text = text };
    kwr_error err = { 0 };
    limits.struct_size = sizeof limits;
    const kwr_fsck_options o = { .struct_size = sizeof o,
                                 .env = h->f.env,
                                 .storage = h->f.storage,
                                 .job = "job",
                                 .limits = &limits,
                                 .ctx = &all,
                                 .found = hear };
    kwr_fsck_result result = { .struct_size = sizeof result };
    KWR_MUST_ERR(kwr_fsck(&o, &result, &err), err);
    cr_assert(result.faults > 0 && all.told, "%s: %s", text, all.first);
}
static void limit_manifest(hostile *h) {
    limited(h, (kwr_limits){ .manifest_bytes_max = 100 }, "limit");
}
static void limit_slot(hostile *h) { limited(h, (kwr_limits){ .slot_bytes_max = 100 }, "limit"); }
static void limit_image(hostile *h) {
    limited(h, (kwr_limits){ .image_bytes_max = 32 }, "image_bytes_max");
}
static void limit_index(hostile *h) {
    limited(h, (kwr_limits){ .index_bytes_max = 56 }, "index_bytes_max");
}

static void has_seeds(const char *target) {
    char path[600];
    snprintf(path, sizeof path, KWR_SOURCE_ROOT "/tests/fuzz/%s.c", target);
    cr_assert(file_exists(path), "%s", path);
    snprintf(path, sizeof path, KWR_SOURCE_ROOT "/tests/fuzz/seeds/%s", target);
    cr_assert(file_exists(path), "%s", path);
}
static void fuzz_stored(hostile *h) {
    (void)h;
    has_seeds("slot");
    has_seeds("manifest");
    has_seeds("part");
}
static void fuzz_data(hostile *h) {
    (void)h;
    has_seeds("index");
    has_seeds("name");
}
static void fuzz_received(hostile *h) {
    (void)h;
    has_seeds("message");
    has_seeds("reply");
}

static const check checks[] = {
    { "P1", "up", name_up },
    { "P1", "slash", name_slash },
    { "P1", "control", name_control },
    { "P4", "umask 0", umask_none },
    { "P4", "umask 022", umask_usual },
    { "P4", "umask 0277", umask_strict },
    { "P5", "all may write", root_for_all },
    { "P5", "others may write", root_others_write },
    { "P5", "sticky is allowed", root_sticky },
    { "P5", "unless the host says so", root_unchecked },
    { "P6", "link", publish_on_link },
    { "P6", "dangling link", publish_on_dangling_link },
    { "P6", "hard link", publish_on_hard_link },
    { "P7", "link", remove_link },
    { "P7", "linked directory", remove_linked_directory },
    { "P7", "nested", remove_nested },
    { "P8", "slot", temporary_slot },
    { "P8", "manifest", temporary_manifest },
    { "P8", "gone", temporary_gone },
    { "P9", "umask and working directory", keeps_umask_and_place },
    { "P9", "signals", keeps_signals },
    { "P9", "descriptors", leaks_no_descriptor },
    { "R2", "manifest", limit_manifest },
    { "R2", "slot", limit_slot },
    { "R2", "image", limit_image },
    { "R2", "index", limit_index },
    { "R9", "stored", fuzz_stored },
    { "R9", "data files", fuzz_data },
    { "R9", "received", fuzz_received },
};
#define CHECKS (sizeof checks / sizeof *checks)

KWR_TEST(hostile, names_roots_links_and_limits_are_checked, .timeout = 300) {
    hostile pattern;
    make(&pattern, NULL, false);
    for (size_t i = 0; i < CHECKS; i++) {
        hostile h;
        make(&h, pattern.f.root, false);
        const uint64_t before = sum_of_outside(&h);
        checks[i].run(&h);
        cr_assert(sum_of_outside(&h) == before, "%s %s", checks[i].row, checks[i].name);
        chmod(h.f.root, 0700);
        done(&h);
    }
    done(&pattern);
}

/* ---- the rows ---- */

static size_t count_of(const char *row) {
    size_t count = 0;
    for (size_t i = 0; i < CASES; i++)
        count += strcmp(cases[i].row, row) == 0;
    for (size_t i = 0; i < CHECKS; i++)
        count += strcmp(checks[i].row, row) == 0;
    return count;
}

KWR_TEST(hostile, every_row_has_three_cases_and_every_case_a_row) {
    size_t size = 0, rows = 0, sum = 0;
    char *text = slurp(KWR_SOURCE_ROOT "/tests/hostile/rows.tsv", &size);
    for (char *at = text; at < text + size;) {
        char *end = memchr(at, '\n', (size_t)(text + size - at)), row[16];
        cr_assert(end != NULL);
        if (*at != '#') {
            const size_t length = strcspn(at, "\t");
            cr_assert(length < sizeof row && at + length < end);
            snprintf(row, sizeof row, "%.*s", (int)length, at);
            cr_assert(count_of(row) >= 3, "row %s has %zu cases", row, count_of(row));
            sum += count_of(row);
            rows++;
        }
        at = end + 1;
    }
    free(text);
    cr_assert(rows == 28, "%zu rows", rows);
    cr_assert(sum == CASES + CHECKS, "%zu cases have no row", CASES + CHECKS - sum);
}
