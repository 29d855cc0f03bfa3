"""The Decision: one record per request, as headers, as a page, as a log line and as metrics, and all agree."""

import json

import pytest

from helpers.configs import TASK_LABELS, considered, user
from helpers.mocks import Reply, sse_events
from helpers.wait import until
from helpers.web import web

PRICE = {"input": 200_000, "output": 1_000_000}
COST = (7 * PRICE["input"] + 3 * PRICE["output"]) / 1e6
LABELS = ["easy", "hard", "odd"]


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def classifier(shared):
    return shared.kserve([0.2, 0.7, 0.1])


@pytest.fixture(scope="module")
def gateway(shared, upstream, classifier):
    dead = shared.dead_port().url
    models = [
        {"name": "small", "model": "up/small", "endpoint": upstream.url},
        {"name": "large", "model": "up/large", "endpoint": upstream.url, "price": PRICE},
        {"name": "spare", "model": "up/spare", "endpoint": upstream.url},
        {"name": "dead", "endpoint": dead},
        {"name": "half-dead", "endpoints": [dead, upstream.url]},
    ]
    kserve = {"kserve": {"url": classifier.infer_url, "labels": LABELS}}
    routes = {"easy": "small", "hard": "large", "odd": "dead"}
    policies = [
        {"name": "p", "classifier": kserve, "routes": routes, "default": "spare", "confidence_floor": 0.5},
        {"name": "falls", "classifier": kserve, "routes": dict.fromkeys(LABELS, "dead"), "fallbacks": ["large"]},
        {"name": "built_in", "classifier": "task", "routes": dict.fromkeys(TASK_LABELS, "small")},
        {"name": "complex", "classifier": "complexity", "routes": {"Reasoning": "large"}, "default": "small"},
    ]
    return shared.waypost({"models": models, "policies": policies, "limits": {"decisions_kept": 64}})


@pytest.fixture(autouse=True)
def fresh(upstream, classifier):
    upstream.clear()
    classifier.clear()
    classifier.scores = [0.2, 0.7, 0.1]


def ask(gateway, model="p", **more):
    return gateway.chat({"model": model, "messages": user("hello"), **more})


def test_every_field(gateway, upstream):
    answer = ask(gateway)
    assert answer.status_code == 200
    d = gateway.decision(answer)
    assert d["id"] == answer.headers["x-waypost-decision-id"]
    assert d["path"] == "/v1/chat/completions" and d["via"] == "virtual_model"
    assert (d["policy"], d["label"], d["tier"]) == ("p", "hard", "kserve")
    assert d["probabilities"] == {"easy": 0.2, "hard": 0.7, "odd": 0.1}
    assert d["confidence"] == pytest.approx(0.7)
    assert d["plan"] == considered(("large", "label"), ("spare", "fallback")) and d["unfit"] == []
    assert (d["model"], d["endpoint"], d["fallback"]) == ("large", upstream.url, None)
    [attempt] = d["attempts"]
    assert (attempt["model"], attempt["endpoint"]) == ("large", upstream.url)
    assert (attempt["status"], attempt["result"]) == (200, "ok")
    assert 0 < d["classify_ms"] <= d["upstream_headers_ms"] <= d["ttft_ms"] <= d["total_ms"] < 5000
    assert 0 < attempt["ms"] <= d["total_ms"]
    assert (d["status"], d["stream"], d["outcome"]) == (200, False, "completed")
    assert (d["prompt_tokens"], d["completion_tokens"]) == (7, 3)
    assert d["cost_usd"] == pytest.approx(COST)


def test_the_headers_say_it_in_short(gateway):
    headers = ask(gateway).headers
    assert headers["x-waypost-model"] == "large" and headers["x-waypost-policy"] == "p"
    assert headers["x-waypost-label"] == headers["x-chosen-classifier"] == "hard"
    assert headers["x-waypost-confidence"] == "0.700" and headers["x-waypost-tier"] == "kserve"
    assert "x-waypost-fallback" not in headers and "x-waypost-attempts" not in headers


def test_the_log_line_agrees(gateway):
    answer = ask(gateway)
    d = gateway.decision(answer)
    line = json.loads(gateway.wait_log(rf'^.*"{d["id"]}".*$')[0])
    fields = ["id", "path", "via", "policy", "label", "model", "endpoint", "status", "outcome", "stream"]
    fields += ["classify_ms", "ttft_ms", "total_ms", "prompt_tokens", "completion_tokens", "cost_usd"]
    assert {field: line.get(field) for field in fields} == {field: d[field] for field in fields}
    assert line["attempts"] == 1 and line["target"] == "waypost::decision"


def test_the_metrics_agree(gateway):
    before = gateway.metrics()
    gateway.decision(ask(gateway))
    after = gateway.metrics()

    def grown(name, **labels):
        return after.value(name, **labels) - before.value(name, **labels)

    assert grown("waypost_requests_total", model="large", policy="p", outcome="completed") == 1
    assert grown("waypost_cost_usd_total", model="large") == pytest.approx(COST)
    assert grown("waypost_tokens_total", model="large", kind="prompt") == 7
    assert grown("waypost_tokens_total", model="large", kind="completion") == 3
    assert grown("waypost_classifications_total", policy="p", label="hard", tier="kserve") == 1
    assert grown("waypost_classifier_seconds_count", classifier="kserve") == 1


def test_no_price_no_cost(gateway):
    assert gateway.decision(ask(gateway, "small"))["cost_usd"] is None


def test_a_stream(gateway, upstream):
    events = list(sse_events("m", {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}))
    upstream.reply(headers=[("content-type", "text/event-stream")], chunks=events)
    d = gateway.decision(ask(gateway, stream=True))
    assert d["stream"] is True and d["outcome"] == "completed"
    assert d["cost_usd"] == pytest.approx(COST)
    assert d["ttft_ms"] <= d["total_ms"]


def test_cached_tokens(gateway, upstream):
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    upstream.reply(body={"choices": [], "usage": usage})
    assert gateway.decision(ask(gateway))["cached_tokens"] == 4


@pytest.mark.parametrize("policy, count", [("built_in", 12), ("complex", 7), ("p", 3)])
def test_probabilities_sum_to_one(gateway, policy, count):
    d = gateway.decision(ask(gateway, policy))
    assert len(d["probabilities"]) == count
    assert sum(d["probabilities"].values()) == pytest.approx(1, abs=count * 5e-5 + 1e-6)
    assert d["confidence"] == pytest.approx(max(d["probabilities"].values()), abs=1e-4)
    assert d["probabilities"][d["label"]] == max(d["probabilities"].values())


def test_difficulty_of_the_complexity_classifier(gateway):
    assert 0 <= gateway.decision(ask(gateway, "complex"))["difficulty"] <= 1


@pytest.mark.parametrize(
    "scores, label, model, fallback",
    [
        ([0.2, 0.7, 0.1], "hard", "large", None),
        ([0.51, 0.29, 0.2], "easy", "small", None),
        ([0.3, 0.49, 0.21], "hard", "spare", "low_confidence"),
        ([1.0, 0.0, 0.0], "easy", "small", None),  # one-hot: nothing is known about its confidence
        ([0.1, 0.1, 0.1, 0.7], "#3", "spare", "unmapped_label"),
    ],
)
def test_the_confidence_floor_and_the_default(gateway, upstream, classifier, scores, label, model, fallback):
    classifier.scores = scores
    before = gateway.metrics().value("waypost_fallbacks_total", policy="p", reason=fallback or "")
    answer = ask(gateway)
    d = gateway.decision(answer)
    assert (d["label"], d["model"], d["fallback"]) == (label, model, fallback)
    assert answer.headers.get("x-waypost-fallback") == fallback
    assert upstream.last().json()["model"] == f"up/{model}"
    if fallback:
        assert d["plan"][:1] == considered((model, fallback))
        after = gateway.metrics().value("waypost_fallbacks_total", policy="p", reason=fallback)
        assert after - before == 1


def test_a_dead_model_falls_back_and_says_so(gateway, upstream):
    answer = ask(gateway, "falls")
    assert answer.status_code == 200
    d = gateway.decision(answer)
    assert d["plan"] == considered(("dead", "label"), ("large", "fallback"))
    assert [(a["model"], a["result"]) for a in d["attempts"]][-1] == ("large", "ok")
    assert any(a["model"] == "dead" and a["result"] == "connect_failed" for a in d["attempts"])
    assert (d["model"], d["fallback"]) == ("large", "upstream_failed")
    assert answer.headers["x-waypost-fallback"] == "upstream_failed"
    assert int(answer.headers["x-waypost-attempts"]) == len(d["attempts"]) >= 2
    assert upstream.last().json()["model"] == "up/large"


def test_a_dead_endpoint_is_gone_around(gateway, upstream):
    for _ in range(4):
        d = gateway.decision(ask(gateway, "half-dead"))
        assert (d["model"], d["endpoint"], d["outcome"]) == ("half-dead", upstream.url, "completed")
        assert d["fallback"] is None, "another replica of the same model is no fallback"


@pytest.mark.parametrize(
    "body, headers, via",
    [
        ({"model": "p"}, {}, "virtual_model"),
        ({"model": "auto"}, {}, "virtual_model"),
        ({"model": "x"}, {"x-waypost-policy": "p"}, "header"),
        ({"model": "", "nim-llm-router": {"policy": "p", "routing_strategy": "triton"}}, {}, "body_object"),
        ({"model": "small"}, {}, "model"),
        ({"model": "up/small"}, {}, "model"),
    ],
)
def test_how_it_was_asked_for(gateway, body, headers, via):
    answer = gateway.chat({"messages": user("x"), **body}, headers=headers)
    assert answer.status_code == 200, answer.text
    d = gateway.decision(answer)
    assert d["via"] == via
    assert d["policy"] == (None if via == "model" else "p")


def test_refusals_and_upstream_errors_are_decisions_too(gateway, upstream):
    d = gateway.decision(ask(gateway, "nope"))
    assert (d["status"], d["outcome"], d["error"], d["model"]) == (404, "refused", "model_not_found", None)
    d = gateway.decision(ask(gateway, "dead"))
    assert (d["status"], d["outcome"], d["error"]) == (503, "refused", "upstream_unreachable")
    assert d["attempts"] and all(a["result"] == "connect_failed" for a in d["attempts"])
    upstream.reply(400, body={"error": {"message": "no"}})
    d = gateway.decision(ask(gateway, "small"))
    assert (d["status"], d["outcome"], d["model"]) == (400, "upstream_error", "small")


def test_a_broken_stream(gateway, upstream):
    pieces = [b'data: {"choices":[]}\n\n', b"data: half"]
    upstream.answer = lambda _: Reply(headers=[("content-type", "text/event-stream")], chunks=pieces, cut=True)
    answer = ask(gateway, "small", stream=True)
    events = answer.content.split(b"\n\n")
    assert events[0] == b'data: {"choices":[]}' and events[-2:] == [b"data: [DONE]", b""]
    assert json.loads(events[1].removeprefix(b"data: "))["error"]["code"] == "upstream_error"
    d = gateway.decision(answer)
    assert (d["outcome"], d["error"], d["status"]) == ("broken", "upstream_error", 200)


def test_a_client_that_leaves(gateway, upstream):
    def endless():
        while True:
            yield b'data: {"choices":[]}\n\n' * 200

    upstream.answer = lambda _: Reply(headers=[("content-type", "text/event-stream")], chunks=endless())
    body = {"model": "small", "stream": True, "messages": user("x")}
    with web.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as answer:
        next(answer.iter_raw())
        ident = answer.headers["x-waypost-decision-id"]
    assert gateway.decision(ident)["outcome"] == "client_gone"
    until(lambda: upstream.gone > 0, what="the upstream notices too")


def test_unknown_decisions(gateway):
    for ident in ("nope", "0" * 24, "%00", "a" * 5000):
        answer = web.get(f"{gateway.url}/v1/decisions/{ident}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "decision_not_found"


def test_memory_is_bounded(gateway):
    first = ask(gateway, "small").headers["x-waypost-decision-id"]
    assert gateway.decision(first)["id"] == first
    ids = [ask(gateway, "small").headers["x-waypost-decision-id"] for _ in range(64)]
    assert web.get(f"{gateway.url}/v1/decisions/{first}").status_code == 404, "64 are kept"
    assert all(gateway.decision(ident)["id"] == ident for ident in ids)
    assert len(set(ids)) == 64


def test_the_log_line_can_be_switched_off(waypost, recorder):
    gateway = waypost({"models": [{"name": "m", "endpoint": recorder().url}], "log": {"decisions": False}})
    d = gateway.decision(ask(gateway, "m"))
    gateway.stop()
    assert d["id"] not in gateway.log()
