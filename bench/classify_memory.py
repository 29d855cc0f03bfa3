"""Memory that the classifiers add to the gateway: `waypost serve` without a policy, with tier 0, with both tiers.

Each answers the same prompts from the simulated engine, over connections enough for every thread; then its resident
memory is read. The gateway opens all models at start, policy or not, and so holds their pages: `with_models_mib` adds
their size to the difference. The worker, which opens nothing until asked, is measured beside it. Called by classify.py.
"""

import collections
import concurrent.futures
import http.client
import json
import os
import subprocess
import time

from classify_goals import CLASSIFIERS, DEFAULT, EVERY, GATEWAY, NOTHING
from classify_worker import Worker, cpu_s, memory
from procs import Waypost, status, wait_ready

ENGINE_PORT, PORT = 9302, 9300
CONNECTIONS = 16
SETTLE_S = 2.0
CONFIG = """\
# Written by bench/classify_memory.py.
listen: 127.0.0.1:{port}
models:
  - {{name: sim-small, endpoint: "http://127.0.0.1:{engine}"}}
{policies}encoder: {{threads: {threads}, queue: 64, deadline: 2s}}
log: {{decisions: false}}
"""
POLICY = "  - {{name: by-{name}, classifier: {name}, routes: {{{label}: sim-small}}, default: sim-small}}\n"
LABEL = {"task": "Other", "complexity": "Reasoning", "domain": "law", "safety": "benign"}


def configurations(cores):
    """name: (policies?, threads of the encoder)"""
    half = max(1, cores // 2)
    return {"no policy": (False, half), "tier 0": (True, 0), DEFAULT: (True, half), EVERY: (True, cores)}


def write_config(path, policies, threads):
    text = "".join(POLICY.format(name=name, label=LABEL[name]) for name in CLASSIFIERS)
    text = CONFIG.format(port=PORT, engine=ENGINE_PORT, threads=threads, policies="policies:\n" + text if policies else "")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def send(texts, models):
    """Sends each text to each model name over one connection; counts what answered, by the header's word."""
    tiers = collections.Counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    for text in texts:
        for model in models:
            body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            tiers[answer.getheader("x-waypost-tier") if answer.status == 200 else "failed"] += 1
    connection.close()
    return tiers


def encoder_threads(pid):
    """How many threads of the encoder have worked."""
    worked = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as file:
            if file.read().startswith("encoder-"):
                worked += cpu_s(f"{pid}/task/{thread}") > 0.05
    return worked


def gateway(binary, scratch, name, texts, cores):
    """One sample: the process after it has answered everything."""
    policies, threads = configurations(cores)[name]
    config = f"{scratch}/memory.yaml"
    write_config(config, policies, threads)
    waypost = Waypost(binary, config, PORT, scratch)
    waypost.start()
    try:
        models = [f"by-{classifier}" for classifier in CLASSIFIERS] if policies else ["sim-small"] * len(CLASSIFIERS)
        tiers = collections.Counter()
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            for found in pool.map(lambda at: send(texts[at::CONNECTIONS], models), range(CONNECTIONS)):
                tiers += found
        time.sleep(SETTLE_S)
        sample = {"peer": f"waypost, {name}", "case": GATEWAY, **memory(waypost.process.pid)}
        sample |= {"encoder_threads": encoder_threads(waypost.process.pid), "answered": dict(tiers)}
        expected = threads if policies else 0
        if tiers["failed"] or (tiers["encoder"] > 0, sample["encoder_threads"]) != (expected > 0, expected):
            sample["error"] = f"not what was to be measured: {dict(tiers)}, {sample['encoder_threads']} encoder threads"
        return sample
    finally:
        waypost.stop(force=True)


def from_nothing(command, core, log, texts):
    """One sample: what a process gains that opens the models, uses tier 0, then tier 1."""
    worker = Worker(command, core, log)
    try:
        worker.ask("idle")
        steps = {"empty_mib": worker.memory()["rss_mib"]}
        for name, mode in (("tier0_mib", "tier0"), ("both_mib", "all")):
            worker.ask(mode, 0, texts)
            steps[name] = worker.memory()["rss_mib"]
        return {"peer": "waypost", "case": NOTHING, **steps}
    finally:
        worker.stop()


def samples(binary, scratch, worker, texts, texts_file, models_mib, repeats):
    """All samples, the configurations taking turns; `worker` is the command of timed.rs."""
    cores = os.cpu_count()
    with open(f"{scratch}/run/sim.log", "wb") as log:
        engine = subprocess.Popen(
            [binary, "sim", "--listen", f"127.0.0.1:{ENGINE_PORT}", "--prefill-ms", "0", "--decode-ms", "0"],
            stdout=log, stderr=log)
    try:
        ask = json.dumps({"model": "sim-small", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]})
        wait_ready("sim", lambda: status(ENGINE_PORT, "POST", "/v1/chat/completions", ask))
        for rep in range(repeats):
            names = list(configurations(cores))
            of = {}
            for name in names[rep % len(names):] + names[: rep % len(names)]:
                of[name] = gateway(binary, scratch, name, texts, cores) | {"rep": rep}
            for name, sample in of.items():
                for figure in ("rss", "anon", "file"):
                    sample[f"{figure}_added_mib"] = sample[f"{figure}_mib"] - of["no policy"][f"{figure}_mib"]
                sample["with_models_mib"] = sample["rss_added_mib"] + models_mib
                yield sample
            sample = from_nothing(worker, cores - 1, f"{scratch}/run/timed.log", texts_file) | {"rep": rep}
            yield sample | {"rss_added_mib": sample["both_mib"] - sample["empty_mib"]}
    finally:
        engine.terminate()
        engine.wait()
