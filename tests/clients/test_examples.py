"""The examples run as written: every configuration passes `waypost check`, the client talks to `waypost serve`."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from helpers.process import ROOT, Process, binary, clean_env

CONFIGS = sorted((ROOT / "examples").glob("*.yaml"))


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
