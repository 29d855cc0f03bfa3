"""What picking an endpoint costs and what it is worth: index, tokens, traces on simulated engines, herds (picker.sh builds).

Runs the programs one after another and gathers the rows that they print; then the goals are judged, and
bench/results/picker.json and a section of docs/benchmarks.md written. `--results` and `--page` elsewhere keep a trial run out of
the repo; `--rows` takes rows of an earlier run instead of measuring.
"""

import argparse
import glob
import json
import os
import subprocess
import sys

import goals
import picker_goals
from gateway import circumstances

import report

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Trace, part, share of the cache. Tuned on the first half of the conversations and on the synthetic trace.
TRACES = [("conversation", "second", cache) for cache in ("1", "0.5", "2")] + [("synthetic", "all", "1")]
# A tokenizer is trained on most of these, and chats are made of the rest.
TEXTS = ["complexity_signals.jsonl", "domain.jsonl.gz", "jailbreak.jsonl.gz", "task_type.jsonl.gz"]


def printed(*words):
    """The JSON rows that a program prints."""
    print(*words, file=sys.stderr, flush=True)
    done = subprocess.run(words, cwd=REPO, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def measured(options):
    rows = printed(options.bench, "index")
    texts = [f"{options.texts}/{name}" for name in TEXTS]
    if all(map(os.path.exists, texts)):
        rows += printed(options.bench, "tokens", *texts)
    else:
        print(f"picker.py: {options.texts} lacks texts: the goals of tokenising will not hold", file=sys.stderr)
    for path in glob.glob(f"{options.traces}/mooncake_conversation_trace.jsonl.gz"):
        rows += printed(options.bench, "churn", path)
    rows += printed(options.bench, "herd")
    if options.scrape:
        rows += printed(options.scrape)
    if options.dynamo:
        rows += printed(f"{options.dynamo}/bin/python", "bench/picker_dynamo.py")
    # Last: in virtual time, so it does not matter what else the machine does by now.
    for trace, part, cache in TRACES:
        path = f"{options.traces}/mooncake_{trace}_trace.jsonl.gz"
        if not os.path.exists(path):
            print(f"picker.py: no {path}: its goals will not hold", file=sys.stderr)
            continue
        rows += printed(options.bench, "trace", path, part, cache)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=f"{REPO}/target/dist/waypost-bench-picker")
    parser.add_argument("--scrape", help="the example scrape_bench of waypost-feeds")
    parser.add_argument("--dynamo", help="folder made by scripts/dynamo-venv.sh")
    parser.add_argument("--traces", default=f"{REPO}/../shared/traces")
    parser.add_argument("--texts", default=f"{REPO}/../shared/datasets")
    parser.add_argument("--rows", help="file of rows to judge instead of measuring")
    parser.add_argument("--keep", help="file to write the rows to")
    parser.add_argument("--results", default=f"{REPO}/bench/results")
    parser.add_argument("--page", default=f"{REPO}/docs/benchmarks.md")
    options = parser.parse_args()
    if options.rows:
        with open(options.rows, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    else:
        rows = measured(options)
    if options.keep:
        with open(options.keep, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    samples = picker_goals.samples(rows)
    judged, records = picker_goals.rows(samples), picker_goals.merged(samples)
    run = {key: value for key, value in circumstances("waypost", []).items() if value not in (None, "unknown")}
    run["load at end"] = f"{os.getloadavg()[0]:.2f}"
    run |= {f"speed of {row['trace']}, {row['part']}, {row['blocks']} blocks": goals.rounded(row["speed"]) for row in rows if "trace" in row}
    shown = report.results(options.results, "picker", run, judged, records)
    table, words = picker_goals.table_of_goals(judged)
    report.into_page(options.page, f"Run: {shown}.\n\n{table}\n\n{picker_goals.case_tables(records)}",
                     picker_goals.BEGIN, picker_goals.END)
    print(words)


if __name__ == "__main__":
    main()
