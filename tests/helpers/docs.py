"""Finds the commands in a Markdown file and runs them, so that what the docs promise is seen."""

import os
import pathlib
import re
import subprocess

from helpers.process import ROOT, binary, clean_env

_FENCE = re.compile(r"^```(?:bash|sh|shell|console)\s*$(.*?)^```\s*$", re.M | re.S)
_ADDRESS = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1|0\.0\.0\.0):8084")


def curl_lines(path):
    """Complete curl commands for port 8084 in the fenced shell blocks of a file; none when there is no file.

    A command with `…` in it is a picture of a command, not one to run.
    """
    path = pathlib.Path(path)
    text = path.read_text() if path.exists() else ""
    found = []
    for block in _FENCE.findall(text):
        lines = iter(block.splitlines())
        for line in lines:
            line = re.sub(r"^\$ ", "", line.strip())
            if not line.startswith("curl "):
                continue
            while line.endswith("\\") or line.count("'") % 2:
                line += "\n" + next(lines)
            if _ADDRESS.search(line) and "…" not in line:
                found.append(line)
    return found


def aimed_at(command, url):
    """The command with its 8084 address exchanged, failing on a status from 400; `jq` is not needed."""
    command = _ADDRESS.sub(url, command)
    command = re.sub(r"\|\s*jq\b[^|]*$", "| python3 -m json.tool", command.strip())
    return 'set -euo pipefail; curl() { command curl -sS --fail-with-body --max-time 20 "$@"; }\n' + command


def blocks(text):
    """The `sh` blocks of a text, as one script."""
    return "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S))


def section(page, heading):
    """The `sh` blocks under a heading of a page of docs, as one script."""
    text = (ROOT / "docs" / page).read_text()
    return blocks(re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)[1])


def run_script(folder, script):
    """Runs a script in a folder, with the waypost under test as `waypost`, until something fails; returns what it printed.

    What it left running is stopped.
    """
    programs = folder / "bin"
    programs.mkdir()
    (programs / "waypost").symlink_to(os.path.abspath(binary()))
    env = clean_env()
    env["PATH"] = f"{programs}:{env['PATH']}"
    whole = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    done = subprocess.run(["bash", "-c", whole], cwd=folder, env=env, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout
