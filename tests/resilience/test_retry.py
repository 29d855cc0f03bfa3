"""Retries: bounded by the budget, in the plan's order, and never against an engine's own wish."""

import time

from helpers.wait import until
from resilience.kit import Clock, at_once, config, policy
from resilience.strict import ask, chat

MOST_ATTEMPTS = 4  # retry.max_attempts


def test_when_everything_fails_retries_stay_within_the_budget(waypost, sim):
    """At most 1.2 attempts per request, and 10 retries a second besides."""
    engines = [sim(fault="status=503"), sim(fault="status=503")]
    requests, clock = 600, Clock()  # the allowance grows from the start of the process
    gate = waypost(config(*engines))
    answers = at_once([lambda: ask(gate.port, chat()) for _ in range(requests)], 8)
    allowed = 1.2 * requests + 10 * (clock() + 1)
    attempts = sum(engine.stats()["requests"] for engine in engines)
    assert requests < attempts <= allowed
    assert {a.status for a in answers} == {503}
    metrics = gate.metrics()
    assert metrics.value("waypost_retries_total") == attempts - requests
    assert metrics.value("waypost_retries_denied_total") > 0


def test_one_request_makes_a_bounded_number_of_attempts(waypost, sim):
    engine = sim(fault="status=502")
    gate = waypost(config(engine))
    answer = ask(gate.port, chat())
    assert answer.status == 502
    assert engine.stats()["requests"] == MOST_ATTEMPTS
    assert answer.headers["x-waypost-attempts"] == str(MOST_ATTEMPTS)


def test_answers_that_a_retry_cannot_mend_are_handed_on(waypost, sim):
    engine = sim()
    gate = waypost(config(engine))
    for status in (400, 401, 404, 422, 500):
        before = engine.stats()["requests"]
        engine.fault({"status": status, "n": 1})
        assert ask(gate.port, chat()).status == status
        assert engine.stats()["requests"] == before + 1


def test_an_endpoint_that_asks_for_seven_seconds_gets_them(waypost, sim):
    asking, other = sim(fault="status=503,retry_after=7,n=1"), sim()
    gate = waypost(config(asking, other))
    until(lambda: ask(gate.port, chat()).status == 200 and asking.stats()["requests"] == 1, 10, "the 503")
    clock = Clock()
    while clock() < 6.4:
        assert ask(gate.port, chat()).status == 200
        time.sleep(0.02)
    assert asking.stats()["requests"] == 1, "it was asked before its time was over"
    assert gate.metrics().value("waypost_endpoint_aside", endpoint=asking.url) == 0
    until(lambda: ask(gate.port, chat()).status == 200 and asking.stats()["requests"] > 1, 4, "its return")


def test_a_single_endpoint_that_asks_for_a_pause_turns_into_a_429(waypost, sim):
    engine = sim(fault="status=429,retry_after=7,n=1")
    gate = waypost(config(engine))
    first = ask(gate.port, chat())
    assert (first.status, first.headers["retry-after"]) == (429, "7")
    second = ask(gate.port, chat())
    assert second.status == 429
    assert 5 <= int(second.headers["retry-after"]) <= 7
    error = second.error()
    assert (error["type"], error["code"]) == ("rate_limit_error", "upstream_rate_limited")
    assert engine.stats()["requests"] == 1


def test_a_failing_endpoint_is_put_aside_and_probed_back(waypost, sim):
    bad, good = sim(), sim()
    gate = waypost(config(bad, good))

    def send_for(seconds):
        clock = Clock()
        while clock() < seconds:
            assert ask(gate.port, chat()).status == 200
            time.sleep(0.01)

    def aside():
        return gate.metrics().value("waypost_endpoint_aside", endpoint=bad.url)

    bad.fault("drop")
    until(lambda: ask(gate.port, chat()).status == 200 and bad.stats()["requests"] == 1, 5, "the failure")
    assert aside() == 1
    # Time aside is 1 s, then 2 s, each 20 % more or less: 2 probes and no more come within 4.5 s.
    send_for(4.5)
    assert 2 <= bad.stats()["requests"] <= 3
    bad.clear_faults()
    back = until(lambda: send_for(0.1) or not aside(), 7, "a probe that succeeds")
    assert back
    before = bad.stats()["requests"]
    send_for(0.5)
    assert bad.stats()["requests"] > before + 2, "its share of the requests"


def fallback_gateway(waypost, sim, dead_port):
    """Policy p: a, then b, then c; a and b are down."""
    down = [dead_port(), dead_port()]
    last = sim("sim-c")
    settings = config(last)
    settings["models"] = [
        {"name": "a", "endpoint": down[0].url},
        {"name": "b", "endpoint": down[1].url},
        {"name": "c", "model": "sim-c", "endpoint": last.url},
    ]
    return waypost(settings | {"policies": [policy("a", "b", "c")]}), last


def test_fallbacks_are_tried_in_the_plans_order_and_shown(waypost, sim, dead_port):
    gate, _ = fallback_gateway(waypost, sim, dead_port)
    answer = ask(gate.port, chat(model="auto"))
    assert answer.status == 200
    assert answer.json()["model"] == "sim-c"
    headers = answer.headers
    assert headers["x-waypost-model"] == "c"
    assert headers["x-waypost-fallback"] == "upstream_failed"
    assert headers["x-waypost-attempts"] == "3"
    decision = gate.decision(headers["x-waypost-decision-id"])
    tried = [(a["model"], a["result"]) for a in decision["attempts"]]
    assert tried == [("a", "connect_failed"), ("b", "connect_failed"), ("c", "ok")]
    assert [step["model"] for step in decision["plan"]] == ["a", "b", "c"]
    assert (decision["model"], decision["fallback"], decision["status"]) == ("c", "upstream_failed", 200)
    assert gate.metrics().value("waypost_fallbacks_total", policy="p", reason="upstream_failed") == 1


def test_a_model_put_aside_is_passed_over_at_once(waypost, sim, dead_port):
    gate, _ = fallback_gateway(waypost, sim, dead_port)
    ask(gate.port, chat(model="auto"))
    answer = ask(gate.port, chat(model="auto"))
    decision = gate.decision(answer.headers["x-waypost-decision-id"])
    assert [a["model"] for a in decision["attempts"]] == ["c"]
    assert decision["fallback"] == "upstream_failed"
    assert gate.metrics().value("waypost_fallbacks_total", policy="p", reason="upstream_failed") == 2


def test_when_the_last_fallback_is_down_too_the_client_is_told(waypost, sim, dead_port):
    gate, last = fallback_gateway(waypost, sim, dead_port)
    last.stop()
    answer = ask(gate.port, chat(model="auto"))
    assert answer.status == 503
    error = answer.error()
    assert (error["type"], error["code"]) == ("server_error", "upstream_unreachable")
    assert "refused" in error["message"].lower()
    attempts = gate.decision(answer.headers["x-waypost-decision-id"])["attempts"]
    assert len(attempts) == MOST_ATTEMPTS
    assert {a["model"] for a in attempts} == {"a", "b", "c"}


def test_an_explicit_model_has_no_fallback(waypost, sim, dead_port):
    """Who names a model gets that model or an error."""
    gate, last = fallback_gateway(waypost, sim, dead_port)
    answer = ask(gate.port, chat(model="a"))
    assert (answer.status, answer.error()["code"]) == (503, "upstream_unreachable")
    assert last.stats()["requests"] == 0
