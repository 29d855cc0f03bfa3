"""Engines that fail under load: nothing is lost while another endpoint or a fallback lives."""

import json
import signal

import pytest

from resilience.kit import Clock, at_once, config, policy
from resilience.strict import Conn, ask, chat, events

CLIENTS = 12
REQUESTS = 240

# Faults of one of three endpoints, from which every request can be saved.
RECOVERABLE = [
    "status=429",
    "status=502",
    "status=503",
    "status=504",
    "drop",
    "drop,rst",
    "cut",
    "slow_headers=5000",
    "stall",
]


@pytest.fixture(scope="module")
def engines(shared):
    """Three endpoints of one model, and another model."""
    return [shared.sim() for _ in range(3)], shared.sim("sim-other")


def gateway(waypost, engines):
    three, other = engines
    for engine in [*three, other]:
        engine.clear_faults()
    settings = config(*three, timeouts={"connect": "500ms", "first_byte": "500ms", "idle": "500ms"})
    settings["models"].append({"name": "other", "model": "sim-other", "endpoint": other.url})
    return waypost(settings | {"policies": [policy("m", "other")]})


def load(gate, requests=REQUESTS, stream=False, midway=None):
    """So many requests from a dozen clients; `midway` is called when a third has been answered."""
    answers = []

    def one(number):
        if midway and number == requests // 3:
            midway()
        answer = ask(gate.port, chat(model="auto", tokens=5, stream=stream), timeout=20)
        answers.append(answer)
        return answer

    return at_once([lambda n=n: one(n) for n in range(requests)], CLIENTS)


def assert_nothing_lost(answers):
    lost = [a for a in answers if a.status != 200]
    assert not lost, f"{len(lost)} of {len(answers)}: {lost[0]}"
    for answer in answers:
        assert answer.json()["choices"][0]["message"]["content"].startswith("[simulated]")


@pytest.mark.parametrize("fault", [*RECOVERABLE, "cut=1", "cut=1,rst", "stall=1"])
def test_one_endpoint_of_three_fails(waypost, engines, fault):
    """`cut=1` and `stall=1` break inside a whole answer, of which the client has not seen a byte."""
    gate = gateway(waypost, engines)
    engines[0][0].fault(fault)
    assert_nothing_lost(load(gate))
    assert engines[0][0].stats()["faults_applied"] > 0


@pytest.mark.parametrize("fault", RECOVERABLE)
def test_a_stream_that_has_not_begun_is_saved(waypost, engines, fault):
    gate = gateway(waypost, engines)
    engines[0][0].fault(fault)
    for answer in load(gate, REQUESTS // 2, stream=True):
        assert answer.status == 200, answer
        data = events(answer.body)
        assert data[-1] == "[DONE]"
        assert not any("error" in json.loads(d) for d in data[:-1]), data


@pytest.mark.parametrize("fault", ["status=503", "drop", "stall"])
def test_a_model_whose_endpoints_all_fail_yields_to_its_fallback(waypost, engines, fault):
    """The first requests find out; the others must not need a retry each, or the retry budget refuses them."""
    gate = gateway(waypost, engines)
    for engine in engines[0]:
        engine.fault(fault)
    clock = Clock()
    for _ in range(30):
        answer = ask(gate.port, chat(model="auto"))
        assert answer.status == 200, answer
        assert answer.headers["x-waypost-model"] == "other"
        assert answer.headers["x-waypost-fallback"] == "upstream_failed"
        assert "x-waypost-refused" not in answer.headers
        assert clock() < 10


def test_an_engine_that_refuses_connections_for_a_while(waypost, engines):
    gate = gateway(waypost, engines)
    hang_up = {"refuse": 700, "hang_up": True}
    assert_nothing_lost(load(gate, midway=lambda: engines[0][0].fault(hang_up)))


def test_an_engine_killed_under_load(waypost, sim):
    """kill -9 with answers half way: whole answers are saved, and the dead engine is left alone."""
    engines = [sim(decode_ms=2) for _ in range(3)]
    gate = waypost(config(*engines))
    answers = at_once(
        [
            lambda n=n: engines[0].signal(signal.SIGKILL)
            if n == REQUESTS // 3
            else ask(gate.port, chat(tokens=10), timeout=20)
            for n in range(REQUESTS)
        ],
        CLIENTS,
    )
    assert_nothing_lost([a for a in answers if a])
    assert gate.metrics().value("waypost_endpoint_aside", endpoint=engines[0].url) == 1


def test_streams_of_a_killed_engine_end_with_an_error_event(waypost, sim):
    """The client has seen bytes, so nothing can be repeated; but it is told, in the stream's own form."""
    engine = sim(decode_ms=20)
    gate = waypost(config(engine))
    conns = [Conn(gate.port) for _ in range(CLIENTS)]
    heads = []
    for conn in conns:
        conn.post(chat(tokens=500, stream=True))
        heads.append(conn.head())
        next(iter(conn.pieces(heads[-1])))
    engine.signal(signal.SIGKILL)
    for conn, head in zip(conns, heads, strict=True):
        with conn:
            data = events(b"".join(piece for _, piece in conn.pieces(head)))
            assert data[-1] == "[DONE]"
            error = json.loads(data[-2])["error"]
            assert (error["type"], error["code"]) == ("server_error", "upstream_error")
    broken = gate.metrics().value("waypost_broken_streams_total", model="m", cause="cut")
    assert broken == CLIENTS


@pytest.mark.parametrize("fault", ["cut=3", "cut=3,rst", "cut=3,split=5", "stall=3", "stall=3,split=7"])
def test_streams_cut_after_the_first_byte_under_load(waypost, engines, fault):
    gate = gateway(waypost, engines)
    engines[0][0].fault(fault)
    whole = broken = 0
    for answer in load(gate, 60, stream=True):
        data = events(answer.body)
        assert data[-1] == "[DONE]"
        errors = [json.loads(d)["error"] for d in data[:-1] if "error" in json.loads(d)]
        if errors:
            assert len(errors) == 1 and len(data) == 5, data
            assert errors[0]["code"] == ("upstream_timeout" if "stall" in fault else "upstream_error")
            broken += 1
        else:
            whole += 1
    assert whole and broken
