"""A gateway that must hold nothing when its test is over."""

import pytest

from placing.kit import idle


@pytest.fixture
def gateway(waypost):
    """`gateway(config)` starts one; after the test nothing may be booked on any endpoint, and nobody wait."""
    made = []

    def start(config, **more):
        made.append(waypost(config, **more))
        return made[-1]

    yield start
    for gate in made:
        if gate.proc.poll() is None:
            idle(gate)
