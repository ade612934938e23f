/* SPDX-License-Identifier: Apache-2.0 */
/* One table says what each option is called, takes and fills; everything else follows from it. */
#include "examples/wordcount_options.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keyweir/keyweir.h>

static const char usage_text[] =
    "usage: wordcount --input FILE [--input FILE ...] --output DIR --checkpoints URI [option ...]\n"
    "\n"
    "Counts words, exactly once: for a word that occurs n times in all inputs the files\n"
    "DIR/part-* together hold the lines 'word TAB 1' to 'word TAB n' once each, however often\n"
    "the program is killed and started again with the same command.\n"
    "\n"
    "  --input FILE           a file to read; may be given several times\n"
    "  --output DIR           where the counts go\n"
    "  --checkpoints URI      where checkpoints go: a path, file:, webhdfs: or swebhdfs: URI\n"
    "  --parallelism N        counting and writing tasks; may change at each start (default 2)\n"
    "  --max-parallelism M    key groups, fixed by the first checkpoint (default 128)\n"
    "  --backend memory|rocksdb\n"
    "                         where counts are kept while it runs; may change at a start from a\n"
    "                         checkpoint that both can read (default memory)\n"
    "  --state-directory DIR  local files of the backend rocksdb; they go with the process, or "
    "with\n"
    "                         the next start (default: the checkpoints' path with '.state' "
    "behind)\n"
    "  --local-copy DIR       keeps copies of checkpoints' data files there, on a disk of this\n"
    "                         machine, and restores from those that are sound\n"
    "  --write-rate BYTES     checkpoints take at most so many bytes a second; 0: as fast as they\n"
    "                         can (default)\n"
    "  --interval-ms T        time between checkpoints; 0: only the final one (default 1000)\n"
    "  --retain N             completed checkpoints kept (default 2)\n"
    "  --job NAME             name of the job below the checkpoint root (default wordcount)\n"
    "  --rate N               lines a second and file; 0: unlimited (default)\n"
    "  --restore auto|lazy|none|CHECKPOINT\n"
    "                         continue from the newest checkpoint; the same, but begin before all\n"
    "                         counts are loaded (backend memory); start empty; or go back to an\n"
    "                         older one, by id or directory (default auto)\n"
    "  --events FILE          appends JSON lines about checkpoints; FILE may be a FIFO\n"
    "  --quiet                no progress\n"
    "  --no-lock              DANGEROUS: do not keep other instances out; only the fence does\n"
    "  --seed N               seed of the key hash of a new job (for tests)\n"
    "  --inline-bytes N       states up to this size go into one file; 0: never (for tests)\n"
    "  --help, --version\n"
    "\n"
    "Exit: 0 done, 1 refused or damaged, 2 usage, 3 I/O, 4 job already running.\n";

enum { RATE_MAX = 1000000000, INTERVAL_MAX = 2000000000, RETAIN_MAX = 1000000 };

static wc_parsed usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static wc_parsed usage(const char *format, ...) {
    fputs("wordcount: ", stderr);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\nwordcount --help lists the options\n", stderr);
    return WC_PARSED_USAGE;
}

/* The whole of `text` as a decimal number: no sign, no spaces. */
static bool parse_u64(const char *text, uint64_t *out) {
    uint64_t value = 0;
    if (*text == '\0') return false;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9') return false;
        const uint64_t digit = (uint64_t)(*p - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static wc_parsed number(const char *option, const char *text, uint64_t min, uint64_t max,
                        uint64_t *out) {
    uint64_t value = 0;
    if (!parse_u64(text, &value) || value < min || value > max) {
        return usage("%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, option, text, min,
                     max);
    }
    *out = value;
    return WC_PARSED;
}

static wc_parsed number32(const char *option, const char *text, uint32_t min, uint32_t max,
                          uint32_t *out) {
    uint64_t value = 0;
    const wc_parsed parsed = number(option, text, min, max, &value);
    if (parsed == WC_PARSED) *out = (uint32_t)value;
    return parsed;
}

static bool job_ok(const char *name) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const size_t size = strlen(name);
    return size >= 1 && size <= 100 && name[0] != '.' && strspn(name, allowed) == size;
}

/* "<parent>/chk-<id>-<generation>", with any number of slashes behind. */
static bool parse_checkpoint_path(const char *text, wc_options *out) {
    if (strncmp(text, "file://", 7) == 0) {
        text += 7;
    } else if (strncmp(text, "file:", 5) == 0) {
        text += 5;
    }
    size_t size = strlen(text);
    while (size > 1 && text[size - 1] == '/')
        size--;
    size_t at = size;
    while (at > 0 && text[at - 1] != '/')
        at--;
    char name[64] = "";
    if (size - at >= sizeof name) return false;
    memcpy(name, text + at, size - at);
    name[size - at] = '\0';
    if (strncmp(name, "chk-", 4) != 0) return false;
    char *dash = strchr(name + 4, '-');
    if (dash == NULL) return false;
    *dash = '\0';
    if (!parse_u64(name + 4, &out->restore_checkpoint) ||
        !parse_u64(dash + 1, &out->restore_generation) || out->restore_generation == 0) {
        return false;
    }
    out->restore_parent = at == 0 ? strdup(".") : strndup(text, at);
    return out->restore_parent != NULL;
}

static wc_parsed parse_restore(const char *text, wc_options *out) {
    free(out->restore_parent);
    out->restore_parent = NULL;
    out->restore_generation = 0;
    out->lazy = strcmp(text, "lazy") == 0;
    if (out->lazy || strcmp(text, "auto") == 0) {
        out->restore = WC_RESTORE_AUTO;
        return WC_PARSED;
    }
    if (strcmp(text, "none") == 0) {
        out->restore = WC_RESTORE_NONE;
        return WC_PARSED;
    }
    out->restore = WC_RESTORE_CHECKPOINT;
    const bool by_id = parse_u64(text, &out->restore_checkpoint);
    if ((!by_id && !parse_checkpoint_path(text, out)) || out->restore_checkpoint == 0) {
        return usage(
            "--restore: '%s' is not auto, lazy, none, a checkpoint's id or a chk-... directory",
            text);
    }
    return WC_PARSED;
}

static wc_parsed parse_checkpoints(const char *text, wc_options *out) {
    const char *path = text;
    if (strncmp(text, "file://", 7) == 0) {
        path = text + 7;
    } else if (strncmp(text, "file:", 5) == 0) {
        path = text + 5;
    } else {
        /* A scheme is letters, digits, '+', '-', '.' before a ':'; a path with a ':' has a '/'. */
        const size_t scheme = strcspn(text, ":/");
        if (text[scheme] == ':' && strncmp(text + scheme, "://", 3) != 0) path = "";
    }
    if (*path == '\0') {
        return usage("--checkpoints: '%s' is not a path or the URI of a storage", text);
    }
    out->checkpoints = text;
    out->root = path;
    return WC_PARSED;
}

static wc_parsed add_input(const char *text, wc_options *out) {
    if (*text == '\0') return usage("--input: the name is empty");
    if (out->input_count == KWR_MAX_PARALLELISM_LIMIT) {
        return usage("--input: more than %d files", KWR_MAX_PARALLELISM_LIMIT);
    }
    const char **grown = realloc(out->inputs, (out->input_count + (size_t)1) * sizeof *grown);
    if (grown == NULL) return usage("--input: no memory");
    out->inputs = grown;
    out->inputs[out->input_count++] = text;
    return WC_PARSED;
}

typedef enum option_id {
    OPTION_INPUT,
    OPTION_OUTPUT,
    OPTION_CHECKPOINTS,
    OPTION_PARALLELISM,
    OPTION_MAX_PARALLELISM,
    OPTION_BACKEND,
    OPTION_STATE_DIRECTORY,
    OPTION_LOCAL_COPY,
    OPTION_WRITE_RATE,
    OPTION_INTERVAL,
    OPTION_RETAIN,
    OPTION_JOB,
    OPTION_RATE,
    OPTION_RESTORE,
    OPTION_EVENTS,
    OPTION_SEED,
    OPTION_INLINE_BYTES,
    OPTION_QUIET,
    OPTION_NO_LOCK,
    OPTION_HELP,
    OPTION_VERSION,
} option_id;

static const struct option_name {
    const char *name;
    option_id id;
    bool has_value;
} option_names[] = {
    { "--input", OPTION_INPUT, true },
    { "--output", OPTION_OUTPUT, true },
    { "--checkpoints", OPTION_CHECKPOINTS, true },
    { "--parallelism", OPTION_PARALLELISM, true },
    { "--max-parallelism", OPTION_MAX_PARALLELISM, true },
    { "--backend", OPTION_BACKEND, true },
    { "--state-directory", OPTION_STATE_DIRECTORY, true },
    { "--local-copy", OPTION_LOCAL_COPY, true },
    { "--write-rate", OPTION_WRITE_RATE, true },
    { "--interval-ms", OPTION_INTERVAL, true },
    { "--retain", OPTION_RETAIN, true },
    { "--job", OPTION_JOB, true },
    { "--rate", OPTION_RATE, true },
    { "--restore", OPTION_RESTORE, true },
    { "--events", OPTION_EVENTS, true },
    { "--seed", OPTION_SEED, true },
    { "--inline-bytes", OPTION_INLINE_BYTES, true },
    { "--quiet", OPTION_QUIET, false },
    { "--no-lock", OPTION_NO_LOCK, false },
    { "--help", OPTION_HELP, false },
    { "--version", OPTION_VERSION, false },
};

static wc_parsed set_text(const char *option, const char *text, const char **out) {
    if (*text == '\0') return usage("%s: the value is empty", option);
    *out = text;
    return WC_PARSED;
}

static wc_parsed set_option(const struct option_name *option, const char *value, wc_options *out) {
    const char *name = option->name;
    switch (option->id) {
    case OPTION_INPUT: return add_input(value, out);
    case OPTION_OUTPUT: return set_text(name, value, &out->output);
    case OPTION_CHECKPOINTS: return parse_checkpoints(value, out);
    case OPTION_PARALLELISM:
        return number32(name, value, 1, KWR_MAX_PARALLELISM_LIMIT, &out->parallelism);
    case OPTION_MAX_PARALLELISM:
        return number32(name, value, 1, KWR_MAX_PARALLELISM_LIMIT, &out->max_parallelism);
    case OPTION_BACKEND:
        out->backend = value;
        if (strcmp(value, "memory") == 0 || strcmp(value, "rocksdb") == 0) return WC_PARSED;
        return usage("--backend: '%s' is neither memory nor rocksdb", value);
    case OPTION_STATE_DIRECTORY: return set_text(name, value, &out->state_directory);
    case OPTION_LOCAL_COPY: return set_text(name, value, &out->local_copy);
    case OPTION_WRITE_RATE: return number(name, value, 0, UINT64_MAX, &out->write_rate);
    case OPTION_INTERVAL: return number(name, value, 0, INTERVAL_MAX, &out->interval_ms);
    case OPTION_RETAIN: return number32(name, value, 1, RETAIN_MAX, &out->retain);
    case OPTION_JOB:
        out->job = value;
        if (job_ok(value)) return WC_PARSED;
        return usage("--job: '%s' is not a name of 1 to 100 characters [A-Za-z0-9_.-] that does "
                     "not start with '.'",
                     value);
    case OPTION_RATE: return number(name, value, 0, RATE_MAX, &out->rate);
    case OPTION_RESTORE: return parse_restore(value, out);
    case OPTION_EVENTS: return set_text(name, value, &out->events);
    case OPTION_SEED: out->seed_given = true; return number(name, value, 0, UINT64_MAX, &out->seed);
    case OPTION_INLINE_BYTES:
        out->inline_given = true;
        return number(name, value, 0, 1024 * 1024 * 1024, &out->inline_bytes);
    case OPTION_QUIET: out->quiet = true; return WC_PARSED;
    case OPTION_NO_LOCK: out->no_lock = true; return WC_PARSED;
    case OPTION_HELP: fputs(usage_text, stdout); return WC_PARSED_HELP;
    case OPTION_VERSION: printf("wordcount (keyweir %s)\n", kwr_version()); return WC_PARSED_HELP;
    }
    return WC_PARSED;
}

/* "--name", "--name value" or "--name=value". */
static wc_parsed parse_one(int argc, char **argv, int *at, wc_options *out) {
    const char *argument = argv[*at];
    const size_t size = strcspn(argument, "=");
    const struct option_name *option = NULL;
    for (size_t i = 0; i < sizeof option_names / sizeof option_names[0]; i++) {
        const char *name = option_names[i].name;
        if (strlen(name) == size && memcmp(name, argument, size) == 0) option = &option_names[i];
    }
    if (option == NULL && argument[0] != '-') {
        return usage("'%s': inputs are given by --input", argument);
    }
    if (option == NULL) return usage("%.*s: no such option", (int)size, argument);
    if (!option->has_value) {
        if (argument[size] == '=') return usage("%s: takes no value", option->name);
        return set_option(option, NULL, out);
    }
    if (argument[size] == '=') return set_option(option, argument + size + 1, out);
    if (*at + 1 >= argc) return usage("%s: a value is missing", option->name);
    *at += 1;
    return set_option(option, argv[*at], out);
}

wc_parsed wc_options_parse(int argc, char **argv, wc_options *out) {
    *out = (wc_options){
        .job = "wordcount",
        .parallelism = 2,
        .backend = "memory",
        .interval_ms = 1000,
        .retain = 2,
    };
    for (int i = 1; i < argc; i++) {
        const wc_parsed parsed = parse_one(argc, argv, &i, out);
        if (parsed != WC_PARSED) return parsed;
    }
    if (out->input_count == 0) return usage("--input: at least one is needed");
    if (out->output == NULL) return usage("--output: is needed");
    if (out->checkpoints == NULL) return usage("--checkpoints: is needed");
    if (out->max_parallelism != 0 && out->parallelism > out->max_parallelism) {
        return usage("--parallelism: %" PRIu32 " is more than --max-parallelism %" PRIu32,
                     out->parallelism, out->max_parallelism);
    }
    return WC_PARSED;
}

void wc_options_done(wc_options *options) {
    free(options->inputs);
    free(options->restore_parent);
    options->inputs = NULL;
    options->restore_parent = NULL;
}
