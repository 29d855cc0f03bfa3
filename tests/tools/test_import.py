"""`waypost import nvidia-v2`: v2's config.yml as a configuration that loads and means the same."""

import re

import pytest
import yaml

from auto.kit import network
from helpers.process import run
from tools.kit import failed

GPT, VL, NANO = "gpt-5-chat", "nvidia/nemotron-nano-12b-v2-vl", "nvidia/nvidia-nemotron-nano-9b-v2"
# The third output of the network that v2 ships.
VL_IN_NETWORK = "Qwen/Qwen3-VL-8B-Instruct"


def v2(objective="hf_intent_objective_fn", workflow=None):
    """A config.yml with the values that v2's own has, and its comments and parts that are of no use here."""
    return f"""
general:
  use_uvloop: true
  front_end:
    _type: fastapi
    port: 8001
functions:
  healthcheck_fn:
    _type: healthcheck
  hf_intent_objective_fn:
    _type: hf_intent_objective_fn
  nn_objective_fn:
    _type: nn_objective_fn
    model_thresholds:
      '{GPT}': 0.5
      '{VL}': 0.65
      '{NANO}': 0.6
    model_costs:
      '{GPT}': 1.0
      '{VL}': 0.5
      '{NANO}': 0.3
  sfc_router_fn:
    _type: sfc_router
    objective_fn: {objective}   # chosen here
workflow:
  _type: sfc_router
  objective_fn: {workflow or objective}
"""


@pytest.fixture
def source(tmp_path):
    def write(*args, **how):
        path = tmp_path / "config.yml"
        path.write_text(v2(*args, **how))
        return path

    return write


def imported(source, *options):
    done = run("import", "nvidia-v2", str(source), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_intent_policy_loads(source, tmp_path):
    text, notes = imported(source())
    made = tmp_path / "waypost.yaml"
    made.write_text(text)
    check = run("check", str(made))
    assert check.returncode == 0, check.stderr
    assert "hf_intent_objective_fn" in check.stdout and '(also as "auto")' in check.stdout
    assert "`general.use_uvloop` has no counterpart" in notes and "`general.front_end` is left out" in notes
    config = yaml.safe_load(text)
    [policy] = config["policies"]
    assert policy["routes"] == {
        "hard_question": GPT, "chit_chat": NANO, "try_again": GPT,
        "image_understanding": VL, "image_question": VL, "other": NANO,
    }  # fmt: skip
    assert [route["name"] for route in policy["classifier"]["intent"]["routes"]] == list(policy["routes"])[:5]
    models = {model["name"]: model for model in config["models"]}
    assert models[GPT]["endpoint"] == "https://api.openai.com/v1" and models[GPT]["api_key"] == "${OPENAI_API_KEY}"
    assert models[VL]["endpoint"] == "https://integrate.api.nvidia.com/v1" and models[VL]["api_key"] == "${NVIDIA_API_KEY}"
    assert "images" in models[VL]["accepts"] and "images" not in models[NANO]["accepts"]
    assert models["intent-router"]["endpoint"] == "${ROUTER_MODEL_URL:-http://localhost:8011}"
    assert "# v2's network was not in force" in text and not any("price" in model for model in config["models"])


def test_a_user_of_v2_s_default_is_told_of_azure(source, waypost, recorder):
    """v2's demo called gpt-5-chat on Azure unless told otherwise; its key is of no use at api.openai.com."""
    text, notes = imported(source())
    assert "called it on Azure" in notes and "OPENAI_API_KEY" in notes
    [endpoint] = re.findall(r"# endpoint: (https://RESOURCE\S+)\n", text)
    # What the comment says, with a mock for Azure: its base path is kept, and the key goes as a bearer token.
    azure = recorder()
    there = endpoint.replace("https://RESOURCE.openai.azure.com", azure.url)
    text = text.replace("https://api.openai.com/v1", there).replace("# model: DEPLOYMENT #", "model: my-deployment #")
    gateway = waypost(text, env={"OPENAI_API_KEY": "azure-key", "NVIDIA_API_KEY": "n"})
    answer = gateway.chat({"model": GPT, "messages": [{"role": "user", "content": "hi"}]})
    assert answer.status_code == 200, answer.text
    sent = azure.last()
    assert sent.path == "/openai/v1/chat/completions" and sent.header("authorization") == "Bearer azure-key"
    assert sent.json()["model"] == "my-deployment"


def test_the_network_policy_has_thresholds_and_costs_and_needs_its_file(source, tmp_path):
    made = tmp_path / "waypost.yaml"
    said, _ = imported(source("nn_objective_fn"), "--out", str(made))
    assert f"waypost check {made}" in said
    auto = yaml.safe_load(made.read_text())["policies"][1]["classifier"]["auto"]
    assert auto["models"] == [GPT, VL, NANO]
    assert auto["thresholds"] == {GPT: 0.5, VL: 0.65, NANO: 0.6} and auto["costs"] == {GPT: 1.0, VL: 0.5, NANO: 0.3}
    assert auto["names"] == {VL_IN_NETWORK: VL}
    missing = failed("check", str(made))
    assert "nn_objective_fn" in missing and "nn_router.safetensors" in missing
    # A network of v2's shape with its three outputs as shipped.
    network(tmp_path / "nn_router.safetensors", [GPT, NANO, VL_IN_NETWORK], [[0.0] * 4] * 3)
    check = run("check", str(made))
    assert check.returncode == 0, check.stderr
    assert re.search(r"nn_objective_fn.*auto", check.stdout)
    # One's own has the name of the configuration, and then the mapping is in the way.
    network(tmp_path / "nn_router.safetensors", [GPT, NANO, VL], [[0.0] * 4] * 3)
    assert VL_IN_NETWORK in failed("check", str(made))


def test_a_network_given_by_name_is_written_out_beside_the_intent_policy(source, tmp_path):
    network(tmp_path / "my net.safetensors", [GPT, NANO, VL_IN_NETWORK], [[0.0] * 4] * 3)
    made = tmp_path / "waypost.yaml"
    imported(source(), "--out", str(made), "--network", "my net.safetensors")
    assert run("check", str(made)).returncode == 0
    config = yaml.safe_load(made.read_text())
    assert config["default_policy"] == "hf_intent_objective_fn" and len(config["policies"]) == 2
    assert config["policies"][1]["classifier"]["auto"]["network"] == "my net.safetensors"


def test_an_existing_file_is_not_replaced_unasked(source, tmp_path):
    made = tmp_path / "waypost.yaml"
    made.write_text("mine")
    assert "--force" in failed("import", "nvidia-v2", str(source()), "--out", str(made))
    assert made.read_text() == "mine"
    imported(source(), "--out", str(made), "--force")
    assert made.read_text().startswith("# Made by")


def test_the_two_places_of_the_objective_may_disagree(source):
    text, notes = imported(source("nn_objective_fn", workflow="hf_intent_objective_fn"))
    assert "default_policy: nn_objective_fn" in text and "the former serves v2's path" in notes


ONE = "{functions: {nn_objective_fn: {model_thresholds: {m: 1}}}, workflow: {objective_fn: nn_objective_fn}}"


@pytest.mark.parametrize(
    "text, why",
    [
        ("policies: []", "neither `functions` nor `workflow`"),
        ("workflow: {objective_fn: my_own}", "`objective_fn: my_own`"),
        ("functions: {nn_objective_fn: {model_costs: {m: dear}}}", "model_costs.m"),
        ("a: [", "line 1"),
        ("functions: []", "`functions` is not a mapping"),
        ("functions: {nn_objective_fn: {model_thresholds: [1, 2]}}", "model_thresholds` is not a mapping"),
        (ONE, "does not give a configuration that loads"),
        (ONE.replace("m: 1", '"a\\u001b[2Jb": 1, c: 1'), "does not give a configuration that loads"),
    ],
)
def test_what_is_not_v2_s_is_refused(tmp_path, text, why):
    path = tmp_path / "config.yml"
    path.write_text(text)
    made = tmp_path / "made.yaml"
    said = failed("import", "nvidia-v2", str(path), "--out", str(made))
    assert why in said and "config.yml" in said and "\x1b" not in said
    assert not made.exists()


def test_the_imported_gateway_answers_as_v2_does(source, tmp_path, waypost, sim):
    router = sim("sim-router")
    text, _ = imported(source())
    gateway = waypost(text, env={"ROUTER_MODEL_URL": router.url, "ROUTER_MODEL_NAME": "sim-router"})
    body = {"messages": [{"role": "user", "content": "Hello, just some small talk and thanks"}]}
    answer = gateway.chat(body, path="/sfc_router/chat/completions").json()
    assert answer["model"] == "hf_intent_objective_fn"
    assert answer["choices"][0]["message"]["content"] == NANO
