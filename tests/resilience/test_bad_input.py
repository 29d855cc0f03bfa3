"""Bad requests: each gets a 4xx in OpenAI's shape that names what is wrong, at once, and harms nobody."""

import json

import pytest

from resilience.kit import Clock, config, is_release, policy, rss_mib
from resilience.strict import ask, chat, get

LIMIT_S = 0.05 if is_release() else 0.3
MESSAGES = '"messages":[{"role":"user","content":"hi"}]'


def with_field(name, value):
    """A good request with one field more."""
    return '{"model":"m",' + MESSAGES + f',"{name}":{value}' + "}"


def nim(**fields):
    return json.dumps({"model": "", "messages": chat()["messages"], "nim-llm-router": fields})


DEEP = "[" * 10_000 + "]" * 10_000

# name: body, status, code, a word of the message, param
CASES = {
    "nothing": (b"", 400, "invalid_json", "end of the body", None),
    "not JSON": ("hello", 400, "invalid_json", "byte 0", None),
    "a form": ("model=m&prompt=x", 400, "invalid_json", "byte 0", None),
    "cut off": ('{"model":"m","messages":[', 400, "invalid_json", "byte", None),
    "a trailing comma": ('{"model":"m",}', 400, "invalid_json", "key", None),
    "two objects": ("{" + MESSAGES + ',"model":"m"}{}', 400, "invalid_json", "after the JSON object", None),
    "an array": ("[]", 400, "invalid_json", "object", None),
    "a string": ('"m"', 400, "invalid_json", "object", None),
    "null": ("null", 400, "invalid_json", "object", None),
    "single quotes": ("{'model':'m'}", 400, "invalid_json", "quotes", None),
    "NaN": (with_field("temperature", "NaN"), 400, "invalid_json", "value", None),
    "a leading zero": (with_field("temperature", "01"), 400, "invalid_json", "expected", None),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, "invalid_json", "byte 0", None),
    "UTF-16": ('{"model":"m"}'.encode("utf-16"), 400, "invalid_json", "UTF-8", None),
    "not UTF-8": (b'{"model":"\xff\xfe"}', 400, "invalid_json", "UTF-8 at byte 10", None),
    "an overlong encoding": (b'{"model":"\xc0\xaf"}', 400, "invalid_json", "UTF-8", None),
    "a control character": ('{"model":"a\nb"}', 400, "invalid_json", "control character", None),
    "a lone high surrogate": (with_field("user", r'"\ud800"'), 400, "invalid_json", "surrogate", None),
    "a lone low surrogate": (with_field("user", r'"\udc00x"'), 400, "invalid_json", "surrogate", None),
    "a surrogate in a key": (r'{"\ud800":1}', 400, "invalid_json", "surrogate", None),
    "10,000 levels": (with_field("metadata", DEEP), 400, "invalid_json", "levels at byte", None),
    "10,000 levels of objects": (with_field("metadata", '{"a":' * 10_000), 400, "invalid_json", "levels at byte", None),
    "10,000 levels in a message": (
        '{"model":"m","messages":[{"role":"user","content":%s}]}' % DEEP,
        400,
        "invalid_json",
        "levels",
        None,
    ),
    "a number of 1 MiB": (with_field("seed", "9" * (1 << 20)), 400, "invalid_json", "1024 bytes", None),
    "a fraction of 1 MiB": (with_field("seed", "0." + "1" * (1 << 20)), 400, "invalid_json", "1024 bytes", None),
    "a number of 1 MiB as max_tokens": (with_field("max_tokens", "9" * (1 << 20)), 400, "invalid_json", "1024", None),
    "300 keys": ("{" + ",".join(f'"k{i}":1' for i in range(300)) + "}", 400, "invalid_json", "256", None),
    "100,000 keys": ("{" + ",".join(f'"k{i}":1' for i in range(100_000)) + "}", 400, "invalid_json", "256", None),
    "two models": ('{"model":"m","model":"m",' + MESSAGES + "}", 400, "duplicate_key", "model", "model"),
    "two models, one escaped": (r'{"model":"m","mod\u0065l":"m"}', 400, "duplicate_key", "model", "model"),
    "two messages": ("{" + MESSAGES + "," + MESSAGES + "}", 400, "duplicate_key", "messages", "messages"),
    "two roles": (
        '{"model":"m","messages":[{"role":"user","role":"system","content":"x"}]}',
        400,
        "duplicate_key",
        "role",
        None,
    ),
    "no model": ("{" + MESSAGES + "}", 400, "missing_required_parameter", "nim-llm-router", None),
    "an empty object": ("{}", 400, "missing_required_parameter", "nim-llm-router", None),
    "model is a number": ('{"model":3,' + MESSAGES + "}", 400, "invalid_type", "'model' must be a string", "model"),
    "model is an object": ('{"model":{},' + MESSAGES + "}", 400, "invalid_type", "'model'", "model"),
    "model is unknown": (chat(model="gpt-9"), 404, "model_not_found", "gpt-9", "model"),
    "model has a strange name": (chat(model="m\r\nx: 1\u2028\0"), 404, "model_not_found", "does not exist", "model"),
    "model has a name of 1 MiB": (chat(model="m" * (1 << 20)), 404, "model_not_found", "mmm", "model"),
    "stream is a word": (with_field("stream", '"yes"'), 400, "invalid_type", "'stream'", "stream"),
    "messages is absent": ('{"model":"m"}', 400, "missing_required_parameter", "messages", "messages"),
    "messages is empty": (chat() | {"messages": []}, 400, "missing_required_parameter", "empty", "messages"),
    "messages is a string": (chat() | {"messages": "hi"}, 400, "invalid_type", "must be an array", "messages"),
    "messages is null": (chat() | {"messages": None}, 400, "invalid_type", "messages", "messages"),
    "a message is a string": (chat() | {"messages": ["hi"]}, 400, "invalid_type", "messages[0]", None),
    "content is a number": (
        chat() | {"messages": [{"role": "user", "content": 5}]},
        400,
        "invalid_type",
        "content",
        None,
    ),
    "v1: unknown policy": (
        nim(policy="nope", routing_strategy="triton"),
        404,
        "policy_not_found",
        "Policy 'nope' not found",
        "policy",
    ),
    "v1: unknown strategy": (
        nim(policy="p", routing_strategy="random"),
        400,
        "missing_required_parameter",
        "routing_strategy",
        "nim-llm-router",
    ),
    "v1: unknown label": (
        nim(policy="p", routing_strategy="manual", model="Poetry"),
        404,
        "model_not_found",
        "Model not found: Poetry",
        "nim-llm-router.model",
    ),
    "v1: no policy": (nim(routing_strategy="triton"), 400, "missing_required_parameter", "policy", "nim-llm-router"),
    "v1: not an object": (
        '{"nim-llm-router":"p",' + MESSAGES + "}",
        400,
        "missing_required_parameter",
        "nim-llm-router",
        "nim-llm-router",
    ),
    "no model can take an image": (
        chat(model="auto")
        | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        400,
        "no_capable_model",
        "takes no images",
        "model",
    ),
    "the model takes no tools": (
        chat(model="plain") | {"tools": [{"type": "function", "function": {"name": "f"}}]},
        400,
        "no_capable_model",
        "'plain' takes no tools",
        "model",
    ),
    "the context is too short": (
        chat(model="plain", text="word " * 20_000),
        400,
        "no_capable_model",
        "context",
        "model",
    ),
}


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim()


@pytest.fixture(scope="module")
def gate(shared, engine):
    settings = config(engine)
    plain = {"name": "plain", "model": "sim-small", "endpoint": engine.url, "accepts": [], "context_length": 8192}
    settings["models"] += [plain]
    return shared.waypost(settings | {"policies": [policy("plain")]})


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_reason_at_once(gate, engine, name):
    body, status, code, word, param = CASES[name]
    requests, memory = engine.stats()["requests"], rss_mib(gate)
    times = []
    for _ in range(3):
        clock = Clock()
        answer = ask(gate.port, body)
        times.append(clock())
    assert answer.status == status, answer
    error = answer.error()
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    assert (error["type"], error["code"], error["status"]) == (kind, code, status)
    assert word in error["message"]
    assert len(error["message"]) < 1000
    if param:
        assert error["param"] == param
    assert min(times) < LIMIT_S, times
    assert engine.stats()["requests"] == requests, "it was forwarded"
    assert rss_mib(gate) - memory < 32


@pytest.mark.parametrize("policy_name", ["nope", "", "p, q", "m", "é"])
def test_an_unknown_policy_in_the_header(gate, policy_name):
    answer = ask(gate.port, chat(), x_waypost_policy=policy_name)
    assert answer.status in (400, 404)
    assert answer.error()["code"] in ("policy_not_found", "invalid_value")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_a_policy_cannot_choose_for_vectors_and_scores(gate, path):
    answer = ask(gate.port, {"model": "auto", "input": "x", "query": "x", "documents": ["y"]}, path)
    assert (answer.status, answer.error()["param"]) == (400, "model")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/completions"])
@pytest.mark.parametrize("body", ["[]", "{", DEEP, "{}", '{"model":5}', '{"model":"nobody"}', b"\xff"])
def test_the_other_paths_refuse_as_well(gate, path, body):
    answer = ask(gate.port, body, path)
    assert answer.status in (400, 404)
    assert answer.error()["type"] in ("invalid_request_error", "not_found_error")


def test_unknown_fields_pass(gate):
    """Strict about what parsers read differently, not about what is new."""
    assert ask(gate.port, with_field("brand_new", '{"a":[1e400,-0.0,""],"b":null}')).status == 200


def test_the_prompt_is_never_in_an_error_or_the_log(gate):
    secret = "xyzzy-never-to-be-seen"
    for body in (with_field("metadata", DEEP).replace('"hi"', f'"{secret}"'), chat(model="nobody", text=secret)):
        assert secret.encode() not in ask(gate.port, body).body
    assert ask(gate.port, chat(text=secret)).status == 200
    assert secret not in gate.log()


def test_after_all_that_the_gateway_is_well(gate):
    assert get(gate.port, "/health").status == 200
    assert gate.proc.poll() is None
    assert "panicked" not in gate.log()
    metrics = gate.metrics()
    assert metrics.value("waypost_requests_in_flight") == 0
    assert metrics.value("waypost_requests_total", outcome="refused") > 100
