"""Waypost before two real vLLM replicas. vLLM's own prefix-cache counters say where a prefix was, its `usage` how long a prompt is.

Runs only with `WAYPOST_ENGINES`, see scripts/test-engines.sh. One replica publishes its events on a port that it binds and replays
them; the other connects to Waypost. Requests go one by one, so that the counters tell what each of them found.
"""

import random
import time
import zlib

import pytest

pytest.importorskip("zmq")
from engines import traffic  # noqa: E402
from engines.gateway import Gateway  # noqa: E402
from engines.kit import ENGINES  # noqa: E402
from engines.replica import BLOCK, BLOCKS, Replica  # noqa: E402
from engines.vllm_ids import CHATS, TOOLS  # noqa: E402

pytestmark = pytest.mark.skipif(not ENGINES, reason="WAYPOST_ENGINES is not set")

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
CONVERSATIONS, TURNS = 8, 4
EVICTING_PROMPTS = 200
# No eos, whatever the random weights say: conversations grow evenly.
ANSWER = {"max_tokens": 8, "ignore_eos": True}
EVENTS_S = 1.0
LEARN_S = 60.0
RNG = random.Random(2026)


class Front:
    """Sends requests, by Waypost or without it, and tells what each found in which replica."""

    def __init__(self, replicas, gateway):
        self.replicas, self.gateway = replicas, gateway
        self._before = self._counters()

    def _counters(self):
        return {url: replica.counters() for url, replica in self.replicas.items()}

    def send(self, path, body, to=None):
        """`(url that served, tokens of the prompt, tokens it found cached, placement, answer)`; `to` leaves Waypost out."""
        body, placement = {"model": "tiny", **ANSWER, **body}, None
        if to:
            answer = traffic.post(to, path, body)
        else:
            answer, decision = self.gateway.send(path, body)
            (placement,) = decision["placements"]
        after = self._counters()
        served = {u: [b - a for a, b in zip(self._before[u], after[u], strict=True)] for u in after}
        self._before = after
        url = max(served, key=lambda one: served[one][0])
        return url, answer["usage"]["prompt_tokens"], int(served[url][1]), placement, answer

    def restarted(self):
        """Counters began anew."""
        self._before = self._counters()


def matched(placement):
    """Tokens that Waypost believed cached where the request went."""
    return next(one["matched_tokens"] for one in placement["choice"]["candidates"] if one["chosen"])


def usable(tokens, prompt):
    """What vLLM takes of that many cached tokens: whole blocks, and never the prompt's last token."""
    return min(tokens, (prompt - 1) // BLOCK * BLOCK)


def hold(url, prompt, cached, placement):
    """What must be true of every request through Waypost."""
    assert placement["reading"] == "exact"
    assert placement["choice"]["prompt_tokens"] == prompt
    assert placement["endpoint"] == url
    assert {one["kv_state"] for one in placement["choice"]["candidates"]} == {"live"}
    assert usable(matched(placement), prompt) == cached


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    made = [Replica(folder, binds) for binds in (True, False)]
    try:
        for replica in made:
            replica.wait()
        yield {replica.url: replica for replica in made}
    finally:
        for replica in made:
            replica.kill()


@pytest.fixture(scope="module")
def front(replicas, tmp_path_factory):
    pick = {"strategy": "kv", "block_size": BLOCK, "tokenizer": f"{ENGINES}/model", "metrics": {}, "health": {"interval": "500ms"}}
    tiny = {"name": "tiny", "endpoints": [replica.endpoint() for replica in replicas.values()], "pick": pick}
    config = {"models": [tiny, {"name": "ad", "adapter_of": "tiny"}]}
    gateway = Gateway(config, tmp_path_factory.mktemp("waypost"))
    try:
        front = Front(replicas, gateway)
        for url in replicas:
            # The first event of each shows that both are heard.
            until(lambda url=url: learned(front, url, traffic.words(RNG, 80)), "events are heard")
        yield front
    finally:
        gateway.stop()


def until(look, what):
    """Waits until `look()` is true."""
    end = time.monotonic() + LEARN_S
    while not look():
        assert time.monotonic() < end, f"not within {LEARN_S} s: {what}"
        time.sleep(0.2)


def learned(front, url, text):
    """Sends a prompt past Waypost; whether Waypost knows it there."""
    front.send(COMPLETION, {"prompt": text}, to=url)
    time.sleep(EVENTS_S)
    return known(front, url, text)


def known(front, url, text, **more):
    return front.gateway.matches({"model": "tiny", "prompt": text, **more}).get(url, 0)


def conversations(send):
    """Every conversation turn by turn, those of all conversations interleaved: `(number, turn, what send returned)`."""
    chats = [[{"role": "system", "content": traffic.words(RNG, 60)}] for _ in range(CONVERSATIONS)]
    for turn in range(1, TURNS + 1):
        for number in RNG.sample(range(CONVERSATIONS), CONVERSATIONS):
            chats[number].append({"role": "user", "content": traffic.words(RNG, 40)})
            found = send(chats[number])
            chats[number].append({"role": "assistant", "content": found[-1]["choices"][0]["message"]["content"]})
            yield number, turn, found
        time.sleep(EVENTS_S)


def astray(rows):
    """Prints a table; how many later turns were not served where the turn before was, or found less of it than vLLM keeps."""
    last, count, urls = {}, 0, []
    print("conversation  turn  replica  prompt tokens  of them cached  expected  known to Waypost")
    for number, turn, (url, prompt, cached, placement, _) in rows:
        urls += [url] if url not in urls else []
        before, held = last.get(number, (url, 0))
        # What the turn before had as prompt is cached in whole blocks.
        expected = held // BLOCK * BLOCK
        wrong = url != before or cached < expected
        count += wrong
        told = matched(placement) if placement else "-"
        print(f"{number:12}  {turn:4}  {'ab'[urls.index(url)]:>7}  {prompt:13}  {cached:14}  {expected:8}  {told:>16}{'  astray' * wrong}")
        last[number] = (url, prompt)
    assert len(urls) == 2, "one replica got everything"
    return count


def test_a_conversation_stays_with_the_replica_that_holds_it(front):
    rows = list(conversations(lambda chat: front.send(CHAT, {"messages": chat})))
    for _, _, found in rows:
        hold(*found[:-1])
    assert astray(rows) == 0


@pytest.mark.parametrize("pinned", [True, False])
def test_the_check_tells_a_good_choice_from_a_bad_one(front, pinned):
    urls = list(front.replicas)

    def send(chat):
        urls.append(urls.pop(0))
        chosen = sorted(urls)[zlib.crc32(chat[0]["content"].encode()) % 2] if pinned else urls[0]
        return front.send(CHAT, {"messages": chat}, to=chosen)

    assert (astray(list(conversations(send))) == 0) == pinned


def test_prompts_of_all_kinds_have_the_engines_own_length(front):
    text, lengths = traffic.words(RNG, 80), []
    bodies = [(CHAT, {**body, "tool_choice": choice} if "tools" in body else body)
              for body in CHATS.values() if "messages" in body for choice in ("auto", "none")]  # fmt: skip
    long = {"role": "user", "content": text}
    bodies += [(CHAT, {"messages": [long]}), (CHAT, {"messages": [long], "tools": TOOLS})]
    bodies += [(COMPLETION, {"prompt": prompt}) for prompt in (text, list(range(7, 200)), "Once upon a time, 2026 routers")]
    for path, body in bodies:
        for _ in range(2):
            found = front.send(path, body)
            hold(*found[:-1])
            time.sleep(EVENTS_S / 4)
        lengths.append(found[1])
    print(f"{len(bodies)} bodies, each twice; tokens of their prompts: {lengths}")


def test_evicted_blocks_are_forgotten(front):
    prompts, computed, hits = [], 0, 0
    for _ in range(EVICTING_PROMPTS):
        again = RNG.choice(prompts[-EVICTING_PROMPTS // 2 :] or [""])
        prompts.append(again + traffic.words(RNG, 10) if again and RNG.random() < 0.5 else traffic.words(RNG, 120))
        found = front.send(COMPLETION, {"prompt": prompts[-1]})
        hold(*found[:-1])
        _, prompt, cached, *_ = found
        computed, hits = computed + (prompt - cached) // BLOCK, hits + (cached > 0)
        time.sleep(EVENTS_S / 4)
    print(f"{len(prompts)} prompts, {hits} found something; {computed} blocks were computed, {2 * BLOCKS} fit")
    assert computed > 3 * BLOCKS


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_what_is_cached_under_a_salt_is_found_under_it_only(front, path):
    text = traffic.words(RNG, 80)
    body = {"prompt": text} if path == COMPLETION else {"messages": [{"role": "user", "content": text}]}
    first = front.send(path, {**body, "cache_salt": "tenant-a"})
    time.sleep(EVENTS_S)
    again = front.send(path, {**body, "cache_salt": "tenant-a"})
    hold(*again[:-1])
    assert again[0] == first[0] and again[2] > 0
    for other in ({}, {"cache_salt": "tenant-b"}):
        assert not front.gateway.matches({"model": "tiny", **body, **other})
        found = front.send(path, {**body, **other})
        hold(*found[:-1])
        assert found[2] == 0


def test_what_is_cached_for_an_adapter_is_found_for_it_only(front):
    body = {"messages": [{"role": "user", "content": traffic.words(RNG, 80)}]}
    first = front.send(CHAT, {**body, "model": "ad"})
    time.sleep(EVENTS_S)
    again = front.send(CHAT, {**body, "model": "ad"})
    hold(*again[:-1])
    assert again[0] == first[0] and again[2] > 0
    assert not front.gateway.matches({"model": "tiny", **body})
    hold(*front.send(CHAT, body)[:-1])


@pytest.mark.parametrize("binds", [True, False], ids=["vLLM binds", "vLLM connects"])
def test_a_replica_that_died_is_forgotten_and_learned_again(front, binds):
    (replica,) = [one for one in front.replicas.values() if one.binds == binds]
    text = traffic.words(RNG, 200)
    assert learned(front, replica.url, text)
    replica.kill()
    until(lambda: front.gateway.states("tiny", "why_not")[replica.url], "it is put aside")
    found = front.gateway.send(COMPLETION, {"model": "tiny", "prompt": text, **ANSWER})[1]["placements"][-1]
    assert found["endpoint"] != replica.url
    replica.start()
    replica.wait()
    front.restarted()
    state, believed = front.gateway.states("tiny", "kv_state")[replica.url], known(front, replica.url, text)
    print(f"before its first event: {state}, {believed} tokens believed cached")
    until(lambda: learned(front, replica.url, traffic.words(RNG, 80)), "its new events are heard")
    assert not known(front, replica.url, text)
    assert learned(front, replica.url, text)
    hold(*front.send(COMPLETION, {"prompt": text + " and on"})[:-1])
