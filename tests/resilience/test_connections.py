"""Connections: deadlines of the headers, keep-alive, the cap, pipelining, HTTP/2."""

import asyncio
import json
import subprocess
import time

import httpx
import pytest

from helpers.wait import until
from resilience.kit import Clock, config, stream
from resilience.strict import Conn, ask, chat, events, get, post

HEADER_S = 1.0
KEEPALIVE_S = 2.5


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim()


@pytest.fixture(scope="module")
def gate(shared, engine):
    limits = {"header_timeout": f"{HEADER_S:.0f}s", "keepalive_timeout": f"{KEEPALIVE_S * 1000:.0f}ms"}
    return shared.waypost(config(engine, limits=limits))


def drip(conn, text, every, most):
    """Sends a byte at a time until the server answers or closes; returns how long that took."""
    clock = Clock()
    for byte in text:
        conn.send(byte)
        if conn.closed_or_readable(every) or clock() > most:
            break
    return clock()


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
@pytest.mark.parametrize("every", [0.05, 0.7, 1.5])
def test_slow_headers_get_a_408_and_an_end(gate, method, every):
    """Also one that has sent only the letter that HTTP/2 begins with, too."""
    with Conn(gate.port) as conn:
        took = drip(conn, f"{method} /v1/models HTTP/1.1\r\nhost: w\r\nx-slow: {'x' * 200}", every, 4)
        assert HEADER_S * 0.9 <= took < HEADER_S + 1
        answer = conn.answer()
        assert (answer.status, answer.error()["code"]) == (408, "request_timeout")
        assert conn.closed_within(1)


def test_a_slow_second_request_on_a_kept_connection(gate):
    with Conn(gate.port) as conn:
        conn.post(chat())
        assert conn.answer().status == 200
        time.sleep(HEADER_S + 0.3)
        assert HEADER_S * 0.9 <= drip(conn, "POST /v1/models HTTP/1.1\r\nx: " + "x" * 99, 0.05, 4) < HEADER_S + 1
        assert conn.answer().status == 408
        assert conn.closed_within(1)


def test_connections_that_send_nothing_are_closed(gate):
    conns = [Conn(gate.port) for _ in range(50)]
    clock = Clock()
    assert ask(gate.port, chat()).status == 200, "others are served meanwhile"
    assert clock() < 0.5
    for conn in conns:
        with conn:
            assert conn.closed_within(HEADER_S + 1)
    assert HEADER_S * 0.8 <= clock() < HEADER_S + 2


def test_half_an_http2_preface_is_closed_too(gate):
    with Conn(gate.port) as conn:
        conn.send("PRI * HTTP/2.0\r\n")
        clock = Clock()
        conn.closed_or_readable(HEADER_S + 2)
        assert clock() < HEADER_S + 1


def test_an_idle_connection_outlives_the_header_timeout_but_not_its_own(gate):
    with Conn(gate.port) as conn:
        for pause in (HEADER_S + 0.4, 0):
            conn.post(chat())
            assert conn.answer().status == 200
            time.sleep(pause)
        clock = Clock()
        assert conn.closed_within(KEEPALIVE_S + 2)
        assert KEEPALIVE_S - 0.3 <= clock() < KEEPALIVE_S + 1


def test_a_long_answer_outlives_both(waypost, sim):
    """No timer of the client's side runs while the model writes."""
    limits = {"header_timeout": "300ms", "keepalive_timeout": "300ms"}
    gate = waypost(config(sim(decode_ms=100), limits=limits))
    data = stream(gate.port, tokens=12)
    assert len(data) >= 12 and not any("error" in d for d in data)
    assert ask(gate.port, chat(tokens=8)).status == 200


def test_the_cap_is_answered_in_json_and_gives_way(waypost, sim):
    gate = waypost(config(sim(), limits={"connections": 4}))
    until(lambda: gate.metrics().value("waypost_connections_open") == 1, 3, "only our own connection")
    time.sleep(0.2)  # until that one is gone as well
    conns = [Conn(gate.port) for _ in range(4)]
    time.sleep(0.1)
    for _ in range(3):
        with Conn(gate.port) as extra:
            answer = extra.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.error()["code"] == "overloaded"
            assert extra.closed_within(1)
    conns[0].post(chat())
    assert conns[0].answer().status == 200, "those that are open are served"
    for conn in conns:
        conn.close()
    until(lambda: served(gate), 3, "room again")
    assert gate.metrics().value("waypost_refused_total", reason="connections") >= 3


def served(gate):
    try:
        return ask(gate.port, chat()).status == 200
    except (ConnectionError, OSError):
        return False


def test_pipelined_requests_are_answered_in_order(gate):
    with Conn(gate.port) as conn:
        texts = [f"number {n}" for n in range(12)]
        conn.send(b"".join(post(chat(text=t, tokens=n + 1, stream=n % 3 == 0)) for n, t in enumerate(texts)))
        for number in range(12):
            answer = conn.answer()
            if number % 3 == 0:
                assert len(events(answer.body)) >= number + 1
            else:
                assert answer.json()["usage"]["completion_tokens"] == number + 1


def test_a_refusal_in_a_pipeline_spoils_nothing(gate):
    with Conn(gate.port) as conn:
        conn.send(post("not json") + post(chat(tokens=2)) + post(chat(model="nobody")) + post(chat(tokens=4)))
        statuses = [conn.answer().status for _ in range(4)]
        assert statuses == [400, 200, 404, 200]


def test_http_1_0_and_connection_close(gate):
    with Conn(gate.port) as conn:
        conn.post(chat(stream=True), connection="close")
        assert events(conn.answer().body)[-1] == "[DONE]"
        assert conn.closed_within(2)
    with Conn(gate.port) as conn:
        conn.send(post(chat()).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        data = b"".join(iter(lambda: conn.sock.recv(65536), b""))
        assert data.split(b" ", 2)[1] == b"200"
        assert json.loads(data.split(b"\r\n\r\n", 1)[1])["choices"]


def curl(*args):
    return subprocess.run(["curl", "-sS", "--http2-prior-knowledge", *args], capture_output=True, text=True, timeout=30)


def test_http2_without_tls(gate):
    url = f"http://127.0.0.1:{gate.port}"
    out = curl("-w", "%{http_version} %{http_code}", f"{url}/v1/chat/completions", "-d", json.dumps(chat()))
    assert out.stdout.endswith("2 200"), out
    body = json.dumps(chat(tokens=6, stream=True))
    out = curl("-N", "-i", f"{url}/v1/chat/completions", "-d", body)
    head, rest = out.stdout.split("\n\n", 1) if "\r" not in out.stdout else out.stdout.split("\r\n\r\n", 1)
    assert "HTTP/2 200" in head and "x-waypost-model: m" in head
    assert events(rest.encode())[-1] == "[DONE]"
    out = curl("-w", " %{http_code}", f"{url}/v1/chat/completions", "-d", "{")
    assert out.stdout.endswith(" 400") and "invalid_json" in out.stdout


def test_http2_errors_in_mid_stream_and_a_client_that_leaves(waypost, sim):
    engine = sim(decode_ms=20)
    gate = waypost(config(engine))
    url, body = f"http://127.0.0.1:{gate.port}/v1/chat/completions", json.dumps(chat(tokens=500, stream=True))
    out = curl("-N", url, "-H", "x-sim-fault: cut=3", "-d", body)
    data = events(out.stdout.encode())
    assert out.returncode == 0 and data[-1] == "[DONE]"
    assert json.loads(data[-2])["error"]["code"] == "upstream_error"
    out = curl("-N", "--max-time", "0.3", url, "-d", body)
    assert out.returncode == 28
    until(lambda: engine.stats()["in_flight"] == 0, 2, "the engine to be told")
    until(lambda: gate.metrics().value("waypost_requests_in_flight") == 0, 2, "the place to be free")


def test_many_http2_streams_on_one_connection(gate, engine):
    before = engine.stats()["requests"]

    async def ask_all():
        one = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(http1=False, http2=True, limits=one, timeout=20) as client:
            url = f"http://127.0.0.1:{gate.port}/v1/chat/completions"
            return await asyncio.gather(*[client.post(url, json=chat()) for _ in range(60)])

    answers = asyncio.run(ask_all())
    assert {(a.status_code, a.http_version) for a in answers} == {(200, "HTTP/2")}
    assert engine.stats()["requests"] == before + 60


def test_an_idle_http2_connection_is_closed_as_well(gate):
    settings, acknowledged = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"
    with Conn(gate.port) as conn:
        conn.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + acknowledged)
        clock = Clock()
        conn.sock.settimeout(KEEPALIVE_S + 2)
        while conn.sock.recv(65536):
            pass
        assert clock() < KEEPALIVE_S + 1.5


def test_garbage_gets_a_400_or_an_end(gate):
    tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 400
    for garbage in (tls_hello, b"\r\n" * 20 + b"\0\r\n\r\n", b"hello\r\n\r\n"):
        with Conn(gate.port) as conn:
            conn.send(garbage)
            conn.closed_or_readable(HEADER_S + 1)
            data = conn.sock.recv(65536)
            assert data == b"" or data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408")), data
    assert get(gate.port, "/health").status == 200
