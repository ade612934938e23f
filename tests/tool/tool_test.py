#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The keyweir command from outside: KEYWEIR WORDCOUNT STEP KINDS.

Makes small checkpoints with word count and looks at them. Damage is enumerated: every STEP-th byte
flipped and every STEP-th length cut (1: all), of every file of a checkpoint, its log included.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

KEYWEIR, WORDCOUNT, STEP, KINDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
CANONICAL = sys.argv[5]
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def keyweir(*arguments):
    done = subprocess.run([KEYWEIR, *arguments], capture_output=True, timeout=60, check=False)
    assert done.returncode >= 0, "keyweir %s died of signal %d: %s" % (
        arguments, -done.returncode, done.stderr.decode())
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def make(folder, *options, text=b"to be or not to be\n\xff raw\nto \xc3\xa4\n"):
    """A finished job: its root, and the path of its last checkpoint."""
    source = os.path.join(folder, "in.txt")
    with open(source, "wb") as out:
        out.write(text)
    root = os.path.join(folder, "ck")
    subprocess.run([WORDCOUNT, "--input", source, "--output", os.path.join(folder, "out"),
                    "--checkpoints", root, "--parallelism", "2", "--interval-ms", "0", "--quiet",
                    *options], check=True, capture_output=True, timeout=60)
    return root, os.path.join(root, "wordcount", "chk-1-1")


def files_below(folder):
    return sorted(os.path.join(where, name) for where, _, names in os.walk(folder)
                  for name in names if name != "lock")


@test
def ls_and_latest_name_the_checkpoints(folder):
    root, checkpoint = make(folder)
    for place in (root, os.path.join(root, "wordcount"), "file:" + root, root + "/"):
        code, out, _ = keyweir("latest", place)
        assert (code, out) == (0, checkpoint + "\n"), (place, out)
        code, out, _ = keyweir("ls", "--json", place)
        rows = json.loads(out)["checkpoints"]
        assert code == 0 and len(rows) == 1, out
        assert rows[0]["path"] == checkpoint and rows[0]["final"] and rows[0]["entries"] == 7
    code, out, _ = keyweir("ls", root)
    assert code == 0 and checkpoint in out and "completed" in out


@test
def nothing_completed_is_said_and_ends_with_1(folder):
    os.mkdir(os.path.join(folder, "empty"))
    code, out, err = keyweir("latest", os.path.join(folder, "empty"))
    assert (code, out) == (1, "") and "no completed checkpoint" in err
    code, _, err = keyweir("latest", os.path.join(folder, "missing"))
    assert code == 1 and "missing" in err


@test
def show_tells_operators_states_positions_and_committables(folder):
    _, checkpoint = make(folder)
    code, out, _ = keyweir("show", checkpoint)
    assert code == 0
    for text in ("operator source", "operator count", "operator sink", "state count: reducing of i64",
                 "key groups 0 to 63", "position 31", "part-1-"):
        assert text in out, (text, out)
    code, out, _ = keyweir("show", "--json", checkpoint)
    shown = json.loads(out)
    assert code == 0 and shown["anchored"] and shown["final"] and shown["slot"] == 2
    assert [o["id"] for o in shown["operators"]] == ["source", "count", "sink"]


@test
def dump_prints_every_entry_with_its_real_value(folder):
    _, checkpoint = make(folder)
    expected = {"to": 3, "be": 2, "or": 1, "not": 1, "raw": 1, "\u00e4": 1}
    for format_option in (("--json",), ("--format", "json")):
        code, out, _ = keyweir("dump", *format_option, checkpoint)
        entries = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        counts = {e["key"]: e["value"] for e in entries if isinstance(e["key"], str)}
        raw = [e for e in entries if not isinstance(e["key"], str)]
        assert counts == expected, counts
        assert [(e["key"], e["value"]) for e in raw] == [({"base64": "/w=="}, 1)]
        for entry in entries:
            assert set(entry) == {"operator", "state", "key_group", "key", "namespace", "value"}
            assert entry["operator"] == "count" and entry["state"] == "count"
            assert entry["namespace"] == "" and 0 <= entry["key_group"] < 128
    code, out, _ = keyweir("dump", checkpoint)
    assert code == 0 and "\tto\t\t3\n" in out, out


@test
def top_sorts_by_value_then_key(folder):
    _, checkpoint = make(folder)
    code, out, _ = keyweir("dump", "--top", "4", "--json", checkpoint)
    top = [(e["key"], e["value"]) for e in map(json.loads, out.splitlines())]
    assert code == 0 and top == [("to", 3), ("be", 2), ("not", 1), ("or", 1)], top
    code, out, _ = keyweir("dump", "--top", "1000", "--json", checkpoint)
    assert code == 0 and len(out.splitlines()) == 7
    for choice in (("--state", "count"), ("--operator", "count")):
        assert keyweir("dump", "--top", "1", *choice, checkpoint)[0] == 0
    for choice in (("--state", "other"), ("--operator", "other"), ("--top", "0"), ("--top", "x")):
        code, _, err = keyweir("dump", *choice, checkpoint)
        assert code == 2 and (choice[1] in err or "--top" in err), (choice, err)


@test
def plan_tells_who_gets_what_at_another_parallelism(folder):
    text = b" ".join(b"w%d" % n for n in range(4000)) + b"\n"
    for inline_bytes in ("262144", "0"):
        here = os.path.join(folder, inline_bytes)
        os.mkdir(here)
        _, checkpoint = make(here, "--inline-bytes", inline_bytes, text=text)
        for parallelism in (1, 2, 3, 5, 16, 128):
            code, out, err = keyweir("plan", checkpoint, "--parallelism", str(parallelism), "--json")
            assert code == 0, err
            plan = json.loads(out)
            assert plan["max_parallelism"] == 128 and plan["checkpoint"] == 1 and plan["anchored"]
            by_id = {operator["id"]: operator for operator in plan["operators"]}
            assert {o["parallelism"] for o in by_id.values()} == {parallelism}
            assert by_id["count"]["stored_parallelism"] == 2
            shares = by_id["count"]["subtasks"]
            groups = [g for s in shares for g in range(s["key_groups"]["first"],
                                                       s["key_groups"]["first"] + s["key_groups"]["count"])]
            donated = [g for s in shares for d in s["from"]
                       for g in range(d["key_groups"]["first"],
                                      d["key_groups"]["first"] + d["key_groups"]["count"])]
            assert groups == donated == list(range(128)), (groups, donated)
            assert sum(s["entries"] for s in shares) == 4000
            assert plan["bytes_owned"] == sum(s["bytes_owned"] for s in shares)
            assert all(s["bytes_owned"] < s["bytes_read"] for s in shares)
            if parallelism <= 2:
                assert plan["bytes_read"] <= 1.3 * plan["bytes_owned"], plan["bytes_read"]
            splits = [split for s in by_id["source"]["subtasks"] for split in s["splits"]]
            assert splits == [{"id": "0", "from": 0}], splits
            tokens = [c for s in by_id["sink"]["subtasks"] for c in s["committables"]]
            assert len(tokens) == 2 and {c["from"] for c in tokens} == {0, 1}, tokens
    code, out, _ = keyweir("plan", checkpoint, "--operator", "count=3", "--operator", "sink=1")
    assert code == 0
    for line in ("operator source: from 1 to 1 subtasks", "operator count: from 2 to 3 subtasks",
                 "operator sink: from 2 to 1 subtasks", "key groups 43 to 85 from subtasks 0 to 1",
                 "split 0 from subtask 0", "1 committables from subtask 1"):
        assert line in out, (line, out)
    for options, word in (((), "--parallelism"), (("--parallelism", "0"), "0"),
                          (("--parallelism", "129"), "max_parallelism"),
                          (("--operator", "count"), "ID=P"), (("--operator", "count=x"), "count=x"),
                          (("--operator", "other=2"), "other"), (("--state", "count"), "--state")):
        code, _, err = keyweir("plan", checkpoint, *options)
        assert code == 2 and word in err, (options, code, err)
    # Damage in an index is found before anything is said.
    path = next(p for p in files_below(os.path.dirname(checkpoint)) if p.endswith(".kwp"))
    with open(path, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damage")
    code, out, err = keyweir("plan", checkpoint, "--parallelism", "3")
    assert code == 1 and out == "" and "index" in err, (code, out, err)


@test
def state_of_every_kind_is_shown_dumped_verified_and_planned(folder):
    subprocess.run([KINDS, folder], check=True, capture_output=True, timeout=60)
    code, out, _ = keyweir("latest", folder)
    checkpoint = out.strip()
    assert code == 0
    code, out, err = keyweir("dump", "--json", checkpoint)
    assert code == 0, err
    entries = [json.loads(line) for line in out.splitlines()]
    by_state = {}
    for entry in entries:
        assert entry.pop("operator") == "all"
        by_state.setdefault(entry.pop("state"), []).append(entry)
    group = by_state["value"][0]["key_group"]
    keyed = {"key": "k", "namespace": "", "key_group": group}
    operator = {"subtask": 0, "redistribution": "split"}
    assert by_state == {
        "value": [{**keyed, "value": 2}],
        "list": [{**keyed, "index": 0, "value": 3}, {**keyed, "index": 1, "value": 1}],
        "map": [{**keyed, "user_key": -5, "value": "minus five"}],
        "raw": [{"key_group": 3, "value": "bytes"}],
        "timers/event/timers": [{"key_group": group, "time": 1700000000000, "key": "k",
                                 "namespace": ""}],
        "requests": [{**operator, "index": 0, "value": 2}, {**operator, "index": 1, "value": 3}],
        "rules": [{"subtask": 0, "redistribution": "broadcast", "user_key": "limit", "value": 1}],
    }, by_state
    code, out, _ = keyweir("dump", checkpoint)
    for line in ("all\tlist\t%d\tk\t\t1\t1" % group, "all\tmap\t%d\tk\t\t-5\tminus five" % group,
                 "all\traw\t3\t\t\tbytes", "all\trequests\tsubtask 0\t\t\t0\t2"):
        assert line in out.splitlines(), (line, out)
    code, out, _ = keyweir("dump", "--top", "1", "--state", "list", "--json", checkpoint)
    assert code == 0 and json.loads(out)["index"] == 0 and json.loads(out)["value"] == 3, out
    code, out, _ = keyweir("show", checkpoint)
    for text in ("state map: map of i64 to string, 1 entries, 1 elements",
                 "operator state requests: list of i64, split, 2 elements",
                 "operator state rules: map of string to i64, broadcast, 1 elements"):
        assert code == 0 and text in out, (text, out)
    code, out, _ = keyweir("show", "--json", checkpoint)
    states = json.loads(out)["operators"][0]["subtasks"][0]["operator_state"]["states"]
    assert [(s["name"], s["redistribution"], s["elements"]) for s in states] == [
        ("requests", "split", 2), ("rules", "broadcast", 1)]
    code, out, _ = keyweir("verify", "--json", folder)
    assert code == 0 and json.loads(out)["good"], out
    code, out, _ = keyweir("plan", "--parallelism", "2", "--json", checkpoint)
    shares = json.loads(out)["operators"][0]["subtasks"]
    for i, share in enumerate(shares):
        requests, rules = share["operator_state"]
        assert requests["from"] == [{"subtask": 0, "first": i, "elements": 1}], requests
        assert rules["from"] == [{"subtask": 0, "first": 0, "elements": 1}], rules
    code, out, _ = keyweir("plan", "--parallelism", "2", checkpoint)
    assert code == 0 and "operator state rules (broadcast): 1 elements from subtask 0" in out, out


@test
def dumps_are_the_same_from_engine_to_engine_and_back(folder):
    root, local = os.path.join(folder, "root"), os.path.join(folder, "local")
    os.mkdir(local)
    run = subprocess.run([CANONICAL, root, local], check=True, capture_output=True, timeout=300)
    stops = run.stdout.decode().splitlines()
    assert len(stops) >= 3 and os.listdir(local) == [], (stops, os.listdir(local))
    first = None
    for line in stops:
        job, engine, parallelism = line.split()
        code, out, err = keyweir("latest", os.path.join(root, job))
        assert code == 0, err
        code, dumped, err = keyweir("dump", "--json", out.strip())
        assert code == 0, err
        entries = sorted(dumped.encode().splitlines())
        first = first or entries
        assert len(entries) > 10000 and entries == first, (line, len(entries), len(first))
        assert {json.loads(e)["state"] for e in entries} == {
            "value", "number", "sum", "mean", "list", "map", "raw", "timers/event/timers"}
        code, shown, _ = keyweir("show", "--json", out.strip())
        subtasks = json.loads(shown)["operators"][0]["subtasks"]
        assert len(subtasks) == int(parallelism), line
        assert keyweir("verify", os.path.join(root, job))[0] == 0, line


def put(path, content=b"0123456789"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(content)


@test
def fsck_checks_all_jobs_and_says_what_else_lies_there(folder):
    root, _ = make(folder, "--inline-bytes", "0")
    job = os.path.join(root, "wordcount")
    for place in (root, job, "file:" + root):
        code, out, err = keyweir("fsck", place)
        assert code == 0 and "good: 1 jobs, 1 checkpoints" in out and err == "", (out, err)
    put(os.path.join(job, "shared", "0-count-0-7.kwp"))
    put(os.path.join(job, "notes.txt"))
    put(os.path.join(root, "README"))
    code, out, _ = keyweir("fsck", "--json", root)
    told = json.loads(out)
    assert code == 0 and told["good"] and told["leftovers"] == 1 and told["leftover_bytes"] == 10
    assert [(f["kind"], f["job"], f["file"]) for f in told["findings"]] == [
        ("foreign", None, "README"), ("foreign", "wordcount", "notes.txt"),
        ("leftover", "wordcount", "shared/0-count-0-7.kwp")], told["findings"]
    code, out, _ = keyweir("fsck", "--quiet", root)
    assert code == 0 and len(out.splitlines()) == 1, out
    name = sorted(n for n in os.listdir(os.path.join(job, "shared")) if n.startswith("1-count-0-"))[0]
    with open(os.path.join(job, "shared", name), "r+b") as file:
        file.seek(150)
        byte = file.read(1)
        file.seek(150)
        file.write(bytes([byte[0] ^ 1]))
    code, out, _ = keyweir("fsck", "--json", root)
    faults = [f for f in json.loads(out)["findings"] if f["kind"] == "damaged"]
    assert code == 1 and len(faults) == 1, out
    fault = faults[0]
    assert (fault["file"], fault["offset"]) == ("shared/" + name, 128), fault
    assert (fault["operator"], fault["subtask"], fault["state"]) == ("count", 0, "count"), fault
    assert fault["key_groups"]["count"] == 1 and fault["length"] > 16, fault
    assert fault["checkpoints"] == [{"checkpoint": 1, "generation": 1}], fault
    code, out, _ = keyweir("fsck", job)
    assert code == 1 and "DAMAGED wordcount/shared/" + name + ", offset 128" in out, out
    assert "needed by chk-1-1" in out and "operator count, subtask 0, state count, key group" in out, out
    assert keyweir("fsck", "--quick", job)[0] == 0
    os.remove(os.path.join(job, "shared", name))
    code, out, _ = keyweir("fsck", "--json", "--jobs", "3", job)
    assert code == 1 and {f["kind"] for f in json.loads(out)["findings"]} >= {"missing"}, out
    empty = os.path.join(folder, "empty")
    os.mkdir(empty)
    code, out, _ = keyweir("fsck", empty)
    assert code == 1 and "no job here" in out, out


@test
def gc_only_says_unless_told_to_delete(folder):
    root, _ = make(folder, "--inline-bytes", "0")
    job = os.path.join(root, "wordcount")
    put(os.path.join(job, "shared", "0-count-0-7.kwp"))
    put(os.path.join(job, "shared", "1-count-0-77.kwp"))
    put(os.path.join(job, "shared", "mine.kwp"))
    before = files_below(root)
    for options in ((), ("--dry-run",), ("--ended",)):
        code, out, _ = keyweir("gc", root, *options)
        assert code == 0 and "would be removed" in out and files_below(root) == before, out
        assert ("%d leftovers" % (2 if "--ended" in options else 1)) in out, out
    code, out, _ = keyweir("gc", "--delete", "--json", root)
    told = json.loads(out)
    assert code == 0 and told["deleted"] and told["removed"] == 1 and told["in_progress"] == 1, told
    assert told["foreign"] == 1 and told["removed_bytes"] == 10, told
    code, out, _ = keyweir("gc", "--delete", "--ended", job)
    assert code == 0 and "removed 1 of 1 leftovers" in out, out
    left = files_below(root)
    assert [p for p in before if p not in left] == [
        os.path.join(job, "shared", "0-count-0-7.kwp"), os.path.join(job, "shared", "1-count-0-77.kwp")]
    code, out, _ = keyweir("fsck", root)
    assert code == 0 and "0 leftovers" in out and "1 foreign" in out, out
    manifest = os.path.join(job, "chk-1-1", "manifest.json")
    put(os.path.join(job, "shared", "0-count-0-7.kwp"))
    with open(manifest, "ab") as file:
        file.write(b" ")
    code, _, err = keyweir("gc", "--delete", root)
    assert code == 1 and "nothing was removed" in err and "chk-1-1" in err, err
    assert os.path.exists(os.path.join(job, "shared", "0-count-0-7.kwp"))
    code, _, err = keyweir("gc", "--delete", "--dry-run", root)
    assert code == 2 and "--dry-run" in err


@test
def verify_in_parallel_says_the_same_and_how_far_it_is(folder):
    text = b" ".join(b"word%d" % n for n in range(20000)) + b"\n"
    root, checkpoint = make(folder, "--inline-bytes", "0", text=text)
    said = {keyweir("verify", "--json", "--jobs", jobs, checkpoint) for jobs in ("1", "2", "7")}
    assert len(said) == 1 and said.pop()[0] == 0
    code, _, err = keyweir("verify", "--progress", root)
    assert code == 0 and "Traceback" not in err
    code, _, err = keyweir("verify", "--jobs", "0", root)
    assert code == 2 and "--jobs" in err


@test
def usage_errors_end_with_2_and_name_what_is_wrong(folder):
    _, checkpoint = make(folder)
    for arguments, word in ((("frobnicate", checkpoint), "frobnicate"), (("ls",), "ls"),
                            (("ls", "--top", "3", folder), "--top"), (("ls", "--nope", folder), "--nope"),
                            (("show", folder), "chk-"), (("dump", "--format", "xml", checkpoint), "xml"),
                            (("ls", folder, folder), folder), (("dump", checkpoint, "--state"), "--state")):
        code, _, err = keyweir(*arguments)
        assert code == 2 and word in err, (arguments, code, err)
    assert keyweir()[0] == 2
    code, out, _ = keyweir("--help")
    assert code == 0 and "verify" in out
    assert keyweir("--version")[0] == 0


@test
def verify_finds_good_ones_good(folder):
    root, checkpoint = make(folder)
    for place in (checkpoint, root, os.path.join(root, "wordcount")):
        code, out, _ = keyweir("verify", place)
        assert code == 0 and "0 findings" in out, out
    code, out, _ = keyweir("verify", "--json", checkpoint)
    told = json.loads(out)
    assert code == 0 and told["good"] and told["anchored"] and told["entries"] == 7


@test
def verify_without_the_log_is_not_anchored(folder):
    root, checkpoint = make(folder)
    shutil.rmtree(os.path.join(root, "wordcount", "log"))
    code, out, _ = keyweir("verify", checkpoint)
    assert code == 1 and "not anchored: no log" in out, out
    code, out, _ = keyweir("dump", "--json", checkpoint)
    assert code == 0 and len(out.splitlines()) == 7


def every_damage(folder, *options):
    root, checkpoint = make(folder, *options)
    files = files_below(os.path.join(root, "wordcount"))
    kinds = {os.path.basename(os.path.dirname(path)) for path in files}
    assert "log" in kinds and "chk-1-1" in kinds, kinds
    tried = 0
    for path in files:
        with open(path, "rb") as source:
            whole = source.read()
        damaged = [whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1:]
                   for at in range(tried % STEP, len(whole), STEP)]
        damaged += [whole[:length] for length in range(tried % STEP, len(whole), STEP)]
        damaged += [whole + b"\0"]
        for content in damaged:
            with open(path, "wb") as out:
                out.write(content)
            code, out, err = keyweir("verify", checkpoint)
            assert code == 1, "%s: %d of %d bytes, verify says %d: %s%s" % (
                path, len(content), len(whole), code, out, err)
            tried += 1
        os.remove(path)
        code, out, _ = keyweir("verify", checkpoint)
        assert code == 1, "%s removed: %s" % (path, out)
        with open(path, "wb") as out:
            out.write(whole)
    assert keyweir("verify", checkpoint)[0] == 0
    assert tried * STEP > 3000, tried
    return files


@test
def verify_finds_every_damage_inline(folder):
    files = every_damage(folder)
    assert any(path.endswith("/inline") for path in files)


@test
def verify_finds_every_damage_in_data_files(folder):
    files = every_damage(folder, "--inline-bytes", "0")
    assert any(path.endswith(".kwp") for path in files)


def main():
    passed = failed = 0
    for function in TESTS:
        folder = tempfile.mkdtemp(prefix="kwr-tool-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        try:
            function(folder)
            passed += 1
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print("FAILED %s: %s: %s" % (function.__name__, type(error).__name__, error))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


sys.exit(main())
