#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the documents: links and file names exist, quoted code is what the tree holds.

A fenced block after a line `<!-- from PATH -->` must stand in that file word for word, so that
every piece of code shown is one that is compiled. `--links-only` skips nothing else today; it is
what `./dev lint` calls.
"""
import os
import re
import subprocess
import sys

TOP = ("include", "base", "backend", "snapshot", "barrier", "recovery", "task", "tools", "examples", "sim",
       "tests", "bench", "docs", "scripts", ".ci")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"^(?:%s)/[\w./-]*$|^[\w-]+\.(?:c|h|md|py|sh|map)$" %
                  "|".join(re.escape(top) for top in TOP))


def exists(name, path):
    """`name` as written in the document `path`: from the top, or beside the document."""
    name = name.split("#")[0].rstrip("/")
    if not name:
        return True
    return os.path.exists(name) or os.path.exists(os.path.join(os.path.dirname(path), name))


def headings(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = re.match(r"#+ (.*)", line)
            if match:
                text = re.sub(r"[^\w\- ]", "", match.group(1).strip().lower())
                yield text.replace(" ", "-")


def normal(code):
    return [line.strip() for line in code.splitlines() if line.strip()]


def problems(path, text, files):
    fence, source, start, block = False, None, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        where = "%s:%d: " % (path, number)
        if line.lstrip().startswith("```"):
            if fence and source:
                yield from quoted(path, start, source, "\n".join(block))
            if fence:
                source = None
            fence, block, start = not fence, [], number
            continue
        if fence:
            block.append(line)
            continue
        match = re.match(r"<!-- from (\S+) -->", line)
        if match:
            source = match.group(1)
        elif line.strip():
            source = None
        for target in LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
            if not os.path.exists(beside):
                yield where + "link to %s, which does not exist" % target
            elif anchor and beside.endswith(".md") and anchor not in headings(beside):
                yield where + "link to %s: no such heading" % target
        for code in CODE.findall(line):
            if not PATH.match(code):
                continue
            if "/" not in code:
                if code not in files and not exists(code, path):
                    yield where + "names %s, which does not exist" % code
            elif not exists(code, path):
                yield where + "names %s, which does not exist" % code
    if fence:
        yield "%s:%d: a block that does not end" % (path, start)


def quoted(path, start, source, block):
    where = "%s:%d: " % (path, start)
    if not os.path.exists(source):
        yield where + "code from %s, which does not exist" % source
        return
    with open(source, encoding="utf-8") as file:
        have = normal(file.read())
    want = normal(block)
    if not any(have[i:i + len(want)] == want for i in range(len(have) - len(want) + 1)):
        yield where + "this code is not in %s word for word" % source


def main():
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], check=True,
                             capture_output=True, text=True).stdout.split("\n")
    files = set(os.path.basename(name) for name in listing)
    found, count = [], 0
    for path in sorted(set(name for name in listing if name.endswith(".md"))):
        if not os.path.exists(path):
            continue
        count += 1
        with open(path, encoding="utf-8") as file:
            found += problems(path, file.read(), files)
    print("\n".join(found) or "docs: %d documents, links and code good" % count)
    return 1 if found else 0


sys.exit(main())
