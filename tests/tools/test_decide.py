"""`waypost decide`: a request a line in, a Decision a line out, nothing sent to a model."""

import gzip
import json
import subprocess
import threading
import time

import pytest

from auto.kit import EASY, HARD, png, train, with_image
from helpers.configs import TASK_LABELS, considered, user
from helpers.mocks import Reply
from helpers.process import binary, clean_env, run
from tools.kit import failed, lines, written

CODE = "Write a python function that sorts a list of numbers."


@pytest.fixture(scope="module")
def classifier(shared):
    return shared.kserve([0.2, 0.8])


@pytest.fixture(scope="module")
def config(tmp_path_factory, shared, classifier):
    folder = tmp_path_factory.mktemp("decide")
    learned = train(folder)
    dead = shared.dead_port().url
    models = [
        {"name": "small", "model": "up/small", "endpoint": dead, "price": {"input": 0.1, "output": 0.4}, "accepts": ["tools"]},
        {"name": "large", "endpoint": dead, "price": {"input": 2, "output": 8}},
    ]
    kserve = {"kserve": {"url": classifier.infer_url, "labels": ["easy", "hard"]}}
    task = dict.fromkeys(TASK_LABELS, "small") | {"Code Generation": "large"}
    policies = [
        {"name": "by-task", "classifier": "task", "routes": task, "default": "small"},
        {"name": "smart", "classifier": {"auto": {"models": ["small", "large"], "outcomes": str(learned)}}, "default": "large"},
        {"name": "remote", "classifier": kserve, "routes": {"easy": "small", "hard": "large"}, "classify_timeout": "20s"},
        {"name": "kept", "classifier": "task", "routes": task, "default": "small", "sticky": "conversation"},
    ]
    return written(folder / "waypost.yaml", {"models": models, "policies": policies})


def decide(config, objects, *options, status=0):
    text = objects if isinstance(objects, str) else lines(objects)
    done = run("decide", "--config", str(config), "--jsonl", *options, stdin=text, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_all_forms_of_a_line(config):
    body = {"messages": user(CODE)}
    found = decide(config, [
        {"text": CODE},
        body,
        {"request": body, "headers": {"x-waypost-policy": "kept", "x-session-id": "7"}},
        {"model": "large", "messages": user("hi")},
        {"model": "auto", "input": CODE},
        {"nim-llm-router": {"policy": "by-task", "routing_strategy": "manual", "model": "Rewrite"}, **body},
    ])  # fmt: skip
    assert [d["id"] for d in found] == ["1", "2", "3", "4", "5", "6"]
    assert [d["model"] for d in found] == ["large", "large", "large", "large", "large", "small"]
    assert [d["policy"] for d in found] == ["by-task", "by-task", "kept", None, "by-task", "by-task"]
    assert [d["via"] for d in found][2:4] == ["header", "model"]
    assert found[0]["label"] == "Code Generation" and found[0]["reason"] == "label"
    assert found[0]["fallbacks"] == ["small"] and found[5]["upstream_model"] == "up/small"
    assert found[2]["conversation"]["turn"] == "first"
    assert {k: v for k, v in found[0].items() if k not in ("id", "at_unix_ms", "classify_ms", "encoder_ms")} == {
        k: v for k, v in found[1].items() if k not in ("id", "at_unix_ms", "classify_ms", "encoder_ms")
    }


def test_without_a_text_standard_input_is_one_prompt(config):
    spoken = f"{CODE}\nAnd one that reverses it.\n"
    done = run("decide", "--config", str(config), stdin=spoken, timeout=60)
    assert done.returncode == 0, done.stderr
    said = run("decide", "--config", str(config), spoken, timeout=60)
    volatile = ("id", "at_unix_ms", "classify_ms", "encoder_ms")
    one, other = ({k: v for k, v in json.loads(d.stdout).items() if k not in volatile} for d in (done, said))
    assert one == other and one["label"] == "Code Generation"


def test_without_anything_it_says_what_to_give(config):
    said = failed("decide", "--config", str(config), stdin="\n")
    assert "--jsonl" in said and "standard input" in said


def test_candidates_tell_quality_cost_and_latency(config):
    easy, hard, image = decide(
        config, [{"text": EASY}, {"text": HARD}, {"messages": with_image("what is this", png())}], "--policy", "smart"
    )
    assert (easy["model"], hard["model"], image["model"]) == ("small", "large", "large")
    small, large = easy["candidates"]
    assert (small["model"], large["model"]) == ("small", "large")
    assert 0.8 < small["quality"] <= 1 and 0 < small["cost_usd"] < large["cost_usd"]
    assert "latency_ms" in small
    assert image["unfit"] == considered(("small", "no_images")) and [c["model"] for c in image["candidates"]] == ["large"]


def test_bad_lines_are_answered_in_their_place(config):
    found = decide(config, [
        {"text": CODE}, "nonsense", {"messages": "x"}, {}, {"model": "nope", "messages": user("x")}, "",
        {"text": "y", "headers": {"bad header": "z"}}, "[1]", {"text": CODE},
    ], status=1)  # fmt: skip
    assert [d.get("line") for d in found] == [None, 2, 3, 4, 5, 7, 8, None]
    assert [d["id"] for d in found if "id" in d] == ["1", "9"], "the number of the line, empty ones counted"
    codes = [d["error"]["code"] for d in found if "error" in d]
    wanted = ["invalid_json", "invalid_type", "missing_required_parameter", "model_not_found", "invalid_value"]
    assert codes == [*wanted, "invalid_json"]
    assert all({"message", "type", "param", "code", "status"} == set(d["error"]) for d in found if "error" in d)


def test_a_chat_without_messages_is_refused_as_the_gateway_does(config):
    found = decide(config, [{"messages": []}, {"request": {"messages": []}}, {"request": {}}, {"input": []}], status=1)
    errors = [d["error"] for d in found if "error" in d]
    assert [error["message"] for error in errors[:3]] == ["'messages' must not be empty."] * 2 + ["'messages' is required."]
    assert {(error["code"], error["param"], error["status"]) for error in errors[:3]} == {
        ("missing_required_parameter", "messages", 400)
    }


def test_gzipped_lines(config):
    text = gzip.compress(lines([{"text": CODE}, {"text": CODE}]).encode())
    done = subprocess.run([binary(), "decide", "--config", str(config), "--jsonl"], input=text, capture_output=True,
                          env=clean_env(), timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["model"] for line in done.stdout.splitlines()] == ["large", "large"]


def test_a_line_that_is_too_long(config):
    found = decide(config, lines([{"text": "x" * (11 << 20)}, {"text": CODE}]), status=1)
    assert found[0] == {"line": 1, "error": found[0]["error"]} and found[0]["error"]["code"] == "request_too_large"
    assert found[1]["model"] == "large"


def test_servers_are_asked_several_at_once_and_the_order_is_kept(config, classifier):
    under_way, most, lock = 0, 0, threading.Lock()

    def slow(request):
        nonlocal under_way, most
        number = int(request.json()["inputs"][0]["data"][0][0].split()[-1])
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.3 if number % 2 else 0.05)
        with lock:
            under_way -= 1
        scores = [0.2, 0.8] if number % 3 == 0 else [0.8, 0.2]
        output = {"name": "OUTPUT", "datatype": "FP32", "shape": [2], "data": scores}
        return Reply(body={"model_name": "m", "model_version": "1", "outputs": [output]})

    classifier.answer = slow
    found = decide(config, [{"text": f"number {i}"} for i in range(24)], "--policy", "remote")
    assert [d["id"] for d in found] == [str(i + 1) for i in range(24)]
    assert [d["label"] for d in found] == ["hard" if i % 3 == 0 else "easy" for i in range(24)]
    assert most > 1, "one after the other would be slow"
    classifier.reply(500, body={"error": "down"})
    [down] = decide(config, [{"text": "number 1"}], "--policy", "remote", status=1)
    assert down["line"] == 1 and down["error"]["status"] == 500


def test_a_conversation_is_kept_together(config):
    first = [{"role": "user", "content": CODE}]
    later = [*first, {"role": "assistant", "content": "def f(): ..."}, {"role": "user", "content": "thanks, bye"}]
    tool = [*first, {"role": "assistant", "content": None, "tool_calls": [{}]}, {"role": "tool", "content": "ok"}]
    found = decide(config, [{"model": "kept", "messages": turn} for turn in (first, tool, later)])
    assert [d["conversation"]["turn"] for d in found] == ["first", "tool_loop", "next"]
    assert len({d["conversation"]["key"] for d in found}) == 1
    assert [d["conversation"].get("had") for d in found] == [None, "large", "large"]
    assert found[1]["model"] == "large"


def test_one_prompt(config):
    done = run("decide", "--config", str(config), CODE, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "large"


def test_what_is_wrong_with_a_command_is_told(config, tmp_path):
    assert "no policy 'nope'" in failed("decide", "--config", str(config), "--policy", "nope", "--jsonl", stdin="")
    assert "by-task, smart" in failed("decide", "--config", str(config), "--policy", "nope", "--jsonl", stdin="")
    bare = written(tmp_path / "c.yaml", {"models": [{"name": "m", "endpoint": "http://127.0.0.1:1"}]})
    [found] = decide(bare, [{"text": "x"}], status=1)
    assert found["error"]["code"] == "missing_required_parameter"
    [found] = decide(bare, [{"model": "m", "messages": user("x")}])
    assert found["plan"] == considered(("m", "named"))
