#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks every file of the tree: licence line, banned functions, white space at line ends."""
import re
import subprocess
import sys

# Text for people, and data, carries no licence line.
NO_SPDX = re.compile(r"(\.md|\.json|\.txt|\.supp|\.csv|\.svg|\.hex)$|^LICENSE$|^\.")
# Functions that write without a bound, keep hidden state or cannot report failure.
BANNED = re.compile(
    r"(?<![\w.>])(strcpy|strcat|stpcpy|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|gmtime|"
    r"localtime|asctime|ctime|mktemp|tmpnam|rand|srand|alloca)\s*\(")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"", re.S)


def blank(match):
    """A comment or string without its words, lines kept."""
    return re.sub(r"[^\n]", " ", match.group())


def problems(path, text):
    if not NO_SPDX.search(path):
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.splitlines()[:3]):
            yield "%s: no SPDX line on top" % path
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield "%s:%d: white space at the end of the line" % (path, number)
    if text and not text.endswith("\n"):
        yield "%s: no newline at the end" % path
    if re.search(r"\.[ch]$", path):
        for number, line in enumerate(COMMENT.sub(blank, text).splitlines(), 1):
            match = BANNED.search(line)
            if match:
                yield "%s:%d: %s is banned" % (path, number, match.group(1))


def main():
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], check=True,
                             capture_output=True).stdout
    found = []
    for path in sorted(set(name.decode() for name in listing.split(b"\0") if name)):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # binary data, or deleted and not yet staged
        if path != "LICENSE" and not path.startswith("tests/fuzz/seeds/"):
            found += problems(path, text)
    print("\n".join(found))
    return 1 if found else 0


sys.exit(main())
