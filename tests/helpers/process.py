"""The real binary as a process: `waypost serve` and `waypost sim` on ports of their own.

The ports are chosen by the kernel and read from the greeting, so that nothing collides. The processes
see none of the developer's environment but PATH and HOME: no key found there may change a test.
"""

import base64
import os
import pathlib
import re
import signal
import subprocess
import threading

import httpx
import yaml

from helpers.prometheus import Metrics
from helpers.wait import until
from helpers.web import web

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_S = 20.0
STOP_S = 15.0


def binary():
    """The waypost under test: `WAYPOST_BIN`, or the debug build of this checkout."""
    path = pathlib.Path(os.environ.get("WAYPOST_BIN") or ROOT / "target/debug/waypost")
    if not path.exists():
        raise RuntimeError(f"{path} does not exist: run `cargo build -p waypost` or set WAYPOST_BIN")
    return str(path)


def clean_env(env=None):
    """The environment of a process under test."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **(env or {})}


def run(*args, env=None, stdin=None, timeout=30):
    """Runs a waypost command to its end."""
    return subprocess.run(
        [binary(), *args], env=clean_env(env), input=stdin, text=True, capture_output=True, timeout=timeout
    )


class Process:
    """A running waypost; what it prints on both channels is collected."""

    def __init__(self, args, env=None):
        self.args = args
        self.proc = subprocess.Popen(
            [binary(), *args],
            env=clean_env(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._lines = []
        self._readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (self.proc.stdout, self.proc.stderr)
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.port = int(self.wait_log(r"on http://[^ ]*:(\d+)", START_S)[1])
        except AssertionError:
            self.proc.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def _read(self, pipe):
        for line in pipe:
            self._lines.append(line.decode("utf-8", "replace"))

    def log(self):
        """Everything printed so far, standard output and error together."""
        return "".join(self._lines)

    def wait_log(self, pattern, timeout=5.0):
        """Waits until a line matches; returns the match."""

        def look():
            found = re.search(pattern, self.log(), re.M)
            if not found and self.proc.poll() is not None and not any(r.is_alive() for r in self._readers):
                raise AssertionError(f"waypost ended with {self.proc.returncode}:\n{self.log()}")
            return found

        return until(look, timeout, f"{pattern!r} in the log of {self.args}:\n{self.log()}")

    def signal(self, number):
        """Sends a signal."""
        self.proc.send_signal(number)

    def stop(self, timeout=STOP_S):
        """Ends the process with SIGTERM (SIGKILL when that takes too long); returns its exit code."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(timeout)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self.proc.stdout, self.proc.stderr):
            pipe.close()
        return self.proc.returncode


class Router(Process):
    """A waypost that routes: it has metrics, and keeps a Decision of each request."""

    def metrics(self):
        """The metrics as of now."""
        return Metrics(web.get(f"{self.url}/metrics", timeout=10).text)

    def decision(self, response, timeout=5.0):
        """The Decision of a response, as soon as the request has settled."""
        ident = response if isinstance(response, str) else response.headers["x-waypost-decision-id"]

        def get():
            answer = web.get(f"{self.url}/v1/decisions/{ident}", timeout=10)
            return answer.json() if answer.status_code == 200 else None

        return until(get, timeout, f"decision {ident}")


class Waypost(Router):
    """`waypost serve` with a configuration file of its own."""

    def __init__(self, config, folder, env=None, args=()):
        self.config_path = folder / "waypost.yaml"
        self.write_config(config)
        listen = [] if "--listen" in args else ["--listen", "127.0.0.1:0"]
        super().__init__(["serve", "--config", str(self.config_path), *listen, *args], env)
        until(lambda: self._healthy(), START_S, "/health")

    def _healthy(self):
        try:
            return web.get(f"{self.url}/health", timeout=5).status_code in (200, 503)
        except httpx.TransportError:
            return False

    def write_config(self, config):
        """Replaces the configuration file; a mapping is written as YAML, text as it is."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        new = self.config_path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config_path)

    def chat(self, body, headers=None, timeout=30, path="/v1/chat/completions"):
        """Posts a request. A mapping goes out as JSON, bytes as they are."""
        headers = {"content-type": "application/json", **(headers or {})}
        content = {"content": body} if isinstance(body, (bytes, str)) else {"json": body}
        return web.post(f"{self.url}{path}", headers=headers, timeout=timeout, **content)


class Sim(Process):
    """`waypost sim`, a simulated engine. Flags are the command's, with underscores: `decode_ms=5`."""

    def __init__(self, model="sim-small", env=None, **flags):
        args = ["sim"]
        for name in [model] if isinstance(model, str) else model:
            args += ["--model", name]
        flags = {"listen": "127.0.0.1:0", "decode_ms": 0, "prefill_ms": 0, **flags}
        for name, value in flags.items():
            option = "--" + name.replace("_", "-")
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if one is True:
                    args.append(option)
                elif one is not False and one is not None:
                    args += [option, str(one)]
        super().__init__(args, env)

    def _control(self, method, path, **kw):
        answer = web.request(method, f"{self.url}/sim/{path}", timeout=10, **kw)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stats(self):
        """Counts of what came in and how it ended."""
        return self._control("GET", "stats")

    def fault(self, spec):
        """Puts a fault (or a list of them) in force: a mapping or the short text form."""
        return self._control("POST", "faults", json=spec)

    def clear_faults(self):
        """No more faults."""
        return self._control("DELETE", "faults")

    def requests(self, last=512):
        """The latest requests, oldest first, with `body` as bytes; needs `record=True`."""
        found = self._control("GET", f"requests?last={last}")
        for one in found:
            one["body"] = base64.b64decode(one["body_base64"])
        return found
