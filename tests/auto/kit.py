"""What the tests of auto policies share: made-up outcomes, v2's network as a file, and embeddings servers (mocks)."""

import base64
import json
import math
import random
import struct
import zlib

from helpers.mocks import Mock, Reply
from helpers.process import ROOT, run

PRICES = {"small": {"input": 0.1, "output": 0.4}, "large": {"input": 2, "output": 8}}
MATHS = "What is the derivative of {a} x^{b} plus {b} x, and where is it zero?"
SMALLTALK = "Hello there, I am {n} and I had a lovely day number {a} at the beach, how was yours?"
NAMES = ["Ana", "Bo", "Chi", "Dev", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jun"]
EASY = SMALLTALK.format(n="Kim", a=3)
HARD = MATHS.format(a=5, b=4)


def outcomes():
    """Rows for `waypost train --outcomes`: the small model fails at calculus, the large one never."""
    for i in range(120):
        maths = i % 2 == 0
        text = (MATHS if maths else SMALLTALK).format(a=i + 2, b=i % 7 + 2, n=NAMES[i % 10])
        for model in ("small", "large"):
            right = 1 if model == "large" or not maths else 0
            yield {"prompt": text, "model": model, "correct": right, "completion_tokens": 200 if maths else 40}


def train(folder):
    """A folder of learned outcomes."""
    data = folder / "outcomes.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in outcomes()))
    prices = [part for name, p in PRICES.items() for part in ("--price", f"{name}={p['input']}/{p['output']}")]
    done = run("train", "--outcomes", str(data), "--out", str(folder / "learned"), *prices, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "learned"


def safetensors(path, tensors, metadata):
    """Writes float32 tensors, name to (shape, numbers)."""
    header, body = {"__metadata__": metadata}, b""
    for name, (shape, numbers) in tensors.items():
        data = struct.pack(f"<{len(numbers)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return path


def network(path, names, weights, bias=None):
    """v2's network without a hidden layer: sigmoid(weights · [text, image] + bias)."""
    inputs = len(weights[0])
    flat = [number for row in weights for number in row]
    tensors = {"network.0.weight": ([len(names), inputs], flat), "network.0.bias": ([len(names)], bias or [0.0] * len(names))}
    return safetensors(path, tensors, {"model_names": json.dumps(names)})


def png(width=2, height=2):
    """A grey image as a data URL."""
    rows = b"".join(b"\0" + b"\x80" * (3 * width) for _ in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    image += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(image).decode()


def with_image(text, url):
    """A user turn with an image."""
    return [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]}]


class Embeddings(Mock):
    """An embeddings server with two numbers a vector: a text about the sea or not, an image or not. No model runs."""

    kind = "embeddings"

    def __init__(self, jina=False):
        self.jina = jina
        super().__init__()

    def vector(self, item):
        if item.startswith("data:"):
            return [1.0, 1.0]
        return [1.0, 0.0] if "sea" in item else [0.0, 1.0]

    def answer(self, request):
        body = request.json()
        if self.jina:
            items = [row.get("text") or row["uri"] for row in body["data"]]
            return Reply(body={"data": [{"embedding": self.vector(item)} for item in items]})
        rows = [{"index": i, "embedding": self.vector(item)} for i, item in enumerate(body["input"])]
        return Reply(body={"object": "list", "data": rows[::-1], "model": body["model"]})


def clip(folder):
    """A tiny CLIP with random weights, in Hugging Face's form; the shapes are those of the crate's own test."""
    golden = json.loads((ROOT / "crates/vision/tests/clip_golden.json").read_text())
    folder.mkdir()
    chance = random.Random(7)
    tensors = {
        name: (shape, [chance.gauss(0, 0.4) for _ in range(math.prod(shape))]) for name, shape in golden["tensors"].items()
    }
    safetensors(folder / "model.safetensors", tensors, {})
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (chr(0x100 + i) for i in range(256))
    tokens = [chr(byte) if byte in printable else next(others) for byte in range(256)]
    tokens += [token + "</w>" for token in tokens] + [merge.replace(" ", "") for merge in golden["merges"]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(dict.fromkeys(tokens))}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(golden["merges"]) + "\n")
    size = golden["config"]["vision_config"]["image_size"]
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}, "resample": 3})
    )
    return golden["config"]["projection_dim"]
