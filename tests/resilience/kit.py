"""What the resilience tests share: small configurations, requests, and clients that all ask at once."""

import concurrent.futures
import os
import pathlib
import time

from helpers.process import binary
from resilience.strict import Conn, chat, events

MODEL = "m"


def config(*endpoints, **sections):
    """The model `m` behind these engines (or URLs); `timeouts` are the model's, other sections the file's."""
    model = {"name": MODEL, "model": "sim-small", "endpoints": [getattr(e, "url", e) for e in endpoints]}
    if "timeouts" in sections:
        model["timeouts"] = sections.pop("timeouts")
    return {"shutdown": {"grace": "2s"}, "models": [model]} | sections


def policy(*models, **more):
    """A policy `p` whose every prompt goes to the first of the models and falls back to the others."""
    first, *others = models
    return {
        "name": "p",
        "classifier": "task",
        "routes": {"Open QA": first},
        "default": first,
        "fallbacks": others,
    } | more


def at_once(jobs, threads):
    """Runs the jobs on so many threads and returns their results in order; the first exception is raised."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return [done.result() for done in [pool.submit(job) for job in jobs]]


def read_stream(conn, head):
    """Reads a stream to its proper end; returns its events."""
    assert head.status == 200, (head, conn.answer_rest(head))
    return events(b"".join(piece for _, piece in conn.pieces(head)))


def stream(port, timeout=20.0, **how):
    """One streamed chat on a connection of its own; returns its events."""
    with Conn(port, timeout) as conn:
        conn.post(chat(stream=True, **how))
        return read_stream(conn, conn.head())


def median(values):
    return sorted(values)[len(values) // 2]


def rss_mib(process):
    """Resident memory of a process."""
    status = pathlib.Path(f"/proc/{process.proc.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def is_release():
    """A debug build is allowed to be slower."""
    return "release" in os.path.realpath(binary()) or "dist" in os.path.realpath(binary())


class Clock:
    """Seconds since it was made."""

    def __init__(self):
        self.start = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.start
