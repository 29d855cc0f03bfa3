"""The end of a process: not ready at once, nothing cut within the grace period, no waiting for nothing."""

import json
import signal
import threading

import pytest

from helpers.wait import until
from resilience.kit import Clock, at_once, config, read_stream
from resilience.strict import Conn, Ended, ask, chat, get

STREAMS = 50


def ends_within(gate, seconds):
    """The exit code."""
    return gate.proc.wait(seconds)


def open_streams(gate, count, tokens):
    conns = [Conn(gate.port, timeout=20) for _ in range(count)]
    for conn in conns:
        conn.post(chat(tokens=tokens, stream=True))
    return [(conn, conn.head()) for conn in conns]


def test_open_streams_finish_and_new_requests_are_served_during_the_delay(waypost, sim):
    gate = waypost(config(sim(decode_ms=20), shutdown={"delay": "1s", "grace": "20s"}))
    streams = open_streams(gate, STREAMS, tokens=100)
    kept = Conn(gate.port)
    kept.post(chat())
    assert kept.answer().status == 200
    gate.signal(signal.SIGTERM)
    until(lambda: get(gate.port, "/health").status == 503, 0.5, "readiness to be false at once")
    assert get(gate.port, "/health/live").status == 200
    assert ask(gate.port, chat()).status == 200, "served until the load balancer has noticed"
    kept.post(chat())
    answer = kept.answer()
    assert answer.status == 200
    assert answer.headers["connection"] == "close", "clients are asked to go elsewhere"
    ended = at_once([lambda c=c, h=h: read_stream(c, h) for c, h in streams], STREAMS)
    for data in ended:
        assert len(data) >= 100 and data[-1] == "[DONE]"
        assert not any("error" in json.loads(d) for d in data[:-1])
    assert ends_within(gate, 5) == 0


def test_nothing_open_ends_at_once(waypost, sim):
    for number in (signal.SIGTERM, signal.SIGINT):
        gate = waypost(config(sim(), shutdown={"grace": "60s"}))
        ask(gate.port, chat())
        idle = Conn(gate.port)
        clock = Clock()
        gate.signal(number)
        assert ends_within(gate, 5) == 0
        assert clock() < 1.5
        idle.close()


def test_ctrl_c_does_not_wait_for_the_delay(waypost, sim):
    gate = waypost(config(sim(), shutdown={"delay": "30s", "grace": "60s"}))
    clock = Clock()
    gate.signal(signal.SIGINT)
    assert ends_within(gate, 5) == 0
    assert clock() < 1.5


@pytest.mark.parametrize("tokens", [1, 40])
def test_idle_kept_alive_connections_do_not_hold_it_up(waypost, sim, tokens):
    """Neither those that were used nor those that end their stream during the drain."""
    gate = waypost(config(sim(decode_ms=10), shutdown={"grace": "60s"}))
    streams = open_streams(gate, 10, tokens)
    if tokens == 1:
        [read_stream(conn, head) for conn, head in streams]
    clock = Clock()
    gate.signal(signal.SIGTERM)
    if tokens > 1:
        [read_stream(conn, head) for conn, head in streams]
    assert ends_within(gate, 5) == 0
    assert clock() < 2.5
    for conn, _ in streams:
        assert conn.closed_within(1)


def test_the_grace_period_ends_it(waypost, sim):
    """What is still open then is cut; that is what the number is for."""
    engine = sim(decode_ms=20)
    gate = waypost(config(engine, shutdown={"grace": "1s"}))
    streams = open_streams(gate, 3, tokens=2000)
    clock = Clock()
    gate.signal(signal.SIGTERM)
    assert ends_within(gate, 5) == 0
    assert 0.9 <= clock() < 2.5
    for conn, head in streams:
        with pytest.raises((Ended, ConnectionResetError)):
            list(conn.pieces(head))
    until(lambda: engine.stats()["in_flight"] == 0, 2, "the engine to be told")
    assert '"cut":3' in gate.log()


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once(waypost, sim, numbers):
    gate = waypost(config(sim(decode_ms=20), shutdown={"delay": "20s", "grace": "60s"}))
    streams = open_streams(gate, 2, tokens=2000)
    gate.signal(numbers[0])
    gate.wait_log("stopping")
    clock = Clock()
    gate.signal(numbers[1])
    assert ends_within(gate, 5) != 0, "it was not an orderly end"
    assert clock() < 1
    for conn, _ in streams:
        conn.close()


def test_after_the_delay_new_requests_are_refused_in_words(waypost, sim):
    """A stream keeps the process alive. Who comes now is told to try elsewhere, and the health page still says no."""
    gate = waypost(config(sim(decode_ms=20), shutdown={"grace": "20s"}))
    (streaming, head), *_ = open_streams(gate, 1, tokens=100)
    gate.signal(signal.SIGTERM)
    gate.wait_log("stopping")
    answer = ask(gate.port, chat())
    assert (answer.status, answer.error()["code"]) == (503, "draining")
    assert answer.headers["retry-after"]
    assert get(gate.port, "/health").status == 503
    assert get(gate.port, "/metrics").status == 200, "the end of a process is worth watching"
    assert read_stream(streaming, head)[-1] == "[DONE]"
    assert ends_within(gate, 5) == 0


def test_whole_answers_under_way_arrive_as_well(waypost, sim):
    gate = waypost(config(sim(decode_ms=20), shutdown={"grace": "20s"}))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(gate.port, chat(tokens=30), timeout=20))) for _ in range(20)
    ]
    [thread.start() for thread in threads]
    until(lambda: gate.metrics().value("waypost_requests_in_flight") == 20, 5, "all of them under way")
    gate.signal(signal.SIGTERM)
    [thread.join() for thread in threads]
    assert [a.status for a in answers] == [200] * 20
    assert ends_within(gate, 5) == 0


def test_a_restart_on_the_same_port_loses_only_the_gap(waypost, sim):
    """The port can be taken over at once, although connections of the old process linger in the kernel."""
    engine = sim()
    gate = waypost(config(engine))
    for _ in range(5):
        assert ask(gate.port, chat()).status == 200
    port = gate.port
    assert gate.stop() == 0
    again = waypost(config(engine), args=("--listen", f"127.0.0.1:{port}"))
    assert again.port == port
    assert ask(port, chat()).status == 200
