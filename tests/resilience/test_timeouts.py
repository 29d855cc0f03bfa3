"""Timeouts of a model: connect, first byte, idle, total."""

import json

import pytest

from resilience.kit import Clock, config, policy
from resilience.strict import Conn, ask, chat, events


def test_connect(waypost, full_backlog, sim):
    """A host that swallows SYNs costs the connect timeout, not more."""
    gate = waypost(config(full_backlog, timeouts={"connect": "200ms"}))
    clock = Clock()
    answer = ask(gate.port, chat())
    assert clock() < 4
    assert (answer.status, answer.error()["code"]) == (503, "upstream_unreachable")
    result = gate.decision(answer.headers["x-waypost-decision-id"])["attempts"][0]
    assert result["result"] == "connect_failed"
    assert 150 <= result["ms"] < 1000


def test_connect_and_another_endpoint(waypost, full_backlog, sim):
    gate = waypost(config(full_backlog, sim(), timeouts={"connect": "200ms"}))
    for _ in range(8):
        clock = Clock()
        assert ask(gate.port, chat()).status == 200
        assert clock() < 1.5


@pytest.mark.parametrize("fault", ["slow_headers=9000", "stall"])
@pytest.mark.parametrize("stream", [False, True])
def test_first_byte(waypost, sim, fault, stream):
    gate = waypost(config(sim(fault=fault), timeouts={"first_byte": "250ms"}, retry={"max_attempts": 2}))
    clock = Clock()
    answer = ask(gate.port, chat(stream=stream))
    assert 0.45 <= clock() < 2.5
    assert answer.status == 504
    assert (answer.error()["type"], answer.error()["code"]) == ("server_error", "upstream_timeout")


def test_first_byte_leads_to_the_fallback(waypost, sim):
    slow, other = sim(fault="slow_headers=9000"), sim("sim-other")
    settings = config(slow, timeouts={"first_byte": "250ms"})
    settings["models"].append({"name": "other", "model": "sim-other", "endpoint": other.url})
    gate = waypost(settings | {"policies": [policy("m", "other")]})
    answer = ask(gate.port, chat(model="auto"))
    assert (answer.status, answer.headers["x-waypost-model"]) == (200, "other")


def test_first_byte_does_not_hurry_a_stream_that_has_begun(waypost, sim):
    gate = waypost(config(sim(decode_ms=40), timeouts={"first_byte": "500ms"}))
    data = events(ask(gate.port, chat(tokens=25, stream=True)).body)
    assert len(data) >= 25 and not any("error" in d for d in data)


@pytest.mark.parametrize("fault", ["stall=3", "stall=3,split=9"])
def test_idle(waypost, sim, fault):
    """A stall in mid-stream: an error event within the limit and a second, and a connection that lives on."""
    gate = waypost(config(sim(), timeouts={"idle": "400ms"}))
    with Conn(gate.port) as conn:
        conn.post(chat(tokens=9, stream=True), x_sim_fault=fault)
        clock = Clock()
        head = conn.head()
        data = events(conn.answer_rest(head).body)
        assert 0.35 <= clock() < 1.4
        assert len(data) == 5 and data[-1] == "[DONE]"
        assert json.loads(data[-2])["error"]["code"] == "upstream_timeout"
        conn.post(chat(stream=True))
        assert events(conn.answer().body)[-1] == "[DONE]"
    decision = gate.decision(head.headers["x-waypost-decision-id"])
    assert (decision["outcome"], decision["error"]) == ("broken", "upstream_timeout")
    assert gate.metrics().value("waypost_broken_streams_total", model="m", cause="stalled") == 1


def test_idle_is_silence_not_slowness(waypost, sim):
    gate = waypost(config(sim(decode_ms=150), timeouts={"idle": "600ms"}))
    data = events(ask(gate.port, chat(tokens=8, stream=True)).body)
    assert not any("error" in d for d in data)


def test_total(waypost, sim):
    gate = waypost(config(sim(decode_ms=50), timeouts={"total": "800ms"}))
    clock = Clock()
    data = events(ask(gate.port, chat(tokens=100, stream=True)).body)
    assert 0.7 <= clock() < 1.8
    assert data[-1] == "[DONE]"
    assert json.loads(data[-2])["error"]["code"] == "upstream_timeout"
    assert gate.metrics().value("waypost_broken_streams_total", cause="total_timeout") == 1


def test_total_bounds_all_attempts_together(waypost, sim):
    slow = sim(fault="slow_headers=9000")
    gate = waypost(config(slow, timeouts={"first_byte": "5s", "total": "600ms"}))
    clock = Clock()
    answer = ask(gate.port, chat())
    assert clock() < 1.6
    assert (answer.status, answer.error()["code"]) == (504, "upstream_timeout")


def test_timeouts_are_each_models_own(waypost, sim):
    slow, patient = sim(), sim("sim-patient")
    settings = config(slow, timeouts={"first_byte": "200ms"}, retry={"max_attempts": 1})
    settings["models"].append({"name": "patient", "model": "sim-patient", "endpoint": patient.url})
    gate = waypost(settings)
    late = {"x_sim_fault": "slow_headers=700"}
    assert ask(gate.port, chat(), **late).status == 504
    assert ask(gate.port, chat(model="patient"), **late).status == 200
