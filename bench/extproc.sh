#!/usr/bin/env bash
# extproc.sh [OPTION...]  bench of the Envoy door: builds, gets Envoy and the peers, then measures a request through Envoy without a
# processor, with the floor, with one in Python, and with Waypost. Options go to extproc.py. About six minutes on two idle cores,
# after the build. Called by `make bench-extproc`.
#
#   WAYPOST_BIN   binary to measure instead of building it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

cache=bench/.cache/extproc
mkdir -p "$cache"

# The processor in Python speaks by stubs made of this repo's own .proto files.
stubs() {
  local out=$cache/stubs protos=crates/extproc/proto
  rm -rf "$out" && mkdir -p "$out"
  # Envoy's only: a tree named `grpc` would stand in the way of the package.
  (cd "$protos" && find envoy -name '*.proto') | xargs "$cache/venv/bin/python" -m grpc_tools.protoc -I "$protos" --python_out "$out" --grpc_python_out "$out"
  # Envoy's wheel has a package of the same name, with an __init__: without one of its own, this tree would be passed over.
  find "$out" -mindepth 1 -type d -exec touch '{}/__init__.py' ';'
}
venv "$cache/venv" bench/extproc-requirements.txt true
stubs
# The tokenizer that Waypost reads, and by which prompts of a given number of tokens are made.
[ -e "$cache/model/tokenizer.json" ] || "$cache/venv/bin/python" scripts/tiny_tokenizer.py "$cache/model"

cargo build --profile dist --locked -p waypost-bench-extproc
if [ -z "${WAYPOST_BIN:-}" ]; then
  cargo build --profile dist --locked -p waypost
fi
exec "$cache/venv/bin/python" bench/extproc.py "$@"
