/* SPDX-License-Identifier: Apache-2.0 */
/* Names as a listing gives them: what is taken for ours is spelled in exactly one way. */
#include "tests/fuzz/fuzz.h"

#include "base/name.h"
#include "snapshot/log.h"
#include "snapshot/storage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char name[300], again[KWR_FILE_NAME_MAX], operator_id[KWR_FILE_NAME_MAX];
    uint64_t a = 0, b = 0;
    uint32_t subtask = 0;
    if (size >= sizeof name) return 0;
    if (size > 0) memcpy(name, data, size);
    name[size] = '\0';
    if (kwr_checkpoint_dir_parse(name, &a, &b)) {
        kwr_checkpoint_dir_name(a, b, again);
        FUZZ_MUST(strcmp(name, again) == 0);
    }
    if (kwr_slot_name_parse(name, &a)) {
        kwr_slot_name(a, again);
        FUZZ_MUST(strcmp(name, again) == 0);
    }
    if (kwr_shared_name_parse(name, &a, operator_id, &subtask, &b)) {
        kwr_shared_name(a, operator_id, subtask, b, again);
        FUZZ_MUST(strcmp(name, again) == 0);
    }
    kwr_error err = { 0 };
    if (kwr_storage_check_name(name, &err) == KWR_OK) {
        FUZZ_MUST(strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
        FUZZ_MUST(name[0] != '\0' && strlen(name) <= 200);
    } else {
        FUZZ_MUST(err.text[0] != '\0');
    }
    char shown[40];
    kwr_printable(name, size, shown, sizeof shown);
    for (const char *c = shown; *c != '\0'; c++)
        FUZZ_MUST(*c >= 0x20 && *c < 0x7f);
    return 0;
}
