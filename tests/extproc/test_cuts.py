"""Many requests at once, cut at random by clients, by engines, and on the way to Waypost: each is answered once, and nothing is
left behind.

`WAYPOST_CUT_REQUESTS=1000` makes it short; `WAYPOST_CUT_SEED` repeats a run.
"""

import collections
import contextlib
import json
import os
import random
import socket
import struct
import threading
import time

import pytest

from helpers.wait import until
from resilience.kit import at_once
from resilience.strict import Conn, Ended, chat, events, post

REQUESTS = int(os.environ.get("WAYPOST_CUT_REQUESTS", "10000"))
SEED = int(os.environ.get("WAYPOST_CUT_SEED", "6"))
MODES = ["full-duplex", "buffered"]
RUNS = 2 * len(MODES)
THREADS = 16
TOKENS = 20
LARGE_BYTES = 150_000
SETTLE_S = 10
LEAVE_AFTER_S = [0, 0.002, 0.01, 0.03]
CUT_EVERY_S = (0.02, 0.2)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Plan:
    """What becomes of one request, by its number alone."""

    def __init__(self, mode, number):
        dice = self.dice = random.Random(f"{SEED} {mode} {number}")
        self.mark = f"answer-{number}-{dice.getrandbits(32):08x}"
        kinds = [self.plain, self.streamed, self.status, self.dropped, self.upstream_cut, self.slow]
        kinds += [self.leave_in_body, self.leave_before_answer, self.leave_in_stream]
        self.kind = dice.choices(kinds, weights=[6, 6, 1, 1, 2, 2, 3, 3, 3])[0]
        text = "x y " * dice.choices([1, 100, LARGE_BYTES // 4], weights=[8, 8, 1])[0]
        self.body = json.dumps(chat(dice.choice(["local", "local", "public"]), TOKENS, text)).encode()

    def request(self, fault="", stream=False):
        body = self.body[:-1] + b', "stream": true}' if stream else self.body
        # A fault instead of an answer leaves nothing to say.
        if not fault.startswith(("status", "drop")):
            fault = ",".join(filter(None, [f"say={self.mark}", fault]))
        return post(body, connection="close", x_sim_fault=fault)

    def leave(self, conn):
        """In good order or with a reset, at once or when the request has come a bit further."""
        time.sleep(self.dice.choice(LEAVE_AFTER_S))
        if self.dice.random() < 0.5:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        return "left"

    def whole(self, conn):
        answer = once(conn)
        if answer.status == 200:
            assert answer.json()["choices"][0]["message"]["content"] == self.mark
        return judged(answer)

    def plain(self, conn):
        conn.send(self.request())
        return self.whole(conn)

    def slow(self, conn):
        conn.send(self.request(f"slow_headers={self.dice.randrange(30)}"))
        return self.whole(conn)

    def streamed(self, conn):
        conn.send(self.request(stream=True))
        answer = once(conn)
        if answer.status == 200:
            *data, last = events(answer.body)
            said = [json.loads(one)["choices"] for one in data]
            assert last == "[DONE]"
            assert "".join(one[0]["delta"].get("content") or "" for one in said if one) == self.mark
        return judged(answer)

    def status(self, conn):
        status = self.dice.choice([400, 429, 500, 503])
        conn.send(self.request(f"status={status}"))
        answer = once(conn)
        assert answer.status in (status, 503)
        return judged(answer)

    def dropped(self, conn):
        conn.send(self.request("drop" + self.dice.choice(["", ",rst"])))
        answer = once(conn)
        assert answer.status in (502, 503)
        return "error"

    def upstream_cut(self, conn):
        after = self.dice.randrange(4)
        conn.send(self.request(f"cut={after}" + self.dice.choice(["", ",rst"]), stream=True))
        try:
            answer = once(conn)
        except (Ended, ConnectionResetError):
            return "broken"
        assert answer.status in (502, 503), answer
        return "error"

    def leave_in_body(self, conn):
        request = self.request()
        conn.send(request[: self.dice.randrange(1, len(request) - 1)])
        return self.leave(conn)

    def leave_before_answer(self, conn):
        conn.send(self.request(f"slow_headers={self.dice.choice([0, 5, 200])}"))
        return self.leave(conn)

    def leave_in_stream(self, conn):
        conn.send(self.request(f"stall={self.dice.randrange(1, 4)}", stream=True))
        answer = conn.head()
        if answer.status != 200:
            return judged(not_lost(conn.answer_rest(answer)))
        next(conn.pieces(answer))
        return self.leave(conn)


class Cutter:
    """Stands between Envoy and Waypost, and breaks all connections again and again: the processor is gone and there again."""

    def __init__(self, port):
        self.target, self.cuts, self.open = port, 0, []
        self.dice, self.lock, self.stopped = random.Random(SEED), threading.Lock(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        for work in (self._accept, self._cut):
            threading.Thread(target=work, daemon=True).start()

    def _accept(self):
        while True:
            ends = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.target))
            for end in ends:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.open.append(ends)
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        Cutter._break(one, other)

    @staticmethod
    def _break(*ends):
        # Closed when nobody reads any more: the number of a socket closed before could be another's by then.
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut(self):
        while not self.stopped.wait(self.dice.uniform(*CUT_EVERY_S)):
            with self.lock:
                for ends in self.open:
                    self.cuts += 1
                    self._break(*ends)
                self.open.clear()

    def stop(self):
        """No more cuts; what is connected stays so."""
        self.stopped.set()


class Refused(Exception):
    """Envoy has lost Waypost, and lets nothing pass."""


def not_lost(answer):
    if answer.status == 500 and (not answer.body or b"ext_proc_error" in answer.body):
        raise Refused(answer)
    return answer


def once(conn):
    """The one answer; the connection ends after it."""
    answer = not_lost(conn.answer())
    assert conn.buf == b"" and conn.sock.recv(1) == b"", "more than one answer"
    return answer


def judged(answer):
    if answer.status == 200:
        return "whole"
    assert answer.error()["message"]
    return "error"


def settled(front, count):
    """What holds after all requests, whatever became of each."""
    until(lambda: not front.left_over(), SETTLE_S, "nothing left")
    metrics = front.waypost.metrics()
    assert metrics.value("waypost_ext_proc_panics_total") == 0
    assert metrics.value("waypost_ext_proc_protocol_errors_total") == 0
    # Each is settled, and once. Of a stream that Envoy resets at once not even the headers are read.
    begun = metrics.value("num_requests")
    assert metrics.value("waypost_requests_total") == begun <= metrics.value("waypost_ext_proc_streams_total") <= count
    assert front.envoy.stats().get("spurious_msgs_received", 0) == 0
    assert chat_through(front) == 200
    return metrics


def chat_through(front):
    with Conn(front.envoy.port) as conn:
        conn.post(chat("local"))
        return conn.answer().status


def ask(front, mode, number, cut=False):
    """Kind and end of one request."""
    plan = Plan(mode, number)
    with Conn(front.envoy.port, timeout=20) as conn:
        try:
            return plan.kind.__name__, plan.kind(conn)
        except Exception as error:
            if cut and isinstance(error, Ended | ConnectionResetError | BrokenPipeError | Refused):
                return plan.kind.__name__, "cut"
            error.add_note(f"request {number} of seed {SEED}, {plan.kind.__name__}, {len(plan.body)} bytes")
            raise


def ask_all(front, mode, cut=False):
    """How many requests of each kind ended in which way, and how many there were."""
    count = REQUESTS // RUNS
    return collections.Counter(at_once([lambda n=n: ask(front, mode, n, cut) for n in range(count)], THREADS)), count


@pytest.mark.parametrize("mode", MODES)
def test_each_request_is_answered_once_and_nothing_is_left(front, mode):
    front = front(mode)
    ends, count = ask_all(front, mode)
    metrics = settled(front, count)
    assert metrics.value("num_requests") > count / 2
    assert metrics.value("waypost_requests_total", outcome="completed") >= sum(n for (_, end), n in ends.items() if end == "whole")
    for kind in ("plain", "streamed", "slow"):
        assert ends[kind, "whole"] > 0.9 * sum(n for (k, _), n in ends.items() if k == kind), ends
    assert ends["upstream_cut", "broken"] > 0, ends


@pytest.mark.parametrize("mode", MODES)
def test_the_way_to_waypost_is_cut_again_and_again(front, mode):
    front = front(mode, between=Cutter)
    ends, count = ask_all(front, mode, cut=True)
    front.between.stop()
    settled(front, count)
    assert front.between.cuts > count / 500
    assert sum(n for (_, end), n in ends.items() if end == "whole") > count / 5, ends
    # Who asks for nothing that fails gets an answer that is whole, or is refused by Envoy: in full duplex with a 500, and else,
    # passed on without an endpoint, with a 503.
    assert sum(n for (kind, end), n in ends.items() if kind in ("plain", "slow") and end in ("cut", "error")) > 0, ends
