"""Splits share the traffic by key; shadows decide and are logged, without effect."""

import collections
import json
import time

import pytest

from helpers.configs import user


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def classifier(shared):
    return shared.kserve([0.2, 0.8])


def config(upstream, classifier=None, **split):
    models = [{"name": name, "endpoint": upstream.url} for name in ("one", "two")]
    rules = [{"label": "x", "regex": "."}]
    policies = [
        {"name": name, "rules": rules, "classifier": "task", "routes": {"x": name}, "default": name} for name in ("one-p", "two-p")
    ]
    for policy, model in zip(policies, ("one", "two")):
        policy["routes"], policy["default"] = {"x": model}, model
    if split:
        policies.append({"name": "s", "split": split})
    if classifier:
        kserve = {"kserve": {"url": classifier.infer_url, "labels": ["a", "b"]}}
        policies.append({"name": "k", "classifier": kserve, "routes": {"a": "one", "b": "two"}, "default": "one"})
        policies[0]["shadow"] = ["k", "two-p"]
    return {"models": models, "policies": policies}


def ask(gateway, policy, headers=None, text="hello"):
    answer = gateway.chat({"model": policy, "messages": user(text)}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_header_keeps_to_its_arm(waypost, upstream):
    gateway = waypost(config(upstream, by="X-User-Id", arms={"one-p": 80, "two-p": 20}))
    arms = {}
    for user_id in range(300):
        answer = ask(gateway, "s", {"x-user-id": f"user-{user_id}"})
        arms[user_id] = answer.headers["x-waypost-policy"]
    share = collections.Counter(arms.values())["two-p"] / 300
    assert 0.12 < share < 0.29, share
    for user_id in range(0, 300, 30):
        answer = ask(gateway, "s", {"x-user-id": f"user-{user_id}"}, text="something else")
        assert answer.headers["x-waypost-policy"] == arms[user_id]
        d = gateway.decision(answer)
        assert (d["split"], d["policy"]) == ("s", arms[user_id])


def test_a_conversation_keeps_to_its_arm_and_requests_do_not(waypost, upstream):
    gateway = waypost(config(upstream, arms={"one-p": 1, "two-p": 1}))
    arm = {text: ask(gateway, "s", text=text).headers["x-waypost-policy"] for text in map(str, range(40))}
    assert set(arm.values()) == {"one-p", "two-p"}
    assert all(ask(gateway, "s", text=text).headers["x-waypost-policy"] == arm[text] for text in arm)
    drawn = waypost(config(upstream, by="request", arms={"one-p": 1, "two-p": 1}))
    assert {ask(drawn, "s").headers["x-waypost-policy"] for _ in range(40)} == {"one-p", "two-p"}


def test_shadows_decide_without_effect(waypost, upstream, classifier):
    classifier.clear()
    gateway = waypost(config(upstream, classifier))
    d = gateway.decision(ask(gateway, "one-p"))
    assert (d["model"], d["policy"]) == ("one", "one-p")
    shadows = {s["policy"]: s for s in d["shadow"]}
    assert shadows["k"]["label"] == "b" and shadows["k"]["model"] == "two" and shadows["k"]["agrees"] is False
    assert shadows["two-p"]["model"] == "two" and shadows["two-p"]["reason"] == "label"
    assert upstream.last().json()["model"] == "one"
    metrics = gateway.metrics()
    assert metrics.value("waypost_shadow_decisions_total", policy="one-p", shadow="k", outcome="differs") == 1


def test_nobody_waits_for_a_shadow(waypost, upstream, classifier):
    plain = type(classifier).answer
    classifier.answer = lambda request: (time.sleep(0.6), plain(classifier, request))[1]
    gateway = waypost(config(upstream, classifier))
    start = time.monotonic()
    d = gateway.decision(ask(gateway, "one-p"))
    assert d["total_ms"] < 500, "the client has had its answer"
    assert {s["policy"]: s["model"] for s in d["shadow"]} == {"k": "two", "two-p": "two"}
    assert next(s["ms"] for s in d["shadow"] if s["policy"] == "k") >= 600
    assert time.monotonic() - start >= 0.5, "the record waited for them"
    classifier.default()


def test_the_decision_file_holds_whole_decisions(waypost, upstream, classifier, tmp_path):
    classifier.clear()
    for prompts in (False, True):
        file = tmp_path / f"decisions-{prompts}.jsonl"
        text = config(upstream, by="authorization", arms={"one-p": 1, "two-p": 1})
        text["log"] = {"file": {"path": str(file), "prompts": prompts}}
        gateway = waypost(text)
        headers = {"authorization": "Bearer sk-secret", "x-session-id": "s1"}
        answer = ask(gateway, "s", headers, text="a private matter")
        gateway.stop()
        assert file.stat().st_mode & 0o077 == 0, "only its owner may read it"
        [line] = file.read_text().splitlines()
        row = json.loads(line)
        assert row["decision"]["id"] == answer.headers["x-waypost-decision-id"]
        assert row["decision"]["outcome"] == "completed" and row["decision"]["split"] == "s"
        assert "sk-secret" not in line, "a key is never written down"
        assert ("a private matter" in line) is prompts
        if prompts:
            assert row["request"]["messages"] == user("a private matter")
            assert row["headers"] == {"x-session-id": "s1"}
        assert "a private matter" not in gateway.log()


def test_a_shadow_neither_remembers_for_others_nor_holds_a_place(waypost, upstream, classifier):
    """What a sticky policy does in shadow must not be what it remembers when it is asked in earnest."""
    rules = [{"label": "x", "regex": "."}]
    policies = [
        {"name": "live", "rules": rules, "classifier": "task", "routes": {"x": "one"}, "default": "one", "shadow": ["cand", "k"]},
        {"name": "cand", "rules": rules, "classifier": "task", "routes": {"x": "two"}, "default": "two", "sticky": "conversation"},
        {"name": "k", "classifier": {"kserve": {"url": classifier.infer_url, "labels": ["a", "b"]}}, "routes": {"a": "one", "b": "two"},
         "default": "one", "classify_timeout": "5s"},
    ]  # fmt: skip
    models = [{"name": name, "endpoint": upstream.url} for name in ("one", "two")]
    gateway = waypost({"models": models, "policies": policies, "limits": {"requests_in_flight": 2}})
    plain = type(classifier).answer
    classifier.answer = lambda request: (time.sleep(1.0), plain(classifier, request))[1]
    session = {"x-session-id": "s"}
    for _ in range(4):
        ask(gateway, "live", session)
    d = gateway.decision(ask(gateway, "cand", session))
    assert d["conversation"]["turn"] == "first", "nobody has asked it yet"
    classifier.default()


def test_a_change_of_the_decision_file_is_said_to_take_a_restart(waypost, upstream, tmp_path):
    text = config(upstream)
    text["log"] = {"file": {"path": str(tmp_path / "a.jsonl")}}
    gateway = waypost(text)
    text["log"]["file"]["prompts"] = True
    gateway.write_config(text)
    gateway.wait_log("a change of log.file takes a restart")
    gateway.wait_log("configuration applied")
    ask(gateway, "one-p", text="a private matter")
    gateway.stop()
    assert "a private matter" not in (tmp_path / "a.jsonl").read_text()


def test_a_decision_file_that_cannot_be_opened_is_an_error_before_anything_is_promised(upstream, tmp_path):
    import yaml

    from helpers.process import run

    text = config(upstream)
    text["log"] = {"file": {"path": str(tmp_path / "absent" / "a.jsonl")}}
    path = tmp_path / "waypost.yaml"
    path.write_text(yaml.safe_dump(text))
    done = run("serve", "--config", str(path), "--listen", "127.0.0.1:0")
    assert done.returncode == 1 and "absent" in done.stderr and "Try it" not in done.stdout
