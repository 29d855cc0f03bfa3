"""What routing by learnt outcomes has to reach, and the tables of a run of quality.py.

Pure: from what `waypost eval --outcomes --json` said to rows with `holds`, and to text. Called by quality.py;
test_quality_goals.py checks it.
"""

from dataclasses import dataclass

import goals

import report

BEGIN, END = "<!-- quality:begin (written by make bench-quality) -->", "<!-- quality:end -->"
MMLU, GSM8K = "pair, MMLU", "pair, GSM8K"
TRANSFER, TRANSFER_GSM8K = "transfer, MMLU", "transfer, GSM8K"
SEVEN, NINE = "pool of 7", "pool of 9"
TIER0, TIER1 = "tier0", "tier1"


@dataclass(frozen=True)
class Goal:
    """A figure of a case, as it answers unless a tier is named, and its limit in shown units."""

    name: str
    case: str
    figure: str
    limit: float
    unit: str = ""
    least: bool = True
    now: str = ""
    tier: str | None = None

    def text(self):
        return f"{'>=' if self.least else '<='} {self.limit:g} {self.unit}".strip()


GOALS = [
    Goal("strong/weak, MMLU, taught other questions of it: APGR", MMLU, "apgr", 0.65, now="0.642 (RouteLLM's best 0.603)"),
    Goal("the same: CPT50", MMLU, "cpt50", 30, "%", least=False, now="30.6 %"),
    Goal("strong/weak, MMLU, taught no MMLU or GSM8K: APGR", TRANSFER, "apgr", 0.55, now="0.47 to 0.50"),
    Goal("the same on GSM8K: APGR", TRANSFER_GSM8K, "apgr", 0.55, now="0.48 to 0.50"),
    Goal("MMLU-Pro, 7 models: accuracy", SEVEN, "quality", 48.5, "%", now="46.9 % (n-gram kNN)"),
    Goal("MMLU-Pro, 9 models: accuracy", NINE, "quality", 71.0, "%", now="70.4 % (n-gram kNN)"),
    Goal("MMLU-Pro, 9 models: never below the best single", NINE, "gain", 0, "points", now="+0.3 points"),
    Goal("the same, priced: cost saved at the best single's accuracy", NINE, "saving", 25, "%"),
    Goal("auto decision, p50, one core, tier 0", NINE, "p50_ms", 0.3, "ms", least=False, now="v2 logs 80 ms", tier=TIER0),
    Goal("auto decision, p50, one core, with the encoder", NINE, "p50_ms", 10, "ms", least=False, now="v2 logs 80 ms", tier=TIER1),
]


def figure(tier, name):
    """(value, low, high) in shown units, or None where a case has no such figure."""
    measured = tier["measured"]
    interval = lambda found, by=1.0: tuple(by * found[key] for key in ("value", "low", "high"))
    rule = measured["best_quality"]
    match name:
        case "apgr":
            return interval(measured["pair"]["apgr"]) if measured["pair"] else None
        case "cpt50" | "cpt80":
            return interval(measured["pair"][name], 100) if measured["pair"] else None
        case "quality":
            value, low, high = interval(rule["gain"], 100)
            single = 100 * rule["quality"] - value
            # The interval is that of the gain: what chance in the questions does to both alike is not in it.
            return single + value, single + low, single + high
        case "gain":
            return interval(rule["gain"], 100)
        case "saving":
            equal = measured["equal_quality"]
            return interval(equal["saving"], 100) if equal else None
        case "p50_ms":
            return (tier["p50_us"] / 1e3,) * 3


def tier_of(said, wanted=None):
    """What a tier said; without a name, as it answers."""
    return said.get(wanted) if wanted else said.get(TIER1) or said[TIER0]


def judge(goal, cases):
    case = cases.get(goal.case)
    tier = case and tier_of(case["said"], goal.tier)
    found = tier and figure(tier, goal.figure)
    row = {
        "name": goal.name, "case": goal.case, "goal": goal.text(), "unit": goal.unit, "now": goal.now,
        "value": None, "low": None, "high": None, "n": None, "holds": False, "note": "was not measured",
    }
    if not found:
        return row
    value, low, high = map(goals.rounded, found)
    note = f"taught: {case['taught']}"
    if goal.figure == "saving":
        difference = 100 * tier["measured"]["equal_quality"]["gain"]["value"]
        note += f"; at {difference:+.1f} points of accuracy"
    reached = found[0] >= goal.limit if goal.least else found[0] <= goal.limit
    return row | {"value": value, "low": low, "high": high, "n": tier["measured"]["n"], "holds": reached, "note": note}


def rows(cases):
    return [judge(goal, cases) for goal in GOALS]


def goal_table(judged):
    lines = []
    for row in judged:
        span = "-" if row["value"] is None or row["low"] == row["high"] else f"{row['low']:g} to {row['high']:g}"
        lines.append([row["name"], report.shown(row["value"], row["unit"]), span, row["goal"],
                      "yes" if row["holds"] else "**no**", row["now"] or "-", row["n"] or "-", row["note"]])
    return report.table(["what", "Waypost", "95 % interval", "goal", "holds", "before", "prompts", "note"], lines)


def case_table(cases):
    """Beside each case, what else one might do."""
    lines = []
    for name, case in cases.items():
        for tier, shown in ((TIER0, "tier 0"), (TIER1, "with the encoder")):
            said = case["said"].get(tier)
            if not said:
                continue
            measured = said["measured"]
            best = max(measured["singles"], key=lambda way: way["quality"])
            apgr = figure(said, "apgr")
            cpt50 = figure(said, "cpt50")
            percent = lambda share: f"{100 * share:.1f} %"
            lines.append([
                name, shown, measured["n"], percent(measured["random"]["quality"]), percent(best["quality"]),
                percent(measured["best_quality"]["quality"]), percent(measured["oracle"]["quality"]),
                f"{apgr[0]:.3f}" if apgr else "-", f"{cpt50[0]:.1f} %" if cpt50 else "-", f"{said['p50_us'] / 1e3:.3f} ms",
            ])
    heading = ["case", "tier", "prompts", "random", "best single", "routed", "oracle", "APGR", "CPT50", "p50"]
    return report.table(heading, lines)
