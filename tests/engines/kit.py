"""What the engine tests share: a KV event publisher, and Dynamo's own indexer as a process.

The publisher speaks as vLLM does when its endpoint is a wildcard: it binds, three frames, batches as maps. Needs pyzmq, msgpack.
"""

import http.client
import itertools
import json
import os
import subprocess
import time

import msgpack
import zmq

from helpers.ports import free_ports

# The folder that scripts/test-engines.sh sets up; nothing runs without it.
ENGINES = os.environ.get("WAYPOST_ENGINES")
START_S = 60.0
HOST = "127.0.0.1"


def stored(hashes, tokens, parent=None, block_size=16, **more):
    """A `BlockStored` event; `more` adds keys."""
    event = {"type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens}
    return {**event, "block_size": block_size, "lora_id": None, "medium": "GPU", "lora_name": None, **more}


def removed(hashes, **more):
    """A `BlockRemoved` event."""
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU", **more}


CLEARED = {"type": "AllBlocksCleared"}


class Publisher:
    """A publisher at a port. `seq` is what the next batch will carry."""

    def __init__(self, context, port):
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.SNDHWM, 1_000_000)
        self.address, self.seq = f"tcp://{HOST}:{port}", 0
        self._socket.bind(self.address)

    def wait_subscribers(self, count):
        """Waits until `count` have subscribed: what is sent before is lost to them."""
        for _ in range(count):
            if not self._socket.poll(START_S * 1000):
                raise RuntimeError(f"nobody subscribed to {self.address} within {START_S} s")
            self._socket.recv()

    def send(self, *events, rank=0):
        """One batch."""
        batch = msgpack.packb([time.time(), list(events), rank])
        self._socket.send_multipart([b"", self.seq.to_bytes(8, "big"), batch])
        self.seq += 1

    def close(self):
        self._socket.close(0)


class Indexer:
    """`python -m dynamo.indexer` beside its workers: `{"number" or "number:rank": address}`."""

    def __init__(self, workers, log, block_size=16):
        [self.port] = free_ports(1)
        named = ",".join(f"{number}={address}" for number, address in workers.items())
        command = [f"{ENGINES}/dynamo/bin/python", "-m", "dynamo.indexer", "--block-size", str(block_size), "--threads", "2"]
        command += ["--port", str(self.port), "--model-name", "m"] + (["--workers", named] if named else [])
        self._log = open(log, "wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=_env())
        self._connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        self._wait(log)

    def _wait(self, log):
        for _ in itertools.repeat(None, int(START_S * 10)):
            try:
                return self.call("GET", "/health")
            except OSError:
                self._connection.close()
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"dynamo.indexer did not start: {log}")

    def call(self, method, path, body=None):
        """The answer's text; any status but 2xx raises."""
        self._connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"{path}: {answer.status} {text}")
        return text

    def query(self, tokens, **more):
        """The whole answer of `/query`."""
        return json.loads(self.call("POST", "/query", {"model_name": "m", "token_ids": tokens, **more}))

    def matches(self, tokens, **more):
        """`{(worker, rank): matched tokens}` on the device, without those that match nothing."""
        found = self.query(tokens, **more)["scores"].items()
        return {(int(w), int(r)): t for w, ranks in found for r, t in ranks.items() if t}

    def stop(self):
        self._connection.close()
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


def _env():
    return {**os.environ, "HF_HUB_OFFLINE": "1"}
