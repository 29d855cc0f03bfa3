"""The command line: what it prints, how it ends, and errors that say where and what was meant."""

import json
import socket
import subprocess

import pytest
import yaml

from helpers.process import ROOT, binary, run

GOOD = """\
models:
  - name: small
    endpoint: http://127.0.0.1:9000
policies:
  - name: task_router
    classifier: task
    routes: {Open QA: small}
    default: small
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="waypost.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_check_says_what_a_good_file_does(file):
    done = run("check", str(file(GOOD)))
    assert done.returncode == 0
    assert "is valid" in done.stdout
    assert "small" in done.stdout and "http://127.0.0.1:9000" in done.stdout
    assert "task_router" in done.stdout


MISTAKES = {
    "a misspelt key": (GOOD.replace("endpoint:", "endpont:"), "3:5", "endpont", "endpoint"),
    "a misspelt section": (GOOD.replace("models:", "modles:"), "1:1", "modles", "models"),
    "an unknown model": (GOOD.replace("default: small", "default: smal"), "8:14", "smal", "small"),
    "an unknown label": (GOOD.replace("Open QA", "Open Q&A"), "7:14", "Open Q&A", "Open QA"),
    "an unknown classifier": (GOOD.replace("classifier: task", "classifier: tusk"), "6:17", "tusk", "task"),
    "a wrong duration": (GOOD + "limits: {header_timeout: 5 parsecs}\n", "9:26", "parsecs", "s"),
    "a wrong size": (GOOD + "limits:\n  body: 10 QB\n", "10:9", "QB", "MiB"),
    "a wrong URL": (GOOD.replace("http://", "htp://"), "3:15", "htp", "http"),
    "a model given twice": (
        GOOD.replace("policies:", "  - name: small\n    endpoint: http://h\npolicies:"),
        "4:11",
        "small",
        "another model",
    ),
    "broken YAML": (GOOD + "limits: {body: [}\n", "9:", "", ""),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_check_says_where_a_mistake_is_and_what_was_meant(file, name):
    text, place, wrong, right = MISTAKES[name]
    path = file(text)
    for command in (("check", str(path)), ("serve", "--config", str(path))):
        done = run(*command)
        assert done.returncode == 1
        assert f"{path}:{place}" in done.stderr, done.stderr
        assert wrong in done.stderr and right in done.stderr
        assert done.stderr.startswith("error: ") and "panicked" not in done.stderr


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"\xff\xfe", b"- a\n- b\n", b"42\n"])
def test_check_refuses_what_is_no_configuration(file, text):
    done = run("check", str(file(text)))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        for command in (("check", str(path)), ("serve", "--config", str(path))):
            done = run(*command)
            assert done.returncode == 1
            assert done.stderr.startswith("error: ") and str(path) in done.stderr


def test_secrets_are_not_shown_in_errors(file):
    done = run("check", str(file(GOOD.replace("endpoint:", "api_key: sk-secret\n    endpont:"))))
    assert done.returncode == 1
    assert "sk-secret" not in done.stderr
    bad = file(GOOD.replace("    endpoint:", "    api_key: [sk-secret]\n    endpoint:"))
    assert "sk-secret" not in run("check", str(bad)).stderr


def test_the_schema_is_one_and_fits(file):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(yaml.safe_load(GOOD)))
    assert list(validator.iter_errors(yaml.safe_load(GOOD.replace("endpoint:", "endpont:"))))
    examples = (ROOT / "docs/configuration.md").read_text().split("```yaml\n")[1:]
    for example in examples:
        found = list(validator.iter_errors(yaml.safe_load(example.split("```")[0])))
        assert not found, found[0].message


def test_version_and_help():
    assert run("version").stdout.startswith("waypost ")
    assert run("--version").stdout == run("version").stdout
    text = run("--help").stdout
    for command in ("serve", "check", "classify", "train", "eval", "sim", "schema", "version", "completions"):
        assert command in text
        assert run(command, "--help").returncode == 0
    bare = run()
    assert bare.returncode == 2 and "Usage" in bare.stderr
    wrong = run("srve")
    assert wrong.returncode == 2 and "serve" in wrong.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell):
    done = run("completions", shell)
    assert done.returncode == 0 and "classify" in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_classify_text_standard_input_and_json():
    prompt = "Write a python function that reverses a linked list"
    said = run("classify", prompt)
    assert said.returncode == 0
    assert "task" in said.stdout and "Code Generation" in said.stdout and "complexity" in said.stdout
    one = json.loads(run("classify", "--json", prompt).stdout)
    assert run("classify", "--json", stdin=prompt).returncode == 0
    other = json.loads(run("classify", "--json", stdin=prompt).stdout)
    assert set(one) == {"task", "complexity", "domain", "safety"}
    for head, count in (("task", 12), ("complexity", 7), ("domain", 14), ("safety", 3)):
        assert one[head]["label"] == other[head]["label"]
        chances = one[head]["probabilities"]
        assert len(chances) == count and abs(sum(chances.values()) - 1) < 1e-3
        assert one[head]["confidence"] == pytest.approx(max(chances.values()), abs=1e-6)
        assert one[head]["tier"] in ("ngram", "encoder")
    assert one["task"]["label"] == "Code Generation"
    assert 0 <= one["complexity"]["difficulty"] <= 1
    assert set(json.loads(run("classify", "--classifier", "task", "--json", "hi").stdout)) == {"task"}


@pytest.mark.parametrize("text", ["", " \n", "\0", "x" * 300_000, "é😀" * 5000, "(" * 20_000])
def test_classify_survives_any_text(text):
    done = run("classify", "--json", stdin=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"]["label"]


def test_a_pipe_that_closes_early_is_no_error():
    command = f"set -o pipefail; {binary()} schema | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and done.returncode == 0


def test_a_port_in_use(file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", "--config", str(file(GOOD)), "--listen", address)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"error: cannot listen on {address}")
        assert "in use" in done.stderr
        assert run("sim", "--listen", address).returncode == 1


def test_a_listen_address_that_is_none(file):
    done = run("serve", "--config", str(file(GOOD)), "--listen", "nowhere")
    assert done.returncode == 2 and "--listen" in done.stderr


def test_the_simulated_engine_refuses_a_real_name_and_a_wrong_fault():
    assert "sim-" in run("sim", "--model", "gpt-4").stderr
    assert "stauts" in run("sim", "--fault", "stauts=503").stderr
