"""Waypost before a real Dynamo frontend and its mock workers: the worker that Waypost picks serves, and both know the same of its cache.

Runs only with `WAYPOST_ENGINES`, see scripts/test-engines.sh. Dynamo's parts find each other by files, where the instances and
the addresses of their event plane are read from. Requests go one by one, each when the events of the one before it are in.
"""

import collections
import json
import os
import subprocess
import time
import urllib.request

import pytest

pytest.importorskip("zmq")
from engines.gateway import Gateway  # noqa: E402
from engines.kit import ENGINES, HOST  # noqa: E402
from engines.traffic import conversations  # noqa: E402
from helpers.ports import free_ports  # noqa: E402

pytestmark = pytest.mark.skipif(not ENGINES, reason="WAYPOST_ENGINES is not set")

BLOCK = 16
WORKERS, RANKS = 2, 2
PROMPTS = 200
TEMPERATURE = 1.0
START_S = 120.0
EVENTS_S = 0.1
CHAT = "/v1/chat/completions"
ASKED = {"model": "tiny", "max_tokens": 8, "nvext": {"extra_fields": ["worker_id", "timing"]}}


class Dynamo:
    """A frontend and a process of mock workers. `ranks` is `{(instance, rank): address of its events}`."""

    def __init__(self, folder):
        self._files, self._processes, [port] = folder / "kv", [], free_ports(1)
        self.url = f"http://{HOST}:{port}"
        mocker = ["--model-path", f"{ENGINES}/model", "--model-name", "tiny", "--num-workers", str(WORKERS)]
        mocker += ["--data-parallel-size", str(RANKS), "--block-size", str(BLOCK), "--num-gpu-blocks-override", "512"]
        mocker += ["--max-model-len", "4096", "--speedup-ratio", "10"]
        self._run(folder, "frontend", "--http-host", HOST, "--http-port", str(port), "--router-mode", "kv")
        self._run(folder, "mocker", *mocker)
        try:
            self.ranks = self._wait()
        except BaseException:
            self.stop()
            raise

    def _run(self, folder, name, *args):
        env = {
            "DYN_DISCOVERY_BACKEND": "file", "DYN_FILE_KV": str(self._files), "DYN_EVENT_PLANE": "zmq",
            "DYN_REQUEST_PLANE": "tcp", "DYN_TCP_RPC_HOST": HOST, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
        }  # fmt: skip
        with open(folder / f"{name}.log", "wb") as log:
            command = [f"{ENGINES}/dynamo/bin/python", "-m", f"dynamo.{name}", *args]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **env}))

    def _wait(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            ranks = self._ranks()
            if len(ranks) == WORKERS * RANKS and self._serves():
                return ranks
            time.sleep(0.5)
        raise RuntimeError(f"Dynamo did not start within {START_S} s: {self._files.parent}")

    def _serves(self):
        try:
            with urllib.request.urlopen(self.url + "/v1/models", timeout=5) as answer:
                return any(one["id"] == "tiny" for one in json.load(answer)["data"])
        except OSError:
            return False

    def _ranks(self):
        read = lambda kind: [json.loads(p.read_text() or "{}") for p in self._files.glob(f"v1/{kind}/*kv%2Devents*")]
        address = {one["instance_id"]: one["transport"]["config"]["endpoint"] for one in read("event_channels") if one}
        sources = [one["metadata"] for one in read("event_sources") if one]
        return {
            (one["worker"]["worker_id"], one["worker"]["dp_rank"]): address[one["publisher_id"]]
            for one in sources
            if one["publisher_id"] in address
        }

    def stop(self):
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def dynamo(tmp_path):
    made = Dynamo(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def gateway(dynamo, tmp_path):
    made = []

    def make(strategy, **more):
        endpoints = [
            {"url": dynamo.url, "instance": instance, "rank": rank, "kv_events": address}
            for (instance, rank), address in dynamo.ranks.items()
        ]
        pick = {"strategy": strategy, "dynamo": True, "prefixes": "dynamo", "block_size": BLOCK, **more}
        pick["tokenizer"] = f"{ENGINES}/model"
        made.append(Gateway({"models": [{"name": "tiny", "endpoints": endpoints, "pick": pick}]}, tmp_path))
        return made[0]

    yield make
    for one in made:
        one.stop()


def name(dynamo, answer):
    """The endpoint that served, as Waypost calls it."""
    served = answer["nvext"]["worker_id"]
    return f"{dynamo.url}@{served['decode_worker_id']}#{served['decode_dp_rank']}"


# With a temperature, prompts also go where less of them is cached.
@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE])
def test_both_know_the_same_of_each_cache(dynamo, gateway, temperature):
    gateway, served, hits, different = gateway("kv", kv={"temperature": temperature}), collections.Counter(), 0, []
    for number, chat in enumerate(conversations(PROMPTS, seed=f"{temperature}")):
        answer, decision = gateway.send(CHAT, {**ASKED, "messages": chat})
        (placement,) = decision["placements"]
        usage, prompt = answer["usage"], answer["usage"]["prompt_tokens"]
        matched = next(one["matched_tokens"] for one in placement["choice"]["candidates"] if one["chosen"])
        cached, rate = usage["prompt_tokens_details"]["cached_tokens"], answer["nvext"]["timing"]["kv_hit_rate"]
        assert placement["endpoint"] == name(dynamo, answer)
        assert placement["reading"] == "exact" and placement["choice"]["prompt_tokens"] == prompt
        if matched != cached or abs(rate - matched / BLOCK / -(-prompt // BLOCK)) > 1e-3:
            different.append((number, prompt, matched, cached, rate))
        served[placement["endpoint"]] += 1
        hits += matched > 0
        time.sleep(EVENTS_S)
    print(f"{PROMPTS} prompts, {hits} found something cached; served by {sorted(served.values())}; different: {different}")
    assert not different
    assert hits > PROMPTS / 2
    if temperature:
        assert len(served) == WORKERS * RANKS
        assert set(gateway.states("tiny", "kv_state").values()) == {"live"}


@pytest.mark.parametrize("client", ["alone", "pins another itself"])
def test_the_choice_of_waypost_is_obeyed(dynamo, gateway, client):
    # Each prompt is the same: left to itself, Dynamo would stay with the worker that has it.
    gateway, served = gateway("round-robin"), []
    body = {**ASKED, "messages": [{"role": "user", "content": f"{client}: " + "which worker serves this? " * 20}]}
    headers = {}
    if client != "alone":
        instance, rank = next(iter(dynamo.ranks))
        body["nvext"] = {**ASKED["nvext"], "backend_instance_id": instance, "dp_rank": rank}
        headers = {"x-dynamo-worker-instance-id": str(instance), "x-dynamo-dp-rank": str(rank)}
    for _ in range(2 * WORKERS * RANKS):
        answer, decision = gateway.send(CHAT, body, headers)
        assert decision["endpoint"] == name(dynamo, answer)
        served.append(name(dynamo, answer))
        time.sleep(EVENTS_S)
    assert set(collections.Counter(served).values()) == {2} and len(set(served)) == WORKERS * RANKS
