"""The four requests of vLLM Semantic Router's guide for a local and a public model, with the guide's names, through a real Envoy."""

import pytest

from helpers.web import web

LOCAL, PUBLIC = "llama3-8b", "gpt-4o-mini"


def named(text):
    """The configuration of deploy/envoy with the guide's names of the models."""
    return text.replace("name: local", f"name: {LOCAL}").replace("name: public", f"name: {PUBLIC}").replace(
        "math: public", f"math: {PUBLIC}").replace("default: local", f"default: {LOCAL}")


def routed(text):
    return text.replace("exact: public", f"exact: {PUBLIC}")


@pytest.mark.parametrize(
    "model, prompt, served, label",
    [
        (LOCAL, "Linux is said to be an open source kernel because ", "sim-local", None),
        ("auto", "Linux is said to be an open source kernel because ", "sim-local", "computer science"),
        (PUBLIC, "2+2 is ", "sim-public", None),
        ("auto", "2+2 is ", "sim-public", "math"),
    ],
)
def test_the_guides_requests(front, model, prompt, served, label):
    front = front("full-duplex", edit=named, change=routed)
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 20, "temperature": 0}
    answer = web.post(f"{front.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == served
    assert answer.headers.get("x-vsr-selected-decision") == label
    assert answer.headers["x-vsr-selected-model"] == (PUBLIC if served == "sim-public" else LOCAL)
