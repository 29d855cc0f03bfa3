"""Streams: every byte at once, whole events only, usage read on the side."""

import json
import socket
import time

import pytest

from helpers.mocks import Reply
from resilience.kit import config, median, rss_mib, stream
from resilience.strict import Conn, chat, events

SSE = [("content-type", "text/event-stream")]


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim()


@pytest.fixture(scope="module")
def gate(shared, engine):
    return shared.waypost(config(engine))


@pytest.fixture(scope="module")
def mock(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def mocked(shared, mock):
    """A gateway in front of the mock."""
    return shared.waypost(config(mock))


def pieces_of(gate, body):
    """The pieces of a streamed answer with their times, counted from the request."""
    with Conn(gate.port) as conn:
        begun = time.monotonic()
        conn.post(body)
        return [(at - begun, piece) for at, piece in conn.pieces(conn.head())]


def test_events_arrive_while_the_engine_still_writes(waypost, sim):
    """200 ms per token: nothing may wait for the end, nor for the next event."""
    gate = waypost(config(sim(decode_ms=200)))
    got = pieces_of(gate, chat(tokens=6, stream=True))
    times = [at for at, _ in got]
    assert times[0] < 0.5, times
    assert times[-1] - times[0] > 0.7, times
    assert len(got) >= 5, "events were held back and put together"


def test_an_event_does_not_wait_for_the_next(mocked, mock):
    sent = []

    def slowly():
        for number in range(4):
            sent.append(time.monotonic())
            yield b'data: {"n": %d}\n\n' % number
            time.sleep(0.15)
        yield b"data: [DONE]\n\n"

    mock.answer = lambda _: Reply(headers=SSE, chunks=slowly())
    with Conn(mocked.port) as conn:
        conn.post(chat(stream=True))
        got = [at for at, _ in conn.pieces(conn.head())]
    delays = [at - begun for begun, at in zip(sent, got, strict=False)]
    assert median(delays) < 0.05, delays
    assert max(delays) < 0.14, delays


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 333])
def test_events_split_anywhere_leave_whole(gate, size):
    whole = events(b"".join(p for _, p in pieces_of(gate, chat(tokens=4, stream=True))))
    with Conn(gate.port) as conn:
        conn.post(chat(tokens=4, stream=True), x_sim_fault=f"split={size}")
        pieces = [piece for _, piece in conn.pieces(conn.head())]
    assert all(piece.endswith(b"\n\n") for piece in pieces), "part of an event went out"

    def without_id(data):
        return [d if d == "[DONE]" else json.loads(d) | {"id": 0, "created": 0} for d in data]

    assert without_id(events(b"".join(pieces))) == without_id(whole)


ODD = {
    "crlf": b'data: {"a": 1}\r\n\r\ndata: {"b": 2}\r\n\r\ndata: [DONE]\r\n\r\n',
    "cr": b'data: {"a": 1}\r\rdata: [DONE]\r\r',
    "comments": b': keep-alive\n\ndata: {"a": 1}\n\n: still here\n\n:\n\ndata: [DONE]\n\n',
    "fields": b'id: 7\nevent: delta\nretry: 10\ndata: {"a":\ndata: 1}\n\nevent: end\ndata: [DONE]\n\n',
    "no space": b'data:{"a":1}\n\ndata:[DONE]\n\n',
    "byte order mark": b'\xef\xbb\xbfdata: {"a": "\xc3\xa9\xf0\x9f\x98\x80"}\n\ndata: [DONE]\n\n',
    "no last blank line": b'data: {"a": 1}\n\ndata: [DONE]\n',
    "not JSON": b"data: \x00\xff\xfe(\n\ndata: [DONE]\n\n",
    "no DONE": b'data: {"a": 1}\n\n',
}


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("name", ODD)
def test_odd_streams_pass_byte_for_byte(mocked, mock, name, size):
    text = ODD[name]
    mock.reply(headers=SSE, chunks=[text[i : i + size] for i in range(0, len(text), size)])
    got = b"".join(piece for _, piece in pieces_of(mocked, chat(stream=True)))
    assert got == text


def test_a_stream_of_comments_is_not_held_back(mocked, mock):
    """Engines keep a connection alive with comments; so must Waypost."""

    def slowly():
        yield b": waiting\n\n"
        time.sleep(0.4)
        yield b"data: [DONE]\n\n"

    mock.reply(headers=SSE, chunks=slowly())
    (first, _), (second, _) = pieces_of(mocked, chat(stream=True))
    assert second - first > 0.3


@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}])
def test_usage_in_a_last_chunk_is_counted(gate, options):
    check_usage(gate, lambda: Conn(gate.port), chat(tokens=9, stream=True, stream_options=options), 2, 9)


def test_usage_beside_the_finish_reason_is_counted(mocked, mock):
    """NVIDIA NIM's form: the chunk with the finish reason carries the usage; the others carry a null."""
    chunk = {"object": "chat.completion.chunk", "usage": None}
    word = chunk | {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    last = chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    text = [f"data: {json.dumps(c)}\n\n".encode() for c in (word, last)] + [b"data: [DONE]\n\n"]
    mock.reply(headers=SSE, chunks=text)
    check_usage(mocked, lambda: Conn(mocked.port), chat(stream=True), 11, 5)


def check_usage(gate, connect, body, prompt, completion):
    def counted(kind):
        return gate.metrics().value("waypost_tokens_total", model="m", kind=kind)

    before = counted("prompt"), counted("completion")
    with connect() as conn:
        conn.post(body)
        answer = conn.answer()
    decision = gate.decision(answer.headers["x-waypost-decision-id"])
    assert (decision["prompt_tokens"], decision["completion_tokens"]) == (prompt, completion)
    assert decision["outcome"] == "completed"
    assert (counted("prompt"), counted("completion")) == (before[0] + prompt, before[1] + completion)


@pytest.mark.parametrize("decode_ms", [0, 2])
def test_no_40_ms_stall(waypost, sim, decode_ms):
    """A client that delays its ACKs must not delay the second segment: TCP_NODELAY on both sides."""
    gate = waypost(config(sim(decode_ms=decode_ms)))
    firsts, wholes = [], []
    with Conn(gate.port) as conn:
        for _ in range(40):
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            begun = time.monotonic()
            conn.post(chat(tokens=4, stream=True))
            times = [at - begun for at, _ in conn.pieces(conn.head())]
            firsts.append(times[0])
            wholes.append(time.monotonic() - begun)
    assert median(firsts) < 0.02, firsts
    assert median(wholes) < 0.035, wholes


@pytest.mark.parametrize("fault", ["malformed=json,after=2", "malformed=garbage", "cut=2", "stall=2"])
def test_an_engine_that_misbehaves_leaves_the_gateway_whole(waypost, sim, fault):
    """Whatever an engine sends, the client's stream has an end, its connection lives on, and so does the gateway."""
    engine = sim()
    gate = waypost(config(engine, timeouts={"idle": "300ms"}))
    with Conn(gate.port) as conn:
        conn.post(chat(tokens=5, stream=True), x_sim_fault=fault)
        first = conn.answer()
        assert first.body.endswith(b"data: [DONE]\n\n")
        conn.post(chat(tokens=5, stream=True))
        assert events(conn.answer().body)[-1] == "[DONE]"
    assert stream(gate.port)[-1] == "[DONE]"


def test_a_break_inside_an_event_is_hidden_by_the_error_event(mocked, mock):
    """Half an event has arrived when the engine breaks off: it must not run into the error event."""
    mock.reply(headers=SSE, chunks=[b'data: {"a": 1}\n\ndata: {"b": "half'], cut=True)
    data = events(b"".join(piece for _, piece in pieces_of(mocked, chat(stream=True))))
    assert data[0] == '{"a": 1}' and len(data) == 3
    assert json.loads(data[1])["error"]["code"] == "upstream_error"


def test_an_event_too_large_to_hold_is_passed_on_in_pieces(mocked, mock):
    event = b'data: {"a": "%s"}\n\n' % (b"x" * 3_000_000)
    pieces = [event[i : i + 65_536] for i in range(0, len(event), 65_536)]
    mock.reply(headers=SSE, chunks=[*pieces, b"data: [DONE]\n\n"])
    assert b"".join(p for _, p in pieces_of(mocked, chat(stream=True))) == event + b"data: [DONE]\n\n"


def test_clients_that_do_not_read_cost_no_memory_and_lose_nothing(waypost, sim):
    """Back pressure reaches the engine; a client's pause is not the engine's stall, however short the idle limit."""
    gate = waypost(config(sim(), timeouts={"idle": "500ms"}))
    conns = [Conn(gate.port, timeout=30) for _ in range(16)]
    before = rss_mib(gate)
    for conn in conns:
        conn.post(chat(tokens=30_000, stream=True))
    time.sleep(1.5)
    # Of 6.6 MB each; an allocator takes its share at once, whatever is held.
    assert rss_mib(gate) - before < 24 + 16 * 1.5
    assert stream(gate.port)[-1] == "[DONE]", "others are served"
    for conn in conns[:2]:
        data = events(conn.answer().body)
        assert len(data) > 30_000 and data[-1] == "[DONE]"
        assert not any('"error"' in d for d in data)
    for conn in conns:
        conn.close()
