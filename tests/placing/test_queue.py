"""Requests that wait while every endpoint is busy: in which order, for how long, and that nobody is forgotten."""

import json
import time

import pytest

from helpers.wait import until
from placing.kit import Later, asked, blocked, chat, config, waiting
from resilience.kit import at_once, median
from resilience.strict import ask


def pool(*engines, requests=256, deadline="20s", busy=1, **queue):
    return config(*engines, busy={"requests": busy}, queue={"requests": requests, "deadline": deadline, **queue})


@pytest.fixture
def engine(sim):
    """An engine that records."""
    return sim(record=True)


def line(gate, names):
    """Requests that stand in line one after the other: name, and headers."""
    out = []
    for name, headers in names:
        out.append(Later(gate, chat(name), **headers))
        waiting(gate, len(out))
    return out


def order(engine):
    """What was asked of an engine after the first."""
    return [json.loads(one["body"])["messages"][0]["content"] for one in asked(engine)][1:]


def priority(value):
    return {"x_waypost_priority": value}


def test_first_come_first_served(gateway, engine):
    gate = gateway(pool(engine))
    first = blocked(gate, engine)
    names = list("abcdefgh")
    rest = line(gate, [(name, {}) for name in names])
    first.leave()
    assert {one.join().status for one in rest} == {200}
    assert order(engine) == names
    decision = gate.decision(rest[0].answer.headers["x-waypost-decision-id"])
    assert decision["placements"][0]["queued_ms"] > 0


def test_higher_priorities_go_first_by_number_and_by_name(gateway, engine):
    gate = gateway(pool(engine, priorities={"batch": -5, "urgent": 50}))
    first = blocked(gate, engine)
    said = [("batch", "batch"), ("none", None), ("ten", "10"), ("urgent", "urgent"), ("unknown", "what?"), ("minus", "-1")]
    rest = line(gate, [(name, priority(value) if value else {}) for name, value in said])
    first.leave()
    assert {one.join().status for one in rest} == {200}
    assert order(engine) == ["urgent", "ten", "none", "unknown", "minus", "batch"]


def test_callers_take_turns(gateway, engine):
    gate = gateway(pool(engine))
    first = blocked(gate, engine)
    said = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    rest = line(gate, [(name, {"x_waypost_caller": name[0]}) for name in said])
    first.leave()
    assert {one.join().status for one in rest} == {200}
    assert order(engine) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_at_the_deadline_it_is_refused(gateway, engine):
    gate = gateway(pool(engine, deadline="150ms"))
    first = blocked(gate, engine)
    late = []
    for _ in range(5):
        asking = Later(gate, chat())
        answer = asking.join()
        assert (answer.status, answer.error()["code"]) == (429, "saturated")
        assert answer.headers["x-waypost-refused"] == "queue_deadline" and answer.headers["retry-after"] == "1"
        late.append(asking.seconds * 1000 - 150)
    print("late by ms:", sorted(late))
    assert median(late) < 20 and min(late) >= 0, late
    assert gate.metrics().value("waypost_queue_refused_total", model="m", reason="queue_deadline") == 5
    first.leave()
    assert gate.chat(chat()).status_code == 200


def test_a_full_queue_refuses_at_once(gateway, engine):
    gate = gateway(pool(engine, requests=1))
    first = blocked(gate, engine)
    (second,) = line(gate, [("second", {})])
    times = []
    for _ in range(15):
        start = time.monotonic()
        answer = ask(gate.port, chat())
        times.append(1000 * (time.monotonic() - start))
        assert (answer.status, answer.headers["x-waypost-refused"]) == (429, "queue_full")
    print("refused after ms:", sorted(times))
    assert median(times) < 100, times
    assert gate.metrics().value("waypost_queue_refused_total", model="m", reason="queue_full") == 15
    first.leave()
    assert second.join().status == 200


def test_in_a_full_queue_the_newest_of_low_priority_gives_way(gateway, engine):
    gate = gateway(pool(engine, requests=2))
    first = blocked(gate, engine)
    old, new = line(gate, [("old", {}), ("new", {})])
    urgent = Later(gate, chat("urgent"), **priority("1"))
    answer = new.join()
    assert (answer.status, answer.headers["x-waypost-refused"]) == (429, "queue_full")
    first.leave()
    assert [one.join().status for one in (urgent, old)] == [200, 200]
    assert order(engine) == ["urgent", "old"]


def test_negative_priorities_are_shed_when_the_pool_is_saturated(gateway, engine):
    gate = gateway(pool(engine, busy=5))
    many = [Later(gate, chat(), x_sim_fault="slow_headers=25000") for _ in range(5)]
    until(lambda: engine.stats()["in_flight"] == 5, 5, "all five")
    shed = ask(gate.port, chat(), x_waypost_priority="-1")
    assert (shed.status, shed.headers["x-waypost-refused"]) == (429, "shed")
    (waits,) = line(gate, [("waits", priority("0"))])
    [one.leave() for one in many]
    assert waits.join().status == 200


def test_a_client_that_leaves_frees_its_place(gateway, engine):
    gate = gateway(pool(engine, requests=1))
    first = blocked(gate, engine)
    (gone,) = line(gate, [("gone", {})])
    gone.leave()
    waiting(gate, 0)
    (stays,) = line(gate, [("stays", {})])
    first.leave()
    assert stays.join().status == 200
    assert order(engine) == ["stays"]


def test_who_waits_goes_on_the_moment_a_place_is_free(gateway, engine):
    """Not at a tick: the waits of many in a row would add up."""
    gate = gateway(pool(engine))
    start = time.monotonic()
    answers = at_once([lambda: ask(gate.port, chat())] * 60, 20)
    seconds = time.monotonic() - start
    assert {answer.status for answer in answers} == {200}
    assert seconds < 60 * 0.02, "a tick of 20 ms each"


def test_nobody_is_forgotten(gateway, sim):
    engines = sim(decode_ms=2), sim(decode_ms=2)
    gate = gateway(pool(*engines, busy=2))
    answers = at_once([lambda: ask(gate.port, chat(), timeout=30)] * 200, 50)
    assert {answer.status for answer in answers} == {200}
    assert all(engine.stats()["in_flight"] == 0 for engine in engines)
    assert gate.metrics().value("waypost_queue_refused_total") == 0


def test_the_queue_goes_on_over_a_reload(gateway, engine):
    made = pool(engine)
    gate = gateway(made)
    first = blocked(gate, engine)
    (second,) = line(gate, [("second", {})])
    gate.write_config(made | {"shutdown": {"grace": "3s"}})
    until(lambda: gate.metrics().value("waypost_config_reloads_total", result="applied") >= 1, 5, "the reload")
    first.leave()
    assert second.join().status == 200
