#!/usr/bin/env bash
# Fuzzes what comes from outside for less than a minute, coverage-guided, on the stable toolchain.
#
# cargo-fuzz needs nightly for its sanitizers; coverage alone does not: LLVM's own pass is in the stable
# compiler and libFuzzer comes as a crate. FUZZ_SECONDS sets the time per target (default: 15 for view,
# sse and kv_events, 5 for the others). Arguments name the targets. Fails on a crash and on a run without coverage.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(view sse kserve metrics_page kv_events)
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="$PWD/target"

# Only the target's own crates are instrumented: with --target, cargo keeps RUSTFLAGS from build scripts.
flags=(
  --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
)
bins=("${targets[@]/#/--bin=}")
echo "fuzz-smoke: building ${targets[*]} with coverage instrumentation"
RUSTFLAGS="${flags[*]}" cargo build --release --locked --quiet --target "$host" "${bins[@]}"

for target in "${targets[@]}"; do
  seconds=${FUZZ_SECONDS:-15}
  case $target in kserve | metrics_page) seconds=${FUZZ_SECONDS:-5} ;; esac
  log="target/$target.log"
  mkdir -p "corpus/$target" "artifacts/$target"
  code=0
  "target/$host/release/$target" -max_total_time="$seconds" -dict=wire.dict -print_final_stats=1 -timeout=10 \
    -rss_limit_mb=1024 -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target" >"$log" 2>&1 || code=$?
  if [ "$code" -ne 0 ]; then
    grep -vE '^#[0-9]+' "$log" | tail -n 40
    echo "fuzz-smoke: FAILED: $target crashed; the input lies in fuzz/artifacts/$target, the log in fuzz/$log" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  known=$(sed -n 's/.*INITED cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  total=$(sed -n 's/.*(\([0-9]*\) inline 8-bit counters).*/\1/p' "$log")
  reached=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  if [ "${reached:-0}" -lt 50 ]; then
    echo "fuzz-smoke: FAILED: $target saw ${reached:-no} edges, so it was not guided by coverage (fuzz/$log)" >&2
    exit 1
  fi
  echo "fuzz-smoke: $target passed: $runs runs in $seconds s ($rate/s), $reached of $total edges, $known of them from the corpus"
done
