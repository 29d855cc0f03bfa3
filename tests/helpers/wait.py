"""Awaits a condition, so that no test sleeps and hopes."""

import time

POLL_S = 0.01


def until(condition, timeout=5.0, what=""):
    """Returns the first truthy value of `condition()`; fails after `timeout` seconds, saying `what`."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what or condition}; last value {value!r}")
        time.sleep(POLL_S)
