"""Waypost dies or ends under a real Envoy: what is refused, what passes, and that nobody gets a wrong answer."""

import collections
import json
import signal
import threading

import pytest

from helpers.health import NOT_SERVING, SERVING, health
from helpers.wait import until
from resilience.kit import at_once, read_stream
from resilience.strict import Conn, Ended, chat

WORKERS = 8
LOG = """
                access_log:
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: PATH
                      log_format: {text_format_source: {inline_string: "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\\n"}}"""


class Log:
    """Envoy's own word for each answer; `change` adds it to a file of deploy/envoy."""

    def __init__(self, folder):
        self.path = folder / "access.log"

    def change(self, text):
        mark = "stat_prefix: clients"
        assert mark in text
        return text.replace(mark, mark + LOG.replace("PATH", str(self.path)))

    def lines(self):
        return self.path.read_text().splitlines() if self.path.exists() else []


def start(front, tmp_path, mode, **more):
    log = Log(tmp_path)
    return front(mode, change=log.change, **more), log


def again(workshop, front):
    """The same Waypost, once more."""
    front.waypost = workshop.waypost(front.waypost.config_path.read_text())


def kill(front):
    front.waypost.proc.kill()
    front.waypost.proc.wait()


def ask(front, model="local", stream=False, timeout=20, **headers):
    """The status, or `broken`; a 200 must be whole and from an engine of this model."""
    engine = model if model.startswith("sim-") else f"sim-{model}"
    with Conn(front.envoy.port, timeout) as conn:
        conn.post(chat(model, 5, stream=stream), **headers)
        try:
            answer = conn.head()
            if answer.status != 200:
                return conn.answer_rest(answer).status
            if stream:
                *data, last = read_stream(conn, answer)
                assert last == "[DONE]" and json.loads(data[0])["model"] == engine
            else:
                assert conn.answer_rest(answer).json()["model"] == engine
            return 200
        except (Ended, ConnectionResetError):
            return "broken"


class Load:
    """Clients that ask and ask; `seen` counts the statuses of each model."""

    def __init__(self, asks):
        self.seen, self._over, self._asks = collections.Counter(), threading.Event(), asks
        self._lock = threading.Lock()
        self._runner = threading.Thread(target=lambda: at_once([lambda i=i: self._ask(i) for i in range(WORKERS)], WORKERS))

    def _ask(self, number):
        name, one = list(self._asks.items())[number % len(self._asks)]
        while not self._over.is_set():
            status = one()
            with self._lock:
                self.seen[name, status] += 1

    def statuses(self, name):
        return {status for (asked, status) in self.seen if asked == name}

    def __enter__(self):
        self._runner.start()
        until(lambda: self.seen.total() > 50, 20)
        return self

    def __exit__(self, *_):
        self._over.set()
        self._runner.join()


def test_fail_closed_refuses_under_load_and_recovers(front, shared, tmp_path):
    front, log = start(front, tmp_path, "full-duplex")
    asks = {"local": lambda: ask(front), "public": lambda: ask(front, "public", stream=True)}
    with Load(asks) as load:
        for _ in range(2):
            kill(front)
            before = load.seen.total()
            until(lambda: load.seen.total() > before + 50, 20)
            for name in asks:
                assert ask(front, name) >= 500
            again(shared, front)
            until(lambda: ask(front) == 200, 10)
    assert load.statuses("local") <= {200, 500, 503, 504, "broken"} > {200}
    assert {200} < load.statuses("public") <= {200, 500, 503, 504, "broken"}
    details = {line.split(" ", 1)[1].split("{")[0] for line in log.lines() if line.startswith("500")}
    assert details and all(word.startswith("ext_proc_error") for word in details), details
    until(lambda: front.bookings() == 0)
    assert [ask(front, name) for name in asks] == [200, 200]


PUBLIC = {"x_selected_model": "public"}


def test_fail_open_passes_what_names_its_route_and_refuses_the_rest(front, shared, tmp_path):
    """As deploy/envoy/buffered.yaml says."""
    front, _ = start(front, tmp_path, "buffered")
    asks = {
        "named": lambda: ask(front, "sim-public", **PUBLIC),
        "stream": lambda: ask(front, "sim-public", stream=True, **PUBLIC),
        "local": lambda: ask(front),
    }
    with Load(asks) as load:
        kill(front)
        before = load.seen.total()
        until(lambda: load.seen.total() > before + 50, 20)
        assert ask(front, "sim-public", **PUBLIC) == 200
        assert ask(front, "sim-local") == 503
        again(shared, front)
        until(lambda: ask(front) == 200, 10)
    assert load.statuses("named") == {200}, load.seen
    assert load.statuses("stream") == {200}, load.seen
    assert {200, 503} <= load.statuses("local") <= {200, 500, 503}, load.seen
    until(lambda: front.bookings() == 0)


def test_fail_open_does_not_let_clients_choose_the_address(front, shared, tmp_path):
    front, _ = start(front, tmp_path, "buffered")
    kill(front)
    there = f"127.0.0.1:{front.public.port}"
    assert ask(front, "sim-public", x_gateway_destination_endpoint=there) == 503


@pytest.mark.parametrize("mode", ["full-duplex", "buffered"])
def test_a_killed_waypost_does_not_lengthen_or_spoil_a_stream(front, tmp_path, mode):
    front, _ = start(front, tmp_path, mode, decode_ms=20)
    with Conn(front.envoy.port, 20) as conn:
        conn.post(chat("local", 40, stream=True))
        answer = conn.head()
        pieces = conn.pieces(answer)
        body = next(pieces)[1]
        kill(front)
        try:
            body += b"".join(piece for _, piece in pieces)
            whole = True
        except (Ended, ConnectionResetError):
            whole = False
    # Fail-closed is cut so that the client can see it; fail-open goes on.
    assert whole == (mode == "buffered")
    assert whole == body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("mode", ["full-duplex", "buffered"])
def test_sigterm_lets_streams_end_whole(front, shared, tmp_path, mode):
    front, log = start(front, tmp_path, mode, extra="\nshutdown: {delay: 1s, grace: 20s}\n", decode_ms=20)
    assert health(front.health) == health(front.door) == SERVING
    with Conn(front.envoy.port, 20) as conn:
        conn.post(chat("local", 150, stream=True))
        answer = conn.head()
        front.waypost.signal(signal.SIGTERM)
        until(lambda: health(front.health) == NOT_SERVING, 0.7)
        assert health(front.health, "liveness") == SERVING
        assert ask(front) == 200, "served until the load balancer has noticed"
        until(lambda: ask(front) != 200, 3)
        late = [ask(front) for _ in range(5)]
        body = read_stream(conn, answer)
    assert body[-1] == "[DONE]" and len(body) > 150
    assert set(late) <= {500, 503}, (late, log.lines()[-5:])
    assert front.waypost.proc.wait(5) == 0
    again(shared, front)
    until(lambda: ask(front) == 200, 10)
    until(lambda: front.bookings() == 0)
