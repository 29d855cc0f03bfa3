"""One call of gRPC's health service over cleartext HTTP/2, without a gRPC library."""

import socket

import h2.config
import h2.connection
import h2.events

UNKNOWN, SERVING, NOT_SERVING = range(3)


def health(port, service="", timeout=5.0):
    """The status that `grpc.health.v1.Health/Check` answers; raises OSError when nobody listens."""
    name = service.encode()
    message = (b"\x0a" + bytes([len(name)]) + name) if name else b""
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", "health"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ]  # fmt: skip
    call = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        call.initiate_connection()
        call.send_headers(1, headers)
        call.send_data(1, len(message).to_bytes(5, "big") + message, end_stream=True)
        sock.sendall(call.data_to_send())
        body = b""
        while data := sock.recv(1 << 16):
            for event in call.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                if isinstance(event, h2.events.StreamEnded):
                    # Five bytes of frame, then field 1 as a number; a 0 is not written.
                    return body[6] if len(body) > 6 else body[:5] and UNKNOWN
            sock.sendall(call.data_to_send())
    raise ConnectionResetError("the call ended without an answer")
