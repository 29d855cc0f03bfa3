"""KV events end to end: an engine says what it holds, and a repeat goes there. `cached_tokens` is the proof."""

import collections

import pytest

from helpers.ports import free_ports
from helpers.web import web
from helpers.wait import until
from picking.kit import (
    BLOCK,
    Engine,
    at,
    at_once,
    cached,
    candidate,
    complete,
    config,
    directly,
    events_of,
    known,
    live,
    of,
    placement,
    preview,
    state_of,
    tokens,
    until_known,
)  # fmt: skip


@pytest.fixture(scope="module")
def engines(shared):
    """Three engines; together they have every form that vLLM has had."""
    return [
        shared.keep(Engine(lora="sim-law", **more))
        for more in (
            {},
            {"kv_events_form": "map", "kv_replay_topic": True, "kv_topic": "kv@10.0.0.1:9000@sim-a"},
            {"kv_topic": "kv-events"},
        )
    ]


@pytest.fixture(scope="module")
def gate(shared, engines):
    """`predicted: 0s`: nothing is taken for cached before its engine says so."""
    spec = config(engines, predicted="0s", metrics={"interval": "50ms"})
    spec["models"].append({"name": "sim-law", "adapter_of": "a"})
    return live(shared.waypost(spec), *engines)


@pytest.mark.parametrize("number", range(3), ids=["array", "map and topics", "array and topic"])
def test_a_repeat_goes_to_the_holder(gate, engines, number):
    prompt = tokens(10 * BLOCK)
    directly(engines[number], prompt)
    until_known(gate, prompt, engines[number])
    answer = complete(gate, prompt)
    assert cached(answer) >= 9 * BLOCK
    placed = placement(gate, answer)
    assert placed["reading"] == "exact" and placed["cached_tokens"] == 10 * BLOCK
    assert engines[number].url.endswith(at(gate, answer))
    assert placed["choice"]["best_cached_blocks"] == 10 and placed["choice"]["regret_blocks"] == 0
    chosen = candidate(placed, engines[number])
    assert chosen["chosen"] and chosen["device_blocks"] == 10 and chosen["kv_state"] == "live"
    assert all(c["device_blocks"] == 0 for c in placed["choice"]["candidates"] if not c["chosen"])


def test_a_longer_prompt_goes_to_the_holder_of_its_beginning(gate, engines):
    prompt = tokens(8 * BLOCK)
    directly(engines[1], prompt)
    until_known(gate, prompt, engines[1])
    answer = complete(gate, prompt + tokens(5 * BLOCK + 3))
    assert cached(answer) == 8 * BLOCK and engines[1].url.endswith(at(gate, answer))


def test_several_prefixes_spread_and_each_stays(gate, engines):
    prompts = [tokens(6 * BLOCK) for _ in range(12)]
    where = [at(gate, answer) for answer in at_once(12, lambda i: complete(gate, prompts[i], max_tokens=3), 12)]
    assert set(where) == {engine.url.removeprefix("http://") for engine in engines}, collections.Counter(where)
    for prompt, home in zip(prompts, where, strict=True):
        until_known(gate, prompt, home)
        answer = complete(gate, prompt)
        assert at(gate, answer) == home and cached(answer) >= 5 * BLOCK


def test_what_an_engine_gives_up_is_forgotten(gate, engines):
    prompt = tokens(6 * BLOCK)
    directly(engines[0], prompt)
    until_known(gate, prompt, engines[0])
    assert web.post(f"{engines[0].url}/reset_prefix_cache").json() == {"reset": True}
    until_known(gate, prompt, engines[0], 0)
    assert events_of(gate, engines[0], "cleared") >= 1
    assert cached(complete(gate, prompt)) == 0


def test_a_salt_keeps_blocks_apart(gate, engines):
    prompt = tokens(6 * BLOCK)
    directly(engines[2], prompt, cache_salt="mine")
    until(lambda: candidate(preview(gate, prompt, cache_salt="mine"), engines[2])["device_blocks"] == 6, what="salted")
    for other in ({}, {"cache_salt": "yours"}):
        placed = preview(gate, prompt, **other)
        assert all(c["device_blocks"] == 0 for c in placed["choice"]["candidates"])
    answer = complete(gate, prompt, cache_salt="mine")
    assert cached(answer) >= 5 * BLOCK and engines[2].url.endswith(at(gate, answer))
    assert cached(complete(gate, prompt, cache_salt="yours")) == 0


def test_an_adapter_has_blocks_of_its_own(gate, engines):
    prompt = tokens(6 * BLOCK)
    directly(engines[1], prompt)
    until_known(gate, prompt, engines[1])
    assert all(c["device_blocks"] == 0 for c in preview(gate, prompt, "sim-law")["choice"]["candidates"])
    directly(engines[2], prompt, model="sim-law")
    until(lambda: candidate(preview(gate, prompt, "sim-law"), engines[2])["device_blocks"] == 6, what="the adapter's blocks")
    answer = complete(gate, prompt, "sim-law")
    assert answer.json()["model"] == "sim-law"
    assert cached(answer) >= 5 * BLOCK and engines[2].url.endswith(at(gate, answer))
    answer = complete(gate, prompt)
    assert cached(answer) >= 5 * BLOCK and engines[1].url.endswith(at(gate, answer))


def test_the_next_request_goes_where_the_last_went_before_any_event(workshop):
    engines = [workshop.keep(Engine()) for _ in range(3)]
    gate = live(workshop.waypost(config(engines)), *engines)
    for engine in engines:
        engine.spoil(pause_ms=60_000)
    prompts = [tokens(6 * BLOCK) for _ in range(6)]
    for prompt in prompts:
        first, second = complete(gate, prompt), complete(gate, prompt)
        assert at(gate, first) == at(gate, second) and cached(second) >= 5 * BLOCK
        assert candidate(placement(gate, second), at(gate, first))["device_blocks"] == 6
    assert gate.metrics().value("waypost_kv_batches_total") == 0


def test_a_prediction_that_does_not_come_true_fades(workshop):
    engine, other = workshop.keep(Engine()), workshop.keep(Engine())
    gate = live(workshop.waypost(config([engine, other], predicted="400ms")), engine, other)
    for one in (engine, other):
        one.spoil(pause_ms=60_000)
    prompt = tokens(4 * BLOCK)
    home = at(gate, complete(gate, prompt))
    assert known(gate, prompt, home) == 4
    until_known(gate, prompt, home, 0, timeout=2)


@pytest.mark.parametrize("form", ["array", "map"])
@pytest.mark.parametrize("topic", [False, True], ids=["3 frames", "4 frames"])
def test_who_joins_late_is_told_what_went_before(workshop, form, topic):
    engines = [workshop.keep(Engine(kv_events_form=form, kv_replay_topic=topic, kv_topic="kv")) for _ in range(2)]
    prompts = [tokens(5 * BLOCK) for _ in range(20)]
    for number, prompt in enumerate(prompts):
        directly(engines[number % 2], prompt)
    gate = live(workshop.waypost(config(engines, predicted="0s")), *engines)
    for number, prompt in enumerate(prompts):
        assert known(gate, prompt, engines[number % 2]) == 5
        assert known(gate, prompt, engines[1 - number % 2]) == 0
    assert events_of(gate, engines[0], "replays") == 1 and events_of(gate, engines[0], "replays_failed") == 0


def test_engines_that_connect_to_us_are_told_apart_by_topic(workshop):
    port, *listens = free_ports(3)
    names = ("one", "two")
    entries = [
        {"url": f"http://127.0.0.1:{listen}", "kv_events": f"tcp://*:{port}", "kv_topic": f"kv@{name}@"}
        for listen, name in zip(listens, names, strict=True)
    ]
    gate = workshop.waypost(config(entries, predicted="0s"))
    engines = [
        workshop.keep(
            Engine(kv=False, listen=f"127.0.0.1:{listen}", kv_events=f"connect:tcp://127.0.0.1:{port}", kv_topic=f"kv@{name}@a")
        )
        for listen, name in zip(listens, names, strict=True)
    ]
    for engine in engines:
        # What an engine says before its connection stands is lost.
        until(lambda: directly(engine, tokens(BLOCK)) or state_of(gate, engine) not in ("waiting", "off"), what="heard")
    prompts = [tokens(5 * BLOCK) for _ in engines]
    for engine, prompt in zip(engines, prompts, strict=True):
        directly(engine, prompt)
    for engine, prompt in zip(engines, prompts, strict=True):
        until_known(gate, prompt, engine)
        answer = complete(gate, prompt)
        assert engine.url.endswith(at(gate, answer)) and cached(answer) >= 4 * BLOCK


def test_each_data_parallel_rank_is_an_endpoint(workshop):
    ports = free_ports(6)
    engine = workshop.keep(
        Engine(data_parallel=3, record=True, kv_events=f"tcp://127.0.0.1:{ports[0]}", kv_replay=f"tcp://127.0.0.1:{ports[3]}")
    )
    gate = workshop.waypost(config([engine.endpoint(ranks=3)], predicted="0s", metrics={"interval": "50ms"}))
    names = [labels["endpoint"] for _, labels, _ in gate.metrics().find("waypost_endpoint_requests")]
    assert len(set(names)) == 3
    until(lambda: len(gate.metrics().find("waypost_endpoint_kv_state", state="live")) == 3, what="all ranks live")
    prompts = [tokens(6 * BLOCK) for _ in range(9)]
    at_once(9, lambda i: complete(gate, prompts[i]), 9)
    ranks = {}
    for one in engine.requests():
        if one["path"] == "/v1/completions":
            ranks[one["body"]] = {name.lower(): value for name, value in one["headers"]}["x-data-parallel-rank"]
    assert set(ranks.values()) == {"0", "1", "2"}
    until(lambda: gate.metrics().value("waypost_index_pairs") == 9 * 6, what="every rank's blocks")
    for prompt in prompts:
        answer = complete(gate, prompt)
        assert cached(answer) >= 5 * BLOCK, placement(gate, answer)


def test_blocks_in_host_memory_count_and_are_shown(workshop):
    engines = [workshop.keep(Engine(cache_blocks=16, host_blocks=64)), workshop.keep(Engine())]
    gate = live(workshop.waypost(config(engines, predicted="0s")), *engines)
    prompt = tokens(8 * BLOCK)
    directly(engines[0], prompt)
    until_known(gate, prompt, engines[0])
    directly(engines[0], tokens(14 * BLOCK))
    until(lambda: candidate(preview(gate, prompt), engines[0])["host_blocks"] >= 6, what="blocks in host memory")
    answer = complete(gate, prompt)
    placed = candidate(placement(gate, answer), engines[0])
    assert placed["chosen"] and placed["device_blocks"] + placed["host_blocks"] == 8
    assert cached(answer) >= 7 * BLOCK


def test_lora_affinity_goes_where_the_adapter_runs(workshop):
    engines = [workshop.keep(Engine(lora="sim-law", decode_ms=20)) for _ in range(4)]
    spec = config(engines, strategy="scorers", scorers={"lora-affinity": 1}, metrics={"interval": "50ms"})
    spec["models"].append({"name": "sim-law", "adapter_of": "a"})
    gate = workshop.waypost(spec)
    running = {"model": "sim-law", "prompt": tokens(BLOCK), "max_tokens": 400, "ignore_eos": True, "stream": True}
    with web.stream("POST", f"{engines[2].url}/v1/completions", json=running) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        seen = lambda: candidate(preview(gate, tokens(BLOCK), "sim-law"), engines[2])["score"]  # noqa: E731
        until(lambda: seen() == 1, what="the adapter is seen")
        where = {at(gate, complete(gate, tokens(BLOCK), "sim-law")) for _ in range(8)}
        assert where == {engines[2].url.removeprefix("http://")}


def test_a_sound_stream_is_counted_and_nothing_is_complained_of(gate, engines):
    complaints = ("malformed", "unknown", "ambiguous", "garbled", "duplicates", "gaps", "lost", "replays_failed")
    for engine in engines:
        directly(engine, tokens(4 * BLOCK))
        prompt = tokens(4 * BLOCK)
        directly(engine, prompt)
        until_known(gate, prompt, engine)
        metrics = gate.metrics()
        assert of(metrics, "waypost_kv_batches_total", engine) >= 2
        assert of(metrics, "waypost_kv_bytes_total", engine) > 2 * 4 * BLOCK
        assert {kind: of(metrics, "waypost_kv_events_total", engine, kind=kind) for kind in complaints} == dict.fromkeys(
            complaints, 0
        )
