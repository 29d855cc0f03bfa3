"""SGLang's way: both engines get the request at once and meet in a room."""

import json

import pytest

from helpers.wait import until
from placing.kit import LONG, Later, asked, chat, endpoint, header, placed, split

FIELDS = {"bootstrap_host", "bootstrap_port", "bootstrap_room"}


def pool(reader, writer, **more):
    made = split([], [], connector="sglang", **more)
    entries = [endpoint(reader, role="prefill", bootstrap_port=9876), endpoint(writer, role="decode")]
    made["models"][0]["endpoints"] = entries
    return made


@pytest.mark.parametrize("stream", [True, False])
def test_both_get_the_same_request_with_the_same_room(gateway, sim, stream):
    reader, writer = sim(role="prefill", record=True), sim(role="decode", record=True)
    gate = gateway(pool(reader, writer))
    rooms = set()
    for i in range(3):
        answer = gate.chat(chat(f"{i} {LONG}", 5, stream=stream, seed=9007199254740993))
        assert answer.status_code == 200
        assert placed(gate, answer)["pair"] == "split"
        until(lambda n=i: len(asked(reader)) == n + 1, 2, "the prefill")
        read, written = asked(reader)[-1], asked(writer)[-1]
        assert read["body"] == written["body"]
        assert header(read, "x-request-id") == header(written, "x-request-id") != []
        body = json.loads(written["body"])
        assert (body["bootstrap_host"], body["bootstrap_port"]) == ("127.0.0.1", 9876)
        assert 0 <= body["bootstrap_room"] < 2**63
        rooms.add(body["bootstrap_room"])
        rest = {key: value for key, value in body.items() if key not in FIELDS}
        assert rest == chat(f"{i} {LONG}", 5, stream=stream, seed=9007199254740993, model="sim-small")
    assert len(rooms) == 3


def test_they_run_at_once(gateway, sim):
    reader, writer = sim(role="prefill"), sim(role="decode")
    gate = gateway(pool(reader, writer))
    for engine in (reader, writer):
        engine.fault("slow_headers=800")
    asking = Later(gate, chat(LONG))
    until(lambda: reader.stats()["in_flight"] and writer.stats()["in_flight"], 0.75, "both at work")
    assert asking.join().status == 200
    assert asking.seconds < 1.55, "not one after the other"


@pytest.mark.parametrize(
    ("fault", "word"), [("slow_headers=100,status=503", "broken"), ("slow_headers=100,drop", "unreachable"), ("slow_headers=3000", "timeout")]
)
def test_when_the_prefill_fails_decode_is_asked_again_without_the_room(gateway, sim, fault, word):
    reader, writer = sim(role="prefill"), sim(role="decode", record=True)
    gate = gateway(pool(reader, writer, prefill_timeout="300ms" if word == "timeout" else "5s"))
    reader.fault(fault)
    writer.fault("slow_headers=9000,n=1")  # as one that waits for its prefill
    answer = gate.chat(chat(LONG, 5))
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 5)
    waits, reads = asked(writer)
    assert json.loads(waits["body"]).keys() >= FIELDS and not json.loads(reads["body"]).keys() & FIELDS
    assert gate.metrics().value("waypost_prefill_fallbacks_total", model="m", reason=word) == 1
    assert placed(gate, answer)["prefill"]["result"] == word


def test_a_prefill_that_fails_after_the_answer_began_changes_nothing(gateway, sim):
    reader, writer = sim(role="prefill"), sim(role="decode", decode_ms=20, record=True)
    gate = gateway(pool(reader, writer))
    reader.fault("slow_headers=150,status=503")
    answer = gate.chat(chat(LONG, 20, stream=True))
    assert answer.status_code == 200 and answer.text.endswith("data: [DONE]\n\n")
    assert len(asked(writer)) == 1


def test_a_client_that_leaves_lets_the_prefill_finish(gateway, sim):
    reader, writer = sim(role="prefill", prefill_ms=2), sim(role="decode")
    gate = gateway(pool(reader, writer))
    writer.fault("slow_headers=5000")
    asking = Later(gate, chat(LONG))
    until(lambda: reader.stats()["in_flight"] and writer.stats()["in_flight"], 2, "both at work")
    asking.leave()
    until(lambda: writer.stats()["aborted"] == 1, 1, "the decode engine's notice")
    until(lambda: not reader.stats()["in_flight"], 2, "the end of the prefill")
    assert reader.stats()["aborted"] == 0 and reader.stats()["handed"]["bootstrapped"] == 1
