"""curl against the real binary: the lines of our own docs, and those of the two sources.

The gateway runs as `make run` starts it: without a configuration, on what it finds.
"""

import json
import subprocess

import pytest

from helpers.docs import aimed_at, curl_lines
from helpers.process import ROOT, Process, clean_env
from helpers.wait import until

DOCS = ["README.md", "docs/quickstart.md", "docs/migrating-from-nvidia-llm-router.md"]
OURS = [(doc, line) for doc in DOCS for line in curl_lines(ROOT / doc)]

# The blueprint's request, without the two comments that no shell and no JSON parser takes.
BLUEPRINT = """curl -X 'POST' 'http://0.0.0.0:8084/v1/chat/completions' \\
  -H 'accept: application/json' -H 'Content-Type: application/json' \\
  -d '{"model": "",
    "messages": [
      {"role":"user", "content":"Hello! How are you?"},
      {"role":"assistant", "content":"Hi! I am quite well, how can I help you today?"},
      {"role":"user", "content":"Can you write me a song? Use as many emojis as possible."}],
    "max_tokens": 64,
    "stream": true,
    "nim-llm-router": {"policy": "task_router", "routing_strategy": "triton", "model": ""}}'"""

GUIDE = """curl -X POST http://localhost:8084/v1/chat/completions -H "Content-Type: application/json" \\
  -d '{"messages": [{"role": "user", "content": "%s"}], "model": "",
    "nim-llm-router": {"policy": "%s", "routing_strategy": "triton", "model": ""}}' | jq"""
GUIDE_TASK = GUIDE % ("Write a Python function to calculate fibonacci numbers", "task_router")
GUIDE_COMPLEXITY = GUIDE % ("Explain quantum computing in simple terms", "complexity_router")


@pytest.fixture(scope="module")
def gateway(shared):
    process = shared.keep(Process(["serve", "--listen", "127.0.0.1:0"]))
    process.wait_log("Try it:")
    if "SIMULATED" not in process.log():
        pytest.skip("engines run on this machine; these tests are for the simulated ones")
    return process


def bash(command):
    done = subprocess.run(
        ["bash", "-c", command], env=clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def metric(gateway, line):
    return line in bash(f"curl -s {gateway.url}/metrics")


def test_it_says_that_the_engines_are_simulated_and_how_to_try_it(gateway):
    log = gateway.log()
    assert "SIMULATED" in log and "not real models" in log
    command = log[log.index("curl -i") :].split("\n{")[0]
    answer = bash(command.replace("curl -i", "curl -sS --fail-with-body"))
    assert json.loads(answer)["choices"][0]["message"]["content"].startswith("[simulated]")


def test_the_blueprints_line(gateway):
    lines = bash(aimed_at(BLUEPRINT, gateway.url)).split("\n\n")
    assert lines[-2] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert all(event["object"] == "chat.completion.chunk" for event in events)
    assert {event["model"] for event in events} == {"sim-creative"}, "Text Generation is the creative model's"
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
    wanted = 'requests_per_model{model="Text Generation"} 1\n'
    until(lambda: metric(gateway, wanted), what=wanted)


@pytest.mark.parametrize("command, policy", [(GUIDE_TASK, "task_router"), (GUIDE_COMPLEXITY, "complexity_router")])
def test_the_dynamo_guides_lines(gateway, command, policy):
    answer = json.loads(bash(aimed_at(command, gateway.url)))
    assert answer["choices"][0]["message"]["content"].startswith("[simulated]")
    if policy == "task_router":
        assert answer["model"] == "sim-large", "Code Generation is the large model's"
    assert metric(gateway, f'requests_per_policy{{policy="{policy}"}}')


def test_the_guides_checks(gateway):
    assert json.loads(bash(aimed_at("curl http://localhost:8084/health", gateway.url))) == {"status": "OK"}
    models = json.loads(bash(aimed_at("curl localhost:8084/v1/models | jq", gateway.url)))
    assert {"sim-small", "sim-large", "sim-creative", "auto"} <= {model["id"] for model in models["data"]}


@pytest.mark.parametrize("version", ["--http1.1", "--http2", "--http2-prior-knowledge"])
def test_both_versions_of_http(gateway, version):
    line = f"curl {version} http://localhost:8084/v1/chat/completions -w '%{{http_version}}' -o /dev/null "
    line += """-H 'content-type: application/json' -d '{"model":"auto","messages":[{"role":"user","content":"hi"}]}'"""
    assert bash(aimed_at(line, gateway.url)) == ("2" if "prior" in version else "1.1")


@pytest.mark.parametrize("doc, command", OURS, ids=[f"{doc}-{i}" for i, (doc, _) in enumerate(OURS)])
def test_the_lines_of_our_docs(gateway, doc, command):
    assert bash(aimed_at(command, gateway.url)).strip(), f"{doc}: no output"


@pytest.mark.parametrize("doc", DOCS[:2])
def test_our_docs_have_lines_to_try(doc):
    if not (ROOT / doc).exists():
        pytest.skip(f"{doc} is not written yet")
    assert any(found == doc for found, _ in OURS), f"{doc} shows no curl line for port 8084"
