"""What the router model is shown of a conversation, for a recorded set of conversations and for long ones.

The set holds the route that a person would expect of each. The router here is a mock that is told this route: a
stand-in that repeats itself cannot judge language. So the set tests that the model is shown all it needs to judge, and
that what it answers decides; how well a real model judges is measured with that model.
"""

import json
import pathlib

import openai
import pytest

from helpers.configs import user
from intent.kit import MODELS, ROUTES, ask, config, inside, question, route, shown

SET = [json.loads(line) for line in pathlib.Path(__file__).with_name("conversations.jsonl").read_text().splitlines()]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
    "DUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def router(shared):
    server = shared.recorder()
    yield server


@pytest.fixture(scope="module")
def gateway(shared, router, upstream):
    return shared.waypost(config(router.url, upstream.url, context="2KiB"))


@pytest.fixture(autouse=True)
def fresh(router, upstream):
    router.clear()
    upstream.clear()
    router.answer = lambda _: route("other")


def test_the_set_covers_every_route():
    assert len(SET) >= 25 and len({one["id"] for one in SET}) == len(SET)
    assert {one["expected"] for one in SET} == {*ROUTES, "other"}


@pytest.mark.parametrize("one", SET, ids=[one["id"] for one in SET])
def test_a_recorded_conversation(gateway, router, upstream, one):
    router.answer = lambda _: route(one["expected"])
    more = {"tools": one["tools"]} if "tools" in one else {}
    d = ask(gateway, one["messages"], **more)
    assert (d["label"], d["model"], d["fallback"]) == (one["expected"], MODELS[one["expected"]], None)
    turns = shown(router.last())
    text = "\n".join(said for _, said in turns)
    assert [piece for piece in one["shows"] if piece not in text] == []
    for hidden in one.get("hides", []):
        assert hidden not in question(router.last())
    assert [role for role, _ in turns] == [m["role"] for m in one["messages"]], "every message, in order, by its role"
    assert json.loads(upstream.last().body)["messages"] == one["messages"], "the model gets all of it"


def test_a_long_conversation_is_shown_within_the_budget(gateway, router):
    messages = [{"role": "system", "content": "You sell shoes. " * 200}]
    for i in range(200):
        messages += [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": "blah " * 100}]
    messages.append({"role": "user", "content": "START " + "why " * 5000 + "END"})
    ask(gateway, messages)
    asked = question(router.last())
    raw = asked.split("\n<conversation>\n")[1].split("\n</conversation>\n")[0]
    assert 1500 < len(raw.encode()) <= 2048
    turns = inside(asked, "conversation")
    assert turns[0]["role"] == "system" and turns[0]["content"].startswith("You sell shoes.")
    assert turns[-1]["content"].startswith("START") and turns[-1]["content"].endswith("END")
    assert "blah" in turns[-2]["content"], "what was said last comes first"


def test_compat_v1_shows_the_last_message_only(waypost, router, upstream):
    gateway = waypost(config(router.url, upstream.url, policy={"compat": "v1"}))
    ask(gateway, [*user("hello"), {"role": "assistant", "content": "hi"}, *user("again")])
    assert shown(router.last()) == [("user", "again")]


@pytest.mark.parametrize(
    "path, body, expected",
    [
        ("/v1/completions", {"prompt": "once upon"}, [("user", "once upon")]),
        ("/v1/responses", {"input": "hi", "instructions": "Be kind."}, [("system", "Be kind."), ("user", "hi")]),
        (
            "/v1/responses",
            {"input": user("hi there"), "instructions": "Be kind."},
            [("system", "Be kind."), ("user", "hi there")],
        ),
    ],
)
def test_the_other_endpoints(gateway, router, path, body, expected):
    assert gateway.chat({"model": "by_intent", **body}, path=path).status_code == 200
    assert shown(router.last()) == expected


def test_the_official_sdk_with_text_and_with_images(gateway, router, upstream):
    router.answer = lambda request: route("image_question" if "[image]" in shown(request)[-1][1] else "chit_chat")
    with openai.OpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=0, timeout=20) as client:
        raw = client.chat.completions.with_raw_response.create(model="by_intent", messages=user("hello"))
        assert (raw.headers["x-waypost-label"], raw.headers["x-waypost-model"]) == ("chit_chat", "small")
        assert raw.headers["x-waypost-tier"] == "intent"
        assert raw.parse().choices[0].message.content == "mock answer of small"
        parts = [{"type": "text", "text": "which colour?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
        message = [{"role": "user", "content": parts}]
        raw = client.chat.completions.with_raw_response.create(model="by_intent", messages=message)
        assert (raw.headers["x-waypost-label"], raw.headers["x-waypost-model"]) == ("image_question", "eye")
        assert shown(router.last()) == [("user", "which colour? [image]")]
        assert PIXEL not in question(router.last())
        assert upstream.last().json()["messages"] == message
        chunks = list(client.chat.completions.create(model="by_intent", messages=message, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "mock answer"


def test_no_part_of_a_conversation_is_logged(waypost, router, upstream):
    gateway = waypost(config(router.url, upstream.url))
    ask(gateway, "my secret is plover")
    router.answer = lambda _: route("plover")
    assert ask(gateway, "my secret is plover 2")["classifier_error"] == "intent_unknown_route"
    gateway.stop()
    assert "plover" not in gateway.log()
