"""`waypost collect`: models are asked, answers scored, rows written; failures are not wrong answers.

The models are recorders (mocks) that say what a test lets them say.
"""

import json
import re
import signal
import subprocess
import threading

import pytest

from helpers.mocks import Reply
from helpers.process import binary, clean_env, run
from helpers.wait import until
from tools.kit import failed, lines, read, written

PROMPTS = [
    {"question": "What is 6 times 7?", "answer": 42, "source": "sums"},
    {"question": "Capital of France? Choose: (A) Lima (B) Paris", "answer": "B", "source": "places"},
    {"question": "Who wrote Faust?", "answer": "Goethe", "source": "books"},
    {"question": "Say a word of five letters.", "regex": r"\b\w{5}\b"},
]
GOOD = {"What is 6": "6 * 7 = 42", "Capital": "The answer is (B).", "Who": "Goethe.", "Say": "I say: house"}
POOR = {"What is 6": "It is 41", "Capital": "(A)", "Who": "<think>Goethe?</think>Schiller", "Say": "no"}


def saying(answers, status=200):
    """Answers by the beginning of the prompt."""

    def answer(request):
        prompt = request.json()["messages"][0]["content"]
        text = next((text for start, text in answers.items() if prompt.startswith(start)), "?")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return Reply(status, body={"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 10}})

    return answer


@pytest.fixture
def place(tmp_path, recorder):
    """Two contestants, a judge, a file of prompts."""

    class Place:
        good, poor, judge = recorder(), recorder(), recorder()
        out, prompts = tmp_path / "out.jsonl", tmp_path / "prompts.jsonl"

        def collect(self, *options, models="good,poor", status=0):
            done = run("collect", "--prompts", str(self.prompts), "--config", str(self.config), "--models", models,
                       "--out", str(self.out), *options, timeout=60)  # fmt: skip
            assert done.returncode == status, done.stdout + done.stderr
            return done

        def rows(self):
            return {(row["model"], row["prompt"]): row for row in read(self.out)}

        def scores(self, model):
            return [row["score"] for row in read(self.out) if row["model"] == model]

    place = Place()
    place.good.answer, place.poor.answer = saying(GOOD), saying(POOR)
    place.prompts.write_text(lines(PROMPTS))
    price = {"input": 1, "output": 2}
    models = [
        {"name": "good", "model": "up/good", "endpoint": place.good.url, "api_key": "sk-good", "price": price},
        {"name": "poor", "endpoint": place.poor.url},
        {"name": "judge", "endpoint": place.judge.url},
        {"name": "alias", "model": "up/good", "endpoint": place.good.url},
    ]
    place.config = written(tmp_path / "waypost.yaml", {"models": models})
    return place


def test_answers_are_scored_and_written(place):
    done = place.collect()
    assert place.scores("good") == [1.0] * 4 and place.scores("poor") == [0.0] * 4
    row = place.rows()["good", PROMPTS[0]["question"]]
    assert (row["prompt_tokens"], row["completion_tokens"], row["source"]) == (20, 10, "sums") and row["latency_ms"] > 0
    assert "source" not in place.rows()["good", PROMPTS[3]["question"]]
    assert [place.rows()["good", prompt["question"]]["scored_by"] for prompt in PROMPTS] == [*["answer"] * 3, "regex"]
    request = place.good.requests[0]
    assert request.path == "/v1/chat/completions" and request.header("authorization") == "Bearer sk-good"
    messages = request.json()["messages"]
    assert [message["role"] for message in messages] == ["user"]
    assert request.json() == {"model": "up/good", "messages": messages, "max_tokens": 1024, "temperature": 0.0}
    table = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    # Four answers of 20 prompt and 10 completion tokens, at 1 and 2 dollars a million.
    assert table["good"][1:5] == ["4", "100.0", "%", "$0.000160"] and table["poor"][1:5] == ["4", "0.0", "%", "-"]
    assert "sk-good" not in done.stdout + done.stderr


def test_what_is_there_is_not_asked_again(place):
    place.collect()
    place.good.requests.clear()
    first = place.out.read_text()
    with place.out.open("a") as file:
        file.write('{"prompt": "torn')
    place.prompts.write_text(lines([*PROMPTS, {"question": "Who is new?", "answer": "Goethe"}]))
    done = place.collect()
    assert "8 rows are in" in done.stderr and len(place.good.requests) == 1
    assert place.out.read_text().startswith(first) and len(read(place.out)) == 10


def test_a_failure_is_left_out_and_asked_for_again(place):
    place.poor.reply(400, body={"error": {"message": "secret prompt", "code": "context_too_long"}})
    done = place.collect(status=1)
    assert place.scores("poor") == [] and len(place.scores("good")) == 4
    assert "4 answers failed" in done.stderr and "status 400, context_too_long" in done.stdout
    assert "secret" not in done.stdout + done.stderr
    place.poor.answer = saying(POOR)
    place.collect()
    assert len(place.scores("poor")) == 4


def test_what_may_pass_is_tried_again(place):
    tries, good = [], saying(GOOD)

    def shaky(request):
        tries.append(request)
        if len(tries) == 1:
            return Reply(429, headers=[("retry-after", "0")], body={"error": {"code": "rate_limit"}})
        return Reply(503, body={"error": {}}) if len(tries) == 2 else good(request)

    place.good.answer = shaky
    place.collect("--concurrency", "1", models="good")
    assert len(tries) == 6 and place.scores("good") == [1.0] * 4


def test_a_model_that_wants_to_be_asked_otherwise(place):
    good = saying(GOOD)

    def picky(request):
        body = request.json()
        for field in ("max_tokens", "temperature"):
            if field in body:
                return Reply(400, body={"error": {"message": "unsupported", "param": field, "code": "unsupported_parameter"}})
        assert body["max_completion_tokens"] == 64
        return good(request)

    place.good.answer = picky
    place.collect("--max-tokens", "64", "--concurrency", "1", models="good")
    assert place.scores("good") == [1.0] * 4 and len(place.good.requests) == 6, "learnt once"


def test_a_model_that_only_fails_is_given_up(place):
    place.prompts.write_text(lines({"prompt": f"number {i}", "answer": str(i)} for i in range(60)))
    place.poor.reply(401, body={"error": {"code": "invalid_api_key"}})
    done = place.collect("--concurrency", "2", status=1)
    assert 20 <= len(place.poor.requests) <= 22 and len(place.scores("good")) == 60
    assert "60 answers failed" in done.stderr


def test_a_judge_says_yes_or_no_or_nothing(place):
    place.prompts.write_text(lines(PROMPTS[:3]))

    def judge(request):
        text = request.json()["messages"][0]["content"]
        shown = re.search(r"---- answer to compare\n(.*?)\n----", text, re.S)[1]
        said = "**Yes**" if "42" in shown or "(B)" in shown else "No." if "41" in shown else "I cannot say."
        return saying({"": said})(request)

    place.judge.answer = judge
    done = place.collect("--judge", "judge")
    scores = {key: row["score"] for key, row in place.rows().items()}
    sums, places, books = (prompt["question"] for prompt in PROMPTS[:3])
    assert {row["scored_by"] for row in place.rows().values()} == {"judge:judge"}
    assert scores == {("good", sums): 1.0, ("good", places): 1.0, ("poor", sums): 0.0}, "no verdict is no row"
    table = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert table["good"][-1] == "1" and table["poor"][-1] == "2"
    asked = [request.json()["messages"][0]["content"] for request in place.judge.requests]
    assert all("---- right answer\n" in text for text in asked) and not any("<think>" in text for text in asked)
    assert any("Schiller" in text and "Goethe" in text for text in asked)


def test_scores_of_two_kinds_do_not_mix(place):
    place.collect(models="good")
    before = place.out.read_text()
    for option in (["--judge", "judge"], ["--regex", "x"]):
        done = place.collect(*option, models="good,poor", status=1)
        # Rows stand in the order of the answers, so which of the lines is told is not fixed.
    assert re.search(r"out\.jsonl:\d: scored with neither --judge nor --regex", done.stderr) and " ".join(option) in done.stderr
    assert place.out.read_text() == before and not place.poor.requests
    # What was collected before rows said it is gone on with, and told of.
    place.out.write_text(before.replace('"scored_by":"answer",', ""))
    assert "3 of them do not say how they were scored" in place.collect().stderr


def test_two_at_once(place):
    hold, good = threading.Event(), saying(GOOD)

    def slow(request):
        hold.wait(20)
        return good(request)

    place.good.answer = slow
    args = ["collect", "--prompts", str(place.prompts), "--config", str(place.config), "--models", "good"]
    first = subprocess.Popen([binary(), *args, "--out", str(place.out)], env=clean_env(), stdout=subprocess.DEVNULL)
    until(lambda: place.good.requests, 20, "a request")
    assert "another `waypost collect` is writing this file" in place.collect(models="good", status=1).stderr
    hold.set()
    assert first.wait(20) == 0 and len(read(place.out)) == 4


@pytest.mark.parametrize("temperature", ["NaN", "-5", "2.1", "inf", "warm"])
def test_temperatures_are_from_0_to_2(place, temperature):
    done = place.collect("--temperature", temperature, status=2)
    assert "not a number from 0 to 2" in done.stderr


def test_a_contestant_is_no_judge(place):
    for judge in ("good", "alias"):
        done = failed("collect", "--prompts", str(place.prompts), "--config", str(place.config), "--models", "good",
                      "--out", str(place.out), "--judge", judge)  # fmt: skip
        assert "nobody judges himself" in done
    assert not place.out.exists()


def test_a_regular_expression_for_all(place):
    place.collect("--regex", "(?i)goethe|42|house|b")
    assert place.scores("good") == [1.0] * 4
    # "<think>Goethe?</think>Schiller" said Schiller.
    assert place.scores("poor") == [0.0] * 4


@pytest.mark.parametrize(
    "options, prompts, why",
    [
        (["--models", "nope"], PROMPTS, "no model 'nope'"),
        (["--models", "good,good"], PROMPTS, "'good' twice"),
        (["--models", "good", "--judge", "nope"], PROMPTS, "no model 'nope'"),
        (["--models", "good", "--regex", "("], PROMPTS, "--regex:"),
        (["--models", "good", "--answer-field", "key"], [{"prompt": "x", "answer": "y"}], "has no field 'key'"),
        (["--models", "good"], [{"x": 1}], "has no field 'prompt'"),
    ],
)
def test_what_is_wrong_with_a_command_is_told(place, options, prompts, why):
    place.prompts.write_text(lines(prompts))
    said = failed("collect", "--prompts", str(place.prompts), "--config", str(place.config), "--out", str(place.out), *options)
    assert why in said and not place.good.requests


def test_rows_that_cannot_be_scored_are_named(place):
    place.prompts.write_text(lines([PROMPTS[0], PROMPTS[0], {"question": "no answer"}]))
    done = place.collect(models="good")
    for word in ("2 rows left out", "stands in the file before", "no field 'answer'"):
        assert word in done.stderr
    assert len(read(place.out)) == 1


def test_ctrl_c_keeps_what_is_there(place):
    hold, good = threading.Event(), saying(GOOD)

    def slow(request):
        if "Who" in request.json()["messages"][0]["content"]:
            hold.wait(20)
        return good(request)

    place.good.answer = slow
    args = ["collect", "--prompts", str(place.prompts), "--config", str(place.config)]
    args += ["--models", "good", "--out", str(place.out)]
    proc = subprocess.Popen([binary(), *args], env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: place.out.exists() and len(read(place.out)) == 3, 20, "three rows")
    proc.send_signal(signal.SIGINT)
    out, err = proc.communicate(timeout=10)
    hold.set()
    assert proc.returncode == 1 and "stopped; run the command again" in err and "good" in out
    place.collect(models="good")
    assert len(read(place.out)) == 4


def test_the_rows_train(place, tmp_path):
    """What is collected is what `train --outcomes` reads."""
    answers = {"sum": "yes", "poem": "no"}
    rows = [{"prompt": f"{kind} number {i}, please", "answer": answers[kind]} for i in range(60) for kind in answers]
    place.prompts.write_text(lines(rows))
    place.good.answer = saying(answers)
    place.poor.answer = saying({"sum": "no", "poem": "no"})
    place.collect()
    done = run("train", "--outcomes", str(place.out), "--out", str(tmp_path / "learned"), timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "learned" / "metrics.json").read_text())
