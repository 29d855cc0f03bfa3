"""Waypost as a KServe v2 client: what it sends, all it accepts, and what happens when there is no answer."""

import os
import threading

import pytest

from helpers.configs import considered, user
from helpers.mocks import Reply
from helpers.wait import until

LABELS = ["a", "b", "c"]


def policy(url, timeout="2s", **more):
    classifier = {"kserve": {"url": url, "labels": LABELS, "timeout": timeout}}
    return {"name": "p", "classifier": classifier, "routes": {label: f"m-{label}" for label in LABELS}, **more}


def config(upstream, *policies):
    names = [f"m-{label}" for label in LABELS] + ["spare"]
    return {"models": [{"name": name, "endpoint": upstream.url} for name in names], "policies": list(policies)}


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def classifier(shared):
    return shared.kserve([0.2, 0.5, 0.3])


@pytest.fixture(scope="module")
def gateway(shared, upstream, classifier):
    strict = policy(classifier.infer_url + "?mode=strict", timeout="300ms")
    lenient = {**policy(classifier.infer_url, timeout="300ms"), "name": "lenient", "default": "spare"}
    return shared.waypost(config(upstream, strict, lenient))


@pytest.fixture(autouse=True)
def fresh(upstream, classifier):
    upstream.clear()
    classifier.clear()
    classifier.scores, classifier.shape, classifier.parameters = [0.2, 0.5, 0.3], None, True


def ask(gateway, text="hello", model="p"):
    return gateway.chat({"model": model, "messages": user(text)})


def test_the_request_is_v1s(gateway, classifier):
    text = 'say "hé"\n\u2028 😀 \\'
    assert ask(gateway, text).status_code == 200
    request = classifier.last()
    assert (request.method, request.path) == ("POST", f"{classifier.url_path}?mode=strict"), "the URL as written"
    assert request.header("content-type") == "application/json"
    tensor = {"name": "INPUT", "datatype": "BYTES", "shape": [1, 1], "data": [[text]]}
    assert request.json() == {"inputs": [tensor]}
    assert request.header("authorization") is None


def test_the_clients_own_headers_do_not_reach_the_classifier(gateway, classifier):
    headers = {"authorization": "Bearer sk-client", "cookie": "a=b", "x-request-id": "r"}
    gateway.chat({"model": "p", "messages": user("x")}, headers=headers)
    assert not {"authorization", "cookie"} & classifier.last().names()


def output(data, shape=None, **more):
    return {"name": "OUTPUT", "datatype": "FP32", "shape": shape or [len(data)], "data": data, **more}


def named(*outputs, **more):
    return {"model_name": "m", "model_version": "1", **more, "outputs": list(outputs)}


PARAMETERS = {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
ANSWERS = {
    "with parameters": (named(output([0.2, 0.5, 0.3]), parameters=PARAMETERS), "b", 0.5),
    "without parameters": (named(output([0.2, 0.5, 0.3])), "b", 0.5),
    "empty parameters": (named(output([0.2, 0.5, 0.3]), parameters={}), "b", 0.5),
    "shape [1, n]": (named(output([0.2, 0.5, 0.3], [1, 3])), "b", 0.5),
    "nested data": (named(output([[0.2, 0.5, 0.3]], [1, 3])), "b", 0.5),
    "one-hot": (named(output([0.0, 0.0, 1.0])), "c", None),
    "one-hot in whole numbers": (named(output([1, 0, 0])), "a", None),
    "logits": (named(output([-3.0, 4.0, 1.0])), "b", 0.9517),
    "a tie goes to the last": (named(output([0.4, 0.2, 0.4])), "c", 0.4),
    "only the first output counts": (named(output([0.1, 0.1, 0.8]), output([0.9, 0.1, 0.0])), "c", 0.8),
    "its name does not": (named(output([0.1, 0.1, 0.8]) | {"name": "SCORES"}), "c", 0.8),
    "no model name or version": ({"outputs": [{"data": [0.1, 0.8, 0.1]}]}, "b", 0.8),
    "unknown fields": (named(output([0.1, 0.8, 0.1], extra={}), id="x", new=[]), "b", 0.8),
}


@pytest.mark.parametrize("body, label, confidence", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_form_of_answer_is_accepted(gateway, upstream, classifier, body, label, confidence):
    classifier.reply(body=body)
    answer = ask(gateway)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-chosen-classifier"] == label
    assert upstream.last().json()["model"] == f"m-{label}"
    decision = gateway.decision(answer)
    assert decision["tier"] == "kserve" and answer.headers["x-waypost-tier"] == "kserve"
    assert list(decision["probabilities"]) == LABELS
    assert sum(decision["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    if confidence is None:
        assert decision["confidence"] is None and "x-waypost-confidence" not in answer.headers
    else:
        assert decision["confidence"] == pytest.approx(confidence, abs=1e-3)
        assert float(answer.headers["x-waypost-confidence"]) == pytest.approx(confidence, abs=1e-3)


FAILURES = {
    "500": (Reply(500, body=b"boom"), 500),
    "503": (Reply(503, body=b"loading"), 503),
    "404": (Reply(404, body=b"{}"), 404),
    "redirect": (Reply(302, [("location", "/elsewhere")]), 502),
    "garbage": (Reply(body=b"\xff\xfe<html>"), 500),
    "no outputs": (Reply(body={"outputs": []}), 500),
    "no data": (Reply(body={"outputs": [{"name": "OUTPUT"}]}), 500),
    "data of text": (Reply(body={"outputs": [output(["a", "b"])]}), 500),
    "cut": (Reply(chunks=[b'{"outputs":'], cut=True), 500),
    "endless": (Reply(chunks=[b" " * 65536] * 8), 500),
}


@pytest.mark.parametrize("reply, status", FAILURES.values(), ids=FAILURES.keys())
def test_a_failing_classifier_without_a_default(gateway, upstream, classifier, reply, status):
    classifier.answer = lambda _: reply
    answer = ask(gateway)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"].startswith("classifier_")
    assert upstream.requests == []


@pytest.mark.parametrize("reply", [reply for reply, _ in FAILURES.values()], ids=FAILURES.keys())
def test_a_failing_classifier_with_a_default(gateway, upstream, classifier, reply):
    classifier.answer = lambda _: reply
    check_default(gateway, upstream)


def check_default(gateway, upstream, model="lenient"):
    before = gateway.metrics()
    answer = ask(gateway, model=model)
    assert answer.status_code == 200, answer.text
    assert upstream.last().json()["model"] == "spare"
    assert answer.headers["x-waypost-model"] == "spare"
    assert answer.headers["x-waypost-fallback"] == "classifier_failed"
    decision = gateway.decision(answer)
    assert (decision["model"], decision["fallback"]) == ("spare", "classifier_failed")
    assert decision["classifier_error"] and decision["label"] is None
    assert decision["plan"][:1] == considered(("spare", "classifier_failed"))
    after = gateway.metrics()

    def counted(name, **labels):
        return after.value(name, policy=model, **labels) - before.value(name, policy=model, **labels)

    assert counted("waypost_fallbacks_total", reason="classifier_failed") == 1
    assert counted("waypost_classifications_total", label="(failed)") == 1
    assert after.value("model_selection_time_seconds_count") == before.value("model_selection_time_seconds_count")


@pytest.fixture
def never():
    """A classifier's answer that does not come while the test runs."""
    end = threading.Event()

    def answer(_):
        end.wait(20)
        return Reply(500)

    yield answer
    end.set()


def test_a_late_classifier_without_a_default(gateway, upstream, classifier, never):
    classifier.answer = never
    answer = ask(gateway)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "classifier_unavailable"
    assert upstream.requests == []


def test_a_late_classifier_with_a_default(gateway, upstream, classifier, never):
    classifier.answer = never
    check_default(gateway, upstream)


def test_a_classifier_that_is_down(waypost, upstream, dead_port):
    url = f"{dead_port().url}/v2/models/x/infer"
    gateway = waypost(config(upstream, policy(url), {**policy(url), "name": "lenient", "default": "spare"}))
    answer = ask(gateway)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "Triton server is unreachable"
    check_default(gateway, upstream)
    assert ask(gateway, model="m-a").status_code == 200, "who names a model needs no classifier"


def test_it_works_again_as_soon_as_the_classifier_does(gateway, upstream, classifier):
    classifier.reply(503)
    assert ask(gateway).status_code == 503
    classifier.default()
    assert ask(gateway).status_code == 200


def test_an_index_beyond_the_labels(gateway, upstream, classifier):
    classifier.scores = [0.0] * 9 + [1.0]
    answer = ask(gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "label_without_model")
    answer = ask(gateway, model="lenient")
    assert answer.status_code == 200
    assert answer.headers["x-waypost-fallback"] == "unmapped_label"
    assert upstream.last().json()["model"] == "spare"


def test_connections_to_the_classifier_are_reused(waypost, recorder, kserve):
    classifier = kserve([1.0, 0.0, 0.0])
    gateway = waypost(config(recorder(), policy(classifier.infer_url)))
    for _ in range(50):
        assert ask(gateway).status_code == 200
    assert until(lambda: len(classifier.requests) == 50)
    # One pool per event loop, and one event loop per core.
    assert classifier.connections <= (os.cpu_count() or 1)
