"""Byte identity of answers: what the upstream (a mock) says is what the client gets, however it is cut."""

import random

import pytest

from helpers import raw
from helpers.mocks import Reply

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":%s}'
SSE = [("content-type", "text/event-stream; charset=utf-8")]
STREAM = (
    ': ping\n\ndata: {"choices":[{"index":0,"delta":{"content":"é😀"},"n":1.0}]}\n\n'
    "event: message\nid: 7\nretry: 10\ndata: a\ndata:b\n\n"
    'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\ndata: [DONE]\n\n'
).encode()


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def gateway(shared, upstream):
    return shared.waypost({"models": [{"name": "m", "endpoint": upstream.url}]})


def ask(gateway, stream=False):
    body = BODY % (b"true" if stream else b"false")
    return raw.send(gateway.port, raw.request("/v1/chat/completions", body, [("content-type", "application/json")]))


BODIES = {
    "odd JSON": (200, "application/json", b' {"b":1.0,\n"a" : "\\u00e9\xc3\xa9","choices":[ ]} \n'),
    "not JSON though it says so": (200, "application/json", b"oops"),
    "empty": (200, "application/json", b""),
    "binary": (200, "application/octet-stream", bytes(range(256)) * 300),
    "text": (200, "text/plain", b"hello"),
    "html error": (502, "text/html", b"<h1>Bad gateway</h1>"),
    "teapot": (418, "application/json", b'{"error":{"message":"short and stout"}}'),
    "three megabytes": (200, "application/json", b'{"x":"' + b"y" * 3_000_000 + b'"}'),
}


@pytest.mark.parametrize("status, kind, body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_whole_answers(gateway, upstream, status, kind, body, framing):
    if framing == "length":
        upstream.reply(status, [("content-type", kind)], body)
    else:
        pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        upstream.reply(status, [("content-type", kind)], chunks=pieces)
    answer = ask(gateway)
    assert (answer.status, answer.body) == (status, body)
    assert answer.header("content-type") == kind


CUTS = {
    "as one": [STREAM],
    "by event": [event + b"\n\n" for event in STREAM.split(b"\n\n")[:-1]],
    "by byte": [bytes([b]) for b in STREAM],
    "by line": [line + b"\n" for line in STREAM.split(b"\n")[:-1]],
    "in sevens": [STREAM[at : at + 7] for at in range(0, len(STREAM), 7)],
    "inside the blank line": STREAM.replace(b"\n\n", b"\n\0\n").split(b"\0"),
}


@pytest.mark.parametrize("pieces", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("end", ["LF", "CRLF"])
def test_streams(gateway, upstream, pieces, end):
    if end == "CRLF":
        pieces = [piece.replace(b"\n", b"\r\n") for piece in pieces]
    upstream.answer = lambda _: Reply(headers=SSE, chunks=pieces)
    answer = ask(gateway, stream=True)
    assert answer.body == b"".join(pieces)
    assert answer.header("content-type") == SSE[0][1]


TAILS = {
    "no last blank line": b"data: 1\n\ndata: [DONE]\n",
    "no end of line": b"data: 1\n\ndata: [DONE]",
    "no DONE": b"data: 1\n\n",
    "nothing": b"",
    "only comments": b": hi\n\n: there\n\n",
    "CR alone": b"data: 1\r\rdata: [DONE]\r\r",
}


@pytest.mark.parametrize("body", TAILS.values(), ids=TAILS.keys())
def test_streams_that_end_oddly_but_cleanly(gateway, upstream, body):
    upstream.answer = lambda _: Reply(headers=SSE, chunks=[body] if body else [])
    answer = ask(gateway, stream=True)
    assert (answer.status, answer.body) == (200, body)


def test_one_event_of_a_megabyte(gateway, upstream):
    event = b'data: {"choices":[{"delta":{"content":"' + b"z" * 1_000_000 + b'"}}]}\n\ndata: [DONE]\n\n'
    pieces = [event[at : at + 9_999] for at in range(0, len(event), 9_999)]
    upstream.answer = lambda _: Reply(headers=SSE, chunks=pieces)
    assert ask(gateway, stream=True).body == event


def test_random_cuts(gateway, upstream):
    rng = random.Random(7)
    stream = STREAM * 5
    for _ in range(40):
        cuts = sorted(rng.sample(range(1, len(stream)), rng.randint(1, 30)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        upstream.answer = lambda _, pieces=pieces: Reply(headers=SSE, chunks=pieces)
        assert ask(gateway, stream=True).body == stream, cuts
