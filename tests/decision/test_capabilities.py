"""Requests that need images, audio, tools, a JSON schema or a longer context never reach a model without it."""

import itertools
import random

import pytest

from helpers.configs import considered, user

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


def parts(*more):
    return [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, *more]}]


NEEDS = {
    "images": {"messages": parts(IMAGE)},
    "images in an earlier turn": {
        "messages": parts(IMAGE) + [{"role": "assistant", "content": "a cat"}] + user("sure?")
    },
    "images in a tool result": {
        "messages": [
            *user("look"),
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x"}, IMAGE]},
        ]
    },
    "audio": {"messages": parts(AUDIO)},
    "tools": {"messages": user("x"), "tools": [TOOL]},
    "functions": {"messages": user("x"), "functions": [{"name": "f", "parameters": {}}]},
    "json_schema": {"messages": user("x"), "response_format": SCHEMA},
    "context": {"messages": user("word " * 2000)},
    "context in all turns together": {"messages": user("word " * 500) * 5},
    "context for the answer": {"messages": user("x"), "max_tokens": 1500},
    "context for the answer, new name": {"messages": user("x"), "max_completion_tokens": 1500},
}
LONG_TOOL = {"type": "function", "function": {"name": "f", "description": "word " * 2000, "parameters": {}}}
LONG_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":"' + "word " * 2000 + '"}'}}
# What is no message content is read by the model all the same.
ELSEWHERE = {
    "tool definitions": {"messages": user("x"), "tools": [LONG_TOOL]},
    "arguments of a tool call": {
        "messages": [*user("x"), {"role": "assistant", "content": None, "tool_calls": [LONG_CALL]}]
    },
}
RESPONSES = {
    "images": {
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "?"}, {"type": "input_image", "image_url": "data:,"}],
            }
        ]
    },
    "tools": {"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {}}]},
    "json_schema": {
        "input": "x",
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
    },
    "context": {"input": "word " * 2000},
    "context in items": {"input": [{"role": "user", "content": "word " * 2000}]},
    "context for the answer": {"input": "x", "max_output_tokens": 1500},
}
PLAIN = {
    "text": {"messages": user("x")},
    "text parts": {"messages": parts()},
    "no tools": {"messages": user("x"), "tools": []},
    "tools null": {"messages": user("x"), "tools": None},
    "json_object": {"messages": user("x"), "response_format": {"type": "json_object"}},
    "format text": {"messages": user("x"), "response_format": {"type": "text"}},
    "the word image": {"messages": user('{"type":"image_url"}')},
    "a nested look-alike": {"messages": user("x"), "metadata": {"tools": [1], "response_format": SCHEMA}},
}


@pytest.fixture(scope="module")
def plain(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def able(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def gateway(shared, plain, able):
    classifier = {"kserve": {"url": shared.kserve([0.9, 0.1]).infer_url, "labels": ["to_plain", "to_able"]}}
    routes = {"to_plain": "plain", "to_able": "able"}
    models = [
        {"name": "plain", "endpoint": plain.url, "accepts": [], "context_length": 1000},
        {"name": "able", "endpoint": able.url, "context_length": 100_000},
        {"name": "short", "endpoint": plain.url, "context_length": 1000},
    ]
    by_length = {
        "name": "by_length",
        "classifier": classifier,
        "routes": dict.fromkeys(routes, "short"),
        "default": "able",
    }
    only = {
        "name": "only_plain",
        "classifier": classifier,
        "routes": dict.fromkeys(routes, "plain"),
        "default": "plain",
    }
    spare = {
        "name": "with_default",
        "classifier": classifier,
        "routes": dict.fromkeys(routes, "plain"),
        "default": "able",
    }
    return shared.waypost(
        {
            "models": models,
            "policies": [{"name": "p", "classifier": classifier, "routes": routes}, only, spare, by_length],
        }
    )


@pytest.fixture(autouse=True)
def fresh(plain, able):
    plain.clear()
    able.clear()


UNFIT = {"images": "no_images", "audio": "no_audio", "tools": "no_tools", "functions": "no_tools",
         "json_schema": "no_json_schema", "context": "context_too_short"}  # fmt: skip


def why(need):
    return UNFIT[need.split()[0]]


@pytest.mark.parametrize("policy", ["p", "with_default"])
@pytest.mark.parametrize("need", NEEDS)
def test_a_capable_model_of_the_policy_is_taken(gateway, plain, able, policy, need):
    answer = gateway.chat({"model": policy, **NEEDS[need]})
    assert answer.status_code == 200, answer.text
    assert (plain.requests, able.last().json()["model"]) == ([], "able")
    assert answer.headers["x-waypost-fallback"] == "capable"
    decision = gateway.decision(answer)
    assert decision["unfit"] == considered(("plain", why(need)))
    assert decision["plan"] == considered(("able", "capable"))
    assert decision["label"] == "to_plain", "what the classifier said stays on record"


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("model", ["plain", "only_plain"])
def test_without_a_capable_model_it_is_refused(gateway, plain, able, model, need):
    answer = gateway.chat({"model": model, **NEEDS[need]})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "no_capable_model" and "'plain'" in error["message"]
    assert plain.requests == able.requests == []
    decision = gateway.decision(answer)
    assert decision["unfit"] == considered(("plain", why(need))) and decision["plan"] == []


@pytest.mark.parametrize("request_", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_long_context_outside_of_the_messages_text(gateway, plain, able, request_):
    answer = gateway.chat({"model": "by_length", **request_})
    assert answer.status_code == 200, answer.text
    assert (len(plain.requests), len(able.requests)) == (0, 1), "2,500 tokens do not fit into 1,000"


def test_manual_does_not_override_what_a_model_can(gateway, plain, able):
    nim = {"policy": "p", "routing_strategy": "manual", "model": "to_plain"}
    answer = gateway.chat({"model": "", **NEEDS["images"], "nim-llm-router": nim})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_capable_model")
    assert plain.requests == able.requests == [], "what a client names is never replaced by something else"


@pytest.mark.parametrize("request_", PLAIN.values(), ids=PLAIN.keys())
def test_requests_that_need_nothing_reach_the_plain_model(gateway, plain, request_):
    answer = gateway.chat({"model": "p", **request_})
    assert answer.status_code == 200, answer.text
    assert len(plain.requests) == 1


@pytest.mark.parametrize("need", RESPONSES)
def test_the_responses_api_too(gateway, plain, able, need):
    answer = gateway.chat({"model": "p", **RESPONSES[need]}, path="/v1/responses")
    assert plain.requests == [], "the plain model cannot take it"
    assert answer.status_code == 200, answer.text
    assert len(able.requests) == 1


def test_no_mixture_of_needs_ever_reaches_an_unfit_model(shared, plain):
    """Eight models that each take something else, a policy over all, every subset of needs."""
    kinds = ["images", "tools", "json_schema"]
    subsets = [list(s) for n in range(4) for s in itertools.combinations(kinds, n)]
    recorders = [shared.recorder() for _ in subsets]
    models = [
        {"name": f"m{i}", "endpoint": r.url, "accepts": s}
        for i, (r, s) in enumerate(zip(recorders, subsets, strict=True))
    ]
    labels = [f"l{i}" for i in range(8)]
    classifier = shared.kserve()
    policy = {
        "name": "p",
        "classifier": {"kserve": {"url": classifier.infer_url, "labels": labels}},
        "routes": {label: f"m{i}" for i, label in enumerate(labels)},
    }
    gateway = shared.waypost({"models": models, "policies": [policy]})
    rng = random.Random(3)
    for needs, first in itertools.product(subsets, range(8)):
        classifier.one_hot(first, 8)
        body = {"model": "p", "messages": user("x")}
        members = {
            "images": {"messages": parts(IMAGE)},
            "tools": {"tools": [TOOL]},
            "json_schema": {"response_format": SCHEMA},
        }
        for need in rng.sample(needs, len(needs)):
            body |= members[need]
        for recorder in recorders:
            recorder.clear()
        assert gateway.chat(body).status_code == 200
        [reached] = [i for i, recorder in enumerate(recorders) if recorder.requests]
        assert set(needs) <= set(subsets[reached])
        if set(needs) <= set(subsets[first]):
            assert reached == first, "a fit model keeps its label"
