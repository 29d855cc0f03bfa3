"""Time to the first body byte of a streamed answer, one kept-alive connection per gateway.

With client quick-ack off the kernel may hold back the ACK for 40 ms; a gateway that leaves Nagle's algorithm
on then stalls for just that long between its headers and the first event. Python's own cost, some ten
microseconds, is the same for every gateway. It never starts or stops anything. Called by gateway.py.
"""

import socket
import time

# What lies between a delayed ACK (40 ms) and anything else on loopback; a busy scheduler rarely reaches it.
STALL_MS = 30.0
# Requests sent before timing starts: a fresh connection is in the kernel's quick-ack mode by itself.
WARM_UP = 20
TIMEOUT_S = 10.0
READ_BYTES = 64 * 1024


class Client:
    """One connection that sends the same request again and again."""

    def __init__(self, port, body, quickack):
        self.quickack = quickack
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\nAuthorization: Bearer sk-mock\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def receive(self):
        # The option is not sticky: the kernel goes back to its own judgement, so it is set before every read.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, self.quickack)
        piece = self.sock.recv(READ_BYTES)
        if not piece:
            raise ConnectionError("closed before the end of the stream")
        return piece

    def once(self):
        """Sends one request, reads its answer to the end, returns milliseconds to the first body byte."""
        start = time.perf_counter_ns()
        self.sock.sendall(self.request)
        data = b""
        while (head := data.find(b"\r\n\r\n")) < 0 or len(data) == head + 4:
            data += self.receive()
        first = time.perf_counter_ns()
        if not data.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(data[:80].decode("latin-1"))
        # Every gateway here passes the chunked body of a stream on as chunked.
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += self.receive()
        return (first - start) / 1e6

    def close(self):
        self.sock.close()


def measure(ports, body, requests):
    """{name: port} -> {(name, quickack): [ms, ...]}; the gateways and both modes take turns request by request."""
    clients = {}
    try:
        for name, port in ports.items():
            for quickack in (1, 0):
                clients[name, quickack] = Client(port, body, quickack)
        times = {key: [] for key in clients}
        for turn in range(WARM_UP + requests):
            for key, client in clients.items():
                ms = client.once()
                if turn >= WARM_UP:
                    times[key].append(ms)
        return times
    finally:
        for client in clients.values():
            client.close()


def stalled_share(times):
    """Share of requests, 0 to 1, that took as long as a delayed ACK."""
    return sum(ms >= STALL_MS for ms in times) / len(times)
