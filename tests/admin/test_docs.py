"""`docs/admin-api.md`, section "Try it", runs as written, on other ports."""

import json

from helpers.docs import run_script, section
from helpers.ports import free_ports


def test_the_page_runs(tmp_path):
    script = section("admin-api.md", "Try it")
    engine, http, admin = free_ports(3)
    script = script.replace(":9000", f":{engine}").replace(":8085", f":{admin}")
    script = script.replace("admin: {}", f"admin: {{listen: 127.0.0.1:{admin}}}\nlisten: 127.0.0.1:{http}")
    # Each answer on a line of its own, and a status from 400 ends the script.
    script = script.replace("curl -s ", "curl -sS --fail-with-body -w '\\n' ")
    said = run_script(tmp_path, script)
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("{") and line.endswith("}")]
    health, intent, pii, security, batch, combined, evaluated = answers[-7:]
    assert health == {"status": "OK"}
    assert intent["recommended_model"] == "large" and intent["decision_result"]["decision_name"] == "math"
    assert pii["masked_text"] == "Mail [EMAIL_ADDRESS_0], then [EMAIL_ADDRESS_1]."
    assert security["recommendation"] == "block" and security["reasoning"]
    assert [one["category"] for one in batch["results"]] == ["law", "math"]
    assert combined["intent"]["recommended_model"] == "large" and combined["pii"]["has_pii"]
    assert evaluated["selected_model"] == "large" and evaluated["eval_trace"]
