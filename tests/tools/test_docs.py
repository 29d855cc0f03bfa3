"""What `docs/replay-and-report.md`, `docs/auto-routing.md` and `docs/decisions.md` promise of these commands runs as written."""

import shutil

import pytest

from helpers.docs import run_script, section
from helpers.ports import free_ports
from helpers.process import ROOT
from tools.kit import read


@pytest.fixture
def shell(tmp_path):
    """Runs a script beside a copy of the examples, on free ports."""
    engine, door = free_ports(2)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name in ("auto.yaml", "decisions.yaml"):
        config = tmp_path / "examples" / name
        config.write_text(config.read_text().replace(":9000", f":{engine}").replace(":8085", f":{door}"))

    def run(script):
        script = script.replace("waypost sim ", f"waypost sim --listen 127.0.0.1:{engine} ").replace(":8085", f":{door}")
        return run_script(tmp_path, script)

    return run


def test_report_and_replay(shell, tmp_path):
    said = shell(section("replay-and-report.md", "Try it"))
    assert "9 of 9 decisions are the same" in said and "all by the policy by-task" in said and "split trial" in said
    assert len(read(tmp_path / "examples" / "decisions.jsonl")) == 9


def test_decide(shell):
    train = section("replay-and-report.md", "Try it").splitlines()[0]
    said = shell(f"{train}\n{section('replay-and-report.md', 'Decide')}")
    assert '"policy":"thrifty"' in said and '"policy": "by-task"' in said


def test_collect(shell, tmp_path):
    script = section("auto-routing.md", "Collecting outcomes")
    # A person types the next line later.
    said = shell(script.replace("&\n", "&\nsleep 2\n"))
    assert {row["model"] for row in read(tmp_path / "outcomes.jsonl")} == {"small", "mid", "large"}
    assert "right" in said


def test_decisions(shell):
    said = shell(section("decisions.md", "Try it"))
    for promised in ('"label": "hard_science"', '"science": 0.999', '"reasoning": "high"', '"model": "large"', '"no_decision"'):
        assert promised in said, promised
    assert "label     quick_science" in said and "reasoning low" in said
