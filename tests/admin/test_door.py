"""The admin door: the same pages as the HTTP door's, caps of its own, and the last to close."""

import signal
import socket
import threading

import pytest
import yaml

from admin.kit import with_admin
from helpers.configs import three_sims, user
from helpers.ports import free_ports
from helpers.process import Process, run
from helpers.prometheus import Metrics
from helpers.wait import until
from helpers.web import web

CONNECTIONS = 256


@pytest.fixture(scope="module")
def doors(shared):
    return with_admin(shared, shared.sim().url)


def test_the_pages_are_those_of_the_http_door(doors):
    gate, admin = doors
    answer = gate.chat({"model": "auto", "messages": user("What is 2+2?")})
    ident = answer.headers["x-waypost-decision-id"]
    gate.decision(ident)
    paths = ["/health", "/health/live", "/health/ready", "/readyz", "/livez", "/config", "/v1/models"]
    for path in [*paths, "/v1/models/auto", "/v1/models/x%2Fy", f"/v1/decisions/{ident}", "/v1/decisions/x", "/other"]:
        here, there = web.get(admin + path), web.get(gate.url + path)
        assert (here.status_code, here.content) == (there.status_code, there.content), path
        assert here.headers["content-type"] == there.headers["content-type"], path
    metrics = web.get(f"{admin}/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4"
    assert Metrics(metrics.text).value("waypost_requests_total") == gate.metrics().value("waypost_requests_total") > 0


def test_requests_to_models_are_not_its_business(doors):
    _, admin = doors
    assert web.post(f"{admin}/v1/chat/completions", json={"model": "auto", "messages": user("hi")}).status_code == 404


def test_what_is_no_http_ends_its_connection_only(doors):
    _, admin = doors
    port = int(admin.rsplit(":", 1)[1])
    for junk in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as conn:
            conn.sendall(junk)
            conn.shutdown(socket.SHUT_WR)
            answer = conn.recv(1000)
            assert not answer or answer.startswith(b"HTTP/1.1 4"), junk[:20]
    assert web.get(f"{admin}/health/live").status_code == 200


def test_connections_are_capped_and_the_other_door_is_not_touched(workshop):
    gate, admin = with_admin(workshop, "http://127.0.0.1:1")
    port = int(admin.rsplit(":", 1)[1])
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(CONNECTIONS)]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as more:
        assert more.recv(1) == b""
    assert gate.metrics().value("waypost_refused_total", reason="admin_connections") == 1
    for conn in held:
        conn.close()
    until(lambda: gate.metrics() and web.get(f"{admin}/health").status_code == 200, 5, "room again")


def test_it_is_the_last_to_close(workshop):
    gate, admin = with_admin(
        workshop, workshop.sim(decode_ms=20).url, shutdown={"delay": "300ms", "grace": "20s"}
    )
    body = {"model": "sim-small", "messages": user("hi"), "max_tokens": 100}
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(gate.chat(body)))
    waiting.start()
    until(lambda: gate.metrics().value("waypost_requests_in_flight") == 1, 5, "the request to be under way")
    gate.signal(signal.SIGTERM)
    until(lambda: web.get(f"{admin}/health").status_code == 503, 1, "readiness to be false at once")
    until(lambda: gate.chat(body | {"max_tokens": 1}).status_code == 503, 5, "the HTTP door to be closing")
    assert web.get(f"{admin}/metrics").status_code == 200, "while the last request is under way"
    waiting.join()
    assert answers[0].status_code == 200 and gate.proc.wait(5) == 0


def write(folder, **more):
    file = folder / "waypost.yaml"
    file.write_text(yaml.safe_dump(three_sims("http://127.0.0.1:1") | more))
    return str(file)


def test_without_any_door_nothing_starts(tmp_path):
    for command in ("check", "serve"):
        flag = ["--config"] if command == "serve" else []
        done = run(command, *flag, write(tmp_path, listen="off", admin={}))
        assert done.returncode != 0 and "no door is left open" in done.stderr
    done = run("check", write(tmp_path, listen="of"))
    assert "is not an IP address with a port, such as `0.0.0.0:8084`, or `off`" in done.stderr


def test_envoy_alone(workshop, tmp_path):
    door, health, metrics = free_ports(3)
    ext_proc = {"listen": f"127.0.0.1:{door}", "health_listen": f"127.0.0.1:{health}"}
    file = write(tmp_path, listen="off", ext_proc=ext_proc, admin={"listen": f"127.0.0.1:{metrics}"})
    process = workshop.keep(Process(["serve", "--config", file]))
    assert process.port == metrics and "Try it" not in process.log()
    assert "waypost_ext_proc_streams_total 0" in web.get(f"{process.url}/metrics").text
    assert process.stop() == 0


def test_a_new_address_takes_a_restart(workshop):
    gate, admin = with_admin(workshop, "http://127.0.0.1:1")
    gate.write_config(three_sims("http://127.0.0.1:1") | {"admin": {"listen": "127.0.0.1:1"}})
    gate.wait_log("a change of admin takes a restart")
    assert web.get(f"{admin}/health").status_code == 200
