#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the #include lines: lower rooms never include higher ones, and few files name a codec.

    base <- backend <- snapshot <- { barrier, recovery } <- task <- { tools, examples }
    sim stands on the public headers alone, and no room includes it
"""
import os
import re
import subprocess
import sys

# What the files of a room may include besides its own and the public headers.
BELOW = {
    "include": [],
    "base": [],
    "backend": ["base"],
    "snapshot": ["base", "backend"],
    "barrier": ["base", "backend", "snapshot"],
    "recovery": ["base", "backend", "snapshot"],
    "task": ["base", "backend", "snapshot", "barrier", "recovery"],
    "tools": ["base", "backend", "snapshot", "barrier", "recovery", "task"],
    "sim": [],  # a library of its own
    "examples": [],  # an engine like anyone's: the public headers must do
}
# A foreign header and the only places that may name it.
ONLY = {
    "xxhash.h": ["base/", "examples/", "tests/", "bench/"],
    "lz4.h": ["base/", "tests/", "bench/"],
    "lz4hc.h": ["base/", "tests/", "bench/"],
    "lz4frame.h": ["base/", "tests/", "bench/"],
    "jansson.h": ["snapshot/", "tools/", "tests/"],
    "curl/": ["snapshot/http.c"],
    "expat.h": ["snapshot/s3_xml.c"],
    "criterion/": ["tests/"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def problems(path, text):
    room = path.split("/")[0]
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, name = match.groups()
        where = "%s:%d: " % (path, number)
        for foreign, places in ONLY.items():
            if name.startswith(foreign) and not path.startswith(tuple(places)):
                yield where + "<%s> belongs in %s only" % (name, " ".join(places))
        if kind == "<":
            continue
        if name.startswith("keyweir/"):
            if not os.path.exists("include/" + name):
                yield where + "there is no include/" + name
            if room == "include" and name == "keyweir/keyweir.h":
                yield where + "a public header includes what it needs, not everything"
            continue
        if not os.path.exists(name):
            if room == "tests":
                continue  # may be made by the build
            yield where + "\"%s\" is not a path from the top of the tree" % name
            continue
        target = name.split("/")[0]
        if room in BELOW and target != room and target not in BELOW[room]:
            yield where + "%s/ may not include %s/" % (room, target)


def main():
    paths = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"],
        check=True, capture_output=True, text=True).stdout.split()
    found = []
    for path in paths:
        if path.startswith("tests/support/plain/"):
            continue  # stands in for Criterion: has its include paths
        with open(path, encoding="utf-8") as file:
            found += problems(path, file.read())
    print("\n".join(found))
    return 1 if found else 0


sys.exit(main())
