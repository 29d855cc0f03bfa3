"""Names of the default policy, what goes before them, and how they are listed."""

import pytest

from helpers.configs import three_sims, user
from helpers.web import web


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim(["sim-small", "sim-large", "sim-creative"])


def policy(gate, name):
    """The policy behind a name; `None` where a model answered; the status where nobody did."""
    answer = gate.chat({"model": name, "messages": user("hi")})
    return answer.headers.get("x-waypost-policy") if answer.status_code == 200 else answer.status_code


def listed(gate):
    return {one["id"]: one for one in web.get(f"{gate.url}/v1/models").json()["data"]}


def test_by_default_three_names_stand_for_the_default_policy(waypost, engine):
    gate = waypost(three_sims(engine.url) | {"default_policy": "complexity_router"})
    assert {policy(gate, name) for name in ("auto", "MoM", "vllm-sr/auto")} == {"complexity_router"}
    assert policy(gate, "mom") == 404
    models = listed(gate)
    assert list(models)[:3] == ["auto", "task_router", "complexity_router"] and "MoM" not in models
    routing = {"resolution": "virtual", "selectable": True}
    assert models["auto"]["routing"] == routing | {"default_route": True, "recipe": "complexity_router"}
    assert models["task_router"]["routing"] == routing | {"default_route": False, "recipe": "task_router"}
    assert "routing" not in models["sim-small"]


def test_the_list_can_be_another_one_or_none(waypost, engine):
    gate = waypost(three_sims(engine.url) | {"auto_names": ["router", "best"]})
    assert [policy(gate, name) for name in ("router", "best", "auto", "MoM")] == ["task_router", "task_router", 404, 404]
    assert list(listed(gate))[0] == "router" and "auto" not in listed(gate)
    assert '"model": "router"' in gate.log()
    gate.write_config(three_sims(engine.url) | {"auto_names": []})
    gate.wait_log("configuration applied")
    assert [policy(gate, name) for name in ("auto", "MoM", "task_router")] == [404, 404, "task_router"]
    assert list(listed(gate))[0] == "task_router"


def test_what_the_file_calls_so_goes_first(waypost, engine):
    config = three_sims(engine.url, MoM={"endpoint": engine.url, "model": "sim-small"})
    config["policies"][1]["name"] = "auto"
    gate = waypost(config)
    assert [policy(gate, name) for name in ("auto", "MoM", "vllm-sr/auto")] == ["auto", None, "task_router"]
    assert list(listed(gate))[:3] == ["vllm-sr/auto", "task_router", "auto"]


def test_the_headers_of_vllm_semantic_router_stand_here_too(waypost, engine):
    gate = waypost(three_sims(engine.url))
    body = {"model": "auto", "messages": user("Write a python function that reverses a list")}
    plain, more = gate.chat(body), gate.chat(body, {"x-vsr-debug": "true"})
    told = {"recipe": "task_router", "decision": "Code Generation", "category": "Code Generation", "model": "sim-large"}
    assert {name: plain.headers[f"x-vsr-selected-{name}"] for name in told} == told
    assert plain.headers["x-vsr-schema-version"] == "2" and plain.headers["x-vsr-response-path"] == "upstream"
    assert more.headers["x-vsr-matched-classifier"] == "Code Generation"
    assert "x-vsr-matched-classifier" not in plain.headers
    explicit = gate.chat({"model": "sim-small", "messages": user("hi")})
    assert explicit.headers["x-vsr-selected-model"] == "sim-small" and "x-vsr-selected-recipe" not in explicit.headers
