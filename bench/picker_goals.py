"""What the endpoint picker has to reach, and the tables of a run of picker.py.

Pure: from rows that the programs printed to samples, to goals with `holds`, and to text. Judgement and layout are those of the
gateway and classifier benches. Called by picker.py; test_picker_goals.py checks it.
"""

from dataclasses import dataclass

import classify_goals
import goals

import report

BEGIN, END = "<!-- picker:begin (written by make bench-picker) -->", "<!-- picker:end -->"
OURS = ("ttft", "ttft, events")
ROUND_ROBIN, INDEX = "round-robin", "waypost"
MATCH, OPERATIONS, SCRAPE = "match beside a writer", "operations of a trace", "scrape_100x200ms"
COLD, NEXT_TURN, TOKENIZERS = "chat of 3350 tokens, cold", "second turn of the chat", "tokenizers"
PICK = "pick from 3350 tokens, 64 endpoints"
SATURATED = "mooncake_conversation, second, cache 1, rate 1"
# Made here from all traces, and from all herds.
WORST, HERD = "all traces and rates, worst", "50 at once, nothing cached, worst pool"
CAP_MIB = 1024


def memory(copies):
    return f"memory, {copies:.0f} workers a block"


def sample(row):
    """A printed row with the names that samples have; `None`: it says no figure."""
    row = dict(row)
    row.setdefault("peer", row.pop("index", None) or INDEX)
    case = row.get("case", "")
    if case.startswith("operations"):
        row["m_per_s"] = row["m_per_cpu_s"] if "m_per_cpu_s" in row else row["ops_per_s"] / 1e6
    elif case == "memory":
        row["case"] = memory(row["workers_per_block"])
        row["peak_mib"] = row["peak_bytes"] / (1 << 20)
    elif case in (COLD, NEXT_TURN) and row.get("wrong"):
        row["error"] = f"{row['wrong']} of {row['chats']} chats got wrong tokens"
    return row if case else None


def samples(rows):
    """All rows as samples; a row without a repeat of its own is the next one of its kind."""
    made, seen = [], {}
    for one in filter(None, map(sample, rows)):
        key = one["peer"], one["case"]
        one.setdefault("rep", seen.get(key, 0))
        seen[key] = seen.get(key, 0) + 1
        made.append(one)
    return made + worst_of_traces(made) + worst_of_herds(made)


def worst_of_traces(made):
    """How far each of ours is behind the best of the others, in percent: the worst case of each repeat."""
    groups = {}
    for one in made:
        if "ttft_mean_ms" in one:
            groups.setdefault((one["case"], one["rep"]), {})[one["peer"]] = one
    worst = {}
    for (_, rep), peers in groups.items():
        others = [one for name, one in peers.items() if name not in OURS]
        for name in set(OURS) & peers.keys() if others else ():
            row = worst.setdefault((name, rep), {"peer": name, "case": WORST, "rep": rep})
            for figure in ("ttft_mean_ms", "ttft_p99_ms"):
                behind = 100 * (peers[name][figure] / min(one[figure] for one in others) - 1)
                row[figure.replace("_ms", "_behind")] = max(behind, row.get(figure.replace("_ms", "_behind"), behind))
            refused = peers[name]["refused_percent"] - min(one["refused_percent"] for one in others)
            row["refused_more"] = max(refused, row.get("refused_more", refused))
    return list(worst.values())


def worst_of_herds(made):
    worst = {}
    for one in made:
        if "off_ideal" in one and one["case"].endswith("nothing cached"):
            row = worst.setdefault(one["peer"], {"peer": one["peer"], "case": HERD, "rep": 0, "off_ideal": 0})
            row["off_ideal"] = max(row["off_ideal"], one["off_ideal"])
    return list(worst.values())


@dataclass(frozen=True)
class Goal(classify_goals.Goal):
    """As the classifiers', ratios too."""

    def text(self):
        return goals.Goal.text(self) if self.by == goals.RATIO else super().text()


RATIO_OF_MEANS = 5

GOALS = [
    Goal("match 209 blocks, 1M blocks x 64 workers, beside 100k events/s, p50", (INDEX, MATCH, "p50_us"), "us", 4),
    Goal("match 209 blocks, 1M blocks x 64 workers, beside 100k events/s, p99", (INDEX, MATCH, "p99_us"), "us", 12),
    Goal("block operations a second on one core, of the trace", (INDEX, OPERATIONS, "m_per_s"), "M/s", 10, least=True),
    *(Goal(f"memory of a block-worker pair, {n} on a block", (INDEX, memory(n), "bytes_per_pair"), "bytes", 48) for n in (1, 4)),
    *(Goal(f"{case}, to tokens, p50", (INDEX, case, "p50_ms"), "ms", most, peer=(TOKENIZERS, case, "p50_ms"))
      for case, most in ((COLD, 1.2), (NEXT_TURN, 0.15))),
    *(Goal(f"whole pick from tokens, 64 endpoints, p50, {name}", (name, PICK, "p50_us"), "us", 25)
      for name in ("ttft, events", "kv, events")),
    Goal("memory of the index, highest, to its cap", (INDEX, memory(4), "peak_mib"), "MiB", CAP_MIB),
    *(Goal(f"trace, near saturation, mean TTFT to round robin's, {name}", (name, SATURATED, "ttft_mean_ms"), "ms",
           1 / RATIO_OF_MEANS, goals.RATIO, (ROUND_ROBIN, SATURATED, "ttft_mean_ms")) for name in OURS),
    *(Goal(f"trace, {text} behind the best other strategy, worst case, {name}", (name, WORST, figure), "%", 3)
      for name in OURS for text, figure in (("mean TTFT", "ttft_mean_behind"), ("p99 TTFT", "ttft_p99_behind"))),
    *(Goal(f"trace, refused more than others, {name}", (name, WORST, "refused_more"), "%", 0) for name in OURS),
    *(Goal(f"50 equal requests at once, off an even spread, {name}", (name, HERD, "off_ideal"), "requests", 1)
      for name in (*OURS, "kv")),
    Goal("scrape of 100 endpoints each 200 ms", (INDEX, SCRAPE, "cores"), "cores", 0.2),
]  # fmt: skip

# Figure, heading, format.
FIGURES = [
    ("ttft_mean_ms", "TTFT mean ms", "{:.0f}"),
    ("ttft_p50_ms", "p50", "{:.0f}"),
    ("ttft_p99_ms", "p99", "{:.0f}"),
    ("e2e_mean_ms", "E2E mean ms", "{:.0f}"),
    ("cached_percent", "cached", "{:.1f} %"),
    ("busy_percent", "reading", "{:.1f} %"),
    ("imbalance", "busiest to mean", "{:.2f}"),
    ("regret_percent", "regret", "{:.1f} %"),
    ("refused_percent", "refused", "{:.1f} %"),
    ("off_ideal", "off even, most", "{:.1f}"),
    ("on_holder", "on the holder", "{:.1f}"),
    ("p50_ms", "p50 ms", "{:.3f}"),
    ("p99_ms", "p99 ms", "{:.3f}"),
    ("p50_us", "p50 us", "{:.2f}"),
    ("p99_us", "p99 us", "{:.2f}"),
    ("cpu_us", "CPU us", "{:.1f}"),
    ("cpu_us_per_match", "CPU us", "{:.2f}"),
    ("m_per_s", "M operations/s", "{:.1f}"),
    ("bytes_per_pair", "bytes a pair", "{:.1f}"),
    ("rss_bytes_per_pair", "RSS a pair", "{:.1f}"),
    ("peak_mib", "peak MiB", "{:.1f}"),
    ("cores", "cores", "{:.3f}"),
]


def rows(made):
    return [classify_goals.judge(made, goal) for goal in GOALS]


def table_of_goals(judged):
    """With a word for each: met or missed."""
    return classify_goals.goal_table(judged), "\n".join(
        f"{'met   ' if row['holds'] else 'MISSED'} {row['name']}: {report.shown(row['value'], '' if row['by'] == goals.RATIO else row['unit'])}"
        f" (goal {row['goal']})" + (f"; {row['note']}" if row["note"] else "") for row in judged)


def merged(made):
    return report.merged(made, FIGURES)


def case_tables(records):
    return report.case_tables([record for record in records if record["case"] not in (WORST, HERD)], FIGURES)
