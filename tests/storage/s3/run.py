#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs keyweir on a real object store: versitygw over a directory, on loopback.

It verifies signatures and refuses the second of two conditional puts. First the conformance suite
of storages, then word count with its checkpoints in a bucket, on both engines, killed at random
moments. After each job the output must have every word exactly once.

The server is built by Go on first use, which takes minutes. Without Go, or without its module,
nothing runs, and the exit code says so: 77.
"""
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
# pylint: disable=wrong-import-position
from real_server import NOT_RUN, Wrong, conformance, kills, parse, run  # noqa: E402

SERVER = "github.com/versity/versitygw/cmd/versitygw"
VERSION = "v1.8.0"


def find_go():
    return shutil.which("go") or shutil.which("/usr/local/go/bin/go")


class Server:
    """One process; its bucket is a directory."""

    def __init__(self, work):
        self.work = work
        self.process = None
        self.program = os.path.join(work, "bin-" + VERSION, "versitygw")
        self.environment = dict(os.environ, ROOT_ACCESS_KEY="keyweir",
                                ROOT_SECRET_KEY=secrets.token_hex(20))
        os.environ.update(AWS_ACCESS_KEY_ID=self.environment["ROOT_ACCESS_KEY"],
                          AWS_SECRET_ACCESS_KEY=self.environment["ROOT_SECRET_KEY"],
                          AWS_REGION="us-east-1")
        os.environ.pop("AWS_SESSION_TOKEN", None)

    def prepare(self):
        if os.path.exists(self.program):
            return
        environment = dict(os.environ, GOBIN=os.path.dirname(self.program), CGO_ENABLED="0",
                           GOTOOLCHAIN="local")
        done = subprocess.run([find_go(), "install", SERVER + "@" + VERSION], env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=1800, check=False)
        if done.returncode != 0:
            raise OSError("go install: " + done.stderr.strip()[-300:])

    def start(self):
        base = os.path.join(self.work, "base")
        shutil.rmtree(base, ignore_errors=True)
        os.makedirs(os.path.join(base, "bucket"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % free.getsockname()[1]
        with open(os.path.join(self.work, "server.log"), "wb") as log:
            self.process = subprocess.Popen(
                [self.program, "--port", address, "--region", "us-east-1", "posix", base],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.uri = "s3://bucket?endpoint=http://" + address
        host, port = address.split(":")
        for _ in range(300):
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                time.sleep(0.1)
            if self.process.poll() is not None:
                break
        raise Wrong("the server did not start (%s/server.log)" % self.work)

    def uri_of(self, path):
        bucket, query = self.uri.split("?")
        return "%s/%s?%s&retry_ms=20000" % (bucket, path, query)

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main():
    options = parse(__doc__.split("\n")[0], "build/s3")
    server = Server(os.path.abspath(options.work))
    if find_go() is None and not os.path.exists(server.program):
        print("S3: not run, there is no Go")
        return NOT_RUN
    program = os.path.abspath(os.path.join(options.build, "tests/storage/test-real-s3"))
    steps = [("conformance", lambda: conformance(program, "KEYWEIR_TEST_S3", server.uri))]
    for backend in options.backends.split(","):
        steps.append(("kills of the job, " + backend,
                      lambda backend=backend: kills(options, server, backend, options.seed)))
    return run("S3", options, server, steps)


sys.exit(main())
