"""What the tests of decide, replay, report, import and collect share."""

import json
import pathlib

import yaml

from helpers.process import run


def lines(objects):
    """JSON Lines of objects; a string stands for itself."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in objects)


def read(path):
    """The rows of a file of JSON Lines."""
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def written(path, config):
    """A configuration as a file."""
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def replay(log, config, *options, status=0):
    """`waypost replay --json`: the object, and what was said on the side."""
    done = run("replay", str(log), "--config", str(config), "--json", *options, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def report(log, *options):
    """`waypost report --json`."""
    done = run("report", str(log), "--json", *options, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def failed(*args, **how):
    """A command that must fail with status 1 and say why as its last word: what it says."""
    done = run(*args, timeout=60, **how)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "panicked" not in done.stderr and "error: " in done.stderr, done.stderr
    return done.stderr.split("error: ", 1)[1]
