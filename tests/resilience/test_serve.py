"""`waypost serve`: with a file under both names of the option, and with nothing but what the machine offers."""

import socket

import pytest

from helpers.ports import free_ports
from helpers.process import Process, run
from helpers.wait import until
from resilience.kit import config
from resilience.strict import ask, chat, get


@pytest.fixture
def serve(workshop):
    """`serve(*args, env=None)` starts `waypost serve` without a configuration file."""

    def start(*args, env=None):
        gate = workshop.keep(Process(["serve", *args], env))
        until(lambda: get(gate.port, "/health").status == 200, 5, "/health")
        return gate

    return start


def test_all_names_of_the_option_and_the_variable(serve, sim, tmp_path):
    engine = sim()
    path = tmp_path / "waypost.yaml"
    path.write_text(f"listen: 127.0.0.1:0\nmodels:\n  - {{name: m, model: sim-small, endpoint: '{engine.url}'}}\n")
    for args in (["--config", path], ["--config-path", path], ["-c", path], [f"--config={path}"]):
        gate = serve(*map(str, args))
        assert ask(gate.port, chat()).status == 200
        assert gate.stop() == 0
    assert ask(serve(env={"WAYPOST_CONFIG": str(path)}).port, chat()).status == 200


def test_listen_goes_before_the_file(waypost, sim):
    [port] = free_ports(1)
    gate = waypost(config(sim()) | {"listen": "127.0.0.1:1"}, args=("--listen", f"127.0.0.1:{port}"))
    assert gate.port == port
    assert ask(port, chat()).status == 200


def free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def need(*ports):
    """These ports are fixed by what Waypost looks for; somebody else's engine there would change the answer."""
    taken = [port for port in ports if not free(port)]
    if taken:
        pytest.skip(f"ports in use on this machine: {taken}")


def test_with_nothing_found_it_simulates_and_says_so(serve):
    need(8000, 30000, 11434, 8080)
    gate = serve("--listen", "127.0.0.1:0")
    text = gate.log()
    assert "SIMULATED" in text and "curl" in text
    models = {entry["id"] for entry in get(gate.port, "/v1/models").json()["data"]}
    assert {"sim-small", "sim-large", "sim-creative", "task_router", "complexity_router", "auto"} <= models
    answer = ask(gate.port, chat(model="auto", text="Write a python function"))
    assert answer.status == 200
    assert answer.headers["x-sim"] == "1"
    assert answer.headers["x-waypost-model"].startswith("sim-")
    assert answer.json()["choices"][0]["message"]["content"].startswith("[simulated]")
    nim = {"policy": "task_router", "routing_strategy": "triton", "model": ""}
    answer = ask(gate.port, chat(model="") | {"nim-llm-router": nim})
    assert answer.status == 200 and answer.headers["x-chosen-classifier"]


def test_an_engine_on_the_usual_port_is_found(serve, sim):
    need(8000, 30000, 11434, 8080)
    engine = sim("sim-found", listen="127.0.0.1:8000")
    gate = serve("--listen", "127.0.0.1:0")
    assert "8000" in gate.log() and "sim-found" in gate.log()
    assert "SIMULATED" not in gate.log()
    answer = ask(gate.port, chat(model="auto"))
    assert (answer.status, answer.headers["x-waypost-model"]) == (200, "sim-found")
    assert engine.stats()["requests"] == 1


def test_a_port_that_answers_something_else_is_no_engine(serve, workshop):
    """A web server on 8000 is not a model."""
    need(8000, 30000, 11434, 8080)
    import http.server
    import threading

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        gate = serve("--listen", "127.0.0.1:0")
        assert "SIMULATED" in gate.log()
    finally:
        server.shutdown()
        server.server_close()


def test_a_key_of_the_environment_is_never_printed(serve):
    """The provider cannot be reached from here; the key must not be in what is said about that."""
    need(8000, 30000, 11434, 8080)
    gate = serve("--listen", "127.0.0.1:0", env={"OPENAI_API_KEY": "sk-do-not-show"})
    assert "OPENAI_API_KEY" in gate.log()
    assert "sk-do-not-show" not in gate.log() + get(gate.port, "/config").body.decode()


def test_print_config_prints_one_that_loads(tmp_path):
    done = run("serve", "--print-config", "--listen", "127.0.0.1:0")
    assert done.returncode == 0
    path = tmp_path / "found.yaml"
    path.write_text(done.stdout)
    assert run("check", str(path)).returncode == 0
