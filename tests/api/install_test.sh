#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a user gets: installs into an empty folder, then compiles, links and runs a program with
# nothing but what is there, against the shared and the static library, as C and (with a C++
# compiler) as C++.   install_test.sh BUILD_DIR CONSUMER_SOURCE
set -eu
build=$1 source=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root meson install --no-rebuild --quiet -C "$build" >/dev/null
pc=$(find "$root" -name keyweir.pc)
[ -n "$pc" ] || { echo 'no keyweir.pc was installed'; exit 1; }
lib=$(find "$root" -name libkeyweir.a)
lib=${lib%/*}
PKG_CONFIG_PATH=${pc%/*}
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
cflags=$(pkg-config --cflags keyweir)
libs=$(pkg-config --libs keyweir)
# The sysroot is put before paths of the system's own libraries too: they are not needed.
static=$(pkg-config --static --libs-only-l keyweir | sed 's/-lkeyweir/-l:libkeyweir.a/')

# shellcheck disable=SC2086
compile() { "$@" -Wall -Wextra -Werror $cflags; }
compile gcc -std=c11 -o "$root/shared" "$source" $libs
compile gcc -std=c11 -o "$root/static" "$source" -L"$lib" $static -pthread
LD_LIBRARY_PATH=$lib "$root/shared"
"$root/static"
ldd "$root/static" | grep -q libkeyweir && { echo 'the static program needs the library'; exit 1; }
if command -v g++ >/dev/null 2>&1; then
    cp "$source" "$root/consumer.cc"
    compile g++ -std=c++17 -o "$root/cplusplus" "$root/consumer.cc" $libs
    LD_LIBRARY_PATH=$lib "$root/cplusplus"
fi
# The simulator is a library beside it, with a package of its own.
cat >"$root/sim.c" <<'END'
#include "keyweir/sim.h"
int main(void) {
    kwr_sim_plan plan;
    kwr_sim_plan_of(7, &plan);
    return plan.seed != 7;
}
END
# shellcheck disable=SC2046
compile gcc -std=c11 -o "$root/sim" "$root/sim.c" $(pkg-config --libs keyweir-sim)
LD_LIBRARY_PATH=$lib "$root/sim"
# Nothing but the library's own header may be needed, and no internal one may be installed.
[ -z "$(find "$root" -name '*.h' ! -path '*/include/keyweir/*')" ]
echo 'installed, compiled, ran'
