"""vLLM's way: one engine reads the prompt, another fetches its cache and writes the answer."""

import json

import pytest

from helpers.mocks import Reply
from helpers.wait import until
from placing.kit import LONG, Later, asked, booked, chat, header, placed, split
from resilience.strict import Conn, events

PARAMS = (
    b'"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,'
    b'"remote_block_ids":null,"remote_host":null,"remote_port":null}'
)
# Whatever a parser and printer would change: numbers, spaces, order, escapes.
ODD = (
    '"seed": 9007199254740993,"z":[1.0,1e2, 18446744073709551615],"a":"<&>\\u00e9 é","max_completion_tokens":9,'
    '"messages":[{"role":"user","content":"' + LONG + '"}]'
).encode()


@pytest.fixture
def pair(sim):
    """An engine that reads and one that writes, both recording."""
    return sim(role="prefill", record=True), sim(role="decode", record=True)


@pytest.mark.parametrize("stream", [b"true", b"false"])
def test_both_legs_are_the_clients_body_but_for_what_the_hand_over_needs(gateway, recorder, stream):
    reader, writer = recorder(), recorder()
    gate = gateway(split([reader], [writer]))
    params = b'{ "b" : 1e2, "a":[18446744073709551615],"do_remote_prefill":true, "c":"<&>" }'
    reader.answer = lambda _: Reply(body=b'{"id":"x","kv_transfer_params": ' + params + b',"choices":[]}')
    options = b'"stream_options":{"include_usage":true},' if stream == b"true" else b""
    body = b'{"model":"m","stream":' + stream + b"," + options + b'"max_tokens": 7,"min_tokens":5,' + ODD + b"}"
    answer = gate.chat(body, headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200, answer.text

    read, written = reader.last(), writer.last()
    start = b'{"model":"sim-small","stream":false,"max_tokens": 1,"min_tokens":1,'
    limited = ODD.replace(b'"max_completion_tokens":9', b'"max_completion_tokens":1')
    assert read.body == b"{" + PARAMS + b"," + start[1:] + limited + b"}"
    named = body.replace(b'"model":"m"', b'"model":"sim-small"')
    assert written.body == b'{"kv_transfer_params":' + params + b"," + named[1:]
    assert read.header("x-request-id") == written.header("x-request-id") == "mine-1"
    assert (read.path, written.path) == ("/v1/chat/completions", "/v1/chat/completions")


def test_without_an_id_of_the_client_both_legs_get_the_same(gateway, pair):
    reader, writer = pair
    gate = gateway(split([reader], [writer]))
    answer = gate.chat(chat(LONG))
    ids = [header(asked(engine)[0], "x-request-id") for engine in pair]
    assert ids[0] == ids[1] == [f"waypost-{answer.headers['x-waypost-decision-id']}"]


def test_the_answer_is_whole_and_the_cache_was_fetched(gateway, pair):
    reader, writer = pair
    gate = gateway(split([reader], [writer]))
    answer = gate.chat(chat(LONG, 9))
    usage = answer.json()["usage"]
    assert (answer.status_code, usage["completion_tokens"]) == (200, 9)
    assert usage["prompt_tokens_details"]["cached_tokens"] >= usage["prompt_tokens"] - 16, "nothing was read twice"
    assert reader.stats()["handed"]["prefilled"] == 1
    assert writer.stats()["handed"] | {"fetched": 1, "fetch_failed": 0} == writer.stats()["handed"]
    placement = placed(gate, answer)
    assert placement["pair"] == "split"
    assert placement["endpoint"] == writer.url and placement["prefill"]["endpoint"] == reader.url
    assert placement["prefill"]["result"] == "ok" and placement["prefill"]["ms"] >= 0


def test_a_stream_comes_whole_from_the_decode_engine(gateway, pair):
    gate = gateway(split(pair[:1], pair[1:]))
    with Conn(gate.port) as conn:
        conn.post(chat(LONG, 20, stream=True, stream_options={"include_usage": True}))
        found = events(conn.answer().body)
    assert found[-1] == "[DONE]"
    usage = json.loads(found[-2])["usage"]
    assert usage["completion_tokens"] == 20 and usage["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_completion_of_token_numbers_is_split_too(gateway, pair):
    gate = gateway(split(pair[:1], pair[1:]))
    body = {"model": "m", "prompt": list(range(200)), "max_tokens": 4, "ignore_eos": True}
    answer = gate.chat(body, path="/v1/completions")
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert placed(gate, answer)["pair"] == "split"


def test_short_prompts_are_not_split(gateway, pair):
    reader, writer = pair
    gate = gateway(split([reader], [writer]))
    answer = gate.chat(chat("hi"))
    assert (answer.status_code, placed(gate, answer)["pair"]) == (200, "short")
    assert not asked(reader) and b"kv_transfer_params" not in asked(writer)[0]["body"]


def test_a_prompt_that_the_decode_engine_holds_is_not_split_again(gateway, pair):
    reader, _ = pair
    gate = gateway(split([reader], pair[1:]))
    first, second = (placed(gate, gate.chat(chat(LONG))) for _ in range(2))
    assert (first["pair"], second["pair"]) == ("split", "cached")
    assert len(asked(reader)) == 1


def test_a_client_that_leaves_during_the_prefill_frees_both(gateway, sim):
    reader, writer = sim(role="prefill", prefill_ms=20), sim(role="decode")
    gate = gateway(split([reader], [writer]))
    asking = Later(gate, chat(LONG))
    until(lambda: reader.stats()["in_flight"], 5, "the prefill")
    assert booked(gate)["requests"] == 2
    asking.leave()
    until(lambda: not booked(gate)["requests"], 1, "both freed")
    until(lambda: reader.stats()["aborted"] == 1, 1, "the prefill engine's notice")
    assert writer.stats()["requests"] == 0


def test_a_client_that_leaves_during_the_stream_frees_both(gateway, sim):
    reader, writer = sim(role="prefill"), sim(role="decode", decode_ms=20)
    gate = gateway(split([reader], [writer]))
    asking = Later(gate, chat(LONG, 500, stream=True))
    until(lambda: writer.stats()["in_flight"], 5, "the decode")
    until(lambda: booked(gate)["requests"] == 1, 1, "the prefill's booking has ended")
    asking.leave()
    until(lambda: writer.stats()["aborted"] == 1, 1, "the decode engine's notice")


# How a prefill fails: the fault of the engine, and the word for it.
FAILURES = {
    "slow": ("slow_headers=3000", "timeout"),
    "http_503": ("status=503", "broken"),
    "http_400": ("status=400", "refused"),
    "dropped": ("drop", "unreachable"),
    "cut": ("cut=1", "cut"),
    "garbage": ("malformed=json", "unreadable"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_when_the_prefill_fails_decode_reads_the_prompt(gateway, pair, how):
    reader, writer = pair
    fault, word = FAILURES[how]
    gate = gateway(split([reader], [writer], prefill_timeout="150ms" if word == "timeout" else "5s"))
    reader.fault(fault)
    answer = gate.chat(chat(LONG, 5))
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 5)
    (request,) = asked(writer)
    assert b"kv_transfer_params" not in request["body"]
    assert request["body"] == json.dumps(chat(LONG, 5), separators=(",", ":")).replace('"m"', '"sim-small"').encode()
    assert gate.metrics().value("waypost_prefill_fallbacks_total", model="m", reason=word) == 1
    prefill = placed(gate, answer)["prefill"]
    assert (prefill["endpoint"], prefill["result"]) == (reader.url, word)


def test_a_dead_prefill_engine_costs_one_try_then_none_is_left(gateway, sim, dead_port):
    reader, writer = dead_port(), sim(role="decode")
    gate = gateway(split([f"http://127.0.0.1:{reader.port}"], [writer]))
    pairs = []
    for i in range(8):
        answer = gate.chat(chat(f"{i} {LONG}"))
        assert answer.status_code == 200
        pairs.append(placed(gate, answer))
    assert pairs[0]["prefill"]["result"] == "unreachable"
    assert pairs[-1]["pair"] == "no_prefill_endpoint" and "prefill" not in pairs[-1]
    tries = sum(p["pair"] == "split" for p in pairs)
    assert gate.metrics().value("waypost_prefill_fallbacks_total", reason="unreachable") == tries < 8


@pytest.mark.parametrize("params", [b"", b',"kv_transfer_params":null'])
def test_an_answer_without_parameters_is_a_failed_prefill(gateway, sim, recorder, params):
    reader, writer = recorder(), sim(role="decode")
    reader.reply(body=b'{"id":"x"' + params + b"}")
    gate = gateway(split([reader], [writer]))
    answer = gate.chat(chat(LONG))
    assert answer.status_code == 200
    assert placed(gate, answer)["prefill"]["result"] == "no_kv_transfer_params"
    assert gate.metrics().value("waypost_prefill_fallbacks_total", reason="no_kv_transfer_params") == 1


def test_the_load_of_the_prefill_is_booked_on_its_endpoint_alone(gateway, sim):
    reader, writer = sim(role="prefill", prefill_ms=3), sim(role="decode")
    gate = gateway(split([reader], [writer]))
    asking = Later(gate, chat(LONG))
    until(lambda: reader.stats()["in_flight"], 5, "the prefill")
    metrics = gate.metrics()
    assert metrics.value("waypost_endpoint_prefill_tokens", endpoint=reader.url) > 100
    assert metrics.value("waypost_endpoint_prefill_tokens", endpoint=writer.url) == 0
    assert asking.join().status == 200


def test_a_client_cannot_have_a_cache_fetched_from_anywhere(gateway, pair):
    gate = gateway(split(pair[:1], pair[1:]))
    evil = {"do_remote_prefill": True, "remote_host": "10.0.0.1", "remote_port": 1, "remote_engine_id": "e"}
    assert gate.chat(chat("hi", kv_transfer_params=evil)).status_code == 200
    assert "kv_transfer_params" not in json.loads(asked(pair[1])[0]["body"])
