"""Rules, tier 0, tier 1: which of them answered, why, and how the metrics count it."""

import pytest

from helpers.configs import user
from helpers.process import run

EXAMPLES = {
    "refund": ["I want my money back", "please refund my order", "can I return this for a refund"],
    "card": ["my card was stolen", "I lost my credit card", "block my card"],
}
REFUND = "please give me my money back"
PATIENT = {"threads": 1, "deadline": "30s"}


def config(upstream, **sections):
    models = [{"name": name, "endpoint": upstream.url} for name in ("small", "large")]
    policies = [
        {
            "name": "p",
            "rules": [
                {"label": "card", "keywords": ["never said"]},
                {"label": "refund", "keywords": ["refund policy"], "regex": r"^RMA-\d+"},
            ],
            "classifier": {"examples": EXAMPLES, "threshold": 0.6},
            "routes": {"refund": "large", "card": "small"},
            "default": "small",
            "classify_timeout": "30s",
        },
        {"name": "hard", "classifier": "complexity", "routes": {"Reasoning": "large"}, "default": "small"},
    ]
    return {"models": models, "policies": policies, "encoder": PATIENT} | sections


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def gateway(shared, upstream):
    return shared.waypost(config(upstream))


def ask(gateway, text, model="p"):
    answer = gateway.chat({"model": model, "messages": user(text)})
    assert answer.status_code == 200, answer.text
    return gateway.decision(answer), answer


@pytest.mark.parametrize("text", ["what is your Refund  policy?", "RMA-77 arrived"])
def test_a_rule_stands_before_the_classifier(gateway, text):
    decision, answer = ask(gateway, text)
    assert (decision["tier"], decision["rule"], decision["confidence"]) == ("rule", 2, 1.0)
    assert (decision["label"], decision["model"]) == ("refund", "large")
    assert "encoder" not in decision and "classifier" not in decision
    assert answer.headers["x-waypost-tier"] == "rule"


def test_examples_are_compared_by_the_encoder_and_what_resembles_none_takes_the_default(gateway):
    decision, answer = ask(gateway, REFUND)
    assert (decision["label"], decision["tier"], decision["classifier"]) == ("refund", "encoder", "examples")
    assert (decision["escalated_because"], decision["encoder"]) == ("similarity", "answered")
    assert 0 < decision["encoder_ms"] <= decision["classify_ms"]
    assert answer.headers["x-waypost-tier"] == "encoder"
    other, _ = ask(gateway, "Explain how photosynthesis works in algae.")
    assert (other["model"], other["fallback"]) == ("small", "low_confidence")
    metrics = gateway.metrics()
    labels = {"classifier": "examples", "because": "similarity", "outcome": "answered"}
    assert metrics.value("waypost_encoder_total", **labels) >= 2
    assert metrics.value("waypost_encoder_seconds_count") >= 2
    assert metrics.value("waypost_encoder_queue_depth") == 0
    assert metrics.value("waypost_fallbacks_total", policy="p", reason="low_confidence") >= 1


@pytest.mark.parametrize("encoder, outcome", [({"threads": 0}, "off"), ({"deadline": "0.001ms"}, "late")])
def test_without_an_answer_in_time_tier_0_stands(waypost, upstream, encoder, outcome):
    gateway = waypost(config(upstream, encoder=encoder))
    decision, _ = ask(gateway, REFUND)
    assert (decision["label"], decision["tier"], decision["encoder"]) == ("refund", "ngram", outcome)
    labels = {"classifier": "examples", "because": "similarity", "outcome": outcome}
    assert gateway.metrics().value("waypost_encoder_total", **labels) == 1


def test_complexity_tells_its_dimensions(gateway):
    decision, _ = ask(gateway, "Prove step by step that the square root of two is irrational.", "hard")
    assert set(decision["dimensions"]) == {
        "creativity", "reasoning", "contextual_knowledge", "domain_knowledge", "few_shots", "constraints",
    }  # fmt: skip
    assert 0 <= decision["difficulty"] <= 1
    assert decision["dimensions"]["reasoning"] == decision["probabilities"]["Reasoning"]


def test_check_says_what_decides_and_what_cannot(tmp_path, upstream):
    file = tmp_path / "waypost.yaml"
    file.write_text(f"""
models: [{{name: small, endpoint: "{upstream.url}"}}]
policies:
  - name: p
    rules: [{{label: math, keywords: [algebra]}}]
    classifier: domain
    routes: {{math: small}}
    default: small
""")
    good = run("check", str(file))
    assert good.returncode == 0, good.stderr
    assert "policy  p  1 of 14 labels routed, by 1 rule, then embedded:domain" in good.stdout
    file.write_text(file.read_text().replace("keywords: [algebra]", "regex: '('"))
    bad = run("check", str(file))
    assert bad.returncode == 1 and "policy `p`" in bad.stderr and "rule 1" in bad.stderr
