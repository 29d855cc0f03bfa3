"""Conversations keep their model: warm caches, tool loops, complaints, session headers."""

import pytest

from helpers.configs import considered, user

# Priced so that leaving the middle model for the small one costs next to nothing, and for the large one a lot.
MODELS = [
    ("small", {"input": 0.1, "output": 0.4}),
    ("mid", {"input": 1, "output": 4}),
    ("large", {"input": 50, "output": 200}),
]
LONG = "The log of the night. " * 400
RULES = [{"label": name, "keywords": [f"use {name}"]} for name, _ in MODELS]


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


def config(upstream, sticky="conversation", **more):
    models = [{"name": name, "endpoint": upstream.url, "price": price} for name, price in MODELS]
    routes = {name: name for name, _ in MODELS}
    policy = {
        "name": "p", "rules": RULES, "classifier": "task", "routes": {**routes, "Other": "mid"}, "default": "mid",
        "sticky": sticky, **more,
    }  # fmt: skip
    return {"models": models, "policies": [policy]}


@pytest.fixture(scope="module")
def gateway(shared, upstream):
    return shared.waypost(config(upstream))


class Talk:
    """A conversation with a gateway."""

    def __init__(self, gateway, opening, headers=None):
        self.gateway, self.headers = gateway, headers
        self.messages = [{"role": "system", "content": opening}]

    def say(self, text):
        """One user turn; the Decision about it."""
        self.messages += user(text)
        d = self.send()
        self.messages.append({"role": "assistant", "content": "answer"})
        return d

    def send(self):
        answer = self.gateway.chat({"model": "p", "messages": self.messages}, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return self.gateway.decision(answer)


def test_a_warm_conversation_leaves_only_for_little_money(gateway):
    talk = Talk(gateway, "a" + LONG)
    first = talk.say("use mid")
    assert first["conversation"]["turn"] == "first" and "had" not in first["conversation"]
    kept = talk.say("use large")
    assert kept["plan"][0] == {"model": "mid", "reason": "conversation"}
    assert kept["plan"][1] == {"model": "large", "reason": "fallback"}
    assert (kept["label"], kept["model"]) == ("large", "mid") and kept["fallback"] is None
    assert kept["conversation"] == {**kept["conversation"], "turn": "next", "had": "mid", "extra_usd": 0.0}
    left = talk.say("use small")
    assert (left["model"], left["plan"][0]["reason"]) == ("small", "label")
    assert 0 < left["conversation"]["extra_usd"] < 0.001


def test_a_tool_loop_never_flips(gateway):
    talk = Talk(gateway, "b")
    assert talk.say("use mid and look it up")["model"] == "mid"
    for step in range(3):
        talk.messages[-1] = {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{step}", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}]}  # fmt: skip
        talk.messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": "use large"})
        d = talk.send()
        assert (d["model"], d["conversation"]["turn"]) == ("mid", "tool_loop")
        talk.messages.append(None)


@pytest.mark.parametrize("words", ["try again", "No, that's wrong.", "That is not correct: look at line 2"])
def test_a_complaint_moves_up_one_model(gateway, words):
    talk = Talk(gateway, "c" + words)
    assert talk.say("use small")["model"] == "small"
    up = talk.say(words)
    assert up["plan"][0] == {"model": "mid", "reason": "moved_up"} and up["conversation"]["turn"] == "complaint"
    assert talk.say(words)["model"] == "large", "and once more"
    assert talk.say(words)["model"] == "large", "there is nothing above"


def test_a_session_header_names_the_conversation(gateway):
    for header in ("x-session-id", "x-switchyard-session-id", "x-dynamo-session-id"):
        one = {header: f"s-{header}"}
        assert Talk(gateway, LONG, one).say("use mid")["conversation"]["turn"] == "first"
        assert Talk(gateway, "another beginning", one).say("use large")["model"] == "mid", header
        other = {header: f"t-{header}"}
        assert Talk(gateway, LONG, other).say("use large")["model"] == "large", "another session"


def test_it_can_be_told_to_stay_whatever_it_costs(waypost, upstream):
    gateway = waypost(config(upstream, {"spend": 0, "complaints": False}))
    talk = Talk(gateway, "d")
    assert talk.say("use mid")["model"] == "mid"
    assert talk.say("use small")["model"] == "mid"
    assert talk.say("try again")["model"] == "mid"


def test_it_is_forgotten_after_a_while(waypost, upstream):
    import time

    gateway = waypost(config(upstream, {"spend": 0, "keep": "300ms"}))
    talk = Talk(gateway, "e")
    assert talk.say("use mid")["model"] == "mid"
    time.sleep(0.5)
    assert talk.say("use large")["model"] == "large"


def test_the_model_that_answered_is_the_warm_one(waypost, upstream, dead_port):
    text = config(upstream, {"spend": 0})
    text["models"][1]["endpoint"] = dead_port().url
    text["policies"][0]["fallbacks"] = ["large"]
    gateway = waypost(text)
    talk = Talk(gateway, "f")
    assert talk.say("use mid")["model"] == "large", "mid is down"
    d = talk.say("use small")
    assert (d["model"], d["conversation"]["had"]) == ("large", "large")


def test_without_sticky_nothing_is_remembered(waypost, upstream):
    text = config(upstream)
    del text["policies"][0]["sticky"]
    gateway = waypost(text)
    talk = Talk(gateway, LONG)
    assert talk.say("use mid")["plan"][0] == considered(("mid", "label"))[0]
    d = talk.say("use large")
    assert d["model"] == "large" and "conversation" not in d


def test_memory_survives_a_reload_and_is_counted(waypost, upstream):
    text = config(upstream, {"spend": 0})
    gateway = waypost(text)
    talk = Talk(gateway, "g")
    assert talk.say("use mid")["model"] == "mid"
    text["models"].insert(0, {"name": "new", "endpoint": upstream.url})
    gateway.write_config(text)
    gateway.wait_log("configuration applied")
    assert talk.say("use large")["model"] == "mid"
    assert gateway.metrics().value("waypost_conversations") == 1
