#!/usr/bin/env bash
# picker.sh [OPTION...]  endpoint-picker bench: builds, then measures the index, tokenising, the strategies on traces, herds and scraping.
# Options go to picker.py. Some minutes on two idle cores. Dynamo's own index is measured beside it where its wheels are there or
# can be fetched (700 MB). Called by `make bench-picker`.
#
#   WAYPOST_DYNAMO_VENV   folder made by scripts/dynamo-venv.sh; default bench/.cache/dynamo
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --profile dist --locked -p waypost-bench-picker
options=()
if [ -e crates/feeds/examples/scrape_bench.rs ]; then
  cargo build --profile dist --locked -p waypost-feeds --example scrape_bench
  options+=(--scrape target/dist/examples/scrape_bench)
fi
dynamo=${WAYPOST_DYNAMO_VENV:-bench/.cache/dynamo}
if [ -x "$dynamo/bin/python" ] || ./scripts/dynamo-venv.sh "$dynamo"; then
  options+=(--dynamo "$dynamo")
else
  echo "picker.sh: no Dynamo in $dynamo and PyPI does not give it: its index is not measured" >&2
fi
exec python3 bench/picker.py "${options[@]}" "$@"
