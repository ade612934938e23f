#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The example under the simulator: good as it is; with its mistake every promise of the command holds:
# found, replayed, shrunk, and the shrunk run fails as well.   counter_test.sh SIM_COUNTER
set -eu
program=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() { echo "$1"; cat "$out/text"; exit 1; }

"$program" --seeds 300 >"$out/text" || fail 'the counter violates something'
grep -q '^300 passed, 0 failed$' "$out/text" || fail 'not all seeds were run'
! "$program" early --seeds 50 >"$out/text" || fail 'the mistake was not found'
grep -q 'VIOLATION .*durability' "$out/text" || fail 'something else was found'
seed=$(sed -n 's/.*--seed \([0-9]*\) --log/\1/p' "$out/text" | head -n 1)

# The same run twice, with and without the log.
! "$program" early --seed "$seed" >"$out/once" || fail 'the seed does not replay'
! "$program" early --seed "$seed" --log >"$out/text" || fail 'the seed does not replay with its log'
[ "$(tail -n 1 "$out/text")" = "$(tail -n 1 "$out/once")" ] || fail 'two runs of a seed differ'
grep -q ' rename total-1$' "$out/text" || fail 'the log does not tell of the calls'
grep -q '^VIOLATED .*durability' "$out/text" || fail 'the log does not tell of the violation'

# Two runs in jobs find what one finds.
! "$program" early --seeds 50 --jobs 2 --job 0 >"$out/half" || fail 'half of the seeds are good'
[ "$(grep -c VIOLATION "$out/half")" -gt 0 ]

! "$program" early --seed "$seed" --shrink >"$out/text" || fail 'shrinking made it good'
faults=$(sed -n "s/.*--faults '\(.*\)'/\1/p" "$out/text")
steps=$(sed -n 's/.*--steps \([0-9]*\) .*/\1/p' "$out/text")
# What a power loss would leave is looked at anyway: hardly a fault is needed.
[ "$(echo "$faults" | tr -dc @ | wc -c)" -le 1 ] || fail 'faults are left that are not needed'
! "$program" early --seed "$seed" --steps "$steps" --faults "$faults" >"$out/text" ||
    fail 'the shrunk run does not fail'
! "$program" early --seed "$seed" --steps "$steps" --log --faults "$faults" >"$out/text" ||
    fail 'the shrunk run does not fail with its log'

code=0
"$program" --seed 1 --faults 'power@' >"$out/text" 2>&1 || code=$?
[ "$code" -eq 2 ] || fail 'a list of faults that cannot be read is taken'
code=0
"$program" --sedes 1 >"$out/text" 2>&1 || code=$?
[ "$code" -eq 2 ] || fail 'an unknown option is taken'
echo 'good, and found'
