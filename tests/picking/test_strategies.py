"""Every strategy serves, and how evenly it spreads what comes at once."""

import collections

import pytest

from picking.kit import Engine, at_once, complete, config, decision, tokens

AT_ONCE, ENGINES = 50, 5
#: Strategy to settings, and the most by which the fullest and the idlest of five engines may differ with 50 equal requests.
STRATEGIES = {
    "ttft": ({}, 1),
    "kv": ({}, 1),
    "kv without predictions": ({"strategy": "kv", "predicted": "0s"}, 1),
    "least-load": ({}, 1),
    "round-robin": ({}, 1),
    "scorers": ({"scorers": {"active-requests": 1}}, 1),
    "scorers by tokens": ({"strategy": "scorers", "scorers": {"token-load": 1}}, 1),
    # They go by what the engines last told, so those that seemed idle are overrun until the next reading.
    "scorers of llm-d": ({"strategy": "scorers", "metrics": {"interval": "50ms"}}, 35),
    # Two choices of five: within 6 in all but one of a million runs. By chance alone: nobody is left out.
    "power-of-two": ({}, 6),
    "random": ({}, 25),
}


@pytest.fixture(scope="module")
def engines(shared):
    """Engines that take 0.6 s, so that requests overlap."""
    return [shared.keep(Engine(kv=False, decode_ms=60, batch_factor=0)) for _ in range(ENGINES)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_fifty_at_once(shared, engines, name):
    pick, most = STRATEGIES[name]
    gate = shared.waypost(config(engines, **{"strategy": name, **pick}))
    # Shorter than a block: with nothing cached, load alone decides.
    prompt = tokens(12)
    before = [engine.served() for engine in engines]
    answers = at_once(AT_ONCE, lambda _: complete(gate, prompt, max_tokens=10), AT_ONCE)
    took = [engine.served() - b for engine, b in zip(engines, before, strict=True)]
    assert len(answers) == AT_ONCE == sum(took)
    assert max(took) - min(took) <= most and min(took) > 0, took
    assert gate.metrics().value("waypost_endpoint_requests") == 0, "all that was booked is freed"


def test_equal_prompts_with_blocks_share_the_holder_and_do_not_pile_up(shared, engines):
    gate = shared.waypost(config(engines))
    prompt = tokens(64)
    before = [engine.served() for engine in engines]
    at_once(AT_ONCE, lambda _: complete(gate, prompt, max_tokens=10), AT_ONCE)
    took = [engine.served() - b for engine, b in zip(engines, before, strict=True)]
    assert min(took) > 0 and max(took) - min(took) <= 5, took


def test_a_recommendation_has_one_endpoint_chosen_and_all_shown(shared, engines):
    for strategy in ("kv", "scorers"):
        gate = shared.waypost(config(engines, strategy=strategy))
        placed = decision(gate, {"model": "a", "prompt": tokens(64)})
        assert placed["choice"]["strategy"] == strategy
        counts = collections.Counter(c["chosen"] for c in placed["choice"]["candidates"])
        assert counts == {True: 1, False: ENGINES - 1}
