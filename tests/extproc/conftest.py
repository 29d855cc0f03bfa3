"""Waypost behind a real Envoy: the files of deploy/envoy, with other ports."""

import re

import pytest

from helpers.envoy import FOLDER, Envoy
from helpers.ports import free_ports


class Door:
    """A Waypost with its Envoy door open, two engines for `local` and one for `public`."""

    def __init__(self, workshop, extra="", edit=lambda text: text, **engine):
        self.local = [workshop.sim("sim-local", **engine), workshop.sim("sim-local", **engine)]
        self.public = workshop.sim("sim-public", **engine)
        door, health = free_ports(2)
        self.door, self.health = door, health
        self.ports = here = {9002: door, 9003: health, 8084: 0, 9100: self.local[0].port, 9101: self.local[1].port, 9102: self.public.port}
        with open(f"{FOLDER}/waypost.yaml", encoding="utf-8") as file:
            text = re.sub(r"(127\.0\.0\.1|localhost):(\d+)", lambda f: f"{f[1]}:{here.get(int(f[2]), f[2])}", file.read())
        self.waypost = workshop.waypost(edit(text) + extra)

    def bookings(self):
        """Requests that are booked on endpoints, all together."""
        return self.waypost.metrics().value("waypost_endpoint_requests")

    def left_over(self):
        """What has not been given back, by name."""
        metrics = self.waypost.metrics()
        names = ["waypost_endpoint_requests", "waypost_requests_in_flight"]
        names += ["waypost_ext_proc_streams_open", "waypost_ext_proc_held_bytes"]
        return {name: metrics.value(name) for name in names if metrics.value(name) != 0}


class Front(Door):
    """An Envoy in one mode before it, and on the way to Waypost what `between(port)` makes."""

    def __init__(self, workshop, folder, mode, change=lambda text: text, between=None, edit=lambda text: text, **door):
        if mode == "buffered-partial":
            # Its file says why.
            named, edit = edit, lambda text: named(text.replace("http://localhost:", "http://127.0.0.1:"))
        super().__init__(workshop, edit=edit, **door)
        ports = self.ports
        if between:
            self.between = workshop.keep(between(ports[9002]))
            ports = {**ports, 9002: self.between.port}
        self.envoy = workshop.keep(Envoy(mode, folder, ports, change))
        self.url = self.envoy.url


@pytest.fixture(scope="module")
def front(shared, tmp_path_factory):
    """`front(mode)` starts one; the same mode twice gives the same one."""
    made = {}

    def start(mode, **more):
        if more or mode not in made:
            made[mode] = Front(shared, str(tmp_path_factory.mktemp(mode)), mode, **more)
        return made[mode]

    return start
