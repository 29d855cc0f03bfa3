"""Limits on what clients may send: each is answered in OpenAI's shape, and the client gets to see the answer."""

import gzip
import json
import zlib

import pytest

from resilience.kit import Clock, config, median, rss_mib
from resilience.strict import Conn, ask, chat, get

KIB = 1024
BODY = 256 * KIB


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim()


@pytest.fixture(scope="module")
def gate(shared, engine):
    return shared.waypost(config(engine, limits={"body": BODY, "body_timeout": "1s"}))


@pytest.fixture(autouse=True)
def stays_well(gate):
    """After every refusal the gateway serves, holds nothing, and has not grown."""
    before = rss_mib(gate)
    yield
    assert ask(gate.port, chat()).status == 200
    assert gate.metrics().value("waypost_requests_in_flight") == 0
    assert rss_mib(gate) - before < 64


def assert_too_large(answer):
    assert answer.status == 413
    error = answer.error()
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")
    assert str(BODY) in error["message"]


def padded(size):
    """A valid request of exactly so many bytes."""
    body = json.dumps(chat())
    return body[:-1] + " " * (size - len(body)) + "}"


def test_a_body_of_just_the_limit_passes(gate):
    assert ask(gate.port, padded(BODY)).status == 200


@pytest.mark.parametrize("size", [BODY + 1, 8 * BODY, 40 * 1024 * KIB])
def test_a_body_over_the_limit_with_its_length(gate, engine, size):
    """The client writes all of it before it reads, as most do; a reset would take the answer away."""
    before = engine.stats()["requests"]
    assert_too_large(ask(gate.port, padded(size)))
    assert engine.stats()["requests"] == before


@pytest.mark.parametrize("chunks", [5, 40, 600])
def test_a_body_over_the_limit_without_a_length(gate, chunks):
    piece = b"%x\r\n%s\r\n" % (64 * KIB, b" " * (64 * KIB))
    with Conn(gate.port) as conn:
        conn.post(b"", content_length=None, transfer_encoding="chunked")
        conn.send(piece * chunks + b"0\r\n\r\n")
        assert_too_large(conn.answer())


def test_a_body_without_an_end(gate):
    """Chunks go on and on: the answer comes all the same, and the connection ends."""
    piece = b"%x\r\n%s\r\n" % (64 * KIB, b" " * (64 * KIB))
    with Conn(gate.port) as conn:
        conn.post(b"", content_length=None, transfer_encoding="chunked")
        conn.send(piece * 10)
        clock = Clock()
        assert_too_large(conn.answer())
        assert clock() < 5
        assert conn.closed_within(3)


def test_a_length_over_the_limit_with_nothing_behind_it(gate):
    with Conn(gate.port) as conn:
        conn.post(b"", content_length=str(10 * BODY))
        clock = Clock()
        assert_too_large(conn.answer())
        assert clock() < 5


def test_a_client_that_asks_first_is_told_before_it_sends(gate):
    with Conn(gate.port) as conn:
        conn.post(b"", content_length=str(10 * BODY), expect="100-continue")
        clock = Clock()
        line = conn._line()
        assert b"413" in line, line
        assert clock() < 0.5


def test_a_client_that_asks_first_may_go_on(gate):
    body = json.dumps(chat())
    with Conn(gate.port) as conn:
        conn.post(b"", content_length=str(len(body)), expect="100-continue")
        assert conn._line() == b"HTTP/1.1 100 Continue"
        assert conn._line() == b""
        conn.send(body)
        assert conn.answer().status == 200


def test_a_gzip_body_counts_decompressed(gate):
    assert ask(gate.port, gzip.compress(json.dumps(chat()).encode()), content_encoding="gzip").status == 200
    assert_too_large(ask(gate.port, gzip.compress(padded(BODY + 1).encode()), content_encoding="gzip"))


def test_a_gzip_bomb(gate):
    """240 KiB that stand for 240 MiB, and members in a row."""
    squeeze = zlib.compressobj(9, wbits=31)
    bomb = b"".join(squeeze.compress(b" " * (1 << 20)) for _ in range(240)) + squeeze.flush()
    assert len(bomb) < BODY
    clock = Clock()
    assert_too_large(ask(gate.port, bomb, content_encoding="gzip"))
    assert clock() < 2
    assert_too_large(ask(gate.port, gzip.compress(b" " * 9000) * 100, content_encoding="gzip"))


@pytest.mark.parametrize("broken", [b"not gzip", gzip.compress(b"{}")[:-5], b""])
def test_gzip_that_is_none(gate, broken):
    answer = ask(gate.port, broken, content_encoding="gzip")
    assert answer.status == 400
    assert answer.error()["type"] == "invalid_request_error"


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_other_codings_are_refused(gate, coding):
    answer = ask(gate.port, b"x", content_encoding=coding)
    assert (answer.status, answer.error()["code"]) == (415, "unsupported_content_encoding")


def test_a_body_that_comes_too_slowly(gate):
    with Conn(gate.port) as conn:
        conn.post(b'{"model"', content_length="1000")
        clock = Clock()
        answer = conn.answer()
        assert 0.9 <= clock() < 2.5
        assert (answer.status, answer.error()["code"]) == (408, "request_timeout")
        assert conn.closed_within(2)


def test_a_body_that_drips_is_cut_at_the_same_time(gate):
    with Conn(gate.port) as conn:
        conn.post(b"", content_length="1000")
        clock = Clock()
        while not conn.closed_or_readable(0.1) and clock() < 5:
            conn.send(b" ")
        assert 0.8 <= clock() < 2.5
        assert conn.answer().status == 408


def test_a_client_that_stops_in_the_middle(gate, engine):
    """It can still read, so it is told."""
    before = engine.stats()["requests"]
    with Conn(gate.port) as conn:
        conn.post(b'{"model": "m"', content_length="1000")
        conn.half_close()
        answer = conn.answer()
        assert (answer.status, answer.error()["code"]) == (400, "incomplete_body")
        assert conn.closed_within(2)
    assert engine.stats()["requests"] == before


def test_a_chunked_body_that_stops_in_the_middle(gate):
    with Conn(gate.port) as conn:
        conn.post(b"", content_length=None, transfer_encoding="chunked")
        conn.send(b'5\r\n{"mod\r\n8\r\nel"')
        conn.half_close()
        answer = conn.answer()
        assert (answer.status, answer.error()["code"]) == (400, "incomplete_body")


def headers_too_large(gate, lines):
    with Conn(gate.port) as conn:
        conn.send(f"POST /v1/chat/completions HTTP/1.1\r\nhost: w\r\ncontent-length: 0\r\n{lines}\r\n")
        return conn.answer()


@pytest.mark.parametrize("count", [101, 180])
def test_too_many_header_fields(gate, count):
    answer = headers_too_large(gate, "".join(f"x-{i}: 1\r\n" for i in range(count)))
    assert answer.status == 431
    assert answer.error()["code"] == "headers_too_large"
    assert "100 fields" in answer.error()["message"]


@pytest.mark.parametrize("size", [66 * KIB, 120 * KIB])
def test_header_fields_too_large(gate, size):
    answer = headers_too_large(gate, f"x-big: {'x' * size}\r\n")
    assert answer.status == 431
    assert answer.error()["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "lines", ["".join(f"x-{i}: 1\r\n" for i in range(5000)), f"x-big: {'x' * 2_000_000}\r\n"], ids=["fields", "bytes"]
)
def test_headers_beyond_all_measure(gate, lines):
    """Refused before they are all read; then the status must do, and the connection ends."""
    with Conn(gate.port) as conn:
        try:
            conn.send(f"GET /health HTTP/1.1\r\nhost: w\r\n{lines}\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return
        try:
            assert conn.head().status == 431
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("size", [60_000, 70_000])
def test_a_path_too_long(gate, size):
    with Conn(gate.port) as conn:
        conn.send(f"GET /{'a' * size} HTTP/1.1\r\nhost: w\r\n\r\n")
        assert conn.head().status in (404, 414, 431)


def test_requests_in_flight(waypost, sim):
    """No queue without end: what has no room is told so at once, and the pages still answer."""
    engine = sim(decode_ms=50)
    gate = waypost(config(engine, limits={"requests_in_flight": 2}))
    holders = [Conn(gate.port) for _ in range(2)]
    for conn in holders:
        conn.post(chat(tokens=1000, stream=True))
        conn.head()
    times = []
    for _ in range(9):
        clock = Clock()
        answer = ask(gate.port, chat())
        times.append(clock())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (answer.error()["type"], answer.error()["code"]) == ("server_error", "overloaded")
    assert median(times) < 0.05, times
    assert engine.stats()["requests"] == 2
    assert get(gate.port, "/health").status == 200
    assert gate.metrics().value("waypost_refused_total", reason="in_flight") == 9
    holders.pop().close()
    for _ in range(100):
        if (status := ask(gate.port, chat()).status) == 200:
            break
    assert status == 200
