"""`waypost eval`: the figures are those of the answers, and the built-in classifiers are as good as they were.

The floors are regression guards on our own development prompts, below what was measured, and no goals.
"""

import collections
import json
import random
import re
import xml.etree.ElementTree

import pytest

from classify.kit import COMMAND_S, INTENTS, INTENTS_TEST, TINY, ask, dev, evaluate, read, refused, write
from helpers.configs import TASK_LABELS
from helpers.mocks import Reply
from helpers.process import ROOT, run

HEADLINE = ["n", "accuracy", "macro_f1", "ece", "p50_us", "p99_us", "escalated"]
# Far above what any machine needs; a unit mistaken for another is farther off.
MAX_P50_US, MAX_P99_US = 20_000, 1_000_000


def tasks(name="typed"):
    """Development prompts with their task."""
    return [{"text": text, "label": section} for section, _, text in dev(name)]


def domains(name="domain"):
    """Development prompts with their domain."""
    return [{"text": text, "label": domain} for _, domain, text in dev(name)]


def attacks():
    """The development prompts of the safety classifier."""
    rows, label = [], None
    for line in (ROOT / "training/safety/dev.txt").read_text().splitlines():
        if line.startswith("["):
            label = line.strip("[]").partition("/")[0]
        elif line and not line.startswith("#"):
            rows.append({"text": line.replace("\\n", "\n"), "label": label})
    return rows


ROWS = {
    "task": tasks(),
    "complexity": [{"text": "hi", "label": "No-Label-Reason"}],
    "domain": domains(),
    "safety": attacks(),
}


def f1(rows, answers, label):
    """F1 of a label by its definition."""
    hit = sum(row["label"] == answer["label"] == label for row, answer in zip(rows, answers, strict=True))
    both = sum(row["label"] == label for row in rows) + sum(answer["label"] == label for answer in answers)
    return 2 * hit / both if both else 0.0


def calibration_error(rows, answers):
    """Expected calibration error, 15 equal bins, by its definition."""
    bins = collections.defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        bins[min(int(answer["confidence"] * 15), 14)].append((answer["confidence"], row["label"] == answer["label"]))
    gaps = (abs(sum(sure for sure, _ in one) - sum(right for _, right in one)) for one in bins.values())
    return sum(gaps) / len(rows)


# The figures.


@pytest.mark.parametrize("classifier", ROWS)
def test_the_figures_are_those_of_the_answers(tmp_path, classifier):
    rows = ROWS[classifier]
    found, said = evaluate(classifier, write(tmp_path / "rows.jsonl", rows))
    assert said == "" and all(isinstance(found[name], (int, float)) for name in HEADLINE)
    answers = ask(classifier, [{"text": row["text"]} for row in rows])
    right = sum(row["label"] == answer["label"] for row, answer in zip(rows, answers, strict=True))
    assert (found["n"], found["skipped"], found["failed"]) == (len(rows), 0, 0)
    assert found["accuracy"] == pytest.approx(right / len(rows), abs=1e-9)
    names = {row["label"] for row in rows}
    assert found["macro_f1"] == pytest.approx(sum(f1(rows, answers, name) for name in names) / len(names), abs=1e-6)
    assert found["ece"] == pytest.approx(calibration_error(rows, answers), abs=1e-3)
    escalated = sum(answer["tier"] == "encoder" for answer in answers)
    assert found["escalated"] == pytest.approx(escalated / len(rows), abs=1e-9)
    assert 0 < found["p50_us"] <= found["p99_us"] < MAX_P99_US and found["p50_us"] < MAX_P50_US
    for name, counts in found["labels"].items():
        assert counts["n"] == sum(row["label"] == name for row in rows)
        assert counts["f1"] == pytest.approx(f1(rows, answers, name), abs=1e-6)
    for mistake in found["confusions"]:
        pairs = [(row["label"], answer["label"]) for row, answer in zip(rows, answers, strict=True)]
        assert mistake["n"] == pairs.count((mistake["label"], mistake["taken_for"]))


def test_a_person_reads_the_same_figures(tmp_path):
    data = write(tmp_path / "rows.jsonl", ROWS["task"])
    found, _ = evaluate("task", data)
    done = run("eval", "--classifier", "task", "--data", str(data), timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    assert f"{found['accuracy'] * 100:.1f} %" in done.stdout and f"{found['ece']:.3f}" in done.stdout
    assert all(label in done.stdout for label in TASK_LABELS)


def test_several_files_other_fields_and_csv_are_read_as_one(tmp_path):
    first = write(tmp_path / "a.jsonl", [{"prompt": "hi", "is": "Chatbot"}])
    second = tmp_path / "b.csv"
    second.write_text('is,prompt\nCode Generation,"write a bash one-liner\nthat counts files"\n')
    fields = ("--text-field", "prompt", "--label-field", "is")
    found, _ = evaluate("task", first, second, options=fields)
    assert (found["n"], found["accuracy"]) == (2, 1.0)


def test_labels_the_classifier_does_not_know_count_as_wrong_and_are_named(tmp_path):
    rows = [
        *ROWS["task"][:20],
        {"text": "where is my parcel", "label": "Parcels"},
        {"text": "my parcel!", "label": "Parcels"},
    ]
    found, said = evaluate("task", write(tmp_path / "rows.jsonl", rows))
    known, _ = evaluate("task", write(tmp_path / "known.jsonl", rows[:20]))
    assert said.startswith("warning: ") and "'Parcels' (2 rows)" in said and "2 of 22 rows count as wrong" in said
    assert found["unknown_labels"] == {"Parcels": 2} and found["n"] == 22
    assert found["accuracy"] == pytest.approx(known["accuracy"] * 20 / 22)
    assert found["labels"]["Parcels"]["recall"] == 0


def test_rows_that_cannot_be_used_are_named_and_counted(tmp_path):
    data = write(
        tmp_path / "rows.jsonl", [{"text": "hi", "label": "Chatbot"}, {"text": 5, "label": "Chatbot"}, "nonsense"]
    )
    found, said = evaluate("task", data)
    assert (found["n"], found["skipped"]) == (1, 2)
    assert f"{data}:2: 'text' is a number" in said and f"{data}:3: not JSON" in said


def test_pictures_are_xml_and_show_the_labels(tmp_path):
    data = write(tmp_path / "rows.jsonl", ROWS["task"] + [{"text": "x", "label": "</svg><&\"'\n"}])
    evaluate("task", data, options=("--out", str(tmp_path / "new/report")))
    assert sorted(path.name for path in (tmp_path / "new/report").iterdir()) == ["confusion.svg", "reliability.svg"]
    for path in (tmp_path / "new/report").iterdir():
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = "".join(root.itertext())
        assert ("Summarization" in texts) == (path.name == "confusion.svg")
        assert not [one.tag for one in root.iter() if one.tag.endswith("script")]


def test_a_trained_folder(bank):
    rows = read(INTENTS_TEST)
    found, said = evaluate(bank[0], INTENTS_TEST)
    answers = ask(bank[0], [{"text": row["text"]} for row in rows])
    assert said == "" and found["n"] == len(rows)
    assert found["accuracy"] == pytest.approx(
        sum(r["label"] == a["label"] for r, a in zip(rows, answers, strict=True)) / len(rows)
    )
    assert not {row["text"] for row in rows} & {row["text"] for row in read(INTENTS)}, "an example must not cheat"


def test_two_side_by_side(bank, tiny, tmp_path):
    data = write(tmp_path / "rows.jsonl", TINY)
    options = ("--data", str(data), "--out", str(tmp_path / "report"))
    done = run("eval", "--compare", str(tiny[0]), str(bank[0]), "--json", *options, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    both = json.loads(done.stdout)
    assert set(both) == {"a", "b", "only_a_right", "only_b_right"}
    alone, _ = evaluate(tiny[0], data)
    timed = ("p50_us", "p99_us")
    assert {k: v for k, v in both["a"].items() if k not in timed} == {k: v for k, v in alone.items() if k not in timed}
    assert both["b"]["accuracy"] == 0 and f"{bank[0]} does not know" in done.stderr
    assert (both["only_a_right"], both["only_b_right"]) == (round(alone["accuracy"] * 20), 0)
    pictures = {f"{kind}-{one}.svg" for kind in ("confusion", "reliability") for one in "ab"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == pictures
    shown = run(
        "eval",
        "--compare",
        "task",
        "domain",
        "--data",
        str(write(tmp_path / "t.jsonl", ROWS["task"])),
        timeout=COMMAND_S,
    )
    assert re.search(r"^accuracy +9\d\.\d % +0\.0 %$", shown.stdout, re.M), shown.stdout


# A KServe server.

ASKED = [
    {"text": f"prompt {n}", "label": label} for n, label in enumerate(["Rewrite", "Rewrite", "Closed QA", "Rewrite"])
]


@pytest.fixture
def asked(tmp_path):
    return write(tmp_path / "asked.jsonl", ASKED)


def kserve_eval(server, data, *options):
    return evaluate(server.infer_url, data, options=("--labels", "task", *options))


def test_a_kserve_server_is_judged_by_the_same_figures(kserve, asked):
    server = kserve([0.7 if label == "Rewrite" else 0.3 / 11 for label in TASK_LABELS])
    found, said = kserve_eval(server, asked)
    assert (found["n"], found["accuracy"], found["escalated"], said) == (4, 0.75, None, "")
    assert found["ece"] == pytest.approx(0.05, abs=1e-3) and not found["one_hot"]
    assert found["macro_f1"] == pytest.approx((6 / 7 + 0) / 2, abs=1e-6)
    assert 0 < found["p50_us"] <= found["p99_us"]
    assert sorted(server.texts()) == sorted(row["text"] for row in ASKED), "each is asked once"


def test_one_hot_answers_have_no_confidence(kserve, asked):
    server = kserve()
    server.one_hot(TASK_LABELS.index("Rewrite"))
    found, said = kserve_eval(server, asked)
    assert (found["accuracy"], found["one_hot"], found["ece"]) == (0.75, True, None)
    assert "it has no ECE" in said


def test_labels_from_a_file(kserve, asked, tmp_path):
    names = tmp_path / "labels.txt"
    names.write_text("Closed QA\nRewrite\n")
    found, _ = evaluate(kserve([0.1, 0.9]).infer_url, asked, options=("--labels", str(names)))
    assert found["accuracy"] == 0.75


def test_answers_of_a_server_that_mean_nothing(kserve, dead_port, asked):
    server = kserve([0.5, 0.5])
    assert "--labels" in refused("eval", "--classifier", server.infer_url, "--data", str(asked))
    error = refused("eval", "--classifier", server.infer_url, "--labels", "task", "--data", str(asked))
    assert "2 scores" in error and "names 12" in error
    server.reply(500, body={"error": "out of order"})
    error = refused("eval", "--classifier", server.infer_url, "--labels", "task", "--data", str(asked))
    assert server.infer_url in error and "failed 4 times" in error
    url = dead_port().url
    assert url in refused("eval", "--classifier", url, "--labels", "task", "--data", str(asked))


def test_rows_a_server_does_not_answer_are_told_of(kserve, asked):
    server = kserve()
    server.one_hot(TASK_LABELS.index("Rewrite"))
    usual = server.answer
    server.answer = lambda request: Reply(500) if b"prompt 2" in request.body else usual(request)
    found, said = kserve_eval(server, asked)
    assert (found["n"], found["failed"], found["accuracy"]) == (3, 1, 1.0)
    assert "no answer for 1 row" in said


# What is refused.


def test_mistakes_on_the_command_line_and_in_the_data(tmp_path):
    data = write(tmp_path / "rows.jsonl", TINY)
    assert "'tusk'" in refused("eval", "--classifier", "tusk", "--data", str(data))
    absent = tmp_path / "absent.jsonl"
    assert str(absent) in refused("eval", "--classifier", "task", "--data", str(absent))
    error = refused("eval", "--classifier", "task", "--data", str(data), "--label-field", "intent")
    assert f"{data}: has no field 'intent'; its fields are: label, text" in error
    assert "holds no rows" in refused("eval", "--classifier", "task", "--data", str(write(tmp_path / "none.jsonl", [])))
    for args in ((), ("--compare", "task"), ("--classifier", "task", "--compare", "task", "domain")):
        assert run("eval", "--data", str(data), *args).returncode == 2
    assert run("eval", "--classifier", "task").returncode == 2


def test_labels_are_of_no_use_to_a_classifier_that_has_its_own(tmp_path):
    """An option that does nothing is a misunderstanding somebody should hear of."""
    data = str(write(tmp_path / "rows.jsonl", ROWS["complexity"]))
    done = run("eval", "--classifier", "task", "--labels", str(tmp_path / "absent.txt"), "--data", data)
    assert "--labels" in done.stderr


# Floors.


@pytest.mark.parametrize(
    "head, rows, floor", [("task", tasks(), 0.90), ("domain", domains(), 0.80), ("task", tasks("pasted"), 0.80)]
)
def test_prompts_as_people_type_them(tmp_path, head, rows, floor):
    found, _ = evaluate(head, write(tmp_path / "rows.jsonl", rows))
    assert found["accuracy"] >= floor and found["ece"] <= 0.15
    assert found["escalated"] <= 0.5


def test_attacks_are_told_from_prompts_that_sound_like_them(tmp_path):
    found, _ = evaluate("safety", write(tmp_path / "rows.jsonl", attacks()))
    safety = found["safety"]
    assert safety["attacks"] + safety["benign"] == found["n"] and safety["auc"] >= 0.9
    rates = [one["rate"] for one in safety["thresholds"]]
    assert rates == sorted(rates)
    assert [one["recall"] for one in safety["thresholds"]] == sorted(one["recall"] for one in safety["thresholds"])
    [one] = [one for one in safety["thresholds"] if one["rate"] == pytest.approx(0.01)]
    assert one["recall"] >= 0.6 and one["false_alarms"] <= 0.08


def swapped(text, rng):
    """One typo: two letters of a longer word change places, one is missing, or one stands twice."""
    words = list(re.finditer(r"[^\W\d_]{4,}", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    return text[:at] + rng.choice([text[at + 1] + text[at] + text[at + 2 :], text[at + 1 :], text[at] + text[at:]])


NOISE = {
    "lower case": lambda text, _: text.lower(),
    "upper case": lambda text, _: text.upper(),
    "double spaces": lambda text, _: text.replace(" ", "  "),
    "a typo": swapped,
}
# One typo turns the domain of one short prompt in nine; the others stand where they should.
UNCHANGED = collections.defaultdict(lambda: 0.93, {("domain", "a typo"): 0.86})


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("head", ["task", "domain", "complexity", "safety"])
def test_noise_changes_no_label(head, noise):
    texts = [row["text"] for row in (domains() if head == "domain" else attacks() if head == "safety" else tasks())]
    rng = random.Random(3)
    before = ask(head, [{"text": text} for text in texts])
    after = ask(head, [{"text": NOISE[noise](text, rng)} for text in texts])
    same = sum(one["label"] == other["label"] for one, other in zip(before, after, strict=True))
    assert same / len(texts) >= UNCHANGED[head, noise]
