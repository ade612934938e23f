/* SPDX-License-Identifier: Apache-2.0 */
/* The keyweir command: opens checkpoints without the engine that wrote them, and never writes to
 * them; gc alone removes, what none of them needs. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>

#include "base/name.h"
#include "tools/tool.h"

typedef struct verb {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(const tool_options *options);
} verb;

static const verb verbs[] = {
    { "ls", "ROOT|JOB", "list the completed checkpoints", tool_ls },
    { "latest", "ROOT|JOB", "print the path of the newest completed checkpoint of each job",
      tool_latest },
    { "show", "CHECKPOINT", "show what a checkpoint consists of", tool_show },
    { "dump", "CHECKPOINT", "print the entries of keyed state", tool_dump },
    { "plan", "CHECKPOINT", "print who gets what at another parallelism", tool_plan },
    { "verify", "CHECKPOINT|ROOT|JOB", "read every byte and check it", tool_verify },
    { "fsck", "ROOT|JOB", "check all checkpoints and all that lies beside them", tool_fsck },
    { "gc", "ROOT|JOB", "remove what no checkpoint needs; without --delete only say it", tool_gc },
};

static void usage(FILE *out) {
    fputs("usage: keyweir VERB [options] PLACE\n\n", out);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(out, "  %-7s %-20s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].help);
    fputs("\n"
          "PLACE is a path or the URI of a storage: ROOT the checkpoint root, JOB one job's\n"
          "directory in it, CHECKPOINT a chk-... directory.\n\n"
          "  --json                 JSON on stdout (dump: one object per line)\n"
          "  --format text|json     dump: the same choice by name\n"
          "  --operator ID          dump: only this operator\n"
          "  --parallelism P        plan: of every operator\n"
          "  --operator ID=P        plan: of this operator; may be repeated\n"
          "  --state NAME           dump: only this state\n"
          "  --top N                dump: the N largest values of a numeric state\n"
          "  --quiet                verify: findings only; fsck: faults only; gc: failures only\n"
          "  --jobs N               verify, fsck: N files at the same time (default: processors)\n"
          "  --progress             verify, fsck: how far it is, rate and time left, on stderr\n"
          "  --quick                fsck: manifests, lengths and indexes, no page images\n"
          "  --dry-run              gc: say what would be removed (the default)\n"
          "  --delete               gc: remove it; refused while the job runs\n"
          "  --ended                gc: the newest attempt has ended and will not come back: what\n"
          "                         it left unfinished goes too\n"
          "  --version, --help\n\n"
          "exit: 0 good, 1 damaged, missing or none, 2 usage, 3 cannot read or remove\n",
          out);
}

static int usage_error(const char *what, const char *name) {
    fprintf(stderr, "keyweir: %s%s%s (see keyweir --help)\n", what, name == NULL ? "" : " ",
            name == NULL ? "" : name);
    return TOOL_USAGE;
}

enum {
    OPT_JSON = 256,
    OPT_FORMAT,
    OPT_OPERATOR,
    OPT_STATE,
    OPT_TOP,
    OPT_QUIET,
    OPT_PARALLELISM,
    OPT_JOBS,
    OPT_PROGRESS,
    OPT_QUICK,
    OPT_DRY_RUN,
    OPT_DELETE,
    OPT_ENDED,
};

/* Which options a verb takes beside --json. */
static bool option_fits(const verb *v, int option) {
    if (option == OPT_JSON) return true;
    const bool checks = v->run == tool_verify || v->run == tool_fsck;
    if (option == OPT_QUIET) return checks || v->run == tool_gc;
    if (option == OPT_JOBS || option == OPT_PROGRESS) return checks;
    if (option == OPT_QUICK) return v->run == tool_fsck;
    if (option == OPT_DRY_RUN || option == OPT_DELETE || option == OPT_ENDED)
        return v->run == tool_gc;
    if (option == OPT_PARALLELISM) return v->run == tool_plan;
    if (option == OPT_OPERATOR && v->run == tool_plan) return true;
    return v->run == tool_dump;
}

static bool parse_parallelism(const char *text, uint32_t *out) {
    uint64_t value = 0;
    if (!kwr_parse_u64(text, strlen(text), &value) || value == 0 ||
        value > KWR_MAX_PARALLELISM_LIMIT)
        return false;
    *out = (uint32_t)value;
    return true;
}

static bool parse_jobs(const char *text, uint32_t *out) {
    uint64_t value = 0;
    if (!kwr_parse_u64(text, strlen(text), &value) || value == 0 || value > 64) return false;
    *out = (uint32_t)value;
    return true;
}

/* plan: "ID=P" */
static int add_operator(const char *text, tool_options *out) {
    const char *equals = strrchr(text, '=');
    uint32_t parallelism = 0;
    if (equals == NULL || equals == text || !parse_parallelism(equals + 1, &parallelism))
        return usage_error("--operator takes ID=P here, P from 1 to 32768, not", text);
    tool_parallelism *grown = realloc(out->of, (out->of_count + 1) * sizeof *grown);
    if (grown == NULL) return TOOL_CANNOT_READ;
    out->of = grown;
    out->of[out->of_count] =
        (tool_parallelism){ .operator_id = strndup(text, (size_t)(equals - text)),
                            .parallelism = parallelism };
    return out->of[out->of_count++].operator_id == NULL ? TOOL_CANNOT_READ : TOOL_GOOD;
}

static void options_done(tool_options *options) {
    for (size_t i = 0; i < options->of_count; i++)
        free(options->of[i].operator_id);
    free(options->of);
}

static int parse(int argc, char **argv, const verb *v, tool_options *out) {
    static const struct option longs[] = { { "json", no_argument, NULL, OPT_JSON },
                                           { "format", required_argument, NULL, OPT_FORMAT },
                                           { "operator", required_argument, NULL, OPT_OPERATOR },
                                           { "state", required_argument, NULL, OPT_STATE },
                                           { "top", required_argument, NULL, OPT_TOP },
                                           { "quiet", no_argument, NULL, OPT_QUIET },
                                           { "parallelism", required_argument, NULL,
                                             OPT_PARALLELISM },
                                           { "jobs", required_argument, NULL, OPT_JOBS },
                                           { "progress", no_argument, NULL, OPT_PROGRESS },
                                           { "quick", no_argument, NULL, OPT_QUICK },
                                           { "dry-run", no_argument, NULL, OPT_DRY_RUN },
                                           { "delete", no_argument, NULL, OPT_DELETE },
                                           { "ended", no_argument, NULL, OPT_ENDED },
                                           { "help", no_argument, NULL, 'h' },
                                           { NULL, 0, NULL, 0 } };
    int option;
    bool dry_run = false;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
        if (option == 'h') {
            usage(stdout);
            exit(TOOL_GOOD);
        }
        if (option == ':') return usage_error("a value is missing after", argv[optind - 1]);
        if (option == '?') return usage_error("unknown option", argv[optind - 1]);
        if (!option_fits(v, option)) {
            fprintf(stderr, "keyweir: %s does not take --%s\n", v->name,
                    longs[option - OPT_JSON].name);
            return TOOL_USAGE;
        }
        switch (option) {
        case OPT_JSON: out->json = true; break;
        case OPT_FORMAT:
            if (strcmp(optarg, "json") != 0 && strcmp(optarg, "text") != 0)
                return usage_error("--format is text or json, not", optarg);
            out->json = optarg[0] == 'j';
            break;
        case OPT_OPERATOR:
            out->operator_id = optarg;
            if (v->run == tool_plan && add_operator(optarg, out) != TOOL_GOOD) return TOOL_USAGE;
            break;
        case OPT_PARALLELISM:
            if (!parse_parallelism(optarg, &out->parallelism))
                return usage_error("--parallelism takes a number from 1 to 32768, not", optarg);
            break;
        case OPT_STATE: out->state = optarg; break;
        case OPT_TOP:
            if (!kwr_parse_u64(optarg, strlen(optarg), &out->top) || out->top == 0 ||
                out->top > 100000000)
                return usage_error("--top takes a number from 1 to 100000000, not", optarg);
            break;
        case OPT_QUIET: out->quiet = true; break;
        case OPT_JOBS:
            if (!parse_jobs(optarg, &out->jobs))
                return usage_error("--jobs takes a number from 1 to 64, not", optarg);
            break;
        case OPT_PROGRESS: out->progress = true; break;
        case OPT_QUICK: out->quick = true; break;
        case OPT_DRY_RUN: dry_run = true; break;
        case OPT_DELETE: out->delete = true; break;
        case OPT_ENDED: out->ended = true; break;
        default: break;
        }
    }
    if (dry_run && out->delete)
        return usage_error("--dry-run and --delete contradict each other", NULL);
    if (optind >= argc) return usage_error("a place is missing after", v->name);
    if (optind + 1 < argc) return usage_error("one place, not also", argv[optind + 1]);
    out->target = argv[optind];
    if (out->target[0] == '\0') return usage_error("the place is empty", NULL);
    return TOOL_GOOD;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_DFL); /* a closed pipe ends the dump quietly, whatever we inherited */
    if (argc < 2) {
        usage(stderr);
        return TOOL_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("keyweir %s\n", kwr_version());
        return TOOL_GOOD;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return TOOL_GOOD;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[1], verbs[i].name) != 0) continue;
        tool_options options = { 0 };
        int code = parse(argc - 1, argv + 1, &verbs[i], &options);
        if (code == TOOL_GOOD) code = verbs[i].run(&options);
        options_done(&options);
        if (fflush(stdout) != 0 || ferror(stdout)) {
            fputs("keyweir: cannot write to stdout\n", stderr);
            return TOOL_CANNOT_READ;
        }
        return code;
    }
    return usage_error("unknown verb", argv[1]);
}
