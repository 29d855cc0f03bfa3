#!/usr/bin/env bash
# run.sh [OPTION...]  gateway bench: gets the peers, then measures Waypost beside them (six to eight minutes).
# Options go to gateway.py. WAYPOST_BIN names the binary (default target/dist/waypost); P and BENCH_PEERS: see setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
bench/setup.sh
exec python3 bench/gateway.py "$@"
