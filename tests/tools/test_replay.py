"""`waypost replay`: a log decides again bit for bit, and another policy says what it would change."""

import gzip
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from auto.kit import EASY, HARD, Embeddings, network, png, train, with_image
from helpers.configs import TASK_LABELS, user
from helpers.process import run
from intent.kit import ROUTES
from tools.kit import failed, lines, read, replay, written

CODE = "Write a python function that sorts a list of numbers."
PRICES = {"small": {"input": 100, "output": 400}, "large": {"input": 2000, "output": 8000}}
# One answer of the recorder costs 7 prompt and 3 completion tokens.
COST = {name: (7 * price["input"] + 3 * price["output"]) / 1e6 for name, price in PRICES.items()}
DECISIONS = {
    "signals": [
        {"name": "science", "domain": ["math", "computer science"]},
        {"name": "private", "pii": True},
        {"name": "odd", "examples": ["Please rewrite this letter", "a poem about love"]},
    ],
    "decide": [
        {"name": "private", "priority": 2, "when": "private"},
        {"name": "hard", "priority": 1, "when": {"any": ["science", "odd"]}},
    ],
}
MAXIMIZE = "quality - 9 * cost - 0.4 * latency"
WEIGHTS = [[4.0, -4.0, -4.0, -4.0], [-0.013, 0.0271, 1.0, 1.0]]


class World:
    """A gateway that has every kind of policy and keeps all it decides."""

    def __init__(self, shared, folder):
        self.folder, self.log, self.shared = folder, folder / "decisions.jsonl", shared
        self.upstream, self.classifier = shared.recorder(), shared.kserve([0.501234, 0.498766])
        self.embeddings, self.router = shared.keep(Embeddings()), shared.sim("sim-router", record=True)
        dead = shared.dead_port().url
        self.net = network(folder / "net.safetensors", ["small", "large"], WEIGHTS)
        learned = train(folder)
        task = dict.fromkeys(TASK_LABELS, "small") | {"Code Generation": "large"}
        url = self.upstream.url
        models = [
            {"name": "small", "endpoint": url, "price": PRICES["small"], "accepts": ["tools"]},
            {"name": "large", "endpoint": url, "price": PRICES["large"]},
            {"name": "dead", "endpoint": dead, "price": {"input": 1, "output": 1}},
            {"name": "router", "model": "sim-router", "endpoint": self.router.url},
        ]
        auto = {"models": ["small", "large"]}
        network_auto = {**auto, "network": str(self.net), "embeddings": "e", "thresholds": {"small": 0.5, "large": 0.5}}
        routes = [{"name": name, "description": text} for name, text in ROUTES.items()]
        floor = {"default": "large", "confidence_floor": 0.50123}
        policies = [
            {"name": "by-task", "classifier": "task", "routes": task, "default": "small", "confidence_floor": 0.3},
            {"name": "hard", "classifier": "complexity", "routes": {"Reasoning": "large"}, "default": "small"},
            {"name": "private", "classifier": "pii", "routes": {"pii": "small", "none": "large"}},
            {
                "name": "remote",
                "classifier": {"kserve": {"url": self.classifier.infer_url, "labels": ["easy", "hard"]}},
                "routes": {"easy": "small", "hard": "large"},
                **floor,
            },
            {"name": "intent", "classifier": {"intent": {"model": "router", "routes": routes}},
             "routes": {"chit_chat": "small", "hard_question": "large"}, "default": "large"},
            {"name": "smart", "classifier": {"auto": {**auto, "outcomes": str(learned), "maximize": MAXIMIZE}}, "default": "large"},
            {"name": "nn", "classifier": {"auto": network_auto}, "default": "small"},
            {"name": "kept", "classifier": {"auto": {**auto, "outcomes": str(learned)}}, "default": "large",
             "sticky": {"spend": 0.2}, "shadow": ["shaky"]},
            {"name": "shaky", "classifier": "task", "routes": dict.fromkeys(TASK_LABELS, "dead"), "default": "dead",
             "fallbacks": ["small", "large"], "sticky": "conversation"},
            {"name": "trial", "split": {"by": "x-user-id", "arms": {"by-task": 1, "smart": 1}}},
            {"name": "keyed", "split": {"by": "x-goog-api-key", "arms": {"by-task": 1, "kept": 1}}},
            {"name": "dice", "split": {"by": "request", "arms": {"by-task": 1, "hard": 1}}},
            {"name": "decisions", "classifier": {"decisions": DECISIONS}, "routes": {"hard": "large", "private": "small"},
             "default": "small"},
            {"name": "ruled", "rules": [{"label": "Rewrite", "keywords": ["please rewrite"]}], "classifier": "task",
             "routes": task, "default": "small"},
        ]  # fmt: skip
        self.config = {
            "models": models,
            "policies": policies,
            "embeddings": [{"name": "e", "url": f"{self.embeddings.url}/v1/embeddings", "model": "nvclip"}],
            "log": {"file": {"path": str(self.log), "prompts": True}},
            "retry": {"min_per_second": 1000},
        }
        self.path = written(folder / "waypost.yaml", self.config)
        self.counter = itertools.count(1)

    def gateway(self):
        return self.shared.waypost(self.config)

    def chat(self, gateway, model, messages, headers=None, path="/v1/chat/completions", **more):
        messages = user(messages) if isinstance(messages, str) else messages
        answer = gateway.chat({"model": model, "messages": messages, **more}, headers=headers, path=path)
        next(self.counter)
        return answer

    def run(self):
        gateway = self.gateway()
        for model in ("by-task", "hard", "private", "remote", "intent", "smart", "nn", "dice", "ruled", "decisions", "auto", "small", "up"):
            for text in (EASY, HARD, CODE, "My card is 4111 1111 1111 1111", "Please rewrite this.", "a poem about the sea"):
                self.chat(gateway, model, text, max_tokens=50)
        for model in ("nn", "smart", "by-task", "small"):
            self.chat(gateway, model, with_image("what is this", png()))
        self.classifier.reply(500, body={"error": "down"})
        self.chat(gateway, "remote", CODE)
        self.embeddings.reply(500, body={"error": "down"})
        self.chat(gateway, "nn", CODE)
        self.router.fault({"status": 500, "n": 3})
        self.chat(gateway, "intent", "Completely new question about nothing")
        for model in ("kept", "shaky"):
            for session in ("a", "b"):
                talk = user(EASY if session == "a" else HARD)
                for turn in ("and now in French", "that's wrong, try again", CODE, "thanks"):
                    self.chat(gateway, model, talk, headers={"x-session-id": f"{model}-{session}"})
                    talk = [*talk, {"role": "assistant", "content": "well"}, *user(turn)]
                talk = [*talk, {"role": "assistant", "tool_calls": [{}]}, {"role": "tool", "content": "1"}]
                self.chat(gateway, model, talk, headers={"x-session-id": f"{model}-{session}"})
        for i in range(12):
            self.chat(gateway, "trial", [EASY, HARD, CODE][i % 3], headers={"x-user-id": f"user {i}"})
        self.chat(gateway, "x", CODE, headers={"x-waypost-policy": "hard"})
        self.chat(gateway, "", CODE, path="/sfc_router/chat/completions")
        self.chat(gateway, "kept", CODE, path="/v1/decision")
        manual = {"policy": "by-task", "routing_strategy": "manual", "model": "Rewrite"}
        self.chat(gateway, "", CODE, **{"nim-llm-router": manual})
        # A body over several lines is one line of the log.
        gateway.chat(json.dumps({"model": "by-task", "messages": user(CODE)}, indent=2))
        next(self.counter)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: self.talk(gateway, f"user {i}"), range(16)))
            # One conversation with several requests under way, as agents have it.
            list(pool.map(lambda i: self.turn(gateway, i), range(40)))
        gateway.stop()

    def turn(self, gateway, i):
        """A request of one of two clients, under the same odd session; a shadow decides beside it."""
        headers = {"x-session-id": "sé".encode(), "authorization": f"Bearer sk-{i % 2}", "x-goog-api-key": f"secret-{i}"}
        talk = [*user([EASY, HARD][i % 2]), {"role": "assistant", "content": "well"}, *user(["thanks", "that's wrong"][i // 2 % 2])]
        self.chat(gateway, ["kept", "keyed"][i // 4 % 2], talk, headers=headers)

    def talk(self, gateway, who):
        """A conversation among others, under policies that remember and that observe."""
        talk = []
        for text in (EASY, "that's wrong", HARD, "thanks"):
            talk = [*talk, *user(text)]
            self.chat(gateway, "kept", talk, headers={"x-session-id": who})
            self.chat(gateway, "trial", talk, headers={"x-user-id": who})
            talk = [*talk, {"role": "assistant", "content": "well"}]


@pytest.fixture(scope="module")
def world(shared, tmp_path_factory):
    world = World(shared, tmp_path_factory.mktemp("replay"))
    world.run()
    # A second gateway appends to the same file, and knows nothing of the first one's conversations.
    gateway = world.gateway()
    for _ in range(2):
        world.chat(gateway, "kept", HARD, headers={"x-session-id": "kept-a"})
    gateway.stop()
    return world


def test_everything_is_in_the_log(world):
    rows = read(world.log)
    assert len(rows) == next(world.counter) - 1
    assert all("decision" in row for row in rows)
    tiers = {row["decision"]["tier"] for row in rows}
    assert {"none", "rule", "ngram", "encoder", "detector", "kserve", "intent", "network"} <= tiers
    assert {row["decision"].get("classifier_error") for row in rows} > {None}
    turns = {row["decision"]["conversation"]["turn"] for row in rows if "conversation" in row["decision"]}
    assert turns == {"first", "next", "complaint", "tool_loop"}
    assert any(row["decision"]["fallback"] == "upstream_failed" for row in rows)
    text = world.log.read_text()
    assert "secret-" not in text and "sk-0" not in text and "user 1" in text, "what a split goes by is not written"
    assert {row["headers"].get("x-session-id", "").encode("latin-1") for row in rows if "headers" in row} > {"sé".encode()}
    kept = [row for row in rows if "conversation" in row["decision"]]
    assert all("memory" in row for row in kept) and any(row["memory"] for row in kept)
    assert not any("memory" in row for row in rows if "conversation" not in row["decision"])
    assert world.log.stat().st_mode & 0o077 == 0, "prompts are private"


def posts(sim):
    """Requests that a simulated engine was sent."""
    return len([one for one in sim.requests() if one["path"].startswith("/v1/")])


def test_a_log_decides_again_bit_for_bit_and_asks_nobody(world):
    for mock in (world.upstream, world.classifier, world.embeddings):
        mock.clear()
    asked = posts(world.router)
    found, said = replay(world.log, world.path, "--verify", "--out", str(world.folder / "again.jsonl"))
    kept = sum("request" in row for row in read(world.log))
    assert found["same"]["compared"] == found["same"]["same"] == kept > 200, said
    assert found["same"]["conversations_begun_before_the_log"] == 0
    assert (found["other_model"], found["unread"], found["left_out"]) == (0, 0, {})
    assert not (world.upstream.requests or world.classifier.requests or world.embeddings.requests)
    assert posts(world.router) == asked > 0
    again = {row["id"]: row for row in read(world.folder / "again.jsonl")}
    for row in read(world.log):
        if "request" in row:
            old, new = row["decision"], again[row["decision"]["id"]]
            for field in ("policy", "label", "confidence", "candidates", "plan", "unfit", "split"):
                assert old.get(field) == new.get(field), (old["id"], field)
            for field in ("turn", "had", "extra_usd"):
                assert old.get("conversation", {}).get(field) == new.get("conversation", {}).get(field), (old["id"], field)


def test_a_difference_is_named_and_fails(world, tmp_path):
    rows = read(world.log)
    at = next(i for i, row in enumerate(rows) if row["decision"]["policy"] == "by-task" and row["decision"]["plan"])
    rows[at]["decision"]["confidence"] = 0.0001
    log = tmp_path / "log.jsonl"
    log.write_text(lines(rows))
    found, said = replay(log, world.path, "--verify", status=1)
    assert found["same"]["compared"] - found["same"]["same"] == 1
    assert found["same"]["first_difference"] == {"id": rows[at]["decision"]["id"], "field": "confidence"}
    assert "by its `confidence`" in said
    replay(log, world.path)


def test_gzipped_and_out_of_order_is_the_same(world, tmp_path):
    log = tmp_path / "log.jsonl.gz"
    text = world.log.read_text().splitlines(keepends=True)
    log.write_bytes(gzip.compress("".join(text[::-1]).encode()))
    found, _ = replay(log, world.path, "--verify")
    assert found["same"]["same"] == found["same"]["compared"] > 0


def test_another_configuration_tells_what_would_change(world):
    config = yaml.safe_load(world.path.read_text())
    by_task = next(policy for policy in config["policies"] if policy["name"] == "by-task")
    by_task["routes"] = dict.fromkeys(TASK_LABELS, "small")
    path = written(world.folder / "cheaper.yaml", config)
    found, _ = replay(world.log, path)
    assert found["other_model"] > 0
    changes = {(change["from"], change["to"]): change["requests"] for change in found["changes"]}
    # The one with an image has nowhere to go now.
    assert set(changes) == {("large", "small"), ("large", "(none)")} and changes["large", "(none)"] == 1
    assert sum(changes.values()) == found["other_model"]
    gone = {name: of["before"] - of["after"] for name, of in found["models"].items()}
    assert gone["large"] == found["other_model"] and gone["small"] == -changes["large", "small"]


def test_all_by_one_policy(world):
    rows = [row for row in read(world.log) if "request" in row]
    found, said = replay(world.log, world.path, "--policy", "hard")
    assert found["policy"] == "hard" and found["decided"] == len(rows) and "same" not in found
    assert {name for name, of in found["models"].items() if of["after"]} <= {"small", "large"}
    cost = found["cost_usd"]
    # Every answer used the same tokens: the cost afterwards is a matter of counting.
    small, large = found["models"]["small"], found["models"]["large"]
    assert cost["after"] == pytest.approx(small["cost_usd_after"] + large["cost_usd_after"])
    answered = [row["decision"] for row in rows if row["decision"]["cost_usd"] is not None]
    known = [d for d in answered if d["model"] in COST]
    assert cost["requests"] <= len(known) < len(rows)
    assert cost["after"] <= cost["requests"] * COST["large"] and cost["before"] <= sum(d["cost_usd"] for d in answered) + 1e-9


def test_the_cost_before_is_what_was_logged_whatever_is_replayed(world):
    """Requests without a recorded cost were filled with what the policy replayed expects."""
    logged = {row["decision"]["id"]: row["decision"] for row in read(world.log) if "request" in row}
    for policy in ("hard", "smart", "by-task", "kept"):
        out = world.folder / f"by-{policy}.jsonl"
        found, _ = replay(world.log, world.path, "--policy", policy, "--out", str(out))
        before = after = count = 0
        for new in read(out):
            old = logged[new["id"]]
            model = old["model"] if old["plan"][:1] and new["plan"][:1] and old["plan"][0]["model"] == new["plan"][0]["model"] else new["model"]
            if old["cost_usd"] is not None and model in PRICES:
                price = PRICES[model]
                count += 1
                before += old["cost_usd"]
                after += (old["prompt_tokens"] * price["input"] + old["completion_tokens"] * price["output"]) / 1e6
        cost = found["cost_usd"]
        assert (cost["requests"], cost["before"], cost["after"]) == (count, pytest.approx(before), pytest.approx(after)), policy
        assert 0 < count < found["decided"], policy
        by_model = found["models"].values()
        assert sum(of["cost_usd_before"] or 0 for of in by_model) == pytest.approx(before)
        assert sum(of["cost_usd_after"] or 0 for of in by_model) == pytest.approx(after)
        said = run("replay", str(world.log), "--config", str(world.path), "--policy", policy, timeout=120).stdout
        assert f"known of {count} of {found['decided']} requests" in said


def test_what_was_expected_is_told_apart_from_what_was_paid(world, tmp_path):
    rows = [row for row in read(world.log) if "request" in row and row["decision"]["policy"] == "smart"]
    for row in rows:
        row["decision"].update(cost_usd=None, prompt_tokens=None, completion_tokens=None)
    log = tmp_path / "log.jsonl"
    log.write_text(lines(rows))
    found, _ = replay(log, world.path, "--policy", "kept")
    cost = found["cost_usd"]
    assert cost["requests"] == 0 and cost["before"] == 0
    assert cost["expected_of_others"]["requests"] > 0 and cost["expected_of_others"]["before"] > 0
    said = run("replay", str(log), "--config", str(world.path), "--policy", "kept", timeout=120).stdout
    assert "\ncost " not in said and "expected, for " in said
    assert replay(log, world.path, "--policy", "hard")[0]["cost_usd"]["expected_of_others"]["requests"] == 0


def test_expected_quality_is_told_by_an_auto_policy(world):
    found, _ = replay(world.log, world.path, "--policy", "smart")
    quality = found["quality"]
    assert quality["requests"] > 0 and 0 < quality["before"] < 1 and 0 < quality["after"] < 1


def test_for_a_person(world):
    done = run("replay", str(world.log), "--config", str(world.path), timeout=120)
    assert done.returncode == 0, done.stderr
    compared = len([row for row in read(world.log) if "request" in row])
    assert f"{compared} of {compared} decisions are the same" in done.stdout
    assert "0 requests would go to another model (0.0 %)" in done.stdout
    done = run("replay", str(world.log), "--config", str(world.path), "--policy", "smart", timeout=120)
    assert "all by the policy smart" in done.stdout and "cost " in done.stdout and "quality " in done.stdout
    assert CODE not in done.stdout and "4111" not in done.stdout + done.stderr


def test_lines_without_a_request(world, tmp_path):
    rows = read(world.log)
    bare = [{key: value for key, value in row.items() if key not in ("request", "headers", "exact")} for row in rows]
    log = tmp_path / "bare.jsonl"
    log.write_text(lines(bare))
    said = failed("replay", str(log), "--config", str(world.path))
    assert "log: {file: {path: ..., prompts: true}}" in said
    log.write_text(lines([*bare[:3], *[row for row in rows if "request" in row][:1], "torn {"]))
    found, _ = replay(log, world.path)
    assert (found["without_request"], found["decided"], found["unread"]) == (3, 1, 1)


def test_a_conversation_that_began_before_the_log_is_not_compared(world, tmp_path):
    rows = [row for row in read(world.log) if row.get("headers", {}).get("x-session-id") == "kept-a"]
    log = tmp_path / "later.jsonl"
    log.write_text(lines(rows[1:4]))
    found, _ = replay(log, world.path, "--verify")
    assert found["same"]["compared"] == 3, "the log says what was remembered"
    older = [{key: value for key, value in row.items() if key != "memory"} for row in rows]
    log.write_text(lines(older[1:4]))
    found, _ = replay(log, world.path, "--verify")
    assert found["same"]["conversations_begun_before_the_log"] == 3 and found["same"]["compared"] == 0
    log.write_text(lines(older[:4]))
    found, _ = replay(log, world.path, "--verify")
    assert found["same"]["conversations_begun_before_the_log"] == 0 and found["same"]["compared"] == 4


def test_an_encoder_that_was_late_is_late_again(waypost, recorder, tmp_path):
    log, upstream = tmp_path / "log.jsonl", recorder()
    models = [{"name": name, "endpoint": upstream.url} for name in ("small", "large")]
    policy = {"name": "p", "classifier": "complexity", "routes": {"Reasoning": "large"}, "default": "small"}
    config = {"models": models, "policies": [policy], "log": {"file": {"path": str(log), "prompts": True}}}
    gateway = waypost({**config, "encoder": {"threads": 1, "deadline": "1ms"}})
    for i in range(30):
        gateway.chat({"model": "p", "messages": user(f"Tell me about {i} things that a {i}-year-old should do, and why")})
    gateway.stop()
    encoder = [row["decision"].get("encoder") for row in read(log)]
    assert set(encoder) & {"late", "busy"}, "some want the encoder, and it has no time"
    # The replay has all the time of the world, and uses none of it.
    found, _ = replay(log, written(tmp_path / "waypost.yaml", config), "--verify")
    assert found["same"]["same"] == found["same"]["compared"] == 30


def test_what_is_wrong_with_a_command_is_told(world, tmp_path):
    assert "no policy 'nope'" in failed("replay", str(world.log), "--config", str(world.path), "--policy", "nope")
    assert "none.jsonl" in failed("replay", str(tmp_path / "none.jsonl"), "--config", str(world.path))
    (tmp_path / "empty").write_text("\n")
    assert "it is empty" in failed("replay", str(tmp_path / "empty"), "--config", str(world.path))
    (tmp_path / "odd").write_text("nonsense\n")
    assert "no decision to replay; 1 line could" in failed("replay", str(tmp_path / "odd"), "--config", str(world.path))
    before = world.log.read_bytes()
    assert "is the log itself" in failed("replay", str(world.log), "--config", str(world.path), "--out", str(world.log))
    assert world.log.read_bytes() == before
