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


def test_little_spent_pays_for_little(gateway):
    """The share is one of what was spent, however dear the model that is wanted."""
    talk = Talk(gateway, "k")
    assert talk.say("hi, use small")["model"] == "small"
    assert talk.say("use large")["model"] == "small"


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


def test_two_users_with_the_same_opening_have_two_conversations(gateway):
    """A first turn begins anew: many conversations begin with the same words."""
    first = Talk(gateway, "same opening")
    assert first.say("use small")["model"] == "small"
    assert first.say("try again")["model"] == "mid"
    second = Talk(gateway, "same opening").say("use small")
    assert (second["model"], second["conversation"]["turn"]) == ("small", "first")


def test_clients_with_different_keys_never_share_a_session(gateway):
    session = {"x-session-id": "1"}
    assert Talk(gateway, LONG, {**session, "authorization": "Bearer a"}).say("use mid")["model"] == "mid"
    d = Talk(gateway, LONG, {**session, "authorization": "Bearer b"}).say("use large")
    assert (d["model"], d["conversation"]["turn"]) == ("large", "first")


def test_a_tool_loop_of_the_responses_api_is_one(gateway):
    items = [{"role": "user", "content": "use small, h"}]

    def send():
        answer = gateway.chat({"model": "p", "input": items}, path="/v1/responses")
        assert answer.status_code == 200, answer.text
        return gateway.decision(answer)

    assert send()["model"] == "small"
    items.extend([{"role": "assistant", "content": "so"}, {"role": "user", "content": "try again"}])
    assert send()["model"] == "mid"
    for step in range(3):
        items.append({"type": "function_call", "call_id": str(step), "name": "f", "arguments": "{}"})
        items.append({"type": "function_call_output", "call_id": str(step), "output": "use large"})
        d = send()
        assert (d["model"], d["conversation"]["turn"]) == ("mid", "tool_loop")


def test_a_classifier_that_fails_is_no_reason_to_leave_and_is_counted(waypost, upstream, kserve):
    classifier = kserve([0.0, 1.0])
    text = config(upstream)
    text["policies"] = [{
        "name": "p", "classifier": {"kserve": {"url": classifier.infer_url, "labels": ["a", "b"]}},
        "routes": {"a": "small", "b": "large"}, "default": "small", "sticky": "conversation",
    }]  # fmt: skip
    gateway = waypost(text)
    talk = Talk(gateway, "i")
    assert talk.say("hello")["model"] == "large"
    classifier.reply(500)
    d = talk.say("go on")
    assert (d["model"], d["fallback"]) == ("large", "classifier_failed")
    assert d["plan"][0] == {"model": "large", "reason": "conversation"}
    assert gateway.metrics().value("waypost_fallbacks_total", policy="p", reason="classifier_failed") == 1


def test_a_model_without_a_price_is_neither_left_nor_joined(waypost, upstream):
    text = config(upstream)
    del text["models"][0]["price"]
    gateway = waypost(text)
    talk = Talk(gateway, "j")
    assert talk.say("use small")["model"] == "small"
    assert talk.say("use mid")["model"] == "small"


def test_cached_tokens_cost_what_cached_tokens_cost(waypost, upstream):
    """The share is one of what the conversation has cost, not of what it would have cost without a cache."""
    text = config(upstream, {"spend": 0.2})
    text["models"][2]["price"] = {"input": 2, "output": 8, "cached_input": 0.5}
    text["models"][1]["price"] = {"input": 1, "output": 4, "cached_input": 0.01}
    gateway = waypost(text)
    talk = Talk(gateway, LONG * 4)
    talk.say("use mid")
    for _ in range(5):
        assert talk.say("use mid, go on")["model"] == "mid"
    # Some 9,000 tokens: once at 1, then at 0.01. Leaving costs 1.5 for each of them: more than everything so far.
    assert talk.say("use large")["model"] == "mid"
