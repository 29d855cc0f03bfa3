#!/usr/bin/env bash
# Asks a real model server for intents: `transformers serve` with a tiny random Llama, and the real binary.
#
# On demand, because PyTorch takes gigabytes. What it sets up stays in .venv-real. PYTHON_WITH_TORCH names a Python that has
# torch already; then only transformers is installed. Needs .venv-test, which `make test` sets up.
set -euo pipefail
cd "$(dirname "$0")/.."

START_S=180
TRANSFORMERS='transformers[serving]==5.24.*'

fail() { printf 'real-intent-server.sh: %s\n' "$*" >&2; exit 1; }

tests=${TEST_PYTHON:-.venv-test/bin/python}
[ -x "$tests" ] || fail "$tests is missing: run 'make test' first, or set TEST_PYTHON"
tests=$(realpath -s "$tests")
mkdir -p .venv-real

if [ -n "${PYTHON_WITH_TORCH:-}" ]; then
  python=$PYTHON_WITH_TORCH
  "$python" -c 'import torch' || fail "$python has no torch"
  export PYTHONPATH="$PWD/.venv-real/site"
  "$python" -c 'import accelerate, fastapi, transformers, uvicorn' 2>/dev/null || {
    # All but torch, which is there and large.
    "$python" -m pip install --quiet --no-deps --target .venv-real/site accelerate psutil
    "$python" -m pip install --quiet --target .venv-real/site "${TRANSFORMERS/\[serving\]/}" fastapi uvicorn rich openai
  }
else
  python=.venv-real/python/bin/python
  [ -x "$python" ] || python3 -m venv .venv-real/python
  "$python" -m pip install --quiet --disable-pip-version-check torch "$TRANSFORMERS"
fi

cargo build -p waypost --locked
export CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1
model=$PWD/.venv-real/tiny-llama
[ -f "$model/model.safetensors" ] || "$python" scripts/tiny_llama.py "$model"

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=.venv-real/serve.log
"$python" -m transformers.cli.transformers serve "$model" --device cpu --host 127.0.0.1 --port "$port" >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
until curl -sf "http://127.0.0.1:$port/health" >/dev/null; do
  kill -0 "$server" 2>/dev/null || { tail -20 "$log" >&2; fail "the server ended"; }
  [ "$SECONDS" -lt "$START_S" ] || fail "the server is not up after $START_S s; see $log"
  sleep 1
done

REAL_INTENT_URL=http://127.0.0.1:$port REAL_INTENT_MODEL=$model WAYPOST_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/debug/waypost")
export REAL_INTENT_URL REAL_INTENT_MODEL WAYPOST_BIN
cd tests && "$tests" -m pytest -q -rP intent/real "$@"
