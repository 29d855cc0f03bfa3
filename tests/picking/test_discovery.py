"""Endpoints from a file in llm-d's form, which changes under a running gateway."""

import pytest
import yaml

from helpers.process import run
from helpers.wait import until
from helpers.web import web
from picking.kit import Engine, at, complete, config, known, tokens, until_known

RELOADS = "waypost_config_reloads_total"


class Listed:
    """A file with endpoints, replaced by renaming, and a configuration that names it."""

    def __init__(self, folder, *engines):
        self.file = folder / "endpoints.yaml"
        self.write(*engines)

    def write(self, *engines, **roles):
        """These are the endpoints now; a role is given by the engine's place, `role0="prefill"`."""
        entries = []
        for number, engine in enumerate(engines):
            labels = {"model": "sim-a"} | ({"llm-d.ai/role": roles[f"role{number}"]} if f"role{number}" in roles else {})
            entries.append({"name": f"e{engine.port}", "address": "127.0.0.1", "port": str(engine.port), "labels": labels})
        self.text(yaml.safe_dump({"endpoints": entries}))

    def text(self, text):
        """The file says this now."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def config(self, **pick):
        model = {"name": "a", "model": "sim-a", "endpoints_file": str(self.file), "pick": {"strategy": "round-robin", **pick}}
        return {"models": [model]}


def endpoints(gate):
    """What is in the pool, by its metrics."""
    return {labels["endpoint"] for _, labels, _ in gate.metrics().find("waypost_endpoint_requests")}


def until_endpoints(gate, *engines):
    wanted = {engine.url for engine in engines}
    until(lambda: endpoints(gate) == wanted, 5, f"{wanted}; now {endpoints(gate)}\n{gate.log()}")


@pytest.fixture(scope="module")
def engines(shared):
    """Four engines; who is asked for what is what these tests are of."""
    return [shared.keep(Engine(kv=False)) for _ in range(4)]


def where(gate, count=12):
    """Who answered so many requests."""
    return {gate.decision(complete(gate, tokens(20)))["endpoint"] for _ in range(count)}


def test_endpoints_come_and_go_without_a_restart(workshop, engines, tmp_path):
    listed = Listed(tmp_path, *engines[:2])
    gate = workshop.waypost(listed.config())
    assert where(gate) == {engine.url for engine in engines[:2]}
    listed.write(*engines[:3])
    until_endpoints(gate, *engines[:3])
    assert where(gate) == {engine.url for engine in engines[:3]}
    listed.write(*engines[1:])
    until_endpoints(gate, *engines[1:])
    assert where(gate) == {engine.url for engine in engines[1:]}
    assert gate.metrics().value(RELOADS, result="applied") == 2 and gate.metrics().value(RELOADS, result="refused") == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("endpoints:\n  - {name: a, address: localhost, port: 80}\n", "names are not resolved"),
        ("endpoints:\n  - {name: a, address: 10.0.0.1, port: 0}\n", "is no port"),
        ("endpoints:\n  - {name: a, address: 10.0.0.1, port: 80}\n  - {name: a, address: 10.0.0.2, port: 80}\n", "is taken"),
        ("endpoints:\n  - {name: a, address: 10.0.0.1, port: 80, labels: {llm-d.ai/role: cook}}\n", "unknown role `cook`"),
        ("endpoints: [", "endpoints.yaml"),
        ("\x00\x01", "endpoints.yaml"),
        ("endpoints: []\n#" + "x" * (1 << 20), "larger than"),
    ],
    ids=["a name", "no port", "twice", "unknown role", "broken", "binary", "too large"],
)
def test_a_bad_file_is_refused_and_the_old_one_stays(workshop, engines, tmp_path, text, says):
    listed = Listed(tmp_path, *engines[:2])
    gate = workshop.waypost(listed.config())
    listed.text(text)
    gate.wait_log("configuration refused, the old one stays")
    until(lambda: says in gate.log(), what=says + gate.log())
    assert gate.metrics().value(RELOADS, result="refused") == 1
    assert where(gate, 6) == {engine.url for engine in engines[:2]}
    checked = run("check", str(gate.config_path))
    assert checked.returncode != 0 and says in checked.stderr, checked.stderr
    listed.write(engines[2])
    until_endpoints(gate, engines[2])


def test_an_empty_file_is_an_empty_pool_and_a_filled_one_serves_again(workshop, engines, tmp_path):
    listed = Listed(tmp_path, *engines[:2])
    gate = workshop.waypost(listed.config())
    listed.text("endpoints: []\n")
    until(lambda: endpoints(gate) == set(), what="an empty pool")
    answer = gate.chat({"model": "a", "prompt": tokens(20)}, path="/v1/completions")
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "no_endpoint"
    listed.write(engines[3])
    until_endpoints(gate, engines[3])
    assert where(gate, 2) == {engines[3].url}


def test_roles_are_those_of_the_labels(workshop, tmp_path):
    roles = ("prefill", "decode", "encode", "prefill-decode")
    engines = [workshop.keep(Engine(kv=False)) for _ in roles]
    listed = Listed(tmp_path, *engines)
    listed.write(*engines, **{f"role{number}": role for number, role in enumerate(roles)})
    gate = workshop.waypost(listed.config())
    assert endpoints(gate) == {engine.url for engine, role in zip(engines, roles, strict=True) if role != "encode"}
    assert where(gate) == {engines[1].url, engines[3].url}, "who only prefills or encodes writes no answers"
    assert engines[0].served() == engines[2].served() == 0


def test_prefill_engines_from_a_file_read_long_prompts(workshop, tmp_path):
    prefill, decode = workshop.keep(Engine(role="prefill", kv=False)), workshop.keep(Engine(role="decode", kv=False))
    listed = Listed(tmp_path, prefill, decode)
    listed.write(prefill, decode, role0="prefill", role1="decode")
    split = {"connector": "nixl", "min_uncached_tokens": 64}
    gate = workshop.waypost(listed.config(strategy="kv", disaggregation=split))
    complete(gate, tokens(20))
    assert (prefill.served(), decode.served()) == (0, 1)
    placed = gate.decision(complete(gate, tokens(320)))["placements"][-1]
    assert placed["prefill"]["endpoint"] == prefill.url and placed["endpoint"] == decode.url, placed
    assert prefill.stats()["handed"]["prefilled"] == 1 and decode.stats()["handed"]["fetched"] == 1


def test_check_shows_the_endpoints_of_the_file(engines, tmp_path):
    listed = Listed(tmp_path, *engines[:2])
    file = tmp_path / "waypost.yaml"
    file.write_text(yaml.safe_dump(listed.config()))
    checked = run("check", str(file))
    assert checked.returncode == 0, checked.stderr
    assert all(engine.url in checked.stdout for engine in engines[:2])
    listed.file.unlink()
    checked = run("check", str(file))
    assert checked.returncode != 0 and "endpoints.yaml" in checked.stderr


def test_what_is_known_of_those_that_stay_stays(workshop, tmp_path):
    engines = [workshop.keep(Engine()) for _ in range(2)]
    added = workshop.keep(Engine(kv=False))
    file = tmp_path / "endpoints.yaml"
    listed = Listed(tmp_path, added)
    listed.text("endpoints: []\n")
    spec = config(engines, predicted="0s")
    spec["models"][0]["endpoints_file"] = str(file)
    gate = workshop.waypost(spec)
    prompt = tokens(96)
    assert web.post(f"{engines[1].url}/v1/completions", json={"model": "sim-a", "prompt": prompt}).status_code == 200
    until_known(gate, prompt, engines[1])
    listed.write(added)
    until_endpoints(gate, *engines, added)
    assert known(gate, prompt, engines[1]) == 6
    assert at(gate, complete(gate, prompt)) in engines[1].url
