#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs keyweir on a real HDFS: two name nodes and three data nodes on loopback.

First the conformance suite of storages, then word count with its checkpoints in HDFS, on both
engines: killed at random moments, a data node stopped while it writes, the name node restarted and
failed over, safe mode, a full quota. After each the output must have every word exactly once.

The cluster's artifacts come from the Maven registry on first use. Without a JDK or Maven nothing
runs, and the exit code says so: 77.
"""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
NOT_RUN = 77


class Wrong(Exception):
    """Something that must not happen; the text says what."""


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


class Job:
    """Word count on one set of inputs, started as often as it takes."""

    def __init__(self, options, cluster, name, backend, seed):
        self.options, self.cluster, self.name, self.backend = options, cluster, name, backend
        self.random = random.Random(seed)
        self.folder = os.path.join(cluster.work, "jobs", name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.path = "/user/jobs-%d/%s" % (os.getpid(), name)
        self.uri = "%s%s?user.name=keyweir&retry_ms=30000" % (cluster.uri, self.path)
        self.expected = Counter()
        self.inputs = []
        for i in range(2):
            path = os.path.join(self.folder, "input-%d" % i)
            lines = []
            for _ in range(options.lines):
                words = ["w%d" % int(self.random.paretovariate(0.7))
                         for _ in range(self.random.randint(1, 6))]
                self.expected.update(words)
                lines.append(" ".join(words))
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            self.inputs += ["--input", path]
        self.starts = 0

    def start(self, seconds):
        """An attempt that takes about so long if it starts from nothing."""
        log = open(os.path.join(self.folder, "stderr-%d" % self.starts), "wb")
        self.starts += 1
        process = subprocess.Popen(
            [self.options.wordcount] + self.inputs +
            ["--output", os.path.join(self.folder, "out"), "--checkpoints", self.uri,
             "--backend", self.backend, "--interval-ms", "250", "--quiet",
             "--parallelism", str(self.random.randint(1, 3)),
             "--inline-bytes", str(self.random.choice([0, 4096])),
             "--rate", str(max(1, int(self.options.lines / seconds)))],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        log.close()
        return process

    def words(self):
        with open(os.path.join(self.folder, "stderr-%d" % (self.starts - 1)), encoding="utf-8",
                  errors="replace") as log:
            return "".join(log.readlines()[-6:]).strip()

    def finish(self, process=None, allowed=()):
        """Starts it until it is done. Only failures with these words may come in between."""
        for _ in range(12):
            process = process or self.start(2)
            try:
                code = process.wait(240)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Wrong("%s did not end in 240 s: %s" % (self.name, self.words())) from None
            if code == 0:
                return self.verify()
            words = self.words()
            if code != -signal.SIGKILL and not any(re.search(word, words) for word in allowed):
                raise Wrong("%s ended with %d: %s" % (self.name, code, words))
            process = None
        raise Wrong("%s was started twelve times and is not done: %s" % (self.name, self.words()))

    def verify(self):
        out = os.path.join(self.folder, "out")
        seen = {}
        for part in sorted(os.listdir(out)):
            if part == ".keyweir.lock":
                continue
            if not re.fullmatch(r"part-\d+-\d+", part):
                raise Wrong("%s left %s" % (self.name, part))
            with open(os.path.join(out, part), encoding="utf-8") as file:
                for line in file.read().splitlines():
                    word, count = line.split("\t")
                    seen.setdefault(word, []).append(int(count))
        if set(seen) != set(self.expected):
            raise Wrong("%s: %d words were committed, %d are in the input" %
                        (self.name, len(seen), len(self.expected)))
        for word, counts in seen.items():
            if sorted(counts) != list(range(1, self.expected[word] + 1)):
                raise Wrong("%s: '%s' was committed %d times, it occurs %d times" %
                            (self.name, word, len(counts), self.expected[word]))
        keyweir = self.options.keyweir
        for command in (["ls"],):
            done = subprocess.run([keyweir] + command + [self.uri], capture_output=True, text=True,
                                  timeout=120, check=False)
            if done.returncode != 0 or "wordcount" not in done.stdout:
                raise Wrong("keyweir %s: %s%s" % (command, done.stdout, done.stderr))
        shutil.rmtree(self.folder)
        return sum(self.expected.values())


def kills(options, cluster, backend, seed):
    """SIGKILL at random moments."""
    done, records, number = 0, 0, 0
    rng = random.Random(seed)
    while done < options.kills:
        number += 1
        job = Job(options, cluster, "kill-%s-%d" % (backend, number), backend, seed + number)
        for _ in range(min(10, options.kills - done)):
            process = job.start(6)
            time.sleep(rng.uniform(0.2, 2.5))
            if process.poll() is not None:
                if process.returncode != 0:
                    raise Wrong("%s ended with %d: %s" % (job.name, process.returncode,
                                                          job.words()))
                break
            process.kill()
            process.wait()
            done += 1
        records += job.finish()
    return "%d kills, %d jobs, %d records" % (done, number, records)


def disturbed(name, steps, allowed=()):
    """A job during which the cluster is told things, with pauses."""
    def run(options, cluster, backend, seed):
        job = Job(options, cluster, "%s-%s" % (name, backend), backend, seed)
        process = job.start(5)
        for step in steps:
            if isinstance(step, float):
                time.sleep(step)
            else:
                cluster.tell(step % {"path": job.path})
        records = job.finish(process, allowed)
        return "%d records, %d starts" % (records, job.starts)
    return run


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


def conformance(options, cluster):
    env = dict(os.environ, KWR_TEST_HDFS=cluster.uri)
    done = subprocess.run([options.conformance, "-j1"], capture_output=True, text=True, env=env,
                          timeout=600, check=False)
    match = re.search(r"Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)",
                      done.stdout + done.stderr)
    if not match or done.returncode != 0 or match.group(1) != match.group(2) or \
            int(match.group(1)) < 10:
        raise Wrong("the conformance suite: " + (done.stdout + done.stderr)[-3000:])
    return "%s tests" % match.group(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build/normal", help="a build with tests and tools")
    parser.add_argument("--work", default="build/hdfs", help="jars, cluster and jobs")
    parser.add_argument("--kills", type=int, default=50, help="of the job, for each engine")
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--backends", default="memory,rocksdb")
    parser.add_argument("--only", default="", help="a regular expression on the steps' names")
    parser.add_argument("--counts", default="", help="a file for the counts 'passed failed'")
    options = parser.parse_args()
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            print("HDFS: not run, there is no %s" % tool)
            return NOT_RUN
    options.wordcount = os.path.abspath(os.path.join(options.build, "examples/wordcount"))
    options.keyweir = os.path.abspath(os.path.join(options.build, "tools/keyweir"))
    options.conformance = os.path.abspath(os.path.join(options.build,
                                                       "tests/storage/test-real-hdfs"))
    os.makedirs(options.work, exist_ok=True)
    cluster = Cluster(os.path.abspath(options.work))
    passed = failed = 0
    began = time.monotonic()
    print("HDFS: seed %d" % options.seed, flush=True)
    try:
        try:
            cluster.prepare()
        except (subprocess.SubprocessError, OSError) as error:
            print("HDFS: not run, the cluster's artifacts cannot be had: %s" % error)
            return NOT_RUN
        cluster.start()
        print("  cluster: %s (%d s)" % (cluster.uri, time.monotonic() - began), flush=True)
        steps = [("conformance", lambda: conformance(options, cluster))]
        for backend in options.backends.split(","):
            for text, run in SCENARIOS:
                steps.append(("%s, %s" % (text, backend),
                              lambda run=run, backend=backend: run(options, cluster, backend,
                                                                   options.seed)))
        for text, step in steps:
            if not re.search(options.only, text):
                continue
            start = time.monotonic()
            try:
                told = step()
                passed += 1
                print("  %s: %s (%.1f s)" % (text, told, time.monotonic() - start), flush=True)
            except (Wrong, subprocess.SubprocessError, OSError) as wrong:
                failed += 1
                print("  %s: WRONG: %s" % (text, wrong), flush=True)
                if cluster.process.poll() is not None:
                    break
    except Wrong as wrong:
        failed += 1
        print("HDFS: %s" % wrong)
    finally:
        cluster.stop()
    if options.counts:
        with open(options.counts, "w", encoding="utf-8") as file:
            file.write("%d %d\n" % (passed, failed))
    print("HDFS: %d passed, %d failed (%d s, seed %d)" %
          (passed, failed, time.monotonic() - began, options.seed))
    return 1 if failed or not passed else 0


sys.exit(main())
