"""What the tests of picking share: engines with KV events, gateways over them, prompts of token ids, and their Decisions.

Prompts are token ids, because the simulated engine's tokens of a text are its bytes, four by four, which no tokenizer of
a real model gives. `cached_tokens` in an answer's usage is what the engine found in its own cache: the proof of a pick.
"""

import concurrent.futures
import itertools
import random
import re

from helpers.process import Sim
from helpers.wait import until
from helpers.web import web

BLOCK = 16
_seeds = itertools.count(1)


def tokens(count, seed=None):
    """Token ids nobody has asked for before; with a seed, the same each time."""
    dice = random.Random(f"fresh {next(_seeds)}" if seed is None else f"again {seed}")
    return [dice.randrange(1000, 100_000) for _ in range(count)]


class Engine(Sim):
    """A simulated engine that publishes KV events; `again()` starts it anew on the ports it had."""

    def __init__(self, model="sim-a", kv=True, **flags):
        if kv:
            flags = {"kv_events": "tcp://127.0.0.1:0", "kv_replay": "tcp://127.0.0.1:0", **flags}
        super().__init__(model, **flags)
        told = self.stats()
        self.kv_events, self.kv_replay = told["kv_events"], told["kv_replay"]
        self._made = (model, flags)

    def again(self):
        """A new process in the place of this one, which has ended."""
        model, flags = self._made
        ports = {"listen": f"127.0.0.1:{self.port}"}
        if self.kv_events:
            ports["kv_events"] = self.kv_events[0]
        if self.kv_replay:
            ports["kv_replay"] = self.kv_replay[0]
        return Engine(model, kv=False, **{**flags, **ports})

    def kill(self):
        """Ends it without a goodbye."""
        self.proc.kill()
        self.stop()

    def spoil(self, **how):
        """Spoils the event stream, see the simulated engine's docs."""
        return self._control("POST", "events", json=how)

    def restart(self):
        """A new life without a word about it: empty cache, events from number 0."""
        return self._control("POST", "restart")

    def served(self):
        """Requests it has taken."""
        return self.stats()["requests"]

    def endpoint(self, replay=True, **more):
        """Its entry in the configuration."""
        entry = {"url": self.url}
        if self.kv_events:
            entry["kv_events"] = self.kv_events[0]
            if replay and self.kv_replay:
                entry["kv_replay"] = self.kv_replay[0]
        return {**entry, **more}


def config(endpoints, **pick):
    """One model `a`, picked by `kv` unless said otherwise; engines or entries."""
    entries = [one.endpoint() if isinstance(one, Engine) else one for one in endpoints]
    return {"models": [{"name": "a", "model": "sim-a", "endpoints": entries, "pick": {"strategy": "kv", **pick}}]}


def of(metrics, name, engine, **labels):
    """A sample of one engine's (or url's) endpoint, all ranks summed."""
    url = engine if isinstance(engine, str) else engine.url
    hits = [s for s in metrics.find(name, **labels) if s[1].get("endpoint", "").removeprefix("http://").startswith(url.removeprefix("http://"))]
    return sum(value for _, _, value in hits)


def events_of(gate, engine, kind):
    """`waypost_kv_events_total` of a kind."""
    return of(gate.metrics(), "waypost_kv_events_total", engine, kind=kind)


def state_of(gate, engine):
    """How far the engine's events are believed, from /metrics."""
    url = engine.url.removeprefix("http://")
    for _, labels, value in gate.metrics().find("waypost_endpoint_kv_state"):
        if value == 1 and url in labels["endpoint"]:
            return labels["state"]
    return "off"


def until_state(gate, engine, *states, timeout=8.0):
    """Waits for one of the states."""
    until(lambda: state_of(gate, engine) in states, timeout, f"{states}; it is {state_of(gate, engine)}")


def live(gate, *engines):
    """The gate, once it follows all these engines."""
    for engine in engines:
        until_state(gate, engine, "live")
    return gate


def complete(gate, ids, model="a", headers=None, **more):
    """A completion of token ids that must succeed."""
    body = {"model": model, "prompt": ids, "max_tokens": 1, **more}
    answer = gate.chat(body, headers, path="/v1/completions")
    assert answer.status_code == 200, answer.text
    return answer


def directly(engine, ids, **more):
    """A completion past the gateway, so that only events can tell of it; returns the ids."""
    body = {"model": "sim-a", "prompt": ids, "max_tokens": 1, **more}
    answer = web.post(f"{engine.url}/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return ids


def cached(answer):
    """Tokens that the engine found in its cache."""
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def placement(gate, answer):
    """The last placement of an answer's Decision."""
    return gate.decision(answer)["placements"][-1]


def at(gate, answer):
    """`host:port` of the endpoint that answered."""
    return re.sub(r"^https?://", "", gate.decision(answer)["endpoint"])


def preview(gate, ids, model="a", **more):
    """Where a completion would go now: the placement of a recommendation."""
    return decision(gate, {"model": model, "prompt": ids, **more})


def decision(gate, body):
    """The placement of `POST /v1/decision`."""
    answer = web.post(f"{gate.url}/v1/decision", json=body)
    assert answer.status_code == 200, answer.text
    (placed,) = answer.json()["placements"]
    return placed


def candidate(placed, engine):
    """What was known of an engine when the choice was made."""
    url = engine if isinstance(engine, str) else engine.url
    (found,) = [c for c in placed["choice"]["candidates"] if url.removeprefix("http://") in c["endpoint"]]
    return found


def known(gate, ids, engine):
    """Blocks of a prompt that the index says an engine has on its device."""
    return candidate(preview(gate, ids), engine)["device_blocks"]


def until_known(gate, ids, engine, blocks=None, timeout=5.0):
    """Waits until the index has a prompt's full blocks at an engine; predicted ones count too."""
    blocks = len(ids) // BLOCK if blocks is None else blocks
    until(lambda: known(gate, ids, engine) == blocks, timeout, f"{blocks} blocks; now {known(gate, ids, engine)}")


def at_once(count, ask, threads=50):
    """Calls `ask(0..count)` on many threads; the results in order."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(count)))
