"""Request smuggling: what parsers read differently is refused, or reaches the engine as exactly one request.

Every case holds a second request that a careless reader would see. For each, the engine must have received as many
requests as the client got answers from it, and the marker of the hidden request must never arrive as one of them.
"""

import json

import pytest

from resilience.kit import config
from resilience.strict import Conn, Ended, ask, chat

# When this long nothing has come after an answer, nothing will.
QUIET_S = 0.3
GOOD = json.dumps(chat(text="visible"))
HIDDEN_BODY = json.dumps(chat(text="hidden"))
HIDDEN = f"POST /v1/chat/completions HTTP/1.1\r\nhost: w\r\ncontent-length: {len(HIDDEN_BODY)}\r\n\r\n{HIDDEN_BODY}"
CHUNKED_GOOD = f"{len(GOOD):x}\r\n{GOOD}\r\n0\r\n\r\n"


def request(headers, body, line="POST /v1/chat/completions HTTP/1.1"):
    return f"{line}\r\nhost: w\r\n{headers}\r\n{body}"


def lengths(*values):
    return "".join(f"content-length: {value}\r\n" for value in values)


N = len(GOOD)
CHUNKED = "transfer-encoding: chunked\r\n"

# Must be refused: no reading of them is safe.
REFUSED = {
    "two different lengths": request(lengths(N, N + len(HIDDEN)), GOOD + HIDDEN),
    "two lengths in one field": request(lengths(f"{N}, {N + 1}"), GOOD + HIDDEN),
    "a signed length": request(lengths(f"+{N}"), GOOD + HIDDEN),
    "a negative length": request(lengths("-1"), GOOD + HIDDEN),
    "a hexadecimal length": request(lengths(hex(N)), GOOD + HIDDEN),
    "a length with letters": request(lengths(f"{N}x"), GOOD + HIDDEN),
    "a length beyond 64 bits": request(lengths("18446744073709551617"), GOOD + HIDDEN),
    "an empty length": request(lengths(""), GOOD + HIDDEN),
    "space before the colon": request(f"content-length : {N}\r\n", GOOD + HIDDEN),
    "space before the colon of the coding": request("transfer-encoding : chunked\r\n" + lengths(N), GOOD + HIDDEN),
    "a folded header": request(f"x-a: b\r\n content-length: 0\r\n{lengths(N)}", GOOD + HIDDEN),
    "a folded coding": request("transfer-encoding:\r\n chunked\r\n", CHUNKED_GOOD + HIDDEN),
    "a null byte in a name": request(f"content\0-length: 0\r\n{lengths(N)}", GOOD + HIDDEN),
    "a carriage return in a value": request(f"x-a: b\rcontent-length: 0\r\n{lengths(N)}", GOOD + HIDDEN),
    "chunked is not last": request("transfer-encoding: chunked, identity\r\n", CHUNKED_GOOD + HIDDEN),
    "chunked is only a part of the word": request("transfer-encoding: xchunked\r\n", CHUNKED_GOOD + HIDDEN),
    "an unknown coding": request("transfer-encoding: gzip\r\n", CHUNKED_GOOD + HIDDEN),
    "a vertical tab in the coding": request("transfer-encoding: \x0bchunked\r\n", CHUNKED_GOOD + HIDDEN),
    "a chunk size of nothing": request(CHUNKED, "\r\n" + HIDDEN),
    "a negative chunk size": request(CHUNKED, f"-{N:x}\r\n{GOOD}\r\n0\r\n\r\n" + HIDDEN),
    "a chunk size with 0x": request(CHUNKED, f"0x{N:x}\r\n{GOOD}\r\n0\r\n\r\n" + HIDDEN),
    "a chunk size beyond 64 bits": request(CHUNKED, f"1000000000000000{N:x}\r\n{GOOD}\r\n0\r\n\r\n" + HIDDEN),
    "a chunk longer than it says": request(CHUNKED, f"{N - 2:x}\r\n{GOOD}\r\n0\r\n\r\n" + HIDDEN),
    "a chunk shorter than it says": request(CHUNKED, f"{N + 2:x}\r\n{GOOD}\r\n0\r\n\r\n" + HIDDEN),
    "a chunk size ended by a bare line feed": request(CHUNKED, f"{N:x}\n{GOOD}\r\n0\r\n\r\n" + HIDDEN),
    "a space in the request line": request(lengths(N), GOOD, "POST /v1/chat completions HTTP/1.1"),
    "an HTTP version that does not exist": request(lengths(N), GOOD, "POST /v1/chat/completions HTTP/1.9"),
}

# One safe reading exists (RFC 9112); refusing is safe as well. The hidden request is inside the body.
ONE_READING = {
    "equal lengths": request(lengths(N, N), GOOD),
    "CL.TE": request(lengths(len(CHUNKED_GOOD) + len(HIDDEN)) + CHUNKED, CHUNKED_GOOD),
    "TE.CL": request(CHUNKED + lengths(4), CHUNKED_GOOD),
    "TE.TE": request(CHUNKED + CHUNKED, CHUNKED_GOOD),
    "capital CHUNKED": request("Transfer-Encoding: CHUNKED\r\n", CHUNKED_GOOD),
    "a chunk extension": request(CHUNKED, f"{N:x};a=b\r\n{GOOD}\r\n0\r\n\r\n"),
    "trailers": request(CHUNKED, f"{N:x}\r\n{GOOD}\r\n0\r\ncontent-length: 5\r\nx-sim-fault: status=500\r\n\r\n"),
    "leading zeros": request(lengths(f"000{N}"), GOOD),
    "bare line feeds": request(lengths(N), GOOD).replace("\r\n", "\n"),
    "an absolute target": request(lengths(N), GOOD, "POST http://evil/v1/chat/completions HTTP/1.1"),
    "two hosts": request("host: evil\r\n" + lengths(N), GOOD),
    "an upgrade with a tail": request("connection: upgrade\r\nupgrade: h2c\r\n" + lengths(N), GOOD),
    "a connection header that names the length": request("connection: content-length\r\n" + lengths(N), GOOD),
}


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim(record=True)


@pytest.fixture(scope="module")
def gate(shared, engine):
    return shared.waypost(config(engine, limits={"body_timeout": "500ms", "header_timeout": "1s"}))


def exchange(gate, text):
    """Sends it and returns the statuses of all answers, until the connection ends or nothing more comes."""
    statuses = []
    with Conn(gate.port, timeout=3) as conn:
        conn.send(text.encode("latin-1"))
        try:
            while True:
                statuses.append(conn.answer().status)
                conn.sock.settimeout(QUIET_S)
        except (Ended, ConnectionResetError):
            return statuses
        except TimeoutError:
            assert statuses, "neither an answer nor an end"
            return statuses


def bodies_since(engine, before):
    return [r["body"].decode() for r in engine.requests()][before:]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gate, engine, name):
    before = len(engine.requests())
    statuses = exchange(gate, REFUSED[name])
    assert statuses in ([400], [404], [501], [505], [411], [408], []), statuses
    assert bodies_since(engine, before) == []


@pytest.mark.parametrize("name", ONE_READING)
def test_read_in_one_way(gate, engine, name):
    """The engine sees one request, whose body is what the answer is about; and the framing is Waypost's own."""
    before = len(engine.requests())
    statuses = exchange(gate, ONE_READING[name])
    arrived = bodies_since(engine, before)
    assert len(arrived) == statuses.count(200) <= 1, (statuses, arrived)
    for body in arrived:
        assert json.loads(body)["messages"][0]["content"] == "visible"
        headers = {n.lower(): v for n, v in engine.requests(1)[0]["headers"]}
        assert headers["content-length"] == str(len(body))
        assert not {"transfer-encoding", "upgrade", "trailer"} & set(headers)
        assert headers["host"] == f"127.0.0.1:{engine.port}"
        assert "x-sim-fault" not in headers


@pytest.mark.parametrize("name", ["TE.CL", "trailers", "equal lengths"])
def test_what_follows_is_a_request_of_its_own(gate, engine, name):
    """Two requests in a row stay two, with their own bodies, whatever the first one looked like."""
    before = len(engine.requests())
    statuses = exchange(gate, ONE_READING[name] + HIDDEN)
    texts = [json.loads(b)["messages"][0]["content"] for b in bodies_since(engine, before)]
    assert len(texts) == statuses.count(200)
    assert texts in ([], ["visible"], ["visible", "hidden"])


def test_the_upstream_connection_stays_in_step(gate, engine):
    """After all that, each client still gets its own answer on the shared connections."""
    for number in range(1, 30):
        answer = ask(gate.port, chat(tokens=number))
        assert answer.json()["usage"]["completion_tokens"] == number
