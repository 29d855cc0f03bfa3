"""One stream of KV events to Dynamo's own indexer, to Waypost and to a plain Python table: all three hold the same blocks.

Runs only with `WAYPOST_DYNAMO_VENV`, a folder made by scripts/dynamo-venv.sh; `make test` leaves it out. Engines free the
blocks of a sequence from its end, and one build of an engine gives equal blocks equal hashes: there all three must agree. Dynamo
1.6.1 strays from the table where a block goes before its children, and where engines hash differently (it drops stores whose
parent another engine named otherwise); there only Waypost is held to the table, and how often Dynamo strays is printed.
"""

import hashlib
import os
import random
import time

import pytest

pytest.importorskip("zmq")
import zmq  # noqa: E402
from engines.kit import CLEARED, Indexer, Publisher, removed, stored  # noqa: E402

VENV = os.environ.get("WAYPOST_DYNAMO_VENV")
pytestmark = pytest.mark.skipif(not VENV, reason="WAYPOST_DYNAMO_VENV is not set")

BLOCK = 16
WORKERS, RANKS = 6, 2
EVENTS, PROMPTS = 4_000, 10_000
ROOTS, BRANCHES, DEPTH = 12, 3, 14
SETTLE_S = 60.0


def path_tokens(path):
    """The tokens of the blocks along `path`, from the root of an endless tree of texts."""
    tokens = []
    for at in range(1, len(path) + 1):
        rng = random.Random(repr(path[:at]))
        tokens += [rng.randrange(32_000) for _ in range(BLOCK)]
    return tokens


def random_path(rng):
    """A walk that prefers the first branch, so that walks share long prefixes."""
    steps = [rng.randrange(ROOTS)]
    while len(steps) < DEPTH and rng.random() < 0.9:
        steps.append(min(int(rng.expovariate(1.5)), BRANCHES - 1))
    return tuple(steps)


def prefixes(path):
    return [path[:at] for at in range(1, len(path) + 1)]


class Engine:
    """One rank of a worker: what it holds, and the events that say so. Engines of one `seed` hash equally."""

    def __init__(self, seed):
        self.seed, self.held = seed, {}

    def _hash(self, path):
        return int.from_bytes(hashlib.sha256(repr((self.seed, path)).encode()).digest()[:8], "big")

    def store(self, path):
        """Stores what is missing of a path, with what is behind the first hole anew, as the engine would."""
        missing = [p for p in prefixes(path) if p not in self.held]
        if not missing:
            return None
        first = len(missing[0]) - 1
        for p in prefixes(path)[first:]:
            self.held[p] = self._hash(p)
        hashes = [self._hash(p) for p in prefixes(path)[first:]]
        parent = self._hash(path[:first]) if first else None
        return stored(hashes, path_tokens(path)[first * BLOCK :], parent, BLOCK)

    def evict(self, rng, leaf_first):
        """Removes up to four blocks: any, or only such as have no child."""
        gone = []
        for _ in range(min(4, len(self.held))):
            parents = {p[:-1] for p in self.held}
            choice = rng.choice([p for p in self.held if not (leaf_first and p in parents)])
            gone.append(self.held.pop(choice))
        return removed(gone) if gone else None

    def clear(self):
        self.held.clear()
        return CLEARED

    def matched(self, path):
        """Tokens held from the start without a hole."""
        count = 0
        while count < len(path) and path[: count + 1] in self.held:
            count += 1
        return count * BLOCK


class Waypost:
    """Waypost under test. TO BE FILLED by whoever has the configuration of pools; until then the test of it is skipped."""

    READY = False

    def start(self, endpoints):
        """Starts `waypost serve` with a pool of one endpoint per `{worker: address of its events}`, block size BLOCK."""
        raise NotImplementedError

    def matches(self, tokens):
        """`{worker: tokens}` from `POST /v1/decision` with `{"model": …, "prompt": tokens}`; the best rank of each worker."""
        raise NotImplementedError

    def stop(self):
        """Stops it."""
        raise NotImplementedError


def play(rng, engines, publishers, leaf_first):
    """Sends EVENTS random events, those of a worker in batches of one to three."""
    sent = {"stored": 0, "removed": 0, "cleared": 0}
    while sum(sent.values()) < EVENTS:
        worker, rank = rng.choice(list(engines))
        engine, batch = engines[worker, rank], []
        for _ in range(rng.randint(1, 3)):
            kind = rng.choices(["stored", "removed", "cleared"], [70, 29.8, 0.2])[0]
            if kind == "stored":
                event = engine.store(random_path(rng))
            else:
                event = engine.evict(rng, leaf_first) if kind == "removed" else engine.clear()
            if event:
                batch.append(event)
                sent[kind] += 1
        if batch:
            publishers[worker].send(*batch, rank=rank)
    return sent


def settle(publishers, matches):
    """Waits until a last, marked block of every worker is known: all before it is, too."""
    mark = ("mark",)
    for worker, publisher in publishers.items():
        publisher.send(stored([1], path_tokens(mark), None, BLOCK))
    end = time.monotonic() + SETTLE_S
    while len(matches(path_tokens(mark))) < len(publishers):
        assert time.monotonic() < end, "the last events were not applied"
        time.sleep(0.05)


def best(matches):
    """The best rank of each worker."""
    found = {}
    for (worker, _), tokens in matches.items():
        found[worker] = max(found.get(worker, 0), tokens)
    return found


@pytest.mark.parametrize(
    ("leaf_first", "one_seed"),
    [(True, True), (False, True), (True, False)],
    ids=["as engines do", "any block goes first", "engines hash differently"],
)
def test_dynamo_waypost_and_a_table_agree(tmp_path, leaf_first, one_seed):
    exact = leaf_first and one_seed
    if not (exact or Waypost.READY):
        pytest.skip("only Waypost is held to the table here")
    rng = random.Random(2026)
    context = zmq.Context()
    publishers = {worker: Publisher(context) for worker in range(1, WORKERS + 1)}
    engines = {(w, r): Engine(None if one_seed else (w, r)) for w in publishers for r in range(RANKS)}
    addresses = {worker: publisher.address for worker, publisher in publishers.items()}
    indexer, waypost = Indexer(VENV, addresses, tmp_path / "indexer.log", BLOCK), Waypost()
    try:
        if Waypost.READY:
            waypost.start(addresses)
        for publisher in publishers.values():
            publisher.wait_subscribers(1 + Waypost.READY)
        sent = play(rng, engines, publishers, leaf_first)
        settle(publishers, indexer.matches)
        if Waypost.READY:
            settle(publishers, waypost.matches)

        less = more = hits = 0
        for _ in range(PROMPTS):
            path = random_path(rng)
            tokens = path_tokens(path) + [7] * rng.randrange(BLOCK)
            table = {key: t for key, engine in engines.items() if (t := engine.matched(path))}
            dynamo = indexer.matches(tokens)
            hits += bool(table)
            less += any(dynamo.get(key, 0) < t for key, t in table.items())
            more += any(t > table.get(key, 0) for key, t in dynamo.items())
            assert not exact or dynamo == table, path
            if Waypost.READY:
                assert waypost.matches(tokens) == best(table), path
        held = sum(len(engine.held) for engine in engines.values())
        print(f"{sent}, {held} blocks held, {hits} of {PROMPTS} prompts matched")
        print(f"Dynamo found too little for {less} prompts, too much for {more}")
        assert hits > PROMPTS / 2
    finally:
        if Waypost.READY:
            waypost.stop()
        indexer.stop()
        context.destroy(0)
