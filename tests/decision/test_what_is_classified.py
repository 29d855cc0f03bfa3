"""Which text the classifier gets: the conversation, or under `compat: v1` the last message only.

A KServe mock shows the text; one policy has `compat: v1`, the other has not.
"""

import pytest

from helpers.configs import user


@pytest.fixture(scope="module")
def classifier(shared):
    return shared.kserve([1.0])


@pytest.fixture(scope="module")
def gateway(shared, classifier):
    def policy(name, **more):
        classify = {"kserve": {"url": classifier.infer_url, "labels": ["x"]}}
        return {"name": name, "classifier": classify, "routes": {"x": "m"}, **more}

    models = [{"name": "m", "endpoint": shared.recorder().url}]
    return shared.waypost({"models": models, "policies": [policy("whole"), policy("v1", compat="v1")]})


@pytest.fixture(autouse=True)
def fresh(classifier):
    classifier.clear()


def say(role, content, **more):
    return {"role": role, "content": content, **more}


CALL = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
TALK = [
    say("system", "SYSTEM"), say("user", "FIRST"), say("assistant", "ANSWER1"), say("user", "SECOND"),
    say("assistant", "ANSWER2"), say("user", "THIRD"), say("assistant", "ANSWER3"), say("user", "LAST"),
]  # fmt: skip

# name: (messages, words that are read, words that are not, the text under compat v1)
CASES = {
    "one user turn": (user("LAST"), ["LAST"], [], "LAST"),
    "a conversation": (TALK, ["LAST", "SYSTEM", "SECOND", "THIRD"], ["ANSWER1", "ANSWER2", "ANSWER3"], "LAST"),
    "a developer prompt": ([say("developer", "SYSTEM"), *user("LAST")], ["LAST", "SYSTEM"], [], "LAST"),
    "a tool result at the end": (
        [*user("LAST"), say("assistant", None, **CALL), say("tool", "RESULT", tool_call_id="1")],
        ["LAST"], ["RESULT"], "RESULT",
    ),
    "an assistant prefill": ([*user("LAST"), say("assistant", "PREFILL")], ["LAST"], ["PREFILL"], "PREFILL"),
    "null content beside tool calls": ([say("assistant", None, **CALL), *user("LAST")], ["LAST"], [], "LAST"),
    "parts": (
        [say("user", [{"type": "text", "text": "ONE"}, {"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "TWO"}])],
        ["ONE", "TWO"], ["data:,"], "ONE\nTWO",
    ),
    "parts in an earlier turn": (
        [say("user", [{"type": "text", "text": "EARLY"}]), say("assistant", "A"), *user("LAST")], ["LAST", "EARLY"], [], "LAST",
    ),
    "escapes": (user('"é😀"\n\\'), ['"é😀"\n\\'], [], '"é😀"\n\\'),
    "no user turn": ([say("system", "SYSTEM")], ["SYSTEM"], [], "SYSTEM"),
}  # fmt: skip


@pytest.mark.parametrize("messages, read, unread, v1", CASES.values(), ids=CASES.keys())
def test_the_conversation(gateway, classifier, messages, read, unread, v1):
    assert gateway.chat({"model": "whole", "messages": messages}).status_code == 200
    [text] = classifier.texts()
    assert all(word in text for word in read) and not any(word in text for word in unread), text
    assert text.startswith(read[0]), "the task at hand stands first"


@pytest.mark.parametrize("messages, read, unread, v1", CASES.values(), ids=CASES.keys())
def test_v1s_rule(gateway, classifier, messages, read, unread, v1):
    assert gateway.chat({"model": "v1", "messages": messages}).status_code == 200
    assert classifier.texts() == [v1]


def test_long_texts_keep_head_and_tail(gateway, classifier):
    text = "HEAD " + "word " * 50_000 + "TAIL"
    for policy in ("whole", "v1"):
        assert gateway.chat({"model": policy, "messages": user(text)}).status_code == 200
    for seen in classifier.texts():
        assert seen.startswith("HEAD") and seen.endswith("TAIL")
        assert len(seen) < 40_000


@pytest.mark.parametrize("size", [1999, 2000, 2001, 40_000])
def test_two_byte_letters_at_any_cut(gateway, classifier, size):
    """v1 sliced such texts inside a letter and dropped the connection."""
    for shift in ("", "a"):
        text = shift + "é" * size
        assert gateway.chat({"model": "v1", "messages": user(text)}).status_code == 200
        assert set(classifier.texts()[-1]) <= set("aé\n …") and classifier.texts()[-1]


@pytest.mark.parametrize(
    "path, body",
    [
        ("/v1/completions", {"prompt": "TEXT"}),
        ("/completions", {"prompt": "TEXT"}),
        ("/v1/responses", {"input": "TEXT"}),
        ("/v1/responses", {"input": [{"role": "user", "content": "TEXT"}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "TEXT"}]}]}),
    ],
)
def test_the_other_endpoints(gateway, classifier, path, body):
    assert gateway.chat({"model": "whole", **body}, path=path).status_code == 200
    [text] = classifier.texts()
    assert text == "TEXT"
