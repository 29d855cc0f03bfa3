"""What the gateway has to reach, and whether it did: from measured samples to rows with `holds`.

Pure: no clock, no file, no process. A goal that could not be measured does not hold, and says why.
Called by gateway.py; test_goals.py checks it.
"""

from dataclasses import dataclass
from statistics import median

# Repeats of one figure further apart than this are flagged: (highest - lowest) / median.
STEADY = 0.15
# Share of requests of the classifier case that must have been classified, by Waypost's own counter.
CLASSIFIED = 0.99

RATIO, DIFFERENCE, VALUE = "ratio", "difference", "value"


@dataclass(frozen=True)
class Goal:
    """`ours`, compared with `peer` as `by` says, must be at most `limit`.

    `ours` and `peer` are (subject, case, figure), the keys of the samples.
    """

    name: str
    ours: tuple
    unit: str
    limit: float
    by: str
    peer: tuple | None = None
    classified: bool | None = None

    def text(self):
        if self.by == RATIO:
            return f"<= {self.limit:g}x"
        sign = "+" if self.by == DIFFERENCE else ""
        return f"<= {sign}{self.limit:g} {self.unit}"


def cpu(subject, case):
    return subject, case, "gw_cpu_us"


def stream(subject, mode, figure="first_byte_ms"):
    return subject, f"first byte, {mode}", figure


ON, OFF = "quick-ack on", "quick-ack off"

GOALS = [
    Goal("CPU per 1 KB request, one core, classifier off, to plain Envoy",
         cpu("waypost", "core"), "us", 0.6, RATIO, cpu("envoy", "core"), classified=False),
    Goal("CPU per 1 KB request, one core, classifier off, to vllm-router",
         cpu("waypost", "core"), "us", 0.45, RATIO, cpu("vllm", "core"), classified=False),
    Goal("CPU per 1 KB request, one core, classifier on, over classifier off",
         cpu("waypost+classifier", "core"), "us", 60, DIFFERENCE, cpu("waypost", "core"), classified=True),
    Goal("CPU per 220 KB request, to plain Envoy",
         cpu("waypost", "big8"), "us", 1.2, RATIO, cpu("envoy", "big8"), classified=False),
    Goal(f"first SSE byte, 1 connection, {ON}, over the pass-through floor",
         stream("waypost", ON), "ms", 0.1, DIFFERENCE, stream("floor-pass", ON)),
    Goal(f"first SSE byte, 1 connection, {OFF}, over the pass-through floor",
         stream("waypost", OFF), "ms", 0.1, DIFFERENCE, stream("floor-pass", OFF)),
    Goal(f"first SSE byte, {OFF}, over {ON}: no 40 ms mode",
         stream("waypost", OFF), "ms", 0.1, DIFFERENCE, stream("waypost", ON)),
    Goal(f"first SSE bytes that took 30 ms or more, {OFF}",
         stream("waypost", OFF, "stalled_percent"), "%", 1, VALUE, stream("floor-pass", OFF, "stalled_percent")),
    Goal("idle RSS with the embedded classifier",
         ("waypost", "idle", "rss_mib"), "MiB", 48, VALUE, ("envoy", "idle", "rss_mib"), classified=True),
    Goal("cold start, exec to /health 200",
         ("waypost", "cold start", "ms"), "ms", 300, VALUE, classified=True),
]


def values(samples, key, figure=None):
    """{repeat: figure} of the samples that have it."""
    subject, case, own = key
    return {
        s["rep"]: s[figure or own]
        for s in samples
        if (s["peer"], s["case"]) == (subject, case) and (figure or own) in s
    }


def spread(figures):
    middle = median(figures)
    return (max(figures) - min(figures)) / middle if middle else 0.0


def faults(samples, goal):
    """Why the figures of a goal cannot be taken at their word."""
    found = []
    # Beside a plain limit the peer is only there for comparison.
    for key in filter(None, (goal.ours, goal.by != VALUE and goal.peer)):
        mine = [s for s in samples if (s["peer"], s["case"]) == key[:2]]
        if not mine:
            found.append(f"{key[0]} was not measured")
        if broken := [s["error"] for s in mine if "error" in s]:
            found.append(f"{key[0]} failed: {broken[0]}")
        if errors := sum(s.get("errors", 0) for s in mine):
            found.append(f"{key[0]}: {errors} requests not answered with 200")
    shares = values(samples, goal.ours, "classified").values()
    if goal.classified is True and not (shares and min(shares) >= CLASSIFIED):
        seen = f"only {min(shares):.1%}" if shares else "an unknown share"
        found.append(f"{seen} of the requests were classified")
    if goal.classified is False and any(shares):
        found.append("the classifier ran although it should be off")
    return found


def judge(samples, goal):
    """One row of gateway.json. Ratios and differences are taken within a repeat, then the median."""
    ours = values(samples, goal.ours)
    theirs = values(samples, goal.peer) if goal.peer else {}
    both = sorted(ours.keys() & theirs.keys())
    ratios = [ours[rep] / theirs[rep] for rep in both if theirs[rep]]
    compared = {
        RATIO: ratios,
        DIFFERENCE: [ours[rep] - theirs[rep] for rep in both],
        VALUE: list(ours.values()),
    }[goal.by]
    notes = faults(samples, goal)
    value = median(compared) if compared else None
    holds = value is not None and not notes and value <= goal.limit
    if value is None and not notes:
        notes.append("no repeat has both figures")
    if goal.by == VALUE and len(ours) > 1:
        notes.append(f"highest of {len(ours)}: {rounded(max(ours.values())):g} {goal.unit}")
    if goal.by != VALUE:
        for key, figures in ((goal.ours, ours), (goal.peer, theirs)):
            if figures and spread(figures.values()) > STEADY:
                notes.append(f"repeats of {key[0]} differ by {spread(figures.values()):.0%}")
    return {
        "name": goal.name,
        "ours": rounded(median(ours.values()) if ours else None),
        "unit": goal.unit,
        "peer": goal.peer and (goal.peer[0] if goal.peer[1] == goal.ours[1] else f"{goal.peer[0]}, {goal.peer[1]}"),
        "peer_value": rounded(median(theirs.values()) if theirs else None),
        "ratio": rounded(median(ratios) if ratios else None),
        "goal": goal.text(),
        "by": goal.by,
        "value": rounded(value),
        "limit": goal.limit,
        "repeats": len(compared),
        "holds": holds,
        "note": "; ".join(notes),
    }


def rounded(figure):
    """Four significant digits, which is more than any of these figures has."""
    return None if figure is None else float(f"{figure:.4g}")


def rows(samples):
    return [judge(samples, goal) for goal in GOALS]
