#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes build/bench/report.html out of the JSON lines of benchmarks in build/bench/*.jsonl: a picture
of recovery by phase, drawn by gnuplot, its table, and the verdicts of goals when there are some."""
import html
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent / "build/bench"
PHASES = [("claim_ms", "claim"), ("find_ms", "find"), ("verify_ms", "verify"), ("load_ms", "load"),
          ("first_ms", "first record")]


def lines(name):
    path = ROOT / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def entries(count):
    for unit, name in ((1000000, "M"), (1000, "k")):
        if count >= unit:
            return "%g%s" % (count / unit, name)
    return str(count)


def label(line):
    return "%s %s, %d to %d" % (line["engine"], entries(line["entries"]), line["from"], line["to"])


def draw(found):
    """Stacked boxes: one for each size, engine and change of parallelism."""
    data = ROOT / "recovery.dat"
    rows = ["# label " + " ".join(name.replace(" ", "_") for _, name in PHASES)]
    for line in found:
        rows.append('"%s" %s' % (label(line), " ".join("%.4f" % line[key] for key, _ in PHASES)))
    data.write_text("\n".join(rows) + "\n")
    picture = ROOT / "recovery.svg"
    plots = ", ".join("'%s' using %d%s title '%s'" %
                      (data, number + 2, ":xtic(1)" if number == 0 else "", name)
                      for number, (_, name) in enumerate(PHASES))
    commands = """set terminal svg size 1100,620 font 'sans,12' background rgb 'white'
set output '%s'
set style data histograms
set style histogram rowstacked
set style fill solid 0.9 border -1
set boxwidth 0.7
set xtics rotate by -45 font 'sans,10'
set ylabel 'milliseconds'
set grid ytics
set key top left
set title 'From the start of a job to its first record'
plot %s
""" % (picture, plots)
    subprocess.run(["gnuplot"], input=commands, text=True, check=True)
    return picture.read_text()


def table(head, rows):
    def row(cells, tag):
        return "<tr>%s</tr>" % "".join("<%s>%s</%s>" % (tag, html.escape(str(c)), tag)
                                       for c in cells)
    return "<table>%s%s</table>" % (row(head, "th"), "".join(row(cells, "td") for cells in rows))


def origin(line):
    return "keyweir %s (%s), RocksDB %s%s, %s, Linux %s, seed %d" % (
        line["keyweir"], line["commit"], line["rocksdb"],
        " with assertions" if line["rocksdb_assertions"] else "", line["machine"], line["system"],
        line["seed"])


def main():
    recovery = [line for line in lines("recovery.jsonl") if line["what"] == "recovery"]
    goals = [line for line in lines("goals.jsonl") if "holds" in line or "not_yet" in line]
    if not recovery and not goals:
        sys.exit("bench-report: there are no results in build/bench/*.jsonl")
    parts = ["<h1>Benchmarks</h1>"]
    if recovery:
        picture = draw(recovery)
        parts += ["<h2>Recovery by phase</h2><p>%s</p>" % html.escape(origin(recovery[0])),
                  picture[picture.index("<svg"):],
                  table(["", "stored MB"] + [name + " ms" for _, name in PHASES] +
                        ["all loaded ms", "least", "most"],
                        [[label(line), "%.1f" % (line["stored_bytes"] / 1e6)] +
                         ["%.2f" % line[key] for key, _ in PHASES] +
                         ["%.1f" % line[key] for key in
                          ("loaded_ms", "loaded_min_ms", "loaded_max_ms")] for line in recovery])]
    if goals:
        parts += ["<h2>Goals</h2><p>%s</p>" % html.escape(origin(goals[0])),
                  table(["", "ratio", "goal", "", "what"],
                        [[line["what"], "%.3g" % line["ratio"],
                          "%s %g" % ("at most" if line["at_most"] else "at least", line["goal"]),
                          "holds" if line["holds"] else "short", line["text"]]
                         if "holds" in line else [line["what"], "", "", "not yet", line["text"]]
                         for line in goals])]
    page = """<!doctype html><html lang="en"><meta charset="utf-8"><title>keyweir benchmarks</title>
<style>body{font:15px sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}
td,th{border:1px solid #bbb;padding:3px 8px;text-align:right}td:first-child,td:last-child{text-align:left}
svg{max-width:100%%;height:auto}</style>%s</html>
""" % "\n".join(parts)
    (ROOT / "report.html").write_text(page)
    print(ROOT / "report.html")


main()
