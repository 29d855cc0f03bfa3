"""Envoy tries the next endpoint of Waypost's list by itself: `deploy/envoy/fallbacks.yaml` as it stands."""

import json

import pytest

from helpers.wait import until
from helpers.web import web


def edit(text):
    """As the head of the file says, and in turns, so that a test knows whose it is."""
    changed = text.replace("# fallbacks: 1 ", "fallbacks: 1 ").replace("model: sim-local ", "pick: {strategy: round-robin}\n    model: sim-local ")
    assert changed.count("fallbacks: 1 ") == text.count("fallbacks: 1 ") and "round-robin" in changed
    return changed


@pytest.fixture
def fallbacks(front):
    return front("fallbacks", edit=edit)


def body(**more):
    return {"model": "local", "messages": [{"role": "user", "content": "x"}], **more}


def url(engine):
    return f"http://127.0.0.1:{engine.port}"


def booked(front, engine):
    return front.waypost.metrics().value("waypost_endpoint_requests", endpoint=url(engine))


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_is_dead_and_the_second_answers(fallbacks, stream):
    front = fallbacks
    dead, alive = front.local
    dead.stop()
    answer = web.post(f"{front.url}/v1/chat/completions", json=body(stream=stream), timeout=20)
    assert answer.status_code == 200, answer.text
    decision = front.waypost.decision(answer)
    assert (decision["outcome"], decision["endpoint"]) == ("completed", url(alive))
    tries = [(one["endpoint"], one["result"]) for one in decision["attempts"]]
    assert tries == [(url(dead), "passed_over"), (url(alive), "ok")]
    metrics = front.waypost.metrics()
    assert metrics.value("waypost_upstream_attempts_total", endpoint=url(dead), result="passed_over") == 1
    until(lambda: front.bookings() == 0)


def test_an_engine_without_room_is_passed_over_too(fallbacks):
    front = fallbacks
    full, free = front.local
    full.fault("status=503")
    answer = web.post(f"{front.url}/v1/chat/completions", json=body(), timeout=20)
    assert answer.status_code == 200, answer.text
    assert front.waypost.decision(answer)["endpoint"] == url(free)


def test_the_load_is_where_the_answer_comes_from(fallbacks):
    front = fallbacks
    dead, alive = front.local
    dead.stop()
    alive.fault("stall=2")
    with web.stream("POST", f"{front.url}/v1/chat/completions", json=body(stream=True), timeout=20) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_bytes()
        next(pieces)
        assert (booked(front, dead), booked(front, alive)) == (0, 1)
    until(lambda: front.bookings() == 0)


def test_all_of_the_list_are_dead(fallbacks):
    front = fallbacks
    for engine in front.local:
        engine.stop()
    answer = web.post(f"{front.url}/v1/chat/completions", json=body(), timeout=20)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    until(lambda: front.bookings() == 0)


def test_scores_reach_envoys_metadata(front, tmp_path):
    """As later filters and the access log see them."""
    log = tmp_path / "scores.log"
    access = f"""
                access_log:
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: {log}
                      log_format: {{text_format_source: {{inline_string: "%DYNAMIC_METADATA(envoy.lb)%\\n"}}}}"""
    front = front(
        "full-duplex",
        change=lambda text: text.replace("stat_prefix: clients", "stat_prefix: clients" + access),
        edit=lambda text: text.replace("  # fallbacks: 1 ", "  scores: true #"),
    )
    answer = web.post(f"{front.url}/v1/chat/completions", json=body(), timeout=20)
    assert answer.status_code == 200, answer.text
    told = json.loads(until(lambda: log.exists() and log.read_text()))
    assert told["x-gateway-destination-endpoint-scores"] == {f"127.0.0.1:{one.port}": 0 for one in front.local}
    assert told["x-gateway-destination-endpoint"] in told["x-gateway-destination-endpoint-scores"]
