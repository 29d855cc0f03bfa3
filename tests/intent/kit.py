"""What the tests of intent policies share: a policy, and answers as an OpenAI-compatible server words them.

The servers are simulated engines and recorders (mocks): they say what a test tells them to, and cannot judge language.
What is tested is what they are shown, what is made of their answers, and what happens when they have none.
"""

import json
import math
import re

from helpers.configs import user
from helpers.mocks import Reply

ROUTES = {
    "hard_question": "Needs several steps of thought.",
    "chit_chat": "Small talk: hello, thanks, a joke.",
    "try_again": "The last answer was wrong, or is wanted once more.",
    "image_question": "Asks for something that an attached image shows.",
    "image_understanding": "Describe or compare attached images.",
}
MODELS = {
    "hard_question": "big", "try_again": "big", "chit_chat": "small", "other": "small",
    "image_question": "eye", "image_understanding": "eye",
}  # fmt: skip


def config(asked, upstream, *, timeout="5s", policy=(), router=(), **intent):
    """`by_intent` asks the model `router` at `asked` (one URL or several); all targets are at `upstream`."""
    endpoints = [asked] if isinstance(asked, str) else asked
    routes = [{"name": name, "description": text} for name, text in ROUTES.items()]
    targets = [{"name": name, "endpoint": upstream} for name in ("big", "small", "eye", "spare")]
    return {
        "models": [{"name": "router", "model": "sim-router", "endpoints": endpoints, **dict(router)}, *targets],
        "policies": [
            {
                "name": "by_intent",
                "classifier": {"intent": {"model": "router", "routes": routes, **intent}},
                "routes": MODELS,
                "default": "spare",
                "classify_timeout": timeout,
                **dict(policy),
            }
        ],
        "retry": {"min_per_second": 1000},
    }


def ask(gateway, text="hello", **more):
    """One request, answered with 200; its Decision."""
    messages = user(text) if isinstance(text, str) else text
    answer = gateway.chat({"model": "by_intent", "messages": messages, **more})
    assert answer.status_code == 200, answer.text
    return gateway.decision(answer)


def completion(content, tokens=None):
    """A chat completion; `tokens` is `[(text, probability, {alternative: probability})]`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    if tokens is not None:
        choice["logprobs"] = {"content": [_token(*token) for token in tokens]}
    usage = {"prompt_tokens": 300, "completion_tokens": 9, "total_tokens": 309}
    return Reply(body={"object": "chat.completion", "choices": [choice], "usage": usage})


def _token(text, probability, top=None):
    def one(text, probability):
        return {"token": text, "logprob": math.log(probability), "bytes": list(text.encode())}

    return {**one(text, probability), "top_logprobs": [one(*pair) for pair in (top or {}).items()]}


def route(name):
    """A good answer."""
    return completion(json.dumps({"route": name}))


def inside(question, tag):
    """The JSON between a pair of tags in a question."""
    [found] = re.findall(rf"\n<{tag}>\n(.*?)\n</{tag}>\n", question, re.S)
    return json.loads(found)


def question(request):
    """The question in a request to the router model: its only message."""
    body = request.json() if hasattr(request, "json") else json.loads(request["body"])
    [message] = body["messages"]
    assert message["role"] == "user"
    return message["content"]


def shown(request):
    """The conversation that the router model was shown, as `(role, text)`."""
    return [(turn["role"], turn["content"]) for turn in inside(question(request), "conversation")]
