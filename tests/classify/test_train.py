"""`waypost train`: labelled rows in, a whole folder out, the same bytes for a seed; what is wrong is named."""

import contextlib
import csv
import gzip
import json
import os
import re
import shutil
import xml.etree.ElementTree

import pytest

from classify.kit import INTENTS, MODEL, TINY, ask, evaluate, read, refused, train, write
from helpers.process import run

FILES = [MODEL, "labels.json", "metrics.json", "README.md", "reliability.svg", "confusion.svg"]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What a folder holds.


def test_the_bank_intents_hold_out_whole_sources(bank):
    folder, said = bank
    rows = read(INTENTS)
    found = metrics(folder)
    split = found["split"]
    assert (found["rows"], found["skipped"], found["name"]) == (len(rows), 0, "bank")
    assert split["by"] == "source" and not split["calibration_is_test"]
    sources = {row["source"] for row in rows}
    tested, calibrated = set(split["test_sources"]), set(split["calibration_sources"])
    assert tested and tested < sources and calibrated < sources and not tested & calibrated
    of_sources = sum(row["source"] in tested for row in rows)
    assert found["n"] == split["test"] <= of_sources, "nothing of other sources is tested on"
    assert split["train"] + split["calibration"] + split["test"] == len(rows)
    for name in ("accuracy", "macro_f1", "ece", "escalated"):
        assert 0 <= found[name] <= 1, name
    assert sum(one["n"] for one in found["bins"]) == found["n"] and len(found["bins"]) == 15
    for phase in ("reading", "encoding", "training", "calibrating", "writing"):
        assert re.search(rf"^{phase}", said, re.M), f"progress is shown: {phase}"
    last = said.splitlines()[-1]
    assert f"15 labels; on {found['n']} rows held out by source" in last
    assert f"accuracy {found['accuracy']:.3f}" in last


def test_the_folder_is_complete(bank):
    folder, _ = bank
    assert sorted(contents(folder)) == sorted(FILES)
    card = (folder / "README.md").read_text()
    found = metrics(folder)
    assert card.startswith("# Model card: bank\n")
    for wanted in (
        f"{found['accuracy']:.3f}", f"{found['macro_f1']:.3f}", f"{found['ece']:.3f}", "Confusion table", "ECE (15 bins)",
        *found["split"]["test_sources"], "temperature", "confidence floor", "| precision | recall | F1 | threshold |",
    ):  # fmt: skip
        assert wanted in card, wanted
    labels = json.loads((folder / "labels.json").read_text())["labels"]
    names = sorted({row["label"] for row in read(INTENTS)})
    assert [one["label"] for one in labels] == names
    assert {one["rows"] for one in labels} == {24}
    for name in names:
        assert name in card, name
    for one in labels:
        assert one["threshold"] is None or 0 < one["threshold"]["at"] <= 1
    for picture in ("reliability.svg", "confusion.svg"):
        root = xml.etree.ElementTree.parse(folder / picture).getroot()
        assert root.tag.endswith("svg")


def test_it_learnt_something(bank):
    folder, _ = bank
    found, _ = evaluate(folder, INTENTS)
    assert found["accuracy"] >= 0.9, "the rows it was trained on"
    assert metrics(folder)["accuracy"] >= 0.5, "15 labels, an unseen source, 24 rows a label"


# Reproducible.


@contextlib.contextmanager
def on_one_core():
    """What is started within has one core only."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def test_the_same_seed_gives_the_same_bytes_whatever_the_machine(bank, tmp_path):
    folder, _ = bank
    elsewhere = shutil.copy(INTENTS, tmp_path / INTENTS.name)
    with on_one_core():
        train(elsewhere, tmp_path / "again", "--name", "bank", "--seed", "2026")
    assert contents(tmp_path / "again") == contents(folder)


def test_another_seed_gives_another_folder(tiny, tmp_path):
    folder, _ = tiny
    data = write(tmp_path / "rows.jsonl", TINY)
    train(data, tmp_path / "a", "--no-encoder", "--name", "tiny")
    train(data, tmp_path / "b", "--no-encoder", "--name", "tiny", "--seed", "7")
    assert contents(tmp_path / "a") == contents(folder)
    assert contents(tmp_path / "b")[MODEL] != contents(folder)[MODEL]
    assert metrics(tmp_path / "b")["seed"] == 7


# What data may look like.


def test_csv_gzip_and_other_field_names_are_the_same_data(tiny, tmp_path):
    folder, _ = tiny
    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "message", "queue"])
        writer.writerows((number, row["text"], row["label"]) for number, row in enumerate(TINY))
    fields = ("--text-field", "message", "--label-field", "queue")
    train(table, tmp_path / "table", "--no-encoder", *fields)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    train(packed, tmp_path / "packed", "--no-encoder", *fields)
    texts = [{"text": row["text"]} for row in TINY]
    assert ask(tmp_path / "table", texts) == ask(tmp_path / "packed", texts) == ask(folder, texts)


def test_csv_with_line_breaks_quotation_marks_and_commas(tmp_path):
    table = tmp_path / "rows.csv"
    rows = [{"text": f'{row["text"]},\n"{number}"', "label": row["label"]} for number, row in enumerate(TINY)]
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "out"
    train(table, out, "--no-encoder")
    assert (metrics(out)["rows"], metrics(out)["skipped"]) == (20, 0)
    assert [a["label"] for a in ask(out, [{"text": row["text"]} for row in rows])] == [row["label"] for row in rows]


def test_twenty_rows_of_two_labels(tiny, tmp_path):
    folder, said = tiny
    assert "2 labels; on " in said.splitlines()[-1]
    found = metrics(folder)
    assert found["rows"] == 20 and 4 <= found["n"] <= 8 and found["split"]["by"] == "random"
    assert found["split"]["calibration_is_test"]
    card = (folder / "README.md").read_text()
    assert "flatter" in card, "so few rows are told of"
    both = tmp_path / "both"
    train(write(tmp_path / "rows.jsonl", TINY), both)
    unseen = [{"text": "when do I get my refund"}, {"text": "is there rain in the forecast"}]
    for out in (folder, both):
        assert [answer["label"] for answer in ask(out, unseen)] == ["refund", "weather"]


def test_two_rows_are_not_measured(tmp_path):
    said = train(write(tmp_path / "rows.jsonl", [TINY[0], TINY[10]]), tmp_path / "out", "--no-encoder")
    assert "too few rows to hold any out, nothing was measured" in said
    assert metrics(tmp_path / "out")["accuracy"] is None
    assert len(ask(tmp_path / "out", [{"text": "x"}])[0]["probabilities"]) == 2


def test_labels_of_any_kind(tmp_path):
    names = ["5", "Über|Größe", "日本語", "🦆", "a,\nb", "</svg>&\"'<"]
    rows = [{"text": f"{row['text']} {name}", "label": name} for name in names for row in TINY[:5]]
    rows += [{"text": f"{row['text']} five", "label": 5} for row in TINY[5:10]]
    out = tmp_path / "out"
    train(write(tmp_path / "rows.jsonl", rows), out, "--no-encoder")
    [answer] = ask(out, [{"text": "x"}])
    assert set(answer["probabilities"]) == set(names), "a number is the label of its digits"
    for picture in ("reliability.svg", "confusion.svg"):
        xml.etree.ElementTree.parse(out / picture)


def test_without_the_encoder_no_answer_comes_from_it(tiny):
    folder, _ = tiny
    answers = ask(folder, [{"text": text} for text in ("zyx wvu", "?", "money weather", "refund")])
    assert {answer["tier"] for answer in answers} == {"ngram"}
    assert metrics(folder)["encoder_always"] is None
    found, _ = evaluate(folder, folder.parent / "rows.jsonl")
    assert found["escalated"] == 0


# Data that is wrong.


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("option", ["--label-field", "--text-field", "--source-field"])
def test_a_missing_field_is_named_with_those_that_are_there(tmp_path, ending, option):
    data = tmp_path / f"rows.{ending}"
    if ending == "csv":
        data.write_text("text,label\n" + "".join(f"{row['text'].replace(',', '')},{row['label']}\n" for row in TINY))
    else:
        write(data, TINY)
    error = refused("train", "--data", str(data), "--out", str(tmp_path / "out"), option, "origin")
    assert f"{data}: has no field 'origin'; its fields are: label, text" in error and option in error
    assert [path.name for path in tmp_path.iterdir()] == [data.name], "nothing is left behind"


def test_rows_that_cannot_be_used_are_named_by_line(tmp_path):
    bad = [
        ("{", "not JSON"), ('"x"', "not a JSON object"), ({"label": "x"}, "no field 'text'"), ({"text": "x"}, "no field 'label'"),
        ({"text": 5, "label": "x"}, "'text' is a number"), ({"text": "x", "label": ["y"]}, "'label' is a list"),
        ({"text": " ", "label": "x"}, "'text' is empty"), ({"text": "x", "label": ""}, "'label' is empty"),
        ({"text": "x", "label": None}, "'label' is null"), ({"text": "x" * 300_000, "label": "x"}, "'text' has 300000 bytes"),
        (json.dumps({"text": "x" * 1_100_000, "label": "x"}), "longer than 1048576 bytes"),
    ]  # fmt: skip
    data = write(tmp_path / "rows.jsonl", TINY[:3] + [line for line, _ in bad] + TINY[3:])
    said = train(data, tmp_path / "out", "--no-encoder")
    assert f"{len(bad)} rows left out" in said
    for number, (_, reason) in enumerate(bad, 4):
        assert re.search(rf"^\s*{re.escape(str(data))}:{number}: .*{re.escape(reason)}", said, re.M), (
            number,
            reason,
            said,
        )
    assert (metrics(tmp_path / "out")["rows"], metrics(tmp_path / "out")["skipped"]) == (20, len(bad))
    assert f"{len(bad)} left out" in (tmp_path / "out/README.md").read_text()


def test_csv_rows_that_cannot_be_used_are_named_by_line(tmp_path):
    data = tmp_path / "rows.csv"
    rows = [f"{row['text'].replace(',', '')},{row['label']}" for row in TINY]
    data.write_text(
        "\n".join(["text,label", '"over\ntwo lines",refund', "three,fields,here", ",refund", "alone", *rows]) + "\n"
    )
    said = train(data, tmp_path / "out", "--no-encoder")
    assert "3 rows left out" in said
    for number in (4, 5, 6):
        assert f"{data}:{number}: " in said, said


USELESS = {
    "one label": ([row for row in TINY if row["label"] == "refund"], "have the label 'refund'; a classifier needs two"),
    "nothing": ([], "holds no rows"),
    "no JSON": (["text,label"], "no row can be used"),
    "an array": ([json.dumps(TINY)], "JSON array"),
    "too many labels": (
        [{"text": f"t{n}", "label": f"l{n}"} for n in range(2001)],
        "more than 2000; is this the right field?",
    ),
}


@pytest.mark.parametrize("name", USELESS)
def test_data_that_teaches_nothing(tmp_path, name):
    rows, reason = USELESS[name]
    data = write(tmp_path / "rows.jsonl", rows)
    error = refused("train", "--data", str(data), "--out", str(tmp_path / "out"))
    assert str(data) in error and reason in error
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


def test_data_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        assert str(path) in refused("train", "--data", str(path), "--out", str(tmp_path / "out"))
    torn = tmp_path / "rows.jsonl.gz"
    torn.write_bytes(gzip.compress(json.dumps(TINY).encode())[:-20])
    assert str(torn) in refused("train", "--data", str(torn), "--out", str(tmp_path / "out"))


def test_an_open_quotation_mark_does_not_swallow_the_file(tmp_path):
    data = tmp_path / "rows.csv"
    data.write_text('text,label\n"open,refund\n' + "more,weather\n" * 200_000)
    error = refused("train", "--data", str(data), "--out", str(tmp_path / "out"))
    assert "line 2" in error and "quotation mark" in error


# Warnings.


def warnings(rows, folder):
    said = train(write(folder / "rows.jsonl", rows), folder / "out", "--no-encoder")
    found = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert [f"warning: {warning}" for warning in metrics(folder / "out")["warnings"]] == found
    card = (folder / "out/README.md").read_text()
    assert all(line.removeprefix("warning: ") in card for line in found)
    return found


def test_sound_rows_are_no_reason_to_warn(tmp_path):
    assert warnings(TINY, tmp_path) == []


def test_figures_of_a_handful_of_rows_are_said_to_mean_little(tmp_path):
    assert any("measured on" in found and "mean little" in found for found in warnings(TINY[::4], tmp_path))


def test_a_label_that_stands_in_its_texts_is_a_leak(tmp_path):
    [found] = warnings([{**row, "text": f"{row['text']} #{row['label']}"} for row in TINY], tmp_path)
    assert "leak" in found and "refund" in found and "weather" in found


def test_an_identifier_that_stands_in_one_label_is_a_leak(tmp_path):
    marks = {"refund": "Q-4711", "weather": "ticket"}
    [found] = warnings([{**row, "text": f"{marks[row['label']]} {row['text']}"} for row in TINY], tmp_path)
    assert "leak" in found and "'4711'" in found and "'refund'" in found


def test_repeats_and_contradictions_are_shown_with_their_lines(tmp_path):
    rows = TINY + [
        {"text": "i WANT my money   back!", "label": "refund"},
        {"text": "Snow at the weekend", "label": "refund"},
    ]
    again, against = warnings(rows, tmp_path)
    assert "repeats" in again and "lines 1 and 21" in again
    assert "contradicts" in against and "line 16" in against and "line 22" in against


def test_texts_of_two_sources_are_not_tested_on(tmp_path):
    rows = [{**row, "source": source} for source in "abcd" for row in TINY]
    repeats, at_random = warnings(rows, tmp_path)
    assert repeats.startswith("warning: 60 rows repeat") and "at random" in at_random
    split = metrics(tmp_path / "out")["split"]
    assert split["by"] == "random" and split["test"] % 4 == 0, "the four rows of a text stay together"


def test_a_source_that_repeats_some_texts_of_others(tmp_path):
    own = [{**row, "text": f"{row['text']} {source}", "source": source} for source in "abcd" for row in TINY]
    shared = [{**TINY[0], "source": source} for source in "abcd"]
    found = " ".join(warnings(own + shared, tmp_path))
    assert "1 row of held-out sources repeat" in found or "1 row of held-out sources repeats" in found
    assert metrics(tmp_path / "out")["split"]["by"] == "source"


def test_rare_labels_and_look_alikes(tmp_path):
    rows = TINY + [{"text": "card gone", "label": "Lost card"}, {"text": "no card here", "label": "lost_card"}]
    found = " ".join(warnings(rows, tmp_path))
    assert "fewer than 5 rows: Lost card, lost_card" in found
    assert "differ in case, spacing or punctuation" in found


# Where it is written to.


def test_only_an_earlier_trained_folder_is_replaced(tmp_path):
    data = write(tmp_path / "rows.jsonl", TINY)
    out = tmp_path / "deep/er/out"
    train(data, out, "--no-encoder")
    first = contents(out)
    train(data, out, "--no-encoder", "--seed", "7")
    assert contents(out) != first
    kept = contents(out)
    (out / "notes.txt").write_text("mine")
    error = refused("train", "--data", str(data), "--out", str(out), "--no-encoder")
    assert f"{out} holds notes.txt" in error and "--out" in error
    assert contents(out) == {**kept, "notes.txt": b"mine"}
    other = tmp_path / "home"
    other.mkdir()
    (other / "README.md").write_text("my own")
    assert "no trained folder" in refused("train", "--data", str(data), "--out", str(other))
    assert "is not a folder" in refused("train", "--data", str(data), "--out", str(data))
    assert contents(other) == {"README.md": b"my own"} and read(data) == TINY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "home", "rows.jsonl"]


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "out").mkdir()
    train(write(tmp_path / "rows.jsonl", TINY), tmp_path / "out", "--no-encoder")
    assert sorted(contents(tmp_path / "out")) == sorted(FILES)


def test_what_fails_leaves_the_former_folder_as_it_was(tiny, tmp_path):
    folder, _ = tiny
    out = shutil.copytree(folder, tmp_path / "out")
    refused("train", "--data", str(write(tmp_path / "bad.jsonl", ["x"])), "--out", str(out))
    assert contents(out) == contents(folder)
    assert len(list(tmp_path.iterdir())) == 2


def test_help_says_what_is_written():
    text = run("train", "--help").stdout
    assert all(name in text for name in FILES)
