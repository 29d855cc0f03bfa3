"""Auto policies over learned outcomes: the cheapest model that is good enough, and the Decision says why."""

import shutil

import pytest

from helpers.configs import considered, user
from helpers.mocks import sse_events
from helpers.process import run
from helpers.wait import until
from auto.kit import EASY, HARD, PRICES, png, with_image


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


def config(upstream, learned, **auto):
    spec = {"models": ["small", "large"], "outcomes": str(learned), **auto}
    models = [
        {"name": name, "endpoint": upstream.url, "price": price, "accepts": accepts}
        for (name, price), accepts in zip(PRICES.items(), (["tools"], ["tools", "images", "json_schema"]))
    ]
    policy = {"name": "p", "classifier": {"auto": spec}, "default": "large", "classify_timeout": "60s"}
    return {"models": models, "policies": [policy], "encoder": {"threads": 1, "deadline": "60s"}}


@pytest.fixture(scope="module")
def gateway(shared, upstream, learned):
    return shared.waypost(config(upstream, learned))


def decide(gateway, messages, **more):
    answer = gateway.chat({"model": "auto", "messages": messages, **more})
    assert answer.status_code == 200, answer.text
    return gateway.decision(answer)


def test_easy_goes_to_the_cheap_model_and_hard_to_the_good_one(gateway):
    easy, hard = decide(gateway, user(EASY)), decide(gateway, user(HARD))
    assert easy["plan"] == considered(("small", "cheapest_good_enough"), ("large", "fallback"))
    assert hard["plan"] == considered(("large", "best_quality"), ("small", "fallback"))
    assert (easy["model"], hard["model"]) == ("small", "large")
    assert easy["fallback"] is None and hard["fallback"] is None


def test_the_decision_shows_what_was_expected_of_each(gateway):
    d = decide(gateway, user(HARD))
    small, large = d["candidates"]
    assert (small["model"], large["model"]) == ("small", "large")
    assert 0 <= small["quality"] < large["quality"] <= 1
    assert large["cost_usd"] > 10 * small["cost_usd"] > 0
    assert d["classifier"] == "auto" and d["tier"] in ("ngram", "encoder") and d["label"] is None
    assert d["classify_ms"] > 0


def test_latency_is_what_was_observed(gateway):
    decide(gateway, user(EASY))
    d = until(
        lambda: next((d for d in [decide(gateway, user(EASY))] if d["candidates"][0]["latency_ms"] is not None), None),
        what="an observed latency",
    )
    assert 0 < d["candidates"][0]["latency_ms"] < 5000


def test_streams_that_tell_no_tokens_are_observed_too(waypost, upstream, learned):
    gateway = waypost(config(upstream, learned))
    upstream.reply(headers=[("content-type", "text/event-stream")], chunks=list(sse_events("m", None)))
    assert decide(gateway, user(EASY), stream=True)["candidates"][0]["latency_ms"] is None
    upstream.default()
    until(lambda: decide(gateway, user(EASY))["candidates"][0]["latency_ms"] is not None, what="an observed latency")


def test_what_a_request_needs_comes_first(gateway):
    d = decide(gateway, with_image(EASY, png()))
    assert d["model"] == "large" and d["unfit"] == considered(("small", "no_images"))
    assert [c["model"] for c in d["candidates"]] == ["large"], "the other is no candidate"
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    assert decide(gateway, user(EASY), response_format=schema)["model"] == "large"


@pytest.mark.parametrize(
    "rule, easy, hard",
    [
        ({"tolerance": 1}, ("small", "cheapest_good_enough"), ("small", "cheapest_good_enough")),
        ({"budget": 1e-9}, ("small", "over_budget"), ("small", "over_budget")),
        ({"budget": 1}, None, ("large", "within_budget")),
        ({"maximize": "quality - 1000000 * cost"}, ("small", "objective"), ("small", "objective")),
        ({"maximize": "quality - 1 * cost"}, None, ("large", "objective")),
        (
            {"thresholds": {"small": 0.6, "large": 0.5}, "costs": {"small": 0.3, "large": 1}},
            ("small", "cost_optimized"),
            ("large", "cost_optimized"),
        ),
        ({"thresholds": {"small": 1.0, "large": 1.1}}, None, ("large", "threshold_fallback")),
    ],
)
def test_other_rules(waypost, upstream, learned, rule, easy, hard):
    gateway = waypost(config(upstream, learned, **rule))
    for messages, expected in ((user(EASY), easy), (user(HARD), hard)):
        if expected:
            [first, *_] = decide(gateway, messages)["plan"]
            assert (first["model"], first["reason"]) == expected
    if hard[1] in ("over_budget", "threshold_fallback"):
        d = decide(gateway, user(HARD))
        assert d["fallback"] == hard[1], "what the rule had to give up is a fallback, and counted"
        assert gateway.metrics().value("waypost_fallbacks_total", policy="p", reason=hard[1]) >= 1


def test_names_may_differ(waypost, upstream, learned):
    text = config(upstream, learned, models=["cheap", "good"], names={"small": "cheap", "large": "good"})
    text["models"][0]["name"], text["models"][1]["name"] = "cheap", "good"
    text["policies"][0]["default"] = "good"
    assert decide(waypost(text), user(HARD))["model"] == "good"


def test_a_model_nobody_learned_about_is_an_error_at_load(upstream, learned, tmp_path):
    text = config(upstream, learned)
    text["models"].append({**text["models"][1], "name": "other"})
    text["policies"][0]["classifier"]["auto"]["models"].append("other")
    import yaml

    file = tmp_path / "waypost.yaml"
    file.write_text(yaml.safe_dump(text))
    done = run("check", str(file))
    assert done.returncode == 1
    assert "policy `p`: the outcomes know nothing of `other`, only of large, small" in done.stderr, done.stderr


def test_check_says_what_training_found(upstream, learned, tmp_path):
    import yaml

    file = tmp_path / "waypost.yaml"
    file.write_text(yaml.safe_dump(config(upstream, learned)))
    done = run("check", str(file))
    assert done.returncode == 0, done.stderr
    assert "policy  p  chooses among small, large by" in done.stdout


def test_outcomes_are_read_again_when_they_change(waypost, upstream, learned, tmp_path):
    folder = tmp_path / "learned"
    shutil.copytree(learned, folder)
    gateway = waypost(config(upstream, folder))
    assert decide(gateway, user(HARD))["model"] == "large"
    file = folder / "outcomes.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    gateway.wait_log("configuration refused")
    assert decide(gateway, user(HARD))["model"] == "large", "the old one stays"
    file.write_bytes(whole)
    gateway.wait_log("configuration applied")


def test_it_falls_back_to_the_next_best(waypost, dead_port, upstream, learned):
    text = config(upstream, learned)
    text["models"][0]["endpoint"] = dead_port().url
    d = decide(waypost(text), user(EASY))
    assert (d["model"], d["fallback"]) == ("large", "upstream_failed")
    assert d["attempts"][0]["model"] == "small"
