"""The official OpenAI Node SDK against the real binary: `tests/node/scenarios.mjs` runs, this asserts."""

import json
import pathlib
import subprocess

import pytest

from helpers.configs import SIM_MODELS, three_sims
from helpers.process import clean_env

NODE = pathlib.Path(__file__).resolve().parents[1] / "node"


@pytest.fixture(scope="module")
def results(shared):
    def broken(fault):
        return {"model": "sim-small", "endpoint": shared.sim(fault=fault).url}

    dead = shared.dead_port()
    gateway = shared.waypost(
        three_sims(
            shared.sim(SIM_MODELS).url,
            limited=broken("status=429,retry_after=1"),
            failing=broken("status=500"),
            once=broken("status=500,n=1"),
            cutting=broken("cut=3"),
            stalling=broken("stall"),
            dead={"endpoint": dead.url},
        )
    )
    assert (NODE / "node_modules/openai").is_dir(), "run `npm ci` in tests/node"
    done = subprocess.run(
        ["node", "scenarios.mjs", gateway.url, dead.url],
        cwd=NODE, env=clean_env(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), gateway


def test_chat(results):
    out, gateway = results
    chat = out["chat"]
    assert chat["model"] == "sim-large" and chat["label"] == "Code Generation"
    assert chat["content"].startswith("[simulated]")
    assert gateway.decision(chat["decision"])["completion_tokens"] == chat["usage"]["completion_tokens"]


def test_streams(results):
    out, _ = results
    assert out["stream"]["text"] == out["chat"]["content"]
    assert out["stream"]["chunks"] > 5 and out["stream"]["finish"] == "stop"
    assert out["stream"]["usage"] == out["chat"]["usage"]
    helper = out["streamHelper"]
    assert helper["content"] == helper["joined"] and helper["content"].startswith("[simulated]")


def test_ways_to_ask(results):
    out, _ = results
    assert out["bodyObject"] == {"model": "sim-creative", "label": "Chatbot"}
    assert out["header"] == {"policy": "complexity_router"}
    assert {"auto", "task_router", *SIM_MODELS} <= set(out["models"]["ids"])
    assert out["models"]["one"] == "sim-small"


def test_the_other_endpoints(results):
    out, _ = results
    assert out["embeddings"] == {"vectors": 2, "numbers": True}
    assert out["completions"]["text"]
    assert out["responses"]["text"].startswith("[simulated]")


@pytest.mark.parametrize(
    "scenario, name, status, code",
    [
        ("badRequest", "BadRequestError", 400, "missing_required_parameter"),
        ("notFound", "NotFoundError", 404, "model_not_found"),
        ("rateLimit", "RateLimitError", 429, None),
        ("serverError", "InternalServerError", 500, None),
        ("unreachable", "InternalServerError", 503, "upstream_unreachable"),
    ],
)
def test_errors_become_the_sdks_exceptions(results, scenario, name, status, code):
    found = results[0][scenario]
    assert (found["name"], found["status"]) == (name, status), found
    assert code is None or found["code"] == code


def test_ends_without_a_response(results):
    out, _ = results
    assert out["brokenStream"]["name"] == "APIError" and out["brokenStream"]["code"] == "upstream_error"
    assert out["timeout"]["name"] == "APIConnectionTimeoutError"
    assert out["noConnection"]["name"] == "APIConnectionError"
    assert out["retried"]["content"].startswith("[simulated]")
