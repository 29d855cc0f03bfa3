"""Configuration files written for v1 start and route unchanged."""

import pytest

from helpers.configs import COMPLEXITY_LABELS, TASK_LABELS, user
from helpers.process import ROOT, Process, run
from helpers.web import web

FIXTURES = ROOT / "crates/config/tests/fixtures"
LLAMA_8B, LLAMA_70B = "meta/llama-3.1-8b-instruct", "meta/llama-3.1-70b-instruct"
MIXTRAL, NEMOTRON = "mistralai/mixtral-8x22b-instruct-v0.1", "nvidia/llama-3.3-nemotron-super-49b-v1"
# v1's own tables (section 3 of the notes), in label order.
TASK_MODELS = [
    LLAMA_70B, MIXTRAL, LLAMA_8B, LLAMA_70B, NEMOTRON, LLAMA_8B,
    LLAMA_70B, MIXTRAL, LLAMA_8B, LLAMA_70B, MIXTRAL, LLAMA_8B,
]  # fmt: skip
COMPLEXITY_MODELS = [LLAMA_70B, NEMOTRON, LLAMA_8B, LLAMA_70B, MIXTRAL, LLAMA_8B, LLAMA_8B]

# The Dynamo guide's table as it stands in its README: grouped by size, not in the classifier's order.
GUIDE = {
    "Llama-3.1-8B-Instruct": ["Summarization", "Closed QA", "Classification", "Extraction", "Rewrite"],
    "Llama-3.1-70B-Instruct": ["Brainstorming", "Code Generation", "Open QA"],
    "Mixtral-8x22B-Instruct-v0.1": ["Chatbot", "Text Generation", "Other", "Unknown"],
}


def ask(gateway, policy, text="hello"):
    nim = {"policy": policy, "routing_strategy": "triton", "model": ""}
    return gateway.chat({"model": "", "messages": user(text), "nim-llm-router": nim})


@pytest.fixture
def mocks(recorder, kserve):
    return recorder(), kserve()


def test_v1s_default_file(waypost, mocks):
    upstream, classifier = mocks
    text = (FIXTURES / "v1-default.yml").read_text()
    text = text.replace("https://integrate.api.nvidia.com", upstream.url).replace(
        "http://router-server:8000", classifier.url
    )
    gateway = waypost(text, env={"NVIDIA_API_KEY": "nvapi-1"})
    tables = [("task_router", TASK_LABELS, TASK_MODELS), ("complexity_router", COMPLEXITY_LABELS, COMPLEXITY_MODELS)]
    for policy, labels, models in tables:
        for index, (label, model) in enumerate(zip(labels, models, strict=True)):
            classifier.one_hot(index, len(labels))
            answer = ask(gateway, policy)
            assert (answer.status_code, answer.headers["x-chosen-classifier"]) == (200, label)
            assert upstream.last().json()["model"] == model
            assert upstream.last().header("authorization") == "Bearer nvapi-1"
            assert classifier.last().path == f"/v2/models/{policy}_ensemble/infer"
    assert "WARN" not in gateway.log(), gateway.log()


def test_v1s_flag_for_the_file(shared, recorder, kserve, tmp_path):
    upstream, classifier = recorder(), kserve()
    file = tmp_path / "config.yml"
    file.write_text(
        f"policies: [{{name: p, url: '{classifier.infer_url}', "
        f"llms: [{{name: x, api_base: '{upstream.url}', api_key: k, model: m}}]}}]"
    )
    process = shared.keep(Process(["serve", "--config-path", str(file), "--listen", "127.0.0.1:0"]))
    nim = {"policy": "p", "routing_strategy": "triton"}
    answer = web.post(
        f"{process.url}/v1/chat/completions", json={"model": "", "messages": user("x"), "nim-llm-router": nim}
    )
    assert (answer.status_code, answer.headers["x-chosen-classifier"]) == (200, "x")


def guide_yaml(end=""):
    """The guide's form: `${DYNAMO_API_BASE}`, `${DYNAMO_API_KEY}`, labels grouped by model."""
    lines = ["policies:", '  - name: "task_router"']
    lines += ["    url: ${CLASSIFIER}/v2/models/task_router_ensemble/infer", "    llms:"]
    for model, labels in GUIDE.items():
        for label in labels:
            lines += [f"      - name: {label}", f"        api_base: ${{DYNAMO_API_BASE}}{end}"]
            lines += ['        api_key: "${DYNAMO_API_KEY}"', f"        model: meta/{model}"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("end", ["", "/v1"])
def test_the_dynamo_guide_with_an_empty_key(waypost, mocks, end):
    upstream, classifier = mocks
    env = {"DYNAMO_API_BASE": upstream.url, "DYNAMO_API_KEY": "", "CLASSIFIER": classifier.url}
    gateway = waypost(guide_yaml(end), env=env)
    model_of = {label: f"meta/{model}" for model, labels in GUIDE.items() for label in labels}
    for index, label in enumerate(TASK_LABELS):
        classifier.one_hot(index)
        answer = ask(gateway, "task_router")
        assert answer.headers["x-chosen-classifier"] == label, "labels bind by name, not by position"
        request = upstream.last()
        assert request.json()["model"] == model_of[label]
        assert request.path == "/v1/chat/completions"
        assert request.header("authorization") is None
    warning = next(line for line in gateway.log().splitlines() if "order" in line)
    assert "WARN" in warning and "by name" in warning and ":5:" in warning, "loud, with its line"


def test_the_stored_guide_file(waypost, mocks):
    upstream, classifier = mocks
    text = (FIXTURES / "dynamo-guide.yml").read_text()
    text = text.replace("http://vllm-frontend-frontend.dynamo-kubernetes:8000", upstream.url)
    text = text.replace("http://llm-router-router-server.llm-router.svc.cluster.local:8000", classifier.url)
    gateway = waypost(text, env={"DYNAMO_API_KEY": ""})
    for label, model in [
        ("Code Generation", "meta-llama/Llama-3.1-70B-Instruct"),
        ("Rewrite", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Text Generation", "mistralai/Mixtral-8x22B-Instruct-v0.1"),
    ]:
        classifier.one_hot(TASK_LABELS.index(label))
        assert ask(gateway, "task_router").status_code == 200
        assert upstream.last().json()["model"] == model
    classifier.one_hot(TASK_LABELS.index("Unknown"))
    answer = ask(gateway, "task_router")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "label_without_model")


def test_without_a_triton_the_built_in_classifier_takes_over(waypost, recorder):
    """v1's file with the `url` line deleted needs no other change."""
    upstream = recorder()
    text = (FIXTURES / "v1-default.yml").read_text().replace("https://integrate.api.nvidia.com", upstream.url)
    text = "\n".join(line for line in text.splitlines() if "url:" not in line)
    gateway = waypost(text, env={"NVIDIA_API_KEY": "k"})
    answer = ask(gateway, "task_router", "Help me write a python function to load data")
    assert answer.headers["x-chosen-classifier"] == "Code Generation"
    assert answer.headers["x-waypost-tier"] in ("ngram", "encoder")
    assert upstream.last().json()["model"] == NEMOTRON


def test_an_unset_variable_is_named_in_a_warning(waypost, mocks):
    upstream, classifier = mocks
    gateway = waypost(
        f"""
policies:
  - name: p
    url: {classifier.infer_url}
    llms: [{{name: x, api_base: "{upstream.url}", api_key: "${{NOT_SET_ANYWHERE}}", model: m}}]
"""
    )
    assert "NOT_SET_ANYWHERE" in gateway.log()
    assert ask(gateway, "p").status_code == 200
    assert upstream.last().header("authorization") is None, "v1 sent the literal ${…} as the key"


@pytest.mark.parametrize("name", ["v1-default.yml", "dynamo-guide.yml"])
def test_check_accepts_them(name):
    done = run("check", str(FIXTURES / name), env={"NVIDIA_API_KEY": "k", "DYNAMO_API_KEY": ""})
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stdout
