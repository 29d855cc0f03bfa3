"""Clients that leave at any moment: while they wait, while the prompt is read, while the answer is written."""

import random
import socket

from placing.kit import LONG, chat, idle, split
from resilience.kit import at_once
from resilience.strict import Conn, Ended


def leaves(gate, seed):
    """One request whose client goes away after a while, or not at all; its status, if it came so far."""
    chance = random.Random(seed)
    text = f"{seed} {LONG}" if chance.random() < 0.7 else "hi"
    with Conn(gate.port, 20) as conn:
        conn.post(chat(text, 10, stream=chance.random() < 0.7), x_waypost_priority=str(chance.randrange(3)))
        patience = chance.choice([0.001, 0.01, 0.05, 0.1, 0.2, 20])
        conn.sock.settimeout(patience)
        try:
            return conn.answer().status
        except (TimeoutError, socket.timeout, Ended):
            return None


def test_nothing_stays_booked(gateway, sim):
    readers = [sim(role="prefill", prefill_ms=0.02) for _ in range(2)]
    writers = [sim(role="decode", decode_ms=3) for _ in range(2)]
    made = split(readers, writers)
    made["models"][0]["pick"] |= {"busy": {"requests": 4}, "queue": {"requests": 64, "deadline": "10s"}}
    gate = gateway(made)
    found = at_once([lambda seed=seed: leaves(gate, seed) for seed in range(300)], 30)
    idle(gate)
    assert set(found) <= {None, 200} and 30 < found.count(200) < 290, [found.count(x) for x in (None, 200, 429)]
    assert gate.chat(chat(LONG)).status_code == 200
    assert gate.metrics().value("waypost_bookings_expired_total") == 0
