"""Fixtures of all tests: the real binary, the simulated engine, and mocks that say they are mocks.

Each of `waypost`, `sim`, `recorder`, `kserve` and `dead_port` makes as many as a test asks for and stops
them when the test ends. `shared` has the same as methods, alive for a whole module: starting processes
once keeps the tests fast.
"""

import itertools
import os

import pytest

from helpers.mocks import DeadPort, KServe, Recorder
from helpers.process import Sim, Waypost

# A developer's proxy, keys and tracing are no part of a test.
for _name in list(os.environ):
    if _name.lower().endswith("_proxy") or _name.startswith(("OPENAI_", "LANGSMITH_", "LANGCHAIN_")):
        del os.environ[_name]


class Workshop:
    """Makes things, and stops them in reverse order."""

    def __init__(self, folder):
        self._folder, self._numbers, self._made = folder, itertools.count(), []

    def keep(self, thing):
        """`thing.stop()` is called at the end."""
        self._made.append(thing)
        return thing

    def waypost(self, config, *, env=None, args=()):
        """A gateway with this configuration, YAML text or a mapping."""
        folder = self._folder / f"waypost{next(self._numbers)}"
        folder.mkdir()
        return self.keep(Waypost(config, folder, env, args))

    def sim(self, model="sim-small", **flags):
        """A simulated engine; times are 0 unless given."""
        return self.keep(Sim(model, **flags))

    def recorder(self):
        """A recording upstream (a mock)."""
        return self.keep(Recorder())

    def kserve(self, scores=(1.0,)):
        """A KServe v2 classifier (a mock)."""
        return self.keep(KServe(scores))

    def dead_port(self):
        """A port that refuses connections."""
        return self.keep(DeadPort())

    def close(self):
        """Stops everything."""
        while self._made:
            self._made.pop().stop()


@pytest.fixture
def workshop(tmp_path):
    """Makes things for one test."""
    made = Workshop(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Makes things for a module."""
    made = Workshop(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()


@pytest.fixture
def waypost(workshop):
    """`waypost(config, env=None, args=())` starts a gateway."""
    return workshop.waypost


@pytest.fixture
def sim(workshop):
    """`sim(model="sim-small", **flags)` starts a simulated engine."""
    return workshop.sim


@pytest.fixture
def recorder(workshop):
    """`recorder()` starts a recording upstream."""
    return workshop.recorder


@pytest.fixture
def kserve(workshop):
    """`kserve(scores)` starts a KServe v2 classifier."""
    return workshop.kserve


@pytest.fixture
def dead_port(workshop):
    """`dead_port()` reserves a port that refuses connections."""
    return workshop.dead_port
