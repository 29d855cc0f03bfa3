"""Finds the curl lines in a Markdown file, so that what the docs promise is run."""

import pathlib
import re

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
