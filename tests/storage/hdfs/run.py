#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs keyweir on a real HDFS: two name nodes and three data nodes on loopback.

First the conformance suite of storages, then word count with its checkpoints in HDFS, on both
engines: killed at random moments, a data node stopped while it writes, the name node restarted and
failed over, safe mode, a full quota. After each the output must have every word exactly once.

The cluster's artifacts come from the Maven registry on first use. Without a JDK or Maven nothing
runs, and the exit code says so: 77.
"""
import os
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
# pylint: disable=wrong-import-position
from real_server import NOT_RUN, Job, Wrong, conformance, kills, parse, run  # noqa: E402


class Cluster:
    def __init__(self, work):
        self.work = work
        self.process = None

    def prepare(self):
        """The jars and the class, made once."""
        pom = os.path.join(HERE, "pom.xml")
        lib = os.path.join(self.work, "lib")
        stamp = os.path.join(self.work, "pom.xml")
        with open(pom, encoding="utf-8") as file:
            wanted = file.read()
        have = ""
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as file:
                have = file.read()
        if have != wanted:
            shutil.rmtree(lib, ignore_errors=True)
            os.makedirs(lib)
            subprocess.run(["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies",
                            "-DoutputDirectory=" + lib, "-DincludeScope=runtime"],
                           check=True, timeout=600, stdin=subprocess.DEVNULL)
            with open(stamp, "w", encoding="utf-8") as file:
                file.write(wanted)
        classes = os.path.join(self.work, "classes")
        os.makedirs(classes, exist_ok=True)
        subprocess.run(["javac", "-nowarn", "-Xlint:-deprecation", "-cp", lib + "/*", "-d", classes,
                        os.path.join(HERE, "MiniHdfs.java")], check=True, timeout=300,
                       stderr=subprocess.DEVNULL)
        self.classpath = classes + ":" + lib + "/*"

    def start(self):
        base = os.path.join(self.work, "base")
        shutil.rmtree(base, ignore_errors=True)
        self.log = open(os.path.join(self.work, "cluster.log"), "wb")
        self.process = subprocess.Popen(
            ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
             "--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp", self.classpath, "MiniHdfs", base],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        line = self.line(300)
        if not line.startswith("ready "):
            raise Wrong("the cluster did not start: '%s' (%s/cluster.log)" % (line, self.work))
        self.uri = line.split()[1]

    def uri_of(self, path):
        return "%s/user/%s?user.name=keyweir&retry_ms=30000" % (self.uri, path)

    def line(self, patience_s):
        """One line of the cluster's, or an end."""
        timer = threading.Timer(patience_s, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().decode().strip()
        finally:
            timer.cancel()

    def tell(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.line(120)
        if not answer or answer.startswith(("failed", "what")):
            raise Wrong("the cluster, told '%s', answered '%s'" % (text, answer))
        return answer

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def disturbed(name, steps, allowed=()):
    """A job during which the cluster is told things, with pauses."""
    def steps_of(options, cluster, backend, seed):
        job = Job(options, cluster, "%s-%s" % (name, backend), backend, seed)
        process = job.start(5)
        for step in steps:
            if isinstance(step, float):
                time.sleep(step)
            else:
                cluster.tell(step % {"path": "/user/" + job.path})
        records = job.finish(process, allowed)
        return "%d records, %d starts" % (records, job.starts)
    return steps_of


# A cluster that is away for longer than the job's patience ends it, with such words; started again
# it must go on.
ENDED = (r"given up after \d+ tries|declined by",)
SCENARIOS = [
    ("kills of the job", kills),
    ("a data node stopped while it writes",
     disturbed("data-node", [1.0, "stop 0", 2.0, "start"], ENDED)),
    ("name node failed over, and back",
     disturbed("failover", [1.0, "failover", 1.5, "failover"], ENDED)),
    ("name node restarted", disturbed("restart", [1.0, "restart"], ENDED)),
    ("safe mode", disturbed("safe-mode", [1.0, "safemode on", 2.0, "safemode off"], ENDED)),
    ("quota full, then raised",
     disturbed("quota", [1.0, "quota %(path)s 1", 1.5, "quota %(path)s none"],
               ENDED + (r"[Qq]uota",))),
]


def main():
    options = parse(__doc__.split("\n")[0], "build/hdfs")
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            print("HDFS: not run, there is no %s" % tool)
            return NOT_RUN
    program = os.path.abspath(os.path.join(options.build, "tests/storage/test-real-hdfs"))
    cluster = Cluster(os.path.abspath(options.work))
    steps = [("conformance", lambda: conformance(program, "KWR_TEST_HDFS", cluster.uri))]
    for backend in options.backends.split(","):
        for text, step in SCENARIOS:
            steps.append(("%s, %s" % (text, backend),
                          lambda step=step, backend=backend: step(options, cluster, backend,
                                                                  options.seed)))
    return run("HDFS", options, cluster, steps)


sys.exit(main())
