"""What a request through Waypost costs, beside its peers, in one interleaved run (run.sh sets the peers up).

Runs every case with every gateway in turn, three times over, through the shared bench.py; adds first byte,
idle memory and cold start; judges the goals; writes bench/results and the tables of docs/benchmarks.md.
It leaves no process behind. `--results` and `--page` elsewhere keep a trial run out of the repo.
"""

import argparse
import datetime
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
import urllib.request

import first_byte
import goals
import report
from procs import Peers, Waypost, status, wait_ready

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRATCH = os.environ.get("P", os.path.expanduser("~/.cache/bench-peers"))
PORT = 9300
POLICY = "auto_bench"
CLASSIFIED = "waypost_classifications_total{"
COLD_STARTS = 10
FIRST_BYTE_REQUESTS = 300
# The control stalls 40 ms each time.
CONTROL_REQUESTS = 30
IDLE_S = 2.0

# Peers a run can do without, and what shows that setup.sh got them.
OPTIONAL = {"nginx": "deb/root/usr/sbin/nginx", "sgl": "venv-sgl/bin/smg"}
ON = "waypost+classifier"

# name: body, connections, seconds, pinned to one core?, who runs it
CASES = {
    "c1": ("body.json", 1, 2, 0, ("direct", "floor-pass", "envoy", "vllm", "waypost")),
    "c32": ("body.json", 32, 4, 0, ("floor-peek", "envoy", "vllm", "waypost")),
    "sse32": ("body-stream.json", 32, 3, 0, ("floor-pass", "envoy", "vllm", "waypost")),
    "core": ("body.json", 32, 4, 1, ("nginx", "floor-peek", "envoy", "vllm", "sgl", "waypost", ON)),
    "big8": ("body-220k.json", 8, 3, 0, ("floor-peek", "envoy", "vllm", "waypost", ON)),
}


def shared_bench():
    """The shared bench.py as a module. It reads its settings from the environment when loaded."""
    # One try per row and a short wait for silence: the whole run has to stay below eight minutes.
    for name, value in (("P", SCRATCH), ("TRIES", "1"), ("QUIET_S", "2"), ("DUT_PORT", str(PORT))):
        os.environ.setdefault(name, value)
    spec = importlib.util.spec_from_file_location("bench_peers", f"{SCRATCH}/scripts/bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PORT.update({"waypost": PORT, ON: PORT})
    module.bodies()
    return module


def body(name):
    with open(f"{SCRATCH}/scripts/{name}", "rb") as file:
        return file.read()


def name_policy(source):
    """Writes the same body with the policy as its model, which switches the classifier on; returns its name."""
    changed = body(source).replace(b'"mock-model"', b'"%s"' % POLICY.encode(), 1)
    with open(f"{SCRATCH}/scripts/auto-{source}", "wb") as file:
        file.write(changed)
    return f"auto-{source}"


def classifications():
    """How many prompts Waypost has classified so far, by its own count."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(CLASSIFIED))


def cold_starts(waypost):
    """To /health 200, and to the first classified answer, so that nothing is gained by loading late."""
    ask = body(name_policy("body.json"))
    for rep in range(COLD_STARTS):
        begin = time.perf_counter()
        sample = {"peer": "waypost", "case": "cold start", "rep": rep, "ms": waypost.start()}
        if status(PORT, "POST", "/v1/chat/completions", ask) == 200:
            sample["first_answer_ms"] = (time.perf_counter() - begin) * 1e3
        sample["classified"] = min(classifications(), 1.0)
        waypost.stop(force=True)
        yield sample


def idle(bench, names):
    """RSS before any load; Waypost's after its first classified request, so that its model is in memory."""
    for name in names:
        sample = {"peer": name, "case": "idle", "rep": 0, "rss_mib": bench.mem(bench.tree(name))[0]}
        if name == "waypost":
            sample["classified"] = min(classifications(), 1.0)
        yield sample


def load(bench, present, rep):
    """One sample of each case and gateway."""
    for case, (source, connections, seconds, pinned, names) in CASES.items():
        names = [name for name in names if name in present]
        # Another gateway goes first each time, so that none always follows the heaviest.
        for name in names[rep % len(names):] + names[:rep % len(names)]:
            ours = name in ("waypost", ON)
            sent = name_policy(source) if name == ON else source
            before = classifications() if ours else 0
            sample = bench.calm(name, (case, sent, connections, seconds, pinned))
            if ours and sample.get("n"):
                sample["classified"] = (classifications() - before) / sample["n"]
            if "rss1" in sample:
                sample["rss_after_mib"] = sample.pop("rss1")
            yield {**sample, "rep": rep}


def first_bytes(bench, present, rep):
    """First byte of a stream, both quick-ack modes. sgl stalls by 40 ms: it shows that a stall would be seen."""
    groups = [(("floor-pass", "envoy", "vllm", "waypost"), FIRST_BYTE_REQUESTS)]
    if "sgl" in present:
        groups.append((("sgl",), CONTROL_REQUESTS))
    for names, requests in groups:
        ports = {name: bench.PORT[name] for name in names}
        measured = first_byte.measure(ports, body("body-stream.json"), requests)
        for (name, quickack), times in measured.items():
            yield {
                "peer": name, "case": f"first byte, {goals.ON if quickack else goals.OFF}", "rep": rep,
                "first_byte_ms": sorted(times)[len(times) // 2],
                "stalled_percent": 100 * first_byte.stalled_share(times),
            }


def measure(binary, repeats):
    """All samples of a run. Whatever happens, what was started is stopped."""
    bench = shared_bench()
    present = ["floor-pass", "floor-peek", "envoy", "vllm"]
    present += [name for name, file in OPTIONAL.items() if os.path.exists(f"{SCRATCH}/{file}")]
    peers = Peers(SCRATCH, {"mock": bench.PORT["direct"], **{name: bench.PORT[name] for name in present}})
    waypost = Waypost(binary, f"{REPO}/bench/waypost.yaml", PORT, SCRATCH)
    samples = []

    def keep(found):
        for sample in found:
            print(json.dumps(sample), file=sys.stderr, flush=True)
            samples.append(sample)

    try:
        peers.start(body("body.json"))
        keep(cold_starts(waypost))
        waypost.start()
        waypost.book("waypost", ON)
        ask = body(name_policy("body.json"))
        wait_ready("waypost", lambda: status(PORT, "POST", "/v1/chat/completions", ask))
        time.sleep(IDLE_S)
        keep(idle(bench, ["waypost", *present]))
        for rep in range(repeats):
            keep(first_bytes(bench, present, rep))
            keep(load(bench, ["direct", "waypost", ON, *present], rep))
    finally:
        waypost.stop()
        peers.stop()
    return samples


def command(*words):
    """First line a command prints, or "unknown"."""
    try:
        done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, timeout=10)
        return done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def circumstances(binary, samples):
    """What a reader needs to judge the figures."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    others = sorted(s["foreign_cores"] for s in samples if "foreign_cores" in s)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": command("git", "describe", "--always", "--dirty"),
        "waypost": command(binary, "--version"),
        "cpu": f"{model}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "others_cores_median": others[len(others) // 2] if others else None,
        "others_cores_highest": others[-1] if others else None,
    }


def main():
    # `make bench` may be ended by a signal; the peers must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--results", default=f"{REPO}/bench/results")
    options.add_argument("--page", default=f"{REPO}/docs/benchmarks.md")
    options = options.parse_args()
    binary = os.path.abspath(os.environ.get("WAYPOST_BIN", f"{REPO}/target/dist/waypost"))

    samples = measure(binary, options.repeats)
    rows, merged, about = goals.rows(samples), report.summaries(samples), circumstances(binary, samples)
    os.makedirs(options.results, exist_ok=True)
    for name, content in (("gateway", rows), ("gateway-cases", {"run": about, "cases": merged})):
        with open(f"{options.results}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
    run = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items())
    text = f"Run: {run}.\n\n{report.goal_table(rows)}\n\n{report.case_tables(merged, report.FIGURES, 'peer')}"
    print(text)
    report.into_page(options.page, text)


if __name__ == "__main__":
    main()
