"""A body that comes in pieces, the first of them before Waypost has answered the head: the prompt still chooses."""

import json
import signal
import socket
import time

import pytest


def in_pieces(front, model, prompt):
    """Sends the head and ten bytes while Waypost stands still, and the rest when it goes on; the whole answer."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 4}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.envoy.port), 20) as sock:
        front.waypost.signal(signal.SIGSTOP)
        try:
            sock.sendall(head.encode())
            time.sleep(0.1)
            sock.sendall(body[:10])
            time.sleep(0.1)
        finally:
            front.waypost.signal(signal.SIGCONT)
        time.sleep(0.2)
        sock.sendall(body[10:])
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer.decode()


@pytest.mark.parametrize("mode", ["full-duplex", "buffered", "buffered-partial"])
def test_the_prompt_chooses_the_model(front, mode):
    front = front(mode)
    for prompt, model in (("2+2 is ", "public"), ("Who wrote Faust?", "local")):
        answer = in_pieces(front, "auto", prompt)
        assert answer.startswith("HTTP/1.1 200"), answer
        assert f"x-waypost-model: {model}\r\n" in answer and f'"model":"sim-{model}"' in answer
    assert front.bookings() == 0
