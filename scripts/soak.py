#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills word count at random moments, many times, and verifies what it committed.

A SIGKILL counts only when the process was at something that must survive it: by the last line of
its events it was restoring, had a checkpoint pending, was publishing one, or was committing one.
Now and then an attempt is stopped (SIGSTOP) instead, a successor is started beside it with the
locks off, and the old one is woken: it must end without publishing or committing anything. A third
of the restarts come with another --parallelism, and half of them restore lazily.

After each job an independent count of the inputs is compared with the committed files: for a word
that occurs n times the counts 1 to n, each once, none torn, in the order of the checkpoints. The
commit log must be contiguous with generations that never fall.

Every choice comes from the seed; the moments themselves are the machine's.
"""
import argparse
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

PHASE_OF = {"restoring": "restoring", "pending": "pending", "publishing": "publishing",
            "published": "publishing", "committing": "committing"}
PHASES = ["restoring", "pending", "publishing", "committing"]
SHARE_MIN = 0.05
PATIENCE_S = 120


class Wrong(Exception):
    """Something that must not happen; the text says what."""


class Attempt:
    """One process of the job, its events read through a pipe so that nothing is missed."""

    def __init__(self, command, folder, number):
        self.fifo = os.path.join(folder, "events-%d" % number)
        self.log = os.path.join(folder, "stderr-%d" % number)
        self.events = []
        self.times = []
        self.rest = b""
        os.mkfifo(self.fifo)
        # Both ends, so that opening does not wait and the pipe outlives a killed writer.
        self.pipe = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command + ["--events", self.fifo],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=log)

    def read(self, wait_s):
        """Takes in new events; waits for some at most wait_s. Gives how many came."""
        ready, _, _ = select.select([self.pipe], [], [], wait_s)
        if not ready:
            return 0
        try:
            self.rest += os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return 0
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            self.events.append(json.loads(line))
            self.times.append(time.monotonic())
        return len(lines)

    def drain(self):
        while self.read(0):
            pass

    def phase(self):
        return self.events[-1]["phase"] if self.events else "starting"

    def running(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.drain()

    def end(self, patience_s=PATIENCE_S):
        """Waits until the process ends by itself; its exit code."""
        give_up = time.monotonic() + patience_s
        while self.running():
            self.read(0.02)
            if time.monotonic() > give_up:
                raise Wrong("an attempt did not end in %d s; last event: %s; %s" %
                            (patience_s, self.phase(), self.words()))
        self.drain()
        return self.process.returncode

    def last_line(self):
        lines = self.process.stdout.read().decode().splitlines()
        return lines[-1] if lines else ""

    def words(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "its words: " + "".join(log.readlines()[-8:]).strip()

    def close(self):
        if self.running():
            if self.process.pid:
                os.kill(self.process.pid, signal.SIGCONT)
            self.kill()
        os.close(self.pipe)
        os.unlink(self.fifo)
        self.process.stdout.close()


class Soak:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.kills = Counter()   # by phase
        self.uncounted = Counter()
        self.zombies = Counter()  # by the phase in which the old attempt was stopped
        self.stops = 0
        self.rescales = 0        # restarts with another parallelism
        self.lazy = 0            # lazy restarts
        self.jobs = 0
        self.records = 0
        self.length = {}         # typical time from an event to the next one
        self.last_zombie = 0
        self.known = subprocess.run([options.wordcount, "--help"], capture_output=True, text=True,
                                    check=False)
        self.known = self.known.stdout + self.known.stderr

    # --- Choices ------------------------------------------------------------------------------

    def counted(self):
        return sum(self.kills.values())

    def rarest(self):
        """A phase to aim at: the further behind, the likelier."""
        most = max(self.kills[phase] for phase in PHASES) + 1
        weights = [(most - self.kills[phase]) ** 2 for phase in PHASES]
        return self.random.choices(PHASES, weights)[0]

    def word(self):
        kind = self.random.random()
        if kind < 0.80:
            return b"w%d" % int(self.random.paretovariate(0.7))
        if kind < 0.90:
            return b"rare-%d" % self.random.randrange(1 << 40)
        if kind < 0.96:  # any bytes but the four that part words
            return bytes(self.random.choice([0, 1, 7, 11, 12, 27, 34, 92, 127, 128, 195, 255, 65])
                         for _ in range(self.random.randint(1, 12)))
        if kind < 0.999:
            return "wörter-%d-Ω" % self.random.randrange(50)
        return b"long" * self.random.randint(100, 5000)

    def make_input(self, path, lines):
        parts = []
        for _ in range(lines):
            words = [self.word() for _ in range(self.random.choice([0, 1, 2, 3, 5, 8]))]
            words = [word if isinstance(word, bytes) else word.encode() for word in words]
            parts.append(self.random.choice([b" ", b" ", b"\t", b"  ", b" \t"]).join(words) +
                         self.random.choice([b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b" \n"]))
        data = b"".join(parts)
        if self.random.random() < 0.3:
            data = data.rstrip(b"\n") + b" last"
        with open(path, "wb") as file:
            file.write(data)
        return data

    # --- One job ------------------------------------------------------------------------------

    def job(self):
        self.jobs += 1
        folder = os.path.join(self.options.dir, "job-%d" % self.jobs)
        os.makedirs(folder)
        lines = self.random.choice([400, 2000, 6000])
        inputs, expected = [], Counter()
        for i in range(self.random.randint(1, 4)):
            path = os.path.join(folder, "input-%d" % i)
            data = self.make_input(path, lines + self.random.randrange(lines))
            times = 2 if self.random.random() < 0.1 else 1
            inputs += [path] * times
            for word in re.split(b"[ \t\n\r]+", data):
                if word:
                    expected[word] += times
        fixed = [self.options.wordcount]
        for path in inputs:
            fixed += ["--input", path]
        fixed += ["--output", os.path.join(folder, "out"),
                  "--checkpoints", os.path.join(folder, "ckpt"),
                  "--job", "soak",
                  "--max-parallelism", str(self.random.choice([4, 128, 1000]))]
        if "--inline-bytes" in self.known:
            fixed += ["--inline-bytes", str(self.random.choice([0, 0, 4096, 262144]))]
        if self.options.backend:
            fixed += ["--backend", self.options.backend]
        seconds = self.random.uniform(1.0, 4.0)
        self.fixed, self.folder = fixed, folder
        self.rate = max(1, int(lines * 1.5 / seconds))
        self.attempts = []
        self.live = []
        self.parallelism = self.random.randint(1, 4)
        budget = self.random.randint(6, 20)
        before = self.counted()
        try:
            while True:
                left = min(budget - (self.counted() - before), self.wanted())
                attempt = self.live.pop() if self.live else self.start()
                if left <= 0:
                    if self.finish(attempt):
                        break
                elif self.disturb(attempt):
                    break
                self.check_log()
            self.verify(expected)
            if self.random.random() < 0.3:
                self.run_again()
        finally:
            for attempt in self.attempts:
                attempt.close()
        self.records += sum(expected.values())
        if not self.options.keep:
            shutil.rmtree(folder)

    def wanted(self):
        """Kills still to do."""
        least = SHARE_MIN * max(self.options.kills, self.counted())
        lacking = sum(1 for phase in PHASES if self.kills[phase] < least)
        return max(self.options.kills - self.counted(), 0 if self.options.any_shares else lacking)

    def start(self, *more):
        if self.attempts and self.random.random() < 1 / 3:
            others = [n for n in range(1, 5) if n != self.parallelism]
            self.parallelism = self.random.choice(others)
            self.rescales += 1
        command = self.fixed + list(more) + [
            "--parallelism", str(self.parallelism),
            "--interval-ms", str(self.random.choice([10, 30, 60, 150])),
            "--retain", str(self.random.randint(1, 3)), "--rate", str(self.rate)]
        if self.random.random() < 0.5:
            command.append("--quiet")
        if self.attempts and self.random.random() < 0.5:
            command += ["--restore", "lazy"]
            self.lazy += 1
        attempt = Attempt(command, self.folder, len(self.attempts))
        self.attempts.append(attempt)
        return attempt

    def wait_for(self, attempt, aim):
        """Reads events until one of the wanted kind came (a few are let pass); False: it ended."""
        skip = self.random.choice([0, 0, 1, 2, 4]) if aim != "restoring" else 0
        deadline = time.monotonic() + PATIENCE_S
        seen = len(attempt.events)
        while True:
            if attempt.read(0.05) == 0 and not attempt.running():
                attempt.drain()
                return False
            for i in range(max(seen, 1), len(attempt.events)):
                phase = attempt.events[i - 1]["phase"]
                took = attempt.times[i] - attempt.times[i - 1]
                self.length[phase] = 0.8 * self.length.get(phase, took) + 0.2 * min(took, 0.05)
            new = attempt.events[seen:]
            seen = len(attempt.events)
            for event in new:
                if PHASE_OF.get(event["phase"]) == aim and event["phase"] != "published":
                    skip -= 1
            if new and skip < 0 and PHASE_OF.get(attempt.phase()) == aim:
                break
            if aim == "restoring" and new and skip >= 0:
                return True  # a first start restores nothing: take what there is
            if time.monotonic() > deadline:
                raise Wrong("no event %s in %d s; last event: %s; %s" %
                            (aim, PATIENCE_S, attempt.phase(), attempt.words()))
        # Anywhere between this event and the next one.
        delay = self.random.uniform(0, 1.1) * self.length.get(attempt.phase(), 0.002)
        if aim == "restoring":
            delay = min(delay, 0.01)
        end = time.monotonic() + delay
        while time.monotonic() < end:
            pass
        return True

    def disturb(self, attempt):
        """Kills (or stops, or ends) the attempt. True if the job finished instead."""
        fate = self.random.random()
        if fate < 0.06 and not attempt.events:
            self.wait_for(attempt, "pending")
            return self.terminate(attempt)
        zombie = self.counted() - self.last_zombie >= 12 or (
            self.options.any_shares and not self.zombies and self.counted() >= 2)
        aim = self.random.choice(["restoring", "pending", "publishing", "publishing",
                                  "committing"]) if zombie else self.rarest()
        if not self.wait_for(attempt, aim):
            return self.ended(attempt)
        if zombie:
            return self.zombie(attempt)
        attempt.kill()
        if attempt.process.returncode != -signal.SIGKILL:
            return self.ended(attempt)
        phase = PHASE_OF.get(attempt.phase())
        if phase:
            self.kills[phase] += 1
        else:
            self.uncounted[attempt.phase()] += 1
        return False

    def ended(self, attempt):
        """The attempt ended by itself: only a finished job may. True."""
        code = attempt.end()
        line = attempt.last_line()
        if code != 0 or not re.fullmatch(r"finished: checkpoint \d+", line):
            raise Wrong("an attempt ended with %d, last line '%s'; %s" %
                        (code, line, attempt.words()))
        self.finished = line
        return True

    def finish(self, attempt):
        attempt.end()
        return self.ended(attempt)

    def terminate(self, attempt):
        """SIGTERM: a checkpoint, its commit, and a word on how to go on."""
        if attempt.running():
            attempt.process.send_signal(signal.SIGTERM)
        code = attempt.end()
        line = attempt.last_line()
        if code == 0 and re.fullmatch(r"finished: checkpoint \d+", line):
            self.finished = line
            return True
        if code != 0 or not re.match(r"stopped: checkpoint \d+", line):
            raise Wrong("after SIGTERM an attempt ended with %d, last line '%s'; %s" %
                        (code, line, attempt.words()))
        self.stops += 1
        return False

    def zombie(self, old):
        """The old attempt sleeps while a successor takes over; woken, it must end harmlessly."""
        self.last_zombie = self.counted()
        os.kill(old.process.pid, signal.SIGSTOP)
        time.sleep(0.005)
        old.drain()
        if not old.running():
            return self.ended(old)
        phase, before = old.phase(), len(old.events)
        new = self.start("--no-lock")
        deadline = time.monotonic() + PATIENCE_S
        while not any(event["phase"] == "committed" for event in new.events[1:]):
            if new.read(0.05) == 0 and not new.running():
                break
            if time.monotonic() > deadline:
                raise Wrong("a successor beside a stopped attempt committed nothing; " +
                            new.words())
        os.kill(old.process.pid, signal.SIGCONT)
        code = old.end()
        # What it had published before its successor began it may commit; nothing else.
        settled = set(event["checkpoint"] for event in old.events[:before]
                      if event["phase"] in ("restoring", "published", "committing", "committed"))
        if code < 0 or (code == 0 and phase not in ("published", "committing", "committed")):
            raise Wrong("an attempt with a successor ended with %d, last line '%s'" %
                        (code, old.last_line()))
        for event in old.events[before:]:
            if event["phase"] in ("committing", "committed") and event["checkpoint"] not in settled:
                raise Wrong("an attempt with a successor, stopped while %s, then went on: %s" %
                            (phase, event))
        self.zombies[PHASE_OF.get(phase, phase)] += 1
        self.check_log()
        self.live.append(new)
        return False

    def run_again(self):
        """A finished job started again says so again and changes nothing committed."""
        parts = self.parts()
        attempt = self.start()
        finished = self.finished
        self.finish(attempt)
        if self.finished != finished:
            raise Wrong("started again after '%s' it says '%s'" % (finished, self.finished))
        if self.parts() != parts:
            raise Wrong("started again after its end the job changed its output")

    # --- Verification -------------------------------------------------------------------------

    def parts(self):
        """(checkpoint, subtask, path) of every committed file, in order."""
        out = os.path.join(self.folder, "out")
        found = []
        for name in os.listdir(out) if os.path.isdir(out) else []:
            if name.startswith("part-"):
                match = re.fullmatch(r"part-(\d+)-(\d+)", name)
                if not match:
                    raise Wrong("a committed file has the name %s" % name)
                found.append((int(match.group(1)), int(match.group(2)), os.path.join(out, name)))
        return sorted(found)

    def verify(self, expected):
        counts = Counter()
        parts = self.parts()
        for checkpoint in sorted(set(part[0] for part in parts)):
            here = {}
            for _, _, path in (part for part in parts if part[0] == checkpoint):
                with open(path, "rb") as file:
                    data = file.read()
                if not data.endswith(b"\n"):
                    raise Wrong("%s ends in a torn line (or is empty)" % path)
                last = {}
                for line in data[:-1].split(b"\n"):
                    match = re.fullmatch(rb"([^ \t\r\n]+)\t([1-9][0-9]*)", line)
                    if not match:
                        raise Wrong("%s holds the line %r" % (path, line[:100]))
                    word, count = match.group(1), int(match.group(2))
                    if count <= last.get(word, 0):
                        raise Wrong("%s: %r %d after %d" % (path, word[:40], count, last[word]))
                    last[word] = count
                    here.setdefault(word, []).append(count)
            for word, list_ in here.items():
                want = list(range(counts[word] + 1, counts[word] + 1 + len(list_)))
                if sorted(list_) != want:
                    raise Wrong("checkpoint %d commits %r with %s, expected %s" %
                                (checkpoint, word[:40], sorted(list_)[:20], want[:20]))
                counts[word] += len(list_)
        if counts != expected:
            for word in sorted(set(counts) | set(expected)):
                if counts[word] != expected[word]:
                    raise Wrong("%r was committed %d times, it occurs %d times" %
                                (word[:40], counts[word], expected[word]))
        pending = [name for name in os.listdir(os.path.join(self.folder, "out"))
                   if name.startswith(".pending-")]
        if pending:
            raise Wrong("pending files were left: %s" % pending[:5])

    def floor(self, log, names):
        """Slots below the floor of the highest one count for nothing: an attempt that was overtaken
        long ago may put one where an old slot was removed, and then sees that it is too late."""
        try:
            with open(os.path.join(log, names[-1]), encoding="utf-8") as file:
                return int(json.loads(file.readline()).get("floor", 0))
        except (FileNotFoundError, IndexError):
            return 0

    def check_log(self):
        """Slots are contiguous, generations never fall, ids of published checkpoints rise."""
        log = os.path.join(self.folder, "ckpt", "soak", "log")
        names = sorted(name for name in (os.listdir(log) if os.path.isdir(log) else [])
                       if re.fullmatch(r"[0-9a-f]{16}", name))
        before = None
        generation = highest = 0
        floor = self.floor(log, names)
        for name in names:
            slot = int(name, 16)
            if slot < floor:
                continue
            if before is not None and slot != before + 1:
                # Slots below the newest may go while an attempt is alive: look again.
                if os.path.exists(os.path.join(log, "%016x" % (before + 1))):
                    return self.check_log()
                if self.any_alive():
                    continue
                raise Wrong("slot %d follows slot %d" % (slot, before))
            before = slot
            try:
                with open(os.path.join(log, name), encoding="utf-8") as file:
                    record = json.loads(file.readline())
            except FileNotFoundError:
                continue
            g = int(record["generation"])
            if g < generation:
                raise Wrong("slot %d is of generation %d, an earlier one of %d: a zombie published"
                            % (slot, g, generation))
            generation = g
            if record["kind"] == "checkpoint":
                checkpoint = int(record["checkpoint"])
                if checkpoint <= highest:
                    raise Wrong("slot %d publishes checkpoint %d after %d" %
                                (slot, checkpoint, highest))
                highest = checkpoint

    def any_alive(self):
        return any(attempt.running() for attempt in self.attempts)

    # --- The whole ----------------------------------------------------------------------------

    def figures(self):
        total = max(self.counted(), 1)
        text = ", ".join("%s %d (%d %%)" % (phase, self.kills[phase],
                                            100 * self.kills[phase] // total) for phase in PHASES)
        return text

    def run(self):
        began = time.monotonic()
        shown = began
        while self.wanted() > 0:
            if self.options.seconds and time.monotonic() - began > self.options.seconds:
                break
            self.job()
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                print("job %d: %d kills: %s" % (self.jobs, self.counted(), self.figures()),
                      flush=True)
        print("kills by phase: %s" % self.figures())
        print("not counted: %s" % (", ".join("%s %d" % item for item in
                                              sorted(self.uncounted.items())) or "none"))
        print("stopped, succeeded and woken: %s; SIGTERM: %d; restarts with another parallelism: %d, "
              "lazily: %d" %
              (", ".join("%s %d" % item for item in sorted(self.zombies.items())) or "none",
               self.stops, self.rescales, self.lazy))
        if not self.options.any_shares:
            for phase in PHASES:
                if self.kills[phase] < SHARE_MIN * self.counted():
                    raise Wrong("only %d of %d kills came while %s: this run proves too little" %
                                (self.kills[phase], self.counted(), phase))
            if not self.zombies:
                raise Wrong("no attempt was stopped and succeeded: this run proves too little")
            if not self.lazy:
                raise Wrong("no restart was lazy: this run proves too little")
            if not self.rescales:
                raise Wrong("no restart changed the parallelism: this run proves too little")
        print("soak: good: %d kills, %d zombies, %d jobs, %d records exactly once (%d s, seed %d)" %
              (self.counted(), sum(self.zombies.values()), self.jobs, self.records,
               time.monotonic() - began, self.options.seed))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kills that count (default 200)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--seconds", type=float, default=0, help="stop after the job then running")
    parser.add_argument("--backend", default="", help="given to wordcount")
    parser.add_argument("--wordcount", default="build/release/examples/wordcount")
    parser.add_argument("--dir", default="build/soak", help="where the jobs live")
    parser.add_argument("--keep", action="store_true", help="keep the files of good jobs too")
    parser.add_argument("--any-shares", action="store_true",
                        help="a short run: do not ask for 5 %% of the kills in each phase")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error("--kills: at least 1")
    if not os.access(options.wordcount, os.X_OK):
        parser.error("there is no %s: ./dev build" % options.wordcount)
    options.wordcount = os.path.abspath(options.wordcount)
    # One folder for each run, so that two runs do not meet.
    options.dir = os.path.abspath("%s-%d" % (options.dir, os.getpid()))
    shutil.rmtree(options.dir, ignore_errors=True)
    print("soak: seed %d" % options.seed, flush=True)
    soak = Soak(options)
    try:
        soak.run()
    except Wrong as wrong:
        print("kills by phase: %s" % soak.figures())
        print("soak: WRONG in job %d: %s" % (soak.jobs, wrong))
        print("soak: again: ./dev soak --kills %d --seed %d; its files: %s" %
              (options.kills, options.seed, options.dir))
        return 1
    if not options.keep:
        shutil.rmtree(options.dir, ignore_errors=True)
    return 0


sys.exit(main())
