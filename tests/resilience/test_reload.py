"""Hot reload: swapped whole, refused whole, and nobody who is being served notices."""

import os
import pathlib
import signal
import threading
import time

import pytest
import yaml

from helpers.process import Process, Waypost
from helpers.wait import until
from resilience.kit import Clock, config, read_stream
from resilience.strict import Conn, ask, chat, get

RELOADS = "waypost_config_reloads_total"
APPLIED_S = 3.0
BROKEN = [
    "models:\n  - name: m\n    endpont: http://127.0.0.1:1\n",
    "models: [",
    "",
    "\x00\x01",
    "models:\n  - name: m\n    endpoint: not a url\n",
    "models:\n  - {name: m, endpoint: 'http://127.0.0.1:1'}\npolicies:\n  - {name: p, routes: {a: nobody}}\n",
]


def names(gate):
    return {entry["id"] for entry in get(gate.port, "/v1/models").json()["data"]}


def named(engine, name):
    return config(engine) | {"models": [{"name": name, "model": "sim-small", "endpoint": engine.url}]}


def reloads(gate, result):
    return gate.metrics().value(RELOADS, result=result)


def until_named(gate, name):
    until(lambda: name in names(gate), APPLIED_S, f"the model {name}\n{gate.log()}")


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim()


def test_a_file_written_in_place(waypost, engine):
    gate = waypost(named(engine, "one"))
    gate.config_path.write_text(yaml.safe_dump(named(engine, "two")))
    until_named(gate, "two")
    assert "one" not in names(gate)
    assert ask(gate.port, chat(model="two")).status == 200
    assert ask(gate.port, chat(model="one")).status == 404
    assert reloads(gate, "applied") == 1


@pytest.mark.parametrize("turn", range(3))
def test_a_change_while_it_starts_is_not_lost(workshop, engine, tmp_path, turn):
    """The file has been read, the address is printed, and only then the watching begins: a gap to fall into."""
    path, new = tmp_path / "waypost.yaml", tmp_path / "new"
    path.write_text(yaml.safe_dump(named(engine, "one")))
    new.write_text(yaml.safe_dump(named(engine, "two")))
    gate = workshop.keep(Process(["serve", "--config", str(path), "--listen", "127.0.0.1:0"]))
    new.replace(path)
    until_named(gate, "two")


def test_a_file_written_in_two_steps(waypost, engine):
    """Half a file may be seen and refused; the whole one must follow."""
    gate = waypost(named(engine, "one"))
    text = yaml.safe_dump(named(engine, "two"))
    with gate.config_path.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        time.sleep(0.3)
        file.write(text[len(text) // 2 :])
    until_named(gate, "two")


def test_a_file_renamed_over_the_old_one(waypost, engine):
    gate = waypost(named(engine, "one"))
    for name in ("two", "three"):
        gate.write_config(named(engine, name))
        until_named(gate, name)


def test_a_file_removed_and_put_back(waypost, engine):
    gate = waypost(named(engine, "one"))
    gate.config_path.unlink()
    gate.wait_log("refused")
    assert ask(gate.port, chat(model="one")).status == 200
    gate.write_config(named(engine, "two"))
    until_named(gate, "two")


@pytest.fixture
def mounted(workshop, tmp_path):
    """A gateway whose configuration is mounted as Kubernetes mounts a ConfigMap, and a function that changes it."""
    volume = tmp_path / "volume"
    volume.mkdir()
    version = 0

    def change(text):
        nonlocal version
        version += 1
        folder = volume / f"..2026_{version}"
        folder.mkdir()
        (folder / "waypost.yaml").write_text(text)
        link = volume / "..data_tmp"
        link.symlink_to(folder.name)
        os.replace(link, volume / "..data")

    class Mounted(Waypost):
        def write_config(self, config):
            change(yaml.safe_dump(config))
            (volume / "waypost.yaml").symlink_to(pathlib.Path("..data") / "waypost.yaml")

    return lambda config: (workshop.keep(Mounted(config, volume)), change)


def test_a_config_map(mounted, engine):
    gate, change = mounted(named(engine, "one"))
    for name in ("two", "three"):
        change(yaml.safe_dump(named(engine, name)))
        until_named(gate, name)
    assert ask(gate.port, chat(model="three")).status == 200
    change(BROKEN[0])
    gate.wait_log("refused")
    assert "three" in names(gate)


def test_a_hangup_reads_again_even_what_has_not_changed(waypost, engine):
    gate = waypost(named(engine, "one"))
    gate.signal(signal.SIGHUP)
    until(lambda: reloads(gate, "applied") == 1, APPLIED_S, "the reload")
    gate.signal(signal.SIGHUP)
    until(lambda: reloads(gate, "applied") == 2, APPLIED_S, "the second")


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_refused_and_the_old_one_stays(waypost, engine, text):
    gate = waypost(named(engine, "one"))
    gate.write_config(text)
    until(lambda: reloads(gate, "refused") == 1, APPLIED_S, "the refusal")
    assert reloads(gate, "applied") == 0
    assert names(gate) == {"one"}
    assert ask(gate.port, chat(model="one")).status == 200
    assert "waypost.yaml" in gate.wait_log(r".*refused.*")[0]
    gate.write_config(named(engine, "two"))
    until_named(gate, "two")


def test_the_log_says_where_and_what_was_meant(waypost, engine):
    gate = waypost(named(engine, "one"))
    gate.write_config(BROKEN[0])
    line = gate.wait_log(r".*refused.*")[0]
    assert "waypost.yaml:3:5" in line
    assert "endpont" in line and "endpoint" in line


def test_an_idle_process_does_not_read_the_file_over_and_over(waypost, engine):
    """Reading a file is an event in its directory, too; it must not lead to the next reading."""
    gate = waypost(named(engine, "one"))

    def read_calls():
        text = pathlib.Path(f"/proc/{gate.proc.pid}/io").read_text()
        return int(text.split("syscr: ")[1].split()[0])

    time.sleep(0.5)
    before = read_calls()
    time.sleep(2)
    assert read_calls() - before < 8
    gate.write_config(named(engine, "two"))
    until_named(gate, "two")
    time.sleep(0.5)
    before = read_calls()
    time.sleep(2)
    assert read_calls() - before < 8


def test_another_file_beside_it_changes_nothing(waypost, engine):
    gate = waypost(named(engine, "one"))
    for number in range(20):
        (gate.config_path.parent / f"other{number}.yaml").write_text(BROKEN[0])
    time.sleep(0.5)
    assert reloads(gate, "applied") == reloads(gate, "refused") == 0


def test_streams_under_way_keep_their_model(waypost, sim):
    """The model a stream comes from is gone from the new configuration; the stream goes on."""
    engine, other = sim(decode_ms=20), sim()
    gate = waypost(named(engine, "one"))
    conns = [Conn(gate.port, timeout=20) for _ in range(10)]
    for conn in conns:
        conn.post(chat(model="one", tokens=80, stream=True))
    heads = [conn.head() for conn in conns]
    gate.write_config(named(other, "two"))
    until_named(gate, "two")
    for conn, head in zip(conns, heads, strict=True):
        data = read_stream(conn, head)
        assert len(data) >= 80 and not any("error" in d for d in data)


def test_what_is_known_about_an_endpoint_survives(waypost, sim, dead_port):
    """An endpoint that was put aside is not tried again because a price has changed."""
    dead, good = dead_port(), sim()
    gate = waypost(config(dead, good))
    until(lambda: ask(gate.port, chat()) and aside(gate, dead), 5, "it is put aside")
    failed = attempts(gate, dead)
    changed = config(dead, good)
    changed["models"][0]["price"] = {"input": 1, "output": 2}
    clock = Clock()
    gate.write_config(changed)
    until(lambda: reloads(gate, "applied") == 1, APPLIED_S, "the reload")
    for _ in range(20):
        assert ask(gate.port, chat()).status == 200
    assert aside(gate, dead) == 1
    # A probe may have come in the meantime, at the earliest after 0.8 s.
    assert attempts(gate, dead) <= failed + (1 if clock() > 0.6 else 0)


def aside(gate, endpoint):
    return gate.metrics().value("waypost_endpoint_aside", endpoint=endpoint.url)


def attempts(gate, endpoint):
    return gate.metrics().value("waypost_upstream_attempts_total", endpoint=endpoint.url)


def test_limits_are_those_of_the_new_file(waypost, engine):
    gate = waypost(config(engine))
    assert ask(gate.port, chat(text="x" * 5000)).status == 200
    gate.write_config(config(engine, limits={"body": "1KiB"}))
    until(lambda: ask(gate.port, chat(text="x" * 5000)).status == 413, APPLIED_S, "the new limit")


def test_two_hundred_reloads_under_load(waypost, engine):
    """One in ten is invalid. No request fails, and every valid one of the last is applied."""
    gate = waypost(named(engine, "m"))
    stop, failures, count = threading.Event(), [], [0] * 6

    def client(number):
        while not stop.is_set():
            answer = ask(gate.port, chat(stream=number % 2 == 0))
            count[number] += 1
            if answer.status != 200 or b'"error"' in answer.body:
                failures.append(answer)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(len(count))]
    [thread.start() for thread in clients]
    for number in range(200):
        settings = named(engine, "m") | {"limits": {"decisions_kept": 1000 + number}}
        gate.write_config(BROKEN[number % 5] if number % 10 == 0 else settings)
        if number % 2:
            gate.signal(signal.SIGHUP)
        time.sleep(0.02)
    both = [*named(engine, "last")["models"], *named(engine, "m")["models"]]
    gate.write_config(named(engine, "last") | {"models": both})
    until_named(gate, "last")
    stop.set()
    [thread.join() for thread in clients]
    assert not failures, f"{len(failures)} of {sum(count)}: {failures[0]}"
    assert sum(count) > 100
    assert reloads(gate, "applied") >= 10
    assert reloads(gate, "refused") >= 1


def test_each_change_is_applied_or_refused_soon(waypost, engine):
    """One by one: every valid file is applied, every invalid one refused."""
    gate = waypost(named(engine, "m"))
    times = []
    for number in range(12):
        valid = number % 4 != 3
        clock, result = Clock(), "applied" if valid else "refused"
        before = reloads(gate, result)
        gate.write_config(named(engine, f"m{number}") if valid else BROKEN[number % len(BROKEN)])
        until(lambda: reloads(gate, result) == before + 1, APPLIED_S, result)  # noqa: B023
        times.append(clock())
        if valid:
            assert names(gate) == {f"m{number}"}
    assert sorted(times)[len(times) // 2] < 0.6, times
