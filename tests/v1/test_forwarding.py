"""v1's rewriting before forwarding and its handling of answers, where v1 was right; and better where it was not."""

import json
import os
import threading

import pytest

from helpers.configs import user, v1_policy
from helpers.mocks import Reply, sse_events
from helpers.web import web

NIM = {"policy": "p", "routing_strategy": "triton", "model": ""}
BODY = {"model": "", "messages": user("hello"), "nim-llm-router": NIM}


@pytest.fixture
def upstream(recorder):
    return recorder()


@pytest.fixture
def gateway(waypost, upstream, kserve):
    return waypost({"policies": [v1_policy("p", kserve([1.0, 0.0]).infer_url, upstream.url, ["Yes", "No"])]})


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/chat/completions?a=1&b=%20x&a=2", "/completions?q", "/v1/completions?x=%2F"]
)
def test_path_and_query_are_appended_to_api_base(gateway, upstream, path):
    assert gateway.chat(BODY, path=path).status_code == 200
    assert upstream.last().path == path


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_v1_at_the_end_of_api_base_is_tolerated(waypost, upstream, kserve, end):
    gateway = waypost({"policies": [v1_policy("p", kserve().infer_url, upstream.url + end, ["Yes"])]})
    assert gateway.chat(BODY, path="/v1/chat/completions?x=1").status_code == 200
    assert upstream.last().path == "/v1/chat/completions?x=1"


def test_a_path_in_api_base_is_kept(waypost, upstream, kserve):
    gateway = waypost({"policies": [v1_policy("p", kserve().infer_url, f"{upstream.url}/openai/v1", ["Yes"])]})
    assert gateway.chat(BODY).status_code == 200
    assert upstream.last().path == "/openai/v1/chat/completions"


def test_the_object_is_removed_the_model_set_and_the_key_replaced(gateway, upstream):
    gateway.chat(BODY, headers={"authorization": "Bearer sk-client", "openai-organization": "org"})
    request = upstream.last()
    assert request.json() == {"model": "meta/m0", "messages": user("hello")}
    assert request.header("authorization") == "Bearer sk-upstream"
    assert request.header("content-type") == "application/json"


@pytest.mark.parametrize("key", ["", None])
def test_without_a_key_no_authorization_is_sent_not_even_the_clients(waypost, upstream, kserve, key):
    gateway = waypost({"policies": [v1_policy("p", kserve().infer_url, upstream.url, ["Yes"], key=key)]})
    assert gateway.chat(BODY, headers={"authorization": "Bearer sk-client"}).status_code == 200
    assert upstream.last().header("authorization") is None


def test_status_headers_and_body_of_the_answer_are_passed(gateway, upstream):
    headers = [("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("openai-processing-ms", "5")]
    upstream.reply(201, headers, b'{"odd" :  1.50}')
    answer = gateway.chat(BODY)
    assert answer.status_code == 201
    assert answer.content == b'{"odd" :  1.50}'
    assert answer.headers.get_list("x-two") == ["a", "b"]
    assert (answer.headers["x-one"], answer.headers["openai-processing-ms"]) == ("1", "5")
    assert answer.headers["x-chosen-classifier"] == "Yes"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 500, 501, 503])
def test_upstream_errors_are_passed_through(gateway, upstream, status):
    body = b'{"error": {"message": "from upstream",\n "n": 1.0}}'
    upstream.reply(status, [("retry-after", "17"), ("x-ratelimit-limit", "60")], body)
    answer = gateway.chat(BODY)
    assert answer.status_code == status
    assert answer.content == body
    assert answer.headers["retry-after"] == "17"
    assert answer.headers["x-ratelimit-limit"] == "60"
    assert answer.headers["x-chosen-classifier"] == "Yes"


def test_retry_after_is_honoured(gateway, upstream):
    upstream.reply(429, [("retry-after", "17")], b"{}")
    gateway.chat(BODY)
    seen = len(upstream.requests)
    upstream.default()
    answer = gateway.chat(BODY)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 17
    assert answer.json()["error"]["code"] == "upstream_rate_limited"
    assert len(upstream.requests) == seen, "the endpoint asked to be left alone"


def test_a_redirect_is_not_followed(gateway, upstream, recorder):
    other = recorder()
    upstream.reply(302, [("location", f"{other.url}/v1/chat/completions")])
    assert gateway.chat(BODY).status_code == 302
    assert other.requests == [], "prompt and key go where the configuration says and nowhere else"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON"],
)
def test_streams_are_relayed_for_every_json_content_type(gateway, upstream, content_type):
    events = list(sse_events("meta/m0", {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}))
    upstream.reply(headers=[("content-type", "text/event-stream")], chunks=events)
    answer = gateway.chat(json.dumps({**BODY, "stream": True}), headers={"content-type": content_type})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-chosen-classifier"] == "Yes"
    assert answer.content == b"".join(events)
    assert "content-length" not in answer.headers, "relayed, not collected"


def test_a_stream_arrives_event_by_event(gateway, upstream):
    """The upstream sends its second event only after the client has read the first."""
    read = threading.Event()

    def chunks():
        yield b"data: 1\n\n"
        assert read.wait(10), "the first event did not reach the client"
        yield b"data: [DONE]\n\n"

    upstream.answer = lambda _: Reply(headers=[("content-type", "text/event-stream")], chunks=chunks())
    with web.stream("POST", f"{gateway.url}/v1/chat/completions", json={**BODY, "stream": True}) as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"data: 1\n\n"
        read.set()
        assert b"".join(parts) == b"data: [DONE]\n\n"


def test_connections_are_reused(gateway, upstream):
    for _ in range(20):
        assert gateway.chat(BODY).status_code == 200
    # One pool per event loop, and one event loop per core.
    assert upstream.connections <= (os.cpu_count() or 1), "v1 made a client and a connection for each request"


@pytest.mark.parametrize("label", ["Génération", "日本語 😀", 'with, comma; and "quotes"'])
def test_any_label_is_a_header(waypost, upstream, kserve, label):
    """A label that is no plain ASCII made v1 panic."""
    gateway = waypost({"policies": [v1_policy("p", kserve().infer_url, upstream.url, [label])]})
    answer = gateway.chat(BODY)
    assert answer.status_code == 200
    raw = dict(answer.headers.raw)
    assert raw[b"x-chosen-classifier"].decode() == raw[b"x-waypost-label"].decode() == label
    assert gateway.decision(answer)["label"] == label
