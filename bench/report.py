"""Tables of a bench run, for the terminal and for docs/benchmarks.md.

Only formats and writes: what holds is decided in goals.py. In the page it touches nothing outside its two markers.
Called by every bench; the figures and markers here are gateway.py's.
"""

import json
import os
from statistics import median

import goals

BEGIN, END = "<!-- gateway:begin (written by make bench) -->", "<!-- gateway:end -->"

# Figure, heading, format; a row shows what it has.
FIGURES = [
    ("gw_cpu_us", "CPU us/request", "{:.1f}"),
    ("rps", "req/s", "{:.0f}"),
    ("p50_us", "p50 us", "{:.0f}"),
    ("p99_us", "p99 us", "{:.0f}"),
    ("first_byte_ms", "first byte ms", "{:.3f}"),
    ("stalled_percent", ">= 30 ms", "{:.1f} %"),
    ("rss_mib", "RSS MiB", "{:.1f}"),
    ("ms", "/health 200 ms", "{:.0f}"),
    ("first_answer_ms", "first answer ms", "{:.0f}"),
    ("errors", "errors", "{:.0f}"),
    ("foreign_cores", "others' cores", "{:.2f}"),
]


def table(heading, lines):
    """A Markdown table with its columns padded, so that it reads well in a terminal too."""
    text = [list(map(str, line)) for line in [heading, *lines]]
    width = [max(len(line[i]) for line in text) for i in range(len(heading))]
    padded = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, width, strict=True)) + " |" for line in text]
    return "\n".join([padded[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *padded[1:]])


def shown(figure, unit=""):
    return "-" if figure is None else f"{figure:g} {unit}".strip()


def goal_table(rows):
    lines = []
    for row in rows:
        value = shown(row["value"], row["unit"])
        if row["by"] == "ratio":
            value = "-" if row["value"] is None else f"{row['value']:.2f}x"
        peer = f"{row['peer']}: {shown(row['peer_value'], row['unit'])}" if row["peer"] else "-"
        lines.append([
            row["name"], shown(row["ours"], row["unit"]), peer, value, row["goal"],
            "yes" if row["holds"] else "**no**", row["note"],
        ])
    return table(["what", "Waypost", "beside", "compared", "goal", "holds", "note"], lines)


def merged(samples, figures, of=lambda figure, values: goals.rounded(median(values))):
    """One record per case and peer: what `of` makes of each figure's repeats, else their median."""
    groups = {}
    for sample in samples:
        groups.setdefault((sample["case"], sample["peer"]), []).append(sample)
    records = []
    for (case, peer), group in groups.items():
        record = {"case": case, "peer": peer, "repeats": len(group)}
        for figure, *_ in figures:
            if values := [sample[figure] for sample in group if figure in sample]:
                record[figure] = of(figure, values)
        if failures := [sample["error"] for sample in group if "error" in sample]:
            record["error"] = failures[0]
        records.append(record)
    return records


def summaries(samples):
    """The gateway's records: errors are summed, and the highest RSS counts."""
    ways = {"errors": sum, "rss_after_mib": max}
    of = lambda figure, values: ways.get(figure, lambda values: round(median(values), 4))(values)
    return merged(samples, [*FIGURES, ("rss_after_mib",)], of)


def case_tables(records, figures, who=""):
    """One table per case that has figures, in the order they were measured; `who` stands above the peers."""
    parts = []
    for case in dict.fromkeys(record["case"] for record in records):
        here = [record for record in records if record["case"] == case]
        used = [figure for figure in figures if any(figure[0] in record for record in here)]
        lines = [
            [record["peer"], *(form.format(record[key]) if key in record else "-" for key, _, form in used)]
            for record in here
        ]
        if used:
            parts.append(f"**{case}**\n\n" + table([who, *(name for _, name, _ in used)], lines))
    return "\n\n".join(parts)


def results(folder, name, run, judged, records):
    """Writes a run's circumstances, judged goals and cases to `name`.json in the folder; the circumstances in one line."""
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{name}.json", "w", encoding="utf-8") as file:
        json.dump({"run": run, "goals": judged, "cases": records}, file, indent=1)
        file.write("\n")
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in run.items())


def into_page(page, text, begin=BEGIN, end=END):
    """Puts `text` between the markers of the page."""
    with open(page, encoding="utf-8") as file:
        before, found, rest = file.read().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page} lacks the markers {begin} and {end}")
    with open(page, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin}\n\n{text}\n\n{end}{after}")
