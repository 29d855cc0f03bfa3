"""What the placing tests share: pools of simulated engines, requests as exact bytes, and what must hold when all is over."""

import threading
import time

from helpers.wait import until
from resilience.strict import Conn

MODEL = "m"
LONG = "The tide was late that year, and the boats lay still. " * 12  # 160 tokens as the simulated engine counts


def endpoint(engine, **more):
    """An endpoint's entry: an engine (or its URL), and what the file says of it."""
    return {"url": getattr(engine, "url", engine), **more}


def config(*endpoints, model=None, **pick):
    """The model `m` behind these endpoints; the keywords are those of `pick`."""
    entries = [e if isinstance(e, dict) else endpoint(e) for e in endpoints]
    spec = {"name": MODEL, "model": "sim-small", "endpoints": entries, "pick": {"strategy": "least-load", **pick}}
    return {"shutdown": {"grace": "2s"}, "models": [spec | (model or {})]}


def split(prefill, decode, connector="nixl", **more):
    """A pool of engines that read and engines that write."""
    roles = [(prefill, "prefill"), (decode, "decode")]
    entries = [endpoint(engine, role=role) for engines, role in roles for engine in engines]
    disaggregation = {"connector": connector, "min_uncached_tokens": 64, **more}
    return config(*entries, strategy="kv", disaggregation=disaggregation)


def chat(text="hi", tokens=3, **more):
    """A chat of exactly so many tokens."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "ignore_eos": True,
        **more,
    }


def placed(gate, answer):
    """The only placement of an answered request."""
    (placement,) = gate.decision(answer)["placements"]
    return placement


def asked(engine):
    """Requests for chats that an engine has been sent, oldest first."""
    return [one for one in engine.requests() if one["path"].startswith("/v1/")]


def header(request, name):
    """All values of a recorded request's header."""
    return [value for key, value in request["headers"] if key.lower() == name]


def booked(gate):
    """Whatever a gateway holds for requests in flight."""
    metrics = gate.metrics()
    names = ("requests", "others_requests", "prefill_tokens", "decode_blocks")
    held = {name: metrics.value(f"waypost_endpoint_{name}") for name in names}
    return held | {"bookings": metrics.value("waypost_bookings"), "queue": metrics.value("waypost_queue_requests")}


def idle(gate, timeout=5.0):
    """Waits until nothing is booked and nobody waits."""

    def look():
        held = booked(gate)
        return not any(held.values()) or None

    until(look, timeout, f"nothing booked; now {booked(gate)}")


def waiting(gate, count):
    """Waits until so many stand in line."""
    until(lambda: gate.metrics().value("waypost_queue_requests") == count, 5, f"{count} in line")


class Later:
    """A request on a thread and connection of its own."""

    def __init__(self, gate, body, **headers):
        self.conn, self.start = Conn(gate.port, 30), time.monotonic()
        self.conn.post(body, **headers)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.answer = self.error = None
        self._thread.start()

    def _read(self):
        try:
            self.answer = self.conn.answer()
        except Exception as error:  # noqa: BLE001 - told to who joins
            self.error = error
        self.seconds = time.monotonic() - self.start

    def join(self):
        """The answer."""
        self._thread.join(30)
        assert self.answer, self.error or "no answer"
        self.conn.close()
        return self.answer

    def leave(self):
        """The client goes away."""
        self.conn.sock.shutdown(2)
        self._thread.join(5)
        self.conn.close()


def blocked(gate, engine, **more):
    """A request that keeps the engine busy until it leaves."""
    first = Later(gate, chat("first", **more), x_sim_fault="slow_headers=25000")
    until(lambda: engine.stats()["in_flight"], 5, "the first")
    return first
