#!/usr/bin/env bash
# Sets up and passes every test: cargo's, loom's, half a minute of fuzzing, and the real binary with real clients.
#
# Needs Rust, Python 3.11 or newer, Node 20 or newer and curl. What it sets up stays in .venv-test and
# tests/node/node_modules, and is made again only when its list of versions changes. Arguments go to pytest;
# with any, only pytest runs: `scripts/test.sh clients -k streaming`. Fails on the first part that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'test.sh: %s\n' "$*" >&2; exit 1; }

for tool in cargo python3 node npm curl; do
  command -v "$tool" >/dev/null || fail "'$tool' is missing"
done
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "Node 20 or newer is needed"

check_python() {
  .venv-test/bin/pip check --quiet --disable-pip-version-check >/dev/null || fail "tests/requirements.txt is not complete"
}

set_up_node() {
  cmp -s tests/node/node_modules/made tests/node/package-lock.json && return
  step "Node packages into tests/node/node_modules"
  (cd tests/node && npm ci --no-fund --no-audit --loglevel=error)
  cp tests/node/package-lock.json tests/node/node_modules/made
}

venv .venv-test tests/requirements.txt check_python
set_up_node

if [ $# -eq 0 ]; then
  step "cargo test"
  cargo test --workspace --locked
fi

if [ $# -eq 0 ]; then
  # Every order in which readers and a writer of the prefix index, and picks, moves and ends of bookings, can meet, within loom's bounds. Built apart: it swaps the atomics.
  step "loom"
  RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p waypost-picker --release --lib --locked loom
fi

step "building waypost"
cargo build -p waypost --locked

if [ $# -eq 0 ] && [ -x scripts/fuzz-smoke.sh ]; then
  step "fuzz smoke"
  scripts/fuzz-smoke.sh
fi

step "the real binary with real clients"
WAYPOST_BIN=$(realpath "${WAYPOST_BIN:-${CARGO_TARGET_DIR:-target}/debug/waypost}")
export WAYPOST_BIN
[ $# -gt 0 ] || set -- -q
(cd tests && ../.venv-test/bin/python -m pytest "$@")

step "all tests passed"
