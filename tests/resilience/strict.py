"""HTTP/1.1 on a bare socket, strict about how an answer ends and when each piece of it came.

A client library hides what these tests are about: where a body was cut, whether the last chunk came, whether the
connection was closed or reset, and when each piece arrived. Nothing here retries.
"""

import dataclasses
import json
import select
import socket
import time


class Ended(Exception):
    """The server closed the connection in the middle of something."""


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes = b""

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The error in OpenAI's shape; fails when it is not in that shape."""
        assert self.headers.get("content-type") == "application/json", self
        error = self.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}, error
        assert error["message"] and error["type"] and error["code"], error
        return error


class Conn:
    """One connection to 127.0.0.1:port."""

    def __init__(self, port, timeout=10.0):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.buf = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def post(self, body, path="/v1/chat/completions", **headers):
        self.send(post(body, path, **headers))

    def _more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise Ended(self.buf)
        self.buf += data

    def _line(self):
        while b"\r\n" not in self.buf:
            self._more()
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line

    def _take(self, length):
        while len(self.buf) < length:
            self._more()
        data, self.buf = self.buf[:length], self.buf[length:]
        return data

    def head(self):
        """Status and headers; interim answers (100) are passed over."""
        while True:
            version, status, *_ = self._line().split(b" ", 2)
            assert version == b"HTTP/1.1", version
            headers = {}
            while line := self._line():
                name, value = line.split(b":", 1)
                headers[name.decode().lower()] = value.strip().decode()
            if status != b"100":
                return Answer(int(status), headers)

    def pieces(self, head):
        """Each chunk of the body as (time, bytes); raises Ended when the body has no proper end."""
        if head.headers.get("transfer-encoding") == "chunked":
            while size := int(self._line(), 16):
                piece = self._take(size)
                arrived = time.monotonic()
                assert self._take(2) == b"\r\n", "a chunk without its line end"
                yield arrived, piece
            assert self._line() == b"", "trailers after the last chunk"
        else:
            left = int(head.headers.get("content-length", 0))
            if left:
                yield time.monotonic(), self._take(left)

    def answer(self):
        """The whole answer."""
        return self.answer_rest(self.head())

    def answer_rest(self, head):
        """The answer whose head has been read."""
        head.body = b"".join(piece for _, piece in self.pieces(head))
        return head

    def half_close(self):
        """Says that nothing more will be sent; answers can still be read."""
        self.sock.shutdown(socket.SHUT_WR)

    def closed_or_readable(self, seconds):
        """Waits for the server to say something or to close."""
        return bool(self.buf or select.select([self.sock], [], [], seconds)[0])

    def closed_within(self, seconds):
        """True when the server closes the connection within that time without sending anything more."""
        if not select.select([self.sock], [], [], seconds)[0]:
            return False
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            return True
        assert not data, f"unexpected bytes: {data[:200]}"
        return True


def post(body, path="/v1/chat/completions", **headers):
    """The bytes of a POST request; `headers` may replace the usual ones (underscores stand for dashes)."""
    if not isinstance(body, bytes):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields = {"host": "waypost", "content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1"] + [f"{k}: {v}" for k, v in fields.items() if v is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def ask(port, body, path="/v1/chat/completions", timeout=10.0, **headers):
    """One POST on a connection of its own."""
    with Conn(port, timeout) as conn:
        conn.post(body, path, **headers)
        return conn.answer()


def get(port, path, timeout=10.0):
    with Conn(port, timeout) as conn:
        conn.send(f"GET {path} HTTP/1.1\r\nhost: waypost\r\n\r\n")
        return conn.answer()


def chat(model="m", tokens=3, text="hi", **more):
    """A chat request; with `stream=True` a stream of exactly `tokens` pieces."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    return body | {"ignore_eos": True} | more


def events(body):
    """The data of each event of a stream, strictly: whole events of one `data:` line, and nothing else."""
    text = body.decode()
    assert text.endswith("\n\n"), f"the stream ends inside an event: {text[-200:]!r}"
    out = []
    for event in text[:-2].split("\n\n"):
        assert event.startswith("data: ") and "\n" not in event, f"not one data line: {event!r}"
        out.append(event[len("data: "):])
    for data in out[:-1]:
        json.loads(data)
    return out
