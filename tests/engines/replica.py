"""A vLLM replica on the CPU, as a process that can be killed and started again, and what its own counters say."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request

from engines.kit import ENGINES, HOST
from helpers.ports import free_ports

START_S = 300.0
BLOCK = 32
# Few, so that they are evicted.
BLOCKS = 160
COUNTERS = ["prefix_cache_queries_total", "prefix_cache_hits_total"]
ENV = {
    "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
}  # fmt: skip
FLAGS = [
    "--served-model-name", "tiny", "--host", HOST, "--dtype", "float32", "--enforce-eager", "--block-size", str(BLOCK),
    "--num-gpu-blocks-override", str(BLOCKS), "--max-model-len", "4096", "--max-num-seqs", "16", "--enable-prefix-caching",
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    "--enable-lora", "--max-lora-rank", "8", "--lora-modules",
]  # fmt: skip


class Replica:
    """vLLM publishes where it `binds`, with replay; else it connects to a port on which its reader listens."""

    def __init__(self, folder, binds):
        self.binds, self._log = binds, open(folder / f"vllm-{'binds' if binds else 'connects'}.log", "wb")
        self._port, self._events, self._replay = free_ports(3)
        self.url = f"http://{HOST}:{self._port}"
        self.start()

    def start(self):
        """Starts the process; `wait` until it is up."""
        events = {"enable_kv_cache_events": True, "publisher": "zmq"}
        events["endpoint"] = f"tcp://{'*' if self.binds else HOST}:{self._events}"
        if self.binds:
            events["replay_endpoint"] = f"tcp://*:{self._replay}"
        command = [f"{ENGINES}/vllm/bin/vllm", "serve", f"{ENGINES}/model", *FLAGS, f"ad={ENGINES}/model/adapter"]
        command += ["--port", str(self._port), "--kv-events-config", json.dumps(events)]
        # A session of its own: its engine is another process, which must not outlive it.
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, env={**os.environ, **ENV}, start_new_session=True
        )

    def wait(self):
        """Until its `/health` answers."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                return urllib.request.urlopen(self.url + "/health", timeout=5).close()
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"vLLM is not up: {self._log.name}")

    def endpoint(self):
        """Its entry in a pool's `endpoints`."""
        if not self.binds:
            return {"url": self.url, "kv_events": f"tcp://*:{self._events}"}
        return {"url": self.url, "kv_events": f"tcp://{HOST}:{self._events}", "kv_replay": f"tcp://{HOST}:{self._replay}"}

    def counters(self):
        """Tokens looked up in its prefix cache, tokens found there."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as answer:
            page = answer.read().decode()
        return [sum(float(v) for v in re.findall(rf"^vllm:{name}{{.*}} (\S+)$", page, re.M)) for name in COUNTERS]

    def kill(self):
        """Ends it at once, with all it has started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
