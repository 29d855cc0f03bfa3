#!/usr/bin/env bash
# quality.sh [OPTION...]  routing-quality bench: builds, learns outcomes from ../shared/datasets, judges on rows held out.
# Options go to quality.py. CPU only, nothing is fetched; some minutes on two idle cores. Called by `make bench-quality`.
#
#   WAYPOST_BIN   binary to measure instead of building it
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${WAYPOST_BIN:-}" ]; then
  cargo build --release --locked -p waypost
fi
exec python3 bench/quality.py "$@"
