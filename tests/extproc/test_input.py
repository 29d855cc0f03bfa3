"""Odd requests through a real Envoy: each gets the answer that the HTTP door gives, or reaches the engine as it was."""

import gzip
import json
import time

import openai
import pytest

from helpers import raw
from helpers.wait import until
from helpers.web import web
from resilience.strict import Conn, chat, post

SEES_BODY = ["full-duplex", "buffered"]
LIMIT = 100_000
LIMITS = f"\nlimits: {{body: {LIMIT}B}}\n"
JSON = {"content-type": "application/json"}
UPGRADE = "stat_prefix: clients\n                upgrade_configs: [{upgrade_type: websocket}]"
WIDE = """
                max_request_headers_kb: 512
                common_http_protocol_options: {max_headers_count: 2000}"""
HEADERS = 1_000
HEADER_BYTES = 100
DECODE_MS = 20
TOKENS = 50
GONE_S = 5
HEALTH = "    pick: {health: {interval: 200ms}}\n"


@pytest.fixture(params=SEES_BODY)
def door(front, request):
    front = front(request.param)
    yield front
    until(lambda: front.bookings() == 0 and front.waypost.metrics().value("waypost_ext_proc_streams_open") == 0)
    assert front.envoy.stats().get("spurious_msgs_received", 0) == 0
    assert front.waypost.metrics().value("waypost_ext_proc_panics_total") == 0


def ask(front, content, path="/v1/chat/completions", **headers):
    headers = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return web.post(f"{front.url}{path}", content=content, headers=headers)


def refused(answer, status, code=None):
    assert answer.status_code == status, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"} and error["message"], error
    assert code is None or error["code"] == code, error
    assert answer.headers["x-waypost-decision-id"]



@pytest.mark.parametrize("mode", SEES_BODY)
def test_a_body_over_the_limit(front, mode):
    front = front(mode, extra=LIMITS)
    fits, large = "x" * (LIMIT - 500), "x" * LIMIT
    assert ask(front, chat("local", text=fits)).status_code == 200
    refused(ask(front, chat("local", text=large)), 413, "request_too_large")
    body = json.dumps(chat("local", text=large * 20)).encode()

    def pieces():
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    # Its length is not announced.
    answer = web.post(f"{front.url}/v1/chat/completions", content=pieces(), headers=JSON)
    refused(answer, 413, "request_too_large")
    packed = gzip.compress(json.dumps(chat("local", text=large)).encode())
    refused(ask(front, packed, content_encoding="gzip"), 413, "request_too_large")
    assert ask(front, chat("local")).status_code == 200
    metrics = front.waypost.metrics()
    until(lambda: front.waypost.metrics().value("waypost_ext_proc_held_bytes") == 0)
    assert metrics.value("waypost_ext_proc_faults_total") == 2


def test_gzip(door):
    body = gzip.compress(json.dumps(chat("local", text="x y " * 5_000)).encode())
    answer = ask(door, body, content_encoding="gzip")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 5_000
    refused(ask(door, b"not gzip", content_encoding="gzip"), 400)
    refused(ask(door, b"{}", content_encoding="br"), 415)


def test_a_web_page_cannot_ask(door):
    refused(ask(door, chat("local"), content_type="text/plain", origin="http://evil.example"), 415)
    assert ask(door, chat("local"), content_type="text/plain").status_code == 200


def test_other_methods_and_paths(door):
    chat_page = web.get(f"{door.url}/v1/chat/completions")
    assert chat_page.status_code in (404, 405), chat_page.text
    assert web.get(f"{door.url}/nowhere").status_code == 404
    assert ask(door, {}, path="/nowhere").status_code == 404


def test_a_websocket_upgrade_is_not_held(front):
    # With buffered bodies Envoy 1.40 itself waits for the end of an upgraded request.
    front = front("full-duplex", change=lambda text: text.replace("stat_prefix: clients", UPGRADE))
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    upgrade += [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Content-Length", "0")]
    for path in ("/v1/realtime", "/v1/chat/completions"):
        answer = raw.send(front.envoy.port, raw.request(path, headers=upgrade[:-1], method="GET"), 5, method="GET")
        # The engine speaks no WebSocket, but it is the one to say so.
        assert 400 <= answer.status < 500 and answer.header("x-sim") == "1", (answer.status, answer.body)
    until(lambda: front.waypost.metrics().value("waypost_ext_proc_streams_open") == 0)


def test_trailers_of_a_request(door):
    body = json.dumps(chat("auto", text="What is the derivative of x^3?")).encode()
    whole = raw.chunked(body, [7, 50])
    assert whole.endswith(b"0\r\n\r\n")
    for trailer in (b"x-checksum: 1\r\n", b""):
        headers = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"), ("Trailer", "x-checksum")]
        data = raw.request("/v1/chat/completions", headers=headers) + whole[:-2] + trailer + b"\r\n"
        answer = raw.send(door.envoy.port, data)
        assert answer.status == 200, answer.body
        assert answer.json()["model"] == "sim-public"


def test_expect_100_continue(door):
    request = post(chat("local"), expect="100-continue")
    head, body = request.split(b"\r\n\r\n", 1)
    with Conn(door.envoy.port) as conn:
        conn.send(head + b"\r\n\r\n")
        assert conn.closed_or_readable(5), "asked to go on"
        conn.send(body)
        answer = conn.answer()
    assert answer.status == 200 and answer.json()["model"] == "sim-local"


@pytest.mark.parametrize("mode", SEES_BODY)
def test_100_kilobytes_of_headers(front, mode):
    front = front(mode, change=lambda text: text.replace("stat_prefix: clients", "stat_prefix: clients" + WIDE))
    many = {f"x-h-{number}": "v" * HEADER_BYTES for number in range(HEADERS)}
    for content in (chat("auto"), b"not json"):
        refused(ask(front, content, **many), 431, "headers_too_large")
    refused(ask(front, chat("auto"), x_long="v" * HEADERS * HEADER_BYTES), 431, "headers_too_large")
    assert ask(front, chat("auto"), x_long="v" * 60_000).status_code == 200
    assert front.waypost.metrics().value("waypost_ext_proc_protocol_errors_total") == 0


@pytest.mark.parametrize("mode", SEES_BODY)
def test_engines_that_are_gone(front, mode):
    front = front(mode, edit=lambda text: text.replace("    endpoints:", HEALTH + "    endpoints:"))
    for sim in front.local:
        sim.stop()
    until(lambda: waypost_says_gone(front), GONE_S, "503 of Waypost's own with retry-after")
    assert ask(front, chat("public")).status_code == 200, "the other model is well"
    until(lambda: front.bookings() == 0)


def waypost_says_gone(front):
    answer = ask(front, chat("local"))
    assert answer.status_code == 503
    if "x-waypost-decision-id" not in answer.headers or "retry-after" not in answer.headers:
        return False
    refused(answer, 503)
    return int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("mode", SEES_BODY)
def test_the_openai_sdk_and_tokens_as_they_are_made(front, mode):
    front = front(mode, decode_ms=DECODE_MS)
    with openai.OpenAI(api_key="k", base_url=f"{front.url}/v1", max_retries=0, timeout=20) as client:
        assert "auto" in {model.id for model in client.models.list()}
        asked = {"messages": [{"role": "user", "content": "What is the derivative of x^3?"}], "max_tokens": TOKENS}
        asked["extra_body"] = {"ignore_eos": True}
        answer = client.chat.completions.create(model="auto", **asked)
        assert answer.model == "sim-public" and answer.usage.completion_tokens == TOKENS
        start = time.monotonic()
        times, text = [], ""
        stream = client.chat.completions.create(model="local", stream=True, stream_options={"include_usage": True}, **asked)
        for chunk in stream:
            times.append(time.monotonic() - start)
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        assert chunk.usage.completion_tokens == TOKENS and text
        # All of it takes a second; the first token does not wait for the last.
        assert times[0] < times[-1] / 2, times
        assert len({round(at, 2) for at in times}) > TOKENS / 3, times
        with pytest.raises(openai.NotFoundError) as error:
            client.chat.completions.create(model="nobody", **asked)
        assert error.value.code == "model_not_found"
    until(lambda: front.bookings() == 0)
