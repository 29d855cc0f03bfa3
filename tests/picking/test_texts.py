"""Prompts as texts: exact with the model's tokenizer, approximate without, and large."""

import json
import shutil

import pytest

from helpers.configs import user
from helpers.process import ROOT
from helpers.wait import until
from picking.kit import BLOCK, Engine, at, cached, complete, config, decision, live, placement, preview, tokens

FOLDER = ROOT / "tests/fixtures/tokens"
ROWS = json.loads((FOLDER / "vllm.json").read_text())["rows"]


@pytest.fixture(scope="module")
def engines(shared):
    """Two engines with KV events."""
    return [shared.keep(Engine()) for _ in range(2)]


@pytest.fixture(scope="module")
def exact(shared, engines):
    """With the tokenizer that vLLM had."""
    return live(shared.waypost(config(engines, tokenizer=str(FOLDER / "tiny"))), *engines)


@pytest.fixture(scope="module")
def approximate(shared):
    """Nothing is told: no tokenizer, no events."""
    return shared.waypost(config([shared.keep(Engine(kv=False)) for _ in range(3)]))


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_prompt_has_as_many_tokens_as_vllm_counts(exact, row):
    placed = decision(exact, {"model": "a", **row["body"]})
    assert (placed["reading"], placed["choice"]["prompt_tokens"]) == ("exact", len(row["ids"]))
    assert placed["choice"]["blocks"] == -(-len(row["ids"]) // BLOCK)


def test_a_text_and_its_ids_are_the_same_prompt(workshop):
    """What an engine holds of token ids is found for the text that they are of: the tokens themselves are right."""
    engines = [workshop.keep(Engine()) for _ in range(2)]
    gate = live(workshop.waypost(config(engines, tokenizer=str(FOLDER / "tiny"))), *engines)
    for row in ROWS:
        blocks = len(row["ids"]) // BLOCK
        if blocks:
            home = at(gate, complete(gate, row["ids"]))
            placed = decision(gate, {"model": "a", **row["body"]})
            best = max(placed["choice"]["candidates"], key=lambda c: c["device_blocks"])
            assert (best["device_blocks"], home in best["endpoint"]) == (blocks, True), row["name"]


def test_a_tokenizer_folder_without_a_template_still_reads_completions(workshop, engines, tmp_path):
    shutil.copy(FOLDER / "tiny/tokenizer.json", tmp_path / "tokenizer.json")
    gate = live(workshop.waypost(config(engines, tokenizer=str(tmp_path))), *engines)
    prompt = next(row for row in ROWS if row["name"] == "prompt without special tokens")
    assert decision(gate, {"model": "a", **prompt["body"]})["reading"] == "exact"
    answer = gate.chat({"model": "a", "messages": user("Hello")})
    assert answer.status_code == 200 and placement(gate, answer)["reading"] == "failed"


def test_a_chat_that_no_template_takes_is_still_sent(exact):
    answer = exact.chat({"model": "a", "messages": [{"role": "user", "content": "Hello"}], "chat_template_kwargs": {"x": 1}})
    assert answer.status_code == 200


def test_approximate_repeats_go_to_the_same_engine(approximate):
    for number in range(9):
        body = {"model": "a", "messages": user(f"{number}: " + "Tell me about the sea and its fish. " * 20), "max_tokens": 2}
        first, second = approximate.chat(body), approximate.chat(body)
        assert placement(approximate, first)["reading"] == "approximate"
        assert at(approximate, first) == at(approximate, second)
        assert cached(second) > 100, "the engine itself has it cached"


def test_an_approximate_conversation_stays(approximate):
    messages, where = user("Conversation. " + "A long way from home. " * 30), set()
    for turn in range(5):
        answer = approximate.chat({"model": "a", "messages": messages, "max_tokens": 20})
        where.add(at(approximate, answer))
        assert turn == 0 or cached(answer) > 100
        said = answer.json()["choices"][0]["message"]["content"]
        messages = [*messages, {"role": "assistant", "content": said}, *user(f"And then? {turn}")]
    assert len(where) == 1


def test_approximate_reading_of_token_ids_is_exact_and_repeats_stay(approximate):
    for _ in range(6):
        prompt = tokens(8 * BLOCK)
        first, second = complete(approximate, prompt), complete(approximate, prompt)
        assert placement(approximate, first)["reading"] == "exact"
        assert at(approximate, first) == at(approximate, second) and cached(second) >= 7 * BLOCK


def test_approximate_memory_ends(workshop):
    engines = [workshop.keep(Engine(kv=False)) for _ in range(2)]
    gate = workshop.waypost(config(engines, ttl="300ms"))
    prompt = tokens(6 * BLOCK)
    complete(gate, prompt)
    assert preview(gate, prompt)["choice"]["best_cached_blocks"] == 6
    until(lambda: preview(gate, prompt)["choice"]["best_cached_blocks"] == 0, 3, "forgotten")


def test_texts_by_events_without_a_tokenizer_are_picked_by_load(workshop, engines):
    gate = live(workshop.waypost(config(engines)), *engines)
    answer = gate.chat({"model": "a", "messages": user("Hello there. " * 50)})
    placed = placement(gate, answer)
    assert answer.status_code == 200 and placed["reading"] == "approximate" and placed["cached_tokens"] == 0


@pytest.mark.parametrize("gate", ["exact", "approximate"])
def test_a_chat_of_a_megabyte(request, gate):
    reading, gate = gate, request.getfixturevalue(gate)
    text = "".join(f"Line {n}: the quick brown fox, ünïcode and 漢字.\n" for n in range(20_000))[:1_000_000]
    body = {"model": "a", "messages": user(text), "max_tokens": 2}
    first, second = gate.chat(body), gate.chat(body)
    assert first.status_code == second.status_code == 200
    placed = placement(gate, second)
    # Tokenizing takes its time in a debug build; what is late is picked by load and sent all the same.
    assert placed["reading"] == reading or (reading == "exact" and placed["reading"] == "late"), placed["read_ms"]
    if placed["reading"] == "approximate":
        assert at(gate, first) == at(gate, second) and placed["cached_tokens"] > 100_000
        assert cached(second) > 100_000
    assert gate.chat({"model": "a", "messages": user("Hello")}).status_code == 200


def test_a_prompt_of_a_hundred_thousand_token_ids(exact):
    prompt = tokens(100_000)
    first, second = complete(exact, prompt), complete(exact, prompt)
    assert at(exact, first) == at(exact, second) and cached(second) >= 99_984
    placed = placement(exact, second)
    assert (placed["reading"], placed["cached_tokens"], placed["choice"]["prompt_tokens"]) == ("exact", 100_000, 100_000)


def test_what_a_model_is_told_of_thinking_is_part_of_its_prompt(workshop, tmp_path):
    folder = shutil.copytree(FOLDER / "tiny", tmp_path / "tiny")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] += "{%- if enable_thinking -%}Think, and think again.{%- endif -%}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    engine = workshop.keep(Engine())
    file = config([engine], tokenizer=str(folder))
    file["models"][0]["reasoning"] = {"chat_template": "enable_thinking"}
    rules = [{"label": label, "keywords": [label]} for label in ("math", "law")]
    policy = {"name": "p", "rules": rules, "classifier": "domain", "routes": {"math": "a", "law": "a"}, "default": "a"}
    file["policies"] = [{**policy, "reasoning": {"math": "high", "law": "off"}}]
    gate = live(workshop.waypost(file), engine)

    def counted(text, model="p", **more):
        body = {"model": model, "messages": user(text), **more}
        sent, shown = placement(gate, gate.chat(body)), decision(gate, body)
        assert sent["reading"] == shown["reading"] == "exact"
        assert sent["choice"]["prompt_tokens"] == shown["choice"]["prompt_tokens"]
        return sent["choice"]["prompt_tokens"]

    on, off = {"enable_thinking": True}, {"enable_thinking": False}
    assert counted("math") == counted("math", model="a", chat_template_kwargs=on) > counted("math", chat_template_kwargs=off)
    assert counted("law") == counted("law", model="a") < counted("law", chat_template_kwargs=on)
