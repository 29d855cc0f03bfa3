"""Byte identity: of a request's body only `model` and v1's object change; every other byte is the client's own.

The expected bytes are written out or made by cutting the sent ones apart, never by a JSON library. The
upstream is the recorder, a mock.
"""

import gzip
import os
import random

import httpx
import pytest

from helpers import raw

MODEL = "up/stream-1"
NIM = b'"nim-llm-router":{"policy":"p","routing_strategy":"manual","model":"Yes"}'
MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def gateway(shared, upstream):
    classifier = {"kserve": {"url": shared.dead_port().url, "labels": ["Yes"]}}
    model = {"name": "virtual", "model": MODEL, "endpoint": upstream.url}
    policy = {"name": "p", "classifier": classifier, "routes": {"Yes": "virtual"}}
    return shared.waypost({"models": [model], "policies": [policy]})


@pytest.fixture(autouse=True)
def fresh(upstream):
    upstream.clear()


def send(gateway, body, headers=(("content-type", "application/json"),), path="/v1/chat/completions"):
    return raw.send(gateway.port, raw.request(path, body, headers))


def arrives(gateway, upstream, sent, expected, path="/v1/chat/completions"):
    answer = send(gateway, sent, path=path)
    assert answer.status == 200, answer.body
    assert upstream.last().body == expected
    assert upstream.last().header("content-length") == str(len(expected))


# Members that must arrive as they are.
MEMBERS = {
    "unknown fields": b'"x_new":{"deep":[{"er":null}]},"":0,"a.b/c~":true',
    "numbers": b'"n":[1.0,1.00,1e5,1E+05,-0,-0.0,0.1e-7,123456789012345678901234567890,0.30000000000000004,1e400]',
    "key order": b'"z":1,"a":2,"m":3,"A":4,"temperature":0,"b":5',
    "unicode escapes": rb'"u":"\u00e9\u00E9\ud83d\ude00\u0041\/\b\f\n\r\t\"\\","\u006bey":1',
    "raw unicode": '"ü":"é😀\u2028\u2029\ufeff 你好","e\u0301":"\x7f"'.encode(),
    "whitespace": b'"w"  :\t[ 1 ,\r\n 2 ]\n ,  "o":{ }',
    "nested keys of the same name": b'"inner":{"model":"m","nim-llm-router":{"policy":"q"},"stream":true}',
    "values that look like keys": b'"k":"\\"model\\":\\"x\\"","l":"nim-llm-router"',
    "empty containers": b'"e":[],"f":{},"g":[[],{}],"s":""',
    "depth 60": b'"d":' + b"[" * 60 + b"]" * 60,
    "a long string": b'"long":"' + b"x" * 100_000 + b'"',
    "literals": b'"t":true,"f":false,"n":null',
}


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
@pytest.mark.parametrize("form", ["named", "object", "neither before nor after"])
def test_members_arrive_identical(gateway, upstream, member, form):
    if form == "named":
        sent = b'{"model":"virtual",' + member + b"," + MESSAGES + b"}"
        expected = b'{"model":"up/stream-1",' + member + b"," + MESSAGES + b"}"
    elif form == "object":
        sent = b"{" + member + b"," + NIM + b"," + MESSAGES + b',"model":""}'
        expected = b"{" + member + b"," + MESSAGES + b',"model":"up/stream-1"}'
    else:
        sent = b"{" + MESSAGES + b',"model":"virtual",' + member + b"}"
        expected = b"{" + MESSAGES + b',"model":"up/stream-1",' + member + b"}"
    arrives(gateway, upstream, sent, expected)


# Where the object may stand; `expected` is what is left, with all the whitespace that is not its own.
POSITIONS = {
    "first": (b"{" + NIM + b',"model":"","n":1,' + MESSAGES + b"}", b'{"model":"M","n":1,' + MESSAGES + b"}"),
    "second": (b'{"model":"",' + NIM + b',"n":1,' + MESSAGES + b"}", b'{"model":"M","n":1,' + MESSAGES + b"}"),
    "before the model": (
        b'{"n":1,' + NIM + b',"model":"",' + MESSAGES + b"}",
        b'{"n":1,"model":"M",' + MESSAGES + b"}",
    ),
    "last": (b'{"model":"","n":1,' + MESSAGES + b"," + NIM + b"}", b'{"model":"M","n":1,' + MESSAGES + b"}"),
    "no model key, first": (b"{" + NIM + b"," + MESSAGES + b"}", b'{"model":"M",' + MESSAGES + b"}"),
    "no model key, last": (b"{" + MESSAGES + b"," + NIM + b"}", b'{"model":"M",' + MESSAGES + b"}"),
    "no model key, middle": (b'{"n":1,' + NIM + b"," + MESSAGES + b"}", b'{"model":"M","n":1,' + MESSAGES + b"}"),
    "model is null": (b'{"model":null,' + NIM + b"," + MESSAGES + b"}", b'{"model":"M",' + MESSAGES + b"}"),
    "an escaped key": (
        b'{"nim\\u002dllm-router"' + NIM[16:] + b',"mod\\u0065l":"",' + MESSAGES + b"}",
        b'{"mod\\u0065l":"M",' + MESSAGES + b"}",
    ),
}


@pytest.mark.parametrize("sent, expected", POSITIONS.values(), ids=POSITIONS.keys())
def test_the_object_at_every_position(gateway, upstream, sent, expected):
    arrives(gateway, upstream, sent, expected.replace(b'"M"', b'"up/stream-1"'))


def test_only_the_object_and_no_other_member(gateway, upstream):
    answer = send(gateway, b"{ " + NIM + b" }", path="/completions")
    assert answer.status == 200
    left = upstream.last().body
    assert left.replace(b" ", b"") == b'{"model":"up/stream-1"}'


SPACED = (
    b' \n{\r\n  "n" : 1 ,\n\t"nim-llm-router" : { "policy" : "p" , "routing_strategy":"manual","model":"Yes" } ,\n  '
    + (MESSAGES + b' ,  "model"  :  ""  \n}\n\t ')
)


def test_whitespace_around_everything(gateway, upstream):
    """Which of the spaces beside the removed member go with it is ours to choose; the others stay."""
    answer = send(gateway, SPACED)
    assert answer.status == 200
    body = upstream.last().body
    assert body.startswith(b' \n{\r\n  "n" : 1') and b"nim-llm-router" not in body
    assert body.endswith(MESSAGES + b' ,  "model"  :  "up/stream-1"  \n}\n\t ')
    assert body.replace(b" ", b"").replace(b"\n", b"").replace(b"\t", b"").replace(b"\r", b"") == (
        b'{"n":1,' + MESSAGES + b',"model":"up/stream-1"}'
    )


def test_a_body_that_needs_no_change_arrives_as_it_is(shared, upstream):
    gateway = shared.waypost({"models": [{"name": "same", "endpoint": upstream.url}]})
    sent = b' { "model" : "same" , ' + MESSAGES + b', "n": 1.50 } '
    arrives(gateway, upstream, sent, sent)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank", "/completions"])
def test_the_other_endpoints_too(gateway, upstream, path):
    sent = b'{"input":"x","prompt":"p","model":"virtual","odd" : 1.0e+1}'
    if path != "/v1/embeddings":
        sent = sent.replace(b'"prompt":"p",', b"")
    arrives(gateway, upstream, sent, sent.replace(b"virtual", b"up/stream-1"), path)


@pytest.mark.parametrize(
    "sent",
    [
        b'{"model":"virtual","model":"other",' + MESSAGES + b"}",
        b'{"model":"virtual","mod\\u0065l":"other",' + MESSAGES + b"}",
        b"{" + NIM + b"," + NIM + b"," + MESSAGES + b"}",
        b'{"model":"virtual",' + MESSAGES + b"," + MESSAGES + b"}",
        b'{"model":"virtual","stream":true,"stream":false,' + MESSAGES + b"}",
    ],
)
def test_duplicate_keys_are_refused(gateway, upstream, sent):
    answer = send(gateway, sent)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "duplicate_key")
    assert upstream.requests == []


def body_of(size, seed=1):
    """A request of about this size with text that no compressor and no escape leaves alone."""
    text = random.Random(seed).randbytes(size * 3 // 8).hex()
    return b'{"model":"virtual","odd" : 1.0,"messages":[{"role":"user","content":"' + text.encode() + b'"}]}'


def rewritten(body):
    return body.replace(b'"model":"virtual"', b'"model":"up/stream-1"')


@pytest.mark.parametrize("size", [1_000, 65_536, 300_000, 2_000_000])
def test_sizes(gateway, upstream, size):
    sent = body_of(size)
    arrives(gateway, upstream, sent, rewritten(sent))


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_is_undone(gateway, upstream, coding):
    sent = body_of(200_000)
    headers = [("content-type", "application/json"), ("content-encoding", coding)]
    answer = send(gateway, gzip.compress(sent), headers)
    assert answer.status == 200, answer.body
    assert upstream.last().body == rewritten(sent)
    assert upstream.last().header("content-encoding") is None


def test_gzip_in_several_members(gateway, upstream):
    sent = body_of(10_000)
    packed = gzip.compress(sent[:777]) + gzip.compress(sent[777:])
    assert send(gateway, packed, [("content-type", "application/json"), ("content-encoding", "gzip")]).status == 200
    assert upstream.last().body == rewritten(sent)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"; x=y',
        "Application/JSON",
        "application/vnd.api+json",
        "text/plain",
        None,
    ],
)
def test_content_types(gateway, upstream, content_type):
    sent = body_of(500)
    headers = [("content-type", content_type)] if content_type else []
    assert send(gateway, sent, headers).status == 200
    assert upstream.last().body == rewritten(sent)
    assert upstream.last().header("content-type") == "application/json"


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_from_a_browser_is_accepted(gateway, upstream, content_type):
    sent = body_of(500)
    assert send(gateway, sent, [("content-type", content_type), ("origin", "https://page.example")]).status == 200
    assert upstream.last().body == rewritten(sent)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_page_may_send_unasked_is_refused(gateway, upstream, content_type):
    """Browsers send these without asking first, so any page could use a Waypost on its visitor's machine."""
    answer = send(gateway, body_of(500), [("content-type", content_type), ("origin", "https://page.example")])
    assert (answer.status, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert upstream.requests == []


@pytest.mark.parametrize("sizes", [(1,), (7, 3, 1), (1000,), (65536,), (17, 5000)], ids=str)
def test_chunked_requests(gateway, upstream, sizes):
    sent = body_of(3_000 if min(sizes) < 100 else 400_000)
    headers = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
    answer = raw.send(gateway.port, raw.request("/v1/chat/completions", raw.chunked(sent, sizes), headers))
    assert answer.status == 200
    assert upstream.last().body == rewritten(sent)


def test_a_body_that_dribbles_in(gateway, upstream):
    sent = body_of(2_000)
    data = raw.request("/v1/chat/completions", sent, [("content-type", "application/json")])
    with raw.connect(gateway.port) as sock:
        for at in range(0, len(data), 13):
            sock.sendall(data[at : at + 13])
        assert raw.read_answer(sock).status == 200
    assert upstream.last().body == rewritten(sent)


def test_http2_without_tls(gateway, upstream):
    sent = body_of(300_000)
    with httpx.Client(http1=False, http2=True) as client:
        for _ in range(3):
            answer = client.post(
                f"{gateway.url}/v1/chat/completions", content=sent, headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            assert upstream.last().body == rewritten(sent)


def test_many_random_bodies(gateway, upstream):
    """Random members in random order and spacing, the object in a random place; the seed is printed on failure."""
    seed = int.from_bytes(os.urandom(4), "big")
    rng = random.Random(seed)
    spaces = [b"", b" ", b"\n", b"\t ", b"\r\n  "]
    for turn in range(60):
        members = rng.sample([m for m in MEMBERS.values() if len(m) < 1000], rng.randint(1, 4))
        parts = [MESSAGES, b'"model":"virtual"', *members]
        rng.shuffle(parts)
        gap = rng.choice(spaces)
        expected = b"{" + gap + (gap + b"," + gap).join(parts) + gap + b"}"
        answer = send(gateway, expected)
        if answer.status == 400 and answer.json()["error"]["code"] == "duplicate_key":
            continue  # two members drew the same key
        assert answer.status == 200, (seed, turn, answer.body, expected)
        assert upstream.last().body == rewritten(expected), (seed, turn)
