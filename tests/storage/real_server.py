# SPDX-License-Identifier: Apache-2.0
"""What tests on real servers share: word count with its checkpoints there, killed and verified, the
conformance suite of storages, and the account of the steps."""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter

NOT_RUN = 77


class Wrong(Exception):
    """Something that must not happen; the text says what."""


class Job:
    """Word count on one set of inputs, started as often as it takes."""

    def __init__(self, options, cluster, name, backend, seed):
        self.options, self.cluster, self.name, self.backend = options, cluster, name, backend
        self.random = random.Random(seed)
        self.folder = os.path.join(cluster.work, "jobs", name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.path = "jobs-%d/%s" % (os.getpid(), name)
        self.uri = cluster.uri_of(self.path)
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
        done = subprocess.run([keyweir, "ls", self.uri], capture_output=True, text=True,
                              timeout=120, check=False)
        if done.returncode != 0 or "wordcount" not in done.stdout:
            raise Wrong("keyweir ls: %s%s" % (done.stdout, done.stderr))
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


def conformance(program, variable, uri):
    """The conformance suite of storages, which finds the server by a variable."""
    env = dict(os.environ, **{variable: uri})
    done = subprocess.run([program, "-j1"], capture_output=True, text=True, env=env,
                          timeout=600, check=False)
    match = re.search(r"Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)",
                      done.stdout + done.stderr)
    if not match or done.returncode != 0 or match.group(1) != match.group(2) or \
            int(match.group(1)) < 10:
        raise Wrong("the conformance suite: " + (done.stdout + done.stderr)[-3000:])
    return "%s tests" % match.group(1)


def parse(text, work):
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--build", default="build/normal", help="a build with tests and tools")
    parser.add_argument("--work", default=work, help="server programs and jobs")
    parser.add_argument("--kills", type=int, default=50, help="of the job, for each engine")
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--backends", default="memory,rocksdb")
    parser.add_argument("--only", default="", help="a regular expression on the steps' names")
    parser.add_argument("--counts", default="", help="a file for the counts 'passed failed'")
    options = parser.parse_args()
    options.wordcount = os.path.abspath(os.path.join(options.build, "examples/wordcount"))
    options.keyweir = os.path.abspath(os.path.join(options.build, "tools/keyweir"))
    os.makedirs(options.work, exist_ok=True)
    return options


def run(title, options, cluster, steps):
    """Prepares and starts the cluster, runs the steps, stops it; the program's exit code."""
    passed = failed = 0
    began = time.monotonic()
    print("%s: seed %d" % (title, options.seed), flush=True)
    try:
        try:
            cluster.prepare()
        except (subprocess.SubprocessError, OSError) as error:
            print("%s: not run, the server's programs cannot be had: %s" % (title, error))
            return NOT_RUN
        cluster.start()
        print("  server: %s (%d s)" % (cluster.uri, time.monotonic() - began), flush=True)
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
        print("%s: %s" % (title, wrong))
    finally:
        cluster.stop()
    if options.counts:
        with open(options.counts, "w", encoding="utf-8") as file:
            file.write("%d %d\n" % (passed, failed))
    print("%s: %d passed, %d failed (%d s, seed %d)" %
          (title, passed, failed, time.monotonic() - began, options.seed))
    return 1 if failed or not passed else 0
