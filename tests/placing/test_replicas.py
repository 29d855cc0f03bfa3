"""Two Waypost processes in front of the same engines, told of each other's load through a real Valkey."""

import signal
import socket
import subprocess
import time

import pytest

from helpers.ports import free_ports
from helpers.valkey import valkey_server
from helpers.wait import until
from placing.kit import Later, booked, chat, config

GONE_S = 14  # a silent replica is gone after 10 s, looked at every 2 s


class Valkey:
    """The real server, which can be killed and started again."""

    def __init__(self):
        self._server = valkey_server()
        [self.port] = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        args = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        out = subprocess.DEVNULL
        self._proc = subprocess.Popen([self._server, *args], stdout=out, stderr=out)
        until(self._listens, 5, "valkey")

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self._proc.kill()
        self._proc.wait()


@pytest.fixture
def valkey(workshop):
    """A server of its own."""
    return workshop.keep(Valkey())


@pytest.fixture
def two(workshop, valkey):
    """`two(*engines)`: two gateways in front of them that have heard of each other."""

    def start(*engines, **pick):
        made = config(*engines, **pick) | {"replicas": {"redis": valkey.url}}
        gates = [workshop.waypost(made) for _ in range(2)]
        for gate in gates:
            until(lambda gate=gate: peers(gate) == 1, 6, "the other one")
        return gates

    return start


def peers(gate):
    return gate.metrics().value("waypost_replica_peers")


def others(gate, **labels):
    return gate.metrics().value("waypost_endpoint_others_requests", **labels)


def test_each_avoids_what_the_other_has_booked_until_it_is_over(two, sim):
    engines = sim(), sim()
    a, b = two(*engines)
    slow = Later(a, chat(), x_sim_fault="slow_headers=900")
    until(lambda: others(b), 0.5, "b hears of it")
    (busy,) = [e for e in engines if others(b, endpoint=e.url)]
    (free,) = [e for e in engines if e is not busy]
    for _ in range(6):
        answer = b.chat(chat())
        assert answer.status_code == 200
        assert b.decision(answer)["attempts"][0]["endpoint"] == free.url
    assert slow.join().status == 200
    until(lambda: not others(b) and not any(booked(a).values()), 1, "freed at both")
    until(lambda: not any(booked(b).values()), 1, "nothing left at b")


def test_a_bound_on_requests_holds_over_both(two, sim):
    (engine,) = (sim(),)
    a, b = two(engine, busy={"requests": 1}, queue={"requests": 8, "deadline": "5s"})
    slow = Later(a, chat(), x_sim_fault="slow_headers=500")
    until(lambda: others(b), 0.5, "b hears of it")
    waits = Later(b, chat())
    assert [slow.join().status, waits.join().status] == [200, 200]
    assert waits.seconds > 0.2, "it waited for the other's request"
    until(lambda: not any(booked(a).values()) and not any(booked(b).values()), 2, "nothing left")


def test_without_the_server_both_serve_on_and_find_each_other_again(two, sim, valkey):
    a, b = two(sim(), sim())
    slow = Later(a, chat(), x_sim_fault="slow_headers=1200")
    until(lambda: others(b), 0.5, "b hears of it")
    valkey.stop()
    for gate in (a, b):
        start = time.monotonic()
        assert all(gate.chat(chat()).status_code == 200 for _ in range(5))
        assert time.monotonic() - start < 2
        until(lambda gate=gate: lost(gate), 3, "metrics tell")
    valkey.start()
    assert slow.join().status == 200
    until(lambda: heard_again(a, b), 15, "b hears of a again")
    until(lambda: not any(booked(a).values()) and not any(booked(b).values()), 14, "the booking whose end was missed")


def lost(gate):
    return gate.metrics().value("waypost_replica_events_total", kind="disconnects")


def heard_again(a, b):
    """A request through `a` that takes 300 ms is seen by `b`."""
    slow = Later(a, chat(), x_sim_fault="slow_headers=300")
    try:
        until(lambda: others(b), 0.3, "b hears of it")
        return True
    except AssertionError:
        return False
    finally:
        slow.join()


def test_the_bookings_of_a_killed_process_end(two, sim):
    a, b = two(sim(), sim())
    slow = Later(a, chat(tokens=100_000, stream=True), x_sim_fault="stall=1")
    until(lambda: others(b), 0.5, "b hears of it")
    a.signal(signal.SIGKILL)
    start = time.monotonic()
    assert b.chat(chat()).status_code == 200
    until(lambda: not others(b), GONE_S, "its bookings are over")
    print(f"gone after {time.monotonic() - start:.1f} s")
    assert peers(b) == 0
    slow.leave()
