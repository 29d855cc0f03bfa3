"""A stream of KV events that goes wrong: told in /metrics, believed no further than it deserves, and never an error to
anybody who asks."""

import pytest

from helpers.wait import until
from picking.kit import (
    BLOCK,
    Engine,
    at,
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
    until_state,
)  # fmt: skip


class Scene:
    """An engine whose stream is spoilt, another beside it, and a gateway that believes only events."""

    def __init__(self, workshop, replay=True, **flags):
        self.bad, self.good = workshop.keep(Engine(**flags)), workshop.keep(Engine())
        pair = [self.bad.endpoint(replay), self.good.endpoint(replay)]
        often = {"interval": "50ms"}
        gate = workshop.waypost(config(pair, predicted="0s", metrics=often, health=often))
        self.gate = live_or_waiting(gate, self, replay)
        self.old, self.kept = self.told(self.bad), self.told(self.good)

    def told(self, engine, blocks=5):
        """A prompt that the engine has just read and the gateway knows of."""
        prompt = directly(engine, tokens(blocks * BLOCK))
        until_known(self.gate, prompt, engine)
        return prompt

    def count(self, kind):
        return events_of(self.gate, self.bad, kind)

    def until_counted(self, kind, least=1):
        until(lambda: self.count(kind) >= least, 8, f"{least} × {kind}; {self.count(kind)}")

    def still_serves(self):
        """New prompts are answered, and what the other engine holds is still found there."""
        for _ in range(6):
            complete(self.gate, tokens(3 * BLOCK))
        answer = complete(self.gate, self.kept)
        assert self.good.url.endswith(at(self.gate, answer)) and cached(answer) >= 4 * BLOCK

    def is_well(self):
        """Live, and what the engine reads from now on is found."""
        until_state(self.gate, self.bad, "live")
        until(lambda: of(self.gate.metrics(), "waypost_endpoint_aside", self.bad) == 0, what="back in rotation")
        prompt = self.told(self.bad)
        answer = complete(self.gate, prompt)
        assert self.bad.url.endswith(at(self.gate, answer)) and cached(answer) >= 4 * BLOCK


def live_or_waiting(gate, scene, replay):
    # Without replays nothing is known of an engine before its first batch.
    if replay:
        return live(gate, scene.bad, scene.good)
    for engine in (scene.bad, scene.good):
        until(lambda: directly(engine, tokens(BLOCK)) and state_of(gate, engine) in ("live", "gaps"), what="the first batch")
    return gate


def test_a_gap_is_replayed(workshop):
    scene = Scene(workshop)
    scene.bad.spoil(skip=3)
    missed = [directly(scene.bad, tokens(5 * BLOCK)) for _ in range(3)]
    scene.told(scene.bad)
    for prompt in [*missed, scene.old]:
        assert known(scene.gate, prompt, scene.bad) == 5
    assert (scene.count("gaps"), scene.count("lost"), scene.count("replays_failed")) == (1, 0, 0)
    scene.still_serves()
    scene.is_well()


def test_a_gap_that_nobody_fills_empties_the_share_until_the_cache_has_turned_over(workshop):
    scene = Scene(workshop, replay=False, cache_blocks=16)
    scene.bad.spoil(skip=2)
    for _ in range(2):
        directly(scene.bad, tokens(2 * BLOCK))
    heard = scene.told(scene.bad)
    assert state_of(scene.gate, scene.bad) == "gaps"
    assert candidate(preview(scene.gate, heard), scene.bad)["kv_state"] == "gaps"
    assert known(scene.gate, scene.old, scene.bad) == 0 and known(scene.gate, scene.kept, scene.good) == 5
    assert scene.count("gaps") >= 1 and scene.count("lost") >= 2
    scene.still_serves()
    # Sixteen blocks later nothing of what was missed can be left in a cache of sixteen.
    for _ in range(4):
        scene.told(scene.bad)
    scene.is_well()


def test_a_batch_heard_twice_is_counted_once(workshop):
    scene = Scene(workshop)
    scene.bad.spoil(duplicate=2)
    pairs = of(scene.gate.metrics(), "waypost_kv_batches_total", scene.bad)
    for _ in range(2):
        scene.told(scene.bad)
    scene.until_counted("duplicates", 2)
    assert of(scene.gate.metrics(), "waypost_kv_batches_total", scene.bad) == pairs + 2
    assert known(scene.gate, scene.old, scene.bad) == 5
    scene.still_serves()
    scene.is_well()


def test_garbage_blinds_and_a_sound_batch_gives_sight_back(workshop):
    scene = Scene(workshop)
    for number in range(5):
        scene.bad.spoil(garbage=True)
        scene.until_counted("garbled", number + 1)
    until_state(scene.gate, scene.bad, "blind")
    answer = complete(scene.gate, scene.old)
    assert candidate(placement(scene.gate, answer), scene.bad)["kv_state"] == "blind"
    scene.still_serves()
    scene.is_well()


def test_a_single_garbled_message_is_passed_over(workshop):
    scene = Scene(workshop)
    scene.bad.spoil(garbage=True)
    scene.until_counted("garbled")
    assert state_of(scene.gate, scene.bad) == "live" and known(scene.gate, scene.old, scene.bad) == 5
    scene.is_well()


def test_an_oversized_batch_is_dropped_unread(workshop):
    scene = Scene(workshop)
    scene.bad.spoil(oversized_bytes=50_000_000)
    scene.until_counted("oversized")
    scene.still_serves()
    # Its number is missing: the next batch tells.
    prompt = directly(scene.bad, tokens(5 * BLOCK))
    until_known(scene.gate, prompt, scene.bad)
    assert scene.count("lost") >= 1 and state_of(scene.gate, scene.bad) == "gaps"
    assert known(scene.gate, scene.old, scene.bad) == 0
    scene.still_serves()


def test_another_block_size_blinds_and_is_served_by_load(workshop):
    scene = Scene(workshop)
    scene.bad.spoil(block_size=7)
    prompt = directly(scene.bad, tokens(5 * BLOCK))
    scene.until_counted("block_size")
    until_state(scene.gate, scene.bad, "blind")
    assert known(scene.gate, prompt, scene.bad) == 0
    before = scene.bad.served()
    where = {at(scene.gate, complete(scene.gate, tokens(3 * BLOCK))) for _ in range(20)}
    assert len(where) == 2 and scene.bad.served() > before, "a blind engine takes its part of new prompts"
    scene.still_serves()
    scene.is_well()


def test_an_engine_of_another_block_size_is_never_believed(workshop):
    scene_engine, other = workshop.keep(Engine(block_size=32)), workshop.keep(Engine())
    gate = live(workshop.waypost(config([scene_engine, other], predicted="0s")), scene_engine, other)
    prompt = directly(scene_engine, tokens(10 * BLOCK))
    until_state(gate, scene_engine, "blind")
    assert known(gate, prompt, scene_engine) == 0
    assert events_of(gate, scene_engine, "block_size") >= 1
    for _ in range(10):
        complete(gate, tokens(3 * BLOCK))


def test_a_flood_is_survived(workshop):
    scene = Scene(workshop)
    scene.bad.spoil(flood=100_000)
    for _ in range(10):
        complete(scene.gate, tokens(3 * BLOCK))
    prompt = directly(scene.bad, tokens(5 * BLOCK))
    until_known(scene.gate, prompt, scene.bad, timeout=20)
    metrics = scene.gate.metrics()
    assert of(metrics, "waypost_kv_batches_total", scene.bad) > 10_000
    assert metrics.value("waypost_index_bytes") < metrics.value("waypost_index_max_bytes")
    assert metrics.value("waypost_index_pairs") < 500, "what is stored and removed is gone"
    until_state(scene.gate, scene.bad, "live", "gaps")
    scene.still_serves()


def test_an_engine_that_begins_anew_is_forgotten_at_its_first_word(workshop):
    scene = Scene(workshop)
    for _ in range(3):
        scene.told(scene.bad)
    scene.bad.restart()
    prompt = directly(scene.bad, tokens(2 * BLOCK))
    until_known(scene.gate, prompt, scene.bad)
    assert known(scene.gate, scene.old, scene.bad) == 0 and known(scene.gate, scene.kept, scene.good) == 5
    assert cached(complete(scene.gate, scene.old)) == 0
    scene.still_serves()
    scene.is_well()


def test_an_engine_that_begins_anew_and_talks_much_meanwhile(workshop):
    """Its new numbers reach beyond the old ones before the gateway hears of any."""
    scene = Scene(workshop)
    scene.bad.restart()
    scene.bad.spoil(skip=4)
    fresh = [directly(scene.bad, tokens(2 * BLOCK)) for _ in range(6)]
    for prompt in fresh:
        until_known(scene.gate, prompt, scene.bad)
    assert known(scene.gate, scene.old, scene.bad) == 0
    scene.is_well()


def test_an_engine_that_is_killed_and_comes_back(workshop):
    scene = Scene(workshop)
    scene.bad.kill()
    until_state(scene.gate, scene.bad, "waiting")
    for _ in range(6):
        complete(scene.gate, tokens(3 * BLOCK))
    assert cached(complete(scene.gate, scene.kept)) >= 4 * BLOCK
    assert complete(scene.gate, scene.old).status_code == 200
    scene.bad = workshop.keep(scene.bad.again())
    until_state(scene.gate, scene.bad, "live")
    assert known(scene.gate, scene.old, scene.bad) == 0
    scene.is_well()
    scene.still_serves()


@pytest.mark.parametrize("replay", [True, False], ids=["with replays", "without"])
def test_a_connection_that_breaks_loses_nothing_if_it_can_be_asked_for(workshop, replay):
    """Killed and started again at once, with other prompts than before."""
    scene = Scene(workshop, replay=replay)
    scene.bad.kill()
    scene.bad = workshop.keep(scene.bad.again())
    early = directly(scene.bad, tokens(4 * BLOCK))
    until(lambda: directly(scene.bad, tokens(BLOCK)) and state_of(scene.gate, scene.bad) in ("live", "gaps"), 8)
    prompt = scene.told(scene.bad)
    assert known(scene.gate, scene.old, scene.bad) == 0
    assert known(scene.gate, prompt, scene.bad) == 5
    if replay:
        assert known(scene.gate, early, scene.bad) == 4
    scene.still_serves()
