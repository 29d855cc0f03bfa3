"""One prompt through a real Envoy in each processing mode: chosen, sent on byte for byte, watched, and settled."""

import json

import pytest

from helpers.wait import until
from helpers.web import web

SEES_BODY = ["full-duplex", "buffered", "buffered-partial"]
BLIND = ["streamed", "headers-only"]
# What is for no model goes by Envoy's routes where there are several pools to pick from; here the one route has no other place.
NO_MODEL = {"buffered-partial": 503}
MATH = {"role": "user", "content": "What is the derivative of x^3 * sin(x)?"}
LAW = {"role": "user", "content": "May a landlord keep the deposit if the tenant breaks the lease early?"}


def chat(front, model, *messages, **more):
    body = {"model": model, "messages": list(messages) or [LAW], **more}
    return web.post(f"{front.url}/v1/chat/completions", json=body, timeout=30)


def served_by(front, answer):
    return answer.headers["x-waypost-model"], answer.json()["model"]


@pytest.mark.parametrize("mode", SEES_BODY)
def test_the_prompt_chooses_the_model(front, mode):
    front = front(mode)
    for message, model in ((MATH, "public"), (LAW, "local")):
        answer = chat(front, "auto", message)
        assert answer.status_code == 200, answer.text
        assert served_by(front, answer) == (model, f"sim-{model}")
        assert answer.headers["x-vsr-selected-model"] == model
        decision = front.waypost.decision(answer)
        assert decision["outcome"] == "completed"
        assert decision["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert front.envoy.stats().get("spurious_msgs_received", 0) == 0


@pytest.mark.parametrize("mode", SEES_BODY)
def test_a_named_model_is_spread_over_its_endpoints(front, mode):
    front = front(mode)
    endpoints = {front.waypost.decision(chat(front, "local"))["endpoint"] for _ in range(20)}
    assert endpoints == {f"http://127.0.0.1:{sim.port}" for sim in front.local}
    until(lambda: front.bookings() == 0)


@pytest.mark.parametrize("mode", SEES_BODY)
def test_a_stream_passes_as_it_comes_and_its_usage_is_read(front, mode):
    front = front(mode)
    body = {"model": "auto", "messages": [LAW], "stream": True, "stream_options": {"include_usage": True}}
    with web.stream("POST", f"{front.url}/v1/chat/completions", json=body, timeout=30) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    usage = json.loads(lines[-2].removeprefix("data: "))["usage"]
    decision = front.waypost.decision(answer)
    assert (decision["outcome"], decision["completion_tokens"]) == ("completed", usage["completion_tokens"])
    assert decision["ttft_ms"] > 0
    until(lambda: front.bookings() == 0)


@pytest.mark.parametrize("mode", ["full-duplex", "buffered"])
def test_a_body_of_a_megabyte_arrives_as_it_was(front, mode):
    front = front(mode)
    text = "x y " * 250_000
    answer = chat(front, "local", {"role": "user", "content": text})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 100_000


@pytest.mark.parametrize("mode", BLIND)
def test_without_a_body_the_default_model_is_taken(front, mode):
    front = front(mode)
    # The engine's own name for it: the body cannot be changed.
    answer = chat(front, "sim-local", MATH)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-waypost-model"] == "local"
    assert answer.headers["x-waypost-fallback"] == "classifier_failed"
    until(lambda: front.bookings() == 0)


@pytest.mark.parametrize("mode", SEES_BODY)
@pytest.mark.parametrize(
    "body, status, code",
    [
        (b"not json", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'{"messages": []}', 400, None),
        (b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}', 404, "model_not_found"),
    ],
)
def test_a_bad_request_is_answered_in_openais_shape(front, mode, body, status, code):
    front = front(mode)
    answer = web.post(f"{front.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert code is None or error["code"] == code
    assert answer.headers["x-waypost-decision-id"]


@pytest.mark.parametrize("mode", [*SEES_BODY, *BLIND])
def test_the_list_of_models_is_answered_and_other_paths_reach_an_engine(front, mode):
    front = front(mode)
    listed = web.get(f"{front.url}/v1/models").json()["data"]
    assert {"auto", "by-domain", "local", "public"} <= {entry["id"] for entry in listed}
    assert web.get(f"{front.url}/health").status_code == NO_MODEL.get(mode, 200)
    until(lambda: front.bookings() == 0)


@pytest.mark.parametrize("mode", SEES_BODY)
def test_clients_cannot_steer(front, mode):
    front = front(mode)
    headers = {"x-gateway-destination-endpoint": f"127.0.0.1:{front.public.port}", "x-selected-model": "public"}
    body = {"model": "local", "messages": [LAW]}
    answer = web.post(f"{front.url}/v1/chat/completions", json=body, headers=headers)
    assert answer.json()["model"] == "sim-local"
    assert web.get(f"{front.url}/health", headers=headers).status_code == NO_MODEL.get(mode, 200)
    assert front.waypost.decision(answer)["endpoint"] != f"http://127.0.0.1:{front.public.port}"


@pytest.mark.parametrize("mode", BLIND)
def test_without_a_body_and_a_policy_the_error_says_what_to_set(front, mode):
    front = front(mode, edit=lambda text: text.split("policies:")[0])
    answer = chat(front, "sim-local")
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]["message"]
    assert "is not known: set request_body_mode to BUFFERED or FULL_DUPLEX_STREAMED." in message
