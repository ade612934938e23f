#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what a `meson test` run did: TESTLOG REPORTS_DIR MESON_EXIT_CODE COUNTS_FILE.
What failed is said again in COUNTS_FILE.failures, for the end of a long run.

A Criterion program (and the plain runner) closes with a Synthesis line, other programs of many
cases with "N passed, M failed"; these numbers count. Any other test counts as one. A program that fails without counting a failure, a test program that
counts nothing, and a sanitizer report that nobody counted are failures too.
"""
import json
import os
import re
import sys

SYNTHESIS = re.compile(
    r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")


WORTH = re.compile(r"\[(FAIL|CRASH|----)\]|(FAIL|Error|ERROR)\b|assert", re.IGNORECASE)
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


def count(test):
    """(passed, failed, why) of one entry of the log."""
    output = test.get("stdout", "") + test.get("stderr", "")
    output = re.sub(r"\x1b\[[0-9;]*m", "", output)
    good = test["result"] == "OK"
    if test["result"] == "SKIP":
        return 0, 0, "skipped"
    if test["result"] == "EXPECTEDFAIL":  # it noticed what was wrong: that is the test
        return 1, 0, ""
    lines = SYNTHESIS.findall(output)
    closing = CLOSING.findall(output)
    if not lines and closing:
        passed, failed = int(closing[-1][0]), int(closing[-1][1])
        if passed + failed == 0 or (not good and failed == 0):
            return passed, 1, test["result"]
        return passed, failed, "" if failed == 0 else "%d failed" % failed
    is_program = os.path.basename(test["command"][0]).startswith("test-")
    if not lines:
        if is_program and good:
            return 0, 1, "printed no count"
        return (1, 0, "") if good else (0, 1, test["result"])
    passed = sum(int(line[1]) for line in lines)
    failed = sum(int(line[2]) + int(line[3]) for line in lines)
    if passed + failed == 0:
        return 0, 1, "no test ran in it"
    if not good and failed == 0:
        return passed, 1, "%s, no failure counted" % test["result"]
    return passed, failed, "" if failed == 0 else "%d failed" % failed


def main():
    log, reports, meson_code, counts = sys.argv[1:]
    passed = failed = 0
    failures = []
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            tests = [json.loads(line) for line in lines]
    except FileNotFoundError:
        tests = []
    if not tests:
        print("---- no test ran")
    for test in tests:
        p, f, why = count(test)
        passed += p
        failed += f
        if f:
            print("---- %s: %s" % (test["name"], why))
            output = (test.get("stdout", "") + test.get("stderr", "")).splitlines()
            print("\n".join(output[-80:]))
            told = [line for line in output if WORTH.search(line)]
            failures += ["%s: %s" % (test["name"], why)] + (told or output)[-30:]
        elif why:
            print("  %s: %s" % (test["name"], why))
    for name in sorted(os.listdir(reports)):
        path = os.path.join(reports, name)
        if os.path.getsize(path) == 0:
            continue
        with open(path, encoding="utf-8", errors="replace") as report:
            print("---- sanitizer report %s" % path)
            text = report.readlines()
            print("".join(text[:60]))
            failures += ["sanitizer report %s" % path] + [line.rstrip() for line in text[:15]]
        failed += 1
    if int(meson_code) != 0 and failed == 0:
        failures.append("meson test ended with %s although no test failed" % meson_code)
        print("---- " + failures[-1])
        failed += 1
    print("  %d passed, %d failed" % (passed, failed))
    with open(counts, "w", encoding="ascii") as out:
        out.write("%d %d\n" % (passed, failed))
    with open(counts + ".failures", "w", encoding="utf-8") as out:
        out.write("".join(line + "\n" for line in failures))


main()
