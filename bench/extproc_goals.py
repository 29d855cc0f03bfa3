"""What the Envoy door has to reach, and the tables of a run of extproc.py.

Pure: judgement and layout are those of the classifier bench. Called by extproc.py; test_extproc_goals.py checks it.
"""

import classify_goals
import goals
from picker_goals import Goal

import report

BEGIN, END = "<!-- extproc:begin (written by make bench-extproc) -->", "<!-- extproc:end -->"
NOTHING, FLOOR, PYTHON = "no processor", "floor", "grpc.aio"
WAYPOST, TIER0, BUFFERED, FLOOR_BUFFERED = "waypost", "waypost, encoder off", "waypost, buffered", "floor, buffered"
SMALL, LARGE, CROWD = "1 KB, 1 connection", "220 KB, 100 connections", "1,000 open, 150 KB each"
LONG, NEXT_TURN = "100k tokens, new each time", "100k tokens, the next turn"


def added(name, subject, case, figure, limit, peer=NOTHING):
    return Goal(name, (subject, case, figure), "ms", limit, goals.DIFFERENCE, (peer, case, figure))


GOALS = [
    added("added per request, 1 KB, classifier and picker on, p50", WAYPOST, SMALL, "p50_ms", 0.5),
    added("added per request, 1 KB, classifier and picker on, p99", WAYPOST, SMALL, "p99_ms", 3),
    added("the same, n-grams alone, p99", TIER0, SMALL, "p99_ms", 3),
    *(Goal(f"CPU per request, 1 KB, to the floor{only}", (name, SMALL, "cpu_us"), "us", 1.5, goals.RATIO, (FLOOR, SMALL, "cpu_us"))
      for name, only in ((WAYPOST, ""), (TIER0, ", n-grams alone"))),
    *(Goal(f"220 KB, 100 connections, requests a second{only}", (name, LARGE, "rps"), "/s", 800, peer=(FLOOR, LARGE, "rps"), least=True)
      for name, only in ((WAYPOST, ""), (TIER0, ", n-grams alone"))),
    added("220 KB, 100 connections, added, p50", WAYPOST, LARGE, "p50_ms", 100),
    Goal("100k-token prompt, KV-aware pick, CPU", (WAYPOST, LONG, "cpu_s"), "s", 0.05),
    Goal("memory at 1,000 open streams with 150 KB bodies", (WAYPOST, CROWD, "peak_mib"), "MiB", 400,
         peer=(FLOOR, CROWD, "peak_mib")),
]  # fmt: skip

# Figure, heading, format.
FIGURES = [
    ("p50_ms", "p50 ms", "{:.3f}"),
    ("p99_ms", "p99 ms", "{:.3f}"),
    ("mean_ms", "mean ms", "{:.3f}"),
    ("rps", "req/s", "{:.0f}"),
    ("cpu_us", "processor CPU us", "{:.0f}"),
    ("cpu_s", "processor CPU s", "{:.4f}"),
    ("envoy_us", "Envoy CPU us", "{:.0f}"),
    ("peak_mib", "processor peak MiB", "{:.1f}"),
    ("envoy_mib", "Envoy peak MiB", "{:.1f}"),
    ("errors", "errors", "{:.0f}"),
]


def rows(samples):
    return [classify_goals.judge(samples, goal) for goal in GOALS]


def goal_table(judged):
    lines = []
    for row in judged:
        value = "-" if row["value"] is None else f"{row['value']:.2f}x" if row["by"] == goals.RATIO else report.shown(row["value"], row["unit"])
        peer = f"{row['peer']}: {report.shown(row['peer_value'], row['unit'])}" if row["peer"] else "-"
        lines.append([row["name"], report.shown(row["ours"], row["unit"]), peer, value, row["goal"],
                      "yes" if row["holds"] else "**no**", row["note"]])
    return report.table(["what", "Waypost", "beside", "compared", "goal", "holds", "note"], lines)


def merged(samples):
    return report.merged(samples, FIGURES)


def case_tables(records):
    return report.case_tables(records, FIGURES)
