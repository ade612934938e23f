#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Word count from outside: WORDCOUNT [--backend B] [NAME ...] runs the tests whose names contain a
NAME; with --backend every job keeps its state there.

What is committed is compared with a count of the inputs made here. Every refusal must come with its
exit code and name what it is about. KWR_EXHAUSTIVE=1 damages every byte instead of a sample.
"""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter

WORDCOUNT = ""
BACKEND = ""
PATIENCE_S = 240
TESTS = []


def test(function):
    TESTS.append(function)
    return function


class Job:
    """One job in a directory of its own: command line, runs, verification."""

    def __init__(self, folder, inputs=None, **options):
        self.folder = folder
        self.out = os.path.join(folder, "out")
        self.checkpoints = os.path.join(folder, "ck")
        self.inputs = inputs if inputs is not None else [self.input("in", sample_text(0))]
        self.options = {"interval-ms": 20}
        if BACKEND:
            self.options["backend"] = BACKEND
        for name, value in options.items():
            self.options[name.replace("_", "-")] = value

    def input(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def command(self, *more, inputs=None, out=None, checkpoints=None):
        command = [WORDCOUNT]
        for path in self.inputs if inputs is None else inputs:
            command += ["--input", path]
        command += ["--output", out or self.out, "--checkpoints", checkpoints or self.checkpoints]
        for name, value in self.options.items():
            command += ["--" + name] if value is True else ["--" + name, str(value)]
        return command + [str(argument) for argument in more]

    def start(self, *more, **changes):
        return subprocess.Popen(self.command(*more, **changes), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *more, **changes):
        return Result(self.start(*more, **changes))

    def finish(self, *more, **changes):
        result = self.run(*more, **changes)
        result.expect(0, "finished: checkpoint ")
        return result

    def refuse(self, code, *words, more=(), **changes):
        """A run that ends with this code, says all of these words, and nothing on stdout."""
        result = self.run(*more, **changes)
        assert result.code == code, "exit %d, not %d: %s" % (result.code, code, result.err)
        assert result.out == "", "on stdout: %s" % result.out
        for word in words:
            assert str(word) in result.err, "'%s' is not in: %s" % (word, result.err)
        return result

    def log(self, job="wordcount"):
        folder = os.path.join(self.checkpoints, job, "log")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def kept(self, job="wordcount"):
        """(id, generation) of the checkpoints there."""
        names = os.listdir(os.path.join(self.checkpoints, job))
        found = [re.fullmatch(r"chk-(\d+)-(\d+)", name) for name in names]
        return sorted((int(match[1]), int(match[2])) for match in found if match)

    def parts(self, out=None):
        out = out or self.out
        return sorted(name for name in os.listdir(out) if name.startswith("part-"))

    def read_parts(self, out=None):
        out = out or self.out
        return {name: read(os.path.join(out, name)) for name in self.parts(out)}

    def verify(self, inputs=None, out=None):
        expected = Counter()
        for path in self.inputs if inputs is None else inputs:
            expected.update(words_of(read(path)))
        verify_parts(self.read_parts(out), expected)
        left = [name for name in os.listdir(out or self.out) if name.startswith(".pending-")]
        assert not left, "pending files are left: %s" % left


class Result:
    def __init__(self, process):
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, err = process.communicate()
            raise AssertionError("it hangs: " + err.decode(errors="replace")[-2000:]) from None
        self.code = process.returncode
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    def expect(self, code, last_line):
        assert self.code == code, "exit %d, not %d: %s" % (self.code, code, self.err[-2000:])
        assert self.out.count("\n") == 1 and self.out.startswith(last_line), \
            "stdout is '%s', not '%s'" % (self.out, last_line)

    def checkpoint(self):
        return int(re.search(r"checkpoint (\d+)", self.out)[1])


def read(path):
    with open(path, "rb") as file:
        return file.read()


def words_of(data):
    return [word for word in re.split(rb"[ \t\n\r]+", data) if word]


def verify_parts(parts, expected):
    seen = {}
    for name, data in parts.items():
        assert re.fullmatch(r"part-[1-9][0-9]*-(0|[1-9][0-9]*)", name), "a part is called " + name
        assert data.endswith(b"\n"), "%s is empty or ends in a torn line" % name
        for line in data[:-1].split(b"\n"):
            match = re.fullmatch(rb"([^ \t\r\n]+)\t([1-9][0-9]*)", line)
            assert match, "%s holds %r" % (name, line[:80])
            counts = seen.setdefault(match[1], set())
            count = int(match[2])
            assert count not in counts, "%r %d is there twice" % (match[1][:40], count)
            counts.add(count)
    for word, count in expected.items():
        got = seen.pop(word, set())
        assert got == set(range(1, count + 1)), \
            "%r: %d of %d counts" % (word[:40], len(got), count)
    assert not seen, "words that are in no input: %r" % list(seen)[:5]


def sample_text(seed, lines=400):
    """Lines of words with everything that may be in them."""
    chance = random.Random(seed)
    odd = [b"\0", b"\x0b\x0c", b"caf\xc3\xa9", b"\xff\xfe", b"a\0b", b"\x7f", b"'\"\\"]
    out = []
    for _ in range(lines):
        words = []
        for _ in range(chance.choice([0, 1, 2, 4, 9])):
            kind = chance.random()
            words.append(chance.choice(odd) if kind < 0.1 else
                         b"w%d" % int(chance.paretovariate(0.8)) if kind < 0.95 else
                         b"long%d" % chance.randrange(9) * chance.randrange(1, 300))
        out.append(chance.choice([b" ", b"\t", b"  "]).join(words) +
                   chance.choice([b"\n", b"\n", b"\r\n", b" \n"]))
    return b"".join(out)


def wait_for_checkpoints(job, process, count, name="wordcount"):
    """Until that many checkpoints were published since now, or the process ended."""
    def newest():
        try:
            kept = job.kept(name)
        except FileNotFoundError:
            return 0
        return kept[-1][0] if kept else 0
    first = newest()
    end = time.monotonic() + PATIENCE_S
    while newest() < first + count and process.poll() is None:
        assert time.monotonic() < end, "no checkpoints"
        time.sleep(0.005)


def stop_by_signal(job, process):
    process.send_signal(signal.SIGTERM)
    result = Result(process)
    result.expect(0, "stopped: checkpoint ")
    assert result.out.endswith(", resume with the same command\n"), result.out
    return result


def stopped_job(folder, checkpoints=4, **options):
    """A job stopped in the middle of its input, its last checkpoint with output."""
    job = Job(folder, rate=150, **options)
    while True:
        process = job.start()
        wait_for_checkpoints(job, process, checkpoints)
        # Records must come between the checkpoint before and the last; how soon is the machine's.
        time.sleep(random.uniform(0, 0.04))
        process.send_signal(signal.SIGTERM)
        stopped = Result(process)
        if stopped.out.startswith("finished: "):  # no stop was such: from the beginning
            shutil.rmtree(job.out)
            shutil.rmtree(job.checkpoints)
            continue
        stopped.expect(0, "stopped: checkpoint ")
        if any(name.startswith("part-%d-" % stopped.checkpoint()) for name in job.parts()):
            return job, stopped


# --- The count ------------------------------------------------------------------------------------

@test
def counts_are_right_at_any_parallelism(folder):
    for parallelism in (1, 2, 3, 5):
        here = os.path.join(folder, str(parallelism))
        os.mkdir(here)
        job = Job(here, parallelism=parallelism, max_parallelism=5)
        job.inputs = [job.input("a", sample_text(1)), job.input("b", sample_text(2, 50))]
        job.finish()
        job.verify()


@test
def the_defaults_work_with_plain_paths_and_uris(folder):
    job = Job(folder)
    job.options = {}
    job.finish()
    job.verify()
    again = job.finish(checkpoints="file://" + job.checkpoints)
    job.finish("--job=wordcount", checkpoints="file:" + job.checkpoints)
    assert again.checkpoint() >= 1


@test
def odd_inputs_are_counted_as_documented(folder):
    job = Job(folder)
    job.inputs = [job.input("no-end", b"a b\nlast word"), job.input("empty", b""),
                  job.input("one-lf", b"\n"), job.input("cr", b"x\ry\r\nz\r"),
                  job.input("nul", b"\0\0 a\0b\n\xff \xc3\n"), job.input("blank", b" \t\n" * 99),
                  job.input("name with blank \xe9\"", b"p q r")]
    link = os.path.join(folder, "link")
    os.symlink(job.inputs[0], link)
    job.inputs += [link, job.inputs[0]]
    job.finish()
    job.verify()


@test
def the_same_file_twice_counts_twice(folder):
    job = Job(folder)
    job.inputs = job.inputs * 2
    job.finish()
    job.verify()


@test
def nothing_to_count_writes_no_part(folder):
    job = Job(folder, inputs=[])
    job.inputs = [job.input("empty", b"")]
    first = job.finish()
    assert job.parts() == []
    assert job.finish().checkpoint() == first.checkpoint()


@test
def long_words_pass_up_to_their_limit(folder):
    job = Job(folder)
    job.inputs = [job.input("in", b"w" * (1 << 20) + b" a " + b"w" * (1 << 20) + b"\n")]
    job.finish()
    job.verify()
    other = Job(os.path.join(folder, "other"), inputs=[])
    os.mkdir(other.folder)
    other.inputs = [other.input("in", b"first\nab " + b"w" * ((1 << 20) + 1) + b"\n")]
    other.refuse(1, other.inputs[0], "offset 9:", "word")
    assert other.parts() == []


@test
def a_line_beyond_64_mib_is_refused_with_file_and_offset(folder):
    job = Job(folder)
    job.inputs = [job.input("in", b"a\n" + b" " * (64 << 20) + b"\n")]
    job.finish()
    job.verify()
    other = Job(os.path.join(folder, "other"), inputs=[])
    os.mkdir(other.folder)
    other.inputs = [other.input("in", b"a\n" + b" " * ((64 << 20) + 1) + b"\n")]
    other.refuse(1, other.inputs[0], "offset 2:", "line")


@test
def with_interval_0_there_is_only_the_final_checkpoint(folder):
    job = Job(folder, interval_ms=0, rate=2000)
    assert job.finish().checkpoint() == 1
    job.verify()
    assert len(job.kept()) == 1


@test
def as_many_checkpoints_are_kept_as_asked_for(folder):
    for retain in (1, 3):
        here = os.path.join(folder, str(retain))
        os.mkdir(here)
        job = Job(here, retain=retain, rate=800)
        last = job.finish().checkpoint()
        assert last > 3, "only %d checkpoints" % last
        assert len(job.kept()) == retain, job.kept()
        job.verify()


@test
def progress_is_a_line_for_each_checkpoint_and_quiet_is_quiet(folder):
    job = Job(folder, rate=1500)
    result = job.finish()
    lines = [line for line in result.err.splitlines() if "checkpoint" in line]
    assert len(lines) >= result.checkpoint(), result.err
    assert re.search(r"records/s.*checkpoint \d+: [0-9.]+ ms, .*B", result.err), result.err
    here = os.path.join(folder, "quiet")
    os.mkdir(here)
    quiet = Job(here, quiet=True)
    assert quiet.finish().err == ""


# --- Ends and restarts ----------------------------------------------------------------------------

@test
def a_finished_job_says_so_again_and_writes_only_its_fence(folder):
    job = Job(folder)
    first = job.finish()

    def files():
        found = {}
        for path, _, names in os.walk(folder):
            for name in names:
                found[os.path.join(path, name)] = read(os.path.join(path, name))
        return found
    for _ in range(3):
        before, slots = files(), job.log()
        assert job.finish().out == first.out
        after = files()
        new = set(after) - set(before)
        assert len(new) == 1 and "/log/" in new.pop(), "new files: %s" % new
        changed = [path for path in before if path in after and before[path] != after[path]
                   and not path.endswith("lock")]
        assert not changed, "changed: %s" % changed
        assert set(job.log()) - set(slots), "no fence"
    job.verify()


@test
def a_stopped_job_goes_on_with_the_same_command(folder):
    job, stopped = stopped_job(folder)
    assert job.parts()
    second = job.start()
    wait_for_checkpoints(job, second, 2)
    second.send_signal(signal.SIGINT)
    result = Result(second)
    if result.out.startswith("stopped"):
        assert result.checkpoint() > stopped.checkpoint()
    job.options.update({"interval-ms": 30, "rate": 3000, "retain": 4, "quiet": True})
    job.finish()
    job.verify()


@test
def a_second_signal_ends_at_once(folder):
    job = Job(folder)
    fifo = os.path.join(folder, "events")
    os.mkfifo(fifo)
    pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:  # a pipe that is full holds the job up at its first event
            os.write(pipe, b"\n" * 4096)
    except BlockingIOError:
        pass
    process = job.start("--events", fifo)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "the first signal ended it"
    process.send_signal(signal.SIGTERM)
    result = Result(process)
    assert result.code not in (0, -signal.SIGTERM) and result.out == "", result.code
    os.close(pipe)
    job.finish()
    job.verify()


@test
def kills_at_any_moment_lose_and_double_nothing(folder):
    chance = random.Random(7)
    for round_ in range(3):
        here = os.path.join(folder, str(round_))
        os.mkdir(here)
        job = Job(here, parallelism=round_ + 1, rate=400, quiet=True)
        if round_ == 1:
            job.options["inline-bytes"] = 0
        job.inputs = [job.input("a", sample_text(round_)), job.input("b", sample_text(9, 700))]
        for _ in range(12):
            process = job.start()
            time.sleep(chance.uniform(0.01, 0.5))
            process.kill()
            process.communicate()
        job.options["rate"] = 100000
        job.finish()
        job.verify()


@test
def the_parallelism_changes_at_each_start_and_nothing_is_lost_or_doubled(folder):
    for inline_bytes in (262144, 0):
        here = os.path.join(folder, str(inline_bytes))
        os.mkdir(here)
        job = Job(here, parallelism=2, rate=300, max_parallelism=7, inline_bytes=inline_bytes)
        job.inputs = [job.input("a", sample_text(3, 900)), job.input("b", sample_text(4, 700))]
        for i, parallelism in enumerate((3, 1, 7, 2, 5)):
            process = job.start()
            wait_for_checkpoints(job, process, 2)
            if i % 2 == 0:
                process.kill()
                process.communicate()
            else:
                stop_by_signal(job, process)
            before, job.options["parallelism"] = job.options["parallelism"], parallelism
        process = job.start()
        wait_for_checkpoints(job, process, 1)
        stop = stop_by_signal(job, process)
        assert "instead of %d" % before in stop.err, stop.err
        job.options.update({"rate": 100000, "parallelism": 4})
        job.finish()
        job.verify()
        # A finished job says so at any parallelism.
        job.options["parallelism"] = 6
        job.finish()
        job.verify()


# --- Refusals -------------------------------------------------------------------------------------

def has_rocksdb(folder):
    job = Job(os.path.join(folder, "probe"), backend="rocksdb")
    result = job.run()
    assert result.code == 0 or "this build has no engine 'rocksdb'" in result.err, result.err
    return result.code == 0


@test
def local_state_of_killed_attempts_goes_with_the_next_start(folder):
    os.mkdir(os.path.join(folder, "probe"))
    if not has_rocksdb(folder):
        return
    job = Job(folder, backend="rocksdb", rate=300, parallelism=3)
    state = os.path.join(folder, "local")
    job.options["state-directory"] = state
    foreign = os.path.join(state, "not-ours")
    os.makedirs(foreign)
    process = job.start()
    wait_for_checkpoints(job, process, 2)
    process.kill()
    process.communicate()
    left = set(os.listdir(state))
    assert len(left) == 4, left
    process = job.start()
    wait_for_checkpoints(job, process, 2)
    assert not left & set(os.listdir(state)) - {"not-ours"}, os.listdir(state)
    # What a living process holds stays; without locks two may run for a while.
    beside = job.start("--no-lock")
    wait_for_checkpoints(job, beside, 1)
    # Maybe the older one's last: the newer one may still be opening its three.
    deadline = time.monotonic() + 30
    while len([name for name in os.listdir(state) if "-%016x-" % 3 in name]) < 3:
        assert time.monotonic() < deadline and beside.poll() is None, os.listdir(state)
        time.sleep(0.01)
    for one in (process, beside):
        one.kill()
        one.communicate()
    job.options["rate"] = 100000
    job.finish()
    job.verify()
    assert os.listdir(state) == ["not-ours"], os.listdir(state)


@test
def a_job_of_the_backend_memory_goes_on_with_rocksdb(folder):
    os.mkdir(os.path.join(folder, "probe"))
    if not has_rocksdb(folder):
        return
    job = Job(folder, rate=300, parallelism=2, backend="memory")
    process = job.start()
    wait_for_checkpoints(job, process, 2)
    process.kill()
    process.communicate()
    job.options.update({"backend": "rocksdb", "parallelism": 3})
    process = job.start()
    wait_for_checkpoints(job, process, 2)
    process.kill()
    process.communicate()
    job.options["rate"] = 100000
    job.finish()
    job.verify()


@test
def a_state_directory_that_cannot_be_is_refused_by_name(folder):
    os.mkdir(os.path.join(folder, "probe"))
    if not has_rocksdb(folder):
        return
    job = Job(folder, backend="rocksdb")
    file = job.input("file", b"")
    job.refuse(1, file, more=("--state-directory", file))
    job.refuse(2, "--backend", "flat", more=("--backend", "flat"))


@test
def usage_errors_end_with_2_and_name_the_option(folder):
    job = Job(folder)
    for option, value in (("--parallelism", "0"), ("--parallelism", "x"), ("--interval-ms", "-1"),
                          ("--retain", "0"), ("--job", "a/b"), ("--rate", "1.5"),
                          ("--restore", "latest"), ("--max-parallelism", "1"),
                          ("--seed", "seed"), ("--frobnicate", "1")):
        job.refuse(2, option if value != "1" or option != "--max-parallelism" else "--parallelism",
                   more=(option, value))
    job.refuse(2, "memory:", checkpoints="memory:")
    job.refuse(2, "--input", inputs=[])
    assert not os.path.exists(job.out) and not os.path.exists(job.checkpoints)


@test
def help_and_version_are_answered(folder):
    for option in ("--help", "--version"):
        result = Result(subprocess.Popen([WORDCOUNT, option], stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE))
        assert result.code == 0 and result.out


@test
def inputs_that_are_not_there_or_no_files_are_refused_by_name(folder):
    job = Job(folder)
    missing = os.path.join(folder, "missing")
    job.refuse(1, missing, inputs=job.inputs + [missing])
    job.refuse(1, folder, "regular", inputs=[folder])
    fifo = os.path.join(folder, "fifo")
    os.mkfifo(fifo)
    job.refuse(1, fifo, "regular", inputs=[fifo])
    if os.geteuid() != 0:
        os.chmod(job.inputs[0], 0)
        job.refuse(3, job.inputs[0])
        os.chmod(job.inputs[0], 0o600)
    job.finish()
    job.verify()


@test
def a_shrunk_changed_or_missing_input_is_refused_by_name(folder):
    job, _ = stopped_job(folder)
    path, data = job.inputs[0], read(job.inputs[0])
    job.input("in", data[:-1])
    job.refuse(1, path, "shrunk")
    job.input("in", b"X" + data[1:])
    job.refuse(1, path, "changed")
    os.rename(path, path + ".away")
    job.refuse(1, path)
    os.rename(path + ".away", path)
    job.input("in", data)
    job.options["rate"] = 100000
    job.finish()
    job.verify()
    job.input("in", b"X" + data[1:])
    job.refuse(1, path, "changed")


@test
def a_grown_input_is_read_to_its_first_size(folder):
    job, _ = stopped_job(folder)
    data = read(job.inputs[0])
    with open(job.inputs[0], "ab") as file:
        file.write(b"late words\n" * 100)
    job.options["rate"] = 100000
    result = job.finish()
    assert "grown" in result.err and job.inputs[0] in result.err, result.err
    job.input("in", data)
    job.verify()


@test
def the_list_of_inputs_must_be_equal_in_order(folder):
    job = Job(folder, rate=150)
    job.inputs = [job.input("a", sample_text(1)), job.input("b", sample_text(2))]
    process = job.start()
    wait_for_checkpoints(job, process, 2)
    stop_by_signal(job, process)
    job.refuse(1, job.inputs[1], "order", inputs=job.inputs[::-1])
    job.refuse(1, "--input", inputs=job.inputs[:1])
    job.refuse(1, "--input", inputs=job.inputs + job.inputs[:1])
    # The same file by another name is another path.
    link = os.path.join(folder, "link")
    os.symlink(job.inputs[0], link)
    job.refuse(1, link, inputs=[link, job.inputs[1]])
    job.options["rate"] = 100000
    job.finish()
    job.verify()


@test
def another_max_parallelism_is_refused_with_both_numbers(folder):
    job, _ = stopped_job(folder)
    job.refuse(1, "128", "64", "parallelism", more=("--max-parallelism", "64"))
    job.refuse(1, "129", "128", "parallelism", more=("--parallelism", "129"))
    job.options["rate"] = 100000
    job.finish()
    job.verify()


@test
def output_without_its_log_is_not_written_again(folder):
    job, _ = stopped_job(folder)
    away = job.checkpoints + ".away"
    os.rename(job.checkpoints, away)
    job.refuse(1, job.out, job.checkpoints, "--restore none")
    job.refuse(1, job.out, "none", more=("--restore", "none"))
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    os.rename(away, job.checkpoints)
    job.refuse(1, job.out, "none", more=("--restore", "none"))
    job.options["rate"] = 100000
    job.finish()
    job.verify()


@test
def an_output_that_is_newer_than_the_log_is_refused(folder):
    job, _ = stopped_job(folder, checkpoints=3)
    old = job.checkpoints + ".old"
    shutil.copytree(job.checkpoints, old)
    job.options["rate"] = 100000
    job.finish()
    job.refuse(1, job.out, old, checkpoints=old)
    job.verify()


@test
def starting_empty_by_choice_counts_anew_elsewhere(folder):
    job, stopped = stopped_job(folder)
    job.options["rate"] = 100000
    # All output belongs to the final checkpoint, so that it is missed elsewhere.
    job.options["interval-ms"] = 0
    other = os.path.join(folder, "other")
    os.mkdir(other)
    result = job.finish("--restore", "none", out=other)
    assert result.checkpoint() > stopped.checkpoint(), "checkpoint ids were reused"
    job.verify(out=other)
    # The log now belongs to that output.
    job.refuse(1, "part-", out=job.out)


@test
def starting_empty_interrupted_starts_empty_again(folder):
    job, _ = stopped_job(folder)
    other = os.path.join(folder, "other")
    os.mkdir(other)
    job.options["interval-ms"] = 0
    process = job.start("--restore", "none", out=other)
    slots = len(job.log())
    end = time.monotonic() + PATIENCE_S
    while len(job.log()) == slots and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    job.options["rate"] = 100000
    job.finish(out=other)
    job.verify(out=other)


@test
def a_second_instance_ends_with_4_and_the_holders_pid(folder):
    job = Job(folder, rate=100)
    process = job.start()
    wait_for_checkpoints(job, process, 1)
    job.refuse(4, process.pid)
    job.refuse(4, process.pid, out=os.path.join(folder, "other"))
    job.refuse(4, process.pid, checkpoints=os.path.join(folder, "other"))
    process.kill()
    process.communicate()
    job.options["rate"] = 100000
    job.finish()
    job.verify()


@test
def without_locks_the_fence_ends_the_older_instance(folder):
    job = Job(folder, rate=150)
    old = job.start()
    wait_for_checkpoints(job, old, 2)
    new = job.start("--no-lock")
    result = Result(old)
    assert result.code == 4 and result.out == "", "%d: %s" % (result.code, result.err)
    Result(new).expect(0, "finished: checkpoint ")
    job.verify()


# --- Output that a checkpoint carries -------------------------------------------------------------

@test
def carried_output_that_is_gone_or_differs_stops_the_start_by_name(folder):
    job, stopped = stopped_job(folder)
    mine = [name for name in job.parts() if name.startswith("part-%d-" % stopped.checkpoint())]
    assert mine, "the last checkpoint has no parts"
    for name in mine:
        path, data = os.path.join(job.out, name), read(os.path.join(job.out, name))
        os.rename(path, path + ".away")
        job.refuse(1, name, "neither")
        for wrong in (data[:-1], data + b"x", b"X" + data[1:]):
            with open(path, "wb") as file:
                file.write(wrong)
            job.refuse(1, name)
        os.rename(path + ".away", path)
    job.options["rate"] = 100000
    job.finish()
    job.verify()


@test
def parts_of_older_checkpoints_may_be_taken_away(folder):
    job, stopped = stopped_job(folder)
    taken = {}
    for name in job.parts():
        if not name.startswith("part-%d-" % stopped.checkpoint()):
            taken[name] = read(os.path.join(job.out, name))
            os.unlink(os.path.join(job.out, name))
    assert taken
    job.options["rate"] = 100000
    job.finish()
    expected = Counter(words_of(read(job.inputs[0])))
    verify_parts({**job.read_parts(), **taken}, expected)


@test
def pending_output_that_a_checkpoint_names_is_committed_at_the_start(folder):
    job, stopped = stopped_job(folder)
    # As if the process had died between publishing and committing.
    generation = job.kept()[-1][1]
    undone = 0
    for name in job.parts():
        match = re.fullmatch(r"part-%d-(\d+)" % stopped.checkpoint(), name)
        if match:
            os.rename(os.path.join(job.out, name),
                      os.path.join(job.out, ".pending-wordcount-%d-%d-%s" %
                                   (generation, stopped.checkpoint(), match[1])))
            undone += 1
    assert undone
    foreign = os.path.join(job.out, ".pending-other-1-1-0")
    with open(foreign, "wb") as file:
        file.write(b"not ours")
    leftover = os.path.join(job.out, ".pending-wordcount-1-99-0")
    with open(leftover, "wb") as file:
        file.write(b"torn")
    job.options["rate"] = 100000
    job.finish()
    assert os.path.exists(foreign) and not os.path.exists(leftover)
    os.unlink(foreign)
    job.verify()


# --- Older checkpoints by choice ------------------------------------------------------------------

@test
def an_older_checkpoint_moves_newer_output_aside(folder):
    for form in ("id", "path", "uri"):
        here = os.path.join(folder, form)
        os.mkdir(here)
        job, stopped = stopped_job(here, checkpoints=5, retain=5)
        checkpoint, generation = job.kept()[0]
        assert checkpoint < stopped.checkpoint()
        path = os.path.join(job.checkpoints, "wordcount", "chk-%d-%d" % (checkpoint, generation))
        choice = {"id": checkpoint, "path": path, "uri": "file://" + path + "/"}[form]
        newer = [name for name in job.parts() if int(name.split("-")[1]) > checkpoint]
        assert newer
        job.options["rate"] = 100000
        result = job.finish("--restore", choice)
        assert result.checkpoint() > stopped.checkpoint(), "checkpoint ids were reused"
        assert "rolled-back-" in result.err, result.err
        aside = [name for name in os.listdir(job.out) if name.startswith("rolled-back-")]
        assert len(aside) == 1
        assert sorted(os.listdir(os.path.join(job.out, aside[0]))) == sorted(newer)
        job.verify()


@test
def going_back_can_be_interrupted_anywhere(folder):
    chance = random.Random(3)
    for round_ in range(6):
        here = os.path.join(folder, str(round_))
        os.mkdir(here)
        job, _ = stopped_job(here, checkpoints=4, retain=4)
        checkpoint, _ = job.kept()[0]
        slots = len(job.log())
        process = job.start("--restore", checkpoint)
        end = time.monotonic() + PATIENCE_S
        while len(job.log()) == slots and time.monotonic() < end:
            time.sleep(0.0002)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.communicate()
        job.options["rate"] = 100000
        job.finish()
        job.verify()


@test
def a_checkpoint_that_is_not_there_or_of_another_job_is_refused(folder):
    job, stopped = stopped_job(folder)
    slots = job.log()
    job.refuse(1, "99", more=("--restore", "99"))
    name = "chk-%d-%d" % job.kept()[-1]
    job.refuse(1, "--restore", more=("--restore", os.path.join(folder, "elsewhere", name)))
    assert job.log() == slots, "a refused choice wrote to the log"
    job.options["rate"] = 100000
    job.finish()
    job.verify()


# --- Events ---------------------------------------------------------------------------------------

def read_events(path):
    events = [json.loads(line) for line in read(path).decode().splitlines()]
    for event in events:
        assert set(event) == {"t", "phase", "checkpoint", "slot"}, event
        assert abs(event["t"] - time.time() * 1000) < 3600 * 1000
    return events


@test
def events_tell_the_phases_in_order(folder):
    job = Job(folder, rate=600)
    path = os.path.join(folder, "events")
    last = job.finish("--events", path).checkpoint()
    events = read_events(path)
    for checkpoint in range(1, last + 1):
        mine = [event for event in events if event["checkpoint"] == checkpoint]
        phases = [event["phase"] for event in mine]
        assert phases == ["pending", "publishing", "published", "committing", "committed"], phases
        assert mine[1]["slot"] == mine[2]["slot"] > 0
    # Appended by the next run, which restores.
    job.finish("--events", path)
    more = read_events(path)
    assert more[:len(events)] == events
    more = more[len(events):]
    assert [(event["phase"], event["checkpoint"]) for event in more] == [("restoring", last)], more
    assert more[0]["slot"] > mine[1]["slot"]


def restored_of(path):
    """(bytes read locally, remotely) of the latest restore with local copies."""
    events = [json.loads(line) for line in read(path).decode().splitlines()]
    last = [event for event in events if event["phase"] == "restored"][-1]
    return last["local_bytes"], last["remote_bytes"]


@test
def checkpoints_of_a_limited_rate_are_whole(folder):
    job = Job(folder, rate=300, parallelism=2)
    job.options["inline-bytes"] = 0
    job.options["write-rate"] = 200000
    job.options["local-copy"] = os.path.join(folder, "near")
    process = job.start()
    wait_for_checkpoints(job, process, 2)
    process.kill()
    process.communicate()
    job.options["rate"] = 100000
    job.options["write-rate"] = 5000000
    job.options["parallelism"] = 3
    job.finish()
    job.verify()


@test
def local_copies_are_read_first_and_storage_when_they_are_spoilt(folder):
    job = Job(folder, rate=300, parallelism=2)
    job.options["inline-bytes"] = 0
    job.options["local-copy"] = os.path.join(folder, "near")
    events = os.path.join(folder, "events")
    copies = os.path.join(folder, "near", "wordcount", "copies")
    process = job.start("--events", events)
    wait_for_checkpoints(job, process, 3)
    process.kill()
    process.communicate()
    process = job.start("--events", events)
    wait_for_checkpoints(job, process, 2)
    near, far = restored_of(events)
    assert near > 0 and far == 0, (near, far)
    process.kill()
    process.communicate()
    for name in os.listdir(copies):
        with open(os.path.join(copies, name), "r+b") as file:
            file.seek(64)
            file.write(b"spoilt")
    process = job.start("--events", events)
    wait_for_checkpoints(job, process, 2)
    near, far = restored_of(events)
    assert near == 0 and far > 0, (near, far)
    process.kill()
    process.communicate()
    # A disk that is gone: without copies, and with new ones.
    shutil.rmtree(os.path.join(folder, "near"))
    job.options["rate"] = 100000
    job.options["parallelism"] = 3
    job.finish("--events", events)
    near, far = restored_of(events)
    assert near == 0 and far > 0, (near, far)
    job.verify()
    stored = os.listdir(os.path.join(job.checkpoints, "wordcount", "shared"))
    assert set(os.listdir(copies)) <= set(stored), (os.listdir(copies), stored)
    # Another job of that name has no business there.
    shutil.rmtree(job.checkpoints)
    job.refuse(1, "another job", os.path.join("near", "wordcount"),
               out=os.path.join(folder, "elsewhere"))


@test
def events_go_to_a_fifo_and_a_reader_may_leave(folder):
    job = Job(folder, rate=1500)
    fifo = os.path.join(folder, "events")
    os.mkfifo(fifo)
    process = job.start("--events", fifo)
    with open(fifo, "rb") as pipe:
        assert json.loads(pipe.readline())["phase"] == "pending"
    Result(process).expect(0, "finished: checkpoint ")
    job.verify()


# --- Damage ---------------------------------------------------------------------------------------

def damage(data, chance):
    """(what, damaged bytes): every byte flipped and every length, or a sample."""
    flips = list(range(len(data)))
    cuts = list(range(len(data)))
    if not os.environ.get("KWR_EXHAUSTIVE"):
        flips = sorted(chance.sample(flips, min(len(flips), 12)))
        cuts = sorted(chance.sample(cuts, min(len(cuts), 6)) + [len(data) - 1])
    for at in flips:
        yield "flip at %d" % at, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + \
            data[at + 1:]
    for at in cuts:
        yield "cut at %d" % at, data[:at]


def verify(job):
    """What `keyweir verify` says of the only checkpoint; 1 where it was not built."""
    if "KEYWEIR" not in os.environ:
        return 1
    return subprocess.run([os.environ["KEYWEIR"], "verify",
                           os.path.join(job.checkpoints, "wordcount", "chk-1-1")],
                          capture_output=True, check=False, timeout=PATIENCE_S).returncode


@test
def any_damage_to_what_a_restore_uses_stops_it(folder):
    chance = random.Random(11)
    for inline in (None, 0):
        here = os.path.join(folder, str(inline))
        os.mkdir(here)
        options = {} if inline is None else {"inline_bytes": inline}
        job = Job(here, retain=1, interval_ms=0, rate=2000, **options)
        lines = 10 if os.environ.get("KWR_EXHAUSTIVE") else 60
        job.inputs = [job.input("in", sample_text(4, lines))]
        job.finish()
        root = os.path.join(job.checkpoints, "wordcount")
        paths = []
        for path, _, names in os.walk(root):
            paths += [os.path.join(path, name) for name in names if name != "lock"]
        assert any(path.endswith(".kwp") for path in paths) == (inline == 0), paths
        good = job.checkpoints + ".good"
        shutil.copytree(job.checkpoints, good)
        for path in sorted(paths):
            data = read(path)
            for what, bad in damage(data, chance):
                with open(path, "wb") as file:
                    file.write(bad)
                result = job.run()
                text = "%s: %s: exit %d, %s%s" % (path, what, result.code, result.out, result.err)
                assert result.code == 1, text
                assert os.path.basename(path) in result.err and "offset" in result.err, text
                assert verify(job) == 1, text + ", but verify found nothing"
                shutil.rmtree(job.checkpoints)
                shutil.copytree(good, job.checkpoints)
            os.unlink(path)
            result = job.run()
            assert result.code == 1, "%s gone: %d %s" % (path, result.code, result.err)
            assert verify(job) == 1, "%s gone, but verify found nothing" % path
            shutil.rmtree(job.checkpoints)
            shutil.copytree(good, job.checkpoints)
        assert "KEYWEIR" not in os.environ or verify(job) == 0, "verify refuses what is good"
        job.finish()
        job.verify()


# --------------------------------------------------------------------------------------------------

def main():
    global WORDCOUNT, BACKEND
    WORDCOUNT = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    if names[:1] == ["--backend"]:
        BACKEND, names = names[1], names[2:]
    wanted = [one for one in TESTS if not names or any(name in one.__name__ for name in names)]
    # Memory, when there is some: fsync is not what is tested here.
    base = os.environ.get("TMPDIR") or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    top = tempfile.mkdtemp(prefix="kwr-wordcount-", dir=base)
    failed = 0
    for number, one in enumerate(wanted):
        folder = os.path.join(top, str(number))
        os.mkdir(folder)
        began = time.monotonic()
        try:
            one(folder)
            word = "ok    "
        except Exception as why:  # whatever goes wrong is a failure of this test
            failed += 1
            word = "FAILED"
            if not isinstance(why, AssertionError):
                traceback.print_exc()
            print("---- %s: %s" % (one.__name__, why))
        print("%s %5.1f s  %s" % (word, time.monotonic() - began, one.__name__.replace("_", " ")),
              flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(top, ignore_errors=True)
    passed = len(wanted) - failed
    print("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0" %
          (len(wanted), passed, failed))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())
