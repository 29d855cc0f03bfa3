"""Clients that go away: the engine is told within 100 ms, and nothing stays booked."""

import socket
import struct
import threading
import time

import pytest

from helpers.wait import until
from resilience.kit import at_once, config, median
from resilience.strict import Conn, chat

NOTICED_S = 0.1
IN_FLIGHT = "waypost_requests_in_flight"


def reset(conn):
    """Closes with a TCP reset."""
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def leave(gate, engine, body, how, wait):
    """Sends, waits, leaves; returns seconds until the engine noticed."""
    before = engine.stats()["aborted"]
    conn = Conn(gate.port)
    conn.post(body, x_sim_fault=wait if "=" in wait else None)
    if wait == "first event":
        next(iter(conn.pieces(conn.head())))
    else:
        until(lambda: engine.stats()["in_flight"], 5, "the request at the engine")
    left = time.time()
    how(conn)
    stats = until(lambda: engine.stats()["aborted"] > before and engine.stats(), 5, "the engine's notice")
    return stats["aborts"][-1]["noticed_unix_us"] / 1e6 - left


@pytest.mark.parametrize("how", [Conn.close, reset], ids=["close", "reset"])
@pytest.mark.parametrize(
    ("wait", "stream"),
    [("first event", True), ("slow_headers=9000", True), ("slow_headers=9000", False), ("stall=1", False)],
)
def test_the_engine_learns_at_once_that_the_client_left(waypost, sim, how, wait, stream):
    engine = sim(decode_ms=20)
    gate = waypost(config(engine))
    body = chat(tokens=1000, stream=stream)
    times = sorted(leave(gate, engine, body, how, wait) for _ in range(12))
    assert median(times) < NOTICED_S / 2, times
    assert times[-2] < NOTICED_S, times
    until(lambda: gate.metrics().value(IN_FLIGHT) == 0, 2, "bookings freed")
    metrics = gate.metrics()
    assert metrics.value("waypost_requests_total", outcome="client_gone") == 12
    assert metrics.value("waypost_client_gone_total") == 12


def test_while_waiting_for_a_connection_upstream(waypost, full_backlog):
    """Nothing has been sent yet; still the request must not go on without its client."""
    gate = waypost(config(full_backlog, timeouts={"connect": "20s"}))
    conn = Conn(gate.port)
    conn.post(chat())
    until(lambda: gate.metrics().value(IN_FLIGHT) == 1, 5, "the request in flight")
    conn.close()
    until(lambda: gate.metrics().value(IN_FLIGHT) == 0, 1, "it is dropped")
    assert gate.metrics().value("waypost_requests_total", outcome="client_gone") == 1


def test_many_leave_at_once(waypost, sim):
    """Everything comes back to zero: requests, connections, the engine's own load."""
    engine = sim(decode_ms=20)
    gate = waypost(config(engine))
    threads = threading.active_count()

    def come_and_go(number):
        conn = Conn(gate.port)
        conn.post(chat(tokens=1000, stream=number % 2 == 0))
        if number % 3 == 0:
            time.sleep(0.05)
        conn.close() if number % 5 else reset(conn)

    at_once([lambda n=n: come_and_go(n) for n in range(120)], 24)
    until(lambda: gate.metrics().value(IN_FLIGHT) == 0, 3, "requests in flight")
    until(lambda: gate.metrics().value("waypost_connections_open") <= 1, 3, "connections")
    until(lambda: engine.stats()["in_flight"] == 0, 3, "the engine's requests")
    assert engine.stats()["finished"] == 0
    assert threading.active_count() == threads


def test_the_decision_says_who_ended_it(waypost, sim):
    gate = waypost(config(sim(decode_ms=20)))
    with Conn(gate.port) as conn:
        conn.post(chat(tokens=1000, stream=True))
        head = conn.head()
        next(iter(conn.pieces(head)))
    decision = gate.decision(head.headers["x-waypost-decision-id"])
    assert decision["outcome"] == "client_gone"
    assert decision["model"] == "m"
    assert decision["ttft_ms"] > 0


def test_leaving_does_not_put_an_endpoint_aside(waypost, sim):
    """The client's impatience is not the engine's fault."""
    engine = sim(decode_ms=20)
    gate = waypost(config(engine))
    for wait in ("first event", "slow_headers=9000"):
        leave(gate, engine, chat(tokens=1000, stream=True), Conn.close, wait)
    assert gate.metrics().value("waypost_endpoint_aside", endpoint=engine.url) == 0
    assert gate.metrics().value("waypost_upstream_attempts_total", result="ok") == 1
