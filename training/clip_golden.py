"""Writes crates/vision/tests/clip_golden.json and network_golden.json anew: what PyTorch makes of tiny models with made-up weights.

The Rust tests build the same models and must give the same numbers. No weight is stored: each follows from its tensor's name.
A generator starts at the name's FNV-1a hash and steps as x = 6364136223846793005 x + 1442695040888963407 modulo 2^64; its upper
24 bits over 2^23, less 1, are u in -1..1. Norm weights are 1 + 0.2 u, variances 1 + 0.5 u, biases 0.1 u, v2's other weights u, all else 0.35 u.

Needs torch, transformers (5.24 made the present files), pillow, numpy: `python training/clip_golden.py crates/vision/tests`.
With `--folder DIR` it also leaves a CLIP of ViT-B/32's size with random weights there (with `--vocab FILE`, open_clip's
bpe_simple_vocab_16e6.txt.gz, under its real vocabulary), and what transformers makes of some texts as DIR/expected.json,
for `cargo run --release -p waypost-vision --example embed -- DIR`.
"""

import argparse
import gzip
import json
import pathlib

import numpy
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

MASK = (1 << 64) - 1
SIDE = 32
MERGES = ["t h", "th e</w>", "c a", "ca t</w>", "a n", "an d</w>", "o n", "i n", "in g</w>", "r e", "p h", "ph o", "pho t", "phot o</w>",
          "o f</w>", "l o", "lo n", "lon g</w>", "' s</w>", "! !</w>", "1 2", "Ã ©", "Ã ©</w>", "e x", "ex a", "a a", "aa aa"]
TEXTS = ["", "a photo of a cat", "The CAT's long   photo,\n\tand THE cat!!", "don't they're 1234 12", "naïve café E\u0301te\u0301 déjà", "日本語 🎉 text",
         "İstanbul ΣΑΣ ﬁne", "a" * 300, "the cat and the photo of the long cat " * 20, "''s !'re x'S _under_score_ #1$%", "[USER]: exam\u00a0ing\u2003on"]


def values(name, count):
    """The made-up numbers of a tensor."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    base, scale = 0.0, 0.35
    if "running_var" in name:
        base, scale = 1.0, 0.5
    elif name.endswith("bias"):
        scale = 0.1
    elif "norm" in name or name in ("network.1.weight", "network.5.weight"):
        base, scale = 1.0, 0.2
    elif name.startswith("network"):
        scale = 1.0
    out = numpy.empty(count, dtype=numpy.float64)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out[i] = base + scale * ((state >> 40) / (1 << 23) - 1.0)
    return out.astype(numpy.float32)


def fill(module):
    """Gives every float tensor of a module its made-up numbers; returns their shapes."""
    shapes = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(values(name, tensor.numel())).reshape(tensor.shape))
            shapes[name] = list(tensor.shape)
    return shapes


def byte_names():
    """The characters that stand for bytes in byte-level vocabularies."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def vocabulary(merges):
    """Bytes in order, the same at word ends, merges, start and end."""
    names = byte_names()
    tokens = names + [name + "</w>" for name in names] + [merge.replace(" ", "") for merge in merges]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def picture(width, height):
    """A made-up picture: slopes with a hard pattern on them."""
    at = numpy.arange(width * height * 3, dtype=numpy.int64)
    x, y, colour = at // 3 % width, at // 3 // width, at % 3
    value = (x * 5 + y * (3 + colour) + (x * y + 17 * colour) % 61 * ((x // 4 + y // 4) % 2)) % 256
    return Image.fromarray(value.astype(numpy.uint8).reshape(height, width, 3))


def features(output):
    """transformers 5 wraps the vector, 4 does not."""
    return getattr(output, "pooler_output", output)[0].tolist()


def rounded(vector):
    return [float(f"{v:.7g}") for v in vector]


def clip(out):
    merges = MERGES
    vocab = vocabulary(merges)
    config = {
        "model_type": "clip",
        "projection_dim": 16,
        "text_config": {"vocab_size": len(vocab), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                        "max_position_embeddings": 77, "bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1, "hidden_act": "quick_gelu"},
        "vision_config": {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": SIDE,
                          "patch_size": 8, "hidden_act": "gelu"},
    }
    model = CLIPModel(CLIPConfig(**config)).eval()
    shapes = fill(model)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges])
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    texts = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
        vector = features(model.get_text_features(**ids))
        texts.append({"text": text, "vector": rounded(vector)})
    images = []
    for width, height in [(SIDE, SIDE), (100, 60), (45, 80), (20, 23)]:
        pixels = processor(picture(width, height), return_tensors="pt")["pixel_values"]
        vector = features(model.get_image_features(pixel_values=pixels))
        shortest = min(width, height)
        small = picture(width, height).resize((SIDE * width // shortest, SIDE * height // shortest), Image.BICUBIC)
        left, top = (small.width - SIDE) // 2, (small.height - SIDE) // 2
        square = small.crop((left, top, left + SIDE, top + SIDE))
        images.append({"width": width, "height": height, "square": square.tobytes().hex(), "vector": rounded(vector)})
    golden = {"config": config, "merges": merges, "tensors": shapes, "texts": texts, "images": images}
    (out / "clip_golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=None) + "\n")


class RouterNetwork(torch.nn.Module):
    """v2's architecture, by its description."""

    def __init__(self, sizes):
        super().__init__()
        parts = []
        for before, after in zip(sizes[:-2], sizes[1:-1]):
            parts += [torch.nn.Linear(before, after), torch.nn.BatchNorm1d(after), torch.nn.ReLU(), torch.nn.Dropout(0.4)]
        self.network = torch.nn.Sequential(*parts, torch.nn.Linear(sizes[-2], sizes[-1]))

    def forward(self, x):
        return torch.sigmoid(self.network(x))


def network(out):
    model = RouterNetwork([24, 16, 8, 3]).eval()
    shapes = fill(model)
    inputs = [values(f"input{i}", 24) for i in range(3)]
    outputs = [rounded(model(torch.from_numpy(x)[None])[0].tolist()) for x in inputs]
    (out / "network_golden.json").write_text(json.dumps({"tensors": shapes, "outputs": outputs}) + "\n")


def folder(path, vocab_file):
    """A model of ViT-B/32's size, its weights random, and what transformers makes of some texts and pictures."""
    merges = MERGES
    if vocab_file:
        lines = gzip.open(vocab_file, "rt", encoding="utf-8").read().split("\n")
        merges = lines[1 : 49152 - 256 - 2 + 1]
    vocab = vocabulary(merges)
    torch.manual_seed(1)
    model = CLIPModel(CLIPConfig()).eval()
    model.save_pretrained(path)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges])
    tokenizer.save_pretrained(path)
    processor = CLIPImageProcessorPil()
    processor.save_pretrained(path)
    expected = {"texts": [], "images": []}
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
        expected["texts"].append({"text": text, "vector": features(model.get_text_features(**ids))})
    for width, height in [(224, 224), (1024, 768)]:
        pixels = processor(picture(width, height), return_tensors="pt")["pixel_values"]
        expected["images"].append({"width": width, "height": height, "vector": features(model.get_image_features(pixel_values=pixels))})
    (path / "expected.json").write_text(json.dumps(expected))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="folder for the two JSON files")
    parser.add_argument("--folder", type=pathlib.Path, help="also leave a model of ViT-B/32's size here")
    parser.add_argument("--vocab", type=pathlib.Path, help="merges for it, as open_clip keeps them")
    args = parser.parse_args()
    clip(args.out)
    network(args.out)
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
        folder(args.folder, args.vocab)


main()
