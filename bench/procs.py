"""Starts, finds and stops the processes of a bench run: mock, peers and Waypost, all on loopback.

It never measures load and never ends a process it did not start. Pids go to $P/run/NAME.pid, where the
shared bench.py looks for them. Called by gateway.py.
"""

import http.client
import os
import signal
import socket
import subprocess
import time

READY_S = 60.0
STOP_S = 15.0
POLL_S = 0.001


def port_is_taken(port):
    """True when something already listens there: it would be measured instead of what is started here."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def status(port, method, path, body=None):
    """HTTP status of one request on a new connection, or None when there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_ready(name, probe):
    """Calls `probe` until it returns 200; an error names what did not come up."""
    end = time.monotonic() + READY_S
    while probe() != 200:
        if time.monotonic() > end:
            raise RuntimeError(f"{name} gave no 200 within {READY_S:.0f} s")
        time.sleep(0.05)


class Waypost:
    """The gateway under test."""

    def __init__(self, binary, config, port, scratch):
        self.command = [binary, "serve", "--config", config]
        self.port = port
        self.scratch = scratch
        self.process = None

    def start(self):
        """Returns milliseconds from exec to the first 200 of /health."""
        if port_is_taken(self.port):
            raise RuntimeError(f"port {self.port} is taken")
        with open(f"{self.scratch}/run/waypost.log", "wb") as log:
            begin = time.perf_counter()
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while status(self.port, "GET", "/health") != 200:
            if self.process.poll() is not None or time.perf_counter() - begin > READY_S:
                self.stop()
                raise RuntimeError(f"waypost did not start: see {self.scratch}/run/waypost.log")
            time.sleep(POLL_S)
        return (time.perf_counter() - begin) * 1e3

    def book(self, *names):
        """Makes the process known to bench.py under these names."""
        for name in names:
            with open(f"{self.scratch}/run/{name}.pid", "w") as file:
                file.write(str(self.process.pid))

    def stop(self, force=False):
        """Ends it; `force` skips the drain, for the cold starts."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGKILL if force else signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Peers:
    """Mock and peers, through the shared start.sh and stop.sh."""

    def __init__(self, scratch, ports):
        self.scripts = f"{scratch}/scripts"
        self.environment = dict(os.environ, P=scratch)
        self.ports = ports

    def start(self, body):
        for name, port in self.ports.items():
            if port_is_taken(port):
                raise RuntimeError(f"port {port}, for {name}, is taken")
        subprocess.run([f"{self.scripts}/start.sh", *self.ports], env=self.environment, check=True)
        for name, port in self.ports.items():
            wait_ready(name, lambda port=port: status(port, "POST", "/v1/chat/completions", body))

    def stop(self):
        """Ends what start.sh started, and waits until the ports are free for the next run."""
        subprocess.run([f"{self.scripts}/stop.sh", *self.ports], env=self.environment, check=True)
        end = time.monotonic() + STOP_S
        while any(map(port_is_taken, self.ports.values())) and time.monotonic() < end:
            time.sleep(0.05)
