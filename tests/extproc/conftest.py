"""Waypost behind a real Envoy: the files of deploy/envoy, with other ports."""

import re

import pytest

from helpers.envoy import FOLDER, Envoy
from helpers.ports import free_ports


class Front:
    """An Envoy in one mode, a Waypost behind it, two engines for `local` and one for `public`."""

    def __init__(self, workshop, folder, mode, extra="", change=lambda text: text, edit=lambda text: text, **engine):
        self.local = [workshop.sim("sim-local", **engine), workshop.sim("sim-local", **engine)]
        self.public = workshop.sim("sim-public", **engine)
        door, health = free_ports(2)
        self.door, self.health = door, health
        here = {9002: door, 9003: health, 8084: 0, 9100: self.local[0].port, 9101: self.local[1].port, 9102: self.public.port}
        with open(f"{FOLDER}/waypost.yaml", encoding="utf-8") as file:
            text = re.sub(r"(127\.0\.0\.1|localhost):(\d+)", lambda f: f"{f[1]}:{here.get(int(f[2]), f[2])}", file.read())
        self.waypost = workshop.waypost(edit(text) + extra)
        self.envoy = workshop.keep(Envoy(mode, folder, here, change))
        self.url = self.envoy.url

    def bookings(self):
        """Requests that are booked on endpoints, all together."""
        return self.waypost.metrics().value("waypost_endpoint_requests")


@pytest.fixture(scope="module")
def front(shared, tmp_path_factory):
    """`front(mode)` starts one; the same mode twice gives the same one."""
    made = {}

    def start(mode, **more):
        if more or mode not in made:
            made[mode] = Front(shared, str(tmp_path_factory.mktemp(mode)), mode, **more)
        return made[mode]

    return start
