"""A gateway with an admin door."""

import re

from helpers.configs import three_sims
from helpers.ports import free_ports

ADMIN = r"metrics on http://[^ ]*:(\d+)/metrics"


def with_admin(workshop, sim_url, **more):
    """The gateway, and the address of its admin door."""
    (port,) = free_ports(1)
    config = three_sims(sim_url) | {"admin": {"listen": f"127.0.0.1:{port}"}} | more
    gate = workshop.waypost(config)
    assert re.search(ADMIN, gate.wait_log(ADMIN)[0])[1] == str(port)
    return gate, f"http://127.0.0.1:{port}"
