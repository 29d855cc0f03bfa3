"""Bounds on what an endpoint may have at once, without a queue: refused at once, or another model answers."""

import pytest

from helpers.wait import until
from placing.kit import Later, blocked, chat, config
from resilience.kit import policy


def test_without_a_queue_a_request_is_refused_at_once(gateway, sim):
    engine = sim()
    gate = gateway(config(engine, busy={"requests": 1}))
    first = blocked(gate, engine)
    second = Later(gate, chat())
    answer = second.join()
    assert second.seconds < 0.5
    assert (answer.status, answer.error()["code"]) == (429, "saturated")
    assert answer.headers["x-waypost-refused"] == "busy_requests" and answer.headers["retry-after"] == "1"
    decision = gate.decision(answer.headers["x-waypost-decision-id"])
    assert decision["no_place"] == "busy_requests" and not decision.get("attempts")
    first.leave()
    until(lambda: gate.chat(chat()).status_code == 200, 2, "room again")


def test_the_bound_is_met_and_not_passed(gateway, sim):
    engine = sim()
    gate = gateway(config(engine, busy={"requests": 3}))
    engine.fault("slow_headers=500")
    asking = [Later(gate, chat()) for _ in range(5)]
    assert sorted(one.join().status for one in asking) == [200, 200, 200, 429, 429]


def test_without_a_queue_the_plans_next_model_answers(gateway, sim):
    engine, other = sim(), sim("sim-large")
    made = config(engine, busy={"requests": 1})
    made["models"].append({"name": "n", "model": "sim-large", "endpoints": [other.url]})
    gate = gateway(made | {"policies": [policy("m", "n")]})
    first = blocked(gate, engine)
    answer = gate.chat(chat(model="p"))
    assert (answer.status_code, answer.headers["x-waypost-model"]) == (200, "n")
    assert gate.decision(answer)["no_place"] == "busy_requests"
    assert "x-waypost-refused" not in answer.headers
    assert answer.headers["x-waypost-fallback"] == "saturated"
    first.leave()


@pytest.mark.parametrize(
    "pick", [{"strategy": "kv"}, {"strategy": "least-load"}, {"strategy": "scorers", "scorers": {"queue": 1}}],
    ids=["kv", "least-load", "scorers"],
)  # fmt: skip
def test_a_bound_on_prompt_tokens_counts_what_is_being_read(gateway, sim, pick):
    """Also where the strategy itself does not look at prompts."""
    engine = sim(prefill_ms=3)
    gate = gateway(config(engine, busy={"prefill_tokens": 200}, **pick))
    first = Later(gate, chat("word " * 200, tokens=1))
    until(lambda: engine.stats()["in_flight"], 5, "the first")
    second = gate.chat(chat("other " * 200))
    assert (second.status_code, second.headers["x-waypost-refused"]) == (429, "busy_prefill")
    assert first.join().status == 200
    assert gate.chat(chat("word " * 200)).status_code == 200


def test_a_retry_moves_the_load_to_the_other_endpoint(gateway, sim):
    broken, well = sim(), sim()
    gate = gateway(config(broken, well, strategy="round-robin"))
    broken.fault("drop")
    well.fault("slow_headers=800")
    for _ in range(2):  # one of two goes to the broken one first
        asking = Later(gate, chat())
        until(lambda: well.stats()["in_flight"], 5, "the second try")
        metrics = gate.metrics()
        assert metrics.value("waypost_endpoint_requests", endpoint=broken.url) == 0
        assert metrics.value("waypost_endpoint_requests", endpoint=well.url) == 1
        answer = asking.join()
        assert answer.status == 200
        attempts = gate.decision(answer.headers["x-waypost-decision-id"])["attempts"]
        if len(attempts) == 2:
            break
    tried = [(one["endpoint"], one["result"]) for one in attempts]
    assert tried == [(broken.url, "cut"), (well.url, "ok")]
    assert answer.headers["x-waypost-attempts"] == "2"
