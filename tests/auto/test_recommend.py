"""Recommending without forwarding: v2's paths, and /v1/decision, with the official SDK where it fits."""

import openai
import pytest

from helpers.configs import considered, user
from helpers.web import web
from auto.kit import PRICES, Embeddings, network, png, with_image

WEIGHTS = [[4.0, -4.0, -4.0, -4.0], [-4.0, 4.0, 4.0, 4.0]]


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def gateway(shared, upstream, tmp_path_factory):
    server = shared.keep(Embeddings())
    file = network(tmp_path_factory.mktemp("n") / "n.safetensors", ["small", "large"], WEIGHTS)
    models = [
        {"name": name, "model": f"up/{name}", "endpoint": upstream.url, "price": price} for name, price in PRICES.items()
    ]
    auto = {"models": ["small", "large"], "network": str(file), "embeddings": "e", "thresholds": {"small": 0.5}}
    return shared.waypost({
        "models": models,
        "embeddings": [{"name": "e", "url": f"{server.url}/v1/embeddings", "model": "clip"}],
        "policies": [
            {"name": "tasks", "classifier": "task", "routes": {"Code Generation": "large"}, "default": "small"},
            {"name": "nn", "classifier": {"auto": auto}, "default": "small"},
        ],
        "default_policy": "nn",
    })


def post(gateway, path, body, **headers):
    return web.post(f"{gateway.url}{path}", json=body, headers=headers)


def test_v2s_answer(gateway, upstream):
    upstream.clear()
    answer = post(gateway, "/sfc_router/chat/completions", {"messages": user("the tax law"), "stream": True})
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "chat.completion" and body["model"] == "nn_objective_fn"
    assert body["id"] == f"chatcmpl-{body['created']}"
    assert body["choices"] == [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "large"}}
    ]
    assert body["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert not upstream.requests, "nothing was forwarded"


def test_v2s_path_through_the_official_sdk(gateway):
    client = openai.OpenAI(base_url=f"{gateway.url}/sfc_router", api_key="x")
    text = client.chat.completions.create(model="whatever", messages=user("a walk by the sea"))
    assert text.choices[0].message.content == "small"
    image = client.chat.completions.create(model="", messages=with_image("a walk by the sea", png()))
    assert image.choices[0].message.content == "large"


def test_the_raw_objectives(gateway):
    model, probabilities = post(gateway, "/nn_objective_fn/chat/completions", {"messages": user("sea")}).json()
    assert model == "small" and set(probabilities) == {"small", "large"}
    assert probabilities["small"] == pytest.approx(0.982, abs=1e-3)
    answer = post(gateway, "/hf_intent_objective_fn/chat/completions", {"messages": user("sea")})
    assert answer.status_code == 404 and "no intent policy" in answer.json()["error"]["message"]


def test_a_policy_may_be_named(gateway):
    code = {"messages": user("Write a python function that sorts a list.")}
    named = post(gateway, "/sfc_router/chat/completions", {"model": "tasks", **code}).json()
    assert (named["choices"][0]["message"]["content"], named["model"]) == ("large", "tasks")
    by_header = post(gateway, "/sfc_router/chat/completions", code, **{"x-waypost-policy": "tasks"}).json()
    assert by_header["model"] == "tasks"


def test_the_whole_decision(gateway, upstream):
    upstream.clear()
    answer = post(gateway, "/v1/decision", {"model": "auto", "messages": user("the tax law")})
    d = answer.json()
    assert (d["model"], d["upstream_model"], d["reason"]) == ("large", "up/large", "highest_probability")
    assert d["fallbacks"] == ["small"] and d["plan"] == considered(("large", "highest_probability"), ("small", "fallback"))
    assert [c["model"] for c in d["candidates"]] == ["small", "large"]
    assert all(c["quality"] and c["cost_usd"] for c in d["candidates"])
    assert answer.headers["x-waypost-model"] == "large"
    kept = gateway.decision(answer)
    assert (kept["outcome"], kept["path"], kept["status"]) == ("recommended", "/v1/decision", 200)
    assert not upstream.requests
    assert gateway.metrics().value("waypost_requests_total", model="large", policy="nn", outcome="recommended") >= 1


def test_a_decision_without_a_model_is_the_default_policys(gateway):
    for body in ({}, {"model": ""}, {"model": None}):
        d = post(gateway, "/v1/decision", {"messages": user("the tax law"), **body}).json()
        assert (d["policy"], d["model"]) == ("nn", "large")


def test_switchyards_form_and_other_apis(gateway):
    chat = {"model": "tasks", "messages": user("Write a python function that sorts a list.")}
    wrapped = post(gateway, "/v1/decision", {"input_format": "openai_chat", "request": chat}).json()
    assert (wrapped["model"], wrapped["label"]) == ("large", "Code Generation")
    text = post(gateway, "/v1/decision", {"model": "tasks", "input": "Write a python function that sorts a list."}).json()
    assert text["model"] == "large"
    refused = post(gateway, "/v1/decision", {"input_format": "anthropic_messages", "request": chat})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "input_format"


@pytest.mark.parametrize("path", ["/sfc_router/chat/completions", "/v1/decision", "/nn_objective_fn/chat/completions"])
@pytest.mark.parametrize(
    "body, status, code",
    [
        (b"{", 400, "invalid_json"),
        (b'{"messages": []}', 400, "missing_required_parameter"),
        (b'{"messages": "hi"}', 400, "invalid_type"),
        (b"{}", 400, "missing_required_parameter"),
    ],
)
def test_bad_input(gateway, path, body, status, code):
    answer = web.post(f"{gateway.url}{path}", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_real_model_needs_no_decision_but_gets_one(gateway):
    d = post(gateway, "/v1/decision", {"model": "small", "messages": user("x")}).json()
    assert (d["model"], d["reason"], d["fallbacks"]) == ("small", "named", [])
    unknown = post(gateway, "/v1/decision", {"model": "nope", "messages": user("x")})
    assert unknown.status_code == 404
