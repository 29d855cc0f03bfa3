#!/usr/bin/env bash
# Makes DIR a virtual environment with Dynamo 1.6.1, the wheels its makers publish: the oracle of tests/engines.
#
# 700 MB. Made again only when the list of versions changes. No GPU, no etcd, no NATS.
set -euo pipefail
dir=$(realpath -m "${1:?usage: dynamo-venv.sh DIR}")
cd "$(dirname "$0")/.."
versions=tests/engines/dynamo-requirements.txt

cmp -s "$dir/made" "$versions" && exit 0
rm -rf "$dir"
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r "$versions"
"$dir/bin/python" -c 'import dynamo._core, tokenizers'
cp "$versions" "$dir/made"
