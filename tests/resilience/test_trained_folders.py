"""Trained folders: read with the configuration, read again when they change, refused by name when they are damaged."""

import shutil

import pytest

from helpers.process import ROOT, run
from helpers.wait import until
from resilience.kit import config
from resilience.strict import ask, chat

RELOADS = "waypost_config_reloads_total"
APPLIED_S = 5.0
# What came with the binary is of the same format as what users train.
MODEL = ROOT / "models" / "domain.safetensors"
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim()


@pytest.fixture
def bank(tmp_path):
    folder = tmp_path / "models" / "bank"
    folder.mkdir(parents=True)
    shutil.copy(MODEL, folder / FILE)
    return folder


def routed(engine, folder, **more):
    policy = {"name": "p", "classifier": {"path": str(folder)}, "routes": {"math": "m"}, "default": "m"}
    return config(engine, policies=[policy | more])


def reloads(gate, result):
    return gate.metrics().value(RELOADS, result=result) or 0


def until_reloaded(gate, result, count):
    until(lambda: reloads(gate, result) >= count, APPLIED_S, f"{count} {result}\n{gate.log()}")


def label(gate):
    answer = ask(gate.port, chat(model="p", text="What is the integral of x squared?"))
    assert answer.status == 200
    return answer.headers["x-waypost-label"]


def test_a_path_is_relative_to_the_configuration(tmp_path, engine, bank):
    file = tmp_path / "waypost.yaml"
    text = f"""
models: [{{name: m, endpoint: "{engine.url}"}}]
policies: [{{name: p, classifier: {{path: models/bank}}, routes: {{math: m}}}}]
"""
    file.write_text(text)
    good = run("check", str(file))
    assert good.returncode == 0, good.stderr
    assert "1 of 14 labels routed" in good.stdout and "no model for `biology`" in good.stdout
    file.write_text(text.replace("math", "maths"))
    bad = run("check", str(file))
    assert bad.returncode == 1 and "no label `maths`; did you mean `math`?" in bad.stderr
    (bank / FILE).unlink()
    gone = run("check", str(file))
    assert gone.returncode == 1 and str(bank / FILE) in gone.stderr


def test_a_file_replaced_by_renaming(waypost, engine, bank):
    gate = waypost(routed(engine, bank))
    assert label(gate) == "math"
    shutil.copy(MODEL, bank / "new")
    (bank / "new").replace(bank / FILE)
    until_reloaded(gate, "applied", 1)
    assert label(gate) == "math"


def test_a_folder_replaced_by_renaming_and_its_successor_is_watched_too(waypost, engine, bank):
    gate = waypost(routed(engine, bank))
    for turn in (1, 2):
        new = bank.with_name(f"new{turn}")
        shutil.copytree(bank, new)
        bank.rename(bank.with_name(f"old{turn}"))
        new.rename(bank)
        # In between there was no folder, which may have been seen and refused.
        until_reloaded(gate, "applied", turn)
    shutil.copy(MODEL, bank / "new")
    (bank / "new").replace(bank / FILE)
    until_reloaded(gate, "applied", 3)


def test_a_symbolic_link_swung_round(waypost, engine, bank):
    link = bank.with_name("current")
    link.symlink_to(bank)
    gate = waypost(routed(engine, link))
    other = bank.with_name("other")
    shutil.copytree(bank, other)
    swing = bank.with_name("swing")
    swing.symlink_to(other)
    swing.replace(link)
    until_reloaded(gate, "applied", 1)


def test_a_damaged_file_changes_nothing_until_it_is_mended(waypost, engine, bank):
    gate = waypost(routed(engine, bank))
    whole = (bank / FILE).read_bytes()
    (bank / FILE).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    until_reloaded(gate, "refused", 1)
    gate.wait_log(rf"policy `p`.*{FILE}.*damaged")
    assert label(gate) == "math"
    (bank / FILE).write_bytes(whole)
    until_reloaded(gate, "applied", 1)
    assert label(gate) == "math"


def test_a_folder_that_is_not_there_yet(waypost, engine, bank):
    """A configuration that names it is refused, and taken as soon as the folder comes."""
    gate = waypost(routed(engine, bank))
    late = bank.with_name("late")
    gate.write_config(routed(engine, late))
    until_reloaded(gate, "refused", 1)
    shutil.copytree(bank, late)
    until_reloaded(gate, "applied", 1)
