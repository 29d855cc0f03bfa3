"""The guard at the HTTP door: attacks reach no model, whoever chose it, and the Decision says why."""

import json

import openai
import pytest

from guard.kit import ATTACK, DOUBTFUL, FINE, refused
from helpers.configs import three_sims, user
from helpers.process import run
from helpers.web import web


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim(["sim-small", "sim-large", "sim-creative"], record=True)


@pytest.fixture(scope="module")
def gate(shared, engine):
    return shared.waypost(three_sims(engine.url) | {"guard": {}})


def chat(gate, text, model="auto", **more):
    return gate.chat({"model": model, "messages": user(text), **more})


@pytest.mark.parametrize("model", ["auto", "task_router", "sim-small"])
def test_attacks_are_refused_and_reach_no_model(gate, engine, model):
    before = len(engine.requests())
    count = gate.metrics().value("waypost_guard_total", outcome="refused")
    ident = refused(chat(gate, ATTACK, model))
    decision = gate.decision(ident)
    assert decision["guard"]["outcome"] == "refused" and decision["guard"]["label"] in ("jailbreak", "injection")
    assert 0 < decision["guard"]["probability"] <= 1 and decision["guard"]["tier"] in ("ngram", "encoder")
    assert (decision["error"], decision["outcome"]) == ("content_policy_violation", "refused")
    assert decision["plan"] == [] and decision["attempts"] == [] and ATTACK not in json.dumps(decision)
    assert len(engine.requests()) == before
    assert gate.metrics().value("waypost_guard_total", outcome="refused") == count + 1
    assert ATTACK not in gate.log()


@pytest.mark.parametrize("model", ["auto", "sim-small"])
def test_others_pass(gate, model):
    answer = chat(gate, FINE, model)
    assert answer.status_code == 200 and answer.headers["x-vsr-response-path"] == "upstream"
    guard = gate.decision(answer)["guard"]
    assert (guard["outcome"], guard["label"]) == ("passed", "benign") and guard["probability"] > 0.5


def test_every_path_to_a_model_is_guarded(gate):
    refused(gate.chat({"model": "sim-small", "prompt": ATTACK}, path="/v1/completions"))
    refused(gate.chat({"model": "auto", "input": ATTACK}, path="/v1/responses"))
    refused(gate.chat({"model": "auto", "messages": user(ATTACK)}, path="/v1/decision"))
    refused(gate.chat({"nim-llm-router": {"policy": "task_router", "routing_strategy": "manual", "model": "Open QA"},
                       "messages": user(ATTACK)}))  # fmt: skip
    assert web.post(f"{gate.url}/v1/chat/completions", json={"model": "sim-small", "messages": user(ATTACK)},
                    headers={"x-waypost-policy": "task_router"}).status_code == 403  # fmt: skip
    refused(chat(gate, ATTACK, stream=True))


def test_vectors_of_an_attack_are_no_attack(gate):
    answer = gate.chat({"model": "sim-small", "input": ATTACK}, path="/v1/embeddings")
    assert answer.status_code == 200 and "guard" not in gate.decision(answer)


def test_the_openai_sdk_sees_its_own_error(gate):
    client = openai.OpenAI(base_url=f"{gate.url}/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model="auto", messages=user(ATTACK))
    assert caught.value.code == "content_policy_violation"


def test_explicit_models_may_be_let_through(waypost, engine):
    gate = waypost(three_sims(engine.url) | {"guard": {"explicit_models": False}})
    refused(chat(gate, ATTACK))
    answer = chat(gate, ATTACK, "sim-small")
    assert answer.status_code == 200 and "guard" not in gate.decision(answer)


def test_limits_hold_for_explicit_models_all_the_same(waypost, engine):
    gate = waypost(three_sims(engine.url) | {"limits": {"body": "2KiB"}})
    assert chat(gate, "x" * 4000, "sim-small").status_code == 413


def test_what_is_refused_can_be_chosen(waypost, engine):
    attack = chat(waypost(three_sims(engine.url) | {"guard": {}}), ATTACK)
    assert attack.status_code == 403
    kinds = ("jailbreak", "injection")
    answers = {kind: chat(waypost(three_sims(engine.url) | {"guard": {"refuse": [kind]}}), ATTACK).status_code for kind in kinds}
    assert sorted(answers.values()) == [200, 403]


def test_the_encoder_is_shown_and_its_absence_too(waypost, engine):
    with_it = waypost(three_sims(engine.url) | {"guard": {}, "encoder": {"deadline": "20s"}})
    guard = with_it.decision(chat(with_it, DOUBTFUL))["guard"]
    assert guard["encoder"] == "answered" and guard["tier"] == "encoder"
    without = waypost(three_sims(engine.url) | {"guard": {"false_alarms": 0.0005}, "encoder": {"threads": 0}})
    guard = without.decision(chat(without, DOUBTFUL))["guard"]
    assert (guard["encoder"], guard["tier"]) == ("off", "ngram")
    assert without.metrics().value("waypost_encoder_total", classifier="safety", outcome="off") == 1


def test_it_comes_and_goes_with_a_reload(waypost, engine):
    gate = waypost(three_sims(engine.url))
    assert chat(gate, ATTACK).status_code == 200
    gate.write_config(three_sims(engine.url) | {"guard": {}})
    gate.wait_log("configuration applied")
    refused(chat(gate, ATTACK))


@pytest.mark.parametrize(
    "guard, said",
    [
        ("{refuse: []}", "refuses nothing"),
        ("{refuse: [spam]}", "`spam` is not `jailbreak` or `injection`"),
        ("{refuse: [benign]}", "`benign` is not"),
        ("{false_alarms: 0.5}", "must be between"),
        ("{on_failure: ignore}", "`ignore` is not `pass` or `refuse`"),
        ("{explicit: true}", "explicit_models"),
    ],
)
def test_a_wrong_guard_is_named(tmp_path, guard, said):
    file = tmp_path / "waypost.yaml"
    file.write_text(f"models: [{{name: m, endpoint: 'http://127.0.0.1:1'}}]\nguard: {guard}\n")
    done = run("check", str(file))
    assert done.returncode != 0 and said in done.stderr


def test_decide_and_explain_tell_of_it(gate, tmp_path):
    ident = refused(chat(gate, ATTACK))
    gate.decision(ident)
    said = run("explain", ident, "--url", gate.url).stdout
    assert "guard     refused, read as" in said
