"""`waypost train --outcomes` and `eval --outcomes`: what can be learnt is, what cannot is said, the same bytes for a seed."""

import csv
import gzip
import io
import json
import os
import random
import xml.etree.ElementTree

import pytest

from classify.kit import lines, refused, write
from helpers.process import run

FILES = ["README.md", "curve.json", "curve.svg", "metrics.json", "outcomes.safetensors"]
COMMAND_S = 120
MATHS = (
    "Solve {} x + {} = {} for x and show the steps", "What is the derivative of {} x^2 + {} x at x = {}?",
    "Compute the integral of {} x from {} to {}", "How many ways are there to choose {} of {} marbles in {} rows?",
)  # fmt: skip
HISTORY = (
    "Who ruled {} when the treaty of {} was signed in {}?", "Describe the causes of the {} revolt in {} around {}",
    "Which king of {} led the crusade to {} in the year {}?", "Why did the empire of {} fall to {} in {}?",
)  # fmt: skip
PLACES = ("France", "Persia", "Rome", "Vienna", "Athens", "Egypt", "Spain", "Prussia", "Venice", "Kyoto")


def prompts(count, seed=1):
    """(topic, prompt), half maths, half history."""
    rng = random.Random(seed)
    for at in range(count):
        if at % 2:
            yield "history", rng.choice(HISTORY).format(rng.choice(PLACES), rng.choice(PLACES), rng.randint(900, 1900))
        else:
            yield "maths", rng.choice(MATHS).format(*(rng.randint(2, 400) for _ in range(3)))


def outcomes(count, quality, seed=1, **more):
    """Rows of two models; `quality` is the chance of each to be right on each topic."""
    rng = random.Random(seed)
    for at, (topic, prompt) in enumerate(prompts(count, seed)):
        for model, chance in quality[topic].items():
            extra = {name: value(model, at) for name, value in more.items()}
            yield {"prompt": prompt, "model": model, "correct": int(rng.random() < chance), **extra}


# A is good at maths, B at history; neither is better altogether.
SPLIT = {"maths": {"a": 0.9, "b": 0.3}, "history": {"a": 0.3, "b": 0.9}}
# Which of them is right has nothing to do with the prompt.
NOISE = {topic: {"a": 0.45, "b": 0.6} for topic in ("maths", "history")}


def train(path, out, *options):
    done = run("train", "--outcomes", str(path), "--out", str(out), *options, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return done


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def judged(folder, path, *options):
    done = run("eval", "--outcomes", str(folder), "--data", str(path), "--json", *options, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Maths and history, learnt without the encoder."""
    folder = tmp_path_factory.mktemp("learnt")
    data = write(folder / "rows.jsonl", outcomes(600, SPLIT))
    return folder / "out", train(data, folder / "out", "--no-encoder", "--price", "a=1/2", "--price", "b=1/2"), data


# What can be learnt, and what cannot.


def test_it_learns_who_is_good_at_what(learnt, tmp_path):
    folder, done, _ = learnt
    assert "Worth routing for quality" in done.stderr
    later = write(tmp_path / "later.jsonl", outcomes(400, SPLIT, seed=2))
    rule = judged(folder, later)["tier0"]["measured"]["best_quality"]
    assert rule["quality"] > 0.85 and rule["gain"]["low"] > 0.15, rule
    assert all(0.4 < share < 0.6 for share in rule["shares"])


def test_the_encoder_learns_it_too(tmp_path):
    data = write(tmp_path / "rows.jsonl", outcomes(200, SPLIT))
    train(data, tmp_path / "out")
    later = write(tmp_path / "later.jsonl", outcomes(60, SPLIT, seed=2))
    said = judged(tmp_path / "out", later)
    best = (said["tier1"] or said["tier0"])["measured"]["best_quality"]
    assert best["gain"]["value"] > 0.15
    assert said["tier0"]["measured"]["best_quality"]["gain"]["value"] > 0.15, "tier 0 answers alone too"


@pytest.mark.parametrize("seed", range(5))
def test_of_noise_it_says_that_there_is_no_gain_and_takes_the_best_single(seed, tmp_path):
    data = write(tmp_path / "rows.jsonl", outcomes(300, NOISE, seed=seed))
    done = train(data, tmp_path / "out", "--no-encoder")
    advice = metrics(tmp_path / "out")["advice"]
    assert advice in done.stderr
    assert "No gain" in advice and " b" in advice, advice
    assert advice in (tmp_path / "out/README.md").read_text()
    later = write(tmp_path / "later.jsonl", outcomes(100, NOISE, seed=seed + 100))
    rule = judged(tmp_path / "out", later)["tier0"]["measured"]["best_quality"]
    assert rule["shares"] == [0.0, 1.0] and rule["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_cheap_model_that_is_as_good_on_some_prompts_saves_cost(tmp_path):
    quality = {"maths": {"cheap": 0.9, "dear": 0.9}, "history": {"cheap": 0.2, "dear": 0.9}}
    data = write(tmp_path / "rows.jsonl", outcomes(600, quality))
    prices = ("--price", "cheap=0.1/0.1", "--price", "dear=10/10")
    train(data, tmp_path / "out", "--no-encoder", *prices)
    later = write(tmp_path / "later.jsonl", outcomes(400, quality, seed=2))
    measured = judged(tmp_path / "out", later, *prices)["tier0"]["measured"]
    assert measured["cost_unit"] == "USD a request"
    equal = measured["equal_quality"]
    assert equal["saving"]["low"] > 0.1 and equal["gain"]["value"] > -0.05, equal
    assert measured["curve"]["area"]["low"] > measured["curve"]["area_without_learning"]
    assert measured["pair"]["apgr"]["value"] > 0.65 and measured["pair"]["cpt80"]["value"] < 0.6


# What the folder holds.


def test_the_folder_is_complete(learnt):
    folder, done, _ = learnt
    assert sorted(contents(folder)) == FILES
    found = metrics(folder)
    assert (found["rows"], found["skipped"], found["priced"]) == (1200, 0, True)
    assert found["prompts"] <= 600 and [model["name"] for model in found["models"]] == ["a", "b"]
    (held,) = found["held_out"]
    assert held["split"] == "at random" and held["measured"]["n"] == held["tested"]
    card = (folder / "README.md").read_text()
    for wanted in ("# Card: out", "Random splits flatter", "oracle", "always a", "95 % interval"):
        assert wanted in card, wanted
    points = json.loads((folder / "curve.json").read_text())[0]["points"]
    assert points == sorted(points, key=lambda point: point["cost"])
    assert xml.etree.ElementTree.parse(folder / "curve.svg").getroot().tag.endswith("svg")
    assert "| oracle" in done.stdout


def test_whole_sources_are_held_out_first(tmp_path):
    rows = outcomes(400, SPLIT, source=lambda _, at: f"site-{at // 2 % 8}")
    train(write(tmp_path / "rows.jsonl", rows), tmp_path / "out", "--no-encoder")
    first, second = metrics(tmp_path / "out")["held_out"]
    assert first["split"].startswith("by source (site-") and second["split"] == "at random"
    assert "held out by source" in (tmp_path / "out/README.md").read_text()


def test_tokens_and_latency_are_learnt_where_rows_tell(tmp_path):
    more = {"completion_tokens": lambda model, _: 50 if model == "a" else 400, "prompt_tokens": lambda *_: 20}
    data = write(tmp_path / "rows.jsonl", outcomes(100, SPLIT, **more))
    prices = ("--price", "a=0/1", "--price", "b=0/1")
    train(data, tmp_path / "out", "--no-encoder", *prices)
    singles = judged(tmp_path / "out", data, *prices)["tier0"]["measured"]["singles"]
    assert [round(way["cost"] * 1e6) for way in singles] == [50, 400]


# Reproducible.


def test_the_same_seed_gives_the_same_bytes(learnt, tmp_path):
    folder, _, data = learnt
    again = tmp_path / "out"
    train(data, again, "--no-encoder", "--price", "a=1/2", "--price", "b=1/2")
    assert contents(again) == contents(folder)
    train(data, tmp_path / "other/out", "--no-encoder", "--price", "a=1/2", "--price", "b=1/2", "--seed", "7")
    assert contents(tmp_path / "other/out")["metrics.json"] != contents(folder)["metrics.json"]


def test_the_number_of_cores_changes_no_byte(tmp_path):
    data = write(tmp_path / "rows.jsonl", outcomes(350, SPLIT))
    train(data, tmp_path / "many/out")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        train(data, tmp_path / "one/out")
    finally:
        os.sched_setaffinity(0, cores)
    assert contents(tmp_path / "many/out") == contents(tmp_path / "one/out")


def test_csv_gzip_and_other_field_names_are_the_same_data(tmp_path):
    rows = list(outcomes(60, SPLIT))
    train(write(tmp_path / "rows.jsonl", rows), tmp_path / "one/out", "--no-encoder")
    text = io.StringIO()
    table = csv.DictWriter(text, ["question", "llm", "grade"])
    table.writeheader()
    table.writerows({"question": r["prompt"], "llm": r["model"], "grade": r["correct"]} for r in rows)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    names = ("--prompt-field", "question", "--model-field", "llm", "--score-field", "grade")
    train(tmp_path / "rows.csv.gz", tmp_path / "two/out", "--no-encoder", *names)
    one, two = contents(tmp_path / "one/out"), contents(tmp_path / "two/out")
    assert one["outcomes.safetensors"] == two["outcomes.safetensors"]


# Odd sizes and bad rows.


def distinct(count):
    """Rows of two models on so many prompts, none of them twice."""
    for at in range(count):
        for model in ("a", "b"):
            yield {"prompt": f"{MATHS[at % 3].format(at, at + 1, at + 2)}", "model": model, "correct": int(model == "ab"[at % 2])}


@pytest.mark.parametrize("count", (20, 23))
def test_few_prompts_are_no_failure(count, tmp_path):
    done = train(write(tmp_path / "rows.jsonl", distinct(count)), tmp_path / "out", "--no-encoder")
    assert "models" in done.stderr
    found = judged(tmp_path / "out", tmp_path / "rows.jsonl")
    assert found["n"] >= 1


@pytest.mark.parametrize("count", (1, 2, 19))
def test_too_few_prompts_are_refused_with_their_number(count, tmp_path):
    alone = [{"prompt": f"only a was asked {i}", "model": "a", "correct": 1} for i in range(30)]
    data = write(tmp_path / "rows.jsonl", [*distinct(count), *alone])
    said = refused("train", "--outcomes", str(data), "--out", str(tmp_path / "out"), "--no-encoder")
    assert f"rows.jsonl: {count} of {count + 30} prompts have outcomes of two models or more; 20 are needed" in said
    assert not (tmp_path / "out").exists()


def test_prompts_that_not_every_model_was_asked_are_learnt_from(tmp_path):
    rng = random.Random(3)
    rows = [row for row in outcomes(800, SPLIT) if rng.random() < 0.7]
    train(write(tmp_path / "rows.jsonl", rows), tmp_path / "out", "--no-encoder")
    later = write(tmp_path / "later.jsonl", outcomes(200, SPLIT, seed=2))
    assert judged(tmp_path / "out", later)["tier0"]["measured"]["best_quality"]["gain"]["value"] > 0.15


def test_contestants_can_be_chosen(tmp_path):
    three = {topic: {**chances, "c": 0.1} for topic, chances in SPLIT.items()}
    data = write(tmp_path / "rows.jsonl", outcomes(60, three))
    train(data, tmp_path / "out", "--no-encoder", "--models", "a,c")
    assert [model["name"] for model in metrics(tmp_path / "out")["models"]] == ["a", "c"]


def test_bad_rows_are_named_and_the_others_used(tmp_path):
    good = list(outcomes(40, SPLIT))
    bad = [{"prompt": "p", "model": "a", "correct": 3}, "nonsense", {"prompt": "p", "correct": 1}]
    data = tmp_path / "rows.jsonl"
    data.write_text(lines([*bad, *good]))
    said = train(data, tmp_path / "out", "--no-encoder").stderr
    for wanted in ("3 rows left out", ":1: 'correct' is 3, outside 0 to 1", ":2: not JSON", ":3: no field 'model'"):
        assert wanted in said, wanted
    assert metrics(tmp_path / "out")["skipped"] == 3


def test_what_is_wrong_is_said(learnt, tmp_path):
    folder, _, data = learnt
    out = ("--out", str(tmp_path / "out"))
    alone = write(tmp_path / "alone.jsonl", [{"prompt": "p", "model": "a", "correct": 1}])
    assert "only model 'a'; routing needs two" in refused("train", "--outcomes", str(alone), *out)
    assert "no row of model 'z'; there are a, b" in refused("train", "--outcomes", str(data), *out, "--models", "a,z")
    assert "no price for model 'b'" in refused("train", "--outcomes", str(data), *out, "--price", "a=1/2")
    assert "--price names 'z'" in refused("train", "--outcomes", str(data), *out, "--price", "z=1/2")
    wrong = refused("train", "--outcomes", str(data), *out, "--prompt-field", "question")
    assert "has no field 'question'" in wrong and "--prompt-field" in wrong
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    bytes_ = bytearray((folder / "outcomes.safetensors").read_bytes())
    bytes_[-1] ^= 1
    (damaged / "outcomes.safetensors").write_bytes(bytes_)
    assert "checksum" in refused("eval", "--outcomes", str(damaged), "--data", str(data))
    other = write(tmp_path / "other.jsonl", [{"prompt": "p", "model": "c", "correct": 1}])
    assert "no row of model 'a'" in refused("eval", "--outcomes", str(folder), "--data", str(other))


def test_the_two_ways_to_train_exclude_each_other(learnt, tmp_path):
    _, _, data = learnt
    out = ("--out", str(tmp_path / "out"))
    for options in (("--data", str(data)), ("--label-field", "x"), ("--text-field", "x"), ("--name", "x")):
        done = run("train", "--outcomes", str(data), *options, *out)
        assert done.returncode == 2 and "cannot be used with" in done.stderr, options
    for options in (("--models", "a,b"), ("--price", "a=1/2"), ("--prompt-field", "x"), ("--score-field", "x")):
        assert f"{options[0]} is for --outcomes" in refused("train", "--data", str(data), *options, *out)
    assert "--price is for --outcomes" in refused(
        "eval", "--classifier", "task", "--data", str(data), "--price", "a=1/2"
    )
    neither = run("train", *out)
    assert neither.returncode == 2 and "--data" in neither.stderr and "--outcomes" in neither.stderr


def test_a_folder_of_another_kind_is_not_replaced(learnt, tmp_path):
    _, _, data = learnt
    (tmp_path / "model.safetensors").write_text("")
    said = refused("train", "--outcomes", str(data), "--out", str(tmp_path), "--no-encoder")
    assert "holds model.safetensors" in said
