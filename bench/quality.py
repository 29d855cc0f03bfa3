"""How well routing by learnt outcomes does, on prompts that were not taught: learns with the real binary, then judges.

Four folders are learnt with `waypost train --outcomes` and judged with `waypost eval --outcomes`, which is pinned to one
core, for it times each decision. Writes bench/results/quality.json, a section of docs/benchmarks.md, and the curve of the
priced pool beside that page. `--results` and `--page` elsewhere keep a trial run out of the repo. Called by quality.sh.
"""

import argparse
import json
import os
import shutil
import subprocess

import quality_data as data
import quality_goals
from gateway import circumstances
from quality_goals import GSM8K, MMLU, NINE, SEVEN, TRANSFER, TRANSFER_GSM8K

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = f"{REPO}/bench/.cache/quality"
CORE = os.cpu_count() - 1
# The picture of the priced pool.
CURVE = "outcomes-curve.svg"


def train(binary, name, rows, *options):
    """Learns a folder; returns it."""
    folder = f"{CACHE}/{name}"
    command = [binary, "train", "--outcomes", data.write(f"{CACHE}/{name}.jsonl", rows), "--out", folder, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def judge(binary, folder, name, rows, *options):
    """What `eval --outcomes` says of a folder, on one core."""
    file = data.write(f"{CACHE}/{name}.jsonl", rows)
    command = [binary, "eval", "--outcomes", folder, "--data", file, "--json", *options]
    pinned = lambda: os.sched_setaffinity(0, {CORE})
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, preexec_fn=pinned)
    return json.loads(done.stdout)


def pair_cases(binary, routellm):
    """Taught other questions of the very benchmarks it is judged on."""
    taught, held, how = routellm
    folder = train(binary, "pair", data.of_pair(taught))
    for name, bench in ((MMLU, "mmlu"), (GSM8K, "gsm8k")):
        rows = data.of_pair(row for row in held if row["bench"] == bench)
        about = f"{len(taught):,} other questions of MMLU and GSM8K, the same two models; judged on {how}"
        yield name, {"taught": about, "said": judge(binary, folder, f"pair-{bench}", rows)}


def transfer_cases(binary, routellm, pro, order):
    """Taught MMLU-Pro's own questions only, other models: nothing of MMLU or GSM8K."""
    taught = [row for row in pro[0] if not row["src"].startswith(data.OF_MMLU)]
    groups = data.stand_ins(taught, order)
    folder = train(binary, "transfer", data.of_stand_ins(taught, order, groups))
    everything = [*routellm[0], *routellm[1]]
    for name, bench in ((TRANSFER, "mmlu"), (TRANSFER_GSM8K, "gsm8k")):
        rows = data.of_pair(row for row in everything if row["bench"] == bench)
        about = (f"{len(taught):,} MMLU-Pro questions without those from MMLU, {len(groups['weak'])} models for the weak one, "
                 f"only the mean of {len(groups['strong'])} for the strong one; judged on all rows")
        yield name, {"taught": about, "said": judge(binary, folder, f"transfer-{bench}", rows)}


def pool_cases(binary, pro, order):
    taught, held, how = pro
    prices = [option for name, (low, high) in data.PRICES.items() for option in ("--price", f"{name}={low}/{high}")]
    for name, pool, priced in ((SEVEN, data.SEVEN, []), (NINE, data.NINE, prices)):
        file = name.replace(" ", "-")
        folder = train(binary, file, data.of_pool(taught, order, pool), *priced)
        about = f"{len(taught):,} other questions of MMLU-Pro, the same models; judged on {how}"
        # The latest picture stays: that of the priced pool.
        said = judge(binary, folder, f"{file}-held", data.of_pool(held, order, pool), "--out", CACHE, *priced)
        yield name, {"taught": about, "said": said}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", default=f"{REPO}/../shared/datasets")
    parser.add_argument("--held-out", help="folder with files of the same names to measure on, and none of them taught")
    parser.add_argument("--fifth", type=int, default=0, choices=range(data.HELD_ONE_IN),
                        help="which fifth of the train rows is held out where no others are")
    parser.add_argument("--results", default=f"{REPO}/bench/results")
    parser.add_argument("--page", default=f"{REPO}/docs/benchmarks.md")
    options = parser.parse_args()
    binary = os.path.abspath(os.environ.get("WAYPOST_BIN", f"{REPO}/target/release/waypost"))
    order = data.models(options.datasets)
    elsewhere = lambda name: data.rows(options.held_out, name) if options.held_out else ()
    routellm, pro = (
        data.split(data.rows(options.datasets, name), elsewhere(name), options.fifth)
        for name in ("outcomes_routellm", "outcomes_mmlu_pro")
    )

    cases = dict(pair_cases(binary, routellm))
    cases |= transfer_cases(binary, routellm, pro, order)
    cases |= pool_cases(binary, pro, order)
    rows = quality_goals.rows(cases)
    run = {key: value for key, value in circumstances(binary, []).items() if value is not None}
    shown = quality_goals.report.results(options.results, "quality", run, rows, cases)
    shutil.copyfile(f"{CACHE}/curve.svg", f"{os.path.dirname(os.path.abspath(options.page))}/{CURVE}")
    text = f"Run: {shown}.\n\n{quality_goals.goal_table(rows)}\n\n{quality_goals.case_table(cases)}"
    print(text)
    quality_goals.report.into_page(options.page, text, quality_goals.BEGIN, quality_goals.END)


if __name__ == "__main__":
    main()
