#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fetches a build of RocksDB to compare with: scripts/peers.py NAME (bench/peers/rocksdb.txt).

The distribution's RocksDB has its assertions compiled in, which costs a write twice its time. The
Java package holds a release build whose library exports the C API. It is put where the dynamic
loader takes it for the distribution's: build/peers/rocksdb-NAME/librocksdb.so.7.8, for programs
started with that directory in LD_LIBRARY_PATH. Maven is asked as it is configured here.

Prints the directory. Exits with 3 and says why when the build is not to be had.
"""
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAVEN_SECONDS = 400


def missing(text):
    print("peers: " + text, file=sys.stderr)
    sys.exit(3)


def find(name):
    for line in (ROOT / "bench/peers/rocksdb.txt").read_text().splitlines():
        fields = line.split()
        if fields and fields[0] == name:
            return fields[1:]
    return missing("there is no build '%s' in bench/peers/rocksdb.txt" % name)


def loader_name():
    """What our programs ask the dynamic loader for."""
    for directory in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"):
        for path in sorted(pathlib.Path(directory).glob("librocksdb.so.*")):
            if re.fullmatch(r"librocksdb\.so\.\d+\.\d+", path.name):
                return path.name
    return "librocksdb.so.7.8"


def download(coordinates, into):
    if shutil.which("mvn") is None:
        missing("the release build of RocksDB comes from a Maven registry, and there is no mvn")
    command = ["mvn", "-q", "-B", "dependency:copy", "-Dartifact=" + coordinates,
               "-DoutputDirectory=" + into, "-Dmdep.useBaseVersion=true"]
    log = ROOT / "build/peers/maven.log"
    with open(log, "wb") as out:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  timeout=MAVEN_SECONDS, cwd=into, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            done = False
    packages = sorted(pathlib.Path(into).glob("*.jar"))
    if not done or not packages:
        missing("Maven could not fetch %s (log: build/peers/maven.log)" % coordinates)
    return packages[0]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: peers.py NAME")
    name = sys.argv[1]
    if platform.machine() != "x86_64":
        missing("the release build of RocksDB is for x86_64 only")
    coordinates, version, member, digest = find(name)
    target = ROOT / "build/peers" / ("rocksdb-" + name)
    library = target / loader_name()
    if (target / "digest").exists() and library.exists() and \
            (target / "digest").read_text() == digest:
        print(target)
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    print("peers: fetching %s" % coordinates, file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=ROOT / "build/peers") as scratch:
        with zipfile.ZipFile(download(coordinates, scratch)) as package:
            data = package.read(member)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        missing("%s of %s has the digest %s, not the pinned %s" %
                (member, coordinates, found, digest))
    library.write_bytes(data)
    os.chmod(library, 0o755)
    (target / "version").write_text(version)
    (target / "digest").write_text(digest)
    print(target)


main()
