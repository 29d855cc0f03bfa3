"""The Envoy door, asked by a second, independent client: every phase in every body mode, and what no Envoy would say.

Whatever is said, the stream ends properly and nothing is left behind: no stream, no held byte, no booking.
"""

import asyncio
import json
import socket

import h2.config
import h2.connection
import h2.events
import pytest
from grpclib.const import Status

from extproc import peer
from extproc.conftest import Door
from extproc.peer import BP, FD, PATH, B, N, S, Value, answer, answer_trailers, body, data, head, subset, texts, trailers
from helpers.wait import until

LIMIT_BYTES = 1 << 20
MODES = [N, S, B, BP, FD]
CHAT = json.dumps({"model": "local", "messages": [{"role": "user", "content": "x"}]}).encode()
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\ndata: [DONE]\n\n'


@pytest.fixture(scope="module")
def door(shared):
    return Door(shared, extra=f"\nlimits: {{body: {LIMIT_BYTES}}}\n")


@pytest.fixture(autouse=True)
def nothing_is_left(door):
    before = door.waypost.metrics()
    yield
    until(lambda: not door.left_over(), 10, "nothing left")
    after = door.waypost.metrics()
    assert after.value("waypost_ext_proc_panics_total") == 0
    # Each request is settled, and once.
    begun, settled = (after.value(name) - before.value(name) for name in ("num_requests", "waypost_requests_total"))
    assert begun == settled


def speak(door, steps):
    async def run():
        async with peer.talk(door.ports[9002]) as talk:
            return await asyncio.wait_for(steps(talk), 20)

    return asyncio.run(run())


def counted(door, name):
    return door.waypost.metrics().value(f"waypost_ext_proc_{name}_total")


async def refused(talk):
    """Status and error of an answer that Envoy is to give."""
    kind, said, _ = await talk.hear()
    assert kind == "immediate_response", kind
    return int(said.status.code), json.loads(said.body)["error"]


async def ask(talk, mode, pieces=(CHAT,)):
    """The request half, as an Envoy in this mode has it. Headers set, and the body that goes on."""
    if mode != FD:
        kind, said, _ = await talk.hear()
        assert kind == "request_headers"
        set_ = peer.headers_set(said)
    if mode == N:
        return set_, None
    got = []
    if mode in (B, BP):
        await talk.say(body(b"".join(pieces), True))
        kind, said, _ = await talk.hear()
        return peer.headers_set(said), peer.body_of(said)
    for at, piece in enumerate(pieces):
        await talk.say(body(piece, at == len(pieces) - 1))
        if mode == S:
            kind, said, _ = await talk.hear()
            assert kind == "request_body" and peer.body_of(said) is None
    if mode == S:
        return set_, None
    kind, said, _ = await talk.hear()
    assert kind == "request_headers"
    set_ = peer.headers_set(said)
    while not (got and got[-1][1]):
        kind, said, _ = await talk.hear()
        assert kind == "request_body"
        got.append(peer.body_of(said))
    return set_, b"".join(piece for piece, _ in got)


async def watch(talk, mode, pieces=(b"data: {}\n\n", USAGE)):
    """The response half: passed on as it comes."""
    await talk.say(answer())
    kind, said, _ = await talk.hear()
    assert kind == "response_headers"
    told = peer.headers_set(said)
    for at, piece in enumerate(pieces if mode != N else ()):
        last = at == len(pieces) - 1
        await talk.say(data(piece, last))
        kind, said, _ = await talk.hear()
        assert kind == "response_body"
        assert peer.body_of(said) == ((piece, last) if mode == FD else None)
    return told


@pytest.mark.parametrize("response", MODES)
@pytest.mark.parametrize("request_mode", MODES)
def test_every_phase_in_every_mode(door, request_mode, response):
    async def steps(talk):
        await talk.say(head((request_mode, response)))
        set_, sent = await ask(talk, request_mode)
        told = await watch(talk, response)
        if N not in (request_mode, response):
            assert await talk.hear() is None, "the stream ends when both directions have"
        return set_, sent, told

    set_, sent, told = speak(door, steps)
    assert set_["x-selected-model"] == "local"
    assert set_["x-gateway-destination-endpoint"] in {f"127.0.0.1:{one.port}" for one in door.local}
    if request_mode in (B, BP, FD):
        whole = sent[0] if request_mode != FD else sent
        assert whole == CHAT.replace(b'"local"', b'"sim-local"')
    decision = door.waypost.decision(told["x-waypost-decision-id"])
    assert decision["outcome"] == "completed"
    assert decision["completion_tokens"] == (2 if response != N else None)


@pytest.mark.parametrize("request_mode", MODES)
def test_headers_only(door, request_mode):
    async def steps(talk):
        await talk.say(head((request_mode, S), ends=True))
        return await refused(talk)

    status, error = speak(door, steps)
    assert status == 400 and error["code"]


def test_headers_only_of_a_get(door):
    async def steps(talk):
        await talk.say(head((FD, FD), ends=True, **{":method": "GET", ":path": "/health"}))
        assert await talk.kind() == "request_headers"
        return await watch(talk, FD)

    speak(door, steps)


@pytest.mark.parametrize("request_mode", [B, BP, FD])
def test_trailers_only(door, request_mode):
    async def steps(talk):
        await talk.say(head((request_mode, S)))
        if request_mode != FD:
            assert await talk.kind() == "request_headers"
        await talk.say(trailers())
        return await refused(talk)

    assert speak(door, steps)[0] == 400


def test_a_duplicate_end_and_more_after_the_end(door):
    before = counted(door, "ignored")

    async def steps(talk):
        await talk.say(head((FD, FD)))
        await ask(talk, FD)
        await talk.say(body(b"", True), body(b"more", False), trailers())
        return await watch(talk, FD)

    speak(door, steps)
    assert counted(door, "ignored") == before + 3


def test_ends_said_twice_while_the_decision_is_made(door):
    async def steps(talk):
        await talk.say(head((FD, FD)), body(CHAT, True), body(b"", True), body(b"", True))
        assert await talk.kind() == "request_headers"
        return await watch_after_body(talk)

    async def watch_after_body(talk):
        assert await talk.kind() == "request_body"
        return await watch(talk, FD)

    speak(door, steps)


OUT_OF_ORDER = {
    "body first": [body(CHAT, True)],
    "trailers first": [trailers()],
    "headers twice": [head((FD, FD)), head((FD, FD))],
    "headers after the body": [head((FD, FD)), body(b"x"), head((FD, FD))],
    "response body first": [head((FD, FD)), data(b"x")],
    "response trailers first": [head((FD, FD)), answer_trailers()],
    "response headers twice": [head((FD, FD)), body(CHAT, True), answer(), answer()],
    "nothing known": [peer.v3.ProcessingRequest()],
}


@pytest.mark.parametrize("order", OUT_OF_ORDER)
def test_messages_out_of_order_end_the_stream_with_an_error(door, order):
    before = counted(door, "protocol_errors")

    async def steps(talk):
        await talk.say(*OUT_OF_ORDER[order])
        return await talk.end()

    assert speak(door, steps)[1].status == Status.INVALID_ARGUMENT
    assert counted(door, "protocol_errors") == before + 1


@pytest.mark.parametrize("piece", [b"", b'{"mod'])
def test_a_response_before_the_request_is_whole(door, piece):
    """Envoy answered by itself: the response passes, and the request is over."""

    async def steps(talk):
        await talk.say(head((FD, FD)), body(piece))
        told = await watch(talk, FD)
        await talk.half_close()
        return told, await talk.end()

    told, ended = speak(door, steps)
    assert ended == ([], None)
    assert told["x-waypost-decision-id"]


def test_a_response_before_any_request(door):
    async def steps(talk):
        await talk.say(answer())
        assert await talk.kind() == "response_headers"
        await talk.half_close()
        return await talk.end()

    assert speak(door, steps) == ([], None)


def test_without_a_word_on_modes_they_are_full_duplex(door):
    async def steps(talk):
        await talk.say(head(None))
        await ask(talk, FD)
        return await watch(talk, FD)

    assert door.waypost.decision(speak(door, steps)["x-waypost-decision-id"])["outcome"] == "completed"


@pytest.mark.parametrize("modes", [(5, 0), (0, 5), (77, 0), (0, -1)])
def test_a_mode_that_is_not_served_is_named(door, modes):
    async def steps(talk):
        await talk.say(head(modes))
        return await talk.end()

    error = speak(door, steps)[1]
    assert error.status == Status.UNIMPLEMENTED
    assert f"body mode {modes[0]} of requests or {modes[1]} of responses is not served: use NONE (0)" in error.message
    door.waypost.wait_log("a body mode of Envoy's processing_mode is not served")


@pytest.mark.parametrize(
    "value",
    [
        texts(),
        texts(""),
        texts("10.9.9.9:1"),
        texts("nonsense"),
        Value(string_value=""),
        Value(bool_value=True),
        Value(number_value=float("nan")),
        Value(struct_value=peer.Struct(fields={"a": Value(number_value=1)})),
        Value(list_value=peer.ListValue(values=[Value(number_value=1), Value()])),
    ],
    ids=["empty", "an empty text", "elsewhere", "nonsense", "no text", "bool", "nan", "struct", "numbers"],
)
def test_a_subset_that_holds_no_endpoint_leaves_none(door, value):
    async def steps(talk):
        await talk.say(head((FD, FD), metadata=subset(value)), body(CHAT, True))
        return await refused(talk)

    status, error = speak(door, steps)
    assert (status, error["code"]) == (503, "no_endpoint")


def test_a_subset_is_kept_to(door):
    one = f"127.0.0.1:{door.local[1].port}"

    async def steps(talk):
        await talk.say(head((FD, FD), metadata=subset(texts(one))))
        set_, _ = await ask(talk, FD)
        await watch(talk, FD)
        return set_

    assert speak(door, steps)["x-gateway-destination-endpoint"] == one


def test_metadata_of_other_kinds_is_passed_over(door):
    strange = {"envoy.lb": peer.Struct(fields={"x-gateway-destination-endpoint-served": Value(number_value=1)}), "": peer.Struct()}

    async def steps(talk):
        await talk.say(head((FD, FD), metadata=strange))
        await ask(talk, FD)
        return await watch(talk, FD)

    speak(door, steps)


@pytest.mark.parametrize("request_mode", [B, FD])
@pytest.mark.parametrize("said", [True, False])
def test_a_huge_body(door, request_mode, said):
    """Longer than the limit: by its length, or as it comes."""

    async def steps(talk):
        length = {"content_length": str(LIMIT_BYTES + 1)} if said else {}
        await talk.say(head((request_mode, S), **length))
        if not said:
            if request_mode == B:
                assert await talk.kind() == "request_headers"
            pieces = [LIMIT_BYTES + (1 << 19)] if request_mode == B else [65_536] * 20
            # What is no longer read cannot be said to its end.
            saying = asyncio.create_task(talk.say(*[body(b" " * size) for size in pieces]))
        try:
            return await refused(talk)
        finally:
            said or saying.cancel()

    status, error = speak(door, steps)
    assert (status, error["code"]) == (413, "request_too_large")


POINTS = {
    N: [head((N, S)), answer(), data(b"x"), data(USAGE, True)],
    S: [head((S, S)), body(CHAT[:9]), body(CHAT[9:], True), answer(), data(b"x"), data(USAGE, True)],
    B: [head((B, B)), body(CHAT, True), answer(), data(USAGE, True)],
    BP: [head((BP, BP)), body(CHAT, False), answer(), data(USAGE, True)],
    FD: [head((FD, FD)), body(CHAT[:9]), body(CHAT[9:]), trailers(), answer(), data(b"x"), data(USAGE), answer_trailers()],
}
CUTS = [(mode, at) for mode, said in POINTS.items() for at in range(len(said) + 1)]


@pytest.mark.parametrize("how", ["half_close", "reset"])
@pytest.mark.parametrize("mode, at", CUTS)
def test_the_client_goes_at_every_point(door, mode, at, how):
    async def steps(talk):
        await talk.say(*POINTS[mode][:at])
        await getattr(talk, how)()
        return None if how == "reset" else await talk.end()

    ended = speak(door, steps)
    assert how == "reset" or ended[1] is None, ended


GARBAGE = {
    "no protobuf": b"\x00\x00\x00\x00\x05\xff\xff\xff\xff\xff",
    "a length beyond all": b"\x00\xff\xff\xff\xff",
    "compressed, as nobody said": b"\x01\x00\x00\x00\x02{}",
    "a flag that is none": b"\x07\x00\x00\x00\x00",
    "half of a frame": b"\x00\x00\x00",
    "half of a message": b"\x00\x00\x00\x00\x20abc",
    "a group without an end": b"\x00\x00\x00\x00\x01\x0b",
    "a string that is no text": b"\x00\x00\x00\x00\x06\x12\x04\x0a\x02\x0a\xff",
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("before", [b"", "headers"])
def test_garbage_for_frames(door, garbage, before):
    first = head((FD, FD)).SerializeToString() if before else b""
    first = first and b"\x00" + len(first).to_bytes(4, "big") + first
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "door"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ]  # fmt: skip
    call = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    with socket.create_connection(("127.0.0.1", door.ports[9002]), 5) as sock:
        call.initiate_connection()
        call.send_headers(1, headers)
        call.send_data(1, first + GARBAGE[garbage], end_stream=True)
        sock.sendall(call.data_to_send())
        ended = False
        while not ended and (got := sock.recv(1 << 16)):
            events = call.receive_data(got)
            ended = any(isinstance(event, h2.events.StreamEnded | h2.events.StreamReset) for event in events)
            sock.sendall(call.data_to_send())
    assert ended
    # Whoever asks next is served.
    test_without_a_word_on_modes_they_are_full_duplex(door)
