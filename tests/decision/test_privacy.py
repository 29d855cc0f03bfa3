"""No prompt, no completion and no key in anything Waypost shows or writes, whatever goes wrong.

Every kind of request carries a canary, every key is one. Afterwards all that came out, except what is the
client's own answer from the model, is searched.
"""

import json

import pytest

from helpers import raw
from helpers.configs import v1_policy
from helpers.mocks import Reply, sse_events
from helpers.process import run
from helpers.web import web

PROMPT = "CANARYPROMPT"
COMPLETION = "CANARYCOMPLETION"
KEY_CLIENT, KEY_MODEL, KEY_V1, KEY_ENV = "CANARYKEYclient", "CANARYKEYmodel", "CANARYKEYv1", "CANARYKEYenv"


def chat(model, text=PROMPT, **more):
    return {
        "model": model,
        "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": text}],
        **more,
    }


def nim(policy="v1", strategy="triton", model=""):
    return {"nim-llm-router": {"policy": policy, "routing_strategy": strategy, "model": model}}


PATHS = {
    "answered": chat("good"),
    "streamed": chat("good", stream=True),
    "classified in process": chat("auto"),
    "classified by a server": chat("kserve"),
    "v1": chat("", **nim()),
    "v1 manual": chat("", **nim(strategy="manual", model="x")),
    "image": chat("good")
    | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:{PROMPT}"}}]}]},
    "no capable model": chat("text_only", tools=[{"type": "function", "function": {"name": PROMPT}}]),
    "unknown model": chat("nope"),
    "unknown policy": chat("", **nim("nope")),
    "unknown label": chat("", **nim(strategy="manual", model="nope")),
    "missing object": chat(""),
    "upstream error": chat("error_400"),
    "upstream 503": chat("error_503"),
    "upstream cut": chat("cut"),
    "upstream cut mid-stream": chat("cut", stream=True),
    "upstream unreachable": chat("dead"),
    "classifier unreachable": chat("no_classifier"),
    "classifier unreachable, default": chat("no_classifier_default"),
    "wrong type": {"model": "good", "messages": [{"role": "user", "content": {"text": PROMPT}}]},
    "no role": {"model": "good", "messages": [{"content": PROMPT}]},
    "empty messages": {"model": "good", "messages": [], "metadata": {"x": PROMPT}},
    "stream of wrong type": chat("good", stream=PROMPT),
    "embeddings": {"model": "auto", "input": PROMPT},
}
BROKEN = {
    "not JSON": b'{"model":"good","messages":[{"role":"user","content":"' + PROMPT.encode() + b'"}',
    "control character": b'{"model":"good","messages":[{"role":"user","content":"' + PROMPT.encode() + b'\n"}]}',
    "not UTF-8": b'{"model":"good","messages":[{"role":"user","content":"' + PROMPT.encode() + b'\xff"}]}',
    "trailing text": json.dumps(chat("good")).encode() + PROMPT.encode(),
    "text only": PROMPT.encode(),
    "lone surrogate": b'{"model":"good","messages":[{"role":"user","content":"' + PROMPT.encode() + b'\\ud800"}]}',
    "too large": json.dumps(chat("good", PROMPT + "x" * 200_000)).encode(),
}


def echo(request):
    """A model that repeats the prompt and adds its own canary."""
    words = (f"{COMPLETION} {PROMPT}", " end")
    if request.json().get("stream"):
        return Reply(headers=[("content-type", "text/event-stream")], chunks=list(sse_events("m", words=words)))
    return Reply(body={"choices": [{"message": {"role": "assistant", "content": words[0]}}]})


class Everything:
    """One gateway, all requests sent, all outputs collected."""

    def __init__(self, shared, log_level):
        upstream, bad400, bad503, cut = (shared.recorder() for _ in range(4))
        upstream.answer = echo
        bad400.reply(400, body={"error": {"message": f"upstream says {PROMPT}"}})
        bad503.reply(503, body={"error": {"message": f"upstream says {PROMPT}"}})
        cut.answer = lambda _: Reply(
            headers=[("content-type", "text/event-stream")], chunks=[f"data: {COMPLETION}".encode()], cut=True
        )
        classifier, dead = shared.kserve([1.0]), shared.dead_port().url
        models = {"good": upstream, "error_400": bad400, "error_503": bad503, "cut": cut, "text_only": upstream}
        config = {
            "models": [
                {"name": name, "endpoint": server.url, "api_key": KEY_MODEL}
                | ({"accepts": []} if name == "text_only" else {})
                for name, server in models.items()
            ]
            + [{"name": "dead", "endpoint": dead, "api_key": "${KEY_FROM_ENV}"}],
            "policies": [
                {"name": "task", "classifier": "task", "routes": {"Other": "good"}, "default": "good"},
                self.policy("kserve", classifier.infer_url),
                self.policy("no_classifier", dead),
                self.policy("no_classifier_default", dead, default="good"),
                v1_policy("v1", classifier.infer_url, upstream.url, ["x"], key=KEY_V1),
            ],
            "limits": {"body": "100KiB"},
        }
        self.gateway = shared.waypost(config, env={"KEY_FROM_ENV": KEY_ENV, "RUST_LOG": log_level})
        self.errors, self.statuses, ids = {}, {}, []
        headers = {"authorization": f"Bearer {KEY_CLIENT}", "x-api-key": KEY_CLIENT, "cookie": KEY_CLIENT}
        for name, body in {**PATHS, **BROKEN}.items():
            path = "/v1/embeddings" if name == "embeddings" else "/v1/chat/completions"
            answer = self.gateway.chat(body, headers=headers, path=path)
            self.statuses[name] = answer.status_code
            ids.append(answer.headers["x-waypost-decision-id"])
            own = answer.status_code >= 400 and "x-chosen-classifier" not in answer.headers
            self.errors[name] = str(answer.headers) + (answer.text if own else "")
        self.decisions = {ident: json.dumps(self.gateway.decision(ident)) for ident in ids}
        pages = ("/config", "/metrics", "/health", "/v1/models", "/nothing")
        self.pages = {path: web.get(self.gateway.url + path).text for path in pages}
        self.upstreams = [upstream, bad400, bad503, cut]

    @staticmethod
    def policy(name, url, **more):
        return {"name": name, "classifier": {"kserve": {"url": url, "labels": ["x"]}}, "routes": {"x": "good"}, **more}


@pytest.fixture(scope="module", params=["info", "debug", "trace"])
def everything(shared, request):
    return Everything(shared, request.param)


def hits(text):
    return [c for c in (PROMPT, COMPLETION, KEY_CLIENT, KEY_MODEL, KEY_V1, KEY_ENV, "CANARY") if c in text]


def test_the_requests_took_the_paths_they_are_named_after(everything):
    wanted = {"answered": 200, "streamed": 200, "classified in process": 200, "classified by a server": 200, "v1": 200,
              "v1 manual": 200, "image": 200, "no capable model": 400, "unknown model": 404, "unknown policy": 404,
              "unknown label": 404, "missing object": 400, "upstream error": 400, "upstream 503": 503,
              "upstream unreachable": 503, "classifier unreachable": 503, "classifier unreachable, default": 200,
              "wrong type": 400, "no role": 400, "empty messages": 400, "stream of wrong type": 400, "embeddings": 400,
              "not JSON": 400, "control character": 400, "not UTF-8": 400, "trailing text": 400, "text only": 400,
              "too large": 413}  # fmt: skip
    assert {name: everything.statuses[name] for name in wanted} == wanted


def test_the_canaries_were_there_to_be_found(everything):
    sent = [request for upstream in everything.upstreams for request in upstream.requests]
    assert all(PROMPT.encode() in request.body for request in sent) and len(sent) >= 10
    keys = {request.header("authorization") for request in sent}
    assert keys == {f"Bearer {KEY_MODEL}", f"Bearer {KEY_V1}"}


def test_logs(everything):
    found = [line for line in everything.gateway.log().splitlines() if hits(line)]
    assert found == []


def test_decisions(everything):
    assert len(everything.decisions) == len(PATHS) + len(BROKEN)
    assert [text for text in everything.decisions.values() if hits(text)] == []


def test_pages(everything):
    assert {path: hits(text) for path, text in everything.pages.items() if hits(text)} == {}
    assert everything.pages["/config"].count("[REDACTED]") >= 3


def test_own_errors_and_all_response_headers(everything):
    assert {name: hits(text) for name, text in everything.errors.items() if hits(text)} == {}


def test_a_classifiers_error_that_repeats_the_prompt(waypost, recorder, kserve):
    """Triton's errors may quote their input; the client may see it again, the record and the log may not."""
    classifier = kserve()
    classifier.reply(400, body={"error": f"cannot tokenize '{PROMPT}'"})
    gateway = waypost(
        {
            "models": [{"name": "m", "endpoint": recorder().url}],
            "policies": [
                {
                    "name": "p",
                    "classifier": {"kserve": {"url": classifier.infer_url, "labels": ["x"]}},
                    "routes": {"x": "m"},
                    "default": "m",
                }
            ],
        }
    )
    answer = gateway.chat(chat("p"))
    assert answer.headers["x-waypost-fallback"] == "classifier_failed"
    assert hits(json.dumps(gateway.decision(answer))) == []
    assert hits(gateway.log()) == []


@pytest.mark.parametrize("where", ["query", "model", "policy header", "request id"])
def test_what_a_client_writes_elsewhere_is_not_kept_either(waypost, recorder, where):
    gateway = waypost({"models": [{"name": "m", "endpoint": recorder().url}]})
    path, headers, model = "/v1/chat/completions", {}, "m"
    if where == "query":
        path += f"?api_key={KEY_CLIENT}"
    elif where == "model":
        model = PROMPT
    elif where == "policy header":
        headers["x-waypost-policy"] = PROMPT
    else:
        headers["x-request-id"] = PROMPT
    answer = gateway.chat(chat(model, "hi") | {"messages": [{"role": "user", "content": "hi"}]}, headers, path=path)
    assert hits(json.dumps(gateway.decision(answer))) == []
    assert hits(gateway.log()) == [] and hits(gateway.metrics().text) == []


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_key_in_a_broken_config_is_not_printed(command, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(f"models:\n  - {{name: m, endpoint: 'http://h:1', api_key: {{x: {KEY_MODEL}}}}}\n")
    done = run(
        *(["check", str(file)] if command == "check" else ["serve", "--config", str(file), "--listen", "127.0.0.1:0"])
    )
    assert done.returncode != 0
    assert "api_key" in done.stderr
    assert hits(done.stdout + done.stderr) == []


def test_half_a_request(waypost, recorder):
    gateway = waypost({"models": [{"name": "m", "endpoint": recorder().url}]})
    body = json.dumps(chat("m")).encode()
    data = raw.request("/v1/chat/completions", body + b"x" * 50, [("authorization", f"Bearer {KEY_CLIENT}")])[:-50]
    answer = raw.send(gateway.port, data, half_close=True)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "incomplete_body")
    assert hits(gateway.log()) == [] and hits(answer.body.decode()) == []
