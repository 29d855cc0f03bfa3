"""What the built-in classifiers cost, beside encoders run the usual ways, in one interleaved run (classify.sh sets up).

Everything that computes is a process of its own, pinned to one core with one thread; they take turns, round by round.
Then memory; then the goals are judged, and bench/results/classify.json and a section of docs/benchmarks.md written.
It leaves no process behind. `--results` and `--page` elsewhere keep a trial run out of the repo; `--scale` shrinks it.
"""

import argparse
import json
import os
import signal
import sys
from statistics import mean

import classify_goals
import classify_memory
import classify_texts
import goals
from classify_goals import (
    ALL,
    CLASSIFIERS,
    DEBERTA,
    F32,
    INT8,
    LONG,
    MODERNBERT,
    NEAR,
    NOTHING,
    SHORT,
    TIER0,
    TIER1,
    TORCH,
    cascade,
)
from classify_worker import Worker
from gateway import circumstances, command
from tokenizers import Tokenizer

import report

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = f"{REPO}/bench/.cache"
MODELS = f"{CACHE}/minilm"
# The last core runs what is measured; this program and everything else keep to the others.
CORE = os.cpu_count() - 1

OURS = "waypost"
# Name of a peer: what classify_peer.py calls it.
PEERS = {INT8: "ort-int8", F32: "ort-f32", TORCH: "torch-f32", DEBERTA: "deberta", MODERNBERT: "modernbert"}
CASCADES = tuple(map(cascade, (*CLASSIFIERS, "all four")))
# case: its subjects.
CASES = {
    SHORT: (TIER0, TIER1, *PEERS),
    LONG: (TIER0,),
    NEAR: (*CASCADES, TIER1, INT8),
    ALL: (*CASCADES, TIER1, INT8),
}
DISTINCT_SHORT, DISTINCT_LONG = 200, 64
# Tier 0 takes each text so often, for a p99 that means something.
TIER0_TIMES = {SHORT: 20, LONG: 4}
HEAVY, HEAVY_TEXTS = (DEBERTA, MODERNBERT), 12
WARM = 50
MEMORY_REPEATS, MEMORY_TEXTS = 3, 250


def texts(scale):
    """case: its texts, and the number of prompts there are."""
    tokenizer = Tokenizer.from_file(f"{MODELS}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = lambda text: len(tokenizer.encode(text).ids)
    found = classify_texts.prompts(REPO)
    cut = lambda count: max(4, int(count * scale))
    return {
        SHORT: classify_texts.of_length(found, 64, cut(DISTINCT_SHORT), tokens),
        LONG: classify_texts.of_length(found, 8192, cut(DISTINCT_LONG), tokens),
        NEAR: (near := classify_texts.near_64(found, tokens))[: cut(len(near))],
        ALL: found[: cut(len(found))],
    }


def write(chosen, name):
    path = f"{CACHE}/run/{name}.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in chosen)
    return path


def files(chosen):
    """(case, subject): file of texts."""
    found = {}
    for at, (case, subjects) in enumerate(CASES.items()):
        whole = write(chosen[case], f"texts-{at}")
        often = write(chosen[case] * TIER0_TIMES.get(case, 1), f"texts-{at}-often")
        few = write(chosen[case][:HEAVY_TEXTS], f"texts-{at}-few")
        for subject in subjects:
            found[case, subject] = often if subject == TIER0 else few if subject in HEAVY else whole
    return found


def start(worker):
    """name: worker, each on the same core, idle until asked."""
    workers = {OURS: Worker([worker], CORE, f"{CACHE}/run/timed.log")}
    for name, kind in PEERS.items():
        python = [sys.executable, f"{REPO}/bench/classify_peer.py", kind, MODELS]
        workers[name] = Worker(python, CORE, f"{CACHE}/run/{kind}.log")
    for one in workers.values():
        one.ask("idle")
    return workers


def mode(subject):
    return {TIER0: "tier0", TIER1: "tier1", cascade("all four"): "all"}.get(subject, subject.removeprefix("waypost "))


def figures(answer):
    micros = sorted(answer["micros"])
    # The value below which the share lies.
    at = lambda share: micros[min(len(micros) - 1, int(len(micros) * share))]
    sample = {"n": len(micros), "p50_us": at(0.5), "p99_us": at(0.99), "per_s": 1e6 / mean(micros)}
    sample |= {"p50_ms": at(0.5) / 1e3, "p99_ms": at(0.99) / 1e3, "mean_ms": mean(micros) / 1e3}
    return sample | {"foreign_cores": answer["foreign_cores"], "own_cores": answer["own_cores"]}


def round_of(workers, paths, rep):
    """One sample of every case and subject; another subject goes first each time."""
    for case, subjects in CASES.items():
        for subject in subjects[rep % len(subjects):] + subjects[: rep % len(subjects)]:
            peer = subject in PEERS
            worker = workers[subject if peer else OURS]
            warm = 3 if subject in HEAVY else WARM
            answer = worker.time("run" if peer else mode(subject), warm, paths[case, subject])
            sample = {"peer": subject, "case": case, "rep": rep, **figures(answer)}
            if subject in CASCADES:
                sample["escalated_percent"] = 100 * answer["escalated"] / sample["n"]
            if size := answer.get("parameters"):
                sample["parameters_m"] = size / 1e6
            yield sample


def disk():
    """Models as they are shipped; of the shapes there is no file."""
    sizes = {"waypost": [f"{REPO}/models/{name}" for name in os.listdir(f"{REPO}/models")
                         if name.endswith((".safetensors", ".txt"))],
             INT8: [f"{MODELS}/minilm-int8.onnx"], F32: [f"{MODELS}/minilm-f32.onnx"], TORCH: [f"{MODELS}/minilm.safetensors"]}
    for name, found in sizes.items():
        yield {"peer": name, "case": "disk", "rep": 0, "mb": sum(map(os.path.getsize, found)) / 1e6}


def measure(binary, worker, options):
    """All samples of a run. Whatever happens, what was started is stopped."""
    samples = []

    def keep(found):
        for sample in found:
            print(json.dumps(sample), file=sys.stderr, flush=True)
            samples.append(sample)

    chosen = texts(options.scale)
    paths = files(chosen)
    workers = {}
    try:
        workers |= start(worker)
        before = {name: workers[name].memory()["rss_mib"] for name in PEERS}
        for rep in range(options.rounds):
            keep(round_of(workers, paths, rep))
        for name in PEERS:
            after = workers[name].memory()["rss_mib"]
            keep([{"peer": name, "case": NOTHING, "rep": 0, "empty_mib": before[name], "both_mib": after,
                   "rss_added_mib": after - before[name]}])
    finally:
        for one in workers.values():
            one.stop()
    # A gateway counts the cores it may use.
    os.sched_setaffinity(0, set(range(os.cpu_count())))
    keep(sizes := list(disk()))
    keep(classify_memory.samples(binary, CACHE, [worker], chosen[ALL][:MEMORY_TEXTS], paths[ALL, TIER1],
                                 sizes[0]["mb"] * 1e6 / 2**20, MEMORY_REPEATS if options.scale == 1 else 1))
    return samples


def load():
    with open("/proc/loadavg", encoding="utf-8") as file:
        return file.read().split()[0]


def about(binary, samples, load_at_start):
    with open(f"{MODELS}/checked.json", encoding="utf-8") as file:
        checked = json.load(file)
    own = [sample["own_cores"] for sample in samples if "own_cores" in sample]
    run = circumstances(binary, samples)
    return run | {name: goals.rounded(run[name]) for name in ("others_cores_median", "others_cores_highest")} | {
        "models": command("sh", "-c", "cat models/*.safetensors | sha256sum | cut -c1-12"),
        "load at start": load_at_start, "load at end": load(),
        "share of the core had, lowest": round(min(own), 2) if own else None,
        "export of MiniLM: largest difference": f"{checked['f32_max_abs_diff']:.1e}",
        "int8, lowest cosine": round(checked["int8_min_cosine"], 4),
    }


def main():
    # `make bench-classify` may be ended by a signal; the workers must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the texts, for a trial")
    parser.add_argument("--results", default=f"{REPO}/bench/results")
    parser.add_argument("--page", default=f"{REPO}/docs/benchmarks.md")
    options = parser.parse_args()
    binary = os.path.abspath(os.environ.get("WAYPOST_BIN", f"{REPO}/target/release/waypost"))
    worker = os.environ.get("TIMED_BIN", f"{REPO}/target/release/examples/timed")
    os.makedirs(f"{CACHE}/run", exist_ok=True)
    os.makedirs(options.results, exist_ok=True)
    load_at_start = load()
    if CORE:
        os.sched_setaffinity(0, set(range(CORE)))

    samples = measure(binary, worker, options)
    rows, records, run = classify_goals.rows(samples), classify_goals.merged(samples), about(binary, samples, load_at_start)
    shown = report.results(options.results, "classify", run, rows, records)
    text = f"Run: {shown}.\n\n{classify_goals.goal_table(rows)}\n\n{classify_goals.case_tables(records)}"
    print(text)
    report.into_page(options.page, text, classify_goals.BEGIN, classify_goals.END)


if __name__ == "__main__":
    main()
