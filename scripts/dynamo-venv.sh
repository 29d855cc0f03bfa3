#!/usr/bin/env bash
# Makes DIR a virtual environment with Dynamo 1.6.1, the wheels its makers publish: the oracle of tests/engines.
#
# 700 MB. Made again only when the list of versions changes. No GPU, no etcd, no NATS.
set -euo pipefail
dir=$(realpath -m "${1:?usage: dynamo-venv.sh DIR}")
cd "$(dirname "$0")/.."
. scripts/venv.sh

venv "$dir" tests/engines/dynamo-requirements.txt "$dir/bin/python" -c 'import dynamo._core, tokenizers'
