/* SPDX-License-Identifier: Apache-2.0 */
/* A program of someone who has only what is installed; compiles as C11 and C++17. */
#include <keyweir/keyweir.h>

#include <stdio.h>
#include <string.h>

int main(void) {
    char built[32];
    snprintf(built, sizeof built, "%d.%d.%d", KWR_VERSION_MAJOR, KWR_VERSION_MINOR,
             KWR_VERSION_PATCH);
    if (strcmp(kwr_version(), built) != 0) {
        fprintf(stderr, "headers %s, library %s\n", built, kwr_version());
        return 1;
    }
    kwr_env *env = NULL;
    kwr_error err;
    if (kwr_env_posix_open(NULL, &env, &err) != KWR_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    kwr_env_posix_close(env);
    return 0;
}
