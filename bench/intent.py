"""What asking a small model for the intent costs beside that model's own time: `waypost serve` before a simulated one.

The simulated router answers at once, so everything measured is Waypost's own, the HTTP round trip on loopback included or
not. No text is asked twice, so the answer cache never helps. Writes bench/results/intent.json and the table in
docs/benchmarks.md. Called by `make bench-intent`.

  bench/intent.py [--bin target/release/waypost] [--results FILE] [--page FILE]
"""

import argparse
import http.client
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

from report import table

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- intent:begin (written by make bench-intent) -->", "<!-- intent:end -->"
SIM_PORT, PORT = 9310, 9312
WARM, COUNT = 100, 1000
GOAL_MS = 1.0
LENGTHS = {"50 characters": 50, "5,000 characters": 5000}
CONFIG = f"""
listen: 127.0.0.1:{PORT}
log: {{decisions: false}}
models: [{{name: router, model: sim-router, endpoint: "http://127.0.0.1:{SIM_PORT}"}}]
policies:
  - name: intent
    classifier:
      intent:
        model: router
        routes: [{{name: code, description: "Programs and scripts."}}, {{name: chat, description: "Small talk."}}]
    routes: {{code: router, chat: router, other: router}}
    default: router
"""


def ask(connection, path, body=None):
    connection.request("POST" if body else "GET", path, body and json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {text[:200]!r}")
    return json.loads(text)


def ready(port):
    for _ in range(400):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(length):
    """Milliseconds beyond the model's own answer, and with the round trip to it."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    own, whole = [], []
    for i in range(WARM + COUNT):
        text = f"{i} please write a program ".ljust(length, "x")
        d = ask(connection, "/v1/decision", {"model": "intent", "messages": [{"role": "user", "content": text}]})
        asked = d["intent"]
        if d.get("classifier_error") or asked.get("cached"):
            raise RuntimeError(f"not asked: {d}")
        if i >= WARM:
            whole.append(d["classify_ms"])
            own.append(d["classify_ms"] - sum(attempt["ms"] for attempt in asked["tries"]))
    return own, whole


def run(binary):
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "waypost.yaml"
        config.write_text(CONFIG)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        sim = ["sim", "--listen", f"127.0.0.1:{SIM_PORT}", "--model", "sim-router", "--prefill-ms", "0", "--decode-ms", "0"]
        processes = [subprocess.Popen([binary, *sim], **quiet)]
        try:
            ready(SIM_PORT)
            processes.append(subprocess.Popen([binary, "serve", "--config", str(config)], **quiet))
            ready(PORT)
            return {name: measure(length) for name, length in LENGTHS.items()}
        finally:
            for process in processes:
                process.terminate()
                process.wait(10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default=str(ROOT / "target/release/waypost"))
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results/intent.json")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    options = parser.parse_args()
    cases, lines = [], []
    for name, (own, whole) in run(options.bin).items():
        case = {
            "prompt": name, "n": len(own),
            "beside_the_model_p50_ms": round(statistics.median(own), 4), "beside_the_model_p99_ms": round(percentile(own, 0.99), 4),
            "with_round_trip_p50_ms": round(statistics.median(whole), 4), "with_round_trip_p99_ms": round(percentile(whole, 0.99), 4),
        }  # fmt: skip
        case["holds"] = case["with_round_trip_p50_ms"] <= GOAL_MS
        cases.append(case)
        holds = "yes" if case["holds"] else "**no**"
        lines.append([name, *(f"{case[key]:.3f} ms" for key in list(case)[2:6]), f"<= {GOAL_MS:g} ms", holds])
    options.results.write_text(json.dumps({"goal_ms": GOAL_MS, "cases": cases}, indent=1) + "\n")
    heading = ["prompt", "own p50", "own p99", "with the round trip p50", "p99", "goal, p50", "holds"]
    text = table(heading, lines)
    page = options.page.read_text()
    before, rest = page.split(BEGIN)
    options.page.write_text(before + BEGIN + "\n\n" + text + "\n\n" + END + rest.split(END)[1])
    print(text)


if __name__ == "__main__":
    main()
