"""Ports for whoever cannot be given port 0."""

import contextlib
import random
import socket


def free_ports(count):
    """Ports in a row on which nobody listens now, below those that the kernel gives away."""
    while True:
        first = random.randrange(20_000, 32_000 - count)
        ports = list(range(first, first + count))
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in ports:
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports
