/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bench.h"

#include <sys/utsname.h>

/* ---- repetitions ---- */

void bench_sample(bench_series *series, double value) {
    if (series->count == BENCH_SAMPLES) return;
    unsigned at = series->count++;
    for (; at > 0 && series->at[at - 1] > value; at--)
        series->at[at] = series->at[at - 1];
    series->at[at] = value;
}

double bench_median(const bench_series *series) {
    if (series->count == 0) return 0;
    const unsigned half = series->count / 2;
    return series->count % 2 == 1 ? series->at[half]
                                  : (series->at[half - 1] + series->at[half]) / 2;
}

/* ---- results ---- */

static void find_machine(char *out, size_t capacity) {
    char line[256];
    char cpu[100] = "unknown processor";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        snprintf(cpu, sizeof cpu, "%.*s", (int)strcspn(colon + 2, "\n\"\\"), colon + 2);
        break;
    }
    if (file != NULL) fclose(file);
    snprintf(out, capacity, "%s, %ld processors", cpu, sysconf(_SC_NPROCESSORS_ONLN));
}

/* ./dev says of which commit the programs are. */
static const char *commit(void) {
    const char *name = getenv("KWR_BENCH_COMMIT");
    return name == NULL || strspn(name, "0123456789abcdef+") != strlen(name) ? "unknown" : name;
}

void bench_start(bench *b, const char *name, bool json, uint64_t seed) {
    *b = (bench){ .name = name, .json = json, .seed = seed };
    find_machine(b->machine, sizeof b->machine);
    (void)rocks_build_find(&b->rocks);
    if (json) return;
    struct utsname system;
    uname(&system);
    printf("%s: keyweir %s (%s), %s, %s, Linux %s, gcc %s, seed %" PRIu64 "\n", name, kwr_version(),
           commit(), b->rocks.text, b->machine, system.release, __VERSION__, seed);
}

void bench_say(const bench *b, const char *format, ...) {
    if (b->json) return;
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    fflush(stdout);
}

void bench_json(const bench *b, const char *what, const char *format, ...) {
    if (!b->json) return;
    struct utsname system;
    uname(&system);
    printf("{\"bench\":\"%s\",\"what\":\"%s\",\"keyweir\":\"%s\",\"commit\":\"%s\","
           "\"rocksdb\":\"%s\",\"rocksdb_assertions\":%s,\"compiler\":\"%s\","
           "\"machine\":\"%s\",\"system\":\"%s\",\"time\":%lld,\"seed\":%" PRIu64 ",",
           b->name, what, kwr_version(), commit(), b->rocks.version,
           b->rocks.assertions ? "true" : "false", __VERSION__, b->machine, system.release,
           (long long)time(NULL), b->seed);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("}\n");
    fflush(stdout);
}

void bench_report(const bench *b, const char *what, const char *unit, const bench_series *series) {
    const double least = series->count == 0 ? 0 : series->at[0];
    const double most = series->count == 0 ? 0 : series->at[series->count - 1];
    bench_say(b, "  %-24s %10.1f / %10.1f / %10.1f %s   (least / median / most of %u)\n", what,
              least, bench_median(series), most, unit, series->count);
    bench_json(b, what, "\"unit\":\"%s\",\"min\":%.3f,\"median\":%.3f,\"max\":%.3f,\"count\":%u",
               unit, least, bench_median(series), most, series->count);
}
