"""What engines say of themselves on /metrics: read where it can be, and never a reason not to serve."""

import threading

import pytest

from helpers.mocks import Recorder, Reply
from helpers.wait import until
from helpers.web import web
from picking.kit import BLOCK, Engine, at, candidate, complete, config, of, placement, preview, tokens

GOOD = (
    'vllm:num_requests_waiting{engine="0",model_name="sim-a"} 3\nvllm:num_requests_running{engine="0",model_name="sim-a"} 2\n'
    'vllm:kv_cache_usage_perc{engine="0",model_name="sim-a"} 0.25\n'
)
FIGURES = ("waiting", "running", "kv_usage")
STALE_MS = 300


class Odd(Recorder):
    """An engine that answers, and whose page of metrics is `page()`."""

    def __init__(self):
        self.page = lambda: Reply(body=GOOD.encode())
        self.release = threading.Event()
        super().__init__()

    def answer(self, request):
        return self.page() if request.path == "/metrics" else super().answer(request)

    def hang(self):
        self.release.wait(30)
        return Reply(503)

    def stop(self):
        self.release.set()
        super().stop()


def drip():
    """A page that never ends, for as long as it is read."""
    return (b"vllm:nothing 1\n" * 50_000 for _ in iter(int, 1))


PAGES = {
    "of 50 MB": (lambda odd: Reply(body=b"vllm:nothing 1\n" * 3_500_000), "too_large"),
    "without an end": (lambda odd: Reply(chunks=drip()), "too_large"),
    "of one line of 50 MB": (lambda odd: Reply(chunks=(b"a" * 1_000_000 for _ in range(50))), "too_large"),
    "of garbage": (lambda odd: Reply(body=bytes(range(256)) * 400), "garbage"),
    "of other words": (lambda odd: Reply(body=b"<html>hello</html>\n"), "garbage"),
    "that is empty": (lambda odd: Reply(body=b""), "garbage"),
    "that hangs": (lambda odd: odd.hang(), "failed"),
    "that breaks off": (lambda odd: Reply(chunks=[GOOD[:20].encode()], cut=True), "failed"),
    "that fails": (lambda odd: Reply(500), "failed"),
}


def scorers(endpoints, **more):
    weights = {"queue": 2, "running": 1, "kv-utilization": 2}
    return config(endpoints, strategy="scorers", scorers=weights, metrics={"interval": "50ms", "stale_after": f"{STALE_MS}ms", **more})


class Scene:
    """A sound engine and one with every bad page, which have all been good before."""

    def __init__(self, shared):
        self.odd = {name: shared.keep(Odd()) for name in PAGES}
        self.engine = shared.keep(Engine(kv=False))
        self.gate = shared.waypost(scorers([*({"url": odd.url} for odd in self.odd.values()), self.engine]))
        for odd in self.odd.values():
            until(lambda: of(self.gate.metrics(), "waypost_endpoint_waiting", odd) == 3, what="its good page")
        self.first = self.gate.metrics(), preview(self.gate, tokens(BLOCK))
        for name, odd in self.odd.items():
            odd.page = lambda name=name, odd=odd: PAGES[name][0](odd)


@pytest.fixture(scope="module")
def scene(shared):
    """See there."""
    return Scene(shared)


@pytest.mark.parametrize("name", PAGES)
def test_a_page(scene, name):
    odd, engine, gate, result = scene.odd[name], scene.engine, scene.gate, PAGES[name][1]
    metrics, placed = scene.first
    assert [of(metrics, f"waypost_endpoint_{figure}", odd) for figure in FIGURES] == [3, 2, 0.25]
    told = candidate(placed, odd)
    assert not told.get("stale") and told["figures_age_ms"] <= STALE_MS
    assert placed["endpoint"] == engine.url, "the idlest"
    until(lambda: of(gate.metrics(), "waypost_scrapes_total", odd, result=result) >= 1, 8, f"a read that is {result}")
    until(lambda: candidate(preview(gate, tokens(BLOCK)), odd).get("stale"), what="stale")
    assert not candidate(preview(gate, tokens(BLOCK)), engine).get("stale")
    assert of(gate.metrics(), "waypost_endpoint_figures_age_seconds", odd) > STALE_MS / 1000
    # Old figures are not held against it.
    until(lambda: at(gate, complete(gate, tokens(BLOCK))) in odd.url, what="its part of the requests")


def test_pages_that_are_good_again_are_read_again(scene):
    for odd in scene.odd.values():
        odd.page = lambda: Reply(body=GOOD.encode())
        odd.release.set()
    for odd in scene.odd.values():
        until(lambda: not candidate(preview(scene.gate, tokens(BLOCK)), odd).get("stale"), 15, "fresh again")


def test_all_pages_gone_is_no_reason_not_to_serve(workshop):
    engines = [workshop.keep(Engine(kv=False, fault="status=404,path=/metrics")) for _ in range(2)]
    gate = workshop.waypost(scorers(engines))
    answers = [complete(gate, tokens(BLOCK)) for _ in range(12)]
    assert len({at(gate, answer) for answer in answers}) == 2
    for c in placement(gate, answers[-1])["choice"]["candidates"]:
        assert "figures_age_ms" not in c, "never read"
    assert gate.metrics().value("waypost_scrapes_total", result="ok") == 0


@pytest.mark.parametrize("form", ["vllm", "sglang", "trtllm"])
def test_every_engines_names_are_known(workshop, form):
    flags = {"kv": False, "metrics_form": form, "decode_ms": 50, "max_running": 1, "cache_blocks": 64}
    busy, idle = workshop.keep(Engine(**flags)), workshop.keep(Engine(**flags))
    gate = workshop.waypost(scorers([busy, idle], engine=form))
    until(lambda: gate.metrics().value("waypost_scrapes_total", result="ok") >= 2, what="pages")
    body = {"model": "sim-a", "prompt": tokens(16 * BLOCK), "max_tokens": 400, "ignore_eos": True, "stream": True}
    with web.stream("POST", f"{busy.url}/v1/completions", json=body) as first:
        pieces = first.iter_raw()
        next(pieces)
        until(lambda: of(gate.metrics(), "waypost_endpoint_running", busy) == 1, what="running")
        until(lambda: of(gate.metrics(), "waypost_endpoint_kv_usage", busy) > 0.2, what="usage")
        waiting = threading.Thread(target=lambda: web.post(f"{busy.url}/v1/completions", json={**body, "max_tokens": 1, "stream": False}))
        waiting.start()
        until(lambda: of(gate.metrics(), "waypost_endpoint_waiting", busy) == 1, what="waiting")
        assert of(gate.metrics(), "waypost_endpoint_running", idle) == 0
        for _ in range(6):
            placed = placement(gate, complete(gate, tokens(BLOCK)))
            assert placed["endpoint"] == idle.url, placed
        shown = {s["scorer"]: s["score"] for s in candidate(placed, busy)["scores"]}
        better = {s["scorer"]: s["score"] for s in candidate(placed, idle)["scores"]}
        assert all(shown[name] < better[name] for name in ("queue", "running", "kv-utilization")), (shown, better)
    waiting.join(30)


def test_figures_under_names_of_ones_own(workshop):
    odd, engine = workshop.keep(Odd()), workshop.keep(Odd())
    odd.page = lambda: Reply(body=b'my_queue{kind="slow"} 7\nmy_queue{kind="fast"} 1\nmy_busy 4\nmy_cache 0.5\n')
    engine.page = lambda: Reply(body=b'my_queue{kind="slow"} 0\nmy_busy 0\nmy_cache 0\n')
    names = {"waiting": "my_queue{kind=slow}", "running": "my_busy", "kv_usage": "my_cache"}
    gate = workshop.waypost(scorers([{"url": odd.url}, {"url": engine.url}], engine="custom", names=names))
    until(lambda: [of(gate.metrics(), f"waypost_endpoint_{name}", odd) for name in FIGURES] == [7, 4, 0.5], what="figures")
    until(lambda: preview(gate, tokens(BLOCK))["endpoint"] == engine.url, what="the idle one")
