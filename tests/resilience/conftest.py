"""Fixtures of the resilience tests only."""

import socket

import pytest


class FullBacklog:
    """A listener whose queue is full: it neither accepts nor refuses, as a host behind a dead link would."""

    def __init__(self):
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(0)
        self.port = self.sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.waiting = []
        # A queue of length 0 still takes one or two; the first that does not get through shows that it is full.
        for _ in range(16):
            sock = socket.socket()
            sock.settimeout(0.15)
            self.waiting.append(sock)
            try:
                sock.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return
        pytest.skip("this kernel lets nobody fill a listen queue")

    def stop(self):
        for sock in [*self.waiting, self.sock]:
            sock.close()


@pytest.fixture
def full_backlog(workshop):
    """An address where connecting takes for ever."""
    return workshop.keep(FullBacklog())
