"""Writes crates/classify/tests/encoder_golden.jsonl anew: the encoder's outputs in float by PyTorch, for the int8 one to match.

The texts are those of the file. `embedding` is the published model's, scaled to length 1; `prompt` is the mean of the fine-tuned
last layer. Usage: golden.py START.safetensors TOKENIZER.json TUNED.safetensors FILE
"""

import json
import sys

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from finetune import Model, tokens


def pooled(model, ids):
    """The mean of the last layer over the tokens of one text."""
    state = model.norm(model.words[ids] + model.places[: len(ids)])[None]
    mask = torch.ones(1, 1, 1, len(ids), dtype=torch.bool)
    for layer in model.layers:
        state = layer(state, mask)
    return state[0].mean(0)


@torch.no_grad()
def main(start, tokenizer, tuned, path):
    tokenizer = Tokenizer.from_file(tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    published = load_file(start)
    sentence, prompt = (Model(weights, 0, 0.0).eval() for weights in (published, published | load_file(tuned)))
    out = []
    for line in open(path):
        text = json.loads(line)["text"]
        ids = torch.tensor(tokens(tokenizer.encode(text, add_special_tokens=False).ids))
        embedding = torch.nn.functional.normalize(pooled(sentence, ids), dim=0)
        round_all = lambda values: [round(float(v), 4) for v in values]
        out.append({"text": text, "tokens": len(ids), "embedding": round_all(embedding), "prompt": round_all(pooled(prompt, ids))})
    with open(path, "w") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in out)


if __name__ == "__main__":
    main(*sys.argv[1:])
