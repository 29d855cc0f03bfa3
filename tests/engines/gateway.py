"""`waypost serve` as a process before the engines, with a plain HTTP client. The binary is `WAYPOST_BIN`, or this checkout's debug build."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_S, STOP_S, TIMEOUT_S, IDLE_S = 20.0, 15.0, 120.0, 5.0
HEADER = "x-waypost-decision-id"


class Gateway:
    """Runs until `stop`; `config` is a mapping, `folder` is where it and the log are written."""

    def __init__(self, config, folder):
        binary = os.environ.get("WAYPOST_BIN") or ROOT / "target/debug/waypost"
        folder = pathlib.Path(folder)
        # JSON is YAML.
        (folder / "waypost.yaml").write_text(json.dumps(config, indent=1))
        self.log = folder / "waypost.log"
        command = [binary, "serve", "--config", folder / "waypost.yaml", "--listen", "127.0.0.1:0"]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self._used = 0.0
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=TIMEOUT_S)

    def _port(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            if greeting := re.search(r"on http://[^ ]*:(\d+)", self.log.read_text()):
                return int(greeting[1])
            time.sleep(0.02)
        self._process.kill()
        raise RuntimeError(f"waypost did not start:\n{self.log.read_text()}")

    def _call(self, method, path, body=None, headers=()):
        if time.monotonic() > self._used + IDLE_S:
            # The gateway may have hung up; the next request connects anew.
            self._connection.close()
        self._connection.request(
            method, path, body and json.dumps(body), {"content-type": "application/json", **dict(headers)}
        )
        answer = self._connection.getresponse()
        text = answer.read()
        self._used = time.monotonic()
        return answer, text

    def preview(self, body):
        """The placement that this request would have, as of now. Nothing is sent or booked."""
        answer, text = self._call("POST", "/v1/decision", body)
        if answer.status != 200:
            raise RuntimeError(f"/v1/decision: {answer.status} {text}")
        return json.loads(text)["placements"][0]

    def matches(self, body):
        """`{endpoint: matched tokens}` for this request, without those that match nothing."""
        candidates = self.preview(body)["choice"]["candidates"]
        return {one["endpoint"]: one["matched_tokens"] for one in candidates if one["matched_tokens"]}

    def states(self, model, key):
        """`{endpoint: its candidate's value of this key}`, None where it has none."""
        candidates = self.preview({"model": model, "prompt": [1]})["choice"]["candidates"]
        return {one["endpoint"]: one.get(key) for one in candidates}

    def send(self, path, body, headers=()):
        """A request through the gateway: the parsed answer and its Decision. A status but 200 raises."""
        answer, text = self._call("POST", path, body, headers)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {text}")
        return json.loads(text), self.decision(answer.headers[HEADER])

    def decision(self, ident):
        """A Decision, as soon as its request has settled."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            answer, text = self._call("GET", f"/v1/decisions/{ident}")
            if answer.status == 200:
                return json.loads(text)
            time.sleep(0.01)
        raise RuntimeError(f"no decision {ident}")

    def stop(self):
        self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
