"""`ext_proc.mode_override`: Envoy is asked for the bodies that are needed, whatever its file says."""

import json
import time

import pytest

from helpers.wait import until
from helpers.web import web

MATH = {"role": "user", "content": "What is the derivative of x^3 * sin(x)?"}
LAW = {"role": "user", "content": "May a landlord keep the deposit if the tenant breaks the lease early?"}
TOKEN_MS = 40
TOKENS = 8


def allowed(text):
    assert "message_timeout: 5s" in text
    return text.replace("message_timeout: 5s", "message_timeout: 5s\n                      allow_mode_override: true")


def all_buffered(text):
    return allowed(text).replace("response_body_mode: STREAMED", "response_body_mode: BUFFERED")


def asking(text):
    return text.replace("  # fallbacks: 1 ", "  mode_override: true #")


CASES = {
    "NONE, NONE": ("headers-only", allowed),
    "BUFFERED, BUFFERED": ("buffered", all_buffered),
    "STREAMED": ("streamed", allowed),
    "FULL_DUPLEX_STREAMED, where it is not heeded": ("full-duplex", allowed),
}


@pytest.fixture(scope="module", params=CASES)
def overridden(request, front):
    mode, change = CASES[request.param]
    return front(mode, change=change, edit=asking, decode_ms=TOKEN_MS)


def post(front, message, **more):
    body = {"model": "auto", "messages": [message], "max_tokens": TOKENS, **more}
    return web.post(f"{front.url}/v1/chat/completions", json=body, timeout=30)


def arrivals(front):
    """When each piece of a stream came, in seconds after the first, and its decision."""
    body = {"model": "auto", "messages": [LAW], "max_tokens": TOKENS, "stream": True, "stream_options": {"include_usage": True}}
    with web.stream("POST", f"{front.url}/v1/chat/completions", json=body, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        pieces = [(time.monotonic(), piece) for piece in answer.iter_bytes()]
    assert pieces[-1][1].endswith(b"data: [DONE]\n\n")
    return [at - pieces[0][0] for at, _ in pieces], front.waypost.decision(answer)


def test_the_body_decides_and_is_changed(overridden):
    for message, model in ((MATH, "public"), (LAW, "local")):
        answer = post(overridden, message)
        assert answer.status_code == 200, answer.text
        # The engines answer for their own name only, so the body was rewritten.
        assert (answer.headers["x-waypost-model"], answer.json()["model"]) == (model, f"sim-{model}")
        decision = overridden.waypost.decision(answer)
        assert decision["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert overridden.envoy.stats().get("spurious_msgs_received", 0) == 0
    until(lambda: not overridden.left_over())


def test_an_answer_streams_and_its_usage_is_read(overridden):
    times, decision = arrivals(overridden)
    assert times[-1] > 0.5 * TOKENS * TOKEN_MS / 1000, "it came all at once"
    assert (decision["outcome"], decision["completion_tokens"]) == ("completed", TOKENS)
    until(lambda: not overridden.left_over())


def test_what_needs_no_body_passes(overridden):
    assert web.get(f"{overridden.url}/health").status_code == 200
    assert web.get(f"{overridden.url}/v1/models").status_code == 200
    until(lambda: not overridden.left_over())


def test_without_it_a_buffered_answer_comes_at_once(front):
    """That the test above sees a difference."""
    times, _ = arrivals(front("buffered", change=lambda text: all_buffered(text), decode_ms=TOKEN_MS))
    assert times[-1] < 0.5 * TOKENS * TOKEN_MS / 1000


def test_an_envoy_that_does_not_allow_it_lets_nothing_through_undecided(front):
    """Where the endpoint is Waypost's to name: there is none."""
    front = front("headers-only", edit=asking)
    answer = post(front, LAW)
    assert answer.status_code == 503, answer.text
    assert front.waypost.metrics().value("waypost_ext_proc_overtaken_total") == 1
    assert json.loads(answer.content)["error"]["code"] == "upstream_unreachable"
    until(lambda: not front.left_over())


def test_a_mode_that_is_not_served_refuses_all_and_says_why(front):
    def grpc(text):
        text = text.replace("request_body_mode: BUFFERED", "request_body_mode: GRPC").replace("response_body_mode: STREAMED", "response_body_mode: GRPC")
        return text.replace("_trailer_mode: SKIP", "_trailer_mode: SEND").replace("failure_mode_allow: true", "failure_mode_allow: false")

    front = front("buffered", change=grpc)
    assert post(front, LAW).status_code == 500
    front.waypost.wait_log("a body mode of Envoy's processing_mode is not served: use NONE")
    assert front.waypost.metrics().value("waypost_ext_proc_protocol_errors_total") == 1
    until(lambda: not front.left_over())
