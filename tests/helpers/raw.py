"""A raw HTTP/1.1 client: the bytes a test writes are the bytes on the wire."""

import http.client
import json
import socket


class Answer:
    """A response: `status`, `headers` as a list of pairs, `body` as bytes."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name, default=None):
        """The first value of a header."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), default)

    def json(self):
        """The body as JSON."""
        return json.loads(self.body)


def connect(port, timeout=10.0):
    """A connection to a port of this machine."""
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock, method="POST"):
    """Reads one response; raises when the connection ends before one is there."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return Answer(response.status, response.getheaders(), response.read())


def send(port, data, timeout=10.0, half_close=False, method="POST"):
    """Writes `data` on a connection of its own and reads one response."""
    with connect(port, timeout) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        return read_answer(sock, method)


def request(path, body=b"", headers=(), method="POST", host="localhost"):
    """The bytes of a request: exactly these headers, after Host, and Content-Length unless chunked."""
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if "transfer-encoding" not in names and "content-length" not in names:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def chunked(body, sizes):
    """`body` in the chunked coding, cut into pieces of the given sizes, in turn."""
    out, at, turn = [], 0, 0
    while at < len(body):
        piece = body[at : at + sizes[turn % len(sizes)]]
        out.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        at, turn = at + len(piece), turn + 1
    return b"".join(out) + b"0\r\n\r\n"
