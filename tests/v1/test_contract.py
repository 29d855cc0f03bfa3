"""NVIDIA LLM Router v1's wire contract: endpoints, body object and errors, as recorded cases."""

import json
import pathlib

import pytest
import yaml

from helpers import configs
from helpers.configs import TASK_LABELS, user, v1_policy
from helpers.web import web

CASES = pathlib.Path(__file__).parent / "cases"
ENDPOINTS = yaml.safe_load((CASES / "endpoints.yaml").read_text())
ERRORS = yaml.safe_load((CASES / "errors.yaml").read_text())


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def classifier(shared):
    return shared.kserve()


@pytest.fixture(scope="module")
def gateway(shared, upstream, classifier):
    dead = shared.dead_port().url
    return shared.waypost(
        {
            "policies": [
                v1_policy("task_router", classifier.infer_url, upstream.url, TASK_LABELS),
                v1_policy("two_labels", classifier.infer_url, upstream.url, ["yes", "no"]),
                v1_policy("no_classifier", f"{dead}/v2/models/x/infer", upstream.url, ["yes", "no"]),
                v1_policy("no_upstream", classifier.infer_url, dead, TASK_LABELS),
            ]
        }
    )


@pytest.fixture(autouse=True)
def fresh(upstream, classifier):
    upstream.clear()
    classifier.clear()
    classifier.one_hot(0)


def ask(gateway, nim, model="", **more):
    body = {"model": model, "messages": user("hello"), "nim-llm-router": nim, **more}
    return gateway.chat(body)


@pytest.mark.parametrize(
    "case, method",
    [(case, method) for case in ENDPOINTS for method in case["methods"]],
    ids=lambda x: x["path"] if isinstance(x, dict) else x,
)
def test_endpoints(gateway, case, method):
    answer = web.request(method, gateway.url + case["path"])
    assert answer.status_code == case["status"]
    if "json" in case:
        assert answer.json() == case["json"]
    assert case.get("contains", "") in answer.text
    assert answer.headers["content-type"].startswith(case.get("type", "application/json"))


@pytest.mark.parametrize("case", ERRORS, ids=[case["name"] for case in ERRORS])
def test_errors(gateway, upstream, classifier, case):
    setting = case.get("classifier", {})
    if "index" in setting:
        classifier.one_hot(setting["index"])
    elif setting:
        classifier.reply(setting["status"], body=setting["text"].encode())
    body = {"model": "", "messages": user("hello")}
    if "nim" in case:
        body["nim-llm-router"] = case["nim"]
    answer = gateway.chat(case.get("body", json.dumps(body)))

    expect = {name: configs.V1_MISSING if value == "V1_MISSING" else value for name, value in case["expect"].items()}
    statuses = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "status"}
    assert error["status"] == answer.status_code
    assert error["message"] == expect.get("message", error["message"])
    assert error["message"].startswith(expect.get("starts", ""))
    assert expect.get("contains", "") in error["message"]
    assert error["code"] == expect.get("code", error["code"])
    assert error["type"] == expect.get("type", error["type"])
    assert "x-chosen-classifier" not in answer.headers, "only answers of a model carry it"
    assert upstream.requests == [], "nothing was forwarded"
    decision = gateway.decision(answer)
    assert (decision["status"], decision["outcome"]) == (answer.status_code, "refused")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/completions"])
@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE", "PATCH"])
def test_any_method_is_forwarded_as_post(gateway, upstream, path, method):
    nim = {"policy": "task_router", "routing_strategy": "triton"}
    body = {"model": "", "messages": user("hello"), "nim-llm-router": nim}
    answer = web.request(method, gateway.url + path, json=body)
    assert answer.status_code == 200, answer.text
    assert (upstream.last().method, upstream.last().path) == ("POST", path)


@pytest.mark.parametrize("index", range(12), ids=TASK_LABELS)
def test_the_classifiers_index_chooses_the_model(gateway, upstream, classifier, index):
    classifier.one_hot(index)
    answer = ask(gateway, {"policy": "task_router", "routing_strategy": "triton", "model": ""})
    assert answer.status_code == 200
    assert answer.headers["x-chosen-classifier"] == TASK_LABELS[index]
    assert upstream.last().json()["model"] == f"meta/m{index}"


@pytest.mark.parametrize("index", range(12), ids=TASK_LABELS)
def test_manual_by_label_name_asks_no_classifier(gateway, upstream, classifier, index):
    answer = ask(gateway, {"policy": "task_router", "routing_strategy": "manual", "model": TASK_LABELS[index]})
    assert answer.headers["x-chosen-classifier"] == TASK_LABELS[index]
    assert upstream.last().json()["model"] == f"meta/m{index}"
    assert classifier.requests == []


def test_manual_by_model_id(gateway, upstream):
    answer = ask(gateway, {"policy": "task_router", "routing_strategy": "manual", "model": "meta/m4"})
    assert answer.status_code == 200
    assert upstream.last().json()["model"] == "meta/m4"
    assert answer.headers["x-chosen-classifier"]


@pytest.mark.parametrize("policy", [" task_router", "task_router\t", " \n task_router  "])
def test_the_policy_is_trimmed(gateway, policy):
    answer = ask(gateway, {"policy": policy, "routing_strategy": "triton"})
    assert answer.status_code == 200
    assert answer.headers["x-waypost-policy"] == "task_router"


def test_the_policys_own_name_is_trimmed_too(waypost, recorder, kserve):
    policy = v1_policy("  padded ", kserve().infer_url, recorder().url, ["only"])
    gateway = waypost({"policies": [policy]})
    assert ask(gateway, {"policy": "padded", "routing_strategy": "triton"}).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"model": ""},
        {"model": None},
        {"model": "ignored for triton"},
        {"threshold": 0.2},
        {"threshold": None},
        {"threshold": 1},
        {"something": {"else": [1, 2]}},
    ],
    ids=str,
)
def test_fields_that_do_not_matter(gateway, more):
    answer = ask(gateway, {"policy": "task_router", "routing_strategy": "triton", **more})
    assert answer.status_code == 200


@pytest.mark.parametrize("model", ["", "gpt-4o", "two_labels", "auto", None])
def test_the_requests_own_model_is_ignored_and_overwritten(gateway, upstream, classifier, model):
    classifier.one_hot(3)
    answer = ask(gateway, {"policy": "task_router", "routing_strategy": "triton"}, model=model)
    assert answer.status_code == 200
    assert upstream.last().json()["model"] == "meta/m3"


def test_config_shows_v1s_shape_without_keys(gateway, classifier, upstream):
    shown = web.get(f"{gateway.url}/config").json()
    policy = shown["policies"][0]
    assert (policy["name"], policy["url"]) == ("task_router", classifier.infer_url)
    first = {"name": "Brainstorming", "api_base": upstream.url, "api_key": "[REDACTED]", "model": "meta/m0"}
    assert policy["llms"][0] == first
    assert [llm["name"] for llm in policy["llms"]] == TASK_LABELS
    assert "sk-upstream" not in json.dumps(shown)
