"""The examples run as written: every configuration passes `waypost check`, the client talks to `waypost serve`."""

import re
import shlex
import shutil
import subprocess
import sys

import httpx
import pytest

from helpers.ports import free_ports
from helpers.process import ROOT, Process, binary, clean_env

CONFIGS = sorted((ROOT / "examples").glob("*.yaml"))
PICKING = ("kv-routing", "disaggregation", "dynamo-workers")
PAGES = ("endpoint-picking", "disaggregation", "dynamo")


def test_there_are_examples():
    assert len(CONFIGS) >= 3


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A copy of the examples with the folders that their comments say to train."""
    copy = shutil.copytree(ROOT / "examples", tmp_path_factory.mktemp("copy") / "examples")
    for config in copy.glob("*.yaml"):
        for line in re.findall(r"^# +waypost (train .*)$", config.read_text(), re.M):
            subprocess.run([binary(), *shlex.split(line)], cwd=copy.parent, env=clean_env(), check=True, timeout=120)
    return copy


@pytest.mark.parametrize("name", [path.name for path in CONFIGS])
def test_an_example_configuration_is_valid(examples, name):
    config = examples / name
    done = subprocess.run([binary(), "check", config], env=clean_env(), capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert f"{config} is valid" in done.stdout


def blocks():
    """The configurations written out in the pages about endpoints."""
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S), 1):
            yield pytest.param(block, id=f"{page}-{number}")


@pytest.mark.parametrize("block", list(blocks()))
def test_a_configuration_in_the_documents_is_valid(block, tmp_path):
    config = tmp_path / "waypost.yaml"
    # The folder of a real model stands for any.
    config.write_text(re.sub(r"tokenizer: \S+", f"tokenizer: {ROOT / 'tests/fixtures/tokens/tiny'}", block))
    done = subprocess.run([binary(), "check", config], env=clean_env(), capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


def on_free_ports(text):
    """The text with other ports: those of the example may be taken."""
    wanted = sorted(set(re.findall(r":(9\d{3})\b", text)))
    free = dict(zip(wanted, free_ports(len(wanted)), strict=True))
    return re.sub(r":(9\d{3})\b", lambda found: f":{free[found[1]]}", text)


@pytest.fixture(params=PICKING)
def picking(request, tmp_path, workshop):
    """The name of an example, and its gateway, started as its header says."""
    text = on_free_ports((ROOT / "examples" / f"{request.param}.yaml").read_text())
    for line in re.findall(r"^# +waypost (sim .*) &$", text, re.M):
        workshop.keep(Process(shlex.split(line)))
    config = tmp_path / "example.yaml"
    config.write_text(text)
    return request.param, workshop.keep(Process(["serve", "--config", config, "--listen", "127.0.0.1:0"]))


def test_an_example_runs_as_its_header_says(picking):
    name, gateway = picking
    prompt = "Rule: be brief and kind. " * 100
    seen = []
    for _ in range(3):
        body = {"model": "assistant", "max_tokens": 4, "prompt": prompt}
        answer = httpx.post(f"{gateway.url}/v1/completions", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        decision = httpx.get(f"{gateway.url}/v1/decisions/{answer.headers['x-waypost-decision-id']}").json()
        seen.append(decision["placements"][0])
    # Once it was read somewhere, it is known where.
    assert len({placement["endpoint"] for placement in seen}) == 1
    assert [placement["cached_tokens"] > 500 for placement in seen] == [False, True, True]
    if name == "disaggregation":
        assert [placement["pair"] for placement in seen] == ["split", "cached", "cached"]
    if name == "dynamo-workers":
        assert re.search(r"@\d+$", seen[0]["endpoint"])


def test_the_example_client_runs(shared):
    process = shared.keep(Process(["serve", "--listen", "127.0.0.1:0"]))
    process.wait_log("Try it:")
    if "SIMULATED" not in process.log():
        pytest.skip("engines run on this machine; this test is for the simulated ones")
    port = re.search(r"http://127\.0\.0\.1:(\d+)", process.log()).group(1)
    client = [sys.executable, ROOT / "examples" / "openai_client.py", f"http://127.0.0.1:{port}/v1"]
    done = subprocess.run(client, env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "label: Code Generation" in done.stdout
