"""What the classifiers have to reach, and the tables of a run of classify.py.

Pure: from samples to rows with `holds`, and to text. Uses the judgement and the layout of the gateway bench, and adds
goals that name a least. Called by classify.py; test_classify_goals.py checks it.
"""

from dataclasses import dataclass
from statistics import median

import goals

import report

BEGIN, END = "<!-- classify:begin (written by make bench-classify) -->", "<!-- classify:end -->"
SHORT, LONG, NEAR, ALL = "64 tokens", "8,192 tokens", "prompts of about 64 tokens", "prompts as they are"
TIER0, TIER1 = "waypost tier 0", "waypost tier 1"
CLASSIFIERS = ("task", "complexity", "domain", "safety")
INT8, F32, TORCH = "MiniLM, onnxruntime int8", "MiniLM, onnxruntime f32", "MiniLM, PyTorch f32"
DEBERTA, MODERNBERT = "DeBERTa-v3-base shape, PyTorch f32", "ModernBERT-base shape, PyTorch f32"
GATEWAY, NOTHING = "memory of the gateway", "memory of a process that had nothing of it"
# The encoder on half the cores, as by default, and on all.
DEFAULT, EVERY = "both tiers", "encoder on every core"


def cascade(name):
    return f"waypost {name}"


@dataclass(frozen=True)
class Goal(goals.Goal):
    """As the gateway's, or with `least`: ours must be at least the limit."""

    by: str = goals.VALUE
    least: bool = False

    def text(self):
        return f"{'>=' if self.least else '<='} {self.limit:g} {self.unit}"


GOALS = [
    Goal("tier 0, all four classifiers, 64 tokens, p50", (TIER0, SHORT, "p50_us"), "us", 50, peer=(INT8, SHORT, "p50_us")),
    Goal("tier 0, all four classifiers, 64 tokens, p99", (TIER0, SHORT, "p99_us"), "us", 200, peer=(INT8, SHORT, "p99_us")),
    Goal("tier 0, all four classifiers, 8,192 tokens, p50", (TIER0, LONG, "p50_ms"), "ms", 1),
    Goal("tier 1, 64 tokens, p50", (TIER1, SHORT, "p50_ms"), "ms", 8, peer=(INT8, SHORT, "p50_ms")),
    Goal("tier 1, 64 tokens, prompts a second and core",
         (TIER1, SHORT, "per_s"), "/s", 120, peer=(INT8, SHORT, "per_s"), least=True),
    *(Goal(f"cascade, {name}, about 64 tokens, mean",
           (cascade(name), NEAR, "mean_ms"), "ms", 1, peer=(INT8, NEAR, "mean_ms")) for name in CLASSIFIERS),
    *(Goal(f"cascade, {name}, {case}, share that asked tier 1",
           (cascade(name), case, "escalated_percent"), "%", 15) for case in (NEAR, ALL) for name in CLASSIFIERS),
    Goal("models on disk", ("waypost", "disk", "mb"), "MB", 40, peer=(INT8, "disk", "mb")),
    *(Goal(f"RSS added to the gateway, {name}{models}", (f"waypost, {name}", GATEWAY, figure), "MiB", 120)
      for name in (DEFAULT, EVERY)
      for models, figure in (("", "rss_added_mib"), (", with all pages of the models", "with_models_mib"))),
    Goal("RSS added to a process that had nothing of it",
         ("waypost", NOTHING, "rss_added_mib"), "MiB", 120, peer=(INT8, NOTHING, "rss_added_mib")),
]


def judge(samples, goal):
    row = goals.judge(samples, goal)
    if goal.least and row["value"] is not None:
        faults, measured = goals.faults(samples, goal), goals.values(samples, goal.ours).values()
        row["holds"] = row["value"] >= goal.limit and not faults
        row["note"] = "; ".join([*faults, f"lowest of {len(measured)}: {goals.rounded(min(measured)):g} {goal.unit}"])
    return row


def rows(samples):
    return [judge(samples, goal) for goal in GOALS]


def goal_table(judged):
    lines = []
    for row in judged:
        peer = f"{row['peer']}: {report.shown(row['peer_value'], row['unit'])}" if row["peer"] else "-"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g}x"
        lines.append([row["name"], report.shown(row["ours"], row["unit"]), row["goal"],
                      "yes" if row["holds"] else "**no**", peer, ratio, row["note"]])
    return report.table(["what", "Waypost", "goal", "holds", "beside", "ours to it", "note"], lines)


# Figure, heading, format.
FIGURES = [
    ("n", "texts a round", "{:,}"),
    ("p50_ms", "p50 ms", "{:.3f}"),
    ("p99_ms", "p99 ms", "{:.3f}"),
    ("mean_ms", "mean ms", "{:.3f}"),
    ("per_s", "prompts/s/core", "{:.0f}"),
    ("escalated_percent", "asked tier 1", "{:.1f} %"),
    ("rss_mib", "RSS MiB", "{:.1f}"),
    ("anon_mib", "anonymous", "{:.1f}"),
    ("file_mib", "of files", "{:.1f}"),
    ("empty_mib", "RSS before", "{:.1f}"),
    ("tier0_mib", "after tier 0", "{:.1f}"),
    ("both_mib", "RSS after", "{:.1f}"),
    ("rss_added_mib", "RSS added", "{:.1f}"),
    ("with_models_mib", "with all pages of the models", "{:.1f}"),
    ("mb", "MB on disk", "{:.1f}"),
    ("parameters_m", "parameters", "{:.0f} M"),
    # Made here from the others.
    ("to_tier_0", "to our tier 0", "{:.3g}x"),
    ("to_tier_1", "to our tier 1", "{:.3g}x"),
    ("to_task", "to our task", "{:.3g}x"),
    # What others did stands last.
    ("foreign_cores", "others' cores", "{:.2f}"),
]


def ratio(samples, case, one, other, figure="mean_ms"):
    """Median over the repeats of one's figure to the other's."""
    mine, theirs = (goals.values(samples, (name, case, figure)) for name in (one, other))
    found = [mine[rep] / theirs[rep] for rep in mine.keys() & theirs.keys()]
    return median(found) if found else None


def merged(samples):
    """One record per case and peer: medians over the repeats, and the ratios to ours."""
    of = lambda figure, values: int(median(values)) if figure == "n" else goals.rounded(median(values))
    records = report.merged(samples, FIGURES, of)
    for record in records:
        for ours in (TIER0, TIER1, cascade("task")):
            if ours != record["peer"] and (to := ratio(samples, record["case"], record["peer"], ours)):
                record[f"to_{ours.removeprefix('waypost ').replace(' ', '_')}"] = goals.rounded(to)
    return records


def case_tables(records):
    return report.case_tables(records, FIGURES)
