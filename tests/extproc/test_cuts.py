"""Many requests at once, cut at random by clients and engines: each is answered once, and nothing is left behind.

`WAYPOST_CUT_REQUESTS=10000` makes it long; `WAYPOST_CUT_SEED` repeats a run.
"""

import collections
import json
import os
import random
import socket
import struct
import time

import pytest

from helpers.wait import until
from resilience.kit import at_once
from resilience.strict import Conn, Ended, chat, events, post

REQUESTS = int(os.environ.get("WAYPOST_CUT_REQUESTS", "2000"))
SEED = int(os.environ.get("WAYPOST_CUT_SEED", "6"))
MODES = ["full-duplex", "buffered"]
THREADS = 16
TOKENS = 20
LARGE_BYTES = 150_000
SETTLE_S = 10
LEAVE_AFTER_S = [0, 0.002, 0.01, 0.03]
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
            conn.answer_rest(answer)
            return judged(answer)
        next(conn.pieces(answer))
        return self.leave(conn)


def once(conn):
    """The one answer; the connection ends after it."""
    answer = conn.answer()
    assert conn.buf == b"" and conn.sock.recv(1) == b"", "more than one answer"
    return answer


def judged(answer):
    if answer.status == 200:
        return "whole"
    assert answer.error()["message"]
    return "error"


def chat_through(front):
    with Conn(front.envoy.port) as conn:
        conn.post(chat("local"))
        return conn.answer().status


@pytest.mark.parametrize("mode", MODES)
def test_each_request_is_answered_once_and_nothing_is_left(front, mode):
    front = front(mode)

    def one(number):
        plan = Plan(mode, number)
        with Conn(front.envoy.port, timeout=20) as conn:
            try:
                return plan.kind.__name__, plan.kind(conn)
            except Exception as error:
                error.add_note(f"request {number} of seed {SEED}, {plan.kind.__name__}, {len(plan.body)} bytes")
                raise

    count = REQUESTS // len(MODES)
    ends = collections.Counter(at_once([lambda n=n: one(n) for n in range(count)], THREADS))
    until(lambda: not front.left_over(), SETTLE_S, lambda: front.left_over())
    metrics = front.waypost.metrics()
    assert metrics.value("waypost_ext_proc_panics_total") == 0
    assert metrics.value("waypost_ext_proc_protocol_errors_total") == 0
    # Each is settled, and once. Of a stream that Envoy resets at once not even the headers are read.
    begun = metrics.value("num_requests")
    assert metrics.value("waypost_requests_total") == begun <= metrics.value("waypost_ext_proc_streams_total") <= count
    assert begun > count / 2
    assert metrics.value("waypost_requests_total", outcome="completed") >= sum(n for (_, end), n in ends.items() if end == "whole")
    assert front.envoy.stats().get("spurious_msgs_received", 0) == 0
    for kind in ("plain", "streamed", "slow"):
        assert ends[kind, "whole"] > 0.9 * sum(n for (k, _), n in ends.items() if k == kind), ends
    assert ends["upstream_cut", "broken"] > 0, ends
    assert chat_through(front) == 200
