#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every numbered sentence of docs/semantics.md has a test: the rows of
tests/conformance/rows.tsv against the document and the test sources.

A row is NUMBER <tab> TEST, where TEST is suite/name of a test in a .c file below tests/, or
program:NAME of a test that a meson.build below tests/ declares. It first
shows itself that it finds what it is for.
"""
import os
import re
import sys

SENTENCE = re.compile(r"^- \*\*([A-Z]\d+)\*\* ", re.MULTILINE)
TEST = re.compile(r"^\s*(?:KWR_TEST|CONF_[A-Z_]*TEST|Test)\(\s*(\w+)\s*,\s*(\w+)",
                  re.MULTILINE)
PROGRAM = re.compile(r"^\s*test\('([\w-]+)'", re.MULTILINE)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def tests_below(top):
    """All names a row may have."""
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)
            if name.endswith(".c"):
                for suite, test in TEST.findall(read(path)):
                    yield "%s/%s" % (suite, test)
            elif name == "meson.build":
                for program in PROGRAM.findall(read(path)):
                    yield "program:" + program


def problems(document, rows, tests):
    numbers = SENTENCE.findall(document)
    for number in sorted(set(n for n in numbers if numbers.count(n) > 1)):
        yield "docs/semantics.md: %s stands twice" % number
    held = set()
    for line_number, line in enumerate(rows.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        where = "tests/conformance/rows.tsv:%d: " % line_number
        fields = line.split("\t")
        if len(fields) != 2:
            yield where + "is not NUMBER <tab> TEST"
            continue
        number, test = fields
        if number not in numbers:
            yield where + "%s is no number of docs/semantics.md" % number
        elif test not in tests:
            yield where + "there is no test %s" % test
        elif (number, test) in held:
            yield where + "stands twice"
        else:
            held.add((number, test))
    with_test = set(number for number, _ in held)
    for number in numbers:
        if number not in with_test:
            yield "docs/semantics.md: %s has no test" % number
    if not numbers:
        yield "docs/semantics.md: has no numbered sentences"


def self_test():
    document = "- **V1** One.\n- **V2** Two.\n"
    tests = {"value/one", "program:model"}
    cases = (
        ("V1\tvalue/one\nV2\tprogram:model\n", []),
        ("# comment\n\nV1\tvalue/one\n", ["V2 has no test"]),
        ("V1\tvalue/gone\nV2\tvalue/one\n", ["no test value/gone", "V1 has no test"]),
        ("V1\tvalue/one\nV2\tvalue/one\nV3\tvalue/one\n", ["V3 is no number"]),
        ("V1 value/one\nV1\tvalue/one\nV2\tvalue/one\n", ["not NUMBER"]),
        ("V1\tvalue/one\nV1\tvalue/one\nV2\tvalue/one\n", ["stands twice"]),
    )
    for rows, expected in cases:
        found = list(problems(document, rows, tests))
        if len(found) != len(expected) or any(e not in f for e, f in zip(expected, found)):
            sys.exit("check-semantics: self-test: %r gives %r" % (rows, found))
    if not list(problems("- **V1** One.\n- **V1** Two.\n", "V1\tvalue/one\n", tests)):
        sys.exit("check-semantics: self-test: a number that stands twice is not seen")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    self_test()
    tests = set(tests_below("tests"))
    document, rows = read("docs/semantics.md"), read("tests/conformance/rows.tsv")
    found = list(problems(document, rows, tests))
    for problem in found:
        print(problem)
    if found:
        sys.exit("%d problems" % len(found))
    print("semantics: %d sentences, %d rows" %
          (len(SENTENCE.findall(document)), len([r for r in rows.splitlines() if "\t" in r])))


main()
