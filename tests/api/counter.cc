// SPDX-License-Identifier: Apache-2.0
// The API from C++: opens an environment and a backend, counts words, and reads the counts back.
#include <cstdio>
#include <cstring>
#include <string>

#include <keyweir/keyweir.h>

namespace {

kwr_slice slice(const std::string &text) { return kwr_slice{text.data(), text.size()}; }

bool check(bool holds, const char *what) {
    if (!holds) std::fprintf(stderr, "not so: %s\n", what);
    return holds;
}

bool count_words(kwr_backend *backend) {
    kwr_reducing_descriptor descriptor{};
    descriptor.struct_size = sizeof descriptor;
    descriptor.name = "count";
    descriptor.type.kind = KWR_TYPE_I64;
    descriptor.reduce = KWR_REDUCE_SUM;
    kwr_reducing *count = nullptr;
    kwr_error err{};
    if (!check(kwr_reducing_open(backend, &descriptor, &count, &err) == KWR_OK, err.text))
        return false;
    const std::int64_t one = 1;
    for (const char *word : {"the", "cat", "and", "the", "dog", "and", "the", "bird"}) {
        if (kwr_backend_set_key(backend, slice(word)) != KWR_OK) return false;
        if (kwr_reducing_add(count, kwr_slice{&one, sizeof one}, nullptr) != KWR_OK) return false;
    }
    std::int64_t number = 0;
    kwr_slice got{};
    if (kwr_backend_set_key(backend, slice("the")) != KWR_OK) return false;
    if (kwr_reducing_get(count, &got) != KWR_OK || got.size != sizeof number) return false;
    std::memcpy(&number, got.data, sizeof number);
    if (!check(number == 3, "three times 'the'")) return false;
    if (kwr_backend_set_key(backend, slice("fish")) != KWR_OK) return false;
    return check(kwr_reducing_get(count, &got) == KWR_NOT_FOUND, "no 'fish'");
}

} // namespace

int main() {
    kwr_error err{};
    kwr_env *env = nullptr;
    kwr_backend *backend = nullptr;
    bool good = check(kwr_env_posix_open(nullptr, &env, &err) == KWR_OK, err.text);
    if (good) {
        kwr_backend_options options{};
        options.struct_size = sizeof options;
        options.env = env;
        good = check(kwr_backend_open(&options, &backend, &err) == KWR_OK, err.text);
    }
    good = good && count_words(backend);
    kwr_backend_close(backend);
    kwr_env_posix_close(env);
    return good ? 0 : 1;
}
