"""A policy by decisions and its reasoning through a real Envoy; the engine is the recorder, a mock."""

import json

import pytest

from helpers.web import web

POLICY = """
  - name: semantic
    classifier:
      decisions:
        signals:
          - {name: science, domain: [math, physics]}
          - {name: urgent, keywords: [urgent, asap]}
        decide:
          - {name: hard, when: {all: [science, {not: urgent}]}}
    routes: {hard: thinker}
    reasoning: {hard: high}
    default: local
"""


@pytest.mark.parametrize("mode", ["full-duplex", "buffered"])
def test_signals_decide_and_the_model_is_told_to_think(front, shared, mode):
    engine = shared.recorder()
    thinker = f"models:\n  - {{name: thinker, endpoint: '{engine.url}', reasoning: {{chat_template: enable_thinking}}}}\n"
    front = front(mode, extra=POLICY, edit=lambda text: text.replace("models:\n", thinker, 1))
    before, after = b'{"seed":9007199254740993, "chat_template_kwargs" : {', b' "custom" : 1.50 },"model":"%s","messages":%s}'
    messages = json.dumps([{"role": "user", "content": "Prove that the square root of two is irrational."}]).encode()
    headers = {"content-type": "application/json"}
    answer = web.post(f"{front.url}/v1/chat/completions", content=before + after % (b"semantic", messages), headers=headers)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-vsr-selected-decision"], answer.headers["x-vsr-selected-model"]) == ("hard", "thinker")
    assert engine.last().body == before + b'"enable_thinking":true,' + after % (b"thinker", messages)
    decision = front.waypost.decision(answer)
    assert (decision["reasoning"], list(decision["signals"])) == ("high", ["science"])
    body = {"model": "semantic", "messages": [{"role": "user", "content": "urgent: prove that pi is irrational"}]}
    answer = web.post(f"{front.url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.headers["x-vsr-selected-model"]) == (200, "local")
    assert "x-vsr-selected-decision" not in answer.headers and answer.headers["x-waypost-fallback"] == "no_decision"
