"""Active checks of health: so many failures put an endpoint aside, one success brings it back, and half a pool serves on."""

import pytest

from helpers.wait import until
from picking.kit import Engine, at, complete, config, of, tokens

SICK = {"status": 503, "path": "/health"}


def aside(gate, *engines):
    """How many are put aside."""
    metrics = gate.metrics()
    return sum(of(metrics, "waypost_endpoint_aside", engine) for engine in engines)


def checks(gate, engine, result):
    return of(gate.metrics(), "waypost_health_checks_total", engine, result=result)


@pytest.mark.parametrize("sick", [SICK, {"slow_headers": 2000, "path": "/health"}, {"drop": True, "path": "/health"}],
                         ids=["503", "slow", "drops"])  # fmt: skip
def test_an_endpoint_that_is_not_well_is_put_aside_and_comes_back(workshop, sick):
    engines = [workshop.keep(Engine(kv=False)) for _ in range(3)]
    ill, health = engines[0], {"interval": "50ms", "timeout": "100ms", "failures": 3}
    gate = workshop.waypost(config(engines, strategy="round-robin", health=health))
    until(lambda: all(checks(gate, engine, "ok") >= 2 for engine in engines), what="checks")
    assert aside(gate, *engines) == 0
    ill.fault(sick)
    until(lambda: aside(gate, ill) == 1, what="aside")
    assert checks(gate, ill, "failed") >= 3
    for _ in range(12):
        assert at(gate, complete(gate, tokens(20))) not in ill.url
    ill.clear_faults()
    until(lambda: aside(gate, ill) == 0, what="back")
    until(lambda: at(gate, complete(gate, tokens(20))) in ill.url, what="its turn")


def test_fewer_failures_than_are_asked_for_change_nothing(workshop):
    engines = [workshop.keep(Engine(kv=False)) for _ in range(2)]
    gate = workshop.waypost(config(engines, health={"interval": "50ms", "failures": 5}))
    engines[0].fault({**SICK, "n": 4})
    until(lambda: checks(gate, engines[0], "failed") == 4 and checks(gate, engines[0], "ok") >= 1, what="well again")
    assert "is put aside" not in gate.log()


def test_half_of_a_pool_stays_in_rotation(workshop):
    engines = [workshop.keep(Engine(kv=False)) for _ in range(4)]
    gate = workshop.waypost(config(engines, strategy="round-robin", health={"interval": "50ms", "failures": 2}))
    for engine in engines[:3]:
        engine.fault(SICK)
    until(lambda: gate.metrics().value("waypost_kept_in_rotation_total") >= 2, what="failures that put nobody aside")
    assert aside(gate, *engines) == 2
    where = {at(gate, complete(gate, tokens(20))) for _ in range(12)}
    assert len(where) >= 2
    for engine in engines:
        engine.clear_faults()
    until(lambda: aside(gate, *engines) == 0, what="all back")
    assert len({at(gate, complete(gate, tokens(20))) for _ in range(8)}) == 4


def test_an_engine_that_is_gone_is_put_aside_and_comes_back_by_a_check(workshop):
    engines = [workshop.keep(Engine(kv=False)) for _ in range(3)]
    gate = workshop.waypost(config(engines, strategy="round-robin", health={"interval": "50ms", "failures": 1}))
    engines[0].kill()
    for _ in range(12):
        complete(gate, tokens(20))
    until(lambda: aside(gate, engines[0]) == 1, what="aside")
    engines[0] = workshop.keep(engines[0].again())
    until(lambda: aside(gate, engines[0]) == 0, what="back")
    until(lambda: at(gate, complete(gate, tokens(20))) in engines[0].url, what="its turn")
