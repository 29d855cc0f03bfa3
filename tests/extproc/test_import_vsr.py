"""vLLM Semantic Router's guide, imported: its four requests through a real Envoy, with the official SDK."""

import openai
import pytest
import yaml

from extproc.test_guide import LOCAL, PUBLIC, routed
from helpers.process import ROOT, run

GUIDE = ROOT / "examples" / "vsr" / "config.yaml"
LINUX, SUM = "Linux is said to be an open source kernel because ", "2+2 is  "


def imported(text):
    """The guide's file, imported; the addresses and ports are those of `text`, which is deploy/envoy/waypost.yaml."""
    done = run("import", "vsr", str(GUIDE))
    assert done.returncode == 0, done.stderr
    made, here = yaml.safe_load(done.stdout), yaml.safe_load(text)
    models = {model["name"]: model for model in made["models"]}
    assert models[LOCAL].pop("endpoint") == "http://llama-8b:80"
    assert models[PUBLIC].pop("endpoint") == "https://api.openai.com/v1"
    for name, engine in ((LOCAL, "local"), (PUBLIC, "public")):
        [there] = [model for model in here["models"] if model["name"] == engine]
        # The simulated engines have names of their own.
        models[name].update({key: value for key, value in there.items() if key != "name"})
    made["ext_proc"].update(here["ext_proc"])
    made["listen"] = here["listen"]
    return yaml.safe_dump(made, sort_keys=False)


@pytest.fixture(scope="module")
def guide(front):
    return front("full-duplex", edit=imported, change=routed)


@pytest.mark.parametrize(
    "model, prompt, served, decision",
    [(LOCAL, LINUX, LOCAL, None), ("auto", LINUX, LOCAL, "computer-science"), (PUBLIC, SUM, PUBLIC, None), ("auto", SUM, PUBLIC, "math")],
)
def test_the_guides_requests(guide, model, prompt, served, decision):
    with openai.OpenAI(api_key="sk-client", base_url=f"{guide.url}/v1", max_retries=0, timeout=30) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": prompt}], max_tokens=100, temperature=0
        )
    # Envoy's route goes by `x-selected-model`: who answers tells what it said.
    assert raw.parse().model == {LOCAL: "sim-local", PUBLIC: "sim-public"}[served]
    assert raw.headers["x-vsr-selected-model"] == served
    assert raw.headers.get("x-vsr-selected-decision") == decision


def test_every_name_of_vsr_means_the_policy_and_other_names_are_refused(guide):
    with openai.OpenAI(api_key="sk-client", base_url=f"{guide.url}/v1", max_retries=0, timeout=30) as client:
        for name in ("auto", "MoM", "vllm-sr/auto", "vsr"):
            raw = client.chat.completions.with_raw_response.create(model=name, messages=[{"role": "user", "content": SUM}])
            assert raw.headers["x-vsr-selected-decision"] == "math", name
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="phi4-mini", messages=[{"role": "user", "content": SUM}])


def test_both_replicas_of_the_local_model_answer(guide):
    with openai.OpenAI(api_key="sk-client", base_url=f"{guide.url}/v1", max_retries=0, timeout=30) as client:
        for _ in range(12):
            client.chat.completions.create(model="auto", messages=[{"role": "user", "content": LINUX}])
    assert all(engine.stats()["requests"] > 0 for engine in guide.local)
