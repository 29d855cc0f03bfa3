"""Clients that ask and then do not read: they are cut off in time, and what was booked for them is free again."""

from helpers.mocks import Reply
from helpers.wait import until
from resilience.kit import Clock, config
from resilience.strict import Conn, chat

EVENT = b"data: " + b"x" * 60_000 + b"\n\n"
IN_FLIGHT = "waypost_requests_in_flight"


def endless():
    while True:
        yield EVENT


def test_a_client_that_takes_nothing_is_cut_off(waypost, recorder):
    upstream = recorder()
    upstream.answer = lambda _: Reply(headers=[("content-type", "text/event-stream")], chunks=endless())
    gate = waypost(config(upstream, limits={"write_timeout": "1s"}))
    clock = Clock()
    conn = Conn(gate.port)
    conn.post(chat(stream=True))
    until(lambda: gate.metrics().value(IN_FLIGHT) == 1, 5, "the request under way")
    until(lambda: gate.metrics().value(IN_FLIGHT) == 0, 15, "the client cut off")
    assert clock() > 1, "not before its time"
    assert gate.metrics().value("waypost_client_gone_total") == 1
    conn.close()


def test_a_client_that_reads_slowly_is_not(waypost, recorder):
    upstream = recorder()
    upstream.answer = lambda _: Reply(headers=[("content-type", "text/event-stream")], chunks=endless())
    gate = waypost(config(upstream, limits={"write_timeout": "1s"}))
    conn = Conn(gate.port)
    conn.post(chat(stream=True))
    clock = Clock()
    while clock() < 3:
        assert conn.sock.recv(4_000_000), "the stream goes on"
    assert gate.metrics().value(IN_FLIGHT) == 1
    conn.close()
