"""Waypost as a KServe v2 server: an existing v1 controller can use it in place of Triton."""

import json

import pytest

from helpers.configs import COMPLEXITY_LABELS, SOURCE_PROMPTS, TASK_LABELS, user, v1_policy
from helpers.process import run
from helpers.web import web

MODELS = {"task_router_ensemble": TASK_LABELS, "complexity_router_ensemble": COMPLEXITY_LABELS}


@pytest.fixture(scope="module")
def server(shared):
    models = [{"name": "m", "endpoint": shared.dead_port().url}]
    # On a busy machine the encoder may be late for its deadline, and tier 0 alone is right less often.
    return shared.waypost({"models": models, "encoder": {"threads": 1, "deadline": "30s"}})


def infer(server, text, model="task_router_ensemble", **more):
    """Exactly what v1's controller sends, and more when asked."""
    tensor = {"name": "INPUT", "datatype": "BYTES", "shape": [1, 1], "data": [[text]]}
    return web.post(f"{server.url}/v2/models/{model}/infer", json={"inputs": [tensor], **more})


@pytest.mark.parametrize("model", MODELS)
def test_the_answer_has_everything_v1s_parser_requires(server, model):
    answer = infer(server, "Write a poem", model)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["model_name"], found["model_version"]) == (model, "1")
    assert found["parameters"] == {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
    [output] = found["outputs"]
    classes = len(MODELS[model])
    assert (output["name"], output["datatype"], output["shape"]) == ("OUTPUT", "FP32", [classes])
    assert sorted(output["data"]) == [0.0] * (classes - 1) + [1.0], "one-hot, a flat list of numbers"


@pytest.mark.parametrize("prompt, label", SOURCE_PROMPTS, ids=[label for _, label in SOURCE_PROMPTS])
def test_the_hot_one_is_the_label(server, prompt, label):
    data = infer(server, prompt).json()["outputs"][0]["data"]
    assert TASK_LABELS[data.index(1.0)] == label


def test_probabilities_on_request(server):
    prompt = SOURCE_PROMPTS[0][0]
    [output] = infer(server, prompt, outputs=[{"name": "PROBABILITIES"}]).json()["outputs"]
    assert (output["name"], output["shape"]) == ("PROBABILITIES", [12])
    assert sum(output["data"]) == pytest.approx(1, abs=1e-4)
    told = json.loads(run("classify", "--classifier", "task", "--json", prompt).stdout)["task"]["probabilities"]
    assert output["data"] == pytest.approx([told[label] for label in TASK_LABELS], abs=1e-4)

    both = infer(server, prompt, outputs=[{"name": "OUTPUT"}, {"name": "PROBABILITIES"}]).json()["outputs"]
    assert {o["name"]: len(o["data"]) for o in both} == {"OUTPUT": 12, "PROBABILITIES": 12}
    hot, soft = (next(o["data"] for o in both if o["name"] == n) for n in ("OUTPUT", "PROBABILITIES"))
    assert hot.index(1.0) == soft.index(max(soft))


def test_several_texts_in_one_request(server):
    texts = [prompt for prompt, _ in SOURCE_PROMPTS]
    tensor = {"name": "INPUT", "datatype": "BYTES", "shape": [3, 1], "data": [[t] for t in texts]}
    body = {"id": "batch-1", "inputs": [tensor]}
    found = web.post(f"{server.url}/v2/models/task_router_ensemble/infer", json=body).json()
    assert found["id"] == "batch-1"
    [output] = found["outputs"]
    assert output["shape"] == [3, 12]
    rows = [output["data"][i * 12 : i * 12 + 12] for i in range(3)]
    assert [TASK_LABELS[row.index(1.0)] for row in rows] == [label for _, label in SOURCE_PROMPTS]


@pytest.mark.parametrize(
    "text", ["", 'héllo 😀\n"quoted"', "x" * 200_000, "\x00\x01"], ids=["empty", "odd", "long", "nul"]
)
def test_any_text_is_classified(server, text):
    assert sum(infer(server, text).json()["outputs"][0]["data"]) == 1.0


@pytest.mark.parametrize("model", MODELS)
def test_metadata_and_readiness(server, model):
    base = f"{server.url}/v2/models/{model}"
    metadata = web.get(base).json()
    assert metadata["name"] == model and metadata["versions"] == ["1"]
    assert metadata["inputs"][0]["name"] == "INPUT" and metadata["inputs"][0]["datatype"] == "BYTES"
    outputs = {output["name"]: output for output in metadata["outputs"]}
    assert outputs["OUTPUT"]["datatype"] == "FP32" and outputs["OUTPUT"]["shape"] == [len(MODELS[model])]
    assert metadata["parameters"]["labels"] == MODELS[model]
    assert web.get(f"{base}/ready").status_code == 200
    assert web.get(f"{base}/versions/1/ready").status_code == 200
    versioned = web.post(
        f"{base}/versions/1/infer",
        json={"inputs": [{"name": "INPUT", "datatype": "BYTES", "shape": [1, 1], "data": [["x"]]}]},
    )
    assert versioned.json()["model_name"] == model


def test_the_servers_own_health(server):
    assert web.get(f"{server.url}/v2/health/live").status_code == 200
    assert web.get(f"{server.url}/v2/health/ready").status_code == 200
    assert web.get(f"{server.url}/v2").json()["name"] == "waypost"


@pytest.mark.parametrize(
    "path, body, status",
    [
        ("/v2/models/other_ensemble/infer", {"inputs": []}, 404),
        ("/v2/models/other_ensemble", None, 404),
        ("/v2/models/other_ensemble/ready", None, 404),
        ("/v2/nothing", None, 404),
        ("/v2/models/task_router_ensemble/infer", "not json", 400),
        ("/v2/models/task_router_ensemble/infer", {}, 400),
        ("/v2/models/task_router_ensemble/infer", {"inputs": []}, 400),
        (
            "/v2/models/task_router_ensemble/infer",
            {"inputs": [{"name": "INPUT", "datatype": "FP32", "data": [1]}]},
            400,
        ),
        (
            "/v2/models/task_router_ensemble/infer",
            {"inputs": [{"name": "INPUT", "datatype": "BYTES", "data": [1]}]},
            400,
        ),
        (
            "/v2/models/task_router_ensemble/infer",
            {"inputs": [{"name": "INPUT", "datatype": "BYTES", "data": [["x"]]}], "outputs": [{"name": "LOGITS"}]},
            400,
        ),
    ],
)
def test_errors_have_kserves_form(server, path, body, status):
    if body is None:
        answer = web.get(server.url + path)
    else:
        answer = web.post(server.url + path, content=body if isinstance(body, str) else json.dumps(body))
    assert answer.status_code == status
    assert set(answer.json()) == {"error"} and answer.json()["error"]


def test_one_waypost_asks_another(server, waypost, recorder):
    """The whole circle: v1's configuration, with Waypost in Triton's place."""
    upstream = recorder()
    url = f"{server.url}/v2/models/task_router_ensemble/infer"
    gateway = waypost({"policies": [v1_policy("task_router", url, upstream.url, TASK_LABELS)]})
    for prompt, label in SOURCE_PROMPTS:
        nim = {"policy": "task_router", "routing_strategy": "triton", "model": ""}
        answer = gateway.chat({"model": "", "messages": user(prompt), "nim-llm-router": nim})
        assert answer.headers["x-chosen-classifier"] == label
        assert upstream.last().json()["model"] == f"meta/m{TASK_LABELS.index(label)}"
