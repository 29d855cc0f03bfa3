"""The guard behind a real Envoy: refused, late, and not seen at all."""

import pytest

from guard.kit import ATTACK, FINE, LONG_AND_DOUBTFUL, refused
from helpers.web import web


def ask(front, text, model="auto", **headers):
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 5}
    return web.post(f"{front.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


@pytest.mark.parametrize("mode", ["full-duplex", "buffered"])
def test_attacks_are_refused_in_openais_shape(front, mode):
    front = front(mode, extra="\nguard: {}\n")
    for model in ("auto", "local", "public"):
        decision = front.waypost.decision(refused(ask(front, ATTACK, model)))
        assert decision["guard"]["outcome"] == "refused" and decision["attempts"] == []
        answer = ask(front, FINE, model)
        assert answer.status_code == 200
        assert front.waypost.decision(answer)["guard"]["outcome"] == "passed"
    assert front.bookings() == 0


@pytest.mark.parametrize("on_failure, status", [("pass", 200), ("refuse", 403)])
def test_a_check_that_is_late_is_seen_and_a_choice(front, on_failure, status):
    hurried = lambda text: text.replace("ext_proc:\n", "ext_proc:\n  deadline: 0.1ms\n")  # noqa: E731
    front = front("full-duplex", extra=f"\nguard: {{on_failure: {on_failure}}}\nencoder: {{deadline: 20s}}\n", edit=hurried)
    answer = ask(front, LONG_AND_DOUBTFUL)
    assert answer.status_code == status, answer.text
    ident = answer.headers["x-waypost-decision-id"]
    assert front.waypost.decision(ident)["guard"] == {"outcome": "late"}
    assert front.waypost.metrics().value("waypost_guard_total", outcome="late") == 1


@pytest.mark.parametrize("on_failure, status", [("pass", 200), ("refuse", 403)])
def test_a_body_that_is_not_seen_is_a_choice_too(front, on_failure, status):
    front = front("headers-only", extra=f"\nguard: {{on_failure: {on_failure}}}\n")
    answer = ask(front, ATTACK, "sim-local")
    assert answer.status_code == status, answer.text
    assert front.waypost.decision(answer.headers["x-waypost-decision-id"])["guard"] == {"outcome": "unseen"}


def test_debug_tells_what_matched(front):
    front = front("full-duplex")
    prompt = "What is the derivative of x^3 + 2x?"
    plain, more = ask(front, prompt), ask(front, prompt, **{"x-vsr-debug": "true"})
    assert plain.headers["x-vsr-selected-category"] == plain.headers["x-vsr-selected-decision"] == "math"
    assert plain.headers["x-vsr-injected-system-prompt"] == "false"
    assert "x-vsr-matched-domains" not in plain.headers and more.headers["x-vsr-matched-domains"] == "math"
    unknown = ask(front, prompt, "nobody")
    assert unknown.status_code == 404 and unknown.headers["x-vsr-response-path"] == "error"
    assert not any(name.startswith("x-vsr-selected") for name in unknown.headers)
