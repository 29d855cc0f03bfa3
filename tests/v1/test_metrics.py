"""The eleven metric names of v1 with their types and labels, as dashboards know them."""

import json

import pytest

from helpers.configs import TASK_LABELS, user, v1_policy
from helpers.mocks import Reply, sse_events
from helpers.wait import until
from helpers.web import web

NAMES = {
    "num_requests": "counter",
    "requests_per_policy": "counter",
    "requests_per_model": "counter",
    "routing_policy_usage": "counter",
    "request_latency_seconds": "histogram",
    "model_selection_time_seconds": "histogram",
    "llm_response_time_seconds": "histogram",
    "proxy_overhead_latency_seconds": "histogram",
    "llm_token_usage": "counter",
    "request_success_total": "counter",
    "request_failure_total": "counter",
}
LABELS = {
    "requests_per_policy": {"policy"},
    "requests_per_model": {"model"},
    "routing_policy_usage": {"routing_policy"},
    "llm_response_time_seconds": {"llm"},
    "llm_token_usage": {"llm_name", "category"},
    "request_failure_total": {"error_type"},
}
BUCKETS = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]


def body(strategy="triton", model="", policy="task_router", **more):
    nim = {"policy": policy, "routing_strategy": strategy, "model": model}
    return {"model": "", "messages": user("hello"), "nim-llm-router": nim, **more}


@pytest.fixture
def setting(waypost, recorder, kserve):
    upstream, classifier = recorder(), kserve()
    classifier.one_hot(4)
    gateway = waypost({"policies": [v1_policy("task_router", classifier.infer_url, upstream.url, TASK_LABELS)]})
    return gateway, upstream, classifier


def test_names_types_labels_and_buckets(setting):
    gateway, upstream, _ = setting
    gateway.chat(body())
    gateway.chat(body("manual", "Chatbot"))
    upstream.reply(400, body={"error": {}})
    gateway.decision(gateway.chat(body()))
    metrics = gateway.metrics()
    assert {name: metrics.types.get(name) for name in NAMES} == NAMES
    for name, kind in NAMES.items():
        suffixes = ["_bucket", "_sum", "_count"] if kind == "histogram" else [""]
        for suffix in suffixes:
            samples = metrics.find(name + suffix)
            assert samples, f"{name}{suffix} has no sample: no suffix is added to v1's names"
            for _, labels, _ in samples:
                assert set(labels) - {"le"} == LABELS.get(name, set())
        if kind == "histogram":
            sample = dict(metrics.find(f"{name}_bucket")[0][1])
            sample.pop("le")
            bounds = [labels["le"] for _, labels, _ in metrics.find(f"{name}_bucket", **sample)]
            assert bounds == BUCKETS
    waypost = [name for name in metrics.types if name not in NAMES]
    assert all(name.startswith("waypost_") for name in waypost), "everything new stands beside v1's names"


def test_what_is_counted(setting):
    gateway, upstream, _ = setting
    gateway.chat(body())
    gateway.chat(body())
    gateway.chat(body("manual", "Chatbot"))
    upstream.reply(404, body={"error": {}})
    gateway.chat(body())
    upstream.reply(500, body={"error": {}})
    gateway.chat(body())
    gateway.decision(gateway.chat(body(policy="nope")))
    m = gateway.metrics()
    assert m.value("num_requests") == 6
    assert m.value("requests_per_policy", policy="task_router") == 5, "after the policy was found"
    assert m.value("requests_per_model", model="Code Generation") == 4, "the label, not the model id"
    assert m.value("requests_per_model", model="Chatbot") == 1
    assert m.value("routing_policy_usage", routing_policy="triton") == 4
    assert m.value("routing_policy_usage", routing_policy="manual") == 1
    assert m.value("request_success_total") == 3
    assert m.value("request_failure_total", error_type="4xx") == 2
    assert m.value("request_failure_total", error_type="5xx") == 1
    assert m.value("model_selection_time_seconds_count") == 4, "successful classifications"
    assert m.value("request_latency_seconds_count") == 6
    assert m.value("llm_response_time_seconds_count", llm="Code Generation") == 4
    assert m.value("llm_token_usage", llm_name="Code Generation", category="prompt") == 14
    assert m.value("llm_token_usage", llm_name="Code Generation", category="completion") == 6
    assert m.value("llm_token_usage", llm_name="Code Generation", category="total") == 20
    assert m.value("llm_token_usage", llm_name="Chatbot", category="total") == 10


def test_vectors_are_absent_until_first_use(setting):
    text = setting[0].metrics().text
    assert "requests_per_model{" not in text and "llm_token_usage{" not in text


def test_pages_are_no_requests(setting):
    gateway = setting[0]
    for path in ("/health", "/metrics", "/config", "/v1/models", "/nothing"):
        web.get(gateway.url + path)
    assert gateway.metrics().value("num_requests") == 0


def usage(prompt, completion):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def chunk(finish, **more):
    choices = [{"index": 0, "delta": {}, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


STREAMS = {
    "usage in a last chunk without choices": list(sse_events("m", usage(5, 6))),
    "usage beside finish_reason stop": [chunk("stop", usage=usage(5, 6)), b"data: [DONE]\n\n"],
    "usage beside finish_reason length": [chunk("length", usage=usage(5, 6)), b"data: [DONE]\n\n"],
    "usage beside finish_reason tool_calls": [chunk("tool_calls", usage=usage(5, 6)), b"data: [DONE]\n\n"],
    "usage in every chunk, growing": [
        chunk(None, usage=usage(5, 1)), chunk(None, usage=usage(5, 4)), chunk("stop", usage=usage(5, 6)),
        b"data: [DONE]\n\n",
    ],
    "cut everywhere": [bytes([b]) for b in b"".join(sse_events("m", usage(5, 6)))],
    "lines ending in CRLF": [b"".join(sse_events("m", usage(5, 6))).replace(b"\n", b"\r\n")],
    "without DONE": list(sse_events("m", usage(5, 6)))[:-1],
}  # fmt: skip


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS.keys())
def test_tokens_of_streams_are_counted(setting, pieces):
    gateway, upstream, _ = setting
    upstream.answer = lambda _: Reply(headers=[("content-type", "text/event-stream")], chunks=pieces)
    answer = gateway.chat(body(stream=True))
    assert answer.content == b"".join(pieces), "reading on the side changes nothing"
    until(lambda: gateway.metrics().value("request_success_total") == 1)
    m = gateway.metrics()
    counted = {
        c: m.value("llm_token_usage", llm_name="Code Generation", category=c) for c in ("prompt", "completion", "total")
    }
    assert counted == {"prompt": 5, "completion": 6, "total": 11}


def test_waypost_own_series_name_the_model(setting):
    gateway, _, _ = setting
    gateway.decision(gateway.chat(body()))
    m = gateway.metrics()
    assert m.value("waypost_requests_total", model="meta/m4", policy="task_router", outcome="completed") == 1
    assert m.value("waypost_tokens_total", model="meta/m4", kind="prompt") == 7
    assert m.value("waypost_upstream_attempts_total", model="meta/m4", result="ok") == 1
    assert m.value("waypost_classifications_total", policy="task_router", label="Code Generation", tier="kserve") == 1


def test_time_to_first_token_is_kept_per_model(setting):
    gateway, _, _ = setting
    gateway.decision(gateway.chat(body()))
    gateway.decision(gateway.chat(body(stream=True)))
    assert gateway.metrics().value("waypost_ttft_seconds_count", model="meta/m4") == 2
