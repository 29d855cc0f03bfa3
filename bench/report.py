"""Tables of a bench run, for the terminal and for docs/benchmarks.md.

Only formats: what holds is decided in goals.py. In the page it touches nothing outside its two markers.
Called by gateway.py and classify.py.
"""

from statistics import median

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


def summaries(samples):
    """One record per case and peer: the medians over the repeats, errors summed, highest RSS."""
    found = {}
    for sample in samples:
        found.setdefault((sample["case"], sample["peer"]), []).append(sample)
    merged = []
    for (case, peer), group in found.items():
        record = {"case": case, "peer": peer, "repeats": len(group)}
        for figure, _, _ in FIGURES:
            if figures := [s[figure] for s in group if figure in s]:
                record[figure] = sum(figures) if figure == "errors" else round(median(figures), 4)
        if failures := [s["error"] for s in group if "error" in s]:
            record["error"] = failures[0]
        if sizes := [s["rss1"] for s in group if "rss1" in s]:
            record["rss_after_mib"] = max(sizes)
        merged.append(record)
    return merged


def case_tables(merged):
    """One table per case, in the order they were measured."""
    parts = []
    for case in dict.fromkeys(record["case"] for record in merged):
        records = [record for record in merged if record["case"] == case]
        used = [f for f in FIGURES if any(f[0] in record for record in records)]
        lines = [
            [record["peer"], *(form.format(record[key]) if key in record else "-" for key, _, form in used)]
            for record in records
        ]
        parts.append(f"**{case}**\n\n" + table(["peer", *(name for _, name, _ in used)], lines))
    return "\n\n".join(parts)


def into_page(page, text, begin=BEGIN, end=END):
    """Puts `text` between the markers of the page."""
    with open(page, encoding="utf-8") as file:
        before, found, rest = file.read().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page} lacks the markers {begin} and {end}")
    with open(page, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin}\n\n{text}\n\n{end}{after}")
