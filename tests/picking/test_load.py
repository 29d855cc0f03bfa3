"""Under load: a reload keeps what is known, and engines that die and come back lose no request."""

import json
import random
import threading

import pytest

from helpers.configs import user
from helpers.raw import request, send
from helpers.wait import until
from picking.kit import BLOCK, Engine, at_once, cached, candidate, complete, config, events_of, known, live, preview, tokens, until_known

REQUESTS = 500


def test_a_reload_under_load_keeps_the_index(workshop):
    engines = [workshop.keep(Engine()) for _ in range(3)]
    spec = config(engines[:2], predicted="0s", metrics={"interval": "100ms"}, health={"interval": "100ms"})
    gate = live(workshop.waypost(spec), *engines[:2])
    prompts = [tokens(6 * BLOCK) for _ in range(8)]
    homes = []
    for number, prompt in enumerate(prompts):
        home = engines[number % 2]
        directly = {"model": "sim-a", "prompt": prompt, "max_tokens": 1}
        assert send(home.port, request("/v1/completions", json.dumps(directly).encode(), [("content-type", "application/json")])).status == 200
        homes.append(home)
    for prompt, home in zip(prompts, homes, strict=True):
        until_known(gate, prompt, home)
    replays = [events_of(gate, engine, "replays") for engine in engines[:2]]
    over, found = threading.Event(), []

    def repeat(number):
        # One request at a time for each engine: load is no reason to go elsewhere.
        dice = random.Random(number)
        while not over.is_set():
            found.append(cached(complete(gate, dice.choice(prompts[number::2]))))

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        reloads = 0
        for number in range(4):
            # One more endpoint, one less, other settings: the two that stay are known as before.
            some = engines if number % 2 == 0 else engines[:2]
            gate.write_config(config(some, predicted="0s", metrics={"interval": f"{110 + number}ms"}, health={"interval": "100ms"}))
            reloads += 1
            until(lambda: gate.metrics().value("waypost_config_reloads_total", result="applied") >= reloads, what="a reload")
            for prompt, home in zip(prompts, homes, strict=True):
                assert candidate(preview(gate, prompt), home)["device_blocks"] == 6
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(found) > 20 and min(found) >= 5 * BLOCK, "every repeat was found by the engine it went to"
    assert [events_of(gate, engine, "replays") for engine in engines[:2]] == replays, "the streams went on"


def test_another_block_size_after_a_reload_begins_anew(workshop):
    engine = workshop.keep(Engine(block_size=32))
    gate = workshop.waypost(config([engine], predicted="0s"))
    prompt = tokens(6 * 32)
    complete(gate, prompt)
    until(lambda: preview(gate, prompt)["choice"]["candidates"][0]["kv_state"] == "blind", what="blind")
    gate.write_config(config([engine], predicted="0s", block_size=32))
    until_known(gate, prompt, engine, 6)


def bodies():
    """Chats, texts and token ids; new ones and repeats; some of them streamed."""
    dice = random.Random(11)
    repeats = [tokens(dice.randrange(1, 20) * BLOCK, seed=n) for n in range(20)]
    for number in range(REQUESTS):
        kind, streams = number % 4, number % 5 == 0
        if kind == 0:
            path, body = "chat/completions", {"messages": user(f"{number % 30}: " + "tell me more " * dice.randrange(60))}
        elif kind == 1:
            path, body = "completions", {"prompt": "Once upon a time " * dice.randrange(1, 60)}
        elif kind == 2:
            path, body = "completions", {"prompt": dice.choice(repeats)}
        else:
            path, body = "completions", {"prompt": tokens(dice.randrange(1, 400), seed=1000 + number)}
        yield f"/v1/{path}", {"model": "a", "max_tokens": 4, **body} | ({"stream": True} if streams else {})


@pytest.mark.parametrize("source", ["events", "approximate"])
def test_no_request_is_lost_while_engines_die_and_come_back(workshop, source):
    engines = [workshop.keep(Engine(kv=source == "events", decode_ms=2)) for _ in range(4)]
    often = {"interval": "100ms"}
    gate = workshop.waypost(config(engines, metrics=often, health={**often, "failures": 1}))
    asked, over = list(bodies()), threading.Event()

    def die_and_come_back():
        turn = 0
        while not over.wait(0.15):
            place = turn % 2
            engines[place].kill()
            over.wait(0.1)
            engines[place] = workshop.keep(engines[place].again())
            turn += 1

    killer = threading.Thread(target=die_and_come_back)
    killer.start()
    try:
        answers = at_once(REQUESTS, lambda i: gate.chat(asked[i][1], path=asked[i][0]), 24)
    finally:
        over.set()
        killer.join()
    lost = [(a.status_code, a.text[:200]) for a in answers if a.status_code != 200]
    assert not lost, (len(lost), lost[:3])
    broken = 0
    for (_, body), answer in zip(asked, answers, strict=True):
        if body.get("stream"):
            # A stream that broke off after its first byte cannot be had again, but says so.
            whole = "data: [DONE]" in answer.text
            assert whole or '"error"' in answer.text, answer.text
            broken += not whole
        else:
            assert answer.json()["choices"]
    assert broken <= 20, broken
    metrics = gate.metrics()
    assert metrics.value("waypost_endpoint_requests") == 0 and metrics.value("waypost_bookings") == 0
    prompt = tokens(6 * BLOCK)
    assert cached(complete(gate, prompt)) == 0
    until(lambda: cached(complete(gate, prompt)) >= 5 * BLOCK, what="repeats are found")


def test_what_is_cached_survives_the_death_of_another(workshop):
    engines = [workshop.keep(Engine()) for _ in range(2)]
    gate = live(workshop.waypost(config(engines, predicted="0s")), *engines)
    prompt = tokens(6 * BLOCK)
    home = next(e for e in engines if e.url == gate.decision(complete(gate, prompt))["endpoint"])
    other = engines[1 - engines.index(home)]
    until_known(gate, prompt, home)
    other.kill()
    for _ in range(5):
        assert cached(complete(gate, prompt)) >= 5 * BLOCK
    assert known(gate, prompt, home) == 6
