"""`docs/admin-api.md`, section "Try it", runs as written, on other ports."""

import json
import os
import re
import subprocess

from helpers.ports import free_ports
from helpers.process import ROOT, binary, clean_env


def test_the_page_runs(tmp_path):
    part = re.search(r"^## Try it$(.*?)(?=^## )", (ROOT / "docs" / "admin-api.md").read_text(), re.M | re.S)[1]
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", part, re.M | re.S))
    engine, http, admin = free_ports(3)
    script = script.replace(":9000", f":{engine}").replace(":8085", f":{admin}")
    script = script.replace("admin: {}", f"admin: {{listen: 127.0.0.1:{admin}}}\nlisten: 127.0.0.1:{http}")
    # Each answer on a line of its own, and a status from 400 ends the script.
    script = script.replace("curl -s ", "curl -sS --fail-with-body -w '\\n' ")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "waypost").symlink_to(os.path.abspath(binary()))
    env = clean_env()
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    whole = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    done = subprocess.run(["bash", "-c", whole], cwd=tmp_path, env=env, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{") and line.endswith("}")]
    health, intent, pii, security, batch, combined, evaluated = answers[-7:]
    assert health == {"status": "OK"}
    assert intent["recommended_model"] == "large" and intent["decision_result"]["decision_name"] == "math"
    assert pii["masked_text"] == "Mail [EMAIL_ADDRESS_0], then [EMAIL_ADDRESS_1]."
    assert security["recommendation"] == "block" and security["reasoning"]
    assert [one["category"] for one in batch["results"]] == ["law", "math"]
    assert combined["intent"]["recommended_model"] == "large" and combined["pii"]["has_pii"]
    assert evaluated["selected_model"] == "large" and evaluated["eval_trace"]
