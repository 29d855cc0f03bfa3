"""`waypost report`: policies, arms, models and shadows of a decision file side by side."""

import gzip
import json
import pathlib
import random
import subprocess
import time

import pytest

from helpers.configs import TASK_LABELS, user
from helpers.process import binary, clean_env, run
from helpers.wait import until
from tools.kit import failed, lines, read, report

CODE = "Write a python function that sorts a list of numbers."


def row(i, arm, cost, ms, status=200, outcome="completed", **more):
    """A line as the gateway writes it, as far as a report reads it."""
    decision = {
        "id": f"{i:024x}", "at_unix_ms": 1_700_000_000_000 + 1000 * i, "policy": arm, "split": "trial", "label": "x",
        "model": f"{arm}-model", "fallback": None, "ttft_ms": ms / 4, "total_ms": ms, "status": status, "outcome": outcome,
        "cost_usd": cost, **more,
    }  # fmt: skip
    return {"decision": decision}


@pytest.fixture(scope="module")
def two_arms(tmp_path_factory):
    """600 requests of a cheap and slow arm, 400 of a dear and fast one that fails more often."""
    chance, rows = random.Random(3), []
    for i in range(1000):
        dear = i % 5 >= 3
        ms = chance.gauss(200, 20) if dear else chance.gauss(500, 50)
        broken = dear and i % 10 == 3
        rows.append(row(i, "dear" if dear else "cheap", chance.gauss(0.02, 0.002) if dear else chance.gauss(0.01, 0.001), ms,
                        outcome="broken" if broken else "completed", fallback="upstream_failed" if i % 100 == 0 else None))
    path = tmp_path_factory.mktemp("report") / "log.jsonl"
    path.write_text(lines(rows))
    return path, [one["decision"] for one in rows]


def test_arms_and_their_difference(two_arms):
    path, decisions = two_arms
    found = report(path)
    split = found["splits"]["trial"]
    cheap, dear = split["arms"]["cheap"], split["arms"]["dear"]
    assert (found["requests"], cheap["requests"], dear["requests"], found["unread"]) == (1000, 600, 400, 0)
    assert (cheap["errors"], dear["errors"], dear["error_rate"]) == (0, 100, 0.25)
    assert cheap["fallbacks"] == 10 and cheap["models"] == [{"name": "cheap-model", "requests": 600}]
    of_dear = [d for d in decisions if d["policy"] == "dear"]
    assert dear["cost_usd"]["sum"] == pytest.approx(sum(d["cost_usd"] for d in of_dear))
    whole = sorted(d["total_ms"] for d in of_dear if d["outcome"] == "completed")
    assert dear["total_ms"]["p50"] == pytest.approx(whole[len(whole) // 2], rel=0.01)
    assert dear["total_ms"]["p95"] == pytest.approx(whole[int(len(whole) * 0.95)], rel=0.02)
    assert dear["ttft_ms"]["p50"] == pytest.approx(dear["total_ms"]["p50"] / 4, rel=1e-3)
    [versus] = split["differences"]
    assert (versus["arm"], versus["against"]) == ("dear", "cheap")
    cost, total, errors = versus["cost_usd"], versus["total_ms"], versus["error_rate"]
    assert cost["low"] < cost["difference"] < cost["high"] and cost["difference"] == pytest.approx(0.01, rel=0.05)
    assert 0 < cost["low"] and cost["high"] - cost["low"] < 0.001
    assert total["high"] < 0 and errors["difference"] == 0.25 and 0.2 < errors["low"] < 0.25 < errors["high"] < 0.3
    assert found["policies"]["dear"] == dear and found["models"]["dear-model"]["requests"] == 400


def test_equal_arms_may_be_chance(tmp_path):
    chance = random.Random(5)
    path = tmp_path / "log.jsonl"
    path.write_text(lines(row(i, "ab"[i % 2], chance.gauss(1, 0.1), chance.gauss(100, 9)) for i in range(400)))
    [versus] = report(path, "--by", "split")["splits"]["trial"]["differences"]
    assert all(versus[what]["low"] <= 0 <= versus[what]["high"] for what in ("cost_usd", "total_ms", "error_rate"))
    text = run("report", str(path), "--by", "split").stdout
    assert text.count("(may be chance)") == 3 and "with 95 % intervals" in text


def test_tables_line_up(two_arms):
    done = run("report", str(two_arms[0]))
    assert done.returncode == 0, done.stderr
    heading = next(line for line in done.stdout.splitlines() if line.startswith("policy "))
    at = done.stdout.splitlines().index(heading)
    assert {len(line) for line in done.stdout.splitlines()[at : at + 3]} == {len(heading)}
    assert "1000 requests over 16 min 39 s" in done.stdout and "split trial" in done.stdout
    assert "dear less cheap" in done.stdout and "25.0 %" in done.stdout


def test_a_cost_says_of_how_many_requests_it_is_known(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(lines(row(i, "ab"[i % 2], None if i % 4 == 1 else 0.5 + i / 1000, 100) for i in range(40)))
    done = run("report", str(path)).stdout
    for view in ("policy ", "split trial", "model "):
        table = done[done.index(f"\n{view}") :].split("\n")[1:4]
        assert "known of" in table[0], view
        assert [line.split()[4] for line in table[1:]] == ["20", "10"], view
    assert ", known of 10 of 20 and 20 of 20\n" in done
    [versus] = report(path)["splits"]["trial"]["differences"]
    a, b = (report(path)["splits"]["trial"]["arms"][arm]["cost_usd"] for arm in "ab")
    assert (a["requests"], b["requests"]) == (20, 10)
    assert versus["cost_usd"]["difference"] == pytest.approx(b["mean"] - a["mean"]), "a request of which it is known"
    path.write_text(lines(row(i, "ab"[i % 2], 0.5, 100) for i in range(40)))
    assert "known of" not in run("report", str(path)).stdout


@pytest.mark.parametrize("by, view", [("policy", "policies"), ("split", "splits"), ("model", "models"), ("shadow", "shadows")])
def test_one_view(two_arms, by, view):
    assert set(report(two_arms[0], "--by", by)) & {"policies", "splits", "models", "shadows"} == {view}


def test_what_cannot_be_read_is_counted(two_arms, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(two_arms[0].read_text() + '{"decision": {"id"\nsecret words\n{"other": 1}\n')
    assert report(path)["unread"] == 3
    done = run("report", str(path))
    assert "3 lines could not be read: line 1001:" in done.stdout and "secret" not in done.stdout
    (tmp_path / "empty").write_text("")
    assert "it is empty" in failed("report", str(tmp_path / "empty"))
    assert run("report", "-", "--json", stdin=two_arms[0].read_text()).returncode == 0


def test_gzipped_from_a_pipe_and_cut_off(two_arms, tmp_path):
    packed = gzip.compress(two_arms[0].read_bytes())
    piped = subprocess.run([binary(), "report", "-", "--json"], input=packed, capture_output=True, env=clean_env(), timeout=60)
    assert piped.returncode == 0 and json.loads(piped.stdout) == report(two_arms[0])
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    done = run("report", str(path), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and 100 < found["requests"] < 900 and found["unread"] == 0
    assert f"cut.jsonl.gz: cannot be read from line {found['requests'] + 1} on" in done.stderr
    path.write_bytes(packed[:9])
    assert "cannot be read from line 1 on" in failed("report", str(path))


def test_a_gateway_s_own_log(waypost, recorder, tmp_path):
    upstream, log = recorder(), tmp_path / "decisions.jsonl"
    models = [{"name": name, "endpoint": upstream.url, "price": {"input": price, "output": price}}
              for name, price in (("small", 1), ("large", 10))]
    task = dict.fromkeys(TASK_LABELS, "small")
    policies = [
        {"name": "a", "classifier": "task", "routes": task, "default": "small", "shadow": ["b"]},
        {"name": "b", "classifier": "task", "routes": task | {"Code Generation": "large"}, "default": "large"},
        {"name": "trial", "split": {"by": "x-user-id", "arms": {"a": 1, "b": 1}}},
    ]
    gateway = waypost({"models": models, "policies": policies, "log": {"file": {"path": str(log)}}})
    for i in range(20):
        gateway.chat({"model": "trial", "messages": user(CODE)}, headers={"x-user-id": str(i)})
    for _ in range(4):
        gateway.chat({"model": "a", "messages": user("Summarize this: it rained all day.")})
    gateway.chat({"model": "large", "messages": user("hi")})
    upstream.reply(500, body={"error": {"message": "no"}})
    gateway.chat({"model": "large", "messages": user("hi")})
    gateway.stop()
    found = report(log)
    assert found["requests"] == 26 and not any("request" in line for line in read(log)), "prompts are not kept"
    arms = found["splits"]["trial"]["arms"]
    assert arms["a"]["requests"] + arms["b"]["requests"] == 20 and min(arm["requests"] for arm in arms.values()) > 0
    assert arms["b"]["cost_usd"]["mean"] == pytest.approx(10 * arms["a"]["cost_usd"]["mean"])
    assert arms["a"]["labels"][0]["name"] == "Code Generation" and arms["b"]["models"][0]["name"] == "large"
    assert found["policies"]["(model named)"]["errors"] == 1
    [shadow] = found["shadows"]
    assert (shadow["policy"], shadow["shadow"], shadow["requests"]) == ("a", "b", arms["a"]["requests"] + 4)
    decided = shadow["requests"] - shadow["undecided"]
    if decided == shadow["requests"]:
        assert shadow["agreement"] == pytest.approx(4 / decided)
    text = run("report", str(log), "--by", "shadow").stdout
    assert "b beside a" in text


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="a full disk is Linux's /dev/full")
def test_a_full_disk_is_counted_and_told_of_once(waypost, recorder):
    models = [{"name": "m", "endpoint": recorder().url}]
    gateway = waypost({"models": models, "log": {"file": {"path": "/dev/full"}}})
    for _ in range(5):
        assert gateway.chat({"model": "m", "messages": user("hi")}).status_code == 200
        time.sleep(0.25)
    until(lambda: gateway.metrics().value("waypost_decision_file_lines_dropped") == 5, 5, "five lines lost")
    assert gateway.log().count("lines are lost") == 1 and "No space left" in gateway.log()


def test_no_policy_ran_in_shadow(two_arms):
    assert "no policy ran in shadow" in run("report", str(two_arms[0]), "--by", "shadow").stdout
