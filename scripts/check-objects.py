#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the library's object files in a build directory.

Seams: above base/ nothing calls libc for files, time, threads, randomness, environment or memory;
an object there may only need our own functions, those of <string.h>, bounded formatting, jansson
(in snapshot/), expat (in snapshot/s3_xml.c), libcurl (in snapshot/http.c, which keeps its own
connections) and RocksDB (in
backend/rocksdb/, which keeps its own files). No state outside
objects: no writable data in any room, nor in the simulator, which stands in for the system and may
call libc.
Planted mistakes: none (base/planted.h); with --planted before the directory it is shown that this
check would see them.
"""
import glob
import os
import re
import subprocess
import sys

SYSTEM = ["base", "sim"]  # may call libc
ROOMS = ["base", "backend", "snapshot", "barrier", "recovery", "task", "sim"]

# Pure functions on bytes the caller gives, and what compilers add by themselves.
PURE = re.compile(
    r"mem(cpy|move|set|cmp|chr|rchr|mem|pcpy)|str(n?len|n?cmp|r?chr|str|c?spn|pbrk)|v?snprintf|"
    r"__(memcpy|memmove|memset|snprintf|vsnprintf|mempcpy)_chk|__(stack_chk_fail|cpu_model)|"
    r"__popcount[sd]i2|_GLOBAL_OFFSET_TABLE_|__tls_get_addr_never")
ROCKSDB = re.compile(r"rocksdb_\w+")
CURL = re.compile(r"curl_\w+")
EXPAT = re.compile(r"XML_\w+")
JANSSON = re.compile(r"json(p|_\w+)?\w*")
# The switch of planted mistakes: only the build for the simulator's score needs it.
PLANTED = "kwr_planted_is_on"
# Writable data that was looked at and is right: "room/file symbol".
ALLOWED_DATA = set()


def room_and_file(path):
    name = os.path.basename(path)
    if "/libkeyweir-sim" in path:
        return "sim", "sim/" + name[:-len(".o")]
    room = name.split("_", 1)[0]
    return room, name[:-len(".o")].replace("_", "/", 1)


def needed(path):
    out = subprocess.run(["nm", "-u", path], check=True, capture_output=True, text=True).stdout
    return [line.split()[-1] for line in out.splitlines() if line.strip()]


def writable(path):
    """Objects in sections that stay writable; tables of constants (.data.rel.ro) do not count."""
    out = subprocess.run(["objdump", "-t", path], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        match = re.match(r"[0-9a-f]+ .{6}O (\S+)\s+([0-9a-f]+)\s+(?:\.hidden )?(\S+)$", line)
        if not match or int(match.group(2), 16) == 0:
            continue
        section, name = match.group(1), match.group(3)
        if re.match(r"\.data\.rel\.ro|\.rodata", section):
            continue
        if re.match(r"\.(data|bss|tdata|tbss)|\*COM\*", section):
            yield name, section


def main():
    expected = sys.argv[1] == "--planted"
    build = sys.argv[-1]
    objects = sorted(set(glob.glob(os.path.join(build, "libkeyweir*.p", "*.o")) +
                     glob.glob(os.path.join(build, "sim", "libkeyweir*.p", "*.o"))))
    seen, found, planted = {}, [], 0
    for path in objects:
        room, name = room_and_file(path)
        if room not in ROOMS:
            found.append("%s: an object of no room" % path)
            continue
        if name in seen:
            continue
        seen[name] = path
        planted += PLANTED in needed(path)
        if room not in SYSTEM:
            for symbol in needed(path):
                if symbol.startswith("kwr_") or PURE.fullmatch(symbol):
                    continue
                if room == "snapshot" and JANSSON.fullmatch(symbol):
                    continue
                if name.startswith("snapshot/http.") and CURL.fullmatch(symbol):
                    continue
                if name == "snapshot/s3_xml.c" and EXPAT.fullmatch(symbol):
                    continue
                if name.startswith("backend/rocksdb") and ROCKSDB.fullmatch(symbol):
                    continue
                found.append("%s: calls %s: above base/ that goes through the environment" %
                             (name, symbol))
        for symbol, section in writable(path):
            if "%s %s" % (name, symbol) not in ALLOWED_DATA:
                found.append("%s: %s is writable data outside objects (%s)" %
                             (name, symbol, section))
    if expected:
        print("%d of %d object files have planted mistakes" % (planted, len(seen)))
        return 0 if planted > 0 else 1
    if planted > 0:
        found.append("%s: %d object files have planted mistakes" % (build, planted))
    if not seen:
        found.append("%s: no object files of the library" % build)
    print("\n".join(found) or "%d object files" % len(seen))
    return 1 if found else 0


sys.exit(main())
