"""`examples/intent.yaml` runs as written, its addresses aside: LLM Router v2's routes and map, on simulated engines.

The simulated router counts words. That it names these routes says that the example works, not that a model would.
"""

import pytest

from helpers.configs import user
from helpers.process import ROOT

MODELS = ["sim-router", "sim-nano", "sim-vision", "sim-large"]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.fixture(scope="module")
def gateway(shared):
    engine = shared.sim(MODELS)
    env = {f"{name}_URL": engine.url for name in ("ROUTER", "LARGE", "NANO", "VISION")}
    return shared.waypost((ROOT / "examples" / "intent.yaml").read_text(), env=env)


@pytest.mark.parametrize(
    "content, label, model",
    [
        ("hello, any good joke?", "chit_chat", "nano"),
        ("Give me a proof, in several steps, that the square root of two is irrational.", "hard_question", "large"),
        ("That was wrong, please try again", "try_again", "large"),
        ([{"type": "text", "text": "Describe this picture as a whole"}, IMAGE], "image_understanding", "vision"),
        ([{"type": "text", "text": "Reading the label, which number is it?"}, IMAGE], "image_question", "vision"),
        ("Lorem ipsum", "other", "nano"),
    ],
)
def test_the_example(gateway, content, label, model):
    messages = user(content)
    answer = gateway.chat({"model": "auto", "messages": messages})
    assert answer.status_code == 200, answer.text
    d = gateway.decision(answer)
    assert (d["label"], d["model"], d["tier"], d["fallback"]) == (label, model, "intent", None)
    assert answer.json()["model"] == f"sim-{model}"
